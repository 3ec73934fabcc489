r"""Hierarchical cascade of multipoles: how turbulence hands the power of a dipole down to small scales (A14).

The number of interest is :math:`y_l = (2l+1) C_l`, the power in all m together. With transition rates
:math:`\nu_{l \to l'}` it obeys :math:`\dot y = Q y` with a Markov generator Q (Eq. 19 of A14), so that power moves like
a probability: it is never negative, and what leaves one multipole arrives in another or leaks out of the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from obsfit.errors import ModelDomainError
from obsfit.parameters import Parameter

FloatArray = NDArray[np.float64]

# Range of log10(nu T) of the interpolation table. At its upper end the spectrum is the asymptotic one to all digits.
TABLE_RANGE = (-3.0, 1.75)
TABLE_NODES = 96


def markov_generator(transitions: ArrayLike, *, leak: ArrayLike | None = None) -> FloatArray:
    r"""Matrix Q of :math:`\dot y = Q y`, Eq. (19) of A14 written for :math:`y_l = (2l+1) C_l`.

    Parameters
    ----------
    transitions : array_like, shape (n, n)
        Rates :math:`\nu_{l \to l'}` in row l and column l', not negative; the diagonal is ignored.
    leak : array_like, shape (n,), optional
        Rate at which each multipole loses power to multipoles that are not followed. Default: none, a closed top.

    Returns
    -------
    ndarray, shape (n, n)
        Columns sum to minus `leak`: the sum of y is conserved when nothing leaks.

    Raises
    ------
    ValueError
        If a rate is negative or not finite, or the shapes do not fit.

    Examples
    --------
    >>> markov_generator([[0.0, 2.0], [0.0, 0.0]], leak=[0.0, 6.0])
    array([[-2.,  0.],
           [ 2., -6.]])
    """
    rates = np.array(transitions, dtype=np.float64)
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1]:
        raise ValueError(f"transitions: shape {rates.shape}, expected (n, n)")
    lost = np.zeros(rates.shape[0]) if leak is None else np.asarray(leak, dtype=np.float64)
    if lost.shape != rates.shape[:1]:
        raise ValueError(f"leak: shape {lost.shape}, expected ({rates.shape[0]},)")
    np.fill_diagonal(rates, 0.0)
    for name, values in (("transitions", rates), ("leak", lost)):
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            raise ValueError(f"{name}: rate {values[bad][0]}, expected finite rates that are not negative")
    generator = rates.T.copy()
    np.fill_diagonal(generator, -(rates.sum(axis=1) + lost))
    return generator


def hierarchical_generator(rates: ArrayLike, *, closed: bool = False) -> FloatArray:
    r"""Generator of the chain :math:`l \to l + 1` with rates :math:`\nu_1 \ldots \nu_n`, shape (n, n).

    Parameters
    ----------
    rates : array_like, shape (n,)
        :math:`\nu_l` for l = 1 ... n.
    closed : bool
        If true the last multipole keeps what reaches it, and the sum of y is conserved (Eq. 13 of A14). If false its
        power leaks on to higher multipoles, and every C_l is what it is in the endless chain.
    """
    nu = np.asarray(rates, dtype=np.float64)
    leak = np.zeros_like(nu)
    leak[-1] = 0.0 if closed else nu[-1]
    return markov_generator(np.diag(nu[:-1], 1), leak=leak)


def evolve(generator: ArrayLike, y0: ArrayLike, t: ArrayLike) -> FloatArray:
    r"""Solution :math:`y(t) = e^{Qt} y(0)` of the linear multipole evolution, Eq. (19) of A14.

    Uniformisation over a short step, then repeated squaring, with the leaked power kept as one more state so that
    each column is a probability distribution and is normalised after each squaring. Only numbers that are not negative
    are added and multiplied, hence small multipoles are as accurate (relatively) as large ones, for degenerate rates
    too.

    Parameters
    ----------
    generator : array_like, shape (n, n)
        As `markov_generator` makes it: off-diagonal entries not negative, column sums not positive.
    y0 : array_like, shape (n,)
        Initial :math:`(2l+1) C_l`.
    t : array_like, shape (...)
        Times in the inverse unit of the rates, not negative.

    Returns
    -------
    ndarray, shape (..., n)

    Raises
    ------
    ValueError
        If the matrix is not a Markov generator, a time is negative or the shapes do not fit.

    Examples
    --------
    >>> evolve([[-1.0, 0.0], [1.0, 0.0]], [1.0, 0.0], np.log(2.0)).round(12)
    array([0.5, 0.5])
    """
    matrix = np.asarray(generator, dtype=np.float64)
    start = np.asarray(y0, dtype=np.float64)
    times = np.asarray(t, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape != (start.size, start.size):
        raise ValueError(f"generator: shape {matrix.shape}, expected ({start.size}, {start.size}) to fit y0")
    if not np.all(np.isfinite(times) & (times >= 0)):
        raise ValueError(
            f"time {times[~(np.isfinite(times) & (times >= 0))][0]}: expected finite times, not negative"
        )
    _check_generator(matrix)
    y = np.empty((times.size, start.size))
    for i, time in enumerate(times.ravel()):
        y[i] = _transition_matrix(matrix, float(time))[:-1, :-1] @ start
    return y.reshape(*times.shape, start.size)


def cascade_power(
    nu_t: ArrayLike, lmax: int, rates: ArrayLike | None = None, *, initial: ArrayLike | None = None
) -> FloatArray:
    r"""C_l(T) in units of the initial dipole power, Eq. (20) of A14 with each exponential outside its product.

    .. math:: \frac{C_l(T)}{\tilde C_1} = \frac{3}{2l+1} \prod_{m=1}^{l-1} \nu_m
              \sum_{n=1}^{l} e^{-\nu_n T} \prod_{p \ne n} \frac{1}{\nu_p - \nu_n}

    is the solution for an initial dipole. The sum alternates in sign and loses all digits for small times; here the
    chain is solved by `evolve`, to a relative accuracy better than 1e-12.

    Parameters
    ----------
    nu_t : array_like, shape (...)
        Scattering rate times the time of evolution.
    lmax : int
        Largest multipole, at least 1.
    rates : array_like, shape (lmax,), optional
        :math:`\nu_l / \nu` for l = 1 ... lmax, possibly equal to each other. Default: l (l + 1).
    initial : array_like, shape (lmax + 1,), optional
        Initial spectrum C_l(0) in the same units. Default: 1 at l = 1 and 0 elsewhere. C_0 does not evolve.

    Returns
    -------
    ndarray, shape (..., lmax + 1)
        Power below the smallest float is zero: C_l is of the order of l! (nu T)^(l-1).

    Raises
    ------
    ValueError
        If `lmax` is below 1, a time is negative or a shape does not fit.

    Examples
    --------
    >>> power = cascade_power(1.0, 3)
    >>> (power / power[1]).round(4)
    array([0.    , 1.    , 0.2945, 0.1247])
    """
    nu = _chain_rates(lmax, rates)
    start = np.zeros(lmax + 1)
    start[1] = 1.0
    if initial is not None:
        start = np.asarray(initial, dtype=np.float64)
        if start.shape != (lmax + 1,):
            raise ValueError(f"initial: shape {start.shape}, expected ({lmax + 1},) for l = 0 ... {lmax}")
    modes = 2 * np.arange(1, lmax + 1) + 1.0
    evolved = evolve(hierarchical_generator(nu), modes * start[1:], nu_t) / modes
    monopole = np.full((*evolved.shape[:-1], 1), start[0])
    return np.concatenate([monopole, evolved], axis=-1)


def asymptotic_ratio(lmax: int, rates: ArrayLike | None = None) -> FloatArray:
    r"""C_l / C_1 at late times, Eq. (21) of A14, or its general form for any rates; shape (lmax + 1,), zero at l = 0.

    .. math:: \frac{C_l}{C_1} \to \frac{3}{2l+1} \prod_{m=1}^{l-1} \frac{\nu_m}{\nu_{m+1} - \nu_1}
              = \frac{18}{(2l+1)(l+1)(l+2)} \quad\text{for}\quad \nu_l = \nu\, l(l+1).

    Raises
    ------
    ModelDomainError
        If another rate does not exceed that of the dipole: then the dipole is not the slowest mode, and the ratio
        grows for ever.

    Examples
    --------
    >>> asymptotic_ratio(3).round(4)
    array([0.    , 1.    , 0.3   , 0.1286])
    """
    nu = _chain_rates(lmax, rates)
    gap = nu[1:] - nu[0]
    if not np.all(gap > 0):
        ell = int(np.flatnonzero(~(gap > 0))[0]) + 2
        raise ModelDomainError(
            f"rate {nu[ell - 1]} of l = {ell} does not exceed the rate {nu[0]} of the dipole",
            expected="a dipole that decays more slowly than all that it feeds",
            remedy="Without it there is no stationary ratio; use cascade_power at a given time.",
        )
    ell_all = np.arange(lmax + 1)
    ratio = 3.0 / (2 * ell_all + 1)
    ratio[0] = 0.0
    ratio[2:] *= np.cumprod(nu[:-1] / gap)
    return ratio


def leaked_power(nu_t: ArrayLike, lmax: int | None = None) -> FloatArray:
    r"""Fraction of the initial :math:`\sum (2l+1) C_l` of a dipole that is no longer in l = 1 ... lmax.

    The rates l (l + 1) grow so fast that the chain reaches infinite l in a finite time: the sum over *all* l is not
    conserved either, contrary to Eq. (13) of A14. Summing Eq. (20) over l gives
    :math:`1 - \sum_{n \ge 1} (-1)^{n-1} (2n+1) e^{-n(n+1)\nu T}`, and by Jacobi's identity the lost fraction is

    .. math:: \prod_{n \ge 1} \left(1 - e^{-2 n \nu T}\right)^3 .

    Parameters
    ----------
    nu_t : array_like, shape (...)
        Scattering rate times the time of evolution, not negative.
    lmax : int, optional
        Largest multipole that is counted. Default: all multipoles.

    Returns
    -------
    ndarray, shape (...)
        In [0, 1].

    Examples
    --------
    >>> round(float(leaked_power(1.0)), 5), round(float(leaked_power(1.0, 20)), 5)
    (0.60634, 0.64019)
    """
    times = np.asarray(nu_t, dtype=np.float64)
    if not np.all(times >= 0):
        raise ValueError(f"nu_t {times[~(times >= 0)][0]}: expected a number that is not negative")
    if lmax is not None:
        # The multipole after the last one is made a sink, which then holds what has left.
        nu = np.append(_chain_rates(lmax, None), 0.0)
        return evolve(hierarchical_generator(nu, closed=True), np.eye(lmax + 1)[0], times)[..., -1]
    n = np.arange(1, 26)
    late = np.maximum(times, 1.0)[..., None]
    early = np.minimum(np.where(times > 0, times, 1.0), 3.0)[..., None]
    product = np.sum(np.log1p(-np.exp(-2 * n * late)), axis=-1)
    # Below nu T = 1 the product converges slowly; the modular transformation of Dedekind's eta turns it about.
    turned = np.sum(np.log1p(-np.exp(-2 * n * np.pi**2 / early)), axis=-1)
    small = early[..., 0]
    turned += 0.5 * np.log(np.pi / small) + small / 12 - np.pi**2 / (12 * small)
    return np.where(times > 1.0, np.exp(3 * product), np.where(times > 0, np.exp(3 * turned), 0.0))


@dataclass(frozen=True)
class HierarchicalCascade:
    r"""Isotropic Gaussian sky whose small scales were fed by a dipole, :math:`\nu_l = \nu l(l+1)` (A14).

    `log10_c1` is the dipole power at the time of observation, not the initial one. The sky is assumed to be the same at
    all rigidities (fully coherent and independent of rigidity), statistically isotropic and Gaussian; the mean magnetic
    field is ignored, and the homogeneous initial state limits the argument to :math:`\nu T \lesssim 1` (A14). At
    late times only the ratios are meaningful: they are those of Eq. (21).

    `c_ell` uses a Chebyshev table of log C_l in log(nu T), made once for each lmax from `cascade_power`; its relative
    error is below 1e-9 (tested). Above its range the spectrum is the asymptotic one to all digits.

    Examples
    --------
    >>> model = HierarchicalCascade()
    >>> model.c_ell(np.array([[-7.0, 0.0]]), np.array([10.0]), 2)[0, 0, 0].round(11)
    array([0.000e+00, 1.000e-07, 2.945e-08])
    """

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return "hierarchical-cascade"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """log10 of the present C_1, and log10 of nu T."""
        return (
            Parameter(
                "log10_c1",
                stats.uniform(-10.0, 6.0),
                description="log10 of the dipole power C_1 of the relative intensity at the time of observation",
                latex=r"\log_{10} C_1",
            ),
            Parameter(
                "log10_nu_t",
                stats.uniform(-2.0, 3.7),
                description="log10 of the scattering rate times the time of evolution",
                latex=r"\log_{10} \nu T",
            ),
        )

    def c_ell(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> FloatArray:
        """Return C_l between rigidities, shape (n_vec, n_rig, n_rig, lmax + 1), a read-only view; C_0 = 0.

        Raises
        ------
        ModelDomainError
            If log10_nu_t lies below the table.
        """
        low, high = TABLE_RANGE
        log_nu_t = theta[:, 1]
        if not np.all(log_nu_t >= low):
            raise ModelDomainError(
                f"log10_nu_t {log_nu_t[~(log_nu_t >= low)][0]} is below the table of the cascade",
                expected=f"at least {low}, where all power is still in the dipole",
                remedy="Restrict the prior, or use cascade_power, which has no table.",
            )
        scaled = (2 * np.minimum(log_nu_t, high) - (low + high)) / (high - low)
        # cos(k arccos x) is T_k(x); one matrix product then sums all multipoles of all vectors.
        basis = np.cos(np.arange(TABLE_NODES) * np.arccos(np.clip(scaled, -1, 1))[:, None])
        power = np.zeros((theta.shape[0], lmax + 1))
        power[:, 1:] = np.exp(basis @ _ratio_table(lmax) + np.log(10.0) * theta[:, 0, None])
        n_rig = np.size(rigidity_tv)
        return np.broadcast_to(power[:, None, None, :], (theta.shape[0], n_rig, n_rig, lmax + 1))


@lru_cache(maxsize=8)
def _ratio_table(lmax: int) -> FloatArray:
    """Chebyshev coefficients of ln(C_l / C_1) in log10(nu T) over `TABLE_RANGE`, shape (TABLE_NODES, lmax)."""
    nodes = chebyshev.chebpts1(TABLE_NODES)
    low, high = TABLE_RANGE
    power = cascade_power(10.0 ** (0.5 * (low + high) + 0.5 * (high - low) * nodes), lmax)[:, 1:]
    if not np.all(power > 0):
        raise ModelDomainError(
            f"lmax {lmax}: the power of the cascade at nu T = {10**low} is below the smallest float",
            expected="lmax of at most 100",
            remedy="Truncate the prediction at a smaller lmax.",
        )
    # Discrete orthogonality at the nodes: the interpolating polynomial without solving a linear system.
    weights = np.full(TABLE_NODES, 2.0 / TABLE_NODES)
    weights[0] = 1.0 / TABLE_NODES
    log_ratio = np.log(power / power[:, :1])
    table: FloatArray = np.asarray(
        weights[:, None] * (chebyshev.chebvander(nodes, TABLE_NODES - 1).T @ log_ratio), dtype=np.float64
    )
    table.setflags(write=False)
    return table


def _chain_rates(lmax: int, rates: ArrayLike | None) -> FloatArray:
    """Return the rates for l = 1 ... lmax in units of nu, shape (lmax,); l (l + 1) by default."""
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: expected at least 1, the dipole that feeds the cascade")
    ell = np.arange(1, lmax + 1, dtype=np.float64)
    nu = ell * (ell + 1) if rates is None else np.asarray(rates, dtype=np.float64)
    if nu.shape != (lmax,):
        raise ValueError(f"rates: shape {nu.shape}, expected ({lmax},) for l = 1 ... {lmax}")
    return nu


def _check_generator(matrix: FloatArray) -> None:
    off_diagonal = matrix - np.diag(np.diag(matrix))
    scale = float(np.max(np.abs(matrix), initial=0.0))
    if not np.all(np.isfinite(matrix)) or np.any(off_diagonal < 0):
        raise ValueError("generator: a transition rate is negative or not finite; make it with markov_generator")
    # Rounding of a closed column leaves a sum of either sign.
    sums = matrix.sum(axis=0)
    if np.any(sums > 1e-12 * scale):
        raise ValueError(f"generator: column sum {sums.max()}, expected none above zero; power is not created")


def _transition_matrix(generator: FloatArray, time: float) -> FloatArray:
    """Return e^{Qt} with the leaked power as an additional last state, shape (n + 1, n + 1); columns sum to one."""
    n = generator.shape[0]
    leak = -generator.sum(axis=0)
    # A closed column sums to zero only up to rounding; a spurious leak would add up over many jumps.
    leak[leak < 4 * n * np.finfo(float).eps * np.abs(np.diag(generator))] = 0.0
    full = np.zeros((n + 1, n + 1))
    full[:n, :n] = generator
    full[n, :n] = leak
    fastest = float(np.max(-np.diag(full)))
    identity = np.eye(n + 1)
    if fastest * time == 0.0:
        return identity
    doublings = max(0, int(np.ceil(np.log2(fastest * time))))
    step = fastest * time / 2.0**doublings
    jump = full / fastest
    np.fill_diagonal(jump, np.clip(1 + np.diag(jump), 0.0, None))
    jumps = sparse.csr_array(jump)
    # step <= 1: the entry that takes n jumps has its leading term at order n, and 20 more reach all digits.
    matrix: FloatArray = identity.copy()
    for order in range(n + 21, 0, -1):
        matrix = identity + (step / order) * (jumps @ matrix)
    matrix /= matrix.sum(axis=0)
    for _ in range(doublings):
        matrix = matrix @ matrix
        matrix /= matrix.sum(axis=0)
    return matrix
