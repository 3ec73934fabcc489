"""AM17, Fig. 11: magnetic regions of one polarity, carried by the solar wind into the heliotail."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Circle, Patch
from scipy.optimize import brentq

from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context, load_program
from obsfit.plot.style import COLOURS, new_figure, save, styled

KEY = "am17-figure11"
TITLE = "Magnetic regions of one polarity on their way into the heliotail"
PAPER = "AM17"
FIGURE = "Fig. 11"

FLIP_YEARS = 11.0
TILT_DEG = (10.0, 90.0)
WIND_KM_S = 400.0
LARGEST_AU = 250.0
YEARS = 85.0
EXTENT = (-200.0, 1150.0, -330.0, 330.0)
COLOUR_OF = {-1: "#e8a27c", 0: "#e6e6e6", 1: "#7fb2d6"}

heliosphere = load_program(Path(__file__).with_name("_heliosphere.py"))


def tilt(year: np.ndarray) -> np.ndarray:
    """Return the tilt of the current sheet in degrees: largest when the polarity flips, smallest half-way."""
    low, high = TILT_DEG
    return low + (high - low) * np.abs(np.cos(np.pi * year / FLIP_YEARS))


def polarity(latitude: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Return the sense of the field that the Sun emits: 1 outward, -1 inward, 0 mixed by the tilted current sheet.

    Parameters
    ----------
    latitude : ndarray
        Degrees from the Sun's equator.
    year : ndarray
        Time since a flip.
    """
    north = np.where(np.floor(year / FLIP_YEARS).astype(int) % 2 == 0, 1, -1)
    return np.where(np.abs(latitude) > tilt(year), np.sign(latitude).astype(int) * north, 0)


def longest(tail: float) -> float:
    """Return how far the wind comes along the axis in the eleven years after the shock, in AU."""
    crossing = heliosphere.SHOCK / (WIND_KM_S * heliosphere.YEAR_AT_1_KM_S)
    times = np.linspace(0.0, crossing + FLIP_YEARS, 2001)
    x, _ = heliosphere.carried(np.zeros(1), times, wind=WIND_KM_S, tail=tail)
    return float(x[0, -1] - heliosphere.SHOCK)


def tail_speed() -> float:
    """Return the speed far down the tail, in km/s, for a largest region of 250 AU."""
    return float(brentq(lambda tail: longest(tail) - LARGEST_AU, 5.0, 200.0, xtol=1e-6))


def electric_field() -> float:
    """Return v B in MV/AU for 10 km/s and 10 microgauss."""
    return float((10.0 * u.km / u.s * 10.0 * u.uG).to_value(u.MV / u.au))


def draw(tail: float, stem: Path) -> None:
    """Draw where plasma of each polarity is, half-way between two flips."""
    # Nearer to the equator than the smallest tilt all is mixed.
    angles = np.radians(np.linspace(TILT_DEG[0], 180.0 - TILT_DEG[0], 401))
    times = np.linspace(0.0, YEARS, 851)
    x, y = heliosphere.carried(angles, times, wind=WIND_KM_S, tail=tail)
    # Seen from the Sun the poles are across the tail: above and below in the picture.
    latitude = np.degrees(np.minimum(angles, np.pi - angles))
    colours = ListedColormap(list(COLOUR_OF.values()))
    edge_x, edge_y = heliosphere.heliopause(EXTENT[1] + 50.0)
    with styled():
        figure = new_figure(9.4, 5.4)
        axes = figure.subplots()
        axes.fill_between(edge_x, -edge_y, edge_y, color=COLOUR_OF[0], linewidth=0)
        for sign in (1, -1):
            # What is here left the Sun `times` ago.
            sense = polarity(sign * latitude[:, np.newaxis], 10.5 * FLIP_YEARS - times)
            axes.pcolormesh(
                x, sign * y, sense[:-1, :-1], cmap=colours, vmin=-1.5, vmax=1.5, shading="flat", rasterized=True
            )
            axes.plot(edge_x, sign * edge_y, color=COLOURS["black"], linewidth=2.2)
        axes.add_patch(Circle((0, 0), heliosphere.SHOCK, fill=False, color="black", linewidth=1.2, linestyle="--"))
        axes.plot(0, 0, "o", color=COLOURS["orange"], markeredgecolor="black", markersize=6, zorder=5)
        for height, length, label in (
            (-275.0, LARGEST_AU, "largest region, 200 to 300 AU"),
            (-312.0, heliosphere.gyroradius_au(1.0, 1.0), "gyroradius of 1 TV in 1 µG, or 10 TV in 10 µG"),
        ):
            axes.plot(
                [150, 150 + length], [height] * 2, color=COLOURS["purple"], linewidth=4, solid_capstyle="butt"
            )
            axes.text(
                165 + length, height, f"{length:.0f} AU: {label}", va="center", fontsize=9.5,
                bbox={"color": "white", "pad": 1.0, "alpha": 0.85},
            )  # fmt: skip
        axes.set(
            xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", xlabel="down the tail [AU]", ylabel="across [AU]"
        )
        axes.grid(visible=False)
        names = {1: "field outward (+)", -1: "field inward (−)", 0: "mixed (finer than can be drawn)"}
        patches = [Patch(facecolor=COLOUR_OF[key], edgecolor="black", label=name) for key, name in names.items()]
        figure.legend(handles=patches, loc="outside lower center", ncols=3)
        mark(axes, tail)
        save(figure, stem)


def mark(axes: Axes, tail: float) -> None:
    """Write the sign into the regions above and below the axis: colours alone are not for all readers."""
    angle = np.radians([60.0])
    times = np.linspace(0.0, YEARS, 851)
    x, y = heliosphere.carried(angle, times, wind=WIND_KM_S, tail=tail)
    # Half-way between two flips: the middle of what was emitted in eleven years.
    for cycle in range(1, 7):
        index = int(np.argmin(np.abs(times - cycle * FLIP_YEARS)))
        for sign in (1, -1):
            sense = int(polarity(np.array(60.0 * sign), np.array(10.5 * FLIP_YEARS - times[index])))
            if x[0, index] < EXTENT[1] - 30:
                axes.text(
                    x[0, index], sign * y[0, index], "+" if sense > 0 else "−", ha="center", va="center",
                    fontsize=15, fontweight="bold",
                )  # fmt: skip


def numbers(tail: float) -> Table:
    """Return the length of the regions along the axis, one after the other, from the shock."""
    crossing = heliosphere.SHOCK / (WIND_KM_S * heliosphere.YEAR_AT_1_KM_S)
    rows = []
    for cycle in range(6):
        places = []
        for time in (cycle * FLIP_YEARS, (cycle + 1) * FLIP_YEARS):
            steps = np.linspace(0.0, crossing + time, 2001)
            places.append(heliosphere.carried(np.zeros(1), steps, wind=WIND_KM_S, tail=tail)[0][0, -1])
        rows.append((places[0], places[1], places[1] - places[0]))
    table = Table(rows=rows, names=("start", "end", "length"), units=("AU", "AU", "AU"))
    for name in table.colnames:
        table[name].info.format = ".4g"
    return table


def make(context: Context) -> FigureEntry:
    tail = tail_speed()
    table = numbers(tail)
    draw(tail, context.directory / "figure11")
    write_table(
        table, context.directory / "figure11.ecsv",
        description="Where the wind of eleven years lies along the tail, region after region from the shock",
        settings={"tail_speed_km_s": tail, "wind_km_s": WIND_KM_S},
    )  # fmt: skip
    last = float(table["length"][-1])
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "sketch",
        caption="Cut through the heliosphere with the poles of the Sun up and down and the tail to the right, half-way "
        "between two flips of the Sun's polarity, which come every 11 years. Plasma keeps the sense of the field with "
        "which it left: outward (blue, +), inward (red, −), or, within the tilt of the current sheet from the equator, "
        f"both in turn (grey). It goes radially at {WIND_KM_S:.0f} km/s to the termination shock (dashed) and then "
        f"along the lines of Fig. 10, whose speed falls to {tail:.0f} km/s down the tail. Thick line: heliopause.",
        alt="A blunt heliosphere open to the right. Behind the dashed circle of the termination shock bent bands, red "
        "and blue in turn, follow one another down the tail; those above the axis have the opposite sign of those "
        f"below, with grey in between and around the axis. Bands are longest near the Sun, {table['length'][0]:.0f} "
        f"AU, and shorter behind, {last:.0f} AU.",
        image="figure11.png", table="figure11.ecsv",
        comparisons=(
            Comparison(
                "electric field of 10 km/s in 10 microgauss", 1.5, electric_field(), "MV/AU", "v B", 0.05,
                "Section 4.1",
            ),
            Comparison(
                "potential along 100 AU", 150.0, 100.0 * electric_field(), "MV", "v B times 100 AU", 5.0,
                "Section 4.1, as an energy of 150 MeV",
            ),
            Comparison(
                "largest size of a region", 250.0, float(table["length"][0]), "AU",
                "not tested: the speed of the tail is chosen for it", None, "Section 4.1: 200 to 300 AU",
            ),
        ),
        deviations=(
            "The paper shows a magnetohydrodynamic simulation from another work, with the tail to the left. This is a "
            "sketch by a plain model of the flow, with what the text states; only its statements are compared.",
            "The polarity is carried along and nothing else: no reconnection, no forces, no turbulence, which in "
            "nature mixes the regions down the tail.",
            f"The tilt of the current sheet is taken to go from {TILT_DEG[0]:.0f} degrees half-way between flips to "
            f"{TILT_DEG[1]:.0f} degrees at a flip. Domains within it, half a rotation of 25 days long, are below 2 AU.",
            "The flow is incompressible beyond the shock, where its speed on the axis is "
            f"{tail * (1.0 + (heliosphere.NOSE / heliosphere.SHOCK) ** 2):.0f} km/s. The paper puts the interstellar "
            "flow at 25 km/s.",
        ),
    )  # fmt: skip
