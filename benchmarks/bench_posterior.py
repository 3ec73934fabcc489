"""The posterior: all walkers at once, beside one walker at a time."""

import numpy as np

import obsfit
from obsfit.parameters import draw_prior

WALKERS = 64


def posteriors():
    """Return a posterior of a spectrum and one of dipoles, by name."""
    spectrum = obsfit.load_spectrum("hawc-icecube-2019").select(ell_min=3, ell_max=30)
    dipoles = obsfit.load_dipoles("ahlers-mertsch-2017")
    return {
        "relative diffusion, 28 multipoles": obsfit.Posterior(
            obsfit.load_model("relative-diffusion"), obsfit.Likelihood(spectrum)
        ),
        "Compton-Getting, 35 dipoles": obsfit.Posterior(
            obsfit.load_model("compton-getting"), obsfit.Likelihood(dipoles)
        ),
    }


def pairs():
    """Return (what, ours, usual) for each posterior."""
    found = []
    for name, posterior in posteriors().items():
        theta = draw_prior(posterior.parameters, WALKERS, rng=np.random.default_rng(1))

        def together(posterior=posterior, theta=theta):
            return posterior.log_prob(theta)

        def one_by_one(posterior=posterior, theta=theta):
            return np.array([posterior.log_prob(row[None])[0] for row in theta])

        found.append((f"{name}, {WALKERS} walkers at once", together, one_by_one))
    return found


PAIRS = pairs()
