"""The moves of emcee leave a normal law as it is: its covariance in many dimensions, as no move of its own tests it."""

import numpy as np
from scipy import stats

from obsfit.infer import SamplerSettings, run_emcee
from obsfit.parameters import Parameter

N = 8


class Normal:
    """Normal law of N correlated numbers, deep inside flat priors."""

    parameters = tuple(Parameter(f"p{i}", stats.uniform(-60.0, 120.0)) for i in range(N))

    def __init__(self):
        mixing = np.eye(N) + 0.4 * np.random.default_rng(0).normal(size=(N, N))
        self.covariance = mixing @ mixing.T
        self._precision = np.linalg.inv(self.covariance)

    def log_prob(self, theta):
        inside = np.all(np.abs(theta) <= 60.0, axis=1)
        return np.where(inside, 0.0, -np.inf) - 0.5 * np.einsum("ni,ij,nj->n", theta, self._precision, theta)


def test_the_covariance_is_that_of_the_law():
    """The mean square of white numbers, n independent samples of each: within 4.5 of its errors sqrt(2 / (n N)).

    False alarm 1e-5. With a fifth of the steps by emcee's snooker move it is 0.9 in place of 1, nine errors off.
    """
    law = Normal()
    fit = run_emcee(law, rng=np.random.default_rng(1), settings=SamplerSettings(target=60.0))
    white = np.linalg.solve(np.linalg.cholesky(law.covariance), fit.samples().T)
    independent = fit.effective_steps * fit.chain.shape[1]
    assert abs(np.mean(white**2) - 1.0) < 4.5 * np.sqrt(2.0 / (independent * N))
    assert np.all(np.abs(np.mean(white, axis=1)) < 4.5 / np.sqrt(independent))
