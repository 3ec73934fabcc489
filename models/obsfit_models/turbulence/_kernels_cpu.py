r"""Kernels of fields and orbits: float64 arrays in, arrays out; units r_L = Omega = c = 1, fields in units of B_0.

Particles are worked on in blocks of `LANES`, one array for each component, so that the compiler puts neighbouring
particles side by side in vector registers. A field is a uniform part, a sum of plane waves and a sum of grids; any of
them may be absent. Kernels that call each other live in this one file: the cache of compiled code does not see edits
in another.

Every orbit solves :math:`dr/ds = u,\; du/ds = q\, B(r) \times u`. With q = +1 and u = -p this is back-tracking
(s is the time before now, u points where the particle came from); with q = -1 and u = p it is the motion in time.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Waves = tuple[Floats, Floats, Floats]
Grids = tuple[Floats, Ints, Ints, Floats, Floats, Bools, Bools]

LANES = 64
# No NaN is promised away: a particle that met a bad field must show it.
FAST = {"contract", "arcp", "nsz", "reassoc"}
HALF_TURN_SQUARED = np.pi**2
# Of a step, to the place where a sphere is crossed: 2**-48 of it.
HALVINGS = 48


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def add_waves(
    position: Floats,
    wave: Floats,
    amplitude: Floats,
    phase: Floats,
    first: int,
    last: int,
    exact: bool,
    field: Floats,
) -> None:
    """Add modes first ... last - 1 at the positions (3, LANES) of a block to the field (3, LANES).

    `wave` (3, n) is in turns per unit length, `phase` (n,) in turns, so that the argument of the cosine is reduced by
    subtracting the nearest whole number; the rest is a polynomial, with an error of 2e-16 if `exact`, else of 7e-9.
    """
    x, y, z = position[0], position[1], position[2]
    bx, by, bz = field[0], field[1], field[2]
    if exact:
        for m in range(first, last):
            kx, ky, kz, shift = wave[0, m], wave[1, m], wave[2, m], phase[m]
            ax, ay, az = amplitude[0, m], amplitude[1, m], amplitude[2, m]
            for i in range(LANES):
                turns = kx * x[i] + ky * y[i] + kz * z[i] + shift
                v = 0.25 - abs(turns - np.rint(turns))
                u = v * v
                cosine = v * (
                    6.2831853071795857574 + u * (-41.341702240398286582 + u * (81.60524927557976415 + u * (
                    -76.70585968962867265 + u * (42.058689953950938581 + u * (-15.094506140734291304 + u * (
                    3.817365633469135203 - u * 0.69250670107207173421)))))))  # fmt: skip
                bx[i] += ax * cosine
                by[i] += ay * cosine
                bz[i] += az * cosine
        return
    paired = first + 4 * ((last - first) // 4)
    for m in range(first, paired, 4):
        k0, l0, q0, s0 = wave[0, m], wave[1, m], wave[2, m], phase[m]
        k1, l1, q1, s1 = wave[0, m + 1], wave[1, m + 1], wave[2, m + 1], phase[m + 1]
        k2, l2, q2, s2 = wave[0, m + 2], wave[1, m + 2], wave[2, m + 2], phase[m + 2]
        k3, l3, q3, s3 = wave[0, m + 3], wave[1, m + 3], wave[2, m + 3], phase[m + 3]
        a0, d0, e0 = amplitude[0, m], amplitude[1, m], amplitude[2, m]
        a1, d1, e1 = amplitude[0, m + 1], amplitude[1, m + 1], amplitude[2, m + 1]
        a2, d2, e2 = amplitude[0, m + 2], amplitude[1, m + 2], amplitude[2, m + 2]
        a3, d3, e3 = amplitude[0, m + 3], amplitude[1, m + 3], amplitude[2, m + 3]
        for i in range(LANES):
            t0 = k0 * x[i] + l0 * y[i] + q0 * z[i] + s0
            t1 = k1 * x[i] + l1 * y[i] + q1 * z[i] + s1
            t2 = k2 * x[i] + l2 * y[i] + q2 * z[i] + s2
            t3 = k3 * x[i] + l3 * y[i] + q3 * z[i] + s3
            v0 = 0.25 - abs(t0 - np.rint(t0))
            v1 = 0.25 - abs(t1 - np.rint(t1))
            v2 = 0.25 - abs(t2 - np.rint(t2))
            v3 = 0.25 - abs(t3 - np.rint(t3))
            u0, u1, u2, u3 = v0 * v0, v1 * v1, v2 * v2, v3 * v3
            c0 = v0 * (6.2831852801544065035 + u0 * (-41.341680613346515274 + u0 * (
                81.60247636892517969 + u0 * (-76.581172644278724467 + u0 * 39.759827085319101139))))  # fmt: skip
            c1 = v1 * (6.2831852801544065035 + u1 * (-41.341680613346515274 + u1 * (
                81.60247636892517969 + u1 * (-76.581172644278724467 + u1 * 39.759827085319101139))))  # fmt: skip
            c2 = v2 * (6.2831852801544065035 + u2 * (-41.341680613346515274 + u2 * (
                81.60247636892517969 + u2 * (-76.581172644278724467 + u2 * 39.759827085319101139))))  # fmt: skip
            c3 = v3 * (6.2831852801544065035 + u3 * (-41.341680613346515274 + u3 * (
                81.60247636892517969 + u3 * (-76.581172644278724467 + u3 * 39.759827085319101139))))  # fmt: skip
            bx[i] += a0 * c0 + a1 * c1 + (a2 * c2 + a3 * c3)
            by[i] += d0 * c0 + d1 * c1 + (d2 * c2 + d3 * c3)
            bz[i] += e0 * c0 + e1 * c1 + (e2 * c2 + e3 * c3)
    for m in range(paired, last):
        kx, ky, kz, shift = wave[0, m], wave[1, m], wave[2, m], phase[m]
        ax, ay, az = amplitude[0, m], amplitude[1, m], amplitude[2, m]
        for i in range(LANES):
            turns = kx * x[i] + ky * y[i] + kz * z[i] + shift
            v = 0.25 - abs(turns - np.rint(turns))
            u = v * v
            cosine = v * (6.2831852801544065035 + u * (-41.341680613346515274 + u * (
                81.60247636892517969 + u * (-76.581172644278724467 + u * 39.759827085319101139))))  # fmt: skip
            bx[i] += ax * cosine
            by[i] += ay * cosine
            bz[i] += az * cosine


@numba.njit(cache=True, error_model="numpy")
def add_grids(
    position: Floats,
    values: Floats,
    shape: Ints,
    start: Ints,
    origin: Floats,
    spacing: Floats,
    periodic: Bools,
    cubic: Bools,
    field: Floats,
) -> None:
    """Add all grids at the positions of a block to its field; outside of a grid that is not periodic it adds nothing.

    `values` (n,) holds the grids one after another, each of shape (nx, ny, nz, 3), from `start` on; a value belongs to
    the point origin + index * spacing. `cubic` chooses between trilinear and tricubic (Catmull-Rom) interpolation.
    """
    weight = np.empty((3, 4))
    index = np.empty((3, 4), dtype=np.int64)
    for g in range(shape.shape[0]):
        taps = 4 if cubic[g] else 2
        for i in range(LANES):
            inside = True
            for axis in range(3):
                n = shape[g, axis]
                place = (position[axis, i] - origin[g, axis]) / spacing[g, axis]
                if not np.isfinite(place):
                    inside = False
                    break
                base = np.floor(place)
                f = place - base
                if periodic[g]:
                    base -= n * np.floor(base / n)
                elif place < 0.0 or place > n - 1.0:
                    inside = False
                    break
                cell = np.int64(base)
                if taps == 2:
                    weight[axis, 0], weight[axis, 1] = 1.0 - f, f
                else:
                    weight[axis, 0] = f * (-0.5 + f * (1.0 - 0.5 * f))
                    weight[axis, 1] = 1.0 + f * f * (-2.5 + 1.5 * f)
                    weight[axis, 2] = f * (0.5 + f * (2.0 - 1.5 * f))
                    weight[axis, 3] = f * f * (-0.5 + 0.5 * f)
                for tap in range(taps):
                    at = cell + tap - (taps // 2 - 1)
                    # The edge is repeated where a grid that is not periodic ends.
                    index[axis, tap] = at % n if periodic[g] else min(max(at, 0), n - 1)
            if not inside:
                continue
            bx, by, bz = 0.0, 0.0, 0.0
            for a in range(taps):
                for b in range(taps):
                    plane = weight[0, a] * weight[1, b]
                    row = start[g] + 3 * shape[g, 2] * (index[1, b] + shape[g, 1] * index[0, a])
                    for c in range(taps):
                        share = plane * weight[2, c]
                        at = row + 3 * index[2, c]
                        bx += share * values[at]
                        by += share * values[at + 1]
                        bz += share * values[at + 2]
            field[0, i] += bx
            field[1, i] += by
            field[2, i] += bz


@numba.njit(cache=True, error_model="numpy")
def field_of_block(
    position: Floats, uniform: Floats, waves: Waves, grids: Grids, exact: bool, field: Floats
) -> None:
    """Set the field (3, LANES) at the positions (3, LANES) of a block.

    `waves` is (wave, amplitude, phase) of `add_waves`, `grids` is (values, shape, start, origin, spacing, periodic,
    cubic) of `add_grids`.
    """
    wave, amplitude, phase = waves
    for axis in range(3):
        for i in range(LANES):
            field[axis, i] = uniform[axis]
    if phase.size:
        add_waves(position, wave, amplitude, phase, 0, phase.size, exact, field)
    values, shape, start, origin, spacing, periodic, cubic = grids
    if start.size:
        add_grids(position, values, shape, start, origin, spacing, periodic, cubic, field)


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def drift(position: Floats, direction: Floats, step: float) -> None:
    """Move a block along straight lines."""
    for axis in range(3):
        for i in range(LANES):
            position[axis, i] += step * direction[axis, i]


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def rotate(direction: Floats, field: Floats, angle: float) -> None:
    """Rotate the directions (3, LANES) of a block about the field by angle * |field|, in place.

    With v = b sin(t/2), w = cos(t/2): u' = u + 2 v x (v x u + w u). Sine and cosine of half the angle are polynomials
    to 4e-18 up to half a turn, so that |u| is kept to rounding; beyond, those of the library. Each lane is turned in
    the same way whatever its neighbours are.
    """
    x, y, z = direction[0], direction[1], direction[2]
    bx, by, bz = field[0], field[1], field[2]
    limit = HALF_TURN_SQUARED / (angle * angle)
    beyond = 0
    for i in range(LANES):
        beyond += bx[i] * bx[i] + by[i] * by[i] + bz[i] * bz[i] > limit
    if beyond > 0:
        before = direction.copy()
    for i in range(LANES):
        ax, ay, az = angle * bx[i], angle * by[i], angle * bz[i]
        t = ax * ax + ay * ay + az * az
        s = 0.5 + t * (-0.020833333333333331634 + t * (0.0002604166666666620745 + t * (
            -1.5500992063444277477e-6 + t * (5.3822889084432825434e-9 + t * (-1.2232474067660798213e-11
            + t * (1.9603199314558788978e-14 + t * (-2.3324666009434914134e-17
            + t * 2.0763968981158022176e-20)))))))  # fmt: skip
        w = 1.0 + t * (-0.12499999999999993561 + t * (0.0026041666666664926463 + t * (
            -0.000021701388888707796736 + t * (9.6881200302402048454e-8 + t * (-2.6911441788111084771e-10
            + t * (5.096816855452432441e-13 + t * (-6.9964000865217741607e-16
            + t * 7.0327407882717850195e-19)))))))  # fmt: skip
        vx, vy, vz = s * ax, s * ay, s * az
        cx = vy * z[i] - vz * y[i] + w * x[i]
        cy = vz * x[i] - vx * z[i] + w * y[i]
        cz = vx * y[i] - vy * x[i] + w * z[i]
        x[i] += 2.0 * (vy * cz - vz * cy)
        y[i] += 2.0 * (vz * cx - vx * cz)
        z[i] += 2.0 * (vx * cy - vy * cx)
    if beyond > 0:
        for i in range(LANES):
            if bx[i] * bx[i] + by[i] * by[i] + bz[i] * bz[i] > limit:
                ax, ay, az = angle * bx[i], angle * by[i], angle * bz[i]
                t = np.sqrt(ax * ax + ay * ay + az * az)
                s, w = np.sin(0.5 * t) / t, np.cos(0.5 * t)
                vx, vy, vz = s * ax, s * ay, s * az
                ux, uy, uz = before[0, i], before[1, i], before[2, i]
                cx = vy * uz - vz * uy + w * ux
                cy = vz * ux - vx * uz + w * uy
                cz = vx * uy - vy * ux + w * uz
                x[i] = ux + 2.0 * (vy * cz - vz * cy)
                y[i] = uy + 2.0 * (vz * cx - vx * cz)
                z[i] = uz + 2.0 * (vx * cy - vy * cx)


@numba.njit(cache=True, error_model="numpy")
def leapfrog(
    position: Floats,
    direction: Floats,
    charge: float,
    steps: Floats,
    counts: Ints,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    exact: bool,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles with half a drift, an exact rotation, half a drift; one field sum for each step.

    `position` and `direction` (3, n) are the start; counts[0] steps of length steps[0] lead to the first output, and
    so on: `positions` and `directions` (n_out, 3, n) receive the states. The scheme is of second order, time
    reversible, keeps |u| and the phase-space volume.
    """
    n = position.shape[1]
    r, u, b = np.empty((3, LANES)), np.empty((3, LANES)), np.empty((3, LANES))
    for block in range(0, n, LANES):
        held = min(LANES, n - block)
        for axis in range(3):
            for i in range(LANES):
                # Lanes without a particle of their own repeat the last one.
                source = block + min(i, held - 1)
                r[axis, i] = position[axis, source]
                u[axis, i] = direction[axis, source]
        for out in range(counts.size):
            step = steps[out]
            if counts[out] > 0:
                drift(r, u, 0.5 * step)
            for count in range(counts[out]):
                field_of_block(r, uniform, waves, grids, exact, b)
                rotate(u, b, charge * step)
                drift(r, u, step if count + 1 < counts[out] else 0.5 * step)
            for axis in range(3):
                for i in range(held):
                    positions[out, axis, block + i] = r[axis, i]
                    directions[out, axis, block + i] = u[axis, i]


@numba.njit(cache=True, error_model="numpy")
def compose(
    position: Floats,
    direction: Floats,
    charge: float,
    steps: Floats,
    counts: Ints,
    weights: Floats,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles by leapfrogs of lengths weights * step, one after another, in each step.

    Weights that read the same backwards make a time-reversible scheme that keeps |u| and the phase-space volume:
    Yoshida's three give fourth order. Arguments otherwise as `leapfrog`; cosines to 2e-16.
    """
    n = position.shape[1]
    r, u, b = np.empty((3, LANES)), np.empty((3, LANES)), np.empty((3, LANES))
    for block in range(0, n, LANES):
        held = min(LANES, n - block)
        for axis in range(3):
            for i in range(LANES):
                source = block + min(i, held - 1)
                r[axis, i] = position[axis, source]
                u[axis, i] = direction[axis, source]
        for out in range(counts.size):
            for _ in range(counts[out]):
                for weight in weights:
                    step = weight * steps[out]
                    drift(r, u, 0.5 * step)
                    field_of_block(r, uniform, waves, grids, True, b)
                    rotate(u, b, charge * step)
                    drift(r, u, 0.5 * step)
            for axis in range(3):
                for i in range(held):
                    positions[out, axis, block + i] = r[axis, i]
                    directions[out, axis, block + i] = u[axis, i]


@numba.njit(cache=True, error_model="numpy")
def field_at(position: Floats, uniform: Floats, waves: Waves, grids: Grids, field: Floats) -> None:
    """Set the field (3, n) at positions (3, n), with cosines to 2e-16."""
    n = position.shape[1]
    r, b = np.empty((3, LANES)), np.empty((3, LANES))
    for block in range(0, n, LANES):
        held = min(LANES, n - block)
        for axis in range(3):
            for i in range(LANES):
                r[axis, i] = position[axis, block + min(i, held - 1)]
        field_of_block(r, uniform, waves, grids, True, b)
        for axis in range(3):
            for i in range(held):
                field[axis, block + i] = b[axis, i]


@numba.njit(cache=True, error_model="numpy")
def first_crossings(
    position: Floats,
    direction: Floats,
    charge: float,
    step: float,
    most: int,
    radii: Floats,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    exact: bool,
    times: Floats,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles by `leapfrog` until they have crossed the largest sphere, or for `most` steps.

    For each radius (n_radii,), increasing, and each particle: time, place and direction of the first crossing of that
    sphere about the starting point, on the cubic through the two ends of the step and the directions there; `times`
    (n_radii, n) is NaN where there was none, and `positions` and `directions` (n_radii, 3, n) are then the last state.
    """
    n, n_radii = position.shape[1], radii.size
    r, u, b = np.empty((3, LANES)), np.empty((3, LANES)), np.empty((3, LANES))
    before, home, way = np.empty((3, LANES)), np.empty((3, LANES)), np.empty((3, LANES))
    who, reached = np.empty(LANES, dtype=np.int64), np.zeros(LANES, dtype=np.int64)
    steps = np.zeros(LANES, dtype=np.int64)
    times[:] = np.nan
    # Lanes are filled again as particles leave, so that a block is never mostly empty.
    waiting, active = 0, 0
    for i in range(LANES):
        who[i] = -1
    while True:
        for i in range(LANES):
            if who[i] < 0 and waiting < n:
                who[i] = waiting
                for axis in range(3):
                    home[axis, i] = position[axis, waiting]
                    r[axis, i] = position[axis, waiting]
                    u[axis, i] = direction[axis, waiting]
                reached[i], steps[i] = 0, 0
                waiting += 1
                active += 1
            elif who[i] < 0 and steps[i] == 0:
                for axis in range(3):
                    home[axis, i], r[axis, i], u[axis, i] = 0.0, 0.0, 0.0
        if active == 0:
            return
        for axis in range(3):
            for i in range(LANES):
                before[axis, i] = r[axis, i]
                way[axis, i] = u[axis, i]
        drift(r, u, 0.5 * step)
        field_of_block(r, uniform, waves, grids, exact, b)
        rotate(u, b, charge * step)
        drift(r, u, 0.5 * step)
        for i in range(LANES):
            if who[i] < 0:
                continue
            steps[i] += 1
            outer = 0.0
            for axis in range(3):
                outer += (r[axis, i] - home[axis, i]) ** 2
            while reached[i] < n_radii and outer >= radii[reached[i]] ** 2:
                out, particle = reached[i], who[i]
                low, high = 0.0, 1.0
                for _ in range(HALVINGS):
                    share = 0.5 * (low + high)
                    reach = 0.0
                    for axis in range(3):
                        a, b0, b1 = before[axis, i] - home[axis, i], step * way[axis, i], step * u[axis, i]
                        d = r[axis, i] - before[axis, i]
                        at = a + share * (b0 + share * (3.0 * d - 2.0 * b0 - b1 + share * (b0 + b1 - 2.0 * d)))
                        reach += at * at
                    if reach < radii[out] ** 2:
                        low = share
                    else:
                        high = share
                times[out, particle] = step * (steps[i] - 1 + high)
                norm = 0.0
                for axis in range(3):
                    b0, b1, d = step * way[axis, i], step * u[axis, i], r[axis, i] - before[axis, i]
                    second, third = 3.0 * d - 2.0 * b0 - b1, b0 + b1 - 2.0 * d
                    positions[out, axis, particle] = before[axis, i] + high * (b0 + high * (second + high * third))
                    directions[out, axis, particle] = b0 + high * (2.0 * second + 3.0 * high * third)
                    norm += directions[out, axis, particle] ** 2
                for axis in range(3):
                    directions[out, axis, particle] /= np.sqrt(norm)
                reached[i] += 1
            if reached[i] == n_radii or steps[i] >= most:
                for out in range(reached[i], n_radii):
                    for axis in range(3):
                        positions[out, axis, who[i]] = r[axis, i]
                        directions[out, axis, who[i]] = u[axis, i]
                who[i], steps[i] = -1, 0
                active -= 1
