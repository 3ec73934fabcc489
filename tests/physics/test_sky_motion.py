"""Compton-Getting: four-vectors, mpmath and averages over the year by explicit rotations."""

import astropy.units as u
import numpy as np
import pytest
from mpmath import legendre, mp, mpf, quad
from numpy.polynomial.legendre import leggauss
from scipy.spatial.transform import Rotation

from obsfit.errors import ConfigurationError
from obsfit.sky.motion import (
    compton_getting,
    compton_getting_exact,
    compton_getting_multipoles,
    motion_beta,
    motion_velocity,
    solar_dipole_sidereal,
    solar_dipole_solar_frame,
    solar_dipole_yearly_mean,
    sun_right_ascension,
)

GAMMA = 2.7
SPEED_OF_LIGHT_KM_S = 299792.458


def sphere_quadrature(n_theta=40, n_phi=80):
    """Directions and weights (sum 1) that integrate polynomials of degree 79 exactly."""
    mu, weight = leggauss(n_theta)
    phi = 2 * np.pi * np.arange(n_phi) / n_phi
    sine = np.sqrt(1 - mu**2)[:, None]
    n = np.stack([sine * np.cos(phi), sine * np.sin(phi), np.broadcast_to(mu[:, None], (n_theta, n_phi))], axis=-1)
    return n.reshape(-1, 3), np.repeat(weight / 2 / n_phi, n_phi)


@pytest.mark.parametrize("speed", [1e-4, 1e-2, 0.7])
def test_unit_mean_and_an_excess_ahead(speed):
    beta = speed * np.array([2.0, -1.0, 2.0]) / 3.0
    directions, weights = sphere_quadrature(200, 400)
    anisotropy = compton_getting_exact(beta, GAMMA, directions)
    dipole = 3 * np.sum((weights * anisotropy)[:, None] * directions, axis=0)
    assert dipole @ beta > 0
    assert abs(np.sum(weights * anisotropy)) < 1e-13, "unit mean over the sphere"
    if speed <= 1e-2:
        # c_1 = k beta (1 + (k + 1)(k + 2) beta^2 / 10 - (k + 1) k beta^2 / 6 + ...) with k = 4.7: below 1 beta^2.
        np.testing.assert_allclose(dipole, compton_getting(beta, GAMMA), rtol=2 * speed**2 + 1e-11)


def test_exact_form_against_boosted_four_momenta():
    """f is invariant: the intensity at fixed energy is proportional to (E*/E)^-(2 + Gamma), E* by a 4x4 boost."""
    beta = np.array([0.1, -0.35, 0.2])
    gamma = 1 / np.sqrt(1 - beta @ beta)
    boost = np.eye(4)
    boost[0, 0] = gamma
    # The observer moves with +beta: boosting by -beta leads from the observer to the frame of the cosmic rays.
    boost[0, 1:] = boost[1:, 0] = gamma * beta
    boost[1:, 1:] += (gamma - 1) * np.outer(beta, beta) / (beta @ beta)
    directions, weights = sphere_quadrature(120, 120)
    momenta = np.concatenate([np.ones((len(directions), 1)), -directions], axis=1)  # a particle flies along -n
    intensity = (momenta @ boost.T)[:, 0] ** -(2 + GAMMA)
    expected = intensity / np.sum(weights * intensity) - 1
    np.testing.assert_allclose(compton_getting_exact(beta, GAMMA, directions), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("speed", ["1e-4", "0.05", "0.5", "0.9"])
@pytest.mark.parametrize("index", ["2.7", "0", "-1"])
def test_multipoles_against_mpmath(speed, index):
    """Also the multipoles far below the rounding error of the map keep their relative accuracy."""
    mp.dps = 40
    b, k = mpf(speed), 2 + mpf(index)
    mean = quad(lambda x: (1 - b * x) ** -k / 2, [-1, 0, 1])
    ours = compton_getting_multipoles(float(speed), float(index), 6)
    for ell in range(1, 7):
        exact = (
            (2 * ell + 1) / mpf(2) * quad(lambda x, n=ell: legendre(n, x) * (1 - b * x) ** -k, [-1, 0, 1]) / mean
        )
        assert ours[ell] == pytest.approx(float(exact), rel=1e-11)
    assert ours[0] == 0.0


def test_multipoles_sum_to_the_map():
    beta, directions = np.array([0.0, 0.0, 0.4]), sphere_quadrature()[0]
    coefficients = compton_getting_multipoles(0.4, GAMMA, 80)
    series = np.polynomial.legendre.legval(directions[:, 2], coefficients)
    np.testing.assert_allclose(series, compton_getting_exact(beta, GAMMA, directions), atol=1e-12)


def test_no_motion_no_anisotropy():
    assert np.all(compton_getting_exact(np.zeros(3), GAMMA, sphere_quadrature()[0]) == 0.0)
    assert np.all(compton_getting_multipoles(0.0, GAMMA, 5) == 0.0)


def test_leading_axes():
    beta = np.random.default_rng(3).normal(scale=1e-4, size=(5, 2, 3))
    index = np.linspace(2.5, 2.9, 5)[:, None]
    np.testing.assert_allclose(compton_getting(beta, index)[4, 1], 4.9 * beta[4, 1], rtol=1e-14)


def test_refusals():
    with pytest.raises(ValueError, match="below that of light"):
        compton_getting_exact(np.array([0.0, 1.0, 0.0]), GAMMA, np.eye(3))
    with pytest.raises(ValueError, match=r"expected \(..., 3\)"):
        compton_getting(np.ones(2), GAMMA)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        compton_getting_multipoles(1.0, GAMMA, 2)
    with pytest.raises(ValueError, match="above -2"):
        compton_getting_multipoles(0.1, -2.0, 2)
    with pytest.raises(ValueError, match="lmax -1"):
        compton_getting_multipoles(0.1, GAMMA, -1)
    with pytest.raises(ConfigurationError, match="turns with the year"):
        motion_velocity("earth-orbit")
    with pytest.raises(ConfigurationError, match="did you mean 'ISM'"):
        motion_beta("ISMM")


def test_velocity_is_a_quantity_of_the_published_speed():
    velocity = motion_velocity("LSR")
    assert velocity.unit == u.km / u.s
    assert np.linalg.norm(velocity.value) == pytest.approx(18.0, rel=1e-14)
    assert np.linalg.norm(motion_beta("LSR")) == pytest.approx(18.0 / SPEED_OF_LIGHT_KM_S, rel=1e-14)


# The motion of the Earth.


def earth_velocity_by_differences(angle, tilt):
    """Unit velocity of the Earth: difference quotient of minus the Sun's direction on a tilted circle."""

    def earth(longitude):
        return -Rotation.from_euler("x", tilt).apply([np.cos(longitude), np.sin(longitude), 0.0])

    step = 1e-5
    return (earth(angle + np.pi + step) - earth(angle + np.pi - step)) / (2 * step)


@pytest.mark.parametrize("angle", np.linspace(0, 6, 7))
def test_sidereal_dipole_points_where_the_earth_goes(angle):
    tilt = np.radians(23.4)
    amplitude = 4.7 * 29.8 / SPEED_OF_LIGHT_KM_S
    expected = amplitude * earth_velocity_by_differences(angle, tilt)
    np.testing.assert_allclose(solar_dipole_sidereal(angle * u.rad, GAMMA), expected, atol=1e-9 * amplitude)


def earth_rotation(sidereal_angle, latitude):
    """From the equatorial to the local frame (North, West, up) by elementary rotations."""
    # Turn the meridian to x, tip the zenith to z, then rename: x (south) -> north, y (east) -> west.
    to_zenith = Rotation.from_euler("y", -(np.pi / 2 - latitude)) * Rotation.from_euler("z", -sidereal_angle)
    return Rotation.from_euler("z", np.pi) * to_zenith


@pytest.mark.parametrize("latitude", np.radians([-90.0, 19.0, 43.0]))
def test_solar_frame_by_explicit_rotations(latitude):
    """R^T(solar time) R(sidereal time) of the sidereal dipole, at every hour and day: Eq. (62), at any latitude."""
    for angle in np.linspace(0, 2 * np.pi, 9):
        sidereal = solar_dipole_sidereal(angle * u.rad, GAMMA)
        for solar_time in np.linspace(0, 2 * np.pi, 5):
            local = earth_rotation(solar_time + angle, latitude).apply(sidereal)
            solar = earth_rotation(solar_time, latitude).inv().apply(local)
            np.testing.assert_allclose(solar, solar_dipole_solar_frame(angle * u.rad, GAMMA), atol=1e-18)


def test_yearly_means():
    year = 2 * np.pi * np.arange(365) / 365 * u.rad
    amplitude = 4.7 * 29.8 / SPEED_OF_LIGHT_KM_S
    np.testing.assert_allclose(solar_dipole_sidereal(year, GAMMA).mean(axis=0), 0.0, atol=1e-14 * amplitude)
    mean = solar_dipole_solar_frame(year, GAMMA).mean(axis=0)
    np.testing.assert_allclose(mean, solar_dipole_yearly_mean(GAMMA), atol=1e-14 * amplitude)
    assert solar_dipole_yearly_mean(GAMMA)[1] == pytest.approx(
        amplitude * np.cos(np.radians(11.7)) ** 2, rel=1e-12
    )


def test_speed_and_obliquity_are_arguments():
    upright = solar_dipole_solar_frame(
        np.linspace(0, 6, 5) * u.rad, 2.0, speed=30 * u.km / u.s, obliquity=0 * u.deg
    )
    expected = np.broadcast_to([0.0, 4 * 30 / SPEED_OF_LIGHT_KM_S, 0.0], (5, 3))
    np.testing.assert_allclose(upright, expected, atol=1e-18)


def test_the_motion_is_at_right_angles_to_the_sun():
    """The mean Sun has right ascension a + 180 deg; on the ecliptic the velocity is perpendicular to it."""
    for angle in np.radians([0.0, 90.0, 180.0, 270.0]):  # where ecliptic longitude and right ascension agree
        ra = sun_right_ascension(angle * u.rad).to_value(u.rad)
        tilt = np.radians(23.4) * np.sin(ra)  # declination of the Sun at these four points
        sun = np.array([np.cos(ra) * np.cos(tilt), np.sin(ra) * np.cos(tilt), np.sin(tilt)])
        assert abs(sun @ solar_dipole_sidereal(angle * u.rad, GAMMA)) < 1e-18
