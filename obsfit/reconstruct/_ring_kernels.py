"""Kernels of the ring sums: float64 counts in, sums out; bins and cells as in `obsfit.records.HourAngleGrid`."""

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.uint32]


# Counts are finite and not negative, so that sums may be reordered; they are exact for whole numbers below 2^53.
@numba.njit(cache=True, fastmath={"reassoc"})
def sum_on_rings(
    counts: FloatArray, n_dec: int, per_time: FloatArray, per_cell: FloatArray, per_hour: FloatArray
) -> None:
    """Add counts (n_time, n_dec * n_time) to their sums, in place; per_hour is per_sky at minus its cell.

    Against right ascension the cells of one time bin would run backwards: the mirrored sum lets both run forwards.
    """
    n_time = counts.shape[0]
    for t in range(n_time):
        for r in range(n_dec):
            row = counts[t, r * n_time : (r + 1) * n_time]
            total = 0.0
            for j in range(n_time):
                total += row[j]
            if total == 0.0:
                continue
            per_time[t] += total
            cell, hour = per_cell[r], per_hour[r]
            for j in range(n_time):
                cell[j] += row[j]
            late, early = row[t:], row[:t]
            for j in range(n_time - t):
                hour[j] += late[j]
            last = hour[n_time - t :]
            for j in range(t):
                last[j] += early[j]


@numba.njit(cache=True, fastmath={"reassoc"})
def sum_pixels(
    counts: FloatArray, offset: IndexArray, per_time: FloatArray, per_pixel: FloatArray, per_turns: FloatArray
) -> None:
    """Add counts (n_time, n_pixel) to their sums, in place, where pixel p of bin t belongs to place offset[p] + t.

    With two turns of sky cells to each band, in per_turns (2 n_time n_dec,), no place has to be wrapped.
    """
    n_time, n_pixel = counts.shape
    n_block = 256
    for t in range(n_time):
        here = per_turns[t:]
        for start in range(0, n_pixel, n_block):
            # Slices count from zero, which lets the compiler leave out negative indices.
            part = counts[t, start : min(start + n_block, n_pixel)]
            total = 0.0
            for p in range(part.size):
                total += part[p]
            if total == 0.0:
                continue
            per_time[t] += total
            pixel, place = per_pixel[start : start + n_block], offset[start : start + n_block]
            for p in range(part.size):
                pixel[p] += part[p]
            for p in range(part.size):
                here[place[p]] += part[p]
