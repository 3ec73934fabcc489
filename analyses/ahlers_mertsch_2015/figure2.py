"""AM15, Fig. 2 (AM17, Fig. 15): power of back-tracked skies over its dipole, beside data and relative diffusion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import healpy as hp
import numpy as np
from astropy.table import Table, vstack
from matplotlib.axes import Axes
from numpy.typing import NDArray
from obsfit_models.relative_diffusion import power_ratio as relative_diffusion
from obsfit_models.turbulence.anisotropy import orientation, rotated_alm
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.sky_spectra import diffusive_shot_noise, jackknife, power_ratio

import obsfit
from obsfit.operators import ObservationOperator
from obsfit.plot.products import write_table
from obsfit.plot.report import DataSource, FigureEntry, compare
from obsfit.plot.runner import Context, load_program
from obsfit.plot.spectra import drawn_power, isotropic_sky, power_interval, scale_folded, scale_to_data
from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.records import PowerSpectrum

KEY = "am15-figure2"
TITLE = "Power of back-tracked skies over its dipole, with data"
PAPER = "AM15"
FIGURE = "Fig. 2 (the same as AM17, Fig. 15)"
USER_FILES = {"icecube-2013": "OBSFIT_ICECUBE_2013_SPECTRUM", "hawc-2014": "OBSFIT_HAWC_2014_SPECTRUM"}

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
common = load_program(Path(__file__).with_name("_ensemble.py"))
skies = common.skies

TIME = 100.0
LMAX = 30
WAYS = ("parallel", "perpendicular")
EXPONENTS = {"1/3": 1 / 3, "1/2": 1 / 2, "2/3": 2 / 3}
STYLES = {"1/3": "--", "1/2": "-", "2/3": "-."}
PIVOT = "1/2"
SCALED_FROM, SCALED_TO = 4, 20
# AM17 below Fig. 7.
EVENTS = {"icecube-2013": 3.2e11, "hawc-2014": 4.9e10}
PANELS = {"hawc": "(b) HAWC band, 10 TeV", "icecube": "(c) IceCube band, 10 TeV"}
TWELVE = "(d) IceCube, 12 years, 13 TeV"
LOOKS = {"parallel": ("vermilion", "D"), "perpendicular": ("blue", "^")}
# Direction of the local field from IBEX, AM17: l = 210.5, b = -57.1 deg; the sign does not matter for power.
FIELD_RA, FIELD_DEC = np.radians(48.5), np.radians(-21.2)
TURNS = 6


@dataclass(frozen=True)
class Simulated:
    """Power over its dipole at one time, for one direction of the gradient; arrays of shape (lmax + 1,)."""

    ratio: FloatArray
    error: FloatArray
    paper_error: FloatArray
    paper_estimate: FloatArray
    fields: FloatArray


def simulated(ensemble: DisplacementEnsemble) -> dict[str, Simulated]:
    """Return the power of both directions of the gradient.

    Errors: jackknife over fields, and the paper's root of 2 N^2 / (2 l + 1) with the noise N of Eq. (71) for its
    12288 directions. The paper's estimate is the power with noise, less Eq. (71); the noise of 12288 directions is
    that measured here over their number.
    """
    last = ensemble.at(TIME)
    parts = zip(
        WAYS,
        *(
            skies.along_and_across(of(last)[:, 0], axis=1)
            for of in (skies.gradient_power, skies.shot_noise, skies.mean_squares)
        ),
        strict=True,
    )
    found = {}
    for way, power, noise, square in parts:
        ratio, error = power_ratio(power)
        dipole = float(power[:, 1].mean())
        tensor = np.diag([0.0, 0.0, square.mean() / (2 * TIME)])
        level = float(diffusive_shot_noise(common.PAPER_DIRECTIONS, TIME, tensor, (0.0, 0.0, 1.0))) / dipole
        measured = float(noise.mean()) / dipole * last.directions / common.PAPER_DIRECTIONS
        ell = np.arange(ratio.size)
        found[way] = Simulated(ratio, error, level * np.sqrt(2.0 / (2 * ell + 1)), ratio + measured - level, power)
    return found


def extended(ratio: FloatArray, lmax: int) -> FloatArray:
    """Return a spectrum that goes on as a power law through its last multipoles: folding needs what lies beyond."""
    power = np.zeros(lmax + 1)
    power[1 : ratio.size] = ratio[1:]
    ell = np.arange(ratio.size // 2, ratio.size)
    slope, height = np.polyfit(np.log(ell), np.log(np.maximum(ratio[ell], 1e-12)), 1)
    beyond = np.arange(ratio.size, lmax + 1)
    power[beyond] = np.exp(height) * beyond**slope
    return power


def folding(operator: ObservationOperator) -> tuple[FloatArray, FloatArray]:
    """Return what an operator makes of the power at each multipole, (n, lmax + 1), and of none: its noise (n,)."""
    noise = operator.expect(isotropic_sky(operator)).mean[0]
    columns = [
        operator.expect(isotropic_sky(operator, unit)).mean[0] - noise for unit in np.eye(operator.lmax + 1)
    ]
    return np.array(columns).T, noise


def beside(record: PowerSpectrum, found: dict[str, Simulated]) -> tuple[Table, float]:
    """Return pseudo-power of a cut sky beside folded predictions, all over one C_1, and that C_1.

    C_1 is the true dipole power with which relative diffusion with p = 1/2 comes nearest to the points at l = 4 to 20.
    """
    operator = obsfit.operator_for(record)
    shape = relative_diffusion(EXPONENTS[PIVOT], operator.lmax)
    c_1 = scale_folded(shape, record, operator, SCALED_FROM, SCALED_TO)
    matrix, noise = folding(operator)
    columns: dict[str, object] = {
        "measurement": [record.measurement] * len(record), "ell": record.ell, "power": record.c_ell / c_1,
        "noise": noise / c_1,
        **{f"folded_{name}": matrix @ relative_diffusion(p, operator.lmax) + noise / c_1
           for name, p in EXPONENTS.items()},
    }  # fmt: skip
    for way, one in found.items():
        mean, error = jackknife(
            one.fields, lambda power: np.asarray(matrix @ extended(power / power[1], operator.lmax))
        )
        columns[f"folded_{way}"] = mean + noise / c_1
        columns[f"folded_{way}_error"] = error
    return Table(columns), c_1


def oriented(alm: ComplexArray, turn: float) -> ComplexArray:
    """Return a sky turned by an angle about z and then with z towards the local field, as equatorial a_lm."""
    return rotated_alm(alm, orientation(hp.ang2vec(0.5 * np.pi - FIELD_DEC, FIELD_RA), turn=turn))


def field_of_view(ensemble: DisplacementEnsemble, operator: ObservationOperator) -> dict[str, FloatArray]:
    r"""Return the power that is seen of simulated skies over that of isotropic ones with their C_l, both (n,).

    The uniform field lies along that of IBEX, the gradient along it or across it, all turned about it in `TURNS` steps.
    Products of two sets, which hold no shot noise, come from the power of their sum and that of their difference.
    """
    position = ensemble.at(TIME).alm[:, :2, 0, 0, :3]
    lmax = ensemble.lmax
    matrix, _ = folding(operator)
    seen: dict[str, list[FloatArray]] = {way: [] for way in WAYS}
    place = [hp.Alm.getidx(operator.lmax, *pair) for pair in zip(*hp.Alm.getlm(lmax), strict=True)]
    for turn in 2 * np.pi * np.arange(TURNS) / TURNS:
        for axis, way in enumerate(("perpendicular", "perpendicular", "parallel")):
            maps = position[:, :, axis]
            pairs = np.stack([maps[:, 0] + maps[:, 1], maps[:, 0] - maps[:, 1]], axis=1)
            wide = np.zeros((*pairs.shape[:2], 1, hp.Alm.getsize(operator.lmax)), dtype=np.complex128)
            for index in np.ndindex(pairs.shape[:2]):
                wide[index][0, place] = oriented(pairs[index], turn)
            observed = operator.observe(wide)
            seen[way].append(0.25 * (observed[:, 0] - observed[:, 1]).mean(axis=0))
    isotropic = skies.along_and_across(skies.gradient_power(ensemble.at(TIME))[:, 0].mean(axis=0), axis=0)
    return {
        way: np.mean(seen[way], axis=0) / (matrix[:, : lmax + 1] @ power)
        for way, power in zip(WAYS, isotropic, strict=True)
    }


def simulated_table(found: dict[str, Simulated]) -> Table:
    """Return one row per multipole and direction of the gradient."""
    tables = []
    for way, one in found.items():
        part = slice(1, one.ratio.size)
        tables.append(
            Table(
                {
                    "measurement": [f"simulated, {way}"] * (one.ratio.size - 1), "ell": np.arange(one.ratio.size)[part],
                    "power": one.ratio[part], "error": one.error[part], "paper_error": one.paper_error[part],
                    "paper_estimate": one.paper_estimate[part],
                }
            )
        )  # fmt: skip
    return vstack(tables)


def own_spectrum(path: Path, events: float) -> PowerSpectrum:
    """Return the spectrum in a file of the user's; a missing noise is that of Eq. (32) for a number of events."""
    record = obsfit.load_spectrum(path).select(1, LMAX)
    level = 4.0 * np.pi * record.sky_fraction**2 / events
    return replace(record, noise=np.where(np.isfinite(record.noise), record.noise, level))


def draw(
    found: dict[str, Simulated], full_sky: PowerSpectrum, dipole: float, bands: dict[str, Table], own: dict[str, Table],
    stem: Path,
) -> None:  # fmt: skip
    """Draw the true sky, and three cut skies with what is folded into their windows."""
    with styled():
        figure = new_figure(10.4, 9.8)
        panels = figure.subplots(2, 2)
        _true_sky(panels[0, 0], found, full_sky, dipole)
        for axes, (title, table) in zip(panels.flat[1:], bands.items(), strict=True):
            _band(axes, table, found["parallel"].ratio.size - 1)
            for name, points in own.items():
                if title == PANELS[name.split("-")[0]]:
                    axes.plot(points["ell"], points["power"], color=COLOURS["green"], marker="s",
                              markerfacecolor="white", linestyle="none", label="your file")  # fmt: skip
            axes.set_title(title, loc="left")
        for axes in panels[1]:
            axes.set_xlabel(r"multipole $\ell$")
        labelled = {
            label: handle
            for axes in panels.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(list(labelled.values()), list(labelled), loc="outside lower center", ncols=3)
        save(figure, stem)


def _log_axis(axes: Axes) -> None:
    axes.set(xscale="log", yscale="log", xlim=(0.85, LMAX * 1.1))
    ticks = [1, 2, 3, 4, 6, 11, 20, LMAX]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def _true_sky(axes: Axes, found: dict[str, Simulated], full_sky: PowerSpectrum, dipole: float) -> None:
    ell = np.arange(1, LMAX + 1)
    for name, exponent in EXPONENTS.items():
        axes.plot(ell, relative_diffusion(exponent, LMAX)[1:], color="0.55", linestyle=STYLES[name],
                  label=f"relative diffusion, p = {name}")  # fmt: skip
    power = drawn_power(full_sky)
    low, high = power_interval(power, full_sky.degrees_of_freedom)
    axes.errorbar(
        full_sky.ell, power / dipole, yerr=np.stack([power - low, high - power]) / dipole, color="black", marker="o",
        markersize=3.5, linestyle="none", elinewidth=0.8, label="data (HAWC and IceCube), rescaled",
    )  # fmt: skip
    axes.plot(full_sky.ell, full_sky.noise / dipole, color="black", linestyle=":", label="noise of the data")
    for way, one in found.items():
        colour, marker = LOOKS[way]
        shift = 0.97 if way == "parallel" else 1.03
        here = np.arange(1, one.ratio.size)
        look = {"color": COLOURS[colour], "linestyle": "none", "marker": marker}
        axes.errorbar(here[1:] * shift, one.paper_estimate[2:], yerr=one.paper_error[2:], elinewidth=0.9, alpha=0.6,
                      markersize=4.5, markerfacecolor="white", label=f"{way}, less Eq. (71), errors of the paper",
                      **look)  # fmt: skip
        axes.errorbar(here * shift, one.ratio[1:], yerr=one.error[1:], markeredgecolor="white", markeredgewidth=0.5,
                      elinewidth=1.0, label=f"simulated, {way}, errors from fields", **look)  # fmt: skip
    _log_axis(axes)
    axes.set_ylim(3e-5, 20.0)
    axes.set_ylabel(r"power $\hat C_\ell\,/\,\hat C_1$")
    axes.set_title(r"(a) whole sky, $\Omega T = 100$", loc="left")


def _band(axes: Axes, table: Table, simulated_to: int) -> None:
    ell = table["ell"]
    for name in EXPONENTS:
        axes.plot(ell, table[f"folded_{name}"], color="0.55", linestyle=STYLES[name])
    axes.plot(ell, table["noise"], color="black", linestyle=":")
    here = ell <= simulated_to
    for way, (colour, marker) in LOOKS.items():
        shift = 0.97 if way == "parallel" else 1.03
        axes.errorbar(
            ell[here] * shift, table[f"folded_{way}"][here], yerr=table[f"folded_{way}_error"][here],
            color=COLOURS[colour], marker=marker, markeredgecolor="white", markeredgewidth=0.5, linestyle="none",
            elinewidth=1.0,
        )  # fmt: skip
    axes.plot(ell, table["power"], color="black", marker="o", markersize=3.5, linestyle="none")
    _log_axis(axes)
    axes.set_ylim(1e-6, 3.0)
    axes.set_ylabel(r"pseudo-power $\tilde C_\ell\,/\,C_1$")


def bend(ratio: FloatArray) -> float:
    """Return the logarithmic slope from l = 4 to 16 less that from 1 to 4: above zero for a convex spectrum."""
    first, second = np.log(ratio[4] / ratio[1]), np.log(ratio[16] / ratio[4])
    return float((second - first) / np.log(4.0))


def remarks(
    found: dict[str, Simulated], windows: dict[str, dict[str, FloatArray]], size: str, absent: list[str], own: bool
) -> tuple[str, ...]:
    """Return what differs from the paper, with the numbers of this run."""
    words, last = [], found["parallel"].ratio.size - 1
    for way, one in found.items():
        ratios = ", ".join(f"{one.ratio[ell]:.3g} +- {one.error[ell]:.1g}" for ell in (2, 5, 10, 16))
        local, subtracted = (
            np.log(np.maximum(values[16], 1e-9) / values[4]) / np.log(4.0)
            for values in (one.ratio, one.paper_estimate)
        )
        words.append(
            f"{way}: C_l / C_1 = {ratios} at l = 2, 5, 10, 16; slope {local:.2f} from l = 4 to 16, and "
            f"{subtracted:.2f} if Eq. (71) is subtracted as in the paper"
        )
    ends = {name: [np.min([w[:10] for w in one.values()]), np.max([w[:10] for w in one.values()])]
            for name, one in windows.items()}  # fmt: skip
    seen = " and ".join(f"{low:.2f} to {high:.2f} times in the {name} band" for name, (low, high) in ends.items())
    diffusion = ", ".join(
        f"{np.log(power[16] / power[4]) / np.log(4.0):.2f}"
        for power in (relative_diffusion(p, 16) for p in EXPONENTS.values())
    )
    result = [
        f"This run: {size}; the paper has 10 fields. {'; '.join(words)}. Eq. (77) has slopes of {diffusion} there, for "
        "p = 1/3, 1/2 and 2/3.",
        "Filled symbols are products between two sets of directions, without noise, with errors from field to field "
        "(jackknife). Open symbols are the estimate of the paper: Eq. (71) for 12288 directions is taken from the "
        "power with its noise, here that measured, scaled to as many directions (ours are random in their pixels, the "
        "paper's are pixel centres). Eq. (71) is an upper bound of the noise; subtracting it steepens the spectrum. "
        "Their errors are the paper's, the root of 2 N^2 / (2 l + 1), which know nothing of the scatter of fields.",
        "One factor rescales each measured spectrum: with it relative diffusion for p = 1/2 comes nearest at l = 4 to "
        "20. In (a) the data are the map of HAWC and IceCube at 10 TeV, computed from its published picture, with the "
        "window of its smoothing divided out, as in Fig. 1 of ASTRA here.",
        "Powers of cut skies stand beside folded predictions only, panels (b) to (d), which carry window, filter, "
        f"smoothing and noise; the paper lays whole-sky predictions over them. Beyond l = {last} simulated spectra go "
        "on as a power law. All nine energies of IceCube are in the entry on the data of AM17, Fig. 15.",
        "Folding takes the skies as isotropic. With the uniform field along that of IBEX, and gradients along and "
        f"across it, the mean power of the simulated skies for l = 1 to 10 is {seen} what their C_l alone would "
        "give: the orientation of the local field belongs into a fit.",
    ]
    if absent:
        result.insert(
            0,
            "The points of the paper, IceCube at 20 TeV (2013) and HAWC at 2 TeV (2014), are not public in a form that "
            "we have. Files of them can be given in environment variables: " + ", ".join(absent) + ".",
        )
    if own:
        result.append("Green squares come from files of yours, each over a C_1 found with its own window.")
    return tuple(result)


def make(context: Context) -> FigureEntry:
    ensemble: DisplacementEnsemble = common.ensemble(context)
    found = simulated(ensemble)
    full_sky = obsfit.load_spectrum("hawc-icecube-2019").select(1, LMAX)
    dipole = scale_to_data(relative_diffusion(EXPONENTS[PIVOT], LMAX), full_sky, SCALED_FROM, SCALED_TO)
    cut = {
        title: obsfit.load_spectrum("hawc-icecube-2019-by-field", field=field).select(1, LMAX)
        for field, title in PANELS.items()
    }
    cut[TWELVE] = obsfit.load_spectra("icecube-2025")[0].select(1, LMAX)
    own = {name: own_spectrum(file, EVENTS[name]) for name, file in context.user_files.items()}
    bands = {title: beside(record, found) for title, record in cut.items()}
    own_bands = {name: beside(record, found) for name, record in own.items()}
    draw(
        found, full_sky, dipole, {title: table for title, (table, _) in bands.items()},
        {name: table for name, (table, _) in own_bands.items()}, context.directory / "figure2",
    )  # fmt: skip
    whole = Table(
        {
            "measurement": [full_sky.measurement] * len(full_sky), "ell": full_sky.ell,
            "power": drawn_power(full_sky) / dipole, "noise": full_sky.noise / dipole,
            **{f"folded_{name}": relative_diffusion(p, LMAX)[full_sky.ell] for name, p in EXPONENTS.items()},
        }
    )  # fmt: skip
    table = vstack([simulated_table(found), whole, *(one for one, _ in (*bands.values(), *own_bands.values()))])
    for name in table.colnames[2:]:
        table[name].info.format = ".6g"
    sources = tuple(DataSource.of(record.provenance) for record in (full_sky, *cut.values(), *own.values()))
    write_table(
        table, context.directory / "figure2.ecsv", data=tuple(dict.fromkeys(sources)),
        description="Simulated and measured power over one dipole, and relative diffusion; folded where a sky is cut.",
        settings={
            **ensemble.configuration, "scaled_to": [SCALED_FROM, SCALED_TO], "dipole_power": {
                full_sky.measurement: dipole, **{cut[title].measurement: c_1 for title, (_, c_1) in bands.items()},
            },
        },
    )  # fmt: skip
    windows = {
        name: field_of_view(ensemble, obsfit.operator_for(cut[PANELS[field]]))
        for name, field in (("HAWC", "hawc"), ("IceCube", "icecube"))
    }
    ours = {f"p = {name}, C_2/C_1": float(relative_diffusion(p, 2)[2]) for name, p in EXPONENTS.items()}
    ours |= {f"{way}, slope from l = 4 to 16 less that from 1 to 4": bend(one.ratio) for way, one in found.items()}
    absent = [f"{name} ({USER_FILES[name]})" for name in USER_FILES if name not in own]
    size = common.size_note(ensemble)
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "needs file" if absent else "reproduced",
        caption="(a) Power of the whole sky over its dipole: back-tracked skies at Omega T = 100 with a gradient of "
        "the density along the uniform field (diamonds) and across it (triangles), without shot noise (filled) and as "
        "the paper subtracts it (open); the map of HAWC and IceCube at 10 TeV with 68 percent intervals and its noise, "
        "rescaled; relative diffusion, Eq. (77), for three exponents (grey). (b) to (d): pseudo-power of cut skies "
        "(points) with the same predictions folded through the window of "
        "each, noise included (dotted: noise alone).",
        alt="Four panels on logarithmic axes against multipoles 1 to 30. In (a) simulated points fall from 1 at l = 1 "
        "to about 0.1 at 2, 0.015 at 5, 0.003 at 10 and 0.0015 at 16: below the grey curves at l = 2 to 4 where "
        "the gradient is along the field, and above them, flatter, from 8 on. The data follow the middle curve from "
        "l = 4 on. In (b) to (d) folded points and curves lie together within a factor of two, flat up to l = 3 in the "
        "IceCube band; the data lie above them at l = 1 to 3 and among them beyond.",
        image="figure2.png", table="figure2.ecsv",
        comparisons=compare(context.expected, "figure2", ours),
        deviations=remarks(found, windows, size, absent, bool(own)), data=tuple(dict.fromkeys(sources)),
        seed=context.seed, size_note="" if context.full else size,
    )  # fmt: skip
