"""Skies and detectors as configurations describe them, made into mock skies and mock detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.mock.detector import Acceptance, Breathing, Exposure, Gap, MockDetector, Modulation
from obsfit.mock.skies import (
    HarmonicPart,
    MockSky,
    PixelPart,
    SkyPart,
    SpotPart,
    compton_getting_sky,
    dipole_sky,
    disc_sky,
    gaussian_sky,
    harmonic_sky,
    map_sky,
    model_skies,
    solar_dipole_sky,
)
from obsfit.observatory import SiteSettings
from obsfit.plugins import load_model
from obsfit.sky.motion import motion_beta

FloatArray = NDArray[np.float64]
Shape = Callable[[FloatArray, FloatArray], FloatArray]

SLOPES: Mapping[str, Shape | None] = MappingProxyType(
    {
        "zenith": None,
        "east": lambda azimuth, zenith: np.sin(zenith) * np.sin(azimuth),
        "north": lambda azimuth, zenith: np.sin(zenith) * np.cos(azimuth),
    }
)
"""Slopes by which an acceptance may breathe; the first is that of `Breathing` itself, cos(zenith) - 1."""


@dataclass(frozen=True)
class MultipoleSettings:
    """One multipole of a sky; that of -m follows from it.

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

    def __post_init__(self) -> None:
        if not 0 <= self.m <= self.ell:
            raise ConfigurationError(f"multipole l = {self.ell}, m = {self.m}", expected="0 <= m <= ell")

    def alm(self) -> NDArray[np.complex128]:
        """Return a_lm up to `ell` in healpy order."""
        size = (self.ell + 1) * (self.ell + 2) // 2
        alm = np.zeros(size, dtype=np.complex128)
        alm[self.m * (2 * self.ell + 1 - self.m) // 2 + self.ell] = complex(self.real, self.imag)
        return alm


@dataclass(frozen=True)
class PowerSettings:
    """Power of a Gaussian isotropic sky, C_l = amplitude * (l / ell_min)^-slope.

    Attributes
    ----------
    amplitude : float
        C_l at ell_min.
    slope : float
        Exponent.
    ell_min, ell_max : int
        First and last multipole with power.
    """

    __pydantic_config__ = FORBID

    amplitude: float
    slope: float = 3.0
    ell_min: int = 1
    ell_max: int = 40

    def c_ell(self) -> FloatArray:
        """Return C_l from l = 0, shape (ell_max + 1,)."""
        if not (self.amplitude >= 0.0 and 1 <= self.ell_min <= self.ell_max):
            raise ConfigurationError(
                f"power of amplitude {self.amplitude} from l = {self.ell_min} to {self.ell_max}",
                expected="an amplitude that is not negative, and 1 <= ell_min <= ell_max",
            )
        ell = np.arange(self.ell_max + 1.0)
        power = np.zeros(ell.size)
        power[self.ell_min :] = self.amplitude * (ell[self.ell_min :] / self.ell_min) ** -self.slope
        return power


@dataclass(frozen=True)
class MapSettings:
    """A map of relative intensity from a file; see `obsfit.mock.map_sky`.

    Attributes
    ----------
    path : str
        HEALPix FITS file, relative to the configuration.
    column : str
        Its column; empty for the first.
    unseen : float or None
        Value of unobserved pixels; without it a map that has some is refused.
    lmax : int or None
        Take its multipoles up to here; without it, its pixels.
    """

    __pydantic_config__ = FORBID

    path: str
    column: str = ""
    unseen: float | None = None
    lmax: int | None = None


@dataclass(frozen=True)
class ModelSkySettings:
    """One realisation of the sky of a model.

    Attributes
    ----------
    name : str
        A model of `obsfit models list`.
    parameters : mapping
        Value of each of its parameters.
    rigidity : str
        Where it is evaluated, such as "10 TV"; for several energies each has its own, see `EnergySettings`.
    settings : mapping
        Its fixed choices.
    lmax : int
        Largest multipole.
    """

    __pydantic_config__ = FORBID

    name: str
    parameters: dict[str, float]
    rigidity: str = "10 TV"
    settings: dict[str, Any] = field(default_factory=dict)
    lmax: int = 30


@dataclass(frozen=True)
class SpotSettings:
    """A hot spot, or a cold one; see `obsfit.mock.disc_sky`. Region A of HAWC is at 60.0 deg, -7.1 deg.

    Attributes
    ----------
    ra, dec, radius : str
        Centre, and radius of the disc or standard deviation of the Gaussian.
    excess : float
        Relative intensity minus one at the centre.
    gaussian : bool
        A Gaussian instead of a disc.
    """

    __pydantic_config__ = FORBID

    ra: str
    dec: str
    radius: str
    excess: float
    gaussian: bool = False


@dataclass(frozen=True)
class MockSkySettings:
    """The sky of a mock observation: all that is given adds.

    Attributes
    ----------
    dipole : tuple of float
        Components (0h, 6h, N).
    multipoles : tuple of MultipoleSettings
        Further multipoles.
    c_ell : tuple of float
        Power of a Gaussian isotropic part, from l = 0.
    power : PowerSettings or None
        The same as a power law.
    map, model : MapSettings, ModelSkySettings, or None
        A map from a file; the sky of a model.
    spots : tuple of SpotSettings
        Hot spots.
    spectral_index : float
        Gamma of the events, for the Compton-Getting effect.
    solar : bool
        Whether to add the solar Compton-Getting dipole, at rest in solar time.
    motion : str
        Motion whose Compton-Getting dipole is added, such as "LSR"; empty for none.
    frame : str
        Frame in which all but the solar dipole are at rest.
    """

    __pydantic_config__ = FORBID

    dipole: tuple[float, float, float] = (0.0, 0.0, 0.0)
    multipoles: tuple[MultipoleSettings, ...] = ()
    c_ell: tuple[float, ...] = ()
    power: PowerSettings | None = None
    map: MapSettings | None = None
    model: ModelSkySettings | None = None
    spots: tuple[SpotSettings, ...] = ()
    spectral_index: float = 2.7
    solar: bool = False
    motion: str = ""
    frame: str = "sidereal"

    def skies(
        self, *, base: Path, rng: np.random.Generator, rigidities: u.Quantity | None = None, scale: FloatArray
    ) -> tuple[MockSky, ...]:
        """Return the sky at each true energy.

        Parameters
        ----------
        base : Path
            Folder to which the path of the map is relative.
        rng : numpy.random.Generator
            Source of what is random in the sky.
        rigidities : Quantity, shape (n,), optional
            Rigidity of each energy, for a model. Default: that of the model, for all.
        scale : ndarray, shape (n,)
            Factor of all anisotropy at each energy, but for that of a model and of motions.

        Raises
        ------
        ConfigurationError, PluginError, DataFormatError
            If a part of the sky cannot be made.
        """
        gaussian, modelled = rng.spawn(2)
        try:
            still = self._still(base, gaussian).in_frame(self.frame)
            moving = solar_dipole_sky(self.spectral_index) if self.solar else MockSky()
            if self.motion:
                moving = moving + compton_getting_sky(motion_beta(self.motion), self.spectral_index)
            models = self._models(modelled, rigidities, scale.size)
        except ValueError as error:
            raise ConfigurationError(f"sky: {error}") from error
        return tuple(
            scaled(still, float(factor)) + model.in_frame(self.frame) + moving
            for factor, model in zip(scale, models, strict=True)
        )

    def _still(self, base: Path, rng: np.random.Generator) -> MockSky:
        sky = dipole_sky(self.dipole) if any(self.dipole) else MockSky()
        for one in self.multipoles:
            sky = sky + harmonic_sky(one.alm())
        if self.c_ell and self.power is not None:
            raise ConfigurationError("sky has both c_ell and power", expected="one of the two keys")
        if self.c_ell or self.power is not None:
            c_ell = np.array(self.c_ell) if self.power is None else self.power.c_ell()
            if not np.all(c_ell >= 0.0):
                raise ConfigurationError(f"sky.c_ell holds {c_ell.min()}", expected="powers that are not negative")
            sky = sky + gaussian_sky(c_ell, rng=rng)
        if self.map is not None:
            sky = sky + map_sky(
                base / self.map.path, unseen=self.map.unseen, lmax=self.map.lmax, column=self.map.column
            )
        for spot in self.spots:
            ra, dec, radius = (
                read_quantity(getattr(spot, key), "angle", f"sky.spots.{key}") for key in ("ra", "dec", "radius")
            )
            sky = sky + disc_sky(ra, dec, radius=radius, excess=spot.excess, gaussian=spot.gaussian)
        return sky

    def _models(self, rng: np.random.Generator, rigidities: u.Quantity | None, n: int) -> tuple[MockSky, ...]:
        if self.model is None:
            return (MockSky(),) * n
        model = load_model(self.model.name, **self.model.settings)
        names = [parameter.name for parameter in model.parameters]
        for name in self.model.parameters:
            if name not in names:
                raise ConfigurationError(
                    f"sky.model: {self.model.name} has no parameter {name!r}", expected=f"{', '.join(names)}"
                )
        lacking = [name for name in names if name not in self.model.parameters]
        if lacking:
            raise ConfigurationError(
                f"sky.model: {self.model.name} needs {', '.join(lacking)}",
                expected="a value of each parameter in sky.model.parameters",
                remedy=f"'obsfit models show {self.model.name}' tells what they are.",
            )
        at = rigidities
        if at is None:
            at = u.Quantity([read_quantity(self.model.rigidity, "rigidity", "sky.model.rigidity")])
        theta = [self.model.parameters[name] for name in names]
        skies = model_skies(model, theta, at, lmax=self.model.lmax, rng=rng)
        return skies if rigidities is not None else skies * n


@dataclass(frozen=True)
class WaveSettings:
    """A wave in the time of one clock; see `obsfit.mock.Modulation`.

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
        if self.slope not in SLOPES:
            raise ConfigurationError(f"slope {self.slope!r}", expected=f"one of {', '.join(SLOPES)}")


@dataclass(frozen=True)
class GapSettings:
    """A stretch of every turn of a clock without data; see `obsfit.mock.Gap`.

    Attributes
    ----------
    clock : str
        As in `WaveSettings`.
    start, width : str
        Beginning and width, angles of the clock; no width, no gap.
    """

    __pydantic_config__ = FORBID

    clock: str
    start: str
    width: str

    def gap(self) -> Gap | None:
        """Return the gap; None if it has no width."""
        start, width = (read_quantity(text, "angle", "gaps") for text in (self.start, self.width))
        if not 0.0 <= width.to_value(u.deg) < 360.0:
            raise ConfigurationError(f"a gap of width {self.width}", expected="an angle in [0, 360) deg")
        return Gap(self.clock, start, start + width) if width.to_value(u.deg) > 0.0 else None


@dataclass(frozen=True)
class MockDetectorSettings(SiteSettings):
    """A mock detector: site, cut, acceptance and exposure.

    Attributes
    ----------
    name, latitude, longitude, zenith_max
        As `obsfit.observatory.SiteSettings`.
    events : float
        Expected number of events.
    power, attenuation, east_west, tilt, tilt_azimuth
        As `obsfit.mock.Acceptance`.
    breathing : tuple of BreathingSettings
        Slopes of the acceptance that change with time.
    exposure : tuple of WaveSettings
        Modulations of the exposure.
    gaps : tuple of GapSettings
        Stretches of every turn of a clock without data.
    trend_per_year, epoch_mjd : float
        Relative growth of the exposure per year, and where it is zero.
    dead_mjd : tuple of (float, float)
        Stretches without data, in modified Julian days.
    """

    events: float = 1e9
    power: float = 1.0
    attenuation: float = 0.0
    east_west: float = 0.0
    tilt: str = "0 deg"
    tilt_azimuth: str = "0 deg"
    breathing: tuple[BreathingSettings, ...] = ()
    exposure: tuple[WaveSettings, ...] = ()
    gaps: tuple[GapSettings, ...] = ()
    trend_per_year: float = 0.0
    epoch_mjd: float = 51544.5
    dead_mjd: tuple[tuple[float, float], ...] = ()

    def detector(self, *, breathing: float = 1.0) -> MockDetector:
        """Return the mock detector, with the strength of all breathing times a factor.

        Raises
        ------
        ConfigurationError
            If a setting makes no sense.
        """
        if not 0.0 < self.events < np.inf:
            raise ConfigurationError(f"{self.name}: {self.events} events", expected="a number above 0")
        try:
            acceptance = Acceptance(
                power=self.power,
                attenuation=self.attenuation,
                east_west=self.east_west,
                tilt=read_quantity(self.tilt, "angle", "tilt"),
                tilt_azimuth=read_quantity(self.tilt_azimuth, "angle", "tilt_azimuth"),
                breathing=tuple(
                    Breathing(
                        tuple(wave.modulation(breathing * one.strength) for wave in one.waves), SLOPES[one.slope]
                    )
                    for one in self.breathing
                ),
            )
            exposure = Exposure(
                modulations=tuple(wave.modulation() for wave in self.exposure),
                gaps=tuple(gap for gap in (one.gap() for one in self.gaps) if gap is not None),
                trend_per_year=self.trend_per_year,
                epoch_mjd=self.epoch_mjd,
                dead_mjd=self.dead_mjd,
            )
        except ValueError as error:
            raise ConfigurationError(f"{self.name}: {error}") from error
        return MockDetector(self.observatory, acceptance, exposure)


def scaled(sky: MockSky, factor: float) -> MockSky:
    """Return the sky with its anisotropy multiplied by a factor.

    Examples
    --------
    >>> twice = scaled(dipole_sky([1e-3, 0.0, 0.0]), 2.0)
    >>> print(twice.relative_intensity(0.0, 0.0).round(12))
    1.002
    """
    return MockSky(tuple(_scaled(part, factor) for part in sky.parts))


def _scaled(part: SkyPart, factor: float) -> SkyPart:
    if isinstance(part, HarmonicPart):
        return replace(part, alm=factor * part.alm)
    if isinstance(part, PixelPart):
        return replace(part, values=factor * part.values)
    if isinstance(part, SpotPart):
        return replace(part, excess=factor * part.excess)
    raise TypeError(f"a part of type {type(part).__name__} cannot be scaled")
