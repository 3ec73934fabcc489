r"""Displacement skies: where the particles of each direction came from, from which every anisotropy follows.

By Liouville's theorem the intensity from a direction n is what it was at the earlier end of the orbit. For a gradient
of the density, :math:`\delta I(n) = r_i(n; T)\, \partial_i n / n`, which is linear in the gradient: the three maps
r_i(n) and the three maps :math:`\hat p_i(n)`, kept as a_lm, hold the answer for all gradients, orientations and many
initial states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import healpy as hp
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ModelDomainError
from obsfit_models.turbulence.directions import (
    degree_sums,
    fitted_alm,
    gram_matrix,
    harmonic_sums,
    healpix_directions,
    jittered_directions,
)
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import back_track, cross_spheres

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DisplacementSky:
    r"""The maps r_i(n) and p_i(n) of one field, as a_lm.

    Axes: sets of directions (1 or more; noise of any two is independent), gyroradii, stops, then the six components
    :math:`r_x, r_y, r_z, \hat p_x, \hat p_y, \hat p_z`.

    Attributes
    ----------
    alm : ndarray of complex, shape (n_set, n_gyroradius, n_stop, 6, n_alm)
        Healpy order, l from 0, functions of the direction of arrival; positions in gyroradii.
    product : ndarray, shape (n_set, n_gyroradius, n_stop, 6, 6)
        Means over the directions of products of two components: the sum over all l of their cross power.
    gyroradius : ndarray, shape (n_gyroradius,)
        In the unit of length of the field.
    stop : ndarray, shape (n_stop,)
        Times T in 1/Omega, or radii of the spheres of first crossing in gyroradii; increasing.
    stopped_by : {"time", "radius"}
    directions : int
        Number of directions in each set.
    missing : ndarray of int, shape (n_set, n_gyroradius, n_stop), optional
        Number of directions left out, because their particles never crossed the sphere. Default: none.
    local_field : ndarray, shape (n_gyroradius, 3), optional
        Mean field about the observer (function `local_field`), where it is known.

    Raises
    ------
    ValueError
        If shapes do not fit together, a number is not finite or out of its range.
    """

    alm: ComplexArray
    product: FloatArray
    gyroradius: FloatArray
    stop: FloatArray
    stopped_by: str
    directions: int
    missing: IntArray | None = None
    local_field: FloatArray | None = None

    def __post_init__(self) -> None:
        _check(self, axes=5)

    @property
    def lmax(self) -> int:
        """Largest multipole."""
        return int(hp.Alm.getlmax(self.alm.shape[-1]))

    def at(self, stop: float | None = None, *, gyroradius: float | None = None) -> DisplacementSky:
        """Return the sky at one stop, one gyroradius, or one of both; axes of length one stay.

        Raises
        ------
        ValueError
            If there is no such stop or gyroradius.
        """
        return _selected(self, stop, gyroradius)


@dataclass(frozen=True, eq=False)
class DisplacementEnsemble:
    """Displacement skies of many fields: a library from which every anisotropy of that turbulence follows.

    Attributes
    ----------
    alm : ndarray of complex, shape (n_real, n_set, n_gyroradius, n_stop, 6, n_alm)
        As `DisplacementSky.alm`, with an axis of fields before it.
    product : ndarray, shape (n_real, n_set, n_gyroradius, n_stop, 6, 6)
    gyroradius, stop, stopped_by, directions
        As in `DisplacementSky`, the same for all fields.
    realisation : ndarray of int, shape (n_real,)
        Number of each field; with the configuration it gives the field again.
    missing : ndarray of int, shape (n_real, n_set, n_gyroradius, n_stop), optional
    local_field : ndarray, shape (n_real, n_gyroradius, 3), optional
    configuration : mapping
        What made it, seed included, in terms of JSON.

    Raises
    ------
    ValueError
        As `DisplacementSky`, and if a realisation is there twice.
    """

    alm: ComplexArray
    product: FloatArray
    gyroradius: FloatArray
    stop: FloatArray
    stopped_by: str
    directions: int
    realisation: IntArray
    missing: IntArray | None = None
    local_field: FloatArray | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, axes=6)
        if np.shape(self.realisation) != self.alm.shape[:1]:
            raise ValueError(
                f"realisation: shape {np.shape(self.realisation)}, expected {self.alm.shape[:1]}, one for each field"
            )
        values, count = np.unique(self.realisation, return_counts=True)
        if np.any(count > 1):
            raise ValueError(f"realisation {values[count > 1][0]} is there twice: the same field counts once")

    @property
    def lmax(self) -> int:
        """Largest multipole."""
        return int(hp.Alm.getlmax(self.alm.shape[-1]))

    def at(self, stop: float | None = None, *, gyroradius: float | None = None) -> DisplacementEnsemble:
        """Return the ensemble at one stop, one gyroradius, or one of both; as `DisplacementSky.at`."""
        return _selected(self, stop, gyroradius)

    def sky(self, index: int) -> DisplacementSky:
        """Return the sky of the field at a position in the ensemble."""
        return DisplacementSky(
            self.alm[index], self.product[index], self.gyroradius, self.stop, self.stopped_by, self.directions,
            None if self.missing is None else self.missing[index],
            None if self.local_field is None else self.local_field[index],
        )  # fmt: skip


def ensemble_of(
    skies: Sequence[DisplacementSky],
    *,
    realisation: ArrayLike | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> DisplacementEnsemble:
    """Return the ensemble of skies of different fields, numbered from 0 where no numbers are given.

    Raises
    ------
    ValueError
        If there is none, or they differ in gyroradii, stops, sets or lmax.
    """
    numbers = np.arange(len(skies)) if realisation is None else np.array(realisation, dtype=np.int64)
    if not skies or numbers.size != len(skies):
        raise ValueError(f"{len(skies)} skies with {numbers.size} numbers: expected at least one, and as many")
    return joined(
        [
            DisplacementEnsemble(
                sky.alm[None], sky.product[None], sky.gyroradius, sky.stop, sky.stopped_by, sky.directions,
                numbers[i : i + 1],
                None if sky.missing is None else sky.missing[None],
                None if sky.local_field is None else sky.local_field[None],
                dict(configuration or {}),
            )
            for i, sky in enumerate(skies)
        ]
    )  # fmt: skip


def joined(parts: Sequence[DisplacementEnsemble]) -> DisplacementEnsemble:
    """Return one ensemble with the fields of several that agree in everything else, configuration included.

    Raises
    ------
    ValueError
        If there is none, they differ in anything but their fields, or a field is in two of them.
    """
    if not parts:
        raise ValueError("no ensembles to join: expected at least one")
    first = parts[0]
    for part in parts[1:]:
        for name in ("gyroradius", "stop", "stopped_by", "directions", "configuration"):
            one, other = getattr(first, name), getattr(part, name)
            if not np.array_equal(one, other):
                raise ValueError(f"ensembles that differ in {name}, {one} and {other}, cannot be joined")
        if part.alm.shape[1:] != first.alm.shape[1:]:
            raise ValueError(f"ensembles of shapes {first.alm.shape} and {part.alm.shape} cannot be joined")
        for name in ("missing", "local_field"):
            if (getattr(first, name) is None) != (getattr(part, name) is None):
                raise ValueError(f"ensembles with and without {name} cannot be joined")

    def together(name: str) -> Any:
        return None if getattr(first, name) is None else np.concatenate([getattr(part, name) for part in parts])

    return replace(
        first,
        **{name: together(name) for name in ("alm", "product", "realisation", "missing", "local_field")},
    )


def displacement_sums(
    field: MagneticField,
    arrival: FloatArray,
    times: ArrayLike,
    *,
    gyroradius: ArrayLike,
    lmax: int,
    step: float | None = None,
    tolerance: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return what a set of directions, or a part of it, adds to a displacement sky.

    Parameters
    ----------
    field, times, gyroradius, lmax, step, tolerance
        As in `displacement_sky`.
    arrival : ndarray, shape (3, n)
        Directions of arrival.

    Returns
    -------
    sums : ndarray, shape (n_gyroradius, n_time, 6, (lmax + 1)^2)
        `directions.harmonic_sums` of the six components.
    product : ndarray, shape (n_gyroradius, n_time, 6, 6)
        Sums of products of two components.
    """
    found = []
    for radius in np.array(gyroradius, dtype=np.float64, ndmin=1):
        orbits = back_track(field, arrival, times, gyroradius=float(radius), step=step, tolerance=tolerance)
        found.append(map_sums(arrival, orbits.position, orbits.momentum, lmax))
    sums, product = zip(*found, strict=True)
    return np.array(sums), np.array(product)


def map_sums(
    arrival: FloatArray, position: FloatArray, momentum: FloatArray, lmax: int
) -> tuple[FloatArray, FloatArray]:
    """Return sums over directions (3, n) of what the maps of positions and momenta, each (n_stop, 3, n), hold there.

    Returns
    -------
    sums : ndarray, shape (n_stop, 6, (lmax + 1)^2)
        `directions.harmonic_sums` of the six components.
    product : ndarray, shape (n_stop, 6, 6)
        Sums of products of two components.
    """
    maps = np.concatenate([position, momentum], axis=1)
    return harmonic_sums(arrival, maps, lmax), np.einsum("tin,tjn->tij", maps, maps)


def displacement_sky(
    field: MagneticField,
    times: ArrayLike,
    *,
    gyroradius: ArrayLike,
    nside: int,
    lmax: int,
    step: float | None = None,
    tolerance: float | None = None,
    sets: int = 1,
    rng: np.random.Generator | None = None,
) -> DisplacementSky:
    """Return the displacement sky of one field for fixed times of back-tracking.

    Parameters
    ----------
    field : MagneticField
    times : array_like, shape (n_time,)
        In 1/Omega of each rigidity.
    gyroradius : array_like, shape (n_gyroradius,) or number
        r_L of each rigidity, in the unit of length of the field.
    nside : int
        Resolution of the directions.
    lmax : int
        Largest multipole kept.
    step : float, optional
        As in `orbits.back_track`.
    tolerance : float, optional
        In place of a step: orbits right to this, by the multi-rate scheme of `orbits.back_track`.
    sets : int
        Number of sets of directions; cross-spectra of two sets have no shot noise.
    rng : numpy.random.Generator, optional
        Directions are then drawn at random in the pixels (`directions.jittered_directions`). Default: pixel centres,
        of which there is one set only.

    Raises
    ------
    ValueError
        If `nside` is not a power of two, several sets are asked for without a generator, or an argument of
        `orbits.back_track` is refused.
    """
    radii, stops = (np.array(values, dtype=np.float64, ndmin=1) for values in (gyroradius, times))
    alm, product = [], []
    for arrival in _direction_sets(nside, sets, rng):
        sums, products = displacement_sums(
            field, arrival, stops, gyroradius=radii, lmax=lmax, step=step, tolerance=tolerance
        )
        alm.append(fitted_alm(sums, gram_matrix(arrival, lmax)))
        product.append(products / arrival.shape[1])
    return DisplacementSky(
        np.array(alm), np.array(product), radii, stops, "time", hp.nside2npix(nside),
        local_field=local_field(field, radii),
    )  # fmt: skip


def crossing_sky(
    field: MagneticField,
    radii: ArrayLike,
    *,
    gyroradius: ArrayLike,
    nside: int,
    lmax: int,
    longest_time: float,
    most_missing: float = 0.0,
    step: float | None = None,
    sets: int = 1,
    rng: np.random.Generator | None = None,
) -> DisplacementSky:
    """Return the displacement sky of one field at the first crossings of spheres about the observer, as GS do.

    Parameters
    ----------
    field, gyroradius, nside, lmax, step, sets, rng
        As in `displacement_sky`.
    radii : array_like, shape (n_radius,)
        Of the spheres, in gyroradii of each rigidity, positive and increasing.
    longest_time : float
        When a particle is given up, in 1/Omega.
    most_missing : float
        Share of the directions that may be left out because their particles did not cross in time. The a_lm are then
        fitted to the others, and `DisplacementSky.missing` counts them. Particles that are held back longest
        scatter most, so that leaving them out is a bias: keep the share small.

    Raises
    ------
    ModelDomainError
        If more particles than that did not cross.
    ValueError
        As `displacement_sky`, or if an argument of `orbits.cross_spheres` is refused.
    """
    if not 0 <= most_missing < 1:
        raise ValueError(f"most_missing {most_missing}: expected a share of the directions, from 0 to below 1")
    lengths, stops = (np.array(values, dtype=np.float64, ndmin=1) for values in (gyroradius, radii))
    shape = (sets, lengths.size, stops.size)
    alm = np.empty((*shape, 6, hp.Alm.getsize(lmax)), dtype=np.complex128)
    product, missing = np.empty((*shape, 6, 6)), np.empty(shape, dtype=np.int64)
    for i, arrival in enumerate(_direction_sets(nside, sets, rng)):
        whole = gram_matrix(arrival, lmax)
        for j, length in enumerate(lengths):
            found = cross_spheres(
                field, arrival, stops, gyroradius=float(length), longest_time=longest_time, step=step
            )
            for k, radius in enumerate(stops):
                crossed = np.isfinite(found.time[k])
                lost = int(np.sum(~crossed))
                if lost > most_missing * crossed.size:
                    raise ModelDomainError(
                        f"{lost} of {crossed.size} particles of gyroradius {length:g} did not cross the sphere of "
                        f"{radius:g} gyroradii in {longest_time:g}/Omega",
                        value=lost, expected=f"at most a share of {most_missing:g}",
                        remedy="Allow a longer time, a smaller sphere, or a share of missing directions.",
                    )  # fmt: skip
                kept = arrival[:, crossed]
                maps = np.concatenate([found.position[k], found.momentum[k]])[:, crossed]
                gram = whole if lost == 0 else gram_matrix(kept, lmax)
                alm[i, j, k] = fitted_alm(harmonic_sums(kept, maps, lmax), gram)
                product[i, j, k] = maps @ maps.T / kept.shape[1]
                missing[i, j, k] = lost
    return DisplacementSky(
        alm, product, lengths, stops, "radius", hp.nside2npix(nside), missing, local_field(field, lengths)
    )


def local_field(field: MagneticField, gyroradius: ArrayLike) -> FloatArray:
    """Return the mean of a field over balls about the observer with radii of one gyroradius, shape (n_gyroradius, 3).

    Its direction is the axis about which the gyration of these particles makes the sky symmetric.

    Parameters
    ----------
    field : MagneticField
    gyroradius : array_like, shape (n_gyroradius,) or number
        In the unit of length of the field.

    Examples
    --------
    >>> local_field(MagneticField(uniform=[0.0, 0.0, 1.0]), 0.1).round(12).tolist()
    [[0.0, 0.0, 1.0]]
    """
    nodes, weights = leggauss(16)
    distance = 0.5 * (nodes + 1)
    directions = healpix_directions(8)
    points = (directions[:, None, :] * distance[:, None]).reshape(3, -1)
    share = np.repeat(weights * distance**2, directions.shape[1])
    share /= share.sum()
    return np.array([field.at(float(r) * points) @ share for r in np.array(gyroradius, dtype=np.float64, ndmin=1)])


def _direction_sets(nside: int, sets: int, rng: np.random.Generator | None) -> Iterator[FloatArray]:
    """Yield sets of directions, (3, 12 nside^2) each: pixel centres, or random in the pixels."""
    if sets < 1 or (sets > 1 and rng is None):
        raise ValueError(f"sets {sets}: expected 1, or more with a generator that draws their directions")
    for _ in range(sets):
        yield healpix_directions(nside) if rng is None else jittered_directions(nside, rng=rng)


def cross_power(first: ComplexArray, second: ComplexArray) -> FloatArray:
    """Return C_l of two sets of a_lm (..., n_alm), shape (..., lmax + 1): the mean over m of their product."""
    lmax = int(hp.Alm.getlmax(first.shape[-1]))
    _, m = hp.Alm.getlm(lmax)
    product = np.where(m == 0, 1.0, 2.0) * (first.real * second.real + first.imag * second.imag)
    return degree_sums(product) / (2 * np.arange(lmax + 1) + 1)


_Record = TypeVar("_Record", DisplacementSky, DisplacementEnsemble)


def _check(record: DisplacementSky | DisplacementEnsemble, *, axes: int) -> None:
    """Refuse arrays that do not fit together; `axes` is the number of axes of `alm`."""
    shape = np.shape(record.alm)
    if len(shape) != axes or 0 in shape or shape[-2] != 6 or hp.Alm.getlmax(shape[-1]) < 0:
        raise ValueError(
            f"alm: shape {shape}, expected {axes} axes, the last two of 6 components and of a set of a_lm"
        )
    expected = {
        "product": (*shape[:-2], 6, 6), "gyroradius": (shape[-4],), "stop": (shape[-3],), "missing": shape[:-2],
        "local_field": (*shape[:-5], shape[-4], 3),
    }  # fmt: skip
    for name, wanted in expected.items():
        value = getattr(record, name)
        if value is not None and np.shape(value) != wanted:
            raise ValueError(f"{name}: shape {np.shape(value)}, expected {wanted} beside alm of shape {shape}")
    for name in ("alm", "product", "gyroradius", "stop", "local_field"):
        value = getattr(record, name)
        if value is not None and not np.all(np.isfinite(value)):
            raise ValueError(f"{name}: holds a number that is not finite")
    if not np.all(record.gyroradius > 0):
        raise ValueError(f"gyroradius {record.gyroradius}: expected positive lengths")
    if np.any(record.stop < 0) or np.any(np.diff(record.stop) <= 0):
        raise ValueError(f"stop {record.stop}: expected times or radii that increase, none negative")
    if record.stopped_by not in ("time", "radius"):
        raise ValueError(f"stopped_by {record.stopped_by!r}: expected time or radius")
    if record.directions < 1:
        raise ValueError(f"directions {record.directions}: expected at least 1")
    if record.missing is not None and np.any((record.missing < 0) | (record.missing >= record.directions)):
        raise ValueError(
            f"missing {np.max(record.missing)}: expected fewer than the {record.directions} directions"
        )


def _selected(record: _Record, stop: float | None, gyroradius: float | None) -> _Record:
    """Return what `at` says: -4 is the axis of gyroradii, -3 that of stops, where there are components."""
    for name, wanted, axis in (("stop", stop, -3), ("gyroradius", gyroradius, -4)):
        if wanted is None:
            continue
        values = getattr(record, name)
        index = int(np.argmin(np.abs(values - wanted)))
        if not np.isclose(values[index], wanted, rtol=1e-9, atol=0):
            raise ValueError(f"{name} {wanted}: expected one of {', '.join(f'{value:g}' for value in values)}")
        part = [index]
        changes: dict[str, Any] = {
            key: np.take(getattr(record, key), part, axis=axis) for key in ("alm", "product")
        }
        changes[name] = values[part]
        if record.missing is not None:
            changes["missing"] = np.take(record.missing, part, axis=axis + 2)
        if record.local_field is not None and name == "gyroradius":
            changes["local_field"] = np.take(record.local_field, part, axis=-2)
        record = replace(record, **changes)
    return record
