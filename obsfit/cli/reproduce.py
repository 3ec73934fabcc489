"""``obsfit reproduce``: make the figures of the papers again and write the report page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from obsfit.errors import ConfigurationError


def reproduce(
    full: Annotated[bool, typer.Option("--full", help="Statistics of the papers; no limit on time.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KEY", help="One figure; repeatable.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the figures and stop.")] = False,
    results: Annotated[Path, typer.Option("--results", help="Folder of the page.")] = Path("results"),
    force: Annotated[bool, typer.Option("--force", help="Make finished figures again.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random streams.")] = 1,
) -> None:
    """Make the figures of the papers again, from a checkout; finished ones are kept.

    Writes results/index.html. Exit code 1 if a figure failed; the page then shows its error.
    """
    from obsfit.plot import runner  # late: --help must not wait for numpy and astropy

    analyses = runner.discover(runner.find_analyses())
    if list_:
        for analysis in runner.choose(analyses, only or ()):
            place = f"{analysis.paper}, {analysis.figure}" if analysis.figure else analysis.paper
            typer.echo(f"{analysis.key:24} {place}: {analysis.title}")
        return
    if results.exists() and not results.is_dir():
        raise ConfigurationError("is not a folder", path=results, expected="a folder for the page, or a new name")

    def progress(place: int, total: int, analysis: runner.Analysis, seconds: float | None) -> None:
        estimate = "" if seconds is None else f" (about {max(1, round(seconds))} s, as last time)"
        typer.echo(f"[{place}/{total}] {analysis.key}: {analysis.title}{estimate}", err=True)

    entries = runner.run(
        analyses,
        results,
        seed=seed,
        full=full,
        force=force,
        only=only or (),
        progress=progress if sys.stderr.isatty() else None,
    )
    typer.echo(str(results / "index.html"))
    failed = [entry for entry in entries if entry.error]
    for entry in failed:
        typer.echo(f"obsfit: {entry.key} failed: {entry.error}", err=True)
    if failed:
        raise typer.Exit(1)
