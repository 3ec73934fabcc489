"""Help and plain imports are quick because they load none of the heavy packages."""

import json
import subprocess
import sys

import pytest

from obsfit.cli import COMMANDS

HEAVY = ("numpy", "scipy", "pandas", "astropy", "healpy", "numba", "matplotlib", "emcee", "h5py")

PROBE = """
import json, sys
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def modules_after(statement):
    process = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return set(json.loads(process.stderr)), process.stdout


def test_importing_obsfit_loads_nothing_heavy():
    loaded, _ = modules_after("import obsfit")
    assert not loaded & set(HEAVY)
    assert not {name for name in loaded if name.startswith("obsfit.")}


def test_help_loads_nothing_heavy_and_no_command():
    loaded, text = modules_after("import obsfit.cli; obsfit.cli.main(['--help'])")
    assert not loaded & set(HEAVY)
    assert {name for name in loaded if name.startswith("obsfit.cli.")} == set()
    assert [name for name in COMMANDS if name not in text] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_loads_nothing_heavy(command):
    loaded, text = modules_after(f"import obsfit.cli; obsfit.cli.main([{command!r}, '--help'])")
    assert not loaded & set(HEAVY)
    assert f"Usage: obsfit {command}" in text


def test_the_probe_sees_a_heavy_import():
    loaded, _ = modules_after("import obsfit; obsfit.Parameter")
    assert "numpy" in loaded
