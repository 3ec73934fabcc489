"""The result of a fit by importance sampling: weighted samples, their summary and everything needed to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.table import Table
from scipy.optimize import brentq

from obsfit.infer.circles import Circle, centres, opened, stored_circles, turned
from obsfit.infer.information import add_information
from obsfit.infer.run_store import opened_store, write_head
from obsfit.parameters import FloatArray
from obsfit.provenance import atomic_write

FORMAT = "obsfit-weighted-fit"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class WeightedSamples:
    """Weighted samples of a posterior.

    Attributes
    ----------
    names, labels, units : tuple of str, length n_par
        Parameters.
    theta : ndarray, shape (n, n_par)
        Samples.
    weight : ndarray, shape (n,)
        Sums to one.
    log_prob : ndarray, shape (n,)
        Log posterior density, not normalised; -inf where the weight is zero.
    maximum : ndarray, shape (n_par,)
        The vector of the largest posterior density, with the prior as its measure, that was met.
    effective_size : float
        One over the sum of the squared weights.
    log_evidence, log_evidence_error : float
        Natural logarithm of the integral of prior times likelihood, and its standard error.
    evaluations : int
        Calls of the posterior, counted by vectors, the search for the maximum included.
    provenance : mapping
        Versions, seed, configuration, checksums of the data, choices of the likelihood.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    units: tuple[str, ...]
    theta: FloatArray
    weight: FloatArray
    log_prob: FloatArray
    maximum: FloatArray
    effective_size: float
    log_evidence: float
    log_evidence_error: float
    evaluations: int
    provenance: Mapping[str, Any]

    @property
    def circles(self) -> tuple[Circle | None, ...]:
        """Circle of each parameter that is on one; None for others, and where the fit does not say."""
        return stored_circles(self.provenance, self.names)

    def mean(self) -> FloatArray:
        """Posterior mean, shape (n_par,)."""
        return self.weight @ self.theta

    def covariance(self) -> FloatArray:
        """Posterior covariance, shape (n_par, n_par)."""
        offset = self.theta - self.mean()
        return (self.weight[:, None] * offset).T @ offset

    def quantile(self, levels: float | Sequence[float]) -> FloatArray:
        """Posterior quantiles of each parameter, shape (..., n_par), at levels of any shape in [0, 1]."""
        return _quantiles(self.theta, self.weight, levels)

    def rank(self, truth: FloatArray) -> FloatArray:
        """Posterior probability that each parameter is below `truth`, both of shape (n_par,)."""
        return self.weight @ (self.theta < truth)

    def resample(self, size: int, *, rng: np.random.Generator) -> FloatArray:
        """Return samples of equal weight, with repetitions, shape (size, n_par)."""
        return self.theta[rng.choice(len(self.theta), size=size, p=self.weight)]

    def summary(self) -> Table:
        r"""Table with one row for each parameter.

        Columns: name, unit, median, mean, sd, the 16, 84, 2.5 and 97.5 percentiles, the maximum-posterior value, and
        the effective sample size of the mean: the variance over the squared standard error of the mean,
        :math:`\sum_i w_i (x_i - \bar x)^2 / \sum_i w_i^2 (x_i - \bar x)^2`, and the information gained from prior to
        posterior in bits with its error (see `obsfit.infer.information`; nan where the fit does not store its
        priors). ``meta`` has the effective size of the weights alone, the evaluations and the evidence, and says
        under ``unclaimed`` of which parameters nothing may be claimed.

        Circular parameters are cut opposite to their circular mean, not where their range ends: their numbers may leave
        the range by up to half a period, as -3 degrees where it starts at 0. `mean`, `covariance`, `quantile` and
        `rank` are of the numbers as they are.
        """
        circles = self.circles
        centre = centres(self.theta, circles, self.weight)
        theta = opened(self.theta, circles, centre)
        low2, low, median, high, high2 = _quantiles(theta, self.weight, [0.025, 0.16, 0.5, 0.84, 0.975])
        mean = self.weight @ theta
        squared = (theta - mean) ** 2
        variance = self.weight @ squared
        table = Table(
            {
                "name": list(self.names), "unit": list(self.units), "median": median, "mean": mean,
                "sd": np.sqrt(variance), "p16": low, "p84": high, "p2.5": low2, "p97.5": high2,
                "maximum": opened(self.maximum, circles, centre), "ess": variance / (self.weight**2 @ squared),
            }
        )  # fmt: skip
        for name in ("evaluations", "effective_size", "log_evidence", "log_evidence_error"):
            table.meta[name] = getattr(self, name)
        add_information(table, self.provenance, turned(self.theta, circles, centre), weight=self.weight)
        return table

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the result to an HDF5 file, complete or not at all."""
        with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
            write_head(file, FORMAT, FORMAT_VERSION, self.provenance)
            for name in ("names", "labels", "units"):
                file.attrs[name] = json.dumps(getattr(self, name))
            for name in ("effective_size", "log_evidence", "log_evidence_error", "evaluations"):
                file.attrs[name] = getattr(self, name)
            for name in ("theta", "weight", "log_prob", "maximum"):
                file[name] = getattr(self, name)

    @classmethod
    def load(cls, path: str | Path) -> WeightedSamples:
        """Return the result stored in `path`.

        Raises
        ------
        DataFormatError
            If the file is no fit of this format.
        """
        with opened_store(
            path,
            FORMAT,
            what="fit by importance sampling",
            remedy="Chains of run_emcee are read by FitResult.load.",
        ) as file:
            names, labels, units = (tuple(json.loads(file.attrs[name])) for name in ("names", "labels", "units"))
            return cls(
                names, labels, units, file["theta"][:], file["weight"][:], file["log_prob"][:], file["maximum"][:],
                float(file.attrs["effective_size"]), float(file.attrs["log_evidence"]),
                float(file.attrs["log_evidence_error"]), int(file.attrs["evaluations"]),
                json.loads(file.attrs["provenance"]),
            )  # fmt: skip


def _quantiles(theta: FloatArray, weight: FloatArray, levels: float | Sequence[float]) -> FloatArray:
    found = []
    for column in theta.T:
        order = np.argsort(column)
        # Each sample stands at the middle of the step that it makes.
        below = np.cumsum(weight[order]) - 0.5 * weight[order]
        found.append(np.interp(levels, below, column[order]))
    return np.stack(found, axis=-1)


def tempered(log_weight: FloatArray, least: float) -> FloatArray:
    """Return weights to the largest power up to one that leaves enough effective samples to fit a covariance to.

    Parameters
    ----------
    log_weight : ndarray, shape (n,)
        Logarithms of weights; -inf for samples that have none, to any power.
    least : float
        Effective number of samples that are to be left.

    Returns
    -------
    ndarray, shape (n,)
        Sums to one.
    """
    possible = np.isfinite(log_weight)
    relative = np.where(possible, log_weight - np.max(log_weight[possible]), 0.0)

    def to_power(power: float) -> FloatArray:
        weight = np.where(possible, np.exp(power * relative), 0.0)
        return np.asarray(weight / weight.sum())

    def spare(power: float) -> float:
        return float(1.0 / np.sum(to_power(power) ** 2)) - least

    if spare(1.0) >= 0.0:
        return to_power(1.0)
    return to_power(brentq(spare, 0.0, 1.0, xtol=1e-9) if spare(0.0) > 0.0 else 0.0)
