"""AM17, Fig. 1 from mock events: one sky, the north as Tibet sees it and the south as IceCube does."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from obsfit_models.relative_diffusion import power_ratio

import obsfit
from obsfit.mock import Acceptance, MockDetector, gaussian_alm, harmonic_sky, observe
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.sky_maps import disc_average, draw_sky_map
from obsfit.plot.style import new_figure, save, styled
from obsfit.protocols import dipole_alm
from obsfit.reconstruct.healpix_output import interpolated_map
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.records import MapReconstruction
from obsfit.records.event_map import HourAngleGrid
from obsfit.sky.ring_means import subtract_ring_means

KEY = "am17-figure1"
TITLE = "Mock maps of Tibet and IceCube on one sphere"
PAPER = "AM17"
FIGURE = "Fig. 1"

NSIDE, LMAX_SKY = 64, 40
EXPONENT = 0.5
DIPOLE = 0.8e-3 * np.array([np.cos(0.9), np.sin(0.9), -0.5])
# Events, zenith cut, acceptance, smoothing and unit of each map; the cut of Tibet is that of the caption.
FIELDS = {
    "Tibet": (4.9e10, 40.0 * u.deg, Acceptance(power=1.0, attenuation=4.0), 5.0 * u.deg, 2e-3),
    "IceCube": (3.2e11, 65.0 * u.deg, Acceptance(power=1.0), 10.0 * u.deg, 1e-3),
}


def mock_alm(rng: np.random.Generator) -> np.ndarray:
    """Return a_lm of a dipole and of one Gaussian sky with the power of Eq. (77) for it from l = 2 on."""
    power = 4.0 * np.pi / 9.0 * float(DIPOLE @ DIPOLE) * power_ratio(EXPONENT, LMAX_SKY)
    power[:2] = 0.0
    return gaussian_alm(power, rng=rng) + dipole_alm(DIPOLE, LMAX_SKY)


def observatory(name: str) -> obsfit.Observatory:
    """Return a site with the zenith cut of the caption."""
    return obsfit.Observatory.named(name, zenith_max=FIELDS[name][1])


def reconstructed(alm: np.ndarray, name: str, grid: HourAngleGrid, rng: np.random.Generator) -> MapReconstruction:
    """Return the map of mock events of one observatory by iterative maximum likelihood."""
    n_events, _, acceptance, _, _ = FIELDS[name]
    detector = MockDetector(observatory(name), acceptance)
    return IterativeLikelihood().reconstruct(
        observe(harmonic_sky(alm), detector, n_events=n_events, grid=grid, rng=rng)
    )


def dipole_rows(name: str, found: MapReconstruction) -> list[tuple[object, ...]]:
    """Return the equatorial dipole of a map from fits of multipoles with m > 0 up to l = 1, 2 and 3."""
    rows: list[tuple[object, ...]] = []
    factor = np.sqrt(1.5 / np.pi)
    for lmax in (1, 2, 3):
        try:
            fit = fit_multipoles(found, lmax)
        except obsfit.errors.ObsfitError:
            continue  # the field of view does not tell the multipoles apart
        place = int(np.flatnonzero((fit.ell == 1) & (fit.m == 1))[0])
        error = factor * np.sqrt(np.diag(fit.covariance))[[place, place + fit.ell.size]]
        east, north = -factor * fit.alm[place].real, factor * fit.alm[place].imag
        phase = np.degrees(np.arctan2(north, east)) % 360.0
        rows.append((name, lmax, east, north, error[0], error[1], float(np.hypot(east, north)), phase))
    return rows


def observable(alm: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the true sky without ring means where a map is seen, NaN elsewhere."""
    true = np.where(seen, hp.alm2map(alm, NSIDE, lmax=LMAX_SKY), 0.0)
    return np.where(seen, subtract_ring_means(true, seen), np.nan)


def on_one_sphere(maps: dict[str, np.ndarray]) -> np.ndarray:
    """Return the smoothed maps in their units, side by side: they do not overlap."""
    sphere = np.full(hp.nside2npix(NSIDE), np.nan)
    for name, values in maps.items():
        smooth = disc_average(values, FIELDS[name][3]) / FIELDS[name][4]
        sphere = np.where(np.isfinite(smooth), smooth, sphere)
    return sphere


def draw(maps: dict[str, np.ndarray], truth: dict[str, np.ndarray], stem: Path) -> None:
    """Draw the reconstructed maps above the observable truth."""
    with styled():
        figure = new_figure(7.8, 9.0)
        panels = (
            ("Reconstructed from mock events", maps),
            (r"The same sky, known exactly, $a_{\ell 0} \to 0$", truth),
        )
        for place, (title, shown) in enumerate(panels, start=1):
            axes = figure.add_subplot(2, 1, place, projection="mollweide")
            image = draw_sky_map(axes, on_one_sphere(shown), unit="", limits=(-1.0, 1.0), colour_bar=False)
            axes.set_title(title, pad=12)
        bar = figure.colorbar(
            image, ax=figure.axes, orientation="horizontal", shrink=0.7, aspect=35, pad=0.02, extend="both"
        )
        bar.set_label(
            "relative intensity: north in units of $2 \\times 10^{-3}$ (Tibet-like), south of $10^{-3}$ "
            "(IceCube-like)",
            fontsize=10,
        )
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    grid = HourAngleGrid(180, 360) if context.full else HourAngleGrid(96, 240)
    alm = mock_alm(context.rng)
    found = {name: reconstructed(alm, name, grid, context.rng) for name in FIELDS}
    maps = {name: interpolated_map(one, NSIDE).delta_i for name, one in found.items()}
    truth = {name: observable(alm, np.isfinite(values)) for name, values in maps.items()}
    draw(maps, truth, context.directory / "figure1")
    rows = [row for name, one in found.items() for row in dipole_rows(name, one)]
    columns = ("observatory", "lmax", "delta_0h", "delta_6h", "error_0h", "error_6h", "amplitude", "phase")
    table = Table(rows=rows, names=columns)
    table["phase"].unit = u.deg
    for column in columns[2:]:
        table[column].info.format = ".5g"
    write_table(
        table, context.directory / "figure1.ecsv",
        description="Equatorial dipole of each map by fits of multipoles with m > 0 up to lmax",
        settings={"seed": context.seed, "dipole": DIPOLE.tolist(), "n_dec": grid.n_dec, "n_time": grid.n_time},
    )  # fmt: skip
    ours, notes = {}, []
    for name in FIELDS:
        low, high = observatory(name).declination_band
        ours[f"northern limit of {name}"] = float(high.to_value(u.deg))
        ours[f"southern limit of {name}"] = float(low.to_value(u.deg))
        seen = np.isfinite(maps[name])
        smooth = [disc_average(one[name], FIELDS[name][3])[seen] for one in (maps, truth)]
        chosen = table[table["observatory"] == name]
        dipoles = "; ".join(
            f"l <= {row['lmax']}: {1e3 * row['amplitude']:.2f}e-3 at {row['phase']:.0f} degrees (error of a component "
            f"{1e3 * max(row['error_0h'], row['error_6h']):.3f}e-3)"
            for row in chosen
        )
        notes.append(
            f"{name}-like: correlation of the smoothed map with the observable truth {np.corrcoef(*smooth)[0, 1]:.3f}, "
            f"noise {1e4 * np.std(smooth[0] - smooth[1]):.2f}e-4. Dipole by truncation: {dipoles}. True: "
            f"{1e3 * np.hypot(*DIPOLE[:2]):.2f}e-3 at {np.degrees(np.arctan2(DIPOLE[1], DIPOLE[0])):.0f} degrees; "
            "the differences beyond the errors are leakage of multipoles that are not fitted."
        )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption="Top: two maps from mock events of one sky, each by iterative maximum likelihood on its own: 4.9e10 "
        "events from the latitude of Tibet (30 degrees north) within 40 degrees of the zenith, in units of 2e-3, and "
        "3.2e11 from the South Pole within 65 degrees, in units of 1e-3, as in the paper. The IceCube-like map is "
        "averaged over discs of 10 degrees, the Tibet-like one over discs of 5. Between -25 and -10 degrees and north "
        "of 70 nobody looks. Bottom: the same sky without noise and without the mean of each declination. A dipole of "
        f"{1e3 * np.linalg.norm(DIPOLE):.2g}e-3 and a Gaussian sky with the power of Eq. (77), p = 1/2.",
        alt="Two sky maps that look nearly the same, one from mock events, one exact. Each has a band in the north "
        "and a cap in the south with a grey gap between them; a broad excess and a broad deficit run "
        "through both, with smaller structure in the north than in the smoothed south.",
        image="figure1.png", table="figure1.ecsv", comparisons=compare(context.expected, "figure1", ours),
        deviations=(
            "The measured maps are not public; the sky is a mock one, the same for both energies.",
            "How far Tibet's map is smoothed is not said; 5 degrees are our choice.",
            *notes,
        ),
        seed=context.seed, size_note="" if context.full else f"{grid.n_dec} x {grid.n_time} cells",
    )  # fmt: skip
