"""Significance of counts in an on region against counts elsewhere, or against a known background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

FloatArray = NDArray[np.float64]

_SERIES_BELOW = 0.02
"""Below this size of x, (1 + x) ln(1 + x) - x is summed as a series, whose tenth term is then 1e-17 of the first."""
_TERMS = 10


def li_ma_significance(
    n_on: ArrayLike,
    n_off: ArrayLike,
    alpha: ArrayLike,
    *,
    squared_on: ArrayLike | None = None,
    squared_off: ArrayLike | None = None,
) -> FloatArray:
    r"""Return the significance of an excess of counts in Gaussian standard deviations, negative for a deficit.

    .. math:: S = \pm\sqrt2 \left\{ n_{on} \ln\frac{(1+\alpha)\, n_{on}}{\alpha (n_{on}+n_{off})}
              + n_{off} \ln\frac{(1+\alpha)\, n_{off}}{n_{on}+n_{off}} \right\}^{1/2}

    Eq. (17) of Li and Ma (1983), the square root of twice the log-likelihood ratio of two Poisson counts; its first
    order in the relative excess is Eq. (4) of AM17.

    Parameters
    ----------
    n_on, n_off : array_like, shape (...)
        Counts, or sums of weights, in the on and off regions. Not negative.
    alpha : array_like, shape (...)
        Exposure of the on region over that of the off region, above zero. For a background made of k resampled
        copies of the data and scaled by 1/k, ``alpha = 1/k`` and ``n_off`` the sum before scaling.
    squared_on, squared_off : array_like, shape (...), optional
        Sums of squared weights in the two regions; both or neither. Without them counts are Poisson.

    Returns
    -------
    ndarray, shape (...)

    Raises
    ------
    ValueError
        If a count is negative or not finite, alpha is not positive, only one sum of squares is given, or a sum of
        squares is not positive where there are counts.

    Notes
    -----
    Weighted counts are divided by one effective weight, that of both regions together, :math:`(q_{on} + q_{off}) /
    (n_{on} + n_{off})` with q the sums of squares: right where the weights have one distribution in both regions, as
    they do for events of one kind. A common factor of all weights changes nothing.

    With d the excess over what both counts together predict, the braces are :math:`b\,h(d/b) + c\,h(-d/c)` of
    :math:`h(x) = (1+x)\ln(1+x) - x`, in which no large numbers cancel: counts of 1e12 keep all digits of S.

    Examples
    --------
    >>> float(li_ma_significance(4.0, 5.0, 0.2).round(3))
    1.947
    >>> float(li_ma_significance(8.0, 10.0, 0.2, squared_on=16.0, squared_off=20.0).round(3))
    1.947
    """
    on, off, ratio = (_counts(n_on, "n_on"), _counts(n_off, "n_off"), np.asarray(alpha, dtype=np.float64))
    if not np.all((ratio > 0.0) & np.isfinite(ratio)):
        raise ValueError(
            f"alpha between {ratio.min()} and {ratio.max()}: expected positive numbers; for a known background use "
            "poisson_significance"
        )
    total = on + off
    excess = (on - ratio * off) / (1.0 + ratio)
    in_on, in_off = ratio * total / (1.0 + ratio), total / (1.0 + ratio)
    square = 2.0 * (_scaled(in_on, excess) + _scaled(in_off, -excess))
    if (squared_on is None) != (squared_off is None):
        raise ValueError("squared_on and squared_off: expected both or neither")
    if squared_on is not None and squared_off is not None:
        q_on, q_off = _counts(squared_on, "squared_on"), _counts(squared_off, "squared_off")
        squares = q_on + q_off
        if np.any((squares <= 0.0) & (total > 0.0)):
            raise ValueError("sums of squared weights: expected positive numbers where there are counts")
        square = square * np.divide(total, squares, out=np.zeros_like(square), where=squares > 0.0)
    return np.asarray(np.sign(excess) * np.sqrt(square), dtype=np.float64)


def poisson_significance(n: ArrayLike, background: ArrayLike, *, squared: ArrayLike | None = None) -> FloatArray:
    r"""Return the significance of counts against a known background, the limit of `li_ma_significance` for alpha to 0.

    .. math:: S = \pm\sqrt{2}\,\{n \ln(n/b) - n + b\}^{1/2}

    Parameters
    ----------
    n : array_like, shape (...)
        Counts, or sums of weights.
    background : array_like, shape (...)
        Expected counts b, above zero, taken as exact.
    squared : array_like, shape (...), optional
        Variance of n, the sum of squared weights; S is then that of the counts :math:`n\,b/\mathrm{squared}`.

    Raises
    ------
    ValueError
        If a count is negative or not finite, or a background or a variance is not positive.

    Examples
    --------
    >>> float(poisson_significance(110.0, 100.0).round(4))
    0.984
    """
    count, expected = _counts(n, "n"), _counts(background, "background")
    if not np.all(expected > 0.0):
        raise ValueError("background: expected positive numbers, found zero")
    square = 2.0 * _scaled(expected, count - expected)
    if squared is not None:
        variance = _counts(squared, "squared")
        if not np.all(variance > 0.0):
            raise ValueError("squared: expected positive numbers, found zero")
        square = square * expected / variance
    return np.asarray(np.sign(count - expected) * np.sqrt(square), dtype=np.float64)


def _scaled(expected: FloatArray, excess: FloatArray) -> FloatArray:
    """Return b h(d/b) of h(x) = (1 + x) ln(1 + x) - x, zero where b is zero."""
    x = np.divide(excess, expected, out=np.zeros(np.broadcast(excess, expected).shape), where=expected > 0.0)
    # Rounding of d may leave an empty region at -1 - 1e-16.
    x = np.maximum(x, -1.0)
    series = np.zeros_like(x)
    for k in range(_TERMS + 1, 1, -1):
        series = (1.0 if k % 2 == 0 else -1.0) / (k * (k - 1)) + x * series
    return expected * np.where(np.abs(x) < _SERIES_BELOW, x**2 * series, xlogy(1.0 + x, 1.0 + x) - x)


def _counts(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    good = np.isfinite(array) & (array >= 0.0)
    if not np.all(good):
        raise ValueError(f"{name}: {array[~good].flat[0]}, expected finite numbers that are not negative")
    return array
