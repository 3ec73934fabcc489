"""Surrogates as densities: integrals, margins, inverses, files and refusals; by quadrature, scipy and scikit-learn."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from scipy import integrate, linalg, optimize, stats
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from obsfit.emulate.surrogate import (
    Surrogate,
    choose_degree,
    fit_surrogate,
    read_surrogate,
    surrogate_errors,
    write_surrogate,
)
from obsfit.emulate.surrogate_density import inverse_spline, spline
from obsfit.emulate.training import TrainingSet
from obsfit.errors import DataFormatError, ModelDomainError

THETA = np.array([[0.3, 1.1]])


def a_surrogate(n_rep=3, n_data=3, seed=1):
    """One with skewed shapes, scales that vary and correlated scores, of no training set."""
    rng = np.random.default_rng(seed)
    scores = np.array([-1.5, -0.4, 0.5, 1.7])
    knots = np.cumsum(rng.uniform(0.3, 1.5, (n_rep, n_data, 4)), axis=2) - 2.0
    tails = np.broadcast_to([[0.0, 1.0], [0.4, 0.0], [2.0, 0.7]][:n_data], (n_rep, n_data, 2)).copy()
    correlation = correlations(rng, n_rep, n_data)
    return Surrogate(
        names=("x", "angle"), labels=tuple("abcde"[:n_data]),
        features={"x": ("identity",), "angle": ("cos", "sin^2")},
        domain=np.array([[-1.0, 0.0], [1.0, 3.0]]), centre=np.array([0.1, 0.0, 0.5]), spread=np.array([0.6, 0.7, 0.4]),
        exponents=np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 1]]),
        mean=0.5 * rng.normal(size=(n_rep, 5, n_data)), log_scale=0.2 * rng.normal(size=(n_rep, 5, n_data)),
        knots=knots, scores=scores, slopes=rng.uniform(0.4, 2.5, (n_rep, n_data, 4)), tails=tails,
        correlation=correlation[:, None], configuration={"degree": 2},
    )  # fmt: skip


def correlations(rng, n_rep, n_data):
    mixed = rng.normal(size=(n_rep, n_data, n_data + 2))
    product = mixed @ np.swapaxes(mixed, 1, 2)
    width = np.sqrt(np.einsum("rii->ri", product))
    correlation = product / width[:, :, None] / width[:, None, :]
    for one in correlation:
        np.fill_diagonal(one, 1.0)
    return 0.5 * (correlation + np.swapaxes(correlation, 1, 2))


def changing(surrogate, along="x", nodes=3, seed=31):
    """The same with correlations that differ from node to node of a parameter."""
    rng, n_data = np.random.default_rng(seed), len(surrogate.labels)
    further = [correlations(rng, surrogate.replicates, n_data)[:, None] for _ in range(nodes - 1)]
    return dataclasses.replace(
        surrogate, correlation_along=along, correlation=np.concatenate([surrogate.correlation, *further], axis=1)
    )


def straight(surrogate):
    """The same with maps that change nothing."""
    return dataclasses.replace(
        surrogate,
        knots=np.broadcast_to(surrogate.scores, surrogate.knots.shape).copy(),
        slopes=np.ones_like(surrogate.slopes),
        tails=np.ones_like(surrogate.tails),
    )


def a_training_set(n_group=24, size=12, seed=2):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_group), size)
    theta = rng.uniform([-1.0, 0.0], [1.0, 3.0], (group.size, 2))
    effect = rng.normal(size=(n_group, 2))[group]
    noise = 0.4 * rng.normal(size=(group.size, 2)) * np.exp(0.5 * theta[:, :1])
    values = theta @ np.array([[1.0, -0.4], [0.3, 0.8]]) + effect + noise
    return TrainingSet(("x", "angle"), theta, ("a", "b"), values, group)


def density(surrogate, *columns):
    values = np.stack([np.ravel(column) for column in columns], axis=1)
    return np.exp(surrogate.log_density(THETA, values)).reshape(np.shape(columns[0]))


# ---------------------------------------------------------------- the density


def gauss(edge, order):
    """Nodes and weights of Gauss-Legendre quadrature between many edges."""
    node, weight = np.polynomial.legendre.leggauss(order)
    half = np.diff(edge)[:, None] / 2
    return (edge[:-1, None] + half * (1 + node)).ravel(), (half * weight).ravel()


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_the_density_of_one_datum_integrates_to_one_with_its_tails(label):
    one = a_surrogate().marginal([label])
    # The slope of the density jumps at the knots of each replicate: pieces end there.
    kinks = np.concatenate([one.quantiles(THETA, score).ravel() for score in one.scores])
    y, weight = gauss(np.sort(np.concatenate([np.linspace(-200.0, 200.0, 4001), kinks])), 6)
    assert weight @ density(one, y) == pytest.approx(1.0, abs=1e-9)


def test_the_density_of_two_data_integrates_to_one_and_its_margin_is_the_integral_of_the_joint():
    two = a_surrogate().marginal(["c", "a"])
    edge, weight = gauss(np.sinh(np.linspace(-5.3, 5.3, 121)), 4)
    y, z = np.meshgrid(edge, edge, indexing="ij")
    joint = density(two, y, z)
    assert weight @ joint @ weight == pytest.approx(1.0, abs=1e-3)
    seen = np.abs(edge) < 3
    for label, integral in (("c", joint @ weight), ("a", weight @ joint)):
        np.testing.assert_allclose(integral[seen], density(two.marginal([label]), edge[seen]), rtol=1e-2)


def test_with_straight_maps_it_is_the_normal_law_of_scipy():
    base = a_surrogate(n_rep=1)
    x, cos, sin2 = (0.3 - 0.1) / 0.6, np.cos(1.1) / 0.7, (np.sin(1.1) ** 2 - 0.5) / 0.4
    phi = np.array([1.0, x, cos, sin2, x**2 * sin2])
    centre, scale = phi @ base.mean[0], np.exp(phi @ base.log_scale[0])
    law = stats.multivariate_normal(centre, np.outer(scale, scale) * base.correlation[0, 0])
    values = law.rvs(50, random_state=3) * 3
    np.testing.assert_allclose(straight(base).log_density(THETA, values), law.logpdf(values), rtol=1e-10)
    mean, sd = straight(base).mean_and_sd(THETA)
    np.testing.assert_allclose((mean[0], sd[0]), (centre, scale), rtol=1e-10)


@pytest.mark.parametrize(
    ("x", "shares"),
    [
        (-1.0, (1.0, 0.0, 0.0)), (-0.2, (0.2, 0.8, 0.0)), (0.0, (0.0, 1.0, 0.0)), (0.7, (0.0, 0.3, 0.7)),
        (1.0, (0.0, 0.0, 1.0)), (1.1, (0.0, 0.0, 1.0)),
    ],
)  # fmt: skip
def test_a_correlation_that_changes_is_that_of_each_place(x, shares):
    """Densities, margins, conditional densities and draws, beside the normal law of scipy; 1.1 is beyond the end."""
    one = changing(straight(a_surrogate(n_rep=1)))
    one = dataclasses.replace(one, mean=0 * one.mean, log_scale=0 * one.log_scale)
    here = np.einsum("k,kij->ij", shares, one.correlation[0])
    law = stats.multivariate_normal(np.zeros(3), here)
    theta, values = [[x, 1.1]], 1.5 * law.rvs(30, random_state=3)
    np.testing.assert_allclose(one.log_density(theta, values), law.logpdf(values), rtol=1e-9)
    np.testing.assert_allclose(one.correlations(theta)[0, 0], here, rtol=1e-12)
    two = stats.multivariate_normal(np.zeros(2), here[:2, :2])
    np.testing.assert_allclose(
        one.marginal(["a", "b"]).log_density(theta, values[:, :2]), two.logpdf(values[:, :2])
    )
    given = one.conditional_log_density(theta, values, labels=["c"], given=["a", "b"])
    np.testing.assert_allclose(given, law.logpdf(values) - two.logpdf(values[:, :2]), rtol=1e-8)
    direction = np.array([[1.0, -2.0, 0.5]])
    width = np.sqrt(direction[0] @ here @ direction[0])
    projected = stats.norm.cdf(values @ direction.T / width)
    np.testing.assert_allclose(one.projected_pit(theta, values, direction), projected, rtol=1e-8)
    drawn = one.draw(np.repeat(theta, 40_000, axis=0), rng=np.random.default_rng(5))
    # Six errors of a covariance of 40 000 draws.
    np.testing.assert_allclose(np.cov(drawn.T), here, atol=6 * np.sqrt(2 / 40_000))


def test_one_call_may_hold_many_places_of_a_changing_correlation():
    s = changing(a_surrogate())
    theta = np.stack([np.linspace(-1.1, 1.1, 40), np.linspace(0.2, 2.9, 40)], axis=1)
    values = np.random.default_rng(8).normal(size=(40, 3))
    each = [s.log_density(t, v)[0] for t, v in zip(theta, values, strict=True)]
    np.testing.assert_allclose(s.log_density(theta, values), each, rtol=1e-12)
    same = dataclasses.replace(s, correlation=np.repeat(s.correlation[:, :1], 2, axis=1))
    np.testing.assert_allclose(
        same.log_density(theta, values), a_surrogate().log_density(theta, values), rtol=1e-10
    )


def test_the_density_of_one_datum_is_the_derivative_of_its_distribution_function():
    one = a_surrogate().marginal(["b"])
    y, h = np.linspace(-6, 6, 121)[:, None] + 0.0123, 1e-5
    slope = (one.pit(THETA, y + h) - one.pit(THETA, y - h))[:, 0] / (2 * h)
    np.testing.assert_allclose(np.exp(one.log_density(THETA, y)), slope, rtol=1e-5, atol=1e-9)


def test_the_joint_density_is_the_gaussian_copula_of_its_margins():
    one = a_surrogate().replicate(1)
    values = one.draw(np.repeat(THETA, 40, axis=0), rng=np.random.default_rng(4))
    score = stats.norm.ppf(one.pit(THETA, values))
    copula = stats.multivariate_normal(np.zeros(3), one.correlation[0, 0]).logpdf(score)
    copula -= stats.norm.logpdf(score).sum(axis=1)
    margins = sum(one.marginal([k]).log_density(THETA, values[:, [i]]) for i, k in enumerate("abc"))
    np.testing.assert_allclose(one.log_density(THETA, values), copula + margins, rtol=1e-8)


def test_the_mixture_is_the_mean_of_the_densities_of_its_replicates():
    whole, values = a_surrogate(), np.random.default_rng(5).normal(size=(20, 3))
    each = [np.exp(whole.replicate(r).log_density(THETA, values)) for r in range(3)]
    np.testing.assert_allclose(np.exp(whole.log_density(THETA, values)), np.mean(each, axis=0), rtol=1e-12)


def test_a_conditional_density_is_joint_over_margin():
    whole, values = a_surrogate(), np.array([0.2, -0.5, 0.9])
    found = whole.conditional_log_density(THETA, values, labels=["c"], given=["a", "b"])
    assert found == pytest.approx(
        whole.log_density(THETA, values) - whole.marginal(["a", "b"]).log_density(THETA, values[:2])
    )
    y = np.linspace(-40, 40, 40001)
    along = whole.conditional_log_density(
        THETA, np.stack([0 * y + 0.2, 0 * y - 0.5, y], axis=1), labels=["c"], given=["a", "b"]
    )
    assert integrate.trapezoid(np.exp(along), y) == pytest.approx(1.0, abs=1e-6)


def test_maps_rise_are_smooth_and_are_inverted_exactly():
    s = a_surrogate()
    knots, slopes, tails = s.knots[0], s.slopes[0], s.tails[0]
    residual = np.sort(np.random.default_rng(6).normal(scale=4, size=(5000, 3)), axis=0)
    score, slope = spline(residual, knots, s.scores, slopes, tails)
    assert np.all(np.diff(score, axis=0) >= 0)
    np.testing.assert_allclose(inverse_spline(score, knots, s.scores, slopes, tails), residual, atol=1e-9)
    h = 1e-6
    numerical = (
        spline(residual + h, knots, s.scores, slopes, tails)[0]
        - spline(residual - h, knots, s.scores, slopes, tails)[0]
    )
    np.testing.assert_allclose(slope, numerical / (2 * h), rtol=1e-4)
    at, there = spline(knots.T.copy(), knots, s.scores, slopes, tails)
    np.testing.assert_allclose(at, np.repeat(s.scores[:, None], 3, axis=1), atol=1e-12)
    np.testing.assert_allclose(there, slopes.T, rtol=1e-12)


def test_mean_and_width_are_integrals_of_the_density():
    one = a_surrogate().marginal(["a"])
    y = np.linspace(-60, 60, 120001)
    p = density(one, y)
    mean = integrate.trapezoid(y * p, y)
    sd = np.sqrt(integrate.trapezoid((y - mean) ** 2 * p, y))
    found = one.mean_and_sd(THETA)
    np.testing.assert_allclose((found[0][0, 0], found[1][0, 0]), (mean, sd), rtol=1e-5)


def test_quantiles_are_where_the_distribution_function_takes_their_value():
    s = a_surrogate()
    for score in (-2.5, 0.2, 1.0):
        values = s.quantiles(THETA, score)
        for r in range(3):
            np.testing.assert_allclose(s.replicate(r).pit(THETA, values[r]), stats.norm.cdf(score), rtol=1e-9)


# ---------------------------------------------------------------- learning


def test_mean_and_scale_are_those_of_other_programs():
    """The mean by the ridge regression of scikit-learn, the scale by the minimiser of scipy."""
    training = a_training_set()
    rng = np.random.default_rng(7)
    kept = rng.random(len(training.group)) < 0.7
    training = TrainingSet(
        training.names, training.theta[kept], training.labels, training.values[kept], training.group[kept]
    )
    s = fit_surrogate(training, degree=3, scale_degree=1, replicates=1, rng=rng)
    counts = np.bincount(training.group)
    weight = 1 / counts[training.group] / len(counts)
    standard = StandardScaler().fit_transform(training.theta)
    features = PolynomialFeatures(3, include_bias=False).fit_transform(standard)
    theirs = Ridge(alpha=0.1 / len(counts)).fit(features, training.values, sample_weight=weight)
    phi = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    np.testing.assert_allclose(phi @ s.mean[0], theirs.predict(features), atol=1e-8)

    # Residuals by the whole matrix that turns data into fitted values, its blocks of groups taken to the power -1/2.
    penalty = np.diag(np.r_[0.0, np.full(phi.shape[1] - 1, 0.1 / len(counts))])
    root = np.sqrt(weight)[:, None] * phi
    hat = root @ np.linalg.solve(root.T @ root + penalty, root.T)
    size = training.values[:, 0] - theirs.predict(features)[:, 0]
    for group in range(len(counts)):
        here = training.group == group
        left = np.eye(here.sum()) - hat[np.ix_(here, here)]
        size[here] = linalg.fractional_matrix_power(left, -0.5) @ size[here]
    size = np.abs(size)
    linear = phi[:, :3]

    def cost(b):
        log_scale = linear @ b
        return weight @ (log_scale + size * np.exp(-log_scale)) + 0.05 / len(counts) * (b[1] ** 2 + b[2] ** 2)

    best = optimize.minimize(cost, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13})
    np.testing.assert_allclose(s.log_scale[0, :3, 0], best.x, atol=1e-5)
    assert np.all(s.log_scale[0, 3:] == 0)


def test_a_changing_correlation_is_learnt_at_its_nodes():
    """Scores whose correlation rises from 0.1 to 0.7 at x = 0, then stays, and does not know of y: to 4 errors."""
    rng = np.random.default_rng(14)
    theta = rng.uniform(-1, 1, (20_000, 2))
    rho = 0.7 + 0.6 * np.minimum(theta[:, 0], 0.0)
    first, other = rng.normal(size=(2, 20_000))
    values = np.stack([first, rho * first + np.sqrt(1 - rho**2) * other], axis=1)
    training = TrainingSet(("x", "y"), theta, ("a", "b"), values, np.arange(20_000))
    s = fit_surrogate(training, degree=0, replicates=1, correlation_along="x", rng=rng)
    np.testing.assert_allclose(s.correlation[0, :, 0, 1], [0.1, 0.7, 0.7], atol=0.06)
    s = fit_surrogate(training, degree=0, replicates=1, correlation_along="y", rng=rng)
    np.testing.assert_allclose(s.correlation[0, :, 0, 1], 0.55, atol=0.06)


def test_the_tails_are_those_of_maximum_likelihood():
    """A datum that is exactly exponential in its tails: rate 2 above, 5 below, in units of the scale that is learnt."""
    rng = np.random.default_rng(13)
    score = rng.normal(size=(4000, 1))
    far = np.maximum(score**2 - 4.0, 0.0) / 2
    values = np.clip(score, -2.0, 2.0) + np.where(score > 0, far / 2.0, -far / 5.0)
    training = TrainingSet(("x",), rng.uniform(-1, 1, (4000, 1)), ("a",), values, np.arange(4000))
    s = fit_surrogate(training, degree=0, replicates=1, rng=rng)
    y = np.array([[2.0], [2.5], [-2.0], [-2.2]])
    density = s.log_density([[0.0]], y)
    # Beyond the knots the logarithm falls by u_0 d e + ln(u/u_0); 90 residuals tell the rate to 1/sqrt(90): 3 errors.
    assert density[0] - density[1] == pytest.approx(1.0 + 0.5 * np.log(1 + 2 / 4), rel=0.33)
    assert density[2] - density[3] == pytest.approx(1.0 + 0.5 * np.log(1 + 2 / 4), rel=0.33)
    assert np.all(s.tails == 0.0)


def test_the_order_of_simulations_does_not_matter():
    training = a_training_set()
    shuffled = np.random.default_rng(8).permutation(len(training.group))
    other = TrainingSet(
        training.names,
        training.theta[shuffled],
        training.labels,
        training.values[shuffled],
        training.group[shuffled],
    )
    one, two = (fit_surrogate(t, replicates=3, rng=np.random.default_rng(9)) for t in (training, other))
    for name in ("mean", "log_scale", "knots", "slopes", "tails", "correlation", "centre"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    tables = [surrogate_errors(t, one, rng=np.random.default_rng(10)) for t in (training, other)]
    np.testing.assert_array_equal(tables[0]["ratio"], tables[1]["ratio"])


def test_each_group_counts_alike_however_many_simulations_it_has():
    """Each simulation of half of the groups twice, exactly: nothing may change, with or without replicates."""
    training = a_training_set()
    twice = np.concatenate([np.arange(len(training.group)), np.flatnonzero(training.group % 2)])
    doubled = TrainingSet(
        training.names, training.theta[twice], training.labels, training.values[twice], training.group[twice]
    )
    for replicates in (1, 2):
        one, two = (
            fit_surrogate(t, degree=1, replicates=replicates, rng=np.random.default_rng(9))
            for t in (training, doubled)
        )
        theta = training.theta[:20]
        np.testing.assert_allclose(one.quantiles(theta, 0.5), two.quantiles(theta, 0.5), atol=0.02)
        np.testing.assert_allclose(one.correlation, two.correlation, atol=0.01)


def test_replicates_have_the_mean_of_the_training_set():
    """Without parameters the centre is the mean of groups, linear in them: replicates are balanced, so it is kept."""
    training = a_training_set()
    one, many = (fit_surrogate(training, degree=0, replicates=n, rng=np.random.default_rng(3)) for n in (1, 5))
    assert np.std(many.mean[:, 0, 0]) > 0.05
    np.testing.assert_allclose(many.mean.mean(axis=0), one.mean[0], rtol=1e-12)


def test_the_degree_is_chosen_by_groups_that_were_held_out():
    rng = np.random.default_rng(11)
    group = np.repeat(np.arange(60), 10)
    theta = rng.uniform(-1, 1, (600, 2))
    values = (theta[:, :1] ** 2 + theta[:, :1] * theta[:, 1:]) * 2 + 0.3 * rng.normal(size=(60, 1))[group]
    training = TrainingSet(("x", "y"), theta, ("a",), values + 0.2 * rng.normal(size=(600, 1)), group)
    table = choose_degree(training, (1, 2, 5), rng=np.random.default_rng(1))
    assert list(table["features"]) == [3, 6, 21]
    assert table["degree"][np.argmax(table["log_density"])] == 2
    assert table["behind"][0] > 3 * table["error"][0]
    chosen = fit_surrogate(training, degree=(1, 2, 5), replicates=2, rng=np.random.default_rng(1))
    assert chosen.configuration["degree"] == 2


def test_features_of_a_parameter_stand_for_it():
    rng = np.random.default_rng(12)
    group = np.repeat(np.arange(30), 20)
    theta = rng.uniform(0, 2 * np.pi, (600, 1))
    values = np.cos(theta) + 1e-3 * rng.normal(size=(600, 1))
    training = TrainingSet(("angle",), theta, ("a",), values, group)
    s = fit_surrogate(training, degree=1, features={"angle": ("cos", "sin")}, replicates=2, rng=rng)
    at = np.linspace(0.5, 6.0, 20)[:, None]
    # What is left is the ridge: 0.1 / 30 groups of the coefficient.
    np.testing.assert_allclose(s.mean_and_sd(at)[0], np.cos(at), atol=4e-3)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("along", ["", "angle"])
def test_a_file_gives_back_every_bit(tmp_path, along):
    s = fit_surrogate(a_training_set(), replicates=2, correlation_along=along, rng=np.random.default_rng(1))
    write_surrogate(tmp_path / "s.h5", s, seed=1, data={"here": "0" * 64})
    found = read_surrogate(tmp_path / "s.h5")
    for field in dataclasses.fields(Surrogate):
        ours, theirs = getattr(s, field.name), getattr(found, field.name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs
    theta, values = a_training_set().theta, a_training_set().values
    np.testing.assert_array_equal(s.log_density(theta, values), found.log_density(theta, values))
    with pytest.raises(FileExistsError):
        write_surrogate(tmp_path / "s.h5", s)


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value(file) if callable(value) else value

    return change


def never_written(file):
    del file["mean"]
    file.create_dataset("mean", shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000))


def linked(file):
    """The very array that was there, in a whole file beside this one."""
    beside = file.filename.replace("s.h5", "other.h5")
    with h5py.File(beside, "w") as other:
        other["mean"] = file["mean"][()]
    del file["mean"]
    file["mean"] = h5py.ExternalLink(beside, "mean")


WHOLE = {
    "names": ["x", "angle"], "labels": ["a", "b", "c"],
    "features": {"x": ["identity"], "angle": ["cos", "sin^2"]},
}  # fmt: skip


def along(parameter):
    """The description of a whole file, but for the parameter along which the correlation changes."""
    return json.dumps(WHOLE | {"correlation_along": parameter})


def unknown_parameter(file):
    replace("correlation", np.repeat(file["correlation"][()], 3, axis=1))(file)
    replace("description", along("tilt"))(file)


SHAPE = a_surrogate().knots.shape
DAMAGES = {
    "other kind": lambda f: f.attrs.__setitem__("obsfit_format", "fit"),
    "other version": lambda f: f.attrs.__setitem__("format_version", 1),
    "no kind": lambda f: f.attrs.__delitem__("obsfit_format"),
    "no array": lambda f: f.__delitem__("knots"),
    "no description": lambda f: f.__delitem__("description"),
    "no text": replace("description", "not JSON {"),
    "list of nothing": replace("description", "[]"),
    "unknown function": replace("description", '{"names": ["x", "angle"], "labels": ["a", "b", "c"], "features": '
                                '{"x": ["eval"], "angle": ["cos", "sin^2"]}, "correlation_along": ""}'),
    "too few labels": replace("description", '{"names": ["x", "angle"], "labels": ["a", "b"], "features": '
                              '{"x": ["identity"], "angle": ["cos", "sin^2"]}, "correlation_along": ""}'),
    "one node along a parameter": replace("description", along("x")),
    "nodes along no parameter": replace("correlation", np.repeat(a_surrogate().correlation, 3, axis=1)),
    "nodes along an unknown parameter": unknown_parameter,
    "not a number": replace("mean", np.full((3, 5, 3), np.nan)),
    "other shape": replace("mean", np.zeros((3, 4, 3))),
    "whole numbers": replace("mean", np.zeros((3, 5, 3), dtype=int)),
    "text": replace("mean", "numbers"),
    "falling knots": replace("knots", -np.cumsum(np.ones(SHAPE), axis=2)),
    "tail below zero": replace("tails", np.full((3, 3, 2), -0.1)),
    "scores on one side": replace("scores", np.array([0.5, 1.0, 1.5, 2.0])),
    "slope of zero": replace("slopes", np.zeros(SHAPE)),
    "no correlation": replace("correlation", np.ones((3, 1, 3, 3))),
    "not symmetric": replace("correlation", np.eye(3) + np.triu(np.full((3, 1, 3, 3), 0.1), 1)),
    "negative power": replace("exponents", -np.ones((5, 3), dtype=int)),
    "huge power": replace("exponents", np.full((5, 3), 10**9)),
    "spread of zero": replace("spread", np.zeros(3)),
    "never written": never_written,
    "link elsewhere": linked,
    "group for an array": replace("scores", lambda f: f.create_group("other")),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_refused_with_one_clear_error(what, tmp_path):
    path = tmp_path / "s.h5"
    write_surrogate(path, a_surrogate())
    read_surrogate(path)
    with h5py.File(path, "r+") as file:
        DAMAGES[what](file)
    with pytest.raises(DataFormatError, match=r"s\.h5") as caught:
        read_surrogate(path)
    assert caught.value.expected


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "s.h5"
    with pytest.raises(DataFormatError, match="no such file"):
        read_surrogate(path)
    write_surrogate(path, a_surrogate())
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataFormatError, match="cannot be read as HDF5"):
            read_surrogate(path)


# ---------------------------------------------------------------- refusals


def test_parameters_outside_of_the_training_set_are_refused_by_name():
    s = a_surrogate()
    s.log_density([[1.15, 1.0]], np.zeros(3))
    for theta, name in (([[0.0, 1.0], [1.3, 1.0]], "x = 1.3"), ([[0.0, np.nan]], "angle = nan")):
        with pytest.raises(ModelDomainError, match=name):
            s.log_density(theta, np.zeros(3))
        with pytest.raises(ModelDomainError, match=name):
            s.draw(theta, rng=np.random.default_rng(1))


def test_what_does_not_fit_is_refused():
    s = a_surrogate()
    with pytest.raises(ValueError, match="expected \\(n_vec, 2\\)"):
        s.log_density(np.zeros((4, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="expected \\(3,\\)"):
        s.log_density(THETA, np.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        s.log_density(THETA, [0.0, np.inf, 0.0])
    with pytest.raises(ValueError, match="each once"):
        s.marginal(["a", "z"])
    with pytest.raises(ValueError, match="share"):
        s.conditional_log_density(THETA, np.zeros(3), labels=["a"], given=["a"])
    with pytest.raises(ValueError, match="expected \\(n_dir, 3\\)"):
        s.projected_pit(THETA, np.zeros(3), np.ones(2))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"replicates": 0}, "at least 1"),
        ({}, {"features": {"y": ("cos",)}}, "features of y"),
        ({}, {"features": {"x": ("tan",)}}, "features of x"),
        ({}, {"degree": 20}, "expected 0 <= scale_degree"),
        ({}, {"correlation_along": "y"}, "correlation_along = 'y'"),
        ({}, {"degree": 12, "replicates": 1, "features": {"x": ("identity", "cos")}}, "expected at most half"),
        ({}, {"degree": ()}, "no degree"),
        ({"group": np.repeat(np.arange(9), 32)}, {}, "9 groups: expected at least 10"),
        (
            {"theta": np.eye(150, 2), "values": np.eye(150, 2), "group": np.arange(150)},
            {},
            "150 simulations: expected at least 200",
        ),
        ({"values": np.ones((288, 2))}, {}, "a is the same in all simulations"),
    ],
)
def test_training_is_refused_before_it_begins(change, options, message):
    training = dataclasses.replace(a_training_set(), **change)
    with pytest.raises(ValueError, match=message):
        fit_surrogate(training, **options, rng=np.random.default_rng(1))


def test_errors_need_replicates_and_the_training_set_itself():
    training = a_training_set()
    one = fit_surrogate(training, replicates=1, rng=np.random.default_rng(1))
    with pytest.raises(ValueError, match="one replicate"):
        surrogate_errors(training, one, rng=np.random.default_rng(1))
    two = fit_surrogate(training, replicates=2, rng=np.random.default_rng(1))
    with pytest.raises(ValueError, match="names or labels differ"):
        surrogate_errors(dataclasses.replace(training, labels=("b", "a")), two, rng=np.random.default_rng(1))
