"""The interstellar anisotropy at the outer heliosphere: dipole and quadrupole along the field, and drifts across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import uniform

from obsfit.parameters import Parameter
from obsfit.sky.directions import named_direction
from obsfit_models._axial import axial_alm
from obsfit_models.diffusion.tensor import direction_of

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

_DIPOLE = Parameter(
    "log10_dipole",
    uniform(-5.0, 3.0),
    description="log10 of the amplitude of the dipole along the field",
    latex=r"\log_{10} A_\parallel",
)
_QUADRUPOLE = Parameter(
    "quadrupole",
    uniform(-2e-3, 4e-3),
    description="coefficient A_2 of P_2 of the cosine with the field, from pitch-angle scattering that is not uniform",
    latex=r"A_{2\parallel}",
)
_ACROSS = tuple(
    Parameter(
        f"gradient_{label}",
        uniform(-1e-5, 2e-5),
        unit="AU-1",
        description=f"gradient of the log density across the field, {meaning}",
        latex=rf"\partial_{{{symbol}}} \ln n",
    )
    for label, meaning, symbol in (
        ("east", "component towards north x field", "E"),
        ("north", "component towards field x (north x field)", "N"),
    )
)


@dataclass(frozen=True, eq=False)
class OuterHeliosphere:
    r"""Relative intensity that an interstellar anisotropy ordered by the field shows, section 4.1 of AM17.

    .. math:: \delta I(n) = 3\, n\cdot K\cdot\nabla\ln n_\mathrm{CR} + A_2 P_2(n\cdot\hat B)
                            + (r - r_\oplus)\cdot\nabla_\perp \ln n_\mathrm{CR}

    with diffusion along the field only: :math:`1/\nu_\perp \to 0` in Eq. (53) of AM17, and no Hall term, so that the
    first term is :math:`\pm A_\parallel\, n\cdot\hat B`. Here n is the *arrival* direction. The review writes the
    first term with :math:`+\hat p`; for :math:`\hat p` the direction of propagation, as in its Eq. (64), the sign is
    the opposite. The quadrupole does not see that sign.

    **No model of the heliosphere is included.** The last term needs :math:`r - r_\oplus`, the point where the
    particle that arrives from n entered, from trajectories traced back through a magnetohydrodynamic field. Give
    your own as `displacement_au`; without it the term is absent. Acceleration in electric fields and the deflection
    of the first two terms by the heliosphere are not modelled either: these are the anisotropies outside it.

    Domain of validity: displacements small against the length of the gradient; scattering inside the heliosphere
    neglected; every term small against one. Independent of rigidity, so ask it for a narrow band. Not identified:
    the components of the gradient along directions in which the displacement map has no anisotropy.

    Parameters
    ----------
    field : str or sequence of 3 floats
        Axis of the interstellar field: "ibex", "starlight", or a vector (0h, 6h, N).
    sense : {+1, -1}
        Whether the dipole points along the field as named or against it, that is the sign of
        :math:`\hat B\cdot\nabla n`.
    displacement_au : array_like, shape (3, n_pix), optional
        Vector :math:`r - r_\oplus` in AU, components (0h, 6h, N), for each *arrival* direction at Earth: a HEALPix
        map in RING order of the equatorial sky.

    Raises
    ------
    ConfigurationError
        If the name of the field is unknown.
    ValueError
        If the sense is not +1 or -1, or the displacement is no finite HEALPix map of three components.

    Examples
    --------
    >>> model = OuterHeliosphere()
    >>> [parameter.name for parameter in model.parameters]
    ['log10_dipole', 'quadrupole']
    >>> model.alm(np.array([[-3.0, 0.0]]), np.array([10.0]), lmax=1).round(5)
    array([[[ 0.     +0.j     , -0.00074+0.j     , -0.00089+0.00101j]]])
    """

    field: str | Sequence[float] = "ibex"
    sense: Literal[1, -1] = 1
    displacement_au: ArrayLike | None = None

    name = "outer-heliosphere"

    def __post_init__(self) -> None:
        if self.sense not in (1, -1):
            raise ValueError(f"sense {self.sense}: expected +1 (along the field) or -1 (against it)")
        _ = self.axis, self._displacement

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the columns of theta; the gradients only where there is a displacement."""
        return (_DIPOLE, _QUADRUPOLE, *(() if self._displacement is None else _ACROSS))

    @cached_property
    def axis(self) -> FloatArray:
        """Unit vector along the field (0h, 6h, N), shape (3,)."""
        return direction_of(named_direction(self.field) if isinstance(self.field, str) else self.field)

    @cached_property
    def transverse(self) -> FloatArray:
        """Unit vectors across the field, shape (2, 3): towards north x field, and field x (north x field).

        For a field along the pole, the first points to 0h.
        """
        east = np.cross([0.0, 0.0, 1.0], self.axis)
        # Within an arc second of the pole that product is noise.
        if np.linalg.norm(east) < 5e-6:
            east = np.array([1.0, 0.0, 0.0]) - self.axis[0] * self.axis
        east = direction_of(east)
        return np.stack([east, np.cross(self.axis, east)])

    def alm(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> ComplexArray:
        """Return a_lm in healpy order, shape (n_vec, n_rig, n_alm), the same at all rigidities.

        The monopole of the displacement term is dropped: a relative intensity has none.

        Parameters
        ----------
        theta : ndarray, shape (n_vec, n_par)
            Parameter vectors, columns as `parameters`.
        rigidity_tv : ndarray, shape (n_rig,)
            Rigidities.
        lmax : int
            Largest multipole, at least 1; the displacement has none above 2 n_side.
        """
        if lmax < 1:
            raise ValueError(f"lmax {lmax}: expected 1 or more")
        coefficients = np.zeros((theta.shape[0], lmax + 1))
        coefficients[:, 1] = self.sense * np.exp(np.log(10.0) * theta[:, 0])
        if lmax >= 2:
            coefficients[:, 2] = theta[:, 1]
        fixed = axial_alm(self.axis, coefficients)
        if self._drift is not None:
            full = hp.Alm.getlmax(self._drift.shape[1])
            drift = np.stack([hp.resize_alm(part, full, full, lmax, lmax) for part in self._drift])
            fixed = fixed + theta[:, 2:4] @ drift
        return np.repeat(fixed[:, None, :], rigidity_tv.size, axis=1)

    @cached_property
    def _drift(self) -> ComplexArray | None:
        """a_lm of the displacement along each transverse vector, shape (2, n_alm), without their monopoles."""
        if self._displacement is None:
            return None
        # Above l = 2 n_side the iterated analysis of a HEALPix map no longer converges to rounding.
        lmax = 2 * hp.npix2nside(self._displacement.shape[1])
        alm = np.stack([hp.map2alm(sky, lmax=lmax, iter=10) for sky in self.transverse @ self._displacement])
        alm[:, 0] = 0.0
        return alm

    @cached_property
    def _displacement(self) -> FloatArray | None:
        if self.displacement_au is None:
            return None
        maps = np.asarray(self.displacement_au, dtype=np.float64)
        if maps.ndim != 2 or maps.shape[0] != 3 or not hp.isnpixok(maps.shape[1]):
            raise ValueError(f"displacement of shape {maps.shape}: expected (3, n_pix) with n_pix = 12 nside^2")
        if not np.all(np.isfinite(maps)):
            raise ValueError(
                f"displacement has {np.count_nonzero(~np.isfinite(maps))} values that are not finite: expected a map "
                "of the full sky; trajectories that did not leave must be filled in first"
            )
        return maps
