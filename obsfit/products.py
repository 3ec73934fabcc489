"""Folders of products: all files or none, with a manifest that tells how they were made."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from obsfit.errors import ConfigurationError
from obsfit.provenance import sha256


def check_folder(folder: str | Path, *, overwrite: bool) -> None:
    """Raise if a folder of products holds files already and may not be overwritten.

    Raises
    ------
    ConfigurationError
        If the folder exists and is not empty, or is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError("the output is a file", path=folder, expected="the name of a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError(
            "the output folder is not empty", path=folder, expected="a folder that is empty or not there yet",
            remedy="Choose another output, or replace it with overwrite (--overwrite).",
        )  # fmt: skip


def write_folder(
    folder: str | Path,
    writers: Mapping[str, Callable[[Path], object]],
    head: Mapping[str, Any],
    *,
    manifest: str,
    overwrite: bool = False,
) -> Path:
    """Write the files of a product, all of them or none, with a manifest that tells what they are; return its path.

    Everything is written into a folder beside it first, and moved when the last file is complete. With `overwrite`,
    files that an older manifest of that name lists and the new one does not are removed; other files stay.

    Parameters
    ----------
    folder : str or Path
        The folder to fill; it is made if need be.
    writers : mapping of str to callable
        Each is called with the path to write to, which ends in its name.
    head : mapping
        What the manifest says beside the checksums of the files, as of `stamp`.
    manifest : str
        Name of the manifest, a JSON file.
    overwrite : bool
        Replace files of an earlier product.

    Raises
    ------
    ConfigurationError
        As `check_folder`.
    """
    folder = Path(folder)
    check_folder(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".partial", dir=folder.parent))
    try:
        for name, write in writers.items():
            write(partial / name)
        files = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        text = json.dumps({**head, "files": files}, indent=1, allow_nan=False)
        (partial / manifest).write_text(text + "\n", encoding="utf-8")
        old = _listed(folder / manifest)
        folder.mkdir(exist_ok=True)
        for name in [*files, manifest]:
            (partial / name).replace(folder / name)
        for name in old - set(files):
            (folder / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / manifest


def _listed(manifest: Path) -> set[str]:
    """Names of files that a manifest of an earlier product lists, plain names only."""
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {str(name) for name in files if Path(str(name)).name == name}
