"""Calibration of all shipped fits at once: coverage, uniformity of ranks, and one verdict with a stated false alarm."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from scipy import stats
from scipy.special import chdtrc, gammainc, gammaincc, ndtr, ndtri

from obsfit.configuration import FORBID, load_configuration
from obsfit.errors import ConfigurationError
from obsfit.parameters import FloatArray
from obsfit.provenance import source_checksum, versions
from obsfit.study import coverage, universes
from obsfit.study.coverage import LEVELS, CoverageConfiguration, coverage_table, run_coverage
from obsfit.study.held_out import HeldOutConfiguration, run_held_out
from obsfit.study.mocks import MockUniverse
from obsfit.study.universes import UniverseConfiguration, run_universes

FORMAT = "obsfit-calibration"
FORMAT_VERSION = 1
TESTS = ("bins_p", "shift_p", "spread_p", "coverage_68_p", "coverage_95_p")
"""Columns of p-values on which a verdict rests."""
# Ranks among 200 samples are multiples of 1/200: normal scores end where these do.
_EDGE = 0.005
# About as many ranks in each bin as Talts et al. (2018, arXiv:1804.06788) advise.
_PER_BIN = 20
# Digits of stored ranks; no posterior has a million samples.
_DIGITS = 6


@dataclass(frozen=True)
class StudyKind:
    """A kind of study that a calibration can run.

    Attributes
    ----------
    settings : type
        Dataclass of its configuration, with fields `mocks` and `output`.
    run : callable
        ``run(settings, *, base, workers, scheduler, progress)`` returns a table as
        `obsfit.study.coverage.coverage_table`, with the ranks, perhaps with a column ``analysis``; ``meta`` has
        ``not_converged``. It stores what it has done in ``base / settings.output`` and continues from there.
    judged : tuple of str
        The analyses on which its verdict rests; empty: all.
    universe : callable, optional
        ``universe(settings, *, base, rng)`` returns one `obsfit.study.mocks.MockUniverse`, for blind challenges.
    """

    settings: type[Any]
    run: Callable[..., Table]
    judged: tuple[str, ...] = ()
    universe: Callable[..., MockUniverse] | None = None


KINDS: Mapping[str, StudyKind] = {
    "coverage": StudyKind(CoverageConfiguration, run_coverage, universe=coverage.mock_universe),
    # The product of likelihoods stands beside the joint one to show what it gets wrong.
    "universes": StudyKind(UniverseConfiguration, run_universes, ("joint",), universes.mock_universe),
    "emulator": StudyKind(HeldOutConfiguration, run_held_out),
}
"""Studies by what their files call their `kind`; a file without one is of kind "coverage"."""


@dataclass(frozen=True)
class StudyEntry:
    """One study of a calibration.

    Attributes
    ----------
    name : str
        What table and plots call it; also its folder in the output.
    file : str
        Its configuration, relative to that of the calibration. Its `output` is not used.
    mocks : int
        Number of mocks; zero: as many as its own configuration says.
    """

    __pydantic_config__ = FORBID

    name: str
    file: str
    mocks: int = 0


@dataclass(frozen=True)
class CalibrationConfiguration:
    """Several studies of coverage under one verdict.

    Attributes
    ----------
    studies : tuple of StudyEntry
        What to run.
    kind : str
        "calibration".
    output : str
        Folder of the results, relative to the file.
    false_alarm : float
        Probability that the verdict on fits that are all calibrated is negative.
    max_unconverged : float
        Share of the mocks of a study that may be left out because their fit did not converge.
    """

    __pydantic_config__ = FORBID

    studies: tuple[StudyEntry, ...]
    kind: str = "calibration"
    output: str = "calibration"
    false_alarm: float = 0.01
    max_unconverged: float = 0.02

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.studies]
        if not names:
            raise ConfigurationError("studies is empty", expected="at least one [[studies]]")
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.startswith("."):
                raise ConfigurationError(f"studies: name {name!r}", expected="letters, digits, '-', '_' and '.'")
            if names.count(name) > 1:
                raise ConfigurationError(f"studies: {name!r} stands twice", expected="different names")
        for entry in self.studies:
            if entry.mocks < 0:
                raise ConfigurationError(f"studies: mocks = {entry.mocks} of {entry.name}", expected="0 or more")
        check_share("false_alarm", self.false_alarm)
        if not 0.0 <= self.max_unconverged < 1.0:
            raise ConfigurationError(f"max_unconverged = {self.max_unconverged}", expected="a share in [0, 1)")


def check_share(name: str, value: float) -> None:
    """Refuse a probability that is none.

    Raises
    ------
    ConfigurationError
        If it does not lie between 0 and 1, both excluded.
    """
    if not 0.0 < value < 1.0:
        raise ConfigurationError(f"{name} = {value}", expected="a probability between 0 and 1")


def study_kind(path: str | Path) -> str:
    """Return the kind of study that a file asks for, "coverage" if it names none or cannot be read.

    Errors of the file itself are told by its reader.
    """
    try:
        return str(tomllib.loads(Path(path).read_bytes().decode("utf-8")).get("kind", "coverage"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return "coverage"


def load_study(path: str | Path) -> tuple[str, Any]:
    """Return the kind and the settings of the study in a file.

    Raises
    ------
    ConfigurationError
        If no study of that kind can be part of a calibration, or the file is wrong.
    """
    kind = study_kind(path)
    if kind not in KINDS:
        raise ConfigurationError(
            f"kind = {kind!r} cannot be calibrated", path=path, expected=f"one of {', '.join(KINDS)}"
        )
    return kind, load_configuration(path, KINDS[kind].settings)


def run_calibration(
    configuration: CalibrationConfiguration,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Table:
    """Return coverage and uniformity of ranks for every parameter of every study of a calibration; resumable.

    All configurations are read before anything is computed. Each study stores each mock as soon as it is done, in
    ``output/NAME``, and does what is missing when it is called again.

    Parameters
    ----------
    configuration : CalibrationConfiguration
        What to run.
    base : Path
        Folder to which its paths are relative.
    workers, scheduler, progress
        As `obsfit.execute.run_tasks`; the numbers do not depend on them.

    Returns
    -------
    Table
        As `calibration_table` of each study, one below the other.

    Raises
    ------
    ConfigurationError
        If a configuration is wrong, or stored mocks belong to another study.
    """
    rows: dict[str, list[Any]] = {}
    for name, (kind, settings, folder) in _studies(configuration, base).items():
        found = KINDS[kind].run(settings, base=folder, workers=workers, scheduler=scheduler, progress=progress)
        table = calibration_table(found, study=name, mocks=settings.mocks, judged=KINDS[kind].judged)
        for column in table.colnames:
            rows.setdefault(column, []).extend(table[column])
    ranks = rows.pop("ranks")
    table = Table(rows)
    table["ranks"] = ragged(ranks)
    return table


def configuration_checksum(configuration: CalibrationConfiguration, *, base: Path) -> str:
    """Return one SHA-256 checksum of a calibration with all its studies, 64 hexadecimal digits.

    Paths of outputs do not enter it: a calibration may be moved.
    """
    whole: dict[str, Any] = {key: value for key, value in asdict(configuration).items() if key != "output"}
    whole["settings"] = {
        name: {key: value for key, value in asdict(settings).items() if key != "output"}
        for name, (_, settings, _) in _studies(configuration, base).items()
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _studies(configuration: CalibrationConfiguration, base: Path) -> dict[str, tuple[str, Any, Path]]:
    """Kind, settings and folder of each study by its name."""
    found = {}
    for entry in configuration.studies:
        path = base / entry.file
        kind, settings = load_study(path)
        output = (base / configuration.output / entry.name).resolve()
        settings = replace(settings, mocks=entry.mocks or settings.mocks, output=str(output))
        found[entry.name] = (kind, settings, path.parent)
    return found


def calibration_table(found: Table, *, study: str, mocks: int, judged: tuple[str, ...] = ()) -> Table:
    """Return what a study of coverage found, with the p-values of all tests of its ranks.

    Parameters
    ----------
    found : Table
        As `obsfit.study.coverage.coverage_table`, perhaps with a column ``analysis``.
    study : str
        Its name.
    mocks : int
        How many mocks were made.
    judged : tuple of str
        Analyses on which the verdict rests; empty: all.

    Returns
    -------
    Table
        A row for each parameter of each analysis: study, analysis, parameter, judged, mocks, not_converged, coverage
        of 68 and 95 % intervals with the binomial standard errors of a calibrated fit, the Kolmogorov-Smirnov
        probability ``uniform_p``, those of `rank_tests`, and the ranks of the mocks that converged.
    """
    n = len(found)
    analysis = [str(name) for name in found["analysis"]] if "analysis" in found.colnames else ["fit"] * n
    ranks: list[FloatArray] = [np.asarray(row, dtype=np.float64).round(_DIGITS) for row in found["ranks"]]
    tests = [rank_tests(row) for row in ranks]
    table = Table(
        {
            "study": [study] * n, "analysis": analysis, "parameter": [str(name) for name in found["name"]],
            "judged": [not judged or name in judged for name in analysis], "mocks": [mocks] * n,
            "not_converged": [int(found.meta.get("not_converged", 0))] * n,
        }
    )  # fmt: skip
    for level in LEVELS:
        for name in (f"coverage_{round(100 * level)}", f"error_{round(100 * level)}"):
            table[name] = np.asarray(found[name], dtype=np.float64)
    table["uniform_p"] = np.asarray(found["uniform_p"], dtype=np.float64)
    for name in TESTS:
        table[name] = [test[name] for test in tests]
    table["ranks"] = ragged(ranks)
    return table


def ranks_table(names: tuple[str, ...], ranks: FloatArray, *, study: str) -> Table:
    """Return `calibration_table` of ranks, shape (n_mock, n_par), that are there already."""
    return calibration_table(coverage_table(names, ranks), study=study, mocks=len(ranks))


def ragged(rows: list[FloatArray]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return rows of different lengths as a column that ECSV keeps."""
    column = np.empty(len(rows), dtype=object)
    # One by one: numpy would make one array of rows of equal length.
    for i, row in enumerate(rows):
        column[i] = np.asarray(row, dtype=np.float64)
    return column


def rank_tests(ranks: FloatArray) -> dict[str, float]:
    r"""Return p-values of tests that ranks are uniform, as those of truths in a calibrated posterior are.

    ``bins_p`` is Pearson's chi-square over about n/20 bins (Talts et al. 2018); it asks for nothing in particular.
    ``shift_p`` and ``spread_p`` ask whether posteriors lie too low or too high, and are too narrow or too wide: from
    the normal scores :math:`z = \Phi^{-1}(\mathrm{rank})`, held within those of ranks 0.005 and 0.995, the sum of z
    against a normal law, and the sum of its squares against a gamma law with the exact mean and variance.
    ``coverage_68_p`` and ``coverage_95_p`` are exact two-sided binomial probabilities of the numbers of truths in
    the central intervals.

    Parameters
    ----------
    ranks : ndarray, shape (n,)
        In [0, 1], n at least 10.

    Raises
    ------
    ValueError
        If there are fewer, or a rank is none.

    Examples
    --------
    >>> even = (np.arange(200) + 0.5) / 200
    >>> min(rank_tests(even).values()) > 0.5
    True
    >>> narrow = ndtr(ndtri(even) / 0.8)
    >>> rank_tests(narrow)["spread_p"] < 1e-4
    True
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    n = len(ranks)
    if n < 10 or not np.all((ranks >= 0.0) & (ranks <= 1.0)):
        raise ValueError(f"{n} ranks: expected at least 10, each from 0 to 1")
    counts = np.histogram(ranks, number_of_bins(n), (0.0, 1.0))[0]
    score = ndtri(np.clip(ranks, _EDGE, 1.0 - _EDGE))
    mean, variance = _squared_score_moments()
    # Two moments of the sum of n squares.
    shape, scale = n * mean**2 / variance, variance / mean
    total = float(np.sum(score**2)) / scale
    expected = n / len(counts)
    found = {
        "bins_p": float(chdtrc(len(counts) - 1, np.sum((counts - expected) ** 2) / expected)),
        "shift_p": float(2.0 * ndtr(-abs(score.sum()) / np.sqrt(n * mean))),
        "spread_p": float(min(1.0, 2.0 * min(gammainc(shape, total), gammaincc(shape, total)))),
    }
    for level in LEVELS:
        inside = int(np.sum(np.abs(ranks - 0.5) <= level / 2))
        found[f"coverage_{round(100 * level)}_p"] = float(stats.binomtest(inside, n, level).pvalue)
    return found


def number_of_bins(n: int) -> int:
    """Return into how many bins n ranks go: one for each 20, from 2 to 20."""
    return int(np.clip(n // _PER_BIN, 2, 20))


@lru_cache(maxsize=1)
def _squared_score_moments() -> tuple[float, float]:
    """Mean and variance of the squared normal score that is held within the edges; its mean is also var(score)."""
    c = float(ndtri(1.0 - _EDGE))
    density, outside = float(np.exp(-0.5 * c * c) / np.sqrt(2.0 * np.pi)), 2.0 * _EDGE
    second = (1.0 - outside) - 2.0 * c * density + c**2 * outside
    fourth = 3.0 * (1.0 - outside) - 2.0 * (c**3 + 3.0 * c) * density + c**4 * outside
    return second, fourth - second**2


def verdict_of(table: Table, *, false_alarm: float, max_unconverged: float = 0.0) -> dict[str, Any]:
    """Return the verdict on a calibration table, in terms of JSON.

    With k p-values of judged analyses in all, a study fails if one of its p-values is below `false_alarm` / k
    (Bonferroni): fits that are all calibrated fail with at most that probability, whatever the tests have in common.

    Parameters
    ----------
    table : Table
        Of `run_calibration`.
    false_alarm : float
        For all studies together.
    max_unconverged : float
        A study also fails if more than this share of its mocks was left out.

    Returns
    -------
    dict
        ``passed``, ``tests`` (k), ``threshold``, ``false_alarm``, ``max_unconverged`` and ``studies``, a list of
        study, analysis, judged, passed, mocks, not_converged, smallest_p with its parameter and test.

    Raises
    ------
    ConfigurationError
        If nothing is judged.
    """
    number = int(np.sum(table["judged"])) * len(TESTS)
    if number == 0:
        raise ConfigurationError("no analysis of this calibration is judged", expected="at least one")
    threshold = false_alarm / number
    studies = []
    for study, analysis in dict.fromkeys(zip(table["study"], table["analysis"], strict=True)):
        rows = table[(table["study"] == study) & (table["analysis"] == analysis)]
        values = np.array([[float(row[test]) for test in TESTS] for row in rows])
        worst, test = np.unravel_index(np.argmin(values), values.shape)
        mocks, left_out = int(rows["mocks"][0]), int(rows["not_converged"][0])
        passed = bool(values.min() >= threshold and left_out <= max_unconverged * mocks)
        studies.append(
            {
                "study": str(study), "analysis": str(analysis), "judged": bool(rows["judged"][0]), "passed": passed,
                "mocks": mocks, "not_converged": left_out, "smallest_p": float(values.min()),
                "parameter": str(rows["parameter"][worst]), "test": TESTS[test],
            }
        )  # fmt: skip
    return {
        "passed": all(study["passed"] for study in studies if study["judged"]),
        "false_alarm": false_alarm, "tests": number, "threshold": threshold, "max_unconverged": max_unconverged,
        "studies": studies,
    }  # fmt: skip


def stamped_verdict(
    verdict: Mapping[str, Any], *, date: str, command: str, configuration_sha256: str
) -> dict[str, Any]:
    """Return a verdict with what it is a verdict on: date, command, versions and checksums.

    Parameters
    ----------
    verdict : mapping
        Of `verdict_of`.
    date : str
        When, as ISO 8601 has it.
    command : str
        What was called.
    configuration_sha256 : str
        Of `configuration_checksum`.
    """
    head = {
        "obsfit_format": FORMAT, "format_version": FORMAT_VERSION, "date": date, "command": command,
        "versions": versions(), "programs": source_checksum(without=("plot", "cli")),
        "configuration_sha256": configuration_sha256,
    }  # fmt: skip
    return {**head, **verdict}


@lru_cache(maxsize=8)
def ecdf_band(n: int, *, level: float = 0.95, points: int = 50) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""Return points u and the simultaneous band of the empirical distribution of n uniform numbers.

    At each point the band is a central interval of the binomial law of n and u; all these intervals have one nominal
    level, the smallest at which the whole distribution stays in the band with probability `level` (Säilynoja et al.
    2022, arXiv:2103.10522). That probability is exact here: the counts between neighbouring points are independent
    Poisson numbers of mean n :math:`\Delta u` under the condition that they sum to n.

    Parameters
    ----------
    n : int
        Number of ranks.
    level : float
        Probability of the band as a whole.
    points : int
        Number of intervals into which u is divided.

    Returns
    -------
    u, low, high : ndarray, shape (points - 1,)
        Interior points, and the edges of the band there as fractions of n.

    Examples
    --------
    >>> u, low, high = ecdf_band(100)
    >>> bool(np.all(low <= u) and np.all(u <= high))
    True
    >>> round(float((high - u).max()), 2)
    0.14
    """
    u = np.arange(1, points) / points
    step = stats.poisson.pmf(np.arange(n + 1), n / points)

    def edges(tail: float) -> tuple[FloatArray, FloatArray]:
        law = stats.binom(n, u)
        return law.ppf(tail / 2), law.ppf(1 - tail / 2)

    def inside(tail: float) -> float:
        low, high = edges(tail)
        chance = np.zeros(n + 1)
        chance[0] = 1.0
        count = np.arange(n + 1)
        for least, most in zip(low, high, strict=True):
            chance = np.convolve(chance, step)[: n + 1] * ((count >= least) & (count <= most))
        return float(np.convolve(chance, step)[n] / stats.poisson.pmf(n, n))

    wide, narrow = (1.0 - level) / points / 10.0, 1.0 - level
    for _ in range(20):
        middle = float(np.sqrt(wide * narrow))
        if inside(middle) >= level:
            wide = middle
        else:
            narrow = middle
    low, high = edges(wide)
    return u, low / n, high / n
