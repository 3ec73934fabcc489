"""Errors of the one-dimensional methods over Poisson mocks, with weights, modulated exposure and lopsided acceptance.

Seeds are fixed. Sums of squared pulls over all mocks and components follow chi-square: a central probability of 1e-4 on
either side is allowed, a false alarm of 2e-4 for each test and a free choice of the seed. Means are allowed 4 of their
errors in each component, a false alarm of 4e-4 for six of them.
"""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from obsfit.reconstruct.direct_integration import DirectIntegration
from obsfit.reconstruct.east_west import EastWest, east_west_events
from obsfit.reconstruct.forward_backward import ForwardBackward
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.nulls import agreement, cell_agreement, vanishing
from obsfit.reconstruct.rayleigh import Rayleigh, rayleigh
from obsfit.reconstruct.right_ascension import RightAscensionProjection
from obsfit.records.event_map import EventMap, HourAngleGrid
from obsfit.records.provenance import Provenance

N_TIME, N_DEC = 36, 18
LATITUDE = np.radians(30.0)


def expectation(n_events, *, modulation=0.4, lopsided=0.2, dipole=0.0):
    """Mean counts (time, cell) of a dipole towards right ascension zero, cell centres only."""
    angle = 2 * np.pi * (np.arange(N_TIME) + 0.5) / N_TIME
    dec = -np.pi / 2 + np.pi * (np.arange(N_DEC) + 0.5) / N_DEC
    d, h = np.meshgrid(dec, angle, indexing="ij")
    up = np.sin(LATITUDE) * np.sin(d) + np.cos(LATITUDE) * np.cos(d) * np.cos(h)
    acceptance = np.where(
        up > np.cos(np.radians(55.0)), up * np.cos(d) * (1 - lopsided * np.sin(h) * np.cos(d)), 0.0
    )
    exposure = 1 + modulation * np.cos(angle - 2.0)
    sky = 1 + dipole * np.cos(d) * np.cos(angle[:, None, None] - h)
    mean = exposure[:, None, None] * acceptance * sky
    return n_events * mean.reshape(N_TIME, -1) / mean.sum()


def drawn(mean, rng, *, weighted=False, frame="sidereal"):
    """An event map: plain Poisson counts, or events of weights 1 and 3 in equal numbers."""
    grid, source = HourAngleGrid(N_DEC, N_TIME), Provenance("mock")
    if not weighted:
        return EventMap(rng.poisson(mean).astype(float), grid, "mock", source, frame=frame)
    light, heavy = rng.poisson(0.5 * mean), rng.poisson(0.5 * mean)
    return EventMap(light + 3.0 * heavy, grid, "mock", source, light + 9.0 * heavy, frame=frame)


def check_pulls(components, covariances):
    components = np.array([c.ravel() for c in components])
    squares = [c @ np.linalg.solve(v, c) for c, v in zip(components, covariances, strict=True)]
    probability = chi2.cdf(sum(squares), components.size)
    assert 1e-4 < probability < 1 - 1e-4, (sum(squares) / components.size, probability)
    error = np.sqrt(np.mean([np.diag(v) for v in covariances], axis=0) / len(components))
    assert np.all(np.abs(components.mean(axis=0)) < 4.0 * error)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", [EastWest(harmonics=3), ForwardBackward(harmonics=3, n_bands=9)])
def test_east_west_and_forward_backward(method, weighted):
    rng = np.random.default_rng(20)
    mean = expectation(2e5)
    results = [method.reconstruct(drawn(mean, rng, weighted=weighted)) for _ in range(300)]
    check_pulls([r.components for r in results], [r.covariance for r in results])


@pytest.mark.parametrize("weighted", [False, True])
def test_rayleigh_of_maps(weighted):
    rng = np.random.default_rng(21)
    angle = 2 * np.pi * (np.arange(N_TIME) + 0.5) / N_TIME
    method = Rayleigh(harmonics=3, exposure=(tuple(1 + 0.4 * np.cos(angle - 2.0)),))
    mean = expectation(2e5)
    results = [method.reconstruct(drawn(mean, rng, weighted=weighted)) for _ in range(300)]
    check_pulls([r.components for r in results], [r.covariance for r in results])


@pytest.mark.parametrize("estimator", ["summed-counts", "mean-of-pixels"])
@pytest.mark.parametrize("map_method", [IterativeLikelihood(), DirectIntegration()])
def test_projection_of_maps(map_method, estimator):
    """Fitted exposure adds noise to a converged map, and takes some from one of direct integration."""
    rng = np.random.default_rng(22)
    mean = expectation(2e6)
    method = RightAscensionProjection(estimator=estimator, map_method=map_method)
    results = [method.reconstruct(drawn(mean, rng)) for _ in range(120)]
    check_pulls([r.components for r in results], [r.covariance for r in results])


@pytest.mark.parametrize("weighted", [False, True])
def test_projection_over_ring_means(weighted):
    rng = np.random.default_rng(23)
    mean = expectation(2e5, modulation=0.0)
    method = RightAscensionProjection()
    results = [method.reconstruct(drawn(mean, rng, weighted=weighted)) for _ in range(300)]
    check_pulls([r.components for r in results], [r.covariance for r in results])


def test_single_events_with_weights():
    """East-West and Rayleigh on lists; weights between 0.5 and 4."""
    rng = np.random.default_rng(24)
    east_west, sums = [], []
    for _ in range(200):
        n = rng.poisson(800)
        tau, azimuth = rng.uniform(0, 2 * np.pi, (2, n))
        zenith = np.arcsin(np.sqrt(rng.uniform(0, 0.75, n)))
        weights = rng.uniform(0.5, 4.0, n)
        east_west.append(east_west_events(tau, azimuth, zenith, weights=weights))
        sums.append(rayleigh(tau, weights=weights, harmonics=3))
    check_pulls([r.components for r in east_west], [r.covariance for r in east_west])
    check_pulls([r.components for r in sums], [r.covariance for r in sums])


def test_chance_probabilities_are_uniform():
    """Lists of nine weighted events, where no asymptotic formula holds: Kolmogorov-Smirnov p above 1e-3."""
    rng = np.random.default_rng(25)
    found = [
        rayleigh(rng.uniform(0, 2 * np.pi, 9), weights=rng.uniform(0.2, 3.0, 9)).chance_probability[0]
        for _ in range(400)
    ]
    assert kstest(found, "uniform").pvalue > 1e-3


def test_upper_limits_of_a_known_dipole_cover():
    """East-West and a dipole of 3 %: the limit at 90 % is above it in 90 % of 300 mocks, within 4 binomial errors."""
    rng = np.random.default_rng(26)
    mean = expectation(4e5, dipole=0.03)
    truth = np.hypot(*EastWest().reconstruct(drawn(1e6 * mean, rng)).components[0])
    assert truth == pytest.approx(0.03, rel=0.03)
    above = 0
    for _ in range(300):
        result = EastWest().reconstruct(drawn(mean, rng))
        amplitude, sigma = result.amplitude[0], np.sqrt(0.5 * np.trace(result.covariance))
        above += amplitude + 1.2816 * sigma > truth
    assert abs(above / 300 - 0.9) < 4.0 * np.sqrt(0.09 / 300)


def test_nulls_are_uniform_without_a_signal():
    """Vanishing, agreement of three epochs and of cells: Kolmogorov-Smirnov p above 1e-3 each."""
    rng = np.random.default_rng(27)
    mean = expectation(1.5e6)
    zero, equal, isotropic, same = [], [], [], []
    for _ in range(120):
        epochs = [drawn(mean, rng, frame="anti-sidereal") for _ in range(3)]
        results = [EastWest(harmonics=2).reconstruct(e) for e in epochs]
        zero.append(vanishing(results[0]).probability)
        equal.append(agreement(results).probability)
        maps = [IterativeLikelihood().reconstruct(e) for e in epochs[:2]]
        isotropic.append(cell_agreement(maps[0]).probability)
        same.append(cell_agreement(*maps).probability)
    for found in (zero, equal, isotropic, same):
        assert kstest(found, "uniform").pvalue > 1e-3


def test_cells_of_direct_integration_have_the_stated_freedom():
    """Mean chi-square over 200 maps within 4 errors of the stated degrees of freedom."""
    rng = np.random.default_rng(28)
    mean = expectation(3e6, modulation=0.0)
    tests = [cell_agreement(DirectIntegration().reconstruct(drawn(mean, rng))) for _ in range(200)]
    freedom = tests[0].degrees_of_freedom
    mean_square = np.mean([t.chi_square for t in tests])
    assert abs(mean_square - freedom) < 4.0 * np.sqrt(2.0 * freedom / 200)
