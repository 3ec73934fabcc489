r"""Diffusion, drift and scattering measured from orbits: running coefficients of one field, and errors over fields.

Lengths are in gyroradii and times in 1/Omega, as in `orbits`; diffusion coefficients are then in units of c r_L and
rates in units of Omega. The tensor is that of AM17, Eq. (53),

.. math:: K_{ij} = \frac{\hat B_i \hat B_j}{3 \nu_\parallel} + \frac{\delta_{ij} - \hat B_i \hat B_j}{3 \nu_\perp}
          + \frac{\epsilon_{ijk} \hat B_k}{3 \nu_A},

with the flux :math:`\Phi = -K \nabla \phi`. With r(T) the displacement of a particle since its start, it is the
limit of

.. math:: \frac{\langle r_i r_j \rangle}{2 T}, \qquad
          \frac{1}{2} \frac{d}{dT} \langle r_i r_j \rangle
          = \tfrac12 \langle r_i \hat p_j + \hat p_i r_j \rangle (T), \qquad
          \int_0^T \langle \hat p_i(t) \hat p_j(0) \rangle dt = \langle r_i(T) \hat p_j(0) \rangle,

for isotropic starts at places uniform in space. The first is smooth but late: it nears the limit as 1/T. The second
needs no difference of times, since :math:`\dot r = \hat p`. The third (Taylor, Green, Kubo) has the antisymmetric
part too, which no mean square knows of. For orbits tracked backwards r is odd in time, and the roles of i and j change
in the third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence.orbits import Orbits

FloatArray = NDArray[np.float64]

# Largest deviation of <p_i p_j> at the start from a third of the unit matrix, beyond chance: a beam has 2/3.
FAR_FROM_ISOTROPIC = 0.2


@dataclass(frozen=True)
class RunningDiffusion:
    """Running diffusion tensors of one or more fields, in units of c r_L.

    Attributes
    ----------
    time : ndarray, shape (n_time,)
        Time of flight in 1/Omega, positive also for orbits tracked backwards.
    mean : ndarray, shape (n_field, n_time, 3, 3)
        <r_i r_j> / 2T.
    derivative : ndarray, shape (n_field, n_time, 3, 3)
        d<r_i r_j> / 2dT, symmetric.
    correlation : ndarray, shape (n_field, n_time, 3, 3)
        Integral of <p_i(t) p_j(0)>, with its antisymmetric part.
    persistence : ndarray, shape (n_field, n_time, 3, 3)
        3 <p_i(T) p_j(0)>, the unit matrix at T = 0.
    """

    time: FloatArray
    mean: FloatArray
    derivative: FloatArray
    correlation: FloatArray
    persistence: FloatArray


def running_diffusion(
    orbits: Orbits, start: ArrayLike, *, position: ArrayLike | None = None, backward: bool = False
) -> RunningDiffusion:
    """Return the running diffusion tensors of the particles of one field.

    They are diffusion coefficients at late times only, see `settled_tensor` for how late.

    Parameters
    ----------
    orbits : Orbits
        Of `orbits.track`, or of `orbits.back_track` with `backward`. Times above 0.
    start : array_like, shape (3, n)
        Unit vectors of the directions of *motion* at time 0 (the opposite of directions of arrival), isotropic.
    position : array_like, shape (3, n) or (3, 1), optional
        Where they were at time 0, in gyroradii. Default: the origin.
    backward : bool
        Whether times count into the past.

    Returns
    -------
    RunningDiffusion
        With one field.

    Raises
    ------
    ValueError
        If shapes differ, a time is not positive, or the starts are far from isotropic.

    Examples
    --------
    Without a field the motion is straight: <x^2> = T^2 / 3.

    >>> from obsfit_models.turbulence.field import MagneticField
    >>> from obsfit_models.turbulence.orbits import track
    >>> axes = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    >>> running = running_diffusion(track(MagneticField(), axes, [2.0], gyroradius=1.0), axes)
    >>> np.round(running.mean[0, 0, 0, 0], 6), np.round(running.derivative[0, 0, 0, 0], 6)
    (np.float64(0.333333), np.float64(0.666667))
    """
    first = np.asarray(start, dtype=np.float64)
    if orbits.position.shape[1:] != first.shape or orbits.momentum.shape != orbits.position.shape:
        raise ValueError(
            f"orbits of shape {orbits.position.shape} and starts of shape {first.shape}: expected (n_time, 3, n) and "
            "(3, n)"
        )
    if not np.all(orbits.time > 0):
        raise ValueError(f"times {orbits.time}: expected times above 0, a running coefficient has none at 0")
    n = first.shape[1]
    spread = first @ first.T / n - np.eye(3) / 3
    if np.max(np.abs(spread)) > FAR_FROM_ISOTROPIC + 3 / np.sqrt(n):
        raise ValueError(
            "the directions at the start are far from isotropic; diffusion coefficients are averages over all of them"
        )
    origin = np.zeros((3, 1)) if position is None else np.asarray(position, dtype=np.float64)
    moved = orbits.position - origin
    sign = -1.0 if backward else 1.0
    flow = sign * np.einsum("tin,tjn->tij", moved, orbits.momentum) / n
    kubo = sign * np.einsum("tin,jn->tij", moved, first) / n
    persistence = 3 * np.einsum("tin,jn->tij", orbits.momentum, first) / n
    if backward:
        kubo, persistence = np.swapaxes(kubo, 1, 2), np.swapaxes(persistence, 1, 2)
    mean = np.einsum("tin,tjn->tij", moved, moved) / (2 * n * orbits.time[:, None, None])
    return RunningDiffusion(
        orbits.time, mean[None], 0.5 * (flow + np.swapaxes(flow, 1, 2))[None], kubo[None], persistence[None]
    )


def join_fields(parts: Sequence[RunningDiffusion]) -> RunningDiffusion:
    """Return the running tensors of several fields, of equal times, as one."""
    if not parts:
        raise ValueError("no fields: expected at least one")
    for part in parts:
        if not np.array_equal(part.time, parts[0].time):
            raise ValueError(f"times {part.time} and {parts[0].time}: expected equal times for all fields")
    names = ("mean", "derivative", "correlation", "persistence")
    return RunningDiffusion(
        parts[0].time, *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def mean_and_error(values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard error over the first axis, the fields.

    Particles of one field are not independent of each other; fields are. With one field the error is NaN.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = sample.shape[0]
    mean = np.mean(sample, axis=0)
    if n < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, np.std(sample, axis=0, ddof=1) / np.sqrt(n)


def settled_tensor(running: RunningDiffusion, after: float) -> FloatArray:
    r"""Return the growth of the mean square between two times, a tensor per field, shape (n_field, 3, 3).

    .. math:: \frac{T_2 K(T_2) - T_1 K(T_1)}{T_2 - T_1}, \qquad K(T) = \frac{\langle r_i r_j \rangle}{2 T},

    with T_2 the last time and T_1 the first that is not before `after`. It is free of the 1/T by which <r r>/2T lags,
    and an average of the derivative over all times between. It means a diffusion coefficient only where the running
    ones have settled. Along a mean field that takes about ten mean free paths or ten correlation lengths over c,
    whichever is longer. Across it, and without one, particles of small gyroradii first diffuse along the field lines
    on which they are; K falls to its limit only after some 20 correlation lengths over c at r_L = 0.1 L_c and 40 at
    0.03 and below, tens to hundreds of mean free paths: see `docs/turbulence-transport.md`.
    """
    late = np.flatnonzero(running.time >= after)
    if late.size < 2:
        raise ValueError(f"after {after}: expected at least two of the times {running.time} from then on")
    first, last = int(late[0]), int(late[-1])
    square = running.mean * running.time[:, None, None]
    return np.asarray((square[:, last] - square[:, first]) / (running.time[last] - running.time[first]))


def split_tensor(
    tensor: ArrayLike, axis: ArrayLike = (0.0, 0.0, 1.0)
) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""Return K_par, K_perp and K_A of tensors (..., 3, 3) about an axis (the mean field, say), each of shape (...).

    .. math:: K_\parallel = b_i K_{ij} b_j, \quad K_\perp = \tfrac12 (K_{ii} - K_\parallel), \quad
              K_A = \tfrac12 \epsilon_{ijk} K_{ij} b_k.

    K_A is 1/3 nu_A: of the drift, positive for the sense of gyration of the orbits here.

    Examples
    --------
    >>> split_tensor([[2.0, 0.5, 0.0], [-0.5, 2.0, 0.0], [0.0, 0.0, 9.0]])
    (array(9.), array(2.), array(0.5))
    """
    k = np.asarray(tensor, dtype=np.float64)
    b = np.asarray(axis, dtype=np.float64)
    size = float(np.linalg.norm(b))
    if k.shape[-2:] != (3, 3) or b.shape != (3,) or not size > 0:
        raise ValueError(f"tensor {k.shape} about axis {axis!r}: expected (..., 3, 3) and a vector that is not 0")
    b = b / size
    along = np.einsum("...ij,i,j->...", k, b, b)
    across = 0.5 * (np.einsum("...ii->...", k) - along)
    turning = np.array([k[..., 1, 2] - k[..., 2, 1], k[..., 2, 0] - k[..., 0, 2], k[..., 0, 1] - k[..., 1, 0]])
    return np.asarray(along), np.asarray(across), np.asarray(0.5 * np.tensordot(b, turning, axes=1))


def mean_free_path(diffusion: ArrayLike) -> FloatArray:
    """Return 3 K / c in gyroradii, of a coefficient in units of c r_L."""
    return 3.0 * np.asarray(diffusion, dtype=np.float64)


def folding_rate(time: ArrayLike, persistence: ArrayLike) -> float:
    r"""Return the rate nu of a decay :math:`e^{-\nu T}` from the time at which a correlation falls to 1/e.

    For the momentum along the mean field, 3 <p_par(T) p_par(0)>, this is :math:`\nu_\parallel`; for
    <p(T) . p(0)> without a mean field it is nu. Where the decay is exponential, 3 K = 1/nu; where it is not, the two
    differ, and 3 K, its integral, is the one that diffusion knows.

    Parameters
    ----------
    time : array_like, shape (n_time,)
        Increasing, above 0.
    persistence : array_like, shape (n_time,)
        1 at time 0.

    Raises
    ------
    ValueError
        If it does not fall to 1/e within the times given.

    Examples
    --------
    >>> time = np.linspace(0.5, 20.0, 40)
    >>> round(folding_rate(time, np.exp(-0.3 * time)), 12)
    0.3
    """
    t = np.concatenate([[0.0], np.asarray(time, dtype=np.float64)])
    c = np.concatenate([[1.0], np.asarray(persistence, dtype=np.float64)])
    below = np.flatnonzero(c <= np.exp(-1))
    if below.size == 0:
        raise ValueError(
            f"the correlation is still {c[-1]:.3g} at the last time, {t[-1]:.4g}: expected it to fall to 1/e; follow "
            "the orbits for longer"
        )
    i = int(below[0])
    # Between two times the logarithm is linear, or the value itself where the second is not positive.
    if c[i] > 0:
        share = (np.log(c[i - 1]) + 1.0) / (np.log(c[i - 1]) - np.log(c[i]))
    else:
        share = (c[i - 1] - np.exp(-1)) / (c[i - 1] - c[i])
    return float(1.0 / (t[i - 1] + share * (t[i] - t[i - 1])))


def pitch_angle_diffusion(mu_start: ArrayLike, mu: ArrayLike, time: float, edges: ArrayLike) -> FloatArray:
    r"""Return :math:`D_{\mu\mu} = \langle (\mu(T) - \mu(0))^2 \rangle / 2T` in bins of mu(0), shape (n_edges - 1,).

    The time is to be longer than that of a resonance (a few gyro-times over mu) and much shorter than 1/nu, after which
    the change of mu is bounded. Bins without a particle are NaN.
    """
    before, after = np.asarray(mu_start, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    borders = np.asarray(edges, dtype=np.float64)
    if before.shape != after.shape or not time > 0:
        raise ValueError(
            f"mu of shapes {before.shape} and {after.shape} after {time}: expected equal ones, time > 0"
        )
    number, _ = np.histogram(before, bins=borders)
    square, _ = np.histogram(before, bins=borders, weights=(after - before) ** 2)
    return np.where(number > 0, square / (2 * time * np.maximum(number, 1)), np.nan)
