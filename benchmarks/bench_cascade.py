"""The power of the cascade for 64 times, beside a matrix exponential for each.

The exact route is the slower one: it keeps all digits of the smallest multipoles, which expm loses.
Fits use a table made from it."""

import numpy as np
from case import Case
from obsfit_models.cascade import cascade_power
from scipy.linalg import expm

import obsfit

LMAX, VECTORS = 40, 64
NU_T = np.geomspace(0.05, 20.0, VECTORS)


def by_generator():
    return cascade_power(NU_T, LMAX)


def by_table():
    """What a fit calls: the same ratios, at a given dipole."""
    dipole = np.exp(-2.0 * NU_T)  # C_1 decays with nu_1 = 2
    theta = np.column_stack([np.log10(dipole), np.log10(NU_T)])
    return MODEL.c_ell(theta, np.array([10.0]), LMAX)[:, 0, 0]


def by_expm():
    ell = np.arange(1, LMAX + 1)
    rate = ell * (ell + 1.0)
    generator = np.diag(-rate) + np.diag(rate[:-1], -1)
    power = np.zeros((VECTORS, LMAX + 1))
    for row, time in enumerate(NU_T):
        power[row, 1:] = 3.0 * expm(generator * time)[:, 0] / (2 * ell + 1)
    return power


def agree(mine, theirs):
    """Whether all powers above 1e-9 of the dipole agree: expm knows no smaller ones."""
    large = theirs > 1e-9 * theirs[:, 1:2]
    return bool(np.allclose(mine[large], theirs[large], rtol=1e-5))


MODEL = obsfit.load_model("hierarchical-cascade")
CASES = [
    Case("cascade to l = 40, 64 times, one of them, exact", by_generator, by_expm, "scipy.linalg.expm", count=VECTORS,
         repeats=9, agree=agree),
    Case("cascade to l = 40, 64 times, one of them, in a fit", by_table, by_expm, "scipy.linalg.expm", count=VECTORS,
         repeats=9, agree=agree),
]  # fmt: skip
