"""Small studies of systematics: unbiased, covered, resumed, and the same for any number of processes.

Each statistical test is seeded and states how often it would fail by chance.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from obsfit.errors import ConfigurationError
from obsfit.study.methods import METHODS
from obsfit.study.observations import BreathingSettings, DetectorSettings, SkySettings, WaveSettings
from obsfit.study.summaries import MethodOutcome, PointOutcome, covariance_test, summarise
from obsfit.study.systematics import SystematicsConfiguration, VarySettings, run_systematics

SMALL = SystematicsConfiguration(
    seed=5, detectors=(DetectorSettings("A", "20 deg", "50 deg", events=1e8),), methods=tuple(METHODS),
    sky=SkySettings((3e-3, 1e-3, 0.0), c_ell=(0.0, 0.0, 2e-6)), skies=2, realisations=30, n_dec=18, n_time=24,
    sub_cells=2, output="s",
)  # fmt: skip


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return run_systematics(SMALL, base=tmp_path_factory.mktemp("study"))


def test_methods_are_unbiased_about_their_predictions(summary):
    """22 components, each within 4.2 standard errors of its mean over 60 mocks: false alarm 22 x 2.7e-5 = 6e-4.

    Bins of 10 and 15 deg leave up to 1.5 % of the sky, added to the allowance.
    """
    for row in summary.numbers[[name.startswith("delta") for name in summary.numbers["number"]]]:
        assert abs(row["bias"]) < 4.2 * row["bias_error"] + 0.015 * 3e-3, row


def test_intervals_hold_the_prediction_as_often_as_they_say(summary):
    """22 components at two levels: outside the binomial quantiles of 1e-4 in total 44 x 1e-4 = 4e-3 of the time."""
    for row in summary.numbers[[name.startswith("delta") for name in summary.numbers["number"]]]:
        for level in (0.68, 0.95):
            low, high = stats.binom(60, level).ppf([5e-5, 1 - 5e-5])
            assert low <= round(60 * row[f"coverage_{round(100 * level)}"]) <= high, row


def test_what_a_method_loses_is_not_covered(summary):
    """Direct integration keeps a fifth of the dipole: its intervals never hold the truth."""
    rows = summary.numbers[
        (summary.numbers["method"] == "direct-integration") & (summary.numbers["number"] == "A_1")
    ]
    assert rows["truth_in_95"][0] == 0.0


def test_covariances_are_those_of_the_mocks(summary):
    """Eleven methods, chance of a probability below 1e-4: 1e-3."""
    assert len(summary.covariances) == len(METHODS)
    assert np.all(summary.covariances["probability"] > 1e-4), summary.covariances


def test_nulls_flag_a_breathing_slope_and_nothing_else(tmp_path):
    """Equal side bands at the sidereal and anti-sidereal frequency, at some forty standard errors.

    Without breathing, 10 of 10 mocks pass at 1 %, or 9, or 8: chance of fewer 1e-4 for each of four tests. East-West
    is blind to a slope in zenith angle, which it does not need to see.
    """
    waves = (WaveSettings("sidereal", 1.0), WaveSettings("anti-sidereal", 1.0))
    detector = replace(SMALL.detectors[0], breathing=(BreathingSettings(waves, strength=0.0),))
    study = replace(
        SMALL, detectors=(detector,), methods=("east-west", "low-multipole-likelihood"), skies=1, realisations=10,
        sky=SkySettings((3e-3, 0.0, 0.0)), nulls=True,
        vary=(VarySettings("strength", "detectors.A.breathing.0.strength", (0.0, 0.1)),),
    )  # fmt: skip
    nulls = run_systematics(study, base=tmp_path).nulls
    flagged = {(row["value"], row["method"], row["null"]): row["flagged"] for row in nulls}
    for method in study.methods:
        for frame in ("anti-sidereal", "extended-sidereal"):
            assert flagged["0.0", method, frame] <= 0.2
        assert flagged["0.1", method, "anti-sidereal"] == (
            1.0 if method.startswith("low") else pytest.approx(0.0, abs=0.2)
        )


def test_epochs_disagree_where_a_solar_slope_averages_out_over_the_year(tmp_path):
    """The bias of the year is below its error, that of each quarter some twenty standard errors; chance of 5e-5."""
    detector = replace(
        SMALL.detectors[0], breathing=(BreathingSettings((WaveSettings("solar", 0.1),)),), events=1e8
    )
    study = replace(
        SMALL, detectors=(detector,), methods=("low-multipole-likelihood",), skies=1, realisations=10, epochs=4,
        start_mjd=60000.0, stop_mjd=60365.25, sky=SkySettings((3e-3, 0.0, 0.0)),
    )  # fmt: skip
    summary = run_systematics(study, base=tmp_path)
    assert list(summary.nulls["null"]) == ["epochs"]
    assert summary.nulls["flagged"][0] == 1.0
    row = summary.numbers[summary.numbers["number"] == "delta_0h"][0]
    assert abs(row["bias"]) < 4.2 * row["bias_error"] + 0.015 * 3e-3


QUICK = replace(
    SMALL, methods=("east-west", "time-scrambling"), realisations=26, skies=1, nulls=True,
)  # fmt: skip


def text(summary):
    tables = (summary.numbers, summary.nulls, summary.covariances, summary.refusals)
    return ["\n".join(table.pformat(max_lines=-1, max_width=-1)) for table in tables]


def test_an_interrupted_study_continues_to_the_same_numbers(tmp_path):
    """Stored blocks are not done again, missing ones are; more realisations continue; another study is refused."""
    whole = run_systematics(QUICK, base=tmp_path / "whole")
    run_systematics(replace(QUICK, realisations=25), base=tmp_path / "part")
    tasks = tmp_path / "part" / "s" / "tasks"
    kept = {path: path.stat().st_mtime_ns for path in tasks.iterdir()}
    gone = next(path for path in sorted(kept) if path.name.startswith("mocks"))
    gone.unlink()
    resumed = run_systematics(QUICK, base=tmp_path / "part")
    assert text(resumed) == text(whole)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items() if path != gone)
    with pytest.raises(ConfigurationError, match="another study: lmax was 1, is now 2"):
        run_systematics(replace(QUICK, lmax=2), base=tmp_path / "part")


def test_numbers_do_not_depend_on_the_number_of_processes(tmp_path):
    one, two = (run_systematics(QUICK, base=tmp_path / str(n), workers=n) for n in (1, 2))
    assert text(one) == text(two)


def outcome(covariance, claimed, *, mocks=400, seed=1):
    rng = np.random.default_rng(seed)
    found = rng.multivariate_normal([0.1, 0.2], covariance, size=mocks)
    return MethodOutcome(
        truth=np.array([[-0.1, 0.2]]), predicted=np.array([[0.1, 0.2]]), noise_free=np.array([[0.1, 0.2]]),
        breathing=np.zeros((1, 2)), sky=np.zeros(mocks, dtype=np.int64), found=found,
        covariance=np.broadcast_to(claimed, (mocks, 2, 2)),
    )  # fmt: skip


def test_the_covariance_test_is_calibrated_and_sees_a_wrong_correlation():
    """Probabilities of 200 right claims are uniform (Kolmogorov-Smirnov, false alarm 1e-3); a correlation of 0.42 that
    is claimed to be none is seen in 400 mocks, and so is errors claimed 16 % too small."""
    right = np.array([[1.0, 0.6], [0.6, 2.0]])
    p = [covariance_test(outcome(right, right, seed=seed))["probability"] for seed in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert covariance_test(outcome(right, np.diag(np.diag(right))))["probability"] < 1e-5
    assert covariance_test(outcome(right, 0.7 * right))["probability"] < 1e-3


def test_the_summary_says_what_was_put_in():
    """Means and scatters of 4000 draws to four standard errors: false alarm 3e-4 in all."""
    covariance = np.diag([1e-6, 4e-6])
    points = [PointOutcome("s", "v", {"m": outcome(covariance, covariance, mocks=4000)})]
    rows = {row["number"]: row for row in summarise(points).numbers}
    for name, sigma in (("delta_0h", 1e-3), ("delta_6h", 2e-3)):
        assert abs(rows[name]["bias"]) < 4 * sigma / np.sqrt(4000)
        assert rows[name]["scatter"] == pytest.approx(sigma, rel=4 / np.sqrt(2 * 4000))
        assert rows[name]["coverage_68"] == pytest.approx(0.68, abs=4 * np.sqrt(0.68 * 0.32 / 4000))
    # Along (1, 2)/sqrt(5) the variance is (1 + 16)/5, across it (4 + 4)/5, in units of 1e-6.
    assert rows["A_1"]["scatter"] == pytest.approx(np.sqrt(17 / 5) * 1e-3, rel=4 / np.sqrt(2 * 4000))
    assert rows["alpha_1"]["scatter"] == pytest.approx(
        np.degrees(np.sqrt(8 / 5) * 1e-3 / np.sqrt(0.05)), rel=4 / np.sqrt(2 * 4000)
    )
    assert rows["alpha_1"]["predicted"] == pytest.approx(np.degrees(np.arctan2(2, 1)))
