"""The command ``obsfit study``: coverage of fits over mock universes, and systematics of reconstructions."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from obsfit.cli.output import json_rows


def study(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes the study.")],
    workers: Annotated[int, typer.Option(help="Processes; the numbers do not depend on it.", min=1)] = 1,
    scheduler: Annotated[
        str,
        typer.Option(help="Dask scheduler, such as tcp://host:8786, or 'local': its workers do the mocks."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Test a fit on mock universes: how often its 68 and 95 % intervals cover the truth.

    \b
    A configuration:
      schema = 1
      seed = 1
      mocks = 200
      output = "coverage"                 # folder, relative to this file
      [fit]
      seed = 0                            # not used here
      [fit.data]
      spectrum = "hawc-icecube-2019"
      [fit.model]
      names = ["relative-diffusion"]

    Truths are drawn from the priors, skies and observations are made on maps. An interrupted study continues when
    it is called again, with the same workers or with others. Exit code 4 if a coverage is off by more than 3.5
    binomial standard errors.

    With kind = "universes", the fit may have several data sets ([[fit.data]]), seen on one sky, and its joint
    likelihood stands beside the product of likelihoods that each assume a sky of their own; the verdict is that of
    the joint one.

    With kind = "systematics", mock skies are observed by mock observatories and reconstructed by several methods, and
    bias, scatter, coverage and null tests of dipole, multipoles and power are written to the output folder as tables
    and plots; analyses/systematics has examples.
    """
    import os
    import sys

    # Before numpy is loaded: the numbers are then the same, to the last bit, for any number of workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from obsfit.configuration import load_configuration
    from obsfit.plot.products import write_table
    from obsfit.study.coverage import CoverageConfiguration, is_calibrated, run_coverage
    from obsfit.study.universes import UniverseConfiguration, run_universes

    how: dict[str, Any] = {
        "base": configuration.parent, "workers": workers, "scheduler": scheduler or None,
        "progress": sys.stderr.isatty(),
    }  # fmt: skip
    if (kind := _kind(configuration)) == "systematics":
        _systematics(configuration, as_json, how)
        return
    settings: CoverageConfiguration | UniverseConfiguration
    if kind == "universes":
        settings = load_configuration(configuration, UniverseConfiguration)
        table = run_universes(settings, **how)
        passed = is_calibrated(table[table["analysis"] == "joint"])
        told = {"seed": settings.seed, "mocks": settings.mocks, "effective_size": settings.effective_size}
    else:
        settings = load_configuration(configuration, CoverageConfiguration)
        table = run_coverage(settings, **how)
        passed = is_calibrated(table)
        told = {"seed": settings.seed, "mocks": settings.mocks, "small_scale": settings.small_scale}
    path = configuration.parent / settings.output / "coverage.ecsv"
    write_table(table, path, description="Coverage of posterior intervals over mock universes", settings=told)
    if as_json:
        verdict = {"schema": 1, "calibrated": passed, "parameters": json_rows(table)}
        counts = {key: table.meta[key] for key in ("mocks", "not_converged")}
        typer.echo(json.dumps(verdict | counts))
    else:
        typer.echo("\n".join(table.pformat(max_width=-1)))
        typer.echo(f"{table.meta['mocks']} mocks, {table.meta['not_converged']} not converged and left out")
    if not passed:
        raise typer.Exit(4)


def _systematics(configuration: Path, as_json: bool, how: dict[str, Any]) -> None:
    from obsfit.configuration import load_configuration
    from obsfit.plot.systematics import write_summary
    from obsfit.study.systematics import SystematicsConfiguration, run_systematics

    settings = load_configuration(configuration, SystematicsConfiguration)
    summary = run_systematics(settings, **how)
    told = {"seed": settings.seed, "realisations": settings.realisations, "skies": settings.skies}
    write_summary(summary, configuration.parent / settings.output, settings=told)
    if as_json:
        tables = ("numbers", "nulls", "covariances", "refusals")
        typer.echo(json.dumps({"schema": 1} | {name: json_rows(getattr(summary, name)) for name in tables}))
        return
    dipoles = summary.numbers[[name in ("A_1", "alpha_1") for name in summary.numbers["number"]]]
    for table in (dipoles, summary.nulls, summary.covariances, summary.refusals):
        if len(table):
            typer.echo("\n".join(table.pformat(max_lines=-1, max_width=-1)))


def _kind(path: Path) -> str:
    """The study that a file asks for; errors of the file itself are told by its reader."""
    try:
        return str(tomllib.loads(path.read_bytes().decode("utf-8")).get("kind", "coverage"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return "coverage"
