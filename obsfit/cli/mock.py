"""The command ``obsfit mock``: a mock observation described by a TOML file, as event maps and event lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def mock(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes sky and detectors.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing mock.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Make mock event maps, and event lists if wanted, of detectors in one sky.

    \b
    A configuration:
      schema = 1
      seed = 1
      output = "mock"                     # folder, relative to this file
      [sky]                               # all that is given adds
      dipole = [1e-3, 5e-4, 0.0]          # components (0h, 6h, N)
      power = { amplitude = 1e-8, slope = 3, ell_min = 2, ell_max = 20 }
      [[detectors]]
      name = "HAWC"                       # a known site, or with a latitude of its own
      zenith_max = "57 deg"
      events = 1e10
      exposure = [{ clock = "sidereal", amplitude = 0.1, phase = "40 deg" }]

    The output folder gets NAME.h5 for each detector, sky.fits with the true sky, and mock.json with versions and
    checksums. Reconstruct with 'obsfit reconstruct'. Docs: docs/reconstruction.md.
    """
    from obsfit.configuration import load_configuration
    from obsfit.mock.configured import MockConfiguration, run_configured_mock

    settings = load_configuration(configuration, MockConfiguration)
    product = run_configured_mock(settings, base=configuration.parent, overwrite=overwrite)
    folder = configuration.parent / settings.output
    rows = [
        {"file": name, "detector": one.detector, "energy": one.energy, "frame": one.frame, "events": one.total}
        for name, one in product.maps.items()
    ]
    lists = [{"file": name, "events": len(table)} for name, table in product.lists.items()]
    if as_json:
        told = {"schema": 1, "folder": str(folder), "maps": rows, "lists": lists, "skies": list(product.skies)}
        typer.echo(json.dumps(told))
        return
    for row in rows:
        label = f", {row['energy']}" if row["energy"] else ""
        typer.echo(f"{folder / str(row['file'])}: {row['events']:.10g} events of {row['detector']}{label}")
    for entry in lists:
        typer.echo(f"{folder / str(entry['file'])}: list of {entry['events']} events")
    for name in product.skies:
        typer.echo(f"{folder / name}: true sky")
