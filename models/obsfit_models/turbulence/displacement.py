r"""Displacement skies: where the particles of each direction came from, from which every anisotropy follows.

By Liouville's theorem the intensity from a direction n is what it was at the earlier end of the orbit. For a gradient
of the density, :math:`\delta I(n) = r_i(n; T)\, \partial_i n / n`, which is linear in the gradient: the three maps
r_i(n) and the three maps :math:`\hat p_i(n)`, kept as a_lm, hold the answer for all gradients, orientations and many
initial states.
"""

from __future__ import annotations

from dataclasses import dataclass

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence.directions import (
    fitted_alm,
    gram_matrix,
    harmonic_sums,
    healpix_directions,
    jittered_directions,
)
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import back_track

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class DisplacementSky:
    r"""The maps r_i(n) and p_i(n) of one field, as a_lm.

    Axes: sets of directions (1 or 2; noise of the two is independent), gyroradii, stops, then the six components
    :math:`r_x, r_y, r_z, \hat p_x, \hat p_y, \hat p_z`.

    Attributes
    ----------
    alm : ndarray of complex, shape (n_set, n_gyroradius, n_stop, 6, n_alm)
        Healpy order, l from 0, functions of the direction of arrival; positions in gyroradii.
    product : ndarray, shape (n_set, n_gyroradius, n_stop, 6, 6)
        Means over the directions of products of two components: the sum over all l of their cross power.
    gyroradius : ndarray, shape (n_gyroradius,)
        In the unit of length of the field.
    stop : ndarray, shape (n_stop,)
        Times T in 1/Omega, or radii of the spheres of first crossing in gyroradii.
    stopped_by : {"time", "radius"}
    directions : int
        Number of directions in each set.
    """

    alm: ComplexArray
    product: FloatArray
    gyroradius: FloatArray
    stop: FloatArray
    stopped_by: str
    directions: int

    @property
    def lmax(self) -> int:
        """Largest multipole."""
        return int(hp.Alm.getlmax(self.alm.shape[-1]))


def displacement_sums(
    field: MagneticField,
    arrival: FloatArray,
    times: ArrayLike,
    *,
    gyroradius: ArrayLike,
    lmax: int,
    step: float | None,
) -> tuple[FloatArray, FloatArray]:
    """Return what a set of directions, or a part of it, adds to a displacement sky.

    Parameters
    ----------
    field, times, gyroradius, lmax, step
        As in `displacement_sky`.
    arrival : ndarray, shape (3, n)
        Directions of arrival.

    Returns
    -------
    sums : ndarray, shape (n_gyroradius, n_time, 6, (lmax + 1)^2)
        `directions.harmonic_sums` of the six components.
    product : ndarray, shape (n_gyroradius, n_time, 6, 6)
        Sums of products of two components.
    """
    sums, product = [], []
    for radius in np.array(gyroradius, dtype=np.float64, ndmin=1):
        orbits = back_track(field, arrival, times, gyroradius=float(radius), step=step)
        maps = np.concatenate([orbits.position, orbits.momentum], axis=1)
        sums.append(harmonic_sums(arrival, maps, lmax))
        product.append(np.einsum("tin,tjn->tij", maps, maps))
    return np.array(sums), np.array(product)


def displacement_sky(
    field: MagneticField,
    times: ArrayLike,
    *,
    gyroradius: ArrayLike,
    nside: int,
    lmax: int,
    step: float | None = None,
    sets: int = 1,
    rng: np.random.Generator | None = None,
) -> DisplacementSky:
    """Return the displacement sky of one field for fixed times of back-tracking.

    Parameters
    ----------
    field : MagneticField
    times : array_like, shape (n_time,)
        In 1/Omega of each rigidity.
    gyroradius : array_like, shape (n_gyroradius,) or number
        r_L of each rigidity, in the unit of length of the field.
    nside : int
        Resolution of the directions.
    lmax : int
        Largest multipole kept.
    step : float, optional
        As in `orbits.back_track`.
    sets : int
        Number of sets of directions; cross-spectra of two sets have no shot noise.
    rng : numpy.random.Generator, optional
        Directions are then drawn at random in the pixels (`directions.jittered_directions`). Default: pixel centres,
        of which there is one set only.

    Raises
    ------
    ValueError
        If `nside` is not a power of two, several sets are asked for without a generator, or an argument of
        `orbits.back_track` is refused.
    """
    if sets < 1 or (sets > 1 and rng is None):
        raise ValueError(f"sets {sets}: expected 1, or more with a generator that draws their directions")
    radii, stops = (np.array(values, dtype=np.float64, ndmin=1) for values in (gyroradius, times))
    alm, product = [], []
    for _ in range(sets):
        arrival = healpix_directions(nside) if rng is None else jittered_directions(nside, rng=rng)
        sums, products = displacement_sums(field, arrival, stops, gyroradius=radii, lmax=lmax, step=step)
        alm.append(fitted_alm(sums, gram_matrix(arrival, lmax)))
        product.append(products / arrival.shape[1])
    return DisplacementSky(np.array(alm), np.array(product), radii, stops, "time", hp.nside2npix(nside))


def cross_power(first: ComplexArray, second: ComplexArray) -> FloatArray:
    """Return C_l of two sets of a_lm (..., n_alm), shape (..., lmax + 1): the mean over m of their product."""
    lmax = int(hp.Alm.getlmax(first.shape[-1]))
    ell, m = hp.Alm.getlm(lmax)
    product = np.where(m == 0, 1.0, 2.0) * np.real(first * np.conj(second))
    power = np.zeros((*product.shape[:-1], lmax + 1))
    for degree in range(lmax + 1):
        power[..., degree] = product[..., ell == degree].sum(axis=-1) / (2 * degree + 1)
    return power
