"""The diffusion tensor: its two forms, inverse, determinants and eigenvalues, against linear algebra."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obsfit_models.diffusion.tensor import (
    bgk_rates,
    bgk_tensor,
    diffusion_determinant,
    diffusion_tensor,
    direction_of,
    fick_dipole,
    field_projection,
    field_tensor,
    inverse_diffusion_tensor,
    symmetric_part,
)
from scipy.integrate import quad_vec
from scipy.spatial.transform import Rotation

# Rates over two decades each way: the matrices stay invertible to 1e-9 in float64.
rate = st.floats(0.03, 30.0)
component = st.floats(-1.0, 1.0)
vector = st.tuples(component, component, component).filter(lambda v: np.linalg.norm(v) > 0.1)


def cross_matrix(omega):
    """The matrix [Omega x] column by column, with numpy's own cross product."""
    return np.column_stack([np.cross(omega, e) for e in np.eye(3)])


@given(rate, rate, vector)
@settings(deadline=None)
def test_bgk_closed_form_inverts_the_moment_equation(nu, turn, axis):
    omega = turn * direction_of(axis)
    expected = np.linalg.inv(nu * np.eye(3) + cross_matrix(omega)) / 3
    np.testing.assert_allclose(bgk_tensor(nu, omega), expected, rtol=0, atol=1e-12 / nu)


@given(rate, rate, vector)
@settings(deadline=None)
def test_bgk_is_the_general_form_with_its_three_rates(nu, turn, axis):
    general = diffusion_tensor(axis, *bgk_rates(nu, turn))
    np.testing.assert_allclose(general, bgk_tensor(nu, turn * direction_of(axis)), rtol=0, atol=1e-13 / nu)


@given(rate, rate, rate, vector)
@settings(deadline=None)
def test_inverse_and_determinant_against_lu(parallel, perpendicular, axial, axis):
    rates = parallel, perpendicular, axial
    tensor = diffusion_tensor(axis, *rates)
    scale = 3 * (max(rates) + perpendicular)
    np.testing.assert_allclose(
        inverse_diffusion_tensor(axis, *rates) @ tensor, np.eye(3), atol=1e-12 * scale / 0.09
    )
    assert diffusion_determinant(*rates) == pytest.approx(np.linalg.det(tensor), rel=1e-9)


def test_inverse_of_bgk_is_three_times_rate_plus_rotation():
    omega = np.array([0.3, -0.4, 1.2])
    inverse = inverse_diffusion_tensor(omega, *bgk_rates(0.7, np.linalg.norm(omega)))
    np.testing.assert_allclose(inverse, 3 * (0.7 * np.eye(3) + cross_matrix(omega)), atol=1e-13)


def test_published_determinants():
    """1/27 nu_par nu_perp^2 of the symmetric part, 1/27 nu (nu^2 + Omega^2) of the whole."""
    nu, turn = 0.4, 1.7
    parallel, perpendicular, axial = bgk_rates(nu, turn)
    tensor = bgk_tensor(nu, turn * direction_of([1.0, 2.0, -2.0]))
    assert np.linalg.det(symmetric_part(tensor)) == pytest.approx(
        1 / (27 * parallel * perpendicular**2), rel=1e-12
    )
    assert np.linalg.det(tensor) == pytest.approx(1 / (27 * nu * (nu**2 + turn**2)), rel=1e-12)
    assert diffusion_determinant(parallel, perpendicular, axial) == pytest.approx(np.linalg.det(tensor), rel=1e-12)


def test_eigenvalues_are_one_third_over_rate_and_rate_plus_minus_i_omega():
    nu, turn = 0.4, 1.7
    found = np.linalg.eigvals(bgk_tensor(nu, turn * direction_of([1.0, 2.0, -2.0])))
    expected = np.array([1 / (3 * nu), 1 / (3 * (nu + 1j * turn)), 1 / (3 * (nu - 1j * turn))])
    for value in expected:
        assert np.min(np.abs(found - value)) < 1e-14


def test_tensor_is_the_integral_over_past_velocities():
    """K_ij = int ds exp(-nu s) <p_i(0) p_j(-s)>, with orbits dp/dt = p x Omega turned by scipy: fixes the Hall sign."""
    nu, omega = 0.6, np.array([0.5, -1.1, 0.8])

    def correlation(s):
        # dp/dt = p x Omega turns p about Omega by -|Omega| t, so that p(-s) is p turned by +|Omega| s.
        past = Rotation.from_rotvec(omega * s).as_matrix()
        return np.exp(-nu * s) * past.T / 3  # <p_i p_k> = delta_ik / 3

    integral, _ = quad_vec(correlation, 0, 60 / nu, epsabs=1e-13, epsrel=1e-12, limit=500)
    np.testing.assert_allclose(bgk_tensor(nu, omega), integral, atol=1e-11)


def test_no_field_is_isotropic_and_no_hall_term():
    np.testing.assert_array_equal(bgk_tensor(2.0, np.zeros(3)), np.eye(3) / 6)
    assert bgk_rates(2.0, 0.0)[2] == np.inf


def test_reversed_charge_transposes_the_tensor():
    omega = np.array([0.5, -1.1, 0.8])
    np.testing.assert_array_equal(bgk_tensor(0.6, -omega), bgk_tensor(0.6, omega).T)
    negative = diffusion_tensor(omega, *bgk_rates(0.6, -np.linalg.norm(omega)))
    np.testing.assert_allclose(negative, bgk_tensor(0.6, -omega), atol=1e-15)


def test_strong_field_is_the_limit_of_the_full_tensor():
    """At Omega = 1e6 nu the Hall term is down by 1e-6 and the perpendicular one by 1e-12."""
    axis, gradient = direction_of([1.0, -2.0, 0.5]), np.array([1e-3, 2e-3, -4e-3])
    full = fick_dipole(bgk_tensor(0.5, 0.5e6 * axis), gradient)
    np.testing.assert_allclose(full, field_projection(axis, 1 / 1.5, gradient), atol=2e-6 * 1e-2)


def test_projection_lies_along_the_field_and_flips_with_the_gradient():
    axis = np.array([0.6, 0.0, 0.8])
    gradient = np.array([[0.0, 0.0, 1e-3], [-1e-3, 5.0, 0.0]])
    dipole = field_projection(axis, 2.0, gradient)
    np.testing.assert_allclose(np.cross(dipole, axis), 0, atol=1e-18)
    np.testing.assert_allclose(dipole @ axis, 6 * gradient @ axis, rtol=1e-15)
    assert dipole[0] @ axis > 0 > dipole[1] @ axis


def test_leading_axes_broadcast():
    axes = np.random.default_rng(1).normal(size=(4, 1, 3))
    ratio = np.linspace(0, 1, 5)
    together = field_tensor(axes, 1.0, ratio, 0.1)
    assert together.shape == (4, 5, 3, 3)
    np.testing.assert_array_equal(together[2, 3], field_tensor(axes[2, 0], 1.0, ratio[3], 0.1))
    assert bgk_tensor(np.ones((4, 1)), np.ones((5, 3))).shape == (4, 5, 3, 3)


@pytest.mark.parametrize("axis", [[0, 0, 0], [1, 2], 3.0, [np.nan, 0, 1], [np.inf, 0, 1]])
def test_an_axis_that_is_no_direction_is_refused(axis):
    with pytest.raises(ValueError, match="expected"):
        direction_of(axis)


def test_bad_rates_are_refused_by_name():
    with pytest.raises(ValueError, match="perpendicular scattering rate"):
        diffusion_tensor([0, 0, 1], 1.0, 0.0)
    with pytest.raises(ValueError, match="axial scattering rate"):
        diffusion_tensor([0, 0, 1], 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="parallel diffusivity"):
        field_tensor([0, 0, 1], np.nan, 0.0)
    with pytest.raises(ValueError, match="no inverse"):
        inverse_diffusion_tensor([0, 0, 1], 1.0, np.inf)
    with pytest.raises(ValueError, match="without scattering"):
        bgk_tensor(0.0, [0, 0, 1])
    with pytest.raises(ValueError, match="without scattering"):
        bgk_rates(-1.0, 1.0)
