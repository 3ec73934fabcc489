"""The look-elsewhere effect against what is exact for independent trials."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, multivariate_normal, norm

from obsfit.statistics.trials import effective_trials, global_probability, sidak_probability


@given(st.floats(1e-3, 0.5), st.integers(1, 300))
def test_independent_trials(p, n):
    """1 - (1 - p)^n is the chance of at least one success."""
    assert sidak_probability(p, n) == pytest.approx(binom.sf(0, n, p), rel=1e-10)


def test_small_chances_keep_their_digits():
    assert sidak_probability(1e-30, 1000) == pytest.approx(1e-27, rel=1e-12)
    np.testing.assert_array_equal(sidak_probability([0.0, 1.0], 7), [0.0, 1.0])


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
def test_the_bound_holds_for_correlated_gaussians(correlation):
    """Three equally correlated normals: exact by the multivariate normal integral; independent ones reach it."""
    threshold = 1.5
    covariance = correlation + (1 - correlation) * np.eye(3)
    exact = 1 - multivariate_normal(np.zeros(3), covariance).cdf(np.full(3, threshold))
    bound = float(sidak_probability(norm.sf(threshold), 3))
    if correlation == 0.0:
        assert exact == pytest.approx(bound, rel=1e-4)
    else:
        assert exact < bound * (1 - 0.1 * correlation)


@given(st.floats(1e-6, 0.3), st.floats(1.0, 1e3))
def test_effective_trials_are_the_inverse(p, n):
    anywhere = float(sidak_probability(p, n))
    if anywhere < 1 - 1e-6:
        assert effective_trials(p, anywhere) == pytest.approx(n, rel=1e-6)


def test_toys_of_independent_places_give_the_exact_chance():
    """2000 toys of the largest of 50 normals: the chance is known to 1.1 % absolute; false alarm 6e-7 (5 sigma)."""
    rng = np.random.default_rng(5)
    maxima = rng.normal(size=(2000, 50)).max(axis=1)
    for observed in (2.0, 2.5, 3.0):
        exact = float(sidak_probability(norm.sf(observed), 50))
        found = global_probability(observed, maxima)
        assert found.p_value == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 2000) + 1 / 2000)
        assert found.low < found.p_value < found.high


def test_the_p_value_is_uniform_without_a_signal():
    """With n toys P(p <= k / (n + 1)) is exactly k / (n + 1): the observed one has any rank with equal chance.

    4000 searches with 19 toys; chi-square of the 20 ranks, false alarm 1e-4.
    """
    from scipy.stats import chi2

    rng = np.random.default_rng(8)
    values = rng.normal(size=(4000, 20))
    ranks = [round(global_probability(row[0], row[1:]).p_value * 20) for row in values]
    counts = np.bincount(ranks, minlength=21)[1:]
    assert counts.sum() == 4000
    assert np.sum((counts - 200) ** 2 / 200) < chi2.isf(1e-4, 19)


def test_interval_of_clopper_and_pearson():
    """Its ends are where the observed number is as rare as a one-sided sigma, by binomial sums."""
    found = global_probability(1.0, np.r_[np.zeros(90), np.full(10, 2.0)])
    assert (found.reached, found.n_toys, found.p_value) == (10, 100, 11 / 101)
    assert binom.sf(9, 100, found.low) == pytest.approx(norm.sf(1.0), rel=1e-9)
    assert binom.cdf(10, 100, found.high) == pytest.approx(norm.sf(1.0), rel=1e-9)
    none, every = global_probability(9.0, np.zeros(50)), global_probability(-1.0, np.zeros(50))
    assert none.low == 0.0
    assert none.p_value == 1 / 51
    assert every.high == 1.0
    assert every.p_value == 1.0
    assert norm.sf(none.significance) == pytest.approx(1 / 51)


def test_refusals():
    with pytest.raises(ValueError, match="expected finite numbers"):
        global_probability(1.0, [])
    with pytest.raises(ValueError, match="expected finite numbers"):
        global_probability(1.0, [np.nan])
    with pytest.raises(ValueError, match="expected probabilities"):
        sidak_probability(1.1, 3)
    with pytest.raises(ValueError, match="at least 1"):
        sidak_probability(0.1, 0.5)
    with pytest.raises(ValueError, match="in \\(0, 1\\)"):
        effective_trials(0.1, 1.0)
