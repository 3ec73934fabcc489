"""Parameters on a circle: von Mises laws at the ends of their range, turned data, chains judged without a cut."""

import astropy.units as u
import h5py
import numpy as np
import pytest
from scipy import special, stats

import obsfit
from obsfit.emulate.emulator import Emulator, read_emulator, write_emulator
from obsfit.emulate.folding import FoldedData
from obsfit.emulate.surrogate_density import Surrogate
from obsfit.infer import SamplerSettings, run_emcee, run_importance
from obsfit.infer.circles import Circle, circles_of
from obsfit.infer.diagnostics import autocorrelation_time, sample_sizes
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.result import FitResult
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.parameters import Parameter

LEVELS = {"p2.5": 0.025, "p16": 0.16, "median": 0.5, "p84": 0.84, "p97.5": 0.975}
SETTINGS = SamplerSettings(target=40.0, max_steps=20_000)


class VonMises:
    """A phase in degrees with a von Mises law, and a number that goes with its sine: both marginals in closed form."""

    def __init__(self, centre, kappa, low=0.0):
        self.centre, self.kappa = centre, kappa
        self.parameters = (
            Parameter("level", stats.uniform(-9.0, 18.0)),
            Parameter("phase", stats.uniform(low, 360.0), "deg", period=360.0),
        )

    def log_prob(self, theta):
        level, phase = theta.T
        off = np.radians(phase - self.centre)
        prior = sum(p.prior.logpdf(x) for p, x in zip(self.parameters, theta.T, strict=True))
        return prior + self.kappa * np.cos(off) - 0.5 * ((level - np.sin(off)) / 0.5) ** 2

    def mean_cosine(self, order=1):
        return special.ive(order, self.kappa) / special.ive(0, self.kappa)

    def log_evidence(self):
        return np.log(special.i0(self.kappa)) + np.log(0.5 * np.sqrt(2.0 * np.pi) / 18.0)

    def check(self, fit, samples, weight, independent):
        """Quantiles and moments within 4.5 errors of so many samples: 10 numbers, false alarm below 1e-4."""
        table = fit.summary()
        row = table[1]
        for name, level in LEVELS.items():
            # Quantiles about the mean: a law about zero, wherever its centre is.
            off = np.radians((row[name] - self.centre + 180.0) % 360.0 - 180.0)
            below = stats.vonmises(self.kappa).cdf(off)
            assert abs(below - level) < 4.5 * np.sqrt(level * (1.0 - level) / independent), name
        assert row["p2.5"] < row["p16"] < row["median"] < row["p84"] < row["p97.5"]
        assert abs((row["maximum"] - self.centre + 180.0) % 360.0 - 180.0) < 60.0
        assert abs(row["maximum"] - row["median"]) < 90.0
        low, high = self.parameters[1].prior.support()
        assert np.all((samples[:, 1] >= low) & (samples[:, 1] <= high))
        off = np.radians(samples[:, 1] - self.centre)
        share = np.full(len(off), 1.0 / len(off)) if weight is None else weight
        square = 0.5 * (1.0 + self.mean_cosine(2))
        for found, mean, variance in (
            (share @ np.cos(off), self.mean_cosine(), square - self.mean_cosine() ** 2),
            (share @ np.sin(off), 0.0, 1.0 - square),
            (share @ samples[:, 0], 0.0, 0.25 + 1.0 - square),
        ):
            assert abs(found - mean) < 4.5 * np.sqrt(variance / independent)
        bits = (self.kappa * self.mean_cosine() - np.log(special.i0(self.kappa))) / np.log(2.0)
        assert row["bits"] == pytest.approx(bits, abs=5.0 * row["bits_error"] + 0.02)


@pytest.mark.parametrize(("centre", "kappa", "low"), [(0.0, 30.0, 0.0), (100.0, 0.7, 100.0), (181.0, 300.0, 0.0)])
def test_emcee_finds_von_mises_wherever_it_is(centre, kappa, low):
    law = VonMises(centre, kappa, low)
    fit = run_emcee(law, rng=np.random.default_rng(1), settings=SETTINGS)
    independent = fit.effective_steps * fit.chain.shape[1]
    law.check(fit, fit.samples(), None, independent)
    assert fit.chain.shape[2] == 2
    assert fit.summary()["r_hat"].max() < 1.06
    # The density of what is stored, without the radius.
    np.testing.assert_allclose(fit.log_prob[-1], law.log_prob(fit.chain[-1]), rtol=1e-9)


@pytest.mark.parametrize(("centre", "kappa", "low"), [(0.0, 30.0, 0.0), (100.0, 0.7, 100.0), (181.0, 300.0, 0.0)])
def test_importance_sampling_finds_von_mises_wherever_it_is(centre, kappa, low):
    law = VonMises(centre, kappa, low)
    run = run_importance(law, rng=np.random.default_rng(2), effective_size=2000.0)
    law.check(run, run.theta, run.weight, run.effective_size)
    # On a range that is cut at the mode one half would be lost: ln 2, 25 errors.
    assert abs(run.log_evidence - law.log_evidence()) < 4.5 * run.log_evidence_error


def turned_emulator():
    """One power and a dipole, turned by a right ascension: log size and normal score of its phase N((0.8, 0), 0.3)."""
    table = obsfit.load_dipoles("ahlers-mertsch-2017")
    row = table.select([table.measurement.index("icecube-2016-24TeV")])
    cap = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 1)
    size = Parameter("log10_amplitude", stats.norm(-3.1, 0.05))
    turn = Parameter("gradient_right_ascension", stats.uniform(0.0, 2.0 * np.pi), "rad")
    folded = FoldedData((cap, row), (size.name, turn.name))
    n, scores = 3, np.linspace(-2.0, 2.0, 5)
    surrogate = Surrogate(
        names=folded.learnt, labels=folded.value_labels(), features={size.name: ("identity",)},
        domain=np.array([[-5.0], [-1.0]]), centre=np.zeros(1), spread=np.ones(1),
        exponents=np.zeros((1, 1), dtype=np.int64), mean=np.array([[[-2.0, 0.8, 0.0]]]),
        log_scale=np.full((1, 1, n), np.log(0.3)), knots=np.tile(scores, (1, n, 1)), scores=scores,
        slopes=np.ones((1, n, 5)), tails=np.ones((1, n, 2)), correlation=np.eye(n)[None, None],
    )  # fmt: skip
    return Emulator("by-hand", (size, turn), folded, surrogate)


def test_a_turned_sky_has_a_turned_posterior():
    """Data with their phase at 0 and at 2.5: emcee and importance sampling, each the law of the other turned.

    The angle between them has a normal score of deviation 0.3, whatever the size: cosines by quadrature. Cosines and
    sines of 4 fits within 4.5 errors: false alarm below 1e-4.
    """
    emulator = turned_emulator()
    data = emulator.data.copy()
    data[0] = np.exp(-2.0 - 6.2 * np.log(10.0))
    posteriors = []
    for phase in (0.0, 2.5):
        data[1:] = 10.0**-3.1 * np.exp(0.8) * np.array([np.cos(phase), np.sin(phase)])
        posteriors.append((phase, EmulatedPosterior(emulator, data)))
    score = np.linspace(-3.0, 3.0, 2001)
    share = stats.norm(0.0, 0.3).pdf(score) * (score[1] - score[0])
    angle = 2.0 * np.pi * (stats.norm.cdf(score) - 0.5)
    cosine, square = share @ np.cos(angle), share @ np.cos(angle) ** 2
    for phase, posterior in posteriors:
        assert posterior.parameters[1].circular
        fit = run_emcee(posterior, rng=np.random.default_rng(3), settings=SETTINGS)
        run = run_importance(posterior, rng=np.random.default_rng(4), effective_size=1500.0)
        for samples, weight, independent in (
            (fit.samples(), np.full(len(fit.samples()), 1.0 / len(fit.samples())),
             fit.effective_steps * fit.chain.shape[1]),
            (run.theta, run.weight, run.effective_size),
        ):  # fmt: skip
            off = samples[:, 1] - phase
            assert abs(weight @ np.cos(off) - cosine) < 4.5 * np.sqrt((square - cosine**2) / independent)
            assert abs(weight @ np.sin(off)) < 4.5 * np.sqrt((1.0 - square) / independent)
        for table in (fit.summary(), run.summary()):
            assert abs(np.angle(np.exp(1j * (table["median"][1] - phase)))) < 0.1
            width = 4.0 * np.pi * (stats.norm.cdf(0.3 * stats.norm.ppf(0.84)) - 0.5)
            assert table["p84"][1] - table["p16"][1] == pytest.approx(width, abs=0.15)


def test_a_narrowed_right_ascension_is_cut(tmp_path):
    """A prior of half a turn is that of a line; the circle of a file is told, and one that is not is known anyway."""
    emulator = turned_emulator()
    half = EmulatedPosterior(emulator, priors={"gradient_right_ascension": stats.uniform(0.0, np.pi)})
    assert not half.parameters[1].circular
    assert half.parameters[1].period == pytest.approx(2.0 * np.pi)
    assert "circular" not in half.description["parameters"][1]
    whole = EmulatedPosterior(emulator)
    assert whole.description["parameters"][1]["circular"] is True
    write_emulator(tmp_path / "own.h5", Emulator("by-hand", whole.parameters, emulator.folded, emulator.surrogate))
    assert read_emulator(tmp_path / "own.h5").parameters[1].period == pytest.approx(2.0 * np.pi)


def test_a_stored_chain_goes_on_in_the_plane_and_ends_on_the_circle(tmp_path):
    law, settings = VonMises(0.0, 10.0), SamplerSettings(block=100, target=20.0, walkers=16)
    whole = run_emcee(law, rng=np.random.default_rng(5), settings=settings, store=tmp_path / "whole.h5")
    original, left = law.log_prob, [400]

    def interrupt(theta):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(theta)

    law.log_prob = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_emcee(law, rng=np.random.default_rng(5), settings=settings, store=tmp_path / "part.h5")
    law.log_prob = original
    with h5py.File(tmp_path / "part.h5") as file:
        assert file["chain"].shape[2] == 3
        assert 0 < len(file["chain"]) < len(whole.chain)
    found = run_emcee(
        law, rng=np.random.default_rng(6), settings=settings, store=tmp_path / "part.h5", resume=True
    )
    np.testing.assert_array_equal(found.chain, whole.chain)
    stored = FitResult.load(tmp_path / "part.h5")
    assert stored.circles == (None, Circle(0.0, 360.0)) == circles_of(law.parameters)
    np.testing.assert_array_equal(stored.chain, whole.chain)


def test_chains_are_judged_on_the_circle():
    """An angle that creeps about zero: its time is that of the angle on a line, however often it passes the cut.

    800 independent values in each of 20 walkers: times within 15 %, five errors.
    """
    rng, memory = np.random.default_rng(7), 0.9
    creep = np.zeros((4000, 20))
    creep[0] = rng.normal(size=20)
    for step in range(1, len(creep)):
        creep[step] = memory * creep[step - 1] + np.sqrt(1.0 - memory**2) * rng.normal(size=20)
    angle = np.mod(0.2 * creep, 2.0 * np.pi)[..., None]
    circle = (Circle(0.0, 2.0 * np.pi),)
    expected = (1.0 + memory) / (1.0 - memory)
    assert autocorrelation_time(angle, circle)[0] == pytest.approx(expected, rel=0.15)
    assert autocorrelation_time(angle)[0] < 0.7 * expected
    around = np.mod(0.2 * rng.normal(size=(500, 20, 1)), 2.0 * np.pi)
    size, r_hat = sample_sizes(around, circle)
    assert r_hat[0] < 1.01
    assert size[0] > 5000
    # Half of the walkers stay on one side of the cut, the others on the other: they disagree.
    apart = np.mod(0.05 * np.sign(np.arange(20) - 9.5)[:, None] + 0.1 * around.clip(0.0, 0.1), 2.0 * np.pi)
    size, r_hat = sample_sizes(apart, circle)
    assert r_hat[0] > 1.5
    assert size[0] < 200


def test_weighted_samples_are_summarised_about_their_mean():
    """Equal weights at -3, -1, 1 and 5 degrees, stored as 357 to 5: their numbers are those of a line."""
    told = {"parameters": [{"name": "phase", "prior": "uniform", "args": [0.0, 360.0], "circular": True}]}
    run = WeightedSamples(
        ("phase",), ("phase",), ("deg",), np.array([[357.0], [359.0], [1.0], [5.0]]), np.full(4, 0.25), np.zeros(4),
        np.array([359.5]), 4.0, 0.0, 0.0, 4, told,
    )  # fmt: skip
    row = run.summary()[0]
    assert row["median"] == pytest.approx(0.0, abs=1e-9)
    assert row["mean"] == pytest.approx(0.5, abs=1e-9)
    assert row["sd"] == pytest.approx(np.std([-3.0, -1.0, 1.0, 5.0]))
    assert row["maximum"] == pytest.approx(-0.5)
