"""Local and equatorial frames: the rotation of the Earth.

Local axes are North, West and up; azimuth runs from North through East (Eq. (5) of AM17). The sidereal angle is
local sidereal time as an angle, the right ascension of the local meridian. The equator is that of date.
"""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from obsfit.observatory import declination_band

__all__ = [
    "azimuth_zenith",
    "declination_band",
    "hour_angle_to_local",
    "local_sidereal_angle",
    "local_to_hour_angle",
    "local_vector",
    "rotation_matrix",
]

FloatArray = NDArray[np.float64]


def rotation_matrix(sidereal_angle: u.Quantity, latitude: u.Quantity) -> FloatArray:
    r"""Return R, shape (..., 3, 3), with n' = R n from the equatorial to the local frame; Eq. (7) of AM17.

    The rows are North, West and the zenith in the components (0h, 6h, N). The zenith stands at right ascension =
    sidereal angle; longitude does not enter, since the sidereal time is local.

    Parameters
    ----------
    sidereal_angle : Quantity, angle
        Local sidereal time as an angle.
    latitude : Quantity, angle
        Geographic latitude; the shapes broadcast to (...).

    Examples
    --------
    >>> zenith = rotation_matrix(0 * u.deg, 90 * u.deg)[2]   # at the north pole the zenith is the celestial pole
    >>> zenith.round(12)
    array([0., 0., 1.])
    """
    angle, phi = np.broadcast_arrays(sidereal_angle.to_value(u.rad), latitude.to_value(u.rad))
    cos_t, sin_t, cos_p, sin_p = np.cos(angle), np.sin(angle), np.cos(phi), np.sin(phi)
    north = np.stack([-cos_t * sin_p, -sin_t * sin_p, cos_p], axis=-1)
    west = np.stack([sin_t, -cos_t, np.zeros_like(angle)], axis=-1)
    up = np.stack([cos_t * cos_p, sin_t * cos_p, sin_p], axis=-1)
    return np.stack([north, west, up], axis=-2)


def local_vector(azimuth: u.Quantity, zenith: u.Quantity) -> FloatArray:
    """Return unit vectors (North, West, up), shape (..., 3); Eq. (5) of AM17.

    Parameters
    ----------
    azimuth : Quantity, angle
        From North through East.
    zenith : Quantity, angle
        From the zenith; the shapes broadcast to (...).

    Examples
    --------
    >>> local_vector(90 * u.deg, 90 * u.deg).round(12)   # the eastern horizon
    array([ 0., -1.,  0.])
    """
    phi, theta = np.broadcast_arrays(azimuth.to_value(u.rad), zenith.to_value(u.rad))
    return np.stack([np.cos(phi) * np.sin(theta), -np.sin(phi) * np.sin(theta), np.cos(theta)], axis=-1)


def azimuth_zenith(vector: FloatArray) -> tuple[u.Quantity, u.Quantity]:
    """Return azimuth in [0, 360) deg and zenith angle, each (...), of local vectors (North, West, up), (..., 3)."""
    return _wrapped(np.arctan2(-vector[..., 1], vector[..., 0])), _polar_angle(vector)


def local_to_hour_angle(
    azimuth: u.Quantity, zenith: u.Quantity, latitude: u.Quantity
) -> tuple[u.Quantity, u.Quantity]:
    """Return hour angle in [0, 360) deg and declination of local directions.

    The right ascension is the sidereal angle minus the hour angle.

    Parameters
    ----------
    azimuth, zenith : Quantity, angle
        Local direction, azimuth from North through East.
    latitude : Quantity, angle
        Geographic latitude; all shapes broadcast.

    Examples
    --------
    >>> hour_angle, dec = local_to_hour_angle(180 * u.deg, 30 * u.deg, 50 * u.deg)   # on the meridian
    >>> print(f"{hour_angle:.6f} {dec:.6f}")
    0.000000 deg 20.000000 deg
    """
    local = local_vector(azimuth, zenith)
    # At sidereal angle 0 the right ascension is minus the hour angle.
    equatorial = np.einsum("...ji,...j->...i", rotation_matrix(0.0 * u.rad, latitude), local)
    dec = 0.5 * np.pi * u.rad - _polar_angle(equatorial)
    return _wrapped(np.arctan2(-equatorial[..., 1], equatorial[..., 0])), dec.to(u.deg)


def hour_angle_to_local(
    hour_angle: u.Quantity, dec: u.Quantity, latitude: u.Quantity
) -> tuple[u.Quantity, u.Quantity]:
    """Return azimuth in [0, 360) deg, from North through East, and zenith angle of hour angle and declination.

    Parameters
    ----------
    hour_angle, dec : Quantity, angle
        Hour angle = sidereal angle - right ascension, and declination.
    latitude : Quantity, angle
        Geographic latitude; all shapes broadcast.
    """
    h, delta = np.broadcast_arrays(hour_angle.to_value(u.rad), dec.to_value(u.rad))
    equatorial = np.stack([np.cos(h) * np.cos(delta), -np.sin(h) * np.cos(delta), np.sin(delta)], axis=-1)
    return azimuth_zenith(np.einsum("...ij,...j->...i", rotation_matrix(0.0 * u.rad, latitude), equatorial))


def local_sidereal_angle(time: Time, longitude: u.Quantity) -> u.Quantity:
    """Return mean local sidereal time as an angle in [0, 360) deg, by astropy.

    The Earth-orientation table that comes with astropy is used, however old, and nothing is downloaded: outside its
    years UT1 - UTC is taken from its nearest entry, an error below 1 s or 15 arcsec.

    Parameters
    ----------
    time : astropy.time.Time
        Times, any shape.
    longitude : Quantity, angle
        Geographic longitude, east positive.
    """
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        angle = time.sidereal_time("mean", longitude=longitude)
    return _wrapped(angle.to_value(u.rad))


def _wrapped(radians: FloatArray) -> u.Quantity:
    degrees = np.degrees(radians) % 360.0
    # The remainder of a tiny negative angle rounds up to 360.
    return np.where(degrees == 360.0, 0.0, degrees) * u.deg


def _polar_angle(vector: FloatArray) -> u.Quantity:
    """Angle to the third axis; arctan2 keeps the digits that arccos loses near it."""
    return np.degrees(np.arctan2(np.hypot(vector[..., 0], vector[..., 1]), vector[..., 2])) * u.deg
