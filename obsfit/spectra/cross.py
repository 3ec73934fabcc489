"""Cross-spectra between maps of different events, as of two energies: no noise bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ObsfitError
from obsfit.records.sky_map import SkyMap
from obsfit.spectra.noise import pseudo_alm
from obsfit.spectra.windows import Weight, pixel_weight

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CrossSpectra:
    r"""Pseudo-powers between all pairs of maps.

    Attributes
    ----------
    names : tuple of str
        Names of the maps.
    ell : ndarray of int, shape (n_ell,)
        Multipoles.
    c_ell : ndarray, shape (n_map, n_map, n_ell)
        :math:`\frac{1}{2\ell+1}\sum_m \tilde a^{(1)}_{\ell m} \tilde a^{(2)*}_{\ell m}`, symmetric and real. The
        diagonal holds the pseudo-spectra of the maps, with their noise; what is off it may be negative.
    """

    names: tuple[str, ...]
    ell: NDArray[np.int64]
    c_ell: FloatArray


def cross_spectra(
    maps: Sequence[SkyMap],
    *,
    weights: Sequence[Weight | None] | None = None,
    filter_m0: bool = True,
    lmax: int = 30,
) -> CrossSpectra:
    """Return the pseudo-powers between maps, for l from 1 to lmax.

    Noise of different events is independent, and adds nothing to the mean of a cross-spectrum: neither the level of the
    noise nor its shape need be known. Maps that share events share their noise.

    Parameters
    ----------
    maps : sequence of SkyMap
        At least two, of any nside.
    weights : sequence, optional
        A weight for each map, as for `pixel_weight`. Default: one wherever each map is observed.
    filter_m0 : bool
        Whether ring means are subtracted, see `pseudo_spectrum`.
    lmax : int
        Largest multipole, at most 3 nside - 1 for the smallest nside.

    Raises
    ------
    ObsfitError
        If there are fewer than two maps, or one map is given twice.
    ValueError
        If the number of weights is not that of the maps, or lmax is out of range.
    """
    if len(maps) < 2:
        raise ObsfitError(f"{len(maps)} maps: expected at least two")
    for i, first in enumerate(maps):
        for j, second in enumerate(maps[:i]):
            if np.array_equal(first.delta_i, second.delta_i, equal_nan=True):
                raise ObsfitError(
                    f"maps {j} ({second.provenance.name}) and {i} ({first.provenance.name}) are the same",
                    expected="maps of different events",
                    remedy="Their noise is one noise; use pseudo_spectrum.",
                )
    largest = 3 * min(sky_map.nside for sky_map in maps) - 1
    if not 1 <= lmax <= largest:
        raise ValueError(f"lmax {lmax}: expected 1 to 3 nside - 1 = {largest}")
    each: list[Weight | None] = [None] * len(maps) if weights is None else list(weights)
    if len(each) != len(maps):
        raise ValueError(f"{len(each)} weights for {len(maps)} maps: expected one for each")
    alms = np.array(
        [
            pseudo_alm(sky_map.delta_i, pixel_weight(weight, sky_map), lmax, filtered=filter_m0)
            for sky_map, weight in zip(maps, each, strict=True)
        ]
    )
    both_signs = np.where(np.arange(alms.shape[1]) <= lmax, 1.0, 2.0)
    ell_of = np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])
    c_ell = np.zeros((len(maps), len(maps), lmax + 1))
    for i in range(len(maps)):
        for j in range(i + 1):
            products = both_signs * (alms[i] * alms[j].conj()).real
            c_ell[i, j] = c_ell[j, i] = np.bincount(ell_of, weights=products) / (2.0 * np.arange(lmax + 1) + 1.0)
    names = tuple(sky_map.provenance.name for sky_map in maps)
    return CrossSpectra(names, np.arange(1, lmax + 1), c_ell[:, :, 1:])


def cross_coupling(first: FloatArray, second: FloatArray) -> FloatArray:
    r"""Return M between the true and the mean pseudo cross-power of two maps with different weights.

    .. math:: M_{\ell\ell'} = \frac{1}{2\ell+1} \sum_m T^{(1)m}_{\ell\ell'} T^{(2)m}_{\ell\ell'}

    Parameters
    ----------
    first, second : ndarray, shape (m, l_out, l_in)
        T^m of the two weights, see `map_coupling`.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(
            f"couplings of shapes {first.shape} and {second.shape}: expected one shape (m, l_out, l_in)"
        )
    both_signs = np.where(np.arange(first.shape[0]) == 0, 1.0, 2.0)
    ell = np.arange(first.shape[1])[:, None]
    return np.asarray(np.einsum("m,mab,mab->ab", both_signs, first, second) / (2 * ell + 1), dtype=np.float64)
