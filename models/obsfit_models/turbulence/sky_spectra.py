r"""Power spectra of ensembles of displacement skies: without shot noise, with honest errors, and their sum rules.

A product of two estimates whose noise is independent has no noise in its mean. Products between two sets of directions
of one field give the power of the sky of that field without shot noise; products between two fields give the power of
the mean sky, the standard dipole of diffusion, without the scatter of single fields. Both are `pair_power`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence.directions import degree_sums, real_harmonics
from obsfit_models.turbulence.displacement import DisplacementEnsemble, DisplacementSky, cross_power

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Sky = DisplacementSky | DisplacementEnsemble

SETS = -5
"""Axis of the sets of directions in `DisplacementSky.alm` and `DisplacementEnsemble.alm`."""


def pair_power(alm: ComplexArray, other: ComplexArray | None = None, *, axis: int) -> FloatArray:
    r"""Return C_l from products of different copies only, shape (..., lmax + 1) without the axis of copies.

    .. math:: \hat C_\ell = \frac{1}{n(n-1)} \sum_{a \neq b} \frac{1}{2\ell+1} \sum_m a^{(a)}_{\ell m} b^{(b)*}_{\ell m}

    Its mean is the power of what the copies have in common, whatever their independent noise; it may be negative.

    Parameters
    ----------
    alm : ndarray of complex, shape (..., n_alm)
        Copies along `axis`.
    other : ndarray of complex, optional
        Second map, of a shape that broadcasts, copy by copy with the same noise. Default: the first.
    axis : int
        Axis of the copies: sets of directions, or fields.

    Raises
    ------
    ValueError
        If there are fewer than two copies.
    """
    first, second = _moved(alm, axis), _moved(alm if other is None else other, axis)
    copies = first.shape[0]
    if copies < 2 or second.shape[0] != copies:
        raise ValueError(f"{copies} and {second.shape[0]} copies: expected at least two, and as many of both")
    same = _same_power(first, second)
    total = cross_power(first.sum(axis=0), second.sum(axis=0))
    return np.asarray((total - copies * same) / (copies * (copies - 1)))


def same_power(alm: ComplexArray, other: ComplexArray | None = None, *, axis: int) -> FloatArray:
    """Return C_l from products of each copy with itself, with the noise in it, averaged; as `pair_power`."""
    return _same_power(_moved(alm, axis), _moved(alm if other is None else other, axis))


def component_power(sky: Sky) -> FloatArray:
    """Return the cross power of all pairs of components, shape (..., n_gyroradius, n_stop, 6, 6, lmax + 1).

    Between different sets of directions, hence without shot noise; with one set only, that set with itself.
    """
    return _between_components(pair_power if sky.alm.shape[SETS] > 1 else same_power, sky.alm)


def rigidity_power(alm: ComplexArray) -> FloatArray:
    """Return C_l between all pairs of rigidities of a sky, shape (..., n_gyroradius, n_gyroradius, lmax + 1).

    Parameters
    ----------
    alm : ndarray of complex, shape (..., n_set, n_gyroradius, n_alm)
        An anisotropy of one field at several rigidities. Between sets of directions, with itself if there is one.
    """
    power = pair_power if alm.shape[-3] > 1 else same_power
    return power(alm[..., :, None, :], alm[..., None, :, :], axis=-4)


def measured_shot_noise(sky: Sky) -> FloatArray:
    """Return the shot noise in C_l, the power of the sets less that between them, shape as `component_power`.

    Raises
    ------
    ValueError
        If there is one set of directions only.
    """
    return _between_components(same_power, sky.alm) - _between_components(pair_power, sky.alm)


def pixel_shot_noise(sky: Sky) -> FloatArray:
    r"""Return the shot noise of C_l from what l <= lmax leave of the variance, (..., n_gyroradius, n_stop, 6, 6).

    .. math:: N = \frac{4\pi}{N_{pix}} \Big[\langle x_i x_j \rangle
                  - \frac{1}{4\pi} \sum_{\ell=0}^{\ell_{max}} (2\ell+1)(\hat C_\ell - N)\Big],

    the power of white noise that explains the rest. Where power between lmax and the pixels is left, this is an upper
    bound: directions spread one to a pixel average it away in part.
    """
    auto = _between_components(same_power, sky.alm)
    lmax = sky.lmax
    resolved = auto @ (2.0 * np.arange(lmax + 1) + 1.0) / (4 * np.pi)
    lost = 0.0 if sky.missing is None else np.mean(sky.missing, axis=-3)[..., None, None]
    number = sky.directions - lost
    return np.asarray(4 * np.pi * (sky.product.mean(axis=SETS) - resolved) / (number - (lmax + 1) ** 2))


def diffusive_shot_noise(directions: int, time: ArrayLike, tensor: ArrayLike, gradient: ArrayLike) -> FloatArray:
    r"""Return :math:`(4\pi/N_{pix})\, 2T K_{ij} \partial_i n \partial_j n / n^2`, shape of `time`: Eq. (71) of AM17.

    An upper bound of the shot noise, reached when neighbouring directions have nothing in common any more. Before
    that most of the variance is in resolved multipoles, and subtracting this makes power negative.

    Parameters
    ----------
    directions : int
        Number of directions.
    time : array_like
        Time of back-tracking.
    tensor : array_like, shape (3, 3)
        Diffusion tensor over c, in units that fit the time and the gradient.
    gradient : array_like, shape (3,)
        Gradient of the logarithm of the density.
    """
    slope, k = np.asarray(gradient, dtype=np.float64), np.asarray(tensor, dtype=np.float64)
    return np.asarray(8 * np.pi / directions * np.asarray(time, dtype=np.float64) * (slope @ k @ slope))


def diffusion_of_skies(sky: Sky) -> tuple[FloatArray, FloatArray]:
    r"""Return running coefficients of diffusion and of relative diffusion, two (..., n_gyroradius, n_stop, 3, 3).

    .. math:: K_{ij}(T) = \frac{\langle r_i r_j \rangle}{2T}, \qquad
              \tilde K_{ij}(T) = \frac{\langle \Delta r_i \Delta r_j \rangle}{4T}
              = \frac{\langle r_i r_j \rangle - \langle r_i \rangle \langle r_j \rangle}{2T}

    with means over directions, Eqs. (69) and (70) of AM17: 2 T K is the sum of (2 l + 1) C_l / 4 pi over all l, and
    2 T K~ that over l >= 1. Over c and in gyroradii. With several sets of directions, the product of means is that
    of different sets.

    Raises
    ------
    ValueError
        If the stops are no times, or a time is 0.
    """
    if sky.stopped_by != "time" or np.any(sky.stop <= 0):
        raise ValueError(f"stops {sky.stop} by {sky.stopped_by}: expected times above 0")
    square = sky.product.mean(axis=SETS)[..., :3, :3]
    monopole = _between_components(
        pair_power if sky.alm.shape[SETS] > 1 else same_power, sky.alm[..., :3, :1]
    )[..., 0] / (4 * np.pi)  # fmt: skip
    twice = 2 * sky.stop[:, None, None]
    return square / twice, (square - monopole) / twice


def axial_power(alm: ComplexArray, axis: ArrayLike, *, sets: int) -> FloatArray:
    r"""Return the part of C_l that is symmetric about an axis, m = 0 there, shape (..., lmax + 1) without the sets.

    .. math:: \frac{a_{\ell 0}^{\prime\,2}}{2\ell+1}, \qquad
              a^\prime_{\ell 0} = \sqrt{\frac{4\pi}{2\ell+1}} \sum_m a_{\ell m} Y_{\ell m}(\hat b)

    Over `pair_power` it is the gyrotropic share of the power: 1 for a sky that is symmetric about the axis,
    1/(2 l + 1) on average for one that does not know it.

    Parameters
    ----------
    alm : ndarray of complex, shape (..., n_alm)
        With two or more sets of directions along the axis `sets`.
    axis : array_like, shape (..., 3)
        Directions of any length, broadcast against the axes of `alm` that are left without sets and a_lm.
    sets : int
        Axis of the sets in `alm`.
    """
    unit = np.asarray(axis, dtype=np.float64)
    size = np.linalg.norm(unit, axis=-1, keepdims=True)
    if unit.shape[-1] != 3 or not np.all(size > 0):
        raise ValueError(f"axis {axis!r}: expected directions (..., 3)")
    lmax = int(hp.Alm.getlmax(alm.shape[-1]))
    ell, m = hp.Alm.getlm(lmax)
    flat = real_harmonics(np.reshape(unit / size, (-1, 3)).T, lmax)
    # Coefficients of the real basis are norm times real and imaginary parts: sum a_lm Y_lm is their product.
    norm = np.where(m == 0, 1.0, np.sqrt(2.0))
    imaginary = np.zeros((flat.shape[0], m.size))
    imaginary[:, m > 0] = flat[:, m.size :]
    harmonics = (norm * (flat[:, : m.size] - 1j * imaginary)).reshape(*unit.shape[:-1], m.size)
    values = np.real(_moved(alm, sets) * harmonics) * np.sqrt(4 * np.pi / (2 * ell + 1))
    along = degree_sums(values)
    copies = along.shape[0]
    if copies < 2:
        raise ValueError(f"{copies} set of directions: expected at least two")
    pairs = along.sum(axis=0) ** 2 - (along**2).sum(axis=0)
    return np.asarray(pairs / (copies * (copies - 1)) / (2 * np.arange(lmax + 1) + 1))


@dataclass(frozen=True)
class FieldAverage:
    """Statistics of a quantity over fields.

    Attributes
    ----------
    mean, error : ndarray
        Mean over the fields, and its standard error.
    log_scatter : ndarray
        Standard deviation of the natural logarithm between fields; NaN where a value is not positive.
    """

    mean: FloatArray
    error: FloatArray
    log_scatter: FloatArray


def field_average(values: FloatArray) -> FieldAverage:
    """Return mean, standard error and logarithmic scatter over the first axis.

    Raises
    ------
    ValueError
        If there are fewer than two fields.
    """
    fields = _number_of_fields(values)
    positive = np.all(values > 0, axis=0)
    scatter = np.log(np.where(positive, values, 1.0)).std(axis=0, ddof=1)
    return FieldAverage(
        values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(fields), np.where(positive, scatter, np.nan)
    )


def jackknife(values: FloatArray, statistic: Callable[[FloatArray], FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return a function of the mean over fields (first axis), and its standard error by leaving out each field once.

    Raises
    ------
    ValueError
        If there are fewer than two fields.
    """
    fields = _number_of_fields(values)
    total = values.sum(axis=0)
    left = np.array([statistic((total - value) / (fields - 1)) for value in values])
    return statistic(total / fields), _jackknife_error(left)


def power_ratio(power: FloatArray, *, reference: int = 1) -> tuple[FloatArray, FloatArray]:
    """Return mean C_l over mean C of the reference multipole, and its jackknife error, both (..., lmax + 1).

    A ratio of means: a mean of ratios weighs fields of small dipole too much.

    Parameters
    ----------
    power : ndarray, shape (n_real, ..., lmax + 1)
        C_l of each field.
    reference : int
        Multipole to divide by.
    """
    return jackknife(power, lambda mean: np.asarray(mean / mean[..., reference, None]))


def axial_share(alm: ComplexArray, axis: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the gyrotropic share of the mean power at each l, and its jackknife error, both (..., lmax + 1).

    Parameters
    ----------
    alm : ndarray of complex, shape (n_real, n_set, ..., n_alm)
        With at least two sets of directions.
    axis : array_like, shape (3,) or (n_real, ..., 3)
        Axis of symmetry, the same or one for each field.
    """
    both = np.stack([axial_power(alm, axis, sets=1), pair_power(alm, axis=1)], axis=1)
    return jackknife(both, lambda mean: np.asarray(mean[0] / mean[1]))


def standard_power(alm: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """Return the power of the mean sky of all fields, and its jackknife error, both (..., lmax + 1).

    From products between different fields, never from the mean map alone: its power is too large by that of one
    field over the number of fields, which can exceed the dipole of standard diffusion. The error is on the safe
    side: right where the mean sky dominates, too large by sqrt(2) where there is none.

    Parameters
    ----------
    alm : ndarray of complex, shape (n_real, ..., n_alm)
        Skies of the fields; averaged over sets of directions before.

    Raises
    ------
    ValueError
        If there are fewer than three fields.
    """
    fields = alm.shape[0]
    if fields < 3:
        raise ValueError(f"{fields} fields: expected at least three")
    total, own = alm.sum(axis=0), cross_power(alm, alm)
    together = own.sum(axis=0)
    estimate = (cross_power(total, total) - together) / (fields * (fields - 1))
    rest = total - alm
    left = (cross_power(rest, rest) - (together - own)) / ((fields - 1) * (fields - 2))
    return estimate, _jackknife_error(left)


def standard_component_power(ensemble: DisplacementEnsemble) -> tuple[FloatArray, FloatArray]:
    """Return `standard_power` of each component and its error, both (n_gyroradius, n_stop, 6, lmax + 1)."""
    return standard_power(ensemble.alm.mean(axis=SETS))


def _moved(alm: ComplexArray, axis: int) -> ComplexArray:
    """Return copies as the first axis; the last axis, of the a_lm, is no axis of copies."""
    if axis % alm.ndim == alm.ndim - 1:
        raise ValueError(f"axis {axis}: that is the axis of the a_lm")
    return np.moveaxis(alm, axis, 0)


def _same_power(first: ComplexArray, second: ComplexArray) -> FloatArray:
    return np.asarray(np.mean([cross_power(a, b) for a, b in zip(first, second, strict=True)], axis=0))


def _between_components(power: Callable[..., FloatArray], alm: ComplexArray) -> FloatArray:
    """Return power of all pairs of components, (..., n_gyroradius, n_stop, n, n, lmax + 1), one row at a time."""
    rows = [power(alm[..., i : i + 1, :], alm, axis=SETS) for i in range(alm.shape[-2])]
    return np.stack(rows, axis=-3)


def _number_of_fields(values: FloatArray) -> int:
    if values.ndim < 1 or values.shape[0] < 2:
        raise ValueError(f"values: shape {values.shape}, expected at least two fields on the first axis")
    return int(values.shape[0])


def _jackknife_error(left: FloatArray) -> FloatArray:
    """Return the standard error from values that leave out one field each (first axis)."""
    fields = left.shape[0]
    return np.asarray(np.sqrt((fields - 1) * np.mean((left - left.mean(axis=0)) ** 2, axis=0)))
