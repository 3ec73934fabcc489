"""HDF5 files of obsfit, read with care: their kind and version, no links elsewhere, no size that is only declared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from obsfit.errors import DataFormatError


@contextmanager
def opened_product(
    path: Path, kind: str, version: int, *, made_by: str, remedy: str = "It was changed or damaged; make it again."
) -> Iterator[Any]:
    """Open a file of one kind and version for reading; what goes wrong within is told as an error of the file.

    Parameters
    ----------
    path : Path
        The file.
    kind, version : str, int
        Its root attributes `obsfit_format` and `format_version`.
    made_by : str
        What writes such files.
    remedy : str
        What to do about one that holds none.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off or of another kind or version, or what is read from it makes no sense.
    """
    name = kind.replace("-", " ")
    try:
        with h5py.File(path, "r") as file:
            for key, wanted in (("obsfit_format", kind), ("format_version", version)):
                found = file.attrs.get(key)
                if found is None or found != wanted:
                    raise DataFormatError(f"{key} is {found!r}", path=path, value=found, expected=repr(wanted))
            yield file
    except FileNotFoundError as error:
        raise DataFormatError("there is no such file", path=path, expected=f"a file of obsfit: {name}") from error
    except OSError as error:
        raise DataFormatError(
            f"cannot be read as HDF5: {error}", path=path, expected=f"a whole file of obsfit: {name}",
            remedy="It may be cut off; fetch it again and compare its checksum.",
        ) from error  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataFormatError(
            f"holds no valid {kind}: {error}", path=path, expected=f"a file as {made_by} makes it", remedy=remedy
        ) from error


def own_dataset(group: Any, name: str, path: Path) -> Any:
    """Return a dataset of this very file: links could point to any file of the reader's machine.

    Raises
    ------
    DataFormatError
        If there is none of that name, or it refers elsewhere.
    """
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(group[name], h5py.Dataset) or group[name].external:
        raise DataFormatError(
            f"{name} is no dataset of this file",
            path=path,
            value=name,
            expected="datasets, and no links elsewhere",
        )
    return group[name]


def stored_array(group: Any, name: str, letter: str, path: Path, *, max_bytes: int = 16 * 2**30) -> Any:
    """Return an array of this file whose numbers are of the kind of a letter of numpy.

    Raises
    ------
    DataFormatError
        If it is not there, of another kind, larger than `max_bytes`, or was never written in full.
    """
    dataset = own_dataset(group, name, path)
    size = dataset.dtype.itemsize * math.prod(dataset.shape)
    # Arrays are stored as they are: one that takes less space than its shape declares was never written in full.
    if dataset.dtype.kind != letter or not 0 < size <= min(max_bytes, dataset.id.get_storage_size()):
        raise DataFormatError(
            f"{name} has type {dataset.dtype} and shape {dataset.shape}", path=path, value=dataset.shape,
            expected=f"numbers of kind {letter}, stored in full, at most {max_bytes} bytes",
        )  # fmt: skip
    return dataset[()]
