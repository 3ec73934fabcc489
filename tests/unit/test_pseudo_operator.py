"""Operators of pseudo-spectra against skies and noise made on points of the sphere by other code (ducc0)."""

from dataclasses import replace

import astropy.units as u
import ducc0
import healpy as hp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2

import obsfit
from obsfit.errors import ObsfitError
from obsfit.ingest.catalogue import load_table
from obsfit.operators.isotropic_bands import (
    fit_band,
    isotropic_band,
    mode_coefficients,
    power_cumulative,
    power_quantile,
    read_band,
)
from obsfit.operators.pseudo import (
    DeclinationWindow,
    band_noise,
    calibrated_window,
    data_noise,
    pixel_band,
    pseudo_operator,
)
from obsfit.records import TrueSky

CAP = DeclinationWindow(-np.pi / 2, np.radians(-25.0), 2.3)
LMAX = 12


@pytest.fixture(scope="module")
def spectrum():
    """Multipoles 1 to 8 under a key of its own, so that no calibration is found."""
    record = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)
    eight = np.arange(1, 9)
    columns = ("noise", "error_low", "error_high", "isotropic_low", "isotropic_high")
    return replace(
        record, measurement="mine", ell=eight, c_ell=np.ones(8), window_power=np.ones(8),
        **dict.fromkeys(columns, np.full(8, np.nan)),
    )  # fmt: skip


class Points:
    """A grid of rings in a band, with solid angles; harmonics by ducc0, which shares no code with the operators."""

    def __init__(self, window, n_rings, n_phi, lmax):
        low, high = np.sin([window.dec_min_rad, window.dec_max_rad])
        # Rings of equal height and their middles: plain sums, no quadrature shared with the library.
        self.s = low + (high - low) * (np.arange(n_rings) + 0.5) / n_rings
        self.n_phi = n_phi
        self.solid_angle = 2.0 * np.pi * (high - low) / (n_rings * n_phi)
        phi = 2.0 * np.pi * np.arange(n_phi) / n_phi
        theta, phi = np.meshgrid(np.arccos(self.s), phi, indexing="ij")
        self.sin_dec = np.repeat(self.s, n_phi)
        self.ell, self.m = hp.Alm.getlm(lmax)
        place = np.stack([theta.ravel(), phi.ravel()], axis=1)
        columns = []
        for k in range(self.ell.size):
            parts = []
            for unit in (1.0, 1.0j) if self.m[k] else (1.0,):
                alm = np.zeros((1, self.ell.size), dtype=complex)
                alm[0, k] = unit
                parts.append(ducc0.sht.synthesis_general(alm=alm, spin=0, lmax=lmax, loc=place, epsilon=1e-12)[0])
            # Synthesis counts m and -m: Y = (f(1) - i f(i)) / 2.
            columns.append(0.5 * (parts[0] - 1j * parts[1]) if self.m[k] else parts[0].astype(complex))
        self.y = np.array(columns)

    def sky(self, alm):
        """Values of real fields (n_point, n) with a_lm (n_alm, n), m >= 0."""
        twice = np.where(self.m == 0, 1.0, 2.0)[:, None]
        return (self.y.T @ (twice * alm)).real

    def without_ring_means(self, field):
        rings = field.reshape(self.s.size, self.n_phi, -1)
        return (rings - rings.mean(axis=1, keepdims=True)).reshape(field.shape)

    def analyse(self, field):
        """a_lm (n_alm, n) of weighted fields that vanish outside the band."""
        return self.solid_angle * (self.y.conj() @ field)

    def power(self, alm, ell):
        twice = np.where(self.m == 0, 1.0, 2.0)[:, None]
        return np.array([(twice * np.abs(alm) ** 2)[self.ell == k].sum(axis=0) / (2 * k + 1) for k in ell])


@pytest.fixture(scope="module")
def points():
    # Middles of 96 rings: the mean of the power is right to 0.1 %.
    return Points(CAP, 96, 26, LMAX)


def test_the_weight_has_the_stated_scale():
    low, high = np.sin([CAP.dec_min_rad, CAP.dec_max_rad])
    mean = quad(lambda s: CAP.weight(np.array([s]))[0], low, high)[0] / (high - low)
    assert mean == pytest.approx(1.0, rel=1e-12)
    largest = replace(CAP, normalisation="max").weight(np.linspace(low, high, 101))
    assert largest.max() == pytest.approx(1.0, rel=1e-14)
    assert CAP.weight(np.array([-1.0]))[0] / CAP.weight(np.array([high]))[0] == pytest.approx(abs(high) ** -2.3)
    assert CAP.sky_fraction == pytest.approx(0.5 * (1.0 - np.sin(np.radians(25))))


def test_refusals_of_the_window():
    with pytest.raises(ValueError, match="expected -pi/2 <= dec_min_rad < dec_max_rad"):
        DeclinationWindow(0.1, 0.1)
    with pytest.raises(ValueError, match="band in one hemisphere"):
        DeclinationWindow(-0.3, 0.3, 1.0)
    with pytest.raises(ValueError, match="expected one of mean, max"):
        DeclinationWindow(-1.0, -0.5, normalisation="sum")
    with pytest.raises(ValueError, match="finite"):
        DeclinationWindow(-1.0, -0.5, float("nan"))
    with pytest.raises(ValueError, match="events"):
        band_noise(CAP, 0.0, 3)
    with pytest.raises(ValueError, match="resamples"):
        data_noise(CAP, 1e9, 3, resamples=0.0)


def test_white_noise_of_counts_is_eq_32_whatever_their_profile():
    """4 pi f^2 / n at every l >= 1 for all m; the subtracted mean is that of l = 0 alone."""
    for exponent in (0.0, 0.7, 3.2):
        noise = band_noise(CAP.with_exponent(exponent), 2e9, 9)
        ell = np.arange(10)
        level = (noise[0].diagonal() + 2.0 * sum(noise[m].diagonal() for m in range(1, 10))) / (2 * ell + 1)
        expected = 4.0 * np.pi * CAP.sky_fraction**2 / 2e9
        np.testing.assert_allclose(level[1:], expected, rtol=1e-10)
        assert level[0] == 0.0


def test_both_noises_against_poisson_maps_and_time_scrambling(points):
    """Counts on points; background known (the band) or made of five scrambled copies of the data (the data).

    Powers at l = 1 to 6 and one covariance of a_lm, 6000 maps each: 14 numbers at 5 standard errors, false alarm 1e-5.
    """
    rng = np.random.default_rng(7)
    size, events, copies = 6000, 2.0e7, 5
    expected = events / points.sin_dec.size * CAP.counts(points.sin_dec)
    weight = CAP.weight(points.sin_dec)[:, None]
    ell = np.arange(1, 7)
    results = []
    for scrambled in (False, True):
        powers, cross = [], []
        for _ in range(6):
            n = size // 6
            counts = rng.poisson(expected[:, None], (expected.size, n)).astype(float)
            background = np.repeat(expected[:, None], n, axis=1)
            if scrambled:
                rings = counts.reshape(points.s.size, points.n_phi, n)
                mean = copies * rings.mean(axis=1, keepdims=True)
                # Copies of the events of a ring at random hours: as many as five times the ring holds.
                drawn = rng.poisson(np.broadcast_to(mean, rings.shape)).astype(float)
                drawn *= copies * rings.sum(axis=1, keepdims=True) / drawn.sum(axis=1, keepdims=True)
                background = (drawn / copies).reshape(counts.shape)
            alm = points.analyse(weight * (counts / background - 1.0))
            powers.append(points.power(alm, ell))
            first, second = (points.ell == 3) & (points.m == 1), (points.ell == 5) & (points.m == 1)
            cross.append((alm[first] * alm[second].conj()).real[0])
        results.append((np.concatenate(powers, axis=1), np.concatenate(cross)))
    for filtered, (power, cross) in enumerate(results):
        noise = data_noise(CAP, events, 6, resamples=copies) if filtered else band_noise(CAP, events, 6)
        mean = (noise[0].diagonal() + 2.0 * sum(noise[m].diagonal() for m in range(1, 7)))[1:] / (2 * ell + 1)
        error = power.std(axis=1) / np.sqrt(size)
        assert np.all(np.abs(power.mean(axis=1) - mean) < 5.0 * error + 2e-3 * mean)
        error = cross.std() / np.sqrt(size)
        assert abs(cross.mean() - noise[1][3, 5]) < 5.0 * error + 2e-3 * abs(noise[1][3, 5])
    # Not the same thing: at l = 1 the filter takes more than half.
    assert results[1][0].mean(axis=1)[0] / results[0][0].mean(axis=1)[0] < 0.6


def test_mean_and_covariance_against_20000_skies(spectrum, points):
    """Gaussian skies on points, ring means removed, weighted, noise of counts added; own sums and ducc0.

    Standard errors from 40 batches; 8 means at 5 and 36 covariances at 6 of them (t law with 39 degrees of freedom):
    false alarm 1e-4. One part in 300 is allowed for the plain sums over rings.
    """
    rng = np.random.default_rng(11)
    c_ell = 1e-7 * np.concatenate([[0.0], np.arange(1, LMAX + 1.0) ** -2.5])
    events = 3e8
    operator = pseudo_operator(spectrum, CAP, events=events, resamples=20.0, lmax=LMAX)
    rigidity = operator.energy.rigidity_tv
    everywhere = np.ones((rigidity.size, rigidity.size, 1)) * c_ell
    moments = operator.expect(TrueSky(rigidity, None, everywhere[None]))
    variance = 1.05 * CAP.sky_fraction * 4 * np.pi / events / CAP.counts(points.sin_dec) / points.solid_angle
    weight = CAP.weight(points.sin_dec)[:, None]
    batches = []
    for _ in range(40):
        real, imaginary = rng.normal(size=(2, points.ell.size, 500))
        alm = np.where(points.m[:, None] == 0, real, (real + 1j * imaginary) / np.sqrt(2.0))
        field = points.sky(np.sqrt(c_ell[points.ell])[:, None] * alm)
        field += np.sqrt(variance)[:, None] * rng.normal(size=field.shape)
        seen = points.analyse(weight * points.without_ring_means(field))
        batches.append(points.power(seen, spectrum.ell))
    means = np.array([b.mean(axis=1) for b in batches])
    covariances = np.array([np.cov(b) for b in batches])
    for found, expected, limit in (
        (means, moments.mean[0], 5.0),
        (covariances, moments.covariance[0], 6.0),
    ):
        error = found.std(axis=0, ddof=1) / np.sqrt(40)
        assert np.all(np.abs(found.mean(axis=0) - expected) < limit * error + np.abs(expected) / 300)
    # Leakage of the dipole: two degrees of freedom at l = 1, and l = 1, 2 nearly one number.
    assert 2.0 * moments.mean[0, 0] ** 2 / moments.covariance[0, 0, 0] == pytest.approx(2.0, abs=0.15)


def test_a_sky_of_a_l0_alone_is_noise_alone(spectrum):
    operator = pseudo_operator(spectrum, CAP, events=1e10)
    n_rig = operator.energy.rigidity_tv.size
    _, m = hp.Alm.getlm(operator.lmax)
    alm = np.where(m == 0, 1e-3, 0.0).astype(complex)
    assert not operator.observe(np.tile(alm, (n_rig, 1))).any()
    mean = operator.expect(TrueSky(operator.energy.rigidity_tv, np.tile(alm, (1, n_rig, 1)), None)).mean[0]
    noise = data_noise(CAP, 1e10, 8)
    expected = 2.0 * sum(noise[m].diagonal() for m in range(1, 9))[1:] / (2.0 * np.arange(1, 9) + 1.0)
    np.testing.assert_allclose(mean, expected, rtol=1e-13)


def test_a_rotation_in_right_ascension_changes_nothing(spectrum):
    rng = np.random.default_rng(2)
    operator = pseudo_operator(spectrum, CAP, events=1e10)
    _, m = hp.Alm.getlm(operator.lmax)
    alm = (rng.normal(size=m.size) + 1j * rng.normal(size=m.size)) * np.ones((operator.energy.rigidity_tv.size, 1))
    turned = alm * np.exp(-1j * m * 1.234)
    np.testing.assert_allclose(operator.observe(turned), operator.observe(alm), rtol=1e-12)


def test_a_dipole_through_a_top_hat_is_its_closed_form(spectrum):
    """K'_1111 = [3 (s2 - s1) + s1^3 - s2^3] / 4, Eq. (27) of AM17."""
    window = DeclinationWindow(-np.pi / 2, np.radians(-25.0))
    operator = pseudo_operator(spectrum, window, events=1e30)
    s1, s2 = -1.0, np.sin(np.radians(-25.0))
    inversion = 0.25 * (3.0 * (s2 - s1) + s1**3 - s2**3)
    assert operator.response[1][0, 1, 1] == pytest.approx(inversion, rel=1e-12)


def test_the_noise_of_a_smoothed_map_against_smoothed_maps():
    """White noise of uneven depth, smoothed by discs and cut, on HEALPix maps.

    Mean over l = 4 to 30 of the ratio of power: 120 maps leave 0.8 %; five of these and 1 % for pixels are allowed.
    """
    record = obsfit.load_spectrum("hawc-icecube-2019-by-field", field="icecube")
    operator = pseudo_operator(record)
    ell = np.arange(4, 31)
    expected = 2.0 * sum(n[0].diagonal()[ell] for n in operator.noise.values()) / (2 * ell + 1)
    nside, rng = 64, np.random.default_rng(5)
    theta, _ = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    dec = 90.0 - np.degrees(theta)
    table = load_table("hawc-icecube-2019-noise")
    good = np.isfinite(table["sigma"])
    middle = 0.5 * (np.asarray(table["dec_min"]) + np.asarray(table["dec_max"]))
    variance = np.interp(dec, middle[good], np.asarray(table["sigma"])[good] ** 2 * 0.02391)
    cosine = np.cos(np.radians(5.0))
    legendre = [np.polynomial.legendre.Legendre.basis(k)(cosine) for k in range(98)]
    window = np.array(
        [1.0] + [(legendre[k - 1] - legendre[k + 1]) / ((2 * k + 1) * (1 - cosine)) for k in range(1, 97)]
    )
    total = np.zeros(31)
    for _ in range(120):
        noise = rng.normal(size=dec.size) * np.sqrt(variance / hp.nside2pixarea(nside))
        alm = hp.almxfl(hp.map2alm(noise, lmax=96, iter=0), window)
        alm[:97] = 0.0
        total += hp.anafast(hp.alm2map(alm, nside) * (dec < -30.0), lmax=30, iter=0) / 120
    assert np.mean(total[ell] / expected) == pytest.approx(1.0, abs=0.05)


def test_defaults_and_refusals(spectrum):
    ten = obsfit.load_spectrum("hawc-icecube-2019")
    with pytest.raises(ObsfitError, match="kind 'pseudo'"):
        pseudo_operator(ten)
    with pytest.raises(ObsfitError, match="the noise is not in the record"):
        pseudo_operator(spectrum)
    own = replace(spectrum, noise=np.full(8, 3e-11))
    level = pseudo_operator(own)
    window = DeclinationWindow(own.dec_min_rad, own.dec_max_rad)
    np.testing.assert_allclose(
        level.noise[2][0], data_noise(window, 4 * np.pi * window.sky_fraction**2 / 3e-11, 8)[2], rtol=1e-13
    )
    smoothed = replace(own, window_power=np.linspace(0.9, 0.2, 8))
    with pytest.raises(ObsfitError, match="average over discs"):
        pseudo_operator(smoothed)
    assert calibrated_window(spectrum) is None
    published = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)
    found = calibrated_window(published)
    ours = pseudo_operator(published)
    theirs = pseudo_operator(published, found.at(0.0), events=found.events, resamples=20)
    np.testing.assert_array_equal(ours.noise[3], theirs.noise[3])
    assert found.at(2.0).exponent == found.window.exponent + 2.0 * found.exponent_error


def test_quantiles_of_quadratic_forms():
    """Against chi-square, against an exponential mixture in closed form, and against 400 000 draws."""
    for nu in (1, 3, 41):
        for level in (0.025, 0.5, 0.975):
            assert power_quantile(level, np.full(nu, 0.3)) == pytest.approx(0.3 * chi2.ppf(level, nu), rel=1e-6)
    # Two pairs of equal modes: a difference of two exponentials.
    a, b, q = 0.7, 0.2, 1.9
    closed = 1.0 - (a * np.exp(-q / (2 * a)) - b * np.exp(-q / (2 * b))) / (a - b)
    assert power_cumulative(q, [a, a, b, b]) == pytest.approx(closed, abs=1e-9)
    rng = np.random.default_rng(3)
    c = mode_coefficients(CAP, 3)
    drawn = (c[:, None] * rng.normal(size=(c.size, 400_000)) ** 2).sum(axis=0)
    for level in (0.025, 0.975):
        # Binomial error of the share below; five standard deviations, false alarm 1e-6.
        share = np.mean(drawn < power_quantile(level, c))
        assert share == pytest.approx(level, abs=5 * np.sqrt(0.025 * 0.975 / 400_000))
    with pytest.raises(ValueError, match="positive numbers"):
        power_cumulative(1.0, [1.0, 0.0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        power_quantile(1.0, [1.0])
    with pytest.raises(ValueError, match="0 < low < high"):
        read_band(2.0, 1.0)


def test_a_band_made_by_a_window_is_found_again(spectrum):
    record = obsfit.load_spectrum("icecube-2025", energy=130 * u.TeV)
    truth = CAP.with_exponent(0.83)
    low, high = isotropic_band(truth, 5e9, record.ell)
    found = fit_band(
        replace(record, isotropic_low=low, isotropic_high=high), CAP, exponents=np.arange(-1.0, 3.01, 0.5)
    )
    assert found.exponent == pytest.approx(0.83, abs=0.02)
    assert found.events == pytest.approx(5e9, rel=1e-3)
    assert found.chi_square < 0.01
    assert found.n_edges == 14
    with pytest.raises(ObsfitError, match="at least three edges"):
        fit_band(spectrum, CAP, exponents=[0.0, 1.0])


def test_the_band_of_pixels_has_their_area():
    theta, _ = hp.pix2ang(32, np.arange(hp.nside2npix(32)))
    dec = np.pi / 2 - theta
    kept = np.mean((dec >= np.radians(-20.0)) & (dec <= np.radians(64.0)))
    low, high = pixel_band(np.radians(-20.0), np.radians(64.0), 32)
    assert 0.5 * (np.sin(high) - np.sin(low)) == pytest.approx(kept, rel=1e-12)
    assert abs(low - np.radians(-20.0)) < hp.nside2resol(32)
    assert pixel_band(-np.pi / 2, np.pi / 2, 8) == pytest.approx((-np.pi / 2, np.pi / 2))


def test_multipoles_beyond_the_default_do_not_matter(spectrum):
    """IceCube's power at l = 20 for C_l falling as l^-2: 0.6 % at most, as the operator says."""
    record = obsfit.load_spectrum("icecube-2025", energy=130 * u.TeV)
    means = []
    for lmax in (None, 60):
        operator = pseudo_operator(record, events=1e30, lmax=lmax)
        ell = np.arange(operator.lmax + 1)
        c_ell = np.where(ell > 0, 1e-8 / np.maximum(ell, 1) ** 2.0, 0.0)
        n = operator.energy.rigidity_tv.size
        sky = TrueSky(operator.energy.rigidity_tv, None, np.ones((1, n, n, 1)) * c_ell)
        means.append(operator.expect(sky).mean[0])
    np.testing.assert_allclose(means[0], means[1], rtol=6e-3)
    np.testing.assert_allclose(means[0][:6], means[1][:6], rtol=1.2e-3)
