"""One mock sky, seen by HAWC alone, by IceCube alone and by both together: what the crooked window loses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from obsfit_models.relative_diffusion import power_ratio

import obsfit
from obsfit.mock import Acceptance, MockDetector, gaussian_alm, harmonic_sky, observe
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.sky_maps import disc_average, draw_sky_map
from obsfit.plot.style import COLOURS, MARKERS, new_figure, save, styled
from obsfit.protocols import dipole_alm
from obsfit.reconstruct.healpix_output import interpolated_map
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.records import MapReconstruction
from obsfit.records.event_map import HourAngleGrid
from obsfit.sky.harmonics import dipole_vector
from obsfit.sky.ring_means import subtract_ring_means

KEY = "combined-window"
TITLE = "One sky through the windows of HAWC, of IceCube, and of both"
PAPER = "Maps"
FIGURE = ""

NSIDE, LMAX_SKY = 64, 40
TRUNCATIONS = (1, 2, 3, 5)
EXPONENT = 0.5
DIPOLE = 1.2e-3 * np.array([np.cos(0.9), np.sin(0.9), -0.5])
# Events and acceptance of each; the zenith cut of HAWC is that of the map at 10 TeV, so that the fields overlap.
DETECTORS = {
    "HAWC": (4.9e10, 57.0 * u.deg, Acceptance(power=1.0, attenuation=3.0)),
    "IceCube": (3.2e11, 65.0 * u.deg, Acceptance(power=1.0)),
}
SMOOTHING = 5.0 * u.deg
# Of the peak: at the northern edge of IceCube HAWC has a hundredth of its events for each steradian.
LEAST_EXPOSURE = 0.004
STYLES = {
    "HAWC": (COLOURS["vermilion"], MARKERS[1], (-11, 5)),
    "IceCube": (COLOURS["blue"], MARKERS[0], (6, 4)),
    "HAWC + IceCube": (COLOURS["green"], MARKERS[3], (5, -13)),
}  # fmt: skip


def mock_alm(rng: np.random.Generator) -> np.ndarray:
    """Return a_lm of a dipole and of one Gaussian sky with the power of Eq. (77) of AM17 for it from l = 2 on."""
    power = 4.0 * np.pi / 9.0 * float(DIPOLE @ DIPOLE) * power_ratio(EXPONENT, LMAX_SKY)
    power[:2] = 0.0
    return gaussian_alm(power, rng=rng) + dipole_alm(DIPOLE, LMAX_SKY)


def reconstructed(alm: np.ndarray, grid: HourAngleGrid, rng: np.random.Generator) -> dict[str, MapReconstruction]:
    """Return the maps by iterative maximum likelihood of each detector and of both together."""
    maps = {}
    for name, (n_events, cut, acceptance) in DETECTORS.items():
        detector = MockDetector(obsfit.Observatory.named(name, zenith_max=cut), acceptance)
        maps[name] = observe(harmonic_sky(alm), detector, n_events=n_events, grid=grid, rng=rng)
    method = IterativeLikelihood()
    return {
        **{name: method.reconstruct(events) for name, events in maps.items()},
        " + ".join(maps): method.reconstruct(list(maps.values())),
    }


def dipoles(found: Mapping[str, MapReconstruction]) -> Table:
    """Return the equatorial dipole of each map by fits of l <= L, with its covariance, and the largest condition."""
    rows = []
    for name, one in found.items():
        for lmax in TRUNCATIONS:
            try:
                fit = fit_multipoles(one, lmax)
            except obsfit.errors.ObsfitError:
                rows.append((name, lmax, *[np.nan] * 6))
                continue
            # Component towards 0h and 6h of Re and Im of a_11.
            place = int(np.flatnonzero((fit.ell == 1) & (fit.m == 1))[0])
            factor = np.sqrt(1.5 / np.pi) * np.array([-1.0, 1.0])
            chosen = np.array([place, place + fit.ell.size])
            covariance = fit.covariance[np.ix_(chosen, chosen)] * np.outer(factor, factor)
            value = factor * np.array([fit.alm[place].real, fit.alm[place].imag])
            distance = value - DIPOLE[:2]
            error = np.sqrt(np.diag(covariance))
            correlation = covariance[0, 1] / (error[0] * error[1])
            rows.append((name, lmax, *value, *error, correlation, float(np.hypot(*distance))))
    table = Table(
        rows=rows,
        names=("window", "lmax", "delta_0h", "delta_6h", "error_0h", "error_6h", "correlation", "distance"),
    )
    for column in table.colnames[2:]:
        table[column].info.format = ".5g"
    return table


def observable(alm: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the true sky without ring means where a map is seen, NaN elsewhere."""
    true = hp.alm2map(alm, NSIDE, lmax=LMAX_SKY)
    return np.where(seen, subtract_ring_means(np.where(seen, true, 0.0), seen), np.nan)


def draw(alm: np.ndarray, maps: dict[str, np.ndarray], table: Table, stem: Path) -> None:
    """Draw the true sky, the three maps, what is wrong with the joint one, and dipoles."""
    true = 1.0 * hp.alm2map(alm, NSIDE, lmax=LMAX_SKY)
    joint = list(maps)[-1]
    panels = [
        ("True sky", disc_average(true, SMOOTHING)),
        ("What is left of it without ring means", observable(alm, np.isfinite(maps[joint]))),
        *((f"{name}: reconstructed", values) for name, values in maps.items()),
    ]
    limit = 2.5
    with styled():
        figure = new_figure(11.0, 9.8)
        grid = figure.add_gridspec(3, 2)
        for place, (title, values) in enumerate(panels):
            axes = figure.add_subplot(grid[place // 2, place % 2], projection="mollweide")
            smoothing = None if place == 0 else SMOOTHING
            image = draw_sky_map(
                axes,
                values,
                limits=(-limit, limit),
                smoothing=smoothing,
                colour_bar=False,
                label_size=8.0,
                columns=800,
            )
            axes.set_title(title, fontsize=11, pad=10)
        bar = figure.colorbar(
            image, ax=figure.axes, orientation="horizontal", shrink=0.5, aspect=45, pad=0.015, extend="both"
        )
        bar.set_label(r"relative intensity $\delta I$ [$10^{-3}$], discs of 5°; grey: not observed", fontsize=10)
        draw_dipoles(figure.add_subplot(grid[2, 1]), table)
        save(figure, stem)


def draw_dipoles(axes: Axes, table: Table) -> None:
    """Draw the dipoles of all fits with 95 % ellipses around the true one."""
    axes.plot(*(1e3 * DIPOLE[:2]), color="k", marker="*", markersize=15, linestyle="none", label="true dipole")
    for name, (colour, marker, offset) in STYLES.items():
        rows = table[(table["window"] == name) & np.isfinite(table["delta_0h"])]
        axes.plot(
            1e3 * rows["delta_0h"], 1e3 * rows["delta_6h"], color=colour, marker=marker, linewidth=0.8, label=name
        )
        for row in rows:
            axes.annotate(
                f"{row['lmax']}", 1e3 * np.array([row["delta_0h"], row["delta_6h"]]), offset,
                textcoords="offset points", fontsize=9, color=colour,
            )  # fmt: skip
            off = row["correlation"] * row["error_0h"] * row["error_6h"]
            values, vectors = np.linalg.eigh([[row["error_0h"] ** 2, off], [off, row["error_6h"] ** 2]])
            size = 2e3 * np.sqrt(5.99 * values)
            angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
            axes.add_patch(
                Ellipse(
                    (1e3 * row["delta_0h"], 1e3 * row["delta_6h"]),
                    size[1],
                    size[0],
                    angle=angle,
                    color=colour,
                    alpha=0.18,
                    linewidth=0,
                )
            )
    middle, reach = 1e3 * DIPOLE[:2], 0.5
    axes.set(xlim=(middle[0] + reach * 1.5, middle[0] - reach * 1.5), ylim=(middle[1] - reach, middle[1] + reach))
    axes.set_aspect("equal")
    axes.set_xlabel(r"$\delta_{0h}$ [$10^{-3}$]")
    axes.set_ylabel(r"$\delta_{6h}$ [$10^{-3}$]")
    axes.set_title(r"Dipole by fits of $\ell \leq$ number, 95 %", fontsize=11)
    axes.legend(fontsize=8.5, loc="upper right")


def make(context: Context) -> FigureEntry:
    grid = HourAngleGrid(180, 360) if context.full else HourAngleGrid(90, 180)
    alm = mock_alm(context.rng)
    found = reconstructed(alm, grid, context.rng)
    table = dipoles(found)
    maps = {
        name: interpolated_map(one, NSIDE, minimum_exposure=LEAST_EXPOSURE).delta_i for name, one in found.items()
    }
    draw(alm, maps, table, context.directory / "combined-window")
    write_table(
        table, context.directory / "combined-window.ecsv",
        description="Equatorial dipole of each map by fits of l <= lmax; distance is to the true one",
        settings={
            "seed": context.seed, "n_dec": grid.n_dec, "n_time": grid.n_time, "dipole": DIPOLE.tolist(),
            "true_components_from_alm": dipole_vector(alm).tolist(),
        },
    )  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="One mock sky and what Poisson events of it give: 4.9e10 from the latitude of HAWC within 57 degrees "
        "of the zenith, 3.2e11 from the South Pole within 65, and both together in one likelihood that shares the sky "
        "and gives each its own exposure and acceptance. Top left the true sky, top right what no method can know "
        "better than: the same without the mean of each declination, over the joint field of view. All maps are "
        "averaged over discs of 5 degrees and share one scale. Bottom right: the equatorial dipole that least squares "
        "fits of multipoles with m > 0 up to l = 1, 2, 3 and 5 find in each map, with ellipses of 95 percent from "
        "events and fitted exposure; those of IceCube that are not drawn lie beyond the frame. "
        f"{grid.n_dec} bands of declination, {grid.n_time} bins of sidereal time.",
        alt="Five sky maps and a plane of dipoles. The true sky has a strong excess and a strong deficit; "
        "HAWC alone shows the north and the equator of it, IceCube alone the south, both together nearly all of "
        "it without what depends on declination alone. In the plane the dipoles of IceCube alone are scattered "
        "widely as the truncation changes, those of HAWC less, and those of both "
        "lie close to the true one from l = 2 on.",
        image="combined-window.png", table="combined-window.ecsv", deviations=notes(found, maps, alm, table),
        seed=context.seed, size_note="" if context.full else f"{grid.n_dec} x {grid.n_time} cells",
    )  # fmt: skip


def notes(
    found: Mapping[str, MapReconstruction], maps: Mapping[str, np.ndarray], alm: np.ndarray, table: Table
) -> tuple[str, ...]:
    """Return what each window loses, in numbers."""
    true = hp.alm2map(alm, NSIDE, lmax=LMAX_SKY)
    texts = []
    for name, values in maps.items():
        seen = np.isfinite(values)
        error = disc_average(values - observable(alm, seen), SMOOTHING)[seen]
        left = np.nanvar(observable(alm, seen)) / np.mean(true[seen] ** 2)
        rows = table[table["window"] == name]
        fits = ", ".join(
            f"{1e3 * float(row['distance']):.3f}e-3 (error {1e3 * np.hypot(row['error_0h'], row['error_6h']):.3f}e-3)"
            if np.isfinite(row["distance"])
            else "refused, the multipoles cannot be told apart"
            for row in rows
        )
        texts.append(
            f"{name}: {100 * np.mean(seen):.0f} percent of the sky, {found[name].iterations} passes; of the mean "
            f"square of the true sky there, {100 * left:.0f} percent "
            f"are left without ring means; error of the smoothed map {1e3 * np.std(error):.3f}e-3. Distance of the "
            f"dipole from the truth for l <= {', '.join(str(lmax) for lmax in TRUNCATIONS)}: {fits}."
        )
    return (
        *texts,
        "With a truncation that is too low, multipoles that are not fitted leak into the dipole, which no error bar "
        "shows; with one that is too high the window cannot tell multipoles apart and the error grows. Two windows "
        "together allow a higher truncation than either alone.",
        "The component along the axis of the Earth is lost in all three.",
    )
