"""Posteriors of emulators, with a density written by hand: powers that are log-normal, with a closed-form posterior."""

import json

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from scipy import stats

import obsfit
import obsfit.cli
from obsfit.emulate import shipped
from obsfit.emulate.emulator import Emulator, write_emulator
from obsfit.emulate.folding import FoldedData
from obsfit.emulate.surrogate_density import Surrogate
from obsfit.errors import ConfigurationError
from obsfit.infer import SamplerSettings, run_emcee, run_importance
from obsfit.infer.emulated import EmulatedPosterior, predictive_check, predictive_p
from obsfit.infer.result import FitResult
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.parameters import Parameter

TABLE = obsfit.load_dipoles("ahlers-mertsch-2017")
ROWS = TABLE.select([TABLE.measurement.index(key) for key in ("icecube-2016-24TeV", "tibet-2015-15TeV")])
CAP = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 3)
FAR = obsfit.load_spectrum("icecube-2025", energy=42 * u.TeV).select(2, 3)

SLOPE = np.array([0.9, 0.4, -0.3, 0.7, 0.1])
SD = np.array([0.8, 0.6, 0.5, 0.7, 0.4])
LEVEL = np.array([-2.3, -2.7, -3.0, -2.0, -3.2])
CORRELATION = 0.5 * np.eye(5) + 0.5 * 0.6 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))


def by_hand(folded, slope, level, sd, correlation):
    """A surrogate of one replicate: values normal about level + slope * tilt, whatever the other parameters."""
    n, learnt = len(folded.labels), folded.learnt
    scores = np.linspace(-2.0, 2.0, 5)
    mean, log_scale = np.zeros((2, 1, 2, n))
    mean[0, 0], mean[0, 1], log_scale[0, 0] = level, slope, np.log(sd)
    exponents = np.zeros((2, len(learnt)), dtype=np.int64)
    exponents[1, learnt.index("tilt")] = 1
    return Surrogate(
        names=learnt, labels=folded.value_labels(), features=dict.fromkeys(learnt, ("identity",)),
        domain=np.array([[-6.0 if name == "tilt" else -8.0, 6.0 if name == "tilt" else 2.0] for name in learnt]).T,
        centre=np.zeros(len(learnt)), spread=np.ones(len(learnt)), exponents=exponents, mean=mean,
        log_scale=log_scale, knots=np.tile(scores, (1, n, 1)), scores=scores, slopes=np.ones((1, n, 5)),
        tails=np.ones((1, n, 2)), correlation=np.asarray(correlation)[None, None],
    )  # fmt: skip


TILT = Parameter("tilt", stats.norm(0.0, 1.0), "", "slope of the logarithms of the powers")
AMPLITUDE = Parameter("log10_amplitude", stats.norm(-3.0, 0.3))


@pytest.fixture(scope="module")
def powers():
    """Five powers of two records."""
    folded = FoldedData((CAP, FAR), ("tilt", "log10_amplitude"))
    surrogate = by_hand(folded, SLOPE, LEVEL, SD, CORRELATION)
    return Emulator("by-hand", (TILT, AMPLITUDE), folded, surrogate, {"seed": 1})


@pytest.fixture(scope="module")
def mixed():
    """Three powers and two dipoles, with an amplitude and a right ascension."""
    names = ("tilt", "log10_amplitude", "gradient_right_ascension")
    folded = FoldedData((CAP, ROWS), names)
    turned = Parameter("gradient_right_ascension", stats.uniform(0.0, 2.0 * np.pi), "rad")
    n = 7
    correlation = 0.7 * np.eye(n) + 0.3
    surrogate = by_hand(
        folded,
        np.linspace(-0.5, 0.5, n),
        [-2.0, -2.5, -3.0, 0.8, 0.0, 0.7, 0.1],
        np.full(n, 0.3),
        correlation,
    )
    return Emulator("by-hand", (TILT, AMPLITUDE, turned), folded, surrogate, {"seed": 1})


def joint(columns):
    """Mean and covariance of (tilt, log10_amplitude, ln powers in the columns): all of it is normal."""
    gradient = np.stack([SLOPE, np.full(5, 2.0 * np.log(10.0))], axis=1)[columns]
    prior = np.diag([1.0, 0.3**2])
    noise = (np.outer(SD, SD) * CORRELATION)[np.ix_(columns, columns)]
    mean = np.concatenate([[0.0, -3.0], LEVEL[columns] - 6.0 * np.log(10.0)])
    cross = prior @ gradient.T
    return mean, np.block([[prior, cross], [cross.T, gradient @ cross + noise]])


def exact(log_power, columns):
    """Posterior mean and covariance, and log evidence of powers."""
    mean, covariance = joint(columns)
    gain = np.linalg.solve(covariance[2:, 2:], covariance[2:, :2]).T
    evidence = stats.multivariate_normal(mean[2:], covariance[2:, 2:]).logpdf(log_power[columns])
    return (
        mean[:2] + gain @ (log_power[columns] - mean[2:]), covariance[:2, :2] - gain @ covariance[2:, :2],
        evidence - log_power[columns].sum(),
    )  # fmt: skip


@pytest.mark.parametrize("leave_out", [(), (FAR.measurement,), ("icecube-2025-24TeV l=2",)])
def test_importance_sampling_finds_the_closed_form(powers, leave_out):
    """2000 effective samples: means within 4.5 errors, evidence within 4.5 of its errors."""
    posterior = EmulatedPosterior(powers, leave_out=leave_out)
    columns = [i for i, label in enumerate(powers.labels) if label in posterior.labels]
    assert len(columns) == {0: 5, 1: 3 if FAR.measurement in leave_out else 4}[len(leave_out)]
    mean, covariance, evidence = exact(np.log(powers.data), columns)
    found = run_importance(posterior, rng=np.random.default_rng(1), effective_size=2000.0)
    assert np.all(np.abs(found.mean() - mean) < 4.5 * np.sqrt(np.diag(covariance) / 2000))
    np.testing.assert_allclose(found.covariance(), covariance, atol=0.12 * np.sqrt(np.diag(covariance)).max() ** 2)
    assert abs(found.log_evidence - evidence) < 4.5 * found.log_evidence_error + 1e-9
    table = found.summary()
    width = np.sqrt(np.diag(covariance)) / [1.0, 0.3]
    shift = (mean - [0.0, -3.0]) / [1.0, 0.3]
    bits = (0.5 * (shift**2 + width**2 - 1.0) - np.log(width)) / np.log(2.0)
    assert np.all(np.abs(table["bits"] - bits) < 5.0 * table["bits_error"])


def test_density_is_that_of_the_emulator_with_dipoles(mixed):
    theta = np.array([[0.3, -3.2, 0.4], [-0.5, -2.9, 5.0], [0.0, -3.0, 7.0], [8.0, -3.0, 1.0]])
    mock = mixed.draw(theta[:1], rng=np.random.default_rng(2))[0]
    prior = sum(p.prior.logpdf(column) for p, column in zip(mixed.parameters, theta.T, strict=True))
    for data, leave_out in ((None, ()), (mock, ("icecube-2016-24TeV",)), (mock, ("icecube-2025-24TeV",))):
        posterior = EmulatedPosterior(mixed, data, leave_out=leave_out)
        expected = prior[:2] + mixed.log_likelihood(theta[:2], data, labels=posterior.labels)
        found = posterior.log_prob(theta)
        np.testing.assert_allclose(found[:2], expected, rtol=1e-12)
        # A right ascension beyond its prior, a tilt beyond what was trained.
        assert np.all(found[2:] == -np.inf)


def test_emcee_stores_and_resumes_it(powers, tmp_path):
    """About 1000 independent samples: mean within 5 errors. Another emulator or other data are another run."""
    settings = SamplerSettings(target=30.0, max_steps=20_000)
    posterior = EmulatedPosterior(powers)
    kept = {"settings": settings, "store": tmp_path / "fit.h5", "resume": True}
    fit = run_emcee(posterior, rng=np.random.default_rng(3), **kept)
    mean, covariance, _ = exact(np.log(powers.data), np.arange(5))
    independent = fit.effective_steps * fit.chain.shape[1]
    assert np.all(np.abs(fit.samples().mean(0) - mean) < 5.0 * np.sqrt(np.diag(covariance) / independent))
    told = FitResult.load(tmp_path / "fit.h5").provenance
    assert told["data_sha256"] == {CAP.provenance.name: CAP.provenance.sha256}
    assert told["measurements"] == [list(powers.labels)]
    assert json.loads(json.dumps(posterior.description))["data"] == "published"
    other = EmulatedPosterior(powers, 1.1 * powers.data)
    for wrong in (other, EmulatedPosterior(powers, leave_out=[FAR.measurement])):
        with pytest.raises(ConfigurationError, match="the stored run differs"):
            run_emcee(wrong, rng=np.random.default_rng(3), **kept)


def test_the_predictive_p_value_of_one_vector_is_that_of_chi_square(powers):
    """20 000 draws at fixed parameters: within 4.5 errors of the tail of chi-square with 5 and 3 numbers."""
    theta = np.tile([0.5, -3.1], (20_000, 1))
    residual = np.log(powers.data) - (LEVEL + SLOPE * 0.5 + 2.0 * np.log(10.0) * -3.1)
    for leave_out, columns in (((), np.arange(5)), ((FAR.measurement,), np.arange(3))):
        posterior = EmulatedPosterior(powers, leave_out=leave_out)
        shape = (np.outer(SD, SD) * CORRELATION)[np.ix_(columns, columns)]
        chi2 = residual[columns] @ np.linalg.solve(shape, residual[columns])
        expected = stats.chi2(len(columns)).sf(chi2)
        assert 0.001 < expected < 0.999
        found = predictive_p(posterior, theta, rng=np.random.default_rng(4))
        assert abs(found - expected) < 4.5 * np.sqrt(expected * (1.0 - expected) / 20_000)


def test_data_of_another_model_are_seen(powers):
    """One power raised by 8 of its standard deviations: the check sees it in all data and in that one."""
    theta = np.tile([0.0, -3.0], (1, 1))
    data = powers.draw(theta, rng=np.random.default_rng(5))[0]
    wrong = data.copy()
    wrong[2] *= np.exp(8.0 * SD[2])
    values = []
    for given in (data, wrong):
        posterior = EmulatedPosterior(powers, given)
        run = run_importance(posterior, rng=np.random.default_rng(6))
        samples = run.resample(1000, rng=np.random.default_rng(7))
        values.append(predictive_check(posterior, samples, rng=np.random.default_rng(8)))
    assert values[0].p_value > 0.05
    assert values[1].p_value < 0.01
    assert int(np.argmin(values[1].table["tail"])) == 2
    assert values[1].table["probability_below"][2] > 0.99


def test_tails_of_single_data(mixed):
    """At one vector powers have the tails of their normal laws exactly, turned dipoles those of 10 000 draws."""
    theta = np.array([0.4, -3.1, 2.0])
    posterior = EmulatedPosterior(mixed, leave_out=["icecube-2016-24TeV"])
    check = predictive_check(posterior, np.tile(theta, (10_000, 1)), rng=np.random.default_rng(9))
    middle = np.array([-2.0, -2.5, -3.0]) + 0.4 * np.linspace(-0.5, 0.5, 7)[:3]
    z = (np.log(mixed.data[:3]) - 2.0 * np.log(10.0) * -3.1 - middle) / 0.3
    np.testing.assert_allclose(check.table["probability_below"][:3], stats.norm.cdf(z), rtol=1e-9)
    # Log size and normal score of the phase are normal with correlation 0.3; the dipole is turned by 2 rad. Chances by
    # quadrature on a grid of both.
    z = np.linspace(-6.0, 6.0, 1201)
    share = np.outer(stats.norm.pdf(z), stats.norm.pdf(z)) * (z[1] - z[0]) ** 2
    for first, level in ((3, [0.8, 0.0]), (5, [0.7, 0.1])):
        middle = np.array(level) + 0.4 * np.linspace(-0.5, 0.5, 7)[first : first + 2]
        size = np.exp(middle[0] + 0.3 * z)[:, None] * 10.0**-3.1
        score = middle[1] + 0.3 * (0.3 * z[:, None] + np.sqrt(1.0 - 0.3**2) * z)
        phase = 2.0 * np.pi * (stats.norm.cdf(score) - 0.5) + 2.0
        parts = np.stack([size * np.cos(phase), size * np.sin(phase)])
        expected = [np.sum(share * (part < own)) for part, own in zip(parts, mixed.data[first:], strict=False)]
        found = np.asarray(check.table["probability_below"][first : first + 2])
        spread = np.sqrt(np.multiply(expected, np.subtract(1.0, expected)) / 10_000)
        assert np.all(np.abs(found - expected) < 4.5 * spread + 5e-4)
    assert list(check.table["fitted"]) == [label.split()[0] != "icecube-2016-24TeV" for label in mixed.labels]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"data": np.ones(3)}, "expected 5 numbers|5 numbers, for emulator.labels"),
        ({"data": np.array([1.0, -1.0, 1.0, 1.0, 1.0])}, "icecube-2025-24TeV l=2 = -1"),
        ({"data": np.array([1.0, np.nan, 1.0, 1.0, 1.0])}, "icecube-2025-24TeV l=2 = nan"),
        ({"priors": {"tillt": stats.norm()}}, "unknown parameter 'tillt'; did you mean 'tilt'"),
        ({"priors": {"tilt": stats.uniform(5.0, 4.0)}}, "0.45 of the prior of tilt lies beyond what the emulator"),
        ({"leave_out": ["icecube-2025-24TeW"]}, "no data 'icecube-2025-24TeW'; did you mean 'icecube-2025-24TeV'"),
        ({"leave_out": [CAP.measurement, FAR.measurement]}, "leave_out names all data"),
    ],
)
def test_what_makes_no_sense_is_refused(powers, kept, said):
    with pytest.raises(ConfigurationError, match=said):
        EmulatedPosterior(powers, **kept)


def test_half_a_dipole_is_refused(mixed):
    with pytest.raises(ConfigurationError, match="'tibet-2015-15TeV 0h' without its other component"):
        EmulatedPosterior(mixed, leave_out=["tibet-2015-15TeV 0h"])


def test_a_narrower_prior_counts(powers):
    posterior = EmulatedPosterior(powers, priors={"tilt": stats.norm(0.5, 0.1)})
    theta = np.array([[0.4, -3.0]])
    plain = EmulatedPosterior(powers).log_prob(theta)
    assert posterior.log_prob(theta) - plain == pytest.approx(
        stats.norm(0.5, 0.1).logpdf(0.4) - stats.norm.logpdf(0.4)
    )


FIT = """
schema = 1
seed = 4
output = "fit"
method = "{method}"
emulator = "own.h5"
{more}
"""


def command(path, *words):
    with pytest.raises(SystemExit) as stopped:
        obsfit.cli.main(["fit", str(path), *words])
    return stopped.value.code


def test_the_command_fits_an_emulator(mixed, tmp_path, capsys):
    write_emulator(tmp_path / "own.h5", mixed)
    path = tmp_path / "fit.toml"
    path.write_text(FIT.format(method="importance", more='leave_out = ["tibet-2015-15TeV"]'), encoding="utf-8")
    assert command(path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "log evidence" in out
    stored = WeightedSamples.load(tmp_path / "fit" / "fit.h5")
    assert stored.provenance["left_out"] == ["tibet-2015-15TeV 0h", "tibet-2015-15TeV 6h"]
    predicted = Table.read(tmp_path / "fit" / "predictive.ecsv")
    assert list(predicted["label"]) == list(mixed.labels)
    left_out = Table.read(tmp_path / "fit" / "left_out.ecsv")
    assert list(left_out["label"]) == ["tibet-2015-15TeV 0h", "tibet-2015-15TeV 6h"]
    assert f"p-value {left_out.meta['settings']['p_value']:.3g}" in out
    names = ["corner.png", "corner.svg", "fit.h5", "left_out.ecsv", "predictive.ecsv", "predictive.png",
             "predictive.svg", "summary.ecsv"]  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "fit").iterdir()) == names
    assert Table.read(tmp_path / "fit" / "summary.ecsv").meta["data"][0]["sha256"] == CAP.provenance.sha256


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[model]\nnames = ["relative-diffusion"]', "has data and a model of its own"),
        ('[priors.tilt]\ndistribution = "none"', "tilt is a parameter of an emulator"),
        ('[priors.tild]\ndistribution = "normal"\nmean = 0\nsd = 1', "did you mean 'tilt'"),
        ('[data]\nspectrum = "hawc-icecube-2019"', "has data and a model of its own"),
    ],
)
def test_mistakes_in_a_configuration_of_an_emulator_are_named(powers, tmp_path, capsys, more, said):
    write_emulator(tmp_path / "own.h5", powers)
    path = tmp_path / "fit.toml"
    path.write_text(FIT.format(method="importance", more=more), encoding="utf-8")
    assert command(path) == 2
    assert said in capsys.readouterr().err


def test_a_fit_of_nothing_and_of_no_emulator_are_refused(tmp_path, capsys):
    path = tmp_path / "fit.toml"
    path.write_text("schema = 1\nseed = 1\n", encoding="utf-8")
    assert command(path) == 2
    assert "the fit has nothing to fit" in capsys.readouterr().err
    path.write_text(FIT.format(method="emcee", more=""), encoding="utf-8")
    assert command(path) == 2
    assert "there is no emulator 'own.h5'" in capsys.readouterr().err


def test_emulators_of_packages_are_found_by_name(powers, tmp_path, monkeypatch):
    (tmp_path / "emulators").mkdir()
    write_emulator(tmp_path / "emulators" / "small.h5", powers)
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    assert list(shipped.available_emulators()) == ["small"]
    assert shipped.load_emulator("small").labels == powers.labels
    with pytest.raises(ConfigurationError, match="one of those that are shipped: small"):
        shipped.load_emulator("smal")
