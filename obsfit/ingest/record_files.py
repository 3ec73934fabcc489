"""Our own files of event maps, ring counts and reconstructed maps: HDF5 that says what it is, whole or absent.

Root attributes are `obsfit_format` and `format_version`; the dataset `head` holds everything that is text, as JSON:
what `obsfit.provenance.stamp` gives, provenance, labels and the conventions in force. Arrays have the names of the
fields of the record; `axes` (North, West, up), local time and left edges of bins are always ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import DataFormatError
from obsfit.ingest.fits_maps import MAX_BYTES
from obsfit.provenance import atomic_write, sha256, stamp
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid, RingCounts
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import MapReconstruction, ObservationSpec

FloatArray = NDArray[np.float64]
Record = EventMap | RingCounts | MapReconstruction

KINDS: Mapping[str, type] = {
    "event-map": EventMap, "ring-counts": RingCounts, "map-reconstruction": MapReconstruction,
}  # fmt: skip
"""What `obsfit_format` may say, and the record it stands for."""
FORMAT_VERSION = 1
CONVENTIONS = {"LOCAXES": "NWU", "TIMEREF": "LST", "BINREF": "LEFT"}
_SUMS = ("per_time", "per_cell", "per_sky", "per_declination")
_MAPS = ("relative_intensity", "counts", "expected", "per_declination")


def write_record(
    path: str | Path,
    record: Record,
    *,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a record to an HDF5 file, complete or not at all; see `read_record`.

    Parameters
    ----------
    path : str or Path
        The file to make.
    record : EventMap, RingCounts or MapReconstruction
        What to write.
    seed : int, optional
        Seed of the random numbers that made it.
    configuration : mapping, optional
        The resolved configuration that made it.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    TypeError
        If the record is none of these, its provenance is no `Provenance`, or text of it cannot be JSON.
    """
    kind = next((name for name, cls in KINDS.items() if isinstance(record, cls)), None)
    if kind is None:
        raise TypeError(f"a {type(record).__name__} cannot be written; expected one of {', '.join(KINDS)}")
    origins = record.provenance if isinstance(record, MapReconstruction) else (record.provenance,)
    if not isinstance(origins, tuple) or not all(isinstance(origin, Provenance) for origin in origins):
        one = 'obsfit.records.Provenance("my-events")'
        wanted = (
            f"a tuple of them, such as ({one},)" if isinstance(record, MapReconstruction) else f"such as {one}"
        )
        raise TypeError(f"provenance is {record.provenance!r}; expected a Provenance, {wanted}")
    sums = {origin.path or origin.name: origin.sha256 for origin in origins if origin.sha256}
    head = stamp(kind, format_version=FORMAT_VERSION, seed=seed, configuration=configuration, data=sums)
    head |= CONVENTIONS | _text_of(record) | {"provenance": [_as_dict(origin) for origin in origins]}
    text = json.dumps(head, sort_keys=True, default=_plain)
    with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
        file.attrs["obsfit_format"], file.attrs["format_version"] = kind, FORMAT_VERSION
        file["head"] = text
        for name, array in _arrays_of(record).items():
            # One time bin or ring to a chunk; most pixels of a local map are below the horizon and pack well.
            packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if array.ndim == 2 else {}
            chunks = (1, array.shape[1]) if array.ndim == 2 else None
            file.create_dataset(name, data=array, chunks=chunks, **packed)


def read_record(path: str | Path) -> Record:
    """Return the record in a file of `write_record`.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    EventMap, RingCounts or MapReconstruction
        As the file says.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, of another kind or a newer version, lacks an array, refers to other files, or
        its numbers are no valid record.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            kind = _kind(file, path)
            head = json.loads(_scalar_text(file, path))
            _check_conventions(head, path)
            arrays = {name: _array(file, name, path) for name in file if name != "head"}
        return _record(kind, head, arrays, path)
    except FileNotFoundError as error:
        raise DataFormatError("there is no such file", path=path, expected="an HDF5 file of obsfit") from error
    except OSError as error:
        raise DataFormatError(
            f"cannot be read as HDF5: {error}", path=path, expected="a whole HDF5 file of obsfit",
            remedy="It may be cut off; fetch it again and compare its checksum.",
        ) from error  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataFormatError(
            f"holds no valid record: {error}", path=path, expected="a file as write_record makes it",
            remedy="It was changed or damaged; make it again.",
        ) from error  # fmt: skip


def _text_of(record: Record) -> dict[str, Any]:
    """What of a record is text or single numbers."""
    if isinstance(record, MapReconstruction):
        spec = record.spec
        return {
            "grid": _grid_dict(record.grid), "iterations": record.iterations, "converged": record.converged,
            "spec": {
                "method": spec.method, "settings": dict(spec.settings), "detectors": list(spec.detectors),
                "dec_min_rad": spec.dec_min_rad, "dec_max_rad": spec.dec_max_rad, "frame": spec.frame,
                "filtered": spec.filtered, "loss": spec.loss,
            },
        }  # fmt: skip
    return {
        "grid": _grid_dict(record.grid), "detector": record.detector, "frame": record.frame, "energy": record.energy
    }  # fmt: skip


def _arrays_of(record: Record) -> dict[str, FloatArray]:
    if isinstance(record, EventMap):
        arrays = {"counts": record.counts}
        if record.squared_weights is not None:
            arrays["squared_weights"] = record.squared_weights
        return arrays
    if isinstance(record, RingCounts):
        arrays = {name: getattr(record, name) for name in _SUMS}
        if record.squared is not None:
            arrays |= {f"squared_{name}": values for name, values in zip(_SUMS, record.squared, strict=True)}
        return arrays
    arrays = {name: getattr(record, name) for name in _MAPS}
    arrays |= {f"exposure_{i}": values for i, values in enumerate(record.exposure)}
    return arrays | {f"acceptance_{i}": values for i, values in enumerate(record.acceptance)}


def _record(kind: str, head: Mapping[str, Any], arrays: Mapping[str, FloatArray], path: Path) -> Record:
    grid = _grid(head["grid"])
    origins = tuple(_provenance(entry) for entry in head["provenance"])
    if kind == "map-reconstruction":
        if not isinstance(grid, HourAngleGrid):
            raise ValueError("a reconstructed map is on an HourAngleGrid")
        return _reconstruction(head, arrays, grid, origins)
    labels = {name: str(head[name]) for name in ("detector", "frame", "energy")}
    (origin,) = origins or (Provenance(path.stem, str(path), sha256(path)),)
    if kind == "event-map":
        return EventMap(
            arrays["counts"], grid, provenance=origin, squared_weights=arrays.get("squared_weights"), **labels
        )
    if not isinstance(grid, HourAngleGrid):
        raise ValueError("ring counts are on an HourAngleGrid")
    one, two, three, four = (arrays[name] for name in _SUMS)
    squared = None
    if "squared_per_time" in arrays:
        s_one, s_two, s_three, s_four = (arrays[f"squared_{name}"] for name in _SUMS)
        squared = (s_one, s_two, s_three, s_four)
    return RingCounts(one, two, three, four, grid, provenance=origin, squared=squared, **labels)


def _reconstruction(
    head: Mapping[str, Any], arrays: Mapping[str, FloatArray], grid: HourAngleGrid, origins: tuple[Provenance, ...]
) -> MapReconstruction:
    spec = dict(head["spec"])
    spec["detectors"] = tuple(spec["detectors"])
    n_detector = len(spec["detectors"])
    ring = (grid.n_dec, grid.n_time)
    wanted: dict[str, tuple[int, ...]] = {"relative_intensity": ring, "counts": ring, "expected": ring}
    for i in range(n_detector):
        wanted |= {f"exposure_{i}": (grid.n_time,), f"acceptance_{i}": ring}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, expected {shape}")
    return MapReconstruction(
        relative_intensity=arrays["relative_intensity"],
        counts=arrays["counts"],
        expected=arrays["expected"],
        exposure=tuple(arrays[f"exposure_{i}"] for i in range(n_detector)),
        acceptance=tuple(arrays[f"acceptance_{i}"] for i in range(n_detector)),
        per_declination=arrays["per_declination"],
        grid=grid,
        spec=ObservationSpec(**spec),
        provenance=origins,
        iterations=int(head["iterations"]),
        converged=bool(head["converged"]),
    )


def _grid_dict(grid: HourAngleGrid | HealpixLocalGrid) -> dict[str, Any]:
    if isinstance(grid, HourAngleGrid):
        return {"kind": "hour-angle", "n_dec": grid.n_dec, "n_time": grid.n_time}
    return {"kind": "healpix", "nside": grid.nside, "latitude_rad": grid.latitude_rad}


def _grid(entry: Mapping[str, Any]) -> HourAngleGrid | HealpixLocalGrid:
    if entry["kind"] == "hour-angle":
        return HourAngleGrid(int(entry["n_dec"]), int(entry["n_time"]))
    if entry["kind"] == "healpix":
        return HealpixLocalGrid(int(entry["nside"]), float(entry["latitude_rad"]))
    raise ValueError(f"grid {entry['kind']!r}, expected hour-angle or healpix")


def _as_dict(origin: Provenance) -> dict[str, Any]:
    return {
        "name": origin.name, "path": origin.path, "sha256": origin.sha256, "overlaps": list(origin.overlaps),
        "meta": dict(origin.meta),
    }  # fmt: skip


def _provenance(entry: Mapping[str, Any]) -> Provenance:
    overlaps = tuple(str(name) for name in entry["overlaps"])
    return Provenance(str(entry["name"]), str(entry["path"]), str(entry["sha256"]), overlaps, dict(entry["meta"]))


def _plain(value: Any) -> Any:
    """A number of numpy, as settings often hold, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def _kind(file: Any, path: Path) -> str:
    kind = str(file.attrs.get("obsfit_format", ""))
    if kind not in KINDS:
        raise DataFormatError(
            f"obsfit_format is {kind!r}", path=path, value=kind, expected=f"one of {', '.join(KINDS)}"
        )
    version = int(file.attrs.get("format_version", 0))
    if version != FORMAT_VERSION:
        raise DataFormatError(
            f"format_version is {version}", path=path, value=version, expected=str(FORMAT_VERSION),
            remedy="Read it with the version of obsfit that wrote it, or a newer one.",
        )  # fmt: skip
    return kind


def _check_conventions(head: Mapping[str, Any], path: Path) -> None:
    for key, word in CONVENTIONS.items():
        if head[key] != word:
            raise DataFormatError(f"{key} is {head[key]!r}", path=path, value=head[key], expected=word)


def _own(file: Any, name: str, path: Path) -> Any:
    """A dataset of this very file: links could point to any file of the reader's machine."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset) or file[name].external:
        raise DataFormatError(
            f"{name} is no dataset of this file",
            path=path,
            value=name,
            expected="datasets, and no links elsewhere",
        )
    return file[name]


def _scalar_text(file: Any, path: Path) -> str:
    if "head" not in file:
        raise DataFormatError("there is no dataset head", path=path, expected="a file as write_record makes it")
    return str(_own(file, "head", path).asstr()[()])


def _array(file: Any, name: str, path: Path) -> FloatArray:
    dataset = _own(file, name, path)
    size = 8 * math.prod(dataset.shape)
    if dataset.dtype.kind not in "fiu" or not 0 < size <= MAX_BYTES:
        raise DataFormatError(
            f"{name} has type {dataset.dtype} and shape {dataset.shape}", path=path, value=dataset.shape,
            expected=f"numbers, at most {MAX_BYTES} bytes",
        )  # fmt: skip
    return np.array(dataset[()], dtype=np.float64)
