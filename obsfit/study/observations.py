"""What a study of systematics observes: settings of skies and detectors, made into mock skies and mock detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.mock import (
    Acceptance,
    Breathing,
    Exposure,
    Gap,
    MockDetector,
    MockSky,
    Modulation,
    gaussian_alm,
    harmonic_sky,
    solar_dipole_sky,
)
from obsfit.observatory import Observatory
from obsfit.protocols import dipole_alm

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Shape = Callable[[FloatArray, FloatArray], FloatArray]

SHAPES: Mapping[str, Shape | None] = MappingProxyType(
    {
        "zenith": None,
        "east": lambda azimuth, zenith: np.sin(zenith) * np.sin(azimuth),
        "north": lambda azimuth, zenith: np.sin(zenith) * np.cos(azimuth),
    }
)
"""Slopes by which an acceptance may breathe; the first is that of `Breathing` itself, cos(zenith) - 1."""


@dataclass(frozen=True)
class MultipoleSettings:
    """One multipole of a sky and, m being positive, its mirror at -m.

    Attributes
    ----------
    ell, m : int
        Degree and order, 0 <= m <= ell.
    real, imag : float
        a_lm of the relative intensity.
    """

    __pydantic_config__ = FORBID

    ell: int
    m: int
    real: float = 0.0
    imag: float = 0.0


@dataclass(frozen=True)
class SkySettings:
    """The sky of a study: all that is given adds.

    Attributes
    ----------
    dipole : tuple of float
        Components (0h, 6h, N).
    multipoles : tuple of MultipoleSettings
        Further multipoles.
    c_ell : tuple of float
        Power of a Gaussian isotropic part, from l = 0. Each sky of the study is another draw.
    solar_index : float or None
        Spectral index of the solar Compton-Getting dipole, if there is one.
    """

    __pydantic_config__ = FORBID

    dipole: tuple[float, float, float] = (0.0, 0.0, 0.0)
    multipoles: tuple[MultipoleSettings, ...] = ()
    c_ell: tuple[float, ...] = ()
    solar_index: float | None = None

    def __post_init__(self) -> None:
        for one in self.multipoles:
            if not 0 <= one.m <= one.ell:
                raise ConfigurationError(f"multipole l = {one.ell}, m = {one.m}", expected="0 <= m <= ell")

    @property
    def lmax(self) -> int:
        """Largest multipole, at least one."""
        return max([1, len(self.c_ell) - 1, *(one.ell for one in self.multipoles)])

    def alm(self, *, rng: np.random.Generator) -> ComplexArray:
        """Return a_lm of the sidereal sky up to `lmax`, healpy order.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the Gaussian part.
        """
        lmax = self.lmax
        power = np.pad(np.array(self.c_ell, dtype=np.float64), (0, lmax + 1 - len(self.c_ell)))
        alm = gaussian_alm(power, rng=rng)
        dipole = dipole_alm(np.array(self.dipole))
        for place, value in zip(((0, 0), (1, 0), (1, 1)), dipole, strict=True):
            alm[_index(lmax, *place)] += value
        for one in self.multipoles:
            alm[_index(lmax, one.ell, one.m)] += one.real + 1j * one.imag
        return alm

    def sky(self, alm: ComplexArray) -> MockSky:
        """Return the mock sky with the sidereal a_lm of `alm`."""
        sky = harmonic_sky(alm)
        return sky if self.solar_index is None else sky + solar_dipole_sky(self.solar_index)


@dataclass(frozen=True)
class WaveSettings:
    """A modulation of the exposure; see `obsfit.mock.Modulation`.

    Attributes
    ----------
    clock : str
        "sidereal", "solar", "anti-sidereal", "extended-sidereal" or "season".
    amplitude : float
        Relative amplitude.
    phase : str
        Angle of the clock at the maximum.
    harmonic : int
        Waves per turn.
    """

    __pydantic_config__ = FORBID

    clock: str
    amplitude: float
    phase: str = "0 deg"
    harmonic: int = 1

    def modulation(self, scale: float = 1.0) -> Modulation:
        """Return the modulation, its amplitude times `scale`."""
        return Modulation(
            self.clock, scale * self.amplitude, read_quantity(self.phase, "angle", "phase"), self.harmonic
        )


@dataclass(frozen=True)
class BreathingSettings:
    """A slope of the acceptance that changes with time; see `obsfit.mock.Breathing`.

    Attributes
    ----------
    waves : tuple of WaveSettings
        The change with time is their sum.
    slope : str
        "zenith", cos(zenith) - 1; or the components of the direction towards the "east" or the "north".
    strength : float
        Factor of all waves.
    """

    __pydantic_config__ = FORBID

    waves: tuple[WaveSettings, ...]
    slope: str = "zenith"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.slope not in SHAPES:
            raise ConfigurationError(f"slope {self.slope!r}", expected=f"one of {', '.join(SHAPES)}")


@dataclass(frozen=True)
class GapSettings:
    """A stretch of every turn of a clock without data; see `obsfit.mock.Gap`.

    Attributes
    ----------
    clock : str
        As in `WaveSettings`.
    start, width : str
        Beginning and width, angles.
    """

    __pydantic_config__ = FORBID

    clock: str
    start: str
    width: str


@dataclass(frozen=True)
class DetectorSettings:
    """A detector: site, cut, acceptance and exposure.

    Attributes
    ----------
    name : str
        Name; that of a known observatory if no latitude is given.
    latitude, zenith_max, longitude : str
        Site and zenith cut. Empty: those of the observatory of this name.
    events : float
        Expected number of events.
    power, attenuation, east_west, tilt, tilt_azimuth
        As `obsfit.mock.Acceptance`.
    breathing : tuple of BreathingSettings
        Slopes of the acceptance that change with time.
    exposure : tuple of WaveSettings
        Modulations of the exposure.
    gaps : tuple of GapSettings
        Stretches without data.
    """

    __pydantic_config__ = FORBID

    name: str
    latitude: str = ""
    zenith_max: str = ""
    longitude: str = ""
    events: float = 1e10
    power: float = 1.0
    attenuation: float = 0.0
    east_west: float = 0.0
    tilt: str = "0 deg"
    tilt_azimuth: str = "0 deg"
    breathing: tuple[BreathingSettings, ...] = ()
    exposure: tuple[WaveSettings, ...] = ()
    gaps: tuple[GapSettings, ...] = ()

    @property
    def observatory(self) -> Observatory:
        """Site and zenith cut."""
        cut = read_quantity(self.zenith_max, "angle", "zenith_max") if self.zenith_max else None
        if not self.latitude:
            return Observatory.named(self.name, zenith_max=cut)
        if cut is None:
            raise ConfigurationError(f"{self.name}: no zenith_max", expected="a zenith cut beside the latitude")
        longitude = read_quantity(self.longitude, "angle", "longitude") if self.longitude else 0.0 * u.deg
        return Observatory(self.name, read_quantity(self.latitude, "angle", "latitude"), longitude, cut)

    def detector(self, *, breathing: float = 1.0) -> MockDetector:
        """Return the mock detector, with the strength of all breathing times a factor."""
        acceptance = Acceptance(
            power=self.power,
            attenuation=self.attenuation,
            east_west=self.east_west,
            tilt=read_quantity(self.tilt, "angle", "tilt"),
            tilt_azimuth=read_quantity(self.tilt_azimuth, "angle", "tilt_azimuth"),
            breathing=tuple(
                Breathing(
                    tuple(wave.modulation(breathing * one.strength) for wave in one.waves), SHAPES[one.slope]
                )
                for one in self.breathing
            ),
        )
        gaps = []
        for gap in self.gaps:
            start, width = (read_quantity(text, "angle", "gaps") for text in (gap.start, gap.width))
            if width.to_value(u.deg) > 0.0:
                gaps.append(Gap(gap.clock, start, start + width))
        return MockDetector(
            self.observatory, acceptance, Exposure(tuple(w.modulation() for w in self.exposure), tuple(gaps))
        )


def _index(lmax: int, ell: int, m: int) -> int:
    """Place of a_lm in healpy order."""
    return m * (2 * lmax + 1 - m) // 2 + ell
