"""Kernels that sort events into cells: float64 arrays and radians in, tables of sums changed in place.

Tables of one plane are (per_time, per_cell, per_sky, per_declination) with an energy bin as first axis, see
`obsfit.records.RingCounts`. Angles may lie on any turn; nothing here looks at NaN, which callers must refuse.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int32]
Tables = tuple[FloatArray, ...]

# Events of a block pass through each stage together: short loops without branches become vector instructions.
BLOCK = 512
TURN = 2.0 * np.pi
TAN_PI_8 = float(np.tan(np.pi / 8.0))


@numba.njit(inline="always", error_model="numpy")
def sine_cosine(x: float) -> tuple[float, float]:
    """Sine and cosine, from their Taylor series about the nearest quarter turn; error below 4e-16 for |x| < 100."""
    quarter = np.floor(x * (2.0 / np.pi) + 0.5)
    r = x - quarter * (0.5 * np.pi)
    y = r * r
    sine = -1.0 / 1307674368000.0
    sine = sine * y + 1.0 / 6227020800.0
    sine = sine * y - 1.0 / 39916800.0
    sine = sine * y + 1.0 / 362880.0
    sine = sine * y - 1.0 / 5040.0
    sine = sine * y + 1.0 / 120.0
    sine = sine * y - 1.0 / 6.0
    sine = r + r * y * sine
    cosine = 1.0 / 20922789888000.0
    cosine = cosine * y - 1.0 / 87178291200.0
    cosine = cosine * y + 1.0 / 479001600.0
    cosine = cosine * y - 1.0 / 3628800.0
    cosine = cosine * y + 1.0 / 40320.0
    cosine = cosine * y - 1.0 / 720.0
    cosine = cosine * y + 1.0 / 24.0
    cosine = cosine * y - 0.5
    cosine = 1.0 + y * cosine
    n = np.int64(quarter) & 3
    s = cosine if n & 1 else sine
    c = sine if n & 1 else cosine
    return (-s if n & 2 else s), (-c if (n + 1) & 2 else c)


@numba.njit(inline="always", error_model="numpy")
def polar_angle(y: float, x: float) -> float:
    """Angle of (x, y) in [-pi, pi]; error below 5e-16. The origin gives zero.

    arctan(z) / z is a polynomial in z^2 on [0, tan(pi/8)^2], interpolated at Chebyshev nodes to 1.3e-18.
    """
    ax, ay = abs(x), abs(y)
    low, high = min(ax, ay), max(ax, ay)
    beyond = low > TAN_PI_8 * high
    numerator = low - high if beyond else low
    denominator = low + high if beyond else high
    z = numerator / (denominator if denominator > 0.0 else 1.0)
    q = z * z
    p = -0.01780539720541944523
    p = p * q + 0.03796525745386593624
    p = p * q - 0.05035102456601551843
    p = p * q + 0.0584687829733087252
    p = p * q - 0.06662951813629190088
    p = p * q + 0.07692045330902224952
    p = p * q - 0.09090896809064027076
    p = p * q + 0.1111111074491965824
    p = p * q - 0.1428571427925024494
    p = p * q + 0.1999999999994089146
    p = p * q - 0.3333333333333312116
    p = p * q + 0.9999999999999999987
    angle = z * p + (0.25 * np.pi if beyond else 0.0)
    angle = 0.5 * np.pi - angle if ay > ax else angle
    angle = np.pi - angle if x < 0.0 else angle
    return -angle if y < 0.0 else angle


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rotate_about_east(azimuth: FloatArray, zenith: FloatArray, latitude: float, out: FloatArray) -> None:
    """Hour angle in [-pi, pi] and declination, out (2, n), of azimuth from North through East and zenith angle.

    The rotation is its own inverse: hour angle and co-declination give azimuth and the angle above the horizon.
    """
    sin_lat, cos_lat = np.sin(latitude), np.cos(latitude)
    for i in range(azimuth.size):
        sin_a, cos_a = sine_cosine(azimuth[i])
        sin_z, cos_z = sine_cosine(zenith[i])
        meridian = cos_lat * cos_z - sin_lat * sin_z * cos_a
        west = -sin_z * sin_a
        pole = sin_lat * cos_z + cos_lat * sin_z * cos_a
        out[0, i] = polar_angle(west, meridian)
        out[1, i] = polar_angle(pole, np.sqrt(meridian * meridian + west * west))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def clock(
    mjd: FloatArray, first_day: int, greenwich: FloatArray, longitude: float, weights: FloatArray, out: FloatArray
) -> None:
    """Angles in [0, 2 pi) of weights[0] x sidereal + weights[1] x mean solar time, local, of UTC as MJD.

    `greenwich` holds Greenwich sidereal time in turns at 0h of days from `first_day` on; within a day it is linear.
    """
    for i in range(mjd.size):
        day = np.floor(mjd[i])
        part = mjd[i] - day
        index: Any = min(max(np.int64(day) - first_day, 0), greenwich.size - 2)
        excess = greenwich[index + 1] - greenwich[index]
        excess -= np.floor(excess)
        sidereal = greenwich[index] + part * (1.0 + excess) + longitude / TURN
        solar = part + longitude / TURN
        turns = weights[0] * sidereal + weights[1] * solar
        turns -= np.floor(turns)
        out[i] = 0.0 if turns >= 1.0 else turns * TURN


@numba.njit(cache=True, nogil=True, error_model="numpy")
def angular_cells(angle: FloatArray, n: int, out: IndexArray) -> None:
    """Numbers of the cells of n around the circle."""
    last = np.int32(n - 1)
    for i in range(angle.size):
        turns = angle[i] * (1.0 / TURN)
        turns -= np.floor(turns)
        out[i] = min(np.int32(turns * n), last)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def declination_bands(dec: FloatArray, n: int, out: IndexArray) -> None:
    """Numbers of the bands of n from pole to pole."""
    last = np.int32(n - 1)
    for i in range(dec.size):
        out[i] = min(max(np.int32(dec[i] * (n / np.pi) + 0.5 * n), np.int32(0)), last)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def ring_cells(
    time: IndexArray, hour: IndexArray, fine: IndexArray, n_time: int, n_sub: int, sky: IndexArray
) -> None:
    """Flat local cells, in place of hour-angle cells, and flat sky cells, of cells of time and fine bands."""
    ring = np.int32(n_time)
    for i in range(fine.size):
        # Exact: half a band away from the next whole number.
        first = np.int32((fine[i] + 0.5) * (1.0 / n_sub)) * ring
        k = time[i] - hour[i]
        sky[i] = first + (k + ring if k < 0 else k)
        hour[i] = first + hour[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_to_rings(
    time_angle: FloatArray,
    hour_angle: FloatArray,
    dec: FloatArray,
    energy_bin: Any,
    weight: Any,
    shape: tuple[int, int, int],
    sums: Tables,
    squared: Any,
) -> None:
    """Add events to the four sums; shape = (n_dec, n_time, n_sub).

    `energy_bin` (n,) int32, or None for all in the first; `weight` (n,) with `squared` sums, or None for one each.
    """
    n_dec, n_time, n_sub = shape
    per_time, per_cell = sums[0].reshape(-1), sums[1].reshape(-1)
    per_sky, per_dec = sums[2].reshape(-1), sums[3].reshape(-1)
    times, hours = np.empty(BLOCK, dtype=np.int32), np.empty(BLOCK, dtype=np.int32)
    skies, fines = np.empty(BLOCK, dtype=np.int32), np.empty(BLOCK, dtype=np.int32)
    for start in range(0, time_angle.size, BLOCK):
        stop = min(start + BLOCK, time_angle.size)
        n = stop - start
        angular_cells(time_angle[start:stop], n_time, times)
        angular_cells(hour_angle[start:stop], n_time, hours)
        declination_bands(dec[start:stop], n_dec * n_sub, fines)
        ring_cells(times[:n], hours[:n], fines[:n], n_time, n_sub, skies)
        if energy_bin is not None:
            for i in range(n):
                e = energy_bin[start + i]
                times[i] += e * n_time
                hours[i] += e * n_dec * n_time
                skies[i] += e * n_dec * n_time
                fines[i] += e * n_dec * n_sub
        if weight is None:
            # Unsigned indices spare the test for counting from the end.
            for i in range(n):
                per_time[np.uint32(times[i])] += 1.0
                per_cell[np.uint32(hours[i])] += 1.0
                per_sky[np.uint32(skies[i])] += 1.0
                per_dec[np.uint32(fines[i])] += 1.0
        else:
            time2, cell2 = squared[0].reshape(-1), squared[1].reshape(-1)
            sky2, dec2 = squared[2].reshape(-1), squared[3].reshape(-1)
            for i in range(n):
                w = weight[start + i]
                t, c, k, f = np.uint32(times[i]), np.uint32(hours[i]), np.uint32(skies[i]), np.uint32(fines[i])
                per_time[t] += w
                per_cell[c] += w
                per_sky[k] += w
                per_dec[f] += w
                time2[t] += w * w
                cell2[c] += w * w
                sky2[k] += w * w
                dec2[f] += w * w


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_to_rings_from_horizon(
    time_angle: FloatArray,
    azimuth: FloatArray,
    zenith: FloatArray,
    latitude: float,
    energy_bin: Any,
    weight: Any,
    shape: tuple[int, int, int],
    sums: Tables,
    squared: Any,
) -> None:
    """Add events given by azimuth from North through East and zenith angle, see `add_to_rings`."""
    for start in range(0, time_angle.size, 8 * BLOCK):
        stop = min(start + 8 * BLOCK, time_angle.size)
        equatorial = np.empty((2, stop - start))
        rotate_about_east(azimuth[start:stop], zenith[start:stop], latitude, equatorial)
        some_bins = None if energy_bin is None else energy_bin[start:stop]
        some_weights = None if weight is None else weight[start:stop]
        add_to_rings(
            time_angle[start:stop], equatorial[0], equatorial[1], some_bins, some_weights, shape, sums, squared
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_to_map(
    time_angle: FloatArray, pixel: NDArray[np.int64], weight: Any, counts: FloatArray, squared: Any
) -> None:
    """Add events to counts (n_time, n_pixel), and their squared weights to `squared` unless `weight` is None."""
    times = np.empty(pixel.size, dtype=np.int32)
    angular_cells(time_angle, counts.shape[0], times)
    for i in range(pixel.size):
        if weight is None:
            counts[times[i], pixel[i]] += 1.0
        else:
            counts[times[i], pixel[i]] += weight[i]
            squared[times[i], pixel[i]] += weight[i] * weight[i]
