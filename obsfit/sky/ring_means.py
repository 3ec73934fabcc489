"""Removal of a_l0 by exact means along rings of constant declination: no harmonic transform, no ringing."""

from __future__ import annotations

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["healpix_ring_means", "remove_healpix_ring_means", "remove_ring_means", "ring_means"]

FloatArray = NDArray[np.float64]


def ring_means(values: ArrayLike, weight: ArrayLike | None = None) -> FloatArray:
    """Return the mean of each ring over its observed cells, shape (..., n_dec); NaN for a ring without any.

    Parameters
    ----------
    values : array_like, shape (..., n_dec, n_ra)
        A map on rings, cells of a ring of equal size, NaN where unobserved.
    weight : array_like, shape (..., n_dec, n_ra), optional
        Weight of the cells, finite and not negative where observed. Default: equal weights, which is what the
        projection that sets a_l0 = 0 needs; another weight moves m != 0 into the mean.

    Raises
    ------
    ValueError
        If the shapes differ, or a weight is negative or not finite.

    Examples
    --------
    >>> ring_means([[1.0, 2.0, np.nan], [4.0, 4.0, 4.0]])
    array([1.5, 4. ])
    """
    array, weights = _checked(values, weight)
    total = weights.sum(axis=-1)
    sums = np.where(weights > 0.0, weights * np.nan_to_num(array), 0.0).sum(axis=-1)
    return np.divide(sums, total, out=np.full(total.shape, np.nan), where=total > 0.0)


def remove_ring_means(values: ArrayLike, weight: ArrayLike | None = None) -> FloatArray:
    """Return a map on rings less the mean of each ring, same shape; unobserved cells stay NaN.

    Parameters
    ----------
    values, weight
        As `ring_means`.

    Examples
    --------
    >>> remove_ring_means([[1.0, 2.0, np.nan]])
    array([[-0.5,  0.5,  nan]])
    """
    array = np.asarray(values, dtype=np.float64)
    return array - ring_means(array, weight)[..., np.newaxis]


def healpix_ring_means(values: ArrayLike, weight: ArrayLike | None = None) -> FloatArray:
    """Return the mean of each HEALPix ring over its observed pixels, shape (4 nside - 1,), north to south.

    Parameters
    ----------
    values : array_like, shape (12 nside^2,)
        A map in RING order in equatorial coordinates, NaN where unobserved.
    weight : array_like, shape (12 nside^2,), optional
        As in `ring_means`.

    Raises
    ------
    ValueError
        If the shape is not that of a HEALPix map, the shapes differ, or a weight is negative or not finite.
    """
    array, weights = _checked(values, weight)
    ring = _rings(array)
    n_rings = int(ring[-1]) + 1
    total = np.bincount(ring, weights, n_rings)
    sums = np.bincount(ring, np.where(weights > 0.0, weights * np.nan_to_num(array), 0.0), n_rings)
    return np.divide(sums, total, out=np.full(n_rings, np.nan), where=total > 0.0)


def remove_healpix_ring_means(values: ArrayLike, weight: ArrayLike | None = None) -> FloatArray:
    r"""Return a HEALPix map less the mean of each ring of pixels, shape (12 nside^2,); unobserved pixels stay NaN.

    In a complete ring of q pixels the mean of their values holds m = 0 and, of multipoles that the map can carry,
    those with m = q, 2q, ..., which pixels cannot tell from m = 0: within a few degrees of the poles only. On an
    incomplete ring other m are reduced as well, as they are by the observation itself.

    Parameters
    ----------
    values, weight
        As `healpix_ring_means`.

    Examples
    --------
    >>> zonal = np.sin(np.arange(12) // 4)   # the three rings of nside 1
    >>> bool(np.all(remove_healpix_ring_means(zonal) == 0.0))
    True
    """
    array = np.asarray(values, dtype=np.float64)
    return array - healpix_ring_means(array, weight)[_rings(array)]


def _rings(array: FloatArray) -> NDArray[np.int64]:
    if array.ndim != 1 or not hp.isnpixok(array.size):
        raise ValueError(f"map of shape {array.shape}: expected (12 nside^2,)")
    nside = hp.npix2nside(array.size)
    return np.asarray(hp.pix2ring(nside, np.arange(array.size)), dtype=np.int64) - 1


def _checked(values: ArrayLike, weight: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """The map, and its weights with zeros where it is not observed."""
    array = np.asarray(values, dtype=np.float64)
    seen = np.isfinite(array)
    if weight is None:
        return array, seen.astype(np.float64)
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != array.shape:
        raise ValueError(f"weight of shape {weights.shape}: expected {array.shape} as the map has")
    if not np.all(np.isfinite(weights[seen])) or np.any(weights[seen] < 0.0):
        raise ValueError("weight: expected finite values, none negative, where the map is observed")
    return array, np.where(seen, weights, 0.0)
