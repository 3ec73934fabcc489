"""What a model offers: parameters, and one method for each kind of prediction that it can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import PluginError
from obsfit.parameters import Parameter
from obsfit.records.true_sky import TrueSky

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Array = TypeVar("Array", FloatArray, ComplexArray)


@runtime_checkable
class Model(Protocol):
    """A model of the true sky. It offers at least one of `dipole`, `c_ell`, `alm` and `draws`."""

    @property
    def name(self) -> str:
        """Name under which the entry point registers it."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the columns of theta."""


@runtime_checkable
class OffersDipole(Protocol):
    """A model that predicts a dipole vector."""

    def dipole(self, theta: FloatArray, rigidity_tv: FloatArray) -> FloatArray:
        """Return (delta_0h, delta_6h, delta_N), shape (n_vec, n_rig, 3), for theta (n_vec, n_par)."""


@runtime_checkable
class OffersPower(Protocol):
    """A model that predicts the power of an isotropic Gaussian sky."""

    def c_ell(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> FloatArray:
        """Return C_l between rigidities, shape (n_vec, n_rig, n_rig, lmax + 1), with C_0 = 0."""


@runtime_checkable
class OffersAlm(Protocol):
    """A model that predicts a fixed sky."""

    def alm(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> ComplexArray:
        """Return a_lm in healpy order, shape (n_vec, n_rig, n_alm)."""


@runtime_checkable
class OffersDraws(Protocol):
    """A model whose skies are realisations of an ensemble that need not be Gaussian or isotropic."""

    def draws(
        self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int, size: int, *, rng: np.random.Generator
    ) -> ComplexArray:
        """Return a_lm of `size` realisations, shape (n_vec, size, n_rig, n_alm)."""


@dataclass(frozen=True)
class EnsembleSummary:
    """What a run of `OffersEnsemble` made, in short.

    Attributes
    ----------
    path : Path
        The product.
    facts : mapping of str to int, float, str or None
        What was made, for example the number of realisations; None where it is not known.
    rows : tuple of mapping
        A table of results, with the same keys in each row; None where a number is not known.
    """

    path: Path
    facts: Mapping[str, float | int | str | None]
    rows: tuple[Mapping[str, float | int | str | None], ...]


@runtime_checkable
class OffersEnsemble(Protocol):
    """A model that computes the ensemble of which its draws are taken; ``obsfit ensemble`` runs it."""

    @property
    def ensemble_settings(self) -> type[Any]:
        """Frozen dataclass of the settings of an ensemble: the keys of its configuration."""

    def run_ensemble(
        self,
        settings: Any,
        *,
        base: Path,
        workers: int,
        scheduler: str | None,
        progress: bool,
        overwrite: bool,
    ) -> EnsembleSummary:
        """Compute an ensemble and write its product, to a place relative to `base`; resumable.

        `workers`, `scheduler` and `progress` are those of `obsfit.execute.run_tasks`; the numbers do not depend on
        them. Settings that make no sense, and a product that is there and not to be overwritten, are refused before
        anything is computed.
        """


@runtime_checkable
class OffersSimulations(Protocol):
    """A model with a store of simulated fields, each with values of its own for some of the parameters.

    What a likelihood cannot be written down for is learnt from such a store, see `obsfit.emulate`.
    """

    @property
    def fields(self) -> int:
        """Number of independent fields in the store."""

    def field_theta(self, field: int, size: int, *, rng: np.random.Generator) -> FloatArray:
        """Return parameter vectors (size, n_par): the field's own values where it has them, else draws of the prior.

        The right ascension of a preferred direction, if there is one, is zero: data are turned by it instead.
        """

    def field_skies(
        self, field: int, theta: FloatArray, lmax: int, *, rng: np.random.Generator
    ) -> tuple[FloatArray, ComplexArray]:
        """Return rigidities in TV, shape (size, n_band), and a_lm of one field there, shape (size, n_band, n_alm).

        Each sky is the average over a band of rigidity about its node; nodes increase. What theta leaves open, such
        as the angle of the field about its axis, is drawn.
        """


def dipole_alm(dipole: FloatArray, lmax: int = 1) -> ComplexArray:
    r"""a_lm in healpy order, shape (..., n_alm), of dipole vectors of shape (..., 3).

    :math:`a_{11} = \sqrt{2\pi/3}(-\delta_{0h} + i\delta_{6h})`, :math:`a_{10} = \sqrt{4\pi/3}\,\delta_N`: the
    inverse of Eq. (18) of AM17 with its factor for a_10 corrected.

    Examples
    --------
    >>> dipole_alm(np.array([0.0, 0.0, 1.0])).round(6)
    array([0.      +0.j, 2.046653+0.j, 0.      +0.j])
    """
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: a dipole needs lmax >= 1")
    alm = np.zeros((*dipole.shape[:-1], (lmax + 1) * (lmax + 2) // 2), dtype=np.complex128)
    alm[..., 1] = np.sqrt(4 * np.pi / 3) * dipole[..., 2]
    alm[..., lmax + 1] = np.sqrt(2 * np.pi / 3) * (-dipole[..., 0] + 1j * dipole[..., 1])
    return alm


def true_sky(model: Model, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> TrueSky:
    """Return the distribution of the true sky that a model predicts, from all that it offers but draws.

    Parameters
    ----------
    model : Model
        Offers at least one of `dipole`, `alm`, `c_ell`.
    theta : ndarray, shape (n_vec, n_par)
        Parameter vectors.
    rigidity_tv : ndarray, shape (n_rig,)
        Rigidities in TV.
    lmax : int
        Largest multipole wanted.

    Raises
    ------
    PluginError
        If the model offers nothing, or returns an array of the wrong shape.
    """
    n_vec, n_rig = theta.shape[0], rigidity_tv.size
    fixed: ComplexArray | None = None
    power: FloatArray | None = None
    if isinstance(model, OffersDipole):
        vector = _shaped(model, "dipole", model.dipole(theta, rigidity_tv), (n_vec, n_rig, 3))
        fixed = dipole_alm(vector, lmax)
    if isinstance(model, OffersAlm):
        n_alm = (lmax + 1) * (lmax + 2) // 2
        alm = _shaped(model, "alm", model.alm(theta, rigidity_tv, lmax), (n_vec, n_rig, n_alm))
        fixed = alm if fixed is None else fixed + alm
    if isinstance(model, OffersPower):
        shape = (n_vec, n_rig, n_rig, lmax + 1)
        power = _shaped(model, "c_ell", model.c_ell(theta, rigidity_tv, lmax), shape)
    if fixed is None and power is None:
        raise PluginError(
            f"model {model.name!r} offers none of dipole, alm and c_ell",
            expected="at least one of them with the signature of obsfit.protocols",
        )
    return TrueSky(rigidity_tv, fixed, power)


def _shaped(model: Model, method: str, array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise PluginError(
            f"model {model.name!r}: {method} returned shape {array.shape}",
            expected=f"shape {shape}",
            remedy="The leading axis is the parameter vector, then rigidity.",
        )
    return array
