"""Ensembles of displacement skies: the command, its tasks, what it refuses, and the product."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import h5py
import healpy as hp
import numpy as np
import pytest
from obsfit_models.turbulence.displacement import crossing_sky
from obsfit_models.turbulence.displacement_files import read_ensemble
from obsfit_models.turbulence.ensemble import (
    EnsembleSettings,
    TurbulenceSettings,
    arrival_directions,
    check_ensemble,
    ensemble_field,
    ensemble_identity,
    gather,
    make_ensemble,
    run_ensemble,
)
from obsfit_models.turbulence.field import MagneticField
from scipy.integrate import solve_ivp

import obsfit.study.ensembles
from obsfit.cli import main
from obsfit.configuration import read_settings
from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.protocols import EnsembleSummary, OffersEnsemble

TEXT = """
schema = 1
seed = 3
realisations = 3
gyroradius = [0.5, 0.2]
times = [1, 4]
nside = 4
lmax = 4
sets = 2

[turbulence]
wavelength_min = 0.3
wavelength_max = 10.0
modes_per_decade = 12
"""
KILLED = """
import os, signal, sys
import obsfit.execute.store as store
from obsfit.cli import main
write, count = store.TaskStore.write, [0]
def killing(self, name, result):
    count[0] += 1
    if count[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, name, result)
store.TaskStore.write = killing
main(["ensemble", sys.argv[1]])
"""


def settings(**changes):
    raw = tomllib.loads(TEXT)
    del raw["schema"]
    turbulence = {key.removeprefix("turbulence_"): changes.pop(key) for key in list(changes) if "turb" in key}
    raw["turbulence"] |= turbulence
    return read_settings(raw | changes, EnsembleSettings)


def configuration(folder, old="", new=""):
    assert old in TEXT
    path = folder / "ensemble.toml"
    path.write_text(TEXT.replace(old, new, 1))
    return path


def leave(*words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def numbers(path):
    """What is in a product, arrays as bytes: the format of the file may have a clock."""
    with h5py.File(path) as file:
        return {name: file[name][()].tobytes() for name in ("alm", "product", "gyroradius", "stop", "realisation")}


def field_by_sums(field, position):
    """The field at (3, n), as a sum over plane waves, by the book."""
    phase = np.einsum("iw,in->wn", field.waves.wavevector, position) + field.waves.phase[:, None]
    return field.uniform[:, None] + np.einsum("iw,wn->in", field.waves.amplitude, np.cos(phase))


def test_fields_and_directions_of_a_seed_are_those_they_were():
    """Stored results are continued: what a seed means must not change. To rounding of another machine."""
    stored = settings(
        gyroradius=(0.1,), turbulence_wavelength_min=0.01, turbulence_wavelength_max=100.0,
        turbulence_modes_per_decade=25.0, turbulence_resonant_modes_per_decade=40.0,
    )  # fmt: skip
    field = ensemble_field(stored, 1)
    assert field.waves.phase.shape == (142,)
    np.testing.assert_allclose(field.uniform, [0, 0, 1])
    np.testing.assert_allclose(field.waves.wavevector[:, 5], [0.02615715, -0.09665087, -0.02940057], rtol=5e-6)
    np.testing.assert_allclose(field.waves.amplitude[:, 5], [0.01068465, 0.00162625, 0.00415984], rtol=5e-6)
    assert field.waves.phase[-1] == pytest.approx(0.5090236903374671, rel=1e-12)
    np.testing.assert_allclose(
        arrival_directions(stored, 1)[:, 7], [-0.31200874, 0.02956392, 0.94961915], rtol=5e-6
    )


def test_the_identity_of_a_plain_ensemble_has_no_later_options():
    """Stores made before these options were there stay valid."""
    found = ensemble_identity(settings())
    assert set(found) == {"seed", "turbulence", "gyroradius", "times", "nside", "lmax", "sets", "blocks", "step"}
    assert set(found["turbulence"]) == {
        "wavelength_min", "wavelength_max", "energy_index", "bend_over", "large_scale_index", "mean_field", "rms",
        "modes_per_decade", "resonant_modes_per_decade", "resonant_from",
    }  # fmt: skip
    assert ensemble_identity(settings(resolved_to=10.0)) != found
    assert ensemble_identity(settings(turbulence_geometry="slab")) != found


def test_the_product_is_that_of_orbits_by_another_integrator_and_transform(tmp_path):
    """Pixel centres, scipy's Runge-Kutta through the summed waves, and healpy's iterated transform."""
    chosen = settings(sets=0, realisations=1, gyroradius=(0.5,), times=(1.5,), step=0.005, blocks=3)
    path = make_ensemble(chosen, base=tmp_path).path
    ensemble = read_ensemble(path)
    field = ensemble_field(chosen, 0)
    pixels = np.array(hp.pix2vec(4, np.arange(192)))

    def motion(_, state):
        r, n = state.reshape(2, 3, -1)
        # Backwards in time the particle moves along its direction of arrival n = -p.
        return np.concatenate([n, -np.cross(n, field_by_sums(field, 0.5 * r), axis=0)]).ravel()

    start = np.concatenate([np.zeros_like(pixels), pixels]).ravel()
    position, arrival = solve_ivp(motion, (0, 1.5), start, rtol=1e-9, atol=1e-10).y[:, -1].reshape(2, 3, 192)
    maps = [*position, *-arrival]
    expected = np.array([hp.map2alm(one, lmax=4, iter=100) for one in maps])
    # The leapfrog of step 0.005 is right to 2e-5.
    np.testing.assert_allclose(ensemble.alm[0, 0, 0, 0], expected, atol=1e-4)
    np.testing.assert_allclose(ensemble.product[0, 0, 0, 0], np.array(maps) @ np.array(maps).T / 192, atol=1e-4)
    assert np.abs(expected).max() > 1


def test_without_turbulence_diffusivity_and_dipole_are_those_of_a_uniform_field(tmp_path):
    """r_z = T cos(theta): K_par = T / 6 and C_1 = (4 pi / 9) T^2; across, <r_x^2> = (4/3) sin^2(T/2)."""
    chosen = settings(turbulence_rms=0.0, realisations=2, gyroradius=(1.0,), step=0.01, nside=8)
    summary = make_ensemble(chosen, base=tmp_path)
    assert [row["time"] for row in summary.rows] == [1.0, 4.0]
    for row in summary.rows:
        time = row["time"]
        # Random directions, one in each of 768 pixels: means are right to a few parts in a thousand.
        assert row["K_par"] == pytest.approx(time / 6, rel=0.02)
        assert row["K_perp"] == pytest.approx(4 / 3 * np.sin(time / 2) ** 2 / (2 * time), rel=0.02)
        assert row["C_1"] == pytest.approx(4 * np.pi / 9 * time**2, rel=1e-9)
        assert row["C_1_error"] == pytest.approx(0, abs=1e-9)


def test_blocks_change_nothing_but_rounding(tmp_path):
    one = gather(settings(), run_ensemble(settings(output="one"), base=tmp_path))
    three = gather(settings(blocks=3), run_ensemble(settings(output="three", blocks=3), base=tmp_path))
    np.testing.assert_allclose(three.alm, one.alm, atol=1e-11)
    np.testing.assert_allclose(three.product, one.product, rtol=1e-11, atol=1e-11)
    assert np.abs(one.alm[:, 0] - one.alm[:, 1]).max() > 1e-3, "two sets of directions are two"


def test_a_killed_run_loses_tasks_in_flight_alone_and_ends_in_the_same_product_with_other_workers(
    tmp_path, capsys
):
    """kill -9 at the fourth of six tasks; then two workers do the rest."""
    script, cut, whole = tmp_path / "killed.py", tmp_path / "cut", tmp_path / "whole"
    script.write_text(KILLED)
    cut.mkdir()
    whole.mkdir()
    # The command itself keeps linear algebra to one thread.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    process = subprocess.run(
        [sys.executable, script, configuration(cut)],
        env=environment,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL
    tasks = cut / "ensemble" / "tasks"
    kept = {path: path.stat().st_mtime_ns for path in tasks.glob("*.npz")}
    assert sorted(path.stem for path in kept) == ["sky-0-0-0", "sky-0-1-0", "sky-1-0-0"]
    assert not (cut / "ensemble" / "ensemble.h5").exists()
    for folder, workers in ((cut, 2), (whole, 1)):
        assert leave("ensemble", configuration(folder), "--workers", workers, "--json") == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["realisations"] == 3
        # No progress bar where standard error is no terminal.
        assert "task" not in err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a finished task was done again"
    assert len(list(tasks.glob("*.npz"))) == 6
    assert numbers(cut / "ensemble" / "ensemble.h5") == numbers(whole / "ensemble" / "ensemble.h5")


def test_more_realisations_are_a_continuation(tmp_path, capsys):
    path = configuration(tmp_path, "realisations = 3", "realisations = 2")
    assert leave("ensemble", path) == 0
    product = tmp_path / "ensemble" / "ensemble.h5"
    text = capsys.readouterr().out
    assert str(product) in text
    assert "K_par_error" in text
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ensemble" / "tasks").iterdir()}
    two = read_ensemble(product)
    configuration(tmp_path)
    assert leave("ensemble", path) == 2
    assert "there is an ensemble already" in capsys.readouterr().err
    np.testing.assert_array_equal(read_ensemble(product).alm, two.alm)
    assert leave("ensemble", path, "--overwrite", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["realisations"], len(told["rows"])) == (1, 3, 4)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "ensemble" / "tasks").iterdir()}
    assert before.items() <= after.items()
    assert len(after) - len(before) == 2
    three = read_ensemble(product)
    np.testing.assert_array_equal(three.alm[:2], two.alm)
    assert three.configuration["seed"] == 3
    assert three.configuration["turbulence"]["bend_over"] == 1.0


# fmt: off
BAD = [
    ("gyroradius = [0.5, 0.2]", "gyroradius = [0.5, -0.2]", "gyroradius = -0.2"),
    ("gyroradius = [0.5, 0.2]", "", "neither is given"),
    ("gyroradius = [0.5, 0.2]", 'rigidity = ["-10 TV"]\nfield_strength = "3 uG"\nlength_unit = "1 pc"', "-10 TV"),
    ("gyroradius = [0.5, 0.2]", 'rigidity = ["1 TeV"]\nfield_strength = "3 uG"\nlength_unit = "1 pc"', "its charge"),
    ("gyroradius = [0.5, 0.2]", 'rigidity = ["10 PV"]\nlength_unit = "1 pc"', "field_strength"),
    ("times = [1, 4]", "times = [4, 1]", "times = (4.0, 1.0)"),
    ("times = [1, 4]", "", "neither is given"),
    ("times = [1, 4]", "radii = [1, 4]", "longest_time = 0.0"),
    ("sets = 2", "radii = [1, 4]", "both are given"),
    ("sets = 2", "tolerance = 1e-3\nstep = 0.1", "tolerance = 0.001"),
    ("modes_per_decade", "grid_points = 10\nmodes_per_decade", "turbulence.grid_points = 10"),
    ("modes_per_decade", 'grid_points = 24\ngeometry = "slab"\nmodes_per_decade', "turbulence.grid_points = 24"),
    ("wavelength_min = 0.3", "wavelength_min = 3", "turbulence.wavelength_min = 3"),
    ("modes_per_decade = 12", "modes_per_decade = 4", "turbulence.modes_per_decade = 4"),
    ("nside = 4", "nside = 6", "nside = 6"),
    ("lmax = 4", "lmax = 12", "lmax = 12"),
    ("sets = 2", "sets = -1", "sets = -1"),
    ("sets = 2", "blocks = 193", "blocks = 193"),
    ("seed = 3", "seed = -3", "seed = -3"),
    ("realisations = 3", "realisations = 0", "realisations = 0"),
    ("sets = 2", "resolved_to = 0.5", "resolved_to = 0.5"),
    ("sets = 2", 'output = "ensemble.toml/below"', "output: "),
    ("sets = 2", "sts = 2", "did you mean 'sets'?"),
    ("modes_per_decade", 'geometry = "cubic"\nmodes_per_decade', "turbulence.geometry = 'cubic'"),
    ("sets = 2", 'model = "relative-diffusion"', "computes no ensemble"),
    ("gyroradius = [0.5, 0.2]", "gyroradius = 0.5", "such as gyroradius = [0.5]"),
    ("gyroradius = [0.5, 0.2]", 'rigidity = ["10 PV"]', "key 'field_strength' is missing"),
    ("sets = 2", 'length_unit = "10 pc"', "rigidity beside it"),
    ("times = [1, 4]", "radii = [1, 4]", "at which a particle is given up"),
    ("sets = 2", "longest_time = 100", "radii in place of times"),
    ("sets = 2", "most_missing = 0.1", "radii in place of times"),
    ("modes_per_decade", "slab_fraction = 0.5\nmodes_per_decade", "geometry = 'composite' with it"),
    ("modes_per_decade", "lmax = 4\nmodes_per_decade", "above the line [turbulence]"),
    ("[turbulence]", "", "under a line [turbulence]"),
]
# fmt: on


@pytest.mark.parametrize(("old", "new", "told"), BAD)
def test_bad_input_is_one_error_before_anything_is_computed(tmp_path, capsys, old, new, told):
    path = configuration(tmp_path, old, new)
    assert leave("ensemble", path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "ensemble.toml" in err
    assert err.count("obsfit: ") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["ensemble.toml"]


def test_a_store_of_another_ensemble_is_refused(tmp_path, capsys):
    path = configuration(tmp_path, "realisations = 3", "realisations = 1")
    assert leave("ensemble", path) == 0
    configuration(tmp_path, "seed = 3", "seed = 4")
    assert leave("ensemble", path, "--overwrite") == 2
    assert "seed was 3, is now 4" in capsys.readouterr().err


def test_rigidities_in_volts_are_gyroradii():
    """1 PV in 1 uG is 1.081 pc (AM17): 27.8 PV in 3 uG are a tenth of 100 pc."""
    given = settings(gyroradius=(), rigidity=("27.8 PV",), field_strength="3 uG", length_unit="100 pc")
    assert given.gyroradii == pytest.approx((0.1,), rel=2e-3)


def test_only_waves_that_are_resolved_are_left():
    field = ensemble_field(settings(), 0)
    k = np.linalg.norm(field.waves.wavevector, axis=0)
    part = field.up_to(8.0)
    assert 0 < part.waves.phase.size < k.size
    for name in ("wavevector", "amplitude", "phase"):
        np.testing.assert_array_equal(getattr(part.waves, name), getattr(field.waves, name)[..., k <= 8.0])
    np.testing.assert_array_equal(part.uniform, field.uniform)
    # The wave at the limit itself stays, though the limit is rounded.
    assert field.up_to(k[7] * (1 - 1e-15)).waves.phase.size == 8
    alone = MagneticField(uniform=[0, 0, 1.0])
    assert alone.up_to(1.0) is alone


def test_what_is_resolved_for_the_smallest_gyroradius_is_left_out_for_the_largest(tmp_path):
    """Of two gyroradii the smaller sees all waves up to k r_L = 5, and the same as without the option."""
    plain = settings(realisations=1, sets=0)
    some = dataclasses.replace(plain, resolved_to=5.0, output="some")
    one, other = (gather(s, run_ensemble(s, base=tmp_path)).alm[0, 0] for s in (plain, some))
    np.testing.assert_array_equal(one[1], other[1])
    assert np.abs(one[0] - other[0]).max() > 1e-3


def test_waves_that_are_left_out_are_missed_by_the_checks_too(caplog):
    """The spectrum goes to k_max r_L = 10.5 at 0.5; what the particles see ends at 3."""
    with caplog.at_level(logging.WARNING):
        check_ensemble(settings(gyroradius=(0.5,)))
        assert "k_max r_L" not in caplog.text
        check_ensemble(settings(gyroradius=(0.5,), resolved_to=3.0))
    assert "k_max r_L is 3: below 10" in caplog.text
    with pytest.raises(
        ConfigurationError, match=r"resolved_to = 1\.5\n.*3\.14: at a gyroradius of 5 no wave is left"
    ):
        check_ensemble(settings(gyroradius=(5.0,), resolved_to=1.5))


def test_what_is_wrong_with_settings_is_told_before_what_they_would_replace(tmp_path, capsys):
    path = configuration(tmp_path, "realisations = 3", "realisations = 1")
    assert leave("ensemble", path) == 0
    configuration(tmp_path, "times = [1, 4]", "times = [4, 1]")
    assert leave("ensemble", path) == 2
    told = capsys.readouterr().err
    assert "times = (4.0, 1.0)" in told
    assert "already" not in told


@pytest.mark.parametrize(("change", "told"), [({}, False), ({"times": (60.0,)}, True), ({"radii": (60.0,)}, True)])
def test_grids_that_repeat_within_reach_are_told_of_before_anything_is_computed(caplog, change, told):
    """Two wavelengths of 10 fit the largest of six cubes with a ratio of 33^(1/6): 22.3, less than 0.5 times 60."""
    longer = {"longest_time": 100.0, "times": ()} if "radii" in change else {}
    chosen = settings(turbulence_grid_points=24, **longer, **change)
    (largest, *_) = ensemble_field(chosen, 0).grids
    period = float(largest.spacing[0] * 24)
    assert period == pytest.approx(24 / 6 * 10 * (0.3 / 10) ** (1 / 6))
    with caplog.at_level(logging.WARNING):
        check_ensemble(chosen)
    assert (f"repeats after {period:.3g}, orbits can go as far as 30" in caplog.text) == told
    assert ("repeats" in caplog.text) == told


@pytest.mark.parametrize(("geometry", "slab"), [("slab", 1.0), ("two-dimensional", 0.0), ("composite", 0.3)])
def test_geometries_have_their_wave_vectors_and_their_shares(geometry, slab):
    share = {"turbulence_slab_fraction": slab} if geometry == "composite" else {}
    chosen = settings(turbulence_geometry=geometry, turbulence_rms=2.0, **share)
    waves = ensemble_field(chosen, 0).waves
    along = np.abs(waves.wavevector[2]) > 1e-9
    np.testing.assert_allclose(np.abs(waves.wavevector[:2, along]), 0, atol=1e-9)
    energy = 0.5 * np.sum(waves.amplitude**2, axis=0)
    assert energy.sum() == pytest.approx(4.0)
    assert energy[along].sum() == pytest.approx(4.0 * slab)


def test_nested_grids_take_the_place_of_plane_waves(tmp_path):
    """Their energy is the one asked for, and so is its share in each cube; another field has other grids."""
    chosen = settings(turbulence_grid_points=24, turbulence_rms=2.0, realisations=1, sets=0, times=(1.0,))
    field = ensemble_field(chosen, 0)
    assert field.waves is None
    # A ratio of wavelengths of 33 needs six cubes with a ratio of 2 each.
    assert len(field.grids) == 6
    assert sum(grid.mean_square for grid in field.grids) == pytest.approx(4.0)
    assert np.abs(field.grids[0].values - ensemble_field(chosen, 1).grids[0].values).max() > 0.1
    row = make_ensemble(chosen, base=tmp_path).rows[0]
    # Nearly free: <r_z^2> = T^2 / 3, less what the field turns in one gyro-time.
    assert 0.05 < row["K_par"] < 1 / 6


@pytest.mark.parametrize("what", [True, False])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, what):
    monkeypatch.setattr(os, "access", lambda path, mode: what)
    if what:
        check_ensemble(settings(), base=tmp_path)
    else:
        with pytest.raises(ConfigurationError, match=f"output: {tmp_path} cannot be written"):
            check_ensemble(settings(), base=tmp_path)


def test_the_command_runs_any_model_that_offers_an_ensemble(tmp_path, monkeypatch, capsys):
    """A plug-in of others: its own settings, its own product, a bar on a terminal alone."""
    seen = {}

    @dataclasses.dataclass(frozen=True)
    class Own:
        number: int

    class Other:
        ensemble_settings = Own

        def run_ensemble(self, own, **how):
            seen.update(how, own=own)
            return EnsembleSummary(Path("made.h5"), {"skies": own.number, "cpu_s": None}, ())

    assert isinstance(Other(), OffersEnsemble)
    monkeypatch.setattr(obsfit.study.ensembles, "load_model", lambda name: {"other": Other()}[name])
    path = tmp_path / "other.toml"
    path.write_text('schema = 1\nmodel = "other"\nnumber = 5\n')
    assert leave("ensemble", path, "--workers", 3) == 0
    assert capsys.readouterr().out == "made.h5: skies 5, cpu_s -\n"
    assert seen == {
        "own": Own(5), "base": tmp_path, "workers": 3, "scheduler": None, "progress": False, "overwrite": False,
    }  # fmt: skip
    monkeypatch.setattr(
        sys, "stderr", SimpleNamespace(isatty=lambda: True, write=lambda text: None, flush=lambda: 0)
    )
    assert leave("ensemble", path) == 0
    assert seen["progress"] is True


def test_settings_of_a_field_without_strength_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"turbulence\.rms = 0"):
        make_ensemble(settings(turbulence_rms=0.0, turbulence_mean_field=0.0), base=tmp_path)


def test_turbulence_settings_give_the_spectrum_they_name():
    spectrum = TurbulenceSettings(0.1, 10.0, bend_over=0.0, energy_index=1.5).spectrum
    assert (spectrum.bend_over, spectrum.energy_index) == (None, 1.5)


def test_orbits_to_a_tolerance_are_those_of_small_steps(tmp_path):
    """At T = 4 the default leapfrog is off by per cent; the multi-rate scheme agrees with steps of 1/1000."""
    plain = settings(sets=0, realisations=1, gyroradius=(0.5,), nside=2, lmax=2)
    skies = {}
    for name, change in {"default": {}, "tolerance": {"tolerance": 1e-6}, "small": {"step": 1e-3}}.items():
        chosen = dataclasses.replace(plain, output=name, **change)
        skies[name] = gather(chosen, run_ensemble(chosen, base=tmp_path)).alm[0, 0, 0, 1]
    np.testing.assert_allclose(skies["tolerance"], skies["small"], atol=2e-4)
    assert np.abs(skies["default"] - skies["small"]).max() > 2e-3


@pytest.mark.parametrize("blocks", [1, 3])
def test_spheres_in_place_of_times_give_the_sky_of_first_crossings(tmp_path, blocks):
    """The same as `crossing_sky` of the same field and directions, some of which never cross the larger sphere."""
    chosen = settings(
        times=(), radii=(0.5, 2.5), longest_time=6.0, most_missing=0.9, sets=0, realisations=1, gyroradius=(0.5,),
        blocks=blocks,
    )  # fmt: skip
    summary = make_ensemble(chosen, base=tmp_path)
    found = read_ensemble(summary.path)
    expected = crossing_sky(
        ensemble_field(chosen, 0), (0.5, 2.5), gyroradius=0.5, nside=4, lmax=4, longest_time=6.0, most_missing=0.9
    )
    assert found.missing[0, 0, 0, 0] == 0 < found.missing[0, 0, 0, 1] < 150
    np.testing.assert_array_equal(found.missing[0], expected.missing)
    np.testing.assert_allclose(found.alm[0], expected.alm, atol=1e-11)
    np.testing.assert_allclose(found.product[0], expected.product, atol=1e-11)
    np.testing.assert_allclose(found.local_field[0], expected.local_field)
    # On the first sphere r^2 is that of the sphere, whatever the orbit.
    assert np.trace(found.product[0, 0, 0, 0, :3, :3]) == pytest.approx(0.25, rel=1e-6)
    assert [(row["radius"], "K_par" in row) for row in summary.rows] == [(0.5, False), (2.5, False)]
    with pytest.raises(ModelDomainError, match=r"did not cross the sphere of 2.5 gyroradii in 6 / Omega"):
        make_ensemble(dataclasses.replace(chosen, most_missing=0.01), base=tmp_path, overwrite=True)
    assert read_ensemble(summary.path).missing is not None, "the product before it stays"
