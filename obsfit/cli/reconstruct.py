"""The command ``obsfit reconstruct``: from counted events or event lists to maps, multipoles and dipoles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obsfit.cli.output import json_rows


def reconstruct(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes detectors and method.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing reconstruction.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Reconstruct the sky from the events of one or several detectors.

    \b
    A configuration:
      schema = 1
      seed = 1
      output = "reconstruction"           # folder, relative to this file
      method = "iterative-likelihood"     # or low-multipole-likelihood, east-west, ...
      energy = "10 TeV"                   # writes dipole.ecsv for 'obsfit fit'
      [settings]                          # of the method
      tolerance = 1e-10
      [[detectors]]
      events = "mock/HAWC.h5"             # event map, as of 'obsfit mock'
      [[detectors]]
      name = "IceCube"                    # a list of events: site and columns
      events = "events.parquet"
      [detectors.columns]
      time = { name = "mjd", format = "mjd" }
      [detectors.columns.local]
      azimuth = "azimuth"
      zenith = "zenith"
      unit = "rad"
      azimuth_convention = "icecube"

    \b
    Methods: iterative-likelihood, low-multipole-likelihood, direct-integration,
    time-scrambling, east-west, forward-backward, right-ascension-projection,
    rayleigh. What each needs and loses: docs/reconstruction.md.

    The output folder gets harmonics.ecsv; of methods that find multipoles multipoles.ecsv; of methods that make maps
    reconstruction.h5, map.fits, counts.fits, significance.fits and their pictures; and reconstruction.json with
    covariance, response, documented loss, versions and checksums. The dipole is printed.
    """
    from obsfit.configuration import load_configuration
    from obsfit.plot.reconstructions import write_reconstruction
    from obsfit.products import check_folder
    from obsfit.reconstruct.configured import (
        ReconstructionConfiguration,
        harmonic_table,
        run_configured_reconstruction,
    )

    settings = load_configuration(configuration, ReconstructionConfiguration)
    folder = configuration.parent / settings.output
    check_folder(folder, overwrite=overwrite)
    product = run_configured_reconstruction(settings, base=configuration.parent)
    manifest = write_reconstruction(product, folder, overwrite=overwrite)
    table = harmonic_table(product.harmonics)
    spec = product.harmonics.spec
    if as_json:
        told = {
            "schema": 1, "folder": str(folder), "method": spec.method, "loss": spec.loss, "frame": spec.frame,
            "harmonics": json_rows(table), "left_out": product.left_out,
            "null_tests": [{"name": test.name, "probability": test.probability} for test in product.nulls],
            "files": sorted(json.loads(manifest.read_text(encoding="utf-8"))["files"]),
        }  # fmt: skip
        typer.echo(json.dumps(told))
        return
    for name in table.colnames[1:]:
        table[name].info.format = ".4g"
    typer.echo(f"{spec.method} of {', '.join(spec.detectors)}, {spec.frame} frame")
    typer.echo("\n".join(table.pformat(max_width=-1, show_unit=True)))
    for test in product.nulls:
        typer.echo(f"null test, {test.name}: probability {test.probability:.3g}")
    typer.echo(f"Lost: {spec.loss}")
    for name, why in product.left_out.items():
        typer.echo(f"Not made: {name}: {why}")
    typer.echo(f"Files in {folder}")
