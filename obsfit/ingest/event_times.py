"""Columns of times as modified Julian dates, and lists of good runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.event_checks import Complaints, FloatArray, Rows
from obsfit.ingest.event_columns import GoodRuns
from obsfit.ingest.event_files import ROWS, open_list
from obsfit.ingest.event_transforms import MJD_RANGE

_DAY_S = 86400.0
_DAY_NS = 86_400_000_000_000
_UNIX_EPOCH = 40587.0
_JULIAN = 2400000.5
# MJD = scale x value + offset
_NUMERIC = {"mjd": (1.0, 0.0), "jd": (1.0, -_JULIAN), "unix": (1.0 / _DAY_S, _UNIX_EPOCH)}


def mjd_column(rows: Rows, column: str, time_format: str) -> FloatArray:
    """Return a column of times as MJD, UTC; what is no time of 1972 to 2050 is remembered.

    Parameters
    ----------
    rows : Rows
        With the column.
    column : str
        Its name.
    time_format : str
        "mjd", "jd", "unix" or "utc", see `obsfit.ingest.event_columns.TimeColumn`.

    Raises
    ------
    ConfigurationError
        If the column holds time stamps and the format says numbers.
    """
    raw = rows.columns[column]
    if time_format == "utc":
        mjd = _mjd_of_stamps(raw)
        rows.complain(~np.isfinite(mjd), column, "{value} is no time in UTC", f"{column}: as 2008-04-05T08:55:57")
        outside = np.isfinite(mjd) & ~_possible(mjd)
        rows.complain(outside, column, "{value} is out of range", f"{column}: a time of 1972 to 2050")
        return mjd
    if raw.dtype.kind == "M":
        raise ConfigurationError(
            f"time column {column!r} holds time stamps, not {time_format}", column=column, expected="format 'utc'"
        )
    scale, offset = _NUMERIC[time_format]
    values = rows.numbers(column)
    mjd = scale * values + offset
    outside = np.isfinite(values) & ~_possible(mjd)
    if outside.any():
        low, high = ((limit - offset) / scale for limit in MJD_RANGE)
        rows.complain(
            outside, column, f"{{value}} is no time of 1972 to 2050 as {time_format}",
            f"{column}: {low:.8g} to {high:.8g}{_likely_format(float(np.median(values[outside])))}",
        )  # fmt: skip
    return mjd


def read_good_runs(settings: GoodRuns) -> FloatArray:
    """Return the intervals of a good-run list in MJD, shape (n, 2), in order and with overlapping ones united.

    Raises
    ------
    DataFormatError
        If the list cannot be read, is empty, or has a row that is no interval of time.
    """
    runs = open_list(settings.path)
    runs.require((settings.start, settings.stop))
    complaints = Complaints(runs.path)
    parts, done = [], 0
    for piece in runs.pieces((settings.start, settings.stop), ROWS):
        n = len(piece[settings.start])
        rows = Rows(piece, np.arange(done, done + n), complaints)
        start, stop = (mjd_column(rows, name, settings.format) for name in (settings.start, settings.stop))
        rows.complain(stop < start, settings.stop, "{value} is before the start", "start <= stop")
        parts.append(np.column_stack([start, stop]))
        done += n
    complaints.raise_from(1)
    if done == 0:
        raise DataFormatError("has no rows", path=runs.path, expected="a good-run list")
    intervals = np.concatenate(parts)
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reached = np.maximum.accumulate(intervals[:, 1])
    opens = np.concatenate([[True], intervals[1:, 0] > reached[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return np.column_stack([intervals[opens, 0], reached[closes]])


def _possible(mjd: FloatArray) -> NDArray[np.bool_]:
    return (mjd >= MJD_RANGE[0]) & (mjd < MJD_RANGE[1])


def _mjd_of_stamps(raw: NDArray[Any]) -> FloatArray:
    """Texts or time stamps as MJD, NaN where they are no time; without a zone they are UTC."""
    if raw.dtype.kind not in "MOUST":
        return np.full(raw.shape, np.nan)
    stamps = pd.Series(raw)
    if raw.dtype.kind != "M":
        stamps = pd.to_datetime(stamps.astype(str), utc=True, errors="coerce", format="ISO8601")
        stamps = stamps.dt.tz_localize(None)
    naive = stamps.to_numpy(dtype="datetime64[ns]")
    # Days and the rest apart: nanoseconds since 1970 have more digits than a float.
    days, rest = np.divmod(naive.astype(np.int64), _DAY_NS)
    return np.where(np.isnat(naive), np.nan, _UNIX_EPOCH + days + rest / _DAY_NS)


def _likely_format(value: float) -> str:
    """A hint at the format in which a value would be a time of 1990 or later."""
    for name, (scale, offset) in {**_NUMERIC, "unix, but in milliseconds": (1e-3 / _DAY_S, _UNIX_EPOCH)}.items():
        if 47892.0 <= scale * value + offset < MJD_RANGE[1]:
            return f"; {value:.8g} would be a time as {name}"
    return ""
