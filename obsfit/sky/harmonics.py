"""Spherical harmonics of a sky: dipole vectors, power spectra and correlation functions.

Conventions: orthonormal Y_lm with the Condon-Shortley phase, colatitude 90 deg - declination, longitude = right
ascension; a_lm for m >= 0 in the order of healpy. Transforms of maps are healpy's.
"""

from __future__ import annotations

from collections.abc import Callable

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.polynomial.legendre import leggauss, legvander
from numpy.typing import NDArray

from obsfit.protocols import dipole_alm

__all__ = [
    "alm_map",
    "alm_power",
    "amplitude_phase",
    "correlation_function",
    "dipole_alm",
    "dipole_power",
    "dipole_vector",
    "equatorial_components",
    "lmax_of",
    "map_alm",
    "mean_square",
    "power_from_correlation",
]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def lmax_of(n_alm: int) -> int:
    """Return the largest multipole of a set of n_alm coefficients a_lm with m >= 0.

    Raises
    ------
    ValueError
        If n_alm is not (lmax + 1)(lmax + 2)/2 for any lmax.

    Examples
    --------
    >>> lmax_of(6)
    2
    """
    lmax = int(hp.Alm.getlmax(n_alm))
    if lmax < 0:
        raise ValueError(f"{n_alm} coefficients a_lm: expected (lmax + 1)(lmax + 2)/2, that is 1, 3, 6, 10, ...")
    return lmax


def dipole_vector(alm: ComplexArray) -> FloatArray:
    r"""Return dipole vectors (0h, 6h, N), shape (..., 3), of a_lm in healpy order, shape (..., n_alm).

    .. math::
        \delta_{0h} = -\sqrt{3/2\pi}\,\mathrm{Re}\,a_{11},\quad \delta_{6h} = \sqrt{3/2\pi}\,\mathrm{Im}\,a_{11},\quad
        \delta_N = \sqrt{3/4\pi}\,a_{10}

    which is Eq. (18) of AM17 with the factor of a_10 corrected (sqrt(3/2 pi) is printed). The inverse is
    `dipole_alm`.

    Raises
    ------
    ValueError
        If the number of coefficients fits no lmax, or lmax is 0.

    Examples
    --------
    >>> dipole_vector(dipole_alm(np.array([1e-3, -2e-3, 3e-3])))
    array([ 0.001, -0.002,  0.003])
    """
    lmax = lmax_of(alm.shape[-1])
    if lmax < 1:
        raise ValueError("a dipole needs a_1m, and these a_lm end at l = 0")
    a10, a11 = alm[..., 1], alm[..., lmax + 1]
    equatorial, polar = np.sqrt(1.5 / np.pi), np.sqrt(0.75 / np.pi)
    components = [-equatorial * a11.real, equatorial * a11.imag, polar * a10.real]
    return np.stack(components, axis=-1)


def dipole_power(dipole: FloatArray) -> FloatArray:
    r"""Return :math:`C_1 = 4\pi|\delta|^2/9`, shape (...), of dipole vectors of shape (..., 3).

    Examples
    --------
    >>> dipole_power(np.array([3.0, 0.0, 0.0])) / (4 * np.pi)
    np.float64(1.0)
    """
    return np.asarray(4.0 * np.pi / 9.0 * np.sum(dipole**2, axis=-1), dtype=np.float64)[()]


def truncated_alm(alm: ComplexArray, lmax: int) -> ComplexArray:
    """a_lm up to a smaller lmax, shape (..., n_alm), last axis in healpy order.

    Examples
    --------
    >>> truncated_alm(np.arange(6) + 0j, 1).real
    array([0., 1., 3.])
    """
    ell, m = hp.Alm.getlm(lmax)
    return alm[..., hp.Alm.getidx(lmax_of(alm.shape[-1]), ell, m)]


def alm_power(alm: ComplexArray) -> FloatArray:
    r"""Return :math:`C_\ell = \sum_m |a_{\ell m}|^2/(2\ell+1)`, shape (..., lmax + 1); Eq. (29) of AM17.

    Parameters
    ----------
    alm : ndarray, complex, shape (..., n_alm)
        Coefficients in healpy order; those with m > 0 count twice.

    Examples
    --------
    >>> alm_power(dipole_alm(np.array([0.0, 0.0, 3.0]))) / (4 * np.pi)
    array([0., 1.])
    """
    lmax = lmax_of(alm.shape[-1])
    power: FloatArray = np.zeros((*alm.shape[:-1], lmax + 1))
    start = 0
    for m in range(lmax + 1):
        block = alm[..., start : start + lmax + 1 - m]
        power[..., m:] += (1.0 if m == 0 else 2.0) * (block.real**2 + block.imag**2)
        start += lmax + 1 - m
    power /= 2.0 * np.arange(lmax + 1) + 1.0
    return power


def correlation_function(c_ell: FloatArray, separation: u.Quantity) -> FloatArray:
    r"""Return the correlation function, shape (..., n), of power spectra of shape (..., lmax + 1).

    .. math:: \xi(\eta) = \frac{1}{4\pi} \sum_\ell (2\ell+1)\, C_\ell\, P_\ell(\cos\eta)

    Eqs. (9) and (10) of A14: the mean of the product of the sky at two points an angle eta apart.

    Parameters
    ----------
    c_ell : ndarray, shape (..., lmax + 1)
        Power spectrum from l = 0.
    separation : Quantity, angle, shape (n,)
        Angle eta.
    """
    lmax = c_ell.shape[-1] - 1
    legendre = legvander(np.cos(np.atleast_1d(separation.to_value(u.rad))), lmax)
    weighted: FloatArray = (2.0 * np.arange(lmax + 1) + 1.0) / (4.0 * np.pi) * c_ell
    return weighted @ legendre.T


def power_from_correlation(
    correlation: Callable[[FloatArray], FloatArray], lmax: int, *, order: int | None = None
) -> FloatArray:
    r"""Return the power spectrum, shape (..., lmax + 1), of a correlation function.

    .. math:: C_\ell = 2\pi \int_{-1}^{1} \xi(\eta)\, P_\ell(\cos\eta)\, d\cos\eta

    by Gauss-Legendre in cos(eta): exact for a sky without power above 2 order - 1 - lmax.

    Parameters
    ----------
    correlation : callable
        xi as a function of the angle eta in radians, shape (n,) -> (..., n).
    lmax : int
        Largest multipole.
    order : int, optional
        Number of nodes; default lmax + 1.

    Examples
    --------
    >>> power_from_correlation(np.cos, 2).round(4) + 0.0   # P_1: C_1 = 4 pi / 3
    array([0.    , 4.1888, 0.    ])
    """
    mu, weight = leggauss(lmax + 1 if order is None else order)
    return 2.0 * np.pi * (correlation(np.arccos(mu)) * weight) @ legvander(mu, lmax)


def mean_square(c_ell: FloatArray) -> FloatArray:
    r"""Return the mean square of the map, shape (...): :math:`\frac{1}{4\pi}\sum_\ell (2\ell+1) C_\ell`.

    With C_0 = 0 this is the variance of the map.

    Examples
    --------
    >>> float(mean_square(np.array([4 * np.pi, 0.0])))   # the sky f = 1
    1.0
    """
    ell = np.arange(c_ell.shape[-1])
    return np.asarray(c_ell @ (2.0 * ell + 1.0) / (4.0 * np.pi), dtype=np.float64)[()]


def amplitude_phase(dipole: FloatArray) -> tuple[FloatArray, u.Quantity]:
    """Return equatorial amplitude A_1 and phase alpha_1 in [0, 360) deg, each (...); Eq. (19) of AM17.

    Parameters
    ----------
    dipole : ndarray, shape (..., 2) or (..., 3)
        Components (0h, 6h) or (0h, 6h, N); the last one is not used.

    Examples
    --------
    >>> amplitude_phase(np.array([0.0, -2e-3]))
    (np.float64(0.002), <Quantity 270. deg>)
    """
    amplitude = np.hypot(dipole[..., 0], dipole[..., 1])
    phase = np.degrees(np.arctan2(dipole[..., 1], dipole[..., 0])) % 360.0
    # The remainder of a tiny negative angle rounds up to 360.
    return amplitude, np.where(phase == 360.0, 0.0, phase) * u.deg


def equatorial_components(amplitude: FloatArray, phase: u.Quantity) -> FloatArray:
    """Return (delta_0h, delta_6h), shape (..., 2), of amplitude and phase of shape (...); Eq. (19) of AM17."""
    angle = phase.to_value(u.rad)
    return np.stack([amplitude * np.cos(angle), amplitude * np.sin(angle)], axis=-1)


def alm_map(alm: ComplexArray, nside: int) -> FloatArray:
    """Return maps in RING order, shape (..., 12 nside^2), of a_lm of shape (..., n_alm), by healpy."""
    lmax = lmax_of(alm.shape[-1])
    rows = alm.reshape(-1, alm.shape[-1]).astype(np.complex128)
    maps = np.array([hp.alm2map(row, nside, lmax=lmax) for row in rows])
    return maps.reshape(*alm.shape[:-1], hp.nside2npix(nside))


def map_alm(maps: FloatArray, lmax: int, *, iterations: int = 3) -> ComplexArray:
    """Return a_lm in healpy order, shape (..., n_alm), of maps in RING order, shape (..., npix), by healpy.

    Parameters
    ----------
    maps : ndarray, shape (..., npix)
        Values at all pixels.
    lmax : int
        Largest multipole.
    iterations : int
        Jacobi iterations of healpy's analysis.

    Raises
    ------
    ValueError
        If a value is not finite: fill or mask unobserved pixels first.
    """
    if not np.all(np.isfinite(maps)):
        raise ValueError(
            "the map has values that are not finite: fill or mask unobserved pixels before transforming"
        )
    rows = maps.reshape(-1, maps.shape[-1])
    alms = np.array([hp.map2alm(row, lmax=lmax, iter=iterations) for row in rows])
    return alms.reshape(*maps.shape[:-1], hp.Alm.getsize(lmax))
