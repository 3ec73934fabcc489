"""Event lists in files of four formats, read a piece at a time, whatever their length.

`open_list` looks at the first bytes of a file, says which columns it has and in which units, and gives pieces of the
columns asked for as arrays. Only the pieces are in memory. What the numbers mean is `obsfit.ingest.events`' business.
"""

from __future__ import annotations

import gzip
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.tables import MAX_LINE_LENGTH, nearest, parse_number

Piece = dict[str, NDArray[Any]]
Reader = Callable[[Sequence[str], int], Iterator[Piece]]

ROWS = 2**18
"""Rows of a piece: small enough for the caches of a processor and large enough for the readers' overhead."""
MAX_HEADER_LINES = 10_000
MAX_CHUNK_BYTES = 2**28
MAX_COLUMNS_OF_A_LIST = 10_000

_UNIT_OF_NAME = re.compile(r".*\[([^\[\]]*)\]")
_TRUNCATED = "The file is damaged or cut off; fetch it again."
_BLANK = ["", "nan", "NaN", "NAN"]


@dataclass(frozen=True)
class EventList:
    """A list that can be read a piece at a time.

    Attributes
    ----------
    path : str
        The file, for messages.
    names : tuple of str
        Its columns.
    units : mapping
        Unit of each column, as text, for those of which the file says one.
    pieces : callable
        pieces(names, rows) gives mappings from name to an array: numbers as they are stored, texts as objects,
        times as datetime64.
    """

    path: str
    names: tuple[str, ...]
    pieces: Reader
    units: Mapping[str, str] = field(default_factory=dict)

    def require(self, names: Sequence[str]) -> None:
        """Raise `DataFormatError` with the nearest name if a column is not there."""
        for name in names:
            if name not in self.names:
                raise DataFormatError(
                    f"unknown column {name!r}{nearest(name, self.names)}", path=self.path, column=name,
                    expected=f"one of {', '.join(self.names[:50])}{', ...' if len(self.names) > 50 else ''}",
                    remedy="Columns are named in the configuration of the list.",
                )  # fmt: skip


def open_list(path: str | Path, *, table: str = "", names: Sequence[str] = ()) -> EventList:
    """Return the event list in a Parquet, HDF5, FITS or text file, told apart by their first bytes.

    Parameters
    ----------
    path : str or Path
        The file. Text is comma-separated or blank-separated, may be compressed by gzip, and names its columns in its
        first line or in the last line of comments (#) before the numbers.
    table : str
        FITS extension, or HDF5 group or compound data set; empty: the first table, or the root.
    names : sequence of str
        Columns of a text file that does not name them.

    Raises
    ------
    DataFormatError
        If the file is missing, empty, truncated or not such a list.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            magic = stream.read(9)
    except OSError as error:
        raise DataFormatError(f"cannot be read: {error.strerror or error}", path=path) from error
    if not magic:
        raise DataFormatError("is empty", path=path, expected="a list of events")
    with _explained(path):
        if magic.startswith(b"PAR1"):
            return _open_parquet(path)
        if magic.startswith(b"\x89HDF"):
            return _open_hdf5(path, table)
        if magic.startswith(b"SIMPLE  ="):
            return _open_fits(path, table)
        return _open_text(path, names, compressed=magic.startswith(b"\x1f\x8b"))


def table_list(columns: Mapping[str, Any], *, label: str = "events in memory") -> EventList:
    """Return an `EventList` of arrays in memory, as of a pandas DataFrame."""
    names = tuple(str(name) for name in columns)
    arrays = {name: np.asarray(columns[name]) for name in names}
    sizes = {array.shape for array in arrays.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise DataFormatError(f"columns have shapes {sorted(sizes)}", path=label, expected="(n,) each")
    (n,) = next(iter(sizes))

    def pieces(wanted: Sequence[str], rows: int) -> Iterator[Piece]:
        for start in range(0, n, rows):
            yield {name: arrays[name][start : start + rows] for name in wanted}

    return EventList(label, names, pieces)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the libraries raise on damaged files, as one kind of error."""
    try:
        yield
    except (
        OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, zlib.error,
    ) as error:  # fmt: skip
        message = " ".join(str(error).split())[:300]
        raise DataFormatError(
            f"cannot be read: {message}", path=path, expected="a whole list of events", remedy=_TRUNCATED
        ) from error


def _guarded(path: Path, reader: Reader) -> Reader:
    """The reader with its errors explained, but not those of whoever uses the pieces."""

    def pieces(names: Sequence[str], rows: int) -> Iterator[Piece]:
        iterator = reader(names, rows)
        while True:
            with _explained(path):
                piece = next(iterator, None)
            if piece is None:
                return
            yield piece

    return pieces


def _open_parquet(path: Path) -> EventList:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigurationError(
            "reading Parquet needs pyarrow", path=path, remedy="Install it: pip install 'obsfit[events]'."
        ) from error

    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        units = {}
        for column in schema:
            declared = (column.metadata or {}).get(b"unit", b"")
            if declared:
                units[column.name] = declared.decode("utf-8", "replace")
        plain = pyarrow.types
        unusable = {
            column.name for column in schema
            if plain.is_nested(column.type) or plain.is_binary(column.type) or plain.is_decimal(column.type)
        }  # fmt: skip

    def reader(names: Sequence[str], rows: int) -> Iterator[Piece]:
        for name in names:
            if name in unusable:
                raise DataFormatError(
                    f"column {name!r} holds {schema.field(name).type}", path=path, column=name,
                    expected="one number, time or text in each row",
                )  # fmt: skip
        # Without a buffer, whole columns of a row group would be read at once.
        with parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows, columns=list(names), use_threads=False):
                yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}

    return EventList(str(path), tuple(schema.names), _guarded(path, reader), units)


def _open_hdf5(path: Path, table: str) -> EventList:
    import h5py

    with h5py.File(path, "r") as file:
        root = _hdf5_item(file, table, path) if table else file
        if isinstance(root, h5py.Dataset):
            _check_dataset(root, table, path)
            if root.dtype.names is None:
                raise DataFormatError(
                    f"data set {table!r} is not compound",
                    path=path,
                    expected="a group or a table of named columns",
                )
            names = tuple(root.dtype.names)
        else:
            names = tuple(_hdf5_columns(root))
        units = {}
        if isinstance(root, h5py.Group):
            for name in names:
                item = root.get(name, getlink=True)
                if isinstance(item, h5py.HardLink):
                    declared = root[name].attrs.get("unit", root[name].attrs.get("units", ""))
                    units[name] = declared.decode() if isinstance(declared, bytes) else str(declared)

    def reader(names: Sequence[str], rows: int) -> Iterator[Piece]:
        with h5py.File(path, "r") as file:
            root = _hdf5_item(file, table, path) if table else file
            if isinstance(root, h5py.Dataset):
                for start in range(0, root.shape[0], rows):
                    part = root[start : start + rows]
                    yield {name: _decoded(part[name]) for name in names}
                return
            columns = {name: _hdf5_item(root, name, path) for name in names}
            for name, column in columns.items():
                _check_dataset(column, name, path)
            sizes = {name: column.shape[0] for name, column in columns.items()}
            if len(set(sizes.values())) > 1:
                raise DataFormatError(f"columns have lengths {sizes}", path=path, expected="one length")
            for start in range(0, next(iter(sizes.values())), rows):
                yield {name: _decoded(column[start : start + rows]) for name, column in columns.items()}

    return EventList(str(path), names, _guarded(path, reader), {k: v for k, v in units.items() if v})


def _hdf5_columns(root: Any) -> list[str]:
    """Names of the data sets of a group, with those of its groups as group/name; nothing outside the file."""
    import h5py

    found: list[str] = []

    def descend(group: Any, prefix: str, depth: int) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            hard = isinstance(link, h5py.HardLink)
            if hard and isinstance(group[name], h5py.Group) and depth < 8:
                descend(group[name], f"{prefix}{name}/", depth + 1)
            elif not hard or isinstance(group[name], h5py.Dataset):
                found.append(prefix + name)
            if len(found) > MAX_COLUMNS_OF_A_LIST:
                raise ValueError(f"more than {MAX_COLUMNS_OF_A_LIST} columns")

    descend(root, "", 0)
    return found


def _hdf5_item(root: Any, name: str, path: Path) -> Any:
    """The object of a name, reached through links of this file alone."""
    import h5py

    item = root
    for part in name.strip("/").split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) and part in item.keys() else None  # noqa: SIM118
        if link is None:
            raise DataFormatError(
                f"has no group or data set {name!r}{nearest(name, list(root))}", path=path,
                expected=f"one of {', '.join(list(root)[:50])}",
            )  # fmt: skip
        if not isinstance(link, h5py.HardLink):
            raise DataFormatError(
                f"{name!r} is a {type(link).__name__}", path=path, column=name,
                expected="data inside this file", remedy="Links are not followed: copy the data into the file.",
            )  # fmt: skip
        item = item[part]
    return item


def _check_dataset(data: Any, name: str, path: Path) -> None:
    """Refuse what reaches outside the file, or declares more than the file can hold."""
    import h5py

    if not isinstance(data, h5py.Dataset) or len(data.shape) != 1:
        raise DataFormatError(
            f"{name!r} is not a column", path=path, column=name, expected="a data set of shape (n,)"
        )
    if data.external or data.is_virtual:
        raise DataFormatError(
            f"{name!r} is stored in another file", path=path, column=name, expected="data inside this file",
            remedy="Copy the data into the file.",
        )  # fmt: skip
    if data.chunks is not None and math.prod(data.chunks) * data.dtype.itemsize > MAX_CHUNK_BYTES:
        raise DataFormatError(
            f"{name!r} has chunks of {data.chunks[0]} rows", path=path, column=name,
            expected=f"at most {MAX_CHUNK_BYTES} bytes in each",
        )  # fmt: skip
    stored = data.id.get_storage_size()
    compressed = data.compression is not None
    if data.size and (stored == 0 or (not compressed and stored < data.size * data.dtype.itemsize)):
        raise DataFormatError(
            f"{name!r} declares {data.size} rows, but {stored} bytes are stored", path=path, column=name,
            expected="as many rows as declared", remedy=_TRUNCATED,
        )  # fmt: skip


def _decoded(values: NDArray[Any]) -> NDArray[Any]:
    """Texts as objects, numbers as they are."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace").astype(object)
    if values.dtype.kind == "O":
        return np.array(
            [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values], dtype=object
        )
    return values


def _open_fits(path: Path, table: str) -> EventList:
    from astropy.io import fits

    with warnings.catch_warnings(), fits.open(path, memmap=True, lazy_load_hdus=True) as units:
        # Said below as an error.
        warnings.filterwarnings("ignore", message="File may have been truncated")
        place, unit = _fits_table(units, table, path)
        header = unit.header
        size = int(header["NAXIS1"]) * int(header["NAXIS2"])
        if unit.fileinfo()["datLoc"] + size > path.stat().st_size:
            raise DataFormatError(
                f"declares {header['NAXIS2']} rows of {header['NAXIS1']} bytes, but is shorter", path=path,
                expected="as many rows as declared", remedy=_TRUNCATED,
            )  # fmt: skip
        n = int(header["NAXIS2"])
        names = tuple(unit.columns.names)
        declared = {column.name: str(column.unit) for column in unit.columns if column.unit}

    def reader(wanted: Sequence[str], rows: int) -> Iterator[Piece]:
        with fits.open(path, memmap=True, lazy_load_hdus=True) as units:
            data = units[place].data
            for start in range(0, n, rows):
                # A slice first: scaled columns are converted as far as they are asked for.
                part = data[start : start + rows]
                piece = {name: np.asarray(part.field(name)) for name in wanted}
                for name, values in piece.items():
                    if values.ndim != 1:
                        raise DataFormatError(
                            f"column {name!r} holds arrays of shape {values.shape[1:]}", path=path, column=name,
                            expected="one number or text in each row",
                        )  # fmt: skip
                    piece[name] = values.astype(object) if values.dtype.kind in "SU" else _native(values)
                yield piece

    return EventList(str(path), names, _guarded(path, reader), declared)


def _fits_table(units: Any, table: str, path: Path) -> tuple[int, Any]:
    from astropy.io import fits

    found = [(place, unit) for place, unit in enumerate(units) if isinstance(unit, fits.BinTableHDU)]
    for place, unit in found:
        if not table or unit.name.casefold() == table.casefold():
            return place, unit
    known = [unit.name for _, unit in found]
    raise DataFormatError(
        f"has no binary table {table!r}{nearest(table, known)}" if table else "has no binary table", path=path,
        expected=f"one of {', '.join(known)}" if known else "a binary table of events",
    )  # fmt: skip


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True)
class _TextHead:
    """How a text file begins: columns, separator and lines before the numbers."""

    names: tuple[str, ...]
    comma: bool
    skip: int


def _open_text(path: Path, names: Sequence[str], *, compressed: bool) -> EventList:
    head = _text_head(path, tuple(names), compressed=compressed)
    units = {}
    for name in head.names:
        match = _UNIT_OF_NAME.fullmatch(name)
        if match is not None:
            units[name] = match[1]

    def reader(wanted: Sequence[str], rows: int) -> Iterator[Piece]:
        # All columns, not those wanted alone: pandas would then say nothing of rows with too many cells.
        with pd.read_csv(
            path, sep="," if head.comma else r"\s+", header=None, names=list(head.names), index_col=False,
            skiprows=head.skip, comment="#", chunksize=rows, encoding="utf-8", keep_default_na=False,
            na_values=_BLANK, skipinitialspace=True, compression="gzip" if compressed else None,
        ) as frames:  # fmt: skip
            for frame in frames:
                yield {name: frame[name].to_numpy() for name in wanted}

    return EventList(str(path), head.names, _guarded(path, reader), units)


def _text(path: Path, *, compressed: bool) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if compressed else path.open(encoding="utf-8")


def _text_head(path: Path, names: tuple[str, ...], *, compressed: bool) -> _TextHead:
    comment: tuple[str, ...] = ()
    skip = 0
    with _text(path, compressed=compressed) as stream:
        for count in range(MAX_HEADER_LINES):
            line = stream.readline(MAX_LINE_LENGTH)
            if not line:
                raise DataFormatError("has no rows", path=path, expected="a list of events")
            if "\x00" in line or (len(line) == MAX_LINE_LENGTH and not line.endswith("\n")):
                raise DataFormatError(
                    "is not text, or has very long lines", path=path, expected="Parquet, FITS, HDF5 or text"
                )
            text = line.strip()
            if text.startswith("#"):
                comment = tuple(text.lstrip("#").replace(",", " ").split()) or comment
                continue
            if not text:
                continue
            comma = "," in text
            cells = [cell.strip() for cell in (text.split(",") if comma else text.split())]
            if not names and all(parse_number(cell)[1] is not None for cell in cells):
                names, skip = tuple(cells), count + 1
                continue
            found = names or comment
            if len(found) != len(cells):
                raise DataFormatError(
                    f"has {len(cells)} columns, and {len(found)} names for them: {', '.join(found[:20]) or 'none'}",
                    path=path, expected="one name for each column",
                    remedy="Give the names in the configuration of the list (names = [...]).",
                )  # fmt: skip
            return _TextHead(found, comma, skip)
    raise DataFormatError(f"begins with {MAX_HEADER_LINES} lines of comments", path=path, expected="events")
