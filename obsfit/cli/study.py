"""The command ``obsfit study``: coverage of fits over mock universes, and systematics of reconstructions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obsfit.cli.output import json_rows

if TYPE_CHECKING:
    from astropy.table import Table


def study(
    configuration: Annotated[Path, typer.Argument(help="TOML file that describes the study.")],
    workers: Annotated[int, typer.Option(help="Processes; the numbers do not depend on it.", min=1)] = 1,
    scheduler: Annotated[
        str,
        typer.Option(help="Dask scheduler, such as tcp://host:8786, or 'local': its workers do the mocks."),
    ] = "",
    step: Annotated[str, typer.Option(help="Of a blind challenge alone: make or open.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    r"""Test a fit on mock universes: how often its 68 and 95 % intervals cover the truth.

    \b
    A configuration:
      schema = 1
      seed = 1
      mocks = 200
      output = "coverage"                 # folder, relative to this file
      [fit]
      seed = 0                            # not used here
      [fit.data]
      spectrum = "hawc-icecube-2019"
      [fit.model]
      names = ["relative-diffusion"]

    Truths are drawn from the priors, skies and observations are made on maps. An interrupted study continues when
    it is called again, with the same workers or with others. Exit code 4 if a coverage is off by more than 3.5
    binomial standard errors.

    With kind = "universes", the fit may have several data sets ([[fit.data]]), seen on one sky, and its joint
    likelihood stands beside the product of likelihoods that each assume a sky of their own; the verdict is that of
    the joint one.

    With kind = "emulator", a fit through an emulator is tested on universes in fields that it did not learn from, and
    on universes of another simulator, which its predictive check is to reject (analyses/calibration/turbulence.toml).

    With kind = "systematics", mock skies are observed by mock observatories and reconstructed by several methods, and
    bias, scatter, coverage and null tests of dipole, multipoles and power are written to the output folder as tables
    and plots; analyses/systematics has examples.

    With kind = "calibration", several studies are run one after the other (analyses/calibration/calibration.toml).
    The output folder gets one table with all ranks, plots and verdict.json; exit code 4 if the ranks of any judged
    fit are not those of a calibrated one, with a stated probability of a false alarm for all of them together.

    With kind = "blind", --step make writes mock data sets to be fitted by anyone, and a sealed file of their truths;
    --step open compares the answers with the truths, once there is one for each data set (docs/calibration.md).
    """
    import os
    import sys

    # Before numpy is loaded: the numbers are then the same, to the last bit, for any number of workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from obsfit.configuration import load_configuration
    from obsfit.errors import ConfigurationError
    from obsfit.plot.products import write_table
    from obsfit.study.calibration import study_kind
    from obsfit.study.coverage import CoverageConfiguration, is_calibrated, run_coverage
    from obsfit.study.held_out import CHECKS, HeldOutConfiguration, run_held_out
    from obsfit.study.universes import UniverseConfiguration, run_universes

    how: dict[str, Any] = {
        "base": configuration.parent, "workers": workers, "scheduler": scheduler or None,
        "progress": sys.stderr.isatty(),
    }  # fmt: skip
    kind = study_kind(configuration)
    if kind == "blind":
        _blind(configuration, step, as_json)
        return
    if step:
        raise ConfigurationError(f"--step {step} is of blind challenges alone", path=configuration)
    if kind == "systematics":
        _systematics(configuration, as_json, how)
        return
    if kind == "calibration":
        _calibration(configuration, as_json, how)
        return
    settings: CoverageConfiguration | UniverseConfiguration | HeldOutConfiguration
    told: dict[str, Any]
    if kind == "universes":
        settings = load_configuration(configuration, UniverseConfiguration)
        table = run_universes(settings, **how)
        passed = is_calibrated(table[table["analysis"] == "joint"])
        told = {"seed": settings.seed, "mocks": settings.mocks, "effective_size": settings.effective_size}
    elif kind == "emulator":
        settings = load_configuration(configuration, HeldOutConfiguration)
        table = run_held_out(settings, **how)
        passed = is_calibrated(table)
        told = {"seed": settings.seed, "mocks": settings.mocks, "effective_size": settings.effective_size}
        told |= {f"{check}_below_5_percent": _rejected(table, check) for check in CHECKS}
    else:
        settings = load_configuration(configuration, CoverageConfiguration)
        table = run_coverage(settings, **how)
        passed = is_calibrated(table)
        told = {"seed": settings.seed, "mocks": settings.mocks, "small_scale": settings.small_scale}
    path = configuration.parent / settings.output / "coverage.ecsv"
    write_table(table, path, description="Coverage of posterior intervals over mock universes", settings=told)
    # One number for each mock is too much to read.
    table.remove_column("ranks")
    if as_json:
        verdict = {"schema": 1, "calibrated": passed, "parameters": json_rows(table)}
        counts = {key: table.meta[key] for key in ("mocks", "not_converged")}
        typer.echo(json.dumps(verdict | counts))
    else:
        typer.echo("\n".join(table.pformat(max_width=-1)))
        typer.echo(f"{table.meta['mocks']} mocks, {table.meta['not_converged']} not converged and left out")
        if kind == "emulator":
            for check in CHECKS:
                found = ", ".join(f"{kind} {share}" for kind, share in _rejected(table, check).items())
                typer.echo(f"{check} below 5 %: {found}")
    if not passed:
        raise typer.Exit(4)


def _rejected(table: Table, check: str) -> dict[str, str]:
    """How many universes of each kind have a p-value below 5 per cent, by the meta data of a table."""
    return {kind: f"{sum(p < 0.05 for p in found)} of {len(found)}" for kind, found in table.meta[check].items()}


def _systematics(configuration: Path, as_json: bool, how: dict[str, Any]) -> None:
    from obsfit.configuration import load_configuration
    from obsfit.plot.systematics import write_summary
    from obsfit.study.systematics import SystematicsConfiguration, run_systematics

    settings = load_configuration(configuration, SystematicsConfiguration)
    summary = run_systematics(settings, **how)
    told = {"seed": settings.seed, "realisations": settings.realisations, "skies": settings.skies}
    write_summary(summary, configuration.parent / settings.output, settings=told)
    if as_json:
        tables = ("numbers", "nulls", "covariances", "refusals")
        typer.echo(json.dumps({"schema": 1} | {name: json_rows(getattr(summary, name)) for name in tables}))
        return
    dipoles = summary.numbers[[name in ("A_1", "alpha_1") for name in summary.numbers["number"]]]
    for table in (dipoles, summary.nulls, summary.covariances, summary.refusals):
        if len(table):
            typer.echo("\n".join(table.pformat(max_lines=-1, max_width=-1)))


def _calibration(configuration: Path, as_json: bool, how: dict[str, Any]) -> None:
    from obsfit.configuration import load_configuration
    from obsfit.plot.calibration import write_calibration
    from obsfit.provenance import atomic_write
    from obsfit.study.calibration import (
        CalibrationConfiguration,
        configuration_checksum,
        run_calibration,
        stamped_verdict,
        verdict_of,
    )

    settings = load_configuration(configuration, CalibrationConfiguration)
    checksum = configuration_checksum(settings, base=how["base"])
    table = run_calibration(settings, **how)
    verdict = stamped_verdict(
        verdict_of(table, false_alarm=settings.false_alarm, max_unconverged=settings.max_unconverged),
        date=_now(), command=f"obsfit study {configuration}", configuration_sha256=checksum,
    )  # fmt: skip
    folder = configuration.parent / settings.output
    told = {key: verdict[key] for key in ("date", "command", "configuration_sha256", "false_alarm", "threshold")}
    write_calibration(
        table, folder, description="Coverage and ranks of all fits over mock universes", settings=told
    )
    with atomic_write(folder / "verdict.json", overwrite=True) as partial:
        partial.write_text(json.dumps(verdict, indent=1) + "\n", encoding="utf-8")
    _tell_verdict(table, verdict, as_json)


def _blind(configuration: Path, step: str, as_json: bool) -> None:
    from obsfit.configuration import load_configuration
    from obsfit.errors import ConfigurationError
    from obsfit.plot.calibration import write_calibration
    from obsfit.provenance import atomic_write, sha256
    from obsfit.study.blind import BlindConfiguration, make_challenge, open_challenge
    from obsfit.study.calibration import stamped_verdict, verdict_of

    settings = load_configuration(configuration, BlindConfiguration)
    if step not in ("make", "open"):
        raise ConfigurationError(f"--step {step!r}", path=configuration, expected="make or open")
    if step == "make":
        challenge = make_challenge(settings, base=configuration.parent)
        told = {"challenge": str(challenge), "truth_sha256": json.loads(challenge.read_text())["truth_sha256"]}
        typer.echo(json.dumps({"schema": 1, **told}) if as_json else "\n".join(map(": ".join, told.items())))
        return
    folder, truth = configuration.parent / settings.output, configuration.parent / settings.truth
    table = open_challenge(folder / "challenge.json", truth)
    verdict = stamped_verdict(
        verdict_of(table, false_alarm=settings.false_alarm), date=_now(),
        command=f"obsfit study {configuration} --step open",
        configuration_sha256=sha256(folder / "challenge.json"),
    ) | {"truth_sha256": sha256(truth)}  # fmt: skip
    write_calibration(
        table, folder, description="Ranks of the truths in the answers", settings={"date": verdict["date"]}
    )
    with atomic_write(folder / "verdict.json", overwrite=True) as partial:
        partial.write_text(json.dumps(verdict, indent=1) + "\n", encoding="utf-8")
    _tell_verdict(table, verdict, as_json)


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tell_verdict(table: Table, verdict: dict[str, Any], as_json: bool) -> None:
    """Print a verdict and its table, and end with exit code 4 if it is negative."""
    table.remove_column("ranks")
    if as_json:
        typer.echo(json.dumps({"schema": 1, "calibrated": verdict["passed"], **verdict, "rows": json_rows(table)}))
    else:
        typer.echo("\n".join(table.pformat(max_lines=-1, max_width=-1)))
        for found in verdict["studies"]:
            said = "calibrated" if found["passed"] else "NOT CALIBRATED"
            typer.echo(
                f"{found['study']}, {found['analysis']}: {said if found['judged'] else f'not judged ({said})'}; "
                f"{found['mocks']} mocks, {found['not_converged']} not converged; smallest p = "
                f"{found['smallest_p']:.2g} ({found['test']} of {found['parameter']})"
            )
        typer.echo(
            f"In all: {'calibrated' if verdict['passed'] else 'NOT CALIBRATED'}. {verdict['tests']} tests, each at "
            f"p = {verdict['threshold']:.2g}: false alarm at most {verdict['false_alarm']:g}"
        )
    if not verdict["passed"]:
        raise typer.Exit(4)
