r"""The joint law of powers of one sky: sums of squares of correlated Gaussian modes.

A power is a quadratic form of the modes seen through a window,

.. math:: p_j = \sum_{blocks} \sum_{copies} \sum_i [index_i = j] \, c_i y_i^2 + \epsilon_j,
          \qquad y \sim N(b, V), \quad \epsilon_j \sim N(0, \rho_j^2),

independent between blocks and copies. A block is one order m of the spherical harmonics: two copies for the real and
imaginary parts of :math:`a_{\ell m}`, with V half of the complex covariance; one copy for m = 0, or where real and
imaginary parts are correlated, with both in one block. Behind a declination cut the powers at low multipoles are
correlated by up to 1 and have about two degrees of freedom: neither a Gaussian nor a product of chi-square laws is
near. Their cumulant generating function, however, is closed: with :math:`D = diag(c_i t_{index_i})`,
:math:`G = (V^{-1} - 2 D)^{-1}` and :math:`\mu = G V^{-1} b`,

.. math:: K(t) = \sum_{blocks} \Big[ - \frac{copies}{2} \log\det(1 - 2 V D) + \sum_{copies} b^T D \mu \Big]
          + \frac12 \sum_j \rho_j^2 t_j^2,

and the saddlepoint density (Daniels 1954; in many dimensions Barndorff-Nielsen and Cox 1979) is

.. math:: \log f(p) = K(t) - t \cdot p - \tfrac12 \log\det(2 \pi K''(t)), \qquad K'(t) = p .

For one power with equal rates (a gamma law of shape a) it is exact but for a constant factor, Stirling's, of
:math:`1/(12 a)` in the logarithm: 0.081 at two degrees of freedom. The constant is not divided out: it grows with the
number of powers that are independent, see `log_density`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.infer import _saddlepoint as kernels
from obsfit.parameters import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Gaussian modes that are correlated with each other and with no other block, for many parameter vectors.

    Attributes
    ----------
    index : array of int, shape (k,)
        The power to which each mode adds; a power may occur more than once.
    coefficient : array, shape (k,)
        Factor of the square of each mode, not negative: 2 / (2 l + 1) for a real or imaginary part at m > 0.
    covariance : array, shape (n_vec, k, k)
        Of the modes; positive definite, in any unit.
    copies : int
        How many independent sets of such modes there are.
    mean : array, shape (n_vec, copies, k), or None
        Of the modes; None for zero.

    Raises
    ------
    ConfigurationError
        If shapes do not match or a value is out of its range.
    """

    index: IntArray
    coefficient: FloatArray
    covariance: FloatArray
    copies: int = 1
    mean: FloatArray | None = None

    def __post_init__(self) -> None:
        k = self.index.size
        if self.index.shape != (k,) or self.index.dtype.kind not in "iu" or k == 0:
            raise ConfigurationError(
                f"index has shape {self.index.shape} and type {self.index.dtype}", expected="integers, shape (k,)"
            )
        if self.coefficient.shape != (k,) or not np.all((self.coefficient >= 0.0) & np.isfinite(self.coefficient)):
            raise ConfigurationError(
                f"coefficient is {self.coefficient}", expected=f"{k} finite numbers that are not negative"
            )
        if self.covariance.ndim != 3 or self.covariance.shape[1:] != (k, k):
            raise ConfigurationError(
                f"covariance has shape {self.covariance.shape}",
                expected=f"(n_vec, {k}, {k}) as index has {k} modes",
            )
        if self.copies < 1:
            raise ConfigurationError(f"copies is {self.copies}", expected="1 or more")
        n_vec = self.covariance.shape[0]
        if self.mean is not None and self.mean.shape != (n_vec, self.copies, k):
            raise ConfigurationError(
                f"mean has shape {self.mean.shape}", expected=f"(n_vec, copies, k) = ({n_vec}, {self.copies}, {k})"
            )


def moments(blocks: Sequence[Block], n: int) -> tuple[FloatArray, FloatArray]:
    r"""Return mean (n_vec, n) and covariance (n_vec, n, n) of the powers, without reading errors; both exact.

    With c, V, b as above: :math:`\langle p_j \rangle = \sum c_i (V_{ii} + b_i^2)` and
    :math:`Cov(p_j, p_k) = \sum c_i c_{i'} (2 V_{ii'}^2 + 4 b_i V_{ii'} b_{i'})`, over modes i of j and i' of k.

    Parameters
    ----------
    blocks : sequence of Block
        All with the same n_vec.
    n : int
        Number of powers.

    Raises
    ------
    ConfigurationError
        If the blocks differ in n_vec or name a power beyond n.

    Examples
    --------
    Ten modes of unit variance make a chi-square of ten degrees of freedom:

    >>> mean, covariance = moments([Block(np.array([0]), np.ones(1), np.ones((1, 1, 1)), copies=10)], 1)
    >>> mean, covariance
    (array([[10.]]), array([[[20.]]]))
    """
    n_vec = _check(blocks, n)
    mean, covariance = np.zeros((n_vec, n)), np.zeros((n_vec, n, n))
    for block in blocks:
        own = np.zeros((n_vec, 0, block.index.size)) if block.mean is None else block.mean
        kernels.add_moments(
            block.index.astype(np.int64), block.coefficient, block.covariance, block.copies, own, mean, covariance
        )
    return mean, covariance


def draw(blocks: Sequence[Block], n: int, *, rng: np.random.Generator) -> FloatArray:
    """Return powers drawn from their exact law, one set for each parameter vector, shape (n_vec, n).

    Without reading errors: add ``reading * rng.standard_normal((n_vec, n))``. For many draws at one parameter vector
    repeat its covariance, which `numpy.broadcast_to` does without a copy.

    Parameters
    ----------
    blocks, n
        As `moments`.
    rng : numpy.random.Generator
        Source of the draws.

    Raises
    ------
    ConfigurationError
        As `moments`, and if a covariance is not positive definite.
    """
    n_vec = _check(blocks, n)
    power = np.zeros((n_vec, n))
    for number, block in enumerate(blocks):
        # one factor where all vectors share a covariance (stride 0)
        shared = block.covariance.strides[0] == 0
        covariance = block.covariance[:1] if shared else block.covariance
        deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))[..., None]
        correlation = covariance / (deviation * np.swapaxes(deviation, 1, 2))
        try:
            factor = deviation * np.linalg.cholesky(correlation + kernels.JITTER * np.eye(block.index.size))
        except np.linalg.LinAlgError:
            raise _not_definite(number) from None
        y = rng.standard_normal((n_vec, block.copies, block.index.size)) @ np.swapaxes(factor, 1, 2)
        if block.mean is not None:
            y = y + block.mean
        to_power = block.coefficient[:, None] * (block.index[:, None] == np.arange(n))
        power += np.sum(y**2, axis=1) @ to_power
    return power


def log_density(power: FloatArray, blocks: Sequence[Block], *, reading: FloatArray) -> FloatArray:
    r"""Return the saddlepoint approximation of the log density of the powers, shape (n_vec,).

    The module's docstring has the law and its density. :math:`K'(t) = p` is solved by damped Newton steps on the
    convex :math:`K(t) - t \cdot p`, from t = 0, to 1e-10 of the standard deviation of each power (to 1e-4 where
    rounding allows no better: far tails, correlations very near 1). Correlation matrices of modes get 1e-13 on their
    diagonal, so that a singular one is accepted; powers that are one number then need errors of reading. The result
    does not depend on the number of threads. Where :math:`K(t) - t \cdot p` has fallen below -100 n after 20 steps, no
    sky of this law gives such powers, and the value reached, an upper bound, is returned.

    Accuracy: exact up to a constant for one gamma law; for correlated ones the constant varies between points by less
    than it is. It depends on the law: the density of n independent gamma laws of shapes a_j integrates to about
    exp(sum_j 1 / (12 a_j)), that of n powers which are nearly one number to little more than exp(1 / (12 a)). A ratio
    of likelihoods between an uncorrelated and a fully correlated sky is therefore off by up to 0.08 for each power of
    two degrees of freedom.

    Parameters
    ----------
    power : array, shape (n,) or (n_vec, n)
        Measured; in the unit of coefficient times covariance. The same for all parameter vectors, or one set each.
    blocks : sequence of Block
        Between them they reach every power.
    reading : array, shape (n,) or (n_vec, n)
        Standard deviations of independent Gaussian errors of reading, in the unit of power; may be zero.

    Raises
    ------
    ConfigurationError
        If shapes do not match, a number is not finite, a covariance is not symmetric and positive definite, no mode
        and no error reaches a power, or a power that is not positive has no error of reading.
    ConvergenceError
        If the Newton steps stop above the tolerance; the message has the numbers.

    Examples
    --------
    An exponential law of unit mean (two modes of variance 1/2), whose density at 1 is exp(-1), but for Stirling's
    factor :math:`e / \sqrt{2 \pi}`:

    >>> block = Block(np.array([0]), np.ones(1), np.full((1, 1, 1), 0.5), copies=2)
    >>> np.exp(log_density(np.ones(1), [block], reading=np.zeros(1))) * np.sqrt(2 * np.pi) / np.e
    array([0.36787944])
    """
    power, reading = np.asarray(power, dtype=np.float64), np.asarray(reading, dtype=np.float64)
    n = power.shape[-1]
    n_vec = _check(blocks, n)
    _check_data(power, reading, n_vec)
    if n_vec == 0:
        return np.zeros(0)
    index = np.concatenate([block.index for block in blocks]).astype(np.int64)
    coefficient = np.concatenate([block.coefficient for block in blocks])
    copies = np.array([block.copies for block in blocks])
    edge = np.cumsum([0] + [block.index.size for block in blocks])
    covariance = np.concatenate([block.covariance.reshape(n_vec, -1) for block in blocks], axis=1)
    means = [np.zeros((n_vec, 0)) if block.mean is None else block.mean.reshape(n_vec, -1) for block in blocks]
    mean_edge = np.cumsum([0] + [mean.shape[1] for mean in means])
    mean = np.concatenate(means, axis=1)
    if not (np.isfinite(covariance).all() and np.isfinite(mean).all()):
        vector = int(np.argmin(np.isfinite(covariance).all(axis=1) & np.isfinite(mean).all(axis=1)))
        raise ConfigurationError(
            f"parameter vector {vector} has a covariance or a mean that is not finite",
            expected="finite numbers",
            remedy="Look at the model's power at these parameters.",
        )
    result, status, place, error, steps = kernels.solve_all(
        np.broadcast_to(power, (n_vec, n)),
        np.broadcast_to(reading**2, (n_vec, n)),
        index,
        coefficient,
        copies,
        edge,
        covariance,
        mean,
        mean_edge,
    )
    if status.any():
        vector = int(np.flatnonzero(status)[0])
        raise _failure(int(status[vector]), vector, int(place[vector]), float(error[vector]), int(steps[vector]))
    return np.asarray(result)


def _check(blocks: Sequence[Block], n: int) -> int:
    """Return the common n_vec; refuse blocks that do not fit together."""
    if not blocks:
        raise ConfigurationError("no blocks", expected="at least one block of modes")
    n_vec = blocks[0].covariance.shape[0]
    for number, block in enumerate(blocks):
        if block.covariance.shape[0] != n_vec:
            raise ConfigurationError(
                f"block {number} has {block.covariance.shape[0]} parameter vectors", expected=f"{n_vec} as block 0"
            )
        if block.index.min() < 0 or block.index.max() >= n:
            raise ConfigurationError(
                f"block {number} adds to powers {block.index.min()} to {block.index.max()}",
                expected=f"powers 0 to {n - 1}",
            )
    return n_vec


def _check_data(power: FloatArray, reading: FloatArray, n_vec: int) -> None:
    """Refuse data that no sky can give."""
    n = power.shape[-1]
    if power.shape not in ((n,), (n_vec, n)) or reading.shape not in ((n,), (n_vec, n)):
        raise ConfigurationError(
            f"power has shape {power.shape}, reading {reading.shape}", expected=f"(n,) or ({n_vec}, n) for each"
        )
    for name, value in (("power", power), ("reading", reading)):
        bad = np.argwhere(~np.isfinite(value) | ((value < 0.0) & (name == "reading")))
        if bad.size:
            where = ", ".join(str(number) for number in bad[0])
            raise ConfigurationError(
                f"{name}[{where}] is {value[tuple(bad[0])]}", expected="finite; an error not negative"
            )
    bad = np.argwhere((power <= 0.0) & (reading == 0.0))
    if bad.size:
        place = int(bad[0][-1])
        raise ConfigurationError(
            f"power[{place}] is {power[..., place].min()} with no error of reading",
            expected="a positive number, as a sum of squares is",
            remedy="Give its error of reading if noise was subtracted.",
        )


def _not_definite(block: int, vector: int | None = None) -> ConfigurationError:
    where = f"block {block}" if vector is None else f"block {block} of parameter vector {vector}"
    return ConfigurationError(
        f"{where}: the covariance is not positive definite",
        expected="eigenvalues of the correlation matrix above zero",
        remedy="Add the noise of the modes, or drop modes that are copies of others.",
    )


def _failure(status: int, vector: int, place: int, error: float, steps: int) -> Exception:
    if status == kernels.NOT_SYMMETRIC:
        return ConfigurationError(
            f"block {place} of parameter vector {vector}: the covariance is not symmetric",
            expected="differences across the diagonal below 1e-10 of the standard deviations",
        )
    if status == kernels.NOT_DEFINITE:
        return _not_definite(place, vector)
    if status == kernels.DEGENERATE and place >= 0:
        return ConfigurationError(
            f"parameter vector {vector}: no mode reaches power {place}",
            expected="a positive mean for every power",
            remedy="Drop the power, or add the modes that make it.",
        )
    if status == kernels.DEGENERATE:
        return ConfigurationError(
            f"parameter vector {vector}: some powers determine others",
            expected="at least as many modes as powers",
            remedy="Drop powers, or give their errors of reading.",
        )
    return ConvergenceError(
        f"parameter vector {vector}: the saddlepoint is off by {error:.2e} standard deviations after {steps} steps",
        expected=f"below {kernels.TOLERANCE:.0e}",
        remedy="The powers may be impossible under this law; or the correlations are too near 1: add noise.",
    )
