"""Fits of IceCube on one sky, and the naive answer beside the right one: their pieces against other routes."""

import importlib.util
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from scipy import special, stats

import obsfit
from obsfit.infer import predictive_p_value

FOLDER = Path(__file__).parents[2] / "analyses/fits"


def analysis(name):
    spec = importlib.util.spec_from_file_location(f"one_sky_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def naive_beside():
    return analysis("naive_beside_right")


@pytest.fixture(scope="module")
def one_sky():
    return analysis("one_sky_icecube")


@pytest.fixture(scope="module")
def record():
    return obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)


def test_the_naive_term_by_hand(naive_beside, record):
    """A top-hat below -25 degrees, 1.883e11 events (from the table), C_l of Eq. (77) of AM17 at p = 1/2 by hand."""
    posterior = naive_beside.single(record)
    theta = np.array([[-6.0, 0.5, 0.0]])
    fraction = (1 - np.sin(np.radians(25))) / 2
    ell = np.array([1, 2, 3, 4, 6, 11, 20])
    # int x P_l (1-x)^(-1/2) dx from int P_l (1-x)^(-1/2) dx = 2 sqrt 2 / (2l + 1)
    both = (ell / (2 * ell - 1) + (ell + 1) / (2 * ell + 3)) / (2 * ell + 1)
    power = both * 2 / (ell * (ell + 1)) / both[0]
    expected = 0.0
    for one, c, shape in zip(ell, record.c_ell, power, strict=True):
        level = 1e-6 * shape + 4 * np.pi * fraction / 1.883e11
        deviation = np.sqrt(2 * level**2 / ((2 * one + 1) * fraction))
        expected += -0.5 * ((c / fraction - level) / deviation) ** 2 - np.log(
            np.sqrt(2 * np.pi) * deviation * fraction
        )
    found = naive_beside.log_likelihood(posterior, "naive", record.c_ell, theta)
    assert found[0] == pytest.approx(expected, rel=1e-9)


def test_independent_points_are_gamma_laws_of_the_drawn_moments(naive_beside, record):
    """Moments from 40 000 draws, the gamma density written out: errors of 1 % in the variance, 7 points."""
    posterior = naive_beside.single(record)
    theta = np.array([[-6.0, 0.4, 0.0]])
    (drawn,) = posterior.draw(np.repeat(theta, 40_000, axis=0), rng=np.random.default_rng(3))
    mean, variance = drawn.mean(0), drawn.var(0)
    k, scale = mean**2 / variance, variance / mean
    x = record.c_ell
    expected = np.sum((k - 1) * np.log(x) - x / scale - special.gammaln(k) - k * np.log(scale))
    found = naive_beside.log_likelihood(posterior, "independent", x, theta)
    assert found[0] == pytest.approx(expected, abs=0.3)


def test_one_entry_of_the_table_by_another_grid(naive_beside, record):
    """The joint posterior of p at 24 TeV summed over other nodes, with the median by interpolation."""
    rows, _ = naive_beside.at_single_energies((record,))
    row = next(row for row in rows if row["method"] == "joint")
    posterior = naive_beside.single(record)
    p = np.linspace(0.03, 0.97, 48)
    c1 = np.linspace(-8.0, -4.0, 40)
    weight = np.linspace(-3.0, 3.0, 9)
    theta = np.array([[a, b, c] for b in p for a in c1 for c in weight])
    log_prob = posterior.log_prob(theta)
    density = np.exp(log_prob - log_prob.max()).reshape(48, -1).sum(1)
    below = np.cumsum(density) - 0.5 * density
    assert row["median"] == pytest.approx(np.interp(0.5 * density.sum(), below, p), abs=0.01)
    assert row["p97.5"] == pytest.approx(np.interp(0.975 * density.sum(), below, p), abs=0.02)


def test_mocks_of_the_naive_answer_hold_the_truth_too_seldom(naive_beside):
    """20 mocks at 13 TeV: 95 % intervals of the joint law hold 16 or more (false alarm 3e-3)."""
    record = obsfit.load_spectrum("icecube-2025", energy=13 * u.TeV)
    ranks = naive_beside.mock_ranks(record, number=20, seed=5)
    held = naive_beside.holding(ranks)
    share = dict(zip(held["method"], held["95"], strict=True))
    assert share["joint"] >= 0.8
    assert share["naive"] < share["joint"]


def test_changing_diffusion_without_change_is_relative_diffusion(one_sky):
    """Zero running and curvature; amplitudes are quoted at 100 TV instead of 10 TV."""
    rigidity = np.geomspace(4.0, 2e4, 9)
    plain = obsfit.load_model("relative-diffusion", rigidity_dependence=True)
    expected = plain.c_ell(np.array([[-6.0, 0.4, 0.5, -0.2]]), rigidity, 12)
    found = one_sky.ChangingDiffusion().c_ell(np.array([[-5.5, 0.4, 0.5, -0.2, 0.0, 0.0]]), rigidity, 12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_predictive_p_values_of_one_sky_are_even_for_true_skies(one_sky, record):
    """At a known truth the p-value of data drawn from it is uniform: 100 data sets, Kolmogorov-Smirnov at 1e-3.

    Data a thousand times fainter than the law says are found, although the density of their powers is larger.
    """
    case = one_sky.single(record)
    theta = np.array([[-6.0, 0.4, 0.0]])
    rng = np.random.default_rng(4)
    (drawn,) = case.posterior.draw(np.repeat(theta, 100, axis=0), rng=rng)
    many = np.repeat(theta, 200, axis=0)

    def p_value(data):
        (sky,), (nuisance,) = case.posterior.skies(many), case.posterior.nuisances(many)
        (repeated,) = case.posterior.draw(many, rng=rng)
        here = case.term.log_prob_of(data, sky, nuisance) + np.log(data).sum()
        return np.mean(case.term.log_prob_of(repeated, sky, nuisance) + np.log(repeated).sum(1) <= here)

    assert stats.kstest([p_value(data) for data in drawn], "uniform").pvalue > 1e-3
    bright = np.repeat([[-3.0, 0.4, 0.0]], 200, axis=0)
    assert predictive_p_value(case.posterior, bright, rng=rng) < 0.05


def test_a_multipole_is_left_out(one_sky, record):
    rest = one_sky.without(record, 6)
    assert rest.ell.tolist() == [1, 2, 3, 4, 11, 20]
    np.testing.assert_array_equal(rest.c_ell, np.delete(record.c_ell, 4))
    assert rest.measurement == record.measurement


def test_a_quick_fit_and_its_row(one_sky, record):
    """The summary of a fit of one energy: the median from its own weighted samples, sorted here."""
    case = one_sky.single(record)
    fit = one_sky.fit(case, seed=1, size=100.0, repeats=50)
    table = one_sky.summary((fit,))
    order = np.argsort(fit.samples.theta[:, 1])
    below = np.cumsum(fit.samples.weight[order])
    median = fit.samples.theta[order, 1][np.searchsorted(below, 0.5)]
    assert one_sky.value(table, record.measurement, "exponent", "median") == pytest.approx(median, abs=0.03)
    assert 0.1 < median < 0.6
    assert 0.05 < one_sky.value(table, record.measurement, "exponent", "predictive_p") <= 1.0
