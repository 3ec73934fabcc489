"""Whether this installation is sound: interpreter, packages, threads, device, shipped data, places to write."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, metadata, requires, version
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from obsfit.provenance import verify_sums

PURPOSE: Mapping[str, str] = MappingProxyType(
    {
        "cluster": "several machines, through Dask",
        "cuda": "back-tracking on an NVIDIA device",
        "dev": "the tests and checks of the project",
        "docs": "the pages as a site",
        "emulator": "nested sampling, regression",
        "events": "event lists in Parquet files",
        "fetch": "obsfit data fetch",
    }
)
"""What each optional set of packages is for."""

# Not from obsfit.execute, which imports numba: that raises where NUMBA_NUM_THREADS is 0.
THREAD_VARIABLES = (
    "DUCC0_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
SET_PATH = "Correct or unset it."


@dataclass(frozen=True)
class Check:
    """One finding about the installation.

    Attributes
    ----------
    name : str
        What was looked at.
    ok : bool
        The verdict. What is optional and absent is no fault.
    found : str
        What was found.
    remedy : str
        How to mend it, or to add what is optional; else empty.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


def check_installation(results: Path, environment: Mapping[str, str] | None = None) -> tuple[Check, ...]:
    """Return all findings about this installation; nothing is installed, fetched or left behind.

    Parameters
    ----------
    results : Path
        Folder that products would be written to; it is not made.
    environment : mapping, optional
        Environment variables. Default: `os.environ`.
    """
    environment = os.environ if environment is None else environment
    return (
        _python(),
        *_packages(),
        *_optional(),
        _models(),
        *_threads(environment),
        _device(),
        _kernel_cache(environment),
        _figures(),
        _earth_orientation(),
        _shipped_data(),
        *_data_of_models(),
        *_user_files(environment),
        _writable(results),
    )


def release(text: str) -> tuple[int, ...]:
    """Return the numbers of a version up to its first part that is none, without zeros at the end.

    Examples
    --------
    >>> release("1.26.4"), release("0.4.0rc1"), release("2024.5") < release("2024.10")
    ((1, 26, 4), (0, 4), True)
    """
    numbers = [int(part) for part in re.match(r"\d*(?:\.\d+)*", text)[0].split(".") if part]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _python() -> Check:
    wanted = metadata("obsfit")["Requires-Python"]
    ok = sys.version_info >= release(wanted.removeprefix(">="))
    return Check("python", ok, platform.python_version(), "" if ok else f"obsfit needs Python {wanted}")


def _package(requirement: str) -> Check:
    """Compare the version of an installed package with the lowest one that its requirement admits."""
    name = re.match(r"[\w.-]+", requirement)[0]  # type: ignore[index]
    remedy = f"python -m pip install '{requirement}'"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Check(name, False, "not installed", remedy)
    lowest = re.search(r">=\s*([\w.]+)", requirement)
    if lowest is not None and release(installed) < release(lowest[1]):
        return Check(name, False, f"{installed}, older than {lowest[1]}, the oldest that is tested", remedy)
    return Check(name, True, installed + ("" if lowest is None else f" (at least {lowest[1]})"))


def _packages() -> Iterator[Check]:
    for requirement in requires("obsfit") or []:
        if "extra ==" not in requirement:
            yield _package(requirement)


def _optional() -> Iterator[Check]:
    """Look at the optional sets of packages: one that is absent is no fault, one that is too old is."""
    wanted: dict[str, list[str]] = {}
    for requirement in requires("obsfit") or []:
        extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", requirement)
        if extra is not None:
            wanted.setdefault(extra[1], []).append(requirement.partition(";")[0].strip())
    for name, requirements in sorted(wanted.items()):
        checks = [_package(requirement) for requirement in requirements]
        absent = [check.name for check in checks if check.found == "not installed"]
        old = [f"{check.name} {check.found}" for check in checks if not check.ok and check.name not in absent]
        purpose = f"for {PURPOSE[name]}: " if name in PURPOSE else ""
        state = "; ".join([*old, *([f"{', '.join(absent)} not installed"] if absent else [])]) or "present"
        remedy = f"python -m pip install 'obsfit[{name}]'" if old or absent else ""
        yield Check(f"optional {name}", not old, purpose + state, remedy)


def _models() -> Check:
    """See that the module of every registered model can be found; loading them all would take seconds."""
    entries = sorted(entry_points(group="obsfit.models"))
    absent = []
    for entry in entries:
        try:
            found = find_spec(entry.module)
        except ImportError:
            found = None
        if found is None:
            absent.append(f"{entry.name} ({entry.value})")
    if absent or not entries:
        found_text = f"not to be found: {', '.join(absent)}" if absent else "none is registered"
        return Check("models", False, found_text, "Install the package that registers them again.")
    return Check("models", True, f"{len({entry.name for entry in entries})} registered; 'obsfit models list'")


def _threads(environment: Mapping[str, str]) -> Iterator[Check]:
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:
        usable = os.cpu_count() or 1
    yield Check("processors", True, f"{usable} of {os.cpu_count()} may be used")
    refused = set()
    for name in THREAD_VARIABLES:
        text = environment.get(name, "")
        if text and not (text.isdecimal() and int(text) > 0):
            refused.add(name)
            yield Check(name, False, f"{text!r}, expected a whole number from 1", SET_PATH)
    for library, names in (
        ("healpy", ("OMP_NUM_THREADS",)),
        ("ducc0", ("DUCC0_NUM_THREADS", "OMP_NUM_THREADS")),
    ):
        setting = next((name for name in names if environment.get(name)), "")
        if not setting:
            yield Check(f"{library} threads", True, f"all processors ({names[0]} is not set)")
        elif setting not in refused:
            yield Check(f"{library} threads", True, f"up to {environment[setting]} ({setting})")
    # Without numba, or where it would refuse the setting, the reason has been given.
    if "NUMBA_NUM_THREADS" not in refused and find_spec("numba") is not None:
        numba = importlib.import_module("numba")
        yield Check("numba threads", True, f"{numba.get_num_threads()} of {os.cpu_count()} processors")


def _device() -> Check:
    """Say whether numba can use a CUDA device; having none is no fault."""
    name = "CUDA device"
    try:
        cuda = importlib.import_module("numba.cuda")
        if cuda.is_available():
            device = cuda.get_current_device()
            label = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
            major, minor = device.compute_capability
            return Check(name, True, f"{label}, compute capability {major}.{minor}")
        cause = cuda.cuda_error()
    except Exception as error:
        # A driver can fail in many ways; all else works without one.
        cause = error
    # The text of numba is spread over several lines and goes on to advise.
    short = (
        " ".join(str(cause or "the compiler of CUDA (NVVM) was not found").split()).partition(". ")[0].rstrip(".")
    )
    return Check(name, True, f"none that can be used ({short}); the processors do its work")


def _kernel_cache(environment: Mapping[str, str]) -> Check:
    """Find the folder in which numba keeps compiled kernels: named, beside the source, or of the user."""
    named = environment.get("NUMBA_CACHE_DIR")
    if named:
        folders = [Path(named)]
    else:
        packages = sorted({entry.module.partition(".")[0] for entry in entry_points(group="obsfit.models")})
        beside = [Path(str(files(package))) for package in packages if find_spec(package) is not None]
        folders = [*beside, *_user_cache()]
    for folder in folders:
        if _refusal(folder) is None:
            return Check("kernel cache", True, f"compiled kernels are kept in {folder}")
    return Check(
        "kernel cache", False, f"{' and '.join(map(str, folders))} cannot be written: kernels cannot be kept",
        "Set NUMBA_CACHE_DIR to a folder that can be written.",
    )  # fmt: skip


def _user_cache() -> Iterator[Path]:
    try:
        appdirs = importlib.import_module("numba.misc.appdirs")
    except (ImportError, ValueError):
        # Absent, or refusing NUMBA_NUM_THREADS: either has been reported.
        return
    yield Path(appdirs.user_cache_dir("numba", False))


def _figures() -> Check:
    try:
        importlib.import_module("matplotlib.backends.backend_agg")
    except (ImportError, ValueError) as error:
        # matplotlib refuses an unknown MPLBACKEND as soon as it is imported.
        return Check("figures", False, str(error), "Unset MPLBACKEND, or install matplotlib again.")
    return Check("figures", True, "drawn by the backend Agg, whatever MPLBACKEND says; no display is needed")


def _earth_orientation() -> Check:
    """See that astropy brings its table: sidereal time must not need the network."""
    try:
        table = Path(importlib.import_module("astropy_iers_data").IERS_B_FILE)
    except (ImportError, AttributeError):
        table = Path()
    if not table.is_file():
        return Check(
            "sidereal time", False, "astropy has no Earth-orientation table",
            "python -m pip install astropy-iers-data",
        )  # fmt: skip
    issue = version("astropy-iers-data")
    return Check(
        "sidereal time", True,
        f"from the table of astropy-iers-data {issue}; nothing is downloaded, the local time zone plays no part",
    )  # fmt: skip


def _shipped_data() -> Check:
    try:
        with as_file(files("obsfit_data")) as folder:
            return _sums("shipped data", folder)
    except ModuleNotFoundError as error:
        return Check("shipped data", False, str(error), "Install obsfit again.")


def _data_of_models() -> Iterator[Check]:
    """Check every folder with a SHA256SUMS in the packages that register models."""
    for package in sorted({entry.module.partition(".")[0] for entry in entry_points(group="obsfit.models")}):
        if find_spec(package) is None:
            continue
        with as_file(files(package)) as folder:
            for sums in sorted(folder.rglob("SHA256SUMS")):
                inside = sums.parent.relative_to(folder).as_posix()
                yield _sums(package if inside == "." else f"{package}/{inside}", sums.parent)


def _sums(name: str, folder: Path) -> Check:
    try:
        wrong = verify_sums(folder)
    except OSError as error:
        return Check(name, False, str(error), "Install obsfit again.")
    if wrong:
        found = ", ".join(f"{file} {what}" for file, what in wrong.items())
        return Check(name, False, found, "Install it again, or record the change in SHA256SUMS.")
    return Check(name, True, "every file has its checksum")


def _user_files(environment: Mapping[str, str]) -> Iterator[Check]:
    """Look at the variables that point to a user's files for the figures."""
    folder = environment.get("OBSFIT_DATA_SOURCES", "")
    if not folder:
        yield Check("your data", True, "OBSFIT_DATA_SOURCES is not set: figures that need such a file say so")
    elif not Path(folder).is_dir():
        yield Check("OBSFIT_DATA_SOURCES", False, f"{folder} is no folder", SET_PATH)
    else:
        yield Check("OBSFIT_DATA_SOURCES", True, folder)
    for name, path in sorted(environment.items()):
        if path and re.fullmatch(r"OBSFIT_\w+_SPECTRUM", name):
            ok = Path(path).is_file()
            yield Check(name, ok, path if ok else f"{path} is no file", "" if ok else SET_PATH)


def _writable(folder: Path) -> Check:
    refusal = _refusal(folder)
    if refusal is None:
        return Check("results folder", True, f"{folder} can be written")
    return Check("results folder", False, f"{folder}: {refusal}", "Choose another with --results.")


def _refusal(folder: Path) -> str | None:
    """Return why nothing can be written to a folder, or to the nearest above it that exists; None if it can."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        # Permission bits do not tell of a full disk or a read-only file system.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return error.strerror or str(error)
