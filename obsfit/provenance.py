"""Where a product comes from: versions, checksums, and files that are whole or absent."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = (
    "obsfit", "numpy", "scipy", "pandas", "astropy", "healpy", "numba", "ducc0", "emcee", "h5py", "matplotlib",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python, obsfit and the packages that its numbers rest on; empty if not installed.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['astropy', 'ducc0', 'emcee']
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def sha256(path: str | Path) -> str:
    """Return the SHA-256 checksum of a file, 64 hexadecimal digits.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_checksum(*, without: Collection[str] = ()) -> str:
    """Return one checksum of the source of obsfit and of every package or single module that registers a model.

    A product made by other programs is not the same product, whatever the version number says.

    Parameters
    ----------
    without : collection of str
        Modules and rooms of obsfit, such as "plot", that a product does not depend on.
    """
    models = {entry.value.partition(":")[0].partition(".")[0] for entry in entry_points(group="obsfit.models")}
    digest = hashlib.sha256()
    for package in ("obsfit", *sorted(models - {"obsfit"})):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue  # registered, but its source is gone: no model comes of it either
        source = Path(spec.origin)
        folder = source.parent
        for file in sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [source]:
            inside = file.relative_to(folder)
            if package != "obsfit" or inside.parts[0] not in without:
                digest.update(f"{package}/{inside.as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def stamp(
    kind: str,
    *,
    format_version: int = 1,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the metadata that every product of obsfit carries.

    Parameters
    ----------
    kind : str
        What the file is, for example "fit"; stored as `obsfit_format`.
    format_version : int
        Version of the layout of that kind of file.
    seed : int, optional
        Seed of the random numbers; None where none were drawn.
    configuration : mapping, optional
        The resolved configuration.
    data : mapping of str to str, optional
        Checksum of each data set that entered, by name.

    Returns
    -------
    dict
        Keys obsfit_format, format_version, versions, seed, configuration, data_sha256. It holds no date and no
        path, so that equal inputs give equal files.
    """
    return {
        "obsfit_format": kind,
        "format_version": format_version,
        "versions": versions(),
        "seed": seed,
        "configuration": dict(configuration or {}),
        "data_sha256": dict(data or {}),
    }


def verify_sums(folder: Path) -> dict[str, str]:
    """Return what is wrong with the files of a folder, by name, according to its SHA256SUMS; empty if all is well.

    Every file listed must exist with its checksum, and every ECSV table beside it must be listed.

    Parameters
    ----------
    folder : Path
        Folder with a file SHA256SUMS whose lines are ``checksum  name``.

    Raises
    ------
    OSError
        If SHA256SUMS cannot be read.
    """
    expected = {}
    for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        checksum, _, name = line.partition("  ")
        expected[name.strip()] = checksum
    wrong = {}
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            wrong[name] = "missing"
        elif sha256(path) != checksum:
            wrong[name] = "changed"
    tables = {path.relative_to(folder).as_posix() for path in folder.rglob("*.ecsv")}
    wrong.update(dict.fromkeys(sorted(tables - set(expected)), "not listed in SHA256SUMS"))
    return wrong


@contextmanager
def atomic_write(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path to write to, ``name.partial``, and rename it to `path` if the block ends without an error.

    A reader therefore never sees half a file. After an error the partial file is removed.

    Parameters
    ----------
    path : str or Path
        The file to make; its folder is made if need be.
    overwrite : bool
        Replace an existing file.

    Yields
    ------
    Path
        The partial file, for the caller to open in any mode.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is false; raised before anything is written.
    """
    target = Path(path)
    _refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    try:
        yield partial
        # Looked at again, because a long run leaves time for another to write the same file.
        _refuse_existing(target, overwrite)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or overwrite it (--overwrite)")
