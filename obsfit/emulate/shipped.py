"""Emulators that packages of models ship, and emulators in files of one's own."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

from obsfit.emulate.emulator import Emulator, read_emulator
from obsfit.errors import ConfigurationError

__all__ = ["available_emulators", "load_emulator", "located_emulator"]


def available_emulators() -> dict[str, Path]:
    """Return the files of shipped emulators by name: those in the folder ``emulators`` of packages with models."""
    packages = {entry.module.partition(".")[0] for entry in entry_points(group="obsfit.models")}
    found: dict[str, Path] = {}
    for package in sorted(packages):
        try:
            folder = Path(str(files(package))) / "emulators"
        except ModuleNotFoundError:
            continue
        found |= {path.stem: path for path in sorted(folder.glob("*.h5"))}
    return found


def located_emulator(name: str, base: Path) -> Path:
    """Return the file that a configuration names: a shipped emulator, or any other text as a path relative to `base`.

    Raises
    ------
    ConfigurationError
        If neither is there.
    """
    shipped = available_emulators()
    path = shipped.get(name, base / name)
    if not path.is_file():
        raise ConfigurationError(
            f"there is no emulator {name!r}", value=name, path=path,
            expected=f"a file, or one of those that are shipped: {', '.join(shipped) or 'none is'}",
            remedy="Train one with 'obsfit emulate'.",
        )  # fmt: skip
    return path


def load_emulator(name_or_path: str | Path) -> Emulator:
    """Return an emulator by its shipped name, or from a file.

    Raises
    ------
    ConfigurationError
        If there is none.
    DataFormatError
        As `read_emulator`.
    """
    return read_emulator(located_emulator(str(name_or_path), Path()))
