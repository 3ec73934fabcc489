"""AM17, Fig. 4 from mock events: nine years of a Tibet-like array under a sky that does not change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table
from obsfit_models.relative_diffusion import power_ratio

import obsfit
from obsfit.mock import Acceptance, MockDetector, MockSky, dipole_sky, fluctuate, gaussian_sky, observe
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.reconstruct.nulls import NullTest, agreement
from obsfit.records import MapReconstruction, MultipoleReconstruction
from obsfit.records.event_map import HourAngleGrid

KEY = "am17-figure4"
TITLE = "Nine mock years of Tibet: a constant sky"
PAPER = "AM17"
FIGURE = "Fig. 4"

GRID = HourAngleGrid(60, 180)
YEARS, EVENTS = 9, 4.9e10
LMAX_SKY, LMAX_FIT = 30, 2
EXPONENT = 0.5
DIPOLE = 1.2e-3 * np.array([np.cos(0.9), np.sin(0.9), -0.5])
# Cells of the maps: 10 degrees of right ascension and 6 of declination.
JOINED_RA, JOINED_DEC = 5, 2
TIBET = MockDetector(
    obsfit.Observatory.named("Tibet", zenith_max=40.0 * u.deg), Acceptance(power=1.0, attenuation=4.0)
)


def mock_sky(rng: np.random.Generator) -> MockSky:
    """Return a dipole and random multipoles from l = 2 on with the power of Eq. (77) for it."""
    power = 4.0 * np.pi / 9.0 * float(DIPOLE @ DIPOLE) * power_ratio(EXPONENT, LMAX_SKY)
    power[:2] = 0.0
    return dipole_sky(DIPOLE) + gaussian_sky(power, rng=rng)


def nine_years(sky: MockSky, rng: np.random.Generator) -> list[MapReconstruction]:
    """Return the maps of nine sets of Poisson events with the same expectation."""
    expected = observe(sky, TIBET, n_events=EVENTS / YEARS, grid=GRID, asimov=True)
    method = IterativeLikelihood()
    return [method.reconstruct(fluctuate(expected, rng=rng)) for _ in range(YEARS)]


def joined(years: Sequence[MapReconstruction]) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and expected counts of several maps, added and summed over larger cells."""
    sums = []
    for name in ("counts", "expected"):
        total = np.sum([np.nan_to_num(getattr(year, name)) for year in years], axis=0)
        # Cells are centred on multiples of their width: half of the first belongs to the last.
        shifted = np.roll(total, JOINED_RA // 2, axis=1)
        sums.append(shifted.reshape(GRID.n_dec // JOINED_DEC, JOINED_DEC, -1, JOINED_RA).sum(axis=(1, 3)))
    return sums[0], sums[1]


def profile(years: Sequence[MapReconstruction]) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative intensity of all declinations together against right ascension, and its Poisson error."""
    counts, expected = (values.sum(axis=0) for values in joined(years))
    return counts / expected - 1.0, 1.0 / np.sqrt(expected)


def right_ascension() -> np.ndarray:
    """Return the centres of the large cells in degrees."""
    width = 360.0 / GRID.n_time * JOINED_RA
    return width * np.arange(GRID.n_time // JOINED_RA)


def numbers(fits: Sequence[MultipoleReconstruction]) -> Table:
    """Return one row per year: the equatorial dipole of a fit of l <= 2 and its errors, fitted exposure included."""
    factor = np.sqrt(1.5 / np.pi)
    rows = []
    for year, fit in enumerate(fits, start=1):
        place = int(np.flatnonzero((fit.ell == 1) & (fit.m == 1))[0])
        east, north = -factor * fit.alm[place].real, factor * fit.alm[place].imag
        error = factor * np.sqrt(np.diag(fit.covariance))[[place, place + fit.ell.size]]
        rows.append(
            (
                year,
                east,
                north,
                error[0],
                error[1],
                np.hypot(east, north),
                np.degrees(np.arctan2(north, east)) % 360.0,
            )
        )
    names = ("year", "delta_0h", "delta_6h", "error_0h", "error_6h", "amplitude", "phase")
    table = Table(rows=rows, names=names)
    table["phase"].unit = u.deg
    for name in names[1:]:
        table[name].info.format = ".5g"
    return table


def draw(years: Sequence[MapReconstruction], stem: Path) -> None:
    """Draw map and profile of each year, nine times."""
    centres, width = right_ascension(), 360.0 / GRID.n_time * JOINED_RA
    average, _ = profile(years)
    low, high = (angle.to_value(u.deg) for angle in TIBET.observatory.declination_band)
    edges = np.linspace(-90.0, 90.0, GRID.n_dec // JOINED_DEC + 1)
    with styled():
        figure = new_figure(12.0, 10.6)
        axes_of = figure.subplots(6, 3, sharex=True, sharey="row", height_ratios=(1.15, 1.0) * 3)
        for n, year in enumerate(years):
            top, bottom = axes_of[2 * (n // 3), n % 3], axes_of[2 * (n // 3) + 1, n % 3]
            counts, expected = joined([year])
            with np.errstate(invalid="ignore"):
                values = np.where(expected > 0.02 * expected.max(), counts / expected - 1.0, np.nan)
            image = top.pcolormesh(
                np.append(centres, 360.0) - 0.5 * width, edges, 1e3 * values, cmap="RdBu_r", vmin=-3.0, vmax=3.0,
                rasterized=True,
            )  # fmt: skip
            top.set(ylim=(low, high), yticks=(0, 30, 60))
            top.set_title(f"year {n + 1}", fontsize=10, pad=3)
            intensity, error = profile([year])
            bottom.plot(centres, 1e3 * average, color=COLOURS["blue"], linestyle="--", label="all years")
            bottom.errorbar(
                centres, 1e3 * intensity, yerr=1e3 * error, color=COLOURS["vermilion"], marker="+", linestyle="none",
                markersize=5, label="one year",
            )  # fmt: skip
            bottom.set(ylim=(-2.2, 2.2), xlim=(360.0 - 0.5 * width, -0.5 * width), xticks=range(0, 360, 60))
        for axes in axes_of[::2, 0]:
            axes.set_ylabel("declination [°]", fontsize=10)
        for axes in axes_of[1::2, 0]:
            axes.set_ylabel(r"$\delta I$ [$10^{-3}$]", fontsize=10)
        for axes in axes_of[-1]:
            axes.set_xlabel("right ascension [°]")
        bar = figure.colorbar(
            image, ax=axes_of, orientation="horizontal", shrink=0.5, aspect=45, pad=0.01, extend="both"
        )
        bar.set_label(r"relative intensity of cells of 10° by 6° [$10^{-3}$]", fontsize=10)
        figure.legend(*axes_of[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    years = nine_years(mock_sky(context.rng), context.rng)
    fits = [fit_multipoles(year, LMAX_FIT) for year in years]
    test: NullTest = agreement(fits)
    table = numbers(fits)
    draw(years, context.directory / "figure4")
    write_table(
        table, context.directory / "figure4.ecsv",
        description="Equatorial dipole of each mock year by a fit of multipoles with m > 0 up to l = 2",
        settings={
            "seed": context.seed, "n_dec": GRID.n_dec, "n_time": GRID.n_time, "chi_square": test.chi_square,
            "degrees_of_freedom": test.degrees_of_freedom, "probability": test.probability,
        },
    )  # fmt: skip
    low, high = TIBET.observatory.declination_band
    ours = {
        "years": float(len(years)),
        "southern limit of the field of view": float(low.to_value(u.deg)),
        "northern limit of the field of view": float(high.to_value(u.deg)),
    }
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption="Nine sets of mock events, 4.9e10 in all, under one constant sky, seen from the latitude of Tibet "
        "within 40 degrees of the zenith and reconstructed year by year by iterative maximum likelihood. Upper row of "
        "each pair: relative intensity in cells of 10 by 6 degrees, one scale. Lower row: the same summed over "
        "declination, with Poisson errors (crosses), beside all nine years together (dashed). Right ascension grows to "
        "the left.",
        alt="Nine pairs of panels that look alike: a band of sky with the same broad excesses and deficits, and below "
        "it a wave of about 1e-3 in right ascension, with the crosses of each year on the dashed average.",
        image="figure4.png", table="figure4.ecsv", comparisons=compare(context.expected, "figure4", ours),
        deviations=(
            "The measured years are not public as maps; how many events each has is not said, here it is a ninth.",
            f"Do the years agree? The multipoles with m > 0 up to l = {LMAX_FIT} of nine years have chi-square "
            f"{test.chi_square:.0f} about their mean for {test.degrees_of_freedom:.0f} degrees of freedom, a chance of "
            f"{test.probability:.2f}; the mock sky does not change, whatever differs is chance.",
            "The error of a component of the dipole is "
            f"{1e4 * float(np.mean(table['error_0h'])):.2f}e-4 in a year, with the exposure fitted to the same events; "
            "crosses in the figure have Poisson errors alone, and the wave that a fitted exposure adds is common to "
            "all crosses of a year.",
        ),
        seed=context.seed,
    )  # fmt: skip
