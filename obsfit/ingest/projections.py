"""Reading right-ascension projections: relative intensity in bins of right ascension."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from obsfit.errors import DataFormatError
from obsfit.ingest.provenance import provenance_of
from obsfit.ingest.tables import ColumnReader, Sheet, positive, read_sheet, within
from obsfit.records.projection import RightAscensionProjection

COLUMNS = ("right_ascension", "relative_intensity", "error", "measurement")


def read_projection(path: str | Path, *, label: str | None = None) -> RightAscensionProjection:
    r"""Return the right-ascension projection in an ECSV or CSV file.

    Needed are the columns ``right_ascension`` (bin centres) and ``relative_intensity``; ``error`` is optional. The
    metadata ``relative_to`` says what the numbers are: "zero" (the default) for delta I, "one" for I / <I>, from
    which one is then subtracted.

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
    return projection_from_sheet(read_sheet(path, label=label))


def projection_from_sheet(sheet: Sheet) -> RightAscensionProjection:
    """Return the projection in a text table, see `read_projection`."""
    columns = ColumnReader(sheet, COLUMNS, "a right-ascension projection")
    ra = columns.numbers("right_ascension", "rad", check=within(-2 * math.pi, 2 * math.pi, "-360 to 360 degrees"))
    relative_to = columns.meta_text("relative_to", choices=("zero", "one"), default="zero")
    offset = 1.0 if relative_to == "one" else 0.0
    intensity = columns.numbers("relative_intensity", check=_fluctuation(offset)) - offset
    error = columns.numbers("error", required=False, blank=True, check=positive("error"))
    keys = columns.texts("measurement", required=False)
    if keys is not None and len(set(keys)) > 1:
        columns.add(None, "measurement", None, "several keys, but a projection is one measurement")
    ra = np.mod(ra, 2 * np.pi)
    if not columns.bad:
        columns.unique(("right_ascension",), (round(float(value), 12) for value in ra), "the bin centre")
    columns.finish("The columns of a projection are listed by 'obsfit data show tibet-projection'.")
    measurement = keys[0] if keys else str(sheet.meta.get("measurement") or sheet.stem)
    try:
        return RightAscensionProjection(measurement, ra, intensity, error, provenance_of(sheet))
    except ValueError as problem:
        raise DataFormatError(str(problem), path=sheet.path, expected="a right-ascension projection") from problem


def _fluctuation(offset: float) -> Callable[[float], str | None]:
    def check(value: float) -> str | None:
        if abs(value - offset) <= 0.5:
            return None
        return f"is not a relative intensity about {offset:g}; see the metadata 'relative_to'"

    return check
