"""What a declination band does to a sky: projection and inversion of a dipole, and mixing of multipoles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import astropy.units as u
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import sph_harm_y

FloatArray = NDArray[np.float64]
Weight = Callable[[FloatArray], FloatArray]


def projection_factor(
    dec_min: u.Quantity, dec_max: u.Quantity, *, weight: Weight | None = None, order: int = 64
) -> float:
    r"""Return the ratio of the projected to the true equatorial dipole amplitude.

    .. math:: \tilde A_1 / A_1 = \int w(s) \sqrt{1 - s^2}\, ds \Big/ \int w(s)\, ds, \qquad s = \sin\delta,

    which for uniform weight is Eq. (25) of AM17. The phase is not changed by the projection. Multipoles
    :math:`\ell \ge 2` leak into a projected dipole; this factor knows nothing of them (see `obsfit.operators`).

    Parameters
    ----------
    dec_min, dec_max : Quantity, angle
        Declination band of the time-integrated field of view.
    weight : callable, optional
        Weight per unit solid angle as a function of sin(declination), shape (n,) -> (n,). Default: uniform.
        The integral is split at the equator, so that a cusp there, as of \|s\|, costs no accuracy; a weight with a
        cusp or a step elsewhere needs a larger `order`.
    order : int
        Number of Gauss-Legendre nodes on either side of the equator.

    Returns
    -------
    float
        Dimensionless, in (0, 1].

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere, or if the weight is negative, not finite or zero everywhere.

    Examples
    --------
    >>> round(projection_factor(-26 * u.deg, 64 * u.deg), 4)
    0.882
    """
    low, high = _band(dec_min, dec_max)
    nodes, node_weights = leggauss(order)
    edges = [low, 0.0, high] if low < 0.0 < high else [low, high]
    halves = [(0.5 * (b - a), 0.5 * (b + a)) for a, b in pairwise(edges)]
    # Integrate over declination, not its sine: sqrt(1 - s^2) is not smooth at the poles.
    dec = np.concatenate([half * nodes + middle for half, middle in halves])
    measure = np.concatenate([half * node_weights for half, _ in halves]) * np.cos(dec)
    if weight is not None:
        values = np.asarray(weight(np.sin(dec)), dtype=np.float64)
        if not np.all(np.isfinite(values)) or np.any(values < 0.0) or not np.any(values > 0.0):
            raise ValueError(
                f"weight between {values.min()} and {values.max()} in the band: "
                "expected finite values, none negative, not all zero"
            )
        measure = measure * values
    return float(np.sum(measure * np.cos(dec)) / np.sum(measure))


def dipole_inversion_factor(sin_dec_min: float, sin_dec_max: float) -> float:
    r"""Return K'_1111: pseudo a_11 of a dipole seen through a declination band, over its true a_11.

    .. math:: K'_{1111} = \tfrac14 [3 (s_2 - s_1) + s_1^3 - s_2^3]

    Eqs. (27) and (28) of AM17, for a top-hat band; divide the pseudo a_11 by it. It is 1 on the full sky. A pure
    dipole is assumed: multipoles l = 2 to 4 leak into the result.

    Parameters
    ----------
    sin_dec_min, sin_dec_max : float
        Sines s_1 and s_2 of the limits of the band.

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere.

    Examples
    --------
    >>> dipole_inversion_factor(-1.0, 1.0)
    1.0
    """
    s1, s2 = float(sin_dec_min), float(sin_dec_max)
    if not -1.0 <= s1 < s2 <= 1.0:
        raise ValueError(f"band of sin(dec) {s1} to {s2}: expected -1 <= s1 < s2 <= 1")
    return 0.25 * (s2 - s1) * (3.0 - s1**2 - s1 * s2 - s2**2)


def band_coupling(dec_min: u.Quantity, dec_max: u.Quantity, lmax: int, *, filtered: bool) -> FloatArray:
    r"""Return how a declination band mixes multipoles: T^m, shape (lmax + 1, lmax + 1, lmax + 1) as (m, l, l').

    .. math:: \tilde a_{\ell m} = \sum_{\ell'} T^m_{\ell\ell'} a_{\ell' m}, \qquad
              T^m_{\ell\ell'} = 2\pi \int_{s_1}^{s_2} \lambda_{\ell m}(s) \lambda_{\ell' m}(s)\, ds,

    Eq. (A.1) of AM17 for a top-hat weight, with :math:`\lambda_{\ell m}` the normalised associated Legendre functions
    and s the sine of declination; the integrand is a polynomial, and Gauss-Legendre quadrature is exact. The same
    matrix stands for -m. Entries with l or l' below m vanish.

    Parameters
    ----------
    dec_min, dec_max : Quantity, angle
        Declination band.
    lmax : int
        Largest multipole of both indices.
    filtered : bool
        True sets T^0 = 0: a map whose ring means are removed has no a_l0.

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere.
    """
    low, high = _band(dec_min, dec_max)
    s1, s2 = np.sin(low), np.sin(high)
    nodes, weights = leggauss(lmax + 1)
    colatitude = np.arccos(0.5 * (s2 - s1) * nodes + 0.5 * (s2 + s1))
    matrices = np.zeros((lmax + 1, lmax + 1, lmax + 1))
    for m in range(1 if filtered else 0, lmax + 1):
        ell = np.arange(m, lmax + 1)
        functions = sph_harm_y(ell[:, None], m, colatitude, 0.0).real
        matrices[m, m:, m:] = np.pi * (s2 - s1) * (functions * weights) @ functions.T
    return matrices


def _band(dec_min: u.Quantity, dec_max: u.Quantity) -> tuple[float, float]:
    low, high = float(dec_min.to_value(u.rad)), float(dec_max.to_value(u.rad))
    if not -np.pi / 2 <= low < high <= np.pi / 2:
        raise ValueError(
            f"declination band {dec_min} to {dec_max}: expected -90 deg <= dec_min < dec_max <= 90 deg"
        )
    return low, high
