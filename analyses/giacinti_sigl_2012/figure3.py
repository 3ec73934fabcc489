"""GS, Fig. 3: a patch of the sky at 10 PV, and the orbits of four particles that arrive there."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from obsfit_models.turbulence.orbits import back_track

from obsfit.plot.orbits import draw_patch, draw_paths, within
from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context, load_program
from obsfit.plot.sky_maps import disc_average
from obsfit.plot.style import new_figure, save, styled

KEY = "gs-figure3"
TITLE = "A patch of the sky, and where its particles come from"
PAPER = "GS"
FIGURE = "Fig. 3"

RIGIDITY_PV = 10
LONGITUDE, LATITUDE = (150.0, 180.0), (0.0, 30.0)
SMOOTHING_DEG = 5.0
ARRIVALS = ((154.0, 5.0), (156.0, 5.0), (163.0, 5.0), (164.0, 5.0))
EXTENTS_PC = (200.0, 20.0, 4.0)
NSIDE = 256
STEP = 0.02
"""Of the drawn orbits, in gyroradii: after 20 pc of path they are off by less than 0.01 pc, after 100 pc by parsecs."""

orbits = load_program(Path(__file__).with_name("_orbits.py"))
maps = load_program(Path(__file__).with_name("_maps.py"))


def patch(context: Context) -> tuple[np.ndarray, float, float, int]:
    """Return the map of the patch averaged over discs, its noise, the radius of the sphere, and the directions."""
    size = orbits.size(context)
    radius = size.largest_pc[RIGIDITY_PV]
    fine = size.patch_nside
    # A margin as wide as the discs that reach beyond the patch.
    lon, lat = hp.pix2ang(fine, np.arange(hp.nside2npix(fine)), nest=True, lonlat=True)
    inside = np.flatnonzero(
        (lon > LONGITUDE[0] - 6) & (lon < LONGITUDE[1] + 6) & (lat > LATITUDE[0] - 5.5) & (lat < LATITUDE[1] + 5.5)
    )
    parts = np.array_split(inside, size.patch_chunks)
    whole = orbits.shown_field(context.seed)

    def task(_: str, chunk: int) -> dict[str, np.ndarray]:
        place, _time = orbits.crossings(whole, RIGIDITY_PV, orbits.arrivals(fine, parts[chunk]), [radius])
        return {"height": place[0, 1]}

    done = orbits.stored(context, "patch", task, size.patch_chunks)
    height = np.concatenate([part["height"] for part in done])
    pixel = hp.nest2ring(NSIDE, inside // (fine // NSIDE) ** 2)
    count = np.bincount(pixel, minlength=hp.nside2npix(NSIDE)).astype(float)
    mean = np.divide(
        np.bincount(pixel, weights=height, minlength=count.size), count, out=np.full(count.size, np.nan),
        where=count > 0,
    )  # fmt: skip
    sky = orbits.sky(context, RIGIDITY_PV)
    centre = hp.pix2ang(NSIDE, np.arange(count.size), lonlat=True)
    level = 1.0 + np.nanmean(sky.whole(radius)) / orbits.GRADIENT_LENGTH_PC
    dipole = sky.dipole(radius) @ orbits.direction(*centre)
    residual = (1.0 + mean / orbits.GRADIENT_LENGTH_PC) / level - 1.0 - dipole
    in_disc = 0.5 * (1.0 - np.cos(np.radians(SMOOTHING_DEG))) * hp.nside2npix(fine)
    noise = float(np.std(height)) / orbits.GRADIENT_LENGTH_PC / np.sqrt(in_disc)
    return disc_average(residual, SMOOTHING_DEG * u.deg), noise, radius, inside.size


def four_orbits(seed: int, longest_pc: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times (n,) and places (4, 3, n) in pc of the orbits of the four directions."""
    r_g = orbits.gyroradius_pc(RIGIDITY_PV)
    # Points dense enough for the smallest picture and few enough for the largest.
    times = np.concatenate([np.linspace(0.0, 30.0, 1501), np.arange(30.5, longest_pc / r_g, 0.5)])
    arrival = orbits.direction(*np.array(ARRIVALS).T)
    found = back_track(
        orbits.felt(orbits.shown_field(seed), RIGIDITY_PV), arrival, times, gyroradius=r_g, step=STEP
    )
    return times * r_g, found.position.transpose(2, 1, 0) * r_g


def apart(paths: np.ndarray, times: np.ndarray, first: int, second: int, distance_pc: float) -> float:
    """Return the first time, in pc / c, at which two orbits are farther from each other than a distance."""
    far = np.flatnonzero(np.linalg.norm(paths[first] - paths[second], axis=0) > distance_pc)
    return float(times[far[0]]) if far.size else float("nan")


def draw(values: np.ndarray, paths: np.ndarray, stem: Path) -> None:
    """Draw the patch and the orbits within three spheres."""
    with styled():
        figure = new_figure(8.4, 8.2)
        axes = figure.subplots(2, 2)
        lon, lat = hp.pix2ang(NSIDE, np.arange(values.size), lonlat=True)
        inside = (lon > LONGITUDE[0]) & (lon < LONGITUDE[1]) & (lat > LATITUDE[0]) & (lat < LATITUDE[1])
        limit = maps.round_limit(values[inside])
        image = draw_patch(
            axes[0, 0],
            100.0 * values,
            longitude=LONGITUDE,
            latitude=LATITUDE,
            limits=(-limit, limit),
            marks=ARRIVALS,
        )
        bar = figure.colorbar(image, ax=axes[0, 0], orientation="horizontal", shrink=0.9, pad=0.02)
        bar.set_label("relative intensity, dipole removed [%]", fontsize=10)
        labels = [f"l = {lon:.0f}°, b = {lat:.0f}°" for lon, lat in ARRIVALS]
        for axis, extent in zip(axes.flat[1:], EXTENTS_PC, strict=True):
            draw_paths(
                axis, list(paths), extent=extent, labels=labels, linewidth=1.0 if extent > 100 else 1.5,
                names=("X [pc]", "Y − 8500 [pc]"),
            )  # fmt: skip
            axis.set_title(f"within {extent:g} pc", fontsize=11)
        handles, names = axes[0, 1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    values, noise, radius, number = patch(context)
    times, paths = four_orbits(context.seed, 12_000.0)
    draw(values, paths, context.directory / "figure3")
    at = hp.ang2pix(NSIDE, *np.array(ARRIVALS).T, lonlat=True)
    table = Table(
        {
            "longitude": [lon for lon, _ in ARRIVALS] * u.deg,
            "latitude": [lat for _, lat in ARRIVALS] * u.deg,
            "residual": values[at],
        }
    )
    for extent in EXTENTS_PC:
        ends = [within(path, extent) for path in paths]
        table[f"time_within_{extent:g}pc"] = [times[end.shape[1] - 1] for end in ends] * u.pc
        table[f"y_at_{extent:g}pc"] = [end[1, -1] for end in ends] * u.pc
    for name in table.colnames[2:]:
        table[name].info.format = ".4g"
    write_table(
        table, context.directory / "figure3.ecsv",
        description="Intensity from each of the four directions, and when and at which Y - 8.5 kpc the orbit leaves "
        "spheres about the Earth",
        settings={"seed": context.seed, "step_gyroradii": STEP},
    )  # fmt: skip
    lam = float(orbits.realisations(context, RIGIDITY_PV).mean_free_path_pc[:, -1].mean())
    pairs = [apart(paths, times, *pair, 0.5 * lam) for pair in ((0, 1), (2, 3))]
    far = apart(paths, times, 0, 3, 0.5 * lam)
    signs = ", ".join(f"{100 * value:+.1f}" for value in values[at])
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption="Top left: relative intensity at 10 PV in the patch of longitudes 150 to 180 and latitudes 0 to 30 "
        "degrees, without the mean and the dipole of the whole sky, averaged over discs of 5 degrees radius; gradient "
        f"imposed on the sphere of {radius:g} pc, {number} directions, fluctuations {100 * noise:.2g} percent. "
        "Crosses: arrival directions of four particles. Other panels: their orbits, seen backwards from the Earth at "
        "the centre, projected on the Galactic plane, as far as they first leave spheres of 200, 20 and 4 pc. Y grows "
        "away from the Galactic centre, along the gradient.",
        alt="A square patch of sky with an excess and a deficit and four crosses at latitude 5, and three pictures "
        "of four winding lines that begin at one point. Within 4 parsec the two lines of each pair nearly lie on each "
        "other; farther out they part, and within 200 parsec all four wander independently.",
        image="figure3.png", table="figure3.ecsv",
        comparisons=compare(context.expected, "figure3", {"trajectories drawn": len(ARRIVALS)}),
        deviations=(
            "The directions are those of the paper, the field is not: in its field two directions lie in an excess "
            f"and two in a deficit. Here the intensities are {signs} percent.",
            "In the paper neighbours stay together for about a scattering length. Here it is "
            f"{lam:.1f} pc, and the orbits one and two are half of it apart {pairs[0]:.0f} pc / c before they arrive, "
            f"three and four {pairs[1]:.0f} pc / c, one and four {far:.0f} pc / c.",
            f"Orbits of the map have steps of {2.5 / (2 * np.pi * orbits.GYRORADII_IN_INNER_SCALE):.2f} gyroradii, "
            f"those drawn {STEP:g}. Those drawn are exact to 0.01 pc over the first 20 pc of path; beyond about 60 pc "
            "half the step leads elsewhere, and only the character of the motion means anything.",
        ),
        seed=context.seed, size_note="" if context.full else f"{number} directions to {radius:g} pc",
    )  # fmt: skip
