"""AM17, Fig. 10: the heliosphere in outline, with the gyroradii of TV particles to scale."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context, load_program
from obsfit.plot.style import COLOURS, new_figure, save, styled

KEY = "am17-figure10"
TITLE = "The heliosphere, and gyroradii of TV particles to scale"
PAPER = "AM17"
FIGURE = "Fig. 10"

EXTENT = (-330.0, 900.0, -440.0, 440.0)
ROTATION_DAYS = 25.0
WIND_KM_S = (800.0, 400.0)
# Rigidity in TV, field in microgauss, height of the bar.
BARS = ((1.0, 10.0, -290.0), (1.0, 1.0, -345.0), (10.0, 3.0, -400.0))

heliosphere = load_program(Path(__file__).with_name("_heliosphere.py"))


def turn_au(wind_km_s: float) -> float:
    """Return how far the solar wind comes in one rotation of the Sun: the distance of two turns of the spiral."""
    return float((wind_km_s * u.km / u.s * ROTATION_DAYS * u.day).to_value(u.au))


def numbers() -> Table:
    """Return the gyroradii drawn."""
    rows = [(rigidity, field, heliosphere.gyroradius_au(rigidity, field)) for rigidity, field, _ in BARS]
    table = Table(rows=rows, names=("rigidity", "field", "gyroradius"), units=("TV", "uG", "AU"))
    table["gyroradius"].info.format = ".4g"
    return table


def draw_flow(axes: Axes) -> None:
    """Draw the cut through the Sun along the interstellar stream."""
    x_min, x_max, y_min, y_max = EXTENT
    angles = np.linspace(np.pi - 1e-3, 1e-3, 4000)
    edge_x, edge_y = heliosphere.heliopause(x_max)
    for value in (1.3, 2.3, 4.0, 6.2):
        x, y = heliosphere.flow_line(value, angles)
        for sign in (1, -1):
            arrowed(axes, x, sign * y, COLOURS["sky"], "--", (-250.0, 600.0))
    for start in np.radians([20.0, 60.0, 100.0, 140.0]):
        value = float(heliosphere.stream_function(*(heliosphere.SHOCK * np.array([np.cos(start), np.sin(start)]))))
        x, y = heliosphere.flow_line(value, np.linspace(start, 1e-3, 4000))
        for sign in (1, -1):
            axes.plot([0.0, x[0]], [0.0, sign * y[0]], color=COLOURS["orange"], linewidth=0.9)
            arrowed(axes, x, sign * y, COLOURS["orange"], "-", (450.0,))
    for sign in (1, -1):
        axes.plot(
            edge_x, sign * edge_y, color=COLOURS["black"], linewidth=2.2, label="heliopause" if sign > 0 else None
        )
    axes.plot([], [], color=COLOURS["orange"], label="solar wind")
    axes.plot([], [], color=COLOURS["sky"], linestyle="--", label="interstellar wind")
    for radius, label in zip(heliosphere.SHOCK_AU, ("termination shock, 80 to 90 AU", None), strict=True):
        axes.add_patch(Circle((0, 0), radius, fill=False, color=COLOURS["vermilion"], linewidth=1.2, label=label))
    axes.plot(0, 0, "o", color=COLOURS["orange"], markeredgecolor="black", markersize=6, zorder=5)
    text = {"ha": "center", "va": "center", "fontsize": 9.5, "bbox": {"color": "white", "pad": 1.0, "alpha": 0.85}}
    axes.text(165, 100, "inner heliosheath", **text)
    axes.text(-215, 0, "outer\nheliosheath", **text)
    axes.text(700, 0, "heliotail", **text)
    # White below the bars: flow lines would make them hard to read.
    axes.add_patch(Rectangle((-318, -428), 1160, 165, facecolor="white", edgecolor="0.8", zorder=3))
    for rigidity, field, height in BARS:
        length = heliosphere.gyroradius_au(rigidity, field)
        axes.plot([-300, length - 300], [height] * 2, color=COLOURS["purple"], linewidth=4,
                  solid_capstyle="butt", zorder=4)  # fmt: skip
        label = f"{rigidity:g} TV in {field:g} µG: {length:.0f} AU"
        axes.text(length - 285, height, label, va="center", fontsize=9.5, zorder=4)
    axes.set(
        xlim=(x_min, x_max), ylim=(y_min, y_max), aspect="equal", xlabel="downstream [AU]", ylabel="across [AU]"
    )
    axes.grid(visible=False)
    axes.legend(loc="upper left", fontsize=9, framealpha=1.0)


def arrowed(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, dash: str, heads: tuple[float, ...]) -> None:
    """Draw a flow line with arrow heads where it passes the given x."""
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=0.9)
    for head in heads:
        index = int(np.argmin(np.abs(x - head)))
        axes.annotate(
            "", (x[index], y[index]), (x[index - 1], y[index - 1]),
            arrowprops={"arrowstyle": "-|>", "color": colour, "mutation_scale": 12}, annotation_clip=True,
        )  # fmt: skip


def draw_spiral(axes: Axes) -> None:
    """Draw one magnetic line in the Sun's equator for a fast and a slower wind."""
    for speed, colour, dash in zip(WIND_KM_S, ("vermilion", "blue"), ("-", "--"), strict=True):
        radius = np.linspace(0.0, 25.0, 2000)
        # The Sun turns on while the wind goes straight out: the line lags.
        angle = -2.0 * np.pi * radius / turn_au(speed)
        axes.plot(
            radius * np.cos(angle), radius * np.sin(angle), color=COLOURS[colour], linestyle=dash,
            label=f"{speed:.0f} km/s: {turn_au(speed):.1f} AU a turn",
        )  # fmt: skip
    axes.plot(0, 0, "o", color=COLOURS["orange"], markeredgecolor="black", markersize=6, zorder=5)
    axes.set(xlim=(-26, 26), ylim=(-26, 26), aspect="equal", xlabel="[AU]", title="A magnetic line in the equator")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))


def make(context: Context) -> FigureEntry:
    table = numbers()
    with styled():
        figure = new_figure(10.6, 5.0)
        left, right = figure.subplots(1, 2, width_ratios=(2.6, 1.0))
        draw_flow(left)
        draw_spiral(right)
        save(figure, context.directory / "figure10")
    write_table(table, context.directory / "figure10.ecsv", description="Gyroradii R / (B c) that are drawn")
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "sketch",
        caption="Left: cut through the Sun along the interstellar wind, which comes from the left. The solar wind "
        "blows radially to the termination shock and then turns towards the heliotail; the heliopause parts it from "
        "the interstellar medium. Beyond the shock the lines are those of a source in an incompressible stream "
        f"(Parker 1961) that is at rest {heliosphere.NOSE:.0f} AU ahead of the Sun. Bars: gyroradii R / (B c) on the "
        "same scale. Right: what the rotation of the Sun in 25 days makes of a magnetic line in a radial wind, the "
        "Parker spiral, without the waves of the current sheet.",
        alt="A bullet-shaped heliopause, blunt to the left and open to the right, up to 240 AU wide on either side. In "
        "it a circle of 80 to 90 AU about the Sun, from which flow lines bend to the right. Below, three bars: "
        f"{table['gyroradius'][0]:.0f} AU for 1 TV in 10 microgauss, {table['gyroradius'][1]:.0f} AU for 1 TV in 1 "
        f"microgauss, and {table['gyroradius'][2]:.0f} AU for 10 TV in 3 microgauss. Beside it two spirals about the "
        "Sun.",
        image="figure10.png", table="figure10.ecsv",
        comparisons=(
            Comparison(
                "gyroradius of 1 TV in 1 microgauss", 200.0, heliosphere.gyroradius_au(1.0, 1.0), "AU",
                "R / (B c); the paper gives one digit", 50.0, "Section 4.1",
            ),
            Comparison(
                "termination shock", 85.0, heliosphere.SHOCK, "AU", "not tested: taken from the paper", None,
                "Section 4.1: 80 to 90 AU",
            ),
        ),
        deviations=(
            "The paper shows a drawing by S. T. Suess from another review. This one is drawn anew from what the text "
            "says; only its statements are compared.",
            f"The paper states no distance of the heliopause. It is put {heliosphere.NOSE:.0f} AU ahead, a round "
            "number near to where the Voyager probes left it, for which no reference was read.",
            "The flow is a plain model: one-fluid, incompressible, without magnetic forces, a bow shock or the tilt "
            "of the interstellar field. The shock is a sphere, as in the text; in nature it is blunt too.",
            "The wind is said to reach 800 km/s near the poles; 400 km/s is our choice for the equator.",
        ),
    )  # fmt: skip
