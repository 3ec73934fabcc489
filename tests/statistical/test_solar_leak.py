"""A solar wave that changes with the seasons: nulls flag it, the scan shows its side bands, and the sky is left alone.

Event lists of one year, drawn here. A seed is fixed; tests that must pass allow a probability of 1e-3.
"""

import astropy.units as u
import numpy as np
import pytest

from obsfit.reconstruct.east_west import EastWest, east_west_events, east_west_scan
from obsfit.reconstruct.nulls import null_tests
from obsfit.reconstruct.right_ascension import antisidereal_systematic
from obsfit.records.event_map import EventMap, HourAngleGrid
from obsfit.records.provenance import Provenance

CYCLES = {"sidereal": 366.25, "solar": 365.25, "anti-sidereal": 364.25, "extended-sidereal": 367.25}
LATITUDE = 0.6
N_EVENTS = 400_000


def year_of_events(rng, *, solar=0.0, sidereal=0.0):
    """Times in days, azimuths, zenith angles, hour angles and declinations.

    The rate carries sidereal cos(dec) cos(LST - h) and solar (1 + cos(season)) cos(dec) cos(solar time - h).
    """
    kept = []
    while sum(len(part[0]) for part in kept) < N_EVENTS:
        size = N_EVENTS
        day = rng.uniform(0.0, 365.25, size)
        azimuth = rng.uniform(-np.pi, np.pi, size)
        zenith = np.arcsin(np.sqrt(rng.uniform(0.0, 0.7, size)))
        north, east, up = np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)
        dec = np.arcsin(np.sin(LATITUDE) * up + np.cos(LATITUDE) * north)
        hour = np.arctan2(-east, np.cos(LATITUDE) * up - np.sin(LATITUDE) * north)
        turn = 2 * np.pi * day / 365.25
        season = 1 + np.cos(turn)
        rate = 1 + np.cos(dec) * (
            sidereal * np.cos(CYCLES["sidereal"] * turn - hour) + solar * season * np.cos(365.25 * turn - hour)
        )
        chosen = rng.uniform(0, 1 + sidereal + 2 * solar, size) < rate
        kept.append([x[chosen] for x in (day, azimuth, zenith, hour, dec)])
    return [np.concatenate(x)[:N_EVENTS] for x in zip(*kept, strict=True)]


def binned(events, frame, days=(0.0, 365.25)):
    day, _, _, hour, dec = events
    inside = (day >= days[0]) & (day < days[1])
    grid = HourAngleGrid(24, 48)
    time = (48 * np.mod(day[inside] * CYCLES[frame] / 365.25, 1.0)).astype(int)
    ring = np.minimum(((dec[inside] / np.pi + 0.5) * 24).astype(int), 23)
    cell = (48 * np.mod(hour[inside] / (2 * np.pi), 1.0)).astype(int)
    counts = np.bincount((time * 24 + ring) * 48 + cell, minlength=48 * 24 * 48).reshape(48, -1)
    return EventMap(counts, grid, "list", Provenance("list"), frame=frame)


def nulls_of(events):
    return null_tests(
        EastWest(),
        frames=[binned(events, "anti-sidereal"), binned(events, "extended-sidereal")],
        epochs=[binned(events, "sidereal", days) for days in ((0, 182.625), (182.625, 365.25))],
    )


def test_a_sidereal_dipole_passes_all_nulls():
    events = year_of_events(np.random.default_rng(40), sidereal=0.06)
    found = EastWest().reconstruct(binned(events, "sidereal"))
    sigma = np.sqrt(found.covariance[0, 0])
    assert found.components[0] == pytest.approx([0.06, 0.0], abs=4 * sigma)
    assert found.amplitude[0] > 6 * sigma
    for test in nulls_of(events):
        assert test.passed(1e-3), test


def test_a_seasonal_solar_wave_is_flagged():
    """Solar amplitude 0.1, all of it seasonal: 0.05 at the sidereal and the anti-sidereal frequency."""
    events = year_of_events(np.random.default_rng(41), solar=0.1)
    anti, extended, epochs = nulls_of(events)
    assert not anti.passed(1e-6)
    assert extended.passed(1e-3)
    assert not epochs.passed(1e-6)
    false = EastWest().reconstruct(binned(events, "sidereal"))
    mirror = EastWest().reconstruct(binned(events, "anti-sidereal"))
    with_systematic = antisidereal_systematic(false, mirror)
    # The spurious sidereal dipole is within the systematic error that its side band gives.
    total = with_systematic.covariance + with_systematic.systematic
    assert false.components[0] @ np.linalg.solve(total, false.components[0]) < 6.0
    assert false.components[0] @ np.linalg.solve(false.covariance, false.components[0]) > 25.0


def test_the_scan_shows_the_line_and_its_side_bands():
    """A solar line of 0.1 with side bands of 0.05, and a sidereal dipole of 0.08 on top of one of them in phase."""
    events = year_of_events(np.random.default_rng(42), solar=0.1, sidereal=0.08)
    day, azimuth, zenith = events[:3]
    scan = east_west_scan(day, azimuth, zenith, np.array([363.25, 364.25, 365.25, 366.25, 367.25]) / u.yr)
    sigma = np.sqrt(scan.covariance[:, 0, 0])
    np.testing.assert_allclose(scan.amplitude[1:4], [0.05, 0.1, 0.13], atol=4 * sigma.max())
    assert np.all(scan.chance_probability[[0, 4]] > 1e-3)
    assert np.all(scan.chance_probability[1:4] < 1e-9)
    assert np.all(scan.amplitude[[0, 4]] < scan.isotropic_amplitude(0.999)[[0, 4]])


def test_the_scan_at_the_sidereal_frequency_is_the_analysis_of_the_list():
    """The sums of one harmonic are the same; only the epoch of the angle is free."""
    events = year_of_events(np.random.default_rng(43), sidereal=0.06)
    day, azimuth, zenith = (x[:50_000] for x in events[:3])
    angle = 2 * np.pi * np.mod((day - 17.0) * 366.25 / 365.25, 1.0)
    single = east_west_events(angle, azimuth, zenith, fitted_harmonics=1)
    scan = east_west_scan(day, azimuth, zenith, 366.25 / u.yr, epoch_mjd=17.0)
    np.testing.assert_allclose(scan.components[0], single.components, rtol=1e-8)
    np.testing.assert_allclose(scan.covariance[0], single.covariance, rtol=1e-8)
    assert scan.chance_probability[0] == pytest.approx(single.chance_probability, rel=1e-6)
    assert single.upper_limit(0.95) > single.amplitude


def test_a_null_that_is_tested_with_the_wrong_clock_would_see_the_sky():
    """Events whose direction was not recomputed for the frame keep their sidereal dipole there."""
    events = year_of_events(np.random.default_rng(44), sidereal=0.1)
    right = binned(events, "extended-sidereal")
    stale = EventMap(
        binned(events, "sidereal").counts, right.grid, "stale", Provenance("stale"), frame="extended-sidereal"
    )
    good, bad = null_tests(EastWest(), frames=[right, stale])
    assert good.passed(1e-3)
    assert not bad.passed(1e-6)
