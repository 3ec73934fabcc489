"""Measurements left out of a fit of one sky: closed forms of Gaussian skies, uniform p-values over mocks, refusals.

Records of the whole sky without noise and without m = 0: a power has 2 l squares, at another energy it is a non-central
chi-square given it, and a dipole is a point of a circle whose radius is the power.
"""

import numpy as np
import pytest
from scipy import stats

import obsfit.infer
from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.infer import DipoleScatter, DipoleTerm, Likelihood, Nuisances, OneSkyTerm, Posterior
from obsfit.infer.left_out import leave_one_out, predict_left_out
from obsfit.infer.partial import PartialPosterior
from obsfit.parameters import Parameter
from obsfit.records import DipoleMeasurements, PowerSpectrum, Provenance

FIXED = Nuisances(None, None, None)
ELL = np.array([1, 2, 3])
ENERGIES = (10.0, 100.0)


class Coherent:
    """C_l = 10^level / l^2, the same at all energies, which have one correlation with each other."""

    name = "coherent"
    parameters = (Parameter("level", stats.norm(0.0, 0.5)), Parameter("coherence", stats.uniform(0.3, 0.6)))

    def __init__(self, top=3):
        self.top = top

    def c_ell(self, theta, rigidity_tv, lmax):
        ell = np.arange(lmax + 1)
        shape = np.where((ell > 0) & (ell <= self.top), 1.0 / np.maximum(ell, 1.0) ** 2, 0.0)
        n = len(rigidity_tv)
        memory = np.where(np.eye(n, dtype=bool), 1.0, theta[:, 1, None, None])
        return 10.0 ** theta[:, 0, None, None, None] * memory[..., None] * shape


def spectrum(energy, c_ell, ell=ELL):
    n, blank = len(c_ell), np.full(len(c_ell), np.nan)
    return PowerSpectrum(
        f"toy-{energy:.0f}TeV", "pseudo", energy, ell, c_ell, np.full(n, 1e-9), np.ones(n), blank, blank, blank, blank,
        True, -np.pi / 2, np.pi / 2, Provenance(f"toy-{energy:.0f}TeV"),
    )  # fmt: skip


def posterior(records, top=3, **kwargs):
    term = OneSkyTerm(records, FIXED, DipoleScatter.none(), energy_spread=False, **{"floor": 0.0, **kwargs})
    return Posterior(Coherent(top), Likelihood(term))


def two(near, far):
    return posterior((spectrum(ENERGIES[0], near), spectrum(ENERGIES[1], far)))


def powers(level, coherence, rng):
    """Powers at both energies, by chi-square laws alone."""
    near = 10.0**level / ELL**2 / (2 * ELL + 1) * rng.chisquare(2 * ELL)
    return near, given(near, level, coherence).rvs(random_state=rng)


def given(near, level, coherence):
    """The law of the powers at the second energy given those at the first."""
    left = 10.0**level / ELL**2 / (2 * ELL + 1) * (1.0 - coherence**2)
    return stats.ncx2(2 * ELL, coherence**2 * near / left, scale=left)


@pytest.mark.parametrize(("seen", "coherence"), [(0.4, 0.8), (2.0, 0.5)])
def test_a_power_given_that_of_another_energy_is_non_central_chi_square(seen, coherence):
    """At one vector of parameters: tails within 4.5 errors of the exact ones, and 0.01 for the saddlepoint."""
    near = seen / ELL**2
    far = np.array([0.5, 1.4, 1.1]) / ELL**2
    partial = PartialPosterior(two(near, far), ["toy-100TeV"])
    law = given(near, 0.0, coherence)
    found = predict_left_out(partial, np.tile([0.0, coherence], (50, 1)), rng=np.random.default_rng(1), size=4000)
    assert found.labels == tuple(f"toy-100TeV l={ell}" for ell in ELL)
    expected = law.cdf(far)
    error = np.sqrt(expected * (1.0 - expected) / found.effective_size)
    assert found.effective_size > 1500
    assert np.all(np.abs(found.pit - expected) < 4.5 * error + 0.01)
    assert found.log_density == pytest.approx(law.logpdf(far).sum(), abs=0.06)
    logs = np.log(law.rvs(size=(40_000, 3), random_state=np.random.default_rng(2)))
    offset = np.concatenate([np.log(far)[None], logs]) - logs.mean(axis=0)
    distance = np.sum(offset * np.linalg.solve(np.cov(logs.T), offset.T).T, axis=1)
    exact = np.mean(distance >= distance[0])
    assert found.p_value == pytest.approx(exact, abs=4.5 * np.sqrt(exact * (1 - exact) / 1500) + 0.01)
    # Not on the sky that both share, one would have found another tail.
    alone = stats.chi2(2 * ELL, scale=1.0 / ELL**2 / (2 * ELL + 1)).cdf(far)
    assert np.abs(alone - expected).max() > 0.05


def test_predictions_of_a_true_model_are_calibrated():
    """100 mocks, the truth from the prior, fits by quadrature: p-values and four tails are uniform.

    By Kolmogorov and Smirnov's test, false alarm 0.001 each. Predicted of parameters alone, without the sky that is
    shared, the tails would fail: the test says so.
    """
    rng = np.random.default_rng(3)
    level, coherence = (
        axis.ravel() for axis in np.meshgrid(np.linspace(-1.5, 1.5, 11), np.linspace(0.36, 0.84, 5))
    )
    grid = np.column_stack([level, coherence])
    p_values, pits = [], []
    for _ in range(100):
        truth = (rng.normal(0.0, 0.5), rng.uniform(0.3, 0.9))
        partial = PartialPosterior(two(*powers(*truth, rng)), [f"toy-{ENERGIES[int(rng.integers(2))]:.0f}TeV"])
        log_weight = partial.log_prob(grid)
        found = predict_left_out(partial, grid, np.exp(log_weight - log_weight.max()), rng=rng, size=600)
        p_values.append(found.p_value)
        pits.append(found.pit)
    for own in (p_values, *np.transpose(pits)):
        assert stats.kstest(own, "uniform").pvalue > 0.001


def dipole(delta, error):
    one = np.ones(1)
    return DipoleMeasurements(
        ("one",), ("elsewhere",), ("right-ascension projection",), 10.0 * one, np.hypot(*delta) * one, error * one,
        np.arctan2(delta[1], delta[0]) * one, error / np.hypot(*delta) * one, np.nan * one, np.nan * one,
        -np.pi / 2 * one, np.pi / 2 * one, np.nan * one, np.ones(1, bool), Provenance("dipole"),
    )  # fmt: skip


# (delta_0h, delta_6h) of Re and Im a11, each of variance 1/2, projected by pi / 4.
FACTOR = np.pi / 4.0 * np.sqrt(3.0 / (2.0 * np.pi))


def test_a_dipole_given_its_power_lies_on_a_circle_and_the_reverse():
    """One energy, l = 1, and 100 000 draws of each law: tails within 4.5 errors, and 0.02 for the saddlepoint."""
    error, theta, power = 0.05, np.tile([0.0, 0.5], (20, 1)), 0.5
    rng, delta = np.random.default_rng(4), np.array([0.38, -0.2])
    whole = posterior((spectrum(10.0, np.array([power]), ELL[:1]), dipole(delta, error)), top=1)
    assert whole.likelihood.terms[0].data[1:] == pytest.approx(delta)
    found = predict_left_out(PartialPosterior(whole, ["one"]), theta, rng=np.random.default_rng(5), size=4000)
    angle = rng.uniform(0.0, 2.0 * np.pi, size=100_000)
    # The power of l = 1 without m = 0 is 2 |a11|^2 / 3.
    circle = FACTOR * np.sqrt(1.5 * power) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    drawn = circle + error * rng.normal(size=(100_000, 2))
    expected = np.mean(drawn < delta, axis=0)
    assert found.effective_size > 400
    assert np.all(np.abs(found.pit - expected) < 4.5 * np.sqrt(0.25 / found.effective_size) + 0.02)
    exact = np.mean(np.linalg.norm(drawn, axis=1) >= np.linalg.norm(delta))
    assert found.p_value == pytest.approx(exact, abs=4.5 * np.sqrt(0.25 / found.effective_size) + 0.02)
    back = predict_left_out(PartialPosterior(whole, ["toy-10TeV"]), theta, rng=np.random.default_rng(6), size=4000)
    # Given the dipole, Re and Im a11 have normal laws about it, shrunk by its error.
    signal = 0.5 * FACTOR**2
    share = signal / (signal + error**2)
    known = (delta * share + np.sqrt(share) * error * rng.normal(size=(100_000, 2))) / FACTOR
    below = np.mean(2.0 * np.sum(known**2, axis=1) / 3.0 < power)
    assert back.pit[0] == pytest.approx(below, abs=4.5 * np.sqrt(0.25 / back.effective_size) + 0.02)


def test_nuisances_of_what_is_left_out_come_from_their_prior():
    """Noise is numbered by spectrum: the second of three keeps its own when the first goes."""
    records = tuple(spectrum(energy, np.ones(3)) for energy in (10.0, 20.0, 30.0))
    term = OneSkyTerm(records, Nuisances(stats.uniform(-1.0, 2.0), None, None), energy_spread=False)
    whole = Posterior(Coherent(), Likelihood(term), priors={"log10_noise_3": stats.norm(0.2, 0.1)})
    partial = PartialPosterior(whole, ["toy-10TeV"])
    assert partial.names == ("level", "coherence", "log10_noise_1", "log10_noise_2")
    assert partial.parameters[3].prior.mean() == pytest.approx(0.2)
    theta = np.array([[0.1, 0.5, -0.3, 0.25]] * 500)
    complete = partial.completed(theta, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(complete[:, [0, 1, 3, 4]], theta)
    assert stats.kstest(complete[:, 2], stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-4
    assert partial.description["left_out"] == [f"toy-10TeV l={ell}" for ell in ELL]
    np.testing.assert_array_equal(partial.energy_tev, [10.0] * 3)


def test_one_wrong_energy_is_found_and_says_which():
    """Three energies, the second ten times as bright as the sky that the others saw at a coherence of 0.9."""
    rng = np.random.default_rng(8)
    root = np.linalg.cholesky(np.full((3, 3), 0.9) + 0.1 * np.eye(3))
    ell = np.arange(1, 5)
    values = [np.sum((root @ rng.normal(size=(3, 2 * one))) ** 2, axis=1) / (2 * one + 1) / one**2 for one in ell]
    priors = {"coherence": stats.uniform(0.8, 0.15)}
    tables = []
    for factor in (1.0, 10.0):
        data = np.transpose(values) * np.array([[1.0], [factor], [1.0]])
        records = tuple(spectrum(energy, row, ell) for energy, row in zip((10.0, 20.0, 30.0), data, strict=True))
        whole = Posterior(Coherent(4), posterior(records).likelihood, priors=priors)
        tables.append(leave_one_out(whole, seed=1, effective_size=100.0, size=800))
    good, bad = tables
    assert list(good["left_out"]) == ["toy-10TeV", "toy-20TeV", "toy-30TeV"]
    np.testing.assert_allclose(good["energy_tev"], [10.0, 20.0, 30.0])
    assert list(good["numbers"]) == [4, 4, 4]
    assert np.all(good["p_value"] > 0.02)
    # The other two are left out beside the wrong one and fare badly too: densities tell them apart, 800 draws do not.
    assert bad["p_value"][1] < 0.02
    lost = np.asarray(good["log_density"] - bad["log_density"])
    assert lost[1] > 40.0
    assert np.all(lost[[0, 2]] < 20.0)
    again = leave_one_out(whole, seed=1, effective_size=100.0, size=800, measurements=["toy-20TeV"])
    assert again["p_value"][0] == bad["p_value"][1]


def test_what_cannot_be_left_out_is_refused():
    whole = two(np.ones(3), np.ones(3))
    with pytest.raises(ConfigurationError, match="no measurement 'toy-10TeW'; did you mean 'toy-10TeV'"):
        PartialPosterior(whole, ["toy-10TeW"])
    with pytest.raises(ConfigurationError, match="leave_out names all data"):
        PartialPosterior(whole, ["toy-10TeV", "toy-100TeV"])
    with pytest.raises(ConfigurationError, match="leave_out is empty"):
        PartialPosterior(whole, [])
    with pytest.raises(ConfigurationError, match="without data and priors"):
        leave_one_out(whole, np.ones(6), seed=1)
    alone = Posterior(obsfit.load_model("compton-getting"), Likelihood(DipoleTerm(dipole((0.1, 0.2), 0.1))))
    with pytest.raises(ConfigurationError, match="not of several measurements of one sky"):
        leave_one_out(alone, seed=1)
    with pytest.raises(ConvergenceError, match="draws of toy-100TeV l=1"):
        predict_left_out(
            PartialPosterior(whole, ["toy-100TeV"]), np.array([[0.0, 0.5]]), rng=np.random.default_rng(1), size=20
        )
