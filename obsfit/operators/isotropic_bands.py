"""Published bands of isotropic skies: what they say of the window of an analysis and of its noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.stats import chi2

from obsfit.errors import ObsfitError
from obsfit.operators.pseudo import DeclinationWindow, band_noise, data_noise
from obsfit.records.spectrum import PowerSpectrum

FloatArray = NDArray[np.float64]

LEVELS = (0.025, 0.975)
"""Probabilities below the edges of a published 95 % band."""
_TALBOT = 22
"""Terms of the inversion of a Laplace transform; rounding grows with more."""


@dataclass(frozen=True)
class BandFit:
    """What the isotropic band of a spectrum says of its window.

    Attributes
    ----------
    exponent, exponent_error : float
        Exponent of the weight, which is that of the counts.
    events, events_error : float
        Events inside the declination band.
    chi_square : float
        Of the edges about the best fit.
    n_edges : int
        Number of edges in the fit; two parameters were fitted.
    """

    exponent: float
    exponent_error: float
    events: float
    events_error: float
    chi_square: float
    n_edges: int


def power_cumulative(power: float, coefficients: ArrayLike) -> float:
    r"""Return the probability that a power of Gaussian modes is below a value.

    The power is :math:`\sum_i c_i y_i^2` with independent standard normal y: the power at one multipole of a sky whose
    modes have unequal variances. Its Laplace transform :math:`\prod_i (1 + 2 c_i s)^{-1/2}` is inverted on Talbot's
    contour (fixed-Talbot method of Abate and Valko 2004); absolute error below 1e-7.

    Parameters
    ----------
    power : float
        Value, at least zero.
    coefficients : array_like, shape (k,)
        Positive coefficients c.

    Examples
    --------
    >>> round(power_cumulative(2.0, [1.0, 1.0]), 6)  # 1 - exp(-1)
    0.632121
    """
    if power <= 0.0:
        return 0.0
    c = np.asarray(coefficients, dtype=np.float64)
    if c.ndim != 1 or c.size == 0 or not np.all(c > 0.0):
        raise ValueError(f"coefficients {c.tolist()}: expected positive numbers in one dimension")
    scale = float(c.sum())
    c, q = c / scale, power / scale
    rate = 2.0 * _TALBOT / (5.0 * q)
    angle = np.arange(1, _TALBOT) * np.pi / _TALBOT
    cotangent = 1.0 / np.tan(angle)
    s = rate * angle * (cotangent + 1j)
    slope = 1.0 + 1j * (angle + (angle * cotangent - 1.0) * cotangent)
    # Principal roots of each factor: their cuts lie on the negative real axis, inside the contour.
    transform = np.prod((1.0 + 2.0 * c[:, None] * s) ** -0.5, axis=0) / s
    first = 0.5 * np.exp(rate * q) * np.prod((1.0 + 2.0 * c * rate) ** -0.5) / rate
    return float(rate / _TALBOT * (first + np.sum((np.exp(s * q) * transform * slope).real)))


def power_quantile(probability: float, coefficients: ArrayLike) -> float:
    """Return the power below which a fraction `probability` of draws falls, see `power_cumulative`.

    Parameters
    ----------
    probability : float
        In (0, 1).
    coefficients : array_like, shape (k,)
        Positive coefficients.

    Examples
    --------
    >>> round(power_quantile(0.975, [1.0]), 5)
    5.02389
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability {probability}: expected a number between 0 and 1")
    c = np.asarray(coefficients, dtype=np.float64)
    mean = float(c.sum())
    return float(
        brentq(lambda x: power_cumulative(x * mean, c) - probability, 1e-7, 60.0, xtol=1e-12, rtol=1e-10) * mean
    )


def read_band(low: float, high: float) -> tuple[float, float]:
    r"""Return degrees of freedom nu and mean of the scaled chi-square whose 95 % interval has the edges of a band.

    The 2.5 and 97.5 % quantiles of mean / nu times a chi-square of nu degrees are `low` and `high`. For modes of
    unequal variance this is a way of reading, not their number: compare bands and models that are read alike.

    Parameters
    ----------
    low, high : float
        Edges, 0 < low < high.

    Examples
    --------
    >>> [round(value, 6) for value in read_band(*chi2.ppf([0.025, 0.975], 5.0))]
    [5.0, 5.0]
    """
    if not 0.0 < low < high:
        raise ValueError(f"edges {low} and {high}: expected 0 < low < high")

    def excess(log_nu: float) -> float:
        edges = chi2.ppf(LEVELS, np.exp(log_nu))
        return float(np.log(edges[1] / edges[0]) - np.log(high / low))

    nu = float(np.exp(brentq(excess, np.log(0.2), np.log(1e6), xtol=1e-12)))
    return nu, float(low * nu / chi2.ppf(LEVELS[0], nu))


def mode_coefficients(window: DeclinationWindow, ell: int, *, filtered: bool = False) -> FloatArray:
    """Return the coefficients of the squared modes in the noise power at one multipole, for one event in the band.

    Parameters
    ----------
    window : DeclinationWindow
        Band, weight and counts.
    ell : int
        Multipole, at least 1.
    filtered : bool
        False: all m, as in a published band of isotropic skies (`band_noise`). True: without m = 0, as in data.

    Returns
    -------
    ndarray, shape (2 ell + 1,) or (2 ell,)
    """
    return _coefficients((data_noise if filtered else band_noise)(window, 1.0, ell), ell, filtered)


def _coefficients(noise: FloatArray, ell: int, filtered: bool) -> FloatArray:
    diagonal = noise[: ell + 1, ell, ell] / (2.0 * ell + 1.0)
    # Two real modes at each m > 0, the variance of both signs of m shared between them.
    pairs = np.repeat(diagonal[1:], 2)
    return pairs if filtered else np.concatenate([diagonal[:1], pairs])


def isotropic_band(
    window: DeclinationWindow, events: float, ell: ArrayLike, *, filtered: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Return the edges of the 95 % band of isotropic skies seen through a window, each of shape (n,).

    Parameters
    ----------
    window : DeclinationWindow
        Band, weight and counts.
    events : float
        Events inside the band.
    ell : array_like of int, shape (n,)
        Multipoles.
    filtered : bool
        See `mode_coefficients`.
    """
    multipoles = tuple(int(value) for value in np.atleast_1d(np.asarray(ell)))
    edges = np.array(_unit_edges(window, multipoles, filtered))
    return edges[:, 0] / events, edges[:, 1] / events


@lru_cache(maxsize=1024)
def _unit_edges(
    window: DeclinationWindow, ell: tuple[int, ...], filtered: bool
) -> tuple[tuple[float, float], ...]:
    """Edges for one event in the band, one pair for each multipole."""
    noise = (data_noise if filtered else band_noise)(window, 1.0, max(ell))
    found = []
    for value in ell:
        c = _coefficients(noise, value, filtered)
        found.append((power_quantile(LEVELS[0], c), power_quantile(LEVELS[1], c)))
    return tuple(found)


def fit_band(record: PowerSpectrum, window: DeclinationWindow, *, exponents: ArrayLike) -> BandFit:
    """Return the exponent and the number of events that reproduce the isotropic band of a record.

    Least squares in the logarithm of all edges that are given, with the reading error of the record, on a grid of
    exponents; the error of the exponent is half the range in which chi-square rises by one.

    Parameters
    ----------
    record : PowerSpectrum
        With an isotropic band and a reading error.
    window : DeclinationWindow
        Declination band and normalisation; the weight is taken as the counts.
    exponents : array_like, shape (n,)
        Increasing exponents to try.

    Raises
    ------
    ObsfitError
        If the record has fewer than three edges or no reading error.
    """
    observed = np.log(np.stack([record.isotropic_low, record.isotropic_high], axis=1))
    given = np.isfinite(observed)
    reading = record.reading_error
    if given.sum() < 3 or not reading > 0.0:
        raise ObsfitError(
            f"{record.measurement}: {given.sum()} edges of the isotropic band, reading error {reading}",
            expected="at least three edges with a reading error",
        )
    grid = np.asarray(exponents, dtype=np.float64)
    model = np.array([np.log(isotropic_band(window.with_exponent(g), 1.0, record.ell)) for g in grid])
    difference = np.where(given.T, observed.T - model, 0.0)
    level = difference.sum(axis=(1, 2)) / given.sum()
    chi_square = np.sum(np.where(given.T, difference - level[:, None, None], 0.0) ** 2, axis=(1, 2)) / reading**2
    fine = np.linspace(grid[0], grid[-1], 50 * grid.size)
    curve = CubicSpline(grid, chi_square)(fine)
    best = int(np.argmin(curve))
    inside = fine[curve <= curve[best] + 1.0]
    events = float(np.exp(-CubicSpline(grid, level)(fine[best])))
    return BandFit(
        exponent=float(fine[best]),
        exponent_error=0.5 * float(inside[-1] - inside[0]),
        events=events,
        events_error=events * reading / float(np.sqrt(given.sum())),
        chi_square=float(curve[best]),
        n_edges=int(given.sum()),
    )
