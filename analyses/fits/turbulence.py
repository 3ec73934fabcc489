"""Turbulence fitted through its emulator to power and a dipole at 10 to 42 TeV, seen on one sky."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from obsfit_models.turbulence.simulated import SimulatedTurbulence

import obsfit
from obsfit.emulate import load_emulator
from obsfit.emulate.emulator import Emulator
from obsfit.errors import ConfigurationError
from obsfit.infer import Likelihood, Posterior, PowerTerm, run_importance
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.evidence import nested_evidence
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context, generator, load_program

KEY = "fit-turbulence"
TITLE = "Turbulence fitted through its emulator to power and a dipole at 10 to 42 TeV"
PAPER = "Own fits"
FIGURE = ""

EMULATOR = "turbulence"
HERE = Path(__file__).parent
RIVALS = ("relative-diffusion", "hierarchical-cascade")

RESULTS = HERE.parents[1] / "results"
OTHERS = {"composite waves": "turbulence-design-composite", "slab waves": "turbulence-design-slab"}
"""Other simulators, by the folders of their stores."""
PUBLISHED = HERE / "turbulence_told_apart.ecsv"
PER_FIELD, FACTOR = 20, 10.0
"""Skies of each field for the rules that tell simulators apart, and the factor on power at l >= 2."""

fitted = load_program(HERE / "_turbulence.py")


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


def simulated_data(
    model: SimulatedTurbulence, emulator: Emulator, *, seed: int, factor: float = 1.0
) -> NDArray[np.float64]:
    """Return logarithms of powers and of sizes of dipoles that skies of each field would give, (n_field, n, n_data).

    Directions of dipoles say nothing of a simulator, as the gradient may have any. `factor` is that of power at l >= 2.
    """
    folded, found = emulator.folded, []
    ell, _ = hp.Alm.getlm(folded.lmax)
    for field in range(model.fields):
        rng = generator(seed, f"{KEY} told apart {field}")
        theta = model.field_theta(field, PER_FIELD, rng=rng)
        rigidity, alm = model.field_skies(field, theta, folded.lmax, rng=rng)
        data = folded.observe(rigidity, alm * np.where(ell > 1, np.sqrt(factor), 1.0), rng=rng)
        size = np.hypot(data[:, folded.n_power :: 2], data[:, folded.n_power + 1 :: 2])
        found.append(np.log(np.concatenate([data[:, : folded.n_power], size], axis=1)))
    return np.array(found)


def told_apart(emulator: Emulator, *, seed: int) -> Table:
    """Return how often rules that know both simulators tell them, whatever the parameters; needs the whole stores."""
    stores = {name: RESULTS / folder / "design.h5" for name, folder in OTHERS.items()}
    own_store = RESULTS / "turbulence-design" / "design.h5"
    for store in (own_store, *stores.values()):
        if not store.is_file():
            raise ConfigurationError(
                "the store is missing", path=store, expected="the product of a design",
                remedy="Make it with 'obsfit ensemble', see docs/turbulence-fits.md.",
            )  # fmt: skip
    models = {name: SimulatedTurbulence(store) for name, store in stores.items()}
    own_model = SimulatedTurbulence(own_store)
    own = simulated_data(own_model, emulator, seed=seed)
    data = {name: simulated_data(model, emulator, seed=seed + 1) for name, model in models.items()}
    data[f"power at l >= 2 times {FACTOR:g}"] = simulated_data(own_model, emulator, seed=seed + 1, factor=FACTOR)
    rows = []
    for name, other in data.items():
        shift = np.abs(other.mean(axis=(0, 1)) - own.mean(axis=(0, 1))) / own.std(axis=(0, 1))
        power = fitted.told_apart(own, other, rng=generator(seed, f"{KEY} {name}"))
        rows.append(
            (name, len(other), float(shift.max()), power, float(np.sqrt(power * (1 - power) / len(other))))
        )
    return Table(
        rows=rows,
        names=("simulator", "fields", "largest_shift", "power", "error"),
        meta={"false_alarm": fitted.ALARM},
    )


def make(context: Context) -> FigureEntry:
    emulator = load_emulator(EMULATOR)
    size = 4000.0 if context.full else 1000.0
    fits = tuple(fitted.fit(emulator, name, size=size, seed=context.seed, key=KEY) for name in fitted.CASES)
    evidence = rivals(emulator, size=size, seed=context.seed)
    without = fitted.predicted(emulator, size=size, seed=context.seed)
    fitted.draw(fits, context.directory / "turbulence")
    choices = {"seed": context.seed, "effective_size": size, "emulator": EMULATOR}
    sources = fitted.write_tables(context, fits, without, evidence, choices)
    if context.full:
        apart = told_apart(emulator, seed=context.seed)
        write_table(
            apart, context.directory / "told-apart.ecsv", settings=choices,
            description="Share of other simulators' data that the best linear rule tells from those of this one.",
        )  # fmt: skip
    else:
        apart = Table.read(PUBLISHED, format="ascii.ecsv")
    base = float(evidence["log_evidence"][0])
    compared = [
        Comparison(
            f"ln evidence of {row['model']} over turbulence, power of the 10 TeV map", None,
            float(row["log_evidence"]) - base, note=f"+- {np.hypot(row['error'], evidence['error'][0]):.2g}",
        )
        for row in evidence[1:]
    ] + [
        Comparison(
            f"share of {row['simulator']} that the best linear rule tells, false alarm {fitted.ALARM:g}", None,
            float(row["power"]), note=f"+- {row['error']:.2g}, {row['fields']} fields",
        )
        for row in apart
    ]  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption=fitted.CAPTION + "The emulator knows gyroradii at 10 TV of 0.004 to 0.025 of the bend-over length (0.9 "
        "to 0.14 pc at 3 uG) and refuses others.",
        alt="All twelve numbers lie within the central 95 percent of repeated skies, which span two to four decades of "
        "power; ten lie within 68 percent. Of the parameters only the amplitude, near 10^-3, is learnt by more than "
        "half a bit; gyroradius, share of turbulence, index and direction follow their priors.",
        image="turbulence.png", table="fits.ecsv",
        comparisons=(*fitted.numbers(fits, without), *compared), data=sources, seed=context.seed,
        size_note="" if context.full else f"{size:.0f} effective samples for each fit",
    )  # fmt: skip
