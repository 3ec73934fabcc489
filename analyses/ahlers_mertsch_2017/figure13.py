"""AM17, Fig. 13: maps of GS for spheres of 100, 50 and 25 pc, three of the four of its Fig. 2."""

from __future__ import annotations

from pathlib import Path

from obsfit.plot.products import write_table
from obsfit.plot.report import FigureEntry, compare
from obsfit.plot.runner import Context, load_program

KEY = "am17-figure13"
TITLE = "Skies behind turbulence for three places of the gradient"
PAPER = "AM17"
FIGURE = "Fig. 13"

RADII_PC = (100.0, 50.0, 25.0)

FOLDER = Path(__file__).parents[1] / "giacinti_sigl_2012"
orbits = load_program(FOLDER / "_orbits.py")
maps = load_program(FOLDER / "_maps.py")


def make(context: Context) -> FigureEntry:
    skies = {rigidity: orbits.sky(context, rigidity) for rigidity in orbits.RIGIDITIES_PV}
    limits = {
        rigidity: maps.round_limit([value for radius in RADII_PC for value in sky.residual(radius)])
        for rigidity, sky in skies.items()
    }
    table = maps.numbers(skies, dict.fromkeys(skies, RADII_PC))
    maps.draw_spheres(skies, RADII_PC, context.directory / "figure13", limits=limits)
    write_table(
        table, context.directory / "figure13.ecsv",
        description="Dipole (X, Y, Z), residual after smoothing over 20 degrees, and its noise, for each map",
        settings={"seed": context.seed},
    )  # fmt: skip
    # The gradient is drawn as large as in GS; amplitudes follow it and the cube root of the rigidity.
    rescaled = float(table["residual_rms"][0]) * orbits.GRADIENT_LENGTH_PC / 1e3 * (1e-3) ** (1 / 3)
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "mock equivalent",
        caption="Relative intensity without mean and dipole after back-tracking through one realisation of isotropic "
        "turbulence (Kolmogorov below 150 pc, 4 microgauss, no mean field) to spheres of 100, 50 and 25 pc, on which "
        "a uniform gradient of 1/(290 pc) away from the Galactic centre is imposed; left 10 PV, right 50 PV, each "
        "column in its own colours. Averages over discs of 20 degrees radius, Galactic coordinates. The same orbits "
        "as in Figs. 1 and 2 of GS.",
        alt="Six maps in two columns of three. Within a column the maps for 100 and 50 parsec agree in their large "
        "excesses and deficits; at 50 PV the map for 25 parsec is much fainter. The patterns of the two rigidities "
        "differ.",
        image="figure13.png", table="figure13.ecsv",
        comparisons=compare(
            context.expected, "figure13",
            {"spheres drawn": len(RADII_PC), "amplitude rescaled to 10 TeV and 1/kpc": 1e3 * rescaled},
        ),
        deviations=(
            "AM17 shows three of the four columns of Fig. 2 of GS; columns and rows are "
            "exchanged here. The field of GS is not published and ours is another one: its spots are elsewhere.",
            "The rescaled amplitude is the root mean square residual at 10 PV and 100 pc, times 290/1000 for the "
            "gradient and 0.1 for the cube root of the rigidity.",
        ),
        seed=context.seed, size_note="" if context.full else f"{skies[10].directions} directions",
    )  # fmt: skip
