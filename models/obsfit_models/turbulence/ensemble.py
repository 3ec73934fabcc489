"""Ensembles of displacement skies: many fields of one turbulence, as tasks that can be interrupted and resumed."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, DataFormatError, ModelDomainError
from obsfit.execute import child_generator, run_tasks
from obsfit.protocols import EnsembleSummary
from obsfit_models.turbulence.directions import fitted_alm, gram_matrix, healpix_directions, jittered_directions
from obsfit_models.turbulence.displacement import DisplacementEnsemble, local_field, map_sums
from obsfit_models.turbulence.displacement_files import write_displacements
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.grids import largest_cube, nested_grids, warn_of_repeats
from obsfit_models.turbulence.orbits import back_track, cross_spheres
from obsfit_models.turbulence.plane_waves import (
    FEWEST_PER_DECADE,
    ModeBand,
    check_resolution,
    composite_waves,
    isotropic_waves,
)
from obsfit_models.turbulence.sky_spectra import pair_power, same_power
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from obsfit_models.turbulence.units import reduced_gyroradius

FloatArray = NDArray[np.float64]

PRODUCT = "ensemble.h5"
"""Name of the product in the output folder."""


GRID_POINTS = 12.0
"""Points of a cube over the ratio of its wavelengths: two of the longest, with six points in the shortest."""


MOST_POINTS = 512
"""Points along a side of a cube, 3.2 GB."""


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
    geometry : str
        "isotropic", "slab" (wave vectors along z), "two-dimensional" (wave vectors and field across z), or
        "composite" of the last two.
    slab_fraction : float
        Share of the energy that is slab, for "composite" alone.
    grid_points : int
        For "isotropic": points along each side of nested periodic cubes (`grids.nested_grids`) in place of plane waves;
        0 for plane waves. Modes per decade are then of no effect. Orbits that go further than the largest cube, of
        about `wavelength_max` times 2, see its large waves again.
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
    geometry: Literal["isotropic", "slab", "two-dimensional", "composite"] = "isotropic"
    slab_fraction: float = 0.2
    grid_points: int = 0

    @property
    def spectrum(self) -> TurbulenceSpectrum:
        """Its spectrum."""
        return TurbulenceSpectrum(
            self.wavelength_min, self.wavelength_max, self.energy_index, self.bend_over or None,
            self.large_scale_index,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
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
    rigidity : tuple of str
        In place of `gyroradius`, together with `field_strength` and `length_unit`: rigidities such as "20 TV".
    field_strength : str
        What a field of strength 1 is, such as "3 uG".
    length_unit : str
        What a length of 1 is, such as "10 pc": the bend-over length, if `turbulence.bend_over` is 1.
    times : tuple of float
        Times of back-tracking in 1/Omega of each rigidity, increasing.
    radii : tuple of float
        In place of `times`: radii of spheres about the observer in gyroradii of each rigidity, increasing. Particles
        are taken where they first cross each of them, back in time.
    longest_time : float
        For spheres: when a particle is given up, in 1/Omega.
    most_missing : float
        For spheres: share of the directions of a field that may be given up, see `displacement.crossing_sky`.
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
    tolerance : float
        Error of single orbits after 20 / Omega, for the multi-rate scheme of `orbits.back_track`; slower. 0 for the
        leapfrog, which keeps statistics and not single orbits. With times alone, in place of a step.
    resolved_to : float
        Each rigidity sees the waves with k r_L up to this alone; 0 for all of them. At 10 one set of fields serves
        many rigidities at the cost of the smallest. What is lost is the scattering by the others and their energy: mean
        free paths come out 4 % too long at 10, a quarter or more at 3, and no longer at 30 (docs/ensembles.md).
    single_precision : bool
        Keep the a_lm of the product to 1 part in 10^7, in half the space.
    output : str
        Folder of the results, relative to the file.
    """

    __pydantic_config__ = FORBID

    seed: int
    realisations: int
    turbulence: TurbulenceSettings
    gyroradius: tuple[float, ...] = ()
    nside: int
    lmax: int
    times: tuple[float, ...] = ()
    radii: tuple[float, ...] = ()
    longest_time: float = 0.0
    most_missing: float = 0.0
    sets: int = 2
    blocks: int = 1
    step: float = 0.0
    tolerance: float = 0.0
    rigidity: tuple[str, ...] = ()
    field_strength: str = ""
    length_unit: str = ""
    resolved_to: float = 0.0
    single_precision: bool = False
    output: str = "ensemble"

    @property
    def gyroradii(self) -> tuple[float, ...]:
        """Gyroradii in units of length, given or those of the rigidities in a field of unit strength.

        Raises
        ------
        ConfigurationError
            If a rigidity, the field strength or the unit of length is none.
        """
        if not self.rigidity:
            return self.gyroradius
        field = positive_quantity(self.field_strength, u.uG, "field_strength")
        length = positive_quantity(self.length_unit, u.pc, "length_unit")
        return tuple(
            reduced_gyroradius(positive_quantity(text, u.TV, "rigidity"), field, length) for text in self.rigidity
        )


def positive_quantity(text: str, unit: u.UnitBase, key: str) -> u.Quantity:
    """Return the positive quantity that a configuration gives as text, in a unit.

    Raises
    ------
    ConfigurationError
        If it is something else; the error names the key.

    Examples
    --------
    >>> positive_quantity("20 PV", u.TV, "rigidity")
    <Quantity 20000. TV>
    """
    try:
        value = u.Quantity(text).to(unit)
    except (TypeError, ValueError) as error:
        remedy = ""
        if key == "rigidity":
            remedy = "The rigidity of a nucleus is its energy over its charge: '20 TV' for protons of 20 TeV."
        raise _refuse(key, text, f"a number with a unit, such as '3 {unit}'", remedy) from error
    if not 0 < value.value < math.inf:
        raise _refuse(key, text, "a positive quantity")
    return value


def ensemble_field(settings: EnsembleSettings, realisation: int) -> MagneticField:
    """Return the field of one realisation: uniform along z, plus plane waves of the geometry, or nested grids."""
    turbulence = settings.turbulence
    rng = child_generator(settings.seed, "field", realisation)
    total = MagneticField(uniform=np.array([0.0, 0.0, turbulence.mean_field]))
    if turbulence.grid_points:
        points = turbulence.grid_points
        return total + nested_grids(
            turbulence.spectrum, ratio=points / GRID_POINTS, points=points, rms=turbulence.rms, rng=rng
        )
    for band, share, modes in _bands(turbulence, min(settings.gyroradii)):
        rms = turbulence.rms * np.sqrt(share)
        if turbulence.geometry == "isotropic":
            total += isotropic_waves(band, modes=modes, rms=rms, rng=rng)
            continue
        slab = {"slab": 1.0, "two-dimensional": 0.0, "composite": turbulence.slab_fraction}[turbulence.geometry]
        total += composite_waves(band, slab_fraction=slab, modes=modes, rms=rms, rng=rng)
    return total


def arrival_directions(settings: EnsembleSettings, direction_set: int) -> FloatArray:
    """Return the directions of one set, the same for all fields, shape (3, 12 nside^2)."""
    if settings.sets == 0:
        return healpix_directions(settings.nside)
    return jittered_directions(settings.nside, rng=child_generator(settings.seed, "directions", direction_set))


def ensemble_task(
    settings: EnsembleSettings, what: str, realisation: int, direction_set: int, block: int
) -> dict[str, Any]:
    """Return the sums of `displacement.map_sums` over one block of directions through one field, of each gyroradius.

    With spheres, the sums are over the particles that crossed them, and ``crossed`` tells which did, shape
    (n_gyroradius, n_radius, n).
    """
    begun = time.process_time()
    arrival = arrival_directions(settings, direction_set)
    edges = np.linspace(0, arrival.shape[1], settings.blocks + 1).astype(int)
    part = np.ascontiguousarray(arrival[:, edges[block] : edges[block + 1]])
    field = ensemble_field(settings, realisation)
    sums, product, crossed = [], [], []
    for radius in settings.gyroradii:
        position, momentum, across = _tracked(settings, field, part, radius)
        one_sum, one_product = map_sums(part, position, momentum, settings.lmax)
        sums.append(one_sum)
        product.append(one_product)
        crossed.append(across)
    result = {"sums": np.array(sums), "product": np.array(product), "cpu_s": time.process_time() - begun}
    return result | ({"crossed": np.array(crossed)} if settings.radii else {})


def run_ensemble(
    settings: EnsembleSettings,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return the sums of all tasks, ordered by field, set and block; those in the store are not done again.

    Raises
    ------
    ConfigurationError
        As `check_ensemble`, and if the store holds results of another ensemble.
    """
    check_ensemble(settings, base=base)
    return _results(settings, base=base, workers=workers, scheduler=scheduler, progress=progress)


def _results(
    settings: EnsembleSettings, *, base: Path, workers: int, scheduler: str | None, progress: bool
) -> list[dict[str, Any]]:
    """The sums of all tasks of an ensemble that was checked."""
    keys = [
        ("sky", realisation, direction_set, block)
        for realisation in range(settings.realisations)
        for direction_set in range(max(settings.sets, 1))
        for block in range(settings.blocks)
    ]
    return run_tasks(
        partial(ensemble_task, settings), keys, store=base / settings.output,
        configuration=ensemble_identity(settings), workers=workers, scheduler=scheduler, progress=progress,
    )  # fmt: skip


def gather(settings: EnsembleSettings, results: Iterable[Mapping[str, Any]]) -> DisplacementEnsemble:
    """Return the ensemble of the sums of all tasks in their order; each is used once, and need not be kept.

    Raises
    ------
    DataFormatError
        If a result has the shape of another ensemble.
    ModelDomainError
        If more particles than `settings.most_missing` did not cross a sphere.
    """
    n_set, radii = max(settings.sets, 1), np.array(settings.gyroradii)
    stops = np.array(settings.radii or settings.times)
    arrivals = [arrival_directions(settings, one) for one in range(n_set)]
    grams = [gram_matrix(arrival, settings.lmax) for arrival in arrivals]
    shape = (settings.realisations, n_set, radii.size, stops.size)
    alm = np.empty((*shape, 6, hp.Alm.getsize(settings.lmax)), dtype=np.complex128)
    product, missing = np.empty((*shape, 6, 6)), np.zeros(shape, dtype=np.int64)
    flow = iter(results)
    for realisation in range(settings.realisations):
        for one in range(n_set):
            sums, total, crossed = _joined(settings, [next(flow) for _ in range(settings.blocks)], realisation)
            found = fitted_alm(sums, grams[one])
            count = np.sum(crossed, axis=-1)
            missing[realisation, one] = crossed.shape[-1] - count
            for i, j in np.argwhere(missing[realisation, one]):
                _check_missing(settings, realisation, int(missing[realisation, one, i, j]), radii[i], stops[j])
                kept = arrivals[one][:, crossed[i, j]]
                found[i, j] = fitted_alm(sums[i, j], gram_matrix(kept, settings.lmax))
            alm[realisation, one] = found
            product[realisation, one] = total / count[..., None, None]
    return DisplacementEnsemble(
        alm, product, radii, stops, "radius" if settings.radii else "time", hp.nside2npix(settings.nside),
        np.arange(settings.realisations), missing if settings.radii else None,
        np.array([local_field(ensemble_field(settings, one), radii) for one in range(settings.realisations)]),
        _resolved(settings),
    )  # fmt: skip


def make_ensemble(
    settings: EnsembleSettings,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> EnsembleSummary:
    """Compute an ensemble, write it to ``ensemble.h5`` in its output folder, and return what it is in short.

    Parameters
    ----------
    settings : EnsembleSettings
    base : Path
        Folder to which its output is relative.
    workers, scheduler, progress
        As `obsfit.execute.run_tasks`; the numbers do not depend on them.
    overwrite : bool
        Replace an existing product. Results of its tasks are used again, if they belong to the same ensemble.

    Raises
    ------
    ConfigurationError
        As `run_ensemble`, and if there is a product that may not be replaced.
    """
    # What is wrong with the settings is told before what they would replace.
    check_ensemble(settings, base=base)
    path = base / settings.output / PRODUCT
    if path.exists() and not overwrite:
        raise ConfigurationError(
            "there is an ensemble already", path=path, expected="an output without one",
            remedy="Choose another output, or replace it with --overwrite: finished tasks are not done again.",
        )  # fmt: skip
    results = _results(settings, base=base, workers=workers, scheduler=scheduler, progress=progress)
    cpu = sum(float(part.get("cpu_s", np.nan)) for part in results)
    ensemble = gather(settings, _drained(results))
    write_displacements(
        path, ensemble, seed=settings.seed, single_precision=settings.single_precision, overwrite=overwrite
    )
    facts = {
        "realisations": settings.realisations, "sets": max(settings.sets, 1), "directions": ensemble.directions,
        "lmax": settings.lmax, "cpu_s": round(cpu, 3) if math.isfinite(cpu) else None,
    }  # fmt: skip
    return EnsembleSummary(path, facts, tuple(_rows(settings, ensemble)))


def check_ensemble(settings: EnsembleSettings, *, base: Path | None = None) -> None:
    """Refuse settings that make no sense, before anything is computed; the first that is found.

    Parameters
    ----------
    settings : EnsembleSettings
    base : Path, optional
        Folder to which its output is relative; given, the output must be a folder that can be written.

    Raises
    ------
    ConfigurationError
        Naming the key and its value.
    """
    _check_numbers(settings)
    _check_turbulence(settings.turbulence)
    _check_directions(settings)
    _check_waves(settings)
    if base is not None:
        _check_output(base / settings.output)


def ensemble_identity(settings: EnsembleSettings) -> dict[str, Any]:
    """Return what the results of a task depend on: not the number of fields, nor what is done with the results.

    Options at which results are those of before there was such an option are left out, so that stores stay valid.
    """
    found = asdict(settings)
    for key in ("realisations", "output", "single_precision", "most_missing"):
        del found[key]
    for key in ("rigidity", "field_strength", "length_unit", "resolved_to", "radii", "longest_time", "tolerance"):
        if not found[key]:
            del found[key]
    if settings.turbulence.geometry == "isotropic":
        del found["turbulence"]["geometry"]
    if not settings.turbulence.grid_points:
        del found["turbulence"]["grid_points"]
    if settings.turbulence.geometry != "composite":
        del found["turbulence"]["slab_fraction"]
    return found


def _resolved(settings: EnsembleSettings) -> dict[str, Any]:
    """The configuration that a product carries: without the place and number of fields, which it holds itself."""
    return {"schema": 1, "model": "turbulent-displacement", **ensemble_identity(settings)}


def _drained(results: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Results in their order, each let go once it is used: an ensemble is not held twice."""
    results.reverse()
    while results:
        yield results.pop()


def _tracked(
    settings: EnsembleSettings, field: MagneticField, arrival: FloatArray, gyroradius: float
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Positions and momenta (n_stop, 3, n), 0 where a particle did not get to a stop, and which did (n_stop, n)."""
    seen = field.up_to(settings.resolved_to / gyroradius) if settings.resolved_to else field
    step = settings.step or None
    if settings.radii:
        found = cross_spheres(
            seen, arrival, settings.radii, gyroradius=gyroradius, longest_time=settings.longest_time, step=step
        )
        crossed = np.isfinite(found.time)
        return found.position * crossed[:, None], found.momentum * crossed[:, None], crossed
    orbits = back_track(
        seen, arrival, settings.times, gyroradius=gyroradius, step=step, tolerance=settings.tolerance or None
    )
    return orbits.position, orbits.momentum, np.ones((len(settings.times), arrival.shape[1]), dtype=np.bool_)


def _joined(
    settings: EnsembleSettings, parts: Sequence[Mapping[str, Any]], realisation: int
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Sums and products over all blocks of a set, and which particles reached each stop."""
    stops = len(settings.radii or settings.times)
    shape = (len(settings.gyroradii), stops)
    for part in parts:
        if (
            np.shape(part["sums"]) != (*shape, 6, (settings.lmax + 1) ** 2)
            or np.shape(part["product"])[:2] != shape
        ):
            raise DataFormatError(
                f"a result of field {realisation} has sums of shape {np.shape(part['sums'])}",
                expected=f"{(*shape, 6, (settings.lmax + 1) ** 2)}",
                remedy="Delete the folder of results, or choose another output.",
            )
    if settings.radii:
        crossed = np.concatenate([part["crossed"] for part in parts], axis=-1)
    else:
        crossed = np.ones((*shape, hp.nside2npix(settings.nside)), dtype=np.bool_)
    return sum(part["sums"] for part in parts), sum(part["product"] for part in parts), crossed


def _check_missing(
    settings: EnsembleSettings, realisation: int, missing: int, gyroradius: float, radius: float
) -> None:
    if missing > settings.most_missing * hp.nside2npix(settings.nside):
        raise ModelDomainError(
            f"{missing} of {hp.nside2npix(settings.nside)} particles of gyroradius {gyroradius:g} in field "
            f"{realisation} did not cross the sphere of {radius:g} gyroradii in {settings.longest_time:g} / Omega",
            value=missing, expected=f"at most most_missing = {settings.most_missing:g} of the directions",
            remedy="Allow a larger share, for which finished tasks serve, or a longer time in another output.",
        )  # fmt: skip


def _rows(settings: EnsembleSettings, ensemble: DisplacementEnsemble) -> Iterator[dict[str, Any]]:
    """Power of the dipole and, at times, diffusivities at each gyroradius and stop, with errors from field to field."""
    # The gradient along the mean field: the component r_z alone.
    along = ensemble.alm[:, :, :, :, 2]
    power = (pair_power if along.shape[1] > 1 else same_power)(along, axis=1)[..., 1]
    product = ensemble.product.mean(axis=1)
    for i, radius in enumerate(ensemble.gyroradius):
        for j, stop in enumerate(ensemble.stop):
            row: dict[str, Any] = {"rigidity": settings.rigidity[i]} if settings.rigidity else {}
            row |= {"gyroradius": float(radius), ensemble.stopped_by: float(stop)}
            values = {"C_1": power[:, i, j]}
            if ensemble.stopped_by == "time":
                across = 0.5 * (product[:, i, j, 0, 0] + product[:, i, j, 1, 1])
                values |= {"K_par": product[:, i, j, 2, 2] / (2 * stop), "K_perp": across / (2 * stop)}
            for name, value in values.items():
                row[name] = float(value.mean())
                row[f"{name}_error"] = float(value.std(ddof=1) / np.sqrt(value.size)) if value.size > 1 else None
            yield row


def _refuse(key: str, value: object, expected: str, remedy: str = "") -> ConfigurationError:
    return ConfigurationError(f"{key} = {value!r}", value=value, expected=expected, remedy=remedy)


def _check_numbers(settings: EnsembleSettings) -> None:
    for key, low in (("seed", 0), ("realisations", 1), ("sets", 0), ("blocks", 1), ("lmax", 1)):
        if (value := getattr(settings, key)) < low:
            raise _refuse(key, value, f"a whole number, at least {low}")
    if bool(settings.gyroradius) == bool(settings.rigidity):
        given = "both are given" if settings.gyroradius else "neither is given"
        raise ConfigurationError(
            f"gyroradius or rigidity: {given}",
            expected="gyroradius in units of length, or rigidity with field_strength and length_unit",
        )
    for key, example in (("field_strength", "3 uG"), ("length_unit", "10 pc")):
        if settings.rigidity and not getattr(settings, key):
            raise ConfigurationError(
                f"key {key!r} is missing", expected=f"{key} beside rigidity, such as {example!r}",
                remedy="Or give gyroradius, in units of length, in place of rigidity.",
            )  # fmt: skip
        if getattr(settings, key) and not settings.rigidity:
            raise _refuse(key, getattr(settings, key), "rigidity beside it, and no gyroradius")
    radii = settings.gyroradii
    given_as = settings.rigidity or settings.gyroradius
    for radius, text in zip(radii, given_as, strict=True):
        if not 0 < radius < math.inf:
            raise _refuse("rigidity" if settings.rigidity else "gyroradius", text, "positive, finite numbers")
    if len(set(radii)) < len(radii):
        raise _refuse("rigidity" if settings.rigidity else "gyroradius", given_as, "each once")
    if bool(settings.times) == bool(settings.radii):
        given = "both are given" if settings.times else "neither is given"
        raise ConfigurationError(f"times or radii: {given}", expected="one of them")
    for key, what in (("times", "times in 1/Omega"), ("radii", "radii in gyroradii")):
        stops = getattr(settings, key)
        if not all(0 < stop < math.inf for stop in stops) or any(np.diff(stops) <= 0):
            raise _refuse(key, stops, f"positive {what} that increase")
    if settings.radii and not max(settings.radii) < settings.longest_time < math.inf:
        raise _refuse(
            "longest_time", settings.longest_time,
            f"the time in 1/Omega at which a particle is given up, more than the largest radius, "
            f"{max(settings.radii):g}, which takes as long on a straight line",
        )  # fmt: skip
    for key in ("longest_time", "most_missing"):
        if settings.times and getattr(settings, key):
            raise _refuse(key, getattr(settings, key), "radii in place of times, or 0")
    if not 0 <= settings.most_missing < 1:
        raise _refuse("most_missing", settings.most_missing, "a share of the directions, from 0 to below 1")
    for key in ("step", "resolved_to"):
        if not 0 <= (value := getattr(settings, key)) < math.inf:
            raise _refuse(key, value, "a positive number, or 0 for the default")
    if settings.tolerance and not (1e-9 <= settings.tolerance <= 0.1 and settings.times and not settings.step):
        raise _refuse("tolerance", settings.tolerance, "1e-9 to 0.1, with times and without a step, or 0")
    if 0 < settings.resolved_to < 1:
        raise _refuse("resolved_to", settings.resolved_to, "10 or more, at least 1, or 0 for all waves",
                      "Below 1 there is no wave in resonance.")  # fmt: skip


def _check_turbulence(turbulence: TurbulenceSettings) -> None:
    for key in ("mean_field", "rms"):
        if not 0 <= (value := getattr(turbulence, key)) < math.inf:
            raise _refuse(f"turbulence.{key}", value, "a strength that is not negative")
    if turbulence.mean_field == 0 and turbulence.rms == 0:
        raise _refuse("turbulence.rms", 0.0, "a field: mean_field, rms or both above 0")
    if not 0 <= turbulence.slab_fraction <= 1:
        raise _refuse("turbulence.slab_fraction", turbulence.slab_fraction, "a share of the energy, 0 to 1")
    if turbulence.slab_fraction != TurbulenceSettings.slab_fraction and turbulence.geometry != "composite":
        raise _refuse(
            "turbulence.slab_fraction", turbulence.slab_fraction,
            f"geometry = 'composite' with it; geometry = {turbulence.geometry!r} has none",
        )  # fmt: skip
    points = turbulence.grid_points
    if points and not (turbulence.geometry == "isotropic" and 2 * GRID_POINTS <= points <= MOST_POINTS):
        raise _refuse(
            "turbulence.grid_points", points,
            f"{2 * GRID_POINTS:g} to {MOST_POINTS} with geometry isotropic, or 0 for plane waves",
        )  # fmt: skip
    for key in ("modes_per_decade", "resonant_modes_per_decade"):
        value = getattr(turbulence, key)
        if key.startswith("resonant") and value == 0:
            continue
        if not FEWEST_PER_DECADE <= value < math.inf:
            raise _refuse(f"turbulence.{key}", value, f"at least {FEWEST_PER_DECADE:g}, better 20 or more")
    if not 0 < turbulence.resonant_from < math.inf:
        raise _refuse("turbulence.resonant_from", turbulence.resonant_from, "a positive number")
    try:
        _ = turbulence.spectrum
    except ValueError as error:
        raise ConfigurationError(f"turbulence: {error}") from error


def _check_directions(settings: EnsembleSettings) -> None:
    if not hp.isnsideok(settings.nside, nest=True) or settings.nside > 512:
        raise _refuse("nside", settings.nside, "a power of two, at most 512")
    directions, size = hp.nside2npix(settings.nside), (settings.lmax + 1) ** 2
    if 2 * size > directions:
        raise _refuse(
            "lmax", settings.lmax,
            f"at most {math.isqrt(directions // 2) - 1}: there are {size} coefficients, and {directions} directions "
            f"at nside = {settings.nside}, of which there must be twice as many",
        )  # fmt: skip
    if settings.blocks > directions:
        raise _refuse(
            "blocks", settings.blocks, f"at most the {directions} directions of nside = {settings.nside}"
        )


def _check_waves(settings: EnsembleSettings) -> None:
    turbulence = settings.turbulence
    for key in ("resolved_to", "tolerance"):
        if turbulence.grid_points and getattr(settings, key):
            raise _refuse(key, getattr(settings, key), "0 with turbulence.grid_points, or plane waves")
    if turbulence.rms == 0:
        return
    if points := turbulence.grid_points:
        # Within T a particle goes no further than c T; most go less far.
        furthest = max(settings.radii or settings.times) * max(settings.gyroradii)
        warn_of_repeats(largest_cube(turbulence.spectrum, ratio=points / GRID_POINTS, points=points), furthest)
    # A grid holds all waves that fit it: more than any density that is asked for.
    modes = [ModeBand(1000.0 if turbulence.grid_points else turbulence.modes_per_decade)]
    if turbulence.resonant_modes_per_decade and not turbulence.grid_points:
        border = turbulence.resonant_from / min(settings.gyroradii)
        modes = [ModeBand(turbulence.modes_per_decade, border), ModeBand(turbulence.resonant_modes_per_decade)]
        if border >= turbulence.spectrum.k_max:
            modes = modes[:1]
    for radius in settings.gyroradii:
        seen = turbulence.spectrum
        if settings.resolved_to:
            highest = settings.resolved_to / radius
            if highest <= seen.k_min:
                raise _refuse(
                    "resolved_to", settings.resolved_to,
                    f"more than {seen.k_min * radius:.3g}: at a gyroradius of {radius:g} no wave is left",
                )  # fmt: skip
            seen = seen.between(seen.k_min, highest)
        try:
            check_resolution(seen, modes, radius)
        except ModelDomainError as error:
            raise ConfigurationError(
                f"turbulence.wavelength_min = {turbulence.wavelength_min:g}: {error.problem}", value=error.value,
                expected=error.expected, remedy=error.remedy,
            ) from error  # fmt: skip


def _check_output(folder: Path) -> None:
    """Refuse an output that cannot be written; nothing is left behind."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"output: {place} cannot be written" if place.is_dir() else f"output: {place} is a file",
            path=folder, expected="a folder that can be written, or made", remedy="Choose another output.",
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
    """Integral of E(k), in the common normalisation of spectra of one shape.

    As `TurbulenceSpectrum.energy_between` but for fewer nodes: with that, amplitudes would differ by 1e-7, and fields
    of a seed are to stay what they were. For the same reason `_bands` rounds numbers of waves to the nearest, where
    `plane_waves` rounds them up, and draws the waves of each band apart.
    """
    log_k = np.linspace(np.log(spectrum.k_min), np.log(spectrum.k_max), 4001)
    return float(np.trapezoid(spectrum.energy_per_log_k(np.exp(log_k)), log_k))
