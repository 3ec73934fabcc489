"""A plain model of the flow about the Sun, for the sketches of Figs. 10 and 11: lengths in AU, speeds in km/s.

The solar wind blows radially as far as the termination shock. Beyond it, and in the interstellar medium, the flow is
that of a source in an incompressible stream (Parker 1961), with the Sun at the origin and the stream along +x:

    v = U (e_x + a^2 e_r / r^2),

which is at rest at x = -a. The stream surface through that point divides the two media, y^2 / 2 = a^2 (1 + x / r).
"""

from __future__ import annotations

import astropy.constants as const
import astropy.units as u
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SHOCK_AU = (80.0, 90.0)
"""Distance of the termination shock, Section 4.1 of AM17."""
SHOCK = 0.5 * (SHOCK_AU[0] + SHOCK_AU[1])
NOSE = 120.0
"""Distance of the heliopause ahead of the Sun in AU, a round number of ours: AM17 states none."""
YEAR_AT_1_KM_S = float((1.0 * u.km / u.s * u.yr).to_value(u.au))
"""AU that 1 km/s covers in a year."""


def gyroradius_au(rigidity_tv: float, field_microgauss: float) -> float:
    """Return R / (B c) in AU."""
    radius = rigidity_tv * u.TV / (field_microgauss * u.uG * const.c)
    return float(radius.to_value(u.au))


def velocity(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the velocity beyond the shock, over U."""
    r = np.hypot(x, y)
    return 1.0 + NOSE**2 * x / r**3, NOSE**2 * y / r**3


def stream_function(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return y^2 / 2 a^2 - x / r: constant along a flow line, 1 on the heliopause, below 1 in the solar wind."""
    return np.asarray(0.5 * (y / NOSE) ** 2 - x / np.hypot(x, y))


def flow_line(value: float, angles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where rays at angles (0 to pi) from the tail meet the flow line with a value of the stream function."""
    # Rounding at the very ends of a line would give the root of a negative number.
    y = NOSE * np.sqrt(2.0 * np.maximum(value + np.cos(angles), 0.0))
    return y / np.tan(angles), y


def heliopause(reach: float) -> tuple[FloatArray, FloatArray]:
    """Return the upper half of the heliopause, from the nose to x = `reach`."""
    # Nearer to the nose, 1 + cos has too few digits.
    x, y = flow_line(1.0, np.linspace(np.pi - 1e-4, 0.05, 2000))
    return x[x <= reach], y[x <= reach]


def carried(angles: FloatArray, times: FloatArray, *, wind: float, tail: float) -> tuple[FloatArray, FloatArray]:
    """Return where plasma is, `times` after it left the Sun at `angles` from the tail; arrays (n_angle, n_time).

    Radially at speed `wind` (km/s) to the shock, then with the flow, whose speed far down the tail is `tail` (km/s).
    Times, in years, rise in equal steps from 0.
    """
    crossing = SHOCK / (wind * YEAR_AT_1_KM_S)
    place = np.empty((2, angles.size, times.size))
    outward = np.array([np.cos(angles), np.sin(angles)])
    for index, time in enumerate(times):
        if time <= crossing:
            place[:, :, index] = outward * SHOCK * time / crossing
            continue
        start, length = (outward * SHOCK, time - crossing) if times[index - 1] <= crossing else (
            place[:, :, index - 1], time - times[index - 1]
        )  # fmt: skip
        place[:, :, index] = _advance(start, length * tail * YEAR_AT_1_KM_S)
    return place[0], place[1]


def _advance(place: FloatArray, step: float) -> FloatArray:
    """Return places one step of Runge and Kutta later; the step is U times the time."""
    slopes = [np.array(velocity(*place))]
    for part in (0.5, 0.5, 1.0):
        slopes.append(np.array(velocity(*(place + part * step * slopes[-1]))))
    return np.asarray(place + step / 6.0 * (slopes[0] + 2.0 * slopes[1] + 2.0 * slopes[2] + slopes[3]))
