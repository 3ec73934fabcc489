"""Three sums of an event map on rings of declination: all of it that a likelihood on rings needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.reconstruct._ring_kernels import sum_on_rings, sum_pixels
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid, RingCounts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Events = EventMap | RingCounts | Sequence[EventMap | RingCounts]

# Finer bands of declination to one band of the rings, for pixels whose centres are known better than the band.
N_SUB = 8


def ring_counts(event_map: EventMap, grid: HourAngleGrid | None = None) -> RingCounts:
    r"""Sums of an event map over time, local cells and sky cells, for a likelihood on rings.

    With :math:`n_{trj}` the counts of time bin t in band r and hour-angle cell j,

    .. math:: n_t = \sum_{rj} n_{trj}, \qquad n_{rj} = \sum_t n_{trj}, \qquad s_{rk} = \sum_t n_{t,r,t-k}.

    They are sufficient for :math:`\mu_{trj} = N_t A_{rj} I_{r,t-j}`. Lost is what else the counts know: whether they
    fit at all, and whether A was constant, which only sums of separate epochs can test.

    A map on an `HourAngleGrid` is summed as it is. A pixel of a `HealpixLocalGrid` is deposited whole on the cell
    that holds its centre: counts stay whole and independent, and positions are off by up to half a pixel and half a
    cell. With bands of one pixel that is an error of the size of a pixelised look-up: 3e-4 of a dipole at nside 64.

    Parameters
    ----------
    event_map : EventMap
        Counts of one detector, shape (n_time, n_pixel).
    grid : HourAngleGrid, optional
        The rings. Default: the grid of the map; for HEALPix as many cells as the map has time bins, and bands one
        pixel high, or a little more.

    Returns
    -------
    RingCounts
        Declinations in finer bands are those of the pixels' centres for HEALPix, and the bands themselves otherwise.

    Raises
    ------
    ConfigurationError
        If `grid` is not that of a map on rings, or has another number of cells than a HEALPix map has time bins.

    Examples
    --------
    >>> from obsfit.records.provenance import Provenance
    >>> grid = HourAngleGrid(n_dec=2, n_time=4)
    >>> counts = np.zeros((4, 8))
    >>> counts[3, 1 * 4 + 2] = 5.0      # time bin 3, band 1, hour angle 2: right ascension 3 - 2 = 1
    >>> ring_counts(EventMap(counts, grid, "example", Provenance("example"))).per_sky
    array([[0., 0., 0., 0.], [0., 5., 0., 0.]])
    """
    local = event_map.grid
    if isinstance(local, HourAngleGrid):
        if grid is not None and grid != local:
            raise ConfigurationError(
                f"{event_map.detector}: the map is on {local.n_dec} x {local.n_time} cells, not "
                f"{grid.n_dec} x {grid.n_time}",
                expected="the grid of the map",
                remedy="Counts are not moved between grids of rings: bin the events again.",
            )
        sums = _sums_on_rings(event_map.counts, local)
        squares = event_map.squared_weights
        squared = None if squares is None else _sums_on_rings(squares, local)
        return _record(event_map, local, sums, squared)
    rings = HourAngleGrid(_n_dec(local.nside), event_map.n_time) if grid is None else grid
    if rings.n_time != event_map.n_time:
        raise ConfigurationError(
            f"{event_map.detector}: {event_map.n_time} time bins, but {rings.n_time} cells of hour angle",
            expected="as many cells of hour angle as time bins, so that a bin later is a cell further",
        )
    table = ring_cells(local, rings)
    sums = _sums_of_pixels(event_map.counts, rings, *table)
    squares = event_map.squared_weights
    return _record(event_map, rings, sums, None if squares is None else _sums_of_pixels(squares, rings, *table))


def as_list(events: Events) -> list[EventMap | RingCounts]:
    """Return one or several detectors as a list.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    listed = [events] if isinstance(events, EventMap | RingCounts) else list(events)
    if not listed:
        raise ConfigurationError("no events", expected="at least one event map, or sums of one")
    return listed


def as_ring_counts(events: Events, grid: HourAngleGrid | None = None) -> tuple[RingCounts, ...]:
    """Ring sums of one detector or several that see the same sky, all on one grid.

    Parameters
    ----------
    events : EventMap, RingCounts or sequence of them
        One for each detector. Epochs of a detector with different acceptance are detectors of their own.
    grid : HourAngleGrid, optional
        The rings. Default: that of the first which is on rings, and otherwise of the coarsest HEALPix map.

    Raises
    ------
    ConfigurationError
        If there are none, if one has no events, or if grids, frames or energies differ.
    """
    several = as_list(events)
    if grid is None:
        on_rings = [e.grid for e in several if isinstance(e.grid, HourAngleGrid)]
        pixelised = [HourAngleGrid(_n_dec(e.grid.nside), e.n_time) for e in several if isinstance(e, EventMap)
                     and isinstance(e.grid, HealpixLocalGrid)]  # fmt: skip
        grid = on_rings[0] if on_rings else min(pixelised, key=lambda g: g.n_dec)
    counts = tuple(e if isinstance(e, RingCounts) else _fitting(e, grid) for e in several)
    check_together(counts, grid)
    return counts


def check_together(counts: Sequence[RingCounts], grid: HourAngleGrid) -> None:
    """Refuse detectors without events, and such as differ from each other in frame or energy, or from a grid.

    Raises
    ------
    ConfigurationError
        If so.
    """
    first = counts[0]
    for other in counts:
        for what, found, expected in (
            ("grid", other.grid, grid), ("frame", other.frame, first.frame), ("energy", other.energy, first.energy),
        ):  # fmt: skip
            if found != expected:
                raise ConfigurationError(
                    f"{other.detector}: {what} {found}",
                    expected=f"{expected}, as the other detectors have",
                    remedy="Detectors that share a sky share its cells, its clock and the bin of energy.",
                )
        if other.total == 0.0:
            raise ConfigurationError(
                f"{other.detector}: no events in any cell", expected="a detector that saw something"
            )


Sums = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


def _fitting(event_map: EventMap, grid: HourAngleGrid) -> RingCounts:
    """Sums on a given grid, which only pixels can be deposited on."""
    return ring_counts(event_map, None if isinstance(event_map.grid, HourAngleGrid) else grid)


def _n_dec(nside: int) -> int:
    """Bands not finer than a pixel."""
    return max(2, int(np.pi / hp.nside2resol(nside)))


def _record(event_map: EventMap, grid: HourAngleGrid, sums: Sums, squared: Sums | None) -> RingCounts:
    return RingCounts(
        *sums,
        grid=grid,
        detector=event_map.detector,
        provenance=event_map.provenance,
        squared=squared,
        frame=event_map.frame,
        energy=event_map.energy,
    )


def _sums_on_rings(counts: FloatArray, grid: HourAngleGrid) -> Sums:
    per_time = np.zeros(grid.n_time)
    per_cell, per_hour = np.zeros((2, grid.n_dec, grid.n_time))
    sum_on_rings(np.ascontiguousarray(counts), grid.n_dec, per_time, per_cell, per_hour)
    per_sky = np.concatenate([per_hour[:, :1], per_hour[:, :0:-1]], axis=1)
    return per_time, per_cell, per_sky, per_cell.sum(axis=1)


def _sums_of_pixels(
    counts: FloatArray, grid: HourAngleGrid, band: IntArray, cell: IntArray, fine_band: IntArray
) -> Sums:
    per_time, per_pixel = np.zeros(grid.n_time), np.zeros(counts.shape[1])
    per_turns = np.zeros(2 * grid.n_pixel)
    offset = (2 * grid.n_time * band + grid.n_time - cell).astype(np.uint32)
    sum_pixels(np.ascontiguousarray(counts), offset, per_time, per_pixel, per_turns)
    per_sky = per_turns.reshape(grid.n_dec, 2, grid.n_time).sum(axis=1)
    per_cell, per_declination = np.zeros((grid.n_dec, grid.n_time)), np.zeros(N_SUB * grid.n_dec)
    np.add.at(per_cell, (band, cell), per_pixel)
    np.add.at(per_declination, fine_band, per_pixel)
    return per_time, per_cell, per_sky, per_declination


@lru_cache(maxsize=4)
def ring_cells(local: HealpixLocalGrid, grid: HourAngleGrid) -> tuple[IntArray, IntArray, IntArray]:
    """Band, hour-angle cell and finer band that hold the centre of each pixel, each of shape (n_pixel,).

    Longitude of the pixels runs from North through West, so that the second axis is West.
    """
    north, west, up = hp.pix2vec(local.nside, np.arange(local.n_pixel))
    sin_lat, cos_lat = np.sin(local.latitude_rad), np.cos(local.latitude_rad)
    dec = np.arcsin(np.clip(sin_lat * up + cos_lat * north, -1.0, 1.0))
    hour_angle = np.arctan2(west, cos_lat * up - sin_lat * north)
    cell = np.floor(hour_angle * (grid.n_time / (2.0 * np.pi))).astype(np.int64) % grid.n_time
    n_fine = grid.n_dec * N_SUB
    fine = np.minimum(((dec / np.pi + 0.5) * n_fine).astype(np.int64), n_fine - 1)
    band = fine // N_SUB
    for array in (band, cell, fine):
        array.setflags(write=False)
    return band, cell, fine
