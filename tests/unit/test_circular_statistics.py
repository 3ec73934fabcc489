"""Chance lengths of random walks against Kluyver's integral and Monte Carlo; limits against closed forms."""

import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erfinv, j0, j1
from scipy.stats import norm, rice

from obsfit.statistics.circular import (
    amplitude_upper_limit,
    gaussian_chance_probability,
    isotropic_amplitude,
    rayleigh_probability,
)

WEIGHTS = [1.0, 2.0, 0.3, 0.7, 1.4, 0.9, 2.2, 1.1, 0.6, 1.7]


def kluyver(resultant, weights):
    """1 - r int J1(r t) prod J0(w t) dt, by adaptive quadrature in double precision."""

    def integrand(t):
        return j1(resultant * t) * np.prod(j0(np.array(weights) * t))

    parts = [quad(integrand, t, t + 1.0, epsabs=1e-14, epsrel=1e-11)[0] for t in range(100)]
    return 1.0 - resultant * sum(parts)


def kluyver_of_many_digits(resultant, n):
    """The same for equal weights in thirty digits: the integrand falls as t^(-n/2), to 1e-18 at t = 20 for n = 24."""
    with mp.workdps(30):
        r = mp.mpf(resultant)
        area = mp.quad(lambda t: mp.besselj(1, r * t) * mp.besselj(0, t) ** n, range(0, 22, 2))
        return float(1 - r * area)


def test_one_and_two_vectors():
    assert rayleigh_probability(0.9, n_events=1) == 1.0
    assert rayleigh_probability(1.1, n_events=1) == 0.0
    for length in (0.3, 1.0, 1.9):
        expected = 2.0 / np.pi * np.arccos(length / 2.0)
        assert rayleigh_probability(length, n_events=2) == pytest.approx(expected, rel=1e-12)
    assert rayleigh_probability(0.0, n_events=5) == 1.0
    assert rayleigh_probability(5.5, n_events=5) == 0.0


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20, 59, 60, 500])
def test_a_walk_of_n_steps_ends_within_one_step_with_probability_one_in_n_plus_one(n):
    """A theorem of Kluyver (1906) and Rayleigh, for any n of at least two."""
    assert rayleigh_probability(1.0, n_events=n) == pytest.approx(1.0 - 1.0 / (n + 1), abs=2e-9)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_weighted_walk_is_kluyvers_integral(share):
    """The integrand is cut at t = 100, where it has fallen to 1e-11."""
    length = share * sum(WEIGHTS)
    assert rayleigh_probability(length, weights=WEIGHTS) == pytest.approx(kluyver(length, WEIGHTS), rel=1e-7)


def test_many_events_become_exponential_with_the_known_correction():
    """Greenwood and Durand (1955): P = exp(-Z) (1 + (2 Z - Z^2)/4N + O(1/N^2))."""
    n = 100_000
    for z in (0.5, 3.0, 9.0):
        expected = np.exp(-z) * (1.0 + (2.0 * z - z**2) / (4.0 * n))
        assert rayleigh_probability(np.sqrt(z * n), n_events=n) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("n", "share"), [(24, 0.85), (24, 0.95), (40, 0.8)])
def test_far_tail_within_its_stated_error(n, share):
    exact = kluyver_of_many_digits(share * n, n)
    found = rayleigh_probability(share * n, n_events=n)
    assert exact < 1e-9
    assert found == pytest.approx(exact, rel=1.5 / n)


def test_series_and_saddle_point_meet():
    """Just above and below the probability where one takes over from the other."""
    n, z = 200, np.linspace(18.5, 22.0, 36)
    logs = np.log([rayleigh_probability(np.sqrt(x * n), n_events=n) for x in z])
    assert np.all(np.diff(logs) < 0.0)
    # A jump would stand out of the smooth second difference.
    assert np.max(np.abs(np.diff(logs, 2))) < 3e-3


def test_weighted_walk_against_simulation():
    """200 000 walks, probabilities 0.5 to 1e-3: pulls below 4, a false alarm in 1e-4 of seeds."""
    rng = np.random.default_rng(11)
    phases = rng.uniform(0.0, 2.0 * np.pi, (200_000, 7))
    weights = np.array([1.0, 0.2, 3.0, 0.5, 1.5, 0.9, 2.0])
    lengths = np.abs(np.exp(1j * phases) @ weights)
    for length in (2.5, 5.0, 7.0):
        expected = rayleigh_probability(length, weights=weights)
        found = np.mean(lengths >= length)
        assert abs(found - expected) < 4.0 * np.sqrt(expected * (1.0 - expected) / lengths.size)


def test_scale_and_zero_weights_do_not_matter():
    reference = rayleigh_probability(5.0, weights=WEIGHTS)
    assert rayleigh_probability(15.0, weights=3.0 * np.array(WEIGHTS)) == pytest.approx(reference, rel=1e-12)
    assert rayleigh_probability(5.0, weights=[*WEIGHTS, 0.0]) == pytest.approx(reference, rel=1e-12)


def test_gaussian_probability_of_two_components():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    vector = np.array([1.5, -1.0])
    expected = np.exp(-0.5 * vector @ np.linalg.inv(covariance) @ vector)
    assert gaussian_chance_probability(vector, covariance) == pytest.approx(expected, rel=1e-12)


def test_isotropic_amplitude_is_that_of_auger():
    """r_99 = sqrt(4 ln 100 / N) for the Rayleigh amplitude, whose components have sigma = sqrt(2/N)."""
    n = 5000
    assert isotropic_amplitude(np.sqrt(2.0 / n), 0.99) == pytest.approx(
        np.sqrt(4.0 * np.log(100.0) / n), rel=1e-12
    )


def test_limits_without_signal_have_closed_forms():
    for level in (0.9, 0.95, 0.99):
        half_normal = np.sqrt(2.0) * erfinv(level)
        assert amplitude_upper_limit(0.0, 2.0, level) == pytest.approx(2.0 * half_normal, rel=1e-9)
        rayleigh = np.sqrt(-2.0 * np.log(1.0 - level))
        found = amplitude_upper_limit(0.0, 2.0, level, method="uniform-components")
        assert found == pytest.approx(2.0 * rayleigh, rel=1e-9)
        assert amplitude_upper_limit(0.0, 2.0, level, method="neyman") == 0.0


@pytest.mark.parametrize("method", ["uniform-amplitude", "uniform-components", "neyman"])
def test_limits_far_from_zero_are_gaussian(method):
    """With curvature of order sigma^2 / 2a: 0.005 at a = 100."""
    found = amplitude_upper_limit(100.0, 1.0, 0.95, method=method)
    assert found == pytest.approx(100.0 + norm.isf(0.05), abs=0.011)


def test_limits_by_brute_force():
    """Posterior and frequentist limits for a = 1.7 by sums over a fine grid of the density of Rice."""
    s = np.linspace(0.0, 12.0, 240_001)
    density = rice.pdf(1.7, s)
    for method, prior in (("uniform-amplitude", 1.0), ("uniform-components", s)):
        cumulative = np.cumsum(density * prior)
        expected = s[np.searchsorted(cumulative, 0.95 * cumulative[-1])]
        assert amplitude_upper_limit(1.7, 1.0, 0.95, method=method) == pytest.approx(expected, abs=2e-4)
    limit = amplitude_upper_limit(1.7, 1.0, 0.95, method="neyman")
    assert rice.cdf(1.7, limit) == pytest.approx(0.05, rel=1e-8)


def test_neyman_limit_covers():
    """20 000 measurements of a true amplitude 1.5 sigma: coverage 95 % within 4 binomial errors (6e-5)."""
    rng = np.random.default_rng(5)
    amplitudes = np.hypot(1.5 + rng.normal(size=20_000), rng.normal(size=20_000))
    limits = np.array([amplitude_upper_limit(a, 1.0, 0.95, method="neyman") for a in amplitudes])
    assert np.mean(limits >= 1.5) == pytest.approx(0.95, abs=4.0 * np.sqrt(0.95 * 0.05 / 20_000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rayleigh_probability(1.0), "expected one of the two"),
        (lambda: rayleigh_probability(1.0, n_events=2, weights=[1.0]), "expected one of the two"),
        (lambda: rayleigh_probability(-1.0, n_events=2), "not negative"),
        (lambda: rayleigh_probability(1.0, n_events=0), "at least one"),
        (lambda: rayleigh_probability(1.0, weights=[1.0, -1.0]), "none negative"),
        (lambda: gaussian_chance_probability([1.0, 2.0], np.zeros((2, 2))), "positive"),
        (lambda: gaussian_chance_probability([1.0, 2.0], np.eye(3)), "expected"),
        (lambda: amplitude_upper_limit(1.0, 0.0, 0.9), "sigma > 0"),
        (lambda: amplitude_upper_limit(1.0, 1.0, 1.9), "between 0 and 1"),
        (lambda: amplitude_upper_limit(1.0, 1.0, 0.9, method="other"), "neyman"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
