"""What mocks of one study share in a process: made once, told from that of other studies, and without effect."""

from dataclasses import replace
from pathlib import Path

import pytest

from obsfit.configuration import load_configuration
from obsfit.study import coverage
from obsfit.study.coverage import CoverageConfiguration
from obsfit.study.mocks import made_once

STUDY = """
schema = 1
seed = 3
mocks = 2
[fit]
seed = 0
method = "importance"
[fit.importance]
effective_size = 60.0
[fit.data]
spectrum = "hawc-icecube-2019"
ell_min = 2
ell_max = 8
[fit.model]
names = ["relative-diffusion"]
[fit.priors.log10_c1]
distribution = "uniform"
low = -7.0
high = -5.0
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    return load_configuration(tmp_path / "study.toml", CoverageConfiguration)


def test_a_thing_is_made_once_for_each_study_and_folder(study, tmp_path):
    made = []

    def make(configuration, base):
        made.append((configuration.seed, base))
        return object()

    first = made_once(make, study, tmp_path)
    assert made_once(make, replace(study), tmp_path) is first
    other = replace(study, fit=replace(study.fit, priors={}))
    assert made_once(make, other, tmp_path) is not first
    assert made_once(make, study, Path("/")) is not first
    assert len(made) == 3


def test_a_mock_does_not_depend_on_those_before(study, tmp_path):
    """The same numbers, bit by bit, whether the posterior was made for this mock or for one before."""
    alone = coverage._one_mock(study, tmp_path, "mock", 1)
    made_once(lambda configuration, base: None, study, tmp_path)
    coverage._one_mock(study, tmp_path, "mock", 0)
    assert coverage._one_mock(study, tmp_path, "mock", 1) == alone
