"""Spectra of ensembles of displacement skies: noise, unbiased products, sum rules, errors."""

import healpy as hp
import numpy as np
import pytest
from numpy.polynomial.legendre import legval
from obsfit_models.turbulence.directions import fitted_alm, gram_matrix, harmonic_sums, jittered_directions
from obsfit_models.turbulence.displacement import DisplacementSky, cross_power, displacement_sky, ensemble_of
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.sky_spectra import (
    axial_power,
    axial_share,
    component_power,
    diffusion_of_skies,
    diffusive_shot_noise,
    field_average,
    jackknife,
    measured_shot_noise,
    pair_power,
    pixel_shot_noise,
    power_ratio,
    rigidity_power,
    same_power,
    standard_component_power,
    standard_power,
)
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

LMAX = 3
N_ALM = 10


def gaussian(c_ell, shape, rng):
    """Independent a_lm of Gaussian isotropic skies, shape (*shape, n_alm)."""
    lmax = len(c_ell) - 1
    ell, m = hp.Alm.getlm(lmax)
    draw = rng.normal(size=(*shape, ell.size)) + 1j * rng.normal(size=(*shape, ell.size))
    draw = np.where(m == 0, np.sqrt(2) * draw.real, draw)
    return draw * np.sqrt(np.asarray(c_ell)[ell] / 2)


def sky_of_maps(sets, *, lmax=LMAX, stop=1.0):
    """The record of maps (6, n) that are known on sets of directions (3, n)."""
    alm = [fitted_alm(harmonic_sums(n, maps, lmax), gram_matrix(n, lmax)) for n, maps in sets]
    product = [maps @ maps.T / n.shape[1] for n, maps in sets]
    return DisplacementSky(
        np.array(alm)[:, None, None], np.array(product)[:, None, None], np.array([1.0]), np.array([stop]), "time",
        sets[0][0].shape[1],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------
# Definitions


def test_power_is_the_quadrature_over_pairs_of_directions():
    """C_l = (4 pi/N^2) sum_ij P_l(n_i . n_j) dI_i dI_j, on a map without power beyond l = 3."""
    rng = np.random.default_rng(1)
    alm = gaussian([0.3, 1.0, 0.5, 0.2], (2,), rng)
    nside = 8
    n = np.array(hp.pix2vec(nside, np.arange(hp.nside2npix(nside))))
    one, other = (hp.alm2map(a, nside) for a in alm)
    cosine = np.clip(n.T @ n, -1, 1)
    for ell in range(4):
        legendre = legval(cosine, np.eye(4)[ell])
        expected = 4 * np.pi / n.shape[1] ** 2 * one @ legendre @ other
        # Equal weights of HEALPix pixels err by 0.15 % for z^2 at this nside; the largest power is of order 1.
        assert cross_power(alm[0], alm[1])[ell] == pytest.approx(expected, abs=3e-3)


def test_components_and_rigidities_are_paired_as_named():
    rng = np.random.default_rng(2)
    alm = gaussian([1.0] * 4, (3, 2, 2, 2, 6), rng)
    skies = [
        DisplacementSky(a, np.zeros((2, 2, 2, 6, 6)), np.array([1.0, 2.0]), np.array([1.0, 3.0]), "time", 48)
        for a in alm
    ]
    ensemble = ensemble_of(skies)
    power = component_power(ensemble)
    assert power.shape == (3, 2, 2, 6, 6, 4)
    expected = 0.5 * (
        cross_power(alm[1, 0, 1, 0, 2], alm[1, 1, 1, 0, 4]) + cross_power(alm[1, 1, 1, 0, 2], alm[1, 0, 1, 0, 4])
    )
    np.testing.assert_allclose(power[1, 1, 0, 2, 4], expected, atol=1e-13)
    np.testing.assert_allclose(component_power(skies[1]), power[1], atol=1e-13)
    between = rigidity_power(alm[:, :, :, 1, 0])
    assert between.shape == (3, 2, 2, 4)
    expected = 0.5 * (
        cross_power(alm[2, 0, 0, 1, 0], alm[2, 1, 1, 1, 0]) + cross_power(alm[2, 1, 0, 1, 0], alm[2, 0, 1, 1, 0])
    )
    np.testing.assert_allclose(between[2, 0, 1], expected, atol=1e-13)
    with pytest.raises(ValueError, match="at least two"):
        pair_power(alm[:1], axis=0)
    with pytest.raises(ValueError, match="axis of the a_lm"):
        pair_power(alm, axis=-1)


# ---------------------------------------------------------------------------------------------------------------
# Noise


def test_pairs_of_sets_see_no_white_noise_and_single_sets_see_4_pi_sigma_squared_over_n():
    rng = np.random.default_rng(3)
    sigma, trials = 0.7, 150
    truth = np.zeros((6, N_ALM), dtype=complex)
    truth[0, 1] = 0.5
    fields = []
    for _ in range(trials):
        sets = []
        for _ in range(2):
            n = jittered_directions(2, rng=rng)
            maps = sigma * rng.normal(size=(6, 48))
            maps[0] += 0.5 * np.sqrt(3 / (4 * np.pi)) * n[2]
            sets.append((n, maps))
        fields.append(sky_of_maps(sets))
    ensemble = ensemble_of(fields)
    cross = field_average(np.diagonal(component_power(ensemble)[:, 0, 0], axis1=1, axis2=2).swapaxes(1, 2))
    wanted = np.zeros((6, 4))
    wanted[0, 1] = 0.5**2 / 3
    # 24 values each at 4.5 standard errors (Student's t of 149): false alarm 4e-4 for each of the three.
    assert np.all(np.abs(cross.mean - wanted) < 4.5 * cross.error)
    noise = 4 * np.pi * sigma**2 / 48
    found = field_average(np.diagonal(measured_shot_noise(ensemble)[:, 0, 0], axis1=1, axis2=2).swapaxes(1, 2))
    # The fit to few directions raises it: sigma^2 times the trace of the inverse of the matrix of the fit, by up to
    # (lmax + 1)^2/N; here the trace itself.
    trace = []
    for _ in range(40):
        inverse = np.linalg.inv(gram_matrix(jittered_directions(2, rng=rng), LMAX))
        m_of = hp.Alm.getlm(LMAX)
        ell = np.concatenate([m_of[0], m_of[0][m_of[1] > 0]])
        trace.append([np.diag(inverse)[ell == degree].mean() for degree in range(4)])
    expected = sigma**2 * np.mean(trace, axis=0)
    assert np.all(np.abs(expected / noise - 1) < 0.5)
    assert np.all(np.abs(found.mean - expected) < 4.5 * found.error)
    auto = field_average(np.array([np.diagonal(pixel_shot_noise(sky)[0, 0]) for sky in fields]))
    assert np.all(np.abs(auto.mean - noise) < 4.5 * auto.error)
    assert np.all(auto.error < 0.03 * noise)


def test_few_directions_in_two_sets_see_the_power_that_many_see():
    """In turbulence, where neighbouring orbits have parted: coarse pairs agree with fine ones, coarse sets do not."""
    cross, auto, eq_71 = [], [], []
    for seed in np.random.SeedSequence(11).spawn(60):
        rng = np.random.default_rng(seed)
        field = MagneticField(uniform=[0.0, 0.0, 1.0])
        field += isotropic_waves(TurbulenceSpectrum(0.05, 100.0), modes=30, rng=rng)
        few, many = (
            displacement_sky(field, [60.0], gyroradius=0.1, nside=nside, lmax=3, step=0.4, sets=2, rng=rng)
            for nside in (2, 8)
        )
        truth = component_power(many)[0, 0, 2, 2]
        cross.append(component_power(few)[0, 0, 2, 2] - truth)
        auto.append(component_power(few)[0, 0, 2, 2] + measured_shot_noise(few)[0, 0, 2, 2] - truth)
        eq_71.append(4 * np.pi / few.directions * few.product[..., 2, 2].mean())
    unbiased, biased = field_average(np.array(cross)), field_average(np.array(auto))
    # Four values at 4.5 standard errors (Student's t of 59): false alarm 1e-4.
    assert np.all(np.abs(unbiased.mean) < 4.5 * unbiased.error)
    # At l = 0 and 1 the scatter of the dipole hides it; at l = 2 and 3 it is ten errors.
    assert np.all(biased.mean[2:] > 5 * biased.error[2:])
    # Eq. (71) of AM17 is an upper bound of that noise. So few directions of a fit with 16 a_lm raise it by about half.
    assert np.all(biased.mean < 1.5 * np.mean(eq_71))


def test_the_noise_of_diffusion_is_eq_71():
    assert diffusive_shot_noise(12288, 100.0, np.diag([1.0, 2.0, 6.0]), [0.0, 0.0, 1e-2]) == pytest.approx(
        4 * np.pi / 12288 * 2 * 100 * 6 * 1e-4
    )


# ---------------------------------------------------------------------------------------------------------------
# Sum rules


def test_sums_over_multipoles_are_running_diffusion_and_relative_diffusion():
    """All l give 2 T K, l >= 1 give 2 T K~ = <(r1 - r2)(r1 - r2)>/2 over pairs of directions."""
    n = np.array(hp.pix2vec(8, np.arange(768)))
    curl = np.array([[0.0, 0.3, -0.5], [-0.3, 0.2, 0.1], [0.5, -0.1, 0.4]])
    time = 3.0
    position = np.array([[1.0], [-2.0], [0.5]]) + curl @ n * time
    sky = sky_of_maps([(n, np.concatenate([position, -n]))], stop=time)
    running, relative = diffusion_of_skies(sky)
    few = position[:, ::2]
    difference = few[:, :, None] - few[:, None, :]
    pairs = np.einsum("iab,jab->ij", difference, difference) / few.shape[1] ** 2 / (4 * time)
    # Half of the pixels stand for all; they are not quite even.
    np.testing.assert_allclose(relative[0, 0], pairs, atol=0.02 * np.abs(pairs).max())
    np.testing.assert_allclose(running[0, 0], position @ position.T / n.shape[1] / (2 * time), atol=1e-12)
    c_ell = component_power(sky)[0, 0][:3, :3] @ np.diag(2 * np.arange(LMAX + 1) + 1) / (4 * np.pi)
    # This sky has no power above lmax; equal weights of the pixels err by 0.15 % for z^2.
    np.testing.assert_allclose(c_ell.sum(axis=-1), 2 * time * running[0, 0], atol=2e-3 * c_ell.max())
    np.testing.assert_allclose(c_ell[..., 1:].sum(axis=-1), 2 * time * relative[0, 0], atol=2e-3 * c_ell.max())
    exact = curl @ curl.T * time**2 / 3
    np.testing.assert_allclose(c_ell[..., 1:].sum(axis=-1), exact, atol=1e-10)


def test_running_diffusion_of_straight_lines_is_a_sixth_of_the_time():
    n = np.array(hp.pix2vec(8, np.arange(768)))
    for time in (2.0, 5.0):
        sky = sky_of_maps([(n, np.concatenate([time * n, -n]))], stop=time)
        for tensor in diffusion_of_skies(sky):
            # Equal weights of the pixels err by 0.15 % for z^2.
            np.testing.assert_allclose(tensor[0, 0], time / 6 * np.eye(3), atol=2e-3 * time / 6)
    with pytest.raises(ValueError, match="times above 0"):
        diffusion_of_skies(sky_of_maps([(n, np.concatenate([n, -n]))], stop=0.0))


# ---------------------------------------------------------------------------------------------------------------
# The standard dipole


def test_the_standard_dipole_is_unbiased_where_the_mean_map_is_not():
    """Gaussian skies about a known dipole: the power of the mean map is too large by C_l/N_B."""
    rng = np.random.default_rng(5)
    trials, fields = 400, 8
    mean = np.zeros(N_ALM, dtype=complex)
    mean[1], mean[LMAX + 1] = 0.3, 0.2 - 0.1j
    true = (0.3**2 + 2 * 0.05) / 3
    alm = mean + gaussian([1.0, 1.0, 0.5, 0.25], (trials, fields), rng)
    found = [standard_power(skies) for skies in alm]
    estimate, error = (np.array(part) for part in zip(*found, strict=True))
    wanted = np.array([0, true, 0, 0])
    scatter = estimate.std(axis=0, ddof=1)
    # Four values at 4.5 standard errors: false alarm 3e-5.
    assert np.all(np.abs(estimate.mean(axis=0) - wanted) < 4.5 * scatter / np.sqrt(trials))
    naive = cross_power(alm.mean(axis=1), alm.mean(axis=1)).mean(axis=0)
    np.testing.assert_allclose(naive - wanted, np.array([1.0, 1.0, 0.5, 0.25]) / fields, rtol=0.3)
    # Where there is no mean sky the error is too large by sqrt(2 (n - 1)/(n - 2)): each product of two fields counts
    # twice. The scatter of 400 trials is known to 4 % (skew included), four of that.
    ratio = np.sqrt(np.mean(error**2, axis=0)) / scatter
    np.testing.assert_allclose(ratio[[0, 2, 3]], np.sqrt(2 * 7 / 6), rtol=0.16)
    # Where it dominates the error is right.
    strong = [standard_power(skies) for skies in alm + 20 * mean]
    estimate_strong, error = (np.array(part) for part in zip(*strong, strict=True))
    ratio = np.sqrt(np.mean(error**2, axis=0)) / estimate_strong.std(axis=0, ddof=1)
    assert ratio[1] == pytest.approx(1.0, rel=0.16)
    np.testing.assert_allclose(estimate[0], pair_power(alm[0], axis=0), atol=1e-13)
    with pytest.raises(ValueError, match="at least three"):
        standard_power(alm[0, :2])


def test_the_standard_power_of_components_averages_sets_first():
    rng = np.random.default_rng(6)
    alm = gaussian([1.0] * 4, (4, 2, 1, 1, 6), rng)
    product = np.zeros((2, 1, 1, 6, 6))
    ensemble = ensemble_of(
        [DisplacementSky(a, product, np.array([1.0]), np.array([1.0]), "time", 48) for a in alm]
    )
    estimate, error = standard_component_power(ensemble)
    mean = alm.mean(axis=1)[:, 0, 0, 2]
    total = sum(cross_power(mean[a], mean[b]) for a in range(4) for b in range(4) if a != b) / 12
    np.testing.assert_allclose(estimate[0, 0, 2], total, atol=1e-13)
    assert error.shape == (1, 1, 6, 4)


# ---------------------------------------------------------------------------------------------------------------
# Statistics over fields


def test_average_and_jackknife_against_closed_forms():
    rng = np.random.default_rng(7)
    values = np.exp(0.8 * rng.normal(size=(400, 2)))
    values[0, 1] = -0.1
    average = field_average(values)
    np.testing.assert_allclose(average.mean, values.mean(axis=0))
    # The scatter of 400 values is known to 3.5 %; 4.5 of that.
    assert average.log_scatter[0] == pytest.approx(0.8, abs=0.8 * 0.16)
    assert np.isnan(average.log_scatter[1])
    estimate, error = jackknife(values, lambda mean: mean)
    np.testing.assert_allclose(error, average.error, rtol=1e-12)
    np.testing.assert_allclose(estimate, average.mean)
    with pytest.raises(ValueError, match="at least two fields"):
        field_average(values[:1])


def test_the_error_of_a_ratio_is_that_of_the_delta_method():
    rng = np.random.default_rng(8)
    common = np.exp(0.5 * rng.normal(size=(300, 1)))
    power = common * (1 + 0.2 * rng.normal(size=(300, 4))) * np.array([5.0, 2.0, 1.0, 0.4])
    ratio, error = power_ratio(power)
    mean = power.mean(axis=0)
    np.testing.assert_allclose(ratio, mean / mean[1])
    residual = (power - ratio * power[:, 1:2]) / mean[1]
    np.testing.assert_allclose(error, residual.std(axis=0, ddof=1) / np.sqrt(300), rtol=0.02, atol=1e-15)
    assert error[1] < 1e-12


def test_a_sky_symmetric_about_an_axis_is_all_gyrotropic():
    rng = np.random.default_rng(9)
    axis = rng.normal(size=3)
    unit = axis / np.linalg.norm(axis)
    n = jittered_directions(8, rng=rng)
    map_ = legval(unit @ n, [0.2, 1.0, -0.5, 0.3])
    alm = fitted_alm(harmonic_sums(n, map_[None], LMAX), gram_matrix(n, LMAX))[0]
    both = np.stack([alm, alm])
    np.testing.assert_allclose(axial_power(both, axis, sets=0), hp.alm2cl(alm), atol=1e-13)
    # About an axis at right angles a dipole has nothing, and P_2 a quarter of itself squared.
    across = np.cross(unit, [0.3, 0.1, -0.9])
    found = axial_power(both, across, sets=0) / hp.alm2cl(alm)
    np.testing.assert_allclose(found[:3], [1.0, 0.0, 0.25], atol=1e-12)
    with pytest.raises(ValueError, match="at least two"):
        axial_power(both[:1], axis, sets=0)


def test_a_sky_that_knows_no_axis_has_the_share_of_one_mode():
    rng = np.random.default_rng(10)
    fields = 400
    signal = gaussian([1.0] * 4, (fields, 1), rng)
    noisy = signal + gaussian([2.0] * 4, (fields, 2), rng)
    axes = rng.normal(size=(fields, 3))
    share, error = axial_share(noisy, axes)
    # Three values at 4.5 standard errors: false alarm 2e-5.
    assert np.all(np.abs(share - 1 / np.array([1, 3, 5, 7]))[1:] < 4.5 * error[1:])
    assert share[0] == pytest.approx(1.0, abs=1e-12)
    assert np.all(error[1:] < 0.06)
    # With the noise left in, the power itself would be three times as large.
    ratio = same_power(noisy, axis=1).mean(axis=0) / pair_power(noisy, axis=1).mean(axis=0)
    assert np.all(ratio > 2)
