r"""The evidence of a model by nested sampling, and how it changes with the priors.

The evidence is the mean of the likelihood over the prior,

.. math:: Z = \int L(\theta)\, \pi(\theta)\, d\theta .

The ratio of two evidences is how the same data change the odds of two models. It depends on priors as much as on
likelihoods: a prior that is ten times as wide as the data allow costs ln 10 for each such parameter. A number without
`prior_sensitivity` beside it says little.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from scipy.special import logsumexp, ndtri
from tqdm import tqdm

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ConvergenceError, ObsfitError
from obsfit.infer.diagnostics import sample_sizes
from obsfit.infer.information import stored_priors
from obsfit.infer.result import FitResult
from obsfit.infer.run_store import refuse_existing
from obsfit.infer.target import Target, checksums_of, description_of
from obsfit.infer.weighted_samples import FORMAT, FORMAT_VERSION, WeightedSamples
from obsfit.parameters import FloatArray, log_density, sum_densities
from obsfit.provenance import stamp

__all__ = ["Evidence", "NestedSettings", "nested_evidence", "prior_sensitivity"]

# Quantiles of the prior are kept this far from 0 and 1, where its quantile function may return infinity.
EDGE = 1e-15
# Likelihoods that vanish are this small instead: nested sampling orders points by their likelihood.
NONE = -1e300
FEWEST = 50.0
"""Effective samples below which a reweighted evidence is not given."""
BEYOND = 1e-3
"""Probability of another prior outside the prior of the fit from which on its evidence is not given."""


@dataclass(frozen=True)
class NestedSettings:
    """How finely to sample.

    Attributes
    ----------
    live : int
        Points that are kept at all times. The error of the logarithm of the evidence is about the root of the
        information in nats over this number.
    max_evaluations : int
        Evaluations at which to give up.
    """

    __pydantic_config__ = FORBID

    live: int = 400
    max_evaluations: int = 500_000

    def __post_init__(self) -> None:
        if self.live < 20:
            raise ConfigurationError(f"nested.live = {self.live}", expected="at least 20")
        if self.max_evaluations <= self.live:
            raise ConfigurationError(
                f"nested.max_evaluations = {self.max_evaluations}", expected=f"more than live = {self.live}"
            )


@dataclass(frozen=True)
class Evidence:
    """The evidence of a model, and the samples that come with it.

    Attributes
    ----------
    log_evidence, error : float
        Natural logarithm of the mean of the likelihood over the prior, and its standard error.
    information : float
        Divergence of the posterior of all parameters together from the prior, in bits.
    samples : WeightedSamples
        Of the posterior; their order means nothing.
    """

    log_evidence: float
    error: float
    information: float
    samples: WeightedSamples


def nested_evidence(
    posterior: Target,
    *,
    rng: np.random.Generator,
    live: int = NestedSettings.live,
    max_evaluations: int = NestedSettings.max_evaluations,
    store: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> Evidence:
    """Return the evidence of a model by nested sampling (Skilling 2006, Bayesian Analysis 1, 833) with dynesty.

    It finds several maxima and long degeneracies, where `run_importance` finds one maximum, and needs ten to a hundred
    times its evaluations, one vector at a time. Where both are possible, their evidences test each other.

    Parameters
    ----------
    posterior : Target
        For example `obsfit.Posterior`.
    rng : numpy.random.Generator
        Source of all draws.
    live, max_evaluations : int
        As `NestedSettings`.
    store : path, optional
        HDF5 file that gets the samples, read by `WeightedSamples.load`. There is none of an unfinished run.
    overwrite : bool
        Replace an existing `store` instead of refusing.
    progress : bool
        Show a progress bar on stderr.
    seed : int, optional
        Seed from which `rng` was made, for the record only.
    configuration : mapping, optional
        Resolved configuration, stored in the result.

    Raises
    ------
    ConfigurationError
        If dynesty is not installed, if a setting makes no sense, or if the store exists and is not to be replaced.
    ConvergenceError
        If evaluations run out; the message carries the numbers.
    ObsfitError
        If the likelihood vanishes at all draws of the prior.
    """
    settings = NestedSettings(live, max_evaluations)
    path = None if store is None else Path(store)
    refuse_existing(path, overwrite=overwrite)
    dynesty = _dynesty()
    parameters = posterior.parameters
    quantiles = [_quantile(p.prior) for p in parameters]
    densities = [log_density(p.prior) for p in parameters]
    evaluations = 0

    def to_theta(unit: FloatArray) -> FloatArray:
        inside = np.clip(unit, EDGE, 1.0 - EDGE)
        return np.array([of(q) for of, q in zip(quantiles, inside, strict=True)], dtype=np.float64)

    def log_likelihood(theta: FloatArray) -> float:
        nonlocal evaluations
        evaluations += 1
        value = float(posterior.log_prob(theta[None])[0])
        return value - float(sum_densities(densities, theta[None])[0]) if np.isfinite(value) else NONE

    with warnings.catch_warnings(), tqdm(unit="vector", disable=not progress, leave=False) as bar:
        # Its advice on its own options; warnings of models and likelihoods pass.
        warnings.filterwarnings("ignore", module="dynesty")

        def show(*_: Any, **__: Any) -> None:
            bar.update(evaluations - bar.n)

        points = _first_points(posterior, settings.live, to_theta, log_likelihood, rng)
        sampler = dynesty.NestedSampler(
            log_likelihood, to_theta, len(parameters), nlive=settings.live, rstate=rng, live_points=points
        )
        sampler.run_nested(
            maxcall=settings.max_evaluations - evaluations, print_progress=progress, print_func=show
        )
        found = sampler.results
    if evaluations >= settings.max_evaluations:
        raise ConvergenceError(
            f"nested sampling has not reached the maximum after {evaluations} evaluations with {settings.live} points",
            expected="a negligible share of the evidence above the likelihoods that were reached",
            remedy="Raise max_evaluations, or lower live at the cost of a larger error.",
        )
    # Samples come in the order of their likelihood, which blocks of them must not share.
    order = rng.permutation(len(found.logl))
    weight = np.exp(found.logwt - logsumexp(found.logwt))[order]
    theta, log_l = np.asarray(found.samples)[order], np.asarray(found.logl)[order]
    log_z, error = float(found.logz[-1]), float(found.logzerr[-1])
    head = stamp(
        FORMAT, format_version=FORMAT_VERSION, seed=seed, configuration=configuration, data=checksums_of(posterior)
    )
    log_prob = np.where(log_l > NONE, log_l + sum_densities(densities, theta), -np.inf)
    samples = WeightedSamples(
        tuple(p.name for p in parameters), tuple(p.label for p in parameters), tuple(p.unit for p in parameters),
        theta, weight, log_prob, theta[np.argmax(log_l)], float(1.0 / np.sum(weight**2)), log_z, error,
        evaluations, {**head, **description_of(posterior)},
    )  # fmt: skip
    if path is not None:
        samples.save(path, overwrite=overwrite)
    return Evidence(log_z, error, float(found.information[-1] / np.log(2.0)), samples)


def _quantile(prior: Any) -> Callable[[float], float]:
    """Quantile function of a prior, written out where scipy's checks would cost more than most likelihoods."""
    shape, loc, scale = prior.dist._parse_args(*prior.args, **prior.kwds)
    if not shape and prior.dist.name == "uniform":
        return lambda q: loc + scale * q
    if not shape and prior.dist.name == "norm":
        return lambda q: loc + scale * float(ndtri(q))
    return lambda q: float(prior.ppf(q))


def _first_points(
    posterior: Target,
    live: int,
    to_theta: Callable[[FloatArray], FloatArray],
    log_likelihood: Callable[[FloatArray], float],
    rng: np.random.Generator,
) -> list[FloatArray]:
    """Draws of the prior with their log likelihoods: the first points that are kept."""
    unit = rng.uniform(size=(live, len(posterior.parameters)))
    theta = np.array([to_theta(row) for row in unit])
    value = np.array([log_likelihood(row) for row in theta])
    if not np.any(value > NONE):
        raise ObsfitError(
            f"the likelihood vanishes at {live} draws of the prior",
            expected="parameters inside the prior at which the model and the likelihood are defined",
            remedy="Check the priors and the range of validity of the model.",
        )
    return [unit, theta, value]


def _dynesty() -> Any:
    try:
        return importlib.import_module("dynesty")
    except ImportError as error:
        raise ConfigurationError(
            "nested sampling needs the package dynesty",
            expected="the extra 'emulator'",
            remedy="Install it: pip install 'obsfit[emulator]'; or use run_importance (method = \"importance\").",
        ) from error


def prior_sensitivity(
    samples: FitResult | WeightedSamples, alternatives: Mapping[str, Mapping[str, Any]]
) -> Table:
    r"""Return how the logarithm of the evidence changes under other priors, by reweighting the samples of a fit.

    .. math:: \ln \frac{Z'}{Z} = \ln \sum_i w_i r_i, \qquad
              r_i = \frac{\pi'(\theta_i)}{\pi(\theta_i)}, \qquad
              \mathrm{ESS} = \frac{(\sum_i w_i r_i)^2}{\sum_i (w_i r_i)^2} .

    No likelihood is evaluated. Nothing is known of the likelihood where the fit had no prior, and little where it had
    few samples: the change is nan then, and the reason stands beside it.

    Parameters
    ----------
    samples : FitResult or WeightedSamples
        Samples of the fit, with the priors that it stores.
    alternatives : mapping of str to mapping
        By a name of your own, other priors of some of the parameters: frozen scipy.stats distributions by name.

    Returns
    -------
    astropy.table.Table
        One row for each alternative: priors (its name), change (of the natural logarithm of the evidence), error,
        effective_size (number of independent samples after reweighting) and reason (why there is no number).

    Raises
    ------
    ConfigurationError
        If an alternative names no parameter, or the fit does not store the prior of one that it names.

    Examples
    --------
    A flat likelihood over a flat prior: half the prior leaves the evidence as it was.

    >>> from scipy import stats
    >>> theta = np.random.default_rng(1).uniform(size=(2000, 1))
    >>> told = {"parameters": [{"name": "a", "prior": "uniform", "args": [0.0, 1.0]}]}
    >>> flat = WeightedSamples(("a",), ("a",), ("",), theta, np.full(2000, 1 / 2000), np.zeros(2000), theta[0],
    ...                        2000.0, 0.0, 0.0, 2000, told)
    >>> other = {"lower half": {"a": stats.uniform(0.0, 0.5)}, "wider": {"a": stats.uniform(0.0, 2.0)}}
    >>> table = prior_sensitivity(flat, other)
    >>> bool(abs(table["change"][0]) < 4 * table["error"][0])
    True
    >>> print(table["reason"][1])
    0.5 of the prior of a lies outside that of the fit
    """
    if isinstance(samples, WeightedSamples):
        theta, weight, worth = samples.theta, samples.weight, 1.0
    else:
        kept = samples.chain[samples.burn_in :]
        theta = kept.reshape(-1, len(samples.names))
        weight = np.full(len(theta), 1.0 / len(theta))
        worth = min(1.0, float(np.min(sample_sizes(kept, samples.circles)[0])) / len(theta))
    known = dict(zip(samples.names, stored_priors(samples.provenance, samples.names), strict=True))
    rows = [(name, *_change(theta, weight, worth, samples.names, known, p)) for name, p in alternatives.items()]
    return Table(rows=rows, names=("priors", "change", "error", "effective_size", "reason"))


def _change(
    theta: FloatArray,
    weight: FloatArray,
    worth: float,
    names: tuple[str, ...],
    known: Mapping[str, Any],
    other: Mapping[str, Any],
) -> tuple[float, float, float, str]:
    """Change, error, effective size and reason of one alternative."""
    log_ratio, reason = np.zeros(len(theta)), ""
    used = weight > 0.0
    for name, prior in other.items():
        if known.get(name) is None:
            raise ConfigurationError(
                f"no prior of {name!r} is stored with this fit", expected=f"one of {', '.join(names)}"
            )
        low, high = known[name].support()
        outside = float(prior.cdf(low) + prior.sf(high))
        if outside > BEYOND:
            reason = f"{outside:.2g} of the prior of {name} lies outside that of the fit"
        column = theta[used, names.index(name)]
        log_ratio[used] += prior.logpdf(column) - known[name].logpdf(column)
    log_weight = np.where(used, np.log(np.where(used, weight, 1.0)) + log_ratio, -np.inf)
    change = float(logsumexp(log_weight))
    size = 0.0
    if np.isfinite(change):
        share = np.exp(log_weight - change)
        size = worth / float(np.sum(share**2))
    if not reason and size < FEWEST:
        reason = f"{size:.1f} effective samples are left, fewer than {FEWEST:g}"
    if reason:
        return np.nan, np.nan, size, reason
    error = float(np.sqrt(np.sum((share - weight) ** 2) / worth))
    return change, error, size, ""
