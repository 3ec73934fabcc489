"""Orbits against closed forms, against an integrator of another kind, and against the laws of conservation.

References are DOP853 of scipy on sums of cosines in numpy; nothing of the kernels goes into them.
"""

import healpy as hp
import numpy as np
import pytest
from obsfit_models.turbulence import _kernels_cpu as kernels
from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.orbits import YOSHIDA_WEIGHTS, back_track, cross_spheres, ensemble_step, track
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from scipy.integrate import solve_ivp

UNIFORM = MagneticField(uniform=[0.0, 0.0, 1.0])
# Errors of single orbits e-fold about every 4.5 gyro-times in turbulence of the papers.
FOLDING_TIME = 4.5


def directions(n, seed):
    """Unit vectors (3, n)."""
    vectors = np.random.default_rng(seed).normal(size=(3, n))
    return vectors / np.linalg.norm(vectors, axis=0)


def papers_field(seed, modes=100):
    """Field of ASTRA: lengths in lambda_c, sigma^2 = 1, gyroradius 0.1."""
    rng = np.random.default_rng(seed)
    return UNIFORM + isotropic_waves(TurbulenceSpectrum(0.01, 100.0), modes=modes, rms=1.0, rng=rng)


def reference(field, arrival, times, gyroradius, tolerance=1e-12):
    """Positions (n_time, 3, n) in gyroradii of back-tracked particles: dr/ds = u, du/ds = B x u, u = -p."""
    k, a, beta = field.waves.wavevector * gyroradius, field.waves.amplitude, field.waves.phase

    def slope(_, state):
        r, u = state.reshape(2, 3, -1)
        b = field.uniform[:, None] + a @ np.cos(k.T @ r + beta[:, None])
        return np.concatenate([u, np.cross(b, u, axis=0)]).ravel()

    start = np.concatenate([np.zeros_like(arrival), arrival]).ravel()
    found = solve_ivp(slope, (0, times[-1]), start, "DOP853", t_eval=times, rtol=tolerance, atol=tolerance)
    return found.y.T.reshape(len(times), 2, 3, -1)[:, 0]


def helix(arrival, times):
    """Positions and velocities dr/ds of back-tracked particles in a uniform field along z."""
    x, y, z = arrival
    t = np.array(times)[:, None]
    sine, cosine = np.sin(t), np.cos(t)
    place = np.stack([x * sine - y * (1 - cosine), y * sine + x * (1 - cosine), z * t], axis=1)
    return place, np.stack([x * cosine - y * sine, y * cosine + x * sine, z + 0 * t], axis=1)


@pytest.mark.parametrize("options", [{"tolerance": 1e-9}, {"scheme": "yoshida", "step": 0.003}])
def test_without_turbulence_orbits_are_helices(options):
    arrival, times = directions(70, 1), [0.01, 1.0, 7.0, 20.0]
    orbit = back_track(UNIFORM, arrival, times, gyroradius=1.0, **options)
    place, velocity = helix(arrival, times)
    np.testing.assert_allclose(orbit.position, place, rtol=0, atol=1e-10)
    np.testing.assert_allclose(orbit.momentum, -velocity, rtol=0, atol=1e-10)


def test_the_leapfrog_turns_helices_exactly():
    """Directions to rounding; positions shrink across the field by (h/2) / tan(h/2), nothing else."""
    arrival, times, h = directions(70, 2), [1.0, 20.0], 0.25
    orbit = back_track(UNIFORM, arrival, times, gyroradius=1.0, step=h)
    place, velocity = helix(arrival, times)
    place[:, :2] *= 0.5 * h / np.tan(0.5 * h)
    np.testing.assert_allclose(orbit.momentum, -velocity, rtol=0, atol=1e-13)
    np.testing.assert_allclose(orbit.position, place, rtol=0, atol=1e-12)


def test_one_circularly_polarised_wave_along_the_field():
    """A wave 0.5 (cos 2z, sin 2z, 0): near resonance, where errors would show."""
    wave = PlaneWaves(
        np.array([[0, 0], [0, 0], [2.0, 2.0]]), np.diag([0.5, 0.5, 0.0])[:, :2], np.array([0, -np.pi / 2])
    )
    field, arrival, times = UNIFORM + MagneticField(waves=wave), directions(12, 3), [5.0, 20.0]
    expected = reference(field, arrival, times, 1.0, tolerance=1e-13)
    orbit = back_track(field, arrival, times, gyroradius=1.0, tolerance=1e-9)
    np.testing.assert_allclose(orbit.position, expected, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def papers_orbits():
    """Field, directions and reference at Omega T = 5 and 20."""
    field, arrival, times = papers_field(4), directions(12, 5), [5.0, 20.0]
    return field, arrival, times, reference(field, arrival, times, 0.1)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_tolerances_are_kept(papers_orbits, tolerance):
    """Median relative error of the end point within twice the tolerance, and not a fluke of one particle."""
    field, arrival, times, expected = papers_orbits
    orbit = back_track(field, arrival, times, gyroradius=0.1, tolerance=tolerance)
    error = np.linalg.norm(orbit.position - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.all(np.median(error, axis=1) < 2 * tolerance)
    # At 5 gyro-times errors have grown by 3 instead of 85.
    assert np.max(error[0]) < tolerance
    # What a step changed |p| by, before it was made 1 again, is of the order of the error of a step.
    assert np.all(orbit.drift < 0.1 * tolerance)


@pytest.mark.parametrize(
    ("gyroradius", "rms", "shortest", "longest", "time"),
    [
        (1.0, 3.0, 0.2, 100.0, 2.5),
        (0.01, 0.3, 0.1, 100.0, 7.7),
        (0.1, 10.0, 0.1, 100.0, 0.8),
        (1.0, 1.0, 0.02, 0.2, 1.0),
    ],
)
def test_steps_follow_the_field(gyroradius, rms, shortest, longest, time):
    """Other rigidities, strengths and scales: the same tolerance after 8 gyrations in the whole field.

    The last field has all its energy at k r_L of 30 to 300, where the steps of the papers' field are far too long, and
    where errors grow by e in a third of a gyro-time.
    """
    rng = np.random.default_rng(6)
    spectrum = TurbulenceSpectrum(shortest, longest)
    field = UNIFORM + isotropic_waves(spectrum, modes=40, rms=rms, rng=rng)
    arrival = directions(12, 7)
    expected = reference(field, arrival, [time], gyroradius)
    for tolerance in (1e-3, 1e-6):
        orbit = back_track(field, arrival, [time], gyroradius=gyroradius, tolerance=tolerance)
        error = np.linalg.norm(orbit.position - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert np.median(error) < 2 * tolerance


def test_outputs_between_steps_are_as_good_as_those_on_them(papers_orbits):
    field, arrival, _, _ = papers_orbits
    times = np.sort(np.random.default_rng(8).uniform(0, 5, size=40))
    expected = reference(field, arrival, times, 0.1)
    orbit = back_track(field, arrival, times, gyroradius=0.1, tolerance=1e-6)
    assert np.max(np.abs(orbit.position - expected)) < 1e-6


@pytest.mark.parametrize("options", [{}, {"scheme": "yoshida", "step": 0.05}, {"tolerance": 1e-6}])
def test_early_orbits_are_straight(papers_orbits, options):
    field, arrival, _, _ = papers_orbits
    time = 1e-3
    orbit = back_track(field, arrival, [time], gyroradius=0.1, **options)
    # The field turns a direction by |B| T, of the order of 2e-3 here.
    np.testing.assert_allclose(orbit.position[0], arrival * time, rtol=0, atol=5 * time**2)


def test_single_precision_follows_the_same_orbits(papers_orbits):
    """Rounding of 5e-7 in the field, grown by at most exp(T / 4.5); far from the origin as well as near it."""
    field, arrival, _, _ = papers_orbits
    for position in (None, [[1e6], [0.0], [0.0]]):
        options = {"gyroradius": 0.1, "position": position, "step": 0.04}
        double = back_track(field, arrival, [1.0, 10.0], **options)
        single = back_track(field, arrival, [1.0, 10.0], single=True, **options)
        away = np.median(np.linalg.norm(single.position - double.position, axis=1), axis=1)
        assert np.all(away > 0)
        assert np.all(away < 2e-6 * np.exp(np.array([1.0, 10.0]) / FOLDING_TIME))
        assert np.max(single.drift) < 1e-13


@pytest.mark.parametrize(
    ("options", "error"), [({}, 1e-16), ({"scheme": "yoshida", "step": 0.05}, 1e-16), ({"tolerance": 1e-6}, 1e-6)]
)
def test_forwards_after_backwards_returns(papers_orbits, options, error):
    field, arrival, _, _ = papers_orbits
    time = 20.0
    there = back_track(field, arrival, [time], gyroradius=0.1, **options)
    back = track(field, there.momentum[0], [time], gyroradius=0.1, position=there.position[0], **options)
    # Rounding of some 500 steps grows with the folding time, over both ways at most.
    bound = (
        500 * error * np.exp(2 * time / FOLDING_TIME)
        if error < 1e-15
        else 10 * error * np.exp(time / FOLDING_TIME)
    )
    assert np.median(np.linalg.norm(back.position[0], axis=0)) < bound
    assert np.median(np.linalg.norm(back.momentum[0] + arrival, axis=0)) < bound


def jacobians(kernel, field, start, time, step):
    """Determinants of the derivatives of the map of (r, u) with |u| free, by differences of fourth order."""
    shift, n = 1e-4, start.shape[1]
    moved = start[:, :, None, None] + shift * np.eye(6)[:, None, :, None] * np.array([-2.0, -1.0, 1.0, 2.0])
    flat = np.ascontiguousarray(moved.reshape(6, -1))
    place, way = np.empty((1, 3, flat.shape[1])), np.empty((1, 3, flat.shape[1]))
    count = round(time / step)
    kernel(flat[:3].copy(), flat[3:].copy(), 1.0, np.array([time / count]), np.array([count]), *field, place, way)
    ends = np.concatenate([place[0], way[0]]).reshape(6, n, 6, 4)
    slopes = (ends @ np.array([1.0, -8.0, 8.0, -1.0])) / (12 * shift)
    return np.linalg.det(slopes.transpose(1, 0, 2))


def test_maps_keep_the_volume_of_phase_space():
    """Liouville: unit Jacobian, for the map as it is computed, not only for its limit of small steps."""
    uniform, waves, grids = papers_field(9, modes=20).arrays(0.1)
    start = np.concatenate([np.random.default_rng(10).normal(size=(3, 5)), directions(5, 11)])

    def leapfrog(r, u, q, h, n, *rest):
        kernels.leapfrog(r, u, q, h, n, uniform, waves, grids, True, *rest)

    def yoshida(r, u, q, h, n, *rest):
        kernels.compose(r, u, q, h, n, YOSHIDA_WEIGHTS, uniform, waves, grids, *rest)

    for kernel in (leapfrog, yoshida):
        # 1e-4 differences of fourth order err by 1e-12 k^5 / 30, k r_L up to 60 with amplitudes of a few percent.
        np.testing.assert_allclose(jacobians(kernel, (), start, 2.0, 0.1), 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", ["leapfrog", "yoshida"])
def test_rotations_keep_the_momentum(papers_orbits, scheme):
    field, arrival, _, _ = papers_orbits
    orbit = back_track(field, arrival, [100.0], gyroradius=0.1, scheme=scheme, step=0.04)
    assert np.max(orbit.drift) < 1e-13


@pytest.mark.parametrize(("scheme", "order", "steps"), [("leapfrog", 2, (50, 100)), ("yoshida", 4, (20, 40))])
def test_orders_of_convergence(scheme, order, steps):
    rng = np.random.default_rng(12)
    field = UNIFORM + isotropic_waves(TurbulenceSpectrum(3.0, 100.0), modes=20, rms=1.0, rng=rng)
    arrival = directions(12, 13)
    expected = reference(field, arrival, [2.0], 1.0)
    # A composition of leapfrogs with exact cosines; those of the leapfrog are good to 1e-8 here.
    error = [
        np.median(
            np.linalg.norm(
                back_track(field, arrival, [2.0], gyroradius=1.0, scheme=scheme, step=2.0 / n).position - expected,
                axis=1,
            )
        )
        for n in steps
    ]
    assert np.log2(error[0] / error[1]) == pytest.approx(order, abs=0.15)


def test_what_is_isotropic_outside_is_isotropic_inside(papers_orbits):
    """Without a gradient, I(n) = 4 pi f(|p|): any orbit leads to the same density."""
    field = papers_orbits[0]
    arrival = np.array(hp.pix2vec(4, np.arange(192)))
    orbit = back_track(field, arrival, [30.0], gyroradius=0.1)
    intensity = 1.0 + 0.3 * np.linalg.norm(orbit.momentum[0], axis=0) ** 2.7
    assert np.max(hp.anafast(intensity / 1.3 - 1.0, lmax=8)) < 1e-24


def test_a_homogeneous_dipole_keeps_its_power_on_average():
    """f = 1 + 3 p_i outside: the sky's mean square, 3 <p_i^2(-T)>, is 1 in the mean over fields, by Liouville.

    100 fields, three components; |mean - 1| > 4 standard errors by chance: 3 x 6e-5 = 2e-4.
    """
    arrival = np.array(hp.pix2vec(2, np.arange(48)))
    power = np.empty((100, 3))
    for seed in range(100):
        rng = np.random.default_rng([14, seed])
        field = UNIFORM + isotropic_waves(TurbulenceSpectrum(0.3, 30.0), modes=24, rms=1.0, rng=rng)
        momentum = back_track(field, arrival, [10.0], gyroradius=0.5).momentum[0]
        power[seed] = 3 * np.mean(momentum**2, axis=1)
    error = np.std(power, axis=0, ddof=1) / 10
    assert np.all(error < 0.03)
    assert np.all(np.abs(np.mean(power, axis=0) - 1.0) < 4 * error)


def test_straight_lines_cross_spheres_at_their_radii():
    arrival, radii = directions(70, 15), np.array([0.3, 1.0, 2.5, 4.0])
    found = cross_spheres(MagneticField(), arrival, radii, gyroradius=1.0, longest_time=3.0, position=[[7.0]] * 3)
    np.testing.assert_allclose(found.time[:3], np.broadcast_to(radii[:3, None], (3, 70)), rtol=1e-12)
    np.testing.assert_allclose(found.position[:3], 7.0 + radii[:3, None, None] * arrival, rtol=1e-12)
    np.testing.assert_allclose(found.momentum, np.broadcast_to(-arrival, (4, 3, 70)), rtol=0, atol=1e-12)
    assert np.all(np.isnan(found.time[3]))
    np.testing.assert_allclose(found.position[3], 7.0 + 3.0 * arrival, rtol=1e-12)


def test_helices_cross_spheres_where_the_closed_form_does():
    """z^2 t^2 + 4 (1 - z^2) sin^2(t/2) = R^2; the leapfrog shrinks gyrations by h^2 / 12 of themselves."""
    arrival, radii, h = directions(70, 16), np.array([0.4, 1.5]), 0.1
    found = cross_spheres(UNIFORM, arrival, radii, gyroradius=1.0, longest_time=30.0, step=h)
    t, z = found.time, arrival[2]
    shrink = 0.5 * h / np.tan(0.5 * h)
    square = z**2 * t**2 + shrink**2 * 4 * (1 - z**2) * np.sin(t / 2) ** 2
    seen = np.isfinite(t)
    assert np.all(seen[0])
    # The cubic errs by h^4 / 384 times the fourth derivative, and by h^2 / 12 of the gyration within the step.
    assert np.max(np.abs(square - radii[:, None] ** 2)[seen]) < 1e-4
    assert np.max(np.abs(np.linalg.norm(found.position, axis=1) - radii[:, None])[seen]) < 1e-12


def test_crossings_are_those_of_a_finely_stepped_orbit(papers_orbits):
    """Brute force: the first of many outputs of the same steps that lies outside."""
    field, arrival, _, _ = papers_orbits
    radii, h, longest = np.array([0.5, 1.0, 3.0]), 0.02, 30.0
    found = cross_spheres(field, arrival, radii, gyroradius=0.1, longest_time=longest, step=h)
    times = h * np.arange(1, round(longest / h) + 1)
    orbit = back_track(field, arrival, times, gyroradius=0.1, step=h)
    distance = np.linalg.norm(orbit.position, axis=1)
    for out, radius in enumerate(radii):
        outside = distance >= radius
        first = np.where(outside.any(axis=0), times[np.argmax(outside, axis=0)], np.nan)
        assert np.array_equal(np.isnan(first), np.isnan(found.time[out]))
        gap = first - found.time[out]
        seen = np.isfinite(first)
        assert np.all((gap[seen] > -1e-12) & (gap[seen] < h * (1 + 1e-9)))
        # Between the outputs the crossing lies on the fourth-order orbit too.
        at = np.flatnonzero(seen)[0]
        fine = back_track(field, arrival[:, [at]], [first[at] - h], gyroradius=0.1, step=h)
        rest = back_track(
            field, -fine.momentum[0], [h - gap[at]], gyroradius=0.1, position=fine.position[0], step=h / 50
        )
        np.testing.assert_allclose(found.position[out, :, at], rest.position[0, :, 0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.momentum[out, :, at], rest.momentum[0, :, 0], rtol=0, atol=3e-3)


def test_lengths_have_no_unit_of_their_own():
    """Field and gyroradius in another unit of length: the same orbit in gyroradii."""
    field, arrival = papers_field(17, modes=20), directions(5, 18)
    waves = field.waves
    other = MagneticField(field.uniform, PlaneWaves(waves.wavevector / 8, waves.amplitude, waves.phase))
    for options in ({}, {"tolerance": 1e-6}):
        first = back_track(field, arrival, [4.0], gyroradius=0.1, **options)
        second = back_track(other, arrival, [4.0], gyroradius=0.8, **options)
        np.testing.assert_allclose(first.position, second.position, rtol=0, atol=1e-12)


def test_the_step_of_ensembles():
    field = papers_field(19)
    assert ensemble_step(field, 0.1) == pytest.approx(2.5 / (0.1 * field.k_max))
    assert ensemble_step(UNIFORM, 1.0) == 0.5
    # A field that is five times as strong turns five times as fast.
    assert ensemble_step(MagneticField(uniform=[0, 0, 5 * np.sqrt(2)]), 1.0) == pytest.approx(0.1)
