"""The joint likelihood of spectra and dipoles that are seen on one sky."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import block_diag

from obsfit.errors import ConfigurationError
from obsfit.infer.dipole_term import DipoleScatter
from obsfit.infer.saddlepoint import Block, draw, log_density, moments
from obsfit.operators import ObservationOperator, operator_for
from obsfit.operators.catalogue import dipole_data
from obsfit.operators.energy import EnergyResponse, common_rigidities, energy_response_for
from obsfit.operators.pseudo import CalibratedWindow, calibrated_window, pseudo_operator
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.provenance import Provenance
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky, alm_index, alm_lmax

IntArray = NDArray[np.int64]

# Pixels cost 0.5 to 1 % of a power, a weight that is no exact power of |sin(dec)| up to 3 %. Powers of one sky by
# nearly equal windows differ by less: taken for exact, they would be read as news of the sky.
FLOOR = 0.03
# Operators of a weight whose exponent is free are interpolated between those at Chebyshev points, to so many errors of
# its calibration: to 1e-5 for an error of 0.4. Beyond, a prior of the user's is refused.
REACH, N_NODES = 6.0, 8
# (delta_0h, delta_6h) per real and imaginary part of a_11, Eq. (18) of AM17.
COMPONENTS = np.sqrt(3.0 / (2.0 * np.pi)) * np.array([-1.0, 1.0])


@dataclass(frozen=True)
class Nuisances:
    """Priors of what the observation operators leave open; None fixes a nuisance at its central value.

    Attributes
    ----------
    noise : frozen scipy.stats distribution or None
        log10 of the noise power over the record's estimate, for each map whose noise was estimated from its
        significance (records with a column noise).
    width : frozen scipy.stats distribution or None
        Factor on all spreads of the energy responses.
    weight : frozen scipy.stats distribution or None
        Deviation of the exponent of each declination weight from its calibration, in errors of the calibration.
    """

    noise: Any | None = field(default_factory=lambda: stats.uniform(-1.0, 2.0))
    width: Any | None = field(default_factory=lambda: stats.truncnorm(-2.5, 2.5, loc=1.0, scale=0.15))
    weight: Any | None = field(default_factory=lambda: stats.truncnorm(-REACH, REACH))


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
    below them carry no weight. A declination weight that had to be calibrated has a free exponent, a nuisance of each
    record with the calibration as its prior: the response of the record is a function of it. It cannot be replaced by
    an error of the powers, as one sky answers to another weight otherwise than the mean over skies.

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
        Priors of noise and energy response.
    scatter : DipoleScatter
        Priors of the scatter between dipole experiments.
    energy_spread : bool
        Whether observations average over their published spread in energy; if not, all see their median alone.
    floor : float
        Relative error of each power, independent, for what the operators leave out.
    """

    records: tuple[PowerSpectrum | DipoleMeasurements, ...]
    nuisances: Nuisances = field(default_factory=Nuisances)
    scatter: DipoleScatter = field(default_factory=DipoleScatter)
    energy_spread: bool = True
    floor: float = FLOOR

    def observing(self, *records: PowerSpectrum | DipoleMeasurements) -> OneSkyTerm:
        """Return the same observations with other outcomes, such as mock data; operators are not built again.

        Parameters
        ----------
        *records : PowerSpectrum and DipoleMeasurements
            In the order of `records`, different from these in their measured values alone.
        """
        other = replace(self, records=records)
        fixed = (
            "_operators",
            "_energies",
            "_noisy",
            "_blocks",
            "_dipole_rows",
            "_windows",
            "lmax",
            "parameters",
            "_names",
        )
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
        if any(not response.is_delta for response in self._energies):
            text = "factor on the spreads of the energy responses"
            chosen.append(("response_width", self.nuisances.width, "", text, "f_E"))
        for number in self._windows:
            record = self.spectra[number]
            text = f"deviation of the exponent of the declination weight of {record.measurement}"
            latex = rf"\Delta e_{{{record.energy_tev:.0f}\,{{\rm TeV}}}}"
            chosen.append((weight_name(record), self.nuisances.weight, "", f"{text}, in its errors", latex))
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
        return max(operator.lmax for operator, *_ in self._operators)

    # What follows is fixed by the records: operators, their rows, and where each row of y_m belongs.

    @cached_property
    def _operators(self) -> tuple[tuple[ObservationOperator, ...], ...]:
        """Operator of each record; where the exponent of its weight is free, one for each of the `_nodes`."""
        found: list[tuple[ObservationOperator, ...]] = []
        for number, record in enumerate(self._ordered):
            calibration = self._windows.get(number)
            if isinstance(record, DipoleMeasurements) or record.kind == "full-sky":
                found.append((operator_for(record),))
            elif calibration is None:
                found.append((pseudo_operator(record),))
            else:
                found.append(tuple(pseudo_operator(record, calibration.at(place)) for place in _nodes()))
        return tuple(found)

    @cached_property
    def _windows(self) -> dict[int, CalibratedWindow]:
        """Calibration of the spectra whose declination weight is free, by their number."""
        if self.nuisances.weight is None:
            return {}
        found = {number: calibrated_window(record) for number, record in enumerate(self.spectra)}
        return {number: window for number, window in found.items() if window is not None}

    @cached_property
    def _energies(self) -> tuple[EnergyResponse, ...]:
        """Energy response of each record on one grid of rigidities."""
        response = energy_response_for if self.energy_spread else _at_median
        responses = [response(record) for record in self._ordered]
        return tuple(common_rigidities(responses))

    @cached_property
    def _noisy(self) -> tuple[int, ...]:
        """Numbers of the spectra whose noise is an estimate that a nuisance scales."""
        if self.nuisances.noise is None:
            return ()
        return tuple(n for n, record in enumerate(self.spectra) if np.isfinite(record.noise).all())

    @cached_property
    def _ordered(self) -> tuple[PowerSpectrum | DipoleMeasurements, ...]:
        """All records, spectra first."""
        return (*self.spectra, *self.dipoles)

    @cached_property
    def _power(self) -> FloatArray:
        return np.concatenate([record.c_ell for record in self.spectra] or [np.zeros(0)])

    @cached_property
    def _reading(self) -> FloatArray:
        """Relative standard deviation of the error of each power by reading and by what operators leave out."""
        parts = [np.full(len(record), np.hypot(record.reading_error, self.floor)) for record in self.spectra]
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
        for operator, *_ in self._operators[len(self.spectra) :]:
            response = operator.response[1][:, 1]
            rows[start : start + len(response), : response.shape[1]] = response
            start += len(response)
        return rows

    @cached_property
    def _blocks(self) -> tuple[_Rows, ...]:
        """Rows of y_m for each m."""
        first = np.cumsum([0] + [len(record) for record in self.spectra])
        blocks = []
        n_nodes = max(len(operators) for operators in self._operators)
        for m in range(max((int(record.ell[-1]) for record in self.spectra), default=-1) + 1):
            index, owner, norm, responses, noises = [], [], [], [], []
            for number, record in enumerate(self.spectra):
                operators = self._operators[number]
                if m not in operators[0].response:
                    continue
                seen = np.flatnonzero(record.ell >= m)
                ell = record.ell[seen]
                response = np.zeros((n_nodes, ell.size, self.lmax + 1))
                own_noise = np.zeros((n_nodes, ell.size, ell.size))
                for node in range(n_nodes):
                    operator = operators[node % len(operators)]
                    response[node, :, : operator.lmax + 1] = operator.response[m][0, ell]
                    own_noise[node] = operator.noise[m][0][np.ix_(ell, ell)]
                responses.append(response)
                noises.append(own_noise)
                index.append(first[number] + seen)
                owner.append(np.full(ell.size, number))
                norm.append((1.0 if m == 0 else 2.0) / (2.0 * ell + 1.0))
            if responses:
                noise = np.stack([block_diag(*each) for each in zip(*noises, strict=True)])
                blocks.append(
                    _Rows(
                        m, np.concatenate(index), np.concatenate(owner), np.concatenate(norm),
                        np.concatenate(responses, axis=1), noise,
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
        rows = tuple(self._rows_seen(block, columns, n_vec) for block in self._blocks)
        scale = self._noise_scale(columns, n_vec)
        return _Seen(power, fixed, rows, scale, self._dipole_covariance(columns, n_vec))

    def _rows_seen(self, rows: _Rows, columns: dict[str, FloatArray], n_vec: int) -> tuple[FloatArray, FloatArray]:
        """Response (n_vec or 1, n_row, lmax + 1) and noise (n_vec or 1, n_row, n_row) of the rows of one m."""
        if not self._windows:
            return rows.response, rows.noise
        share = np.zeros((n_vec, len(self.spectra), len(rows.response)))
        share[:, :, 0] = 1.0
        for number in self._windows:
            share[:, number] = _lagrange(columns[weight_name(self.spectra[number])])
        share = share[:, rows.owner]
        return np.einsum("vrk,krl->vrl", share, rows.response), np.einsum("vrk,krs->vrs", share, rows.noise)

    def _modes(self, seen: _Seen) -> list[Block]:
        """Blocks of the powers, before anything is known of the dipoles."""
        blocks = []
        for rows, (response, noise) in zip(self._blocks, seen.rows, strict=True):
            total = row_covariance(response, rows.owner, response, rows.owner, seen.power)
            # noise is common to rows of one spectrum only: its factor is that of either row
            total += seen.noise_scale[:, rows.owner, None] * noise
            mean = None
            if seen.fixed is not None:
                b = fixed_rows(response, rows.owner, seen.fixed, rows.m)
                mean = b.real[:, None] if rows.m == 0 else np.stack([b.real, b.imag], 1)
            copies = 1 if rows.m == 0 else 2
            blocks.append(Block(rows.index, rows.norm, total / copies, copies, mean))
        return blocks

    def _linear(self, seen: _Seen) -> tuple[FloatArray, FloatArray]:
        """Mean (n_vec, 2 n) and covariance (n_vec, 2 n, 2 n) of the dipole components."""
        n, n_vec, rows = len(self._components), len(seen.power), self._dipole_rows
        owner = len(self.spectra) + np.arange(n)
        signal = row_covariance(rows[None], owner, rows[None], owner, seen.power)
        covariance = seen.dipole_covariance.reshape(n_vec, n, 2, n, 2).copy()
        for axis in range(2):
            covariance[:, :, axis, :, axis] += 0.5 * COMPONENTS[axis] ** 2 * signal
        mean = np.zeros((n_vec, n, 2))
        if seen.fixed is not None:
            b = fixed_rows(rows[None], owner, seen.fixed, 1)
            mean = np.stack([b.real, b.imag], -1) * COMPONENTS
        return mean.reshape(n_vec, 2 * n), covariance.reshape(n_vec, 2 * n, 2 * n)

    def _given_dipoles(
        self, seen: _Seen, blocks: list[Block], components: FloatArray
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
        shared = row_covariance(seen.rows[number][0], rows.owner, self._dipole_rows[None], owner, seen.power)
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
        blocks, total = self._given_dipoles(seen, self._modes(seen), data[..., n_power:])
        if n_power:
            variance = self._reading**2
            # Of a factor exp(e) on each power, e normal of this variance, the density of the powers without it has the
            # Jacobian exp(-e), which moves the mean of e by minus its variance.
            power = data[..., :n_power] * np.exp(variance)
            total = total + 0.5 * variance.sum()
            total = total + log_density(power, blocks, reading=self._reading * power)
        return total

    def moments(self, sky: TrueSky, nuisance: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Exact mean, shape (n_vec, n_data), and covariance of all data.

        The covariance, shape (n_vec, n_data, n_data), is zero between powers and dipoles, as it is without a fixed part
        of the sky; what such a part makes common to both is left out.
        """
        seen = self._seen(sky, nuisance)
        n_vec, n_power, n_data = len(nuisance), self._power.size, self.data.size
        mean, covariance = np.zeros((n_vec, n_data)), np.zeros((n_vec, n_data, n_data))
        if n_power:
            own_mean, own = moments(self._modes(seen), n_power)
            mean[:, :n_power] = own_mean
            covariance[:, :n_power, :n_power] = own
            covariance[:, range(n_power), range(n_power)] += (self._reading * own_mean) ** 2
        if self.dipoles:
            mean[:, n_power:], covariance[:, n_power:, n_power:] = self._linear(seen)
        return mean, covariance

    def power_moments(
        self, sky: TrueSky, nuisance: FloatArray, components: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Mean (n_vec, n_power) and covariance of the powers given dipole components (n_vec, 2 n_dipole)."""
        seen = self._seen(sky, nuisance)
        blocks, _ = self._given_dipoles(seen, self._modes(seen), components)
        mean, covariance = moments(blocks, self._power.size)
        covariance[:, range(self._power.size), range(self._power.size)] += (self._reading * mean) ** 2
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
        blocks, _ = self._given_dipoles(seen, self._modes(seen), components)
        power = draw(blocks, n_power, rng=rng)
        power = power * np.exp(self._reading * rng.normal(size=power.shape))
        return np.concatenate([power, components], axis=1)

    def directions_below_reading(self, sky: TrueSky, nuisance: FloatArray) -> IntArray:
        """Number of independent directions of the log powers that scatter less than their reading errors, (n_vec,).

        The likelihood sees the powers in n_power minus this many directions; the others carry reading error alone.
        """
        seen = self._seen(sky, nuisance)
        mean, covariance = moments(self._modes(seen), self._power.size)
        relative = covariance / (mean[:, :, None] * mean[:, None, :])
        known = self._reading > 0
        floor = self._reading[known]
        scaled = relative[:, known][:, :, known] / (floor[:, None] * floor)
        return np.asarray((np.linalg.eigvalsh(scaled) < 1.0).sum(1))


@dataclass(frozen=True)
class _Rows:
    """Rows of y_m: which power each adds to and how, and its spectrum; response and noise at each of the `_nodes`."""

    m: int
    index: IntArray
    owner: IntArray
    norm: FloatArray
    response: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class _Seen:
    """The sky as all observations average it over energy, and the nuisances, for n_vec parameter vectors.

    `rows` are response and noise of each m.
    """

    power: FloatArray
    fixed: NDArray[np.complex128] | None
    rows: tuple[tuple[FloatArray, FloatArray], ...]
    noise_scale: FloatArray
    dipole_covariance: FloatArray


def weight_name(record: PowerSpectrum) -> str:
    """Return the name of the nuisance that is the declination weight of a spectrum, such as weight_24_tev."""
    return f"weight_{record.energy_tev:.0f}_tev"


def _nodes() -> FloatArray:
    """Deviations of an exponent, in errors, at which operators are built: Chebyshev points of the reach."""
    return REACH * np.cos(np.pi * (np.arange(N_NODES) + 0.5) / N_NODES)


def _lagrange(deviation: FloatArray) -> FloatArray:
    """Shares of the operators at the `_nodes` in that at deviations (n_vec,), shape (n_vec, N_NODES)."""
    if np.any(np.abs(deviation) > REACH):
        raise ConfigurationError(
            f"a declination weight {np.abs(deviation).max():.1f} errors off its calibration",
            expected=f"at most {REACH:g}",
            remedy="Give its nuisance a narrower prior.",
        )
    nodes = _nodes()
    apart = nodes[:, None] - nodes
    np.fill_diagonal(apart, 1.0)
    away = np.broadcast_to((deviation[:, None] - nodes)[:, None, :], (deviation.size, N_NODES, N_NODES)).copy()
    away[:, range(N_NODES), range(N_NODES)] = 1.0
    return np.asarray(np.prod(away / apart, axis=-1))


def _at_median(record: PowerSpectrum | DipoleMeasurements) -> EnergyResponse:
    return EnergyResponse.delta(np.atleast_1d(record.energy_tev))


def row_covariance(
    left: FloatArray, left_owner: IntArray, right: FloatArray, right_owner: IntArray, power: FloatArray
) -> FloatArray:
    """Covariance of observed a_lm, shape (n_vec, n_left, n_right): sum over l of both responses and the power.

    Parameters
    ----------
    left, right : ndarray, shape (n_vec or 1, n_row, lmax + 1)
        Responses.
    left_owner, right_owner : ndarray of int, shape (n_row,)
        Observation of each row.
    power : ndarray, shape (n_vec, n_obs, n_obs, lmax + 1)
        Power between observations.
    """
    total = np.empty((len(power), left.shape[1], right.shape[1]))
    _row_covariance(
        np.ascontiguousarray(left), left_owner, np.ascontiguousarray(right), right_owner,
        np.ascontiguousarray(power), total,
    )  # fmt: skip
    return total


@numba.njit(cache=True, fastmath={"reassoc", "contract"})
def _row_covariance(
    left: FloatArray, left_owner: IntArray, right: FloatArray, right_owner: IntArray, power: FloatArray,
    total: FloatArray,
) -> None:  # fmt: skip
    # On one thread: starting several for each m costs more than they save.
    size = left.shape[2]
    for v in range(power.shape[0]):
        u, w = min(v, left.shape[0] - 1), min(v, right.shape[0] - 1)
        for i in range(left.shape[1]):
            for j in range(right.shape[1]):
                a, b, c = left[u, i], right[w, j], power[v, left_owner[i], right_owner[j]]
                value = 0.0
                for k in range(size):
                    value += a[k] * b[k] * c[k]
                total[v, i, j] = value


def fixed_rows(
    response: FloatArray, owner: IntArray, fixed: NDArray[np.complex128], m: int
) -> NDArray[np.complex128]:
    """Observed a_lm of the fixed sky, shape (n_vec, n_row).

    `response` is (n_vec or 1, n_row, lmax + 1), `fixed` (n_vec, n_obs, n_alm) in healpy order.
    """
    lmax = alm_lmax(fixed.shape[-1])
    stop = min(lmax, response.shape[2] - 1)
    if m > stop:
        return np.zeros(fixed.shape[:1] + response.shape[1:2], dtype=np.complex128)
    start = alm_index(lmax, m, m)
    column = fixed[:, owner, start : start + stop - m + 1]
    return np.asarray(np.sum(response[..., m : stop + 1] * column, axis=-1))
