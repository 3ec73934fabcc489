"""Rows of an event list under inspection: columns as numbers, and every bad row remembered with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import astropy.units as u
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import BadValue, DataFormatError
from obsfit.ingest.event_columns import angle_unit
from obsfit.ingest.event_files import Piece
from obsfit.ingest.tables import parse_unit

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ROWS_THAT_TELL_UNITS = 300
"""In a shorter list, all azimuths may lie below 6.3 degrees by chance."""


class Complaints:
    """The bad rows of one list, raised as one error once there are enough, or at the end of the list.

    Parameters
    ----------
    path : str
        The list, for the message.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0
        self._bad: list[BadValue] = []
        self._expected: list[str] = []

    def add(self, rows: NDArray[np.int64], column: str, values: Any, problem: str, expected: str) -> None:
        """Remember bad rows: their numbers from zero, and values that `problem` shows as {value}."""
        self.count += rows.size
        for row, value in zip(rows[: DataFormatError.SHOWN], values[: DataFormatError.SHOWN], strict=True):
            shown = f"{value:.10g}" if isinstance(value, float | np.floating) else repr(value)[:60]
            self._bad.append(BadValue(int(row) + 1, column, value, problem.format(value=shown)))
        if expected not in self._expected:
            self._expected.append(expected)

    def raise_from(self, enough: int) -> None:
        """Raise `DataFormatError` if at least `enough` bad rows are known, with the first of them."""
        if self.count < enough:
            return
        first = sorted(self._bad, key=lambda entry: entry.row or 0)[: DataFormatError.SHOWN]
        several = f"rows cannot be used; {self.count} were found, of which the first are listed"
        raise DataFormatError(
            several if len(first) > 1 else first[0].problem, path=self.path, bad=first,
            expected="; ".join(self._expected),
            remedy="Declare units, axes and time format as the list has them, or leave such rows out by cuts.",
        )  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Some rows of a list.

    Attributes
    ----------
    columns : mapping of str to ndarray, shape (n,)
        As read.
    number : ndarray, shape (n,)
        Number of each row in the list, from zero.
    complaints : Complaints
        Where bad rows are remembered; their values here must not be used.
    """

    columns: Piece
    number: NDArray[np.int64]
    complaints: Complaints

    def keep(self, good: BoolArray) -> Rows:
        """Return the rows where `good` is true."""
        if good.all():
            return self
        kept = {name: values[good] for name, values in self.columns.items()}
        return Rows(kept, self.number[good], self.complaints)

    def complain(self, bad: BoolArray, column: str, problem: str, expected: str) -> None:
        """Remember the rows where `bad` is true; `problem` may show the value as {value}."""
        if bad.any():
            self.complaints.add(self.number[bad], column, self.columns[column][bad], problem, expected)

    def numbers(self, column: str) -> FloatArray:
        """Return a column as float64, NaN where it is not a finite number (remembered)."""
        raw = self.columns[column]
        if raw.dtype.kind in "fiub":
            values = np.ascontiguousarray(raw, dtype=np.float64)
        elif raw.dtype.kind in "OUST":
            values = np.array(pd.to_numeric(pd.Series(raw), errors="coerce"), dtype=np.float64)
        else:
            values = np.full(raw.shape, np.nan)
        finite = np.isfinite(values)
        if not finite.all():
            self.complain(~finite, column, "{value} is not a finite number", f"{column}: a number in each row")
            values = np.where(finite, values, np.nan)
        return values

    def within(self, column: str, low: float, high: float, expected: str) -> FloatArray:
        """Return a column as float64, NaN where it is not a number in [low, high] (remembered)."""
        values = self.numbers(column)
        # Stored as float32, a full turn may be a little more than one.
        slack = 1e-6 * max(abs(low), abs(high))
        bad = (values < low - slack) | (values > high + slack)
        if bad.any():
            self.complain(bad, column, "{value} is out of range", f"{column}: {low:.8g} to {high:.8g} {expected}")
            values = np.where(bad, np.nan, values)
        return values

    def angle(self, column: str, unit: str, low: u.Quantity, high: u.Quantity) -> FloatArray:
        """Return a column of angles in radians, NaN where out of range (remembered); `unit` is that of the list."""
        radians = angle_unit(unit, column)
        least, greatest = (limit.to_value(u.rad) / radians for limit in (low, high))
        return radians * self.within(column, least, greatest, f"{unit}, as declared")


@dataclass
class Extents:
    """Largest angles of columns that go around the circle: degrees that are radians or hours give themselves away.

    Attributes
    ----------
    path : str
        The list, for the message.
    """

    path: str
    _largest: dict[str, tuple[float, int]] = field(default_factory=dict)

    def see(self, column: str, unit: str, radians: ArrayLike) -> None:
        """Take note of angles of a column declared in degrees."""
        values = np.asarray(radians)
        if parse_unit(unit) != u.deg or not values.size:
            return
        largest, rows = self._largest.get(column, (0.0, 0))
        here = float(np.degrees(np.nanmax(np.abs(values), initial=0.0)))
        self._largest[column] = (max(largest, here), rows + values.size)

    def check(self) -> None:
        """Raise `DataFormatError` if a whole list in degrees fits one turn in radians or in hours."""
        for column, (largest, rows) in self._largest.items():
            for unit, turn in (("rad", 2.0 * np.pi), ("hourangle", 24.0)):
                if rows >= ROWS_THAT_TELL_UNITS and 0.45 * turn < largest <= turn * 1.000001:
                    raise DataFormatError(
                        f"all {rows} angles are at most {largest:.6g}, as they would be in {unit}", path=self.path,
                        column=column, value=largest, expected="degrees around the circle, as declared",
                        remedy=f"Declare the unit {unit!r}.",
                    )  # fmt: skip
