"""The joint law of powers of a polar cap: draws, exact density and probability integrals of skies made here."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import sph_harm_y

from obsfit.infer.saddlepoint import Block, draw, log_density, moments

ELL = np.array([1, 2, 3])
L_MAX = 12
RADIUS = np.radians(65.0)


def cap_modes():
    """Complex covariance of a_lm, l = 1, 2, 3, behind a cap for C_l = l^-3 and noise, for m = 1, 2, 3."""
    nodes, weight = np.polynomial.legendre.leggauss(60)
    half = 0.5 * (1.0 - np.cos(RADIUS))
    theta = np.arccos(half * nodes + 1.0 - half)
    covariances = []
    for m in ELL:
        ell = np.arange(m, L_MAX + 1)
        y = np.array([sph_harm_y(degree, m, theta, 0.0).real for degree in ell])
        overlap = 2.0 * np.pi * half * (y * weight) @ y.T
        full = overlap @ np.diag(ell**-3.0 + 1e-4) @ overlap.T
        keep = ell <= ELL[-1]
        covariances.append(full[np.ix_(keep, keep)])
    return covariances


COVARIANCES = cap_modes()


def cap_blocks(n_vec):
    return [
        Block(
            np.arange(m - 1, 3), 2.0 / (2.0 * ELL[m - 1 :] + 1.0), np.broadcast_to(0.5 * c, (n_vec, *c.shape)), 2
        )
        for m, c in zip(ELL, COVARIANCES, strict=True)
    ]


def skies(n, rng):
    """Powers (n, 3) of the cap, from complex modes."""
    power = np.zeros((n, 3))
    for m, c in zip(ELL, COVARIANCES, strict=True):
        white = (rng.standard_normal((n, len(c))) + 1j * rng.standard_normal((n, len(c)))) / np.sqrt(2.0)
        value, vector = np.linalg.eigh(c)
        power[:, m - 1 :] += 2.0 * np.abs(white @ (vector * np.sqrt(value)).T) ** 2
    return power / (2.0 * ELL + 1.0)


def exact_density(points, reading):
    """Density of powers plus errors of reading: the characteristic function, inverted on a grid in three dimensions.

    Powers in units of their mean. The step 0.3 puts copies of the density 21 means apart, where it is e^-21; the
    errors cut the grid's ends off by e^-15."""
    mean = sum(2.0 * np.pad(np.diag(c), (m - 1, 0)) for m, c in zip(ELL, COVARIANCES, strict=True)) / (2 * ELL + 1)
    step, end = 0.3, 5.5 / reading
    axis = np.arange(-np.ceil(end / step), np.ceil(end / step) + 1) * step
    density = np.zeros(len(points))
    # the integrand at -t is the conjugate of that at t: half of the first axis is enough
    for first in axis[axis >= 0.0]:
        t = np.stack(np.meshgrid([first], axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        log_phi = -0.5 * reading**2 * np.sum(t**2, axis=1) + 0j
        for m, c in zip(ELL, COVARIANCES, strict=True):
            rate = 2.0 / ((2.0 * ELL[m - 1 :] + 1.0) * mean[m - 1 :])
            matrix = np.eye(len(c)) - 1j * c * (rate * t[:, m - 1 :])[:, None, :]
            log_phi = log_phi - np.log(np.linalg.det(matrix))
        for number, point in enumerate(points):
            value = np.sum(np.exp(log_phi - 1j * t @ point).real)
            density[number] += value * (1.0 if first == 0.0 else 2.0)
    return density * (step / (2.0 * np.pi)) ** 3, mean


def test_the_cap_is_the_hard_case():
    """Two degrees of freedom at l = 1, and powers correlated by more than 0.95."""
    mean, covariance = moments(cap_blocks(1), 3)
    freedom = 2.0 * mean[0] ** 2 / np.diag(covariance[0])
    correlation = covariance[0] / np.sqrt(np.outer(np.diag(covariance[0]), np.diag(covariance[0])))
    assert freedom[0] == pytest.approx(2.0)
    assert correlation[0, 1] > 0.99
    assert correlation[1, 2] > 0.95


@pytest.mark.parametrize("source", ["own", "library"])
def test_moments_against_draws(source):
    """40 000 skies; bounds of 4.5 standard errors on 3 means and 6 covariances: false alarm 1e-4."""
    rng = np.random.default_rng(11)
    n = 40_000
    power = skies(n, rng) if source == "own" else draw(cap_blocks(n), 3, rng=rng)
    mean, covariance = (value[0] for value in moments(cap_blocks(1), 3))
    assert np.all(np.abs(power.mean(0) - mean) < 4.5 * np.sqrt(np.diag(covariance) / n))
    product = (power - mean)[:, :, None] * (power - mean)[:, None, :]
    assert np.all(np.abs(product.mean(0) - covariance) < 4.5 * product.std(0) / np.sqrt(n))


def test_density_of_a_cap_with_errors_of_reading():
    """Against the exact density at points drawn from the law: no chance but that of the points, fixed by the seed.

    Errors of 0.3 means turn an exponential law into something nearly normal: Stirling's constant is gone, and the
    logarithm of the ratio is within 0.09 of zero."""
    rng = np.random.default_rng(12)
    reading = 0.3
    points = skies(12, rng)
    blocks = cap_blocks(1)
    mean = moments(blocks, 3)[0][0]
    points = points / mean + reading * rng.standard_normal((12, 3))
    exact, own_mean = exact_density(points, reading)
    np.testing.assert_allclose(own_mean, mean, rtol=1e-12)
    mine = [log_density(p * mean, blocks, reading=reading * mean)[0] + np.log(mean).sum() for p in points]
    ratio = np.asarray(mine) - np.log(exact)
    assert np.max(np.abs(ratio)) < 0.10


def scaled(points, blocks):
    """Density of the law of one set of blocks at many points: powers are fixed at 1, and modes are scaled."""
    changed = []
    for block in blocks:
        s = 1.0 / np.sqrt(points[:, block.index])
        changed.append(
            Block(
                block.index, block.coefficient, s[:, :, None] * block.covariance[:1] * s[:, None, :], block.copies
            )
        )
    n = points.shape[1]
    return np.exp(log_density(np.ones(n), changed, reading=np.zeros(n)) - np.log(points).sum(axis=1))


def first_powers(n):
    """The blocks of the cap, of the first n powers only."""
    return [
        Block(b.index[: n - b.index[0]], b.coefficient[: n - b.index[0]],
              b.covariance[:, : n - b.index[0], : n - b.index[0]], b.copies)
        for b in cap_blocks(1) if b.index[0] < n
    ]  # fmt: skip


def test_probability_integrals_of_skies_are_uniform():
    """p_1, p_2 given p_1, p_3 given both, of 250 skies of the sampler above: three Kolmogorov tests at 1e-3 each.

    The seed is fixed; false alarm for a fresh seed 3e-3."""
    power = skies(250, np.random.default_rng(13))
    amplitude = np.sqrt(power)
    for last in range(3):
        if last == 0:
            grid = np.broadcast_to(amplitude[:, 0].max() * np.linspace(1e-3, 2.0, 120), (250, 120))
        else:
            # amplitudes scatter about a multiple of those of the multipole before, by no more for larger ones
            slope = np.sum(amplitude[:, last] * amplitude[:, last - 1]) / np.sum(power[:, last - 1])
            centre = slope * amplitude[:, last - 1]
            scatter = np.std(amplitude[:, last] - centre)
            low, high = np.maximum(centre - 6.0 * scatter, 1e-3 * scatter), centre + 6.0 * scatter
            grid = np.linspace(low, high, 120, axis=1)
        points = np.repeat(power[:, None, : last + 1], 120, axis=1)
        points[:, :, last] = grid**2
        density = scaled(points.reshape(-1, last + 1), first_powers(last + 1)).reshape(250, 120) * grid
        cumulative = np.cumsum(0.5 * (density[:, 1:] + density[:, :-1]) * np.diff(grid, axis=1), axis=1)
        cumulative = np.column_stack([np.zeros(250), cumulative]) / cumulative[:, -1:]
        integral = [np.interp(a, g, f) for a, g, f in zip(amplitude[:, last], grid, cumulative, strict=True)]
        assert stats.kstest(integral, "uniform").pvalue > 1e-3
