"""Declination bands: Eq. (25) against mpmath and pixels, weights with a cusp, and the inversion of a_11."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf, quad
from numpy.polynomial.legendre import leggauss
from scipy.special import sph_harm_y

from obsfit.sky.coupling import dipole_inversion_factor, projection_factor


def test_full_sky_is_a_quarter_pi():
    assert projection_factor(-90 * u.deg, 90 * u.deg) == pytest.approx(np.pi / 4, rel=1e-12)


def test_a_narrow_band_is_the_cosine_of_its_declination():
    assert projection_factor(40 * u.deg, 40.001 * u.deg) == pytest.approx(np.cos(np.radians(40.0005)), rel=1e-9)


@given(st.floats(-90, 89), st.floats(1, 180))
def test_uniform_weight_is_eq_25(dec_min, width):
    mp.dps = 40
    low, high = dec_min, min(dec_min + width, 90.0)
    d1, d2 = mpf(low) * mp.pi / 180, mpf(high) * mp.pi / 180
    s1, s2, c1, c2 = mp.sin(d1), mp.sin(d2), mp.cos(d1), mp.cos(d2)
    closed = (d1 - d2 + c1 * s1 - c2 * s2) / (2 * (s1 - s2))
    assert projection_factor(low * u.deg, high * u.deg) == pytest.approx(float(closed), rel=1e-12)


@given(st.floats(-89, 80), st.floats(0.5, 179), st.sampled_from([1, 2, 3, 0.5]))
def test_weight_with_a_cusp_at_the_equator(dec_min, width, power):
    """w = |s|^p. A half-integer power is not smooth at s = 0: 64 nodes leave 1e-6 there, and 1e-11 otherwise."""
    mp.dps = 25
    low, high = dec_min, min(dec_min + width, 90.0)
    d1, d2 = mpf(low) * mp.pi / 180, mpf(high) * mp.pi / 180
    limits = [d1, 0, d2] if d1 < 0 < d2 else [d1, d2]
    weight = [quad(lambda d, k=k: abs(mp.sin(d)) ** power * mp.cos(d) ** k, limits) for k in (2, 1)]
    ours = projection_factor(low * u.deg, high * u.deg, weight=lambda s: np.abs(s) ** power)
    assert ours == pytest.approx(float(weight[0] / weight[1]), rel=1e-11 if power >= 1 else 1e-5)


def test_full_sky_with_weight_abs_sine_is_two_thirds():
    assert projection_factor(-90 * u.deg, 90 * u.deg, weight=np.abs) == pytest.approx(2 / 3, rel=1e-12)


def test_order_resolves_a_step():
    """The southern half of a band, once as a band and once as a weight with a step away from the equator."""
    band = projection_factor(-60 * u.deg, -20 * u.deg)
    step = projection_factor(
        -60 * u.deg, 10 * u.deg, weight=lambda s: (s < np.sin(np.radians(-20))).astype(float), order=300
    )
    assert step == pytest.approx(band, rel=5e-3)


def test_against_a_dipole_on_pixels():
    """Project a pixelised dipole and take its first harmonic: amplitude by the factor, phase unchanged."""
    theta, alpha = hp.pix2ang(256, np.arange(hp.nside2npix(256)))
    dec = np.pi / 2 - theta
    band = (dec > np.radians(-26)) & (dec < np.radians(64))
    sky = np.cos(dec) * np.cos(alpha - 0.7)
    harmonic = 2 * np.mean(sky[band] * np.exp(1j * alpha[band]))
    assert projection_factor(-26 * u.deg, 64 * u.deg) == pytest.approx(abs(harmonic), rel=2e-3)
    assert np.angle(harmonic) == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize(("low", "high"), [(10, 10), (20, 10), (-91, 0), (0, 91), (float("nan"), 3)])
def test_an_empty_band_is_refused_by_name(low, high):
    with pytest.raises(ValueError, match="expected -90 deg <= dec_min < dec_max"):
        projection_factor(low * u.deg, high * u.deg)


@pytest.mark.parametrize("weight", [lambda s: s, lambda s: np.zeros_like(s), lambda s: s * np.nan])
def test_an_impossible_weight_is_refused(weight):
    with pytest.raises(ValueError, match="expected finite values, none negative, not all zero"):
        projection_factor(-10 * u.deg, 10 * u.deg, weight=weight)


@given(st.floats(-1, 0.9), st.floats(0.01, 1.9))
def test_inversion_factor_is_the_masked_overlap_of_y_11(s1, width):
    """K = integral of |Y_11|^2 over the band, by quadrature of scipy's harmonic."""
    s2 = min(s1 + width, 1.0)
    nodes, weights = leggauss(8)
    s = 0.5 * (s2 - s1) * nodes + 0.5 * (s1 + s2)
    overlap = np.sum(np.pi * (s2 - s1) * weights * np.abs(sph_harm_y(1, 1, np.arccos(s), 0.0)) ** 2)
    assert dipole_inversion_factor(s1, s2) == pytest.approx(overlap, rel=1e-9)


def test_inversion_recovers_a_dipole_seen_through_a_band():
    """Mask a pixelised dipole, take its pseudo a_11, divide by the factor: components of the true dipole."""
    nside = 128
    theta, alpha = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    s1, s2 = np.sin(np.radians([-26.0, 64.0]))
    sky = (3e-4 * np.cos(alpha) - 5e-4 * np.sin(alpha)) * np.sin(theta)
    masked = np.where((np.cos(theta) > s1) & (np.cos(theta) < s2), sky, 0.0)
    a11 = np.sum(masked * np.conj(sph_harm_y(1, 1, theta, alpha))) * hp.nside2pixarea(nside)
    components = np.sqrt(1.5 / np.pi) * np.array([-a11.real, a11.imag]) / dipole_inversion_factor(s1, s2)
    np.testing.assert_allclose(components, [3e-4, -5e-4], rtol=5e-3)  # the edge of the band is one pixel wide


def test_halves_of_the_sky_add_up():
    south, north = dipole_inversion_factor(-1, 0.3), dipole_inversion_factor(0.3, 1)
    assert south + north == pytest.approx(1.0, rel=1e-15)
    with pytest.raises(ValueError, match="expected -1 <= s1 < s2 <= 1"):
        dipole_inversion_factor(0.5, 0.5)
