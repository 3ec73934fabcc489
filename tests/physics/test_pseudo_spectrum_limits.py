"""Pseudo-spectra: what must vanish, what must be equal, and noise by dense matrices."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from obsfit.errors import ObsfitError
from obsfit.operators import operator_for
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap
from obsfit.sky.coupling import band_coupling, general_coupling, power_coupling
from obsfit.sky.ring_means import subtract_ring_means
from obsfit.spectra.covariance import pseudo_moments
from obsfit.spectra.cross import cross_coupling, cross_spectra
from obsfit.spectra.decoupling import condition_number, decouple, equal_bins
from obsfit.spectra.noise import noise_band, noise_band_by_toys, noise_covariances, noise_power, pseudo_alm
from obsfit.spectra.pseudo import pseudo_spectrum
from obsfit.spectra.windows import declination_limits, map_coupling, pixel_weight

NSIDE = 16
N_PIX = 12 * NSIDE**2
THETA, ALPHA = hp.pix2ang(NSIDE, np.arange(N_PIX))
SIN_DEC = np.cos(THETA)
BAND = np.where((SIN_DEC > -0.44) & (SIN_DEC < 0.9), 1.0, 0.0)
CAP = np.where(SIN_DEC < -0.42, np.abs(SIN_DEC), 0.0)
WINDOWS = pytest.mark.parametrize("weight", [BAND, CAP, np.ones(N_PIX)], ids=["band", "cap", "whole"])


def sky(values, weight=None):
    return SkyMap(values if weight is None else np.where(weight > 0, values, np.nan), Provenance("mock"))


def harmonic(ell, m):
    return sph_harm_y(ell, m, THETA, ALPHA)


@WINDOWS
def test_a_sky_of_a_l0_alone_has_no_power(weight):
    """It is constant along rings, and their means are removed: zero to the square of rounding."""
    values = sum(harmonic(ell, 0).real for ell in range(1, 8))
    record = pseudo_spectrum(sky(values, weight), energy=1 * u.TeV, weight=weight, lmax=12)
    kept = pseudo_spectrum(sky(values, weight), energy=1 * u.TeV, weight=weight, lmax=12, filter_m0=False)
    assert record.c_ell.max() < 1e-28 * kept.c_ell.max()
    assert record.filtered
    assert not kept.filtered


@WINDOWS
def test_filter_before_and_after_the_weight(weight):
    """Ring means removed, a_l0 of the sky removed, or pseudo a_l0 dropped: the same for weights of declination."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=N_PIX)
    before = pseudo_alm(values, weight, 12, filtered=True)
    after = pseudo_alm(values, weight, 12, filtered=False)
    _, m = hp.Alm.getlm(12, np.arange(after.size))
    # Rings of 4, 8 and 12 pixels about a pole cannot tell a constant from m = 4, 8 and 12.
    np.testing.assert_allclose(before[(m > 0) & (m % 4 != 0)], after[(m > 0) & (m % 4 != 0)], atol=1e-14)
    np.testing.assert_allclose(before[m > 0], after[m > 0], atol=2e-3 * np.abs(after).max())
    assert np.abs(before[m == 0]).max() < 1e-14


@WINDOWS
def test_pseudo_harmonics_of_a_single_one(weight):
    """Y_32 through window and filter: the column of T^2, whose rings know nothing of pixels."""
    matrix = map_coupling(weight, 10, filtered=True)
    # The rings of four pixels about a pole take m = -2 for m = 2.
    aliasing = 1e-12 if weight[0] == weight[-1] == 0 else 1e-5
    found = pseudo_alm(2 * harmonic(3, 2).real, weight, 10, filtered=True)
    for ell in range(2, 11):
        assert found[hp.Alm.getidx(10, ell, 2)] == pytest.approx(matrix[2, ell, 3], abs=aliasing)
    # The edges of the band lie between rings: as far as the area of pixels goes.
    low, high = declination_limits(weight)
    if np.ptp(weight[weight > 0]) == 0:
        smooth = band_coupling(low * u.rad, high * u.rad, 10, filtered=True)
        np.testing.assert_allclose(matrix, smooth, atol=2e-2)


def dense_noise(weight, variance, lmax, filtered):
    """Covariance of filtered pixels as a matrix, harmonics by scipy: nothing assumed of the weight."""
    theta, alpha = hp.pix2ang(hp.npix2nside(weight.size), np.arange(weight.size))
    seen = weight > 0
    matrix = np.diag(seen.astype(float))
    for colatitude in np.unique(theta):
        ring = np.flatnonzero(seen & (theta == colatitude))
        if filtered and ring.size:
            matrix[np.ix_(ring, ring)] -= 1.0 / ring.size
    covariance = matrix @ np.diag(np.where(seen, variance, 0.0)) @ matrix.T
    power = []
    for ell in range(lmax + 1):
        rows = np.array([sph_harm_y(ell, m, theta, alpha) for m in range(-ell, ell + 1)])
        rows *= weight * 4 * np.pi / weight.size
        power.append(np.sum(rows.conj() * (rows @ covariance)).real / (2 * ell + 1))
    return np.array(power)


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("kind", ["zonal", "right ascension", "ring in part"])
def test_noise_of_any_weight_and_variance(kind, filtered):
    theta, alpha = hp.pix2ang(8, np.arange(768))
    sin_dec = np.cos(theta)
    weight, variance = np.where(sin_dec < -0.42, -sin_dec, 0.0), 1e-4 / (0.1 + np.abs(sin_dec))
    if kind != "zonal":
        weight, variance = weight * (1 + 0.5 * np.cos(alpha)), variance * (1 + 0.6 * np.sin(alpha))
    if kind == "ring in part":
        weight[(alpha < 1) & (sin_dec > -0.6)] = 0.0
    found = noise_power(weight, variance, 6, filtered=filtered)
    expected = dense_noise(weight, variance, 6, filtered)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12 * expected.max())


def test_noise_limits():
    """Eq. (32) of AM17 for a top-hat, unfiltered; 2 l of 2 l + 1 modes on the full sky, filtered."""
    events = 50.0 * BAND.sum()
    noise = noise_power(BAND, np.where(BAND > 0, 1 / 50.0, 0.0), 5, filtered=False)
    np.testing.assert_allclose(noise, 4 * np.pi * BAND.mean() ** 2 / events, rtol=1e-12)
    whole = np.ones(N_PIX)
    ell = np.arange(1, 6)
    filtered = noise_power(whole, whole, 5, filtered=True)[1:] / noise_power(whole, whole, 5, filtered=False)[1:]
    np.testing.assert_allclose(filtered, 2 * ell / (2 * ell + 1), rtol=3e-3)  # rings of nside 16 as quadrature


def test_noise_blocks_add_up_to_the_power():
    variance = 1e-4 / (0.1 + np.abs(SIN_DEC))
    for filtered in (True, False):
        blocks = noise_covariances(CAP, variance, 8, filtered=filtered)
        both_signs = np.where(np.arange(9) == 0, 1.0, 2.0)
        power = np.einsum("m,mll->l", both_signs, blocks) / (2 * np.arange(9) + 1)
        np.testing.assert_allclose(power, noise_power(CAP, variance, 8, filtered=filtered), rtol=1e-10, atol=1e-18)


def test_band_of_two_modes_is_an_exponential():
    """One mode m = 1 at l = 1 of a filtered sky: quantiles of a chi-square of two degrees of freedom."""
    variance = np.full(N_PIX, 1e-4)
    band = noise_band(BAND, variance, 1, filtered=True)
    np.testing.assert_allclose(
        [band.low[0], band.high[0]], -band.mean[0] * np.log1p(-np.array([0.025, 0.975])), rtol=1e-6
    )


def test_a_record_folds_as_its_operator_does():
    """Through obsfit.operator_for: the same top-hat, events and filter, from the record alone."""
    counts = np.full(N_PIX, 1e4)
    record = pseudo_spectrum(sky(harmonic(2, 1).real, BAND), energy=1 * u.TeV, weight=BAND, lmax=8, counts=counts)
    response = operator_for(record).response[1][0]
    np.testing.assert_allclose(response[:9, :9], map_coupling(BAND, 8, filtered=True)[1], atol=2e-2)


def test_the_default_weight_is_the_observed_sky_and_limits_follow_the_pixels():
    values = np.where(BAND > 0, harmonic(2, 1).real, np.nan)
    by_default = pseudo_spectrum(sky(values), energy=1 * u.TeV, lmax=6)
    by_function = pseudo_spectrum(
        sky(values), energy=1 * u.TeV, lmax=6, weight=lambda s: np.where((s > -0.44) & (s < 0.9), 1.0, 0.0)
    )
    np.testing.assert_array_equal(by_default.c_ell, by_function.c_ell)
    assert by_default.sky_fraction == pytest.approx(BAND.mean(), rel=1e-12)


def test_icecube_single_multipoles_are_refused_and_bins_of_three_are_fine():
    record = pseudo_spectrum(sky(harmonic(2, 1).real, CAP), energy=1 * u.TeV, weight=CAP, lmax=30)
    edges = [-90 * u.deg, -25 * u.deg]
    matrix = power_coupling(band_coupling(*edges, 30, filtered=True))
    with pytest.raises(ObsfitError, match=r"condition number [0-9.]+e\+1[0-9]"):
        decouple(record, matrix, subtract_noise=False)
    assert condition_number(matrix, equal_bins(1, 30, 3)) < 4
    result = decouple(record, matrix, bins=equal_bins(1, 30, 3), subtract_noise=False)
    assert result.condition < 4
    np.testing.assert_array_equal(result.ell, np.arange(2, 30, 3))
    # IceTop, radius 55 degrees, is singular as well; HAWC is not.
    icetop = power_coupling(band_coupling(-90 * u.deg, -35 * u.deg, 30, filtered=True))
    hawc = power_coupling(band_coupling(-26 * u.deg, 64 * u.deg, 30, filtered=True))
    assert condition_number(icetop, equal_bins(1, 30, 1)) > 1e12
    assert condition_number(hawc, equal_bins(1, 30, 1)) < 3


def test_a_flat_spectrum_comes_back_from_any_bins():
    """M of a flat spectrum, inverted in bins: exactly flat, and windows of area one."""
    matrix = power_coupling(band_coupling(-90 * u.deg, -25 * u.deg, 30, filtered=True))
    record = pseudo_spectrum(sky(harmonic(2, 1).real, CAP), energy=1 * u.TeV, weight=CAP, lmax=30)
    flat = np.concatenate([[0.0], np.ones(30)])
    folded = type(record)(**{**vars(record), "c_ell": (matrix @ flat)[1:]})
    result = decouple(folded, matrix, bins=equal_bins(1, 30, 5), subtract_noise=False)
    np.testing.assert_allclose(result.c_ell, 1.0, rtol=1e-10)
    np.testing.assert_allclose(result.window.sum(axis=1), 1.0, rtol=1e-10)


def test_moments_of_a_fixed_sky_without_noise_are_its_power():
    alm = np.zeros(hp.Alm.getsize(6), dtype=complex)
    alm[hp.Alm.getidx(6, 3, 2)] = 0.5 - 0.2j
    moments = pseudo_moments(map_coupling(BAND, 6, filtered=True), fixed_alm=alm)
    values = hp.alm2map(alm, NSIDE, lmax=6)
    record = pseudo_spectrum(sky(values, BAND), energy=1 * u.TeV, weight=BAND, lmax=6)
    np.testing.assert_allclose(moments.mean, record.c_ell, rtol=1e-9, atol=1e-16)
    assert not moments.covariance.any()


@pytest.mark.parametrize("filtered", [True, False])
def test_cross_power_of_a_map_with_its_opposite(filtered):
    rng = np.random.default_rng(2)
    values = rng.normal(size=N_PIX)
    maps = [sky(values, CAP), sky(-2 * values, CAP)]
    crosses = cross_spectra(maps, weights=[CAP, CAP], lmax=9, filter_m0=filtered)
    record = pseudo_spectrum(sky(values, CAP), energy=1 * u.TeV, weight=CAP, lmax=9, filter_m0=filtered)
    np.testing.assert_allclose(crosses.c_ell[0, 1], -2 * record.c_ell, rtol=1e-12)
    np.testing.assert_allclose(crosses.c_ell[0, 0], record.c_ell, rtol=1e-12)
    np.testing.assert_array_equal(crosses.c_ell[0, 1], crosses.c_ell[1, 0])


def test_weights_of_right_ascension():
    """The power of a weighted map against the general coupling; the block-diagonal one refuses."""
    weight = CAP * (1 + 0.5 * np.cos(ALPHA))
    weight[(ALPHA < 1) & (SIN_DEC > -0.6)] = 0.0
    values = 2 * harmonic(2, 1).real
    full = general_coupling(weight, 6, filtered=True)
    # a_21 = 1, so a_2,-1 = -1.
    alm = full[:, 2 * 3 + 1] - full[:, 2 * 3 - 1]
    power = [np.sum(np.abs(alm[ell**2 : (ell + 1) ** 2]) ** 2) / (2 * ell + 1) for ell in range(1, 7)]
    record = pseudo_spectrum(sky(values, weight), energy=1 * u.TeV, weight=weight, lmax=6)
    np.testing.assert_allclose(record.c_ell, power, rtol=1e-9, atol=1e-14)
    with pytest.raises(ObsfitError, match="depends on right ascension"):
        map_coupling(weight, 6, filtered=True)


def test_refusals():
    good = sky(np.zeros(N_PIX))
    with pytest.raises(ValueError, match="expected 1 to 3 nside"):
        pseudo_spectrum(good, energy=1 * u.TeV, lmax=48)
    with pytest.raises(ValueError, match="at most one of them"):
        pseudo_spectrum(good, energy=1 * u.TeV, counts=np.ones(N_PIX), variance=np.ones(N_PIX))
    with pytest.raises(ValueError, match="expected positive numbers; give the expected counts"):
        pseudo_spectrum(good, energy=1 * u.TeV, counts=np.zeros(N_PIX))
    with pytest.raises(ValueError, match="counts of shape"):
        pseudo_spectrum(good, energy=1 * u.TeV, counts=np.ones(12))
    with pytest.raises(ValueError, match="none negative"):
        pixel_weight(lambda s: s, good)
    with pytest.raises(ValueError, match="expected a field of view"):
        pixel_weight(np.zeros(N_PIX), good)
    with pytest.raises(ValueError, match="weight of shape"):
        pixel_weight(np.ones(48), good)
    with pytest.raises(ObsfitError, match="at least two"):
        cross_spectra([good])
    with pytest.raises(ObsfitError, match="are the same"):
        cross_spectra([good, good])
    with pytest.raises(ValueError, match="2 weights for 3 maps"):
        cross_spectra([good, sky(np.ones(N_PIX)), sky(np.full(N_PIX, 2.0))], weights=[None, None])
    with pytest.raises(ValueError, match="expected one shape"):
        cross_coupling(np.zeros((2, 2, 2)), np.zeros((3, 3, 3)))
    with pytest.raises(ObsfitError, match="at least 40 toys"):
        noise_band_by_toys(BAND, np.ones(N_PIX), 3, filtered=True, n_toys=10, rng=np.random.default_rng(0))
    record = pseudo_spectrum(good, energy=1 * u.TeV, lmax=6)
    matrix = power_coupling(band_coupling(-26 * u.deg, 64 * u.deg, 6, filtered=True))
    with pytest.raises(ObsfitError, match="noise is not in the record"):
        decouple(record, matrix)
    with pytest.raises(ValueError, match="without overlap"):
        decouple(record, matrix, bins=[(1, 3), (3, 6)], subtract_noise=False)
    with pytest.raises(ObsfitError, match="without gaps"):
        decouple(record.select(2), matrix, subtract_noise=False)
    with pytest.raises(ValueError, match="at least one whole bin"):
        equal_bins(1, 2, 3)
    with pytest.raises(ValueError, match="axes \\(m, l_out, l_in\\)"):
        pseudo_moments(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="c_ell of shape"):
        pseudo_moments(np.zeros((3, 3, 3)), np.zeros(9))


def test_ring_means_of_a_partial_field_of_view():
    values = np.arange(12.0)
    seen = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1], dtype=bool)
    np.testing.assert_allclose(
        subtract_ring_means(np.where(seen, values, np.nan), seen),
        [-0.5, 0.5, 0, 0, -1.5, -0.5, 0.5, 1.5, 0, 0, 0, 0],
    )
    with pytest.raises(ValueError, match="12 nside"):
        subtract_ring_means(np.zeros(13), np.ones(13, dtype=bool))
