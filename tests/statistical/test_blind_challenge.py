"""Blind challenges: files that fits read, a truth that is sealed, and participants who are found out.

Statistical tests are seeded and state how often they would fail by chance.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy import stats

from obsfit.cli import main
from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.execute import child_generator
from obsfit.infer.configured import FitConfiguration, configured_posterior, run_configured
from obsfit.study import calibration
from obsfit.study.blind import BlindConfiguration, make_challenge, open_challenge, rank_in
from obsfit.study.calibration import load_study, verdict_of
from obsfit.study.universes import mock_universe

STUDY = """
schema = 1
seed = 4
mocks = 3
[fit]
seed = 0
method = "importance"
[fit.importance]
effective_size = 100.0
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
NAMES = ("log10_c1", "exponent")
CHALLENGE = BlindConfiguration("study.toml", 12, seed=3)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def made(folder):
    return make_challenge(CHALLENGE, base=folder)


def truths(challenge):
    return json.loads((challenge.parents[1] / "truth.json").read_text())["truths"]


def answer_all(challenge, *, shift=0.0, size=1.0, seed=1, samples=300):
    """Answers whose true posterior is normal about a noisy estimate; a participant may shift it, or err by its size."""
    rng = np.random.default_rng(seed)
    for universe, truth in truths(challenge).items():
        theta = {}
        for name in NAMES:
            estimate = truth[name] + 0.1 * rng.normal()
            theta[name] = estimate + 0.1 * shift + 0.1 * size * rng.normal(size=samples)
        (challenge.parent / universe / "answer").mkdir(exist_ok=True)
        Table(theta).write(challenge.parent / universe / "answer" / "samples.ecsv", overwrite=True)


def test_honest_answers_pass_and_shifted_ones_are_found_out(folder):
    """40 data sets, shifted by one standard deviation: rejected in 0.996 (next test); honest: in 0.01."""
    challenge = make_challenge(replace(CHALLENGE, universes=40), base=folder)
    answer_all(challenge)
    table = open_challenge(challenge, folder / "truth.json")
    assert table["parameter"].tolist() == list(NAMES)
    assert verdict_of(table, false_alarm=0.01)["passed"]
    for universe in truths(challenge):
        answer = challenge.parent / universe / "answer" / "samples.ecsv"
        samples = Table.read(answer)
        samples["exponent"] += 0.1
        samples.write(answer, overwrite=True)
    (challenge.parent / "opened.json").unlink()
    verdict = verdict_of(open_challenge(challenge, folder / "truth.json"), false_alarm=0.01)
    assert not verdict["passed"]
    assert verdict["studies"][0]["parameter"] == "exponent"


@pytest.mark.parametrize(
    ("shift", "size", "universes", "power"),
    [(1.0, 1.0, 40, 0.996), (1.0, 1.0, 20, 0.86), (0.5, 1.0, 40, 0.41), (0.0, 0.5, 40, 0.99)],
)
def test_the_stated_power(shift, size, universes, power):
    """Powers of docs/calibration.md: one of three parameters shifted by so many of its standard deviations, or its
    posterior too narrow. 400 trials: 4 standard deviations are at most 0.1."""
    rng = np.random.default_rng(universes)
    threshold = 0.01 / (3 * len(calibration.TESTS))
    found = []
    for _ in range(400):
        score = (rng.normal(size=universes) - shift) / size
        tests = calibration.rank_tests(stats.norm.cdf(score))
        found.append(min(tests.values()) < threshold)
    assert np.mean(found) == pytest.approx(power, abs=4 * np.sqrt((power * (1 - power)) / 400))


def test_the_files_are_fitted_as_they_lie_there(made, folder):
    """``obsfit fit`` of a folder: its store is an answer, and the truth lies in its posterior as the ranks say."""
    path = made.parent / "universe-000" / "fit.toml"
    settings = load_configuration(path, FitConfiguration)
    answer_all(made)
    (path.parent / "answer" / "samples.ecsv").unlink()
    _, fit = run_configured(settings, base=path.parent, resume=False, overwrite=False, progress=False)
    table = open_challenge(made, folder / "truth.json")
    truth = np.array([truths(made)["universe-000"][name] for name in NAMES])
    np.testing.assert_allclose([ranks[0] for ranks in table["ranks"]], fit.rank(truth), atol=2e-6)
    assert "Mock data of a blind challenge" in path.read_text()


def test_what_is_handed_out_is_what_was_made(folder):
    """A joint data set: the likelihood of the files is that of the records in memory, at the truth, to 1e-9."""
    text = STUDY.replace("[fit.data]", "[[fit.data]]").replace("mocks = 3", 'kind = "universes"\nmocks = 3')
    text = text.replace("[fit.model]", '[[fit.data]]\ndipoles = "ahlers-mertsch-2017"\n[fit.model]')
    none = "".join(
        f'{name} = {{distribution = "none"}}\n'
        for name in ("response_width", "amplitude_scatter", "direction_scatter", "log10_intrinsic_scatter")
    )
    text = text.replace("seed = 4", 'seed = 4\ndipoles = ["argo-ybj-2015-13.6TeV", "tibet-2015-15TeV"]') + none
    (folder / "study.toml").write_text(text)
    challenge = make_challenge(replace(CHALLENGE, universes=10), base=folder)
    _, settings = load_study(folder / "study.toml")
    mock = mock_universe(settings, base=folder, rng=child_generator(3, "universe-004"))
    posterior = configured_posterior(settings.fit, base=folder)
    memory = posterior.likelihood.terms[0].observing(*mock.records) if len(mock.records) == 2 else None
    path = challenge.parent / "universe-004" / "fit.toml"
    read = load_configuration(path, FitConfiguration)
    assert read.method == "importance"
    (term,) = configured_posterior(read, base=path.parent).likelihood.terms
    np.testing.assert_allclose(term.data, replace(term, records=mock.records).data, rtol=1e-9)
    assert memory is not None
    assert term.labels == replace(memory, records=mock.records).labels
    assert truths(challenge)["universe-004"] == dict(zip(mock.names, mock.truth.tolist(), strict=True))


def test_nothing_is_opened_before_all_have_answered(made, folder):
    answer_all(made)
    (made.parent / "universe-007" / "answer" / "samples.ecsv").unlink()
    # The truth is not even looked at: it may be far away.
    with pytest.raises(ConfigurationError, match="1 of 12 data sets have no answer: universe-007"):
        open_challenge(made, folder / "nowhere.json")
    assert not (made.parent / "opened.json").exists()


def test_a_truth_that_was_changed_is_not_opened(made, folder):
    answer_all(made)
    path = folder / "truth.json"
    sealed = json.loads(path.read_text())
    sealed["truths"]["universe-000"]["exponent"] += 1e-12
    path.write_text(json.dumps(sealed))
    with pytest.raises(ConfigurationError, match="this is not the truth that was sealed"):
        open_challenge(made, path)


def test_a_data_set_that_was_changed_is_named(made, folder):
    answer_all(made)
    path = made.parent / "universe-002" / "spectrum-0.ecsv"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ConfigurationError, match=r"universe-002/spectrum-0.ecsv: this is not the file"):
        open_challenge(made, folder / "truth.json")


def test_answers_cannot_be_mended_after_the_opening(made, folder):
    answer_all(made)
    first = open_challenge(made, folder / "truth.json")
    again = open_challenge(made, folder / "truth.json")
    assert first.pformat() == again.pformat()
    answer_all(made, seed=2)
    with pytest.raises(ConfigurationError, match="the answer to universe-000 was changed after"):
        open_challenge(made, folder / "truth.json")


def test_samples_weights_and_quantiles_tell_the_same_rank(made, folder):
    """One posterior in three forms; 300 samples know a rank to 3 %, 19 quantiles of them to 2 % more."""
    answer_all(made)
    first = open_challenge(made, folder / "truth.json")
    level = np.linspace(0.05, 0.95, 19)
    for universe in truths(made):
        answer = made.parent / universe / "answer"
        samples = Table.read(answer / "samples.ecsv")
        (answer / "samples.ecsv").unlink()
        quantiles = {name: np.quantile(samples[name], level) for name in NAMES}
        Table({"level": level, **quantiles}).write(answer / "quantiles.ecsv")
    (made.parent / "opened.json").unlink()
    second = open_challenge(made, folder / "truth.json")
    for one, other in zip(first["ranks"], second["ranks"], strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)
    for universe in truths(made):
        answer = made.parent / universe / "answer"
        (answer / "quantiles.ecsv").unlink()
        values = np.linspace(-10.0, 10.0, 8001)
        columns = {"log10_c1": values, "exponent": values[::-1]}
        truth = truths(made)[universe]["log10_c1"]
        Table({**columns, "weight": stats.norm.pdf(values, truth - 0.1, 0.1)}).write(answer / "samples.ecsv")
    (made.parent / "opened.json").unlink()
    third = open_challenge(made, folder / "truth.json")
    # One standard deviation above the mean; the grid is 1/40 of it.
    np.testing.assert_allclose(third["ranks"][0], stats.norm.cdf(1.0), atol=0.005)


def test_ranks_outside_of_quantiles_are_zero_and_one():
    values, below = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.6, 1.0])
    assert [rank_in(values, below, truth) for truth in (0.9, 1.5, 2.5, 3.1)] == [0.0, 0.3, 0.8, 1.0]


@pytest.mark.parametrize(
    ("name", "columns", "problem"),
    [
        ("samples", {"log10_c1": [1.0, 2.0]}, "has no parameter 'exponent'"),
        ("samples", {"log10_c1": [1.0, np.nan], "exponent": [1.0, 2.0]}, "numbers that are not finite"),
        ("samples", {"log10_c1": [1.0], "exponent": [1.0], "weight": [-1.0]}, "weights that are none"),
        ("quantiles", {"log10_c1": [1.0, 2.0], "exponent": [1.0, 2.0]}, "has no column level"),
        ("quantiles", {"level": [0.1, 0.9], "log10_c1": [1.0, 2.0], "exponent": [1.0, 2.0]}, "at least five"),
        (
            "quantiles",
            {"level": [0.1, 0.2, 0.5, 0.8, 0.9], "log10_c1": [1.0, 2.0, 3.0, 4.0, 5.0], "exponent": [1.0] * 5},
            "quantiles do not increase",
        ),
    ],
)
def test_answers_that_are_none_are_refused(made, folder, name, columns, problem):
    answer_all(made)
    answer = made.parent / "universe-003" / "answer"
    (answer / "samples.ecsv").unlink()
    Table(columns).write(answer / f"{name}.ecsv")
    with pytest.raises(DataFormatError, match=problem):
        open_challenge(made, folder / "truth.json")
    assert not (made.parent / "opened.json").exists()


def test_a_challenge_is_made_once_and_keeps_its_truth_apart(made, folder):
    with pytest.raises(ConfigurationError, match="exists already"):
        make_challenge(CHALLENGE, base=folder)
    inside = replace(CHALLENGE, output="second", truth="second/truth.json")
    with pytest.raises(ConfigurationError, match="lies in the folder that is handed out"):
        make_challenge(inside, base=folder)
    with pytest.raises(ConfigurationError, match="'nu' is none of the fit"):
        make_challenge(replace(CHALLENGE, output="third", truth="t.json", parameters=("nu",)), base=folder)
    with pytest.raises(ConfigurationError, match="universes = 9"):
        replace(CHALLENGE, universes=9)


def test_the_shipped_challenge_asks_for_parameters_of_its_study():
    base = Path(__file__).parents[2] / "analyses" / "calibration"
    shipped = load_configuration(base / "blind.toml", BlindConfiguration)
    _, settings = load_study(base / shipped.study)
    names = configured_posterior(settings.fit, base=base).names
    assert set(shipped.parameters) <= set(names)
    assert shipped.seed is None


def test_without_a_seed_two_challenges_differ_and_no_seed_is_handed_out(folder):
    secret = replace(CHALLENGE, seed=None, universes=10)
    first = make_challenge(secret, base=folder)
    make_challenge(replace(secret, output="other", truth="other.json"), base=folder)
    one, other = (json.loads((folder / name).read_text()) for name in ("truth.json", "other.json"))
    assert one["truths"] != other["truths"]
    assert one["seed"] != other["seed"]
    for path in first.parent.rglob("*.*"):
        assert str(one["seed"]) not in path.read_text()


def test_the_command_makes_and_opens(folder, capsys):
    """Exit code 4 and a verdict in JSON for a participant who is off by three standard deviations."""
    text = 'schema = 1\nkind = "blind"\nstudy = "study.toml"\nuniverses = 12\nseed = 3\n'
    (folder / "blind.toml").write_text(text)

    def study(*words):
        with pytest.raises(SystemExit) as end:
            main(["study", str(folder / "blind.toml"), *words])
        return end.value.code, capsys.readouterr()

    assert study("--step", "make")[0] == 0
    answer_all(folder / "challenge" / "challenge.json", shift=3.0)
    code, printed = study("--step", "open", "--json")
    assert code == 4
    assert json.loads(printed.out)["passed"] is False
    assert json.loads((folder / "challenge" / "verdict.json").read_text())["truth_sha256"]
    assert (folder / "challenge" / "calibration.ecsv").exists()
    code, printed = study()
    assert code == 2
    assert "make or open" in printed.err
