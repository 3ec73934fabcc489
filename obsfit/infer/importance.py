"""Posteriors by adaptive importance sampling: weighted samples and the evidence, no chain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, ndtr, ndtri
from tqdm import tqdm

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ConvergenceError, ObsfitError
from obsfit.infer.circles import circles_of
from obsfit.infer.run_store import refuse_existing
from obsfit.infer.target import Target as Target
from obsfit.infer.target import checksums_of, description_of
from obsfit.infer.weighted_samples import FORMAT, FORMAT_VERSION, WeightedSamples, tempered
from obsfit.parameters import FloatArray, log_density, sum_densities
from obsfit.provenance import stamp

logger = logging.getLogger(__name__)

NU = 8.0
# Quantiles of the prior are kept this far from 0 and 1, where its quantile function may return infinity.
EDGE = 1e-15
# Laws of scipy.stats of parameters that proposals also take as they are: in normal scores, ridges that run into the
# edge of a prior are bent there, and proposals miss their ends.
LEVEL = ("uniform", "loguniform", "reciprocal")
UNIFORM_WIDTH = np.sqrt(12.0)  # of a law of unit variance
SHORTENING = np.array([1.0, 0.5, 0.2, 0.05, 0.01])
PRIOR_DRAWS = 100
LAPLACE_DRAWS = 200
# Draws of so many proposals, this number for each parameter within these limits, serve to fit the next ones alone.
LEARNING, LEARNING_DRAWS, LEARNING_LIMITS = 3, 25, (100, 300)
COMPONENTS = 3
# Proposals are fitted to the posterior to this power: too wide a proposal costs little, too narrow a one misses tails.
HEAT = 0.6
# A proposal is given up only if fewer of its draws are effective, and less and less is asked of later ones: to give up
# whenever a large weight appears would select proposals that have not yet met the tails.
EFFICIENCY = 0.1
PATIENCE = 0.7


@dataclass(frozen=True)
class ImportanceSettings:
    """How many samples to take.

    Attributes
    ----------
    effective_size : float
        Effective number of samples at which to stop. Of 400, the probability below either edge of a 68 %
        interval is known to 0.018.
    max_evaluations : int
        Vectors at which to give up.
    """

    __pydantic_config__ = FORBID

    effective_size: float = 400.0
    max_evaluations: int = 20_000

    def __post_init__(self) -> None:
        for name in ("effective_size", "max_evaluations"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"importance.{name} = {getattr(self, name)}", expected="a number above 0")


def run_importance(
    posterior: Target,
    *,
    rng: np.random.Generator,
    effective_size: float = ImportanceSettings.effective_size,
    max_evaluations: int = ImportanceSettings.max_evaluations,
    store: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> WeightedSamples:
    r"""Return weighted samples of a posterior with one prominent maximum, and its evidence.

    Parameters are mapped to :math:`z = \Phi^{-1}(F(\theta))` with the distribution functions F of their priors, so
    that the prior is a standard normal law and has no edges. Quasi-Newton steps from the best of some draws of the
    prior lead to the maximum, whose curvature gives the first proposal, a multivariate t of eight degrees of freedom.
    The range of a circular parameter is counted from opposite to that best draw, so that it has no end near.
    Each later proposal is a mixture of such laws fitted to the weighted draws of all before (population Monte Carlo
    with Rao-Blackwellised updates, Cappe et al. 2008, Stat. Comput. 18, 447), slightly widened; where priors are
    uniform, half of it is fitted in z, half in coordinates in which they are uniform, as ridges that run into the edge
    of such a prior are straight there and bent in z. The first three serve for the next fit alone; the fourth is kept,
    if it is not hopeless. Only the draws of the last proposal, which was fitted without them, are returned, weighted by
    posterior over proposal, when

    .. math:: \mathrm{ESS} = \Big(\sum_i w_i\Big)^2 \Big/ \sum_i w_i^2

    is what was asked for. Well-separated maxima are not searched for: those that the draws of the prior miss are
    missed.

    Nearly normal posteriors of three parameters take 1200 to 1450 vectors for 400 effective samples, the joint
    posteriors of `OneSkyTerm` with 13 parameters 2500 on average for 200; emcee takes more than 150 000.

    Parameters
    ----------
    posterior : Target
        For example `obsfit.Posterior`; evaluated on many vectors at once.
    rng : numpy.random.Generator
        Source of all draws.
    effective_size : float
        Effective number of samples at which to stop.
    max_evaluations : int
        Vectors at which to give up.
    store : path, optional
        HDF5 file that gets the result, read by `WeightedSamples.load`. There is none of an unfinished run.
    overwrite : bool
        Replace an existing `store` instead of refusing.
    progress : bool
        Show a progress bar on stderr.
    seed : int, optional
        Seed from which `rng` was made, for the record only.
    configuration : mapping, optional
        Resolved configuration, stored in the result.

    Returns
    -------
    WeightedSamples

    Raises
    ------
    ConvergenceError
        If the effective size is not reached; the message carries the numbers.
    ConfigurationError
        If the store exists and is not to be replaced; nothing is evaluated then.
    ObsfitError
        If the posterior vanishes at all draws of the prior.
    """
    path = None if store is None else Path(store)
    refuse_existing(path, overwrite=overwrite)
    with tqdm(total=max_evaluations, unit="vector", disable=not progress, leave=False) as bar:

        def show(evaluations: int, reached: float) -> None:
            bar.n = evaluations
            bar.set_postfix_str(f"{reached:.0f} of {effective_size:.0f} effective samples")

        provenance = _provenance(posterior, seed, configuration)
        found = _sampled(posterior, rng, effective_size, max_evaluations, provenance, show)
    if path is not None:
        found.save(path, overwrite=overwrite)
    return found


def _provenance(posterior: Target, seed: int | None, configuration: Mapping[str, Any] | None) -> dict[str, Any]:
    data = checksums_of(posterior)
    head = stamp(FORMAT, format_version=FORMAT_VERSION, seed=seed, configuration=configuration, data=data)
    return head | description_of(posterior)


def _sampled(
    posterior: Target,
    rng: np.random.Generator,
    effective_size: float,
    max_evaluations: int,
    provenance: Mapping[str, Any],
    show: Callable[[int, float], None],
) -> WeightedSamples:
    """The samples; `show` is told how many vectors were evaluated, and how many samples of the last proposal count."""
    target = _NormalPrior(posterior)
    rounds = _Rounds(target, rng)
    n_par = len(posterior.parameters)
    rounds.draw(_Mixture(np.ones(1), np.zeros((1, n_par)), np.eye(n_par)[None], np.inf), PRIOR_DRAWS)
    if not np.isfinite(rounds.value).any():
        raise ObsfitError(
            f"the posterior vanishes at {PRIOR_DRAWS} draws of the prior",
            expected="parameters inside the prior at which the model and the likelihood are defined",
            remedy="Check the priors and the range of validity of the model.",
        )
    rounds.turn_to(target.to_theta(rounds.z[[np.argmax(rounds.value)]])[0])
    show(target.evaluations, 0.0)
    centre, covariance = _laplace(target, rounds.z[np.argmax(rounds.value)])
    rounds.draw(_Mixture(np.ones(1), centre[None], covariance[None], NU), LAPLACE_DRAWS)
    components, wanted_efficiency = 1, EFFICIENCY
    for _ in range(LEARNING):
        number = int(np.clip(LEARNING_DRAWS * n_par, *LEARNING_LIMITS))
        _refuse_more(target.evaluations, number, max_evaluations, 0.0, effective_size)
        rounds.draw(rounds.fitted(components), number)
        show(target.evaluations, rounds.effective_size())
        components = COMPONENTS
    while True:
        proposal = rounds.fitted(components)
        own, kept, reached = 0, 0, 0.0
        expected = np.clip(rounds.effective_size() / len(rounds.z), 0.2, 0.8)
        while own == 0 or reached / own >= wanted_efficiency:
            number = int(np.clip(1.1 * (effective_size - reached) / expected, 150, 300 if own == 0 else 1000))
            _refuse_more(target.evaluations, number, max_evaluations, reached, effective_size)
            kept += rounds.draw(proposal, number)
            own += number
            z, value = rounds.z[len(rounds.z) - kept :], rounds.value[len(rounds.z) - kept :]
            log_weight = value - proposal.log_density(z)
            weight = np.exp(log_weight - logsumexp(log_weight))
            reached = float(1.0 / np.sum(weight**2))
            expected = max(reached / own, 0.1)
            show(target.evaluations, reached)
            logger.debug("%d evaluations: %.0f of %d draws effective", target.evaluations, reached, own)
            if reached >= effective_size:
                return WeightedSamples(
                    tuple(p.name for p in posterior.parameters),
                    tuple(p.label for p in posterior.parameters),
                    tuple(p.unit for p in posterior.parameters),
                    target.to_theta(z),
                    weight,
                    value + target.log_measure(z),
                    target.to_theta(rounds.z[[np.argmax(rounds.value)]])[0],
                    reached,
                    float(logsumexp(log_weight) - np.log(own)),
                    float(np.sqrt(max(1.0 / reached - 1.0 / own, 0.0))),
                    target.evaluations,
                    provenance,
                )
        wanted_efficiency *= PATIENCE


def _refuse_more(evaluations: int, number: int, allowed: int, reached: float, wanted: float) -> None:
    """Refuse a round of so many draws that would take more evaluations than are allowed."""
    if evaluations + number > allowed:
        raise ConvergenceError(
            f"effective sample size {reached:.0f} after {evaluations} evaluations",
            expected=f"{wanted:.0f} within {allowed}",
            remedy="Raise max_evaluations, or use run_emcee: the posterior may be far from normal, or have several "
            "maxima.",
        )


class _NormalPrior:
    """A posterior as a density of z, in which the prior is a standard normal law; counts its evaluations."""

    def __init__(self, posterior: Target) -> None:
        self._posterior = posterior
        self._densities = [log_density(p.prior) for p in posterior.parameters]
        self._circles = circles_of(posterior.parameters)
        self.has_circles = any(circle is not None for circle in self._circles)
        self.n_par = len(posterior.parameters)
        self.level = np.array([p.prior.dist.name in LEVEL for p in posterior.parameters])
        self.evaluations = 0
        # Quantiles of circular parameters are counted from here; none of others, which are at zero.
        self._start = np.zeros(self.n_par)

    def turned(self, z: FloatArray, theta: FloatArray) -> FloatArray:
        """The parameters at z (n, n_par), as z from now on: circles are counted from opposite to theta (n_par,)."""
        found = z.copy()
        for column, circle in enumerate(self._circles):
            if circle is not None:
                start = np.mod((theta[column] - circle.low) / circle.period + 0.5, 1.0)
                quantile = np.mod(ndtr(z[:, column]) + self._start[column] - start, 1.0)
                found[:, column] = ndtri(np.clip(quantile, EDGE, 1.0 - EDGE))
                self._start[column] = start
        return found

    def to_theta(self, z: FloatArray) -> FloatArray:
        quantile = np.clip(ndtr(z), EDGE, 1.0 - EDGE)
        quantile = np.where(self._start > 0.0, np.mod(quantile + self._start, 1.0), quantile)
        return np.column_stack(
            [p.prior.ppf(column) for p, column in zip(self._posterior.parameters, quantile.T, strict=True)]
        )

    def from_theta(self, theta: FloatArray) -> FloatArray:
        quantile = [p.prior.cdf(column) for p, column in zip(self._posterior.parameters, theta.T, strict=True)]
        return ndtri(np.clip(np.column_stack(quantile), EDGE, 1.0 - EDGE))

    def log_measure(self, z: FloatArray) -> FloatArray:
        """Log of the density of theta over that of z, shape (n,)."""
        return sum_densities(self._densities, self.to_theta(z)) - _log_normal(z)

    def __call__(self, z: FloatArray) -> FloatArray:
        theta = self.to_theta(z)
        self.evaluations += len(theta)
        value = self._posterior.log_prob(theta)
        inside = np.isfinite(value)
        found = np.full(len(z), -np.inf)
        prior = sum_densities(self._densities, theta[inside])
        found[inside] = value[inside] - prior + _log_normal(z[inside])
        return found


def _log_normal(z: FloatArray) -> FloatArray:
    return -0.5 * np.sum(z**2, axis=1) - 0.5 * z.shape[1] * np.log(2.0 * np.pi)


class _Proposal(Protocol):
    """A law of z from which draws can be made."""

    def log_density(self, z: FloatArray) -> FloatArray: ...

    def draw(self, size: int, *, rng: np.random.Generator) -> FloatArray: ...


@dataclass(frozen=True)
class _Mixture:
    """Mixture of multivariate t laws; of normal laws for infinitely many degrees of freedom."""

    share: FloatArray
    centre: FloatArray
    scale: FloatArray
    nu: float

    def distances(self, z: FloatArray) -> FloatArray:
        """Squared distance of each sample from each centre, shape (n, k)."""
        root = np.linalg.cholesky(self.scale)
        offset = z[None] - self.centre[:, None]
        return np.sum(np.linalg.solve(root, np.swapaxes(offset, 1, 2)) ** 2, axis=1).T

    def log_parts(self, z: FloatArray) -> FloatArray:
        """Log of share times density of each component, shape (n, k)."""
        d = z.shape[1]
        half = 0.5 * np.linalg.slogdet(self.scale)[1]
        squared = self.distances(z)
        if np.isinf(self.nu):
            return np.log(self.share) - half - 0.5 * d * np.log(2.0 * np.pi) - 0.5 * squared
        nu = self.nu
        constant = gammaln(0.5 * (nu + d)) - gammaln(0.5 * nu) - 0.5 * d * np.log(nu * np.pi)
        return np.log(self.share) + constant - half - 0.5 * (nu + d) * np.log1p(squared / nu)

    def log_density(self, z: FloatArray) -> FloatArray:
        return np.asarray(logsumexp(self.log_parts(z), axis=1))

    def draw(self, size: int, *, rng: np.random.Generator) -> FloatArray:
        which = rng.choice(self.share.size, size=size, p=self.share)
        normal = rng.normal(size=(size, self.centre.shape[1]))
        stretch = np.ones(size) if np.isinf(self.nu) else np.sqrt(self.nu / rng.chisquare(self.nu, size=size))
        root = np.linalg.cholesky(self.scale)[which]
        return self.centre[which] + stretch[:, None] * np.einsum("nij,nj->ni", root, normal)


@dataclass(frozen=True)
class _Levelled:
    """A law of coordinates in which the prior of some parameters is uniform, of unit variance, as one of z.

    Draws beyond the ends of these priors are not a number.
    """

    law: _Mixture
    level: NDArray[np.bool_]

    def log_density(self, z: FloatArray) -> FloatArray:
        slope = np.where(self.level, -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) + np.log(UNIFORM_WIDTH), 0.0)
        return self.law.log_density(_levelled(z, self.level)) + slope.sum(axis=1)

    def draw(self, size: int, *, rng: np.random.Generator) -> FloatArray:
        drawn = self.law.draw(size, rng=rng)
        return np.where(self.level, ndtri(drawn / UNIFORM_WIDTH + 0.5), drawn)


def _levelled(z: FloatArray, level: NDArray[np.bool_]) -> FloatArray:
    """The coordinates of `_Levelled` at z (n, n_par)."""
    return np.where(level, UNIFORM_WIDTH * (ndtr(z) - 0.5), z)


@dataclass(frozen=True)
class _Either:
    """One of two laws, with equal probability."""

    laws: tuple[_Proposal, _Proposal]

    def log_density(self, z: FloatArray) -> FloatArray:
        return np.asarray(np.logaddexp(*(law.log_density(z) for law in self.laws)) - np.log(2.0))

    def draw(self, size: int, *, rng: np.random.Generator) -> FloatArray:
        # in random order: errors are told by blocks of consecutive samples
        first = rng.random(size) < 0.5
        drawn = [law.draw(int(rows.sum()), rng=rng) for law, rows in zip(self.laws, (first, ~first), strict=True)]
        found = np.empty((size, drawn[0].shape[1]))
        found[first], found[~first] = drawn
        return found


class _Rounds:
    """All draws of all proposals so far, and the weights that they have together."""

    def __init__(self, target: _NormalPrior, rng: np.random.Generator) -> None:
        self._target, self._rng = target, rng
        self._proposals: list[_Proposal] = []
        self._counts: list[int] = []
        self.z = np.empty((0, target.n_par))
        self.value = np.empty(0)

    def turn_to(self, theta: FloatArray) -> None:
        """Count circular parameters from opposite to theta (n_par,); draws so far, of the prior, remain such."""
        if not self._target.has_circles:
            return
        log_likelihood = self.value - _log_normal(self.z)
        self.z = self._target.turned(self.z, theta)
        self.value = log_likelihood + _log_normal(self.z)

    def draw(self, proposal: _Proposal, number: int) -> int:
        """Evaluate the target at draws of a proposal, and return how many of them are inside the prior.

        Consecutive draws of one proposal count as one round.
        """
        drawn = proposal.draw(number, rng=self._rng)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        self.z = np.concatenate([self.z, drawn])
        self.value = np.concatenate([self.value, self._target(drawn)])
        if self._proposals and self._proposals[-1] is proposal:
            self._counts[-1] += number
        else:
            self._proposals.append(proposal)
            self._counts.append(number)
        return len(drawn)

    def _log_mixture(self) -> FloatArray:
        """Log density of the mixture of all proposals by their numbers of draws, at all draws."""
        share = np.array(self._counts) / sum(self._counts)
        log_q = np.stack([proposal.log_density(self.z) for proposal in self._proposals])
        return np.asarray(logsumexp(log_q, axis=0, b=share[:, None]))

    def effective_size(self) -> float:
        """Effective number of all draws."""
        log_weight = self.value - self._log_mixture()
        return float(np.exp(2.0 * logsumexp(log_weight) - logsumexp(2.0 * log_weight)))

    def fitted(self, components: int) -> _Proposal:
        """Mixtures fitted to all draws: in normal scores of the prior, and with uniform priors as they are."""
        log_weight = HEAT * self.value - self._log_mixture()
        weight = tempered(log_weight, 5.0 * self.z.shape[1] + 10.0)
        level = self._target.level
        scores = _fitted(self.z, weight, components, rng=self._rng)
        if not level.any():
            return scores
        straight = _fitted(_levelled(self.z, level), weight, components, rng=self._rng)
        return _Either((scores, _Levelled(straight, level)))


def _fitted(
    z: FloatArray, weight: FloatArray, components: int, *, rng: np.random.Generator, iterations: int = 20
) -> _Mixture:
    """The mixture of t laws that is nearest to weighted samples in relative entropy, by expectation maximisation."""
    n_par = z.shape[1]
    mean = weight @ z
    offset = z - mean
    whole = (weight[:, None] * offset).T @ offset
    whole += 1e-10 * np.trace(whole) / n_par * np.eye(n_par)
    if components == 1:
        start = _Mixture(np.ones(1), mean[None], whole[None] * (NU - 2.0) / NU, NU)
    else:
        centres = z[rng.choice(len(z), size=components, p=weight)]
        start = _Mixture(
            np.full(components, 1.0 / components), centres, np.repeat(0.5 * whole[None], components, 0), NU
        )
    mixture = start
    effective = 1.0 / np.sum(weight**2)
    for _ in range(iterations):
        parts = mixture.log_parts(z)
        member = weight[:, None] * np.exp(parts - logsumexp(parts, axis=1, keepdims=True))
        share = member.sum(0)
        # A component needs samples of its own for its covariance.
        kept = share * effective >= n_par + 2.0
        if not kept.any():
            break
        pull = member * (NU + n_par) / (NU + mixture.distances(z))
        member, pull, share = member[:, kept], pull[:, kept], share[kept]
        centre = (pull.T @ z) / pull.sum(0)[:, None]
        offset = z[None] - centre[:, None]
        scale = np.einsum("nk,kni,knj->kij", pull, offset, offset) / share[:, None, None]
        # Towards the whole, as far as few samples leave the scale uncertain; tails too thin would cost weight.
        trust = (share * effective / (share * effective + n_par + 1.0))[:, None, None]
        scale = trust * scale + (1.0 - trust) * whole
        mixture = _Mixture(share / share.sum(), centre, scale, NU)
    return mixture


def _laplace(target: _NormalPrior, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The maximum near a point, by quasi-Newton steps, and minus the inverse of the second derivatives there.

    On the way, gradients and the diagonal of the second derivatives tell enough (BFGS); all of them, which take as
    many evaluations as seven gradients in 14 dimensions, are taken at the end alone.
    """
    z, steps = start, np.full(start.size, 0.05)
    best, gradient, diagonal, steps = _gradient(target, z, steps)
    curvature = np.diag(_upright(diagonal))
    for _ in range(12 + 2 * z.size):
        move = np.linalg.solve(curvature, gradient)
        if gradient @ move < 0.3:
            break
        move *= min(1.0, 3.0 / float(np.linalg.norm(move)))
        tried = z + SHORTENING[:, None] * move
        value = target(tried)
        if not value.max() > best:
            break
        step = tried[np.argmax(value)] - z
        z = z + step
        old, before = gradient, best
        steps = np.clip(0.3 / np.sqrt(np.diag(curvature)), 1e-4, 0.3)
        best, gradient, diagonal, steps = _gradient(target, z, steps)
        change = old - gradient
        if step @ change > 0.05 * step @ step:
            bent = curvature @ step
            curvature += np.outer(change, change) / (step @ change) - np.outer(bent, bent) / (step @ bent)
        if best - before < 0.05:
            break
    best, gradient, second = _derivatives(target, z, np.clip(0.3 / np.sqrt(np.diag(curvature)), 1e-4, 0.3))
    values, vectors = np.linalg.eigh(-second)
    covariance = (vectors / _upright(values)) @ vectors.T
    move = covariance @ gradient
    if gradient @ move > 0.05:
        tried = z + SHORTENING[:, None] * move * min(1.0, 3.0 / float(np.linalg.norm(move)))
        value = target(tried)
        if value.max() > best:
            z = tried[np.argmax(value)]
    return z, covariance


def _upright(curvature: FloatArray) -> FloatArray:
    """Curvatures made positive; where a likelihood is not concave, their size still tells the scale."""
    return np.maximum(np.abs(curvature), 0.3)


def _gradient(
    target: _NormalPrior, z: FloatArray, steps: FloatArray
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Value, gradient (d,), minus the diagonal of the second derivatives (d,) at a point, and the steps taken."""
    d = z.size
    for _ in range(20):
        value = target(z + np.concatenate([np.zeros((1, d)), np.diag(steps), -np.diag(steps)]))
        if np.isfinite(value).all():
            break
        steps = 0.5 * steps
    else:
        raise _beside()
    centre, up, down = value[0], value[1 : d + 1], value[d + 1 :]
    return float(centre), (up - down) / (2.0 * steps), (2.0 * centre - up - down) / steps**2, steps


def _beside() -> ObsfitError:
    return ObsfitError(
        "the posterior vanishes beside its best point",
        expected="a posterior that is continuous at its maximum",
    )


def _derivatives(target: _NormalPrior, z: FloatArray, steps: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Value, gradient (d,) and second derivatives (d, d) at a point, by differences over `steps` (d,)."""
    d = z.size
    first, second = np.triu_indices(d, 1)
    for _ in range(20):
        shift = np.diag(steps)
        pair = shift[first] + shift[second]
        value = target(z + np.concatenate([np.zeros((1, d)), shift, -shift, pair, -pair]))
        if np.isfinite(value).all():
            break
        steps = 0.5 * steps
    else:
        raise _beside()
    centre, up, down = value[0], value[1 : d + 1], value[d + 1 : 2 * d + 1]
    both, neither = np.split(value[2 * d + 1 :], 2)
    curvature = np.diag((up - 2.0 * centre + down) / steps**2)
    single = up + down
    mixed = (both + neither - single[first] - single[second] + 2.0 * centre) / (2.0 * steps[first] * steps[second])
    curvature[first, second] = curvature[second, first] = mixed
    return float(centre), (up - down) / (2.0 * steps), curvature
