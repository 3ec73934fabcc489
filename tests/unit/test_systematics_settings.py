"""Settings of studies of systematics, relabelling of counts, tables, plots and the command."""

import json
import os
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.table import Table

import obsfit.cli
from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError
from obsfit.records import EventMap, HealpixLocalGrid, HourAngleGrid, Provenance
from obsfit.study.observations import (
    BreathingSettings,
    DetectorSettings,
    MultipoleSettings,
    SkySettings,
    WaveSettings,
)
from obsfit.study.relabelling import RelabelSettings, half_bins, relabelled
from obsfit.study.systematics import SystematicsConfiguration, VarySettings

SHIPPED = sorted((Path(__file__).parents[2] / "analyses" / "systematics").glob("*.toml"))
SITE = DetectorSettings("A", "20 deg", "50 deg")
TEXT = """schema = 1
kind = "systematics"
seed = 1
realisations = 2
n_dec = 12
n_time = 24
sub_cells = 1
methods = ["east-west", "iterative-likelihood"]
[sky]
dipole = [1e-3, 0.0, 0.0]
[[detectors]]
name = "A"
latitude = "20 deg"
zenith_max = "50 deg"
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_point_of_the_shipped_studies_is_a_study(path):
    configuration = load_configuration(path, SystematicsConfiguration)
    points = [configuration.point(scan, value) for scan, value in configuration.points()]
    assert len(points) > 1
    assert all(point.vary == () for point in points)
    for vary in configuration.vary:
        assert len({vary.label(i) for i in range(len(vary.values))}) == len(vary.values)


def test_a_key_leads_to_the_setting_by_name_or_number():
    study = SystematicsConfiguration(1, (SITE, replace(SITE, name="B")), ("rayleigh",))
    for key in ("detectors.B.latitude", "detectors.1.latitude"):
        point = replace(study, vary=(VarySettings("x", key, ("30 deg",)),)).point(0, 0)
        assert [one.latitude for one in point.detectors] == ["20 deg", "30 deg"]
    several = VarySettings("x", "", ({"lmax": 2, "detectors.A.east_west": 0.1},))
    point = replace(study, vary=(several,)).point(0, 0)
    assert (point.lmax, point.detectors[0].east_west) == (2, 0.1)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (VarySettings("x", "detectors.C.latitude", ("1 deg",)), "leads nowhere"),
        (VarySettings("x", "sky.dipol", (1,)), "leads nowhere"),
        (VarySettings("x", "detectors.A.latitude", (3.0,)), "detectors.0.latitude"),
        (VarySettings("x", "", (3.0,)), "without a key"),
        (VarySettings("x", "methods", (("east-ouest",),)), "method 'east-ouest'; did you mean 'east-west'"),
        (VarySettings("x", "methods", (("maximum-entropy",),)), "method 'maximum-entropy'\n"),
    ],
)
def test_a_scan_that_does_not_fit_is_refused(vary, message):
    study = SystematicsConfiguration(1, (SITE,), ("rayleigh",), vary=(vary,))
    with pytest.raises(ConfigurationError, match=message):
        study.point(0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SystematicsConfiguration(1, (SITE, SITE), ("rayleigh",)), "different names"),
        (lambda: SystematicsConfiguration(1, (SITE,), ("rayleigh",), use=("B",)), "no detector B"),
        (lambda: SystematicsConfiguration(1, (SITE,), ("rayleigh",), epochs=2), "start_mjd"),
        (lambda: SystematicsConfiguration(1, (SITE,), ("rayleigh",), lmax=0), "at least one"),
        (lambda: VarySettings("x", "lmax", (1, 2), ("one",)), "2 values and 1 labels"),
        (lambda: BreathingSettings((), "south"), "slope 'south'"),
        (lambda: SkySettings(multipoles=(MultipoleSettings(2, 3),)), "l = 2, m = 3"),
        (lambda: RelabelSettings(axes="upside-down"), "axes 'upside-down'"),
        (lambda: half_bins(RelabelSettings(time_shift="1 deg"), 24), "multiple of 7.5 deg"),
        (lambda: DetectorSettings("A", "20 deg").observatory, "no zenith_max"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises((ConfigurationError, ValueError), match=message):
        make()


def test_an_unknown_key_names_the_nearest(tmp_path):
    (tmp_path / "s.toml").write_text(TEXT.replace("n_time", "n_times"))
    with pytest.raises(ConfigurationError, match="did you mean 'n_time'"):
        load_configuration(tmp_path / "s.toml", SystematicsConfiguration)


def test_settings_become_skies_and_detectors():
    sky = SkySettings((1e-3, 2e-3, 0.0), (MultipoleSettings(2, 1, 1e-4, 2e-4),))
    alm = sky.alm(rng=np.random.default_rng(1))
    assert alm[hp.Alm.getidx(2, 2, 1)] == pytest.approx(1e-4 + 2e-4j)
    assert alm[hp.Alm.getidx(2, 1, 1)] == pytest.approx(np.sqrt(2 * np.pi / 3) * (-1e-3 + 2e-3j))
    assert len(SkySettings(solar_index=2.7).sky(alm).parts) == 3
    breathing = BreathingSettings((WaveSettings("solar", 0.5, "30 deg"),), "east", 0.1)
    detector = replace(SITE, breathing=(breathing,)).detector(breathing=0.5)
    wave = detector.acceptance.breathing[0].modulations[0]
    assert (wave.amplitude, wave.phase) == (pytest.approx(0.025), 30 * u.deg)
    assert DetectorSettings("HAWC").observatory.latitude == 19 * u.deg


def test_counts_are_moved_by_halves_of_bins_and_reflected():
    """Twelve half bins, one of which is filled; and a pixel that is East, seen from South and from East."""
    grid = HealpixLocalGrid(2, 0.3)
    counts = np.zeros((12, grid.n_pixel))
    east = hp.ang2pix(2, 1.2, -0.4 * np.pi)
    counts[3, east] = 7.0
    events = EventMap(counts, grid, "A", Provenance("a"))
    for shift, bin_ in (("0 deg", 1), ("30 deg", 2), ("-30 deg", 1), ("-60 deg", 0), ("120 deg", 3)):
        moved = relabelled(events, RelabelSettings(time_shift=shift), 6).counts
        assert (moved.shape, moved[bin_, east]) == ((6, grid.n_pixel), 7.0)
    for axes, longitude in (("mirrored", 0.4), ("half-turn", 0.6), ("quarter-turn", 0.1)):
        moved = relabelled(events, RelabelSettings(axes=axes), 6).counts
        assert moved[1, hp.ang2pix(2, 1.2, longitude * np.pi)] == 7.0


def test_rings_are_mirrored_and_moved_by_whole_bins_only():
    grid = HourAngleGrid(2, 4)
    counts = np.zeros((4, 8))
    counts[0, 5] = 1.0
    events = EventMap(counts, grid, "A", Provenance("a"))
    assert relabelled(events, RelabelSettings("mirrored", "90 deg"), 4).counts[1, 6] == 1.0
    for settings in (RelabelSettings(time_shift="45 deg"), RelabelSettings("half-turn")):
        with pytest.raises(ConfigurationError, match="nside = 16"):
            relabelled(events, settings, 4)


def leave(*words):
    with pytest.raises(SystemExit) as end:
        obsfit.cli.main(list(words))
    return end.value.code


def test_the_command_writes_tables_and_plots(tmp_path, capsys):
    (tmp_path / "s.toml").write_text(TEXT)
    assert leave("study", str(tmp_path / "s.toml"), "--json") == os.EX_OK
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "systematics"
    table = Table.read(folder / "numbers.ecsv")
    assert len(printed["numbers"]) == len(table) == 4 + 4 + 2 + 1
    assert table.meta["settings"] == {"seed": 1, "realisations": 2, "skies": 1}
    assert {path.stem for path in folder.glob("*.png")} == {"dipole-study", "coverage-study"}
    assert leave("study", str(tmp_path / "s.toml")) == os.EX_OK
    assert "A_1" in capsys.readouterr().out


def test_a_study_without_realisations_has_nothing_to_say_of_errors(tmp_path, capsys):
    """Masked in the table, null in JSON: never a zero."""
    (tmp_path / "s.toml").write_text(TEXT.replace("realisations = 2", "realisations = 0"))
    assert leave("study", str(tmp_path / "s.toml"), "--json") == os.EX_OK
    row = json.loads(capsys.readouterr().out)["numbers"][0]
    assert row["bias"] is None
    assert row["noise_free"] is not None
    table = Table.read(tmp_path / "systematics" / "numbers.ecsv")
    assert np.all(table["scatter"].mask)
