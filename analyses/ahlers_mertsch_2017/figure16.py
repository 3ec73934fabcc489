"""AM17, Fig. 16: orbits of particles with nearly the same momentum, and how long they stay together."""

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
from obsfit.plot.runner import Context, generator, load_program
from obsfit.plot.style import new_figure, save, series_style, styled

KEY = "am17-figure16"
TITLE = "Particles of nearly the same momentum share their history, for a while"
PAPER = "AM17"
FIGURE = "Fig. 16"

FloatArray = NDArray[np.float64]

RIGIDITY_PV = 10.0
LONGEST_PC = 60.0
DRAWN_PC = 45.0
STEP = 0.04
# Angle between the directions of arrival in degrees, and relative difference of the rigidities.
PAIRS = ((1.0, 0.0), (5.0, 0.0), (20.0, 0.0), (60.0, 0.0), (0.0, 0.03), (0.0, 0.3))

orbits = load_program(Path(__file__).parents[1] / "giacinti_sigl_2012" / "_orbits.py")


def turned(arrival: FloatArray, angle_deg: float, rng: np.random.Generator) -> FloatArray:
    """Return unit vectors (3, n) at a fixed angle from others, to random sides."""
    side = rng.normal(size=arrival.shape)
    side -= np.sum(side * arrival, axis=0) * arrival
    side /= np.linalg.norm(side, axis=0)
    return np.asarray(np.cos(np.radians(angle_deg)) * arrival + np.sin(np.radians(angle_deg)) * side)


def tracked(
    field: MagneticField, arrival: FloatArray, rigidity_pv: float, times_pc: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return places in pc and directions of motion, shape (n_time, 3, n) each, at times in pc / c."""
    r_g = orbits.gyroradius_pc(rigidity_pv)
    found = back_track(field, arrival, times_pc / r_g, gyroradius=r_g, step=STEP)
    return found.position * r_g, found.momentum


def alignment(
    fields: list[MagneticField], times_pc: FloatArray, nside: int, rng: np.random.Generator
) -> FloatArray:
    """Return the mean cosine of the angle between the momenta of pairs, shape (n_pair, n_time)."""
    arrival = np.array(hp.pix2vec(nside, np.arange(hp.nside2npix(nside))))
    total = np.zeros((len(PAIRS), times_pc.size))
    for field in fields:
        first = tracked(field, arrival, RIGIDITY_PV, times_pc)[1]
        for n, (angle, difference) in enumerate(PAIRS):
            other = tracked(field, turned(arrival, angle, rng), RIGIDITY_PV * (1.0 + difference), times_pc)[1]
            total[n] += np.mean(np.sum(first * other, axis=1), axis=1)
    return total / len(fields)


def name_of(angle: float, difference: float) -> str:
    """Return the label of a pair."""
    return f"{angle:g}° apart" if angle else f"{100 * difference:g} % in rigidity"


def draw(paths: list[FloatArray], labels: list[str], times: FloatArray, cosine: FloatArray, stem: Path) -> None:
    """Draw some orbits on the left, how pairs lose each other on the right."""
    with styled():
        figure = new_figure(9.4, 5.0)
        left, right = figure.subplots(1, 2)
        extent = 1.05 * max(float(np.sqrt(np.max(np.sum(path**2, axis=0)))) for path in paths)
        draw_paths(left, paths, extent=extent, names=("X [pc]", "Y [pc]"), labels=labels)
        left.legend(loc="best", fontsize=8.5)
        left.set_title(f"the last {DRAWN_PC:g} pc of four orbits", fontsize=11)
        for n, pair in enumerate(PAIRS):
            style = series_style(n)
            right.plot(times, cosine[n], color=style["color"], linestyle=style["linestyle"], label=name_of(*pair))
        right.set(ylim=(-0.12, 1.05), xlim=(0, LONGEST_PC))
        right.set_xlabel("time of back-tracking T [pc / c]")
        right.set_ylabel(r"mean $\hat p_1 \cdot \hat p_2$ of pairs")
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8.5)
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    number, nside = (50, 16) if context.full else (8, 8)
    field = orbits.felt(orbits.shown_field(context.seed), RIGIDITY_PV)
    arrival = orbits.direction(np.array([150.0]), np.array([0.0]))
    near = orbits.direction(np.array([153.0]), np.array([0.0]))
    wide = orbits.direction(np.array([180.0]), np.array([0.0]))
    dense = np.linspace(0.0, DRAWN_PC, 900)
    drawn = (
        ("first", arrival, 1.0), ("3° away", near, 1.0), ("30° away", wide, 1.0), ("10 % more rigid", arrival, 1.1),
    )  # fmt: skip
    paths = [tracked(field, where, RIGIDITY_PV * factor, dense)[0][:, :, 0].T for _, where, factor in drawn]
    times = np.linspace(0.0, LONGEST_PC, 61)
    fields = [orbits.felt(orbits.field(generator(context.seed, f"{KEY}-{n}")), RIGIDITY_PV) for n in range(number)]
    cosine = alignment(fields, times, nside, context.rng)
    draw(paths, [label for label, _, _ in drawn], times, cosine, context.directory / "figure16")
    table = Table({"time_pc": times} | {name_of(*pair): cosine[n] for n, pair in enumerate(PAIRS)})
    for name in table.colnames:
        table[name].info.format = ".4g"
    write_table(
        table, context.directory / "figure16.ecsv",
        description="Mean cosine of the angle between the momenta of two particles against the time before arrival",
        settings={"seed": context.seed, "fields": number, "nside": nside},
    )  # fmt: skip
    half = [half_time(times, values) for values in cosine]
    said = ", ".join(
        f"{name_of(*pair)} {'more than ' if np.isnan(time) else ''}{LONGEST_PC if np.isnan(time) else time:.0f}"
        for pair, time in zip(PAIRS, half, strict=True)
    )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "sketch",
        caption="Left: orbits at 10 PV that arrive from directions 0, 3 and 30 degrees apart, and one of a particle "
        "from the first direction with a rigidity larger by ten percent, seen backwards, projected on the Galactic "
        "plane, in the field of Figs. 1 to 3 of GS. Right: mean cosine of the angle between the momenta of two "
        f"particles that arrive at some angle, or with some difference in rigidity; {12 * nside**2} pairs in each of "
        f"{number} fields.",
        alt="Left, four lines that leave one point together and part one after another, the widest angle first. "
        "Right, curves that fall from their start towards zero; those of smaller angles and smaller differences of "
        "rigidity stay near one for longer.",
        image="figure16.png", table="figure16.ecsv",
        deviations=(
            "The paper's figure is drawn by hand; here the orbits are computed, and the right panel is added.",
            f"The mean cosine has fallen to half of its start after, in pc / c: {said}.",
        ),
        seed=context.seed, size_note="" if context.full else f"{number} fields",
    )  # fmt: skip


def half_time(times: FloatArray, values: FloatArray) -> float:
    """Return the first time at which values are below half of the first, NaN if they never are."""
    below = np.flatnonzero(values < 0.5 * values[0])
    return float(times[below[0]]) if below.size else float("nan")
