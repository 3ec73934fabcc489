"""The likelihood of a nearly full-sky spectrum, multipole by multipole, given the distribution of the true sky."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from obsfit.errors import ConfigurationError
from obsfit.infer.single_record_term import SingleRecordTerm
from obsfit.operators import ObservationOperator
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky


@dataclass(frozen=True)
class PowerTerm(SingleRecordTerm):
    r"""Likelihood of the power of a nearly full sky, multipole by multipole.

    On the full sky, :math:`(2\ell+1) \hat C_\ell / S_\ell` with :math:`S_\ell = W_\ell^2 (C_\ell + N_\ell)` follows
    a chi-square law with k = 2 l (m = 0 filtered) or 2 l + 1 degrees of freedom; it is not Gaussian: at l = 1 the
    filtered power has two. A declination cut mixes multipoles, so that the powers are not independent. The joint law
    is taken as the product over l of the law of :math:`\hat C_\ell` given those below it. What leaks from below is
    then known up to the shares of m: it is found from the data, and counts as a fixed part. With
    :math:`S^m = T^m W (C + N) W T^{mT} / f_{sky}` over :math:`\ell' \ge \ell` and :math:`L^m` the same over
    :math:`\ell' < \ell` for the power :math:`\hat C_{\ell'}` divided by its own response,

    .. math:: \langle \hat C_\ell \rangle = \sum_m (S^m_{\ell\ell} + L^m_{\ell\ell}) / (2\ell+1), \qquad
              \mathrm{Var} = \sum_m (2 (S^m_{\ell\ell})^2 + 4 S^m_{\ell\ell} L^m_{\ell\ell}) / (2\ell+1)^2
              + (\kappa - 1)\, 2 \langle N_\ell \rangle^2 / k,

    and each law is a chi-square of :math:`\nu = 2 \langle \hat C \rangle^2 / \mathrm{Var}` degrees of freedom with
    that mean. kappa is the record's `noise_contrast`: noise of uneven depth is correlated between multipoles, and
    kappa is the loss of modes for the average over many of them. Multipoles below the first one of the record leak as
    the model has them. A fixed part of the sky makes the law non-central.

    Attributes
    ----------
    record : PowerSpectrum
        Of kind "full-sky", with at least one degree of freedom at each multipole.
    noise_prior : frozen scipy.stats distribution or None
        Prior of the nuisance ``log10_noise``, the decimal logarithm of the ratio of the true noise power to the
        record's estimate. None fixes the noise at the estimate.
    """

    record: PowerSpectrum
    noise_prior: Any | None = field(default_factory=lambda: stats.uniform(-1.0, 2.0))

    def __post_init__(self) -> None:
        if self.record.kind != "full-sky":
            raise ConfigurationError(
                f"{self.record.measurement}: this is the pseudo-power of a cut sky, whose multipoles mix",
                expected="a spectrum of kind 'full-sky'",
                remedy="Likelihood(record) takes it through its window, see OneSkyTerm.",
            )
        if self.noise_prior is not None and np.isnan(self.record.noise).any():
            raise ConfigurationError(
                f"{self.record.measurement}: the record lacks a noise estimate at some multipole",
                expected="a column noise",
                remedy="Pass noise_prior=None to fit without noise.",
            )

    @property
    def data(self) -> FloatArray:
        """C_l as published, shape (n_ell,)."""
        return self.record.c_ell

    @property
    def labels(self) -> tuple[str, ...]:
        """One label for each multipole."""
        return tuple(f"{self.record.measurement} l={ell}" for ell in self.record.ell)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The noise nuisance, if it has a prior."""
        if self.noise_prior is None:
            return ()
        text = "log10 of the noise power over the record's estimate"
        return (Parameter("log10_noise", self.noise_prior, "", text, r"\log_{10} N/N_0"),)

    @cached_property
    def _modes(self) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
        """Squared responses of the observed modes (l, m), how many signs of m each stands for, and where each l begins.

        Shapes (l_in, n_mode), (n_mode,) and (n_ell,); modes are ordered by l.
        """
        modes = [(ell, m) for ell in self.record.ell for m in self.operator.response if m <= ell]
        signs = np.array([1.0 if m == 0 else 2.0 for _, m in modes])
        return self._squared(self.operator), signs, np.searchsorted([ell for ell, _ in modes], self.record.ell)

    def _squared(self, operator: ObservationOperator) -> FloatArray:
        response = operator.response
        return np.array([response[m][0, ell] ** 2 for ell in self.record.ell for m in response if m <= ell]).T

    @cached_property
    def _given_below(self) -> ObservationOperator:
        """The operator without its response to observed multipoles below each l: those are known from the data."""
        ell = np.arange(self.operator.lmax + 1)
        known = (ell < ell[:, None]) & (ell >= self.record.ell[0])
        response = {m: np.where(known, 0.0, matrix) for m, matrix in self.operator.response.items()}
        return replace(self.operator, response=response)

    @cached_property
    def _from_above(self) -> FloatArray:
        """Squared responses of each mode to what is not known from below, shape (l_in, n_mode)."""
        return self._squared(self._given_below)

    @cached_property
    def _from_below(self) -> FloatArray:
        """Power that leaks into each mode from the observed multipoles below it, shape (n_mode,)."""
        squared, signs, starts = self._modes
        response = np.add.reduceat(squared * signs, starts, axis=1) / (2.0 * self.record.ell + 1.0)
        power = np.zeros(len(squared))
        power[self.record.ell] = self.record.c_ell / response[self.record.ell, np.arange(len(self.record))]
        return power @ (squared - self._from_above)

    @cached_property
    def _noise(self) -> FloatArray:
        """Noise power before smoothing at l = 0 .. l_in."""
        ell = np.arange(self.operator.lmax + 1)
        return np.interp(ell, self.record.ell, np.nan_to_num(self.record.noise))

    def moments(self, sky: TrueSky, nuisance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean of the power without its fixed part, and its effective degrees of freedom, each (n_vec, n_ell)."""
        scale = 1.0 if self.noise_prior is None else 10.0 ** nuisance[:, :1]
        total = scale * np.broadcast_to(self._noise, (len(nuisance), self._noise.size))
        if sky.c_ell is not None:
            signal = sky.c_ell[:, 0, 0, : self._noise.size]
            total[:, : signal.shape[1]] += signal
        _, signs, starts = self._modes
        norm = 2.0 * self.record.ell + 1.0
        modes, leak = total @ self._from_above, self._from_below
        mean = np.add.reduceat(signs * (modes + leak), starts, axis=1) / norm
        variance = np.add.reduceat(signs * modes * (2.0 * modes + 4.0 * leak), starts, axis=1) / norm**2
        alone = scale * (np.add.reduceat(signs * (self._noise @ self._from_above), starts) / norm)
        excess = (self.record.noise_contrast - 1.0) * 2.0 * alone**2 / self.record.degrees_of_freedom
        return mean, 2.0 * mean**2 / (variance + excess)

    def fixed_power(self, sky: TrueSky) -> FloatArray:
        """Power of the fixed part of the sky as observed, shape (n_vec, n_ell); zero where there is none.

        Without what leaks from observed multipoles below: that is in the data already.
        """
        if sky.alm is None:
            return np.zeros((sky.n_vec, len(self.record)))
        return self._given_below.observe(sky.alm)

    def log_prob(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,)."""
        mean, modes = self.moments(sky, nuisance)
        scale = modes / mean
        x = self.record.c_ell * scale
        if sky.alm is not None:
            return np.sum(stats.ncx2.logpdf(x, modes, self.fixed_power(sky) * scale) + np.log(scale), axis=1)
        half = 0.5 * modes
        log_density = (half - 1.0) * np.log(x) - 0.5 * x + np.log(scale) - half * np.log(2.0) - gammaln(half)
        return np.sum(log_density, axis=1)

    def draw(self, sky: TrueSky, nuisance: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """One random spectrum for each parameter vector, shape (n_vec, n_ell).

        Each multipole is drawn given the observed ones below it, as far as these leak into it.
        """
        mean, modes = self.moments(sky, nuisance)
        if sky.alm is None:
            return rng.chisquare(modes) * mean / modes
        return rng.noncentral_chisquare(modes, self.fixed_power(sky) * modes / mean) * mean / modes
