r"""Relative diffusion of neighbouring particles: the stationary power spectrum of a generalised BGK ansatz.

Two particles that arrive from nearly the same direction have seen nearly the same turbulence. Their relative
scattering rate :math:`\nu_r(x)`, :math:`x = \hat p_1 \cdot \hat p_2`, therefore vanishes at x = 1, and a dipole fed by
the gradient of cosmic rays spreads over all multipoles (Ahlers & Mertsch: AM15; AM17 section 4.4, Eqs. 72-77).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from obsfit.errors import ModelDomainError
from obsfit.parameters import Parameter

FloatArray = NDArray[np.float64]


def power_ratio(exponent: ArrayLike, lmax: int) -> FloatArray:
    r"""C_l / C_1 of the stationary sky for the rate :math:`\nu_r(x) = \nu_0 (1 - x)^p`, closed form of Eq. (77) of AM17.

    The integral of Eq. (77) is a ratio of Gamma functions. With
    :math:`\int P_l (1-x)^{-p}\,dx \propto \Gamma(l+p)/\Gamma(l+2-p)` and the recursion of :math:`x P_l`,

    .. math:: \frac{C_l}{C_1} = \frac{2}{l(l+1)} \frac{\Gamma(l+p)}{\Gamma(1+p)} \frac{\Gamma(3-p)}{\Gamma(l+2-p)}
              \frac{l(l+1) - p(1-p)}{(l+p-1)(l+2-p)} \frac{p(3-p)}{2 - p(1-p)},

    evaluated as a product of positive factors, which is regular at both ends of the range: a pure dipole at p = 0
    and :math:`2/[l(l+1)]` at p = 1. At large l the ratio falls as :math:`l^{2p-4}`.

    Parameters
    ----------
    exponent : array_like, shape (...)
        p, between 0 and 1 inclusive.
    lmax : int
        Largest multipole, at least 1.

    Returns
    -------
    ndarray, shape (..., lmax + 1)
        C_l / C_1 with the entry 0 at l = 0.

    Raises
    ------
    ModelDomainError
        If an exponent lies outside [0, 1]: the integral diverges at p = 1 and beyond, and p < 0 would make
        neighbours scatter apart faster than strangers.
    ValueError
        If `lmax` is below 1.

    Examples
    --------
    >>> power_ratio(0.5, 3).round(4)
    array([0.    , 1.    , 0.1565, 0.0533])
    """
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: expected at least 1, the dipole that everything is measured by")
    p = np.asarray(exponent, dtype=np.float64)[..., None]
    inside = (p >= 0) & (p <= 1)
    if not np.all(inside):
        raise ModelDomainError(
            f"exponent {p[~inside][0]}: the rate (1 - x)^p has no stationary sky",
            expected="0 <= exponent <= 1",
            remedy="Restrict the prior of the exponent.",
        )
    ell = np.arange(2, lmax + 1)
    # For l >= 2 the factor l + p - 1 cancels the last factor of the product of k + p: nothing vanishes at p = 0
    # but the overall factor p.
    numerator = np.where(ell == 2, 1.0, ell - 2 + p)
    gammas = np.cumprod(numerator / (ell + 1 - p), axis=-1)
    shape = (ell * (ell + 1) - p * (1 - p)) / (ell + 2 - p) * (2 / (ell * (ell + 1)))
    ratio = np.zeros((*p.shape[:-1], lmax + 1))
    ratio[..., 1] = 1.0
    ratio[..., 2:] = gammas * shape * (p * (3 - p) / (2 - p * (1 - p)))
    return ratio


@dataclass(frozen=True)
class RelativeDiffusion:
    r"""Isotropic Gaussian sky with the spectrum of relative diffusion, :math:`\nu_r \propto (1 - x)^p` (AM15, AM17).

    The sky is assumed to be the same at all rigidities (fully coherent, amplitude and exponent independent of
    rigidity), statistically isotropic and Gaussian; the mean magnetic field is ignored. The dipole is part of the
    random sky.

    Examples
    --------
    >>> model = RelativeDiffusion()
    >>> model.c_ell(np.array([[-7.0, 0.5]]), np.array([10.0]), 2)[0, 0, 0]
    array([0.00000000e+00, 1.00000000e-07, 1.56462585e-08])
    """

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return "relative-diffusion"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """log10 of C_1, and the exponent p of the relative scattering rate."""
        return (
            Parameter(
                "log10_c1",
                stats.uniform(-10.0, 6.0),
                description="log10 of the dipole power C_1 of the relative intensity",
                latex=r"\log_{10} C_1",
            ),
            Parameter(
                "exponent",
                stats.uniform(0.02, 0.96),
                description="exponent p of the relative scattering rate (1 - cos of the separation)^p",
                latex="p",
            ),
        )

    def c_ell(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> FloatArray:
        """Return C_l between rigidities, shape (n_vec, n_rig, n_rig, lmax + 1), a read-only view; C_0 = 0.

        Raises
        ------
        ModelDomainError
            If an exponent lies outside [0, 1].
        """
        power = 10.0 ** theta[:, 0, None] * power_ratio(theta[:, 1], lmax)
        n_rig = np.size(rigidity_tv)
        return np.broadcast_to(power[:, None, None, :], (theta.shape[0], n_rig, n_rig, lmax + 1))
