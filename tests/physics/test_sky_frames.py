"""Local and equatorial frames: spherical trigonometry, the routines of erfa, and a formula for sidereal time."""

import astropy.units as u
import erfa
import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from obsfit.sky.directions import right_ascension_declination
from obsfit.sky.frames import (
    azimuth_zenith,
    declination_band,
    hour_angle_to_local,
    local_sidereal_angle,
    local_to_hour_angle,
    local_vector,
    rotation_matrix,
)

ANGLE = st.floats(0, 359.9)
LATITUDE = st.floats(-90, 90)


@given(ANGLE, LATITUDE)
def test_the_matrix_is_a_rotation(angle, latitude):
    matrix = rotation_matrix(angle * u.deg, latitude * u.deg)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-15)


@given(ANGLE, LATITUDE, ANGLE, st.floats(-89.9, 89.9))
def test_against_spherical_trigonometry(sidereal, latitude, ra, dec):
    """Zenith angle by the cosine rule, azimuth by its tangent with both signs, in mpmath."""
    mp.dps = 30
    rad = mp.pi / 180
    phi, delta, h = mpf(latitude) * rad, mpf(dec) * rad, (mpf(sidereal) - mpf(ra)) * rad
    up = mp.sin(phi) * mp.sin(delta) + mp.cos(phi) * mp.cos(delta) * mp.cos(h)
    east = -mp.sin(h) * mp.cos(delta)
    north = mp.cos(phi) * mp.sin(delta) - mp.sin(phi) * mp.cos(delta) * mp.cos(h)
    alpha, d = np.radians([ra, dec])
    equatorial = np.array([np.cos(alpha) * np.cos(d), np.sin(alpha) * np.cos(d), np.sin(d)])
    local = rotation_matrix(sidereal * u.deg, latitude * u.deg) @ equatorial
    np.testing.assert_allclose(local, [float(north), -float(east), float(up)], atol=2e-15)


@given(ANGLE, st.floats(-89, 89), st.floats(-89, 89))
def test_hour_angle_to_local_against_erfa(hour_angle, dec, latitude):
    azimuth, altitude = erfa.hd2ae(*np.radians([hour_angle, dec, latitude]))
    ours_azimuth, ours_zenith = hour_angle_to_local(hour_angle * u.deg, dec * u.deg, latitude * u.deg)
    zenith = np.pi / 2 - altitude
    assert ours_zenith.to_value(u.rad) == pytest.approx(zenith, abs=1e-12)
    # Near the zenith the azimuth is free; compare it as a distance on the sphere.
    difference = np.exp(1j * ours_azimuth.to_value(u.rad)) - np.exp(1j * azimuth)
    assert abs(difference) * np.sin(zenith) < 1e-12


@given(ANGLE, st.floats(0.01, 179.9), st.floats(-89, 89))
def test_local_to_hour_angle_against_erfa(azimuth, zenith, latitude):
    hour_angle, dec = erfa.ae2hd(np.radians(azimuth), np.radians(90 - zenith), np.radians(latitude))
    ours_hour_angle, ours_dec = local_to_hour_angle(azimuth * u.deg, zenith * u.deg, latitude * u.deg)
    assert ours_dec.to_value(u.rad) == pytest.approx(dec, abs=1e-12)
    difference = np.exp(1j * ours_hour_angle.to_value(u.rad)) - np.exp(1j * hour_angle)
    assert abs(difference) * np.cos(dec) < 1e-12


def test_there_and_back_on_arrays():
    azimuth, zenith = np.meshgrid(np.linspace(0, 350, 36), np.linspace(1, 89, 23))
    latitude = np.array([-90.0, -33.0, 0.0, 19.0, 90.0])[:, None, None] * u.deg
    back = hour_angle_to_local(*local_to_hour_angle(azimuth * u.deg, zenith * u.deg, latitude), latitude)
    difference = np.exp(1j * back[0].to_value(u.rad)) - np.exp(1j * np.radians(azimuth))
    assert np.abs(difference).max() < 1e-12
    np.testing.assert_allclose(back[1].to_value(u.deg), np.broadcast_to(zenith, back[1].shape), atol=1e-12)


def test_right_ascension_is_sidereal_angle_minus_hour_angle():
    sidereal, latitude = 135 * u.deg, 19 * u.deg
    local = local_vector(70 * u.deg, 40 * u.deg)
    ra, dec = right_ascension_declination(rotation_matrix(sidereal, latitude).T @ local)
    hour_angle, same_dec = local_to_hour_angle(70 * u.deg, 40 * u.deg, latitude)
    assert ra.to_value(u.deg) == pytest.approx((135 - hour_angle.to_value(u.deg)) % 360, abs=1e-11)
    assert dec.to_value(u.deg) == pytest.approx(same_dec.to_value(u.deg), abs=1e-11)


@pytest.mark.parametrize(
    ("azimuth", "zenith", "expected"),
    [(0, 90, [1, 0, 0]), (90, 90, [0, -1, 0]), (180, 90, [-1, 0, 0]), (270, 90, [0, 1, 0]), (123, 0, [0, 0, 1])],
)
def test_local_axes(azimuth, zenith, expected):
    vector = local_vector(azimuth * u.deg, zenith * u.deg)
    np.testing.assert_allclose(vector, expected, atol=1e-15)
    ours_azimuth, ours_zenith = azimuth_zenith(vector)
    assert ours_zenith.to_value(u.deg) == pytest.approx(zenith, abs=1e-12)
    if zenith > 0:
        assert ours_azimuth.to_value(u.deg) == pytest.approx(azimuth, abs=1e-12)


def test_stars_rise_in_the_east():
    """A star that will culminate (hour angle -90 deg) stands east of the meridian."""
    azimuth, _ = hour_angle_to_local(-90 * u.deg, 0 * u.deg, 30 * u.deg)
    assert azimuth.to_value(u.deg) == pytest.approx(90.0)


def test_matrix_of_many_times():
    angles = np.linspace(0, 360, 7) * u.deg
    matrices = rotation_matrix(angles[:, None], np.array([-90.0, 19.0]) * u.deg)
    assert matrices.shape == (7, 2, 3, 3)
    np.testing.assert_array_equal(matrices[3, 1], rotation_matrix(angles[3], 19 * u.deg))


@given(st.floats(-90, 90), st.floats(0.5, 90))
def test_the_band_is_what_passes_within_the_cut(latitude, cut):
    """Every declination of local directions within the cut lies in the band, and they reach both ends."""
    azimuth, zenith = np.meshgrid(np.linspace(0, 180, 61), np.linspace(0, cut, 41))
    _, dec = local_to_hour_angle(azimuth * u.deg, zenith * u.deg, latitude * u.deg)
    low, high = (edge.to_value(u.deg) for edge in declination_band(latitude * u.deg, cut * u.deg))
    seen = dec.to_value(u.deg)
    assert low - 1e-9 <= seen.min()
    assert seen.max() <= high + 1e-9
    # A pole inside the field of view is reached to the spacing of this grid.
    assert seen.min() == pytest.approx(low, abs=1e-9 if low > -90 else cut / 40)
    assert seen.max() == pytest.approx(high, abs=1e-9 if high < 90 else cut / 40)


@pytest.mark.parametrize("date", ["2000-01-01T12:00:00", "2012-06-21T03:14:15", "2019-11-30T23:59:00"])
@pytest.mark.parametrize("longitude", [0.0, -97.3, 137.0])
def test_sidereal_time_against_the_linear_formula(date, longitude):
    """GMST = 280.46061837 + 360.98564736629 d (IAU 1982, linear part), d in days of UT1 since J2000.

    Tolerance: 0.9 s of UT1 - UTC is 0.004 deg; the quadratic term and the change of model stay below 1e-4 deg.
    """
    time = Time(date, scale="utc")
    days = time.jd1 - 2451545.0 + time.jd2
    expected = (280.46061837 + 360.98564736629 * days + longitude) % 360
    ours = local_sidereal_angle(time, longitude * u.deg).to_value(u.deg)
    assert abs((ours - expected + 180) % 360 - 180) < 0.005


@pytest.mark.filterwarnings("ignore:ERFA function", "ignore:Tried to get polar motions")
def test_sidereal_time_needs_no_download(monkeypatch):
    """Far outside the table that comes with astropy, which is ten years old, and with every connection refused."""
    import socket

    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(Time, "now", classmethod(lambda cls: cls(2465424.5, format="jd", scale="utc")))
    days = np.arange(3.0)
    times = Time(2466154.5 + days, format="jd", scale="utc")  # the year 2040
    angles = local_sidereal_angle(times, 0 * u.deg).to_value(u.deg)
    np.testing.assert_allclose(np.diff(angles) % 360, 0.98564736629, atol=1e-6)
