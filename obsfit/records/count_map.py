"""Counts and background on the sky: what a relative intensity was made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from obsfit.records._checks import FloatArray, store
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap


@dataclass(frozen=True)
class CountMap:
    """Events and expected events on HEALPix pixels in RING order, equatorial coordinates.

    Attributes
    ----------
    counts : ndarray, shape (12 nside^2,)
        Number of events, or sum of their weights. Not negative; NaN outside the field of view.
    background : ndarray, shape (12 nside^2,)
        What an isotropic sky would have given. Positive; NaN where `counts` is.
    provenance : Provenance
        Origin of the numbers.
    delta_i : ndarray, shape (12 nside^2,), or None
        Relative intensity minus one as published, NaN where it is not; None where only the counts are known.
        Smoothed or filtered maps are not ``counts / background - 1``.
    error : ndarray, shape (12 nside^2,), or None
        Error of the relative intensity as published, NaN where it is not.
    local : ndarray, shape (12 nside^2,), or None
        Events about the zenith, all times together, as `HealpixLocalGrid` numbers them.
    squared_weights : ndarray, shape (12 nside^2,), or None
        Sum of squared weights, NaN where `counts` is; None where every weight is one.
    """

    counts: FloatArray
    background: FloatArray
    provenance: Provenance
    delta_i: FloatArray | None = None
    error: FloatArray | None = None
    local: FloatArray | None = None
    squared_weights: FloatArray | None = None

    def __post_init__(self) -> None:
        counts = _plane(self.counts, "counts")
        n_pixel = counts.size
        nside = round(np.sqrt(n_pixel / 12))
        if 12 * nside**2 != n_pixel or nside & (nside - 1) or nside == 0:
            raise ValueError(f"counts: {n_pixel} pixels, expected 12 nside^2 with nside a power of two")
        background = _plane(self.background, "background", n_pixel)
        if not np.array_equal(np.isnan(counts), np.isnan(background)):
            raise ValueError("counts and background are not NaN in the same pixels")
        _refuse("counts", counts, counts < 0.0, "numbers that are not negative")
        _refuse("background", background, background <= 0.0, "positive numbers")
        store(self, counts=counts, background=background)
        for name in ("delta_i", "error", "local", "squared_weights"):
            if getattr(self, name) is not None:
                store(self, **{name: _plane(getattr(self, name), name, n_pixel)})
        if self.error is not None:
            _refuse("error", self.error, self.error < 0.0, "numbers that are not negative")
        if self.squared_weights is not None:
            _refuse(
                "squared_weights",
                self.squared_weights,
                self.squared_weights < 0.0,
                "numbers that are not negative",
            )
            if not np.array_equal(np.isnan(counts), np.isnan(self.squared_weights)):
                raise ValueError("counts and squared_weights are not NaN in the same pixels")
        if self.local is not None:
            _refuse("local", self.local, ~(self.local >= 0.0), "numbers that are not negative, and no NaN")

    @property
    def nside(self) -> int:
        """HEALPix resolution parameter."""
        return round(np.sqrt(self.counts.size / 12))

    def sky_map(self) -> SkyMap:
        """Return the relative intensity as published, or ``counts / background - 1`` where none is given."""
        delta_i = self.counts / self.background - 1.0 if self.delta_i is None else self.delta_i
        return SkyMap(delta_i, self.provenance)


def _plane(values: ArrayLike, name: str, n_pixel: int | None = None) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or (n_pixel is not None and array.size != n_pixel):
        expected = "(12 nside^2,)" if n_pixel is None else f"({n_pixel},)"
        raise ValueError(f"{name}: shape {array.shape}, expected {expected}")
    _refuse(name, array, np.isinf(array), "finite numbers, or NaN where unobserved")
    array.setflags(write=False)
    return array


def _refuse(name: str, array: FloatArray, bad: np.ndarray, expected: str) -> None:
    if bad.any():
        pixel = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{name}: value {array[pixel]} in pixel {pixel}, expected {expected}")
