r"""Pitch-angle diffusion along the local field: the gyrotropic anisotropy that a gradient of cosmic rays sustains.

With :math:`\mu = \hat p \cdot \hat B` and particles of speed 1, Eqs. (40) and (41) of AM17 read
:math:`\partial_t f + \mu \partial_z f = \partial_\mu (D_{\mu\mu} \partial_\mu f)`. If scattering is not isotropic,
the stationary anisotropy is no dipole: weak scattering steepens it, strong scattering flattens it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.polynomial.legendre import leggauss, legvander
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, linalg, stats

from obsfit.errors import ConfigurationError, ConvergenceError, ModelDomainError
from obsfit.parameters import Parameter
from obsfit.sky.directions import named_direction
from obsfit_models._axial import axial_alm

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Coefficient = Callable[[FloatArray], FloatArray]

FORMS = ("isotropic", "power-law", "peaked")


@dataclass(frozen=True)
class IsotropicScattering:
    r""":math:`D_{\mu\mu} = D_0 (1 - \mu^2)`: multipoles decay at the rates D_0 l (l + 1), and :math:`D_0 = \nu / 2`.

    Attributes
    ----------
    d0 : float
        Rate D_0.
    """

    d0: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(d0=self.d0)

    def __call__(self, mu: FloatArray) -> FloatArray:
        """Return D_mumu, shape (n,), at mu, shape (n,)."""
        return self.d0 * (1 - mu**2)


@dataclass(frozen=True)
class PowerLawScattering:
    r""":math:`D_{\mu\mu} = D_0 (1 - \mu^2) |\mu|^{q-1}`: slab turbulence of spectral index q.

    The form of quasi-linear theory. The stationary anisotropy is :math:`\mathrm{sgn}(\mu)|\mu|^{2-q}`; for q of 2 and
    above nothing crosses mu = 0.

    Attributes
    ----------
    q : float
        Spectral index, below 2; 1 is isotropic scattering.
    d0 : float
        Rate D_0.
    """

    q: float
    d0: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(d0=self.d0)
        if not self.q < 2:
            raise ModelDomainError(
                f"q = {self.q}: particles do not scatter through a pitch angle of 90 degrees",
                expected="a spectral index q below 2",
            )

    def __call__(self, mu: FloatArray) -> FloatArray:
        """Return D_mumu, shape (n,), at mu, shape (n,)."""
        return self.d0 * (1 - mu**2) * np.abs(mu) ** (self.q - 1)


@dataclass(frozen=True)
class PeakedScattering:
    r""":math:`D_{\mu\mu} = D_0 (1 - \mu^2) [1 + h \exp(-\mu^2 / 2w^2)]`: a peak at 90 degrees on an isotropic floor.

    A parametrisation of what anisotropic turbulence of the Goldreich-Sridhar kind is said to do (strong scattering
    near mu = 0, reviewed in section 4 of AM17). It is *not* the coefficient computed in any paper.

    Attributes
    ----------
    height : float
        h, the height of the peak above the floor in units of the floor; not negative.
    width : float
        w, in mu.
    d0 : float
        The floor D_0.
    """

    height: float
    width: float = 0.1
    d0: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(width=self.width, d0=self.d0)
        if not 0 <= self.height < np.inf:
            raise ModelDomainError(f"height {self.height} of the peak", expected="a finite number, not negative")

    def __call__(self, mu: FloatArray) -> FloatArray:
        """Return D_mumu, shape (n,), at mu, shape (n,)."""
        return self.d0 * (1 - mu**2) * (1 + self.height * np.exp(-(mu**2) / (2 * self.width**2)))


def stationary_shape(d_mumu: Coefficient, mu: ArrayLike) -> FloatArray:
    r"""Shape of the stationary anisotropy, :math:`g(\mu) = \int_0^\mu (1 - m^2) / D_{\mu\mu}(m)\, dm`.

    With a gradient along the field, the stationary solution of Eq. (41) of AM17 is
    :math:`\delta I(n) = \tfrac12 (\partial_z \ln n)\, g(n \cdot \hat B)` for *arrival* directions n = -p and a
    coefficient that is even in mu: the maximum looks up the gradient, as for the diffusive dipole. A pure dipole
    needs :math:`D_{\mu\mu} \propto 1 - \mu^2`.

    Parameters
    ----------
    d_mumu : callable
        :math:`D_{\mu\mu}`, shape (n,) -> (n,), positive for 0 < abs(mu) < 1. It may vanish at mu = 0 more slowly than
        abs(mu).
    mu : array_like, shape (...)
        Cosines between -1 and 1.

    Returns
    -------
    ndarray, shape (...)
        In units of the inverse of D. Odd in mu if D is even.

    Raises
    ------
    ConvergenceError
        If the integral does not exist or the quadrature fails.
    ModelDomainError
        If the coefficient is not positive.

    Examples
    --------
    >>> stationary_shape(PowerLawScattering(q=1.5), [-1.0, 0.25]).round(9)
    array([-2.,  1.])
    """
    cosines = np.asarray(mu, dtype=np.float64)
    if not np.all(np.abs(cosines) <= 1):
        raise ValueError(f"mu = {cosines[~(np.abs(cosines) <= 1)][0]}: expected -1 <= mu <= 1")
    shape = np.zeros(cosines.size)
    flat = cosines.ravel()
    for sign in (-1.0, 1.0):
        (side,) = np.nonzero(sign * flat > 0)
        order = side[np.argsort(np.abs(flat[side]))]
        edges = np.concatenate([[0.0], np.abs(flat[order])])
        steps = [_integral(d_mumu, sign, low, high, power=1) for low, high in pairwise(edges)]
        shape[order] = sign * np.cumsum(steps)
    return shape.reshape(cosines.shape)


def parallel_diffusion(d_mumu: Coefficient) -> float:
    r"""Diffusion along the field, :math:`K_\parallel = \frac18 \int_{-1}^1 (1-\mu^2)^2/D_{\mu\mu}\,d\mu`.

    For particles of speed 1 (multiply by v^2 otherwise), in units of the inverse of D. The dipole of
    `stationary_shape` is :math:`3 K_\parallel \partial_z \ln n`, Eq. (56) of AM17.

    Raises
    ------
    ConvergenceError
        If the integral does not exist or the quadrature fails.
    ModelDomainError
        If the coefficient is not positive.

    Examples
    --------
    >>> round(parallel_diffusion(IsotropicScattering(d0=0.5)), 12)    # 1 / 3 nu with nu = 2 D_0
    0.333333333333
    """
    return sum(_integral(d_mumu, sign, 0.0, 1.0, power=2) for sign in (-1.0, 1.0)) / 8


def cell_centres(n_cells: int) -> FloatArray:
    """Return the centres of `n_cells` equal cells of -1 < mu < 1, on which `evolve` works, shape (n_cells,)."""
    return (2 * np.arange(n_cells) + 1) / n_cells - 1


def evolve(d_mumu: Coefficient, f0: ArrayLike, times: ArrayLike, *, gradient: float = 0.0) -> FloatArray:
    r"""Pitch-angle distribution f(mu, t) in a uniform gradient, Eq. (41) of AM17; the particles are conserved.

    Solves :math:`\partial_t f = \partial_\mu (D_{\mu\mu} \partial_\mu f) - \mu G` for the anisotropy f of the
    *propagation* directions relative to the mean density, :math:`G = \partial_z \ln n`; without gradient this is
    Eq. (40). Finite volumes on equal cells, exact in time. The resistance between two cells is the integral of
    :math:`(1-\mu^2)/D_{\mu\mu}`, so that a coefficient that vanishes at mu = 0 is no barrier and the stationary state
    is exact at the cell centres; decay rates converge with the square of the number of cells.

    Parameters
    ----------
    d_mumu : callable
        :math:`D_{\mu\mu}`, shape (n,) -> (n,), positive for 0 < abs(mu) < 1.
    f0 : array_like, shape (n_cells,)
        Initial averages over the cells of `cell_centres`.
    times : array_like, shape (...)
        Not negative, in units of the inverse of D.
    gradient : float
        G, for particles of speed 1.

    Returns
    -------
    ndarray, shape (..., n_cells)
        The sum over cells does not change.

    Raises
    ------
    ConvergenceError, ModelDomainError
        As `stationary_shape`.
    ValueError
        If a time is negative or there are fewer than two cells.

    Examples
    --------
    >>> mu = cell_centres(4)
    >>> evolve(IsotropicScattering(), mu, 0.5) / mu      # exp(-2 D_0 t)
    array([0.36787944, 0.36787944, 0.36787944, 0.36787944])
    """
    start = np.asarray(f0, dtype=np.float64)
    t = np.asarray(times, dtype=np.float64)[..., None]
    if start.ndim != 1 or start.size < 2:
        raise ValueError(f"f0: shape {start.shape}, expected (n_cells,) with at least two cells")
    if not np.all(np.isfinite(t) & (t >= 0)):
        raise ValueError(f"time {t[~(np.isfinite(t) & (t >= 0))][0]}: expected finite times, not negative")
    width = 2 / start.size
    centres = cell_centres(start.size)
    faces = 0.5 * (centres[1:] + centres[:-1])
    # Flux through a face per difference of f, divided by the width of a cell.
    conductance = (1 - faces**2) / np.diff(stationary_shape(d_mumu, centres)) / width
    diagonal = np.zeros(start.size)
    diagonal[:-1] += conductance
    diagonal[1:] += conductance
    decay, modes = linalg.eigh_tridiagonal(diagonal, -conductance)
    # The constant mode is known exactly: rounding in its eigenvalue would create particles.
    decay[0], modes[:, 0] = 0.0, start.size**-0.5
    z = decay * t
    growth = np.where(z > 0, -np.expm1(-z) / np.where(decay > 0, decay, 1.0), t)
    drive = -gradient * centres @ modes
    drive[0] = 0.0
    return np.asarray(((start @ modes) * np.exp(-z) + drive * growth) @ modes.T)


@dataclass(frozen=True, kw_only=True)
class PitchAngleDiffusion:
    r"""Fixed sky of pitch-angle diffusion in a gradient, symmetric about the local magnetic field (AM17).

    The sky is :math:`\delta I(n) = A\, g(n \cdot \hat B) / g_1`, with g of `stationary_shape` and g_1 the coefficient
    of its dipole P_1, so that A is the amplitude of the dipole part. A is positive and the maximum lies along the axis:
    the gradient of cosmic rays is taken to point along it. A magnetic axis has no sign, so the opposite sense is the
    setting `reverse`. The sky is assumed to be the same at all rigidities.

    Attributes
    ----------
    axis : str or sequence of three floats
        A named direction, such as "ibex", or a vector (0h, 6h, N) that need not be normalised.
    form : str
        "isotropic" (a dipole; no further parameter), "power-law" (parameter `exponent`: the q of
        `PowerLawScattering`) or "peaked" (parameter `log10_height`: of the peak of `PeakedScattering`).
    width : float
        Width of the peak in mu, of the form "peaked" alone.
    reverse : bool
        Whether the gradient points against the axis.

    Raises
    ------
    ConfigurationError
        If the direction or the form is unknown, the vector has no length, or the width lies outside 0.01 to 1.

    Examples
    --------
    >>> model = PitchAngleDiffusion(axis=(0.0, 0.0, 1.0))
    >>> model.alm(np.array([[-3.0, 1.0]]), np.array([10.0]), 3)[0, 0, :4].round(6).real
    array([0.      , 0.002047, 0.      , 0.      ])
    """

    axis: str | Sequence[float] = "ibex"
    form: str = "power-law"
    width: float = 0.1
    reverse: bool = False
    # Names are looked up once: precession takes far longer than a prediction.
    _direction: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigurationError(f"form {self.form!r} of pitch-angle scattering", expected=", ".join(FORMS))
        if not 0.01 <= self.width <= 1:
            raise ConfigurationError(f"width {self.width} of the peak in mu", expected="0.01 to 1")
        if not isinstance(self.axis, str):
            object.__setattr__(self, "axis", tuple(float(component) for component in self.axis))
        vector = named_direction(self.axis) if isinstance(self.axis, str) else np.asarray(self.axis)
        length = float(np.linalg.norm(vector))
        if vector.shape != (3,) or not 0 < length < np.inf:
            raise ConfigurationError(
                f"axis {self.axis}", expected="a named direction or three finite components, not all zero"
            )
        direction = vector / (-length if self.reverse else length)
        direction.setflags(write=False)
        object.__setattr__(self, "_direction", direction)

    @property
    def direction(self) -> FloatArray:
        """Unit vector (0h, 6h, N) up the gradient, where the maximum is, shape (3,)."""
        return self._direction

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return "pitch-angle-diffusion"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """log10 of the dipole amplitude, and the parameter of the form."""
        amplitude = Parameter(
            "log10_amplitude",
            stats.uniform(-5.0, 3.0),
            description="log10 of the amplitude of the dipole part",
            latex=r"\log_{10} A",
        )
        if self.form == "isotropic":
            return (amplitude,)
        if self.form == "power-law":
            return amplitude, Parameter(
                "exponent",
                stats.uniform(1.0, 0.95),
                description="spectral index q of D_mumu = (1 - mu^2) |mu|^(q - 1)",
                latex="q",
            )
        return amplitude, Parameter(
            "log10_height",
            stats.uniform(-2.0, 5.0),
            description="log10 of the height of the peak of D_mumu / (1 - mu^2) at mu = 0 above its floor",
            latex=r"\log_{10} h",
        )

    def alm(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> ComplexArray:
        """Return a_lm in healpy order, shape (n_vec, n_rig, n_alm), a read-only view.

        Raises
        ------
        ModelDomainError
            If the exponent lies outside (-inf, 2).
        """
        if self.form == "isotropic":
            shape = np.zeros((theta.shape[0], lmax + 1))
            shape[:, 1] = 1.0
        elif self.form == "power-law":
            shape = power_law_coefficients(theta[:, 1], lmax)
        else:
            shape = peaked_coefficients(10.0 ** theta[:, 1], self.width, lmax)
        alm = axial_alm(self.direction, 10.0 ** theta[:, :1] * shape)
        return np.broadcast_to(alm[:, None, :], (theta.shape[0], np.size(rigidity_tv), alm.shape[-1]))


def power_law_coefficients(q: ArrayLike, lmax: int) -> FloatArray:
    r"""Legendre coefficients of :math:`\mathrm{sgn}(\mu)|\mu|^{2-q}` in units of that of P_1, in closed form.

    With a = 2 - q, for odd l, from the moments :math:`\int_0^1 \mu^a P_l\,d\mu`:

    .. math:: \frac{c_l}{c_1} = \frac{2l+1}{3} \prod_{k=1}^{(l-1)/2} \frac{a + 1 - 2k}{a + 2 + 2k} .

    Parameters
    ----------
    q : array_like, shape (...)
        Below 2.
    lmax : int
        Largest multipole, at least 1.

    Returns
    -------
    ndarray, shape (..., lmax + 1)
        Zero for even l.

    Raises
    ------
    ModelDomainError
        If q is not below 2.

    Examples
    --------
    >>> power_law_coefficients(1.5, 3).round(4)
    array([ 0.    ,  1.    ,  0.    , -0.2593])
    """
    a = 2 - np.asarray(q, dtype=np.float64)[..., None]
    if not np.all(a > 0):
        raise ModelDomainError(
            f"q = {2 - a[~(a > 0)][0]}: particles do not scatter through a pitch angle of 90 degrees",
            expected="a spectral index q below 2",
        )
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: expected at least 1, the dipole")
    odd = np.arange(3, lmax + 1, 2)
    coefficients = np.zeros((*a.shape[:-1], lmax + 1))
    coefficients[..., 1] = 1.0
    coefficients[..., 3::2] = (2 * odd + 1) / 3 * np.cumprod((a + 2 - odd) / (a + 1 + odd), axis=-1)
    return coefficients


def peaked_coefficients(height: ArrayLike, width: float, lmax: int, *, order: int = 400) -> FloatArray:
    r"""Legendre coefficients of the stationary shape of `PeakedScattering` in units of that of P_1.

    By parts, :math:`c_l = \frac12 \int_{-1}^1 g'(\mu) [P_{l-1} - P_{l+1}]\, d\mu` with
    :math:`g' = 1 / [1 + h \exp(-\mu^2/2w^2)]`, by Gauss-Legendre quadrature on 0 < mu < 1.

    Parameters
    ----------
    height : array_like, shape (...)
        h, not negative.
    width : float
        w, in mu.
    lmax : int
        Largest multipole, at least 1.
    order : int
        Number of nodes; the default is exact to 1e-9 for widths of 0.01 and more and heights up to 1e4.

    Returns
    -------
    ndarray, shape (..., lmax + 1)
        Zero for even l.
    """
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: expected at least 1, the dipole")
    odd = np.arange(1, lmax + 1, 2)
    mu, kernel = _by_parts(lmax, order)
    steepness = 1 / (1 + np.asarray(height, dtype=np.float64)[..., None] * np.exp(-(mu**2) / (2 * width**2)))
    moments = steepness @ kernel
    coefficients = np.zeros((*moments.shape[:-1], lmax + 1))
    coefficients[..., odd] = moments / moments[..., :1]
    return coefficients


@lru_cache(maxsize=8)
def _by_parts(lmax: int, order: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes mu (n,) and the kernel (n, n_odd) that turns g' at the nodes into the c_l of odd l."""
    nodes, weights = leggauss(order + lmax)
    # mu = t^2 crowds the nodes at mu = 0, where the peak is.
    mu = (0.5 * (nodes + 1)) ** 2
    legendre = legvander(mu, lmax + 1)
    odd = np.arange(1, lmax + 1, 2)
    # d mu = sqrt(mu) d node, and both halves of the sphere count
    kernel = (weights * np.sqrt(mu))[:, None] * (legendre[:, odd - 1] - legendre[:, odd + 1])
    for array in (mu, kernel):
        array.setflags(write=False)
    return mu, kernel


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ModelDomainError(f"{name} = {value}", expected="a positive finite number")


def _integral(d_mumu: Coefficient, sign: float, low: float, high: float, *, power: int) -> float:
    """Return the integral of (1 - m^2)^power / D(sign m) over low < m < high, 0 <= low <= high <= 1."""
    # m = s^4 turns a root-like singularity at m = 0 into a smooth or a weak one.
    first, last = low**0.25, high**0.25

    def integrand(s: float) -> float:
        m = s**4
        coefficient = float(d_mumu(np.array([sign * m]))[0])
        if not 0 < coefficient < np.inf:
            raise ModelDomainError(
                f"D_mumu = {coefficient} at mu = {sign * m:.3g}",
                expected="a positive finite coefficient for 0 < |mu| < 1",
            )
        return 4 * s**3 * (1 - m * m) ** power / coefficient

    result = integrate.quad(integrand, first, last, epsabs=1e-300, epsrel=1e-11, limit=200, full_output=1)
    value, error = result[0], result[1]
    if len(result) > 3 and not error <= 1e-9 * abs(value):
        raise ConvergenceError(
            f"the integral of (1 - mu^2)/D_mumu over {sign * low:.3g} < mu < {sign * high:.3g} does not converge: "
            f"{value:.6g} with an estimated error of {error:.1e}",
            expected="a D_mumu that vanishes at mu = 0 more slowly than |mu|",
        )
    return float(value)
