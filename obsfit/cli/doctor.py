"""obsfit doctor: whether this installation is sound."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    results: Annotated[Path, typer.Option(help="Folder that products would be written to.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check Python, packages, threads, the checksums of the shipped data, and that results can be written.

    Exit code 4 if something is wrong. Example: obsfit doctor --json
    """
    from obsfit.installation import check_installation

    checks = check_installation(results)
    sound = all(check.ok for check in checks)
    if as_json:
        typer.echo(json.dumps({"schema": 1, "ok": sound, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            typer.echo(f"{'ok' if check.ok else 'WRONG':5}  {check.name:15}  {check.found}")
            if check.remedy:
                typer.echo(f"{'':7}{check.remedy}")
    if not sound:
        raise typer.Exit(4)
