"""Kernels of orbits: cosines, rotations, independence of blocks, and the same results compiled and in plain Python."""

import os
import subprocess
import sys

import numpy as np
import pytest
from obsfit_models.turbulence import _kernels_cpu as kernels
from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.orbits import _PLANS, YOSHIDA_WEIGHTS, _multirate, back_track, cross_spheres
from scipy.spatial.transform import Rotation


def block(rng, unit=False):
    """A block of vectors, (3, LANES)."""
    vectors = rng.normal(size=(3, kernels.LANES))
    return vectors / np.linalg.norm(vectors, axis=0) if unit else vectors


def some_waves(rng, n, size=0.5):
    """Waves as kernels take them; div B = 0 plays no part here."""
    return rng.normal(size=(3, n)), size * rng.normal(size=(3, n)), rng.uniform(size=n)


def some_field(seed, n=12, size=0.6):
    """A field of a few waves."""
    rng = np.random.default_rng(seed)
    k, a = rng.normal(size=(2, 3, n)) * np.array([2.0, size])[:, None, None]
    a -= k * np.sum(k * a, axis=0) / np.sum(k * k, axis=0)
    return MagneticField([0, 0, 1.0], PlaneWaves(k, a, rng.uniform(0, 6, size=n)))


@pytest.mark.parametrize(("exact", "error"), [(True, 3e-15), (False, 1.2e-8)])
def test_sums_of_cosines(exact, error):
    """Against np.cos, far from the origin too; turns of 1e3 lose three digits to rounding before the cosine."""
    rng = np.random.default_rng(1)
    for distance in (1.0, 1e3):
        place, (wave, amplitude, phase) = distance * block(rng), some_waves(rng, 7, 1.0)
        field = np.ones((3, kernels.LANES))
        kernels.add_waves(place, wave, amplitude, phase, 1, 6, exact, field)
        cosine = np.cos(2 * np.pi * (wave[:, 1:6].T @ place + phase[1:6, None]))
        bound = (error + 1e-14 * distance) * np.sum(np.abs(amplitude))
        np.testing.assert_allclose(field, 1.0 + amplitude[:, 1:6] @ cosine, rtol=0, atol=bound)


def test_anchored_sums_are_good_far_from_the_origin():
    """The field to 1e-6 of its rms at 1e5 turns, where plain single precision has lost all digits."""
    rng = np.random.default_rng(13)
    wave, amplitude, phase = some_waves(rng, 100)
    place = 1e5 * block(rng)
    anchored, lanes = kernels.rows_singly(100), kernels.rows_singly(6).reshape((2, 3, kernels.LANES))
    work = np.stack([place, np.zeros_like(place), np.zeros_like(place)])
    kernels.anchor_waves(work, 0, 2, wave, phase, 0, phase.size, anchored)
    work[0] += 0.5 * block(rng)
    single = wave.astype(np.float32), amplitude.astype(np.float32)
    kernels.add_anchored_waves(work, 0, 2, 1, *single, 0, phase.size, anchored, lanes)
    expected = amplitude @ np.cos(2 * np.pi * (wave.T @ work[0] + phase[:, None]))
    assert np.sqrt(np.mean((work[1] - expected) ** 2) / np.mean(expected**2)) < 1e-6
    np.testing.assert_array_equal(work[2], place)


def test_the_quick_cosine_is_as_good_as_it_says():
    """All phases from one wave of amplitude 1."""
    place = np.zeros((3, kernels.LANES))
    wave, amplitude = np.array([[1.0], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]])
    worst = {True: 0.0, False: 0.0}
    for start in np.linspace(-1, 1, 200):
        place[0] = start + np.linspace(0, 0.01, kernels.LANES)
        for exact in worst:
            field = np.zeros((3, kernels.LANES))
            kernels.add_waves(place, wave, amplitude, np.zeros(1), 0, 1, exact, field)
            worst[exact] = max(worst[exact], np.max(np.abs(field[0] - np.cos(2 * np.pi * place[0]))))
    assert worst[True] < 1e-15
    assert 1.0e-8 < worst[False] < 1.1e-8


def test_rotations_small_and_large():
    """Against scipy: polynomials up to half a turn, the library beyond, in one block."""
    rng = np.random.default_rng(2)
    for size in (0.0, 1e-9, 0.3, 3.0, 40.0):
        direction, field = block(rng, unit=True), size * block(rng)
        for angle in (0.7, -0.7):
            turned = direction.copy()
            kernels.rotate(turned, field, angle)
            expected = Rotation.from_rotvec(angle * field.T).apply(direction.T).T
            np.testing.assert_allclose(turned, expected, rtol=0, atol=2e-14)
            np.testing.assert_allclose(np.sum(turned**2, axis=0), 1.0, rtol=0, atol=2e-15)


def test_a_lane_turns_alike_whatever_its_neighbours_do():
    rng = np.random.default_rng(3)
    direction, field = block(rng, unit=True), 0.5 * block(rng)
    alone, beside = direction.copy(), direction.copy()
    kernels.rotate(alone, field, 1.0)
    field[:, 5] *= 100.0
    kernels.rotate(beside, field, 1.0)
    others = np.arange(kernels.LANES) != 5
    assert np.array_equal(alone[:, others], beside[:, others])


def test_blocks_start_on_cache_lines():
    for count in (1, 3, 20):
        found = kernels.blocks(count)
        assert found.shape == (count, 3, kernels.LANES)
        assert found.ctypes.data % 64 == 0


def test_compiled_now_or_before_gives_the_same_bits(tmp_path):
    """In a process that compiles kernels, and in one that takes them from the cache."""
    program = (
        "import numpy as np, hashlib\n"
        "from obsfit_models.turbulence import TurbulenceSpectrum, isotropic_waves, back_track\n"
        "spectrum, rng = TurbulenceSpectrum(0.1, 30.0, 5 / 3, 1.0, 2.0), np.random.default_rng(1)\n"
        "waves = isotropic_waves(spectrum, modes=20, rng=rng)\n"
        "way = rng.normal(size=(3, 70)); way /= np.linalg.norm(way, axis=0)\n"
        "for options in ({'single': True}, {'tolerance': 1e-3}):\n"
        "    orbits = back_track(waves, way, [3.0, 30.0], gyroradius=0.1, **options)\n"
        "    print(hashlib.sha256(orbits.position.tobytes() + orbits.momentum.tobytes()).hexdigest())\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    )
    assert len(first.stdout.split()) == 2
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    "options",
    [{}, {"scheme": "yoshida", "step": 0.2}, {"tolerance": 1e-3}, {"tolerance": 1e-6}, {"tolerance": 1e-9}],
)
def test_orbits_do_not_depend_on_the_company(options):
    """The same bits for 1, 63, 64, 65 and 200 particles, in any order; some turn by more than half a turn a step."""
    field = some_field(4, size=1.5)
    arrival = np.random.default_rng(5).normal(size=(3, 200))
    arrival /= np.linalg.norm(arrival, axis=0)
    if not options:
        options = {"step": 1.0}
    whole = back_track(field, arrival, [1.0, 3.0], gyroradius=1.0, **options)
    for chosen in (slice(0, 1), slice(0, 63), slice(0, 64), slice(0, 65), slice(None, None, -1)):
        part = back_track(field, arrival[:, chosen], [1.0, 3.0], gyroradius=1.0, **options)
        assert np.array_equal(part.position, whole.position[:, :, chosen])
        assert np.array_equal(part.momentum, whole.momentum[:, :, chosen])
        assert np.array_equal(part.drift, whole.drift[chosen])


def test_crossings_do_not_depend_on_the_company():
    """Lanes are filled again when particles leave: who follows whom must not matter."""
    field = some_field(6)
    arrival = np.random.default_rng(7).normal(size=(3, 200))
    arrival /= np.linalg.norm(arrival, axis=0)
    options = {"gyroradius": 1.0, "longest_time": 20.0}
    whole = cross_spheres(field, arrival, [0.5, 2.0, 5.0], **options)
    assert 0 < np.isnan(whole.time[2]).sum() < 200
    for chosen in (slice(0, 1), slice(0, 63), slice(0, 64), slice(0, 65), slice(None, None, -1)):
        part = cross_spheres(field, arrival[:, chosen], [0.5, 2.0, 5.0], **options)
        assert np.array_equal(part.time, whole.time[:, chosen], equal_nan=True)
        assert np.array_equal(part.position, whole.position[:, :, chosen])
        assert np.array_equal(part.momentum, whole.momentum[:, :, chosen])


def test_a_lane_that_is_lost_shows_it_and_harms_no_other():
    rng = np.random.default_rng(8)
    place, way = block(rng), block(rng, unit=True)
    place[0, 3] = np.nan
    ends = np.empty((2, 1, 3, kernels.LANES))
    arrays = some_field(9).arrays(1.0)
    kernels.leapfrog(place, way, 1.0, np.array([0.1]), np.array([5]), *arrays, False, ends[0], ends[1])
    lost = np.isnan(ends).any(axis=(0, 1, 2))
    assert np.array_equal(np.flatnonzero(lost), [3])


def compare(kernel, arguments, results, atol=2e-13):
    """Run a kernel compiled and as plain Python on copies, and compare the arrays at the given places."""
    first = [np.copy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    second = [np.copy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    kernel(*first)
    kernel.py_func(*second)
    for at in results:
        # Contracted multiplications and additions round once, not twice.
        np.testing.assert_allclose(first[at], second[at], rtol=0, atol=atol)
        assert not np.array_equal(first[at], arguments[at], equal_nan=True)


def test_pieces_compiled_and_in_plain_python():
    rng = np.random.default_rng(10)
    lanes = kernels.LANES
    for exact in (True, False):
        compare(kernels.add_waves, [block(rng), *some_waves(rng, 3), 0, 3, exact, block(rng)], [7])
    compare(kernels.drift, [block(rng), block(rng), 0.3], [0])
    compare(kernels.turn, [block(rng, unit=True), block(rng), 0.3], [0])
    compare(kernels.turn_far, [block(rng, unit=True), 9 * block(rng), 0.5, np.pi**2 / 0.25], [0])
    compare(kernels.rotate, [block(rng, unit=True), block(rng), 0.3], [0])
    state, ring = 0.3 * rng.normal(size=21 * lanes), rng.normal(size=(8, 3 * lanes))
    compare(kernels.predict, [state, 0.1, rng.normal(size=(2, 3, 8)), 1, ring, 5], [0])
    compare(
        kernels.add_past, [rng.normal(size=(2, 6, 5)), 1, 3, rng.normal(size=(2, 5, 3 * lanes)), 2, state], [5]
    )
    compare(kernels.correct, [state, -1.0, 0.1, 0.2, ring, 3], [0, 4])


def test_the_past_is_taken_from_the_newest_backwards():
    """Rings of forces and of sums against sums by numpy, of more rows than are taken at a time."""
    rng = np.random.default_rng(14)
    size = 3 * kernels.LANES
    before = rng.normal(size=7 * size)
    for rows, newest in ((4, 0), (8, 5), (12, 11)):
        ring, weights, state = rng.normal(size=(rows, size)), rng.normal(size=(2, 3, rows)), before.copy()
        kernels.predict(state, 0.3, weights, 1, ring, newest)
        position, direction, force = weights[1] @ ring[(newest - np.arange(rows)) % rows]
        np.testing.assert_allclose(
            state[3 * size : 6 * size],
            np.concatenate([before[:size] + 0.3 * before[2 * size : 3 * size] + position,
                            before[2 * size : 3 * size] + direction, force]),
            rtol=0, atol=1e-13,
        )  # fmt: skip
    for rows, newest in ((3, 0), (4, 3), (5, 1), (9, 8)):
        sums, weights, state = rng.normal(size=(2, rows, size)), rng.normal(size=(2, 6, rows)), before.copy()
        kernels.add_past(weights, 1, 4, sums, newest, state)
        expected = before[size : 2 * size] + weights[1, 4] @ sums[1, (newest - np.arange(rows)) % rows]
        np.testing.assert_allclose(state[size : 2 * size], expected, rtol=0, atol=1e-13)
        state[size : 2 * size] = before[size : 2 * size]
        np.testing.assert_array_equal(state, before)


def test_schemes_compiled_and_in_plain_python():
    rng = np.random.default_rng(11)
    place, way = rng.normal(size=(3, 3)), block(rng, unit=True)[:, :3].copy()
    arrays = some_field(12, n=4).arrays(1.0)
    out = np.zeros((2, 3, 3))
    steps, counts = np.array([0.1, 0.2]), np.array([2, 1])
    compare(kernels.leapfrog, [place, way, 1.0, steps, counts, *arrays, True, out, out], [9, 10])
    compare(kernels.anchored_leapfrog, [place, way, 1.0, steps, counts, *arrays, out, out], [8, 9], 1e-6)
    compare(kernels.compose, [place, way, 1.0, steps, counts, YOSHIDA_WEIGHTS, *arrays, out, out], [9, 10])
    radii, times = np.array([0.2, 0.6, 9.0]), np.zeros((3, 3))
    out = np.zeros((3, 3, 3))
    compare(
        kernels.first_crossings, [place, way, 1.0, 0.2, 9, radii, *arrays, True, times, out, out], [10, 11, 12]
    )
    compare(kernels.field_at, [place, *arrays, np.zeros((3, 3))], [4])
    plan = _PLANS[1e-3]
    prepared = _multirate(plan, 0.1, np.array([0.33, 2.9]), arrays[1][0])
    out = np.zeros((2, 3, 3))
    for single, error in ((False, ()), (True, (1e-5,))):
        told = [place, way, 1.0, *prepared[:-3], *arrays, True, single, *prepared[-3:], out, out, np.zeros(3)]
        compare(kernels.adams, told, [20, 21], *error)


def test_weights_of_the_multistep_scheme_are_the_textbook_ones():
    """Adams-Bashforth and -Moulton of fourth order: (55, -59, 37, -9) / 24, and 251/720 for the correction."""
    prepared = _multirate(_PLANS[1e-3], 0.5, np.array([10.0]), np.zeros((3, 0)))
    predict, corrector = prepared[2][0], prepared[3]
    np.testing.assert_allclose(predict[1], 0.5 * np.array([55, -59, 37, -9]) / 24, rtol=1e-13)
    np.testing.assert_allclose(predict[2], [4, -6, 4, -1], rtol=1e-13)
    # Stoermer's: the double integral of the same polynomial.
    np.testing.assert_allclose(predict[0], 0.25 * np.array([323, -264, 159, -38]) / 360, rtol=1e-13)
    assert corrector[1] == pytest.approx(0.5 * 251 / 720, rel=1e-13)
