"""How the maps of GS and Fig. 13 of AM17 are drawn, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from obsfit.plot.sky_maps import draw_sky_map
from obsfit.plot.style import new_figure, save, styled

CENTRE = (0.0 * u.deg, 0.0 * u.deg)


def numbers(skies: Mapping[int, Any], radii: Mapping[int, Sequence[float]]) -> Table:
    """Return one row per rigidity and sphere: dipole, residual, noise and time."""
    rows = []
    for rigidity, sky in skies.items():
        for radius in radii[rigidity]:
            residual, dipole = sky.residual(radius), sky.dipole(radius)
            rows.append(
                (rigidity, radius, *dipole, np.linalg.norm(dipole), residual.min(), residual.max(), residual.std(),
                 sky.noise(radius), sky.time_pc[sky.place(radius)], sky.mean_free_path_pc[sky.place(radius)],
                 sky.directions)
            )  # fmt: skip
    columns = (
        "rigidity", "radius", "dipole_x", "dipole_y", "dipole_z", "dipole", "residual_min", "residual_max",
        "residual_rms", "noise", "mean_time", "mean_free_path", "directions",
    )  # fmt: skip
    units = (u.PV, u.pc, *[None] * 8, u.pc, u.pc, None)
    table = Table(rows=rows, names=columns, units=units)
    for name in columns[2:-1]:
        table[name].info.format = ".4g"
    table["mean_time"].info.description = "mean time of the first crossing, times c"
    table["mean_free_path"].info.description = "R^2 / 2 T"
    return table


def draw_spheres(
    skies: Mapping[int, Any], radii: Sequence[float], stem: Path, *, limits: Mapping[int, float]
) -> None:
    """Draw the residual maps of several spheres, one column for each rigidity; limits in percent."""
    with styled():
        figure = new_figure(7.4, 2.05 * len(radii) + 1.0)
        grid = figure.add_gridspec(len(radii), 2)
        for column, (rigidity, sky) in enumerate(skies.items()):
            drawn = []
            for row, radius in enumerate(radii):
                axes = figure.add_subplot(grid[row, column], projection="mollweide")
                image = draw_sky_map(
                    axes, 100.0 * sky.residual(radius), unit="%", limits=(-limits[rigidity], limits[rigidity]),
                    colour_bar=False, columns=540, centre=CENTRE, longitude="$l$",
                )  # fmt: skip
                axes.set_xticklabels([])
                axes.set_yticklabels([])
                for text in list(axes.texts):
                    text.remove()
                axes.set_title(f"{rigidity} PV, R = {radius:g} pc", fontsize=11)
                drawn.append(axes)
            bar = figure.colorbar(image, ax=drawn, orientation="horizontal", shrink=0.85, aspect=28, pad=0.02)
            bar.set_label("relative intensity, dipole removed [%]", fontsize=10)
        save(figure, stem)


def round_limit(values: Sequence[float]) -> float:
    """Return an even number of percent that holds the absolute values, which are fractions.

    Examples
    --------
    >>> round_limit([-0.031, 0.049])
    6.0
    """
    return float(2.0 * np.ceil(50.0 * max(abs(value) for value in values)))
