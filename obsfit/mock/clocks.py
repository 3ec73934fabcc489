"""Clocks of mock observatories: sidereal, solar, anti-sidereal and extended-sidereal time, and the season, from MJD.

Days are of UT1: between it and UTC lies less than a second, 15 arcsec of any clock. All angles are local and mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

TURN = 2.0 * np.pi
YEAR_DAYS = 365.25
TURNS_OF_THE_YEAR = {"sidereal": 0, "solar": -1, "anti-sidereal": -2, "extended-sidereal": 1}
"""Frame -> c with clock = sidereal angle + c * orbital angle: solar time loses one day a year, and so on."""
CLOCKS = (*TURNS_OF_THE_YEAR, "season")

_J2000_MJD = 51544.5


@dataclass(frozen=True)
class Clocks:
    """Moments, as the angles of all clocks.

    Attributes
    ----------
    sidereal_rad : ndarray
        Local sidereal time as an angle.
    orbital_rad : ndarray, same shape
        Right ascension of the mean Sun minus pi, which is sidereal minus solar time: 0 at the September equinox.
    mjd : ndarray, same shape, or None
        Modified Julian days (UT1); None for the idealised year, which has clocks but no date.
    """

    sidereal_rad: FloatArray
    orbital_rad: FloatArray
    mjd: FloatArray | None = None

    def angle(self, clock: str) -> FloatArray:
        """Return the angle of a clock in radians, not reduced to one turn.

        Solar time is pi when the mean Sun culminates (12 h); "season" is the orbital angle.

        Raises
        ------
        ValueError
            If there is no such clock.
        """
        if clock == "season":
            return self.orbital_rad
        if clock not in TURNS_OF_THE_YEAR:
            raise ValueError(f"clock {clock!r}: expected one of {', '.join(CLOCKS)}")
        return self.sidereal_rad + TURNS_OF_THE_YEAR[clock] * self.orbital_rad


def clocks_at(mjd: ArrayLike, longitude_rad: float) -> Clocks:
    """Return the clocks at modified Julian days (UT1) and a geographic longitude, east positive.

    Mean sidereal time by the IAU expression of 1982.

    Examples
    --------
    >>> clocks = clocks_at([51544.5], 0.0)   # J2000.0
    >>> print(f"{np.degrees(clocks.angle('sidereal')[0] % TURN):.4f} {np.degrees(clocks.angle('solar')[0]) % 360:.1f}")
    280.4606 180.0
    """
    days = np.asarray(mjd, dtype=np.float64)
    orbital = TURN * (_orbital_turns(days) % 1.0)
    solar = TURN * (days % 1.0) + longitude_rad
    return Clocks(solar + orbital, orbital, days)


def clocks_of_year(frame: str, angle_rad: FloatArray, orbital_rad: FloatArray) -> Clocks:
    """Return the clocks when that of `frame` shows an angle at an orbital angle; the shapes broadcast."""
    angle, orbital = np.broadcast_arrays(angle_rad, orbital_rad)
    return Clocks(angle - TURNS_OF_THE_YEAR[frame] * orbital, orbital)


def frame_turns(frame: str, mjd: float, longitude_rad: float) -> float:
    """Return the turns that the clock of a frame has made, its angle over 2 pi, growing steadily."""
    turns = mjd + longitude_rad / TURN + (1 + TURNS_OF_THE_YEAR[frame]) * _orbital_turns(np.asarray(mjd))
    return float(turns)


def mjd_of_turns(frame: str, turns: FloatArray, near_mjd: float, longitude_rad: float) -> FloatArray:
    """Return the days when `frame_turns` has the given values.

    The clock's rate is that at `near_mjd`; within thirty years of it the error is below 0.1 s.
    """
    step = 0.5 * YEAR_DAYS
    before, after = (frame_turns(frame, near_mjd + sign * step, longitude_rad) for sign in (-1, 1))
    rate = (after - before) / (2.0 * step)
    return near_mjd + (turns - frame_turns(frame, near_mjd, longitude_rad)) / rate


def _orbital_turns(mjd: FloatArray) -> FloatArray:
    # Greenwich sidereal time less 360 deg a day; keeping the whole days out of the sum saves their digits.
    days = mjd - _J2000_MJD
    centuries = days / 36525.0
    return (100.46061837 + 0.98564736629 * days + 0.000387933 * centuries**2) / 360.0
