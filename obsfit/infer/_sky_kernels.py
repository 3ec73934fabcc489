"""Kernels of the sky sampler: float64 and complex128 arrays in and out; a_lm of unit variance (x = a / sqrt C).

Blocks are m = 0 to lmax; within a block l runs from max(m, 1) to lmax, and arrays are indexed by (m, l).
"""

import numba
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@numba.njit(cache=True)
def combine(
    information: FloatArray, projected: ComplexArray, amplitude: FloatArray, noise_scale: FloatArray
) -> tuple[FloatArray, ComplexArray]:
    """Sum of R^T N^-1 R (m, l, l) and R^T N^-1 y (m, l) over observatories, for their amplitudes and noise scales."""
    n_obs, size = information.shape[0], information.shape[1]
    total = np.zeros((size, size, size))
    data = np.zeros((size, size), dtype=np.complex128)
    for k in range(n_obs):
        quadratic, linear = amplitude[k] ** 2 / noise_scale[k], amplitude[k] / noise_scale[k]
        for m in range(size):
            for i in range(max(m, 1), size):
                data[m, i] += linear * projected[k, m, i]
                for j in range(max(m, 1), i + 1):
                    total[m, i, j] += quadratic * information[k, m, i, j]
                    total[m, j, i] = total[m, i, j]
    return total, data


@numba.njit(cache=True)
def factorise(
    total: FloatArray, data: ComplexArray, root: FloatArray, m: int, lower: FloatArray, forward: ComplexArray
) -> float:
    """Cholesky factor of 1 + root G root in block m, and its solution of root b; returns half log determinant."""
    size = total.shape[1]
    start = max(m, 1)
    half = 0.0
    for i in range(start, size):
        for j in range(start, i + 1):
            value = total[m, i, j] * root[i] * root[j]
            if i == j:
                value += 1.0
            for k in range(start, j):
                value -= lower[i, k] * lower[j, k]
            if i == j:
                lower[i, i] = np.sqrt(value)
                half += np.log(lower[i, i])
            else:
                lower[i, j] = value / lower[j, j]
        entry = root[i] * data[m, i]
        for k in range(start, i):
            entry -= lower[i, k] * forward[k]
        forward[i] = entry / lower[i, i]
    return half


@numba.njit(cache=True)
def log_marginal(total: FloatArray, data: ComplexArray, root: FloatArray) -> float:
    """Log probability of the data with the sky integrated out, up to what no amplitude changes."""
    size = total.shape[1]
    lower = np.zeros((size, size))
    forward = np.zeros(size, dtype=np.complex128)
    value = 0.0
    for m in range(size):
        half = factorise(total, data, root, m, lower, forward)
        part = 0.0
        for i in range(max(m, 1), size):
            part += forward[i].real ** 2 + forward[i].imag ** 2
        value += 0.5 * part - half if m == 0 else part - 2.0 * half
    return value


@numba.njit(cache=True)
def draw_sky(total: FloatArray, data: ComplexArray, root: FloatArray, rng: Generator) -> ComplexArray:
    """Return x (m, l), drawn from its Gaussian conditional."""
    size = total.shape[1]
    lower = np.zeros((size, size))
    forward = np.zeros(size, dtype=np.complex128)
    x = np.zeros((size, size), dtype=np.complex128)
    for m in range(size):
        start = max(m, 1)
        factorise(total, data, root, m, lower, forward)
        for i in range(start, size):
            if m == 0:
                forward[i] += rng.standard_normal()
            else:
                forward[i] += (rng.standard_normal() + 1j * rng.standard_normal()) * np.sqrt(0.5)
        for i in range(size - 1, start - 1, -1):
            entry = forward[i]
            for k in range(i + 1, size):
                entry -= lower[k, i] * x[m, k]
            x[m, i] = entry / lower[i, i]
    return x


@numba.njit(cache=True)
def draw_amplitudes(
    information: FloatArray,
    projected: ComplexArray,
    amplitude: FloatArray,
    noise_scale: FloatArray,
    root: FloatArray,
    scatter: float,
    reach: float,
    rng: Generator,
) -> None:
    """Draw the amplitudes of all observatories but the first, in place, with the sky integrated out.

    Slices within `reach` standard deviations of the normal prior around 1, shrinking towards the present value.
    """
    for k in range(1, len(amplitude)):
        total, data = combine(information, projected, amplitude, noise_scale)
        now = amplitude[k]
        level = log_marginal(total, data, root) - 0.5 * ((now - 1.0) / scatter) ** 2 + np.log(rng.random())
        low, high = max(1.0 - reach * scatter, 0.0), 1.0 + reach * scatter
        while True:
            amplitude[k] = low + (high - low) * rng.random()
            total, data = combine(information, projected, amplitude, noise_scale)
            found = log_marginal(total, data, root) - 0.5 * ((amplitude[k] - 1.0) / scatter) ** 2
            if found >= level or high - low < 1e-14:
                break
            if amplitude[k] < now:
                low = amplitude[k]
            else:
                high = amplitude[k]


@numba.njit(cache=True)
def rescale(
    total: FloatArray,
    data: ComplexArray,
    x: ComplexArray,
    root: FloatArray,
    index: float,
    low: float,
    high: float,
    rng: Generator,
) -> None:
    """Draw root_l = sqrt C_l for each l in place, the sky of unit variance x held fixed.

    The log likelihood is B t - A t^2 / 2 in t = root_l; slices in log t over the whole prior.
    """
    size = total.shape[1]
    left = np.zeros((size, size), dtype=np.complex128)
    for m in range(size):
        for i in range(max(m, 1), size):
            entry = data[m, i]
            for j in range(max(m, 1), size):
                entry -= total[m, i, j] * root[j] * x[m, j]
            left[m, i] = entry
    for ell in range(1, size):
        quadratic, linear = 0.0, 0.0
        now = root[ell]
        for m in range(ell + 1):
            copies = 1.0 if m == 0 else 2.0
            power = total[m, ell, ell] * (x[m, ell].real ** 2 + x[m, ell].imag ** 2)
            quadratic += copies * power
            cross = x[m, ell].real * left[m, ell].real + x[m, ell].imag * left[m, ell].imag
            linear += copies * (cross + now * power)
        slope = 2.0 - 2.0 * index
        here = np.log(now)
        level = slope * here + linear * now - 0.5 * quadratic * now**2 + np.log(rng.random())
        bottom, top = 0.5 * np.log(low), 0.5 * np.log(high)
        while True:
            place = bottom + (top - bottom) * rng.random()
            t = np.exp(place)
            if slope * place + linear * t - 0.5 * quadratic * t**2 >= level or top - bottom < 1e-14:
                break
            if place < here:
                bottom = place
            else:
                top = place
        root[ell] = t
        for m in range(ell + 1):
            step = (t - now) * x[m, ell]
            for i in range(max(m, 1), size):
                left[m, i] -= total[m, i, ell] * step


@numba.njit(cache=True)
def misfit(
    information: FloatArray,
    projected: ComplexArray,
    square: FloatArray,
    amplitude: FloatArray,
    x: ComplexArray,
    root: FloatArray,
) -> FloatArray:
    """Chi-square of each observatory at unit noise scale, shape (n_obs,)."""
    n_obs, size = information.shape[0], information.shape[1]
    chi2 = square.copy()
    for k in range(n_obs):
        for m in range(size):
            copies = 1.0 if m == 0 else 2.0
            for i in range(max(m, 1), size):
                entry = 0.0 + 0.0j
                for j in range(max(m, 1), size):
                    entry += information[k, m, i, j] * root[j] * x[m, j]
                entry = amplitude[k] ** 2 * entry - 2.0 * amplitude[k] * projected[k, m, i]
                own = root[i] * x[m, i]
                chi2[k] += copies * (own.real * entry.real + own.imag * entry.imag)
    return chi2


@numba.njit(cache=True)
def powers(x: ComplexArray, root: FloatArray) -> FloatArray:
    """Sum over both signs of m of |a_lm|^2, shape (lmax + 1,)."""
    size = len(root)
    total = np.zeros(size)
    for m in range(size):
        copies = 1.0 if m == 0 else 2.0
        for i in range(max(m, 1), size):
            total[i] += copies * root[i] ** 2 * (x[m, i].real ** 2 + x[m, i].imag ** 2)
    return total
