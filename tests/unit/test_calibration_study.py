"""Tests of ranks, their families of p-values, and the command that runs several studies under one verdict.

Statistical tests are seeded and state how often they would fail by chance.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy import integrate, stats

from obsfit.cli import main
from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError
from obsfit.study import calibration
from obsfit.study.calibration import (
    TESTS,
    CalibrationConfiguration,
    StudyEntry,
    calibration_table,
    configuration_checksum,
    ecdf_band,
    load_study,
    rank_tests,
    ranks_table,
    run_calibration,
    verdict_of,
)
from obsfit.study.coverage import coverage_table

FIT = """
[fit]
seed = 0
method = "importance"
[fit.importance]
effective_size = 60.0
[fit.data]
spectrum = "hawc-icecube-2019"
ell_min = 1
ell_max = 8
[fit.model]
names = ["relative-diffusion"]
[fit.priors]
log10_c1 = {distribution = "uniform", low = -6.0, high = -5.0}
log10_noise = {distribution = "none"}
"""
CALIBRATION = """
schema = 1
kind = "calibration"
output = "out"
[[studies]]
name = "one"
file = "study.toml"
mocks = 10
[[studies]]
name = "two"
file = "study.toml"
mocks = 12
"""


@pytest.fixture
def study(capsys):
    """Run ``obsfit study``; returns exit code and standard output."""

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(["study", *map(str, words)])
        printed = capsys.readouterr()
        assert end.value.code in (0, 4), printed.err
        return end.value.code, printed.out

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.toml").write_text("schema = 1\nseed = 4\nmocks = 3\n" + FIT)
    (tmp_path / "calibration.toml").write_text(CALIBRATION)
    return tmp_path


def false_alarms(ranks):
    """How often each test of ranks (m, n) is below 0.05 and below 0.005."""
    found = [rank_tests(row) for row in ranks]
    p = np.array([[one[test] for test in TESTS] for one in found])
    return (p < 0.05).sum(0), (p < 0.005).sum(0)


@pytest.mark.parametrize("n", [40, 200])
def test_each_test_keeps_its_false_alarm(n):
    """1000 sets of uniform ranks: numbers below 0.05 and 0.005 within the upper 1e-5 quantile of a binomial law that is
    allowed 15 % more (laws of sums are approximate); discrete tests are below it. Chance: 20 x 1e-5 = 2e-4."""
    below, far_below = false_alarms(np.random.default_rng(n).random((1000, n)))
    assert np.all(below <= stats.binom(1000, 0.05 * 1.15).ppf(1 - 1e-5)), below
    assert np.all(far_below <= stats.binom(1000, 0.005 * 1.15).ppf(1 - 1e-5)), far_below
    # Tests of sums are not conservative either: lower quantile of 1e-5.
    continuous = [TESTS.index("shift_p"), TESTS.index("spread_p")]
    assert np.all(below[continuous] >= stats.binom(1000, 0.05 * 0.85).ppf(1e-5)), below


def test_ranks_among_200_samples_are_not_taken_for_a_wide_or_narrow_posterior():
    """Truth and 200 samples of one law: ranks are multiples of 1/200. Mean p of 400 sets of 200: 0.5 +- 0.06 (4 sd)."""
    rng = np.random.default_rng(8)
    ranks = rng.integers(0, 201, size=(400, 200)) / 200
    assert np.mean([rank_tests(row)["spread_p"] for row in ranks]) == pytest.approx(0.5, abs=0.06)


def test_the_moments_of_held_scores_are_those_of_an_integral():
    edge = stats.norm.ppf(0.995)

    def moment(power):
        return integrate.quad(
            lambda z: min(z * z, edge**2) ** power * stats.norm.pdf(z), -12, 12, points=[-edge, edge]
        )[0]

    mean, variance = calibration._squared_score_moments()
    assert mean == pytest.approx(moment(1), rel=1e-9)
    assert variance == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-8)


def test_p_values_against_their_definitions():
    """Pearson's sum, and the binomial tail by counting."""
    ranks = np.random.default_rng(5).random(60) ** 1.1
    found = rank_tests(ranks)
    counts = [np.sum((ranks >= low) & (ranks < high)) for low, high in pairwise(np.linspace(0, 1, 4))]
    squares = sum((count - 20) ** 2 / 20 for count in counts)
    assert found["bins_p"] == pytest.approx(np.exp(-squares / 2), rel=1e-9)  # two degrees of freedom
    inside = np.sum((ranks > 0.025) & (ranks < 0.975))
    law = np.array([stats.binom.pmf(k, 60, 0.95) for k in range(61)])
    assert found["coverage_95_p"] == pytest.approx(law[law <= law[inside] * (1 + 1e-9)].sum(), rel=1e-6)


def failures(distort, *, n, families=28, trials=200, seed=2):
    """How often the verdict on `families` fits of n mocks fails when the ranks of one of them are distorted."""
    rng = np.random.default_rng(seed)
    threshold = 0.01 / (families * len(TESTS))
    return np.mean([min(rank_tests(distort(rng.random(n))).values()) < threshold for _ in range(trials)])


def test_a_posterior_too_narrow_by_a_fifth_is_rejected_at_the_stated_power():
    """200 mocks, one of 28 parameters too narrow by a factor 0.8: rejected in 69 % (docs/calibration.md).

    200 trials: 0.69 +- 0.13 is 4 standard deviations. An honest one is rejected by chance in 4e-4 of the trials: at
    most 3 of 200 with probability 1 - 1e-5.
    """

    def narrow(rank):
        return stats.norm.cdf(stats.norm.ppf(rank) / 0.8)

    assert failures(narrow, n=200) == pytest.approx(0.69, abs=0.13)
    assert failures(lambda rank: rank, n=200) <= 3 / 200


def test_shifted_and_wide_posteriors_are_rejected():
    """Half a standard deviation off: in 0.999, narrow by 0.7: in 0.998, wide by 1.25: in 0.65. 200 trials; chance of
    195 or fewer at 0.998: 1e-5; of half or fewer at 0.65: 1e-5."""
    assert failures(lambda rank: stats.norm.cdf(stats.norm.ppf(rank) + 0.5), n=200) > 0.975
    assert failures(lambda rank: stats.norm.cdf(stats.norm.ppf(rank) / 0.7), n=200) > 0.975
    assert failures(lambda rank: stats.norm.cdf(stats.norm.ppf(rank) * 0.8), n=200) > 0.5
    assert failures(lambda rank: (rank + 0.2) % 1.0, n=200) < 0.05  # a turn of uniform ranks is uniform


def test_few_or_impossible_ranks_are_refused():
    with pytest.raises(ValueError, match="9 ranks: expected at least 10"):
        rank_tests(np.full(9, 0.5))
    with pytest.raises(ValueError, match="each from 0 to 1"):
        rank_tests(np.linspace(0, 1.1, 20))


@pytest.mark.parametrize("n", [20, 150])
def test_the_band_holds_whole_distributions_as_often_as_it_says(n):
    """4000 sets of uniform ranks; 0.0035 is one standard error, and the band of 20 is discrete: up to 3 % wider."""
    ranks = np.random.default_rng(1).random((4000, n))
    u, low, high = ecdf_band(n, level=0.95)
    share = (ranks[:, :, None] <= u).mean(1)
    inside = np.mean(np.all((share >= low - 1e-9) & (share <= high + 1e-9), axis=1))
    assert 0.95 - 4 * 0.0035 < inside < 0.95 + (0.03 if n == 20 else 4 * 0.0035)


def test_the_verdict_shares_its_false_alarm_among_what_is_judged():
    rng = np.random.default_rng(6)
    good = ranks_table(("a", "b"), rng.random((100, 2)), study="good")
    verdict = verdict_of(good, false_alarm=0.01)
    assert verdict["passed"]
    assert verdict["tests"] == 2 * len(TESTS)
    assert verdict["threshold"] == pytest.approx(0.01 / 10)
    bad = ranks_table(("a", "b"), np.column_stack([rng.random(100), rng.random(100) * 0.7]), study="bad")
    (study,) = verdict_of(bad, false_alarm=0.01)["studies"]
    assert not study["passed"]
    assert study["parameter"] == "b"
    assert study["smallest_p"] == min(float(bad[test][1]) for test in TESTS)
    bad["judged"] = False
    with pytest.raises(ConfigurationError, match="no analysis of this calibration is judged"):
        verdict_of(bad, false_alarm=0.01)


def test_a_bad_analysis_that_is_not_judged_does_not_count():
    rng = np.random.default_rng(7)
    found = coverage_table(("a",), rng.random((50, 1)))
    worse = coverage_table(("a",), 0.3 * rng.random((50, 1)))
    rows = {name: [*found[name], *worse[name]] for name in found.colnames}
    both = Table({**rows, "analysis": ["joint", "independent"]})
    judged = calibration_table(both, study="s", mocks=50, judged=("joint",))
    assert judged["judged"].tolist() == [True, False]
    verdict = verdict_of(judged, false_alarm=0.01)
    assert verdict["passed"]
    assert [study["passed"] for study in verdict["studies"]] == [True, False]
    assert not verdict_of(calibration_table(both, study="s", mocks=50), false_alarm=0.01)["passed"]


def test_too_many_fits_that_did_not_converge_are_no_calibration():
    found = coverage_table(("a",), np.random.default_rng(9).random((97, 1)))
    found.meta["not_converged"] = 3
    table = calibration_table(found, study="s", mocks=100)
    assert verdict_of(table, false_alarm=0.01, max_unconverged=0.03)["passed"]
    assert not verdict_of(table, false_alarm=0.01, max_unconverged=0.02)["passed"]


def test_one_command_runs_all_studies_and_continues(folder, study):
    """Table, ranks, plots, verdict; a second call does only what is missing and finds the same."""
    path = folder / "calibration.toml"
    code, printed = study(path, "--json")
    told = json.loads(printed)
    stored = json.loads((folder / "out" / "verdict.json").read_text())
    assert told["passed"] == stored["passed"] == (code == 0)
    assert stored["obsfit_format"] == "obsfit-calibration"
    assert stored["command"] == f"obsfit study {path}"
    assert [study["mocks"] for study in stored["studies"]] == [10, 12]
    table = Table.read(folder / "out" / "calibration.ecsv")
    assert table["study"].tolist() == ["one"] * 2 + ["two"] * 2
    assert [len(ranks) for ranks in table["ranks"]] == [10, 10, 12, 12]
    # The same seed: the longer study begins as the shorter one.
    np.testing.assert_array_equal(table["ranks"][2][:10], table["ranks"][0])
    tasks = sorted((folder / "out" / "two" / "tasks").iterdir())
    outcome = json.loads(tasks[0].read_text())
    assert table["ranks"][2][0] == pytest.approx(outcome["ranks"][0], abs=1e-6)
    for stem in ("coverage", "ranks-one-fit", "ecdf-two-fit"):
        assert (folder / "out" / f"{stem}.png").stat().st_size > 5000
    tasks[3].unlink()
    before = tasks[0].stat().st_mtime_ns
    assert json.loads(study(path, "--json")[1])["rows"] == told["rows"]
    assert tasks[0].stat().st_mtime_ns == before


def test_a_study_keeps_its_ranks_and_does_not_print_them(folder, study):
    _, printed = study(folder / "study.toml", "--json")
    assert "ranks" not in json.loads(printed)["parameters"][0]
    assert Table.read(folder / "coverage" / "coverage.ecsv")["ranks"].shape == (2, 3)


def test_a_negative_verdict_is_exit_code_4(folder, study, monkeypatch):
    """Posteriors of all fits shifted: the command says so."""

    def shifted(configuration, **how):
        ranks = np.random.default_rng(1).random((configuration.mocks, 1)) ** 4
        return coverage_table(("a",), ranks)

    kind = calibration.StudyKind(calibration.CoverageConfiguration, shifted)
    monkeypatch.setattr(calibration, "KINDS", {"coverage": kind})
    code, printed = study(folder / "calibration.toml")
    assert code == 4
    assert "one, fit: NOT CALIBRATED" in printed
    assert not json.loads((folder / "out" / "verdict.json").read_text())["passed"]


def test_everything_is_read_before_anything_is_computed(folder):
    (folder / "wrong.toml").write_text('schema = 1\nkind = "systematics"\nseed = 1\n')
    text = CALIBRATION + '[[studies]]\nname = "three"\nfile = "wrong.toml"\n'
    (folder / "calibration.toml").write_text(text)
    settings = load_configuration(folder / "calibration.toml", CalibrationConfiguration)
    with pytest.raises(ConfigurationError, match=r"kind = 'systematics' cannot be calibrated"):
        run_calibration(settings, base=folder)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"studies": ()}, "studies is empty"),
        ({"studies": (StudyEntry("a", "x"), StudyEntry("a", "y"))}, "'a' stands twice"),
        ({"studies": (StudyEntry("../a", "x"),)}, "name '../a'"),
        ({"studies": (StudyEntry("a", "x", -1),)}, "mocks = -1 of a"),
        ({"false_alarm": 0.0}, "false_alarm = 0.0"),
        ({"max_unconverged": 1.0}, "max_unconverged = 1.0"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, problem):
    with pytest.raises(ConfigurationError, match=problem):
        CalibrationConfiguration(**{"studies": (StudyEntry("a", "x"),), **changes})


def test_the_checksum_knows_what_numbers_depend_on(folder):
    settings = load_configuration(folder / "calibration.toml", CalibrationConfiguration)
    first = configuration_checksum(settings, base=folder)
    (folder / "calibration.toml").write_text(CALIBRATION.replace('"out"', '"elsewhere"'))
    moved = load_configuration(folder / "calibration.toml", CalibrationConfiguration)
    assert configuration_checksum(moved, base=folder) == first
    (folder / "study.toml").write_text("schema = 1\nseed = 5\nmocks = 3\n" + FIT)
    assert configuration_checksum(settings, base=folder) != first


def test_the_shipped_calibration_names_every_shipped_fit():
    base = Path(__file__).parents[2] / "analyses" / "calibration"
    settings = load_configuration(base / "calibration.toml", CalibrationConfiguration)
    studies = [load_study(base / entry.file) for entry in settings.studies]
    single = {name for kind, study in studies if kind == "coverage" for name in study.fit.model.names}
    assert {"relative-diffusion", "hierarchical-cascade", "diffusive-dipole"} <= single
    assert "universes" in {kind for kind, _ in studies}
    # What shows that one sky is not several must not fail the whole.
    assert calibration.KINDS["universes"].judged == ("joint",)
