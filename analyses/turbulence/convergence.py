"""Convergence of back-tracked skies: how power and diffusion depend on step, waves, directions and fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table, vstack
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.ensemble import (
    EnsembleSettings,
    TurbulenceSettings,
    ensemble_identity,
    ensemble_task,
    gather,
)
from obsfit_models.turbulence.sky_spectra import jackknife

from obsfit.execute import run_tasks
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry
from obsfit.plot.runner import Context, load_program
from obsfit.plot.style import COLOURS, new_figure, save, styled

KEY = "turbulence-convergence"
TITLE = "Back-tracked skies: what they depend on besides the physics"
PAPER = "Turbulence"
FIGURE = "Convergence"

FloatArray = NDArray[np.float64]
skies = load_program(Path(__file__).with_name("_skies.py"))

TIME = 100.0
GYRORADIUS = 0.1
OUTER = 100.0
LMAX = 10
MULTIPOLES = (1, 2, 5, 9)
QUANTITIES = (*(f"C_{ell} {way}" for way in ("parallel", "perpendicular") for ell in MULTIPOLES),
              "K parallel", "K perpendicular")  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes
    ----------
    reach : float
        k_max r_L of the fields.
    cut : float
        k_max r_L of the reference: shorter waves are left out.
    fields, fine : int
        Number of fields of the reference, and of those in which resolutions are compared.
    many : int
        Number of fields where they cannot be the same.
    steps, densities, resolutions, cuts, groups : tuple
        What is compared: steps over that of the ensemble, modes per decade, nside, k_max r_L, and numbers of fields.
    """

    reach: float
    cut: float
    fields: int
    fine: int
    many: int
    steps: tuple[float, ...]
    densities: tuple[float, ...]
    resolutions: tuple[int, ...]
    cuts: tuple[float, ...]
    groups: tuple[int, ...]


DENSITY = 25.0
NSIDE = 8
QUICK = Size(30.0, 10.0, 20, 20, 30, (0.5, 1.0, 2.0), (6, 12, 25, 50), (4, 8, 16), (3.0, 10.0, 30.0), (3, 6, 10))
FULL = Size(
    20 * np.pi, 20 * np.pi, 24, 12, 72, (0.25, 0.5, 1.0, 2.0), (6, 12, 25, 50), (8, 16, 32),
    (3.0, 10.0, 30.0, 20 * np.pi), (6, 12, 24),
)  # fmt: skip


def values(
    base: Path, seed: int, size: Size, *, fields: int, cut: float, step: float = 1.0, density: float = DENSITY,
    nside: int = NSIDE,
) -> FloatArray:  # fmt: skip
    """Return C_l and K of each field in the order of QUANTITIES, (n_field, n_quantity); stored tasks are not repeated.

    The set-up is that of the papers with waves up to `size.reach`, of which particles see those up to `cut` (k r_L).
    The tasks are those of `run_ensemble`, which would refuse some of these settings, as it should.
    """
    turbulence = TurbulenceSettings(2 * np.pi * GYRORADIUS / size.reach, OUTER, modes_per_decade=density)
    chosen = EnsembleSettings(
        seed=seed, realisations=fields, turbulence=turbulence, gyroradius=(GYRORADIUS,), times=(TIME,), nside=nside,
        lmax=LMAX, step=step * min(0.5, 2.5 / cut), resolved_to=0.0 if cut >= size.reach else cut,
    )  # fmt: skip
    keys = [("sky", field, part, 0) for field in range(fields) for part in range(chosen.sets)]
    name = f"modes{density:g}-nside{nside}-reach{cut:.3g}-step{step:g}"
    identity = ensemble_identity(chosen)
    parts = run_tasks(partial(ensemble_task, chosen), keys, store=base / name, configuration=identity)
    return summary(gather(chosen, parts))


def summary(ensemble: DisplacementEnsemble) -> FloatArray:
    """Return the numbers of QUANTITIES for each field at the last time, (n_field, n_quantity)."""
    along, across = skies.along_and_across(skies.gradient_power(ensemble)[:, -1], axis=1)
    spread = np.stack(skies.along_and_across(skies.mean_squares(ensemble)[:, -1]), axis=1) / (
        2 * ensemble.stop[-1]
    )
    ell = list(MULTIPOLES)
    return np.concatenate([along[:, ell], across[:, ell], spread], axis=1)


def compared(knob: str, value: float, ours: FloatArray, reference: FloatArray, *, same_fields: bool) -> Table:
    """Return one row per quantity: log of the ratio of the means over fields, its error, and the scatter of fields.

    Means of powers, not of their logarithms: the power of one field between two sets can be negative.
    """
    if same_fields:
        ratio, error = jackknife(np.stack([ours, reference], axis=1), lambda mean: _log(mean[0] / mean[1]))
    else:
        (one, one_error), (other, other_error) = (jackknife(part, _log) for part in (ours, reference))
        ratio, error = one - other, np.hypot(one_error, other_error)
    return _rows(knob, value, len(ours), same_fields, ratio, error, _scatter(ours), np.mean(ours > 0, axis=0))


def of_groups(count: int, ours: FloatArray) -> Table:
    """Return what the mean over so few fields is worth: its distribution over groups of the fields there are."""
    parts = len(ours) // count
    groups = ours[: parts * count].reshape(parts, count, -1).mean(axis=1)
    ratio = _log(groups / ours.mean(axis=0))
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(groups))
    positive = np.mean(groups > 0, axis=0)
    return _rows("fields", count, count, True, ratio.mean(axis=0), error, ratio.std(axis=0, ddof=1), positive)


def _log(ratio: FloatArray) -> FloatArray:
    return np.log(np.where(ratio > 0, ratio, np.nan))


def _scatter(ours: FloatArray) -> FloatArray:
    return np.asarray(np.nanstd(_log(ours), axis=0, ddof=1))


def _rows(
    knob: str, value: float, fields: int, paired: bool, ratio: FloatArray, error: FloatArray, scatter: FloatArray,
    positive: FloatArray,
) -> Table:  # fmt: skip
    n = len(QUANTITIES)
    columns = {"log_ratio": ratio, "error": error, "scatter": scatter}
    table = Table(
        {
            "knob": [knob] * n, "value": np.full(n, float(value)), "quantity": list(QUANTITIES),
            "fields": np.full(n, fields), "same_fields": np.full(n, paired),
            **{name: MaskedColumn(np.nan_to_num(x), mask=~np.isfinite(x)) for name, x in columns.items()},
            "positive": positive,
        }
    )  # fmt: skip
    for name in (*columns, "positive"):
        table[name].info.format = ".3f"
    return table


def study(seed: int, size: Size, base: Path) -> tuple[Table, FloatArray]:
    """Return the table of all comparisons, and the numbers of the fields that were tracked most."""
    run = partial(values, base, seed, size)
    reference = run(fields=size.fields, cut=size.cut)
    tables = [
        compared("k_max r_L", cut, run(fields=size.fields, cut=cut), reference, same_fields=True)
        for cut in size.cuts
    ]
    by_density = {density: run(fields=size.many, cut=size.cut, density=density) for density in size.densities}
    many = by_density[DENSITY]
    tables += [
        compared("step", step, run(fields=size.fields, cut=size.cut, step=step), reference, same_fields=True)
        for step in size.steps
    ]
    finest = run(fields=size.fine, cut=size.cut, nside=max(size.resolutions))
    tables += [
        compared("nside", nside, run(fields=size.fine, cut=size.cut, nside=nside), finest, same_fields=True)
        for nside in size.resolutions
    ]
    # The densest waves are the reference: their fields are others, whatever the density.
    densest = by_density[max(size.densities)]
    tables += [
        compared("modes per decade", density, found, densest, same_fields=density == max(size.densities))
        for density, found in by_density.items()
    ]
    tables += [of_groups(count, many) for count in size.groups]
    return vstack(tables), many


def draw(table: Table, many: FloatArray, stem: Path) -> None:
    """Draw a panel for each knob, and the distribution of the powers of single fields."""
    with styled():
        figure = new_figure(10.4, 11.4)
        panels = figure.subplots(3, 2)
        titles = {
            "step": "(a) step, over 2.5 / ($k_{max} r_L$), at most 0.5",
            "k_max r_L": "(b) largest wavenumber $k_{max} r_L$",
            "nside": "(c) resolution nside",
            "modes per decade": "(d) waves per decade (other fields)",
        }
        for axes, (knob, title) in zip(panels.flat, titles.items(), strict=False):
            _ratios(axes, table[table["knob"] == knob])
            axes.set_title(title, loc="left")
        _precision(panels[2, 0], table[table["knob"] == "fields"])
        _distribution(panels[2, 1], many)
        entries = [
            (Line2D([], [], color=COLOURS[colour], marker=marker, linestyle="none"), f"${name}$")
            for name, (colour, marker) in LOOKS.items()
        ]
        entries += [
            (Line2D([], [], color="0.3", marker="o", linestyle="none"), "gradient, or K, along the field"),
            (Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"), "across it"),
            (Line2D([], [], color="0.4", linestyle="--", linewidth=1.0), r"$1/\sqrt{n}$ in (e)"),
        ]
        figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=4)
        save(figure, stem)


LOOKS = {"C_1": ("black", "o"), "C_2": ("blue", "s"), "C_5": ("green", "^"), "C_9": ("orange", "v"),
         "K": ("vermilion", "D")}  # fmt: skip


def _look(quantity: str) -> dict[str, Any]:
    name, way = quantity.split()
    colour, marker = (COLOURS[LOOKS[name][0]], LOOKS[name][1])
    return {"color": colour, "marker": marker, "markerfacecolor": colour if way == "parallel" else "white"}


def _ratios(axes: Axes, table: Table) -> None:
    """Draw differences from the reference, one group of points for each value."""
    places = list(dict.fromkeys(float(value) for value in table["value"]))
    for index, quantity in enumerate(QUANTITIES):
        rows = table[table["quantity"] == quantity]
        axes.errorbar(
            np.arange(len(places)) + 0.075 * (index - 0.5 * (len(QUANTITIES) - 1)), rows["log_ratio"].filled(np.nan),
            yerr=rows["error"].filled(np.nan), linestyle="none", markersize=4.5, elinewidth=0.9, **_look(quantity),
        )  # fmt: skip
    axes.axhline(0.0, color="0.4", linewidth=0.8)
    for place in np.arange(len(places) - 1) + 0.5:
        axes.axvline(place, color="0.85", linewidth=0.8)
    axes.grid(visible=False, axis="x")
    axes.set_xticks(np.arange(len(places)), [f"{place:.3g}" for place in places])
    axes.set(xlim=(-0.5, len(places) - 0.5), ylim=(-1.1, 1.1))
    axes.set_ylabel("ln of ratio to reference")


def _precision(axes: Axes, table: Table) -> None:
    """Draw what a mean over few fields is worth."""
    for quantity in QUANTITIES:
        rows = table[table["quantity"] == quantity]
        axes.plot(rows["value"], rows["scatter"].filled(np.nan), linewidth=0.8, markersize=4.5, **_look(quantity))
    counts = np.array([table["value"].min(), table["value"].max()])
    axes.plot(counts, 1.0 / np.sqrt(counts), color="0.4", linestyle="--", linewidth=1.0)
    axes.set(xscale="log", yscale="log", xlim=(0.9 * counts[0], 1.1 * counts[1]), xlabel="number of fields n",
             ylabel="scatter of ln of the mean")  # fmt: skip
    ticks = sorted(set(table["value"]))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_title("(e) mean over n fields", loc="left")


def _distribution(axes: Axes, many: FloatArray) -> None:
    """Draw the share of fields with less than a power."""
    share = (np.arange(len(many)) + 0.5) / len(many)
    for index, quantity in enumerate(QUANTITIES):
        look = _look(quantity)
        values = np.sort(many[:, index] / many[:, index].mean())
        axes.plot(values, share, color=look["color"], linewidth=1.3,
                  linestyle="-" if quantity.endswith("parallel") else ":")  # fmt: skip
    axes.set(xscale="log", xlim=(0.03, 8.0), ylim=(0, 1), xlabel="value of one field over the mean",
             ylabel="share of fields below")  # fmt: skip
    axes.set_xticks([0.1, 1.0], ["0.1", "1"])
    axes.set_title("(f) single fields; dotted: across", loc="left")


def worst(table: Table, knob: str, value: float, kind: str) -> str:
    """Return the smallest and largest ln of the ratio of the powers, or of the K, of a row, as text."""
    rows = table[(table["knob"] == knob) & np.isclose(table["value"], value)]
    rows = rows[[str(name).startswith(kind) for name in rows["quantity"]]]
    ratio = rows["log_ratio"].compressed()
    return f"{ratio.min():+.2f} to {ratio.max():+.2f} (errors up to {rows['error'].compressed().max():.2f})"


def remarks(table: Table, many: FloatArray, size: Size) -> tuple[str, ...]:
    """Return what the study says, with its numbers."""
    scatter = _scatter(many)
    low = (min(size.steps), max(size.steps))
    counts = max(size.groups)
    return (
        f"Step: {low[0]:g} and {low[1]:g} times the usual change ln C_l by {worst(table, 'step', low[0], 'C')} and "
        f"{worst(table, 'step', low[1], 'C')}, ln K by {worst(table, 'step', low[0], 'K')} and "
        f"{worst(table, 'step', low[1], 'K')}. Single orbits differ beyond recognition; their statistics do not.",
        f"Short waves: without those above k r_L = 3 and their energy, ln C_l changes by "
        f"{worst(table, 'k_max r_L', 3.0, 'C')} and ln K by {worst(table, 'k_max r_L', 3.0, 'K')}.",
        f"Directions: nside {NSIDE} instead of {max(size.resolutions)} changes ln C_l by "
        f"{worst(table, 'nside', float(NSIDE), 'C')}. Products between sets have no bias of shot "
        "noise, but scatter with it: C_9 needs the finest resolution.",
        f"Waves per decade: fields of another density are other fields, so that the comparison carries the scatter of "
        f"{size.many} of them: {min(size.densities):g} instead of {max(size.densities):g} per decade change ln C_l by "
        f"{worst(table, 'modes per decade', float(min(size.densities)), 'C')} and ln K by "
        f"{worst(table, 'modes per decade', float(min(size.densities)), 'K')}.",
        f"Fields: ln C_1 of one field scatters by {scatter[0]:.2f} along and {scatter[4]:.2f} across, ln K by "
        f"{scatter[8]:.2f} and {scatter[9]:.2f}; the distributions are skewed. This, and none of the other numbers, "
        f"limits ensembles of tens of fields: {counts} of them give C_1 to "
        f"{100 * scatter[0] / np.sqrt(counts):.0f} percent.",
        "Differences through the same fields are far smaller than that scatter, and their errors are jackknife errors "
        "of the difference. Rows of one panel share the shot noise of their reference: a common shift is no trend. "
        "Numbers of a larger run are in docs/turbulence-convergence.md.",
    )


def make(context: Context) -> FigureEntry:
    size = FULL if context.full else QUICK
    name = "convergence" + ("" if context.full else "-quick")
    table, many = study(context.seed, size, context.directory.parent / "ensembles" / skies.store_name(name))
    draw(table, many, context.directory / "convergence")
    write_table(
        table, context.directory / "convergence.ecsv",
        description="ln of the ratio of means over fields to a reference, its error, and the scatter of ln over fields",
        settings={"seed": context.seed, "omega_t": TIME, **asdict(size)},
    )  # fmt: skip
    words = (
        f"k_max r_L = {size.cut:.3g}, 2 x {12 * NSIDE**2} directions; {size.fields} fields in (a) and (b), "
        f"{size.fine} in (c), {size.many} in (d) to (f)"
    )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="What power and diffusion of back-tracked skies at Omega T = 100 depend on besides the physics. (a) to "
        "(d): natural logarithm of the mean over fields, over that of a reference: the usual step, the largest "
        f"wavenumber {size.cut:.3g} / r_L, nside {max(size.resolutions)}, and {max(size.densities):g} waves per "
        "decade. In (a) to (c) all runs go through the same fields, errors are those of the difference; where one "
        "value is the reference its points are at zero. (e) Standard deviation of the logarithm of means over n "
        "fields. (f) Distribution of single fields. Set-up of AM15, 25 waves per decade.",
        alt="Six panels. (a) and (c): dipole and diffusion coefficients lie within a few hundredths of zero, multipole "
        "9 within a few tenths, with errors to match. (b): without waves above k r_L = 3 the logarithms of powers are "
        "higher by about a half and those of diffusion coefficients by 0.1 to 0.2; from 10 on they nearly agree. (d): "
        "points scatter within errors of 0.2. (e): the scatter of means falls as the inverse root of the number of "
        "fields, for powers near that root itself, for diffusion coefficients at a third of it. (f): powers of single "
        "fields spread over a factor of ten, diffusion coefficients over two or three.",
        image="convergence.png", table="convergence.ecsv",
        deviations=remarks(table, many, size), seed=context.seed, size_note="" if context.full else words,
    )  # fmt: skip
