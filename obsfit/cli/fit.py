"""The command ``obsfit fit``: a fit described by a TOML file, with its plots and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obsfit.cli.output import json_rows


def fit(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes the fit.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted fit.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing fit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Fit a model to measurements as a configuration file says.

    \b
    A configuration:
      schema = 1
      seed = 1
      output = "fit-10tev"                # folder, relative to this file
      method = "emcee"                    # or "importance": quicker, for one maximum; gives the evidence; or "nested"
      [data]
      spectrum = "hawc-icecube-2019"      # a shipped name or a path
      ell_min = 2
      [model]
      names = ["relative-diffusion"]      # several names: their skies add
      [priors.exponent]
      distribution = "uniform"
      low = 0.1
      high = 0.9

    In place of data and model, a trained emulator of both: emulator = "turbulence", or a file of `obsfit emulate`.
    leave_out = ["icecube-2025-24TeV"] leaves out some of its data, or of several data sets of one sky, and predicts
    them from the others.

    The output folder gets fit.h5, summary.ecsv, predictive.ecsv, of what was left out left_out.ecsv, and the plots
    corner, predictive and, of emcee, trace.
    The summary is printed, with the information gained on each parameter in bits. An interrupted or killed fit with
    emcee continues with --resume to the same result; one by another method is run again.
    """
    import sys

    import numpy as np

    from obsfit.configuration import load_configuration
    from obsfit.infer.configured import FitConfiguration, run_configured
    from obsfit.infer.weighted_samples import WeightedSamples
    from obsfit.plot.products import write_fit, write_left_out

    settings = load_configuration(configuration, FitConfiguration)
    posterior, result = run_configured(
        settings, base=configuration.parent, resume=resume, overwrite=overwrite, progress=sys.stderr.isatty()
    )
    folder = configuration.parent / settings.output
    table = write_fit(posterior, result, folder, rng=np.random.default_rng([settings.seed, 1]))
    left_out = write_left_out(posterior, result, folder, rng=np.random.default_rng([settings.seed, 2]))
    if as_json:
        about = {"schema": 1, "folder": str(folder), "method": settings.method, "run": dict(table.meta)}
        if left_out is not None:
            numbers = {name: left_out.meta[name] for name in ("p_value", "log_density", "draws")}
            about["left_out"] = {**numbers, "data": json_rows(left_out)}
        typer.echo(json.dumps({**about, "parameters": json_rows(table)}))
    else:
        typer.echo("\n".join(table.pformat(max_width=-1)))
        if isinstance(result, WeightedSamples):
            typer.echo(
                f"\nlog evidence {result.log_evidence:.2f} +- {result.log_evidence_error:.2f}; "
                f"{result.effective_size:.0f} effective samples from {result.evaluations} evaluations"
            )
        if table.meta["unclaimed"]:
            typer.echo(f"\n{table.meta['unclaimed']}")
        if left_out is not None:
            typer.echo(f"\nLeft out and predicted from the others: p-value {left_out.meta['p_value']:.3g}")
            typer.echo("\n".join(left_out.pformat(max_width=-1)))
