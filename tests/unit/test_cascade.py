import mpmath as mp
import numpy as np
import pytest
from obsfit_models.cascade import (
    HierarchicalCascade,
    asymptotic_ratio,
    cascade_power,
    evolve,
    hierarchical_generator,
    leaked_power,
    markov_generator,
)

from obsfit.errors import ModelDomainError
from obsfit.parameters import draw_prior


def bateman(ell, nu_t, rates):
    """Eq. (20) of A14 in 500 digits, each exponential outside its product; rates in units of nu, all different."""
    with mp.workdps(500):
        nu = [mp.mpf(rate) for rate in rates[:ell]]
        total = mp.mpf(0)
        for n in range(ell):
            gaps = [nu[p] - nu[n] for p in range(ell) if p != n]
            total += mp.exp(-nu[n] * mp.mpf(nu_t)) / mp.fprod(gaps)
        return mp.mpf(3) / (2 * ell + 1) * mp.fprod(nu[:-1]) * total


@pytest.mark.parametrize("nu_t", [1e-4, 1e-3, 0.01, 0.1, 1.0, 7.0, 50.0])
def test_cascade_against_500_digits(nu_t):
    """The alternating sum loses up to 240 digits here; 1e-12 is what rounding in double precision allows."""
    rates = [ell * (ell + 1) for ell in range(1, 101)]
    power = cascade_power(nu_t, 100)
    for ell in (1, 2, 3, 5, 8, 13, 21, 34, 55, 80, 100):
        assert power[ell] == pytest.approx(float(bateman(ell, nu_t, rates)), rel=1e-12)


def test_other_rates_against_500_digits():
    rates = [1.0, 0.4, 3.7, 3.7001, 12.0, 0.9]
    power = cascade_power(0.8, 6, rates)
    for ell in range(1, 7):
        # two rates that agree to 3e-5 leave the double-precision sum of Eq. (20) with few digits
        assert power[ell] == pytest.approx(float(bateman(ell, 0.8, rates)), rel=1e-12)


def test_equal_rates_are_a_poisson_process():
    ell = np.arange(1, 31)
    expected = [3 / (2 * n + 1) * mp.mpf("2.5") ** (n - 1) * mp.exp("-2.5") / mp.factorial(n - 1) for n in ell]
    power = cascade_power(2.5, 30, np.ones(30))
    np.testing.assert_allclose(power[1:], np.array(expected, dtype=float), rtol=1e-12)


def test_a_matrix_with_all_couplings_against_mpmath():
    rng = np.random.default_rng(3)
    transitions = rng.uniform(0, 5, (6, 6))
    start = rng.uniform(size=6)
    for leak in (np.zeros(6), rng.uniform(0, 1, 6)):
        generator = markov_generator(transitions, leak=leak)
        with mp.workdps(40):
            exact = mp.expm(mp.matrix(generator.tolist()) * mp.mpf("0.7")) * mp.matrix(start.tolist())
        np.testing.assert_allclose(evolve(generator, start, 0.7), [float(v) for v in exact], rtol=1e-12)


def test_the_general_initial_spectrum_is_a_sum_of_chains():
    """A chain that starts at l = 3 is Eq. (20) with shifted rates."""
    initial = np.array([0.5, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0])
    power = cascade_power(0.2, 6, initial=initial)
    shifted = [ell * (ell + 1) for ell in range(3, 7)]
    for ell in range(3, 7):
        # bateman divides by 2 l + 1 of the shifted chain and starts with 3
        chain = bateman(ell - 2, 0.2, shifted) * (2 * (ell - 2) + 1) / 3
        assert power[ell] == pytest.approx(float(2.0 * 7 * chain / (2 * ell + 1)), rel=1e-12)
    np.testing.assert_array_equal(power[:3], [0.5, 0.0, 0.0])


def test_shapes_follow_the_times():
    assert cascade_power(np.ones((2, 3)), 4).shape == (2, 3, 5)
    assert leaked_power(np.ones((2, 3)), 4).shape == (2, 3)
    np.testing.assert_array_equal(cascade_power(0.0, 3), [0.0, 1.0, 0.0, 0.0])


def test_general_asymptotic_ratio():
    rates = np.array([1.0, 2.5, 9.0, 4.0])
    late = cascade_power(30.0, 4, rates)
    # the next mode has decayed by exp(-1.5 * 30) = 3e-20 against the dipole
    np.testing.assert_allclose(late[1:] / late[1], asymptotic_ratio(4, rates)[1:], rtol=1e-12)


def test_the_model_against_the_exact_chain():
    """The table of the fit path, at points that are none of its nodes; the measured error is 4e-12."""
    rng = np.random.default_rng(5)
    log_nu_t = np.concatenate([rng.uniform(-3.0, 1.75, 60), [-3.0, -2.0, 1.7, 1.75, 3.0]])
    theta = np.column_stack([rng.uniform(-10, -4, log_nu_t.size), log_nu_t])
    for lmax in (1, 2, 40, 100):
        exact = cascade_power(10.0 ** np.minimum(log_nu_t, 2.0), lmax)
        exact *= 10.0 ** theta[:, :1] / exact[:, 1:2]
        predicted = HierarchicalCascade().c_ell(theta, np.array([10.0]), lmax)[:, 0, 0]
        np.testing.assert_allclose(predicted[:, 1:], exact[:, 1:], rtol=1e-9)
        assert np.all(predicted[:, 0] == 0)


def test_the_model_is_positive_over_its_prior_and_the_same_at_all_rigidities():
    model = HierarchicalCascade()
    theta = draw_prior(model.parameters, 2000, rng=np.random.default_rng(11))
    corners = [
        [low, high] for low in model.parameters[0].prior.support() for high in model.parameters[1].prior.support()
    ]
    power = model.c_ell(np.concatenate([theta, corners]), np.array([1.0, 10.0]), 40)
    assert power.shape == (2004, 2, 2, 41)
    assert np.all(np.isfinite(power))
    assert np.all(power[..., 1:] > 0)
    np.testing.assert_array_equal(power[:, 0, 1], power[:, 1, 1])
    np.testing.assert_allclose(power[:2000, 0, 0, 1], 10.0 ** theta[:, 0], rtol=1e-11)


def test_refusals_name_the_value():
    with pytest.raises(ValueError, match=r"rate -1.0"):
        markov_generator([[0.0, -1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="power is not created"):
        evolve([[1.0]], [1.0], 1.0)
    with pytest.raises(ValueError, match="make it with markov_generator"):
        evolve([[-1.0, -0.1], [0.0, 0.0]], [1.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="time -1"):
        cascade_power(-1.0, 3)
    with pytest.raises(ValueError, match="lmax 0"):
        cascade_power(1.0, 0)
    with pytest.raises(ValueError, match=r"expected \(3,\) for l = 1 ... 3"):
        cascade_power(1.0, 3, [1.0, 2.0])
    with pytest.raises(ModelDomainError, match=r"rate 1\.0 of l = 2 does not exceed"):
        asymptotic_ratio(3, [1.0, 1.0, 2.0])
    with pytest.raises(ModelDomainError, match=r"log10_nu_t -5\.0 is below"):
        HierarchicalCascade().c_ell(np.array([[-7.0, -5.0]]), np.array([1.0]), 5)
    with pytest.raises(ModelDomainError, match="log10_nu_t nan"):
        HierarchicalCascade().c_ell(np.array([[-7.0, np.nan]]), np.array([1.0]), 5)
    assert hierarchical_generator([2.0, 3.0], closed=True)[1, 1] == 0.0
