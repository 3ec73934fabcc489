"""Published or computed angular power spectra, with all that is needed to fold a model into them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from obsfit.records._checks import FloatArray, column, store
from obsfit.records.provenance import Provenance

KINDS = ("full-sky", "pseudo")


@dataclass(frozen=True)
class PowerSpectrum:
    r"""Angular power at one energy of one analysis.

    The tabulated power is that of the map as it was analysed: a map smoothed by a window W_l carries
    :math:`W_l^2 (C_l + N_l)`, whose noise :math:`N_l` is stored *before* smoothing.

    Attributes
    ----------
    measurement : str
        Unique key; the same key in two data sets is the same measurement.
    kind : str
        "full-sky": of all directions in a declination band that leaves little out, divided by its sky fraction.
        "pseudo": of a weighted, cut sky, neither divided nor decoupled.
    energy_tev : float
        Median primary energy.
    ell : ndarray of int, shape (n,)
        Multipoles, increasing and unique.
    c_ell : ndarray, shape (n,)
        Power of relative intensity, plain number, noise not subtracted.
    noise : ndarray, shape (n,)
        Estimated noise power N_l before smoothing; NaN where unknown.
    window_power : ndarray, shape (n,)
        W_l^2 of the smoothing that `c_ell` carries; one where there is none.
    error_low, error_high : ndarray, shape (n,)
        Published statistical error bars as lengths; NaN where not published.
    isotropic_low, isotropic_high : ndarray, shape (n,)
        Edges of the published 95 % band of isotropic skies; NaN where not published.
    filtered : bool
        True if the map carries no m = 0 power, so that 2 l real modes remain at each l.
    dec_min_rad, dec_max_rad : float
        Declination band of the map.
    provenance : Provenance
        Origin of the numbers.
    noise_contrast : float
        Mean square over squared mean of the noise variance across the band: one for uniform noise, more where some
        declinations are noisier than others, which leaves fewer effective modes.
    reading_error : float
        Relative standard deviation of each power from reading it off a picture; zero for printed or computed numbers.
    """

    measurement: str
    kind: str
    energy_tev: float
    ell: NDArray[np.int64]
    c_ell: FloatArray
    noise: FloatArray
    window_power: FloatArray
    error_low: FloatArray
    error_high: FloatArray
    isotropic_low: FloatArray
    isotropic_high: FloatArray
    filtered: bool
    dec_min_rad: float
    dec_max_rad: float
    provenance: Provenance
    noise_contrast: float = 1.0
    reading_error: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r}: expected one of {', '.join(KINDS)}")
        ell = np.array(self.ell, dtype=np.int64)
        if ell.ndim != 1 or ell.size == 0 or ell[0] < 0 or np.any(np.diff(ell) <= 0):
            raise ValueError(f"ell {ell.tolist()}: expected increasing unique multipoles l >= 0")
        ell.setflags(write=False)
        n = ell.size
        store(self, ell=ell, c_ell=column(self.c_ell, "c_ell", n))
        for name in (
            "noise", "window_power", "error_low", "error_high", "isotropic_low", "isotropic_high",
        ):  # fmt: skip
            store(self, **{name: column(getattr(self, name), name, n, finite=False)})
        if not self.noise_contrast >= 1.0:
            raise ValueError(f"noise_contrast {self.noise_contrast}: expected a number of at least 1")
        if not 0.0 <= self.reading_error < 1.0:
            raise ValueError(f"reading_error {self.reading_error}: expected a relative error in [0, 1)")
        if np.any(self.c_ell < 0):
            raise ValueError(f"c_ell: {self.c_ell.min()} is negative; expected power before noise subtraction")

    def __len__(self) -> int:
        return int(self.ell.size)

    @property
    def sky_fraction(self) -> float:
        """Fraction of the sphere inside the declination band."""
        return float(0.5 * (np.sin(self.dec_max_rad) - np.sin(self.dec_min_rad)))

    @property
    def degrees_of_freedom(self) -> FloatArray:
        """Number of real modes per multipole: 2 l without m = 0, else 2 l + 1; shape (n,)."""
        return 2.0 * self.ell.astype(np.float64) + (0.0 if self.filtered else 1.0)

    def select(self, ell_min: int = 1, ell_max: int | None = None) -> PowerSpectrum:
        """Return the multipoles from `ell_min` to `ell_max`, both included."""
        keep = (self.ell >= ell_min) & (self.ell <= (self.ell[-1] if ell_max is None else ell_max))
        if not keep.any():
            raise ValueError(
                f"no multipole between {ell_min} and {ell_max}: the record has {self.ell[0]} to {self.ell[-1]}"
            )
        return replace(
            self, ell=self.ell[keep], c_ell=self.c_ell[keep], noise=self.noise[keep],
            window_power=self.window_power[keep], error_low=self.error_low[keep],
            error_high=self.error_high[keep], isotropic_low=self.isotropic_low[keep],
            isotropic_high=self.isotropic_high[keep],
        )  # fmt: skip
