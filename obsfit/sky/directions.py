"""Directions on the sky: unit vectors, equatorial and Galactic coordinates, and a few that have a name.

Vectors have the components (0h, 6h, N) of the equatorial frame, here ICRS: towards right ascension 0, towards
right ascension 90 deg, and towards the north pole; Eq. (2) of AM17.
"""

from __future__ import annotations

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from obsfit import _tables

FloatArray = NDArray[np.float64]

_FILE = "directions.ecsv"


@dataclass(frozen=True)
class NamedDirection:
    """A direction of the shipped table.

    Attributes
    ----------
    name : str
        Name in the table.
    longitude, latitude : Quantity, angle
        Galactic longitude and latitude.
    uncertainty : Quantity, angle, or None
        As published; None where the paper gives none.
    distance, age : Quantity or None
        Of a source; None otherwise.
    remark : str
        What to know before using it, for example that an axis has no sign.
    """

    name: str
    longitude: u.Quantity
    latitude: u.Quantity
    uncertainty: u.Quantity | None = None
    distance: u.Quantity | None = None
    age: u.Quantity | None = None
    remark: str = ""

    @property
    def vector(self) -> FloatArray:
        """Unit vector (0h, 6h, N) in ICRS, shape (3,)."""
        return unit_vector(*galactic_to_equatorial(self.longitude, self.latitude))


def direction_names() -> tuple[str, ...]:
    """Return the names that `named_direction` knows.

    Examples
    --------
    >>> direction_names()
    ('ibex', 'starlight', 'galactic-centre', 'vela')
    """
    return tuple(_tables.rows(_FILE))


def direction_entry(name: str) -> NamedDirection:
    """Return a named direction with its uncertainty, distance and age where published (Section 3.3 of AM17).

    Raises
    ------
    ConfigurationError
        If the name is unknown; the message lists the names.
    """
    cells = dict(_tables.row(_FILE, name, "direction"))
    del cells["aliases"]
    return NamedDirection(**cells)


def named_direction(name: str) -> FloatArray:
    """Return the unit vector (0h, 6h, N) in ICRS, shape (3,), of a named direction.

    The two magnetic-field directions ("ibex", "starlight") are axes: their sign is a convention.

    Parameters
    ----------
    name : str
        One of `direction_names`, or an alias.

    Raises
    ------
    ConfigurationError
        If the name is unknown.

    Examples
    --------
    >>> ra, dec = right_ascension_declination(named_direction("vela"))
    >>> print(f"{ra:.2f} {dec:.2f}")
    128.55 deg -45.76 deg
    """
    return direction_entry(name).vector


def unit_vector(ra: u.Quantity, dec: u.Quantity) -> FloatArray:
    """Return unit vectors (cos a cos d, sin a cos d, sin d), shape (..., 3); Eq. (2) of AM17.

    Parameters
    ----------
    ra, dec : Quantity, angle
        Right ascension and declination; their shapes broadcast.

    Examples
    --------
    >>> unit_vector(90 * u.deg, 0 * u.deg).round(12)
    array([0., 1., 0.])
    """
    alpha, delta = np.broadcast_arrays(ra.to_value(u.rad), dec.to_value(u.rad))
    return np.stack([np.cos(alpha) * np.cos(delta), np.sin(alpha) * np.cos(delta), np.sin(delta)], axis=-1)


def right_ascension_declination(vector: FloatArray) -> tuple[u.Quantity, u.Quantity]:
    """Return right ascension in [0, 360) deg and declination, each of shape (...,), of vectors (..., 3).

    The length of a vector does not matter; the right ascension of a pole is 0.

    Raises
    ------
    ValueError
        If the last axis does not have three components or a vector is zero.
    """
    if vector.shape[-1:] != (3,):
        raise ValueError(f"vector of shape {vector.shape}: expected (..., 3), components (0h, 6h, N)")
    if not np.all(np.any(vector != 0.0, axis=-1)):
        raise ValueError("a zero vector has no direction")
    # arctan2 for both: arcsin of the third component loses half of the digits near a pole.
    dec = np.arctan2(vector[..., 2], np.hypot(vector[..., 0], vector[..., 1]))
    ra = np.degrees(np.arctan2(vector[..., 1], vector[..., 0])) % 360.0
    # The remainder of a tiny negative angle rounds up to 360.
    return np.where(ra == 360.0, 0.0, ra) * u.deg, np.degrees(dec) * u.deg


def galactic_to_equatorial(longitude: u.Quantity, latitude: u.Quantity) -> tuple[u.Quantity, u.Quantity]:
    """Return (right ascension, declination) in ICRS of Galactic longitude and latitude, by astropy.

    Parameters
    ----------
    longitude, latitude : Quantity, angle
        Galactic coordinates; their shapes broadcast.
    """
    position = SkyCoord(l=longitude, b=latitude, frame="galactic").icrs
    return position.ra.to(u.deg), position.dec.to(u.deg)
