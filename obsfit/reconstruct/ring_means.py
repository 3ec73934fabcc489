"""The filter a_l0 = 0 on reconstructed maps, by exact means of rings: on rings of our own and on HEALPix."""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from obsfit.records.reconstruction import MapReconstruction
from obsfit.records.sky_map import SkyMap
from obsfit.sky.ring_means import subtract_ring_means

__all__ = ["remove_ring_means"]

FloatArray = NDArray[np.float64]


@overload
def remove_ring_means(sky: MapReconstruction) -> MapReconstruction: ...
@overload
def remove_ring_means(sky: SkyMap) -> SkyMap: ...
def remove_ring_means(sky: MapReconstruction | SkyMap) -> MapReconstruction | SkyMap:
    r"""Return the map with :math:`\int d\alpha\, \delta I = 0` in each ring; Eqs. (13) and (16) of AM17.

    Every seen cell of a ring counts alike: then the filter is a projection, and no m != 0 moves on a complete ring.
    On rings of a `MapReconstruction` the intensity is divided by the mean and the background multiplied by it, so that
    counts stay what they are; on HEALPix the mean is subtracted.

    Parameters
    ----------
    sky : MapReconstruction or SkyMap
        The map; cells that are NaN are unseen and stay so.

    Notes
    -----
    A ring of q pixels cannot tell m = q, 2q, ... from m = 0. On HEALPix these go with it in the polar rings, which
    have 4, 8, 12, ... pixels.
    """
    if isinstance(sky, SkyMap):
        seen = np.isfinite(sky.delta_i)
        filtered = np.where(seen, subtract_ring_means(sky.delta_i, seen), np.nan)
        return SkyMap(filtered, sky.provenance)
    mean = 1.0 + _row_means(sky.relative_intensity - 1.0)[:, np.newaxis]
    return replace(
        sky,
        relative_intensity=sky.relative_intensity / mean,
        expected=sky.expected * mean,
        spec=replace(sky.spec, filtered=True),
    )


def _row_means(values: FloatArray) -> FloatArray:
    """Mean over the finite values of each ring, zero where there are none."""
    seen = np.isfinite(values)
    return np.where(seen, values, 0.0).sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)
