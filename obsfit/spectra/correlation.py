"""The two-point correlation function of a cut sky: over pairs of pixels, and from pseudo-powers."""

from __future__ import annotations

from dataclasses import dataclass

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.records.sky_map import SkyMap
from obsfit.sky.harmonics import alm_power, correlation_function
from obsfit.sky.ring_means import subtract_ring_means
from obsfit.spectra.noise import pseudo_alm
from obsfit.spectra.windows import Weight, pixel_weight

FloatArray = NDArray[np.float64]

LARGEST_PAIRS = 2e9
_BLOCK = 256
"""Pixels whose pairs with all others are held at a time."""
_FEW_PAIRS = 1e-9
"""Below this part of the largest, the correlation of the weights is rounding: there are no such pairs."""


@dataclass(frozen=True)
class PairCorrelation:
    """Correlation function in bins of separation.

    Attributes
    ----------
    separation_rad : ndarray, shape (n_bin,)
        Mean separation of the pairs of each bin.
    correlation : ndarray, shape (n_bin,)
        Mean product of relative intensity, NaN in bins without pairs.
    pairs : ndarray, shape (n_bin,)
        Number of pairs with weight.
    """

    separation_rad: FloatArray
    correlation: FloatArray
    pairs: FloatArray


def pair_correlation(
    sky_map: SkyMap, *, edges: u.Quantity, weight: Weight | None = None, filter_m0: bool = True
) -> PairCorrelation:
    r"""Return the correlation function of a map by a sum over all pairs of different pixels.

    .. math:: \xi(\eta) = \frac{\sum_{i<j} w_i w_j\, \delta I_i\, \delta I_j}{\sum_{i<j} w_i w_j},
              \qquad \mathbf n_i \cdot \mathbf n_j \in \text{bin of } \cos\eta

    Eq. (9) of A14 on a cut sky. A pixel is not paired with itself, so that shot noise adds nothing but for what the
    filter correlates: the removal of ring means takes :math:`1/n` of the variance of each pixel from the product of any
    two of the n pixels of a ring.

    Parameters
    ----------
    sky_map : SkyMap
        Relative intensity minus one, NaN where unobserved.
    edges : Quantity, angle, shape (n_bin + 1,)
        Increasing limits of the separations, within 0 to 180 deg.
    weight : callable, array_like or None
        As for `pixel_weight`.
    filter_m0 : bool
        Whether ring means are subtracted first, see `pseudo_spectrum`.

    Raises
    ------
    ConfigurationError
        If there are more than 2e9 pairs: the cost grows as nside^4. Lower nside.
    ValueError
        If the edges do not increase or leave 0 to 180 deg.
    """
    limits = np.asarray(edges.to_value(u.rad), dtype=np.float64)
    if limits.ndim != 1 or limits.size < 2 or np.any(np.diff(limits) <= 0) or limits[0] < 0 or limits[-1] > np.pi:
        raise ValueError(f"edges {edges}: expected increasing angles between 0 and 180 deg")
    w = pixel_weight(weight, sky_map)
    held = np.flatnonzero(w > 0.0)
    if 0.5 * held.size**2 > LARGEST_PAIRS:
        raise ConfigurationError(
            f"{0.5 * held.size**2:.2g} pairs of pixels",
            expected=f"at most {LARGEST_PAIRS:.2g}",
            remedy="Degrade the map, or use pseudo_correlation, which needs no pairs.",
        )
    sky = np.where(w > 0.0, sky_map.delta_i, 0.0)
    sky = (subtract_ring_means(sky, w > 0.0) if filter_m0 else sky)[held]
    w = w[held]
    vectors = np.array(hp.pix2vec(sky_map.nside, held)).T
    # Half the squared chord keeps small separations, which a cosine rounds away.
    bounds = 2.0 * np.sin(0.5 * limits) ** 2
    n_bin = limits.size - 1
    sums = np.zeros((4, n_bin + 2))
    for start in range(0, held.size, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, held.size))
        versine = np.clip(1.0 - vectors[rows] @ vectors[start:].T, 0.0, 2.0)
        later = np.arange(start, held.size)[None, :] > rows[:, None]
        separation = versine[later]
        place = np.searchsorted(bounds, separation, side="right")
        # Antipodes belong to a last bin that ends at 180 deg.
        place[separation == bounds[-1]] = n_bin
        weights = (w[rows, None] * w[None, start:])[later]
        products = weights * (sky[rows, None] * sky[None, start:])[later]
        angle = np.arccos(np.clip(1.0 - separation, -1.0, 1.0))
        for row, values in enumerate((weights, products, weights * angle, None)):
            sums[row] += np.bincount(place, weights=values, minlength=n_bin + 2)
    total, product, angle_sum, pairs = sums[:, 1:-1]
    empty = np.full(n_bin, np.nan)
    return PairCorrelation(
        np.divide(angle_sum, total, out=0.5 * (limits[1:] + limits[:-1]), where=total > 0.0),
        np.divide(product, total, out=empty, where=total > 0.0),
        pairs,
    )


def pseudo_correlation(
    sky_map: SkyMap,
    *,
    separation: u.Quantity,
    weight: Weight | None = None,
    filter_m0: bool = True,
    lmax: int | None = None,
) -> FloatArray:
    r"""Return the correlation function of a cut sky at given separations, from its pseudo-powers.

    .. math:: \xi(\eta) = \frac{\sum_\ell (2\ell+1)\, \tilde C_\ell\, P_\ell(\cos\eta)}
                               {\sum_\ell (2\ell+1)\, \tilde W_\ell\, P_\ell(\cos\eta)}

    with the powers of the weighted map and of the weight itself (Szapudi et al. 2001): what `pair_correlation` sums
    over pairs, but with the pairs of a pixel with itself, whose noise appears at separations of a few pixels, and
    without scales below lmax.

    Parameters
    ----------
    sky_map, weight, filter_m0
        As for `pair_correlation`.
    separation : Quantity, angle, shape (n,)
        Separations.
    lmax : int, optional
        Largest multipole. Default: 3 nside - 1.

    Returns
    -------
    ndarray, shape (n,)
        NaN where the field of view has no pairs so far apart.
    """
    lmax = 3 * sky_map.nside - 1 if lmax is None else lmax
    w = pixel_weight(weight, sky_map)
    of_map = alm_power(pseudo_alm(sky_map.delta_i, w, lmax, filtered=filter_m0))
    of_weight = alm_power(pseudo_alm(np.ones(w.size), w, lmax, filtered=False))
    top = correlation_function(of_map, separation)
    bottom = correlation_function(of_weight, separation)
    largest = float(correlation_function(of_weight, np.array([0.0]) * u.rad)[0])
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > _FEW_PAIRS * largest)
