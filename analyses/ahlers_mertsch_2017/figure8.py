"""AM17, Fig. 8: the dipole in the equatorial plane, rescaled and freed from the motion of the Sun."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Row, Table
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, FancyArrowPatch, Polygon

import obsfit
from obsfit.plot.products import write_table
from obsfit.plot.report import DataSource, FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, MARKERS, new_figure, save, styled
from obsfit.records import DipoleMeasurements
from obsfit.sky.coupling import projection_factor
from obsfit.sky.directions import direction_entry, right_ascension_declination
from obsfit.sky.east_west import east_west_step
from obsfit.sky.motion import compton_getting, motion_beta

KEY = "am17-figure8"
TITLE = "Dipole components in the equatorial plane"
PAPER = "AM17"
FIGURE = "Fig. 8"

SPECTRAL_INDEX = 2.7
OBSERVATORIES = ("ARGO-YBJ", "EAS-TOP", "IceCube", "IceTop", "Tibet-ASgamma")
# Offsets in points of the energy labels, so that none covers a neighbour.
LABEL_OFFSETS = {
    ("ARGO-YBJ", "0.0"): (-3, -11),
    ("ARGO-YBJ", "0.2"): (4, -11),
    ("ARGO-YBJ", "0.4"): (1, 11),
    ("ARGO-YBJ", "0.6"): (6, -11),
    ("ARGO-YBJ", "0.9"): (14, 2),
    ("ARGO-YBJ", "1.1"): (-6, 12),
    ("ARGO-YBJ", "1.5"): (-8, -11),
    ("EAS-TOP", "2.0"): (13, -5),
    ("IceCube", "1.1"): (-14, 2),
    ("IceCube", "1.4"): (-14, 2),
    ("IceCube", "1.6"): (-15, 3),
    ("IceCube", "1.9"): (-16, 4),
    ("IceCube", "2.1"): (-17, 5),
    ("IceCube", "2.4"): (-16, 9),
    ("IceCube", "2.8"): (-18, 3),
    ("IceCube", "3.1"): (0, -11),
    ("IceCube", "3.7"): (0, 11),
    ("IceTop", "2.7"): (-12, -7),
    ("IceTop", "3.2"): (14, 0),
    ("Tibet-ASgamma", "1.2"): (14, 3),
    ("Tibet-ASgamma", "1.7"): (14, -4),
    ("Tibet-ASgamma", "2.0"): (14, -4),
    ("Tibet-ASgamma", "2.5"): (14, 0),
}
# Table 1 lists an older Tibet analysis (zenith cut 45 deg) that the figure does not show.
TIBET_ZENITH_MAX_DEG = 60.0


def selection(dipoles: DipoleMeasurements) -> DipoleMeasurements:
    """Return the measurements that the figure shows."""
    keep = np.array([name in OBSERVATORIES for name in dipoles.observatory])
    tibet = np.array([name == "Tibet-ASgamma" for name in dipoles.observatory])
    keep &= ~tibet | np.isclose(np.degrees(dipoles.zenith_max_rad), TIBET_ZENITH_MAX_DEG)
    return dipoles.select(keep)


def factor(dipoles: DipoleMeasurements, row: int) -> float:
    """Return the published over the true amplitude for a pure dipole: Eq. (25), or the step of Eq. (23)."""
    if dipoles.method[row] == "east-west":
        return east_west_step(lambda zenith, azimuth: 1.0 + 0.0 * zenith, dipoles.zenith_max_rad[row] * u.rad)
    return projection_factor(dipoles.dec_min_rad[row] * u.rad, dipoles.dec_max_rad[row] * u.rad)


def sun_dipole() -> np.ndarray:
    """Return the equatorial part of the Compton-Getting dipole of the motion in the local standard of rest, (2,)."""
    return compton_getting(motion_beta("LSR"), SPECTRAL_INDEX)[:2]


def numbers(dipoles: DipoleMeasurements) -> Table:
    """Return one row per disk: factor, components less the motion of the Sun, and the axes of the error ellipse."""
    factors = np.array([factor(dipoles, row) for row in range(len(dipoles))])
    amplitude = dipoles.amplitude / factors
    direction = np.stack([np.cos(dipoles.phase_rad), np.sin(dipoles.phase_rad)], axis=-1)
    star = amplitude[:, None] * direction - sun_dipole()
    as_printed = dipoles.amplitude[:, None] * direction - sun_dipole()
    table = Table(
        {
            "measurement": list(dipoles.measurement),
            "observatory": list(dipoles.observatory),
            "energy": dipoles.energy_tev,
            "phase": np.degrees(dipoles.phase_rad),
            "amplitude": dipoles.amplitude,
            "factor": factors,
            "delta_0h": star[:, 0],
            "delta_6h": star[:, 1],
            "sigma_along": dipoles.amplitude_error / factors,
            "sigma_across": amplitude * dipoles.phase_error_rad,
            "unscaled_0h": as_printed[:, 0],
            "unscaled_6h": as_printed[:, 1],
        },
        units={"energy": "TeV", "phase": "deg"},
    )
    table["amplitude"].description = "as printed"
    table["factor"].description = "amplitude / factor is drawn: Eq. (25), or Eq. (23) for East-West"
    table["delta_0h"].description = "rescaled, less the Compton-Getting dipole of the Sun in the LSR"
    table[
        "sigma_along"
    ].description = "semi-axis of the error ellipse along the phase, before the motion is removed"
    table["unscaled_0h"].description = "as delta_0h with factor 1"
    return table


def axis_deg(name: str) -> tuple[float, float]:
    """Return right ascension of a named direction and the half width of its uncertainty projected on the equator."""
    entry = direction_entry(name)
    ra, dec = right_ascension_declination(entry.vector)
    spread = 0.0
    if entry.uncertainty is not None:
        spread = np.degrees(np.arcsin(np.sin(entry.uncertainty.to_value(u.rad)) / np.cos(dec.to_value(u.rad))))
    return float(ra.to_value(u.deg)), float(spread)


def draw(table: Table, stem: Path) -> None:
    """Draw the plane in units of 1e-3."""
    scale = 1e3
    with styled():
        figure = new_figure(7.4, 7.3)
        axes = figure.subplots()
        axes.set_aspect("equal")
        axes.set(xlim=(-3.05, 1.55), ylim=(-2.85, 1.45))
        draw_axis(axes, *axis_deg("ibex"), label="magnetic field (IBEX)")
        for index, name in enumerate(OBSERVATORIES):
            rows = table[table["observatory"] == name]
            colour, marker = tuple(COLOURS.values())[index + 1], MARKERS[index]
            for row in rows:
                axes.add_patch(error_ellipse(row, scale, colour))
            centre = scale * np.stack([rows["delta_0h"], rows["delta_6h"]])
            plain = scale * np.stack([rows["unscaled_0h"], rows["unscaled_6h"]])
            label = f"{name.replace('ASgamma', 'ASγ')} / {rows['factor'][0]:.3f}"
            axes.plot(*centre, color=colour, linestyle="-", linewidth=0.7, alpha=0.6, zorder=4)
            axes.plot(*centre, color=colour, linestyle="none", marker=marker, markersize=5, zorder=5, label=label)
            if name == "EAS-TOP":
                for one, other in zip(plain.T, centre.T, strict=True):
                    axes.plot(
                        *np.stack([one, other], axis=1), color=colour, linestyle=":", linewidth=1.2, zorder=4
                    )
                axes.plot(
                    *plain, color=colour, marker=marker, markersize=5, markerfacecolor="white", linestyle="none",
                    zorder=5, label="EAS-TOP as printed",
                )  # fmt: skip
            for row, position in zip(rows, centre.T, strict=True):
                text = f"{round(float(np.log10(row['energy'])), 1) + 0.0:.1f}"
                offset = LABEL_OFFSETS.get((name, text), (0, -10))
                axes.annotate(
                    text, position, xytext=offset, textcoords="offset points", fontsize=8.5, color=colour, zorder=6,
                    ha="center", va="center",
                )  # fmt: skip
        draw_arrow(axes, np.zeros(2), scale * sun_dipole())
        axes.annotate("LSR", scale * sun_dipole(), xytext=(11, 6), textcoords="offset points", fontsize=9)
        angle = np.radians(axis_deg("galactic-centre")[0])
        towards = np.array([np.cos(angle), np.sin(angle)])
        draw_arrow(axes, 2.25 * towards, 2.7 * towards)
        axes.annotate(
            "Galactic\ncentre", 2.48 * towards, xytext=(-8, 0), textcoords="offset points", fontsize=9,
            ha="right", va="center",
        )  # fmt: skip
        axes.plot(0, 0, color="black", marker="+", markersize=9, zorder=6)
        axes.set_xlabel(r"$\delta^\star_{0\mathrm{h}}\ [10^{-3}]$")
        axes.set_ylabel(r"$\delta^\star_{6\mathrm{h}}\ [10^{-3}]$")
        axes.legend(loc="upper left")
        save(figure, stem)


def draw_axis(axes: Axes, ra_deg: float, spread_deg: float, *, label: str) -> None:
    """Draw a line through the origin with a wedge of its uncertainty on both sides."""
    reach = 5.0
    for turn in (0.0, 180.0):
        edges = np.radians([ra_deg + turn - spread_deg, ra_deg + turn + spread_deg])
        corners = [(0.0, 0.0), *((reach * np.cos(edge), reach * np.sin(edge)) for edge in edges)]
        axes.add_patch(Polygon(corners, color="0.78", zorder=1, linewidth=0))
    x, y = reach * np.cos(np.radians(ra_deg)), reach * np.sin(np.radians(ra_deg))
    axes.plot([-x, x], [-y, y], color="0.3", linestyle="--", linewidth=1.2, zorder=2, label=label)


def draw_arrow(axes: Axes, start: np.ndarray, end: np.ndarray) -> None:
    """Draw a black arrow."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color="black", zorder=7))


def error_ellipse(row: Row, scale: float, colour: str) -> Ellipse:
    """Return the shaded 1 sigma area of one measurement."""
    return Ellipse(
        (scale * row["delta_0h"], scale * row["delta_6h"]),
        2 * scale * row["sigma_along"],
        2 * scale * row["sigma_across"],
        angle=row["phase"],
        facecolor=colour,
        edgecolor=colour,
        alpha=0.25,
        zorder=3,
    )


def make(context: Context) -> FigureEntry:
    dipoles = selection(obsfit.load_dipoles("ahlers-mertsch-2017"))
    source = DataSource.of(dipoles.provenance)
    table = numbers(dipoles)
    draw(table, context.directory / "figure8")
    write_table(
        table,
        context.directory / "figure8.ecsv",
        data=[source],
        description="Equatorial dipole components as drawn in Fig. 8 of AM17.",
        settings={"spectral_index": SPECTRAL_INDEX, "motion": "LSR"},
    )
    factors = {name: float(table["factor"][table["observatory"] == name][0]) for name in OBSERVATORIES}
    sun = 1e4 * sun_dipole()
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "reproduced",
        caption="Equatorial components of the dipole, less the Compton-Getting dipole of the Sun in the local standard "
        "of rest (black arrow; spectral index 2.7). Amplitudes averaged over declination are divided by Eq. (25) for a "
        "pure dipole and a uniform declination band, East-West amplitudes by the step of Eq. (23) with constant "
        "acceptance; the divisors stand in the legend. Shaded: 1 sigma of the printed statistical errors, amplitude "
        "along and phase across the dipole. Numbers: log10 of the median energy in TeV. Dashed with grey band: "
        "axis of the magnetic field from IBEX and its uncertainty of 1.5 degrees, projected on the equator.",
        alt="Scatter plot of two dipole components with energies written beside the points. Below 200 TeV the points "
        "lie to the upper right of the origin and come closer to it with energy, near the axis of the local magnetic "
        "field, which runs from lower left to upper right at 48 degrees. Above 300 TeV most lie below the origin.",
        image="figure8.png", table="figure8.ecsv",
        comparisons=compare(
            context.expected, "figure8",
            {
                "disks drawn": len(table),
                "LSR dipole, 0h component": sun[0],
                "LSR dipole, 6h component": sun[1],
                "right ascension of the IBEX axis": axis_deg("ibex")[0],
                "right ascension of the Galactic centre": axis_deg("galactic-centre")[0],
                "Eq. (25), ARGO-YBJ": factors["ARGO-YBJ"],
                "Eq. (25), Tibet": factors["Tibet-ASgamma"],
                "Eq. (25), IceCube": factors["IceCube"],
                "Eq. (25), IceTop": factors["IceTop"],
                "East-West step of EAS-TOP": factors["EAS-TOP"],
            },
        ),
        deviations=(
            "EAS-TOP: the caption says that its amplitudes are rescaled to account for Eq. (23), not by how much. "
            "Filled symbols divide the printed amplitudes by the full step. If they had been divided by a mean hour "
            "angle already when published, that is too much; open symbols are the printed amplitudes. The earlier "
            "EAS-TOP amplitude referred to the equator, (3.73 ± 0.57) × 10⁻⁴ at 200 TeV (Aglietta et al. 1996), speaks "
            "for a value near the open symbols.",
            "IceTop at 500 TeV carries reference 50 in Table 1 and is described with reference 51 in the text; it is "
            "drawn with IceTop's field of view.",
            "Shaded areas are ellipses from both printed errors, where the paper draws disks. The IceCube point at "
            "5.4 PeV has a phase error of 65 degrees: its ellipse is only indicative.",
            "The acceptance of EAS-TOP is not published in the paper; it is taken as constant within 40 degrees "
            "(with an acceptance proportional to the cosine of the zenith angle the step is 2.5 percent smaller).",
        ),
        data=(source,),
    )  # fmt: skip
