"""Likelihoods of published dipoles and of nearly full-sky spectra, given the distribution of the true sky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from obsfit.errors import ConfigurationError
from obsfit.ingest.overlaps import overlapping
from obsfit.operators import ObservationOperator, operator_for
from obsfit.operators.catalogue import dipole_data
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.provenance import Provenance
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky


class Term(Protocol):
    """One data set in a likelihood."""

    @property
    def data(self) -> FloatArray:
        """The numbers observed, shape (n_data,)."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What each number is, length n_data."""

    @property
    def provenance(self) -> Provenance:
        """Origin of the data."""

    @property
    def operator(self) -> ObservationOperator:
        """What the observatory can see of the true sky."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Nuisance parameters."""

    def log_prob(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,), of a sky and nuisances (n_vec, n_nuisance)."""

    def draw(self, sky: TrueSky, nuisance: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """One random data set for each parameter vector, shape (n_vec, n_data)."""


@dataclass(frozen=True)
class PowerTerm:
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
    def provenance(self) -> Provenance:
        """Origin of the spectrum."""
        return self.record.provenance

    @cached_property
    def operator(self) -> ObservationOperator:
        """Full-sky power operator of the record."""
        return operator_for(self.record)

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
        squared = np.array([self.operator.response[m][0, ell] ** 2 for ell, m in modes]).T
        signs = np.array([1.0 if m == 0 else 2.0 for _, m in modes])
        return squared, signs, np.searchsorted([ell for ell, _ in modes], self.record.ell)

    @cached_property
    def _from_above(self) -> FloatArray:
        """Squared responses to the multipoles that are not observed below l themselves, shape (l_in, n_mode)."""
        squared, signs, starts = self._modes
        own = np.repeat(self.record.ell, np.diff([*starts, signs.size]))
        true = np.arange(len(squared))[:, None]
        return np.where((true < own) & (true >= self.record.ell[0]), 0.0, squared)

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
        """Power of the fixed part of the sky as observed, shape (n_vec, n_ell); zero where there is none."""
        if sky.alm is None:
            return np.zeros((sky.n_vec, len(self.record)))
        return self.operator.observe(sky.alm)

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


@dataclass(frozen=True)
class DipoleScatter:
    """Priors of what published errors leave out; None fixes that scatter at zero.

    Attributes
    ----------
    amplitude : frozen scipy.stats distribution or None
        Relative scatter between experiments of their amplitude scale (energy scale, method, leakage of l >= 2).
    direction : frozen scipy.stats distribution or None
        Scatter between experiments of their phase, in degrees.
    intrinsic : frozen scipy.stats distribution or None
        log10 of an additional error of each component of each measurement.
    """

    amplitude: Any | None = field(default_factory=lambda: stats.halfnorm(scale=0.5))
    direction: Any | None = field(default_factory=lambda: stats.halfnorm(scale=30.0))
    intrinsic: Any | None = field(default_factory=lambda: stats.uniform(-5.5, 2.5))

    @classmethod
    def none(cls) -> DipoleScatter:
        """Return the choice that takes the published errors at face value."""
        return cls(None, None, None)


@dataclass(frozen=True)
class DipoleTerm:
    r"""Likelihood of published dipoles in their components, with scatter between experiments.

    Row i of experiment e is modelled as

    .. math:: d_i = (1 + s_e)\, m_i + \varphi_e\, \hat z \times m_i + n_i, \qquad
              n_i \sim N(0, V_i + \sigma_{int}^2 1),

    with m_i the folded model, V_i the covariance of amplitude and phase in the frame rotated by alpha_1, and the
    experiment's errors along and across the dipole, s_e and phi_e, drawn from N(0, amplitude scatter^2) and
    N(0, direction scatter^2). For small phi_e it is a rotation, and it is quoted as an angle; at 30 degrees the phase
    is turned by 28.
    Both are integrated out exactly; their widths are nuisances of the fit. Rows of one experiment are therefore
    correlated: an experiment with many energies does not outvote the others. A published upper limit enters as
    `obsfit.operators.catalogue.limit_deviation` says.

    Attributes
    ----------
    record : DipoleMeasurements
        Every row has usable errors or is a limit.
    scatter : DipoleScatter
        Priors of the nuisances.
    """

    record: DipoleMeasurements
    scatter: DipoleScatter = field(default_factory=DipoleScatter)

    @cached_property
    def data(self) -> FloatArray:
        """Components (0h, 6h) of each row in turn, shape (2 n,)."""
        return dipole_data(self.record)[0].ravel()

    @property
    def labels(self) -> tuple[str, ...]:
        """One label for each component of each row."""
        return tuple(f"{key} {axis}" for key in self.record.measurement for axis in ("0h", "6h"))

    @property
    def provenance(self) -> Provenance:
        """Origin of the dipoles."""
        return self.record.provenance

    @cached_property
    def operator(self) -> ObservationOperator:
        """Component operator of the record."""
        return operator_for(self.record)

    @cached_property
    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments, in the order of their first row."""
        return tuple(dict.fromkeys(self.record.observatory))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The scatters that have a prior."""
        choices = (
            Parameter(
                "amplitude_scatter", self.scatter.amplitude, "",
                "relative scatter of the amplitude scale between experiments", r"\sigma_{\rm scale}",
            )
            if self.scatter.amplitude is not None
            else None,
            Parameter(
                "direction_scatter", self.scatter.direction, "deg",
                "scatter of the phase between experiments", r"\sigma_{\rm phase}",
            )
            if self.scatter.direction is not None
            else None,
            Parameter(
                "log10_intrinsic_scatter", self.scatter.intrinsic, "",
                "log10 of an additional error of each dipole component", r"\log_{10}\sigma_{\rm int}",
            )
            if self.scatter.intrinsic is not None
            else None,
        )  # fmt: skip
        return tuple(choice for choice in choices if choice is not None)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    def _scatters(self, nuisance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(amplitude scatter, direction scatter in rad, intrinsic scatter), each (n_vec,)."""
        columns = dict(zip(self._names, nuisance.T, strict=True))
        zero = np.zeros(nuisance.shape[0])
        log_intrinsic = columns.get("log10_intrinsic_scatter")
        return (
            columns.get("amplitude_scatter", zero),
            np.radians(columns.get("direction_scatter", zero)),
            zero if log_intrinsic is None else 10.0**log_intrinsic,
        )

    @cached_property
    def _membership(self) -> FloatArray:
        """One where a row belongs to an experiment, shape (n, n_experiment)."""
        return np.array([[float(o == e) for e in self.experiments] for o in self.record.observatory])

    @cached_property
    def _noise(self) -> FloatArray:
        return dipole_data(self.record)[1]

    @cached_property
    def _dipole_factors(self) -> FloatArray:
        return self.operator.response[1][:, 1, 1]

    def folded(self, sky: TrueSky) -> FloatArray:
        """Folded model components, shape (n_vec, n, 2)."""
        if sky.alm is None:
            return np.zeros((sky.n_vec, len(self.record), 2))
        return self.operator.observe(sky.alm).reshape(sky.n_vec, len(self.record), 2)

    def covariance(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Full covariance of the components, shape (n_vec, 2 n, 2 n), all nuisances integrated."""
        mean = self.folded(sky)
        total = np.array(
            np.broadcast_to(self.operator.expect(sky).covariance, (nuisance.shape[0], *2 * (self.data.size,)))
        )
        amplitude, direction, intrinsic = self._scatters(nuisance)
        total += intrinsic[:, None, None] ** 2 * np.eye(self.data.size)
        same = np.kron(self._membership @ self._membership.T, np.ones((2, 2)))
        along = mean.reshape(mean.shape[0], -1)
        across = _turn(mean).reshape(along.shape)
        for width, vector in ((amplitude, along), (direction, across)):
            total += width[:, None, None] ** 2 * same * vector[:, :, None] * vector[:, None, :]
        return total

    def log_prob(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,)."""
        if sky.c_ell is not None:
            return self._log_prob_dense(sky, nuisance)
        mean = self.folded(sky)
        amplitude, direction, intrinsic = self._scatters(nuisance)
        # The covariance is block-diagonal plus two vectors for each experiment: invert 2 x 2 blocks (Woodbury).
        v = self._noise
        a = v[:, 0, 0] + intrinsic[:, None] ** 2
        b = v[:, 1, 1] + intrinsic[:, None] ** 2
        c = np.broadcast_to(v[:, 0, 1], a.shape)
        determinant = a * b - c**2
        residual = self.data.reshape(-1, 2) - mean
        along, across = amplitude[:, None, None] * mean, direction[:, None, None] * _turn(mean)

        def product(x: FloatArray, y: FloatArray) -> FloatArray:
            cross = x[..., 0] * y[..., 1] + x[..., 1] * y[..., 0]
            return (b * x[..., 0] * y[..., 0] - c * cross + a * x[..., 1] * y[..., 1]) / determinant

        member = self._membership
        g_ss, g_pp = 1.0 + product(along, along) @ member, 1.0 + product(across, across) @ member
        g_sp = product(along, across) @ member
        h_s, h_p = product(along, residual) @ member, product(across, residual) @ member
        g_det = g_ss * g_pp - g_sp**2
        explained = (g_pp * h_s**2 - 2.0 * g_sp * h_s * h_p + g_ss * h_p**2) / g_det
        chi2 = product(residual, residual).sum(1) - explained.sum(1)
        log_det = np.log(determinant).sum(1) + np.log(g_det).sum(1)
        return -0.5 * (chi2 + log_det + self.data.size * np.log(2.0 * np.pi))

    def _log_prob_dense(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        residual = self.data - self.folded(sky).reshape(nuisance.shape[0], -1)
        factor = np.linalg.cholesky(self.covariance(sky, nuisance))
        white = np.linalg.solve(factor, residual[..., None])[..., 0]
        log_det = 2.0 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
        return -0.5 * ((white**2).sum(1) + log_det + self.data.size * np.log(2.0 * np.pi))

    def draw(self, sky: TrueSky, nuisance: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """One random set of components for each parameter vector, shape (n_vec, 2 n)."""
        factor = np.linalg.cholesky(self.covariance(sky, nuisance))
        mean = self.folded(sky).reshape(nuisance.shape[0], -1)
        return mean + np.einsum("vij,vj->vi", factor, rng.normal(size=mean.shape))

    def experiment_offsets(self, sky: TrueSky, nuisance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Conditional mean and standard deviation of each experiment's scale offset and rotation in degrees.

        Returns
        -------
        mean, deviation : ndarray, shape (n_vec, n_experiment, 2)
            Given the sky and the scatters of each vector; average over posterior samples.
        """
        mean = self.folded(sky)
        amplitude, direction, intrinsic = self._scatters(nuisance)
        inverse = np.linalg.inv(self._noise + intrinsic[:, None, None, None] ** 2 * np.eye(2))
        design = np.stack([mean, _turn(mean)], -1)
        residual = self.data.reshape(-1, 2) - mean
        widths = np.stack([amplitude, direction], -1)
        gain = np.einsum("vnip,vnij,vnjq,ne->vepq", design, inverse, design, self._membership, optimize=True)
        pull = np.einsum("vnip,vnij,vnj,ne->vep", design, inverse, residual, self._membership, optimize=True)
        scaled = np.eye(2) + widths[:, None, :, None] * gain * widths[:, None, None, :]
        posterior = widths[:, None, :, None] * np.linalg.inv(scaled) * widths[:, None, None, :]
        to_user = np.array([1.0, np.degrees(1.0)])
        offset = np.einsum("vepq,veq->vep", posterior, pull)
        return offset * to_user, np.sqrt(np.diagonal(posterior, axis1=2, axis2=3)) * to_user


def _turn(vector: FloatArray) -> FloatArray:
    """Z x v: the component vector turned by +90 degrees in right ascension."""
    return np.stack([-vector[..., 1], vector[..., 0]], -1)


class Likelihood:
    """Joint likelihood of data sets.

    Parameters
    ----------
    *data : DipoleMeasurements, PowerSpectrum, DipoleTerm or PowerTerm
        Records take the default nuisances; give a term to choose them.
    assume_independent_skies : bool
        There is one sky: data sets share its random part, and their likelihoods do not simply multiply. More than
        one data set is refused unless this is True; the choice is recorded in the result.

    Raises
    ------
    ConfigurationError
        If the same measurement stands in two data sets, or several data sets are given without saying that they are
        to be treated as independent.
    """

    def __init__(
        self,
        *data: DipoleMeasurements | PowerSpectrum | DipoleTerm | PowerTerm,
        assume_independent_skies: bool = False,
    ) -> None:
        if not data:
            raise ConfigurationError("a likelihood needs data", expected="at least one record")
        self.terms: tuple[DipoleTerm | PowerTerm, ...] = tuple(_term(entry) for entry in data)
        self.assume_independent_skies = assume_independent_skies
        shared = overlapping([term.record for term in self.terms])
        if shared:
            first, second, what = shared[0]
            raise ConfigurationError(
                f"{first} and {second} share measurements: {what}",
                expected="each measurement once",
                remedy="Select rows of one of them, or use only one of the two.",
            )
        if len(self.terms) > 1 and not assume_independent_skies:
            raise ConfigurationError(
                "several data sets see the same sky, whose random part they share",
                expected="one data set, or a joint operator",
                remedy="assume_independent_skies=True multiplies their likelihoods all the same; it is recorded.",
            )
        self.parameters = self._name_nuisances()
        self._edges = np.cumsum([len(term.parameters) for term in self.terms])[:-1]

    def _name_nuisances(self) -> tuple[Parameter, ...]:
        names: list[Parameter] = []
        for number, term in enumerate(self.terms):
            for parameter in term.parameters:
                clash = sum(parameter.name in [p.name for p in other.parameters] for other in self.terms) > 1
                name = f"{parameter.name}_{number + 1}" if clash else parameter.name
                names.append(
                    Parameter(name, parameter.prior, parameter.unit, parameter.description, parameter.latex)
                )
        return tuple(names)

    def split(self, nuisance: FloatArray) -> list[FloatArray]:
        """Nuisances of each term, from the columns of all, shape (n_vec, n_nuisance)."""
        return list(np.split(nuisance, self._edges, axis=1))

    def log_prob(self, skies: Sequence[TrueSky], nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,), of the sky at the rigidities of each term."""
        parts = zip(self.terms, skies, self.split(nuisance), strict=True)
        return np.sum([term.log_prob(sky, own) for term, sky, own in parts], axis=0)

    @property
    def data_checksums(self) -> Mapping[str, str]:
        """Checksum of the file behind each data set."""
        return {term.provenance.name: term.provenance.sha256 for term in self.terms}


def _term(entry: object) -> DipoleTerm | PowerTerm:
    if isinstance(entry, DipoleTerm | PowerTerm):
        return entry
    if isinstance(entry, DipoleMeasurements):
        return DipoleTerm(entry)
    if isinstance(entry, PowerSpectrum):
        return PowerTerm(entry)
    raise ConfigurationError(
        f"a likelihood cannot use {type(entry).__name__}", expected="DipoleMeasurements or PowerSpectrum"
    )


__all__ = ["DipoleScatter", "DipoleTerm", "Likelihood", "PowerTerm", "Term"]
