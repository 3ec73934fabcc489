"""make finds a usable Python, or says which package is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci/find-python"


@pytest.fixture
def machine(tmp_path):
    """Give a function that puts pretended interpreters on an otherwise empty PATH and runs the script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shell = shutil.which("sh")

    def run(named="", **interpreters):
        for name, (recent, venv) in interpreters.items():
            # The script asks for the version, then for the modules, then may print the version.
            text = (
                f'#!{shell}\ncase "$2" in\n  *version_info\\ *) exit {0 if recent else 1};;\n'
                f"  *ensurepip*) exit {0 if venv else 1};;\n  *print*) echo 3.12;;\nesac\n"
            )
            path = folder / name.replace("_", ".")
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        environment = {"PATH": str(folder), "PYTHON": named}
        return subprocess.run([shell, SCRIPT], env=environment, capture_output=True, text=True, check=False)

    return run


def test_python3_is_taken_if_it_will_do(machine):
    process = machine(python3=(True, True), python3_12=(True, True))
    assert (process.returncode, process.stdout, process.stderr) == (0, "python3\n", "")


def test_a_newer_python_is_taken_where_python3_is_old(machine):
    assert machine(python3=(False, True), python3_12=(True, True)).stdout == "python3.12\n"


def test_another_python_is_taken_where_python3_lacks_venv(machine):
    assert machine(python3=(True, False), python3_11=(True, True)).stdout == "python3.11\n"


def test_a_missing_venv_module_is_named_by_its_package(machine):
    process = machine(python3=(True, False))
    assert process.returncode == 1
    assert process.stdout == ""
    assert "apt install python3.12-venv" in process.stderr


@pytest.mark.parametrize("interpreters", [{}, {"python3": (False, True)}])
def test_without_a_recent_python_it_says_what_to_install(machine, interpreters):
    process = machine(**interpreters)
    assert process.returncode == 1
    assert "no Python of at least 3.11 found" in process.stderr
    assert "apt install python3 python3-venv" in process.stderr


def test_a_named_python_is_the_only_one_tried(machine):
    process = machine(named="python3.9", python3=(True, True))
    assert process.returncode == 1
    assert "tried: python3.9" in process.stderr


def test_this_machine_has_one():
    process = subprocess.run(
        [SCRIPT], env={**os.environ, "PYTHON": ""}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
