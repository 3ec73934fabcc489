"""Shipped measurements by name, users' files by path: the same readers, the same records."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import astropy.units as u
from astropy.table import Table

from obsfit.errors import ConfigurationError
from obsfit.ingest.dipoles import dipoles_from_sheet
from obsfit.ingest.overlaps import overlapping
from obsfit.ingest.projections import projection_from_sheet
from obsfit.ingest.spectra import choose_spectrum, spectra_from_sheet
from obsfit.ingest.tables import Sheet, as_table, nearest, read_sheet
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.projection import RightAscensionProjection
from obsfit.records.spectrum import PowerSpectrum

__all__ = [
    "available_data",
    "load_dipoles",
    "load_projection",
    "load_sheet",
    "load_spectra",
    "load_spectrum",
    "load_table",
    "overlapping",
    "record_kind",
]

DATA_PACKAGE = "obsfit_data"
RECORDS = ("dipoles", "spectrum", "projection", "table")


def available_data(record: str | None = None) -> tuple[str, ...]:
    """Return the names of the shipped measurements, sorted.

    Parameters
    ----------
    record : str, optional
        Only those that hold "dipoles", a "spectrum", a "projection" or another "table".

    Raises
    ------
    ConfigurationError
        If `record` is none of these.

    Examples
    --------
    >>> "ahlers-mertsch-2017" in available_data("dipoles")
    True
    """
    if record is not None and record not in RECORDS:
        raise ConfigurationError(
            f"record {record!r} is not known{nearest(record, RECORDS)}", expected=str(RECORDS)
        )
    return tuple(sorted(name for name, kind in _shipped_kinds().items() if kind and record in (None, kind)))


def located(name: str, base: Path) -> str | Path:
    """Return what a configuration names: a shipped table as it is, any other text as a path relative to `base`.

    Examples
    --------
    >>> located("ahlers-mertsch-2017", Path("folder")), located("own.ecsv", Path("folder")).as_posix()
    ('ahlers-mertsch-2017', 'folder/own.ecsv')
    """
    return name if name in available_data() else base / name


def load_dipoles(name_or_path: str | Path) -> DipoleMeasurements:
    """Return published dipoles, by the name of a shipped table or the path of an ECSV or CSV file.

    Parameters
    ----------
    name_or_path : str or Path
        One of ``available_data("dipoles")``, or a path: a string with an extension or a separator is a path.

    Raises
    ------
    ConfigurationError
        If no shipped table has this name.
    DataFormatError
        If the file cannot be understood, see `obsfit.ingest.dipoles.read_dipoles`.

    Examples
    --------
    >>> len(load_dipoles("ahlers-mertsch-2017"))
    35
    """
    return dipoles_from_sheet(_sheet(name_or_path, "dipoles"))


def load_spectrum(
    name_or_path: str | Path, *, energy: u.Quantity | None = None, field: str | None = None
) -> PowerSpectrum:
    """Return one power spectrum, by the name of a shipped table or the path of an ECSV or CSV file.

    Parameters
    ----------
    name_or_path : str or Path
        One of ``available_data("spectrum")``, or a path.
    energy : Quantity, optional
        Median energy, matched within 2 %; needed where the table holds several.
    field : str, optional
        Part of the sky, needed where the table holds several.

    Raises
    ------
    ConfigurationError
        If the name is unknown, or none or several spectra fit; the message lists the choices.
    DataFormatError
        If the file cannot be understood, see `obsfit.ingest.spectra.read_spectra`.

    Examples
    --------
    >>> load_spectrum("icecube-2025", energy=24 * u.TeV).ell
    array([ 1,  2,  3,  4,  6, 11, 20])
    """
    entries = spectra_from_sheet(_sheet(name_or_path, "spectrum"))
    return choose_spectrum(entries, energy, field, name=str(name_or_path))


def load_spectra(name_or_path: str | Path, *, field: str | None = None) -> list[PowerSpectrum]:
    """Return all power spectra of a table, in the order of the file, or those of one part of the sky.

    Parameters
    ----------
    name_or_path : str or Path
        One of ``available_data("spectrum")``, or a path.
    field : str, optional
        Part of the sky.

    Raises
    ------
    ConfigurationError
        If the name is unknown, or no spectrum is of this part of the sky; the message lists the parts.
    DataFormatError
        If the file cannot be understood, see `obsfit.ingest.spectra.read_spectra`.

    Examples
    --------
    >>> len(load_spectra("icecube-2025"))
    9
    """
    entries = spectra_from_sheet(_sheet(name_or_path, "spectrum"))
    found = [entry.spectrum for entry in entries if field is None or entry.field == field]
    if not found:
        raise ConfigurationError(
            f"{name_or_path}: no spectrum of field {field!r}",
            expected=f"one of {', '.join(sorted({repr(entry.field) for entry in entries}))}",
        )
    return found


def load_projection(name_or_path: str | Path) -> RightAscensionProjection:
    """Return a right-ascension projection, by the name of a shipped table or the path of a file.

    Parameters
    ----------
    name_or_path : str or Path
        One of ``available_data("projection")``, or a path.

    Raises
    ------
    ConfigurationError
        If no shipped table has this name.
    DataFormatError
        If the file cannot be understood, see `obsfit.ingest.projections.read_projection`.
    """
    return projection_from_sheet(_sheet(name_or_path, "projection"))


def load_table(name_or_path: str | Path) -> Table:
    """Return any shipped table, or a user's, as an astropy Table with units and metadata.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a table of the data package (auxiliary ones included), or a path.

    Raises
    ------
    ConfigurationError
        If no shipped table has this name.
    DataFormatError
        If the file is not a table.
    """
    return as_table(_sheet(name_or_path, None))


def load_sheet(name_or_path: str | Path) -> Sheet:
    """Return the text of any table by name or path: what the file says, before it is understood as a record."""
    return _sheet(name_or_path, None)


def record_kind(sheet: Sheet) -> str:
    """Return which record a sheet declares itself to hold, one of `RECORDS`, or "" where it declares none."""
    kind = str(sheet.meta.get("record", ""))
    return kind if kind in RECORDS else ""


@lru_cache(maxsize=1)
def _shipped_kinds() -> dict[str, str]:
    """Kind of record of each shipped table; the tables do not change while a program runs."""
    return {path.stem: record_kind(read_sheet(path, label=path.name)) for path in _shipped()}


def _shipped() -> list[Path]:
    return sorted(Path(str(entry)) for entry in files(DATA_PACKAGE).iterdir() if entry.name.endswith(".ecsv"))


def _sheet(name_or_path: str | Path, record: str | None) -> Sheet:
    if isinstance(name_or_path, Path) or _is_path(name_or_path):
        return read_sheet(name_or_path)
    shipped = {path.stem: path for path in _shipped()}
    if name_or_path not in shipped:
        choices = available_data(record)
        raise ConfigurationError(
            f"no shipped table is named {name_or_path[:80]!r}{nearest(name_or_path, choices)}",
            expected=f"one of {', '.join(choices)}, or the path of a file",
            remedy="A path needs its extension, such as my_dipoles.csv.",
        )
    sheet = read_sheet(shipped[name_or_path], label=shipped[name_or_path].name)
    kind = record_kind(sheet)
    if record is not None and kind != record:
        loader = {"dipoles": "load_dipoles", "spectrum": "load_spectrum", "projection": "load_projection"}
        raise ConfigurationError(
            f"{name_or_path!r} holds no {record}",
            expected=f"one of {', '.join(available_data(record))}",
            remedy=f"Read it with {loader.get(kind, 'load_table')}.",
        )
    return sheet


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or bool(Path(text).suffix) or text in ("", ".", "..")
