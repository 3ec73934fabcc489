"""The likelihood of counts on rings: its sufficient sums, one pass of its update equations, and their acceleration.

Arrays are of detectors (d), time bins (t), seen bands (r), hour-angle cells (j), sky cells (k) and waves along a ring
(m); every sum along a ring is a circular correlation and done by Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

from obsfit.errors import ConvergenceError
from obsfit.records.event_map import RingCounts

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

# Sums by Fourier transform are exact to 1e-16 of their largest term: what is smaller than this share of it is nothing.
NEGLIGIBLE = 1e-12


def ring_correlation(ahead: ComplexArray, behind: ComplexArray, n_time: int) -> FloatArray:
    """Sum over j of a_{k+j} b_j, shape (..., n_time), from the Fourier transforms of a and b along the ring."""
    return irfft(ahead * behind.conj(), n=n_time)


def without_round_off(values: FloatArray) -> FloatArray:
    """Copy with what is below `NEGLIGIBLE` of the largest value set to zero."""
    return np.where(values < NEGLIGIBLE * values.max(), 0.0, values)


@dataclass(frozen=True)
class RingSystem:
    """Sufficient sums of several detectors, on the bands that at least one of them sees.

    Attributes
    ----------
    per_time : ndarray, shape (d, t)
        Events of the time bins.
    per_cell : ndarray, shape (d, r, j)
        Events of the local cells.
    per_sky : ndarray, shape (r, k)
        Events of the sky cells, all detectors together.
    seen : ndarray of bool, shape (r, k)
        Sky cells with exposure.
    floor : ndarray, shape (r, 1)
        Expected events below which a sky cell is unseen.
    bands : ndarray of int, shape (r,)
        Numbers of the bands in the grid.
    """

    per_time: FloatArray
    per_cell: FloatArray
    per_sky: FloatArray
    seen: BoolArray
    floor: FloatArray
    bands: IntArray

    @classmethod
    def of(cls, counts: Sequence[RingCounts]) -> RingSystem:
        """Return the system of detectors on one grid."""
        per_time = np.stack([without_round_off(c.per_time) for c in counts])
        per_cell = np.stack([without_round_off(c.per_cell) for c in counts])
        bands = np.flatnonzero(per_cell.any(axis=(0, 2)))
        per_cell = per_cell[:, bands]
        per_sky = np.sum([c.per_sky[bands] for c in counts], axis=0)
        share = per_cell / per_time.sum(axis=1)[:, None, None]
        expected = ring_correlation(rfft(per_time)[:, None], rfft(share), per_time.shape[1]).sum(axis=0)
        floor = NEGLIGIBLE * expected.max(axis=1, keepdims=True)
        seen = expected > floor
        return cls(per_time, per_cell, np.where(seen, per_sky, 0.0), seen, floor, bands)

    @property
    def n_time(self) -> int:
        """Number of time bins, and of cells of a ring."""
        return self.per_time.shape[1]

    def expected(self, exposure: ComplexArray, acceptance: ComplexArray) -> FloatArray:
        """Return events expected of an isotropic sky, (r, k), from the waves of exposure (d, m) and acceptance."""
        waves = np.sum(exposure[:, None] * acceptance.conj(), axis=0)
        return np.maximum(irfft(waves, n=self.n_time), self.floor)

    def intensity(self, expected: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return I (r, k), of mean one over the seen cells of each ring and zero elsewhere, and the means (r, 1)."""
        values = self.per_sky / expected
        mean = values.sum(axis=1, keepdims=True) / self.seen.sum(axis=1, keepdims=True)
        return values / mean, mean


class RingIteration:
    """Update equations on ln N and ln A where there are events; empty time bins and cells stay zero.

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

    def start(self) -> FloatArray:
        """Return the state of an isotropic sky, (ln N, ln A) in one array."""
        share = self.system.per_cell / self.system.per_time.sum(axis=1)[:, None, None]
        return np.concatenate([self.log_counts[: self.n_times], np.log(share.ravel()[self.cells])])

    def arrays(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return N (d, t) and A (d, r, j)."""
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
        exposure, acceptance = self.arrays(state)
        exposure_waves, acceptance_waves = rfft(exposure), rfft(acceptance)
        intensity, mean = system.intensity(system.expected(exposure_waves, acceptance_waves))
        sky_waves = rfft(intensity)
        # Acceptance takes what the rings of the sky lost to their means.
        waves = np.sum(acceptance_waves * (mean * sky_waves), axis=1)
        per_exposure = _positive(irfft(waves, n=system.n_time).ravel()[self.times])
        change = np.zeros(system.per_time.size)
        change[self.times] = self.log_counts[:n] - state[:n] - np.log(per_exposure)
        if self.inverse is not None:
            waves = np.einsum("mab,bm->am", self.inverse, rfft(change.reshape(system.per_time.shape)))
            change = irfft(waves, n=system.n_time).ravel()
        log_exposure = state[:n] + change[self.times]
        exposure.ravel()[self.times] = np.exp(log_exposure)
        per_acceptance = ring_correlation(rfft(exposure)[:, None], sky_waves, system.n_time)
        log_acceptance = self.log_counts[n:] - np.log(_positive(per_acceptance.ravel()[self.cells]))
        return np.concatenate([log_exposure, log_acceptance])

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
        self.weights = weights
        self.last: tuple[FloatArray, FloatArray] | None = None
        self.images: list[FloatArray] = []
        self.residuals: list[FloatArray] = []

    def next(self, state: FloatArray, image: FloatArray) -> FloatArray:
        """Return the next state, from a state and its image under the iteration."""
        residual = image - state
        if self.depth and self.last is not None:
            self.images.append(image - self.last[0])
            self.residuals.append(residual - self.last[1])
            del self.images[: -self.depth], self.residuals[: -self.depth]
        self.last = image, residual
        if not self.residuals:
            return image
        changes = np.array(self.residuals)
        weighted = changes * self.weights
        gram = weighted @ changes.T
        # Changes of states that are close to the solution are tiny: only their directions matter.
        scale = 1.0 / np.sqrt(np.diag(gram) + np.finfo(float).tiny)
        mix = np.linalg.lstsq(gram * np.outer(scale, scale), scale * (weighted @ residual), rcond=1e-14)[0]
        return image - (scale * mix) @ np.array(self.images)
