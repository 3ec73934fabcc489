"""Measurements left out and predicted: closed forms of a normal problem, uniform transforms over mocks, refusals."""

import astropy.units as u
import numpy as np
import pytest
from scipy import stats

import obsfit
from obsfit.emulate.emulator import Emulator
from obsfit.emulate.folding import FoldedData
from obsfit.emulate.surrogate_density import Surrogate
from obsfit.errors import ConfigurationError
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.left_out import leave_one_out, predict_left_out
from obsfit.parameters import Parameter

NEAR = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 2)
FAR = obsfit.load_spectrum("icecube-2025", energy=42 * u.TeV).select(2, 3)
LEVEL = np.array([-17.0, -16.5, -17.2, -17.0])
SLOPE = np.array([0.9, 0.4, -0.5, 0.7])
SD = np.array([0.8, 0.6, 0.5, 0.7])
CORRELATION = np.array([[1.0, 0.5, 0.6, 0.3], [0.5, 1.0, 0.4, 0.5], [0.6, 0.4, 1.0, 0.6], [0.3, 0.5, 0.6, 1.0]])
NOISE = np.outer(SD, SD) * CORRELATION
TILT = Parameter("tilt", stats.norm(0.0, 1.0))


def emulator(levels=(LEVEL,), correlations=(CORRELATION,), **changing):
    """Logarithms of four powers, normal about level + slope * tilt; one replicate for each level."""
    folded = FoldedData((NEAR, FAR), ("tilt",))
    n, n_rep, scores = 4, len(levels), np.linspace(-2.0, 2.0, 5)
    mean, log_scale = np.zeros((2, n_rep, 2, n))
    mean[:, 0], mean[:, 1], log_scale[:, 0] = levels, SLOPE, np.log(SD)
    surrogate = Surrogate(
        names=("tilt",), labels=folded.labels, features={"tilt": ("identity",)}, domain=np.array([[-6.0], [6.0]]),
        centre=np.zeros(1), spread=np.ones(1), exponents=np.array([[0], [1]]), mean=mean, log_scale=log_scale,
        knots=np.tile(scores, (n_rep, n, 1)), scores=scores, slopes=np.ones((n_rep, n, 5)),
        tails=np.ones((n_rep, n, 2)), correlation=np.array(correlations).reshape(n_rep, -1, n, n), **changing,
    )  # fmt: skip
    return Emulator("by-hand", (TILT,), folded, surrogate)


def conditional(mean, covariance, x, y, seen):
    """Mean and covariance of the numbers x of a normal law given those at y."""
    gain = np.linalg.solve(covariance[np.ix_(y, y)], covariance[np.ix_(y, x)]).T
    return mean[x] + gain @ (seen - mean[y]), covariance[np.ix_(x, x)] - gain @ covariance[np.ix_(y, x)]


def rest_alone(log_power, x, y):
    """The closed form: tilt and all logarithms of powers are jointly normal, so is x given y."""
    return conditional(LEVEL, NOISE + np.outer(SLOPE, SLOPE), x, y, log_power[y])


def test_density_and_tails_are_those_of_the_closed_form():
    """4000 draws of the exact posterior of the rest: averages over it within 5 of their errors, below 0.02."""
    whole, x, y = emulator(), [2, 3], [0, 1]
    log_power = np.log(whole.data)
    posterior = EmulatedPosterior(whole, leave_out=[FAR.measurement])
    joint = np.block([[np.eye(1), SLOPE[None]], [SLOPE[:, None], NOISE + np.outer(SLOPE, SLOPE)]])
    mean, variance = conditional(np.concatenate([[0.0], LEVEL]), joint, [0], [1, 2], log_power[y])
    samples = mean + np.sqrt(variance) * np.random.default_rng(1).normal(size=(4000, 1))
    found = predict_left_out(posterior, samples, rng=np.random.default_rng(7), size=20_000)
    assert found.labels == tuple(f"icecube-2025-42TeV l={ell}" for ell in (2, 3))
    centre, covariance = rest_alone(log_power, x, y)
    exact = stats.multivariate_normal(centre, covariance).logpdf(log_power[x]) - log_power[x].sum()
    assert found.log_density == pytest.approx(exact, abs=0.05)
    pit = stats.norm.cdf((log_power[x] - centre) / np.sqrt(np.diag(covariance)))
    np.testing.assert_allclose(found.pit, pit, atol=0.02)
    distance = (log_power[x] - centre) @ np.linalg.solve(covariance, log_power[x] - centre)
    # 20 000 draws: 4.5 errors of a share are 0.016 or less.
    assert found.p_value == pytest.approx(stats.chi2(2).sf(distance), abs=0.02)
    score = (log_power[x].sum() - centre.sum()) / np.sqrt(covariance.sum())
    assert found.power_tail == pytest.approx(2.0 * stats.norm.sf(abs(score)), abs=0.035)


def test_weights_count():
    """Twice the prior's width as proposal, weighted: as the draws themselves within 0.05."""
    whole = emulator()
    posterior = EmulatedPosterior(whole, leave_out=[FAR.measurement])
    theta = 2.0 * np.random.default_rng(2).normal(size=(20_000, 1))
    theta = theta[np.abs(theta[:, 0]) < 6.0]
    log_weight = posterior.log_prob(theta) - stats.norm(0.0, 2.0).logpdf(theta[:, 0])
    found = predict_left_out(posterior, theta, np.exp(log_weight - log_weight.max()), rng=np.random.default_rng(7))
    centre, covariance = rest_alone(np.log(whole.data), [2, 3], [0, 1])
    pit = stats.norm.cdf((np.log(whole.data)[2:] - centre) / np.sqrt(np.diag(covariance)))
    np.testing.assert_allclose(found.pit, pit, atol=0.02)


def test_replicates_count_by_what_they_say_of_the_rest():
    """The second replicate puts the rest 10 standard deviations away: it has no say on what is left out."""
    other = LEVEL + np.array([8.0, 6.0, 3.0, 3.0])
    one, two = (
        EmulatedPosterior(e, leave_out=[FAR.measurement])
        for e in (emulator(), emulator((LEVEL, other), (CORRELATION, CORRELATION)))
    )
    samples = np.linspace(-1.0, 1.0, 50)[:, None]
    first, second = (predict_left_out(p, samples, rng=np.random.default_rng(7)) for p in (one, two))
    np.testing.assert_allclose(second.pit, first.pit, rtol=1e-6)
    # The same draws, but for the order of random numbers: two shares of 4000 within 4.5 errors.
    assert second.p_value == pytest.approx(first.p_value, abs=4.5 * np.sqrt(0.5 / 4000))
    assert second.log_density == pytest.approx(first.log_density, abs=1e-6)


def test_a_dipole_is_predicted_in_its_own_components():
    """A dipole turned by 2 rad at every vector, its log size and the normal score of its phase N((0.8, 0.2), 0.3).

    20 000 draws against 400 000 of our own, 4.5 errors.
    """
    table = obsfit.load_dipoles("ahlers-mertsch-2017")
    row = table.select([table.measurement.index("icecube-2016-24TeV")])
    turn = Parameter("gradient_right_ascension", stats.uniform(0.0, 2.0 * np.pi), "rad")
    size = Parameter("log10_amplitude", stats.uniform(-4.0, 2.0))
    folded = FoldedData((NEAR, row), ("tilt", size.name, turn.name))
    scores, log_scale = np.linspace(-2.0, 2.0, 5), np.full((1, 1, 4), np.log(0.3))
    surrogate = Surrogate(
        names=folded.learnt, labels=folded.value_labels(), features=dict.fromkeys(folded.learnt, ("identity",)),
        domain=np.array([[-6.0, -5.0], [6.0, -1.0]]), centre=np.zeros(2), spread=np.ones(2),
        exponents=np.zeros((1, 2), dtype=np.int64), mean=np.array([[[-2.0, -2.0, 0.8, 0.2]]]), log_scale=log_scale,
        knots=np.tile(scores, (1, 4, 1)), scores=scores, slopes=np.ones((1, 4, 5)), tails=np.ones((1, 4, 2)),
        correlation=np.eye(4)[None, None],
    )  # fmt: skip
    whole = Emulator("by-hand", (TILT, size, turn), folded, surrogate)
    posterior = EmulatedPosterior(whole, leave_out=["icecube-2016-24TeV"])
    theta = np.tile([0.0, -3.2, 2.0], (10, 1))
    found = predict_left_out(posterior, theta, rng=np.random.default_rng(8), size=20_000)
    own = np.random.default_rng(9)
    phase = 2.0 * np.pi * (stats.norm.cdf(own.normal(0.2, 0.3, 400_000)) - 0.5) + 2.0
    drawn = 10.0**-3.2 * np.exp(own.normal(0.8, 0.3, 400_000)) * np.array([np.cos(phase), np.sin(phase)])
    dipole = whole.data[2:]
    white = np.linalg.inv(np.linalg.cholesky(np.cov(drawn)))
    far = np.sum((white @ (drawn - drawn.mean(axis=1)[:, None])) ** 2, axis=0)
    seen = np.sum((white @ (dipole - drawn.mean(axis=1))) ** 2)
    shares = (*np.mean(drawn < dipole[:, None], axis=1), np.mean(far >= seen))
    for pit, expected in zip((*found.pit, found.p_value), shares, strict=True):
        assert abs(pit - expected) < 4.5 * np.sqrt(expected * (1.0 - expected) / 19_000) + 1e-4
    turned = complex(*dipole) * np.exp(-2j)
    score = stats.norm.ppf(0.5 + np.angle(turned) / (2.0 * np.pi))
    size = np.log(abs(turned)) + 3.2 * np.log(10.0)
    exact = stats.norm(0.8, 0.3).logpdf(size) + stats.norm(0.2, 0.3).logpdf(score)
    exact += -np.log(2.0 * np.pi * abs(turned) ** 2) - stats.norm.logpdf(score)
    assert found.log_density == pytest.approx(exact, rel=1e-9)
    assert np.isnan(found.power_tail)


def test_a_correlation_that_changes_is_that_of_each_vector():
    """Numbers vary alone at tilt = -6 and together at 6: density and tails by quadrature over tilt with scipy's laws.

    The density to rounding, tails within 5 errors of 20 000 draws.
    """
    x, y, grid = [2, 3], [0, 1], np.linspace(-4.0, 4.0, 81)[:, None]
    together = np.full((4, 4), 0.9) + 0.1 * np.eye(4)
    whole = emulator(
        correlations=((np.eye(4), together),), correlation_along="tilt",
    )  # fmt: skip
    log_power = np.log(whole.data) + np.array([0.3, 0.8, -0.2, 0.5])
    posterior = EmulatedPosterior(whole, np.exp(log_power), leave_out=[FAR.measurement])
    weight, density, centres, widths = [], [], [], []
    for tilt in grid[:, 0]:
        way = (tilt + 6.0) / 12.0
        noise = np.outer(SD, SD) * ((1.0 - way) * np.eye(4) + way * together)
        mean = LEVEL + SLOPE * tilt
        weight.append(stats.norm.pdf(tilt) * stats.multivariate_normal(mean[y], noise[:2, :2]).pdf(log_power[y]))
        centre, covariance = conditional(mean, noise, x, y, log_power[y])
        density.append(stats.multivariate_normal(centre, covariance).pdf(log_power[x]))
        centres.append(centre)
        widths.append(np.sqrt(np.diag(covariance)))
    share = np.array(weight) / np.sum(weight)
    np.testing.assert_allclose(
        np.exp(posterior.log_prob(grid)) / np.exp(posterior.log_prob(grid)).sum(), share, rtol=1e-8
    )
    found = predict_left_out(posterior, grid, share, rng=np.random.default_rng(4), size=20_000)
    assert found.log_density == pytest.approx(np.log(share @ density) - log_power[x].sum(), abs=1e-8)
    below = stats.norm.cdf((log_power[x] - np.array(centres)) / np.array(widths))
    np.testing.assert_allclose(found.pit, share @ below, atol=1e-8)
    rng = np.random.default_rng(5)
    own = rng.choice(len(grid), size=200_000, p=share)
    shared = np.array([0.9 * (t + 6.0) / 12.0 for t in grid[:, 0]])
    # Given two numbers with the same correlation r with all others, these keep r (1 - r) / (1 + r) of each other's.
    left = 1.0 - 2.0 * shared**2 / (1.0 + shared)
    between = (shared - 2.0 * shared**2 / (1.0 + shared)) / left
    one, two = rng.normal(size=(2, own.size))
    two = between[own] * one + np.sqrt(1.0 - between[own] ** 2) * two
    total = np.array(centres)[own].sum(axis=1) + np.array(widths)[own, 0] * one + np.array(widths)[own, 1] * two
    low = np.mean(total < log_power[x].sum())
    assert found.power_tail == pytest.approx(2 * min(low, 1 - low), abs=10 * np.sqrt(low * (1 - low) / 20_000))


def test_predictions_of_a_true_model_are_calibrated():
    """300 mocks with the truth from the prior and fits by quadrature: transforms are uniform by Kolmogorov and
    Smirnov's test, four of single data, two p-values of both together, two of their sum: false alarm 0.001 each."""
    whole, rng = emulator(), np.random.default_rng(3)
    grid = np.linspace(-4.5, 4.5, 91)[:, None]
    pits, p_values = [], []
    for _ in range(300):
        log_power = LEVEL + SLOPE * rng.normal() + np.linalg.cholesky(NOISE) @ rng.normal(size=4)
        for measurement in (NEAR.measurement, FAR.measurement):
            posterior = EmulatedPosterior(whole, np.exp(log_power), leave_out=[measurement])
            log_weight = posterior.log_prob(grid)
            weight = np.exp(log_weight - log_weight.max())
            found = predict_left_out(posterior, grid, weight, rng=rng, size=400)
            pits.extend(found.pit)
            p_values.append((found.p_value, found.power_tail))
    for own in np.reshape(pits, (300, 4)).T:
        assert stats.kstest(own, "uniform").pvalue > 0.001
    for own in np.reshape(p_values, (300, 4)).T:
        assert stats.kstest(own, "uniform").pvalue > 0.001


def test_one_wrong_measurement_is_found_and_says_which():
    """The second spectrum is 8 standard deviations off in one power; fits by importance sampling."""
    whole = emulator()
    data = np.exp(LEVEL)
    good = leave_one_out(whole, data, seed=1)
    assert list(good["left_out"]) == [NEAR.measurement, FAR.measurement]
    assert np.all(good["p_value"] > 0.05)
    assert np.all(good["smallest_tail"] <= 1.0)
    assert np.all(good["samples"] >= 400)
    assert list(good["numbers"]) == [2, 2]
    np.testing.assert_allclose(good["energy_tev"], [24.0, 42.0])
    data[2] *= np.exp(8.0 * SD[2])
    bad = leave_one_out(whole, data, seed=1)
    assert bad["p_value"][1] < 1e-3
    assert bad["smallest_tail"][1] < 1e-4
    assert bad["log_density"][1] < good["log_density"][1] - 10.0
    again = leave_one_out(whole, data, seed=1, measurements=[(FAR.measurement,)])
    assert again["p_value"][0] == bad["p_value"][1]


def test_refusals_come_before_the_fits():
    whole = emulator()
    with pytest.raises(ConfigurationError, match="leaves out no data"):
        predict_left_out(EmulatedPosterior(whole), np.zeros((5, 1)), rng=np.random.default_rng(1))
    with pytest.raises(ConfigurationError, match="there are no data 'icecube'"):
        leave_one_out(whole, seed=1, measurements=[NEAR.measurement, "icecube"], max_evaluations=1)
