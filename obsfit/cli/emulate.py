"""The command ``obsfit emulate``: learn the density of data from the simulations of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obsfit.cli.output import json_rows


def emulate(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes the emulator.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing emulator.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Learn the density of data given parameters, for a model that has a store of simulated fields.

    \b
    A configuration:
      schema = 1
      seed = 1
      model = "simulated-turbulence"
      output = "emulator.h5"              # relative to this file
      fields = 0                          # of the store; 0 stands for all
      per_field = 40                      # simulations of each field
      degree = 2                          # of the polynomials; [2, 3] takes the better one
      scale_degree = 1                    # of those of the widths
      correlation_along = ""              # parameter along which correlations change: an amplitude, with noise
      replicates = 12                     # for the error of what is learnt
      [options]                           # settings of the model
      library = "design.h5"
      [[data]]                            # all data are seen on one sky
      spectrum = "hawc-icecube-2019"      # a shipped name or a path
      ell_max = 10
      [[data]]
      spectrum = "icecube-2025"
      energies = ["13 TeV", "24 TeV"]     # or ["all"]
      ell_max = 6
      [[data]]
      dipoles = "ahlers-mertsch-2017"
      rows = ["icecube-2016-13TeV", "tibet-2015-15TeV"]

    The table has, for each number of the data, the width of what is predicted, two errors of the emulator in the same
    units (logarithms of powers, dipoles over their amplitude), their ratio to the width, and a p-value that fields
    which were held out are predicted rightly.
    """
    import os

    # Before numpy is loaded: the numbers are then the same, to the last bit, for any number of threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from obsfit.configuration import load_configuration
    from obsfit.emulate.configured import EmulatorConfiguration, train_configured

    settings = load_configuration(configuration, EmulatorConfiguration)
    emulator, path = train_configured(settings, base=configuration.parent, overwrite=overwrite)
    table = emulator.checks
    if table is None:
        raise RuntimeError("a trained emulator has its checks")
    fields, learnt = emulator.configuration["fields"], emulator.surrogate.configuration
    if as_json:
        told = {"schema": 1, "product": str(path), "fields": fields, "surrogate": dict(learnt)}
        typer.echo(json.dumps({**told, "data": json_rows(table)}))
        return
    for name in table.colnames[1:]:
        table[name].info.format = ".2g"
    typer.echo("\n".join(table.pformat(max_width=-1, max_lines=-1)))
    typer.echo(f"\n{path}: {fields} fields, {fields * settings.per_field} simulations, degree {learnt['degree']}")
