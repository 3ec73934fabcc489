"""Smoothing of maps as factors on a_lm: disc averages, Gaussian beams and pixels. Powers take the square."""

from __future__ import annotations

from functools import lru_cache

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_PARTS = 8
"""A pixel is cut into _PARTS x _PARTS parts for its window."""
_BINS = 4000
"""Bins of the separations between parts; the mean of each bin is exact."""


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
    r"""Return the factors on a_lm, shape (lmax + 1,), of an average over HEALPix pixels.

    .. math:: W_\ell^2 = \Big\langle \frac{1}{\Omega^2} \iint_\mathrm{pixel} P_\ell(\mathbf n_1\cdot\mathbf n_2)\,
              d\Omega_1 d\Omega_2 \Big\rangle_\mathrm{pixels}

    the mean over m and over pixels, as HEALPix defines it: right for the power of a statistically isotropic sky.

    Parameters
    ----------
    nside : int
        Resolution of the map, a power of two.
    lmax : int
        Largest multipole, at most 4 nside.

    Raises
    ------
    ValueError
        If nside is not a power of two, or lmax is negative or above 4 nside.

    Notes
    -----
    Computed here because healpy fetches its table from the network. The double integral is a sum over the centres of
    8 x 8 parts of each pixel, times the window of the parts, which are small enough for its leading order
    1 - const l(l + 1). Relative error below 3e-4 up to l = 2 nside, and below 2e-3 up to 4 nside.

    Examples
    --------
    >>> pixel_window(64, 128)[[0, 64, 128]].round(3)
    array([1.   , 0.954, 0.826])
    """
    _check(lmax)
    if nside < 1 or nside & (nside - 1):
        raise ValueError(f"nside {nside}: expected a power of two")
    if lmax > 4 * nside:
        raise ValueError(f"lmax {lmax}: expected at most 4 nside = {4 * nside}")
    return _pixel_window(nside)[: lmax + 1].copy()


@lru_cache(maxsize=32)
def _pixel_window(nside: int) -> FloatArray:
    versine, weight = _pixel_separations(nside)
    lmax = 4 * nside
    square = np.empty(lmax + 1)
    before, now = np.ones_like(versine), 1.0 - versine
    square[0], square[1] = weight @ before, weight @ now
    for ell in range(2, lmax + 1):
        before, now = now, ((2 * ell - 1) * (1.0 - versine) * now - (ell - 1) * before) / ell
        square[ell] = weight @ now
    window = np.sqrt(square)
    # W_1 = 1 - 2 c, and the parts of a pixel add c / 64 to the c of their centres.
    curvature = 0.5 * (1.0 - window[1]) / (_PARTS**2 - 1)
    ell_values = np.arange(lmax + 1)
    return np.asarray(window * np.exp(-curvature * ell_values * (ell_values + 1.0)), dtype=np.float64)


def _pixel_separations(nside: int) -> tuple[FloatArray, FloatArray]:
    """Versines 1 - n1.n2 between the parts of a pixel, and their weights, averaged over up to 1000 pixels per face."""
    per_face, parts = nside**2, _PARTS**2
    first, second = np.triu_indices(parts, 1)
    largest = 1.0 - np.cos(2.0 * hp.max_pixrad(nside))
    count, total = np.zeros(_BINS), np.zeros(_BINS)
    # By symmetry one polar face stands for eight and one equatorial face for four.
    for face, share in ((0, 2.0 / 3.0), (4, 1.0 / 3.0)):
        pixels = face * per_face + np.unique(np.linspace(0, per_face - 1, min(per_face, 1000)).astype(np.int64))
        for pixel in pixels:
            centres = np.array(hp.pix2vec(nside * _PARTS, pixel * parts + np.arange(parts), nest=True)).T
            versine = 0.5 * np.sum((centres[first] - centres[second]) ** 2, axis=1)
            place = np.minimum((versine / largest * _BINS).astype(np.int64), _BINS - 1)
            count += share / pixels.size * np.bincount(place, minlength=_BINS)
            total += share / pixels.size * np.bincount(place, weights=versine, minlength=_BINS)
    filled = count > 0.0
    # Each part with itself, then each pair twice.
    versines = np.concatenate([[0.0], total[filled] / count[filled]])
    return versines, np.concatenate([[1.0 / parts], 2.0 * count[filled] / parts**2])


def _check(lmax: int) -> None:
    if lmax < 0:
        raise ValueError(f"lmax {lmax}: expected 0 or more")
