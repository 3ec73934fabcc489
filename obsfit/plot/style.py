"""The look of all figures: colours for the colour-blind too, line styles beside colours, files that stay equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "black": "#000000",
        "blue": "#0072b2",
        "vermilion": "#d55e00",
        "green": "#009e73",
        "purple": "#aa4499",
        "orange": "#b97f00",
        "sky": "#3f96c9",
        "grey": "#767676",
    }
)
"""Colours after Okabe and Ito; orange, purple and sky are darkened to stand at 3:1 or more on white."""

LINE_STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)), (0, (3, 3)),
)  # fmt: skip
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "d")

SETTINGS: Mapping[Any, Any] = MappingProxyType(
    {
        "font.size": 11.0,
        "axes.labelsize": 12.0,
        "axes.titlesize": 12.0,
        "legend.fontsize": 9.5,
        "legend.frameon": True,
        "legend.framealpha": 0.9,
        "legend.edgecolor": "0.8",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "0.9",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 5.5,
        "errorbar.capsize": 2.0,
        "xtick.direction": "in",
        "ytick.direction": "in",
        "xtick.top": True,
        "ytick.right": True,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "mathtext.fontset": "dejavusans",
        # A fixed salt and outlined text: the same figure is the same file, and needs no font to be seen.
        "svg.hashsalt": "obsfit",
        "svg.fonttype": "path",
    }
)

DPI = 150


@contextmanager
def styled() -> Iterator[None]:
    """Apply the look of obsfit within a ``with`` block; the user's own settings return afterwards.

    Both making and saving of a figure belong inside.
    """
    with matplotlib.rc_context(dict(SETTINGS)):
        yield


def new_figure(width_inch: float = 6.8, height_inch: float = 4.6) -> Figure:
    """Return an empty figure that draws itself without any window system and without pyplot's list of figures.

    Examples
    --------
    >>> with styled():
    ...     axes = new_figure().subplots()
    >>> axes.get_xscale()
    'linear'
    """
    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def series_style(index: int) -> dict[str, Any]:
    """Return colour, line style and marker of the `index`-th series: no two of the first eight share any of them.

    Examples
    --------
    >>> series_style(1)["color"], series_style(1)["marker"]
    ('#0072b2', 's')
    """
    colours = tuple(COLOURS.values())
    return {
        "color": colours[index % len(colours)],
        "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def save(figure: Figure, stem: str | Path) -> tuple[Path, Path]:
    """Write `figure` as PNG (150 dots per inch) and SVG and return both paths.

    The files hold no date and no random identifiers: the same figure gives the same bytes with the same version of
    matplotlib. Each file is complete or absent (written beside and renamed).

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Figure to write.
    stem : str or Path
        Path without suffix; its folder is made.
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    with styled():
        for path, kind, metadata in (
            (png, "png", {"Software": None}),
            (svg, "svg", {"Date": None, "Creator": None}),
        ):
            partial = path.with_name(path.name + ".partial")
            figure.savefig(partial, format=kind, dpi=DPI, metadata=metadata)
            partial.replace(path)
    return png, svg
