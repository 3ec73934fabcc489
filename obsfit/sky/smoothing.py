"""Smoothing of maps as factors on a_lm: disc averages, Gaussian beams and pixels. Powers take the square."""

from __future__ import annotations

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def top_hat_window(radius: u.Quantity, lmax: int) -> FloatArray:
    r"""Return the factors W_l on a_lm, shape (lmax + 1,), of an average over discs.

    .. math:: W_\ell = \frac{1}{1-c}\int_c^1 P_\ell(x)\, dx
              = \frac{P_{\ell-1}(c) - P_{\ell+1}(c)}{(2\ell+1)(1-c)}, \qquad c = \cos(\mathrm{radius})

    Parameters
    ----------
    radius : Quantity, angle
        Radius of the disc, in (0, 180] deg.
    lmax : int
        Largest multipole.

    Raises
    ------
    ValueError
        If the radius is out of range or lmax is negative.

    Notes
    -----
    The quotient loses its digits for small discs. The recurrence of P_l gives
    :math:`(\ell+1) D_\ell = (\ell-2) D_{\ell-1} - (2\ell-1)(1-c) W_{\ell-1}` for the differences
    :math:`D_\ell = W_\ell - W_{\ell-1}`, in which 1 - c enters as a factor and nothing cancels.

    Examples
    --------
    >>> top_hat_window(60 * u.deg, 3)
    array([1.      , 0.75    , 0.375   , 0.046875])
    """
    angle = float(radius.to_value(u.rad))
    if not 0.0 < angle <= np.pi:
        raise ValueError(f"radius {radius}: expected an angle in (0, 180] deg")
    _check(lmax)
    versine = 2.0 * np.sin(0.5 * angle) ** 2
    window = np.ones(lmax + 1)
    difference = 0.0
    for ell in range(1, lmax + 1):
        difference = ((ell - 2) * difference - (2 * ell - 1) * versine * window[ell - 1]) / (ell + 1)
        window[ell] = window[ell - 1] + difference
    return window


def gaussian_window(sigma: u.Quantity, lmax: int) -> FloatArray:
    r"""Return the factors :math:`\exp[-\ell(\ell+1)\sigma^2/2]` on a_lm, shape (lmax + 1,), of a Gaussian beam.

    Parameters
    ----------
    sigma : Quantity, angle
        Standard deviation for each of the two axes, at least 0; the full width at half maximum is 2.355 sigma.
    lmax : int
        Largest multipole.

    Raises
    ------
    ValueError
        If sigma is negative or not finite, or lmax is negative.

    Examples
    --------
    >>> gaussian_window(10 * u.deg, 2).round(6)
    array([1.      , 0.969998, 0.912666])
    """
    width = float(sigma.to_value(u.rad))
    if not 0.0 <= width < np.inf:
        raise ValueError(f"sigma {sigma}: expected a finite angle of 0 or more")
    _check(lmax)
    ell = np.arange(lmax + 1)
    return np.asarray(np.exp(-0.5 * ell * (ell + 1.0) * width**2), dtype=np.float64)


def pixel_window(nside: int, lmax: int) -> FloatArray:
    """Return the factors on a_lm, shape (lmax + 1,), of an average over HEALPix pixels, from healpy's tables.

    Parameters
    ----------
    nside : int
        Resolution of the map.
    lmax : int
        Largest multipole, at most 4 nside (where the tables end).

    Raises
    ------
    ValueError
        If lmax is negative or beyond the table.
    """
    _check(lmax)
    if lmax > 4 * nside:
        raise ValueError(f"lmax {lmax}: the pixel window of nside {nside} is tabulated up to {4 * nside}")
    return np.asarray(hp.pixwin(nside, lmax=lmax), dtype=np.float64)


def _check(lmax: int) -> None:
    if lmax < 0:
        raise ValueError(f"lmax {lmax}: expected 0 or more")
