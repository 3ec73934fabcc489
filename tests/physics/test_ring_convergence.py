"""Convergence factors against one pass of the update equations by loops, and against quadrature."""

import numpy as np
import pytest

from obsfit.reconstruct.iterative_likelihood import convergence_factors


def fields(n_dec, n_time, seed, n=1):
    """Arcs of hour angle of random place and slope in some of the bands."""
    rng = np.random.default_rng(seed)
    acceptance = np.zeros((n, n_dec, n_time))
    for d in range(n):
        for r in range(d, n_dec - 1):
            cells = (rng.integers(n_time) // 6 + np.arange(n_time // 3 + rng.integers(5))) % n_time
            acceptance[d, r, cells] = rng.uniform(0.5, 1.5, cells.size)
    return acceptance


def plain_pass(exposure, acceptance, cubes):
    """New N of each detector after one pass of the update equations, by loops over cells."""
    n_time = exposure.shape[1]
    observed, expected = np.zeros(acceptance.shape[1:]), np.zeros(acceptance.shape[1:])
    t = np.arange(n_time)
    for d, cube in enumerate(cubes):
        for r, j in np.argwhere(acceptance[d] > 0):
            np.add.at(observed[r], (t - j) % n_time, cube[:, r, j])
            np.add.at(expected[r], (t - j) % n_time, exposure[d] * acceptance[d, r, j])
    sky = np.divide(observed, expected, out=np.zeros_like(expected), where=expected > 0)
    after = np.empty_like(exposure)
    for d, cube in enumerate(cubes):
        weight = np.zeros(n_time)
        for r, j in np.argwhere(acceptance[d] > 0):
            weight += acceptance[d, r, j] * sky[r, (t - j) % n_time]
        after[d] = cube.sum(axis=(1, 2)) / weight
    return after


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_a_wave_of_exposure_shrinks_by_its_factor(n, m):
    """The derivative of one plain pass at the truth, detector by detector: rows are what changes, columns its cause."""
    n_time = 24
    acceptance = fields(6, n_time, 3, n)
    acceptance *= np.array([1.0, 3.0, 0.2])[:n, None, None]
    cubes = [np.ones(n_time)[:, None, None] * a for a in acceptance]
    wave = np.exp(2j * np.pi * m * np.arange(n_time) / n_time)
    jacobian = np.empty((n, n), dtype=complex)
    for b in range(n):
        exposure = np.ones((n, n_time), dtype=complex)
        exposure[b] += 1e-6 * wave
        real, imaginary = exposure.real, 1 + exposure.imag
        imaginary[np.arange(n) != b] = 1.0
        parts = [np.log(plain_pass(x, acceptance, cubes)) for x in (real, imaginary)]
        jacobian[:, b] = np.mean((parts[0] + 1j * parts[1]) * wave.conj(), axis=1) / 1e-6
    # Second order in the wave, which is 1e-6.
    np.testing.assert_allclose(jacobian, convergence_factors(list(acceptance))[m], atol=3e-6)


def test_at_m_zero_the_common_normalisation_is_free():
    factors = convergence_factors(list(fields(6, 24, 1, 2)))[0]
    np.testing.assert_allclose(factors.sum(axis=1), 1.0, atol=1e-14)


def test_a_ring_that_is_all_seen_alike_leaves_exposure_known():
    np.testing.assert_allclose(convergence_factors([np.ones((3, 8))])[1:], 0.0, atol=1e-15)


def test_one_hour_angle_leaves_nothing():
    acceptance = np.zeros((3, 8))
    acceptance[:, 2] = 1.0
    np.testing.assert_allclose(convergence_factors([acceptance]), 1.0, atol=1e-15)


@pytest.mark.parametrize("latitude", [0, 19, 45, 70, -90])
def test_factors_of_a_sharp_zenith_cut(latitude):
    """Zenith cut 50 degrees and acceptance cos(zenith): the same numbers by quadrature over declination.

    With h_max the half-width of a ring, the integrals of cos(zenith) cos(m h) over h are elementary.
    """
    n_dec, n_time = 180, 720
    lat, cut = np.radians(latitude), np.cos(np.radians(50))
    h = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    dec = np.pi * ((np.arange(n_dec) + 0.5) / n_dec - 0.5)
    up = np.sin(lat) * np.sin(dec)[:, None] + np.cos(lat) * np.cos(dec)[:, None] * np.cos(h)
    acceptance = np.where(up > cut, up, 0.0) * np.cos(dec)[:, None]
    found = convergence_factors([acceptance])[1:4, 0, 0].real
    nodes, weights = np.polynomial.legendre.leggauss(400)
    fine, measure = 0.5 * np.pi * nodes, 0.5 * np.pi * weights * np.cos(0.5 * np.pi * nodes)
    a, b = np.sin(lat) * np.sin(fine), np.cos(lat) * np.cos(fine)
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = np.arccos(np.clip((cut - a) / b, -1, 1))
    edge = np.where(b < 1e-12, np.where(a > cut, np.pi, 0.0), edge)

    def integral(m):
        sinc = edge if m == 0 else np.sin(m * edge) / m
        upper = np.sin((m + 1) * edge) / (m + 1)
        lower = edge if m == 1 else np.sin((m - 1) * edge) / (m - 1)
        return 2 * (a * sinc + b * (np.sin(edge) if m == 0 else 0.5 * (upper + lower)))

    level = integral(0)
    quadrature = [
        np.sum(measure * np.divide(integral(m) ** 2, level, out=np.zeros_like(level), where=level > 1e-9))
        / np.sum(measure * level)
        for m in (1, 2, 3)
    ]
    # Cells at a sharp cut: 1 / n_dec of the field of view.
    np.testing.assert_allclose(found, quadrature, atol=3e-3)
