"""Files behind figures and fits: tables that say which data and settings they come from, and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from astropy.table import Table

from obsfit import __version__
from obsfit.errors import ConfigurationError
from obsfit.infer.emcee_runner import SamplerSettings, run_emcee
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.left_out import left_out_energy, predict_left_out
from obsfit.infer.partial import PartialPosterior
from obsfit.infer.posterior import Posterior
from obsfit.infer.result import FitResult
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.plot import fits
from obsfit.plot.report import DataSource
from obsfit.plot.style import save, styled
from obsfit.provenance import source_checksum

FORMAT = "obsfit-figure-table"
FORMAT_VERSION = 1

# Samples of a chain from which data that were left out are predicted.
LEFT_OUT_SAMPLES = 4000


def write_table(
    table: Table,
    path: str | Path,
    *,
    description: str,
    data: Sequence[DataSource] = (),
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Write the numbers of a figure as ECSV and return the path; an older file of that name is replaced.

    Parameters
    ----------
    table : astropy.table.Table
        Columns with units and descriptions.
    path : str or Path
        File to write; its folder is made.
    description : str
        One sentence: what the rows are.
    data : sequence of DataSource
        Data sets that went in; name and checksum are stored.
    settings : mapping, optional
        Choices that a reader needs to make the table again (seed, sizes).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.copy()
    table.meta.update(
        obsfit_format=FORMAT,
        format_version=FORMAT_VERSION,
        obsfit_version=__version__,
        description=description,
        data=[{"name": source.name, "sha256": source.sha256} for source in data],
        settings=dict(settings or {}),
    )
    partial = path.with_name(path.name + ".partial")
    table.write(partial, format="ascii.ecsv", overwrite=True)
    partial.replace(path)
    return path


def write_fit(
    posterior: Posterior | EmulatedPosterior,
    fit: FitResult | WeightedSamples,
    folder: str | Path,
    *,
    rng: np.random.Generator,
) -> Table:
    """Write summary, prediction and plots of a fit into a folder, and return the summary.

    Parameters
    ----------
    posterior : Posterior or EmulatedPosterior
        The posterior that was fitted.
    fit : FitResult or WeightedSamples
        Its samples.
    folder : str or Path
        Gets summary.ecsv, predictive.ecsv and corner, predictive and, for a chain, trace as PNG and SVG. Without a
        chain, the trace of an older fit there is removed.
    rng : numpy.random.Generator
        Source of the predicted data.

    Returns
    -------
    Table
        The summary of `fit`.
    """
    folder = Path(folder)
    sources = [DataSource.of(origin) for term in posterior.likelihood.terms for origin in term.provenances]
    summary = fit.summary()
    for name in summary.colnames[2:]:
        summary[name].info.format = ".4g"
    write_table(summary, folder / "summary.ecsv", description="Posterior of each parameter", data=sources)
    predicted = fits.predictive_table(posterior, fit, rng=rng)
    write_table(predicted, folder / "predictive.ecsv", description="Data and posterior prediction", data=sources)
    with styled():
        save(fits.corner(fit), folder / "corner")
        if isinstance(fit, FitResult):
            save(fits.trace(fit), folder / "trace")
        else:
            for suffix in ("png", "svg"):
                (folder / f"trace.{suffix}").unlink(missing_ok=True)
        save(fits.predictive(posterior, fit, rng=rng), folder / "predictive")
    return summary


def write_left_out(
    posterior: Posterior | EmulatedPosterior,
    fit: FitResult | WeightedSamples,
    folder: str | Path,
    *,
    rng: np.random.Generator,
) -> Table | None:
    """Write how well a fit predicts the data that it leaves out, and return it; None where it leaves none out.

    Parameters
    ----------
    posterior : Posterior or EmulatedPosterior
        The posterior that was fitted.
    fit : FitResult or WeightedSamples
        Its samples.
    folder : str or Path
        Gets left_out.ecsv; where nothing is left out, that of an older fit there is removed.
    rng : numpy.random.Generator
        Source of the predicted data.

    Returns
    -------
    Table or None
        One row for each datum: label, energy_tev, data and probability_below, that of a smaller number. ``meta`` has
        p_value, log_density and draws of `obsfit.infer.left_out.Prediction`, of all of them together.
    """
    path = Path(folder) / "left_out.ecsv"
    if not isinstance(posterior, PartialPosterior | EmulatedPosterior) or not posterior.left_out:
        path.unlink(missing_ok=True)
        return None
    samples, weight = fits.weighted(fit, LEFT_OUT_SAMPLES)
    found = predict_left_out(posterior, samples, weight, rng=rng)
    term = posterior.term if isinstance(posterior, PartialPosterior) else posterior.likelihood.terms[0]
    table = Table(
        {
            "label": list(found.labels), "energy_tev": left_out_energy(posterior),
            "data": term.data[[term.labels.index(label) for label in found.labels]], "probability_below": found.pit,
        }
    )  # fmt: skip
    choices = {"p_value": found.p_value, "log_density": found.log_density, "draws": found.effective_size}
    sources = [DataSource.of(origin) for origin in term.provenances]
    text = "Data that were not fitted, and the probability of smaller ones given those that were"
    write_table(table, path, description=text, data=sources, settings=choices)
    table.meta.update(choices)
    return table


def stored_fit(
    posterior: Posterior,
    path: str | Path,
    *,
    rng: np.random.Generator,
    settings: SamplerSettings,
    seed: int,
    choices: Mapping[str, object] | None = None,
) -> FitResult:
    """Return the fit of a posterior that is stored in `path`, or make it.

    A finished fit is taken as it is and an unfinished one goes on, if seed, settings, data and the programs of
    framework and models are the same as when it was begun. Otherwise it is made anew and replaces the old one: a stored
    chain of an older program would pass unnoticed.

    Parameters
    ----------
    posterior : Posterior
        What to sample.
    path : str or Path
        HDF5 file; its folder is made.
    rng : numpy.random.Generator
        Source of all draws of a new fit.
    settings : SamplerSettings
        How long to sample.
    seed : int
        Seed from which `rng` was made.
    choices : mapping, optional
        Settings of model and data that the names of the parameters do not tell, in JSON's types.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    configuration = {
        "seed": seed,
        "sampler": asdict(settings),
        "data": dict(posterior.likelihood.data_checksums),
        "programs": source_checksum(without=("plot", "cli", "study")),
        "choices": dict(choices or {}),
    }
    try:
        return run_emcee(
            posterior, rng=rng, settings=settings, store=path, resume=True, seed=seed, configuration=configuration
        )
    except ConfigurationError:
        if not path.exists():
            raise
    return run_emcee(
        posterior, rng=rng, settings=settings, store=path, overwrite=True, seed=seed, configuration=configuration
    )
