"""Errors of labels as they are found in public programs, made on purpose: shifted clocks and confused axes.

An analysis that takes the left edge of a time bin for its middle, the sidereal time of Greenwich for the local one, or
an azimuth from South for one from North, does not fail: it returns a turned or smaller dipole. Here the counts are
moved to where such a program would have put them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.records.event_map import EventMap, HourAngleGrid

AXES = ("right", "mirrored", "half-turn", "quarter-turn")


@dataclass(frozen=True)
class RelabelSettings:
    """What is labelled wrongly.

    Attributes
    ----------
    axes : str
        "right"; "mirrored": azimuth from North through West is read as through East; "half-turn": azimuth from
        South is read as from North; "quarter-turn": azimuth from East, through North, is read as from North, through
        West.
    time_shift : str
        Angle by which the clock is read too late, a multiple of half a time bin: half a bin for middles that are
        taken for left edges, the negative longitude for Greenwich time taken for local time.
    """

    __pydantic_config__ = FORBID

    axes: str = "right"
    time_shift: str = "0 deg"

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise ConfigurationError(f"axes {self.axes!r}", expected=f"one of {', '.join(AXES)}")


def half_bins(settings: RelabelSettings, n_time: int) -> int:
    """Return the shift of the clock in halves of a time bin.

    Raises
    ------
    ConfigurationError
        If it is no multiple of them.

    Examples
    --------
    >>> half_bins(RelabelSettings(time_shift="7.5 deg"), 24)
    1
    """
    shift = read_quantity(settings.time_shift, "angle", "relabel.time_shift").to_value(u.deg)
    halves = shift * n_time / 180.0
    if abs(halves - round(halves)) > 1e-6:
        raise ConfigurationError(
            f"relabel.time_shift = {settings.time_shift!r}", expected=f"a multiple of {180.0 / n_time:g} deg"
        )
    return round(halves)


def relabelled(events: EventMap, settings: RelabelSettings, n_time: int) -> EventMap:
    """Return an event map as a program with wrong labels would have filled it.

    Parameters
    ----------
    events : EventMap
        Counts of `n_time` time bins; or on HEALPix of twice as many, which a shift by half a bin needs.
    settings : RelabelSettings
        What is wrong.
    n_time : int
        Number of time bins of the result.

    Raises
    ------
    ConfigurationError
        If the grid cannot be relabelled that way: rings can be mirrored, and shifted by whole bins.
    """
    halves = half_bins(settings, n_time)
    counts = events.counts
    if events.n_time == 2 * n_time:
        counts = np.roll(counts, halves, axis=0).reshape(n_time, 2, -1).sum(axis=1)
    elif halves % 2:
        raise ConfigurationError(
            f"{events.detector}: a shift by {halves} half bins", expected="twice as many time bins to begin with",
            remedy="Use local HEALPix maps: nside = 16.",
        )  # fmt: skip
    else:
        counts = np.roll(counts, halves // 2, axis=0)
    if settings.axes != "right":
        counts = counts[:, _origin(events, settings.axes)]
    return replace(events, counts=counts)


def _origin(events: EventMap, axes: str) -> NDArray[np.int64]:
    """For each pixel of the result, the one that its counts come from."""
    grid = events.grid
    if isinstance(grid, HourAngleGrid):
        if axes != "mirrored":
            raise ConfigurationError(
                f"{events.detector}: axes {axes!r} on rings of declination", expected="mirrored",
                remedy="Use local HEALPix maps: nside = 16.",
            )  # fmt: skip
        pixels = np.arange(grid.n_pixel).reshape(grid.n_dec, grid.n_time)
        return np.asarray(pixels[:, ::-1].ravel(), dtype=np.int64)
    zenith, west_of_north = hp.pix2ang(grid.nside, np.arange(grid.n_pixel))
    turned = {
        "mirrored": -west_of_north,
        "half-turn": west_of_north - np.pi,
        "quarter-turn": west_of_north - 0.5 * np.pi,
    }[axes]
    return np.asarray(hp.ang2pix(grid.nside, zenith, turned), dtype=np.int64)
