"""Skies that are symmetric about an axis: from Legendre coefficients to a_lm."""

from __future__ import annotations

import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.records.true_sky import alm_size

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def axial_alm(axis: FloatArray, coefficients: FloatArray) -> ComplexArray:
    r"""Return the a_lm, shape (..., n_alm) in healpy order, of a sky that is symmetric about an axis.

    .. math:: \delta I(n) = \sum_\ell c_\ell P_\ell(n\cdot\hat a), \qquad
              a_{\ell m} = \frac{4\pi}{2\ell+1}\, c_\ell\, Y^*_{\ell m}(\hat a)

    Parameters
    ----------
    axis : ndarray, shape (3,)
        Unit vector (0h, 6h, N).
    coefficients : ndarray, shape (..., lmax + 1)
        Legendre coefficients from l = 0.

    Examples
    --------
    >>> axial_alm(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0])).round(6).real
    array([0.      , 2.046653, 0.      ])
    """
    lmax = coefficients.shape[-1] - 1
    ell = np.arange(lmax + 1)
    turned = np.zeros(alm_size(lmax), dtype=np.complex128)
    turned[: lmax + 1] = np.sqrt(4 * np.pi / (2 * ell + 1))
    colatitude = np.arctan2(np.hypot(axis[0], axis[1]), axis[2])
    hp.rotate_alm(turned, 0.0, float(colatitude), float(np.arctan2(axis[1], axis[0])), lmax=lmax)
    return np.asarray(coefficients[..., _multipole_of_each(lmax)] * turned)


def _multipole_of_each(lmax: int) -> NDArray[np.int64]:
    """Return l of each a_lm in healpy order, shape (n_alm,)."""
    return np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])
