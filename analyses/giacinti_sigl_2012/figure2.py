"""GS, Fig. 2: the patterns of Fig. 1 for spheres of 100, 50, 25 and 10 pc."""

from __future__ import annotations

from pathlib import Path

from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context, load_program

KEY = "gs-figure2"
TITLE = "How far from the Earth the pattern is made"
PAPER = "GS"
FIGURE = "Fig. 2"

RADII_PC = (100.0, 50.0, 25.0, 10.0)
CONVERGED = 0.7

orbits = load_program(Path(__file__).with_name("_orbits.py"))
maps = load_program(Path(__file__).with_name("_maps.py"))


def converged_from(radii: list[float], correlations: list[float]) -> float:
    """Return the smallest radius from which on all correlations exceed 0.7: half the variance is common."""
    smallest = radii[-1]
    for radius, value in zip(radii[::-1], correlations[::-1], strict=True):
        if not value > CONVERGED:
            break
        smallest = radius
    return smallest


def make(context: Context) -> FigureEntry:
    skies = {rigidity: orbits.sky(context, rigidity) for rigidity in orbits.RIGIDITIES_PV}
    table = maps.numbers(skies, {rigidity: list(map(float, sky.radii_pc)) for rigidity, sky in skies.items()})
    halves = {
        rigidity: [sky.half_residuals(float(radius)) for radius in sky.radii_pc] for rigidity, sky in skies.items()
    }
    with_largest = {
        rigidity: [orbits.correlation(one, parts[-1]) for one in parts] for rigidity, parts in halves.items()
    }
    table["correlation_with_largest"] = with_largest[10] + with_largest[50]
    table["correlation_with_largest"].info.format = ".4g"
    between = [orbits.correlation(a, b) for a, b in zip(halves[10], halves[50], strict=False)]
    limits = {
        rigidity: maps.round_limit([value for radius in RADII_PC for value in sky.residual(radius)])
        for rigidity, sky in skies.items()
    }
    maps.draw_spheres(skies, RADII_PC, context.directory / "figure2", limits=limits)
    write_table(
        table, context.directory / "figure2.ecsv",
        description="Dipole, residual and noise for each sphere, and the correlation of its pattern with that of the "
        "largest sphere of the rigidity, freed of noise",
        settings={"seed": context.seed},
    )  # fmt: skip
    ensemble = {rigidity: orbits.realisations(context, rigidity) for rigidity in orbits.RIGIDITIES_PV}
    rms = {rigidity: one.root_mean_square(100.0) for rigidity, one in ensemble.items()}
    ratio = rms[50][0] / rms[10][0]
    ratio_error = ratio * float((rms[50][1] / rms[50][0]) ** 2 + (rms[10][1] / rms[10][0]) ** 2) ** 0.5
    radii = {rigidity: [float(radius) for radius in sky.radii_pc] for rigidity, sky in skies.items()}
    ours = {
        "sphere of convergence, 10 PV": converged_from(radii[10], with_largest[10]),
        "sphere of convergence, 50 PV": converged_from(radii[50], with_largest[50]),
        "correlation of the patterns of 10 and 50 PV": between[radii[10].index(100.0)],
        "dipole at 50 PV over that at 10 PV, means of fields": ratio,
    }
    largest = {rigidity: values[-1] for rigidity, values in radii.items()}
    lengths = {rigidity: one.mean_free_path_pc[:, -1].mean() for rigidity, one in ensemble.items()}
    text = {
        rigidity: ", ".join(
            f"{value:.2f} ({radius:g} pc)"
            for radius, value in zip(radii[rigidity][:-1], with_largest[rigidity][:-1], strict=True)
        )
        for rigidity in radii
    }
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption="The maps of Fig. 1 with the gradient imposed on spheres of 100, 50, 25 and 10 pc about the Earth, "
        "from the same orbits: left 10 PV, right 50 PV, each column in its own colours. Mean and dipole of each map "
        "are removed; discs of 20 degrees radius. Galactic coordinates, the centre in the middle.",
        alt="Eight maps in two columns of four. In each column the maps of the larger spheres share their excesses and "
        "deficits; the map of 10 pc is the faintest, and at 50 PV it is almost blank: particles have not "
        "turned yet. Those of the two columns do not agree.",
        image="figure2.png", table="figure2.ecsv",
        comparisons=compare(
            context.expected, "figure2", ours,
            notes={
                "sphere of convergence, 10 PV": f"from here on correlated by more than {CONVERGED} with the sphere of "
                f"{largest[10]:g} pc",
                "sphere of convergence, 50 PV": f"the same with {largest[50]:g} pc",
                "dipole at 50 PV over that at 10 PV, means of fields": f"standard error {ratio_error:.1f}; the "
                "scaling of the paper needs gyroradii far below the correlation length",
            },
        ),
        deviations=(
            "Another realisation of the field than the paper's, which is not published; columns and rows of the paper "
            "are exchanged.",
            f"Correlation of the patterns with that of the largest sphere: 10 PV {text[10]}; 50 PV {text[50]}. These "
            "are from products of two halves of the directions, in which their noise cancels.",
            f"The ratio of the amplitudes at the two rigidities is {ratio:.1f} +- {ratio_error:.1f} and not 1.7, the "
            "cube root of five: that holds for gyroradii far below the correlation length, which is "
            f"{orbits.spectrum().correlation_length():.0f} pc here, and at 50 PV the gyroradius is "
            f"{orbits.gyroradius_pc(50):.1f} pc. Times of crossing of 100 pc give scattering lengths of "
            f"{lengths[10]:.1f} and {lengths[50]:.0f} pc.",
        ),
        seed=context.seed,
        size_note="" if context.full else f"{skies[10].directions} directions; {context_fields(context)} fields",
    )  # fmt: skip


def context_fields(context: Context) -> int:
    """Return the number of fields averaged over."""
    return int(orbits.size(context).realisations)
