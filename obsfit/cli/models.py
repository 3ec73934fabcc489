"""obsfit models: what is installed, and what one model offers."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from obsfit.errors import PluginError

app = typer.Typer(help="List the installed models and show what one offers.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the installed models, a plug-in of another package among them.

    Example: obsfit models list
    """
    from obsfit.descriptions import describe_model
    from obsfit.plugins import available_models

    cards = []
    for name in available_models():
        try:
            cards.append(describe_model(name))
        except PluginError as error:
            # One broken plug-in must not hide the others.
            print(f"obsfit: {error.problem}", file=sys.stderr)
    if as_json:
        rows = [{"name": card.name, "summary": card.summary, "offers": card.offers} for card in cards]
        typer.echo(json.dumps({"schema": 1, "models": rows}, indent=2))
        return
    width = max((len(card.name) for card in cards), default=0)
    for card in cards:
        typer.echo(f"{card.name:{width}}  {card.summary}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name as 'obsfit models list' prints it.")], as_json: AsJson = False
) -> None:
    """Show the parameters, priors and predictions of a model.

    Example: obsfit models show relative-diffusion
    """
    from obsfit.descriptions import describe_model

    card = describe_model(name)
    if as_json:
        typer.echo(json.dumps({"schema": 1, **asdict(card)}, indent=2))
        return
    typer.echo(f"{card.name}: {card.summary}")
    if card.details:
        typer.echo(f"\n{card.details}")
    typer.echo(f"\nOffers: {', '.join(card.offers)}")
    if card.settings:
        typer.echo(f"Settings: {', '.join(card.settings)}")
    typer.echo("Parameters:" if card.parameters else "Parameters: none")
    width = max((len(row.name) for row in card.parameters), default=0)
    for row in card.parameters:
        unit = f" [{row.unit}]" if row.unit else ""
        typer.echo(f"  {row.name:{width}}  prior {row.prior}{unit}  {row.description}")
