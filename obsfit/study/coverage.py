"""Coverage of a fit: how often the truth lies in its 68 and 95 % intervals, over mock universes."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.table import Table
from scipy import stats

from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.execute import child_generator
from obsfit.infer.configured import configured_posterior
from obsfit.infer.dipole_term import DipoleTerm
from obsfit.infer.emcee_runner import run_emcee
from obsfit.infer.importance import run_importance
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.mock import gaussian_alm, mock_dipoles, mock_spectrum
from obsfit.parameters import FloatArray, draw_prior
from obsfit.study.mocks import MockUniverse, StudyConfiguration, experiment_errors, made_once, map_noise, run_mocks

logger = logging.getLogger(__name__)
LEVELS = (0.68, 0.95)


@dataclass(frozen=True)
class CoverageConfiguration(StudyConfiguration):
    """A calibration study of the fit of one data set.

    Attributes
    ----------
    small_scale : float
        For dipoles: power of multipoles l = 2 to 6 of the mock sky relative to the asymptotic cascade
        C_l = 18 C_1 / [(2l+1)(l+1)(l+2)]. The likelihood does not know of them: 0 tests the method, 1 what it loses.
    """

    output: str = "coverage"
    small_scale: float = 0.0


def run_coverage(
    configuration: CoverageConfiguration,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Table:
    """Return the coverage of each parameter's intervals over mock universes; resumable.

    For each mock, a truth is drawn from the prior, a sky and an observation are made on maps (`obsfit.mock`), and the
    fit is repeated. Finished mocks are stored (`obsfit.execute`); a study that was interrupted does the missing ones.

    Parameters
    ----------
    configuration : CoverageConfiguration
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
        One row for each parameter: name, coverage of 68 and 95 % central intervals, the binomial standard error of
        each if the interval is right, the Kolmogorov-Smirnov probability that ranks are uniform, and the ranks.
        ``meta`` counts the mocks that did not converge; they are not in the coverage.

    Raises
    ------
    ConfigurationError
        If stored mocks belong to another study.
    """
    posterior = configured_posterior(configuration.fit, base=base)
    outcomes = run_mocks(
        _one_mock,
        configuration,
        kind="mock",
        base=base,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    ranks = np.array([outcome["ranks"] for outcome in outcomes if outcome["ranks"] is not None])
    table = coverage_table(posterior.names, ranks)
    table.meta["mocks"] = configuration.mocks
    table.meta["not_converged"] = configuration.mocks - len(ranks)
    return table


def coverage_table(names: tuple[str, ...], ranks: FloatArray) -> Table:
    """Return the coverage of central intervals from the ranks of the truths.

    Parameters
    ----------
    names : tuple of str, length n_par
        Parameters.
    ranks : ndarray, shape (n_mock, n_par)
        Fraction of posterior samples below the truth; uniform for a calibrated fit. They are kept in a column
        ``ranks`` of shape (n_par, n_mock).

    Examples
    --------
    >>> ranks = np.linspace(0.005, 0.995, 100)[:, None]
    >>> row = coverage_table(("p",), ranks)[0]
    >>> round(float(row["coverage_68"]), 2), round(float(row["coverage_95"]), 2)
    (0.68, 0.96)
    """
    table = Table({"name": list(names)})
    for level in LEVELS:
        inside = np.abs(ranks - 0.5) <= level / 2
        label = f"{round(100 * level)}"
        table[f"coverage_{label}"] = inside.mean(0)
        table[f"error_{label}"] = np.full(len(names), np.sqrt(level * (1 - level) / len(ranks)))
    table["uniform_p"] = [float(stats.kstest(column, "uniform").pvalue) for column in ranks.T]
    table["ranks"] = ranks.T
    return table


def is_calibrated(table: Table, *, sigmas: float = 3.5) -> bool:
    """Return whether no coverage is further from its level than `sigmas` binomial standard errors.

    With 3.5 standard errors, a calibrated fit of five parameters at two levels fails about once in 200 studies.
    """
    worst = 0.0
    for level in LEVELS:
        label = f"{round(100 * level)}"
        pulls = np.abs(table[f"coverage_{label}"] - level) / table[f"error_{label}"]
        worst = max(worst, float(pulls.max()))
    return worst <= sigmas


def mock_universe(configuration: CoverageConfiguration, *, base: Path, rng: np.random.Generator) -> MockUniverse:
    """Return a truth drawn from the priors of the fit, and what would have been published of it.

    Parameters
    ----------
    configuration : CoverageConfiguration
        Its `seed`, `mocks` and `output` are not used.
    base : Path
        Folder to which its paths are relative.
    rng : numpy.random.Generator
        Source of the truth, the sky, noise and errors.

    Raises
    ------
    ConfigurationError
        If the fit is of other data than a nearly full-sky spectrum or dipoles.
    """
    posterior = _posterior(configuration, base)
    truth, observed = _observed(configuration, posterior, rng)
    return MockUniverse(posterior.names, truth[0], (observed.record,))


def _posterior(configuration: CoverageConfiguration, base: Path) -> Posterior:
    return configured_posterior(configuration.fit, base=base)


def _observed(
    configuration: CoverageConfiguration, posterior: Posterior, rng: np.random.Generator
) -> tuple[FloatArray, DipoleTerm | PowerTerm]:
    truth = draw_prior(posterior.parameters, 1, rng=rng)
    term = posterior.likelihood.terms[0]
    if isinstance(term, PowerTerm):
        return truth, _mock_power(configuration, posterior, term, truth, rng)
    if isinstance(term, DipoleTerm):
        return truth, _mock_dipole(configuration, posterior, term, truth, rng)
    raise ConfigurationError("this study takes a nearly full-sky spectrum or dipoles")


def _one_mock(configuration: CoverageConfiguration, base: Path, kind: str, index: int) -> dict[str, Any]:
    """Truth, observation and fit of one mock universe, in a form that JSON keeps exactly."""
    rng = child_generator(configuration.seed, index)
    posterior = made_once(_posterior, configuration, base)
    truth, observed = _observed(configuration, posterior, rng)
    repeated = Posterior(
        posterior.model, Likelihood(observed), priors={p.name: p.prior for p in posterior.parameters}
    )
    outcome: dict[str, Any] = {kind: index, "truth": truth[0].tolist(), "ranks": None}
    try:
        if configuration.fit.method == "importance":
            ranks = run_importance(repeated, rng=rng, **asdict(configuration.fit.importance)).rank(truth[0])
        else:
            samples = run_emcee(repeated, rng=rng, settings=configuration.fit.sampler).samples()
            ranks = (samples < truth).mean(0)
    except ConvergenceError as error:
        logger.warning("mock %d: %s", index, error.problem)
        return outcome
    return outcome | {"ranks": ranks.tolist()}


def _mock_power(
    configuration: CoverageConfiguration,
    posterior: Posterior,
    term: PowerTerm,
    truth: FloatArray,
    rng: np.random.Generator,
) -> PowerTerm:
    """A mock spectrum, with the declination profile of the map's noise."""
    sky = posterior.skies(truth)[0]
    if sky.c_ell is None or sky.alm is not None:
        raise ConfigurationError("mock spectra need a model that offers c_ell alone")
    values = dict(zip(posterior.names, truth[0], strict=True))
    noise = map_noise(configuration.noise_table, term.record, values)
    record = mock_spectrum(sky.c_ell[0, 0, 0], term.record, **noise, rng=rng)
    return replace(term, record=record)


def _mock_dipole(
    configuration: CoverageConfiguration,
    posterior: Posterior,
    term: DipoleTerm,
    truth: FloatArray,
    rng: np.random.Generator,
) -> DipoleTerm:
    sky = posterior.skies(truth)[0]
    if sky.alm is None or sky.c_ell is not None:
        raise ConfigurationError("mock dipoles need a model that offers a fixed sky alone")
    values = dict(zip(posterior.names, truth[0], strict=True))
    errors = experiment_errors(term.record, term.experiments, values, rng=rng)
    rows = term.operator.energy.weights.argmax(axis=1)
    alm = sky.alm[0, rows]
    a_10, a_11 = alm[:, 1], alm[:, hp.Alm.getidx(term.operator.lmax, 1, 1)]
    dipole = np.stack(
        [-np.sqrt(1.5 / np.pi) * a_11.real, np.sqrt(1.5 / np.pi) * a_11.imag, np.sqrt(0.75 / np.pi) * a_10.real],
        -1,
    )
    small = None
    nside = 32
    if configuration.small_scale > 0:
        ell = np.arange(7)
        shape = np.where(ell >= 2, 18.0 / ((2 * ell + 1) * (ell + 1) * (ell + 2)), 0.0)
        unit = hp.alm2map(gaussian_alm(configuration.small_scale * shape, rng=rng), nside)
        small = np.sqrt(4 * np.pi / 9) * np.linalg.norm(dipole, axis=1)[:, None] * unit
    record = mock_dipoles(dipole, term.record, **errors, rng=rng, small_scale=small, nside=nside)
    return replace(term, record=record)
