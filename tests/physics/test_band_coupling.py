"""Mixing of multipoles by a declination cut: limits, quadrature, Wigner 3j sums, and pixelised skies."""

from fractions import Fraction
from math import factorial

import astropy.units as u
import healpy as hp
import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import sph_harm_y

import obsfit
from obsfit.errors import ObsfitError
from obsfit.sky.coupling import (
    band_coupling,
    dipole_inversion_factor,
    power_coupling,
    ring_coupling,
    truncated_inversion,
)
from obsfit.sky.smoothing import top_hat_window

BAND = (-26 * u.deg, 64 * u.deg)
CAP = (-90 * u.deg, -25 * u.deg)
EXPONENTS = (None, 0.1, 1, 1.5, 2, 6)
"""Of the weight |s|^q; None is a top-hat without a weight."""


def power_law(q):
    return None if q is None else lambda s: np.abs(s) ** q


def sines(band):
    return np.sin([edge.to_value(u.rad) for edge in band])


def wigner_3j(a, b, c, m):
    """(a b c; m -m 0) by the Racah formula in exact arithmetic, rounded once at the end."""
    if not abs(a - b) <= c <= a + b or m > min(a, b):
        return 0.0
    f = factorial
    root = Fraction(f(a + b - c) * f(a - b + c) * f(b + c - a), f(a + b + c + 1))
    root *= f(a + m) * f(a - m) * f(b - m) * f(b + m) * f(c) ** 2
    total = Fraction(0)
    for t in range(max(0, b - c - m, a - c - m), min(a + b - c, a - m, b - m) + 1):
        bottom = f(t) * f(c - b + t + m) * f(c - a + t + m) * f(a + b - c - t) * f(a - t - m) * f(b - t - m)
        total += Fraction((-1) ** t, bottom)
    return (-1) ** (a - b) * float(total) * float(root) ** 0.5


def zonal_multipoles(band, q, kmax):
    """b_k0 of the weight |s|^q in a band, from the coefficients of P_k and the integrals of single powers of s."""
    with mpmath.workdps(60):
        exponent = mpmath.mpf(str(q or 0))
        edges = [mpmath.sin(mpmath.radians(edge.value)) for edge in band]

        def primitive(s, j):
            return mpmath.sign(s) ** (j + 1) * abs(s) ** (exponent + j + 1) / (exponent + j + 1)

        moments = [primitive(edges[1], j) - primitive(edges[0], j) for j in range(kmax + 1)]
        result = []
        for k in range(kmax + 1):
            total = mpmath.mpf(0)
            for i in range(k // 2 + 1):
                top = (-1) ** i * factorial(2 * k - 2 * i)
                coefficient = Fraction(top, 2**k * factorial(i) * factorial(k - i) * factorial(k - 2 * i))
                total += mpmath.mpf(coefficient.numerator) / coefficient.denominator * moments[k - 2 * i]
            result.append(float(2 * mpmath.pi * mpmath.sqrt((2 * k + 1) / (4 * mpmath.pi)) * total))
    return np.array(result)


def test_the_whole_sphere_mixes_nothing():
    matrices = band_coupling(-90 * u.deg, 90 * u.deg, 12, filtered=False)
    for m in range(13):
        np.testing.assert_allclose(matrices[m], np.diag(np.arange(13) >= m), atol=1e-12)
    assert not band_coupling(-90 * u.deg, 90 * u.deg, 12, filtered=True)[0].any()


def test_the_dipole_entry_is_the_inversion_factor():
    matrices = band_coupling(*BAND, 5, filtered=True)
    s1, s2 = np.sin([edge.to_value(u.rad) for edge in BAND])
    assert matrices[1, 1, 1] == pytest.approx(dipole_inversion_factor(s1, s2), rel=1e-12)


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


@pytest.mark.parametrize("band", [BAND, CAP], ids=["mid-latitude", "cap"])
@pytest.mark.parametrize("q", EXPONENTS)
def test_entries_are_sums_over_wigner_symbols(q, band):
    """Eq. (A.1) of AM17 with exact 3j symbols; every entry up to l = 8, to rounding but for the cusp of q = 0.1."""
    lmax = 8
    zonal = zonal_multipoles(band, q, 2 * lmax)
    matrices = band_coupling(*band, lmax, filtered=False, weight=power_law(q))
    expected = np.zeros_like(matrices)
    for m in range(lmax + 1):
        for a in range(m, lmax + 1):
            for b in range(a, lmax + 1):
                terms = [
                    zonal[k] * np.sqrt((2 * k + 1) / (4 * np.pi)) * wigner_3j(a, b, k, 0) * wigner_3j(a, b, k, m)
                    for k in range(b - a, a + b + 1)
                ]
                expected[m, a, b] = (-1) ** m * np.sqrt((2 * a + 1) * (2 * b + 1)) * sum(terms)
                expected[m, b, a] = expected[m, a, b]
    np.testing.assert_allclose(matrices, expected, rtol=0, atol=2e-13)


@pytest.mark.parametrize("band", [BAND, CAP], ids=["mid-latitude", "cap"])
@pytest.mark.parametrize("q", EXPONENTS)
def test_entries_up_to_l_40_against_adaptive_quadrature(q, band):
    """QUADPACK over functions of scipy, with |s|^q as its algebraic weight where the band touches the equator."""
    s1, s2 = sines(band)
    matrices = band_coupling(*band, 40, filtered=False, weight=power_law(q))
    for m, a, b in ((0, 40, 40), (1, 1, 2), (1, 39, 40), (3, 10, 33), (17, 30, 40), (40, 40, 40)):

        def product(s, m=m, a=a, b=b):
            functions = sph_harm_y(np.array([a, b]), m, np.arccos(s), 0.0).real
            return 2 * np.pi * functions[0] * functions[1]

        settings = {"epsabs": 5e-13, "epsrel": 5e-13, "limit": 400}
        if s1 < 0 < s2:
            algebraic = {"weight": "alg", "wvar": (q or 0.0, 0.0), **settings}
            exact = quad(product, 0.0, s2, **algebraic)[0]
            exact += quad(lambda s, f=product: f(-s), 0.0, -s1, **algebraic)[0]
        else:
            exact = quad(lambda s, f=product: f(s) * abs(s) ** (q or 0), s1, s2, **settings)[0]
        assert matrices[m, a, b] == pytest.approx(exact, abs=1e-12)


def test_a_weight_of_one_is_the_top_hat():
    """Two quadratures in different variables."""
    for band in (BAND, CAP):
        weighted = band_coupling(*band, 30, filtered=False, weight=np.ones_like)
        np.testing.assert_allclose(weighted, band_coupling(*band, 30, filtered=False), rtol=0, atol=1e-13)


@pytest.mark.parametrize("weight", [None, np.abs])
def test_unequal_limits_cut_rows_and_columns(weight):
    square = band_coupling(*CAP, 12, filtered=False, weight=weight)
    wide = band_coupling(*CAP, 12, filtered=False, weight=weight, lmax_out=5)
    tall = band_coupling(*CAP, 5, filtered=False, weight=weight, lmax_out=12)
    assert wide.shape == (6, 6, 13)
    np.testing.assert_allclose(wide, square[:6, :6], rtol=0, atol=1e-13)
    np.testing.assert_allclose(tall, square[:6, :, :6], rtol=0, atol=1e-13)


def test_rings_of_a_pixel_map_are_what_healpy_sums():
    """Weighted maps in a band whose rings have at least 68 pixels, so that no m up to 8 meets its alias."""
    nside, lmax = 32, 8
    cosine, count = (hp.ringinfo(nside, np.arange(1, 4 * nside))[i] for i in (2, 1))
    inside = (cosine > -0.6) & (cosine < 0.8)
    matrices = ring_coupling(
        cosine, count * 2 / hp.nside2npix(nside), np.where(inside, 1 + cosine, 0.0), lmax, filtered=False
    )
    s = hp.pix2vec(nside, np.arange(hp.nside2npix(nside)))[2]
    mask = np.where((s > -0.6) & (s < 0.8), 1 + s, 0.0)
    for ell, m in ((0, 0), (1, 1), (5, 2), (8, 8)):
        alm = np.zeros(hp.Alm.getsize(lmax), complex)
        alm[hp.Alm.getidx(lmax, ell, m)] = 1.0
        seen = hp.map2alm(hp.alm2map(alm, nside) * mask, lmax=lmax, iter=0)
        found = [seen[hp.Alm.getidx(lmax, out, m)].real for out in range(m, lmax + 1)]
        np.testing.assert_allclose(matrices[m, m:, ell], found, rtol=0, atol=1e-12)


def test_many_rings_approach_the_integral():
    """Midpoint rule: the error falls as the square of the width, times l^2; measured 3e-6."""
    edges = np.linspace(*sines(CAP), 2001)
    middle = 0.5 * (edges[1:] + edges[:-1])
    rings = ring_coupling(middle, np.diff(edges), np.abs(middle) ** 1.5, 12, filtered=True)
    exact = band_coupling(*CAP, 12, filtered=True, weight=power_law(1.5))
    np.testing.assert_allclose(rings, exact, rtol=0, atol=1e-5)


def test_smoothing_before_the_cut_multiplies_columns():
    """Average a map over discs pixel by pixel, cut it, and expand it; discs of pixels are right to 1 %."""
    nside, lmax, radius = 32, 4, 30 * u.deg
    alm = np.zeros(hp.Alm.getsize(lmax), complex)
    for ell in (1, 2, 3, 4):
        alm[hp.Alm.getidx(lmax, ell, 1)] = 1.0
    sky = hp.alm2map(alm, nside)
    x, y, z = hp.pix2vec(nside, np.arange(sky.size))
    smooth = np.zeros_like(sky)
    seen = np.flatnonzero(z < sines(CAP)[1])
    for pixel in seen:
        smooth[pixel] = sky[hp.query_disc(nside, (x[pixel], y[pixel], z[pixel]), radius.to_value(u.rad))].mean()
    pseudo = hp.map2alm(smooth, lmax=lmax, iter=0)
    matrix = band_coupling(*CAP, lmax, filtered=True)[1] * top_hat_window(radius, lmax)
    for out in range(1, lmax + 1):
        assert pseudo[hp.Alm.getidx(lmax, out, 1)].real == pytest.approx(matrix[out].sum(), abs=5e-3)


@pytest.mark.parametrize("band", [BAND, CAP], ids=["mid-latitude", "cap"])
@pytest.mark.parametrize("q", [None, 1.5])
def test_power_coupling_is_eq_a2(q, band):
    """The sum over 3j symbols without the filter, and with it less [T^0]^2 / (2l + 1) of the output multipole."""
    lmax = 14
    zonal = zonal_multipoles(band, q, 2 * lmax)
    ell = np.arange(lmax + 1)
    unfiltered = np.zeros((lmax + 1, lmax + 1))
    projected = np.zeros_like(unfiltered)
    for a in range(lmax + 1):
        for b in range(lmax + 1):
            symbols = np.array([wigner_3j(a, b, k, 0) for k in range(2 * lmax + 1)])
            unfiltered[a, b] = (2 * b + 1) / (4 * np.pi) * np.sum(zonal**2 * symbols**2)
            root = np.sqrt((2 * a + 1) * (2 * b + 1) * (2 * np.arange(2 * lmax + 1) + 1) / (4 * np.pi))
            projected[a, b] = np.sum(zonal * root * symbols**2)
    weight = power_law(q)
    without = power_coupling(band_coupling(*band, lmax, filtered=False, weight=weight))
    np.testing.assert_allclose(without, unfiltered, rtol=0, atol=1e-12)
    filtered = power_coupling(band_coupling(*band, lmax, filtered=True, weight=weight))
    np.testing.assert_allclose(filtered, unfiltered - projected**2 / (2 * ell[:, None] + 1), rtol=0, atol=1e-12)


def test_power_of_the_whole_sphere():
    """Without its ring means it keeps 2l of 2l + 1 modes."""
    ell = np.arange(11)
    whole = band_coupling(-90 * u.deg, 90 * u.deg, 10, filtered=True)
    np.testing.assert_allclose(power_coupling(whole), np.diag(2 * ell / (2 * ell + 1)), rtol=0, atol=1e-12)


def test_filtered_power_has_no_monopole_either_way():
    matrix = power_coupling(band_coupling(*BAND, 10, filtered=True, weight=np.abs))
    assert not matrix[0].any()
    assert not matrix[:, 0].any()


def test_a_polar_cap_is_singular_and_mid_latitudes_are_not():
    """Pairs of directions: none beyond 130 deg in the cap, all separations up to 180 deg in bands about the equator."""

    def condition(band):
        return np.linalg.cond(power_coupling(band_coupling(*band, 20, filtered=True))[1:, 1:])

    assert condition(CAP) > 1e12
    for band in (BAND, (-30 * u.deg, 60 * u.deg), (-15 * u.deg, 75 * u.deg)):
        assert condition(band) < 3.0


def test_inversion_of_a_dipole_is_eq_28():
    inversion = truncated_inversion(band_coupling(*BAND, 6, filtered=True), 1)
    assert inversion.lmax_inverted == 1
    assert inversion.inverse[1, 1, 1] == pytest.approx(1 / dipole_inversion_factor(*sines(BAND)), rel=1e-12)
    assert inversion.condition[1] == 1.0
    assert np.isinf(inversion.condition[0])


def test_inversion_answers_low_multipoles_with_the_identity():
    """On l <= L to rounding times the condition number, and nothing at m = 0."""
    inversion = truncated_inversion(band_coupling(*BAND, 12, filtered=True), 4)
    for m in range(1, 5):
        expected = np.diag((np.arange(5) >= m).astype(float))
        np.testing.assert_allclose(inversion.cross_talk[m, :, :5], expected, rtol=0, atol=1e-13)
    assert np.all(inversion.condition[1:] < 50)
    assert not inversion.inverse[0].any()
    assert not inversion.cross_talk[0].any()


def test_cross_talk_is_what_a_sky_on_pixels_shows():
    """Cut a map with l = 1 to 4 to the field of view of IceCube, invert it for a dipole; nside 256 places the edge."""
    nside, lmax = 256, 4
    amplitudes = {1: 1.0, 2: 0.5, 3: -0.3, 4: 0.4}
    alm = np.zeros(hp.Alm.getsize(lmax), complex)
    for ell, value in amplitudes.items():
        alm[hp.Alm.getidx(lmax, ell, 1)] = value
    s = hp.pix2vec(nside, np.arange(hp.nside2npix(nside)))[2]
    pseudo = hp.map2alm(hp.alm2map(alm, nside) * (s < sines(CAP)[1]), lmax=lmax, iter=0)
    inversion = truncated_inversion(band_coupling(*CAP, lmax, filtered=True), 1)
    expected = sum(inversion.cross_talk[1, 1, ell] * value for ell, value in amplitudes.items())
    found = inversion.inverse[1, 1, 1] * pseudo[hp.Alm.getidx(lmax, 1, 1)].real
    assert found == pytest.approx(expected, abs=5e-3)
    # Against a true value of one: the bias is of order one.
    assert expected == pytest.approx(-0.05, abs=0.01)


def test_small_scales_bias_the_dipole_of_a_cap_by_half_its_size():
    """Root mean square cross-talk of l = 2 to 4 into a_11 at the powers of the 10 TeV map of HAWC and IceCube."""
    spectrum = obsfit.load_spectrum("hawc-icecube-2019")
    power = ((spectrum.c_ell - spectrum.noise) / spectrum.window_power)[:4]
    power = power * (2 * spectrum.ell[:4] + 1) / (2 * spectrum.ell[:4])

    def relative(band):
        response = truncated_inversion(band_coupling(*band, 4, filtered=True), 1).cross_talk[1, 1]
        return np.sqrt(np.sum(response[2:] ** 2 * power[1:]) / power[0])

    assert relative(CAP) == pytest.approx(0.49, abs=0.01)
    assert relative(BAND) == pytest.approx(0.11, abs=0.01)


def test_a_field_of_view_that_cannot_tell_is_refused():
    cap = band_coupling(*CAP, 10, filtered=True)
    with pytest.raises(ObsfitError, match=r"T\^m on l <= 4 for m = 1 has condition number 7.91e\+05"):
        truncated_inversion(cap, 4)
    assert truncated_inversion(cap, 4, largest_condition=1e6).condition[1] > 1e5
    with pytest.raises(ValueError, match="lmax_inverted 11: expected 1 to 10"):
        truncated_inversion(cap, 11)
    with pytest.raises(ValueError, match="expected the axes"):
        truncated_inversion(cap[1], 1)


def test_an_empty_band_is_refused():
    with pytest.raises(ValueError, match="expected -90 deg <= dec_min < dec_max"):
        band_coupling(10 * u.deg, 10 * u.deg, 3, filtered=True)


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="multipole -1: expected 0 or more"):
        band_coupling(*BAND, -1, filtered=True)
    with pytest.raises(ValueError, match="order 5: expected at least 11 nodes"):
        band_coupling(*BAND, 10, filtered=True, order=5)
    with pytest.raises(ValueError, match="weight between"):
        band_coupling(*BAND, 3, filtered=True, weight=lambda s: s)
    with pytest.raises(ValueError, match="expected one shape"):
        ring_coupling(np.zeros(3), np.ones(2), np.ones(3), 2, filtered=True)
    with pytest.raises(ValueError, match="expected sines of declination"):
        ring_coupling(np.array([0.0, 1.5]), np.ones(2), np.ones(2), 2, filtered=True)
    with pytest.raises(ValueError, match="width between"):
        ring_coupling(np.zeros(2), -np.ones(2), np.ones(2), 2, filtered=True)
    with pytest.raises(ValueError, match="expected the axes"):
        power_coupling(np.eye(3))
