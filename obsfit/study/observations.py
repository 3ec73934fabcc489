"""What a study of systematics observes: settings of skies and detectors, made into mock skies and mock detectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID
from obsfit.mock import MockSky, gaussian_alm, harmonic_sky, solar_dipole_sky
from obsfit.mock.settings import (
    BreathingSettings,
    GapSettings,
    MockDetectorSettings,
    MultipoleSettings,
    WaveSettings,
)
from obsfit.protocols import dipole_alm

__all__ = [
    "BreathingSettings",
    "DetectorSettings",
    "GapSettings",
    "MultipoleSettings",
    "SkySettings",
    "WaveSettings",
]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


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
class DetectorSettings(MockDetectorSettings):
    """A detector of a study: as `MockDetectorSettings`, with ten times as many events if their number is not given."""

    events: float = 1e10


def _index(lmax: int, ell: int, m: int) -> int:
    """Place of a_lm in healpy order."""
    return m * (2 * lmax + 1 - m) // 2 + ell
