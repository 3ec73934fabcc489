"""Directions and the a_lm of functions on them, against healpy."""

import healpy as hp
import numpy as np
import pytest
from obsfit_models.turbulence.directions import (
    degree_sums,
    fitted_alm,
    gram_matrix,
    harmonic_sums,
    healpix_directions,
    jittered_directions,
    patch_directions,
    real_harmonics,
)


def random_alm(lmax, rng):
    alm = rng.normal(size=hp.Alm.getsize(lmax)) + 1j * rng.normal(size=hp.Alm.getsize(lmax))
    alm[: lmax + 1] = alm[: lmax + 1].real
    return alm


def test_harmonics_are_those_of_healpy():
    """alm2map is the definition; the coefficients of the real basis are sqrt(2) times real and imaginary parts."""
    alm = random_alm(7, np.random.default_rng(1))
    m = hp.Alm.getlm(7)[1]
    coefficients = np.concatenate([np.where(m == 0, 1, np.sqrt(2)) * alm.real, np.sqrt(2) * alm.imag[m > 0]])
    values = real_harmonics(healpix_directions(4), 7) @ coefficients
    assert values == pytest.approx(hp.alm2map(alm, 4), abs=1e-12)


def test_harmonics_next_to_a_pole_are_those_of_the_distance_from_it():
    """Y_11 is -(3 / 8 pi)^(1/2) (x + i y), however small x and y, to rounding of the angles."""
    away = np.array([[1e-9, 0.0, 0.0], [0.0, -1e-12, 0.0], [1.0, -1.0, 1.0]])
    values = real_harmonics(away, 1)
    # Order: (0, 0), (1, 0), (1, 1) and the imaginary part of (1, 1).
    size = np.sqrt(3 / (4 * np.pi))
    np.testing.assert_allclose(values[:, 2], -size * away[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(values[:, 3], size * away[1], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(values[:, 1], size * away[2], rtol=1e-12)


def test_fit_is_exact_below_lmax_on_any_directions():
    rng = np.random.default_rng(2)
    alm = random_alm(5, rng)
    vectors = rng.normal(size=(3, 300))
    vectors /= np.linalg.norm(vectors, axis=0)
    theta, phi = np.arccos(vectors[2]), np.arctan2(vectors[1], vectors[0])
    ell, m = hp.Alm.getlm(5)
    from scipy.special import sph_harm_y

    values = sum(
        (1 if n == 0 else 2) * np.real(a * sph_harm_y(degree, n, theta, phi))
        for a, degree, n in zip(alm, ell, m, strict=True)
    )
    halves = [harmonic_sums(vectors[:, part], values[part], 5) for part in (slice(0, 100), slice(100, 300))]
    assert fitted_alm(halves[0] + halves[1], gram_matrix(vectors, 5)) == pytest.approx(alm, abs=1e-12)


def test_directions_that_cannot_tell_the_multipoles_apart_are_refused():
    with pytest.raises(ValueError, match="do not determine"):
        fitted_alm(np.zeros(36), gram_matrix(healpix_directions(1)[:, :8], 5))


def test_jittered_directions_lie_in_their_pixels_and_fill_them():
    vectors = jittered_directions(8, rng=np.random.default_rng(3))
    assert np.array_equal(hp.vec2pix(8, *vectors), np.arange(768))
    # 768 pixels of four children each: a share of 1/4 has standard deviation 0.0156; bound at 5, false alarm 2e-6.
    child = hp.vec2pix(16, *vectors, nest=True) % 4
    assert np.bincount(child) / 768 == pytest.approx(0.25, abs=0.078)


@pytest.mark.parametrize("nside", [0, 3, -4])
def test_nside_must_be_a_power_of_two(nside):
    with pytest.raises(ValueError, match="power of two"):
        healpix_directions(nside)


def test_a_patch_is_regular_in_longitude_and_latitude():
    longitude, latitude = np.radians([150.0, 165.0, 180.0]), np.radians([0.0, 30.0])
    vectors = patch_directions(longitude, latitude)
    assert vectors.shape == (3, 2, 3)
    assert np.arcsin(vectors[2]) == pytest.approx(np.repeat(latitude[:, None], 3, axis=1), abs=1e-15)
    assert np.arctan2(vectors[1], vectors[0])[1] == pytest.approx(longitude, abs=1e-12)
    with pytest.raises(ValueError, match="within"):
        patch_directions([0.0], [1.6])


def test_a_patch_keeps_its_shape_about_any_centre():
    offsets = np.radians([-10.0, 0.0, 20.0])
    here = patch_directions(offsets, offsets).reshape(3, -1)
    there = patch_directions(offsets, offsets, centre=(2.5, -1.1)).reshape(3, -1)
    assert there.T @ there == pytest.approx(here.T @ here, abs=1e-14)
    middle = there[:, 4]
    assert np.arctan2(middle[1], middle[0]) == pytest.approx(2.5, abs=1e-14)
    assert np.arcsin(middle[2]) == pytest.approx(-1.1, abs=1e-14)
    # North is up and east ahead: longitude grows along a row.
    assert np.arcsin(there[2, 7]) == pytest.approx(-1.1 + np.radians(20), abs=1e-14)
    assert 2.5 < np.arctan2(there[1, 5], there[0, 5]) % (2 * np.pi) < np.pi + 1


def test_sums_over_m_keep_each_degree():
    ell, m = hp.Alm.getlm(4)
    values = np.stack([ell * 1.0, 10.0**m])
    assert degree_sums(values)[0].tolist() == [0, 2, 6, 12, 20]
    assert degree_sums(values)[1].tolist() == [1, 11, 111, 1111, 11111]
