"""The saddlepoint density against exact laws, plain linear algebra and its own symmetries."""

import numba
import numpy as np
import pytest
from scipy import special, stats

from obsfit.errors import ConfigurationError
from obsfit.infer.saddlepoint import Block, draw, log_density, moments


def one_power(variance, copies, *, mean=None, coefficient=1.0):
    """A block of one mode at each of several variances."""
    variance = np.atleast_1d(np.asarray(variance, dtype=float))
    mean = None if mean is None else np.broadcast_to(mean, (variance.size, copies, 1)).astype(float)
    return Block(np.array([0]), np.array([coefficient]), variance[:, None, None], copies, mean)


def at(points, index, coefficient, covariance, copies):
    """Log densities at many points (n_point, n) of one law: powers are fixed at 1, and modes are scaled."""
    scale = np.sqrt(1.0 / points[:, index])
    block = Block(index, coefficient, scale[:, :, None] * covariance * scale[:, None, :], copies)
    n = points.shape[1]
    return log_density(np.ones(n), [block], reading=np.zeros(n)) - np.log(points).sum(axis=1)


def several_blocks(rng, *, n_vec=3, with_mean=True):
    """Blocks of all kinds over four powers: repeated indices, one copy and three, with and without a mean."""
    blocks = []
    for index, copies, shifted in (
        ([0, 1, 2, 3], 2, False),
        ([0, 1, 1, 3, 3], 1, True),
        ([2], 3, True),
        ([3, 0], 2, True),
    ):
        k = len(index)
        a = rng.normal(size=(n_vec, k, k + 2))
        mean = rng.normal(size=(n_vec, copies, k)) if shifted and with_mean else None
        blocks.append(Block(np.array(index), rng.uniform(0.2, 2.0, k), a @ a.swapaxes(1, 2), copies, mean))
    return blocks


def reference(power, blocks, reading, vector):
    """Log density of one vector by dense algebra on 1 - 2 V D, with Newton steps that only halve."""
    n = power.size

    def derivatives(t):
        value, first, second = (
            0.5 * np.sum(reading**2 * t**2) - t @ power,
            reading**2 * t - power,
            np.diag(reading**2),
        )
        for block in blocks:
            v, c = block.covariance[vector], block.coefficient
            d = np.diag(c * t[block.index])
            left = np.eye(c.size) - 2.0 * v @ d
            # 1 - 2 V D has the eigenvalues of a symmetric matrix: all must be positive
            if np.linalg.eigvals(left).real.min() <= 0.0:
                return np.inf, None, None
            g = np.linalg.solve(left, v)
            value -= 0.5 * block.copies * np.linalg.slogdet(left)[1]
            one, two = block.copies * np.diag(g), 2.0 * block.copies * g**2
            for b in np.zeros((0, c.size)) if block.mean is None else block.mean[vector]:
                mu = np.linalg.solve(left, b)
                value += b @ d @ mu
                one, two = one + mu**2, two + 4.0 * np.outer(mu, mu) * g
            choose = c[:, None] * (block.index[:, None] == np.arange(n))
            first, second = first + one @ choose, second + choose.T @ two @ choose
        return value, first, second

    t = np.zeros(n)
    value, first, second = derivatives(t)
    for _ in range(200):
        step = -np.linalg.solve(second, first)
        while derivatives(t + step)[0] > value + 1e-12:
            step = 0.5 * step
        t = t + step
        value, first, second = derivatives(t)
        if np.max(np.abs(first) / np.sqrt(np.diag(second))) < 1e-12:
            break
    return value - 0.5 * np.linalg.slogdet(2.0 * np.pi * second)[1]


@pytest.mark.parametrize("k", range(1, 11))
def test_gamma_laws_are_exact_but_for_stirlings_constant(k):
    """Of k squares: shape k / 2. The constant is that of Stirling's formula for Gamma(k / 2)."""
    power = np.geomspace(0.01, 30.0, 9)
    mine = [
        log_density(np.array([p]), [one_power(0.3, k, coefficient=2.0)], reading=np.zeros(1))[0] for p in power
    ]
    excess = mine - stats.gamma(k / 2, scale=1.2).logpdf(power)
    a = k / 2
    stirling = special.gammaln(a) - ((a - 0.5) * np.log(a) - a + 0.5 * np.log(2.0 * np.pi))
    np.testing.assert_allclose(excess, stirling, atol=1e-10)
    assert np.ptp(excess) < 1e-10
    assert stirling == pytest.approx(1.0 / (12.0 * a), rel=0.09)


def test_sums_of_exponentials_with_unequal_rates():
    """Two copies of three modes of unequal variance: partial fractions. The ratio moves by 4.6 %."""
    mean = np.array([1.0, 0.45, 0.2])
    block = Block(np.zeros(3, int), np.ones(3), 0.5 * np.diag(mean)[None], 2)
    rate = 1.0 / mean
    weight = [np.prod([other / (other - own) for other in rate if other != own]) for own in rate]
    power = np.linspace(0.2, 6.0, 30)
    exact = np.log(sum(w * r * np.exp(-r * power) for w, r in zip(weight, rate, strict=True)))
    mine = np.array([log_density(np.array([p]), [block], reading=np.zeros(1))[0] for p in power])
    assert 0.01 < (mine - exact).min() < (mine - exact).max() < 0.081  # two degrees of freedom, or more
    assert np.ptp(mine - exact) < 0.05


@pytest.mark.parametrize(("k", "shift", "moves"), [(1, 2.5, 0.15), (2, 2.0, 0.075), (4, 1.5, 0.03)])
def test_noncentral_chi_square(k, shift, moves):
    """A fixed part of the sky: over the central 99 % the ratio moves by 14 % (one mode), 7 % (two), 2.7 % (four)."""
    law = stats.ncx2(k, k * shift**2)
    power = law.ppf(np.linspace(0.005, 0.995, 25))
    mine = [log_density(np.array([p]), [one_power(1.0, k, mean=shift)], reading=np.zeros(1))[0] for p in power]
    assert np.ptp(mine - law.logpdf(power)) < moves


@pytest.mark.parametrize(("r", "moves"), [(0.0, 1e-8), (0.5, 0.06), (0.9, 0.09), (0.99, 0.035), (0.999, 0.005)])
def test_correlated_exponentials(r, moves):
    """Two powers of two modes each, correlated by r (Downton 1970), over 95 % of the law.

    The ratio lies between the constants of one and of two laws of two degrees of freedom, 0.081 and 0.162, and moves
    least where the correlation is weakest or strongest."""
    index, covariance = np.arange(2), 0.5 * np.array([[1.0, np.sqrt(r)], [np.sqrt(r), 1.0]])
    rng = np.random.default_rng(1)
    y = rng.standard_normal((400, 2, 2)) @ np.linalg.cholesky(covariance).T
    points = np.sum(y**2, axis=1)
    x, y = points[np.all(points > 0.02, axis=1)].T
    z = 2.0 * np.sqrt(r * x * y) / (1.0 - r)
    exact = -(x + y) / (1.0 - r) - np.log(1.0 - r) + np.log(special.ive(0, z)) + z
    ratio = at(np.column_stack([x, y]), index, np.ones(2), covariance, 2) - exact
    assert np.quantile(ratio, 0.975) - np.quantile(ratio, 0.025) <= moves
    assert 0.0810 < np.min(ratio) < np.max(ratio) < 0.173


@pytest.mark.parametrize(
    ("k", "r", "log_integral"),
    [(2, 0.0, 0.162), (2, 0.5, 0.160), (2, 0.9, 0.119), (2, 0.99, 0.089), (6, 0.0, 0.055), (6, 0.9, 0.036)],
)
def test_the_integral_of_the_density_depends_on_the_correlation(k, r, log_integral):
    """How far ratios of likelihoods are off: 0.08 between two independent powers of two modes and two equal ones."""
    total = np.exp(np.linspace(np.log(1e-5), np.log(60.0), 160))
    v = np.linspace(-14.0, 14.0, 121)
    s, w = (a.ravel() for a in np.meshgrid(total, v, indexing="ij"))
    log_ratio = np.sqrt(1.0 - r) * np.sinh(w / 2)
    x, y = s * special.expit(-log_ratio), s * special.expit(log_ratio)
    # elsewhere the density, of exponent -k (sqrt x - sqrt y)^2 / (2 (1 - r)), is below e^-40
    inside = (np.abs(log_ratio) < 15.0) & (k * (np.sqrt(x) - np.sqrt(y)) ** 2 < 80.0 * (1.0 - r))
    s, w, x, y = s[inside], w[inside], x[inside], y[inside]
    covariance = np.array([[1.0, np.sqrt(r)], [np.sqrt(r), 1.0]]) / k
    density = np.exp(at(np.column_stack([x, y]), np.arange(2), np.ones(2), covariance, k))
    area = x * y * np.sqrt(1.0 - r) * np.cosh(w / 2) / 2 * np.log(total[1] / total[0]) * (v[1] - v[0])
    assert np.log(np.sum(density * area)) == pytest.approx(log_integral, abs=1e-3)


def test_compiled_and_plain_algebra_agree():
    rng = np.random.default_rng(2)
    blocks, reading = several_blocks(rng), np.array([0.5, 0.0, 0.3, 0.0])
    for _ in range(4):
        power = draw(blocks, 4, rng=rng)[0]
        expected = [reference(power, blocks, reading, vector) for vector in range(3)]
        np.testing.assert_allclose(log_density(power, blocks, reading=reading), expected, atol=1e-9)


def test_large_errors_of_reading_make_a_gaussian():
    """Third cumulants of the powers are then (1 / 300)^3 of the errors'."""
    blocks = several_blocks(np.random.default_rng(3))
    mean, covariance = moments(blocks, 4)
    reading = 300.0 * np.sqrt(covariance[0].diagonal())
    power = mean[0] + reading * np.array([0.5, -1.0, 1.5, -0.2])
    for vector in range(3):
        total = covariance[vector] + np.diag(reading**2)
        expected = stats.multivariate_normal(mean[vector], total).logpdf(power)
        assert log_density(power, blocks, reading=reading)[vector] == pytest.approx(expected, abs=2e-5)


def test_power_may_be_negative_where_it_has_an_error_of_reading():
    blocks = [one_power(0.5, 2)]
    value = log_density(np.array([-0.1]), blocks, reading=np.array([0.2]))
    exact = stats.exponnorm(1.0 / 0.2, loc=0.0, scale=0.2).logpdf(-0.1)
    assert value[0] == pytest.approx(exact, abs=0.1)


def test_order_of_powers_modes_and_blocks_does_not_matter():
    rng = np.random.default_rng(4)
    blocks, reading = several_blocks(rng), np.array([0.5, 0.0, 0.3, 0.0])
    power = draw(blocks, 4, rng=rng)[0]
    new_place = np.array([2, 0, 3, 1])
    shuffled = []
    for block in blocks[::-1]:
        order = rng.permutation(block.index.size)
        shuffled.append(
            Block(
                new_place[block.index[order]], block.coefficient[order], block.covariance[:, order][:, :, order],
                block.copies, None if block.mean is None else block.mean[:, :, order],
            )
        )  # fmt: skip
    old_place = np.argsort(new_place)
    np.testing.assert_allclose(
        log_density(power[old_place], shuffled, reading=reading[old_place]),
        log_density(power, blocks, reading=reading),
        atol=1e-9,
    )


def test_units_change_the_density_by_their_jacobian():
    rng = np.random.default_rng(5)
    blocks, reading = several_blocks(rng), np.array([0.5, 0.1, 0.3, 0.0])
    power, unit = draw(blocks, 4, rng=rng)[0], np.array([1e-9, 3.0, 1e4, 0.2])
    scaled = [
        Block(b.index, b.coefficient * unit[b.index] * 1e12, b.covariance * 1e-12, b.copies,
              None if b.mean is None else b.mean * 1e-6)
        for b in blocks
    ]  # fmt: skip
    np.testing.assert_allclose(
        log_density(power * unit, scaled, reading=reading * unit) + np.log(unit).sum(),
        log_density(power, blocks, reading=reading),
        atol=1e-9,
    )


@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1e-10, 0.0])
def test_nearly_equal_modes_count_as_one(gap):
    """Two copies of a mode in one power: one mode with twice the coefficient, also where V is singular."""
    covariance = 0.5 * np.array([[[1.0, 1.0 - gap], [1.0 - gap, 1.0]]])
    both = Block(np.zeros(2, int), np.ones(2), covariance, 2)
    value = log_density(np.array([1.7]), [both], reading=np.zeros(1))
    single = log_density(np.array([1.7]), [one_power(0.5, 2, coefficient=2.0)], reading=np.zeros(1))
    np.testing.assert_allclose(value, single, atol=2.0 * gap + 1e-9)


def test_powers_that_are_one_number_need_errors_of_reading():
    """Two powers of the same two modes, read with errors: the errors' Gaussians, averaged over an exponential law."""
    same = Block(np.array([0, 1]), np.ones(2), np.full((1, 2, 2), 0.5), 2)
    x, y, sigma = 0.9, 1.2, 0.3
    # their mean is an exponential variable with a Gaussian error, their difference Gaussian
    exact = stats.exponnorm(np.sqrt(2.0) / sigma, scale=sigma / np.sqrt(2.0)).logpdf((x + y) / 2)
    exact += stats.norm(0.0, np.sqrt(2.0) * sigma).logpdf(x - y)
    value = log_density(np.array([x, y]), [same], reading=np.full(2, sigma))[0]
    assert value == pytest.approx(exact, abs=0.081)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
def test_far_tails_get_a_density(factor):
    """A gamma law is exact there too; with other blocks it falls as the data get worse."""
    mine = log_density(np.array([factor]), [one_power(0.1, 10)], reading=np.zeros(1))[0]
    assert mine == pytest.approx(stats.gamma(5, scale=0.2).logpdf(factor) + 0.0166446908, rel=1e-9)
    blocks = several_blocks(np.random.default_rng(6))
    mean, _ = moments(blocks, 4)
    near, far = (log_density(f * mean[0], blocks, reading=np.zeros(4))[0] for f in (1.0, factor))
    assert np.isfinite(far)
    assert far + 4.0 * np.log(factor) < near


def test_result_does_not_depend_on_threads_or_neighbours():
    rng = np.random.default_rng(7)
    blocks, reading = several_blocks(rng, n_vec=16), np.full(4, 0.1)
    power = draw(blocks, 4, rng=rng)[0]
    together = log_density(power, blocks, reading=reading)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(log_density(power, blocks, reading=reading), together)
    finally:
        numba.set_num_threads(threads)
    alone = [Block(b.index, b.coefficient, b.covariance[5:6], b.copies, None if b.mean is None else b.mean[5:6])
             for b in blocks]  # fmt: skip
    assert log_density(power, alone, reading=reading)[0] == together[5]


def test_moments_are_those_of_known_laws():
    """A non-central chi-square, and two powers that share modes correlated by r: covariance 2 k r^2."""
    mean, covariance = moments([one_power(1.0, 3, mean=1.5)], 1)
    assert mean[0, 0] == pytest.approx(stats.ncx2(3, 3 * 1.5**2).mean())
    assert covariance[0, 0, 0] == pytest.approx(stats.ncx2(3, 3 * 1.5**2).var())
    pair = Block(np.array([0, 1]), np.ones(2), np.array([[[1.0, 0.6], [0.6, 1.0]]]), 5)
    np.testing.assert_allclose(moments([pair], 2)[1][0], [[10.0, 3.6], [3.6, 10.0]])


def test_refusals_name_the_place():
    good, zero = one_power(0.5, 2), np.zeros(1)
    with pytest.raises(ConfigurationError, match=r"covariance has shape \(1, 2, 2\)"):
        Block(np.array([0]), np.ones(1), np.ones((1, 2, 2)))
    with pytest.raises(ConfigurationError, match="coefficient is"):
        one_power(0.5, 2, coefficient=-1.0)
    with pytest.raises(ConfigurationError, match=r"mean has shape \(1, 1, 2\)"):
        Block(np.array([0]), np.ones(1), np.ones((1, 1, 1)), 1, np.zeros((1, 1, 2)))
    with pytest.raises(ConfigurationError, match="block 1 has 2 parameter vectors"):
        log_density(np.ones(1), [good, one_power([0.5, 0.5], 2)], reading=zero)
    with pytest.raises(ConfigurationError, match="block 0 adds to powers 0 to 0"):
        moments([good], 0)
    with pytest.raises(ConfigurationError, match=r"power\[0\] is -1.0 with no error of reading"):
        log_density(-np.ones(1), [good], reading=zero)
    with pytest.raises(ConfigurationError, match=r"reading\[0\] is -1.0"):
        log_density(np.ones(1), [good], reading=-np.ones(1))
    with pytest.raises(
        ConfigurationError, match="parameter vector 1 has a covariance or a mean that is not finite"
    ):
        log_density(np.ones(1), [one_power([0.5, np.nan], 2)], reading=zero)
    with pytest.raises(ConfigurationError, match="no mode reaches power 1"):
        log_density(np.ones(2), [good], reading=np.zeros(2))
    with pytest.raises(ConfigurationError, match="block 0 of parameter vector 1: the covariance is not positive"):
        log_density(np.ones(1), [one_power([0.5, -0.5], 2)], reading=zero)
    for matrix, complaint in (
        ([[1.0, 1.1], [1.1, 1.0]], "not positive definite"),
        ([[1.0, 0.2], [0.1, 1.0]], "not symm"),
    ):
        block = Block(np.array([0, 1]), np.ones(2), np.array([matrix]), 2)
        with pytest.raises(ConfigurationError, match=complaint):
            log_density(np.ones(2), [block], reading=np.zeros(2))
