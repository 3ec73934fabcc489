r"""Turbulent fields as sums of plane waves with random directions, polarisations and phases.

Three geometries: isotropic, slab (all wave vectors along one axis) and two-dimensional (all of them across it, the
field along neither), and the sum of the last two. Amplitudes are not random: the mean square over space is that asked
for in every realisation, and so is the spectrum.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

FloatArray = NDArray[np.float64]

RESONANT = 0.1
"""Waves with k r_L above this scatter; far longer ones are only a slowly changing mean field."""
FEWEST_PER_DECADE = 10.0
"""Below this many modes in a decade anywhere, a field is refused by `check_resolution`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModeBand:
    """How dense modes are up to a wavenumber.

    Attributes
    ----------
    per_decade : float
        Modes in a decade of k; the number of modes of a band is rounded up.
    k_max : float
        Upper end of the band, in the unit of the spectrum; infinity: that of the spectrum. A band begins where the
        one before it ended.
    """

    per_decade: float
    k_max: float = np.inf

    def __post_init__(self) -> None:
        if not 0 < self.per_decade < np.inf:
            raise ValueError(f"per_decade {self.per_decade}: expected a positive number of modes")
        if not self.k_max > 0:
            raise ValueError(f"k_max {self.k_max}: expected a positive wavenumber")


Modes = int | Sequence[ModeBand]


def modes_per_decade(spectrum: TurbulenceSpectrum, per_decade: float) -> int:
    """Return the number of modes that gives a spectrum this many in each decade, rounded up.

    Examples
    --------
    >>> modes_per_decade(TurbulenceSpectrum(0.01, 100.0), 20)
    80
    >>> modes_per_decade(TurbulenceSpectrum(0.3, 10.0), 20)   # 30.5
    31
    """
    if not per_decade > 0:
        raise ValueError(f"per_decade {per_decade}: expected a positive number")
    return _count(spectrum.decades, per_decade)


def resonant_bands(gyroradius: float, *, below: float = 15.0, resonant: float = 80.0) -> tuple[ModeBand, ModeBand]:
    """Return bands that are dense where waves are in resonance with an orbit, k r_L > 0.1, and sparse below.

    Too few modes keep resonances from overlapping, and particles are scattered too little: at r_L = 0.01 lambda_c mean
    free paths are 84 +- 4, 76 +- 4 and 78 +- 3 gyroradii with 12.5, 25 and 50 per decade (docs/turbulence-reach.md). 40
    at 1e-3 and 80 at 1e-4 are precautions, whose need is not measured here.

    Parameters
    ----------
    gyroradius : float
        r_L, the smallest if there are several, in the unit of length of the field.
    below, resonant : float
        Modes per decade.
    """
    if not 0 < gyroradius < np.inf:
        raise ValueError(f"gyroradius {gyroradius}: expected a positive length in the unit of the field")
    return ModeBand(below, RESONANT / gyroradius), ModeBand(resonant)


def wavenumber_grid(spectrum: TurbulenceSpectrum, modes: Modes) -> tuple[FloatArray, FloatArray]:
    """Return wavenumbers and the interval of ln k that each stands for, both of shape (n,), increasing.

    Each band is divided into equal intervals of ln k, with a mode at the centre of each. One number of modes is one
    band over the whole spectrum. (The papers' grid starts at k_min and ends one interval below k_max.)

    Parameters
    ----------
    spectrum : TurbulenceSpectrum
    modes : int or sequence of ModeBand
        Bands with increasing upper ends, the last reaching k_max; those outside the spectrum are left out.

    Raises
    ------
    ValueError
        If there are no modes, or bands do not increase or end below k_max.

    Examples
    --------
    >>> k, interval = wavenumber_grid(TurbulenceSpectrum(1.0, 100.0), [ModeBand(5, 0.6), ModeBand(20)])
    >>> k.size, round(float(interval.sum() / np.log(100.0)), 12)
    (26, 1.0)
    """
    low, high = float(np.log(spectrum.k_min)), float(np.log(spectrum.k_max))
    if isinstance(modes, int | np.integer):
        if modes < 1:
            raise ValueError(f"modes {modes}: expected at least 1")
        ends, counts = [low, high], [int(modes)]
    else:
        ends, counts = _bands(spectrum, modes)
    edges = [np.linspace(a, b, n + 1) for (a, b), n in zip(itertools.pairwise(ends), counts, strict=True)]
    centre = np.concatenate([0.5 * (part[1:] + part[:-1]) for part in edges])
    return np.exp(centre), np.concatenate([np.diff(part) for part in edges])


def isotropic_waves(
    spectrum: TurbulenceSpectrum, *, modes: Modes, rms: float = 1.0, rng: np.random.Generator
) -> MagneticField:
    r"""Return isotropic three-dimensional turbulence, ASTRA Eqs. (10) and (11).

    .. math:: \delta B(r) = \sum_n A_n (\hat a_n \cos\alpha_n + \hat b_n \sin\alpha_n) \cos(k_n \cdot r + \beta_n),
              \qquad A_n^2 = 2 \langle \delta B^2 \rangle \frac{G_n}{\sum G}, \qquad G_n = k_n E(k_n) \Delta\ln k_n,

    with the wavenumbers of `wavenumber_grid`, directions of k_n uniform on the sphere, polarisation and phase uniform.
    The unit vectors a_n and b_n are perpendicular to k_n and to each other, for k_n along z too (the product of k_n
    and z, which the paper calls a unit vector, is none and vanishes there).

    Parameters
    ----------
    spectrum : TurbulenceSpectrum
        Energy spectrum; its unit of length is that of the field.
    modes : int or sequence of ModeBand
        Number of waves, evenly spread over ln k, or their densities in bands, see `resonant_bands`.
    rms : float
        Root of the mean square of the field over space in every realisation, in the unit of the field.
    rng : numpy.random.Generator
        Source of directions, polarisations and phases.

    Raises
    ------
    ValueError
        If there are no modes, bands are wrong, or `rms` is negative.
    """
    k, size = _sizes(spectrum, modes, rms)
    cosine, azimuth, polarisation, phase = rng.uniform(size=(4, k.size))
    cosine, azimuth = 2 * cosine - 1, 2 * np.pi * azimuth
    sine = np.sqrt(1 - cosine**2)
    unit = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine])
    # Two unit vectors perpendicular to k: the azimuthal one, and its product with k. Defined for k along z too.
    a = np.stack([np.sin(azimuth), -np.cos(azimuth), np.zeros(k.size)])
    b = np.cross(unit, a, axis=0)
    turn = 2 * np.pi * polarisation
    amplitude = size * (a * np.cos(turn) + b * np.sin(turn))
    return MagneticField(waves=PlaneWaves(k * unit, amplitude, 2 * np.pi * phase))


def slab_waves(
    spectrum: TurbulenceSpectrum,
    *,
    modes: Modes,
    rms: float = 1.0,
    axis: ArrayLike = (0.0, 0.0, 1.0),
    rng: np.random.Generator,
) -> MagneticField:
    r"""Return slab turbulence: wave vectors along `axis`, amplitudes perpendicular to it in random directions.

    The field changes along the axis only. Sizes of the amplitudes as in `isotropic_waves`; E(k) is then the power
    itself. The correlation length along the axis is `spectrum.correlation_length(1)`; with the papers' rise
    :math:`E \propto k^2` below the bend it is nearly zero, and slab models usually set `large_scale_index` to 0.

    Parameters
    ----------
    spectrum, modes, rms, rng
        As in `isotropic_waves`.
    axis : array_like, shape (3,)
        Direction of the wave vectors, usually that of the mean field; its length does not matter.

    Raises
    ------
    ValueError
        As `isotropic_waves`, or if the axis has no direction.
    """
    k, size = _sizes(spectrum, modes, rms)
    along, a, b = _frame(axis)
    polarisation, phase = 2 * np.pi * rng.uniform(size=(2, k.size))
    direction = np.outer(a, np.cos(polarisation)) + np.outer(b, np.sin(polarisation))
    return MagneticField(waves=PlaneWaves(np.outer(along, k), size * direction, phase))


def two_dimensional_waves(
    spectrum: TurbulenceSpectrum,
    *,
    modes: Modes,
    rms: float = 1.0,
    axis: ArrayLike = (0.0, 0.0, 1.0),
    rng: np.random.Generator,
) -> MagneticField:
    r"""Return two-dimensional magnetostatic turbulence: wave vectors and field both perpendicular to `axis`.

    Directions of k are uniform in the plane across the axis; amplitudes lie along k x axis. The field does not change
    along the axis, so that a particle keeps to its sheet of the vector potential. Correlation length
    `spectrum.correlation_length(2)`.

    Parameters
    ----------
    spectrum, modes, rms, rng
        As in `isotropic_waves`.
    axis : array_like, shape (3,)
        Normal of the plane, usually the direction of the mean field; its length does not matter.

    Raises
    ------
    ValueError
        As `isotropic_waves`, or if the axis has no direction.
    """
    k, size = _sizes(spectrum, modes, rms)
    along, a, b = _frame(axis)
    azimuth, phase = 2 * np.pi * rng.uniform(size=(2, k.size))
    unit = np.outer(a, np.cos(azimuth)) + np.outer(b, np.sin(azimuth))
    direction = np.cross(unit, along[:, None], axis=0)
    return MagneticField(waves=PlaneWaves(k * unit, size * direction, phase))


def composite_waves(
    spectrum: TurbulenceSpectrum,
    *,
    slab_fraction: float,
    modes: Modes,
    rms: float = 1.0,
    axis: ArrayLike = (0.0, 0.0, 1.0),
    two_dimensional: TurbulenceSpectrum | None = None,
    rng: np.random.Generator,
) -> MagneticField:
    """Return the sum of slab and two-dimensional turbulence; the solar wind is often modelled with a fifth of slab.

    Parameters
    ----------
    spectrum, modes, rms, axis, rng
        As in `slab_waves`; each of the two parts has `modes`.
    slab_fraction : float
        Share of the mean square that is slab, 0 to 1. A part without a share has no waves.
    two_dimensional : TurbulenceSpectrum, optional
        Spectrum of the two-dimensional part, where it is another.

    Raises
    ------
    ValueError
        As `slab_waves`, or if the fraction is not between 0 and 1.
    """
    if not 0 <= slab_fraction <= 1:
        raise ValueError(f"slab_fraction {slab_fraction}: expected a share of the energy, 0 to 1")
    field = MagneticField()
    if slab_fraction > 0:
        field += slab_waves(spectrum, modes=modes, rms=rms * np.sqrt(slab_fraction), axis=axis, rng=rng)
    if slab_fraction < 1:
        field += two_dimensional_waves(
            two_dimensional or spectrum, modes=modes, rms=rms * np.sqrt(1 - slab_fraction), axis=axis, rng=rng
        )
    return field


def check_resolution(spectrum: TurbulenceSpectrum, modes: Modes, gyroradius: float) -> None:
    """Refuse waves that cannot scatter particles of a gyroradius as the spectrum would; warn where they are few.

    Refused: no wave in resonance (k_max r_L below 1), or fewer than 10 modes per decade anywhere. Logged as warnings:
    k_max r_L below 10 (mean free paths come out 4 % too long at 10, a quarter or more at 3:
    docs/turbulence-convergence.md, docs/turbulence-reach.md), and fewer modes per decade above
    k r_L = 0.1 than is on the safe side in isotropic turbulence: 20 down to r_L = 0.01 of the bend-over length
    (or, without a bend, of the correlation length), 40 at 1e-3, 80 at 1e-4 and below.

    Parameters
    ----------
    spectrum : TurbulenceSpectrum
    modes : int or sequence of ModeBand
    gyroradius : float
        r_L, in the unit of length of the field.

    Raises
    ------
    ModelDomainError
        If k_max r_L is below 1.
    ConfigurationError
        If there are fewer than 10 modes in a decade.
    ValueError
        If the gyroradius is not positive, or modes are as refused by `wavenumber_grid`.
    """
    if not 0 < gyroradius < np.inf:
        raise ValueError(f"gyroradius {gyroradius}: expected a positive length in the unit of the field")
    reach = spectrum.k_max * gyroradius
    if reach < 1 - 1e-9:
        raise ModelDomainError(
            f"k_max r_L is {reach:.3g}: the field has no wave in resonance with a gyroradius of {gyroradius:g}",
            value=reach, expected="k_max r_L of 10 or more, at least 1",
            remedy=f"Lower wavelength_min from {spectrum.wavelength_min:g} to {0.2 * np.pi * gyroradius:.3g}.",
        )  # fmt: skip
    k, interval = wavenumber_grid(spectrum, modes)
    density = np.log(10) / interval
    fewest = float(density.min())
    if fewest < FEWEST_PER_DECADE * (1 - 1e-9):
        raise ConfigurationError(
            f"{fewest:.3g} modes per decade near k = {k[np.argmin(density)]:.3g}", value=fewest,
            expected=f"at least {FEWEST_PER_DECADE:g}, and 20 or more where k r_L exceeds {RESONANT:g}",
            remedy=f"Give {modes_per_decade(spectrum, 20)} modes for 20 per decade of {spectrum.decades:.2g} decades.",
        )  # fmt: skip
    if reach < 10 * (1 - 1e-9):
        _log.warning("k_max r_L is %.3g: below 10, mean free paths come out too long", reach)
    length = spectrum.correlation_length() if spectrum.bend_over is None else spectrum.bend_over
    wanted = 20.0 * 2.0 ** np.clip(np.log10(0.01 * length / gyroradius), 0.0, 2.0)
    in_resonance = float(density[k * gyroradius > RESONANT].min())
    if in_resonance < wanted * (1 - 1e-9):
        _log.warning(
            "%.3g modes per decade at k r_L above %g: %.3g are wanted at r_L = %.3g of the correlation length, or "
            "particles are scattered too little",
            in_resonance, RESONANT, wanted, gyroradius / length,
        )  # fmt: skip


def _count(decades: float, per_decade: float) -> int:
    """Number of modes of so many decades; 80.0000001 is 80."""
    return max(1, int(np.ceil(decades * per_decade - 1e-6)))


def _bands(spectrum: TurbulenceSpectrum, bands: Sequence[ModeBand]) -> tuple[list[float], list[int]]:
    """Ends of the bands in ln k, cut to the spectrum, and the number of modes of each."""
    tops = [band.k_max for band in bands]
    if not bands or any(low >= high for low, high in itertools.pairwise(tops)):
        raise ValueError(f"bands end at k = {tops}: expected at least one, with ends that increase")
    if tops[-1] < spectrum.k_max * (1 - 1e-12):
        raise ValueError(
            f"the last band ends at k = {tops[-1]:g}: expected k_max = {spectrum.k_max:g}, or infinity"
        )
    ends, counts = [float(np.log(spectrum.k_min))], []
    for band in bands:
        end = float(np.log(min(band.k_max, spectrum.k_max)))
        if end > ends[-1] + 1e-12:
            counts.append(_count((end - ends[-1]) / np.log(10), band.per_decade))
            ends.append(end)
    return ends, counts


def _sizes(spectrum: TurbulenceSpectrum, modes: Modes, rms: float) -> tuple[FloatArray, FloatArray]:
    """Wavenumbers, and the sizes of their amplitudes."""
    if not 0 <= rms < np.inf:
        raise ValueError(f"rms {rms}: expected a field strength that is not negative")
    k, interval = wavenumber_grid(spectrum, modes)
    energy = spectrum.energy_per_log_k(k) * interval
    return k, rms * np.sqrt(2 * energy / energy.sum())


def _frame(axis: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the unit vector of an axis and two more that make a right-handed frame (a, b, axis)."""
    vector = np.asarray(axis, dtype=np.float64)
    if vector.shape != (3,) or not np.all(np.isfinite(vector)) or not np.any(vector):
        raise ValueError(f"axis {axis!r}: expected a vector of three numbers, not all zero")
    along = vector / np.linalg.norm(vector)
    helper = np.zeros(3)
    helper[np.argmin(np.abs(along))] = 1.0
    a = np.cross(helper, along)
    a /= np.linalg.norm(a)
    return along, a, np.cross(along, a)
