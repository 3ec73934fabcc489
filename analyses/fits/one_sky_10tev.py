"""The one sky behind the HAWC band and the IceCube band of the 10 TeV map: its a_lm, power, amplitude and noise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

import obsfit
from obsfit.errors import ConfigurationError
from obsfit.infer.observed_harmonics import NoiseProfile, ObservedHarmonics, map_harmonics
from obsfit.infer.sky_sampler import SkyPosterior, SkyPrior, SkySamplerSettings, sample_sky
from obsfit.ingest.catalogue import load_sheet, load_table
from obsfit.ingest.maps import load_map
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, DataSource, FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.provenance import sha256, source_checksum
from obsfit.records import SkyMap
from obsfit.sky import top_hat_window
from obsfit.sky.harmonics import dipole_vector

KEY = "one-sky-10tev"
TITLE = "The one sky that HAWC and IceCube see at 10 TeV"
PAPER = "Own fits"
FIGURE = ""
USER_FILES = {"map": "OBSFIT_DATA_SOURCES/files/hawc_icecube_2019_relint_digitised_nside64.fits"}

NOISE = "hawc-icecube-2019-noise"
BY_FIELD = "hawc-icecube-2019-by-field"
# IceCube alone below -30 deg, HAWC alone above -20 deg; the first sets the scale of amplitudes.
BANDS = {"IceCube": (-90.0, -30.0), "HAWC": (-20.0, 64.0)}
DISC = 5.0 * u.deg
# Of the true sky (and in full runs), of the data, and of what is shown.
LMAX, LMAX_FULL, LMAX_DATA, REPORT = 36, 44, 24, 20
# From the white noise of IceCube on.
PRIOR = SkyPrior(low=1e-11, high=1e-4, amplitude_scatter=0.1, noise_scatter=0.5)
NSIDE = 32
STYLES = {
    "HAWC": {"color": COLOURS["vermilion"], "marker": "s"},
    "IceCube": {"color": COLOURS["blue"], "marker": "o"},
}
PUBLISHED = {
    "hawc-icecube-2019-delta-0h-10TeV": "equatorial dipole towards 0h",
    "hawc-icecube-2019-delta-6h-10TeV": "equatorial dipole towards 6h",
}


def observed(sky: SkyMap, lmax: int) -> tuple[ObservedHarmonics, ...]:
    """Return the two bands of the map as data; the noise table is that of the map, smoothed with it."""
    noise = NoiseProfile.from_table(load_table(NOISE))
    return tuple(
        map_harmonics(
            sky, name=name, dec_min=low * u.deg, dec_max=high * u.deg, noise=noise, lmax=lmax, lmax_out=LMAX_DATA,
            smoothing=top_hat_window(DISC, 4 * lmax),
        )
        for name, (low, high) in BANDS.items()
    )  # fmt: skip


def sampled(sky: SkyMap, path: Path, *, full: bool, rng: np.random.Generator, seed: int) -> SkyPosterior:
    """Return the posterior, stored: a finished one of the same programs is taken, an unfinished one goes on."""
    settings = SkySamplerSettings(target=4000.0 if full else 600.0, report=REPORT)
    data = observed(sky, LMAX_FULL if full else LMAX)
    configuration = {
        "seed": seed, "sampler": asdict(settings), "programs": source_checksum(without=("plot", "cli", "study")),
    }  # fmt: skip
    same = False
    if path.exists():
        try:
            same = SkyPosterior.load(path).provenance["configuration"] == configuration
        except obsfit.errors.DataFormatError:
            same = True  # unfinished: resuming compares data and settings
    choices = {"prior": PRIOR, "settings": settings, "seed": seed, "configuration": configuration}
    try:
        return sample_sky(data, rng=rng, store=path, resume=same, overwrite=not same, **choices)
    except ConfigurationError:
        if not path.exists():
            raise
    return sample_sky(data, rng=rng, store=path, overwrite=True, **choices)


def naive(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (C~_l / W_l^2 - N_l) / f_sky of a band and the error that 2 l + 1 independent modes would give it."""
    record = obsfit.load_spectrum(BY_FIELD, field=name.lower()).select(1, REPORT)
    total = record.c_ell / record.window_power / record.sky_fraction
    power = total - record.noise / record.sky_fraction
    return power, total * np.sqrt(2.0 / ((2 * record.ell + 1) * record.sky_fraction))


def numbers(found: SkyPosterior) -> Table:
    """Return one row per multipole: the posterior, and the naive power of each band."""
    table = found.spectrum()
    for name in BANDS:
        table[f"naive_{name.lower()}"], table[f"naive_{name.lower()}_error"] = naive(name)
    for name in table.colnames[1:]:
        table[name].info.format = ".5g"
    table["median"].description = "posterior of C_l, flat in its logarithm from 1e-11 to 1e-4"
    for name in BANDS:
        table[f"naive_{name.lower()}"].description = "pseudo-power without window and noise, over the sky fraction"
    return table


def draw(found: SkyPosterior, table: Table, stem: Path) -> None:
    """Draw the mean sky, its standard deviation, and the power."""
    mean, sd = found.map_moments(NSIDE)
    with styled():
        figure = new_figure(10.6, 8.2)
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.15))
        left, right = top.subfigures(1, 2)
        draw_sky(left, 1e3 * mean, "Posterior mean, no m = 0", "RdBu_r", symmetric=True)
        draw_sky(right, 1e3 * sd, "Posterior standard deviation", "viridis", symmetric=False)
        draw_power(bottom.subplots(), table)
        save(figure, stem)


def draw_sky(figure: SubFigure, values: np.ndarray, title: str, colours: str, *, symmetric: bool) -> None:
    """Draw a map in Mollweide projection, right ascension to the left, with the edges of the bands."""
    axes = figure.subplots(subplot_kw={"projection": "mollweide"})
    longitude, latitude = np.linspace(-np.pi, np.pi, 361), np.linspace(-np.pi / 2, np.pi / 2, 181)
    x, y = 0.5 * (longitude[1:] + longitude[:-1]), 0.5 * (latitude[1:] + latitude[:-1])
    # The middle is 12h, and right ascension grows to the left.
    pixel = hp.ang2pix(NSIDE, 0.5 * np.pi - y[:, None], (np.pi - x)[None, :] % (2.0 * np.pi))
    low, high = (-np.abs(values).max(), np.abs(values).max()) if symmetric else (0.0, values.max())
    mesh = axes.pcolormesh(
        longitude, latitude, values[pixel], cmap=colours, vmin=low, vmax=high, zorder=0, rasterized=True
    )
    for low_deg, high_deg in BANDS.values():
        for edge in (low_deg, high_deg):
            if edge > -90.0:
                axes.plot(x, np.full_like(x, np.radians(edge)), color="k", linewidth=0.9, linestyle="--")
    axes.set_xticks(np.radians([-120, -60, 0, 60, 120]), ["20h", "16h", "12h", "8h", "4h"])
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    axes.tick_params(labelsize=8.5)
    axes.grid(alpha=0.35)
    axes.set_title(title, pad=12)
    figure.colorbar(
        mesh, ax=axes, orientation="horizontal", shrink=0.75, pad=0.06, label=r"$\delta I$ [$10^{-3}$]"
    )


def draw_power(axes: Axes, table: Table) -> None:
    """Draw intervals of C_l and the naive points."""
    ell = np.asarray(table["ell"], dtype=float)
    for low, high, alpha in (("p2.5", "p97.5", 0.25), ("p16", "p84", 0.5)):
        axes.bar(
            ell, table[high] - table[low], bottom=table[low], width=0.62, color=COLOURS["grey"], alpha=alpha,
            edgecolor="none", label=f"posterior of $C_\\ell$, {'95' if low == 'p2.5' else '68'} %",
        )  # fmt: skip
    axes.hlines(table["median"], ell - 0.31, ell + 0.31, color="k", linewidth=1.5)
    for name, shift in (("HAWC", 0.14), ("IceCube", -0.14)):
        power, error = (np.asarray(table[f"naive_{name.lower()}{end}"]) for end in ("", "_error"))
        axes.errorbar(
            ell + shift, power, yerr=error, linestyle="none", markersize=4.5,
            label=rf"{name} band, $(\tilde C_\ell - N_\ell)/f_{{sky}}$", **STYLES[name],
        )  # fmt: skip
    axes.set(yscale="log", xlim=(0.4, REPORT + 0.6), ylim=(8e-12, 1e-4), xticks=[1, *range(2, REPORT + 1, 2)])
    axes.set_xlabel(r"multipole $\ell$")
    axes.set_ylabel(r"power $C_\ell$")
    axes.legend(loc="upper right")


def comparisons(found: SkyPosterior) -> tuple[Comparison, ...]:
    """Return the published equatorial dipole beside the posterior's: the bands fit it with all else."""
    dipoles = dipole_vector(found.skies()) / 1e-4
    rows = {str(row["measurement"]): row for row in load_table("anisotropy-headlines")}
    return tuple(
        Comparison(
            quantity, float(rows[key]["value"]) / 1e-4, float(dipoles[:, axis].mean()), "1e-4",
            note=f"posterior standard deviation {dipoles[:, axis].std():.2f}e-4",
            tolerance=float(2.0 * dipoles[:, axis].std()),
            source="abstract of arXiv:1812.05682; agreement within two posterior standard deviations",
        )
        for axis, (key, quantity) in enumerate(PUBLISHED.items())
    )  # fmt: skip


def make(context: Context) -> FigureEntry:
    path = context.user_files.get("map")
    if path is None:
        return FigureEntry(
            KEY, PAPER, FIGURE, TITLE, "needs file", caption="Joint posterior of the sky behind two bands of a map.",
            alt="", deviations=(
                "The 10 TeV map of HAWC and IceCube (arXiv:1812.05682) is not part of this repository. Put it where "
                f"{USER_FILES['map']} points: HEALPix nside 64, equatorial, first column relative intensity.",
            ),
        )  # fmt: skip
    source = DataSource("hawc-icecube-2019-map", sha256(path), str(path))
    tables = [DataSource(name, load_sheet(name).sha256, f"{name}.ecsv") for name in (NOISE, BY_FIELD)]
    found = sampled(
        load_map(path), context.directory / "sky.h5", full=context.full, rng=context.rng, seed=context.seed
    )
    table = numbers(found)
    draw(found, table, context.directory / "one-sky")
    write_table(
        table, context.directory / "one-sky.ecsv", data=(source, *tables),
        description="Posterior of C_l from two bands of one map, and the naive power of each band",
        settings={"seed": context.seed, "lmax": found.provenance["lmax"], "prior": asdict(PRIOR)},
    )  # fmt: skip
    nuisance = {(str(row["nuisance"]), str(row["observatory"])): row for row in found.nuisances()}
    amplitude = nuisance["amplitude", "HAWC"]
    scales = {name: nuisance["noise_scale", name] for name in BANDS}
    small = slice(10, REPORT)
    above = int(np.sum(naive("HAWC")[0][small] > table["p84"][small]))
    lowest = {name: naive(name)[0][:3] / np.asarray(table["median"])[:3] for name in BANDS}
    deviations = (
        f"{found.sweeps} sweeps of {len(found.c_ell)} chains; at least {found.effective.min():.0f} effective samples "
        f"of every C_l and nuisance, R-hat up to {found.r_hat.max():.3f}.",
        f"Amplitude of HAWC relative to IceCube: {amplitude['median']:.2f} +- {amplitude['sd']:.2f} (prior 1 +- "
        f"{PRIOR.amplitude_scatter:g}). The bands share no pixel: what they share are the multipoles.",
        "Noise variance over that of the table: "
        + ", ".join(f"{scales[name]['median']:.2f} +- {scales[name]['sd']:.2f} ({name})" for name in BANDS)
        + ". The map was read off a picture, and converged iterations carry more noise than counts: both are in "
        "these numbers.",
        "Naive power over the posterior's median at l = 1, 2, 3: "
        + "; ".join(f"{name} {', '.join(f'{x:.2f}' for x in lowest[name])}" for name in BANDS)
        + f". At l = 11 to 20 that of HAWC is above the 84 % point of the posterior {above} times of 10: what "
        "leaks from lower multipoles is taken for power.",
        "Where C_l is not detected, its interval reaches down to the lower end of the prior, which is a choice.",
        "600 pixels of the HAWC band are clipped at 2e-3 in the published picture.",
        f"True multipoles up to l = {found.provenance['lmax']} are sampled, pseudo a_lm up to {LMAX_DATA} used, and "
        f"true multipoles up to {REPORT} shown.",
    )
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Joint posterior of the true sky given two bands of the 10 TeV map, each with its ring means removed, "
        "its smoothing and its noise against declination. Top: mean and standard deviation of the sky without m = 0, "
        "which no such map can see; dashed, the edges of the bands. Below: posterior of C_l (bars, median as line) "
        "beside the usual estimate from each band alone, pseudo-power over the fraction of the sky, with the error "
        "of 2 l + 1 modes times that fraction. The standard deviation follows the sky where HAWC looks, because the "
        "amplitude of HAWC relative to IceCube is uncertain.",
        alt="Two sky maps and a power spectrum. The mean sky has an excess around 4h and a deficit around 13h. Its "
        "standard deviation is small in the south, larger in the HAWC band and largest in the gap between the bands "
        "and at the north pole. Posterior power falls from 4e-6 at l = 1 to about 1e-10 at l = 20; the naive points "
        "of the two bands differ from it and from each other.",
        image="one-sky.png", table="one-sky.ecsv", comparisons=comparisons(found), deviations=deviations,
        data=(source, *tables), seed=context.seed,
        size_note="" if context.full else "short chains",
    )  # fmt: skip
