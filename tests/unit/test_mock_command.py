"""The command mock: what its configuration says is what is in its files, and what it cannot say leaves none."""

import json

import healpy as hp
import numpy as np
import pandas as pd
import pytest

from obsfit.cli import main
from obsfit.ingest.record_files import read_record

SITE = 'name = "Here"\nlatitude = "20 deg"\nlongitude = "30 deg"\nzenith_max = "50 deg"\nevents = 1e6\n'
START = 'schema = 1\nseed = 1\noutput = "out"\n[grid]\nn_dec = 12\nn_time = 24\nsub_cells = 2\n'
DETECTOR = START + "[[detectors]]\n" + SITE


def call(tmp_path, text, *options):
    path = tmp_path / "mock.toml"
    path.write_text(text)
    with pytest.raises(SystemExit) as end:
        main(["mock", str(path), *options])
    return end.value.code


def test_the_dipole_of_the_configuration_is_in_the_expected_counts(tmp_path, capsys):
    """The first harmonic of the events in right ascension, weighted with the declinations that are seen."""
    text = DETECTOR.replace("seed = 1", "seed = 1\nasimov = true") + "[sky]\ndipole = [1e-3, 2e-3, 0.0]\n"
    assert call(tmp_path, text, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in told["maps"]] == ["Here.h5"]
    counts = read_record(tmp_path / "out/Here.h5").counts.reshape(24, 12, 24)
    sky = sum(np.roll(counts[t][:, ::-1], t + 1, axis=1) for t in range(24)).sum(axis=0)
    wave = 2.0 * np.fft.fft(sky)[1].conj() / sky.sum()
    # The band mean of cos(dec), 0.7 to 0.9, and of the time dependence of exposure that the field itself makes.
    assert np.angle(wave) == pytest.approx(np.arctan2(2.0, 1.0), abs=1e-3)
    assert 0.7 < abs(wave) / np.hypot(1e-3, 2e-3) < 0.95


def test_a_detector_more_changes_no_event_of_the_first(tmp_path):
    assert call(tmp_path, DETECTOR) == 0
    alone = read_record(tmp_path / "out/Here.h5").counts
    both = DETECTOR + '[[detectors]]\nname = "IceCube"\nevents = 1e6\n'
    assert call(tmp_path, both, "--overwrite") == 0
    np.testing.assert_array_equal(read_record(tmp_path / "out/Here.h5").counts, alone)
    assert read_record(tmp_path / "out/IceCube.h5").detector == "IceCube"


def test_the_true_sky_is_beside_the_events(tmp_path):
    spot = 'ra = "90 deg"\ndec = "30 deg"\nradius = "5 deg"\nexcess = 2e-3\n'
    sky = "[sky]\ndipole = [1e-3, 0.0, 0.0]\n[[sky.spots]]\n" + spot
    assert call(tmp_path, DETECTOR + sky) == 0
    values = hp.read_map(tmp_path / "out/sky.fits")
    for ra, dec, expected in ((0.0, 0.0, 1e-3), (90.0, 30.0, 2e-3), (180.0, 60.0, -5e-4)):
        assert values[hp.ang2pix(64, ra, dec, lonlat=True)] == pytest.approx(expected, abs=2e-5)


def test_energies_share_the_events_and_scale_the_anisotropy(tmp_path):
    text = DETECTOR.replace("seed = 1", "seed = 1\nasimov = true")
    text += "[sky]\ndipole = [1e-3, 0.0, 0.0]\n"
    text += '[energies]\nlabels = ["1-3 TeV", "3-9 TeV"]\nshare = [0.75, 0.25]\nscale = [1.0, 2.0]\n'
    text += "migration = [[1.0, 0.5], [0.0, 0.5]]\n"
    assert call(tmp_path, text) == 0
    low, high = (read_record(tmp_path / f"out/Here-{label}-TeV.h5") for label in ("1-3", "3-9"))
    assert (low.energy, high.energy) == ("1-3 TeV", "3-9 TeV")
    assert (low.total, high.total) == (pytest.approx(875_000.0), pytest.approx(125_000.0))
    waves = [abs(np.fft.fft(one.counts.sum(axis=1))[1]) / one.total for one in (low, high)]
    assert waves[1] / waves[0] == pytest.approx(2.0 * 7.0 / (6.0 + 2.0), rel=1e-2)


def test_lists_are_written_beside_the_maps(tmp_path):
    lists = '[event_list]\nevents = 500\nstart_mjd = 58000\nstop_mjd = 58100\nformat = "csv"\n'
    assert call(tmp_path, DETECTOR + lists) == 0
    table = pd.read_csv(tmp_path / "out/Here-events.csv")
    assert 300 < len(table) < 700
    assert table["mjd"].between(58000, 58100).all()
    assert np.degrees(table["zenith_rad"].max()) <= 50.0


def test_the_manifest_tells_how_the_files_were_made(tmp_path):
    assert call(tmp_path, DETECTOR) == 0
    told = json.loads((tmp_path / "out/mock.json").read_text())
    assert set(told["files"]) == {"Here.h5", "sky.fits"}
    assert told["configuration"]["detectors"][0]["latitude"] == "20 deg"
    assert (told["obsfit_format"], told["seed"]) == ("mock-observation", 1)
    assert told["versions"]["numpy"] == np.__version__


BAD = [
    ("[grid]\n", "[gird]\n", 2, "did you mean 'grid'"),
    ("zenith_max", "zenith", 2, "did you mean 'zenith_max'"),
    ("seed = 1", "", 2, "key 'seed' is missing"),
    ("seed = 1", "seed = -1", 2, "Expected 0 or more"),
    ('"50 deg"', '"150 deg"', 2, "expected an angle in"),
    ('"20 deg"', '"20 km"', 2, "is no angle"),
    ("events = 1e6", "events = -5", 2, "a number above 0"),
    ("events = 1e6", 'events = "many"', 2, "valid number"),
    ("n_dec = 12", "n_dec = 1", 2, "at least 2 x 4 cells"),
    ("n_dec = 12", "nside = 3", 2, "power of two"),
    ("seed = 1", 'seed = 1\nframe = "lunar"', 2, "frame 'lunar'"),
    ("seed = 1", "seed = 1\nstart_mjd = 58000.0", 2, "both of them or neither"),
    ('latitude = "20 deg"\n', "", 2, "no observatory named 'Here'"),
    ("", "[[detectors]]\n" + SITE, 2, "a name of its own"),
    ("", 'exposure = [{ clock = "sidereal", amplitude = 2.0 }]\n', 2, "the exposure falls to"),
    ("", 'exposure = [{ clock = "lunar", amplitude = 0.2 }]\n', 2, "clock 'lunar'"),
    ("", 'breathing = [{ waves = [], slope = "west" }]\n', 2, "one of zenith, east, north"),
    ("", 'gaps = [{ clock = "solar", start = "0 deg", width = "400 deg" }]\n', 2, "a gap of width 400 deg"),
    ("", 'tilt = "far"\n', 2, "is no angle"),
    ("", "east_west = 3.0\n", 2, "the acceptance is between"),
    ("", "trend_per_year = 0.1\n", 2, "has no dates"),
    ("", "[sky]\ndipole = [1e-3, 0.0]\n", 2, "sky.dipole"),
    ("", "[sky]\ndipole = [3.0, 0.0, 0.0]\n", 2, "the rate is negative"),
    ("", "[sky]\nc_ell = [0.0, -1.0]\n", 2, "powers that are not negative"),
    ("", "[sky]\nc_ell = [0.0, 1e-7]\npower = { amplitude = 1e-8 }\n", 2, "both c_ell and power"),
    ("", "[sky]\nmultipoles = [{ ell = 2, m = 3, real = 1e-3 }]\n", 2, "0 <= m <= ell"),
    ("", '[sky]\nmotion = "LRS"\n', 2, "LSR"),
    ("", '[sky.map]\npath = "absent.fits"\n', 3, "absent.fits"),
    ("", '[sky.model]\nname = "relative-difusion"\nparameters = {}\n', 2, "did you mean 'relative-diffusion'"),
    ("", '[sky.model]\nname = "relative-diffusion"\nparameters = {}\n', 2, "needs log10_c1"),
    ("", '[sky.model]\nname = "relative-diffusion"\nparameters = { p = 1 }\n', 2, "has no parameter 'p'"),
    ("", '[energies]\nlabels = ["a", "b"]\nshare = [0.5, 0.6]\n', 2, "shares that sum to one"),
    ("", '[energies]\nlabels = ["a", "b"]\nshare = [1.0]\n', 2, "a row of migration for each label"),
    ("", '[energies]\nlabels = ["a", "a"]\nshare = [0.5, 0.5]\n', 2, "each bin once"),
    ("", '[event_list]\nevents = 10\nformat = "xlsx"\n', 2, "event_list.format"),
    ("", '[event_list]\nevents = 10\nformat = "csv"\nstop_mjd = 5.0\n', 2, "a start before the stop"),
    ("schema = 1", "schema = 2", 2, "schema = 1"),
    ("schema = 1", "schema == 1", 2, "is not TOML"),
]


@pytest.mark.parametrize(("old", "new", "code", "words"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_bad_configuration_is_one_error_and_no_file(old, new, code, words, tmp_path, capsys):
    text = DETECTOR.replace(old, new, 1) if old else DETECTOR + new
    assert text != DETECTOR
    assert call(tmp_path, text) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("obsfit: ")
    assert "Traceback" not in err
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["mock.toml"]


def test_a_map_with_holes_needs_a_value_for_them(tmp_path, capsys):
    values = np.full(192, 1e-4)
    values[:20] = hp.UNSEEN
    hp.write_map(tmp_path / "map.fits", values, coord="C", dtype=np.float64)
    text = DETECTOR + '[sky.map]\npath = "map.fits"\n'
    assert call(tmp_path, text) == 2
    assert "20 unobserved pixels" in capsys.readouterr().err
    assert call(tmp_path, text + "unseen = 0.0\n") == 0


def test_files_that_are_there_are_refused(tmp_path, capsys):
    assert call(tmp_path, DETECTOR) == 0
    before = (tmp_path / "out/Here.h5").read_bytes()
    capsys.readouterr()
    assert call(tmp_path, DETECTOR.replace("seed = 1", "seed = 2")) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "out/Here.h5").read_bytes() == before
