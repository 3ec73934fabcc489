"""The posterior: all walkers at once, beside one walker at a time."""

import numpy as np
from case import Case

import obsfit
from obsfit.parameters import draw_prior

WALKERS = 64
TARGET_S = 20e-6


def posteriors():
    """Return the three posteriors of the fits to real data, by name."""
    spectrum = obsfit.load_spectrum("hawc-icecube-2019").select(2, 30)
    dipoles = obsfit.load_dipoles("ahlers-mertsch-2017")
    dipoles = dipoles.select((dipoles.energy_tev >= 0.98) & (dipoles.energy_tev <= 5000))
    both = obsfit.add_models(obsfit.load_model("diffusive-dipole"), obsfit.load_model("compton-getting"))
    return {
        "relative diffusion, 29 multipoles": obsfit.Posterior(
            obsfit.load_model("relative-diffusion"), obsfit.Likelihood(spectrum)
        ),
        "cascade, 29 multipoles": obsfit.Posterior(
            obsfit.load_model("hierarchical-cascade"), obsfit.Likelihood(spectrum)
        ),
        "diffusive dipole, 32 dipoles": obsfit.Posterior(both, obsfit.Likelihood(dipoles)),
    }


def case(name, posterior):
    theta = draw_prior(posterior.parameters, WALKERS, rng=np.random.default_rng(1))

    def together():
        return posterior.log_prob(theta)

    def one_by_one():
        return np.array([posterior.log_prob(row[None])[0] for row in theta])

    return Case(
        f"log posterior of one vector, {name}", together, one_by_one, "one vector at a time", target=TARGET_S,
        count=WALKERS, repeats=31, agree=lambda a, b: np.allclose(a, b, rtol=1e-9),
    )  # fmt: skip


CASES = [case(name, posterior) for name, posterior in posteriors().items()]
