"""ASTRA, Fig. 1: measured power spectra, noise levels and the asymptote of the cascade."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.lines import Line2D
from obsfit_models.cascade import asymptotic_ratio

import obsfit
from obsfit.plot.products import write_table
from obsfit.plot.report import DataSource, FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.spectra import draw_points, drawn_power, power_interval, scale_to_data
from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.records import PowerSpectrum

KEY = "astra-figure1"
TITLE = "Measured power spectra, noise and asymptote"
PAPER = "ASTRA"
FIGURE = "Fig. 1"
USER_FILES = {"icecube-2013": "OBSFIT_ICECUBE_2013_SPECTRUM", "hawc-2014": "OBSFIT_HAWC_2014_SPECTRUM"}

LMAX = 30
SCALED_FROM, SCALED_TO = 6, 20
PRINTED_NOISE = {"IceCube": 2.5e-11, "HAWC": 1.8e-10}
EVENTS = {"IceCube": 1.5e11, "HAWC": 4.6e10}
SKY_FRACTION = {"IceCube": 0.3, "HAWC": 0.7}


def noise_level(name: str) -> float:
    """Return the shot noise of a spectrum that was divided by the sky fraction, 4 pi f_sky / N."""
    return 4 * np.pi * SKY_FRACTION[name] / EVENTS[name]


def numbers(spectrum: PowerSpectrum, dipole_power: float) -> Table:
    """Return one row per multipole: points with intervals, noise of the map and the scaled asymptote."""
    power = drawn_power(spectrum)
    low, high = power_interval(power, spectrum.degrees_of_freedom)
    return Table(
        {
            "ell": spectrum.ell,
            "hawc_icecube": power,
            "hawc_icecube_low": low,
            "hawc_icecube_high": high,
            "noise": spectrum.noise,
            "asymptote": dipole_power * asymptotic_ratio(LMAX)[spectrum.ell],
        }
    )


def draw(table: Table, spectrum: PowerSpectrum, own: dict[str, PowerSpectrum], stem: Path) -> None:
    """Draw points, asymptote and noise levels."""
    with styled():
        figure = new_figure(7.2, 5.6)
        axes = figure.subplots()
        draw_points(axes, spectrum, label="HAWC + IceCube, all sky, 10 TeV", color=COLOURS["grey"], marker="s",
                    markersize=4.5)  # fmt: skip
        for index, (name, record) in enumerate(own.items()):
            kind = "" if record.kind == "full-sky" else ", pseudo-power"
            colour, marker = (("vermilion", "o"), ("blue", "^"))[index]
            draw_points(axes, record, label=name + kind, color=COLOURS[colour], marker=marker,
                        shift=0.15 * (2 * index - 1))  # fmt: skip
        axes.plot(table["ell"], table["asymptote"], color="black", linestyle="--", label="asymptote, Eq. (4)")
        right = LMAX + 0.7
        for level, colour, text, above in (
            (PRINTED_NOISE["IceCube"], "vermilion", "noise IceCube 2.5 × 10⁻¹¹ (printed)", True),
            (PRINTED_NOISE["HAWC"], "blue", "noise HAWC 1.8 × 10⁻¹⁰ (printed)", False),
            (noise_level("HAWC"), "purple", "noise HAWC 1.9 × 10⁻¹⁰ (from 4.6 × 10¹⁰ events)", True),
        ):
            axes.axhline(level, color=COLOURS[colour], linestyle=":", linewidth=1.3)
            axes.annotate(
                text, (0.6, level), xytext=(0, 3 if above else -4), textcoords="offset points", color=COLOURS[colour],
                fontsize=8.5, va="bottom" if above else "top",
            )  # fmt: skip
        axes.set(yscale="log", xlim=(0.3, right), ylim=(1e-11, 4e-5), xticks=[1, *range(5, LMAX + 1, 5)])
        axes.set_xlabel(r"multipole $\ell$")
        axes.set_ylabel(r"power $C_\ell$")
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: isinstance(handles[i], Line2D))
        axes.legend([handles[i] for i in order], [labels[i] for i in order], loc="upper right")
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    spectrum = obsfit.load_spectrum("hawc-icecube-2019").select(1, LMAX)
    own = {name: obsfit.load_spectrum(path).select(1, LMAX) for name, path in context.user_files.items()}
    sources = tuple(DataSource.of(record.provenance) for record in (spectrum, *own.values()))
    asymptote = asymptotic_ratio(300)
    dipole_power = scale_to_data(asymptote, spectrum, SCALED_FROM, SCALED_TO)
    table = numbers(spectrum, dipole_power)
    draw(table, spectrum, own, context.directory / "figure1")
    write_table(
        table, context.directory / "figure1.ecsv", data=sources, description="Curve and points of Fig. 1 of ASTRA.",
        settings={"dipole_power": dipole_power, "scaled_to": [SCALED_FROM, SCALED_TO]},
    )  # fmt: skip
    absent = [f"{name} ({USER_FILES[name]})" for name in USER_FILES if name not in own]
    deviations = [
        "Grey squares are not the paper's points: they are the power of the all-sky map of HAWC and IceCube at 10 TeV, "
        "computed from the published picture of the map, with the window of its 5 degree smoothing divided out, the "
        "missing m = 0 power made up for and noise not subtracted. The curve is a prediction for the whole sky and "
        "lies over these points only; it is scaled to them at l = 6 to 20 with their noise added.",
        "The noise levels belong to spectra that were divided by the sky fraction. The printed 1.8e-10 of HAWC does "
        "not follow from the printed 4.6e10 events, which give 1.9e-10; 4.9e10 events, the number "
        "in AM17, would give it.",
    ]
    if absent:
        deviations.insert(
            0,
            "The IceCube (2013) and HAWC (2014) points of the paper are not public in a form that we have. Files of "
            f"them can be given in environment variables: {', '.join(absent)}.",
        )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "needs file" if absent else "reproduced",
        caption="Power spectra of relative intensity and the asymptote of the hierarchical cascade (dashed). Points: "
        "total power, noise included, with 68 percent intervals of the power of an isotropic Gaussian sky from the "
        "chi-square distribution with 2 l degrees of freedom (the map has no m = 0 power); multipoles are taken as "
        "independent. Dotted lines: shot noise of the two experiments as printed, and of HAWC as computed anew.",
        alt="Power on a logarithmic axis against multipoles 1 to 30. The points fall from 3e-6 at l = 1 to 1e-9 at "
        "l = 10 and level off at a few 1e-10, near the noise of HAWC. The dashed asymptote falls like the inverse "
        "cube of l, meets the points from l = 5 to 10 and lies below them at l = 1 and 2.",
        image="figure1.png", table="figure1.ecsv",
        comparisons=compare(
            context.expected, "figure1",
            {
                "noise of IceCube": noise_level("IceCube"),
                "noise of HAWC": noise_level("HAWC"),
                "asymptote, C_2/C_1": float(asymptote[2]),
                "asymptote, C_10/C_1": float(asymptote[10]),
                "asymptote, l^3 C_l / C_1 at large l": float(300**3 * asymptote[300]),
            },
            notes={"noise of HAWC": "the printed level corresponds to 4.9e10 events"},
        ),
        deviations=tuple(deviations), data=sources,
    )  # fmt: skip
