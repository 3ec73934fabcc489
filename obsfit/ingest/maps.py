"""Sky maps from HEALPix FITS files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.io import fits

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.provenance import sha256
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap

UNSEEN_BELOW = -1e20
"""Pixels below this are unobserved: HEALPix marks them by -1.6375e30."""


def load_map(path: str | Path, *, column: str = "") -> SkyMap:
    """Return the map of relative intensity in a HEALPix FITS file, with NaN where it is unobserved.

    Parameters
    ----------
    path : str or Path
        Binary table of the whole sphere, in RING or NESTED order, in equatorial coordinates (COORDSYS C, Q or absent).
    column : str, optional
        Column of relative intensity minus one. Default: the first.

    Raises
    ------
    ConfigurationError
        If there is no such column.
    DataFormatError
        If the file is no HEALPix map of the whole sphere in equatorial coordinates, or is shorter than it declares.
    """
    path = Path(path)
    try:
        with fits.open(path, memmap=False) as units:
            table = next((unit for unit in units if isinstance(unit, fits.BinTableHDU)), None)
            if table is None:
                raise DataFormatError("has no binary table", path=path, expected="a HEALPix map")
            header = table.header
            if int(header["NAXIS1"]) * int(header["NAXIS2"]) > path.stat().st_size:
                raise DataFormatError(
                    "is shorter than its header declares", path=path, remedy="Unpack it if it is compressed."
                )
            names = list(table.columns.names)
            if column and column not in names:
                raise ConfigurationError(f"no column {column!r}", path=path, expected=f"one of {', '.join(names)}")
            values = np.asarray(table.data[column or names[0]], dtype=np.float64).ravel()
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, fits.VerifyError) as error:
        raise DataFormatError(f"cannot be read as FITS: {error}", path=path) from error
    _check(header, values.size, path)
    if header["ORDERING"] == "NESTED":
        values = hp.reorder(values, n2r=True)
    values = np.where(values < UNSEEN_BELOW, np.nan, values)
    return SkyMap(values, Provenance(path.stem, str(path.resolve()), sha256(path)))


def _check(header: Any, size: int, path: Path) -> None:
    expected = {
        "PIXTYPE": ("HEALPIX",),
        "ORDERING": ("RING", "NESTED"),
        "INDXSCHM": ("IMPLICIT", ""),
        "COORDSYS": ("C", "Q", ""),
    }
    for key, allowed in expected.items():
        found = str(header.get(key, "")).strip()
        if found not in allowed:
            raise DataFormatError(
                f"{key} is {found!r}", path=path, expected=" or ".join(repr(word) for word in allowed)
            )
    if not hp.isnpixok(size):
        raise DataFormatError(f"has {size} pixels", path=path, expected="12 nside^2, the whole sphere")
