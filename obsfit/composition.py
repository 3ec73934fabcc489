"""Sums of models: the parts of several models add, for there is one sky."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import PluginError
from obsfit.parameters import Parameter
from obsfit.protocols import Model, OffersAlm, OffersDipole, OffersPower, dipole_alm

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class Sum:
    """The parameters of several models, side by side; made by `add_models`.

    Attributes
    ----------
    models : tuple of Model
        The parts, in the order of their columns in theta.
    """

    models: tuple[Model, ...]

    @property
    def name(self) -> str:
        """Names of the parts, joined by plus signs."""
        return " + ".join(model.name for model in self.models)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of all parts; a name that two parts share is prefixed by the name of its model.

        Raises
        ------
        PluginError
            If a name is still not unique, for example because a model is added to itself.
        """
        times = Counter(parameter.name for model in self.models for parameter in model.parameters)
        parameters = tuple(
            parameter if times[parameter.name] == 1 else replace(parameter, name=_prefixed(model, parameter))
            for model in self.models
            for parameter in model.parameters
        )
        unique = Counter(parameter.name for parameter in parameters)
        repeated = sorted(name for name, count in unique.items() if count > 1)
        if repeated:
            raise PluginError(
                f"the sum {self.name!r} has several parameters of the same name: {', '.join(repeated)}",
                expected="models of different names where their parameters share a name",
                remedy="Wrap one of them in a model of another name.",
            )
        return parameters

    def parts(self, theta: FloatArray) -> Iterator[tuple[Model, FloatArray]]:
        """Yield each model with its own columns of theta, shape (n_vec, n_par of that model)."""
        if theta.shape[-1] != len(self.parameters):
            raise ValueError(
                f"theta of shape {theta.shape}: expected {len(self.parameters)} columns for {self.name!r}"
            )
        start = 0
        for model in self.models:
            stop = start + len(model.parameters)
            yield model, theta[:, start:stop]
            start = stop


class _Fixed(Sum):
    def alm(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> ComplexArray:
        """Return the sum of the fixed skies of all parts, dipoles included, shape (n_vec, n_rig, n_alm)."""
        skies = []
        for model, own in self.parts(theta):
            if isinstance(model, OffersDipole):
                skies.append(dipole_alm(model.dipole(own, rigidity_tv), lmax))
            if isinstance(model, OffersAlm):
                skies.append(model.alm(own, rigidity_tv, lmax))
        # Stacking refuses parts of different shapes, which adding would broadcast.
        return np.asarray(np.sum(np.stack(skies), axis=0))


class _Power(Sum):
    def c_ell(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> FloatArray:
        """Return the sum of the powers of all parts, shape (n_vec, n_rig, n_rig, lmax + 1)."""
        powers = [
            model.c_ell(own, rigidity_tv, lmax)
            for model, own in self.parts(theta)
            if isinstance(model, OffersPower)
        ]
        return np.asarray(np.sum(np.stack(powers), axis=0))


class FixedSum(_Fixed):
    """A sum of models that predict fixed skies; it offers `alm`, into which dipoles are folded."""


class PowerSum(_Power):
    """A sum of models that predict isotropic Gaussian skies; it offers `c_ell`."""


class FixedAndPowerSum(_Fixed, _Power):
    """A sum of models that predict fixed and isotropic Gaussian skies; it offers `alm` and `c_ell`."""


def add_models(*models: Model) -> Sum:
    """Return the model whose sky is the sum of the skies of `models`.

    Its parameters are those of all parts, in order. It offers `alm` where a part offers `alm` or `dipole` (dipoles
    become a_lm, so that none is counted twice) and `c_ell` where a part offers that: random parts are independent,
    so their powers add. What `obsfit.protocols.true_sky` makes of the sum is the sum of what it makes of the parts.

    Parameters
    ----------
    *models : Model
        At least one. Each offers `dipole`, `alm` or `c_ell`.

    Raises
    ------
    PluginError
        If a model offers none of the three (draws of an ensemble do not add through this function: add their
        `TrueSky`), or if parameter names cannot be made unique.
    ValueError
        If there is no model.

    Examples
    --------
    >>> from obsfit.plugins import load_model
    >>> both = add_models(load_model("diffusive-dipole"), load_model("compton-getting"))
    >>> both.name, [parameter.name for parameter in both.parameters][-2:]
    ('diffusive-dipole + compton-getting', ['perpendicular_ratio', 'spectral_index'])
    """
    if not models:
        raise ValueError("no models to add: expected at least one")
    for model in models:
        if not isinstance(model, OffersDipole | OffersAlm | OffersPower):
            raise PluginError(
                f"model {model.name!r} offers none of dipole, alm and c_ell, and cannot be added",
                expected="a model with a fixed sky or a power spectrum",
                remedy="Draws of an ensemble add as TrueSky objects.",
            )
    fixed = any(isinstance(model, OffersDipole | OffersAlm) for model in models)
    power = any(isinstance(model, OffersPower) for model in models)
    total = (FixedAndPowerSum if fixed and power else FixedSum if fixed else PowerSum)(models)
    # Parameters are made here so that a clash of names is an error of the sum, not of its first use.
    _ = total.parameters
    return total


def _prefixed(model: Model, parameter: Parameter) -> str:
    prefix = model.name.replace(" + ", "_").replace("-", "_").replace(" ", "_")
    return f"{prefix}_{parameter.name}"
