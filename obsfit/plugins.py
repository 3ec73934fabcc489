"""Finding models: every package that registers an entry point in the group "obsfit.models" adds its own."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from obsfit.errors import PluginError
from obsfit.protocols import Model, OffersAlm, OffersDipole, OffersDraws, OffersPower

GROUP = "obsfit.models"


def available_models() -> tuple[str, ...]:
    """Return the names of all installed models, sorted.

    Examples
    --------
    >>> "relative-diffusion" in available_models()
    True
    """
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def load_model(name: str, **settings: Any) -> Model:
    """Return the model registered under `name`, constructed with `settings`.

    Parameters
    ----------
    name : str
        One of `available_models`.
    **settings
        Keyword arguments of the model's constructor (its fixed choices, not its parameters).

    Raises
    ------
    PluginError
        If no such model is installed, it is registered twice, it fails to import, refuses a setting, or does not
        honour the protocol.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        # An editable install beside a wheel lists the same target twice; only two targets are a conflict.
        if entry.name in found and found[entry.name].value != entry.value:
            raise PluginError(
                f"model {entry.name!r} is registered by {found[entry.name].value} and by {entry.value}",
                expected="one model for each name",
                remedy="Uninstall one of the two packages.",
            )
        found[entry.name] = entry
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        raise PluginError(
            f"no model named {name!r} is installed" + (f"; did you mean {near[0]!r}?" if near else ""),
            expected=f"one of {', '.join(sorted(found))}",
            remedy=f'A package adds a model by an entry point in the group "{GROUP}".',
        )
    try:
        factory = found[name].load()
    except Exception as error:
        raise PluginError(f"model {name!r} ({found[name].value}) cannot be imported: {error}") from error
    try:
        model = factory(**settings)
    except TypeError as error:
        raise PluginError(
            f"model {name!r} does not take these settings: {error}",
            remedy=f"'obsfit models show {name}' lists them.",
        ) from error
    if not isinstance(model, Model):
        raise PluginError(f"model {name!r} lacks a name or parameters", expected="obsfit.protocols.Model")
    # Of a store of simulations only the type is asked: the number of its fields may need a file.
    simulates = hasattr(type(model), "field_skies")
    if not simulates and not isinstance(model, OffersDipole | OffersPower | OffersAlm | OffersDraws):
        raise PluginError(
            f"model {name!r} predicts nothing", expected="one of dipole, c_ell, alm, draws, field_skies"
        )
    return model
