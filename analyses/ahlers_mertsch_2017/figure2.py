"""AM17, Fig. 2 from mock events: small-scale anisotropy in a HAWC-like map, and its significance."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from obsfit_models.relative_diffusion import power_ratio

import obsfit
from obsfit.mock import Acceptance, MockDetector, MockSky, dipole_sky, gaussian_sky, observe
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.sky_maps import Circle, draw_sky_map
from obsfit.plot.style import new_figure, save, styled
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.placed_events import placed_map
from obsfit.reconstruct.significance import SignificanceMap, TopHat, significance_map
from obsfit.records.event_map import HourAngleGrid

KEY = "am17-figure2"
TITLE = "Mock small-scale map of HAWC, and its significance"
PAPER = "AM17"
FIGURE = "Fig. 2"

NSIDE, LMAX_SKY = 64, 40
EXPONENT = 0.5
DIPOLE = 1.0e-3 * np.array([np.cos(0.9), np.sin(0.9), -0.5])
EVENTS = 4.9e10
DISC = 10.0 * u.deg
SUBTRACTED = 3
# Region A as HAWC found it, added to the mock sky.
REGION_A = (60.0 * u.deg, -7.1 * u.deg, 10.0 * u.deg, 5e-4)
HAWC = MockDetector(obsfit.Observatory.named("HAWC"), Acceptance(power=1.0, attenuation=3.0))


def mock_sky(rng: np.random.Generator) -> MockSky:
    """Return a dipole, random multipoles from l = 2 on with the power of Eq. (77) for it, and region A."""
    power = 4.0 * np.pi / 9.0 * float(DIPOLE @ DIPOLE) * power_ratio(EXPONENT, LMAX_SKY)
    power[:2] = 0.0
    ra, dec, radius, excess = REGION_A
    return (dipole_sky(DIPOLE) + gaussian_sky(power, rng=rng)).with_disc(ra, dec, radius=radius, excess=excess)


def small_scales(sky: MockSky, grid: HourAngleGrid, rng: np.random.Generator) -> SignificanceMap:
    """Return the map of mock events in discs, against multipoles up to l = 3 that are fitted to it."""
    found = IterativeLikelihood().reconstruct(observe(sky, HAWC, n_events=EVENTS, grid=grid, rng=rng))
    return significance_map(placed_map(found, NSIDE, rng=rng), smoothing=TopHat.of(DISC), null_lmax=SUBTRACTED)


def disc_events() -> float:
    """Return the events of a disc if all fell evenly on the field of view, as the paper reckons."""
    low, high = (float(np.sin(angle)) for angle in HAWC.observatory.declination_band)
    return EVENTS * float(1.0 - np.cos(DISC)) / (high - low)


def numbers(found: SignificanceMap) -> Table:
    """Return one row per band of 10 degrees: events and error of a disc, root mean square excess, extremes of S."""
    dec = 90.0 - np.degrees(hp.pix2ang(NSIDE, np.arange(found.on.size))[0])
    rows = []
    for low in range(-30, 70, 10):
        inside = np.isfinite(found.significance) & (dec >= low) & (dec < low + 10)
        if inside.any():
            on, excess, s = (values[inside] for values in (found.on, found.relative_excess, found.significance))
            rows.append(
                (low, low + 10, np.median(on), 1.0 / np.sqrt(np.median(on)), np.std(excess), s.min(), s.max())
            )
    names = ("dec_min", "dec_max", "disc_events", "disc_error", "excess_rms", "lowest", "highest")
    table = Table(rows=rows, names=names)
    table["dec_min"].unit = table["dec_max"].unit = u.deg
    for column in names[2:]:
        table[column].info.format = ".5g"
    return table


def draw(found: SignificanceMap, stem: Path) -> None:
    """Draw the intensity above its significance."""
    circle = Circle(*REGION_A[:3], "region A of the mock sky")
    with styled():
        figure = new_figure(7.8, 9.6)
        for place, (title, values, unit, quantity) in enumerate(
            (
                (r"Small scales: $\ell \leq 3$ fitted and removed, discs of 10°", found.relative_excess, 1e-4,
                 "relative intensity"),
                ("Significance", found.significance, "", "standard deviations"),
            ), start=1,
        ):  # fmt: skip
            axes = figure.add_subplot(2, 1, place, projection="mollweide")
            draw_sky_map(axes, values, unit=unit, quantity=quantity, circles=(circle,), shrink=0.7)
            axes.set_title(title, pad=12)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    grid = HourAngleGrid(180, 360) if context.full else HourAngleGrid(96, 240)
    found = small_scales(mock_sky(context.rng), grid, context.rng)
    table = numbers(found)
    draw(found, context.directory / "figure2")
    write_table(
        table, context.directory / "figure2.ecsv",
        description="Discs of 10 degrees of the mock map by declination: events, error, excess and significance",
        settings={"seed": context.seed, "events": EVENTS, "n_dec": grid.n_dec, "n_time": grid.n_time},
    )  # fmt: skip
    low, high = HAWC.observatory.declination_band
    events = disc_events()
    ours = {
        "southern limit of the field of view": float(low.to_value(u.deg)),
        "northern limit of the field of view": float(high.to_value(u.deg)),
        "events of a disc of 10 degrees": events / 1e8,
        "sensitivity, one standard deviation": 1e5 / np.sqrt(events),
    }
    ra, dec, _, excess = REGION_A
    pixel = hp.ang2pix(NSIDE, *(angle.to_value(u.deg) for angle in (ra, dec)), lonlat=True)
    on = found.on[np.isfinite(found.on)]
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption=f"{EVENTS:.1e} mock events from the latitude of HAWC within 45 degrees of the zenith, map by "
        "iterative maximum likelihood, events counted in discs of 10 degrees. Top: relative intensity less one, over "
        "dipole, quadrupole and octupole (m > 0) fitted to the same map. Bottom: its significance at each place, Li "
        "and Ma's with the rest of the rings as off region, divided by the root of the variance that the fit leaves; "
        "no trials. The mock sky is a dipole, a Gaussian sky with the power of Eq. (77), p = 1/2, and a disc of "
        f"{1e4 * excess:.0f}e-4 where HAWC has region A (circle).",
        alt="Two sky maps between declinations -26 and 64 degrees with the same pattern of spots of 10 to 30 degrees, "
        f"up to {1e4 * np.nanmax(np.abs(found.relative_excess)):.0f}e-4 in intensity and "
        f"{np.nanmax(found.significance):.0f} standard deviations in significance. "
        "A circle marks the disc that was added at right ascension 60 degrees.",
        image="figure2.png", table="figure2.ecsv", comparisons=compare(context.expected, "figure2", ours),
        deviations=(
            "The measured map is not public; regions B and C are left to chance in the mock sky.",
            "The paper spreads the events evenly over the field of view. With an acceptance that falls with the zenith "
            f"angle a disc has {on.min():.1e} to {on.max():.1e} events.",
            f"At the centre of region A the intensity is {1e4 * found.relative_excess[pixel]:.1f}e-4 of the added "
            f"{1e4 * excess:.0f}e-4, with {found.significance[pixel]:.1f} standard deviations: ring means, the fit of "
            "l <= 3 and the rest of the sky take from it or add to it.",
            "Events of a cell are placed at random inside it, since an event map keeps no directions.",
        ),
        seed=context.seed, size_note="" if context.full else f"{grid.n_dec} x {grid.n_time} cells",
    )  # fmt: skip
