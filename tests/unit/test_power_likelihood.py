"""The full-sky power: operator moments, chi-square likelihood, degrees of freedom; independent route: healpy skies."""

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
    assert np.count_nonzero(moments.covariance[0] - np.diag(np.diag(moments.covariance[0]))) == 0


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
    one = term.mode_variance(isotropic(0 * C_ELL), np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(one[1], 10 * one[0], rtol=1e-12)
    np.testing.assert_allclose(one[0], NOISE * WINDOW, rtol=1e-12)


def test_a_pseudo_spectrum_is_refused():
    with pytest.raises(ObsfitError, match="whose multipoles mix"):
        operator_for(record(kind="pseudo"))
