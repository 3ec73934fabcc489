r"""Spectra of magnetic turbulence: how much of its energy lies at which wavenumber.

Indices go by several names for the same turbulence. With E(k) the energy per unit of wavenumber, and P the power per
volume of wave-vector space, P = E(k) in slab turbulence (one dimension), :math:`E / 2 \pi k` in two dimensions and
:math:`E / 4 \pi k^2` in three. Kolmogorov's energy index 5/3 is therefore 5/3, 8/3 or 11/3 as an index of P, and a sum
over equal intervals of log k has terms k E(k) that fall with 2/3. The exponent gamma = 11/3 in the denominator of
ASTRA, Eq. (11), is a fourth thing: the sum of the two indices of E(k) on either side of the bend, 2 + 5/3. Here only
the indices of E(k) are ever given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Nodes of integrals over log k: with a bend and six decades they are exact to 1e-7.
NODES = 20001


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

    def energy_between(self, k_low: float, k_high: float) -> float:
        """Return the integral of E(k) between two wavenumbers, not normalised; outside the range there is nothing.

        Raises
        ------
        ValueError
            Unless 0 < k_low <= k_high.
        """
        if not 0 < k_low <= k_high:
            raise ValueError(f"wavenumbers {k_low} to {k_high}: expected 0 < k_low <= k_high")
        low, high = max(k_low, self.k_min), min(k_high, self.k_max)
        if low >= high:
            return 0.0
        log_k = np.linspace(np.log(low), np.log(high), NODES)
        return float(np.trapezoid(self.energy_per_log_k(np.exp(log_k)), log_k))

    def share(self, k_low: float, k_high: float) -> float:
        """Return the share of the energy between two wavenumbers, 0 to 1.

        Examples
        --------
        >>> papers = TurbulenceSpectrum(0.01, 100.0)
        >>> round(papers.share(1.0, papers.k_max), 3)   # above the bend
        0.847
        """
        return self.energy_between(k_low, k_high) / self.energy_between(self.k_min, self.k_max)

    def between(self, k_low: float, k_high: float) -> TurbulenceSpectrum:
        """Return the part of this spectrum between two wavenumbers, which are cut to its range.

        Raises
        ------
        ValueError
            If nothing is left.
        """
        low, high = max(k_low, self.k_min), min(k_high, self.k_max)
        if not low < high:
            raise ValueError(
                f"wavenumbers {k_low:g} to {k_high:g} hold none of a spectrum from {self.k_min:g} to {self.k_max:g}"
            )
        return replace(self, wavelength_min=2 * np.pi / high, wavelength_max=2 * np.pi / low)

    def correlation_length(self, dimensions: int = 3) -> float:
        r"""One-sided correlation length of turbulence with this spectrum.

        .. math:: L = \int_0^\infty \frac{\langle \delta B(0) \cdot \delta B(r) \rangle}
                  {\langle \delta B^2 \rangle} dr = \frac{\pi}{2} \langle 1/k \rangle, \quad \langle 1/k \rangle,
                  \quad \frac{\pi}{2} \frac{E(0)}{\int E dk}

        in three dimensions (isotropic), in two (r in the plane of the wave vectors) and in one (slab, r along them);
        the mean is weighted with E(k). The two-point functions are the means of sin(kr)/kr, :math:`J_0(kr)` and
        cos(kr). Harari's two-sided length is twice this.

        Parameters
        ----------
        dimensions : int
            3, 2 or 1. In one dimension E(0) is taken at k_min: it is what the integral comes to at distances between
            the bend and the outer scale, beyond which the correlation oscillates. It is finite for
            `large_scale_index` 0, and next to nothing for 2.

        Raises
        ------
        ValueError
            If `dimensions` is none of these, or is 1 and the spectrum has no bend.
        """
        if dimensions not in (1, 2, 3):
            raise ValueError(f"dimensions {dimensions}: expected 3 (isotropic), 2, or 1 (slab)")
        if dimensions == 1:
            if self.bend_over is None:
                raise ValueError(
                    "the correlation of slab turbulence without a bend only oscillates: give bend_over"
                )
            density = float(self.energy_per_log_k(self.k_min)) / self.k_min
            return 0.5 * np.pi * density / self.energy_between(self.k_min, self.k_max)
        log_k = np.linspace(np.log(self.k_min), np.log(self.k_max), NODES)
        energy = self.energy_per_log_k(np.exp(log_k))
        mean = float(np.trapezoid(energy * np.exp(-log_k), log_k) / np.trapezoid(energy, log_k))
        return 0.5 * np.pi * mean if dimensions == 3 else mean
