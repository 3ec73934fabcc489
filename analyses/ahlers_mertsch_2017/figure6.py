"""AM17, Fig. 6: phase and amplitude of the equatorial dipole against energy, all of Table 1."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

import obsfit
from obsfit.plot.products import write_table
from obsfit.plot.report import DataSource, FigureEntry, compare
from obsfit.plot.runner import Context
from obsfit.plot.style import COLOURS, new_figure, save, series_style, styled
from obsfit.records import DipoleMeasurements
from obsfit.sky.directions import named_direction, right_ascension_declination

KEY = "am17-figure6"
TITLE = "Phase and amplitude of the dipole against energy"
PAPER = "AM17"
FIGURE = "Fig. 6"

EXPONENT = 1 / 3
DIFFUSION_RANGE_TEV = (0.7, 5e4)


def numbers(dipoles: DipoleMeasurements) -> Table:
    """Return one row per dipole, with the smooth-source prediction at its energy."""
    table = Table(
        {
            "measurement": list(dipoles.measurement),
            "observatory": list(dipoles.observatory),
            "energy": dipoles.energy_tev,
            "amplitude": dipoles.amplitude,
            "amplitude_error": dipoles.amplitude_error,
            "phase": np.degrees(dipoles.phase_rad),
            "phase_error": np.degrees(dipoles.phase_error_rad),
            "predicted_amplitude": prediction(dipoles, dipoles.energy_tev),
        },
        units={"energy": "TeV", "phase": "deg", "phase_error": "deg"},
    )
    table["amplitude"].description = "A_1 as printed: projected amplitudes are not corrected by Eq. (25)"
    table["predicted_amplitude"].description = "E^(1/3) through the measurement nearest to 1 TeV"
    return table


def prediction(dipoles: DipoleMeasurements, energy_tev: np.ndarray) -> np.ndarray:
    """Return the amplitude proportional to E^(1/3) that passes through the measurement nearest to 1 TeV."""
    nearest = int(np.argmin(np.abs(np.log(dipoles.energy_tev))))
    return dipoles.amplitude[nearest] * (energy_tev / dipoles.energy_tev[nearest]) ** EXPONENT


def galactic_centre_deg() -> float:
    """Return the right ascension of the Galactic centre."""
    return float(right_ascension_declination(named_direction("galactic-centre"))[0].to_value("deg"))


def phase_flip_tev(table: Table) -> float:
    """Return the energy at which IceCube's phase leaves the half circle about its phase at the lowest energy.

    The geometric mean of the last energy before and the first after the flip.
    """
    rows = table[table["observatory"] == "IceCube"]
    rows.sort("energy")
    turned = np.cos(np.radians(rows["phase"] - rows["phase"][0])) < 0
    first = int(np.argmax(turned))
    return float(np.sqrt(rows["energy"][first - 1] * rows["energy"][first]))


def draw(table: Table, dipoles: DipoleMeasurements, stem: object) -> None:
    """Draw phase above, amplitude below."""
    with styled():
        figure = new_figure(7.0, 7.6)
        upper, lower = figure.subplots(2, 1, sharex=True)
        names = list(dict.fromkeys(table["observatory"]))
        for index, name in enumerate(names):
            rows = table[table["observatory"] == name]
            style = series_style(index) | {"linestyle": "none"}
            if index >= len(COLOURS):
                style["markerfacecolor"] = "white"
            wrapped = (rows["phase"] + 180.0) % 360.0 - 180.0
            for turn in (-360.0, 0.0, 360.0):
                upper.errorbar(rows["energy"], wrapped + turn, yerr=rows["phase_error"], **style)
            # A logarithmic axis has no place for a bar that reaches zero: it ends at the frame instead.
            floor = np.minimum(rows["amplitude_error"], rows["amplitude"] - 2e-5)
            lower.errorbar(
                rows["energy"],
                rows["amplitude"],
                yerr=np.stack([floor, rows["amplitude_error"]]),
                label=name.replace("ASgamma", "ASγ"),
                **style,
            )
        dashed = {"color": "0.25", "linestyle": "--", "zorder": 1}
        upper.axhline(galactic_centre_deg() - 360.0, **dashed)
        energies = np.geomspace(*DIFFUSION_RANGE_TEV, 50)
        lower.plot(energies, prediction(dipoles, energies), label=r"smooth sources, $\propto E^{1/3}$", **dashed)
        upper.set_ylim(-180, 180)
        upper.set_yticks([-180, -90, 0, 90, 180], labels=["180°", "270°", "0°", "90°", "180°"])
        upper.set_ylabel(r"phase $\alpha_1$ (right ascension)")
        upper.annotate(
            "Galactic centre", (0.02, galactic_centre_deg() - 360.0), xycoords=("axes fraction", "data"),
            xytext=(0, 4), textcoords="offset points", va="bottom", fontsize=9.5,
        )  # fmt: skip
        lower.set(xscale="log", yscale="log", xlim=DIFFUSION_RANGE_TEV, ylim=(4e-5, 4e-2))
        lower.set_xlabel("median energy [TeV]")
        lower.set_ylabel(r"amplitude $A_1$")
        figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(figure, stem)


def make(context: Context) -> FigureEntry:
    dipoles = obsfit.load_dipoles("ahlers-mertsch-2017")
    source = DataSource.of(dipoles.provenance)
    table = numbers(dipoles)
    draw(table, dipoles, context.directory / "figure6")
    write_table(
        table,
        context.directory / "figure6.ecsv",
        data=[source],
        description="Dipoles of Table 1 of AM17 as drawn.",
    )
    icecube = table[table["observatory"] == "IceCube"]
    ratio = np.log(table["predicted_amplitude"][0] / table["predicted_amplitude"][-1])
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "reproduced",
        caption="Phase (above) and amplitude (below) of the equatorial dipole measured by ten observatories, with "
        "statistical errors; amplitudes as printed in Table 1. Dashed: what smoothly distributed sources and isotropic "
        "diffusion would give, the direction of the Galactic centre and an amplitude proportional to E to the 1/3 "
        "through the measurement nearest to 1 TeV. Bars that reach zero end at the frame.",
        alt="Two panels against energy from 1 TeV to 50 PeV. The phase lies near 40 degrees below 100 TeV and near 260 "
        "degrees, close to the Galactic centre, above 300 TeV. The amplitude rises to 0.1 percent at 8 TeV, falls to "
        "about 0.02 percent at 200 TeV and rises again, below the dashed line at all energies above 10 TeV.",
        image="figure6.png", table="figure6.ecsv",
        comparisons=compare(
            context.expected, "figure6",
            {
                "dipoles drawn": len(table),
                "observatories drawn": len(set(table["observatory"])),
                "phase of the smooth-source prediction": galactic_centre_deg(),
                "energy of the phase flip": phase_flip_tev(table),
                "smallest amplitude of IceCube": 1e4 * float(icecube["amplitude"].min()),
                "exponent of the dashed amplitude": float(ratio / np.log(table["energy"][0] / table["energy"][-1])),
            },
            notes={"energy of the phase flip": "geometric mean of the two IceCube energies between which it turns"},
        ),
        deviations=(
            "The paper does not say to which points the dashed amplitude is normalised; here it passes through the "
            "measurement nearest to 1 TeV (ARGO-YBJ at 0.98 TeV).",
        ),
        data=(source,),
    )  # fmt: skip
