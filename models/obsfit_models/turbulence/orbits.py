r"""Orbits of charged particles in a static magnetic field, backwards or forwards in time.

Times are in units of the gyroperiod over 2 pi, 1/Omega, and lengths in units of the gyroradius r_L, both in a field of
unit strength; c = 1. A state is a position and the unit vector of the momentum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence import _kernels_cpu as kernels
from obsfit_models.turbulence.field import MagneticField

FloatArray = NDArray[np.float64]

# Yoshida, Phys. Lett. A 150 (1990) 262, Eq. (2.11): fourth order from three steps of second order.
YOSHIDA = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
YOSHIDA_WEIGHTS = np.array([YOSHIDA, 1.0 - 2.0 * YOSHIDA, YOSHIDA])


@dataclass(frozen=True)
class Orbits:
    """States of many particles at several times.

    Attributes
    ----------
    time : ndarray, shape (n_time,)
        Time before (back-tracking) or after the start, not negative, in 1/Omega.
    position : ndarray, shape (n_time, 3, n)
        In gyroradii.
    momentum : ndarray, shape (n_time, 3, n)
        Unit vectors of the direction of motion, which is opposite to the direction of arrival.
    """

    time: FloatArray
    position: FloatArray
    momentum: FloatArray


@dataclass(frozen=True)
class Crossings:
    """Where and when particles first crossed spheres about the places where they started.

    Attributes
    ----------
    radius : ndarray, shape (n_radius,)
        Of the spheres, in gyroradii.
    time : ndarray, shape (n_radius, n)
        Time before arrival in 1/Omega; NaN where the sphere was not crossed in the longest time.
    position : ndarray, shape (n_radius, 3, n)
        In gyroradii; the last position where the sphere was not crossed.
    momentum : ndarray, shape (n_radius, 3, n)
        Unit vectors of the direction of motion; the last one where the sphere was not crossed.
    """

    radius: FloatArray
    time: FloatArray
    position: FloatArray
    momentum: FloatArray


def ensemble_step(field: MagneticField, gyroradius: float) -> float:
    r"""Return the step of the leapfrog that serves statistics, :math:`\min(0.5, 2.5 / k_{max} r_L)`, in 1/Omega.

    Single orbits are then wrong after tens of gyro-times; spectra and diffusion coefficients are within a few percent
    (measured in `docs/turbulence.md`).
    """
    k_max = field.k_max * gyroradius
    return min(0.5, 2.5 / k_max) if k_max > 0 else 0.5


def back_track(
    field: MagneticField,
    arrival: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    position: ArrayLike | None = None,
    step: float | None = None,
) -> Orbits:
    r"""Return where particles that arrive from given directions were at earlier times.

    .. math:: \frac{dr}{ds} = -\hat p, \qquad \frac{d\hat p}{ds} = -\hat p \times B(r)

    is solved with s the time before arrival, by leapfrog with exact rotations (`ensemble_step` if no step is given).

    Parameters
    ----------
    field : MagneticField
    arrival : array_like, shape (3, n)
        Unit vectors of the directions of arrival, :math:`n = -\hat p`.
    times : array_like, shape (n_time,)
        Increasing, not negative, in 1/Omega.
    gyroradius : float
        r_L in a field of unit strength, in the unit of length of the field.
    position : array_like, shape (3, n) or (3, 1), optional
        Where they arrive, in gyroradii. Default: the origin.
    step : float, optional
        Largest step in 1/Omega; each interval between times is divided into equal steps.

    Returns
    -------
    Orbits

    Raises
    ------
    ValueError
        If the gyroradius or the step is not positive, times do not increase, or directions are not unit vectors.
    """
    return _track(field, arrival, times, gyroradius=gyroradius, position=position, step=step, backward=True)


def track(
    field: MagneticField,
    momentum: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    position: ArrayLike | None = None,
    step: float | None = None,
) -> Orbits:
    """Return where particles that start with given directions of motion are at later times; as `back_track`."""
    return _track(field, momentum, times, gyroradius=gyroradius, position=position, step=step, backward=False)


def cross_spheres(
    field: MagneticField,
    arrival: ArrayLike,
    radii: ArrayLike,
    *,
    gyroradius: float,
    longest_time: float,
    position: ArrayLike | None = None,
    step: float | None = None,
) -> Crossings:
    r"""Return where and when particles that arrive from given directions last entered spheres about the observer.

    Seen backwards in time this is the first crossing of each sphere. Orbits are those of `back_track` with the
    leapfrog; a crossing is found on the cubic through the ends of its step, with an error of the order of the fourth
    power of the step beside that of the orbit itself. An orbit that leaves a sphere and returns within one step is
    not seen to have crossed.

    Parameters
    ----------
    field : MagneticField
    arrival : array_like, shape (3, n)
        Unit vectors of the directions of arrival, :math:`n = -\hat p`.
    radii : array_like, shape (n_radius,)
        Of the spheres about the starting points, positive and increasing, in gyroradii.
    gyroradius : float
        r_L in a field of unit strength, in the unit of length of the field.
    longest_time : float
        When to give up, in 1/Omega.
    position : array_like, shape (3, n) or (3, 1), optional
        Where they arrive, in gyroradii. Default: the origin.
    step : float, optional
        Largest step in 1/Omega. Default: `ensemble_step`.

    Returns
    -------
    Crossings

    Raises
    ------
    ValueError
        If a number is out of its range or directions are not unit vectors.

    Examples
    --------
    >>> found = cross_spheres(MagneticField(), [[0.0], [0.0], [1.0]], [1.0, 5.0], gyroradius=1.0, longest_time=3.0)
    >>> found.time.ravel().tolist()
    [1.0, nan]
    """
    direction, place, _ = _checked(arrival, position, [0.0], gyroradius)
    spheres = np.array(radii, dtype=np.float64, ndmin=1)
    if spheres.ndim != 1 or not (np.all(np.diff(spheres, prepend=0.0) > 0) and np.all(np.isfinite(spheres))):
        raise ValueError(f"radii {radii!r}: expected positive, increasing radii in gyroradii")
    if not (np.isfinite(longest_time) and longest_time > 0):
        raise ValueError(f"longest_time {longest_time}: expected a positive time in 1/Omega")
    longest = _checked_step(ensemble_step(field, gyroradius) if step is None else step)
    count = max(1, int(np.ceil(longest_time / longest - 1e-9)))
    shape = (spheres.size, 3, direction.shape[1])
    times, positions, directions = np.empty((shape[0], shape[2])), np.empty(shape), np.empty(shape)
    kernels.first_crossings(
        place, direction, 1.0, longest_time / count, count, spheres, *field.arrays(gyroradius), False,
        times, positions, directions,
    )  # fmt: skip
    return Crossings(spheres, times, positions, -directions)


def _checked_step(step: float) -> float:
    """Return the step, or say what is wrong."""
    if not (np.isfinite(step) and step > 0):
        raise ValueError(f"step {step}: expected a positive time in 1/Omega")
    return step


def _track(
    field: MagneticField,
    start: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    position: ArrayLike | None,
    step: float | None,
    backward: bool,
) -> Orbits:
    direction, place, stops = _checked(start, position, times, gyroradius)
    longest = _checked_step(ensemble_step(field, gyroradius) if step is None else step)
    intervals = np.diff(stops, prepend=0.0)
    counts = np.ceil(intervals / longest - 1e-9).astype(np.int64)
    steps = intervals / np.maximum(counts, 1)
    shape = (stops.size, 3, direction.shape[1])
    positions, directions = np.empty(shape), np.empty(shape)
    charge = 1.0 if backward else -1.0
    arrays = field.arrays(gyroradius)
    kernels.leapfrog(place, direction, charge, steps, counts, *arrays, False, positions, directions)
    return Orbits(stops, positions, -directions if backward else directions)


def _checked(
    start: ArrayLike, position: ArrayLike | None, times: ArrayLike, gyroradius: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return directions (3, n), positions (3, n) and times (n_time,), or say what is wrong."""
    if not (np.isfinite(gyroradius) and gyroradius > 0):
        raise ValueError(f"gyroradius {gyroradius}: expected a positive length in the unit of the field")
    direction = np.ascontiguousarray(start, dtype=np.float64)
    if direction.ndim != 2 or direction.shape[0] != 3:
        raise ValueError(f"directions: shape {direction.shape}, expected (3, n)")
    if not np.allclose(np.sum(direction**2, axis=0), 1.0, rtol=0, atol=1e-9):
        raise ValueError("directions: expected unit vectors")
    origin = np.zeros((3, 1)) if position is None else np.asarray(position, dtype=np.float64)
    place = np.ascontiguousarray(np.broadcast_to(origin, direction.shape))
    stops = np.array(times, dtype=np.float64, ndmin=1)
    if stops.ndim != 1 or not np.all(np.isfinite(stops)) or np.any(np.diff(stops, prepend=0.0) < 0):
        raise ValueError(f"times {times!r}: expected times in 1/Omega that increase from 0 on")
    return direction, place, stops
