"""Published dipoles: one row is one amplitude and phase at one energy of one observatory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.records._checks import FloatArray, column, store
from obsfit.records.provenance import Provenance

METHODS = ("right-ascension projection", "east-west", "forward-backward", "deprojected")


@dataclass(frozen=True)
class DipoleMeasurements:
    r"""Equatorial dipoles as published, (A_1, alpha_1) with errors, Eq. (19) of AM17.

    Attributes
    ----------
    measurement : tuple of str, length n
        Unique key of each measurement; the same key in two data sets is the same measurement.
    observatory : tuple of str, length n
        Experiment, as in `Observatory.named`.
    method : tuple of str, length n
        One of `METHODS`. All but "deprojected" leave amplitudes as the method gives them (Eqs. 23, 25 of AM17).
    energy_tev : ndarray, shape (n,)
        Median primary energy.
    amplitude, amplitude_error : ndarray, shape (n,)
        A_1 and its statistical error, plain numbers. NaN amplitude where only a limit is published.
    phase_rad, phase_error_rad : ndarray, shape (n,)
        Right ascension alpha_1 of the maximum and its error. NaN where not published.
    limit, limit_level : ndarray, shape (n,)
        Upper limit on the amplitude A_1 and its confidence level; NaN where a measurement is given.
    dec_min_rad, dec_max_rad : ndarray, shape (n,)
        Declination band of the time-integrated field of view; NaN where the zenith cut is not published.
    zenith_max_rad : ndarray, shape (n,)
        Zenith cut; NaN where not published.
    errors_usable : ndarray of bool, shape (n,)
        False where the error bars could not be read (smaller than a marker).
    provenance : Provenance
        Origin of the numbers.
    """

    measurement: tuple[str, ...]
    observatory: tuple[str, ...]
    method: tuple[str, ...]
    energy_tev: FloatArray
    amplitude: FloatArray
    amplitude_error: FloatArray
    phase_rad: FloatArray
    phase_error_rad: FloatArray
    limit: FloatArray
    limit_level: FloatArray
    dec_min_rad: FloatArray
    dec_max_rad: FloatArray
    zenith_max_rad: FloatArray
    errors_usable: NDArray[np.bool_]
    provenance: Provenance

    def __post_init__(self) -> None:
        n = len(self.measurement)
        if len(set(self.measurement)) != n:
            twice = sorted({key for key in self.measurement if self.measurement.count(key) > 1})
            raise ValueError(f"measurement {twice[0]!r} appears twice; expected unique keys")
        for name in ("observatory", "method"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name}: {len(getattr(self, name))} entries, expected {n}")
        unknown = sorted(set(self.method) - set(METHODS))
        if unknown:
            raise ValueError(f"method {unknown[0]!r}: expected one of {', '.join(METHODS)}")
        store(self, energy_tev=column(self.energy_tev, "energy_tev", n))
        for name in (
            "amplitude", "amplitude_error", "phase_rad", "phase_error_rad", "limit", "limit_level",
            "dec_min_rad", "dec_max_rad", "zenith_max_rad",
        ):  # fmt: skip
            store(self, **{name: column(getattr(self, name), name, n, finite=False)})
        usable = np.array(self.errors_usable, dtype=bool)
        usable.setflags(write=False)
        store(self, errors_usable=usable)

    def __len__(self) -> int:
        return len(self.measurement)

    @property
    def is_limit(self) -> NDArray[np.bool_]:
        """Rows that are an upper limit on the amplitude, shape (n,)."""
        return np.isnan(self.amplitude) & ~np.isnan(self.limit)

    def select(self, keep: NDArray[np.bool_] | Sequence[int]) -> DipoleMeasurements:
        """Return the rows that a boolean mask (n,) or a list of indices names."""
        index = np.arange(len(self))[np.asarray(keep)]

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in index)

        return DipoleMeasurements(
            pick(self.measurement), pick(self.observatory), pick(self.method), self.energy_tev[index],
            self.amplitude[index], self.amplitude_error[index], self.phase_rad[index],
            self.phase_error_rad[index], self.limit[index], self.limit_level[index],
            self.dec_min_rad[index], self.dec_max_rad[index], self.zenith_max_rad[index],
            self.errors_usable[index], self.provenance,
        )  # fmt: skip

    def components(self) -> tuple[FloatArray, FloatArray]:
        r"""Dipole components (delta_0h, delta_6h) and their covariance.

        The errors of amplitude and phase are taken as independent, so the covariance is diagonal in the frame
        rotated by alpha_1: variances sigma_A^2 along and (A_1 sigma_alpha)^2 across the dipole.

        Returns
        -------
        components : ndarray, shape (n, 2)
            A_1 (cos alpha_1, sin alpha_1), Eq. (19) of AM17.
        covariance : ndarray, shape (n, 2, 2)

        Raises
        ------
        ValueError
            If a row is a limit, has no phase, or no usable errors: name the rows to keep with `select`.
        """
        bad = self.is_limit | np.isnan(self.phase_rad) | ~self.errors_usable
        bad |= ~(self.amplitude_error > 0) | ~(self.phase_error_rad > 0)
        if bad.any():
            first = self.measurement[int(np.flatnonzero(bad)[0])]
            raise ValueError(
                f"{first}: no amplitude and phase with usable errors; drop such rows with select() first"
            )
        cos, sin = np.cos(self.phase_rad), np.sin(self.phase_rad)
        rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        variances = np.stack([self.amplitude_error**2, (self.amplitude * self.phase_error_rad) ** 2], -1)
        covariance = np.einsum("nik,nk,njk->nij", rotation, variances, rotation)
        return self.amplitude[:, None] * np.stack([cos, sin], -1), covariance
