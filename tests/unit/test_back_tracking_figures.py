"""Figures 9, 12, 13 and 16 of AM17, and the drawing of orbits: closed forms, limits, and what the entries say."""

from dataclasses import replace
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.table import Table
from matplotlib.backends.backend_agg import FigureCanvasAgg

from obsfit.plot import runner
from obsfit.plot.orbits import draw_patch, draw_paths, within
from obsfit.plot.report import read_expected
from obsfit.plot.style import new_figure

FOLDER = Path(__file__).parents[2] / "analyses" / "ahlers_mertsch_2017"


def program(name):
    return runner.load_program(FOLDER / f"{name}.py")


def context(tmp_path):
    return runner.Context(tmp_path, False, np.random.default_rng(1), 1, read_expected(FOLDER / "expected.ecsv"))


def weak(field):
    """The same field with waves too weak to be felt."""
    return replace(field, waves=replace(field.waves, amplitude=1e-9 * field.waves.amplitude))


def test_a_path_is_cut_where_it_leaves_the_sphere():
    path = np.array([[0.0, 3.0, 5.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.0] * 4])
    assert within(path, 4.0).shape == (3, 3)
    assert within(path, 6.0).shape == (3, 4)
    with pytest.raises(ValueError, match="expected a positive length"):
        within(path, 0.0)
    with pytest.raises(ValueError, match=r"expected \(3, n\)"):
        within(path[:2], 1.0)


def test_paths_are_projected_on_the_plane_that_is_asked_for():
    axes = new_figure().subplots()
    path = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    draw_paths(axes, [path, -path], extent=10.0, plane=(0, 2), names=("X", "Z"), labels=["a", "b"])
    assert axes.lines[0].get_xydata().tolist() == [[0.0, 0.0], [1.0, 3.0]]
    assert axes.lines[1].get_xydata().tolist() == [[0.0, 0.0], [-1.0, -3.0]]
    assert axes.get_xlim() == pytest.approx((-10.6, 10.6))
    assert [text.get_label() for text in axes.lines[:2]] == ["a", "b"]
    # Told apart without colours too.
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    for wrong in ({"paths": [], "extent": 1.0}, {"paths": [path], "extent": -1.0}):
        with pytest.raises(ValueError, match=r"no paths|expected a positive"):
            draw_paths(axes, **wrong)
    with pytest.raises(ValueError, match="2 labels for 1 paths"):
        draw_paths(axes, [path], extent=1.0, labels=["a", "b"])


def test_longitude_grows_to_the_left_in_a_patch():
    lon, lat = hp.pix2ang(64, np.arange(12 * 64**2), lonlat=True)
    bright = (np.abs(lon - 175) < 3) & (np.abs(lat - 25) < 3)
    figure = new_figure()
    axes = figure.subplots()
    draw_patch(axes, 1.0 * bright, longitude=(150, 180), latitude=(0, 30), limits=(-1, 1), marks=[(160, 5)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba()).astype(int)

    def colour(longitude, latitude):
        column, row = axes.transData.transform((longitude, latitude))
        return picture[picture.shape[0] - 1 - round(row), round(column)]

    assert axes.transData.transform((175, 25))[0] < axes.transData.transform((155, 25))[0]
    red, _, blue, _ = colour(175, 25)
    assert red > blue + 40
    assert np.ptp(colour(155, 25)[:3]) < 15
    with pytest.raises(ValueError, match="lower before the upper"):
        draw_patch(axes, 1.0 * bright, longitude=(180, 150), latitude=(0, 30), limits=(-1, 1))


def test_a_change_of_a_helper_in_another_folder_makes_figures_stale(tmp_path):
    """Fig. 13 shows what the helpers of another paper's folder compute."""
    for folder, name in (("one", "figure1.py"), ("two", "_shared.py")):
        (tmp_path / "analyses" / folder).mkdir(parents=True)
        (tmp_path / "analyses" / folder / name).write_text('KEY = TITLE = PAPER = FIGURE = "a"\n')
    figure = tmp_path / "analyses/one/figure1.py"
    figure.write_text(
        'KEY = "a"\nTITLE = "b"\nPAPER = "c"\nFIGURE = "d"\n'
        "from obsfit.plot.report import FigureEntry\n\ndef make(context):\n"
        '    with (context.directory / "calls").open("a") as stream:\n        stream.write("x")\n'
        '    return FigureEntry(KEY, PAPER, FIGURE, TITLE, "sketch", caption="", alt="")\n'
    )
    analyses = runner.discover(tmp_path / "analyses")
    for expected in ("x", "x", "xx"):
        if expected == "xx":
            (tmp_path / "analyses/two/_shared.py").write_text("A = 2\n")
        runner.run(analyses, tmp_path / "results", seed=1, environment={})
        assert (tmp_path / "results/a/calls").read_text() == expected


def test_dipoles_in_a_uniform_field_are_those_of_helices():
    """u = -p starts along n and turns by +s about B: r = (n_x sin s - n_y (1 - cos s), ..., n_z s) in gyroradii.

    The leapfrog, with steps of a quarter, draws circles too small by half a percent.
    """
    figure = program("figure9")
    figure.GYRORADII = np.array([0.5])
    found = figure.dipoles([weak(figure.field(np.random.default_rng(2)))], 8)
    time, angle = figure.time_of(0.5), np.radians(80.0)
    x, y, z = found.vector[0, 0]
    assert z == pytest.approx(0.5 * time * np.cos(angle), rel=1e-4)
    assert x == pytest.approx(0.5 * np.sin(time) * np.sin(angle), rel=0.01)
    assert y == pytest.approx(-0.5 * (1 - np.cos(time)) * np.sin(angle), rel=0.01)


def test_rigidities_share_the_field_and_its_energy_is_that_of_the_mean_field():
    figure = program("figure9")
    whole = figure.field(np.random.default_rng(5))
    assert whole.waves.mean_square == pytest.approx(1.0, rel=1e-12)
    assert whole.uniform.tolist() == [0.0, 0.0, 1.0]
    counts = [figure.felt(whole, float(r)).waves.phase.size for r in figure.GYRORADII]
    assert counts[0] == whole.waves.phase.size
    assert np.all(np.diff(counts) < 0)
    longest = np.sort(np.linalg.norm(whole.waves.wavevector, axis=0))[: counts[-1]]
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(figure.felt(whole, 3.0).waves.wavevector, axis=0)), longest, rtol=1e-12
    )
    assert figure.gradient() @ [0, 0, 1] == pytest.approx(np.cos(np.radians(80)))


def test_amplitudes_are_freed_of_noise():
    """Dipole (0.3, 0, 0.4) under noise of 0.5: 2000 fields, five standard errors (6e-7)."""
    figure = program("figure9")
    rng = np.random.default_rng(8)
    halves = np.array([0.3, 0.0, 0.4]) + 0.5 * rng.normal(size=(2000, 1, 2, 3))
    found = figure.Dipoles(halves)
    product = np.sum(halves[:, 0, 0] * halves[:, 0, 1], axis=-1)
    assert found.root_mean_square[0] ** 2 == pytest.approx(0.25, abs=5 * product.std() / np.sqrt(2000))
    # The noise of four fields is as large as the dipole: 500 groups of four, each freed of it.
    groups = [figure.Dipoles(part).mean[0] ** 2 for part in np.split(halves, 500)]
    assert figure.Dipoles(halves).mean[0] == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(4000))
    assert np.mean(groups) < 0.25 + 0.5 * 3 * 0.125 / 4
    assert found.noise[0] == pytest.approx(0.5 * np.sqrt(3 / 2), rel=0.05)


def test_pairs_start_at_their_angle_and_keep_it_where_nothing_turns_them():
    figure = program("figure16")
    rng = np.random.default_rng(3)
    arrival = np.array(hp.pix2vec(2, np.arange(48)))
    other = figure.turned(arrival, 20.0, rng)
    np.testing.assert_allclose(np.sum(arrival * other, axis=0), np.cos(np.radians(20.0)), rtol=1e-12)
    field = weak(figure.orbits.field(np.random.default_rng(1)))
    cosine = figure.alignment([field], np.array([0.0, 5.0]), 2, rng)
    expected = np.cos(np.radians([angle for angle, _ in figure.PAIRS]))
    np.testing.assert_allclose(cosine, np.stack([expected, expected], axis=1), atol=1e-6)


def test_closer_pairs_stay_together_longer():
    """One field and 48 pairs: curves of 1, 20 and 60 degrees are apart by many times their scatter."""
    figure = program("figure16")
    field = figure.orbits.felt(figure.orbits.shown_field(1), 10)
    times = np.array([0.0, 10.0, 20.0])
    close, _, middle, wide, little, much = figure.alignment([field], times, 2, np.random.default_rng(2))
    assert np.all(close > middle)
    assert np.all(middle > wide)
    assert np.all(little[1:] > much[1:])
    assert figure.half_time(times, np.array([0.5, 0.3, 0.2])) == 20.0
    assert np.isnan(figure.half_time(times, np.array([1.0, 0.9, 0.6])))


def test_the_scattering_length_of_the_sketch_is_that_of_the_crossings():
    """<r^2> / 2 T against R^2 / 2 T of a sphere: two estimates in one field, which agree within a third."""
    figure = program("figure12")
    field = figure.orbits.shown_field(1)
    arrival = figure.orbits.arrivals(4, np.arange(192))
    _, time = figure.orbits.crossings(field, 10, arrival, [50.0])
    length = figure.scattering_length_pc(figure.orbits.felt(field, 10))
    assert length == pytest.approx(50.0**2 / (2 * time.mean()), rel=0.35)


def test_flows_are_ballistic_then_mixed(tmp_path):
    figure = program("figure12")
    entry = figure.make(context(tmp_path))
    assert entry.status == "sketch"
    rows = Table.read(tmp_path / entry.table, format="ascii.ecsv")
    assert rows["nu_t"].tolist() == [0.1, 1.0, 10.0]
    assert rows["distance_over_path"][0] > 0.97
    assert rows["distance_over_path"][2] < 0.6
    # Rays 7.5 degrees apart.
    assert rows["gap_over_distance"][0] == pytest.approx(2 * np.sin(np.radians(3.75)), rel=0.05)
    assert rows["gap_over_distance"][2] > 2 * rows["gap_over_distance"][0]
    assert (tmp_path / entry.image).read_bytes().startswith(b"\x89PNG")


def test_figure_13_is_a_part_of_figure_2_of_gs(tmp_path):
    figure = program("figure13")
    figure.orbits.NSIDE = 8
    figure.orbits.QUICK = replace(figure.orbits.QUICK, nside=8, largest_pc={10: 100.0, 50: 100.0})
    (tmp_path / "am17-figure13").mkdir()
    entry = figure.make(context(tmp_path / "am17-figure13"))
    rows = Table.read(tmp_path / "am17-figure13" / entry.table, format="ascii.ecsv")
    assert [(row["rigidity"], row["radius"]) for row in rows] == [(r, d) for r in (10, 50) for d in (100, 50, 25)]
    assert all(comparison.ours is not None for comparison in entry.comparisons)
    # The other figures find these orbits.
    stored = {folder.name.split("-")[1] for folder in (tmp_path / "giacinti-sigl-orbits").iterdir()}
    assert stored == {"sky10", "sky50"}
