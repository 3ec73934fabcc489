"""Diagnostics along orbits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import Orbits

FloatArray = NDArray[np.float64]


def magnetic_moment(field: MagneticField, orbits: Orbits, *, gyroradius: float) -> FloatArray:
    r"""Return :math:`p_\perp^2 / B`, the first adiabatic invariant, of every state, shape (n_time, n).

    p is 1 and B in the unit of the field; perpendicular is to the local field at the particle.

    It is nearly conserved only where the field changes little within a gyration. **Its drift is no test of Liouville's
    theorem**: in turbulence with power at the gyroradius it changes by its own size within a gyro-time along exact
    orbits, whose flow keeps the volume of phase space all the same (AM17, Section 4.3). What tests an integrator is
    \|p\| = 1, the way back to the start, and the unit Jacobian of the map.

    Parameters
    ----------
    field : MagneticField
    orbits : Orbits
        Positions in gyroradii.
    gyroradius : float
        r_L in a field of unit strength, in the unit of length of the field.

    Examples
    --------
    >>> from obsfit_models.turbulence.orbits import track
    >>> field = MagneticField(uniform=[0.0, 0.0, 2.0])
    >>> orbits = track(field, [[0.6], [0.0], [0.8]], [1.0, 7.0], gyroradius=1.0)
    >>> np.round(magnetic_moment(field, orbits, gyroradius=1.0), 12)
    array([[0.18],
           [0.18]])
    """
    if not (np.isfinite(gyroradius) and gyroradius > 0):
        raise ValueError(f"gyroradius {gyroradius}: expected a positive length in the unit of the field")
    n_time, _, n = orbits.position.shape
    place = np.moveaxis(orbits.position, 1, 0).reshape(3, n_time * n) * gyroradius
    b = np.moveaxis(field.at(place).reshape(3, n_time, n), 0, 1)
    strength = np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.sum(b * orbits.momentum, axis=1) / strength
        moment = (1.0 - along**2) / strength
    # Where there is no field there is no moment.
    return np.where(strength > 0, moment, np.nan)
