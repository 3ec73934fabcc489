"""Exact mean and covariance of pseudo-powers, at low multipoles where no approximation is good."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.operators.energy import EnergyResponse
from obsfit.operators.operator import GaussianMoments, ObservationOperator, Power
from obsfit.records.true_sky import TrueSky

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def spectrum_operator(
    coupling: ArrayLike,
    *,
    noise: ArrayLike | None = None,
    lmax: int | None = None,
    energy: u.Quantity = 1.0 * u.TeV,
) -> ObservationOperator:
    """Return the operator of the pseudo-spectrum of a map with a known weight and noise, for l from 1 on.

    Unlike `obsfit.operators.pseudo.pseudo_operator`, which knows a published spectrum by its record, this takes the
    weight of one's own map: any function of declination.

    Parameters
    ----------
    coupling : array_like, shape (m, l_out, l_in)
        T^m of `map_coupling` or `obsfit.sky.coupling.band_coupling`, from l = 0; with T^0 = 0 where ring means are
        removed.
    noise : array_like, shape (m, l, l'), optional
        Covariances of `noise_covariances`, with at least l_out multipoles. Default: none.
    lmax : int, optional
        Largest multipole of the spectrum. Default: the last one of the coupling.
    energy : Quantity
        The energy at which a model is evaluated, as a delta function.

    Raises
    ------
    ValueError
        If the arrays do not fit.
    """
    response = np.asarray(coupling, dtype=np.float64)
    if response.ndim != 3:
        raise ValueError(f"coupling of shape {response.shape}: expected the axes (m, l_out, l_in)")
    last = response.shape[1] - 1 if lmax is None else lmax
    if not 1 <= last < response.shape[1]:
        raise ValueError(f"lmax {last}: expected 1 to {response.shape[1] - 1}, the reach of the coupling")
    size = last + 1
    level = np.zeros((size, size, size)) if noise is None else np.asarray(noise, dtype=np.float64)
    if level.ndim != 3 or min(level.shape) < size:
        raise ValueError(f"noise of shape {level.shape}: expected at least ({size}, {size}, {size})")
    first = 0 if response[0].any() or level[0, :size, :size].any() else 1
    blocks = {m: np.zeros((1, size, response.shape[2])) for m in range(first, size)}
    for m in range(first, min(size, response.shape[0])):
        blocks[m][0] = response[m, :size]
    return ObservationOperator(
        blocks,
        {m: level[m, :size, :size][None] for m in blocks},
        EnergyResponse.delta(np.array([energy.to_value(u.TeV)])),
        Power(np.arange(1, size)),
    )


def pseudo_moments(
    coupling: ArrayLike,
    c_ell: ArrayLike | None = None,
    *,
    noise: ArrayLike | None = None,
    fixed_alm: ComplexArray | None = None,
    lmax: int | None = None,
) -> GaussianMoments:
    r"""Return the exact mean (n,) and covariance (n, n) of pseudo-powers for l from 1 to lmax.

    For a sky with an isotropic Gaussian part C and a fixed part a, and with :math:`S_m = T^m C T^{mT} + N_m`,
    :math:`b_m = T^m a_m`:

    .. math:: \langle\tilde C_\ell\rangle = \frac{1}{2\ell+1} \sum_m \left[|b_m|^2_\ell + (S_m)_{\ell\ell}\right],
              \qquad \mathrm{cov} = \sum_m \frac{2 (S_m)_{\ell\ell'}^2
              + 4\,\mathrm{Re}\, b^*_{m\ell} (S_m)_{\ell\ell'} b_{m\ell'}}{(2\ell+1)(2\ell'+1)}.

    The cross term of a fixed sky and noise dominates the error of a power *given the sky*. Powers at low l are far from
    Gaussian, whatever their covariance says: a polar cap leaves about two degrees of freedom at l = 1 and 2, which are
    nearly one number.

    Parameters
    ----------
    coupling : array_like, shape (m, l_out, l_in)
        See `spectrum_operator`.
    c_ell : array_like, shape (l_in,), optional
        Power of the isotropic part from l = 0; shorter ones end in zeros. Default: none.
    noise : array_like, shape (m, l, l'), optional
        Covariances of the noise of the pseudo a_lm.
    fixed_alm : ndarray of complex, shape (n_alm,), optional
        a_lm of the fixed part in healpy order.
    lmax : int, optional
        Largest multipole. Default: the last one of the coupling.

    Returns
    -------
    GaussianMoments
        With arrays of shapes (lmax,) and (lmax, lmax).

    Examples
    --------
    >>> from obsfit.sky.coupling import band_coupling
    >>> whole = band_coupling(-90 * u.deg, 90 * u.deg, 3, filtered=True)
    >>> moments = pseudo_moments(whole, [0.0, 1.0, 1.0, 1.0])
    >>> (2 * moments.mean**2 / np.diag(moments.covariance)).round(6)  # 2 l modes remain
    array([2., 4., 6.])
    """
    operator = spectrum_operator(coupling, noise=noise, lmax=lmax)
    power = None
    if c_ell is not None:
        given = np.asarray(c_ell, dtype=np.float64)
        if given.ndim != 1 or given.size > operator.lmax + 1:
            raise ValueError(f"c_ell of shape {given.shape}: expected (n,) with n at most {operator.lmax + 1}")
        power = np.zeros((1, 1, 1, operator.lmax + 1))
        power[0, 0, 0, : given.size] = given
    fixed = None if fixed_alm is None else np.asarray(fixed_alm, dtype=np.complex128)[None, None]
    moments = operator.expect(TrueSky(np.ones(1), fixed, power))
    return GaussianMoments(moments.mean[0], moments.covariance[0])
