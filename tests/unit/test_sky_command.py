"""Maps from files, configurations of a sky, and the command that samples it."""

import json

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from obsfit.cli import main
from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.infer.configured_sky import SkyConfiguration, configured_harmonics
from obsfit.infer.sky_sampler import SkyPosterior
from obsfit.ingest.maps import load_map
from obsfit.plot import runner

NSIDE = 16
TABLE = """# %ECSV 1.0
# ---
# datatype:
# - {name: dec_min, unit: deg, datatype: float64}
# - {name: dec_max, unit: deg, datatype: float64}
# - {name: sigma, datatype: float64}
# meta: {record: table, disc_solid_angle: 0.01 sr}
# schema: astropy-2.0
dec_min dec_max sigma
-90 0 1e-4
0 90 1e-4
"""
CONFIGURATION = """schema = 1
seed = 3
output = "sky"
lmax = 6
lmax_data = 6
[[observatories]]
name = "south"
map = "map.fits"
dec_min = "-90 deg"
dec_max = "-30 deg"
noise = "noise.ecsv"
smoothing = "5 deg"
[[observatories]]
name = "north"
map = "map.fits"
dec_min = "{dec_min}"
dec_max = "60 deg"
noise = "noise.ecsv"
smoothing = "5 deg"
[sampler]
chains = 2
target = 30
max_r_hat = 1.2
burn_in = 50
block = 100
report = 4
"""


def write_map(path, values, *, nest=False, coord="C"):
    hp.write_map(path, values, nest=nest, coord=coord, dtype=np.float64, overwrite=True)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    alm = (rng.normal(size=28) + 1j * rng.normal(size=28)) * 1e-3 / (1.0 + hp.Alm.getlm(6)[0]) ** 1.5
    alm[:7] = alm[:7].real
    values = hp.alm2map(alm, NSIDE) + 1e-5 * rng.standard_normal(hp.nside2npix(NSIDE))
    values[hp.query_strip(NSIDE, 0.0, np.radians(20.0))] = hp.UNSEEN
    write_map(tmp_path / "map.fits", values)
    (tmp_path / "noise.ecsv").write_text(TABLE)
    (tmp_path / "sky.toml").write_text(CONFIGURATION.format(dec_min="-20 deg"))
    return tmp_path


def test_a_map_comes_back_as_it_was_written(tmp_path):
    values = np.random.default_rng(2).normal(size=hp.nside2npix(8))
    values[[5, 700]] = hp.UNSEEN
    expected = np.where(values < -1e20, np.nan, values)
    write_map(tmp_path / "ring.fits", values)
    write_map(tmp_path / "nested.fits", hp.reorder(values, r2n=True), nest=True)
    for name in ("ring", "nested"):
        np.testing.assert_array_equal(load_map(tmp_path / f"{name}.fits").delta_i, expected)


def test_columns_are_chosen_by_name(tmp_path):
    first, second = np.zeros(hp.nside2npix(4)), np.ones(hp.nside2npix(4))
    hp.write_map(tmp_path / "two.fits", [first, second], column_names=["A", "B"], dtype=np.float64, overwrite=True)
    assert load_map(tmp_path / "two.fits", column="B").delta_i[0] == 1.0
    with pytest.raises(ConfigurationError, match=r"no column 'C'[\s\S]*A, B"):
        load_map(tmp_path / "two.fits", column="C")


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_files_that_are_no_equatorial_map_are_refused(tmp_path):
    path = tmp_path / "map.fits"
    path.write_text("no FITS at all")
    with pytest.raises(DataFormatError, match="cannot be read as FITS"):
        load_map(path)
    write_map(path, np.zeros(hp.nside2npix(4)), coord="G")
    with pytest.raises(DataFormatError, match="COORDSYS is 'G'"):
        load_map(path)
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(path, overwrite=True)
    with pytest.raises(DataFormatError, match="no binary table"):
        load_map(path)
    fits.BinTableHDU.from_columns([fits.Column("X", "D", array=np.zeros(7))]).writeto(path, overwrite=True)
    with pytest.raises(DataFormatError, match="PIXTYPE"):
        load_map(path)
    write_map(path, np.zeros(hp.nside2npix(32)))
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(DataFormatError, match=r"map\.fits: (is shorter|cannot be read)"):
        load_map(path)


def test_the_command_prints_power_and_stores_the_sky(folder, capsys):
    with pytest.raises(SystemExit) as end:
        main(["sky", str(folder / "sky.toml"), "--json"])
    assert not end.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == 1
    assert [row["ell"] for row in printed["spectrum"]] == [1, 2, 3, 4]
    assert all(row["p2.5"] < row["median"] < row["p97.5"] for row in printed["spectrum"])
    assert [row["observatory"] for row in printed["nuisances"]] == ["south", "north"] * 2
    found = SkyPosterior.load(folder / "sky" / "sky.h5")
    assert found.provenance["seed"] == 3
    assert found.provenance["configuration"]["lmax"] == 6
    assert (folder / "sky" / "spectrum.ecsv").exists()
    for words, code in (([], 2), (["--resume"], 0), (["--overwrite"], 0)):
        with pytest.raises(SystemExit) as end:
            main(["sky", str(folder / "sky.toml"), *words])
        assert (end.value.code or 0) == code
    assert "sweeps of 2 chains" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("-20 deg", "-40 deg"), "share -40.0 deg to -30.0 deg"),
        (("-20 deg", "west"), "is no angle"),
        (("60 deg", "80 deg"), r"observatory north: north: \d+ pixels"),
        (("lmax = 6", "lmax = 5"), "lmax_data = 6, lmax = 5"),
        (("noise.ecsv", "no-such-table.ecsv"), "no-such-table"),
        (("burn_in", "burnin"), "did you mean 'burn_in'"),
    ],
)
def test_mistakes_are_named(folder, change, message):
    path = folder / "sky.toml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises((ConfigurationError, DataFormatError), match=message):
        configured_harmonics(load_configuration(path, SkyConfiguration), base=folder)


def test_the_analysis_of_the_10_tev_map_says_that_it_needs_the_file(tmp_path):
    analyses = runner.discover(runner.find_analyses())
    entry = next(
        entry for entry in runner.run(analyses, tmp_path, seed=1, only=("one-sky-10tev",), environment={})
    )
    assert (entry.status, entry.error) == ("needs file", "")
    assert "OBSFIT_DATA_SOURCES" in entry.deviations[0]
