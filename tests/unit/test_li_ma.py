"""Li-Ma and Poisson significance: closed forms in many digits, limits, weights, refusals."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, poisson

from obsfit.statistics.li_ma import li_ma_significance, poisson_significance


def li_ma_in_many_digits(n_on, n_off, alpha):
    """Eq. (17) of Li and Ma as printed, with 60 digits."""
    with mpmath.workdps(60):
        on, off, a = mpmath.mpf(n_on), mpmath.mpf(n_off), mpmath.mpf(alpha)
        total = on + off
        inside = mpmath.mpf(0)
        if on:
            inside += on * mpmath.log((1 + a) / a * on / total)
        if off:
            inside += off * mpmath.log((1 + a) * off / total)
        return float(mpmath.sign(on - a * off) * mpmath.sqrt(2 * inside))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1e-3, 1e2))
def test_small_counts_against_the_printed_formula(n_on, n_off, alpha):
    expected = li_ma_in_many_digits(n_on, n_off, alpha)
    # The excess itself is a difference of numbers of the size of the counts.
    rounding = 1e-15 * (n_on + alpha * n_off) / max(1.0, np.sqrt(n_on + alpha**2 * n_off))
    assert li_ma_significance(n_on, n_off, alpha) == pytest.approx(expected, rel=1e-12, abs=10 * rounding + 1e-300)


@pytest.mark.parametrize("relative", [-1e-4, -1e-6, 3e-6, 1e-5, 0.019, 0.021, 0.5, 2.0])
def test_counts_of_1e12_keep_their_digits(relative):
    """The logarithms of the printed formula lose ten digits here; those of small and large x meet at 0.02."""
    n_off, alpha = 2.0**40, 0.25
    n_on = np.round(alpha * n_off * (1 + relative))
    expected = li_ma_in_many_digits(n_on, n_off, alpha)
    assert li_ma_significance(n_on, n_off, alpha) == pytest.approx(expected, rel=1e-13)


def test_exchange_of_on_and_off_changes_the_sign():
    assert li_ma_significance(70.0, 40.0, 0.8) == pytest.approx(-li_ma_significance(40.0, 70.0, 1.25), rel=1e-14)


def test_no_excess_is_zero_and_signs_follow():
    values = li_ma_significance([50.0, 60.0, 40.0, 0.0], [100.0, 100.0, 100.0, 0.0], 0.5)
    assert values[0] == 0.0
    assert values[1] > 0.0 > values[2]
    assert values[3] == 0.0


def test_first_order_is_eq_4_of_am17():
    """S = sqrt(N_on / (1 + alpha)) dI; the next order is the size of dI."""
    n_off, alpha, delta_i = 1e9, 0.05, 1e-4
    n_on = alpha * n_off * (1 + delta_i)
    first_order = np.sqrt(n_on / (1 + alpha)) * delta_i
    assert li_ma_significance(n_on, n_off, alpha) == pytest.approx(first_order, rel=1e-3)
    assert li_ma_significance(n_on, n_off, alpha) != pytest.approx(first_order, rel=1e-6)


def test_an_endless_off_region_is_a_known_background():
    n, background = 130.0, 100.0
    known = float(poisson_significance(n, background))
    for alpha in (1e-2, 1e-4, 1e-6):
        found = float(li_ma_significance(n, background / alpha, alpha))
        assert found == pytest.approx(known, rel=1.0 * alpha)


def test_known_background_in_many_digits():
    for n, b in ((0.0, 3.0), (5.0, 3.0), (1e9 + 5e4, 1e9), (1e9 - 2e7, 1e9), (7.0, 1e-3)):
        with mpmath.workdps(50):
            x, y = mpmath.mpf(n), mpmath.mpf(b)
            inside = (x * mpmath.log(x / y) if n else 0) - x + y
            expected = float(mpmath.sign(x - y) * mpmath.sqrt(2 * inside))
        assert poisson_significance(n, b) == pytest.approx(expected, rel=1e-13)


def test_tail_of_poisson_counts():
    """The chance of an excess of 3 sigma among exact Poisson counts: within the half count that a step is wide."""
    background = 2000.0
    n = np.arange(2000, 2300)
    first = n[poisson_significance(n, background) >= 3.0][0]
    assert poisson.sf(first, background) < norm.sf(3.0) < poisson.sf(first - 2, background)


@given(st.floats(0.1, 100.0))
def test_a_common_weight_changes_nothing(weight):
    plain = li_ma_significance(120.0, 400.0, 0.2)
    weighted = li_ma_significance(
        120.0 * weight, 400.0 * weight, 0.2, squared_on=120.0 * weight**2, squared_off=400.0 * weight**2
    )
    assert weighted == pytest.approx(plain, rel=1e-12)


def test_weighted_events_have_unit_variance():
    """Weights of a gamma law, on and off without an excess: 4000 trials give the variance of S to 2.2 %.

    False alarm 6e-7 (5 sigma). Without the sums of squares the variance would be mean(w^2) / mean(w) = 1.5.
    """
    rng = np.random.default_rng(11)
    values, naive = [], []
    for _ in range(4000):
        on = rng.gamma(2.0, 0.5, rng.poisson(400))
        off = rng.gamma(2.0, 0.5, rng.poisson(1600))
        naive.append(float(li_ma_significance(on.sum(), off.sum(), 0.25)))
        values.append(
            float(
                li_ma_significance(on.sum(), off.sum(), 0.25, squared_on=np.sum(on**2), squared_off=np.sum(off**2))
            )
        )
    assert np.var(values) == pytest.approx(1.0, abs=5 * np.sqrt(2 / 4000))
    assert np.mean(values) == pytest.approx(0.0, abs=5 / np.sqrt(4000))
    assert np.var(naive) > 1.3


def test_a_known_background_takes_the_variance_of_weighted_counts():
    assert poisson_significance(220.0, 200.0, squared=400.0) == pytest.approx(
        float(poisson_significance(110.0, 100.0)), rel=1e-14
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 2.0, 0.5), "n_on: -1.0"),
        ((1.0, np.nan, 0.5), "n_off: nan"),
        ((1.0, 2.0, 0.0), "use poisson_significance"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        li_ma_significance(*arguments)


def test_refusals_of_weights_and_backgrounds():
    with pytest.raises(ValueError, match="both or neither"):
        li_ma_significance(1.0, 2.0, 0.5, squared_on=1.0)
    with pytest.raises(ValueError, match="positive numbers where there are counts"):
        li_ma_significance(1.0, 2.0, 0.5, squared_on=0.0, squared_off=0.0)
    with pytest.raises(ValueError, match="background: expected positive"):
        poisson_significance(1.0, 0.0)
    with pytest.raises(ValueError, match="squared: expected positive"):
        poisson_significance(1.0, 1.0, squared=0.0)
