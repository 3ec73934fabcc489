"""What reconstructions return: maps, multipoles and dipoles, each with how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from obsfit.records._checks import FloatArray
from obsfit.records.event_map import HourAngleGrid
from obsfit.records.provenance import Provenance


@dataclass(frozen=True)
class ObservationSpec:
    """How a reconstruction saw the sky, in plain words and numbers.

    Attributes
    ----------
    method : str
        Name of the reconstruction, for example "iterative-likelihood".
    settings : mapping of str to float, int, str or bool
        Its settings.
    detectors : tuple of str
        Names of the detectors.
    dec_min_rad, dec_max_rad : float
        Limits of the declinations that were seen.
    frame : str
        As `EventMap.frame`.
    filtered : bool
        Whether a_l0 is lost.
    loss : str
        What the method loses or distorts, in one or two sentences.
    """

    method: str
    settings: Mapping[str, float | int | str | bool]
    detectors: tuple[str, ...]
    dec_min_rad: float
    dec_max_rad: float
    frame: str
    filtered: bool
    loss: str


@dataclass(frozen=True)
class MapReconstruction:
    """Relative intensity on rings, with what was fitted beside it.

    Attributes
    ----------
    relative_intensity : ndarray, shape (n_dec, n_time)
        I of the sky cells, of mean one over the seen cells of each ring; NaN where unseen. Cell k is centred on
        right ascension k 2 pi / n_time.
    counts : ndarray, shape (n_dec, n_time)
        Events of each sky cell, all detectors together.
    expected : ndarray, shape (n_dec, n_time)
        What an isotropic sky would have given with the fitted exposure and acceptance.
    exposure : tuple of ndarray, shape (n_time,)
        Expected events of each time bin, for each detector.
    acceptance : tuple of ndarray, shape (n_dec, n_time)
        Share of the local cells, of sum one, for each detector.
    per_declination : ndarray, shape (n_dec * n_sub,)
        Counts in finer declination bands, all detectors together; see `RingCounts`.
    grid : HourAngleGrid
        The cells.
    spec : ObservationSpec
        How it was made.
    provenance : tuple of Provenance
        Origin of the events of each detector.
    iterations : int
        Passes of the solver; 1 for a method that needs one.
    converged : bool
        Whether the solver met its own criterion.
    """

    relative_intensity: FloatArray
    counts: FloatArray
    expected: FloatArray
    exposure: tuple[FloatArray, ...]
    acceptance: tuple[FloatArray, ...]
    per_declination: FloatArray
    grid: HourAngleGrid
    spec: ObservationSpec
    provenance: tuple[Provenance, ...]
    iterations: int = 1
    converged: bool = True


@dataclass(frozen=True)
class MultipoleReconstruction:
    """Multipoles of the sky with m > 0, and their covariance.

    Attributes
    ----------
    ell, m : ndarray of int, shape (n,)
        Degree and order of each multipole, m from 1 to l.
    alm : ndarray of complex, shape (n,)
        a_lm of the relative intensity.
    covariance : ndarray, shape (2 n, 2 n)
        Of (Re a, Im a), all real parts first.
    spec : ObservationSpec
        How it was made.
    provenance : tuple of Provenance
        Origin of the events of each detector.
    """

    ell: NDArray[np.int64]
    m: NDArray[np.int64]
    alm: NDArray[np.complex128]
    covariance: FloatArray
    spec: ObservationSpec
    provenance: tuple[Provenance, ...]


@dataclass(frozen=True)
class DipoleReconstruction:
    """Harmonics in right ascension, of which the first is the equatorial dipole as the method sees it.

    Attributes
    ----------
    components : ndarray, shape (n_harmonic, 2)
        Coefficients of cos(n alpha) and sin(n alpha), n = 1, 2, ...; the first row is (delta_0h, delta_6h) up to
        what `spec.loss` says.
    covariance : ndarray, shape (2 n_harmonic, 2 n_harmonic)
        Statistical covariance of ``components.ravel()``.
    spec : ObservationSpec
        How it was made.
    provenance : tuple of Provenance
        Origin of the events of each detector.
    systematic : ndarray, shape (2 n_harmonic, 2 n_harmonic), or None
        Covariance of systematic errors, where the method estimates them from another frame.
    """

    components: FloatArray
    covariance: FloatArray
    spec: ObservationSpec
    provenance: tuple[Provenance, ...]
    systematic: FloatArray | None = field(default=None)

    @property
    def amplitude(self) -> FloatArray:
        """Amplitude of each harmonic, shape (n_harmonic,); not corrected for what noise adds."""
        return np.hypot(self.components[:, 0], self.components[:, 1])

    @property
    def phase_rad(self) -> FloatArray:
        """Right ascension of the first maximum of each harmonic, in [0, 2 pi / n), shape (n_harmonic,)."""
        n = np.arange(1, len(self.components) + 1)
        angle = np.arctan2(self.components[:, 1], self.components[:, 0])
        return np.asarray(np.mod(angle, 2.0 * np.pi) / n)
