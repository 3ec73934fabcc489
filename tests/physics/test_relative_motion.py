"""Pairs of orbits: relative diffusion, scattering of pairs, transfer of power, Lyapunov exponents."""

import healpy as hp
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss, legval
from obsfit_models.turbulence.field import GridField, MagneticField, PlaneWaves
from obsfit_models.turbulence.orbits import back_track, track
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.relative_motion import (
    PairScattering,
    fit_exponent,
    lyapunov_exponents,
    pair_scattering,
    pairs_with_cosine,
    power_transfer,
    relative_diffusion,
    transition_rates,
)
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from scipy.integrate import solve_ivp

UNIFORM = MagneticField(uniform=[0, 0, 1.0])
SMOOTH = TurbulenceSpectrum(2.0, 20.0)


def directions(n, rng):
    v = rng.normal(size=(3, n))
    return v / np.linalg.norm(v, axis=0)


def turbulence(seed, modes=60, rms=1.0):
    return UNIFORM + isotropic_waves(SMOOTH, modes=modes, rms=rms, rng=np.random.default_rng(seed))


def grid_on_the_sphere(n):
    """Directions exact for polynomials of degree 2n - 1, and their solid angles."""
    z, w = leggauss(n)
    phi = np.arange(2 * n) * np.pi / n
    z, phi = (part.ravel() for part in np.meshgrid(z, phi, indexing="ij"))
    s = np.sqrt(1 - z**2)
    return np.array([s * np.cos(phi), s * np.sin(phi), z]), np.repeat(w, 2 * n)


def test_relative_diffusion_is_the_mean_over_all_pairs():
    """AM17 Eq. (70), pair by pair."""
    rng = np.random.default_rng(1)
    r, times, w = rng.normal(size=(2, 3, 40)), np.array([2.0, 5.0]), rng.uniform(0.5, 1.5, size=40)
    apart = r[:, :, :, None] - r[:, :, None, :]
    pairs = np.einsum("tiab,tjab->tijab", apart, apart)
    np.testing.assert_allclose(
        relative_diffusion(r, times), pairs.mean(axis=(-2, -1)) / (4 * times[:, None, None]), rtol=1e-12
    )
    weighted = np.einsum("tijab,a,b->tij", pairs, w, w) / (4 * times[:, None, None] * w.sum() ** 2)
    np.testing.assert_allclose(relative_diffusion(r, times, w), weighted, rtol=1e-12)


def test_relative_diffusion_is_the_power_of_all_multipoles_but_the_first():
    """AM17 Eq. (69) without an ensemble: sum over l >= 1 of (2l + 1) C_l / 4 pi is the covariance over directions."""
    nside, lmax, t = 16, 40, np.array([3.0])
    arrival = np.array(hp.pix2vec(nside, np.arange(hp.nside2npix(nside))))
    position = back_track(turbulence(2), arrival, t, gyroradius=1.0, step=0.05).position
    alm = [hp.map2alm(part, lmax=lmax, iter=10) for part in position[0]]
    ell = np.arange(lmax + 1)
    for i in range(3):
        for j in range(3):
            power = hp.alm2cl(alm[i], alm[j])
            total = np.sum(((2 * ell + 1) * power)[1:]) / (4 * np.pi)
            # Beyond lmax the smooth field leaves less than 1e-3.
            assert relative_diffusion(position, t)[0, i, j] * 2 * t[0] == pytest.approx(total, abs=1e-3)
    # There is a monopole to be left out, and without it the number is another.
    monopole = [part[0].real / np.sqrt(4 * np.pi) for part in alm]
    assert np.max(np.abs(monopole)) > 0.1


def test_pairs_have_their_cosine_and_no_preferred_direction():
    rng = np.random.default_rng(3)
    x = np.array([-0.7, 0.0, 0.999])
    one, other = pairs_with_cosine(x, 20000, rng=rng)
    for part in (one, other):
        np.testing.assert_allclose(np.linalg.norm(part, axis=0), 1, rtol=1e-12)
        # 60000 directions, but only pairs are independent: 5 standard errors of a component are 0.016.
        assert np.max(np.abs(part.mean(axis=1))) < 0.016
    np.testing.assert_allclose(np.sum(one * other, axis=0), np.repeat(x, 20000), atol=1e-12)
    with pytest.raises(ValueError, match="between -1 and 1"):
        pairs_with_cosine([1.0], 3, rng=rng)


def test_independent_walks_scatter_at_their_own_rate():
    """Two walks on the sphere by turns of our own, rate nu each: nu_r = nu at every angle, from both moments.

    200000 pairs at four cosines: 0.7 % and 0.3 % per number; 5 standard errors, and 2 nu T = 2 % of second order.
    """
    rng = np.random.default_rng(4)
    nu, t, n = 0.1, 0.1, 200000
    x = np.array([-0.8, -0.4, 0.3, 0.6])
    one, other = pairs_with_cosine(x, n, rng=rng)
    moved = []
    for p in (one, other):
        axis = np.cross(p, directions(p.shape[1], rng), axis=0)
        axis /= np.linalg.norm(axis, axis=0)
        moved.append(np.exp(-nu * t) * p + np.sqrt(1 - np.exp(-2 * nu * t)) * axis)
    change = (np.sum(moved[0] * moved[1], axis=0) - np.repeat(x, n)).reshape(4, n)
    found = PairScattering(x, np.array([t]), change.mean(axis=1)[None], (change**2).mean(axis=1)[None])
    np.testing.assert_allclose(found.rate_from_square()[0], nu, rtol=0.05)
    spread = change.std(axis=1) / np.sqrt(n) / (2 * np.abs(x) * t)
    assert np.all(np.abs(found.rate_from_drift()[0] - nu) < 5 * spread + 0.02 * nu)


def test_the_decay_of_the_cosine_gives_the_rate_of_independent_walks_at_all_times():
    """<x> falls as exp(-2 nu T): 100000 pairs, one turn each with nu T = 0.5; 5 standard errors of ln <x>."""
    rng = np.random.default_rng(40)
    nu, t, n = 0.25, 2.0, 100000
    x = np.array([-0.9, 0.8])
    moved = []
    for p in pairs_with_cosine(x, n, rng=rng):
        axis = np.cross(p, directions(p.shape[1], rng), axis=0)
        axis /= np.linalg.norm(axis, axis=0)
        moved.append(np.exp(-nu * t) * p + np.sqrt(1 - np.exp(-2 * nu * t)) * axis)
    change = (np.sum(moved[0] * moved[1], axis=0) - np.repeat(x, n)).reshape(2, n)
    found = PairScattering(x, np.array([t]), change.mean(axis=1)[None], (change**2).mean(axis=1)[None])
    error = change.std(axis=1) / np.sqrt(n) / (np.abs(x) * np.exp(-2 * nu * t) * 2 * t)
    assert np.all(np.abs(found.rate_from_cosine()[0] - nu) < 5 * error)
    assert np.all(error < 0.01 * nu)
    # The first order saturates.
    assert np.all(found.rate_from_drift()[0] < 0.7 * nu)
    gone = PairScattering(x, np.array([t]), -1.1 * x[None], x[None] ** 2)
    assert np.all(np.isnan(gone.rate_from_cosine()))


def test_a_uniform_field_turns_pairs_together():
    found = pair_scattering(
        UNIFORM, [-0.5, 0.0, 0.9], [1.0, 7.0], gyroradius=1.0, pairs=20, rng=np.random.default_rng(5)
    )
    assert np.max(np.abs(found.drift)) < 1e-13
    assert np.isnan(found.rate_from_drift()[0, 1])


def test_the_first_scattering_of_pairs_is_by_the_gradient_of_the_field():
    r"""x' = (B_2 - B_1) . (p_1 x p_2) and B_2 - B_1 = t (p_2 - p_1) . grad B, so that at early times

    <(dx)^2> = (T^4/4) (2/15) <k^2 B^2> 2 (1 - x)(1 - x^2): nu_r grows as (1 - x)^1 before pairs have separated.
    40000 pairs: 1 % to 2 % each; 5 standard errors, and a term of relative order T = 5 %.
    """
    waves = isotropic_waves(SMOOTH, modes=60, rms=1.0, rng=np.random.default_rng(6)).waves
    k_square = np.sum(waves.wavevector**2, axis=0)
    gradient = 0.5 * np.sum(k_square * np.sum(waves.amplitude**2, axis=0))
    x, t = np.array([-0.5, 0.2, 0.8, 0.98]), 0.05
    found = pair_scattering(
        MagneticField(uniform=[0, 0, 1.0], waves=waves), x, [t], gyroradius=1.0, pairs=4, places=10000, extent=1e4,
        step=0.0125, rng=np.random.default_rng(7),
    )  # fmt: skip
    expected = t**3 / 30 * (1 - x) * gradient
    np.testing.assert_allclose(found.rate_from_square()[0], expected, rtol=0.1)


def test_an_exponent_is_found_with_its_error():
    """400 fits of p = 1/2 with known errors: scatter and quoted error agree, the mean is within 4 standard errors."""
    rng = np.random.default_rng(8)
    x = np.array([-0.9, -0.5, 0.0, 0.5, 0.9, 0.99])
    true, error = 0.3 * (1 - x) ** 0.5, 0.02 * (1 - x) ** 0.5
    fits = np.array([fit_exponent(x, true + error * rng.normal(size=6), error)[:2] for _ in range(400)])
    assert abs(fits[:, 0].mean() - 0.5) < 4 * fits[:, 0].std() / 20
    # The quoted error is never below that of the weights, and above it by chi-square: 1 to 1.3 of the scatter.
    assert 0.85 < np.mean(fits[:, 1]) / fits[:, 0].std() < 1.45
    with pytest.raises(ValueError, match="at least three, positive"):
        fit_exponent(x[:2], true[:2], error[:2])


def test_a_rotation_transfers_no_power():
    n, w = grid_on_the_sphere(10)
    turn = np.linalg.qr(np.random.default_rng(10).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(power_transfer(n, turn @ n, 6, w), np.eye(7), atol=1e-12)
    # So does a uniform field, which rotates all momenta alike.
    before = -back_track(UNIFORM, n, [2.0], gyroradius=1.0).momentum[0]
    np.testing.assert_allclose(power_transfer(n, before, 6, w), np.eye(7), atol=1e-12)


def test_power_transfer_is_the_mean_over_pairs_of_directions():
    """The same matrix from Legendre polynomials of all pairs, without a harmonic."""
    n, w = grid_on_the_sphere(9)
    before = -back_track(turbulence(11), n, [1.5], gyroradius=1.0, step=0.05).momentum[0]
    w = w * np.pi / 9
    x, then = n.T @ n, before.T @ before
    found = power_transfer(n, before, 4, w)
    for ell in range(5):
        for old in range(5):
            product = legval(x, np.eye(5)[ell]) * legval(then, np.eye(5)[old])
            pairs = (2 * ell + 1) / (4 * np.pi) ** 2 * (w @ product @ w)
            assert found[ell, old] == pytest.approx(pairs, abs=1e-12)


def test_power_is_conserved_by_each_field_and_of_fixed_dipoles_by_the_ensemble():
    """Columns of W sum to 1 for every field; the mean square of a fixed dipole only in the mean over fields.

    A14 Eqs. (11) to (13): 3 <n_i(-T)^2> = 1. Three means of 150 fields within 4 standard errors: one in 5000.
    """
    lmax = 12
    n, w = grid_on_the_sphere(20)
    squares = []
    for seed in range(150):
        before = -back_track(turbulence(100 + seed, modes=30), n, [1.0], gyroradius=1.0, step=0.1).momentum[0]
        columns = power_transfer(n, before, lmax, w).sum(axis=0)
        # What went beyond l = 12 within a gyro-time, and no more than quadrature above 1.
        assert np.all(columns[:5] < 1 + 1e-6)
        assert np.all(columns[:4] > 0.995)
        squares.append(3 * (before**2 @ w) / w.sum())
    squares = np.array(squares)
    assert squares.std(axis=0).min() > 0.02  # one field alone does not conserve it
    assert np.all(np.abs(squares.mean(axis=0) - 1) < 4 * squares.std(axis=0, ddof=1) / np.sqrt(150))


def test_the_first_transfer_of_power_is_between_neighbours_and_grows_with_time():
    """Within a correlation time neighbours part by an amount that grows as T^2: power by T^4, rates by T^3."""
    n, w = grid_on_the_sphere(16)
    times = np.array([0.1, 0.2])
    rates = []
    orbits = back_track(turbulence(13), n, times, gyroradius=1.0, step=0.01)
    for t, momentum in zip(times, orbits.momentum, strict=True):
        rates.append(transition_rates(power_transfer(n, -momentum, 10, w), t))
    early, late = rates
    off = ~np.eye(6, dtype=bool)
    assert np.all(early[:6, :6][off] > -1e-12)
    np.testing.assert_allclose(early[:, :6].sum(axis=0), 0, atol=1e-8)
    # The field is common at the place of arrival, so that all momenta turn alike at first.
    assert late[2, 1] / early[2, 1] == pytest.approx(8, rel=0.15)
    assert early[2, 1] > 10 * early[3, 1] > 0
    with pytest.raises(ValueError, match="square matrix and a positive time"):
        transition_rates(np.eye(3), 0.0)


def test_lyapunov_exponent_of_a_neutral_sheet():
    r"""In B_z = b x an orbit along +y with x = 0 is unstable: x'' = b x, exponent sqrt(b); along -y it is stable."""
    b = 0.25
    x = np.array([-1.0, 1.0])
    values = np.zeros((2, 2, 2, 3))
    values[..., 2] = b * x[:, None, None]
    grid = GridField(values, np.array([-1.0, -100.0, -100.0]), np.array([2.0, 200.0, 200.0]), False)
    start = np.array([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0]])
    found = lyapunov_exponents(
        MagneticField(grids=(grid,)),
        start,
        gyroradius=1.0,
        renormalisations=40,
        step=0.02,
        rng=np.random.default_rng(14),
    )
    # The growing part of the first separation is of order 1: its logarithm is spread over 40 gyro-times.
    assert found[-1, 0] == pytest.approx(np.sqrt(b), abs=0.06)
    # Between two times that first part is gone: 0.5 to the second order of the step and of the separation.
    late = (40 * found[39, 0] - 20 * found[19, 0]) / 20
    assert late == pytest.approx(np.sqrt(b), rel=1e-4)
    assert abs(found[-1, 1]) < 0.06


def test_a_uniform_field_has_no_exponent():
    """Twins part at most in proportion to time: the logarithm of 100 over 100."""
    found = lyapunov_exponents(
        UNIFORM, np.eye(3), gyroradius=1.0, renormalisations=100, rng=np.random.default_rng(15)
    )
    assert np.max(np.abs(found[-1])) < np.log(150) / 100


def test_twins_in_turbulence_part_as_the_linearised_orbit_does():
    """Independent: the linearised equations of motion along one orbit, by an eighth-order Runge-Kutta of scipy."""
    waves = isotropic_waves(SMOOTH, modes=20, rms=1.0, rng=np.random.default_rng(16)).waves
    k, a, beta = waves.wavevector, waves.amplitude, waves.phase
    uniform = np.array([0.0, 0.0, 1.0])

    def slope(_, state):
        r, p, dr, dp = state.reshape(4, 3)
        phase = k.T @ r + beta
        b = uniform + a @ np.cos(phase)
        db = -a @ (np.sin(phase) * (k.T @ dr))
        return np.concatenate([p, np.cross(p, b), dp, np.cross(dp, b) + np.cross(p, db)])

    p = np.array([0.48, -0.6, 0.64])
    # The first separation of the twins is drawn like this.
    apart = np.random.default_rng(17).normal(size=(6, 1))[:, 0]
    apart[3:] -= apart[3:] @ p * p
    apart /= np.linalg.norm(apart)
    solution = solve_ivp(
        slope, (0, 12), np.concatenate([np.zeros(3), p, apart]), method="DOP853", rtol=1e-10, atol=1e-12
    )
    expected = np.log(np.linalg.norm(solution.y[6:, -1])) / 12
    field = MagneticField(uniform=uniform, waves=PlaneWaves(k, a, beta))
    found = lyapunov_exponents(
        field, p[:, None], gyroradius=1.0, renormalisations=12, step=0.004, rng=np.random.default_rng(17)
    )
    assert found[-1, 0] == pytest.approx(expected, abs=2e-3)
    # It is not the trivial number.
    assert expected > 0.05


def test_orbits_in_the_set_up_of_the_papers_part_by_e_in_four_gyro_times():
    """sigma^2 = 1, r_L = lambda_c / 10, wavelengths of 0.1 to 1000 r_L: a rate of 0.253 +- 0.009 from ten fields.

    Errors of integration were seen to grow by e in 4.5 gyro-times, a rate of 0.22. Here five fields, 0.013: 4 standard
    errors are 0.05.
    """
    rng = np.random.default_rng(18)
    rates = []
    for _ in range(5):
        field = UNIFORM + isotropic_waves(TurbulenceSpectrum(0.01, 100.0), modes=100, rms=1.0, rng=rng)
        found = lyapunov_exponents(field, directions(24, rng), gyroradius=0.1, renormalisations=60, rng=rng)
        # Without the first ten gyro-times, in which the separation still turns.
        rates.append((60 * found[59] - 10 * found[9]) / 50)
    assert np.mean(rates) == pytest.approx(0.25, abs=0.05)


def test_what_makes_no_sense_is_refused():
    rng = np.random.default_rng(19)
    with pytest.raises(ValueError, match="times above 0"):
        relative_diffusion(np.zeros((1, 3, 4)), [0.0])
    with pytest.raises(ValueError, match="expected 4 that are not negative"):
        relative_diffusion(np.zeros((1, 3, 4)), [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="1e-6 to 1e-2"):
        lyapunov_exponents(UNIFORM, np.eye(3), gyroradius=1.0, renormalisations=2, separation=1e-9, rng=rng)
    with pytest.raises(ValueError, match="at least one, positive"):
        lyapunov_exponents(UNIFORM, np.eye(3), gyroradius=1.0, renormalisations=0, rng=rng)
    with pytest.raises(ValueError, match="expected equal shapes"):
        power_transfer(np.eye(3), np.eye(3)[:, :2], 2)
    assert track(UNIFORM, np.eye(3), [1.0], gyroradius=1.0).time == [1.0]
