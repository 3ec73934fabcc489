"""The one reader of text tables: ECSV and plain CSV, checked cell by cell, never trusted.

Every other module of this room reads files through `read_sheet` and takes its columns through `ColumnReader`, which
remembers all that is wrong and raises one `DataFormatError` at the end. Cells are kept as text until a reader says
what they should be: only then can a message name the row, the column and the text that stood there.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import yaml  # type: ignore[import-untyped]
from astropy.table import Column, Table
from numpy.typing import NDArray

from obsfit.errors import BadValue, DataFormatError

FloatArray = NDArray[np.float64]

MAX_BYTES = 64 * 2**20
MAX_ROWS = 1_000_000
MAX_COLUMNS = 200
MAX_HEADER_BYTES = 2**17
MAX_LINE_LENGTH = 2**16
MAX_UNIT_LENGTH = 40

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# Narrower than what astropy reads, which evaluates powers of numbers: "10**999999999" would never end.
_UNIT_NAME = r"(?:[A-Za-z]+|[%°])(?:(?:\*\*|\^)?-?[1-9])?"
_UNIT = re.compile(
    rf"(?P<scale>{_NUMBER.pattern})?(?P<names>\s*(?:{_UNIT_NAME}(?:\s*[/* .]\s*{_UNIT_NAME})*)?)", re.ASCII
)
_QUANTITY = re.compile(rf"({_NUMBER.pattern})\s*(.*)", re.ASCII)
_CSV_COLUMN = re.compile(r"([^\[\]]*?)\s*(?:\[([^\[\]]*)\])?")
_META_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_ ]*?)\s*:\s*(.*)")
_BLANK = frozenset({"", "nan", "NaN", "NAN"})
_TRUE = frozenset({"true", "yes", "1"})
_FALSE = frozenset({"false", "no", "0"})
_FLOATS = ("float16", "float32", "float64", "float128")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DATATYPES = (*_FLOATS, *_INTEGERS, "bool", "string")
_DELIMITERS = (" ", ",")


@dataclass(frozen=True)
class Sheet:
    """A table as text: what the file says, before anybody asks what it means.

    Attributes
    ----------
    path : str
        The file, as the user named it.
    sha256 : str
        Checksum of its bytes.
    meta : mapping
        Metadata; scalars are text, lists are lists.
    units : mapping of str to str
        Declared unit of each column; "" where none is declared.
    datatypes : mapping of str to str
        Declared type of each column; "" in plain CSV, which declares none.
    descriptions : mapping of str to str
        What the file says about each column.
    cells : mapping of str to tuple of str
        Columns in the order of the file, each of length `n_rows`.
    """

    path: str
    sha256: str
    meta: Mapping[str, Any]
    units: Mapping[str, str]
    datatypes: Mapping[str, str]
    descriptions: Mapping[str, str]
    cells: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.cells)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.cells.values()), ()))

    @property
    def stem(self) -> str:
        """Name of the file without folder and extension."""
        return Path(self.path).stem


def read_sheet(path: str | Path, *, label: str | None = None) -> Sheet:
    """Return the text table in an ECSV or CSV file.

    A first line ``# %ECSV`` makes it ECSV. Anything else is read as CSV: leading lines ``# key: value`` are
    metadata, then follows one line of column names, each with its unit in brackets (``energy [TeV]``).

    Parameters
    ----------
    path : str or Path
        File to read, at most `MAX_BYTES` and `MAX_ROWS`.
    label : str, optional
        How errors and provenance call the file; default the path itself.

    Raises
    ------
    DataFormatError
        If the file is missing, a folder, empty, too long, binary, not UTF-8, truncated, or not a table.
    """
    label = str(path) if label is None else label
    data = _read_bytes(path, label)
    text = _decode(data, label)
    lines = _lines(text, label)
    sha256 = hashlib.sha256(data).hexdigest()
    is_ecsv = lines[0].startswith("# %ECSV")
    header, names, delimiter, first = (_ecsv_header if is_ecsv else _csv_header)(lines, label)
    cells = _cells(lines[first:], names, delimiter, label)
    sheet = Sheet(label, sha256, header.meta, header.units, header.datatypes, header.descriptions, cells)
    _check_row_count(sheet)
    return sheet


def as_table(sheet: Sheet) -> Table:
    """Return a sheet as an astropy Table, columns typed as declared, with units and metadata.

    Columns of plain CSV, which declares no types, become numbers where every cell is a number. Blank numbers are
    NaN; a blank whole number makes its column a column of floats.

    Raises
    ------
    DataFormatError
        If a cell is not of the declared type or a unit is unknown.
    """
    columns = ColumnReader(sheet)
    table = Table(meta={**sheet.meta, "sha256": sheet.sha256})
    for name in sheet.names:
        values = _typed(columns, name)
        unit = columns.unit_of(name)
        table.add_column(Column(values, name=name, unit=unit, description=sheet.descriptions[name] or None))
    columns.finish()
    return table


class ColumnReader:
    """Typed columns of one sheet; remembers every bad place, so that one error names them all.

    Parameters
    ----------
    sheet : Sheet
        The table to read.
    known : sequence of str
        All column names that the caller understands. A column that is none of them but nearly one that is absent
        is taken for a slip of the pen and reported; other extra columns are left alone.
    what : str
        What the table should be, for the message.
    """

    def __init__(self, sheet: Sheet, known: Sequence[str] = (), what: str = "a table") -> None:
        self.sheet = sheet
        self.known = known
        self.what = what
        self.bad: list[BadValue] = []
        self._places: set[tuple[int | None, str | None]] = set()
        absent = [name for name in known if name not in sheet.cells]
        for name in sheet.names:
            near = [] if name in known else difflib.get_close_matches(name, absent, n=1, cutoff=0.85)
            if near:
                self.add(None, name, name, f"unknown column {name!r}; did you mean {near[0]!r}?")

    def add(self, row: int | None, column: str | None, value: object, problem: str) -> None:
        """Remember a bad place; `row` counts lines of data from one."""
        self.bad.append(BadValue(row, column, value, problem))
        self._places.add((row, column))

    def is_bad(self, row: int, column: str) -> bool:
        """Whether a cell, or its whole column, is already remembered as bad."""
        return (row, column) in self._places or (None, column) in self._places

    def has(self, name: str) -> bool:
        """Whether the sheet has this column."""
        return name in self.sheet.cells

    def unit_of(self, name: str) -> u.UnitBase | None:
        """Return the declared unit of a column, None where none is declared or it is not a unit (remembered)."""
        text = self.sheet.units[name]
        if not text:
            return None
        unit = parse_unit(text)
        if unit is None:
            self.add(None, name, text, f"unit {text!r} is not known")
        return unit

    def numbers(
        self,
        name: str,
        unit: str = "",
        *,
        required: bool = True,
        blank: bool = False,
        check: Callable[[float], str | None] | None = None,
    ) -> FloatArray:
        """Return a column as float64 in `unit`, NaN where blank or bad (the latter remembered).

        Parameters
        ----------
        name : str
            Column.
        unit : str
            Unit wanted; "" is a plain number, for which the file need not declare a unit.
        required : bool
            Whether the column must be there.
        blank : bool
            Whether single cells may be empty or nan.
        check : callable, optional
            Gives the complaint about a finite value in `unit`, such as "is negative", or None.

        Returns
        -------
        ndarray, shape (n_rows,)
        """
        n = self.sheet.n_rows
        if not self.has(name):
            if required:
                self._missing(name, f"with unit {unit}" if unit else "")
            return np.full(n, np.nan)
        factor = self._factor(name, unit)
        values = np.full(n, np.nan)
        for i, cell in enumerate(self.sheet.cells[name]):
            value, problem = parse_number(cell)
            if problem is None and math.isnan(value):
                problem = None if blank else "no value, but one is required here"
            elif problem is None:
                value *= factor
                complaint = None if math.isnan(factor) or check is None else check(value)
                problem = None if complaint is None else f"{self._printed(name, cell)} {complaint}"
            if problem is not None:
                self.add(i + 1, name, cell, problem)
            values[i] = value
        return values

    def integers(self, name: str) -> NDArray[np.int64]:
        """Return a required column of whole numbers >= 0, -1 where bad (remembered)."""
        if not self.has(name):
            self._missing(name, "")
            return np.full(self.sheet.n_rows, -1, dtype=np.int64)
        self._factor(name, "")
        values = np.full(self.sheet.n_rows, -1, dtype=np.int64)
        for i, cell in enumerate(self.sheet.cells[name]):
            value, problem = parse_number(cell)
            if problem is None and (math.isnan(value) or value != int(value) or abs(value) > 2**53):
                problem = f"{_short(cell)!r} is not a whole number"
            if problem is None and value < 0:
                problem = f"{_short(cell)!r} is negative"
            if problem is not None:
                self.add(i + 1, name, cell, problem)
            else:
                values[i] = int(value)
        return values

    def texts(self, name: str, *, choices: Sequence[str] = (), required: bool = True) -> tuple[str, ...] | None:
        """Return a column of non-empty text, None where it is absent; `choices` limits the vocabulary."""
        if not self.has(name):
            if required:
                self._missing(name, "")
            return None
        for i, cell in enumerate(self.sheet.cells[name]):
            if not cell:
                self.add(i + 1, name, cell, "no value, but one is required here")
            elif choices and cell not in choices:
                self.add(i + 1, name, cell, f"{cell!r} is not known" + nearest(cell, choices))
        return self.sheet.cells[name]

    def flags(self, name: str, *, default: bool) -> NDArray[np.bool_]:
        """Return a column of true and false, or `default` in all rows where it is absent."""
        values = np.full(self.sheet.n_rows, default)
        for i, cell in enumerate(self.sheet.cells.get(name, ())):
            flag = parse_flag(cell)
            if flag is None:
                self.add(i + 1, name, cell, f"{cell!r} is neither true nor false")
            else:
                values[i] = flag
        return values

    def meta_text(self, key: str, *, choices: Sequence[str] = (), default: str | None = None) -> str:
        """Return a metadata entry as text; a missing one without `default` is remembered."""
        value = self.sheet.meta.get(key)
        if value is None or value == "":
            if default is None:
                self.add(None, None, None, f"metadata {key!r} is missing" + nearest(key, self.sheet.meta))
            return default or ""
        text = str(value)
        if choices and text not in choices:
            self.add(None, None, text, f"metadata {key}: {text!r} is not known" + nearest(text, choices))
        return text

    def meta_number(
        self,
        key: str,
        unit: str,
        *,
        check: Callable[[float], str | None] | None = None,
        default: str | None = None,
    ) -> float:
        """Return a metadata entry such as ``10 TeV`` as float in `unit`, NaN where missing or bad (remembered).

        An empty `unit` asks for a plain number.
        """
        text = self.meta_text(key, default=default)
        if not text:
            return math.nan
        value, problem = parse_quantity(text, unit) if unit else parse_number(text)
        if problem is None and check is not None:
            complaint = check(value)
            problem = None if complaint is None else f"{text} {complaint}"
        if problem is not None:
            self.add(None, None, text, f"metadata {key}: {problem}")
        return value

    def meta_flag(self, key: str) -> bool:
        """Return a metadata entry that is true or false."""
        text = self.meta_text(key)
        flag = parse_flag(text)
        if text and flag is None:
            self.add(None, None, text, f"metadata {key}: {text!r} is neither true nor false")
        return bool(flag)

    def unique(self, names: Sequence[str], keys: Iterable[object], what: str) -> None:
        """Remember every row whose key stood in an earlier row."""
        first: dict[object, int] = {}
        for row, key in enumerate(keys, start=1):
            if key in first:
                self.add(
                    row, ", ".join(names) or None, key, f"{what} {key!r} was already given in row {first[key]}"
                )
            else:
                first[key] = row

    def finish(self, remedy: str = "") -> None:
        """Raise one `DataFormatError` if anything bad was found."""
        if not self.bad:
            return
        problem = self.bad[0].problem if len(self.bad) == 1 else f"this is not {self.what}"
        raise DataFormatError(
            problem, path=self.sheet.path, bad=self.bad, expected=f"{self.what} with valid entries throughout",
            remedy=remedy,
        )  # fmt: skip

    def _printed(self, name: str, cell: str) -> str:
        unit = self.sheet.units[name]
        return f"{_short(cell)} {unit}" if unit else _short(cell)

    def _missing(self, name: str, with_unit: str) -> None:
        there = _short(", ".join(self.sheet.names), 200)
        strange = [other for other in self.sheet.names if other not in self.known]
        needed = f"it is needed {with_unit};" if with_unit else "it is needed;"
        self.add(
            None, name, None,
            f"column {name!r} is missing{nearest(name, strange)}; {needed} there are {there}",
        )  # fmt: skip

    def _factor(self, name: str, unit: str) -> float:
        text = self.sheet.units[name]
        if not text:
            if unit:
                self.add(None, name, None, f"no unit is declared; declare one that converts to {unit}")
                return math.nan
            return 1.0
        factor = conversion(text, unit)
        if factor is None:
            wanted = unit or "a plain number"
            self.add(None, name, text, f"unit {text!r} does not convert to {wanted}")
            return math.nan
        return factor


def parse_number(cell: str) -> tuple[float, str | None]:
    """Return the number in a cell, NaN where blank, and the complaint or None.

    Examples
    --------
    >>> parse_number("7.9")
    (7.9, None)
    >>> parse_number("14.2h")
    (nan, "'14.2h' is not a number")
    """
    if cell in _BLANK:
        return math.nan, None
    if not _NUMBER.fullmatch(cell):
        if cell.lower().lstrip("+-") in ("inf", "infinity"):
            return math.nan, f"{cell!r} is infinite"
        return math.nan, f"{_short(cell)!r} is not a number"
    value = float(cell)
    if math.isinf(value):
        return math.nan, f"{_short(cell)!r} is too large for a number"
    return value, None


def parse_flag(cell: str) -> bool | None:
    """Return True, False, or None where a cell says neither."""
    word = cell.lower()
    return True if word in _TRUE else False if word in _FALSE else None


def parse_unit(text: str) -> u.UnitBase | None:
    """Return the astropy unit that a text names, None where it names none: a scale, names, or both.

    Examples
    --------
    >>> parse_unit("TeV"), parse_unit("furlongs per fortnight")
    (Unit("TeV"), None)
    """
    match = _UNIT.fullmatch(text)
    if match is None or len(text) > MAX_UNIT_LENGTH:
        return None
    scale = float(match["scale"] or 1)
    if not 0 < scale < math.inf:
        return None
    try:
        return u.Unit(scale) * u.Unit(match["names"].strip()) if match["names"].strip() else u.Unit(scale)
    except (ValueError, TypeError, ArithmeticError):
        return None


def conversion(text: str, unit: str) -> float | None:
    """Return the factor from the unit that a text names to `unit`, None where there is none.

    Examples
    --------
    >>> conversion("PeV", "TeV"), conversion("%", ""), conversion("deg", "TeV")
    (1000.0, 0.01, None)
    """
    declared = parse_unit(text)
    if declared is None:
        return None
    try:
        factor = float(declared.to(u.Unit(unit)))
    except (u.UnitConversionError, TypeError, ArithmeticError):
        return None
    return factor if 0 < factor < math.inf else None


def parse_quantity(text: str, unit: str) -> tuple[float, str | None]:
    """Return the value of a text such as ``10 TeV`` in `unit`, and the complaint or None.

    Examples
    --------
    >>> parse_quantity("10 TeV", "GeV")
    (10000.0, None)
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return math.nan, f"{_short(text)!r} is not a number with a unit such as '10 {unit}'"
    value, problem = parse_number(match[1])
    if problem is not None:
        return math.nan, problem
    if not match[2]:
        usual = {"rad": "deg"}.get(unit, unit)
        return math.nan, f"{_short(text)!r} has no unit; write for example '{_short(match[1])} {usual}'"
    factor = conversion(match[2], unit)
    if factor is None:
        return math.nan, f"unit {_short(match[2])!r} does not convert to {unit}"
    return value * factor, None


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return '; did you mean ...?' with the nearest of the choices, or nothing."""
    near = difflib.get_close_matches(name, list(choices)[:MAX_COLUMNS], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def within(low: float, high: float, text: str) -> Callable[[float], str | None]:
    """Return a check that a value lies in [low, high]; `text` says what was expected."""

    def check(value: float) -> str | None:
        return None if low <= value <= high else f"is out of range, expected {text}"

    return check


def positive(text: str) -> Callable[[float], str | None]:
    """Return a check that a value is greater than zero; `text` says what it is."""

    def check(value: float) -> str | None:
        return None if 0 < value < math.inf else f"is not a positive {text}"

    return check


@dataclass(frozen=True)
class _Header:
    meta: Mapping[str, Any]
    units: Mapping[str, str]
    datatypes: Mapping[str, str]
    descriptions: Mapping[str, str]


def _read_bytes(path: str | Path, label: str) -> bytes:
    try:
        file = Path(path)
        if file.is_dir():
            raise DataFormatError("this is a folder", path=label, expected="an ECSV or CSV file")
        if not file.exists():
            raise DataFormatError(
                "there is no such file", path=label, expected="an ECSV or CSV file",
                remedy="Check the path; 'obsfit data list' names the shipped tables.",
            )  # fmt: skip
        if not file.is_file():
            raise DataFormatError("this is not a regular file", path=label, expected="an ECSV or CSV file")
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DataFormatError(f"cannot be read: {error}", path=label, expected="a readable file") from error
    if len(data) > MAX_BYTES:
        raise DataFormatError(
            f"longer than {MAX_BYTES // 2**20} MiB", path=label, expected=f"at most {MAX_BYTES // 2**20} MiB of text",
            remedy="A table of measurements is short; is this a map or an event list?",
        )  # fmt: skip
    if not data.strip():
        raise DataFormatError("the file is empty", path=label, expected="a table with a header and rows")
    return data


def _decode(data: bytes, label: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise DataFormatError(
            f"byte {error.start} (line {row}) is not UTF-8", path=label, expected="text in UTF-8",
            remedy="Save the file as UTF-8 text; a spreadsheet must be exported as CSV first.",
        ) from error  # fmt: skip
    if "\x00" in text:
        raise DataFormatError(
            "the file is binary (it contains a zero byte)", path=label, expected="text in UTF-8",
            remedy="Tables are read from ECSV or CSV.",
        )  # fmt: skip
    return text


def _lines(text: str, label: str) -> list[str]:
    # Counted before they are split: a file of line feeds alone would take gigabytes as a list.
    if text.count("\n") + text.count("\r") > MAX_ROWS + 10_000:
        raise DataFormatError(
            "too many lines", path=label, expected=f"at most {MAX_ROWS} rows", remedy="Split the file."
        )
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    longest = max(map(len, lines))
    if longest > MAX_LINE_LENGTH:
        raise DataFormatError(
            f"a line of {longest} characters",
            path=label,
            expected=f"lines of at most {MAX_LINE_LENGTH} characters",
        )
    return lines


def _ecsv_header(lines: list[str], label: str) -> tuple[_Header, list[str], str, int]:
    n_header = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    text = "\n".join(line[2:] for line in lines[1:n_header])
    header = _load_yaml(text, label)
    datatype = header.get("datatype")
    if not isinstance(datatype, list) or not datatype or not all(isinstance(entry, dict) for entry in datatype):
        raise DataFormatError(
            "the ECSV header has no list 'datatype' of columns", path=label,
            expected="lines such as '# - {name: energy, unit: TeV, datatype: float64}'",
        )  # fmt: skip
    names = [str(entry.get("name", "")) for entry in datatype]
    for entry, name in zip(datatype, names, strict=True):
        kind = str(entry.get("datatype", ""))
        if kind not in _DATATYPES or "subtype" in entry:
            declared = f"{kind} {entry['subtype']}" if "subtype" in entry else kind
            raise DataFormatError(
                f"column {name!r} declares datatype {_short(declared)!r}", path=label, column=name, value=declared,
                expected=f"one number or text for each cell: one of {', '.join(_DATATYPES)}",
            )  # fmt: skip
    delimiter = str(header.get("delimiter", " "))
    if delimiter not in _DELIMITERS:
        raise DataFormatError(f"delimiter {delimiter!r}", path=label, expected="a blank or a comma")
    first = next((i for i in range(n_header, len(lines)) if lines[i].strip()), len(lines))
    if first == len(lines):
        raise DataFormatError("there is a header, but no line of column names and no rows", path=label)
    printed = _split(lines[first], delimiter, label)
    if printed != names:
        raise DataFormatError(
            f"the line of column names says {_short(', '.join(printed))!r}, the header {_short(', '.join(names))!r}",
            path=label, expected="the same names in the same order",
        )  # fmt: skip
    return (
        _Header(
            _meta(header.get("meta"), label),
            {name: str(entry.get("unit", "")) for entry, name in zip(datatype, names, strict=True)},
            {name: str(entry["datatype"]) for entry, name in zip(datatype, names, strict=True)},
            {name: str(entry.get("description", "")) for entry, name in zip(datatype, names, strict=True)},
        ),
        _checked_names(names, label),
        delimiter,
        first + 1,
    )


def _load_yaml(text: str, label: str) -> dict[str, Any]:
    if len(text) > MAX_HEADER_BYTES:
        raise DataFormatError(
            f"a header of {len(text)} characters", path=label, expected=f"at most {MAX_HEADER_BYTES}"
        )
    try:
        # BaseLoader builds text, lists and mappings only: a tag cannot construct anything.
        header = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise DataFormatError(
            f"the ECSV header is not YAML: {' '.join(str(error).split())[:200]}", path=label,
            expected="the header that astropy writes for ascii.ecsv",
        ) from error  # fmt: skip
    if not isinstance(header, dict):
        raise DataFormatError("the ECSV header is not a mapping", path=label, expected="'datatype:' and 'meta:'")
    if not _is_finite(header):
        raise DataFormatError(
            "the ECSV header refers to itself again and again", path=label, expected="plain YAML"
        )
    return header


def _is_finite(header: object) -> bool:
    """Whether a header stays small when its YAML aliases are written out: a few lines can describe an enormous one."""
    stack, seen = [header], 0
    while stack:
        entry = stack.pop()
        seen += 1
        if seen > MAX_HEADER_BYTES:
            return False
        if isinstance(entry, dict):
            stack.extend(entry.values())
        elif isinstance(entry, list):
            stack.extend(entry)
    return True


def _meta(meta: object, label: str) -> dict[str, Any]:
    if meta in (None, ""):
        return {}
    if isinstance(meta, list) and all(
        isinstance(entry, dict) for entry in meta
    ):  # an ordered map, as astropy writes it
        meta = {key: value for entry in meta for key, value in entry.items()}
    if not isinstance(meta, dict):
        raise DataFormatError(
            "the metadata of the ECSV header is not a mapping", path=label, expected="'key: value'"
        )
    # astropy describes quantity columns once more under this key; their units stand on the columns already.
    return {str(key): value for key, value in meta.items() if key != "__serialized_columns__"}


def _csv_header(lines: list[str], label: str) -> tuple[_Header, list[str], str, int]:
    meta: dict[str, Any] = {}
    first = 0
    for first, line in enumerate(lines):  # noqa: B007
        if not line.startswith("#") and line.strip():
            break
        match = _META_LINE.fullmatch(line.lstrip("#").strip())
        if match is None:
            continue
        key = match[1].replace(" ", "_")
        if key in meta:
            raise DataFormatError(f"metadata {key!r} is given twice", path=label, expected="one line for each key")
        meta[key] = _list_or_text(match[2].strip()) if key == "overlaps" else match[2].strip()
    else:
        raise DataFormatError("there are comments, but no line of column names and no rows", path=label)
    names, units = [], {}
    for title in _split(lines[first], ",", label):
        match = _CSV_COLUMN.fullmatch(title)
        if match is None:
            raise DataFormatError(
                f"column title {_short(title)!r} cannot be understood",
                path=label,
                expected="a name, or 'name [unit]'",
            )
        names.append(match[1])
        units[match[1]] = (match[2] or "").strip()
    if len(names) == 1 and re.search(r"[;\t]", lines[first]):
        raise DataFormatError(
            "columns are not separated by commas", path=label, expected="comma-separated values",
            remedy="Export the table with commas between the columns.",
        )  # fmt: skip
    blank = dict.fromkeys(names, "")
    return _Header(meta, units, blank, blank), _checked_names(names, label), ",", first + 1


def _list_or_text(text: str) -> list[str]:
    return [entry.strip() for entry in text.strip("[]").split(",") if entry.strip()]


def _checked_names(names: list[str], label: str) -> list[str]:
    if len(names) > MAX_COLUMNS:
        raise DataFormatError(f"{len(names)} columns", path=label, expected=f"at most {MAX_COLUMNS}")
    for name in names:
        if not name:
            raise DataFormatError("a column has no name", path=label, expected="a name for each column")
        if names.count(name) > 1:
            raise DataFormatError(
                f"column {_short(name)!r} is there twice", path=label, column=name, expected="unique column names"
            )
    return names


def _split(line: str, delimiter: str, label: str) -> list[str]:
    try:
        rows = list(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise DataFormatError(f"line {_short(line)!r} cannot be split: {error}", path=label) from error
    cells = [cell.strip() for cell in rows[0]] if rows else []
    if delimiter == " ":
        while cells and not cells[-1] and not line.rstrip().endswith('""'):
            cells.pop()
    return cells


def _cells(lines: list[str], names: list[str], delimiter: str, label: str) -> dict[str, tuple[str, ...]]:
    rows: list[list[str]] = []
    bad: list[BadValue] = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        row = len(rows) + 1
        if row > MAX_ROWS:
            raise DataFormatError(
                "too many rows", path=label, expected=f"at most {MAX_ROWS}", remedy="Split the file."
            )
        try:
            cells = _split(line, delimiter, label)
        except DataFormatError as error:
            cells = []
            bad.append(BadValue(row, None, line[:40], error.problem))
        else:
            if len(cells) != len(names):
                what = f"{len(cells)} cells, expected {len(names)}; is the line cut off or a delimiter missing?"
                bad.append(BadValue(row, None, line[:40], what))
        rows.append(cells)
    if bad:
        raise DataFormatError(
            bad[0].problem if len(bad) == 1 else "rows do not fit the header", path=label, bad=bad,
            expected=f"{len(names)} cells in each row: {_short(', '.join(names))}",
        )  # fmt: skip
    if not rows:
        raise DataFormatError("there is a header, but no rows", path=label, expected="at least one row of data")
    return {name: tuple(row[i] for row in rows) for i, name in enumerate(names)}


def _check_row_count(sheet: Sheet) -> None:
    declared = sheet.meta.get("rows")
    if declared is not None and str(declared) != str(sheet.n_rows):
        raise DataFormatError(
            f"the metadata declares {_short(str(declared))} rows, the file has {sheet.n_rows}", path=sheet.path,
            expected="as many rows as declared", remedy="The file is damaged or cut off; fetch it again.",
        )  # fmt: skip


def _typed(columns: ColumnReader, name: str) -> NDArray[Any]:
    cells, kind = columns.sheet.cells[name], columns.sheet.datatypes[name]
    if kind == "string" or (not kind and any(parse_number(cell)[1] is not None for cell in cells)):
        return np.array(cells, dtype=str)
    if kind == "bool":
        return columns.flags(name, default=False)
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        values[i], problem = parse_number(cell)
        if problem is not None:
            columns.add(i + 1, name, cell, problem)
    whole = kind in _INTEGERS and bool(np.all(np.isfinite(values) & (values == np.round(values))))
    return values.astype(np.int64) if whole else values


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
