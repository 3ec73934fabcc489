"""Turbulent magnetic fields, orbits through them, and the skies that Liouville's theorem makes of them.

The names below are those that most users need. They are loaded at first use; the modules hold more.
"""

import importlib
from typing import Any

_HOME = {
    "DisplacementEnsemble": "displacement",
    "DisplacementSky": "displacement",
    "EnsembleSettings": "ensemble",
    "GridField": "field",
    "MagneticField": "field",
    "ModeBand": "plane_waves",
    "PlaneWaves": "field",
    "SkyPatch": "patches",
    "TurbulenceSettings": "ensemble",
    "TurbulenceSpectrum": "spectrum",
    "axial_share": "sky_spectra",
    "back_track": "orbits",
    "composite_waves": "plane_waves",
    "cross_spheres": "orbits",
    "crossing_sky": "displacement",
    "dipole_anisotropy": "anisotropy",
    "displacement_patch": "patches",
    "displacement_sky": "displacement",
    "gradient_anisotropy": "anisotropy",
    "grid_turbulence": "grids",
    "isotropic_waves": "plane_waves",
    "make_ensemble": "ensemble",
    "nested_grids": "grids",
    "orientation": "anisotropy",
    "pair_power": "sky_spectra",
    "power_ratio": "sky_spectra",
    "read_ensemble": "displacement_files",
    "read_field": "field_files",
    "read_sky": "displacement_files",
    "rotated_alm": "anisotropy",
    "rotated_sky": "anisotropy",
    "sky_anisotropy": "anisotropy",
    "slab_waves": "plane_waves",
    "standard_power": "sky_spectra",
    "track": "orbits",
    "two_dimensional_waves": "plane_waves",
    "write_displacements": "displacement_files",
    "write_field": "field_files",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
