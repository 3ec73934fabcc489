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
    """Check Python, packages, threads, device, caches, the checksums of shipped data, and what can be written.

    Exit code 4 if something is wrong; what is optional and absent is not. Example: obsfit doctor --json
    """
    from obsfit.installation import check_installation

    checks = check_installation(results)
    wrong = [check for check in checks if not check.ok]
    if as_json:
        report = {"schema": 1, "ok": not wrong, "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(report, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{'ok' if check.ok else 'WRONG':5}  {check.name:{width}}  {check.found}")
            if check.remedy and check.ok:
                typer.echo(f"{'':{9 + width}}{check.remedy}")
        typer.echo(f"\n{len(checks)} checks, {len(wrong) or 'nothing'} wrong")
        for check in wrong:
            typer.echo(f"  {check.name}: {check.found}")
            typer.echo(f"{'':4}{check.remedy}")
    if wrong:
        raise typer.Exit(4)
