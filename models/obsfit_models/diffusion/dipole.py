"""The diffusive dipole: a gradient made by isotropic diffusion on the large scale, seen through the local field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from astropy import constants, units
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import uniform

from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.parameters import Parameter
from obsfit.sky.directions import named_direction
from obsfit_models.diffusion.sources import BurstSource, named_source
from obsfit_models.diffusion.tensor import direction_of, field_tensor

FloatArray = NDArray[np.float64]
Direction = str | Sequence[float]
Source = str | BurstSource | Mapping[str, Any]

PIVOT_TV = 10.0
_NONE = "none"  # TOML has no null
_LIGHT_CM_PER_S = float(constants.c.to_value(units.cm / units.s))
_PC_IN_CM = float(units.pc.to(units.cm))
_YR_IN_S = float(units.yr.to(units.s))

_BACKGROUND = Parameter(
    "log10_background",
    uniform(-5.0, 3.0),
    description="log10 of the dipole that the smooth background alone has under isotropic diffusion at 10 TV",
    latex=r"\log_{10} A_\mathrm{bg}",
)
_INDEX = Parameter(
    "diffusion_index",
    uniform(0.1, 0.6),
    description="power of rigidity in the diffusivity",
    latex=r"\beta",
)
_FRACTION = Parameter(
    "log10_source_fraction",
    uniform(-4.0, 4.0),
    description="log10 of the share of the sources in the local density at 10 TV",
    latex=r"\log_{10} f_{10}",
)
_DIFFUSIVITY = Parameter(
    "log10_diffusivity",
    uniform(28.0, 3.0),
    description="log10 of the large-scale diffusivity at 10 TV in cm2/s",
    latex=r"\log_{10} K_{10}",
)
_PERPENDICULAR = Parameter(
    "perpendicular_ratio",
    uniform(0.0, 1.0),
    description="ratio of the local diffusivities across and along the field",
    latex=r"K_\perp / K_\parallel",
)


@dataclass(frozen=True)
class DiffusiveDipole:
    r"""Dipole of a smooth background and nearby bursts, projected by anisotropic diffusion in the local field.

    On the large scale, diffusion is isotropic with :math:`K(R) = K_{10} (R/10\,\mathrm{TV})^\beta`; it makes the
    density. Locally the field is ordered; it makes the dipole (section 3.3 of AM17):

    .. math::
        \delta(R) = 3 K_\mathrm{loc}\cdot\nabla\ln n, \qquad
        K_\mathrm{loc} = K(R)\,[\hat B\hat B + k_\perp(1 - \hat B\hat B) + k_A\,\epsilon\cdot\hat B]

    with :math:`\nabla\ln n = f\,\nabla\ln n_\mathrm{src} + (1-f)\,\nabla\ln n_\mathrm{bg}`. The large-scale K
    drops out of both products. For a burst, :math:`3K\nabla\ln n` is :math:`3d/2ct` towards it (Vela: 0.1334); for
    the background it is :math:`A_\mathrm{bg}(R/10\,\mathrm{TV})^\beta` towards `background`, by definition of
    :math:`A_\mathrm{bg}`. The diffusivity enters through the share f of the bursts alone. Background and bursts
    inject the same power of rigidity; the background has lost :math:`R^{-\beta}` by escape, so that

    .. math:: \frac{f}{1-f} = \frac{f_{10}}{1-f_{10}}
              \left(\frac{R}{10\,\mathrm{TV}}\right)^{\beta} \frac{G(R)}{G(10\,\mathrm{TV})}

    with G the Green's function, Eq. (54) of AM17, of :math:`K(R)`, summed over bursts with their weights.

    Domain of validity
        - Fick's law: the dipole is stationary over a scattering time and small, and the density varies little over
          a mean free path 3K/c (`mean_free_path_pc`). Diffusion from a burst at 300 pc means nothing where that
          path exceeds some tens of parsecs, as it does near 1 PV in the upper half of the prior of the diffusivity.
        - Causality: a burst beyond its light cone has no density here and is left out; a model that has only such
          bursts is refused. Inside, the Gaussian is used as it stands.
        - The field is uniform over a mean free path, k_perp and the Hall ratio do not depend on rigidity, and the
          fluctuation of one realisation of the turbulence about the mean dipole is ignored.
        - No Compton-Getting dipole is included: add `obsfit_models.compton_getting.ComptonGetting`.

    Not identified
        - The sign of the field: the dipole is quadratic in it (but for the Hall term).
        - At :math:`k_\perp = 0`, the directions of the gradients apart from their cosines with the field: the right
          ascension of the dipole is that of the field or its opposite, and only the amplitude and the rigidity of
          the flip carry information.
        - :math:`K_{10}` where it is so large that the Gaussian factor of G is one at all rigidities: then
          :math:`f/(1-f)` falls as :math:`R^{-\beta/2}`, whatever its value.
        - The background's amplitude and the share of the bursts separately, away from the rigidity of the flip.

    Parameters
    ----------
    field : str, sequence of 3 floats, or None
        Axis of the local field: "ibex", "starlight", a vector (0h, 6h, N) of any length, or None (in a file
        "none") for isotropic diffusion here too; then `perpendicular_ratio` is no parameter.
    source : str, BurstSource, mapping, sequence of them, or None
        Bursts by name, as objects, or as tables of the fields of `BurstSource`; None (in a file "none") or an empty
        sequence for the background alone; then neither the share nor the diffusivity is a parameter. Several share
        f in proportion to weight times Green's function.
    background : str or sequence of 3 floats
        Direction to which the density of the background rises.
    hall_ratio : float
        :math:`k_A = K_A/K_\parallel`, the Hall (drift) part of the local tensor.

    Raises
    ------
    ValueError
        If a vector is no direction, or the Hall ratio is not finite or is given without a field.
    ConfigurationError
        If a name is unknown, or a table is no description of a source.
    ModelDomainError
        If no source is inside its light cone.

    Examples
    --------
    >>> model = DiffusiveDipole()
    >>> [p.name for p in model.parameters]
    ['log10_background', 'diffusion_index', 'log10_source_fraction', 'log10_diffusivity', 'perpendicular_ratio']
    >>> theta = np.array([[-3.0, 1 / 3, -2.0, 29.5, 0.0]])
    >>> model.dipole(theta, np.array([10.0, 1000.0])).round(5)
    array([[[ 2.0e-05,  2.0e-05, -1.0e-05],
            [-6.6e-04, -7.5e-04,  3.9e-04]]])
    """

    field: Direction | None = "ibex"
    source: Source | Sequence[Source] | None = "vela"
    background: Direction = "galactic-centre"
    hall_ratio: float = 0.0

    name = "diffusive-dipole"

    def __post_init__(self) -> None:
        if not np.isfinite(self.hall_ratio):
            raise ValueError(f"hall_ratio {self.hall_ratio}: expected a finite number")
        if self._axis is None and self.hall_ratio != 0:
            raise ValueError(f"hall_ratio {self.hall_ratio} without a field: expected 0, or name a field")
        # Looking the names up now makes a wrong setting an error of the constructor.
        _ = self._background_direction, self.sources

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the columns of theta; those without effect in these settings are absent."""
        parameters = [_BACKGROUND, _INDEX]
        if self.sources:
            parameters += [_FRACTION, _DIFFUSIVITY]
        if self._axis is not None:
            parameters += [_PERPENDICULAR]
        return tuple(parameters)

    @cached_property
    def sources(self) -> tuple[BurstSource, ...]:
        """The bursts inside their light cones."""
        if self.source is None or self.source == _NONE:
            return ()
        given = (self.source,) if isinstance(self.source, str | BurstSource | Mapping) else self.source
        bursts = [_burst(entry) for entry in given]
        arrived = tuple(burst for burst in bursts if burst.is_causal)
        if bursts and not arrived:
            raise ModelDomainError(
                f"no source is inside its light cone: {', '.join(burst.name for burst in bursts)}",
                value=self.source,
                expected="a distance below the speed of light times the age",
                remedy="Use source=None for a background without sources.",
            )
        return arrived

    def dipole(self, theta: FloatArray, rigidity_tv: FloatArray) -> FloatArray:
        """Return (delta_0h, delta_6h, delta_N), shape (n_vec, n_rig, 3): the sum over sources, Eq. (56) of AM17.

        Parameters
        ----------
        theta : ndarray, shape (n_vec, n_par)
            Parameter vectors, columns as `parameters`.
        rigidity_tv : ndarray, shape (n_rig,)
            Rigidities, above zero.

        Raises
        ------
        ModelDomainError
            As `source_fraction`, and if a perpendicular diffusivity is negative.
        """
        log_ratio = _log_ratio(rigidity_tv)
        growth = self._column(theta, _INDEX)[:, None] * log_ratio
        background = np.exp(np.log(10.0) * self._column(theta, _BACKGROUND)[:, None] + growth)
        isotropic = background[..., None] * self._background_direction
        if self.sources:
            share = self.source_fraction(theta, rigidity_tv)
            isotropic = share @ self._source_dipoles + (1.0 - share.sum(axis=-1))[..., None] * isotropic
        if self._axis is None:
            return np.asarray(isotropic)
        across = self._column(theta, _PERPENDICULAR)
        if np.any(across < 0):
            raise ModelDomainError("a perpendicular diffusivity is negative", expected="perpendicular_ratio >= 0")
        local = field_tensor(self._axis, 1.0, across, self.hall_ratio)
        return np.asarray(isotropic @ np.swapaxes(local, -1, -2))

    def source_fraction(self, theta: FloatArray, rigidity_tv: FloatArray) -> FloatArray:
        """Return the share of each burst in the local density, shape (n_vec, n_rig, n_source); see `sources`.

        Safe in the far tail of the Green's function: only differences of logarithms are formed.

        Raises
        ------
        ModelDomainError
            If a share exceeds one or a rigidity is not above zero.
        """
        log_ratio = _log_ratio(rigidity_tv)
        log_fraction = np.log(10.0) * self._column(theta, _FRACTION)
        if np.any(log_fraction > 0):
            raise ModelDomainError("the share of the sources exceeds one", expected="log10_source_fraction <= 0")
        with np.errstate(divide="ignore"):
            # A share of one is a background of zero: log odds of plus infinity, which expit takes back to one.
            log_odds = log_fraction - np.log(-np.expm1(log_fraction))
        growth = self._column(theta, _INDEX)[:, None] * log_ratio
        each = self._log_green(theta, log_ratio)
        total = np.logaddexp.reduce(each, axis=-1)
        pivot = np.logaddexp.reduce(self._log_green(theta, np.zeros(1)), axis=-1)
        share = expit(log_odds[:, None] + growth + total - pivot)
        return np.asarray(share[..., None] * np.exp(each - total[..., None]))

    def mean_free_path_pc(self, theta: FloatArray, rigidity_tv: FloatArray) -> FloatArray:
        """Return the large-scale mean free path 3K/c in parsecs, shape (n_vec, n_rig).

        Where it is not small against the distance of a source, the model is used outside its domain.

        Raises
        ------
        ModelDomainError
            If the model has no sources: then it has no diffusivity.
        """
        if not self.sources:
            raise ModelDomainError(
                "a background without sources fixes no diffusivity", expected="at least one source"
            )
        log_k = np.log(10.0) * self._column(theta, _DIFFUSIVITY)[:, None]
        log_k = log_k + self._column(theta, _INDEX)[:, None] * _log_ratio(rigidity_tv)
        return np.asarray(3.0 * np.exp(log_k) / (_LIGHT_CM_PER_S * _PC_IN_CM))

    def _log_green(self, theta: FloatArray, log_ratio: FloatArray) -> FloatArray:
        """Return log of weight times Eq. (54) up to a constant, shape (n_vec, n_rig, n_source)."""
        # The tensor is a multiple of one, so that the general kernel of `sources` is not needed here.
        log_k = np.log(10.0) * self._column(theta, _DIFFUSIVITY)[:, None]
        log_k = log_k + self._column(theta, _INDEX)[:, None] * log_ratio
        return np.asarray(
            self._log_weights - 1.5 * log_k[..., None] - self._exponents_cm2_per_s * np.exp(-log_k)[..., None]
        )

    @cached_property
    def _log_weights(self) -> FloatArray:
        return np.array([np.log(burst.weight) - 1.5 * np.log(burst.age_yr) for burst in self.sources])

    @cached_property
    def _exponents_cm2_per_s(self) -> FloatArray:
        """Squared distance over four ages: over K, the exponent of the Gaussian."""
        return np.array(
            [(burst.distance_pc * _PC_IN_CM) ** 2 / (4 * burst.age_yr * _YR_IN_S) for burst in self.sources]
        )

    @cached_property
    def _source_dipoles(self) -> FloatArray:
        """Dipoles of the bursts under isotropic diffusion, shape (n_source, 3)."""
        return np.stack([burst.isotropic_dipole * direction_of(burst.direction) for burst in self.sources])

    @cached_property
    def _axis(self) -> FloatArray | None:
        # The type is asked first because a numpy vector does not compare with a string.
        if self.field is None or (isinstance(self.field, str) and self.field == _NONE):
            return None
        return _direction(self.field)

    @cached_property
    def _background_direction(self) -> FloatArray:
        return _direction(self.background)

    def _column(self, theta: FloatArray, parameter: Parameter) -> FloatArray:
        return theta[:, self.parameters.index(parameter)]


def _burst(source: Source) -> BurstSource:
    if isinstance(source, str):
        return named_source(source)
    if isinstance(source, BurstSource):
        return source
    try:
        return BurstSource(**source)
    except TypeError as error:
        raise ConfigurationError(
            f"{source!r} describes no source: {error}",
            value=source,
            expected="a name, or a table of name, direction, distance_pc, age_yr and, if not 1, weight",
        ) from error


def _direction(direction: Direction) -> FloatArray:
    return direction_of(named_direction(direction) if isinstance(direction, str) else direction)


def _log_ratio(rigidity_tv: FloatArray) -> FloatArray:
    if not np.all(rigidity_tv > 0):
        raise ModelDomainError(
            "rigidities must be above zero", value=rigidity_tv, expected="rigidities in TV, above zero"
        )
    return np.asarray(np.log(rigidity_tv / PIVOT_TV))
