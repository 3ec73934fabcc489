"""How well a fit describes its data: posterior predictive checks."""

from __future__ import annotations

import numpy as np

from obsfit.infer.dipole_term import DipoleTerm
from obsfit.infer.one_sky_term import OneSkyTerm
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.infer.simulated_term import SimulatedTerm
from obsfit.parameters import FloatArray
from obsfit.records.true_sky import TrueSky


def discrepancy(
    term: DipoleTerm | PowerTerm | OneSkyTerm | SimulatedTerm, sky: TrueSky, nuisance: FloatArray, data: FloatArray
) -> FloatArray:
    r"""Return the squared distance of data from their expectation in units of their variance, shape (n_vec,).

    Power: :math:`\sum_\ell (\hat C_\ell - \langle\hat C_\ell\rangle)^2 / \mathrm{Var}\,\hat C_\ell`, with the moments
    of the (non-central) chi-square law. Dipoles: :math:`r^T V^{-1} r` with the full covariance of
    `DipoleTerm.covariance`. Several data sets on one sky: minus twice the joint log density of the dipole components
    and of the logarithms of the powers, because powers that are nearly one number have no meaningful distance from
    their expectation; the density of the powers themselves would grow as they vanish and call faint skies likely. By
    draws: minus twice the log density in the coordinates in which the data are taken as normal. The
    power is not normal at low multipoles, so that this is no chi-square variable: it ranks data sets, and
    `predictive_p_value` finds its distribution by drawing.

    Parameters
    ----------
    term : DipoleTerm, PowerTerm, OneSkyTerm or SimulatedTerm
        What was observed.
    sky : TrueSky
        Of n_vec parameter vectors.
    nuisance : ndarray, shape (n_vec, n_nuisance)
        Nuisances of the term.
    data : ndarray, shape (n_data,) or (n_vec, n_data)
        The same data for all vectors, or one data set for each.
    """
    if isinstance(term, DipoleTerm):
        residual = data - term.folded(sky).reshape(nuisance.shape[0], -1)
        solved = np.linalg.solve(term.covariance(sky, nuisance), residual[..., None])[..., 0]
        return np.asarray((residual * solved).sum(axis=1))
    if isinstance(term, OneSkyTerm):
        n_power = sum(len(record) for record in term.spectra)
        return -2.0 * (term.log_prob_of(data, sky, nuisance) + np.log(data[..., :n_power]).sum(axis=-1))
    if isinstance(term, SimulatedTerm):
        return -2.0 * (term.log_prob_of(data, sky, nuisance) - term.log_jacobian(data))
    mean, modes = term.moments(sky, nuisance)
    fixed = term.fixed_power(sky)
    variance = (2.0 * mean**2 + 4.0 * mean * fixed) / modes
    return np.asarray(((data - mean - fixed) ** 2 / variance).sum(axis=1))


def predictive_p_value(
    posterior: Posterior, samples: FloatArray, *, rng: np.random.Generator, term: int = 0
) -> float:
    """Return the posterior predictive p-value: how often a repeated observation lies further off than the data do.

    For each sample a data set is drawn and compared with the data by `discrepancy` under that sample (Gelman, Meng &
    Stern 1996). Near zero the model cannot have made the data; near one the data scatter less than it says. The data
    were used to fit, so the values of a true model crowd towards one half: it finds bad models late, and rejects true
    ones seldom. A model whose scatter is fitted as well hides what is wrong in the scatter.

    Parameters
    ----------
    posterior : Posterior
        The posterior that was fitted.
    samples : ndarray, shape (n, n_par)
        Its samples.
    rng : numpy.random.Generator
        Source of the repeated observations.
    term : int
        Which data set of the likelihood.
    """
    observed = posterior.likelihood.terms[term]
    sky = posterior.skies(samples)[term]
    nuisance = posterior.nuisances(samples)[term]
    repeated = posterior.draw(samples, rng=rng)[term]
    here = discrepancy(observed, sky, nuisance, observed.data)
    return float(np.mean(discrepancy(observed, sky, nuisance, repeated) >= here))
