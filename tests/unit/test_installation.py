"""What obsfit doctor says of an installation: each fault put in on purpose, in folders and variables of the test."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numba
import pytest

import obsfit.cli
from obsfit import installation
from obsfit.execute.processes import THREADS
from obsfit.installation import check_installation
from obsfit.provenance import sha256


def checks(tmp_path, **environment):
    return {check.name: check for check in check_installation(tmp_path, environment)}


def wrong(found):
    return [name for name, check in found.items() if not check.ok]


def leave(*words):
    with pytest.raises(SystemExit) as end:
        obsfit.cli.main(list(words))
    return end.value.code


def requires(monkeypatch, *requirements):
    monkeypatch.setattr(installation, "requires", lambda name: list(requirements))


def test_this_installation_is_sound_and_every_remedy_of_a_fault_is_named(tmp_path):
    found = checks(tmp_path)
    assert wrong(found) == []
    assert {
        "python", "numpy", "models", "processors", "healpy threads", "ducc0 threads", "numba threads", "CUDA device",
        "kernel cache", "figures", "sidereal time", "shipped data", "obsfit_models/turbulence", "your data",
        "results folder",
    } <= set(found)  # fmt: skip
    assert found["python"].found == platform.python_version()
    assert found["numpy"].found.startswith(__import__("numpy").__version__ + " (at least ")


def test_no_check_is_named_twice(tmp_path):
    names = [check.name for check in check_installation(tmp_path, {})]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("bound", ["999", "999.0", "1000.1"])
def test_a_package_older_than_what_is_tested_is_wrong(monkeypatch, tmp_path, bound):
    requires(monkeypatch, f"numpy>={bound}")
    check = checks(tmp_path)["numpy"]
    assert not check.ok
    assert f"older than {bound}" in check.found
    assert check.remedy == f"python -m pip install 'numpy>={bound}'"


def test_versions_are_compared_as_numbers_not_as_text(monkeypatch, tmp_path):
    requires(monkeypatch, "numpy>=1.9")
    monkeypatch.setattr(installation, "version", lambda name: "1.10.0")
    assert checks(tmp_path)["numpy"].ok
    monkeypatch.setattr(installation, "version", lambda name: "1.8.7")
    assert not checks(tmp_path)["numpy"].ok


def test_an_optional_set_may_be_absent_but_not_too_old(monkeypatch, tmp_path):
    requires(
        monkeypatch,
        "absent-package>=1.0; extra == 'fetch'", 'numpy>=1.0; extra == "events"', "numpy>=999; extra == 'cluster'",
    )  # fmt: skip
    found = checks(tmp_path)
    absent, present, old = (found[f"optional {name}"] for name in ("fetch", "events", "cluster"))
    assert absent.ok
    assert "absent-package not installed" in absent.found
    assert absent.remedy == "python -m pip install 'obsfit[fetch]'"
    assert (present.ok, present.remedy) == (True, "")
    assert present.found.endswith(": present")
    assert not old.ok
    assert "older than 999" in old.found


def test_every_optional_set_of_the_project_has_a_purpose():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == set(installation.PURPOSE)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "DUCC0_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_a_number_of_threads_that_is_none_is_wrong(tmp_path, name, value):
    found = checks(tmp_path, **{name: value})
    assert wrong(found) == [name]
    assert repr(value) in found[name].found


def test_a_setting_with_which_numba_cannot_be_imported_is_reported(tmp_path):
    """In a process of its own: numba reads the variable when it is imported, and raises at 0."""
    command = [sys.executable, "-c", "import obsfit.cli; obsfit.cli.main(['doctor', '--results', '.'])"]
    environment = os.environ | {"NUMBA_NUM_THREADS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (4, "")
    assert "  NUMBA_NUM_THREADS: '0', expected a whole number from 1" in done.stdout


def test_the_same_variables_are_looked_at_that_worker_processes_set():
    assert set(installation.THREAD_VARIABLES) == {"DUCC0_NUM_THREADS", *THREADS}


def test_threads_are_those_that_the_variables_set(tmp_path):
    found = checks(tmp_path, OMP_NUM_THREADS="3", DUCC0_NUM_THREADS="5")
    assert found["healpy threads"].found == "up to 3 (OMP_NUM_THREADS)"
    assert found["ducc0 threads"].found == "up to 5 (DUCC0_NUM_THREADS)"
    # Without a variable of its own ducc0 takes that of OpenMP.
    assert checks(tmp_path, OMP_NUM_THREADS="3")["ducc0 threads"].found == "up to 3 (OMP_NUM_THREADS)"
    assert "all processors" in checks(tmp_path)["healpy threads"].found
    assert found["numba threads"].found.startswith(f"{numba.get_num_threads()} of ")


class Device:
    name = b"A device"
    compute_capability = (9, 0)


def test_a_device_is_named_and_a_broken_driver_is_no_fault(monkeypatch, tmp_path):
    from numba import cuda

    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "get_current_device", Device)
    check = checks(tmp_path)["CUDA device"]
    assert (check.ok, check.found) == (True, "A device, compute capability 9.0")

    def fails():
        raise RuntimeError("the driver is\ntoo old. Get another.")

    monkeypatch.setattr(cuda, "is_available", fails)
    check = checks(tmp_path)["CUDA device"]
    assert check.ok
    assert check.found == "none that can be used (the driver is too old); the processors do its work"


def test_a_cache_folder_that_cannot_be_written_is_wrong(tmp_path):
    file = tmp_path / "file"
    file.touch()
    found = checks(tmp_path, NUMBA_CACHE_DIR=str(file / "cache"))
    assert wrong(found) == ["kernel cache"]
    assert str(file) in found["kernel cache"].found
    assert found["kernel cache"].remedy.startswith("Set NUMBA_CACHE_DIR")
    good = checks(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))["kernel cache"]
    assert good.ok
    assert not (tmp_path / "cache").exists()


def test_a_model_whose_module_is_gone_is_wrong(monkeypatch, tmp_path):
    gone = EntryPoint("gone", "no_such_package.model:Model", "obsfit.models")
    monkeypatch.setattr(installation, "entry_points", lambda group: [gone])
    found = checks(tmp_path)
    assert wrong(found) == ["models"]
    assert "gone (no_such_package.model:Model)" in found["models"].found


def test_data_of_a_package_with_models_are_compared_with_their_checksums(monkeypatch, tmp_path):
    """A package of two files, of which one is altered after its checksum was taken."""
    folder = tmp_path / "test_models_of_doctor"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    for name in ("a.dat", "b.dat"):
        (folder / "inner" / name).write_text(name)
    lines = [f"{sha256(folder / 'inner' / name)}  {name}\n" for name in ("a.dat", "b.dat")]
    (folder / "inner" / "SHA256SUMS").write_text("".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("mine", "test_models_of_doctor:Model", "obsfit.models")
    monkeypatch.setattr(installation, "entry_points", lambda group: [entry])
    assert checks(tmp_path)["test_models_of_doctor/inner"].ok
    (folder / "inner" / "b.dat").write_text("altered")
    check = checks(tmp_path)["test_models_of_doctor/inner"]
    assert (check.ok, check.found) == (False, "b.dat changed")


def test_variables_that_point_to_nothing_are_wrong(tmp_path):
    assert wrong(checks(tmp_path, OBSFIT_DATA_SOURCES=str(tmp_path))) == []
    file = tmp_path / "spectrum.ecsv"
    found = checks(tmp_path, OBSFIT_DATA_SOURCES=str(file), OBSFIT_HAWC_2014_SPECTRUM=str(file))
    assert wrong(found) == ["OBSFIT_DATA_SOURCES", "OBSFIT_HAWC_2014_SPECTRUM"]
    file.touch()
    assert wrong(checks(tmp_path, OBSFIT_HAWC_2014_SPECTRUM=str(file))) == []


def test_the_table_of_sidereal_time_must_be_there(monkeypatch, tmp_path):
    import astropy_iers_data

    monkeypatch.setattr(astropy_iers_data, "IERS_B_FILE", str(tmp_path / "absent"))
    found = checks(tmp_path)
    assert wrong(found) == ["sidereal time"]
    assert "astropy-iers-data" in found["sidereal time"].remedy


def test_faults_are_listed_again_at_the_end_with_their_remedies(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    monkeypatch.setenv("OBSFIT_DATA_SOURCES", str(tmp_path / "absent"))
    assert leave("doctor", "--results", str(tmp_path)) == 4
    end = capsys.readouterr().out.partition(" checks, 2 wrong\n")[2].splitlines()
    assert end == [
        "  OMP_NUM_THREADS: 'many', expected a whole number from 1", "    Correct or unset it.",
        f"  OBSFIT_DATA_SOURCES: {tmp_path / 'absent'} is no folder", "    Correct or unset it.",
    ]  # fmt: skip


def test_json_holds_every_check_with_its_four_fields(capsys, tmp_path):
    assert leave("doctor", "--json", "--results", str(tmp_path)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"schema", "ok", "checks"}
    assert (answer["schema"], answer["ok"]) == (1, True)
    for check in answer["checks"]:
        assert set(check) == {"name", "ok", "found", "remedy"}
        assert check["found"]
        assert isinstance(check["ok"], bool)
