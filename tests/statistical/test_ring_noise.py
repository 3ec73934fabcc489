"""Noise of the free map on rings, against the closed form, with mocks drawn cell by cell."""

import numpy as np
import pytest
from scipy.stats import chi2

from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood, convergence_factors
from obsfit.records.event_map import EventMap, HourAngleGrid
from obsfit.records.provenance import Provenance


def field(n_dec, n_time):
    """Arcs of hour angle with random weights, in all bands but one."""
    rng = np.random.default_rng(3)
    acceptance = np.zeros((n_dec, n_time))
    for r in range(n_dec - 1):
        cells = (rng.integers(4) + np.arange(n_time // 3 + rng.integers(5))) % n_time
        acceptance[r, cells] = rng.uniform(0.5, 1.5, cells.size)
    return acceptance


def test_noise_of_a_free_map_grows_by_the_inverse_of_one_minus_the_factor():
    r"""Covariance of the waves of the rings over mocks of an isotropic sky and uniform exposure.

    For amplitudes (1/T) sum_k I_rk e^{-imkD} it is delta_rr' / s_r + v_r* v_r' / (n (1 - rho_m)) with
    v_r = \hat n_r(m) / n_r: the sky cell k of an error of exposure is its time bin less the hour angle.
    Likelihood ratio of 600 Gaussian vectors of each m against it; false alarm 1e-3.
    """
    n_dec, n_time, n_mocks = 5, 24, 600
    rng = np.random.default_rng(20)
    acceptance = field(n_dec, n_time)
    acceptance *= 3e6 / (n_time * acceptance.sum())
    seen = np.flatnonzero(acceptance.any(axis=1))
    grid = HourAngleGrid(n_dec, n_time)
    maps = np.empty((n_mocks, seen.size, n_time))
    for i in range(n_mocks):
        counts = rng.poisson(np.broadcast_to(acceptance, (n_time, n_dec, n_time))).astype(float)
        events = EventMap(counts.reshape(n_time, -1), grid, "mock", Provenance("mock"))
        maps[i] = IterativeLikelihood(tolerance=1e-8).reconstruct(events).relative_intensity[seen]
    cells = np.arange(n_time)
    events_of_ring = n_time * acceptance[seen].sum(axis=1)
    probabilities = []
    for m in (1, 2, 3, 6):
        wave = np.exp(-2j * np.pi * m * cells / n_time)
        found = maps @ wave / n_time
        v = acceptance[seen] @ wave / acceptance[seen].sum(axis=1)
        rho = np.sum(events_of_ring * np.abs(v) ** 2) / events_of_ring.sum()
        assert convergence_factors([acceptance])[m, 0, 0] == pytest.approx(rho, abs=1e-12)
        covariance = np.diag(1 / events_of_ring) + np.outer(v.conj(), v) / (events_of_ring.sum() * (1 - rho))
        sample = found.T @ found.conj() / n_mocks
        ratio = np.linalg.solve(covariance, sample)
        n = seen.size
        statistic = 2 * n_mocks * (np.trace(ratio).real - n - np.linalg.slogdet(ratio)[1])
        # n^2 real parameters of a Hermitian covariance.
        probabilities.append(chi2.sf(statistic, n**2))
        if m == 1:
            # Poisson noise alone is not enough.
            naive = events_of_ring[:, None] * sample
            assert 2 * n_mocks * (np.trace(naive).real - n - np.linalg.slogdet(naive)[1]) > 100
    assert min(probabilities) > 1e-3 / 4
