"""The observation operator: linear in a_lm up to its summary, with its noise and its energy response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.operators.energy import EnergyResponse
from obsfit.records.true_sky import TrueSky, alm_index, alm_lmax

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class Components:
    """Summary by the dipole components (delta_0h, delta_6h) of each observation.

    Attributes
    ----------
    covariance : ndarray, shape (n_obs, 2, 2)
        Noise of the two components.
    """

    covariance: FloatArray


@dataclass(frozen=True)
class Power:
    """Summary by the power sum_m |a_lm|^2 / (2 l + 1) of each observation, at the multipoles `ell` (n_ell,)."""

    ell: NDArray[np.int64]


@dataclass(frozen=True)
class GaussianMoments:
    """Mean (n_vec, n_data) and covariance (n_vec, n_data, n_data) of the data; exact, not always Gaussian."""

    mean: FloatArray
    covariance: FloatArray


@dataclass(frozen=True)
class ObservationOperator:
    """What one analysis of one observatory's data can see of the true sky.

    Attributes
    ----------
    response : mapping m -> ndarray, shape (n_obs, l_out, l_in)
        Real response R_m of the observed a_lm to the true a_lm, l counted from 0. A missing m = 0 means that the
        analysis calibrates itself on its own data and cannot see a_l0.
    noise : mapping m -> ndarray, shape (n_obs, l_out, l_out)
        Covariance of the noise of the observed a_lm. For `Components` the noise stands in the summary instead,
        because errors of amplitude and phase differ and are not those of a circular a_11.
    energy : EnergyResponse
        True rigidities that each observation averages over.
    summary : Components or Power
        The numbers that are published.
    """

    response: Mapping[int, FloatArray]
    noise: Mapping[int, FloatArray]
    energy: EnergyResponse
    summary: Components | Power

    @property
    def lmax(self) -> int:
        """Largest true multipole that the operator asks for."""
        return next(iter(self.response.values())).shape[2] - 1

    @property
    def n_obs(self) -> int:
        """Number of observations (energies) in the data set."""
        return int(self.energy.weights.shape[0])

    def expect(self, sky: TrueSky) -> GaussianMoments:
        r"""Mean and covariance of the data, for each parameter vector of the sky.

        With :math:`S_m = R_m C R_m^T + N_m` and the fixed part :math:`b_m = R_m a_m`, the power has mean
        :math:`\sum_m (|b_m|^2 + \mathrm{diag}\, S_m) / (2\ell+1)` and covariance
        :math:`\sum_m (2 |S_m|^2 + 4\,\mathrm{Re}\, b_m^* S_m b_m) / (2\ell+1)(2\ell'+1)`, sums over all m of both
        signs. The dipole components are linear: their mean is that of b_1, their covariance that of S_1 plus noise.

        Raises
        ------
        ValueError
            If the sky is an ensemble given by draws: this operator assumes a fixed plus an isotropic Gaussian sky.
        """
        self._refuse_draws(sky)
        fixed = None if sky.alm is None else self._respond(sky.alm)
        n_vec = sky.n_vec
        if isinstance(self.summary, Components):
            n = self.n_obs
            mean = np.zeros((n_vec, n, 2)) if fixed is None else _components(fixed[1][..., 1])
            covariance = np.zeros((n_vec, n, 2, n, 2))
            covariance[:, range(n), :, range(n), :] = self.summary.covariance[:, None]
            if sky.c_ell is not None:
                # Real and imaginary part of a_11 carry half of its variance each.
                shared = 3.0 / (4.0 * np.pi) * self._signal(sky.c_ell, 1)[:, :, 1, :, 1]
                for axis in range(2):
                    covariance[:, :, axis, :, axis] += shared
            return GaussianMoments(mean.reshape(n_vec, 2 * n), covariance.reshape(n_vec, 2 * n, 2 * n))
        n_out = next(iter(self.response.values())).shape[1]
        mean = np.zeros((n_vec, self.n_obs, n_out))
        covariance = np.zeros((n_vec, self.n_obs, n_out, self.n_obs, n_out))
        for m in self.response:
            both_signs = 1.0 if m == 0 else 2.0
            s = np.zeros_like(covariance)
            if sky.c_ell is not None:
                s += self._signal(sky.c_ell, m)
            for obs in range(self.n_obs):
                s[:, obs, :, obs, :] += self.noise[m][obs]
            mean += both_signs * np.einsum("volol->vol", s)
            covariance += both_signs * 2.0 * s**2
            if fixed is not None:
                b = fixed[m]
                mean += both_signs * np.abs(b) ** 2
                covariance += both_signs * 4.0 * np.einsum("vol,volpk,vpk->volpk", b.conj(), s, b).real
        ell = self.summary.ell
        scale = 1.0 / (2.0 * ell + 1.0)
        n_data = self.n_obs * ell.size
        picked = covariance[:, :, ell][:, :, :, :, ell] * scale[:, None, None] * scale
        return GaussianMoments(
            (mean[:, :, ell] * scale).reshape(n_vec, n_data), picked.reshape(n_vec, n_data, n_data)
        )

    def observe(self, alm: ComplexArray) -> FloatArray:
        """Return the data of one given sky without noise, shape (..., n_data), for alm (..., n_rig, n_alm)."""
        return self._summarise(self._respond(alm))

    def draw(self, sky: TrueSky, *, rng: np.random.Generator, size: int = 1) -> FloatArray:
        """Return random data sets: a random sky and random noise each, shape (n_vec, size, n_data)."""
        self._refuse_draws(sky)
        n_vec, n_rig = sky.n_vec, sky.rigidity_tv.size
        alm = np.zeros((n_vec, size, n_rig, (self.lmax + 1) * (self.lmax + 2) // 2), dtype=np.complex128)
        if sky.alm is not None:
            alm += sky.alm[:, None, :, : alm.shape[-1]]
        if sky.c_ell is not None:
            values, vectors = np.linalg.eigh(np.moveaxis(sky.c_ell, -1, 1))
            root = vectors * np.sqrt(np.clip(values, 0.0, None))[..., None, :]
            for ell in range(self.lmax + 1):
                for m in range(ell + 1):
                    alm[..., alm_index(self.lmax, ell, m)] += np.einsum(
                        "vab,vsb->vsa", root[:, ell], _normal((n_vec, size, n_rig), m, rng)
                    )
        observed = self._respond(alm)
        if isinstance(self.summary, Components):
            noise = np.linalg.cholesky(self.summary.covariance)
            clean = self._summarise(observed).reshape(n_vec, size, self.n_obs, 2)
            noisy = clean + np.einsum("oij,vsoj->vsoi", noise, rng.normal(size=clean.shape))
            return noisy.reshape(n_vec, size, -1)
        for m, covariance in self.noise.items():
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]
            observed[m] = observed[m] + np.einsum("olk,vsok->vsol", root, _normal(observed[m].shape, m, rng))
        return self._summarise(observed)

    def _refuse_draws(self, sky: TrueSky) -> None:
        if sky.draws is not None:
            raise ValueError(
                "this operator takes a fixed and an isotropic Gaussian sky; the sky given is an ensemble of draws"
            )

    def _respond(self, alm: ComplexArray) -> dict[int, ComplexArray]:
        """Observed a_lm for each m, shape (..., n_obs, l_out), of true a_lm (..., n_rig, n_alm)."""
        lmax = alm_lmax(alm.shape[-1])
        averaged = self.energy.weights @ alm
        observed = {}
        for m, response in self.response.items():
            stop = min(lmax, self.lmax)
            start = alm_index(lmax, m, m)
            column = averaged[..., start : start + stop - m + 1]
            observed[m] = (response[:, :, m : stop + 1] @ column[..., None])[..., 0]
        return observed

    def _signal(self, c_ell: FloatArray, m: int) -> FloatArray:
        """R_m C R_m^T between all observations, shape (n_vec, n_obs, l_out, n_obs, l_out)."""
        response = self.response[m]
        stop = min(self.lmax, c_ell.shape[-1] - 1)
        w = self.energy.weights
        seen = np.einsum("oa,vabk,pb->vopk", w, c_ell[..., m : stop + 1], w, optimize=True)
        part = response[:, :, m : stop + 1]
        return np.einsum("olk,vopk,pjk->volpj", part, seen, part, optimize=True)

    def _summarise(self, observed: Mapping[int, ComplexArray]) -> FloatArray:
        if isinstance(self.summary, Components):
            components = _components(observed[1][..., 1])
            return components.reshape(*components.shape[:-2], -1)
        ell = self.summary.ell
        power = sum((1.0 if m == 0 else 2.0) * np.abs(a[..., ell]) ** 2 for m, a in observed.items())
        power = np.asarray(power) / (2.0 * ell + 1.0)
        return power.reshape(*power.shape[:-2], -1)


def _components(a_11: ComplexArray) -> FloatArray:
    r"""(delta_0h, delta_6h) = sqrt(3/2pi) (-Re a_11, Im a_11), Eq. (18) of AM17; last axis added."""
    return np.sqrt(3.0 / (2.0 * np.pi)) * np.stack([-a_11.real, a_11.imag], -1)


def _normal(shape: tuple[int, ...], m: int, rng: np.random.Generator) -> ComplexArray:
    """Standard normal a_lm: real at m = 0, else complex with unit total variance."""
    real = rng.normal(size=shape)
    if m == 0:
        return real.astype(np.complex128)
    return (real + 1j * rng.normal(size=shape)) / np.sqrt(2.0)
