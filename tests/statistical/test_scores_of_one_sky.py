"""The joint likelihood on maps: its slope at the truth has mean zero, and the variance that its curvature says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from obsfit.configuration import load_configuration
from obsfit.records import PowerSpectrum
from obsfit.study import universes
from obsfit.study.universes import UniverseConfiguration

FILE = Path(__file__).parents[2] / "analyses/calibration/universes.toml"
N = 20
STEP = np.diag([0.02, 0.01])


def log_density(posterior, terms, theta):
    sky, nuisance = posterior.skies(theta[None])[0], posterior.nuisances(theta[None])[0]
    return np.array([term.log_prob(sky, nuisance)[0] for term in terms])


@pytest.fixture(scope="module")
def universe():
    """Posterior, truth, and N universes: nine energies of IceCube, the 10 TeV map and five dipoles of bright skies."""
    settings = load_configuration(FILE, UniverseConfiguration)
    posterior = universes._posterior(settings, FILE.parent)
    term = universes._one_sky(posterior)
    truth = {"log10_c1": -5.7, "exponent": 0.5, "response_width": 1.0}
    theta = np.array([truth.get(name, 0.0) for name in posterior.names])
    assert posterior.names[:2] == ("log10_c1", "exponent")
    generators = (np.random.default_rng([20, number]) for number in range(N))
    records = [universes._observed(settings, posterior, term, theta[None], rng) for rng in generators]
    return posterior, term, theta, records


def one_step_estimates(posterior, theta, terms):
    """Estimates of log10 C_1 and of the exponent by one Newton step from the truth, over their errors, (N, 2)."""
    step = np.zeros((2, theta.size))
    step[:, :2] = STEP
    here = log_density(posterior, terms, theta)
    up, down = (np.array([log_density(posterior, terms, theta + s * one) for one in step]) for s in (1, -1))
    both = [log_density(posterior, terms, theta + s * step.sum(axis=0)) for s in (1, -1)]
    h = np.diag(STEP)
    slope = ((up - down) / (2.0 * h[:, None])).T
    curvature = np.diag(-np.mean(up + down - 2.0 * here, axis=1) / h**2)
    mixed = -np.mean(both[0] + both[1] - up.sum(axis=0) - down.sum(axis=0) + 2.0 * here) / (2.0 * h.prod())
    curvature[0, 1] = curvature[1, 0] = mixed
    variance = np.linalg.inv(curvature)
    return slope @ variance / np.sqrt(np.diag(variance))


def test_estimates_on_maps_scatter_as_the_curvature_of_the_likelihood_says(universe):
    """Skies seen on maps, which share no operator with the likelihood: false alarm 0.001 for each of four tests."""
    posterior, term, theta, records = universe
    z = one_step_estimates(posterior, theta, [term.observing(*some) for some in records])
    for column in z.T:
        assert 0.0005 < stats.chi2(N).cdf(np.sum(column**2)) < 0.9995
        assert abs(column.mean()) < 3.3 / np.sqrt(N)


def test_powers_twice_too_large_are_seen(universe):
    """Twice the power is 0.3 in log10 C_1, which one sky tells to 0.1 or so."""
    posterior, term, theta, records = universe
    doubled = [
        [replace(r, c_ell=2.0 * r.c_ell) if isinstance(r, PowerSpectrum) else r for r in some] for some in records
    ]
    z = one_step_estimates(posterior, theta, [term.observing(*some) for some in doubled])
    assert np.max(np.abs(z.mean(axis=0))) > 3.3 / np.sqrt(N)
