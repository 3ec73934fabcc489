from itertools import pairwise

import numpy as np
import pytest
from obsfit_models.relative_diffusion import evolve, power_from_rate, power_ratio, relaxation_matrix
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre


def test_a_constant_rate_damps_each_multipole_for_itself():
    """nu_r = nu: the two-point function decays as exp(-nu l (l + 1) t), twice the rate of one particle (AM17, 44)."""
    ell = np.arange(6)
    spectrum = evolve(np.ones(6), lambda x: np.full_like(x, 1.5), 0.2)
    np.testing.assert_allclose(spectrum, np.exp(-1.5 * ell * (ell + 1) * 0.2), rtol=1e-10)


def test_the_sum_is_conserved_if_the_rate_vanishes_at_one():
    """A polynomial rate of degree 2 couples l to l +- 2, so that no power leaves lmax from l <= lmax - 2."""
    ell = np.arange(21)
    matrix = relaxation_matrix(lambda x: (1 - x) * (2 + x), 20, endpoint_exponent=0.0)
    growth = (2 * ell + 1) @ matrix[:, :19]
    scale = np.abs((2 * ell + 1)[:, None] * matrix[:, :19]).max(axis=0)
    np.testing.assert_allclose(growth / np.where(scale > 0, scale, 1), 0, atol=1e-12)


def test_the_sum_is_lost_at_the_rate_at_one():
    """d/dt sum (2 k + 1) C_k = -nu_r(1) sum (2 l + 1) l (l + 1) C_l."""
    ell = np.arange(21)
    matrix = relaxation_matrix(lambda x: (1 - x) * (2 + x) + 0.3, 20, endpoint_exponent=0.0)
    np.testing.assert_allclose(
        (2 * ell + 1) @ matrix[:, 1:19], 0.3 * ((2 * ell + 1) * ell * (ell + 1))[1:19], rtol=1e-9
    )


def test_a_power_law_conserves_in_time():
    """(1 - x): what is missing after a short time has left through the open top, which it has hardly reached."""
    start = np.zeros(41)
    start[1] = 1.0
    ell = np.arange(41)
    totals = evolve(start, lambda x: 1 - x, [0.01, 0.05, 0.1], endpoint_exponent=1.0) @ (2 * ell + 1)
    np.testing.assert_allclose(totals, 3.0, rtol=1e-10)
    lossy = evolve(start, lambda x: 1.2 - x, [0.1], endpoint_exponent=0.0) @ (2 * ell + 1)
    assert lossy[0] < 2.9


def test_power_stays_positive():
    for p in (0.2, 0.5, 1.0):
        start = np.zeros(31)
        start[1] = 1.0
        spectrum = evolve(start, lambda x, p=p: (1 - x) ** p, [0.01, 0.3, 2.0, 10.0], endpoint_exponent=p)
        # positive up to the rounding of the largest entry
        assert spectrum.min() > -1e-14


def test_eq_77_is_the_late_state_if_the_monopole_need_not_grow():
    """An even rate: the mean of x is zero, the monopole stands still, and Eq. (77) is exact."""

    def rate(x):
        return 2 - x**2

    spectrum = evolve(np.zeros(41), rate, [60.0, 61.0], 0.7, endpoint_exponent=0.0)
    np.testing.assert_allclose(spectrum[0, 1:8:2], 0.7 * power_from_rate(rate, 7)[1::2], rtol=1e-10)
    np.testing.assert_allclose(spectrum[:, 0], 0, atol=1e-12)


def test_e41_otherwise_the_monopole_grows_and_the_late_state_is_another():
    """A smooth rate, so that the truncation converges geometrically and 1e-10 is within reach."""

    def rate(x):
        return 2 - x

    spectrum = evolve(np.zeros(41), rate, [60.0, 61.0], 1.0, endpoint_exponent=0.0)
    late = power_from_rate(rate, 8, growing_monopole=True)
    np.testing.assert_allclose(spectrum[0, 1:7], late[1:7], rtol=1e-9)
    assert abs(spectrum[0, 2] / power_from_rate(rate, 8)[2] - 1) > 0.05
    # The monopole grows as 3 Q_1 times the mean of x: by hand, 2 - 2 / ln 3 for this rate.
    assert spectrum[1, 0] - spectrum[0, 0] == pytest.approx(3 * (2 - 2 / np.log(3)), rel=1e-10)


@pytest.mark.parametrize("p", [1 / 3, 1 / 2])
def test_the_late_state_of_a_power_law_has_the_closed_form(p):
    """The truncation error falls as lmax^(2 p - 2); two steps of Richardson's extrapolation leave 1e-5."""
    lmax = np.array([40, 80, 160])
    values = []
    for top in lmax:
        spectrum = evolve(np.zeros(top + 1), lambda x: (1 - x) ** p, 2e4, 1.0, endpoint_exponent=p)
        values.append(spectrum[1:4])
    order = 2 - 2 * p
    steps = [(2**order * b - a) / (2**order - 1) for a, b in pairwise(values)]
    best = (2 ** (order + 1) * steps[1] - steps[0]) / (2 ** (order + 1) - 1)
    np.testing.assert_allclose(best / best[0], power_ratio(p, 3, growing_monopole=True)[1:], rtol=3e-5)
    assert abs(best[1] / best[0] / power_ratio(p, 3)[2] - 1) > 0.05


def test_e23_the_scattering_term_damps():
    """With the sign printed in Eq. (76) every multipole would grow."""
    matrix = relaxation_matrix(lambda x: np.sqrt(1 - x), 20, endpoint_exponent=0.5)[1:, 1:]
    assert np.all(np.diag(matrix) > 0)
    assert np.all(np.linalg.eigvals(matrix).real > 0)


def test_e24_the_correlated_rate_drops_out_not_the_relative_one():
    """A common rotation of both momenta changes no isotropic two-point function, J^2 P_l(p1.p2) = 0."""
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=(2, 100, 3))
    first /= np.linalg.norm(first, axis=1)[:, None]
    second /= np.linalg.norm(second, axis=1)[:, None]
    turn = Rotation.from_rotvec([0.3, -1.0, 0.4])

    def correlation(a, b):
        return eval_legendre(5, np.sum(a * b, axis=1))

    before = correlation(first, second)
    np.testing.assert_allclose(correlation(turn.apply(first), turn.apply(second)), before, atol=1e-13)
    assert np.abs(correlation(turn.apply(first), second) - before).max() > 0.5
    # and the spectrum is inverse to the relative rate
    slow = power_from_rate(lambda x: np.sqrt(1 - x), 5, endpoint_exponent=0.5)
    fast = power_from_rate(lambda x: 2 * np.sqrt(1 - x), 5, endpoint_exponent=0.5)
    np.testing.assert_allclose(fast, slow / 2, rtol=1e-12)
