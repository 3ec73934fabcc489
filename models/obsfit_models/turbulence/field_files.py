r"""Magnetic fields in files: HDF5, NPZ and FITS, in physical units, read with suspicion.

All three hold the same: an array `field` of shape (nx, ny, nz, 3), the components along x, y, z at the points
origin + index * spacing; its unit and that of lengths, as text that astropy understands; whether the grid repeats;
and, if there is one, a uniform field that is added.

=================  ==========================  =====================  ============================================
what               HDF5                        NPZ                    FITS
=================  ==========================  =====================  ============================================
field              data set `field`            array `field`          image unit `FIELD`, NAXIS1 = 3, NAXIS2 = nz
field_unit         attribute of `field`        text array             BUNIT
length_unit        attribute                   text array             LENUNIT
origin             attribute, 3 numbers        3 numbers              ORIGIN1, ORIGIN2, ORIGIN3 (x, y, z)
spacing            attribute, 3 numbers or 1   3 numbers or 1         SPACING1, SPACING2, SPACING3
periodic           attribute, true or false    true or false          PERIODIC, T or F
uniform            attribute, 3 numbers        3 numbers              UNIFORM1, UNIFORM2, UNIFORM3
=================  ==========================  =====================  ============================================

`uniform` may be absent. Whatever else is absent has to be said by the caller; nothing is guessed.
"""

from __future__ import annotations

import logging
import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import astropy.units as u
import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import BadValue, ConfigurationError, DataFormatError
from obsfit.provenance import atomic_write, versions
from obsfit_models.turbulence.field import GridField, MagneticField
from obsfit_models.turbulence.grids import relative_divergence

FloatArray = NDArray[np.float64]

KIND = "magnetic-field"
FORMAT_VERSION = 1
MAX_BYTES = 8 * 2**30
"""Largest array that is read, in bytes of float64: 700 points along each side."""
MAX_PACKING = 1032
"""No stream of deflate unpacks to more than this many times its size."""
DIVERGENT = 0.3
"""rms of div B over that of all derivatives, above which a warning is logged."""
SUFFIXES = {".h5": "hdf5", ".hdf5": "hdf5", ".npz": "npz", ".fits": "fits", ".fit": "fits"}
_CUT_OFF = "It may be cut off; fetch it again and compare its checksum."
_ASKED = {
    "field_unit": "its field_unit", "length_unit": "its length_unit", "origin": "its origin", "spacing": "its spacing",
    "periodic": "whether it is periodic",
}  # fmt: skip
_BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, TypeError, KeyError, IndexError,
           AttributeError, RuntimeError, NotImplementedError)  # fmt: skip

_log = logging.getLogger(__name__)


def read_field(
    path: str | Path,
    *,
    length: u.Quantity,
    strength: u.Quantity,
    field_unit: str | None = None,
    length_unit: str | None = None,
    origin: ArrayLike | None = None,
    spacing: ArrayLike | None = None,
    periodic: bool | None = None,
    interpolation: str = "linear",
) -> MagneticField:
    """Return the field in a file, in the units of the back-tracker.

    Parameters
    ----------
    path : str or Path
        A file as described above; its suffix says which kind: .h5, .hdf5, .npz, .fits or .fit.
    length, strength : Quantity
        What 1 stands for in the field that is returned, for example 10 pc and 3 uG.
    field_unit, length_unit : str, optional
        Units of the numbers in the file, where it does not say so.
    origin, spacing : array_like, shape (3,) or number, optional
        Place of the first point and distances of points, in the unit of length of the file, where it does not say so.
    periodic : bool, optional
        Whether the grid repeats, where the file does not say so.
    interpolation : {"linear", "cubic"}
        As in `GridField`.

    Returns
    -------
    MagneticField
        One grid, and the uniform field of the file.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, too large, refers to other files or to Python objects, lacks what the caller
        does not say either, contradicts the caller, or holds a number that is not finite.
    ConfigurationError
        If `length` or `strength` is no positive Quantity of its kind, or the suffix is unknown.

    Notes
    -----
    A warning is logged if div B is so large that axes or components seem to be in the wrong order.
    """
    path = Path(path)
    lengths = _scale(length, u.m, "length", "10 * u.pc")
    strengths = _scale(strength, u.T, "strength", "3 * u.uG")
    if interpolation not in ("linear", "cubic"):
        raise ConfigurationError(f"interpolation is {interpolation!r}", expected="linear or cubic")
    reader = {"hdf5": _read_hdf5, "npz": _read_npz, "fits": _read_fits}[_kind_of(path)]
    try:
        values, head = reader(path)
    except FileNotFoundError as error:
        raise DataFormatError("there is no such file", path=path, expected="HDF5, NPZ or FITS") from error
    except _BROKEN as error:
        raise DataFormatError(
            f"cannot be read: {error}",
            path=path,
            expected=f"a whole {_kind_of(path).upper()} file",
            remedy=_CUT_OFF,
        ) from error
    _check_kind(head, path)
    said = {"field_unit": field_unit, "length_unit": length_unit, "origin": origin, "spacing": spacing,
            "periodic": periodic}  # fmt: skip
    known = {name: _settled(name, head.get(name), given, path) for name, given in said.items()}
    to_strength = _unit(known["field_unit"], u.T, "field_unit", path) / strengths
    to_length = _unit(known["length_unit"], u.m, "length_unit", path) / lengths
    start = _three(known["origin"], "origin", path)
    step = _three(known["spacing"], "spacing", path)
    if not np.all(step > 0):
        raise DataFormatError(
            f"spacing is {step.tolist()}", path=path, value=step.tolist(), expected="positive lengths"
        )
    uniform = _three(head.get("uniform", (0.0, 0.0, 0.0)), "uniform", path)
    _check_values(values, path)
    if not isinstance(known["periodic"], bool | np.bool_):
        raise DataFormatError(f"periodic is {known['periodic']!r}", path=path, expected="true or false")
    grid = GridField(
        values * to_strength, start * to_length, step * to_length, bool(known["periodic"]), interpolation
    )
    divergence = relative_divergence(grid)
    if divergence > DIVERGENT:
        _log.warning(
            "%s: the rms of div B is %.2f of that of all derivatives: are axes (x, y, z) and components in this order?",
            path, divergence,
        )  # fmt: skip
    return MagneticField(uniform * to_strength, grids=(grid,))


def write_field(
    path: str | Path,
    field: MagneticField,
    *,
    length: u.Quantity,
    strength: u.Quantity,
    field_unit: str = "uG",
    length_unit: str = "pc",
    overwrite: bool = False,
) -> None:
    """Write a field of one grid to a file that `read_field` reads; equal fields make equal files.

    Parameters
    ----------
    path : str or Path
        Its suffix says which kind: .h5, .hdf5, .npz, .fits or .fit.
    field : MagneticField
        A uniform part and exactly one grid; anything else can be sampled first (`grids.sampled`).
    length, strength : Quantity
        What 1 stands for in the field.
    field_unit, length_unit : str
        Units of the numbers in the file.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    ConfigurationError
        If the field has waves or not one grid, a unit is of another kind, or the suffix is unknown.
    FileExistsError
        If the file exists and `overwrite` is false.
    """
    path = Path(path)
    kind = _kind_of(path)
    if field.waves is not None or len(field.grids) != 1:
        raise ConfigurationError(
            f"the field has {len(field.grids)} grids and {'some' if field.waves is not None else 'no'} waves",
            expected="one grid and no waves", remedy="Sample it on a grid first: grids.sampled(field, ...).",
        )  # fmt: skip
    (grid,) = field.grids
    to_field = _scale(strength, u.T, "strength", "3 * u.uG") / _unit(field_unit, u.T, "field_unit", None)
    to_length = _scale(length, u.m, "length", "10 * u.pc") / _unit(length_unit, u.m, "length_unit", None)
    head = {
        "obsfit_format": KIND, "format_version": FORMAT_VERSION, "field_unit": field_unit, "length_unit": length_unit,
        "origin": np.asarray(grid.origin, dtype=np.float64) * to_length,
        "spacing": np.asarray(grid.spacing, dtype=np.float64) * to_length,
        "periodic": bool(grid.periodic), "uniform": field.uniform * to_field,
    }  # fmt: skip
    values = np.ascontiguousarray(grid.values, dtype=np.float64) * to_field
    writer = {"hdf5": _write_hdf5, "npz": _write_npz, "fits": _write_fits}[kind]
    with atomic_write(path, overwrite=overwrite) as partial:
        writer(partial, values, head)


def _read_hdf5(path: Path) -> tuple[FloatArray, dict[str, Any]]:
    with h5py.File(path, "r") as file:
        link = file.get("field", getlink=True)
        if link is None:
            raise DataFormatError(
                "has no data set 'field'", path=path, expected="field, shape (nx, ny, nz, 3)",
                remedy=f"Found {', '.join(list(file)[:20]) or 'nothing'}; rename the data set.",
            )  # fmt: skip
        if not isinstance(link, h5py.HardLink):
            raise DataFormatError(
                f"'field' is a {type(link).__name__}", path=path, column="field", expected="data inside this file",
                remedy="Links are not followed: copy the data into the file.",
            )  # fmt: skip
        data = file["field"]
        if not isinstance(data, h5py.Dataset):
            raise DataFormatError("'field' is a group", path=path, column="field", expected="a data set")
        if data.external or data.is_virtual:
            raise DataFormatError(
                "'field' is stored in another file", path=path, column="field", expected="data inside this file",
                remedy="Copy the data into the file.",
            )  # fmt: skip
        _check_shape(data.shape, data.dtype, path)
        stored, needed = data.id.get_storage_size(), data.size * data.dtype.itemsize
        packing = 1 if data.compression is None else MAX_PACKING
        if data.chunks is not None and math.prod(data.chunks) > 2 * data.size + 2**20:
            raise DataFormatError(
                f"'field' has chunks of {data.chunks}", path=path, expected="chunks of its own size"
            )
        if stored * packing < needed or stored > path.stat().st_size:
            raise DataFormatError(
                f"'field' declares {needed} bytes, but {stored} are stored", path=path, value=stored,
                expected="as many as declared", remedy=_CUT_OFF,
            )  # fmt: skip
        head = {name: _plain(value) for group in (file, data) for name, value in group.attrs.items()}
        return np.asarray(data[()], dtype=np.float64), head


def _read_npz(path: Path) -> tuple[FloatArray, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry for entry in archive.infolist()}
        if "field.npy" not in sizes:
            raise DataFormatError(
                "has no array 'field'", path=path, expected="field, shape (nx, ny, nz, 3)",
                remedy=f"Found {', '.join(name.removesuffix('.npy') for name in list(sizes)[:20]) or 'nothing'}.",
            )  # fmt: skip
        head = {}
        for name in ("obsfit_format", "format_version", "field_unit", "length_unit", "origin", "spacing", "periodic",
                     "uniform"):  # fmt: skip
            if name + ".npy" in sizes:
                head[name] = _plain(_member(archive, sizes[name + ".npy"], path, small=True))
        return np.asarray(_member(archive, sizes["field.npy"], path, small=False), dtype=np.float64), head


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, *, small: bool) -> NDArray[Any]:
    """One array of an archive, whose header is believed only as far as its size bears it out."""
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as stream:
        shape, fortran, dtype = _npy_header(stream)
        if dtype.hasobject:
            raise DataFormatError(
                f"{name!r} holds Python objects", path=path, column=name, expected="numbers or text",
                remedy="Write it with numpy.savez from arrays of numbers; objects are never unpickled.",
            )  # fmt: skip
        if not small:
            _check_shape(shape, dtype, path)
        needed = math.prod(shape) * dtype.itemsize
        if needed > (4096 if small else MAX_BYTES) or needed + stream.tell() != entry.file_size:
            raise DataFormatError(
                f"{name!r} declares {needed} bytes of shape {shape}, but the archive holds "
                f"{entry.file_size - stream.tell()}",
                path=path, column=name, value=needed, expected="as many as declared", remedy=_CUT_OFF,
            )  # fmt: skip
        if entry.file_size > MAX_PACKING * max(entry.compress_size, 1):
            raise DataFormatError(f"{name!r} is packed beyond what deflate can do", path=path, column=name)
        flat = np.frombuffer(stream.read(needed), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the npy format is not known")


def _read_fits(path: Path) -> tuple[FloatArray, dict[str, Any]]:
    from astropy.io import fits

    with warnings.catch_warnings(), fits.open(path, memmap=True, lazy_load_hdus=True) as units:
        warnings.filterwarnings("ignore", message="File may have been truncated")
        if "FIELD" not in units:
            raise DataFormatError(
                "has no image unit FIELD", path=path, expected="FIELD, an image of shape (nx, ny, nz, 3)",
                remedy=f"Found {', '.join(unit.name or 'unnamed' for unit in units)}; set EXTNAME.",
            )  # fmt: skip
        unit = units["FIELD"]
        if not isinstance(unit, fits.ImageHDU | fits.PrimaryHDU):
            raise DataFormatError(
                f"FIELD is a {type(unit).__name__}", path=path, expected="an image that is not compressed"
            )
        header = unit.header
        _check_shape(unit.shape, np.dtype(np.float64 if header["BITPIX"] in (-64, -32) else np.int64), path)
        stored = math.prod(unit.shape) * abs(int(header["BITPIX"])) // 8
        if int(unit.fileinfo()["datLoc"]) + stored > path.stat().st_size:
            raise DataFormatError(
                f"FIELD declares {stored} bytes of shape {unit.shape}, but the file is shorter", path=path,
                value=path.stat().st_size, expected="as many as declared", remedy=_CUT_OFF,
            )  # fmt: skip
        values = np.array(unit.data, dtype=np.float64)
        head: dict[str, Any] = {"obsfit_format": units[0].header.get("OBSFIT_FORMAT"),
                                "format_version": units[0].header.get("FORMAT_VERSION")}  # fmt: skip
        head |= {"field_unit": header.get("BUNIT"), "length_unit": header.get("LENUNIT"),
                 "periodic": header.get("PERIODIC")}  # fmt: skip
        for name in ("origin", "spacing", "uniform"):
            numbers = [header.get(f"{name.upper()}{axis}") for axis in (1, 2, 3)]
            if any(number is not None for number in numbers):
                head[name] = numbers
        return values, {name: value for name, value in head.items() if value is not None}


def _write_hdf5(partial: Path, values: FloatArray, head: Mapping[str, Any]) -> None:
    with h5py.File(partial, "w") as file:
        data = file.create_dataset("field", data=values, track_times=False)
        for name, value in head.items():
            (file if name in ("obsfit_format", "format_version") else data).attrs[name] = value


def _write_npz(partial: Path, values: FloatArray, head: Mapping[str, Any]) -> None:
    # Not numpy.savez, which writes the time of day and appends a suffix to the name.
    with zipfile.ZipFile(partial, "w") as archive:
        for name, array in {"field": values, **head}.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def _write_fits(partial: Path, values: FloatArray, head: Mapping[str, Any]) -> None:
    from astropy.io import fits

    primary, unit = fits.PrimaryHDU(), fits.ImageHDU(values, name="FIELD")
    primary.header.update({
        "HIERARCH OBSFIT_FORMAT": head["obsfit_format"], "HIERARCH FORMAT_VERSION": head["format_version"],
        "CREATOR": f"obsfit {versions()['obsfit']}".strip(),
    })  # fmt: skip
    unit.header.update({"BUNIT": head["field_unit"], "LENUNIT": head["length_unit"], "PERIODIC": head["periodic"]})
    for name in ("origin", "spacing", "uniform"):
        for axis in range(3):
            unit.header[f"{name.upper()}{axis + 1}"] = float(head[name][axis])
    fits.HDUList([primary, unit]).writeto(partial)


def _kind_of(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f"{path}: suffix {path.suffix!r} is of no kind of file known here", value=path.suffix,
            expected=f"one of {', '.join(SUFFIXES)}",
        )  # fmt: skip
    return SUFFIXES[path.suffix.lower()]


def _check_kind(head: Mapping[str, Any], path: Path) -> None:
    """A user's file need not say what it is; one that does must be right."""
    kind, version = head.get("obsfit_format", KIND), head.get("format_version", FORMAT_VERSION)
    if kind != KIND:
        raise DataFormatError(f"obsfit_format is {kind!r}", path=path, value=kind, expected=KIND)
    if version != FORMAT_VERSION:
        raise DataFormatError(
            f"format_version is {version}", path=path, value=version, expected=str(FORMAT_VERSION),
            remedy="Read it with the version of obsfit that wrote it, or a newer one.",
        )  # fmt: skip


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> None:
    if dtype.kind not in "fiu":
        raise DataFormatError(f"'field' has type {dtype}", path=path, column="field", expected="real numbers")
    if len(shape) != 4 or shape[3] != 3 or min(shape[:3]) < 2:
        raise DataFormatError(
            f"'field' has shape {tuple(shape)}", path=path, column="field", value=tuple(shape),
            expected="(nx, ny, nz, 3), components last, at least two points a side",
            remedy="Three arrays bx, by, bz become one by numpy.stack([bx, by, bz], axis=-1).",
        )  # fmt: skip
    if 8 * math.prod(shape) > MAX_BYTES:
        raise DataFormatError(
            f"'field' of shape {tuple(shape)} takes {8 * math.prod(shape)} bytes", path=path, column="field",
            value=tuple(shape), expected=f"at most {MAX_BYTES}", remedy="Cut or average the grid.",
        )  # fmt: skip


def _check_values(values: FloatArray, path: Path) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        places = [BadValue(None, f"field{list(map(int, at))}", float(values[tuple(at)]), f"is {values[tuple(at)]}")
                  for at in bad[: DataFormatError.SHOWN]]  # fmt: skip
        raise DataFormatError(
            f"'field' holds {len(bad)} values that are not finite, the first ({values[tuple(bad[0])]}) at index "
            f"{tuple(map(int, bad[0]))}",
            path=path, bad=places, expected="finite numbers at all points",
            remedy="Fill the holes, or cut the grid to where the field is known.",
        )  # fmt: skip


def _settled(name: str, found: Any, given: Any, path: Path) -> Any:
    """What the file says or the caller, if both then the same."""
    if found is None and given is None:
        example = {"field_unit": "'uG'", "length_unit": "'pc'", "origin": "(0, 0, 0)", "spacing": "0.5",
                   "periodic": "True"}[name]  # fmt: skip
        raise DataFormatError(
            f"does not say {_ASKED[name]}", path=path, column=name, expected=f"{name}, such as {example}",
            remedy=f"Write it into the file, or give {name}={example}.",
        )  # fmt: skip
    if found is None or given is None:
        return given if found is None else found
    same = found == given if isinstance(given, str | bool) else _agree(found, given)
    if not same:
        raise DataFormatError(
            f"says {name} = {found}, but {name}={given!r} is given", path=path, column=name, value=found,
            expected="one of them", remedy=f"Leave {name} out, or correct the file if it is wrong.",
        )  # fmt: skip
    return found


def _agree(found: Any, given: Any) -> bool:
    try:
        return bool(
            np.allclose(np.asarray(found, dtype=np.float64), np.asarray(given, dtype=np.float64), rtol=1e-12)
        )
    except (TypeError, ValueError):
        return False


def _three(value: Any, name: str, path: Path) -> FloatArray:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.full(1, np.nan)
    if numbers.shape == () and name == "spacing":
        numbers = np.full(3, float(numbers))
    if numbers.shape != (3,) or not np.all(np.isfinite(numbers)):
        raise DataFormatError(
            f"{name} is {value}", path=path, column=name, expected="three finite numbers (x, y, z)"
        )
    return numbers


def _plain(value: Any) -> Any:
    """Texts and numbers as Python has them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8", "replace")
        return array.item() if array.size == 1 else array
    return value


def _unit(text: Any, kind: u.UnitBase, name: str, path: Path | None) -> float:
    """A unit of a file, in SI."""
    example = "uG" if name == "field_unit" else "pc"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return float(u.Unit(str(text)).to(kind))
    except (ValueError, TypeError, u.UnitConversionError, u.UnitsWarning) as error:
        raise (ConfigurationError if path is None else DataFormatError)(
            f"{name} {text!r} is no unit of {'a magnetic field' if kind == u.T else 'length'}", path=path,
            column=name, value=text, expected=f"a unit such as {example!r}",
        ) from error  # fmt: skip


def _scale(quantity: u.Quantity, unit: u.UnitBase, name: str, example: str) -> float:
    """What 1 stands for, in SI."""
    try:
        value = float(quantity.to_value(unit))
    except (AttributeError, TypeError, u.UnitConversionError) as error:
        raise ConfigurationError(
            f"{name} is {quantity!r}", value=quantity, expected=f"one Quantity, {example}"
        ) from error
    if not (np.isfinite(value) and value > 0):
        raise ConfigurationError(f"{name} is {quantity}", value=value, expected=f"a positive Quantity, {example}")
    return value
