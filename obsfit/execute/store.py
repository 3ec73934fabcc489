"""The store of a study's results: one file for each finished task, and the configuration that they belong to."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.provenance import atomic_write, source_checksum, stamp

logger = logging.getLogger(__name__)
FORMAT = "obsfit-tasks"
FORMAT_VERSION = 1
ARRAY = "array."


class TaskStore:
    """Results of tasks in a folder, each file whole or absent.

    ``configuration.json`` says what the results belong to: the configuration with its checksum, versions, and the
    checksum of the programs. ``tasks/NAME.json`` is the result of a task, or ``tasks/NAME.npz`` if it holds arrays.

    Parameters
    ----------
    folder : Path
        Made if need be.
    configuration : mapping
        What the results depend on, in terms of JSON.

    Raises
    ------
    ConfigurationError
        If the folder holds results of another configuration; the message names the keys that differ.
    DataFormatError
        If its ``configuration.json`` cannot be read.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, Any]) -> None:
        self.folder = folder
        self._tasks = folder / "tasks"
        self._tasks.mkdir(parents=True, exist_ok=True)
        normal = json.loads(json.dumps(dict(configuration), allow_nan=False))
        identity = stamp(FORMAT, format_version=FORMAT_VERSION, configuration=normal) | {
            "configuration_sha256": hashlib.sha256(json.dumps(normal, sort_keys=True).encode()).hexdigest(),
            "programs": source_checksum(without=("plot", "cli")),
        }
        path = folder / "configuration.json"
        if path.exists():
            self._compare(path, identity)
            return
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")

    def _compare(self, path: Path, identity: Mapping[str, Any]) -> None:
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["obsfit_format"] != FORMAT or stored["format_version"] != FORMAT_VERSION:
                raise KeyError("obsfit_format")
            before = stored["configuration"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataFormatError(
                "this is not the configuration of a study", path=path,
                expected=f"obsfit_format = {FORMAT}, format_version = {FORMAT_VERSION}",
                remedy="Choose another output folder, or delete this one.",
            ) from error  # fmt: skip
        different = list(_differences(before, identity["configuration"]))
        if different:
            raise ConfigurationError(
                f"the stored results belong to another study: {'; '.join(different)}", path=path,
                remedy="Choose another output folder, or delete this one.",
            )  # fmt: skip
        for what in ("versions", "programs"):
            if stored.get(what) != identity[what]:
                logger.warning("%s: the stored results were made with other %s", self.folder, what)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for one process; a process that dies gives it back.

        Raises
        ------
        ConfigurationError
            If another process holds it.
        """
        with (self.folder / "lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigurationError(
                    "another process is at work on this study", path=self.folder,
                    remedy="Wait until it ends, or choose another output folder.",
                ) from error  # fmt: skip
            yield

    def names(self) -> set[str]:
        """Names of the finished tasks."""
        return {path.stem for path in self._tasks.iterdir() if path.suffix in (".json", ".npz")}

    def write(self, name: str, result: Mapping[str, Any]) -> None:
        """Store the result of a task: arrays, and anything that JSON keeps, by name.

        Raises
        ------
        TypeError, ValueError
            If JSON cannot keep a value, a number outside arrays is not finite, or an array holds objects.
        """
        arrays: dict[str, Any] = {
            ARRAY + key: value for key, value in result.items() if isinstance(value, np.ndarray)
        }
        rest = {key: value for key, value in result.items() if not isinstance(value, np.ndarray)}
        text = json.dumps(rest, allow_nan=False)
        if not arrays:
            with atomic_write(self._tasks / f"{name}.json", overwrite=True) as partial:
                _flushed(partial, text.encode() + b"\n")
            return
        for key, array in arrays.items():
            if array.dtype.hasobject:
                raise TypeError(f"{key.removeprefix(ARRAY)}: an array of objects cannot be stored")
        with atomic_write(self._tasks / f"{name}.npz", overwrite=True) as partial, partial.open("wb") as stream:
            np.savez(stream, json=np.array(text), **arrays)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self, name: str) -> dict[str, Any]:
        """Return the result of a finished task.

        Raises
        ------
        DataFormatError
            If its file cannot be read.
        """
        path = self._tasks / f"{name}.json"
        try:
            if path.exists():
                return dict(json.loads(path.read_text(encoding="utf-8")))
            path = path.with_name(f"{name}.npz")
            with np.load(path, allow_pickle=False) as file:
                arrays = {key.removeprefix(ARRAY): file[key] for key in file.files if key.startswith(ARRAY)}
                return {**json.loads(str(file["json"])), **arrays}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataFormatError(
                f"cannot be read as the result of a task: {error}", path=path,
                remedy="Delete the file; the task is then done again.",
            ) from error  # fmt: skip


def _flushed(path: Path, content: bytes) -> None:
    """Write to the disk itself: a rename may reach it before the data do, and a crash leave an empty file."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """What differs between two configurations, key by key."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            where = f"{place}.{key}" if place else key
            if key not in before:
                yield f"{where} was not there, is now {now[key]!r}"
            elif key not in now:
                yield f"{where} was {before[key]!r}, is not there now"
            else:
                yield from _differences(before[key], now[key], where)
    elif before != now:
        yield f"{place} was {before!r}, is now {now!r}"
