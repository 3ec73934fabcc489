"""Stores of sampling runs: HDF5 files that hold a run, interrupted or finished, and how a run goes on from one."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from obsfit.errors import ConfigurationError, DataFormatError


def to_resume(store: Path | None, *, resume: bool, overwrite: bool) -> Path | None:
    """Return the store of a run that is to be continued, or None where one is to be begun.

    Raises
    ------
    ConfigurationError
        If the store exists and neither resume nor overwrite is given.
    """
    if store is None or not store.exists():
        return None
    if resume:
        return store
    if overwrite:
        return None
    raise ConfigurationError(
        "the store exists",
        path=store,
        remedy="Continue it with resume (--resume), or replace it with overwrite (--overwrite).",
    )


def refuse_existing(store: Path | None, *, overwrite: bool) -> None:
    """Refuse the store of a run that is not continued but made anew, before it begins.

    Raises
    ------
    ConfigurationError
        If the store exists and overwrite is not given.
    """
    if store is not None and store.exists() and not overwrite:
        raise ConfigurationError("the store exists", path=store, remedy="Replace it with overwrite (--overwrite).")


@contextmanager
def opened_store(
    path: str | Path, kind: str, *, what: str, remedy: str, needs: str | None = None
) -> Iterator[h5py.File]:
    """Open a store for reading.

    Parameters
    ----------
    path : str or Path
        HDF5 file.
    kind : str
        The `obsfit_format` that it must have.
    what : str
        What it should be, for the error: "fit".
    remedy : str
        What to do if it is something else.
    needs : str, optional
        An attribute that it must have, such as one that only a finished result has.

    Raises
    ------
    DataFormatError
        If the file cannot be read, or is something else.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("obsfit_format") != kind or (needs is not None and needs not in file.attrs):
                raise DataFormatError(
                    f"this is not a {what}", path=path, expected=f"obsfit_format = {kind}", remedy=remedy
                )
            yield file
    except OSError as error:
        raise DataFormatError(f"cannot be read as HDF5: {error}", path=path) from error


@contextmanager
def stored_run(path: Path, kind: str, identity: Mapping[str, Any], *, what: str) -> Iterator[h5py.File]:
    """Open the store of a run that is to be continued.

    Parameters
    ----------
    path : Path
        The store.
    kind, what : str
        As `opened_store`.
    identity : mapping
        What must be the same for a run to be continued: keys of the stored provenance, in terms of JSON.

    Raises
    ------
    ConfigurationError
        If the stored run differs in one of the keys.
    DataFormatError
        As `opened_store`.
    """
    with opened_store(path, kind, what=what, remedy="Start anew with overwrite (--overwrite).") as file:
        stored = json.loads(file.attrs["provenance"])
        wanted = json.loads(json.dumps(dict(identity)))
        different = [key for key in wanted if stored.get(key) != wanted[key]]
        if different:
            key = different[0]
            raise ConfigurationError(
                f"the stored run differs in {', '.join(different)}: {key} was {stored.get(key)!r}, "
                f"is now {wanted[key]!r}",
                path=path, remedy="Resume with the same settings, or start anew with overwrite (--overwrite).",
            )  # fmt: skip
        yield file


def write_head(file: h5py.File, kind: str, version: int, provenance: Mapping[str, Any]) -> None:
    """Write what every store begins with."""
    file.attrs["obsfit_format"], file.attrs["format_version"] = kind, version
    file.attrs["provenance"] = json.dumps(dict(provenance))


def looks(max_steps: int, block: int, *, growth: float, least: int = 0) -> set[int]:
    """Steps at which convergence is judged: fixed in advance, so that a resumed run stops where it would have.

    Parameters
    ----------
    max_steps, block : int
        All looks are at ends of a block; the last is at the first one from `max_steps` on.
    growth : float
        Ratio of the steps of two looks that follow each other.
    least : int
        Steps before which there is nothing to judge.

    Examples
    --------
    >>> sorted(looks(1000, 100, growth=1.5))
    [200, 300, 400, 600, 900, 1000]
    """
    last, first = (math.ceil(steps / block) * block for steps in (max_steps, least))
    found, steps = {max(last, first)}, max(2 * block, first)
    while steps < last:
        found.add(steps)
        steps = max(steps + block, round(growth * steps / block) * block)
    return found


class Rewriting:
    """Rewrites a store now and then while a run goes on.

    Parameters
    ----------
    save : callable
        Writes the store as the run stands.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save, self._written, self._cost = save, time.monotonic(), 0.0

    def if_due(self) -> None:
        """Write if it is time to: the store grows with the run, so at most a twentieth of the time goes into it."""
        begun = time.monotonic()
        if begun - self._written > max(2.0, 20.0 * self._cost):
            self._save()
            self._written = time.monotonic()
            self._cost = self._written - begun
