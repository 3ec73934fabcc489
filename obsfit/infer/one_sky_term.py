"""The joint likelihood of spectra and dipoles that are seen on one sky."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from obsfit.infer.dipole_term import DipoleScatter
from obsfit.infer.saddlepoint import Block, draw, log_density, moments
from obsfit.operators import ObservationOperator, operator_for
from obsfit.operators.catalogue import dipole_data
from obsfit.operators.energy import EnergyResponse, common_rigidities, energy_response_for
from obsfit.operators.pseudo import calibrated_window, pseudo_operator
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.provenance import Provenance
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky, alm_index, alm_lmax

IntArray = NDArray[np.int64]

# (delta_0h, delta_6h) per real and imaginary part of a_11, Eq. (18) of AM17.
COMPONENTS = np.sqrt(3.0 / (2.0 * np.pi)) * np.array([-1.0, 1.0])
# Nodes of the window's nuisance, in standard deviations of its calibration; linear in between.
WINDOW_NODES = np.linspace(-3.0, 3.0, 7)


@dataclass(frozen=True)
class Nuisances:
    """Priors of what the observation operators leave open; None fixes a nuisance at its central value.

    Attributes
    ----------
    noise : frozen scipy.stats distribution or None
        log10 of the noise power over the record's estimate, for each map whose noise was estimated from its
        significance (records with a column noise).
    window : frozen scipy.stats distribution or None
        Deviation of a calibrated declination weight from its centre, in standard deviations of its calibration,
        between -3 and 3; for records whose weight is not published.
    width : frozen scipy.stats distribution or None
        Factor on all spreads of the energy responses.
    """

    noise: Any | None = field(default_factory=lambda: stats.uniform(-1.0, 2.0))
    window: Any | None = field(default_factory=lambda: stats.truncnorm(WINDOW_NODES[0], WINDOW_NODES[-1]))
    width: Any | None = field(default_factory=lambda: stats.truncnorm(-2.5, 2.5, loc=1.0, scale=0.15))


@dataclass(frozen=True)
class OneSkyTerm:
    r"""Joint likelihood of pseudo-spectra and projected dipoles of one sky.

    All data are functions of the same Gaussian a_lm. With :math:`y_m` the observed a_lm of all spectra at all their
    energies and :math:`z` those of the dipoles, both are linear in the sky,

    .. math:: \langle y_m y_m^\dagger \rangle_{st} = R_{s,m} C^{st} R_{t,m}^T + \delta_{st} N_{s,m}, \qquad
              C^{st}_\ell = \sum_{ab} w_{sa} C_\ell(R_a, R_b) w_{tb},

    with the energy responses w. So energies are coherent as far as the model says and as far as their responses
    overlap, and nothing is counted twice. The dipoles enter exactly, as a Gaussian in their components. Given them,
    :math:`y_1` has a mean and a smaller covariance, and the powers
    :math:`\hat C_\ell = \sum_m |y_{\ell m}|^2/(2\ell+1)` of all spectra are quadratic forms of Gaussian modes, whose
    joint law is taken from its exact cumulant generating function by the saddlepoint method
    (`obsfit.infer.saddlepoint`): neither independent nor Gaussian, and right for two degrees of freedom and for
    multipoles that are nearly one number. Reading errors of the tables are part of it, so that differences of powers
    below them carry no weight.

    Two approximations are left. Given the dipoles, the covariance of :math:`y_1` is taken as circular (the mean of
    those of real and imaginary parts; only unequal errors of amplitude and phase make it otherwise). And the noise of
    data that share events is taken as independent: it is a small part of the variance of any of them.

    Experiments err in the scale and the direction of their dipoles as in `DipoleTerm`, but about the published dipole
    instead of the model's, which here is random.

    Attributes
    ----------
    records : tuple of PowerSpectrum and DipoleMeasurements
        What was measured.
    nuisances : Nuisances
        Priors of noise, window and energy response.
    scatter : DipoleScatter
        Priors of the scatter between dipole experiments.
    energy_spread : bool
        Whether observations average over their published spread in energy; if not, all see their median alone.
    """

    records: tuple[PowerSpectrum | DipoleMeasurements, ...]
    nuisances: Nuisances = field(default_factory=Nuisances)
    scatter: DipoleScatter = field(default_factory=DipoleScatter)
    energy_spread: bool = True

    def observing(self, *records: PowerSpectrum | DipoleMeasurements) -> OneSkyTerm:
        """Return the same observations with other outcomes, such as mock data; operators are not built again.

        Parameters
        ----------
        *records : PowerSpectrum and DipoleMeasurements
            In the order of `records`, different from these in their measured values alone.
        """
        other = replace(self, records=records)
        fixed = ("_operators", "_energies", "_noisy", "_blocks", "_dipole_rows", "lmax", "parameters", "_names")
        other.__dict__.update({name: getattr(self, name) for name in fixed})
        return other

    @cached_property
    def spectra(self) -> tuple[PowerSpectrum, ...]:
        """The spectra, in their order."""
        return tuple(record for record in self.records if isinstance(record, PowerSpectrum))

    @cached_property
    def dipoles(self) -> tuple[DipoleMeasurements, ...]:
        """The tables of dipoles, in their order."""
        return tuple(record for record in self.records if isinstance(record, DipoleMeasurements))

    @cached_property
    def data(self) -> FloatArray:
        """Powers of all spectra, then components (0h, 6h) of all dipoles, shape (n_data,)."""
        return np.concatenate([self._power, self._components.ravel()])

    @property
    def labels(self) -> tuple[str, ...]:
        """One label for each entry of the data."""
        powers = [f"{s.measurement} l={ell}" for s in self.spectra for ell in s.ell]
        return (*powers, *(f"{k} {axis}" for d in self.dipoles for k in d.measurement for axis in ("0h", "6h")))

    @property
    def provenance(self) -> Provenance:
        """Origin of the first record."""
        return self.records[0].provenance

    @property
    def provenances(self) -> tuple[Provenance, ...]:
        """Origin of each file, once."""
        return tuple({record.provenance.name: record.provenance for record in self.records}.values())

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Nuisances that have a prior and that the records need."""
        chosen: list[tuple[str, Any | None, str, str, str]] = []
        for number in self._noisy:
            name = "log10_noise" if len(self._noisy) == 1 else f"log10_noise_{number + 1}"
            text = f"log10 of the noise power over the estimate of {self.spectra[number].measurement}"
            chosen.append((name, self.nuisances.noise, "", text, r"\log_{10} N/N_0"))
        if any(len(nodes) > 1 for nodes in self._operators):
            text = "deviation of the calibrated declination weight from its centre, in standard deviations"
            chosen.append(("window", self.nuisances.window, "", text, "w"))
        if any(not response.is_delta for response in self._energies):
            text = "factor on the spreads of the energy responses"
            chosen.append(("response_width", self.nuisances.width, "", text, "f_E"))
        if self.dipoles:
            text = "relative scatter of the amplitude scale between experiments"
            chosen.append(("amplitude_scatter", self.scatter.amplitude, "", text, r"\sigma_{\rm scale}"))
            text = "scatter of the phase between experiments"
            chosen.append(("direction_scatter", self.scatter.direction, "deg", text, r"\sigma_{\rm phase}"))
            text = "log10 of an additional error of each dipole component"
            chosen.append(
                ("log10_intrinsic_scatter", self.scatter.intrinsic, "", text, r"\log_{10}\sigma_{\rm int}")
            )
        return tuple(
            Parameter(name, prior, unit, text, latex)
            for name, prior, unit, text, latex in chosen
            if prior is not None
        )

    @property
    def rigidity_tv(self) -> FloatArray:
        """Rigidities at which the sky must be known, shape (n_rig,)."""
        return self._energies[0].rigidity_tv

    @cached_property
    def lmax(self) -> int:
        """Largest multipole that any observation asks for."""
        return max(operator.lmax for nodes in self._operators for operator in nodes)

    # What follows is fixed by the records: operators, their rows, and where each row of y_m belongs.

    @cached_property
    def _operators(self) -> tuple[tuple[ObservationOperator, ...], ...]:
        """Operators of each record: one for each node of the window where the weight is a nuisance, else one."""
        found: list[tuple[ObservationOperator, ...]] = []
        for record in (*self.spectra, *self.dipoles):
            if isinstance(record, DipoleMeasurements) or record.kind == "full-sky":
                found.append((operator_for(record),))
                continue
            calibration = calibrated_window(record)
            if calibration is None:
                found.append((pseudo_operator(record),))
            else:
                nodes = WINDOW_NODES if self.nuisances.window is not None else np.zeros(1)
                found.append(tuple(pseudo_operator(record, calibration.at(float(node))) for node in nodes))
        return tuple(found)

    @cached_property
    def _energies(self) -> tuple[EnergyResponse, ...]:
        """Energy response of each record on one grid of rigidities."""
        response = energy_response_for if self.energy_spread else _at_median
        responses = [response(record) for record in (*self.spectra, *self.dipoles)]
        return tuple(common_rigidities(responses))

    @cached_property
    def _noisy(self) -> tuple[int, ...]:
        """Numbers of the spectra whose noise is an estimate that a nuisance scales."""
        if self.nuisances.noise is None:
            return ()
        return tuple(n for n, record in enumerate(self.spectra) if np.isfinite(record.noise).all())

    @cached_property
    def _power(self) -> FloatArray:
        return np.concatenate([record.c_ell for record in self.spectra] or [np.zeros(0)])

    @cached_property
    def _reading(self) -> FloatArray:
        """Standard deviation of the reading error of each power."""
        parts = [record.reading_error * record.c_ell for record in self.spectra]
        return np.concatenate(parts or [np.zeros(0)])

    @cached_property
    def _components(self) -> FloatArray:
        """Dipole components, shape (n_dipole, 2)."""
        return np.concatenate([dipole_data(record)[0] for record in self.dipoles] or [np.zeros((0, 2))])

    @cached_property
    def _dipole_noise(self) -> FloatArray:
        return np.concatenate([dipole_data(record)[1] for record in self.dipoles] or [np.zeros((0, 2, 2))])

    @cached_property
    def _same_experiment(self) -> FloatArray:
        """One where two dipoles are of one experiment, shape (n_dipole, n_dipole)."""
        names = np.array([name for record in self.dipoles for name in record.observatory])
        return np.asarray(names[:, None] == names, dtype=np.float64)

    @cached_property
    def _dipole_rows(self) -> FloatArray:
        """Response of each dipole to a_l1, shape (n_dipole, lmax + 1)."""
        rows = np.zeros((len(self._components), self.lmax + 1))
        start = 0
        for nodes in self._operators[len(self.spectra) :]:
            response = nodes[0].response[1][:, 1]
            rows[start : start + len(response), : response.shape[1]] = response
            start += len(response)
        return rows

    @cached_property
    def _blocks(self) -> tuple[_Rows, ...]:
        """Rows of y_m for each m."""
        first = np.cumsum([0] + [len(record) for record in self.spectra])
        blocks = []
        for m in range(max((int(record.ell[-1]) for record in self.spectra), default=-1) + 1):
            index, owner, norm, parts, noise = [], [], [], [], []
            for number, record in enumerate(self.spectra):
                nodes = self._operators[number]
                if m not in nodes[0].response:
                    continue
                seen = np.flatnonzero(record.ell >= m)
                ell = record.ell[seen]
                response = np.zeros((len(WINDOW_NODES), ell.size, self.lmax + 1))
                response[:, :, : nodes[0].lmax + 1] = np.array([node.response[m][0, ell] for node in nodes])
                parts.append(response)
                own = np.array([node.noise[m][0][np.ix_(ell, ell)] for node in nodes])
                noise.append(np.broadcast_to(own, (len(WINDOW_NODES), ell.size, ell.size)))
                index.append(first[number] + seen)
                owner.append(np.full(ell.size, number))
                norm.append((1.0 if m == 0 else 2.0) / (2.0 * ell + 1.0))
            if parts:
                total = sum(len(part) for part in index)
                matrix, start = np.zeros((len(WINDOW_NODES), total, total)), 0
                for part in noise:
                    stop = start + part.shape[1]
                    matrix[:, start:stop, start:stop] = part
                    start = stop
                blocks.append(
                    _Rows(
                        m, np.concatenate(index), np.concatenate(owner), np.concatenate(norm),
                        np.concatenate(parts, axis=1), matrix,
                    )
                )  # fmt: skip
        return tuple(blocks)

    # What follows depends on parameters.

    def _columns(self, nuisance: FloatArray) -> dict[str, FloatArray]:
        return dict(zip(self._names, nuisance.T, strict=True))

    def _weights(self, columns: dict[str, FloatArray], n_vec: int) -> FloatArray:
        """Weights of all observations over rigidity, spectra first, shape (n_vec, n_obs, n_rig)."""
        width = columns.get("response_width", np.ones(n_vec))
        return np.concatenate([response.widened(width) for response in self._energies], axis=1)

    def _window(self, columns: dict[str, FloatArray], n_vec: int) -> FloatArray:
        """Weights of the window's nodes, shape (n_vec, n_node)."""
        if "window" not in columns:
            return np.tile(np.eye(len(WINDOW_NODES))[len(WINDOW_NODES) // 2], (n_vec, 1))
        return np.array([np.interp(columns["window"], WINDOW_NODES, node) for node in np.eye(len(WINDOW_NODES))]).T

    def _noise_scale(self, columns: dict[str, FloatArray], n_vec: int) -> FloatArray:
        """Factor on the noise of each spectrum, shape (n_vec, n_spectra)."""
        scale = np.ones((n_vec, len(self.spectra)))
        for number in self._noisy:
            name = "log10_noise" if len(self._noisy) == 1 else f"log10_noise_{number + 1}"
            scale[:, number] = 10.0 ** columns[name]
        return scale

    def _dipole_covariance(self, columns: dict[str, FloatArray], n_vec: int) -> FloatArray:
        """Errors of the dipole components and scatter between experiments, shape (n_vec, 2 n, 2 n)."""
        zero = np.zeros(n_vec)
        n = len(self._components)
        published = self._components
        across = np.stack([-published[:, 1], published[:, 0]], -1)
        total = np.zeros((n_vec, n, 2, n, 2))
        total[:, range(n), :, range(n), :] = self._dipole_noise[:, None]
        if "log10_intrinsic_scatter" in columns:
            extra = 100.0 ** columns["log10_intrinsic_scatter"]
            total[:, range(n), :, range(n), :] += extra[None, :, None, None] * np.eye(2)
        for vector, deviation in (
            (published, columns.get("amplitude_scatter", zero)),
            (across, np.radians(columns.get("direction_scatter", zero))),
        ):
            shared = np.einsum("ij,ia,jb->iajb", self._same_experiment, vector, vector)
            total += deviation[:, None, None, None, None] ** 2 * shared
        return total.reshape(n_vec, 2 * n, 2 * n)

    def _seen(self, sky: TrueSky, nuisance: FloatArray) -> _Seen:
        if sky.draws is not None:
            raise ValueError("the joint likelihood takes fixed and isotropic Gaussian skies; this one has draws")
        columns, n_vec = self._columns(nuisance), len(nuisance)
        weights = self._weights(columns, n_vec)
        n_obs, lmax = weights.shape[1], self.lmax
        power = np.zeros((n_vec, n_obs, n_obs, lmax + 1))
        if sky.c_ell is not None:
            stop = min(lmax + 1, sky.c_ell.shape[-1])
            by_ell = np.moveaxis(sky.c_ell[..., :stop], -1, 1)
            folded = weights[:, None] @ by_ell @ np.swapaxes(weights, 1, 2)[:, None]
            power[..., :stop] = np.moveaxis(folded, 1, -1)
        fixed = None if sky.alm is None else weights @ sky.alm
        return _Seen(
            power, fixed, self._window(columns, n_vec), self._noise_scale(columns, n_vec),
            self._dipole_covariance(columns, n_vec),
        )  # fmt: skip

    def _modes(self, seen: _Seen) -> tuple[list[Block], list[FloatArray]]:
        """Blocks of the powers, unconditional, and the response of each block's rows, (n_vec, n_row, l)."""
        blocks, responses = [], []
        for rows in self._blocks:
            response = np.tensordot(seen.window, rows.response, 1)
            signal = row_covariance(response, rows.owner, response, rows.owner, seen.power)
            scale = np.sqrt(seen.noise_scale[:, rows.owner])
            total = signal + scale[:, :, None] * np.tensordot(seen.window, rows.noise, 1) * scale[:, None, :]
            mean = None
            if seen.fixed is not None:
                b = fixed_rows(response, rows.owner, seen.fixed, rows.m)
                mean = b.real[:, None] if rows.m == 0 else np.stack([b.real, b.imag], 1)
            copies = 1 if rows.m == 0 else 2
            blocks.append(Block(rows.index, rows.norm, total / copies, copies, mean))
            responses.append(response)
        return blocks, responses

    def _linear(self, seen: _Seen) -> tuple[FloatArray, FloatArray]:
        """Mean (n_vec, 2 n) and covariance (n_vec, 2 n, 2 n) of the dipole components."""
        n, n_vec = len(self._components), len(seen.power)
        owner = len(self.spectra) + np.arange(n)
        rows = np.broadcast_to(self._dipole_rows, (n_vec, *self._dipole_rows.shape))
        signal = row_covariance(rows, owner, rows, owner, seen.power)
        covariance = seen.dipole_covariance.reshape(n_vec, n, 2, n, 2).copy()
        for axis in range(2):
            covariance[:, :, axis, :, axis] += 0.5 * COMPONENTS[axis] ** 2 * signal
        mean = np.zeros((n_vec, n, 2))
        if seen.fixed is not None:
            b = fixed_rows(rows, owner, seen.fixed, 1)
            mean = np.stack([b.real, b.imag], -1) * COMPONENTS
        return mean.reshape(n_vec, 2 * n), covariance.reshape(n_vec, 2 * n, 2 * n)

    def _given_dipoles(
        self, seen: _Seen, blocks: list[Block], responses: list[FloatArray], components: FloatArray
    ) -> tuple[list[Block], FloatArray]:
        """Blocks of the powers given the dipole components (n_vec or 1, n, 2), and their log density."""
        n_vec = len(seen.power)
        if not self.dipoles:
            return blocks, np.zeros(n_vec)
        mean, covariance = self._linear(seen)
        residual = components.reshape(-1, mean.shape[1]) - mean
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, residual[..., None])[..., 0]
        log_det = 2.0 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
        linear = -0.5 * ((white**2).sum(1) + log_det + mean.shape[1] * np.log(2.0 * np.pi))
        number = next((i for i, rows in enumerate(self._blocks) if rows.m == 1), None)
        if number is None:
            return blocks, linear
        rows, block, n = self._blocks[number], blocks[number], len(self._components)
        owner = len(self.spectra) + np.arange(n)
        dipole_rows = np.broadcast_to(self._dipole_rows, (n_vec, *self._dipole_rows.shape))
        shared = row_covariance(responses[number], rows.owner, dipole_rows, owner, seen.power)
        start = np.zeros((n_vec, 2, rows.index.size)) if block.mean is None else block.mean
        conditional, lost = np.empty_like(start), np.zeros_like(block.covariance)
        for axis in range(2):
            cross = np.zeros((n_vec, rows.index.size, n, 2))
            cross[..., axis] = 0.5 * COMPONENTS[axis] * shared
            half = np.linalg.solve(factor, np.swapaxes(cross.reshape(n_vec, -1, 2 * n), 1, 2))
            conditional[:, axis] = start[:, axis] + (np.swapaxes(half, 1, 2) @ white[..., None])[..., 0]
            lost += 0.5 * np.swapaxes(half, 1, 2) @ half
        changed = replace(block, mean=conditional, covariance=block.covariance - lost)
        return [*blocks[:number], changed, *blocks[number + 1 :]], linear

    def log_prob(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,), of all data together."""
        return self.log_prob_of(self.data, sky, nuisance)

    def log_prob_of(self, data: FloatArray, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,), of other data (n_data,) of the same observations."""
        seen = self._seen(sky, nuisance)
        n_power = self._power.size
        blocks, total = self._given_dipoles(seen, *self._modes(seen), data[n_power:])
        if n_power:
            total = total + log_density(data[:n_power], blocks, reading=self._reading)
        return total

    def moments(self, sky: TrueSky, nuisance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Exact mean (n_vec, n_data) and covariance of all data; powers and dipoles are uncorrelated without a fixed sky.

        The covariance, shape (n_vec, n_data, n_data), leaves out what a fixed part of the sky makes common to dipoles
        and powers.
        """
        seen = self._seen(sky, nuisance)
        n_vec, n_power, n_data = len(nuisance), self._power.size, self.data.size
        mean, covariance = np.zeros((n_vec, n_data)), np.zeros((n_vec, n_data, n_data))
        if n_power:
            own_mean, own = moments(self._modes(seen)[0], n_power)
            mean[:, :n_power] = own_mean
            covariance[:, :n_power, :n_power] = own + np.diag(self._reading**2)
        if self.dipoles:
            mean[:, n_power:], covariance[:, n_power:, n_power:] = self._linear(seen)
        return mean, covariance

    def draw(self, sky: TrueSky, nuisance: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """One random data set of one random sky for each parameter vector, shape (n_vec, n_data)."""
        seen = self._seen(sky, nuisance)
        n_vec, n_power = len(nuisance), self._power.size
        components = np.zeros((n_vec, 2 * len(self._components)))
        if self.dipoles:
            mean, covariance = self._linear(seen)
            factor = np.linalg.cholesky(covariance)
            components = mean + (factor @ rng.normal(size=mean.shape)[..., None])[..., 0]
        if not n_power:
            return components
        blocks, _ = self._given_dipoles(seen, *self._modes(seen), components)
        power = draw(blocks, n_power, rng=rng)
        power = power + self._reading * rng.normal(size=power.shape)
        return np.concatenate([power, components], axis=1)

    def directions_below_reading(self, sky: TrueSky, nuisance: FloatArray) -> IntArray:
        """Number of independent directions of the log powers that scatter less than their reading errors, (n_vec,).

        The likelihood sees the powers in n_power minus this many directions; the others carry reading error alone.
        """
        seen = self._seen(sky, nuisance)
        mean, covariance = moments(self._modes(seen)[0], self._power.size)
        relative = covariance / (mean[:, :, None] * mean[:, None, :])
        floor = self._reading / self._power
        known = floor > 0
        scaled = relative[:, known][:, :, known] / (floor[known][:, None] * floor[known])
        return np.asarray((np.linalg.eigvalsh(scaled) < 1.0).sum(1))


@dataclass(frozen=True)
class _Rows:
    """Rows of y_m: which power each adds to and how, its spectrum, and response and noise at the window's nodes."""

    m: int
    index: IntArray
    owner: IntArray
    norm: FloatArray
    response: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class _Seen:
    """The sky as all observations average it over energy, and the nuisances, for n_vec parameter vectors."""

    power: FloatArray
    fixed: NDArray[np.complex128] | None
    window: FloatArray
    noise_scale: FloatArray
    dipole_covariance: FloatArray


def _at_median(record: PowerSpectrum | DipoleMeasurements) -> EnergyResponse:
    return EnergyResponse.delta(np.atleast_1d(record.energy_tev))


def row_covariance(
    left: FloatArray, left_owner: IntArray, right: FloatArray, right_owner: IntArray, power: FloatArray
) -> FloatArray:
    """Covariance of observed a_lm, shape (n_vec, n_left, n_right): sum over l of both responses and the power.

    Parameters
    ----------
    left, right : ndarray, shape (n_vec, n_row, lmax + 1)
        Responses.
    left_owner, right_owner : ndarray of int, shape (n_row,)
        Observation of each row.
    power : ndarray, shape (n_vec, n_obs, n_obs, lmax + 1)
        Power between observations.
    """
    total = np.empty((left.shape[0], left.shape[1], right.shape[1]))
    _row_covariance(
        np.ascontiguousarray(left), left_owner, np.ascontiguousarray(right), right_owner,
        np.ascontiguousarray(power), total,
    )  # fmt: skip
    return total


@numba.njit(cache=True, fastmath={"reassoc", "contract"}, parallel=True)
def _row_covariance(
    left: FloatArray, left_owner: IntArray, right: FloatArray, right_owner: IntArray, power: FloatArray,
    total: FloatArray,
) -> None:  # fmt: skip
    n_vec, n_left, size = left.shape
    for v in numba.prange(n_vec):
        for i in range(n_left):
            for j in range(right.shape[1]):
                a, b, c = left[v, i], right[v, j], power[v, left_owner[i], right_owner[j]]
                value = 0.0
                for k in range(size):
                    value += a[k] * b[k] * c[k]
                total[v, i, j] = value


def fixed_rows(
    response: FloatArray, owner: IntArray, fixed: NDArray[np.complex128], m: int
) -> NDArray[np.complex128]:
    """Observed a_lm of the fixed sky, shape (n_vec, n_row); `fixed` is (n_vec, n_obs, n_alm) in healpy order."""
    lmax = alm_lmax(fixed.shape[-1])
    stop = min(lmax, response.shape[-1] - 1)
    if m > stop:
        return np.zeros(response.shape[:2], dtype=np.complex128)
    start = alm_index(lmax, m, m)
    column = fixed[:, owner, start : start + stop - m + 1]
    return np.asarray(np.einsum("vrl,vrl->vr", response[:, :, m : stop + 1], column))
