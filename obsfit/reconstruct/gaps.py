"""Gaps in time that hide a gradient of the sky: when exposure, acceptance and intensity cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ObsfitError
from obsfit.reconstruct._ring_solver import RingSystem, from_waves, to_waves
from obsfit.records.event_map import RingCounts

FloatArray = NDArray[np.float64]

# Share of the information on a change of exposure that must be left when sky and acceptance are free. Errors grow
# by its inverse root, here a thousandfold.
LEAST_INFORMATION = 1e-6
# A time bin with less than this share of the mean belongs to a gap; so many gaps of a detector are examined.
EMPTY = 1e-3
MOST_GAPS = 6
DEPENDENT = 1e-10


class HiddenGradientError(ObsfitError):
    """A gap in time lets a gradient of the sky in right ascension hide as exposure and acceptance.

    Parameters
    ----------
    detector : str
        Whose gap it is.
    first_bin, gap_bins : int
        First empty time bin, and number of them.
    n_time : int
        Number of time bins of a turn.
    field_bins : int
        Widest field of view of the detector in hour angle.
    information : float
        Share of the information that is left on the worst change of exposure.
    """

    exit_code = 3

    def __init__(
        self, detector: str, first_bin: int, gap_bins: int, n_time: int, field_bins: int, information: float
    ) -> None:
        self.detector, self.first_bin, self.gap_bins = detector, first_bin, gap_bins
        self.gap_hours = 24.0 * gap_bins / n_time
        self.n_time, self.field_bins, self.information = n_time, field_bins, information
        last = (first_bin + gap_bins - 1) % n_time
        super().__init__(
            f"{detector}: a gap of {gap_bins} time bins ({self.gap_hours:.2f} h, bins {first_bin} to {last}) is not "
            f"bridged by its field of view, {field_bins} bins of hour angle: a gradient of the sky in right ascension "
            "cannot be told from one of exposure and acceptance",
            expected=f"gaps shorter than the field of view, or more than {LEAST_INFORMATION:g} of the information on "
            f"exposure left beside a free sky (found {information:.2g})",
            remedy="Add a detector without the gap that sees some of the same declinations, for example one near a "
            "pole, or fill the gap.",
        )


def refuse_hidden_gradients(counts: Sequence[RingCounts]) -> None:
    r"""Raise an error if gaps in time leave a gradient of the sky unobservable, and name the gap.

    If no detector sees a whole ring, in time, in hour angle or on the sky, then

    .. math:: I \to I e^{-a\alpha}, \qquad N \to N e^{a\tau}, \qquad A \to A e^{-ah}

    changes no expected count: every solver would stop somewhere else. The same holds for the levels of stretches of
    time that see disjoint parts of the sky. Each stretch of time between gaps is therefore given a level and a slope
    of ln N, and the Fisher information on these is compared with what it would be if sky and acceptance were known.
    For one detector all of it is gone once the gap is as long as the field of view is wide, less one bin.

    Not looked for is a ring whose seen cells fall into parts that no hour angle and no other detector joins, while
    other rings settle the exposure: its parts keep the relative level of an isotropic sky.

    Parameters
    ----------
    counts : sequence of RingCounts
        The detectors, on one grid.

    Raises
    ------
    HiddenGradientError
        If less than a millionth of the information is left.
    """
    if not any(_gaps(c.per_time) for c in counts):
        return
    found = weakest_gradient(RingSystem.of(counts))
    if found is None or found[0] > LEAST_INFORMATION:
        return
    share, vector = found
    strength = [float(np.sum(c.per_time * v**2)) / c.total for c, v in zip(counts, vector, strict=True)]
    worst = counts[int(np.argmax(strength))]
    first, length = _gaps(worst.per_time)[0]
    field = max(
        worst.grid.n_time - (runs[0][1] if (runs := _runs(row == 0.0)) else 0)
        for row in worst.per_cell
        if row.any()
    )
    raise HiddenGradientError(worst.detector, first, length, worst.grid.n_time, field, share)


def weakest_gradient(system: RingSystem) -> tuple[float, FloatArray] | None:
    """Share of the information that is left on the least known change of exposure across gaps, and that change.

    Returns
    -------
    tuple of float and ndarray of shape (d, t), or None
        None where there are no gaps.
    """
    basis = []
    for d, per_time in enumerate(system.per_time):
        for vector in _stretches(per_time):
            basis.append(np.zeros_like(system.per_time))
            basis[-1][d] = vector
    if not basis:
        return None
    changes = np.array(basis)
    known = np.einsum("pdt,qdt,dt->pq", changes, changes, system.per_time)
    scale = 1.0 / np.sqrt(np.diag(known))
    sizes, directions = np.linalg.eigh(known * np.outer(scale, scale))
    # In a stretch with one bin that is not empty, level and slope are the same.
    independent = sizes > DEPENDENT
    frame = scale[:, None] * directions[:, independent] / np.sqrt(sizes[independent])
    values, vectors = np.linalg.eigh(frame.T @ (known - _explained(system, changes)) @ frame)
    return max(float(values[0]), 0.0), np.einsum("p,pdt->dt", frame @ vectors[:, 0], changes)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First place and length of each run of true values around a circle, the longest first."""
    if mask.all() or not mask.any():
        return [(0, mask.size)] if mask.any() else []
    # Counted from a false value, no run is cut by the end.
    origin = int(np.argmin(mask))
    steps = np.diff(np.roll(mask, -origin).astype(int), append=0)
    starts, stops = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    runs = [(int(a + origin) % mask.size, int(b - a)) for a, b in zip(starts, stops, strict=True)]
    return sorted(runs, key=lambda run: -run[1])


def _gaps(per_time: FloatArray) -> list[tuple[int, int]]:
    """First bin and length of the longest gaps."""
    return _runs(per_time < EMPTY * per_time.mean())[:MOST_GAPS]


def _stretches(per_time: FloatArray) -> list[FloatArray]:
    """Levels and slopes of the stretches of time between gaps, each of mean zero over the events, but one level."""
    gaps = sorted(_gaps(per_time))
    n_time, seen = per_time.size, per_time > 0.0
    vectors = []
    for i, (start, length) in enumerate(gaps):
        first = start + length
        last = gaps[i + 1][0] if i + 1 < len(gaps) else gaps[0][0] + n_time
        place = (np.arange(n_time) - first) % n_time
        inside = (place < last - first) & seen
        vectors.append(np.where(inside, place / n_time, 0.0))
        if i:
            vectors.append(inside.astype(float))
    centred = [np.where(seen, v - np.average(v, weights=per_time), 0.0) for v in vectors]
    return [v for v in centred if np.sum(per_time * v**2) > 0.0]


def _explained(system: RingSystem, changes: FloatArray, n_passes: int = 40) -> FloatArray:
    r"""Information on changes of ln N that free sky and acceptance take away, shape (p, p).

    The least squares of :math:`\sum N_t A_{rj} (g_t + f_{r,t-j} + h_{rj})^2` over f and h: f is eliminated, and h
    found by conjugate gradients, for all changes at once.
    """
    n_time, ring, detector = system.n_time, system.ring, system.detector
    per_time, per_cell = system.per_time, system.per_cell
    share = per_cell / system.totals[detector, None]
    time_waves, share_waves = to_waves(per_time)[detector], to_waves(share)
    expected = system.expected(to_waves(per_time), share_waves.copy())
    inverse = np.where(system.seen, 1.0 / expected, 0.0)

    def on_sky(h: FloatArray) -> FloatArray:
        return from_waves(system.on_rings(time_waves * to_waves(share * h).conj()), n_time)

    def on_cells(f: FloatArray) -> FloatArray:
        return share * from_waves(time_waves * to_waves(f)[:, ring].conj(), n_time)

    def reduced(h: FloatArray) -> FloatArray:
        return per_cell * h - on_cells(inverse * on_sky(h))

    from_sky = from_waves(system.on_rings(to_waves(per_time * changes)[:, detector] * share_waves.conj()), n_time)
    taken = np.einsum("prk,qrk->pq", from_sky, inverse * from_sky)
    # The mean of every change over the events is zero, so that known cells alone would take nothing.
    residual = -on_cells(inverse * from_sky)
    h = np.zeros_like(residual)
    scale = np.divide(1.0, per_cell, out=np.zeros_like(per_cell), where=per_cell > 0.0)
    right, direction, size = residual, scale * residual, np.sum(scale * residual**2, axis=(1, 2))
    first = size
    for _ in range(n_passes):
        image = reduced(direction)
        curvature = np.sum(direction * image, axis=(1, 2))
        step = np.divide(size, curvature, out=np.zeros_like(size), where=curvature > 0.0)
        h = h + step[:, None, None] * direction
        residual = residual - step[:, None, None] * image
        before, size = size, np.sum(scale * residual**2, axis=(1, 2))
        if np.all(size <= 1e-20 * first):
            break
        turn = np.divide(size, before, out=np.zeros_like(size), where=before > 0.0)
        direction = scale * residual + turn[:, None, None] * direction
    extra = np.einsum("pij,qij->pq", right, h)
    return taken + 0.5 * (extra + extra.T)
