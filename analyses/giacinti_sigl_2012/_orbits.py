"""Orbits behind the figures of GS and Fig. 13 of AM17: one turbulent field, back-tracked to spheres about the Earth.

Lengths are in pc, fields in units of their root mean square. X, Y, Z are Galactocentric: the Earth is at
(0, 8.5 kpc, 0), so that e_Y points away from the Galactic centre, X towards l = 90 degrees and Z to the north.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import cross_spheres
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from obsfit_models.turbulence.units import gyroradius

from obsfit.execute import run_tasks
from obsfit.plot.runner import Context, generator
from obsfit.plot.sky_maps import disc_average
from obsfit.provenance import source_checksum

FloatArray = NDArray[np.float64]

# Stated by the paper.
RIGIDITIES_PV = (10, 50)
RMS_FIELD = 4.0 * u.uG
OUTER_SCALE_PC = 150.0
GRADIENT_LENGTH_PC = 290.0
RADII_PC = (10.0, 25.0, 50.0, 100.0, 250.0)
SMOOTHING = 20.0 * u.deg
# Not stated: ours.
GYRORADII_IN_INNER_SCALE = 5.0
MODES_PER_DECADE = 30
LONGEST_PC = 1e5

NSIDE = 64
"""Of the maps: directions of a finer grid are averaged in its pixels."""
REALISATION_NSIDE = 16


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes
    ----------
    nside : int
        Grid of directions of the whole sky.
    largest_pc : mapping of int to float
        Radius of the largest sphere for each rigidity in PV.
    chunks : int
        Tasks of a sky; each is stored when it is done.
    patch_nside, patch_chunks : int
        The same for the patch of Fig. 3.
    realisations : int
        Fields for averages over the ensemble.
    """

    nside: int
    largest_pc: Mapping[int, float]
    chunks: int
    patch_nside: int
    patch_chunks: int
    realisations: int


QUICK = Size(64, {10: 100.0, 50: 250.0}, 1, 256, 1, 8)
FULL = Size(256, {10: 250.0, 50: 250.0}, 64, 1024, 32, 100)


def size(context: Context) -> Size:
    """Return the size of a run."""
    return FULL if context.full else QUICK


def gyroradius_pc(rigidity_pv: float) -> float:
    """Return the gyroradius in the root mean square of the field, Eq. (1) of GS, in pc."""
    return float(gyroradius(rigidity_pv * u.PV, RMS_FIELD).to_value(u.pc))


def spectrum() -> TurbulenceSpectrum:
    """Return the Kolmogorov spectrum from 150 pc down to a fifth of the smaller gyroradius."""
    inner = gyroradius_pc(min(RIGIDITIES_PV)) / GYRORADII_IN_INNER_SCALE
    return TurbulenceSpectrum(inner, OUTER_SCALE_PC, bend_over=None)


def field(rng: np.random.Generator) -> MagneticField:
    """Return a realisation of isotropic turbulence without a mean field."""
    shape = spectrum()
    return isotropic_waves(shape, modes=round(MODES_PER_DECADE * shape.decades), rng=rng)


def shown_field(seed: int) -> MagneticField:
    """Return the realisation that the figures show, in place of the paper's, which is not published."""
    return field(generator(seed, "giacinti-sigl-field"))


def felt(whole: MagneticField, rigidity_pv: float) -> MagneticField:
    """Return the waves that a rigidity resolves: those longer than a fifth of its gyroradius, the same in all."""
    return whole.up_to(2.0 * np.pi * GYRORADII_IN_INNER_SCALE / gyroradius_pc(rigidity_pv))


def direction(longitude_deg: Any, latitude_deg: Any) -> FloatArray:
    """Return unit vectors (3, n) in X, Y, Z of Galactic coordinates."""
    lon, lat = np.radians(longitude_deg), np.radians(latitude_deg)
    return np.array([np.sin(lon) * np.cos(lat), -np.cos(lon) * np.cos(lat), np.sin(lat) + 0.0 * lon])


def arrivals(nside: int, nested: NDArray[np.int64]) -> FloatArray:
    """Return the centres (3, n) of pixels of a map in Galactic coordinates."""
    lon, lat = hp.pix2ang(nside, nested, nest=True, lonlat=True)
    return direction(lon, lat)


def crossings(
    whole: MagneticField, rigidity_pv: float, arrival: FloatArray, radii_pc: Iterable[float]
) -> tuple[FloatArray, FloatArray]:
    """Return places (n_radius, 3, n) in pc and times (n_radius, n) in pc / c of the first crossings of spheres."""
    r_g = gyroradius_pc(rigidity_pv)
    found = cross_spheres(
        felt(whole, rigidity_pv), arrival, np.array(list(radii_pc)) / r_g, gyroradius=r_g,
        longest_time=LONGEST_PC / r_g,
    )  # fmt: skip
    lost = int(np.isnan(found.time[-1]).sum())
    if lost > 1e-3 * arrival.shape[1]:
        raise ValueError(f"{lost} of {arrival.shape[1]} orbits inside the sphere after {LONGEST_PC:g} pc / c")
    return found.position * r_g, found.time * r_g


@dataclass(frozen=True)
class Sky:
    """Where the particles of one rigidity crossed spheres about the Earth.

    Attributes
    ----------
    radii_pc : ndarray, shape (n_radius,)
    halves : ndarray, shape (n_radius, 2, n_pix)
        Mean Y - 8.5 kpc in pc of two halves of the directions in each pixel, RING order; NaN where a half has none.
    time_pc : ndarray, shape (n_radius,)
        Mean time of the first crossing, times c.
    directions : int
    """

    radii_pc: FloatArray
    halves: FloatArray
    time_pc: FloatArray
    directions: int

    @property
    def mean_free_path_pc(self) -> FloatArray:
        """R^2 / 2 T of each sphere: the scattering length, if the motion within the sphere is diffusion."""
        return self.radii_pc**2 / (2.0 * self.time_pc)

    def place(self, radius_pc: float) -> int:
        """Return the index of a radius."""
        return int(np.flatnonzero(np.isclose(self.radii_pc, radius_pc))[0])

    def whole(self, radius_pc: float) -> FloatArray:
        """Return the mean Y - 8.5 kpc of all directions of each pixel."""
        return np.asarray(np.nanmean(self.halves[self.place(radius_pc)], axis=0))

    def dipole(self, radius_pc: float) -> FloatArray:
        """Return the dipole of the relative intensity in X, Y, Z."""
        return less_dipole(self.whole(radius_pc))[1]

    def residual(self, radius_pc: float) -> FloatArray:
        """Return the relative intensity without its dipole, averaged over discs."""
        return disc_average(less_dipole(self.whole(radius_pc))[0], SMOOTHING)

    def half_residuals(self, radius_pc: float) -> FloatArray:
        """Return `residual` of each half of the directions alone, shape (2, n_pix)."""
        halves = self.halves[self.place(radius_pc)]
        return np.array([_filled(disc_average(less_dipole(half)[0], SMOOTHING)) for half in halves])

    def noise(self, radius_pc: float) -> float:
        """Return the standard deviation of `residual` by the number of directions, from its two halves."""
        first, second = self.half_residuals(radius_pc)
        return float(0.5 * np.std(first - second))


def less_dipole(height_pc: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return 1 + height / 290 pc in units of its mean, without monopole and dipole, and the dipole in X, Y, Z."""
    seen = np.isfinite(height_pc)
    lon, lat = hp.pix2ang(hp.get_nside(height_pc), np.flatnonzero(seen), lonlat=True)
    basis = np.vstack([np.ones(lon.size), direction(lon, lat)])
    flux = 1.0 + height_pc[seen] / GRADIENT_LENGTH_PC
    fit = np.linalg.lstsq(basis.T, flux, rcond=None)[0]
    residual = np.full(height_pc.shape, np.nan)
    residual[seen] = (flux - fit @ basis) / fit[0]
    return residual, fit[1:] / fit[0]


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Return the correlation of two patterns, each given by two halves (2, n), as it were without their noise.

    Products of different halves have no noise in common.
    """

    def product(a: FloatArray, b: FloatArray) -> float:
        return 0.5 * float(np.mean(a[0] * b[1]) + np.mean(a[1] * b[0]))

    norm = product(first, first) * product(second, second)
    return product(first, second) / float(np.sqrt(norm)) if norm > 0 else float("nan")


def sky(context: Context, rigidity_pv: int) -> Sky:
    """Return the sky of a rigidity, computed once for all figures of a run."""
    chosen = size(context)
    radii = [radius for radius in RADII_PC if radius <= chosen.largest_pc[rigidity_pv]]
    number = hp.nside2npix(chosen.nside)
    per_task = number // chosen.chunks
    whole = shown_field(context.seed)

    def task(_: str, chunk: int) -> dict[str, Any]:
        nested = np.arange(chunk * per_task, (chunk + 1) * per_task)
        place, time = crossings(whole, rigidity_pv, arrivals(chosen.nside, nested), radii)
        # A chessboard of directions: neighbours belong to different halves.
        half = (nested ^ (nested >> 1)) & 1
        pixel = nested // (chosen.nside // NSIDE) ** 2
        first, n = int(pixel[0]), int(pixel[-1] - pixel[0] + 1)
        sums = np.zeros((len(radii), 2, n))
        for r, height in enumerate(place[:, 1]):
            np.add.at(sums[r], (half, pixel - first), height)
        count = np.zeros((2, n))
        np.add.at(count, (half, pixel - first), 1.0)
        return {"sums": sums, "count": count, "time": np.nansum(time, axis=1)}

    done = stored(context, f"sky{rigidity_pv}", task, chosen.chunks)
    count = np.concatenate([part["count"] for part in done], axis=-1)
    sums = np.concatenate([part["sums"] for part in done], axis=-1)
    nested_halves = np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)
    ring = hp.nest2ring(NSIDE, np.arange(hp.nside2npix(NSIDE)))
    halves = np.empty_like(nested_halves)
    halves[..., ring] = nested_halves
    return Sky(np.array(radii), halves, np.sum([part["time"] for part in done], axis=0) / number, number)


@dataclass(frozen=True)
class Realisations:
    """Dipoles of many fields, for a gradient along each axis.

    Attributes
    ----------
    radii_pc : ndarray, shape (n_radius,)
    dipole : ndarray, shape (n_field, 2, n_radius, 3, 3)
        Of two halves of the directions: component j of the dipole for the gradient along axis i.
    mean_free_path_pc : ndarray, shape (n_field, n_radius)
        R^2 / 2 T.
    """

    radii_pc: FloatArray
    dipole: FloatArray
    mean_free_path_pc: FloatArray

    def amplitude_squared(self, radius_pc: float) -> FloatArray:
        """Return the squared amplitude of each field and gradient, without the noise of directions, (n_field, 3)."""
        at = int(np.flatnonzero(np.isclose(self.radii_pc, radius_pc))[0])
        return np.asarray(np.sum(self.dipole[:, 0, at] * self.dipole[:, 1, at], axis=-1))

    def root_mean_square(self, radius_pc: float) -> tuple[float, float]:
        """Return the root of the mean squared amplitude over fields, and its standard error."""
        per_field = self.amplitude_squared(radius_pc).mean(axis=1)
        mean = float(per_field.mean())
        error = float(per_field.std(ddof=1) / np.sqrt(per_field.size))
        return float(np.sqrt(mean)), 0.5 * error / float(np.sqrt(mean))

    def along(self, radius_pc: float) -> tuple[float, float]:
        """Return the mean component along the gradient and its standard error: what Fick's law gives."""
        at = int(np.flatnonzero(np.isclose(self.radii_pc, radius_pc))[0])
        per_field = np.einsum("fhii->fhi", self.dipole[:, :, at]).mean(axis=(1, 2))
        return float(per_field.mean()), float(per_field.std(ddof=1) / np.sqrt(per_field.size))


def realisations(context: Context, rigidity_pv: int) -> Realisations:
    """Return dipoles of many fields up to the sphere of 100 pc."""
    radii = [radius for radius in RADII_PC if radius <= 100.0]
    nested = np.arange(hp.nside2npix(REALISATION_NSIDE))
    half = (nested ^ (nested >> 1)) & 1
    arrival = arrivals(REALISATION_NSIDE, nested)

    def task(_: str, index: int) -> dict[str, Any]:
        whole = field(generator(context.seed, f"giacinti-sigl-field-{index}"))
        place, time = crossings(whole, rigidity_pv, arrival, radii)
        dipole = np.empty((2, len(radii), 3, 3))
        for h in (0, 1):
            basis = np.vstack([np.ones(int((half == h).sum())), arrival[:, half == h]])
            flux = 1.0 + place[:, :, half == h] / GRADIENT_LENGTH_PC
            fit = np.linalg.lstsq(basis.T, flux.reshape(-1, basis.shape[1]).T, rcond=None)[0]
            dipole[h] = (fit[1:] / fit[0]).T.reshape(len(radii), 3, 3)
        return {"dipole": dipole, "time": np.nanmean(time, axis=1)}

    done = stored(context, f"fields{rigidity_pv}", task, size(context).realisations)
    time = np.array([part["time"] for part in done])
    return Realisations(
        np.array(radii), np.array([part["dipole"] for part in done]), np.array(radii) ** 2 / (2.0 * time)
    )


def _filled(values: FloatArray) -> FloatArray:
    """Return a map with the mean of the neighbours in pixels without directions of their own."""
    empty = np.flatnonzero(~np.isfinite(values))
    if empty.size == 0:
        return values
    nside = hp.get_nside(values)
    near = hp.get_all_neighbours(nside, empty)
    around = np.where(near >= 0, values[near], np.nan)
    out = values.copy()
    out[empty] = np.nanmean(around, axis=0)
    return out


def stored(context: Context, name: str, task: Any, number: int) -> list[dict[str, Any]]:
    """Return the results of tasks 0 ... number - 1, kept beside the figures; those of older programs are dropped."""
    configuration = {
        "seed": context.seed,
        "name": name,
        "size": asdict(size(context)) | {"largest_pc": {str(k): v for k, v in size(context).largest_pc.items()}},
        "program": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "library": source_checksum(without=("plot", "cli", "study")),
    }
    kind = "full" if context.full else "quick"
    digest = hashlib.sha256(repr(sorted(configuration.items())).encode()).hexdigest()[:12]
    folder = context.directory.parent / "giacinti-sigl-orbits"
    store = folder / f"{kind}-{name}-{digest}"
    for old in folder.glob(f"{kind}-{name}-*"):
        if old != store:
            shutil.rmtree(old)
    return run_tasks(task, [(name, index) for index in range(number)], store=store, configuration=configuration)
