"""Parameters of models and nuisances: a name, a unit, a scipy.stats prior and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError

FloatArray = NDArray[np.float64]
Density = Callable[[FloatArray], FloatArray]

SAME = 1e-3
"""Relative difference up to which the width of a prior, typed as 6.283, is the period of its parameter."""


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
    period : float, optional
        In the stated unit, of a parameter on a circle: values that differ by it are the same, as 0 and 360 degrees of a
        right ascension. Default: the parameter is on a line.

    Raises
    ------
    TypeError
        If the prior is no frozen distribution.
    ConfigurationError
        If the period is not a positive number, or the prior is uniform over more than it: some values would count
        twice.
    """

    name: str
    prior: Any
    unit: str = ""
    description: str = ""
    latex: str = ""
    period: float | None = None

    def __post_init__(self) -> None:
        for method in ("logpdf", "ppf", "rvs", "support"):
            if not hasattr(self.prior, method):
                raise TypeError(
                    f"prior of {self.name}: {self.prior!r} has no {method}; "
                    "expected a frozen scipy.stats distribution such as scipy.stats.uniform(0, 1)"
                )
        if self.period is None:
            return
        if not 0.0 < self.period < np.inf:
            raise ConfigurationError(
                f"period of {self.name}: {self.period}", value=self.period, expected="a positive number, or none"
            )
        width = self._width()
        if width > self.period * (1.0 + SAME):
            raise ConfigurationError(
                f"prior of {self.name}: uniform over {width:.6g}", value=width,
                expected=f"at most the period {self.period:.6g}, after which the same values come again",
            )  # fmt: skip

    def _width(self) -> float:
        """Width of a uniform prior; nan of any other."""
        if getattr(getattr(self.prior, "dist", None), "name", "") != "uniform":
            return np.nan
        low, high = self.prior.support()
        return float(high - low)

    @property
    def circular(self) -> bool:
        """Whether the parameter is on a circle and the prior the same all around it: then no point is a cut.

        With any other prior, such as one that a user has narrowed, a parameter with a period is one of a line.

        Examples
        --------
        >>> from dataclasses import replace
        >>> from scipy import stats
        >>> turn = Parameter("right_ascension", stats.uniform(0.0, 360.0), "deg", period=360.0)
        >>> turn.circular, replace(turn, prior=stats.uniform(0.0, 90.0)).circular
        (True, False)
        """
        return self.period is not None and abs(self._width() / self.period - 1.0) <= SAME

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
