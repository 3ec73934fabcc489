"""How the skies of isotropic turbulence change from large to small gyroradii: spectrum, diffusion, gyrotropy."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from matplotlib.axes import Axes
from obsfit_models.turbulence.anisotropy import gradient_anisotropy
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.ensemble import (
    EnsembleSettings,
    TurbulenceSettings,
    gather,
    run_ensemble,
)
from obsfit_models.turbulence.sky_spectra import axial_share, field_average, pair_power, power_ratio

from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, LINE_STYLES, MARKERS, new_figure, save, styled

KEY = "turbulence-reach"
TITLE = "Skies of isotropic turbulence from gyroradii of 0.1 down to 1e-4 of its scale"
PAPER = "Turbulence"
FIGURE = "Reach"

LMAX = 12
# Mean free paths of back-tracking; K_par is at its plateau at 8, see docs/turbulence-reach.md.
PATHS = (0.5, 1.0, 2.0, 4.0, 8.0)
RESOLVED = 10.0
OUTER = 100.0
ALONG = 2
PUBLISHED = Path(__file__).with_name("reach_full.ecsv")


@dataclass(frozen=True)
class Run:
    """What one gyroradius needs: about its mean free path, and waves per decade below and at resonance."""

    gyroradius: float
    mean_free_path: float
    below: float
    resonant: float
    colour: str


RUNS = (
    Run(0.1, 16.0, 30.0, 25.0, "black"),
    Run(0.03, 37.0, 30.0, 25.0, "blue"),
    Run(0.01, 84.0, 25.0, 25.0, "green"),
    Run(1e-3, 440.0, 15.0, 40.0, "orange"),
    Run(1e-4, 2400.0, 15.0, 80.0, "vermilion"),
)
QUICK = RUNS[:3]


def settings(run: Run, *, full: bool, seed: int, fields: int | None = None) -> EnsembleSettings:
    """Return the ensemble of one gyroradius: 100 fields at nside 16 in full, 16 at nside 8 in the quick version."""
    return EnsembleSettings(
        seed=seed,
        realisations=fields or (100 if full else 16),
        turbulence=TurbulenceSettings(
            wavelength_min=2 * np.pi * run.gyroradius / RESOLVED, wavelength_max=OUTER,
            modes_per_decade=run.below, resonant_modes_per_decade=run.resonant,
        ),
        gyroradius=(run.gyroradius,),
        times=tuple(paths * run.mean_free_path for paths in PATHS),
        nside=16 if full else 8,
        lmax=LMAX,
        output=f"fields-{run.gyroradius:g}",
    )  # fmt: skip


def numbers(ensemble: DisplacementEnsemble) -> Table:
    """Return one row for each time: diffusion, dipole and C_l / C_1 for a gradient along the mean field, shares.

    Power is from products of the two sets of directions, errors from field to field. Columns that begin with "fick"
    start from a sky that has the dipole of diffusion already, the others from isotropy.
    """
    (radius,) = ensemble.gyroradius
    assert ensemble.local_field is not None
    axes = ensemble.local_field[:, 0]
    squares = ensemble.product[:, :, 0, :, ALONG, ALONG].mean(axis=1)
    # The last slope is the best estimate of the diffusivity, and serves all times.
    diffusivity = float(np.mean(squares[:, -1] - squares[:, -2]) / (2 * (ensemble.stop[-1] - ensemble.stop[-2])))
    tensor = np.zeros((3, 3))
    tensor[ALONG, ALONG] = diffusivity
    prepared = gradient_anisotropy(ensemble.alm[:, :, 0], np.eye(3)[ALONG], tensor=tensor)
    rows = []
    for index, stop in enumerate(ensemble.stop):
        along = ensemble.alm[:, :, 0, index, ALONG]
        power = pair_power(along, axis=1)
        ratio, ratio_error = power_ratio(power)
        fick = pair_power(prepared[:, :, index], axis=1)
        fick_ratio, fick_ratio_error = power_ratio(fick)
        fick_dipole = field_average(fick[:, 1])
        share, share_error = axial_share(along, axes)
        running = field_average(1.5 * squares[:, index] / stop)
        # The running coefficient still remembers the ballistic start; its slope since the last time does not.
        since, before = (ensemble.stop[index - 1], squares[:, index - 1]) if index else (0.0, 0.0)
        path = field_average(1.5 * (squares[:, index] - before) / (stop - since))
        dipole = field_average(power[:, 1])
        rows.append(
            {
                "gyroradius": radius, "fields": ensemble.realisation.size, "directions": ensemble.directions,
                "omega_t": stop, "mean_free_path": path.mean, "mean_free_path_error": path.error,
                "running_path": running.mean, "running_path_error": running.error,
                "c_1": dipole.mean, "c_1_error": dipole.error, "c_1_scatter": dipole.log_scatter,
                **{f"ratio_{ell}": ratio[ell] for ell in range(2, LMAX + 1)},
                **{f"ratio_{ell}_error": ratio_error[ell] for ell in range(2, LMAX + 1)},
                "fick_c_1": fick_dipole.mean, "fick_c_1_error": fick_dipole.error,
                **{f"fick_ratio_{ell}": fick_ratio[ell] for ell in range(2, LMAX + 1)},
                **{f"fick_ratio_{ell}_error": fick_ratio_error[ell] for ell in range(2, LMAX + 1)},
                **{f"share_{ell}": share[ell] for ell in range(1, LMAX + 1)},
                **{f"share_{ell}_error": share_error[ell] for ell in range(1, LMAX + 1)},
            }
        )  # fmt: skip
    table = Table(rows=rows)
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".4g"
    return table


def described(table: Table) -> Table:
    """Return the table with units and descriptions of its columns."""
    words = {
        "gyroradius": "r_L / lambda_c in the mean field",
        "omega_t": "time of back-tracking",
        "mean_free_path": "3 K_par / c along the mean field in gyroradii, from <z^2> since the time before",
        "running_path": "the same from <z^2> / 2 T",
        "c_1": "dipole power for a gradient of 1 per gyroradius along the mean field",
        "c_1_scatter": "standard deviation of ln C_1 between fields",
        "ratio_2": "mean C_l over mean C_1",
        "fick_ratio_2": "the same if the earlier sky has the dipole of diffusion, K_par of the last times",
        "share_1": "share of the power that is symmetric about the local mean field; 1 / (2 l + 1) for none",
    }
    for name, text in words.items():
        table[name].description = text
    return table


def last_times(table: Table) -> Table:
    """Return the row of the longest time of each gyroradius."""
    rows = [group[int(np.argmax(group["omega_t"]))] for group in table.group_by("gyroradius").groups]
    return vstack([Table(row) for row in rows])[::-1]


def draw(table: Table, published: Table | None, stem: Path) -> None:
    """Draw C_l / C_1, mean free paths and gyrotropic shares."""
    with styled():
        figure = new_figure(7.2, 10.6)
        spectra, paths, shares = figure.subplots(3, 1)
        _draw_spectra(spectra, table, published)
        _draw_paths(paths, table, published)
        _draw_shares(shares, table, published)
        save(figure, stem)


def _style(gyroradius: float) -> tuple[int, str]:
    place = next(i for i, run in enumerate(RUNS) if np.isclose(run.gyroradius, gyroradius))
    return place, COLOURS[RUNS[place].colour]


def _draw_spectra(axes: Axes, table: Table, published: Table | None) -> None:
    ell = np.arange(2, LMAX + 1)
    for row in last_times(published) if published is not None else ():
        place, colour = _style(row["gyroradius"])
        ratio = np.array([row[f"ratio_{n}"] for n in ell])
        error = np.array([row[f"ratio_{n}_error"] for n in ell])
        axes.plot(ell, ratio, color=colour, linestyle=LINE_STYLES[place], label=f"{row['gyroradius']:g}")
        axes.fill_between(
            ell, np.maximum(ratio - error, 1e-7), ratio + error, color=colour, alpha=0.15, linewidth=0
        )
    for row in last_times(table):
        place, colour = _style(row["gyroradius"])
        ratio = np.array([row[f"ratio_{n}"] for n in ell])
        error = np.array([row[f"ratio_{n}_error"] for n in ell])
        shown = ratio > error
        axes.errorbar(
            ell[shown] + 0.06 * (place - 2), ratio[shown], yerr=error[shown], color=colour, marker=MARKERS[place],
            linestyle="none", markersize=4.5, label=f"{row['gyroradius']:g}, this run",
        )  # fmt: skip
    axes.set(yscale="log", xlabel=r"multipole $\ell$", ylabel=r"$C_\ell / C_1$", ylim=(1e-4, 0.2))
    axes.legend(title=r"$r_L / \lambda_c$", ncols=2, fontsize=8.5)


def _draw_paths(axes: Axes, table: Table, published: Table | None) -> None:
    if published is not None:
        rows = last_times(published)
        axes.errorbar(
            rows["gyroradius"], rows["mean_free_path"], yerr=rows["mean_free_path_error"], color=COLOURS["grey"],
            marker="o", label="full run",
        )  # fmt: skip
    rows = last_times(table)
    axes.errorbar(
        rows["gyroradius"], rows["mean_free_path"], yerr=rows["mean_free_path_error"], color=COLOURS["blue"],
        marker="s", linestyle="none", label="this run",
    )  # fmt: skip
    x = np.geomspace(1e-4, 0.1, 20)
    first = rows["mean_free_path"][0]
    axes.plot(x, first * (x / rows["gyroradius"][0]) ** (-2 / 3), color="0.4", linestyle=":",
              label=r"$\propto (r_L/\lambda_c)^{-2/3}$")  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=r"$r_L / \lambda_c$",
        ylabel=r"mean free path $3 K_\parallel / (c\, r_L)$",
    )
    axes.legend()


def _draw_shares(axes: Axes, table: Table, published: Table | None) -> None:
    ell = np.arange(1, LMAX + 1)
    for rows, form in ((published, "line"), (table, "point")):
        for row in last_times(rows) if rows is not None else ():
            place, colour = _style(row["gyroradius"])
            share = np.array([row[f"share_{n}"] for n in ell])
            error = np.array([row[f"share_{n}_error"] for n in ell])
            if form == "line":
                axes.plot(ell, share, color=colour, linestyle=LINE_STYLES[place])
                axes.fill_between(ell, share - error, share + error, color=colour, alpha=0.15, linewidth=0)
            else:
                axes.errorbar(ell + 0.06 * (place - 2), share, yerr=error, color=colour, marker=MARKERS[place],
                              linestyle="none", markersize=4.5)  # fmt: skip
    axes.plot(ell, 1 / (2 * ell + 1), color="0.4", linestyle=":", label="no preferred axis")
    axes.set(xlabel=r"multipole $\ell$", ylabel="gyrotropic share of the power", ylim=(0, 1.1))
    axes.legend(loc="lower left")


def make(context: Context) -> FigureEntry:
    begun = time.process_time()
    parts = []
    for run in RUNS if context.full else QUICK:
        chosen = settings(run, full=context.full, seed=context.seed)
        parts.append(numbers(gather(chosen, run_ensemble(chosen, base=context.directory))))
    spent = time.process_time() - begun
    table = described(vstack(parts))
    published = Table.read(PUBLISHED, format="ascii.ecsv") if PUBLISHED.exists() else None
    draw(table, None if context.full else published, context.directory / "reach")
    write_table(
        table, context.directory / "reach.ecsv", description="Spectra, diffusion and gyrotropy against gyroradius.",
        settings={"seed": context.seed, "lmax": LMAX, "k_max_r_l": RESOLVED, "outer_wavelength": OUTER},
    )  # fmt: skip
    rows = last_times(table)
    comparisons = []
    for row in rows:
        name = f"r_L / lambda_c = {row['gyroradius']:g}"
        comparisons += [
            Comparison(f"C_2 / C_1, {name}", None, float(row["ratio_2"]), note=f"+- {row['ratio_2_error']:.2g}"),
            Comparison(f"gyrotropic share of C_1, {name}", None, float(row["share_1"]),
                       note=f"+- {row['share_1_error']:.2g}; 1/3 without a preferred axis"),
            Comparison(f"mean free path, {name}", None, float(row["mean_free_path"]), unit="r_L",
                       note=f"+- {row['mean_free_path_error']:.2g}"),
        ]  # fmt: skip
    sizes = f"{rows['fields'][0]} fields, 2 sets of {rows['directions'][0]} directions"
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Turbulence as strong as the mean field, Kolmogorov above its scale lambda_c, waves up to k r_L = 10. "
        "Top: power of the sky for a gradient along the mean field after 8 mean free paths of back-tracking, over "
        "that of the dipole. Middle: mean free path along the mean field, from 4 to 8 of them. Bottom: share of the "
        "power that is symmetric about the local mean field (averaged over a gyroradius); dotted: no axis. Lines with "
        f"bands: the full run; points: this run ({sizes}). Errors are from field to field; products of two sets of "
        "directions leave no shot noise.",
        alt="Three panels. Power falls more steeply with multipole the smaller the gyroradius: C_2 over C_1 "
        "from 0.09 at 0.1 to 0.025 at a ten-thousandth. Mean free paths in gyroradii grow faster than the inverse "
        "two-thirds power. The gyrotropic share grows towards small gyroradii at all multipoles.",
        image="reach.png", table="reach.ecsv", comparisons=tuple(comparisons),
        deviations=(
            "Observed rigidities, 10 TV in 3 microgauss, lie at r_L / lambda_c of 4e-5 to 1e-4. The quick version "
            "stops at 0.01; the lines are those of the full run: its table, sizes and cost are in "
            "docs/turbulence-reach.md.",
            f"{spent:.0f} s of processor time for what the store did not hold yet.",
        ),
        seed=context.seed, size_note="" if context.full else f"{sizes}, down to 0.01 only",
    )  # fmt: skip
