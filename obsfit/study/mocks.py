"""What studies of mock universes share: their settings, how mocks are run, and what errs in a mock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import astropy.units as u
import numpy as np

from obsfit.configuration import FORBID
from obsfit.execute import run_tasks
from obsfit.infer.configured import FitConfiguration
from obsfit.ingest.catalogue import load_table
from obsfit.parameters import FloatArray
from obsfit.records import DipoleMeasurements, PowerSpectrum


@dataclass(frozen=True)
class MockUniverse:
    """A truth, and what would have been published of it.

    Attributes
    ----------
    names : tuple of str, length n_par
        Parameters, nuisances included.
    truth : ndarray, shape (n_par,)
        Their values.
    records : tuple of PowerSpectrum and DipoleMeasurements
        The observations.
    """

    names: tuple[str, ...]
    truth: FloatArray
    records: tuple[PowerSpectrum | DipoleMeasurements, ...]


@dataclass(frozen=True)
class StudyConfiguration:
    """What every study says.

    Attributes
    ----------
    seed : int
        Seed of the study; each mock has its own stream, keyed by its number.
    mocks : int
        Number of mock universes.
    fit : FitConfiguration
        The fit under test; truths are drawn from its priors. Its seed and output are not used.
    output : str
        Folder of the results, relative to the file.
    noise_table : str
        For spectra of a nearly full sky: auxiliary table of the error against declination of the map.
    """

    __pydantic_config__ = FORBID

    seed: int
    mocks: int
    fit: FitConfiguration
    output: str = "study"
    noise_table: str = "hawc-icecube-2019-noise"


Study = TypeVar("Study", bound=StudyConfiguration)
Made = TypeVar("Made")
_MADE: dict[tuple[str, ...], Any] = {}


def made_once(make: Callable[[Study, Path], Made], configuration: Study, base: Path) -> Made:
    """Return what a function makes of a study, made once in each process: posteriors read tables and build operators.

    Parameters
    ----------
    make : callable
        Called as ``make(configuration, base)``; what it returns is never changed.
    configuration : StudyConfiguration
        The study, which is told from others by its settings.
    base : Path
        Folder to which paths are relative.
    """
    key = (make.__module__, make.__qualname__, repr(configuration), str(base.resolve()))
    if key not in _MADE:
        # A process works on one study at a time.
        _MADE.clear()
        _MADE[key] = make(configuration, base)
    made: Made = _MADE[key]
    return made


def run_mocks(
    function: Callable[[Study, Path, str, int], Mapping[str, Any]],
    configuration: Study,
    *,
    kind: str,
    base: Path,
    workers: int,
    scheduler: str | None,
    progress: bool,
) -> list[dict[str, Any]]:
    """Return the outcome of each mock of a study; those that its folder holds already are not done again.

    Parameters
    ----------
    function : callable
        Called as ``function(configuration, base, kind, index)``, see `obsfit.execute.run_tasks`.
    configuration : StudyConfiguration
        The study.
    kind : str
        What a mock is called; it is part of the key of each.
    base : Path
        Folder to which paths are relative.
    workers, scheduler, progress
        As `obsfit.execute.run_tasks`.
    """
    # More mocks of the same study are a continuation, and it may be moved.
    settings = {key: value for key, value in asdict(configuration).items() if key not in ("mocks", "output")}
    return run_tasks(
        # Workers elsewhere stand in other folders.
        partial(function, configuration, base.resolve()),
        [(kind, index) for index in range(configuration.mocks)],
        store=base / configuration.output, configuration=settings, workers=workers, scheduler=scheduler,
        progress=progress,
    )  # fmt: skip


def map_noise(noise_table: str, record: PowerSpectrum, values: Mapping[str, float]) -> dict[str, Any]:
    """Return the arguments by which `obsfit.mock.mock_spectrum` and `observe_full_sky` make the noise of a map.

    Parameters
    ----------
    noise_table : str
        Auxiliary table of the error against declination.
    record : PowerSpectrum
        Its estimate of the noise is that of the mock, times ten to the nuisance.
    values : mapping of str to float
        Parameters of the truth; ``log10_noise`` counts.
    """
    table = load_table(noise_table)
    dec = 0.5 * (u.Quantity(table["dec_min"]) + u.Quantity(table["dec_max"])).to_value("rad")
    sigma = np.asarray(table["sigma"], dtype=np.float64)
    known = np.isfinite(sigma)
    return {
        "noise": record.noise[0] * 10.0 ** values.get("log10_noise", 0.0),
        "noise_dec_rad": dec[known],
        "noise_profile": sigma[known] ** 2,
    }


def experiment_errors(
    record: DipoleMeasurements,
    experiments: Sequence[str],
    values: Mapping[str, float],
    *,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the arguments by which `obsfit.mock.mock_dipoles` and `observe_dipoles` err beyond published errors.

    Parameters
    ----------
    record : DipoleMeasurements
        Rows to imitate.
    experiments : sequence of str
        Names of the experiments in the order in which their errors are drawn.
    values : mapping of str to float
        Parameters of the truth; the scatters count.
    rng : numpy.random.Generator
        Source of the errors, one of each kind for each experiment.
    """
    member = [list(experiments).index(name) for name in record.observatory]
    scale = values.get("amplitude_scatter", 0.0) * rng.normal(size=len(experiments))
    turn = np.radians(values.get("direction_scatter", 0.0)) * rng.normal(size=len(experiments))
    return {
        "scale": scale[member],
        "across": turn[member],
        "extra_error": 10.0 ** values["log10_intrinsic_scatter"] if "log10_intrinsic_scatter" in values else 0.0,
    }
