"""The names that the package of turbulence offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from obsfit_models import turbulence

STUB = Path(turbulence.__file__).with_suffix(".pyi")


@pytest.mark.parametrize("name", turbulence.__all__)
def test_each_name_is_there(name):
    assert callable(getattr(turbulence, name))


def test_stub_says_the_same():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    told = {alias.name: node.module for node in tree.body for alias in node.names}
    assert told == {name: f"obsfit_models.turbulence.{home}" for name, home in turbulence._HOME.items()}


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'turbulent'"):
        _ = turbulence.turbulent


def test_importing_the_package_loads_no_kernel():
    ask = "import sys, obsfit_models.turbulence; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
