"""The Compton-Getting effect: the dipole that an observer's motion induces, and the motions themselves."""

from __future__ import annotations

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.constants import c
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

from obsfit import _tables
from obsfit.errors import ConfigurationError
from obsfit.sky.directions import galactic_to_equatorial, unit_vector

FloatArray = NDArray[np.float64]

_FILE = "motions.ecsv"
OBLIQUITY = 23.4 * u.deg
"""Tilt of the Earth's axis as used in Eqs. (61) and (62) of AM17."""


@dataclass(frozen=True)
class NamedMotion:
    """A motion of the shipped table, in Galactic coordinates; None where the paper gives no value.

    Attributes
    ----------
    name : str
        Name in the table.
    speed, speed_error : Quantity, speed
        Speed of the observer and its uncertainty.
    longitude, longitude_error, latitude, latitude_error : Quantity, angle
        Galactic direction of the motion and its uncertainty. None for the motion of the Earth about the Sun.
    remark : str
        What to know before using it.
    """

    name: str
    speed: u.Quantity
    speed_error: u.Quantity | None = None
    longitude: u.Quantity | None = None
    longitude_error: u.Quantity | None = None
    latitude: u.Quantity | None = None
    latitude_error: u.Quantity | None = None
    remark: str = ""


def motion_names() -> tuple[str, ...]:
    """Return the names that `motion_entry` knows.

    Examples
    --------
    >>> motion_names()
    ('LSR', 'ISM', 'galactic-rotation', 'earth-orbit')
    """
    return tuple(_tables.rows(_FILE))


def motion_entry(name: str) -> NamedMotion:
    """Return a motion with its uncertainties as published (Section 3.2 of AM17).

    The direction of the Galactic rotation is l = 90 deg, towards which the Sun moves; the text prints 270 deg.

    Raises
    ------
    ConfigurationError
        If the name is unknown; the message lists the names.
    """
    cells = dict(_tables.row(_FILE, name, "motion"))
    del cells["aliases"]
    return NamedMotion(**cells)


def motion_velocity(name: str) -> u.Quantity:
    """Return the velocity (0h, 6h, N) in ICRS, a Quantity of shape (3,) in km/s.

    Parameters
    ----------
    name : str
        "LSR", "ISM", "galactic-rotation", or an alias.

    Raises
    ------
    ConfigurationError
        If the name is unknown, or its direction turns with the year (the Earth's orbit).

    Examples
    --------
    >>> motion_velocity("LSR").round(2)
    <Quantity [ -0.87, -16.52,   7.1 ] km / s>
    """
    motion = motion_entry(name)
    if motion.longitude is None or motion.latitude is None:
        raise ConfigurationError(
            f"the direction of {motion.name!r} turns with the year",
            value=name,
            expected="a motion with a fixed direction",
            remedy="Use solar_dipole_sidereal or solar_dipole_solar_frame.",
        )
    speed = motion.speed.to(u.km / u.s)
    return speed * unit_vector(*galactic_to_equatorial(motion.longitude, motion.latitude))


def motion_beta(name: str) -> FloatArray:
    """Return the velocity of `motion_velocity` in units of the speed of light, shape (3,).

    Examples
    --------
    >>> dipole = compton_getting(motion_beta("ISM"), 2.7)
    >>> print(f"{np.linalg.norm(dipole):.3e}")
    3.637e-04
    """
    return np.asarray((motion_velocity(name) / c).to_value(u.dimensionless_unscaled), dtype=np.float64)


def compton_getting(beta: ArrayLike, spectral_index: ArrayLike) -> FloatArray:
    r"""Return the Compton-Getting dipole, shape (..., 3), to first order in the velocity; Eq. (60) of AM17.

    .. math:: \boldsymbol\delta = (2 + \Gamma)\,\boldsymbol\beta

    The excess is in the direction of motion.

    Parameters
    ----------
    beta : array_like, shape (..., 3)
        Velocity of the observer in the frame where cosmic rays are isotropic, in units of c.
    spectral_index : array_like, shape (...)
        Gamma of the differential spectrum, n(p) proportional to p^-Gamma.

    Examples
    --------
    >>> compton_getting([1e-4, 0.0, 0.0], 2.7)
    array([0.00047, 0.     , 0.     ])
    """
    velocity = _velocities(beta)
    factor: FloatArray = 2.0 + np.asarray(spectral_index, dtype=np.float64)
    return factor[..., np.newaxis] * velocity


def compton_getting_exact(beta: ArrayLike, spectral_index: float, directions: FloatArray) -> FloatArray:
    r"""Return the Compton-Getting anisotropy delta I, shape (...), to all orders in the velocity.

    .. math:: 1 + \delta I(\mathbf n) \propto (1 - \boldsymbol\beta\cdot\mathbf n)^{-(2+\Gamma)}

    normalised to unit mean over the full sphere, as in Eq. (14) of AM17. It follows from the invariance of
    the phase-space density, f(p) = f*(p*) with |p*| = gamma |p| (1 - beta.n). Excess and deficit differ at second
    order: the anisotropy is symmetric about the axis of motion, not under n -> -n.

    Parameters
    ----------
    beta : array_like, shape (3,)
        Velocity of the observer in units of c.
    spectral_index : float
        Gamma of the differential spectrum.
    directions : ndarray, shape (..., 3)
        Arrival directions as unit vectors in the frame of `beta`.

    Raises
    ------
    ValueError
        If the speed is not below that of light.
    """
    velocity = _velocities(beta)
    power = 2.0 + spectral_index
    log_mean = _log_mean(_speed(velocity), power)
    return np.asarray(np.expm1(-power * np.log1p(-directions @ velocity) - log_mean), dtype=np.float64)


def compton_getting_multipoles(speed: float, spectral_index: float, lmax: int) -> FloatArray:
    r"""Return the coefficients c_l, shape (lmax + 1,), of delta I = sum_l c_l P_l(cos angle to the motion).

    .. math::
        c_\ell = \frac{2\ell+1}{2 \langle I\rangle} \int_{-1}^{1} P_\ell(\mu) (1 - \beta\mu)^{-(2+\Gamma)} d\mu

    of `compton_getting_exact`, with c_0 = 0; to leading order c_1 = (2 + Gamma) beta and c_2 = (2 + Gamma)
    (3 + Gamma) beta^2 / 3. In terms of power, C_l = 4 pi c_l^2 / (2l + 1)^2.

    Parameters
    ----------
    speed : float
        Speed of the observer in units of c, in [0, 1).
    spectral_index : float
        Gamma of the differential spectrum, above -2.
    lmax : int
        Largest multipole.

    Raises
    ------
    ValueError
        If the speed is outside [0, 1), the spectral index is -2 or less, or lmax is negative.

    Examples
    --------
    >>> print(*(f"{value:.4e}" for value in compton_getting_multipoles(1e-3, 2.7, 2)))
    0.0000e+00 4.7000e-03 8.9300e-06
    """
    if not 0.0 <= speed < 1.0:
        raise ValueError(f"speed {speed}: expected a fraction of the speed of light in [0, 1)")
    if spectral_index <= -2.0:
        raise ValueError(f"spectral index {spectral_index}: expected a value above -2")
    if lmax < 0:
        raise ValueError(f"lmax {lmax}: expected 0 or more")
    power = 2.0 + spectral_index
    log_mean = _log_mean(speed, power)
    ell = np.arange(1, lmax + 1, dtype=np.float64)[:, np.newaxis]
    # Integrating by parts l times (Rodrigues) leaves a positive integrand (1 - mu^2)^l (1 - beta mu)^-(power + l):
    # the small coefficients keep their digits, where P_l itself would cancel.
    mu, weight = leggauss(96 + lmax + int(16.0 / (1.0 - speed)))
    log_integrand = ell * np.log1p(-(mu**2)) - (power + ell) * np.log1p(-speed * mu)
    log_factor = gammaln(power + ell) - gammaln(power) - gammaln(ell + 1.0) + xlogy(ell, 0.5 * speed) - log_mean
    coefficients = np.zeros(lmax + 1)
    coefficients[1:] = (ell[:, 0] + 0.5) * (np.exp(log_factor + log_integrand) @ weight)
    return coefficients


def orbital_speed() -> u.Quantity:
    """Return the mean orbital speed of the Earth, 29.8 km/s as in Section 3.2 of AM17."""
    return motion_entry("earth-orbit").speed


def sun_right_ascension(orbital_angle: u.Quantity) -> u.Quantity:
    """Return the right ascension of the mean Sun, orbital_angle + 180 deg, in [0, 360) deg.

    So the orbital angle vanishes at the September equinox. Mean solar noon is the Sun's hour angle 0: local
    sidereal time equals this right ascension then, and is 0h only at the March equinox.
    """
    return np.mod(orbital_angle.to_value(u.deg) + 180.0, 360.0) * u.deg


def solar_dipole_sidereal(
    orbital_angle: u.Quantity,
    spectral_index: float,
    *,
    speed: u.Quantity | None = None,
    obliquity: u.Quantity = OBLIQUITY,
) -> FloatArray:
    r"""Return the dipole of the Earth's orbital motion in the sidereal frame, shape (..., 3); Eq. (61) of AM17.

    .. math:: \delta_S (-\sin a, \cos\epsilon \cos a, \sin\epsilon\cos a), \qquad \delta_S = (2+\Gamma)\, v / c

    The orbit is taken as circular; the mean over a full year is zero.

    Parameters
    ----------
    orbital_angle : Quantity, angle, shape (...)
        a = right ascension of the mean Sun minus 180 deg; 0 at the September equinox.
    spectral_index : float
        Gamma of the differential spectrum.
    speed : Quantity, speed, optional
        Orbital speed; default `orbital_speed`.
    obliquity : Quantity, angle
        Tilt of the Earth's axis.
    """
    angle, tilt = orbital_angle.to_value(u.rad), obliquity.to_value(u.rad)
    shape = [-np.sin(angle), np.cos(tilt) * np.cos(angle), np.sin(tilt) * np.cos(angle)]
    return _solar_amplitude(spectral_index, speed) * np.stack(shape, axis=-1)


def solar_dipole_solar_frame(
    orbital_angle: u.Quantity,
    spectral_index: float,
    *,
    speed: u.Quantity | None = None,
    obliquity: u.Quantity = OBLIQUITY,
) -> FloatArray:
    r"""Return the dipole of the Earth's orbital motion in the solar frame, shape (..., 3); Eq. (62) of AM17.

    .. math::
        \delta_S \left(-\sin^2\tfrac{\epsilon}{2} \sin 2a,\;
        \cos^2\tfrac{\epsilon}{2} - \sin^2\tfrac{\epsilon}{2}\cos 2a,\; \sin\epsilon \cos a\right)

    In the solar frame mean solar time takes the place of right ascension: the mean Sun stands at 12h, and the
    motion points to 6h on average.

    Parameters
    ----------
    orbital_angle, spectral_index, speed, obliquity
        As in `solar_dipole_sidereal`.
    """
    angle, tilt = orbital_angle.to_value(u.rad), obliquity.to_value(u.rad)
    small, large = np.sin(0.5 * tilt) ** 2, np.cos(0.5 * tilt) ** 2
    shape = [-small * np.sin(2 * angle), large - small * np.cos(2 * angle), np.sin(tilt) * np.cos(angle)]
    return _solar_amplitude(spectral_index, speed) * np.stack(shape, axis=-1)


def solar_dipole_yearly_mean(
    spectral_index: float, *, speed: u.Quantity | None = None, obliquity: u.Quantity = OBLIQUITY
) -> FloatArray:
    r"""Return the mean over full years of `solar_dipole_solar_frame`, shape (3,): delta_S (0, cos^2(eps/2), 0).

    The mean of `solar_dipole_sidereal` is zero.

    Examples
    --------
    >>> print(f"{solar_dipole_yearly_mean(2.7)[1]:.3e}")
    4.480e-04
    """
    towards_6h = np.cos(0.5 * obliquity.to_value(u.rad)) ** 2
    return _solar_amplitude(spectral_index, speed) * np.array([0.0, towards_6h, 0.0])


def _solar_amplitude(spectral_index: float, speed: u.Quantity | None) -> float:
    orbital = orbital_speed() if speed is None else speed
    return (2.0 + spectral_index) * float((orbital / c).to_value(u.dimensionless_unscaled))


def _velocities(beta: ArrayLike) -> FloatArray:
    velocity: FloatArray = np.asarray(beta, dtype=np.float64)
    if velocity.shape[-1:] != (3,):
        raise ValueError(f"beta of shape {velocity.shape}: expected (..., 3), components (0h, 6h, N)")
    return velocity


def _speed(velocity: FloatArray) -> float:
    if velocity.shape != (3,):
        raise ValueError(f"beta of shape {velocity.shape}: expected (3,), components (0h, 6h, N)")
    speed = float(np.linalg.norm(velocity))
    if not speed < 1.0:
        raise ValueError(f"|beta| = {speed}: expected a speed below that of light")
    return speed


def _log_mean(speed: float, power: float) -> float:
    """Logarithm of the mean of (1 - speed mu)^-power over mu in [-1, 1], without cancellation at low speed."""
    if speed == 0.0:
        return 0.0
    rapidity = np.arctanh(speed)
    argument = (power - 1.0) * rapidity
    ratio = np.sinh(argument) / argument if argument != 0.0 else 1.0
    return float(0.5 * (1.0 - power) * np.log1p(-(speed**2)) + np.log(ratio) + np.log(rapidity / speed))
