"""What a model says of itself, as plain values that can be printed or written as JSON."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from obsfit.plugins import load_model
from obsfit.protocols import OffersAlm, OffersDipole, OffersDraws, OffersPower

PREDICTIONS = {"dipole": OffersDipole, "c_ell": OffersPower, "alm": OffersAlm, "draws": OffersDraws}


@dataclass(frozen=True)
class ParameterDescription:
    """One parameter in words.

    Attributes
    ----------
    name, unit, description : str
        As in `obsfit.Parameter`.
    prior : str
        Name of the scipy.stats distribution with its arguments.
    low, high : float
        Support of the prior, in `unit`.
    """

    name: str
    unit: str
    prior: str
    low: float
    high: float
    description: str


@dataclass(frozen=True)
class ModelDescription:
    """A model in words.

    Attributes
    ----------
    name : str
        Name under which it is registered.
    summary, details : str
        First line and first paragraph after it of its docstring.
    offers : tuple of str
        Which of dipole, c_ell, alm and draws it predicts; field_skies where it has a store of simulations.
    settings : tuple of str
        Keyword arguments of `load_model` with their defaults.
    parameters : tuple of ParameterDescription
        In the order of the columns of theta.
    """

    name: str
    summary: str
    details: str
    offers: tuple[str, ...]
    settings: tuple[str, ...]
    parameters: tuple[ParameterDescription, ...]


def describe_model(name: str, **settings: Any) -> ModelDescription:
    """Return the description of the model registered under `name`, constructed with `settings`.

    Raises
    ------
    PluginError
        As `obsfit.load_model`.

    Examples
    --------
    >>> describe_model("relative-diffusion").offers
    ('c_ell',)
    """
    model = load_model(name, **settings)
    # A terminal shows no reStructuredText roles such as :math:.
    paragraphs = re.sub(r":\w+:`([^`]*)`", r"\1", inspect.getdoc(type(model)) or "").split("\n\n")
    rows = []
    for parameter in model.parameters:
        low, high = parameter.prior.support()
        prior = describe_prior(parameter.prior)
        rows.append(
            ParameterDescription(
                parameter.name, parameter.unit, prior, float(low), float(high), parameter.description
            )
        )
    offers = [word for word, protocol in PREDICTIONS.items() if isinstance(model, protocol)]
    # Only the type is asked, as in `load_model`.
    offers += ["field_skies"] if hasattr(type(model), "field_skies") else []
    return ModelDescription(
        name=name,
        summary=" ".join(paragraphs[0].split()),
        details=paragraphs[1] if len(paragraphs) > 1 and "----" not in paragraphs[1] else "",
        offers=tuple(offers),
        settings=tuple(f"{key}={value!r}" for key, value in _settings(model).items()),
        parameters=tuple(rows),
    )


def describe_prior(prior: Any) -> str:
    """Return a frozen scipy.stats distribution in words: its family and the range that holds 95 % of it.

    Location and scale, as they stand in code, are easily mistaken for limits.

    Examples
    --------
    >>> from scipy import stats
    >>> describe_prior(stats.uniform(-5.0, 3.0))
    'uniform, -5 to -2'
    >>> describe_prior(stats.norm(loc=1.0, scale=0.5))
    'norm, 95 % within 0.02002 to 1.98'
    """
    family = prior.dist.name
    if family == "uniform":
        low, high = prior.support()
        return f"uniform, {low:.4g} to {high:.4g}"
    low, high = prior.interval(0.95)
    return f"{family}, 95 % within {low:.4g} to {high:.4g}"


def _settings(model: object) -> dict[str, Any]:
    if not is_dataclass(model):
        return {}
    return {field.name: getattr(model, field.name) for field in fields(model) if field.init and field.repr}
