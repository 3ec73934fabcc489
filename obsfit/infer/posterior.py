"""The posterior: priors of a model's parameters and of the nuisances, times the likelihood."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from obsfit.errors import ConfigurationError, ModelDomainError, ObsfitError
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.simulated_term import SimulatedTerm, check_domain, simulated_sky
from obsfit.parameters import FloatArray, Parameter, log_density, sum_densities
from obsfit.protocols import Model, OffersDraws, true_sky
from obsfit.records.true_sky import TrueSky

# Parameter vectors for which draws of skies are held in memory together.
AT_ONCE = 16


class Posterior:
    """Log posterior density of a model's parameters and a likelihood's nuisances, vectorised.

    Parameters
    ----------
    model : Model
        What predicts the true sky; `obsfit.add_models` adds several.
    likelihood : Likelihood
        What compares it with data.
    priors : mapping of str to frozen scipy.stats distribution, optional
        Replaces the prior of parameters or nuisances by name.

    Raises
    ------
    ConfigurationError
        If a prior names no parameter, or the model draws its skies from an ensemble and the likelihood
        is not a `SimulatedTerm`: moments do not describe them.

    Attributes
    ----------
    parameters : tuple of Parameter
        Parameters of the model, then nuisances: the columns of theta.
    """

    def __init__(self, model: Model, likelihood: Likelihood, *, priors: Mapping[str, Any] | None = None) -> None:
        by_draws = [term for term in likelihood.terms if isinstance(term, SimulatedTerm)]
        if isinstance(model, OffersDraws) and len(by_draws) < len(likelihood.terms):
            raise ConfigurationError(
                f"model {model.name!r} draws skies that are neither Gaussian nor isotropic: no likelihood is known",
                value=model.name, expected="a model that offers dipole, alm or c_ell, and no draws",
                remedy="A likelihood is simulated for few data: [simulation] with draws and seed in a configuration, "
                "Likelihood(SimulatedTerm(...)) in a program.",
            )  # fmt: skip
        for term in by_draws:
            check_domain(model, term)
        self.model, self.likelihood = model, likelihood
        chosen = dict(priors or {})
        own = model.parameters
        self._n_model = len(own)
        names = [p.name for p in (*own, *likelihood.parameters)]
        for name in chosen:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                raise ConfigurationError(
                    f"prior for unknown parameter {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                    expected=f"one of {', '.join(names)}",
                )
        self.parameters: tuple[Parameter, ...] = tuple(
            replace(p, prior=chosen[p.name]) if p.name in chosen else p for p in (*own, *likelihood.parameters)
        )

        self._densities = [log_density(p.prior) for p in self.parameters]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of theta."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def description(self) -> dict[str, Any]:
        """What a stored fit is a fit of, in terms of JSON: model, parameters with their priors, measurements."""
        simulated = [asdict(term.simulation) for term in self.likelihood.terms if isinstance(term, SimulatedTerm)]
        return {
            **({"simulation": simulated} if simulated else {}),
            "model": self.model.name,
            "parameters": [
                {
                    "name": p.name,
                    "prior": p.prior.dist.name,
                    "args": [*p.prior.args, *sorted(p.prior.kwds.items())],
                    **({"circular": True} if p.circular else {}),
                }
                for p in self.parameters
            ],
            "measurements": [list(term.labels) for term in self.likelihood.terms],
            "assume_independent_skies": self.likelihood.assume_independent_skies,
        }

    def skies(self, theta: FloatArray) -> list[TrueSky]:
        """True sky at the rigidities of each data set, for theta (n_vec, n_par)."""
        return self._skies(theta)

    def _skies(self, theta: FloatArray, rng: np.random.Generator | None = None) -> list[TrueSky]:
        """Skies of each data set; where they are draws, those of the data set's seed, or one of a generator."""
        own = theta[:, : self._n_model]
        return [
            simulated_sky(self.model, own, term, rng=rng)
            if isinstance(term, SimulatedTerm)
            else true_sky(self.model, own, term.rigidity_tv, term.lmax)
            for term in self.likelihood.terms
        ]

    def nuisances(self, theta: FloatArray) -> list[FloatArray]:
        """Nuisances of each data set, shape (n_vec, n_nuisance), for theta (n_vec, n_par)."""
        return self.likelihood.split(theta[:, self._n_model :])

    def log_prior(self, theta: FloatArray) -> FloatArray:
        """Log prior density, shape (n_vec,)."""
        return sum_densities(self._densities, np.atleast_2d(theta))

    def log_prob(self, theta: FloatArray) -> FloatArray:
        """Log posterior density, shape (n_vec,), for theta (n_vec, n_par); -inf outside the prior's support.

        Raises
        ------
        ObsfitError
            If the likelihood is not a number somewhere inside the prior: a bug in a model must stop the run.
        """
        theta = np.atleast_2d(np.asarray(theta, dtype=np.float64))
        total = self.log_prior(theta)
        inside = np.isfinite(total)
        if inside.any():
            total[inside] += np.concatenate([self._log_likelihood(part) for part in self._parts(theta[inside])])
        if np.isnan(total).any():
            bad = theta[np.isnan(total)][0]
            where = ", ".join(f"{n}={v:.6g}" for n, v in zip(self.names, bad, strict=True))
            raise ObsfitError(f"model {self.model.name!r}: the likelihood is not a number at {where}")
        return total

    def _parts(self, theta: FloatArray) -> list[FloatArray]:
        """Parameter vectors in parts: all at once, or few if there are many draws for each."""
        simulated = any(isinstance(term, SimulatedTerm) for term in self.likelihood.terms)
        return np.array_split(theta, -(-len(theta) // AT_ONCE)) if simulated else [theta]

    def _log_likelihood(self, theta: FloatArray) -> FloatArray:
        nuisance = theta[:, self._n_model :]
        try:
            skies = self.skies(theta)
        except ModelDomainError:
            if len(theta) == 1:
                return np.array([-np.inf])
            return np.concatenate([self._log_likelihood(theta[i : i + 1]) for i in range(len(theta))])
        return self.likelihood.log_prob(skies, nuisance)

    def draw(self, theta: FloatArray, *, rng: np.random.Generator) -> list[FloatArray]:
        """Random data of each term, shape (n_vec, n_data): with posterior samples, the posterior prediction."""
        parts = zip(self.likelihood.terms, self._skies(theta, rng), self.nuisances(theta), strict=True)
        return [term.draw(sky, own, rng=rng) for term, sky, own in parts]
