"""Files of surrogates: HDF5 that says what it is, whole or absent; arrays and names, and no code.

Root attributes are `obsfit_format` and `format_version`; the dataset `head` holds what is text, as JSON: what
`obsfit.provenance.stamp` gives, with the names of parameters, data and features. Arrays have the names of the fields
of `Surrogate`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from obsfit.emulate.surrogate_density import Surrogate
from obsfit.hdf5_files import opened_product, own_dataset, stored_array
from obsfit.provenance import atomic_write, stamp

__all__ = ["get_surrogate", "put_surrogate", "read_surrogate", "write_surrogate"]

FORMAT = "surrogate"
FORMAT_VERSION = 2
MAX_BYTES = 2**30
"""Largest array that is read."""
_NUMBERS = ("domain", "centre", "spread", "mean", "log_scale", "knots", "scores", "slopes", "tails", "correlation")


def write_surrogate(
    path: str | Path,
    surrogate: Surrogate,
    *,
    seed: int | None = None,
    data: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a surrogate to an HDF5 file, complete or not at all.

    Parameters
    ----------
    path : str or Path
        The file to make.
    surrogate : Surrogate
        What to write; its configuration goes with it.
    seed : int, optional
        Seed of the random numbers that made it.
    data : mapping of str to str, optional
        Checksum of each data set that it was made for, by name.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    TypeError
        If the configuration cannot be JSON.
    """
    head = stamp(
        FORMAT, format_version=FORMAT_VERSION, seed=seed, configuration=surrogate.configuration, data=data
    )
    text = json.dumps(head, sort_keys=True)
    with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
        file.attrs["obsfit_format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file["head"] = text
        put_surrogate(file, surrogate)


def read_surrogate(path: str | Path) -> Surrogate:
    """Return the surrogate in a file of `write_surrogate`.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, of another kind or version, refers to other files, or its numbers are no
        density.
    """
    path = Path(path)
    with opened_product(path, FORMAT, FORMAT_VERSION, made_by="write_surrogate") as file:
        head = json.loads(own_dataset(file, "head", path).asstr()[()])
        return get_surrogate(file, path, configuration=dict(head["configuration"]))


def put_surrogate(group: Any, surrogate: Surrogate) -> None:
    """Write the fields of a surrogate into an open file or group of one."""
    group["description"] = json.dumps(
        {
            "names": list(surrogate.names), "labels": list(surrogate.labels),
            "features": {name: list(kinds) for name, kinds in surrogate.features.items()},
            "correlation_along": surrogate.correlation_along,
        },
        sort_keys=True,
    )  # fmt: skip
    group["exponents"] = surrogate.exponents
    for name in _NUMBERS:
        group[name] = getattr(surrogate, name)


def get_surrogate(group: Any, path: Path, *, configuration: Mapping[str, Any]) -> Surrogate:
    """Return the surrogate in an open file or group of `put_surrogate`; no link is followed, no size is trusted.

    Raises
    ------
    DataFormatError
        If an array is not there, of another kind, too large, or was never written in full.
    ValueError, KeyError, TypeError
        If what is there is no surrogate; the caller knows what file it is.
    """
    words = json.loads(own_dataset(group, "description", path).asstr()[()])
    fields = {
        name: stored_array(group, name, "f", path, max_bytes=MAX_BYTES).astype(np.float64) for name in _NUMBERS
    }
    features = {str(name): tuple(str(kind) for kind in kinds) for name, kinds in words["features"].items()}
    return Surrogate(
        names=tuple(str(name) for name in words["names"]), labels=tuple(str(name) for name in words["labels"]),
        features=features, exponents=stored_array(group, "exponents", "i", path, max_bytes=MAX_BYTES).astype(np.int64),
        configuration=configuration, correlation_along=str(words["correlation_along"]), **fields,
    )  # fmt: skip
