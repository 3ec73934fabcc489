"""Figures of GS: orbits by another integrator, dipoles in closed form, and tables of small runs."""

from dataclasses import replace
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.table import Table

from obsfit.plot import runner
from obsfit.plot.report import read_expected

FOLDER = Path(__file__).parents[2] / "analyses"
GS = FOLDER / "giacinti_sigl_2012"


def small(module):
    """Shrink the sizes of a figure: 768 directions, spheres up to 100 pc, two fields."""
    orbits = module.orbits
    orbits.NSIDE, orbits.REALISATION_NSIDE = 8, 4
    orbits.QUICK = replace(
        orbits.QUICK, nside=8, largest_pc={10: 100.0, 50: 100.0}, patch_nside=64, realisations=2
    )
    module.NSIDE = 64
    return module


def context(tmp_path, folder=GS, key="gs", full=False):
    directory = tmp_path / key
    directory.mkdir(exist_ok=True)
    expected = read_expected(folder / "expected.ecsv")
    return runner.Context(directory, full, np.random.default_rng(1), 1, expected)


@pytest.fixture(scope="module")
def orbits():
    return runner.load_program(GS / "_orbits.py")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def straight(orbits):
    """A field too weak to turn anything."""
    whole = orbits.field(np.random.default_rng(3))
    waves = replace(whole.waves, amplitude=1e-9 * whole.waves.amplitude)
    return replace(whole, waves=waves)


def test_axes_are_right_handed_with_the_galactic_centre_at_minus_y(orbits):
    """l = 0 towards the centre, l = 90 degrees, north: their product has the sign of a right-handed frame."""
    centre, rotation, north = orbits.direction(np.array([0.0, 90.0, 33.0]), np.array([0.0, 0.0, 90.0])).T
    assert np.allclose(centre, [0, -1, 0], atol=1e-12)
    assert np.allclose(rotation, [1, 0, 0], atol=1e-12)
    assert np.allclose(north, [0, 0, 1], atol=1e-12)
    assert np.allclose(np.cross(centre, rotation), north, atol=1e-12)


def test_numbers_of_the_paper(orbits):
    """Gyroradii: 1.081 pc (R / PV) (microgauss / B)."""
    assert orbits.gyroradius_pc(10) == pytest.approx(2.703, abs=2e-3)
    assert orbits.gyroradius_pc(50) == pytest.approx(13.51, abs=1e-2)
    assert orbits.spectrum().wavelength_max == 150.0
    assert orbits.spectrum().bend_over is None
    assert orbits.field(np.random.default_rng(1)).waves.mean_square == pytest.approx(1.0, rel=1e-12)


def test_a_rigidity_feels_the_same_long_waves(orbits):
    whole = orbits.shown_field(1)
    low, high = orbits.felt(whole, 10).waves, orbits.felt(whole, 50).waves
    wavelength = 2 * np.pi / np.linalg.norm(high.wavevector, axis=0)
    assert wavelength.min() > orbits.gyroradius_pc(50) / 5
    assert low.phase.size == whole.waves.phase.size > high.phase.size > 30
    assert set(high.phase) < set(low.phase)


def test_without_deflection_the_sky_is_the_gradient(orbits):
    """F = 1 + (R / 290 pc) n . e_Y: dipole R / 290 pc towards Y, nothing else; crossings after R / c."""
    arrival = orbits.arrivals(4, np.arange(192))
    place, time = orbits.crossings(straight(orbits), 10, arrival, [10.0, 250.0])
    assert np.allclose(place, np.array([10.0, 250.0])[:, None, None] * arrival, atol=1e-4)
    assert np.allclose(time, np.array([[10.0], [250.0]]), rtol=1e-6)
    height = np.empty(192)
    height[hp.nest2ring(4, np.arange(192))] = place[1, 1]
    residual, dipole = orbits.less_dipole(height)
    assert np.allclose(dipole, [0.0, 250 / 290, 0.0], atol=1e-5)
    assert np.abs(residual).max() < 1e-5


def runge_kutta(waves, arrival, gyroradius, radius, step):
    """Place where each particle first crosses a sphere: classical Runge-Kutta, plain sums of cosines; lengths in pc."""

    def rate(state):
        r, p = state
        phase = waves.wavevector.T @ r + waves.phase[:, None]
        b = waves.amplitude @ np.cos(phase)
        return np.array([-p, -np.cross(p, b, axis=0) / gyroradius])

    state = np.array([np.zeros_like(arrival), -arrival])
    out = np.full(arrival.shape, np.nan)
    while np.isnan(out).any():
        k1 = rate(state)
        k2 = rate(state + 0.5 * step * k1)
        k3 = rate(state + 0.5 * step * k2)
        k4 = rate(state + step * k3)
        new = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        before, after = np.linalg.norm(state[0], axis=0), np.linalg.norm(new[0], axis=0)
        crossed = np.isnan(out[0]) & (after >= radius)
        share = (radius - before[crossed]) / (after[crossed] - before[crossed])
        out[:, crossed] = state[0][:, crossed] + share * (new[0] - state[0])[:, crossed]
        state = new
    return out


@pytest.mark.parametrize(("rigidity", "radius"), [(10, 4.0), (50, 20.0)])
def test_crossings_by_runge_kutta(orbits, rigidity, radius):
    """dr/ds = -p, dp/ds = -p x B / r_g with plain cosines; our leapfrog of 0.08 gyroradii errs by a percent."""
    whole = orbits.shown_field(4)
    arrival = orbits.direction(
        np.array([0.0, 77.0, 160.0, 200.0, 301.0]), np.array([10.0, -50.0, 5.0, 70.0, -20.0])
    )
    gyroradius = orbits.gyroradius_pc(rigidity)
    ours = orbits.crossings(whole, rigidity, arrival, [radius])[0][0]
    other = runge_kutta(orbits.felt(whole, rigidity).waves, arrival, gyroradius, radius, 0.01 * gyroradius)
    assert np.abs(ours - other).max() < 0.015 * radius
    # The field turns them: not the straight line by far.
    assert np.abs(ours - radius * arrival).max() > 0.2 * radius


def test_the_correlation_is_freed_of_noise(orbits):
    """True correlation 0.6 under noise twice as strong; five standard deviations of 20000 products, 6e-7."""
    rng = np.random.default_rng(9)
    common, own = rng.normal(size=(2, 20000))
    first, second = common, 0.6 * common + 0.8 * own
    a = first + 2 * rng.normal(size=(2, 20000))
    b = second + 2 * rng.normal(size=(2, 20000))
    found = orbits.correlation(a, b)
    assert found == pytest.approx(0.6, abs=5 * 5 / np.sqrt(20000))
    assert np.corrcoef(a[0], b[0])[0, 1] < 0.2


def test_the_sky_does_not_depend_on_its_chunks(tmp_path):
    """Four tasks and one; and each pixel holds the mean of the sixteen directions inside it."""
    module = small(runner.load_program(GS / "figure1.py"))
    parts = module.orbits
    skies = []
    for chunks in (1, 4):
        parts.QUICK = replace(parts.QUICK, nside=32, largest_pc={50: 10.0}, chunks=chunks)
        skies.append(parts.sky(context(tmp_path), 50))
    one, four = skies
    np.testing.assert_allclose(one.halves, four.halves, rtol=1e-12)
    pixel = 100
    inside = np.flatnonzero(hp.nest2ring(8, np.arange(12 * 32**2) // 16) == pixel)
    place, _ = parts.crossings(parts.shown_field(1), 50, parts.arrivals(32, inside), [10.0])
    assert one.whole(10.0)[pixel] == pytest.approx(place[0, 1].mean(), rel=1e-9)
    # A result of another configuration is not kept beside.
    assert len(list((tmp_path / "giacinti-sigl-orbits").iterdir())) == 1


def test_dipoles_of_fields_are_of_the_right_size(orbits):
    """Two halves with equal dipoles and unequal noise: the squared amplitude has no noise in it."""
    rng = np.random.default_rng(6)
    dipole = np.tile(0.1 * np.eye(3), (400, 2, 1, 1, 1)) + 0.2 * rng.normal(size=(400, 2, 1, 3, 3))
    found = orbits.Realisations(np.array([100.0]), dipole, np.ones((400, 1)))
    rms, error = found.root_mean_square(100.0)
    along, along_error = found.along(100.0)
    # Five standard errors: 6e-7 each.
    assert abs(rms**2 - 0.01) < 5 * 2 * rms * error
    assert abs(along - 0.1) < 5 * along_error
    assert along_error == pytest.approx(0.2 / np.sqrt(6 * 400), rel=0.2)


def test_where_patterns_have_converged():
    figure = runner.load_program(GS / "figure2.py")
    assert figure.converged_from([10, 25, 50, 100], [0.1, 0.75, 0.9, 1.0]) == 25
    assert figure.converged_from([10, 25, 50, 100], [0.8, 0.6, 0.9, 1.0]) == 50
    assert figure.converged_from([10, 25, 50, 100], [0.8, 0.6, float("nan"), 1.0]) == 100


@pytest.mark.parametrize("name", ["figure1", "figure2", "figure3"])
def test_the_figure_is_made_and_says_what_it_is(store, name):
    module = small(runner.load_program(GS / f"{name}.py"))
    entry = module.make(context(store))
    assert (entry.key, entry.paper, entry.status) == (f"gs-{name}", "GS", "mock equivalent")
    for file in (entry.image, entry.svg, entry.table):
        assert (store / "gs" / file).stat().st_size > 1000 or file == entry.table
    assert len(entry.alt) > 100
    assert entry.seed == 1
    assert "directions" in entry.size_note
    assert any("not" in deviation and "field" in deviation for deviation in entry.deviations)
    compared = {comparison.quantity for comparison in entry.comparisons if comparison.ours is not None}
    missing = {comparison.quantity for comparison in entry.comparisons} - compared
    assert missing <= {"statistical fluctuations"}


def test_the_table_of_the_patch(store):
    """Orbits leave the spheres in order of their radii, at places inside them."""
    module = small(runner.load_program(GS / "figure3.py"))
    module.make(context(store))
    rows = Table.read(store / "gs" / "figure3.ecsv", format="ascii.ecsv")
    assert rows["longitude"].tolist() == [154, 156, 163, 164]
    assert np.all(rows["time_within_4pc"] >= 3.99)
    assert np.all(rows["time_within_20pc"] > rows["time_within_4pc"])
    assert np.all(rows["time_within_200pc"] > rows["time_within_20pc"])
    assert np.all(np.abs(rows["y_at_20pc"]) < 20.2)


def test_neighbours_part_after_strangers(orbits):
    """Paths by hand: two that part at t = 2 by one pc, and one that goes the other way."""
    figure = runner.load_program(GS / "figure3.py")
    times = np.arange(5.0)
    line = np.array([times, 0 * times, 0 * times])
    near = line + np.array([0 * times, np.where(times > 2, 1.0, 0.0), 0 * times])
    paths = np.array([line, near, -line])
    assert figure.apart(paths, times, 0, 1, 0.5) == 3.0
    assert figure.apart(paths, times, 0, 2, 0.5) == 1.0
    assert np.isnan(figure.apart(paths, times, 0, 0, 0.5))
