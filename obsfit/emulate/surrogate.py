r"""Surrogates: conditional densities of folded data, learnt from simulations that are independent only by groups.

What a surrogate is: `obsfit.emulate.surrogate_density`. How it is learnt:

* the mean of each datum by least squares with a slight ridge, on polynomials of the parameters;
* the scatter about it by the residuals, made larger by what the fit took of them: :math:`(1 - H_g)^{-1/2} r_g` for each
  group, with its block of the matrix :math:`H` that turns data into fitted values (Bell and McCaffrey 2002);
* the logarithm of its scale by maximum likelihood of the absolute residuals, :math:`\ln s + |r|/s`, which is convex
  and does not hang on single large residuals as squares would;
* its shape by quantiles of the standardised residuals, and beyond the outermost by the exponential tail of
  maximum likelihood;
* the correlation of the normal scores by their second moments, shrunk to the unit matrix by what predicts groups that
  were held out best. One that changes along a parameter: each product :math:`u_i u_j` by least squares as a
  function that is linear between its nodes.

Each group counts alike. The error of all this comes from replicates: groups, not simulations, are drawn with
replacement, and everything but the two choices above (degree, shrinkage) is learnt again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np
from astropy.table import Table
from scipy.special import ndtr

from obsfit.emulate.correlated_scores import NormalScores, Place
from obsfit.emulate.surrogate_density import (
    FUNCTIONS,
    FloatArray,
    IntArray,
    Surrogate,
    base_columns,
    place_along,
    polynomial,
    spline,
)
from obsfit.emulate.surrogate_files import read_surrogate, write_surrogate
from obsfit.emulate.training import TrainingSet

__all__ = [
    "Surrogate", "choose_degree", "fit_surrogate", "read_surrogate", "surrogate_errors", "write_surrogate",
]  # fmt: skip

SCORES = np.array([-2.0, -1.3, -0.65, 0.0, 0.65, 1.3, 2.0])
"""Normal scores of the knots of the monotone maps: beyond the outermost lie 2.3 per cent on each side."""
SHRINKAGES = (1e-4, 1e-3, 3e-3, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0)
"""Weights of the unit matrix in the correlation that are tried."""
TAIL = 0.0
"""Number c of the tails: exponential, which is safe for data in them. They hold too few groups to choose by."""
RIDGE = 0.1
"""Penalty of a squared coefficient, in units of the residual variance of one group: a prior three times as wide."""
LEAST_LEFT = 0.1
"""Least eigenvalue of 1 - H for a group by which its residuals are made larger."""
LEAST_GROUPS = 10
"""Fewest groups that something can be learnt from."""
LEAST_SIMULATIONS = 200
"""Fewest simulations: some must lie in the tails, beyond the outermost knots, of each replicate."""
NODES = 3
"""Places along a parameter at which a correlation that changes is learnt: it may rise and then stay."""
LEAST_VARIANCE = 0.01
"""Least eigenvalue of a correlation at a node, where least squares may go below."""
FOLDS = 5
"""Into how many parts groups are divided where some are held out."""


def fit_surrogate(
    training: TrainingSet,
    *,
    degree: int | Sequence[int] = 2,
    scale_degree: int | None = None,
    replicates: int = 12,
    features: Mapping[str, Sequence[str]] | None = None,
    correlation_along: str = "",
    rng: np.random.Generator,
) -> Surrogate:
    """Return the conditional density of the data of a training set given its parameters.

    The result does not depend on the order of the simulations.

    Parameters
    ----------
    training : TrainingSet
        Simulated data and their parameters.
    degree : int or sequence of int
        Total degree of the polynomials of the mean. Of several, the one that predicts held-out groups best is taken.
    scale_degree : int, optional
        Degree of the polynomials of the logarithm of the scale. Default: that of the mean, but at most 1.
    replicates : int
        How many times groups are drawn with replacement, each equally often in all; 1 takes the training set as it is
        and knows no error.
    features : mapping of str to sequence of str, optional
        Functions of a parameter (see `surrogate_density.FUNCTIONS`) that stand for it in the polynomials, as
        ``{"gradient_declination": ("sin", "cos")}``. Default: the parameter itself.
    correlation_along : str
        Parameter along which the correlation changes. Default: it is the same everywhere.
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    Surrogate

    Raises
    ------
    ValueError
        If there are too few groups or simulations, a datum is constant, a feature is unknown, or replicates < 1.
    """
    if replicates < 1:
        raise ValueError(f"replicates = {replicates}: expected at least 1")
    if not isinstance(degree, int):
        scores = choose_degree(
            training, degree, scale_degree=scale_degree, features=features, correlation_along=correlation_along,
            rng=rng,
        )  # fmt: skip
        degree = int(scores["degree"][np.argmax(scores["log_density"])])
    design = _Design.of(training, degree, scale_degree, features, correlation_along)
    fold = _folds(design.n_group, rng)
    shrinkage = _choose_shrinkage(design, fold)
    parts = [_fit(design, count, shrinkage) for count in _counts(design.n_group, replicates, rng)]
    configuration = {
        "degree": degree, "scale_degree": design.scale_degree, "shrinkage": shrinkage, "replicates": replicates,
        "groups": design.n_group, "simulations": len(design.values),
    }  # fmt: skip
    return _surrogate(design, parts, configuration)


def choose_degree(
    training: TrainingSet,
    candidates: Iterable[int],
    *,
    scale_degree: int | None = None,
    features: Mapping[str, Sequence[str]] | None = None,
    correlation_along: str = "",
    rng: np.random.Generator,
) -> Table:
    """Return how well polynomials of several degrees predict groups that were held out.

    Returns
    -------
    astropy.table.Table
        Columns degree, features (their number), log_density (mean over held-out groups of the mean logarithm of the
        density of one simulation) and behind (how far behind the best, per simulation) with its error from the
        scatter between groups.

    Raises
    ------
    ValueError
        As `fit_surrogate`, or if there is no candidate.
    """
    candidates = list(candidates)
    if not candidates:
        raise ValueError("there is no degree to choose from")
    designs = [_Design.of(training, degree, scale_degree, features, correlation_along) for degree in candidates]
    fold = _folds(designs[0].n_group, rng)
    scores = np.stack([_held_out(design, fold) for design in designs])
    best = scores[int(np.argmax(scores.mean(axis=1)))]
    table = Table()
    table["degree"] = candidates
    table["features"] = [design.basis.shape[1] for design in designs]
    table["log_density"] = scores.mean(axis=1)
    table["behind"] = (best - scores).mean(axis=1)
    table["error"] = (best - scores).std(axis=1, ddof=1) / np.sqrt(scores.shape[1])
    return table


def surrogate_errors(
    training: TrainingSet, surrogate: Surrogate, *, splits: int = 8, rng: np.random.Generator
) -> Table:
    r"""Return the errors of a surrogate beside the width of what it predicts, for each datum.

    *Monte Carlo error*: the scatter between replicates of the predicted mean and of the predicted quantiles at -1
    and +1 standard deviation of a normal law, of which the largest counts; root mean square over the parameters of
    the training set. It falls as the root of the number of groups.

    *Interpolation error*: the mean that the polynomials cannot follow, however many groups there are. Groups are
    divided into two halves. In each, the mean is learnt by the polynomials of the surrogate, and once more by these
    with all products of one degree more and with steps in five bins of each parameter; the difference h of both is the
    lack of fit, with noise. The noise of both halves is independent, so that the mean of :math:`h_1 h_2` over the
    parameters is the mean square of the lack of fit without bias. It is averaged over several divisions; what is left
    of noise may be negative, and its root is then given as zero. A lack of fit on a finer scale than the bins is not
    seen.

    Parameters
    ----------
    training : TrainingSet
        What the surrogate was learnt from.
    surrogate : Surrogate
        With several replicates.
    splits : int
        Number of divisions into halves.
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    astropy.table.Table
        One row for each datum: label, predictive_sd, monte_carlo, interpolation (all in units of the values) and
        ratio, the root of the sum of squares of both errors over predictive_sd.

    Raises
    ------
    ValueError
        If the surrogate has one replicate, or was learnt for other parameters or data.
    """
    if surrogate.replicates < 2:
        raise ValueError("the surrogate has one replicate: expected several, whose scatter is its error")
    if surrogate.names != training.names or surrogate.labels != training.labels:
        raise ValueError(f"names or labels differ: {training.names}, {training.labels} were simulated")
    ordered = _in_order(training)
    theta = ordered.theta[:: max(1, len(ordered.theta) // 2000)]
    mean, _ = surrogate.replicate_moments(theta)
    scatter = [mean, surrogate.quantiles(theta, -1.0), surrogate.quantiles(theta, 1.0)]
    monte_carlo = np.max([np.sqrt(np.mean(np.var(q, axis=0, ddof=1), axis=0)) for q in scatter], axis=0)
    width = np.sqrt(np.mean(surrogate.mean_and_sd(theta)[1] ** 2, axis=0))
    interpolation = np.sqrt(np.maximum(_lack_of_fit(ordered, surrogate, splits, rng), 0.0))
    table = Table()
    table["label"] = list(surrogate.labels)
    table["predictive_sd"] = width
    table["monte_carlo"] = monte_carlo
    table["interpolation"] = interpolation
    table["ratio"] = np.hypot(monte_carlo, interpolation) / width
    return table


@dataclass(frozen=True, eq=False)
class _Design:
    """A training set in a fixed order, with its polynomials."""

    training: TrainingSet
    features: dict[str, tuple[str, ...]]
    centre: FloatArray
    spread: FloatArray
    exponents: IntArray
    scale_degree: int
    basis: FloatArray
    group: IntArray
    n_group: int
    correlation_along: str

    @classmethod
    def of(
        cls,
        training: TrainingSet,
        degree: int,
        scale_degree: int | None,
        features: Mapping[str, Sequence[str]] | None,
        correlation_along: str,
    ) -> _Design:
        if scale_degree is None:
            scale_degree = min(degree, 1)
        if not 0 <= scale_degree <= degree <= 12:
            raise ValueError(
                f"degree {degree}, scale_degree {scale_degree}: expected 0 <= scale_degree <= degree <= 12"
            )
        chosen: dict[str, tuple[str, ...]] = dict.fromkeys(training.names, ("identity",))
        chosen |= {name: tuple(kinds) for name, kinds in (features or {}).items()}
        for name, kinds in chosen.items():
            if name not in training.names or not kinds or not set(kinds) <= set(FUNCTIONS):
                raise ValueError(
                    f"features of {name}: {kinds}, expected some of {list(FUNCTIONS)} for one of {training.names}"
                )
        if correlation_along and correlation_along not in training.names:
            raise ValueError(
                f"correlation_along = {correlation_along!r}: expected one of {training.names}, or none"
            )
        ordered = _in_order(training)
        labels, group = np.unique(ordered.group, return_inverse=True)
        if len(labels) < LEAST_GROUPS:
            raise ValueError(f"{len(labels)} groups: expected at least {LEAST_GROUPS}")
        still = np.flatnonzero(np.ptp(ordered.values, axis=0) == 0)
        if still.size:
            raise ValueError(f"{training.labels[still[0]]} is the same in all simulations: it has no density")
        if len(ordered.group) < LEAST_SIMULATIONS:
            raise ValueError(f"{len(ordered.group)} simulations: expected at least {LEAST_SIMULATIONS}")
        base = base_columns(ordered.theta, training.names, chosen)
        centre, spread = base.mean(axis=0), base.std(axis=0)
        spread = np.where(spread > 1e-12 * np.maximum(1.0, abs(centre)), spread, 1.0)
        exponents = _powers(base.shape[1], degree)
        if len(exponents) > len(base) // 2:
            raise ValueError(
                f"{len(exponents)} polynomials for {len(base)} simulations: expected at most half of that"
            )
        basis = polynomial((base - centre) / spread, exponents)
        return cls(
            ordered, chosen, centre, spread, exponents, scale_degree, basis, group, len(labels), correlation_along
        )

    @property
    def values(self) -> FloatArray:
        return self.training.values

    @property
    def domain(self) -> FloatArray:
        """Smallest and largest value of each parameter, (2, n_par)."""
        theta = self.training.theta
        return np.stack([theta.min(axis=0), theta.max(axis=0)])

    @property
    def nodes(self) -> int:
        """At how many places a correlation is learnt."""
        return NODES if self.correlation_along else 1

    @cached_property
    def place(self) -> Place:
        """Where each simulation is along the parameter of the correlation."""
        theta = self.training.theta
        return place_along(theta, self.training.names, self.domain, self.correlation_along, self.nodes)

    def weights(self, count: FloatArray) -> FloatArray:
        """Weight of each simulation, one in all, if group g counts `count[g]` times; (n,)."""
        size = np.bincount(self.group, minlength=self.n_group)
        return (count / size)[self.group] / count.sum()


@dataclass(frozen=True, eq=False)
class _Part:
    """What one fit finds: coefficients (n_feature, n_data), maps (n_data, n_knot) and correlations at nodes."""

    mean: FloatArray
    log_scale: FloatArray
    knots: FloatArray
    slopes: FloatArray
    tails: FloatArray
    correlation: FloatArray


def _surrogate(design: _Design, parts: Sequence[_Part], configuration: Mapping[str, object]) -> Surrogate:
    fields = ("mean", "log_scale", "knots", "slopes", "tails", "correlation")
    stacked = {name: np.stack([getattr(part, name) for part in parts]) for name in fields}
    return Surrogate(
        names=design.training.names, labels=design.training.labels, features=design.features,
        domain=design.domain, centre=design.centre, spread=design.spread, exponents=design.exponents, scores=SCORES,
        configuration=configuration, correlation_along=design.correlation_along, **stacked,
    )  # fmt: skip


def _in_order(training: TrainingSet) -> TrainingSet:
    """The training set with its simulations in an order of their own, so that sums do not depend on the given one."""
    keys = (*training.values.T[::-1], *training.theta.T[::-1], training.group)
    order = np.lexsort(keys)
    return TrainingSet(
        training.names, training.theta[order], training.labels, training.values[order], training.group[order]
    )


def _powers(n_base: int, degree: int) -> IntArray:
    """Exponents of all products up to a total degree, the constant first."""
    rows = [np.zeros(n_base, dtype=np.int64)]
    for total in range(1, degree + 1):
        for chosen in combinations_with_replacement(range(n_base), total):
            rows.append(np.bincount(chosen, minlength=n_base))
    return np.array(rows, dtype=np.int64)


def _folds(n_group: int, rng: np.random.Generator) -> IntArray:
    """Which of `FOLDS` parts each group belongs to, (n_group,)."""
    return rng.permutation(np.arange(n_group) % FOLDS)


def _counts(n_group: int, replicates: int, rng: np.random.Generator) -> FloatArray:
    """How often each group was drawn, (replicates, n_group); once if there is one replicate.

    Every group is drawn equally often in all, so that what is linear in the groups has its own mean over replicates
    (the balanced bootstrap of Davison, Hinkley and Schechtman 1986).
    """
    if replicates == 1:
        return np.ones((1, n_group))
    drawn = rng.permutation(np.tile(np.arange(n_group), replicates)).reshape(replicates, n_group)
    return np.stack([np.bincount(one, minlength=n_group) for one in drawn]).astype(np.float64)


def _fit(design: _Design, count: FloatArray, shrinkage: float) -> _Part:
    """Learn everything from groups that count so many times each."""
    weight = design.weights(count)
    ridge = RIDGE / count.sum()
    mean = _least_squares(design.basis, design.values, weight, ridge)
    residual = _enlarged(design.values - design.basis @ mean, design, weight, ridge)
    low = design.exponents.sum(axis=1) <= design.scale_degree
    log_scale = np.zeros_like(mean)
    log_scale[low] = _log_scale(design.basis[:, low], np.abs(residual), weight, ridge)
    standard = residual * np.exp(-(design.basis @ log_scale))
    maps = _maps(standard, weight)
    moments = _moments(_normal_scores(standard, maps), design, weight)
    return _Part(mean, log_scale, *maps, _shrunk(moments, shrinkage))


def _normal_matrix(basis: FloatArray, weight: FloatArray, ridge: float) -> FloatArray:
    matrix = basis.T @ (weight[:, None] * basis)
    penalty = np.full(basis.shape[1], ridge)
    penalty[0] = 0.0
    return matrix + np.diag(penalty)


def _least_squares(basis: FloatArray, values: FloatArray, weight: FloatArray, ridge: float) -> FloatArray:
    """Coefficients of the weighted mean, (n_feature, n_data); the constant, which comes first, is not penalised."""
    right = basis.T @ (weight[:, None] * values)
    return np.asarray(np.linalg.solve(_normal_matrix(basis, weight, ridge), right), dtype=np.float64)


def _enlarged(residual: FloatArray, design: _Design, weight: FloatArray, ridge: float) -> FloatArray:
    """Residuals (n, n_data) as large as those of groups that were not learnt from, (1 - H_g)^(-1/2) r_g.

    A mean of many coefficients comes near to what it learns from: of 84 and 300 groups, without this up to 1.8 % of the
    variance would be missing. What coefficients err elsewhere is not in it; the scatter of replicates is.
    """
    factor = np.linalg.cholesky(_normal_matrix(design.basis, weight, ridge))
    scaled = np.sqrt(weight)[:, None] * np.linalg.solve(factor, design.basis.T).T
    found = residual.copy()
    order = np.argsort(design.group, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(design.group))[:-1]):
        direction, size, _ = np.linalg.svd(scaled[rows], full_matrices=False)
        more = 1.0 / np.sqrt(np.maximum(1.0 - size**2, LEAST_LEFT)) - 1.0
        found[rows] += direction @ (more[:, None] * (direction.T @ residual[rows]))
    return found


def _log_scale(basis: FloatArray, size: FloatArray, weight: FloatArray, ridge: float) -> FloatArray:
    """Coefficients b that minimise sum of w (b x + |r| exp(-b x)), by steps with the expected second derivative."""
    matrix = _normal_matrix(basis, weight, ridge)
    penalty = np.full((basis.shape[1], 1), ridge)
    penalty[0] = 0.0
    found = np.zeros((basis.shape[1], size.shape[1]))
    found[0] = np.log(weight @ size)
    for _ in range(100):
        ratio = size * np.exp(-(basis @ found))
        gradient = basis.T @ (weight[:, None] * (ratio - 1.0)) - penalty * found
        step = np.linalg.solve(matrix, gradient)
        # A step that would change some scale by more than e^2 is cut: far from the minimum the expected second
        # derivative is too small.
        largest = np.max(np.abs(basis @ step), axis=0)
        found += step * np.minimum(1.0, 2.0 / np.maximum(largest, 1e-300))
        if np.max(largest) < 1e-7:
            break
    return found


def _maps(standard: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Knots and slopes (n_data, n_knot) and tails (n_data, 2) of the maps that make residuals (n, n_data) normal."""
    probability = ndtr(SCORES)
    knots, slopes = np.empty((2, standard.shape[1], len(SCORES)))
    used = weight > 0
    for j, column in enumerate(standard[used].T):
        order = np.argsort(column, kind="stable")
        value, share = column[order], weight[used][order]
        knots[j] = np.interp(probability, np.cumsum(share) - 0.5 * share, value)
        below, above = value < knots[j, 0], value > knots[j, -1]
        if not (np.any(below) and np.any(above)):
            raise ValueError(
                "no residuals lie beyond the outermost knots: a few simulations hold most of the weight"
            )
        slopes[j, 0] = _tail_slope(knots[j, 0] - value[below], share[below], -SCORES[0])
        slopes[j, -1] = _tail_slope(value[above] - knots[j, -1], share[above], SCORES[-1])
    width, rise = np.diff(knots, axis=1), np.diff(SCORES)
    if np.any(width <= 0):
        raise ValueError("residuals of different quantiles coincide: expected data with a density")
    # At inner knots the slope of the parabola through three knots, in terms of the residual as a function of the
    # score, which is positive as a mean of two positive slopes.
    share = rise[:-1] / (rise[:-1] + rise[1:])
    inverse = (1 - share) * (width / rise)[:, :-1] + share * (width / rise)[:, 1:]
    slopes[:, 1:-1] = 1.0 / inverse
    return knots, slopes, np.full((standard.shape[1], 2), TAIL)


def _tail_slope(excess: FloatArray, share: FloatArray, edge: float) -> float:
    """Slope d of the exponential tail of maximum likelihood of residuals that exceed the outermost knot by e.

    With u^2 = u_0^2 + 2 u_0 d e and u' = u_0 d / u it solves 1/d = <u_0 e> + <u_0 e / u^2>.
    """
    scaled = edge * excess
    weight = share / share.sum()
    # The right side falls as d rises, but more slowly than 1/d: each step comes closer.
    slope = 1.0 / (weight @ scaled)
    for _ in range(60):
        slope = 1.0 / (weight @ (scaled + scaled / (edge**2 + 2.0 * slope * scaled)))
    return float(slope)


def _normal_scores(standard: FloatArray, maps: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    knots, slopes, tails = maps
    return spline(standard, knots, SCORES, slopes, tails)[0]


def _moments(score: FloatArray, design: _Design, weight: FloatArray) -> FloatArray:
    """Second moments of normal scores (n, n_data) at the nodes of a parameter, or of all; (n_node, n_data, n_data)."""
    hats = design.place.between(np.eye(design.nodes)).T
    # What each simulation counts for at each node: least squares. Far from a node it may count less than zero.
    share = np.linalg.solve((hats * weight) @ hats.T, hats * weight)
    return np.stack([score.T @ (one[:, None] * score) for one in share])


def _shrunk(moments: FloatArray, shrinkage: float) -> FloatArray:
    """Correlations (..., n_data, n_data) of second moments: symmetric, positive, with ones on the diagonal."""
    unit = np.eye(moments.shape[-1])
    correlation = (1 - shrinkage) * _normalised(moments) + shrinkage * unit
    if len(correlation) > 1:
        value, vector = np.linalg.eigh(correlation)
        raised = (vector * np.maximum(value, LEAST_VARIANCE)[:, None]) @ np.swapaxes(vector, 1, 2)
        correlation = _normalised(raised)
    return np.where(unit > 0, 1.0, 0.5 * (correlation + np.swapaxes(correlation, 1, 2)))


def _normalised(moments: FloatArray) -> FloatArray:
    width = np.sqrt(np.diagonal(moments, axis1=-2, axis2=-1))
    return np.asarray(moments / (width[..., :, None] * width[..., None, :]))


def _choose_shrinkage(design: _Design, fold: IntArray) -> float:
    """The shrinkage under which scores of held-out groups are most probable."""
    gain = np.zeros(len(SHRINKAGES))
    whole = _fit(design, np.ones(design.n_group), 1.0)
    standard = (design.values - design.basis @ whole.mean) * np.exp(-(design.basis @ whole.log_scale))
    score = _normal_scores(standard, (whole.knots, whole.slopes, whole.tails))
    for part in range(FOLDS):
        inside, outside = (design.weights(chosen.astype(np.float64)) for chosen in (fold != part, fold == part))
        here = outside > 0
        moments = _moments(score, design, inside)
        for i, shrinkage in enumerate(SHRINKAGES):
            law = NormalScores(_shrunk(moments, shrinkage))
            gain[i] += outside[here] @ law.log_density(score[here], design.place[here])
    return SHRINKAGES[int(np.argmax(gain))]


def _held_out(design: _Design, fold: IntArray) -> FloatArray:
    """Mean logarithm of the density of the simulations of each group, learnt from the others; (n_group,)."""
    density = np.empty(len(design.values))
    shrinkage = _choose_shrinkage(design, fold)
    for part in range(FOLDS):
        fitted = _surrogate(design, [_fit(design, (fold != part).astype(np.float64), shrinkage)], {})
        here = fold[design.group] == part
        density[here] = fitted.log_density(design.training.theta[here], design.values[here])
    mean: FloatArray = np.bincount(design.group, density) / np.bincount(design.group)
    return mean


def _lack_of_fit(training: TrainingSet, surrogate: Surrogate, splits: int, rng: np.random.Generator) -> FloatArray:
    """Mean square over the parameters of what the polynomials of the mean cannot follow, without bias; (n_data,)."""
    labels, group = np.unique(training.group, return_inverse=True)
    size = np.bincount(group)
    base = base_columns(training.theta, surrogate.names, surrogate.features)
    base = (base - surrogate.centre) / surrogate.spread
    degree = int(surrogate.exponents.sum(axis=1).max())
    plain = surrogate.exponents.shape[0]
    rich = np.concatenate([polynomial(base, _powers(base.shape[1], degree + 1)), _steps(training.theta)], axis=1)
    every = 1.0 / size[group] / len(size)
    found = np.zeros(training.values.shape[1])
    for _ in range(splits):
        half = rng.permutation(np.arange(len(labels)) % 2)[group]
        lacks = []
        for side in (0, 1):
            weight = np.where(half == side, every, 0.0)
            weight, ridge = weight / weight.sum(), 2 * RIDGE / len(labels)
            narrow = _least_squares(rich[:, :plain], training.values, weight, ridge)
            wide = _least_squares(rich, training.values, weight, ridge)
            lacks.append(rich @ wide - rich[:, :plain] @ narrow)
        found += every @ (lacks[0] * lacks[1]) / splits
    return found


def _steps(theta: FloatArray, bins: int = 5) -> FloatArray:
    """One column for each bin but the first of each parameter, with equally many simulations in each."""
    edges = np.quantile(theta, np.arange(1, bins) / bins, axis=0)
    columns = [theta[:, i] > edge for i in range(theta.shape[1]) for edge in edges[:, i]]
    return np.stack(columns, axis=1).astype(np.float64)
