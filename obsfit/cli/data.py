"""obsfit data: which measurements are at hand, what a file says, and how a user's file is understood."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import degrees, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from obsfit.ingest.tables import Sheet

app = typer.Typer(help="List, show and check the measurements at hand.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
STORY = (
    "title", "journal", "arxiv", "doi", "bibcode", "location", "transcription", "date", "licence", "citation_status",
    "citations", "caution", "errata",
)  # fmt: skip


@app.command("list")
def list_data(as_json: AsJson = False) -> None:
    """List the shipped measurements and the releases that can be fetched.

    Example: obsfit data list
    """
    from obsfit.ingest.catalogue import available_data, load_sheet, record_kind
    from obsfit.ingest.fetch import fetchable

    sheets = {name: load_sheet(name) for name in available_data()}
    if as_json:
        data = [
            {
                "name": name,
                "record": record_kind(sheet),
                "rows": sheet.n_rows,
                "title": str(sheet.meta.get("title", "")),
            }
            for name, sheet in sheets.items()
        ]
        remote = [{"name": entry.name, "url": entry.url, "story": entry.story} for entry in fetchable()]
        _print_json({"data": data, "fetchable": remote})
        return
    width = max(map(len, sheets))
    for name, sheet in sheets.items():
        typer.echo(
            f"{name:{width}}  {record_kind(sheet):10}  {sheet.n_rows:4} rows  {sheet.meta.get('title', '')}"
        )
    for entry in fetchable():
        typer.echo(f"{entry.name:{width}}  to fetch: obsfit data fetch {entry.name}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name as 'obsfit data list' prints it, or a file.")],
    as_json: AsJson = False,
) -> None:
    """Show a table with its units, its story and what it overlaps with.

    Example: obsfit data show ahlers-mertsch-2017
    """
    from obsfit.ingest.catalogue import load_sheet
    from obsfit.ingest.provenance import provenance_of

    sheet = load_sheet(name)
    overlaps = provenance_of(sheet).overlaps
    if as_json:
        columns = [
            {"name": key, "unit": sheet.units[key], "description": sheet.descriptions[key], "values": list(cells)}
            for key, cells in sheet.cells.items()
        ]
        meta = {key: value for key, value in sheet.meta.items() if key != "overlaps"}
        _print_json(
            {
                "name": sheet.stem,
                "sha256": sheet.sha256,
                "meta": meta,
                "overlaps": list(overlaps),
                "columns": columns,
            }
        )
        return
    for line in _aligned(sheet):
        typer.echo(line)
    typer.echo("")
    for key in STORY:
        value = sheet.meta.get(key)
        for text in value if isinstance(value, list) else [value]:
            if text:
                typer.echo(f"{key}: {text}")
    typer.echo(f"overlaps with: {', '.join(overlaps) or 'nothing known'}")
    typer.echo(f"sha256: {sheet.sha256}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="ECSV or CSV file of dipoles, a spectrum or a projection.")],
    as_json: AsJson = False,
) -> None:
    """Say how a file of yours is understood, or all that is wrong with it (exit code 3).

    Example: obsfit data check my_dipoles.csv
    """
    from obsfit.ingest.tables import read_sheet

    understood = _understood(read_sheet(file))
    if as_json:
        _print_json({"path": str(file), **understood})
        return
    typer.echo(f"{file}: {understood.pop('summary')}")
    for key, value in understood.items():
        typer.echo(f"  {key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of a release as 'obsfit data list' prints it.")],
    folder: Annotated[Path | None, typer.Option(help="Where to keep it; default the user's cache.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download a public release and verify, or record, its checksums.

    Example: obsfit data fetch icecube-2025-release
    """
    from obsfit.ingest.fetch import fetch as fetch_release

    files = fetch_release(name, folder=folder)
    if as_json:
        rows = [{"path": str(entry.path), "sha256": entry.sha256, "checksum": entry.checksum} for entry in files]
        _print_json({"name": name, "files": rows})
        return
    for entry in files:
        typer.echo(f"{entry.path}  sha256 {entry.sha256} {entry.checksum}")


def _understood(sheet: Sheet) -> dict[str, Any]:
    """Return how a sheet is read: by the record that it declares, else by its columns."""
    import numpy as np

    from obsfit.ingest.catalogue import record_kind
    from obsfit.ingest.dipoles import dipoles_from_sheet
    from obsfit.ingest.projections import projection_from_sheet
    from obsfit.ingest.spectra import spectra_from_sheet
    from obsfit.ingest.tables import as_table

    kind = record_kind(sheet)
    if not kind:
        columns = set(sheet.names)
        if columns & {"ell", "c_ell"}:
            kind = "spectrum"
        elif columns & {"right_ascension", "relative_intensity"}:
            kind = "projection"
        else:
            kind = "dipoles"
    if kind == "dipoles":
        dipoles = dipoles_from_sheet(sheet)
        energies = dipoles.energy_tev
        return {
            "summary": f"{len(dipoles)} dipoles",
            "record": kind,
            "observatories": list(dict.fromkeys(dipoles.observatory)),
            "methods": list(dict.fromkeys(dipoles.method)),
            "energies": f"{energies.min():g} to {energies.max():g} TeV",
            "declinations": _bands(dipoles.dec_min_rad, dipoles.dec_max_rad),
            "limits": int(dipoles.is_limit.sum()),
            "rows without usable errors": int((~dipoles.errors_usable).sum()),
            "measurements": list(dipoles.measurement),
        }
    if kind == "spectrum":
        entries = spectra_from_sheet(sheet)
        spectra = [
            f"{entry.energy_tev:g} TeV" + (f", field {entry.field}" if entry.field else "") for entry in entries
        ]
        first = entries[0].spectrum
        return {
            "summary": f"{len(entries)} {'spectra' if len(entries) > 1 else 'spectrum'}, kind {first.kind}",
            "record": kind,
            "filtered": first.filtered,
            "declinations": _bands(
                [entry.spectrum.dec_min_rad for entry in entries],
                [entry.spectrum.dec_max_rad for entry in entries],
            ),
            "noise": "given" if all(np.isfinite(entry.spectrum.noise).all() for entry in entries) else "not given",
            "multipoles": [int(ell) for ell in first.ell],
            "spectra": spectra,
        }
    if kind == "projection":
        projection = projection_from_sheet(sheet)
        return {
            "summary": f"right-ascension projection in {len(projection)} bins",
            "record": kind,
            "measurement": projection.measurement,
        }
    as_table(sheet)
    return {"summary": f"a table of {sheet.n_rows} rows", "record": kind, "columns": list(sheet.names)}


def _bands(low_rad: Iterable[float], high_rad: Iterable[float]) -> list[str]:
    """Return the declination bands, each once, in the order of the rows."""
    bands = [
        "not given" if isnan(low) else f"{degrees(low):.4g} to {degrees(high):.4g} deg"
        for low, high in zip(low_rad, high_rad, strict=True)
    ]
    return list(dict.fromkeys(bands))


def _aligned(sheet: Sheet) -> list[str]:
    """Return the table as lines of equal columns: names, units, rows."""
    columns = [
        [name, f"[{sheet.units[name]}]" if sheet.units[name] else "", *sheet.cells[name]] for name in sheet.names
    ]
    widths = [max(map(len, cells)) for cells in columns]
    rows = zip(*columns, strict=True)
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps({"schema": 1, **content}, indent=2, ensure_ascii=False))
