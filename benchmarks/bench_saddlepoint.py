"""The joint density of powers of one sky, beside the same Newton steps in numpy, one parameter vector at a time.

The numpy route factors each block of modes with LAPACK, and uses the same formulas and tolerance."""

import numpy as np
from case import Case

from obsfit.infer.saddlepoint import Block, draw, log_density

VECTORS = 8
COHERENCE = 0.9  # between neighbouring energies
TARGET_S = {7: 0.1e-3, 30: None, 63: 2e-3, 93: None}


def problem(ell, energies, rng):
    """Return powers, blocks of modes for m = 1 to max(ell), and their number: steep power that leaks upwards."""
    ell = np.asarray(ell)
    between = COHERENCE ** np.abs(np.subtract.outer(np.arange(energies), np.arange(energies)))
    blocks = []
    for m in range(1, ell.max() + 1):
        own = np.flatnonzero(ell >= m)
        leak = np.exp(-0.3 * np.abs(np.subtract.outer(ell[own], np.arange(m, ell.max() + 1))))
        covariance = (leak * np.arange(m, ell.max() + 1.0) ** -3) @ leak.T
        index = (own + len(ell) * np.arange(energies)[:, None]).ravel()
        coefficient = np.tile(2.0 / (2.0 * ell[own] + 1.0), energies)
        amplitude = rng.lognormal(0.0, 0.3, VECTORS)[:, None, None]
        noise = 1e-4 * np.eye(index.size)
        blocks.append(Block(index, coefficient, 0.5 * (amplitude * np.kron(between, covariance) + noise), 2))
    n = ell.size * energies
    return draw(blocks, n, rng=rng)[0], blocks, n


def by_numpy(power, blocks, vector):
    """Return the log density of one parameter vector, for zero means and no errors of reading."""
    n = power.size
    roots = []
    for block in blocks:
        root = np.linalg.cholesky(block.covariance[vector]).T * np.sqrt(block.coefficient)
        roots.append((block.index, block.copies, root, block.index[:, None] == np.arange(n)))

    def value(t):
        total, factors = -t @ power, []
        for index, copies, root, _ in roots:
            try:
                factor = np.linalg.cholesky(np.eye(index.size) - 2.0 * (root * t[index]) @ root.T)
            except np.linalg.LinAlgError:
                return np.inf, factors
            factors.append(factor)
            total -= copies * np.sum(np.log(np.diag(factor)))
        return total, factors

    t = np.zeros(n)
    best, factors = value(t)
    while True:
        first, second = np.zeros(n), np.zeros((n, n))
        for (_, copies, root, choose), factor in zip(roots, factors, strict=True):
            w = np.linalg.solve(factor, root)
            g = w.T @ w
            first += copies * np.diag(g) @ choose
            second += 2.0 * copies * choose.T @ g**2 @ choose
        residual = power - first
        if np.max(np.abs(residual) / np.sqrt(np.diag(second))) < 1e-10:
            return best - 0.5 * np.linalg.slogdet(2.0 * np.pi * second)[1]
        step = np.linalg.solve(second, residual)
        trial, trial_factors = value(t + step)
        while trial > best + 1e-12 * (1.0 + abs(best)):
            step = 0.5 * step
            trial, trial_factors = value(t + step)
        t, best, factors = t + step, trial, trial_factors


def case(ell, energies):
    power, blocks, n = problem(ell, energies, np.random.default_rng(1))
    reading = np.zeros(n)
    return Case(
        f"saddlepoint density of {n} powers, one vector", lambda: log_density(power, blocks, reading=reading),
        lambda: np.array([by_numpy(power, blocks, v) for v in range(VECTORS)]), "numpy and LAPACK, one at a time",
        target=TARGET_S[n], count=VECTORS, repeats=7, agree=lambda a, b: np.allclose(a, b, rtol=0.0, atol=1e-6),
    )  # fmt: skip


ELL = (1, 2, 3, 4, 6, 11, 20)
CASES = [case(ELL, 1), case(range(1, 31), 1), case(ELL, 9), case(range(1, 32), 3)]
