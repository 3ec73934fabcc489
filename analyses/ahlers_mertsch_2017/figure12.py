"""AM17, Fig. 12: orbits that arrive from a fan of directions, ballistic, laminar and turbulent."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import back_track

from obsfit.plot.orbits import draw_paths
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry
from obsfit.plot.runner import Context, load_program
from obsfit.plot.style import COLOURS, new_figure, save, styled

KEY = "am17-figure12"
TITLE = "The flow of back-tracked orbits: ballistic, laminar, turbulent"
PAPER = "AM17"
FIGURE = "Fig. 12"

FloatArray = NDArray[np.float64]

RIGIDITY_PV = 10
NU_T = (0.1, 1.0, 10.0)
DIRECTIONS = 48
# Two neighbours and one that is far from both, as in the paper.
MARKED = ((0, "vermilion", "-", "first"), (1, "orange", "--", "its neighbour"), (14, "blue", "-", "another"))
STEP = 0.02

orbits = load_program(Path(__file__).parents[1] / "giacinti_sigl_2012" / "_orbits.py")


def scattering_length_pc(field: MagneticField) -> float:
    """Return <r^2> / 2 T after thirty gyroperiods over 2 pi, and longer, in the field: c / nu in pc."""
    r_g = orbits.gyroradius_pc(RIGIDITY_PV)
    arrival = np.array(hp.pix2vec(8, np.arange(hp.nside2npix(8))))
    times = np.array([100.0, 150.0])
    place = back_track(field, arrival, times, gyroradius=r_g).position
    square = np.mean(np.sum(place**2, axis=1), axis=1)
    return float(r_g * (square[1] - square[0]) / (2.0 * (times[1] - times[0])))


def fan(field: MagneticField, length_pc: float, nu_t: float) -> FloatArray:
    """Return the orbits (n_direction, 3, n_time) in pc that arrive from a fan of directions in the Galactic plane."""
    r_g = orbits.gyroradius_pc(RIGIDITY_PV)
    longitude = np.arange(DIRECTIONS) * 360.0 / DIRECTIONS
    times = np.linspace(0.0, nu_t * length_pc / r_g, 401)
    found = back_track(field, orbits.direction(longitude, 0.0 * longitude), times, gyroradius=r_g, step=STEP)
    return np.asarray(found.position.transpose(2, 1, 0) * r_g)


def draw(flows: list[FloatArray], stem: Path) -> None:
    """Draw the three flows side by side."""
    with styled():
        figure = new_figure(8.8, 3.7)
        for axes, nu_t, flow in zip(figure.subplots(1, 3), NU_T, flows, strict=True):
            extent = float(1.02 * np.sqrt(np.max(np.sum(flow**2, axis=1))))
            draw_paths(axes, list(flow), extent=extent, names=("X [pc]", "Y [pc]"), linewidth=0.6)
            for line in axes.lines[:-1]:
                line.set(color="0.72", linestyle="-")
            for index, colour, dash, label in MARKED:
                axes.plot(
                    *flow[index][:2], color=COLOURS[colour], linestyle=dash, linewidth=1.8, label=label, zorder=4
                )
            axes.locator_params(nbins=5)
            axes.set_title(rf"$\nu T = {nu_t:g}$", fontsize=12)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    field = orbits.felt(orbits.shown_field(context.seed), RIGIDITY_PV)
    length = scattering_length_pc(field)
    flows = [fan(field, length, nu_t) for nu_t in NU_T]
    draw(flows, context.directory / "figure12")
    rows = []
    for nu_t, flow in zip(NU_T, flows, strict=True):
        ends = flow[:, :, -1]
        ballistic = np.linalg.norm(ends, axis=1) / (nu_t * length)
        gap = np.linalg.norm(np.roll(ends, -1, axis=0) - ends, axis=1)
        rows.append((nu_t, ballistic.mean(), float(np.median(gap)) / np.linalg.norm(ends, axis=1).mean()))
    table = Table(rows=rows, names=("nu_t", "distance_over_path", "gap_over_distance"))
    table["distance_over_path"].info.description = "mean distance of the ends over the length of the orbits"
    table["gap_over_distance"].info.description = "median distance of neighbouring ends over the mean distance"
    for name in table.colnames[1:]:
        table[name].info.format = ".4g"
    write_table(
        table, context.directory / "figure12.ecsv",
        description="How straight the orbits are, and how far neighbours have parted",
        settings={"seed": context.seed, "scattering_length_pc": length, "directions": DIRECTIONS},
    )  # fmt: skip
    straight, gaps = table["distance_over_path"], table["gap_over_distance"]
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "sketch",
        caption=f"Orbits of {DIRECTIONS} particles of 10 PV that arrive at one point from directions in a plane, seen "
        "backwards for a tenth, once and ten times the scattering time and projected on that plane: computed in the "
        "field of Figs. 1 to 3 of GS (isotropic turbulence of 4 microgauss below 150 pc, no mean field). Red and "
        f"orange arrive {360 / DIRECTIONS:g} degrees apart, blue {14 * 360 / DIRECTIONS:g} degrees from red. c / nu, "
        f"from the mean square displacement in this field, is {length:.1f} pc.",
        alt="Three pictures of lines from one point. Left, straight rays; middle, rays bent in wide curves that keep "
        "their order, red and orange side by side; right, a tangle of lines in which red and orange have parted.",
        image="figure12.png", table="figure12.ecsv",
        deviations=(
            "The paper's figure is drawn by hand; here the orbits are computed.",
            f"Ends of the orbits lie at {straight[0]:.2f}, {straight[1]:.2f} and {straight[2]:.2f} of the length of "
            f"the path; neighbouring ends are apart by {gaps[0]:.2f}, {gaps[1]:.2f} and {gaps[2]:.2f} of their "
            f"distance from the observer ({2 * np.sin(np.pi / DIRECTIONS):.2f} for straight rays).",
        ),
        seed=context.seed,
    )  # fmt: skip
