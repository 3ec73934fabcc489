"""AM17, Fig. 5: a mock sky, what HAWC sees of it at 09:00 local sidereal time, and what it can reconstruct."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from obsfit_models.relative_diffusion import power_ratio

import obsfit
from obsfit.mock import MockSky, dipole_sky, gaussian_sky
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.sky_maps import Circle, draw_sky_map
from obsfit.plot.style import new_figure, save, styled
from obsfit.sky.ring_means import subtract_ring_means

KEY = "am17-figure5"
TITLE = "A mock sky, and what HAWC can know of it"
PAPER = "AM17"
FIGURE = "Fig. 5"

NSIDE = 64
LMAX = 40
# Amplitude and phase of the equatorial dipole, and its northern part, which no detector on the ground sees.
AMPLITUDE, PHASE, NORTH = 1.2e-3, 45.0 * u.deg, -6e-4
EXPONENT = 0.5
LST = 9.0 * u.hourangle
ZENITH_ANGLES = (30.0 * u.deg, 60.0 * u.deg)


def mock_sky(rng: np.random.Generator) -> MockSky:
    """Return a dipole and, with the power of Eq. (77) for it, random multipoles from l = 2 on."""
    east = AMPLITUDE * np.array([np.cos(PHASE), np.sin(PHASE)])
    dipole = np.array([*east, NORTH])
    power = 4.0 * np.pi / 9.0 * float(dipole @ dipole) * power_ratio(EXPONENT, LMAX)
    power[:2] = 0.0
    return dipole_sky(dipole) + gaussian_sky(power, rng=rng)


def observable(delta_i: np.ndarray, dec_min: u.Quantity, dec_max: u.Quantity) -> np.ndarray:
    """Return a map with mean zero in each ring of a declination band, and NaN elsewhere: a_l0 -> 0."""
    dec = 90.0 - np.degrees(hp.pix2ang(hp.get_nside(delta_i), np.arange(delta_i.size))[0])
    inside = (dec > dec_min.to_value(u.deg)) & (dec < dec_max.to_value(u.deg))
    return np.where(inside, subtract_ring_means(delta_i, inside), np.nan)


def zenith_angle(ra: u.Quantity, dec: u.Quantity, lst: u.Quantity, latitude: u.Quantity) -> np.ndarray:
    """Return the zenith angle in degrees of directions at a local sidereal time."""
    height = np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(lst - ra)
    return np.degrees(np.arccos(np.clip(u.Quantity(height).value, -1.0, 1.0)))


def numbers(true: np.ndarray, seen: np.ndarray, latitude: u.Quantity) -> Table:
    """Return one row per ring of the map: declination, true and reconstructed mean, and scatter of both."""
    nside = hp.get_nside(true)
    start, count, cosine, _, _ = hp.ringinfo(nside, np.arange(1, 4 * nside))
    rows = []
    for first, size, z in zip(start, count, cosine, strict=True):
        ring = slice(first, first + size)
        if np.isfinite(seen[ring]).all():
            rows.append(
                (
                    np.degrees(np.arcsin(z)),
                    true[ring].mean(),
                    seen[ring].mean(),
                    true[ring].std(),
                    seen[ring].std(),
                )
            )
    columns = ("declination", "true_mean", "observable_mean", "true_scatter", "observable_scatter")
    table = Table(rows=rows, names=columns, units=(u.deg, None, None, None, None))
    for name in columns:
        table[name].info.format = ".6g"
    table.meta["latitude_deg"] = float(latitude.to_value(u.deg))
    return table


def draw(true: np.ndarray, seen: np.ndarray, site: obsfit.Observatory, stem: Path) -> None:
    """Draw the sky above what is observable of it; on the right the hemisphere about the zenith at 09:00."""
    circles = [Circle(LST, site.latitude, angle, f"zenith angle {angle.value:.0f}°") for angle in ZENITH_ANGLES]
    ra, dec = sky_grid(true)
    at_nine = zenith_angle(ra, dec, LST, site.latitude) < site.zenith_max.to_value(u.deg)
    limit = float(np.ceil(1e4 * max(np.abs(true).max(), np.nanmax(np.abs(seen)))) / 10.0)
    with styled():
        figure = new_figure(11.0, 7.6)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1.0))
        panels = (
            ("Mock sky", true, None),
            ("the part within 60° of the zenith at 09:00", np.where(at_nine, true, np.nan), (LST, site.latitude)),
            (r"Observable sky: $a_{\ell 0} \to 0$, 24 hours", seen, None),
            ("the same part of it", np.where(at_nine, seen, np.nan), (LST, site.latitude)),
        )
        for place, (title, values, centre) in enumerate(panels):
            where = grid[place // 2, place % 2]
            if centre is None:
                axes = figure.add_subplot(where, projection="mollweide")
                image = draw_sky_map(axes, values, circles=circles, limits=(-limit, limit), colour_bar=False)
            else:
                axes = figure.add_subplot(where)
                image = draw_sky_map(
                    axes, values, circles=circles, limits=(-limit, limit), centre=centre, colour_bar=False
                )
            axes.set_title(title, fontsize=11, pad=12 if centre is None else 4)
        bar = figure.colorbar(image, ax=figure.axes, orientation="horizontal", shrink=0.6, aspect=40, pad=0.02)
        bar.set_label(r"relative intensity $\delta I$ [$10^{-3}$]")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, stem)


def sky_grid(values: np.ndarray) -> tuple[u.Quantity, u.Quantity]:
    """Return right ascension and declination of the pixels of a map."""
    theta, phi = hp.pix2ang(hp.get_nside(values), np.arange(values.size))
    return phi * u.rad, (0.5 * np.pi - theta) * u.rad


def make(context: Context) -> FigureEntry:
    site = obsfit.Observatory.named("HAWC", zenith_max=60 * u.deg)
    low, high = site.declination_band
    sky = mock_sky(context.rng)
    ra, dec = sky_grid(np.empty(hp.nside2npix(NSIDE)))
    true = sky.relative_intensity(ra.to_value(u.rad), dec.to_value(u.rad)) - 1.0
    seen = observable(true, low, high)
    table = numbers(true, seen, site.latitude)
    draw(true, seen, site, context.directory / "figure5")
    write_table(
        table, context.directory / "figure5.ecsv",
        description="Rings of the mock sky: mean and scatter, before and after ring means are removed",
        settings={"seed": context.seed, "nside": NSIDE, "lmax": LMAX, "exponent": EXPONENT},
    )  # fmt: skip
    within = [zenith_angle(ra, dec, LST, site.latitude) < angle.value for angle in ZENITH_ANGLES]
    inside = np.isfinite(seen)
    correlation = float(np.corrcoef(true[inside], seen[inside])[0, 1])
    lost = float(np.std(np.asarray(table["true_mean"])) / 1e-3)
    ours = {
        "meridian at local sidereal time 09:00": LST.to_value(u.deg),
        "southern limit of the time-integrated field of view": low.to_value(u.deg),
        "northern limit of the time-integrated field of view": high.to_value(u.deg),
        "largest mean of an observable ring": float(np.abs(table["observable_mean"]).max()),
    }
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption="Top left, a mock sky: a dipole of "
        f"{1e3 * AMPLITUDE:g}e-3 towards right ascension {PHASE.value:g} degrees with a northern component of "
        f"{1e3 * NORTH:g}e-3, and a Gaussian sky with the power of Eq. (77), p = 1/2, from l = 2 to {LMAX}. The lines "
        "are 30 and 60 degrees from the zenith of HAWC (latitude 19 degrees) at 09:00 local sidereal time; top right, "
        "the part of the sky within 60 degrees, seen from outside the sphere about the zenith. Bottom, what any "
        "method that takes the acceptance from its own data can know after 24 hours: the same sky between -41 and 79 "
        "degrees with the mean of each declination removed. No noise and no smoothing. The colours are one scale.",
        alt="Four maps. The mock sky has a broad excess and a broad deficit on opposite sides, with structure on "
        "smaller scales; two circles about right ascension 135 and declination 19 degrees mark zenith angles 30 "
        "and 60. The observable sky below keeps the pattern in right ascension from -41 to 79 degrees, not the "
        "difference between north and south. On the right the same part of both skies at 09:00, where a structure "
        "of the true sky is weaker or stronger in the observable one.",
        image="figure5.png", table="figure5.ecsv", comparisons=compare(context.expected, "figure5", ours),
        deviations=(
            "The realisation of the paper is not published: ours is another one, with a similar spectrum.",
            f"At 09:00 HAWC sees {100 * within[1].mean():.1f} percent of the sky within 60 degrees of the zenith, "
            f"{100 * within[0].mean():.1f} percent within 30; over 24 hours {100 * inside.mean():.1f} percent.",
            f"The means of rings that are lost scatter by {lost:.2f}e-3 between declinations; inside the band the "
            f"observable sky and the true one have a correlation of {correlation:.2f}.",
        ),
        seed=context.seed,
    )  # fmt: skip
