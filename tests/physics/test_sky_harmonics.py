"""Dipole vectors, a_lm, power and correlation against scipy's harmonics, pixelised skies and explicit pairs."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from scipy.special import sph_harm_y

from obsfit.sky.harmonics import (
    alm_map,
    alm_power,
    amplitude_phase,
    correlation_function,
    dipole_alm,
    dipole_power,
    dipole_vector,
    equatorial_components,
    lmax_of,
    map_alm,
    mean_square,
    power_from_correlation,
)

LMAX = 5
DIPOLE = np.array([3e-4, -7e-4, 5e-4])


def quadrature(n=24):
    """Colatitude, longitude and solid angle of a product grid, exact for band limit n - 1."""
    mu, weight = leggauss(n)
    phi = 2 * np.pi * np.arange(2 * n) / (2 * n)
    theta, phi = np.meshgrid(np.arccos(mu), phi, indexing="ij")
    return theta.ravel(), phi.ravel(), np.repeat(weight * np.pi / n, 2 * n)


def evaluate(alm, lmax, theta, phi):
    """The real field of healpy-ordered a_lm by scipy's spherical harmonics."""
    field = np.zeros(np.shape(theta))
    for m in range(lmax + 1):
        for ell in range(m, lmax + 1):
            value = alm[hp.Alm.getidx(lmax, ell, m)] * sph_harm_y(ell, m, theta, phi)
            field = field + (value.real if m == 0 else 2 * value.real)
    return field


def random_alm(lmax, rng, *shape):
    n = (lmax + 1) * (lmax + 2) // 2
    alm = rng.normal(size=(*shape, n)) + 1j * rng.normal(size=(*shape, n))
    alm[..., : lmax + 1] = alm[..., : lmax + 1].real
    return alm


def test_dipole_alm_is_the_dipole_function():
    theta, phi, solid_angle = quadrature()
    sky = (
        DIPOLE[0] * np.sin(theta) * np.cos(phi)
        + DIPOLE[1] * np.sin(theta) * np.sin(phi)
        + DIPOLE[2] * np.cos(theta)
    )
    np.testing.assert_allclose(evaluate(dipole_alm(DIPOLE), 1, theta, phi), sky, atol=1e-18)
    a11 = np.sum(solid_angle * sky * np.conj(sph_harm_y(1, 1, theta, phi)))
    a10 = np.sum(solid_angle * sky * np.conj(sph_harm_y(1, 0, theta, phi)))
    np.testing.assert_allclose(dipole_vector(np.array([0, a10, a11])), DIPOLE, rtol=1e-13)


def test_signs_against_healpy_on_pixels():
    """map2alm of an explicit dipole; ten iterations bring the quadrature error of healpy below 1e-10."""
    nside = 32
    theta, phi = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    sky = (
        DIPOLE[0] * np.sin(theta) * np.cos(phi)
        + DIPOLE[1] * np.sin(theta) * np.sin(phi)
        + DIPOLE[2] * np.cos(theta)
    )
    for lmax in (1, 4):
        np.testing.assert_allclose(dipole_vector(hp.map2alm(sky, lmax=lmax, iter=10)), DIPOLE, rtol=1e-9)
        np.testing.assert_allclose(dipole_vector(map_alm(sky, lmax, iterations=10)), DIPOLE, rtol=1e-9)
        np.testing.assert_allclose(alm_map(dipole_alm(DIPOLE, lmax), nside), sky, atol=1e-17)


def test_dipole_vectors_there_and_back_on_leading_axes():
    dipoles = np.random.default_rng(1).normal(size=(4, 3, 3))
    for lmax in (1, 2, 7):
        np.testing.assert_allclose(dipole_vector(dipole_alm(dipoles, lmax)), dipoles, rtol=1e-14)


def test_dipole_power_is_the_mean_square():
    """(1/4 pi) 3 C_1 is the mean of (delta.n)^2, by quadrature."""
    theta, phi, solid_angle = quadrature()
    sky = evaluate(dipole_alm(DIPOLE), 1, theta, phi)
    mean = np.sum(solid_angle * sky**2) / (4 * np.pi)
    assert 3 * dipole_power(DIPOLE) / (4 * np.pi) == pytest.approx(mean, rel=1e-13)
    dipoles = np.random.default_rng(2).normal(size=(6, 2, 3))
    np.testing.assert_allclose(alm_power(dipole_alm(dipoles))[..., 1], dipole_power(dipoles), rtol=1e-13)


def test_power_against_healpy():
    alm = random_alm(20, np.random.default_rng(3), 3, 2)
    expected = np.array([[hp.alm2cl(row) for row in block] for block in alm])
    np.testing.assert_allclose(alm_power(alm), expected, rtol=1e-13)


def test_sum_rule():
    theta, phi, solid_angle = quadrature()
    alm = random_alm(LMAX, np.random.default_rng(4))
    mean = np.sum(solid_angle * evaluate(alm, LMAX, theta, phi) ** 2) / (4 * np.pi)
    assert mean_square(alm_power(alm)) == pytest.approx(mean, rel=1e-12)
    assert mean_square(alm_power(np.stack([alm, 2 * alm])))[1] == pytest.approx(4 * mean, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 20.0, 77.0, 180.0])
def test_correlation_function_from_pairs(eta):
    """Mean of f(n1) f(n2) over all pairs at the angle eta: n1 on a grid, n2 on a circle around it."""
    theta, phi, solid_angle = quadrature(12)
    alm = random_alm(LMAX, np.random.default_rng(5))
    first = evaluate(alm, LMAX, theta, phi)
    n = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    south = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), -np.sin(theta)], axis=-1)
    east = np.stack([-np.sin(phi), np.cos(phi), np.zeros_like(phi)], axis=-1)
    angle, circle = np.radians(eta), 2 * np.pi * np.arange(16) / 16
    second = np.zeros_like(first)
    for turn in circle:
        m = np.cos(angle) * n + np.sin(angle) * (np.cos(turn) * south + np.sin(turn) * east)
        second += evaluate(alm, LMAX, np.arccos(np.clip(m[:, 2], -1, 1)), np.arctan2(m[:, 1], m[:, 0])) / 16
    mean = np.sum(solid_angle * first * second) / (4 * np.pi)
    # 1e-7: arccos near the poles of the second point.
    assert correlation_function(alm_power(alm), [eta] * u.deg)[0] == pytest.approx(mean, rel=1e-7, abs=1e-9)


def test_correlation_and_power_there_and_back():
    c_ell = np.random.default_rng(6).uniform(size=(3, 2, 30))
    back = power_from_correlation(lambda eta: correlation_function(c_ell, eta * u.rad), 29)
    np.testing.assert_allclose(back, c_ell, atol=1e-12)  # sums of thirty terms of up to 60


def test_a_constant_sky_has_correlation_one():
    c_ell = np.array([4 * np.pi, 0.0, 0.0])
    np.testing.assert_allclose(correlation_function(c_ell, np.linspace(0, 180, 5) * u.deg), 1.0, rtol=1e-14)


def test_amplitude_and_phase_there_and_back():
    dipole = np.random.default_rng(7).normal(size=(50, 3))
    amplitude, phase = amplitude_phase(dipole)
    np.testing.assert_allclose(equatorial_components(amplitude, phase), dipole[:, :2], atol=1e-14)
    assert np.all((phase >= 0 * u.deg) & (phase < 360 * u.deg))
    assert amplitude_phase(np.array([1.0, -1e-300]))[1] == 0 * u.deg


def test_maps_and_alm_on_leading_axes():
    alm = random_alm(6, np.random.default_rng(8), 2, 2)
    maps = alm_map(alm, 16)
    assert maps.shape == (2, 2, 3072)
    theta, phi = hp.pix2ang(16, np.arange(3072))
    np.testing.assert_allclose(maps[1, 0], evaluate(alm[1, 0], 6, theta, phi), atol=1e-11)
    np.testing.assert_allclose(map_alm(maps, 6, iterations=10), alm, atol=1e-8)


def test_refusals():
    with pytest.raises(ValueError, match="5 coefficients"):
        lmax_of(5)
    with pytest.raises(ValueError, match="end at l = 0"):
        dipole_vector(np.zeros(1, dtype=complex))
    with pytest.raises(ValueError, match="not finite"):
        map_alm(np.full(12, np.nan), 1)
