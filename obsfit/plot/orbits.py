"""Orbits and small pieces of sky on paper: paths projected on a plane, and patches in longitude and latitude."""

from __future__ import annotations

from collections.abc import Sequence

import healpy as hp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy.typing import ArrayLike, NDArray

from obsfit.plot.sky_maps import COLOUR_MAP, HALO
from obsfit.plot.style import series_style

FloatArray = NDArray[np.float64]


def within(path: ArrayLike, radius: float) -> FloatArray:
    """Return a path (3, n) up to where it first leaves a sphere about the origin, shape (3, m).

    The last point is the one outside, so that a drawing reaches the rim.

    Parameters
    ----------
    path : array_like, shape (3, n)
        Points in order.
    radius : float
        Of the sphere.

    Examples
    --------
    >>> within([[0.0, 1.0, 2.0, 3.0], [0.0] * 4, [0.0] * 4], 1.5)[0].tolist()
    [0.0, 1.0, 2.0]
    """
    points = np.asarray(path, dtype=np.float64)
    if points.ndim != 2 or points.shape[0] != 3:
        raise ValueError(f"path of shape {points.shape}: expected (3, n)")
    if not radius > 0:
        raise ValueError(f"radius {radius}: expected a positive length")
    outside = np.flatnonzero(np.sum(points**2, axis=0) > radius**2)
    return points if outside.size == 0 else points[:, : outside[0] + 1]


def draw_paths(
    axes: Axes,
    paths: Sequence[ArrayLike],
    *,
    extent: float,
    names: tuple[str, str] = ("X [pc]", "Y [pc]"),
    plane: tuple[int, int] = (0, 1),
    labels: Sequence[str] = (),
    styles: Sequence[int] = (),
    linewidth: float = 1.3,
) -> None:
    """Draw the parts of paths within a sphere about the origin, projected on a plane of two coordinates.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw; both scales become equal.
    paths : sequence of array_like, shape (3, n) each
        Points in the order in which they are passed, beginning at the origin.
    extent : float
        Radius of the sphere and half the width of the picture.
    names : tuple of str
        Labels of the two axes.
    plane : tuple of int
        Coordinates that are drawn.
    labels : sequence of str
        Entries of the legend, one for each path; none if empty.
    styles : sequence of int
        Places in `obsfit.plot.style.series_style`, one for each path. Default: 0, 1, 2, ...
    linewidth : float
        In points.

    Raises
    ------
    ValueError
        If there is no path, the extent is not positive, or labels or styles are not as many as paths.
    """
    if not paths:
        raise ValueError("no paths to draw")
    if not extent > 0:
        raise ValueError(f"extent {extent}: expected a positive length")
    for name, given in (("labels", labels), ("styles", styles)):
        if len(given) not in (0, len(paths)):
            raise ValueError(f"{len(given)} {name} for {len(paths)} paths")
    for n, path in enumerate(paths):
        style = series_style(styles[n] if styles else n)
        points = within(path, extent)
        axes.plot(
            points[plane[0]], points[plane[1]], color=style["color"], linestyle=style["linestyle"],
            linewidth=linewidth, label=labels[n] if labels else None,
        )  # fmt: skip
    axes.plot(0.0, 0.0, marker="o", color="k", markersize=4.5, linestyle="none", zorder=5)
    # A little wider than the sphere: a path that leaves it along an axis is not cut at the frame.
    axes.set(xlim=(-1.06 * extent, 1.06 * extent), ylim=(-1.06 * extent, 1.06 * extent), aspect="equal")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])


def draw_patch(
    axes: Axes,
    values: ArrayLike,
    *,
    longitude: tuple[float, float],
    latitude: tuple[float, float],
    limits: tuple[float, float],
    marks: Sequence[tuple[float, float]] = (),
    cells: int = 240,
) -> QuadMesh:
    """Draw a patch of a map, longitude increasing to the left, and return its colours.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    values : array_like, shape (12 nside^2,)
        Map in RING order, NaN where unknown; pixels are shown as they are.
    longitude, latitude : tuple of float
        Ends of the patch in degrees.
    limits : tuple of float
        Ends of the colours, in the unit of the map.
    marks : sequence of tuple of float
        Longitude and latitude in degrees of crosses.
    cells : int
        Cells of the picture along each side.

    Raises
    ------
    ValueError
        If an end is not above the other.
    """
    for name, (low, high) in (("longitude", longitude), ("latitude", latitude), ("limits", limits)):
        if not low < high:
            raise ValueError(f"{name} {low} to {high}: expected the lower before the upper")
    sky = np.asarray(values, dtype=np.float64)
    lon, lat = (np.linspace(*ends, cells + 1) for ends in (longitude, latitude))
    x, y = np.meshgrid(0.5 * (lon[1:] + lon[:-1]), 0.5 * (lat[1:] + lat[:-1]))
    sampled = sky[hp.ang2pix(hp.npix2nside(sky.size), x, y, lonlat=True)]
    image = axes.pcolormesh(
        lon, lat, np.ma.masked_invalid(sampled), cmap=matplotlib.colormaps[COLOUR_MAP], rasterized=True,
        vmin=limits[0], vmax=limits[1],
    )  # fmt: skip
    for place in marks:
        axes.plot(*place, marker="+", color="k", markersize=9, markeredgewidth=1.6, path_effects=[HALO])
    axes.set(xlim=longitude[::-1], ylim=latitude, aspect="equal")
    axes.set_xlabel("Galactic longitude [deg]")
    axes.set_ylabel("Galactic latitude [deg]")
    return image
