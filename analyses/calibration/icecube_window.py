"""The declination weight of IceCube's pseudo-power, from its isotropic bands and from a map of the same sky."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

import obsfit
from obsfit.ingest.catalogue import load_table
from obsfit.operators.isotropic_bands import BandFit, fit_band, isotropic_band, read_band
from obsfit.operators.pseudo import DeclinationWindow, calibrated_window, pseudo_operator
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, DataSource, FigureEntry
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, MARKERS, new_figure, save, styled
from obsfit.provenance import sha256
from obsfit.records import PowerSpectrum
from obsfit.sky import band_coupling, top_hat_window

KEY = "window-icecube"
TITLE = "Declination weight of IceCube's pseudo-power"
PAPER = "Own fits"
FIGURE = ""
USER_FILES = {"map": "OBSFIT_DATA_SOURCES/files/hawc_icecube_2019_relint_digitised_nside64.fits"}

ENERGIES_TEV = (13.0, 24.0, 42.0, 66.8, 130.0, 239.3, 468.8, 1502.4, 5305.6)
# From here on both edges of all bands are drawn in the published figure.
CLOSURE_FROM_TEV = 130.0
# Of the collaboration's programs, see the table icecube-2025-window.
CUT_DEG = -25.0
CUTS_DEG = np.arange(-29.0, -22.4, 0.5)
EXPONENTS = np.arange(-2.0, 5.01, 0.5)
# One exponent for all energies of the closure.
COMMON_EXPONENT = 0.3
EVENTS = 7.92e11
# The map of 10 TeV is folded into the two lowest energies.
FOLDED_TEV = (13.0, 24.0)
SIGNAL_EXPONENTS = np.arange(-0.5, 5.01, 0.25)
# Beyond, half of the unsmoothed map's power is noise and reading error.
SIGNAL_ELL_MAX = 11
# Neighbouring multipoles of a cap share their modes: six points hold about three independent numbers.
COMMON_POINTS = 2.0
# Multipoles that are left in the map once its smoothing is undone.
MAP_LMAX = 24
DISC = 5 * u.deg


def spectrum(energy_tev: float) -> PowerSpectrum:
    """Return the twelve-year pseudo-power at one energy."""
    return obsfit.load_spectrum("icecube-2025", energy=energy_tev * u.TeV)


def window(exponent: float = 0.0, cut_deg: float = CUT_DEG) -> DeclinationWindow:
    """Return a polar cap below a declination, weighted by counts."""
    return DeclinationWindow(-np.pi / 2, float(np.radians(cut_deg)), exponent)


def band_fits(cut_deg: float = CUT_DEG) -> tuple[BandFit, ...]:
    """Return the fit to the isotropic band of each energy."""
    return tuple(fit_band(spectrum(e), window(cut_deg=cut_deg), exponents=EXPONENTS) for e in ENERGIES_TEV)


def preferred_cut() -> tuple[float, float, np.ndarray]:
    """Return the cut [deg] that the bands prefer, its error, and chi-square at `CUTS_DEG`, each energy fitted anew."""
    total = np.array([sum(fit.chi_square for fit in band_fits(cut)) for cut in CUTS_DEG])
    near = np.abs(CUTS_DEG - CUTS_DEG[total.argmin()]) <= 1.5
    a, b, _ = np.polyfit(CUTS_DEG[near], total[near], 2)
    return float(-b / (2.0 * a)), float(a**-0.5), total


def readings(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return degrees of freedom and mean of each band, see `read_band`."""
    nu, mean = np.array([read_band(a, b) for a, b in zip(low, high, strict=True)]).T
    return nu, mean


def closure(exponent: float = COMMON_EXPONENT, *, filtered: bool = False) -> Table:
    """Return the readings of the published bands beside those of one window for all energies from 130 TeV on."""
    rows = []
    for energy in ENERGIES_TEV:
        if energy < CLOSURE_FROM_TEV:
            continue
        record = spectrum(energy)
        nu, mean = readings(record.isotropic_low, record.isotropic_high)
        model_nu, model_mean = readings(*isotropic_band(window(exponent), 1.0, record.ell, filtered=filtered))
        ratio, model_ratio = mean / mean[-1], model_mean / model_mean[-1]
        for i, ell in enumerate(record.ell):
            rows.append(
                {
                    "energy": energy, "ell": int(ell), "nu": nu[i], "nu_window": model_nu[i],
                    "noise_ratio": ratio[i], "noise_ratio_window": model_ratio[i],
                    "nu_deviation": nu[i] / model_nu[i] - 1.0, "noise_deviation": ratio[i] / model_ratio[i] - 1.0,
                }
            )  # fmt: skip
    return Table(rows=rows, units={"energy": "TeV"})


@dataclass(frozen=True)
class MapSky:
    """The 10 TeV map as a_lm without its smoothing, and its noise.

    Attributes
    ----------
    alm : ndarray of complex, shape (n_alm,)
        Without m = 0, in healpy order.
    noise : ndarray, shape (m, l, l')
        Covariance of the noise of `alm`, its smoothing undone.
    """

    alm: np.ndarray
    noise: np.ndarray


def read_map(path: Path, lmax: int = MAP_LMAX) -> MapSky:
    """Return the sky of a HEALPix file with the columns RELINT and FLAG (-1 where there is no map)."""
    intensity, flag = hp.read_map(path, field=(0, 2), dtype=np.float64)
    intensity = np.where(flag >= 0, intensity, 0.0)
    alm = hp.resize_alm(hp.map2alm(intensity, lmax=60, iter=3), 60, 60, lmax, lmax)
    alm = hp.almxfl(alm, 1.0 / top_hat_window(DISC, lmax))
    _, m = hp.Alm.getlm(lmax)
    alm[m == 0] = 0.0
    table = load_table("hawc-icecube-2019-noise")
    good = np.isfinite(table["sigma"])
    dec = 0.5 * (np.asarray(table["dec_min"]) + np.asarray(table["dec_max"]))[good]
    disc = 2.0 * np.pi * (1.0 - np.cos(DISC.to_value(u.rad)))
    variance = np.asarray(table["sigma"])[good] ** 2 * disc
    noise = band_coupling(
        -90 * u.deg, float(table["dec_max"][-1]) * u.deg, lmax, filtered=True,
        weight=lambda s: np.interp(np.degrees(np.arcsin(s)), dec, variance),
    )  # fmt: skip
    return MapSky(alm, noise)


def folded(record: PowerSpectrum, weight: DeclinationWindow, sky: MapSky) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of the map seen through a window and that of the data, both without noise, (n_ell,) each."""
    operator = pseudo_operator(record, weight, lmax=MAP_LMAX)
    power = operator.observe(np.broadcast_to(sky.alm, (operator.energy.rigidity_tv.size, sky.alm.size)))
    of_map, of_data = np.zeros(int(record.ell[-1]) + 1), np.zeros(int(record.ell[-1]) + 1)
    for m, response in operator.response.items():
        of_map += 2.0 * np.diag(response[0] @ sky.noise[m] @ response[0].T)
        of_data += 2.0 * np.diag(operator.noise[m][0])
    modes = 2.0 * record.ell + 1.0
    return power - of_map[record.ell] / modes, record.c_ell - of_data[record.ell] / modes


def signal_fit(energy_tev: float, sky: MapSky, cut_deg: float = CUT_DEG) -> tuple[float, float, float]:
    """Return the exponent that folds the map into the data best, its error, and the scatter left in log10 of power.

    Least squares in log10 of the power at l <= 11, no amplitude adjusted. The scatter left sets the error.
    """
    record = spectrum(energy_tev)
    use = record.ell <= SIGNAL_ELL_MAX
    squares = []
    for exponent in SIGNAL_EXPONENTS:
        model, data = folded(record, window(exponent, cut_deg), sky)
        squares.append(np.sum(np.log10(model / data)[use] ** 2))
    best = int(np.argmin(squares))
    near = slice(max(best - 2, 0), best + 3)
    a, b, c = np.polyfit(SIGNAL_EXPONENTS[near], np.array(squares)[near], 2)
    variance = (c - b**2 / (4.0 * a)) / (use.sum() - 1)
    return float(-b / (2.0 * a)), float(np.sqrt(COMMON_POINTS * variance / a)), float(np.sqrt(variance))


def combined(values: list[float], errors: list[float]) -> tuple[float, float]:
    """Return the inverse-variance mean, its error enlarged where the values disagree by more than theirs."""
    value, error = np.array(values), np.array(errors)
    weight = error**-2.0
    mean = float(np.sum(weight * value) / weight.sum())
    scatter = np.sum(weight * (value - mean) ** 2) / max(value.size - 1, 1)
    return mean, float(weight.sum() ** -0.5 * np.sqrt(max(1.0, scatter)))


def calibration(sky: MapSky | None) -> Table:
    """Return the table icecube-2025-window made anew; without the map its columns of the signal are blank."""
    cut, _, _ = preferred_cut()
    rows = []
    for energy, fit, other in zip(ENERGIES_TEV, band_fits(), band_fits(cut), strict=True):
        shift = other.exponent - fit.exponent
        values, errors = [fit.exponent], [float(np.hypot(fit.exponent_error, 0.5 * shift))]
        signal = (np.nan, np.nan)
        if sky is not None and energy in FOLDED_TEV:
            centre, error, _ = signal_fit(energy, sky)
            signal = (centre, float(np.hypot(error, 0.5 * (signal_fit(energy, sky, cut)[0] - centre))))
            values.append(signal[0])
            errors.append(signal[1])
        exponent, exponent_error = combined(values, errors)
        rows.append(
            {
                "measurement": spectrum(energy).measurement, "energy": energy, "dec_min": -90.0, "dec_max": CUT_DEG,
                "exponent": exponent, "exponent_error": exponent_error, "exponent_band": fit.exponent,
                "exponent_band_error": fit.exponent_error, "exponent_shift": shift, "exponent_signal": signal[0],
                "exponent_signal_error": signal[1], "events": fit.events, "events_error": fit.events_error,
                "resamples": 20.0, "chi_square": fit.chi_square, "n_edges": fit.n_edges,
            }
        )  # fmt: skip
    return Table(rows=rows, units={"energy": "TeV", "dec_min": "deg", "dec_max": "deg"})


def folds(sky: MapSky) -> Table:
    """Return data, map seen through the calibrated window, through that of the band alone, and naively, no noise."""
    stored = load_table("icecube-2025-window")
    rows = []
    for energy in FOLDED_TEV:
        record = spectrum(energy)
        own = calibrated_window(record)
        if own is None:
            raise RuntimeError(f"{record.measurement} has no calibration")
        band_alone = float(stored["exponent_band"][list(stored["measurement"]).index(record.measurement)])
        cases = {
            "calibrated": own.window,
            "band_alone": window(band_alone),
            "top_hat": window(0.0),
            "largest_one": DeclinationWindow(
                -np.pi / 2, own.window.dec_max_rad, own.window.exponent, normalisation="max"
            ),
        }
        powers = {name: folded(record, case, sky) for name, case in cases.items()}
        for i, ell in enumerate(record.ell):
            rows.append(
                {
                    "energy": energy, "ell": int(ell), "data": powers["calibrated"][1][i],
                    **{name: power[0][i] for name, power in powers.items()},
                }
            )  # fmt: skip
    return Table(rows=rows, units={"energy": "TeV"})


def draw(table: Table, closed: Table, fold: Table | None, stem: Path) -> None:
    """Draw exponents, closure of the bands, and the folded map."""
    with styled():
        figure = new_figure(11.0, 8.2)
        panels = figure.subplots(2, 2)
        draw_exponents(panels[0, 0], table)
        draw_closure(panels[0, 1], closed)
        for axes, energy in zip(panels[1], FOLDED_TEV, strict=True):
            draw_fold(axes, fold, energy)
        save(figure, stem)


def draw_exponents(axes: Axes, table: Table) -> None:
    """Draw exponents against energy."""
    axes.errorbar(
        table["energy"] * 0.97, table["exponent_band"], yerr=table["exponent_band_error"], linestyle="none",
        marker="o", color=COLOURS["blue"], markerfacecolor="white", label="isotropic bands, reading error",
    )  # fmt: skip
    axes.errorbar(
        table["energy"] * 1.06, table["exponent_signal"], yerr=table["exponent_signal_error"], linestyle="none",
        marker="^", color=COLOURS["vermilion"], label="10 TeV map folded",
    )  # fmt: skip
    axes.errorbar(
        table["energy"], table["exponent"], yerr=table["exponent_error"], linestyle="none", marker="s",
        color=COLOURS["black"], markersize=4, label="calibration",
    )  # fmt: skip
    axes.set(xscale="log", xlabel="median energy [TeV]", ylabel=r"exponent of $|\sin\delta|$ in the weight")
    axes.legend(loc="upper right")


def draw_closure(axes: Axes, closed: Table) -> None:
    """Draw the deviations of the published bands from those of one window."""
    for number, energy in enumerate(sorted(set(closed["energy"]))):
        part = closed[closed["energy"] == energy]
        place = np.arange(len(part)) + 0.1 * (number - 2)
        style = {"linestyle": "none", "marker": MARKERS[number], "markersize": 5}
        axes.plot(place, 100.0 * part["nu_deviation"], color=COLOURS["blue"], label=f"{energy:g} TeV", **style)
        axes.plot(
            place, 100.0 * part["noise_deviation"], color=COLOURS["vermilion"], markerfacecolor="white", **style
        )
    for level, colour in ((5.0, "blue"), (3.0, "vermilion")):
        for sign in (-1.0, 1.0):
            axes.axhline(sign * level, color=COLOURS[colour], linestyle=":", linewidth=1.0)
    axes.set_xticks(range(len(part)), labels=[str(ell) for ell in part["ell"]])
    axes.set(
        xlabel=r"multipole $\ell$", ylim=(-7, 11), ylabel=r"deviation [%]: $\nu$ (full), $N_\ell/N_{20}$ (open)"
    )
    axes.legend(loc="upper center", ncol=3)


def draw_fold(axes: Axes, fold: Table | None, energy: float) -> None:
    """Draw the data at one energy over the map seen through three windows."""
    record = spectrum(energy)
    axes.plot(
        record.ell, record.c_ell, linestyle="none", marker="o", color=COLOURS["black"], zorder=5,
        label=f"IceCube, {energy:g} TeV",
    )  # fmt: skip
    if fold is None:
        axes.text(0.5, 0.06, "the 10 TeV map is not at hand", transform=axes.transAxes, ha="center")
    else:
        part = fold[fold["energy"] == energy]
        noise = record.c_ell - part["data"]
        styles = (
            ("calibrated", "calibrated window", "vermilion", "-"), ("band_alone", "isotropic band alone", "blue", "--"),
            ("top_hat", "unit weight", "grey", ":"), ("largest_one", "largest weight one", "green", "-."),
        )  # fmt: skip
        for name, label, colour, line in styles:
            axes.plot(part["ell"], part[name] + noise, color=COLOURS[colour], linestyle=line, label=label)
    axes.set(xscale="log", yscale="log", xlabel=r"multipole $\ell$", ylabel=r"pseudo-power $\tilde C_\ell$")
    axes.xaxis.set_major_locator(FixedLocator(record.ell.tolist()))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="lower left")


def residuals(fold: Table, energy: float, name: str) -> np.ndarray:
    """Return log10 of the folded over the measured power, noise taken off both, shape (n_ell,)."""
    part = fold[fold["energy"] == energy]
    return np.asarray(np.log10(part[name] / part["data"]))


def comparisons(
    table: Table, closed: Table, filtered: Table, fold: Table | None, cut: tuple[float, float]
) -> tuple:
    """Return what the calibration says in numbers."""
    lines = [
        Comparison(
            "largest deviation of the degrees of freedom from one window, 130 TeV and above", 0.0,
            float(np.abs(closed["nu_deviation"]).max()), tolerance=0.05,
            note=f"filtered noise instead: {np.abs(filtered['nu_deviation']).max():.2f}",
            source="bands of the paper read as chi-squares",
        ),
        Comparison(
            "largest deviation of N_l / N_20 from one window, 130 TeV and above", 0.0,
            float(np.abs(closed["noise_deviation"]).max()), tolerance=0.03,
            note=f"filtered noise instead: {np.abs(filtered['noise_deviation']).max():.2f}",
            source="bands of the paper read as chi-squares",
        ),
        Comparison(
            "declination cut preferred by the bands", CUT_DEG, cut[0], "deg",
            note=f"error {cut[1]:.1f} deg if counts follow a power of |sin dec|, which they need not near the edge",
            source="public programs of the collaboration",
        ),
        Comparison(
            "events in the nine bins, from the levels of the bands", EVENTS, float(np.sum(table["events"])),
            note="inside the cut; the paper's number holds all directions", source="abstract of arXiv:2412.05046",
        ),
    ]  # fmt: skip
    for row in table:
        lines.append(
            Comparison(
                f"exponent at {row['energy']:g} TeV", None, float(row["exponent"]),
                note=f"standard deviation {row['exponent_error']:.2f}",
            )
        )  # fmt: skip
    if fold is not None:
        for energy in FOLDED_TEV:
            words = ", ".join(f"{value:+.2f}" for value in residuals(fold, energy, "calibrated"))
            scatter = float(np.sqrt(np.mean(residuals(fold, energy, "calibrated")[:-1] ** 2)))
            lines.append(
                Comparison(
                    f"scatter of log10 (folded / measured) at {energy:g} TeV, l = 1 to 11", 0.0, scatter,
                    note=f"l = 1, 2, 3, 4, 6, 11, 20: {words}", source="no amplitude adjusted",
                )
            )  # fmt: skip
    return tuple(lines)


def make(context: Context) -> FigureEntry:
    path = context.user_files.get("map")
    sky = None if path is None else read_map(path)
    cut, cut_error, _ = preferred_cut()
    table = calibration(sky)
    closed, filtered = closure(), closure(filtered=True)
    fold = None if sky is None else folds(sky)
    sources = [DataSource.of(spectrum(ENERGIES_TEV[0]).provenance)]
    if path is not None:
        sources.append(DataSource(path.stem, sha256(path), str(path)))
    draw(table, closed, fold, context.directory / "window")
    settings = {"cut_deg": CUT_DEG, "common_exponent": COMMON_EXPONENT}
    write_table(table, context.directory / "window.ecsv", data=sources, settings=settings,
                description="Exponent of the weight and events, as in the table icecube-2025-window.")  # fmt: skip
    write_table(closed, context.directory / "closure.ecsv", data=sources, settings=settings,
                description="Isotropic bands read as chi-squares beside those of one window.")  # fmt: skip
    if fold is not None:
        write_table(fold, context.directory / "fold.ecsv", data=sources, settings=settings,
                    description="Power of the 10 TeV map seen through windows, noise taken off.")  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "needs file" if fold is None else "own result",
        caption="Above left: exponent of the weight at each energy, from the isotropic bands alone, from the 10 TeV "
        "map folded into the data, and from both with their systematic part. Above right: deviation of the published "
        "bands from those of one window (cut at -25 degrees, exponent 0.3) in degrees of freedom and in the level "
        "over that at l = 20; dotted: 5 and 3 percent. Below: data, and the map seen through the calibrated window, "
        "through the window of the bands alone, with unit weight, and with a weight of largest value one; the noise "
        "of the data is added to the curves, no amplitude is adjusted.",
        alt="The exponent falls from 3.4 at 13 TeV to 0.5 at 24 TeV, is -0.4 at 67 and 130 TeV and rises to 0.8 at "
        "5.3 PeV. All deviations of the bands are within 4 and 2 percent. The calibrated window carries the map "
        "through the data at l = 1 to 11 at both energies; unit weight misses l = 4 at 13 TeV by a factor 4.",
        image="window.png", table="window.ecsv",
        comparisons=comparisons(table, closed, filtered, fold, (cut, cut_error)),
        deviations=(
            "The weight is not in the paper. That it is the background counts over their mean below -25 degrees is "
            "taken from public programs of members of the collaboration, one of which draws the same multipoles at "
            "the same energies (see the table icecube-2025-window). The bands and the map confirm normalisation, cut "
            "and number of events, none of which was adjusted to the map.",
            "At 13 TeV the isotropic band and the map disagree on the exponent by two standard deviations; the error "
            "is enlarged for it. True counts need not follow a power of the sine of declination.",
            "The map is of 10 TeV and the data are of 13 and 24 TeV. At l = 20 of 13 TeV the power of the map is "
            "three times that of the data: it is as large as its noise and reading error, and takes no part.",
            f"Needed: the file of the 10 TeV map in {USER_FILES['map']} (columns RELINT, SIGNIF, "
            "FLAG)." if fold is None else "The map is a file of the user's.",
        ),
        data=tuple(sources),
    )  # fmt: skip
