"""Turbulent fields as sums of plane waves with random directions, polarisations and phases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

FloatArray = NDArray[np.float64]


def isotropic_waves(
    spectrum: TurbulenceSpectrum, *, modes: int, rms: float = 1.0, rng: np.random.Generator
) -> MagneticField:
    r"""Return isotropic three-dimensional turbulence, ASTRA Eqs. (10) and (11).

    .. math:: \delta B(r) = \sum_n A_n (\hat a_n \cos\alpha_n + \hat b_n \sin\alpha_n) \cos(k_n \cdot r + \beta_n),
              \qquad A_n^2 = 2 \langle \delta B^2 \rangle \frac{G_n}{\sum G},

    with wavenumbers at the centres of `modes` equal logarithmic intervals between the inner and the outer scale (the
    papers' grid, which starts at k_min, ends one interval below k_max), directions of k_n uniform on the sphere,
    polarisation and phase uniform. G_n is k E(k). The mean square over space is `rms` squared in every realisation.

    Parameters
    ----------
    spectrum : TurbulenceSpectrum
        Energy spectrum; its unit of length is that of the field.
    modes : int
        Number of waves. Too few for a decade scatter too weakly at low rigidity (see `docs/turbulence.md`).
    rms : float
        Root of the mean square of the field, in the unit of the field.
    rng : numpy.random.Generator
        Source of directions, polarisations and phases.

    Raises
    ------
    ValueError
        If `modes` is below 1 or `rms` is negative.
    """
    if modes < 1:
        raise ValueError(f"modes {modes}: expected at least 1")
    if not rms >= 0:
        raise ValueError(f"rms {rms}: expected a field strength that is not negative")
    edges = np.linspace(np.log(spectrum.k_min), np.log(spectrum.k_max), modes + 1)
    k = np.exp(0.5 * (edges[1:] + edges[:-1]))
    energy = spectrum.energy_per_log_k(k)
    size = rms * np.sqrt(2 * energy / energy.sum())
    cosine, azimuth, polarisation, phase = rng.uniform(size=(4, modes))
    cosine, azimuth = 2 * cosine - 1, 2 * np.pi * azimuth
    sine = np.sqrt(1 - cosine**2)
    unit = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine])
    # Two unit vectors perpendicular to k: the azimuthal one, and its product with k. Defined for k along z too.
    a = np.stack([np.sin(azimuth), -np.cos(azimuth), np.zeros(modes)])
    b = np.cross(unit, a, axis=0)
    turn = 2 * np.pi * polarisation
    amplitude = size * (a * np.cos(turn) + b * np.sin(turn))
    return MagneticField(waves=PlaneWaves(k * unit, amplitude, 2 * np.pi * phase))
