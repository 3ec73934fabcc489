"""The ensemble of AM15 (the same in ASTRA and AM17): its settings and its place. Both figures draw the same fields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.ensemble import EnsembleSettings, TurbulenceSettings

from obsfit.plot.runner import Context, load_program

skies = load_program(Path(__file__).parents[1] / "turbulence/_skies.py")

TIMES = (
    0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0,
)  # fmt: skip
# Wavelengths of 0.01 to 100 lambda_c, equal energies of the uniform and of the turbulent field, r_L = 0.1 lambda_c.
FULL = EnsembleSettings(
    seed=1, realisations=400, turbulence=TurbulenceSettings(0.01, 100.0, modes_per_decade=25.0), gyroradius=(0.1,),
    times=TIMES, nside=32, lmax=20,
)  # fmt: skip
# Fields scatter more than the shot noise of few directions: many fields are the better use of a short time.
QUICK = {"realisations": 56, "nside": 8, "lmax": 16}
PAPER_FIELDS, PAPER_DIRECTIONS = 10, 12288


def settings(context: Context) -> EnsembleSettings:
    """Return the settings of a run: its seed, and fewer fields and directions where it is quick."""
    return replace(FULL, seed=context.seed, **({} if context.full else QUICK))


def ensemble(context: Context) -> DisplacementEnsemble:
    """Return the displacement skies, back-tracked by whichever figure comes first."""
    name = "ahlers-mertsch-2015" + ("" if context.full else "-quick")
    found: DisplacementEnsemble = skies.stored_ensemble(settings(context), name, context.directory.parent)
    return found


def size_note(ensemble: DisplacementEnsemble) -> str:
    """Return the size of the run in words; the paper has 10 fields and 12288 directions."""
    return f"{len(ensemble.realisation)} fields, {ensemble.alm.shape[1]} x {ensemble.directions} directions"
