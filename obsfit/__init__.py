"""obsfit: re-analysis of cosmic-ray anisotropy data, from published numbers to a posterior.

The names below are the public interface. They are loaded at first use, so that ``import obsfit`` is quick.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_HOME = {
    "DipoleMeasurements": "obsfit.records",
    "FitResult": "obsfit.infer.result",
    "Likelihood": "obsfit.infer.likelihood",
    "Observatory": "obsfit.observatory",
    "Parameter": "obsfit.parameters",
    "Posterior": "obsfit.infer.posterior",
    "PowerSpectrum": "obsfit.records",
    "TrueSky": "obsfit.records",
    "add_models": "obsfit.composition",
    "available_data": "obsfit.ingest.catalogue",
    "available_models": "obsfit.plugins",
    "load_dipoles": "obsfit.ingest.catalogue",
    "load_model": "obsfit.plugins",
    "load_projection": "obsfit.ingest.catalogue",
    "load_spectra": "obsfit.ingest.catalogue",
    "load_spectrum": "obsfit.ingest.catalogue",
    "operator_for": "obsfit.operators",
    "run_emcee": "obsfit.infer.emcee_runner",
}
_PACKAGES = ("errors", "plot", "sky")

__all__ = [
    *_HOME,
    *_PACKAGES,
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"obsfit.{name}")
    raise AttributeError(f"module 'obsfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
