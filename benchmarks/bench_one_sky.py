"""Data sets of one sky: moments m by m beside dense matrices, and a joint fit by importance beside emcee.

The joint fit is that of nine energies to mock powers of one sky, which the model can make."""

from dataclasses import replace

import emcee
import numpy as np
from case import Case

import obsfit
from obsfit.infer import OneSkyTerm
from obsfit.infer.diagnostics import autocorrelation_time

# Steps of emcee, of which a converged chain takes many more.
STEPS = 200
SPECTRUM = obsfit.load_spectrum("hawc-icecube-2019")


def moments_case(ell_max, target):
    """Mean and covariance of one spectrum for one parameter vector."""
    term = OneSkyTerm((SPECTRUM.select(1, ell_max),), energy_spread=False, floor=0.0)
    model = obsfit.load_model("relative-diffusion")
    sky = obsfit.Posterior(model, obsfit.Likelihood(term)).skies(np.array([[-6.0, 0.45, 0.0]]))[0]
    nuisance = np.zeros((1, 1))
    operator = term._operators[0][0]
    lmax = operator.lmax
    ell = np.arange(lmax + 1)
    weight = np.zeros((lmax + 1, lmax + 1, lmax + 1))
    for m, response in operator.response.items():
        weight[m, : response.shape[1]] = response[0]
    power = np.zeros(lmax + 1)
    power[: sky.c_ell.shape[-1]] = sky.c_ell[0, 0, 0]

    def dense():
        """All (l, m) in one matrix, as for a window without symmetry."""
        index = [
            (k, m) for m in range(-lmax, lmax + 1) for k in range(abs(m), lmax + 1) if abs(m) in operator.response
        ]
        l_of, m_of = np.array(index).T
        same = m_of[:, None] == m_of
        matrix = np.where(same, weight[np.abs(m_of)[:, None], l_of[:, None], l_of], 0.0)
        noise = np.zeros((lmax + 1, lmax + 1, lmax + 1))
        for m, covariance in operator.noise.items():
            size = covariance.shape[1]
            noise[m, :size, :size] = covariance[0]
        total = (matrix * power[l_of]) @ matrix.T
        total += np.where(same, noise[np.abs(m_of)[:, None], l_of[:, None], l_of], 0.0)
        choose = (l_of[:, None] == ell[1 : ell_max + 1]) / (2.0 * ell[1 : ell_max + 1] + 1.0)
        return np.diag(total) @ choose, 2.0 * choose.T @ total**2 @ choose

    def ours():
        mean, covariance = term.moments(sky, nuisance)
        return mean[0], covariance[0]

    def agree(a, b):
        return all(np.allclose(x, y, rtol=1e-8, atol=0.0) for x, y in zip(a, b, strict=True))

    return Case(
        f"mean and covariance of {ell_max} multipoles, one vector", ours, dense, "one dense matrix of all (l, m)",
        target=target, repeats=7, agree=agree,
    )  # fmt: skip


def joint_fit_case():
    """A converged posterior of nine energies on one sky: 14 parameters, nine of them declination weights.

    emcee takes STEPS steps and is scaled to those that `run_emcee` asks for: 50 autocorrelation times, after 5 of
    burn-in. So few steps do not tell that time; it is taken from a long chain of the same moves on the normal law with
    the moments of the posterior, which over STEPS steps has the same apparent time as the posterior (16 and 17). The
    search for the maximum is left out, as the walkers start at samples of the other route; if these were wrong, they
    would drift away from them.
    """
    model = obsfit.load_model("relative-diffusion", rigidity_dependence=True)
    spectra = obsfit.load_spectra("icecube-2025")
    term = OneSkyTerm(tuple(spectra))
    posterior = obsfit.Posterior(model, obsfit.Likelihood(term))
    central = {"log10_c1": -5.6, "exponent": 0.45, "slope": 0.3, "log10_coherence": 0.0, "response_width": 1.0}
    truth = np.array([[central.get(name, 0.0) for name in posterior.names]])
    sky, nuisance = posterior.skies(truth)[0], posterior.nuisances(truth)[0]
    data = term.draw(sky, nuisance, rng=np.random.default_rng(4))[0].reshape(len(spectra), -1)
    mocks = [replace(spectrum, c_ell=power) for spectrum, power in zip(spectra, data, strict=True)]
    target = obsfit.Posterior(model, obsfit.Likelihood(term.observing(*mocks)))
    column = target.names.index("exponent")
    found = []

    def ours():
        found[:] = [obsfit.run_importance(target, rng=np.random.default_rng(1))]
        return found[0].mean()[column], np.sqrt(found[0].covariance()[column, column])

    def chain(log_prob, steps):
        walkers = 4 * len(target.names)
        sampler = emcee.EnsembleSampler(
            walkers, len(target.names), log_prob, vectorize=True,
            moves=[(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)],
        )  # fmt: skip
        sampler.random_state = np.random.RandomState(1).get_state()
        start = found[0].resample(walkers, rng=np.random.default_rng(2))
        sampler.run_mcmc(start, steps, skip_initial_state_check=True)
        return sampler.get_chain()

    def usual():
        return chain(target.log_prob, STEPS)

    def whole(_):
        mean, precision = found[0].mean(), np.linalg.inv(found[0].covariance())
        normal = chain(
            lambda theta: -0.5 * np.sum((theta - mean) @ precision * (theta - mean), axis=1), 30 * STEPS
        )
        return 55.0 * autocorrelation_time(normal).max() / STEPS

    def agree(a, short):
        exponent = short[..., column]
        return abs(a[0] - exponent.mean()) < 0.5 * exponent.std() and abs(a[1] / exponent.std() - 1.0) < 0.35

    return Case(
        f"joint fit of nine energies, {len(target.names)} parameters, converged", ours, usual,
        f"emcee, 50 autocorrelation times, from {STEPS} steps", target=60.0, repeats=1, agree=agree, whole=whole,
    )  # fmt: skip


CASES = [moments_case(20, None), moments_case(40, 1e-3), joint_fit_case()]
