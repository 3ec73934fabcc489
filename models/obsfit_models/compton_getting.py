"""The Compton-Getting anisotropy of an observer who moves through cosmic rays that are isotropic at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy import constants, units
from numpy.typing import NDArray
from scipy.stats import norm

from obsfit.parameters import Parameter
from obsfit.protocols import dipole_alm
from obsfit.sky.motion import compton_getting, compton_getting_multipoles, motion_beta
from obsfit_models._axial import axial_alm
from obsfit_models.diffusion.tensor import direction_of

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

_LIGHT_KM_PER_S = float(constants.c.to_value(units.km / units.s))
_SPECTRAL_INDEX = Parameter(
    "spectral_index",
    norm(2.7, 0.05),
    description="power of the differential spectrum, n(p) proportional to p^-Gamma",
    latex=r"\Gamma",
)


@dataclass(frozen=True)
class ComptonGetting:
    r"""Anisotropy :math:`\delta = (2 + \Gamma)\,\beta` of the observer's motion, Eq. (60) of AM17.

    The model offers `alm` alone. To first order that is a pure dipole; with `exact`, all orders of
    :math:`(1 - \beta\cdot n)^{-(2+\Gamma)}` follow, the dipole among them. A separate dipole would be counted twice.

    Domain of validity: a power law of one spectral index at all rigidities asked for, and a frame in which the
    cosmic rays are isotropic. Not identified: the speed and 2 + Gamma, of which only the product appears; take the
    spectral index from spectra, as its prior does.

    Parameters
    ----------
    motion : str or sequence of 3 floats
        "LSR", "ISM", "galactic-rotation", or the velocity (0h, 6h, N) in ICRS in km/s of the observer in the frame
        where the cosmic rays are isotropic.
    exact : bool
        All orders in the velocity. Slower, by one quadrature for each parameter vector, for a change of a
        few 1e-8 (second order in a velocity of 1e-4); it serves to show that the first order suffices.

    Raises
    ------
    ConfigurationError
        If the motion is unknown, or turns with the year.
    ValueError
        If the velocity has not three components, or is not below that of light.

    Examples
    --------
    >>> model = ComptonGetting("LSR")
    >>> alm = model.alm(np.array([[2.7]]), np.array([10.0]), lmax=1)
    >>> print(f"{np.sqrt(3 / (2 * np.pi)) * abs(alm[0, 0, 2]):.3e}")  # amplitude in the equatorial plane
    2.593e-04
    """

    motion: str | Sequence[float] = "LSR"
    exact: bool = False

    name = "compton-getting"
    parameters = (_SPECTRAL_INDEX,)

    def __post_init__(self) -> None:
        if self.beta.shape != (3,) or not np.linalg.norm(self.beta) < 1:
            raise ValueError(f"motion {self.motion}: expected three components in km/s, slower than light")

    @cached_property
    def beta(self) -> FloatArray:
        """Velocity of the observer in units of c, (0h, 6h, N), shape (3,)."""
        if isinstance(self.motion, str):
            return motion_beta(self.motion)
        return np.asarray(self.motion, dtype=np.float64) / _LIGHT_KM_PER_S

    def alm(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> ComplexArray:
        """Return a_lm in healpy order, shape (n_vec, n_rig, n_alm), the same at all rigidities.

        Parameters
        ----------
        theta : ndarray, shape (n_vec, 1)
            Spectral indices.
        rigidity_tv : ndarray, shape (n_rig,)
            Rigidities.
        lmax : int
            Largest multipole, at least 1.
        """
        index = theta[:, 0]
        speed = float(np.linalg.norm(self.beta))
        if self.exact and speed > 0:
            coefficients = np.stack([compton_getting_multipoles(speed, float(gamma), lmax) for gamma in index])
            fixed = axial_alm(direction_of(self.beta), coefficients)
        else:
            fixed = dipole_alm(compton_getting(self.beta, index), lmax)
        return np.repeat(fixed[:, None, :], rigidity_tv.size, axis=1)
