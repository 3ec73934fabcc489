"""Kernels of the gather iteration: sums over time bins t and local pixels p, of which table[t, p] is the sky pixel."""

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int32]


@numba.njit(cache=True)
def add_to_sky(table: IndexArray, counts: FloatArray, sky: FloatArray) -> None:
    """Add counts (t, p) to the sky pixels that they come from, in place."""
    for t in range(table.shape[0]):
        for p in range(table.shape[1]):
            sky[table[t, p]] += counts[t, p]


@numba.njit(cache=True)
def add_expected(table: IndexArray, exposure: FloatArray, acceptance: FloatArray, sky: FloatArray) -> None:
    """Add N_t A_p to the sky pixels that are seen, in place."""
    for t in range(table.shape[0]):
        for p in range(table.shape[1]):
            sky[table[t, p]] += exposure[t] * acceptance[p]


@numba.njit(cache=True)
def sky_by_time(table: IndexArray, acceptance: FloatArray, sky: FloatArray) -> FloatArray:
    """Sum over pixels of A_p I, shape (t,)."""
    total = np.zeros(table.shape[0])
    for t in range(table.shape[0]):
        for p in range(table.shape[1]):
            total[t] += acceptance[p] * sky[table[t, p]]
    return total


@numba.njit(cache=True)
def sky_by_pixel(table: IndexArray, exposure: FloatArray, sky: FloatArray) -> FloatArray:
    """Sum over time bins of N_t I, shape (p,)."""
    total = np.zeros(table.shape[1])
    for t in range(table.shape[0]):
        for p in range(table.shape[1]):
            total[p] += exposure[t] * sky[table[t, p]]
    return total
