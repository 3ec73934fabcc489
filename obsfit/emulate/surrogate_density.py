r"""Conditional densities of data given parameters: polynomials, monotone maps and a Gaussian copula, as arrays.

With :math:`\phi` the polynomial features of the parameters, each datum is

.. math:: y_j = m_j(\theta) + s_j(\theta)\, z_j, \qquad m_j = \phi(\theta) \cdot a_j, \quad
          \ln s_j = \phi(\theta) \cdot b_j, \qquad u_j = T_j(z_j), \quad u \sim N(0, R(\theta)),

where each :math:`T_j` is a monotone rational quadratic spline (Gregory and Delbourgo 1982) with tails

.. math:: u^2 = u_0^2 + 2 u_0 d\, e + c\, d^2 e^2

at the distance e beyond the outermost knot, where the score is :math:`u_0` and the slope d: c = 1 is the tail of a
normal law, c = 0 that of an exponential one. The density never vanishes, and its logarithm has a closed form,

.. math:: \ln p(y \mid \theta) = \ln N(u; 0, R) + \sum_j \left[\ln T_j'(z_j) - \ln s_j\right].

The correlation is the same everywhere, or it changes along one parameter (`obsfit.emulate.correlated_scores`). Noise
asks for that: numbers that vary together while the signal is strong vary each for itself once it is weak.

All of it is there several times, once for each replicate of the training set; the density is the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtr

from obsfit.emulate.correlated_scores import NormalScores, Place, products
from obsfit.errors import ModelDomainError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

__all__ = ["FUNCTIONS", "Surrogate", "base_columns", "inverse_spline", "place_along", "polynomial", "spline"]

FUNCTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "identity": lambda x: x,
    "cos": np.cos,
    "sin": np.sin,
    "cos^2": lambda x: np.cos(x) ** 2,
    "sin^2": lambda x: np.sin(x) ** 2,
}
"""Functions of a parameter that polynomials may be made of."""
MARGIN = 0.1
"""How far parameters may lie outside those of the training set, as a fraction of their range: polynomials run away."""
_BLOCK = 1000
"""Vectors taken at once, so that what is between stays in the cache of the processor."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Conditional density of data given parameters, with its own error as a mixture of replicates.

    Attributes
    ----------
    names : tuple of str, length n_par
        Parameters.
    labels : tuple of str, length n_data
        Data.
    features : mapping of str to tuple of str
        Names of `FUNCTIONS` of each parameter that the polynomials are made of, n_base in all.
    domain : ndarray, shape (2, n_par)
        Smallest and largest value of each parameter in the training set.
    centre, spread : ndarray, shape (n_base,)
        Mean and standard deviation of each function of a parameter, by which it is standardised.
    exponents : ndarray of int, shape (n_feature, n_base)
        Powers of the standardised functions in each feature; the first feature is the constant.
    mean, log_scale : ndarray, shape (n_replicate, n_feature, n_data)
        Coefficients of the centre of the data and of the logarithm of their scale.
    knots : ndarray, shape (n_replicate, n_data, n_knot)
        Standardised residuals at the knots of the monotone maps.
    scores : ndarray, shape (n_knot,)
        Normal scores at the knots.
    slopes : ndarray, shape (n_replicate, n_data, n_knot)
        Derivatives of the maps at the knots.
    tails : ndarray, shape (n_replicate, n_data, 2)
        The number c of the lower and the upper tail, 0 or more.
    correlation : ndarray, shape (n_replicate, n_node, n_data, n_data)
        Correlation of the normal scores, at equidistant nodes from end to end of the domain of a parameter, or once.
    configuration : mapping
        What made it, in terms of JSON.
    correlation_along : str
        Parameter along which the correlation changes; empty if it is the same everywhere.

    Raises
    ------
    ValueError
        If shapes do not fit together, a number is not finite, a map is not monotone or a correlation not positive.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    features: Mapping[str, tuple[str, ...]]
    domain: FloatArray
    centre: FloatArray
    spread: FloatArray
    exponents: IntArray
    mean: FloatArray
    log_scale: FloatArray
    knots: FloatArray
    scores: FloatArray
    slopes: FloatArray
    tails: FloatArray
    correlation: FloatArray
    configuration: Mapping[str, Any] = field(default_factory=dict)
    correlation_along: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def replicates(self) -> int:
        """How many densities are averaged."""
        return len(self.mean)

    @cached_property
    def _laws(self) -> tuple[NormalScores, ...]:
        """Law of the normal scores in each replicate."""
        return tuple(NormalScores(correlation) for correlation in self.correlation)

    @cached_property
    def _residual_moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the standardised residual z = T^-1(u), each (n_replicate, n_data)."""
        score, width = np.linspace(-9.0, 9.0, 3601, retstep=True)
        weight = width * np.exp(-(score**2) / 2) / np.sqrt(2 * np.pi)
        scores = np.repeat(score[:, None], len(self.labels), axis=1)
        residual = np.stack([self._residuals(replicate, scores) for replicate in range(self.replicates)])
        mean = np.einsum("q,rqj->rj", weight, residual)
        square = np.einsum("q,rqj->rj", weight, (residual - mean[:, None]) ** 2)
        return mean, np.sqrt(square)

    def log_density(self, theta: ArrayLike, values: ArrayLike) -> FloatArray:
        """Return ln p(values | theta), the logarithm of the mean density of the replicates.

        Parameters
        ----------
        theta : array_like, shape (n_vec, n_par) or (n_par,)
            Parameters.
        values : array_like, shape (n_data,) or (n_vec, n_data)
            Data; one of both may be single.

        Returns
        -------
        ndarray, shape (n_vec,)

        Raises
        ------
        ModelDomainError
            If a parameter lies outside the range of the training set by more than a tenth of it.
        ValueError
            If shapes do not fit, or a datum is not finite.
        """
        theta, values = self._both(theta, values)
        place = self._place(theta)
        each = np.empty((self.replicates, len(theta)))
        for part, basis in self._blocks(theta):
            for r, law in enumerate(self._laws):
                log_scale = basis @ self.log_scale[r]
                residual = (values[part] - basis @ self.mean[r]) * np.exp(-log_scale)
                score, slope = self._scores(r, residual)
                log_slope = np.sum(np.log(products(slope)), axis=1)
                each[r, part] = log_slope - log_scale.sum(axis=1) + law.log_density(score, place[part])
        return np.asarray(logsumexp(each, axis=0) - np.log(self.replicates), dtype=np.float64)

    def conditional_log_density(
        self, theta: ArrayLike, values: ArrayLike, *, labels: Sequence[str], given: Sequence[str]
    ) -> FloatArray:
        """Return ln p(values of `labels` | values of `given`, theta), shape (n_vec,).

        Parameters
        ----------
        theta : array_like, shape (n_vec, n_par)
            Parameters.
        values : array_like, shape (n_data,) or (n_vec, n_data)
            All data of the surrogate, in its order; those in neither list are integrated over.
        labels, given : sequence of str
            Data whose density is wanted, and data that are known; they may not overlap.
        """
        if set(labels) & set(given):
            raise ValueError(f"labels and given share {sorted(set(labels) & set(given))}")
        values = np.asarray(values, dtype=np.float64)
        both = (*labels, *given)
        joint = self.marginal(both).log_density(theta, values[..., self._columns(both)])
        if not given:
            return joint
        return joint - self.marginal(given).log_density(theta, values[..., self._columns(given)])

    def marginal(self, labels: Sequence[str]) -> Surrogate:
        """Return the density of some of the data, in the order of `labels`: exact, as the copula is Gaussian.

        Raises
        ------
        ValueError
            If a label is unknown or appears twice.
        """
        kept = self._columns(labels)
        return Surrogate(
            self.names, tuple(labels), self.features, self.domain, self.centre, self.spread, self.exponents,
            self.mean[..., kept], self.log_scale[..., kept], self.knots[:, kept], self.scores, self.slopes[:, kept],
            self.tails[:, kept], self.correlation[:, :, kept][..., kept], self.configuration, self.correlation_along,
        )  # fmt: skip

    def replicate(self, index: int) -> Surrogate:
        """Return the density of one replicate alone."""
        one = slice(index, index + 1) if index >= 0 else slice(index, index + 1 or None)
        return Surrogate(
            self.names, self.labels, self.features, self.domain, self.centre, self.spread, self.exponents,
            self.mean[one], self.log_scale[one], self.knots[one], self.scores, self.slopes[one],
            self.tails[one], self.correlation[one], self.configuration, self.correlation_along,
        )  # fmt: skip

    def draw(self, theta: ArrayLike, *, rng: np.random.Generator) -> FloatArray:
        """Return random data at each vector of parameters, each of a replicate taken at random.

        Parameters
        ----------
        theta : array_like, shape (n_vec, n_par)
            Parameters.
        rng : numpy.random.Generator
            Source of random numbers.

        Returns
        -------
        ndarray, shape (n_vec, n_data)
        """
        theta = self._parameters(theta)
        chosen = rng.integers(self.replicates, size=len(theta))
        normal = rng.standard_normal((len(theta), len(self.labels)))
        basis = polynomial(self._base(theta), self.exponents)
        place, values = self._place(theta), np.empty_like(normal)
        for r in np.unique(chosen):
            here = chosen == r
            residual = self._residuals(r, self._laws[r].coloured(normal[here], place[here]))
            values[here] = basis[here] @ self.mean[r] + np.exp(basis[here] @ self.log_scale[r]) * residual
        return values

    def pit(self, theta: ArrayLike, values: ArrayLike) -> FloatArray:
        """Return the probability integral transform of each datum: the chance of a smaller one, of the mixture.

        Returns
        -------
        ndarray, shape (n_vec, n_data)
            Each uniform in 0..1 if the density is right; data of one vector are not independent.
        """
        theta, values = self._both(theta, values)
        below = np.zeros((len(theta), len(self.labels)))
        for part, basis in self._blocks(theta):
            for r in range(self.replicates):
                below[part] += ndtr(self._normal(r, basis, values[part]))
        return below / self.replicates

    def projected_pit(self, theta: ArrayLike, values: ArrayLike, directions: ArrayLike) -> FloatArray:
        r"""Return the probability integral transform of projections of the normal scores.

        In each replicate :math:`a \cdot u` is normal with variance :math:`a^T R a`; the chances of a smaller one are
        averaged over replicates. It sees what single data cannot: a wrong correlation. The average is uniform as far as
        replicates agree; along directions of very small variance, where they do not, it keeps to the middle.

        Parameters
        ----------
        theta, values : array_like
            As in `log_density`.
        directions : array_like, shape (n_dir, n_data)
            Directions a in the space of normal scores.

        Returns
        -------
        ndarray, shape (n_vec, n_dir)
        """
        theta, values = self._both(theta, values)
        directions = np.atleast_2d(np.asarray(directions, dtype=np.float64))
        if directions.shape[1] != len(self.labels):
            raise ValueError(f"directions {directions.shape}: expected (n_dir, {len(self.labels)})")
        below = np.zeros((len(theta), len(directions)))
        place = self._place(theta)
        for part, basis in self._blocks(theta):
            for r, law in enumerate(self._laws):
                width = law.width(directions, place[part])
                below[part] += ndtr(self._normal(r, basis, values[part]) @ directions.T / width)
        return below / self.replicates

    def mean_and_sd(self, theta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of each datum, of the mixture of replicates.

        Returns
        -------
        mean, sd : ndarray, shape (n_vec, n_data)
            The standard deviation holds the scatter between replicates.
        """
        mean, scale = self.replicate_moments(theta)
        centre = mean.mean(axis=0)
        return centre, np.sqrt(np.mean(scale**2 + (mean - centre) ** 2, axis=0))

    def replicate_moments(self, theta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of each datum in each replicate, (n_replicate, n_vec, n_data)."""
        basis = polynomial(self._base(self._parameters(theta)), self.exponents)
        scale = np.exp(basis @ self.log_scale)
        middle, width = self._residual_moments
        return basis @ self.mean + scale * middle[:, None], scale * width[:, None]

    def quantiles(self, theta: ArrayLike, score: float) -> FloatArray:
        """Return the quantile of each datum at a normal score, of each replicate, (n_replicate, n_vec, n_data)."""
        basis = polynomial(self._base(self._parameters(theta)), self.exponents)
        at = np.full((1, len(self.labels)), float(score))
        residual = np.stack([self._residuals(r, at) for r in range(self.replicates)])
        return basis @ self.mean + np.exp(basis @ self.log_scale) * residual

    def correlations(self, theta: ArrayLike) -> FloatArray:
        """Return the correlation of the normal scores in each replicate, (n_replicate, n_vec, n_data, n_data)."""
        place = self._place(self._parameters(theta))
        return np.stack([place.between(correlation) for correlation in self.correlation])

    def _columns(self, labels: Sequence[str]) -> list[int]:
        unknown = [label for label in labels if label not in self.labels]
        if unknown or not labels or len(set(labels)) != len(labels):
            raise ValueError(f"labels {list(labels)}: expected some of {list(self.labels)}, each once")
        return [self.labels.index(label) for label in labels]

    def _parameters(self, theta: ArrayLike) -> FloatArray:
        theta = np.atleast_2d(np.asarray(theta, dtype=np.float64))
        if theta.ndim != 2 or theta.shape[1] != len(self.names):
            raise ValueError(f"theta {theta.shape}: expected (n_vec, {len(self.names)})")
        low, high = self.domain
        room = MARGIN * (high - low) + 1e-9 * np.maximum(abs(low), abs(high))
        # Written so that a number that is none is outside.
        outside = ~((theta >= low - room) & (theta <= high + room))
        if np.any(outside):
            row, column = np.argwhere(outside)[0]
            value = float(theta[row, column])
            raise ModelDomainError(
                f"{self.names[column]} = {value:.6g} was not trained", value=value, column=self.names[column],
                expected=f"{low[column]:.6g} to {high[column]:.6g}",
                remedy="Narrow the prior to the range of the simulations, or simulate a wider one.",
            )  # fmt: skip
        return theta

    def _both(self, theta: ArrayLike, values: ArrayLike) -> tuple[FloatArray, FloatArray]:
        theta = self._parameters(theta)
        values = np.atleast_2d(np.asarray(values, dtype=np.float64))
        n, n_data = max(len(theta), len(values)), len(self.labels)
        if values.ndim != 2 or values.shape[1] != n_data or {len(theta), len(values)} - {1, n}:
            raise ValueError(f"values {values.shape}: expected ({n_data},) or ({len(theta)}, {n_data})")
        if not np.all(np.isfinite(values)):
            raise ValueError("values hold a number that is not finite")
        return np.broadcast_to(theta, (n, theta.shape[1])), np.broadcast_to(values, (n, n_data))

    def _place(self, theta: FloatArray) -> Place:
        return place_along(theta, self.names, self.domain, self.correlation_along, self.correlation.shape[1])

    def _base(self, theta: FloatArray) -> FloatArray:
        return (base_columns(theta, self.names, self.features) - self.centre) / self.spread

    def _blocks(self, theta: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        for first in range(0, len(theta), _BLOCK):
            part = slice(first, first + _BLOCK)
            yield part, polynomial(self._base(theta[part]), self.exponents)

    def _normal(self, r: int, basis: FloatArray, values: FloatArray) -> FloatArray:
        residual = (values - basis @ self.mean[r]) * np.exp(-(basis @ self.log_scale[r]))
        return self._scores(r, residual)[0]

    def _scores(self, r: int, residual: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Normal scores T(z) and slopes T'(z) at residuals (n, n_data) of a replicate."""
        return spline(residual, self.knots[r], self.scores, self.slopes[r], self.tails[r])

    def _residuals(self, r: int, score: FloatArray) -> FloatArray:
        """Residuals T^-1(u) at scores (n, n_data) of a replicate."""
        return inverse_spline(score, self.knots[r], self.scores, self.slopes[r], self.tails[r])


def place_along(theta: FloatArray, names: Sequence[str], domain: FloatArray, along: str, nodes: int) -> Place:
    """Return where vectors (n_vec, n_par) lie among the nodes of a parameter; of one node, whatever the parameter."""
    column = names.index(along) if along else 0
    low, high = (float(end) for end in domain[:, column])
    return Place.of(theta[:, column], low, high, nodes)


def base_columns(theta: FloatArray, names: Sequence[str], features: Mapping[str, Sequence[str]]) -> FloatArray:
    """Return the functions of the parameters that polynomials are made of, (n_vec, n_base).

    Examples
    --------
    >>> base_columns(np.array([[2.0, 0.0]]), ("x", "angle"), {"x": ("identity",), "angle": ("cos", "sin")})
    array([[2., 1., 0.]])
    """
    columns = [FUNCTIONS[f](theta[:, i]) for i, name in enumerate(names) for f in features[name]]
    return np.stack(columns, axis=1)


def polynomial(base: FloatArray, exponents: IntArray) -> FloatArray:
    """Return products of powers of the columns of `base` (n, n_base), one for each row of `exponents`.

    Examples
    --------
    >>> polynomial(np.array([[2.0, 3.0]]), np.array([[0, 0], [1, 0], [1, 2]]))
    array([[ 1.,  2., 18.]])
    """
    basis = np.ones((len(base), len(exponents)))
    for i, column in enumerate(base.T):
        power = np.ones_like(column)
        for degree in range(1, int(exponents[:, i].max()) + 1):
            power = power * column
            basis[:, exponents[:, i] == degree] *= power[:, None]
    return basis


def spline(
    residual: FloatArray, knots: FloatArray, scores: FloatArray, slopes: FloatArray, tails: FloatArray
) -> tuple[FloatArray, FloatArray]:
    r"""Return the monotone maps of each column at `residual` and their derivatives, both (n, n_data).

    Between two knots, with :math:`\xi` the fraction of the way, :math:`\Delta` the mean slope and d the slopes at both,

    .. math:: T = u_0 + (u_1 - u_0) \frac{\Delta \xi^2 + d_0 \xi(1-\xi)}{\Delta + (d_0 + d_1 - 2\Delta) \xi(1-\xi)},
        \quad T' = \Delta^2 \frac{d_1 \xi^2 + 2 \Delta \xi(1-\xi) + d_0 (1-\xi)^2}
                                 {[\Delta + (d_0 + d_1 - 2\Delta) \xi(1-\xi)]^2};

    beyond the outermost knots, see the head of this module.
    """
    low, first, width, rise, start, end = _pieces(residual, knots, knots, scores, slopes)
    mean = rise / width
    xi = np.clip((residual - low) / width, 0.0, 1.0)
    bend = xi * (1.0 - xi)
    lower = 1.0 / (mean + (start + end - 2.0 * mean) * bend)
    score = first + rise * (mean * xi**2 + start * bend) * lower
    slope = mean**2 * (end * xi**2 + 2.0 * mean * bend + start * (1.0 - xi) ** 2) * lower**2
    below, above = knots[:, 0] - residual, residual - knots[:, -1]
    lower_side, excess = below > 0, np.maximum(below, above)
    sign, edge, at, curve = _tails(lower_side, scores, slopes, tails)
    along = at * np.maximum(excess, 0.0)
    outer = np.sqrt(edge**2 + along * (2.0 * edge + curve * along))
    beyond = excess > 0
    return np.where(beyond, sign * outer, score), np.where(beyond, at * (edge + curve * along) / outer, slope)


def inverse_spline(
    score: FloatArray, knots: FloatArray, scores: FloatArray, slopes: FloatArray, tails: FloatArray
) -> FloatArray:
    """Return the residuals at which the monotone maps of `spline` take the values `score`, (n, n_data)."""
    table = np.broadcast_to(scores, knots.shape)
    low, first, width, rise, start, end = _pieces(score, table, knots, scores, slopes)
    mean, up = rise / width, score - first
    curve = (start + end - 2.0 * mean) * up
    a, b, c = rise * (mean - start) + curve, rise * start - curve, -mean * up
    root = np.sqrt(np.maximum(b**2 - 4.0 * a * c, 0.0))
    inner = low + width * 2.0 * c / np.where(b + root > 0, -(b + root), -1.0)
    lower_side = score < scores[0]
    sign, edge, at, curve = _tails(lower_side, scores, slopes, tails)
    more = np.maximum(score**2 - edge**2, 0.0)
    excess = more / (edge + np.sqrt(edge**2 + curve * more)) / at
    outer = np.where(lower_side, knots[:, 0], knots[:, -1]) + sign * excess
    return np.where(lower_side | (score > scores[-1]), outer, inner)


def _tails(
    lower_side: NDArray[np.bool_], scores: FloatArray, slopes: FloatArray, tails: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Sign, distance of the outermost score from zero, slope there and c, of the tail of each number (n, n_data)."""
    sign = np.where(lower_side, -1.0, 1.0)
    edge = np.where(lower_side, -scores[0], scores[-1])
    return (
        sign,
        edge,
        np.where(lower_side, slopes[:, 0], slopes[:, -1]),
        np.where(lower_side, tails[:, 0], tails[:, 1]),
    )


def _pieces(
    x: FloatArray, edges: FloatArray, knots: FloatArray, scores: FloatArray, slopes: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Knot, score, width, rise and both slopes of the piece that each x (n, n_data) lies in, by its column's edges."""
    n_knot = knots.shape[1]
    index = np.zeros(x.shape, dtype=np.intp)
    for k in range(1, n_knot - 1):
        index += x > edges[:, k]
    index += np.arange(len(knots)) * n_knot
    width, rise = np.zeros_like(knots), np.zeros_like(knots)
    width[:, :-1], rise[:, :-1] = np.diff(knots, axis=1), np.diff(scores)
    after = np.roll(slopes, -1, axis=1)
    tables = (knots, np.broadcast_to(scores, knots.shape), width, rise, slopes, after)
    low, first, wide, high, start, end = (np.take(np.ascontiguousarray(table), index) for table in tables)
    return low, first, wide, high, start, end


def _check(s: Surrogate) -> None:
    n_par, n_data = len(s.names), len(s.labels)
    if not n_par or not n_data or len(set(s.names)) != n_par or len(set(s.labels)) != n_data:
        raise ValueError(f"names {s.names}, labels {s.labels}: expected at least one of each, all different")
    if set(s.features) != set(s.names) or not all(
        len(kinds) and set(kinds) <= set(FUNCTIONS) for kinds in s.features.values()
    ):
        raise ValueError(f"features {dict(s.features)}: expected for each parameter some of {list(FUNCTIONS)}")
    n_base = sum(len(s.features[name]) for name in s.names)
    n_rep, n_feature, n_knot = len(s.mean), len(s.exponents), len(s.scores)
    n_node = np.shape(s.correlation)[1] if np.ndim(s.correlation) == 4 else 1
    shapes = {
        "domain": (2, n_par), "centre": (n_base,), "spread": (n_base,), "exponents": (n_feature, n_base),
        "mean": (n_rep, n_feature, n_data), "log_scale": (n_rep, n_feature, n_data), "scores": (n_knot,),
        "knots": (n_rep, n_data, n_knot), "slopes": (n_rep, n_data, n_knot), "tails": (n_rep, n_data, 2),
        "correlation": (n_rep, n_node, n_data, n_data),
    }  # fmt: skip
    for name, shape in shapes.items():
        value = getattr(s, name)
        if np.shape(value) != shape or 0 in shape:
            raise ValueError(f"{name}: shape {np.shape(value)}, expected {shape}")
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} holds a number that is not finite")
    if n_knot < 2 or np.any(np.diff(s.knots, axis=2) <= 0) or np.any(np.diff(s.scores) <= 0):
        raise ValueError("knots or scores do not rise")
    if not s.scores[0] < 0 < s.scores[-1] or np.any(s.tails < 0):
        raise ValueError("scores or tails: expected scores on both sides of zero and numbers of 0 or more")
    if np.any(s.slopes <= 0) or np.any(s.spread <= 0) or np.any(s.domain[0] > s.domain[1]):
        raise ValueError("slopes, spread or domain: expected positive slopes and widths")
    if np.any(s.exponents < 0) or np.any(s.exponents > 12):
        raise ValueError("exponents: expected powers of 0 to 12")
    diagonal = np.diagonal(s.correlation, axis1=2, axis2=3)
    skew = s.correlation - np.swapaxes(s.correlation, 2, 3)
    if np.max(np.abs(diagonal - 1)) > 1e-9 or np.max(np.abs(skew)) > 1e-12:
        raise ValueError("correlation: expected symmetric matrices with ones on the diagonal")
    if np.min(np.linalg.eigvalsh(s.correlation)) <= 0:
        raise ValueError("correlation: expected positive definite matrices")
    if not s.correlation_along and n_node == 1:
        return
    if n_node == 1:
        raise ValueError(f"correlation: one node, expected two or more along {s.correlation_along!r}")
    if s.correlation_along not in s.names or np.ptp(s.domain[:, s.names.index(s.correlation_along)]) <= 0:
        raise ValueError(f"correlation_along = {s.correlation_along!r}: expected a parameter with a range")
