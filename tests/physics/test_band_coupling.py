"""Mixing of multipoles by a declination cut: limits, mpmath, and pixelised skies."""

import astropy.units as u
import healpy as hp
import mpmath
import numpy as np
import pytest

from obsfit.sky.coupling import band_coupling, dipole_inversion_factor

BAND = (-26 * u.deg, 64 * u.deg)


def test_the_whole_sphere_mixes_nothing():
    matrices = band_coupling(-90 * u.deg, 90 * u.deg, 12, filtered=False)
    for m in range(13):
        np.testing.assert_allclose(matrices[m], np.diag(np.arange(13) >= m), atol=1e-12)
    assert not band_coupling(-90 * u.deg, 90 * u.deg, 12, filtered=True)[0].any()


def test_the_dipole_entry_is_the_inversion_factor():
    matrices = band_coupling(*BAND, 5, filtered=True)
    s1, s2 = np.sin([edge.to_value(u.rad) for edge in BAND])
    assert matrices[1, 1, 1] == pytest.approx(dipole_inversion_factor(s1, s2), rel=1e-12)


@pytest.mark.parametrize(("m", "a", "b"), [(0, 3, 8), (1, 1, 2), (2, 5, 9), (6, 6, 10)])
def test_entries_against_mpmath(m, a, b):
    """Adaptive quadrature of explicit Legendre functions with 25 digits."""
    with mpmath.workdps(25):
        s1, s2 = (mpmath.sin(mpmath.radians(edge.value)) for edge in BAND)

        def function(ell, s):
            norm = mpmath.sqrt(
                (2 * ell + 1) / (4 * mpmath.pi) * mpmath.factorial(ell - m) / mpmath.factorial(ell + m)
            )
            return norm * mpmath.legenp(ell, m, s, type=2)

        pieces = mpmath.linspace(s1, s2, 3)
        exact = 2 * mpmath.pi * mpmath.quad(lambda s: mpmath.re(function(a, s) * function(b, s)), pieces)
    assert band_coupling(*BAND, 30, filtered=False)[m, a, b] == pytest.approx(float(exact), abs=1e-12)


def test_a_masked_sky_on_pixels():
    """Mask the map of one a_lm and expand it again; nside 256 resolves the edge to 2e-3."""
    lmax, nside = 6, 256
    theta, _ = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    dec = 90 - np.degrees(theta)
    matrices = band_coupling(*BAND, lmax, filtered=False)
    for ell, m in ((1, 1), (3, 2), (4, 0)):
        alm = np.zeros(hp.Alm.getsize(lmax), complex)
        alm[hp.Alm.getidx(lmax, ell, m)] = 1.0
        seen = hp.map2alm(hp.alm2map(alm, nside) * ((dec >= -26) & (dec <= 64)), lmax=lmax, iter=0)
        for out in range(m, lmax + 1):
            assert seen[hp.Alm.getidx(lmax, out, m)].real == pytest.approx(matrices[m, out, ell], abs=3e-3)


def test_an_empty_band_is_refused():
    with pytest.raises(ValueError, match="expected -90 deg <= dec_min < dec_max"):
        band_coupling(10 * u.deg, 10 * u.deg, 3, filtered=True)
