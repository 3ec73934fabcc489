r"""Orbits of charged particles in a static magnetic field, backwards or forwards in time.

Times are in units of the gyroperiod over 2 pi, 1/Omega, and lengths in units of the gyroradius r_L, both in a field of
unit strength; c = 1. A state is a position and the unit vector of the momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence import _kernels_cpu as kernels
from obsfit_models.turbulence.field import MagneticField

FloatArray = NDArray[np.float64]

# Yoshida, Phys. Lett. A 150 (1990) 262, Eq. (2.11): fourth order from three steps of second order.
YOSHIDA = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
YOSHIDA_WEIGHTS = np.array([YOSHIDA, 1.0 - 2.0 * YOSHIDA, YOSHIDA])
# Nodes and weights that integrate the polynomials of every order used here exactly.
GAUSS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True)
class _Plan:
    """A multi-rate scheme that reaches a tolerance: see `tolerance_step` for the meaning of the numbers."""

    order: int
    # Steps per 1/Omega in the field of the papers, and the most of the angle of gyration in a step.
    steps: float
    angle: float
    # A wave with k r_L h below a threshold is summed at every such period of steps only.
    periods: tuple[int, ...]
    thresholds: tuple[float, ...]
    # Sums of the past through which a slow band is extrapolated.
    points: int
    # Fourth-order compositions in each of the first steps.
    substeps: int
    # Precision of the sums: cosines to 2e-16, or in single precision.
    exact: bool
    single: bool


# Measured in the field of the papers (100 waves, r_L = 0.1 lambda_c): medians at Omega T = 5 and 20. Extrapolated
# bands cost more accuracy than they save time where the tolerance is small.
_PLANS = {
    1e-3: _Plan(4, 40.0, 0.1, (2, 4), (0.3, 0.08), 6, 1, False, True),
    1e-6: _Plan(7, 104.0, 0.05, (2,), (0.12,), 8, 1, False, False),
    1e-9: _Plan(10, 160.0, 0.03, (), (), 4, 6, True, False),
}
# `_rate` in that field, at these orders.
_RATE_OF_PAPERS = {4: 11.21, 7: 19.91, 10: 26.30}


@dataclass(frozen=True)
class Orbits:
    r"""States of many particles at several times.

    Attributes
    ----------
    time : ndarray, shape (n_time,)
        Time before (back-tracking) or after the start, not negative, in 1/Omega.
    position : ndarray, shape (n_time, 3, n)
        In gyroradii.
    momentum : ndarray, shape (n_time, 3, n)
        Unit vectors of the direction of motion, which is opposite to the direction of arrival.
    drift : ndarray, shape (n,), or None where it was not measured
        How well the scheme keeps the momentum: the largest change of :math:`|\hat p|` in one step of a multi-rate
        orbit, before it was made 1 again; of the others, whose rotations keep it, the largest difference from 1 at
        the times.
    """

    time: FloatArray
    position: FloatArray
    momentum: FloatArray
    drift: FloatArray | None = None


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
    r"""Return the step of the leapfrog that serves statistics, in 1/Omega.

    .. math:: h = \min\left(\frac{1}{2} \min\left(1, \frac{\sqrt 2}{B_{rms}}\right), \frac{2.5}{k_{max} r_L}\right)

    with the rms of the whole field, :math:`\sqrt 2` in the field of the papers. Single orbits are then wrong after tens
    of gyro-times; spectra and diffusion coefficients are within a few percent (`docs/turbulence-convergence.md`). Of a
    grid k_max is that of two points a wavelength: where its shortest waves have six, steps are a third of those of the
    same waves summed.
    """
    k_max = field.k_max * gyroradius
    longest = 0.5 * min(1.0, np.sqrt(2.0) / max(_rms(field), 1e-300))
    return float(min(longest, 2.5 / k_max)) if k_max > 0 else float(longest)


def tolerance_step(field: MagneticField, gyroradius: float, tolerance: float) -> float:
    r"""Return the step in 1/Omega with which the multi-rate scheme reaches a tolerance.

    A scheme of order p errs in a step by :math:`h^{p+1}` times the p-th derivative of the field along the orbit, or by
    :math:`(B h)^{p+1}` of the gyration. In the field of the papers (ASTRA, 100 waves, :math:`\lambda_{min} = 0.1 r_L`)
    steps of 1/40, 1/104 and 1/160 reach 1e-3, 1e-6 and 1e-9. Elsewhere

    .. math:: h = h_{papers} \frac{\nu_{papers}}{\nu}, \qquad
              \nu^{2(p+1)} = \sum_n \frac{A_n^2}{2} \frac{(k_n r_L)^{2p}}{2p + 1},

    where :math:`\nu` is the rate at which the field changes along a straight line of random direction, and never more
    than a given angle of gyration in the rms of the whole field.
    """
    return _plan(field, gyroradius, tolerance)[1]


def _rate(field: MagneticField, gyroradius: float, order: int) -> float:
    """Return the rate of change of the field along a straight line: see `tolerance_step`."""
    if field.waves is None:
        return 0.0
    k = np.linalg.norm(field.waves.wavevector, axis=0) * gyroradius
    square = 0.5 * np.sum(field.waves.amplitude**2, axis=0)
    # Against overflow the largest wavenumber is taken out of the powers.
    k_max = np.max(k, initial=0.0)
    if k_max == 0.0:
        return 0.0
    total = np.sum(square * (k / k_max) ** (2 * order)) / (2 * order + 1)
    return float((total * k_max ** (2 * order)) ** (0.5 / (order + 1)))


def _rms(field: MagneticField) -> float:
    """Return the root of the mean square of the whole field."""
    waves = 0.0 if field.waves is None else field.waves.mean_square
    grids = sum(grid.mean_square for grid in field.grids)
    return float(np.sqrt(np.sum(field.uniform**2) + waves + grids))


def _plan(field: MagneticField, gyroradius: float, tolerance: float) -> tuple[_Plan, float]:
    """Return the scheme of a tolerance and its step, or say what is wrong."""
    if not (min(_PLANS) <= tolerance <= 0.1):
        raise ValueError(f"tolerance {tolerance}: expected {min(_PLANS)} to 0.1, relative at 20 gyro-times")
    if field.grids:
        raise ValueError(
            "tolerance: an interpolated grid has kinks, which no order of the scheme overcomes; give scheme and step"
        )
    plan = _PLANS[max((known for known in _PLANS if known <= tolerance), default=min(_PLANS))]
    rate, strength = _rate(field, gyroradius, plan.order), _rms(field)
    limits = [0.5]
    if rate > 0:
        limits.append(_RATE_OF_PAPERS[plan.order] / (plan.steps * rate))
    if strength > 0:
        limits.append(plan.angle / strength)
    return plan, min(limits)


def back_track(
    field: MagneticField,
    arrival: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    position: ArrayLike | None = None,
    step: float | None = None,
    scheme: str | None = None,
    tolerance: float | None = None,
    single: bool = False,
) -> Orbits:
    r"""Return where particles that arrive from given directions were at earlier times.

    .. math:: \frac{dr}{ds} = -\hat p, \qquad \frac{d\hat p}{ds} = -\hat p \times B(r)

    is solved with s the time before arrival. Three schemes:

    - ``"leapfrog"`` with exact rotations: second order, time reversible, keeps phase-space volume and
      :math:`|\hat p|`; one sum of the field a step. For statistics; the one taken if neither scheme nor tolerance is
      given, with `ensemble_step` if no step is.
    - ``"yoshida"``: three such leapfrogs in a step, fourth order (Yoshida 1990), with the same virtues, for Liouville's
      theorem to a few digits. Needs a step.
    - ``"multirate"``: a multistep scheme (Adams) for single orbits to a tolerance, the cheapest way to those; slow
      waves are summed less often than fast ones, and in single precision for a tolerance of 1e-3. Not reversible;
      makes :math:`\hat p` a unit vector in each step and returns by how much it was not. Needs a tolerance, from
      which `tolerance_step` finds the step.

    The tolerance is the median error of the end point, relative to its distance, after 20/Omega. Errors grow by e
    every 4.5 gyro-times or so in the field of the papers: beyond 50 gyro-times only statistics have a meaning. Where
    the energy lies at smaller scales they grow faster (in a third of a gyro-time at k r_L = 30 to 300), and the
    tolerance holds for as many e-folds, not for as many gyro-times.

    Parameters
    ----------
    field : MagneticField
    arrival : array_like, shape (3, n)
        Unit vectors of the directions of arrival, :math:`n = -\hat p`.
    times : array_like, shape (n_time,)
        Increasing, not negative, in 1/Omega. As many as wanted: whole orbits cost no more than their last points, in
        the multi-rate scheme (outputs are interpolated to its order); in the other two steps are cut to end on them.
    gyroradius : float
        r_L in a field of unit strength, in the unit of length of the field.
    position : array_like, shape (3, n) or (3, 1), optional
        Where they arrive, in gyroradii. Default: the origin.
    step : float, optional
        Largest step in 1/Omega. In the multi-rate scheme it takes the place of `tolerance_step`.
    scheme : {"leapfrog", "yoshida", "multirate"}, optional
        Default: multi-rate if a tolerance is given, else leapfrog.
    tolerance : float, optional
        1e-9 to 0.1; the multi-rate scheme has orders 4, 7 and 10, for 1e-3, 1e-6 and 1e-9 or more.
    single : bool
        Sum waves in single precision, about places that are set anew every ten sums: the field to some 5e-7 of
        itself however far the particle is, in two thirds of the time. For statistics: such orbits return to their
        start, and keep the volume of phase space, to that precision only. Leapfrog alone.

    Returns
    -------
    Orbits

    Raises
    ------
    ValueError
        If the gyroradius, a time, the step or the tolerance is out of its range, directions are not unit vectors, or
        scheme, step and tolerance do not go together.

    Examples
    --------
    A quarter of a gyration backwards in time, about the z axis:

    >>> field = MagneticField(uniform=[0.0, 0.0, 1.0])
    >>> orbit = back_track(field, [[-1.0], [0.0], [0.0]], [np.pi / 2], gyroradius=1.0, tolerance=1e-9)
    >>> orbit.position[0, :, 0].round(6) + 0.0
    array([-1.,  -1.,  0.])
    """
    return _track(
        field, arrival, times, gyroradius=gyroradius, position=position, step=step, scheme=scheme,
        tolerance=tolerance, single=single, backward=True,
    )  # fmt: skip


def track(
    field: MagneticField,
    momentum: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    position: ArrayLike | None = None,
    step: float | None = None,
    scheme: str | None = None,
    tolerance: float | None = None,
    single: bool = False,
) -> Orbits:
    """Return where particles that start with given directions of motion are at later times; as `back_track`."""
    return _track(
        field, momentum, times, gyroradius=gyroradius, position=position, step=step, scheme=scheme,
        tolerance=tolerance, single=single, backward=False,
    )  # fmt: skip


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
    direction, place, _ = checked_start(arrival, position, [0.0], gyroradius)
    spheres = np.array(radii, dtype=np.float64, ndmin=1)
    if spheres.ndim != 1 or not (np.all(np.diff(spheres, prepend=0.0) > 0) and np.all(np.isfinite(spheres))):
        raise ValueError(f"radii {radii!r}: expected positive, increasing radii in gyroradii")
    if not (np.isfinite(longest_time) and longest_time > 0):
        raise ValueError(f"longest_time {longest_time}: expected a positive time in 1/Omega")
    longest = checked_step(ensemble_step(field, gyroradius) if step is None else step)
    count = max(1, int(np.ceil(longest_time / longest - 1e-9)))
    shape = (spheres.size, 3, direction.shape[1])
    times, positions, directions = np.empty((shape[0], shape[2])), np.empty(shape), np.empty(shape)
    kernels.first_crossings(
        place, direction, 1.0, longest_time / count, count, spheres, *field.arrays(gyroradius), False,
        times, positions, directions,
    )  # fmt: skip
    return Crossings(spheres, times, positions, -directions)


def checked_step(step: float) -> float:
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
    scheme: str | None,
    tolerance: float | None,
    single: bool,
    backward: bool,
) -> Orbits:
    direction, place, stops = checked_start(start, position, times, gyroradius)
    name = scheme or ("leapfrog" if tolerance is None else "multirate")
    if name not in ("leapfrog", "yoshida", "multirate"):
        raise ValueError(f"scheme {scheme!r}: expected leapfrog, yoshida or multirate")
    if (name == "multirate") != (tolerance is not None):
        raise ValueError(
            f"scheme {name!r} with tolerance {tolerance}: the multi-rate scheme, and it alone, takes a tolerance"
        )
    if name == "yoshida" and step is None:
        raise ValueError("scheme 'yoshida': expected a step in 1/Omega")
    if single and name != "leapfrog":
        raise ValueError(f"scheme {name!r}: sums in single precision are for the leapfrog alone")
    if step is not None:
        checked_step(step)
    shape = (stops.size, 3, direction.shape[1])
    positions, directions, drift = np.empty(shape), np.empty(shape), np.zeros(shape[2])
    charge = 1.0 if backward else -1.0
    arrays = field.arrays(gyroradius)
    if tolerance is not None:
        plan, longest = _plan(field, gyroradius, tolerance)
        prepared = _multirate(plan, longest if step is None else step, stops, arrays[1][0])
        arguments: tuple[Any, ...] = (
            place, direction, charge, *prepared[:-3], *arrays, plan.exact, plan.single, *prepared[-3:], positions,
            directions, drift,
        )  # fmt: skip
        kernels.adams(*arguments)
    else:
        longest = ensemble_step(field, gyroradius) if step is None else step
        steps, counts = equal_steps(stops, longest)
        if single:
            kernels.anchored_leapfrog(place, direction, charge, steps, counts, *arrays, positions, directions)
        elif name == "leapfrog":
            kernels.leapfrog(place, direction, charge, steps, counts, *arrays, False, positions, directions)
        else:
            kernels.compose(
                place, direction, charge, steps, counts, YOSHIDA_WEIGHTS, *arrays, positions, directions
            )  # fmt: skip
        drift = np.max(np.abs(np.linalg.norm(directions, axis=1) - 1.0), axis=0, initial=0.0)
    return Orbits(stops, positions, -directions if backward else directions, drift)


def equal_steps(stops: FloatArray, longest: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return lengths and numbers of the equal steps that lead from each time to the next, the first from 0."""
    intervals = np.diff(stops, prepend=0.0)
    counts = np.ceil(intervals / longest - 1e-9).astype(np.int64)
    return intervals / np.maximum(counts, 1), counts


def _multirate(plan: _Plan, longest: float, stops: FloatArray, wave: FloatArray) -> tuple[Any, ...]:
    """Return the arguments of `kernels.adams` from the step to the substeps, then those of the outputs."""
    last = float(stops[-1]) if stops.size else 0.0
    step = last / max(1, int(np.ceil(last / longest - 1e-9))) if last > 0 else longest
    order = plan.order
    past = -np.arange(order)
    to_position, to_direction = _integrals(past, 1.0)
    at_next = _lagrange(past, np.array([1.0]))[:, 0]
    # The force that was not expected adds a polynomial that is 0 at all past points and 1 at the next one.
    beyond = _integrals(np.append(past, 1), 1.0)
    predict = _padded(np.stack([to_position * step**2, to_direction * step, at_next]))
    corrector = np.array([beyond[0][-1] * step**2, beyond[1][-1] * step])
    # Waves are in the order of k; the slowest come first.
    turns = 2 * np.pi * np.linalg.norm(wave, axis=0) * step
    edges = [0, *(int(np.searchsorted(turns, limit)) for limit in reversed(plan.thresholds)), turns.size]
    periods = [*reversed(plan.periods), 1]
    forecast = np.zeros((len(plan.periods), max(periods), plan.points))
    for band, period in enumerate(periods[:-1]):
        nodes = -period * np.arange(plan.points)
        for passed in range(1, period):
            forecast[band, passed] = _lagrange(nodes, np.array([float(passed)]))[:, 0]
    # The first steps fill the past: states before its end are found by looking back over it.
    after = np.maximum(np.ceil(stops / step - 1e-9).astype(np.int64), order - 1)
    dense = np.zeros((stops.size, *predict.shape))
    for out, share in enumerate(stops / step - after):
        to_position, to_direction = _integrals(past, float(share))
        dense[out, 0, :order], dense[out, 1, :order] = to_position * step**2, to_direction * step
    return (
        step, order, predict[None], corrector, np.array(edges, dtype=np.int64), np.array(periods, dtype=np.int64),
        forecast, YOSHIDA_WEIGHTS, plan.substeps, after, stops - after * step, dense,
    )  # fmt: skip


def _padded(weights: FloatArray) -> FloatArray:
    """Return weights with zeros added so that the last axis is a multiple of four, as `kernels.predict` wants."""
    width = -weights.shape[-1] % 4
    return np.concatenate([weights, np.zeros((*weights.shape[:-1], width))], axis=-1)


def _lagrange(nodes: NDArray[Any], at: FloatArray) -> FloatArray:
    """Return the polynomials that are 1 at one node and 0 at the others, shape (n_node, n)."""
    own = np.eye(nodes.size, dtype=bool)
    apart = np.where(own, 1.0, nodes[:, None] - nodes)
    return np.asarray(np.prod(np.where(own[..., None], 1.0, (at - nodes[:, None]) / apart[..., None]), axis=1))


def _integrals(nodes: NDArray[Any], end: float) -> tuple[FloatArray, FloatArray]:
    """Return the double and the single integral of the Lagrange polynomials from 0 to `end`."""
    s, weight = 0.5 * end * (1.0 + GAUSS[0]), 0.5 * end * GAUSS[1]
    values = _lagrange(nodes, s)
    return values @ (weight * (end - s)), values @ weight


def checked_start(
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
    if origin.shape not in ((3, 1), direction.shape) or not np.all(np.isfinite(origin)):
        raise ValueError(f"position: shape {origin.shape}, expected finite numbers, shape (3, n) or (3, 1)")
    place = np.ascontiguousarray(np.broadcast_to(origin, direction.shape))
    stops = np.array(times, dtype=np.float64, ndmin=1)
    if stops.ndim != 1 or not np.all(np.isfinite(stops)) or np.any(np.diff(stops, prepend=0.0) < 0):
        raise ValueError(f"times {times!r}: expected times in 1/Omega that increase from 0 on")
    return direction, place, stops
