"""Pairs of local pixels that are mirror images in the meridian: what East-West and Forward-Backward compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import healpy as hp
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Profile = Callable[[FloatArray], FloatArray]

SUB_PIXELS = 16


@dataclass(frozen=True)
class MirrorPairs:
    """Seen pixels east of the meridian and their mirror images in the West, at equal declination.

    Pixels that the meridian cuts belong to neither half.

    Attributes
    ----------
    east, west : ndarray of int, shape (n_pair,)
        Pixel numbers.
    dec_rad : ndarray, shape (n_pair,)
        Declination of the centres.
    grid : HourAngleGrid or HealpixLocalGrid
        The local pixels.
    """

    east: IntArray
    west: IntArray
    dec_rad: FloatArray
    grid: HourAngleGrid | HealpixLocalGrid

    def mean_sine(self, profile: Profile, harmonic: int) -> FloatArray:
        """Mean of profile(dec) sin(n |hour angle|) over the solid angle of each pair, shape (n_pair,)."""
        if isinstance(self.grid, HourAngleGrid):
            ring, cell = np.divmod(self.west, self.grid.n_time)
            nodes, weights = leggauss(6)
            dec = self.grid.dec_rad[:, np.newaxis] + 0.5 * np.pi / self.grid.n_dec * nodes
            measure = weights * np.cos(dec)
            of_ring = (measure * profile(dec)).sum(axis=1) / measure.sum(axis=1)
            sine = np.sin(harmonic * self.grid.hour_angle_rad) * np.sinc(harmonic / self.grid.n_time)
            return np.asarray(of_ring[ring] * sine[cell])
        dec, hour_angle = sub_pixels(self.grid, self.west)
        return np.asarray((profile(dec) * np.sin(harmonic * hour_angle)).mean(axis=1))


def cosine_power(power: int) -> Profile:
    """Return cos^n of declination as a function."""
    return lambda dec: np.cos(dec) ** power


def legendre(ell: int, m: int) -> Profile:
    """Return the orthonormal lambda_lm as a function of declination."""
    return lambda dec: np.asarray(sph_harm_y(ell, m, 0.5 * np.pi - dec, 0.0).real)


def sub_pixels(grid: HealpixLocalGrid, pixels: IntArray) -> tuple[FloatArray, FloatArray]:
    """Declination and hour angle at the centres of 16 parts of equal solid angle of each pixel, (n, 16)."""
    nested = hp.ring2nest(grid.nside, pixels)
    parts = nested[:, np.newaxis] * SUB_PIXELS + np.arange(SUB_PIXELS)
    north, west, up = hp.pix2vec(grid.nside * 4, parts, nest=True)
    sin_latitude, cos_latitude = np.sin(grid.latitude_rad), np.cos(grid.latitude_rad)
    sin_dec = sin_latitude * up + cos_latitude * north
    towards_meridian = cos_latitude * up - sin_latitude * north
    return np.arctan2(sin_dec, np.hypot(towards_meridian, west)), np.arctan2(west, towards_meridian)


def mirror_pairs(event_map: EventMap) -> MirrorPairs:
    """Return the pairs of which at least one pixel has events."""
    grid = event_map.grid
    if isinstance(grid, HourAngleGrid):
        ring, cell = np.meshgrid(np.arange(grid.n_dec), np.arange(grid.n_time // 2), indexing="ij")
        west = (ring * grid.n_time + cell).ravel()
        east = (ring * grid.n_time + grid.n_time - 1 - cell).ravel()
        dec = np.repeat(grid.dec_rad, grid.n_time // 2)
    else:
        zenith, from_north_to_west = hp.pix2ang(grid.nside, np.arange(grid.n_pixel))
        # An angle of zero or pi comes from healpy exact to rounding; the next pixel is far from both.
        west = np.flatnonzero((from_north_to_west > 1e-9) & (from_north_to_west < np.pi - 1e-9))
        east = hp.ang2pix(grid.nside, zenith[west], 2.0 * np.pi - from_north_to_west[west])
        dec = np.arcsin(
            np.sin(grid.latitude_rad) * np.cos(zenith[west])
            + np.cos(grid.latitude_rad) * np.sin(zenith[west]) * np.cos(from_north_to_west[west])
        )
    per_pixel = event_map.counts.sum(axis=0)
    seen = per_pixel[east] + per_pixel[west] > 0.0
    return MirrorPairs(east[seen].astype(np.int64), west[seen].astype(np.int64), dec[seen], grid)
