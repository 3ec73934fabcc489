"""Local maps mean the same sky whatever axes, clock and bins they were written in."""

import re

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.event_maps import event_map
from obsfit.ingest.local_conventions import AXES, LocalConvention, pixel_order
from obsfit.observatory import Observatory
from obsfit.sky.frames import local_to_hour_angle

# Longitude of a direction in the axes of a file, from its azimuth (North through East), both in radians.
LONGITUDE = {
    "NWU": lambda azimuth: -azimuth,
    "SEZ": lambda azimuth: np.pi - azimuth,
    "ENU": lambda azimuth: 0.5 * np.pi - azimuth,
    "NEU": lambda azimuth: azimuth,
}


def site(latitude, longitude, zenith_max=75.0):
    return Observatory("somewhere", latitude * u.deg, longitude * u.deg, zenith_max * u.deg)


def horizon(hour_angle, dec, latitude):
    """Azimuth and zenith angle by the sine and cosine rules of the navigational triangle; radians."""
    height = np.sin(dec) * np.sin(latitude) + np.cos(dec) * np.cos(latitude) * np.cos(hour_angle)
    east = -np.cos(dec) * np.sin(hour_angle)
    north = np.sin(dec) * np.cos(latitude) - np.cos(dec) * np.sin(latitude) * np.cos(hour_angle)
    return np.arctan2(east, north), np.arccos(height)


def ring_starts_and_lengths(nside):
    """First pixel, number of pixels, and longitude of the first pixel in units of the spacing, of each ring."""
    start = 0
    for i in range(1, 4 * nside):
        length = 4 * min(i, nside, 4 * nside - i)
        polar = i < nside or i > 3 * nside
        offset = 0.5 if polar or (i - nside) % 2 == 0 else 0.0
        yield start, length, offset
        start += length


@pytest.mark.parametrize("nside", [1, 2, 4, 16, 64])
def test_quarter_turns_and_the_mirror_are_shifts_and_reversals_of_rings(nside):
    """Independent of any direction: only the lengths and first longitudes of the rings of HEALPix."""
    turned = {axes: np.empty(12 * nside**2, dtype=int) for axes in AXES}
    for start, length, offset in ring_starts_and_lengths(nside):
        j = np.arange(length)
        for axes, quarters in (("NWU", 0), ("SEZ", 2), ("ENU", 1)):
            turned[axes][start + j] = start + (j + quarters * length // 4) % length
        turned["NEU"][start + j] = start + np.round(-j - 2 * offset).astype(int) % length
    for axes in AXES:
        np.testing.assert_array_equal(pixel_order(nside, axes), turned[axes])


@pytest.mark.parametrize("axes", AXES)
def test_every_pixel_is_moved_once(axes):
    for nside in (1, 8, 128):
        assert np.array_equal(np.sort(pixel_order(nside, axes)), np.arange(12 * nside**2))


@pytest.mark.parametrize("axes", AXES)
def test_events_fall_into_the_same_pixel_whatever_the_axes(axes):
    """The borders of pixels, not only their centres, are turned and mirrored."""
    rng = np.random.default_rng(3)
    azimuth, zenith = rng.uniform(0, 2 * np.pi, 200_000), np.arccos(rng.uniform(-1, 1, 200_000))
    for nside in (2, 32):
        theirs = hp.ang2pix(nside, zenith, np.mod(LONGITUDE[axes](azimuth), 2 * np.pi))
        ours = hp.ang2pix(nside, zenith, np.mod(-azimuth, 2 * np.pi))
        np.testing.assert_array_equal(pixel_order(nside, axes)[ours], theirs)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("time_reference", ["LST", "GMST"])
@pytest.mark.parametrize(("latitude", "longitude"), [(19.0, -97.0), (-90.0, 270.0), (48.0, 12.0), (0.0, 0.0)])
def test_a_point_source_lands_where_the_navigational_triangle_puts_it(axes, time_reference, latitude, longitude):
    n_time, nside, ra, dec = 360, 32, 1.234, np.radians(latitude + (20.0 if latitude < 0 else -20.0))
    theirs, ours = np.zeros((n_time, 12 * nside**2)), np.zeros((n_time, 12 * nside**2))
    seen = []
    for t in range(n_time):
        local = (t + 0.5) * 2 * np.pi / n_time
        azimuth, zenith = horizon(local - ra, dec, np.radians(latitude))
        if zenith > np.radians(70.0):
            continue
        greenwich = np.mod(local - np.radians(longitude), 2 * np.pi)
        bin_of_file = int((local if time_reference == "LST" else greenwich) / (2 * np.pi) * n_time)
        theirs[bin_of_file, hp.ang2pix(nside, zenith, np.mod(LONGITUDE[axes](azimuth), 2 * np.pi))] = 100.0 + t
        ours[t, hp.ang2pix(nside, zenith, np.mod(-azimuth, 2 * np.pi))] = 100.0 + t
        seen.append(t)
    assert len(seen) > 90
    found = event_map(
        theirs, site(latitude, longitude), axes=axes, time_reference=time_reference, bin_reference="LEFT"
    )
    np.testing.assert_array_equal(found.counts, ours)
    # And back to the sky through our own frames: within the radius of a pixel and half a bin of the source.
    t, pixel = np.nonzero(found.counts)
    theta, phi = hp.pix2ang(nside, pixel)
    hour_angle, found_dec = local_to_hour_angle(-phi * u.rad, theta * u.rad, latitude * u.deg)
    found_ra = 2 * np.pi * (t + 0.5) / n_time - hour_angle.to_value(u.rad)
    apart = hp.rotator.angdist([np.pi / 2 - found_dec.to_value(u.rad), found_ra], [np.pi / 2 - dec, ra])
    assert apart.max() < hp.max_pixrad(nside)


def binned(azimuth, zenith, turns, axes, n_time, nside, *, nearest=False):
    """Maps of events at a clock of `turns` of a day, sorted by rounding down or to the nearest."""
    t = np.floor(turns * n_time + (0.5 if nearest else 0.0)).astype(int) % n_time
    pixel = hp.ang2pix(nside, zenith, np.mod(LONGITUDE[axes](azimuth), 2 * np.pi))
    return np.bincount(t * 12 * nside**2 + pixel, minlength=n_time * 12 * nside**2).reshape(n_time, -1)


def test_relabelled_axes_and_clocks_change_nothing():
    rng = np.random.default_rng(4)
    azimuth, greenwich = rng.uniform(0, 2 * np.pi, 50_000), rng.uniform(0, 1, 50_000)
    zenith = np.arccos(rng.uniform(np.cos(np.radians(60)), 1, 50_000))
    n_time, nside, observatory = 72, 8, site(19.0, -95.0)
    local = np.mod(greenwich + observatory.longitude.to_value(u.deg) / 360, 1.0)
    want = binned(azimuth, zenith, local, "NWU", n_time, nside)
    for axes in AXES:
        for time_reference, clock in (("LST", local), ("GMST", greenwich)):
            maps = binned(azimuth, zenith, clock, axes, n_time, nside)
            got = event_map(maps, observatory, axes=axes, time_reference=time_reference, bin_reference="LEFT")
            np.testing.assert_array_equal(got.counts, want)
            assert got.total == 50_000


def test_centred_bins_are_ours_where_the_longitude_makes_up_for_half_a_bin():
    rng = np.random.default_rng(5)
    azimuth, greenwich = rng.uniform(0, 2 * np.pi, 20_000), rng.uniform(0, 1, 20_000)
    zenith = np.arccos(rng.uniform(0.6, 1, 20_000))
    n_time, nside, observatory = 24, 4, site(-35.0, -67.5)
    local = np.mod(greenwich - 67.5 / 360, 1.0)
    maps = binned(azimuth, zenith, greenwich, "ENU", n_time, nside, nearest=True)
    got = event_map(maps, observatory, axes="ENU", time_reference="GMST", bin_reference="CENTER")
    np.testing.assert_array_equal(got.counts, binned(azimuth, zenith, local, "NWU", n_time, nside))


@pytest.mark.parametrize(
    ("time_reference", "bin_reference", "longitude"),
    [("LST", "CENTER", 0.0), ("GMST", "LEFT", -97.3), ("GMST", "CENTER", -97.0)],
)
def test_bins_that_do_not_fit_are_refused_and_the_remedy_is_right(time_reference, bin_reference, longitude):
    """Follow the advice of the message on a dipole seen by a narrow beam on the meridian: its phase is the truth."""
    n_time, phase = 360, 2.0
    maps = np.zeros((n_time, 12))
    start = np.arange(n_time) - (0.5 if bin_reference == "CENTER" else 0.0)
    middle = 2 * np.pi * (start + 0.5) / n_time + (np.radians(longitude) if time_reference == "GMST" else 0.0)
    maps[:, 0] = 1000.0 * (1.0 + 0.5 * np.cos(middle - phase))
    words = {"axes": "NWU", "time_reference": time_reference}
    with pytest.raises(DataFormatError, match=f"BINREF {bin_reference}") as caught:
        event_map(maps, site(19.0, longitude), bin_reference=bin_reference, **words)
    advice = str(caught.value)
    other = float(match[1]) if (match := re.search(r"at longitude (\S+) deg", advice)) else longitude
    turn = np.radians(float(re.search(r"add (\S+) deg", advice)[1]))
    counts = event_map(maps, site(19.0, other), bin_reference="LEFT", **words).counts.sum(axis=1)
    ours = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    found = np.angle(np.sum(counts * np.exp(1j * ours))) + turn
    assert found == pytest.approx(phase, abs=1e-7)  # the message prints six digits


def test_icecube_is_one_sky_in_two_conventions_in_use():
    """Grid East and North at longitude 0, or South and East at longitude 270: the same directions."""
    rng = np.random.default_rng(6)
    n_time, nside = 24, 4
    maps = np.zeros((n_time, 12 * nside**2))
    maps[rng.integers(0, n_time, 40), rng.integers(0, 40, 40)] = rng.integers(1, 9, 40)
    skies = []
    for axes, longitude in (("ENU", 0.0), ("SEZ", 270.0)):
        found = event_map(
            maps, site(-90.0, longitude, 90.0), axes=axes, time_reference="GMST", bin_reference="LEFT"
        )
        t, pixel = np.nonzero(found.counts)
        theta, phi = hp.pix2ang(nside, pixel)
        hour_angle, dec = local_to_hour_angle(-phi * u.rad, theta * u.rad, -90 * u.deg)
        ra = np.mod(2 * np.pi * (t + 0.5) / n_time - hour_angle.to_value(u.rad), 2 * np.pi)
        rows = np.stack([np.cos(ra), np.sin(ra), dec.to_value(u.rad), found.counts[t, pixel]], axis=1).round(9)
        skies.append(rows[np.lexsort(rows.T)])
    np.testing.assert_allclose(skies[0], skies[1], atol=1e-8)


@pytest.mark.parametrize("axes", AXES)
def test_there_and_back_is_the_identity(axes):
    maps = np.random.default_rng(7).poisson(2.0, (36, 48)).astype(float)
    convention = LocalConvention(axes, "GMST", "LEFT")
    there = convention.from_ours(maps, 50 * u.deg)
    np.testing.assert_array_equal(convention.to_ours(there, 50 * u.deg), maps)


def test_words_that_are_none_of_the_choices_are_refused():
    with pytest.raises(ConfigurationError, match=r"axes is 'NED'[\s\S]*NWU, SEZ, ENU, NEU"):
        LocalConvention("NED", "LST", "LEFT")
    with pytest.raises(ConfigurationError, match=r"time_reference is 'UTC'[\s\S]*LST, GMST"):
        LocalConvention("NWU", "UTC", "LEFT")
