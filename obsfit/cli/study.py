"""The command ``obsfit study``: the coverage of a fit's intervals over mock universes."""

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
    settings: CoverageConfiguration | UniverseConfiguration
    if _kind(configuration) == "universes":
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


def _kind(path: Path) -> str:
    """The study that a file asks for; errors of the file itself are told by its reader."""
    try:
        return str(tomllib.loads(path.read_bytes().decode("utf-8")).get("kind", "coverage"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return "coverage"
