"""Calibration of fits through an emulator: mock universes in fields that it did not learn from, and of others."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import healpy as hp
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsfit.configuration import FORBID, load_configuration
from obsfit.emulate.configured import EmulatorConfiguration, configured_training
from obsfit.emulate.emulator import Emulator, read_emulator, train_emulator, write_emulator
from obsfit.emulate.folding import RIGHT_ASCENSION, FoldedData, SimulatedModel
from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.execute import child_generator, run_tasks
from obsfit.infer.emulated import EmulatedPosterior, predictive_p
from obsfit.infer.importance import run_importance
from obsfit.infer.left_out import predict_left_out
from obsfit.infer.one_sky_term import weight_name
from obsfit.plugins import load_model
from obsfit.study.coverage import coverage_table
from obsfit.study.universes import observe_records

logger = logging.getLogger(__name__)
CHECKS = ("predictive_p", "small_scale_p")
"""P-values of each universe, see `run_held_out`."""
SAMPLES = 400
"""Posterior samples of each fit from which repeated data are drawn."""


@dataclass(frozen=True)
class HeldOutConfiguration:
    """A calibration study of fits through an emulator.

    Attributes
    ----------
    seed : int
        Seed of the study.
    mocks : int
        Number of mock universes, at most the number of fields of the store: each is made in a field of its own.
    emulator : str
        Configuration of the emulator, as ``obsfit emulate`` takes it, relative to the file.
    kind : str
        "emulator".
    folds : int
        Into how many parts fields are divided. A universe is fitted by the emulator that learnt from the other parts.
    other : str or tuple of str
        Stores of other simulators, relative to the file: as many universes as each has fields, up to `mocks`, are made
        of it and fitted by the emulator that learnt from all fields. They go by the names of their folders.
    small_scales : float
        Factor on the power at l >= 2 of a third set of universes, in the fields of the first: skies that the emulator
        does not know, of which the predictive check is to find out. 0: none.
    output : str
        Folder of the results, relative to the file.
    effective_size : float
        Effective number of posterior samples of each fit.
    max_evaluations : int
        Calls of the likelihood at which a fit gives up.
    noise_table : str
        Auxiliary table of the error against declination of nearly full maps.
    """

    __pydantic_config__ = FORBID

    seed: int
    mocks: int
    emulator: str
    kind: str = "emulator"
    folds: int = 6
    other: str | tuple[str, ...] = ()
    small_scales: float = 0.0
    output: str = "emulator-coverage"
    effective_size: float = 400.0
    max_evaluations: int = 60_000
    noise_table: str = "hawc-icecube-2019-noise"

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ConfigurationError(f"folds = {self.folds}", expected="at least 2")
        if self.mocks < 1:
            raise ConfigurationError(f"mocks = {self.mocks}", expected="at least 1")
        if not 0.0 <= self.small_scales < np.inf:
            raise ConfigurationError(f"small_scales = {self.small_scales}", expected="a factor, or 0 for none")
        if len(self.others) < len(set(self._other)):
            raise ConfigurationError(
                f"other = {list(self._other)}", expected="stores in folders of different names"
            )

    @property
    def _other(self) -> tuple[str, ...]:
        given = (self.other,) if isinstance(self.other, str) else self.other
        return tuple(store for store in given if store)

    @property
    def others(self) -> dict[str, str]:
        """Stores of other simulators by the names of their folders, in letters, digits, _ and . alone."""
        return {re.sub(r"[^\w.]", "_", Path(store).parent.name): store for store in self._other}


def run_held_out(
    configuration: HeldOutConfiguration,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Table:
    r"""Return the coverage of fits through an emulator, over universes that it did not learn from; resumable.

    Each universe is one field of the store with one gradient of the density, drawn from the prior, in one direction:
    its sky, at all rigidities, is observed on maps by every data set (`universes.observe_records`), which shares
    nothing with the fast operators of the emulator. It is fitted by an emulator that learnt from fields of other parts.
    What the emulator averages over (widths of energy responses, weights, noise, errors of experiments) is drawn for
    each universe.

    Returns
    -------
    Table
        As `obsfit.study.coverage.coverage_table`, with columns ``width_68`` and ``bits``, medians of the length of
        68 % intervals and of the information gained. ``meta`` counts the mocks and those not converged, and has
        ``predictive_p`` and ``small_scale_p``, the p-values of each universe by what it was made of: "universe", the
        names of other simulators, and "altered" for small scales that were changed. The first is the posterior
        predictive p-value. The second is the power at l >= 2, all of it, predicted from a fit of the dipole alone
        (`left_out.Prediction.power_tail`; none if no power is at l >= 2, or nothing at l = 1).

    Raises
    ------
    ConfigurationError
        If there are fewer fields than mocks, or stored results belong to another study.
    """
    settings, model, _ = _loaded((base / configuration.emulator).resolve())
    identity = {key: value for key, value in asdict(configuration).items() if key not in ("mocks", "output")}
    identity["emulator"] = asdict(settings)
    store = base / configuration.output
    if configuration.mocks > model.fields:
        raise ConfigurationError(
            f"mocks = {configuration.mocks}", value=configuration.mocks,
            expected=f"at most {model.fields}, one for each field of the store",
        )  # fmt: skip
    how: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "progress": progress}
    parts = [str(part) for part in range(configuration.folds)] + (["all"] if configuration.others else [])
    run_tasks(
        partial(_train, configuration, base.resolve()), [("emulator", part) for part in parts],
        store=store / "emulators", configuration={key: identity[key] for key in ("seed", "folds", "emulator")}, **how,
    )  # fmt: skip
    sizes = {"universe": configuration.mocks}
    for name, other in configuration.others.items():
        sizes[name] = min(configuration.mocks, _opened(settings.model, base / other).fields)
    if configuration.small_scales:
        sizes["altered"] = configuration.mocks
    keys = [(kind, index) for kind, size in sizes.items() for index in range(size)]
    outcomes = run_tasks(
        partial(_one_universe, configuration, base.resolve()), keys, store=store, configuration=identity, **how
    )  # fmt: skip
    by_kind = {kind: [one for key, one in zip(keys, outcomes, strict=True) if key[0] == kind] for kind in sizes}
    finished = [one for one in by_kind["universe"] if one["ranks"] is not None]
    names = tuple(parameter.name for parameter in model.parameters)
    table = coverage_table(names, np.array([one["ranks"] for one in finished]))
    table["width_68"] = np.median([one["width"] for one in finished], axis=0)
    table["bits"] = np.median([one["bits"] for one in finished], axis=0)
    table.meta["mocks"] = configuration.mocks
    table.meta["not_converged"] = configuration.mocks - len(finished)
    for check in CHECKS:
        table.meta[check] = {
            kind: [one[check] for one in some if one[check] is not None] for kind, some in by_kind.items()
        }
    return table


def _train(configuration: HeldOutConfiguration, base: Path, what: str, part: str) -> dict[str, Any]:
    """Train and store the emulator of the fields outside one part, or of all."""
    settings, model, folded = _loaded(base / configuration.emulator)
    parts = field_parts(configuration, model.fields)
    fields = np.arange(model.fields) if part == "all" else np.flatnonzero(parts != int(part))
    emulator = train_emulator(
        model, folded, fields.tolist(), settings.per_field, seed=settings.seed, check=False, **settings.learning()
    )
    write_emulator(_place(configuration, base, part), emulator, overwrite=True)
    return {"fields": len(fields)}


def _one_universe(configuration: HeldOutConfiguration, base: Path, what: str, index: int) -> dict[str, Any]:
    """Truth, observations and fit of one universe, in a form that JSON keeps exactly."""
    rng = child_generator(configuration.seed, what, index)
    settings, model, folded = _loaded(base / configuration.emulator)
    part = "all"
    if what in configuration.others:
        model = _opened(settings.model, base / configuration.others[what])
    else:
        part = str(field_parts(configuration, model.fields)[index])
    truth = model.field_theta(index, 1, rng=rng)
    truth[:, folded.names.index(RIGHT_ASCENSION)] = rng.uniform(0.0, 2.0 * np.pi)
    rigidity, alm = model.field_skies(index, truth, folded.lmax, rng=rng)
    if what == "altered":
        ell, _ = hp.Alm.getlm(folded.lmax)
        alm = alm * np.where(ell > 1, np.sqrt(configuration.small_scales), 1.0)
    errors = drawn_errors(folded, rng=rng)
    records = observe_records(configuration.noise_table, folded.records, alm[0], rigidity[0], errors, rng=rng)
    emulator, data = _stored(_place(configuration, base, part)), replace(folded, records=records).data
    posterior = EmulatedPosterior(emulator, data)
    small = tuple(label for label in emulator.labels if " l=" in label and not label.endswith(" l=1"))
    enough: dict[str, Any] = {
        "effective_size": configuration.effective_size, "max_evaluations": configuration.max_evaluations
    }  # fmt: skip
    outcome: dict[str, Any] = {"truth": truth[0].tolist(), "small_scale_p": None}
    try:
        found = run_importance(posterior, rng=child_generator(configuration.seed, what, index, "fit"), **enough)
        if 0 < len(small) < len(emulator.labels):
            own = child_generator(configuration.seed, what, index, "dipole")
            alone = EmulatedPosterior(emulator, data, leave_out=small)
            dipole = run_importance(alone, rng=own, **enough)
            outcome["small_scale_p"] = predict_left_out(alone, dipole.theta, dipole.weight, rng=own).power_tail
    except ConvergenceError as error:
        logger.warning("%s %d: %s", what, index, error.problem)
        return outcome | dict.fromkeys(("ranks", "width", "bits", "predictive_p", "small_scale_p"))
    low, high = found.quantile([0.16, 0.84])
    checking = child_generator(configuration.seed, what, index, "predictive")
    samples = found.resample(SAMPLES, rng=checking)
    return outcome | {
        "ranks": found.rank(truth[0]).tolist(), "width": (high - low).tolist(),
        "bits": np.asarray(found.summary()["bits"]).tolist(),
        "predictive_p": float(predictive_p(posterior, samples, rng=checking)),
    }  # fmt: skip


def field_parts(configuration: HeldOutConfiguration, fields: int) -> NDArray[np.int64]:
    """Return the part that each field is in, shape (fields,): as many in each, at random."""
    rng = child_generator(configuration.seed, "parts")
    return rng.permutation(np.arange(fields) % configuration.folds)


def drawn_errors(folded: FoldedData, *, rng: np.random.Generator) -> dict[str, float]:
    """Return what errs in a universe, drawn of `FoldedData.errors`, by the names that `observe_records` takes."""
    errors = folded.errors
    values = {
        "response_width": 1.0 + errors.width * float(np.clip(rng.normal(), -2.5, 2.5)),
        "log10_noise": float(rng.uniform(*errors.log10_noise)),
        "amplitude_scatter": errors.scale,
        "direction_scatter": float(np.degrees(errors.direction)),
    }
    if errors.weight:
        values |= {weight_name(record): float(rng.normal()) for record in folded.spectra}
    return values


def _place(configuration: HeldOutConfiguration, base: Path, part: str) -> Path:
    return base / configuration.output / f"emulator-{part}.h5"


@lru_cache(maxsize=2)
def _loaded(path: Path) -> tuple[EmulatorConfiguration, SimulatedModel, FoldedData]:
    """Configuration of an emulator, its model and its data."""
    settings = load_configuration(path, EmulatorConfiguration)
    return settings, *configured_training(settings, base=path.parent)


@lru_cache(maxsize=14)
def _stored(path: Path) -> Emulator:
    return read_emulator(path)


@lru_cache(maxsize=2)
def _opened(model: str, library: Path) -> SimulatedModel:
    return cast(SimulatedModel, load_model(model, library=library))
