"""Mock event lists: single events drawn from the rate that mock event maps integrate, without any grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.mock.clocks import TURN, clocks_at
from obsfit.mock.detector import MockDetector, equatorial_direction
from obsfit.mock.skies import MockSky

FloatArray = NDArray[np.float64]

CLOCK_COLUMNS = {
    "sidereal_rad": "sidereal",
    "solar_rad": "solar",
    "anti_sidereal_rad": "anti-sidereal",
    "extended_sidereal_rad": "extended-sidereal",
}
"""Columns of local time in the four frames, and their clocks."""

_BLOCK = 2**17
_PATIENCE = 50


def draw_events(
    sky: MockSky,
    detector: MockDetector,
    *,
    n_events: float,
    start_mjd: float,
    stop_mjd: float,
    rng: np.random.Generator,
    energy_range_tev: tuple[float, float] = (1.0, 100.0),
    spectral_index: float = 2.7,
) -> pd.DataFrame:
    """Return a list of events in the order of time; its length is a Poisson number of mean `n_events`.

    Proposed moments are uniform in time and proposed directions on the sphere within the zenith cut; each is kept with
    a probability in proportion to E(t) A(theta, phi, t) I(n).

    Parameters
    ----------
    sky : MockSky
        The sky; it is taken to be the same at all energies of the list.
    detector : MockDetector
        The detector.
    n_events : float
        Expected number of events.
    start_mjd, stop_mjd : float
        First and last moment, modified Julian days (UT1).
    rng : numpy.random.Generator
        Source of the draw.
    energy_range_tev : tuple of float
        Limits of the energies, in TeV; equal limits give one energy.
    spectral_index : float
        Gamma of the differential spectrum of the observed events.

    Returns
    -------
    pandas.DataFrame
        Columns mjd; azimuth_rad, from North through East, and zenith_rad; right_ascension_rad and declination_rad
        in the equator of date; energy_tev; weight, always 1; and the local time as an angle in four frames,
        sidereal_rad, solar_rad, anti_sidereal_rad and extended_sidereal_rad. Angles but declination are in [0, 2 pi).

    Raises
    ------
    ValueError
        If a number is out of range, or the rate is negative somewhere.
    ConfigurationError
        If the detector is never live or sees nothing.

    Examples
    --------
    >>> import astropy.units as u
    >>> from obsfit import Observatory
    >>> from obsfit.mock import isotropic_sky
    >>> hawc = MockDetector(Observatory("HAWC", 19 * u.deg, -97.3 * u.deg, 57 * u.deg))
    >>> rng = np.random.default_rng(1)
    >>> events = draw_events(isotropic_sky(), hawc, n_events=1e3, start_mjd=58000, stop_mjd=58365, rng=rng)
    >>> list(events)[:3], bool(events["zenith_rad"].max() < np.radians(57))
    (['mjd', 'azimuth_rad', 'zenith_rad'], True)
    """
    if not 0.0 <= n_events < np.inf:
        raise ValueError(f"n_events {n_events}: expected a number that is not negative")
    if not -np.inf < start_mjd < stop_mjd < np.inf:
        raise ValueError(f"days {start_mjd} to {stop_mjd}: expected a start before the stop")
    low, high = energy_range_tev
    if not 0.0 < low <= high < np.inf:
        raise ValueError(f"energy_range_tev {energy_range_tev}: expected 0 < smallest <= largest")
    wanted = int(rng.poisson(n_events))
    kept: list[FloatArray] = []
    number, blocks, largest = 0, 0, 0.0
    while number < wanted or largest == 0.0:
        proposed = _proposals(detector, start_mjd, stop_mjd, rng)
        rate = _rate(sky, detector, *proposed)
        blocks += 1
        if largest == 0.0 and blocks > _PATIENCE:
            raise ConfigurationError(
                f"{detector.observatory.name}: none of {blocks * _BLOCK} proposed events is observed",
                expected="a detector that is live between the days and sees some of the sky",
            )
        if rate.max() > largest:
            # A rate above the largest known would have been kept too seldom: start again, with room to spare.
            largest, kept, number = 1.1 * float(rate.max()), [], 0
            continue
        accepted = rng.random(rate.size) * largest < rate
        kept.append(np.stack(proposed)[:, accepted])
        number += int(accepted.sum())
    events = np.concatenate([*kept, np.empty((3, 0))], axis=1)[:, :wanted]
    return _table(detector, events[:, np.argsort(events[0])], _energies(low, high, spectral_index, wanted, rng))


def _proposals(
    detector: MockDetector, start_mjd: float, stop_mjd: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    mjd = rng.uniform(start_mjd, stop_mjd, _BLOCK)
    azimuth = rng.uniform(0.0, TURN, _BLOCK)
    zenith = np.arccos(rng.uniform(np.cos(detector.zenith_max_rad), 1.0, _BLOCK))
    return mjd, azimuth, zenith


def _rate(
    sky: MockSky, detector: MockDetector, mjd: FloatArray, azimuth: FloatArray, zenith: FloatArray
) -> FloatArray:
    clocks = clocks_at(mjd, detector.longitude_rad)
    acceptance = np.sum(detector.strengths(clocks) * detector.shapes(azimuth, zenith), axis=0)
    hour_angle, dec = equatorial_direction(azimuth, zenith, detector.latitude_rad)
    intensity = np.ones(mjd.size)
    for part in sky.parts:
        intensity += part.delta_i(clocks.angle(part.frame) - hour_angle, dec)
    rate = acceptance * intensity
    if rate.min() < 0.0:
        raise ValueError(
            f"{detector.observatory.name}: the rate is negative somewhere; expected modulations of the acceptance and "
            "anisotropies of the sky that leave it positive"
        )
    return rate


def _energies(low: float, high: float, spectral_index: float, size: int, rng: np.random.Generator) -> FloatArray:
    """Energies of a power law between two limits."""
    power, share = 1.0 - spectral_index, rng.random(size)
    if power == 0.0:
        return low * (high / low) ** share
    return low * (1.0 + share * ((high / low) ** power - 1.0)) ** (1.0 / power)


def _table(detector: MockDetector, events: FloatArray, energy_tev: FloatArray) -> pd.DataFrame:
    mjd, azimuth, zenith = events
    clocks = clocks_at(mjd, detector.longitude_rad)
    hour_angle, dec = equatorial_direction(azimuth, zenith, detector.latitude_rad)
    columns = {
        "mjd": mjd,
        "azimuth_rad": azimuth,
        "zenith_rad": zenith,
        "right_ascension_rad": _one_turn(clocks.sidereal_rad - hour_angle),
        "declination_rad": dec,
        "energy_tev": energy_tev,
        "weight": np.ones(mjd.size),
    }
    columns.update({name: _one_turn(clocks.angle(clock)) for name, clock in CLOCK_COLUMNS.items()})
    return pd.DataFrame(columns)


def _one_turn(angle_rad: FloatArray) -> FloatArray:
    reduced = angle_rad % TURN
    # The remainder of a tiny negative angle rounds up to a whole turn.
    return np.where(reduced == TURN, 0.0, reduced)
