"""Reconstructions by name, with their settings as configurations give them."""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import astropy.units as u
import numpy as np
from pydantic import TypeAdapter, ValidationError

from obsfit.configuration import read_quantity
from obsfit.errors import ConfigurationError
from obsfit.ingest.tables import nearest
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction, MapReconstruction, MultipoleReconstruction

Result = MapReconstruction | MultipoleReconstruction | DipoleReconstruction

METHODS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "iterative-likelihood": ("iterative_likelihood", "IterativeLikelihood"),
        "low-multipole-likelihood": ("low_multipole", "LowMultipoleLikelihood"),
        "direct-integration": ("direct_integration", "DirectIntegration"),
        "time-scrambling": ("time_scrambling", "TimeScrambling"),
        "east-west": ("east_west", "EastWest"),
        "forward-backward": ("forward_backward", "ForwardBackward"),
        "right-ascension-projection": ("right_ascension", "RightAscensionProjection"),
        "rayleigh": ("rayleigh", "Rayleigh"),
    }
)
"""Module and class of each method, by the name that its results carry."""
NEED_MAPS = ("east-west", "forward-backward")
"""Methods that look at each time bin, and cannot do with sums over them."""


class Method(Protocol):
    """Any reconstruction."""

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> Result:
        """Return the result."""


def named_method(name: str, settings: Mapping[str, Any]) -> Method:
    """Return a reconstruction by its name.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    settings : mapping
        Fields of its dataclass. An angle, whose field ends in ``_rad``, is given without that ending as text with a
        unit; a ``map_method`` is a name, or a table with the keys method and settings.

    Raises
    ------
    ConfigurationError
        If there is no such method or setting, the nearest being named, or a value is wrong.

    Examples
    --------
    >>> named_method("right-ascension-projection", {"harmonics": 2, "dec_max": "60 deg"}).harmonics
    2
    """
    if name not in METHODS:
        raise ConfigurationError(
            f"method {name!r}{nearest(name, METHODS)}", value=name, expected=f"one of {', '.join(METHODS)}"
        )
    module, attribute = METHODS[name]
    cls: Any = getattr(importlib.import_module(f"obsfit.reconstruct.{module}"), attribute)
    hints = typing.get_type_hints(cls)
    fields = {field.name.removesuffix("_rad"): field.name for field in dataclasses.fields(cls) if field.init}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in fields:
            raise ConfigurationError(
                f"{name} has no setting {key!r}{nearest(key, fields)}", value=key,
                expected=f"one of {', '.join(fields)}",
            )  # fmt: skip
        values[fields[key]] = _value(f"{name}: {key}", fields[key], value, hints)
    made: Method = cls(**values)
    return made


def needs_maps(name: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a method needs event maps, because sums over time do not tell it enough."""
    return name in NEED_MAPS or settings.get("window_hours", 24.0) != 24.0 or settings.get("exposure") is not None


def _value(place: str, field: str, value: Any, hints: Mapping[str, Any]) -> Any:
    if field == "map_method":
        return _map_method(place, value)
    if field.endswith("_rad"):
        return float(read_quantity(str(value), "angle", place).to_value(u.rad))
    try:
        return TypeAdapter(hints[field]).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigurationError(f"{place} = {value!r}: {first['msg']}", value=value) from None


def _map_method(place: str, value: Any) -> Method:
    table: Any = {"method": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not set(table) <= {"method", "settings"} or "method" not in table:
        raise ConfigurationError(
            f"{place} = {value!r}",
            expected="the name of a method that makes maps, or a table with method and settings",
        )
    return named_method(str(table["method"]), table.get("settings", {}))
