r"""Libraries of skies of a design: displacement maps in bands of rigidity, free of the noise of directions on average.

What is kept of each field is :math:`r_i(n) - 3 K_{ij} p_j(n)` in each band, in units of the bend-over length: the
relative intensity for a gradient of one per bend-over length, in the state that is stationary on average (AM17,
Eq. 64). Diffusivities are smooth functions of the turbulence and the gyroradius, fitted to the spread of all orbits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import healpy as hp
import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from obsfit.hdf5_files import opened_product, own_dataset, stored_array
from obsfit.provenance import atomic_write, stamp
from obsfit_models.turbulence.sky_design import DesignSettings, design_identity, design_points, expected_path

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

FORMAT = "sky-design"
FORMAT_VERSION = 1
_ARRAYS = {"point": "f", "gyroradius": "f", "diffusivity": "f", "noise": "f", "alm": "c"}


@dataclass(frozen=True, eq=False)
class DesignLibrary:
    r"""Displacement skies of many turbulences, one field each; the mean field is along z, the total field is 1.

    Attributes
    ----------
    point : ndarray, shape (n_field, 2)
        Turbulent share and index of the spectrum of each field.
    gyroradius : ndarray, shape (n_band,)
        Centre of each band in the logarithm, in units of the bend-over length.
    alm : ndarray of complex, shape (n_field, n_band, 3, n_alm)
        Relative intensity for a gradient of the density of 1 per bend-over length along x, y and z: averages over the
        band, healpy order, without monopole.
    diffusivity : ndarray, shape (n_field, n_band, 2)
        :math:`3K / c` along the mean field and across it, in expected mean free paths, as it entered.
    noise : ndarray, shape (n_band, lmax + 1)
        Share of the power of the mean over sets that was noise of directions, before it was taken out.
    configuration : mapping
        What made the design, in terms of JSON.
    """

    point: FloatArray
    gyroradius: FloatArray
    alm: ComplexArray
    diffusivity: FloatArray
    noise: FloatArray
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_field, n_band = np.shape(self.alm)[:2] if np.ndim(self.alm) == 4 else (0, 0)
        shapes = {"point": (n_field, 2), "gyroradius": (n_band,), "diffusivity": (n_field, n_band, 2)}
        if not n_field or not n_band or np.shape(self.alm)[2] != 3 or hp.Alm.getlmax(np.shape(self.alm)[3]) < 1:
            raise ValueError(f"alm: shape {np.shape(self.alm)}, expected (n_field, n_band, 3, n_alm)")
        for name, shape in (shapes | {"noise": (n_band, self.lmax + 1)}).items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name}: shape {np.shape(getattr(self, name))}, expected {shape}")
        for name in _ARRAYS:
            if not np.all(np.isfinite(getattr(self, name))):
                raise ValueError(f"{name}: holds a number that is not finite")
        if not np.all(self.gyroradius > 0) or np.any(np.diff(self.gyroradius) <= 0):
            raise ValueError("gyroradius: expected positive numbers that increase")

    @property
    def lmax(self) -> int:
        """Largest multipole."""
        return int(hp.Alm.getlmax(self.alm.shape[-1]))

    def of_fields(self, fields: NDArray[np.int64]) -> DesignLibrary:
        """Return the library of some of the fields."""
        return DesignLibrary(
            self.point[fields], self.gyroradius, self.alm[fields], self.diffusivity[fields], self.noise,
            self.configuration,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class StationarySkies:
    r"""Skies of a design in the state that is stationary on average, each set of directions by itself.

    Attributes
    ----------
    point : ndarray, shape (n_field, 2)
        Turbulent share and index of the spectrum of each field.
    gyroradius : ndarray, shape (n_band,)
        Centre of each band in the logarithm, in units of the bend-over length.
    unit : ndarray, shape (n_field, n_band)
        Gyroradius times expected path, in bend-over lengths: the unit of `alm`.
    alm : ndarray of complex, shape (n_field, n_band, n_set, 3, n_alm)
        :math:`r_i(n) - 3 K_{ij} p_j(n)` for gradients along x, y and z, averages over the band, without monopole.
    diffusivity : ndarray, shape (n_field, n_band, 2)
        :math:`3K / c` along the mean field and across it, in expected mean free paths.
    """

    point: FloatArray
    gyroradius: FloatArray
    unit: FloatArray
    alm: ComplexArray
    diffusivity: FloatArray


def stationary_skies(
    settings: DesignSettings, results: Iterable[Mapping[str, Any]], *, time: int = -1
) -> StationarySkies:
    """Return the skies of the results of `sky_design.design_task`, in the order of the fields, set by set.

    Products of two sets are free of the noise of directions; `cut_design` makes a library of them.

    Parameters
    ----------
    settings : DesignSettings
    results : iterable of mapping
        Of the first fields of the design, as many as there are.
    time : int
        Which of the times of back-tracking, an index. Diffusivities are those between the last and the first.
    """
    points, parts, product, times = design_points(settings), [], [], []
    for result in results:
        parts.append(np.asarray(result["alm"], dtype=np.complex128)[:, :, time])
        product.append(result["product"])
        times.append(result["time"])
    points = points[: len(parts)]
    maps = np.array(parts)
    centre = np.sqrt(settings.edges[:-1] * settings.edges[1:])
    diffusivity = _diffusivity(settings, points, np.array(product), np.array(times), centre)
    across = diffusivity[..., 1]
    factor = np.stack([across, across, diffusivity[..., 0]], axis=-1)
    state = maps[:, :, :, :3] - factor[:, :, None, :, None] * maps[:, :, :, 3:]
    state[..., 0] = 0.0
    unit = np.array([[radius * expected_path(radius, *point) for radius in centre] for point in points])
    return StationarySkies(points, centre, unit, state / unit[:, :, None, None, None], diffusivity)


def cut_design(settings: DesignSettings, results: Iterable[Mapping[str, Any]]) -> DesignLibrary:
    r"""Return the library of the results of `sky_design.design_task`, in the order of the fields.

    The two sets of directions of a field are averaged. What is left of their noise is taken out on average: at each
    multipole the bands of a sky, a vector, are mapped by the matrix nearest to the identity that turns the covariance
    of the mean over sets into that of products between sets,

    .. math:: M = \Sigma^{-1/2} (\Sigma^{1/2} S\, \Sigma^{1/2})^{1/2} \Sigma^{-1/2},

    the optimal transport between the two normal laws. Any average over bands then has the right power on average over
    the fields, which no factor for each band alone would give: noise of neighbouring bands is independent, their skies
    are not. Covariances are those over all fields, each band in units of its gyroradius times the expected path.
    """
    skies = stationary_skies(settings, results)
    unit = skies.unit
    alm, noise = _without_noise(skies.alm)
    return DesignLibrary(
        skies.point, skies.gyroradius, alm * unit[:, :, None, None], skies.diffusivity, noise,
        {"schema": 1, "model": "simulated-turbulence", **design_identity(settings)},
    )  # fmt: skip


def write_design(path: str | Path, library: DesignLibrary, *, overwrite: bool = False) -> None:
    """Write a library to an HDF5 file, complete or not at all; a_lm in single precision.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    """
    head = stamp(
        FORMAT, format_version=FORMAT_VERSION, seed=library.configuration.get("seed"),
        configuration=library.configuration,
    )  # fmt: skip
    with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
        file.attrs["obsfit_format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file["head"] = json.dumps(head, sort_keys=True)
        file["alm"] = library.alm.astype(np.complex64)
        for name in ("point", "gyroradius", "diffusivity", "noise"):
            file[name] = getattr(library, name)


def read_design(path: str | Path) -> DesignLibrary:
    """Return the library in a file of `write_design`.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, of another kind or version, refers to other files, or its numbers are none.
    """
    path = Path(path)
    with opened_product(path, FORMAT, FORMAT_VERSION, made_by="'obsfit ensemble'") as file:
        arrays = {name: stored_array(file, name, kind, path) for name, kind in _ARRAYS.items()}
        arrays["alm"] = arrays["alm"].astype(np.complex128)
        head = json.loads(own_dataset(file, "head", path).asstr()[()])
        return DesignLibrary(**arrays, configuration=head["configuration"])


def _diffusivity(
    settings: DesignSettings, points: FloatArray, product: FloatArray, times: FloatArray, centre: FloatArray
) -> FloatArray:
    """3 K in expected paths, along and across, at each field and band, from a fit to all fields, (n, n_band, 2).

    The mean square along an axis grows by 2 K between the two times. In one field it scatters by its own size, so the
    logarithm of K is not fitted: a second-order polynomial in turbulent share, index and log gyroradius is multiplied
    by the expected path, by least squares, which keeps means unbiased.
    """
    followed = settings.followed
    law = np.array([[[expected_path(r, *point) for r in row] for row in followed] for point in points])
    slope = (product[:, :, :, -1] - product[:, :, :, 0]) / (times[..., -1] - times[..., 0])[..., None]
    ratio = (1.5 * slope / law[..., None]).mean(axis=2)
    basis = _quadratic(settings, points, centre)
    fitted, *_ = np.linalg.lstsq(basis.reshape(-1, basis.shape[-1]), ratio.reshape(-1, 2), rcond=None)
    return np.asarray(np.clip(basis @ fitted, 0.0, None))


def _quadratic(settings: DesignSettings, points: FloatArray, centre: FloatArray) -> FloatArray:
    """Products of up to two of turbulent share, index and log gyroradius, each from -1 to 1, (n, n_band, 10)."""
    low, high = np.transpose([settings.turbulent_share, settings.energy_index])
    scaled = 2 * (points - low) / (high - low) - 1
    ends = np.log(settings.gyroradius)
    radius = 2 * (np.log(centre) - ends[0]) / (ends[1] - ends[0]) - 1
    share, index, radius = np.broadcast_arrays(scaled[:, :1], scaled[:, 1:], radius)
    one = np.ones_like(share)
    terms = (one, share, index, radius)
    return np.stack([a * b for i, a in enumerate(terms) for b in terms[i:]], axis=-1)


def _without_noise(state: ComplexArray) -> tuple[ComplexArray, FloatArray]:
    """Maps (n, n_band, n_set, 3, n_alm) averaged over sets and mapped as `cut_design` says, and the share of noise."""
    n_set = state.shape[2]
    mean = state.mean(axis=2)
    lmax = int(hp.Alm.getlmax(state.shape[-1]))
    ell, m = hp.Alm.getlm(lmax)
    twice = np.where(m == 0, 1.0, 2.0)
    noise = np.zeros((state.shape[1], lmax + 1))
    if n_set == 1:
        return mean, noise
    cleaned = np.zeros_like(mean)
    for order in range(1, lmax + 1):
        own = ell == order
        both = np.einsum("m,fbim,fcim->bc", twice[own], mean[..., own], mean[..., own].conj()).real
        each = sum(
            np.einsum("m,fbim,fcim->bc", twice[own], one[..., own], one[..., own].conj()).real
            for one in np.moveaxis(state, 2, 0)
        )
        # The sum over all pairs of sets less that of each with itself leaves the products of different sets.
        between = (n_set**2 * both - each) / (n_set * (n_set - 1))
        values, vectors = linalg.eigh(between)
        signal = (vectors * np.clip(values, 0.0, None)) @ vectors.T
        root = linalg.sqrtm(both).real
        inverse = np.linalg.inv(root)
        transport = inverse @ linalg.sqrtm(root @ signal @ root).real @ inverse
        cleaned[..., own] = np.einsum("bc,fcim->fbim", transport, mean[..., own])
        noise[:, order] = 1.0 - np.diag(signal) / np.diag(both)
    return cleaned, noise
