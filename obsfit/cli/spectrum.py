"""The command ``obsfit spectrum``: from a sky map to its angular power spectrum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obsfit.cli.output import json_rows


def spectrum(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes map and field of view.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing spectrum.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Measure the angular power of a sky map, with its noise.

    \b
    A configuration:
      schema = 1
      output = "spectrum"                 # folder, relative to this file
      map = "reconstruction/counts.fits"  # HEALPix, counts and background
      energy = "10 TeV"
      lmax = 20
      [weight]                            # default: one wherever the map is observed
      dec_min = "-30 deg"
      dec_max = "60 deg"
      [decoupling]                        # powers of the sky in bins of l
      width = 3

    The output folder gets spectrum.ecsv, which 'obsfit fit' reads, decoupled.ecsv and covariance.ecsv where asked for,
    a picture, and spectrum.json with versions and checksums. The pseudo-powers are printed: weighted, cut, neither
    divided by the sky fraction nor decoupled, noise not subtracted.
    """
    from obsfit.configuration import load_configuration
    from obsfit.plot.pseudo_spectra import write_spectrum_product
    from obsfit.products import check_folder
    from obsfit.spectra.configured import (
        SpectrumConfiguration,
        decoupled_table,
        run_configured_spectrum,
        spectrum_table,
    )

    settings = load_configuration(configuration, SpectrumConfiguration)
    folder = configuration.parent / settings.output
    check_folder(folder, overwrite=overwrite)
    product = run_configured_spectrum(settings, base=configuration.parent)
    write_spectrum_product(product, folder, overwrite=overwrite)
    tables = {"spectrum": spectrum_table(product.spectrum)}
    if product.decoupled is not None:
        tables["decoupled"] = decoupled_table(product.decoupled)
    if as_json:
        rows = {name: json_rows(table) for name, table in tables.items()}
        typer.echo(json.dumps({"schema": 1, "folder": str(folder), **rows}))
        return
    for table in tables.values():
        for column in table.colnames:
            if table[column].dtype.kind == "f":
                table[column].info.format = ".4g"
        typer.echo("\n".join(table.pformat(max_width=-1)) + "\n")
    typer.echo(f"Files in {folder}")
