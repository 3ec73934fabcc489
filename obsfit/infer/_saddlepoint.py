"""Kernels of the saddlepoint density: float64 arrays in, arrays out; every power in units of its mean.

Triangles are stored by full rows, of which inner loops run over consecutive parts. Blocks lie one after the other in
flat arrays: modes of block b at ``edge[b]``, matrices at ``square[b]``, means (copies, k) at ``mean_edge[b]``, which
is empty where the mean is zero.

The covariance is never inverted, as behind a cut it is nearly singular. With V = L^T L, L lower, the determinant of
1 - 2 V D is that of A = 1 - 2 L D L^T = U^T U, and the tilted covariance is G = L^T A^-1 L = W^T W with W = U^-T L.
"""
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

import math

import numba
import numpy as np

JITTER = 1e-13  # added to the diagonal of the correlation matrix of each block: keeps its Cholesky factor real
TOLERANCE = 1e-10  # largest |K'(t) - p| at the solution, in standard deviations of each power under the tilted law
ROUNDED = 1e-4  # the same where rounding allows no better: after POLISH more steps, or no further descent
POLISH = 5
RIDGE = 1e-12
# K(t) - t.p below so many times the number of powers, after so many steps, is taken for the solution: no sky of this
# law gives such powers, and a bound of their density will do. It may fall for ever, a little in each step.
FAR, PATIENCE = -100.0, 20
LESS_FAR, LONG_PATIENCE = -10.0, 100
STRETCH = 1e3  # largest factor between the two kinds of steps
MAX_STEPS = 2000  # far tails take many

CONVERGED, NOT_SYMMETRIC, NOT_DEFINITE, DEGENERATE, STUCK = range(5)

# sums may be reordered; NaN and infinity keep their meaning: the domain of K is left through them
_FAST = {"reassoc", "contract"}


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _root(covariance, low, up):
    """Write lower L with L^T L the correlation matrix (plus the jitter), and L^T; return whether it exists."""
    k = covariance.shape[0]
    for i in range(k):
        for j in range(k):
            low[i, j] = up[i, j] = 0.0
        for j in range(i):
            low[i, j] = covariance[i, j] / math.sqrt(covariance[i, i] * covariance[j, j])
        low[i, i] = 1.0 + JITTER
    for i in range(k - 1, -1, -1):
        if not low[i, i] > 0.0:
            return False
        low[i, i] = math.sqrt(low[i, i])
        for j in range(i):
            low[i, j] /= low[i, i]
        for r in range(i):
            scale = low[i, r]
            for j in range(r + 1):
                low[r, j] -= scale * low[i, j]
        for j in range(i + 1):
            up[j, i] = low[i, j]
    return True


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _tilt(up, shift, a):
    """Write the upper triangle of A = 1 - L diag(shift) L^T."""
    n = shift.size
    for i in range(n):
        for j in range(n):
            a[i, j] = 0.0
        a[i, i] = 1.0
    for r in range(0, n - 3, 4):
        s0, s1, s2, s3 = shift[r], shift[r + 1], shift[r + 2], shift[r + 3]
        for i in range(r, n):
            c0, c1, c2, c3 = s0 * up[r, i], s1 * up[r + 1, i], s2 * up[r + 2, i], s3 * up[r + 3, i]
            t = a[i, i:n]
            r0, r1, r2, r3 = up[r, i:n], up[r + 1, i:n], up[r + 2, i:n], up[r + 3, i:n]
            for j in range(t.size):
                t[j] -= c0 * r0[j] + c1 * r1[j] + c2 * r2[j] + c3 * r3[j]
    for r in range(n - n % 4, n):
        for i in range(r, n):
            scale = shift[r] * up[r, i]
            for j in range(i, n):
                a[i, j] -= scale * up[r, j]


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _cholesky(a, inverse_diagonal):
    """Overwrite the upper triangle by U with U^T U = A; return log det A, infinity if not positive definite."""
    n = inverse_diagonal.size
    logdet = 0.0
    for q in range(0, n, 4):
        end = min(q + 4, n)
        for p in range(q, end):
            pivot = a[p, p]
            if not pivot > 0.0:
                return np.inf
            logdet += math.log(pivot)
            inverse_diagonal[p] = 1.0 / math.sqrt(pivot)
            for j in range(p, n):
                a[p, j] *= inverse_diagonal[p]
            for i in range(p + 1, end):
                scale = a[p, i]
                for j in range(i, n):
                    a[i, j] -= scale * a[p, j]
        for i in range(end, n):
            c0, c1, c2, c3 = a[q, i], a[q + 1, i], a[q + 2, i], a[q + 3, i]
            t = a[i, i:n]
            r0, r1, r2, r3 = a[q, i:n], a[q + 1, i:n], a[q + 2, i:n], a[q + 3, i:n]
            for j in range(t.size):
                t[j] -= c0 * r0[j] + c1 * r1[j] + c2 * r2[j] + c3 * r3[j]
    return logdet


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _substitute(u, inverse_diagonal, x):
    """Overwrite x by the solution of U^T U x' = x."""
    n = inverse_diagonal.size
    for i in range(n):
        x[i] *= inverse_diagonal[i]
        for j in range(i + 1, n):
            x[j] -= u[i, j] * x[i]
    for i in range(n - 1, -1, -1):
        total = x[i]
        for j in range(i + 1, n):
            total -= u[i, j] * x[j]
        x[i] = total * inverse_diagonal[i]


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _tilted_covariance(low, u, inverse_diagonal, w, g):
    """Write W = U^-T L and the lower triangle of G = W^T W."""
    n = inverse_diagonal.size
    for i in range(n):
        for j in range(n):
            w[i, j] = low[i, j]
            g[i, j] = 0.0
    for q in range(0, n, 4):
        end = min(q + 4, n)
        for p in range(q, end):
            for j in range(p + 1):
                w[p, j] *= inverse_diagonal[p]
            for i in range(p + 1, end):
                scale = u[p, i]
                for j in range(p + 1):
                    w[i, j] -= scale * w[p, j]
        for i in range(end, n):
            c0, c1, c2, c3 = u[q, i], u[q + 1, i], u[q + 2, i], u[q + 3, i]
            for j in range(end):
                w[i, j] -= c0 * w[q, j] + c1 * w[q + 1, j] + c2 * w[q + 2, j] + c3 * w[q + 3, j]
    for r in range(0, n - 3, 4):
        for i in range(r + 4):
            c0, c1, c2, c3 = w[r, i], w[r + 1, i], w[r + 2, i], w[r + 3, i]
            for j in range(i + 1):
                g[i, j] += c0 * w[r, j] + c1 * w[r + 1, j] + c2 * w[r + 2, j] + c3 * w[r + 3, j]
    for r in range(n - n % 4, n):
        for i in range(r + 1):
            scale = w[r, i]
            for j in range(i + 1):
                g[i, j] += scale * w[r, j]


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
def _tilted_mean(low, u, inverse_diagonal, shift, mean, solution, mu):
    """Write mu = b + L^T A^-1 L (2 D b), the mean of the modes under the tilted law."""
    n = inverse_diagonal.size
    for i in range(n):
        total = 0.0
        for k in range(i + 1):
            total += low[i, k] * shift[k] * mean[k]
        solution[i] = total
    _substitute(u, inverse_diagonal, solution)
    for i in range(n):
        mu[i] = mean[i]
    for i in range(n):
        for k in range(i + 1):
            mu[k] += low[i, k] * solution[i]


@numba.njit(cache=True, error_model="numpy")
def _prepare(covariance, coefficient, copies, edge, square, mean, mean_edge, low, up, rate, own):
    """Write L, L^T, the rates c_i V_ii and the means of modes of unit variance; return status and block."""
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
        square_b = slice(square[b], square[b + 1])
        if not _root(v, low[square_b].reshape(k, k), up[square_b].reshape(k, k)):
            return NOT_DEFINITE, b
    return CONVERGED, -1


@numba.njit(cache=True, error_model="numpy")
def _cumulant(t, power, error, index, rate, copies, edge, square, mean_edge, low, up, own, shift, solution,
              factor, inverse_diagonal, mu):  # fmt: skip
    """Return K(t) - t.p, infinity outside the domain of K; leaves U and mu for `_derivatives`."""
    total = 0.0
    for i in range(t.size):
        total += (0.5 * error[i] * t[i] - power[i]) * t[i]
    for b in range(copies.size):
        first, last = edge[b], edge[b + 1]
        k = last - first
        for i in range(first, last):
            shift[i] = 2.0 * rate[i] * t[index[i]]
        s, d = shift[first:last], inverse_diagonal[first:last]
        u = factor[square[b] : square[b + 1]].reshape(k, k)
        _tilt(up[square[b] : square[b + 1]].reshape(k, k), s, u)
        logdet = _cholesky(u, d)
        if not logdet < np.inf:
            return np.inf
        total -= 0.5 * copies[b] * logdet
        for m in range(mean_edge[b], mean_edge[b + 1], k):
            _tilted_mean(
                low[square[b] : square[b + 1]].reshape(k, k), u, d, s, own[m : m + k], solution[:k], mu[m : m + k]
            )
            for i in range(k):
                total += 0.5 * own[m + i] * s[i] * mu[m + i]
    return total


@numba.njit(cache=True, error_model="numpy")
def _derivatives(t, error, index, rate, copies, edge, square, mean_edge, low, work, factor, inverse_diagonal, mu,
                 tilted, gradient, hessian):  # fmt: skip
    """Write K' and the upper triangle of K'' at the t of the last `_cumulant`."""
    n = t.size
    hessian[:] = 0.0
    for i in range(n):
        gradient[i] = error[i] * t[i]
    for b in range(copies.size):
        first, k = edge[b], edge[b + 1] - edge[b]
        g = tilted[: k * k].reshape(k, k)
        _tilted_covariance(
            low[square[b] : square[b + 1]].reshape(k, k), factor[square[b] : square[b + 1]].reshape(k, k),
            inverse_diagonal[first : first + k], work[: k * k].reshape(k, k), g,
        )  # fmt: skip
        own_index, own_rate = index[first : first + k], rate[first : first + k]
        for i in range(k):
            gradient[own_index[i]] += own_rate[i] * copies[b] * g[i, i]
            row, scale = hessian[own_index[i]], 2.0 * copies[b] * own_rate[i]
            for j in range(i):
                row[own_index[j]] += scale * own_rate[j] * g[i, j] * g[i, j]
            # the transpose is added below: the diagonal must not count twice
            row[own_index[i]] += 0.5 * scale * own_rate[i] * g[i, i] * g[i, i]
        for m in range(mean_edge[b], mean_edge[b + 1], k):
            for i in range(k):
                gradient[own_index[i]] += own_rate[i] * mu[m + i] ** 2
                row, scale = hessian[own_index[i]], 4.0 * own_rate[i] * mu[m + i]
                for j in range(i):
                    row[own_index[j]] += scale * own_rate[j] * mu[m + j] * g[i, j]
                row[own_index[i]] += 0.5 * scale * own_rate[i] * mu[m + i] * g[i, i]
    for i in range(n):
        for j in range(i):
            hessian[j, i] += hessian[i, j]
        hessian[i, i] = 2.0 * hessian[i, i] + error[i]


@numba.njit(cache=True, error_model="numpy")
def _solve(power, errors, index, coefficient, copies, edge, square, covariance, mean, mean_edge, start):
    """Return log density, status, place, error and steps of one parameter vector.

    From `start`, where that is nearer to the solution than zero; `start` becomes the solution.
    """
    n, modes, largest = power.size, index.size, 0
    for b in range(copies.size):
        largest = max(largest, edge[b + 1] - edge[b])
    low, up, factor = np.empty(square[-1]), np.empty(square[-1]), np.empty(square[-1])
    work, tilted = np.empty(largest * largest), np.empty(largest * largest)
    inverse_diagonal, rate, shift, solution = np.empty(modes), np.empty(modes), np.empty(modes), np.empty(modes)
    own, mu = np.empty(mean.size), np.empty(mean.size)
    status, place = _prepare(covariance, coefficient, copies, edge, square, mean, mean_edge, low, up, rate, own)
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
    p, scaled = np.empty(n), np.empty(n)
    for j in range(n):
        if not scale[j] > 0.0:
            return np.nan, DEGENERATE, j, np.nan, 0
        p[j] = power[j] / scale[j]
        scaled[j] = errors[j] / scale[j] ** 2
        constant -= math.log(scale[j])
    for i in range(modes):
        rate[i] /= scale[index[i]]

    t, trial, gradient, residual, step = np.zeros(n), np.zeros(n), np.empty(n), np.empty(n), np.empty(n)
    hessian, diagonal = np.empty((n, n)), np.empty(n)
    value = _cumulant(t, p, scaled, index, rate, copies, edge, square, mean_edge, low, up, own, shift, solution,
                      factor, inverse_diagonal, mu)  # fmt: skip
    for j in range(n):
        trial[j] = start[j] * scale[j]
    new = _cumulant(trial, p, scaled, index, rate, copies, edge, square, mean_edge, low, up, own, shift, solution,
                    factor, inverse_diagonal, mu)  # fmt: skip
    if new < value:
        value = new
        t[:] = trial
    else:
        value = _cumulant(t, p, scaled, index, rate, copies, edge, square, mean_edge, low, up, own, shift, solution,
                          factor, inverse_diagonal, mu)  # fmt: skip
    error, polished = np.inf, 0
    for steps in range(MAX_STEPS):
        _derivatives(t, scaled, index, rate, copies, edge, square, mean_edge, low, work, factor, inverse_diagonal,
                     mu, tilted, gradient, hessian)  # fmt: skip
        error = 0.0
        for j in range(n):
            residual[j] = p[j] - gradient[j]
            error = max(error, abs(residual[j]) / math.sqrt(hessian[j, j]))
        logdet = _cholesky(hessian, diagonal)
        ridge = RIDGE
        while not logdet < np.inf and ridge < 1.0:
            # far from the solution K'' may fail by its rounding: any positive definite matrix leads downhill
            _derivatives(t, scaled, index, rate, copies, edge, square, mean_edge, low, work, factor,
                         inverse_diagonal, mu, tilted, gradient, hessian)  # fmt: skip
            for j in range(n):
                hessian[j, j] *= 1.0 + ridge
            logdet = _cholesky(hessian, diagonal)
            ridge *= 100.0
        if not logdet < np.inf or (ridge > RIDGE and (steps == 0 or error <= ROUNDED)):
            return np.nan, DEGENERATE, -1, error, steps
        result = value - 0.5 * logdet + constant
        polished += error <= ROUNDED
        if error <= TOLERANCE or polished > POLISH:
            for j in range(n):
                start[j] = t[j] / scale[j]
            return result, CONVERGED, -1, error, steps
        if (steps >= PATIENCE and value < FAR * n) or (steps >= LONG_PATIENCE and value < LESS_FAR * n):
            return result, CONVERGED, -1, error, steps
        # First a step for 1 / K', which is linear in t for a gamma law: exact for independent powers, however far.
        # Where it does not lead downhill, Newton's own step for K'.
        moved = False
        step[:] = residual
        _substitute(hessian, diagonal, step)
        decrement = 0.0
        for j in range(n):
            decrement += step[j] * residual[j]
        for newton in range(0 if decrement > 1.0 else 1, 2):
            for j in range(n):
                step[j] = residual[j]
                if newton == 0 and p[j] > 0.0:
                    step[j] *= min(max(gradient[j] / p[j], 1.0 / STRETCH), STRETCH)
            _substitute(hessian, diagonal, step)
            slope = 0.0
            for j in range(n):
                slope += step[j] * residual[j]
            if not slope > 0.0:
                continue
            length = 1.0
            while length > (0.1 if newton == 0 else 1e-10):
                for j in range(n):
                    trial[j] = t[j] + length * step[j]
                new = _cumulant(trial, p, scaled, index, rate, copies, edge, square, mean_edge, low, up, own, shift,
                                solution, factor, inverse_diagonal, mu)  # fmt: skip
                # the last steps change the value by less than its rounding
                if new <= value - 1e-4 * length * slope + 1e-13 * (1.0 + abs(value)):
                    moved = True
                    break
                length *= 0.5
            if moved:
                break
        if not moved:
            if error <= ROUNDED:
                return result, CONVERGED, -1, error, steps
            return np.nan, STUCK, -1, error, steps
        value = new
        for j in range(n):
            t[j] = trial[j]
    return np.nan, STUCK, -1, error, MAX_STEPS


@numba.njit(cache=True)
def add_moments(index, coefficient, covariance, copies, own, mean, total):
    """Add mean and covariance of the powers that one block of modes makes; own (n_vec, 0, k) for modes of mean zero."""
    n_vec, k = covariance.shape[:2]
    for v in range(n_vec):
        for i in range(k):
            first = copies * covariance[v, i, i]
            for m in range(own.shape[1]):
                first += own[v, m, i] ** 2
            mean[v, index[i]] += coefficient[i] * first
            for j in range(k):
                value = 2.0 * copies * covariance[v, i, j] ** 2
                for m in range(own.shape[1]):
                    value += 4.0 * own[v, m, i] * covariance[v, i, j] * own[v, m, j]
                total[v, index[i], index[j]] += coefficient[i] * coefficient[j] * value


@numba.njit(cache=True, parallel=True, error_model="numpy")
def solve_all(power, errors, index, coefficient, copies, edge, covariance, mean, mean_edge):
    """Return log density, status, place, error and steps of every parameter vector."""
    n_vec = covariance.shape[0]
    square = np.zeros(edge.size, dtype=np.int64)
    for b in range(copies.size):
        square[b + 1] = square[b] + (edge[b + 1] - edge[b]) ** 2
    result, error = np.empty(n_vec), np.empty(n_vec)
    status, place, steps = np.empty(n_vec, np.int64), np.empty(n_vec, np.int64), np.empty(n_vec, np.int64)
    # The solution of the first vector is where the others start: always the same one, whatever the number of threads.
    first = np.zeros(power.shape[1])
    result[0], status[0], place[0], error[0], steps[0] = _solve(
        power[0], errors[0], index, coefficient, copies, edge, square, covariance[0], mean[0], mean_edge, first
    )
    for v in numba.prange(1, n_vec):
        start = first.copy()
        result[v], status[v], place[v], error[v], steps[v] = _solve(
            power[v], errors[v], index, coefficient, copies, edge, square, covariance[v], mean[v], mean_edge, start
        )
    return result, status, place, error, steps
