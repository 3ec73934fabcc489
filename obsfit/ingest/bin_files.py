"""Local maps of counted events in one HEALPix file for each time bin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import BadValue, ConfigurationError, DataFormatError
from obsfit.ingest import fits_maps
from obsfit.ingest.event_maps import COUNTS, SQUARED, WEIGHTS, assemble, known_frame, planes_to_write, totals
from obsfit.ingest.fits_maps import check_coordinates, check_counts, own_keywords, story, told, whole_keyword
from obsfit.ingest.local_conventions import stated_convention
from obsfit.observatory import Observatory
from obsfit.provenance import atomic_write
from obsfit.records.event_map import EventMap
from obsfit.records.provenance import Provenance

FloatArray = NDArray[np.float64]


def read_bin_files(
    prefix: str | Path,
    suffix: str = ".fits",
    *,
    observatory: Observatory,
    n_time: int | None = None,
    axes: str | None = None,
    time_reference: str | None = None,
    bin_reference: str | None = None,
    weighted: bool | None = None,
    frame: str | None = None,
    energy: str | None = None,
    drop_beyond_cut: bool = False,
) -> EventMap:
    """Return the event map in a series of HEALPix files, one for each time bin.

    The file of bin t is named prefix + three digits of t + suffix, t from zero. Its table holds the numbers of
    events, or these, the sums of weights and of squared weights in its first three columns.

    Parameters
    ----------
    prefix, suffix : str
        What stands before and after the number of the bin, the folder included.
    observatory : Observatory
        Where, see `event_map`.
    n_time : int, optional
        Number of bins of a day. Needed if the headers have no NBINS.
    axes, time_reference, bin_reference : str, optional
        What pixels and bins mean; needed for each of LOCAXES, TIMEREF, BINREF that the headers do not have.
    weighted : bool, optional
        Whether to take the weights. Needed if the table has more than one column and they are not named as we do.
    frame : str, optional
        Clock of the bins. Default: keyword CLOCK, else "sidereal".
    energy : str, optional
        Label of the energy bin. Default: keyword ENERGY, else empty.
    drop_beyond_cut : bool
        As in `event_map`.

    Raises
    ------
    DataFormatError
        As `event_map`, and if bins are missing (all are named), a file is damaged, no HEALPix map of local
        coordinates, out of order, or of another nside, ordering of time or selection than the first.
    ConfigurationError
        If a word is none of the choices.
    """
    pattern = _Pattern(str(prefix), suffix)
    first = fits_maps.read_map_table(_first(pattern))
    n_time = _number_of_bins(first, n_time)
    missing = [pattern[t] for t in range(n_time) if not pattern[t].is_file()]
    if missing:
        raise DataFormatError(
            f"{len(missing)} of {n_time} time bins are missing",
            path=pattern.text,
            value=len(missing),
            expected=f"files of all bins, {pattern[0].name} to {pattern[n_time - 1].name}",
            remedy="Missing: " + _few([path.name for path in missing]),
            bad=[BadValue(None, path.name, None, "there is no such file") for path in missing],
        )
    extra = pattern.beyond(n_time)
    if extra:
        raise DataFormatError(
            f"there are files of more than {n_time} time bins, such as {extra}", path=pattern.text, value=extra,
            expected=f"{n_time} bins, 0 to {n_time - 1}",
        )  # fmt: skip
    names = _bin_columns(first, weighted)
    size = first.columns[names[COUNTS]].size
    fits_maps.check_bytes(8 * n_time * size * len(names), "the series", Path(pattern.text))
    planes = {plane: np.empty((n_time, size)) for plane in names}
    digest, stories = hashlib.sha256(), []
    for t in range(n_time):
        table = first if t == 0 else fits_maps.read_map_table(pattern[t])
        _check_bin(table, t, first, names)
        for plane, name in names.items():
            check_counts(table.columns[name], f"{table.hdu}, column {name}", table.path)
            planes[plane][t] = table.columns[name]
        digest.update(table.sha256.encode())
        stories.append(story(table.keywords))
    convention = stated_convention(
        first.keywords, axes=axes, time_reference=time_reference, bin_reference=bin_reference, path=first.path
    )
    stem = re.sub(r"[-_.]*$", "", Path(str(prefix)).name) or observatory.name
    provenance = Provenance(stem, pattern.text, digest.hexdigest(), (), _whole_story(stories))
    label = str(first.keywords.get("ENERGY", "")) if energy is None else energy
    clock = known_frame(frame, first.keywords, first.path)
    return assemble(planes, observatory, convention, clock, label, drop_beyond_cut, provenance, first.keywords)


def write_bin_files(
    prefix: str | Path,
    events: EventMap,
    suffix: str = ".fits",
    *,
    axes: str = "NWU",
    time_reference: str = "LST",
    bin_reference: str = "LEFT",
    longitude: u.Quantity | None = None,
    numbers: ArrayLike | None = None,
    overwrite: bool = False,
) -> None:
    """Write one HEALPix file for each time bin, all of them or none; see `read_bin_files`.

    Headers state LOCAXES, TIMEREF and BINREF. Events with weights get the columns weights and squared weights, after
    the column counts if their numbers are given, as other programs want it.

    Parameters
    ----------
    prefix, suffix : str
        What stands before and after the number of the bin; a suffix that ends in ``.gz`` packs the files.
    events : EventMap
        On a `HealpixLocalGrid`.
    axes, time_reference, bin_reference : str
        How to write them. A program that turns the sky by the left edges of bins, not their centres, will put it
        half a bin too low in right ascension.
    longitude : Quantity, angle, optional
        Of the observatory, east positive; needed for GMST.
    numbers : array_like, shape (n_time, 12 nside^2), optional
        Numbers of events, our axes and bins, where `events` holds sums of weights.
    overwrite : bool
        Replace existing files.

    Raises
    ------
    FileExistsError
        If one of the files exists and `overwrite` is false; nothing is written.
    ConfigurationError
        If the grid is not HEALPix, there are more than 1000 bins, or a word or the longitude is missing or wrong.
    DataFormatError
        If the bins asked for are not whole bins of local time.
    """
    if events.n_time > 1000:
        raise ConfigurationError(
            f"{events.n_time} time bins", expected="at most 1000, three digits of a file name"
        )
    pattern = _Pattern(str(prefix), suffix)
    planes, keywords = planes_to_write(events, axes, time_reference, bin_reference, longitude, numbers)
    # What is counted over the whole series cannot stand in each of its files.
    told_once = told(events.provenance.meta, without=("TIMEBIN", "NEVENTS", "SUMWGTS", "TOTDUR"))
    if not overwrite:
        for t in range(events.n_time):
            if pattern[t].exists():
                raise FileExistsError(f"{pattern[t]} exists; choose another name or overwrite it (overwrite=True)")
    with ExitStack() as stack:
        for t in range(events.n_time):
            partial = stack.enter_context(atomic_write(pattern[t], overwrite=overwrite))
            own = {"TIMEBIN": t, **totals({name: plane[t] for name, plane in planes.items()})}
            header = told_once | keywords | own
            table = fits_maps.healpix_table({n: plane[t] for n, plane in planes.items()}, header, coordinates="")
            primary = fits_maps.primary(header | own_keywords("event-map-bin"))
            fits_maps.write_units(partial, pattern[t], [primary, table])


class _Pattern:
    """File names of a series: prefix, three digits, suffix."""

    def __init__(self, prefix: str, suffix: str) -> None:
        self.prefix, self.suffix = prefix, suffix

    def __getitem__(self, t: int) -> Path:
        return Path(f"{self.prefix}{t:03d}{self.suffix}")

    @property
    def text(self) -> str:
        return f"{self.prefix}%03d{self.suffix}"

    def beyond(self, n_time: int) -> str:
        """Name of a file of the series whose number is too high; empty if there is none."""
        folder, stem = self[0].parent, Path(self.prefix + "x").name[:-1]
        name = re.compile(re.escape(stem) + r"(\d{3,})" + re.escape(self.suffix))
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            match = name.fullmatch(path.name)
            if match is not None and int(match[1]) >= n_time:
                return path.name
        return ""


def _first(pattern: _Pattern) -> Path:
    if not pattern[0].is_file():
        raise DataFormatError(
            "the file of the first time bin is missing", path=pattern[0], expected="bins numbered from 000",
            remedy="The series is called prefix + three digits + suffix; both belong to the call.",
        )  # fmt: skip
    return pattern[0]


def _number_of_bins(first: fits_maps.MapTable, n_time: int | None) -> int:
    found = whole_keyword(first.keywords, "NBINS", n_time, first.path)
    if found is None:
        raise DataFormatError(
            "the header has no NBINS, and n_time is not given", path=first.path,
            expected="the number of time bins of a day",
            remedy="Say how many there are, for example n_time=360: a missing last file cannot be seen otherwise.",
        )  # fmt: skip
    if n_time is not None and found != n_time:
        raise DataFormatError(
            f"NBINS is {found}, but n_time={n_time} is given", path=first.path, value=found, expected="one number"
        )
    if not 1 <= found <= 1000:
        raise DataFormatError(
            f"{found} time bins", path=first.path, value=found, expected="1 to 1000, three digits of a file name"
        )
    return found


def _bin_columns(table: fits_maps.MapTable, weighted: bool | None) -> dict[str, str]:
    """Column of each plane: by our names, or by place as other programs write them."""
    names = list(table.columns)
    if WEIGHTS in names and SQUARED in names:
        if weighted is False and COUNTS not in names:
            raise DataFormatError(
                f"{table.hdu}: there is no column {COUNTS!r}", path=table.path, expected="numbers of events",
                remedy="Only sums of weights were written; leave weighted out.",
            )  # fmt: skip
        return {COUNTS: COUNTS} if weighted is False else {COUNTS: WEIGHTS, SQUARED: SQUARED}
    if len(names) == 1 and not weighted:
        return {COUNTS: names[0]}
    if weighted is None:
        raise DataFormatError(
            f"{table.hdu} has the columns {', '.join(names)}", path=table.path, value=len(names),
            expected="one column, the numbers of events",
            remedy="Say weighted=True if they are numbers, sums of weights and of squared weights; weighted=False "
            "takes the first for numbers of events.",
        )  # fmt: skip
    if weighted and len(names) < 3:
        raise DataFormatError(
            f"{table.hdu} has the columns {', '.join(names)}", path=table.path, value=len(names),
            expected="three: numbers of events, sums of weights and of squared weights",
        )  # fmt: skip
    return {COUNTS: names[1], SQUARED: names[2]} if weighted else {COUNTS: names[0]}


def _check_bin(table: fits_maps.MapTable, t: int, first: fits_maps.MapTable, names: Mapping[str, str]) -> None:
    check_coordinates(table.keywords, local=True, hdu=table.hdu, path=table.path)
    size, expected = (next(iter(each.columns.values())).size for each in (table, first))
    if size != expected:
        raise DataFormatError(
            f"{table.hdu}: nside {hp.npix2nside(size)}", path=table.path, value=hp.npix2nside(size),
            expected=f"nside {hp.npix2nside(expected)} as in the first time bin",
        )  # fmt: skip
    absent = [name for name in names.values() if name not in table.columns]
    if absent:
        raise DataFormatError(
            f"{table.hdu}: there is no column {absent[0]!r}", path=table.path, value=absent[0],
            expected="the columns of the first time bin",
        )  # fmt: skip
    if whole_keyword(table.keywords, "TIMEBIN", t, table.path) != t:
        raise DataFormatError(
            f"TIMEBIN is {table.keywords['TIMEBIN']}", path=table.path, value=table.keywords["TIMEBIN"],
            expected=f"{t}, as the file is named", remedy="Are files renamed, or counted from one?",
        )  # fmt: skip
    same = ("NBINS", "CUTS", "COORDS", "TIMESYS", "LOCAXES", "TIMEREF", "BINREF", "CLOCK", "ENERGY", "LATITUDE")
    for key in same:
        if table.keywords.get(key) != first.keywords.get(key):
            raise DataFormatError(
                f"{key} is {table.keywords.get(key)!r}", path=table.path, value=table.keywords.get(key),
                expected=f"{first.keywords.get(key)!r} as in the first time bin",
            )  # fmt: skip


def _whole_story(stories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Keywords of a series: sums of what is counted, the outer limits of time, and what is common."""
    whole = dict(stories[0])
    whole.pop("TIMEBIN", None)
    for key, join in (("NEVENTS", sum), ("TOTDUR", sum), ("STARTMJD", min), ("STOPMJD", max)):
        values = [entry[key] for entry in stories if isinstance(entry.get(key), int | float)]
        if len(values) == len(stories):
            whole[key] = join(values)
    return whole


def _few(names: Sequence[str], shown: int = 20) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else ".")
