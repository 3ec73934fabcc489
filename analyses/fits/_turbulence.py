"""Fits of turbulence through an emulator to power and a dipole at 10 to 42 TeV: samples, evidence, figure, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from obsfit.emulate.emulator import Emulator
from obsfit.infer import WeightedSamples, run_importance
from obsfit.infer.emulated import EmulatedPosterior, PredictiveCheck, predictive_check
from obsfit.infer.left_out import leave_one_out
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, DataSource
from obsfit.plot.runner import Context, generator
from obsfit.plot.style import COLOURS, new_figure, save, series_style, styled

FloatArray = NDArray[np.float64]
MAP = "hawc-icecube-2019-10TeV"
ALL, TEN, SERIES, POWERS, DIPOLES = "all data", "10 TeV map", "IceCube spectra", "all power", "dipoles"
CASES = (ALL, TEN, SERIES, POWERS, DIPOLES)
"""What each fit is of, see `left_out`; the first is drawn."""
CLAIM = 0.5
CAPTION = (
    "Upper left: observed powers over the medians that the fit of all data predicts for one sky, with 68 (thick) and "
    "95 percent of repeated skies; upper right: projected dipole with the same. Below: each parameter by five fits, "
    "over its prior; in grey where less than half a bit was learnt and nothing may be claimed. One gradient "
    "of the density in isotropic turbulence with a mean field. Protons; the realisation and the angle "
    "of the field about the gradient are averaged over. Its calibration: docs/turbulence-fits.md. "
)
"""What the figures of all emulators show."""
NAMES = {
    "log10_gyroradius": r"$\log_{10} r_L/\lambda_c$ at 10 TV", "turbulent_share": r"turbulent share $\eta$",
    "energy_index": "spectral index $q$", "log10_amplitude": r"$\log_{10}$ amplitude $A$",
    "gradient_angle": r"$\theta_\nabla$ to the field [rad]", "gradient_declination": r"$\delta_\nabla$ [rad]",
    "gradient_right_ascension": r"$\alpha_\nabla$ [rad]",
}  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """One fit through the emulator and how well it predicts all data."""

    name: str
    posterior: EmulatedPosterior
    samples: WeightedSamples
    check: PredictiveCheck


def left_out(emulator: Emulator, name: str) -> tuple[str, ...]:
    """Return the labels that a case does not fit."""
    kept = {
        ALL: lambda label: True, TEN: lambda label: label.startswith(MAP),
        SERIES: lambda label: label.startswith("icecube-2025"), POWERS: lambda label: " l=" in label,
        DIPOLES: lambda label: " l=" not in label,
    }[name]  # fmt: skip
    return tuple(label for label in emulator.labels if not kept(label))


def fit(emulator: Emulator, name: str, *, size: float, seed: int, key: str) -> Fit:
    """Return one fit by importance sampling; `key` names its random numbers."""
    posterior = EmulatedPosterior(emulator, leave_out=left_out(emulator, name))
    samples = run_importance(
        posterior, rng=generator(seed, f"{key} {name}"), effective_size=size, max_evaluations=200_000
    )
    rng = generator(seed, f"{key} {name} predictive")
    return Fit(name, posterior, samples, predictive_check(posterior, samples.resample(2000, rng=rng), rng=rng))


def summary(fits: Sequence[Fit]) -> Table:
    """Return one row for each parameter of each fit."""
    parts = []
    for one in fits:
        table = one.samples.summary()
        table.meta.clear()
        table.add_column([one.name] * len(table), index=0, name="fit")
        table["predictive_p"] = one.check.p_value
        table["log_evidence"] = one.samples.log_evidence
        parts.append(table)
    return vstack(parts)


def draw(fits: Sequence[Fit], stem: Path) -> None:
    """Draw the data over what the fit of all data predicts, and the parameters of each fit."""
    check = fits[0].check.table
    with styled():
        figure = new_figure(7.4, 8.6)
        places = figure.subplot_mosaic("PPPDDD;aabbcc;ddeeff", height_ratios=(1.25, 1.0, 1.0))
        _draw_powers(places["P"], check)
        _draw_dipoles(places["D"], check)
        shown = [name for name in NAMES if name != "gradient_right_ascension"]
        for place, name in zip("abcdef", shown, strict=True):
            _draw_parameter(places[place], fits, name, labelled=place in "ad")
        save(figure, stem)


def _draw_powers(axes: Axes, check: Table) -> None:
    """Powers over the predicted medians, one series for each spectrum."""
    power = check[[" l=" in label for label in check["label"]]]
    spectra = list(dict.fromkeys(label.rpartition(" ")[0] for label in power["label"]))
    for number, name in enumerate(spectra):
        rows = power[[label.startswith(f"{name} ") for label in power["label"]]]
        ell = np.array([int(label.rpartition("=")[2]) for label in rows["label"]])
        style = series_style(number)
        place = ell + 0.14 * (number - 1.5)
        for low, high, width in (("p2.5", "p97.5", 1.0), ("p16", "p84", 3.0)):
            axes.vlines(place, rows[low] / rows["median"], rows[high] / rows["median"], color=style["color"],
                        alpha=0.35, linewidth=width)  # fmt: skip
        axes.plot(place, rows["data"] / rows["median"], color=style["color"], marker=style["marker"], markersize=4.5,
                  linestyle="none", label=f"{rows['energy_tev'][0]:g} TeV")  # fmt: skip
    axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", xlabel=r"multipole $\ell$", ylabel=r"$\hat C_\ell$ over predicted median")
    axes.legend(fontsize=8, ncols=2, loc="lower left")


def _draw_dipoles(axes: Axes, check: Table) -> None:
    """Components of the dipoles with what is predicted of them."""
    for number, axis in enumerate(("0h", "6h")):
        rows = check[[label.endswith(f" {axis}") for label in check["label"]]]
        style = series_style(number)
        place = np.asarray(rows["energy_tev"]) * (1 + 0.05 * (number - 0.5))
        for low, high, width in (("p2.5", "p97.5", 1.0), ("p16", "p84", 3.0)):
            axes.vlines(
                place, 1e3 * rows[low], 1e3 * rows[high], color=style["color"], alpha=0.35, linewidth=width
            )
        axes.plot(place, 1e3 * rows["data"], color=style["color"], marker=style["marker"], linestyle="none",
                  markersize=4.5, label=rf"$\delta_{{{axis}}}$")  # fmt: skip
    axes.axhline(0.0, color="0.4", linewidth=0.8, linestyle=":")
    energies = np.unique(check["energy_tev"][[" l=" not in label for label in check["label"]]])
    axes.set(xscale="log", xlabel="median energy [TeV]", ylabel=r"projected dipole [$10^{-3}$]",
             xlim=(energies[0] / 1.5, energies[-1] * 1.5))  # fmt: skip
    axes.set_xticks(energies, [f"{energy:g}" for energy in energies])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8, loc="lower left")


def _draw_parameter(axes: Axes, fits: Sequence[Fit], name: str, *, labelled: bool) -> None:
    """Intervals of one parameter by each fit, with the information gained; the axis spans the prior."""
    prior = next(p.prior for p in fits[0].posterior.parameters if p.name == name)
    for number, one in enumerate(fits):
        column = one.samples.names.index(name)
        low2, low, median, high, high2 = one.samples.quantile([0.025, 0.16, 0.5, 0.84, 0.975])[:, column]
        bits = float(one.samples.summary()["bits"][column])
        colour = COLOURS["blue"] if bits >= CLAIM else "0.55"
        axes.hlines(-number, low2, high2, color=colour, linewidth=1.0)
        axes.hlines(-number, low, high, color=colour, linewidth=3.0)
        axes.plot(median, -number, marker="o", color=colour, markersize=4.5)
        axes.text(0.98, -number + 0.16, f"{bits:.1f} bit", transform=axes.get_yaxis_transform(), ha="right",
                  fontsize=7, color=colour)  # fmt: skip
    axes.set(xlim=prior.ppf([1e-3, 1 - 1e-3]), ylim=(-len(fits) + 0.4, 0.7), xlabel=NAMES[name])
    axes.set_yticks(-np.arange(len(fits)), [one.name for one in fits] if labelled else [""] * len(fits))
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(False)


SMALL = "all power at l >= 2"
ALARM = 0.05
"""Share of own skies that a rule calls foreign."""


def told_apart(
    own: FloatArray, other: FloatArray, *, rng: np.random.Generator, parts: int = 6, repeats: int = 10
) -> float:
    """Return the share of other data that the best linear rule calls foreign, at a false alarm of `ALARM`.

    The rule knows both kinds: Fisher's, of the difference of their means and the covariance within them. It is learnt
    from fields other than those that it judges, in several parts, anew in each repeat.

    Parameters
    ----------
    own, other : ndarray, shape (n_field, n, n_data)
        Simulated data of each field, n_field at least `parts`.
    rng : numpy.random.Generator
        Of the parts.
    parts, repeats : int
        Into how many parts fields are divided, and how often.
    """
    shares = []
    for _ in range(repeats):
        scores = [np.empty(some.shape[:2]) for some in (own, other)]
        place = [rng.permutation(np.arange(len(some)) % parts) for some in (own, other)]
        if len(own) == len(other):  # the same fields, perhaps: no rule is to judge one that it has seen
            place[1] = place[0]
        for part in range(parts):
            learnt = [
                some[where != part].reshape(-1, some.shape[-1])
                for some, where in zip((own, other), place, strict=True)
            ]
            means = [some.mean(axis=0) for some in learnt]
            within = np.cov(np.concatenate([some - mean for some, mean in zip(learnt, means, strict=True)]).T)
            rule = np.linalg.solve(within, means[1] - means[0])
            for score, some, where in zip(scores, (own, other), place, strict=True):
                score[where == part] = (some[where == part] - means[0]) @ rule
        shares.append(np.mean(scores[1] > np.quantile(scores[0], 1.0 - ALARM)))
    return float(np.mean(shares))


def predicted(emulator: Emulator, *, size: float, seed: int) -> Table:
    """Return how each measurement is predicted by a fit of all others; last, all power at l >= 2 by one of the rest."""
    small = [label for label in emulator.labels if " l=" in label and not label.endswith(" l=1")]
    alone = [*dict.fromkeys(label.rpartition(" ")[0] for label in emulator.labels)]
    table = leave_one_out(emulator, seed=seed, effective_size=size, measurements=[*alone, small])
    table["left_out"] = [*alone, SMALL]
    return table


def numbers(fits: Sequence[Fit], without: Table) -> list[Comparison]:
    """Return what a page says of the fits, and of what was left out of them."""
    whole = fits[0]
    found = [
        Comparison(f"predictive p-value, {one.name}", None, one.check.p_value, note="small: the model fails")
        for one in fits
    ]
    for row in whole.samples.summary():
        claim = "" if row["bits"] >= CLAIM else "; below half a bit: nothing may be claimed"
        found.append(
            Comparison(
                f"{row['name']}, all data", None, float(row["median"]), unit=str(row["unit"]),
                note=f"68 %: {row['p16']:.3g} to {row['p84']:.3g}; {row['bits']:.2f} bit{claim}",
            )
        )  # fmt: skip
    found += [
        Comparison(f"p-value of {row['left_out']} by a fit without it", None, float(row["p_value"]))
        for row in without
    ]
    found.append(
        Comparison(f"tail of {SMALL}, summed, by a fit without it", None, float(without["power_tail"][-1]))
    )
    return found


def write_tables(
    context: Context, fits: Sequence[Fit], without: Table, evidence: Table, choices: dict[str, str | int | float]
) -> tuple[DataSource, ...]:
    """Write the tables of a page, and return the data they stand on."""
    sources = tuple(DataSource.of(source) for source in fits[0].posterior.likelihood.terms[0].provenances)
    for name, rows, text in (
        ("fits", summary(fits), "Posterior of each parameter of each fit, with the information gained."),
        (
            "predictive",
            fits[0].check.table,
            "Data and what the fit of all data predicts of repeated observations.",
        ),
        ("left-out", without, "How each measurement is predicted by a fit of all others."),
        ("evidence", evidence, "Evidence of data by model."),
    ):
        write_table(rows, context.directory / f"{name}.ecsv", data=sources, settings=choices, description=text)
    return sources
