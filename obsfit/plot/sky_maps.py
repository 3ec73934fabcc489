"""Sky maps on paper: Mollweide or orthographic, with graticule, units, field of view and circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import astropy.units as u
import healpy as hp
import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from obsfit.plot.style import COLOURS, LINE_STYLES, new_figure, styled
from obsfit.reconstruct.significance import TopHat

FloatArray = NDArray[np.float64]

Projection = Literal["mollweide", "orthographic"]
COLOUR_MAP = "RdBu_r"
"""Blue to red through white, which the colour-blind tell apart too."""
UNSEEN_COLOUR = "0.75"
HALO = withStroke(linewidth=2.5, foreground="white")
"""What makes text and lines legible on any colour."""
_PROJECTIONS = ("mollweide", "orthographic")
_COLUMNS = 1080
"""Cells of the picture of a whole sky."""
_MERIDIANS = np.arange(0.0, 360.0, 60.0)
_PARALLELS = np.arange(-60.0, 61.0, 30.0)


@dataclass(frozen=True)
class Circle:
    """A circle on the sky, drawn as a line.

    Attributes
    ----------
    ra, dec : Quantity, angle
        Its centre.
    radius : Quantity, angle
        Angle between centre and line, in (0, 180) deg.
    label : str
        Entry of the legend; empty for none.
    """

    ra: u.Quantity
    dec: u.Quantity
    radius: u.Quantity
    label: str = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.radius.to_value(u.deg) < 180.0 or not abs(self.dec.to_value(u.deg)) <= 90.0:
            raise ValueError(
                f"circle of radius {self.radius} about declination {self.dec}: expected a radius in (0, 180) deg and "
                "a declination between the poles"
            )


def sky_map_figure(
    delta_i: ArrayLike,
    *,
    title: str,
    unit: float | str = 1e-3,
    projection: Projection = "mollweide",
    smoothing: u.Quantity | None = None,
    circles: Sequence[Circle] = (),
    limits: tuple[float, float] | None = None,
    quantity: str = "relative intensity",
    centre: tuple[u.Quantity, u.Quantity] = (180.0 * u.deg, 0.0 * u.deg),
) -> Figure:
    """Return the figure of a map in equatorial coordinates, right ascension increasing to the left.

    Parameters
    ----------
    delta_i : array_like, shape (12 nside^2,)
        Values in RING order; NaN where unobserved, which is drawn in grey.
    title : str
        Title.
    unit : float or str
        A number: the map is divided by it, and the colour bar says so, for example 1e-3 for a relative intensity in
        units of one in a thousand. A text: the map is drawn as it stands and the text is its unit; empty for none.
    projection : "mollweide" or "orthographic"
        The whole sky, or the hemisphere about `centre`.
    smoothing : Quantity, angle, optional
        Radius of discs over which the seen pixels are averaged before drawing.
    circles : sequence of Circle
        Lines about places, such as limits of zenith angle.
    limits : tuple of float, optional
        Ends of the colours, in `unit`. Default: the largest absolute value drawn, and minus that.
    quantity : str
        What the colour bar shows.
    centre : tuple of Quantity, angle
        Right ascension and declination of the middle; a Mollweide map has its middle on the equator.

    Raises
    ------
    ValueError
        If the map is none or empty, or projection, limits, centre or unit make no sense.

    Examples
    --------
    >>> figure = sky_map_figure(1e-3 * np.cos(hp.pix2ang(8, np.arange(768))[1]), title="A dipole")
    >>> figure.axes[1].get_xlabel()
    'relative intensity [$10^{-3}$]'
    """
    if projection not in _PROJECTIONS:
        raise ValueError(f"projection {projection!r}: expected one of {', '.join(_PROJECTIONS)}")
    with styled():
        if projection == "mollweide":
            figure = new_figure(7.6, 5.4)
            axes = figure.add_subplot(projection="mollweide")
        else:
            figure = new_figure(6.0, 7.0)
            axes = figure.add_subplot()
        draw_sky_map(
            axes, delta_i, unit=unit, smoothing=smoothing, circles=circles, limits=limits, quantity=quantity,
            centre=centre, shrink=0.7,
        )  # fmt: skip
        _legend(figure, axes.get_legend_handles_labels()[0], bool(np.isnan(_map(delta_i)).any()))
        figure.suptitle(title, fontsize=12)
    return figure


def draw_sky_map(
    axes: Axes,
    delta_i: ArrayLike,
    *,
    unit: float | str = 1e-3,
    smoothing: u.Quantity | None = None,
    circles: Sequence[Circle] = (),
    limits: tuple[float, float] | None = None,
    quantity: str = "relative intensity",
    centre: tuple[u.Quantity, u.Quantity] = (180.0 * u.deg, 0.0 * u.deg),
    colour_bar: bool = True,
    shrink: float = 0.9,
    label_size: float = 9.0,
    columns: int = _COLUMNS,
    longitude: str = "RA",
) -> QuadMesh:
    """Draw a map into axes of a figure of several panels and return its colours.

    Axes made with ``projection="mollweide"`` hold the whole sky, plain ones the hemisphere about `centre`.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    delta_i, unit, smoothing, circles, limits, quantity, centre
        As for `sky_map_figure`.
    colour_bar : bool
        Whether to put a bar below the map; panels with equal limits may share one.
    shrink : float
        Length of the bar in parts of the width of the axes.
    label_size : float
        Size in points of the labels of the graticule.
    columns : int
        Cells from edge to edge of the picture; small panels need fewer.
    longitude : str
        Name of the longitude on the graticule, "RA" or another, such as "l" for a map in Galactic coordinates.

    Raises
    ------
    ValueError
        If the map is none or empty, or limits, centre or unit make no sense.
    """
    projection = "mollweide" if axes.name == "mollweide" else "orthographic"
    values, label = _in_unit(_map(delta_i), unit, quantity)
    middle = centre[0].to_value(u.rad), centre[1].to_value(u.rad)
    if not abs(middle[1]) <= 0.5 * np.pi or (projection == "mollweide" and middle[1] != 0.0):
        raise ValueError(f"centre {centre[0]}, {centre[1]}: expected a declination of 0 deg for a Mollweide map")
    if smoothing is not None:
        values = disc_average(values, smoothing)
    low, high = _limits(values, limits)
    if projection == "mollweide":
        image = _mollweide(axes, values, middle[0], label_size, columns, longitude)
    else:
        image = _orthographic(axes, values, middle, label_size, columns, longitude)
    image.set_clim(low, high)
    for n, circle in enumerate(circles):
        _draw_circle(axes, circle, n, projection, middle)
    if colour_bar:
        bar = axes.figure.colorbar(
            image, ax=axes, orientation="horizontal", shrink=shrink, aspect=32, pad=0.04,
            extend=_extend(values, low, high),
        )  # fmt: skip
        bar.locator = MaxNLocator(7, steps=[1, 2, 5, 10])
        bar.update_ticks()
        bar.set_label(label)
    return image


def disc_average(values: ArrayLike, radius: u.Quantity) -> FloatArray:
    """Return the mean over the seen pixels of the disc about each seen pixel, shape (12 nside^2,), NaN elsewhere.

    Parameters
    ----------
    values : array_like, shape (12 nside^2,)
        Map in RING order, NaN where unobserved.
    radius : Quantity, angle
        Radius of the disc.

    Examples
    --------
    >>> float(disc_average(np.where(np.arange(192) < 96, 2.0, np.nan), 20 * u.deg)[95])
    2.0
    """
    sky = _map(values)
    seen = np.isfinite(sky)
    disc = TopHat.of(radius)
    total = disc.sums(np.where(seen, sky, 0.0))
    number = disc.sums(seen.astype(np.float64))
    return np.where(seen, total / np.where(seen, number, 1.0), np.nan)


def _map(values: ArrayLike) -> FloatArray:
    sky = np.asarray(values, dtype=np.float64)
    if sky.ndim != 1 or not hp.isnpixok(sky.size):
        raise ValueError(f"map of shape {sky.shape}: expected (12 nside^2,)")
    if not np.any(np.isfinite(sky)):
        raise ValueError("the map has no finite value: expected some of the sky")
    return np.where(np.isfinite(sky), sky, np.nan)


def _in_unit(sky: FloatArray, unit: float | str, quantity: str) -> tuple[FloatArray, str]:
    if isinstance(unit, str):
        return sky, f"{quantity} [{unit}]" if unit else quantity
    if not 0.0 < unit < np.inf:
        raise ValueError(f"unit {unit}: expected a positive number, or a text")
    if unit == 1.0:
        return sky, quantity
    mantissa, exponent = f"{unit:.3e}".split("e")
    number = float(mantissa)
    power = f"10^{{{int(exponent)}}}"
    return sky / unit, f"{quantity} [${power if number == 1.0 else f'{number:g} {chr(92)}times {power}'}$]"


def _limits(values: FloatArray, limits: tuple[float, float] | None) -> tuple[float, float]:
    if limits is None:
        largest = float(np.nanmax(np.abs(values))) or 1.0
        return -largest, largest
    low, high = limits
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"limits {limits}: expected the lower before the upper")
    return float(low), float(high)


def _extend(values: FloatArray, low: float, high: float) -> Literal["neither", "both", "min", "max"]:
    below, above = bool(np.nanmin(values) < low), bool(np.nanmax(values) > high)
    if below and above:
        return "both"
    return "min" if below else "max" if above else "neither"


def _colours(unseen: str | tuple[float, float, float, float]) -> Colormap:
    return matplotlib.colormaps[COLOUR_MAP].with_extremes(bad=unseen)


def _sampled(values: FloatArray, ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Value of the pixel that holds each direction, in radians; pixels are shown as they are, never interpolated."""
    return values[hp.ang2pix(hp.npix2nside(values.size), 0.5 * np.pi - dec, ra)]


def _mollweide(
    axes: Axes, values: FloatArray, ra_middle: float, label_size: float, columns: int, name: str
) -> QuadMesh:
    # The axes' longitude grows to the right, right ascension to the left.
    longitude = np.linspace(-np.pi, np.pi, columns + 1)
    latitude = np.linspace(-0.5 * np.pi, 0.5 * np.pi, columns // 2 + 1)
    x, y = np.meshgrid(0.5 * (longitude[1:] + longitude[:-1]), 0.5 * (latitude[1:] + latitude[:-1]))
    image = axes.pcolormesh(
        longitude,
        latitude,
        np.ma.masked_invalid(_sampled(values, ra_middle - x, y)),
        cmap=_colours(UNSEEN_COLOUR),
        rasterized=True,
    )
    axes.grid(True, color="0.35", linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(False)
    ticks = np.radians(np.arange(-120.0, 121.0, 60.0))
    axes.set_xticks(ticks)
    names = [f"{round(np.degrees(ra_middle - tick)) % 360}°" for tick in ticks]
    for text in axes.set_xticklabels(names, fontsize=label_size):
        text.set_path_effects([HALO])
    axes.set_yticks(np.radians(_PARALLELS))
    axes.set_yticklabels([_signed(dec) for dec in _PARALLELS], fontsize=label_size)
    rim = round(np.degrees(ra_middle) + 180.0) % 360
    for place, degrees, align in ((-0.985, rim or 360, "left"), (0.985, rim, "right")):
        text = axes.text(place * np.pi, 0.0, f"{name} {degrees}°", fontsize=label_size, ha=align, va="bottom")
        text.set_path_effects([HALO])
    return image


def _orthographic(
    axes: Axes, values: FloatArray, middle: tuple[float, float], label_size: float, columns: int, name: str
) -> QuadMesh:
    edges = np.linspace(-1.0, 1.0, columns + 1)
    x, y = np.meshgrid(*2 * [0.5 * (edges[1:] + edges[:-1])])
    inside = x**2 + y**2 <= 1.0
    ra, dec = _from_plane(np.where(inside, x, 0.0), np.where(inside, y, 0.0), middle)
    sampled = _sampled(values, ra, dec)
    # What is unobserved is grey, what is beyond the rim is paper.
    axes.pcolormesh(
        edges, edges, np.ma.masked_where(~inside | np.isfinite(sampled), np.ones_like(x)),
        cmap=ListedColormap([UNSEEN_COLOUR]), rasterized=True,
    )  # fmt: skip
    colours = _colours((0.0, 0.0, 0.0, 0.0))
    image = axes.pcolormesh(
        edges, edges, np.ma.masked_where(~inside | ~np.isfinite(sampled), sampled), cmap=colours, rasterized=True
    )
    angle = np.linspace(0.0, 2.0 * np.pi, 721)
    axes.plot(np.cos(angle), np.sin(angle), color="0.2", linewidth=0.9)
    for degrees in _MERIDIANS:
        line = np.full(361, np.radians(degrees)), np.linspace(-0.5 * np.pi, 0.5 * np.pi, 361)
        place = 180 if abs(middle[1]) < np.radians(60.0) else None
        _graticule(axes, *line, middle, f"{name} {degrees:.0f}°", place, label_size)
    for degrees in _PARALLELS:
        line = angle, np.full(angle.size, np.radians(degrees))
        _graticule(axes, *line, middle, _signed(degrees), None, label_size)
    axes.set_aspect("equal")
    axes.set_xlim(-1.03, 1.03)
    axes.set_ylim(-1.03, 1.03)
    axes.set_axis_off()
    return image


def _graticule(
    axes: Axes, ra: FloatArray, dec: FloatArray, middle: tuple[float, float], name: str, place: int | None,
    label_size: float,
) -> None:  # fmt: skip
    x, y, ahead = _to_plane(ra, dec, middle)
    axes.plot(np.where(ahead, x, np.nan), np.where(ahead, y, np.nan), color="0.35", linewidth=0.5, alpha=0.6)
    # A label stands where the line is best seen, well inside the disc, and between meridians.
    depth = np.where(ahead, np.hypot(x, y), np.inf)
    at = place if place is not None else int(np.argmin(np.abs(depth - 0.72) + 0.1 * np.abs(np.cos(3.0 * ra))))
    if ahead[at] and depth[at] < 0.97:
        text = axes.text(x[at], y[at], name, fontsize=label_size - 0.5, ha="center", va="center")
        text.set_path_effects([HALO])


def _draw_circle(axes: Axes, circle: Circle, index: int, projection: str, middle: tuple[float, float]) -> None:
    ra, dec = _small_circle(circle)
    style: dict[str, Any] = {
        "color": COLOURS["black"],
        "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
        "linewidth": 1.4,
        "path_effects": [HALO],
        "label": circle.label or None,
    }
    if projection == "mollweide":
        x = _wrapped(middle[0] - ra)
        # A line that leaves on one side and comes back on the other is two lines.
        cut = np.abs(np.diff(x, append=x[-1])) > np.pi
        axes.plot(np.where(cut, np.nan, x), dec, **style)
    else:
        across, up, ahead = _to_plane(ra, dec, middle)
        axes.plot(np.where(ahead, across, np.nan), np.where(ahead, up, np.nan), **style)


def _legend(figure: Figure, entries: Sequence[Artist], unseen: bool) -> None:
    handles = list(entries)
    if unseen:
        handles.append(Patch(facecolor=UNSEEN_COLOUR, label="not observed"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)


def _small_circle(circle: Circle) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination in radians of points of a circle."""
    ra, dec, radius = (angle.to_value(u.rad) for angle in (circle.ra, circle.dec, circle.radius))
    around = np.linspace(0.0, 2.0 * np.pi, 1441)
    outward = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(outward, east)
    points = np.cos(radius) * outward[:, None] + np.sin(radius) * (
        np.outer(east, np.sin(around)) + np.outer(north, np.cos(around))
    )
    return np.arctan2(points[1], points[0]), np.arcsin(np.clip(points[2], -1.0, 1.0))


def _to_plane(
    ra: FloatArray, dec: FloatArray, middle: tuple[float, float]
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Orthographic x, to the West, and y, and whether a direction is on the near side."""
    away = ra - middle[0]
    x = -np.cos(dec) * np.sin(away)
    y = np.cos(middle[1]) * np.sin(dec) - np.sin(middle[1]) * np.cos(dec) * np.cos(away)
    near = np.sin(middle[1]) * np.sin(dec) + np.cos(middle[1]) * np.cos(dec) * np.cos(away)
    return x, y, np.asarray(near >= -1e-9)


def _from_plane(x: FloatArray, y: FloatArray, middle: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    z = np.sqrt(np.maximum(1.0 - x**2 - y**2, 0.0))
    meridian = z * np.cos(middle[1]) - y * np.sin(middle[1])
    axis = z * np.sin(middle[1]) + y * np.cos(middle[1])
    return middle[0] - np.arctan2(x, meridian), np.arcsin(np.clip(axis, -1.0, 1.0))


def _signed(degrees: float) -> str:
    return f"{degrees:+.0f}°".replace("-", "−") if degrees else "0°"


def _wrapped(angle: FloatArray) -> FloatArray:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi
