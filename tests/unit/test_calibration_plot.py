"""Figures of a calibration: what they draw is what the table says."""

import numpy as np
import pytest
from astropy.table import Table, vstack
from scipy import stats

from obsfit.plot.calibration import coverage_figure, ecdf_figure, rank_figure, write_calibration
from obsfit.plot.style import styled
from obsfit.study.calibration import ragged, ranks_table


def table(n, n_par, *, study="s", seed=1):
    names = tuple(f"p{i}" for i in range(n_par))
    return ranks_table(names, np.random.default_rng(seed).random((n, n_par)), study=study)


@pytest.mark.parametrize("n_par", [1, 3, 6])
def test_histograms_count_all_ranks(n_par):
    rows = table(100, n_par)
    with styled():
        figure = rank_figure(rows)
        figure.canvas.draw()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == n_par
    for axes, row in zip(shown, rows, strict=True):
        (outline,) = [patch for patch in axes.patches if patch.get_path().vertices.shape[0] > 5]
        x, y = outline.get_xy().T
        # The outline goes along the tops of five bins, from left to right.
        level = np.flatnonzero((np.diff(y) == 0) & (np.diff(x) > 0.1))
        counts = [np.sum((row["ranks"] >= k / 5) & (row["ranks"] < (k + 1) / 5)) for k in range(5)]
        assert y[level].tolist() == counts
        assert row["parameter"] in axes.get_title()


def test_coverage_points_stand_where_the_table_has_them():
    """Filled where judged, hollow where not; parameters from top to bottom."""
    first, second = table(50, 2, study="a"), table(40, 1, study="b")
    second["judged"] = False
    ranks = [*first["ranks"], *second["ranks"]]
    for rows in (first, second):
        rows.remove_column("ranks")
    both = vstack([first, second])
    both["ranks"] = ragged(ranks)
    with styled():
        figure = coverage_figure(both)
    (axes,) = figure.axes
    drawn = {}
    for container in axes.containers:
        line = container.lines[0]
        drawn[container.get_label()] = (line.get_xdata().tolist(), line.get_ydata().tolist())
    assert drawn["68 % interval"] == (both["coverage_68"][:2].tolist(), [2, 1])
    assert drawn["95 % interval, not judged"] == (both["coverage_95"][2:].tolist(), [0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a fit: p0", "a fit: p1", "b fit: p0"]


def test_lines_are_distributions_less_the_diagonal():
    rows = table(60, 10)
    with styled():
        figure = ecdf_figure(rows)
    lines = figure.axes[0].get_lines()[1:]
    assert len(lines) == 10
    # More parameters than colours: no two lines look the same.
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 10
    x, y = lines[3].get_data()
    np.testing.assert_allclose(y, stats.ecdf(rows["ranks"][3]).cdf.evaluate(x) - x, atol=1e-12)


def test_the_table_and_all_figures_are_written_and_read_back(tmp_path):
    first, second = table(30, 2, study="a"), table(20, 2, study="b")
    ranks = [*first["ranks"], *second["ranks"]]
    rows = {name: [*first[name], *second[name]] for name in first.colnames if name != "ranks"}
    both = Table(rows)
    both["ranks"] = ragged(ranks)
    write_calibration(both, tmp_path, description="Test", settings={"date": "today"})
    names = {"coverage", "ranks-a-fit", "ranks-b-fit", "ecdf-a-fit", "ecdf-b-fit"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "calibration.ecsv", *(f"{name}.{suffix}" for name in names for suffix in ("png", "svg"))
    }  # fmt: skip
    read = Table.read(tmp_path / "calibration.ecsv")
    assert read.meta["settings"]["date"] == "today"
    for one, other in zip(read["ranks"], ranks, strict=True):
        np.testing.assert_array_equal(one, other)
