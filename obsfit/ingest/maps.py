"""Sky maps of relative intensity from HEALPix FITS files, and into them."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest import fits_maps
from obsfit.ingest.fits_maps import UNSEEN_BELOW, check_coordinates, own_keywords, read_map_table, story, told
from obsfit.provenance import atomic_write
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap


def load_map(path: str | Path, *, column: str = "", zeros_unobserved: bool = False) -> SkyMap:
    """Return the map of relative intensity in a HEALPix FITS file, with NaN where it is unobserved.

    Parameters
    ----------
    path : str or Path
        Binary table of the whole sphere, in RING or NESTED order, in equatorial coordinates (COORDSYS C, Q or absent).
    column : str, optional
        Column of relative intensity minus one. Default: the first.
    zeros_unobserved : bool
        Take rings of declination that are zero throughout for unobserved, as some programs write them.

    Raises
    ------
    ConfigurationError
        If there is no such column.
    DataFormatError
        If the file is no HEALPix map of the whole sphere in equatorial coordinates, is shorter than it declares, or
        holds infinite values or nothing observed.
    """
    path = Path(path)
    table = read_map_table(path)
    check_coordinates(table.keywords, local=False, hdu=table.hdu, path=path)
    names = list(table.columns)
    if column and column not in names:
        raise ConfigurationError(f"no column {column!r}", path=path, expected=f"one of {', '.join(names)}")
    name = column or names[0]
    values = np.where(table.columns[name] < UNSEEN_BELOW, np.nan, table.columns[name])
    if zeros_unobserved:
        values = np.where(_rings_of_zeros(values), np.nan, values)
    if np.isinf(values).any() or np.isnan(values).all():
        what = "infinite values" if np.isinf(values).any() else "no observed pixel"
        raise DataFormatError(
            f"{table.hdu}, column {name}: {what}", path=path,
            expected="numbers in the field of view, UNSEEN or NaN outside it",
        )  # fmt: skip
    return SkyMap(values, Provenance(path.stem, str(path.resolve()), table.sha256, (), story(table.keywords)))


def save_map(
    path: str | Path, sky_map: SkyMap, *, column: str = "relative intensity", overwrite: bool = False
) -> None:
    """Write a map of relative intensity as a HEALPix table, RING, equatorial, UNSEEN where unobserved.

    The file is complete or not there at all.

    Parameters
    ----------
    path : str or Path
        The file to make; a name that ends in ``.gz`` packs it.
    sky_map : SkyMap
        The map.
    column : str
        Name of its column.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    """
    path = Path(path)
    values = np.where(np.isnan(sky_map.delta_i), fits_maps.UNSEEN, sky_map.delta_i)
    keywords = told(sky_map.provenance.meta, without=("COORDS",)) | {"COORDS": "C"}
    with atomic_write(path, overwrite=overwrite) as partial:
        units = [
            fits_maps.primary(keywords | own_keywords("sky-map")),
            fits_maps.healpix_table({column: values}, keywords, coordinates="C"),
        ]
        fits_maps.write_units(partial, path, units)


def _rings_of_zeros(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    ring = hp.pix2ring(hp.npix2nside(values.size), np.arange(values.size)) - 1
    return np.asarray(np.bincount(ring, values != 0.0)[ring] == 0)
