"""What the results of a study say: bias, scatter, coverage and pulls of each number, null tests, covariances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray
from scipy import stats

from obsfit.reconstruct.ring_harmonics import multipoles
from obsfit.study.methods import dipole_functional

FloatArray = NDArray[np.float64]

LEVELS = (0.68, 0.95)
FLAG = 0.01
"""A null test below this probability is a flag."""


def _none(*shape: int) -> Callable[[], FloatArray]:
    return lambda: np.zeros(shape)


@dataclass(frozen=True)
class MethodOutcome:
    """What one method found at one point.

    Attributes
    ----------
    truth : ndarray, shape (n_sky, 2 n)
        (Re a_lm, Im a_lm) of the skies.
    predicted : ndarray, shape (n_sky, p)
        What the operator of the method makes of them.
    noise_free : ndarray, shape (n_sky, p)
        What the method finds in the expected counts.
    breathing : ndarray, shape (n_sky, p)
        Predicted effect of an acceptance that breathes.
    sky : ndarray of int, shape (n_mock,)
        Sky of each realisation.
    found : ndarray, shape (n_mock, p)
        Results.
    covariance : ndarray, shape (n_mock, p, p)
        Covariances that the method claims.
    nulls : mapping of str to ndarray, shape (n_mock,)
        Probabilities of null tests.
    multipoles : bool
        Whether the p numbers are (Re a_lm, Im a_lm), rather than (delta_0h, delta_6h).
    refused : str
        Why the method refused; empty if it did not.
    """

    truth: FloatArray = field(default_factory=_none(0, 0))
    predicted: FloatArray = field(default_factory=_none(0, 0))
    noise_free: FloatArray = field(default_factory=_none(0, 0))
    breathing: FloatArray = field(default_factory=_none(0, 0))
    sky: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    found: FloatArray = field(default_factory=_none(0, 0))
    covariance: FloatArray = field(default_factory=_none(0, 0, 0))
    nulls: Mapping[str, FloatArray] = field(default_factory=dict)
    multipoles: bool = False
    refused: str = ""


@dataclass(frozen=True)
class PointOutcome:
    """What all methods found at one point: name of the scan, label of its value, and the outcome by method."""

    scan: str
    label: str
    methods: Mapping[str, MethodOutcome]


@dataclass(frozen=True)
class Summary:
    """Tables of a study.

    Attributes
    ----------
    numbers : Table
        One row for each point, method and number; see `number_rows`.
    nulls : Table
        One row for each point, method and null test: how often it fell below 1 %, and its median probability.
    covariances : Table
        One row for each point and method: likelihood-ratio test of the claimed covariance against that of the
        realisations.
    refusals : Table
        Points at which a method refused, and why.
    """

    numbers: Table
    nulls: Table
    covariances: Table
    refusals: Table


NUMBERS = {
    "scan": "name of the scan", "value": "value of what varies", "method": "reconstruction",
    "number": "delta_0h, delta_6h, A_1, alpha_1, Re a_lm, Im a_lm or C_l without m = 0",
    "unit": "unit of the columns that follow; empty for plain numbers", "mocks": "Poisson realisations",
    "truth": "true value, mean over skies", "predicted": "what the method's operator makes of the true multipoles",
    "noise_free": "what the method finds in the expected counts", "breathing": "predicted effect of breathing "
    "acceptance on noise_free", "mean": "mean over realisations", "bias": "mean of found minus predicted, breathing "
    "not predicted", "bias_error": "standard error of bias", "scatter": "standard deviation of found minus predicted",
    "claimed": "root mean square of the errors that the method claims", "pull_mean": "mean of (found - predicted) over "
    "the claimed error", "pull_width": "its standard deviation",
    **{f"coverage_{round(100 * p)}": f"share of {round(100 * p)} % intervals that hold the predicted value"
       for p in LEVELS},
    **{f"truth_in_{round(100 * p)}": f"share of {round(100 * p)} % intervals that hold the true value" for p in LEVELS},
}  # fmt: skip
NULLS = {
    "scan": "name of the scan", "value": "value of what varies", "method": "reconstruction",
    "null": "frame that must vanish, or epochs that must agree", "mocks": "Poisson realisations",
    "flagged": f"share of probabilities below {FLAG:g}", "median": "median probability",
}  # fmt: skip
COVARIANCES = {
    "scan": "name of the scan", "value": "value of what varies", "method": "reconstruction",
    "mocks": "Poisson realisations", "numbers": "size of the covariance", "ratio": "mean of scatter over claimed error",
    "statistic": "likelihood ratio with Bartlett's factor", "freedom": "its degrees of freedom",
    "probability": "chance of as large a value if the claimed covariance is right",
}  # fmt: skip
REFUSALS = {
    "scan": "name of the scan",
    "value": "value of what varies",
    "method": "reconstruction",
    "why": "reason",
}


def summarise(points: Sequence[PointOutcome]) -> Summary:
    """Return the tables of a study."""
    numbers: list[dict[str, Any]] = []
    nulls: list[dict[str, Any]] = []
    covariances: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []
    for point in points:
        for name, outcome in point.methods.items():
            start = {"scan": point.scan, "value": point.label, "method": name}
            if outcome.refused:
                refusals.append({**start, "why": outcome.refused})
                continue
            numbers += [{**start, **row} for row in number_rows(outcome)]
            nulls += [
                {**start, "null": test, "mocks": p.size, "flagged": float(np.mean(p < FLAG)), "median": np.median(p)}
                for test, p in outcome.nulls.items()
            ]  # fmt: skip
            if len(outcome.found) > 2 * outcome.found.shape[1]:
                covariances.append({**start, **covariance_test(outcome)})
    return Summary(
        _table(numbers, NUMBERS), _table(nulls, NULLS), _table(covariances, COVARIANCES), _table(refusals, REFUSALS)
    )  # fmt: skip


def number_rows(outcome: MethodOutcome) -> Iterator[dict[str, Any]]:
    r"""Yield the statistics of each number that a method found, as columns of `Summary.numbers`.

    Amplitude and phase are those of the dipole (delta_0h, delta_6h), their errors those along and across it, and
    neither is corrected for what noise adds. A power is :math:`2 (|x|^2 - \mathrm{tr}\, C) / (2\ell+1)` over the a_lm
    of one degree with covariance C, without m = 0; its error is the unbiased estimate
    :math:`2 \sqrt{4 x^T C x - 2\,\mathrm{tr}\,C^2} / (2\ell+1)`, or that of noise alone if it is larger.
    """
    for name, unit, of, functional in _numbers_of(outcome):
        truth = np.array([functional(x) for x in outcome.truth])
        predicted = np.array([of(x, None)[0] for x in outcome.predicted])
        free = np.array([of(x, None)[0] for x in outcome.noise_free])
        still = np.array([of(x - b, None)[0] for x, b in zip(outcome.noise_free, outcome.breathing, strict=True)])
        turn = 360.0 if unit == "deg" else np.inf
        row: dict[str, Any] = {
            "number": name, "unit": unit, "mocks": len(outcome.found), "truth": _mean(truth, turn),
            "predicted": _mean(predicted, turn), "noise_free": _mean(free, turn),
            "breathing": float(np.mean(_difference(free, still, turn))),
        }  # fmt: skip
        if len(outcome.found) > 1:
            pairs = [of(x, c) for x, c in zip(outcome.found, outcome.covariance, strict=True)]
            found, claimed = np.array(pairs).T
            off = _together(_difference(found, predicted[outcome.sky], turn), turn)
            wrong = _difference(found, truth[outcome.sky], turn)
            scatter = float(off.std(ddof=1))
            row |= {
                "mean": _mean(found, turn), "bias": float(off.mean()), "bias_error": scatter / np.sqrt(off.size),
                "scatter": scatter, "claimed": float(np.sqrt(np.mean(claimed**2))),
                "pull_mean": float(np.mean(off / claimed)), "pull_width": float(np.std(off / claimed, ddof=1)),
            }  # fmt: skip
            for level in LEVELS:
                reach = stats.norm.ppf(0.5 + 0.5 * level) * claimed
                row[f"coverage_{round(100 * level)}"] = float(np.mean(np.abs(off) <= reach))
                row[f"truth_in_{round(100 * level)}"] = float(np.mean(np.abs(wrong) <= reach))
        yield row


def covariance_test(outcome: MethodOutcome) -> dict[str, Any]:
    r"""Return the likelihood-ratio test of the claimed covariance, as columns of `Summary.covariances`.

    With the covariance S of n realisations about their mean, n' = n - 1, and the mean Sigma of those claimed, for p
    numbers,

    .. math:: \Lambda = n' f \left[\mathrm{tr}\,\Sigma^{-1}S - \ln\det\Sigma^{-1}S - p\right],
              \qquad f = 1 - \frac{1}{6 n'}\left(2p + 1 - \frac{2}{p+1}\right),

    is chi-square with p (p + 1) / 2 degrees of freedom if the claim is right (Bartlett). Realisations of several skies
    are taken about the mean of their sky.
    """
    off, lost = np.array(outcome.found), 0
    for sky in np.unique(outcome.sky):
        chosen = outcome.sky == sky
        off[chosen] -= off[chosen].mean(axis=0)
        lost += 1
    freedom_left, p = len(off) - lost, off.shape[1]
    claimed = outcome.covariance.mean(axis=0)
    factor = np.linalg.cholesky(claimed)
    white = np.linalg.solve(factor, off.T)
    values = np.linalg.eigvalsh(white @ white.T / freedom_left)
    bartlett = 1.0 - (2.0 * p + 1.0 - 2.0 / (p + 1.0)) / (6.0 * freedom_left)
    statistic = float(freedom_left * bartlett * np.sum(values - np.log(values) - 1.0))
    freedom = p * (p + 1) // 2
    ratio = np.sqrt(np.sum(off**2, axis=0) / freedom_left / np.diag(claimed))
    return {
        "mocks": len(off), "numbers": p, "ratio": float(ratio.mean()), "statistic": statistic, "freedom": freedom,
        "probability": float(stats.chi2.sf(statistic, freedom)),
    }  # fmt: skip


Estimator = Callable[[FloatArray, FloatArray | None], tuple[float, float]]


def _numbers_of(outcome: MethodOutcome) -> Iterator[tuple[str, str, Estimator, Callable[[FloatArray], float]]]:
    """Name, unit, value and error from numbers and covariance, and the true value from the sky's multipoles."""
    size, sky_size = outcome.predicted.shape[1], outcome.truth.shape[1]
    seen = dipole_functional(size) if outcome.multipoles else np.eye(2)
    true = dipole_functional(sky_size)
    for i, name in enumerate(("delta_0h", "delta_6h")):
        yield name, "", partial(_linear, seen[i]), partial(_value, partial(_linear, true[i]))
    yield "A_1", "", partial(_amplitude, seen), partial(_value, partial(_amplitude, true))
    yield "alpha_1", "deg", partial(_phase, seen), partial(_value, partial(_phase, true))
    if not outcome.multipoles:
        return
    ell, m = multipoles(_lmax(size))
    sky_ell, sky_m = multipoles(_lmax(sky_size))
    place = np.array([np.flatnonzero((sky_ell == a) & (sky_m == b))[0] for a, b in zip(ell, m, strict=True)])
    for part, first in (("Re", 0), ("Im", 1)):
        for i in range(ell.size):
            mine, sky = np.zeros(size), np.zeros(sky_size)
            mine[first * ell.size + i] = sky[first * sky_ell.size + place[i]] = 1.0
            name = f"{part} a_{ell[i]}{m[i]}"
            yield name, "", partial(_linear, mine), partial(_value, partial(_linear, sky))
    for degree in np.unique(ell):
        inside, sky_inside = np.tile(ell == degree, 2), np.tile(sky_ell == degree, 2)
        power, truth = partial(_power, inside, int(degree)), partial(_power, sky_inside, int(degree))
        yield f"C_{degree}", "", power, partial(_value, truth)


def _value(of: Estimator, x: FloatArray) -> float:
    return of(x, None)[0]


def _linear(functional: FloatArray, x: FloatArray, covariance: FloatArray | None) -> tuple[float, float]:
    error = 0.0 if covariance is None else _root(functional @ covariance @ functional)
    return float(functional @ x), error


def _amplitude(dipole: FloatArray, x: FloatArray, covariance: FloatArray | None) -> tuple[float, float]:
    vector = dipole @ x
    amplitude = float(np.hypot(*vector))
    if covariance is None or amplitude == 0.0:
        return amplitude, 0.0
    along = vector / amplitude @ dipole
    return amplitude, _root(along @ covariance @ along)


def _phase(dipole: FloatArray, x: FloatArray, covariance: FloatArray | None) -> tuple[float, float]:
    """In degrees."""
    vector = dipole @ x
    amplitude = float(np.hypot(*vector))
    phase = float(np.degrees(np.arctan2(vector[1], vector[0])) % 360.0)
    if covariance is None or amplitude == 0.0:
        return phase, 0.0
    across = np.array([-vector[1], vector[0]]) / amplitude @ dipole
    return phase, float(np.degrees(_root(across @ covariance @ across) / amplitude))


def _power(
    inside: NDArray[np.bool_], ell: int, x: FloatArray, covariance: FloatArray | None
) -> tuple[float, float]:
    part, scale = x[inside], 2.0 / (2 * ell + 1)
    if covariance is None:
        return float(scale * part @ part), 0.0
    noise = covariance[np.ix_(inside, inside)]
    of_noise = 2.0 * np.sum(noise**2)
    variance = max(4.0 * part @ noise @ part - of_noise, of_noise)
    return float(scale * (part @ part - np.trace(noise))), float(scale * _root(variance))


def _root(variance: Any) -> float:
    return float(np.sqrt(variance))


def _lmax(n_parameter: int) -> int:
    return round((np.sqrt(1.0 + 4.0 * n_parameter) - 1.0) / 2.0)


def _difference(a: FloatArray, b: FloatArray, turn: float) -> FloatArray:
    """A - b, within half a turn."""
    if np.isinf(turn):
        return np.asarray(a - b)
    return np.asarray((a - b + 0.5 * turn) % turn - 0.5 * turn)


def _together(differences: FloatArray, turn: float) -> FloatArray:
    """Differences within half a turn of their mean direction, so that those about half a turn are not torn apart."""
    if np.isinf(turn):
        return differences
    middle = np.angle(np.mean(np.exp(2j * np.pi * differences / turn))) * turn / (2.0 * np.pi)
    return np.asarray(middle + _difference(differences, np.full_like(differences, middle), turn))


def _mean(values: FloatArray, turn: float) -> float:
    """Mean; of angles, about the first."""
    first = float(values[0])
    mean = first + float(np.mean(_difference(values, np.full_like(values, first), turn)))
    return mean if np.isinf(turn) else mean % turn


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """Table of rows; what a row does not have is masked."""
    table = Table(masked=True)
    for name, description in columns.items():
        lacking = [name not in row for row in rows]
        first = next((row[name] for row in rows if name in row), 0.0)
        empty = "" if isinstance(first, str) else 0
        values = [row.get(name, empty) for row in rows]
        table[name] = MaskedColumn(values, mask=lacking, description=description, dtype=None if rows else float)
        if table[name].dtype.kind == "f":
            table[name].info.format = ".5g"
    return table
