"""Coverage on mock universes: one sky seen by several analyses, fitted jointly and as if each saw its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.execute import child_generator
from obsfit.infer.configured import configured_posterior
from obsfit.infer.dipole_term import DipoleTerm
from obsfit.infer.importance import Target, run_importance
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.one_sky_term import FLOOR, OneSkyTerm, weight_name
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.mock import energy_histogram, observe_dipoles, observe_full_sky, observe_pseudo, rigidity_sky
from obsfit.operators.energy import energy_response_for
from obsfit.operators.pseudo import CalibratedWindow, calibrated_window
from obsfit.parameters import FloatArray, Parameter, draw_prior
from obsfit.protocols import true_sky
from obsfit.records import DipoleMeasurements, PowerSpectrum
from obsfit.study.coverage import coverage_table
from obsfit.study.mocks import MockUniverse, StudyConfiguration, experiment_errors, made_once, map_noise, run_mocks

logger = logging.getLogger(__name__)
ANALYSES = ("joint", "independent")
# The mock sky is finer in rigidity, and reaches further in l, than any likelihood follows it.
NODES_PER_DECADE = 8
LMAX = 45
Record = PowerSpectrum | DipoleMeasurements
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class UniverseConfiguration(StudyConfiguration):
    """A calibration study of joint fits, whose posteriors are sampled by `obsfit.infer.importance`.

    Attributes
    ----------
    kind : str
        "universes": tells this study from one of a single data set.
    dipoles : tuple of str
        Keys of the rows of the fit's dipoles to imitate; empty: all.
    effective_size : float
        Effective number of posterior samples of each fit.
    max_evaluations : int
        Calls of the likelihood at which a fit gives up.
    floor : float
        Relative error of each power of the mocks, for what operators leave out of real data: the error that the
        likelihood grants. Maps alone err by less: with zero, intervals of what it hides are too long.
    """

    output: str = "universes"
    kind: str = "universes"
    dipoles: tuple[str, ...] = ()
    effective_size: float = 400.0
    max_evaluations: int = 8000
    floor: float = FLOOR

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor < 1.0:
            raise ConfigurationError(f"floor = {self.floor}", expected="an error of at least 0 and below 1")


def run_universes(
    configuration: UniverseConfiguration,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Table:
    """Return the coverage of each parameter's intervals over mock universes, for two analyses; resumable.

    For each universe, a truth is drawn from the prior, one sky at all rigidities is made of it, and every data set of
    the fit is observed on maps (`obsfit.mock`): averaged over the energies of its events, with declination weights
    that err by their calibration, noise and reading errors, and scatter between dipole experiments. It is analysed by
    the joint likelihood, and by the product of likelihoods that each assume a sky of their own.

    Parameters
    ----------
    configuration : UniverseConfiguration
        The study.
    base : Path
        Folder to which its paths are relative.
    workers : int
        Processes; the result does not depend on it.
    scheduler : str, optional
        "local", or the address of a dask scheduler, as `obsfit.execute.run_tasks` takes it.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Table
        As `obsfit.study.coverage.coverage_table`, with a column ``analysis``, "joint" or "independent". ``meta``
        counts the mocks, and those in which either analysis did not converge; the latter are in neither coverage.

    Raises
    ------
    ConfigurationError
        If stored results belong to another study, or the fit is none of several records of an isotropic sky.
    """
    posterior = _posterior(configuration, base)
    outcomes = run_mocks(
        _one_universe,
        configuration,
        kind="universe",
        base=base,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    finished = [outcome for outcome in outcomes if all(outcome[name] is not None for name in ANALYSES)]
    tables = []
    for name in ANALYSES:
        ranks = np.array([outcome[name]["ranks"] for outcome in finished])
        table = coverage_table(posterior.names, ranks)
        table.add_column([name] * len(table), index=0, name="analysis")
        table["width_68"] = np.median([outcome[name]["width"] for outcome in finished], axis=0)
        tables.append(table)
    both = vstack(tables)
    both.meta["mocks"] = configuration.mocks
    both.meta["not_converged"] = configuration.mocks - len(finished)
    return both


def _posterior(configuration: UniverseConfiguration, base: Path) -> Posterior:
    """The joint posterior of the real data, from which truths are drawn."""
    joint = configured_posterior(replace(configuration.fit, assume_independent_skies=False), base=base)
    term = joint.likelihood.terms[0]
    if not isinstance(term, OneSkyTerm):
        raise ConfigurationError(
            "the study needs a joint fit", expected="several records, or a pseudo-spectrum", remedy="See fit.data."
        )
    if not configuration.dipoles:
        return joint
    records: list[Record] = []
    for record in term.records:
        if isinstance(record, DipoleMeasurements):
            keep = np.array([key in configuration.dipoles for key in record.measurement])
            if not keep.any():
                continue
            record = record.select(keep)
        records.append(record)
    chosen = {key for record in records if isinstance(record, DipoleMeasurements) for key in record.measurement}
    unknown = sorted(set(configuration.dipoles) - chosen)
    if unknown:
        raise ConfigurationError(f"dipoles: {unknown[0]!r} is not among the measurements of fit.data")
    return _with_term(joint, replace(term, records=tuple(records)))


def _with_term(joint: Posterior, term: OneSkyTerm) -> Posterior:
    """The same posterior of other data."""
    likelihood = Likelihood(term)
    names = {p.name for p in (*joint.model.parameters, *likelihood.parameters)}
    priors = {p.name: p.prior for p in joint.parameters if p.name in names}
    return Posterior(joint.model, likelihood, priors=priors)


class _Independent:
    """The product of likelihoods that each assume a sky of their own, with the parameters of the joint fit."""

    def __init__(self, joint: Posterior, term: OneSkyTerm) -> None:
        self.parameters: tuple[Parameter, ...] = joint.parameters
        self._joint = joint
        terms = [_alone(record, term) for record in term.records]
        self._posterior = Posterior(joint.model, Likelihood(*terms, assume_independent_skies=True))
        own = [p.name for p in joint.model.parameters]
        # Nuisances of the same name are one: only the sky is taken as several.
        names = [*own, *(p.name for single in terms for p in single.parameters)]
        missing = sorted(set(names) - set(joint.names))
        if missing:
            raise ConfigurationError(
                f"nuisance {missing[0]!r} is not one of the joint fit",
                expected="one spectrum of a nearly full sky",
            )
        self._columns = [joint.names.index(name) for name in names]

    def log_prob(self, theta: FloatArray) -> FloatArray:
        """Log posterior density, shape (n_vec,)."""
        spread = theta[:, self._columns]
        total = self._joint.log_prior(theta)
        inside = np.isfinite(total)
        own = self._posterior.log_prob(spread[inside]) - self._posterior.log_prior(spread[inside])
        total[inside] += own
        return total


def _alone(record: Record, term: OneSkyTerm) -> DipoleTerm | PowerTerm | OneSkyTerm:
    if isinstance(record, DipoleMeasurements):
        return DipoleTerm(record, term.scatter)
    if record.kind == "full-sky":
        return PowerTerm(record, noise_prior=term.nuisances.noise)
    return replace(term, records=(record,))


def mock_universe(configuration: UniverseConfiguration, *, base: Path, rng: np.random.Generator) -> MockUniverse:
    """Return a truth drawn from the priors of the joint fit, and what would have been published of its one sky.

    Parameters
    ----------
    configuration : UniverseConfiguration
        Its `seed`, `mocks` and `output` are not used.
    base : Path
        Folder to which its paths are relative.
    rng : numpy.random.Generator
        Source of the truth, the sky, noise and errors.
    """
    posterior = _posterior(configuration, base)
    truth = draw_prior(posterior.parameters, 1, rng=rng)
    records = _observed(configuration, posterior, _one_sky(posterior), truth, rng)
    return MockUniverse(posterior.names, truth[0], records)


def _one_sky(posterior: Posterior) -> OneSkyTerm:
    term = posterior.likelihood.terms[0]
    if not isinstance(term, OneSkyTerm):
        raise TypeError(f"expected a OneSkyTerm, got {type(term).__name__}")
    return term


def _one_universe(configuration: UniverseConfiguration, base: Path, kind: str, index: int) -> dict[str, Any]:
    """Truth, observations and both analyses of one universe, in a form that JSON keeps exactly."""
    rng = child_generator(configuration.seed, kind, index)
    posterior = made_once(_posterior, configuration, base)
    term = _one_sky(posterior)
    truth = draw_prior(posterior.parameters, 1, rng=rng)
    records = _observed(configuration, posterior, term, truth, rng)
    mock = term.observing(*records)
    joint = _with_term(posterior, mock)
    outcome: dict[str, Any] = {"truth": truth[0].tolist()}
    targets: dict[str, Target] = {
        "joint": joint,
        "independent": _Independent(joint, mock),
    }
    for name, target in targets.items():
        try:
            found = run_importance(
                target, rng=child_generator(configuration.seed, kind, index, name),
                effective_size=configuration.effective_size, max_evaluations=configuration.max_evaluations,
            )  # fmt: skip
        except ConvergenceError as error:
            logger.warning("universe %d, %s: %s", index, name, error.problem)
            outcome[name] = None
            continue
        low, high = found.quantile([0.16, 0.84])
        outcome[name] = {
            "ranks": found.rank(truth[0]).tolist(), "width": (high - low).tolist(), "mean": found.mean().tolist(),
            "log_evidence": found.log_evidence, "evaluations": found.evaluations,
        }  # fmt: skip
    return outcome


def _observed(
    configuration: UniverseConfiguration,
    posterior: Posterior,
    term: OneSkyTerm,
    truth: FloatArray,
    rng: np.random.Generator,
) -> tuple[Record, ...]:
    """What the analyses publish of one sky."""
    values = dict(zip(posterior.names, truth[0], strict=True)) | {"floor": configuration.floor}
    low, high = np.log10(term.rigidity_tv[[0, -1]])
    # Beyond the ends of the likelihood's grid: the tails that it leaves out.
    rigidity = np.logspace(low - 0.5, high + 0.5, int(NODES_PER_DECADE * (high - low + 1.0)) + 1)
    own = truth[:, : len(posterior.model.parameters)]
    sky = true_sky(posterior.model, own, rigidity, LMAX)
    if sky.c_ell is None:
        raise ConfigurationError("mock universes need a model that offers c_ell")
    alm = rigidity_sky(sky.c_ell[0], rng=rng)
    if sky.alm is not None:
        alm = alm + sky.alm[0]
    return observe_records(
        configuration.noise_table, term.records, alm, rigidity, values, energy_spread=term.energy_spread, rng=rng
    )


def observe_records(
    noise_table: str,
    records: Sequence[Record],
    alm: ComplexArray,
    rigidity_tv: FloatArray,
    values: Mapping[str, float],
    *,
    energy_spread: bool = True,
    rng: np.random.Generator,
) -> tuple[Record, ...]:
    """Return what the analyses of several records would have published of one sky, seen on maps.

    Parameters
    ----------
    noise_table : str
        Auxiliary table of the error against declination of nearly full maps.
    records : sequence of PowerSpectrum and DipoleMeasurements
        To imitate.
    alm : ndarray of complex, shape (n_rig, n_alm)
        Sky at the rigidities, healpy order.
    rigidity_tv : ndarray, shape (n_rig,)
        Increasing.
    values : mapping of str to float
        What errs: ``response_width``, ``log10_noise``, ``amplitude_scatter``, ``direction_scatter`` (degrees),
        ``log10_intrinsic_scatter``, the deviations of declination weights (`weight_name`), and each power by a factor
        whose logarithm has the standard deviation ``floor``; absent: nothing.
    energy_spread : bool
        Whether observations average over energies, or see their median alone.
    rng : numpy.random.Generator
        Source of energies, noise and errors.
    """
    found: list[Record] = []
    for record in records:
        response = energy_response_for(record)
        median, spread = np.atleast_1d(record.energy_tev), response.spread_dex
        width = values.get("response_width", 1.0) if energy_spread and spread is not None else 0.0
        spreads = np.zeros((median.size, 2)) if spread is None else width * spread
        events = np.array(
            [energy_histogram(e, (s[0], s[1]), rigidity_tv, rng=rng) for e, s in zip(median, spreads, strict=True)]
        )
        if isinstance(record, DipoleMeasurements):
            errors = experiment_errors(record, sorted(set(record.observatory)), values, rng=rng)
            dipoles = observe_dipoles(alm, events, record, **errors, rng=rng)
            found.append(replace(dipoles, provenance=record.provenance))
        elif record.kind == "full-sky":
            noise = map_noise(noise_table, record, values)
            spectrum = observe_full_sky(alm, events[0], record, **noise, rng=rng)
            found.append(replace(record, c_ell=spectrum.c_ell))
        else:
            found.append(_pseudo(record, alm, events[0], values.get(weight_name(record), 0.0), rng))
    floor = values.get("floor", 0.0)
    if not floor:
        return tuple(found)
    return tuple(
        replace(one, c_ell=one.c_ell * np.exp(floor * rng.normal(size=len(one))))
        if isinstance(one, PowerSpectrum)
        else one
        for one in found
    )


def _pseudo(
    record: PowerSpectrum, alm: ComplexArray, events: FloatArray, deviation: float, rng: np.random.Generator
) -> PowerSpectrum:
    calibration = calibrated_window(record)
    if calibration is None:
        raise ConfigurationError(f"{record.measurement}: mocks need a spectrum whose window is calibrated")
    band = replace(record, dec_min_rad=calibration.window.dec_min_rad, dec_max_rad=calibration.window.dec_max_rad)
    weight = _weight(calibration, calibration.window.exponent + calibration.exponent_error * deviation)
    per_steradian = calibration.events / (2 * np.pi * (np.sin(band.dec_max_rad) - np.sin(band.dec_min_rad)))
    mock = observe_pseudo(
        alm, events, band, weight=weight,
        noise=lambda dec: (1.0 + 1.0 / calibration.resamples) / (per_steradian * weight(dec)),
        rng=rng, reading_error=record.reading_error,
    )  # fmt: skip
    return replace(record, c_ell=mock.c_ell)


def _weight(calibration: CalibratedWindow, exponent: float) -> Callable[[FloatArray], FloatArray]:
    """A power of |sin(dec)| whose mean over the band is one."""
    low, high = sorted(abs(np.sin([calibration.window.dec_min_rad, calibration.window.dec_max_rad])))
    mean = (high ** (exponent + 1) - low ** (exponent + 1)) / ((exponent + 1) * (high - low))
    return lambda dec: np.abs(np.sin(dec)) ** exponent / mean
