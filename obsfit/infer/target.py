"""What samplers ask of a posterior, and what they write about it into their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from obsfit.infer.posterior import Posterior
from obsfit.parameters import FloatArray, Parameter

__all__ = ["DescribedTarget", "Target", "checksums_of", "description_of"]


class Target(Protocol):
    """What can be sampled: parameters with their priors, and a vectorised log posterior density."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the columns of theta."""

    def log_prob(self, theta: FloatArray) -> FloatArray:
        """Log posterior density, shape (n_vec,), for theta (n_vec, n_par)."""


@runtime_checkable
class DescribedTarget(Protocol):
    """A target that says what it is; only a description that stays the same lets a stored run be continued."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What a stored fit is a fit of, in terms of JSON."""

    @property
    def data_checksums(self) -> Mapping[str, str]:
        """Checksum of each data set that entered, by name."""


def description_of(target: Target) -> dict[str, Any]:
    """Return what is to be stored of a target: its own description, if it has one, and its priors in any case."""
    own = getattr(target, "description", {})
    return {"parameters": [described(p) for p in target.parameters], **own}


def described(parameter: Parameter) -> dict[str, Any]:
    """Return name and prior of a parameter in terms of JSON, and that it is circular, if it is.

    A prior whose numbers are arrays is named only.

    Examples
    --------
    >>> from scipy import stats
    >>> described(Parameter("a", stats.norm(1.0, scale=2.0)))
    {'name': 'a', 'prior': 'norm', 'args': [1.0, ['scale', 2.0]]}
    """
    prior = parameter.prior
    found: dict[str, Any] = {"name": parameter.name, "prior": prior.dist.name}
    if parameter.circular:
        found["circular"] = True
    try:
        plain = [float(value) for value in prior.args]
        return {**found, "args": [*plain, *([name, float(value)] for name, value in sorted(prior.kwds.items()))]}
    except TypeError:
        return {**found, "prior": f"{prior.dist.name} of arrays", "args": []}


def checksums_of(target: Target) -> Mapping[str, str]:
    """Return the checksum of each data set that a target knows of."""
    if isinstance(target, Posterior):
        return target.likelihood.data_checksums
    return target.data_checksums if isinstance(target, DescribedTarget) else {}
