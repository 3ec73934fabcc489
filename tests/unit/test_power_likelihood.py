"""The full-sky power: operator moments, chi-square likelihood, degrees of freedom; independent route: healpy skies."""

from dataclasses import replace

import healpy as hp
import numpy as np
import pytest
from scipy import integrate, stats

from obsfit.errors import ObsfitError
from obsfit.infer import PowerTerm
from obsfit.operators import operator_for
from obsfit.protocols import dipole_alm
from obsfit.records import PowerSpectrum, Provenance, TrueSky

LMAX = 6
ELL = np.arange(1, LMAX + 1)
C_ELL = np.array([0.0, 5e-7, 2e-7, 6e-8, 2e-8, 1e-8, 6e-9])
NOISE = np.full(LMAX, 3e-9)
WINDOW = np.linspace(0.99, 0.8, LMAX)


def record(filtered=True, c_ell=None, kind="full-sky"):
    nan = np.full(LMAX, np.nan)
    values = C_ELL[1:] if c_ell is None else c_ell
    return PowerSpectrum("toy", kind, 10.0, ELL, values, NOISE, WINDOW, nan, nan, nan, nan, filtered,
                         -np.pi / 2, np.pi / 2, Provenance("toy"))  # fmt: skip


def isotropic(c_ell=C_ELL):
    return TrueSky(np.array([10.0]), None, np.asarray(c_ell)[None, None, None, :])


def healpy_power(n, filtered, rng, fixed=None):
    """Power of skies drawn by healpy's convention from numpy draws, without any code of obsfit's operators."""
    ell_of, m_of = hp.Alm.getlm(LMAX)
    power = np.empty((n, LMAX))
    for i in range(n):
        variance = (C_ELL[ell_of] + np.r_[0.0, NOISE][ell_of]) * np.r_[0.0, WINDOW][ell_of]
        alm = rng.normal(size=ell_of.size) + 1j * rng.normal(size=ell_of.size)
        alm = np.where(m_of == 0, np.sqrt(2) * alm.real, alm) * np.sqrt(variance / 2)
        if fixed is not None:
            alm = alm + np.sqrt(np.r_[0.0, WINDOW][ell_of]) * fixed
        if filtered:
            alm[m_of == 0] = 0.0
        power[i] = hp.alm2cl(alm)[1:]
    return power


@pytest.mark.parametrize("filtered", [True, False])
def test_moments_against_drawn_skies(filtered):
    """20 000 skies: standard errors are 0.7 % of the mean and 2.5 % of the variance at l = 1; 5 sigma allowed."""
    power = healpy_power(20_000, filtered, np.random.default_rng(4), fixed=None)
    moments = operator_for(record(filtered)).expect(isotropic())
    np.testing.assert_allclose(power.mean(0), moments.mean[0], rtol=0.036)
    np.testing.assert_allclose(power.var(0), np.diag(moments.covariance[0]), rtol=0.13)
    off = np.corrcoef(power.T) - np.eye(LMAX)
    assert np.abs(off).max() < 5 / np.sqrt(20_000)
    diagonal = np.diag(moments.covariance[0])
    assert np.abs(moments.covariance[0] - np.diag(diagonal)).max() < 1e-12 * diagonal.min()


def test_moments_with_a_fixed_dipole():
    vector = np.array([6e-4, -4e-4, 5e-4])
    fixed = dipole_alm(vector, LMAX)
    power = healpy_power(20_000, True, np.random.default_rng(5), fixed)
    sky = isotropic() + TrueSky(np.array([10.0]), fixed[None, None])
    moments = operator_for(record()).expect(sky)
    np.testing.assert_allclose(power.mean(0), moments.mean[0], rtol=0.036)
    np.testing.assert_allclose(power.var(0), np.diag(moments.covariance[0]), rtol=0.13)


def test_operator_draws_have_its_moments():
    """The operator's own draws against healpy's: Kolmogorov-Smirnov per l, 6 tests at p > 1e-4 each (seeded)."""
    drawn = operator_for(record()).draw(isotropic(), rng=np.random.default_rng(6), size=4000)[0]
    other = healpy_power(4000, True, np.random.default_rng(7))
    for column in range(LMAX):
        assert stats.ks_2samp(drawn[:, column], other[:, column]).pvalue > 1e-4


def test_filtered_sky_has_2l_degrees_of_freedom():
    """Filtered full sky: mean 2l/(2l+1) C, variance 4l C^2/(2l+1)^2; unfiltered: 2 C^2/(2l+1)."""
    clean = (C_ELL[1:] + NOISE) * WINDOW
    moments = operator_for(record(True)).expect(isotropic())
    np.testing.assert_allclose(moments.mean[0], clean * 2 * ELL / (2 * ELL + 1), rtol=1e-12)
    np.testing.assert_allclose(np.diag(moments.covariance[0]), 4 * ELL * clean**2 / (2 * ELL + 1) ** 2, rtol=1e-12)
    moments = operator_for(record(False)).expect(isotropic())
    np.testing.assert_allclose(np.diag(moments.covariance[0]), 2 * clean**2 / (2 * ELL + 1), rtol=1e-12)


def test_a_pure_a_l0_sky_is_not_seen():
    alm = np.zeros((1, 1, (LMAX + 1) * (LMAX + 2) // 2), complex)
    alm[..., : LMAX + 1] = 1e-3
    assert operator_for(record(True)).observe(alm).max() == 0.0
    assert operator_for(record(False)).observe(alm).min() > 0.0


@pytest.mark.parametrize("filtered", [True, False])
def test_likelihood_is_the_law_of_the_drawn_power(filtered):
    """Probability integral transform of healpy's skies under the likelihood's density, integrated numerically."""
    power = healpy_power(1500, filtered, np.random.default_rng(8))
    for column in (0, 3):
        grid = np.geomspace(1e-4, 30, 3000) * C_ELL[column + 1]
        density = np.empty(grid.size)
        for i, value in enumerate(grid):
            spectrum = power.mean(0).copy()
            spectrum[column] = value
            base = record(filtered, spectrum).select(column + 1, column + 1)
            density[i] = np.exp(PowerTerm(base, None).log_prob(isotropic(), np.zeros((1, 0)))[0])
        cumulative = integrate.cumulative_simpson(density, x=grid, initial=0)
        assert cumulative[-1] == pytest.approx(1.0, abs=5e-3)
        uniform = np.interp(power[:, column], grid, cumulative)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-4


def test_fixed_part_makes_the_law_non_central():
    """Draws of the term against healpy's skies with a fixed dipole at l = 1, and its density against the draws."""
    fixed = dipole_alm(np.array([6e-4, -4e-4, 5e-4]), LMAX)
    sky = isotropic() + TrueSky(np.array([10.0]), fixed[None, None])
    power = healpy_power(4000, True, np.random.default_rng(9), fixed)
    term = PowerTerm(record(), None)
    many = TrueSky(sky.rigidity_tv, np.repeat(sky.alm, 4000, 0), np.repeat(sky.c_ell, 4000, 0))
    drawn = term.draw(many, np.zeros((4000, 0)), rng=np.random.default_rng(10))
    assert stats.ks_2samp(drawn[:, 0], power[:, 0]).pvalue > 1e-4
    s = (C_ELL[1] + NOISE[0]) * WINDOW[0]
    centre = 2 * WINDOW[0] * abs(fixed[LMAX + 1]) ** 2 / s
    value = stats.ncx2(2, centre).logpdf(3 * C_ELL[1] / s) + np.log(3 / s)
    one = PowerTerm(record().select(1, 1), None).log_prob(sky, np.zeros((1, 0)))[0]
    assert one == pytest.approx(value, rel=1e-12)


def test_noise_nuisance_scales_the_noise():
    term = PowerTerm(record())
    mean, modes = term.moments(isotropic(0 * C_ELL), np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(mean[1], 10 * mean[0], rtol=1e-12)
    np.testing.assert_allclose(mean[0], NOISE * WINDOW * 2 * ELL / (2 * ELL + 1), rtol=1e-12)
    np.testing.assert_allclose(modes, np.broadcast_to(2.0 * ELL, (2, LMAX)), rtol=1e-10)


def test_moments_of_a_cut_sky_with_uneven_noise():
    """Map-level skies cut at declination 40 deg; noise twice as deep in the south.

    4000 skies: mean within 5 standard errors (8 % at l = 1), variance of each multipole and of the summed
    noise-dominated powers within 20 %.
    """
    nside, rng = 16, np.random.default_rng(11)
    edge = np.radians(40.0)
    cut = replace(record(), dec_max_rad=edge, window_power=np.ones(LMAX), noise=np.full(LMAX, 3e-8))
    theta, _ = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    dec = np.pi / 2 - theta
    inside, south = dec <= edge, dec < -0.3
    level = np.where(south, 0.25, 1.0)
    level = level / level[inside].mean()
    contrast = np.mean(level[inside] ** 2)
    ring = hp.pix2ring(nside, np.arange(dec.size)) - 1
    power = np.empty((4000, LMAX))
    for i in range(len(power)):
        ell_of, m_of = hp.Alm.getlm(LMAX)
        alm = rng.normal(size=ell_of.size) + 1j * rng.normal(size=ell_of.size)
        alm = np.where(m_of == 0, np.sqrt(2) * alm.real, alm) * np.sqrt(C_ELL[ell_of] / 2)
        sky = hp.alm2map(alm, nside)
        sky += rng.normal(size=dec.size) * np.sqrt(level * 3e-8 / hp.nside2pixarea(nside))
        sky *= inside
        mean = np.bincount(ring, sky) / np.maximum(np.bincount(ring, inside), 1)
        sky = (sky - mean[ring]) * inside
        power[i] = hp.anafast(sky, lmax=LMAX, iter=3)[1:] / cut.sky_fraction
    # Given the mean power below it, each multipole has its mean power: leakage is linear in what leaks.
    term = PowerTerm(replace(cut, noise_contrast=contrast, c_ell=power.mean(0)), None)
    expected, modes = term.moments(isotropic(), np.zeros((1, 0)))
    np.testing.assert_allclose(power.mean(0), expected[0], rtol=0.08)
    np.testing.assert_allclose(power.var(0), 2 * expected[0] ** 2 / modes[0], rtol=0.25)


def test_leakage_from_below_does_not_measure_the_dipole_again():
    """A cut sky with a dipole alone: l = 2 to 6 show its leakage, and the joint law knows C_1 from l = 1 alone.

    The width of the posterior of C_1 is that of a chi-square with two degrees of freedom (d^2 ln L / d ln C^2 = -1),
    not of seven multipoles that each seem to measure it.
    """
    lmax, edge = LMAX, np.radians(67.0)
    cut = replace(record(), dec_max_rad=edge, window_power=np.ones(lmax), noise=np.full(lmax, 1e-14))
    dipole = np.zeros(lmax + 1)
    dipole[1] = 1e-6
    observed = operator_for(cut).expect(isotropic(dipole)).mean[0]
    term = PowerTerm(replace(cut, c_ell=observed), None)
    step = 0.02
    values = [term.log_prob(isotropic(dipole * np.exp(x)), np.zeros((1, 0)))[0] for x in (-step, 0.0, step)]
    curvature = (values[0] - 2 * values[1] + values[2]) / step**2
    assert curvature == pytest.approx(-1.0, abs=0.05)


def test_leakage_of_a_fixed_dipole_is_not_counted_twice():
    """A cut sky with a fixed dipole: where the data are the expected power, each multipole has its expectation.

    What leaks from the dipole has one m, so that l = 1 says it exactly. What has leaked into l = 2 to 5 is taken for
    power of theirs and leaks again: the cut's second order, 0.6 per cent of the power at l = 6. Counted twice, the
    dipole's leakage would be off by a factor of two.
    """
    lmax, edge = LMAX, np.radians(67.0)
    cut = replace(record(), dec_max_rad=edge, window_power=np.ones(lmax), noise=np.full(lmax, 1e-14))
    fixed = dipole_alm(np.array([6e-4, -4e-4, 5e-4]), operator_for(cut).lmax)
    sky = TrueSky(np.array([10.0]), fixed[None, None])
    expected = operator_for(cut).expect(sky).mean[0]
    term = PowerTerm(replace(cut, c_ell=expected), None)
    mean, _ = term.moments(sky, np.zeros((1, 0)))
    np.testing.assert_allclose((mean + term.fixed_power(sky))[0], expected, rtol=1e-2)


def test_a_pseudo_spectrum_is_refused():
    with pytest.raises(ObsfitError, match="whose multipoles mix"):
        PowerTerm(record(kind="pseudo"))
