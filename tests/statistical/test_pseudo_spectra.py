"""Pseudo-spectra of maps of counts: 2000 skies through healpy and Poisson draws against the exact moments.

The skies are synthesised by healpy and the powers are sums over its pixels; the matrices T^m are sums of Legendre
functions over rings. Each test says its chance of a false alarm; the seeds are fixed.
"""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy.stats import norm

from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap
from obsfit.sky.coupling import power_coupling
from obsfit.spectra.covariance import pseudo_moments
from obsfit.spectra.cross import cross_coupling, cross_spectra
from obsfit.spectra.decoupling import decouple, equal_bins
from obsfit.spectra.noise import noise_band, noise_band_by_toys, noise_covariances, noise_power
from obsfit.spectra.pseudo import pseudo_spectrum
from obsfit.spectra.windows import map_coupling

NSIDE, LMAX, SKIES = 16, 10, 2000
N_PIX = 12 * NSIDE**2
SIN_DEC = np.cos(hp.pix2ang(NSIDE, np.arange(N_PIX))[0])
C_ELL = np.concatenate([[0.0], 6e-6 / np.arange(1, LMAX + 1.0) ** 2])
"""The noise is as large at l = 2 for the cap and at l = 3 to 4 for the band."""
CASES = {
    "band": (np.where((SIN_DEC > -0.44) & (SIN_DEC < 0.9), 1.0, 0.0), np.sqrt(1 - SIN_DEC**2) + 0.2),
    "cap": (np.where(SIN_DEC < -0.42, np.abs(SIN_DEC) ** 1.5, 0.0), np.abs(SIN_DEC) ** 1.5 + 1e-9),
}


def alm_of_skies(rng):
    """Random a_lm with all m, the real a_l0 included: the filter has something to remove."""
    size = hp.Alm.getsize(LMAX)
    ell, m = hp.Alm.getlm(LMAX, np.arange(size))
    scale = np.sqrt(C_ELL[ell] / np.where(m == 0, 1.0, 2.0))
    return scale * (rng.normal(size=size) + 1j * np.where(m == 0, 0.0, 1.0) * rng.normal(size=size))


def spectrum_of(delta_i, weight, expected=None):
    sky_map = SkyMap(np.where(weight > 0, delta_i, np.nan), Provenance("toy"))
    return pseudo_spectrum(sky_map, energy=10 * u.TeV, weight=weight, lmax=LMAX, counts=expected)


@pytest.fixture(scope="module", params=CASES)
def simulated(request):
    """Weight, expected counts, pseudo-powers and their cross-powers with a second half of the events."""
    weight, profile = CASES[request.param]
    expected = 1e4 * profile
    rng = np.random.default_rng(41)
    powers, crosses = np.zeros((2, SKIES, LMAX))
    for i in range(SKIES):
        intensity = 1.0 + hp.alm2map(alm_of_skies(rng), NSIDE, lmax=LMAX)
        first, second = rng.poisson(expected * intensity, size=(2, N_PIX)) / expected - 1.0
        powers[i] = spectrum_of(first, weight).c_ell
        maps = [SkyMap(np.where(weight > 0, d, np.nan), Provenance("toy")) for d in (first, second)]
        crosses[i] = cross_spectra(maps, weights=[weight, weight], lmax=LMAX).c_ell[0, 1]
    return weight, expected, powers, crosses, spectrum_of(first, weight, expected)


def largest_pull(samples, expected):
    return np.max(np.abs(samples.mean(axis=0) - expected) / (samples.std(axis=0) / np.sqrt(len(samples))))


def limit(number, false_alarm=1e-4):
    """Largest pull of `number` results that chance gives once in 1 / false_alarm, whatever their correlation."""
    return norm.isf(0.5 * false_alarm / number)


def test_the_mean_is_m_c_plus_n(simulated):
    """Means known to 0.7 to 3 %; false alarm 1e-4 for each window."""
    weight, expected, powers, _, record = simulated
    coupling = map_coupling(weight, LMAX, filtered=True)
    predicted = (power_coupling(coupling) @ C_ELL)[1:] + record.noise
    np.testing.assert_allclose(
        record.noise, noise_power(weight, 1 / expected, LMAX, filtered=True)[1:], rtol=1e-12
    )
    assert largest_pull(powers, predicted) < limit(LMAX)
    # Power to see the noise, and the filter in it: neither may be left out.
    unfiltered = noise_power(weight, 1 / expected, LMAX, filtered=False)[1:]
    assert largest_pull(powers, predicted - record.noise) > 20
    assert largest_pull(powers, predicted - record.noise + unfiltered) > 5
    moments = pseudo_moments(coupling, C_ELL, noise=noise_covariances(weight, 1 / expected, LMAX, filtered=True))
    np.testing.assert_allclose(moments.mean, predicted, rtol=1e-9)


def test_the_covariance_is_exact(simulated):
    """All 36 different covariances up to l = 8; their sampling errors from fourth moments; false alarm 1e-4."""
    weight, expected, powers, _, _ = simulated
    coupling = map_coupling(weight, LMAX, filtered=True)
    noise = noise_covariances(weight, 1 / expected, LMAX, filtered=True)
    exact = pseudo_moments(coupling, C_ELL, noise=noise, lmax=8).covariance
    residuals = powers[:, :8] - powers[:, :8].mean(axis=0)
    products = residuals[:, :, None] * residuals[:, None, :]
    pulls = (products.mean(axis=0) - exact) / (products.std(axis=0) / np.sqrt(SKIES))
    # Sampling errors of variances of skewed powers are skewed themselves, to the side of small pulls that are large.
    assert np.max(np.abs(pulls)) < limit(36, 1e-4) + 0.5
    correlation = exact / np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    sample = np.corrcoef(powers[:, :8].T)
    np.testing.assert_allclose(sample, correlation, atol=0.1)


def test_decoupled_powers_are_unbiased(simulated):
    """Against the windows, and in the band against the true power of single multipoles; false alarm 1e-4 each."""
    weight, expected, powers, _, record = simulated
    matrix = power_coupling(map_coupling(weight, LMAX, filtered=True))
    cap = SIN_DEC[weight > 0].max() < 0
    noise = noise_covariances(weight, 1 / expected, LMAX, filtered=True)
    covariance = pseudo_moments(map_coupling(weight, LMAX, filtered=True), C_ELL, noise=noise).covariance
    bins = equal_bins(1, 9, 3) if cap else equal_bins(1, LMAX, 1)
    results = []
    for power in powers:
        one = type(record)(**{**vars(record), "c_ell": power})
        results.append(decouple(one, matrix, bins=bins, covariance=covariance))
    estimates = np.array([result.c_ell for result in results])
    assert largest_pull(estimates, results[0].window @ C_ELL) < limit(len(bins))
    np.testing.assert_allclose(np.sqrt(np.diag(results[0].covariance)), estimates.std(axis=0), rtol=0.12)
    if not cap:
        np.testing.assert_allclose(results[0].window[:, 1:], np.eye(LMAX), atol=1e-10)
        assert largest_pull(estimates, C_ELL[1:]) < limit(LMAX)


def test_cross_powers_have_no_noise_bias(simulated):
    """Two halves of the events of one sky: mean M C, without N; false alarm 1e-4."""
    weight, _, _, crosses, record = simulated
    coupling = map_coupling(weight, LMAX, filtered=True)
    matrix = cross_coupling(coupling, coupling)
    np.testing.assert_allclose(matrix, power_coupling(coupling), rtol=1e-12, atol=1e-15)
    assert largest_pull(crosses, (matrix @ C_ELL)[1:]) < limit(LMAX)
    assert largest_pull(crosses, (matrix @ C_ELL)[1:] + record.noise) > 20


def test_cross_power_of_independent_noise_is_zero():
    """1000 pairs of empty skies with different windows; false alarm 1e-4."""
    rng = np.random.default_rng(6)
    weights = [CASES["band"][0], CASES["cap"][0]]
    crosses = np.zeros((1000, LMAX))
    for i in range(1000):
        maps = [
            SkyMap(np.where(w > 0, rng.normal(0, 1e-2, N_PIX), np.nan), Provenance(name))
            for w, name in zip(weights, "ab", strict=True)
        ]
        crosses[i] = cross_spectra(maps, weights=weights, lmax=LMAX).c_ell[1, 0]
    assert largest_pull(crosses, 0.0) < limit(LMAX)


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_noise_bands_of_toys_and_of_closed_form(case, filtered):
    """3000 Poisson maps: means to 1 to 2.5 %; the fractions outside the band are binomial; false alarm 1e-4 each."""
    weight, profile = CASES[case]
    expected = 400 * profile
    n_toys = 3000
    toys = noise_band_by_toys(
        weight, expected, LMAX, filtered=filtered, n_toys=n_toys, rng=np.random.default_rng(12)
    )
    variance = np.where(weight > 0, 1 / expected, 0.0)
    closed = noise_band(weight, variance, LMAX, filtered=filtered)
    noise = noise_power(weight, variance, LMAX, filtered=filtered)[1:]
    np.testing.assert_allclose(closed.mean, noise, rtol=1e-9)
    blocks = noise_covariances(weight, variance, LMAX, filtered=filtered)
    zero = np.zeros((LMAX + 1, LMAX + 1, LMAX + 1))
    spread = np.sqrt(np.diag(pseudo_moments(zero, noise=blocks).covariance))
    assert np.max(np.abs(toys.mean - noise) / spread * np.sqrt(n_toys)) < limit(LMAX)
    # An edge of toys is off by sqrt(p (1 - p) / n) / density; densities from a neighbouring pair of quantiles.
    for edge, level in ((0, 0.025), (1, 0.975)):
        near = noise_band(weight, variance, LMAX, filtered=filtered, levels=(level - 0.01, level + 0.01))
        error = (near.high - near.low) / 0.02 * np.sqrt(level * (1 - level) / n_toys)
        found, exact = ((toys.low, closed.low), (toys.high, closed.high))[edge]
        assert np.max(np.abs(found - exact) / error) < limit(LMAX)
