"""Bursts: Eq. (54) of AM17 against a Fourier integral, the diffusion equation, and quadrature of its norm."""

import numpy as np
import pytest
from obsfit_models.diffusion.sources import (
    LIGHT_PC_PER_YR,
    BurstSource,
    burst_gradient,
    burst_log_density,
    log_green_function,
    named_source,
    total_gradient,
)
from obsfit_models.diffusion.tensor import bgk_tensor, fick_dipole, symmetric_part

from obsfit.errors import ConfigurationError, ModelDomainError

# A full tensor, Hall term included, that is aligned with no axis.
TENSOR = bgk_tensor(0.4, np.array([0.3, -0.5, 0.6]))
TIME = 1.3


def cube(half, n):
    """Grid points and cell volume of the trapezoidal rule on a cube; spectrally exact for Gaussians."""
    axis = np.linspace(-half, half, n)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return points, (axis[1] - axis[0]) ** 3


def test_density_is_the_fourier_integral():
    """phi = int d3k exp(ik.r - t k.K.k) / (2 pi)^3: no inverse and no determinant of the tensor; full K on purpose."""
    k, volume = cube(14.0, 96)
    damping = np.exp(-TIME * np.einsum("ni,ij,nj->n", k, TENSOR, k)) * volume / (2 * np.pi) ** 3
    for r in ([0.0, 0.0, 0.0], [0.7, -0.4, 1.1], [-1.5, 2.0, 0.3]):
        expected = np.sum(np.cos(k @ np.array(r)) * damping)
        assert np.exp(log_green_function(TENSOR, r, TIME)) == pytest.approx(expected, rel=1e-9)


def test_density_is_normalised():
    r, volume = cube(16.0, 80)
    assert np.sum(np.exp(log_green_function(TENSOR, r, TIME))) * volume == pytest.approx(1.0, rel=1e-9)


def residual(density, tensor, r, t, h=1e-2):
    """d_t phi - div(K grad phi) relative to phi/t, by sixth-order central differences (error about h^6)."""
    steps = np.array([-3, -2, -1, 0, 1, 2, 3]) * h
    first = np.array([-1, 9, -45, 0, 45, -9, 1]) / (60 * h)
    second = np.array([2, -27, 270, -490, 270, -27, 2]) / (180 * h**2)
    e = np.eye(3)
    change = first @ density(r, t + steps)
    spread = 0.0
    for i in range(3):
        spread += tensor[i, i] * (second @ density(r + steps[:, None] * e[i], t))
        for j in range(3):
            if i != j:
                grid = density(r + steps[:, None, None] * e[i] + steps[None, :, None] * e[j], t)
                spread += tensor[i, j] * (first @ grid @ first)
    return (change - spread) / (density(r, t) / t)


@pytest.mark.parametrize("r", [[0.0, 0.0, 0.0], [0.7, -0.4, 1.1], [-1.5, 2.0, 0.3]])
def test_density_solves_the_diffusion_equation_of_the_full_tensor(r):
    found = residual(lambda x, t: np.exp(log_green_function(TENSOR, x, t)), TENSOR, np.array(r), TIME)
    assert abs(found) < 1e-8


def test_e3_the_printed_form_with_the_full_tensor_is_no_solution():
    """Eq. (6) of A14 as printed: isotropic, norm sqrt(nu^2 + Omega^2) / nu, and not a solution; ours is all three."""
    nu, omega = 0.4, np.array([0.3, -0.5, 0.6])
    inverse, det = np.linalg.inv(TENSOR), np.linalg.det(TENSOR)

    def printed(r, t):
        t = np.asarray(t)
        return np.exp(-np.einsum("...i,ij,...j->...", r, inverse, r) / (4 * t)) / np.sqrt(
            (4 * np.pi * t) ** 3 * det
        )

    r, volume = cube(16.0, 80)
    norm = np.sum(printed(r, TIME)) * volume
    assert norm == pytest.approx(np.sqrt(nu**2 + omega @ omega) / nu, rel=1e-9)
    assert abs(residual(printed, TENSOR, np.array([0.7, -0.4, 1.1]), TIME)) > 0.1
    # Isotropic although the field is not: turned by a right angle it is unchanged, the right one is not.
    a, b = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    assert printed(a, TIME) == pytest.approx(printed(b, TIME), rel=1e-12)
    assert abs(log_green_function(TENSOR, a, TIME) - log_green_function(TENSOR, b, TIME)) > 1e-2


def test_e31_only_the_symmetric_part_of_the_tensor_counts():
    r = [0.7, -0.4, 1.1]
    for form in (symmetric_part(TENSOR), TENSOR.T):
        assert log_green_function(form, r, TIME) == pytest.approx(log_green_function(TENSOR, r, TIME), rel=1e-14)
        np.testing.assert_allclose(burst_gradient(form, r, TIME), burst_gradient(TENSOR, r, TIME), rtol=1e-13)


def test_gradient_is_the_slope_of_the_log_density():
    """Central differences of a quadratic are exact up to rounding."""
    r, h = np.array([0.7, -0.4, 1.1]), 0.1
    slope = [
        (log_green_function(TENSOR, r + h * e, TIME) - log_green_function(TENSOR, r - h * e, TIME)) / (2 * h)
        for e in np.eye(3)
    ]
    np.testing.assert_allclose(burst_gradient(TENSOR, r, TIME), slope, rtol=1e-12)


@pytest.mark.parametrize("diffusivity", [1e-3, 1.0, 40.0])
def test_isotropic_dipole_is_three_r_over_two_ct_towards_the_source(diffusivity):
    """Whatever the diffusivity. The observer is at r from the source, so the source is seen at -r."""
    r = np.array([30.0, -40.0, 120.0])
    dipole = fick_dipole(diffusivity * np.eye(3), burst_gradient(diffusivity * np.eye(3), r, 1000.0))
    assert np.linalg.norm(dipole) == pytest.approx(3 * 130.0 / 2000.0, rel=1e-14)
    np.testing.assert_allclose(dipole / np.linalg.norm(dipole), -r / 130.0, atol=1e-15)


def test_symmetric_tensor_has_the_same_dipole_and_the_hall_term_turns_it():
    r = np.array([3.0, -4.0, 12.0])
    gradient = burst_gradient(TENSOR, r, 100.0)
    np.testing.assert_allclose(fick_dipole(symmetric_part(TENSOR), gradient), -3 * r / 200.0, rtol=1e-12)
    hall = fick_dipole(TENSOR, gradient) + 3 * r / 200.0
    assert np.linalg.norm(hall) > 0.01
    assert abs(hall @ gradient) < 1e-15


def test_density_vanishes_before_the_release_and_beyond_the_light_cone():
    assert log_green_function(TENSOR, np.zeros(3), [-1.0, 0.0, 1.0])[:2].tolist() == [-np.inf, -np.inf]
    r = np.array([[0.99, 0.0, 0.0], [1.01, 0.0, 0.0]])
    inside, beyond = burst_log_density(np.eye(3), r, 1.0, light_speed=1.0)
    assert inside == log_green_function(np.eye(3), r[0], 1.0)
    assert beyond == -np.inf


def test_far_tail_keeps_its_digits():
    """A density of 1e-434 is no float64; its logarithm and gradient are."""
    assert log_green_function(np.eye(3), [0.0, 0.0, 2000.0], 1000.0) == pytest.approx(
        -1000.0 - 1.5 * np.log(4 * np.pi * 1000.0), rel=1e-15
    )


def test_gradients_of_a_sum_are_weighted_by_density():
    """Against the slope of the logarithm of the summed densities."""
    places = np.array([[1.0, 0.0, 0.5], [-2.0, 1.0, 0.0]])
    ages = np.array([1.0, 2.5])

    def log_total(at):
        return np.log(np.sum(np.exp(log_green_function(TENSOR, at - places, ages))))

    h = 1e-4
    slope = [(log_total(h * e) - log_total(-h * e)) / (2 * h) for e in np.eye(3)]
    found = total_gradient(log_green_function(TENSOR, -places, ages), burst_gradient(TENSOR, -places, ages))
    np.testing.assert_allclose(found, slope, rtol=1e-6)  # second-order differences with h = 1e-4


def test_a_source_without_density_adds_nothing_and_nothing_has_no_gradient():
    gradients = [[1.0, 0.0, 0.0], [0.0, 5.0, 0.0]]
    np.testing.assert_array_equal(total_gradient([0.0, -np.inf], gradients), [1.0, 0.0, 0.0])
    with pytest.raises(ModelDomainError, match="has no gradient"):
        total_gradient([-np.inf, -np.inf], gradients)


def test_named_source_and_refusals():
    vela = named_source("vela")
    assert (vela.distance_pc, vela.age_yr, vela.is_causal) == (300.0, 11e3, True)
    with pytest.raises(ConfigurationError, match="is no source"):
        named_source("ibex")
    with pytest.raises(ValueError, match="age -1"):
        BurstSource("x", (0.0, 0.0, 1.0), 100.0, -1.0)
    assert not BurstSource("x", (0.0, 0.0, 1.0), 1001 * LIGHT_PC_PER_YR, 1000.0).is_causal
    with pytest.raises(ValueError, match="not positive definite"):
        log_green_function(np.diag([0.0, 0.0, 1.0]), np.zeros(3), 1.0)
    with pytest.raises(ValueError, match="before its release"):
        burst_gradient(np.eye(3), np.zeros(3), 0.0)
