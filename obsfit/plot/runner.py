"""Run the analyses of a checkout: find them, make each figure once, and keep what is finished."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.resources
import importlib.util
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from astropy.table import Table

import obsfit
from obsfit.errors import ConfigurationError, DataFormatError, ObsfitError, PluginError
from obsfit.plot.report import (
    ENTRY_FILE,
    FigureEntry,
    load_entry,
    read_expected,
    store_entry,
    write_report,
)
from obsfit.provenance import sha256, source_checksum

EXPECTED_FILE = "expected.ecsv"
PAGE_TITLE = "Cosmic-ray anisotropy: the figures of the papers, made again"
_CONSTANTS = ("KEY", "TITLE", "PAPER", "FIGURE")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Analysis:
    """One figure's program, as its file describes itself.

    Attributes
    ----------
    key, title, paper, figure : str
        The constants KEY, TITLE, PAPER and FIGURE of the file.
    path : Path
        The file; it defines ``make(context) -> FigureEntry``.
    user_files : mapping of str to str
        The constant USER_FILES, if any: name of a file of the user's to the environment variable that points to it,
        or to ``VARIABLE/path`` with a variable that points to a folder, in which the file may be missing.
    """

    key: str
    title: str
    paper: str
    figure: str
    path: Path
    user_files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Context:
    """What the program of a figure is given.

    Attributes
    ----------
    directory : Path
        Folder for its image, table and products.
    full : bool
        True for the statistics of the paper, False for a run of seconds.
    rng : numpy.random.Generator
        Its own stream: a child of the seed keyed by the figure's key, whatever else runs before it.
    seed : int
        Seed of the run.
    expected : astropy.table.Table
        Numbers that the paper states (`obsfit.plot.report.read_expected`); empty where the folder has none.
    user_files : mapping of str to Path
        Files of the user's that exist, by the names of USER_FILES.
    """

    directory: Path
    full: bool
    rng: np.random.Generator
    seed: int
    expected: Table
    user_files: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))


Progress = Callable[[int, int, Analysis, float | None], None]
"""Called before each figure with its place (from 1), the number of figures, and the seconds it took last time."""


def find_analyses(start: str | Path | None = None) -> Path:
    """Return the folder ``analyses`` of the checkout.

    It is sought beside the installed package (an editable installation) and then in `start`, by default the
    current directory.

    Raises
    ------
    ConfigurationError
        If there is none: wheels do not carry the analyses.
    """
    package = Path(obsfit.__file__).resolve()
    candidates = [Path(start or Path.cwd()).resolve()]
    if start is None:
        candidates.insert(0, package.parent.parent)
    for candidate in candidates:
        if (candidate / "analyses").is_dir() and (candidate / "pyproject.toml").is_file():
            return candidate / "analyses"
    raise ConfigurationError(
        f"no analyses in {' or '.join(str(candidate) for candidate in candidates)}",
        expected="a checkout of obsfit: the analyses are not part of the installed package",
        remedy="Clone the repository, run 'make' in it, and call 'obsfit reproduce' there.",
    )


def discover(folder: str | Path) -> tuple[Analysis, ...]:
    """Return the analyses of a folder, ``<paper>/<figure>.py``, sorted by path.

    The files are parsed, not run: KEY, TITLE, PAPER, FIGURE (and USER_FILES) are literals at the top of each.
    Files whose name begins with an underscore are helpers and are skipped.

    Raises
    ------
    ConfigurationError
        If a file lacks a constant, its key is no plain name, or two files share a key.
    """
    found: dict[str, Analysis] = {}
    for path in sorted(Path(folder).glob("*/*.py"), key=_natural):
        if path.name.startswith("_"):
            continue
        analysis = _describe(path)
        if analysis.key in found:
            raise ConfigurationError(
                f"key {analysis.key!r} belongs to {found[analysis.key].path} already",
                path=path,
                value=analysis.key,
            )
        found[analysis.key] = analysis
    return tuple(found.values())


def choose(analyses: Sequence[Analysis], only: Sequence[str]) -> tuple[Analysis, ...]:
    """Return the analyses whose keys are in `only`, in their own order; all where `only` is empty.

    Raises
    ------
    ConfigurationError
        If a key is unknown; the nearest known one is named.
    """
    known = [analysis.key for analysis in analyses]
    for key in only:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigurationError(
                f"no figure {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                value=key,
                expected=f"one of {', '.join(known)}",
            )
    return tuple(analysis for analysis in analyses if not only or analysis.key in only)


def generator(seed: int, key: str) -> np.random.Generator:
    """Return the random stream of one figure: the same for the same seed and key, whatever else is run.

    Examples
    --------
    >>> bool(generator(1, "a").random() == generator(1, "a").random())
    True
    """
    words = np.frombuffer(hashlib.sha256(key.encode()).digest()[:16], dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words)))


def run(
    analyses: Sequence[Analysis],
    results: str | Path,
    *,
    seed: int,
    full: bool = False,
    force: bool = False,
    only: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[FigureEntry, ...]:
    """Make the figures that are not finished, write the page, and return the entries of all that it shows.

    A figure is finished when its stored entry was made with the same configuration, the same program file and helpers,
    the same expected numbers and the same data. One that stops with an error is shown as failed with the text of the
    error; the others go on. The page is written even when the run is interrupted.

    Parameters
    ----------
    analyses : sequence of Analysis
        All analyses of the checkout (`discover`).
    results : str or Path
        Folder of the page; each figure has a folder of its key in it.
    seed : int
        Seed of all random streams.
    full : bool
        Statistics of the papers instead of a quick run.
    force : bool
        Make chosen figures again even when finished.
    only : sequence of str
        Keys to run (default: all); the page still shows the stored entries of the others.
    environment : mapping, optional
        Where USER_FILES are looked up (default: `os.environ`).
    progress : callable, optional
        Told of each figure that is about to be made.
    """
    results = Path(results)
    environment = os.environ if environment is None else environment
    chosen = {analysis.key for analysis in choose(analyses, only)}
    entries: dict[str, FigureEntry] = {}
    waiting: list[tuple[Analysis, float | None]] = []
    for analysis in analyses:
        stored = _stored(analysis, results)
        if stored is not None:
            entries[analysis.key] = stored[0]
        if analysis.key not in chosen:
            continue
        if stored is not None and not force and _finished(analysis, stored, results, seed, full, environment):
            log.info("%s is finished", analysis.key)
            continue
        waiting.append((analysis, stored[0].runtime_s if stored and not stored[0].error else None))
    try:
        for place, (analysis, seconds) in enumerate(waiting, start=1):
            if progress is not None:
                progress(place, len(waiting), analysis, seconds)
            # Until it is made again, the old entry describes files that are being replaced.
            entries.pop(analysis.key, None)
            entries[analysis.key] = _make(analysis, results, seed, full, environment)
    finally:
        shown = [entries[analysis.key] for analysis in analyses if analysis.key in entries]
        missing = {
            analysis.key: f"{analysis.paper}, {analysis.figure}"
            for analysis in analyses
            if analysis.key not in entries
        }
        write_report(shown, results, title=PAGE_TITLE, missing=missing)
    return tuple(shown)


def _make(analysis: Analysis, results: Path, seed: int, full: bool, environment: Mapping[str, str]) -> FigureEntry:
    directory = results / analysis.key
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ENTRY_FILE).unlink(missing_ok=True)
    print_ = _fingerprint(analysis, seed, full, environment)
    start = time.perf_counter()
    try:
        expected_path = analysis.path.parent / EXPECTED_FILE
        expected = read_expected(expected_path) if expected_path.exists() else _no_expected()
        files = _user_files(analysis, environment)
        for name, path in files.items():
            if not path.is_file():
                raise ConfigurationError(
                    f"{analysis.user_files[name]} points to no file", path=path, remedy="Correct or unset it."
                )
        context = Context(directory, full, generator(seed, analysis.key), seed, expected, MappingProxyType(files))
        entry = _checked(_load(analysis).make(context), analysis, directory)
        entry = replace(entry, runtime_s=time.perf_counter() - start)
    except Exception as error:
        # One figure's failure, of whatever kind, must not lose the others: it is recorded, shown and ends in exit 1.
        log.error("%s failed: %s", analysis.key, error)
        log.debug("%s", traceback.format_exc())
        entry = FigureEntry(
            analysis.key,
            analysis.paper,
            analysis.figure,
            analysis.title,
            "failed",
            caption="",
            alt="",
            runtime_s=time.perf_counter() - start,
            error=_error_text(error),
        )
    store_entry(entry, directory, print_)
    return entry


def _error_text(error: Exception) -> str:
    if isinstance(error, ObsfitError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"\nin {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _checked(entry: object, analysis: Analysis, directory: Path) -> FigureEntry:
    if not isinstance(entry, FigureEntry):
        raise PluginError(
            f"make returned {type(entry).__name__}", path=analysis.path, expected="a FigureEntry", value=entry
        )
    if entry.key != analysis.key:
        raise PluginError(
            f"make returned the key {entry.key!r}", path=analysis.path, expected=f"KEY, which is {analysis.key!r}"
        )
    for name in (entry.image, entry.svg, entry.table):
        if name and not (directory / name).is_file():
            raise PluginError(f"make names {name}, which it did not write", path=analysis.path)
    return entry


def load_program(path: str | Path) -> ModuleType:
    """Return a file of the analyses as a module: how figures reach a helper ``_name.py`` that they share.

    A change of any helper makes all figures stale, whichever folder it is in.

    Raises
    ------
    PluginError
        If it is no Python file.
    """
    path = Path(path)
    name = f"obsfit_analysis_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError("cannot be loaded as a Python file", path=path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load(analysis: Analysis) -> ModuleType:
    module = load_program(analysis.path)
    if not callable(getattr(module, "make", None)):
        raise PluginError("has no function make", path=analysis.path, expected="make(context) -> FigureEntry")
    return module


def _describe(path: Path) -> Analysis:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise ConfigurationError(f"is no Python: {error.msg}", path=path, row=error.lineno) from error
    found: dict[str, Any] = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            continue
        if node.targets[0].id in (*_CONSTANTS, "USER_FILES"):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConfigurationError(
                    f"{node.targets[0].id} is not a literal", path=path, row=node.lineno
                ) from error
    for name in _CONSTANTS:
        if not isinstance(found.get(name), str):
            raise ConfigurationError(f"defines no text {name}", path=path, expected=", ".join(_CONSTANTS))
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", found["KEY"]):
        raise ConfigurationError(
            f"KEY {found['KEY']!r} is no plain name", path=path, expected="small letters, digits and hyphens"
        )
    user_files = MappingProxyType(dict(found.get("USER_FILES", {})))
    return Analysis(found["KEY"], found["TITLE"], found["PAPER"], found["FIGURE"], path, user_files)


def _natural(path: Path) -> tuple[str, list[tuple[int, str]]]:
    """Sort figure2 before figure10."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return path.parent.name, [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _no_expected() -> Table:
    return Table(
        names=("figure", "quantity", "paper_value", "unit", "tolerance", "source"),
        dtype=(str, str, float, str, float, str),
    )


def _stored(analysis: Analysis, results: Path) -> tuple[FigureEntry, dict[str, Any]] | None:
    try:
        return load_entry(results / analysis.key)
    except FileNotFoundError:
        return None
    except DataFormatError as error:
        log.warning("%s is made again: %s", analysis.key, error)
        return None


def _finished(
    analysis: Analysis,
    stored: tuple[FigureEntry, dict[str, Any]],
    results: Path,
    seed: int,
    full: bool,
    environment: Mapping[str, str],
) -> bool:
    entry, fingerprint = stored
    directory = results / analysis.key
    return (
        not entry.error
        and fingerprint == _fingerprint(analysis, seed, full, environment)
        and all((directory / name).is_file() for name in (entry.image, entry.svg, entry.table) if name)
        and all(_checksum_now(source.path) == source.sha256 for source in entry.data if source.path)
    )


def _fingerprint(analysis: Analysis, seed: int, full: bool, environment: Mapping[str, str]) -> dict[str, Any]:
    folder = analysis.path.parent
    programs = [analysis.path, *sorted(folder.parent.glob("*/_*.py")), folder / EXPECTED_FILE]
    user_files = {
        name: [str(path), _sha256(path)] for name, path in sorted(_user_files(analysis, environment).items())
    }
    return {
        "version": obsfit.__version__,
        "configuration": {"full": full, "seed": seed},
        "library": source_checksum(),
        "programs": {f"{path.parent.name}/{path.name}": _sha256(path) for path in programs if path.exists()},
        "user_files": user_files,
    }


def _user_files(analysis: Analysis, environment: Mapping[str, str]) -> dict[str, Path]:
    """Return where the files of the user's are, by name; those of a folder only if they exist."""
    found = {}
    for name, place in analysis.user_files.items():
        variable, _, inside = place.partition("/")
        if not environment.get(variable):
            continue
        path = (Path(environment[variable]) / inside).resolve()
        if path.is_file() or not inside:
            found[name] = path
    return found


def _checksum_now(path: str) -> str:
    """Return the checksum of a data file as it is today: a path of the data package, or an absolute one."""
    file = Path(path)
    if not file.is_absolute():
        file = Path(str(importlib.resources.files("obsfit_data"))) / path
    return _sha256(file)


def _sha256(path: Path) -> str:
    return sha256(path) if path.is_file() else ""


__all__ = [
    "Analysis",
    "Context",
    "choose",
    "discover",
    "find_analyses",
    "generator",
    "load_program",
    "run",
]
