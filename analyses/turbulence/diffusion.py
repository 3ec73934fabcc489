"""Diffusion in turbulence, measured from orbits: against rigidity, beside a published fit, and of pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from matplotlib.axes import Axes
from numpy.typing import NDArray
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import track
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.relative_motion import (
    PairScattering,
    fit_exponent,
    lyapunov_exponents,
    pair_scattering,
)
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from obsfit_models.turbulence.transport import (
    RunningDiffusion,
    folding_rate,
    join_fields,
    mean_and_error,
    running_diffusion,
    settled_tensor,
    split_tensor,
)

from obsfit.execute import run_tasks
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, new_figure, save, styled

KEY = "turbulence-diffusion"
TITLE = "Diffusion of single particles and of pairs, from orbits"
PAPER = "Turbulence"
FIGURE = "Diffusion"

FloatArray = NDArray[np.float64]

# Isotropic Kolmogorov turbulence without a mean field: wavelengths up to 5 L_c, with a sharp end.
OUTER = 5.0
# r_L / L_c, and waves per decade: many above 0.1, where few waves lie across the line of flight.
ISOTROPIC = {0.01: 40, 0.03: 40, 0.1: 60, 0.3: 150, 1.0: 400, 3.0: 500}
# Times in 1/Omega: <r^2> is taken to grow steadily from the second on; 10 mean free paths and more.
ISOTROPIC_TIMES = {
    0.01: (40.0, 160.0, 480.0), 0.03: (20.0, 80.0, 240.0), 0.1: (10.0, 40.0, 160.0), 0.3: (10.0, 40.0, 120.0),
    1.0: (10.0, 40.0, 120.0), 3.0: (20.0, 80.0, 240.0),
}  # fmt: skip
# The set-up of the papers: a mean field of 1 along z, sigma^2 = 1, bend at lambda_c; r_L / lambda_c.
PAPERS = (0.03, 0.1, 0.3, 1.0)
PAPERS_PER_DECADE = {0.03: 40, 0.1: 40, 0.3: 100, 1.0: 300}
PAPERS_OUTER = 100.0
# Multiples of an expected mean free path, in gyroradii, which is printed beside the measured one.
PAPERS_TIMES = {0.03: 40.0, 0.1: 20.0, 0.3: 9.0, 1.0: 6.0}
PER_PATH = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 6.0, 8.0, 12.0])
SETTLED = 4.0
COSINES = np.array([-0.9, -0.6, -0.3, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998])
PAIR_TIMES = (1.0, 3.0, 10.0, 20.0)
PAIR_GYRORADIUS = 0.1


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes
    ----------
    reach : float
        k_max r_L.
    chunks, fields, particles : int
        Tasks for each rigidity, fields of a task, and particles of a field.
    pairs, places, pair_chunks, pair_fields : int
        Pairs of a cosine and place, places of a field, tasks, and fields of a task.
    """

    reach: float
    chunks: int
    fields: int
    particles: int
    pairs: int
    places: int
    pair_chunks: int
    pair_fields: int


QUICK = Size(10.0, 2, 8, 128, 4, 16, 2, 6)
FULL = Size(30.0, 6, 12, 256, 8, 32, 10, 8)


def published(x: FloatArray) -> FloatArray:
    """Return K / c L_c of Harari, Mollerach and Roulet (2014) for a Kolmogorov spectrum, x = r_L / L_c."""
    return np.asarray((4 * x**2 + 0.9 * x + 0.23 * np.cbrt(x)) / 3)


def small_deflections(x: FloatArray) -> FloatArray:
    """Return the limit of K / c L_c for r_L far above L_c."""
    return np.asarray(4 / 3 * x**2)


def child(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of a task."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def directions(n: int, rng: np.random.Generator) -> FloatArray:
    """Return isotropic unit vectors, (3, n)."""
    v = rng.normal(size=(3, n))
    return np.asarray(v / np.linalg.norm(v, axis=0))


def isotropic_spectrum(gyroradius: float, reach: float) -> TurbulenceSpectrum:
    """Return the Kolmogorov spectrum of a rigidity; the inner scale is never above a tenth of the outer."""
    return TurbulenceSpectrum(min(2 * np.pi * gyroradius / reach, OUTER / 10), OUTER, bend_over=None)


def papers_spectrum(gyroradius: float, reach: float) -> TurbulenceSpectrum:
    """Return the spectrum of the papers, cut where a rigidity no longer feels it, and never above lambda_c / 2."""
    return TurbulenceSpectrum(min(2 * np.pi * gyroradius / reach, 0.5), PAPERS_OUTER)


def moments(
    spectrum: TurbulenceSpectrum, per_decade: int, uniform: float, gyroradius: float, times: FloatArray, size: Size,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """Return the running tensors of the fields of a task."""
    parts = []
    for _ in range(size.fields):
        waves = isotropic_waves(spectrum, modes=round(per_decade * spectrum.decades), rms=1.0, rng=rng)
        field = MagneticField(uniform=np.array([0.0, 0.0, uniform])) + waves
        start = directions(size.particles, rng)
        place = rng.uniform(0.0, 200.0 * spectrum.wavelength_max / gyroradius, size=start.shape)
        orbits = track(field, start, times, gyroradius=gyroradius, position=place)
        parts.append(running_diffusion(orbits, start, position=place))
    running = join_fields(parts)
    return {name: getattr(running, name) for name in ("time", "mean", "derivative", "correlation", "persistence")}


def task(seed: int, size: Size, what: str, index: int, chunk: int) -> dict[str, Any]:
    """Return the result of one task."""
    stage = ("isotropic", "papers", "pairs").index(what)
    rng = child(seed, stage, index, chunk)
    if what == "isotropic":
        x = list(ISOTROPIC)[index]
        times = np.array(ISOTROPIC_TIMES[x])
        return moments(isotropic_spectrum(x, size.reach), ISOTROPIC[x], 0.0, x, times, size, rng)
    if what == "papers":
        x = PAPERS[index]
        times = PAPERS_TIMES[x] * PER_PATH
        return moments(papers_spectrum(x, size.reach), PAPERS_PER_DECADE[x], 1.0, x, times, size, rng)
    # Pairs feel small structure: all of the papers' spectrum down to lambda_min = 0.1 r_L in full runs.
    spectrum = papers_spectrum(PAIR_GYRORADIUS, max(2 * size.reach, 20.0))
    square, drift, exponent = [], [], []
    for _ in range(size.pair_fields):
        waves = isotropic_waves(spectrum, modes=round(40 * spectrum.decades), rms=1.0, rng=rng)
        field = MagneticField(uniform=np.array([0.0, 0.0, 1.0])) + waves
        pairs = pair_scattering(
            field, COSINES, PAIR_TIMES, gyroradius=PAIR_GYRORADIUS, pairs=size.pairs, places=size.places,
            extent=200.0 * PAPERS_OUTER / PAIR_GYRORADIUS, rng=rng,
        )  # fmt: skip
        square.append(pairs.square)
        drift.append(pairs.drift)
        twins = lyapunov_exponents(
            field, directions(24, rng), gyroradius=PAIR_GYRORADIUS, renormalisations=60, rng=rng
        )
        exponent.append(float(np.mean(60 * twins[59] - 10 * twins[9]) / 50))
    return {"square": np.array(square), "drift": np.array(drift), "lyapunov": np.array(exponent)}


def gathered(parts: list[dict[str, Any]]) -> RunningDiffusion:
    """Return the running tensors of all tasks of a rigidity."""
    return join_fields([RunningDiffusion(*(np.asarray(part[name]) for name in part)) for part in parts])


def run(seed: int, size: Size, store: Path, what: str, number: int, chunks: int) -> list[list[dict[str, Any]]]:
    """Return the results of all tasks of a kind, a list for each rigidity; only what the store lacks is computed."""
    found = []
    for index in range(number):
        found.append(
            run_tasks(
                partial(task, seed, size),
                [(what, index, chunk) for chunk in range(chunks)],
                store=store / f"{what}-{index}",
                configuration={"seed": seed, "what": what, "index": index, **asdict(size), "set_up": SET_UP},
            )
        )
    return found


SET_UP: Mapping[str, Any] = {
    "isotropic": {str(x): [n, *ISOTROPIC_TIMES[x]] for x, n in ISOTROPIC.items()},
    "papers": {str(x): [PAPERS_PER_DECADE[x], PAPERS_TIMES[x], *PER_PATH.tolist()] for x in PAPERS},
    "pairs": [COSINES.tolist(), list(PAIR_TIMES), PAIR_GYRORADIUS],
}


def isotropic_table(parts: list[list[dict[str, Any]]], reach: float) -> Table:
    """Return K without a mean field beside the fit, in units of c L_c, a row for each of the first rigidities."""
    rows = []
    for x, results in zip(list(ISOTROPIC)[: len(parts)], parts, strict=True):
        running = gathered(results)
        length = 2 * isotropic_spectrum(x, reach).correlation_length()
        settled = np.trace(settled_tensor(running, ISOTROPIC_TIMES[x][1]), axis1=1, axis2=2) / 3
        value, error = (float(part) * x / length for part in mean_and_error(settled))
        scaled = np.array(x / length)
        rows.append(
            {
                "set_up": "isotropic", "rigidity": x, "x": float(scaled), "fields": len(settled),
                "time": float(running.time[-1]), "k": value, "k_error": error, "k_fit": float(published(scaled)),
                "k_limit": float(small_deflections(scaled)), "ratio_fit": value / float(published(scaled)),
                "ratio_error": error / float(published(scaled)),
            }
        )  # fmt: skip
    return Table(rows=rows)


def papers_table(parts: list[list[dict[str, Any]]]) -> Table:
    """Return K_par, K_perp and K_A in units of c r_L with a mean field, one row per rigidity."""
    rows = []
    for x, results in zip(PAPERS, parts, strict=True):
        running = gathered(results)
        settled = settled_tensor(running, SETTLED * PAPERS_TIMES[x])
        (along, along_error), (across, across_error), _ = (mean_and_error(part) for part in split_tensor(settled))
        _, _, (turning, turning_error) = (
            mean_and_error(part) for part in split_tensor(running.correlation[:, -1])
        )
        forgets = np.mean(running.persistence[:, :, 2, 2], axis=0)
        rows.append(
            {
                "set_up": "papers", "rigidity": x, "fields": len(settled), "time": float(running.time[-1]),
                "k_par": float(along), "k_par_error": float(along_error), "k_perp": float(across),
                "k_perp_error": float(across_error), "k_hall": float(turning), "k_hall_error": float(turning_error),
                "mean_free_path": 3 * float(along), "folding_time": 1 / folding_rate(running.time, forgets),
            }
        )  # fmt: skip
    return Table(rows=rows)


def pairs_table(parts: list[dict[str, Any]]) -> tuple[Table, Table, tuple[float, float]]:
    """Return nu_r(x) at each time, the exponents fitted to it, and the Lyapunov exponent with its error."""
    square, drift = (np.concatenate([np.asarray(part[name]) for part in parts]) for name in ("square", "drift"))
    times = np.array(PAIR_TIMES)
    (moved, moved_error), (spread, spread_error) = mean_and_error(drift), mean_and_error(square)
    scattering = PairScattering(COSINES, times, moved, spread)
    rate, first = scattering.rate_from_cosine(), scattering.rate_from_square()
    error = moved_error / (2 * times[:, None] * np.abs(COSINES + moved))
    first_error = first * spread_error / spread
    twins, twins_error = mean_and_error(np.concatenate([np.asarray(part["lyapunov"]) for part in parts]))
    rows, fits = [], []
    for i, t in enumerate(PAIR_TIMES):
        rows += [
            {
                "time": t, "x": float(x), "rate": float(rate[i, j]), "rate_error": float(error[i, j]),
                "rate_square": float(first[i, j]), "rate_square_error": float(first_error[i, j]),
            }
            for j, x in enumerate(COSINES)
        ]  # fmt: skip
        known = np.isfinite(rate[i]) & (rate[i] > 2 * error[i])
        for name, wide in (("all", -1.0), ("x > 0.5", 0.5)):
            chosen = known & (wide < COSINES)
            # With few pairs no rate may be known that early.
            p, p_error, chi_square = (
                fit_exponent(COSINES[chosen], rate[i][chosen], error[i][chosen])
                if chosen.sum() > 2
                else 3 * (np.nan,)
            )
            fits.append({"time": t, "range": name, "p": p, "p_error": p_error, "chi_square_per_dof": chi_square})
    return Table(rows=rows), Table(rows=fits), (float(twins), float(twins_error))


def slopes(table: Table) -> FloatArray:
    """Return d ln K / d ln r_L between neighbours."""
    return np.asarray(np.diff(np.log(table["k"])) / np.diff(np.log(table["x"])))


def draw(
    isotropic: Table, papers: Table, running: dict[float, RunningDiffusion], pairs: Table, fits: Table, stem: Path
) -> None:
    """Draw K against rigidity, the running coefficients, and the scattering of pairs."""
    with styled():
        figure = new_figure(10.4, 8.6)
        (first, second), (third, fourth) = figure.subplots(2, 2)
        _against_rigidity(first, isotropic)
        _ratio(second, isotropic)
        _running(third, papers, running)
        _pairs(fourth, pairs, fits)
        save(figure, stem)


def _against_rigidity(axes: Axes, table: Table) -> None:
    x = np.geomspace(0.007, 5.0, 100)
    axes.plot(x, published(x), color=COLOURS["blue"], label="fit quoted from Harari et al. (2014)")
    high = x[x > 0.15]
    axes.plot(high, small_deflections(high), color=COLOURS["grey"], linestyle="--", label=r"$\frac{4}{3} x^2$")
    axes.errorbar(
        table["x"], table["k"], yerr=table["k_error"], linestyle="none", marker="o", markersize=5, color="k",
        label="orbits",
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=r"$r_L / L_c$", ylabel=r"$K / c L_c$")
    axes.axvline(1 / (2 * np.pi), color="0.6", linestyle=":", linewidth=1.0)
    axes.annotate(r"$L_c / 2 \pi$", (1 / (2 * np.pi), 0.013), xytext=(4, 0), textcoords="offset points")
    axes.set_ylim(0.01, 60.0)
    axes.legend(loc="upper left")
    axes.set_title("(a) no mean field", loc="left")


def _ratio(axes: Axes, table: Table) -> None:
    axes.errorbar(
        table["x"], table["ratio_fit"], yerr=table["ratio_error"], linestyle="none", marker="o", markersize=5,
        color="k",
    )  # fmt: skip
    x = np.geomspace(0.5, 5.0, 50)
    axes.plot(x, small_deflections(x) / published(x), color=COLOURS["grey"], linestyle="--")
    axes.axhline(1.0, color=COLOURS["blue"])
    axes.set(xscale="log", xlim=(0.007, 5.0), ylim=(0.0, 2.4), xlabel=r"$r_L / L_c$", ylabel="K over the fit")
    axes.set_title("(b) the same, over the fit", loc="left")


def _running(axes: Axes, papers: Table, running: dict[float, RunningDiffusion]) -> None:
    colours = ("black", "vermilion", "green", "purple")
    for (x, moments_), name in zip(running.items(), colours, strict=True):
        row = papers[papers["rigidity"] == x][0]
        along, across, _ = split_tensor(moments_.mean)
        time = moments_.time / row["mean_free_path"]
        for values, style in ((along, "-"), (across, ":")):
            value, error = mean_and_error(values)
            axes.plot(time, value, color=COLOURS[name], linestyle=style, label=f"{x:g}" if style == "-" else None)
            axes.fill_between(time, value - error, value + error, color=COLOURS[name], alpha=0.2, linewidth=0)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=r"time over $3 K_\parallel / c$",
        ylabel=r"$\langle r^2 \rangle / 2T$ [$c\,r_L$]",
    )
    axes.legend(loc="upper left", title=r"$r_L / \lambda_c$", ncols=2)
    axes.set_title("(c) mean field 1, rms 1; dotted: across", loc="left")


def _pairs(axes: Axes, pairs: Table, fits: Table) -> None:
    looks = zip(PAIR_TIMES, ("sky", "blue", "green", "vermilion"), ("D", "o", "s", "^"), strict=True)
    for t, name, marker in looks:
        rows = pairs[(pairs["time"] == t) & (pairs["rate"] > pairs["rate_error"])]
        fit = fits[(fits["time"] == t) & (fits["range"] == "x > 0.5")][0]
        axes.errorbar(
            1 - rows["x"], rows["rate"], yerr=rows["rate_error"], linestyle="none", marker=marker, markersize=4.5,
            color=COLOURS[name], label=rf"$\Omega T = {t:g}$: $p = {fit['p']:.2f} \pm {fit['p_error']:.2f}$",
        )  # fmt: skip
    y = np.geomspace(1.5e-3, 2.5, 40)
    scale = float(pairs["rate"][(pairs["time"] == 10.0) & np.isclose(pairs["x"], 0.9)][0])
    for p, style in ((1 / 3, ":"), (1 / 2, "-"), (2 / 3, "--")):
        axes.plot(y, scale * (y / 0.1) ** p, color=COLOURS["grey"], linestyle=style, linewidth=1.1)
    axes.set(xscale="log", yscale="log", xlabel=r"$1 - x$", ylabel=r"$\nu_r$ [$\Omega$]")
    axes.legend(loc="lower right")
    axes.set_title(r"(d) pairs, $r_L = \lambda_c / 10$", loc="left")


def make(context: Context) -> FigureEntry:
    size = FULL if context.full else QUICK
    # A folder for each set of choices: results of another seed or size are not in the way.
    choices = json.dumps({"seed": context.seed, **asdict(size), **SET_UP}, sort_keys=True)
    base = context.directory / f"tasks-{hashlib.sha256(choices.encode()).hexdigest()[:12]}"
    isotropic_parts = run(context.seed, size, base, "isotropic", len(ISOTROPIC), size.chunks)
    papers_parts = run(context.seed, size, base, "papers", len(PAPERS), size.chunks)
    (pair_parts,) = run(context.seed, size, base, "pairs", 1, size.pair_chunks)
    isotropic, papers = isotropic_table(isotropic_parts, size.reach), papers_table(papers_parts)
    pairs, fits, (twins, twins_error) = pairs_table(pair_parts)
    running = {x: gathered(parts) for x, parts in zip(PAPERS, papers_parts, strict=True)}
    draw(isotropic, papers, running, pairs, fits, context.directory / "diffusion")
    table = vstack([isotropic, papers])
    for name in table.colnames[2:]:
        table[name].info.format = ".4g"
    settings = {"seed": context.seed, **asdict(size)}
    write_table(
        table, context.directory / "diffusion.ecsv", settings=settings,
        description="Diffusion from orbits: K over c L_c without a mean field beside a fit; K over c r_L with one",
    )  # fmt: skip
    write_table(
        pairs,
        context.directory / "pairs.ecsv",
        settings=settings,
        description="Relative scattering rate of pairs in units of Omega against the cosine between them",
    )
    steep, flat = slopes(isotropic)[-1], slopes(isotropic)[:2]
    low = isotropic["ratio_fit"][0]
    near = [row for row in fits if row["range"] == "x > 0.5"]
    whole = [row for row in fits if row["range"] == "all"]
    deviations = (
        "The fit is K = (c L_c/3)(4 x^2 + 0.9 x + 0.23 x^(1/3)) with x = r_L/L_c, r_L in the rms field and L_c the "
        "two-sided correlation length, a fifth of the outer scale. Its first term was derived again; 0.9 and 0.23 were "
        "not verified against the text of the paper, and its accuracy is not known to us.",
        f"Orbits over the fit: {low:.2f} at r_L/L_c = 0.01, "
        + ", ".join(
            f"{row['ratio_fit']:.2f} +- {row['ratio_error']:.2f} at {row['rigidity']:g}" for row in isotropic[1:]
        )
        + f". d ln K / d ln r_L is {flat[0]:.2f} and {flat[1]:.2f} between the lowest three rigidities and {steep:.2f} "
        "between the highest two.",
        f"At r_L = 3 L_c it takes {ISOTROPIC[3.0]} waves per decade: with 40 K is 1.4 times as large, because few "
        "waves lie across the line of flight.",
        "Across the mean field K has not settled at low rigidity: it is quoted at the time in the table.",
        "nu_r(x) = -ln(<x(T)>/x)/2T: fitted exponents p of (1 - x)^p for x > 0.5 "
        + ", ".join(f"{row['p']:.2f} +- {row['p_error']:.2f} at Omega T = {row['time']:g}" for row in near)
        + "; over all x "
        + ", ".join(
            f"{row['p']:.2f} (chi-square {row['chi_square_per_dof']:.1f} per degree of freedom)" for row in whole
        )
        + ". p falls with time, from 1 before pairs have separated towards 0 when they have forgotten each other; the "
        "1/2 of AM15 lies between.",
        f"Twin orbits part at a rate of {twins:.3f} +- {twins_error:.3f} Omega: by e in {1 / twins:.1f} gyro-times.",
    )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Orbits through sums of plane waves. (a) Diffusion coefficient in isotropic Kolmogorov turbulence "
        "without a mean field, beside a published fit and the limit of small deflections; (b) its ratio to the fit. "
        "(c) Running coefficients along and across a mean field as strong as the turbulence, spectrum of the papers. "
        "(d) Relative scattering rate of pairs that meet at one place, against the cosine x between them, after four "
        "times; grey: powers 1/3, 1/2 and 2/3 of 1 - x. Errors are those of the mean over fields.",
        alt="Four panels. The diffusion coefficient rises slowly up to a gyroradius of a tenth of the correlation "
        "length, then steeply, near a square law; it is above the fit at low rigidity and below it around one. Running "
        "coefficients along the field rise to a plateau, those across it fall at low rigidity. Pair scattering rates "
        "rise with the angle, more steeply at early times.",
        image="diffusion.png", table="diffusion.ecsv", deviations=deviations, seed=context.seed,
        size_note="" if context.full else f"{size.chunks * size.fields} fields a rigidity, k_max r_L = {size.reach:g}",
    )  # fmt: skip
