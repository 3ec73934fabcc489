import numpy as np
import pytest
from numpy.polynomial.legendre import Legendre, leggauss
from obsfit_models.pitch_angle import (
    IsotropicScattering,
    PeakedScattering,
    PitchAngleDiffusion,
    PowerLawScattering,
    cell_centres,
    evolve,
    parallel_diffusion,
    stationary_shape,
)
from scipy.linalg import expm
from scipy.special import eval_legendre, gammaln, lpmv

SCATTERINGS = [IsotropicScattering(d0=0.7), PowerLawScattering(q=5 / 3), PeakedScattering(height=20.0, width=0.15)]


def map_value(alm, lmax, direction):
    """Sum of a_lm Y_lm in one direction, with scipy's Legendre functions and the sum written out."""
    phi = np.arctan2(direction[1], direction[0])
    total, index = 0.0, 0
    for m in range(lmax + 1):
        for ell in range(m, lmax + 1):
            norm = np.sqrt((2 * ell + 1) / (4 * np.pi) * np.exp(gammaln(ell - m + 1) - gammaln(ell + m + 1)))
            term = (alm[index] * norm * lpmv(m, ell, direction[2]) * np.exp(1j * m * phi)).real
            total += term if m == 0 else 2 * term
            index += 1
    return total


@pytest.mark.parametrize("scattering", SCATTERINGS)
def test_the_dipole_of_the_shape_is_three_times_k_parallel(scattering):
    """delta = 3 K d_z ln n for speed 1: (3/2) int mu (g/2) dmu = 3 K, by parts."""
    t, w = leggauss(300)
    s = 0.5 * (t + 1)
    mu, weight = s**6, 3 * s**5 * w  # crowds the nodes at mu = 0
    dipole = 3 * np.sum(weight * mu * stationary_shape(scattering, mu) / 2)
    assert dipole == pytest.approx(3 * parallel_diffusion(scattering), rel=1e-8)


@pytest.mark.parametrize("scattering", SCATTERINGS)
def test_particles_are_conserved_and_stay_positive(scattering):
    start = np.zeros(200)
    start[170] = 1.0
    later = evolve(scattering, start, [1e-4, 0.01, 1.0, 1e4])
    np.testing.assert_allclose(later.sum(axis=1), 1.0, rtol=1e-12)
    assert later.min() > -1e-13
    np.testing.assert_allclose(later[-1], 1 / 200, rtol=1e-9)
    driven = evolve(scattering, start, [0.5, 1e3], gradient=0.3)
    np.testing.assert_allclose(driven.sum(axis=1), 1.0, rtol=1e-11)


@pytest.mark.parametrize("ell", [1, 2, 3, 4])
def test_isotropic_scattering_decays_at_d0_l_l_plus_1(ell):
    errors = []
    for n_cells in (100, 200):
        edges = np.linspace(-1, 1, n_cells + 1)
        start = np.diff(Legendre.basis(ell).integ()(edges)) * n_cells / 2
        later = evolve(IsotropicScattering(d0=0.7), start, 0.4)
        errors.append(np.max(np.abs(later - start * np.exp(-0.7 * ell * (ell + 1) * 0.4))))
    if ell == 1:
        assert max(errors) < 1e-12
    else:
        assert errors[1] < 1e-3
        # second order in the width of the cells
        assert errors[1] == pytest.approx(errors[0] / 4, rel=0.05)


@pytest.mark.parametrize("scattering", SCATTERINGS)
def test_a_gradient_leads_to_the_stationary_shape(scattering):
    """In propagation directions the anisotropy is -(G/2) g; it is exact at the centres of the cells."""
    mu = cell_centres(64)
    late = evolve(scattering, np.zeros(64), 1e4, gradient=0.2)
    np.testing.assert_allclose(late, -0.1 * stationary_shape(scattering, mu), rtol=1e-8, atol=1e-10)


def test_evolution_against_a_legendre_expansion():
    """D = (1 - mu^2)(1 + 2 mu^2) in 30 Legendre modes, by a matrix exponential."""

    def d_mumu(mu):
        return (1 - mu**2) * (1 + 2 * mu**2)

    x, w = leggauss(60)
    slopes = np.array([Legendre.basis(ell).deriv()(x) if ell else np.zeros_like(x) for ell in range(30)])
    matrix = -(slopes * w * d_mumu(x)) @ slopes.T * (2 * np.arange(30) + 1)[:, None] / 2
    source = np.zeros(30)
    source[1] = -0.5
    extended = np.zeros((31, 31))
    extended[:30, :30], extended[:30, 30] = matrix, source
    start = np.zeros(31)
    start[[0, 2, 3, 30]] = 1.0, 0.4, -0.3, 1.0
    modes = (expm(extended * 0.15) @ start)[:30]
    n_cells = 400
    edges = np.linspace(-1, 1, n_cells + 1)

    def averages(coefficients):
        return np.diff(Legendre(coefficients).integ()(edges)) * n_cells / 2

    later = evolve(d_mumu, averages(start[:30]), 0.15, gradient=0.5)
    np.testing.assert_allclose(later, averages(modes), atol=1e-4)


def test_a_peak_flattens_the_sky_across_the_field():
    """Strong scattering at 90 degrees: a flat belt across the field, broad maxima along it, higher odd multipoles."""
    shape = stationary_shape(PeakedScattering(height=50.0, width=0.2), [0.05, 0.1, 0.9, 1.0])
    assert (shape[1] - shape[0]) / 0.05 < 0.05 * (shape[3] - shape[2]) / 0.1


@pytest.mark.parametrize(("form", "value"), [("peaked", 0.5), ("isotropic", None)])
def test_the_sky_is_the_shape_about_the_axis(form, value):
    axis = np.array([0.3, -0.5, 0.4])
    model = PitchAngleDiffusion(axis=tuple(axis), form=form, width=0.4)
    theta = np.array([[-3.0] if value is None else [-3.0, value]])
    lmax = 40
    alm = model.alm(theta, np.array([1.0]), lmax)[0, 0]
    scattering = IsotropicScattering() if value is None else PeakedScattering(height=10.0**value, width=0.4)
    nodes, weights = leggauss(60)
    dipole = 1.5 * np.sum(weights * nodes * stationary_shape(scattering, nodes))
    unit = axis / np.linalg.norm(axis)
    for direction in np.random.default_rng(9).normal(size=(5, 3)):
        n = direction / np.linalg.norm(direction)
        expected = 1e-3 * stationary_shape(scattering, n @ unit) / dipole
        # the shape is smooth: what lies above l = 40 is below 1e-9 of it
        assert map_value(alm, lmax, n) == pytest.approx(float(expected), rel=1e-6, abs=1e-11)


def test_the_singular_sky_in_each_multipole():
    """|mu|^(1/2): the power of each l from the Legendre coefficients of the map, by quadrature over the angle."""
    model = PitchAngleDiffusion(axis=(0.0, 0.0, 1.0))
    alm = model.alm(np.array([[0.0, 1.5]]), np.array([1.0]), 9)[0, 0]
    t, w = leggauss(200)
    s = 0.5 * (t + 1)
    mu, weight = s**2, s * w
    first = 3 * np.sum(weight * mu * np.sqrt(mu))
    for ell in range(1, 10, 2):
        coefficient = (2 * ell + 1) * np.sum(weight * eval_legendre(ell, mu) * np.sqrt(mu)) / first
        assert alm[ell].real == pytest.approx(coefficient * np.sqrt(4 * np.pi / (2 * ell + 1)), rel=1e-10)


def test_e27_e28_the_maximum_of_arrival_directions_looks_up_the_gradient():
    """Particles stream down the gradient, so they arrive from above it: AM17 (48) and its section 4.1 need n = -p."""
    mu = cell_centres(32)
    propagation = evolve(IsotropicScattering(), np.zeros(32), 100.0, gradient=1.0)
    arrival = propagation[::-1]
    assert arrival[-1] > 0 > propagation[-1]
    np.testing.assert_allclose(arrival, 3 * parallel_diffusion(IsotropicScattering()) * mu, rtol=1e-10)
