"""Reading power spectra: C_l at one energy of one analysis, or several of them in one file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.provenance import provenance_of
from obsfit.ingest.tables import ColumnReader, Sheet, positive, read_sheet, within
from obsfit.provenance import atomic_write
from obsfit.records.spectrum import KINDS, PowerSpectrum

FloatArray = NDArray[np.float64]

COLUMNS = (
    "measurement", "energy", "field", "ell", "c_ell", "noise", "window_power", "error_low", "error_high",
    "isotropic_low", "isotropic_high", "dec_min", "dec_max",
)  # fmt: skip
META = ("kind", "energy", "filtered", "dec_min", "dec_max", "measurement")
ENERGY_TOLERANCE = 0.02


@dataclass(frozen=True)
class SpectrumEntry:
    """One spectrum of a file, with the two things that tell it from its neighbours.

    Attributes
    ----------
    energy_tev : float
        Median primary energy.
    field : str
        Name of the part of the sky; "" where the file does not divide it.
    spectrum : PowerSpectrum
        The record.
    """

    energy_tev: float
    field: str
    spectrum: PowerSpectrum


def read_spectra(path: str | Path, *, label: str | None = None) -> tuple[SpectrumEntry, ...]:
    r"""Return all spectra in an ECSV or CSV file, in the order of the file.

    Needed are the columns ``ell`` and ``c_ell`` (power of relative intensity, noise not subtracted) and the metadata
    ``kind`` (full-sky or pseudo), ``filtered`` (true if the map carries no m = 0 power), ``energy``, ``dec_min`` and
    ``dec_max``. A file with several spectra gives ``energy``, ``field``, ``dec_min``, ``dec_max`` and
    ``measurement`` as columns instead. Optional columns: ``noise``, ``window_power``, ``error_low``, ``error_high``
    (lengths of the error bars), ``isotropic_low``, ``isotropic_high``. Optional metadata: ``noise_contrast``, and
    ``reading_error``, the relative error of powers that were read off a picture.

    Parameters
    ----------
    path : str or Path
        The file.
    label : str, optional
        How errors and provenance call the file.

    Raises
    ------
    DataFormatError
        Names every bad place found, see `obsfit.ingest.tables.ColumnReader`.
    """
    return spectra_from_sheet(read_sheet(path, label=label))


def write_spectrum(
    path: str | Path, spectrum: PowerSpectrum, *, meta: Mapping[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Write one spectrum as an ECSV file that `read_spectra` reads, complete or not at all.

    Parameters
    ----------
    path : str or Path
        The file to make.
    spectrum : PowerSpectrum
        The spectrum.
    meta : mapping, optional
        What else the file says: texts and lists of them.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    """
    columns = {"ell": spectrum.ell, "c_ell": spectrum.c_ell, "noise": spectrum.noise,
               "window_power": spectrum.window_power}  # fmt: skip
    for name in ("error_low", "error_high", "isotropic_low", "isotropic_high"):
        if np.any(np.isfinite(getattr(spectrum, name))):
            columns[name] = getattr(spectrum, name)
    table = Table(columns)
    table.meta.update(
        {
            "record": "spectrum", **(meta or {}), "kind": spectrum.kind, "measurement": spectrum.measurement,
            "energy": f"{spectrum.energy_tev!r} TeV", "filtered": spectrum.filtered,
            "dec_min": f"{float(np.degrees(spectrum.dec_min_rad))!r} deg",
            "dec_max": f"{float(np.degrees(spectrum.dec_max_rad))!r} deg",
            "noise_contrast": repr(spectrum.noise_contrast), "reading_error": repr(spectrum.reading_error),
            "rows": len(spectrum),
        }
    )  # fmt: skip
    with atomic_write(path, overwrite=overwrite) as partial:
        table.write(partial, format="ascii.ecsv")


def spectra_from_sheet(sheet: Sheet) -> tuple[SpectrumEntry, ...]:
    """Return all spectra in a text table, see `read_spectra`."""
    columns = ColumnReader(
        sheet, tuple(name for name in COLUMNS if name in sheet.cells or name not in META), "a spectrum"
    )
    n = sheet.n_rows
    ell = columns.integers("ell")
    c_ell = columns.numbers("c_ell", check=_power)
    noise, error_low, error_high, isotropic_low, isotropic_high = (
        columns.numbers(name, required=False, blank=True, check=_power)
        for name in ("noise", "error_low", "error_high", "isotropic_low", "isotropic_high")
    )
    window = np.ones(n)
    if columns.has("window_power"):
        window = columns.numbers("window_power", check=within(0.0, 1.0 + 1e-9, "W_l^2 between 0 and 1"))
    kind = columns.meta_text("kind", choices=KINDS)
    filtered = columns.meta_flag("filtered")
    contrast = columns.meta_number("noise_contrast", "", check=_contrast, default="1")
    reading = columns.meta_number("reading_error", "", check=within(0.0, 0.5, "a relative error"), default="0")
    energy = _column_or_meta(columns, "energy", "TeV", positive("energy"))
    dec_min, dec_max = (
        _column_or_meta(columns, name, "rad", within(-np.pi / 2, np.pi / 2, "-90 to 90 degrees"))
        for name in ("dec_min", "dec_max")
    )
    field = columns.texts("field", required=False) or ("",) * n
    keys = columns.texts("measurement", required=False)

    groups: dict[tuple[float, str], list[int]] = {}
    for i in range(n):
        groups.setdefault((float(energy[i]), field[i]), []).append(i)
    if not columns.bad:
        columns.unique(
            ("energy", "field", "ell") if len(groups) > 1 else ("ell",),
            _row_keys(energy, field, ell),
            "the multipole",
        )
        for rows in groups.values():
            _check_group(columns, rows, dec_min, dec_max, keys)
    columns.finish("The columns and metadata of a spectrum are listed by 'obsfit data show hawc-icecube-2019'.")

    entries = []
    provenance = provenance_of(sheet)
    default = str(sheet.meta.get("measurement") or sheet.stem)
    for (energy_tev, name), rows in groups.items():
        order = np.array(sorted(rows, key=lambda i: ell[i]))
        if keys is not None:
            measurement = keys[rows[0]]
        else:
            measurement = (
                default if len(groups) == 1 else "-".join(filter(None, (default, f"{energy_tev:g}TeV", name)))
            )
        try:
            spectrum = PowerSpectrum(
                measurement, kind, energy_tev, ell[order], c_ell[order], noise[order], window[order], error_low[order],
                error_high[order], isotropic_low[order], isotropic_high[order], filtered, float(dec_min[rows[0]]),
                float(dec_max[rows[0]]), provenance, contrast, reading,
            )  # fmt: skip
        except ValueError as error:
            raise DataFormatError(str(error), path=sheet.path, expected="a spectrum") from error
        entries.append(SpectrumEntry(energy_tev, name, spectrum))
    return tuple(entries)


def choose_spectrum(
    entries: tuple[SpectrumEntry, ...], energy: u.Quantity | None, field: str | None, *, name: str
) -> PowerSpectrum:
    """Return the one spectrum at an energy (within 2 %) and field.

    Parameters
    ----------
    entries : tuple of SpectrumEntry
        What the file holds.
    energy : Quantity or None
        Median energy wanted; None where the file has one only.
    field : str or None
        Part of the sky wanted; None where the file has one only.
    name : str
        What the error calls the file.

    Raises
    ------
    ConfigurationError
        If none or more than one spectrum fits; the message lists the choices.
    """
    energy_tev = None if energy is None else _energy_tev(energy)
    found = [
        entry
        for entry in entries
        if (energy_tev is None or math.isclose(entry.energy_tev, energy_tev, rel_tol=ENERGY_TOLERANCE))
        and (field is None or entry.field == field)
    ]
    if energy_tev is not None and len(found) > 1 and len({entry.field for entry in found}) == 1:
        distance = [abs(entry.energy_tev - energy_tev) for entry in found]
        found = [found[int(np.argmin(distance))]]
    if len(found) == 1:
        return found[0].spectrum
    asked = [f"energy {energy}"] if energy is not None else []
    asked += [f"field {field!r}"] if field is not None else []
    problem = f"no spectrum at {' and '.join(asked)}" if not found else f"{len(found)} spectra fit; say which"
    choices = "; ".join(
        f"energy {entry.energy_tev:g} TeV" + (f", field {entry.field!r}" if entry.field else "")
        for entry in entries[:40]
    )
    raise ConfigurationError(f"{name}: {problem}", value=str(energy), expected=f"one of: {choices}")


def _energy_tev(energy: u.Quantity) -> float:
    try:
        return float(energy.to_value(u.TeV))
    except (AttributeError, TypeError, u.UnitConversionError) as error:
        raise ConfigurationError(
            f"energy {energy!r} is not an energy",
            value=energy,
            expected="a Quantity such as 24 * astropy.units.TeV",
        ) from error


def _column_or_meta(
    columns: ColumnReader, name: str, unit: str, check: Callable[[float], str | None]
) -> FloatArray:
    if columns.has(name):
        return columns.numbers(name, unit, check=check)
    return np.full(columns.sheet.n_rows, columns.meta_number(name, unit, check=check))


def _row_keys(energy: FloatArray, field: tuple[str, ...], ell: NDArray[np.int64]) -> list[object]:
    if len(set(energy.tolist())) == 1 and len(set(field)) == 1:
        return [int(value) for value in ell]
    return [(float(e), f, int(value)) for e, f, value in zip(energy, field, ell, strict=True)]


def _check_group(
    columns: ColumnReader, rows: list[int], dec_min: FloatArray, dec_max: FloatArray, keys: tuple[str, ...] | None
) -> None:
    first = rows[0]
    if not dec_min[first] < dec_max[first]:
        columns.add(first + 1, "dec_min", None, "expected dec_min < dec_max")
    for i in rows[1:]:
        if dec_min[i] != dec_min[first] or dec_max[i] != dec_max[first]:
            columns.add(
                i + 1, "dec_min", None, f"another declination band than row {first + 1} of the same spectrum"
            )
        if keys is not None and keys[i] != keys[first]:
            columns.add(
                i + 1,
                "measurement",
                keys[i],
                f"expected {keys[first]!r} as in row {first + 1} of the same spectrum",
            )


def _contrast(value: float) -> str | None:
    return None if value >= 1.0 else "is below 1; expected mean square over squared mean of the noise variance"


def _power(value: float) -> str | None:
    if value < 0:
        return "is negative; expected power before noise subtraction, and lengths for errors"
    if value > 1e2:
        return "is not a power of relative intensity (these are far below one)"
    return None
