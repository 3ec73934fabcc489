"""Time scrambling: direct integration by chance, with the events' own times shuffled among their local directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct._ring_inputs import HOURS, in_windows
from obsfit.reconstruct._specification import specification
from obsfit.reconstruct.direct_integration import background_map, whole_turns
from obsfit.reconstruct.ring_sums import Events, as_list
from obsfit.records.event_map import HourAngleGrid
from obsfit.records.reconstruction import MapReconstruction

__all__ = ["TimeScrambling", "scrambled_counts", "scrambled_events"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Up to so many events it is quicker to shuffle a list of them than to draw a table of bins and cells.
LARGEST_LIST = 3_000_000
# Limit of numpy's hypergeometric distribution.
LARGEST_TABLE = 1_000_000_000


@dataclass(frozen=True)
class TimeScrambling:
    r"""Relative intensity from a background of events with shuffled times, the mean of several shufflings.

    A shuffling gives each local direction the time of another event of the same window, so that the counts of time
    bins and of local cells stay what they are. Its mean is the background of `DirectIntegration` with the same window,
    and the mean of K shufflings scatters about it by very nearly the Poisson error over sqrt(K): 20 of them still add
    5 % to the variance of a map. The covariance of shuffled multipoles is exactly 1/K of that of the data, because the
    doubly centred sums of a permutation are those of the profiled likelihood. It shows nothing that direct integration
    does not, and is offered for comparison with published maps.

    Attributes
    ----------
    resamples : int
        Number of shufflings K.
    window_hours : float
        As in `DirectIntegration`.
    replace : bool
        False shuffles the times. True draws the time of each event from the distribution of all times in the window,
        which keeps the counts of local cells but not those of time bins; it has no limit on the number of events.
    """

    resamples: int = 20
    window_hours: float = HOURS
    replace: bool = False

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ConfigurationError(f"resamples {self.resamples}: expected at least 1")

    def reconstruct(self, events: Events, *, rng: np.random.Generator | None = None) -> MapReconstruction:
        """Return the map of one or several detectors.

        Parameters
        ----------
        events : EventMap, RingCounts, or a sequence of them
            One or several detectors, counts of whole events.
        rng : numpy.random.Generator
            Source of the shufflings.

        Raises
        ------
        ConfigurationError
            If `rng` is missing, detectors do not go together, or windows do not fit.
        ObsfitError
            If events carry weights, counts are not whole numbers, or there are too many to be shuffled.
        """
        if rng is None:
            raise ConfigurationError(
                "time scrambling draws random numbers, but no generator is given",
                expected="rng, for example numpy.random.default_rng(1)",
            )
        windows = [in_windows(item, self.window_hours) for item in as_list(events)]
        rings = whole_turns(windows)
        for item in rings:
            if item.squared is not None:
                raise ObsfitError(
                    f"{item.detector}: counts of weighted events cannot be shuffled",
                    expected="unweighted events",
                    remedy="Scramble the list of weighted events with scrambled_events, or take DirectIntegration.",
                )
        expected = np.zeros((rings[0].grid.n_dec, rings[0].grid.n_time))
        for part in (part for parts in windows for part in parts):
            if self.replace:
                # The sum of K such draws is one draw of K times as many events.
                expected += scrambled_counts(part.per_time, self.resamples * part.per_cell, rng=rng, replace=True)
            else:
                for _ in range(self.resamples):
                    expected += scrambled_counts(part.per_time, part.per_cell, rng=rng)
        spec = specification(
            "time-scrambling",
            {"resamples": self.resamples, "window_hours": self.window_hours, "replace": self.replace},
            rings,
            f"a_l0 is lost. The response is that of direct integration with windows of {self.window_hours:g} hours; "
            f"the background adds about 1/{self.resamples} of the variance of the events.",
        )
        return background_map(rings, expected / self.resamples, spec)


def scrambled_counts(
    per_time: ArrayLike, per_cell: ArrayLike, *, rng: np.random.Generator, replace: bool = False
) -> FloatArray:
    """Return the counts of the sky cells after one shuffling of the times, shape (n_dec, n_time).

    Parameters
    ----------
    per_time : array_like, shape (n_time,)
        Events of each time bin.
    per_cell : array_like, shape (n_dec, n_time)
        Events of each local cell.
    rng : numpy.random.Generator
        Source of random numbers.
    replace : bool
        True draws each time from the distribution of all times, independently of the others; per_time is then only
        this distribution, and per_cell may have another sum.

    Returns
    -------
    ndarray, shape (n_dec, n_time)
        Whole numbers; the sum of each ring is that of per_cell.

    Raises
    ------
    ObsfitError
        If the counts are not whole numbers, if their sums differ, or if there are more than 1e9 to be shuffled.

    Examples
    --------
    >>> scrambled_counts([2, 0, 0, 0], [[0, 2, 0, 0]], rng=np.random.default_rng(1))    # bin 0, cell 1: -1 is 3
    array([[0., 0., 0., 2.]])
    """
    cells = _whole(per_cell, "per_cell")
    n_time = cells.shape[1]
    if replace:
        weights = np.asarray(per_time, dtype=np.float64)
        table = np.zeros(cells.shape)
        for r, row in enumerate(cells):
            filled = np.flatnonzero(row)
            _add_to_sky(table[r], rng.multinomial(row[filled], weights / weights.sum()).T, filled)
        return table
    times = _whole(per_time, "per_time")
    total = int(times.sum())
    if total != int(cells.sum()):
        raise ObsfitError(
            f"{total} events in time bins but {int(cells.sum())} in local cells",
            expected="the same events in both",
        )
    if total <= LARGEST_LIST:
        time_bin = np.repeat(np.arange(n_time, dtype=np.int32), times)
        cell = np.repeat(np.arange(cells.size, dtype=np.int32), cells.ravel())
        return _sky_counts(rng.permutation(time_bin), cell, cells.shape, None)
    if total >= LARGEST_TABLE:
        raise ObsfitError(
            f"{total:.3g} events are too many to be shuffled",
            expected=f"fewer than {LARGEST_TABLE:.0e}",
            remedy="Draw times with replace=True, or take DirectIntegration, which is the mean of all shufflings.",
        )
    filled = np.flatnonzero(cells)
    left = cells.ravel()[filled]
    row, hour = np.divmod(filled, n_time)
    table = np.zeros(cells.shape)
    for t in range(n_time):
        drawn = rng.multivariate_hypergeometric(left, times[t], method="marginals")
        left = left - drawn
        # Each local cell has a sky cell of its own at any one time.
        table[row, (t - hour) % n_time] += drawn
    return table


def scrambled_events(
    time_bin: ArrayLike,
    cell: ArrayLike,
    grid: HourAngleGrid,
    *,
    rng: np.random.Generator,
    weights: ArrayLike | None = None,
    window: ArrayLike | None = None,
) -> FloatArray:
    """Return the counts of the sky cells of a list of events after one shuffling of their times, (n_dec, n_time).

    Parameters
    ----------
    time_bin : array_like of int, shape (n,)
        Time bin of each event.
    cell : array_like of int, shape (n,)
        Local cell r n_time + j of each event.
    grid : HourAngleGrid
        The cells.
    rng : numpy.random.Generator
        Source of random numbers.
    weights : array_like, shape (n,), optional
        Weight of each event, which stays with its local cell. Default: one.
    window : array_like, shape (n,), optional
        Label of the window of each event, such as the number of its four hours since the first: times are shuffled
        among events of one label. Default: one window.

    Raises
    ------
    ObsfitError
        If the arrays differ in length, or bins or cells are outside the grid.

    Examples
    --------
    >>> grid = HourAngleGrid(2, 4)
    >>> scrambled_events([0, 3], [1, 6], grid, rng=np.random.default_rng(1), window=[10, 11])
    array([[0., 0., 0., 1.], [0., 1., 0., 0.]])
    """
    times, cells = np.asarray(time_bin), np.asarray(cell)
    given = [np.asarray(values) for values in (weights, window) if values is not None]
    if any(values.shape != times.shape or times.ndim != 1 for values in (cells, *given)):
        raise ObsfitError(
            f"time bins of shape {times.shape}, cells {cells.shape}"
            + "".join(f", and {values.shape}" for values in given),
            expected="one number for each event",
        )
    for values, name, size in ((times, "time bin", grid.n_time), (cells, "cell", grid.n_pixel)):
        wrong = (values < 0) | (values >= size)
        if wrong.any():
            raise ObsfitError(
                f"event {int(np.argmax(wrong))}: {name} {values[wrong][0]}", expected=f"0 to {size - 1}"
            )
    if window is None:
        shuffled = rng.permutation(times)
    else:
        labels = np.asarray(window)
        shuffled = np.empty_like(times)
        # The same windows one after the other: once in the order of the list, once in a random order within each.
        shuffled[np.argsort(labels, kind="stable")] = times[np.lexsort((rng.random(times.size), labels))]
    shape = (grid.n_dec, grid.n_time)
    return _sky_counts(shuffled, cells, shape, None if weights is None else np.asarray(weights, dtype=np.float64))


def _sky_counts(
    time_bin: NDArray[np.integer], cell: NDArray[np.integer], shape: tuple[int, ...], weights: FloatArray | None
) -> FloatArray:
    ring, hour = np.divmod(cell, shape[1])
    sky = ring * shape[1] + (time_bin - hour) % shape[1]
    counts = np.bincount(sky, weights=weights, minlength=shape[0] * shape[1])
    return counts.astype(np.float64).reshape(shape)


def _add_to_sky(ring: FloatArray, table: IntArray, hour: IntArray) -> None:
    """Add a table (n_time, n_filled) of one ring, whose columns are the hour-angle cells `hour`, to its sky cells."""
    n_time = ring.size
    sky = (np.arange(n_time)[:, None] - hour) % n_time
    ring += np.bincount(sky.ravel(), weights=table.ravel(), minlength=n_time)


def _whole(values: ArrayLike, name: str) -> IntArray:
    given = np.asarray(values, dtype=np.float64)
    whole = np.rint(given)
    if not np.array_equal(whole, given):
        odd = given[whole != given].flat[0]
        raise ObsfitError(
            f"{name}: {odd:g} events in a cell",
            expected="whole numbers: time scrambling shuffles events",
            remedy="Scramble the list of weighted events with scrambled_events, or take DirectIntegration.",
        )
    return whole.astype(np.int64)
