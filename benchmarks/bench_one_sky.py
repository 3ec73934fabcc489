"""Data sets of one sky: moments m by m beside dense matrices, and a joint fit by importance beside emcee.

The joint fit is that of nine energies to mock powers of one sky, which the model can make."""

from dataclasses import replace

import numpy as np
from case import Case

import obsfit
from obsfit.infer import OneSkyTerm, SamplerSettings, run_importance

TRUTH = np.array([[-5.6, 0.45, 0.3, 0.0, 1.0]])
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
    """A converged posterior of nine energies on one sky."""
    model = obsfit.load_model("relative-diffusion", rigidity_dependence=True)
    spectra = obsfit.load_spectra("icecube-2025")
    term = OneSkyTerm(tuple(spectra))
    posterior = obsfit.Posterior(model, obsfit.Likelihood(term))
    sky, nuisance = posterior.skies(TRUTH)[0], posterior.nuisances(TRUTH)[0]
    data = term.draw(sky, nuisance, rng=np.random.default_rng(4))[0].reshape(len(spectra), -1)
    mocks = [replace(spectrum, c_ell=power) for spectrum, power in zip(spectra, data, strict=True)]
    target = obsfit.Posterior(model, obsfit.Likelihood(term.observing(*mocks)))
    column = target.names.index("exponent")

    def ours():
        found = run_importance(target, rng=np.random.default_rng(1))
        return found.mean()[column], np.sqrt(found.covariance()[column, column])

    def usual():
        found = obsfit.run_emcee(target, rng=np.random.default_rng(1), settings=SamplerSettings())
        return found.samples()[:, column].mean(), found.samples()[:, column].std()

    def agree(a, b):
        return abs(a[0] - b[0]) < 0.3 * b[1] and abs(a[1] / b[1] - 1.0) < 0.25

    return Case(
        "joint fit of nine energies, converged", ours, usual, "emcee, 50 autocorrelation times", target=60.0,
        repeats=1, agree=agree,
    )  # fmt: skip


CASES = [moments_case(20, None), moments_case(40, 1e-3), joint_fit_case()]
