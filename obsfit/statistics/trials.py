"""The look-elsewhere effect: how often a search of many places finds as much by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GlobalProbability:
    """Chance of a maximum at least as large as the observed one, from toys.

    Attributes
    ----------
    p_value : float
        (k + 1) / (n + 1) of k toys among n that reach the observed maximum: never zero, and false alarms are no more
        frequent than it says, whatever the number of toys.
    low, high : float
        68.3 % interval of Clopper and Pearson for the chance itself.
    reached, n_toys : int
        k and n.
    """

    p_value: float
    low: float
    high: float
    reached: int
    n_toys: int

    @property
    def significance(self) -> float:
        """One-sided Gaussian standard deviations of `p_value`."""
        return float(norm.isf(self.p_value))


def global_probability(observed: float, toys: ArrayLike) -> GlobalProbability:
    """Return the chance that a search without a signal finds a maximum as large as the observed one.

    Parameters
    ----------
    observed : float
        Largest value of the search in the data.
    toys : array_like, shape (n,)
        Largest value of the same search in each of n data sets without a signal. The search must be the whole one:
        all places, all radii and all energies that were looked at.

    Raises
    ------
    ValueError
        If there are no toys, or a value is not finite.

    Examples
    --------
    >>> global_probability(3.5, [2.0, 3.0, 4.0]).p_value
    0.5
    """
    maxima = np.asarray(toys, dtype=np.float64)
    if maxima.ndim != 1 or maxima.size == 0 or not np.all(np.isfinite(maxima)) or not np.isfinite(observed):
        raise ValueError(f"observed {observed}, toys of shape {maxima.shape}: expected finite numbers, shape (n,)")
    n, k = maxima.size, int(np.count_nonzero(maxima >= observed))
    tail = float(norm.sf(1.0))
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.isf(tail, k + 1, n - k))
    return GlobalProbability((k + 1) / (n + 1), low, high, k, n)


def sidak_probability(p_local: ArrayLike, n_trials: float) -> FloatArray:
    r"""Return the chance that the smallest of independent trials is as small, :math:`1 - (1 - p)^n`.

    For trials that are positively correlated, as Gaussian ones in overlapping discs are, it is an upper bound: a
    search of n pixels is no more likely than this to find as much. It needs no toys.

    Parameters
    ----------
    p_local : array_like, shape (...)
        Chance at one place.
    n_trials : float
        Number n of places.

    Raises
    ------
    ValueError
        If a chance is outside [0, 1] or there is less than one trial.

    Examples
    --------
    >>> float(sidak_probability(0.01, 10).round(5))
    0.09562
    """
    p = np.asarray(p_local, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError(f"p_local between {p.min()} and {p.max()}: expected probabilities in [0, 1]")
    if not n_trials >= 1.0:
        raise ValueError(f"n_trials {n_trials}: expected a number of at least 1")
    # The powers of numbers close to one lose what small chances are made of; log1p(-1) is minus infinity, rightly.
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(n_trials * np.log1p(-p)), dtype=np.float64)


def effective_trials(p_local: float, p_global: float) -> float:
    r"""Return the number of independent trials with the same effect, :math:`\ln(1-p_{global})/\ln(1-p_{local})`.

    It depends on the height: quote it with the p_local it belongs to.

    Parameters
    ----------
    p_local, p_global : float
        Chances at one place and anywhere, in (0, 1).

    Raises
    ------
    ValueError
        If a chance is not in (0, 1).

    Examples
    --------
    >>> round(effective_trials(0.01, 0.0956179), 3)
    10.0
    """
    if not (0.0 < p_local < 1.0 and 0.0 < p_global < 1.0):
        raise ValueError(f"p_local {p_local} and p_global {p_global}: expected probabilities in (0, 1)")
    return float(np.log1p(-p_global) / np.log1p(-p_local))
