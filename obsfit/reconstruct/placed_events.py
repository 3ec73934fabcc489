"""Events that are known by their sky cell alone, placed on HEALPix pixels: true counts for significances."""

from __future__ import annotations

import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct.healpix_output import MINIMUM_EXPOSURE, calibrated_on_rings
from obsfit.records.count_map import CountMap
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import MapReconstruction

FloatArray = NDArray[np.float64]

__all__ = ["placed_map"]

_PARTS_DEC, _PARTS_RA = 4, 8
"""A sky cell, two bins wide in right ascension and one band high, is cut into so many parts."""


def placed_map(
    reconstruction: MapReconstruction,
    nside: int,
    *,
    rng: np.random.Generator,
    minimum_exposure: float = MINIMUM_EXPOSURE,
) -> CountMap:
    r"""Return the events of a map on rings as counts on HEALPix pixels, each placed at random inside its cell.

    An event map keeps no directions, only cells. Of an event of sky cell k, the difference of a time bin and an
    hour-angle cell, the right ascension is distributed as a triangle of half width :math:`2\pi/T` about the centre
    of the cell; in declination it is taken as uniform in solid angle within the band. Whole events are moved, so that
    independent Poisson counts of cells become independent Poisson counts of pixels, and what is expected is moved in
    the same shares: nothing is made by pixels that straddle cells. Structures are smeared by the width of a cell once
    more, in right ascension by :math:`\mathrm{sinc}^2(m/T)`.

    With the directions of the events at hand, `obsfit.reconstruct.healpix_output.counted_map` needs no such draw.

    Parameters
    ----------
    reconstruction : MapReconstruction
        Any map on rings of events without weights.
    nside : int
        Resolution, of pixels about as wide as the cells or wider.
    rng : numpy.random.Generator
        Source of the places.
    minimum_exposure : float
        Pixels whose exposure is below this part of its peak are left unobserved.

    Raises
    ------
    ObsfitError
        If counts are not whole numbers: sums of weights are not events.
    ConfigurationError
        If nside is not a power of two.
    """
    if nside < 1 or nside & (nside - 1):
        raise ConfigurationError(f"nside {nside}", expected="a power of two")
    counts = np.asarray(reconstruction.counts, dtype=np.float64)
    whole = np.rint(counts)
    if np.any(np.abs(counts - whole) > 1e-6):
        raise ObsfitError(
            f"{', '.join(reconstruction.spec.detectors)}: {counts.flat[np.argmax(np.abs(counts - whole))]:.9g} events "
            "in a cell",
            expected="whole numbers of events",
            remedy="Asimov maps and sums of weights cannot be placed event by event.",
        )
    grid = reconstruction.grid
    expected = np.nan_to_num(np.asarray(reconstruction.expected, dtype=np.float64))
    share, pixels = _places(grid.dec_edges_rad, grid.n_time, nside)
    placed = rng.multinomial(whole.astype(np.int64).ravel(), share)
    events = np.bincount(pixels.ravel(), placed.ravel(), minlength=hp.nside2npix(nside)).astype(np.float64)
    exposure = np.bincount(
        pixels.ravel(), (expected.reshape(-1, 1) * share).ravel(), minlength=hp.nside2npix(nside)
    )
    background = calibrated_on_rings(
        events, np.where(exposure >= minimum_exposure * exposure.max(), exposure, 0.0)
    )
    outside = np.where(background > 0.0, 0.0, np.nan)
    names = tuple(name for origin in reconstruction.provenance for name in (origin.name, *origin.overlaps))
    origin = Provenance("+".join(reconstruction.spec.detectors), overlaps=names)
    return CountMap(events + outside, background + outside, origin)


def _places(dec_edges_rad: FloatArray, n_time: int, nside: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Shares of the parts of a cell, of sum one, and the pixel of each part of each cell, (n_cell, n_part)."""
    middle = (np.arange(_PARTS_RA) + 0.5) / _PARTS_RA * 2.0 - 1.0
    triangle = 1.0 - np.abs(middle)
    share = np.tile(triangle / triangle.sum() / _PARTS_DEC, _PARTS_DEC)
    low, high = np.sin(dec_edges_rad[:-1]), np.sin(dec_edges_rad[1:])
    sine = low[:, None] + (high - low)[:, None] * (np.arange(_PARTS_DEC) + 0.5) / _PARTS_DEC
    angle = 2.0 * np.pi / n_time * (np.arange(n_time)[:, None] + middle)
    shape = (low.size, n_time, _PARTS_DEC, _PARTS_RA)
    theta = np.broadcast_to(np.arccos(sine)[:, None, :, None], shape)
    phi = np.broadcast_to(np.mod(angle, 2.0 * np.pi)[None, :, None, :], shape)
    pixels = hp.ang2pix(nside, theta, phi)
    return share, np.asarray(pixels.reshape(low.size * n_time, -1), dtype=np.int64)
