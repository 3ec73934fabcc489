r"""Turbulent fields on periodic grids, by Fourier transform, and what can be measured on any grid.

Errors of interpolation of a transverse wave in a random direction, relative to its rms. To double the points in a
wavelength divides the trilinear error by 4, the tricubic by 10. Waves are the worse the shorter: these are the errors
of the shortest wave that a grid holds, where little of the energy is.

=============================  =====  =====  ======  ======  ======  =======
points in a wavelength         4      5      6       8       10      16
=============================  =====  =====  ======  ======  ======  =======
trilinear                      0.20   0.13   0.093   0.053   0.034   0.014
of its energy, it loses        0.34   0.23   0.167   0.098   0.064   0.025
tricubic                       0.056  0.026  0.014   0.0050  0.0023  0.0005
of its energy, it loses        0.075  0.033  0.017   0.0055  0.0023  0.0004
=============================  =====  =====  ======  ======  ======  =======

An interpolated field is not free of divergence: with 8 points in the shortest wavelength and 32 in the
longest, the rms of div B is 4 % (trilinear) or 0.5 % (tricubic) of that of all derivatives. Plane waves have
neither error.
"""

from __future__ import annotations

import itertools
import logging

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ModelDomainError
from obsfit_models.turbulence.field import GridField, MagneticField
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

FloatArray = NDArray[np.float64]

_log = logging.getLogger(__name__)


def held_range(
    spectrum: TurbulenceSpectrum, *, points: int, box: float, points_per_wavelength: float
) -> tuple[float, float]:
    """Return the wavenumbers between which a periodic cube holds a spectrum.

    From one wavelength in the box, or k_min, to `points_per_wavelength` points in a wavelength, or k_max. The share of
    the energy in it is ``spectrum.share(*held_range(...))``.

    Raises
    ------
    ValueError
        If the box is not positive, there are 2 points in a wavelength or fewer, or the grid holds none of the
        spectrum.
    """
    if points < 4 or not 0 < box < np.inf:
        raise ValueError(f"grid of {points} points over {box}: expected 4 points or more over a positive length")
    if not points_per_wavelength > 2:
        raise ValueError(f"points_per_wavelength {points_per_wavelength}: expected more than 2")
    low = max(spectrum.k_min, 2 * np.pi / box)
    high = min(spectrum.k_max, 2 * np.pi * points / (box * points_per_wavelength))
    if not low < high:
        raise ValueError(
            f"a grid of {points} points over {box:g} holds wavelengths {points_per_wavelength * box / points:g} to "
            f"{box:g}: expected some of the spectrum's, {spectrum.wavelength_min:g} to {spectrum.wavelength_max:g}"
        )
    return low, high


def grid_turbulence(
    spectrum: TurbulenceSpectrum,
    *,
    points: int,
    box: float,
    rms: float = 1.0,
    points_per_wavelength: float = 6.0,
    interpolation: str = "cubic",
    rng: np.random.Generator,
) -> MagneticField:
    r"""Return isotropic turbulence on a periodic cube, by Fourier transform.

    Coefficients :math:`B_k \propto [E(k) / k^2]^{1/2}\, (1 - \hat k \hat k) \cdot w_k`, with w_k the transform of white
    noise, at the lattice points of `held_range`; those outside are zero. k times B_k vanishes, so that div B = 0 in
    the spectral sense. Within shells one lattice unit wide all waves are scaled so that, on average, a shell has the
    energy of its interval of k, which the few lattice points of the innermost would miss by tens of per cent.

    The mean of B^2 over the points is `rms` squared times the share of the spectrum's energy that the grid can hold,
    exactly and in every realisation, as with plane waves; energies of single shells of k are random. Few waves fit a
    box if the longest is not much shorter: give the box at least twice the longest wavelength that matters.

    The grid repeats. Its first point is at a random place, so that no observer sits on a point, where interpolation
    has no error. With the same generator and ``points / points_per_wavelength``, a grid of more points is the same
    field, sampled more finely.

    Parameters
    ----------
    spectrum : TurbulenceSpectrum
        Energy spectrum; its unit of length is that of the field.
    points : int
        Points along each side of the cube; it takes 24 bytes times their cube.
    box : float
        Length of a side.
    rms : float
        Root of the mean square of the field if the grid could hold all of its spectrum.
    points_per_wavelength : float
        Points in the shortest wavelength, see the errors above.
    interpolation : {"linear", "cubic"}
        As in `GridField`.
    rng : numpy.random.Generator
        Source of the noise and of the place of the grid.

    Raises
    ------
    ValueError
        As `held_range`, if no point of the lattice lies in it, or `rms` is negative.
    """
    if not 0 <= rms < np.inf:
        raise ValueError(f"rms {rms}: expected a field strength that is not negative")
    low, high = held_range(spectrum, points=points, box=box, points_per_wavelength=points_per_wavelength)
    unit = 2 * np.pi / box
    most = int(np.floor(high / unit * (1 + 1e-12)))
    # Noise on the coarsest lattice that holds all waves below its Nyquist wavenumber, whatever the number of points.
    side = 2 * most + 2
    noise = np.fft.rfftn(rng.standard_normal((3, side, side, side)), axes=(1, 2, 3))
    origin = -box * rng.uniform(size=3)
    number = np.r_[0 : most + 1, -most:0]
    noise = noise[:, number][:, :, number][..., : most + 1]
    m = np.stack(np.meshgrid(number, number, np.arange(most + 1), indexing="ij")).astype(np.float64)
    square = np.sum(m**2, axis=0)
    square[0, 0, 0] = 1.0
    k = unit * np.sqrt(square)
    held = (k >= low * (1 - 1e-12)) & (k <= high * (1 + 1e-12))
    held[0, 0, 0] = False
    if not np.any(held):
        raise ValueError(
            f"no wave that fits a box of {box:g} has a wavelength between {2 * np.pi / high:g} and "
            f"{2 * np.pi / low:g}: expected a larger box or a wider spectrum"
        )
    # Half of the lattice is not stored: it holds the complex conjugates of all but the plane m_z = 0.
    twice = np.where(m[2] > 0, 2.0, 1.0)
    weight = np.sqrt(_energy_of_waves(spectrum, k / unit, held, twice, unit, (low, high)))
    coefficient = weight * (noise - m * np.sum(m * noise, axis=0) / square)
    energy = float(np.sum(twice * np.abs(coefficient) ** 2))
    coefficient *= rms * np.sqrt(spectrum.share(low, high) / energy)
    values = np.empty((points, points, points, 3))
    for component in range(3):
        padded = np.zeros((points, points, points // 2 + 1), dtype=np.complex128)
        padded[np.ix_(number, number, np.arange(most + 1))] = coefficient[component]
        values[..., component] = np.fft.irfftn(padded, s=(points,) * 3, axes=(0, 1, 2), norm="forward")
    grid = GridField(values, origin, np.full(3, box / points), periodic=True, interpolation=interpolation)
    return MagneticField(grids=(grid,))


def nested_grids(
    spectrum: TurbulenceSpectrum,
    *,
    ratio: float = 10.0,
    points: int = 128,
    rms: float = 1.0,
    points_per_wavelength: float = 6.0,
    interpolation: str = "cubic",
    rng: np.random.Generator,
) -> MagneticField:
    r"""Return isotropic turbulence over a wide spectrum, a sum of periodic cubes each with its own range of k.

    The spectrum is cut into equal intervals of ln k, as many as make each no wider than `ratio`; each is held by a
    cube of `points` with `points_per_wavelength` points in the shortest wavelength of the interval, and has exactly
    its share of the energy. With the defaults 2.1 of the longest wavelengths of an interval fit its cube.

    Each cube repeats with its own period, and the sum does not repeat as long as orbits stay within the largest. To
    go further is to see its large waves again, shifted small ones notwithstanding: let the largest cube exceed the
    displacements of interest, with a smaller `ratio` or more points. Sizes of the cubes are in the ratio of their
    intervals, not rounded, and each begins at a random place. They are not turned: turning them would not help
    against the few waves of the largest, and slows interpolation.

    Parameters
    ----------
    spectrum, rms, rng
        As in `grid_turbulence`.
    ratio : float
        Largest ratio of wavenumbers in one cube.
    points : int
        Points along each side of every cube.
    points_per_wavelength, interpolation
        As in `grid_turbulence`.

    Raises
    ------
    ValueError
        If the ratio is not above 1, or too large for the longest waves to fit their cube.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> field = nested_grids(TurbulenceSpectrum(0.1, 10.0), ratio=4, points=32, rng=rng)
    >>> len(field.grids), round(sum(grid.mean_square for grid in field.grids), 6)
    (4, 1.0)
    """
    if not ratio > 1:
        raise ValueError(f"ratio {ratio}: expected more than 1")
    if not points_per_wavelength > 2:
        raise ValueError(f"points_per_wavelength {points_per_wavelength}: expected more than 2")
    edges = _intervals(spectrum, ratio)
    if points / points_per_wavelength * edges[0] / edges[1] < 1:
        raise ValueError(
            f"{points} points at {points_per_wavelength:g} to the shortest wavelength hold a ratio of wavelengths of "
            f"{points / points_per_wavelength:g}, ratio {ratio:g} was asked for: lower it or give more points"
        )
    field = MagneticField()
    for low, high in itertools.pairwise(edges):
        field += grid_turbulence(
            spectrum.between(low, high),
            points=points,
            box=points / points_per_wavelength * 2 * np.pi / high,
            rms=rms * np.sqrt(spectrum.share(low, high)),
            points_per_wavelength=points_per_wavelength,
            interpolation=interpolation,
            rng=rng,
        )
    return field


def largest_cube(
    spectrum: TurbulenceSpectrum, *, ratio: float, points: int, points_per_wavelength: float = 6.0
) -> float:
    """Return the side of the largest cube of `nested_grids` with these arguments, after which its field repeats.

    Examples
    --------
    >>> round(largest_cube(TurbulenceSpectrum(0.1, 10.0), ratio=4, points=32), 2)   # 1.69 of the longest wavelengths
    16.87
    """
    return float(points / points_per_wavelength * 2 * np.pi / _intervals(spectrum, ratio)[1])


def check_extent(field: MagneticField, reach: float, *, position: ArrayLike = (0.0, 0.0, 0.0)) -> None:
    """Refuse grids that end where orbits still go, and warn of those that repeat there.

    Beyond the end of a grid that does not repeat there is no field of it, and particles fly straight on.

    Parameters
    ----------
    field : MagneticField
    reach : float
        Largest distance from `position` that matters, in the unit of length of the field.
    position : array_like, shape (3,)
        Where particles arrive.

    Raises
    ------
    ModelDomainError
        If a grid that is not periodic has a face nearer than that.
    ValueError
        If the reach is not positive.
    """
    if not 0 < reach < np.inf:
        raise ValueError(f"reach {reach}: expected a positive distance in the unit of the field")
    place = np.asarray(position, dtype=np.float64)
    for number, grid in enumerate(field.grids):
        shape = np.array(grid.values.shape[:3])
        if grid.periodic:
            continue
        nearest = float(np.min([place - grid.origin, grid.origin + grid.spacing * (shape - 1) - place]))
        if nearest < reach:
            raise ModelDomainError(
                f"grid {number} ends at a distance of {nearest:g} from the observer, orbits go as far as {reach:g}",
                value=nearest, expected="a grid that is periodic or larger",
                remedy="Shorten the orbits, move the observer, or read the field with periodic=True if it repeats.",
            )  # fmt: skip
    # Smaller cubes of nested grids repeat as a matter of course: what counts is the largest.
    periods = [float(np.min(grid.spacing * grid.values.shape[:3])) for grid in field.grids if grid.periodic]
    if periods:
        warn_of_repeats(max(periods), reach)


def warn_of_repeats(period: float, reach: float) -> None:
    """Log a warning if orbits can go further than the period of the largest grid."""
    if period < reach:
        _log.warning(
            "the largest periodic grid repeats after %.3g, orbits can go as far as %.3g: they then meet its waves "
            "again",
            period, reach,
        )  # fmt: skip


def _intervals(spectrum: TurbulenceSpectrum, ratio: float) -> FloatArray:
    """Ends of the ranges of k of nested cubes: equal in ln k, none wider than the ratio."""
    pieces = max(1, int(np.ceil(np.log(spectrum.k_max / spectrum.k_min) / np.log(ratio) - 1e-9)))
    return np.geomspace(spectrum.k_min, spectrum.k_max, pieces + 1)


def sampled(
    field: MagneticField,
    *,
    points: ArrayLike,
    spacing: ArrayLike,
    origin: ArrayLike = (0.0, 0.0, 0.0),
    periodic: bool = False,
    interpolation: str = "cubic",
) -> MagneticField:
    """Return a field sampled on a grid, without its uniform part, which is kept as it is.

    Parameters
    ----------
    field : MagneticField
    points : array_like of int, shape (3,) or number
        Points along each axis.
    spacing : array_like, shape (3,) or number
    origin : array_like, shape (3,)
        Place of the first point.
    periodic : bool
        Whether the grid is to repeat; the field itself must.
    interpolation : {"linear", "cubic"}
    """
    shape = np.broadcast_to(np.asarray(points, dtype=np.int64), 3)
    step = np.broadcast_to(np.asarray(spacing, dtype=np.float64), 3).copy()
    start = np.asarray(origin, dtype=np.float64)
    axes = [start[i] + step[i] * np.arange(shape[i]) for i in range(3)]
    place = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    values = (field.at(place) - field.uniform[:, None]).T.reshape(*shape, 3)
    grid = GridField(np.ascontiguousarray(values), start, step, periodic, interpolation)
    return MagneticField(field.uniform, grids=(grid,))


def energy_spectrum(grid: GridField) -> tuple[FloatArray, FloatArray]:
    r"""Return wavenumbers and E(k) of a periodic grid, :math:`\sum E\, \Delta k = \langle (B - \bar B)^2 \rangle`.

    Energies of the Fourier coefficients summed in shells of one wavenumber of the longest side, up to the smallest
    Nyquist wavenumber; k is the mean of a shell's wavenumbers.

    Raises
    ------
    ValueError
        If the grid is not periodic: its edges would add power of their own, falling with the square of k.
    """
    if not grid.periodic:
        raise ValueError(
            "energy_spectrum: the grid is not periodic; expected one that repeats (periodic=True if it does)"
        )
    shape = grid.values.shape[:3]
    waves = [2 * np.pi * np.fft.fftfreq(n, step) for n, step in zip(shape, grid.spacing, strict=True)]
    k = np.sqrt(sum(np.meshgrid(*[wave**2 for wave in waves], indexing="ij"))).ravel()
    energy = np.sum(np.abs(np.fft.fftn(grid.values, axes=(0, 1, 2), norm="forward")) ** 2, axis=3).ravel()
    unit = 2 * np.pi / float(np.max(np.array(shape) * grid.spacing))
    shell = np.floor(k / unit + 0.5).astype(np.int64)
    count = np.bincount(shell)
    last = int(np.pi / np.max(grid.spacing) / unit + 1e-9)
    used = [i for i in range(1, min(last + 1, count.size)) if count[i] > 0]
    mean = np.bincount(shell, weights=k)[used] / count[used]
    return mean, np.bincount(shell, weights=energy)[used] / unit


def relative_divergence(grid: GridField) -> float:
    r"""Return the rms of div B over that of all nine derivatives, by central differences.

    Near 0 for a field that its points resolve; 0.58 for three independent isotropic components, which is what wrongly
    ordered axes or components look like. 0 for a uniform field.
    """
    gradient = np.empty((3, *grid.values.shape))
    for axis in range(3):
        if grid.periodic:
            change = np.roll(grid.values, -1, axis) - np.roll(grid.values, 1, axis)
            gradient[axis] = change / (2 * grid.spacing[axis])
        else:
            gradient[axis] = np.gradient(grid.values, grid.spacing[axis], axis=axis)
    total = float(np.mean(np.sum(gradient**2, axis=(0, 4))))
    divergence = gradient[0, ..., 0] + gradient[1, ..., 1] + gradient[2, ..., 2]
    return float(np.sqrt(np.mean(divergence**2) / total)) if total > 0 else 0.0


def _energy_of_waves(
    spectrum: TurbulenceSpectrum,
    number: FloatArray,
    held: NDArray[np.bool_],
    times: FloatArray,
    unit: float,
    ends: tuple[float, float],
) -> FloatArray:
    """Mean energy of each wave of a lattice, of wavenumbers unit * number, each of which counts so many times.

    E(k) / k^2 within shells of about one unit, each of which has the energy of its interval: the few points of the
    inner shells are not in proportion to the volume (48 from 2.13 to 2.5, for 25).
    """
    low, high = ends[0] / unit, ends[1] / unit
    edges = np.linspace(low, high, max(1, round(high - low)) + 1)
    shell = np.clip(np.searchsorted(edges, number, side="right") - 1, 0, edges.size - 2)
    density = np.where(held, spectrum.energy_per_log_k(unit * number) / number**3, 0.0)
    found = np.bincount(shell.ravel(), weights=(times * density).ravel(), minlength=edges.size - 1)
    wanted = np.array([spectrum.energy_between(unit * a, unit * b) for a, b in itertools.pairwise(edges)])
    # No shell is empty: they are two thirds of a unit wide or more, unless there is only one.
    return density * (wanted / found)[shell]
