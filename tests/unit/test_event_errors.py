"""Bad event lists and configurations, each refused by name before anything is made of them."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pandas as pd
import pytest

from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.event_columns import (
    AZIMUTH_CONVENTIONS,
    Cut,
    EnergyColumn,
    EquatorialColumns,
    EventColumns,
    GoodRuns,
    LocalColumns,
    TimeColumn,
)
from obsfit.ingest.events import count_events, read_event_map, read_events
from obsfit.observatory import Observatory
from obsfit.records.event_map import HealpixLocalGrid, HourAngleGrid

SITE = Observatory("mid latitude", 19.0 * u.deg, -97.0 * u.deg, 50.0 * u.deg)
GRID = HourAngleGrid(24, 36)
TIME = TimeColumn("mjd", "mjd")
LOCAL = LocalColumns("azimuth", "zenith", "deg", "north-east")
COLUMNS = EventColumns(time=TIME, local=LOCAL)
SKY = EventColumns(time=TIME, equatorial=EquatorialColumns("ra", "dec", "deg", "date"))
N = 1000


@pytest.fixture
def events():
    rng = np.random.default_rng(31)
    return pd.DataFrame({
        "mjd": np.sort(rng.uniform(57000.0, 57001.0, N)), "azimuth": rng.uniform(0.0, 360.0, N),
        "zenith": rng.uniform(0.0, 45.0, N), "weight": rng.uniform(0.5, 2, N), "energy": rng.uniform(1, 100, N),
        "ra": rng.uniform(0, 360, N), "dec": rng.uniform(-20, 50, N),
    })  # fmt: skip


def refused(events, columns, tmp_path, **options):
    """The error that a file of these events gives, and that it names the file."""
    path = tmp_path / "list.parquet"
    events.to_parquet(path, index=False)
    with pytest.raises(DataFormatError) as caught:
        read_events(path, columns, observatory=SITE, grid=GRID, **options)
    assert "list.parquet" in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("zenith", 181.0, "0 to 180 deg"), ("zenith", -1.0, "0 to 180 deg"), ("azimuth", 400.0, "-360 to 360 deg"),
        ("zenith", np.nan, "not a finite number"), ("azimuth", np.inf, "not a finite number"),
        ("mjd", np.nan, "not a finite number"), ("mjd", 2457000.5, "would be a time as jd"),
        ("mjd", 1418000000.0, "would be a time as unix"), ("mjd", 1418000000000.0, "in milliseconds"),
        ("mjd", 0.0, "41317 to 70000"), ("weight", -0.5, "weight -0.5 is negative"),
        ("weight", np.nan, "not a finite number"), ("energy", 0.0, "energy 0 is not positive"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named_with_its_row_column_and_value(events, tmp_path, column, value, words):
    events.loc[776, column] = value
    columns = replace(COLUMNS, weight="weight", energy=EnergyColumn("energy", "TeV"))
    error = refused(events, columns, tmp_path, rows=100)
    assert words in str(error)
    assert (error.row, error.column) == (777, column)
    assert error.value == value or np.isnan(value)
    assert error.expected
    assert error.remedy


def test_the_first_twenty_bad_rows_are_listed(events, tmp_path):
    events.loc[np.arange(13, N, 3), "zenith"] = -5.0
    error = refused(events, COLUMNS, tmp_path)
    assert [bad.row for bad in error.bad] == list(range(14, 14 + 60, 3))
    assert "row 71, column zenith: -5 is out of range" in str(error)
    assert f"{len(range(13, N, 3))} were found" in str(error)


def test_bad_rows_of_several_pieces_and_columns_are_in_order(events, tmp_path):
    events.loc[[950, 20], "zenith"] = -5.0
    events.loc[500, "azimuth"] = 999.0
    error = refused(events, COLUMNS, tmp_path, rows=100)
    assert [(bad.row, bad.column) for bad in error.bad] == [(21, "zenith"), (501, "azimuth"), (951, "zenith")]


def test_text_that_is_no_number_is_shown(events, tmp_path):
    path = tmp_path / "list.csv"
    table = events.astype(object)
    table.loc[41, "zenith"] = "12,5°"
    table.loc[43, "zenith"] = ""
    table.to_csv(path, index=False)
    with pytest.raises(DataFormatError) as caught:
        read_events(path, COLUMNS, observatory=SITE, grid=GRID)
    assert "row 42, column zenith: '12,5°' is not a finite number" in str(caught.value)
    assert "row 44, column zenith" in str(caught.value)


@pytest.mark.parametrize(("unit", "factor"), [("rad", np.pi / 180), ("hourangle", 1 / 15)])
def test_degrees_that_are_radians_or_hours_are_recognised(events, tmp_path, unit, factor):
    events["azimuth"] *= factor
    error = refused(events, COLUMNS, tmp_path)
    assert f"as they would be in {unit}" in str(error)
    assert error.column == "azimuth"


def test_radians_that_are_degrees_are_out_of_range(events, tmp_path):
    error = refused(events, replace(COLUMNS, local=replace(LOCAL, unit="rad")), tmp_path)
    assert "rad, as declared" in error.expected


def test_a_unit_of_the_file_and_another_of_the_configuration_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("#  mjd  azimuth[deg]  zenith[deg]\n57000 1 2\n")
    local = LocalColumns("azimuth[deg]", "zenith[deg]", "rad", "north-east")
    with pytest.raises(DataFormatError, match="is in deg, the configuration rad"):
        read_events(path, EventColumns(time=TIME, local=local), observatory=SITE)


def test_an_unknown_column_is_named_with_the_nearest(events, tmp_path):
    error = refused(events, replace(COLUMNS, weight="wieght"), tmp_path)
    assert "did you mean 'weight'" in str(error)
    assert error.column == "wieght"


def test_a_time_outside_good_runs_is_refused_or_dropped(events, tmp_path):
    runs = tmp_path / "runs.csv"
    runs.write_text("start,stop\n57000.5,57000.7\n57000.65,57000.8\n57000.0,57000.2\n")
    good = GoodRuns(str(runs), "start", "stop", "mjd")
    error = refused(events, replace(COLUMNS, good_runs=good), tmp_path)
    inside = (events["mjd"] <= 57000.2) | ((events["mjd"] >= 57000.5) & (events["mjd"] <= 57000.8))
    assert error.row == int(np.argmin(inside)) + 1
    assert "is outside the good runs" in str(error)
    drop = replace(COLUMNS, good_runs=replace(good, outside="drop"))
    (found,) = count_events(events, drop, observatory=SITE, grid=GRID)
    assert found.total == inside.sum()
    assert found.provenance.meta["outside_runs"] == N - inside.sum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start,stop\n57001,57000\n", "row 1, column stop"), ("start,stop\n", "has no rows"),
        ("start,stop\n57000,\n", "not a finite number"), ("begin,stop\n57000,57001\n", "unknown column 'start'"),
    ],
)  # fmt: skip
def test_a_bad_good_run_list_is_refused(events, tmp_path, text, words):
    runs = tmp_path / "runs.csv"
    runs.write_text(text)
    columns = replace(COLUMNS, good_runs=GoodRuns(str(runs), "start", "stop", "mjd"))
    with pytest.raises(DataFormatError, match=words) as caught:
        count_events(events, columns, observatory=SITE, grid=GRID)
    assert "runs.csv" in str(caught.value)


def test_a_declination_never_seen_is_refused(events, tmp_path):
    events.loc[[3, 4], "dec"] = [-75.0, 89.0]
    error = refused(events, SKY, tmp_path)
    assert "declination -75 deg is never above the horizon at latitude 19 deg" in str(error)
    assert [bad.row for bad in error.bad] in ([4], [])
    assert error.row == 4


def test_local_and_equatorial_directions_that_differ_name_the_right_axes(events, tmp_path):
    """Directions of date from astropy's sidereal time would be the same test twice: here the axes are turned."""
    north = count_columns(events)
    columns = EventColumns(
        time=TimeColumn("lst", "sidereal", "deg"), equatorial=SKY.equatorial,
        local=LocalColumns("azimuth", "zenith", "deg", "north-west"),
    )  # fmt: skip
    error = refused(north, columns, tmp_path)
    assert "with azimuth_convention = 'north-east'" in str(error)
    shifted = north.assign(ra=(north["ra"] + 30) % 360)
    assert "no azimuth_convention mends it" in str(refused(shifted, columns, tmp_path))
    good = replace(columns, local=replace(columns.local, azimuth_convention="north-east"))
    assert count_events(north, good, observatory=SITE, grid=GRID)[0].total == N
    one = north.copy()
    one.loc[7, "dec"] += 3.0
    error = refused(one, good, tmp_path)
    assert (error.row, len(error.bad)) == (8, 1)


def count_columns(events):
    """The same events with right ascension and declination by vectors."""
    azimuth, zenith, latitude = np.radians(events["azimuth"]), np.radians(events["zenith"]), np.radians(19.0)
    north, east, up = np.cos(azimuth) * np.sin(zenith), np.sin(azimuth) * np.sin(zenith), np.cos(zenith)
    x, z = up * np.cos(latitude) - north * np.sin(latitude), up * np.sin(latitude) + north * np.cos(latitude)
    lst = np.random.default_rng(32).uniform(0, 360, N)
    return events.assign(lst=lst, ra=(lst + np.degrees(np.arctan2(east, x))) % 360, dec=np.degrees(np.arcsin(z)))


def test_an_empty_field_of_view_tells_what_became_of_the_rows(events, tmp_path):
    columns = replace(COLUMNS, cuts=(Cut("zenith", minimum=30.0),))
    path = tmp_path / "list.parquet"
    events.to_parquet(path)
    narrow = replace(SITE, zenith_max=20 * u.deg)
    with pytest.raises(DataFormatError, match="no event is left in the field of view") as caught:
        read_events(path, columns, observatory=narrow, grid=GRID)
    cut = int((events["zenith"] < 30).sum())
    assert f"1000 rows read, {cut} cut, 0 outside good runs, {N - cut} beyond the zenith cut" in str(caught.value)


def test_an_energy_bin_without_events_is_refused(events, tmp_path):
    columns = replace(COLUMNS, energy=EnergyColumn("energy", "GeV"))
    error = refused(events, columns, tmp_path, energy_edges=[1, 50, 1e3, 1e4] * u.GeV)
    assert "energy bin 1-10 TeV" in str(error)


def test_a_wrong_unit_of_energy_leaves_every_bin_empty(events, tmp_path):
    columns = replace(COLUMNS, energy=EnergyColumn("energy", "GeV"))
    error = refused(events, columns, tmp_path, energy_edges=[10, 50] * u.TeV)
    assert "no event is left" in str(error)


@pytest.mark.parametrize(
    ("bins", "words"),
    [
        ((("1 TeV", "3 TeV"), ("2000 GeV", "5 TeV")), "1-3 TeV and 2-5 TeV overlap"),
        ((("3 TeV", "1 TeV"),), "3 to 1 TeV"), ((("1", "3 TeV"),), "1"),
        ((("1 TeV", "3 m"),), "does not convert to TeV"),
    ],
)  # fmt: skip
def test_bad_energy_bins_are_refused(bins, words):
    with pytest.raises(ConfigurationError, match=words):
        EnergyColumn("energy", "GeV", bins=bins)


@pytest.mark.parametrize("edges", [[3, 1] * u.TeV, [1] * u.TeV, [[1, 3], [2, 4]] * u.TeV, [[[1, 2]]] * u.TeV])
def test_bad_energy_edges_are_refused(events, edges):
    columns = replace(COLUMNS, energy=EnergyColumn("energy", "TeV"))
    with pytest.raises(ConfigurationError, match="energy"):
        count_events(events, columns, observatory=SITE, energy_edges=edges)


def test_energy_bins_given_twice_or_without_a_column_are_refused(events):
    edges = [1, 50] * u.TeV
    with pytest.raises(ConfigurationError, match="no column of energies"):
        count_events(events, COLUMNS, observatory=SITE, energy_edges=edges)
    columns = replace(COLUMNS, energy=EnergyColumn("energy", "TeV", bins=(("1 TeV", "2 TeV"),)))
    with pytest.raises(ConfigurationError, match="given twice"):
        count_events(events, columns, observatory=SITE, energy_edges=edges)


@pytest.mark.parametrize("options", [{"n_sub": 0}, {"rows": 0}])
def test_bad_sizes_are_refused(events, options):
    with pytest.raises(ConfigurationError, match="at least 1"):
        count_events(events, COLUMNS, observatory=SITE, grid=GRID, **options)


def test_a_file_given_twice_is_refused(events, tmp_path):
    path = tmp_path / "list.parquet"
    events.to_parquet(path)
    with pytest.raises(ConfigurationError, match="given twice"):
        read_events([path, tmp_path / "." / "list.parquet"], COLUMNS, observatory=SITE)
    with pytest.raises(ConfigurationError, match="no event list"):
        read_events([], COLUMNS, observatory=SITE)


def test_an_event_map_has_one_energy_bin_and_the_latitude_of_its_grid(events, tmp_path):
    path = tmp_path / "list.parquet"
    events.to_parquet(path)
    with pytest.raises(ConfigurationError, match=r"latitude is 20 deg"):
        read_event_map(path, COLUMNS, observatory=SITE, grid=HealpixLocalGrid(8, np.radians(20.0)))
    columns = replace(COLUMNS, energy=EnergyColumn("energy", "TeV"))
    with pytest.raises(ConfigurationError, match="2 energy bins"):
        read_event_map(path, columns, observatory=SITE, energy_edges=[1, 2, 3] * u.TeV)
    with pytest.raises(ConfigurationError, match="at most"):
        read_event_map(path, COLUMNS, observatory=SITE, grid=HealpixLocalGrid(2048, np.radians(19.0)))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: EventColumns(time=TIME), "no columns of directions"),
        (lambda: LocalColumns("a", "z", "deg", "north"), "one of north-east"),
        (lambda: LocalColumns("a", "z", "", "north-east"), "unit of angle"),
        (lambda: LocalColumns("a", "z", "TeV", "north-east"), "unit of angle"),
        (lambda: TimeColumn("t", "unxi"), "did you mean 'unix'"),
        (lambda: TimeColumn("t", "sidereal"), "unit of angle"),
        (lambda: TimeColumn("t", "mjd", "deg"), "no unit"),
        (lambda: EquatorialColumns("a", "d", "deg", "B1950"), "J2000, date"),
        (lambda: EnergyColumn("e", "deg"), "unit of energy"),
        (lambda: Cut("x"), "a minimum"),
        (lambda: Cut("x", 2.0, 1.0), "a minimum"),
        (lambda: replace(COLUMNS, frame="siderial"), "did you mean 'sidereal'"),
        (lambda: replace(COLUMNS, time=TimeColumn("t", "sidereal", "deg"), frame="solar"), "needs dates"),
        (lambda: replace(SKY, time=TimeColumn("t", "sidereal", "deg"),
                         equatorial=EquatorialColumns("a", "d", "deg", "J2000")), "equinox J2000 needs dates"),
        (lambda: replace(COLUMNS, names=("a", "a")), "repeat"),
        (lambda: replace(COLUMNS, agreement_deg=0.0), "agreement_deg"),
    ],
)  # fmt: skip
def test_a_configuration_that_leaves_something_to_guess_is_refused(made, words):
    with pytest.raises(ConfigurationError, match=words):
        made()


TOML = """
schema = 1
weight = "w"
frame = "anti-sidereal"
time = { name = "mjd", format = "mjd" }
local = { azimuth = "a", zenith = "z", unit = "deg", azimuth_convention = "icecube" }
energy = { name = "e", unit = "GeV", log10 = true, bins = [["8 TeV", "13 TeV"], ["13 TeV", "20 TeV"]] }
cuts = [{ column = "quality", minimum = 0.5 }]
good_runs = { path = "runs.csv", start = "a", stop = "b", format = "mjd", outside = "drop" }
"""


def test_columns_are_read_from_toml(tmp_path):
    path = tmp_path / "columns.toml"
    path.write_text(TOML)
    columns = load_configuration(path, EventColumns).relative_to(tmp_path)
    assert columns.energy.bins == (("8 TeV", "13 TeV"), ("13 TeV", "20 TeV"))
    assert columns.good_runs.path == str(tmp_path / "runs.csv")
    assert columns.used == ("mjd", "w", "a", "z", "e", "quality")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('weight = "w"', 'wieght = "w"', "did you mean 'weight'"),
        ('unit = "deg", ', "", "local.unit.* is missing"),
        (', azimuth_convention = "icecube"', "", "azimuth_convention"),
        ('format = "mjd" }\nlocal', 'format = "mjd", zone = 1 }\nlocal', "zone"),
        ('["13 TeV", "20 TeV"]', '["12 TeV", "20 TeV"]', "overlap"),
    ],
)  # fmt: skip
def test_bad_toml_is_refused_by_key(tmp_path, old, new, words):
    assert old in TOML
    path = tmp_path / "columns.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(ConfigurationError, match=words):
        load_configuration(path, EventColumns)


def test_azimuths_of_all_conventions_point_as_their_names_say():
    """Zero is the first word, a quarter turn the second."""
    compass = {"north": 0.0, "east": 90.0, "south": 180.0, "west": 270.0}
    for name, (offset, sign) in AZIMUTH_CONVENTIONS.items():
        first, _, second = {"icecube": "east-north", "auger": "east-north"}.get(name, name).partition("-")
        assert np.degrees(offset) % 360 == pytest.approx(compass[first])
        assert np.degrees(offset + sign * np.pi / 2) % 360 == pytest.approx(compass[second])


def test_energies_at_the_edge_of_two_bins_are_in_the_upper_one(events):
    events["energy"] = 13.0
    columns = replace(COLUMNS, energy=EnergyColumn("energy", "TeV"))
    (found,) = count_events(events, columns, observatory=SITE, grid=GRID, energy_edges=[13, 20] * u.TeV)
    assert found.total == N
    with pytest.raises(DataFormatError, match="no event"):
        count_events(events, columns, observatory=SITE, grid=GRID, energy_edges=[8, 13] * u.TeV)
