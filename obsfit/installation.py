"""Whether this installation is sound: interpreter, packages, threads, shipped data, a place to write."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.resources import as_file, files
from pathlib import Path

from obsfit.provenance import verify_sums


@dataclass(frozen=True)
class Check:
    """One finding about the installation.

    Attributes
    ----------
    name : str
        What was looked at.
    ok : bool
        The verdict.
    found : str
        What was found.
    remedy : str
        How to mend it; empty if all is well.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


def check_installation(results: Path) -> tuple[Check, ...]:
    """Return all findings about this installation.

    Parameters
    ----------
    results : Path
        Folder that products would be written to; it is not made.
    """
    return (_python(), *_packages(), _threads(), _shipped_data(), _writable(results))


def _python() -> Check:
    wanted = metadata("obsfit")["Requires-Python"]
    lowest = tuple(int(part) for part in re.findall(r"\d+", wanted))
    ok = sys.version_info >= lowest
    return Check("python", ok, platform.python_version(), "" if ok else f"obsfit needs Python {wanted}")


def _packages() -> Iterator[Check]:
    for requirement in requires("obsfit") or []:
        if "extra ==" in requirement:
            continue
        name = re.match(r"[\w.-]+", requirement)[0]  # type: ignore[index]
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            yield Check(name, False, "not installed", f"python -m pip install '{requirement}'")


def _threads() -> Check:
    import numba

    return Check("numba threads", True, f"{numba.get_num_threads()} of {os.cpu_count()} processors")


def _shipped_data() -> Check:
    try:
        with as_file(files("obsfit_data")) as folder:
            wrong = verify_sums(folder)
    except (ModuleNotFoundError, OSError) as error:
        return Check("shipped data", False, str(error), "Install obsfit again.")
    if wrong:
        found = ", ".join(f"{name} {what}" for name, what in wrong.items())
        return Check("shipped data", False, found, "Install obsfit again, or record the change in SHA256SUMS.")
    return Check("shipped data", True, "every file has its checksum")


def _writable(folder: Path) -> Check:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        # Permission bits do not tell of a full disk or a read-only file system.
        with tempfile.TemporaryFile(dir=existing):
            return Check("results folder", True, f"{folder} can be written")
    except OSError as error:
        return Check("results folder", False, f"{folder}: {error.strerror}", "Choose another with --results.")
