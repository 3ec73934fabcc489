"""Kernels of the saddlepoint density: float64 arrays in, arrays out; every power in units of its mean.

Matrices are lower triangles stored by full rows. Blocks lie one after the other in flat arrays: modes of block b at
``edge[b]``, matrices at ``square[b]``, means (copies, k) at ``mean_edge[b]``, which is empty where the mean is zero.

The covariance is never inverted, as behind a cut it is nearly singular. With V = L^T L, L lower, the determinant of
1 - 2 V D is that of A = 1 - 2 L D L^T = C C^T, and the tilted covariance is G = L^T A^-1 L = W^T W with W = C^-1 L.
"""
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

import math

import numba
import numpy as np

JITTER = 1e-13  # added to the diagonal of the correlation matrix of each block: keeps its Cholesky factor real
TOLERANCE = 1e-9  # largest |K'(t) - p| at the solution, in standard deviations of each power under the tilted law
MAX_STEPS = 200

CONVERGED, NOT_SYMMETRIC, NOT_DEFINITE, DEGENERATE, STUCK = range(5)

# sums may be reordered; NaN and infinity keep their meaning: the domain of K is left through them
_FAST = {"reassoc", "contract"}


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _reverse_cholesky(covariance, root):
    """Write lower L with L^T L the correlation matrix (plus the jitter); return whether it exists."""
    k = covariance.shape[0]
    for i in range(k - 1, -1, -1):
        for j in range(i):
            root[i, j] = covariance[i, j] / math.sqrt(covariance[i, i] * covariance[j, j])
        root[i, i] = 1.0 + JITTER
    for i in range(k - 1, -1, -1):
        if not root[i, i] > 0.0:
            return False
        root[i, i] = math.sqrt(root[i, i])
        for j in range(i):
            root[i, j] /= root[i, i]
        for r in range(i):
            scale = root[i, r]
            for j in range(r + 1):
                root[r, j] -= scale * root[i, j]
    return True


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _factor(root, shift, scaled, factor, inverse_diagonal):
    """Write C of 1 - L diag(shift) L^T; return its log determinant, infinity if not positive definite."""
    logdet = 0.0
    for i in range(shift.size):
        for j in range(i + 1):
            scaled[j] = shift[j] * root[i, j]
        for j in range(i):
            total = 0.0
            for k in range(j + 1):
                total -= scaled[k] * root[j, k]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total * inverse_diagonal[j]
        total = 1.0
        for k in range(i + 1):
            total -= scaled[k] * root[i, k]
        for k in range(i):
            total -= factor[i, k] * factor[i, k]
        if not total > 0.0:
            return np.inf
        factor[i, i] = math.sqrt(total)
        inverse_diagonal[i] = 1.0 / factor[i, i]
        logdet += math.log(total)
    return logdet


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _tilted_covariance(root, factor, inverse_diagonal, work, g):
    """Write the lower triangle of G = W^T W; work holds W = C^-1 L."""
    n = inverse_diagonal.size
    for i in range(n):
        for k in range(i + 1):
            work[i, k] = root[i, k]
        for j in range(i):
            scale = factor[i, j]
            for k in range(j + 1):
                work[i, k] -= scale * work[j, k]
        for k in range(i + 1):
            work[i, k] *= inverse_diagonal[i]
        for j in range(i + 1):
            g[i, j] = 0.0
    for r in range(n):
        for i in range(r + 1):
            scale = work[r, i]
            for j in range(i + 1):
                g[i, j] += scale * work[r, j]


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _tilted_mean(root, factor, inverse_diagonal, shift, mean, solution, mu):
    """Write mu = b + L^T A^-1 L (2 D b), the mean of the modes under the tilted law."""
    n = inverse_diagonal.size
    for i in range(n):
        total = 0.0
        for k in range(i + 1):
            total += root[i, k] * shift[k] * mean[k]
        solution[i] = total
    _substitute(factor, inverse_diagonal, solution, solution)
    for i in range(n):
        mu[i] = mean[i]
    for i in range(n):
        for k in range(i + 1):
            mu[k] += root[i, k] * solution[i]


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _cholesky(matrix, factor, inverse_diagonal):
    """Write the lower factor; return the log determinant, infinity if not positive definite."""
    logdet = 0.0
    for i in range(inverse_diagonal.size):
        for j in range(i):
            total = matrix[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total * inverse_diagonal[j]
        total = matrix[i, i]
        for k in range(i):
            total -= factor[i, k] * factor[i, k]
        if not total > 0.0:
            return np.inf
        factor[i, i] = math.sqrt(total)
        inverse_diagonal[i] = 1.0 / factor[i, i]
        logdet += math.log(total)
    return logdet


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _substitute(factor, inverse_diagonal, right, x):
    """Write the solution of C C^T x = right; x may be right itself."""
    n = inverse_diagonal.size
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * x[k]
        x[i] = total * inverse_diagonal[i]
    for i in range(n - 1, -1, -1):
        x[i] *= inverse_diagonal[i]
        for k in range(i):
            x[k] -= factor[i, k] * x[i]


@numba.njit(cache=True, error_model="numpy")
def _prepare(covariance, coefficient, copies, edge, square, mean, mean_edge, root, rate, own):
    """Write L, the rates c_i V_ii and the means of modes of unit variance; return status and block."""
    for b in range(copies.size):
        first, k = edge[b], edge[b + 1] - edge[b]
        v = covariance[square[b] : square[b + 1]].reshape(k, k)
        for i in range(k):
            if not v[i, i] > 0.0:
                return NOT_DEFINITE, b
            for j in range(i):
                if abs(v[i, j] - v[j, i]) > 1e-10 * math.sqrt(v[i, i] * v[j, j]):
                    return NOT_SYMMETRIC, b
            rate[first + i] = coefficient[first + i] * v[i, i]
            for m in range(mean_edge[b] + i, mean_edge[b + 1], k):
                own[m] = mean[m] / math.sqrt(v[i, i])
        if not _reverse_cholesky(v, root[square[b] : square[b + 1]].reshape(k, k)):
            return NOT_DEFINITE, b
    return CONVERGED, -1


@numba.njit(cache=True, error_model="numpy")
def _cumulant(t, power, variance, index, rate, copies, edge, square, mean_edge, root, own, shift, work, factor,
              inverse_diagonal, mu):  # fmt: skip
    """Return K(t) - t.p, infinity outside the domain of K; leaves C and mu for `_derivatives`."""
    total = 0.0
    for j in range(t.size):
        total += (0.5 * variance[j] * t[j] - power[j]) * t[j]
    for b in range(copies.size):
        first, last = edge[b], edge[b + 1]
        k = last - first
        for i in range(first, last):
            shift[i] = 2.0 * rate[i] * t[index[i]]
        s, d = shift[first:last], inverse_diagonal[first:last]
        low = root[square[b] : square[b + 1]].reshape(k, k)
        f = factor[square[b] : square[b + 1]].reshape(k, k)
        logdet = _factor(low, s, work, f, d)
        if not logdet < np.inf:
            return np.inf
        total -= 0.5 * copies[b] * logdet
        for m in range(mean_edge[b], mean_edge[b + 1], k):
            _tilted_mean(low, f, d, s, own[m : m + k], work[:k], mu[m : m + k])
            for i in range(k):
                total += 0.5 * own[m + i] * s[i] * mu[m + i]
    return total


@numba.njit(cache=True, error_model="numpy")
def _derivatives(t, variance, index, rate, copies, edge, square, mean_edge, root, work, factor, inverse_diagonal, mu,
                 tilted, gradient, hessian):  # fmt: skip
    """Write K' and the lower triangle of K'' at the t of the last `_cumulant`."""
    n = t.size
    hessian[:] = 0.0
    for j in range(n):
        gradient[j] = variance[j] * t[j]
    for b in range(copies.size):
        first, k = edge[b], edge[b + 1] - edge[b]
        g = tilted[: k * k].reshape(k, k)
        _tilted_covariance(
            root[square[b] : square[b + 1]].reshape(k, k), factor[square[b] : square[b + 1]].reshape(k, k),
            inverse_diagonal[first : first + k], work[: k * k].reshape(k, k), g,
        )  # fmt: skip
        for i in range(k):
            row, ci = index[first + i], rate[first + i]
            value = copies[b] * g[i, i]
            for m in range(mean_edge[b], mean_edge[b + 1], k):
                value += mu[m + i] ** 2
            gradient[row] += ci * value
            for j in range(i + 1):
                curvature = 2.0 * copies[b] * g[i, j] ** 2
                for m in range(mean_edge[b], mean_edge[b + 1], k):
                    curvature += 4.0 * mu[m + i] * g[i, j] * mu[m + j]
                # the transpose is added below: the diagonal must not count twice
                half = 0.5 if i == j else 1.0
                hessian[row, index[first + j]] += half * ci * rate[first + j] * curvature
    for i in range(n):
        for j in range(i):
            hessian[i, j] += hessian[j, i]
        hessian[i, i] = 2.0 * hessian[i, i] + variance[i]


@numba.njit(cache=True, error_model="numpy")
def _solve(power, reading, index, coefficient, copies, edge, square, covariance, mean, mean_edge):
    """Return log density, status, place, error and steps of one parameter vector."""
    n, modes, largest = power.size, index.size, 0
    for b in range(copies.size):
        largest = max(largest, edge[b + 1] - edge[b])
    root, factor = np.empty(square[-1]), np.empty(square[-1])
    work, tilted = np.empty(largest * largest), np.empty(largest * largest)
    inverse_diagonal, rate, shift = np.empty(modes), np.empty(modes), np.empty(modes)
    own, mu = np.empty(mean.size), np.empty(mean.size)
    status, place = _prepare(covariance, coefficient, copies, edge, square, mean, mean_edge, root, rate, own)
    if status != CONVERGED:
        return np.nan, status, place, np.nan, 0

    scale = np.zeros(n)  # every power in units of its mean
    for b in range(copies.size):
        k = edge[b + 1] - edge[b]
        for i in range(k):
            value = float(copies[b])
            for m in range(mean_edge[b], mean_edge[b + 1], k):
                value += own[m + i] ** 2
            scale[index[edge[b] + i]] += rate[edge[b] + i] * value
    constant = -0.5 * n * math.log(2.0 * math.pi)
    p, variance = np.empty(n), np.empty(n)
    for j in range(n):
        if not scale[j] > 0.0:
            return np.nan, DEGENERATE, j, np.nan, 0
        p[j], variance[j] = power[j] / scale[j], (reading[j] / scale[j]) ** 2
        constant -= math.log(scale[j])
    for i in range(modes):
        rate[i] /= scale[index[i]]

    t, trial, gradient, residual, step = np.zeros(n), np.zeros(n), np.empty(n), np.empty(n), np.empty(n)
    hessian, triangle, triangle_diagonal = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    value = _cumulant(t, p, variance, index, rate, copies, edge, square, mean_edge, root, own, shift, work, factor,
                      inverse_diagonal, mu)  # fmt: skip
    error = np.inf
    for steps in range(MAX_STEPS):
        _derivatives(t, variance, index, rate, copies, edge, square, mean_edge, root, work, factor, inverse_diagonal,
                     mu, tilted, gradient, hessian)  # fmt: skip
        logdet = _cholesky(hessian, triangle, triangle_diagonal)
        if not logdet < np.inf:
            return np.nan, DEGENERATE, -1, error, steps
        error = 0.0
        for j in range(n):
            residual[j] = p[j] - gradient[j]
            error = max(error, abs(residual[j]) / math.sqrt(hessian[j, j]))
        if error <= TOLERANCE:
            return value - 0.5 * logdet + constant, CONVERGED, -1, error, steps
        _substitute(triangle, triangle_diagonal, residual, step)
        slope = 0.0
        for j in range(n):
            slope += step[j] * residual[j]
        length = 1.0
        while True:
            for j in range(n):
                trial[j] = t[j] + length * step[j]
            new = _cumulant(trial, p, variance, index, rate, copies, edge, square, mean_edge, root, own, shift, work,
                            factor, inverse_diagonal, mu)  # fmt: skip
            # the last steps change the value by less than its rounding
            if new <= value - 1e-4 * length * slope + 1e-13 * (1.0 + abs(value)):
                break
            length *= 0.5
            if length < 1e-10:
                return np.nan, STUCK, -1, error, steps
        value = new
        for j in range(n):
            t[j] = trial[j]
    return np.nan, STUCK, -1, error, MAX_STEPS


@numba.njit(cache=True, parallel=True, error_model="numpy")
def solve_all(power, reading, index, coefficient, copies, edge, covariance, mean, mean_edge):
    """Return log density, status, place, error and steps of every parameter vector."""
    n_vec = covariance.shape[0]
    square = np.zeros(edge.size, dtype=np.int64)
    for b in range(copies.size):
        square[b + 1] = square[b] + (edge[b + 1] - edge[b]) ** 2
    result, error = np.empty(n_vec), np.empty(n_vec)
    status, place, steps = np.empty(n_vec, np.int64), np.empty(n_vec, np.int64), np.empty(n_vec, np.int64)
    for v in numba.prange(n_vec):
        result[v], status[v], place[v], error[v], steps[v] = _solve(
            power, reading, index, coefficient, copies, edge, square, covariance[v], mean[v], mean_edge
        )
    return result, status, place, error, steps
