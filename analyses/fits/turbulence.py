"""Turbulence fitted through its emulator to power and a dipole at 10 to 42 TeV, seen on one sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

import obsfit
from obsfit.emulate import load_emulator
from obsfit.emulate.emulator import Emulator
from obsfit.infer import Likelihood, Posterior, PowerTerm, run_importance
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.evidence import nested_evidence
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context, generator, load_program

KEY = "fit-turbulence"
TITLE = "Turbulence fitted through its emulator to power and a dipole at 10 to 42 TeV"
PAPER = "Own fits"
FIGURE = ""

EMULATOR = "turbulence"
RIVALS = ("relative-diffusion", "hierarchical-cascade")

fitted = load_program(Path(__file__).with_name("_turbulence.py"))


def rivals(emulator: Emulator, *, size: float, seed: int) -> Table:
    """Return the evidence of the power of the 10 TeV map, by turbulence and by two other models.

    The others by nested sampling: the posterior of the cascade has a second region, which importance sampling misses.
    That of turbulence has one, where both agree, and each vector alone takes too long for nested sampling.
    """
    (record,) = (one for one in emulator.folded.spectra if one.measurement == fitted.MAP)
    turbulence = run_importance(
        EmulatedPosterior(emulator, leave_out=fitted.left_out(emulator, fitted.TEN)),
        rng=generator(seed, f"{KEY} turbulence evidence"), effective_size=size, max_evaluations=200_000,
    )  # fmt: skip
    rows: list[dict[str, str | int | float]] = [
        {"model": "turbulence", "parameters": len(turbulence.names), "log_evidence": turbulence.log_evidence,
         "error": turbulence.log_evidence_error}
    ]  # fmt: skip
    for name in RIVALS:
        model = Posterior(obsfit.load_model(name), Likelihood(PowerTerm(record)))
        found = nested_evidence(model, rng=generator(seed, f"{KEY} {name} evidence"))
        rows.append({"model": name, "parameters": len(model.parameters), "log_evidence": found.log_evidence,
                     "error": found.error})  # fmt: skip
    return Table(rows=rows)


def make(context: Context) -> FigureEntry:
    emulator = load_emulator(EMULATOR)
    size = 4000.0 if context.full else 1000.0
    fits = tuple(fitted.fit(emulator, name, size=size, seed=context.seed, key=KEY) for name in fitted.CASES)
    evidence = rivals(emulator, size=size, seed=context.seed)
    without = fitted.predicted(emulator, size=size, seed=context.seed)
    fitted.draw(fits, context.directory / "turbulence")
    choices = {"seed": context.seed, "effective_size": size, "emulator": EMULATOR}
    sources = fitted.write_tables(context, fits, without, evidence, choices)
    base = float(evidence["log_evidence"][0])
    compared = [
        Comparison(
            f"ln evidence of {row['model']} over turbulence, power of the 10 TeV map", None,
            float(row["log_evidence"]) - base, note=f"+- {np.hypot(row['error'], evidence['error'][0]):.2g}",
        )
        for row in evidence[1:]
    ]  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Upper left: observed powers over the medians that the fit of all data predicts for one sky, with 68 "
        "(thick) and 95 percent of repeated skies; upper right: projected dipole with the same. Below: each parameter "
        "by five fits, over its prior; in grey where less than half a bit was learnt and nothing may be claimed. One "
        "gradient of the density in isotropic turbulence with a mean field; the emulator knows gyroradii at 10 TV of "
        "0.004 to 0.025 of the bend-over length (0.9 to 0.14 pc at 3 uG) and refuses others. Protons; the realisation "
        "and the angle of the field about the gradient are averaged over. Its calibration: docs/turbulence-fits.md.",
        alt="All twelve numbers lie within the central 95 percent of repeated skies, which span two to four decades of "
        "power; ten lie within 68 percent. Of the parameters only the amplitude, near 10^-3, is learnt by more than "
        "half a bit; gyroradius, share of turbulence, index and direction follow their priors.",
        image="turbulence.png", table="fits.ecsv",
        comparisons=(*fitted.numbers(fits, without), *compared), data=sources, seed=context.seed,
        size_note="" if context.full else f"{size:.0f} effective samples for each fit",
    )  # fmt: skip
