"""The command line: one file for each command, loaded only when that command is called."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer

import obsfit
from obsfit.errors import ObsfitError

HELP = """Re-analyse cosmic-ray anisotropy data: from published numbers to a posterior.

\b
Try first:
  obsfit data list
  obsfit models show relative-diffusion

\b
Results go to standard output, all else to standard error. Exit codes:
  0 done, 1 failed or not converged, 2 wrong usage or configuration,
  3 bad data file, 4 negative verdict, 130 interrupted.
"""

# Command: (module, attribute that is a typer application or a function, one line of help).
COMMANDS = {
    "data": ("obsfit.cli.data", "app", "List, show and check the measurements at hand."),
    "models": ("obsfit.cli.models", "app", "List the installed models and show what one offers."),
    "mock": ("obsfit.cli.mock", "mock", "Make mock event maps and event lists."),
    "reconstruct": (
        "obsfit.cli.reconstruct",
        "reconstruct",
        "Reconstruct maps, multipoles and dipoles from events.",
    ),
    "spectrum": ("obsfit.cli.spectrum", "spectrum", "Measure the angular power spectrum of a sky map."),
    "ensemble": ("obsfit.cli.ensemble", "ensemble", "Compute the library of skies from which a model draws."),
    "emulate": ("obsfit.cli.emulate", "emulate", "Learn the density of data from simulations of a model."),
    "fit": ("obsfit.cli.fit", "fit", "Fit a model to measurements as a configuration file says."),
    "sky": ("obsfit.cli.sky", "sky", "Sample the one sky that the maps of several observatories show."),
    "study": ("obsfit.cli.study", "study", "Test a fit on mock universes: the coverage of its intervals."),
    "reproduce": ("obsfit.cli.reproduce", "reproduce", "Draw the figures of the papers and the report page."),
    "doctor": ("obsfit.cli.doctor", "doctor", "Check this installation."),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name; by default those of the shell.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        application(words)(args=words, prog_name="obsfit")
    except SystemExit as end:
        if end.code == 130:
            print("obsfit: interrupted", file=sys.stderr)
        raise
    except Exception as error:
        raise SystemExit(report(error, debug="--debug" in words)) from None
    raise SystemExit(0)


def application(words: Sequence[str]) -> typer.Typer:
    """Return the application in which only the command that `words` call is loaded.

    The other commands are placeholders that carry their line of help: listing them must not import numpy.
    """
    app = typer.Typer(
        help=HELP,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(global_options)
    called = next((word for word in words if not word.startswith("-")), None)
    for name, (module, attribute, summary) in COMMANDS.items():
        if name != called:
            app.command(name, help=summary)(_placeholder)
            continue
        command: typer.Typer | Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, short_help=summary)
        else:
            # The mark for lines that are not to be wrapped is a backspace; in a raw docstring it is two characters.
            text = (inspect.getdoc(command) or summary).replace("\\b\n", "\b\n")
            app.command(name, help=text, short_help=summary)(command)
    return app


def print_version(wanted: bool) -> None:
    """Print the version and leave, if that is wanted."""
    if wanted:
        typer.echo(obsfit.__version__)
        raise typer.Exit


def global_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=print_version),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say on standard error what is done.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Say more, and show a traceback on failure.")] = False,
) -> None:
    """Act on the options that stand before the command."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("obsfit").setLevel(level)
    logging.getLogger("obsfit_models").setLevel(level)


def report(error: Exception, *, debug: bool) -> int:
    """Print an error on standard error, with its traceback if `debug`, and return the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, ObsfitError):
        print("obsfit: " + str(error).replace("\n", "\n        "), file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError | ValueError):
        print(f"obsfit: {error}", file=sys.stderr)
        return 1
    print(
        f"obsfit: {type(error).__name__}: {error}\n        This is a fault of obsfit or of a plug-in; "
        "'obsfit --debug COMMAND' shows where.",
        file=sys.stderr,
    )
    return 1


def _placeholder() -> None:
    """Stand for a command that was not called."""
