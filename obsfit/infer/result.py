"""The result of a fit: chain, convergence, summary and everything needed to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.table import Table

from obsfit.infer import diagnostics
from obsfit.infer.circles import Circle, centres, opened, stored_circles, turned
from obsfit.infer.information import add_information
from obsfit.infer.run_store import opened_store, write_head
from obsfit.parameters import FloatArray
from obsfit.provenance import atomic_write

FORMAT = "obsfit-fit"
FORMAT_VERSION = 1
ENOUGH = 20_000
"""Samples of a chain from which the information is found: walkers of neighbouring steps are nearly where they were."""
BLOCKS = 10
"""Blocks of steps for its error: five autocorrelation times each in the shortest converged chain."""


@dataclass(frozen=True)
class FitResult:
    """Samples of a posterior with their diagnostics.

    Attributes
    ----------
    names, labels, units : tuple of str, length n_par
        Parameters of the model, then nuisances.
    chain : ndarray, shape (n_steps, n_walkers, n_par)
        All steps, burn-in included.
    log_prob : ndarray, shape (n_steps, n_walkers)
        Log posterior density of each position.
    burn_in : int
        Steps to leave out.
    autocorrelation_time : ndarray, shape (n_par,)
        Integrated autocorrelation time in steps, after burn-in.
    acceptance : float
        Mean acceptance fraction of the moves.
    maximum : ndarray, shape (n_par,)
        Vector of maximum posterior density found before sampling.
    provenance : mapping
        Versions, seed, configuration, checksums of the data, choices of the likelihood.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    units: tuple[str, ...]
    chain: FloatArray
    log_prob: FloatArray
    burn_in: int
    autocorrelation_time: FloatArray
    acceptance: float
    maximum: FloatArray
    provenance: Mapping[str, Any]

    def samples(self, size: int | None = None) -> FloatArray:
        """Posterior samples after burn-in, shape (n, n_par), thinned evenly to at most `size`."""
        kept = self.chain[self.burn_in :].reshape(-1, len(self.names))
        if size is None or size >= len(kept):
            return kept
        return kept[np.linspace(0, len(kept) - 1, size).round().astype(int)]

    @property
    def circles(self) -> tuple[Circle | None, ...]:
        """Circle of each parameter that is on one; None for others, and where the fit does not say."""
        return stored_circles(self.provenance, self.names)

    @property
    def effective_steps(self) -> float:
        """Steps after burn-in in units of the longest autocorrelation time."""
        return float((len(self.chain) - self.burn_in) / self.autocorrelation_time.max())

    def summary(self) -> Table:
        """Table with one row for each parameter.

        Columns: name, unit, median, mean, sd, the 16, 84, 2.5 and 97.5 percentiles, the maximum-posterior value,
        the autocorrelation time, the effective sample size, the rank-normalised R-hat over walkers, and the information
        gained from prior to posterior in bits with its error (see `obsfit.infer.information`; nan where the fit does
        not store its priors). ``meta["unclaimed"]`` says of which parameters nothing may be claimed.

        Circular parameters are cut opposite to their circular mean, not where their range ends: their numbers may leave
        the range by up to half a period, as -3 degrees where it starts at 0.
        """
        kept = self.chain[self.burn_in :]
        circles = self.circles
        centre = centres(kept, circles)
        flat = opened(kept, circles, centre).reshape(-1, len(self.names))
        low2, low, median, high, high2 = np.percentile(flat, [2.5, 16, 50, 84, 97.5], axis=0)
        ess, r_hat = diagnostics.sample_sizes(kept, circles)
        table = Table(
            {
                "name": list(self.names), "unit": list(self.units), "median": median, "mean": flat.mean(0),
                "sd": flat.std(0), "p16": low, "p84": high, "p2.5": low2, "p97.5": high2,
                "maximum": opened(self.maximum, circles, centre), "tau": self.autocorrelation_time,
                "ess": ess, "r_hat": r_hat,
            }
        )  # fmt: skip
        table.meta.update({"steps": len(self.chain), "burn_in": self.burn_in, "acceptance": self.acceptance})
        thinned = kept[:: -(-len(flat) // ENOUGH)]
        step = np.repeat(np.arange(len(thinned)), thinned.shape[1])
        middle = turned(thinned, circles, centre).reshape(-1, len(self.names))
        add_information(
            table, self.provenance, middle, block=step * BLOCKS // len(thinned),
            effective_size=ess,
        )  # fmt: skip
        return table

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the result to an HDF5 file, complete or not at all."""
        with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
            write_head(file, FORMAT, FORMAT_VERSION, self.provenance)
            for name in ("names", "labels", "units"):
                file.attrs[name] = json.dumps(getattr(self, name))
            file.attrs["burn_in"], file.attrs["acceptance"] = self.burn_in, self.acceptance
            for name in ("chain", "log_prob", "autocorrelation_time", "maximum"):
                file[name] = getattr(self, name)

    @classmethod
    def load(cls, path: str | Path) -> FitResult:
        """Return the result stored in `path`.

        Raises
        ------
        DataFormatError
            If the file is no finished fit of this format.
        """
        with opened_store(
            path, FORMAT, what="finished fit", needs="burn_in",
            remedy="An interrupted fit is continued by run_emcee(..., resume=True); one by importance sampling is read "
            "by WeightedSamples.load.",
        ) as file:  # fmt: skip
            text = {name: tuple(json.loads(file.attrs[name])) for name in ("names", "labels", "units")}
            return cls(
                **text,
                chain=file["chain"][:], log_prob=file["log_prob"][:], burn_in=int(file.attrs["burn_in"]),
                autocorrelation_time=file["autocorrelation_time"][:],
                acceptance=float(file.attrs["acceptance"]), maximum=file["maximum"][:],
                provenance=json.loads(file.attrs["provenance"]),
            )  # fmt: skip
