"""Times and directions of whole event lists: clocks, local and equatorial angles, a million at a time.

The same rotations as `obsfit.sky.frames`, which takes quantities, here as arrays of radians at the speed of the
kernels. Azimuth runs from North through East; the equator is the mean one of date.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import astropy.units as u
import numpy as np
from astropy.time import Time
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from obsfit.ingest import _binning_kernels as kernels
from obsfit.records.event_map import FRAMES
from obsfit.sky.frames import local_sidereal_angle

FloatArray = NDArray[np.float64]

MJD_RANGE = (41317.0, 70000.0)
"""1972, when UTC became what it is, to 2050."""

# Clocks as whole combinations of the sidereal and the mean solar angle: f_anti = f_sol - 1/yr, f_ext = f_sid + 1/yr.
_CLOCKS = dict(zip(FRAMES, ((1.0, 0.0), (0.0, 1.0), (-1.0, 2.0), (2.0, -1.0)), strict=True))
_BLOCK_DAYS = 1024
_J2000_MJD = 51544.5
_CENTURY_DAYS = 36525.0
# Polynomials in Julian centuries from J2000, arcsec: IAU 2006 precession, Eqs. (40) and (41) of Capitaine et al. 2003.
_ZETA = (2.650545, 2306.083227, 0.2988499, 0.01801828)
_Z = (-2.650545, 2306.077181, 1.0927348, 0.01826837)
_THETA = (0.0, 2004.191903, -0.4294934, -0.04182264)


def clock_angle(mjd: ArrayLike, longitude_rad: float, frame: str = "sidereal") -> FloatArray:
    r"""Return the angle in [0, 2 pi) that a local clock shows at times in UTC.

    With :math:`\tau` mean local sidereal time and :math:`s` local mean solar time (zero at midnight), the clocks are
    :math:`\tau` (366.24 turns in a year), :math:`s` (365.24), anti-sidereal :math:`2s - \tau` (364.24) and
    extended-sidereal :math:`2\tau - s` (367.24).

    Sidereal time is that of `obsfit.sky.frames.local_sidereal_angle` at 0h of each day, and linear within a day: so
    is UT1 - UTC as tabulated, also on a day with a leap second. Solar time is UTC plus longitude, within 1 s.

    Parameters
    ----------
    mjd : array_like, shape (n,)
        Modified Julian dates, UTC, in `MJD_RANGE`.
    longitude_rad : float
        Geographic longitude, east positive.
    frame : str
        "sidereal", "solar", "anti-sidereal" or "extended-sidereal".

    Raises
    ------
    ValueError
        If the frame is unknown, or a time is not finite or out of range.

    Examples
    --------
    >>> np.degrees(clock_angle([51544.5], 0.0)).round(3)     # Greenwich at noon of 1 January 2000: 18h 41m 50.9s
    array([280.462])
    """
    if frame not in _CLOCKS:
        raise ValueError(f"frame {frame!r}, expected one of {', '.join(FRAMES)}")
    times = np.ascontiguousarray(mjd, dtype=np.float64)
    out = np.empty_like(times)
    if times.size == 0:
        return out
    earliest, latest = float(times.min()), float(times.max())
    if not MJD_RANGE[0] <= earliest <= latest < MJD_RANGE[1]:
        raise ValueError(f"times from MJD {earliest} to {latest}, expected {MJD_RANGE[0]} to {MJD_RANGE[1]}")
    first, last = int(earliest) // _BLOCK_DAYS, int(latest) // _BLOCK_DAYS
    blocks = [_greenwich_turns(block) for block in range(first, last + 1)]
    greenwich = np.concatenate([*(block[:-1] for block in blocks), blocks[-1][-1:]])
    kernels.clock(times, first * _BLOCK_DAYS, greenwich, longitude_rad, np.array(_CLOCKS[frame]), out)
    return out


def hour_angle_declination(
    azimuth_rad: ArrayLike, zenith_rad: ArrayLike, latitude_rad: float
) -> tuple[FloatArray, FloatArray]:
    r"""Return hour angle in [-pi, pi] and declination of local directions, within 1e-15.

    .. math::
        \cos\delta\cos h = \cos\varphi\cos\theta - \sin\varphi\sin\theta\cos A, \quad
        \cos\delta\sin h = -\sin\theta\sin A, \quad
        \sin\delta = \sin\varphi\cos\theta + \cos\varphi\sin\theta\cos A.

    Parameters
    ----------
    azimuth_rad, zenith_rad : array_like, shape (n,)
        Local direction, azimuth from North through East; |azimuth| below 100.
    latitude_rad : float
        Geographic latitude.

    Examples
    --------
    >>> hour_angle, dec = hour_angle_declination([0.0], [np.pi / 2], np.radians(50.0))   # North, on the horizon
    >>> np.degrees([abs(hour_angle[0]), dec[0]]).round(9)
    array([180.,  40.])
    """
    azimuth = np.ascontiguousarray(azimuth_rad, dtype=np.float64)
    zenith = np.ascontiguousarray(zenith_rad, dtype=np.float64)
    if azimuth.shape != zenith.shape or azimuth.ndim != 1:
        raise ValueError(f"azimuth of shape {azimuth.shape}, zenith of {zenith.shape}: expected (n,) twice")
    out = np.empty((2, azimuth.size))
    kernels.rotate_about_east(azimuth, zenith, latitude_rad, out)
    return out[0], out[1]


def azimuth_zenith_angles(
    hour_angle_rad: ArrayLike, dec_rad: ArrayLike, latitude_rad: float
) -> tuple[FloatArray, FloatArray]:
    """Return azimuth in [-pi, pi], from North through East, and zenith angle: the inverse of `hour_angle_declination`.

    Parameters
    ----------
    hour_angle_rad, dec_rad : array_like, shape (n,)
        Hour angle and declination.
    latitude_rad : float
        Geographic latitude.
    """
    dec = np.asarray(dec_rad, dtype=np.float64)
    azimuth, elevation = hour_angle_declination(hour_angle_rad, 0.5 * np.pi - dec, latitude_rad)
    return azimuth, 0.5 * np.pi - elevation


def equator_of_date(ra_rad: ArrayLike, dec_rad: ArrayLike, mjd: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return right ascension in [0, 2 pi) and declination on the mean equator of date, of J2000 directions.

    Precession by IAU 2006, 50 arcsec in a year; neither nutation (17 arcsec) nor aberration
    (20 arcsec), which the mean equator leaves out, nor the bias of the ICRS frame (0.02 arcsec).

    Parameters
    ----------
    ra_rad, dec_rad : array_like, shape (n,)
        ICRS or J2000 directions.
    mjd : array_like, shape (n,)
        Modified Julian dates.
    """
    zeta, z, theta = _precession_angles(np.asarray(mjd, dtype=np.float64))
    angle, dec = np.asarray(ra_rad) + zeta, np.asarray(dec_rad)
    x = np.cos(theta) * np.cos(dec) * np.cos(angle) - np.sin(theta) * np.sin(dec)
    y = np.cos(dec) * np.sin(angle)
    pole = np.sin(theta) * np.cos(dec) * np.cos(angle) + np.cos(theta) * np.sin(dec)
    return (np.arctan2(y, x) + z) % (2.0 * np.pi), np.arctan2(pole, np.hypot(x, y))


def equator_of_j2000(ra_rad: ArrayLike, dec_rad: ArrayLike, mjd: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return right ascension in [0, 2 pi) and declination of J2000: the inverse of `equator_of_date`."""
    zeta, z, theta = _precession_angles(np.asarray(mjd, dtype=np.float64))
    angle, dec = np.asarray(ra_rad) - z, np.asarray(dec_rad)
    x = np.cos(theta) * np.cos(dec) * np.cos(angle) + np.sin(theta) * np.sin(dec)
    y = np.cos(dec) * np.sin(angle)
    pole = np.cos(theta) * np.sin(dec) - np.sin(theta) * np.cos(dec) * np.cos(angle)
    return (np.arctan2(y, x) - zeta) % (2.0 * np.pi), np.arctan2(pole, np.hypot(x, y))


def _precession_angles(mjd: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rotations about the old pole, the new one and the node between them."""
    # TT and UTC differ by about a minute, in which the equator moves by 1e-4 arcsec.
    centuries = (mjd - _J2000_MJD) / _CENTURY_DAYS
    zeta, z, theta = (np.radians(polyval(centuries, terms) / 3600.0) for terms in (_ZETA, _Z, _THETA))
    return zeta, z, theta


@lru_cache(maxsize=64)
def _greenwich_turns(block: int) -> FloatArray:
    """Greenwich mean sidereal time in turns at 0h UTC of a block of days and of the day after."""
    days = np.arange(block * _BLOCK_DAYS, (block + 1) * _BLOCK_DAYS + 1, dtype=np.float64)
    with warnings.catch_warnings():
        # Leap seconds of coming years are not known: "dubious year" says no more.
        warnings.filterwarnings("ignore", message=".*dubious year.*")
        # Polar motion, which mean sidereal time does not hold.
        warnings.filterwarnings("ignore", message="Tried to get polar motions")
        turns = local_sidereal_angle(Time(days, format="mjd", scale="utc"), 0.0 * u.deg).to_value(u.cycle)
    turns.setflags(write=False)
    return turns
