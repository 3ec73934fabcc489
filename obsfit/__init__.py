"""obsfit: re-analysis of cosmic-ray anisotropy data, from published numbers to a posterior.

The names below are the public interface. They are loaded at first use, so that ``import obsfit`` is quick.
"""

import importlib
from typing import Any

__version__ = "0.10.0"

_HOME = {
    "DipoleMeasurements": "obsfit.records",
    "DirectIntegration": "obsfit.reconstruct",
    "EastWest": "obsfit.reconstruct",
    "EventColumns": "obsfit.ingest.event_columns",
    "EventMap": "obsfit.records",
    "FitResult": "obsfit.infer.result",
    "ForwardBackward": "obsfit.reconstruct",
    "HealpixLocalGrid": "obsfit.records",
    "HourAngleGrid": "obsfit.records",
    "IterativeLikelihood": "obsfit.reconstruct",
    "Likelihood": "obsfit.infer.likelihood",
    "LowMultipoleLikelihood": "obsfit.reconstruct",
    "Observatory": "obsfit.observatory",
    "Parameter": "obsfit.parameters",
    "Posterior": "obsfit.infer.posterior",
    "PowerSpectrum": "obsfit.records",
    "Rayleigh": "obsfit.reconstruct",
    "RightAscensionProjection": "obsfit.reconstruct",
    "RingCounts": "obsfit.records",
    "SkyMap": "obsfit.records",
    "TimeScrambling": "obsfit.reconstruct",
    "TrueSky": "obsfit.records",
    "WeightedSamples": "obsfit.infer.weighted_samples",
    "add_models": "obsfit.composition",
    "available_data": "obsfit.ingest.catalogue",
    "available_models": "obsfit.plugins",
    "load_dipoles": "obsfit.ingest.catalogue",
    "load_map": "obsfit.ingest.maps",
    "load_model": "obsfit.plugins",
    "load_projection": "obsfit.ingest.catalogue",
    "load_spectra": "obsfit.ingest.catalogue",
    "load_spectrum": "obsfit.ingest.catalogue",
    "operator_for": "obsfit.operators",
    "pseudo_spectrum": "obsfit.spectra",
    "read_event_map": "obsfit.ingest.events",
    "read_events": "obsfit.ingest.events",
    "read_record": "obsfit.ingest.record_files",
    "run_emcee": "obsfit.infer.emcee_runner",
    "run_importance": "obsfit.infer.importance",
    "write_record": "obsfit.ingest.record_files",
}
_PACKAGES = ("errors", "mock", "plot", "reconstruct", "sky", "spectra")

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
