"""Mean pseudo-power of Gaussian skies on a grid of rings, against the matrix M."""

import astropy.units as u
import numpy as np
import pytest
from numpy.polynomial import Legendre
from scipy.stats import chi2

from obsfit.sky.coupling import band_coupling, power_coupling

LMAX, SKIES = 8, 30000
N_RINGS, N_ALPHA = 24, 20
"""Gauss-Legendre rings inside the band and 20 right ascensions: harmonics up to l = 8 are exact to rounding."""
CASES = {
    "mid-latitude": ((-26, 64), lambda s: np.ones_like(s)),
    "cap": ((-90, -25), lambda s: np.ones_like(s)),
    "cap, weighted": ((-90, -25), lambda s: np.abs(s) ** 1.5),
}


def rings(band):
    edges = np.sin(np.radians(band))
    nodes, weights = np.polynomial.legendre.leggauss(N_RINGS)
    return 0.5 * (edges[1] - edges[0]) * nodes + 0.5 * edges.sum(), 0.5 * (edges[1] - edges[0]) * weights


def real_harmonics(s):
    """Orthonormal real harmonics on the grid of rings, shape (n_harmonics, n_rings, N_ALPHA), and their l."""
    alpha = 2 * np.pi * np.arange(N_ALPHA) / N_ALPHA
    functions, ells = [], []
    for ell in range(LMAX + 1):
        polynomial = Legendre.basis(ell)
        for m in range(ell + 1):
            latitude = (1 - s**2) ** (m / 2) * polynomial.deriv(m)(s)
            falling = np.prod(np.arange(ell - m + 1, ell + m + 1, dtype=float))
            latitude = latitude * np.sqrt((2 * ell + 1) / (4 * np.pi) / falling)
            waves = (
                [np.ones(N_ALPHA)] if m == 0 else [np.sqrt(2) * np.cos(m * alpha), np.sqrt(2) * np.sin(m * alpha)]
            )
            functions += [np.outer(latitude, wave) for wave in waves]
            ells += [ell] * len(waves)
    return np.array(functions), np.array(ells)


def pseudo_powers(skies, band, weight, *, filtered):
    """Remove ring means, weight, expand and square; skies of shape (n, n_rings, N_ALPHA)."""
    s, width = rings(band)
    if filtered:
        skies = skies - skies.mean(axis=2, keepdims=True)
    harmonics, ells = real_harmonics(s)
    solid_angle = width * 2 * np.pi / N_ALPHA
    modes = np.einsum("nra,r,hra->nh", skies, weight(s) * solid_angle, harmonics, optimize=True)
    power = np.stack([np.sum(modes[:, ells == ell] ** 2, axis=1) for ell in range(LMAX + 1)], axis=1)
    return power / (2 * np.arange(LMAX + 1) + 1)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_mean_power_of_gaussian_skies(case, filtered):
    """30 000 skies with C_l from l = 0 to 8; false alarm 1e-4 for each case.

    The means are known to 0.2 to 0.8 %. Powers of a cap are nearly one number at low l: the largest pull is
    compared with its bound for any correlation (Bonferroni).
    """
    band, weight = CASES[case]
    c_ell = np.array([5.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05])
    harmonics, ells = real_harmonics(rings(band)[0])
    rng = np.random.default_rng(31)
    alm = rng.normal(size=(SKIES, ells.size)) * np.sqrt(c_ell[ells])
    skies = np.tensordot(alm, harmonics, axes=1)
    power = pseudo_powers(skies, band, weight, filtered=filtered)
    coupling = band_coupling(band[0] * u.deg, band[1] * u.deg, LMAX, filtered=filtered, weight=weight)
    expected = power_coupling(coupling) @ c_ell
    error = power.std(axis=0) / np.sqrt(SKIES)
    first = 1 if filtered else 0
    pulls = (power.mean(axis=0) - expected)[first:] / error[first:]
    assert np.all(error[first:] < 0.01 * expected[first:])
    assert np.max(pulls**2) < chi2.isf(1e-4 / pulls.size, 1)
    if filtered:
        assert power[:, 0].max() < 1e-25
        assert expected[0] == 0.0


def test_a_sky_of_m_0_alone_has_no_power():
    """Ring means are all there is in it, and they are removed: zero to the square of rounding."""
    harmonics, _ = real_harmonics(rings((-90, -25))[0])
    zonal = np.flatnonzero(np.ptp(harmonics, axis=2).max(axis=1) < 1e-12)
    assert zonal.size == LMAX + 1
    sky = harmonics[zonal].sum(axis=0, keepdims=True)
    assert pseudo_powers(sky, (-90, -25), np.ones_like, filtered=True).max() < 1e-28
    coupling = band_coupling(-90 * u.deg, -25 * u.deg, LMAX, filtered=True)
    assert not coupling[0].any()
