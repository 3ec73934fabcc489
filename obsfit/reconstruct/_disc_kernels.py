"""Sums over discs on HEALPix rings: float64 arrays in, arrays out; angles in radians."""

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@numba.njit(cache=True)
def _span(z1: float, s1: float, z2: float, s2: float, cos_radius: float) -> float:
    """Half the extent in right ascension, on ring 2, of a disc centred on ring 1; -1 if they do not meet."""
    dot = cos_radius - z1 * z2
    product = s1 * s2
    # A disc on its own ring is never empty, whatever the rounding of its radius.
    if dot >= product:
        return 0.0 if dot < product + 1e-14 else -1.0
    if dot <= -product:
        return float(np.pi)
    return float(np.arccos(dot / product))


@numba.njit(cache=True)
def _on_ring(prefix: FloatArray, base: int, n: int, shift: float, alpha: float, span: float) -> float:
    """Sum over the pixels of a ring within `span` of right ascension alpha, from sums over its first pixels."""
    step = 2.0 * np.pi / n
    # Centres that lie on the edge to rounding are inside.
    first = int(np.ceil((alpha - span) / step - shift - 1e-9))
    last = int(np.floor((alpha + span) / step - shift + 1e-9))
    count = last - first + 1
    if count <= 0:
        return 0.0
    if count >= n:
        return float(prefix[base + n])
    start = first % n
    if start + count <= n:
        return float(prefix[base + start + count] - prefix[base + start])
    return float(prefix[base + n] - prefix[base + start] + prefix[base + start + count - n])


@numba.njit(cache=True)
def prefix_sums(values: FloatArray, start: IntArray, count: IntArray) -> FloatArray:
    """Sums over the first 0, 1, ..., n pixels of each ring, one after the other: ring r begins at start[r] + r."""
    sums = np.zeros(values.size + start.size)
    for r in range(start.size):
        total = 0.0
        for i in range(count[r]):
            total += values[start[r] + i]
            sums[start[r] + r + i + 1] = total
    return sums


@numba.njit(cache=True)
def disc_sums(
    prefix: FloatArray,
    wanted: BoolArray,
    start: IntArray,
    count: IntArray,
    z: FloatArray,
    s: FloatArray,
    shift: FloatArray,
    cos_radius: float,
) -> FloatArray:
    """Sum within a disc about each wanted pixel, zero about the others."""
    result = np.zeros(wanted.size)
    for r in range(start.size):
        for other in range(start.size):
            span = _span(z[r], s[r], z[other], s[other], cos_radius)
            if span < 0.0:
                continue
            base = start[other] + other
            for i in range(count[r]):
                if wanted[start[r] + i]:
                    alpha = 2.0 * np.pi * (i + shift[r]) / count[r]
                    result[start[r] + i] += _on_ring(prefix, base, count[other], shift[other], alpha, span)
    return result


@numba.njit(cache=True)
def disc_share(
    prefix: FloatArray,
    wanted: BoolArray,
    start: IntArray,
    count: IntArray,
    z: FloatArray,
    s: FloatArray,
    shift: FloatArray,
    cos_radius: float,
) -> FloatArray:
    """Sum of part^2 / ring over the rings of a disc about each wanted pixel; part: of the ring inside the disc."""
    result = np.zeros(wanted.size)
    for r in range(start.size):
        for other in range(start.size):
            base = start[other] + other
            ring = prefix[base + count[other]]
            span = _span(z[r], s[r], z[other], s[other], cos_radius)
            if span < 0.0 or ring <= 0.0:
                continue
            for i in range(count[r]):
                if wanted[start[r] + i]:
                    alpha = 2.0 * np.pi * (i + shift[r]) / count[r]
                    part = _on_ring(prefix, base, count[other], shift[other], alpha, span)
                    result[start[r] + i] += part * part / ring
    return result
