import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.table import Table
from scipy import integrate, stats

from obsfit.errors import ConfigurationError, ConvergenceError, DataFormatError
from obsfit.infer import _sky_kernels as kernels
from obsfit.infer import sky_sampler
from obsfit.infer.observed_harmonics import NoiseProfile, ObservedHarmonics, map_harmonics, pseudo_harmonics
from obsfit.infer.sky_sampler import (
    SkyPosterior,
    SkyPrior,
    SkySamplerSettings,
    SkySystem,
    draw_power,
    draw_prior,
    sample_sky,
)
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap
from obsfit.sky.smoothing import top_hat_window

LMAX = 4
HELD = SkyPrior(0.01, 100.0, amplitude_scatter=0.0, noise_scatter=0.0)


class Given:
    """Stands for a generator: its normal numbers are given."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def standard_normal(self):
        return next(self.numbers)


def some_data(name, rng, *, lmax=LMAX, first_m=0):
    """An observatory with responses, noise and data that mean nothing."""
    response, alm, noise = {}, {}, {}
    for m in range(first_m, lmax + 1):
        size = 2 + m % 2
        response[m] = rng.normal(size=(size, lmax + 1))
        factor = rng.normal(size=(size, size))
        noise[m] = factor @ factor.T + np.eye(size)
        alm[m] = rng.normal(size=size) + (0.0 if m == 0 else 1j * rng.normal(size=size))
    return ObservedHarmonics(name, response, alm, noise)


def real_indices(lmax):
    """(l, m, part) of the real numbers that make a sky: part 0 real, 1 imaginary."""
    found = [(ell, 0, 0) for ell in range(1, lmax + 1)]
    return found + [(ell, m, part) for m in range(1, lmax + 1) for ell in range(m, lmax + 1) for part in range(2)]


def dense(data, c_ell, amplitude, noise_scale):
    """One big real system for all data: design matrix, data, noise covariance, prior variance, amplitude per row."""
    index = real_indices(len(c_ell) - 1)
    prior = np.array([c_ell[ell] * (1.0 if m == 0 else 0.5) for ell, m, _ in index])
    rows, values, blocks = [], [], []
    for one, g, s in zip(data, amplitude, noise_scale, strict=True):
        for m in one.response:
            for part in range(1 if m == 0 else 2):
                design = np.zeros((len(one.alm[m]), len(index)))
                for column, (ell, order, which) in enumerate(index):
                    if order == m and which == part:
                        design[:, column] = g * one.response[m][:, ell]
                rows.append(design)
                values.append(one.alm[m].imag if part else one.alm[m].real)
                blocks.append(s * one.noise[m] * (1.0 if m == 0 else 0.5))
    size = sum(len(block) for block in blocks)
    noise, start = np.zeros((size, size)), 0
    for block in blocks:
        noise[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return np.concatenate(rows), np.concatenate(values), noise, prior


def as_real(a, lmax):
    return np.array([a[m, ell].imag if part else a[m, ell].real for ell, m, part in real_indices(lmax)])


def conditional(data, c_ell, amplitude, noise_scale, prior=HELD):
    """Mean and covariance of the Gaussian step, from the numbers that it is given to draw with."""
    system = SkySystem.of(data, prior)
    lmax = system.lmax
    root = np.sqrt(c_ell)
    total, projected = kernels.combine(system.information, system.projected, amplitude, noise_scale)
    n = len(real_indices(lmax))

    def draw(numbers):
        return as_real(root * kernels.draw_sky.py_func(total, projected, root, Given(numbers)), lmax)

    mean = draw(np.zeros(n))
    columns = np.array([draw(unit) - mean for unit in np.eye(n)])
    return mean, columns.T @ columns


@pytest.fixture(scope="module")
def two():
    rng = np.random.default_rng(3)
    data = [some_data("one", rng), some_data("two", rng, first_m=1)]
    c_ell = np.concatenate([[0.0], rng.uniform(0.1, 5.0, LMAX)])
    return data, c_ell, np.array([1.0, 1.3]), np.array([0.7, 1.6])


def test_the_gaussian_step_is_the_dense_solution(two):
    data, c_ell, amplitude, noise_scale = two
    design, values, noise, prior = dense(data, c_ell, amplitude, noise_scale)
    covariance = np.linalg.inv(design.T @ np.linalg.solve(noise, design) + np.diag(1.0 / prior))
    expected = covariance @ design.T @ np.linalg.solve(noise, values)
    mean, found = conditional(data, c_ell, amplitude, noise_scale)
    np.testing.assert_allclose(mean, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found, covariance, rtol=1e-9, atol=1e-12)


def test_the_marginal_of_amplitudes_is_the_dense_one(two):
    data, c_ell, _, noise_scale = two
    system = SkySystem.of(data, HELD)
    ours, theirs = [], []
    for g in (0.8, 1.0, 1.7):
        amplitude = np.array([1.0, g])
        total, projected = kernels.combine(system.information, system.projected, amplitude, noise_scale)
        ours.append(kernels.log_marginal(total, projected, np.sqrt(c_ell)))
        design, values, noise, prior = dense(data, c_ell, amplitude, noise_scale)
        theirs.append(
            stats.multivariate_normal(np.zeros(len(values)), noise + (design * prior) @ design.T).logpdf(values)
        )
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1e-10)


def test_the_misfit_is_the_dense_chi_square(two):
    data, c_ell, amplitude, _ = two
    system, rng = SkySystem.of(data, HELD), np.random.default_rng(4)
    state = draw_prior(system, rng=rng)
    root = np.sqrt(c_ell)
    found = kernels.misfit(system.information, system.projected, system.square, amplitude, state.unit, root)
    for k, one in enumerate(data):
        design, values, noise, _ = dense([one], c_ell, amplitude[k : k + 1], [1.0])
        residual = values - design @ as_real(root * state.unit, LMAX)
        assert found[k] == pytest.approx(residual @ np.linalg.solve(noise, residual), rel=1e-10)


def test_compiled_kernels_and_plain_python_agree(two):
    data, c_ell, amplitude, noise_scale = two
    system, root = SkySystem.of(data, HELD), np.sqrt(c_ell)
    total, projected = kernels.combine(system.information, system.projected, amplitude, noise_scale)
    plain = kernels.combine.py_func(system.information, system.projected, amplitude, noise_scale)
    np.testing.assert_allclose(total, plain[0], rtol=1e-14)
    rng = [np.random.default_rng(5) for _ in range(2)]
    x = kernels.draw_sky(total, projected, root, rng[0])
    np.testing.assert_allclose(x, kernels.draw_sky.py_func(total, projected, root, rng[1]), rtol=1e-12)
    roots = [root.copy(), root.copy()]
    kernels.rescale(total, projected, x, roots[0], 0.5, 0.01, 100.0, rng[0])
    kernels.rescale.py_func(total, projected, x, roots[1], 0.5, 0.01, 100.0, rng[1])
    np.testing.assert_allclose(roots[0], roots[1], rtol=1e-10)


def test_two_identical_observatories_halve_the_noise_variance():
    rng = np.random.default_rng(6)
    one = ObservedHarmonics(
        "one", {m: np.eye(LMAX + 1)[m:] for m in range(LMAX + 1)},
        {m: rng.normal(size=LMAX + 1 - m) + 0j for m in range(LMAX + 1)},
        {m: 1e-6 * np.eye(LMAX + 1 - m) for m in range(LMAX + 1)},
    )  # fmt: skip
    again = ObservedHarmonics("two", one.response, one.alm, one.noise)
    c_ell = np.full(LMAX + 1, 100.0)
    mean, single = conditional([one], c_ell, np.ones(1), np.ones(1))
    same, double = conditional([one, again], c_ell, np.ones(2), np.ones(2))
    # The prior changes both by the ratio of noise to power, 1e-8.
    np.testing.assert_allclose(np.diag(double), 0.5 * np.diag(single), rtol=2e-8)
    np.testing.assert_allclose(same, mean, rtol=2e-8, atol=1e-12)


@pytest.mark.parametrize("index", [0.0, 1.0, 2.5])
def test_power_is_drawn_from_the_inverse_gamma_density(index):
    rng = np.random.default_rng(7)
    prior = SkyPrior(0.3, 4.0, index=index)
    power, ell = 5.0, 2

    def density(c):
        return c ** (-index - ell - 0.5) * np.exp(-0.5 * power / c)

    grid = np.linspace(prior.low, prior.high, 41)
    total = integrate.quad(density, prior.low, prior.high)[0]
    cumulative = np.array([integrate.quad(density, prior.low, c)[0] / total for c in grid])
    drawn = draw_power(np.full(20_000, power), np.full(20_000, ell), prior, rng=rng)
    # False alarm 1e-4 for each index: the interpolated distribution function errs by less than 1e-4.
    assert stats.kstest(drawn, lambda c: np.interp(c, grid, cumulative)).pvalue > 1e-4


def test_power_far_beyond_its_range_is_the_nearest_end():
    rng = np.random.default_rng(8)
    prior = SkyPrior(1e-12, 1e-4)
    drawn = draw_power(np.array([0.0, 1e-30, 1.0, 1e6]), np.array([1, 20, 3, 20]), prior, rng=rng)
    assert np.all((drawn >= prior.low) & (drawn <= prior.high))
    assert drawn[1] < 1.5e-12
    assert drawn[2] > 0.9e-4
    assert drawn[3] == prior.high


@pytest.mark.parametrize("index", [0.5, 1.0, 3.0])
def test_prior_draws_follow_the_power_law(index):
    prior = SkyPrior(0.1, 10.0, index=index, amplitude_scatter=0.0, noise_scatter=0.0)
    system = SkySystem.of([some_data("one", np.random.default_rng(1), lmax=40)], prior)
    rng = np.random.default_rng(9)
    drawn = np.concatenate([draw_prior(system, rng=rng).c_ell[1:] for _ in range(100)])
    power = 1.0 - index

    def cumulative(c):
        if index == 1.0:
            return np.log(c / 0.1) / np.log(100.0)
        return (c**power - 0.1**power) / (10.0**power - 0.1**power)

    assert stats.kstest(drawn, cumulative).pvalue > 1e-4


# --- data from maps ---------------------------------------------------------------------------------------------


BAND = {"dec_min": -35 * u.deg, "dec_max": 50 * u.deg}


def random_alm(lmax, rng):
    ell, m = hp.Alm.getlm(lmax)
    alm = (rng.normal(size=ell.size) + 1j * rng.normal(size=ell.size)) / (1.0 + ell)
    alm[m == 0] = alm[m == 0].real
    alm[0] = 0.0
    return alm


def cut_sky(values, low=-35.0, high=50.0):
    """A map with NaN outside a band, cut by the declinations of its pixels."""
    dec = 90.0 - np.degrees(hp.pix2ang(hp.npix2nside(len(values)), np.arange(len(values)))[0])
    return SkyMap(np.where((dec >= low) & (dec <= high), values, np.nan), Provenance("mock"))


def without_ring_means(values):
    nside = hp.npix2nside(len(values))
    z = np.round(hp.pix2vec(nside, np.arange(len(values)))[2], 9)
    _, ring = np.unique(z, return_inverse=True)
    return values - (np.bincount(ring, weights=values) / np.bincount(ring))[ring]


def predicted(data, alm, lmax):
    """The response applied to a sky, m by m."""
    full = np.zeros((lmax + 1, lmax + 1), dtype=complex)
    ell, m = hp.Alm.getlm(lmax)
    full[m, ell] = alm
    return {m: matrix @ full[m] for m, matrix in data.response.items()}


@pytest.mark.parametrize("smoothed", [False, True])
def test_response_is_what_the_map_shows(smoothed):
    lmax, nside = 8, 32
    alm = random_alm(lmax, np.random.default_rng(10))
    window = np.exp(-0.005 * np.arange(40) * (np.arange(40) + 1.0)) if smoothed else None
    seen = hp.alm2map(hp.almxfl(alm, window[: lmax + 1]) if smoothed else alm, nside)
    data = map_harmonics(
        cut_sky(seen), name="band", **BAND, noise=NoiseProfile.white(1.0), lmax=lmax, smoothing=window
    )
    expected = predicted(data, alm, lmax)
    assert 0 not in data.response
    for m, values in data.alm.items():
        np.testing.assert_allclose(values, expected[m], rtol=0, atol=1e-8 * np.abs(alm).max())


def test_ring_means_do_not_matter():
    rng = np.random.default_rng(11)
    values = hp.alm2map(random_alm(6, rng), 16)
    settings = {"name": "band", **BAND, "noise": NoiseProfile.white(1.0), "lmax": 6}
    left, right = (map_harmonics(cut_sky(v), **settings) for v in (values, without_ring_means(values)))
    for m in left.alm:
        np.testing.assert_allclose(left.alm[m], right.alm[m], rtol=0, atol=1e-13)


def test_pseudo_alm_are_those_of_healpy():
    """All directions kept, the rotation that sorts them changes no norm."""
    lmax, nside = 6, 16
    values = np.random.default_rng(12).normal(size=hp.nside2npix(nside))
    sky = cut_sky(values)
    data = map_harmonics(
        sky, name="band", **BAND, noise=NoiseProfile.white(1.0), lmax=lmax, support=-1.0,
        weight=lambda s: 2.0 + s,
    )  # fmt: skip
    z = hp.pix2vec(nside, np.arange(values.size))[2]
    pseudo = hp.map2alm(np.where(np.isfinite(sky.delta_i), values * (2.0 + z), 0.0), lmax=lmax, iter=0)
    _, order = hp.Alm.getlm(lmax)
    for m in range(1, lmax + 1):
        assert np.linalg.norm(data.alm[m]) == pytest.approx(np.linalg.norm(pseudo[order == m]), rel=1e-10)


@pytest.mark.parametrize("smoothed", [False, True])
def test_noise_covariance_against_noisy_maps(smoothed):
    """Chi-square of pure noise through the same chain: mean = degrees of freedom. False alarm 6e-5 each."""
    rng, nside, lmax = np.random.default_rng(13), 32, 8
    profile = NoiseProfile(np.radians([-90.0, 0.0, 90.0]), np.array([0.5, 1.0, 4.0]))
    window = np.exp(-0.01 * np.arange(60) * (np.arange(60) + 1.0)) if smoothed else None
    theta = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))[0]
    # An independent reading of the profile: sigma squared times the area of a pixel is the power.
    power = np.where(theta < np.pi / 2, 4.0 - 6.0 * theta / np.pi, 1.5 - theta / np.pi)
    sigma = np.sqrt(power / (4.0 * np.pi / theta.size))
    total, freedom = 0.0, 0
    mixed = 0.0
    count = 60
    for _ in range(count):
        values = sigma * rng.standard_normal(theta.size)
        if smoothed:
            values = hp.alm2map(hp.almxfl(hp.map2alm(values, lmax=59), window), nside)
        data = map_harmonics(cut_sky(values), name="band", **BAND, noise=profile, lmax=lmax, smoothing=window)
        for m, y in data.alm.items():
            white = np.linalg.solve(np.linalg.cholesky(data.noise[m]), y)
            total += 2.0 * np.sum(np.abs(white) ** 2)
            mixed += 2.0 * np.real(np.sum(white[1:] * np.conj(white[:-1])))
        freedom += data.degrees_of_freedom
    assert (total - freedom) / np.sqrt(2.0 * freedom) == pytest.approx(0.0, abs=4.0)
    assert mixed / np.sqrt(2.0 * freedom) == pytest.approx(0.0, abs=4.0)


def test_pseudo_alm_given_directly_agree_with_the_map_of_fine_pixels():
    rng, lmax, nside = np.random.default_rng(14), 6, 128
    alm = random_alm(lmax, rng)
    sky = cut_sky(hp.alm2map(alm, nside))
    pseudo = hp.map2alm(np.nan_to_num(sky.delta_i), lmax=lmax, iter=0)
    profile = NoiseProfile(np.radians([-90.0, 90.0]), np.array([1.0, 3.0]))
    settings = {"name": "band", **BAND, "lmax": lmax, "noise": profile}
    direct, binned = pseudo_harmonics(pseudo, **settings), map_harmonics(sky, **settings)
    expected = predicted(direct, alm, lmax)
    for m, values in direct.alm.items():
        # The edges of a band of pixels are rough by a fraction of a pixel.
        np.testing.assert_allclose(values, expected[m], rtol=0, atol=5e-3 * np.abs(alm).max())
    first, second = (SkySystem.of([x], HELD).information for x in (direct, binned))
    np.testing.assert_allclose(first, second, rtol=0, atol=5e-3 * np.abs(first).max())


@pytest.mark.parametrize("band", [(-90.0, -30.0), (-20.0, 64.0)])
def test_little_leaks_from_beyond_the_sampled_multipoles(band):
    """A sky of C_l = 4e-6 l^-3 above l = 36 alone is below a hundredth of the noise of IceCube in data up to 24."""
    rng, lmax = np.random.default_rng(20), 90
    ell, _ = hp.Alm.getlm(lmax)
    window = top_hat_window(5 * u.deg, 120)
    beyond = np.where(ell > 36, np.sqrt(4e-6 / np.maximum(ell, 1) ** 3.0 / 2.0), 0.0) * window[ell]
    seen = hp.alm2map(beyond * (rng.normal(size=ell.size) + 1j * rng.normal(size=ell.size)), 64)
    data = map_harmonics(
        cut_sky(seen, *band), name="band", dec_min=band[0] * u.deg, dec_max=band[1] * u.deg, lmax=36, lmax_out=24,
        noise=NoiseProfile.white(1.4e-11), smoothing=window,
    )  # fmt: skip
    chi2 = SkySystem.of([data], HELD).square[0]
    assert chi2 < 1e-2 * data.degrees_of_freedom


def test_unfiltered_pseudo_alm_measure_the_a_l0():
    lmax = 5
    alm = random_alm(lmax, np.random.default_rng(15))
    full = {"dec_min": -90 * u.deg, "dec_max": 90 * u.deg, "noise": NoiseProfile.white(1e-12), "lmax": lmax}
    data = pseudo_harmonics(alm, name="all", filtered=False, **full)
    mean, _ = conditional([data], np.full(lmax + 1, 1.0), np.ones(1), np.ones(1))
    ell, m = hp.Alm.getlm(lmax)
    grid = np.zeros((lmax + 1, lmax + 1), dtype=complex)
    grid[m, ell] = alm
    np.testing.assert_allclose(mean, as_real(grid, lmax), rtol=1e-9, atol=1e-10)


def test_a_rotated_sky_gives_the_rotated_posterior():
    """A quarter turn about the axis maps HEALPix onto itself: each m gains exactly a phase."""
    rng, nside, lmax = np.random.default_rng(16), 16, 6
    values = hp.alm2map(random_alm(lmax, rng), nside) + 0.1 * rng.standard_normal(hp.nside2npix(nside))
    vector = np.array(hp.pix2vec(nside, np.arange(values.size)))
    turned = np.empty_like(values)
    turned[hp.vec2pix(nside, -vector[1], vector[0], vector[2])] = values
    settings = {"name": "band", **BAND, "noise": NoiseProfile.white(1e-3), "lmax": lmax}
    systems = [SkySystem.of([map_harmonics(cut_sky(v), **settings)], HELD) for v in (values, turned)]
    root = np.ones(lmax + 1)
    zeros = np.zeros(len(real_indices(lmax)))
    means, evidence = [], []
    for system in systems:
        parts = kernels.combine(system.information, system.projected, np.ones(1), np.ones(1))
        means.append(kernels.draw_sky.py_func(*parts, root, Given(zeros)))
        evidence.append(kernels.log_marginal(*parts, root))
    phase = (-1j) ** np.arange(lmax + 1)
    np.testing.assert_allclose(means[1], means[0] * phase[:, None], rtol=0, atol=1e-11)
    assert evidence[1] == pytest.approx(evidence[0], rel=1e-12)


def test_noise_of_a_shipped_kind_of_table():
    table = Table(
        {
            "dec_min": [-90.0, -30.0, 0.0] * u.deg, "dec_max": [-30.0, 0.0, 90.0] * u.deg,
            "sigma": np.ma.array([1.0, 9.0, 2.0], mask=[False, True, False]),
        },
        meta={"disc_solid_angle": "0.5 sr"},
    )  # fmt: skip
    profile = NoiseProfile.from_table(table)
    np.testing.assert_allclose(profile(np.array([-1.0, np.sin(np.radians(45.0))])), [0.5, 2.0])
    with pytest.raises(ConfigurationError, match="without sigma, metadata disc_solid_angle"):
        NoiseProfile.from_table(Table({"dec_min": [0.0], "dec_max": [1.0]}))


# --- refusals ---------------------------------------------------------------------------------------------------


def test_unobserved_pixels_are_refused():
    values = np.zeros(hp.nside2npix(8))
    values[300] = np.nan
    with pytest.raises(ValueError, match="band: 1 pixels between"):
        map_harmonics(
            SkyMap(values, Provenance("mock")), name="band", **BAND, noise=NoiseProfile.white(1.0), lmax=4
        )


def test_bad_bands_and_smoothing_are_refused():
    sky = SkyMap(np.zeros(hp.nside2npix(8)), Provenance("mock"))
    settings = {"name": "band", "noise": NoiseProfile.white(1.0), "lmax": 4}
    with pytest.raises(ValueError, match="expected -90 deg <= dec_min"):
        map_harmonics(sky, dec_min=5 * u.deg, dec_max=5 * u.deg, **settings)
    with pytest.raises(ValueError, match="no ring of nside 8"):
        map_harmonics(sky, dec_min=89.9 * u.deg, dec_max=90 * u.deg, **settings)
    with pytest.raises(ValueError, match="at least lmax"):
        map_harmonics(sky, **BAND, smoothing=np.ones(3), **settings)
    with pytest.raises(ValueError, match="at least lmax"):
        pseudo_harmonics(np.zeros(15, dtype=complex), **BAND, smoothing=np.ones(3), **settings)


@pytest.mark.parametrize(
    ("dec", "power"), [([0.0, 0.0], [1.0, 1.0]), ([0.0], [0.0]), ([0.0], [np.nan]), ([0.0], [1.0, 2.0])]
)
def test_bad_noise_profiles_are_refused(dec, power):
    with pytest.raises(ValueError, match="noise profile"):
        NoiseProfile(np.array(dec), np.array(power))


def test_inconsistent_data_are_refused():
    rng = np.random.default_rng(17)
    one = some_data("one", rng)
    with pytest.raises(ConfigurationError, match="each with its own name"):
        SkySystem.of([one, one])
    with pytest.raises(ConfigurationError, match=r"one \(none\)|\(none\)"):
        SkySystem.of([])
    with pytest.raises(ConfigurationError, match="one lmax"):
        SkySystem.of([one, some_data("two", rng, lmax=3)])
    with pytest.raises(ValueError, match="different m"):
        ObservedHarmonics("x", one.response, {}, one.noise)
    with pytest.raises(ValueError, match="real sky are real"):
        ObservedHarmonics("x", one.response, {**one.alm, 0: one.alm[0] + 1j}, one.noise)
    with pytest.raises(ValueError, match="not finite"):
        ObservedHarmonics("x", one.response, {**one.alm, 1: one.alm[1] * np.nan}, one.noise)
    with pytest.raises(ValueError, match="expected \\(n, lmax \\+ 1\\)"):
        ObservedHarmonics("x", one.response, {**one.alm, 1: one.alm[1][:1]}, one.noise)
    broken = ObservedHarmonics("x", one.response, one.alm, {**one.noise, 2: -one.noise[2]})
    with pytest.raises(ConfigurationError, match="m = 2 is not positive definite"):
        SkySystem.of([broken])


@pytest.mark.parametrize(
    "settings",
    [{"low": 1.0, "high": 1.0}, {"index": -1.0}, {"amplitude_scatter": -0.1}, {"noise_scatter": np.nan}],
)
def test_improper_priors_are_refused(settings):
    with pytest.raises(ConfigurationError):
        SkyPrior(**settings)


@pytest.mark.parametrize("settings", [{"chains": 0}, {"burn_in": -1}, {"max_r_hat": 1.0}, {"report": -1}])
def test_senseless_settings_are_refused(settings):
    with pytest.raises(ConfigurationError):
        SkySamplerSettings(**settings)


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(18)
    return [some_data("one", rng, lmax=3, first_m=1), some_data("two", rng, lmax=3, first_m=1)]


SETTINGS = {"chains": 2, "burn_in": 20, "thin": 2, "block": 100, "report": 3}
PRIOR = SkyPrior(0.01, 100.0)


def test_a_run_states_what_it_found(small):
    found = sample_sky(
        small, rng=np.random.default_rng(1), prior=PRIOR, seed=1,
        settings=SkySamplerSettings(**SETTINGS, target=60.0, max_r_hat=1.2),
    )  # fmt: skip
    assert found.alm.shape == (*found.c_ell.shape[:2], 10)
    assert found.alm.dtype == np.complex64
    assert found.effective.min() >= 60.0
    assert found.names == (
        "log_c_1", "log_c_2", "log_c_3", "amplitude of two", "noise_scale of one", "noise_scale of two",
    )  # fmt: skip
    assert list(found.spectrum()["ell"]) == [1, 2, 3]
    assert len(found.nuisances()) == 4
    mean, sd = found.map_moments(4, size=40)
    assert mean.shape == sd.shape == (192,)
    # Ring means are gone.
    assert abs(np.mean(mean[:4])) < 1e-12
    assert found.provenance["seed"] == 1
    assert np.all(found.amplitude[..., 0] == 1.0)


def test_held_nuisances_stay(small):
    found = sample_sky(
        small, rng=np.random.default_rng(1), prior=SkyPrior(0.01, 100.0, amplitude_scatter=0.0, noise_scatter=0.0),
        settings=SkySamplerSettings(**SETTINGS, target=10.0, max_r_hat=2.0),
    )  # fmt: skip
    assert np.all(found.amplitude == 1.0)
    assert np.all(found.noise_scale == 1.0)
    assert found.names == ("log_c_1", "log_c_2", "log_c_3")


def test_a_killed_run_goes_on_to_the_same_samples(small, tmp_path, monkeypatch):
    settings = SkySamplerSettings(**SETTINGS, target=150.0, max_r_hat=1.5)
    whole = sample_sky(small, rng=np.random.default_rng(2), prior=PRIOR, settings=settings)
    advance, calls = sky_sampler._advance, []

    def killed(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        advance(*arguments)

    store = tmp_path / "sky.h5"
    monkeypatch.setattr(sky_sampler, "_advance", killed)
    with pytest.raises(KeyboardInterrupt):
        sample_sky(small, rng=np.random.default_rng(2), prior=PRIOR, settings=settings, store=store)
    monkeypatch.undo()
    with pytest.raises(DataFormatError, match="not a finished posterior"):
        SkyPosterior.load(store)
    with pytest.raises(ConfigurationError, match="the store exists"):
        sample_sky(small, rng=np.random.default_rng(2), prior=PRIOR, settings=settings, store=store)
    # Another generator: a resumed run has its own.
    resumed = sample_sky(
        small, rng=np.random.default_rng(99), prior=PRIOR, settings=settings, store=store, resume=True
    )
    for name in ("alm", "c_ell", "amplitude", "noise_scale", "effective", "r_hat"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    loaded = SkyPosterior.load(store)
    np.testing.assert_array_equal(loaded.alm, whole.alm)
    assert loaded.observatories == ("one", "two")
    again = sample_sky(
        small, rng=np.random.default_rng(99), prior=PRIOR, settings=settings, store=store, resume=True
    )
    np.testing.assert_array_equal(again.alm, whole.alm)


def test_an_unconverged_run_says_so_and_may_go_on(small, tmp_path):
    store = tmp_path / "sky.h5"
    short = SkySamplerSettings(**SETTINGS, target=1e5, max_sweeps=200)
    with pytest.raises(ConvergenceError, match="not converged after 200 sweeps of 2 chains"):
        sample_sky(small, rng=np.random.default_rng(3), prior=PRIOR, settings=short, store=store)
    long = SkySamplerSettings(**SETTINGS, target=50.0, max_sweeps=2000, max_r_hat=1.5)
    found = sample_sky(small, rng=np.random.default_rng(3), prior=PRIOR, settings=long, store=store, resume=True)
    assert found.sweeps > 200


def test_resuming_with_another_prior_or_other_data_is_refused(small, tmp_path):
    store = tmp_path / "sky.h5"
    settings = SkySamplerSettings(**SETTINGS, target=10.0, max_r_hat=2.0)
    sample_sky(small, rng=np.random.default_rng(4), prior=PRIOR, settings=settings, store=store)
    with pytest.raises(ConfigurationError, match="differs in prior"):
        sample_sky(small, rng=np.random.default_rng(4), settings=settings, store=store, resume=True)
    with pytest.raises(ConfigurationError, match="differs in data_sha256"):
        sample_sky(
            small[:1], rng=np.random.default_rng(4), prior=PRIOR, settings=settings, store=store, resume=True
        )


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("no HDF5")
    with pytest.raises(DataFormatError, match="cannot be read as HDF5"):
        SkyPosterior.load(path)
