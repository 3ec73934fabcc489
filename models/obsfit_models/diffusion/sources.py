r"""Density and gradient that bursts of particles make by diffusion, and their sum over sources.

A burst releases its particles at one point at one time; Eq. (54) of AM17 is their density later. Only the
symmetric part of a tensor counts here: the diffusion equation does not see the antisymmetric part of a uniform
tensor, and Eq. (6) of A14, which prints the full tensor, is neither a solution nor normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy import constants, units
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.sky.directions import direction_entry

FloatArray = NDArray[np.float64]

LIGHT_PC_PER_YR = float(constants.c.to_value(units.pc / units.yr))


@dataclass(frozen=True)
class BurstSource:
    """A source that released all its particles at once.

    Attributes
    ----------
    name : str
        For messages and tables.
    direction : sequence of 3 floats
        Where it is seen, ICRS (0h, 6h, N); its length does not matter.
    distance_pc, age_yr : float
        Distance, and time since the release.
    weight : float
        Number of particles released, relative to the other sources of the same model.

    Raises
    ------
    ValueError
        If the distance, age or weight is not above zero.

    Examples
    --------
    >>> vela = BurstSource("vela", (-0.4346, 0.5456, -0.7165), distance_pc=300.0, age_yr=11e3)
    >>> round(vela.isotropic_dipole, 4)
    0.1334
    """

    name: str
    direction: Sequence[float]
    distance_pc: float
    age_yr: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        for label, value in (("distance", self.distance_pc), ("age", self.age_yr), ("weight", self.weight)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{label} {value} of source {self.name}: expected a finite number above zero")

    @property
    def is_causal(self) -> bool:
        """Whether light released with the particles has arrived; if not, the density here is zero."""
        return self.distance_pc <= LIGHT_PC_PER_YR * self.age_yr

    @property
    def isotropic_dipole(self) -> float:
        r"""Dipole of this source's own particles under isotropic diffusion, :math:`3r/2ct`, towards the source.

        Independent of the diffusivity. Diffusion holds where this number is well below one: at the edge of the
        light cone the formula gives 3/2, and a pure dipole above one has negative intensities.
        """
        return 1.5 * self.distance_pc / (LIGHT_PC_PER_YR * self.age_yr)


def named_source(name: str) -> BurstSource:
    """Return a source of the table of directions, with its distance and age.

    Parameters
    ----------
    name : str
        For example ``"vela"``: 300 pc and 11 kyr (section 3.3 of AM17).

    Raises
    ------
    ConfigurationError
        If the table has no such entry, or the entry has no distance or age.

    Examples
    --------
    >>> named_source("vela").distance_pc
    300.0
    """
    entry = direction_entry(name)
    if entry.distance is None or entry.age is None:
        raise ConfigurationError(
            f"direction {name!r} is no source: it has no distance or no age",
            value=name,
            expected='an entry with both, such as "vela"',
            remedy="Give a BurstSource with your own numbers.",
        )
    x, y, z = (float(component) for component in entry.vector)
    return BurstSource(
        entry.name, (x, y, z), float(entry.distance.to_value(units.pc)), float(entry.age.to_value(units.yr))
    )


def log_green_function(tensor: ArrayLike, displacement: ArrayLike, time: ArrayLike) -> FloatArray:
    r"""Return the logarithm of the density of a burst of one particle, shape (...): Eq. (54) of AM17.

    .. math:: \ln\phi = -\tfrac{1}{4t}\, r^T (K^s)^{-1} r - \tfrac32\ln(4\pi t) - \tfrac12\ln\det K^s

    Any consistent units. Minus infinity at t <= 0. Diffusion knows no speed of light: where the displacement
    exceeds ct this is the (wrong) tail of a Gaussian, see `burst_log_density`.

    Parameters
    ----------
    tensor : array_like, shape (..., 3, 3)
        Diffusion tensor; its symmetric part is used.
    displacement : array_like, shape (..., 3)
        Position of the observer relative to the source.
    time : array_like, shape (...)
        Time since the release.

    Raises
    ------
    ValueError
        If the symmetric part is not positive definite.

    Examples
    --------
    >>> float(np.exp(log_green_function(np.eye(3) / (4 * np.pi), np.zeros(3), 1.0)).round(12))
    1.0
    """
    symmetric = _positive_symmetric(tensor)
    position = np.asarray(displacement, dtype=np.float64)
    age = np.asarray(time, dtype=np.float64)
    elapsed = np.where(age > 0, age, 1.0)
    exponent = np.sum(position * _solve(symmetric, position), axis=-1) / (4 * elapsed)
    log_det = np.linalg.slogdet(symmetric)[1]
    density = -exponent - 1.5 * np.log(4 * np.pi * elapsed) - 0.5 * log_det
    return np.asarray(np.where(age > 0, density, -np.inf))


def burst_log_density(
    tensor: ArrayLike, displacement: ArrayLike, time: ArrayLike, *, light_speed: float
) -> FloatArray:
    """Return `log_green_function` inside the light cone, shape (...); beyond r = c t minus infinity, no density.

    The cut is not a solution of anything: it only refuses particles that no causal transport could have brought.
    The density inside is not raised to make up for it.

    Parameters
    ----------
    tensor, displacement, time
        As `log_green_function`.
    light_speed : float
        In the same units, for example `LIGHT_PC_PER_YR`.
    """
    position = np.asarray(displacement, dtype=np.float64)
    arrived = np.linalg.norm(position, axis=-1) <= light_speed * np.asarray(time, dtype=np.float64)
    return np.asarray(np.where(arrived, log_green_function(tensor, position, time), -np.inf))


def burst_gradient(tensor: ArrayLike, displacement: ArrayLike, time: ArrayLike) -> FloatArray:
    r"""Return the gradient of the logarithm of a burst's density, shape (..., 3): :math:`-(K^s)^{-1} r/2t`.

    By Fick's law, :math:`\delta = -(3/2t)\, K (K^s)^{-1} r`: for isotropic diffusion :math:`3r/2ct` towards the
    source, whatever the diffusivity.

    Parameters
    ----------
    tensor, displacement, time
        As `log_green_function`; times above zero.

    Raises
    ------
    ValueError
        If a time is not above zero, or the symmetric part of the tensor is not positive definite.

    Examples
    --------
    >>> float(burst_gradient(np.eye(3), [0.0, 0.0, 2.0], 1.0)[2])
    -1.0
    """
    age = np.asarray(time, dtype=np.float64)
    if not np.all(age > 0):
        raise ValueError(f"time {age}: expected above zero; a burst has no density before its release")
    return np.asarray(-_solve(_positive_symmetric(tensor), displacement) / (2 * age[..., None]))


def total_gradient(log_density: ArrayLike, gradient: ArrayLike) -> FloatArray:
    r"""Return the gradient of the logarithm of a sum of densities, shape (..., 3).

    .. math:: \nabla\ln n = \sum_i \frac{n_i}{n} \nabla\ln n_i

    so that dipoles add with the weights :math:`n_i/n`. A smooth background is one more density.

    Parameters
    ----------
    log_density : array_like, shape (..., n_source)
        Logarithms of the densities; minus infinity for a source that contributes nothing.
    gradient : array_like, shape (..., n_source, 3)
        Gradients of those logarithms.

    Raises
    ------
    ModelDomainError
        If all densities vanish: the gradient of nothing is not defined.

    Examples
    --------
    >>> total_gradient([np.log(3.0), 0.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    array([0.75, 0.25, 0.  ])
    """
    logs = np.asarray(log_density, dtype=np.float64)
    if not np.all(np.isfinite(np.max(logs, axis=-1))):
        raise ModelDomainError(
            "the density of all sources together is zero or not finite, so that it has no gradient",
            value=log_density,
            expected="at least one source inside its light cone",
            remedy="Add a background, or an older or nearer source.",
        )
    return np.asarray(np.sum(softmax(logs, axis=-1)[..., None] * np.asarray(gradient, dtype=np.float64), axis=-2))


def _positive_symmetric(tensor: ArrayLike) -> FloatArray:
    array = np.asarray(tensor, dtype=np.float64)
    symmetric = 0.5 * (array + np.swapaxes(array, -1, -2))
    if not np.all(np.linalg.eigvalsh(symmetric) > 0):
        raise ValueError(
            "the symmetric part of the diffusion tensor is not positive definite: expected diffusion in all three "
            "directions; a burst in a tensor that diffuses along the field only stays on its field line"
        )
    return symmetric


def _solve(symmetric: FloatArray, vector: ArrayLike) -> FloatArray:
    column = np.asarray(vector, dtype=np.float64)[..., None]
    return np.asarray(np.linalg.solve(symmetric, column)[..., 0])
