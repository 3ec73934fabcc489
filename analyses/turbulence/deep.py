"""The library of skies of designed fields, from gyroradii of 1 down to 1e-5: shapes, and where two designs overlap."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from matplotlib.axes import Axes
from numpy.typing import NDArray
from obsfit_models.turbulence.design_library import DesignLibrary, StationarySkies, stationary_skies
from obsfit_models.turbulence.directions import fitted_alm, gram_matrix, jittered_directions
from obsfit_models.turbulence.displacement import map_sums
from obsfit_models.turbulence.orbits import back_track
from obsfit_models.turbulence.simulated import SimulatedTurbulence
from obsfit_models.turbulence.sky_design import (
    DesignSettings,
    design_field,
    design_identity,
    design_points,
    expected_path,
    run_design,
)
from obsfit_models.turbulence.sky_spectra import field_average, pair_power, power_ratio, same_power
from scipy.stats import chi2

from obsfit.configuration import read_settings
from obsfit.execute import child_generator, run_tasks
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, LINE_STYLES, MARKERS, new_figure, save, styled

KEY = "turbulence-library"
TITLE = "The library of skies of designed turbulent fields, from gyroradii of 1 down to 1e-5"
PAPER = "Turbulence"
FIGURE = "Library"

FloatArray = NDArray[np.float64]
HERE = Path(__file__).parent
DESIGNS = ("design", "design_deep")
PUBLISHED = HERE / "deep_full.ecsv"
LMAX = 8
SHOWN = (2, 3, 4, 5, 6, 8)
TESTED = (2, 3, 4, 5)
"""Multipoles at which the two designs are compared: above, the deep one has too few fields."""
BAND_FIELDS = 128
"""Fields of the deep design that are followed as the wide one is, where both have skies: 4 s each."""
COLOUR = {2: "black", 3: "blue", 4: "green", 5: "orange", 6: "vermilion", 8: "purple"}


def design_settings(name: str) -> DesignSettings:
    """Return the settings of a design whose TOML file lies beside this program."""
    raw = tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))
    del raw["schema"], raw["model"]
    return read_settings(raw, DesignSettings)


def common_ranges(first: DesignSettings, second: DesignSettings) -> FloatArray:
    """Return the ranges of turbulent share and index that two designs have in common, shape (2, 2): low and high."""
    ranges = np.array([[one.turbulent_share, one.energy_index] for one in (first, second)])
    return np.stack([ranges[:, :, 0].max(axis=0), ranges[:, :, 1].min(axis=0)])


def inside(point: FloatArray, ranges: FloatArray) -> NDArray[np.bool_]:
    """Return which fields (n, 2) have a turbulent share and an index in ranges (2, 2)."""
    return np.asarray(np.all((point >= ranges[0]) & (point <= ranges[1]), axis=1))


def sky_power(skies: StationarySkies) -> FloatArray:
    """Return C_l between sets of directions, summed over gradients along x, y and z, (n_field, n_band, lmax + 1)."""
    return np.asarray(pair_power(skies.alm, axis=2).sum(axis=2))


def library_power(library: DesignLibrary, unit: FloatArray) -> FloatArray:
    """Return the same of a library whose noise was taken out, in units (n_field, n_band)."""
    scaled = library.alm / unit[:, :, None, None]
    return np.asarray(same_power(scaled[:, :, None], axis=2).sum(axis=2))


def numbers(name: str, radii: FloatArray, power: FloatArray, early: FloatArray, path: FloatArray) -> Table:
    """Return one row for each band: power over that of the dipole, at the end and at the first time, and transport.

    Parameters
    ----------
    name : str
        Of the design.
    radii : ndarray, shape (n_band,)
    power, early : ndarray, shape (n_field, n_band, lmax + 1)
        `sky_power` at the last and at the first time of back-tracking.
    path : ndarray, shape (n_field, n_band)
        Trace of 3 K / c in expected mean free paths, from the growth of the mean square between both times.
    """
    ratio, error = power_ratio(power)
    before, before_error = power_ratio(early)
    dipole, transport = field_average(power[..., 1] / (4 * np.pi / 9)), field_average(path)
    columns = {
        "design": [name] * radii.size, "gyroradius": radii, "fields": [len(power)] * radii.size,
        "c_1": dipole.mean, "c_1_error": dipole.error, "path": transport.mean, "path_error": transport.error,
    }  # fmt: skip
    for ell in range(2, LMAX + 1):
        columns |= {f"ratio_{ell}": ratio[:, ell], f"ratio_{ell}_error": error[:, ell]}
        columns |= {f"early_{ell}": before[:, ell], f"early_{ell}_error": before_error[:, ell]}
    return Table(columns)


def decade_ratios(name: str, radii: FloatArray, power: FloatArray) -> dict[str, Any]:
    """Return C_l / C_1, l = 2 to LMAX, of the power of all bands in a decade together, for each decade, and errors."""
    found = {}
    for low in range(-5, 0):
        own = (radii > 10.0**low) & (radii < 10.0 ** (low + 1))
        if np.any(own):
            ratio, error = (one[2 : LMAX + 1] for one in power_ratio(power[:, own].sum(axis=1)))
            found[f"{name} 1e{low}"] = {
                "ratio": [float(f"{value:.3g}") for value in ratio],
                "error": [float(f"{value:.2g}") for value in error],
            }
    return found


def transport(settings: DesignSettings, results: list[dict[str, FloatArray]]) -> FloatArray:
    """Return the trace of 3 K / c in expected mean free paths, mean over each band, (n_field, n_band)."""
    times = np.array([result["time"] for result in results])
    squares = np.array([result["product"] for result in results]) @ np.array([1.0, 2.0])
    slope = (squares[..., -1] - squares[..., 0]) / (times[..., -1] - times[..., 0])
    expected = times[..., -1] / settings.mean_free_paths[-1]
    return np.asarray((1.5 * slope / expected).mean(axis=-1))


def displacement_power(results: Sequence[Mapping[str, Any]], unit: FloatArray, time: int) -> FloatArray:
    """Return `sky_power` of the displacements alone, the isotropic start, in units (n_field, n_band).

    Diffusivities, which depend on the times between which they are taken, do not enter.
    """
    alm = np.array([result["alm"][:, :, time, :3] for result in results], dtype=np.complex128)
    return np.asarray(pair_power(alm / unit[:, :, None, None, None], axis=2).sum(axis=2))


def band_task(settings: DesignSettings, gyroradii: FloatArray, what: str, field: int) -> dict[str, FloatArray]:
    """Return the power of a field at the middle of bands and averaged over gyroradii (n_band, n) in them.

    Displacements at the first time, between two sets of directions, both of shape (n_band, lmax + 1).
    """
    share, index = (float(value) for value in design_points(settings)[field])
    whole = design_field(settings, share, index, field)
    middle, mean = [], []
    for one in range(2):
        directions = jittered_directions(
            settings.nside, rng=child_generator(settings.seed, "directions", field, one)
        )
        gram = gram_matrix(directions, settings.lmax)
        for inside_band in gyroradii:
            centre = float(np.sqrt(inside_band[0] * inside_band[-1]))
            skies = []
            for radius in (centre, *inside_band):
                path = settings.mean_free_paths[0] * expected_path(radius, share, index)
                orbits = back_track(
                    whole.up_to(settings.resolved_to / radius), directions, [path], gyroradius=radius, single=True
                )
                sums, _ = map_sums(directions, orbits.position * radius, orbits.momentum, settings.lmax)
                skies.append(fitted_alm(sums, gram)[0, :3] / (centre * expected_path(centre, share, index)))
            middle.append(skies[0])
            mean.append(np.mean(skies[1:], axis=0))
    shape = (2, len(gyroradii), 3, -1)
    first, second = (pair_power(np.reshape(sky, shape), axis=0).sum(axis=1) for sky in (middle, mean))
    return {"middle": first, "mean": second}


def logarithms(power: FloatArray) -> FloatArray:
    """Return ln C_1 and ln (C_l / C_1) of mean power (..., lmax + 1), shape (..., 1 + number of TESTED)."""
    dipole = power[..., 1:2]
    return np.log(np.concatenate([dipole, power[..., TESTED] / dipole], axis=-1))


def jackknife_covariance(left: FloatArray) -> FloatArray:
    """Return the covariance of statistics from those with each field left out, (n_field, n)."""
    return np.asarray((len(left) - 1) * np.cov(left.T, bias=True))


def overlap(wide: FloatArray, deep: FloatArray, middle: FloatArray, mean: FloatArray) -> dict[str, Any]:
    """Return how two designs differ in the bands that both have: ln C_1 and ln C_l / C_1, the deep less the wide one.

    Power is (n_field, lmax + 1), summed over those bands. The wide design averages gyroradii over a band, the deep one
    has its middle. So fields of the deep design were followed at both, `middle` and `mean`: these averages are compared
    with the wide design, and tell what averaging does. Covariances are jackknives over fields; those of n fields are
    uncertain, so that the chance is right to a few per cent only.
    """
    values = {"wide": wide, "deep": deep, "mean": mean}
    logs = {name: logarithms(power.mean(axis=0)) for name, power in values.items()}
    own = {name: jackknife_covariance(logarithms(power.sum(axis=0) - power)) for name, power in values.items()}
    totals = middle.sum(axis=0), mean.sum(axis=0)
    effect = logarithms(totals[1]) - logarithms(totals[0])
    paired = jackknife_covariance(logarithms(totals[1] - mean) - logarithms(totals[0] - middle))
    difference, covariance = logs["mean"] - logs["wide"], own["mean"] + own["wide"]
    square = float(difference @ np.linalg.solve(covariance, difference))
    told = {
        "stored": (logs["deep"] - logs["wide"], own["deep"] + own["wide"]), "band": (effect, paired),
        "difference": (difference, covariance),
    }  # fmt: skip
    rounded = {}
    for name, (value, matrix) in told.items():
        rounded[name] = [round(float(one), 4) for one in value]
        rounded[f"{name}_error"] = [round(float(one), 4) for one in np.sqrt(np.diag(matrix))]
    return {
        "what": ["C_1", *(f"C_{ell} / C_1" for ell in TESTED)], **rounded,
        "chi_square": round(square, 2), "chance": round(float(chi2.sf(square, len(difference))), 4),
        "fields": [len(wide), len(deep), len(mean)],
    }  # fmt: skip


def computed(directory: Path) -> Table:
    """Return the numbers of both designs in the turbulence that they have in common, from their stores.

    Fields that a store lacks are followed first: about an hour of one core for the wide design, see the page for the
    other. Averages over the bands of the overlap are kept in `directory`.
    """
    chosen = {name: design_settings(name) for name in DESIGNS}
    ranges, tables, powers = common_ranges(*chosen.values()), [], []
    decades: dict[str, Any] = {}
    for (name, settings), time in zip(chosen.items(), (-1, 0), strict=True):
        results = run_design(settings, base=HERE)
        last, first = (stationary_skies(settings, results, time=which) for which in (-1, 0))
        own = inside(last.point, ranges)
        power, early = (sky_power(skies)[own] for skies in (last, first))
        tables.append(numbers(name, last.gyroradius, power, early, transport(settings, results)[own]))
        decades |= decade_ratios(name, last.gyroradius, power)
        # The first time of the deep design is the last of the other.
        powers.append((last.gyroradius, displacement_power(results, last.unit, time)[own]))
    (radii, wide), (deep_radii, deep) = powers
    both = radii < deep_radii.max() * 1.01
    settings, gyroradii = chosen[DESIGNS[1]], chosen[DESIGNS[0]].followed[both]
    bands = run_tasks(
        partial(band_task, settings, gyroradii), [("bands", field) for field in range(BAND_FIELDS)],
        store=directory / "bands", configuration=design_identity(settings) | {"followed": gyroradii.tolist()},
    )  # fmt: skip
    middle, mean = (np.array([one[name].sum(axis=0) for one in bands]) for name in ("middle", "mean"))
    table = vstack(tables)
    table.meta["decades"] = decades
    table.meta["overlap"] = overlap(
        wide[:, both].sum(axis=1), deep[:, deep_radii > radii.min() * 0.99].sum(axis=1), middle, mean
    )
    return described(table)


def described(table: Table) -> Table:
    """Return the table with descriptions of its columns."""
    words = {
        "design": "configuration in analyses/turbulence",
        "gyroradius": "centre of the band, r_L / lambda_c in the rms of the total field",
        "c_1": "sum of C_1 for gradients along x, y and z, in 4 pi / 9 (r_L Lambda)^2, Lambda the expected path",
        "path": "trace of 3 K / c in expected mean free paths, between the two times of back-tracking",
        "ratio_2": "C_l / C_1, each summed over fields and gradients, at the last time",
        "early_2": "the same at the first time, half of the last",
    }
    for name, text in words.items():
        if name in table.colnames:
            table[name].description = text
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".4g"
    return table


def shipped(ranges: FloatArray) -> Table:
    """Return the numbers of the fields that are shipped and lie in the ranges: power at the last time alone."""
    library = SimulatedTurbulence().skies
    own = inside(library.point, ranges)
    few = library.of_fields(np.flatnonzero(own))
    unit = np.array([[r * expected_path(r, *point) for r in few.gyroradius] for point in few.point])
    power = library_power(few, unit)
    ratio, error = power_ratio(power)
    columns = {"gyroradius": few.gyroradius, "fields": [len(power)] * few.gyroradius.size}
    for ell in range(2, LMAX + 1):
        columns |= {f"ratio_{ell}": ratio[:, ell], f"ratio_{ell}_error": error[:, ell]}
    return described(Table(columns))


def draw(table: Table, points: Table | None, stem: Path) -> None:
    """Draw C_l / C_1 and the mean free path against the gyroradius."""
    with styled():
        figure = new_figure(7.2, 8.6)
        shapes, paths = figure.subplots(2, 1, height_ratios=(2.2, 1.0), sharex=True)
        _draw_shapes(shapes, table, points)
        for place, name in enumerate(DESIGNS):
            rows = table[table["design"] == name]
            paths.errorbar(
                rows["gyroradius"], rows["path"], yerr=rows["path_error"], color=COLOURS[("blue", "vermilion")[place]],
                marker=MARKERS[place], linestyle="none", label=f"{rows['fields'][0]} fields of {name}",
            )  # fmt: skip
        paths.set(
            xscale="log", ylim=(0, None), xlabel=r"gyroradius $r_L / \lambda_c$",
            ylabel=r"tr $3K / c$ over $r_L \Lambda$",
        )  # fmt: skip
        paths.legend()
        save(figure, stem)


def _draw_shapes(axes: Axes, table: Table, points: Table | None) -> None:
    """Lines with bands: the wide design; filled symbols: the deep one; open symbols: the fields that are shipped."""
    wide, deep = (table[table["design"] == name] for name in DESIGNS)
    for place, ell in enumerate(SHOWN):
        colour, value, error = COLOURS[COLOUR[ell]], f"ratio_{ell}", f"ratio_{ell}_error"
        axes.plot(
            wide["gyroradius"], wide[value], color=colour, linestyle=LINE_STYLES[place % len(LINE_STYLES)],
            label=rf"$\ell = {ell}$",
        )  # fmt: skip
        low = np.maximum(wide[value] - wide[error], 1e-7)
        axes.fill_between(
            wide["gyroradius"], low, wide[value] + wide[error], color=colour, alpha=0.15, linewidth=0
        )
        shift = 1.02 ** (place - 2)
        seen = deep[value] > deep[error]
        axes.errorbar(
            deep["gyroradius"][seen] * shift, deep[value][seen], yerr=deep[error][seen], color=colour,
            marker=MARKERS[place % len(MARKERS)], linestyle="none", markersize=4.5,
        )  # fmt: skip
        if points is not None:
            seen = points[value] > points[error]
            axes.plot(
                points["gyroradius"][seen], points[value][seen], color=colour, markerfacecolor="none",
                marker=MARKERS[place % len(MARKERS)], linestyle="none", markersize=3.5,
            )  # fmt: skip
    axes.axvspan(3.6e-5, 1e-4, color="0.9", zorder=0)
    axes.set(yscale="log", ylabel=r"$C_\ell / C_1$", ylim=(2e-4, 0.4))
    axes.legend(ncols=3, fontsize=8.5, loc="lower right")


def make(context: Context) -> FigureEntry:
    chosen = [design_settings(name) for name in DESIGNS]
    ranges = common_ranges(*chosen)
    if context.full:
        table, points = computed(context.directory), None
    else:
        table, points = Table.read(PUBLISHED, format="ascii.ecsv"), shipped(ranges)
    draw(table, points, context.directory / "library")
    settings = {"seeds": [one.seed for one in chosen], "turbulent_share": ranges[:, 0].tolist(),
                "energy_index": ranges[:, 1].tolist()}  # fmt: skip
    write_table(
        table if points is None else points, context.directory / "library.ecsv",
        description="Power of skies over that of the dipole against gyroradius.", settings=settings,
    )  # fmt: skip
    both = table.meta["overlap"]
    comparisons = [
        Comparison(f"ln {what}, deep less wide design, 3e-4 to 1e-3", None, value, note=f"+- {error:.2g}")
        for what, value, error in zip(both["what"], both["difference"], both["difference_error"], strict=True)
    ]
    if points is not None:
        lines = table[table["design"] == DESIGNS[0]]
        comparisons += [
            Comparison(
                f"C_{ell} / C_1 of {points['fields'][0]} shipped fields, r_L = {points['gyroradius'][0]:.2g} lambda_c",
                None, float(points[f"ratio_{ell}"][0]), note=f"+- {points[f'ratio_{ell}_error'][0]:.2g}; "
                f"of all fields {lines[f'ratio_{ell}'][0]:.2g} +- {lines[f'ratio_{ell}_error'][0]:.2g}",
            )
            for ell in (2, 3)
        ]  # fmt: skip
    sizes = ", ".join(
        f"{rows['fields'][0]} of {name}" for name in DESIGNS for rows in [table[table["design"] == name]]
    )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Isotropic turbulence with shares of 0.5 to 1 of the energy and spectral indices of 1.5 to 1.8, "
        f"fields: {sizes}. Top: power of the sky, over gradients in all directions, over that of the dipole. Lines "
        "with bands: design.toml; symbols with errors: design_deep.toml, those above their error; open symbols: the "
        "shipped fields. Products "
        "of two sets of directions leave no noise of directions; errors are from field to field. Grey: 10 TV in 3 "
        "microgauss for bend-over lengths of 36 to 100 pc. Bottom: trace of 3 K / c in the expected mean free path.",
        alt="Two panels against the gyroradius from 1e-5 to 1. Top: power over that of the dipole falls with the "
        "multipole and, from 0.1 down, with the gyroradius, less for odd multipoles than for even ones; the two "
        "designs meet between 3e-4 and 1e-3. Bottom: the mean free path over the expected one grows towards both ends.",
        image="library.png", table="library.ecsv", comparisons=tuple(comparisons),
        deviations=(
            f"Overlap of the designs: chi-square {both['chi_square']:.1f} for {len(both['what'])} numbers, chance "
            f"{both['chance']:.2f}.",
        ),
        seed=context.seed,
        size_note="" if context.full else "lines and symbols with errors are those of the full run",
    )  # fmt: skip
