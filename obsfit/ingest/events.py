"""Event lists of any length and format into `RingCounts` and `EventMap`, checked row by row.

A list is read a piece at a time (`obsfit.ingest.event_files`); each piece is checked, cut, brought to the detector's
clock and to hour angle and declination, and added to the sums, so that memory does not depend on the number of rows.
Nothing is returned unless every row was good: a bad one is reported with up to `DataFormatError.SHOWN` others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest import _binning_kernels as kernels
from obsfit.ingest.event_checks import BoolArray, Complaints, Extents, FloatArray, Rows
from obsfit.ingest.event_columns import (
    AZIMUTH_CONVENTIONS,
    EnergyColumn,
    EquatorialColumns,
    EventColumns,
    LocalColumns,
    checked_bins,
)
from obsfit.ingest.event_files import ROWS, EventList, open_list, table_list
from obsfit.ingest.event_times import mjd_column, read_good_runs
from obsfit.ingest.event_transforms import (
    azimuth_zenith_angles,
    clock_angle,
    equator_of_date,
    hour_angle_declination,
)
from obsfit.ingest.tables import parse_unit
from obsfit.observatory import Observatory
from obsfit.provenance import sha256
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid, RingCounts
from obsfit.records.provenance import Provenance

Paths = str | Path | Sequence[str | Path]
Progress = Callable[[int], None]
Directions = tuple[FloatArray, FloatArray]
Tables = tuple[FloatArray, ...]

N_SUB = 8
"""Fine bands of declination in each band of the grid."""
MAX_MAP_BYTES = 2**32
FULL_TURN, QUARTER_TURN = 360.0 * u.deg, 90.0 * u.deg


def read_events(
    paths: Paths,
    columns: EventColumns,
    *,
    observatory: Observatory,
    grid: HourAngleGrid | None = None,
    energy_edges: u.Quantity | None = None,
    n_sub: int = N_SUB,
    rows: int = ROWS,
    progress: Progress | None = None,
) -> list[RingCounts]:
    """Return the sums of event lists that reconstructions need, one for each energy bin in ascending order.

    Kept are rows that pass `columns.cuts`, lie within the observatory's zenith cut and in an energy bin. Memory and
    result do not depend on `rows` or on the order of the files (weighted sums within rounding).

    Parameters
    ----------
    paths : str, Path or sequence of them
        Parquet, HDF5, FITS or text files of one detector, see `obsfit.ingest.event_files.open_list`.
    columns : EventColumns
        What their columns mean.
    observatory : Observatory
        Where the detector stands, and its zenith cut.
    grid : HourAngleGrid, optional
        Cells; default 128 x 360.
    energy_edges : Quantity, energy, optional
        Edges of adjacent bins, shape (n + 1,), or limits of bins, shape (n, 2); instead of `columns.energy.bins`.
    n_sub : int
        Fine bands of declination in each band.
    rows : int
        Rows in memory at once.
    progress : callable, optional
        Called with the number of rows of each piece.

    Raises
    ------
    DataFormatError
        Names file, rows, columns and values that are missing, not numbers, out of range, of another unit, outside
        the good runs, negative weights, never above the horizon, or different by local and equatorial angles; and
        files that are truncated, lack a column, or leave no event in the field of view or in an energy bin.
    ConfigurationError
        If `columns` contradict the other arguments, energy bins overlap, or a file is given twice.
    """
    grid = grid if grid is not None else HourAngleGrid()
    stream = _Stream(_opened(paths, columns), columns, observatory, energy_edges, rows, progress)
    return _ring_counts(stream, grid, n_sub, _provenance(paths, stream))


def count_events(
    table: Mapping[str, Any] | EventList,
    columns: EventColumns,
    *,
    observatory: Observatory,
    grid: HourAngleGrid | None = None,
    energy_edges: u.Quantity | None = None,
    n_sub: int = N_SUB,
    rows: int = ROWS,
    progress: Progress | None = None,
) -> list[RingCounts]:
    """Return the same sums of a table in memory, or of an `EventList` from elsewhere.

    Parameters, results and errors as `read_events`, except for

    Parameters
    ----------
    table : pandas.DataFrame, mapping of str to array_like (n,), or EventList
        The events; the pieces of an `EventList` may be made as they are asked for. `columns.table` and
        `columns.names` are not used.
    """
    grid = grid if grid is not None else HourAngleGrid()
    lists = [table if isinstance(table, EventList) else table_list(table)]
    stream = _Stream(lists, columns, observatory, energy_edges, rows, progress)
    return _ring_counts(stream, grid, n_sub, lambda: Provenance("events", meta=stream.story()))


def read_event_map(
    paths: Paths,
    columns: EventColumns,
    *,
    observatory: Observatory,
    grid: HourAngleGrid | HealpixLocalGrid | None = None,
    n_time: int = 360,
    energy_edges: u.Quantity | None = None,
    rows: int = ROWS,
    progress: Progress | None = None,
) -> EventMap:
    """Return the events of one energy bin counted in every time bin and local pixel.

    Parameters
    ----------
    paths, columns, observatory, rows, progress
        As in `read_events`.
    grid : HourAngleGrid or HealpixLocalGrid, optional
        Local pixels; default `HourAngleGrid` of 128 x 360. The latitude of a HEALPix grid must be the observatory's.
    n_time : int
        Number of time bins on a HEALPix grid; an `HourAngleGrid` has its own.
    energy_edges : Quantity, energy, optional
        The two limits of the bin, instead of `columns.energy.bins`.

    Raises
    ------
    DataFormatError, ConfigurationError
        As `read_events`; also if there are several energy bins, a HEALPix grid has another latitude, or the map
        needs more than `MAX_MAP_BYTES`.
    """
    grid = grid if grid is not None else HourAngleGrid()
    stream = _Stream(_opened(paths, columns), columns, observatory, energy_edges, rows, progress)
    if len(stream.bins_tev) > 1:
        raise ConfigurationError(
            f"{len(stream.bins_tev)} energy bins for one event map", expected="one bin, given by two energy_edges"
        )
    if isinstance(grid, HourAngleGrid):
        n_time = grid.n_time
    elif abs(grid.latitude_rad - stream.latitude_rad) > 1e-9:
        raise ConfigurationError(
            f"the grid's latitude is {np.degrees(grid.latitude_rad):g} deg", value=grid.latitude_rad,
            expected=f"that of {observatory.name}, {observatory.latitude}",
        )  # fmt: skip
    if n_time < 1 or 8 * n_time * grid.n_pixel > MAX_MAP_BYTES:
        raise ConfigurationError(
            f"{n_time} time bins of {grid.n_pixel} pixels",
            expected=f"at least one, and at most {MAX_MAP_BYTES} bytes",
        )
    counts = np.zeros((n_time, grid.n_pixel))
    squared = np.zeros_like(counts) if columns.weight else None
    for events in stream:
        kernels.add_to_map(events.time_angle, events.pixels(grid), events.weight, counts, squared)
    stream.finish()
    return EventMap(
        counts, grid, observatory.name, _provenance(paths, stream)(), squared, columns.frame, stream.labels[0]
    )


@dataclass(frozen=True)
class _Events:
    """Good events of one piece: radians, float64; directions by azimuth and zenith, or hour angle and declination."""

    time_angle: FloatArray
    first: FloatArray
    second: FloatArray
    local: bool
    latitude_rad: float
    weight: FloatArray | None
    energy_bin: NDArray[np.int32] | None

    def keep(self, good: BoolArray) -> _Events:
        """Return the events where `good` is true."""
        if good.all():
            return self
        return replace(
            self, time_angle=self.time_angle[good], first=self.first[good], second=self.second[good],
            weight=None if self.weight is None else self.weight[good],
            energy_bin=None if self.energy_bin is None else self.energy_bin[good],
        )  # fmt: skip

    def add_to(self, shape: tuple[int, int, int], sums: Tables, squared: Tables | None) -> None:
        """Add the events to the sums of an `HourAngleGrid`."""
        rest = (self.energy_bin, self.weight, shape, sums, squared)
        if self.local:
            kernels.add_to_rings_from_horizon(self.time_angle, self.first, self.second, self.latitude_rad, *rest)
        else:
            kernels.add_to_rings(self.time_angle, self.first, self.second, *rest)

    def pixels(self, grid: HourAngleGrid | HealpixLocalGrid) -> NDArray[np.int64]:
        """Return the local pixel of each event."""
        if isinstance(grid, HourAngleGrid):
            hour_angle, dec = self.first, self.second
            if self.local:
                hour_angle, dec = hour_angle_declination(self.first, self.second, self.latitude_rad)
            band, cell = np.empty(dec.size, dtype=np.int32), np.empty(dec.size, dtype=np.int32)
            kernels.declination_bands(dec, grid.n_dec, band)
            kernels.angular_cells(hour_angle, grid.n_time, cell)
            return band * np.int64(grid.n_time) + cell
        azimuth, zenith = self.first, self.second
        if not self.local:
            azimuth, zenith = azimuth_zenith_angles(self.first, self.second, self.latitude_rad)
        return np.asarray(hp.ang2pix(grid.nside, zenith, -azimuth), dtype=np.int64)

    def within(self, zenith_max_rad: float) -> BoolArray:
        """Return where the zenith angle is at most `zenith_max_rad`; an event printed at the limit is inside."""
        if self.local:
            return self.second <= zenith_max_rad + 1e-9
        sin_lat, cos_lat = np.sin(self.latitude_rad), np.cos(self.latitude_rad)
        cos_zenith = sin_lat * np.sin(self.second) + cos_lat * np.cos(self.second) * np.cos(self.first)
        return np.asarray(cos_zenith >= np.cos(zenith_max_rad + 1e-9))


@dataclass
class _Tally:
    """What became of the rows."""

    read: int = 0
    cut: int = 0
    outside_runs: int = 0
    outside_zenith: int = 0
    outside_energy: int = 0
    kept: int = 0

    def __str__(self) -> str:
        return (
            f"{self.read} rows read, {self.cut} cut, {self.outside_runs} outside good runs, "
            f"{self.outside_zenith} beyond the zenith cut, {self.outside_energy} in no energy bin, {self.kept} kept"
        )


class _Stream:
    """Good events of several lists, a piece at a time; knows at the end what became of the rows."""

    def __init__(
        self,
        lists: Sequence[EventList],
        columns: EventColumns,
        observatory: Observatory,
        energy_edges: u.Quantity | None,
        rows: int,
        progress: Progress | None,
    ) -> None:
        if rows < 1:
            raise ConfigurationError(f"{rows} rows in memory", expected="at least 1")
        self.lists, self.columns, self.observatory = lists, columns, observatory
        self.rows, self.progress = rows, progress
        self.latitude_rad = float(observatory.latitude.to_value(u.rad))
        self.longitude_rad = float(observatory.longitude.to_value(u.rad))
        self.zenith_max_rad = float(observatory.zenith_max.to_value(u.rad))
        self.bins_tev = _energy_bins(columns, energy_edges)
        self.labels = [f"{low:g}-{high:g} TeV" for low, high in self.bins_tev] or [""]
        self.in_bin = np.zeros(len(self.labels), dtype=np.int64)
        self.energy_range = (np.inf, -np.inf)
        self.tally = _Tally()
        self.good_runs = None if columns.good_runs is None else read_good_runs(columns.good_runs)
        for events in lists:
            events.require(columns.used)
            _check_units(events, columns)

    def __iter__(self) -> Iterator[_Events]:
        for events in self.lists:
            complaints, extents = Complaints(events.path), Extents(events.path)
            done = 0
            for piece in events.pieces(self.columns.used, self.rows):
                n = len(next(iter(piece.values())))
                good = self._good(Rows(piece, np.arange(done, done + n), complaints), extents)
                done += n
                complaints.raise_from(DataFormatError.SHOWN)
                if good is not None and complaints.count == 0:
                    yield good
                if self.progress is not None:
                    self.progress(n)
            complaints.raise_from(1)
            extents.check()
            if done == 0:
                raise DataFormatError("has no rows", path=events.path, expected="a list of events")

    def finish(self) -> None:
        """Raise if nothing, or nothing in some energy bin, is left."""
        names = ", ".join(events.path for events in self.lists)
        if self.tally.kept == 0:
            raise DataFormatError(
                f"no event is left in the field of view ({self.tally})", path=names,
                expected=f"events within {self.observatory.zenith_max} of the zenith of {self.observatory.name}",
                remedy="Check zenith_max, cuts, energy bins and good runs against the list.",
            )  # fmt: skip
        for label, number in zip(self.labels, self.in_bin, strict=True):
            if number == 0:
                low, high = self.energy_range
                raise DataFormatError(
                    f"no event is in the energy bin {label} ({self.tally})", path=names, value=label,
                    expected=f"bins within the energies of the list, {low:g} to {high:g} TeV",
                )  # fmt: skip

    def story(self) -> dict[str, Any]:
        """Return what the product says of its making."""
        observatory = self.observatory
        site = {key: str(getattr(observatory, key)) for key in ("latitude", "longitude", "zenith_max")}
        return {"columns": asdict(self.columns), **site, **asdict(self.tally)}

    def _good(self, rows: Rows, extents: Extents) -> _Events | None:
        """Return the events of a piece that pass all cuts, None if a row is bad (remembered)."""
        self.tally.read += rows.number.size
        rows = self._cut(rows)
        columns = self.columns
        known = rows.complaints.count
        time_angle, sidereal, mjd = self._times(rows, extents)
        local = None if columns.local is None else _local(rows, columns.local, extents)
        equatorial = None if columns.equatorial is None else _equatorial(rows, columns.equatorial, extents)
        weight = _weights(rows, columns.weight) if columns.weight else None
        energy_bin = None if columns.energy is None else self._energies(rows, columns.energy)
        if rows.complaints.count > known:
            return None
        direction = local
        if columns.equatorial is not None and equatorial is not None:
            ra, dec = equatorial
            if columns.equatorial.equinox == "J2000" and mjd is not None:
                ra, dec = equator_of_date(ra, dec, mjd)
            if columns.local is None or local is None:
                self._rises(rows, dec, columns.equatorial)
                direction = sidereal - ra, dec
            else:
                self._agrees(rows, local, (sidereal - ra, dec), columns.local)
        if direction is None:
            return None
        events = _Events(time_angle, *direction, columns.local is not None, self.latitude_rad, weight, energy_bin)
        return self._seen(events, self._in_runs(rows, mjd))

    def _seen(self, events: _Events, in_runs: BoolArray) -> _Events:
        """Return the events inside all cuts, and count the others."""
        self.tally.outside_runs += int(np.count_nonzero(~in_runs))
        in_field = events.within(self.zenith_max_rad)
        self.tally.outside_zenith += int(np.count_nonzero(in_runs & ~in_field))
        keep = in_runs & in_field
        if events.energy_bin is not None:
            in_energy = events.energy_bin >= 0
            self.tally.outside_energy += int(np.count_nonzero(keep & ~in_energy))
            keep &= in_energy
        events = events.keep(keep)
        self.tally.kept += events.time_angle.size
        if events.energy_bin is None:
            self.in_bin[0] += events.time_angle.size
        else:
            self.in_bin += np.bincount(events.energy_bin, minlength=self.in_bin.size)
        return events

    def _cut(self, rows: Rows) -> Rows:
        keep = np.ones(rows.number.size, dtype=np.bool_)
        for cut in self.columns.cuts:
            values = rows.numbers(cut.column)
            keep &= np.isfinite(values)
            if cut.minimum is not None:
                keep &= values >= cut.minimum
            if cut.maximum is not None:
                keep &= values < cut.maximum
        self.tally.cut += int(np.count_nonzero(~keep))
        return rows.keep(keep)

    def _times(self, rows: Rows, extents: Extents) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        """The angle of the frame's clock, the local sidereal angle, and MJD where there is a date."""
        column = self.columns.time
        known = rows.complaints.count
        if column.format == "sidereal":
            angle = rows.angle(column.name, column.unit, -FULL_TURN, FULL_TURN)
            extents.see(column.name, column.unit, angle)
            return angle, angle, None
        mjd = mjd_column(rows, column.name, column.format)
        if rows.complaints.count > known:
            return mjd, mjd, mjd
        sidereal = clock_angle(mjd, self.longitude_rad)
        if self.columns.frame == "sidereal":
            return sidereal, sidereal, mjd
        return clock_angle(mjd, self.longitude_rad, self.columns.frame), sidereal, mjd

    def _energies(self, rows: Rows, column: EnergyColumn) -> NDArray[np.int32] | None:
        """Number of the bin of each event, -1 in none; None without bins."""
        if column.log10:
            tev = 10.0 ** rows.within(column.name, -100.0, 100.0, "as log10 of an energy")
        else:
            tev = rows.numbers(column.name)
            rows.complain(
                tev <= 0.0, column.name, "energy {value} is not positive", f"{column.name}: energies > 0"
            )
        tev = tev * u.Unit(column.unit).to(u.TeV)
        if len(self.bins_tev) == 0:
            return None
        if tev.size and np.isfinite(tev).all():
            low, high = self.energy_range
            self.energy_range = min(low, float(tev.min())), max(high, float(tev.max()))
        place = np.searchsorted(self.bins_tev[:, 0], tev, side="right") - 1
        inside = (place >= 0) & (tev < self.bins_tev[np.maximum(place, 0), 1])
        return np.where(inside, place, -1).astype(np.int32)

    def _in_runs(self, rows: Rows, mjd: FloatArray | None) -> BoolArray:
        """Whether events are inside the good runs; where they must be, those that are not are remembered."""
        settings, runs = self.columns.good_runs, self.good_runs
        if settings is None or runs is None or mjd is None:
            return np.ones(rows.number.size, dtype=np.bool_)
        place = np.searchsorted(runs[:, 0], mjd, side="right") - 1
        inside = (place >= 0) & (mjd <= runs[np.maximum(place, 0), 1])
        if settings.outside == "refuse":
            rows.complain(
                ~inside, self.columns.time.name, "time {value} is outside the good runs",
                f"times within the intervals of {settings.path}, or outside = 'drop'",
            )  # fmt: skip
        return inside

    def _rises(self, rows: Rows, dec: FloatArray, columns: EquatorialColumns) -> None:
        """Remember events of declinations that are never above the horizon."""
        # A tenth of a degree for the rounding of lists and of latitudes.
        never = np.abs(dec - self.latitude_rad) > 0.5 * np.pi + np.radians(0.1)
        latitude = self.observatory.latitude.to_value(u.deg)
        rows.complain(
            never, columns.declination,
            f"declination {{value}} {columns.unit} is never above the horizon at latitude {latitude:g} deg",
            f"declinations that {self.observatory.name} can see",
        )  # fmt: skip

    def _agrees(self, rows: Rows, local: Directions, equatorial: Directions, columns: LocalColumns) -> None:
        """Remember events whose local and equatorial directions differ, and say which axes would do."""
        apart = np.degrees(_separation(hour_angle_declination(*local, self.latitude_rad), equatorial))
        bad = apart > self.columns.agreement_deg
        if not bad.any():
            return
        hint = "local and equatorial directions that agree"
        middle = float(np.median(apart))
        if middle > self.columns.agreement_deg:
            better = self._better_axes(local, equatorial, columns)
            hint += f" (here they are {middle:.3g} deg apart in the median{better})"
        rows.complain(
            bad, columns.azimuth,
            "at azimuth {value} the local direction is more than "
            f"{self.columns.agreement_deg:g} deg from the equatorial one",
            hint,
        )  # fmt: skip

    def _better_axes(self, local: Directions, equatorial: Directions, columns: LocalColumns) -> str:
        offset, sign = AZIMUTH_CONVENTIONS[columns.azimuth_convention]
        printed = (local[0] - offset) * sign
        middles = {}
        for name, (other, turn) in AZIMUTH_CONVENTIONS.items():
            back = hour_angle_declination(other + turn * printed, local[1], self.latitude_rad)
            middles[name] = float(np.degrees(np.median(_separation(back, equatorial))))
        best = min(middles, key=lambda name: middles[name])
        if middles[best] > self.columns.agreement_deg:
            return "; no azimuth_convention mends it, so check longitude, time format and equinox"
        return f"; with azimuth_convention = {best!r} it would be {middles[best]:.3g} deg"


def _local(rows: Rows, columns: LocalColumns, extents: Extents) -> Directions:
    """Azimuth from North through East, and zenith angle."""
    azimuth = rows.angle(columns.azimuth, columns.unit, -FULL_TURN, FULL_TURN)
    extents.see(columns.azimuth, columns.unit, azimuth)
    offset, sign = AZIMUTH_CONVENTIONS[columns.azimuth_convention]
    if columns.from_horizon:
        zenith = 0.5 * np.pi - rows.angle(columns.zenith, columns.unit, -QUARTER_TURN, QUARTER_TURN)
    else:
        zenith = rows.angle(columns.zenith, columns.unit, 0.0 * u.deg, 2.0 * QUARTER_TURN)
    return offset + sign * azimuth, zenith


def _equatorial(rows: Rows, columns: EquatorialColumns, extents: Extents) -> Directions:
    """Right ascension and declination, as in the list."""
    unit = columns.right_ascension_unit or columns.unit
    ra = rows.angle(columns.right_ascension, unit, -FULL_TURN, FULL_TURN)
    extents.see(columns.right_ascension, unit, ra)
    return ra, rows.angle(columns.declination, columns.unit, -QUARTER_TURN, QUARTER_TURN)


def _weights(rows: Rows, column: str) -> FloatArray:
    values = rows.numbers(column)
    rows.complain(values < 0.0, column, "weight {value} is negative", f"{column}: weights >= 0")
    return values


def _ring_counts(
    stream: _Stream, grid: HourAngleGrid, n_sub: int, provenance: Callable[[], Provenance]
) -> list[RingCounts]:
    if n_sub < 1:
        raise ConfigurationError(f"n_sub {n_sub}", value=n_sub, expected="at least 1")
    n_bin, n_dec, n_time = len(stream.labels), grid.n_dec, grid.n_time
    shapes = ((n_bin, n_time), (n_bin, n_dec, n_time), (n_bin, n_dec, n_time), (n_bin, n_dec * n_sub))
    sums = tuple(np.zeros(shape) for shape in shapes)
    squared = tuple(np.zeros(shape) for shape in shapes) if stream.columns.weight else None
    for events in stream:
        events.add_to((n_dec, n_time, n_sub), sums, squared)
    stream.finish()
    origin = provenance()
    found = []
    for e, label in enumerate(stream.labels):
        per_time, per_cell, per_sky, per_declination = (table[e] for table in sums)
        squares = None if squared is None else (squared[0][e], squared[1][e], squared[2][e], squared[3][e])
        found.append(
            RingCounts(
                per_time, per_cell, per_sky, per_declination, grid, stream.observatory.name, origin, squares,
                stream.columns.frame, label,
            )
        )  # fmt: skip
    return found


def _opened(paths: Paths, columns: EventColumns) -> list[EventList]:
    files = _listed(paths)
    if not files:
        raise ConfigurationError("no event list was given", expected="at least one file")
    resolved = [path.resolve() for path in files]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise ConfigurationError("is given twice", path=files[i], expected="each list of events once")
    return [open_list(path, table=columns.table, names=columns.names) for path in files]


def _listed(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _provenance(paths: Paths, stream: _Stream) -> Callable[[], Provenance]:
    """The origin of a product: of several files, one checksum that does not depend on their order."""

    def origin() -> Provenance:
        files = sorted(_listed(paths))
        sums = sorted(sha256(path) for path in files)
        combined = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
        story = {**stream.story(), "files": [str(path) for path in files]}
        return Provenance(files[0].stem, str(files[0]), combined, meta=story)

    return origin


def _energy_bins(columns: EventColumns, energy_edges: u.Quantity | None) -> FloatArray:
    """Limits in TeV, shape (n, 2)."""
    if energy_edges is None:
        return np.empty((0, 2)) if columns.energy is None else columns.energy.bins_tev()
    if columns.energy is None:
        raise ConfigurationError("energy_edges are given, but no column of energies", expected="columns.energy")
    if columns.energy.bins:
        raise ConfigurationError("energy bins are given twice", expected="energy_edges or columns.energy.bins")
    edges = np.asarray(energy_edges.to_value(u.TeV), dtype=np.float64)
    if edges.ndim == 1 and edges.size >= 2:
        if np.any(np.diff(edges) <= 0.0):
            raise ConfigurationError(f"energy_edges {energy_edges}", expected="ascending edges")
        edges = np.column_stack([edges[:-1], edges[1:]])
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ConfigurationError(
            f"energy_edges have shape {edges.shape}", expected="(n + 1,) edges or (n, 2) limits"
        )
    return checked_bins(edges)


def _check_units(events: EventList, columns: EventColumns) -> None:
    """Raise if a file declares another unit for a column than the configuration."""
    stated: dict[str, str] = {}
    if columns.local:
        stated |= {columns.local.azimuth: columns.local.unit, columns.local.zenith: columns.local.unit}
    sky = columns.equatorial
    if sky:
        stated |= {sky.right_ascension: sky.right_ascension_unit or sky.unit, sky.declination: sky.unit}
    if columns.energy and not columns.energy.log10:
        stated[columns.energy.name] = columns.energy.unit
    if columns.time.unit:
        stated[columns.time.name] = columns.time.unit
    for name, unit in stated.items():
        declared = parse_unit(events.units.get(name, ""))
        if declared is not None and declared.bases and declared != parse_unit(unit):
            raise DataFormatError(
                f"the file says that {name!r} is in {events.units[name]}, the configuration {unit}",
                path=events.path, column=name, value=events.units[name], expected="one unit",
                remedy="Correct the configuration of the list.",
            )  # fmt: skip


def _separation(first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Angle between directions (longitude, latitude), exact also for small ones."""
    (lon1, lat1), (lon2, lat2) = first, second
    half = np.sin(0.5 * (lat1 - lat2)) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin(0.5 * (lon1 - lon2)) ** 2
    return np.asarray(2.0 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))
