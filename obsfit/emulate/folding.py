"""From simulated skies to simulated data: what several records would have published of one sky, quickly and often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from obsfit.configuration import FORBID
from obsfit.emulate.training import TrainingSet
from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.execute import child_generator
from obsfit.ingest.overlaps import repeated
from obsfit.operators import ObservationOperator, operator_for
from obsfit.operators.catalogue import dipole_data, dipole_rows
from obsfit.operators.energy import energy_response_for
from obsfit.operators.pseudo import CalibratedWindow, calibrated_window, pseudo_operator
from obsfit.protocols import Model, OffersSimulations
from obsfit.records import DipoleMeasurements, PowerSpectrum
from obsfit.records.true_sky import alm_index, alm_lmax

__all__ = [
    "AMPLITUDE", "RIGHT_ASCENSION", "FoldedData", "FoldingErrors", "SimulatedModel", "band_shares", "training_set",
]  # fmt: skip

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
IntArray = NDArray[np.int64]

AMPLITUDE = "log10_amplitude"
"""Parameter to whose power of ten the sky of a model is proportional, if it has one of this name."""
RIGHT_ASCENSION = "gradient_right_ascension"
"""Parameter by which the sky of a model is turned about the axis of the Earth, in rad, if it has one of this name."""

# (delta_0h, delta_6h) per real and imaginary part of a_11, Eq. (18) of AM17.
_COMPONENTS = np.sqrt(3.0 / (2.0 * np.pi)) * np.array([-1.0, 1.0])
# Operators of a weight whose exponent errs are interpolated between those at Chebyshev points, to so many errors of
# its calibration; one error in 16 000 is larger, and is drawn again.
_REACH, _N_NODES = 4.0, 6
# Spectra at least as steep as this one lose no more than `leak` of a power with the multipoles that are left out.
_SLOPE = 2.0
# A response without a spread falls into one band: this is far less than any band.
_SHARP_DEX = 1e-9
# A phase opposite to the gradient, in turns from the cut: its normal score ends here, at 8.
_CUT = 1e-15


class SimulatedModel(Model, OffersSimulations, Protocol):
    """A model with a store of simulated fields."""


@dataclass(frozen=True)
class FoldingErrors:
    """Errors of observations that are drawn anew for each simulation, as no parameter stands for them.

    Attributes
    ----------
    floor : float
        Relative error of each power, independent, for what operators leave out: pixels, and weights that are no exact
        power of the sine of the declination.
    width : float
        Standard deviation of a factor on all spreads of the energy responses, about one and within 2.5 of these.
    weight : bool
        Whether the exponents of declination weights err by the errors of their calibration.
    log10_noise : tuple of float
        Range of log10 of the noise of a map over the estimate that its record has. The noise of the map of HAWC and
        IceCube is above its estimate: the whole spectrum, to l = 60, asks for 0.15 to 0.4.
    scale, direction : float
        Errors of each dipole experiment along its dipoles, relative, and across, in rad: common to its rows. They are
        a choice of ours: published errors are statistical, and experiments differ by more.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or the range is empty.
    """

    floor: float = 0.03
    width: float = 0.15
    weight: bool = True
    log10_noise: tuple[float, float] = (0.0, 0.4)
    scale: float = 0.1
    direction: float = 0.1

    __pydantic_config__ = FORBID

    def __post_init__(self) -> None:
        for name in ("floor", "width", "scale", "direction"):
            value = getattr(self, name)
            if not (np.isfinite(value) and 0.0 <= value < 1.0):
                raise ValueError(f"{name} {value}: expected an error of at least 0 and below 1")
        if not self.width <= 0.3:
            raise ValueError(f"width {self.width}: expected at most 0.3, so that spreads stay positive")
        low, high = self.log10_noise
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise ValueError(
                f"log10_noise {self.log10_noise}: expected two numbers, the first not above the second"
            )
        object.__setattr__(self, "log10_noise", (float(low), float(high)))

    @classmethod
    def none(cls) -> FoldingErrors:
        """Return the choice that takes operators, estimates and published errors at face value."""
        return cls(0.0, 0.0, False, (0.0, 0.0), 0.0, 0.0)


@dataclass(frozen=True)
class _Mode:
    """One m of one spectrum: `responses` (n_node, n_row, n_in) and roots of the noise (n_node, n_row, n_row)."""

    m: int
    rows: IntArray
    norm: NDArray[np.floating[Any]]
    responses: FloatArray
    roots: FloatArray


@dataclass(frozen=True, eq=False)
class FoldedData:
    r"""What several records would have published of one sky: powers of spectra, components of dipoles.

    A sky is given in bands of rigidity. Observation o sees its average :math:`a^o = \sum_b p_{ob} a_b` with the shares
    of its events in the bands (`band_shares`), of which

    .. math:: \hat C_\ell = \frac{e^{\epsilon_\ell}}{2\ell+1} \sum_m |(R_m a^o_m)_\ell + n_{\ell m}|^2, \qquad
              \langle n_m n_m^\dagger \rangle = N_m,

    with response and noise of the operator of the record (`obsfit.operators`): the power of the noise is not
    subtracted, so that powers are positive. :math:`\epsilon` is the error of reading with the floor. Dipoles are those
    of the first harmonic in right ascension with all that leaks into them, and err along and across themselves, the
    latter by the published error of the phase times the published amplitude. All errors are drawn together with the
    sky: a density that is learnt of such data has them inside.

    Nothing here knows a direction in right ascension. A sky that is turned about the axis of the Earth has the same
    law of powers, and dipoles turned alike: see `coordinates`.

    Parameters
    ----------
    records : tuple of PowerSpectrum and DipoleMeasurements
        What was measured, cut to the multipoles and rows that are used.
    names : tuple of str
        Parameters of the model, in the order of the columns of theta; see `AMPLITUDE` and `RIGHT_ASCENSION`.
    lmax : int
        Where simulated skies end.
    errors : FoldingErrors
        What is drawn besides noise and published errors.
    outside : float
        Largest share of the events of an observation beyond the bands of a sky.
    leak : float
        Largest share of a power from beyond `lmax`, for C_l falling as l^-2. With lmax = 10 the map of HAWC and IceCube
        can be used up to l = 10 (0.9 %) and the caps of IceCube, to 130 TeV, up to l = 6 (0.9 %); at l = 11 it is one
        half.

    Raises
    ------
    ConfigurationError
        If there is no record, if two hold the same measurement, if a dipole has no usable errors, or if a power needs
        multipoles beyond `lmax`.
    """

    records: tuple[PowerSpectrum | DipoleMeasurements, ...]
    names: tuple[str, ...] = ()
    lmax: int = 10
    errors: FoldingErrors = field(default_factory=FoldingErrors)
    outside: float = 0.05
    leak: float = 0.01

    def __post_init__(self) -> None:
        if not self.records:
            raise ConfigurationError("no data are given to fold a sky into", expected="at least one record")
        shared = repeated(self.records)
        if shared:
            first, second, what = shared[0]
            raise ConfigurationError(
                f"{first} and {second} share measurements: {what}",
                expected="each measurement once", remedy="Select rows or multipoles that do not repeat.",
            )  # fmt: skip
        for record in self.dipoles:
            try:
                record.components()
            except ValueError as error:
                raise ConfigurationError(str(error), expected="dipoles with amplitude, phase and errors") from None
        lost = self.leakage(_SLOPE)
        if np.any(lost > self.leak):
            worst = int(np.argmax(lost))
            raise ConfigurationError(
                f"{self.labels[worst]}: {lost[worst]:.2g} of this power come from beyond l = {self.lmax}, where skies "
                "end, for C_l falling as l^-2",
                value=float(lost[worst]), expected=f"at most {self.leak:g}",
                remedy="Use fewer multipoles of this record, or skies with a larger lmax.",
            )  # fmt: skip

    @cached_property
    def spectra(self) -> tuple[PowerSpectrum, ...]:
        """The spectra, in their order."""
        return tuple(record for record in self.records if isinstance(record, PowerSpectrum))

    @cached_property
    def dipoles(self) -> tuple[DipoleMeasurements, ...]:
        """The tables of dipoles, in their order."""
        return tuple(record for record in self.records if isinstance(record, DipoleMeasurements))

    @cached_property
    def n_power(self) -> int:
        """How many of the data are powers, which come first."""
        return sum(len(record) for record in self.spectra)

    @cached_property
    def data(self) -> FloatArray:
        """Powers of all spectra, then components (0h, 6h) of all dipoles, as published, shape (n_data,)."""
        powers = [record.c_ell for record in self.spectra]
        return np.concatenate([*powers, *(dipole_data(record)[0].ravel() for record in self.dipoles)])

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One label for each number of the data, such as "icecube-2025-24TeV l=2" and "icecube-2016-24TeV 0h"."""
        powers = [f"{record.measurement} l={ell}" for record in self.spectra for ell in record.ell]
        return (*powers, *(f"{k} {axis}" for d in self.dipoles for k in d.measurement for axis in ("0h", "6h")))

    @cached_property
    def energy_tev(self) -> FloatArray:
        """Median energy of each number of the data, shape (n_data,)."""
        powers = [np.full(len(record), record.energy_tev) for record in self.spectra]
        return np.concatenate([*powers, *(np.repeat(record.energy_tev, 2) for record in self.dipoles)])

    def leakage(self, slope: float) -> FloatArray:
        """Share of each expected datum from beyond `lmax`, noise aside, for isotropic C_l falling as l^-slope.

        Zero for dipoles, whose operators follow multipoles up to 10, see `obsfit.operators.catalogue.dipole_rows`.
        """
        lost = np.zeros(len(self.labels))
        start = 0
        for record in self.spectra:
            operator = _operator(record, None)
            ell = np.arange(operator.lmax + 1)
            power = np.where(ell > 0, 1.0 / np.maximum(ell, 1) ** slope, 0.0)
            whole, kept = np.zeros(len(record)), np.zeros(len(record))
            for m, response in operator.response.items():
                squared = (1.0 if m == 0 else 2.0) * response[0, record.ell] ** 2
                whole += squared @ power
                kept += squared[:, : self.lmax + 1] @ power[: self.lmax + 1]
            lost[start : start + len(record)] = 1.0 - kept / np.where(whole > 0.0, whole, 1.0)
            start += len(record)
        return lost

    # What follows is fixed by the records.

    @cached_property
    def _windows(self) -> dict[int, CalibratedWindow]:
        """Calibration of the spectra whose declination weight errs, by their number."""
        if not self.errors.weight:
            return {}
        found = {number: calibrated_window(record) for number, record in enumerate(self.spectra)}
        return {number: window for number, window in found.items() if window is not None}

    @cached_property
    def _modes(self) -> tuple[tuple[_Mode, ...], ...]:
        """Response and noise of each spectrum, m by m."""
        found = []
        for number, record in enumerate(self.spectra):
            window = self._windows.get(number)
            places: Sequence[float | None] = [None] if window is None else list(_nodes())
            found.append(_modes(record, [_operator(record, place) for place in places], self.lmax))
        return tuple(found)

    @cached_property
    def _noisy(self) -> tuple[int, ...]:
        """Numbers of the spectra whose noise is an estimate in their record."""
        return tuple(n for n, record in enumerate(self.spectra) if np.isfinite(record.noise).all())

    @cached_property
    def _responses(self) -> tuple[FloatArray, FloatArray]:
        """Median energies (n_obs,) and spreads (n_obs, 2) in dex of all observations, spectra first."""
        medians, spreads = [], []
        ordered: tuple[PowerSpectrum | DipoleMeasurements, ...] = (*self.spectra, *self.dipoles)
        for record in ordered:
            energy = energy_response_for(record)
            if energy.median_tev is None or energy.spread_dex is None or energy.composition is not None:
                raise TypeError(f"expected the energies of protons, got {energy}")
            medians.append(energy.median_tev)
            spreads.append(energy.spread_dex)
        return np.concatenate(medians), np.concatenate(spreads)

    @cached_property
    def _observations(self) -> tuple[str, ...]:
        """Name of each observation, spectra first."""
        powers = [record.measurement for record in self.spectra]
        return (*powers, *(key for record in self.dipoles for key in record.measurement))

    @cached_property
    def _reading(self) -> FloatArray:
        """Relative standard deviation of the error of each power by reading and by what operators leave out."""
        parts = [
            np.full(len(record), np.hypot(record.reading_error, self.errors.floor)) for record in self.spectra
        ]
        return np.concatenate(parts or [np.zeros(0)])

    @cached_property
    def _dipole_rows(self) -> FloatArray:
        """Response of each dipole to a_l1, l from 1, shape (n_dipole, lmax)."""
        rows = np.concatenate([dipole_rows(record) for record in self.dipoles])
        padded = np.zeros((len(rows), max(self.lmax + 1, rows.shape[1])))
        padded[:, : rows.shape[1]] = rows
        return padded[:, 1 : self.lmax + 1]

    @cached_property
    def _dipole_errors(self) -> FloatArray:
        """Published errors along and across each dipole, shape (n_dipole, 2)."""
        along = [record.amplitude_error for record in self.dipoles]
        across = [record.amplitude * record.phase_error_rad for record in self.dipoles]
        return np.stack([np.concatenate(along), np.concatenate(across)], axis=-1)

    @cached_property
    def _experiments(self) -> tuple[int, IntArray]:
        """Number of dipole experiments, and that of each row."""
        names = [name for record in self.dipoles for name in record.observatory]
        kinds = list(dict.fromkeys(names))
        return len(kinds), np.array([kinds.index(name) for name in names], dtype=np.int64)

    # What follows is drawn.

    def observe(self, rigidity_tv: FloatArray, alm: ComplexArray, *, rng: np.random.Generator) -> FloatArray:
        """Return simulated data of skies, one draw of all errors for each, shape (size, n_data) or (n_data,).

        Parameters
        ----------
        rigidity_tv : ndarray, shape (size, n_band) or (n_band,)
            Node of each band in TV, increasing; bands meet half way between them in the logarithm.
        alm : ndarray of complex, shape (size, n_band, n_alm) or (n_band, n_alm)
            Average of each sky over each band, healpy order, relative intensity.
        rng : numpy.random.Generator
            Source of noise and errors.

        Raises
        ------
        ModelDomainError
            If more than the share `outside` of the events of an observation is beyond the bands.
        ValueError
            If shapes do not fit, or a sky ends below `lmax`.
        """
        alm = np.ascontiguousarray(alm, dtype=np.complex128)
        if alm.ndim == 2:
            return self.observe(np.asarray(rigidity_tv)[None], alm[None], rng=rng)[0]
        nodes = np.asarray(rigidity_tv, dtype=np.float64)
        if alm.ndim != 3 or nodes.shape != alm.shape[:2]:
            raise ValueError(
                f"rigidity_tv {nodes.shape} and alm {alm.shape}: expected (size, n_band) and (size, n_band, n_alm)"
            )
        if alm_lmax(alm.shape[-1]) < self.lmax:
            raise ValueError(f"skies end at l = {alm_lmax(alm.shape[-1])}, expected at least {self.lmax}")
        self._refuse_outside(nodes)
        size = len(alm)
        width = np.ones(size)
        if self.errors.width > 0.0:
            width += self.errors.width * _normal_within(2.5, size, rng)
        shares = band_shares(*self._responses, nodes, width)
        parts = alm.view(np.float64).reshape(*alm.shape[:2], -1)
        seen = (shares / shares.sum(axis=-1, keepdims=True)) @ parts
        averaged = seen.view(np.complex128)
        values = np.empty((size, len(self.labels)))
        start = 0
        for number, record in enumerate(self.spectra):
            values[:, start : start + len(record)] = self._powers(number, averaged[:, number], rng)
            start += len(record)
        values[:, :start] *= np.exp(self._reading * rng.normal(size=(size, start)))
        if self.dipoles:
            values[:, start:] = self._components(averaged[:, len(self.spectra) :], rng).reshape(size, -1)
        return values

    def _refuse_outside(self, nodes: FloatArray) -> None:
        median, spread = self._responses
        edges = _edges(nodes)
        below = _distribution(median, spread, edges[:, :1], np.ones(len(nodes)))[..., 0]
        above = 1.0 - _distribution(median, spread, edges[:, -1:], np.ones(len(nodes)))[..., 0]
        outside = below + above
        if np.any(outside > self.outside):
            sky, o = np.unravel_index(int(np.argmax(outside)), outside.shape)
            low, high = 10.0 ** edges[sky, [0, -1]]
            raise ModelDomainError(
                f"{self._observations[o]}: {outside[sky, o]:.1%} of its events, of median {median[o]:g} TeV, are "
                f"outside the rigidities of a simulated sky, {low:.3g} to {high:.3g} TV",
                value=float(outside[sky, o]), expected=f"at most {self.outside:.1%}",
                remedy="Leave this record out, or narrow the prior of what sets the scale of rigidity.",
            )  # fmt: skip

    def _powers(self, number: int, alm: ComplexArray, rng: np.random.Generator) -> FloatArray:
        """Powers of one spectrum, shape (size, n_ell), of skies averaged over its energies (size, n_alm)."""
        size, lmax = len(alm), alm_lmax(alm.shape[-1])
        modes = self._modes[number]
        share = np.ones((size, 1))
        if number in self._windows:
            share = _lagrange(_normal_within(_REACH, size, rng))
        scale = np.ones((size, 1))
        if number in self._noisy:
            scale = 10.0 ** (0.5 * rng.uniform(*self.errors.log10_noise, size=(size, 1)))
        power = np.zeros((size, len(self.spectra[number])))
        for mode in modes:
            start = alm_index(lmax, mode.m, mode.m)
            column = alm[:, start : start + mode.responses.shape[2]]
            white = rng.normal(size=(2, size, mode.rows.size))
            noise = white[0] + 0j if mode.m == 0 else (white[0] + 1j * white[1]) / np.sqrt(2.0)
            at_nodes = np.einsum("kri,si->skr", mode.responses, column, optimize=True)
            at_nodes += np.einsum("krq,sq->skr", mode.roots, scale * noise, optimize=True)
            observed = np.sum(share[:, :, None] * at_nodes, axis=1)
            power[:, mode.rows] += mode.norm * (observed.real**2 + observed.imag**2)
        return power

    def _components(self, alm: ComplexArray, rng: np.random.Generator) -> FloatArray:
        """Dipole components, shape (size, n_dipole, 2), of skies averaged over the energies of each."""
        size, lmax = len(alm), alm_lmax(alm.shape[-1])
        start = alm_index(lmax, 1, 1)
        first = np.sum(self._dipole_rows * alm[..., start : start + self.lmax], axis=-1)
        true = np.stack([first.real, first.imag], axis=-1) * _COMPONENTS
        n_experiment, of_row = self._experiments
        common = rng.normal(size=(2, size, n_experiment))[..., of_row, None]
        seen = (
            true + self.errors.scale * common[0] * true + self.errors.direction * common[1] * _quarter_turn(true)
        )
        length = np.hypot(seen[..., :1], seen[..., 1:])
        along = np.where(length > 0.0, seen / np.where(length > 0.0, length, 1.0), [1.0, 0.0])
        errors = self._dipole_errors * rng.normal(size=true.shape)
        return seen + errors[..., :1] * along + errors[..., 1:] * _quarter_turn(along)

    # Coordinates in which the law of the data varies little with the parameters.

    def coordinates(self, data: FloatArray, theta: FloatArray) -> FloatArray:
        r"""Return the values whose density is learnt, shape (n_vec, n_data), of data (n_data,) or (n_vec, n_data).

        .. math:: \ln \hat C_\ell - 2 \ln 10\, \log_{10} A, \qquad
                  \ln |d| - \ln 10\, \log_{10} A, \qquad
                  \Phi^{-1}\Big( \frac12 + \frac{\arg d - \alpha}{2\pi} \Big)

        for powers, and for size and phase of dipoles, with the amplitude A and the right ascension alpha of theta where
        the model has them; :math:`\arg d - \alpha` lies between -pi and pi. Without noise their law would depend on
        neither. A field that makes much power makes long dipoles in whatever direction: the logarithms of both vary
        together, which components, of either sign, do not show in a correlation. The quantile of the normal law turns
        the circle into a line, so that no density is lost at its cut.
        """
        data, log10_amplitude, angle = self._with_theta(data, theta)
        values = np.empty(data.shape)
        n = self.n_power
        if not np.all(data[:, :n] > 0.0):
            raise ValueError("a power is not positive: expected powers without subtraction of the noise")
        values[:, :n] = np.log(data[:, :n]) - 2.0 * np.log(10.0) * log10_amplitude[:, None]
        size, phase = _polar(data[:, n:])
        values[:, n::2] = np.log(size) - np.log(10.0) * log10_amplitude[:, None]
        values[:, n + 1 :: 2] = _line(phase - angle[:, None])
        return values

    def from_coordinates(self, values: FloatArray, theta: FloatArray) -> FloatArray:
        """Return data, shape (n_vec, n_data), of values: the inverse of `coordinates`."""
        values, log10_amplitude, angle = self._with_theta(values, theta)
        data = np.empty(values.shape)
        n = self.n_power
        data[:, :n] = np.exp(values[:, :n] + 2.0 * np.log(10.0) * log10_amplitude[:, None])
        size = np.exp(values[:, n::2] + np.log(10.0) * log10_amplitude[:, None])
        phase = 2.0 * np.pi * (ndtr(values[:, n + 1 :: 2]) - 0.5) + angle[:, None]
        data[:, n::2], data[:, n + 1 :: 2] = size * np.cos(phase), size * np.sin(phase)
        return data

    def log_jacobian(
        self, theta: FloatArray, data: FloatArray | None = None, *, labels: Sequence[str] | None = None
    ) -> FloatArray:
        r"""Return ln |d values / d data|, shape (n_vec,): what turns a density of values into one of the data.

        .. math:: -\sum_\ell \ln \hat C_\ell
                  + \sum_d \Big( \frac{v_d^2}{2} - \frac12 \ln 2\pi - 2 \ln |d| \Big)

        over powers and dipoles, with the values v of the phases.

        Parameters
        ----------
        theta : ndarray, shape (n_vec, n_par)
            Parameters.
        data : ndarray, shape (n_data,) or (n_vec, n_data), optional
            Default: as published.
        labels : sequence of str, optional
            Some of the data alone. Both components of a dipole belong together.
        """
        given, _, angle = self._with_theta(self.data if data is None else data, theta)
        each = np.empty(given.shape)
        n = self.n_power
        each[:, :n] = -np.log(given[:, :n])
        size, phase = _polar(given[:, n:])
        each[:, n::2] = -2.0 * np.log(size)
        each[:, n + 1 :: 2] = 0.5 * _line(phase - angle[:, None]) ** 2 - 0.5 * np.log(2.0 * np.pi)
        return np.asarray(each[:, self.columns(labels)].sum(axis=1))

    def value_labels(self, labels: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return what the values of `coordinates` are, of some data or of all: sizes and phases of dipoles."""
        names = [label.replace(" 0h", " size").replace(" 6h", " phase") for label in self.labels[self.n_power :]]
        every = (*self.labels[: self.n_power], *names)
        return tuple(every[column] for column in self.columns(labels))

    def columns(self, labels: Sequence[str] | None) -> IntArray:
        """Return the places of labels among the data; all where None.

        Raises
        ------
        ValueError
            If a label is not known, or one component of a dipole stands without the other.
        """
        if labels is None:
            return np.arange(len(self.labels))
        unknown = [label for label in labels if label not in self.labels]
        if unknown:
            raise ValueError(f"label {unknown[0]!r}: expected some of {', '.join(self.labels)}")
        found = np.array([self.labels.index(label) for label in labels], dtype=np.int64)
        of_dipoles = found[found >= self.n_power] - self.n_power
        for component in of_dipoles:
            if component ^ 1 not in of_dipoles:
                raise ValueError(f"{self.labels[self.n_power + component]!r} stands without its other component")
        return found

    def _with_theta(self, data: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Data for each parameter vector, log10 of the amplitude and the right ascension (zero where there is none)."""
        theta = np.asarray(theta, dtype=np.float64)
        if theta.ndim != 2 or theta.shape[1] != len(self.names):
            raise ValueError(
                f"theta {theta.shape}: expected (n_vec, {len(self.names)}), for {', '.join(self.names)}"
            )
        data = np.asarray(data, dtype=np.float64)
        if data.shape[-1:] != (len(self.labels),):
            raise ValueError(f"data {data.shape}: expected {len(self.labels)} numbers for each vector")
        zero = np.zeros(len(theta))
        amplitude = theta[:, self.names.index(AMPLITUDE)] if AMPLITUDE in self.names else zero
        angle = theta[:, self.names.index(RIGHT_ASCENSION)] if RIGHT_ASCENSION in self.names else zero
        return np.broadcast_to(data, (len(theta), data.shape[-1])), amplitude, angle

    @property
    def learnt(self) -> tuple[str, ...]:
        """Parameters on which the law of the values may depend: all but the right ascension."""
        return tuple(name for name in self.names if name != RIGHT_ASCENSION)

    def without_right_ascension(self, theta: FloatArray) -> FloatArray:
        """Return the columns of theta that `learnt` names."""
        return np.asarray(theta)[:, [name != RIGHT_ASCENSION for name in self.names]]


def training_set(
    model: SimulatedModel, folded: FoldedData, fields: Sequence[int] | IntArray, per_field: int, *, seed: int
) -> TrainingSet:
    """Return simulated data of a model's store of fields, in the coordinates of `FoldedData.coordinates`.

    Each field has random numbers of its own: more fields continue a training set, and their order is of no importance.

    Parameters
    ----------
    model : SimulatedModel
        With the parameters that `folded` has the names of.
    folded : FoldedData
        What is observed.
    fields : sequence of int
        Which fields, each once.
    per_field : int
        Simulations of each.
    seed : int
        Seed of the whole set.

    Raises
    ------
    ModelDomainError
        As `FoldedData.observe`; the message names the field.
    ValueError
        If the fields are not of the store, or the names of the parameters differ.
    """
    wanted = [int(one) for one in fields]
    if not wanted or len(set(wanted)) != len(wanted) or min(wanted) < 0 or max(wanted) >= model.fields:
        raise ValueError(f"fields {wanted}: expected some of 0 to {model.fields - 1}, each once")
    if per_field < 1:
        raise ValueError(f"per_field {per_field}: expected at least 1")
    if tuple(p.name for p in model.parameters) != folded.names:
        raise ValueError(f"names {folded.names}: expected those of the parameters of model {model.name!r}")
    thetas, values = [], []
    for number in wanted:
        rng = child_generator(seed, "training", number)
        theta = model.field_theta(number, per_field, rng=rng)
        rigidity, alm = model.field_skies(number, theta, folded.lmax, rng=rng)
        thetas.append(folded.without_right_ascension(theta))
        values.append(folded.coordinates(folded.observe(rigidity, alm, rng=rng), theta))
    return TrainingSet(
        folded.learnt,
        np.concatenate(thetas),
        folded.value_labels(),
        np.concatenate(values),
        np.repeat(wanted, per_field),
    )


def band_shares(
    median_tev: FloatArray, spread_dex: FloatArray, rigidity_tv: FloatArray, width: FloatArray
) -> FloatArray:
    r"""Return the share of the events of each observation in bands of rigidity, shape (size, n_obs, n_band).

    .. math:: p_b = F(x_b^+) - F(x_b^-), \qquad x = \log_{10} R,

    with the two-sided normal law F of `obsfit.operators.EnergyResponse`, for protons: half of the events on each side
    of the median. So :math:`\sum_b p_b a_b` is the average over the events of skies that are averages over bands. What
    lies outside all bands is missing in the sum of the shares.

    Parameters
    ----------
    median_tev : ndarray, shape (n_obs,)
        Median energies.
    spread_dex : ndarray, shape (n_obs, 2)
        Spread below and above it; zero puts all events into one band.
    rigidity_tv : ndarray, shape (size, n_band)
        Nodes of the bands in TV, increasing, at least two; they meet half way in the logarithm.
    width : ndarray, shape (size,)
        Factor on the spreads.

    Examples
    --------
    >>> nodes, one = np.array([[1.0, 10.0, 100.0]]), np.ones(1)
    >>> band_shares(np.array([10.0]), np.array([[0.5, 0.5]]), nodes, one).round(3)
    array([[[0.157, 0.683, 0.157]]])
    """
    return np.diff(_distribution(median_tev, spread_dex, _edges(rigidity_tv), width), axis=-1)


def _edges(rigidity_tv: FloatArray) -> FloatArray:
    """log10 of the limits of bands, shape (size, n_band + 1), half way between nodes."""
    nodes = np.log10(rigidity_tv)
    if nodes.ndim != 2 or nodes.shape[1] < 2 or not np.all(np.diff(nodes, axis=1) > 0.0):
        raise ValueError(
            f"rigidity_tv {np.shape(rigidity_tv)}: expected (size, n_band), increasing, two bands or more"
        )
    between = 0.5 * (nodes[:, 1:] + nodes[:, :-1])
    first, last = 2.0 * nodes[:, :1] - between[:, :1], 2.0 * nodes[:, -1:] - between[:, -1:]
    return np.concatenate([first, between, last], axis=1)


def _distribution(median_tev: FloatArray, spread_dex: FloatArray, x: FloatArray, width: FloatArray) -> FloatArray:
    """Share of events below log10 R = x (size, n), shape (size, n_obs, n)."""
    offset = x[:, None, :] - np.log10(median_tev)[:, None]
    sigma = np.where(offset < 0.0, spread_dex[:, :1], spread_dex[:, 1:]) * width[:, None, None]
    return np.asarray(ndtr(offset / np.maximum(sigma, _SHARP_DEX)))


def _operator(record: PowerSpectrum, deviation: float | None) -> ObservationOperator:
    """Operator of a spectrum, at a deviation of the exponent of its weight in errors of the calibration."""
    if record.kind != "pseudo":
        return operator_for(record)
    calibration = calibrated_window(record)
    if deviation is None or calibration is None:
        return pseudo_operator(record)
    return pseudo_operator(record, calibration.at(deviation))


def _modes(record: PowerSpectrum, operators: Sequence[ObservationOperator], lmax: int) -> tuple[_Mode, ...]:
    """Rows of the record's multipoles, m by m, of operators at each node of the exponent."""
    found = []
    for m in operators[0].response:
        rows = np.flatnonzero(record.ell >= m)
        if not rows.size:
            continue
        ell = record.ell[rows]
        responses = np.stack([one.response[m][0][ell, m : lmax + 1] for one in operators])
        # Roots with a triangle of zeros change smoothly with the exponent, so that they can be interpolated.
        roots = np.stack([_root(one.noise[m][0][np.ix_(ell, ell)]) for one in operators])
        found.append(_Mode(m, rows, (1.0 if m == 0 else 2.0) / (2.0 * ell + 1.0), responses, roots))
    return tuple(found)


def _root(covariance: FloatArray) -> FloatArray:
    """Lower triangular root of a covariance; of zero, zero."""
    scale = np.trace(covariance) / len(covariance)
    if scale == 0.0:
        return np.zeros_like(covariance)
    # A cap has hardly any power in some directions, where rounding may be negative.
    return np.asarray(np.linalg.cholesky(covariance + 1e-12 * scale * np.eye(len(covariance))))


def _nodes() -> FloatArray:
    """Deviations of an exponent, in errors, at which operators are built: Chebyshev points."""
    return _REACH * np.cos(np.pi * (np.arange(_N_NODES) + 0.5) / _N_NODES)


def _lagrange(deviation: FloatArray) -> FloatArray:
    """Shares of the operators at the `_nodes` in that at deviations (size,), shape (size, n_node)."""
    nodes = _nodes()
    share = np.ones((deviation.size, nodes.size))
    for k in range(nodes.size):
        for other in range(nodes.size):
            if other != k:
                share[:, k] *= (deviation - nodes[other]) / (nodes[k] - nodes[other])
    return share


def _normal_within(limit: float, size: int, rng: np.random.Generator) -> FloatArray:
    """Standard normal numbers cut at +-limit, shape (size,)."""
    return np.asarray(stats.truncnorm(-limit, limit).ppf(rng.random(size)))


def _quarter_turn(vector: FloatArray) -> FloatArray:
    """Z x v: the vector turned by +90 degrees in right ascension."""
    return np.stack([-vector[..., 1], vector[..., 0]], axis=-1)


def _polar(components: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sizes and phases, both (n_vec, n), of pairs of components (n_vec, 2 n)."""
    x, y = components[:, ::2], components[:, 1::2]
    size = np.hypot(x, y)
    if not np.all(size > 0.0):
        raise ValueError("a dipole is zero: it has no phase")
    return size, np.arctan2(y, x)


def _line(angle: FloatArray) -> FloatArray:
    """Normal scores of angles in rad: a uniform angle becomes a standard normal number, -pi and pi its ends."""
    turn = np.remainder(angle / (2.0 * np.pi) + 0.5, 1.0)
    return np.asarray(ndtri(np.clip(turn, _CUT, 1.0 - _CUT)))
