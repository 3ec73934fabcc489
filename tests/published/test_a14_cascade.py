"""Numbers of Fig. 1 of A14 and of its equations (13) and (20), with the errata that the code relies on."""

import mpmath as mp
import numpy as np
import pytest
from obsfit_models.cascade import asymptotic_ratio, cascade_power, hierarchical_generator, leaked_power


def printed_bateman(ell, nu_t):
    """Eq. (20) as printed, the exponential inside the product over p."""
    nu = [mp.mpf(n * (n + 1)) for n in range(1, ell + 1)]
    total = mp.mpf(0)
    for n in range(ell):
        total += mp.fprod(mp.exp(-nu[n] * nu_t) / (nu[p] - nu[n]) for p in range(ell) if p != n)
    return mp.mpf(3) / (2 * ell + 1) * mp.fprod(nu[:-1]) * total


@pytest.mark.parametrize(
    ("nu_t", "ratios"),
    [
        (0.1, {2: 0.0989, 3: 0.01646, 5: 1.07e-3, 10: 1.29e-5}),
        (1.0, {2: 0.2945, 3: 0.1247, 5: 0.03718, 10: 6.08e-3}),
    ],
)
def test_fig_1(nu_t, ratios):
    power = cascade_power(nu_t, 20)
    for ell, ratio in ratios.items():
        # half a unit of the last digit given
        assert power[ell] / power[1] == pytest.approx(ratio, rel=5e-3)


def test_fig_1_asymptote_eq_21():
    ratio = asymptotic_ratio(20)
    np.testing.assert_allclose(ratio[[2, 3, 10]], [3 / 10, 9 / 70, 18 / 2772], rtol=1e-14)
    np.testing.assert_allclose(ratio[[2, 3, 5, 10]], [0.3, 0.1286, 0.03896, 6.49e-3], rtol=1e-3)
    ell = np.arange(1, 21)
    np.testing.assert_allclose(ratio[1:], 18 / ((2 * ell + 1) * (ell + 2) * (ell + 1)), rtol=1e-13)


def test_fig_1_at_nu_t_of_1_is_near_the_asymptote():
    power = cascade_power(1.0, 20)
    shortfall = 1 - power[1:] / power[1] / asymptotic_ratio(20)[1:]
    assert 0.015 < shortfall[1] < 0.02
    assert 0.07 < shortfall[19] < 0.08
    assert np.all(np.diff(shortfall) > 0)


def test_correction_to_the_asymptote():
    """1 - 5 (l - 1)/(l + 3) exp(-4 nu T) + O(exp(-10 nu T)): 0.9817 for l = 2 at nu T = 1."""
    ratio = cascade_power([1.0, 2.0], 10)
    correction = ratio[:, 1:] / ratio[:, 1:2] / asymptotic_ratio(10)[1:]
    assert correction[0, 1] == pytest.approx(0.9817, abs=5e-5)
    ell = np.arange(1, 11)
    expected = 1 - 5 * (ell - 1) / (ell + 3) * np.exp(-8.0)
    # the next term is 14 exp(-20) at most
    np.testing.assert_allclose(correction[1], expected, rtol=0, atol=14 * np.exp(-20.0))


def test_e1_the_exponential_stands_outside_the_product():
    """As printed the dipole does not decay and the quadrupole violates Eq. (19)."""
    assert float(printed_bateman(1, 0.5)) == 1.0
    assert cascade_power(0.5, 2)[1] == pytest.approx(np.exp(-1.0), rel=1e-13)
    # for l = 2 the printed form happens to be right; l = 3 has exponents 2 nu_n T
    assert abs(float(printed_bateman(3, 0.5)) / cascade_power(0.5, 3)[3] - 1) > 0.5


def test_e1_the_solution_satisfies_eq_19():
    """Central differences of the solution against the right-hand side written out by hand."""
    step, nu_t, ell = 1e-5, 0.3, np.arange(0, 9)
    slope = (cascade_power(nu_t + step, 8) - cascade_power(nu_t - step, 8)) / (2 * step)
    power, nu = cascade_power(nu_t, 8), ell * (ell + 1.0)
    right = -nu * power
    right[2:] += nu[1:-1] * (2 * ell[1:-1] + 1) / (2 * ell[2:] + 1) * power[1:-1]
    # the third derivative is of the order of nu_8^3 C_8
    np.testing.assert_allclose(slope, right, rtol=1e-5, atol=1e-8)


def test_e2_the_initial_condition_is_on_the_power_not_its_derivative():
    """C_2 starts at zero but grows at once, at the rate (3/5) nu_1: it is not dC_2/dt that starts at zero."""
    assert cascade_power(0.0, 3)[2] == 0.0
    assert cascade_power(1e-8, 3)[2] / 1e-8 == pytest.approx(6 / 5, rel=1e-6)


def test_e6_the_sum_of_all_multipoles_is_not_conserved():
    """Eq. (13) holds for nu T << 1 only: the chain reaches infinite l in a finite time."""
    kept = 1 - leaked_power([0.1, 1.0, 5.0])
    assert 1 - kept[0] == pytest.approx(1 - 0.99999999653, rel=2e-3)
    assert kept[1] == pytest.approx(0.39366, abs=5e-6)
    assert kept[2] == pytest.approx(1.362e-4, rel=5e-4)
    # at late times the total is 9 C_1, that is 3 exp(-2 nu T) of the initial 3 C_1
    assert kept[2] == pytest.approx(3 * np.exp(-10.0), rel=1e-8)


def test_e6_because_the_mean_time_to_infinity_is_finite():
    """The mean time of passage to l = n is the sum of 1/nu_l, 1 - 1/(n + 1) in units of 1/nu."""
    rates = np.arange(1, 51) * (np.arange(1, 51) + 1.0)
    dwell = np.linalg.solve(-hierarchical_generator(rates), np.eye(50)[0])
    assert dwell.sum() == pytest.approx(1 - 1 / 51, rel=1e-12)
