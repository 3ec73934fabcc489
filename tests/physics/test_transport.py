"""Diffusion tensors from orbits: helices, scattering by random numbers of our own, straight orbits."""

import numpy as np
import pytest
from obsfit_models.turbulence.diagnostics import magnetic_moment
from obsfit_models.turbulence.field import GridField, MagneticField
from obsfit_models.turbulence.orbits import Orbits, back_track, track
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from obsfit_models.turbulence.transport import (
    folding_rate,
    join_fields,
    mean_and_error,
    mean_free_path,
    pitch_angle_diffusion,
    running_diffusion,
    settled_tensor,
    split_tensor,
)

# Six directions whose second moments are exactly those of the sphere.
AXES = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
UNIFORM = MagneticField(uniform=[0, 0, 1.0])
SMOOTH = TurbulenceSpectrum(2.0, 20.0)


def directions(n, rng):
    v = rng.normal(size=(3, n))
    return v / np.linalg.norm(v, axis=0)


@pytest.mark.parametrize("backward", [False, True])
def test_a_helix_diffuses_as_in_closed_form(backward):
    """From p_x(t) = p_x cos t + p_y sin t: <x^2> = (4/3) sin^2(T/2), and a drift that swings about 1/3."""
    times = np.array([0.3, 1.0, 2.0, 5.0, 30.0])
    if backward:
        orbits = back_track(UNIFORM, -AXES, times, gyroradius=1.0, step=0.005)
    else:
        orbits = track(UNIFORM, AXES, times, gyroradius=1.0, step=0.005)
    running = running_diffusion(orbits, AXES, backward=backward)
    # Steps of 0.005 make lengths wrong by h^2 / 24 = 1e-6.
    close = {"rtol": 3e-6, "atol": 3e-6}
    along, across, _ = split_tensor(running.mean[0])
    np.testing.assert_allclose(along, times / 6, **close)
    np.testing.assert_allclose(across, 2 / 3 * np.sin(times / 2) ** 2 / times, **close)
    along, across, drift = split_tensor(running.derivative[0])
    np.testing.assert_allclose(along, times / 3, **close)
    np.testing.assert_allclose(across, np.sin(times) / 3, **close)
    np.testing.assert_allclose(drift, 0, atol=1e-15)
    along, across, drift = split_tensor(running.correlation[0])
    np.testing.assert_allclose(along, times / 3, **close)
    np.testing.assert_allclose(across, np.sin(times) / 3, **close)
    np.testing.assert_allclose(drift, (1 - np.cos(times)) / 3, **close)


def scattered(n, nu, times, step, kicks, rng):
    """Orbits about B = z with scattering at rate nu by random numbers alone, scattered in the middle of each step."""
    p = directions(n, rng)
    start, r = p.copy(), np.zeros_like(p)
    c, s = np.cos(step / 2), np.sin(step / 2)
    counts = np.rint(np.diff(times, prepend=0.0) / step).astype(int)
    positions, momenta = [], []

    def half(r, p):
        moved = np.array([p[0] * s + p[1] * (1 - c), p[1] * s - p[0] * (1 - c), p[2] * step / 2])
        return r + moved, np.array([p[0] * c + p[1] * s, p[1] * c - p[0] * s, p[2]])

    for count in counts:
        for _ in range(count):
            r, p = half(r, p)
            if kicks:
                # A turn by a fixed angle about a random axis across: <p . p'> = exp(-nu step).
                axis = np.cross(p, directions(n, rng), axis=0)
                axis /= np.linalg.norm(axis, axis=0)
                p = np.exp(-nu * step) * p + np.sqrt(1 - np.exp(-2 * nu * step)) * axis
            else:
                hit = rng.uniform(size=n) < -np.expm1(-nu * step)
                p = np.where(hit, directions(n, rng), p)
            r, p = half(r, p)
        positions.append(r)
        momenta.append(p)
    return start, Orbits(np.array(times), np.array(positions), np.array(momenta))


@pytest.mark.parametrize("kicks", [False, True])
def test_scattering_gives_the_tensor_of_the_relaxation_equation(kicks):
    """K(T) = (1/3) D^-1 (1 - exp(-D T)) with D = nu + [Omega x]; <r r>/2T is its mean over T.

    33 numbers within 5.5 standard errors with 29 degrees of freedom: a false alarm in 5000.
    """
    rng = np.random.default_rng(10 + kicks)
    nu, times = 0.4, np.array([1.0, 3.0, 12.0])
    parts = []
    for _ in range(30):
        start, orbits = scattered(1500, nu, times, 0.1, kicks, rng)
        parts.append(running_diffusion(orbits, start))
    running = join_fields(parts)
    cross = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    decay, vectors = np.linalg.eig(nu * np.eye(3) + cross)

    def of(function):
        return np.real(vectors @ np.diag(function(decay)) @ np.linalg.inv(vectors)) / 3

    kubo, error = mean_and_error(running.correlation)
    mean, mean_error = mean_and_error(running.mean)
    slope, slope_error = mean_and_error(running.derivative)
    for i, t in enumerate(times):
        tensor = of(lambda d, t=t: -np.expm1(-d * t) / d)
        average = of(lambda d, t=t: (1 - -np.expm1(-d * t) / (d * t)) / d)
        assert np.all(np.abs(kubo[i] - tensor) < 5.5 * error[i])
        for axis in range(3):
            assert abs(mean[i, axis, axis] - average[axis, axis]) < 5.5 * mean_error[i, axis, axis]
            assert abs(slope[i, axis, axis] - tensor[axis, axis]) < 5.5 * slope_error[i, axis, axis]
    # At the last time the exponentials are gone to 1 %: K_par, K_perp and K_A of the closed forms.
    along, across, drift = split_tensor(kubo[-1])
    assert along == pytest.approx(1 / (3 * nu), rel=0.08)
    assert across == pytest.approx(nu / (3 * (nu**2 + 1)), rel=0.15)
    assert drift == pytest.approx(1 / (3 * (nu**2 + 1)), rel=0.08)
    assert mean_free_path(along) == pytest.approx(1 / nu, rel=0.08)


def test_momentum_forgets_at_the_rate_of_scattering():
    """The e-folding of <p_z p_z>; 45000 particles fix it to 1 %, 5 standard errors are 5 %."""
    rng = np.random.default_rng(3)
    times = np.arange(0.5, 6.1, 0.5)
    start, orbits = scattered(45000, 0.4, times, 0.1, True, rng)
    persistence = running_diffusion(orbits, start).persistence[0]
    assert folding_rate(times, persistence[:, 2, 2]) == pytest.approx(0.4, rel=0.05)
    with pytest.raises(ValueError, match="follow the orbits for longer"):
        folding_rate(times[:2], persistence[:2, 2, 2])


def test_early_orbits_are_straight_in_any_field():
    field = UNIFORM + isotropic_waves(SMOOTH, modes=40, rms=1.0, rng=np.random.default_rng(4))
    times = np.array([0.005, 0.01])
    running = running_diffusion(track(field, AXES, times, gyroradius=1.0), AXES)
    # The next term is (Omega T)^2 times the square of the local field.
    for i, t in enumerate(times):
        np.testing.assert_allclose(running.mean[0, i], t / 6 * np.eye(3), atol=t * 5e-4)
        np.testing.assert_allclose(running.derivative[0, i], t / 3 * np.eye(3), atol=t * 1e-3)
        np.testing.assert_allclose(running.persistence[0, i], np.eye(3), atol=0.05)


def test_the_derivative_is_that_of_the_mean_square():
    """Differences of the mean square over a short time, in turbulence; forwards and backwards."""
    rng = np.random.default_rng(5)
    field = UNIFORM + isotropic_waves(SMOOTH, modes=40, rms=1.0, rng=rng)
    start, place = directions(50, rng), rng.uniform(0, 50, size=(3, 50))
    times = np.array([6.99, 7.0, 7.01])
    for backward in (False, True):
        if backward:
            orbits = back_track(field, -start, times, gyroradius=1.0, position=place, step=0.01)
        else:
            orbits = track(field, start, times, gyroradius=1.0, position=place, step=0.01)
        running = running_diffusion(orbits, start, position=place, backward=backward)
        square = 2 * times[:, None, None] * running.mean[0]
        slope = (square[2] - square[0]) / (2 * (times[2] - times[0]))
        np.testing.assert_allclose(running.derivative[0, 1], slope, atol=5e-4)


def test_pitch_angle_diffusion_of_random_kicks():
    """D = (nu / 2) (1 - mu^2); 5 bins of 12000 particles, 1.3 % each: 5 standard errors are 6.5 %."""
    rng = np.random.default_rng(6)
    start, orbits = scattered(60000, 0.01, np.array([2.0]), 0.1, True, rng)
    edges = np.linspace(-1, 1, 6)
    found = pitch_angle_diffusion(start[2], orbits.momentum[0, 2], 2.0, edges)
    expected = 0.005 * (1 - (edges[1:] ** 3 - edges[:-1] ** 3) / (3 * (edges[1:] - edges[:-1])))
    # The change is bounded by nu T = 2 %.
    np.testing.assert_allclose(found, expected, rtol=0.085)
    assert np.isnan(pitch_angle_diffusion([0.5], [0.4], 1.0, [-1, 0, 1])[0])


def test_the_magnetic_moment_is_an_invariant_where_the_field_is_smooth():
    """In a bottle B_z = 1 + (z/L)^2 with div B = 0 it swings by the gyroradius over the scale of the field."""
    axis = np.linspace(-60.0, 60.0, 61)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    scale = 100.0
    values = np.stack([-x * z / scale**2, -y * z / scale**2, 1 + (z / scale) ** 2], axis=-1)
    grid = GridField(values, np.full(3, -60.0), np.full(3, 2.0), False, "cubic")
    field = MagneticField(grids=(grid,))
    start = np.array([[0.8], [0.0], [0.6]])
    orbits = track(field, start, np.linspace(1, 60, 60), gyroradius=1.0, step=0.05)
    moment = magnetic_moment(field, orbits, gyroradius=1.0)[:, 0]
    assert orbits.position[-1, 2, 0] > 20
    np.testing.assert_allclose(moment, 0.64, rtol=0.02)
    # What is conserved is not p_perp^2 itself: it grew with B.
    b = np.linalg.norm(field.at(orbits.position[-1]), axis=0)
    assert b[0] > 1.05


def test_the_magnetic_moment_drifts_along_orbits_that_keep_the_volume_of_phase_space():
    """AM17: in turbulence it changes by its own size within gyro-times, and the way back is exact all the same."""
    rng = np.random.default_rng(7)
    field = UNIFORM + isotropic_waves(TurbulenceSpectrum(0.5, 20.0), modes=60, rms=1.0, rng=rng)
    start, times = directions(50, rng), np.array([5.0])
    away = track(field, start, times, gyroradius=1.0, step=0.02)
    first = Orbits(np.array([0.0]), np.zeros((1, 3, 50)), start[None])
    change = magnetic_moment(field, away, gyroradius=1.0) / magnetic_moment(field, first, gyroradius=1.0)
    assert np.median(np.abs(np.log(change))) > 0.3
    # Arriving there now, they were at the origin before.
    back = back_track(field, -away.momentum[0], times, gyroradius=1.0, position=away.position[0], step=0.02)
    np.testing.assert_allclose(back.position[0], 0, atol=1e-9)
    np.testing.assert_allclose(back.momentum[0], start, atol=1e-9)


def test_what_makes_no_sense_is_refused():
    orbits = track(UNIFORM, AXES, [1.0], gyroradius=1.0)
    with pytest.raises(ValueError, match=r"expected \(n_time, 3, n\)"):
        running_diffusion(orbits, AXES[:, :3])
    with pytest.raises(ValueError, match="times above 0"):
        running_diffusion(track(UNIFORM, AXES, [0.0, 1.0], gyroradius=1.0), AXES)
    beam = np.tile([[0.0], [0.0], [1.0]], 300)
    with pytest.raises(ValueError, match="far from isotropic"):
        running_diffusion(track(UNIFORM, beam, [1.0], gyroradius=1.0), beam)
    one = running_diffusion(orbits, AXES)
    other = running_diffusion(track(UNIFORM, AXES, [2.0], gyroradius=1.0), AXES)
    with pytest.raises(ValueError, match="equal times"):
        join_fields([one, other])
    with pytest.raises(ValueError, match="at least one"):
        join_fields([])
    with pytest.raises(ValueError, match="a vector that is not 0"):
        split_tensor(np.eye(3), (0, 0, 0))
    assert np.all(np.isnan(mean_and_error(one.mean)[1]))


def test_the_settled_tensor_is_the_mean_of_the_derivative():
    """T K of the relaxation equation grows by the integral of the derivative: <z^2> / 2 in closed form.

    60 parts of 1000 particles between T = 2 and 6: 5 standard errors, a false alarm in 200000.
    """
    rng = np.random.default_rng(8)
    nu, times = 0.5, np.array([2.0, 4.0, 6.0])
    parts = []
    for _ in range(60):
        start, orbits = scattered(1000, nu, times, 0.1, True, rng)
        parts.append(running_diffusion(orbits, start))
    settled, error = mean_and_error(settled_tensor(join_fields(parts), 2.0)[:, 2, 2])
    half_square = [(t + np.expm1(-nu * t) / nu) / (3 * nu) for t in (2.0, 6.0)]
    assert abs(settled - (half_square[1] - half_square[0]) / 4) < 5 * error
    assert error < 0.02
    with pytest.raises(ValueError, match="at least two of the times"):
        settled_tensor(join_fields(parts), 5.0)
