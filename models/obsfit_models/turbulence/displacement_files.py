"""Files of displacement skies and of ensembles of them: HDF5 that says what it is, whole or absent.

Root attributes are `obsfit_format` and `format_version`; the dataset `head` holds what is text, as JSON: what
`obsfit.provenance.stamp` gives. Arrays have the names of the fields of the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from obsfit.hdf5_files import opened_product, own_dataset, stored_array
from obsfit.provenance import atomic_write, stamp
from obsfit_models.turbulence.displacement import DisplacementEnsemble, DisplacementSky

FORMAT_VERSION = 1
_KINDS = {DisplacementSky: "displacement-sky", DisplacementEnsemble: "displacement-ensemble"}
_NUMBERS = ("gyroradius", "stop", "product", "local_field")
_COUNTS = ("realisation", "missing")

_Record = TypeVar("_Record", DisplacementSky, DisplacementEnsemble)


def write_displacements(
    path: str | Path,
    record: DisplacementSky | DisplacementEnsemble,
    *,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
    single_precision: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a sky or an ensemble to an HDF5 file, complete or not at all.

    Parameters
    ----------
    path : str or Path
        The file to make.
    record : DisplacementSky or DisplacementEnsemble
        What to write.
    seed : int, optional
        Seed of the random numbers that made it.
    configuration : mapping, optional
        What made it, in terms of JSON. Default: that of the ensemble.
    single_precision : bool
        Keep each a_lm to 1 part in 10^7 (float32), in half the space; all else stays in double precision.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    TypeError
        If the configuration cannot be JSON.
    """
    kind = _KINDS[type(record)]
    if configuration is None and isinstance(record, DisplacementEnsemble):
        configuration = record.configuration
    head = stamp(kind, format_version=FORMAT_VERSION, seed=seed, configuration=configuration)
    head |= {"stopped_by": record.stopped_by, "directions": int(record.directions)}
    text = json.dumps(head, sort_keys=True)
    with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
        file.attrs["obsfit_format"], file.attrs["format_version"] = kind, FORMAT_VERSION
        file["head"] = text
        file["alm"] = record.alm.astype(np.complex64) if single_precision else record.alm
        for name in (*_NUMBERS, *_COUNTS):
            value = getattr(record, name, None)
            if value is not None:
                file[name] = value


def read_sky(path: str | Path) -> DisplacementSky:
    """Return the displacement sky in a file of `write_displacements`.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, of another kind or version, refers to other files, or its numbers are no
        displacement sky.
    """
    return _read(path, DisplacementSky)


def read_ensemble(path: str | Path) -> DisplacementEnsemble:
    """Return the ensemble in a file of `write_displacements`, with its configuration.

    Raises
    ------
    DataFormatError
        As `read_sky`.
    """
    return _read(path, DisplacementEnsemble)


def _read(path: str | Path, cls: type[_Record]) -> _Record:
    path, kind = Path(path), _KINDS[cls]
    with opened_product(path, kind, FORMAT_VERSION, made_by="write_displacements") as file:
        head = json.loads(own_dataset(file, "head", path).asstr()[()])
        fields: dict[str, Any] = {"alm": stored_array(file, "alm", "c", path).astype(np.complex128)}
        for names, letter in ((_NUMBERS, "f"), (_COUNTS, "i")):
            fields |= {name: stored_array(file, name, letter, path) for name in names if name in file}
        fields |= {"stopped_by": head["stopped_by"], "directions": head["directions"]}
        if cls is DisplacementEnsemble:
            fields["configuration"] = head["configuration"]
        return cls(**fields)
