"""Subtraction of low multipoles and of ring means, on HEALPix and on rings, against skies written out by hand."""

from dataclasses import replace

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ObsfitError
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.multipole_subtraction import subtract_multipoles, subtraction_response
from obsfit.reconstruct.ring_means import remove_ring_means
from obsfit.records.event_map import EventMap, HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap
from obsfit.sky.coupling import band_coupling

NSIDE = 32
X, Y, Z = hp.pix2vec(NSIDE, np.arange(12 * NSIDE**2))
SOURCE = Provenance("mock")

# All real harmonics with m != 0 and l <= 3 as polynomials: no recursion, no library.
POLYNOMIALS = {
    "x": X, "y": Y, "xz": X * Z, "yz": Y * Z, "x2-y2": X**2 - Y**2, "xy": X * Y,
    "x(5z2-1)": X * (5 * Z**2 - 1), "y(5z2-1)": Y * (5 * Z**2 - 1), "z(x2-y2)": Z * (X**2 - Y**2), "xyz": X * Y * Z,
    "x(x2-3y2)": X * (X**2 - 3 * Y**2), "y(3x2-y2)": (3 * X**2 - Y**2) * Y,
}  # fmt: skip


def cut(values, low=-30.0, high=60.0):
    dec = np.degrees(np.arcsin(Z))
    return np.where((dec > low) & (dec < high), values, np.nan)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_each_harmonic_to_l_3_is_subtracted_entirely(name):
    """Wrong l = 3 functions, as (3x2 - xy) y for (3x2 - y2) y, leave a part of the sky behind and add another."""
    found = subtract_multipoles(SkyMap(cut(1e-3 * POLYNOMIALS[name]), SOURCE), 3)
    assert np.nanmax(np.abs(found.residual.delta_i)) < 1e-12


def test_the_fitted_values_are_a_lm():
    """A dipole (0h, 6h) = (1, 2) and xz: a_11 = sqrt(2 pi/3)(-1 + 2i), a_21 = -sqrt(2 pi/15) for 1."""
    found = subtract_multipoles(SkyMap(cut(X + 2 * Y + X * Z), SOURCE), 3)
    alm = dict(zip(zip(found.ell.tolist(), found.m.tolist(), strict=True), found.alm, strict=True))
    assert alm[1, 1] == pytest.approx(np.sqrt(2 * np.pi / 3) * (-1 + 2j), rel=1e-9)
    assert alm[2, 1] == pytest.approx(-np.sqrt(2 * np.pi / 15), rel=1e-9)
    assert max(abs(alm[key]) for key in ((2, 2), (3, 1), (3, 2), (3, 3))) < 1e-9


def test_a_zonal_sky_is_left_alone():
    zonal = cut(1e-3 * (Z + 3 * Z**2))
    found = subtract_multipoles(SkyMap(zonal, SOURCE), 3)
    np.testing.assert_allclose(found.residual.delta_i, zonal, atol=1e-15)


def test_what_is_left_of_higher_multipoles_is_as_the_response_says():
    """A random sky of l = 1..8: pseudo-a_lm of the residual by healpy against T times the response."""
    rng = np.random.default_rng(2)
    lmax = 8
    alm = rng.normal(size=hp.Alm.getsize(lmax)) + 1j * rng.normal(size=hp.Alm.getsize(lmax))
    ell, m = hp.Alm.getlm(lmax)
    alm[(m == 0) | (ell == 0)] = 0.0
    nside = 128
    sky = hp.alm2map(alm, nside, lmax=lmax)
    # The limits of the band are limits of pixel rings, so that pixels sum up to the integral.
    z = hp.pix2vec(nside, np.arange(12 * nside**2))[2]
    low, high = -0.5, 0.75
    edges = 0.5 * (np.unique(z)[1:] + np.unique(z)[:-1])
    low, high = (edges[np.argmin(np.abs(edges - x))] for x in (low, high))
    band = (z > low) & (z < high)
    found = subtract_multipoles(SkyMap(np.where(band, sky, np.nan), SOURCE), 3)
    pseudo = hp.map2alm(np.nan_to_num(found.residual.delta_i), lmax=lmax, iter=0)
    coupling = band_coupling(np.arcsin(low) * u.rad, np.arcsin(high) * u.rad, lmax, filtered=True)
    matrix = coupling @ subtraction_response(coupling, 3)
    expected = np.zeros_like(alm)
    for order in range(1, lmax + 1):
        block = np.zeros(lmax + 1, dtype=complex)
        block[order:] = alm[m == order]
        expected[m == order] = (matrix[order] @ block)[order:]
    # Sums over pixels at nside 128 instead of integrals; the largest pseudo-a_lm are above one half.
    np.testing.assert_allclose(pseudo[m > 0], expected[m > 0], atol=3e-3)
    assert np.max(np.abs(pseudo[(m > 0) & (ell <= 3)])) < 3e-3
    assert np.abs(expected).max() > 0.5


def test_the_response_is_a_projection():
    coupling = band_coupling(-25 * u.deg, 65 * u.deg, 10, filtered=True)
    response = subtraction_response(coupling, 3)
    np.testing.assert_allclose(response @ response, response, atol=1e-10)
    np.testing.assert_allclose((coupling @ response)[:, :4], 0.0, atol=1e-12)


def test_a_weighted_fit_is_the_least_squares_solution():
    """A weight of any shape, against numpy's own solver on the seen pixels."""
    rng = np.random.default_rng(4)
    noise = cut(rng.normal(size=X.size), 20.0, 90.0)
    weight = rng.uniform(0.1, 2.0, X.size)
    found = subtract_multipoles(SkyMap(noise, SOURCE), 2, weight=weight)
    seen = np.isfinite(noise)
    functions = np.stack([X, Y, X * Z, Y * Z, X**2 - Y**2, X * Y], axis=1)[seen]
    # Rings here are complete, and these functions have no mean along them; the noise has.
    ring = np.round(Z[seen], 9)
    values = noise[seen].copy()
    for z in np.unique(ring):
        values[ring == z] -= values[ring == z].mean()
    root = np.sqrt(weight[seen])[:, None]
    solution = np.linalg.lstsq(functions * root, values * root[:, 0], rcond=None)[0]
    np.testing.assert_allclose(found.residual.delta_i[seen], noise[seen] - functions @ solution, atol=1e-10)


def test_an_empty_field_and_a_small_one_are_refused():
    """Swapped limits of declination are an empty field: an error, not a map from which nothing was subtracted."""
    with pytest.raises(ValueError, match="no pixel"):
        subtract_multipoles(SkyMap(cut(X, 60.0, -30.0), SOURCE), 3)
    with pytest.raises(ObsfitError, match="told apart"):
        subtract_multipoles(SkyMap(cut(X, 85.0, 90.0), SOURCE), 6)
    with pytest.raises(ValueError, match="weight"):
        subtract_multipoles(SkyMap(X, SOURCE), 3, weight=np.ones(5))
    with pytest.raises(ValueError, match="coupling"):
        subtraction_response(np.zeros((4, 4, 4)), 4)


def sky_on_rings(amplitude=1e-3):
    """Noise-free counts of x + xz + z(x2-y2) at a mid latitude, centres of cells."""
    n_dec, n_time = 48, 72
    grid = HourAngleGrid(n_dec, n_time)
    tau = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    dec = -np.pi / 2 + np.pi * (np.arange(n_dec) + 0.5) / n_dec
    d, h = np.meshgrid(dec, tau, indexing="ij")
    up = np.sin(0.5) * np.sin(d) + np.cos(0.5) * np.cos(d) * np.cos(h)
    acceptance = np.where(up > 0.64, up * np.cos(d), 0.0)
    alpha = tau[:, None, None] - h
    x, y, z = np.cos(d) * np.cos(alpha), np.cos(d) * np.sin(alpha), np.sin(d)
    counts = 1e7 * acceptance * (1 + amplitude * (x + x * z + z * (x**2 - y**2)))
    return EventMap(counts.reshape(n_time, -1), grid, "mock", SOURCE)


def test_a_reconstructed_map_loses_what_was_fitted_and_keeps_its_counts():
    """Residual of a sky of l <= 3: 2 % of its rms (bands of 4 degrees); counts and the product I E are unchanged."""
    made = IterativeLikelihood().reconstruct(sky_on_rings())
    found = subtract_multipoles(made, 3)
    left = found.residual
    assert np.nanstd(left.relative_intensity) < 0.02 * np.nanstd(made.relative_intensity)
    np.testing.assert_array_equal(left.counts, made.counts)
    seen = made.expected > 0
    np.testing.assert_allclose(
        (left.relative_intensity * left.expected)[seen],
        (made.relative_intensity * made.expected)[seen],
        rtol=1e-12,
    )
    np.testing.assert_allclose(np.nanmean(left.relative_intensity[seen.any(axis=1)], axis=1), 1.0, atol=1e-13)
    assert left.spec.settings["subtracted_lmax"] == 3
    with pytest.raises(ValueError, match="expected None"):
        subtract_multipoles(made, 3, weight=np.ones(3))


def test_ring_means_remove_a_l0_and_nothing_else():
    """Complete rings: x and xz stay to rounding, z and z2 go; incomplete: the mean over what is seen."""
    values = X + X * Z + 3 * Z + Z**2
    found = remove_ring_means(SkyMap(cut(values), SOURCE)).delta_i
    np.testing.assert_allclose(found, cut(X + X * Z), atol=1e-14)
    half = np.where(X > 0, cut(values), np.nan)
    found = remove_ring_means(SkyMap(half, SOURCE)).delta_i
    for z in np.unique(np.round(Z, 9)):
        ring = np.isfinite(found) & (np.round(Z, 9) == z)
        assert not ring.any() or abs(found[ring].mean()) < 1e-14
    assert np.array_equal(np.isfinite(found), np.isfinite(half))
    again = remove_ring_means(SkyMap(found, SOURCE)).delta_i
    np.testing.assert_allclose(again, found, atol=1e-14)


def test_ring_means_of_a_reconstructed_map():
    made = IterativeLikelihood().reconstruct(sky_on_rings())
    skewed = np.linspace(0.9, 1.1, 48)[:, None]
    found = remove_ring_means(
        replace(made, relative_intensity=made.relative_intensity * skewed, expected=made.expected / skewed)
    )
    np.testing.assert_allclose(found.relative_intensity, made.relative_intensity, rtol=1e-12)
    np.testing.assert_allclose(found.expected, made.expected, rtol=1e-12)
