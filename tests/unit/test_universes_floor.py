"""Mock universes err where the likelihood grants an error: each power by its floor, dipoles not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError
from obsfit.records import PowerSpectrum
from obsfit.study.universes import UniverseConfiguration, mock_universe

FILE = Path(__file__).parents[2] / "analyses/calibration/universes.toml"


@pytest.fixture(scope="module")
def settings():
    return load_configuration(FILE, UniverseConfiguration)


def test_powers_err_by_the_floor_of_the_likelihood(settings):
    """83 powers of one sky, with and without it: chi-square of their ratios, false alarm 0.001; dipoles the same."""
    with_it, without = (
        mock_universe(replace(settings, floor=floor), base=FILE.parent, rng=np.random.default_rng(4)).records
        for floor in (0.03, 0.0)
    )
    assert settings.floor == 0.03
    ratio = np.concatenate(
        [
            np.log(one.c_ell / other.c_ell)
            for one, other in zip(with_it, without, strict=True)
            if isinstance(one, PowerSpectrum)
        ]
    )
    assert ratio.size == 83
    assert 0.0005 < stats.chi2(83).cdf(np.sum((ratio / 0.03) ** 2)) < 0.9995
    for one, other in zip(with_it, without, strict=True):
        if not isinstance(one, PowerSpectrum):
            np.testing.assert_array_equal(one.amplitude, other.amplitude)


@pytest.mark.parametrize("floor", [-0.1, 1.0, float("nan")])
def test_a_floor_that_is_no_error_is_refused(settings, floor):
    with pytest.raises(ConfigurationError, match="floor = "):
        replace(settings, floor=floor)
