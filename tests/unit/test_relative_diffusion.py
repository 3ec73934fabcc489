import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from obsfit_models.relative_diffusion import (
    RelativeDiffusion,
    evolve,
    nearest_neighbour_rates,
    power_from_rate,
    power_ratio,
    relaxation_matrix,
)
from scipy.linalg import expm
from scipy.special import eval_legendre

from obsfit.errors import ConvergenceError, ModelDomainError
from obsfit.parameters import draw_prior


def moments(ell, p):
    """Integrals of x P_l (1 - x)^-p and P_l (1 - x)^-p, term by term in powers of 1 - x, in 200 digits."""
    with mp.workdps(200):
        p = mp.mpf(p)
        plain, with_x = mp.mpf(0), mp.mpf(0)
        coefficient = mp.mpf(1)  # of ((1 - x)/2)^k in P_l
        for k in range(ell + 1):
            first = mp.mpf(2) ** (k + 1 - p) / (k + 1 - p)
            second = mp.mpf(2) ** (k + 2 - p) / (k + 2 - p)
            plain += coefficient * first / mp.mpf(2) ** k
            with_x += coefficient * (first - second) / mp.mpf(2) ** k
            coefficient *= mp.mpf((k - ell) * (ell + 1 + k)) / (k + 1) ** 2
        return with_x, plain


@pytest.mark.parametrize("p", [0.001, 0.02, 1 / 3, 0.5, 2 / 3, 0.98, 0.999])
def test_closed_form_against_200_digits(p):
    ratio = power_ratio(p, 100)
    first, _ = moments(1, p)
    for ell in (1, 2, 3, 4, 7, 12, 25, 50, 100):
        exact = 2 * moments(ell, p)[0] / (ell * (ell + 1) * first)
        assert ratio[ell] == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("p", [0.02, 1 / 3, 0.5, 0.98])
def test_closed_form_with_the_growing_monopole_against_200_digits(p):
    ratio = power_ratio(p, 60, growing_monopole=True)
    with mp.workdps(200):
        with_x, plain = moments(0, p)
        mean = with_x / plain
        power = {
            ell: (moments(ell, p)[0] - mean * moments(ell, p)[1]) / (ell * (ell + 1)) for ell in (1, 2, 3, 20, 60)
        }
        for ell, value in power.items():
            assert ratio[ell] == pytest.approx(float(value / power[1]), rel=1e-12)


def test_closed_form_against_plain_quadrature():
    """mpmath's tanh-sinh rule in the angle, where the integrand needs no expansion."""
    with mp.workdps(30):
        p = mp.mpf(1) / 3

        def integral(ell):
            return mp.quad(lambda x: x * mp.legendre(ell, x) * (1 - x) ** -p, mp.linspace(-1, 1, 9))

        for ell in (2, 5, 9):
            exact = 2 * integral(ell) / (ell * (ell + 1) * integral(1))
            assert power_ratio(1 / 3, 9)[ell] == pytest.approx(float(exact), rel=1e-9)


def test_limits_of_the_exponent():
    ell = np.arange(1, 41)
    for monopole in (False, True):
        np.testing.assert_array_equal(power_ratio(0.0, 40, growing_monopole=monopole)[2:], 0.0)
        np.testing.assert_allclose(
            power_ratio(1.0, 40, growing_monopole=monopole)[1:], 2 / (ell * (ell + 1)), rtol=1e-14
        )
        for edge, inside in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
            # the derivative in p is below 20 (it is a sum over the 40 factors)
            np.testing.assert_allclose(
                power_ratio(inside, 40, growing_monopole=monopole),
                power_ratio(edge, 40, growing_monopole=monopole),
                rtol=0,
                atol=2e-8,
            )


@given(st.floats(0, 1), st.booleans())
def test_power_falls_and_is_positive(p, monopole):
    ratio = power_ratio(p, 60, growing_monopole=monopole)[1:]
    assert np.all(np.isfinite(ratio))
    assert np.all(np.diff(ratio) <= 0)
    # at p = 0 the sky is a pure dipole, and next to it the smallest floats are not far
    assert np.all(ratio > 0) if p > 1e-200 else np.all(ratio >= 0)


def test_power_does_not_depend_on_lmax():
    np.testing.assert_array_equal(power_ratio([0.2, 0.7], 100)[:, :11], power_ratio([0.2, 0.7], 10))


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("monopole", [False, True])
def test_gauss_jacobi_against_the_closed_form(p, monopole):
    power = power_from_rate(lambda x: (1 - x) ** p, 100, endpoint_exponent=p, growing_monopole=monopole)
    np.testing.assert_allclose(
        power / power[1], power_ratio(p, 100, growing_monopole=monopole), rtol=1e-9, atol=1e-300
    )


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.5])
def test_adaptive_quadrature_against_the_closed_form(p):
    power = power_from_rate(lambda x: 3 * (1 - x) ** p, 40)
    np.testing.assert_allclose(power / power[1], power_ratio(p, 40), rtol=1e-9)
    np.testing.assert_allclose(
        power, power_from_rate(lambda x: 3 * (1 - x) ** p, 40, endpoint_exponent=p), rtol=1e-9
    )


def test_a_rate_that_is_no_power_law():
    """sqrt(1 - x)(1 + x^2) by a rule in the half angle that knows nothing of the code."""

    def rate(x):
        return np.sqrt(1 - x) * (1 + x**2)

    t, w = leggauss(400)
    t, w = 0.5 * (t + 1), 0.5 * w  # sin(angle / 2) = t, 1 - x = 2 t^2
    x = 1 - 2 * t**2
    expected = [
        1.5 / (ell * (ell + 1)) * np.sum(w * 4 * t * x * eval_legendre(ell, x) / (np.sqrt(2) * t * (1 + x**2)))
        for ell in range(1, 31)
    ]
    np.testing.assert_allclose(power_from_rate(rate, 30)[1:], expected, rtol=1e-8)
    np.testing.assert_allclose(power_from_rate(rate, 30, endpoint_exponent=0.5)[1:], expected, rtol=1e-8)


def test_a_quadrature_that_fails_says_so():
    with pytest.raises(ConvergenceError, match="State the end-point exponent"):
        power_from_rate(lambda x: (1 - x) ** 0.9, 5)
    with pytest.raises(ConvergenceError, match="has no integral"):
        power_from_rate(lambda x: 1 - x, 5, endpoint_exponent=1.0)
    with pytest.raises(ConvergenceError, match="Give the true end-point exponent"):
        power_from_rate(lambda x: (1 - x) ** 0.9, 5, endpoint_exponent=0.3)
    with pytest.raises(ConvergenceError):
        power_from_rate(lambda x: np.abs(x - 0.3), 5)
    with pytest.raises(ModelDomainError, match="relative scattering rate -"):
        power_from_rate(lambda x: x, 5)
    with pytest.raises(ValueError, match="returned shape"):
        power_from_rate(lambda x: np.ones(3), 5)


def test_matrix_against_gauss_legendre_for_a_polynomial_rate():
    x, w = leggauss(40)
    legendre = np.array([eval_legendre(ell, x) for ell in range(13)])
    ell = np.arange(13)
    expected = 0.5 * (2 * ell + 1) * ell * (ell + 1) * ((legendre * w * (1 - x) * (2 + x)) @ legendre.T)
    for exponent in (None, 1.0, 0.0):
        matrix = relaxation_matrix(lambda x: (1 - x) * (2 + x), 12, endpoint_exponent=exponent)
        np.testing.assert_allclose(matrix, expected, rtol=1e-10, atol=1e-9)


def test_nearest_neighbour_rates_are_the_matrix_of_1_minus_x():
    up, down = nearest_neighbour_rates(10)
    ell = np.arange(11)
    in_power = (
        (2 * ell[:, None] + 1) * relaxation_matrix(lambda x: 1 - x, 10, endpoint_exponent=1.0) / (2 * ell + 1)
    )
    expected = np.diag(up + down) - np.diag(up[:-1], -1) - np.diag(down[1:], 1)
    np.testing.assert_allclose(in_power, expected, atol=1e-10)


def test_evolution_against_a_matrix_exponential():
    start = np.random.default_rng(4).uniform(size=9)
    matrix = relaxation_matrix(lambda x: np.sqrt(1 - x), 8, endpoint_exponent=0.5)
    # the source is one more variable that stays at one
    extended = np.zeros((10, 10))
    extended[:9, :9], extended[1, 9] = -matrix, 0.3
    times = np.array([0.0, 1e-6, 1e-3, 0.1, 1.0, 20.0])
    result = evolve(start, lambda x: np.sqrt(1 - x), times, 0.3, endpoint_exponent=0.5)
    for t, spectrum in zip(times, result, strict=True):
        expected = (expm(extended * t) @ np.append(start, 1.0))[:9]
        np.testing.assert_allclose(spectrum, expected, rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="time -1"):
        evolve(start, lambda x: 1 - x, -1.0)


def test_the_first_trace_of_the_monopole():
    """What a young dipole has handed to l = 0 is of second order in time; in 60 digits, relative to itself."""
    matrix = relaxation_matrix(lambda x: 1 - x, 3, endpoint_exponent=1.0)
    times = np.array([1e-7, 2e-5, 1e-4, 2e-4, 1e-3, 0.1])  # the largest eigenvalue is about 20
    result = evolve(np.zeros(4), lambda x: 1 - x, times, 1.0, endpoint_exponent=1.0)
    with mp.workdps(60):
        extended = mp.zeros(5)
        for i in range(4):
            for j in range(4):
                extended[i, j] = -mp.mpf(matrix[i, j])
        extended[1, 4] = 1
        for t, spectrum in zip(times, result, strict=True):
            assert spectrum[0] == pytest.approx(float(mp.expm(extended * mp.mpf(t))[0, 4]), rel=1e-10)


@pytest.mark.parametrize("monopole", [False, True])
def test_the_model_over_its_prior(monopole):
    model = RelativeDiffusion(growing_monopole=monopole)
    theta = draw_prior(model.parameters, 2000, rng=np.random.default_rng(8))
    corners = [
        [low, high] for low in model.parameters[0].prior.support() for high in model.parameters[1].prior.support()
    ]
    power = model.c_ell(np.concatenate([theta, corners]), np.array([1.0, 10.0, 100.0]), 40)
    assert power.shape == (2004, 3, 3, 41)
    assert np.all(np.isfinite(power))
    assert np.all(power[..., 1:] > 0)
    assert np.all(power[..., 0] == 0)
    np.testing.assert_allclose(power[:2000, 1, 2, 1], 10.0 ** theta[:, 0], rtol=1e-14)


def test_refusals():
    with pytest.raises(ModelDomainError, match=r"exponent 1.2"):
        power_ratio([0.5, 1.2], 5)
    with pytest.raises(ModelDomainError, match="exponent nan"):
        power_ratio(np.nan, 5)
    with pytest.raises(ValueError, match="lmax 0"):
        power_ratio(0.5, 0)
