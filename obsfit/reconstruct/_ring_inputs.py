"""The events that a reconstruction is given, as ring sums of detectors that can be taken together, and of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.records.event_map import EventMap, RingCounts

FloatArray = NDArray[np.float64]

HOURS = 24.0


def in_windows(events: EventMap | RingCounts, window_hours: float) -> list[RingCounts]:
    """Return the ring sums of each window of time of one detector: of the whole turn, if the window is 24 hours.

    Raises
    ------
    ConfigurationError
        If windows do not divide the time bins evenly, or only ring sums of the whole turn are given.
    """
    if window_hours == HOURS:
        return [events if isinstance(events, RingCounts) else ring_counts(events)]
    if isinstance(events, RingCounts):
        raise ConfigurationError(
            f"{events.detector}: windows of {window_hours:g} hours of events that are already summed over time",
            expected="an EventMap, which knows the time of each count, or windows of 24 hours",
        )
    length = window_bins(window_hours, events.n_time)
    parts = []
    for start in range(0, events.n_time, length):
        inside = slice(start, start + length)
        counts = np.zeros_like(events.counts)
        counts[inside] = events.counts[inside]
        squared = None
        if events.squared_weights is not None:
            squared = np.zeros_like(counts)
            squared[inside] = events.squared_weights[inside]
        if counts.any():
            parts.append(ring_counts(replace(events, counts=counts, squared_weights=squared)))
    return parts or [ring_counts(events)]


def window_bins(window_hours: float, n_time: int) -> int:
    """Return the number of time bins in a window.

    Raises
    ------
    ConfigurationError
        If it is not a whole number that divides the number of bins.
    """
    length = window_hours * n_time / HOURS
    if not (length > 0.5 and abs(length - round(length)) < 1e-9 and n_time % round(length) == 0):
        good = [f"{HOURS * n / n_time:g}" for n in range(1, n_time + 1) if n_time % n == 0]
        raise ConfigurationError(
            f"windows of {window_hours:g} hours on {n_time} time bins",
            expected="windows that divide the day into equal numbers of bins: " + ", ".join(good) + " hours",
        )
    return round(length)


def fine_declinations(rings: Sequence[RingCounts]) -> FloatArray:
    """Return the counts in fine bands of all detectors together, in the finest bands that all of them have."""
    n_dec = rings[0].grid.n_dec
    n_sub = int(np.gcd.reduce([item.per_declination.size // n_dec for item in rings]))
    return np.asarray(
        np.sum([item.per_declination.reshape(n_dec * n_sub, -1).sum(axis=1) for item in rings], axis=0)
    )
