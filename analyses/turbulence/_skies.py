"""Ensembles of displacement skies behind figures: where they are stored, and their power along and across the field.

Power is that of a relative gradient of one per gyroradius, hence in units of its square; the uniform field is along z.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import obsfit_models.turbulence
from numpy.typing import NDArray
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.ensemble import EnsembleSettings, gather, run_ensemble
from obsfit_models.turbulence.sky_spectra import pair_power, same_power

FloatArray = NDArray[np.float64]

PROGRAMS = (
    "_kernels_cpu", "directions", "displacement", "ensemble", "field", "orbits", "plane_waves", "spectrum",
)  # fmt: skip
"""Modules on which stored sums depend."""


def store_name(name: str) -> str:
    """Return the name of a store with a checksum of the programs: sums of an older kernel are never mixed in."""
    digest = hashlib.sha256()
    folder = Path(next(iter(obsfit_models.turbulence.__path__)))
    for module in PROGRAMS:
        digest.update((folder / f"{module}.py").read_bytes())
    return f"{name}-{digest.hexdigest()[:8]}"


def stored_ensemble(settings: EnsembleSettings, name: str, results: Path) -> DisplacementEnsemble:
    """Return an ensemble whose tasks lie in the folder of results; fields that are there are not tracked again."""
    chosen = replace(settings, output=f"ensembles/{store_name(name)}")
    return gather(chosen, run_ensemble(chosen, base=results))


def gradient_power(ensemble: DisplacementEnsemble) -> FloatArray:
    """Return C_l for gradients along x, y and z, from products between sets, (n_field, n_time, 3, lmax + 1)."""
    return pair_power(ensemble.alm[:, :, 0, :, :3], axis=1)


def shot_noise(ensemble: DisplacementEnsemble) -> FloatArray:
    """Return the shot noise of one set: its own power less that between sets, mean over 2 l + 1 coefficients of all
    l >= 1, shape (n_field, n_time, 3)."""
    position = ensemble.alm[:, :, 0, :, :3]
    excess = same_power(position, axis=1) - pair_power(position, axis=1)
    weight = 2.0 * np.arange(1, excess.shape[-1]) + 1.0
    return np.asarray(excess[..., 1:] @ weight / weight.sum())


def mean_squares(ensemble: DisplacementEnsemble) -> FloatArray:
    """Return the means over directions of the squares of x, y and z, (n_field, n_time, 3)."""
    product = ensemble.product[:, :, 0].mean(axis=1)
    return np.diagonal(product, axis1=-2, axis2=-1)[..., :3]


def along_and_across(values: FloatArray, axis: int = -1) -> tuple[FloatArray, FloatArray]:
    """Return what belongs to a gradient along the uniform field, and the mean of the two across it."""
    x, y, z = np.moveaxis(values, axis, 0)
    return z, 0.5 * (x + y)
