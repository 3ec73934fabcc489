"""Public event lists: IceCube's with both coordinate systems and good runs, Auger's with weights and unix times."""

import os
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import erfa
import numpy as np
import pandas as pd
import pytest
from astropy.time import Time
from astropy.utils import iers

from obsfit.errors import DataFormatError
from obsfit.ingest.event_columns import (
    AZIMUTH_CONVENTIONS,
    EnergyColumn,
    EquatorialColumns,
    EventColumns,
    GoodRuns,
    LocalColumns,
    TimeColumn,
)
from obsfit.ingest.event_transforms import (
    azimuth_zenith_angles,
    clock_angle,
    equator_of_date,
    equator_of_j2000,
    hour_angle_declination,
)
from obsfit.ingest.events import read_events
from obsfit.observatory import Observatory

EVENTS, RUNS = "icecube_ic40_point_source_events.csv", "icecube_ic40_uptime.csv"
AUGER_EVENTS = "auger_2017_events_above_8EeV.dat"
POLE = Observatory("IceCube", -90 * u.deg, 0 * u.deg, 89 * u.deg)
# Where the detector stands, to 0.0001 deg: 0.0056 deg from the pole.
SITE_LATITUDE, SITE_LONGITUDE = np.radians(-89.9944), np.radians(-63.4531)
AUGER = Observatory("Auger", -35.2 * u.deg, -69.28 * u.deg, 83 * u.deg)
ICECUBE_COLUMNS = EventColumns(
    time=TimeColumn("MJD[days]", "mjd"), local=LocalColumns("Azimuth[deg]", "Zenith[deg]", "deg", "icecube"),
    equatorial=EquatorialColumns("RA[deg]", "Dec[deg]", "deg", "J2000"),
    energy=EnergyColumn("log10(E/GeV)", "GeV", log10=True),
)  # fmt: skip
AUGER_COLUMNS = EventColumns(
    time=TimeColumn("UTC", "unix"), equatorial=EquatorialColumns("RA", "dec", "deg", "date"), weight="weight"
)


def source(name):
    folder = os.environ.get("OBSFIT_DATA_SOURCES", "")
    path = Path(folder) / "files" / name
    if not folder or not path.is_file():
        pytest.skip(f"{name} is not at hand (folder named by OBSFIT_DATA_SOURCES)")
    return path


@pytest.fixture(scope="module")
def icecube():
    """MJD, and RA, Dec, azimuth and zenith in radians as printed."""
    mjd, _, _, *angles = np.loadtxt(source(EVENTS)).T
    return mjd, *np.radians(angles)


@pytest.fixture(scope="module")
def auger():
    """Right ascension, declination, azimuth in radians as printed, weight, UTC."""
    _, _, dec, ra, azimuth, weight, utc = np.loadtxt(source(AUGER_EVENTS)).T
    return np.radians(ra), np.radians(dec), np.radians(azimuth), weight, utc


def vectors(ra, dec):
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def apart_deg(first, second):
    """Angle between directions (ra, dec), by the chord."""
    chord = np.linalg.norm(vectors(*first) - vectors(*second), axis=-1)
    return np.degrees(2 * np.arcsin(chord / 2))


def eastward(azimuth, convention):
    offset, sign = AZIMUTH_CONVENTIONS[convention]
    return offset + sign * azimuth


def test_icecube_printed_positions_follow_from_time_and_local_direction(icecube):
    """Within 0.015 deg in J2000 (measured 0.0142): what the mean equator and the exact pole leave out.

    That is nutation (0.005 deg), aberration (0.006), the distance of the detector from the pole (0.006) and UT1 - UTC
    (0.002): the next test puts them in. Without precession, the list is up to 0.07 deg away.
    """
    mjd, ra, dec, azimuth, zenith = icecube
    hour_angle, dec_date = hour_angle_declination(eastward(azimuth, "icecube"), zenith, -np.pi / 2)
    of_date = clock_angle(mjd, 0.0) - hour_angle, dec_date
    found = apart_deg(equator_of_j2000(*of_date, mjd), (ra, dec))
    assert len(found) == 36900
    assert found.max() < 0.015
    assert apart_deg(of_date, (ra, dec)).max() > 0.06


def test_icecube_positions_are_exact_with_nutation_aberration_and_the_site(icecube):
    """To the printed precision: four numbers rounded at 0.001 deg; measured 0.0005 in the median, 0.0013 at most.

    Apparent places by erfa from the printed ones, with UTC for UT1 as the list evidently has it; ours from time, site
    and local direction. Azimuth is that of a grid whose North is the meridian of Greenwich.
    """
    mjd, ra, dec, azimuth, zenith = icecube
    with iers.conf.set_temp("auto_download", False):
        time = Time(mjd, format="mjd", scale="utc")
        tt, ut1 = time.tt, time.ut1
    velocity = erfa.epv00(tt.jd1, tt.jd2)[1]["v"] / 173.1446326846693
    apparent = vectors(ra, dec) + velocity
    apparent = np.einsum("nij,nj->ni", erfa.pnm06a(tt.jd1, tt.jd2), apparent)
    apparent /= np.linalg.norm(apparent, axis=-1, keepdims=True)
    their_clock = erfa.gst06a(time.jd1, time.jd2, tt.jd1, tt.jd2) - erfa.gmst06(ut1.jd1, ut1.jd2, tt.jd1, tt.jd2)

    from_north = eastward(azimuth, "icecube") - SITE_LONGITUDE
    hour_angle, dec_true = hour_angle_declination(from_north, zenith, SITE_LATITUDE)
    ra_true = clock_angle(mjd, SITE_LONGITUDE) + their_clock - hour_angle
    expected = np.arctan2(apparent[:, 1], apparent[:, 0]), np.arcsin(apparent[:, 2])
    found = apart_deg((ra_true, dec_true), expected)
    assert np.median(found) < 0.0006
    assert found.max() < 0.0015


def test_only_icecube_azimuth_is_from_grid_east_towards_grid_north(icecube):
    mjd, ra, dec, azimuth, zenith = icecube
    for name in AZIMUTH_CONVENTIONS:
        hour_angle, dec_date = hour_angle_declination(eastward(azimuth, name), zenith, -np.pi / 2)
        found = apart_deg((clock_angle(mjd, 0.0) - hour_angle, dec_date), equator_of_date(ra, dec, mjd))
        right = name in ("icecube", "auger", "east-north")
        assert (np.median(found) < 0.01) == right
        assert right or np.median(found) > 10


def test_icecube_list_is_read_with_both_coordinates_and_good_runs(icecube):
    zenith = icecube[4]
    runs = GoodRuns(str(source(RUNS)), "MJD_start[days]", "MJD_stop[days]", "mjd")
    (found,) = read_events(source(EVENTS), replace(ICECUBE_COLUMNS, good_runs=runs), observatory=POLE)
    assert found.total == np.count_nonzero(zenith <= np.radians(89) + 1e-9)
    # At the pole the cells of hour angle are azimuths and bands are zenith angles, whatever the time.
    bands = np.histogram(zenith[zenith <= np.radians(89)], np.linspace(0, np.pi, 129))[0]
    # One zenith is printed as 33.750 deg, the edge of two bands, and rounding decides.
    assert np.abs(found.per_cell.sum(axis=1) - bands).max() <= 1
    assert np.abs(found.per_cell.sum(axis=1) - bands).sum() <= 2
    assert found.provenance.meta["outside_runs"] == 0


def test_icecube_events_outside_a_shortened_run_list_are_found(icecube, tmp_path):
    mjd = icecube[0]
    lines = source(RUNS).read_text().splitlines()
    start, stop = map(float, lines[200].split())
    (tmp_path / "runs.txt").write_text("\n".join(lines[:200] + lines[201:]))
    runs = GoodRuns(str(tmp_path / "runs.txt"), "MJD_start[days]", "MJD_stop[days]", "mjd")
    columns = replace(ICECUBE_COLUMNS, good_runs=runs)
    lost = np.flatnonzero((mjd >= start) & (mjd <= stop))
    with pytest.raises(DataFormatError, match="outside the good runs") as caught:
        read_events(source(EVENTS), columns, observatory=POLE)
    assert [bad.row for bad in caught.value.bad] == list(lost[:20] + 1)
    (kept,) = read_events(
        source(EVENTS), replace(columns, good_runs=replace(runs, outside="drop")), observatory=POLE
    )
    assert kept.provenance.meta["outside_runs"] == lost.size


@pytest.mark.parametrize("wrong", ["north-east", "west-north", "east-south"])
def test_wrong_axes_of_icecube_are_found_and_named(wrong):
    columns = replace(ICECUBE_COLUMNS, local=replace(ICECUBE_COLUMNS.local, azimuth_convention=wrong))
    with pytest.raises(DataFormatError, match="with azimuth_convention = 'east-north'"):
        read_events(source(EVENTS), columns, observatory=POLE)


def test_a_wrong_longitude_of_icecube_is_found():
    with pytest.raises(DataFormatError, match="check longitude, time format and equinox"):
        read_events(source(EVENTS), ICECUBE_COLUMNS, observatory=replace(POLE, longitude=-63.45 * u.deg))


def auger_azimuth_difference(ra, dec, azimuth, mjd):
    """Printed azimuth less that of our transforms, deg on the sky, of events within 58 deg of the zenith."""
    latitude, longitude = np.radians(-35.207), np.radians(-69.277)
    ours, zenith = azimuth_zenith_angles(clock_angle(mjd, longitude) - ra, dec, latitude)
    difference = np.angle(np.exp(1j * (eastward(azimuth, "auger") - ours))) * np.sin(zenith)
    return np.degrees(difference), zenith < np.radians(58)


def test_auger_azimuths_follow_from_time_and_equatorial_directions(auger):
    """From East towards North, within 0.4 deg (measured 0.36, rms 0.12).

    Angles are rounded at 0.1 deg, and over an array 60 km wide the vertical turns by 0.3 deg. The azimuths of inclined
    events, from 60 deg on, are 0.6 deg off in the median and left out: why, the list does not say.
    """
    ra, dec, azimuth, _, utc = auger
    difference, vertical = auger_azimuth_difference(ra, dec, azimuth, utc / 86400 + 40587)
    assert np.count_nonzero(vertical) == 24217
    assert np.abs(difference[vertical]).max() < 0.4
    assert difference[vertical].std() < 0.13
    assert np.abs(np.median(difference[vertical])) < 0.02


def test_auger_right_ascensions_are_of_date(auger):
    """Were they of J2000, azimuths would drift by 0.056 deg in these twelve years; measured: -0.002, error 0.003."""
    ra, dec, azimuth, _, utc = auger
    mjd = utc / 86400 + 40587
    drift = {}
    for equinox, direction in {"date": (ra, dec), "J2000": equator_of_date(ra, dec, mjd)}.items():
        difference, vertical = auger_azimuth_difference(*direction, azimuth, mjd)
        slope = np.polyfit(mjd[vertical], difference[vertical], 1)[0]
        drift[equinox] = slope * (mjd[-1] - mjd[0])
    assert abs(drift["date"]) < 0.01
    assert abs(drift["J2000"]) > 0.045


def test_auger_first_harmonic_is_the_published_one(auger):
    """Science 357, 1266, Table 1: a = -0.008, b = 0.046, each with error 0.008; amplitude 0.047, phase 100 deg."""
    ra, _, _, weight, _ = auger
    assert weight.size == 32187
    harmonic = 2 * np.sum(weight * np.exp(1j * ra)) / weight.sum()
    assert harmonic.real == pytest.approx(-0.008, abs=5e-4)
    assert harmonic.imag == pytest.approx(0.046, abs=5e-4)
    assert abs(harmonic) == pytest.approx(0.047, abs=5e-4)
    assert np.degrees(np.angle(harmonic)) == pytest.approx(100.0, abs=0.5)


def test_auger_sums_on_rings_keep_weights_and_the_first_harmonic(auger):
    """In cells of one degree; the harmonic within the scatter of random places in cells, 0.4 deg sqrt(2 / N)."""
    ra, _, _, weight, utc = auger
    (found,) = read_events(source(AUGER_EVENTS), AUGER_COLUMNS, observatory=AUGER)
    assert found.provenance.meta["kept"] == 32187
    assert found.total == pytest.approx(weight.sum(), rel=1e-12)
    assert found.squared is not None
    assert found.squared[0].sum() == pytest.approx(np.sum(weight**2), rel=1e-12)
    centres = found.grid.right_ascension_rad
    harmonic = 2 * np.sum(found.per_sky.sum(axis=0) * np.exp(1j * centres)) / found.total
    expected = 2 * np.sum(weight * np.exp(1j * ra)) / weight.sum()
    assert abs(harmonic - expected) < 2e-4
    start = pd.to_datetime(utc.min(), unit="s")
    assert (start.year, start.month, start.day) == (2004, 1, 1)
