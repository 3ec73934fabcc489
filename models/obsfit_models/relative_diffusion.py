r"""Relative diffusion of neighbouring particles: the stationary power spectrum of a generalised BGK ansatz.

Two particles that arrive from nearly the same direction have seen nearly the same turbulence. Their relative
scattering rate :math:`\nu_r(x)`, :math:`x = \hat p_1 \cdot \hat p_2`, therefore vanishes at x = 1, and a dipole fed by
the gradient of cosmic rays spreads over all multipoles (Ahlers & Mertsch: AM15; AM17 section 4.4, Eqs. 72-77).

The equation of the stationary state is :math:`\nu_r(x) \sum_l (2l+1)\, l(l+1)\, C_l P_l(x) = 3 Q_1 x`. Its sum has no
term in l = 0, but :math:`x/\nu_r` has one unless its integral vanishes: taken at its word, the equation has no
solution. Eq. (77) of AM17 projects on l >= 1 and leaves the monopole aside. In the time-dependent system of the same
ansatz the monopole grows linearly, as :math:`\dot C_0 = 3 Q_1 \bar x` with the mean of x weighted by
:math:`1/\nu_r`, and what the other multipoles settle to has :math:`x - \bar x` in place of x. Both are offered;
Eq. (77) is the default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special, stats

from obsfit.errors import ConvergenceError, ModelDomainError
from obsfit.parameters import Parameter

FloatArray = NDArray[np.float64]
Rate = Callable[[FloatArray], FloatArray]

# Rigidity at which the amplitude is quoted where it depends on rigidity.
PIVOT_TV = 10.0


def power_ratio(exponent: ArrayLike, lmax: int, *, growing_monopole: bool = False) -> FloatArray:
    r"""C_l / C_1 of the stationary sky for the rate :math:`\nu_r(x) = \nu_0 (1 - x)^p`, Eq. (77) of AM17.

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
    growing_monopole : bool
        If true, the late state of `evolve` with its growing monopole instead of Eq. (77), with the same slope:
        :math:`C_l/C_1 = \Gamma(l+p-1)\,\Gamma(4-p)/[\Gamma(p)\,\Gamma(l+3-p)]`.

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
    ratio = np.zeros((*p.shape[:-1], lmax + 1))
    ratio[..., 1] = 1.0
    if growing_monopole:
        ratio[..., 2:] = np.cumprod((ell - 2 + p) / (ell + 2 - p), axis=-1)
        return ratio
    # For l >= 2 the factor l + p - 1 cancels the last factor of the product of k + p: nothing vanishes at p = 0
    # but the overall factor p.
    gammas = np.cumprod(np.where(ell == 2, 1.0, ell - 2 + p) / (ell + 1 - p), axis=-1)
    shape = (ell * (ell + 1) - p * (1 - p)) / (ell + 2 - p) * (2 / (ell * (ell + 1)))
    ratio[..., 2:] = gammas * shape * (p * (3 - p) / (2 - p * (1 - p)))
    return ratio


def power_from_rate(
    rate: Rate, lmax: int, *, endpoint_exponent: float | None = None, growing_monopole: bool = False
) -> FloatArray:
    r"""C_l of the stationary sky for any relative scattering rate and a unit dipole source, Eq. (77) of AM17.

    .. math:: C_l = \frac{3}{2} \frac{Q_1}{l(l+1)} \int_{-1}^{1} \frac{x P_l(x)}{\nu_r(x)}\, dx, \qquad Q_1 = 1 .

    Parameters
    ----------
    rate : callable
        :math:`\nu_r(x)`, shape (n,) -> (n,), positive for -1 < x < 1.
    lmax : int
        Largest multipole, at least 1.
    endpoint_exponent : float, optional
        p < 1 if the rate vanishes as :math:`(1-x)^p` at x = 1: then Gauss-Jacobi quadrature is used. Default: adaptive
        quadrature, which needs no exponent if the rate vanishes no faster than the root of 1 - x
        (a faster one is not resolved by a function of x in double precision).
    growing_monopole : bool
        If true, x - x_mean stands in place of x, the late state of `evolve`: see the head of this module.

    Returns
    -------
    ndarray, shape (lmax + 1,)
        Zero at l = 0. A negative entry says that no sky can have this rate; a constant rate gives the dipole alone,
        with rounding errors elsewhere.

    Raises
    ------
    ConvergenceError
        If the quadrature does not converge, as for a rate that vanishes as (1 - x) or faster.
    ModelDomainError
        If the rate is negative or not finite.

    Examples
    --------
    >>> power = power_from_rate(lambda x: np.sqrt(1 - x), 2, endpoint_exponent=0.5)
    >>> (power / power[1]).round(4)
    array([0.    , 1.    , 0.1565])
    """
    ell = _multipoles(lmax)[1:]
    exponent = None if endpoint_exponent is None else -endpoint_exponent

    def integrand(x: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            weighted = legvander(x, lmax) / _checked(rate, x)[:, None]
        return np.concatenate([x[:, None] * weighted, weighted], axis=1)

    with_x, without = _integrate(integrand, exponent, lmax + 1).reshape(2, lmax + 1)
    mean = with_x[0] / without[0] if growing_monopole else 0.0
    power = np.zeros(lmax + 1)
    power[1:] = 1.5 / (ell * (ell + 1)) * (with_x - mean * without)[1:]
    return power


def relaxation_matrix(rate: Rate, lmax: int, *, endpoint_exponent: float | None = None) -> FloatArray:
    r"""Matrix G of :math:`\dot C_k = -\sum_l G_{kl} C_l + Q_k`, the generalised BGK ansatz in time.

    The term :math:`\nu_r(x) (L_1^2 + L_2^2)/2` of Eq. (76) of AM17, taken with the sign that damps, acts on
    :math:`\sum_l (2l+1) C_l P_l(x)`; projected on P_k,

    .. math:: G_{kl} = \tfrac12 (2l+1)\, l(l+1) \int_{-1}^{1} \nu_r P_k P_l\, dx .

    As :math:`\sum_k (2k+1) P_k(x)/2 = \delta(x - 1)`, the sum of (2k+1) C_k over *all* k is conserved if and only if
    :math:`\nu_r(1) = 0`. A finite `lmax` cuts the exchange with higher multipoles: an open top.

    Parameters
    ----------
    rate : callable
        :math:`\nu_r(x)`, shape (n,) -> (n,), not negative.
    lmax : int
        Largest multipole, at least 1.
    endpoint_exponent : float, optional
        p if the rate vanishes as :math:`(1-x)^p` at x = 1; default: adaptive quadrature.

    Returns
    -------
    ndarray, shape (lmax + 1, lmax + 1)
        G in row k and column l, in the unit of the rate.

    Raises
    ------
    ConvergenceError
        If the quadrature does not converge.
    ModelDomainError
        If the rate is negative or not finite.
    """
    ell = _multipoles(lmax)

    def integrand(x: FloatArray) -> FloatArray:
        legendre = legvander(x, lmax)
        product: FloatArray = _checked(rate, x)[:, None, None] * legendre[:, :, None] * legendre[:, None, :]
        return product.reshape(x.size, -1)

    overlap = _integrate(integrand, endpoint_exponent, 2 * lmax).reshape(lmax + 1, lmax + 1)
    return 0.5 * (2 * ell + 1) * ell * (ell + 1) * overlap


def evolve(
    c0: ArrayLike, rate: Rate, times: ArrayLike, source: float = 0.0, *, endpoint_exponent: float | None = None
) -> FloatArray:
    r"""C_l(t) of relative diffusion from an initial spectrum, with a dipole source, solved exactly in time.

    The linear system of `relaxation_matrix`, truncated at the length of `c0`. It is similar to a symmetric positive
    definite one, whose eigenvectors are used. The truncation converges to the endless system slowly, as
    :math:`l_{max}^{2p-2}` for :math:`\nu_r \propto (1-x)^p`.

    Parameters
    ----------
    c0 : array_like, shape (lmax + 1,)
        Spectrum at t = 0.
    rate : callable
        :math:`\nu_r(x)`, shape (n,) -> (n,), not negative.
    times : array_like, shape (...)
        Not negative, in the inverse unit of the rate.
    source : float
        Q_1, the growth rate of C_1 that the gradient of cosmic rays feeds.
    endpoint_exponent : float, optional
        p if the rate vanishes as :math:`(1-x)^p` at x = 1.

    Returns
    -------
    ndarray, shape (..., lmax + 1)
        Includes l = 0, which takes what relative diffusion hands to the monopole, for ever if there is a source.

    Raises
    ------
    ConvergenceError, ModelDomainError
        As `relaxation_matrix`.
    ValueError
        If a time is negative.

    Examples
    --------
    A constant rate mixes no multipoles, and C_l decays with the rate l (l + 1):

    >>> evolve([0.0, 1.0, 1.0], lambda x: 0.5 + 0 * x, 1.0)[1:].round(6)
    array([0.367879, 0.049787])
    """
    start = np.asarray(c0, dtype=np.float64)
    t = np.asarray(times, dtype=np.float64)[..., None]
    if not np.all(np.isfinite(t) & (t >= 0)):
        raise ValueError(f"time {t[~(np.isfinite(t) & (t >= 0))][0]}: expected finite times, not negative")
    lmax = start.size - 1
    damping = relaxation_matrix(rate, lmax, endpoint_exponent=endpoint_exponent)
    ell = _multipoles(lmax)[1:]
    root = np.sqrt((2 * ell + 1) * ell * (ell + 1))
    decay, vectors = np.linalg.eigh(root[:, None] * damping[1:, 1:] / root)
    drive = np.zeros(lmax)
    drive[0] = source
    initial, drive = (root * start[1:]) @ vectors, (root * drive) @ vectors
    z = decay * t
    once = special.exprel(-z)
    # (1 - (1 - e^-z)/z)/z, by its series where the difference loses digits
    near = np.where(np.abs(z) < 1e-3, z, 0.0)
    far = np.where(np.abs(z) < 1e-3, 1.0, z)
    twice = np.where(np.abs(z) < 1e-3, 0.5 - near / 6 + near**2 / 24 - near**3 / 120, (1 - once) / far)
    spectrum = np.zeros((*t.shape[:-1], lmax + 1))
    spectrum[..., 1:] = (initial * np.exp(-z) + drive * t * once) @ vectors.T / root
    elapsed = (initial * t * once + drive * t**2 * twice) @ vectors.T / root
    spectrum[..., 0] = start[0] - elapsed @ damping[0, 1:]
    return spectrum


def nearest_neighbour_rates(lmax: int) -> tuple[FloatArray, FloatArray]:
    r"""Transition rates to l + 1 and to l - 1 for :math:`\nu_r = \nu_0 (1 - x)`, in units of nu_0; each (lmax + 1,).

    The exponent p = 1 couples nearest neighbours only, in both directions:
    :math:`\nu_{l \to l+1} = \nu_0\, l (l+1)^2/(2l+1)` and :math:`\nu_{l \to l-1} = \nu_0\, l^2 (l+1)/(2l+1)`,
    from the recursion of :math:`x P_l`; the cascade of A14 keeps the first alone.

    Examples
    --------
    >>> up, down = nearest_neighbour_rates(1)
    >>> up.round(4), down.round(4)
    (array([0.    , 1.3333]), array([0.    , 0.6667]))
    """
    ell = _multipoles(lmax)
    return ell * (ell + 1) ** 2 / (2 * ell + 1), ell**2 * (ell + 1) / (2 * ell + 1)


@dataclass(frozen=True)
class RelativeDiffusion:
    r"""Isotropic Gaussian sky with the spectrum of relative diffusion, :math:`\nu_r \propto (1 - x)^p` (AM15, AM17).

    The sky is statistically isotropic and Gaussian; the mean magnetic field is ignored. The dipole is part of the
    random sky. By default the sky is the same at all rigidities. Data at several energies ask for more: with
    `rigidity_dependence`, the power grows with rigidity and the pattern changes with it,

    .. math:: C_\ell(R, R') = C_1 \frac{C_\ell}{C_1}(p) \left(\frac{R R'}{R_0^2}\right)^{\gamma/2}
              e^{-|\log_{10} R/R'| / \Lambda}, \qquad R_0 = 10\,\mathrm{TV},

    with the same slope and the same decades of coherence at all multipoles. The papers have no such formula: it is
    the simplest one with a growth, a memory and a positive definite covariance (that of a first-order Markov process
    in log R).

    Attributes
    ----------
    growing_monopole : bool
        Whether to use the late state of the time-dependent ansatz instead of Eq. (77), see `power_ratio`.
    rigidity_dependence : bool
        Whether power and pattern change with rigidity; adds the parameters slope and log10_coherence.

    Examples
    --------
    >>> model = RelativeDiffusion()
    >>> model.c_ell(np.array([[-7.0, 0.5]]), np.array([10.0]), 2)[0, 0, 0]
    array([0.00000000e+00, 1.00000000e-07, 1.56462585e-08])
    """

    growing_monopole: bool = False
    rigidity_dependence: bool = False

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return "relative-diffusion"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """log10 of C_1, the exponent p of the relative scattering rate, and what changes with rigidity."""
        always = (
            Parameter(
                "log10_c1",
                stats.uniform(-10.0, 6.0),
                description="log10 of the dipole power C_1 of the relative intensity"
                + (f" at {PIVOT_TV:g} TV" if self.rigidity_dependence else ""),
                latex=r"\log_{10} C_1",
            ),
            Parameter(
                "exponent",
                stats.uniform(0.02, 0.96),
                description="exponent p of the relative scattering rate (1 - cos of the separation)^p",
                latex="p",
            ),
        )
        if not self.rigidity_dependence:
            return always
        return (
            *always,
            Parameter(
                "slope",
                stats.uniform(-2.0, 4.0),
                description="exponent of the growth of all power with rigidity",
                latex=r"\gamma",
            ),
            Parameter(
                "log10_coherence",
                stats.uniform(-1.0, 3.0),
                description="log10 of the decades of rigidity within which the sky keeps its pattern",
                latex=r"\log_{10} \Lambda",
            ),
        )

    def c_ell(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> FloatArray:
        """Return C_l between rigidities, shape (n_vec, n_rig, n_rig, lmax + 1), perhaps a read-only view; C_0 = 0.

        Raises
        ------
        ModelDomainError
            If an exponent lies outside [0, 1].
        """
        power = 10.0 ** theta[:, 0, None] * power_ratio(theta[:, 1], lmax, growing_monopole=self.growing_monopole)
        n_rig = np.size(rigidity_tv)
        if not self.rigidity_dependence:
            return np.broadcast_to(power[:, None, None, :], (theta.shape[0], n_rig, n_rig, lmax + 1))
        decades = np.log10(np.asarray(rigidity_tv) / PIVOT_TV)
        growth = 10.0 ** (0.5 * theta[:, 2, None] * decades)
        memory = np.exp(-np.abs(decades[:, None] - decades) / 10.0 ** theta[:, 3, None, None])
        return (growth[:, :, None] * growth[:, None, :] * memory)[..., None] * power[:, None, None, :]


def _multipoles(lmax: int) -> FloatArray:
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: expected at least 1, the dipole")
    return np.arange(lmax + 1, dtype=np.float64)


def _checked(rate: Rate, x: FloatArray) -> FloatArray:
    values = np.asarray(rate(x), dtype=np.float64)
    if values.shape != x.shape:
        raise ValueError(f"rate: returned shape {values.shape} for x of shape {x.shape}, expected the same shape")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        raise ModelDomainError(
            f"relative scattering rate {values[bad][0]} at x = {x[bad][0]}",
            expected="a finite rate that is not negative for -1 < x < 1",
        )
    return values


def _integrate(
    integrand: Callable[[FloatArray], FloatArray], exponent: float | None, degree: int, rtol: float = 1e-10
) -> FloatArray:
    """Return the integrals over -1 < x < 1 of an integrand (n,) -> (n, m) that behaves as (1 - x)^exponent, (m,).

    The tolerance is relative to the largest of the m integrals.
    """
    if exponent is None:
        return _adaptive(integrand, 1e-9)
    if not exponent > -1:
        raise ConvergenceError(
            f"the integrand grows as (1 - x)^{exponent} at x = 1 and has no integral",
            expected="an end-point exponent of the rate below 1",
        )
    previous, error = np.zeros(1), np.inf
    order = degree // 2 + 16
    while order <= 2048:
        x, weights = special.roots_jacobi(order, exponent, 0.0)
        value = (weights * (1 - x) ** -exponent) @ integrand(x)
        error = float(np.max(np.abs(value - previous)))
        if error <= rtol * np.max(np.abs(value)):
            return np.asarray(value)
        previous, order = value, 2 * order
    raise ConvergenceError(
        f"Gauss-Jacobi quadrature with end-point exponent {exponent} changes by {error:.1e} up to {order // 2} nodes",
        expected=f"a relative change below {rtol:.0e}",
        remedy="Give the true end-point exponent of the rate, or none for adaptive quadrature.",
    )


def _adaptive(integrand: Callable[[FloatArray], FloatArray], rtol: float) -> FloatArray:
    # Bisection visits the same points for every component, so that each is computed once.
    @cache
    def graded(t: float) -> FloatArray:
        # x = 1 - 2 t^2 crowds the nodes at x = 1; any more, and the rounding of x would be seen.
        with np.errstate(invalid="ignore"):
            values: FloatArray = 4 * t * integrand(np.array([1 - 2 * t**2]))[0]
        if not np.all(np.isfinite(values)):
            raise ConvergenceError(
                f"adaptive quadrature reached 1 - x = {2 * t**2:.1e}, where the integrand is not finite",
                expected="a rate that vanishes at x = 1 alone, and no faster than the root of 1 - x",
                remedy="State the end-point exponent of the rate.",
            )
        return values

    def component(t: float, index: int) -> float:
        return float(graded(t)[index])

    size = graded(0.5).size
    integrals, error = np.empty(size), 0.0
    for index in range(size):
        result = integrate.quad(
            component, 0.0, 1.0, args=(index,), epsabs=1e-13, epsrel=1e-11, limit=200, full_output=1
        )
        integrals[index], error = result[0], max(error, result[1])
    scale = float(np.max(np.abs(integrals)))
    if not error <= rtol * scale:
        raise ConvergenceError(
            f"adaptive quadrature stopped with an estimated error of {error:.1e} on {scale:.3e}",
            expected=f"a relative error below {rtol:.0e}",
            remedy="State the end-point exponent of the rate, or smooth its breaks.",
        )
    return integrals
