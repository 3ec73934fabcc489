"""`obsfit fit` with ``method = "importance"``: files, numbers, refusals; figures and tables of weighted samples."""

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from scipy import stats

import obsfit.cli
from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError
from obsfit.infer import WeightedSamples
from obsfit.infer.configured import FitConfiguration, configured_posterior, run_configured
from obsfit.infer.information import information_gain
from obsfit.plot import fits
from obsfit.study.coverage import CoverageConfiguration, run_coverage

FIT = """
schema = 1
seed = 4
output = "fit"
method = "importance"
[data]
spectrum = "hawc-icecube-2019"
ell_min = 2
ell_max = 12
[model]
names = ["relative-diffusion"]
[sampler]
target = 30
[importance]
effective_size = 300
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "fit.toml"
    path.write_text(FIT, encoding="utf-8")
    return path


def fit(*words):
    """Exit status of the command."""
    with pytest.raises(SystemExit) as stopped:
        obsfit.cli.main(["fit", *map(str, words)])
    return stopped.value.code


def test_the_command_end_to_end(path, capsys):
    folder = path.parent / "fit"
    folder.mkdir()
    for name in ("trace.png", "trace.svg"):
        (folder / name).write_text("of an older chain")
    assert fit(path, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert told["method"] == "importance"
    assert told["run"]["effective_size"] >= 300
    names = ["corner.png", "corner.svg", "fit.h5", "predictive.ecsv", "predictive.png", "predictive.svg",
             "summary.ecsv"]  # fmt: skip
    assert sorted(file.name for file in folder.iterdir()) == names
    stored = WeightedSamples.load(folder / "fit.h5")
    assert stored.provenance["seed"] == 4
    assert stored.provenance["configuration"]["importance"]["effective_size"] == 300
    for row, found, written in zip(
        told["parameters"], stored.summary(), Table.read(folder / "summary.ecsv"), strict=True
    ):
        assert row["name"] == found["name"] == written["name"]
        assert row["median"] == pytest.approx(found["median"], rel=1e-12)
        assert row["ess"] == pytest.approx(written["ess"], rel=1e-12)
    # It is the same whoever asks, and a second time it is refused, with the way out.
    stored_bytes = (folder / "fit.h5").read_bytes()
    assert fit(path) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert fit(path, "--resume") == 2
    assert "run it again without --resume" in capsys.readouterr().err
    assert (folder / "fit.h5").read_bytes() == stored_bytes
    assert fit(path, "--overwrite") == 0
    assert f"log evidence {stored.log_evidence:.2f}" in capsys.readouterr().out
    np.testing.assert_array_equal(WeightedSamples.load(folder / "fit.h5").theta, stored.theta)


def test_both_methods_give_the_same_posterior(path):
    """Two configurations that differ in one word. Ranks at five levels within 4.5 errors of 300 and 900 samples."""
    settings = load_configuration(path, FitConfiguration)
    kept = {"base": path.parent, "resume": False, "overwrite": True, "progress": False}
    _, quick = run_configured(settings, **kept)
    _, chain = run_configured(replace(settings, method="emcee"), **kept)
    samples = chain.samples()
    for level in (0.025, 0.16, 0.5, 0.84, 0.975):
        rank = (samples < quick.quantile(level)).mean(0)
        assert np.abs(rank - level).max() < 4.5 * np.sqrt(level * (1 - level) * (1 / 300 + 1 / 900))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"importance"', '"emce"', "method = 'emce'"),
        (
            "effective_size",
            "effective_siz",
            "unknown key 'importance.effective_siz'; did you mean 'effective_size'",
        ),
        ("= 300", "= 0", "importance.effective_size = 0"),
    ],
)
def test_mistakes_in_the_configuration_are_named(path, capsys, old, new, said):
    path.write_text(FIT.replace(old, new), encoding="utf-8")
    assert fit(path) == 2
    assert said in capsys.readouterr().err


def test_the_table_of_predictions_is_that_of_equal_samples_drawn_by_weight(path):
    """Where one sample has all weight, it predicts; ranks in 2000 direct draws within 4.5 errors of two such sets."""
    posterior = configured_posterior(load_configuration(path, FitConfiguration), base=path.parent)
    theta = np.array([p.prior.mean() for p in posterior.parameters]) + np.array([[0.0], [1.0]]) * [1.0, 0.0, 0.0]
    fit = WeightedSamples(
        posterior.names, posterior.names, ("",) * 3, theta, np.array([1.0, 0.0]), np.zeros(2), theta[0], 1.0, 0.0, 0.0,
        2, {},
    )  # fmt: skip
    table = fits.predictive_table(posterior, fit, rng=np.random.default_rng(1), size=2000)
    direct = posterior.draw(np.repeat(theta[:1], 2000, axis=0), rng=np.random.default_rng(2))[0]
    for name, level in (("p2.5", 0.025), ("p16", 0.16), ("median", 0.5), ("p84", 0.84), ("p97.5", 0.975)):
        rank = (direct < np.asarray(table[name])).mean(0)
        assert np.abs(rank - level).max() < 4.5 * np.sqrt(2 * level * (1 - level) / 2000)


@pytest.mark.parametrize("n", [400, 20_000])
def test_the_information_of_weighted_samples(path, n):
    """Density 2q of the prior's quantile q: 1 - 1 / (2 ln 2) bits, whatever the number of samples."""
    posterior = configured_posterior(load_configuration(path, FitConfiguration), base=path.parent)
    rng, gains = np.random.default_rng(1), []
    for _ in range(200 if n < 1000 else 5):
        quantile = rng.uniform(size=(n, 3))
        theta = np.column_stack([p.prior.ppf(q) for p, q in zip(posterior.parameters, quantile.T, strict=True)])
        weight = quantile[:, 0] / quantile[:, 0].sum()
        gains.append(information_gain(theta[:, 0], posterior.parameters[0].prior, weight=weight)[0])
    # 0.02: bins within which the density is not even, and the next order of the bias.
    assert np.mean(gains) == pytest.approx(1.0 - 0.5 / np.log(2.0), abs=0.02)


def test_the_corner_plot_shows_where_the_weights_are():
    """A proposal with tails as of one degree of freedom: axes span what the weights leave of it, 5 sd at most."""
    rng = np.random.default_rng(2)
    theta = rng.standard_t(1.0, size=(4000, 2))
    density = stats.norm.pdf(theta).prod(1) / stats.t(1.0).pdf(theta).prod(1)
    names = ("a", "b")
    fit = WeightedSamples(
        names,
        names,
        ("", ""),
        theta,
        density / density.sum(),
        np.zeros(4000),
        np.zeros(2),
        1.0,
        0.0,
        0.0,
        4000,
        {},
    )
    figure = fits.corner(fit)
    low, high = figure.axes[0].get_xlim()
    assert -5 < low < -2
    assert 2 < high < 5


def test_a_coverage_study_repeats_the_fit_by_its_own_method(path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("emcee was not asked for")

    monkeypatch.setattr("obsfit.study.coverage.run_emcee", refuse)
    study = CoverageConfiguration(seed=1, mocks=2, fit=load_configuration(path, FitConfiguration))
    table = run_coverage(study, base=path.parent)
    assert table.meta["mocks"] == 2
    assert list(table["name"]) == ["log10_c1", "exponent", "log10_noise"]


def test_resuming_is_refused_before_the_data_are_read(path):
    settings = replace(load_configuration(path, FitConfiguration), data=())
    with pytest.raises(ConfigurationError, match="nothing to resume"):
        run_configured(settings, base=path.parent, resume=True, overwrite=False, progress=False)
