"""The East-West step: closed forms, and expected counts of a dipole sky on a fine grid."""

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsfit.sky.east_west import east_west_step


@given(st.floats(0.1, 90))
def test_constant_acceptance(cut):
    angle = np.radians(cut)
    # 2 theta - sin(2 theta) cancels at small angles; there its series is exact enough.
    top = 4 * angle**3 / 3 * (1 - angle**2 / 5) if angle < 5e-3 else 2 * angle - np.sin(2 * angle)
    closed = top / (4 * np.pi * np.sin(angle / 2) ** 2)
    assert east_west_step(lambda zenith, azimuth: 1.0, cut * u.deg) == pytest.approx(closed, rel=1e-9)


@given(st.floats(0.1, 90))
def test_cosine_acceptance(cut):
    closed = 4 * np.sin(np.radians(cut)) / (3 * np.pi)
    assert east_west_step(lambda zenith, azimuth: np.cos(zenith), cut * u.deg) == pytest.approx(closed, rel=1e-12)


def test_limits():
    assert east_west_step(lambda zenith, azimuth: 1.0, 90 * u.deg) == pytest.approx(0.5, rel=1e-14)
    small = 1e-3
    step = east_west_step(lambda zenith, azimuth: 1.0, small * u.rad)
    assert step == pytest.approx(4 * small / (3 * np.pi), rel=1e-6)


def test_scale_of_the_acceptance_does_not_matter():
    steps = [east_west_step(lambda z, a, k=k: k * np.cos(z) ** 3, 60 * u.deg) for k in (1e-30, 1.0, 1e30)]
    np.testing.assert_allclose(steps, steps[0], rtol=1e-13)


def azimuthal(zenith, azimuth):
    """An acceptance with structure in azimuth, the same in East and West: a slope of the ground towards the North."""
    return np.cos(zenith) ** 2 * (1 + 0.4 * np.cos(azimuth) * np.sin(zenith) + 0.3 * np.cos(2 * azimuth))


@pytest.mark.parametrize("acceptance", [lambda z, a: np.cos(z) ** 2.5 + 0 * a, azimuthal])
@pytest.mark.parametrize("latitude", [19.0, -65.0])
def test_against_counts_of_a_dipole_sky(acceptance, latitude):
    """Expected counts of East and West around the clock; midpoint grid, dipole of 1e-7 so that first order is all.

    The grid of 400 x 800 cells leaves a relative error of 1e-5.
    """
    cut, phi = np.radians(50.0), np.radians(latitude)
    dipole = 1e-7 * np.array([2.0, -1.5, 3.0])
    zenith = (cut * (np.arange(400) + 0.5) / 400)[:, None]
    azimuth = (np.pi * (np.arange(800) + 0.5) / 800)[None, :]
    step = east_west_step(acceptance, 50 * u.deg)
    for sidereal in np.radians([0.0, 75.0, 200.0, 310.0]):
        counts = []
        for sign in (1, -1):
            turn = sign * azimuth
            north, east, up = np.cos(turn) * np.sin(zenith), np.sin(turn) * np.sin(zenith), np.cos(zenith)
            sin_dec = np.sin(phi) * up + np.cos(phi) * north
            toward_meridian = np.cos(phi) * up - np.sin(phi) * north  # cos(dec) cos(hour angle)
            # East of the meridian the right ascension is larger than the sidereal angle.
            x = np.cos(sidereal) * toward_meridian - np.sin(sidereal) * east
            y = np.sin(sidereal) * toward_meridian + np.cos(sidereal) * east
            anisotropy = dipole[0] * x + dipole[1] * y + dipole[2] * sin_dec
            weight = acceptance(zenith, turn) * np.sin(zenith)
            counts.append((np.sum(weight * anisotropy), np.sum(weight)))
        asymmetry = (counts[0][0] - counts[1][0]) / (counts[0][1] + counts[1][1])
        derivative = -dipole[0] * np.sin(sidereal) + dipole[1] * np.cos(sidereal)
        assert asymmetry == pytest.approx(step * derivative, rel=1e-4, abs=1e-4 * step * 1e-7)


def test_an_asymmetric_acceptance_is_refused_with_its_place():
    with pytest.raises(ValueError, match=r"in the East and .* in the West at zenith .* A\(zenith, -azimuth\)"):
        east_west_step(lambda zenith, azimuth: 1 + 0.01 * np.sin(azimuth) * np.sin(zenith), 45 * u.deg)


@pytest.mark.parametrize("cut", [0.0, 91.0, float("nan")])
def test_an_impossible_cut_is_refused(cut):
    with pytest.raises(ValueError, match="expected an angle in \\(0, 90\\] deg"):
        east_west_step(lambda zenith, azimuth: 1.0, cut * u.deg)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_an_impossible_acceptance_is_refused(value):
    with pytest.raises(ValueError, match="expected finite values, none negative, not all zero"):
        east_west_step(lambda zenith, azimuth: value, 45 * u.deg)
