"""Diffusion in turbulence, measured from orbits: against time and rigidity, beside published fits, and of pairs."""

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
from numpy.typing import ArrayLike, NDArray
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

# Kolmogorov turbulence, isotropic: wavelengths up to 5 L_c, with a sharp end.
OUTER = 5.0
# r_L / L_c, and waves per decade: many above 0.1, where few waves lie across the line of flight.
ISOTROPIC = {0.01: 30, 0.03: 30, 0.1: 60, 0.3: 150, 1.0: 400, 3.0: 500}
# The same about a mean field as strong as the rms; r_L in the mean field.
MEAN = {0.03: 30, 0.1: 60, 0.3: 150, 1.0: 400, 3.0: 500}
# The set-up of the papers: a mean field of 1 along z, sigma^2 = 1, bend at lambda_c; r_L / lambda_c.
PAPERS = {0.03: 30, 0.1: 40, 0.3: 100, 1.0: 300}
PAPERS_OUTER = 100.0
# The last time in L_c/c or lambda_c/c. Below r_L = L_c it is the scale of the field that decides when K has settled:
# particles first diffuse along field lines, and forget them after tens of L_c only. Above, it is the mean free path.
LAST = {
    "isotropic": {0.01: 128.0, 0.03: 128.0, 0.1: 128.0, 0.3: 128.0, 1.0: 128.0, 3.0: 768.0},
    "mean": {0.03: 256.0, 0.1: 128.0, 0.3: 128.0, 1.0: 256.0, 3.0: 768.0},
    "papers": {0.03: 256.0, 0.1: 256.0, 0.3: 128.0, 1.0: 256.0},
}
# All other times in units of the last one. K is the growth of <r^2> over the last half.
TIMES = 2.0 ** np.arange(-10.0, 1.0)
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
    late : float
        The last time, over that of `LAST`.
    chunks, fields, particles : int
        Tasks for each rigidity, fields of a task, and particles of a field.
    pairs, places, pair_chunks, pair_fields : int
        Pairs of a cosine and place, places of a field, tasks, and fields of a task.
    """

    reach: float
    late: float
    chunks: int
    fields: int
    particles: int
    pairs: int
    places: int
    pair_chunks: int
    pair_fields: int


QUICK = Size(10.0, 0.5, 1, 6, 64, 4, 16, 2, 5)
FULL = Size(30.0, 1.0, 4, 12, 128, 8, 32, 10, 8)


def harari(x: FloatArray) -> FloatArray:
    """Return K / c L_c of Harari, Mollerach and Roulet (2014) for a Kolmogorov spectrum, x = r_L / L_c."""
    return np.asarray((4 * x**2 + 0.9 * x + 0.23 * np.cbrt(x)) / 3)


def galmc(x: ArrayLike, uniform: float) -> tuple[FloatArray, FloatArray]:
    """Return K_par and K_perp over c r_L of GalMC, a fit to orbits, with a turbulent field of rms 1.

    M. Unger, github.com/MichaelUnger/GalMC, Diffusion.h, commit 929d094. Its variables are the gyroradius in the total
    rms field over the longest wavelength, taken as 5 L_c, and the share eta of the turbulence in the energy; here x is
    r_L / L_c with r_L in a field of 1.
    """
    total = np.hypot(uniform, 1.0)
    rho = np.asarray(x) / (OUTER * total)
    eta, ratio = 1 / total**2, uniform**2
    along = (10 + 176 * ratio) * (rho / 1e-4) ** (-2 / 3) + eta / 2 + (6.25 + 7 * ratio) * rho**1.25
    turn = 0.28 + 0.0275 * ratio**-0.69 if ratio > 0 else np.inf
    root = (
        (1 + ratio * 49 / 6) ** -0.93
        * (rho / 1e-4) ** (0.1 * -np.expm1(-5 * (1 - eta)))
        / (1 + (rho / turn) ** 1.6)
    )
    return np.asarray(along / total), np.asarray(along * root**2 / total)


def snodin(x: ArrayLike, uniform: float) -> tuple[FloatArray, FloatArray]:
    """Return K_par and K_perp over c r_L of Snodin et al. (2016) with a turbulent field of rms 1; NaN outside.

    Constants and range, 0.004 to 0.05 of r_L (in the total rms field) / L_max, from where `candia_roulet` has them.
    """
    total = np.hypot(uniform, 1.0)
    rho = np.asarray(x) / (OUTER * total)
    known = np.where((rho >= 0.004) & (rho <= 0.05), 1 / (rho * total), np.nan)
    alone = 0.0031 + 0.74 * rho
    return known * (alone + np.cbrt(rho) * uniform**2 / 3), known * alone / (1 + 2.35 * uniform**2)


def candia_roulet(x: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return K_par and K_perp over c r_L of Candia and Roulet (2004), Kolmogorov, mean field and rms 1; NaN outside.

    Constants of their Table 1 and ranges (0.01 to 1 of r_L / L_max along, 0.03 to 1 across) as transcribed in AMPS,
    github.com/SWMFsoftware/AMPS, commit e891823, PERPENDICULAR_DIFFUSION_COEFFICIENT_MODEL.md, Section 13.
    """
    rho = np.asarray(x) / OUTER
    along = 1.7 * np.hypot((rho / 0.2) ** (-2 / 3), rho / 0.2)
    across = 0.025 * along * np.where(rho <= 0.2, 1.0, (rho / 0.2) ** -2.0)
    return (
        np.where((rho >= 0.01) & (rho <= 1), along, np.nan),
        np.where((rho >= 0.03) & (rho <= 1), across, np.nan),
    )


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


def spectrum_of(what: str, gyroradius: float, reach: float) -> TurbulenceSpectrum:
    """Return the spectrum of a rigidity, cut where it is no longer felt; lambda_min is never above 0.5."""
    shortest = min(2 * np.pi * gyroradius / reach, 0.5)
    return (
        TurbulenceSpectrum(shortest, PAPERS_OUTER)
        if what == "papers"
        else TurbulenceSpectrum(shortest, OUTER, bend_over=None)
    )


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
    stage = ("isotropic", "papers", "pairs", "mean").index(what)
    rng = child(seed, stage, index, chunk)
    if what != "pairs":
        x, per_decade = list(RUNS[what].items())[index]
        uniform = 0.0 if what == "isotropic" else 1.0
        times = size.late * LAST[what][x] / x * TIMES
        return moments(spectrum_of(what, x, size.reach), per_decade, uniform, x, times, size, rng)
    # Pairs feel small structure: all of the papers' spectrum down to lambda_min = 0.1 r_L in full runs.
    spectrum = spectrum_of("papers", PAIR_GYRORADIUS, max(2 * size.reach, 20.0))
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


RUNS: Mapping[str, dict[float, int]] = {"isotropic": ISOTROPIC, "mean": MEAN, "papers": PAPERS}
SET_UP: Mapping[str, Any] = {
    **{
        what: {str(x): [n, LAST[what][x], *TIMES.tolist()] for x, n in runs.items()} for what, runs in RUNS.items()
    },
    "pairs": [COSINES.tolist(), list(PAIR_TIMES), PAIR_GYRORADIUS],
}


def settled(running: RunningDiffusion) -> FloatArray:
    """Return the growth of <r r> over the last half of the time, a tensor per field."""
    return settled_tensor(running, 0.5 * running.time[-1])


def growth(running: RunningDiffusion) -> FloatArray:
    """Return the growth of <r r> / 2 between neighbouring times, shape (n_field, n_time - 1, 3, 3)."""
    square = running.mean * running.time[:, None, None]
    return np.asarray(np.diff(square, axis=1) / np.diff(running.time)[:, None, None])


def isotropic_table(parts: list[list[dict[str, Any]]], reach: float) -> Table:
    """Return K without a mean field beside the fits, in units of c L_c, a row for each of the first rigidities."""
    rows = []
    for x, results in zip(list(ISOTROPIC)[: len(parts)], parts, strict=True):
        running = gathered(results)
        tensors = settled(running)
        length = 2 * spectrum_of("isotropic", x, reach).correlation_length()
        value, error = (
            float(part) * x / length for part in mean_and_error(np.trace(tensors, axis1=1, axis2=2) / 3)
        )
        scaled = x / length
        fits = {
            "harari": float(harari(np.array(scaled))),
            "galmc": scaled * float(galmc(scaled, 0.0)[0]),
            "snodin": scaled * float(snodin(scaled, 0.0)[0]),
        }
        rows.append(
            {
                "set_up": "isotropic", "rigidity": x, "x": scaled, "fields": len(tensors),
                "time": float(running.time[-1] * x), "k": value, "k_error": error,
                "k_limit": float(small_deflections(np.array(scaled))),
                **{f"k_{name}": fit for name, fit in fits.items()},
            }
        )  # fmt: skip
    return Table(rows=rows)


def mean_field_table(what: str, parts: list[list[dict[str, Any]]], reach: float) -> Table:
    """Return K_par, K_perp and K_A in units of c r_L with a mean field, beside the fits, one row per rigidity.

    The fits are for a sharp end of the spectrum. With a bend they are given for the same correlation length.
    """
    rows = []
    for x, results in zip(list(RUNS[what])[: len(parts)], parts, strict=True):
        running = gathered(results)
        tensors = settled(running)
        (along, along_error), (across, across_error), _ = (mean_and_error(part) for part in split_tensor(tensors))
        # The correlation settles with the direction, and only its noise grows later.
        turned = int(np.searchsorted(running.time, min(12 * along, running.time[-1])))
        _, _, (turning, turning_error) = (
            mean_and_error(part) for part in split_tensor(running.correlation[:, turned])
        )
        forgets = np.mean(running.persistence[:, :, 2, 2], axis=0)
        scaled = x / (2 * spectrum_of(what, x, reach).correlation_length())
        fits = {"galmc": galmc(scaled, 1.0), "snodin": snodin(scaled, 1.0), "candia_roulet": candia_roulet(scaled)}
        rows.append(
            {
                "set_up": what, "rigidity": x, "x": scaled, "fields": len(tensors), "time": float(running.time[-1] * x),
                "k_par": float(along), "k_par_error": float(along_error), "k_perp": float(across),
                "k_perp_error": float(across_error), "k_hall": float(turning), "k_hall_error": float(turning_error),
                "mean_free_path": 3 * float(along), "folding_time": 1 / folding_rate(running.time, forgets),
                **{f"k_par_{name}": float(fit[0]) for name, fit in fits.items()},
                **{f"k_perp_{name}": float(fit[1]) for name, fit in fits.items()},
            }
        )  # fmt: skip
    return Table(rows=rows)


def running_table(what: str, running: dict[float, RunningDiffusion]) -> Table:
    """Return the growth of <r r> / 2 over each doubling of the time, in units of c r_L."""
    rows = []
    for x, moments_ in running.items():
        along, across, _ = split_tensor(growth(moments_))
        found = [mean_and_error(part) for part in (along, across, (along + 2 * across) / 3)]
        for i in range(len(moments_.time) - 1):
            values = {
                f"{name}{end}": float(part[i])
                for name, pair in zip(("k_par", "k_perp", "k"), found, strict=True)
                for end, part in zip(("", "_error"), pair, strict=True)
            }
            first, last = (float(time) for time in moments_.time[i : i + 2] * x)
            rows.append({"set_up": what, "rigidity": x, "time_first": first, "time_last": last, **values})
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
    isotropic: Table, mean: Table, papers: Table, running: Table, pairs: Table, fits: Table, stem: Path
) -> None:
    """Draw K against rigidity and against time without and with a mean field, and the scattering of pairs."""
    with styled():
        figure = new_figure(10.4, 12.6)
        (first, second), (third, fourth), (fifth, sixth) = figure.subplots(3, 2)
        _against_rigidity(first, isotropic)
        _ratio(second, isotropic)
        _running_isotropic(third, running)
        _running_mean(fourth, running)
        _mean(fifth, mean, papers)
        _pairs(sixth, pairs, fits)
        save(figure, stem)


def _against_rigidity(axes: Axes, table: Table) -> None:
    x = np.geomspace(0.007, 5.0, 100)
    axes.plot(x, harari(x), color=COLOURS["blue"], label="Harari et al. (2014)")
    axes.plot(x, x * galmc(x, 0.0)[0], color=COLOURS["vermilion"], linestyle="--", label="GalMC")
    axes.plot(x, x * snodin(x, 0.0)[0], color=COLOURS["green"], linestyle="-.", label="Snodin et al. (2016)")
    high = x[x > 0.15]
    axes.plot(high, small_deflections(high), color=COLOURS["grey"], linestyle=":", label=r"$\frac{4}{3} x^2$")
    axes.errorbar(
        table["x"], table["k"], yerr=table["k_error"], linestyle="none", marker="o", markersize=5, color="k",
        label="orbits",
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=r"$r_L / L_c$", ylabel=r"$K / c L_c$", ylim=(0.01, 60.0))
    axes.legend(loc="upper left")
    axes.set_title("(a) no mean field", loc="left")


def _ratio(axes: Axes, table: Table) -> None:
    axes.errorbar(
        table["x"], table["k"] / table["k_harari"], yerr=table["k_error"] / table["k_harari"], linestyle="none",
        marker="o", markersize=5, color="k",
    )  # fmt: skip
    x = np.geomspace(0.007, 5.0, 100)
    axes.axhline(1.0, color=COLOURS["blue"])
    axes.plot(x, x * galmc(x, 0.0)[0] / harari(x), color=COLOURS["vermilion"], linestyle="--")
    axes.plot(x, x * snodin(x, 0.0)[0] / harari(x), color=COLOURS["green"], linestyle="-.")
    high = x[x > 0.5]
    axes.plot(high, small_deflections(high) / harari(high), color=COLOURS["grey"], linestyle=":")
    axes.set(
        xscale="log", xlim=(0.007, 5.0), ylim=(0.5, 1.5), xlabel=r"$r_L / L_c$", ylabel="K over Harari et al."
    )
    axes.set_title("(b) the same, over the first fit", loc="left")


def _curve(axes: Axes, rows: Table, name: str, scale: float, colour: str, style: str, label: str | None) -> None:
    """Draw K against the middle of each doubling of the time, with its error as a band."""
    time = np.sqrt(rows["time_first"] * rows["time_last"])
    value, error = scale * np.asarray(rows[name]), scale * np.asarray(rows[f"{name}_error"])
    axes.plot(time, value, color=COLOURS[colour], linestyle=style, marker="o", markersize=3, label=label)
    axes.fill_between(time, value - error, value + error, color=COLOURS[colour], alpha=0.2, linewidth=0)


def _running_isotropic(axes: Axes, running: Table) -> None:
    for x, colour in zip((0.01, 0.03, 0.1), ("black", "vermilion", "green"), strict=True):
        rows = running[(running["set_up"] == "isotropic") & (running["rigidity"] == x)]
        _curve(axes, rows, "k", x, colour, "-", f"{x:g}")
        axes.plot([8, 200], np.full(2, harari(np.array(x))), color=COLOURS[colour], linewidth=1.0)
        axes.plot([8, 200], np.full(2, x * galmc(x, 0.0)[0]), color=COLOURS[colour], linestyle="--", linewidth=1.0)
    axes.set(xscale="log", yscale="log", xlim=(0.3, 200), ylim=(0.01, 0.2), xlabel=r"$cT / L_c$")
    axes.set_yticks([0.01, 0.02, 0.05, 0.1, 0.2], ["0.01", "0.02", "0.05", "0.1", "0.2"])
    axes.set_yticks([], minor=True)
    axes.set_ylabel(r"$d\langle r^2 \rangle / 6 dT$ [$c L_c$]")
    axes.legend(loc="upper left", title=r"$r_L / L_c$", ncols=3)
    axes.set_title("(c) no mean field; thin: fits", loc="left")


def _running_mean(axes: Axes, running: Table) -> None:
    for x, colour in zip((0.03, 0.1, 0.3, 1.0), ("black", "vermilion", "green", "purple"), strict=True):
        rows = running[(running["set_up"] == "mean") & (running["rigidity"] == x)]
        for name, fit, style in zip(("k_par", "k_perp"), galmc(x, 1.0), ("-", ":"), strict=True):
            _curve(axes, rows, name, 1.0, colour, style, f"{x:g}" if style == "-" else None)
            axes.plot([30, 300], np.full(2, fit), color=COLOURS[colour], linestyle="--", linewidth=1.0)
    axes.set(xscale="log", yscale="log", xlim=(0.3, 300), ylim=(0.03, 90), xlabel=r"$cT / L_c$")
    axes.set_ylabel(r"$d\langle r^2 \rangle / 2 dT$ [$c\,r_L$]")
    axes.legend(loc="upper left", title=r"$r_L / L_c$", ncols=4)
    axes.set_title("(d) mean field 1, rms 1; dotted: across", loc="left")


def _mean(axes: Axes, mean: Table, papers: Table) -> None:
    x = np.geomspace(0.015, 6.0, 200)
    fits = (
        (galmc(x, 1.0), "vermilion", "--", "GalMC"), (snodin(x, 1.0), "green", "-.", "Snodin et al. (2016)"),
        (candia_roulet(x), "blue", "-", "Candia & Roulet (2004)"),
    )  # fmt: skip
    for lines, colour, style, label in fits:
        for line, name in zip(lines, (label, None), strict=True):
            axes.plot(x, line, color=COLOURS[colour], linestyle=style, label=name)
    for table, colour, fill, label in (
        (mean, "black", "full", "orbits"),
        (papers, "purple", "none", "orbits, bend"),
    ):
        for name in ("k_par", "k_perp"):
            axes.errorbar(
                table["x"], table[name], yerr=table[f"{name}_error"], linestyle="none", marker="o", markersize=5,
                color=COLOURS[colour], fillstyle=fill, label=label if name == "k_par" else None,
            )  # fmt: skip
    axes.annotate(r"$K_\parallel$", (0.03, 4.0))
    axes.annotate(r"$K_\perp$", (0.03, 0.15))
    axes.set(xscale="log", yscale="log", ylim=(0.012, 400), xlabel=r"$r_L / L_c$", ylabel=r"$K / c\,r_L$")
    axes.legend(loc="upper right", ncols=2)
    axes.set_title("(e) mean field 1, rms 1", loc="left")


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
    axes.set_title(r"(f) pairs, $r_L = \lambda_c / 10$", loc="left")


def make(context: Context) -> FigureEntry:
    size = FULL if context.full else QUICK
    # A folder for each set of choices: results of another seed or size are not in the way.
    choices = json.dumps({"seed": context.seed, **asdict(size), **SET_UP}, sort_keys=True)
    base = context.directory / f"tasks-{hashlib.sha256(choices.encode()).hexdigest()[:12]}"
    parts = {what: run(context.seed, size, base, what, len(runs), size.chunks) for what, runs in RUNS.items()}
    (pair_parts,) = run(context.seed, size, base, "pairs", 1, size.pair_chunks)
    isotropic = isotropic_table(parts["isotropic"], size.reach)
    mean, papers = (mean_field_table(what, parts[what], size.reach) for what in ("mean", "papers"))
    pairs, fits, (twins, twins_error) = pairs_table(pair_parts)
    running = vstack(
        [
            running_table(what, {x: gathered(one) for x, one in zip(runs, parts[what], strict=True)})
            for what, runs in RUNS.items()
        ]
    )
    draw(isotropic, mean, papers, running, pairs, fits, context.directory / "diffusion")
    table = vstack([isotropic, mean, papers])
    for name in table.colnames[2:]:
        table[name].info.format = ".4g"
    settings = {"seed": context.seed, **asdict(size)}
    write_table(
        table, context.directory / "diffusion.ecsv", settings=settings,
        description="Diffusion from orbits beside fits: K over c L_c without a mean field; K over c r_L with one",
    )  # fmt: skip
    write_table(
        running, context.directory / "running.ecsv", settings=settings,
        description="Growth of <r r>/2 over each doubling of the time, over c r_L; times in L_c/c or lambda_c/c",
    )  # fmt: skip
    write_table(
        pairs,
        context.directory / "pairs.ecsv",
        settings=settings,
        description="Relative scattering rate of pairs in units of Omega against the cosine between them",
    )
    steep, flat = slopes(isotropic)[-1], slopes(isotropic)[:2]
    rows = running[(running["set_up"] == "isotropic") & (running["rigidity"] == 0.01)]
    early = rows[np.isclose(rows["time_first"], 1.0)][0]
    near = [row for row in fits if row["range"] == "x > 0.5"]
    whole = [row for row in fits if row["range"] == "all"]
    without = ", ".join(
        f"{row['k'] / row['k_harari']:.2f}, {row['k'] / row['k_galmc']:.2f} +- "
        f"{row['k_error'] / row['k_galmc']:.2f} at r_L/L_c = {row['rigidity']:g}"
        for row in isotropic
    )
    beside = ", ".join(
        f"{row['k_par'] / row['k_par_galmc']:.2f} +- {row['k_par_error'] / row['k_par_galmc']:.2f} along and "
        f"{row['k_perp'] / row['k_perp_galmc']:.2f} +- {row['k_perp_error'] / row['k_perp_galmc']:.2f} across at "
        f"{row['rigidity']:g}"
        for row in mean
    )
    deviations = (
        "Fits, none with an accuracy that we know: (1) K = (c L_c/3)(4 x^2 + 0.9 x + 0.23 x^(1/3)), x = r_L/L_c, "
        "Harari et al. (2014), whose first term was derived again and whose other constants were not seen in the "
        "paper; (2) that of the program GalMC (file Diffusion.h), read from its source; (3) Snodin et al. (2016) and "
        "(4) Candia and Roulet (2004), with constants and ranges as transcribed in AMPS. L_max = 5 L_c.",
        f"Without a mean field, orbits over fits (1) and (2): {without}. d ln K / d ln r_L is {flat[0]:.2f} and "
        f"{flat[1]:.2f} between the lowest three rigidities and {steep:.2f} between the highest two.",
        f"K falls with time at low rigidity: at r_L/L_c = 0.01 it is {0.01 * early['k']:.3f} c L_c between 1 and "
        f"2 L_c/c and {isotropic['k'][0]:.4f} +- {isotropic['k_error'][0]:.4f} over the last half of "
        f"{isotropic['time'][0]:g}. Particles first diffuse along the field lines on which they are.",
        f"With a mean field, orbits over fit (2): {beside}.",
        f"At r_L = 3 L_c it takes {ISOTROPIC[3.0]} waves per decade: with 40 K is 1.4 times as large, because few "
        "waves lie across the line of flight.",
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
        "without a mean field, beside published fits and the limit of small deflections; (b) its ratio to the first. "
        "(c) The same against time at low rigidity; thin lines are the fits of Harari et al. and, dashed, of GalMC. "
        "(d), (e) Along and across a mean field as strong as the turbulence, against time (dashed: GalMC) and against "
        "rigidity; open circles: the spectrum of the papers, with a bend. "
        "(f) Relative scattering rate of pairs that meet at one place, against the cosine x between them, after four "
        "times; grey: powers 1/3, 1/2 and 2/3 of 1 - x. Errors are those of the mean over fields.",
        alt="Six panels. The diffusion coefficient without a mean field rises slowly up to a gyroradius of a tenth of "
        "the correlation length, then steeply, near a square law, close to the fits. At low rigidity it falls with "
        "time until tens of correlation lengths have been passed, down to the fits. Along a mean field it rises to a "
        "plateau, across it falls to one, at the lines of a fit. Pair scattering rates rise with the angle, more "
        "steeply at early times.",
        image="diffusion.png", table="diffusion.ecsv", deviations=deviations, seed=context.seed,
        size_note="" if context.full else f"{size.chunks * size.fields} fields a rigidity, k_max r_L = {size.reach:g}",
    )  # fmt: skip
