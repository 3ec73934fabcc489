"""The Compton-Getting model: first order, all orders against quadrature, and no double counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from obsfit_models._axial import axial_alm
from obsfit_models.compton_getting import ComptonGetting
from scipy.special import sph_harm_y

from obsfit.errors import ConfigurationError
from obsfit.plugins import load_model
from obsfit.protocols import OffersAlm, OffersDipole, true_sky

LIGHT = 299792.458
RIGIDITY = np.array([1.0, 100.0])


def healpy_order(lmax):
    return [(ell, m) for m in range(lmax + 1) for ell in range(m, lmax + 1)]


def sphere(n):
    """Gauss-Legendre rings of a grid exact for harmonics below degree 2n, with weights."""
    nodes, weights = leggauss(n)
    phi = 2 * np.pi * np.arange(2 * n) / (2 * n)
    colatitude, longitude = (g.ravel() for g in np.meshgrid(np.arccos(nodes), phi, indexing="ij"))
    return colatitude, longitude, np.repeat(weights, 2 * n) * np.pi / n


def analyse(intensity, lmax, n=60):
    colatitude, longitude, weight = sphere(n)
    sine = np.sin(colatitude)
    directions = np.stack([sine * np.cos(longitude), sine * np.sin(longitude), np.cos(colatitude)], axis=-1)
    values = intensity(directions)
    values = values / (np.sum(values * weight) / (4 * np.pi)) - 1
    return np.array(
        [
            np.sum(weight * values * sph_harm_y(ell, m, colatitude, longitude).conj())
            for ell, m in healpy_order(lmax)
        ]
    )


@given(st.floats(0.0, np.pi), st.floats(-np.pi, np.pi))
@settings(deadline=None, max_examples=50)
def test_axial_sky_against_scipy_harmonics(colatitude, longitude):
    """a_lm = 4 pi c_l Y*_lm(axis) / (2l + 1); healpy's rotation keeps 1e-13."""
    lmax = 12
    coefficients = np.random.default_rng(1).normal(size=lmax + 1)
    axis = np.array(
        [np.sin(colatitude) * np.cos(longitude), np.sin(colatitude) * np.sin(longitude), np.cos(colatitude)]
    )
    expected = [
        4 * np.pi / (2 * ell + 1) * coefficients[ell] * sph_harm_y(ell, m, colatitude, longitude).conj()
        for ell, m in healpy_order(lmax)
    ]
    np.testing.assert_allclose(axial_alm(axis, coefficients), expected, atol=1e-12)


def test_all_orders_against_quadrature_at_a_third_of_the_speed_of_light():
    beta = np.array([0.1, -0.2, 0.25])
    model = ComptonGetting(tuple(LIGHT * beta), exact=True)
    found = model.alm(np.array([[2.7], [3.1]]), RIGIDITY, 6)
    for row, index in zip(found, (2.7, 3.1), strict=True):
        expected = analyse(lambda n, index=index: (1 - n @ beta) ** -(2 + index), 6)
        np.testing.assert_allclose(row, np.tile(expected, (2, 1)), atol=1e-12)


def test_first_order_is_the_limit_and_its_error_is_second_order():
    """Leading quadrupole (2 + Gamma)(3 + Gamma) beta^2 / 3 of P_2; the dipole differs at third order."""
    speed, vectors = 1e-3, np.array([[2.7]])
    velocity = (0.0, 0.0, speed * LIGHT)
    first = ComptonGetting(velocity).alm(vectors, RIGIDITY, 2)[0, 0].real
    exact = ComptonGetting(velocity, exact=True).alm(vectors, RIGIDITY, 2)[0, 0].real
    assert exact[1] == pytest.approx(first[1], rel=1e-5)
    assert first[1] == pytest.approx(4.7 * speed * np.sqrt(4 * np.pi / 3), rel=1e-14)
    assert exact[2] == pytest.approx(4.7 * 5.7 / 3 * speed**2 * np.sqrt(4 * np.pi / 5), rel=1e-4)
    assert first[2] == 0.0


@pytest.mark.parametrize("exact", [False, True])
def test_an_observer_at_rest_sees_nothing(exact):
    assert not ComptonGetting((0.0, 0.0, 0.0), exact=exact).alm(np.array([[2.7]]), RIGIDITY, 3).any()


@pytest.mark.parametrize("exact", [False, True])
def test_the_dipole_is_counted_once(exact):
    """Only `alm` is offered, so that the true sky has the dipole once: 2.822e-4 towards the LSR apex."""
    model = load_model("compton-getting", motion="LSR", exact=exact)
    assert isinstance(model, OffersAlm)
    assert not isinstance(model, OffersDipole)
    alm = true_sky(model, np.array([[2.7]]), RIGIDITY, 2).alm[0, 0]
    size = np.sqrt(3 / (4 * np.pi) * (alm[1].real ** 2 + 2 * abs(alm[3]) ** 2))
    assert size == pytest.approx(2.822e-4, rel=3e-4)


def test_the_same_at_all_rigidities_and_linear_in_two_plus_gamma():
    found = ComptonGetting("ISM").alm(np.array([[2.0], [4.0]]), RIGIDITY, 1)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_allclose(found[1], 1.5 * found[0], rtol=1e-14)


def test_refusals():
    with pytest.raises(ConfigurationError):
        ComptonGetting("warp")
    with pytest.raises(ConfigurationError, match="turns with the year"):
        ComptonGetting("earth-orbit")
    for velocity in ((3e5, 0.0, 0.0), (np.nan, 0.0, 0.0), (1.0, 2.0)):
        with pytest.raises(ValueError, match="slower than light"):
            ComptonGetting(velocity)
