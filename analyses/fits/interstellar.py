"""Turbulence with bend-over lengths of 1.4 to 110 pc fitted through its emulator to what is seen at 10 to 42 TeV."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from obsfit_models.turbulence.design_library import DesignLibrary, read_design, write_design
from obsfit_models.turbulence.simulated import SimulatedTurbulence

from obsfit.emulate import load_emulator
from obsfit.emulate.emulator import Emulator
from obsfit.errors import ConfigurationError
from obsfit.infer import WeightedSamples, run_importance
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, FigureEntry
from obsfit.plot.runner import Context, generator, load_program

KEY = "fit-turbulence-interstellar"
TITLE = "Interstellar turbulence fitted through its emulator to power and a dipole at 10 to 42 TeV"
PAPER = "Own fits"
FIGURE = ""

EMULATOR, OTHER = "interstellar-turbulence", "turbulence"
HERE = Path(__file__).parent
LIBRARY = HERE.parents[1] / "results" / "turbulence-design-interstellar" / "design.h5"
PUBLISHED = HERE / "interstellar_continuation.ecsv"
BANDS, PER_FIELD = 3, 40
"""Bands that the test of the continuation takes away, and skies of each field that it folds."""

fitted = load_program(HERE / "_turbulence.py")


def without_lowest(library: DesignLibrary, bands: int) -> DesignLibrary:
    """Return a library without its lowest bands."""
    low, high = library.configuration["gyroradius"]
    per_decade = library.configuration["bands_per_decade"]
    made = dict(library.configuration) | {"gyroradius": [low * 10.0 ** (bands / per_decade), high]}
    return replace(
        library, gyroradius=library.gyroradius[bands:], alm=library.alm[:, bands:],
        diffusivity=library.diffusivity[:, bands:], noise=library.noise[bands:], configuration=made,
    )  # fmt: skip


def continuation(library: Path, emulator: Emulator, *, seed: int) -> Table:
    """Return what it changes to replace the lowest bands of a library by copies of the one above them.

    The same fields, gradients and errors are folded twice, for gyroradii at 10 TV as far above the edge of the smaller
    library as the lowest of the emulator's are above that of the whole: within the decades by which it is continued.
    """
    whole = read_design(library)
    continued = float(emulator.configuration["options"]["continued_decades"])
    lowest = float(emulator.parameters[0].prior.support()[0])
    step = BANDS / whole.configuration["bands_per_decade"]
    radii = (lowest + step, lowest + step + continued)
    with tempfile.TemporaryDirectory() as folder:
        smaller = Path(folder) / "smaller.h5"
        write_design(smaller, without_lowest(whole, BANDS))
        models = [
            SimulatedTurbulence(library, log10_gyroradius=radii),
            SimulatedTurbulence(smaller, continued_decades=continued, log10_gyroradius=radii),
        ]
        values = [_folded(model, field, emulator, seed) for model in models for field in range(model.fields)]
    true, copied = np.array(values).reshape(2, models[0].fields, PER_FIELD, -1)
    change = copied - true
    by_field = change.mean(axis=1)
    return Table(
        {
            "label": list(emulator.folded.value_labels()), "mean_change": by_field.mean(axis=0),
            "error": by_field.std(axis=0, ddof=1) / np.sqrt(len(by_field)),
            "rms_change": np.sqrt(np.mean(change**2, axis=(0, 1))), "width": true.std(axis=(0, 1)),
        },
        meta={"fields": len(by_field), "log10_gyroradius": list(radii)},
    )  # fmt: skip


def _folded(model: SimulatedTurbulence, field: int, emulator: Emulator, seed: int) -> NDArray[np.float64]:
    """Values of simulated data of one field, shape (PER_FIELD, n_data)."""
    rng = generator(seed, f"{KEY} continuation {field}")
    theta = model.field_theta(field, PER_FIELD, rng=rng)
    skies = model.field_skies(field, theta, emulator.folded.lmax, rng=rng)
    return emulator.folded.coordinates(emulator.folded.observe(*skies, rng=rng), theta)


def same_data(other: Emulator, labels: Sequence[str], *, size: float, seed: int) -> WeightedSamples:
    """Return the fit of another emulator to the data of some labels."""
    posterior = EmulatedPosterior(other, leave_out=[label for label in other.labels if label not in labels])
    rng = generator(seed, f"{KEY} {OTHER} {len(labels)}")
    return run_importance(posterior, rng=rng, effective_size=size, max_evaluations=200_000)


def make(context: Context) -> FigureEntry:
    emulator, other = load_emulator(EMULATOR), load_emulator(OTHER)
    size = 4000.0 if context.full else 1000.0
    fits = tuple(fitted.fit(emulator, name, size=size, seed=context.seed, key=KEY) for name in fitted.CASES)
    rivals = tuple(same_data(other, one.posterior.labels, size=size, seed=context.seed) for one in fits[:2])
    evidence = Table(
        rows=[
            (name, one.name, samples.log_evidence, samples.log_evidence_error)
            for one, rival in zip(fits, rivals, strict=False)
            for name, samples in ((EMULATOR, one.samples), (OTHER, rival))
        ],
        names=("emulator", "data", "log_evidence", "error"),
    )
    without = fitted.predicted(emulator, size=size, seed=context.seed)
    fitted.draw(fits, context.directory / "turbulence")
    choices = {"seed": context.seed, "effective_size": size, "emulator": EMULATOR}
    sources = fitted.write_tables(context, fits, without, evidence, choices)
    if context.full:
        if not LIBRARY.is_file():
            raise ConfigurationError(
                "the library is missing", path=LIBRARY, expected="the product of design_interstellar.toml",
                remedy="Make it with 'obsfit ensemble analyses/turbulence/design_interstellar.toml'.",
            )  # fmt: skip
        table = continuation(LIBRARY, emulator, seed=context.seed)
        write_table(
            table, context.directory / "continuation.ecsv", settings=choices,
            description="Change of simulated data by the hypothesis below the library, 0.75 decades higher.",
        )  # fmt: skip
    else:
        table = Table.read(PUBLISHED, format="ascii.ecsv")
    worst = int(np.argmax(np.abs(table["mean_change"]) / table["width"]))
    compared = [
        Comparison(
            f"ln evidence over bend-over lengths of 0.14 to 0.9 pc, {one.name}", None,
            one.samples.log_evidence - rival.log_evidence,
            note=f"+- {np.hypot(one.samples.log_evidence_error, rival.log_evidence_error):.2g}",
        )
        for one, rival in zip(fits, rivals, strict=False)
    ] + [
        Comparison(
            "largest mean change of a number by the continuation, over its width", None,
            float(abs(table["mean_change"][worst]) / table["width"][worst]), note=str(table["label"][worst]),
        )
    ]  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption=fitted.CAPTION + "Gyroradii at 10 TV of 3.2e-5 to 2.5e-3 of the bend-over length (110 to 1.4 pc at 3 "
        "uG). Hypothesis: below gyroradii of 1e-5, where the library of skies ends, they stay those of its lowest "
        "band.",
        alt="All eleven numbers lie within the central 68 percent of repeated skies, which span one to two decades of "
        "power. Half a bit is learnt of the amplitude, which is near 10^-3: gyroradius, share of turbulence, index and "
        "direction follow their priors.",
        image="turbulence.png", table="fits.ecsv",
        comparisons=(*fitted.numbers(fits, without), *compared), data=sources, seed=context.seed,
        size_note="" if context.full else f"{size:.0f} effective samples for each fit; the continuation: full run",
    )  # fmt: skip
