"""Displacement skies and the anisotropies that follow from them: limits, conservation, and independent computation."""

import healpy as hp
import numpy as np
import pytest
from obsfit_models.diffusion.tensor import bgk_tensor
from obsfit_models.turbulence.anisotropy import (
    dipole_anisotropy,
    gradient_anisotropy,
    homogeneous_state,
    mixture_weights,
    orientation,
    rotated_alm,
    rotated_sky,
    sky_anisotropy,
    sphere_anisotropy,
    state_anisotropy,
)
from obsfit_models.turbulence.directions import fitted_alm, gram_matrix, harmonic_sums, jittered_directions
from obsfit_models.turbulence.displacement import (
    DisplacementSky,
    cross_power,
    crossing_sky,
    displacement_sky,
    displacement_sums,
    ensemble_of,
    local_field,
)
from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.orbits import back_track
from obsfit_models.turbulence.patches import disc_means, displacement_patch
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from obsfit.errors import ModelDomainError

DIPOLE = 4 * np.pi / 9
UNIFORM = MagneticField(uniform=[0.0, 0.0, 1.0])


def turbulence(rng, modes=30):
    return isotropic_waves(TurbulenceSpectrum(0.1, 100.0), modes=modes, rng=rng)


def helix(arrival, s):
    """Closed form in a unit field along z: where a particle that arrives from n was, and how it moved."""
    x, y, z = arrival
    sine, versine = np.sin(s), 1 - np.cos(s)
    # Backwards in time it moves along u = -p, from n on; dp/ds = -p x B turns u about the field by the angle s.
    position = np.array([sine * x - versine * y, sine * y + versine * x, s * z])
    motion = np.array([np.cos(s) * x - sine * y, np.cos(s) * y + sine * x, z])
    return position, -motion


def fit(arrival, maps, lmax):
    return fitted_alm(harmonic_sums(arrival, maps, lmax), gram_matrix(arrival, lmax))


def power(alm):
    return hp.alm2cl(alm.astype(complex))


def values(alm, vectors):
    """The map at unit vectors (3, n), by scipy's harmonics."""
    from scipy.special import sph_harm_y

    lmax = hp.Alm.getlmax(alm.shape[-1])
    theta, phi = np.arccos(vectors[2]), np.arctan2(vectors[1], vectors[0])
    ell, m = hp.Alm.getlm(lmax)
    return sum(
        (1 if n == 0 else 2) * np.real(a * sph_harm_y(degree, n, theta, phi))
        for a, degree, n in zip(alm, ell, m, strict=True)
    )


# ---------------------------------------------------------------------------------------------------------------
# Limits


def test_the_orbit_in_a_uniform_field_is_the_helix():
    arrival = jittered_directions(4, rng=np.random.default_rng(1))
    orbits = back_track(UNIFORM, arrival, [1.0, 3.0], gyroradius=1.0, step=0.001)
    for i, time in enumerate(orbits.time):
        position, momentum = helix(arrival, time)
        # Leapfrog with exact rotation errs in lengths by h^2/24 of the chord, 4e-8.
        np.testing.assert_allclose(orbits.position[i], position, atol=3e-7)
        np.testing.assert_allclose(orbits.momentum[i], momentum, atol=1e-11)


@pytest.mark.parametrize("time", [0.3, 2.0, 7.0])
def test_the_dipole_of_a_helix_to_1e_10(time):
    """C_1 is (4 pi/9) g^2 T^2 along the field, (4 pi/9) g^2 4 sin^2(T/2) across, and nothing else."""
    arrival = jittered_directions(8, rng=np.random.default_rng(2))
    maps = fit(arrival, np.concatenate(helix(arrival, time)), 6)
    g = 0.02
    along = power(gradient_anisotropy(maps, [0, 0, g]))
    across = power(gradient_anisotropy(maps, [0.6 * g, 0.8 * g, 0]))
    assert along[1] == pytest.approx(DIPOLE * g**2 * time**2, rel=1e-10)
    assert across[1] == pytest.approx(DIPOLE * g**2 * 4 * np.sin(time / 2) ** 2, rel=1e-10)
    for c_ell in (along, across):
        assert np.max(np.delete(c_ell, 1)) < 1e-20 * c_ell[1]


def test_the_power_of_a_tracked_helix_is_that_of_the_closed_form():
    """From the field to C_1: orbits, maps and powers in one, along the field and across it."""
    times = np.array([0.1, 1.0, 4.0])
    sky = displacement_sky(UNIFORM, times, gyroradius=1.0, nside=8, lmax=4, step=0.01)
    c_ell = cross_power(sky.alm, sky.alm)[0, 0]
    # Along the field the leapfrog is exact; across it errs by h^2/12 of the power, 1e-5.
    assert c_ell[:, 2, 1] / DIPOLE == pytest.approx(times**2, rel=1e-10)
    assert c_ell[:, 0, 1] / DIPOLE == pytest.approx(4 * np.sin(times / 2) ** 2, rel=5e-5)
    assert np.max(c_ell[:, :3, 2:]) < 1e-20


def test_early_excess_points_up_the_gradient():
    """Ballistic: r(-T) = T n, so that delta I = T n . grad n / n in any field, and p = -n."""
    sky = displacement_sky(UNIFORM + turbulence(np.random.default_rng(3)), [1e-3], gyroradius=0.1, nside=4, lmax=3)
    gradient = np.array([0.3, -0.5, 0.8])
    alm = sky_anisotropy(sky, gradient / 0.1)[0, 0, 0]
    n = jittered_directions(2, rng=np.random.default_rng(4))
    # The next order is half of (Omega T) |B| / B_0, a few 1e-3.
    np.testing.assert_allclose(values(alm, n), 1e-3 * gradient @ n, atol=1e-5)
    np.testing.assert_allclose(values(dipole_anisotropy(sky.alm, gradient)[0, 0, 0], n), gradient @ n, atol=1e-2)


def test_isotropic_outside_is_isotropic_inside():
    """Whatever the field, a homogeneous and isotropic state stays one; a homogeneous dipole does not."""
    field = UNIFORM + turbulence(np.random.default_rng(5))
    arrival = jittered_directions(2, rng=np.random.default_rng(6))
    orbits = back_track(field, arrival, [3.0, 10.0], gyroradius=0.1)
    flat = np.zeros(10, dtype=complex)
    flat[0] = np.sqrt(4 * np.pi) * 0.25
    inside = state_anisotropy(orbits.position, orbits.momentum, homogeneous_state(flat))
    np.testing.assert_allclose(inside, 0.25, atol=1e-13)
    flat[1] = 1.0
    inside = state_anisotropy(orbits.position, orbits.momentum, homogeneous_state(flat))
    expected = 0.25 - np.sqrt(3 / (4 * np.pi)) * orbits.momentum[:, 2]
    np.testing.assert_allclose(inside, expected, atol=1e-13)
    maps = np.concatenate([orbits.position, orbits.momentum], axis=1)
    linear = dipole_anisotropy(maps, [0, 0, np.sqrt(3 / (4 * np.pi))])
    np.testing.assert_allclose(inside - 0.25, linear, atol=1e-13)


def test_a_quadrupole_at_the_start_turns_with_the_gyration():
    """A homogeneous state is carried round the field: the map is that of the start, turned by the gyro-angle."""
    rng = np.random.default_rng(7)
    start = rng.normal(size=6) + 1j * rng.normal(size=6)
    start[:3] = start[:3].real
    arrival = jittered_directions(4, rng=rng)
    _, momentum = helix(arrival, 1.1)
    seen = fit(arrival, state_anisotropy(momentum, momentum, homogeneous_state(start)), 2)
    m = hp.Alm.getlm(2)[1]
    # What arrives from azimuth phi came from phi + 1.1: a_lm of a map f(phi + a) are a_lm exp(i m a).
    np.testing.assert_allclose(seen, start * np.exp(1j * m * 1.1), atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------
# Conservation


def test_homogeneous_dipoles_keep_their_power_on_average():
    """Over fields, the mean of sum_l (2l + 1) C_l / 4 pi of each p_i(-T) is 1/3 at every T."""
    seeds = np.random.SeedSequence(8).spawn(100)
    product = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        sky = displacement_sky(
            UNIFORM + turbulence(rng), [2.0, 5.0], gyroradius=0.1, nside=4, lmax=1, step=0.5, rng=rng
        )
        product.append(np.diagonal(sky.product[0, 0], axis1=-2, axis2=-1)[:, 3:])
    product = np.array(product)
    # Of one field the sum differs: it is no identity.
    assert np.all(product.std(axis=0) > 0.005)
    # Six values at 4.5 standard errors: false alarm 1e-4 (Student's t of 99).
    error = product.std(axis=0, ddof=1) / 10
    assert np.all(np.abs(product.mean(axis=0) - 1 / 3) < 4.5 * error)
    np.testing.assert_allclose(product.sum(axis=-1), 1.0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------
# Independent computation


def bgk_walk(arrival, times, nu, omega, *, rng):
    """Backwards in time: gyration about z, and at rate nu a new direction at random; states at the times."""
    n = arrival.shape[1]
    position, motion = np.zeros((3, n)), arrival.copy()
    positions, momenta = [], []
    clock, following = 0.0, rng.exponential(1 / nu, n)

    def move(span, which):
        x, y, z = motion[:, which]
        c, s = np.cos(omega * span), np.sin(omega * span)
        position[:, which] += np.array([(s * x - (1 - c) * y) / omega, (s * y + (1 - c) * x) / omega, span * z])
        motion[:, which] = np.array([c * x - s * y, c * y + s * x, z])

    at = np.zeros(n)
    for clock in times:
        while True:
            due = following < clock
            if not np.any(due):
                break
            move(following[due] - at[due], due)
            at[due] = following[due]
            fresh = rng.normal(size=(3, due.sum()))
            motion[:, due] = fresh / np.linalg.norm(fresh, axis=0)
            following[due] += rng.exponential(1 / nu, due.sum())
        everyone = np.full(n, True)
        move(clock - at, everyone)
        at[:] = clock
        positions.append(position.copy())
        momenta.append(-motion)
    return np.array(positions), np.array(momenta)


def test_the_state_of_fick_is_stationary_under_bgk_scattering():
    """<r - 3 K^T p> = -3 K^T p at all T, so that the anisotropy is 3 n . K . grad n / n from the start."""
    nu, omega, copies = 0.5, 0.8, 40000
    tensor = bgk_tensor(nu, [0.0, 0.0, omega])
    gradient = np.array([0.4, -0.2, 0.3])
    times = np.array([0.3, 2.0, 8.0])
    arrival = np.array([[1.0, 0, 0], [0, 0.6, 0.8], [0.48, -0.64, 0.6]])
    for n in arrival:
        start = np.repeat(n[:, None], copies, axis=1)
        position, momentum = bgk_walk(start, times, nu, omega, rng=np.random.default_rng(9))
        maps = np.concatenate([position, momentum], axis=1)
        found = gradient_anisotropy(maps, gradient, tensor=tensor)
        error = found.std(axis=1) / np.sqrt(copies)
        # Nine values at 4.5 standard errors: false alarm 6e-5. The errors are a few per cent of the dipole.
        assert np.all(np.abs(found.mean(axis=1) - 3 * n @ tensor @ gradient) < 4.5 * error)
        assert np.all(error < 0.01)
    # Without the term of Fick the dipole has to form first: at T = 0.3 it is the ballistic one, far smaller.
    assert np.abs(gradient_anisotropy(maps, gradient)[0].mean()) < 0.3 * np.linalg.norm(3 * tensor @ gradient)


@pytest.mark.parametrize(
    "rotation",
    [
        np.eye(3), orientation([0, 0, 1], turn=0.7), orientation([0, 0, -1], turn=0.4), orientation([1.0, 2.0, -0.5]),
        Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix(),
    ],
)  # fmt: skip
def test_a_rotated_map_has_the_values_of_the_map(rotation):
    rng = np.random.default_rng(10)
    alm = rng.normal(size=(2, 21)) + 1j * rng.normal(size=(2, 21))
    alm[:, :6] = alm[:, :6].real
    n = jittered_directions(1, rng=rng)
    turned = rotated_alm(alm, rotation)
    for before, after in zip(alm, turned, strict=True):
        np.testing.assert_allclose(values(after, rotation @ n), values(before, n), atol=1e-12)


def test_the_rotated_sky_is_the_sky_of_the_rotated_field():
    rng = np.random.default_rng(11)
    waves = turbulence(rng, modes=12).waves
    matrix = Rotation.from_rotvec([1.0, 0.4, -0.7]).as_matrix()
    turned = MagneticField(
        matrix @ UNIFORM.uniform,
        PlaneWaves(matrix @ waves.wavevector, matrix @ waves.amplitude, waves.phase),
    )
    arrival = jittered_directions(4, rng=rng)

    def sky(field, directions):
        sums, product = displacement_sums(field, directions, [2.0], gyroradius=[0.1, 0.3], lmax=5, step=0.1)
        alm = fitted_alm(sums, gram_matrix(directions, 5))
        stop, radii = np.array([2.0]), np.array([0.1, 0.3])
        return DisplacementSky(
            alm[None], product[None] / directions.shape[1], radii, stop, "time", 192,
            local_field=local_field(field, radii),
        )  # fmt: skip

    expected = sky(turned, np.ascontiguousarray(matrix @ arrival))
    found = rotated_sky(sky(UNIFORM + MagneticField(waves=waves), arrival), matrix)
    # Rounding grows along the orbits by less than a factor e^(T/4.5); positions are of order 1.
    np.testing.assert_allclose(found.alm, expected.alm, atol=1e-10)
    np.testing.assert_allclose(found.product, expected.product, atol=1e-10)
    np.testing.assert_allclose(found.local_field, expected.local_field, atol=2e-3)
    gradient = np.array([0.1, 0.7, -0.3])
    one = sky_anisotropy(found, matrix @ gradient)
    other = rotated_alm(sky_anisotropy(sky(UNIFORM + MagneticField(waves=waves), arrival), gradient), matrix)
    np.testing.assert_allclose(one, other, atol=1e-10)
    both = rotated_sky(ensemble_of([found, expected]), matrix.T)
    np.testing.assert_allclose(both.sky(1).alm, rotated_sky(expected, matrix.T).alm, atol=1e-12)
    np.testing.assert_allclose(both.local_field[0], local_field(UNIFORM + MagneticField(waves=waves), [0.1, 0.3]))


def test_the_local_field_is_the_mean_over_a_ball():
    """A wave averages to 3 j_1(x)/x of its value at the centre, x = k r."""
    rng = np.random.default_rng(12)
    waves = turbulence(rng, modes=20).waves
    field = UNIFORM + MagneticField(waves=waves)
    for radius in (0.02, 0.1):
        x = np.linalg.norm(waves.wavevector, axis=0) * radius
        factor = 3 * (np.sin(x) - x * np.cos(x)) / x**3
        expected = UNIFORM.uniform + (waves.amplitude * factor * np.cos(waves.phase)).sum(axis=1)
        np.testing.assert_allclose(local_field(field, radius)[0], expected, atol=2e-3)


# ---------------------------------------------------------------------------------------------------------------
# First crossing of spheres, patches, mixtures


def test_without_a_field_the_sphere_is_seen_as_it_is():
    """GS Eqs. (7) and (8) with G = n: a_10 is Delta sqrt(4 pi/3), and nothing else."""
    sky = crossing_sky(
        MagneticField(), [0.5, 4.0], gyroradius=2.0, nside=4, lmax=3, longest_time=5.0, sets=2,
        rng=np.random.default_rng(13),
    )  # fmt: skip
    alm = sphere_anisotropy(sky.alm, [0, 0, 1.0], radius=sky.stop, contrast=0.862)
    expected = np.zeros(10)
    expected[1] = 0.862 * np.sqrt(4 * np.pi / 3)
    np.testing.assert_allclose(alm, np.broadcast_to(expected, alm.shape), atol=1e-10)
    assert np.all(sky.missing == 0)


def crossing_time(mu, radius):
    """First time on a helix at which mu^2 s^2 + 4 (1 - mu^2) sin^2(s/2) = radius^2."""

    def excess(s):
        return mu**2 * s**2 + 4 * (1 - mu**2) * np.sin(s / 2) ** 2 - radius**2

    grid = np.linspace(0, 60, 6001)
    first = np.argmax(excess(grid) >= 0)
    return brentq(excess, grid[first - 1], grid[first]) if first else np.inf


def test_crossings_in_a_uniform_field_are_those_of_the_helix_and_losses_are_counted():
    radius, longest = 2.5, 10.0
    settings = {"gyroradius": 1.0, "nside": 4, "lmax": 2, "longest_time": longest, "step": 0.01}
    arrival = np.array(hp.pix2vec(4, np.arange(192)))
    times = np.array([crossing_time(mu, radius) for mu in arrival[2]])
    crossed = times <= longest
    lost = int(np.sum(~crossed))
    assert 0 < lost < 80
    with pytest.raises(ModelDomainError, match=f"{lost} of 192 particles"):
        crossing_sky(UNIFORM, [radius], **settings)
    sky = crossing_sky(UNIFORM, [radius], most_missing=0.5, **settings)
    assert sky.missing.ravel().tolist() == [lost]
    maps = np.array([np.concatenate(helix(n, s)) for n, s in zip(arrival.T, times, strict=True) if s <= longest]).T
    # Orbits and crossings err by some h^2; products and a_lm are of the order of the radius and its square.
    np.testing.assert_allclose(sky.product[0, 0, 0], maps @ maps.T / crossed.sum(), atol=1e-4)
    np.testing.assert_allclose(sky.alm[0, 0, 0], fit(arrival[:, crossed], maps, 2), atol=1e-4)


def test_a_patch_holds_its_own_orbits():
    centre = (2.0, -0.4)
    angles = np.radians([-10.0, 0.0, 5.0])
    patch = displacement_patch(
        UNIFORM, [1.0, 2.0], gyroradius=1.0, longitude=angles, latitude=angles[:2], centre=centre, step=0.01
    )
    east = np.array([-np.sin(2.0), np.cos(2.0), 0])
    ahead = np.array([np.cos(-0.4) * np.cos(2.0), np.cos(-0.4) * np.sin(2.0), np.sin(-0.4)])
    north = np.cross(ahead, east)
    for row, latitude in enumerate(angles[:2]):
        for column, longitude in enumerate(angles):
            n = (
                np.cos(latitude) * (np.cos(longitude) * ahead + np.sin(longitude) * east)
                + np.sin(latitude) * north
            )
            for stop, time in enumerate(patch.stop):
                np.testing.assert_allclose(
                    patch.maps[stop, :, row, column], np.concatenate(helix(n, time)), atol=1e-4
                )


def test_a_particle_of_a_patch_that_stays_inside_is_no_number():
    patch = displacement_patch(
        UNIFORM,
        [3.0],
        gyroradius=1.0,
        longitude=[0.0],
        latitude=[0.0, 1.2],
        stopped_by="radius",
        longest_time=50.0,
    )
    assert np.all(np.isnan(patch.maps[0, :, 0, 0]))
    assert np.linalg.norm(patch.maps[0, :3, 1, 0]) == pytest.approx(3.0, rel=1e-3)
    with pytest.raises(ValueError, match="radius with it"):
        displacement_patch(UNIFORM, [3.0], gyroradius=1.0, longitude=[0.0], latitude=[0.0], stopped_by="radius")


def test_means_over_discs_are_those_of_a_dipole():
    """The mean of n . e over a disc of radius a about c is (1 + cos a)/2 c . e."""
    longitude, latitude = np.radians(np.arange(150, 180.1, 0.25)), np.radians(np.arange(0, 30.1, 0.25))
    lon, lat = np.meshgrid(longitude, latitude)
    n = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    field = np.tensordot([0.3, 0.5, -0.4], n, axes=1)
    means = disc_means(field, longitude, latitude, np.radians(5.0))
    inside = np.isfinite(means)
    assert inside[60, 60]
    assert not inside[19, 60]
    assert not inside[60, 20]
    # Discs of a grid of 20 points a radius have an area that errs by 1e-2, symmetrically.
    np.testing.assert_allclose(means[inside], 0.5 * (1 + np.cos(np.radians(5))) * field[inside], atol=3e-4)


def test_mixtures_follow_from_charges_and_spread():
    radii = np.geomspace(0.001, 10.0, 300)
    weights = mixture_weights(radii, 1.0, spread_dex=0.2, charge=[1, 26], fraction=[0.9, 0.1])
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    place = np.log10(radii)
    expected = 0.1 * np.log10(1 / 26)
    assert weights @ place == pytest.approx(expected, abs=1e-3)
    assert weights @ (place - expected) ** 2 == pytest.approx(0.2**2 + 0.09 * np.log10(26) ** 2, rel=2e-3)
    with pytest.raises(ValueError, match="give more gyroradii"):
        mixture_weights([0.5, 1.0, 2.0], 1.0, charge=[1, 26], fraction=[0.9, 0.1])


def test_a_mixture_is_the_weighted_sum_in_the_unit_of_the_field():
    sky = displacement_sky(UNIFORM, [2.0], gyroradius=[0.5, 2.0], nside=4, lmax=2, step=0.01)
    tensor = np.array([np.diag([0.1, 0.1, 3.0]), np.diag([0.2, 0.2, 5.0])])
    alm = sky_anisotropy(sky, [0.0, 0.0, 1e-2], tensor=tensor, weights=[0.25, 0.75])[0, 0]
    # Along the field r = r_L T n and p = -n, so that the dipole is (r_L T + 3 K) grad n.
    dipole = 1e-2 * (0.25 * (0.5 * 2 + 9) + 0.75 * (2 * 2 + 15))
    assert alm[1] == pytest.approx(dipole * np.sqrt(4 * np.pi / 3), rel=1e-9)
    with pytest.raises(ValueError, match="add up to 1"):
        sky_anisotropy(sky, [0.0, 0.0, 1e-2], weights=[0.5, 0.6])
