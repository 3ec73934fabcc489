"""Turbulent displacement: skies that one gradient of the density makes in realisations of the local turbulence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray
from scipy.stats import anglit, uniform

from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.parameters import Parameter
from obsfit.protocols import EnsembleSummary
from obsfit.sky.harmonics import truncated_alm
from obsfit_models.turbulence.ensemble import EnsembleSettings, make_ensemble, positive_quantity
from obsfit_models.turbulence.library import SkyLibrary, read_library
from obsfit_models.turbulence.units import rigidity_of

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

TOLERANCE = 0.02
"""Largest relative difference between a rigidity that is asked for and one of the library."""
SHIPPED = "library.h5"

# scipy's anglit with scale 2 has density cos(x) / 2: directions all over the sphere are equally likely.
_PARAMETERS = (
    Parameter(
        "log10_gradient", uniform(-5.0, 4.0), unit="",
        description="log10 of the relative gradient of the density per parsec, the same for all rigidities",
        latex=r"\log_{10} |\nabla n| / n",
    ),
    Parameter(
        "gradient_angle", anglit(0.5 * np.pi, 2.0), unit="rad",
        description="angle between the gradient of the density and the mean field",
        latex=r"\theta_\nabla",
    ),
    Parameter(
        "field_right_ascension", uniform(0.0, 2.0 * np.pi), unit="rad",
        description="right ascension towards which the mean field points", latex=r"\alpha_B",
    ),
    Parameter(
        "field_declination", anglit(0.0, 2.0), unit="rad",
        description="declination towards which the mean field points", latex=r"\delta_B",
    ),
    Parameter(
        "gradient_roll", uniform(0.0, 2.0 * np.pi), unit="rad",
        description="angle by which the gradient is turned about the mean field, from south towards east",
        latex=r"\psi_\nabla",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class TurbulentDisplacement:
    r"""Skies of a density gradient seen through turbulence, drawn from an ensemble of fields.

    The relative intensity from a direction is that of the place where its particles came from, in one of many
    turbulent fields through which they were tracked before. By Liouville's theorem

    .. math:: \delta I(n) = r_i(n; T)\, \partial_i \ln n_\mathrm{CR},

    Eq. (7) of ASTRA before averaging, with r_i(n; T) from a library of back-tracked fields (`obsfit ensemble`). A draw
    takes one field at random for all rigidities, turned about the mean field by a random angle, for the turbulence
    prefers none; it turns the mean field to its place in the sky, and takes out the monopole. Draws are neither
    Gaussian nor isotropic: they serve mocks and operators, and no likelihood of moments.

    The gradient is per parsec, not per gyroradius: it belongs to the sources, which are the same for all rigidities;
    per gyroradius it would change with the rigidity, and correlations between rigidities would be lost.

    Parameters
    ----------
    library : Path or str, optional
        Product of ``obsfit ensemble``, or a library cut from one. Default: the library that is shipped.
    field_strength : str
        Strength of the field of strength 1, that is of the mean field. Empty: that of the library's configuration,
        or 3 uG.
    length_unit : str
        Unit of length of the library, there the bend-over length of the spectrum. Empty: that of the library's
        configuration, or 10 pc.
    mean_free_paths : float
        Time of back-tracking in mean free times, see `library.cut_library`.

    Notes
    -----
    Valid for gradients that change little over the path, tens to hundreds of gyroradii. Rigidities are those of the
    library, which field strength and length turn into volts: at 3 uG and 10 pc, 2.8, 0.83 and 0.28 PV for gyroradii of
    0.1, 0.03 and 0.01. Small scales are those of the time of back-tracking, they do not become stationary.
    """

    library: Path | str | None = None
    field_strength: str = ""
    length_unit: str = ""
    mean_free_paths: float = 8.0

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return "turbulent-displacement"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Size and direction of the gradient, and direction of the mean field."""
        return _PARAMETERS

    @property
    def ensemble_settings(self) -> type[Any]:
        """Settings of an ensemble, see `ensemble.EnsembleSettings`."""
        return EnsembleSettings

    def run_ensemble(
        self,
        settings: EnsembleSettings,
        *,
        base: Path,
        workers: int,
        scheduler: str | None,
        progress: bool,
        overwrite: bool,
    ) -> EnsembleSummary:
        """Compute an ensemble, as `ensemble.make_ensemble`; what this model was constructed with does not enter."""
        return make_ensemble(
            settings, base=base, workers=workers, scheduler=scheduler, progress=progress, overwrite=overwrite
        )

    @cached_property
    def skies(self) -> SkyLibrary:
        """The library, read at its first use.

        Raises
        ------
        ConfigurationError
            If none is given and none is shipped.
        DataFormatError, ModelDomainError
            As `library.read_library`.
        """
        if self.library is not None:
            return read_library(self.library, mean_free_paths=self.mean_free_paths)
        resource = files("obsfit_models.turbulence") / SHIPPED
        if not resource.is_file():
            raise ConfigurationError(
                "turbulent-displacement: no library is given, and none is shipped",
                expected="library, the product of 'obsfit ensemble'",
                remedy="Make one with 'obsfit ensemble', and give its path.",
            )
        with as_file(resource) as path:
            return read_library(path, mean_free_paths=self.mean_free_paths)

    @property
    def rigidity_tv(self) -> FloatArray:
        """Rigidities of the library in TV, in its order, shape (n_gyroradius,)."""
        strength, length = self._units
        return np.array(
            [rigidity_of(float(one), strength, length).to_value(u.TV) for one in self.skies.gyroradius]
        )

    def draws(
        self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int, size: int, *, rng: np.random.Generator
    ) -> ComplexArray:
        """Return a_lm of `size` realisations, shape (n_vec, size, n_rig, n_alm).

        Parameters
        ----------
        theta : ndarray, shape (n_vec, 5)
            Parameter vectors.
        rigidity_tv : ndarray, shape (n_rig,)
            Rigidities in TV, each within 2 % of one of the library.
        lmax : int
            Largest multipole, at most that of the library.
        size : int
            Number of realisations of each vector.
        rng : numpy.random.Generator
            Source of fields and of angles about the mean field.

        Raises
        ------
        ModelDomainError
            If the library has no such rigidity or multipole.
        """
        library, index = self.skies, self._matched(np.atleast_1d(rigidity_tv))
        if lmax > library.lmax:
            raise ModelDomainError(
                f"lmax {lmax}: the library ends at l = {library.lmax}", value=lmax,
                expected=f"at most {library.lmax}", remedy="Make a library with a larger lmax and nside.",
            )  # fmt: skip
        vectors = np.atleast_2d(np.asarray(theta, dtype=np.float64))
        field = rng.integers(library.alm.shape[0], size=(len(vectors), size))
        turn = rng.uniform(0.0, 2.0 * np.pi, size=(len(vectors), size))
        _, length = self._units
        parsec = library.gyroradius[index] * length.to_value(u.pc)
        maps = truncated_alm(library.alm, lmax)[:, index] * parsec[:, None, None]
        drawn = np.empty((len(vectors), size, index.size, hp.Alm.getsize(lmax)), dtype=np.complex128)
        for v, (log10_gradient, angle, longitude, latitude, roll) in enumerate(vectors):
            for s in range(size):
                # The field and its sky are turned by an angle about z, so the gradient is turned back by it.
                gradient = 10.0**log10_gradient * np.array(
                    [np.sin(angle) * np.cos(turn[v, s]), -np.sin(angle) * np.sin(turn[v, s]), np.cos(angle)]
                )
                alm = np.einsum("i,rik->rk", gradient, maps[field[v, s]])
                for r in range(index.size):
                    one = np.ascontiguousarray(alm[r])
                    hp.rotate_alm(one, turn[v, s] + roll, 0.5 * np.pi - latitude, longitude, lmax=lmax)
                    drawn[v, s, r] = one
        drawn[..., 0] = 0.0
        return drawn

    @cached_property
    def _units(self) -> tuple[u.Quantity, u.Quantity]:
        """Field strength and length, given, of the library, or usual ones."""
        made = self.skies.configuration
        strength = self.field_strength or made.get("field_strength") or "3 uG"
        length = self.length_unit or made.get("length_unit") or "10 pc"
        return positive_quantity(strength, u.uG, "field_strength"), positive_quantity(length, u.pc, "length_unit")

    def _matched(self, rigidity_tv: FloatArray) -> NDArray[np.int64]:
        held = self.rigidity_tv
        index = np.argmin(np.abs(np.log(np.abs(rigidity_tv)[:, None] / held)), axis=1)
        off = np.flatnonzero(~(np.abs(rigidity_tv / held[index] - 1.0) <= TOLERANCE))
        if off.size:
            raise ModelDomainError(
                f"rigidity {rigidity_tv[off[0]]:.4g} TV is none of the library", value=float(rigidity_tv[off[0]]),
                expected=f"one within 2 % of {', '.join(f'{one:.4g} TV' for one in np.sort(held))}",
                remedy="Choose another field_strength or length_unit, or make a library with that rigidity.",
            )  # fmt: skip
        return np.asarray(index, dtype=np.int64)
