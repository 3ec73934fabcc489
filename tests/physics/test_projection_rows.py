"""Response rows of methods that look along right ascension, against the methods themselves on dense grids."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from scipy.special import factorial, lpmv

import obsfit
from obsfit.operators import operator_for
from obsfit.operators.catalogue import dipole_response, dipole_rows
from obsfit.operators.projections import east_west_row, forward_backward_row, right_ascension_row
from obsfit.sky.east_west import east_west_step

LMAX = 10
BANDS = [(-90.0, -25.0), (-26.0, 64.0), (-30.0, 90.0)]


def real_sky(coefficients, ra, sin_dec):
    """Real sky of {(l, m): a_lm}, m >= 0, from Ferrers functions (scipy's lpmv has the Condon-Shortley phase)."""
    total = 0.0
    for (ell, m), a in coefficients.items():
        norm = np.sqrt((2 * ell + 1) / (4 * np.pi) * factorial(ell - m) / factorial(ell + m))
        wave = a * np.exp(1j * m * ra)
        total = total + norm * lpmv(m, ell, sin_dec) * (wave.real if m == 0 else 2 * wave.real)
    return total


def random_sky(seed):
    """All a_lm to l = 10, m = 0 and the monopole included."""
    rng = np.random.default_rng(seed)
    return {
        (ell, m): 1e-4 * (rng.normal() + (1j * rng.normal() if m else 0.0))
        for ell in range(LMAX + 1)
        for m in range(ell + 1)
    }


def first_harmonic(angle, values):
    """A exp(i alpha) of values that go as A cos(angle - alpha), on a regular grid of angles."""
    return 2 * np.mean(values * np.exp(1j * angle))


def expected(row, coefficients):
    """A exp(i alpha) on the equator of the observed a_11: 2 a_11 Y_11 with Y_11 = -sqrt(3 / 8 pi) exp(i ra)."""
    seen = sum(row[ell] * coefficients[ell, 1] for ell in range(1, LMAX + 1))
    return -2 * np.sqrt(3 / (8 * np.pi)) * np.conj(seen)


def projected(coefficients, band, weight=None, n_dec=4000):
    """Eq. (24) of AM17 by midpoints in declination; returns right ascensions and the mean over the band."""
    edges = np.radians(band)
    dec = edges[0] + (edges[1] - edges[0]) * (np.arange(n_dec) + 0.5) / n_dec
    measure = np.cos(dec) * (1.0 if weight is None else weight(np.sin(dec)))
    ra = 2 * np.pi * np.arange(24) / 24
    sky = real_sky(coefficients, ra[:, None], np.sin(dec))
    return ra, sky @ measure / measure.sum()


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("weight", [None, lambda s: np.abs(s) ** 1.5])
def test_right_ascension_projection_of_any_sky(band, weight):
    """4000 midpoints leave some 1e-7 of the sum of 10 multipoles, 1e-6 where the weight has a cusp."""
    sky = random_sky(1)
    row = right_ascension_row(*(band * u.deg), weight=weight)
    ra, mean = projected(sky, band, weight)
    assert first_harmonic(ra, mean) == pytest.approx(expected(row, sky), rel=2e-6)


@pytest.mark.parametrize("harmonic", [1, 2, 3])
def test_higher_harmonics_are_amplitudes_on_the_equator(harmonic):
    """The n-th harmonic of the mean equals that of a sky a_nn Y_nn on the equator."""
    sky, band = random_sky(2), BANDS[1]
    row = right_ascension_row(*(band * u.deg), harmonic=harmonic)
    ra, mean = projected(sky, band)
    seen = sum(row[ell] * sky[ell, harmonic] for ell in range(harmonic, LMAX + 1))
    equator = real_sky({(harmonic, harmonic): seen}, ra, 0.0)
    wave = np.exp(1j * harmonic * ra)
    assert np.mean(mean * wave) == pytest.approx(np.mean(equator * wave), rel=1e-6)


def test_the_first_entries_in_closed_form():
    """l = 1: Eq. (25) of AM17. l = 2: lambda_21 = sqrt(5) sin(dec) lambda_11, so sqrt(5) <sin cos>."""
    for low, high in BANDS:
        d1, d2 = np.radians([low, high])
        s1, s2, c1, c2 = np.sin(d1), np.sin(d2), np.cos(d1), np.cos(d2)
        row = right_ascension_row(low * u.deg, high * u.deg)
        assert row[1] == pytest.approx((d1 - d2 + c1 * s1 - c2 * s2) / (2 * (s1 - s2)), rel=1e-12)
        assert row[2] == pytest.approx(np.sqrt(5) * (c1**3 - c2**3) / (3 * (s2 - s1)), rel=1e-12)


def test_the_whole_sky_sees_odd_multipoles_only():
    """By symmetry; and the limit of a narrow band is the profile of the harmonics at its declination."""
    row = right_ascension_row(-90 * u.deg, 90 * u.deg)
    assert np.abs(row[::2]).max() < 1e-15
    narrow = right_ascension_row(29.999 * u.deg, 30.001 * u.deg)
    value = real_sky({(5, 1): 1.0}, 0.0, 0.5) / real_sky({(1, 1): 1.0}, 0.0, 0.0)
    assert narrow[5] == pytest.approx(value, rel=1e-8)


def test_forward_backward_on_counts():
    """The counting asymmetry of each band, divided by sin(offset), turned back by 90 deg, averaged over bands.

    The sky is 1e-4: its square is left out by the method, 1e-4 of the result.
    """
    sky, band, weight = random_sky(3), (-14.0, 80.0), lambda s: 1.0 + s**2
    offset = np.radians(22.5)
    s = np.sin(np.radians(band[0])) + np.ptp(np.sin(np.radians(band))) * (np.arange(4000) + 0.5) / 4000
    ra = 2 * np.pi * np.arange(48)[:, None] / 48
    ahead, behind = (1 + real_sky(sky, ra + sign * offset, s) for sign in (1, -1))
    asymmetry = (ahead - behind) / (ahead + behind)
    profile = np.array([first_harmonic(ra[:, 0], column) for column in asymmetry.T])
    # d/d(ra) of A cos(ra - alpha) is A cos(ra - alpha + 90 deg): turn by -i times -1.
    dipole = np.average(profile / (-1j * np.sin(offset)), weights=weight(s))
    row = forward_backward_row(*(band * u.deg), offset=22.5 * u.deg, weight=weight)
    assert dipole == pytest.approx(expected(row, sky), rel=1e-3)


def local_skies(latitude, zenith_max, n=100):
    """Midpoints in the local sky: eastern and western cells with their hour angle, declination, zenith and size."""
    zenith = np.radians(zenith_max) * (np.arange(n) + 0.5) / n
    azimuth = 2 * np.pi * (np.arange(2 * n) + 0.5) / (2 * n)
    theta, phi = np.meshgrid(zenith, azimuth, indexing="ij")
    # North, West, up; rows of the rotation of Section 2 of AM17 at local sidereal time zero, transposed.
    local = np.stack([np.cos(phi) * np.sin(theta), -np.sin(phi) * np.sin(theta), np.cos(theta)], -1)
    lat = np.radians(latitude)
    rotation = np.array([[-np.sin(lat), 0, np.cos(lat)], [0, -1, 0], [np.cos(lat), 0, np.sin(lat)]])
    x, y, z = np.moveaxis(local @ rotation, -1, 0)
    return np.arctan2(y, x), z, theta, phi < np.pi


@pytest.mark.parametrize(("latitude", "zenith_max", "power"), [(42.0, 40.0, 1), (-33.0, 75.0, 3), (90.0, 60.0, 0)])
def test_east_west_on_counts(latitude, zenith_max, power):
    """Counts in both halves of the local sky at 12 sidereal times.

    100 midpoints leave 1e-4, and so does the square of the sky.
    """
    sky = random_sky(4)
    ra, sin_dec, theta, east = local_skies(latitude, zenith_max)
    acceptance = np.cos(theta) ** power * np.sin(theta)
    times = 2 * np.pi * np.arange(12) / 12
    counts = [acceptance * (1 + real_sky(sky, ra + time, sin_dec)) for time in times]
    asymmetry = np.array([(c[east].sum() - c[~east].sum()) / c.sum() for c in counts])
    step = np.average(
        (np.sin(theta) * np.abs(np.sin(ra_of_east(theta, ra, sin_dec))))[east], weights=acceptance[east]
    )
    assert step == pytest.approx(east_west_step(lambda z, a: np.cos(z) ** power, zenith_max * u.deg), rel=1e-4)
    dipole = first_harmonic(times, asymmetry) / (-1j * step)
    row = east_west_row(latitude * u.deg, zenith_max * u.deg, acceptance=lambda z, a: np.cos(z) ** power)
    assert row[1] == 1.0
    assert dipole == pytest.approx(expected(row, sky), rel=1e-3)


def ra_of_east(theta, ra, sin_dec):
    """Azimuth with sin(azimuth) sin(zenith) = cos(dec) sin(ra) at sidereal time zero."""
    return np.arcsin(np.clip(np.sqrt(1 - sin_dec**2) * np.sin(ra) / np.sin(theta), -1, 1))


def test_east_west_of_the_third_harmonic():
    """The row of harmonic 3 against the asymmetry of single a_l3, relative to that of a_33."""
    ra, sin_dec, theta, east = local_skies(19.0, 50.0, 300)
    acceptance = np.cos(theta) * np.sin(theta)
    row = east_west_row(19 * u.deg, 50 * u.deg, harmonic=3)

    def seen(ell):
        wave = acceptance * real_sky({(ell, 3): 1j}, ra, sin_dec)
        return wave[east].sum() - wave[~east].sum()

    for ell in range(3, LMAX + 1):
        assert row[ell] == pytest.approx(seen(ell) / seen(3), rel=2e-4, abs=2e-4)
    assert not row[:3].any()


@pytest.fixture(scope="module")
def table1():
    return obsfit.load_dipoles("ahlers-mertsch-2017")


def alm_of(coefficients):
    """Healpy order, m slow."""
    return np.array([coefficients[ell, m] for m in range(LMAX + 1) for ell in range(m, LMAX + 1)])


def observe(record, alm):
    operator = operator_for(record)
    n_rig = operator.energy.rigidity_tv.size
    components = operator.observe(np.broadcast_to(alm, (n_rig, alm.size))).reshape(-1, 2)
    return components[:, 0] + 1j * components[:, 1]


def test_published_projections_are_seen_as_their_method_sees_them(table1):
    """The operator of Table 1 of AM17 on a random sky, row by row, against the mean over each band."""
    sky = random_sky(5)
    seen = observe(table1, alm_of(sky))
    for key in ("icecube-2016-13TeV", "argo-ybj-2015-2.65TeV", "tibet-2015-15TeV", "icetop-2016-1.6PeV"):
        i = table1.measurement.index(key)
        ra, mean = projected(sky, np.degrees([table1.dec_min_rad[i], table1.dec_max_rad[i]]))
        assert seen[i] == pytest.approx(first_harmonic(ra, mean), rel=2e-6)


def test_a_sky_without_right_ascension_gives_zero(table1):
    zonal = {key: (a if key[1] == 0 else 0.0) for key, a in random_sky(6).items()}
    assert not observe(table1, alm_of(zonal)).any()


def test_a_rotated_sky_turns_the_dipoles(table1):
    """Rotation by alpha multiplies a_lm by exp(-i m alpha); every row turns by alpha whatever leaks into it."""
    sky, turn = random_sky(7), 1.234
    turned = {(ell, m): a * np.exp(-1j * m * turn) for (ell, m), a in sky.items()}
    assert real_sky(turned, 2.0, 0.3) == pytest.approx(real_sky(sky, 2.0 - turn, 0.3), rel=1e-10)
    np.testing.assert_allclose(
        observe(table1, alm_of(turned)), observe(table1, alm_of(sky)) * np.exp(1j * turn), rtol=1e-12
    )


def test_pure_dipoles_are_seen_as_ever(table1):
    """Eq. (25) of AM17 for projections over a published band, and one for all others."""
    for method, low, high, factor in zip(
        table1.method, table1.dec_min_rad, table1.dec_max_rad, dipole_response(table1), strict=True
    ):
        if method != "right-ascension projection" or np.isnan(low):
            assert factor == 1.0
            continue
        s1, s2 = np.sin(low), np.sin(high)
        closed = (low - high + np.sin(2 * low) / 2 - np.sin(2 * high) / 2) / (2 * (s1 - s2))
        assert factor == pytest.approx(closed, rel=1e-12)


def test_rows_without_a_band_see_a_dipole_alone(table1):
    rows = dipole_rows(table1)
    unknown = np.isin(table1.observatory, ["Baksan", "MACRO", "Super-K"])
    assert np.array_equal(rows[unknown], np.tile(np.eye(LMAX + 1)[1], (unknown.sum(), 1)))
    assert np.all(np.abs(rows[~unknown][:, 2:]).max(axis=1) > 0.1)


def test_the_latitude_of_east_west_follows_from_band_and_cut(table1):
    """EAS-TOP at 42 deg North, zenith cut 40 deg; bands clipped at a pole give the latitude as well."""
    i = table1.measurement.index("eas-top-2009-110TeV")
    np.testing.assert_allclose(dipole_rows(table1)[i], east_west_row(42 * u.deg, 40 * u.deg), atol=1e-13)
    one = table1.select([i])
    clipped = replace(
        one, dec_min_rad=np.radians([-18.0]), dec_max_rad=np.radians([90.0]), zenith_max_rad=np.radians([60.0])
    )
    np.testing.assert_allclose(dipole_rows(clipped)[0], east_west_row(42 * u.deg, 60 * u.deg), atol=1e-13)
    south = replace(
        one, dec_min_rad=np.radians([-90.0]), dec_max_rad=np.radians([-5.0]), zenith_max_rad=np.radians([40.0])
    )
    np.testing.assert_allclose(dipole_rows(south)[0], east_west_row(-45 * u.deg, 40 * u.deg), atol=1e-13)


def test_deprojected_amplitudes_are_corrected_for_a_dipole_and_nothing_else(table1):
    i = table1.measurement.index("icecube-2016-13TeV")
    plain = table1.select([i])
    row = dipole_rows(replace(plain, method=("deprojected",)))[0]
    np.testing.assert_allclose(row, dipole_rows(plain)[0] / dipole_response(plain)[0], rtol=1e-14)
    assert row[1] == 1.0


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: right_ascension_row(10 * u.deg, 10 * u.deg), "expected -90 deg <= dec_min < dec_max"),
        (lambda: right_ascension_row(0 * u.deg, 10 * u.deg, 3, harmonic=4), "expected 1 to lmax = 3"),
        (lambda: right_ascension_row(0 * u.deg, 10 * u.deg, harmonic=0), "m = 0 is not seen"),
        (lambda: right_ascension_row(0 * u.deg, 10 * u.deg, weight=lambda s: 0 * s), "not all zero"),
        (lambda: forward_backward_row(0 * u.deg, 10 * u.deg, offset=90 * u.deg, harmonic=2), "harmonic 2 is lost"),
        (lambda: east_west_row(91 * u.deg, 40 * u.deg), "latitude 91.0 deg"),
        (lambda: east_west_row(42 * u.deg, 91 * u.deg), "zenith_max"),
        (lambda: east_west_row(42 * u.deg, 40 * u.deg, 1, harmonic=2), "expected 1 to lmax = 1"),
        (lambda: east_west_row(42 * u.deg, 40 * u.deg, acceptance=lambda z, a: 1 + np.sin(a)), "in the West"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
