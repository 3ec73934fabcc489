"""Maximum likelihood by looking up where each pixel points in each time bin: a slow cross-check of the rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.reconstruct._gather_kernels import add_expected, add_to_sky, sky_by_pixel, sky_by_time
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import ObservationSpec
from obsfit.sky.ring_means import ring_of_pixels

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int32]

LOSS = (
    "The mean of each ring, a_l0, is lost. A pixel is taken to see the sky pixel that its centre points at in the "
    "middle of a time bin, off by up to half a pixel; on HEALPix, local pixels straddle rings of the sky, whose means "
    "are removed in each pass although that is not exact. Acceptance is taken as constant in time."
)


@dataclass(frozen=True)
class GatherReconstruction:
    """Relative intensity of sky pixels, with what was fitted beside it.

    Attributes
    ----------
    relative_intensity : ndarray, shape (n_sky,)
        I, of mean one over the seen pixels of each ring; NaN where unseen. For HEALPix in RING order and equatorial
        coordinates; for rings band by band, cells as in `MapReconstruction`.
    exposure : tuple of ndarray, shape (n_time,)
        Expected events of each time bin, for each detector.
    acceptance : tuple of ndarray, shape (n_pixel,)
        Share of the local pixels, of sum one, for each detector.
    spec : ObservationSpec
        How it was made.
    provenance : tuple of Provenance
        Origin of the events of each detector.
    iterations : int
        Passes of the update equations.
    """

    relative_intensity: FloatArray
    exposure: tuple[FloatArray, ...]
    acceptance: tuple[FloatArray, ...]
    spec: ObservationSpec
    provenance: tuple[Provenance, ...]
    iterations: int


@dataclass(frozen=True)
class GatherLikelihood:
    """The update equations of the likelihood as they stand, with one table of where pixels point: a slow cross-check.

    Use `IterativeLikelihood` for results. Here each pass goes through all time bins and pixels, and nothing speeds
    up its convergence: some fifty passes at the latitude of HAWC instead of seven, each many times as long. It exists
    because it shares neither grid nor sums nor solver with the rings. Gaps that hide a gradient are not looked for.

    Attributes
    ----------
    tolerance : float
        Largest change of ln N in one pass at which to stop. The error that is left is larger, by one over one minus
        the convergence factor: six times at the latitude of HAWC.
    max_iterations : int
        Passes after which it gives up.
    """

    __pydantic_config__ = FORBID

    tolerance: float = 1e-10
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        if not self.tolerance > 0.0:
            raise ConfigurationError(f"tolerance {self.tolerance}", expected="a positive number")
        if self.max_iterations < 1:
            raise ConfigurationError(f"max_iterations {self.max_iterations}", expected="at least one pass")

    def reconstruct(
        self, events: EventMap | Sequence[EventMap], *, rng: np.random.Generator | None = None
    ) -> GatherReconstruction:
        """Relative intensity, exposure and acceptance at the maximum of the likelihood.

        Parameters
        ----------
        events : EventMap or sequence of EventMap
            One for each detector: all on HEALPix of one nside, or all on one grid of rings.
        rng : numpy.random.Generator, optional
            Not used: nothing is drawn.

        Raises
        ------
        ConfigurationError
            If the maps do not fit together, or one has no events.
        ConvergenceError
            If the tolerance is not met.
        """
        maps = [events] if isinstance(events, EventMap) else list(events)
        ring, sin_edges = _check(maps)
        local = [np.flatnonzero(m.counts.any(axis=0)) for m in maps]
        tables = [sky_pixels(m, pixels) for m, pixels in zip(maps, local, strict=True)]
        observed = np.zeros(ring.size)
        for event_map, pixels, table in zip(maps, local, tables, strict=True):
            add_to_sky(table, np.ascontiguousarray(event_map.counts[:, pixels]), observed)
        per_time = [m.counts.sum(axis=1) for m in maps]
        per_pixel = [m.counts.sum(axis=0)[pixels] for m, pixels in zip(maps, local, strict=True)]
        exposure = [n.copy() for n in per_time]
        acceptance = [n / n.sum() for n in per_pixel]
        iterations, change = 0, np.inf
        while change >= self.tolerance:
            if iterations == self.max_iterations:
                raise ConvergenceError(
                    f"after {iterations} passes ln N still changes by {change:.3g}",
                    expected=f"a change below the tolerance {self.tolerance:g}",
                    remedy="Use IterativeLikelihood: this method is a cross-check.",
                )
            iterations += 1
            expected = np.zeros(ring.size)
            for table, n, a in zip(tables, exposure, acceptance, strict=True):
                add_expected(table, n, a, expected)
            seen = expected > 0.0
            intensity = np.divide(observed, expected, out=np.zeros(ring.size), where=seen)
            cells = np.bincount(ring, weights=seen)
            intensity *= (cells / np.maximum(np.bincount(ring, weights=intensity), np.finfo(float).tiny))[ring]
            change = 0.0
            for d, table in enumerate(tables):
                before = exposure[d]
                exposure[d] = _ratio(per_time[d], sky_by_time(table, acceptance[d], intensity))
                acceptance[d] = _ratio(per_pixel[d], sky_by_pixel(table, exposure[d], intensity))
                total = acceptance[d].sum()
                exposure[d], acceptance[d] = exposure[d] * total, acceptance[d] / total
                full = per_time[d] > 0.0
                change = max(change, float(np.abs(np.log(exposure[d][full] / before[full])).max()))
        rings = ring[seen]
        return GatherReconstruction(
            relative_intensity=np.where(seen, intensity, np.nan),
            exposure=tuple(exposure),
            acceptance=tuple(
                _everywhere(a, p, m.grid.n_pixel) for a, p, m in zip(acceptance, local, maps, strict=True)
            ),
            spec=ObservationSpec(
                method="gather-likelihood",
                settings=asdict(self),
                detectors=tuple(m.detector for m in maps),
                dec_min_rad=float(np.arcsin(sin_edges[rings].min())),
                dec_max_rad=float(np.arcsin(sin_edges[rings + 1].max())),
                frame=maps[0].frame,
                filtered=True,
                loss=LOSS,
            ),
            provenance=tuple(m.provenance for m in maps),
            iterations=iterations,
        )


def sky_pixels(event_map: EventMap, pixels: NDArray[np.intp]) -> IndexArray:
    """Sky pixel that each of some local pixels sees in each time bin, shape (n_time, n).

    On rings it is cell (t - j) of the band. On HEALPix, local axes are (North, West, up), and the pixel is that of
    the centre's direction at the middle of the time bin.
    """
    grid, n_time = event_map.grid, event_map.n_time
    bins = np.arange(n_time)[:, None]
    if isinstance(grid, HourAngleGrid):
        band, cell = np.divmod(pixels, grid.n_time)
        return (band * grid.n_time + (bins - cell) % grid.n_time).astype(np.int32)
    north, west, up = hp.pix2vec(grid.nside, pixels)
    sin_lat, cos_lat = np.sin(grid.latitude_rad), np.cos(grid.latitude_rad)
    meridian, pole = cos_lat * up - sin_lat * north, sin_lat * up + cos_lat * north
    angle = (bins + 0.5) * (2.0 * np.pi / n_time)
    x = np.cos(angle) * meridian + np.sin(angle) * west
    y = np.sin(angle) * meridian - np.cos(angle) * west
    return np.asarray(hp.vec2pix(grid.nside, x, y, np.broadcast_to(pole, x.shape)), dtype=np.int32)


def _everywhere(values: FloatArray, pixels: NDArray[np.intp], n_pixel: int) -> FloatArray:
    full = np.zeros(n_pixel)
    full[pixels] = values
    return full


def _ratio(events: FloatArray, expected: FloatArray) -> FloatArray:
    """Quotient where there are events, zero elsewhere."""
    return np.divide(events, expected, out=np.zeros_like(events), where=events > 0.0)


def _check(maps: Sequence[EventMap]) -> tuple[NDArray[np.int64], FloatArray]:
    """Ring of each sky pixel and sines of declination that ring i keeps between, at places i and i + 1."""
    if not maps:
        raise ConfigurationError("no events", expected="at least one event map")
    first = maps[0]
    for other in maps:
        if other.total == 0.0:
            raise ConfigurationError(f"{other.detector}: no events", expected="a field of view with events")
        for what, ours, theirs in (
            ("resolution", _resolution(first), _resolution(other)),
            ("frame", first.frame, other.frame),
            ("energy", first.energy, other.energy),
        ):
            if ours != theirs:
                raise ConfigurationError(
                    f"{first.detector} has {what} {ours}, {other.detector} {theirs}",
                    expected=f"the same {what} of all detectors that are taken together",
                )
    grid = first.grid
    if isinstance(grid, HourAngleGrid):
        return np.repeat(np.arange(grid.n_dec), grid.n_time), np.sin(grid.dec_edges_rad)
    centres = hp.ringinfo(grid.nside, np.arange(1, 4 * grid.nside))[2]
    # Counted from the South, as bands are.
    return 4 * grid.nside - 2 - ring_of_pixels(grid.nside), np.concatenate(
        [[-1.0], 0.5 * (centres[1:] + centres[:-1])[::-1], [1.0]]
    )


def _resolution(event_map: EventMap) -> tuple[int, ...]:
    """What maps must share to be gathered on one sky."""
    grid: HourAngleGrid | HealpixLocalGrid = event_map.grid
    return (grid.n_dec, grid.n_time) if isinstance(grid, HourAngleGrid) else (grid.nside,)
