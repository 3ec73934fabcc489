"""The command ``obsfit ensemble``: a library of realisations from which a model draws its skies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

Value = float | int | str | None


def ensemble(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes the ensemble.")],
    workers: Annotated[int, typer.Option(help="Processes; the numbers do not depend on it.", min=1)] = 1,
    scheduler: Annotated[
        str,
        typer.Option(help="Dask scheduler, such as tcp://host:8786, or 'local': its workers do the tasks."),
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing product.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Compute many skies of one model, such as displacement skies of many turbulent fields.

    \b
    A configuration:
      schema = 1
      model = "turbulent-displacement"    # the default; the other keys are those of the model
      seed = 1
      realisations = 100                  # fields
      gyroradius = [0.1, 0.03]            # in units of length; or rigidity = ["20 TV"], with units
      times = [40, 160, 320]              # of back-tracking, in 1/Omega
      nside = 16
      lmax = 12
      output = "ensemble"                 # folder, relative to this file
      [turbulence]
      wavelength_min = 0.06               # the unit of length is the bend-over length
      wavelength_max = 100.0

    The output folder gets ensemble.h5, and the results of the tasks. A run that is interrupted, or killed, goes on
    when it is called again, with the same workers or with others; so does one with more realisations, with
    --overwrite. Docs: docs/ensembles.md.
    """
    import os
    import sys

    # Before numpy is loaded: the numbers are then the same, to the last bit, for any number of workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from obsfit.study.ensembles import run_configured_ensemble

    summary = run_configured_ensemble(
        configuration, workers=workers, scheduler=scheduler or None, progress=sys.stderr.isatty(),
        overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        told = {"schema": 1, "product": str(summary.path), **summary.facts, "rows": list(summary.rows)}
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{summary.path}: " + ", ".join(f"{key} {_text(value)}" for key, value in summary.facts.items()))
    for line in _table(summary.rows):
        typer.echo(line)


def _table(rows: Sequence[Mapping[str, Value]]) -> list[str]:
    """Rows as lines of columns as wide as their widest entry."""
    if not rows:
        return []
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]


def _text(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
