r"""Relative motion of particles that arrive together: relative diffusion, scattering of pairs, mixing of multipoles.

Anisotropy at small angles is made by neighbouring orbits coming apart. Four measures of it:

- the relative diffusion tensor of all pairs of directions, AM17 Eq. (70), which is the power of all l >= 1;
- the relative scattering rate nu_r(x) of pairs with the cosine x = p_1 . p_2 between them (AM15; AM17 Eqs. (76), (77));
- the transfer of power from multipole l' to l (A14, Eq. (19));
- the exponential rate at which twin orbits part (Lyapunov's exponent).

Lengths in gyroradii, times in 1/Omega, as in `orbits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence.directions import real_harmonics
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import track

FloatArray = NDArray[np.float64]


def relative_diffusion(position: ArrayLike, time: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    r"""Return the relative diffusion tensor of one field, shape (n_time, 3, 3), in units of c r_L.

    .. math:: \tilde K_{ij} = \frac{1}{4T} \int\!\!\int \frac{d\hat p_1 d\hat p_2}{(4\pi)^2} \Delta r_i \Delta r_j
              = \frac{1}{2T} \left( \langle r_i r_j \rangle - \langle r_i \rangle \langle r_j \rangle \right),
              \qquad \Delta r = r_1 - r_2,

    AM17 Eq. (70): in the mean over pairs of directions the cross terms are products of means, and the covariance of the
    map r(n) over the sphere is left. The same covariance is the sum over l >= 1 of the multipoles of the map,
    :math:`\sum_{\ell \ge 1} (2 \ell + 1) C_\ell^{ij} / 4\pi`, which is AM17 Eq. (69) without any further assumption.
    Its mean over fields tends to the symmetric diffusion tensor once pairs have forgotten each other; the rest,
    <r_i><r_j>, is the monopole.

    Parameters
    ----------
    position : array_like, shape (n_time, 3, n)
        Displacements since a common start, for directions that cover the sphere.
    time : array_like, shape (n_time,)
        Above 0.
    weights : array_like, shape (n,), optional
        Solid angle of each direction. Default: equal.

    Examples
    --------
    Straight orbits: <r_i r_j> is T^2/3 on the diagonal and there is no monopole.

    >>> axes = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    >>> relative_diffusion(4.0 * axes[None], [4.0])[0].diagonal()
    array([0.66666667, 0.66666667, 0.66666667])
    """
    r = np.asarray(position, dtype=np.float64)
    t = np.asarray(time, dtype=np.float64)
    if r.ndim != 3 or r.shape[1] != 3 or t.shape != r.shape[:1] or not np.all(t > 0):
        raise ValueError(f"positions {r.shape} at times {time!r}: expected (n_time, 3, n) and times above 0")
    w = _weights(weights, r.shape[2])
    centred = r - np.einsum("tin,n->ti", r, w)[:, :, None]
    return np.asarray(np.einsum("tin,tjn,n->tij", centred, centred, w) / (2 * t[:, None, None]))


@dataclass(frozen=True)
class PairScattering:
    r"""Relative scattering of pairs that arrive at one place, against the cosine between them.

    If the cosine x of a pair changed like that of two independent walks on the sphere but with a rate nu_r(x),

    .. math:: \langle \Delta x \rangle = -2 x \nu_r T, \qquad \langle (\Delta x)^2 \rangle = 2 (1 - x^2) \nu_r T,

    to first order in T, which is the operator of AM17, Eq. (76), on functions of x. Real pairs do not: they feel one
    field at first, so that nothing happens to x before they have separated, and they separate the faster the wider
    their angle. The rate is a function of x and of T; it becomes the nu of independent walks when pairs have forgotten
    each other, and is to be quoted with T. Of the three estimates, `rate_from_cosine` is free of saturation for
    independent walks, whose <x> falls as exp(-2 nu T); the other two are its first order and hold while the change of
    x is small.

    Attributes
    ----------
    cosine : ndarray, shape (n_cosine,)
        x at the arrival.
    time : ndarray, shape (n_time,)
    drift : ndarray, shape (n_time, n_cosine)
        Mean change of x.
    square : ndarray, shape (n_time, n_cosine)
        Mean square change of x.
    """

    cosine: FloatArray
    time: FloatArray
    drift: FloatArray
    square: FloatArray

    def rate_from_cosine(self) -> FloatArray:
        """Return -ln(<x(T)> / x) / 2T, shape (n_time, n_cosine); NaN where the mean cosine has changed sign."""
        with np.errstate(divide="ignore", invalid="ignore"):
            left = 1.0 + self.drift / self.cosine
            return np.where(left > 0, -np.log(left) / (2 * self.time[:, None]), np.nan)

    def rate_from_drift(self) -> FloatArray:
        """Return nu_r from <dx>, shape (n_time, n_cosine); NaN at x = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = -self.drift / (2 * self.cosine * self.time[:, None])
        return np.where(self.cosine == 0, np.nan, rate)

    def rate_from_square(self) -> FloatArray:
        """Return nu_r from <dx^2>, shape (n_time, n_cosine)."""
        return np.asarray(self.square / (2 * (1 - self.cosine**2) * self.time[:, None]))


def pairs_with_cosine(cosine: ArrayLike, pairs: int, *, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return isotropic pairs of unit vectors, each (3, n_cosine * pairs), with given cosines between the two.

    The first `pairs` columns belong to the first cosine, and so on.
    """
    x = np.repeat(np.asarray(cosine, dtype=np.float64).ravel(), pairs)
    if not np.all(np.abs(x) < 1):
        raise ValueError(f"cosines {cosine!r}: expected values between -1 and 1, without the ends")
    first, second = rng.normal(size=(2, 3, x.size))
    first = first / np.linalg.norm(first, axis=0)
    second = second - np.sum(first * second, axis=0) * first
    second = second / np.linalg.norm(second, axis=0)
    return first, x * first + np.sqrt(1 - x**2) * second


def pair_scattering(
    field: MagneticField,
    cosine: ArrayLike,
    times: ArrayLike,
    *,
    gyroradius: float,
    pairs: int,
    places: int = 1,
    extent: float = 0.0,
    step: float | None = None,
    rng: np.random.Generator,
) -> PairScattering:
    """Return how the cosine between two particles that meet at one place changes along their orbits, in one field.

    Parameters
    ----------
    field : MagneticField
    cosine : array_like, shape (n_cosine,)
        Between -1 and 1, without the ends.
    times : array_like, shape (n_time,)
        In 1/Omega, above 0.
    gyroradius : float
        r_L in a field of unit strength, in the unit of length of the field.
    pairs : int
        Pairs of directions for each cosine and place.
    places : int
        Places of meeting.
    extent : float
        Side of the cube from which the places are drawn, in gyroradii; 0 for the origin.
    step : float, optional
        As in `orbits.track`.
    rng : numpy.random.Generator
        Source of directions and places.
    """
    x = np.asarray(cosine, dtype=np.float64)
    first, second = pairs_with_cosine(x, pairs * places, rng=rng)
    place = np.tile(rng.uniform(0.0, extent, size=(3, places)), (1, x.size * pairs))
    # The motion in time and the motion against it have the same statistics: a reversed orbit is that of the opposite
    # charge, and the ensemble of fields holds -B as often as B.
    one, other = (
        track(field, part, times, gyroradius=gyroradius, position=place, step=step) for part in (first, second)
    )
    change = np.sum(one.momentum * other.momentum, axis=1) - np.repeat(x, pairs * places)
    change = change.reshape(change.shape[0], x.size, pairs * places)
    return PairScattering(x, one.time, change.mean(axis=2), (change**2).mean(axis=2))


def fit_exponent(cosine: ArrayLike, rate: ArrayLike, error: ArrayLike) -> tuple[float, float, float]:
    r"""Return p, its error and chi-square per degree of freedom of :math:`\nu_r = \nu_0 (1 - x)^p` (AM15).

    Weighted least squares of the logarithms. The error is that of the weights times the root of chi-square per degree
    of freedom where that is above 1: a power law that does not hold has no small error.

    Examples
    --------
    >>> x = np.array([-0.5, 0.5, 0.9, 0.99])
    >>> p, error, chi_square = fit_exponent(x, 0.2 * np.sqrt(1 - x), 0.01 * np.sqrt(1 - x))
    >>> round(p, 12), round(chi_square, 12)
    (0.5, 0.0)
    """
    x, y, dy = (np.asarray(part, dtype=np.float64) for part in (cosine, rate, error))
    if not (x.shape == y.shape == dy.shape) or x.size < 3 or not np.all(y > 0) or not np.all(dy > 0):
        raise ValueError("rates: expected at least three, positive, with positive errors")
    weight = y / dy
    design = np.stack([np.ones_like(x), np.log1p(-x)], axis=1)
    solution, *_ = np.linalg.lstsq(design * weight[:, None], np.log(y) * weight, rcond=None)
    covariance = np.linalg.inv(design.T @ (design * weight[:, None] ** 2))
    chi_square = float(np.sum(((np.log(y) - design @ solution) * weight) ** 2) / (x.size - 2))
    return float(solution[1]), float(np.sqrt(covariance[1, 1] * max(chi_square, 1.0))), chi_square


def power_transfer(
    arrival: ArrayLike, before: ArrayLike, lmax: int, weights: ArrayLike | None = None
) -> FloatArray:
    r"""Return the matrix that carries the power of a homogeneous sky through one field, shape (lmax + 1, lmax + 1).

    A sky that depends on direction alone becomes, by Liouville's theorem, :math:`f(n) = \tilde f(n(-T; n))`. Of
    isotropic random skies with power :math:`\tilde C_{\ell'}` the mean power at :math:`\ell` is, with :math:`y_\ell =
    (2 \ell + 1) C_\ell` the power of all m,

    .. math:: y_\ell(T) = \sum_{\ell'} W_{\ell \ell'} \tilde y_{\ell'}, \qquad
              W_{\ell \ell'} = \frac{1}{2 \ell' + 1} \sum_{m m'} |A_{\ell m, \ell' m'}|^2
              = \frac{2 \ell + 1}{(4 \pi)^2} \int\!\!\int dn_1 dn_2\,
              P_\ell(n_1 \cdot n_2) P_{\ell'}(n_1(-T) \cdot n_2(-T)),

    where A takes the old a_lm to the new. Each column sums to 1 over all l: with equal power in the 2 l' + 1 harmonics
    of one l', whatever the field does, the mean square of the sky is the same in every direction. That is the
    conservation of A14, Eqs. (11) to (13), and it holds here for one field; for a start with a fixed direction (a
    dipole along z, say) it holds only in the mean over fields. Rows have no such sum: where directions are pressed
    together, old structure at small angles comes up at large ones. Power that has gone beyond `lmax` is missing.

    Parameters
    ----------
    arrival : array_like, shape (3, n)
        Unit vectors of directions of arrival that cover the sphere, n well above (lmax + 1)^2.
    before : array_like, shape (3, n)
        Directions, in the same sense, at time -T: minus `Orbits.momentum` of `orbits.back_track`.
    lmax : int
    weights : array_like, shape (n,), optional
        Solid angle of each direction. Default: equal.

    Returns
    -------
    ndarray
        W[l, l'], from l' to l.
    """
    first, last = np.asarray(arrival, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if first.ndim != 2 or first.shape[0] != 3 or first.shape != last.shape:
        raise ValueError(f"directions {first.shape} and {last.shape}: expected equal shapes (3, n)")
    now, then = real_harmonics(first, lmax), real_harmonics(last, lmax)
    w = 4 * np.pi * _weights(weights, now.shape[0])
    square = (now.T @ (then * w[:, None])) ** 2
    # Of each l there are its m >= 0, then its m > 0 again.
    ell, m = hp.Alm.getlm(lmax)
    of_degree = np.arange(lmax + 1)[:, None] == np.concatenate([ell, ell[m > 0]])
    return np.asarray(of_degree @ square @ of_degree.T / (2 * np.arange(lmax + 1) + 1))


def transition_rates(transfer: ArrayLike, time: float) -> FloatArray:
    r"""Return rates nu_{l' -> l} of A14, Eq. (19), in [l, l'], from a transfer of power in a short time.

    .. math:: \nu_{\ell' \to \ell} = W_{\ell \ell'} / T \quad (\ell \ne \ell'), \qquad
              -\nu_{\ell'} = (W_{\ell' \ell'} - 1) / T.

    First order in T, for times after the pairs of one place have separated. Before that all momenta turn alike, and no
    power moves; neighbours part as T^2, so that W between neighbouring l grows as T^4, and the rates as T^3.
    """
    w = np.asarray(transfer, dtype=np.float64)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or not time > 0:
        raise ValueError(f"transfer {w.shape} in time {time}: expected a square matrix and a positive time")
    return np.asarray((w - np.eye(w.shape[0])) / time)


def lyapunov_exponents(
    field: MagneticField,
    start: ArrayLike,
    *,
    gyroradius: float,
    renormalisations: int,
    interval: float = 1.0,
    separation: float = 1e-5,
    position: ArrayLike | None = None,
    step: float | None = None,
    rng: np.random.Generator,
) -> FloatArray:
    r"""Return finite-time Lyapunov exponents, shape (renormalisations, n), in units of Omega.

    Twin orbits start `separation` apart in phase space, :math:`|\delta r|^2 + |\delta p|^2` with r in gyroradii and
    the unit vector p, are followed for `interval`, and their distance is set back to `separation` along the line
    between them (the method of Benettin). The exponent after time t is the sum of the logarithms of the growth over t;
    the first intervals still turn towards the direction that grows fastest.

    Parameters
    ----------
    field : MagneticField
    start : array_like, shape (3, n)
        Unit vectors of the directions of motion.
    gyroradius : float
    renormalisations : int
        Number of intervals.
    interval : float
        In 1/Omega; the growth within one is to stay small beside the structure of the field.
    separation : float
        Above 1e-6, so that the rounding of the field sums (7e-9) does not part the twins.
    position : array_like, shape (3, n), optional
        In gyroradii. Default: the origin.
    step : float, optional
        As in `orbits.track`.
    rng : numpy.random.Generator
        Source of the first separations.
    """
    if not (interval > 0 and renormalisations >= 1):
        raise ValueError(f"{renormalisations} intervals of {interval}: expected at least one, positive")
    if not 1e-6 <= separation <= 1e-2:
        raise ValueError(f"separation {separation}: expected 1e-6 to 1e-2; the field sums are good to 7e-9")
    p = np.array(start, dtype=np.float64)
    r = np.array(np.broadcast_to(np.zeros((3, 1)) if position is None else position, p.shape), dtype=np.float64)
    apart = rng.normal(size=(6, p.shape[1]))
    # The momentum keeps its size: its difference is perpendicular to it.
    apart[3:] -= np.sum(apart[3:] * p, axis=0) * p
    grown = np.zeros((renormalisations, p.shape[1]))
    for count in range(renormalisations):
        apart *= separation / np.linalg.norm(apart, axis=0)
        twin = p + apart[3:]
        twin /= np.linalg.norm(twin, axis=0)
        distance = np.sqrt(np.sum(apart[:3] ** 2, axis=0) + np.sum((twin - p) ** 2, axis=0))
        orbits = track(
            field, np.concatenate([p, twin], axis=1), [interval], gyroradius=gyroradius,
            position=np.concatenate([r, r + apart[:3]], axis=1), step=step,
        )  # fmt: skip
        (r, r_twin), (p, p_twin) = (np.split(part[0], 2, axis=1) for part in (orbits.position, orbits.momentum))
        apart = np.concatenate([r_twin - r, p_twin - p])
        grown[count] = np.log(np.linalg.norm(apart, axis=0) / distance)
    return np.asarray(np.cumsum(grown, axis=0) / (interval * np.arange(1, renormalisations + 1)[:, None]))


def _weights(weights: ArrayLike | None, n: int) -> FloatArray:
    """Return weights of directions that sum to 1."""
    if weights is None:
        return np.full(n, 1 / n)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or np.any(w < 0) or not w.sum() > 0:
        raise ValueError(f"weights of shape {w.shape}: expected {n} that are not negative")
    return np.asarray(w / w.sum())
