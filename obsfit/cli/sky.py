"""The command ``obsfit sky``: the one sky behind the maps of several observatories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obsfit.cli.output import json_rows


def sky(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes maps, bands and priors.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Sample the one sky that several observatories see: its a_lm, their power, amplitudes and noise.

    \b
    A configuration:
      schema = 1
      seed = 1
      output = "one-sky"                  # folder, relative to this file
      [[observatories]]
      name = "IceCube"
      map = "map.fits"                    # HEALPix, equatorial
      column = "RELINT"
      dec_min = "-90 deg"
      dec_max = "-30 deg"
      smoothing = "5 deg"                 # radius of the discs of the map
      noise = "hawc-icecube-2019-noise"   # a shipped name or a path

    The output folder gets sky.h5 with the samples, spectrum.ecsv and nuisances.ecsv. Power and nuisances are printed
    with 68 and 95 % intervals. An interrupted or killed run continues with --resume to the same result.
    """
    import sys

    from obsfit.configuration import load_configuration
    from obsfit.infer.configured_sky import SkyConfiguration, run_configured_sky
    from obsfit.plot.products import write_table

    settings = load_configuration(configuration, SkyConfiguration)
    found = run_configured_sky(
        settings, base=configuration.parent, resume=resume, overwrite=overwrite, progress=sys.stderr.isatty()
    )
    folder = configuration.parent / settings.output
    tables = {"spectrum": found.spectrum(), "nuisances": found.nuisances()}
    said = {"spectrum": "Posterior of C_l", "nuisances": "Posterior of relative amplitudes and noise scales"}
    for name, table in tables.items():
        for column in table.colnames:
            if table[column].dtype.kind == "f":
                table[column].info.format = ".4g"
        write_table(table, folder / f"{name}.ecsv", description=said[name], settings={"seed": settings.seed})
    if as_json:
        rows = {name: json_rows(table) for name, table in tables.items()}
        typer.echo(json.dumps({"schema": 1, "folder": str(folder), "sweeps": found.sweeps, **rows}))
    else:
        typer.echo("\n\n".join("\n".join(table.pformat(max_width=-1)) for table in tables.values()))
        worst = int(found.effective.argmin())
        typer.echo(
            f"\n{found.sweeps} sweeps of {len(found.c_ell)} chains; at least {found.effective[worst]:.0f} effective "
            f"samples ({found.names[worst]}), R-hat up to {found.r_hat.max():.3f}"
        )
