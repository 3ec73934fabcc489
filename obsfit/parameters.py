"""Parameters of models and nuisances: a name, a unit, a scipy.stats prior and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Density = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model, or one nuisance of a likelihood.

    Attributes
    ----------
    name : str
        Lower case, words joined by underscores; the unit is not repeated here.
    prior : frozen scipy.stats distribution
        Continuous, in the stated unit, for example ``scipy.stats.uniform(0.0, 1.0)``.
    unit : str
        Astropy unit string; empty for a plain number.
    description : str
        One sentence for tables and ``obsfit models``.
    latex : str
        Label for plots, without dollar signs; the name where empty.
    """

    name: str
    prior: Any
    unit: str = ""
    description: str = ""
    latex: str = ""

    def __post_init__(self) -> None:
        for method in ("logpdf", "ppf", "rvs", "support"):
            if not hasattr(self.prior, method):
                raise TypeError(
                    f"prior of {self.name}: {self.prior!r} has no {method}; "
                    "expected a frozen scipy.stats distribution such as scipy.stats.uniform(0, 1)"
                )

    @property
    def label(self) -> str:
        """Axis label with unit, for plots."""
        text = f"${self.latex}$" if self.latex else self.name.replace("_", " ")
        return f"{text} [{self.unit}]" if self.unit else text


def log_prior(parameters: Sequence[Parameter], theta: FloatArray) -> FloatArray:
    """Return the sum of log prior densities, shape (n_vec,), for theta of shape (n_vec, n_par).

    Examples
    --------
    >>> from scipy import stats
    >>> log_prior([Parameter("p", stats.uniform(0, 2))], np.array([[1.0], [3.0]]))
    array([-0.69314718,        -inf])
    """
    return sum_densities([log_density(parameter.prior) for parameter in parameters], theta)


def sum_densities(densities: Sequence[Density], theta: FloatArray) -> FloatArray:
    """Return the sum over columns of log densities, shape (n_vec,), for theta of shape (n_vec, n_par)."""
    total = np.zeros(theta.shape[0])
    for density, column in zip(densities, theta.T, strict=True):
        total += density(column)
    return total


def log_density(prior: Any) -> Density:
    """Return a function that gives the log density of a frozen scipy.stats distribution.

    For uniform, normal and half-normal priors it is written out: scipy's checks of its arguments cost more than most
    likelihoods. Any other distribution answers through its own ``logpdf``.
    """
    shape, loc, scale = prior.dist._parse_args(*prior.args, **prior.kwds)
    name = prior.dist.name
    if shape or name not in ("uniform", "norm", "halfnorm"):
        return cast(Density, prior.logpdf)
    if name == "uniform":
        high, value = loc + scale, -np.log(scale)
        return lambda x: np.where((x >= loc) & (x <= high), value, -np.inf)
    constant = -np.log(scale) - 0.5 * np.log(2.0 * np.pi)
    if name == "norm":
        return lambda x: constant - 0.5 * ((x - loc) / scale) ** 2
    return lambda x: np.where(x >= loc, constant + np.log(2.0) - 0.5 * ((x - loc) / scale) ** 2, -np.inf)


def draw_prior(parameters: Sequence[Parameter], size: int, *, rng: np.random.Generator) -> FloatArray:
    """Return `size` draws of the prior, shape (size, n_par)."""
    return np.column_stack([p.prior.rvs(size=size, random_state=rng) for p in parameters])
