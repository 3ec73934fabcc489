"""Folded skies against exact moments, and against maps of mock universes, which share no matrix with them.

Seeds are fixed. Means and covariances of n simulations are compared within 5 of their standard errors: a false alarm
of 6e-7 for each number. Laws are compared by Kolmogorov and Smirnov's test at 1e-5 for each number.
"""

from dataclasses import replace

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy import stats

import obsfit
from obsfit.emulate.folding import FoldedData, FoldingErrors
from obsfit.mock import energy_histogram, observe_dipoles, observe_full_sky, observe_pseudo, rigidity_sky
from obsfit.operators import operator_for
from obsfit.operators.energy import EnergyResponse
from obsfit.operators.pseudo import calibrated_window, pseudo_operator
from obsfit.protocols import dipole_alm

LMAX = 10
NODES = 10.0 ** np.arange(-0.5, 3.6, 0.5)
EXACT = FoldingErrors.none()


@pytest.fixture(scope="module")
def whole():
    return obsfit.load_spectrum("hawc-icecube-2019").select(1, 4)


@pytest.fixture(scope="module")
def cap():
    spectrum = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 4)
    return replace(spectrum, reading_error=0.0)


@pytest.fixture(scope="module")
def projected():
    """Rows of two experiments: IceCube, whose energies spread, and Tibet, at its median energy."""
    table = obsfit.load_dipoles("ahlers-mertsch-2017")
    keys = ("icecube-2016-24TeV", "icecube-2016-38TeV", "tibet-2015-15TeV")
    return table.select([table.measurement.index(key) for key in keys])


def shares(median, low, high):
    """Two-sided normal law over the bands, by scipy.stats."""
    edges = np.log10(np.concatenate([[NODES[0] * 10**-0.25], NODES * 10**0.25]) / median)
    below = stats.norm.cdf(np.where(edges < 0, edges / low, edges / high))
    return np.diff(below) / (below[-1] - below[0])


def covariance_of_bands(level, slope=2.0, length=1.0):
    """C_l between bands: l^-slope, coherence falling with the distance in log10 R."""
    x = np.log10(NODES)
    coherence = np.exp(-0.5 * ((x[:, None] - x) / length) ** 2)
    ell = np.arange(LMAX + 1)
    return level * coherence[..., None] * np.where(ell > 0, 1.0 / np.maximum(ell, 1) ** slope, 0.0)


def skies(c_ell, size, rng):
    """Gaussian isotropic skies, shape (size, n_band, n_alm), drawn all at once."""
    ell, m = hp.Alm.getlm(LMAX)
    roots = np.linalg.cholesky(np.moveaxis(c_ell, -1, 0)[1:] + 1e-12 * c_ell.max() * np.eye(len(c_ell)))
    white = rng.normal(size=(2, size, len(c_ell), ell.size))
    unit = np.where(m == 0, white[0], (white[0] + 1j * white[1]) / np.sqrt(2.0))
    unit[..., 0] = 0.0
    return np.einsum("aij,sja->sia", roots[np.maximum(ell, 1) - 1], unit, optimize=True)


def spreads(record):
    energy = obsfit.operators.energy_response_for(record)
    return energy.median_tev, energy.spread_dex


def within(found, expected, samples):
    """Whether the mean of samples (n, ...) is that expected, within 5 standard errors."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    return bool(np.all(np.abs(found - expected) < 5.0 * error))


def test_powers_have_the_exact_moments(whole, cap):
    """6000 skies about as strong as the noise of IceCube: means and covariances of two spectra, and between them."""
    rng, size = np.random.default_rng(1), 6000
    c_ell = covariance_of_bands(3e-10)
    folded = FoldedData((whole, cap), errors=EXACT)
    found = folded.observe(np.tile(NODES, (size, 1)), skies(c_ell, size, rng), rng=rng)
    operators = [replace(one, energy=None) for one in (operator_for(whole), pseudo_operator(cap))]
    weights = [shares(r[0][0], *r[1][0]) for r in map(spreads, (whole, cap))]
    mean, covariance = np.zeros(8), np.zeros((8, 8))
    for a, one in enumerate((whole, cap)):
        for b, other in enumerate((whole, cap)):
            power = np.einsum("i,ijl,j->l", weights[a], c_ell, weights[b])
            for m in range(1, 5):
                left = operators[a].response[m][0][one.ell, : LMAX + 1]
                right = operators[b].response[m][0][other.ell, : LMAX + 1]
                total = (left * power) @ right.T
                if a == b:
                    total = total + operators[a].noise[m][0][np.ix_(one.ell, one.ell)]
                    mean[4 * a : 4 * a + 4] += 2.0 * np.diag(total) / (2.0 * one.ell + 1.0)
                norm = np.outer(2.0 * one.ell + 1.0, 2.0 * other.ell + 1.0)
                covariance[4 * a : 4 * a + 4, 4 * b : 4 * b + 4] += 4.0 * total**2 / norm
    assert within(found.mean(axis=0), mean, found)
    products = (found - mean)[:, :, None] * (found - mean)[:, None, :]
    assert within(products.mean(axis=0), covariance, products)
    # The noise is a part of this, and so is what the two spectra share.
    assert min(operators[1].noise[m][0][4, 4] for m in (1, 2, 3)) > 0.01 * mean[7]
    deviation = np.sqrt(np.diag(covariance))
    assert (covariance / np.outer(deviation, deviation))[:4, 4:].max() > 0.1


def test_the_operator_itself_expects_the_same(cap):
    """`expect` of the operator with the shares of the bands as its weights, 3000 skies."""
    rng, size = np.random.default_rng(2), 3000
    c_ell = covariance_of_bands(1e-9)
    found = FoldedData((cap,), errors=EXACT).observe(np.tile(NODES, (size, 1)), skies(c_ell, size, rng), rng=rng)
    (median,), (spread,) = spreads(cap)
    energy = EnergyResponse(NODES, shares(median, *spread)[None], False)
    moments = replace(pseudo_operator(cap), energy=energy).expect(obsfit.TrueSky(NODES, c_ell=c_ell[None]))
    assert within(found.mean(axis=0), moments.mean[0], found)


def test_exponents_of_weights_err_as_calibrated(cap):
    """One strong sky: mean and variance of its powers over the errors of the exponent, by Gauss-Hermite quadrature."""
    rng, size = np.random.default_rng(3), 10_000
    one = skies(covariance_of_bands(1e-3, length=3.0), 1, rng)
    folded = FoldedData((cap,), errors=replace(EXACT, weight=True))
    found = folded.observe(np.tile(NODES, (size, 1)), np.repeat(one, size, axis=0), rng=rng)
    (median,), (spread,) = spreads(cap)
    seen = shares(median, *spread) @ one[0]
    points, weights = np.polynomial.hermite_e.hermegauss(7)
    powers = []
    for point in points:
        operator = pseudo_operator(cap, calibrated_window(cap).at(point))
        trimmed = {m: r[..., : LMAX + 1] for m, r in operator.response.items()}
        operator = replace(operator, response=trimmed, energy=EnergyResponse.delta([median]))
        powers.append(operator.observe(seen[None]))
    weights = weights / weights.sum()
    mean = weights @ np.array(powers)
    variance = weights @ np.array(powers) ** 2 - mean**2
    assert within(found.mean(axis=0), mean, found)
    assert within(((found - mean) ** 2).mean(axis=0), variance, (found - mean) ** 2)
    assert np.all(np.sqrt(variance) > 0.005 * mean)


def test_floor_and_width_are_drawn(cap):
    """Log powers of one strong sky scatter by reading error and floor; a factor on spreads is common to all."""
    rng, size = np.random.default_rng(4), 4000
    one = np.repeat(skies(covariance_of_bands(1e-3, length=0.5), 1, rng), size, axis=0)
    nodes, read = np.tile(NODES, (size, 1)), replace(cap, reading_error=0.0081)
    scatter = np.log(FoldedData((read,), errors=replace(EXACT, floor=0.03)).observe(nodes, one, rng=rng))
    # the standard error of a standard deviation is 1 / sqrt(2 n) of it
    assert scatter.std(axis=0) == pytest.approx(np.hypot(0.03, 0.0081), rel=5 / np.sqrt(2 * size))
    assert abs(np.corrcoef(scatter.T)[0, 1]) < 5 / np.sqrt(size)
    wide = np.log(FoldedData((cap,), errors=replace(EXACT, width=0.15)).observe(nodes, one, rng=rng))
    assert np.all(wide.std(axis=0) > 0.005)
    (median,), (spread,) = spreads(cap)
    factor = 1.0 + 0.15 * stats.truncnorm(-2.5, 2.5).ppf((np.arange(400) + 0.5) / 400)
    ends = np.log10(np.concatenate([[NODES[0] * 10**-0.25], NODES * 10**0.25]) / median)
    operator = replace(pseudo_operator(cap), energy=EnergyResponse.delta([median]))
    expected = []
    for value in factor:
        below = stats.norm.cdf(ends / np.where(ends < 0, *(value * spread)))
        p = np.diff(below) / (below[-1] - below[0])
        expected.append(np.log(operator.observe((p @ one[0])[None])))
    assert within(wide.mean(axis=0), np.mean(expected, axis=0), wide)
    assert wide.std(axis=0) == pytest.approx(np.std(expected, axis=0), rel=0.1)


def test_a_strong_sky_is_that_of_maps(whole, cap, projected):
    """One sky, its noise negligible: powers of maps of nside 64 to 1.5 % (their pixels), dipoles to 0.5 %."""
    rng = np.random.default_rng(5)
    alm = rigidity_sky(covariance_of_bands(1.0), rng=rng)
    folded = FoldedData((whole, cap, projected), errors=EXACT)
    found = folded.observe(NODES, alm, rng=rng)
    medians, widths = zip(*map(spreads, (whole, cap, projected)), strict=True)
    medians, widths = np.concatenate(medians), np.concatenate(widths)
    events = np.array(
        [energy_histogram(e, tuple(w), NODES, rng=rng, size=400_000) for e, w in zip(medians, widths, strict=True)]
    )
    full = observe_full_sky(
        alm, events[0], whole, noise=1e-12, noise_dec_rad=[-2, 2], noise_profile=[1, 1], rng=rng, nside=64
    )
    window = calibrated_window(cap).window
    pseudo = observe_pseudo(
        alm, events[1], replace(cap, dec_max_rad=window.dec_max_rad),
        weight=lambda dec: window.weight(np.sin(dec)), noise=np.zeros_like, rng=rng,
    )  # fmt: skip
    exact = replace(projected, amplitude_error=np.full(3, 1e-12), phase_error_rad=np.full(3, 1e-12))
    dipoles = observe_dipoles(alm, events[2:], exact, rng=rng, nside=64)
    np.testing.assert_allclose(found[:8], [*full.c_ell, *pseudo.c_ell], rtol=0.015)
    expected = dipoles.amplitude[:, None] * np.stack([np.cos(dipoles.phase_rad), np.sin(dipoles.phase_rad)], -1)
    error = np.linalg.norm(found[8:].reshape(3, 2) - expected, axis=1) / dipoles.amplitude
    assert np.all(error < 0.005)
    # Without the average over energy, the powers would be others.
    assert np.abs(energy_free(alm, whole) / found[:4] - 1.0).max() > 0.1


def energy_free(alm, record):
    """Powers of the sky at the node next to the median energy."""
    operator = replace(operator_for(record), energy=EnergyResponse.delta([record.energy_tev]))
    return operator.observe(alm[[int(np.argmin(np.abs(np.log(NODES / record.energy_tev))))]])


def test_noisy_data_have_the_law_of_mock_universes(cap, projected):
    """120 universes on maps of nside 32 and 3000 folded skies, powers near the noise, all errors but those of weights.

    Pixels change the powers by 2 %, a twentieth of what 120 universes could tell.
    """
    rng, size = np.random.default_rng(6), 120
    c_ell = covariance_of_bands(2e-10)
    # errors about as large as the dipoles, so that they matter
    rows = projected.select([0, 2])
    rows = replace(rows, amplitude_error=[4e-6, 8e-6], phase_error_rad=6e-6 / rows.amplitude)
    medians, widths = (np.concatenate(part) for part in zip(spreads(cap), spreads(rows), strict=True))
    calibration = calibrated_window(cap)
    window = calibration.window
    steradian = 2 * np.pi * (np.sin(window.dec_max_rad) - np.sin(window.dec_min_rad))

    def noise(dec):
        return steradian / calibration.events * (1 + 1 / calibration.resamples) / window.weight(np.sin(dec))

    mocks = []
    for _ in range(size):
        alm = rigidity_sky(c_ell, rng=rng)
        events = np.array(
            [energy_histogram(e, tuple(w), NODES, rng=rng) for e, w in zip(medians, widths, strict=True)]
        )
        pseudo = observe_pseudo(
            alm, events[0], replace(cap, dec_max_rad=window.dec_max_rad), nside=32,
            weight=lambda dec: window.weight(np.sin(dec)), noise=noise, rng=rng, reading_error=0.03,
        )  # fmt: skip
        offsets = 0.1 * rng.normal(size=(2, 2))
        seen = observe_dipoles(alm, events[1:], rows, rng=rng, scale=offsets[0], across=offsets[1], nside=16)
        vector = seen.amplitude * np.exp(1j * seen.phase_rad)
        mocks.append([*pseudo.c_ell, *np.stack([vector.real, vector.imag], -1).ravel()])
    mock = np.array(mocks)
    errors = replace(EXACT, floor=0.03, scale=0.1, direction=0.1)
    folded = FoldedData((cap, rows), errors=errors)
    found = folded.observe(np.tile(NODES, (3000, 1)), skies(c_ell, 3000, rng), rng=rng)
    for column in range(found.shape[1]):
        assert stats.ks_2samp(found[:, column], mock[:, column]).pvalue > 1e-5, folded.labels[column]
    # what powers and dipoles have in common: correlation of log C_1 and log amplitude
    amplitude = [np.log(np.hypot(x[:, 4], x[:, 5])) for x in (found, mock)]
    pair = [np.corrcoef(np.log(x[:, 0]), a)[0, 1] for x, a in zip((found, mock), amplitude, strict=True)]
    assert pair[0] > 0.15
    assert abs(np.arctanh(pair[0]) - np.arctanh(pair[1])) < 5 / np.sqrt(size - 3)


def test_a_dipole_points_where_the_density_grows(projected):
    """A pure dipole towards right ascension 70 deg: its components by Eq. (25) of AM17 and quarter turns."""
    alpha = np.radians(70.0)
    alm = np.tile(dipole_alm(np.array([np.cos(alpha), np.sin(alpha), 0.3]), LMAX), (NODES.size, 1))
    found = FoldedData((projected,), errors=EXACT).observe(NODES, alm, rng=np.random.default_rng(7)).reshape(3, 2)
    for row in range(3):
        low, high = projected.dec_min_rad[row], projected.dec_max_rad[row]
        s, c = np.sin([low, high]), np.cos([low, high])
        ratio = (low - high + c[0] * s[0] - c[1] * s[1]) / (2 * (s[0] - s[1]))
        # published errors are some 1e-5 of this dipole
        assert found[row] == pytest.approx(ratio * np.array([np.cos(alpha), np.sin(alpha)]), abs=1e-3)


def test_a_turned_sky_has_the_same_coordinates(whole, cap, projected):
    """Skies turned by alpha, the same random numbers, strong enough for noise not to matter; dipole errors turn too."""
    rng = np.random.default_rng(8)
    size, names = 20, ("log10_amplitude", "gradient_right_ascension")
    folded = FoldedData((whole, cap, projected), names)
    alm = skies(covariance_of_bands(1.0), size, rng)
    theta = np.column_stack([rng.uniform(-1, 0, size), rng.uniform(0, 2 * np.pi, size)])
    _, m = hp.Alm.getlm(LMAX)
    turned = alm * np.exp(-1j * m * theta[:, 1, None, None])
    nodes = np.tile(NODES, (size, 1))
    straight = folded.observe(nodes, alm, rng=np.random.default_rng(9))
    data = folded.observe(nodes, turned, rng=np.random.default_rng(9))
    unturned = theta * [1.0, 0.0]
    values, expected = folded.coordinates(data, theta), folded.coordinates(straight, unturned)
    # noise of 1e-5 beside a power of l = 4 of a few per cent, at its worst minimum over 20 skies
    np.testing.assert_allclose(values[:, :8], expected[:, :8], atol=5e-3)
    np.testing.assert_allclose(values[:, 8:], expected[:, 8:], rtol=1e-9, atol=1e-9)
    assert np.abs(folded.coordinates(data, unturned)[:, 8:] - expected[:, 8:]).max() > 0.1


def test_errors_of_an_experiment_are_common_to_its_rows():
    """One strong dipole, 3000 draws: rows of IceCube err alike, that of Tibet by itself, by 10 % and 0.2 rad."""
    table = obsfit.load_dipoles("ahlers-mertsch-2017")
    keys = ("icecube-2016-24TeV", "tibet-2015-15TeV", "icecube-2016-38TeV")
    rows = table.select([table.measurement.index(key) for key in keys])
    alm = np.tile(dipole_alm(np.array([0.6, 0.8, 0.0]) * 1e3, LMAX), (3000, NODES.size, 1))
    nodes, rng = np.tile(NODES, (3000, 1)), np.random.default_rng(10)
    true = FoldedData((rows,), errors=EXACT).observe(nodes[0], alm[0], rng=rng)
    found = FoldedData((rows,), errors=replace(EXACT, scale=0.1, direction=0.2)).observe(nodes, alm, rng=rng)
    ratio = (found[:, ::2] + 1j * found[:, 1::2]) / (true[::2] + 1j * true[1::2]) - 1.0
    # published errors are some 1e-7 of this dipole; standard errors of deviations are 1 / sqrt(6000)
    np.testing.assert_allclose(ratio[:, 0], ratio[:, 2], atol=1e-5)
    assert abs(np.corrcoef(ratio[:, 0].real, ratio[:, 1].real)[0, 1]) < 5 / np.sqrt(3000)
    assert ratio.real.std(axis=0) == pytest.approx(0.1, rel=5 / np.sqrt(6000))
    assert ratio.imag.std(axis=0) == pytest.approx(0.2, rel=5 / np.sqrt(6000))


def test_noise_of_a_map_is_scaled_as_a_whole(whole):
    """An empty sky: the mean power is the noise times that of 10^x, x uniform from 0.2 to 0.6; one factor for all l."""
    rng, size = np.random.default_rng(11), 4000
    empty = np.zeros((size, NODES.size, 66), dtype=complex)
    folded = FoldedData((whole,), errors=replace(EXACT, log10_noise=(0.2, 0.6)))
    found = folded.observe(np.tile(NODES, (size, 1)), empty, rng=rng)
    noise = operator_for(whole).noise
    mean = [2.0 * sum(noise[m][0][ell, ell] for m in range(1, ell + 1)) / (2 * ell + 1) for ell in whole.ell]
    factor = (10**0.6 - 10**0.2) / (0.4 * np.log(10))
    assert within(found.mean(axis=0), factor * np.array(mean), found)
    # a factor of each l would leave them independent; what it adds to the covariance of l = 3 and 4 is its variance
    spread = (10**1.2 - 10**0.4) / (0.8 * np.log(10)) - factor**2
    products = (found[:, 2] - factor * mean[2]) * (found[:, 3] - factor * mean[3])
    assert products.mean() > 0.5 * spread * mean[2] * mean[3]
