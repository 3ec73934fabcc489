"""Convergence of chains: autocorrelation time, effective sample size, R-hat."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import emcee
import numpy as np

from obsfit.infer.circles import Circle, as_vectors
from obsfit.parameters import FloatArray


def autocorrelation_time(chain: FloatArray, circles: Sequence[Circle | None] | None = None) -> FloatArray:
    """Integrated autocorrelation time of each parameter in steps, shape (n_par,), averaged over walkers.

    Of a circular parameter it is the longer of those of cosine and sine.

    Parameters
    ----------
    chain : ndarray, shape (n_steps, n_walkers, n_par)
        After burn-in. An estimate from fewer than about 50 times itself is too small; a walker that has not moved
        at all counts as one that needs the whole chain.
    circles : sequence of Circle or None, length n_par, optional
        Circles of the parameters. Default: all are on lines.
    """
    moved = np.ptp(chain, axis=0) > 0
    if not moved.all():
        return np.full(chain.shape[2], float(len(chain)))
    numbers = as_vectors(chain, circles or [None] * chain.shape[2])
    return np.array([emcee.autocorr.integrated_time(x, tol=0, quiet=True).max() for x in numbers])


def sample_sizes(
    chain: FloatArray, circles: Sequence[Circle | None] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Bulk effective sample size and rank-normalised R-hat over walkers, each of shape (n_par,).

    Of a circular parameter they are the smaller size and the larger R-hat of cosine and sine.

    Walkers of an ensemble are not independent chains: both numbers are indications, the autocorrelation time is the
    criterion by which a run stops.

    Parameters
    ----------
    chain : ndarray, shape (n_steps, n_walkers, n_par)
        After burn-in.
    circles : sequence of Circle or None, length n_par, optional
        As `autocorrelation_time`.
    """
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]  # not declared as exported

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ess, r_hat = [], []
        for numbers in as_vectors(chain, circles or [None] * chain.shape[2]):
            each = np.moveaxis(numbers, 2, 0)
            ess.append(min(float(array_stats.ess(x, chain_axis=1, draw_axis=0)) for x in each))
            r_hat.append(max(float(array_stats.rhat(x, chain_axis=1, draw_axis=0)) for x in each))
    return np.array(ess), np.array(r_hat)
