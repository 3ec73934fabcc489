"""Priors: densities against scipy's own, draws inside the support, a plain error for what is no prior."""

import numpy as np
import pytest
from scipy import stats

from obsfit.errors import ConfigurationError
from obsfit.parameters import Parameter, draw_prior, log_density, log_prior

PRIORS = [
    stats.uniform(-1.0, 3.0), stats.uniform(loc=-1.0, scale=3.0), stats.norm(2.0, 0.5), stats.norm(scale=2.0),
    stats.halfnorm(scale=0.7), stats.halfnorm(0.2, 0.7), stats.beta(2.0, 3.0), stats.truncnorm(-1, 2, loc=0.3),
]  # fmt: skip


@pytest.mark.parametrize("prior", PRIORS)
def test_densities_are_those_of_scipy(prior):
    x = np.r_[np.linspace(-3, 4, 301), -1.0, 2.0, 0.0, 0.2]
    np.testing.assert_allclose(log_density(prior)(x), prior.logpdf(x), rtol=1e-13, atol=1e-13)


def test_densities_add_and_vanish_outside():
    parameters = [Parameter("a", PRIORS[0]), Parameter("b", PRIORS[2])]
    theta = np.array([[0.5, 2.2], [2.5, 2.2]])
    expected = [PRIORS[0].logpdf(0.5) + PRIORS[2].logpdf(2.2), -np.inf]
    np.testing.assert_allclose(log_prior(parameters, theta), expected)


def test_draws_lie_in_the_support_and_repeat():
    parameters = [Parameter(str(i), prior) for i, prior in enumerate(PRIORS)]
    one = draw_prior(parameters, 50, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(one, draw_prior(parameters, 50, rng=np.random.default_rng(1)))
    assert np.isfinite(log_prior(parameters, one)).all()


def test_what_is_no_distribution_is_refused():
    with pytest.raises(TypeError, match=r"prior of p: 3 has no logpdf; expected a frozen scipy\.stats"):
        Parameter("p", 3)


TURN = 2.0 * np.pi


@pytest.mark.parametrize(
    ("prior", "period", "circular"),
    [
        (stats.uniform(0.0, TURN), TURN, True), (stats.uniform(-3.0, 360.0), 360.0, True),
        (stats.uniform(0.0, 6.283), TURN, True), (stats.uniform(0.0, TURN), None, False),
        (stats.uniform(0.0, 3.0), TURN, False), (stats.norm(0.0, 1.0), TURN, False),
    ],
)  # fmt: skip
def test_circular_is_a_period_and_a_prior_that_is_flat_all_around(prior, period, circular):
    assert Parameter("phase", prior, period=period).circular is circular


@pytest.mark.parametrize(
    ("prior", "period", "said"),
    [
        (stats.uniform(0.0, 2.0 * TURN), TURN, "prior of phase: uniform over 12.5664"),
        (stats.uniform(0.0, 1.0), 0.0, "period of phase: 0.0"),
        (stats.uniform(0.0, 1.0), np.inf, "period of phase: inf"),
    ],
)
def test_periods_that_make_no_sense_are_refused(prior, period, said):
    with pytest.raises(ConfigurationError, match=said):
        Parameter("phase", prior, period=period)
