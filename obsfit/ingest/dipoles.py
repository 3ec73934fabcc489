"""Reading dipole tables: one row is one amplitude and phase at one energy of one observatory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsfit.errors import DataFormatError
from obsfit.ingest.provenance import provenance_of
from obsfit.ingest.tables import ColumnReader, Sheet, positive, read_sheet, within
from obsfit.provenance import atomic_write
from obsfit.records.dipoles import METHODS, DipoleMeasurements

FloatArray = NDArray[np.float64]

COLUMNS = (
    "measurement", "observatory", "method", "energy", "amplitude", "amplitude_error", "phase", "phase_error", "limit",
    "limit_level", "latitude", "zenith_max", "dec_min", "dec_max", "errors_usable",
)  # fmt: skip


def read_dipoles(path: str | Path, *, label: str | None = None) -> DipoleMeasurements:
    r"""Return the dipoles in an ECSV or CSV file.

    Needed are the columns ``observatory``, ``method`` (one of `METHODS`), ``energy``, ``amplitude``,
    ``amplitude_error``, ``phase`` and ``phase_error``, in any units that convert. A phase may be blank, an amplitude
    only where an upper ``limit`` is given, errors only where ``errors_usable`` is false. Optional are
    ``measurement`` (default: stem of the file and row), ``limit``, ``limit_level``, ``latitude``, ``zenith_max``,
    ``dec_min``, ``dec_max`` and ``errors_usable``. Without ``dec_min`` and ``dec_max`` the declination band follows
    from latitude and zenith cut.

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
    return dipoles_from_sheet(read_sheet(path, label=label))


def write_dipoles(
    path: str | Path,
    record: DipoleMeasurements,
    *,
    meta: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write dipoles as an ECSV file that `read_dipoles` reads, complete or not at all.

    Parameters
    ----------
    path : str or Path
        The file to make.
    record : DipoleMeasurements
        The dipoles.
    meta : mapping, optional
        What else the file says: texts and lists of them.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    """
    angles = ("phase", "phase_error", "zenith_max", "dec_min", "dec_max")
    columns: dict[str, Any] = {
        "measurement": list(record.measurement), "observatory": list(record.observatory),
        "method": list(record.method), "energy": record.energy_tev * u.TeV, "amplitude": record.amplitude,
        "amplitude_error": record.amplitude_error, "limit": record.limit, "limit_level": record.limit_level,
        "errors_usable": record.errors_usable,
    }  # fmt: skip
    columns |= {name: np.degrees(getattr(record, f"{name}_rad")) * u.deg for name in angles}
    table = Table({name: columns[name] for name in COLUMNS if name in columns})
    table.meta.update({"record": "dipoles", **(meta or {}), "rows": len(record)})
    with atomic_write(path, overwrite=overwrite) as partial:
        table.write(partial, format="ascii.ecsv")


def dipoles_from_sheet(sheet: Sheet) -> DipoleMeasurements:
    """Return the dipoles in a text table, see `read_dipoles`."""
    columns = ColumnReader(sheet, COLUMNS, "a dipole table")
    n = sheet.n_rows
    keys = columns.texts("measurement", required=False)
    if keys is None:
        columns.unique((), zip(*sheet.cells.values(), strict=True), "the row")
        keys = tuple(f"{sheet.stem}-{row}" for row in range(1, n + 1))
    else:
        columns.unique(("measurement",), keys, "measurement")
    observatory = columns.texts("observatory")
    method = columns.texts("method", choices=METHODS)
    energy = columns.numbers("energy", "TeV", check=positive("energy"))

    limit = columns.numbers("limit", required=False, blank=True, check=_amplitude)
    level = columns.numbers("limit_level", required=False, blank=True, check=_level)
    amplitude = columns.numbers("amplitude", blank=True, check=_amplitude)
    phase = columns.numbers(
        "phase", "rad", blank=True, check=within(-2 * math.pi, 2 * math.pi, "-360 to 360 degrees (-24h to 24h)")
    )
    usable = columns.flags("errors_usable", default=True)
    amplitude_error = columns.numbers("amplitude_error", blank=True, check=_amplitude_error)
    phase_error = columns.numbers(
        "phase_error", "rad", blank=True, check=within(0.0, 2 * math.pi, "0 to 360 degrees")
    )
    for i in range(n):
        _check_row(
            columns, i, amplitude[i], amplitude_error[i], phase[i], phase_error[i], limit[i], bool(usable[i])
        )

    zenith_max, dec_min, dec_max = _field_of_view(columns)
    columns.finish("The columns and units of a dipole table are listed by 'obsfit data show ahlers-mertsch-2017'.")
    try:
        return DipoleMeasurements(
            keys, observatory or (), method or (), energy, amplitude, amplitude_error, np.mod(phase, 2 * np.pi),
            phase_error, limit, level, dec_min, dec_max, zenith_max, usable, provenance_of(sheet),
        )  # fmt: skip
    except ValueError as error:
        raise DataFormatError(str(error), path=sheet.path, expected="a dipole table") from error


def _check_row(
    columns: ColumnReader,
    i: int,
    amplitude: float,
    amplitude_error: float,
    phase: float,
    phase_error: float,
    limit: float,
    usable: bool,
) -> None:
    """Remember what is missing in one row; a cell that was bad in itself is not complained about twice."""
    told = columns.is_bad(i + 1, "amplitude") or columns.is_bad(i + 1, "limit")
    if math.isnan(amplitude) and math.isnan(limit) and not told:
        columns.add(i + 1, "amplitude", "", "no amplitude and no limit, one of them is required")
    for name, value, error in (
        ("amplitude_error", amplitude, amplitude_error),
        ("phase_error", phase, phase_error),
    ):
        needed = usable and not math.isnan(value) and columns.has(name) and not columns.is_bad(i + 1, name)
        if needed and not error > 0:
            columns.add(
                i + 1, name, error, "no positive error; where it is unknown say so by errors_usable = false"
            )


def _field_of_view(columns: ColumnReader) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return zenith cut and declination band in radians; a band not given follows from latitude and cut."""
    quarter = np.pi / 2
    latitude = columns.numbers(
        "latitude", "rad", required=False, blank=True, check=within(-quarter, quarter, "-90 to 90 degrees")
    )
    zenith_max = columns.numbers(
        "zenith_max",
        "rad",
        required=False,
        blank=True,
        check=within(1e-6, quarter, "more than 0, at most 90 degrees"),
    )
    band = [
        columns.numbers(
            name, "rad", required=False, blank=True, check=within(-quarter, quarter, "-90 to 90 degrees")
        )
        for name in ("dec_min", "dec_max")
    ]
    for i in np.flatnonzero((band[0] >= band[1]) | (np.isnan(band[0]) != np.isnan(band[1]))):
        columns.add(int(i) + 1, "dec_min", None, "expected both dec_min and dec_max, with dec_min < dec_max")
    missing = np.isnan(band[0]) & np.isnan(band[1])
    dec_min = np.where(missing, np.maximum(latitude - zenith_max, -quarter), band[0])
    dec_max = np.where(missing, np.minimum(latitude + zenith_max, quarter), band[1])
    return zenith_max, dec_min, dec_max


def _amplitude(value: float) -> str | None:
    if value < 0:
        return "is negative, but an amplitude cannot be"
    if value > 1:
        return "is larger than one; if it is in units of 1e-4 or %, declare that unit"
    return None


def _amplitude_error(value: float) -> str | None:
    return "is a negative error" if value < 0 else None


def _level(value: float) -> str | None:
    return None if 0 < value < 1 else "is not a confidence level between 0 and 1 (declare % if it is in %)"
