"""Evidence: closed forms, two methods on one problem, other priors by reweighting, the command."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import obsfit
import obsfit.cli
from obsfit import FitResult, Likelihood, Posterior, WeightedSamples
from obsfit.errors import ConfigurationError, ConvergenceError, ObsfitError
from obsfit.infer import evidence, run_importance
from obsfit.infer.evidence import NestedSettings, nested_evidence, prior_sensitivity
from obsfit.infer.power_term import PowerTerm
from obsfit.parameters import Parameter


class Normal:
    """Measurements x of n parameters with error sd each, priors as given: standard normal where none are."""

    def __init__(self, n, sd, x=0.3, priors=None):
        self.x, self.sd = x, sd
        laws = priors or [stats.norm(0.0, 1.0)] * n
        self.parameters = tuple(Parameter(f"p{i}", law) for i, law in enumerate(laws))

    def log_likelihood(self, theta):
        return np.sum(-0.5 * ((theta - self.x) / self.sd) ** 2 - np.log(self.sd * np.sqrt(2 * np.pi)), axis=1)

    def log_prob(self, theta):
        prior = sum(p.prior.logpdf(column) for p, column in zip(self.parameters, theta.T, strict=True))
        return np.where(np.isfinite(prior), self.log_likelihood(theta) + prior, -np.inf)

    def exact(self, prior_sd=1.0):
        """Log evidence under N(0, prior_sd): the measurement is N(0, root of the sum of squares)."""
        return len(self.parameters) * float(stats.norm(0.0, np.hypot(prior_sd, self.sd)).logpdf(self.x))


@pytest.mark.parametrize(("n", "sd"), [(1, 0.02), (3, 0.2)])
def test_a_normal_problem_has_its_evidence_and_its_posterior(n, sd):
    """4 errors of the evidence, and 5 of means: false alarm 1e-4."""
    target = Normal(n, sd)
    found = nested_evidence(target, rng=np.random.default_rng(1), live=100)
    assert 0.05 < found.error < 0.4
    assert abs(found.log_evidence - target.exact()) < 4.0 * found.error
    samples, width = found.samples, sd / np.hypot(1.0, sd)
    centre = 0.3 / (1.0 + sd**2)
    assert np.all(np.abs(samples.mean() - centre) < 5.0 * width / np.sqrt(samples.effective_size))
    # All parameters are alike and independent: the information is their number times that of one.
    bits = n * (0.5 * (centre**2 + width**2 - 1.0) - np.log(width)) / np.log(2.0)
    assert found.information == pytest.approx(bits, abs=4.0 * found.error / np.log(2.0))
    table = samples.summary()
    assert np.all(np.abs(table["bits"] - bits / n) < 5.0 * table["bits_error"])
    assert samples.log_prob == pytest.approx(target.log_prob(samples.theta))


def test_two_maxima_are_both_found():
    """Likelihood: half of N(-2, 0.1) and half of N(+2, 0.1) in each of two parameters, uniform -5..5; Z = 1/100."""

    class Two(Normal):
        def log_likelihood(self, theta):
            parts = [-0.5 * np.sum(((theta - centre) / 0.1) ** 2, axis=1) for centre in (-2.0, 2.0)]
            return np.logaddexp(*parts) - np.log(2.0) - 2.0 * np.log(0.1 * np.sqrt(2.0 * np.pi))

        def log_prob(self, theta):
            return self.log_likelihood(theta) - 2.0 * np.log(10.0)

    found = nested_evidence(
        Two(2, 0.1, priors=[stats.uniform(-5.0, 10.0)] * 2), rng=np.random.default_rng(2), live=150
    )
    assert abs(found.log_evidence + np.log(100.0)) < 4.0 * found.error
    # With 75 points in each maximum their shares err by 0.14 or less: 3.5 of these.
    assert 0.01 < found.samples.rank(np.zeros(2))[0] < 0.99


def test_the_same_generator_gives_the_same_numbers_and_the_global_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (nested_evidence(Normal(1, 0.2), rng=np.random.default_rng(k), live=50) for k in (1, 1, 2))
    np.testing.assert_array_equal(one.samples.theta, two.samples.theta)
    assert one.log_evidence == two.log_evidence != other.log_evidence
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def spectrum_posterior():
    spectrum = obsfit.load_spectrum("hawc-icecube-2019").select(2, 12)
    return Posterior(obsfit.load_model("relative-diffusion"), Likelihood(PowerTerm(spectrum)))


def test_a_spectrum_has_the_evidence_of_importance_sampling():
    """The 10 TeV spectrum of HAWC and IceCube: two methods within 4 of their errors, about 0.3; quantiles too."""
    posterior = spectrum_posterior()
    nested = nested_evidence(posterior, rng=np.random.default_rng(3), live=100)
    importance = run_importance(posterior, rng=np.random.default_rng(4), effective_size=1000.0)
    error = np.hypot(nested.error, importance.log_evidence_error)
    assert error < 0.35
    assert abs(nested.log_evidence - importance.log_evidence) < 4.0 * error
    for level in (0.16, 0.5, 0.84):
        rank = importance.rank(nested.samples.quantile(level))
        assert np.all(
            np.abs(rank - level) < 4.5 * np.sqrt(level * (1.0 - level) / nested.samples.effective_size * 2)
        )


def test_refusals_come_before_anything_is_evaluated(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    with pytest.raises(ConfigurationError, match=r"nested.live = 3"):
        nested_evidence(Normal(1, 0.1), rng=rng, live=3)
    with pytest.raises(ConfigurationError, match="more than live = 100"):
        NestedSettings(live=100, max_evaluations=100)
    (tmp_path / "fit.h5").write_text("there")
    with pytest.raises(ConfigurationError, match="the store exists"):
        nested_evidence(Normal(1, 0.1), rng=rng, store=tmp_path / "fit.h5")
    monkeypatch.setitem(sys.modules, "dynesty", None)
    with pytest.raises(ConfigurationError, match=r"needs the package dynesty(.|\n)*obsfit\[emulator\]"):
        nested_evidence(Normal(1, 0.1), rng=rng)


def test_dynesty_is_loaded_only_on_demand():
    code = "import sys, obsfit.infer.configured; sys.exit('dynesty' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_too_few_evaluations_and_no_likelihood_are_errors():
    with pytest.raises(ConvergenceError, match=r"after \d+ evaluations with 50 points"):
        nested_evidence(Normal(2, 0.01), rng=np.random.default_rng(1), live=50, max_evaluations=300)
    nowhere = Normal(1, 0.1)
    nowhere.log_likelihood = lambda theta: np.full(len(theta), -np.inf)
    with pytest.raises(ObsfitError, match="vanishes at 50 draws of the prior"):
        nested_evidence(nowhere, rng=np.random.default_rng(1), live=50)


def normal_samples(kind, n=4000):
    """Draws of the posterior of Normal(2, 0.5) under N(0, 1), as either kind of result."""
    target = Normal(2, 0.5)
    width = 0.5 / np.hypot(1.0, 0.5)
    theta = 0.3 / 1.25 + width * np.random.default_rng(5).normal(size=(n, 2))
    told = {"parameters": [{"name": p.name, "prior": "norm", "args": [0.0, 1.0]} for p in target.parameters]}
    names = ("p0", "p1")
    if kind is FitResult:
        chain = theta.reshape(-1, 40, 2)
        return target, FitResult(
            names, names, ("", ""), chain, np.zeros(chain.shape[:2]), 0, np.ones(2), 0.5, theta[0], told
        )
    weight = np.full(n, 1.0 / n)
    return target, WeightedSamples(
        names, names, ("", ""), theta, weight, np.zeros(n), theta[0], float(n), target.exact(), 0.0, n, told
    )


@pytest.mark.parametrize("kind", [FitResult, WeightedSamples])
def test_other_priors_have_their_evidence(kind):
    """Closed forms for both priors: changes within 4.5 of their errors, which are small."""
    target, samples = normal_samples(kind)
    other = {
        "narrower": {name: stats.norm(0.0, 0.7) for name in ("p0", "p1")},
        "wider": {name: stats.norm(0.0, 3.0) for name in ("p0", "p1")},
        "one of them": {"p0": stats.norm(0.0, 3.0)},
        "the same": {"p0": stats.norm(0.0, 1.0)},
    }
    table = prior_sensitivity(samples, other)
    truth = [target.exact(0.7) - target.exact(), target.exact(3.0) - target.exact()]
    truth += [0.5 * truth[1], 0.0]
    assert list(table["priors"]) == list(other)
    assert np.all(np.abs(table["change"] - truth) <= 4.5 * table["error"] + 1e-12)
    assert np.all(table["error"] < 0.05)
    assert np.all(table["effective_size"] > 1000)
    assert list(table["reason"]) == [""] * 4


def test_what_cannot_be_known_of_other_priors_is_not_said():
    _, samples = normal_samples(WeightedSamples)
    bounded = WeightedSamples(
        **{**samples.__dict__, "provenance": {
            "parameters": [{"name": "p0", "prior": "uniform", "args": [-5.0, 10.0]}, {"name": "p1", "prior": "mine"}]
        }}
    )  # fmt: skip
    table = prior_sensitivity(
        bounded, {"far": {"p0": stats.norm(4.0, 0.1)}, "outside": {"p0": stats.uniform(-6.0, 10.0)}}
    )
    assert np.isnan(table["change"]).all()
    assert "effective samples are left, fewer than 50" in table["reason"][0]
    assert table["reason"][1] == "0.1 of the prior of p0 lies outside that of the fit"
    for name in ("p1", "p2"):
        with pytest.raises(ConfigurationError, match=f"no prior of '{name}' is stored"):
            prior_sensitivity(bounded, {"x": {name: stats.norm()}})


FIT = """
schema = 1
seed = 4
output = "fit"
method = "nested"
[data]
spectrum = "hawc-icecube-2019"
ell_min = 2
ell_max = 6
[model]
names = ["relative-diffusion"]
[nested]
live = 60
"""


def test_the_command_gives_the_outputs_of_the_others(tmp_path, capsys):
    path = tmp_path / "fit.toml"
    path.write_text(FIT, encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        obsfit.cli.main(["fit", str(path)])
    out, err = capsys.readouterr()
    assert stopped.value.code == 0
    assert err == ""
    assert "bits" in out.splitlines()[0]
    stored = WeightedSamples.load(tmp_path / "fit" / "fit.h5")
    assert f"log evidence {stored.log_evidence:.2f}" in out
    assert stored.summary().meta["unclaimed"] in out
    assert stored.provenance["configuration"]["nested"] == {"live": 60, "max_evaluations": 500_000}
    names = ["corner.png", "corner.svg", "fit.h5", "predictive.ecsv", "predictive.png", "predictive.svg",
             "summary.ecsv"]  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "fit").iterdir()) == names
    with pytest.raises(SystemExit) as stopped:
        obsfit.cli.main(["fit", str(path), "--resume", "--json"])
    assert stopped.value.code == 2
    assert 'method = "nested" is stored only when it is finished' in capsys.readouterr().err
    assert json.loads(json.dumps(stored.provenance))["seed"] == 4


def test_settings_and_function_agree_on_their_defaults():
    assert evidence.nested_evidence.__kwdefaults__["live"] == NestedSettings().live
