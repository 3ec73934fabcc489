"""Kernels of mock observations: float64 arrays in and out; angles in radians, a_lm in healpy order."""

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@numba.njit(cache=True)
def ring_harmonics(
    alm: ComplexArray, lmax: int, up: FloatArray, down: FloatArray, sin_dec: FloatArray, cos_dec: FloatArray
) -> ComplexArray:
    """Sum of a_lm P_lm over l at n declinations, shape (n, lmax + 1); P_lm orthonormal, Condon-Shortley phase.

    `up` and `down`, in the order of the a_lm, are the factors of the recursion over l at fixed m,
    P_lm = up (sin_dec P_l-1,m - down P_l-2,m).
    """
    out = np.zeros((sin_dec.size, lmax + 1), dtype=np.complex128)
    for i in range(sin_dec.size):
        first = np.sqrt(0.25 / np.pi)
        k = 0
        for m in range(lmax + 1):
            if m > 0:
                first *= -np.sqrt((2.0 * m + 1.0) / (2.0 * m)) * cos_dec[i]
            before, now = 0.0, first
            total = alm[k] * now
            k += 1
            for _ in range(m + 1, lmax + 1):
                before, now = now, up[k] * (sin_dec[i] * now - down[k] * before)
                total += alm[k] * now
                k += 1
            out[i, m] = total
    return out


@numba.njit(cache=True)
def fold_ring(rows: FloatArray, cells: FloatArray, n_sub: int) -> FloatArray:
    """What each hour-angle cell of one band sees as time goes on, shape (n_time, n_fine).

    The fine right ascension of fine cell j at fine time t is t - j. `rows` (n_row, n_fine) holds the sky of the fine
    bands, `cells` (n_row, n_fine) the acceptance of their fine cells, n_sub of which make one cell.
    """
    n_row, n_fine = rows.shape
    out = np.zeros((n_fine // n_sub, n_fine))
    twice = np.empty(2 * n_fine)
    for row in range(n_row):
        twice[:n_fine] = rows[row]
        twice[n_fine:] = rows[row]
        for j in range(n_fine):
            share = cells[row, j]
            if share == 0.0:
                continue
            seen = twice[n_fine - j : 2 * n_fine - j]
            cell = out[j // n_sub]
            for t in range(n_fine):
                cell[t] += share * seen[t]
    return out
