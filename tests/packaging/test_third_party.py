"""Another package adds a model by an entry point alone: the proof of the plug-in interface."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

USE_IT = """
import json
import numpy as np
import obsfit
from obsfit.errors import PluginError
from obsfit.protocols import true_sky

def refusal(name):
    try:
        obsfit.load_model(name)
    except PluginError as error:
        return str(error)

model = obsfit.load_model("toy-dipole", reference_tv=20.0)
sky = true_sky(model, np.array([[1e-3, 0.5], [2e-3, 0.0]]), np.array([20.0, 80.0]), lmax=2)
a11 = sky.alm[:, :, 3]
print(json.dumps({
    "listed": obsfit.available_models(),
    "names": [parameter.name for parameter in model.parameters],
    "imag_a11": (a11.imag * np.sqrt(3 / (2 * np.pi))).tolist(),
    "real_a11": a11.real.tolist(),
    "broken": refusal("toy-broken"),
    "silent": refusal("toy-silent"),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the toy package installed as a user would install it, away from the checkout."""
    source = tmp_path_factory.mktemp("source") / "toy"
    shutil.copytree(Path(__file__).parent / "third_party", source)
    target = tmp_path_factory.mktemp("target")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index",
            "--no-build-isolation", "--target", str(target), str(source),
        ],
        check=True,
    )  # fmt: skip
    return target


def run(target, *command):
    environment = {**os.environ, "PYTHONPATH": str(target)}
    return subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def answer(installed):
    process = run(installed, sys.executable, "-c", USE_IT)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_model_is_found(answer):
    assert {"toy-dipole", "toy-broken", "toy-silent", "relative-diffusion"} <= set(answer["listed"])
    assert answer["names"] == ["amplitude", "slope"]


def test_the_model_predicts_a_true_sky(answer):
    # delta_6h = sqrt(3 / 2 pi) Im a_11, and (80 / 20)^0.5 = 2.
    expected = [[1e-3, 2e-3], [2e-3, 2e-3]]
    for row, line in zip(answer["imag_a11"], expected, strict=True):
        assert row == pytest.approx(line, rel=1e-12)
    assert answer["real_a11"] == [[0.0, 0.0], [0.0, 0.0]]


def test_a_plug_in_that_cannot_be_imported_is_named(answer):
    assert "model 'toy-broken' (toy_anisotropy:Forgotten) cannot be imported" in answer["broken"]


def test_a_plug_in_that_predicts_nothing_is_refused(answer):
    assert "model 'toy-silent' predicts nothing" in answer["silent"]


def test_the_command_line_lists_it_and_is_not_stopped_by_the_broken_one(installed):
    process = run(installed, sys.executable, "-c", "import obsfit.cli; obsfit.cli.main(['models', 'list'])")
    assert process.returncode == 0
    assert "toy-dipole" in process.stdout
    assert "toy-broken" in process.stderr


def test_the_example_is_short(installed):
    lines = (installed / "toy_anisotropy.py").read_text(encoding="utf-8").splitlines()
    assert lines.index("class Silent:") <= 36
