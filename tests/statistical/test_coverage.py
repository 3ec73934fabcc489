"""Coverage of fits over mock universes made on maps: small versions of ``analyses/calibration``, and resumption.

With a calibrated fit the number of truths inside a 68 % interval is binomial. The bounds below are its two-sided
quantiles for a false-alarm probability of 2e-4 for each number tested.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError
from obsfit.infer.emcee_runner import SamplerSettings
from obsfit.study.coverage import CoverageConfiguration, coverage_table, is_calibrated, run_coverage

CONFIGURATIONS = Path(__file__).parents[2] / "analyses" / "calibration"


def small(name, mocks, **changes):
    study = load_configuration(CONFIGURATIONS / f"{name}.toml", CoverageConfiguration)
    sampler = SamplerSettings(target=20.0, block=150)
    return replace(study, mocks=mocks, output="study", fit=replace(study.fit, sampler=sampler), **changes)


def assert_binomial(table, mocks):
    assert table.meta["not_converged"] == 0
    for level in (0.68, 0.95):
        low, high = stats.binom(mocks, level).ppf([1e-4, 1 - 1e-4])
        inside = np.round(np.asarray(table[f"coverage_{round(100 * level)}"]) * mocks)
        assert np.all((inside >= low) & (inside <= high)), table


@pytest.mark.parametrize(("name", "mocks"), [("relative_diffusion", 20), ("cascade", 20), ("dipoles", 10)])
def test_the_fits_are_calibrated(name, mocks, tmp_path):
    """3, 3 and 8 parameters at 2 levels: false alarm below 2e-4 x 28 = 6e-3 in all (seeded)."""
    table = run_coverage(small(name, mocks), base=tmp_path)
    assert_binomial(table, mocks)


def test_the_verdict_catches_overconfidence():
    """Truths drawn from N(0, 1), intervals that claim 0.6 of that width: 200 mocks are enough to say no."""
    rng = np.random.default_rng(1)
    honest = stats.norm.cdf(rng.normal(size=(200, 1)))
    assert is_calibrated(coverage_table(("a",), honest))
    assert not is_calibrated(coverage_table(("a",), stats.norm.cdf(rng.normal(size=(200, 1)) / 0.6)))


def test_an_interrupted_study_continues_to_the_same_numbers(tmp_path):
    """The second run does only what is missing, also what was deleted; another study is refused."""
    study = small("relative_diffusion", 3)
    whole = run_coverage(study, base=tmp_path / "whole")
    run_coverage(replace(study, mocks=2), base=tmp_path / "part")
    tasks = tmp_path / "part" / "study" / "tasks"
    first, second = sorted(tasks.iterdir())
    second.unlink()
    before = first.stat().st_mtime_ns
    resumed = run_coverage(study, base=tmp_path / "part")
    assert resumed.pformat() == whole.pformat()
    assert first.stat().st_mtime_ns == before
    assert [json.loads(path.read_text())["mock"] for path in sorted(tasks.iterdir())] == [0, 1, 2]
    with pytest.raises(ConfigurationError, match="another study: seed was 20261120, is now 1"):
        run_coverage(replace(study, seed=1), base=tmp_path / "part")


def test_numbers_do_not_depend_on_the_number_of_processes(tmp_path):
    study = small("relative_diffusion", 2)
    one, two = (run_coverage(study, base=tmp_path / str(n), workers=n) for n in (1, 2))
    assert one.pformat() == two.pformat()
