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


def displacement_sky(
    field: MagneticField,
    times: ArrayLike,
    *,
    gyroradius: ArrayLike,
    nside: int,
    lmax: int,
    step: float | None = None,
) -> DisplacementSky:
    """Return the displacement sky of the pixel centres of a HEALPix grid, for fixed times of back-tracking.

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
    """
    if not hp.isnsideok(nside, nest=True):
        raise ValueError(f"nside {nside}: expected a power of two")
    arrival = np.array(hp.pix2vec(nside, np.arange(hp.nside2npix(nside))))
    radii = np.array(gyroradius, dtype=np.float64, ndmin=1)
    alm, product = [], []
    for radius in radii:
        orbits = back_track(field, arrival, times, gyroradius=float(radius), step=step)
        maps = np.concatenate([orbits.position, orbits.momentum], axis=1)
        alm.append([[hp.map2alm(part, lmax=lmax, iter=3) for part in at_stop] for at_stop in maps])
        product.append(np.einsum("tin,tjn->tij", maps, maps) / maps.shape[-1])
    return DisplacementSky(
        np.array(alm)[None], np.array(product)[None], radii, np.array(times, dtype=np.float64, ndmin=1), "time",
        arrival.shape[1],
    )  # fmt: skip


def cross_power(first: ComplexArray, second: ComplexArray) -> FloatArray:
    """Return C_l of two sets of a_lm (..., n_alm), shape (..., lmax + 1): the mean over m of their product."""
    lmax = int(hp.Alm.getlmax(first.shape[-1]))
    ell, m = hp.Alm.getlm(lmax)
    product = np.where(m == 0, 1.0, 2.0) * np.real(first * np.conj(second))
    power = np.zeros((*product.shape[:-1], lmax + 1))
    for degree in range(lmax + 1):
        power[..., degree] = product[..., ell == degree].sum(axis=-1) / (2 * degree + 1)
    return power
