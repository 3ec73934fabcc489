"""A14, Fig. 1: the hierarchical cascade at two times and its asymptote, over a measured power spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.lines import Line2D
from obsfit_models.cascade import asymptotic_ratio, cascade_power

import obsfit
from obsfit.plot.products import write_table
from obsfit.plot.report import DataSource, FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.spectra import draw_points, drawn_power, power_interval, scale_to_data
from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.records import PowerSpectrum

KEY = "a14-figure1"
TITLE = "Power spectrum of the hierarchical cascade"
PAPER = "A14"
FIGURE = "Fig. 1"
USER_FILES = {"icecube-2013": "OBSFIT_ICECUBE_2013_SPECTRUM"}

LMAX = 20
SCALED_FROM = 6
CURVES = (
    ("asymptote", "asymptote, Eq. (21)", {"color": COLOURS["black"], "linestyle": "-"}),
    ("nu T = 1", r"$\nu T = 1$", {"color": COLOURS["green"], "linestyle": "--"}),
    ("nu T = 0.1", r"$\nu T = 0.1$", {"color": COLOURS["blue"], "linestyle": ":"}),
)


def ratios() -> dict[str, np.ndarray]:
    """Return C_l / C_1 of the three curves, each of shape (LMAX + 1,)."""
    late, early = cascade_power(1.0, LMAX), cascade_power(0.1, LMAX)
    return {"asymptote": asymptotic_ratio(LMAX), "nu T = 1": late / late[1], "nu T = 0.1": early / early[1]}


def numbers(curves: dict[str, np.ndarray], dipole_power: float, spectrum: PowerSpectrum) -> Table:
    """Return one row per multipole: ratios, scaled curves and the data as drawn."""
    ell = np.arange(1, LMAX + 1)
    power = drawn_power(spectrum)
    low, high = power_interval(power, spectrum.degrees_of_freedom)
    columns = {"ell": ell}
    for name, values in curves.items():
        label = name.replace("nu T = ", "nu_t_").replace(".", "_")
        columns[f"ratio_{label}"] = values[1:]
        columns[f"c_ell_{label}"] = dipole_power * values[1:]
    columns |= {"hawc_icecube": power, "hawc_icecube_low": low, "hawc_icecube_high": high, "noise": spectrum.noise}
    return Table(columns)


def draw(table: Table, spectrum: PowerSpectrum, own: PowerSpectrum | None, stem: Path) -> None:
    """Draw curves and points."""
    with styled():
        figure = new_figure(7.0, 5.2)
        axes = figure.subplots()
        draw_points(axes, spectrum, label="HAWC + IceCube, all sky, 10 TeV", color=COLOURS["grey"], marker="s",
                    markersize=4.5, shift=0.12 if own is not None else 0.0)  # fmt: skip
        axes.plot(
            spectrum.ell,
            spectrum.noise,
            color=COLOURS["grey"],
            linestyle=(0, (1, 3)),
            label="noise of HAWC + IceCube",
        )
        if own is not None:
            kind = "" if own.kind == "full-sky" else ", pseudo-power"
            draw_points(
                axes, own, label=own.measurement + kind, color=COLOURS["vermilion"], marker="o", shift=-0.12
            )
            if np.all(np.isfinite(own.isotropic_high)):
                axes.plot(
                    own.ell, own.isotropic_high, color="0.5", marker="x", linestyle="none", label="scrambled"
                )
        for name, label, style in CURVES:
            column = "c_ell_" + name.replace("nu T = ", "nu_t_").replace(".", "_")
            axes.plot(table["ell"], table[column], label=label, **style)
        axes.set(yscale="log", xlim=(0.4, LMAX + 0.6), ylim=(1e-11, 4e-5), xticks=[1, *range(2, LMAX + 1, 2)])
        axes.set_xlabel(r"multipole $\ell$")
        axes.set_ylabel(r"power $C_\ell$")
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: isinstance(handles[i], Line2D))
        axes.legend([handles[i] for i in order], [labels[i] for i in order], loc="upper right")
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    spectrum = obsfit.load_spectrum("hawc-icecube-2019").select(1, LMAX)
    path = context.user_files.get("icecube-2013")
    own = None if path is None else obsfit.load_spectrum(path).select(1, LMAX)
    sources = tuple(DataSource.of(record.provenance) for record in (spectrum, own) if record is not None)
    curves = ratios()
    dipole_power = scale_to_data(curves["asymptote"], spectrum, SCALED_FROM, LMAX)
    table = numbers(curves, dipole_power, spectrum)
    draw(table, spectrum, own, context.directory / "figure1")
    write_table(
        table, context.directory / "figure1.ecsv", data=sources, description="Curves and points of Fig. 1 of A14.",
        settings={"dipole_power": dipole_power, "scaled_to": [SCALED_FROM, LMAX]},
    )  # fmt: skip
    excess = table["hawc_icecube"] / table["c_ell_asymptote"]
    low_ell = ", ".join(f"{excess[ell - 1]:.1f}" for ell in (2, 3, 4))
    deviations = [
        "The IceCube points at 20 TeV (2013) and the scrambled data are not public in a form that we have. A file of "
        f"them can be given in the environment variable {USER_FILES['icecube-2013']} (columns ell and c_ell; "
        "isotropic_high for the scrambled data)."
        if own is None
        else "The IceCube points come from a file of the user's, and are drawn as they stand in it.",
        "Grey squares are another measurement: the power of the all-sky map of HAWC and IceCube at 10 TeV, computed "
        "from the published picture of the map, with the window of its 5 degree smoothing divided out and "
        "the missing m = 0 power made up for. The curves are predictions for the whole sky and lie over these points "
        "only.",
        "The amplitude of the model is free. The asymptote is scaled to the grey points at l = 6 to 20 with their "
        "noise added; the other two curves share its dipole.",
        "Eq. (20) is used with each exponential outside the product, as a solution of Eq. (19) must have it.",
        "The paper finds more power than the asymptote at l = 2 to 4 with IceCube. Here the points are "
        f"{low_ell} times the scaled asymptote at l = 2, 3, 4, and {excess[0]:.1f} times at l = 1.",
    ]
    values = {
        f"{name}, C_{ell}/C_1": float(values[ell]) for name, values in curves.items() for ell in (2, 3, 5, 10)
    }
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "needs file" if own is None else "reproduced",
        caption="Power of the hierarchical cascade that starts from a dipole, at two times and at late times (Eqs. 20 "
        "and 21). Points: total power, noise included, with 68 percent intervals of the power of an isotropic Gaussian "
        "sky from the chi-square distribution with 2 l degrees of freedom (the map has no m = 0 power); multipoles are "
        "taken as independent. Dotted grey: noise of the map.",
        alt="Power on a logarithmic axis against multipoles 1 to 20. Asymptote and the curve at nu T = 1 almost "
        "coincide and fall like the inverse cube of l; the curve at nu T = 0.1 falls much faster. The points follow "
        "the asymptote from l = 5 on and lie above it at l = 1 and 2.",
        image="figure1.png", table="figure1.ecsv",
        comparisons=compare(context.expected, "figure1", values),
        deviations=tuple(deviations), data=sources,
    )  # fmt: skip
