"""Ensembles as configurations describe them: computed by the model whose draws are taken from them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from obsfit.configuration import load_configuration, read_settings
from obsfit.errors import ObsfitError, PluginError
from obsfit.plugins import available_models, load_model
from obsfit.protocols import EnsembleSummary, OffersEnsemble


@dataclass(frozen=True)
class _Named:
    """The one key that is not the model's own."""

    __pydantic_config__ = ConfigDict(extra="ignore")

    model: str = "turbulent-displacement"


def run_configured_ensemble(
    path: str | Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> EnsembleSummary:
    """Compute the ensemble that a TOML file describes, write its product, and return what it is in short.

    Parameters
    ----------
    path : str or Path
        File whose keys, besides ``schema`` and ``model``, are those of the settings of that model. Its output is
        relative to the folder of the file.
    workers, scheduler, progress
        As `obsfit.execute.run_tasks`; the numbers do not depend on them.
    overwrite : bool
        Replace an existing product.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, a key is unknown or its value makes no sense, or there is a product already.
    PluginError
        If the model is not installed, or computes no ensemble.
    """
    path = Path(path)
    name = load_configuration(path, _Named).model
    with _telling(path):
        model = load_model(name)
    if not isinstance(model, OffersEnsemble):
        able = [one for one in available_models() if _offers_ensemble(one)]
        raise PluginError(
            f"model {name!r} computes no ensemble", path=path, value=name,
            expected=f"one that does, such as {', '.join(able) or 'none of those installed'}",
        )  # fmt: skip
    raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    own = {key: value for key, value in raw.items() if key not in ("schema", "model")}
    settings = read_settings(own, model.ensemble_settings, path=path)
    with _telling(path):
        return model.run_ensemble(
            settings,
            base=path.parent,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
            overwrite=overwrite,
        )


def _offers_ensemble(name: str) -> bool:
    try:
        return isinstance(load_model(name), OffersEnsemble)
    except PluginError:
        return False


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Give an error that names no file the configuration in which its cause stands."""
    try:
        yield
    except ObsfitError as error:
        if error.path is not None:
            raise
        raise type(error)(
            error.problem, path=path, row=error.row, column=error.column, value=error.value,
            expected=error.expected, remedy=error.remedy,
        ) from error  # fmt: skip
