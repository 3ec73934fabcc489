r"""Measurements that are left out and predicted from the others: the check that uses no datum twice.

Measurements of one sky are not independent given the parameters: all energies see the same field. What is left out, x,
is therefore predicted from the parameters that the rest y allows *and* from the rest itself,

.. math:: p(x | y) = \int p(x | y, \theta)\, p(\theta | y)\, d\theta .

In each replicate of the surrogate of an emulator, the normal scores u of all data are jointly normal, so that
:math:`u_x` given :math:`u_y` is normal with a mean m and a covariance S that are known. Replicates count by the density
that they give the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri

from obsfit.emulate.emulator import Emulator
from obsfit.emulate.surrogate_density import IntArray, Surrogate, base_columns, inverse_spline, polynomial
from obsfit.errors import ConfigurationError
from obsfit.execute import child_generator
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.importance import ImportanceSettings, run_importance
from obsfit.infer.left_out_sky import predicted_of_sky
from obsfit.infer.partial import PartialPosterior, one_sky_term
from obsfit.infer.posterior import Posterior
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.parameters import FloatArray

__all__ = ["Prediction", "leave_one_out", "predict_left_out"]

# Scores beyond this are no better known: their tail is lost in the rounding of probabilities next to one.
_FAR = 1e-16


@dataclass(frozen=True)
class Prediction:
    """What the rest says about data that were left out.

    Attributes
    ----------
    p_value : float
        Probability that predicted data are at least as far from the middle of the prediction as the data are, in the
        distance of its covariance, of logarithms of powers and components of dipoles: near zero for data that the rest
        excludes, near one for data closer to the prediction than it says. Uniform in 0..1 for a true model.
    log_density : float
        Log density of the data, given the rest.
    labels : tuple of str
        The data.
    pit : ndarray, shape (n,)
        Probability of a smaller number for each: uniform in 0..1 for a true model.
    effective_size : float
        Number of draws of data that it is made of; no p-value is below one over it.
    power_tail : float
        Probability of a sum of the logarithms of all powers at least as far out, on either side: near zero if there is
        too much or too little power in all, which `p_value` sees late among many numbers. nan without powers. Uniform
        in 0..1 for a true model.
    """

    p_value: float
    log_density: float
    labels: tuple[str, ...]
    pit: FloatArray
    effective_size: float
    power_tail: float


def predict_left_out(
    posterior: EmulatedPosterior | PartialPosterior,
    samples: FloatArray,
    weight: FloatArray | None = None,
    *,
    rng: np.random.Generator,
    size: int = 4000,
) -> Prediction:
    """Return what a fit says about the data that were left out of it.

    Parameters
    ----------
    posterior : EmulatedPosterior or PartialPosterior
        A posterior with ``leave_out``.
    samples : ndarray, shape (n, n_par)
        Its samples.
    weight : ndarray, shape (n,), optional
        Their weights. Default: all equal.
    rng : numpy.random.Generator
        Source of predicted data.
    size : int
        How many data sets are drawn; of one sky they are weighted, and fewer count.

    Raises
    ------
    ConfigurationError
        If the posterior leaves nothing out.
    ConvergenceError
        If too few draws of the data of one sky count.
    """
    if isinstance(posterior, PartialPosterior):
        return _of_one_sky(posterior, samples, weight, rng=rng, size=size)
    if not posterior.left_out:
        raise ConfigurationError("the posterior leaves out no data", expected="leave_out with some of the labels")
    kept = np.ones(len(samples), dtype=bool) if weight is None else weight > 0.0
    theta = np.asarray(samples)[kept]
    share = np.full(len(theta), 1.0 / len(theta)) if weight is None else weight[kept] / weight[kept].sum()
    emulator = posterior.emulator
    folded, surrogate = emulator.folded, emulator.surrogate
    values, learnt = folded.coordinates(posterior.data, theta), folded.without_right_ascension(theta)
    unknown, known = (folded.value_labels(labels) for labels in (posterior.left_out, posterior.labels))
    x, y = _places(surrogate, unknown), _places(surrogate, known)
    rest = surrogate.marginal(known)
    log_rest = np.stack([rest.replicate(r).log_density(learnt, values[:, y]) for r in range(surrogate.replicates)])
    member = np.exp(log_rest - logsumexp(log_rest, axis=0)) * share
    drawn = np.empty((size, len(x)))
    pit, start = np.zeros(len(x)), 0
    number = rng.multinomial(size, member.sum(axis=1) / member.sum())
    for r, own in enumerate(member):
        law = _Conditional.of(surrogate.replicate(r), learnt, values, x, y)
        pit += own @ ndtr((law.score - law.mean) / np.sqrt(np.diagonal(law.covariance, axis1=1, axis2=2)))
        if not number[r]:
            continue
        chosen = rng.choice(len(theta), size=number[r], p=own / own.sum())
        whole = values[chosen]
        whole[:, x] = law.draw(chosen, rng=rng)
        drawn[start : start + number[r]] = folded.from_coordinates(whole, theta[chosen])[:, x]
        start += number[r]
    powers = np.array(x) < folded.n_power
    seen = posterior.data[x]
    # Components of a dipole are turned by parameters: only as drawn are they the same number at each vector.
    pit[~powers] = np.mean(drawn < seen, axis=0)[~powers]
    density = surrogate.conditional_log_density(learnt, values, labels=unknown, given=known)
    density = density + folded.log_jacobian(theta, posterior.data, labels=posterior.left_out)
    each = np.full(size, 1.0 / size)
    drawn, seen = _logarithms(drawn, powers), _logarithms(seen, powers)
    return Prediction(
        _p_value(drawn, seen, each), float(logsumexp(density, b=share)), posterior.left_out, pit, float(size),
        _tail(drawn[:, powers], seen[powers], each),
    )  # fmt: skip


def _of_one_sky(
    posterior: PartialPosterior,
    samples: FloatArray,
    weight: FloatArray | None,
    *,
    rng: np.random.Generator,
    size: int,
) -> Prediction:
    each = np.ones(len(samples)) if weight is None else weight
    found = predicted_of_sky(posterior, np.asarray(samples), each, rng=rng, size=size)
    x, n_power = np.array(posterior.places), sum(len(record) for record in posterior.term.spectra)
    seen, powers = posterior.term.data[x], x < n_power
    drawn, logarithms = _logarithms(found.drawn, powers), _logarithms(seen, powers)
    # Of so many draws no tail is known below half of one.
    pit = (found.effective_size * (found.weight @ (found.drawn < seen)) + 0.5) / (found.effective_size + 1.0)
    return Prediction(
        _p_value(drawn, logarithms, found.weight), found.log_density, posterior.left_out, pit, found.effective_size,
        _tail(drawn[:, powers], logarithms[powers], found.weight),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Conditional:
    """Normal law of the scores of the data x given those of y, at n vectors, in one replicate."""

    surrogate: Surrogate
    learnt: FloatArray
    score: FloatArray
    mean: FloatArray
    covariance: FloatArray
    places: list[int]

    @classmethod
    def of(
        cls, part: Surrogate, learnt: FloatArray, values: FloatArray, x: list[int], y: list[int]
    ) -> _Conditional:
        score = ndtri(np.clip(part.pit(learnt, values), _FAR, 1.0 - _FAR))
        correlation = part.correlations(learnt)[0]
        shared = correlation[:, y][:, :, x]
        gain = np.swapaxes(np.linalg.solve(correlation[:, y][:, :, y], shared), 1, 2)
        covariance = correlation[:, x][:, :, x] - gain @ shared
        return cls(part, learnt, score[:, x], np.einsum("nxy,ny->nx", gain, score[:, y]), covariance, x)

    def draw(self, chosen: IntArray, *, rng: np.random.Generator) -> FloatArray:
        """Random values of x, shape (n, n_x), at the vectors of which the places are given."""
        s, x = self.surrogate, self.places
        normal = rng.standard_normal((len(chosen), len(x)))
        factor = np.linalg.cholesky(self.covariance)[chosen]
        score = self.mean[chosen] + np.einsum("nij,nj->ni", factor, normal)
        residual = inverse_spline(score, s.knots[0, x], s.scores, s.slopes[0, x], s.tails[0, x])
        base = (base_columns(self.learnt[chosen], s.names, s.features) - s.centre) / s.spread
        basis = polynomial(base, s.exponents)
        return basis @ s.mean[0][:, x] + np.exp(basis @ s.log_scale[0][:, x]) * residual


def _places(surrogate: Surrogate, labels: Sequence[str]) -> list[int]:
    return [surrogate.labels.index(label) for label in labels]


def _logarithms(data: FloatArray, powers: NDArray[np.bool_]) -> FloatArray:
    """Data with powers as their logarithms."""
    found = np.array(data)
    found[..., powers] = np.log(found[..., powers])
    return found


def _p_value(drawn: FloatArray, seen: FloatArray, weight: FloatArray) -> float:
    """Share of weighted draws, the datum as one among them, that are at least as far from their mean as the datum."""
    offset = drawn - weight @ drawn
    covariance = (weight[:, None] * offset).T @ offset
    own = seen - weight @ drawn
    distance = np.sum(offset * np.linalg.solve(covariance, offset.T).T, axis=1)
    number = 1.0 / np.sum(weight**2)
    further = float(weight @ (distance >= own @ np.linalg.solve(covariance, own)))
    return (1.0 + number * further) / (1.0 + number)


def _tail(drawn: FloatArray, seen: FloatArray, weight: FloatArray) -> float:
    """Two-sided tail of the sum of the data among weighted draws, the datum as one among them; nan without data."""
    if not seen.size:
        return float("nan")
    number = 1.0 / np.sum(weight**2)
    below = (number * float(weight @ (drawn.sum(axis=1) < seen.sum())) + 0.5) / (number + 1.0)
    return 2.0 * min(below, 1.0 - below)


def leave_one_out(
    fitted: Emulator | Posterior,
    data: FloatArray | None = None,
    *,
    seed: int,
    priors: Mapping[str, Any] | None = None,
    measurements: Sequence[str] | Sequence[Sequence[str]] | None = None,
    effective_size: float = ImportanceSettings.effective_size,
    max_evaluations: int = ImportanceSettings.max_evaluations,
    size: int = 4000,
) -> Table:
    """Return how well each measurement is predicted by a fit of all others.

    Parameters
    ----------
    fitted : Emulator or Posterior
        Density of the data given the parameters: an emulator, or a posterior of several records of one sky.
    data : ndarray, shape (n_data,), optional
        Of an emulator, as `EmulatedPosterior`.
    seed : int
        Seed of all fits; each has random numbers of its own.
    priors : mapping, optional
        Of an emulator, as `EmulatedPosterior`; a posterior has its own.
    measurements : sequence of str, or of sequences of str, optional
        What is left out, one after another: measurements, or several together, such as all of one energy. Default:
        each measurement alone.
    effective_size, max_evaluations
        As `run_importance`.
    size : int
        As `predict_left_out`.

    Returns
    -------
    astropy.table.Table
        One row for each: left_out, energy_tev (mean of its data), numbers, p_value, log_density and power_tail of
        `Prediction`, smallest_tail (of its data one by one, two-sided and times their number, at most one), samples
        (effective number of the fit) and draws (that of predicted data). With k rows, a p-value below 0.05 / k is
        needed before one of them means something.

    Raises
    ------
    ConfigurationError
        If a measurement is unknown.
    ConvergenceError
        As `run_importance`.
    """
    if isinstance(fitted, Posterior) and (data is not None or priors is not None):
        raise ConfigurationError(
            "a posterior has data and priors of its own",
            expected="leave_one_out(posterior) without data and priors",
        )
    labels = one_sky_term(fitted).labels if isinstance(fitted, Posterior) else fitted.labels
    if measurements is None:
        measurements = tuple(dict.fromkeys(label.rpartition(" ")[0] for label in labels))
    groups = [(group,) if isinstance(group, str) else tuple(group) for group in measurements]
    # All names are looked at before the first fit.
    posteriors = [
        PartialPosterior(fitted, group)
        if isinstance(fitted, Posterior)
        else EmulatedPosterior(fitted, data, priors=priors, leave_out=group)
        for group in groups
    ]
    rows = []
    for group, posterior in zip(groups, posteriors, strict=True):
        found = run_importance(
            posterior, rng=child_generator(seed, "left out", *group), effective_size=effective_size,
            max_evaluations=max_evaluations,
        )  # fmt: skip
        drawing = child_generator(seed, "predicted", *group)
        rows.append((", ".join(group), *_row(posterior, found, size, drawing), found.effective_size))
    names = (
        "left_out", "energy_tev", "numbers", "p_value", "log_density", "smallest_tail", "power_tail", "draws",
        "samples",
    )  # fmt: skip
    return Table(rows=rows, names=names)


def _row(
    posterior: EmulatedPosterior | PartialPosterior, found: WeightedSamples, size: int, rng: np.random.Generator
) -> tuple[float, int, float, float, float, float, float]:
    """What a table says of one prediction, between its name and the samples of the fit."""
    predicted = predict_left_out(posterior, found.theta, found.weight, rng=rng, size=size)
    tails = 2.0 * np.minimum(predicted.pit, 1.0 - predicted.pit)
    return (
        float(left_out_energy(posterior).mean()), len(tails), predicted.p_value, predicted.log_density,
        min(1.0, float(tails.min()) * len(tails)), predicted.power_tail, predicted.effective_size,
    )  # fmt: skip


def left_out_energy(posterior: EmulatedPosterior | PartialPosterior) -> FloatArray:
    """Return the median energy of each datum that a posterior leaves out, in TeV, shape (n,)."""
    if isinstance(posterior, PartialPosterior):
        return posterior.energy_tev
    labels = posterior.emulator.labels
    return posterior.emulator.folded.energy_tev[[labels.index(label) for label in posterior.left_out]]
