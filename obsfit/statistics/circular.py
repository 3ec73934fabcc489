"""Circular statistics: the chance length of a sum of random unit vectors, and limits on a true amplitude."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import chndtrinc, i0e, i1e, ive, j0, j1, jn_zeros
from scipy.stats import ncx2, norm

__all__ = [
    "LimitMethod",
    "amplitude_upper_limit",
    "gaussian_chance_probability",
    "isotropic_amplitude",
    "rayleigh_probability",
]

FloatArray = NDArray[np.float64]
LimitMethod = Literal["uniform-amplitude", "uniform-components", "neyman"]

# Below this probability the series, whose rounding error is absolute, gives way to the saddle point.
SERIES_FLOOR = 1e-9
# Three vectors, whose series is the slowest, need as many for 1e-9.
MOST_TERMS = 40_960
# The walk is longer than this many root sums of squares with a probability below exp(-81).
LONGEST = 9.0


def rayleigh_probability(
    resultant: float, *, n_events: int | None = None, weights: ArrayLike | None = None
) -> float:
    r"""Return the exact probability that weighted unit vectors in random directions add up to at least a length.

    For directions that are independent and uniform, the length R of the sum of vectors of lengths w_i has the
    characteristic function :math:`\varphi(t) = \prod_i J_0(w_i t)`, and on any disc of radius L that R cannot leave
    its distribution is the Fourier-Bessel series

    .. math:: P(R < r) = \sum_k \frac{2 r}{L\, j_k J_1(j_k)^2}\, \varphi(j_k/L)\, J_1(j_k r/L),

    with the zeros :math:`j_k` of :math:`J_0`: the integral of Kluyver (1906) without its oscillations. Where the
    events are many, the disc is the one that R leaves with a probability below exp(-81). Probabilities below 1e-9
    come from the saddle point in the plane, with :math:`K(s) = \sum_i \ln I_0(w_i s)` and :math:`K'(s_r) = r`,

    .. math:: P(R \ge r) \approx \int_{s_r}^\infty \sqrt{s\, K'(s) K''(s)}\; e^{K(s) - s K'(s)}\, ds,

    whose relative error is below 1.5/N_eff, N_eff = (sum w)^2 / sum w^2. For many events both tend to
    :math:`e^{-r^2/\sum w_i^2}`.

    Parameters
    ----------
    resultant : float
        Length r of the observed sum, not negative. For the Rayleigh amplitude a of N events it is N a / 2.
    n_events : int
        Number of vectors of length one; or else
    weights : array_like, shape (n,)
        Lengths w_i, not negative. They must not depend on the directions.

    Raises
    ------
    ValueError
        If both or none of `n_events` and `weights` are given, or a value is out of range.

    Examples
    --------
    >>> round(rayleigh_probability(np.sqrt(2.0), n_events=2), 12)   # two vectors at a right angle or less
    0.5
    """
    values, counts = _lengths(n_events, weights)
    if not np.isfinite(resultant) or resultant < 0.0:
        raise ValueError(f"resultant {resultant}: expected a finite length that is not negative")
    total, squares = float(values @ counts), float(values**2 @ counts)
    if resultant > total * (1.0 + 1e-12):
        return 0.0
    if resultant == 0.0:
        return 1.0
    n_vectors = int(counts.sum())
    if n_vectors == 1:
        return 1.0
    if n_vectors == 2:
        first, second = np.repeat(values, counts)
        cosine = (resultant**2 - first**2 - second**2) / (2.0 * first * second)
        return float(np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi)
    radius = min(total, LONGEST * np.sqrt(squares))
    if resultant < radius:
        probability = 1.0 - _series(resultant, radius, values, counts)
        if probability > SERIES_FLOOR:
            return float(min(probability, 1.0))
    if resultant >= total * (1.0 - 1e-9):
        return 0.0
    return _saddle_point(resultant, values, counts)


def gaussian_chance_probability(components: ArrayLike, covariance: ArrayLike) -> float:
    r"""Return the probability that noise alone gives Gaussian components as far from zero.

    .. math:: P = Q(\nu/2, \chi^2/2), \quad \chi^2 = c^T C^{-1} c, \qquad \text{for two components} \; e^{-\chi^2/2}

    Parameters
    ----------
    components : array_like, shape (n,)
        Measured components c.
    covariance : array_like, shape (n, n)
        Their covariance C.

    Raises
    ------
    ValueError
        If the shapes do not fit or the covariance is not positive definite.

    Examples
    --------
    >>> float(round(gaussian_chance_probability([2.0, 0.0], np.eye(2)), 6))
    0.135335
    """
    vector, matrix = np.asarray(components, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if vector.ndim != 1 or matrix.shape != (vector.size, vector.size):
        raise ValueError(f"components {vector.shape} and covariance {matrix.shape}: expected (n,) and (n, n)")
    try:
        root = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"covariance with eigenvalues {np.linalg.eigvalsh(matrix)}: expected them positive"
        ) from None
    white = np.linalg.solve(root, vector)
    return float(ncx2.sf(white @ white, vector.size, 0.0))


def isotropic_amplitude(sigma: float, confidence: float) -> float:
    r"""Return the amplitude that noise alone exceeds with probability 1 - confidence.

    .. math:: a = \sigma \sqrt{-2 \ln(1 - \mathrm{CL})}

    Parameters
    ----------
    sigma : float
        Noise of each of the two components; sqrt(2/N) for a Rayleigh amplitude of N events.
    confidence : float
        CL, in (0, 1).

    Examples
    --------
    >>> float(round(isotropic_amplitude(1.0, 0.99), 4))   # sqrt(4 ln 100 / N) for sigma = sqrt(2/N)
    3.0349
    """
    _check_limit(0.0, sigma, confidence)
    return float(sigma * np.sqrt(-2.0 * np.log1p(-confidence)))


def amplitude_upper_limit(
    amplitude: float, sigma: float, confidence: float, *, method: LimitMethod = "uniform-amplitude"
) -> float:
    r"""Return an upper limit on the true amplitude of two components that were measured with equal Gaussian noise.

    The measured amplitude a of a true amplitude s has the density of Rice,
    :math:`(a/\sigma^2)\, e^{-(a^2+s^2)/2\sigma^2} I_0(a s/\sigma^2)`. The limit is

    * "uniform-amplitude": the quantile CL of the posterior for a prior uniform in s, after Linsley (1975), as searches
      for large-scale anisotropy quote it; for a = 0 the half normal quantile;
    * "uniform-components": the same for a prior uniform in the plane of the components; for a = 0 it is
      :math:`\sigma\sqrt{-2\ln(1-\mathrm{CL})}`;
    * "neyman": the s for which an amplitude as small as a has probability 1 - CL. It covers exactly, and is zero where
      even s = 0 seldom gives so little.

    Parameters
    ----------
    amplitude : float
        Measured amplitude, not negative.
    sigma : float
        Noise of each component, positive.
    confidence : float
        CL, in (0, 1).
    method : str
        One of the three.

    Raises
    ------
    ValueError
        If a value is out of range or the method unknown.

    Examples
    --------
    >>> float(round(amplitude_upper_limit(0.0, 1.0, 0.95), 3))
    1.96
    >>> float(round(amplitude_upper_limit(10.0, 1.0, 0.95, method="neyman"), 2))
    11.6
    """
    _check_limit(amplitude, sigma, confidence)
    ratio = amplitude / sigma
    if method == "uniform-components":
        return float(sigma * np.sqrt(ncx2.ppf(confidence, 2, ratio**2)))
    if method == "neyman":
        if -np.expm1(-0.5 * ratio**2) <= 1.0 - confidence:
            return 0.0
        return float(sigma * np.sqrt(chndtrinc(ratio**2, 2, 1.0 - confidence)))
    if method != "uniform-amplitude":
        raise ValueError(f"method {method!r}: expected uniform-amplitude, uniform-components or neyman")
    return float(sigma * _uniform_amplitude(ratio, confidence))


def _uniform_amplitude(ratio: float, confidence: float) -> float:
    """Quantile of the density exp(-(s - ratio)^2 / 2) i0e(s ratio) of s > 0."""
    # int exp(-s^2/2) I_0(s r) ds = sqrt(pi/2) exp(r^2/4) I_0(r^2/4)
    whole = np.sqrt(0.5 * np.pi) * ive(0, 0.25 * ratio**2)

    def missing(limit: float) -> float:
        peak = [ratio] if 0.0 < ratio < limit else None
        inside = quad(
            lambda s: np.exp(-0.5 * (s - ratio) ** 2) * i0e(s * ratio),
            max(0.0, ratio - 40.0),
            limit,
            points=peak,
            epsabs=0.0,
            epsrel=1e-11,
            limit=200,
        )[0]
        return float(inside / whole - confidence)

    highest = ratio + float(norm.isf(0.25 * (1.0 - confidence))) + 2.0
    return float(brentq(missing, max(0.0, ratio - 39.0), highest, xtol=1e-12, rtol=1e-12))


def _lengths(n_events: int | None, weights: ArrayLike | None) -> tuple[FloatArray, NDArray[np.int64]]:
    """Distinct positive lengths and how often each occurs."""
    if (n_events is None) == (weights is None):
        raise ValueError(f"n_events {n_events} and weights: expected one of the two")
    if weights is None:
        if n_events is None or n_events < 1:
            raise ValueError(f"n_events {n_events}: expected at least one")
        return np.ones(1), np.array([n_events], dtype=np.int64)
    lengths = np.asarray(weights, dtype=np.float64)
    if lengths.ndim != 1 or not np.all(np.isfinite(lengths)) or np.any(lengths < 0.0) or not np.any(lengths > 0.0):
        raise ValueError(
            f"weights of shape {lengths.shape}: expected (n,), finite, none negative, at least one positive"
        )
    values, counts = np.unique(lengths[lengths > 0.0], return_counts=True)
    return values, counts.astype(np.int64)


def _series(resultant: float, radius: float, values: FloatArray, counts: NDArray[np.int64]) -> float:
    """P(R < resultant) by the Fourier-Bessel series on a disc of the given radius."""
    # The characteristic function is Gaussian for many vectors, but falls off as t^(-n/2) for few.
    largest = int(np.clip(4_000_000 // values.size, 4, 1024))
    total, start, block = 0.0, 0, min(32, largest)
    zeros = _zeros(256)
    while start < MOST_TERMS:
        if start + block > zeros.size:
            zeros = _zeros(MOST_TERMS)
        j = zeros[start : start + block]
        factors = j0(np.outer(j / radius, values))
        characteristic = np.prod(factors if np.all(counts == 1) else factors**counts, axis=1)
        terms = characteristic * j1(j * resultant / radius) / (j * j1(j) ** 2)
        total += float(terms.sum())
        if np.abs(terms).sum() < 1e-16:
            break
        start, block = start + block, min(2 * block, largest)
    return float(2.0 * resultant / radius * total)


def _zeros(n_terms: int) -> FloatArray:
    """Zeros of J_0: the first from scipy, the rest by the expansion of McMahon, good to 1e-15 there."""
    first = jn_zeros(0, min(n_terms, 400))
    b = (np.arange(401, n_terms + 1) - 0.25) * np.pi
    rest = b + 1.0 / (8.0 * b) - 124.0 / (3.0 * (8.0 * b) ** 3) + 120928.0 / (15.0 * (8.0 * b) ** 5)
    return np.concatenate([first, rest])


def _saddle_point(resultant: float, values: FloatArray, counts: NDArray[np.int64]) -> float:
    """P(R >= resultant) in the far tail."""

    def cumulants(s: float) -> tuple[float, float, float]:
        x = values * s
        ratio = i1e(x) / i0e(x)
        zeroth = float(counts @ (np.log(i0e(x)) + x))
        second = float(counts @ (values**2 * (1.0 - ratio / x - ratio**2)))
        return zeroth, float(counts @ (values * ratio)), second

    squares = float(values**2 @ counts)
    low = 2.0 * resultant / squares
    high = low
    while cumulants(high)[1] < resultant:
        high *= 2.0
    start = low if high == low else float(brentq(lambda s: cumulants(s)[1] - resultant, low, high, rtol=1e-13))
    zeroth, first, _ = cumulants(start)
    largest = zeroth - start * first

    def integrand(s: float) -> float:
        k, k1, k2 = cumulants(s)
        return float(np.sqrt(s * k1 * max(k2, 0.0)) * np.exp(k - s * k1 - largest))

    # The integrand falls off as exp(-s^2 sum w^2 / 4), or more slowly where the walk is nearly straight.
    end = np.sqrt(start**2 + 140.0 / squares)
    while integrand(end) > 1e-14 * integrand(start) and end < 1e6 * start:
        end *= 1.5
    nodes, weights = leggauss(48)
    half = 0.5 * np.log(end / start)
    s = start * np.exp(half * (nodes + 1.0))
    area = half * sum(weight * x * integrand(x) for weight, x in zip(weights, s, strict=True))
    return float(area * np.exp(largest))


def _check_limit(amplitude: float, sigma: float, confidence: float) -> None:
    if not (np.isfinite(amplitude) and amplitude >= 0.0 and np.isfinite(sigma) and sigma > 0.0):
        raise ValueError(
            f"amplitude {amplitude}, sigma {sigma}: expected amplitude >= 0 and sigma > 0, both finite"
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: expected a probability between 0 and 1")
