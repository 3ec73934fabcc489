"""Ensembles of displacement skies: many fields of one turbulence, as tasks that can be interrupted and resumed."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID
from obsfit.execute import child_generator, run_tasks
from obsfit_models.turbulence.directions import healpix_directions, jittered_directions
from obsfit_models.turbulence.displacement import displacement_sums
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TurbulenceSettings:
    """A turbulent field; lengths in a unit of the user's choice, strengths in that of the gyroradius.

    Attributes
    ----------
    wavelength_min, wavelength_max, energy_index, bend_over, large_scale_index
        As `spectrum.TurbulenceSpectrum`; bend_over = 0 stands for none.
    mean_field : float
        Strength of the uniform field, along z.
    rms : float
        Root mean square of the turbulent field.
    modes_per_decade : float
        Density of waves in the logarithm of the wavenumber.
    resonant_modes_per_decade : float
        Density above `resonant_from`; 0 for the same.
    resonant_from : float
        Wavenumber, in units of the inverse of the smallest gyroradius, above which waves scatter by resonance.
    """

    __pydantic_config__ = FORBID

    wavelength_min: float
    wavelength_max: float
    energy_index: float = 5.0 / 3.0
    bend_over: float = 1.0
    large_scale_index: float = 2.0
    mean_field: float = 1.0
    rms: float = 1.0
    modes_per_decade: float = 25.0
    resonant_modes_per_decade: float = 0.0
    resonant_from: float = 0.1

    @property
    def spectrum(self) -> TurbulenceSpectrum:
        """Its spectrum."""
        return TurbulenceSpectrum(
            self.wavelength_min, self.wavelength_max, self.energy_index, self.bend_over or None,
            self.large_scale_index,
        )  # fmt: skip


@dataclass(frozen=True)
class EnsembleSettings:
    """An ensemble of displacement skies.

    Attributes
    ----------
    seed : int
        Seed of fields and directions; each field has its own stream, keyed by its number.
    realisations : int
        Number of fields. More of them are a continuation.
    turbulence : TurbulenceSettings
    gyroradius : tuple of float
        r_L in a field of unit strength, one for each rigidity; the same fields for all.
    times : tuple of float
        Times of back-tracking in 1/Omega of each rigidity, increasing.
    nside : int
        Resolution of the directions.
    lmax : int
        Largest multipole kept.
    sets : int
        Sets of directions at random in the pixels; 0 for one set of pixel centres.
    blocks : int
        Parts into which each set is divided, each a task: more for rigidities at which one sky takes long.
    step : float
        Largest step in 1/Omega; 0 for that of `orbits.ensemble_step`.
    output : str
        Folder of the results, relative to the file.
    """

    __pydantic_config__ = FORBID

    seed: int
    realisations: int
    turbulence: TurbulenceSettings
    gyroradius: tuple[float, ...]
    times: tuple[float, ...]
    nside: int
    lmax: int
    sets: int = 2
    blocks: int = 1
    step: float = 0.0
    output: str = "ensemble"


def ensemble_field(settings: EnsembleSettings, realisation: int) -> MagneticField:
    """Return the field of one realisation: uniform along z, plus isotropic plane waves."""
    turbulence = settings.turbulence
    rng = child_generator(settings.seed, "field", realisation)
    total = MagneticField(uniform=np.array([0.0, 0.0, turbulence.mean_field]))
    for band, share, modes in _bands(turbulence, min(settings.gyroradius)):
        total += isotropic_waves(band, modes=modes, rms=turbulence.rms * np.sqrt(share), rng=rng)
    return total


def arrival_directions(settings: EnsembleSettings, direction_set: int) -> FloatArray:
    """Return the directions of one set, the same for all fields, shape (3, 12 nside^2)."""
    if settings.sets == 0:
        return healpix_directions(settings.nside)
    return jittered_directions(settings.nside, rng=child_generator(settings.seed, "directions", direction_set))


def ensemble_task(
    settings: EnsembleSettings, what: str, realisation: int, direction_set: int, block: int
) -> dict[str, Any]:
    """Return the sums of `displacement.displacement_sums` over one block of directions through one field."""
    arrival = arrival_directions(settings, direction_set)
    edges = np.linspace(0, arrival.shape[1], settings.blocks + 1).astype(int)
    part = np.ascontiguousarray(arrival[:, edges[block] : edges[block + 1]])
    sums, product = displacement_sums(
        ensemble_field(settings, realisation), part, settings.times, gyroradius=settings.gyroradius,
        lmax=settings.lmax, step=settings.step or None,
    )  # fmt: skip
    return {"sums": sums, "product": product}


def run_ensemble(
    settings: EnsembleSettings,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return the sums of all tasks, ordered by field, set and block; those in the store are not done again."""
    identity = {key: value for key, value in asdict(settings).items() if key not in ("realisations", "output")}
    keys = [
        ("sky", realisation, direction_set, block)
        for realisation in range(settings.realisations)
        for direction_set in range(max(settings.sets, 1))
        for block in range(settings.blocks)
    ]
    return run_tasks(
        partial(ensemble_task, settings), keys, store=base / settings.output, configuration=identity,
        workers=workers, scheduler=scheduler, progress=progress,
    )  # fmt: skip


def _bands(turbulence: TurbulenceSettings, gyroradius: float) -> list[tuple[TurbulenceSpectrum, float, int]]:
    """Spectra of the bands of different density, their shares of the energy, and their numbers of waves."""
    whole = turbulence.spectrum
    bands = [(whole, turbulence.modes_per_decade)]
    border = 2 * np.pi * gyroradius / turbulence.resonant_from
    if turbulence.resonant_modes_per_decade and whole.wavelength_min < border < whole.wavelength_max:
        bands = [
            (dataclasses.replace(whole, wavelength_min=border), turbulence.modes_per_decade),
            (dataclasses.replace(whole, wavelength_max=border), turbulence.resonant_modes_per_decade),
        ]
    energies = [_energy(band) for band, _ in bands]
    return [
        (band, energy / sum(energies), max(1, round(density * band.decades)))
        for (band, density), energy in zip(bands, energies, strict=True)
    ]


def _energy(spectrum: TurbulenceSpectrum) -> float:
    """Integral of E(k), in the common normalisation of spectra of one shape."""
    log_k = np.linspace(np.log(spectrum.k_min), np.log(spectrum.k_max), 4001)
    return float(np.trapezoid(spectrum.energy_per_log_k(np.exp(log_k)), log_k))
