"""The likelihood of published dipoles in their components, with scatter between experiments."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from obsfit.infer.single_record_term import SingleRecordTerm
from obsfit.operators.catalogue import dipole_data
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.true_sky import TrueSky


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
class DipoleTerm(SingleRecordTerm):
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
