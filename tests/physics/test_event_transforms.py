"""Clocks and directions of event lists against astropy, and against rotation matrices written out here."""

import warnings

import astropy.units as u
import mpmath
import numpy as np
import pytest
from astropy.coordinates import FK5, AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from obsfit.ingest import _binning_kernels as kernels
from obsfit.ingest.event_transforms import (
    azimuth_zenith_angles,
    clock_angle,
    equator_of_date,
    equator_of_j2000,
    hour_angle_declination,
)

BIN = 2 * np.pi / 360
LEAP_SECONDS = (53736, 54832, 56109, 57204, 57754)  # the days after those of 86401 s


def wrapped(angle):
    return np.angle(np.exp(1j * np.asarray(angle)))


def astropy_sidereal(mjd, longitude_deg):
    # However old the installed table is: ours is not to depend on the day of the test.
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        time = Time(mjd, format="mjd", scale="utc")
        return time.sidereal_time("mean", longitude=longitude_deg * u.deg).to_value(u.rad)


def unit_vectors(n, rng):
    v = rng.normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_sidereal_time_is_that_of_astropy_within_a_millionth_of_a_bin():
    """Between the nodes too, and on days with a leap second; measured: 2e-10 of a bin."""
    rng = np.random.default_rng(1)
    mjd = np.concatenate([rng.uniform(41317, 61000, 2000), *(day - rng.uniform(0, 2, 50) for day in LEAP_SECONDS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = astropy_sidereal(mjd, -97.3)
    difference = wrapped(clock_angle(mjd, np.radians(-97.3)) - expected)
    assert np.abs(difference).max() < 1e-8 * BIN


def test_a_sidereal_year_has_one_turn_more_than_a_solar_one():
    """Turns of the four clocks in a tropical year of 365.2422 days: 366.2422, 365.2422, 364.2422 and 367.2422."""
    days = np.arange(0.0, 365.2422, 0.01)
    turns = {}
    for frame in ("sidereal", "solar", "anti-sidereal", "extended-sidereal"):
        angle = np.unwrap(clock_angle(56000.3 + days, 1.0, frame))
        turns[frame] = (angle[-1] - angle[0]) / (2 * np.pi) / days[-1] * 365.2422
    assert turns == pytest.approx(
        {"sidereal": 366.2422, "solar": 365.2422, "anti-sidereal": 364.2422, "extended-sidereal": 367.2422},
        abs=2e-4,
    )


def test_solar_time_is_zero_at_midnight_and_advances_towards_the_east():
    assert clock_angle([55000.0, 55000.5], 0.0, "solar") == pytest.approx([0.0, np.pi])
    assert clock_angle([55000.0], np.pi / 2, "solar") == pytest.approx([np.pi / 2])


def test_hour_angle_and_declination_are_those_of_a_rotated_vector():
    """Rotation about the east-west axis by the co-latitude, as a matrix."""
    rng = np.random.default_rng(2)
    for latitude in (-np.pi / 2, -0.6, 0.0, 0.33, np.pi / 2):
        north, east, up = unit_vectors(4000, rng).T
        azimuth, zenith = np.arctan2(east, north), np.arccos(up)
        # The equator's meridian point is (-sin, 0, cos) of the latitude, the pole (cos, 0, sin) in (north, east, up).
        meridian = -np.sin(latitude) * north + np.cos(latitude) * up
        pole = np.cos(latitude) * north + np.sin(latitude) * up
        hour_angle, dec = hour_angle_declination(azimuth, zenith, latitude)
        found = np.array([np.cos(dec) * np.cos(hour_angle), -np.cos(dec) * np.sin(hour_angle), np.sin(dec)])
        np.testing.assert_allclose(found, [meridian, east, pole], atol=4e-15)


def test_the_way_back_is_the_inverse():
    rng = np.random.default_rng(3)
    hour_angle, dec = rng.uniform(-np.pi, np.pi, 5000), np.arcsin(rng.uniform(-1, 1, 5000))
    for latitude in (-np.pi / 2, -0.61, 0.33):
        azimuth, zenith = azimuth_zenith_angles(hour_angle, dec, latitude)
        back, dec_back = hour_angle_declination(azimuth, zenith, latitude)
        np.testing.assert_allclose(wrapped(back - hour_angle) * np.cos(dec), 0, atol=2e-14)
        np.testing.assert_allclose(dec_back, dec, atol=2e-14)


def test_local_directions_are_those_of_astropy_up_to_what_the_mean_equator_leaves_out():
    """AltAz of astropy holds nutation, aberration and the motion of the pole: together below 45 arcsec."""
    rng = np.random.default_rng(4)
    mjd, place = (
        rng.uniform(53000, 58000, 300),
        EarthLocation(lon=-97.3 * u.deg, lat=18.99 * u.deg, height=0 * u.m),
    )
    ra, dec = rng.uniform(0, 2 * np.pi, 300), np.arcsin(rng.uniform(-1, 1, 300))
    with iers.conf.set_temp("auto_download", False):
        sky = SkyCoord(ra * u.rad, dec * u.rad).transform_to(
            AltAz(obstime=Time(mjd, format="mjd"), location=place)
        )
    ra_date, dec_date = equator_of_date(ra, dec, mjd)
    hour_angle = clock_angle(mjd, np.radians(-97.3)) - ra_date
    azimuth, zenith = azimuth_zenith_angles(hour_angle, dec_date, np.radians(18.99))
    here = SkyCoord(azimuth * u.rad, (np.pi / 2 - zenith) * u.rad)
    there = SkyCoord(sky.az, sky.alt)
    apart = here.separation(there).to_value(u.arcsec)
    assert 10 < np.median(apart) < apart.max() < 45


def test_precession_is_that_of_astropy():
    """FK5 of astropy precesses by the same IAU 2006 model; measured difference 1e-4 arcsec."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 2 * np.pi, 50), np.arcsin(rng.uniform(-1, 1, 50))
    for year in (1990.0, 2000.0, 2008.8, 2035.0):
        time = Time(year, format="jyear", scale="utc")
        there = SkyCoord(ra * u.rad, dec * u.rad, frame=FK5(equinox="J2000")).transform_to(FK5(equinox=time))
        here = SkyCoord(*equator_of_date(ra, dec, np.full(50, time.mjd)) * u.rad, frame=FK5(equinox=time))
        assert here.separation(there).to_value(u.arcsec).max() < 1e-3


def test_precession_there_and_back_changes_nothing():
    rng = np.random.default_rng(6)
    ra, dec, mjd = (
        rng.uniform(0, 2 * np.pi, 500),
        np.arcsin(rng.uniform(-1, 1, 500)),
        rng.uniform(45000, 62000, 500),
    )
    back = equator_of_j2000(*equator_of_date(ra, dec, mjd), mjd)
    np.testing.assert_allclose(wrapped(back[0] - ra) * np.cos(dec), 0, atol=3e-15)
    np.testing.assert_allclose(back[1], dec, atol=3e-14)


def test_polynomials_keep_all_digits():
    """Against 30 digits; errors of a few units of the last place."""
    rng = np.random.default_rng(7)
    with mpmath.workdps(30):
        for x in [*rng.uniform(-15, 15, 300), 0.0, np.pi / 4, np.pi / 2, np.pi, 2 * np.pi]:
            sine, cosine = kernels.sine_cosine(x)
            assert abs(sine - mpmath.sin(mpmath.mpf(float(x)))) < 2e-15
            assert abs(cosine - mpmath.cos(mpmath.mpf(float(x)))) < 2e-15
        for y, x in [*rng.normal(size=(300, 2)), (0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0), (1.0, 1.0)]:
            exact = mpmath.atan2(mpmath.mpf(float(y)), mpmath.mpf(float(x)))
            assert abs(kernels.polar_angle(y, x) - exact) < 9e-16
    assert kernels.polar_angle(0.0, 0.0) == 0.0


@pytest.mark.parametrize("mjd", [[np.nan], [40000.0], [80000.0]])
def test_impossible_times_are_refused(mjd):
    with pytest.raises(ValueError, match="expected 41317"):
        clock_angle(mjd, 0.0)


def test_an_unknown_clock_is_refused():
    with pytest.raises(ValueError, match="expected one of sidereal"):
        clock_angle([55000.0], 0.0, "siderial")


def test_no_times_give_no_angles():
    assert clock_angle([], 0.0).size == 0
