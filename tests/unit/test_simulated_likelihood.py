"""The likelihood by simulation: its law, its coordinates, its random numbers, its refusals, and a fit of turbulence."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import polygamma

import obsfit
from obsfit.cli import main
from obsfit.configuration import load_configuration
from obsfit.errors import ConfigurationError, ModelDomainError, ObsfitError, PluginError
from obsfit.infer import DipoleScatter, DipoleTerm, Likelihood, Posterior, PowerTerm, WeightedSamples, discrepancy
from obsfit.infer.configured import FitConfiguration, configured_posterior
from obsfit.infer.simulated_term import SimulatedTerm, Simulation, student_log_density
from obsfit.operators import operator_for
from obsfit.parameters import Parameter
from obsfit.protocols import dipole_alm
from obsfit.records import DipoleMeasurements, PowerSpectrum, Provenance, TrueSky
from obsfit.records.true_sky import alm_size

PAGE = Path(__file__).parents[2] / "docs" / "simulated-likelihood.md"


def spectrum(ell=(1, 2, 3), c_ell=None, *, noise=0.05, energy=10.0, reading=0.0, half_sky=False):
    n = len(ell)
    nan = np.full(n, np.nan)
    return PowerSpectrum(
        f"toy-{energy:g}", "full-sky", energy, np.array(ell), np.ones(n) if c_ell is None else np.asarray(c_ell),
        np.full(n, noise), np.ones(n), nan, nan, nan, nan, True, -np.pi / 2, 0.0 if half_sky else np.pi / 2,
        Provenance("toy"), reading_error=reading,
    )  # fmt: skip


def dipole(energy, error, *, name="one", amplitude=1.0, phase=0.7):
    return DipoleMeasurements(
        measurement=(name,), observatory=(name,), energy_tev=np.array([energy]),
        amplitude=np.array([amplitude]), amplitude_error=np.array([error]), phase_rad=np.array([phase]),
        phase_error_rad=np.array([error / amplitude]), limit=np.array([np.nan]), limit_level=np.array([np.nan]),
        method=("deprojected",), dec_min_rad=np.radians([-90.0]), dec_max_rad=np.radians([90.0]),
        zenith_max_rad=np.array([np.nan]), errors_usable=np.array([True]), provenance=Provenance(name),
    )  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A Gaussian isotropic sky, the same at all rigidities, offered by draws alone."""

    name: str = "drawn"

    @property
    def parameters(self):
        return (Parameter("log10_power", stats.uniform(-1.0, 2.0)), Parameter("slope", stats.uniform(-3.5, 3.0)))

    def draws(self, theta, rigidity_tv, lmax, size, *, rng):
        ell, m = np.array([(ell, m) for m in range(lmax + 1) for ell in range(m, lmax + 1)]).T
        shape = (len(theta), size, ell.size)
        white = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2.0)
        white = np.where(m == 0, np.sqrt(2.0) * white.real, white)
        root = np.sqrt(10.0 ** theta[:, :1] * np.maximum(ell, 1.0) ** theta[:, 1:]) * (ell > 0)
        return np.repeat((root[:, None] * white)[:, :, None], rigidity_tv.size, axis=2)


THETA = np.array([[0.2, -1.5], [-0.4, -2.5], [0.5, -0.7]])
NONE = np.zeros((3, 0))


def drawn_sky(term, theta, size):
    drawn = Drawn().draws(theta, term.rigidity_tv, term.lmax, size, rng=np.random.default_rng(1))
    return TrueSky(term.rigidity_tv, draws=drawn)


def exact_sky(theta, lmax):
    ell = np.arange(lmax + 1)
    power = 10.0 ** theta[:, :1] * np.maximum(ell, 1.0) ** theta[:, 1:] * (ell > 0)
    return TrueSky(np.array([10.0]), None, power[:, None, None])


# ---- the law


def test_the_law_is_the_t_law_of_scipy():
    rng = np.random.default_rng(1)
    draws, value = rng.normal(size=(2, 15, 3)) @ np.diag([1.0, 3.0, 0.1]) + 1.0, rng.normal(size=3)
    for worth in (None, 9):
        n = worth or 15
        for found, one in zip(student_log_density(value, draws, worth=worth), draws, strict=True):
            scale = np.cov(one.T) * (n + 1) * (n - 1) / (n * (n - 3))
            assert found == pytest.approx(
                stats.multivariate_t(one.mean(0), scale, df=n - 3).logpdf(value), rel=1e-10
            )


def test_the_law_is_what_is_left_when_mean_and_variance_are_unknown():
    """One number: the normal density averaged over the posterior of mean and variance, by quadrature."""
    draws = np.array([0.3, -1.0, 0.9, 2.2, 0.1, -0.4])
    n, mean, squares = draws.size, draws.mean(), np.sum((draws - draws.mean()) ** 2)

    # Jeffreys: |Sigma|^-(p+1)/2 = 1 / variance; the mean integrated by hand, the variance here
    def weight(log_variance):
        return np.exp(-0.5 * (n - 1) * log_variance - 0.5 * squares * np.exp(-log_variance))

    def density(log_variance, value):
        return weight(log_variance) * stats.norm(mean, np.exp(0.5 * log_variance) * np.sqrt(1 + 1 / n)).pdf(value)

    norm = integrate.quad(weight, -8, 12)[0]
    for value in (-2.0, 0.5, 4.0):
        expected = np.log(integrate.quad(density, -8, 12, args=(value,))[0] / norm)
        assert student_log_density(np.array([value]), draws[None, :, None])[0] == pytest.approx(expected, abs=1e-6)


def test_many_draws_leave_the_normal_law():
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(1, 20_000, 2))
    expected = stats.multivariate_normal(draws[0].mean(0), np.cov(draws[0].T)).logpdf([0.5, -1.0])
    assert student_log_density(np.array([0.5, -1.0]), draws)[0] == pytest.approx(expected, abs=5e-4)


def test_fewer_independent_draws_make_the_law_wider():
    draws = np.random.default_rng(3).normal(size=(1, 60, 2))
    far, near = np.array([6.0, 0.0]), draws[0].mean(0)
    assert student_log_density(far, draws, worth=12) > student_log_density(far, draws) + 1.0
    assert student_log_density(near, draws, worth=12) < student_log_density(near, draws)


@pytest.mark.parametrize(("draws", "complaint"), [(np.full((1, 9, 2), np.nan), "not finite"),
                                                  (np.ones((1, 9, 2)), "do not vary")])  # fmt: skip
def test_draws_that_are_no_distribution_are_refused(draws, complaint):
    with pytest.raises(ObsfitError, match=complaint):
        student_log_density(np.zeros(2), draws)


# ---- its coordinates


@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0])
def test_the_density_of_a_power_integrates_to_one(exponent):
    """Without the Jacobian it does not. At l = 40 next to nothing is lost to negative powers."""
    term = SimulatedTerm((spectrum((40,), [0.03]),), Simulation(200, 1, exponent=exponent), floor=0.0)
    sky = drawn_sky(term, THETA[:1], 200)
    power = np.geomspace(1e-4, 3.0, 3000)
    simulated = term.coordinates(term.simulate(sky))
    log_density = student_log_density(term.coordinates(power[:, None]), np.repeat(simulated, power.size, axis=0))
    density = np.exp(log_density + term.log_jacobian(power[:, None]))
    assert np.trapezoid(density * power, np.log(power)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 0.25, 0.7])
def test_the_density_does_not_depend_on_which_power_is_the_unit(exponent):
    """The data of the term are the unit of the coordinates; the density of other data must not know it."""
    one = SimulatedTerm(
        (spectrum(c_ell=[1.0, 0.5, 0.2]), dipole(10.0, 0.3)), Simulation(100, 1, exponent=exponent)
    )
    other = replace(one, records=(spectrum(c_ell=[40.0, 0.1, 3.0]), dipole(10.0, 0.3)))
    found = [term.log_prob_of(one.data, drawn_sky(term, THETA, 100), NONE) for term in (one, other)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def test_powers_of_many_modes_have_the_density_of_the_exact_likelihood():
    """At l = 25 the law of 50 degrees of freedom is nearly normal; 2000 draws know its density to some 0.03."""
    record = spectrum((25,), [10**0.2 * 25**-1.5], noise=1e-4)
    term = SimulatedTerm((record,), Simulation(2000, 3), floor=0.0)
    theta = np.array([[0.2, -1.5], [0.28, -1.5], [0.1, -1.5]])
    sky = drawn_sky(term, theta, 2000)
    exact = PowerTerm(record, noise_prior=None).log_prob(exact_sky(theta, 25), NONE)
    np.testing.assert_allclose(term.log_prob(sky, NONE), exact, atol=0.1)


# ---- what is simulated


def test_all_records_see_the_same_draw():
    """Two dipoles and a spectrum without noise: each draw is in all of them, as their operators see it."""
    records = (spectrum((1,), noise=0.0), dipole(10.0, 1e-9, name="a"), dipole(10.0, 1e-9, name="b"))
    term = SimulatedTerm(records, Simulation(50, 1), floor=0.0)
    sky = drawn_sky(term, THETA, 50)
    data = term.simulate(sky)
    for start, record in zip((0, 1, 3), records, strict=True):
        seen = operator_for(record).observe(sky.draws)
        np.testing.assert_allclose(data[..., start : start + seen.shape[-1]], seen, rtol=1e-12, atol=1e-7)


def test_multipoles_beyond_the_published_ones_leak_in_as_the_whole_operator_says():
    record = spectrum((2, 3), noise=0.0, half_sky=True)
    term = SimulatedTerm((record,), Simulation(20, 1), floor=0.0)
    assert term.lmax > 3
    sky = drawn_sky(term, THETA, 20)
    np.testing.assert_allclose(term.simulate(sky), operator_for(record).observe(sky.draws), rtol=1e-12)
    short = SimulatedTerm((record,), Simulation(20, 1, lmax=5), floor=0.0)
    assert short.lmax == 5


def test_the_noise_and_the_errors_of_reading_are_those_of_the_record():
    """4000 draws of an empty sky: variances of the components to 2.2 %, of the logarithms of powers to 4 %; 5 sigma."""
    term = SimulatedTerm((spectrum((2, 8), noise=0.4, reading=0.3), dipole(10.0, 0.3)), Simulation(4000, 5))
    empty = TrueSky(term.rigidity_tv, draws=np.zeros((1, 4000, 1, alm_size(term.lmax)), dtype=complex))
    (data,) = term.simulate(empty)
    np.testing.assert_allclose(data[:, 2:].var(0), 0.09, rtol=0.11)
    np.testing.assert_allclose(np.log(data[:, :2]).var(0), polygamma(1, [2, 8]) + 0.3**2 + 0.03**2, rtol=0.2)
    np.testing.assert_allclose(np.log(data[:, 1]).mean(), np.log(0.4 * 2 / 17) + polygamma(0, 8), atol=0.04)


def test_a_fixed_part_of_the_sky_adds():
    term = SimulatedTerm((dipole(10.0, 0.1),), Simulation(30, 1))
    sky = drawn_sky(term, THETA, 30)
    fixed = dipole_alm(np.array([[[0.5, -2.0, 0.0]]] * 3), term.lmax)
    shift = term.simulate(replace(sky, alm=fixed)) - term.simulate(sky)
    np.testing.assert_allclose(shift, np.broadcast_to([0.5, -2.0], shift.shape), atol=1e-12)


# ---- the posterior


@pytest.fixture
def posterior():
    record = spectrum(c_ell=[1.2, 0.3, 0.4])
    return Posterior(Drawn(), Likelihood(SimulatedTerm((record,), Simulation(60, 7), floor=0.0)))


def test_the_likelihood_is_a_function_of_the_parameters(posterior):
    """Alone, in company, in another order and again: the same number; nearby, nearly the same; of another seed, not."""
    many = np.repeat(THETA, 12, axis=0)
    whole = posterior.log_prob(many)
    np.testing.assert_array_equal(whole, posterior.log_prob(many[::-1])[::-1])
    np.testing.assert_array_equal(whole[::12], [posterior.log_prob(one)[0] for one in THETA])
    step = posterior.log_prob(THETA + 1e-6) - whole[::12]
    assert 0.0 < np.abs(step).max() < 1e-4
    other = Posterior(Drawn(), Likelihood(replace(posterior.likelihood.terms[0], simulation=Simulation(60, 8))))
    assert np.abs(other.log_prob(THETA) - whole[::12]).min() > 1e-3
    assert posterior.log_prob(np.array([[5.0, -1.0]])) == -np.inf


def test_predictions_are_draws_of_the_model_with_noise(posterior):
    """4000 predictions at one vector have the mean power of the sky and its noise: 1 to 2 %, 5 sigma."""
    (data,) = posterior.draw(np.repeat(THETA[:1], 4000, axis=0), rng=np.random.default_rng(1))
    ell = np.array([1, 2, 3])
    expected = (10**0.2 * ell**-1.5 + 0.05) * 2 * ell / (2 * ell + 1)
    np.testing.assert_allclose(data.mean(0), expected, rtol=0.08)
    assert len(np.unique(data[:, 0])) == 4000


def test_the_discrepancy_ranks_data_by_how_far_off_they_are(posterior):
    (term,), (sky,) = posterior.likelihood.terms, posterior.skies(THETA[:1])
    usual = (10**0.2 * np.array([1, 2, 3]) ** -1.5 + 0.05) * 0.8
    far = [discrepancy(term, sky, NONE[:1], usual * factor)[0] for factor in (1e-3, 1.0, 1e3)]
    assert far[0] > far[1] + 5
    assert far[2] > far[1] + 5


def test_number_and_seed_of_the_draws_are_part_of_what_is_fitted(posterior):
    (told,) = posterior.description["simulation"]
    assert told == {"draws": 60, "seed": 7, "independent": 0, "lmax": 0, "exponent": 0.25}
    found = obsfit.run_importance(posterior, rng=np.random.default_rng(1), effective_size=100)
    assert found.provenance["simulation"] == [told]
    ordinary = DipoleTerm(dipole(10.0, 0.1), DipoleScatter.none())
    plain = Posterior(obsfit.load_model("compton-getting"), Likelihood(ordinary))
    assert "simulation" not in plain.description


# ---- refusals


def test_too_many_numbers_for_the_draws_are_refused():
    with pytest.raises(ConfigurationError, match="19 independent draws do not tell the covariance of 5 numbers"):
        SimulatedTerm((spectrum(), dipole(10.0, 0.1)), Simulation(400, 1, independent=19))
    SimulatedTerm((spectrum(), dipole(10.0, 0.1)), Simulation(20, 1))


def test_a_power_of_zero_is_refused():
    with pytest.raises(ConfigurationError, match="toy-10 l=2: the power is 0"):
        SimulatedTerm((spectrum(c_ell=[1.0, 0.0, 1.0]),), Simulation(100, 1))


@pytest.mark.parametrize(("wrong", "complaint"), [({"draws": 1}, "draws = 1"), ({"seed": -1}, "seed = -1"),
                                                  ({"independent": 41}, "at most the 40 draws"),
                                                  ({"exponent": 1.5}, "exponent = 1.5")])  # fmt: skip
def test_settings_out_of_range_are_refused(wrong, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Simulation(**{"draws": 40, "seed": 1, **wrong})


class Besides(Drawn):
    def c_ell(self, theta, rigidity_tv, lmax):
        raise AssertionError("not to be asked")


class Short(Drawn):
    def draws(self, theta, rigidity_tv, lmax, size, *, rng):
        return super().draws(theta, rigidity_tv, lmax - 1, size, rng=rng)


class Narrow(Drawn):
    def draws(self, theta, rigidity_tv, lmax, size, *, rng):
        raise ModelDomainError("lmax 3: too large", expected="at most 2", remedy="Ask for less.")


@pytest.mark.parametrize(("model", "error", "complaint"), [
    (Besides(), ConfigurationError, "offers draws and a Gaussian sky"),
    (Short(), PluginError, r"draws returned shape \(1, 1, 1, 6\)"),
    (Narrow(), ConfigurationError, r"(?s)lmax 3: too large.*at most 2.*Ask for less.*simulation.lmax"),
    (obsfit.load_model("relative-diffusion"), ConfigurationError, r"(?s)offers no draws.*leave out \[simulation\]"),
])  # fmt: skip
def test_models_that_cannot_be_simulated_are_refused_before_anything_is_fitted(model, error, complaint):
    with pytest.raises(error, match=complaint):
        Posterior(model, Likelihood(SimulatedTerm((spectrum(),), Simulation(40, 1))))


def test_a_likelihood_of_moments_is_refused_and_the_way_out_is_named():
    with pytest.raises(
        ConfigurationError, match=r"(?s)no likelihood is known.*\[simulation\] with draws and seed"
    ):
        Posterior(Drawn(), Likelihood(spectrum()))


def test_a_sky_without_draws_is_refused():
    term = SimulatedTerm((spectrum(),), Simulation(40, 1))
    with pytest.raises(ValueError, match="expected a sky of draws"):
        term.log_prob(exact_sky(THETA, 3), NONE)


# ---- configurations, and the page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The configuration of the page, as a file."""
    text = PAGE.read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("fit") / "fit.toml"
    path.write_text(re.search(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1], encoding="utf-8")
    return path


def test_the_fit_of_the_page_learns_of_the_gradient_what_is_told_and_of_angles_nothing(page, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", str(page), "--json"])
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in told["parameters"]}
    assert rows["log10_gradient"]["median"] == pytest.approx(-3.83, abs=0.15)
    assert rows["log10_gradient"]["sd"] == pytest.approx(0.31, abs=0.1)
    # the angles keep their priors: standard deviations of a sine, of a cosine and of uniform laws
    for name, sd in (("gradient_angle", 0.68), ("field_declination", 0.68), ("gradient_roll", 1.81)):
        assert rows[name]["sd"] == pytest.approx(sd, rel=0.25)
    stored = WeightedSamples.load(page.parent / "fit" / "fit.h5")
    (simulated,) = stored.provenance["simulation"]
    assert (simulated["draws"], simulated["seed"], simulated["independent"]) == (40, 1, 28)
    assert (page.parent / "fit" / "predictive.png").read_bytes().startswith(b"\x89PNG")


def test_the_program_of_the_page_prints_what_is_told(capsys):
    text = PAGE.read_text(encoding="utf-8")
    code, printed = re.search(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ).groups()
    exec(compile(code, "page", "exec"), {})
    assert capsys.readouterr().out == printed


def changed(page, old, new):
    text = page.read_text(encoding="utf-8")
    assert old in text
    path = page.with_name("changed.toml")
    path.write_text(text.replace(old, new), encoding="utf-8")
    return load_configuration(path, FitConfiguration)


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("draws = 40", "draws = 40\nrealisations = 2", "realisations"),
    ("independent = 28", "independent = 12", "12 independent draws do not tell the covariance of 5 numbers"),
    ("energy_spread = false", "energy_spread = true", r"(?s)none of the library.*energy_spread = false"),
    ("lmax = 12", "lmax = 0", r"(?s)the library ends at l = 12.*simulation.lmax limits"),
    ('"19.12 pc"', '"10 pc"', r"(?s)rigidity .* TV is none of the library.*2775 TV"),
    ("[simulation]", '[priors.declination_weight]\ndistribution = "normal"\nmean = 0.0\nsd = 1.0\n[simulation]',
     "no nuisance declination_weight"),
    ("[simulation]", '[priors.log10_noise]\ndistribution = "uniform"\nlow = 0.0\nhigh = 1.0\n[simulation]',
     "prior for unknown parameter 'log10_noise'"),
])  # fmt: skip
def test_configurations_that_cannot_be_simulated_say_why(page, old, new, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        configured_posterior(changed(page, old, new), base=page.parent)


def test_without_its_section_the_configuration_is_refused_and_the_section_named(page):
    configuration = replace(changed(page, "draws = 40", "draws = 41"), simulation=None)
    with pytest.raises(ConfigurationError, match=r"(?s)no likelihood is known.*\[simulation\]"):
        configured_posterior(configuration, base=page.parent)


def test_independent_skies_are_simulated_one_by_one(page):
    """Each data set has its own law; the sum of their densities is what the two have alone."""
    configuration = changed(page, "schema = 1", "schema = 1\nassume_independent_skies = true")
    whole = configured_posterior(configuration, base=page.parent)
    assert [len(term.data) for term in whole.likelihood.terms] == [3, 2]
    theta = np.array([[-3.8, 1.0, 2.0, 0.3, 1.0]])
    alone = [Posterior(whole.model, Likelihood(term)).log_prob(theta) for term in whole.likelihood.terms]
    prior = whole.log_prior(theta)
    assert whole.log_prob(theta)[0] == pytest.approx(float(sum(alone)[0] - prior[0]), rel=1e-12)
