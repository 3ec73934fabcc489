"""Configurations: TOML files read into frozen dataclasses, with errors that name the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import astropy.units as u
from pydantic import ConfigDict, TypeAdapter, ValidationError

from obsfit.errors import ConfigurationError

SCHEMA = 1
FORBID: ConfigDict = {"extra": "forbid"}
"""The `__pydantic_config__` of every dataclass of settings: an unknown key is an error."""
EXAMPLES = {"angle": u.Quantity("-20 deg"), "energy": u.Quantity("10 TeV"), "rigidity": u.Quantity("10 TV")}
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""How pydantic calls an unknown key."""
Settings = TypeVar("Settings")


def load_configuration(path: str | Path, kind: type[Settings]) -> Settings:
    """Return the settings of a TOML file as an instance of the frozen dataclass `kind`.

    Parameters
    ----------
    path : str or Path
        File whose first key is ``schema = 1``.
    kind : type
        Dataclass whose fields, nested dataclasses included, are the known keys.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, is not TOML, has another schema, an unknown key, or a value of the wrong kind.
    """
    try:
        raw = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror or error}", path=path) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"is not TOML: {error}", path=path) from error
    if raw.get("schema") != SCHEMA:
        raise ConfigurationError(
            f"schema is {raw.get('schema')!r}", path=path, expected=f"the first key to be schema = {SCHEMA}"
        )
    del raw["schema"]
    return read_settings(raw, kind, path=path)


def read_settings(raw: Mapping[str, Any], kind: type[Settings], *, path: str | Path | None = None) -> Settings:
    """Return settings given as nested dictionaries and lists as an instance of the frozen dataclass `kind`.

    Parameters
    ----------
    raw : mapping
        The settings.
    kind : type
        Dataclass whose fields, nested dataclasses included, are the known keys.
    path : str or Path, optional
        File that they come from, for errors.

    Raises
    ------
    ConfigurationError
        If there is an unknown key, or a value of the wrong kind.
    """
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        raise _explained(error, kind, path) from None


def read_quantity(text: str, kind: Literal["angle", "energy", "rigidity"], key: str) -> u.Quantity:
    """Return the quantity that a configuration gives as text.

    Parameters
    ----------
    text : str
        A number with a unit.
    kind : str
        What it is.
    key : str
        Where it stands, for the error.

    Raises
    ------
    ConfigurationError
        If the text is something else.

    Examples
    --------
    >>> read_quantity("20 PeV", "energy", "data.energy_max").to("TeV")
    <Quantity 20000. TeV>
    """
    try:
        quantity = u.Quantity(text)
        quantity.to(EXAMPLES[kind].unit)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{key} = {text!r} is no {kind}", expected=f"a number with a unit, such as '{EXAMPLES[kind]:g}'"
        ) from error
    return quantity


def _explained(error: ValidationError, kind: type[Any], path: str | Path | None) -> ConfigurationError:
    errors = error.errors(include_url=False)
    # A key that is misspelt is missing, too: what stands there tells more.
    first = next((one for one in errors if one["type"] in UNKNOWN), errors[0])
    *parents, last = [str(part) for part in first["loc"]] or [""]
    place = ".".join([*parents, last])
    if first["type"] in UNKNOWN:
        known = _known_keys(kind, parents)
        near = difflib.get_close_matches(last, known, n=1)
        elsewhere = _elsewhere(kind, parents, last)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return ConfigurationError(
            f"unknown key {place!r}" + (f"; it belongs {elsewhere}" if elsewhere else meant),
            path=path,
            expected=f"one of {', '.join(known)}" if known else "",
        )
    missing = first["type"] in ("missing", "missing_argument")
    value = first.get("input")
    if first["type"] in ("tuple_type", "list_type"):
        brackets = f"one in brackets, such as {place} = [{json.dumps(value, default=str)}]"
        return ConfigurationError(f"{place} = {value!r} is no list", path=path, value=value, expected=brackets)
    problem = f"key {place!r} is missing" if missing else f"{place} = {value!r}: {first['msg']}"
    return ConfigurationError(problem, path=path, value=value)


def _known_keys(kind: type[Any], parents: list[str]) -> list[str]:
    hints: list[Any] = [kind]
    for parent in parents:
        hints = [inner for hint in hints for option in _alternatives(hint) for inner in _inside(option, parent)]
    found = [option for hint in hints for option in _alternatives(hint) if dataclasses.is_dataclass(option)]
    return list(dict.fromkeys(field.name for one in found for field in dataclasses.fields(one)))


def _elsewhere(kind: type[Any], parents: list[str], key: str) -> str:
    """Where a key is known that is not known where it stands, if it stands under a wrong heading; else nothing."""
    if parents:
        return f"above the line [{'.'.join(parents)}]" if key in _known_keys(kind, []) else ""
    tables = [name for name in _known_keys(kind, []) if key in _known_keys(kind, [name])]
    return f"under a line [{tables[0]}]" if tables else ""


def _alternatives(hint: Any) -> list[Any]:
    """The types that a hint allows."""
    return list(typing.get_args(hint)) if isinstance(hint, types.UnionType) else [hint]


def _inside(hint: Any, step: str) -> list[Any]:
    """Hints one step further into nested settings: a field, an element, an entry, or the name of an alternative."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, list):
        return [inner[0]] if step.isdigit() else [hint]
    if origin is dict:
        return [inner[1]]
    if not dataclasses.is_dataclass(hint):
        return []
    hints = typing.get_type_hints(hint)
    return [hints[step]] if step in hints else [hint] if step == getattr(hint, "__name__", "") else []
