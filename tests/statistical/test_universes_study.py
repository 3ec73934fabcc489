"""Joint fits on mock universes: observations of the study against exact joint moments, and a study in small."""

from dataclasses import replace

import numpy as np
import pytest

from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError
from obsfit.parameters import draw_prior
from obsfit.study import universes
from obsfit.study.universes import ANALYSES, UniverseConfiguration, run_universes

STUDY = """
schema = 1
kind = "universes"
seed = 5
mocks = 2
output = "study"
effective_size = 50.0
dipoles = ["argo-ybj-2015-13.6TeV", "tibet-2015-15TeV"]
[fit]
seed = 0
energy_spread = true
[[fit.data]]
spectrum = "icecube-2025"
energies = ["24 TeV", "42 TeV"]
[[fit.data]]
spectrum = "hawc-icecube-2019"
ell_min = 1
ell_max = 12
[[fit.data]]
dipoles = "ahlers-mertsch-2017"
[fit.model]
names = ["relative-diffusion"]
[fit.priors]
log10_c1 = {distribution = "uniform", low = -6.5, high = -5.5}
exponent = {distribution = "uniform", low = 0.3, high = 0.4}
log10_noise = {distribution = "uniform", low = -0.3, high = 0.6}
response_width = {distribution = "none"}
amplitude_scatter = {distribution = "none"}
direction_scatter = {distribution = "none"}
log10_intrinsic_scatter = {distribution = "none"}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    return load_configuration(tmp_path / "study.toml", UniverseConfiguration)


def test_observations_have_the_joint_moments_of_the_likelihood(study, tmp_path):
    """150 universes made on pixels against the exact joint moments; the sky is common to all records.

    Means within 5 standard errors and 3 % (pixels); powers of few modes have heavy tails, so that standard deviations
    are known to 25 % and correlations to 0.4 at best. l = 1 of two energies must be correlated nearly fully.
    """
    posterior = universes._posterior(study, tmp_path)
    term = posterior.likelihood.terms[0]
    rng = np.random.default_rng(3)
    truth = draw_prior(posterior.parameters, 1, rng=rng)
    number = 150
    data = []
    for _ in range(number):
        records = universes._observed(study, posterior, term, truth, rng)
        data.append(replace(term, records=records).data)
    data = np.array(data)
    sky, nuisance = posterior.skies(truth)[0], posterior.nuisances(truth)[0]
    mean, covariance = term.moments(sky, nuisance)
    sd = np.sqrt(np.diag(covariance[0]))
    assert np.all(np.abs(data.mean(0) - mean[0]) < 5 * sd / np.sqrt(number) + 0.03 * np.abs(mean[0]))
    # Powers of few modes have heavy tails: 25 % on the standard deviation.
    np.testing.assert_allclose(data.std(0), sd, rtol=0.25)
    found = np.corrcoef(data.T)
    expected = covariance[0] / np.outer(sd, sd)
    other = np.triu_indices(len(sd), 1)
    assert np.abs(found - expected)[other].max() < 0.4
    first = np.flatnonzero(np.char.endswith(term.labels, " l=1"))
    assert expected[first[0], first[1]] > 0.8
    assert found[first[0], first[1]] > 0.7


def test_a_small_study_compares_both_analyses_and_resumes(study, tmp_path):
    table = run_universes(study, base=tmp_path)
    assert set(table["analysis"]) == {"joint", "independent"}
    assert list(table["name"][:3]) == ["log10_c1", "exponent", "log10_noise"]
    assert table.meta["mocks"] == 2
    assert np.all(table["width_68"] > 0)
    files = sorted((tmp_path / "study" / "tasks").iterdir())
    files[0].unlink()
    again = run_universes(study, base=tmp_path)
    assert again.pformat(max_width=-1) == table.pformat(max_width=-1)
    with pytest.raises(ConfigurationError, match=r"another study: seed was 5, is now 6"):
        run_universes(replace(study, seed=6), base=tmp_path)


def test_joint_intervals_cover_and_independent_ones_are_too_narrow(tmp_path):
    """16 universes seen at three energies, the full study in small; p alone.

    An honest 95 % interval misses 5 or more of 16 truths with probability 8e-4, a 68 % interval 12 or more with 1e-3.
    Three views of one sky are no three skies: taken as such, intervals shrink by 20 % and more.
    """
    text = """
    schema = 1
    seed = 3
    mocks = 16
    effective_size = 80.0
    [fit]
    seed = 0
    [[fit.data]]
    spectrum = "icecube-2025"
    energies = ["24 TeV", "42 TeV", "66.8 TeV"]
    [fit.model]
    names = ["relative-diffusion"]
    [fit.priors]
    log10_c1 = {distribution = "uniform", low = -6.5, high = -5.0}
    exponent = {distribution = "uniform", low = 0.1, high = 0.8}
    response_width = {distribution = "none"}
    """
    (tmp_path / "three.toml").write_text(text)
    table = run_universes(load_configuration(tmp_path / "three.toml", UniverseConfiguration), base=tmp_path)
    joint, independent = (table[(table["analysis"] == name) & (table["name"] == "exponent")] for name in ANALYSES)
    assert joint["coverage_95"][0] > 11.5 / 16
    assert joint["coverage_68"][0] > 4.5 / 16
    assert independent["width_68"][0] < 0.8 * joint["width_68"][0]


def test_an_unknown_dipole_is_refused_by_name(study, tmp_path):
    with pytest.raises(ConfigurationError, match="'nowhere-1TeV' is not among the measurements"):
        run_universes(replace(study, dipoles=("tibet-2015-15TeV", "nowhere-1TeV")), base=tmp_path)


def test_a_fit_of_one_record_is_refused(study, tmp_path):
    single = replace(study, dipoles=(), fit=replace(study.fit, data=study.fit.data[1:2]))
    with pytest.raises(ConfigurationError, match="the study needs a joint fit"):
        run_universes(single, base=tmp_path)
