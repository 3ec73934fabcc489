"""A converged fit, beside emcee as it is usually called: the same posterior and moves, one walker at a time."""

import emcee
import numpy as np
from case import Case

import obsfit
from obsfit.infer.optimum import ball, maximum_posterior

SEED = 1
TARGET_S = 10.0


def posterior():
    spectrum = obsfit.load_spectrum("hawc-icecube-2019").select(2, 30)
    return obsfit.Posterior(obsfit.load_model("relative-diffusion"), obsfit.Likelihood(spectrum))


def ours():
    """Search for the maximum, sampling and judgement of convergence, to 50 autocorrelation times."""
    return obsfit.run_emcee(POSTERIOR, rng=np.random.default_rng(SEED))


def usual():
    """The same search for the maximum and start, then as many steps as ours took; no judgement of convergence."""
    rng = np.random.default_rng(SEED)
    start = ball(POSTERIOR, maximum_posterior(POSTERIOR, rng=rng)[0], WALKERS, rng=rng)
    sampler = emcee.EnsembleSampler(
        WALKERS, start.shape[1], lambda theta: POSTERIOR.log_prob(theta[None])[0],
        moves=[(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)],
    )  # fmt: skip
    sampler.run_mcmc(start, STEPS)
    return sampler.get_chain()


def agree(fit, chain):
    """Whether the means agree within a quarter of a standard deviation: both chains are random."""
    mine, theirs = fit.samples(), chain[fit.burn_in :].reshape(-1, len(fit.names))
    return bool(np.all(np.abs(mine.mean(0) - theirs.mean(0)) < 0.25 * mine.std(0)))


POSTERIOR = posterior()
_first = ours()
STEPS, WALKERS = _first.chain.shape[:2]
CASES = [
    Case(
        f"converged fit, relative diffusion to 10 TeV, {STEPS} steps", ours, usual, "emcee without vectorize",
        target=TARGET_S, repeats=3, agree=agree,
    )
]  # fmt: skip
