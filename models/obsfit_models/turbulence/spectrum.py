r"""Spectra of magnetic turbulence: how much of its energy lies at which wavenumber.

Indices go by two names in the literature, 5/3 and 11/3 for the same Kolmogorov turbulence. Here only the index of the
*energy* spectrum E(k), energy per unit of wavenumber, is ever given; in three isotropic dimensions the power per volume
of wave-vector space falls with an index larger by two, in two dimensions by one, in slab turbulence by none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TurbulenceSpectrum:
    r"""Energy spectrum of a turbulent field between two wavelengths.

    .. math:: E(k) \propto \frac{k^q}{1 + (k \lambda_c)^{q + s}}, \qquad
              \frac{2\pi}{\lambda_{max}} \le k \le \frac{2\pi}{\lambda_{min}},

    with s = `energy_index` and q = `large_scale_index`: s = 5/3 and q = 2 (white noise at large scales) is the
    spectrum of ASTRA, Eq. (11), whose exponent gamma is q + s = 11/3. Without a bend, :math:`E(k) \propto k^{-s}`.

    Parameters
    ----------
    wavelength_min, wavelength_max : float
        Inner and outer scale, wavelengths, in the unit of length of the field.
    energy_index : float
        s; 5/3 is Kolmogorov.
    bend_over : float or None
        :math:`\lambda_c` of the formula, the inverse of the wavenumber at the bend (not a wavelength).
    large_scale_index : float
        q, above -1; not used without a bend.

    Raises
    ------
    ValueError
        If the scales are not positive and increasing, or an index is out of range.

    Examples
    --------
    >>> papers = TurbulenceSpectrum(0.01, 100.0)
    >>> round(papers.correlation_length(), 3)
    0.867
    """

    wavelength_min: float
    wavelength_max: float
    energy_index: float = 5.0 / 3.0
    bend_over: float | None = 1.0
    large_scale_index: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.wavelength_min < self.wavelength_max < np.inf:
            raise ValueError(
                f"wavelengths {self.wavelength_min} to {self.wavelength_max}: expected 0 < wavelength_min < "
                "wavelength_max"
            )
        if self.bend_over is not None and not 0 < self.bend_over < np.inf:
            raise ValueError(f"bend_over {self.bend_over}: expected a positive length, or None for no bend")
        if not 1 < self.energy_index < 3:
            raise ValueError(
                f"energy_index {self.energy_index}: expected the index of E(k), between 1 and 3 (5/3 for Kolmogorov; "
                "11/3 is the index of the power per volume of three-dimensional wave-vector space)"
            )
        if not self.large_scale_index > -1:
            raise ValueError(f"large_scale_index {self.large_scale_index}: expected more than -1")

    @property
    def k_min(self) -> float:
        """Smallest wavenumber, 2 pi over the outer scale."""
        return 2 * np.pi / self.wavelength_max

    @property
    def k_max(self) -> float:
        """Largest wavenumber, 2 pi over the inner scale."""
        return 2 * np.pi / self.wavelength_min

    @property
    def decades(self) -> float:
        """Decades of wavenumber covered."""
        return float(np.log10(self.k_max / self.k_min))

    def energy_per_log_k(self, k: ArrayLike) -> FloatArray:
        """Return k E(k), not normalised, zero outside the range; same shape as `k`."""
        wavenumber = np.asarray(k, dtype=np.float64)
        inside = (wavenumber >= self.k_min * (1 - 1e-12)) & (wavenumber <= self.k_max * (1 + 1e-12))
        if self.bend_over is None:
            shape = wavenumber ** (1.0 - self.energy_index)
        else:
            scaled = wavenumber * self.bend_over
            q = self.large_scale_index
            shape = scaled ** (q + 1.0) / (1.0 + scaled ** (q + self.energy_index))
        return np.where(inside, shape, 0.0)

    def correlation_length(self) -> float:
        r"""One-sided correlation length of isotropic three-dimensional turbulence with this spectrum.

        .. math:: L = \int_0^\infty \frac{\langle \delta B(0) \cdot \delta B(r) \rangle}
                  {\langle \delta B^2 \rangle} dr = \frac{\pi}{2} \langle 1/k \rangle,

        the mean weighted with E(k). Harari's two-sided length is twice this.
        """
        log_k = np.linspace(np.log(self.k_min), np.log(self.k_max), 20001)
        energy = self.energy_per_log_k(np.exp(log_k))
        return float(0.5 * np.pi * np.trapezoid(energy * np.exp(-log_k), log_k) / np.trapezoid(energy, log_k))
