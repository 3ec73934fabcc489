"""The East-West method: how far apart, in right ascension, the eastern and the western half-sky look."""

from __future__ import annotations

from collections.abc import Callable

import astropy.units as u
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Acceptance = Callable[[FloatArray, FloatArray], ArrayLike]


def east_west_step(acceptance: Acceptance, zenith_max: u.Quantity, *, order: int = 64) -> float:
    r"""Return the effective step in right ascension of the East-West method, in radians.

    .. math::
        \Delta\alpha = \int_E A \sin^2\theta\, \sin\varphi\, d\varphi\, d\theta \Big/
        \int_E A \sin\theta\, d\varphi\, d\theta

    over the eastern half of the sky, 0 < azimuth < 180 deg; Eq. (23) of AM17. To first order in a dipole,
    (N_E - N_W)/(N_E + N_W) is this step times the derivative of the relative intensity on the celestial equator with
    respect to right ascension, at the local sidereal angle (Eq. (22)). So the first harmonic of the counting asymmetry
    divided by the step is the equatorial amplitude, and its phase is 90 deg ahead. The neglected term is relative,
    -<cos zenith> sin(latitude) delta_N.

    Parameters
    ----------
    acceptance : callable
        Relative acceptance per unit solid angle A(zenith, azimuth), angles in radians, azimuth from North through
        East; called with arrays of shapes (n, 1) and (1, n). An acceptance that depends on the zenith angle
        alone simply does not use its second argument. It must not depend on the sign of the azimuth.
    zenith_max : Quantity, angle
        Zenith cut, in (0, 90] deg.
    order : int
        Number of Gauss-Legendre nodes in each angle; more for an acceptance with a step or a cusp.

    Raises
    ------
    ValueError
        If the zenith cut is out of range, or the acceptance is negative, not finite, zero everywhere or different
        in East and West.

    Examples
    --------
    >>> round(east_west_step(lambda zenith, azimuth: 1.0, 90 * u.deg), 12)
    0.5
    """
    zenith, azimuth, measure = local_half_sky(acceptance, zenith_max, order=order)
    return float(np.sum(measure * np.sin(zenith) * np.sin(azimuth)))


def local_half_sky(
    acceptance: Acceptance, zenith_max: u.Quantity, *, order: int = 64
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return nodes of a quadrature over the eastern half of the local sky: zenith, azimuth and measure.

    Parameters
    ----------
    acceptance, zenith_max, order
        As `east_west_step`.

    Returns
    -------
    zenith : ndarray, shape (order, 1)
        In radians.
    azimuth : ndarray, shape (1, order)
        In radians, 0 to pi.
    measure : ndarray, shape (order, order)
        Acceptance times solid angle, summing to one: the sum of measure times f is the mean of f over the events of
        an isotropic sky.

    Raises
    ------
    ValueError
        As `east_west_step`.
    """
    cut = float(zenith_max.to_value(u.rad))
    if not 0.0 < cut <= np.pi / 2:
        raise ValueError(f"zenith_max {zenith_max}: expected an angle in (0, 90] deg")
    nodes, weights = leggauss(order)
    zenith = (0.5 * cut * (nodes + 1.0))[:, np.newaxis]
    azimuth = (0.5 * np.pi * (nodes + 1.0))[np.newaxis, :]
    east, west = _values(acceptance, zenith, azimuth), _values(acceptance, zenith, -azimuth)
    if not np.allclose(east, west, rtol=1e-9, atol=1e-12 * east.max()):
        worst = np.unravel_index(np.argmax(np.abs(east - west)), east.shape)
        raise ValueError(
            f"acceptance is {east[worst]:.6g} in the East and {west[worst]:.6g} in the West at zenith "
            f"{np.degrees(zenith[worst[0], 0]):.1f} deg, azimuth +-{np.degrees(azimuth[0, worst[1]]):.1f} deg: "
            "the East-West method needs A(zenith, azimuth) = A(zenith, -azimuth)"
        )
    # The Jacobian of the nodes cancels with the sum.
    measure = np.outer(weights, weights) * np.sin(zenith) * east
    return zenith, azimuth, measure / np.sum(measure)


def _values(acceptance: Acceptance, zenith: FloatArray, azimuth: FloatArray) -> FloatArray:
    shape = np.broadcast_shapes(zenith.shape, azimuth.shape)
    values = np.broadcast_to(np.asarray(acceptance(zenith, azimuth), dtype=np.float64), shape)
    if not np.all(np.isfinite(values)) or np.any(values < 0.0) or not np.any(values > 0.0):
        raise ValueError(
            f"acceptance between {values.min()} and {values.max()}: expected finite values, none negative, not all zero"
        )
    return values
