"""Posteriors whose likelihood is learnt: an emulator of the distribution of the data, with priors."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table

from obsfit.emulate.emulator import Emulator
from obsfit.emulate.folding import RIGHT_ASCENSION
from obsfit.emulate.surrogate_density import MARGIN
from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.infer.target import described
from obsfit.parameters import FloatArray, Parameter, log_density, sum_densities
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.provenance import Provenance
from obsfit.records.spectrum import PowerSpectrum

__all__ = [
    "EmulatedLikelihood", "EmulatedPosterior", "EmulatedTerm", "PredictiveCheck", "predictive_check", "predictive_p",
]  # fmt: skip

BEYOND = 1e-3
"""Largest probability of a prior beyond the parameters that an emulator was trained for."""


@dataclass(frozen=True, eq=False)
class EmulatedTerm:
    """The data of an emulator, in the words of other terms of a likelihood.

    Attributes
    ----------
    records : tuple of PowerSpectrum and DipoleMeasurements
        What was measured; the published values, whatever data are fitted.
    labels : tuple of str, length n_data
        One for each number.
    data : ndarray, shape (n_data,)
        The data, those that are left out of the fit included.
    """

    records: tuple[PowerSpectrum | DipoleMeasurements, ...]
    labels: tuple[str, ...]
    data: FloatArray

    @property
    def spectra(self) -> tuple[PowerSpectrum, ...]:
        """The spectra, in their order."""
        return tuple(record for record in self.records if isinstance(record, PowerSpectrum))

    @property
    def dipoles(self) -> tuple[DipoleMeasurements, ...]:
        """The tables of dipoles, in their order."""
        return tuple(record for record in self.records if isinstance(record, DipoleMeasurements))

    @property
    def provenances(self) -> tuple[Provenance, ...]:
        """Where the records come from, each table once."""
        return tuple({record.provenance.name: record.provenance for record in self.records}.values())


@dataclass(frozen=True, eq=False)
class EmulatedLikelihood:
    """The likelihood of an emulator, which is one term: its data are of one sky."""

    terms: tuple[EmulatedTerm]

    @property
    def data_checksums(self) -> Mapping[str, str]:
        """Checksum of the file behind each data set."""
        return {source.name: source.sha256 for source in self.terms[0].provenances}


class EmulatedPosterior:
    r"""Log posterior density of the parameters of an emulator, vectorised.

    .. math:: \ln p(\theta | d) = \ln \pi(\theta) + \ln p(d_\mathrm{used} | \theta) + \mathrm{const},

    where the emulator averages over all that it drew: fields, noise, errors of calibration, and its own error. Data
    that are left out are integrated over, which is exact. Nothing is known outside the parameters that the emulator
    was trained for: the density is taken as zero there.

    The right ascension of the gradient, by which the emulator turns its skies, is on a circle (`Parameter.period`)
    whatever the file of an older emulator says: no sampler sees a cut where its range ends.

    Parameters
    ----------
    emulator : Emulator
        Density of the data given the parameters.
    data : ndarray, shape (n_data,), optional
        In the order of ``emulator.labels``, for example of a mock. Default: as published.
    priors : mapping of str to frozen scipy.stats distribution, optional
        Replaces priors by name.
    leave_out : sequence of str
        Labels of data that are not fitted, or measurements, such as "icecube-2025-24TeV", with all their data.

    Raises
    ------
    ConfigurationError
        If data do not fit, a name is unknown, no data are left, or a prior reaches beyond what was trained.

    Attributes
    ----------
    parameters : tuple of Parameter
        The columns of theta.
    labels : tuple of str
        The data that are fitted.
    left_out : tuple of str
        The data that are not.
    """

    def __init__(
        self,
        emulator: Emulator,
        data: FloatArray | None = None,
        *,
        priors: Mapping[str, Any] | None = None,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.emulator = emulator
        self._given = data is not None
        self.data = _checked(emulator, emulator.data if data is None else data)
        self.parameters = _with_priors(emulator, dict(priors or {}))
        self.left_out = _left_out(emulator.labels, leave_out)
        self.labels = tuple(label for label in emulator.labels if label not in self.left_out)
        if not self.labels:
            raise ConfigurationError("leave_out names all data", expected="some that are fitted")
        self._columns = emulator.folded.columns(self.labels)
        kept = emulator.folded.value_labels(self.labels)
        self._surrogate = emulator.surrogate.marginal(kept) if self.left_out else emulator.surrogate
        self._densities = [log_density(p.prior) for p in self.parameters]
        self._learnt = np.array([name in emulator.folded.learnt for name in self.names])
        self._low, self._high = _trained(emulator)
        term = EmulatedTerm(emulator.folded.records, emulator.labels, self.data)
        self.likelihood = EmulatedLikelihood((term,))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of theta."""
        return self.emulator.names

    @property
    def description(self) -> dict[str, Any]:
        """What a stored fit is a fit of, in terms of JSON: emulator, parameters with their priors, measurements."""
        return {
            "model": self.emulator.model,
            "emulator": _checksum(self.emulator.surrogate.mean, self.emulator.surrogate.correlation),
            "parameters": [described(p) for p in self.parameters],
            "measurements": [list(self.labels)],
            "left_out": list(self.left_out),
            "data": _checksum(self.data) if self._given else "published",
        }

    @property
    def data_checksums(self) -> Mapping[str, str]:
        """Checksum of the file behind each data set."""
        return self.likelihood.data_checksums

    def log_prior(self, theta: FloatArray) -> FloatArray:
        """Log prior density, shape (n_vec,); -inf outside what the emulator was trained for."""
        theta = np.atleast_2d(theta)
        learnt = theta[:, self._learnt]
        inside = np.all((learnt >= self._low) & (learnt <= self._high), axis=1)
        return np.where(inside, sum_densities(self._densities, theta), -np.inf)

    def log_likelihood(self, theta: FloatArray) -> FloatArray:
        """Log density of the data that are fitted, shape (n_vec,), for theta (n_vec, n_par)."""
        jacobian = self.emulator.folded.log_jacobian(theta, self.data, labels=self.labels)
        return self.log_density_of(self.data, theta) + jacobian

    def log_density_of(self, data: FloatArray, theta: FloatArray) -> FloatArray:
        """Return the log density of data in the coordinates of the emulator, shape (n_vec,).

        Of logarithms of powers, not of powers: the density of a power grows as it vanishes, and would call faint skies
        likely.

        Parameters
        ----------
        data : ndarray, shape (n_data,) or (n_vec, n_data)
            All data; those that are left out do not count.
        theta : ndarray, shape (n_vec, n_par)
            Parameters.
        """
        folded = self.emulator.folded
        values = folded.coordinates(data, theta)[:, self._columns]
        return self._surrogate.log_density(folded.without_right_ascension(theta), values)

    def log_prob(self, theta: FloatArray) -> FloatArray:
        """Log posterior density, shape (n_vec,), for theta (n_vec, n_par); -inf outside the prior's support.

        Raises
        ------
        ObsfitError
            If the likelihood is not a number.
        """
        theta = np.atleast_2d(np.asarray(theta, dtype=np.float64))
        total = self.log_prior(theta)
        inside = np.isfinite(total)
        if inside.any():
            total[inside] += self.log_likelihood(theta[inside])
        if np.isnan(total).any():
            raise ObsfitError(f"the likelihood of the emulator is not a number at {theta[np.isnan(total)][0]}")
        return total

    def draw(self, theta: FloatArray, *, rng: np.random.Generator) -> list[FloatArray]:
        """Random data, those left out included: one array of shape (n_vec, n_data), as other posteriors give one for
        each term.
        """
        return [self.emulator.draw(theta, rng=rng)]


@dataclass(frozen=True)
class PredictiveCheck:
    """How well a fit describes its data.

    Attributes
    ----------
    p_value : float
        Of `predictive_p`.
    table : Table
        One row for each number of the data: label, energy_tev, data, fitted (or left out), median and percentiles of
        the prediction, probability_below (that a repeated number is smaller than the datum) and tail, the probability
        of one at least as far from the median, on either side.
    """

    p_value: float
    table: Table


def predictive_p(posterior: EmulatedPosterior, samples: FloatArray, *, rng: np.random.Generator) -> float:
    r"""Return how often repeated data are less likely than the data are.

    .. math:: p = \langle P[\, p(v_\mathrm{rep} | \theta) \le p(v | \theta) \,] \rangle_{\theta | d},

    with the density of the data that are fitted, in the coordinates of the emulator. Near zero the model cannot have
    made the data; near one the data are closer to the middle than it says. The data were used to fit: the values of a
    true model crowd towards one half (Gelman, Meng & Stern 1996).

    Parameters
    ----------
    posterior : EmulatedPosterior
        What was fitted.
    samples : ndarray, shape (n, n_par)
        Its samples, of equal weight.
    rng : numpy.random.Generator
        Source of the repeated data.
    """
    repeated = posterior.emulator.draw(samples, rng=rng)
    here, there = (posterior.log_density_of(data, samples) for data in (posterior.data, repeated))
    return float(np.mean(there <= here))


def predictive_check(
    posterior: EmulatedPosterior, samples: FloatArray, *, rng: np.random.Generator
) -> PredictiveCheck:
    """Return how well the posterior predicts the data: all together, and one by one.

    Parameters
    ----------
    posterior : EmulatedPosterior
        What was fitted.
    samples : ndarray, shape (n, n_par)
        Its samples, of equal weight.
    rng : numpy.random.Generator
        Source of the repeated data.
    """
    emulator = posterior.emulator
    values = emulator.folded.coordinates(posterior.data, samples)
    # A turned dipole is no single number of the surrogate: its components are counted among draws.
    drawn = emulator.draw(samples, rng=rng)
    below = np.mean(drawn < posterior.data, axis=0)
    n_power = emulator.folded.n_power
    pit = emulator.surrogate.pit(emulator.folded.without_right_ascension(samples), values)
    below[:n_power] = pit.mean(axis=0)[:n_power]
    low2, low, median, high, high2 = np.percentile(drawn, [2.5, 16, 50, 84, 97.5], axis=0)
    table = Table(
        {
            "label": list(emulator.labels), "energy_tev": emulator.folded.energy_tev, "data": posterior.data,
            "fitted": [label in posterior.labels for label in emulator.labels], "median": median, "p16": low,
            "p84": high, "p2.5": low2, "p97.5": high2, "probability_below": below,
            "tail": 2.0 * np.minimum(below, 1.0 - below),
        }
    )  # fmt: skip
    return PredictiveCheck(predictive_p(posterior, samples, rng=rng), table)


def _checked(emulator: Emulator, data: FloatArray) -> FloatArray:
    """The data, if they can be those of an emulator."""
    data = np.array(data, dtype=np.float64)
    if data.shape != (len(emulator.labels),):
        raise ConfigurationError(
            f"data of shape {data.shape}", expected=f"{len(emulator.labels)} numbers, for emulator.labels"
        )
    wrong = ~np.isfinite(data)
    wrong[: emulator.folded.n_power] |= data[: emulator.folded.n_power] <= 0.0
    if wrong.any():
        worst = int(np.argmax(wrong))
        raise ConfigurationError(
            f"{emulator.labels[worst]} = {data[worst]:g}", value=float(data[worst]),
            expected="finite data, and powers above zero",
        )  # fmt: skip
    return data


def _trained(emulator: Emulator) -> tuple[FloatArray, FloatArray]:
    """Ends of the learnt parameters between which an emulator answers."""
    low, high = emulator.surrogate.domain
    room = MARGIN * (high - low)
    return low - room, high + room


def _with_priors(emulator: Emulator, chosen: dict[str, Any]) -> tuple[Parameter, ...]:
    """The parameters of an emulator with priors that were chosen, if it knows them."""
    for name in chosen:
        if name not in emulator.names:
            near = difflib.get_close_matches(name, emulator.names, n=1)
            raise ConfigurationError(
                f"prior for unknown parameter {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=f"one of {', '.join(emulator.names)}",
            )
    found = tuple(
        replace(
            p, prior=chosen.get(p.name, p.prior), period=2.0 * np.pi if p.name == RIGHT_ASCENSION else p.period
        )
        for p in emulator.parameters
    )  # fmt: skip
    for parameter in found:
        if parameter.name not in emulator.folded.learnt:
            continue
        low, high = (end[emulator.folded.learnt.index(parameter.name)] for end in _trained(emulator))
        outside = float(parameter.prior.cdf(low) + parameter.prior.sf(high))
        if outside > BEYOND:
            raise ConfigurationError(
                f"{outside:.2g} of the prior of {parameter.name} lies beyond what the emulator was trained for",
                value=outside, expected=f"a prior between {low:.4g} and {high:.4g}",
                remedy="Narrow the prior, or train an emulator of a wider range.",
            )  # fmt: skip
    return found


def _left_out(labels: tuple[str, ...], names: Sequence[str]) -> tuple[str, ...]:
    """Labels that are named, by themselves or by their measurement, in the order of the data."""
    known = {label: label.rpartition(" ")[0] for label in labels}
    for name in names:
        if name not in known and name not in known.values():
            near = difflib.get_close_matches(name, [*known.values(), *known], n=1)
            raise ConfigurationError(
                f"leave_out: there are no data {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=f"labels, or measurements among {', '.join(dict.fromkeys(known.values()))}",
            )
    chosen = set(names)
    found = tuple(label for label, measurement in known.items() if label in chosen or measurement in chosen)
    for label in found:
        stem, _, axis = label.rpartition(" ")
        other = {"0h": f"{stem} 6h", "6h": f"{stem} 0h"}.get(axis)
        if other is not None and other not in found:
            raise ConfigurationError(
                f"leave_out: {label!r} without its other component", expected=f"{stem!r}, a dipole as a whole"
            )
    return found


def _checksum(*arrays: FloatArray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
