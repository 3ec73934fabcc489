"""Moments of operators against Gaussian skies observed on rings: real harmonics on a grid, no m-blocks, no kernels.

The sky is drawn as real coefficients, painted on the nodes of a Gauss-Legendre grid in sin(dec) inside the band times
16 right ascensions, which integrates products of l <= 7 exactly; ring means are subtracted as numbers.
"""

from itertools import product

import astropy.units as u
import numpy as np
import pytest
from scipy import stats
from scipy.special import factorial, lpmv

from obsfit.operators import Components, EnergyResponse, ObservationOperator, Pixels, Power
from obsfit.records import TrueSky
from obsfit.sky.coupling import band_coupling

LMAX, N_RA, N_DEC = 6, 16, 12
BAND = (-26.0, 64.0)
RIGIDITY = np.array([1.0, 3.0, 10.0])
WEIGHTS = np.array([[0.6, 0.3, 0.1], [0.1, 0.4, 0.5]])
NOISE = np.array([0.4, 0.9])
N_SKIES = 20_000
# 5 standard errors of a normal estimate: 6e-7 for each of at most 110 numbers, 1e-4 together.
Z = 5.0


def real_harmonics(ra, sin_dec):
    """Orthonormal real harmonics for l = 0 .. LMAX and m = -l .. l (sine, then cosine), shape (n, n_pix)."""
    rows = []
    for ell in range(LMAX + 1):
        for m in range(-ell, ell + 1):
            k = abs(m)
            norm = np.sqrt((2 * ell + 1) / (4 * np.pi) * factorial(ell - k) / factorial(ell + k))
            wave = 1.0 if m == 0 else np.sqrt(2) * (np.sin(k * ra) if m < 0 else np.cos(k * ra))
            rows.append(norm * lpmv(k, ell, sin_dec) * wave)
    return np.array(rows)


ORDER = [(ell, m) for ell in range(LMAX + 1) for m in range(-ell, ell + 1)]
OF_ELL = np.array([ell for ell, _ in ORDER])


def real_of(alm):
    """Real coefficients of {(l, m): a_lm}: Re and Im times sqrt 2, the latter with a minus."""
    out = np.zeros(len(ORDER))
    for i, (ell, m) in enumerate(ORDER):
        a = alm.get((ell, abs(m)), 0.0)
        out[i] = np.real(a) if m == 0 else np.sqrt(2) * (np.real(a) if m > 0 else -np.imag(a))
    return out


FIXED = {(1, 1): 1.2 - 0.7j, (1, 0): 0.9, (2, 2): -0.8 + 0.5j, (3, 1): 0.6j}


def powers_between():
    """C_l between rigidities, l = 0 .. LMAX: falling with l, losing coherence with rigidity; some variance each."""
    x = np.log(RIGIDITY)
    coherence = np.exp(-np.abs(x[:, None] - x) / 1.5)
    growth = RIGIDITY**0.3
    c = np.array(
        [
            coherence * np.outer(growth, growth) * (ell + 0.0) ** -2.0 if ell else 0 * coherence
            for ell in range(LMAX + 1)
        ]
    )
    return np.moveaxis(c, 0, -1)


def grid():
    s1, s2 = np.sin(np.radians(BAND))
    nodes, node_weights = np.polynomial.legendre.leggauss(N_DEC)
    sin_dec = np.repeat(0.5 * (s2 - s1) * nodes + 0.5 * (s2 + s1), N_RA)
    ra = np.tile(2 * np.pi * np.arange(N_RA) / N_RA + 0.1, N_DEC)
    area = np.repeat(0.5 * (s2 - s1) * node_weights, N_RA) * 2 * np.pi / N_RA
    return ra, sin_dec, area


def simulated(fixed, *, filtered, seed):
    """Pseudo coefficients of the observed maps, shape (N_SKIES, 2 energies, n): sky, average, noise, filter, cut."""
    rng = np.random.default_rng(seed)
    ra, sin_dec, area = grid()
    y = real_harmonics(ra, sin_dec)
    skies = np.zeros((N_SKIES, 2, len(ORDER)))
    c = powers_between()
    for i, ell in enumerate(OF_ELL):
        root = np.linalg.cholesky(c[..., ell] + 1e-15 * np.eye(3))
        skies[:, :, i] = rng.normal(size=(N_SKIES, 3)) @ root.T @ WEIGHTS.T
    skies += real_of(fixed)
    out = np.empty_like(skies)
    for energy in range(2):
        maps = skies[:, energy] @ y
        # White noise of power N has the variance N / area in a pixel.
        maps += rng.normal(size=maps.shape) * np.sqrt(NOISE[energy] / area)
        if filtered:
            rings = maps.reshape(N_SKIES, N_DEC, N_RA)
            maps = (rings - rings.mean(axis=2, keepdims=True)).reshape(maps.shape)
        out[:, energy] = maps @ (y * area).T
    return out


def operator(summary, *, filtered):
    coupling = band_coupling(BAND[0] * u.deg, BAND[1] * u.deg, LMAX, filtered=filtered)
    modes = range(1 if filtered else 0, LMAX + 1)
    response = {m: np.repeat(coupling[m][None], 2, axis=0) for m in modes}
    # Uniform white noise inside the band: the covariance of its pseudo a_lm is N T^m.
    noise = {m: NOISE[:, None, None] * coupling[m] for m in modes}
    return ObservationOperator(response, noise, EnergyResponse(RIGIDITY, WEIGHTS, False), summary)


def true_sky(fixed):
    alm = None
    if fixed:
        flat = [fixed.get((ell, m), 0.0) for m in range(LMAX + 1) for ell in range(m, LMAX + 1)]
        alm = np.broadcast_to(np.array(flat, complex), (1, 3, len(flat)))
    return TrueSky(RIGIDITY, alm, powers_between()[None])


def agree(sample, mean, covariance):
    """All means and covariances within Z standard errors, those of the covariances from the sample's fourth moments."""
    off = sample - mean
    error = sample.std(axis=0) / np.sqrt(len(sample))
    assert np.abs(off.mean(axis=0) / error).max() < Z
    worst = 0.0
    for i, j in product(range(len(mean)), repeat=2):
        products = off[:, i] * off[:, j]
        worst = max(worst, abs(products.mean() - covariance[i, j]) / (products.std() / np.sqrt(len(sample))))
    assert worst < Z


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("fixed", [{}, FIXED])
def test_mean_and_covariance_of_power(fixed, filtered):
    """10 powers of two energies that share the sky: means, variances, between multipoles, between energies.

    False alarm of the four cases together below 2e-4.
    """
    ell = np.arange(1, 6)
    pseudo = simulated(fixed, filtered=filtered, seed=1)
    power = np.stack([(pseudo[..., k == OF_ELL] ** 2).sum(-1) / (2 * k + 1) for k in ell], -1).reshape(N_SKIES, -1)
    moments = operator(Power(ell), filtered=filtered).expect(true_sky(fixed))
    agree(power, moments.mean[0], moments.covariance[0])
    assert (
        np.abs(moments.covariance[0, :5, 5:]).max() > 0.1 * moments.covariance[0].max()
    )  # energies are not apart


@pytest.mark.parametrize("fixed", [{}, FIXED])
def test_mean_and_covariance_of_components(fixed):
    """(delta_0h, delta_6h) of the pseudo a_11: sqrt(3 / 4 pi) of the real cosine and sine coefficients.

    The reading error in the summary is added to the simulated numbers. False alarm below 1e-5.
    """
    reading = np.array([[[0.05, 0.02], [0.02, 0.04]], [[0.01, 0.0], [0.0, 0.02]]])
    pseudo = simulated(fixed, filtered=True, seed=2)
    cosine, sine = ORDER.index((1, 1)), ORDER.index((1, -1))
    # A sky x cos(dec) cos(ra) has the coefficient x sqrt(4 pi / 3); lpmv has the Condon-Shortley sign.
    rng = np.random.default_rng(3)
    components = -np.sqrt(3 / (4 * np.pi)) * pseudo[..., [cosine, sine]]
    components = components + np.stack([rng.multivariate_normal([0, 0], r, N_SKIES) for r in reading], 1)
    moments = operator(Components(reading), filtered=True).expect(true_sky(fixed))
    agree(components.reshape(N_SKIES, 4), moments.mean[0], moments.covariance[0])


def test_mean_and_covariance_of_pixels():
    """Maps of the pseudo coefficients in seven directions. False alarm below 1e-4."""
    ra, dec = np.linspace(0, 6, 7), np.radians([-80, -40, -10, 0, 20, 50, 85])
    pseudo = simulated(FIXED, filtered=True, seed=4)
    maps = (pseudo @ real_harmonics(ra, np.sin(dec))).reshape(N_SKIES, -1)
    moments = operator(Pixels(ra, dec), filtered=True).expect(true_sky(FIXED))
    agree(maps, moments.mean[0], moments.covariance[0])


@pytest.mark.parametrize("summary", [Power(np.arange(1, 6)), Pixels(np.array([0.0, 2.0]), np.array([0.3, -0.6]))])
def test_drawn_data_have_the_distribution_of_simulated_ones(summary):
    """Kolmogorov-Smirnov between draws of the operator and the ring simulation, p > 1e-5 each: false alarm 1.4e-4."""
    pseudo = simulated(FIXED, filtered=True, seed=5)
    if isinstance(summary, Power):
        data = np.stack([(pseudo[..., k == OF_ELL] ** 2).sum(-1) / (2 * k + 1) for k in summary.ell], -1)
    else:
        data = pseudo @ real_harmonics(summary.right_ascension_rad, np.sin(summary.dec_rad))
    data = data.reshape(N_SKIES, -1)
    drawn = operator(summary, filtered=True).draw(true_sky(FIXED), rng=np.random.default_rng(6), size=10_000)[0]
    for a, b in zip(data.T, drawn.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-5


@pytest.mark.parametrize(
    ("band", "degrees", "correlations"),
    [
        ((-90.0, -25.0), [2.0, 2.2, 3.0, 5.4], {(1, 2): 1.00, (2, 3): 0.97}),
        ((-26.0, 64.0), [2.0, 4.0, 4.7, 7.8], {(1, 2): 0.52}),
    ],
)
def test_degrees_of_freedom_of_a_cut_and_filtered_sky(band, degrees, correlations):
    """2 mean^2 / variance at l = 1 to 4 for C_l ~ l^-3 behind the top-hats of IceCube and HAWC: few, and correlated.

    A Gaussian law with independent points would be wrong by construction: IceCube's l = 1, 2, 3 are nearly one number.
    """
    lmax = 40
    coupling = band_coupling(band[0] * u.deg, band[1] * u.deg, lmax, filtered=True)
    see = ObservationOperator(
        {m: coupling[m][None, :5] for m in range(1, 5)}, {m: np.zeros((1, 5, 5)) for m in range(1, 5)},
        EnergyResponse.delta([10.0]), Power(np.arange(1, 5)),
    )  # fmt: skip
    c_ell = np.concatenate([[0.0], np.arange(1.0, lmax + 1) ** -3])
    moments = see.expect(TrueSky(np.array([10.0]), None, c_ell[None, None, None]))
    mean, covariance = moments.mean[0], moments.covariance[0]
    np.testing.assert_allclose(2 * mean**2 / np.diag(covariance), degrees, atol=0.051)
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    for (a, b), value in correlations.items():
        assert correlation[a - 1, b - 1] == pytest.approx(value, abs=0.0051)


def test_a_filtered_operator_sees_nothing_of_a_zonal_sky_but_its_noise():
    """A pure a_l0 sky gives the power of the noise, exactly."""
    ell = np.arange(1, 6)
    see = operator(Power(ell), filtered=True)
    size = (LMAX + 1) * (LMAX + 2) // 2
    zonal = np.zeros((1, 3, size), complex)
    zonal[..., : LMAX + 1] = np.arange(LMAX + 1.0)
    empty = see.expect(TrueSky(RIGIDITY, 0 * zonal))
    seen = see.expect(TrueSky(RIGIDITY, zonal))
    np.testing.assert_array_equal(seen.mean, empty.mean)
    np.testing.assert_array_equal(seen.covariance, empty.covariance)
    assert not see.observe(zonal).any()
