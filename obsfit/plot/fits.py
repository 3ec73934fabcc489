"""Pictures of a fit: corner plot, traces, and the data beside what the fit predicts."""

from __future__ import annotations

import corner as corner_library
import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from obsfit.infer.circles import centres, opened
from obsfit.infer.dipole_term import DipoleTerm
from obsfit.infer.emulated import EmulatedPosterior, EmulatedTerm
from obsfit.infer.one_sky_term import OneSkyTerm
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.infer.result import FitResult
from obsfit.infer.simulated_term import SimulatedTerm
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.parameters import FloatArray
from obsfit.plot.style import COLOURS, new_figure

# Enough for percentiles of the plots; the tables use all samples.
SAMPLES = 20_000


def weighted(fit: FitResult | WeightedSamples, size: int | None = None) -> tuple[FloatArray, FloatArray | None]:
    """Return the samples of a fit, shape (n, n_par), and their weights, shape (n,), or None where all are equal.

    Parameters
    ----------
    fit : FitResult or WeightedSamples
        A chain is thinned evenly to at most `size`; weighted samples are all kept.
    size : int, optional
        How many are enough.
    """
    return (fit.samples(size), None) if isinstance(fit, FitResult) else (fit.theta, fit.weight)


def corner(fit: FitResult | WeightedSamples) -> Figure:
    """Return the marginal and pairwise posterior of all parameters, with 68 and 95 % regions.

    Dashed lines on the diagonal: 16, 50 and 84 % quantiles. The cross marks the maximum of the posterior. Axes of
    circular parameters are cut opposite to their circular mean.
    """
    n_par = len(fit.names)
    samples, weight = weighted(fit, SAMPLES)
    centre = centres(samples, fit.circles, weight)
    samples, maximum = (opened(values, fit.circles, centre) for values in (samples, fit.maximum))
    figure = Figure(figsize=(1.0 + 1.55 * n_par, 1.0 + 1.55 * n_par))
    corner_library.corner(
        samples, weights=weight, labels=[_wrapped(label) for label in fit.labels], quantiles=(0.16, 0.5, 0.84),
        levels=(0.68, 0.95), truths=list(maximum), truth_color=COLOURS["vermilion"], fig=figure,
        show_titles=True, title_fmt=".2f", title_kwargs={"fontsize": 9}, label_kwargs={"fontsize": 10},
        plot_datapoints=False, smooth=0.8, max_n_ticks=3,
        # Some hundred effective samples fill fewer bins, and the tails of a proposal reach further than its weights.
        bins=20 if weight is None else 14, range=None if weight is None else [0.998] * n_par,
    )  # fmt: skip
    return figure


def trace(fit: FitResult) -> Figure:
    """Return the walkers' paths, one panel for each parameter; burn-in is shaded."""
    n_par = len(fit.names)
    figure = new_figure(7.0, 1.0 + 1.1 * n_par)
    panels = np.atleast_1d(figure.subplots(n_par, 1, sharex=True))
    every = max(1, len(fit.chain) // 1000)
    steps = np.arange(0, len(fit.chain), every)
    chain = opened(fit.chain, fit.circles, centres(fit.chain[fit.burn_in :], fit.circles))
    for index, axes in enumerate(panels):
        axes.plot(steps, chain[::every, ::4, index], color=COLOURS["blue"], alpha=0.25, linewidth=0.6)
        axes.axvspan(0, fit.burn_in, color="0.85", zorder=0)
        axes.set_ylabel(_wrapped(fit.labels[index]), fontsize=9)
        axes.set_xlim(0, len(fit.chain))
    panels[0].set_title(
        f"{fit.effective_steps:.0f} autocorrelation times after burn-in (grey), "
        f"acceptance {fit.acceptance:.2f}", fontsize=10,
    )  # fmt: skip
    panels[-1].set_xlabel("step")
    figure.align_ylabels()
    return figure


def predictive_table(
    posterior: Posterior | EmulatedPosterior,
    fit: FitResult | WeightedSamples,
    *,
    rng: np.random.Generator,
    term: int = 0,
    size: int = 4000,
) -> Table:
    """Return the data beside the posterior prediction of a repeated observation.

    Parameters
    ----------
    posterior : Posterior or EmulatedPosterior
        The posterior that was fitted.
    fit : FitResult or WeightedSamples
        Its samples.
    rng : numpy.random.Generator
        Source of the predicted data.
    term : int
        Which data set of the likelihood.
    size : int
        Number of samples that predict; weighted samples are drawn by their weights, with repetitions.

    Returns
    -------
    Table
        Columns: label, data, predicted median, 2.5, 16, 84 and 97.5 percentiles, and the mid-rank probability of a
        smaller value (a point is surprising below 0.025 or above 0.975).
    """
    observed = posterior.likelihood.terms[term]
    samples = fit.samples(size) if isinstance(fit, FitResult) else fit.resample(size, rng=rng)
    drawn = posterior.draw(samples, rng=rng)[term]
    low2, low, median, high, high2 = np.percentile(drawn, [2.5, 16, 50, 84, 97.5], axis=0)
    return Table(
        {
            "label": list(observed.labels), "data": observed.data, "median": median, "p2.5": low2, "p16": low,
            "p84": high, "p97.5": high2, "probability_below": (drawn < observed.data).mean(0),
        }
    )  # fmt: skip


def predictive_spectrum(term: PowerTerm, table: Table) -> Figure:
    """Return a spectrum with the band in which a repeated observation would fall.

    Parameters
    ----------
    term : PowerTerm
        The data set.
    table : Table
        Of `predictive_table`.
    """
    figure = new_figure()
    axes = figure.subplots()
    ell = term.record.ell
    axes.fill_between(
        ell, table["p2.5"], table["p97.5"], color=COLOURS["sky"], alpha=0.25, label="predicted, 95 %"
    )
    axes.fill_between(ell, table["p16"], table["p84"], color=COLOURS["sky"], alpha=0.5, label="predicted, 68 %")
    axes.plot(ell, table["median"], color=COLOURS["blue"], label="predicted median")
    axes.plot(ell, table["data"], "o", color=COLOURS["black"], label=term.record.provenance.name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([1, 2, 3, 5, 10, 20, 30, 50, 100]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(r"multipole $\ell$")
    axes.set_ylabel(r"$\hat{C}_\ell$ as observed (window and noise included)")
    axes.legend()
    return figure


def predictive_dipoles(term: DipoleTerm, table: Table) -> Figure:
    """Return both dipole components against energy, with the interval in which a repeated observation would fall.

    Parameters
    ----------
    term : DipoleTerm
        The data set.
    table : Table
        Of `predictive_table`.
    """
    figure = new_figure(7.0, 6.2)
    record = term.record
    spread = np.geomspace(0.94, 1.06, len(term.experiments))
    panels = figure.subplots(2, 1, sharex=True)
    for row, (axes, name) in enumerate(zip(panels, (r"$\delta_{0h}$", r"$\delta_{6h}$"), strict=True)):
        values = {key: np.asarray(table[key])[row::2] * 1e4 for key in table.colnames if key != "label"}
        error = np.sqrt(term.operator.summary.covariance[:, row, row]) * 1e4  # type: ignore[union-attr]
        for index, experiment in enumerate(term.experiments):
            own = np.array([o == experiment for o in record.observatory])
            energy = record.energy_tev[own] * spread[index]
            axes.vlines(energy, values["p2.5"][own], values["p97.5"][own], color=COLOURS["sky"], alpha=0.35, lw=5)
            axes.vlines(energy, values["p16"][own], values["p84"][own], color=COLOURS["sky"], alpha=0.8, lw=5)
            axes.errorbar(
                energy, values["data"][own], error[own], fmt="osDv^<>Pdh"[index % 10], label=experiment,
                color=list(COLOURS.values())[index % len(COLOURS)], linestyle="none",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=10)
        axes.axhline(0, color="0.5", lw=0.8)
        axes.set_ylabel(f"{name} [$10^{{-4}}$]")
    panels[1].set_xlabel("median energy [TeV]")
    panels[0].legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.32))
    return figure


def predictive_one_sky(term: OneSkyTerm | SimulatedTerm | EmulatedTerm, table: Table) -> Figure:
    """Return all spectra and dipoles of one sky, with the intervals in which repeated observations would fall.

    One panel for each spectrum, power over the predicted median, and one for the components of all dipoles.

    Parameters
    ----------
    term : OneSkyTerm, SimulatedTerm or EmulatedTerm
        The data sets.
    table : Table
        Of `predictive_table`.
    """
    n_panel = len(term.spectra) + bool(term.dipoles)
    columns = min(n_panel, 3)
    rows = -(-n_panel // columns)
    figure = new_figure(3.2 * columns + 0.6, 2.5 * rows + 0.5)
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    start = 0
    for axes, record in zip(panels, term.spectra, strict=False):
        own = table[start : start + len(record)]
        start += len(record)
        median = np.asarray(own["median"])
        for low, high, alpha, label in (("p2.5", "p97.5", 0.3, "95 %"), ("p16", "p84", 0.8, "68 %")):
            axes.vlines(
                record.ell, own[low] / median, own[high] / median, color=COLOURS["sky"], alpha=alpha, lw=5,
                label=f"predicted, {label}",
            )  # fmt: skip
        axes.plot(record.ell, own["data"] / median, "o", color=COLOURS["black"], markersize=4, label="observed")
        axes.axhline(1.0, color="0.5", lw=0.8)
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_locator(FixedLocator([1, 2, 3, 5, 10, 20, 40]))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(record.measurement, fontsize=9)
    if term.dipoles:
        axes, own = panels[len(term.spectra)], table[start:]
        place = np.arange(len(own))
        for low, high, alpha in (("p2.5", "p97.5", 0.3), ("p16", "p84", 0.8)):
            axes.vlines(place, own[low] * 1e4, own[high] * 1e4, color=COLOURS["sky"], alpha=alpha, lw=5)
        axes.plot(place, own["data"] * 1e4, "o", color=COLOURS["black"], markersize=4)
        axes.axhline(0.0, color="0.5", lw=0.8)
        axes.set_title("dipole components (0h, 6h)", fontsize=9)
        axes.set_ylabel("$10^{-4}$")
        axes.set_xticks([])
    for axes in panels[n_panel:]:
        axes.set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    figure.supxlabel(r"multipole $\ell$")
    figure.supylabel("power over predicted median")
    return figure


def predictive(
    posterior: Posterior | EmulatedPosterior,
    fit: FitResult | WeightedSamples,
    *,
    rng: np.random.Generator,
    term: int = 0,
) -> Figure:
    """Return the posterior-predictive figure of one data set, whatever its kind."""
    observed = posterior.likelihood.terms[term]
    table = predictive_table(posterior, fit, rng=rng, term=term)
    if isinstance(observed, PowerTerm):
        return predictive_spectrum(observed, table)
    if isinstance(observed, OneSkyTerm | SimulatedTerm | EmulatedTerm):
        return predictive_one_sky(observed, table)
    return predictive_dipoles(observed, table)


def _wrapped(label: str) -> str:
    """A label that fits beside a small panel."""
    return label if "$" in label or len(label) < 16 else label.replace(" ", "\n", 1)
