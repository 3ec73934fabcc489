"""Smoothing windows against mpmath, disc averages on pixels and healpy."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import sph_harm_y

from obsfit.sky.smoothing import gaussian_window, pixel_window, top_hat_window


def top_hat_by_legendre(radius_deg, lmax):
    """[P_l-1(c) - P_l+1(c)]/[(2l + 1)(1 - c)] with 60 digits, from the recurrence of the Legendre polynomials."""
    mp.dps = 60
    c = mp.cos(mpf(str(radius_deg)) * mp.pi / 180)
    legendre = [mpf(1), c]
    for ell in range(1, lmax + 1):
        legendre.append(((2 * ell + 1) * c * legendre[ell] - ell * legendre[ell - 1]) / (ell + 1))
    window = [mpf(1)]
    window += [(legendre[ell - 1] - legendre[ell + 1]) / ((2 * ell + 1) * (1 - c)) for ell in range(1, lmax + 1)]
    return np.array([float(value) for value in window])


@pytest.mark.parametrize("radius", ["1e-6", "0.01", "0.5", "5", "10", "20", "60", "90", "140", "179.5"])
def test_top_hat_against_mpmath(radius):
    """Absolute error below 1e-12 up to l = 4000, however small the disc; relative where W_l is far from its zeros."""
    ours, exact = top_hat_window(float(radius) * u.deg, 4000), top_hat_by_legendre(radius, 4000)
    np.testing.assert_allclose(ours, exact, rtol=1e-9, atol=2e-13)


def test_top_hat_over_the_whole_sphere_leaves_the_mean():
    np.testing.assert_array_equal(top_hat_window(180 * u.deg, 5), [1, 0, 0, 0, 0, 0])


def test_a_point_smooths_nothing():
    window = top_hat_window(1e-9 * u.deg, 100)
    # Leading order 1 - l(l + 1) radius^2/8.
    np.testing.assert_allclose(window, 1.0, atol=1e-15)
    assert top_hat_window(1e-4 * u.rad, 10)[10] == pytest.approx(1 - 110e-8 / 8, abs=1e-14)


def test_top_hat_against_the_mean_over_pixels_of_a_disc():
    """A disc of 10 deg at nside 256 has 6000 pixels; its ragged edge leaves a few 1e-3."""
    rng = np.random.default_rng(11)
    lmax, nside = 8, 256
    alm = rng.normal(size=hp.Alm.getsize(lmax)) + 1j * rng.normal(size=hp.Alm.getsize(lmax))
    alm[: lmax + 1] = alm[: lmax + 1].real
    sky = hp.alm2map(alm, nside)
    smooth = hp.alm2map(hp.almxfl(alm, top_hat_window(10 * u.deg, lmax)), nside)
    for pixel in (1000, 200_000, 399_999, 700_000):
        disc = hp.query_disc(nside, hp.pix2vec(nside, pixel), np.radians(10))
        assert smooth[pixel] == pytest.approx(sky[disc].mean(), abs=2e-3 * sky.std())


def test_gaussian_against_healpy():
    """healpy takes the full width at half maximum: sigma sqrt(8 ln 2)."""
    sigma = np.radians(3.0)
    expected = hp.gauss_beam(sigma * np.sqrt(8 * np.log(2)), lmax=80)
    np.testing.assert_allclose(gaussian_window(3 * u.deg, 80), expected, rtol=1e-12)
    np.testing.assert_array_equal(gaussian_window(0 * u.deg, 5), np.ones(6))


def test_gaussians_compose_like_variances():
    product = gaussian_window(3 * u.deg, 50) * gaussian_window(4 * u.deg, 50)
    np.testing.assert_allclose(product, gaussian_window(5 * u.deg, 50), rtol=1e-12)


def test_gaussian_width_on_the_sky():
    """Mean of cos(angle) over the smoothed point is W_1 = exp(-sigma^2); on a small patch 1 - sigma^2."""
    assert gaussian_window(0.01 * u.rad, 1)[1] == pytest.approx(1 - 1e-4, abs=1e-8)


def test_pixel_window_against_harmonics_averaged_over_pixels():
    """4 pi / (2l + 1) sum_m |mean of Y_lm over a pixel|^2, averaged over the 48 pixels of nside 2, by scipy.

    The means are over 64 x 64 centres, which leaves 1e-5.
    """
    theta, phi = hp.pix2ang(128, np.arange(hp.nside2npix(128)), nest=True)
    square = np.zeros(9)
    for ell in range(9):
        for m in range(ell + 1):
            means = sph_harm_y(ell, m, theta, phi).reshape(48, -1).mean(axis=1)
            square[ell] += (1 if m == 0 else 2) * 4 * np.pi / (2 * ell + 1) * np.mean(np.abs(means) ** 2)
    np.testing.assert_allclose(pixel_window(2, 4), np.sqrt(square[:5]), rtol=3e-4)
    np.testing.assert_allclose(pixel_window(2, 8), np.sqrt(square), rtol=2e-3)


def test_pixel_window_against_means_over_pixels():
    """Power of pixel means of a fine map over its true power, averaged over 20 skies: below 1.5 % up to l = 2 nside."""
    rng = np.random.default_rng(12)
    coarse, fine, lmax = 16, 128, 32
    ell, m = hp.Alm.getlm(lmax)
    ratio = np.zeros(lmax + 1)
    for _ in range(20):
        alm = rng.normal(size=ell.size) + 1j * rng.normal(size=ell.size) * (m > 0)
        means = hp.ud_grade(hp.alm2map(alm, fine), coarse)
        ratio += hp.alm2cl(alm, hp.map2alm(means, lmax=lmax, iter=5)) / hp.alm2cl(alm) / 20
    np.testing.assert_allclose(pixel_window(coarse, lmax)[2:], ratio[2:], rtol=0.015)


def test_refusals():
    for radius in (0.0, 181.0, float("nan")):
        with pytest.raises(ValueError, match="expected an angle in"):
            top_hat_window(radius * u.deg, 5)
    with pytest.raises(ValueError, match="finite angle of 0 or more"):
        gaussian_window(-1 * u.deg, 5)
    with pytest.raises(ValueError, match="expected 0 or more"):
        top_hat_window(1 * u.deg, -1)
    with pytest.raises(ValueError, match="at most 4 nside = 64"):
        pixel_window(16, 65)
    with pytest.raises(ValueError, match="power of two"):
        pixel_window(12, 5)
