r"""What methods that look along right ascension see of all multipoles, not of a dipole alone.

Each function returns the response row of one harmonic n: the observed amplitude is expressed as the coefficient
:math:`\tilde a_{nn}` of that sky :math:`a_{nn} Y_{nn}` whose n-th harmonic on the celestial equator is the one
observed, so that

.. math:: \tilde a_{nn} = \sum_{\ell \ge n} r_\ell\, a_{\ell n},

with real :math:`r_\ell`: these methods turn with the sky, cannot tell m from m, and are mirror symmetric in right
ascension. Harmonics :math:`\lambda_{\ell m}(\delta) = Y_{\ell m}(\pi/2 - \delta, 0)` are orthonormal on the sphere.
"""

from __future__ import annotations

from itertools import pairwise

import astropy.units as u
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.sky.coupling import Weight
from obsfit.sky.east_west import Acceptance, local_half_sky

__all__ = ["east_west_row", "forward_backward_row", "right_ascension_row"]

FloatArray = NDArray[np.float64]


def right_ascension_row(
    dec_min: u.Quantity,
    dec_max: u.Quantity,
    lmax: int = 10,
    *,
    harmonic: int = 1,
    weight: Weight | None = None,
    order: int = 64,
) -> FloatArray:
    r"""Return the response of a right-ascension projection to each multipole, shape (lmax + 1,).

    The n-th harmonic of the mean over a declination band, Eq. (24) of AM17 for n = 1, is

    .. math:: \tilde A e^{i n \tilde\alpha} = \frac{1}{\pi} \int_0^{2\pi} d\alpha\, e^{i n \alpha}
              \langle I \rangle(\alpha) = 2 \sum_\ell a^*_{\ell n} \langle \lambda_{\ell n} \rangle, \qquad
              \langle x \rangle = \int w\, x\, ds \Big/ \int w\, ds, \quad s = \sin\delta,

    because :math:`\int e^{-i n \alpha} e^{i m \alpha} d\alpha = 2 \pi \delta_{mn}`. The same amplitude on the equator
    of a sky :math:`\tilde a_{nn} Y_{nn}` is :math:`2 \tilde a^*_{nn} \lambda_{nn}(0)`, so that

    .. math:: r_\ell = \langle \lambda_{\ell n} \rangle / \lambda_{nn}(0).

    The entry l = n is :math:`\langle \cos^n \delta \rangle`: for n = 1 and uniform weight Eq. (25) of AM17.

    Parameters
    ----------
    dec_min, dec_max : Quantity, angle
        Declination band.
    lmax : int
        Largest multipole.
    harmonic : int
        The harmonic n of right ascension, at least one.
    weight : callable, optional
        Weight per unit solid angle as a function of sin(declination), shape (n,) -> (n,). Default: uniform. A cusp at
        the equator costs no accuracy; one elsewhere needs a larger `order`.
    order : int
        Number of Gauss-Legendre nodes on either side of the equator.

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere, if the weight is negative, not finite or zero everywhere, or if the
        harmonic is below one or above `lmax`.

    Examples
    --------
    >>> right_ascension_row(-26 * u.deg, 64 * u.deg, 3).round(4)
    array([ 0.    ,  0.882 ,  0.3578, -0.1383])
    """
    _check_harmonic(harmonic, lmax)
    low, high = float(dec_min.to_value(u.rad)), float(dec_max.to_value(u.rad))
    if not -np.pi / 2 <= low < high <= np.pi / 2:
        raise ValueError(
            f"declination band {dec_min} to {dec_max}: expected -90 deg <= dec_min < dec_max <= 90 deg"
        )
    nodes, node_weights = leggauss(order)
    edges = [low, 0.0, high] if low < 0.0 < high else [low, high]
    halves = [(0.5 * (b - a), 0.5 * (b + a)) for a, b in pairwise(edges)]
    # Over declination, not its sine: odd harmonics are not smooth in s at the poles.
    dec = np.concatenate([half * nodes + middle for half, middle in halves])
    measure = np.concatenate([half * node_weights for half, _ in halves]) * np.cos(dec)
    if weight is not None:
        values = np.asarray(weight(np.sin(dec)), dtype=np.float64)
        if not np.all(np.isfinite(values)) or np.any(values < 0.0) or not np.any(values > 0.0):
            raise ValueError(
                f"weight between {values.min()} and {values.max()} in the band: "
                "expected finite values, none negative, not all zero"
            )
        measure = measure * values
    row = np.zeros(lmax + 1)
    ell = np.arange(harmonic, lmax + 1)
    functions = sph_harm_y(ell[:, None], harmonic, np.pi / 2 - dec, 0.0).real
    row[harmonic:] = functions @ measure / measure.sum() / _on_equator(harmonic)
    return row


def forward_backward_row(
    dec_min: u.Quantity,
    dec_max: u.Quantity,
    lmax: int = 10,
    *,
    offset: u.Quantity,
    harmonic: int = 1,
    weight: Weight | None = None,
    order: int = 64,
) -> FloatArray:
    r"""Return the response of the Forward-Backward method to each multipole, shape (lmax + 1,).

    In each declination band the method compares the sky ahead of and behind the meridian by an offset
    :math:`\xi` in right ascension. To first order

    .. math:: \frac{I(\alpha + \xi) - I(\alpha - \xi)}{I(\alpha + \xi) + I(\alpha - \xi)} =
              \sum_m i \sin(m \xi)\, c_m(\delta)\, e^{i m \alpha},

    if the band has the profile :math:`\sum_m c_m(\delta) e^{i m \alpha}`. It loses m = 0, with it the
    normalisation of the band and any exposure that depends on time alone, and each other harmonic is recovered on
    dividing by :math:`i \sin(m \xi)`. Averaged over declination with the weight w, the result is the
    right-ascension projection of the same weight: the row is that of `right_ascension_row`, whatever the offsets, also
    if several are combined. Only where :math:`\sin(m \xi) = 0` is nothing seen.

    Parameters
    ----------
    dec_min, dec_max, lmax, harmonic, weight, order
        As `right_ascension_row`.
    offset : Quantity, angle
        The offset xi.

    Raises
    ------
    ValueError
        If the method does not see the harmonic at this offset, and as `right_ascension_row`.
    """
    if abs(np.sin(harmonic * offset.to_value(u.rad))) < 1e-6:
        raise ValueError(f"offset {offset}: sin({harmonic} offset) is zero, so that harmonic {harmonic} is lost")
    return right_ascension_row(dec_min, dec_max, lmax, harmonic=harmonic, weight=weight, order=order)


def east_west_row(
    latitude: u.Quantity,
    zenith_max: u.Quantity,
    lmax: int = 10,
    *,
    acceptance: Acceptance | None = None,
    harmonic: int = 1,
    order: int = 64,
) -> FloatArray:
    r"""Return the response of the East-West method to each multipole, shape (lmax + 1,).

    A local direction with declination delta and hour angle h looks at right ascension :math:`\tau - h` at the local
    sidereal angle tau. The western half-sky is the mirror image of the eastern one under :math:`h \to -h`. Hence, to
    first order in the anisotropy,

    .. math:: \frac{N_E - N_W}{N_E + N_W}(\tau) = \sum_{\ell m} a_{\ell m} e^{i m \tau}
              \langle \lambda_{\ell m}(\delta)\, \tfrac12 (e^{-i m h} - e^{i m h}) \rangle_E
              = \sum_{\ell m} i\, a_{\ell m} e^{i m \tau}
              \langle \lambda_{\ell m}(\delta) \sin(m |h|) \rangle_E,

    with the mean over the eastern half-sky weighted by the acceptance, where h < 0. The factor i is the advance of
    the phase by 90 deg that a derivative makes. Divided by the same expression for :math:`a_{nn}`,

    .. math:: r_\ell = \frac{\langle \lambda_{\ell n} \sin(n|h|) \rangle_E}
              {\lambda_{nn}(0)\, \langle \cos^n\delta\, \sin(n|h|) \rangle_E}.

    For n = 1 the divisor :math:`\langle \cos\delta \sin|h| \rangle_E = \langle \sin\theta \sin\varphi \rangle_E`
    is the step :math:`\Delta\alpha` of Eq. (23) of AM17, by which experiments divide; it does not depend on the
    latitude. The entry l = n is one by construction, m = 0 is lost, and l > n leak.

    Parameters
    ----------
    latitude : Quantity, angle
        Geographic latitude, north positive.
    zenith_max : Quantity, angle
        Zenith cut, in (0, 90] deg.
    lmax : int
        Largest multipole.
    acceptance : callable, optional
        Relative acceptance per unit solid angle A(zenith, azimuth), as in `obsfit.sky.east_west.east_west_step`.
        Default: cos(zenith), that of a flat detector without absorption.
    harmonic : int
        The harmonic n of right ascension, at least one.
    order : int
        Number of Gauss-Legendre nodes in each angle.

    Raises
    ------
    ValueError
        As `east_west_step`; if the latitude is out of range; or if the harmonic is below one, above `lmax` or not seen.

    Examples
    --------
    >>> east_west_row(42 * u.deg, 40 * u.deg, 3).round(3)
    array([0.   , 1.   , 1.294, 0.853])
    """
    _check_harmonic(harmonic, lmax)
    if not -90.0 <= latitude.to_value(u.deg) <= 90.0:
        raise ValueError(f"latitude {latitude}: expected an angle between -90 deg and 90 deg")
    sin_latitude, cos_latitude = np.sin(latitude.to_value(u.rad)), np.cos(latitude.to_value(u.rad))
    zenith, azimuth, measure = local_half_sky(acceptance or _flat_detector, zenith_max, order=order)
    up, north, east = np.cos(zenith), np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth)
    sin_dec = sin_latitude * up + cos_latitude * north
    eastward_angle = np.arctan2(east, cos_latitude * up - sin_latitude * north)
    row = np.zeros(lmax + 1)
    for ell in range(harmonic, lmax + 1):
        harmonics = sph_harm_y(ell, harmonic, np.arccos(np.clip(sin_dec, -1.0, 1.0)), eastward_angle)
        row[ell] = np.sum(measure * harmonics.imag)
    if abs(row[harmonic]) < 1e-9:
        raise ValueError(f"harmonic {harmonic}: East and West see it alike at latitude {latitude}")
    row[harmonic:] /= row[harmonic]
    return row


def _flat_detector(zenith: FloatArray, azimuth: FloatArray) -> FloatArray:
    return np.cos(zenith) + 0.0 * azimuth


def _on_equator(harmonic: int) -> float:
    return float(sph_harm_y(harmonic, harmonic, np.pi / 2, 0.0).real)


def _check_harmonic(harmonic: int, lmax: int) -> None:
    if not 1 <= harmonic <= lmax:
        raise ValueError(f"harmonic {harmonic}: expected 1 to lmax = {lmax}; m = 0 is not seen")
