"""Counted events: local maps per sidereal bin, and the sums over them that reconstructions need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from obsfit.records._checks import FloatArray, store
from obsfit.records.provenance import Provenance

FRAMES = ("sidereal", "solar", "anti-sidereal", "extended-sidereal")


@dataclass(frozen=True)
class HourAngleGrid:
    r"""Local cells on rings of declination, so that a sidereal bin later each is one cell further in hour angle.

    Band r holds declinations :math:`[-\pi/2 + r\,\pi/n_{dec}, -\pi/2 + (r+1)\,\pi/n_{dec})`, cell j hour angles
    :math:`[j, j+1)\,2\pi/n_{time}`; an event of time bin t in cell j is in the sky cell (t - j) mod n_time, which is
    *centred* on the right ascension :math:`k\,2\pi/n_{time}`. As a flat pixel, number r n_time + j.

    Attributes
    ----------
    n_dec : int
        Number of bands.
    n_time : int
        Number of cells of a ring, and of sidereal bins.
    """

    n_dec: int = 128
    n_time: int = 360

    def __post_init__(self) -> None:
        if self.n_dec < 2 or self.n_time < 4:
            raise ValueError(f"grid {self.n_dec} x {self.n_time}: expected at least 2 x 4 cells")

    @property
    def n_pixel(self) -> int:
        """Number of local cells."""
        return self.n_dec * self.n_time

    @property
    def dec_edges_rad(self) -> FloatArray:
        """Limits of the bands, shape (n_dec + 1,)."""
        return np.linspace(-0.5 * np.pi, 0.5 * np.pi, self.n_dec + 1)

    @property
    def dec_rad(self) -> FloatArray:
        """Middles of the bands, shape (n_dec,)."""
        edges = self.dec_edges_rad
        return 0.5 * (edges[1:] + edges[:-1])

    @property
    def hour_angle_rad(self) -> FloatArray:
        """Middles of the hour-angle cells, shape (n_time,)."""
        return 2.0 * np.pi * (np.arange(self.n_time) + 0.5) / self.n_time

    @property
    def right_ascension_rad(self) -> FloatArray:
        """Centres of the sky cells, shape (n_time,)."""
        return 2.0 * np.pi * np.arange(self.n_time) / self.n_time


@dataclass(frozen=True)
class HealpixLocalGrid:
    """HEALPix pixels in RING order about the zenith of an observatory.

    The polar angle is the zenith angle; longitude runs from North through West, as the axes (North, West, up) of
    Eq. (5) of AM17 do: it is minus the azimuth.

    Attributes
    ----------
    nside : int
        HEALPix resolution parameter, a power of two.
    latitude_rad : float
        Geographic latitude of the observatory.
    """

    nside: int
    latitude_rad: float

    def __post_init__(self) -> None:
        if self.nside < 1 or self.nside & (self.nside - 1):
            raise ValueError(f"nside {self.nside}: expected a power of two")
        if not abs(self.latitude_rad) <= 0.5 * np.pi + 1e-12:
            raise ValueError(f"latitude {self.latitude_rad} rad: expected -pi/2 to pi/2")

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return 12 * self.nside**2


@dataclass(frozen=True)
class EventMap:
    """Events of one detector and one energy bin, counted in time bins and local pixels.

    Time bin t holds local sidereal angles (or those of another `frame`) in [t, t+1) 2 pi / n_time. Angles refer to
    the mean equator of date.

    Attributes
    ----------
    counts : ndarray, shape (n_time, n_pixel)
        Number of events, or sum of their weights. Not negative.
    grid : HourAngleGrid or HealpixLocalGrid
        The local pixels.
    detector : str
        Name for messages.
    provenance : Provenance
        Origin of the numbers.
    squared_weights : ndarray, shape (n_time, n_pixel), or None
        Sum of squared weights; None where every weight is one, so that it is the counts.
    frame : str
        "sidereal", "solar", "anti-sidereal" or "extended-sidereal": the clock of the time bins.
    energy : str
        Label of the energy bin, for example "8-13 TeV"; may be empty.
    """

    counts: FloatArray
    grid: HourAngleGrid | HealpixLocalGrid
    detector: str
    provenance: Provenance
    squared_weights: FloatArray | None = None
    frame: str = "sidereal"
    energy: str = ""

    def __post_init__(self) -> None:
        counts = _counts(self.counts, "counts")
        n_time = counts.shape[0]
        if counts.ndim != 2 or counts.shape[1] != self.grid.n_pixel:
            raise ValueError(
                f"{self.detector}: counts have shape {counts.shape}, expected (n_time, {self.grid.n_pixel})"
            )
        if isinstance(self.grid, HourAngleGrid) and n_time != self.grid.n_time:
            raise ValueError(f"{self.detector}: {n_time} time bins, expected {self.grid.n_time} as the grid has")
        _check_frame(self.frame, self.detector)
        store(self, counts=counts)
        if self.squared_weights is not None:
            squared = _counts(self.squared_weights, "squared_weights")
            if squared.shape != counts.shape:
                raise ValueError(
                    f"{self.detector}: squared_weights have shape {squared.shape}, not {counts.shape}"
                )
            store(self, squared_weights=squared)

    @property
    def n_time(self) -> int:
        """Number of time bins."""
        return int(self.counts.shape[0])

    @property
    def total(self) -> float:
        """Number of events, or sum of weights."""
        return float(self.counts.sum())


@dataclass(frozen=True)
class RingCounts:
    r"""All that the likelihood of an event map on an `HourAngleGrid` needs: three sums of its counts.

    With :math:`n_{trj}` the counts of time bin t in band r and hour-angle cell j,

    .. math:: n_t = \sum_{rj} n_{trj}, \qquad n_{rj} = \sum_t n_{trj}, \qquad s_{rk} = \sum_t n_{t,r,t-k}.

    Attributes
    ----------
    per_time : ndarray, shape (n_time,)
        :math:`n_t`.
    per_cell : ndarray, shape (n_dec, n_time)
        :math:`n_{rj}`.
    per_sky : ndarray, shape (n_dec, n_time)
        :math:`s_{rk}`.
    per_declination : ndarray, shape (n_dec * n_sub,)
        Counts in finer bands, n_sub to each band of the grid, so that harmonics are averaged where the events are;
        n_sub is 1 where nothing finer is known.
    grid : HourAngleGrid
        The cells.
    detector, provenance, frame, energy
        As in `EventMap`.
    squared : tuple of four ndarray, or None
        The same four sums of squared weights; None where every weight is one.
    """

    per_time: FloatArray
    per_cell: FloatArray
    per_sky: FloatArray
    per_declination: FloatArray
    grid: HourAngleGrid
    detector: str
    provenance: Provenance
    squared: tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None = None
    frame: str = "sidereal"
    energy: str = ""

    def __post_init__(self) -> None:
        _check_frame(self.frame, self.detector)
        names = ("per_time", "per_cell", "per_sky", "per_declination")
        store(self, **dict(zip(names, self._checked([getattr(self, n) for n in names], "counts"), strict=True)))
        if self.squared is not None:
            store(self, squared=tuple(self._checked(self.squared, "squared weights")))

    def _checked(self, sums: Sequence[ArrayLike], what: str) -> list[FloatArray]:
        """The four sums of one plane, checked against the grid and each other."""
        n_dec, n_time = self.grid.n_dec, self.grid.n_time
        arrays = [_counts(values, what) for values in sums]
        shapes = [array.shape for array in arrays]
        if shapes[:3] != [(n_time,), (n_dec, n_time), (n_dec, n_time)] or arrays[3].ndim != 1:
            raise ValueError(
                f"{self.detector}: sums of {what} have shapes {shapes}, expected ({n_time},), ({n_dec}, {n_time}) "
                f"twice, and (n_dec * n_sub,)"
            )
        if arrays[3].size == 0 or arrays[3].size % n_dec:
            raise ValueError(f"{self.detector}: {arrays[3].size} fine bands, expected a multiple of {n_dec}")
        totals = np.array([array.sum() for array in arrays])
        if np.ptp(totals) > 1e-9 * totals.max():
            raise ValueError(f"{self.detector}: sums of {what} have totals {totals}, expected one number")
        return arrays

    @property
    def total(self) -> float:
        """Number of events, or sum of weights."""
        return float(self.per_time.sum())


def _counts(values: ArrayLike, name: str) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    if not np.all(np.isfinite(array)) or np.any(array < 0.0):
        bad = array[~(np.isfinite(array) & (array >= 0.0))].flat[0]
        raise ValueError(f"{name}: value {bad}, expected finite numbers that are not negative")
    array.setflags(write=False)
    return array


def _check_frame(frame: str, detector: str) -> None:
    if frame not in FRAMES:
        raise ValueError(f"{detector}: frame {frame!r}, expected one of {', '.join(FRAMES)}")
