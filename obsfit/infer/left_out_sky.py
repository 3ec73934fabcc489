r"""What some measurements of one sky say of another, in the joint law of all: for `obsfit.infer.left_out`.

The conditional density is a ratio of likelihoods,

.. math:: p(x | y, \theta) = p(x, y | \theta) / p(y | \theta),

both by `OneSkyTerm`, and its mean over :math:`p(\theta | y)` the predictive density. Data x are drawn from a law q that
is near it and weighted by the ratio over q: so they are conditional on the sky that all data share, not on the
parameters alone. q draws dipoles as they are given the other dipoles, and logarithms of powers from a t law whose means
and variances are those of logarithms of gamma laws with the exact means and variances of the powers given all dipoles,
and whose correlations are those of the powers.

The saddlepoint density leaves a constant open (`obsfit.infer.saddlepoint`), which is that of the left-out powers in the
ratio. It is the mean weight of the draws, as q is normalised, and divided out; only its change with the parameters,
some per cent of a weight, is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, polygamma, psi
from scipy.stats import multivariate_t

from obsfit.errors import ConvergenceError
from obsfit.infer.one_sky_term import OneSkyTerm
from obsfit.infer.partial import PartialPosterior
from obsfit.infer.weighted_samples import tempered
from obsfit.parameters import FloatArray, log_prior
from obsfit.records.true_sky import TrueSky

__all__ = ["Predicted", "predicted_of_sky"]

NU = 6.0
"""Degrees of freedom of the t law: its tails hold those of logarithms of powers, which are exponential."""
WIDE = 1.5
"""Factor on the deviations of the first t law."""
ROUNDS, ROUND = 6, 500
"""Rounds in which the t law is fitted, and the draws of each."""
MOST = 100.0
"""Powers above this many of their means have no weight: e^-100 of two squares; nor those below e^-21 of it."""
LEAST = 30.0
"""Effective draws below which there is no prediction."""


@dataclass(frozen=True)
class Predicted:
    """Weighted draws of data that were left out, and the log density of those that were seen.

    Attributes
    ----------
    drawn : ndarray, shape (n, n_x)
        In the order of ``PartialPosterior.left_out``.
    weight : ndarray, shape (n,)
        Sums to one.
    log_density : float
        Of the data that were left out, given the rest.
    """

    drawn: FloatArray
    weight: FloatArray
    log_density: float

    @property
    def effective_size(self) -> float:
        """One over the sum of the squared weights."""
        return float(1.0 / np.sum(self.weight**2))


def predicted_of_sky(
    posterior: PartialPosterior, samples: FloatArray, weight: FloatArray, *, rng: np.random.Generator, size: int
) -> Predicted:
    """Return draws of the data that a posterior leaves out, given those that it fits.

    Parameters
    ----------
    posterior : PartialPosterior
        What was fitted.
    samples : ndarray, shape (n, n_par)
        Its samples.
    weight : ndarray, shape (n,)
        Their weights.
    rng : numpy.random.Generator
        Source of all draws.
    size : int
        Number of draws, before they are weighted.

    Raises
    ------
    ConvergenceError
        If hardly any draw counts.
    """
    term, x = posterior.term, posterior.places
    # One uniform number for all: each sample is taken as often as its weight says, but for the rounding.
    edges = np.cumsum(weight / weight.sum())
    chosen = np.minimum(np.searchsorted(edges, (np.arange(size) + rng.uniform()) / size), len(samples) - 1)
    theta = samples[chosen]
    rest = posterior.log_prob(theta) - log_prior(posterior.parameters, theta)
    complete = posterior.completed(theta, rng=rng)
    (sky,), (nuisance,) = posterior.whole.skies(complete), posterior.whole.nuisances(complete)
    seen = term.log_prob_of(term.data, sky, nuisance) - rest
    law = multivariate_t(np.zeros(len(x)), WIDE**2 * np.eye(len(x)), df=NU)
    for number in (*[min(ROUND, size // 4)] * ROUNDS, size):
        # Any part of the vectors, evenly: they come in the order of the samples.
        part = np.linspace(0, size - 1, number).round().astype(int)
        some = replace(sky, c_ell=_rows(sky.c_ell, part), alm=_rows(sky.alm, part))
        white = law.rvs(len(part), random_state=rng).reshape(len(part), len(x))
        data, log_jacobian = _made_of(term, x, some, nuisance[part], white)
        # Powers that no sky can have are not handed over: far out there the likelihood has no number.
        possible = np.isfinite(log_jacobian)
        whole = np.where(possible[:, None], data, term.data)
        log_weight = term.log_prob_of(whole, some, nuisance[part]) - rest[part] + log_jacobian
        log_weight = np.nan_to_num(log_weight - law.logpdf(white).reshape(len(part)), nan=-np.inf)
        share = np.exp(log_weight - logsumexp(log_weight))
        law = _near(white, tempered(log_weight, min(10.0 * len(x) + 20.0, 0.5 * number)))
    found = Predicted(data[:, x], share, float(logsumexp(seen) - logsumexp(log_weight)))
    if found.effective_size < LEAST:
        raise ConvergenceError(
            f"{found.effective_size:.1f} of {size} draws of {', '.join(posterior.left_out[:2])} ... count",
            expected=f"at least {LEAST:g}",
            remedy="Draw more (size), or leave out fewer data together.",
        )
    return found


def _near(white: FloatArray, weight: FloatArray) -> Any:
    """The t law with the moments of weighted draws, slightly widened; weights sum to one."""
    mean = weight @ white
    offset = white - mean
    covariance = (weight[:, None] * offset).T @ offset + 0.02 * np.eye(white.shape[1])
    return multivariate_t(mean, 1.2 * (NU - 2.0) / NU * covariance, df=NU)


def _rows(values: Any | None, part: NDArray[np.int64]) -> Any | None:
    return None if values is None else values[part]


def _made_of(
    term: OneSkyTerm, x: list[int], sky: TrueSky, nuisance: FloatArray, white: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """All data, with those at x made of white numbers (n_vec, n_x), and the log of the volume of x over theirs."""
    n_power = sum(len(record) for record in term.spectra)
    data = np.repeat(term.data[None], len(nuisance), axis=0)
    log_jacobian = np.zeros(len(nuisance))
    powers, dipoles = [i for i in x if i < n_power], [i for i in x if i >= n_power]
    if dipoles:
        others = [i for i in range(n_power, data.shape[1]) if i not in dipoles]
        middle, root = _given(*term.moments(sky, nuisance), dipoles, others, data[:, others])
        data[:, dipoles] = middle + (root @ white[:, len(powers) :, None])[..., 0]
        log_jacobian += np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    if powers:
        others = [i for i in range(n_power) if i not in powers]
        mean, covariance = term.power_moments(sky, nuisance, data[:, n_power:])
        middle, root = _given(*_of_logarithms(mean, covariance), powers, others, np.log(data[:, others]))
        logs = middle + (root @ white[:, : len(powers), None])[..., 0]
        ratio = logs - np.log(mean[:, powers])
        data[:, powers] = np.exp(np.minimum(logs, 100.0))
        log_jacobian += np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1) + logs.sum(axis=1)
        log_jacobian[np.any((ratio > np.log(MOST)) | (ratio < -(np.log(MOST) ** 2)), axis=1)] = -np.inf
    return data, log_jacobian


def _of_logarithms(mean: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance of logarithms, from those of powers: gamma laws with the same correlations."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    shape = mean**2 / variance
    deviation = np.sqrt(polygamma(1, shape) / variance)
    return psi(shape) - np.log(shape) + np.log(mean), covariance * deviation[:, :, None] * deviation[:, None, :]


def _given(
    mean: FloatArray, covariance: FloatArray, x: list[int], y: list[int], seen: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean of the numbers x of normal laws given those at y, and the root of their covariance, for each vector."""
    middle, left = mean[:, x], covariance[:, x][:, :, x]
    if y:
        across = covariance[:, y][:, :, x]
        gain = np.swapaxes(np.linalg.solve(covariance[:, y][:, :, y], across), 1, 2)
        middle = middle + (gain @ (seen - mean[:, y])[..., None])[..., 0]
        left = left - gain @ across
    # Of data that are nearly one number, rounding may leave less than nothing.
    least = 1e-6 * np.diagonal(covariance, axis1=1, axis2=2)[:, x]
    left = 0.5 * (left + np.swapaxes(left, 1, 2)) + least[:, :, None] * np.eye(len(x))
    return middle, np.asarray(np.linalg.cholesky(left))
