"""Rings of equal declination of HEALPix maps, and the filter that removes their means."""

from __future__ import annotations

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def ring_of_pixels(nside: int) -> NDArray[np.int64]:
    """Return the ring, counted from 0 at the North, of each pixel in RING order, shape (12 nside^2,).

    Examples
    --------
    >>> ring_of_pixels(1)
    array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    """
    return np.asarray(hp.pix2ring(nside, np.arange(hp.nside2npix(nside))) - 1, dtype=np.int64)


def pixel_sin_dec(nside: int) -> FloatArray:
    """Return the sine of declination of each pixel in RING order, shape (12 nside^2,)."""
    return np.asarray(hp.pix2vec(nside, np.arange(hp.nside2npix(nside)))[2], dtype=np.float64)


def ring_means(values: ArrayLike, seen: BoolArray) -> FloatArray:
    """Return the mean of each ring over the pixels that are seen, zero where none is, shape (4 nside - 1,).

    Parameters
    ----------
    values : array_like, shape (12 nside^2,)
        Map in RING order; what it holds in pixels that are not seen does not matter.
    seen : ndarray of bool, shape (12 nside^2,)
        The field of view.

    Raises
    ------
    ValueError
        If the map has another length.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not hp.isnpixok(array.size):
        raise ValueError(f"map of shape {array.shape}: expected (12 nside^2,)")
    ring = ring_of_pixels(hp.npix2nside(array.size))
    count = np.bincount(ring, weights=seen.astype(np.float64))
    sums = np.bincount(ring, weights=np.where(seen, array, 0.0))
    return np.asarray(sums / np.maximum(count, 1.0), dtype=np.float64)


def subtract_ring_means(values: ArrayLike, seen: BoolArray) -> FloatArray:
    r"""Return a map without the mean of each ring inside the field of view, zero outside it.

    The filter a_l0 = 0 of Eqs. (13) and (16) of AM17, exact on the rings of HEALPix: every pixel that is seen counts
    alike. For a weight of declination alone it is the same to drop the pseudo a_l0 after weighting.

    Parameters
    ----------
    values : array_like, shape (12 nside^2,)
        Map in RING order; what it holds in pixels that are not seen does not matter.
    seen : ndarray of bool, shape (12 nside^2,)
        The field of view.

    Examples
    --------
    >>> subtract_ring_means(np.arange(12.0), np.arange(12) < 6)
    array([-1.5, -0.5,  0.5,  1.5, -0.5,  0.5,  0. ,  0. ,  0. ,  0. ,  0. , 0. ])
    """
    means = ring_means(values, seen)
    ring = ring_of_pixels((means.size + 1) // 4)
    return np.where(seen, np.where(seen, np.asarray(values, dtype=np.float64), 0.0) - means[ring], 0.0)


def ring_profile(values: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the rings of a map: sines of declination, widths in that sine, and means of the map, each (4 nside - 1,).

    The width of a ring is its solid angle over 2 pi.

    Parameters
    ----------
    values : array_like, shape (12 nside^2,)
        Map in RING order, without gaps.
    """
    array = np.asarray(values, dtype=np.float64)
    means = ring_means(array, np.ones(array.size, dtype=np.bool_))
    nside = hp.npix2nside(array.size)
    sin_dec = hp.ringinfo(nside, np.arange(1, 4 * nside))[2]
    return np.asarray(sin_dec, dtype=np.float64), 2.0 * np.bincount(ring_of_pixels(nside)) / array.size, means
