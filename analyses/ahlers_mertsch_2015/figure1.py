"""AM15, Fig. 1 (ASTRA, Fig. 2; AM17, Fig. 14): power of back-tracked skies against the time of back-tracking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.sky_spectra import diffusive_shot_noise, field_average, standard_component_power

from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context, load_program
from obsfit.plot.style import COLOURS, new_figure, save, styled

KEY = "am15-figure1"
TITLE = "Power of back-tracked skies against time"
PAPER = "AM15"
FIGURE = "Fig. 1 (the same as ASTRA, Fig. 2, and AM17, Fig. 14)"

FloatArray = NDArray[np.float64]
common = load_program(Path(__file__).with_name("_ensemble.py"))
skies = common.skies

ELL = tuple(range(2, 10))
WAYS = ("parallel", "perpendicular")
STYLES = {"parallel": "-", "perpendicular": ":"}
# From here on the line of Eq. (71), whose K is that of the longest time, is drawn.
DIFFUSIVE_FROM = 3.0


@dataclass(frozen=True)
class Evolution:
    """Power along and across the field: one mapping for each, of names to arrays over time."""

    time: FloatArray
    of: dict[str, dict[str, FloatArray]]


def evolution(ensemble: DisplacementEnsemble) -> Evolution:
    """Return means over fields and their standard errors, for gradients along the uniform field and across it.

    Shot noise is that of the paper's 12288 directions: Eq. (71), and the noise measured in ours over their number.
    """
    standard, standard_error = standard_component_power(ensemble)
    noise = skies.shot_noise(ensemble)
    squares = skies.mean_squares(ensemble)
    time, n = ensemble.stop, common.PAPER_DIRECTIONS
    columns: dict[str, dict[str, FloatArray]] = {}
    parts = zip(
        WAYS,
        skies.along_and_across(skies.gradient_power(ensemble), axis=2),
        skies.along_and_across(standard[0, :, :3, 1]),
        skies.along_and_across(standard_error[0, :, :3, 1]),
        skies.along_and_across(noise),
        skies.along_and_across(squares),
        strict=True,
    )
    for way, power, mean_sky, mean_sky_error, measured, square in parts:
        found = field_average(power)
        tensor = np.diag([0.0, 0.0, square[:, -1].mean() / (2 * time[-1])])
        columns[way] = {
            **{f"C_{ell}": found.mean[:, ell] for ell in range(found.mean.shape[1])},
            **{f"C_{ell}_error": found.error[:, ell] for ell in range(found.error.shape[1])},
            "C_1_log_scatter": found.log_scatter[:, 1],
            "standard": mean_sky,
            # x and y are two estimates, taken as one: their errors are nearly those of one
            "standard_error": mean_sky_error,
            "noise_71": diffusive_shot_noise(n, time, tensor, (0.0, 0.0, 1.0)),
            "noise_measured": measured.mean(axis=0) * ensemble.directions / n,
            "mean_square": square.mean(axis=0),
        }
    return Evolution(time, columns)


def numbers(found: Evolution) -> Table:
    """Return one row per time and direction of the gradient."""
    rows = [
        {"gradient": way, "omega_t": float(time), **{name: float(values[i]) for name, values in columns.items()}}
        for way, columns in found.of.items()
        for i, time in enumerate(found.time)
    ]
    table = Table(rows)
    for name in table.colnames[2:]:
        table[name].info.format = ".6g"
    # Where C_1 of a field is not positive there is no logarithm.
    table["C_1_log_scatter"] = np.ma.masked_invalid(table["C_1_log_scatter"])
    return table


def draw(found: Evolution, noise_label: str, stem: Path) -> None:
    """Draw all powers against time."""
    with styled():
        figure = new_figure(7.4, 8.0)
        axes = figure.subplots()
        for way, columns in found.of.items():
            _curves(axes, found.time, columns, STYLES[way])
        for ell in (ELL[0], ELL[-1]):
            place = (found.time[-1] * 1.05, found.of["parallel"][f"C_{ell}"][-1])
            axes.annotate(f"{ell}", place, color=COLOURS["green"], fontsize=9, va="center")
        axes.set(xscale="log", yscale="log", xlim=(found.time[0], found.time[-1] * 1.35), ylim=(1e-5, 6e3))
        axes.set_xlabel(r"time before arrival $\Omega T$")
        axes.set_ylabel(r"power $\langle C_\ell \rangle$  [$(r_L |\nabla n| / n)^2$]")
        entries = [
            (Line2D([], [], color="black", linewidth=2.2), r"dipole $C_1$"),
            (Line2D([], [], color=COLOURS["blue"]), r"monopole $C_0$"),
            (Line2D([], [], color=COLOURS["green"], linewidth=1.0), r"$C_2$ to $C_9$, downwards"),
            (Line2D([], [], color=COLOURS["purple"]), "dipole of the mean sky"),
            (Line2D([], [], color=COLOURS["vermilion"], linewidth=1.0), noise_label),
            (Line2D([], [], color=COLOURS["vermilion"], marker="o", markersize=4, linestyle="none",
                    markerfacecolor="white"), "as measured (full: across)"),
            (Line2D([], [], color="0.3"), "gradient along the field"),
            (Line2D([], [], color="0.3", linestyle=":"), "gradient across it"),
            (Patch(color="0.8"), "standard errors"),
        ]  # fmt: skip
        figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=3)
        save(figure, stem)


def _curves(axes: Axes, time: FloatArray, columns: dict[str, FloatArray], style: str) -> None:
    """Draw the curves of one direction of the gradient."""
    for name, error, colour, width in (
        ("C_1", "C_1_error", "black", 2.2), ("standard", "standard_error", COLOURS["purple"], 1.6),
    ):  # fmt: skip
        low, high = columns[name] - columns[error], columns[name] + columns[error]
        axes.fill_between(time, np.maximum(low, 1e-9), high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(time, _positive(columns[name]), color=colour, linestyle=style, linewidth=width)
    axes.plot(time, _positive(columns["C_0"]), color=COLOURS["blue"], linestyle=style)
    for ell in ELL:
        axes.plot(time, _positive(columns[f"C_{ell}"]), color=COLOURS["green"], linestyle=style, linewidth=1.0)
    late = time >= DIFFUSIVE_FROM
    red = COLOURS["vermilion"]
    axes.plot(time[late], columns["noise_71"][late], color=red, linestyle=style, linewidth=1.0)
    filled = red if style == ":" else "white"
    axes.plot(
        time[late], columns["noise_measured"][late], color=red, linestyle="none", marker="o", markersize=4,
        markerfacecolor=filled,
    )  # fmt: skip


def _positive(values: FloatArray) -> FloatArray:
    """Estimates without noise may fall below zero; a logarithmic axis has no place for them."""
    return np.where(values > 0, values, np.nan)


def slope(found: Evolution, way: str, name: str, start: float, stop: float) -> float:
    """Return the logarithmic slope of a power between two times."""
    first, last = (int(np.argmin(np.abs(found.time - time))) for time in (start, stop))
    values = found.of[way][name]
    return float(np.log(values[last] / values[first]) / np.log(found.time[last] / found.time[first]))


def compared(found: Evolution) -> dict[str, float]:
    """Return our numbers for the rows of expected.ecsv."""
    ours = {}
    for way, columns in found.of.items():
        ours[f"{way}, C_1 over (4 pi / 9) T^2 at Omega T = 0.1"] = float(
            columns["C_1"][0] / (4 * np.pi / 9 * found.time[0] ** 2)
        )
        ours[f"{way}, slope of C_1 from Omega T = 0.1 to 0.3"] = slope(found, way, "C_1", 0.1, 0.3)
        ours[f"{way}, slope of C_0 from Omega T = 30 to 100"] = slope(found, way, "C_0", 30.0, 100.0)
    across = found.of["perpendicular"]
    ours["perpendicular, dipole of the mean sky over C_1 at Omega T = 100"] = float(
        across["standard"][-1] / across["C_1"][-1]
    )
    ours["perpendicular, slope of C_1 from Omega T = 50 to 100"] = slope(
        found, "perpendicular", "C_1", 50.0, 100.0
    )
    return ours


def remarks(found: Evolution, context: Context, size: str) -> tuple[str, ...]:
    """Return what differs from the paper, with the numbers of this run."""
    along, across = (found.of[way] for way in WAYS)
    ratio = [columns["C_1"][-1] / columns["standard"][-1] for columns in (along, across)]
    shares = [columns["noise_measured"][-1] / columns["noise_71"][-1] for columns in (along, across)]
    errors = [100 * columns["C_1_error"][-1] / columns["C_1"][-1] for columns in (along, across)]
    return (
        f"This run: {size}. The paper averages 10 fields, which leaves 30 percent and more of scatter in each curve; "
        f"here the standard error of C_1 at the longest time is {errors[0]:.0f} percent along and {errors[1]:.0f} "
        "percent across the field.",
        "Green, blue and black are products between two sets of directions, random in their pixels, and contain no "
        "shot noise; in the paper high multipoles run into it. Red is the noise of the paper's 12288 directions: "
        "Eq. (71) with K of the longest time, and as measured here (power of a set less that between sets, scaled with "
        f"the number of directions), which reaches {shares[0]:.2f} and {shares[1]:.2f} of it: much of the variance of "
        "the map is in resolved multipoles, the more the finer the directions.",
        "The dipole of the mean sky is built from products between different fields. The power of a mean of 10 "
        "skies is too large by a tenth of C_1, which across the field exceeds the signal. "
        f"C_1 is {_times(ratio[0], along)} (along) and {_times(ratio[1], across)} (across) the standard dipole. "
        "Where its estimate is below zero it is not drawn.",
        "The number of waves is not in the paper: here 100 over four decades, at the centres of equal intervals of "
        "ln k. 72 fields each with 24, 48 and 100 waves, beside 72 with 200, change ln C_1 along the field by "
        "+0.27 +- 0.15, +0.13 +- 0.14 and -0.01 +- 0.17, across it by -0.01, -0.06 and -0.14 +- 0.26, and ln K by "
        "+0.09, +0.04 and +0.01 +- 0.06 along and +0.06, -0.04 and -0.04 +- 0.08 across: no more than fields scatter "
        "(docs/turbulence-convergence.md).",
        "Step of the leapfrog: 2.5 / (k_max r_L) = 0.04 / Omega. It conserves energy and volume; single orbits are not "
        "followed to the longest time, only their statistics.",
    )


def _times(ratio: float, columns: dict[str, FloatArray]) -> str:
    share, error = (float(columns[name][-1] / columns["C_1"][-1]) for name in ("standard", "standard_error"))
    if share < 2 * error:
        return f"more than {1 / (max(share, 0.0) + 2 * error):.1f} times"
    return f"{ratio:.1f} times (share {share:.3f} +- {error:.3f})"


def make(context: Context) -> FigureEntry:
    ensemble: DisplacementEnsemble = common.ensemble(context)
    found = evolution(ensemble)
    size = common.size_note(ensemble)
    draw(found, f"shot noise, Eq. (71), {common.PAPER_DIRECTIONS} directions", context.directory / "figure1")
    write_table(
        numbers(found), context.directory / "figure1.ecsv",
        description="Power of back-tracked skies, in squares of r_L times the relative gradient, and its errors.",
        settings=dict(ensemble.configuration),
    )  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "reproduced",
        caption="Mean power over fields of the relative intensity, which is the earlier displacement along a gradient "
        "of the density, against the time of back-tracking: dipole (black), monopole (blue), multipoles 2 to 9 "
        "(green), dipole of the sky averaged over fields, which is that of standard diffusion (purple). Solid: "
        "gradient along the uniform field; dotted: across it (mean of both directions). Bands: standard errors from "
        "the scatter of fields. Red: shot noise of 12288 directions. Uniform field and turbulence have equal "
        "energies, wavelengths are 0.01 to 100 lambda_c, r_L = 0.1 lambda_c.",
        alt="Both axes logarithmic, time from 0.1 to 100. Both dipoles rise as the square of time together. The one "
        "along the field goes on to several hundred and bends over towards the end; the one across it bends at a "
        "time of 2 and is flat from 30 on, between 30 and 50. The dipoles of the mean sky stay below: along by a "
        "factor of about two, across by ten or more in the end. Multipoles 2 to 9 start lower and rise the more "
        "steeply the higher they are, and end at a tenth to a few thousandths of the dipole, the higher ones lower. "
        "The monopole grows to the end. Measured shot noise lies below the straight line of Eq. (71).",
        image="figure1.png", table="figure1.ecsv",
        comparisons=compare(context.expected, "figure1", compared(found)),
        deviations=remarks(found, context, size), seed=context.seed, size_note="" if context.full else size,
    )  # fmt: skip
