"""Maps of the sky with counts and background in one HEALPix table: IceCube's three columns, HAWC's four.

IceCube writes the columns data map, background map and local map; HAWC relative intensity, its error, data and
background; cra-ahlers-llh relint, data and background. A column is known by its name, whatever the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest import fits_maps
from obsfit.ingest.fits_maps import MapTable, check_coordinates, check_counts, own_keywords, story, told
from obsfit.ingest.local_conventions import pixel_order, stated
from obsfit.observatory import Observatory
from obsfit.provenance import atomic_write
from obsfit.records.count_map import CountMap
from obsfit.records.provenance import Provenance

FloatArray = NDArray[np.float64]

ROLES: Mapping[str, tuple[str, ...]] = {
    "counts": ("data map", "data"),
    "background": ("background map", "background"),
    "delta_i": ("relative intensity", "relint"),
    "error": ("relative intensity error", "relative intensity err", "relerr"),
    "local": ("local map", "local"),
}
"""Names of columns, in any case, that each field of `CountMap` is known by."""
LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "icecube": {"counts": "data map", "background": "background map", "local": "local map"},
    "hawc": {
        "delta_i": "relative intensity", "error": "relative intensity error", "counts": "data",
        "background": "background",
    },
}  # fmt: skip
"""Columns that `write_count_map` writes, in this order."""


def read_count_map(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    with_local: bool = False,
    axes: str | None = None,
    observatory: Observatory | None = None,
) -> CountMap:
    """Return counts, background and what else is known of the sky from one HEALPix table.

    A pixel is outside the field of view where counts or background are UNSEEN or NaN, or both are zero: NaN there.

    Parameters
    ----------
    path : str or Path
        FITS file, whole sphere, RING or NESTED, equatorial coordinates.
    columns : mapping of str to str, optional
        Names of the columns of counts, background, delta_i, error and local, where they are none of `ROLES`.
    with_local : bool
        Read the local map too.
    axes : str, optional
        Axes of the local map, see `obsfit.ingest.local_conventions`; needed for it if there is no LOCAXES.
    observatory : Observatory, optional
        If given, events at declinations that never come within its zenith cut are an error.

    Raises
    ------
    DataFormatError
        If the file is damaged, in other coordinates, without counts or background; counts are negative; events are
        where no background is; the field of view is empty; or the relative intensity is I in place of I - 1.
    ConfigurationError
        If `columns` names a field or a column that there is none of.
    """
    path = Path(path)
    table = fits_maps.read_map_table(path)
    check_coordinates(table.keywords, local=False, hdu=table.hdu, path=path)
    names = _names(table, columns or {})
    where = {role: f"{table.hdu}, column {name}" for role, name in names.items()}
    planes = {role: _unseen_as_nan(table.columns[name], where[role], path) for role, name in names.items()}
    counts, background = _inside(planes["counts"], planes["background"], where, path)
    if observatory is not None:
        _check_declinations(counts, observatory, where["counts"], path)
    delta_i = planes.get("delta_i")
    if delta_i is not None:
        delta_i = np.where(np.isnan(counts), np.nan, delta_i)
        _check_relative(delta_i, where["delta_i"], path)
    error = planes.get("error")
    if error is not None:
        error = np.where(np.isnan(counts), np.nan, error)
        _check_error(error, where["error"], path)
    local = None
    if with_local:
        if "local" not in names:
            raise DataFormatError(
                f"{table.hdu}: no local map", path=path, expected=f"a column {' or '.join(ROLES['local'])}",
                remedy=f"Found {', '.join(table.columns)}.",
            )  # fmt: skip
        check_counts(table.columns[names["local"]], where["local"], path)
        frame = stated("axes", table.keywords, axes, path=path)
        local = table.columns[names["local"]][pixel_order(fits_maps.nside_of(counts.size, "map", path), frame)]
    provenance = Provenance(path.name.partition(".")[0], str(path), table.sha256, (), story(table.keywords))
    return CountMap(counts, background, provenance, delta_i, error, local)


def write_count_map(
    path: str | Path, count_map: CountMap, *, layout: str, axes: str = "NWU", overwrite: bool = False
) -> None:
    """Write a map as one HEALPix table, RING, equatorial, UNSEEN outside the field of view; complete or not at all.

    Parameters
    ----------
    path : str or Path
        The file to make; a name that ends in ``.gz`` packs it.
    count_map : CountMap
        The map.
    layout : str
        "icecube" for the columns data map, background map and, if there is one, local map; "hawc" for relative
        intensity, its error if known, data and background.
    axes : str
        Axes of the local map, stated as LOCAXES.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    ConfigurationError
        If the layout or the axes are unknown, or the layout has no column for what the map holds.
    """
    if layout not in LAYOUTS:
        raise ConfigurationError(f"layout is {layout!r}", value=layout, expected=f"one of {', '.join(LAYOUTS)}")
    planes = {
        "counts": count_map.counts, "background": count_map.background, "error": count_map.error,
        "delta_i": count_map.delta_i, "local": count_map.local,
    }  # fmt: skip
    homeless = [role for role, plane in planes.items() if plane is not None and role not in LAYOUTS[layout]]
    if homeless:
        raise ConfigurationError(
            f"the layout {layout} has no column for {' and '.join(homeless)}", value=layout,
            expected="a layout that holds the whole map",
            remedy="Write the other layout, or dataclasses.replace(count_map, ...=None) what may be lost.",
        )  # fmt: skip
    if "delta_i" in LAYOUTS[layout] and planes["delta_i"] is None:
        planes["delta_i"] = count_map.sky_map().delta_i
    if count_map.local is not None:
        word = stated("axes", {}, axes, path=path)
        turned = np.empty_like(count_map.local)
        turned[pixel_order(count_map.nside, word)] = count_map.local
        planes["local"] = turned
    written: dict[str, FloatArray] = {}
    for role, name in LAYOUTS[layout].items():
        plane = planes[role]
        if plane is not None:
            written[name] = np.where(np.isnan(plane), fits_maps.UNSEEN, plane)
    keywords = told(count_map.provenance.meta, without=("COORDS",)) | {"COORDS": "C"}
    if count_map.local is not None:
        keywords["LOCAXES"] = axes
    path = Path(path)
    with atomic_write(path, overwrite=overwrite) as partial:
        units = [
            fits_maps.primary(keywords | own_keywords("count-map")),
            fits_maps.healpix_table(written, keywords, coordinates="C"),
        ]
        fits_maps.write_units(partial, path, units)


def _names(table: MapTable, chosen: Mapping[str, str]) -> dict[str, str]:
    """Column of each field that the table has."""
    found = ", ".join(table.columns)
    for role, name in chosen.items():
        if role not in ROLES:
            raise ConfigurationError(f"columns names {role!r}", value=role, expected=f"one of {', '.join(ROLES)}")
        if name not in table.columns:
            raise ConfigurationError(
                f"no column {name!r}", path=table.path, value=name, expected=f"one of {found}"
            )
    names = dict(chosen)
    for role, known in ROLES.items():
        fitting = [name for name in table.columns if name.strip().lower() in known and name not in names.values()]
        if role in names or not fitting:
            continue
        if len(fitting) > 1:
            raise DataFormatError(
                f"{table.hdu}: columns {' and '.join(fitting)} may both be the {role}", path=table.path,
                value=fitting, expected="one", remedy=f"Say columns={{{role!r}: {fitting[0]!r}}}.",
            )  # fmt: skip
        names[role] = fitting[0]
    for role in ("counts", "background"):
        if role not in names:
            raise DataFormatError(
                f"{table.hdu}: no column of {role} among {found}", path=table.path, value=found,
                expected=f"a column {' or '.join(map(repr, ROLES[role]))}",
                remedy=f"Say which it is, columns={{{role!r}: ...}}; `load_map` reads a relative intensity alone.",
            )  # fmt: skip
    return names


def _unseen_as_nan(values: FloatArray, what: str, path: Path) -> FloatArray:
    if np.isinf(values).any():
        pixel = int(np.argmax(np.isinf(values)))
        raise DataFormatError(
            f"{what}: {int(np.isinf(values).sum())} values are infinite, the first in pixel {pixel}", path=path,
            value=float(values[pixel]), expected="numbers, and UNSEEN or NaN where unobserved",
        )  # fmt: skip
    return np.where(values < fits_maps.UNSEEN_BELOW, np.nan, values)


def _inside(
    counts: FloatArray, background: FloatArray, where: Mapping[str, str], path: Path
) -> tuple[FloatArray, FloatArray]:
    """Counts and background, NaN outside the field of view, after their checks."""
    for role, plane in (("counts", counts), ("background", background)):
        check_counts(np.where(np.isnan(plane), 0.0, plane), where[role], path)
    lonely = (np.nan_to_num(counts) > 0.0) & ~(background > 0.0)
    if lonely.any():
        pixel = int(np.argmax(lonely))
        raise DataFormatError(
            f"{where['counts']}: {int(lonely.sum())} pixels have events and no background, the first {pixel} "
            f"({counts[pixel]:g} events)", path=path, value=float(counts[pixel]),
            expected="a positive background wherever there are events",
        )  # fmt: skip
    outside = np.isnan(counts) | ~(background > 0.0)
    if outside.all():
        raise DataFormatError(
            f"{where['counts']}: no pixel has counts and background", path=path, value=0,
            expected="a field of view that is not empty",
        )  # fmt: skip
    return np.where(outside, np.nan, counts), np.where(outside, np.nan, background)


def _check_declinations(counts: FloatArray, observatory: Observatory, what: str, path: Path) -> None:
    nside = fits_maps.nside_of(counts.size, what, path)
    dec = 90.0 - np.degrees(hp.pix2ang(nside, np.arange(counts.size))[0])
    radius = np.degrees(hp.max_pixrad(nside))
    low, high = (edge.to_value(u.deg) for edge in observatory.declination_band)
    never = (dec < low - radius) | (dec > high + radius)
    strange = never & (np.nan_to_num(counts) > 0.0)
    if strange.any():
        raise DataFormatError(
            f"{what}: {counts[strange].sum():g} events at declinations {dec[strange].min():.1f} to "
            f"{dec[strange].max():.1f} deg", path=path, value=float(dec[strange].min()),
            expected=f"{low:g} to {high:g} deg, all that comes within {observatory.zenith_max:g} of the zenith of "
            f"{observatory.name}",
            remedy="Are the coordinates equatorial, and the observatory the one of this map?",
        )  # fmt: skip


def _check_relative(delta_i: FloatArray, what: str, path: Path) -> None:
    if np.isnan(delta_i).all():
        raise DataFormatError(
            f"{what}: no pixel is observed", path=path, expected="a field of view that is not empty"
        )
    middle = float(np.nanmedian(delta_i))
    if abs(middle) > 0.5:
        raise DataFormatError(
            f"{what}: the median is {middle:g}", path=path, value=middle,
            expected="relative intensity minus one, near zero",
            remedy="Subtract one, or undo the factor, such as 1e3, that the map was multiplied by.",
        )  # fmt: skip


def _check_error(error: FloatArray, what: str, path: Path) -> None:
    bad = error < 0.0
    if bad.any():
        pixel = int(np.argmax(bad))
        raise DataFormatError(
            f"{what}: {int(bad.sum())} errors are negative, the first in pixel {pixel} ({error[pixel]:g})", path=path,
            value=float(error[pixel]), expected="positive errors",
        )  # fmt: skip
