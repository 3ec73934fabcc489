r"""Fit and subtraction of the low multipoles of a map, and what that does to all others.

On a cut sky multipoles are not orthogonal, so that a fit of l <= L takes a part of the higher ones with it. With the
coupling :math:`T^m` of the weight of the fit (`obsfit.sky.coupling`), split into fitted (f) and higher (h) multipoles,
the fit finds :math:`\hat a_f = a_f + T_{ff}^{-1} T_{fh} a_h`, and what is left is the sky

.. math:: a'_h = a_h, \qquad a'_f = - T_{ff}^{-1} T_{fh}\, a_h :

a residual map still has low multipoles, made of higher ones such that its pseudo-multipoles :math:`T a'` vanish for
l <= L, and its pseudo-power just above L is reduced. `subtraction_response` is that matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import sph_harm_y

from obsfit.reconstruct.multipoles import fit_multipoles, map_harmonics
from obsfit.reconstruct.ring_harmonics import complex_alm, largest_condition, multipoles
from obsfit.reconstruct.ring_means import remove_ring_means
from obsfit.records.reconstruction import MapReconstruction
from obsfit.records.sky_map import SkyMap
from obsfit.sky.ring_means import pixel_sin_dec, ring_of_pixels, subtract_ring_means

__all__ = ["SubtractedMap", "subtract_multipoles", "subtraction_response"]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class SubtractedMap:
    """A map without its low multipoles.

    Attributes
    ----------
    residual : MapReconstruction or SkyMap
        What is left, of the kind that was given.
    ell, m : ndarray of int, shape (n,)
        Degree and order of the multipoles that were fitted, 0 < m <= l <= lmax.
    alm : ndarray of complex, shape (n,)
        Their fitted values.
    """

    residual: MapReconstruction | SkyMap
    ell: NDArray[np.int64]
    m: NDArray[np.int64]
    alm: ComplexArray


def subtract_multipoles(
    sky: MapReconstruction | SkyMap, lmax: int = 3, *, weight: ArrayLike | None = None
) -> SubtractedMap:
    """Return a map less its multipoles with 0 < m <= l <= lmax, fitted by least squares in its field of view.

    a_l0 is neither fitted nor subtracted: a map without ring means has none. The functions have their ring means over
    the seen cells removed as the map has, so that incomplete rings do no harm.

    A `MapReconstruction` is fitted by `obsfit.reconstruct.multipoles.fit_multipoles`, and the fitted anisotropy goes
    into what is expected: counts stay what they are, and a significance of the residual follows. The relative intensity
    is divided by one plus the fit, which differs from a subtraction in second order.

    Parameters
    ----------
    sky : MapReconstruction or SkyMap
        The map; NaN where unseen.
    lmax : int
        Largest multipole L.
    weight : array_like, shape (12 nside^2,), optional
        Weight of the pixels of a `SkyMap` in the fit, not negative: one over their variance, say. Default: one. A
        `MapReconstruction` has its own, the expected counts.

    Raises
    ------
    ValueError
        If lmax is below one, no pixel is seen, or a weight is wrong or not wanted.
    ObsfitError
        If the multipoles cannot be told apart in the field of view.
    """
    if isinstance(sky, SkyMap):
        return _of_healpix(sky, lmax, weight)
    if weight is not None:
        raise ValueError("weight: a MapReconstruction is weighted by its expected counts; expected None")
    fit = fit_multipoles(sky, lmax)
    harmonics = map_harmonics(sky, lmax)
    fitted = 2.0 * (harmonics.ring_amplitudes(fit.alm) @ harmonics.phases()).real
    seen = np.isfinite(sky.relative_intensity)
    mean = np.where(seen, fitted, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    factor = 1.0 + np.where(seen, fitted - mean[:, np.newaxis], 0.0)
    spec = replace(
        sky.spec,
        settings={**sky.spec.settings, "subtracted_lmax": lmax},
        loss=f"{sky.spec.loss} Multipoles up to l = {lmax} are subtracted, and with them a part of those above.",
    )
    residual = replace(
        sky, relative_intensity=sky.relative_intensity / factor, expected=sky.expected * factor, spec=spec
    )
    return SubtractedMap(remove_ring_means(residual), fit.ell, fit.m, fit.alm)


def subtraction_response(coupling: FloatArray, lmax: int) -> FloatArray:
    r"""Return the multipoles of the residual for those of the sky, shape (m, l, l') as the coupling.

    The matrix :math:`a \to a'` above. What a pseudo-spectrum of the residual with the same weight shows is
    ``coupling @ response``; its rows l <= lmax vanish.

    Parameters
    ----------
    coupling : ndarray, shape (m, lmax_sky + 1, lmax_sky + 1)
        T^m of the weight of the fit, from `obsfit.sky.coupling.band_coupling` or `ring_coupling`.
    lmax : int
        Largest multipole that is subtracted.

    Raises
    ------
    ValueError
        If the coupling is not square, or does not reach beyond lmax.

    Examples
    --------
    >>> import astropy.units as u
    >>> from obsfit.sky.coupling import band_coupling
    >>> whole = band_coupling(-90 * u.deg, 90 * u.deg, 3, filtered=True)
    >>> subtraction_response(whole, 1)[1].round(6) + 0.0    # on the whole sky nothing else is touched
    array([[0., 0., 0., 0.],
           [0., 0., 0., 0.],
           [0., 0., 1., 0.],
           [0., 0., 0., 1.]])
    """
    size = coupling.shape[1]
    if coupling.ndim != 3 or coupling.shape[2] != size or not 1 <= lmax < size:
        raise ValueError(
            f"coupling of shape {coupling.shape} and lmax {lmax}: expected (m, l, l) with l up to more than lmax"
        )
    response = np.zeros_like(coupling)
    for m in range(1, coupling.shape[0]):
        rows = np.arange(m, size)
        response[m, rows, rows] = 1.0
        fitted = np.arange(m, lmax + 1)
        if fitted.size:
            block = coupling[m][np.ix_(fitted, fitted)]
            response[m][np.ix_(fitted, rows)] -= np.linalg.solve(block, coupling[m][np.ix_(fitted, rows)])
    return response


def _of_healpix(sky: SkyMap, lmax: int, weight: ArrayLike | None) -> SubtractedMap:
    seen = np.isfinite(sky.delta_i)
    weights = seen.astype(np.float64) if weight is None else np.asarray(weight, dtype=np.float64)
    if weights.shape != seen.shape or not np.all(np.isfinite(weights[seen])) or np.any(weights[seen] < 0.0):
        raise ValueError(
            f"weight of shape {weights.shape}: expected {seen.shape}, finite and not negative where the map is seen"
        )
    weights = np.where(seen, weights, 0.0)
    if not weights.any():
        raise ValueError("no pixel of the map is seen with a weight above zero")
    ell, m = multipoles(lmax)
    functions = _functions(sky.nside, lmax, seen)
    values = subtract_ring_means(sky.delta_i, seen)
    weighted = functions * weights
    normal = weighted @ functions.T
    largest_condition(normal, ell, sky.provenance.name)
    parameters: FloatArray = np.asarray(np.linalg.solve(normal, weighted @ values), dtype=np.float64)
    residual = np.where(seen, sky.delta_i - parameters @ functions, np.nan)
    return SubtractedMap(SkyMap(residual, sky.provenance), ell, m, complex_alm(parameters))


def _functions(nside: int, lmax: int, seen: NDArray[np.bool_]) -> FloatArray:
    """Real functions of (Re a, Im a) on the pixels less their ring means, shape (2 n, 12 nside^2)."""
    ell, m = multipoles(lmax)
    first = np.unique(ring_of_pixels(nside), return_index=True)[1]
    colatitude = np.arccos(pixel_sin_dec(nside)[first])
    of_ring = sph_harm_y(ell[:, np.newaxis], m[:, np.newaxis], colatitude, 0.0).real[:, ring_of_pixels(nside)]
    longitude = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))[1]
    angle = m[:, np.newaxis] * longitude
    both = np.concatenate([2.0 * of_ring * np.cos(angle), -2.0 * of_ring * np.sin(angle)])
    return np.array([subtract_ring_means(row, seen) for row in both])
