"""The maximum of the likelihood on rings: known answers, independent solvers, relabellings. All simulations are
direct sums over the cube of expected counts, without Fourier transforms or tables of the package."""

import numpy as np
import pytest

from obsfit.reconstruct.gaps import HiddenGradientError
from obsfit.reconstruct.gather import GatherLikelihood
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.records.event_map import EventMap, HourAngleGrid, RingCounts
from obsfit.records.provenance import Provenance

EXACT = IterativeLikelihood(tolerance=1e-13)


def local_acceptance(n_dec, n_time, latitude_deg, zenith_deg):
    """Sharp cut in zenith angle, slope with it, and a pattern in azimuth; not normalised."""
    h = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    dec = np.pi * ((np.arange(n_dec)[:, None] + 0.5) / n_dec - 0.5)
    lat = np.radians(latitude_deg)
    up = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(h)
    west = np.cos(dec) * np.sin(h)
    north = np.cos(lat) * np.sin(dec) - np.sin(lat) * np.cos(dec) * np.cos(h)
    pattern = 1 + 0.1 * np.sin(2 * np.arctan2(west, north)) + 0.05 * np.cos(np.arctan2(west, north))
    return np.where(up > np.cos(np.radians(zenith_deg)), up * np.cos(dec) * pattern, 0.0)


def wavy_sky(n_dec, n_time, amplitude=1e-3, seed=11):
    """Low waves along each ring, of mean one."""
    rng = np.random.default_rng(seed)
    alpha = 2 * np.pi * np.arange(n_time) / n_time
    dec = np.pi * ((np.arange(n_dec)[:, None] + 0.5) / n_dec - 0.5)
    sky = 1 + amplitude * np.cos(dec) * (np.cos(alpha - 0.9) + 0.3 * np.sin(2 * dec) * np.cos(alpha + 2.0))
    for m in range(2, 7):
        shape = np.cos(dec) ** m * (rng.normal() + rng.normal() * np.sin(dec))
        sky = sky + amplitude / m**2 * shape * np.cos(m * alpha - rng.uniform(0, 6))
    return sky


def exposures(n_time, modulation=0.2, noise=0.05, gap=0, first=200, seed=5):
    tau = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    rng = np.random.default_rng(seed)
    values = (1 + modulation * np.cos(tau - 0.7)) * np.exp(noise * rng.normal(size=n_time))
    values[(first + np.arange(gap)) % n_time] = 0.0
    return values


def expected_counts(exposure, acceptance, sky):
    """Cube (t, r, j) of N_t A_rj I_r,t-j."""
    n_time = exposure.size
    cube = np.empty((n_time, *acceptance.shape))
    for t in range(n_time):
        for j in range(n_time):
            cube[t, :, j] = exposure[t] * acceptance[:, j] * sky[:, (t - j) % n_time]
    return cube


def event_map(cube, name="mock", **more):
    n_time, n_dec, _ = cube.shape
    planes = {key: plane.reshape(n_time, -1) for key, plane in more.items()}
    return EventMap(cube.reshape(n_time, -1), HourAngleGrid(n_dec, n_time), name, Provenance(name), **planes)


def sums_of_large_cube(exposure, acceptance, sky, name="mock"):
    """Ring sums ring by ring, for grids whose cube is large."""
    n_dec, n_time = acceptance.shape
    j = (np.arange(n_time)[:, None] - np.arange(n_time)) % n_time  # of bin t and sky cell k
    per_time, per_cell, per_sky = np.zeros(n_time), np.zeros((n_dec, n_time)), np.zeros((n_dec, n_time))
    for r in np.flatnonzero(acceptance.any(axis=1)):
        counts = exposure[:, None] * acceptance[r, j] * sky[r]
        per_time += counts.sum(axis=1)
        per_sky[r] = counts.sum(axis=0)
        np.add.at(per_cell[r], j, counts)
    grid = HourAngleGrid(n_dec, n_time)
    return RingCounts(per_time, per_cell, per_sky, per_cell.sum(axis=1), grid, name, Provenance(name))


def with_ring_means_one(sky, seen):
    return sky / np.mean(sky, axis=1, where=seen, keepdims=True, dtype=float)


def same_sky(result, sky, tolerance):
    seen = np.isfinite(result.relative_intensity)
    rows = seen.any(axis=1)
    truth = with_ring_means_one(sky[rows], seen[rows])
    found = result.relative_intensity[rows]
    np.testing.assert_allclose(found[seen[rows]], truth[seen[rows]], rtol=0, atol=tolerance)


def dipole(intensity, weight):
    """First harmonic of the rings, weighted by ring."""
    n_time = intensity.shape[1]
    wave = np.exp(2j * np.pi * np.arange(n_time) / n_time)
    return np.sum(weight[:, None] * np.nan_to_num(intensity) * wave) / weight.sum()


def test_isotropic_sky_gives_no_structure():
    cube = expected_counts(1e6 * exposures(36), local_acceptance(12, 36, 19, 57), np.ones((12, 36)))
    result = EXACT.reconstruct(event_map(cube))
    seen = np.isfinite(result.relative_intensity)
    assert seen.any()
    assert np.abs(result.relative_intensity[seen] - 1).max() < 1e-14


@pytest.mark.parametrize("gap", [0, 4])
@pytest.mark.parametrize("amplitude", [1e-3, 0.3])
def test_a_known_maximum_is_recovered(amplitude, gap):
    """Counts equal to their expectation have the truth as their maximum, also far beyond small anisotropies."""
    sky = wavy_sky(12, 36, amplitude)
    exposure, acceptance = 1e6 * exposures(36, 0.6, gap=gap, first=30), local_acceptance(12, 36, 19, 57)
    result = EXACT.reconstruct(event_map(expected_counts(exposure, acceptance, sky)))
    same_sky(result, sky, 1e-12)
    seen = np.isfinite(result.relative_intensity)
    mean = np.array([sky[r, seen[r]].mean() if seen[r].any() else 0.0 for r in range(12)])
    share = acceptance * mean[:, None]
    np.testing.assert_allclose(result.acceptance[0], share / share.sum(), rtol=1e-11)
    np.testing.assert_allclose(result.exposure[0], exposure * share.sum(), rtol=1e-11)


def dense_newton(cubes, seen_cells):
    """I of all sky cells with events, by Newton's method on every ln N, ln A, ln I; gauges by pseudo-inverse.

    Cells whose sky cell has no events have I = 0 at the maximum, and leave the problem.
    """
    n_time = cubes[0].shape[0]
    sky_events = np.zeros(cubes[0].shape[1:])
    for cube in cubes:
        for t, r, j in np.ndindex(cube.shape):
            sky_events[r, (t - j) % n_time] += cube[t, r, j]
    columns, rows, counts = {}, [], []
    for d, cube in enumerate(cubes):
        for t, r, j in np.ndindex(cube.shape):
            k = (t - j) % n_time
            if cube[t].sum() == 0 or cube[:, r, j].sum() == 0 or sky_events[r, k] == 0:
                continue
            names = (("N", d, t), ("A", d, r, j), ("I", r, k))
            rows.append([columns.setdefault(name, len(columns)) for name in names])
            counts.append(cube[t, r, j])
    design = np.zeros((len(rows), len(columns)))
    design[np.arange(len(rows))[:, None], rows] = 1.0
    counts = np.array(counts)
    theta = np.linalg.lstsq(design, np.log(counts + 0.5), rcond=None)[0]
    for _ in range(60):
        mu = np.exp(design @ theta)
        score = design.T @ (counts - mu)
        step = np.linalg.pinv(design.T @ (mu[:, None] * design), rcond=1e-11, hermitian=True) @ score
        theta = theta + step * min(1.0, 1.0 / np.abs(step).max())
        if np.abs(design @ step).max() < 1e-13:
            break
    intensity = np.where(seen_cells, 0.0, np.nan)
    for name, column in columns.items():
        if name[0] == "I":
            intensity[name[1], name[2]] = np.exp(theta[column])
    return intensity


@pytest.mark.parametrize(
    ("events", "gap", "n_detectors"), [(3e6, 0, 1), (3e6, 3, 1), (3e6, 4, 2), (400, 0, 1), (500, 0, 2)]
)
def test_rings_plain_gather_and_dense_newton_agree(events, gap, n_detectors):
    """Four solvers that share nothing; the smaller numbers of events leave sky cells empty."""
    rng = np.random.default_rng([7, int(events), gap])
    n_dec, n_time = 5, 14
    sky = wavy_sky(n_dec, n_time, 0.05)
    detectors = [(19, 62, gap), (-90, 75, 0)][:n_detectors]
    cubes = []
    for i, (latitude, zenith, empty) in enumerate(detectors):
        cube = expected_counts(
            exposures(n_time, 0.4, gap=empty, first=9, seed=i),
            local_acceptance(n_dec, n_time, latitude, zenith),
            sky,
        )
        cubes.append(rng.poisson(cube * events / cube.sum()).astype(float))
    maps = [event_map(cube, f"detector {i}") for i, cube in enumerate(cubes)]
    rings = IterativeLikelihood(tolerance=1e-12).reconstruct(maps).relative_intensity
    plain = IterativeLikelihood(tolerance=1e-13, depth=0, precondition=False, max_iterations=5000).reconstruct(
        maps
    )
    gather = GatherLikelihood(tolerance=1e-13, max_iterations=5000).reconstruct(maps)
    seen = np.isfinite(rings)
    newton = dense_newton(cubes, seen)
    for r in np.flatnonzero(seen.any(axis=1)):
        newton[r] /= newton[r, seen[r]].mean()
    if events < 1e4:
        assert np.sum(rings == 0.0) > 0
    np.testing.assert_allclose(plain.relative_intensity, rings, rtol=0, atol=1e-9)
    np.testing.assert_allclose(gather.relative_intensity.reshape(n_dec, n_time), rings, rtol=0, atol=1e-9)
    np.testing.assert_allclose(newton, rings, rtol=0, atol=1e-9)


def poisson_cube(seed=3, n_dec=8, n_time=24, events=1e5):
    rng = np.random.default_rng(seed)
    cube = expected_counts(
        exposures(n_time, 0.5), local_acceptance(n_dec, n_time, 19, 57), wavy_sky(n_dec, n_time, 0.02)
    )
    return rng.poisson(cube * events / cube.sum()).astype(float)


def test_times_a_bin_later_turn_the_sky_by_a_cell():
    cube = poisson_cube()
    before, after = (EXACT.reconstruct(event_map(c)).relative_intensity for c in (cube, np.roll(cube, 1, axis=0)))
    np.testing.assert_allclose(after, np.roll(before, 1, axis=1), rtol=0, atol=1e-12)


def test_hour_angles_a_cell_later_turn_the_sky_back():
    cube = poisson_cube()
    before, after = (EXACT.reconstruct(event_map(c)).relative_intensity for c in (cube, np.roll(cube, 1, axis=2)))
    np.testing.assert_allclose(after, np.roll(before, -1, axis=1), rtol=0, atol=1e-12)


def test_east_and_west_exchanged_with_the_sense_of_time_mirror_the_sky():
    cube = poisson_cube()
    before, after = (EXACT.reconstruct(event_map(c)).relative_intensity for c in (cube, cube[::-1, :, ::-1]))
    # t -> T - 1 - t and j -> T - 1 - j take cell t - j to minus itself.
    np.testing.assert_allclose(after, np.roll(before[:, ::-1], 1, axis=1), rtol=0, atol=1e-12)


def test_bands_from_north_to_south_turn_the_map_over():
    cube = poisson_cube()
    before, after = (EXACT.reconstruct(event_map(c)).relative_intensity for c in (cube, cube[:, ::-1]))
    np.testing.assert_allclose(after, before[::-1], rtol=0, atol=1e-12)


def test_the_order_of_detectors_does_not_matter_and_two_halves_are_one_whole():
    """Two detectors in the same proportions are the same as one with the sum of their events."""
    cube = poisson_cube()
    one = EXACT.reconstruct(event_map(cube)).relative_intensity
    parts = [event_map(0.25 * cube, "a"), event_map(0.75 * cube, "b")]
    for order in (parts, parts[::-1]):
        np.testing.assert_allclose(EXACT.reconstruct(order).relative_intensity, one, rtol=0, atol=1e-12)


def test_a_weight_common_to_all_events_changes_nothing():
    cube = poisson_cube()
    one = EXACT.reconstruct(event_map(cube))
    heavy = EXACT.reconstruct(event_map(3.7 * cube, squared_weights=3.7**2 * cube))
    np.testing.assert_allclose(heavy.relative_intensity, one.relative_intensity, rtol=0, atol=1e-12)
    np.testing.assert_allclose(heavy.expected, 3.7 * one.expected, rtol=1e-12)


def test_weights_by_local_direction_are_another_acceptance():
    cube = expected_counts(1e4 * exposures(24), local_acceptance(8, 24, 19, 57), wavy_sky(8, 24))
    weight = 1 + 2 * (np.arange(24) / 24) * np.linspace(0.5, 1, 8)[:, None]
    same_sky(EXACT.reconstruct(event_map(weight * cube, squared_weights=weight**2 * cube)), wavy_sky(8, 24), 1e-12)


def test_many_empty_cells_are_zero_and_counts_are_conserved():
    cube = poisson_cube(events=700)
    result = IterativeLikelihood().reconstruct(event_map(cube))
    seen = np.isfinite(result.relative_intensity)
    empty = seen & (result.counts == 0)
    assert empty.sum() > 0.02 * seen.sum()
    assert np.all(result.relative_intensity[empty] == 0.0)
    np.testing.assert_allclose(
        result.relative_intensity[seen] * result.expected[seen], result.counts[seen], rtol=1e-12, atol=0
    )
    model = expected_counts(result.exposure[0], result.acceptance[0], np.nan_to_num(result.relative_intensity))
    np.testing.assert_allclose(model.sum(axis=(1, 2)), cube.sum(axis=(1, 2)), rtol=1e-8)
    np.testing.assert_allclose(model.sum(axis=0), cube.sum(axis=0), rtol=1e-8, atol=1e-12)


@pytest.fixture(scope="module")
def hawc_and_icecube():
    """At 128 x 360: sky, acceptances at 19 degrees (cut 57) and at the pole (cut 65)."""
    return wavy_sky(128, 360), local_acceptance(128, 360, 19, 57), local_acceptance(128, 360, -90, 65)


def relative_dipole_error(result, sky):
    seen = np.isfinite(result.relative_intensity)
    weight = result.counts.sum(axis=1)
    truth = np.where(
        seen, with_ring_means_one(np.where(seen, sky, 1.0), seen | ~seen.any(axis=1, keepdims=True)), 0.0
    )
    exact = dipole(truth, weight)
    return abs(dipole(result.relative_intensity, weight) - exact) / abs(exact)


@pytest.mark.parametrize(
    ("modulation", "gap", "most"),
    [(0.2, 0, 8), (0.6, 0, 10), (0.2, 30, 9), (0.2, 60, 10), (0.2, 90, 12), (0.2, 118, 20)],
)
def test_dipole_at_19_degrees_with_the_practical_stop(hawc_and_icecube, modulation, gap, most):
    """To 1e-6 of the exact maximum by the solver's own judgement, without false convergence by gaps."""
    sky, acceptance, _ = hawc_and_icecube
    result = IterativeLikelihood().reconstruct(
        sums_of_large_cube(1e8 * exposures(360, modulation, gap=gap), acceptance, sky)
    )
    assert relative_dipole_error(result, sky) < 1e-6
    same_sky(result, sky, 1e-9)
    assert result.iterations <= most


@pytest.mark.parametrize(("modulation", "gap", "most"), [(0.2, 0, 8), (0.6, 0, 8), (0.2, 90, 12)])
def test_dipole_to_one_in_ten_thousand_in_few_passes(hawc_and_icecube, modulation, gap, most):
    sky, acceptance, _ = hawc_and_icecube
    result = IterativeLikelihood(tolerance=1e-7).reconstruct(
        sums_of_large_cube(1e8 * exposures(360, modulation, gap=gap), acceptance, sky)
    )
    assert relative_dipole_error(result, sky) < 1e-4
    assert result.iterations <= most


@pytest.mark.parametrize("gap", [0, 90, 130])
def test_two_detectors_with_the_practical_stop(hawc_and_icecube, gap):
    sky, acceptance, polar = hawc_and_icecube
    counts = [
        sums_of_large_cube(1e8 * exposures(360, gap=gap), acceptance, sky, "HAWC"),
        sums_of_large_cube(3e8 * exposures(360, 0.3, seed=8), polar, sky, "IceCube"),
    ]
    result = IterativeLikelihood().reconstruct(counts)
    assert relative_dipole_error(result, sky) < 1e-6
    same_sky(result, sky, 1e-9)


def test_one_preconditioned_step_is_exact_for_uniform_exposure_and_a_weak_anisotropy():
    """Two overlapping detectors of unequal size: each further pass gains the smallness of the anisotropy, 1e-5."""
    sky = wavy_sky(32, 72, 1e-5)
    counts = [
        sums_of_large_cube(size * np.ones(72), local_acceptance(32, 72, latitude, 50), sky, f"at {latitude}")
        for latitude, size in ((19, 1e6), (40, 1e7))
    ]
    result = IterativeLikelihood(tolerance=1e-13, depth=0).reconstruct(counts)
    assert result.iterations <= 4
    same_sky(result, sky, 1e-12)


def test_random_detectors_converge_to_the_truth_or_are_refused_for_a_gap():
    """One to three detectors anywhere, exposures modulated up to 95 %, gaps up to half a turn, sizes 1 to 10^4."""
    refused = 0
    for seed in range(30):
        rng = np.random.default_rng([31, seed])
        sky = wavy_sky(16, 48, 10 ** rng.uniform(-4, -0.7), seed)
        counts = []
        for i in range(rng.integers(1, 4)):
            acceptance = local_acceptance(16, 48, rng.uniform(-90, 90), rng.uniform(20, 70))
            gap, first = int(rng.integers(0, 25) * (rng.random() < 0.5)), int(rng.integers(48))
            size = 10 ** rng.uniform(5, 9)
            exposure = size * exposures(48, rng.uniform(0, 0.95), 0.2, gap, first, seed)
            counts.append(sums_of_large_cube(exposure, acceptance, sky, f"detector {i}"))
        try:
            result = IterativeLikelihood().reconstruct(counts)
        except HiddenGradientError:
            refused += 1
            continue
        assert result.iterations < 40
        same_sky(result, sky, 1e-8)
    assert 0 < refused < 10


def test_the_plain_step_is_a_poor_judge(hawc_and_icecube):
    """What the stop rule is for: steps of 1e-7 without preconditioning leave more than 1e-4 of the dipole."""
    sky, acceptance, _ = hawc_and_icecube
    result = IterativeLikelihood(tolerance=1e-7, depth=0, precondition=False).reconstruct(
        sums_of_large_cube(1e8 * exposures(360), acceptance, sky)
    )
    assert relative_dipole_error(result, sky) > 1e-4


@pytest.mark.parametrize("with_pole", [False, True])
def test_cells_against_the_continuous_sky(with_pole):
    """Dipole of a sky integrated over 4 x 4 x 4 points of each time bin and cell, at 64 x 180: below 5e-4.

    The relative intensity that a dipole fits is that of points. The error falls with the square of the cells.
    """
    n_dec, n_time, fine = 64, 180, 4
    grid = HourAngleGrid(n_dec, n_time)
    offsets = (np.arange(fine) + 0.5) / fine
    counts = []
    for latitude, zenith in [(19.0, 57.0), (-90.0, 65.0)][: 1 + with_pole]:
        lat, cut = np.radians(latitude), np.cos(np.radians(zenith))
        per_time, per_cell, per_sky = np.zeros(n_time), np.zeros((n_dec, n_time)), np.zeros((n_dec, n_time))
        t, j = np.arange(n_time)[:, None], np.arange(n_time)
        for r in range(n_dec):
            cells = np.zeros((n_time, n_time))
            for u in offsets:
                dec = np.pi * ((r + u) / n_dec - 0.5)
                for v in offsets:
                    h = 2 * np.pi * (j + v) / n_time
                    up = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(h)
                    share = np.where(up > cut, up * np.cos(dec), 0.0)
                    if not share.any():
                        continue
                    for w in offsets:
                        tau = 2 * np.pi * (t + w) / n_time
                        sky = 1 + 1e-3 * np.cos(dec) * np.cos(tau - h - 0.9)
                        cells += 1e6 * (1 + 0.2 * np.cos(tau - 0.7)) * share * sky
            per_time += cells.sum(axis=1)
            per_cell[r] = cells.sum(axis=0)
            np.add.at(per_sky[r], (t - j) % n_time, cells)
        counts.append(
            RingCounts(per_time, per_cell, per_sky, per_cell.sum(axis=1), grid, "mock", Provenance("mock"))
        )
    result = IterativeLikelihood().reconstruct(counts)
    seen = np.isfinite(result.relative_intensity)
    dec, alpha = np.meshgrid(grid.dec_rad, grid.right_ascension_rad, indexing="ij")
    waves = (np.cos(dec) * np.array([np.cos(alpha), np.sin(alpha)]))[:, seen] * np.sinc(1 / n_time) ** 2
    root = np.sqrt(result.expected[seen])
    found = np.linalg.lstsq((root * waves).T, root * (result.relative_intensity[seen] - 1), rcond=None)[0]
    np.testing.assert_allclose(found, 1e-3 * np.array([np.cos(0.9), np.sin(0.9)]), rtol=0, atol=5e-7)
