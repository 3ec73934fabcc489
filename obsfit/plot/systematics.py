"""Plots of a study of systematics: the dipole that each method finds against what varies, and how sure it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from obsfit.plot.products import write_table
from obsfit.plot.style import COLOURS, new_figure, save, series_style, styled
from obsfit.study.summaries import Summary

FloatArray = NDArray[np.float64]


def dipole_against(numbers: Table, scan: str) -> Figure:
    """Return a figure of amplitude and phase of the dipole for each value of a scan: found, predicted and true.

    Parameters
    ----------
    numbers : Table
        `obsfit.study.summaries.Summary.numbers`.
    scan : str
        Name of the scan. Markers are means of realisations with their scatter, or the noise-free result where there
        are none; lines are what the operators of the methods make of the true sky.
    """
    rows = numbers[numbers["scan"] == scan]
    values, methods = _order(rows["value"]), _order(rows["method"])
    figure = new_figure(9.0, 6.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, number, label in ((upper, "A_1", "dipole amplitude"), (lower, "alpha_1", "phase (deg)")):
        of_number = rows[rows["number"] == number]
        truth = _column(of_number, methods[0], values, "truth")
        turn = 360.0 if number == "alpha_1" else None
        axes.plot(range(len(values)), truth, color=COLOURS["grey"], linewidth=5.0, alpha=0.4, label="truth")
        for i, method in enumerate(methods):
            found = _column(of_number, method, values, "mean")
            found = np.where(np.isnan(found), _column(of_number, method, values, "noise_free"), found)
            spread = np.nan_to_num(_column(of_number, method, values, "scatter"))
            predicted = _column(of_number, method, values, "predicted")
            if turn is not None:
                # Phases near zero are drawn beside the truth, not a turn away.
                found, predicted = (truth + (x - truth + 180.0) % turn - 180.0 for x in (found, predicted))
            style = series_style(i)
            place = np.arange(len(values)) + 0.6 * (i / max(1, len(methods) - 1) - 0.5)
            axes.errorbar(place, found, spread, fmt=style["marker"], color=style["color"], label=method)
            axes.plot(place, predicted, linestyle=style["linestyle"], color=style["color"], linewidth=0.9)
        axes.set_ylabel(label)
    _name_values(lower, values, scan)
    upper.set_title(f"{scan}: markers found, lines predicted", fontsize=10.0, loc="left")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper", fontsize=7.5)
    return figure


def coverage_against(numbers: Table, scan: str) -> Figure:
    """Return a figure of how often 68 % intervals of A_1 hold the prediction and the truth, for each value of a scan.

    Parameters
    ----------
    numbers, scan
        As `dipole_against`; the study must have realisations.
    """
    rows = numbers[(numbers["scan"] == scan) & (numbers["number"] == "A_1")]
    values, methods = _order(rows["value"]), _order(rows["method"])
    figure = new_figure(9.0, 6.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, column, label in (
        (upper, "coverage_68", "holds the prediction"), (lower, "truth_in_68", "holds the truth"),
    ):  # fmt: skip
        axes.axhline(0.68, color=COLOURS["grey"], linewidth=5.0, alpha=0.4)
        for i, method in enumerate(methods):
            place = np.arange(len(values)) + 0.6 * (i / max(1, len(methods) - 1) - 0.5)
            axes.plot(place, _column(rows, method, values, column), **series_style(i), label=method)
        axes.set(ylabel=f"68 % interval {label}", ylim=(-0.03, 1.03))
    _name_values(lower, values, scan)
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper", fontsize=7.5)
    return figure


def write_summary(summary: Summary, folder: str | Path, *, settings: Mapping[str, object] | None = None) -> None:
    """Write the tables of a study, and a plot or two of each of its scans, into a folder.

    Parameters
    ----------
    summary : Summary
        What the study found.
    folder : str or Path
        Gets numbers.ecsv, nulls.ecsv, covariances.ecsv and refusals.ecsv, and for each scan dipole-NAME and, if there
        are realisations, coverage-NAME as PNG and SVG.
    settings : mapping, optional
        Choices to be told in the tables.
    """
    folder = Path(folder)
    for name, description in (
        ("numbers", "What each method found, beside the truth and the prediction of its operator"),
        ("nulls", "Null tests"),
        ("covariances", "Likelihood-ratio tests of claimed covariances"),
        ("refusals", "Where methods refused"),
    ):
        write_table(getattr(summary, name), folder / f"{name}.ecsv", description=description, settings=settings)
    with styled():
        for scan in _order(summary.numbers["scan"]):
            stem = "".join(letter if letter.isalnum() else "-" for letter in scan)
            save(dipole_against(summary.numbers, scan), folder / f"dipole-{stem}")
            if np.any(np.asarray(summary.numbers["mocks"]) > 1):
                save(coverage_against(summary.numbers, scan), folder / f"coverage-{stem}")


def _order(column: object) -> list[str]:
    """Different entries, in the order of their first appearance."""
    return list(dict.fromkeys(str(entry) for entry in np.asarray(column)))


def _column(rows: Table, method: str, values: list[str], name: str) -> FloatArray:
    """A column of one method for all values; NaN where the method refused or there is nothing."""
    found = np.full(len(values), np.nan)
    for row in rows[rows["method"] == method]:
        if not np.ma.is_masked(row[name]):
            found[values.index(str(row["value"]))] = float(row[name])
    return found


def _name_values(axes: Axes, values: list[str], scan: str) -> None:
    axes.set_xticks(range(len(values)), values, rotation=20 if max(map(len, values)) > 8 else 0)
    axes.set_xlabel(scan)
