"""Weights of maps: from a function of declination or an array to pixels, rings and couplings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ObsfitError
from obsfit.records.sky_map import SkyMap
from obsfit.sky.coupling import ring_coupling
from obsfit.sky.ring_means import pixel_sin_dec, ring_profile, subtract_ring_means

FloatArray = NDArray[np.float64]
Weight = Callable[[FloatArray], FloatArray] | ArrayLike

ZONAL_TOLERANCE = 1e-9
"""A weight is one of declination alone if its spread along each ring is below this part of its largest value."""


def pixel_weight(weight: Weight | None, sky_map: SkyMap) -> FloatArray:
    """Return the weight of each pixel, zero where the map is unobserved.

    Parameters
    ----------
    weight : callable, array_like of shape (12 nside^2,), or None
        A function of sin(declination), shape (n,) -> (n,); or one number for each pixel, in RING order; or None, one
        wherever the map is observed. Zero outside the field of view.
    sky_map : SkyMap
        The map, NaN where unobserved.

    Returns
    -------
    ndarray, shape (12 nside^2,)

    Raises
    ------
    ValueError
        If the weight has another shape, is negative or not finite, or leaves no pixel.

    Examples
    --------
    >>> from obsfit.records.provenance import Provenance
    >>> sky = SkyMap(np.zeros(12), Provenance("empty"))
    >>> pixel_weight(lambda s: np.where(s < 0, -s, 0.0), sky).round(3)
    array([0.   , 0.   , 0.   , 0.   , 0.   , 0.   , 0.   , 0.   , 0.667,
           0.667, 0.667, 0.667])
    """
    seen = np.isfinite(sky_map.delta_i)
    if weight is None:
        values = np.ones(seen.size)
    elif callable(weight):
        values = np.asarray(weight(pixel_sin_dec(sky_map.nside)), dtype=np.float64)
    else:
        values = np.asarray(weight, dtype=np.float64)
    if values.shape != seen.shape:
        raise ValueError(f"weight of shape {values.shape}: expected {seen.shape}, as the map has")
    if not np.all(np.isfinite(values)) or np.any(values < 0.0):
        raise ValueError(
            f"weight between {np.nanmin(values)} and {np.nanmax(values)}: expected finite numbers, none negative"
        )
    values = np.where(seen, values, 0.0)
    if not np.any(values > 0.0):
        raise ValueError("weight: zero in every observed pixel, expected a field of view")
    return values


def is_zonal(weight: ArrayLike) -> bool:
    """Return whether a weight of pixels, shape (12 nside^2,), depends on declination alone."""
    values = np.asarray(weight, dtype=np.float64)
    along = subtract_ring_means(values, np.ones(values.size, dtype=np.bool_))
    return bool(np.max(np.abs(along)) <= ZONAL_TOLERANCE * np.max(np.abs(values)))


def declination_limits(weight: ArrayLike) -> tuple[float, float]:
    """Return the declinations in radians between which lies the area of the rings with weight, by their pixels.

    Parameters
    ----------
    weight : array_like, shape (12 nside^2,)
        Weight in RING order.

    Examples
    --------
    >>> declination_limits(np.ones(12))
    (-1.5707963267948966, 1.5707963267948966)
    """
    _, width, means = ring_profile(weight)
    north = np.clip(1.0 - np.concatenate([[0.0], np.cumsum(width)]), -1.0, 1.0)
    held = np.flatnonzero(means > 0.0)
    return float(np.arcsin(north[held[-1] + 1])), float(np.arcsin(north[held[0]]))


def map_coupling(weight: ArrayLike, lmax: int, *, filtered: bool, lmax_out: int | None = None) -> FloatArray:
    r"""Return T^m of a weight of pixels that depends on declination alone, shape (m, l_out, l_in).

    `obsfit.sky.coupling.ring_coupling` on the rings of HEALPix: what the sums over pixels of `pseudo_alm` do, but for
    the aliasing of m with m + n on the few rings of n pixels next to the poles.

    Parameters
    ----------
    weight : array_like, shape (12 nside^2,)
        Weight in RING order, see `pixel_weight`.
    lmax : int
        Largest multipole of the sky.
    filtered : bool
        Whether ring means are removed, that is T^0 = 0.
    lmax_out : int, optional
        Largest pseudo multipole. Default: lmax.

    Raises
    ------
    ObsfitError
        If the weight depends on right ascension: different m mix.

    Examples
    --------
    >>> map_coupling(np.ones(12 * 64**2), 1, filtered=True)[1].round(3)
    array([[0., 0.],
           [0., 1.]])
    """
    if not is_zonal(weight):
        raise ObsfitError(
            "the weight depends on right ascension, and mixes multipoles of different m",
            expected="a weight of declination alone",
            remedy="Average the weight over each ring, mask rings that are seen in part, or use "
            "obsfit.sky.coupling.general_coupling up to l = 20.",
        )
    return ring_coupling(*ring_profile(weight), lmax, filtered=filtered, lmax_out=lmax_out)
