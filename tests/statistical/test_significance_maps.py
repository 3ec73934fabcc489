"""Significance maps: discs by brute force, unit variance on isotropic skies, hot spots, and the chance of a maximum."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy.stats import chi2, norm

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct import _disc_kernels
from obsfit.reconstruct.healpix_output import calibrated_on_rings
from obsfit.reconstruct.significance import (
    Gaussian,
    TopHat,
    low_multipoles,
    maximum_toys,
    search,
    significance_map,
)
from obsfit.records.count_map import CountMap
from obsfit.records.provenance import Provenance
from obsfit.statistics.li_ma import li_ma_significance, poisson_significance
from obsfit.statistics.trials import sidak_probability

NSIDE = 16
N_PIX = 12 * NSIDE**2
THETA, ALPHA = hp.pix2ang(NSIDE, np.arange(N_PIX))
DEC = np.pi / 2 - THETA
VECTORS = np.array(hp.pix2vec(NSIDE, np.arange(N_PIX))).T
SEPARATION = np.arccos(np.clip(VECTORS @ VECTORS.T, -1, 1))
FIELDS = {
    "band": np.where((DEC > -0.45) & (DEC < 1.1), 1e4 * (0.2 + np.cos(DEC - 0.33) ** 2), 0.0),
    "cap": np.where(DEC < -0.44, 1e4 * np.abs(np.sin(DEC)), 0.0),
}


def counted(counts, expected, squared=None, *, calibrated=False):
    if calibrated:
        expected = calibrated_on_rings(np.asarray(counts, dtype=float), expected)
    outside = np.where(expected > 0, 0.0, np.nan)
    squares = None if squared is None else squared + outside
    return CountMap(counts + outside, expected + outside, Provenance("toy"), squared_weights=squares)


def isotropic_maps(expected, number, seed):
    """Poisson maps whose rings are calibrated on themselves."""
    rng = np.random.default_rng(seed)
    return [counted(rng.poisson(expected), expected, calibrated=True) for _ in range(number)]


@pytest.mark.parametrize("radius", [1e-6, 3.0, 13.0, 88.7, 179.99])
def test_discs_are_those_of_all_pairs(radius):
    values = np.random.default_rng(1).normal(size=N_PIX)
    inside = np.arccos(np.clip(VECTORS @ VECTORS.T, -1, 1)) <= np.radians(radius)
    np.fill_diagonal(inside, True)
    found = TopHat.of(radius * u.deg).sums(values)
    assert TopHat.of(radius * u.deg).radius_rad == pytest.approx(np.radians(radius))
    np.testing.assert_allclose(found, inside @ values, atol=1e-11)


def test_kernels_and_plain_python_agree():
    nside = 4
    start, count, z, s, shifted = hp.ringinfo(nside, np.arange(1, 4 * nside))
    geometry = (start.astype(np.int64), count.astype(np.int64), z, s, np.where(shifted, 0.5, 0.0))
    values = np.random.default_rng(2).uniform(size=12 * nside**2)
    wanted = values > 0.3
    prefix = _disc_kernels.prefix_sums(values, *geometry[:2])
    np.testing.assert_allclose(prefix, _disc_kernels.prefix_sums.py_func(values, *geometry[:2]), rtol=1e-15)
    for kernel in (_disc_kernels.disc_sums, _disc_kernels.disc_share):
        found = kernel(prefix, wanted, *geometry, np.cos(0.7))
        np.testing.assert_allclose(found, kernel.py_func(prefix, wanted, *geometry, np.cos(0.7)), rtol=1e-13)
        assert not found[~wanted].any()


def test_share_of_rings_by_brute_force():
    """Sum over rings of part^2 / ring, from which the variance of counts less their expectation follows."""
    expected = FIELDS["band"]
    start, count, z, s, shifted = hp.ringinfo(NSIDE, np.arange(1, 4 * NSIDE))
    geometry = (start.astype(np.int64), count.astype(np.int64), z, s, np.where(shifted, 0.5, 0.0))
    prefix = _disc_kernels.prefix_sums(expected, *geometry[:2])
    found = _disc_kernels.disc_share(prefix, expected > 0, *geometry, np.cos(np.radians(20)))
    inside = np.radians(20) >= SEPARATION
    ring = np.cumsum(np.r_[0, np.diff(np.round(THETA * 1e9)) > 0])
    totals = np.bincount(ring, weights=expected)
    for pixel in np.flatnonzero(expected > 0)[::97]:
        parts = np.bincount(ring, weights=expected * inside[pixel])
        assert found[pixel] == pytest.approx(np.sum(parts**2 / np.where(totals > 0, totals, 1.0)), rel=1e-12)


def test_gaussian_sums_against_all_pairs():
    """Kernel exp(-d^2 / 2 sigma^2) and its square; the window on the sphere differs by sigma^2 / 6 = 0.3 %."""
    sigma = np.radians(8.0)
    values = 100 + np.random.default_rng(4).normal(size=N_PIX)
    kernel = np.exp(-0.5 * (SEPARATION / sigma) ** 2)
    smoothing = Gaussian.of(8 * u.deg)
    np.testing.assert_allclose(smoothing.sums(values), kernel @ values, rtol=5e-3)
    np.testing.assert_allclose(smoothing.squares(values), kernel**2 @ values, rtol=5e-3)


def test_a_single_pixel_is_li_ma_against_the_rest_of_its_ring():
    """A disc smaller than a pixel, on isotropic exposure: on and off counts by hand."""
    rng = np.random.default_rng(5)
    expected = FIELDS["band"]
    found_map = counted(rng.poisson(expected), expected, calibrated=True)
    found = significance_map(found_map, smoothing=TopHat(1e-6))
    ring = np.round(THETA * 1e9)
    for pixel in np.flatnonzero(expected > 0)[::131]:
        on = found_map.counts[pixel]
        off = found_map.counts[(ring == ring[pixel]) & (expected > 0)].sum() - on
        n = np.count_nonzero(ring == ring[pixel])
        assert found.significance[pixel] == pytest.approx(
            float(li_ma_significance(on, off, 1 / (n - 1))), rel=1e-6
        )
        assert found.relative_excess[pixel] == pytest.approx(found_map.sky_map().delta_i[pixel], rel=1e-9)


def test_known_and_resampled_backgrounds():
    expected = FIELDS["cap"]
    counts = np.random.default_rng(6).poisson(expected)
    inside = (np.radians(12) >= SEPARATION).astype(float)
    on, background = inside @ (counts * (expected > 0)), inside @ expected
    seen = expected > 0
    known = significance_map(counted(counts, expected), smoothing=TopHat(np.radians(12)), alpha=0.0)
    resampled = significance_map(counted(counts, expected), smoothing=TopHat(np.radians(12)), alpha=0.05)
    np.testing.assert_allclose(
        known.significance[seen], poisson_significance(on, background + ~seen)[seen], rtol=1e-8
    )
    np.testing.assert_allclose(
        resampled.significance[seen], li_ma_significance(on, 20 * background, 0.05)[seen], rtol=1e-8
    )
    assert np.all(np.isnan(known.significance[~seen]))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("null_lmax", "smoothing"),
    [
        (0, TopHat(np.radians(12))), (0, TopHat(np.radians(25))), (0, Gaussian(np.radians(6))),
        (1, TopHat(np.radians(12))), (3, TopHat(np.radians(25))), (3, Gaussian(np.radians(6))),
    ],
)  # fmt: skip
def test_isotropic_skies_have_unit_variance(field, null_lmax, smoothing):
    """150 skies: the ring calibration and the fitted multipoles take part of the noise, and it is given back.

    Discs of 25 degrees with multipoles up to l = 3 taken out keep 25 to 50 % of their variance. The mean variance over
    the pixels is known to 3 % (about 10 independent places); the largest single one of some 10 to 100 independent
    places is below its chi-square bound. False alarm 1e-4 each.
    """
    values = np.array(
        [
            significance_map(sky, smoothing=smoothing, null_lmax=null_lmax).significance
            for sky in isotropic_maps(FIELDS[field], 150, 7)
        ]
    )
    seen = FIELDS[field] > 0
    variance = np.mean(values[:, seen] ** 2, axis=0)
    variance = variance[variance > 0]
    assert variance.size > 0.98 * seen.sum()
    assert np.mean(variance) == pytest.approx(1.0, abs=0.06)
    assert variance.max() < chi2.isf(1e-4 / seen.sum(), 150) / 150
    assert variance.min() > chi2.ppf(1e-4 / seen.sum(), 150) / 150


def test_weighted_events_have_unit_variance():
    """Weights 1 and 3 in equal numbers: variance 5 per event of mean weight 2; 150 skies as above."""
    rng = np.random.default_rng(9)
    expected = FIELDS["band"]
    variances = []
    for _ in range(150):
        light, heavy = rng.poisson(expected / 4), rng.poisson(expected / 4)
        sky = counted(light + 3.0 * heavy, expected, light + 9.0 * heavy, calibrated=True)
        value = significance_map(sky, smoothing=TopHat(np.radians(12))).significance
        variances.append(np.nanmean(value**2))
    assert np.mean(variances) == pytest.approx(1.0, abs=0.06)


def injected(expected, amplitude, radius, dipole=0.0, seed=12):
    """A disc of excess at right ascension 60 and declination -7 degrees, on a dipole towards 200 degrees."""
    disc = SEPARATION[hp.vec2pix(NSIDE, *hp.ang2vec(np.radians(97.0), np.radians(60.0)))] < radius
    intensity = 1 + amplitude * disc + dipole * np.cos(DEC) * np.cos(ALPHA - np.radians(200))
    counts = np.random.default_rng(seed).poisson(expected * intensity)
    return counted(counts, expected, calibrated=True), disc


def test_a_hot_spot_is_found_where_it_is():
    """An excess of 8 expected sigma within 10 degrees, searched with three radii."""
    expected = FIELDS["band"]
    radius = np.radians(10.0)
    inside = SEPARATION[hp.vec2pix(NSIDE, *hp.ang2vec(np.radians(97.0), np.radians(60.0)))] < radius
    amplitude = 8 / np.sqrt(expected[inside].sum())
    sky, disc = injected(expected, amplitude, radius)
    found = search(
        sky,
        smoothings=[TopHat(np.radians(d)) for d in (5.0, 10.0, 20.0)],
        n_toys=99,
        rng=np.random.default_rng(1),
    )
    assert found.smoothing == TopHat(np.radians(10.0))
    offset = hp.rotator.angdist(
        [np.pi / 2 - found.dec_rad, found.right_ascension_rad], [np.radians(97.0), np.radians(60.0)]
    )
    assert offset[0] < np.radians(5)
    # One standard deviation, less what the rings and the edge of the disc take; plus the best of several places.
    assert 6.5 < found.significance < 10.5
    assert found.p_global.p_value == 0.01
    assert found.p_local < found.p_bound < 1e-8
    assert found.toys.shape == (99,)
    excess = significance_map(sky, smoothing=TopHat(radius)).relative_excess
    assert excess[disc].max() == pytest.approx(amplitude, rel=0.3)


def test_both_null_hypotheses_see_a_dipole_as_they_should():
    """A dipole of 14 sigma in a disc is an anisotropy, but nothing beyond a dipole; a hot spot on it is both."""
    expected = FIELDS["band"]
    smooth = TopHat(np.radians(12))
    dipole_alone, _ = injected(expected, 0.0, 0.2, dipole=0.02)
    against_nothing = significance_map(dipole_alone, smoothing=smooth)
    against_dipole = significance_map(dipole_alone, smoothing=smooth, null_lmax=1)
    assert np.nanmax(against_nothing.significance) > 10
    assert np.nanmax(np.abs(against_dipole.significance)) < 4.5
    a11 = against_dipole.null_alm[hp.Alm.getidx(1, 1, 1)]
    vector = np.sqrt(1.5 / np.pi) * np.array([-a11.real, a11.imag])
    error = np.sqrt(2 / np.sum(expected * np.cos(DEC) ** 2))
    direction = np.radians(200)
    np.testing.assert_allclose(vector, 0.02 * np.array([np.cos(direction), np.sin(direction)]), atol=4.5 * error)
    both, disc = injected(expected, 0.03, np.radians(12), dipole=0.02)
    beyond = significance_map(both, smoothing=smooth, null_lmax=1)
    peak = np.nanargmax(beyond.significance)
    assert disc[peak]
    assert beyond.significance[peak] > 6


def test_low_multipoles_without_noise_are_exact():
    """Expected counts of an l <= 3 sky without m = 0: the fit returns it, for the band and for the cap."""
    rng = np.random.default_rng(3)
    alm = np.zeros(hp.Alm.getsize(3), dtype=complex)
    _, m = hp.Alm.getlm(3, np.arange(alm.size))
    alm[m > 0] = 1e-3 * (rng.normal(size=(m > 0).sum()) + 1j * rng.normal(size=(m > 0).sum()))
    for expected in FIELDS.values():
        sky = counted(expected * (1 + hp.alm2map(alm, NSIDE, lmax=3)), expected)
        np.testing.assert_allclose(low_multipoles(sky, 3), alm, atol=1e-9)
    narrow = np.where((DEC > 0.0) & (DEC < 0.05), 1e4, 0.0)
    with pytest.raises(ObsfitError, match="does not tell them apart"):
        low_multipoles(counted(narrow, narrow), 3)


@pytest.mark.parametrize(
    ("field", "null_lmax", "smoothing"), [("cap", 0, TopHat(np.radians(25))), ("band", 2, Gaussian(np.radians(6)))]
)
def test_global_chances_are_uniform_on_isotropic_skies(field, null_lmax, smoothing):
    """200 data maps against 400 toys of one of them: Kolmogorov-Smirnov, false alarm 1e-3.

    Discs of 25 degrees near a pole take most of their rings: toys that are not calibrated on themselves would show.
    """
    from scipy.stats import ks_2samp

    expected = FIELDS[field]
    skies = isotropic_maps(expected, 200, 13)
    maxima = [
        np.nanmax(significance_map(sky, smoothing=smoothing, null_lmax=null_lmax).significance) for sky in skies
    ]
    toys = maximum_toys(
        skies[0], smoothings=[smoothing], null_lmax=null_lmax, n_toys=400, rng=np.random.default_rng(14)
    )
    assert ks_2samp(maxima, toys).pvalue > 1e-3
    # The bound by the number of pixels holds, and is generous for overlapping discs.
    height = np.quantile(toys, 0.9)
    assert sidak_probability(norm.sf(height), np.count_nonzero(expected)) > 0.1


def test_independent_pixels_reach_the_bound():
    """Discs of one pixel: 500 toys of the maximum of 1/alpha-free Poisson counts against Sidak; false alarm 6e-7.

    Poisson counts of 1e8 are Gaussian to 1e-4, and pixels against a known background independent.
    """
    expected = FIELDS["cap"] * 1e4
    toys = maximum_toys(
        counted(expected, expected),
        smoothings=[TopHat(1e-6)],
        alpha=0.0,
        n_toys=500,
        rng=np.random.default_rng(15),
    )
    n = np.count_nonzero(expected)
    for height in np.quantile(toys, [0.2, 0.5, 0.9]):
        exact = float(sidak_probability(norm.sf(height), n))
        assert np.mean(toys >= height) == pytest.approx(
            exact, abs=5 * np.sqrt(exact * (1 - exact) / 500) + 1 / 500
        )


def test_toys_with_a_resampled_background_and_weights():
    """Local significances of toys have the tail that their maximum says: medians near those of Gaussian maxima."""
    expected = FIELDS["cap"]
    plain = maximum_toys(
        counted(expected, expected),
        smoothings=[TopHat(np.radians(12))],
        alpha=0.05,
        deficits=True,
        n_toys=200,
        rng=np.random.default_rng(16),
    )
    weighted = maximum_toys(
        counted(expected, expected, 3.0 * expected),
        smoothings=[TopHat(np.radians(12))],
        deficits=True,
        n_toys=200,
        rng=np.random.default_rng(17),
    )
    # The medians of 200 maxima are known to 0.05.
    assert np.median(plain) == pytest.approx(np.median(weighted), abs=0.25)
    assert 2.3 < np.median(plain) < 3.6


def test_refusals():
    sky = counted(FIELDS["cap"], FIELDS["cap"])
    with pytest.raises(ConfigurationError, match="Expected 0 or a positive multipole"):
        significance_map(sky, smoothing=TopHat(0.2), null_lmax=-1)
    with pytest.raises(ConfigurationError, match="Expected None, 0 or a positive number"):
        significance_map(sky, smoothing=TopHat(0.2), alpha=-0.1)
    with pytest.raises(ConfigurationError, match="at least one pixel"):
        significance_map(sky, smoothing=Gaussian(1e-3))
    with pytest.raises(ConfigurationError, match="angle in"):
        TopHat(0.0)
    with pytest.raises(ConfigurationError, match="at least one of each"):
        search(sky, smoothings=[], n_toys=3, rng=np.random.default_rng(0))
    empty = np.full(N_PIX, np.nan)
    with pytest.raises(ObsfitError, match="no exposure anywhere"):
        significance_map(CountMap(empty, empty, Provenance("toy")), smoothing=TopHat(0.2))
