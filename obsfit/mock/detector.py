"""Mock detectors: where they stand, what they accept from each direction, and when they are live.

The rate of events is E(t) A(theta, phi, t) I(n). Acceptance may change with time; what makes it do so is a sum of
terms, each a function of direction times a function of time, so that the two are evaluated apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.mock.clocks import CLOCKS, TURN, YEAR_DAYS, Clocks
from obsfit.observatory import Observatory

FloatArray = NDArray[np.float64]
Shape = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Modulation:
    """A wave in the time of one clock, amplitude * cos(harmonic * (angle - phase)).

    Attributes
    ----------
    clock : str
        "sidereal", "solar", "anti-sidereal", "extended-sidereal" or "season". A solar modulation whose strength
        follows the season is the sum of a sidereal and an anti-sidereal one.
    amplitude : float
        Amplitude.
    phase : Quantity, angle
        Angle of the clock at the maximum. Solar noon is 180 deg; the season's 0 is the September equinox.
    harmonic : int
        Waves per turn.
    """

    clock: str
    amplitude: float
    phase: u.Quantity = 0.0 * u.deg
    harmonic: int = 1

    def __post_init__(self) -> None:
        _check_clock(self.clock)

    def value(self, clocks: Clocks) -> FloatArray:
        """Return the modulation at some moments."""
        angle = clocks.angle(self.clock) - self.phase.to_value(u.rad)
        return self.amplitude * np.cos(self.harmonic * angle)


@dataclass(frozen=True)
class Gap:
    """A stretch of every turn of a clock without data.

    Attributes
    ----------
    clock : str
        As in `Modulation`.
    start, stop : Quantity, angle
        Limits; a stop that is not after the start lies in the next turn.
    """

    clock: str
    start: u.Quantity
    stop: u.Quantity

    def __post_init__(self) -> None:
        _check_clock(self.clock)

    def live(self, clocks: Clocks) -> NDArray[np.bool_]:
        """Return whether there are data at some moments."""
        start = self.start.to_value(u.rad)
        length = (self.stop.to_value(u.rad) - start) % TURN
        return (clocks.angle(self.clock) - start) % TURN >= (length or TURN)


@dataclass(frozen=True)
class Exposure:
    r"""Live time E(t), up to a factor: (1 + trend) (1 + sum of modulations), and zero in gaps.

    Attributes
    ----------
    modulations : tuple of Modulation
        Waves in any clock.
    gaps : tuple of Gap
        Stretches of a clock without data.
    trend_per_year : float
        Relative growth per 365.25 days, linear, of value 0 at `epoch_mjd`.
    epoch_mjd : float
        Where the trend is counted from.
    dead_mjd : tuple of (float, float)
        Stretches [start, stop) without data, in modified Julian days.
    """

    modulations: tuple[Modulation, ...] = ()
    gaps: tuple[Gap, ...] = ()
    trend_per_year: float = 0.0
    epoch_mjd: float = 51544.5
    dead_mjd: tuple[tuple[float, float], ...] = ()

    @property
    def dated(self) -> bool:
        """Whether it depends on the date, so that an idealised year does not know it."""
        return self.trend_per_year != 0.0 or bool(self.dead_mjd)

    def value(self, clocks: Clocks) -> FloatArray:
        """Return the exposure at some moments.

        Raises
        ------
        ConfigurationError
            If it is negative somewhere, or depends on a date that the moments do not have.
        """
        wave = 1.0 + sum((one.value(clocks) for one in self.modulations), np.zeros(np.shape(clocks.sidereal_rad)))
        if self.dated:
            if clocks.mjd is None:
                raise ConfigurationError(
                    "an idealised year has no dates, and the exposure has a trend or dead time in days",
                    expected="start_mjd and stop_mjd",
                    remedy="Give the days of the observation, or leave out trend_per_year and dead_mjd.",
                )
            wave = wave * (1.0 + self.trend_per_year * (clocks.mjd - self.epoch_mjd) / YEAR_DAYS)
            for start, stop in self.dead_mjd:
                wave = np.where((clocks.mjd >= start) & (clocks.mjd < stop), 0.0, wave)
        for gap in self.gaps:
            wave = np.where(gap.live(clocks), wave, 0.0)
        if wave.size and wave.min() < 0.0:
            raise ConfigurationError(
                f"the exposure falls to {wave.min():.3g} of its mean",
                expected="an exposure that is never negative",
                remedy="Make the modulations or the trend smaller, or move epoch_mjd.",
            )
        return wave


@dataclass(frozen=True)
class Breathing:
    r"""A change of the acceptance with time: a factor 1 + g(t) s(theta, phi).

    Attributes
    ----------
    modulations : tuple of Modulation
        g(t) is their sum.
    shape : callable, optional
        s of azimuth and zenith angle in radians, two arrays of one shape. Default: cos(theta) - 1, a slope in zenith
        angle that does not change the rate at the zenith.
    """

    modulations: tuple[Modulation, ...]
    shape: Shape | None = None

    def strength(self, clocks: Clocks) -> FloatArray:
        """Return g at some moments."""
        return np.asarray(
            sum((one.value(clocks) for one in self.modulations), np.zeros(clocks.sidereal_rad.shape))
        )

    def pattern(self, azimuth_rad: FloatArray, zenith_rad: FloatArray) -> FloatArray:
        """Return s at local directions."""
        if self.shape is not None:
            return self.shape(azimuth_rad, zenith_rad)
        return np.cos(zenith_rad) - 1.0


@dataclass(frozen=True)
class Acceptance:
    r"""Relative acceptance A(theta, phi, t) per solid angle, up to a factor.

    .. math::
        A = \cos^p\theta' \, e^{-k (\sec\theta' - 1)} \, (1 + a \sin\theta\sin\phi) \, f(\phi, \theta)
            \left(1 + \sum_i g_i(t)\, s_i(\phi, \theta)\right)

    with the azimuth :math:`\phi` from North through East, and :math:`\theta'` the angle to the axis of the detector.

    Attributes
    ----------
    power : float
        p; 1 is a flat detector that is fully efficient.
    attenuation : float
        k, absorption by the air above.
    east_west : float
        a: more events from the East where it is positive.
    tilt, tilt_azimuth : Quantity, angle
        Angle of the axis to the vertical, and the azimuth of its foot. Nothing is seen from behind it.
    factor : callable, optional
        f of azimuth and zenith angle in radians, two arrays of one shape.
    breathing : tuple of Breathing
        Changes with time.
    """

    power: float = 1.0
    attenuation: float = 0.0
    east_west: float = 0.0
    tilt: u.Quantity = 0.0 * u.deg
    tilt_azimuth: u.Quantity = 0.0 * u.deg
    factor: Shape | None = None
    breathing: tuple[Breathing, ...] = ()

    def shapes(self, azimuth_rad: FloatArray, zenith_rad: FloatArray) -> FloatArray:
        """Return the functions of direction, shape (1 + number of breathings, ...): A without breathing, then A s_i.

        Raises
        ------
        ConfigurationError
            If the acceptance is negative or not finite somewhere.
        """
        tilt, foot = self.tilt.to_value(u.rad), self.tilt_azimuth.to_value(u.rad)
        height = np.cos(zenith_rad) * np.cos(tilt)
        height = height + np.sin(zenith_rad) * np.sin(tilt) * np.cos(azimuth_rad - foot)
        ahead = height > 1e-12
        cosine = np.where(ahead, height, 1.0)
        profile = np.where(ahead, cosine**self.power * np.exp(-self.attenuation * (1.0 / cosine - 1.0)), 0.0)
        profile = profile * (1.0 + self.east_west * np.sin(zenith_rad) * np.sin(azimuth_rad))
        if self.factor is not None:
            profile = profile * self.factor(azimuth_rad, zenith_rad)
        if profile.size and not (profile.min() >= 0.0 and profile.max() < np.inf):
            raise ConfigurationError(
                f"the acceptance is between {profile.min():.3g} and {profile.max():.3g}",
                expected="finite numbers that are not negative",
                remedy="Make east_west smaller, or mend the factor.",
            )
        patterns = [profile * one.pattern(azimuth_rad, zenith_rad) for one in self.breathing]
        return np.stack([profile, *patterns])


@dataclass(frozen=True)
class MockDetector:
    """A detector: site and zenith cut, acceptance and exposure.

    Attributes
    ----------
    observatory : Observatory
        Site and zenith cut; the cut is about the vertical, whatever the tilt.
    acceptance : Acceptance
        What it accepts.
    exposure : Exposure
        When it is live.

    Examples
    --------
    >>> hawc = Observatory("HAWC", 19 * u.deg, -97.3 * u.deg, 57 * u.deg)
    >>> MockDetector(hawc, Acceptance(power=2.0, east_west=0.05)).observatory.name
    'HAWC'
    """

    observatory: Observatory
    acceptance: Acceptance = Acceptance()
    exposure: Exposure = Exposure()

    @property
    def latitude_rad(self) -> float:
        """Geographic latitude."""
        return float(self.observatory.latitude.to_value(u.rad))

    @property
    def longitude_rad(self) -> float:
        """Geographic longitude, east positive."""
        return float(self.observatory.longitude.to_value(u.rad))

    @property
    def zenith_max_rad(self) -> float:
        """Zenith cut."""
        return float(self.observatory.zenith_max.to_value(u.rad))

    def shapes(self, azimuth_rad: FloatArray, zenith_rad: FloatArray) -> FloatArray:
        """Return `Acceptance.shapes`, zero beyond the zenith cut."""
        inside = zenith_rad <= self.zenith_max_rad
        # Beyond the cut a user's function need not be defined.
        zenith = np.where(inside, zenith_rad, 0.0)
        return np.where(inside, self.acceptance.shapes(azimuth_rad, zenith), 0.0)

    def strengths(self, clocks: Clocks) -> FloatArray:
        """Return the functions of time that go with `shapes`: E, then E g_i, shape (1 + number of breathings, ...)."""
        exposure = self.exposure.value(clocks)
        return np.stack([exposure, *(exposure * one.strength(clocks) for one in self.acceptance.breathing)])


def local_direction(
    hour_angle_rad: FloatArray, dec_rad: FloatArray, latitude_rad: float
) -> tuple[FloatArray, FloatArray]:
    """Return azimuth, from North through East, and zenith angle of hour angle and declination, all in radians."""
    north = np.cos(latitude_rad) * np.sin(dec_rad)
    north = north - np.sin(latitude_rad) * np.cos(dec_rad) * np.cos(hour_angle_rad)
    west = np.cos(dec_rad) * np.sin(hour_angle_rad)
    up = np.sin(latitude_rad) * np.sin(dec_rad)
    up = up + np.cos(latitude_rad) * np.cos(dec_rad) * np.cos(hour_angle_rad)
    return np.arctan2(-west, north), np.arctan2(np.hypot(north, west), up)


def equatorial_direction(
    azimuth_rad: FloatArray, zenith_rad: FloatArray, latitude_rad: float
) -> tuple[FloatArray, FloatArray]:
    """Return hour angle and declination of azimuth and zenith angle, all in radians: inverse of `local_direction`."""
    north, west = np.cos(azimuth_rad) * np.sin(zenith_rad), -np.sin(azimuth_rad) * np.sin(zenith_rad)
    up = np.cos(zenith_rad)
    meridian = np.cos(latitude_rad) * up - np.sin(latitude_rad) * north
    axis = np.sin(latitude_rad) * up + np.cos(latitude_rad) * north
    return np.arctan2(west, meridian), np.arctan2(axis, np.hypot(meridian, west))


def _check_clock(clock: str) -> None:
    if clock not in CLOCKS:
        raise ValueError(f"clock {clock!r}: expected one of {', '.join(CLOCKS)}")
