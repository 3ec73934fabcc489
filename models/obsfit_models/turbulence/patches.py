"""Displacements over small regions of the sky, finer than any set of a_lm could hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence.directions import patch_directions
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import back_track, cross_spheres

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SkyPatch:
    r"""The maps r_i(n) and p_i(n) of one field on a regular patch of directions.

    Attributes
    ----------
    longitude, latitude : ndarray, shapes (n_longitude,) and (n_latitude,)
        In radians, as in `directions.patch_directions`.
    maps : ndarray, shape (n_stop, 6, n_latitude, n_longitude)
        Components :math:`r_x, r_y, r_z` in gyroradii and :math:`\hat p_x, \hat p_y, \hat p_z`; NaN where a particle
        did not cross the sphere in time.
    gyroradius : float
        In the unit of length of the field.
    stop : ndarray, shape (n_stop,)
        Times in 1/Omega, or radii of the spheres of first crossing in gyroradii.
    stopped_by : {"time", "radius"}
    """

    longitude: FloatArray
    latitude: FloatArray
    maps: FloatArray
    gyroradius: float
    stop: FloatArray
    stopped_by: str

    @property
    def flat(self) -> FloatArray:
        """Maps with one axis of directions, (n_stop, 6, n), as the functions of `anisotropy` take them."""
        return self.maps.reshape(*self.maps.shape[:2], -1)


def displacement_patch(
    field: MagneticField,
    stops: ArrayLike,
    *,
    gyroradius: float,
    longitude: ArrayLike,
    latitude: ArrayLike,
    centre: tuple[float, float] = (0.0, 0.0),
    stopped_by: str = "time",
    longest_time: float | None = None,
    step: float | None = None,
) -> SkyPatch:
    """Return the displacements of the particles that arrive from a patch of sky.

    Parameters
    ----------
    field : MagneticField
    stops : array_like, shape (n_stop,)
        Times in 1/Omega, or radii of spheres in gyroradii.
    gyroradius : float
        In the unit of length of the field.
    longitude, latitude, centre
        As in `directions.patch_directions`.
    stopped_by : {"time", "radius"}
        What the stops are.
    longest_time : float, optional
        When a particle is given up, in 1/Omega; for spheres, and needed there.
    step : float, optional
        As in `orbits.back_track`.

    Raises
    ------
    ValueError
        If `stopped_by` and `longest_time` do not go together, or an argument is refused by `orbits.back_track`,
        `orbits.cross_spheres` or `directions.patch_directions`.

    Examples
    --------
    Particles that arrive along a uniform field came straight along it; p points back to the observer:

    >>> patch = displacement_patch(
    ...     MagneticField(uniform=[1.0, 0.0, 0.0]), [2.0], gyroradius=1.0, longitude=[-0.1, 0.0, 0.1], latitude=[0.0]
    ... )
    >>> patch.maps.shape
    (1, 6, 1, 3)
    >>> (patch.maps[0, :, 0, 1].round(6) + 0.0).tolist()
    [2.0, 0.0, 0.0, -1.0, 0.0, 0.0]
    """
    if stopped_by not in ("time", "radius") or (longest_time is None) != (stopped_by == "time"):
        raise ValueError(
            f"stopped_by {stopped_by!r} with longest_time {longest_time}: expected time without, or radius with it"
        )
    directions = patch_directions(longitude, latitude, centre=centre)
    arrival = np.ascontiguousarray(directions.reshape(3, -1))
    if longest_time is None:
        orbits = back_track(field, arrival, stops, gyroradius=gyroradius, step=step)
        maps = np.concatenate([orbits.position, orbits.momentum], axis=1)
    else:
        found = cross_spheres(field, arrival, stops, gyroradius=gyroradius, longest_time=longest_time, step=step)
        maps = np.concatenate([found.position, found.momentum], axis=1)
        maps[np.broadcast_to(np.isnan(found.time)[:, None], maps.shape)] = np.nan
    lon, lat, values = (np.array(part, dtype=np.float64, ndmin=1) for part in (longitude, latitude, stops))
    shape = (*maps.shape[:2], *directions.shape[1:])
    return SkyPatch(lon, lat, maps.reshape(shape), float(gyroradius), values, stopped_by)


def disc_means(values: FloatArray, longitude: ArrayLike, latitude: ArrayLike, radius: float) -> FloatArray:
    """Return means of a map over discs, same shape; NaN where the disc leaves the patch or meets a NaN.

    Parameters
    ----------
    values : ndarray, shape (..., n_latitude, n_longitude)
        Values on a regular patch.
    longitude, latitude : array_like, shapes (n_longitude,) and (n_latitude,)
        In radians, increasing, evenly spaced.
    radius : float
        Angular radius in radians.

    Raises
    ------
    ValueError
        If the radius is below the spacing of the patch, or no disc fits in.
    """
    lon, lat = (np.asarray(angles, dtype=np.float64) for angles in (longitude, latitude))
    coarse = max(np.ptp(lon) / (lon.size - 1), np.ptp(lat) / (lat.size - 1))
    if not radius >= coarse:
        raise ValueError(f"radius {radius}: expected at least the spacing of the patch, {coarse:.3g} rad")
    # The widest longitude of a disc is where a meridian touches it.
    reach = np.arcsin(np.clip(np.sin(radius) / np.cos(lat), 0, 1))
    slack = 1e-9
    fits = ((lat - radius >= lat[0] - slack) & (lat + radius <= lat[-1] + slack))[:, None] & (
        (lon - reach[:, None] >= lon[0] - slack) & (lon + reach[:, None] <= lon[-1] + slack)
    )
    if not np.any(fits):
        raise ValueError(f"radius {radius}: expected discs that fit into the patch")
    vectors = patch_directions(lon, lat)
    points = vectors.reshape(3, -1)
    area = np.broadcast_to(np.cos(lat)[:, None], fits.shape)
    result = np.full(values.shape, np.nan)
    for row, column in np.argwhere(fits):
        near = np.abs(lat - lat[row]) <= radius + slack
        inside = (vectors[:, row, column] @ points).reshape(fits.shape)[near] >= np.cos(radius)
        weight = area[near][inside]
        result[..., row, column] = values[..., near, :][..., inside] @ weight / weight.sum()
    return result
