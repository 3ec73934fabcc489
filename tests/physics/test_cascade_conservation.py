import mpmath as mp
import numpy as np
import pytest
from obsfit_models.cascade import cascade_power, evolve, hierarchical_generator, leaked_power, markov_generator


def test_early_times_are_one_jump_after_the_other():
    """C_l -> 3 l! (nu T)^(l - 1) / (2 l + 1); the next order is nu T (l + 1)(l + 2)/3 of it."""
    nu_t = 1e-9
    power = cascade_power(nu_t, 6)
    for ell in range(1, 7):
        leading = 3 * mp.factorial(ell) * mp.mpf(nu_t) ** (ell - 1) / (2 * ell + 1)
        correction = 1 - nu_t * (ell + 1) * (ell + 2) / 3
        assert power[ell] == pytest.approx(float(leading * correction), rel=1e-14)


def test_a_closed_top_conserves_the_power():
    rates = np.arange(1, 31) * (np.arange(1, 31) + 1.0)
    y = evolve(hierarchical_generator(rates, closed=True), np.eye(30)[0], [1e-3, 0.1, 3.0, 50.0])
    np.testing.assert_allclose(y.sum(axis=1), 1.0, rtol=1e-13)
    assert y[-1, -1] == pytest.approx(1.0, rel=1e-13)


def test_an_open_top_changes_no_multipole_below_it():
    """Power moves upwards only, so a longer chain predicts the same C_l."""
    np.testing.assert_allclose(cascade_power(0.3, 12), cascade_power(0.3, 60)[:13], rtol=1e-13)


def test_a_closed_two_way_chain_conserves_and_forgets():
    """Detailed balance: with rates w_j from any i to j, the late state is w over its sum."""
    weight = np.array([1.0, 2.0, 3.0, 10.0])
    generator = markov_generator(np.tile(weight, (4, 1)))
    y = evolve(generator, [1.0, 0.0, 0.0, 0.0], 100.0)
    np.testing.assert_allclose(y, weight / weight.sum(), rtol=1e-13)


def test_solutions_compose():
    generator = markov_generator(np.random.default_rng(2).uniform(size=(5, 5)), leak=[0.1, 0.2, 0.3, 0.4, 0.5])
    start = np.array([0.2, 0.1, 0.0, 0.4, 0.3])
    np.testing.assert_allclose(
        evolve(generator, evolve(generator, start, 0.4), 1.1), evolve(generator, start, 1.5), rtol=1e-13
    )


@pytest.mark.parametrize("nu_t", [0.02, 0.1, 0.7, 0.9999, 1.0001, 5.0, 30.0])
def test_leaked_power_against_the_alternating_series(nu_t):
    """1 - sum of (-1)^(n - 1) (2 n + 1) exp(-n (n + 1) nu T) in 200 digits, against the product of Jacobi."""
    with mp.workdps(200):
        series = mp.nsum(
            lambda n: (-1) ** int(n) * (2 * n + 1) * mp.exp(-n * (n + 1) * mp.mpf(nu_t)), [0, 300], method="d"
        )
    assert float(leaked_power(nu_t)) == pytest.approx(float(series), rel=1e-12)


def test_the_truncated_chain_has_lost_more_and_converges():
    endless = float(leaked_power(1.0))
    truncated = np.array([float(leaked_power(1.0, lmax)) for lmax in (10, 20, 40, 80)])
    assert np.all(np.diff(truncated) < 0)
    # What is missing is the tail 18 C_1 / (lmax + 2) of the asymptotic spectrum, up to corrections of a few percent
    # that are nearly the same for both.
    np.testing.assert_allclose(
        (truncated[2:] - endless) / (truncated[1:-1] - endless), [22 / 42, 42 / 82], rtol=0.01
    )
    kept = cascade_power(1.0, 20)[1:] * (2 * np.arange(1, 21) + 1) / 3
    assert kept.sum() + truncated[1] == pytest.approx(1.0, rel=1e-13)


def test_the_endless_sum_from_the_multipoles_themselves():
    """Sum (2 l + 1) C_l over l <= 100 plus the tail of the asymptotic form is 1 minus the leak."""
    ell = np.arange(1, 101)
    power = cascade_power(3.0, 100)[1:]
    tail = power[0] * 18 / 102  # the sum of 18 / [(l + 1)(l + 2)] from l = 101
    total = (np.sum((2 * ell + 1) * power) + tail) / 3
    # corrections to the asymptotic form are 5 exp(-12) = 3e-5 of the tail, which is a fifth of the total
    assert total == pytest.approx(1 - float(leaked_power(3.0)), rel=1e-4)
