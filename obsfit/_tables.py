"""Rows of the shipped tables, found by name or alias."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
from astropy.table import Table

from obsfit.errors import ConfigurationError


@lru_cache(maxsize=16)
def rows(filename: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the rows of a shipped table by name: strings, and quantities or None where a cell is empty.

    Parameters
    ----------
    filename : str
        Name of an ECSV file of the data package with the columns ``name`` and ``aliases``.
    """
    table = Table.read(files("obsfit_data").joinpath(filename).read_text("utf-8"), format="ascii.ecsv")
    found: dict[str, Mapping[str, Any]] = {}
    for line in table:
        cells: dict[str, Any] = {}
        for column in table.columns.values():
            value = line[column.name]
            if np.ma.is_masked(value):
                cells[column.name] = None if column.unit is not None else ""
            else:
                cells[column.name] = str(value) if column.unit is None else float(value) * column.unit
        found[cells["name"]] = MappingProxyType(cells)
    return MappingProxyType(found)


def row(filename: str, name: str, kind: str) -> Mapping[str, Any]:
    """Return the row called `name`: case, spaces and underscores do not matter, and aliases are understood.

    Parameters
    ----------
    filename : str
        As in `rows`.
    name : str
        Name or alias.
    kind : str
        What the table lists, for the error: "observatory", "motion", "direction".

    Raises
    ------
    ConfigurationError
        If there is no such row; the message names the nearest one and lists all.
    """
    table = rows(filename)
    keys = {_key(entry): cells for cells in table.values() for entry in _spellings(cells)}
    if _key(name) not in keys:
        near = difflib.get_close_matches(_key(name), keys, n=1)
        hint = f"; did you mean {keys[near[0]]['name']!r}?" if near else ""
        raise ConfigurationError(
            f"no {kind} named {name!r}{hint}",
            value=name,
            expected=f"one of {', '.join(table)}",
        )
    return keys[_key(name)]


def _spellings(cells: Mapping[str, Any]) -> list[str]:
    return [cells["name"], *(alias for alias in cells["aliases"].split("|") if alias)]


def _key(name: str) -> str:
    return name.strip().casefold().replace(" ", "-").replace("_", "-")
