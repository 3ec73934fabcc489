"""The 10 TeV map of HAWC and IceCube: dipole by truncation, power before and after subtraction, significance."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table, vstack
from matplotlib.axes import Axes

from obsfit.ingest.catalogue import load_sheet, load_table
from obsfit.ingest.maps import load_map
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, DataSource, FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.sky_maps import draw_sky_map
from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.provenance import sha256
from obsfit.reconstruct.multipole_subtraction import subtract_multipoles
from obsfit.reconstruct.ring_means import remove_ring_means
from obsfit.records import SkyMap
from obsfit.sky import top_hat_window
from obsfit.sky.ring_means import pixel_sin_dec
from obsfit.spectra import noise_power, pseudo_spectrum

KEY = "sky-10tev"
TITLE = "The 10 TeV map of HAWC and IceCube: dipole, power and significance"
PAPER = "Maps"
FIGURE = ""
USER_FILES = {"map": "OBSFIT_DATA_SOURCES/files/hawc_icecube_2019_relint_digitised_nside64.fits"}

NOISE = "hawc-icecube-2019-noise"
DISC, DISC_STERADIAN = 5.0 * u.deg, 0.02391
# As far as the noise is known and the map not cut at its upper end.
TRUNCATIONS = (1, 2, 3)
SUBTRACTED = 3
LMAX = 30
CLIPPED = 2e-3
# Of labels, so that those of neighbouring fits stand apart.
OFFSETS = {1: (-14, 5), 2: (-2, 9), 3: (8, -12)}
PUBLISHED = {
    "equatorial dipole towards 0h": "hawc-icecube-2019-delta-0h-10TeV",
    "equatorial dipole towards 6h": "hawc-icecube-2019-delta-6h-10TeV",
}


def error_of_discs(nside: int) -> np.ndarray:
    """Return the statistical error of each pixel of the map, whose values are averages over discs of 5 degrees."""
    table = load_table(NOISE)
    known = np.isfinite(np.asarray(table["sigma"], dtype=float))
    middle = 0.5 * (np.asarray(table["dec_min"]) + np.asarray(table["dec_max"]))[known]
    sigma = np.asarray(table["sigma"], dtype=float)[known]
    return np.interp(np.degrees(np.arcsin(pixel_sin_dec(nside))), middle, sigma)


def dipole_table(sky: SkyMap, weight: np.ndarray) -> Table:
    r"""Return the equatorial dipole from least squares fits of multipoles with m > 0 up to l = 1, 2, 3.

    With weights one and with one over the variance of the pixels. The errors are those of independent discs, and do
    not know what a fitted exposure adds nor the leakage of multipoles above the truncation.
    """
    rows = []
    for kind, w in (("one", np.ones(weight.size)), ("inverse variance", weight)):
        for lmax in TRUNCATIONS:
            fit = subtract_multipoles(sky, lmax, weight=w)
            a11 = fit.alm[(fit.ell == 1) & (fit.m == 1)][0]
            factor = np.sqrt(1.5 / np.pi)
            east, north = -factor * a11.real, factor * a11.imag
            rows.append(
                (kind, lmax, east, north, np.hypot(east, north), np.degrees(np.arctan2(north, east)) % 360.0)
            )
    table = Table(
        rows=rows,
        names=("weight", "lmax", "delta_0h", "delta_6h", "amplitude", "phase"),
        units=(None, None, None, None, None, u.deg),
    )
    for column in table.colnames[2:]:
        table[column].info.format = ".5g"
    return table


def spectra(sky: SkyMap, rest: SkyMap, error: np.ndarray) -> Table:
    """Return pseudo-powers before and after the subtraction, and the noise of the map with its smoothing."""
    weight = np.isfinite(sky.delta_i).astype(float)
    pixel = DISC_STERADIAN * error**2 / hp.nside2pixarea(sky.nside)
    window = top_hat_window(DISC, LMAX)[1:] ** 2
    energy = 10.0 * u.TeV
    table = Table({"ell": np.arange(1, LMAX + 1)})
    table["power"] = pseudo_spectrum(sky, energy=energy, lmax=LMAX).c_ell
    table["power_subtracted"] = pseudo_spectrum(rest, energy=energy, lmax=LMAX).c_ell
    table["noise"] = noise_power(weight, pixel, LMAX, filtered=True)[1:] * window
    table["window_power"] = window
    for column in table.colnames[1:]:
        table[column].info.format = ".6g"
    return table


def draw(sky: SkyMap, rest: SkyMap, error: np.ndarray, dipoles: Table, power: Table, stem: Path) -> None:
    """Draw intensity and significance, before and after the subtraction, the dipoles and the power."""
    with styled():
        figure = new_figure(11.0, 10.4)
        grid = figure.add_gridspec(3, 2, height_ratios=(1.0, 1.0, 1.05))
        panels = (
            ("Relative intensity", sky.delta_i, 1e-3, "relative intensity", 1.5),
            (r"without $\ell \leq 3$", rest.delta_i, 1e-4, "relative intensity", 5.0),
            ("Significance against isotropy", sky.delta_i / error, "", "standard deviations", 30.0),
            (r"Significance against $\ell \leq 3$", rest.delta_i / error, "", "standard deviations", 10.0),
        )
        for place, (title, values, unit, quantity, limit) in enumerate(panels):
            axes = figure.add_subplot(grid[place // 2, place % 2], projection="mollweide")
            draw_sky_map(
                axes,
                values,
                unit=unit,
                quantity=quantity,
                limits=(-limit, limit),
                label_size=8.0,
                shrink=0.75,
                columns=800,
            )
            axes.set_title(title, fontsize=11, pad=10)
        draw_dipoles(figure.add_subplot(grid[2, 0]), dipoles)
        draw_power(figure.add_subplot(grid[2, 1]), power)
        save(figure, stem)


def draw_dipoles(axes: Axes, dipoles: Table) -> None:
    """Draw the dipoles of the fits and the published one."""
    rows = {str(row["measurement"]): row for row in load_table("anisotropy-headlines")}
    east, north = (rows[key] for key in PUBLISHED.values())
    axes.errorbar(
        1e4 * float(east["value"]), 1e4 * float(north["value"]), xerr=1e4 * float(east["error_minus"]),
        yerr=1e4 * float(north["error_minus"]), color="k", marker="*", markersize=13, linestyle="none",
        label="published, 2019",
    )  # fmt: skip
    for kind, colour, marker in (("one", COLOURS["blue"], "o"), ("inverse variance", COLOURS["vermilion"], "s")):
        chosen = dipoles[dipoles["weight"] == kind]
        axes.plot(
            1e4 * chosen["delta_0h"], 1e4 * chosen["delta_6h"], color=colour, marker=marker, linewidth=0.8,
            label=f"weight: {kind}",
        )  # fmt: skip
        for row in chosen:
            axes.annotate(
                f"{row['lmax']}", (1e4 * row["delta_0h"], 1e4 * row["delta_6h"]), OFFSETS[int(row["lmax"])],
                textcoords="offset points", fontsize=10, color=colour,
            )  # fmt: skip
    axes.invert_xaxis()
    axes.margins(0.18)
    axes.set_xlabel(r"$\delta_{0h}$ [$10^{-4}$]")
    axes.set_ylabel(r"$\delta_{6h}$ [$10^{-4}$]")
    axes.set_title(r"Equatorial dipole by fits of $\ell \leq$ number", fontsize=11)
    axes.legend(fontsize=9)


def draw_power(axes: Axes, power: Table) -> None:
    """Draw the pseudo-powers and the noise."""
    ell = power["ell"]
    axes.plot(ell, power["power"], color=COLOURS["blue"], marker="o", linestyle="none", label="as it is")
    above = ell > SUBTRACTED
    axes.plot(
        ell[above], power["power_subtracted"][above], color=COLOURS["vermilion"], marker="D", markersize=4.5,
        linestyle="none", label=r"without $\ell \leq 3$",
    )  # fmt: skip
    axes.plot(ell, power["noise"], color="k", linestyle=":", label="noise")
    axes.set(yscale="log", xlim=(0.3, LMAX + 0.7), xticks=[1, *range(5, LMAX + 1, 5)])
    axes.set_xlabel(r"multipole $\ell$")
    axes.set_ylabel(r"pseudo-power $\tilde C_\ell$")
    axes.set_title("Power of the whole map", fontsize=11)
    axes.legend(fontsize=9)


def comparisons(dipoles: Table) -> tuple[Comparison, ...]:
    """Return the published components beside the fit of l <= 3 with equal weights."""
    rows = {str(row["measurement"]): row for row in load_table("anisotropy-headlines")}
    last = dipoles[(dipoles["weight"] == "one") & (dipoles["lmax"] == SUBTRACTED)][0]
    spread = {column: float(np.ptp(dipoles[column])) / 1e-4 for column in ("delta_0h", "delta_6h")}
    return tuple(
        Comparison(
            quantity, float(rows[key]["value"]) / 1e-4, float(last[column]) / 1e-4, "1e-4",
            note=f"fit of l <= 3 with equal weights; truncations and weights move it by {spread[column]:.2f}e-4",
            tolerance=spread[column],
            source="abstract of arXiv:1812.05682; agreement within what truncation and weights move",
        )
        for (quantity, key), column in zip(PUBLISHED.items(), ("delta_0h", "delta_6h"), strict=True)
    )  # fmt: skip


def make(context: Context) -> FigureEntry:
    path = context.user_files.get("map")
    if path is None:
        return FigureEntry(
            KEY, PAPER, FIGURE, TITLE, "needs file",
            caption="Dipole, power and significance of the 10 TeV map of HAWC and IceCube.", alt="", deviations=(
                "The 10 TeV map of HAWC and IceCube (arXiv:1812.05682) is not part of this repository. Put it where "
                f"{USER_FILES['map']} points: HEALPix nside 64, equatorial, first column relative intensity.",
            ),
        )  # fmt: skip
    source = DataSource("hawc-icecube-2019-map", sha256(path), str(path))
    noise = DataSource(NOISE, load_sheet(NOISE).sha256, f"{NOISE}.ecsv")
    sky = remove_ring_means(load_map(path, column="RELINT"))
    error = error_of_discs(sky.nside)
    weight = np.where(np.isfinite(sky.delta_i), 1.0 / error**2, 0.0)
    dipoles = dipole_table(sky, weight)
    rest = remove_ring_means(subtract_multipoles(sky, SUBTRACTED).residual)
    power = spectra(sky, rest, error)
    draw(sky, rest, error, dipoles, power, context.directory / "sky-10tev")
    write_table(
        vstack([dipoles, power]), context.directory / "sky-10tev.ecsv", data=(source, noise),
        description="First rows: dipole by truncation and weight; then pseudo-power by multipole",
        settings={"subtracted": SUBTRACTED, "lmax": LMAX},
    )  # fmt: skip
    seen = np.isfinite(sky.delta_i)
    found = rest.delta_i / error
    extremes = []
    for name, pixel in (("excess", int(np.nanargmax(found))), ("deficit", int(np.nanargmin(found)))):
        theta, phi = np.degrees(hp.pix2ang(sky.nside, pixel))
        extremes.append(
            f"largest {name} {found[pixel]:.1f} standard deviations at right ascension {phi:.0f}, declination "
            f"{90.0 - theta:.0f} degrees, intensity {1e4 * rest.delta_i[pixel]:.1f}e-4"
        )
    share = 1.0 - np.asarray(power["power_subtracted"] / power["power"])
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="The map of relative intensity at 10 TeV, smoothed over discs of 5 degrees as published, with ring "
        "means removed (top left), without the multipoles l = 1 to 3, m > 0 that a least squares fit with equal "
        "weights finds (top right), and both over the error of a disc against declination (middle; local "
        "significance, no trials). Below left, the equatorial dipole from fits of l <= 1, 2 and 3, with equal weights "
        "and with one over the variance, beside the published one. Below right, the pseudo-power of the whole map, "
        "neither divided by the sky fraction nor freed of the smoothing, before and after the subtraction, and its "
        "noise without m = 0.",
        alt="Four sky maps, a plane of dipoles and a spectrum. The map shows an excess between 30 and 120 degrees of "
        "right ascension and a deficit around 220 degrees; without l up to 3, spots of 10 degrees remain, the "
        "strongest near right ascension 60 and declination -10. With equal weights all three dipoles lie on "
        "the published one; with weights that follow the variance, most of which IceCube's part has, they are off by "
        "up to 1.6e-4 and come nearer with larger truncation. Power falls from 2e-6 at l = 1 to 5e-11 at l = 30, and "
        "the subtraction hardly changes it above l = 3.",
        image="sky-10tev.png", table="sky-10tev.ecsv", comparisons=comparisons(dipoles),
        deviations=(
            f"{100 * seen.mean():.1f} percent of the sky is seen. The map was read off a picture: "
            f"{int(np.sum(np.abs(load_map(path, column='RELINT').delta_i) >= 0.999 * CLIPPED))} pixels are clipped at "
            f"{1e3 * CLIPPED:g}e-3, and reading errors are not in the noise.",
            "Without low multipoles: " + "; ".join(extremes) + ".",
            "The subtraction takes away "
            + ", ".join(f"{100 * share[ell - 1]:.0f}" for ell in (4, 6, 10, 20))
            + " percent of the pseudo-power at l = 4, 6, 10 and 20.",
            "The error against declination is that of events alone. A dipole of a converged map has a larger one, "
            "because the exposure is fitted to the same events, and a systematic one of the truncation, which is what "
            "the plane of dipoles shows. Errors of the published values are statistical.",
        ),
        data=(source, noise),
    )  # fmt: skip
