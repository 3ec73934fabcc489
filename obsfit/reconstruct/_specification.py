"""The plain description that every reconstruction gives with its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from obsfit.reconstruct._mirror_pairs import sub_pixels
from obsfit.records.event_map import EventMap, HourAngleGrid, RingCounts
from obsfit.records.reconstruction import ObservationSpec


def specification(
    method: str,
    settings: Mapping[str, float | int | str | bool],
    events: Sequence[EventMap | RingCounts],
    loss: str,
) -> ObservationSpec:
    """Return the description of a reconstruction without a_l0 of the events of several detectors."""
    low, high = zip(*(seen_declinations(item) for item in events), strict=True)
    return ObservationSpec(
        method=method,
        settings=settings,
        detectors=tuple(item.detector for item in events),
        dec_min_rad=min(low),
        dec_max_rad=max(high),
        frame=events[0].frame,
        filtered=True,
        loss=loss,
    )


def seen_declinations(events: EventMap | RingCounts) -> tuple[float, float]:
    """Limits of the declinations with events."""
    if isinstance(events, RingCounts):
        rings = np.flatnonzero(events.per_sky.sum(axis=1))
        return float(events.grid.dec_edges_rad[rings[0]]), float(events.grid.dec_edges_rad[rings[-1] + 1])
    seen = np.flatnonzero(events.counts.sum(axis=0))
    if isinstance(events.grid, HourAngleGrid):
        ring, edges = seen // events.grid.n_time, events.grid.dec_edges_rad
        return float(edges[ring.min()]), float(edges[ring.max() + 1])
    dec = sub_pixels(events.grid, seen)[0]
    return float(dec.min()), float(dec.max())
