"""Sky maps of relative intensity on HEALPix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obsfit.records._checks import FloatArray, store
from obsfit.records.provenance import Provenance


@dataclass(frozen=True)
class SkyMap:
    """Relative intensity delta I on HEALPix pixels in RING order, equatorial coordinates.

    Attributes
    ----------
    delta_i : ndarray, shape (12 nside^2,)
        Relative intensity minus one; NaN where unobserved.
    provenance : Provenance
        Origin of the numbers.
    """

    delta_i: FloatArray
    provenance: Provenance

    def __post_init__(self) -> None:
        delta_i = np.array(self.delta_i, dtype=np.float64)
        nside = round(np.sqrt(delta_i.size / 12))
        if delta_i.ndim != 1 or 12 * nside**2 != delta_i.size or nside & (nside - 1) or nside == 0:
            raise ValueError(f"delta_i: shape {delta_i.shape}, expected (12 nside^2,) with nside a power of two")
        delta_i.setflags(write=False)
        store(self, delta_i=delta_i)

    @property
    def nside(self) -> int:
        """HEALPix resolution parameter."""
        return round(np.sqrt(self.delta_i.size / 12))
