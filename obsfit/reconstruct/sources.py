"""Where the events of a configuration come from: files of event maps in any format, or event lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.bin_files import read_bin_files
from obsfit.ingest.event_columns import EventColumns
from obsfit.ingest.events import read_event_map, read_events
from obsfit.ingest.multimap import read_multimap
from obsfit.ingest.record_files import read_record
from obsfit.ingest.tables import nearest
from obsfit.observatory import SiteSettings
from obsfit.provenance import sha256
from obsfit.records.event_map import EventMap, HourAngleGrid, RingCounts

Events = EventMap | RingCounts


@dataclass(frozen=True)
class RingSettings:
    """Cells on rings of declination that event lists are counted in.

    Attributes
    ----------
    n_dec : int
        Bands of declination.
    n_time : int
        Time bins, and cells of a ring.
    """

    __pydantic_config__ = FORBID

    n_dec: int = 128
    n_time: int = 360

    @property
    def grid(self) -> HourAngleGrid:
        """The cells."""
        try:
            return HourAngleGrid(self.n_dec, self.n_time)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error


@dataclass(frozen=True)
class EventSource(SiteSettings):
    """The events of one detector.

    Attributes
    ----------
    events : str or tuple of str
        File, relative to the configuration; several for event lists, and what stands before the number of the bin for
        bin-files.
    name, latitude, longitude, zenith_max
        As `obsfit.observatory.SiteSettings`. Our own files know where they were counted: only the name is used, if it
        is given.
    format : str
        "obsfit": our own file of an event map or of ring sums. "multimap", "bin-files": files of other programs, see
        `obsfit.ingest.multimap` and `obsfit.ingest.bin_files`. "list": an event list, see `obsfit.ingest.events`.
        Default: a list where columns are given, else our own.
    columns : EventColumns or None
        What the columns of an event list mean.
    energy : str
        Energy bin of a list with several, such as "8-13 TeV"; for other formats, label of the bin where the file has
        none.
    axes, time_reference, bin_reference : str
        What pixels and time bins mean, where the file does not say it; see `obsfit.ingest.local_conventions`.
    suffix : str
        What stands after the number of the bin in the names of bin-files.
    n_time : int
        Number of bin-files, where their headers do not say it; 0 otherwise.
    weighted : bool or None
        Whether to take weights, where the file has both; None for what the reader takes by itself.
    frame : str
        Clock of the time bins of a multimap or bin-files; empty for what the file says.
    drop_beyond_cut : bool
        Whether events beyond the zenith cut are dropped, instead of refused.
    """

    name: str = ""
    events: str | tuple[str, ...] = ""
    format: Literal["", "obsfit", "multimap", "bin-files", "list"] = ""
    columns: EventColumns | None = None
    energy: str = ""
    axes: str = ""
    time_reference: str = ""
    bin_reference: str = ""
    suffix: str = ".fits"
    n_time: int = 0
    weighted: bool | None = None
    frame: str = ""
    drop_beyond_cut: bool = False

    def __post_init__(self) -> None:
        if not self.events:
            raise ConfigurationError(
                f"detector {self.name or 'without a name'}: no events", expected="events = the name of a file"
            )
        if (self.kind == "list") != (self.columns is not None):
            raise ConfigurationError(
                f"{self.label}: format {self.kind!r} {'with' if self.columns else 'without'} columns",
                expected="columns for event lists, and only for those",
            )
        if len(self.files) > 1 and self.kind != "list":
            raise ConfigurationError(f"{self.label}: {len(self.files)} files", expected="one, of all but lists")
        if self.kind != "obsfit" and not self.name:
            raise ConfigurationError(
                f"{self.label}: no name", expected="name of an observatory, or name, latitude and zenith_max"
            )

    @property
    def kind(self) -> str:
        """Format of the file."""
        return self.format or ("list" if self.columns is not None else "obsfit")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files."""
        return (self.events,) if isinstance(self.events, str) else self.events

    @property
    def label(self) -> str:
        """Name of the detector for messages, or of its first file."""
        return self.name or self.files[0]


def read_source(source: EventSource, *, base: Path, rings: RingSettings, as_map: bool, frame: str = "") -> Events:
    """Return the events of one detector.

    Parameters
    ----------
    source : EventSource
        Where they come from.
    base : Path
        Folder to which paths are relative.
    rings : RingSettings
        Cells for event lists.
    as_map : bool
        Whether lists are wanted as event maps, which some methods need, instead of sums of them.
    frame : str
        Clock of the time bins in place of that of the columns of a list; empty for theirs.

    Raises
    ------
    ConfigurationError, DataFormatError
        As the readers; also if sums are given where maps are needed.
    """
    if source.kind == "list":
        return _read_list(source, base, rings, as_map, frame)
    if frame:
        raise ConfigurationError(
            f"{source.label}: events that are counted already, in one frame",
            expected="event lists, which can be counted in any frame",
        )
    path = base / source.files[0]
    if source.kind == "obsfit":
        record = read_record(path)
        if not isinstance(record, EventMap | RingCounts):
            raise DataFormatError(
                f"holds a {type(record).__name__}", path=path, expected="an event map, or sums of one"
            )
        found: Events = replace(record, detector=source.name) if source.name else record
    else:
        found = _read_other(source, path)
    if as_map and isinstance(found, RingCounts):
        raise ConfigurationError(
            f"{source.label}: sums of an event map do not know the time of each count", path=path,
            expected="the event map itself, for this method",
        )  # fmt: skip
    return found


def checksums(source: EventSource, events: Events, *, base: Path) -> dict[str, str]:
    """Return the SHA-256 checksum of each file of a source, by name; for bin-files that of all together."""
    if source.kind == "bin-files":
        return {source.files[0]: events.provenance.sha256}
    return {name: sha256(base / name) for name in source.files}


def _read_other(source: EventSource, path: Path) -> EventMap:
    stated: dict[str, Any] = {
        key: getattr(source, key) or None for key in ("axes", "time_reference", "bin_reference", "frame")
    }
    stated["energy"] = source.energy or None
    if source.kind == "multimap":
        weighted = True if source.weighted is None else source.weighted
        return read_multimap(
            path,
            observatory=source.observatory,
            weighted=weighted,
            drop_beyond_cut=source.drop_beyond_cut,
            **stated,
        )
    return read_bin_files(
        path, source.suffix, observatory=source.observatory, n_time=source.n_time or None, weighted=source.weighted,
        drop_beyond_cut=source.drop_beyond_cut, **stated,
    )  # fmt: skip


def _read_list(source: EventSource, base: Path, rings: RingSettings, as_map: bool, frame: str) -> Events:
    if source.columns is None:
        raise ConfigurationError(f"{source.label}: no columns", expected="columns of an event list")
    columns = _in_one_bin(source.columns.relative_to(base), source.energy, source.label)
    if frame:
        columns = replace(columns, frame=frame)
    paths: Sequence[Path] = [base / name for name in source.files]
    if as_map:
        return read_event_map(paths, columns, observatory=source.observatory, grid=rings.grid)
    return read_events(paths, columns, observatory=source.observatory, grid=rings.grid)[0]


def _in_one_bin(columns: EventColumns, wanted: str, label: str) -> EventColumns:
    """The columns with the one energy bin that is wanted."""
    column = columns.energy
    bins = () if column is None else tuple(tuple(row) for row in column.bins_tev())
    names = [f"{low:g}-{high:g} TeV" for low, high in bins]
    if column is None or (len(bins) < 2 and not wanted):
        return columns
    if wanted not in names:
        raise ConfigurationError(
            f"{label}: energy {wanted!r}{nearest(wanted, names)}",
            expected=f"one of its {len(names)} bins: {', '.join(names)}",
        )
    low, high = bins[names.index(wanted)]
    return replace(columns, energy=replace(column, bins=((f"{low!r} TeV", f"{high!r} TeV"),)))
