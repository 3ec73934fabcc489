"""AM17, Fig. 15 (AM15, Fig. 2), the measured part: IceCube and HAWC rescaled, over relative diffusion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import MaskedColumn, Table, vstack
from matplotlib.axes import Axes
from obsfit_models.relative_diffusion import power_ratio

import obsfit
from obsfit.operators import ObservationOperator
from obsfit.plot.products import write_table
from obsfit.plot.report import DataSource, FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.spectra import folded_interval, isotropic_sky, scale_folded
from obsfit.plot.style import COLOURS, LINE_STYLES, MARKERS, new_figure, save, styled
from obsfit.records import PowerSpectrum

KEY = "am17-figure15-data"
TITLE = "Measured power over relative diffusion, seen through each window"
PAPER = "AM17"
FIGURE = "Fig. 15, data"
USER_FILES = {"icecube-2013": "OBSFIT_ICECUBE_2013_SPECTRUM", "hawc-2014": "OBSFIT_HAWC_2014_SPECTRUM"}

# AM17 below Fig. 7.
EVENTS = {"icecube-2013": 3.2e11, "hawc-2014": 4.9e10}
LMAX = 30
EXPONENTS = {"1/3": 1 / 3, "1/2": 1 / 2, "2/3": 2 / 3}
PIVOT = "1/2"
SCALED_FROM, SCALED_TO = 4, 20
CURVE = "0.25"
STYLES = {"1/3": "--", "1/2": "-", "2/3": "-."}
FAR = 300
PANELS = {"hawc": "(a) HAWC band, 10 TeV", "icecube": "(b) IceCube band, 10 TeV"}


def own_spectrum(path: Path, events: float) -> PowerSpectrum:
    """Return the spectrum in a file of the user's; a missing noise is that of Eq. (32) for a number of events."""
    record = obsfit.load_spectrum(path).select(1, LMAX)
    level = 4.0 * np.pi * record.sky_fraction**2 / events
    return replace(record, noise=np.where(np.isfinite(record.noise), record.noise, level))


def folded(operator: ObservationOperator, power: np.ndarray) -> np.ndarray:
    """Return the mean of the power that an operator observes, of an isotropic sky and noise."""
    return np.asarray(operator.expect(isotropic_sky(operator, power)).mean[0])


def numbers(record: PowerSpectrum) -> tuple[Table, float]:
    """Return one row per multipole, all powers over one C_1, and that C_1.

    C_1 is the true dipole power with which relative diffusion with p = 1/2 reaches the points at l = 4 to 20; the
    other exponents share it, as the grey lines of the paper do.
    """
    operator = obsfit.operator_for(record)
    shapes = {name: power_ratio(p, operator.lmax) for name, p in EXPONENTS.items()}
    c_1 = scale_folded(shapes[PIVOT], record, operator, SCALED_FROM, SCALED_TO)
    moments = operator.expect(isotropic_sky(operator, c_1 * shapes[PIVOT]))
    low, high = folded_interval(operator, c_1 * shapes[PIVOT])
    deviation = np.sqrt(np.diagonal(moments.covariance[0]))
    to_next = np.diagonal(moments.covariance[0], offset=1) / (deviation[:-1] * deviation[1:])
    n = len(record)
    table = Table(
        {
            "measurement": [record.measurement] * n,
            "energy": np.full(n, record.energy_tev),
            "ell": record.ell,
            "power": record.c_ell / c_1,
            **{f"folded_{name}": folded(operator, c_1 * shape) / c_1 for name, shape in shapes.items()},
            "folded_low_68": low / c_1,
            "folded_high_68": high / c_1,
            "degrees_of_freedom": 2.0 * moments.mean[0] ** 2 / deviation**2,
            "correlation_next": MaskedColumn(np.append(to_next, 0.0), mask=np.arange(n) == n - 1),
            "unfolded_1/2": shapes[PIVOT][record.ell],
            "noise": folded(operator, np.zeros(1)) / c_1,
            "published_isotropic_high_95": MaskedColumn(
                np.nan_to_num(record.isotropic_high) / c_1, mask=~np.isfinite(record.isotropic_high)
            ),
        },
        units={"energy": "TeV"},
    )
    return table, c_1


def draw(bands: dict[str, Table], energies: list[Table], own: dict[str, Table], stem: Path) -> None:
    """Draw three spectra with their curves, and nine energies over the folded p = 1/2."""
    with styled():
        figure = new_figure(10.4, 9.4)
        panels = figure.subplots(2, 2)
        for axes, (title, table) in zip(panels.flat, bands.items(), strict=False):
            _panel(axes, table)
            axes.set_title(title, loc="left")
            for name, points in own.items():
                if title == PANELS[name.split("-")[0]]:
                    axes.plot(points["ell"], points["power"], color=COLOURS["green"], marker="s",
                              markerfacecolor="white", linestyle="none", label="your file")  # fmt: skip
        _ratios(panels[1, 1], energies)
        for axes in panels[1]:
            axes.set_xlabel(r"multipole $\ell$")
        labelled = {
            label: handle
            for axes in panels.flat[:3]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(list(labelled.values()), list(labelled), loc="outside lower center", ncols=4)
        save(figure, stem)


def _log_axis(axes: Axes) -> None:
    axes.set(xscale="log", yscale="log", xlim=(0.85, LMAX * 1.1))
    ticks = [1, 2, 3, 4, 6, 11, 20, LMAX]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def _panel(axes: Axes, table: Table) -> None:
    ell, blue = table["ell"], COLOURS["blue"]
    axes.fill_between(
        ell, table["folded_low_68"], table["folded_high_68"], color="0.84", linewidth=0,
        label=f"68 % of skies, p = {PIVOT}",
    )  # fmt: skip
    for name in EXPONENTS:
        axes.plot(ell, table[f"folded_{name}"], color=CURVE, linestyle=STYLES[name], label=f"p = {name}, folded")
    axes.plot(
        np.arange(1, LMAX + 1), power_ratio(EXPONENTS[PIVOT], LMAX)[1:], color=COLOURS["vermilion"], linewidth=0.9,
        label=f"p = {PIVOT}, Eq. (77) itself",
    )  # fmt: skip
    axes.plot(ell, table["noise"], color=blue, linestyle=":", label="noise of the data")
    published = table["published_isotropic_high_95"]
    if not np.all(np.ma.getmaskarray(published)):
        axes.plot(
            ell, published, color=COLOURS["purple"], marker="_", markersize=11, markeredgewidth=1.8, linestyle="none",
            label="isotropic maps, published 97.5 %",
        )  # fmt: skip
    axes.plot(
        ell, table["power"], color=blue, marker="o", markeredgecolor="white", markeredgewidth=0.6, linestyle="none",
        label="data",
    )  # fmt: skip
    _log_axis(axes)
    axes.set_ylim(7e-7, 3.0)
    axes.set_ylabel(r"pseudo-power $\tilde C_\ell\,/\,C_1$")


def _ratios(axes: Axes, energies: list[Table]) -> None:
    colours = list(COLOURS.values())
    first = energies[0]
    middle = first["folded_1/2"]
    axes.fill_between(
        first["ell"], first["folded_low_68"] / middle, first["folded_high_68"] / middle, color="0.84", linewidth=0
    )
    axes.axhline(1.0, color=CURVE)
    for index, table in enumerate(energies):
        energy = float(table["energy"][0])
        axes.plot(
            table["ell"], table["power"] / table["folded_1/2"], color=colours[index % len(colours)],
            marker=MARKERS[index], markersize=5.0, linewidth=0.8, linestyle=LINE_STYLES[index % len(LINE_STYLES)],
            label=f"{energy:.3g} TeV" if energy < 1000 else f"{energy / 1000:.2g} PeV",
        )  # fmt: skip
    _log_axis(axes)
    axes.set_ylim(0.08, 40)
    axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.set_title("(d) IceCube, 12 years, nine energies", loc="left")
    axes.set_ylabel(rf"pseudo-power over folded p = {PIVOT}")
    axes.legend(loc="upper center", fontsize=8.5, ncols=3)


def slope(exponent: float) -> float:
    """Return the logarithmic slope of Eq. (77) at large l."""
    power = power_ratio(exponent, 2 * FAR)
    return float(np.log2(power[2 * FAR] / power[FAR]))


def notes(made: dict[str, tuple[Table, float]], twelve: list[PowerSpectrum], context: Context) -> tuple[str, ...]:
    """Return what a reader must know of this figure."""
    found = []
    absent = [f"{name} ({USER_FILES[name]})" for name in USER_FILES if name not in context.user_files]
    if absent:
        found.append(
            "The points of the paper, IceCube at 20 TeV (2013) and HAWC at 2 TeV (2014), are not public in a form "
            "that we have. Files of them can be given in environment variables: " + ", ".join(absent) + "."
        )
    if context.user_files:
        found.append(
            "Squares in (a) and (b) come from files of yours, each over a C_1 found with its own window, with "
            "Eq. (32) where a file gives no noise; the curves belong to the bands of the map."
        )
    low = {key: table["power"] / table["folded_1/2"] for key, (table, _) in made.items()}
    ice = next(table for key, (table, _) in made.items() if key.endswith("-icecube"))
    first = twelve[0].measurement
    inside = [
        np.mean((table["power"] >= table["folded_low_68"]) & (table["power"] <= table["folded_high_68"]))
        for table, _ in made.values()
    ]
    power = ", ".join(f"{made[record.measurement][1]:.1e}" for record in twelve)
    found += [
        "The simulated points of the figure are in the entry of AM15, Fig. 2, which is the same figure.",
        "Panels (a) and (b) are declination bands of the 10 TeV map of HAWC and IceCube, computed from its published "
        "picture, not the spectra of the collaborations; both carry the window of the 5 degree smoothing. Panels (c) "
        "and (d) are the pseudo-powers of twelve years of IceCube, whose declination weight is calibrated on its "
        "isotropic maps. Nothing is divided out of the data: the curves carry window, smoothing, filter and noise.",
        "The paper lays Eq. (77), a prediction for the whole sky, over powers of cut skies that are rescaled. The "
        f"thin line is Eq. (77) itself: folded, p = 1/2 lies below it by factors of {_factors(ice)} at l = 1, 2, 4, "
        "10 and 20 in panel (b), and slope and teeth differ as well.",
        "One factor rescales each spectrum: the true dipole power C_1 with which p = 1/2 comes nearest to the points "
        "at l = 4 to 20 (gamma distributions with the exact mean and variance, multipoles as if independent: a way to "
        "lay curves over points, not a fit). The other exponents share it, so that all curves have the same true "
        f"dipole. For twelve years of IceCube it is {power}, from 13 TeV up; above 100 TeV it rests on points near "
        "the noise.",
        f"The points at l = 1 of panels (a) and (b) are {low['hawc-icecube-2019-10TeV-hawc'][0]:.1f} and "
        f"{low['hawc-icecube-2019-10TeV-icecube'][0]:.1f} times the folded curve. At 13 TeV all points up to l = 4 are "
        f"{np.min(low[first][:4]):.0f} to {np.max(low[first][:4]):.0f} times as high; at "
        f"130 TeV the one at l = 1 is {low['icecube-2025-130TeV'][0]:.2f} times. The model is one for all scales and "
        "has no mean field: its dipole is a draw of the same ensemble.",
        "Points of one cut sky are correlated: next neighbours from l = 1 on by "
        f"{ice['correlation_next'][0]:.2f}, {ice['correlation_next'][1]:.2f} and {ice['correlation_next'][2]:.2f} in "
        f"panel (b), where l = 1 has {ice['degrees_of_freedom'][0]:.1f} degrees of freedom. The interval of one "
        f"multipole therefore counts for several: it holds {100 * min(inside):.0f} to {100 * max(inside):.0f} percent "
        "of the points of a spectrum.",
        "Energy response: the median energy. The model is the same at all energies, so that their spread changes "
        "nothing here.",
        "The published upper edges of isotropic maps belong to scrambled maps with m = 0, the dotted noise to the "
        "data, which have none.",
    ]
    return tuple(found)


def _factors(table: Table) -> str:
    ratio = table["unfolded_1/2"] / table["folded_1/2"]
    values = [f"{ratio[ell - 1]:.1f}" for ell in (1, 2, 4, 10, 20)]
    return f"{', '.join(values[:-1])} and {values[-1]}"


def make(context: Context) -> FigureEntry:
    fields = {
        field: obsfit.load_spectrum("hawc-icecube-2019-by-field", field=field).select(1, LMAX) for field in PANELS
    }
    twelve = obsfit.load_spectra("icecube-2025")
    own = {name: own_spectrum(file, EVENTS[name]) for name, file in context.user_files.items()}
    made = {record.measurement: numbers(record) for record in (*fields.values(), *twelve, *own.values())}
    bands = {title: made[fields[field].measurement][0] for field, title in PANELS.items()}
    bands["(c) IceCube, 12 years, 13 TeV"] = made[twelve[0].measurement][0]
    draw(
        bands, [made[record.measurement][0] for record in twelve],
        {name: made[record.measurement][0] for name, record in own.items()}, context.directory / "figure15",
    )  # fmt: skip
    sources = tuple(DataSource.of(record.provenance) for record in (fields["hawc"], twelve[0], *own.values()))
    write_table(
        vstack([table for table, _ in made.values()]), context.directory / "figure15.ecsv", data=sources,
        description="Pseudo-power and folded relative diffusion, over the true dipole power of p = 1/2.",
        settings={
            "scaled_to": [SCALED_FROM, SCALED_TO], "dipole_power": {key: power for key, (_, power) in made.items()},
        },
    )  # fmt: skip
    ours = {f"p = {name}, C_2/C_1": float(power_ratio(p, 2)[2]) for name, p in EXPONENTS.items()}
    ours |= {f"p = {name}, C_10/C_1": float(power_ratio(p, 10)[10]) for name, p in EXPONENTS.items()}
    ours |= {f"p = {name}, slope at large l": slope(p) for name, p in EXPONENTS.items()}
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "needs file" if set(USER_FILES) - set(own) else "reproduced",
        caption="Pseudo-power over the true dipole power of the model, for (a) the HAWC band and (b) the IceCube band "
        "of the 10 TeV map of HAWC and IceCube and (c) twelve years of IceCube at 13 TeV. Grey lines: relative "
        "diffusion, Eq. (77), for three exponents of the relative scattering rate, folded through the window of each "
        "spectrum, with its noise (dotted). Grey band: exact central 68 percent of skies and noise for p = 1/2, each "
        "multipole by itself. Thin red: Eq. (77) for p = 1/2 as it is, without the window. Purple: upper edge of the "
        "published 95 percent band of isotropic maps. (d) All nine energies of IceCube over the folded p = 1/2 of "
        "their own windows; band as in (c).",
        alt="Four panels on logarithmic axes against multipoles 1 to 30. In (a) the points follow the three folded "
        "curves, which fall from 0.4 to 5e-5, from l = 4 on and lie above them at 1 to 3; the unfolded line is 1.2 "
        "to 2.7 times as high as the middle curve. In (b) and (c) the folded curves "
        "are flat up to l = 3 near 0.03, forty times below the unfolded line at l = 1, then fall to 3e-5 with "
        "teeth. Noise lies at 1e-4 in (a), below 1e-5 in (b) and (c). In (d) the ratios at l = 1 range from 0.2 at "
        "130 TeV to 6 at 13 TeV and come together near 1 from l = 11 on.",
        image="figure15.png", table="figure15.ecsv",
        comparisons=compare(context.expected, "figure15_data", ours),
        deviations=notes(made, twelve, context), data=sources,
    )  # fmt: skip
