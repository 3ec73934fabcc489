"""Scatter of multipoles over Poisson event maps beside their predicted covariance, all of it at once.

The mocks are a plain sum over cells of a sharp zenith cut with an exposure that varies by 20 %; they go through event
maps as files of events do. Seeds are fixed; a correct covariance fails a test with the probability stated there.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import sph_harm_y
from scipy.stats import chi2

from obsfit.reconstruct.direct_integration import DirectIntegration
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood, profiled_fisher
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.reconstruct.time_scrambling import TimeScrambling
from obsfit.records import EventMap, HourAngleGrid, Provenance

R, T = 32, 60
GRID = HourAngleGrid(R, T)
KEYS = [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 3)]
TRUE = 1e-3 * np.array([1 + 0.5j, -0.4 + 0.3j, 0.2 - 0.5j, 0.4 + 0.2j, -0.3 - 0.3j, 0.5 + 0.1j])


def expected_cube(latitude, cut, total):
    """Expected counts of time bin, ring and hour-angle cell, (T, R, T)."""
    fine, sub = 10, 6
    dec = -np.pi / 2 + np.pi * (np.arange(R * fine)[:, None] + 0.5) / (R * fine)
    hour = 2 * np.pi * (np.arange(T * sub) + 0.5) / (T * sub)
    lat = np.radians(latitude)
    cos_theta = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(hour)
    density = np.where(cos_theta > np.cos(np.radians(cut)), cos_theta**2, 0.0) * np.cos(dec)
    share = density.reshape(R, fine, T, sub).sum(axis=(1, 3)) / density.sum()
    middle = -np.pi / 2 + np.pi * (np.arange(R) + 0.5) / R
    alpha = 2 * np.pi * np.arange(T) / T
    sky = np.ones((R, T))
    for (ell, m), a in zip(KEYS, TRUE, strict=True):
        sky += 2 * (a * sph_harm_y(ell, m, np.pi / 2 - middle[:, None], alpha)).real
    exposure = total / T * (1 + 0.2 * np.cos(alpha + 1))
    return np.stack([exposure[t] * share * sky[:, (t - np.arange(T)) % T] for t in range(T)])


def event_maps(latitude, cut, total, number, seed):
    rng = np.random.default_rng(seed)
    cube = expected_cube(latitude, cut, total).reshape(T, R * T)
    for _ in range(number):
        yield EventMap(rng.poisson(cube), GRID, "mock", Provenance("mock"))


def parts(alm):
    return np.concatenate([np.real(alm), np.imag(alm)], axis=-1)


def likelihood_ratio(samples, covariance):
    """Probability of a larger -2 ln(likelihood ratio) of the sample covariance, with Bartlett's factor."""
    n, p = samples.shape
    n -= 1
    ratio = np.linalg.solve(covariance, np.cov(samples.T))
    statistic = n * (np.trace(ratio) - np.linalg.slogdet(ratio)[1] - p)
    factor = 1 - (2 * p + 1 - 2 / (p + 1)) / (6 * n)
    return chi2.sf(factor * statistic, p * (p + 1) / 2)


def naive_covariance(cube):
    """Inverse Fisher matrix of the same multipoles with exposure and acceptance known, cell by cell."""
    middle = -np.pi / 2 + np.pi * (np.arange(R) + 0.5) / R
    alpha = 2 * np.pi * np.arange(T) / T
    weight = np.zeros((R, T))
    for t in range(T):
        weight[:, (t - np.arange(T)) % T] += cube[t]
    functions = [2 * sph_harm_y(ell, m, np.pi / 2 - middle[:, None], alpha) for ell, m in KEYS]
    rows = np.array([f.real for f in functions] + [-f.imag for f in functions]).reshape(2 * len(KEYS), -1)
    return np.linalg.inv((rows * weight.ravel()) @ rows.T)


@pytest.mark.parametrize(("latitude", "cut", "seed"), [(19.0, 50.0, 1), (-90.0, 65.0, 2)])
def test_the_full_covariance_of_the_likelihood_is_that_of_mocks(latitude, cut, seed):
    """200 mocks; a right covariance fails with probability 0.01, and the naive one does not pass."""
    results = [LowMultipoleLikelihood().reconstruct(one) for one in event_maps(latitude, cut, 1e9, 200, seed)]
    samples = np.array([parts(result.alm) for result in results])
    covariance = results[0].covariance
    assert likelihood_ratio(samples, covariance) > 0.01
    pulls = (samples.mean(axis=0) - parts(TRUE)) / np.sqrt(np.diag(covariance) / len(samples))
    assert np.abs(pulls).max() < 4.0  # of 12 means: probability 8e-4
    naive = naive_covariance(expected_cube(latitude, cut, 1e9))
    wrong = naive if latitude > -90 else 1.5 * covariance  # at the pole next to nothing is absorbed
    assert likelihood_ratio(samples, wrong) < 1e-9


@pytest.mark.parametrize(
    ("method", "total", "number"),
    [
        (DirectIntegration(), 1e6, 150),
        (DirectIntegration(8.0), 1e6, 150),
        (TimeScrambling(3), 1e5, 150),
        (TimeScrambling(3, replace=True), 1e6, 150),
        (IterativeLikelihood(), 1e8, 100),
    ],
)
def test_the_full_covariance_of_fits_to_maps_is_that_of_mocks(method, total, number):
    """At 19 degrees, with the signal; a right covariance fails with probability 0.01."""
    rng = np.random.default_rng(7)
    maps = (method.reconstruct(one, rng=rng) for one in event_maps(19.0, 50.0, total, number, 3))
    results = [fit_multipoles(one) for one in maps]
    samples, covariance = np.array([parts(result.alm) for result in results]), results[0].covariance
    assert likelihood_ratio(samples, covariance) > 0.01
    assert likelihood_ratio(samples, 1.5 * covariance) < 1e-3


def test_errors_of_weighted_events_are_those_of_the_sandwich():
    """Weights from 1 to 3 over the hour angle, 200 mocks of 12 numbers: chance is 2.9 % of the mean square."""
    cell = 2 * np.pi * (np.arange(T) + 0.5) / T
    weight = np.tile(2 + np.sin(cell), R)
    results = []
    for one in event_maps(19.0, 50.0, 1e8, 200, 5):
        weighted = EventMap(
            one.counts * weight, GRID, "mock", Provenance("mock"), squared_weights=one.counts * weight**2
        )
        results.append((LowMultipoleLikelihood().reconstruct(weighted), profiled_fisher(weighted)))
    samples = np.array([parts(result.alm) for result, _ in results])
    covariance, fisher = results[0][0].covariance, results[0][1]

    def mean_square(inverse):
        deviation = samples - samples.mean(axis=0)
        return np.einsum("si,ij,sj->", deviation, inverse, deviation) / (12 * (len(samples) - 1))

    assert mean_square(np.linalg.inv(covariance)) == pytest.approx(1.0, abs=0.05)
    assert likelihood_ratio(samples, covariance) > 0.01
    assert abs(mean_square(fisher) - 1.0) > 0.2
