r"""Kernels of orbits for graphics processors: float64 in, float64 out; units r_L = Omega = c = 1, fields in B_0.

The scheme and its polynomials are those of `_kernels_cpu.leapfrog`: one thread follows one particle. The waves pass
through shared memory in tiles, so that a block reads each of them once for each of its steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float64
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Numbers of a wave: wave vector (3) and phase in turns, then the amplitude (3).
NUMBERS = 7
# Waves whose sum is written out without a loop: their number is a whole multiple of it, with waves of amplitude 0.
STRIP = 4
# Strips in shared memory at a time, 7 KiB.
TILE = 32
HALF_TURN_SQUARED = math.pi**2
# 3 * 2^51: a number below 2^51 that is added to it loses its fraction. No library call, and NaN stays NaN.
ROUNDING = 6755399441055744.0


@cuda.jit(device=True)
def cosine_of_turns(turns: float) -> float:
    """Return cos(2 pi turns) by the polynomial of `_kernels_cpu.add_waves` that is not exact, error 1.1e-8."""
    v = turns - ((turns + ROUNDING) - ROUNDING)
    u = v * v
    return 0.9999999891722869 + u * (-19.73920453209656 + u * (64.93911898396458 + u * (
        -85.45016555129578 + u * (60.167831737874735 + u * (-25.968313322768903
        + u * 6.52961044058377)))))  # fmt: skip


@cuda.jit(device=True)
def half_angle(t: float) -> tuple[float, float]:
    """Return sin(a/2) / a and cos(a/2) for an angle whose square is t."""
    if t > HALF_TURN_SQUARED:
        angle = math.sqrt(t)
        return math.sin(0.5 * angle) / angle, math.cos(0.5 * angle)
    s = 0.5 + t * (-0.020833333333333331634 + t * (0.0002604166666666620745 + t * (
        -1.5500992063444277477e-6 + t * (5.3822889084432825434e-9 + t * (-1.2232474067660798213e-11
        + t * (1.9603199314558788978e-14 + t * (-2.3324666009434914134e-17
        + t * 2.0763968981158022176e-20)))))))  # fmt: skip
    w = 1.0 + t * (-0.12499999999999993561 + t * (0.0026041666666664926463 + t * (
        -0.000021701388888707796736 + t * (9.6881200302402048454e-8 + t * (-2.6911441788111084771e-10
        + t * (5.096816855452432441e-13 + t * (-6.9964000865217741607e-16
        + t * 7.0327407882717850195e-19)))))))  # fmt: skip
    return s, w


@cuda.jit
def leapfrog(
    position: Floats,
    direction: Floats,
    charge: float,
    step: float,
    count: int,
    uniform: Floats,
    waves: Floats,
) -> None:
    """Follow particles over `count` steps by half a drift, an exact rotation, half a drift; in place.

    `position` and `direction` (3, n) are changed; `waves` (m, STRIP, NUMBERS) holds wave vectors and phases in
    turns, and amplitudes. Launched on n threads or more, in blocks of any size.
    """
    # The last two indices are known when this is compiled: one check of the sign of the first serves a whole strip.
    tile = cuda.shared.array((TILE, STRIP, NUMBERS), float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    own = cuda.grid(1)
    n, strips = position.shape[1], waves.shape[0]
    # All threads of a block carry waves and wait for each other: those without a particle repeat the last one.
    i = own if own < n else n - 1
    x, y, z = position[0, i], position[1, i], position[2, i]
    ux, uy, uz = direction[0, i], direction[1, i], direction[2, i]
    x += 0.5 * step * ux
    y += 0.5 * step * uy
    z += 0.5 * step * uz
    for done in range(1, count + 1):
        bx, by, bz = uniform[0], uniform[1], uniform[2]
        for first in range(0, strips, TILE):
            held = TILE if first + TILE <= strips else strips - first
            # Waves that fit into one tile stay there from the first step on.
            if done == 1 or strips > TILE:
                cuda.syncthreads()
                for m in range(thread, held * STRIP, threads):
                    for number in range(NUMBERS):
                        tile[m // STRIP, m % STRIP, number] = waves[first + m // STRIP, m % STRIP, number]
                cuda.syncthreads()
            for strip in range(held):
                for m in range(STRIP):
                    along = tile[strip, m, 0] * x + tile[strip, m, 1] * y + tile[strip, m, 2] * z
                    cosine = cosine_of_turns(along + tile[strip, m, 3])
                    bx += tile[strip, m, 4] * cosine
                    by += tile[strip, m, 5] * cosine
                    bz += tile[strip, m, 6] * cosine
        # With v = b sin(a/2), w = cos(a/2): u' = u + 2 v x (v x u + w u).
        ax, ay, az = charge * step * bx, charge * step * by, charge * step * bz
        s, w = half_angle(ax * ax + ay * ay + az * az)
        vx, vy, vz = s * ax, s * ay, s * az
        cx = vy * uz - vz * uy + w * ux
        cy = vz * ux - vx * uz + w * uy
        cz = vx * uy - vy * ux + w * uz
        ux += 2.0 * (vy * cz - vz * cy)
        uy += 2.0 * (vz * cx - vx * cz)
        uz += 2.0 * (vx * cy - vy * cx)
        length = step if done < count else 0.5 * step
        x += length * ux
        y += length * uy
        z += length * uz
    if own < n:
        position[0, i], position[1, i], position[2, i] = x, y, z
        direction[0, i], direction[1, i], direction[2, i] = ux, uy, uz
