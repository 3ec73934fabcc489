"""Sums of event lists against histograms of numpy; and what must not change them."""

import astropy.units as u
import healpy as hp
import numpy as np
import pandas as pd
import pytest
from astropy.time import Time

from obsfit.ingest import _binning_kernels as kernels
from obsfit.ingest.event_columns import (
    Cut,
    EnergyColumn,
    EquatorialColumns,
    EventColumns,
    LocalColumns,
    TimeColumn,
)
from obsfit.ingest.events import count_events, read_event_map, read_events
from obsfit.mock.detector import Acceptance, MockDetector
from obsfit.mock.event_lists import draw_events
from obsfit.mock.skies import isotropic_sky
from obsfit.observatory import Observatory
from obsfit.records.event_map import HealpixLocalGrid, HourAngleGrid

SITE = Observatory("mid latitude", 19.0 * u.deg, -97.0 * u.deg, 50.0 * u.deg)
GRID = HourAngleGrid(24, 36)
LOCAL = LocalColumns("azimuth", "zenith", "deg", "north-east")
COLUMNS = EventColumns(time=TimeColumn("mjd", "mjd"), local=LOCAL)
N = 20_000


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(11)
    return pd.DataFrame({
        "mjd": rng.uniform(57000.0, 57400.0, N),
        "azimuth": rng.uniform(0.0, 360.0, N),
        "zenith": np.degrees(np.arccos(rng.uniform(np.cos(np.radians(60.0)), 1.0, N))),
        "weight": rng.uniform(0.2, 3.0, N),
        "energy": 10.0 ** rng.uniform(0.0, 3.0, N),
    })  # fmt: skip


@pytest.fixture(scope="module")
def written(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "list.parquet"
    events.to_parquet(path, index=False)
    return path


def sides(events):
    """Local sidereal angle by astropy; hour angle and declination by spherical trigonometry; inside the cut."""
    sidereal = Time(events["mjd"].to_numpy(), format="mjd").sidereal_time("mean", longitude=SITE.longitude).rad
    azimuth, elevation = np.radians(events["azimuth"]), np.radians(90 - events["zenith"])
    latitude = SITE.latitude.to_value(u.rad)
    dec = np.arcsin(np.sin(latitude) * np.sin(elevation) + np.cos(latitude) * np.cos(elevation) * np.cos(azimuth))
    hour_angle = np.arctan2(
        -np.sin(azimuth) * np.cos(elevation) * np.cos(latitude),
        np.sin(elevation) - np.sin(latitude) * np.sin(dec),
    )
    inside = (events["zenith"] <= 50).to_numpy()
    return tuple(np.asarray(x)[inside] for x in (sidereal, hour_angle % (2 * np.pi), dec)), inside


def brute_force(sidereal, hour_angle, dec, weights=None):
    """The cube n[t, r, j] by numpy, and its four sums by loops over t."""
    around = np.linspace(0, 2 * np.pi, GRID.n_time + 1)
    bands = np.linspace(-np.pi / 2, np.pi / 2, GRID.n_dec + 1)
    sample = np.column_stack([sidereal, dec, hour_angle])
    cube, _ = np.histogramdd(sample, bins=(around, bands, around), weights=weights)
    sky = np.zeros((GRID.n_dec, GRID.n_time))
    for t in range(GRID.n_time):
        for k in range(GRID.n_time):
            sky[:, k] += cube[t, :, (t - k) % GRID.n_time]
    fine, _ = np.histogram(dec, np.linspace(-np.pi / 2, np.pi / 2, 8 * GRID.n_dec + 1), weights=weights)
    return cube.sum(axis=(1, 2)), cube.sum(axis=0), sky, fine


def sums(counts):
    return counts.per_time, counts.per_cell, counts.per_sky, counts.per_declination


def same(first, second, rtol=0.0):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-9 if rtol else 0.0)


def test_counts_are_those_of_histogramdd(events, written):
    (found,) = read_events(written, COLUMNS, observatory=SITE, grid=GRID)
    columns, inside = sides(events)
    same(sums(found), brute_force(*columns))
    assert found.total == inside.sum()
    assert found.squared is None


def test_weights_and_their_squares_are_those_of_histogramdd(events, written):
    weighted = EventColumns(time=TimeColumn("mjd", "mjd"), local=LOCAL, weight="weight")
    (found,) = read_events(written, weighted, observatory=SITE, grid=GRID)
    columns, inside = sides(events)
    weights = events["weight"].to_numpy()[inside]
    same(sums(found), brute_force(*columns, weights), rtol=1e-12)
    same(found.squared, brute_force(*columns, weights**2), rtol=1e-12)


def test_compiled_and_plain_python_agree():
    rng = np.random.default_rng(12)
    n, shape = 700, (24, 36, 4)
    args = rng.uniform(-7, 7, n), rng.uniform(-7, 7, n), rng.uniform(-1.5, 1.5, n)
    which, weight = rng.integers(0, 2, n).astype(np.int32), rng.uniform(0, 2, n)
    for energy_bin, w in ((None, None), (which, None), (which, weight)):
        tables = []
        for function in (kernels.add_to_rings, kernels.add_to_rings.py_func):
            planes = [tuple(np.zeros(s) for s in ((2, 36), (2, 24, 36), (2, 24, 36), (2, 96))) for _ in range(2)]
            function(*args, energy_bin, w, shape, planes[0], None if w is None else planes[1])
            tables.append(planes)
        for plane in range(2):
            same(tables[0][plane], tables[1][plane])
        assert tables[0][0][0].sum() == pytest.approx(n if w is None else weight.sum())


def test_energy_bins_are_selections(events, written):
    columns = EventColumns(
        time=TimeColumn("mjd", "mjd"), local=LOCAL,
        energy=EnergyColumn("energy", "GeV", bins=(("30 GeV", "0.1 TeV"), ("2 GeV", "30 GeV"))),
    )  # fmt: skip
    found = read_events(written, columns, observatory=SITE, grid=GRID)
    assert [counts.energy for counts in found] == ["0.002-0.03 TeV", "0.03-0.1 TeV"]
    for counts, (low, high) in zip(found, ((2, 30), (30, 100)), strict=True):
        part = events[(events["energy"] >= low) & (events["energy"] < high)]
        same(sums(counts), brute_force(*sides(part)[0]))
    edges = EventColumns(time=TimeColumn("mjd", "mjd"), local=LOCAL, energy=EnergyColumn("energy", "GeV"))
    again = read_events(written, edges, observatory=SITE, grid=GRID, energy_edges=[2, 30, 100] * u.GeV)
    for counts, other in zip(found, again, strict=True):
        same(sums(counts), sums(other))


def test_cuts_are_selections(events, written):
    columns = EventColumns(
        time=TimeColumn("mjd", "mjd"), local=LOCAL, cuts=(Cut("energy", minimum=10.0), Cut("weight", maximum=2.0))
    )
    (found,) = read_events(written, columns, observatory=SITE, grid=GRID)
    part = events[(events["energy"] >= 10) & (events["weight"] < 2)]
    same(sums(found), brute_force(*sides(part)[0]))
    assert found.provenance.meta["cut"] == N - len(part)


def test_pieces_of_which_nothing_is_left_do_no_harm(events):
    columns = EventColumns(time=TimeColumn("mjd", "mjd"), local=LOCAL, cuts=(Cut("energy", minimum=10.0),))
    part = events.iloc[:300]
    (found,) = count_events(part, columns, observatory=SITE, grid=GRID, rows=1)
    same(sums(found), brute_force(*sides(part[part["energy"] >= 10])[0]))


@pytest.mark.parametrize("rows", [1, 997, N, 10 * N])
def test_the_size_of_pieces_changes_nothing(events, written, rows):
    part = events.iloc[:3000] if rows == 1 else events
    whole = count_events(part, COLUMNS, observatory=SITE, grid=GRID)[0]
    path = written
    if rows == 1:
        path = written.with_name("short.parquet")
        part.to_parquet(path, index=False)
    (found,) = read_events(path, COLUMNS, observatory=SITE, grid=GRID, rows=rows)
    same(sums(found), sums(whole))


def test_order_and_number_of_files_change_nothing(events, written, tmp_path):
    parts = []
    for i, cut in enumerate(np.split(np.random.default_rng(13).permutation(N), [100, 5000, 12000])):
        parts.append(tmp_path / f"part{i}.parquet")
        events.iloc[cut].to_parquet(parts[-1], index=False)
    (whole,) = read_events(written, COLUMNS, observatory=SITE, grid=GRID)
    results = [
        read_events(paths, COLUMNS, observatory=SITE, grid=GRID, rows=777)[0] for paths in (parts, parts[::-1])
    ]
    for found in results:
        same(sums(found), sums(whole))
    assert results[0].provenance.sha256 == results[1].provenance.sha256


def test_relabelling_changes_nothing(events):
    """Other names, units, clocks and azimuths of the same events."""
    whole = count_events(events, COLUMNS, observatory=SITE, grid=GRID)[0]
    time = Time(events["mjd"].to_numpy(), format="mjd", scale="utc")
    azimuth = events["azimuth"]
    other = pd.DataFrame({
        "jd": time.jd1 + time.jd2, "t": (events["mjd"] - 40587) * 86400, "utc": time.isot,
        "stamp": pd.to_datetime(time.isot), "lst": time.sidereal_time("mean", longitude=SITE.longitude).hour,
        "A": np.radians(azimuth), "Z": np.radians(events["zenith"]), "height": np.radians(90 - events["zenith"]),
        "south-west": np.radians((azimuth - 180) % 360), "east-north": np.radians((90 - azimuth) % 360),
        "west-south": np.radians((270 - azimuth) % 360), "north-west": np.radians(-azimuth),
    })  # fmt: skip
    cases = [
        (TimeColumn("jd", "jd"), LocalColumns("A", "Z", "rad", "north-east")),
        (TimeColumn("t", "unix"), LocalColumns("A", "height", "rad", "north-east", from_horizon=True)),
        (TimeColumn("utc", "utc"), LocalColumns("south-west", "Z", "rad", "south-west")),
        (TimeColumn("stamp", "utc"), LocalColumns("east-north", "Z", "rad", "east-north")),
        (TimeColumn("lst", "sidereal", "hourangle"), LocalColumns("east-north", "Z", "rad", "icecube")),
        (TimeColumn("t", "unix"), LocalColumns("west-south", "Z", "rad", "west-south")),
        (TimeColumn("t", "unix"), LocalColumns("north-west", "Z", "rad", "north-west")),
    ]
    for clock, local in cases:
        (found,) = count_events(other, EventColumns(time=clock, local=local), observatory=SITE, grid=GRID)
        # Milliseconds of ISO strings and 40 microseconds of a JD move events across edges: one in 1e5 of them.
        moved = sum(np.abs(a - b).sum() for a, b in zip(sums(found), sums(whole), strict=True))
        assert moved <= 16, (clock, local)
        assert found.total == whole.total


def test_equatorial_and_local_columns_of_one_list_give_the_same_sums(events):
    """With right ascension of date, by astropy's sidereal time and the trigonometry above."""
    (sidereal, hour_angle, dec), inside = sides(events)
    table = events[inside].copy()
    table["ra"], table["dec"] = np.degrees(sidereal - hour_angle) % 360, np.degrees(dec)
    sky = EquatorialColumns("ra", "dec", "deg", "date")
    wide = Observatory(SITE.name, SITE.latitude, SITE.longitude, 51 * u.deg)
    results = [
        count_events(table, columns, observatory=wide, grid=GRID)[0]
        for columns in (
            COLUMNS, EventColumns(time=COLUMNS.time, equatorial=sky),
            EventColumns(time=COLUMNS.time, local=LOCAL, equatorial=sky),
        )
    ]  # fmt: skip
    same(sums(results[0]), sums(results[1]))
    same(sums(results[0]), sums(results[2]))


@pytest.mark.parametrize("frame", ["sidereal", "solar", "anti-sidereal", "extended-sidereal"])
def test_other_clocks_turn_the_time_bins_alone(events, frame):
    """Cells know no clock; the angle of each frame written out from sidereal and solar time."""
    columns = EventColumns(time=TimeColumn("mjd", "mjd"), local=LOCAL, frame=frame)
    (found,) = count_events(events, columns, observatory=SITE, grid=GRID)
    (sidereal, hour_angle, dec), inside = sides(events)
    solar = 2 * np.pi * (events["mjd"].to_numpy()[inside] % 1) + SITE.longitude.to_value(u.rad)
    angle = {
        "sidereal": sidereal, "solar": solar, "anti-sidereal": 2 * solar - sidereal,
        "extended-sidereal": 2 * sidereal - solar,
    }[frame]  # fmt: skip
    same(sums(found), brute_force(angle % (2 * np.pi), hour_angle, dec))
    assert found.frame == frame


def test_an_event_map_on_rings_has_the_same_sums(events, written):
    weighted = EventColumns(time=TimeColumn("mjd", "mjd"), local=LOCAL, weight="weight")
    for columns in (COLUMNS, weighted):
        events_map = read_event_map(written, columns, observatory=SITE, grid=GRID, rows=1234)
        (counts,) = read_events(written, columns, observatory=SITE, grid=GRID)
        for values, expected in ((events_map.counts, counts), (events_map.squared_weights, counts.squared)):
            if values is None:
                continue
            cube = values.reshape(GRID.n_time, GRID.n_dec, GRID.n_time)
            per_time, per_cell = sums(expected)[:2] if expected is counts else expected[:2]
            np.testing.assert_allclose(cube.sum(axis=(1, 2)), per_time, rtol=1e-12)
            np.testing.assert_allclose(cube.sum(axis=0), per_cell, rtol=1e-12)


def test_an_event_map_on_healpix_is_in_axes_north_west_up(events, written):
    latitude = SITE.latitude.to_value(u.rad)
    events_map = read_event_map(written, COLUMNS, observatory=SITE, grid=HealpixLocalGrid(8, latitude), n_time=36)
    (sidereal, _, _), inside = sides(events)
    azimuth, zenith = np.radians(events["azimuth"][inside]), np.radians(events["zenith"][inside])
    vector = np.cos(azimuth) * np.sin(zenith), -np.sin(azimuth) * np.sin(zenith), np.cos(zenith)
    pixel = hp.vec2pix(8, *vector)
    expected = np.zeros((36, 768))
    np.add.at(expected, ((sidereal / (2 * np.pi) * 36).astype(int), pixel), 1.0)
    np.testing.assert_array_equal(events_map.counts, expected)


def test_an_equatorial_list_fills_the_same_local_pixels(events):
    (sidereal, hour_angle, dec), inside = sides(events)
    azimuth, zenith = np.radians(events["azimuth"][inside]), np.radians(events["zenith"][inside])
    pixel = hp.ang2pix(8, np.asarray(zenith), -np.asarray(azimuth))
    table = {"lst": sidereal, "ra": np.mod(sidereal - hour_angle, 2 * np.pi), "dec": dec}
    columns = EventColumns(
        time=TimeColumn("lst", "sidereal", "rad"), equatorial=EquatorialColumns("ra", "dec", "rad", "date")
    )
    (counts,) = count_events(table, columns, observatory=SITE, grid=GRID)
    same(sums(counts), brute_force(sidereal, hour_angle, dec))
    assert np.bincount(pixel).sum() == counts.total


def test_progress_tells_every_row(written):
    seen = []
    read_events(written, COLUMNS, observatory=SITE, grid=GRID, rows=3000, progress=seen.append)
    assert sum(seen) == N
    assert max(seen) <= 3000


@pytest.mark.parametrize("frame", ["sidereal", "solar", "anti-sidereal", "extended-sidereal"])
def test_mock_lists_are_understood_in_every_frame(frame):
    """Lists of the mock observatory, whose clocks and rotations are its own: all axes and clocks mean the same.

    Its days are of UT1, and the readers' of UTC: less than 1 s apart, which moves 2 events in 1000 to the next of 36
    bins at most.
    """
    detector = MockDetector(SITE, Acceptance(power=1.0, east_west=0.3))
    rng = np.random.default_rng(14)
    table = draw_events(isotropic_sky(), detector, n_events=5000, start_mjd=57000, stop_mjd=57365, rng=rng)
    columns = EventColumns(
        time=TimeColumn("mjd", "mjd"), frame=frame,
        local=LocalColumns("azimuth_rad", "zenith_rad", "rad", "north-east"),
        equatorial=EquatorialColumns("right_ascension_rad", "declination_rad", "rad", "date"),
        weight="weight", energy=EnergyColumn("energy_tev", "TeV"), agreement_deg=0.02,
    )  # fmt: skip
    (found,) = count_events(table, columns, observatory=SITE, grid=GRID)
    clock, sidereal = table[f"{frame.replace('-', '_')}_rad"], table["sidereal_rad"]
    hour_angle = (sidereal - table["right_ascension_rad"]).to_numpy() % (2 * np.pi)
    expected = brute_force(clock.to_numpy(), hour_angle, table["declination_rad"].to_numpy())
    for name, mine, theirs in zip(("time", "cell", "sky", "dec"), sums(found), expected, strict=True):
        allowed = 0 if name in ("cell", "dec") else 0.002 * len(table)
        assert np.abs(mine - theirs).sum() / 2 <= allowed, name
    # Hour angles of the East are negative; 0.548 expected of the acceptance, with an error of 0.007.
    east = found.per_cell[:, GRID.n_time // 2 :].sum()
    assert east / found.total == pytest.approx(0.548, abs=0.025)
