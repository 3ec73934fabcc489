import numpy as np
from obsfit_models.cascade import cascade_power, leaked_power
from scipy import stats


def test_cascade_against_random_jumps():
    """(2 l + 1) C_l / 3 is the probability to be at l: one million quanta of power with exponential waiting times.

    False-alarm probability 1e-4.
    """
    rng = np.random.default_rng(20)
    n, nu_t, lmax = 1_000_000, 0.3, 12
    elapsed, counts, remaining = np.zeros(n), [], n
    for ell in range(1, lmax + 1):
        elapsed += rng.exponential(1 / (ell * (ell + 1)), size=elapsed.size)
        gone_on = elapsed < nu_t
        counts.append(remaining - int(gone_on.sum()))
        elapsed = elapsed[gone_on]
        remaining = elapsed.size
    ell = np.arange(1, lmax + 1)
    expected = n * np.append((2 * ell + 1) * cascade_power(nu_t, lmax)[1:] / 3, leaked_power(nu_t, lmax))
    assert stats.chisquare([*counts, remaining], expected).pvalue > 1e-4
