"""The example configurations of the documentation run as they stand and give what their comments promise."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.emulate.emulator import read_emulator
from obsfit.sky.smoothing import top_hat_window

EXAMPLES = sorted((Path(__file__).parents[2] / "docs/examples").glob("*.toml"))

# Wide enough for another seed and shorter chains; a wrong unit, window or axis leaves them by far.
EXPECTED = {
    "spectrum": {"exponent": (0.1, 0.5), "log10_noise": (0.15, 0.4)},
    "dipoles": {
        "log10_background": (-3.7, -2.6),
        "perpendicular_ratio": (0.0, 0.08),
        "spectral_index": (2.65, 2.75),
    },
    "joint": {"log10_c1": (-6.0, -4.4), "exponent": (0.08, 0.4), "slope": (-0.5, 0.5)},
}
SKY = "one_sky"
ENSEMBLE = "ensemble"
EMULATOR = "emulator"
# One after the other: each reads what the one before it wrote.
CHAIN = (("mock", "mock"), ("reconstruct", "reconstruct"), ("spectrum", "map_spectrum"))


def test_there_is_an_expectation_for_each_example():
    assert [path.stem for path in EXAMPLES] == sorted(
        [*EXPECTED, SKY, ENSEMBLE, EMULATOR, *(stem for _, stem in CHAIN)]
    )


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem in EXPECTED], ids=lambda path: path.stem)
def test_the_example_runs_and_its_medians_are_where_they_belong(path, tmp_path):
    copy = Path(shutil.copy(path, tmp_path))
    result = run("fit", copy)
    assert (Path(result["folder"]) / "predictive.png").read_bytes().startswith(b"\x89PNG")
    medians = {row["name"]: row["median"] for row in result["parameters"]}
    for name, (low, high) in EXPECTED[path.stem].items():
        assert low < medians[name] < high


def test_the_example_of_one_sky_finds_the_power_of_a_mock_map(tmp_path):
    """The map that it asks for is made here: C_l = 1e-6 l^-3, averaged over discs of 5 degrees with its noise."""
    rng, lmax = np.random.default_rng(1), 60
    ell, m = hp.Alm.getlm(lmax)
    power = 1e-6 / np.maximum(ell, 1) ** 3.0
    noise = 3e-11
    white = rng.normal(size=(2, ell.size)) * np.sqrt((power + noise) / 2.0)
    alm = np.where(m == 0, np.sqrt(2.0) * white[0], white[0] + 1j * white[1])
    smoothed = hp.alm2map(hp.almxfl(alm, top_hat_window(5 * u.deg, lmax)), 64)
    hp.write_map(tmp_path / "map.fits", smoothed, coord="C", column_names=["RELINT"], dtype=np.float64)
    path = next(path for path in EXAMPLES if path.stem == SKY)
    result = run("sky", Path(shutil.copy(path, tmp_path)))
    medians = {row["ell"]: row["median"] for row in result["spectrum"]}
    # The power of one sky scatters; a wrong window or a factor f_sky would show at l = 5 to 8 together.
    ratio = [medians[one] * one**3 / 1e-6 for one in range(5, 9)]
    assert 0.6 < np.exp(np.mean(np.log(ratio))) < 1.6
    assert max(row["r_hat"] for row in result["spectrum"]) <= 1.05


def test_the_examples_of_a_mock_lead_to_its_dipole_and_its_power(tmp_path):
    """Within five standard errors of the sky that mock.toml describes, and 1e-4 for what leaks into its dipole."""
    told = {}
    for command, stem in CHAIN:
        path = next(path for path in EXAMPLES if path.stem == stem)
        told[stem] = run(command, Path(shutil.copy(path, tmp_path)))
    assert [row["detector"] for row in told["mock"]["maps"]] == ["HAWC", "IceCube"]
    dipole = told["reconstruct"]["harmonics"][0]
    assert abs(dipole["cosine"] - 8e-4) < 5 * dipole["cosine_error"] + 1e-4
    assert abs(dipole["sine"] - 6e-4) < 5 * dipole["sine_error"] + 1e-4
    assert {"map.fits", "map.png", "dipole.ecsv", "significance.png"} <= set(told["reconstruct"]["files"])
    bins = told["map_spectrum"]["decoupled"]
    # the dipole alone makes C_1 = 4 pi / 9 |delta|^2 = 1.4e-6, of which the first bin has about a third
    assert 3e-7 < bins[0]["c_ell"] < 1.2e-6
    power = {row["ell"]: row for row in told["map_spectrum"]["spectrum"]}
    # where there is little of the sky left, the map is its noise
    noise = [power[ell]["c_ell"] / power[ell]["noise"] for ell in range(13, 21)]
    assert 0.6 < np.mean(noise) < 1.6


def test_the_example_of_an_ensemble_diffuses(tmp_path):
    """Four fields scatter by tens of per cent; a wrong unit of length or field would change the gyroradius tenfold."""
    path = next(path for path in EXAMPLES if path.stem == ENSEMBLE)
    result = run("ensemble", Path(shutil.copy(path, tmp_path)))
    assert Path(result["product"]).is_file()
    assert [row["time"] for row in result["rows"]] == [20, 80, 160] * 2
    slow, fast = result["rows"][2], result["rows"][5]
    assert slow["gyroradius"] == pytest.approx(0.1, rel=0.01)
    assert 2 < slow["K_par"] < 8
    assert 1 < fast["K_par"] < slow["K_par"]
    assert 0 < slow["K_perp"] < 0.5 * slow["K_par"]


def test_the_example_of_an_emulator_knows_what_it_does_not_know(tmp_path):
    """40 fields: the power of one sky scatters by more than e, and its emulator is off by less than that scatter."""
    path = next(path for path in EXAMPLES if path.stem == EMULATOR)
    result = run("emulate", Path(shutil.copy(path, tmp_path)))
    assert (Path(result["product"]).name, result["fields"]) == ("emulator.h5", 40)
    assert [row["label"] for row in result["data"]] == [f"hawc-icecube-2019-10TeV l={ell}" for ell in (1, 2, 3)]
    emulator = read_emulator(result["product"])
    assert emulator.labels == tuple(row["label"] for row in result["data"])
    for row in result["data"]:
        assert 0.8 < row["predictive_sd"] < 3
        assert 0 < row["monte_carlo"] < 0.6 * row["predictive_sd"]
        # For three numbers that are calibrated: false alarm 0.3 %.
        assert row["p_value"] > 1e-3


def run(command, path):
    """The JSON object that a command prints for a configuration."""
    process = subprocess.run(
        [sys.executable, "-c", f"import obsfit.cli; obsfit.cli.main([{command!r}, {str(path)!r}, '--json'])"],
        cwd=path.parent,
        # a fit of few data gains nothing from threads, and other tests run beside it
        env={**os.environ, "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)
