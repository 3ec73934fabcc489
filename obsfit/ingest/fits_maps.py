"""FITS files that hold HEALPix maps, opened with suspicion: whole files, RING order, the whole sphere."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from obsfit.errors import DataFormatError
from obsfit.provenance import versions

FloatArray = NDArray[np.float64]

MAX_BYTES = 4 * 2**30
"""Largest array, in bytes of float64, that is read: 10 000 time bins at nside 64."""
UNSEEN = float(hp.UNSEEN)
"""What marks an unobserved pixel in a HEALPix file, -1.6375e30."""
UNSEEN_BELOW = -1e20
"""Pixels below this are unobserved; in single precision they are not quite `UNSEEN`."""
STORY = (
    "CUTS", "COORDS", "NEVENTS", "STARTMJD", "STOPMJD", "TOTDUR", "TIMESYS", "TIMEBIN", "NBINS", "SUMWGTS", "NBKG",
    "DURATION", "MAXDUR", "MINDUR", "MAPTYPE",
)  # fmt: skip
"""Header keywords in use among analyses of anisotropy that are kept in the provenance."""

_BROKEN = (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError, AttributeError)
_CELESTIAL = ("C", "Q", "CELESTIAL", "EQUATORIAL")


@dataclass(frozen=True)
class MapTable:
    """Columns of a table of HEALPix maps, each of shape (12 nside^2,) in RING order.

    Attributes
    ----------
    path : Path
        The file.
    hdu : str
        The unit of the file that holds the table, for messages.
    keywords : mapping
        Primary header and header of the table together.
    columns : mapping of str to ndarray
        UNSEEN and NaN as they stand in the file.
    sha256 : str
        Checksum of the file.
    """

    path: Path
    hdu: str
    keywords: Mapping[str, Any]
    columns: Mapping[str, FloatArray]
    sha256: str


@dataclass(frozen=True)
class MapImages:
    """Named images, each a stack of HEALPix maps of shape (n_time, 12 nside^2) in RING order.

    Attributes
    ----------
    path : Path
        The file.
    keywords : mapping of str to mapping
        Primary header and that of the image together, by name of image.
    images : mapping of str to ndarray
        By name.
    sha256 : str
        Checksum of the file.
    """

    path: Path
    keywords: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, FloatArray]
    sha256: str


def read_map_table(path: str | Path) -> MapTable:
    """Return the first table of HEALPix maps in a FITS file, which may be compressed by gzip.

    Parameters
    ----------
    path : str or Path
        The file.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, too large, has no table, or one that is not the whole sphere in RING or
        NESTED order.
    """
    path = Path(path)
    with _opened(path) as (units, _, sha256):
        unit = next((unit for unit in units if isinstance(unit, fits.BinTableHDU)), None)
        if unit is None:
            raise DataFormatError(
                "holds no binary table", path=path, expected="a table of HEALPix maps",
                remedy=f"Found {_named(units)}. " + _cut_off(units),
            )  # fmt: skip
        hdu = _label(units, unit)
        keywords = _keywords(units[0].header, unit.header)
        _check_table(keywords, hdu, path)
        columns = {}
        for column in unit.columns:
            if column.format.strip()[-1:] in ("A", "L", "X", "C", "M") or "P" in column.format:
                continue
            columns[column.name] = np.array(unit.data[column.name], dtype=np.float64).ravel()
    if not columns:
        raise DataFormatError(f"{hdu}: no column of numbers", path=path, expected="HEALPix maps")
    sizes = {values.size for values in columns.values()}
    if len(sizes) > 1:
        raise DataFormatError(
            f"{hdu}: columns of {', '.join(map(str, sorted(sizes)))} pixels", path=path, value=sorted(sizes),
            expected="one nside for all columns of a table",
        )  # fmt: skip
    _check_size(sizes.pop(), keywords, hdu, path)
    if keywords["ORDERING"] == "NESTED":
        columns = {name: hp.reorder(values, n2r=True) for name, values in columns.items()}
    return MapTable(path, hdu, keywords, columns, sha256)


def read_map_images(path: str | Path, names: Sequence[str], *, quantised: bool = False) -> MapImages:
    """Return those image units of a FITS file that bear one of `names`, as stacks of HEALPix maps.

    Parameters
    ----------
    path : str or Path
        The file; gzip and the tile compression of FITS are undone.
    names : sequence of str
        Names of units (EXTNAME) that are wanted; the others are left alone.
    quantised : bool
        Accept images whose numbers were rounded when they were compressed.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off or too large, or an image is no stack of maps in RING or NESTED order.
    """
    path = Path(path)
    images: dict[str, FloatArray] = {}
    keywords: dict[str, dict[str, Any]] = {}
    with _opened(path) as (units, rounded, sha256):
        found = _named(units) + ". " + _cut_off(units)
        for unit in units[1:]:
            name = str(unit.name).strip().upper()
            if name not in names:
                continue
            if name in images:
                raise DataFormatError(f"HDU {name} is there twice", path=path, expected="each once")
            if not isinstance(unit, fits.ImageHDU | fits.CompImageHDU) or len(unit.shape) != 2:
                raise DataFormatError(
                    f"HDU {name} is no image of two dimensions", path=path,
                    expected="an image of shape (number of time bins, number of pixels)",
                )  # fmt: skip
            if name in rounded and not quantised:
                raise DataFormatError(
                    f"HDU {name}: the numbers were rounded when the image was compressed (ZSCALE)", path=path,
                    expected="counts as they were",
                    remedy="Write it again without quantisation (level 0), or read with quantised=True.",
                )  # fmt: skip
            check_bytes(8 * math.prod(unit.shape), name, path)
            keywords[name] = _keywords(units[0].header, unit.header)
            images[name] = np.array(unit.data, dtype=np.float64)
    if not images:
        raise DataFormatError(
            f"no image HDU {' or '.join(names)}", path=path, expected="an empty primary unit, then images",
            remedy=f"Found {found}",
        )  # fmt: skip
    for name, image in images.items():
        _check_size(image.shape[1], keywords[name], f"HDU {name}", path)
        ordering = str(keywords[name].get("ORDERING", "RING")).strip().upper()
        if ordering not in ("RING", "NESTED"):
            raise DataFormatError(
                f"HDU {name}: ORDERING is {ordering!r}", path=path, value=ordering, expected="RING or NESTED"
            )
        if ordering == "NESTED":
            # Pixel p of RING order is number ring2nest(p) of the nested one.
            index = hp.ring2nest(hp.npix2nside(image.shape[1]), np.arange(image.shape[1]))
            images[name] = image[:, index]
    return MapImages(path, keywords, images, sha256)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, list[str], str]]:
    """Give units, names of quantised images and checksum; all that goes wrong becomes a `DataFormatError`."""
    try:
        data, sha256 = _unpacked(path)
        end = path.stat().st_size if data is None else len(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="File may have been truncated")
            warnings.filterwarnings("error", message="Error validating header")
            rounded = []
            # Compressed images are tables underneath, and only there do their sizes in the file show.
            with fits.open(
                path if data is None else io.BytesIO(data), memmap=False, disable_image_compression=True
            ) as raw:
                for unit in raw:
                    _check_end(unit, end, path)
                    if isinstance(unit, fits.BinTableHDU) and "ZSCALE" in unit.columns.names:
                        rounded.append(str(unit.name).strip().upper())
            with fits.open(path if data is None else io.BytesIO(data), memmap=False) as units:
                yield units, rounded, sha256
    except FileNotFoundError as error:
        raise DataFormatError("there is no such file", path=path, expected="a FITS file") from error
    except (*_BROKEN, fits.VerifyError, UserWarning) as error:
        raise DataFormatError(
            f"cannot be read as FITS: {error}", path=path, expected="a whole FITS file",
            remedy="It may be cut off; fetch it again and compare its checksum.",
        ) from error  # fmt: skip


def check_coordinates(keywords: Mapping[str, Any], *, local: bool, hdu: str, path: Path) -> None:
    """Refuse a local map where a map of the sky is expected, and the other way round.

    COORDS (L or C) and COORDSYS (the standard's letter) are looked at; silence is accepted.

    Raises
    ------
    DataFormatError
        If either names other coordinates.
    """
    allowed = ("L", "LOCAL", "H", "HORIZON") if local else _CELESTIAL
    for key in ("COORDS", "COORDSYS"):
        found = str(keywords.get(key, "")).strip()
        if found and found.upper() not in allowed:
            raise DataFormatError(
                f"{hdu}: {key} is {found!r}", path=path, value=found,
                expected="local coordinates, L" if local else "equatorial coordinates, C",
                remedy="Correct the header if the map is in those coordinates.",
            )  # fmt: skip


def check_counts(values: FloatArray, what: str, path: Path) -> None:
    """Refuse counts that are NaN, UNSEEN, infinite or negative, naming how many and the first.

    Parameters
    ----------
    values : ndarray, shape (n_time, n_pixel) or (n_pixel,)
        Counts or sums of weights.
    what : str
        HDU, column or plane, for the message.
    path : Path
        File to name.

    Raises
    ------
    DataFormatError
        With the number of bad values, and time bin, pixel and value of the first.
    """
    kinds = (
        ("NaN", np.isnan(values)),
        ("UNSEEN", values < UNSEEN_BELOW),
        ("infinite", np.isinf(values)),
        ("negative", values < 0.0),
    )
    for kind, bad in kinds:
        if not bad.any():
            continue
        first = np.unravel_index(int(np.argmax(bad)), values.shape)
        place = f"time bin {first[0]}, pixel {first[1]}" if values.ndim == 2 else f"pixel {first[0]}"
        raise DataFormatError(
            f"{what}: {int(bad.sum())} values are {kind}, the first in {place} ({values[first]:g})", path=path,
            value=float(values[first]), expected="finite numbers that are not negative",
            remedy="Write 0 where no event can fall."
            if kind in ("NaN", "UNSEEN")
            else "Is this a map of counts, in this column?",
        )  # fmt: skip


def check_bytes(size: int, what: str, path: Path) -> None:
    """Refuse to read an array of more than `MAX_BYTES`, or of none.

    Raises
    ------
    DataFormatError
        With the size.
    """
    if not 0 < size <= MAX_BYTES:
        raise DataFormatError(f"{what} declares {size} bytes", path=path, value=size, expected=f"1 to {MAX_BYTES}")


def nside_of(n_pixel: int, what: str, path: Path) -> int:
    """Return the resolution parameter of a map of the whole sphere.

    Raises
    ------
    DataFormatError
        If it is not a power of two.
    """
    nside = round(math.sqrt(n_pixel / 12))
    if 12 * nside**2 != n_pixel or nside == 0 or nside & (nside - 1):
        raise DataFormatError(
            f"{what}: {n_pixel} pixels", path=path, value=n_pixel,
            expected="12 nside^2 with nside a power of two, the whole sphere",
        )  # fmt: skip
    return nside


def whole_keyword(keywords: Mapping[str, Any], key: str, default: int | None, path: Path) -> int | None:
    """Return a keyword as a whole number, `default` where it is absent.

    Raises
    ------
    DataFormatError
        If it is anything else.
    """
    value = keywords.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise DataFormatError(f"{key} is {value!r}", path=path, value=value, expected="a whole number")
    return int(value)


def story(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `STORY` that a header has, as plain text and numbers."""
    return {key: keywords[key] for key in STORY if isinstance(keywords.get(key), str | int | float | bool)}


def told(meta: Mapping[str, Any], *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return what of a record's provenance can stand in a header again."""
    return {
        key: value
        for key, value in story(meta).items()
        if key not in without and not (isinstance(value, float) and not math.isfinite(value))
    }


def own_keywords(kind: str) -> dict[str, Any]:
    """Return the keywords that every FITS file of obsfit carries in its primary header."""
    return {
        "HIERARCH OBSFIT_FORMAT": kind,
        "HIERARCH FORMAT_VERSION": 1,
        "CREATOR": f"obsfit {versions()['obsfit']}".strip(),
    }


def healpix_table(columns: Mapping[str, FloatArray], keywords: Mapping[str, Any], *, coordinates: str) -> Any:
    """Return a table unit of HEALPix maps in RING order, double precision.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (12 nside^2,)
        Maps by name.
    keywords : mapping
        Further keywords.
    coordinates : str
        COORDSYS; "" writes none, since the standard has no letter for local coordinates.
    """
    n_pixel = next(iter(columns.values())).size
    width = 1024 if n_pixel % 1024 == 0 else 1
    unit = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, f"{width}D", array=values.reshape(-1, width) if width > 1 else values)
            for name, values in columns.items()
        ]
    )
    nside = hp.npix2nside(n_pixel)
    header = {
        "PIXTYPE": "HEALPIX", "ORDERING": "RING", "NSIDE": nside, "FIRSTPIX": 0, "LASTPIX": n_pixel - 1,
        "INDXSCHM": "IMPLICIT", "OBJECT": "FULLSKY", "BAD_DATA": UNSEEN,
    }  # fmt: skip
    if coordinates:
        header["COORDSYS"] = coordinates
    unit.header.update(header | dict(keywords))
    return unit


def image(maps: FloatArray, name: str, keywords: Mapping[str, Any]) -> Any:
    """Return an image unit of maps, shape (n_time, 12 nside^2), RING order, double precision."""
    unit = fits.ImageHDU(maps, name=name)
    unit.header.update(dict(keywords))
    return unit


def write_units(partial: Path, target: Path, units: Sequence[Any]) -> None:
    """Write units to a partial file, packed by gzip if its final name ends in ``.gz``."""
    if target.suffix == ".gz":
        # Without name and time of writing, so that equal maps make equal files.
        with partial.open("wb") as stream, gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed:
            fits.HDUList(list(units)).writeto(packed)
    else:
        with partial.open("wb") as stream:
            fits.HDUList(list(units)).writeto(stream)


def primary(keywords: Mapping[str, Any]) -> Any:
    """Return an empty primary unit with these keywords."""
    unit = fits.PrimaryHDU()
    unit.header.update(dict(keywords))
    return unit


def _keywords(*headers: Any) -> dict[str, Any]:
    """Keywords of several headers, the last one winning; an empty value is none."""
    merged: dict[str, Any] = {}
    for header in headers:
        for card in header.cards:
            if card.keyword not in ("", "COMMENT", "HISTORY") and not isinstance(card.value, fits.card.Undefined):
                merged[card.keyword.upper()] = card.value
    return merged


def _check_table(keywords: Mapping[str, Any], hdu: str, path: Path) -> None:
    check_bytes(int(keywords["NAXIS1"]) * int(keywords["NAXIS2"]), hdu, path)
    expected = {
        "PIXTYPE": ("HEALPIX",),
        "ORDERING": ("RING", "NESTED"),
        "INDXSCHM": ("IMPLICIT", ""),
        "OBJECT": ("FULLSKY", ""),
    }
    for key, allowed in expected.items():
        found = str(keywords.get(key, "")).strip()
        # OBJECT names a source in many headers; only its one word of HEALPix matters.
        if found not in allowed and not (key == "OBJECT" and found != "PARTIAL"):
            raise DataFormatError(
                f"{hdu}: {key} is {found!r}", path=path, value=found,
                expected=" or ".join(word for word in allowed if word),
                remedy="Write the whole sphere, in the order that the header says.",
            )  # fmt: skip


def _check_size(n_pixel: int, keywords: Mapping[str, Any], hdu: str, path: Path) -> None:
    nside = nside_of(n_pixel, hdu, path)
    if whole_keyword(keywords, "NSIDE", nside, path) != nside:
        raise DataFormatError(
            f"{hdu}: NSIDE is {keywords['NSIDE']}, but there are {n_pixel} pixels", path=path,
            value=keywords["NSIDE"], expected=f"NSIDE {nside}, or 12 NSIDE^2 pixels",
            remedy="The file is damaged or cut off; fetch it again.",
        )  # fmt: skip


def _check_end(unit: Any, end: int, path: Path) -> None:
    place = unit.fileinfo()
    if place is not None and int(place["datLoc"]) + int(unit.size) > end:
        raise DataFormatError(
            f"is shorter than the header of HDU {unit.name or 'PRIMARY'} declares ({unit.size} bytes)", path=path,
            value=end, expected="a whole file", remedy="It is cut off, or to be unpacked first; fetch it again.",
        )  # fmt: skip


def _unpacked(path: Path) -> tuple[bytes | None, str]:
    """Contents of a file packed by gzip, None of any other, and the checksum of the file as it stands."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        if stream.read(2) != b"\x1f\x8b":
            return None, sha256
        stream.seek(0)
        # astropy takes a stream that ends between two units for a file with fewer units.
        with gzip.GzipFile(fileobj=stream) as unpacked:
            data = unpacked.read(MAX_BYTES + 1)
    check_bytes(len(data), "the unpacked file", path)
    return data, sha256


def _label(units: Any, unit: Any) -> str:
    return f"HDU {list(units).index(unit)} ({unit.name})" if unit.name else f"HDU {list(units).index(unit)}"


def _named(units: Any) -> str:
    return ", ".join(f"{type(unit).__name__} {unit.name}".strip() for unit in units)


def _cut_off(units: Any) -> str:
    return "Is the file cut off after its first unit?" if len(units) == 1 else ""
