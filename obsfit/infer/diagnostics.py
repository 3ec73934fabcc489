"""Convergence of chains: autocorrelation time, effective sample size, R-hat."""

from __future__ import annotations

import warnings

import emcee
import numpy as np

from obsfit.parameters import FloatArray


def autocorrelation_time(chain: FloatArray) -> FloatArray:
    """Integrated autocorrelation time of each parameter in steps, shape (n_par,), averaged over walkers.

    Parameters
    ----------
    chain : ndarray, shape (n_steps, n_walkers, n_par)
        After burn-in. An estimate from fewer than about 50 times itself is too small; a walker that has not moved
        at all counts as one that needs the whole chain.
    """
    moved = np.ptp(chain, axis=0) > 0
    if not moved.all():
        return np.full(chain.shape[2], float(len(chain)))
    return np.asarray(emcee.autocorr.integrated_time(chain, tol=0, quiet=True), dtype=np.float64)


def sample_sizes(chain: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bulk effective sample size and rank-normalised R-hat over walkers, each of shape (n_par,).

    Walkers of an ensemble are not independent chains: both numbers are indications, the autocorrelation time is the
    criterion by which a run stops.

    Parameters
    ----------
    chain : ndarray, shape (n_steps, n_walkers, n_par)
        After burn-in.
    """
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]  # not declared as exported

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_parameter = [chain[:, :, index] for index in range(chain.shape[2])]
        ess = [float(array_stats.ess(x, chain_axis=1, draw_axis=0)) for x in by_parameter]
        r_hat = [float(array_stats.rhat(x, chain_axis=1, draw_axis=0)) for x in by_parameter]
    return np.array(ess), np.array(r_hat)
