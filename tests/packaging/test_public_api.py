"""The public interface is a promise: these names, with these homes, under one version."""

import ast
import importlib.metadata
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import obsfit

ROOT = Path(__file__).parents[2]

PROMISED = {
    "DipoleMeasurements",
    "DirectIntegration",
    "EastWest",
    "EventColumns",
    "EventMap",
    "FitResult",
    "ForwardBackward",
    "HealpixLocalGrid",
    "HourAngleGrid",
    "IterativeLikelihood",
    "Likelihood",
    "LowMultipoleLikelihood",
    "Observatory",
    "Parameter",
    "Posterior",
    "PowerSpectrum",
    "Rayleigh",
    "RightAscensionProjection",
    "RingCounts",
    "SkyMap",
    "TimeScrambling",
    "TrueSky",
    "WeightedSamples",
    "__version__",
    "add_models",
    "available_data",
    "available_models",
    "errors",
    "load_dipoles",
    "load_map",
    "load_model",
    "load_projection",
    "load_spectra",
    "load_spectrum",
    "mock",
    "operator_for",
    "plot",
    "pseudo_spectrum",
    "read_event_map",
    "read_events",
    "read_record",
    "reconstruct",
    "run_emcee",
    "run_importance",
    "sky",
    "spectra",
    "write_record",
}


def test_the_public_names_are_these():
    assert set(obsfit.__all__) == PROMISED
    assert len(obsfit.__all__) == len(PROMISED)
    assert dir(obsfit) == sorted(PROMISED)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_each_public_name_exists_and_explains_itself(name):
    value = getattr(obsfit, name)
    if name != "__version__":
        assert inspect.getdoc(value), f"obsfit.{name} has no docstring"


@pytest.mark.parametrize(
    "name",
    ["EmulatedPosterior", "SimulatedTerm", "Simulation", "leave_one_out", "nested_evidence", "predictive_check"],
)
def test_likelihoods_learnt_from_draws_are_offered_beside_the_others(name):
    from obsfit import infer

    assert name in infer.__all__
    assert getattr(infer, name).__module__.startswith("obsfit.infer.")


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'load_dipole'"):
        obsfit.load_dipole  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "obsfit/__init__.pyi").read_text(encoding="utf-8"))
    seen = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == PROMISED


def test_type_checkers_see_the_same_homes():
    tree = ast.parse((ROOT / "obsfit/__init__.pyi").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "obsfit":
            home = importlib.import_module(node.module)
            for alias in node.names:
                assert getattr(obsfit, alias.name) is getattr(home, alias.name)


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == obsfit.__version__
    assert importlib.metadata.version("obsfit") == obsfit.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == obsfit.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == obsfit.__version__
