"""Plots of a calibration: coverage of all parameters, histograms of ranks, and their distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from scipy import stats

from obsfit.plot.products import write_table
from obsfit.plot.style import COLOURS, LINE_STYLES, new_figure, save, series_style, styled
from obsfit.study.calibration import ecdf_band, number_of_bins
from obsfit.study.coverage import LEVELS

BAND = 0.95
"""Probability of a band in plots: of each bin of a histogram, and of a whole distribution."""
_COLUMNS = 4


def coverage_figure(table: Table) -> Figure:
    """Return a figure of how often 68 and 95 % intervals held the truth, parameter by parameter.

    Parameters
    ----------
    table : Table
        Of `obsfit.study.calibration.run_calibration`. Bars are binomial standard errors of a calibrated fit;
        analyses that are not judged are drawn hollow.
    """
    figure = new_figure(8.4, 1.6 + 0.26 * len(table))
    axes = figure.subplots()
    place = np.arange(len(table))[::-1]
    judged = np.asarray(table["judged"], dtype=bool)
    for level, colour, marker in zip(LEVELS, ("blue", "vermilion"), ("o", "s"), strict=True):
        label = f"{round(100 * level)}"
        found, error = (np.asarray(table[f"{name}_{label}"]) for name in ("coverage", "error"))
        axes.axvline(level, color=COLOURS[colour], linewidth=5.0, alpha=0.25)
        for which, fill, note in ((judged, None, ""), (~judged, "white", ", not judged")):
            if which.any():
                axes.errorbar(
                    found[which], place[which], xerr=error[which], fmt=marker, color=COLOURS[colour],
                    markerfacecolor=fill, label=f"{label} % interval{note}",
                )  # fmt: skip
    groups = [f"{row['study']}, {row['analysis']}" for row in table]
    for i in range(1, len(groups)):
        if groups[i] != groups[i - 1]:
            axes.axhline(place[i] + 0.5, color=COLOURS["grey"], linewidth=0.8)
    axes.set_yticks(
        place, [f"{row['study']} {row['analysis']}: {row['parameter']}" for row in table], fontsize=8.0
    )
    axes.set(ylim=(-0.7, len(table) - 0.3), xlabel="share of mocks whose interval holds the truth")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def rank_figure(rows: Table) -> Figure:
    """Return histograms of the ranks of one analysis, a panel for each parameter.

    Parameters
    ----------
    rows : Table
        Rows of one analysis of one study. The band holds each bin of a calibrated fit with 95 % (binomial); narrow
        posteriors give a valley, wide ones a hill, shifted ones a slope.
    """
    n_rows = -(-len(rows) // _COLUMNS)
    figure = new_figure(10.0, 0.7 + 2.0 * n_rows)
    panels = np.atleast_1d(figure.subplots(n_rows, min(_COLUMNS, len(rows)), sharex=True, sharey=True)).ravel()
    for axes, row in zip(panels, rows, strict=False):
        ranks = np.asarray(row["ranks"])
        bins = number_of_bins(len(ranks))
        law = stats.binom(len(ranks), 1.0 / bins)
        low, high = law.ppf([0.5 - BAND / 2, 0.5 + BAND / 2])
        axes.axhspan(low, high, color=COLOURS["grey"], alpha=0.25)
        axes.axhline(len(ranks) / bins, color=COLOURS["grey"], linewidth=1.0)
        axes.hist(ranks, bins, range=(0.0, 1.0), histtype="step", color=COLOURS["blue"], linewidth=1.6)
        axes.set_title(f"{row['parameter']}, p = {row['bins_p']:.2g}", fontsize=9.0)
        axes.set_xlim(0.0, 1.0)
        axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    # Every lowest panel of its column tells its axis, also above an empty place.
    for axes in panels[max(0, len(rows) - _COLUMNS) : len(rows)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("rank of the truth", fontsize=11.0)
    figure.supylabel("mocks", fontsize=11.0)
    figure.suptitle(_title(rows), fontsize=11.0)
    return figure


def ecdf_figure(rows: Table) -> Figure:
    """Return the distribution of the ranks of one analysis, less that of uniform ones.

    Parameters
    ----------
    rows : Table
        As `rank_figure`. The band holds the whole line of a calibrated fit with 95 %, see
        `obsfit.study.calibration.ecdf_band`.
    """
    figure = new_figure(8.4, 4.8)
    axes = figure.subplots()
    u, low, high = ecdf_band(len(rows["ranks"][0]), level=BAND)
    axes.fill_between(u, low - u, high - u, color=COLOURS["grey"], alpha=0.25, linewidth=0.0)
    axes.axhline(0.0, color=COLOURS["grey"], linewidth=1.0)
    grid = np.linspace(0.0, 1.0, 401)
    for i, row in enumerate(rows):
        below = np.searchsorted(np.sort(row["ranks"]), grid, side="right") / len(row["ranks"])
        # With more parameters than colours, a colour returns with another line.
        line = LINE_STYLES[(i + i // len(COLOURS)) % len(LINE_STYLES)]
        colour = series_style(i)["color"]
        axes.plot(grid, below - grid, color=colour, linestyle=line, linewidth=1.2, label=str(row["parameter"]))
    axes.set(xlim=(0.0, 1.0), xlabel="rank of the truth u", ylabel="share of ranks up to u, less u")
    axes.set_title(_title(rows), fontsize=11.0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7.5)
    return figure


def write_calibration(
    table: Table, folder: str | Path, *, description: str, settings: Mapping[str, object] | None = None
) -> None:
    """Write a calibration table with its ranks, and its plots, into a folder.

    Parameters
    ----------
    table : Table
        Of `obsfit.study.calibration.run_calibration` or `obsfit.study.blind.open_challenge`.
    folder : str or Path
        Gets calibration.ecsv, coverage and, for each analysis of each study, ranks-STUDY-ANALYSIS and
        ecdf-STUDY-ANALYSIS, as PNG and SVG.
    description : str
        One sentence: what the rows are.
    settings : mapping, optional
        Choices to be told in the table.
    """
    folder = Path(folder)
    write_table(table, folder / "calibration.ecsv", description=description, settings=settings)
    with styled():
        save(coverage_figure(table), folder / "coverage")
        for name, rows in _analyses(table):
            save(rank_figure(rows), folder / f"ranks-{name}")
            save(ecdf_figure(rows), folder / f"ecdf-{name}")


def _analyses(table: Table) -> Iterator[tuple[str, Table]]:
    for study, analysis in dict.fromkeys(zip(table["study"], table["analysis"], strict=True)):
        yield f"{study}-{analysis}", table[(table["study"] == study) & (table["analysis"] == analysis)]


def _title(rows: Table) -> str:
    row = rows[0]
    left_out = f", {row['not_converged']} not converged" if row["not_converged"] else ""
    return f"{row['study']}, {row['analysis']}: {len(row['ranks'])} mocks{left_out}"
