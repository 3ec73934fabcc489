"""The points of maximum posterior density and of maximum likelihood, and how far the posterior extends."""

from __future__ import annotations

import numpy as np
from scipy.optimize import differential_evolution, minimize

from obsfit.errors import ObsfitError
from obsfit.infer.target import Target
from obsfit.parameters import FloatArray, log_prior

# A prior's extreme tails are cut where its quantile function would return infinity.
EDGE = 1e-6


def from_unit(posterior: Target, unit: FloatArray) -> FloatArray:
    """Parameter vectors (n_vec, n_par) at prior quantiles `unit` (n_vec, n_par) in (0, 1)."""
    return np.column_stack([p.prior.ppf(column) for p, column in zip(posterior.parameters, unit.T, strict=True)])


def maximum_posterior(
    posterior: Target, *, rng: np.random.Generator, max_iterations: int = 300
) -> tuple[FloatArray, float]:
    """Return the vector of maximum posterior density, shape (n_par,), and its log density.

    Differential evolution over the prior's quantiles finds the basin, Nelder-Mead the point.

    Parameters
    ----------
    posterior : Target
        Vectorised log density.
    rng : numpy.random.Generator
        Source of the search's draws.
    max_iterations : int
        Generations of the global search.

    Raises
    ------
    ObsfitError
        If the posterior vanishes wherever the search looked.
    """

    def cost(unit: FloatArray) -> FloatArray:
        # scipy hands over (n_par, n_vec) while it searches and (n_par,) at the end
        columns = np.clip(np.atleast_2d(unit.T), EDGE, 1.0 - EDGE)
        value = -posterior.log_prob(from_unit(posterior, columns))
        value = np.where(np.isfinite(value), value, 1e300)
        return value if unit.ndim == 2 else value[0]

    bounds = [(EDGE, 1.0 - EDGE)] * len(posterior.parameters)
    coarse = differential_evolution(
        cost, bounds, rng=rng, vectorized=True, updating="deferred", polish=False, maxiter=max_iterations,
        popsize=16, tol=1e-4,
    )  # fmt: skip
    fine = minimize(
        lambda u: float(cost(np.asarray(u))), coarse.x, method="Nelder-Mead", bounds=bounds,
        options={"maxfev": 200 * len(bounds), "xatol": 1e-6, "fatol": 1e-6, "adaptive": True},
    )  # fmt: skip
    best = min((coarse, fine), key=lambda result: float(result.fun))
    if best.fun >= 1e300:
        raise ObsfitError(
            "the posterior vanishes wherever it was evaluated",
            expected="parameters inside the prior at which the model and the likelihood are defined",
            remedy="Check the priors and the range of validity of the model.",
        )
    return from_unit(posterior, np.atleast_2d(best.x))[0], -float(best.fun)


def maximum_likelihood(posterior: Target, samples: FloatArray) -> tuple[FloatArray, float]:
    """Return the vector of maximum likelihood within the priors' range, shape (n_par,), and its log likelihood.

    Nelder-Mead over the prior's quantiles (from 1e-6 to 1 - 1e-6), started at the best of the posterior samples. With
    uniform priors it is the maximum of the posterior too; with others it says how well the model can do at all.

    Parameters
    ----------
    posterior : Target
        Priors bound the search and do not weigh in it.
    samples : ndarray, shape (n, n_par)
        Posterior samples.
    """

    def log_likelihood(theta: FloatArray) -> FloatArray:
        return posterior.log_prob(theta) - log_prior(posterior.parameters, theta)

    def cost(unit: FloatArray) -> float:
        value = -float(log_likelihood(from_unit(posterior, np.atleast_2d(unit)))[0])
        return value if np.isfinite(value) else 1e300

    best = samples[np.argmax(log_likelihood(samples))]
    unit = np.array([p.prior.cdf(x) for p, x in zip(posterior.parameters, best, strict=True)])
    for _ in range(3):  # a simplex that has collapsed early goes on from a fresh one
        found = minimize(
            cost, np.clip(unit, EDGE, 1.0 - EDGE), method="Nelder-Mead", bounds=[(EDGE, 1.0 - EDGE)] * unit.size,
            options={"maxfev": 200 * unit.size, "xatol": 1e-6, "fatol": 1e-6, "adaptive": True},
        )  # fmt: skip
        unit = np.asarray(found.x)
    return from_unit(posterior, unit[None])[0], -float(found.fun)


def ball(
    posterior: Target, centre: FloatArray, size: int, *, rng: np.random.Generator, drop: float = 1.0
) -> FloatArray:
    """Return `size` start vectors around `centre`, shape (size, n_par), all inside the prior.

    Each parameter is spread over about the distance at which the log posterior has fallen by `drop`, so that walkers
    start neither outside the posterior nor on top of each other.
    """
    n_par = centre.size
    unit = np.array([p.prior.cdf(x) for p, x in zip(posterior.parameters, centre, strict=True)])
    unit = np.clip(unit, EDGE, 1.0 - EDGE)
    steps = 0.25 * 0.5 ** np.arange(40)
    trial = np.repeat(unit[None], 2 * n_par * steps.size, axis=0).reshape(n_par, 2, steps.size, n_par)
    for axis in range(n_par):
        trial[axis, 0, :, axis] += steps
        trial[axis, 1, :, axis] -= steps
    flat = trial.reshape(-1, n_par)
    inside = np.all((flat > 0.0) & (flat < 1.0), axis=1)
    value = np.full(len(flat), -np.inf)
    value[inside] = posterior.log_prob(from_unit(posterior, flat[inside]))
    fallen = posterior.log_prob(centre[None])[0] - value.reshape(n_par, 2, steps.size)
    acceptable = (fallen < drop).any(axis=1)
    reach = np.where(acceptable.any(axis=1), steps[np.argmax(acceptable, axis=1)], steps[-1])
    spread = unit + 0.3 * reach * rng.normal(size=(size, n_par))
    # Reflect at the ends of the prior: a maximum at an edge would otherwise lose half of the walkers.
    spread = np.abs(spread)
    spread = np.where(spread > 1.0, 2.0 - spread, spread)
    return from_unit(posterior, np.clip(spread, EDGE, 1.0 - EDGE))
