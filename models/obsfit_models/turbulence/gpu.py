"""Back-tracking of many particles on a graphics processor, with the answers of `orbits.back_track`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import Orbits, checked_start, checked_step, ensemble_step, equal_steps

FloatArray = NDArray[np.float64]

THREADS = 128
"""Particles of a block."""
BATCH = 2**20
"""Particles on the device at a time, 48 MiB; outputs are kept by the host."""
LAUNCH = 2 * 10**10
"""Cosines of one launch: short enough for the watchdog of a device that also drives a display."""


def back_track_gpu(
    field: MagneticField,
    arrival: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    position: ArrayLike | None = None,
    step: float | None = None,
) -> Orbits:
    r"""Return where particles that arrive from given directions were at earlier times, computed by a CUDA device.

    .. math:: \frac{dr}{ds} = -\hat p, \qquad \frac{d\hat p}{ds} = -\hat p \times B(r)

    by the scheme, the steps and the cosines of `orbits.back_track`, in float64: the answers differ by rounding, which
    chaos amplifies as it does any other. One thread follows one particle; a device is full from 10^5 particles on.

    Parameters
    ----------
    field : MagneticField
        A uniform field, plane waves, or both.
    arrival : array_like, shape (3, n)
        Unit vectors of the directions of arrival, :math:`n = -\hat p`.
    times : array_like, shape (n_time,)
        Increasing, not negative, in 1/Omega.
    gyroradius : float
        r_L in a field of unit strength, in the unit of length of the field.
    position : array_like, shape (3, n) or (3, 1), optional
        Where they arrive, in gyroradii. Default: the origin.
    step : float, optional
        Largest step in 1/Omega; each interval between times is divided into equal steps. Default: `ensemble_step`.

    Returns
    -------
    Orbits

    Raises
    ------
    ConfigurationError
        If the field has grids, or no CUDA device can be used.
    ValueError
        As `orbits.back_track`.
    """
    direction, place, stops = checked_start(arrival, position, times, gyroradius)
    longest = checked_step(ensemble_step(field, gyroradius) if step is None else step)
    if field.grids:
        raise ConfigurationError(
            f"this field has {len(field.grids)} grid(s), which the CUDA kernel cannot interpolate",
            value=len(field.grids),
            expected="a uniform field, plane waves, or both",
            remedy="Use obsfit_models.turbulence.orbits.back_track, which takes grids.",
        )
    cuda = _cuda()
    steps, counts = equal_steps(stops, longest)
    uniform, (wave, amplitude, phase), _ = field.arrays(gyroradius)
    on_device = cuda.to_device(uniform), cuda.to_device(_strips(wave, amplitude, phase))
    shape = (stops.size, 3, direction.shape[1])
    positions, directions = np.empty(shape), np.empty(shape)
    for start in range(0, direction.shape[1], BATCH):
        batch = slice(start, start + BATCH)
        # Slices of columns are copied: the device takes arrays in one piece.
        r = cuda.to_device(np.ascontiguousarray(place[:, batch]))
        u = cuda.to_device(np.ascontiguousarray(direction[:, batch]))
        for out, (length, count) in enumerate(zip(steps, counts, strict=True)):
            _advance(r, u, float(length), int(count), *on_device)
            positions[out, :, batch] = r.copy_to_host()
            directions[out, :, batch] = u.copy_to_host()
    drift = np.max(np.abs(np.linalg.norm(directions, axis=1) - 1.0), axis=0, initial=0.0)
    return Orbits(stops, positions, -directions, drift)


def _strips(wave: FloatArray, amplitude: FloatArray, phase: FloatArray) -> FloatArray:
    """Return the numbers of all waves (m, STRIP, NUMBERS), filled up with waves of amplitude 0."""
    from obsfit_models.turbulence import _kernels_cuda as kernels

    strips = -(-phase.size // kernels.STRIP)
    numbers = np.zeros((strips * kernels.STRIP, kernels.NUMBERS))
    numbers[: phase.size] = np.concatenate([wave, phase[np.newaxis], amplitude]).T
    return numbers.reshape(strips, kernels.STRIP, kernels.NUMBERS)


def _advance(r: Any, u: Any, step: float, count: int, uniform: Any, waves: Any) -> None:
    """Advance the states of a batch, arrays of the device, by `count` steps in launches of bounded work."""
    from obsfit_models.turbulence import _kernels_cuda as kernels

    n = r.shape[1]
    blocks = -(-n // THREADS)
    at_once = max(1, LAUNCH // (n * max(1, waves.size // kernels.NUMBERS)))
    for done in range(0, count, at_once):
        kernels.leapfrog[blocks, THREADS](r, u, 1.0, step, min(at_once, count - done), uniform, waves)


def _cuda() -> ModuleType:
    """Return numba's module for CUDA, or say what is missing."""
    remedy = (
        "Install the driver of the device and pip install 'obsfit[cuda]' (docs/gpu.md), or use "
        "obsfit_models.turbulence.orbits.back_track, which needs no device."
    )
    expected = "an NVIDIA device with its driver, and the extra 'cuda' (package numba-cuda)"
    try:
        from numba import cuda
    except ImportError as error:
        raise ConfigurationError(
            f"numba without CUDA: {error}", value="numba.cuda", expected=expected, remedy=remedy
        ) from error
    if not cuda.is_available():
        # The text of numba is spread over several lines.
        cause = " ".join(str(cuda.cuda_error() or "the compiler of CUDA (NVVM) was not found").split())
        raise ConfigurationError(
            f"no CUDA device can be used: {cause}", value="numba.cuda", expected=expected, remedy=remedy
        )
    return cuda
