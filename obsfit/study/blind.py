"""Blind challenges: mock data whose truth is sealed by its checksum, fitted by anyone, opened once all have fitted."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.table import Table

import obsfit
from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.execute import child_generator
from obsfit.infer.configured import FitConfiguration
from obsfit.infer.result import FitResult
from obsfit.infer.weighted_samples import FORMAT as WEIGHTED
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.ingest.dipoles import write_dipoles
from obsfit.ingest.spectra import write_spectrum
from obsfit.parameters import FloatArray
from obsfit.provenance import atomic_write, sha256
from obsfit.records import PowerSpectrum
from obsfit.study.calibration import KINDS, check_share, load_study, ranks_table

FORMAT = "obsfit-blind-challenge"
FORMAT_VERSION = 1
ANSWERS = ("fit.h5", "samples.ecsv", "quantiles.ecsv")
"""What an answer may be: a result of ``obsfit fit``, samples, or quantiles."""
CAUTION = "Mock data of a blind challenge: no measurement."
# Fewer cannot tell a shifted posterior from an honest one.
LEAST = 10


@dataclass(frozen=True)
class BlindConfiguration:
    """A blind challenge.

    Attributes
    ----------
    study : str
        Configuration of a study of kind "coverage" or "universes", relative to this file: its priors and mocks make the
        data. Its seed is not used.
    universes : int
        Number of data sets, at least 10.
    parameters : tuple of str
        What is asked for; empty: all parameters of the fit, nuisances included.
    kind : str
        "blind".
    output : str
        Folder of the challenge, relative to the file: the part that is handed out.
    truth : str
        Sealed file of the truths, relative to the file: the part that is kept.
    seed : int, optional
        Of truths and data. Who knows it knows the truths: without it, one of 128 bits comes from the operating system
        and stands in the sealed file alone.
    false_alarm : float
        Probability that the verdict on answers that are all calibrated is negative.
    """

    __pydantic_config__ = FORBID

    study: str
    universes: int
    parameters: tuple[str, ...] = ()
    kind: str = "blind"
    output: str = "challenge"
    truth: str = "truth.json"
    seed: int | None = None
    false_alarm: float = 0.01

    def __post_init__(self) -> None:
        if self.universes < LEAST:
            raise ConfigurationError(f"universes = {self.universes}", expected=f"at least {LEAST}")
        check_share("false_alarm", self.false_alarm)


def make_challenge(configuration: BlindConfiguration, *, base: Path) -> Path:
    """Write the data sets of a challenge and its sealed truth; return the challenge file.

    The output folder gets a folder ``universe-000`` and so on for each data set, with files that `obsfit.load_spectrum`
    or `obsfit.load_dipoles` read and a configuration for ``obsfit fit``, and ``challenge.json``, which holds the
    SHA-256 checksum of every one of them and of the truth file.

    Parameters
    ----------
    configuration : BlindConfiguration
        The challenge.
    base : Path
        Folder to which its paths are relative.

    Raises
    ------
    ConfigurationError
        If challenge or truth exist, the truth would lie in the folder that is handed out, a parameter is unknown, or
        the study makes no data that can be written.
    """
    folder, truth_path = base / configuration.output, base / configuration.truth
    for path in (folder, truth_path):
        if path.exists():
            raise ConfigurationError(
                "exists already", path=path, remedy="A challenge is made once: choose another name."
            )
    if folder.resolve() in truth_path.resolve().parents:
        raise ConfigurationError(
            f"truth = {configuration.truth!r} lies in the folder that is handed out", expected="a file elsewhere"
        )
    study_path = base / configuration.study
    kind, settings = load_study(study_path)
    universe = KINDS[kind].universe
    if universe is None:
        raise ConfigurationError(f"kind = {kind!r} makes no data files", path=study_path)
    # A nonce of its own: truths of few digits could otherwise be found by trying.
    seed = secrets.randbits(128) if configuration.seed is None else configuration.seed
    parameters: tuple[str, ...] = ()
    truths: dict[str, dict[str, float]] = {}
    sums: dict[str, str] = {}
    for index in range(configuration.universes):
        name = f"universe-{index:03d}"
        mock = universe(settings, base=study_path.parent, rng=child_generator(seed, name))
        parameters = configuration.parameters or mock.names
        unknown = sorted(set(parameters) - set(mock.names))
        if unknown:
            raise ConfigurationError(
                f"parameters: {unknown[0]!r} is none of the fit", expected=f"some of {', '.join(mock.names)}"
            )
        truths[name] = {key: float(value) for key, value in zip(mock.names, mock.truth, strict=True)}
        for path in _write_universe(folder / name, mock.records, settings, index):
            sums[path.relative_to(folder).as_posix()] = sha256(path)
    sealed = {"obsfit_format": f"{FORMAT}-truth", "format_version": FORMAT_VERSION, "seed": seed, "truths": truths}
    sealed["nonce"] = secrets.token_hex(32) if configuration.seed is None else f"{seed:x}"
    _write_json(truth_path, sealed)
    challenge = folder / "challenge.json"
    _write_json(
        challenge,
        {
            "obsfit_format": FORMAT, "format_version": FORMAT_VERSION, "obsfit_version": obsfit.__version__,
            "study": Path(configuration.study).stem, "parameters": list(parameters), "universes": list(truths),
            "answers": list(ANSWERS), "false_alarm": configuration.false_alarm, "files": sums,
            "truth_sha256": sha256(truth_path),
        },
    )  # fmt: skip
    return challenge


def open_challenge(challenge: Path, truth: Path) -> Table:
    """Return the ranks of the truths in the answers to a challenge, with all tests of them.

    Nothing of the truth is read before there is an answer to every data set. The first opening writes the checksums of
    the answers to ``opened.json`` beside the challenge; answers that were changed since are refused.

    Parameters
    ----------
    challenge : Path
        Of `make_challenge`. The answer to each data set lies in its folder, in ``answer/``: one of `ANSWERS`.
        ``fit.h5`` is what ``obsfit fit`` stores; ``samples.ecsv`` has a column for each parameter and perhaps
        ``weight``; ``quantiles.ecsv`` has the column ``level``, at least five between 0 and 1, and the quantile of each
        parameter at them.
    truth : Path
        The sealed file.

    Returns
    -------
    Table
        As `obsfit.study.calibration.calibration_table`, one row for each parameter that was asked for.

    Raises
    ------
    ConfigurationError
        If an answer is missing, or was changed after a first opening; if a data set, or the truth, is not what it was
        when the challenge was made.
    DataFormatError
        If a file cannot be understood.
    """
    told = _read_json(challenge, FORMAT)
    folder = challenge.parent
    answers = {name: _answer(folder / name / "answer") for name in told["universes"]}
    missing = [name for name, path in answers.items() if path is None]
    if missing:
        raise ConfigurationError(
            f"{len(missing)} of {len(answers)} data sets have no answer: {', '.join(missing[:5])}", path=challenge,
            expected=f"one of {', '.join(ANSWERS)} in the folder answer of each", remedy="The truth stays sealed.",
        )  # fmt: skip
    for name, expected in told["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise ConfigurationError("this is not the file that was handed out", path=folder / name)
    given = {name: path for name, path in answers.items() if path is not None}
    # All answers are understood before the truth is.
    posteriors = {name: _read_answer(path, told["parameters"]) for name, path in given.items()}
    _seal_answers(folder / "opened.json", {name: sha256(path) for name, path in given.items()})
    if not truth.is_file() or sha256(truth) != told["truth_sha256"]:
        raise ConfigurationError(
            "this is not the truth that was sealed", path=truth, expected=f"SHA-256 {told['truth_sha256']}"
        )
    truths = _read_json(truth, f"{FORMAT}-truth")["truths"]
    ranks = np.array(
        [
            [rank_in(*columns[name], truths[universe][name]) for name in told["parameters"]]
            for universe, columns in posteriors.items()
        ]
    )
    return ranks_table(tuple(told["parameters"]), ranks, study=str(told["study"]))


def rank_in(values: FloatArray, below: FloatArray, truth: float) -> float:
    """Return the posterior probability below a truth.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Increasing values of a parameter.
    below : ndarray, shape (n,)
        Posterior probability up to each of them; linear between them, and 0 and 1 outside.
    truth : float
        The true value.

    Examples
    --------
    >>> rank_in(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.5, 0.9]), 3.0)
    0.7
    """
    return round(float(np.interp(truth, values, below, left=0.0, right=1.0)), 12)


def _write_universe(folder: Path, records: Sequence[Any], settings: Any, index: int) -> list[Path]:
    """Files of one data set: its records, and a configuration by which ``obsfit fit`` fits them."""
    written, data = [], []
    for number, record in enumerate(records):
        kind = "spectrum" if isinstance(record, PowerSpectrum) else "dipoles"
        path = folder / f"{kind}-{number}.ecsv"
        if isinstance(record, PowerSpectrum):
            write_spectrum(path, record, meta={"caution": CAUTION})
        else:
            write_dipoles(path, record, meta={"caution": CAUTION})
        written.append(path)
        data.append({kind: path.name})
    path = folder / "fit.toml"
    with atomic_write(path) as partial:
        partial.write_text(_fit_text(settings, data, index), encoding="utf-8")
    return [*written, path]


def _fit_text(settings: Any, data: list[dict[str, str]], index: int) -> str:
    """The fit of a study with other data, as TOML."""
    fit: FitConfiguration = settings.fit
    whole: dict[str, Any] = {
        key: value
        for key, value in asdict(fit).items()
        if value is not None and key not in ("data", "output", "seed", "importance")
    }
    importance = asdict(fit.importance)
    if hasattr(settings, "effective_size"):
        # Studies of joint fits sample by importance, whatever their fit says.
        whole["method"] = "importance"
        importance = {name: getattr(settings, name) for name in importance}
    whole = {"schema": 1, "seed": index, "output": "answer", **whole, "importance": importance}
    whole["data"] = data if isinstance(fit.data, tuple) else data[0]
    return f"# {CAUTION}\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in whole.items())


def _toml(value: Any) -> str:
    """A value of TOML on one line; entries that are None are left out."""
    if isinstance(value, Mapping):
        inner = (f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items() if one is not None)
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    # Texts, numbers and truth values of these settings are written as JSON writes them.
    return json.dumps(value)


def _answer(folder: Path) -> Path | None:
    """The one answer in a folder, or None."""
    found = [folder / name for name in ANSWERS if (folder / name).is_file()]
    if len(found) > 1:
        raise ConfigurationError(
            f"{found[0].name} and {found[1].name} are two answers", path=folder, expected="one answer"
        )
    return found[0] if found else None


def _read_answer(path: Path, parameters: Sequence[str]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """For each parameter, increasing values and the posterior probability up to them."""
    if path.suffix == ".h5":
        names, theta, weight = _read_fit(path)
    else:
        try:
            table = Table.read(path, format="ascii.ecsv")
        except (OSError, ValueError, TypeError) as error:
            raise DataFormatError(f"cannot be read: {error}", path=path, expected="an ECSV table") from error
        names = tuple(table.colnames)
        theta = np.column_stack([np.asarray(table[name], dtype=np.float64) for name in names])
        weight = np.ones(len(theta))
        extra = "level" if path.stem == "quantiles" else "weight"
        if extra in names:
            weight = theta[:, names.index(extra)]
        elif extra == "level":
            raise DataFormatError("has no column level", path=path, expected="columns level and the parameters")
    lacking = sorted(set(parameters) - set(names))
    if lacking:
        raise DataFormatError(f"has no parameter {lacking[0]!r}", path=path, expected=", ".join(parameters))
    columns = {name: theta[:, names.index(name)] for name in parameters}
    if not np.isfinite(weight).all() or not all(np.isfinite(column).all() for column in columns.values()):
        raise DataFormatError("holds numbers that are not finite", path=path)
    if path.stem == "quantiles":
        return _from_quantiles(path, weight, columns)
    if np.any(weight < 0) or not weight.sum() > 0:
        raise DataFormatError("has weights that are none", path=path, expected="weights that are not negative")
    found = {}
    for name, column in columns.items():
        order = np.argsort(column)
        # Steps, as samples make them: of all samples up to a value.
        found[name] = _steps(column[order], np.cumsum(weight[order]) / weight.sum())
    return found


def _steps(values: FloatArray, below: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A step function as `rank_in` takes it: its value just before each sample, and from there on."""
    before = np.concatenate([[0.0], below[:-1]])
    pairs = np.repeat(values, 2)
    pairs[0::2] = np.nextafter(pairs[0::2], -np.inf)
    return pairs, np.column_stack([before, below]).ravel()


def _from_quantiles(
    path: Path, level: FloatArray, columns: Mapping[str, FloatArray]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    order = np.argsort(level)
    level = level[order]
    if len(level) < 5 or level[0] <= 0.0 or level[-1] >= 1.0 or np.any(np.diff(level) <= 0):
        raise DataFormatError(
            f"has levels {level.tolist()}", path=path, expected="at least five different levels between 0 and 1"
        )
    for name, column in columns.items():
        if np.any(np.diff(column[order]) <= 0):
            raise DataFormatError("quantiles do not increase", path=path, column=name)
    found = {}
    for name, column in columns.items():
        values = column[order]
        # Beyond the outermost quantiles: as far again as their neighbours are, for the probability that is left.
        first = values[0] - (values[1] - values[0]) / (level[1] - level[0]) * level[0]
        last = values[-1] + (values[-1] - values[-2]) / (level[-1] - level[-2]) * (1.0 - level[-1])
        found[name] = np.concatenate([[first], values, [last]]), np.concatenate([[0.0], level, [1.0]])
    return found


def _read_fit(path: Path) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    try:
        with h5py.File(path, "r") as file:
            weighted = file.attrs.get("obsfit_format") == WEIGHTED
    except OSError as error:
        raise DataFormatError(f"cannot be read as HDF5: {error}", path=path) from error
    if weighted:
        fit = WeightedSamples.load(path)
        return fit.names, fit.theta, fit.weight
    chain = FitResult.load(path)
    samples = chain.samples()
    return chain.names, samples, np.ones(len(samples))


def _seal_answers(path: Path, sums: Mapping[str, str]) -> None:
    """Keep the checksums of the answers at the first opening; refuse others later."""
    if not path.exists():
        _write_json(
            path, {"obsfit_format": f"{FORMAT}-opened", "format_version": FORMAT_VERSION, "answers": dict(sums)}
        )
        return
    before = _read_json(path, f"{FORMAT}-opened")["answers"]
    changed = sorted(name for name in sums if before.get(name) != sums[name])
    if changed:
        raise ConfigurationError(
            f"the answer to {changed[0]} was changed after the challenge had been opened", path=path,
            expected="the answers of the first opening",
        )  # fmt: skip


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path, kind: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["obsfit_format"] != kind or found["format_version"] != FORMAT_VERSION:
            raise KeyError("obsfit_format")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFormatError(
            "this is no file of a blind challenge", path=path, expected=f"obsfit_format = {kind}, version 1"
        ) from error
    return dict(found)
