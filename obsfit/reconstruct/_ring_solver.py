"""The likelihood of counts on rings: its sufficient sums, one pass of its update equations, and their acceleration.

Arrays are of detectors (d), time bins (t), rows (i), seen bands (r), hour-angle cells (j), sky cells (k) and waves
along a ring (m). A row is one band as one detector sees it. Every sum along a ring is a circular correlation and done
by Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import ducc0
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConvergenceError
from obsfit.records.event_map import RingCounts

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]
Array = TypeVar("Array", FloatArray, ComplexArray)

# Sums by Fourier transform are exact to 1e-16 of their largest term: what is smaller than this share of it is nothing.
NEGLIGIBLE = 1e-12


def to_waves(values: FloatArray, out: ComplexArray | None = None) -> ComplexArray:
    """Return the Fourier transform of real values along the last axis, m = 0 to n_time // 2."""
    return ducc0.fft.r2c(values, axes=(values.ndim - 1,), out=out, nthreads=1)


def from_waves(waves: ComplexArray, n_time: int, out: FloatArray | None = None) -> FloatArray:
    """Return the real values along the last axis that have these Fourier transforms."""
    last = waves.ndim - 1
    return ducc0.fft.c2r(waves, axes=(last,), lastsize=n_time, forward=False, inorm=2, out=out, nthreads=1)


def without_round_off(values: FloatArray) -> FloatArray:
    """Copy with what is below `NEGLIGIBLE` of the largest value set to zero."""
    return np.where(values < NEGLIGIBLE * values.max(), 0.0, values)


@dataclass(frozen=True)
class RingSystem:
    """Sufficient sums of several detectors, on the bands that they see.

    Attributes
    ----------
    per_time : ndarray, shape (d, t)
        Events of the time bins.
    per_cell : ndarray, shape (i, j)
        Events of the local cells, row by row.
    per_sky : ndarray, shape (r, k)
        Events of the sky cells, all detectors together.
    seen : ndarray of bool, shape (r, k)
        Sky cells with exposure.
    floor : ndarray, shape (r, 1)
        Expected events below which a sky cell is unseen.
    bands : ndarray of int, shape (r,)
        Numbers of the bands in the grid.
    detector, ring : ndarray of int, shape (i,)
        Detector and seen band of each row.
    rows : tuple of slice
        Rows of each detector.
    """

    per_time: FloatArray
    per_cell: FloatArray
    per_sky: FloatArray
    seen: BoolArray
    floor: FloatArray
    bands: IntArray
    detector: IntArray
    ring: IntArray
    rows: tuple[slice, ...]

    @classmethod
    def of(cls, counts: Sequence[RingCounts]) -> RingSystem:
        """Return the system of detectors on one grid."""
        per_time = np.stack([without_round_off(c.per_time) for c in counts])
        seen_by = np.stack([c.per_cell.max(axis=1) >= NEGLIGIBLE * c.per_cell.max() for c in counts])
        bands = np.flatnonzero(np.any(seen_by, axis=0))
        detector, ring = np.nonzero(seen_by[:, bands])
        ends = np.searchsorted(detector, np.arange(len(counts) + 1))
        rows = tuple(slice(a, b) for a, b in pairwise(ends.tolist()))
        per_cell = np.concatenate([without_round_off(c.per_cell[s]) for c, s in zip(counts, seen_by, strict=True)])
        per_sky = counts[0].per_sky[bands]
        for other in counts[1:]:
            per_sky += other.per_sky[bands]
        everywhere = np.ones(per_sky.shape, dtype=bool)
        floor = np.zeros((bands.size, 1))
        whole = cls(per_time, per_cell, per_sky, everywhere, floor, bands, detector, ring, rows)
        # As for acceptances of sum one, which the totals make of the counts.
        expected = whole.expected(to_waves(per_time) / whole.totals[:, None], to_waves(per_cell))
        floor = NEGLIGIBLE * expected.max(axis=1, keepdims=True)
        seen = expected > floor
        return replace(whole, per_sky=np.where(seen, per_sky, 0.0), seen=seen, floor=floor)

    @property
    def n_time(self) -> int:
        """Number of time bins, and of cells of a ring."""
        return self.per_time.shape[1]

    @property
    def totals(self) -> FloatArray:
        """Events of the detectors, shape (d,)."""
        return self.per_time.sum(axis=1)

    def on_rings(self, rows: Array) -> Array:
        """Return the sum of rows (..., i, n) over detectors, shape (..., r, n)."""
        total = np.zeros((*rows.shape[:-2], self.bands.size, rows.shape[-1]), dtype=rows.dtype)
        for part in self.rows:
            total[..., self.ring[part], :] += rows[..., part, :]
        return total

    def expected(self, exposure: ComplexArray, acceptance: ComplexArray) -> FloatArray:
        """Return events expected of an isotropic sky (r, k), from the waves of exposure (d, m) and acceptance.

        The waves of acceptance (i, m) are overwritten.
        """
        np.conjugate(acceptance, out=acceptance)
        for wave, part in zip(exposure, self.rows, strict=True):
            acceptance[part] *= wave
        expected = from_waves(self.on_rings(acceptance), self.n_time)
        return np.maximum(expected, self.floor, out=expected)


class RingIteration:
    """Update equations on ln N and ln A where there are events; empty time bins and cells stay zero.

    The mean of each ring of I is left where it is: only the product with acceptance has a meaning.

    Parameters
    ----------
    system : RingSystem
        The sums.
    inverse : ndarray or None, shape (m, d, d)
        What multiplies the waves of a change of ln N; None for the plain iteration.
    """

    def __init__(self, system: RingSystem, inverse: ComplexArray | None) -> None:
        self.system = system
        self.inverse = inverse
        self.times = np.flatnonzero(system.per_time)
        self.cells = np.flatnonzero(system.per_cell)
        self.n_times = self.times.size
        self.counts = np.concatenate([system.per_time.ravel()[self.times], system.per_cell.ravel()[self.cells]])
        self.log_counts = np.log(self.counts)
        # Fresh memory for every pass would cost as much time as the sums.
        n_row, n_wave = system.ring.size, system.n_time // 2 + 1
        self._cells = np.zeros_like(system.per_cell)
        self._per_acceptance = np.empty_like(system.per_cell)
        self._sky = np.empty_like(system.per_sky)
        self._acceptance_waves, self._rows = np.empty((2, n_row, n_wave), dtype=np.complex128)
        self._sky_waves, self._rings = np.empty((2, system.bands.size, n_wave), dtype=np.complex128)

    def start(self) -> FloatArray:
        """Return the state of an isotropic sky, (ln N, ln A) in one array."""
        total = np.log(self.system.totals)[self.system.detector[self.cells // self.system.n_time]]
        return np.concatenate([self.log_counts[: self.n_times], self.log_counts[self.n_times :] - total])

    def arrays(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return N (d, t) and A (i, j)."""
        exposure, acceptance = np.zeros(self.system.per_time.size), np.zeros(self.system.per_cell.size)
        exposure[self.times] = np.exp(state[: self.n_times])
        acceptance[self.cells] = np.exp(state[self.n_times :])
        return exposure.reshape(self.system.per_time.shape), acceptance.reshape(self.system.per_cell.shape)

    def advance(self, state: FloatArray) -> FloatArray:
        """Return the state after one pass: new I, from it new N, and from both new A.

        Raises
        ------
        ConvergenceError
            If the state has run away, to where no Fourier sum is accurate.
        """
        system, n = self.system, self.n_times
        exposure = np.zeros_like(system.per_time)
        exposure.ravel()[self.times] = np.exp(state[:n])
        self._cells.ravel()[self.cells] = np.exp(state[n:])
        acceptance_waves = to_waves(self._cells, self._acceptance_waves)
        sky_waves = self._new_sky(to_waves(exposure), acceptance_waves)
        change = np.zeros_like(exposure)
        for d, part in enumerate(system.rows):
            waves = np.einsum("im,im->m", acceptance_waves[part], sky_waves[system.ring[part]])
            change[d] = from_waves(waves, system.n_time)
        seen = _positive(change.ravel()[self.times])
        change.ravel()[self.times] = self.log_counts[:n] - state[:n] - np.log(seen)
        if self.inverse is not None:
            change[exposure == 0.0] = 0.0
            change = from_waves(np.einsum("mab,bm->am", self.inverse, to_waves(change)), system.n_time)
        log_exposure = state[:n] + change.ravel()[self.times]
        exposure.ravel()[self.times] = np.exp(log_exposure)
        np.conjugate(sky_waves, out=sky_waves)
        exposure_waves = to_waves(exposure)
        for d, part in enumerate(system.rows):
            np.multiply(sky_waves[system.ring[part]], exposure_waves[d], out=self._rows[part])
        per_acceptance = from_waves(self._rows, system.n_time, self._per_acceptance)
        log_acceptance = self.log_counts[n:] - np.log(_positive(per_acceptance.ravel()[self.cells]))
        return np.concatenate([log_exposure, log_acceptance])

    def _new_sky(self, exposure_waves: ComplexArray, acceptance_waves: ComplexArray) -> ComplexArray:
        """Return the waves of I at its maximum for given exposure and acceptance, in memory of this object."""
        system = self.system
        np.conjugate(acceptance_waves, out=self._rows)
        self._rings[:] = 0.0
        for d, part in enumerate(system.rows):
            self._rows[part] *= exposure_waves[d]
            self._rings[system.ring[part]] += self._rows[part]
        expected = from_waves(self._rings, system.n_time, self._sky)
        np.maximum(expected, system.floor, out=expected)
        np.divide(system.per_sky, expected, out=expected)
        return to_waves(expected, self._sky_waves)

    def change_of_exposure(self, before: FloatArray, after: FloatArray) -> float:
        """Return the largest change of ln N between two states, less its mean over the events."""
        change = (after - before)[: self.n_times]
        mean = np.average(change, weights=self.counts[: self.n_times])
        return float(np.abs(change - mean).max())


def _positive(values: FloatArray) -> FloatArray:
    if not values.min() > 0.0:
        raise ConvergenceError(
            f"a sum of exposure, acceptance and sky is {values.min():.3g}: the iteration has run away",
            expected="sums that are positive wherever there are events",
            remedy="There may be too few events for free exposure and acceptance: use fewer time bins and bands.",
        )
    return values


class Acceleration:
    """Anderson's acceleration of a fixed-point iteration, with its last `depth` changes and weighted residuals."""

    def __init__(self, depth: int, weights: FloatArray) -> None:
        self.depth = depth
        self.root = np.sqrt(weights)
        self.passes = 0
        self.image, self.residual = np.zeros((2, weights.size))
        self.images, self.residuals = np.empty((2, depth, weights.size))
        self.gram = np.zeros((depth, depth))

    def next(self, state: FloatArray, image: FloatArray) -> FloatArray:
        """Return the next state, from a state and its image under the iteration."""
        if self.depth == 0:
            return image
        residual = self.root * (image - state)
        known = min(self.passes, self.depth)
        if self.passes:
            place = (self.passes - 1) % self.depth
            np.subtract(image, self.image, out=self.images[place])
            np.subtract(residual, self.residual, out=self.residuals[place])
            # Products of such a shape would wake all threads of a linear-algebra library, at many times their cost.
            products = np.einsum("an,n->a", self.residuals[:known], self.residuals[place])
            self.gram[place, :known] = self.gram[:known, place] = products
        self.image, self.residual = image, residual
        self.passes += 1
        if not known:
            return image
        gram = self.gram[:known, :known]
        # Changes of states that are close to the solution are tiny: only their directions matter.
        scale = 1.0 / np.sqrt(np.diag(gram) + np.finfo(float).tiny)
        right = scale * np.einsum("an,n->a", self.residuals[:known], residual)
        mix = scale * np.linalg.lstsq(gram * np.outer(scale, scale), right, rcond=1e-14)[0]
        return image - np.einsum("a,an->n", mix, self.images[:known])
