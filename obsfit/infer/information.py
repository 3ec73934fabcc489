r"""What was learnt of each parameter: the information gained from prior to posterior, in bits.

Each parameter :math:`\theta` is mapped to the quantile :math:`u = F(\theta)` of its prior, in which the prior is
uniform between 0 and 1. The gain is the Kullback-Leibler divergence of the one-dimensional posterior from it, which is
minus the differential entropy of u,

.. math:: D = \int_0^1 p(u) \log_2 p(u)\, du \; \mathrm{bits}.

One bit halves the range of a uniform prior. Where D is below half a bit the posterior is mostly the prior: nothing may
be claimed of such a parameter, whatever its interval looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from obsfit.parameters import FloatArray

__all__ = ["CLAIM", "UNKNOWN", "add_information", "information_gain", "stored_priors", "unclaimed"]

CLAIM = 0.5
"""Bits below which nothing may be claimed of a parameter."""
UNKNOWN = "the fit does not store a prior of scipy.stats for it, or has too few samples; make it again"
"""Why a gain is not a number."""
BLOCKS = 20
"""Blocks of independent samples that are left out one at a time."""
_FEWEST, _MOST, _PER_BIN = 8, 32, 20.0
# Weights that are this much smaller than the mean are none: such samples only tell how far a proposal reaches.
_NEGLIGIBLE = 1e-4


def information_gain(
    samples: FloatArray,
    prior: Any,
    *,
    weight: FloatArray | None = None,
    block: NDArray[np.int64] | None = None,
    effective_size: float | None = None,
) -> tuple[float, float]:
    r"""Return the information gained on one parameter in bits, and its standard error.

    With :math:`z = \Phi^{-1}(u)`, its posterior mean m and standard deviation s, and
    :math:`v = \Phi((z - m) / s)`,

    .. math:: D \ln 2 = \Big\langle \tfrac12 z^2 - \tfrac12 \big(\tfrac{z - m}{s}\big)^2 - \ln s \Big\rangle
              + \sum_k P_k \ln \frac{P_k}{\Delta v_k} .

    The first term is all there is for a normal posterior; the second is what differs from one, in bins of equal
    posterior probability between the outermost samples: bins that follow the posterior resolve it however narrow it
    is. A jackknife over blocks of samples, which are left out one at a time, removes the bias of the sum, inverse to
    the number of independent samples, and gives the error. Blocks that are long beside the autocorrelation time do
    so for a chain as well. Where nothing was learnt the result scatters about zero and may be negative. Bins lose what
    they cannot resolve: 0.01 bits at an edge within the prior, 0.2 bits of two peaks 60 standard deviations apart.

    Parameters
    ----------
    samples : ndarray, shape (n,)
        Posterior samples of the parameter.
    prior : frozen scipy.stats distribution
        Its prior; none of the samples may lie outside.
    weight : ndarray, shape (n,), optional
        Weights of the samples. Default: all equal.
    block : ndarray of int, shape (n,), optional
        Which block each sample belongs to, from 0. Default: 20 blocks in the order of the samples, for samples that
        are independent.
    effective_size : float, optional
        Number of independent samples that these are worth: it only chooses the number of bins, 8 to 32. Default: one
        over the sum of the squared weights.

    Returns
    -------
    bits, error : float
        Infinite and zero for samples that are all equal; nan where one block holds all the weight.

    Raises
    ------
    ValueError
        If a sample lies outside the prior.

    Examples
    --------
    One half of a uniform prior is left: one bit.

    >>> rng = np.random.default_rng(1)
    >>> bits, error = information_gain(rng.uniform(0.3, 0.8, size=4000), stats.uniform(0.0, 1.0))
    >>> print(f"{bits:.2f}, error below 0.01: {error < 0.01}")
    1.00, error below 0.01: True
    """
    samples = np.asarray(samples, dtype=np.float64)
    share = np.full(samples.size, 1.0 / samples.size) if weight is None else weight / np.sum(weight)
    if block is None:
        block = np.arange(samples.size) * min(BLOCKS, samples.size) // samples.size
    kept = share * share.size > _NEGLIGIBLE
    low, high = prior.support()
    room = 1e-9 * max((abs(end) for end in (low, high) if np.isfinite(end)), default=0.0)
    if np.any((samples[kept] < low - room) | (samples[kept] > high + room)):
        raise ValueError(f"a sample lies outside its prior, which ends at {low:g} and {high:g}")
    z, share, block = _scores(samples[kept], prior), share[kept] / share[kept].sum(), block[kept]
    mean = share @ z
    spread = np.sqrt(share @ (z - mean) ** 2)
    if not spread > 0.0:
        return np.inf, 0.0
    standard = (z - mean) / spread
    normal = 0.5 * z**2 - 0.5 * standard**2 - np.log(spread)
    size = 1.0 / np.sum(share**2) if effective_size is None else effective_size
    edges = _edges(ndtr(standard), share, int(np.clip(size / _PER_BIN, _FEWEST, _MOST)))
    number = int(block.max()) + 1
    inside = np.clip(np.searchsorted(edges, ndtr(standard), side="right") - 1, 0, edges.size - 2)
    place = block * (edges.size - 1) + inside
    in_bin = np.bincount(place, share, minlength=number * (edges.size - 1)).reshape(number, -1)
    in_block, sums = in_bin.sum(axis=1), np.bincount(block, share * normal, minlength=number)
    width = np.diff(edges)
    whole = _divergence(in_bin.sum(axis=0), width) + sums.sum()
    rest = 1.0 - in_block
    if not np.all(rest > 1e-9):
        return np.nan, np.nan
    without = np.array(
        [
            _divergence((in_bin.sum(axis=0) - own) / r, width) + (sums.sum() - s) / r
            for own, s, r in zip(in_bin, sums, rest, strict=True)
        ]
    )
    gain = number * whole - (number - 1) * without.mean()
    variance = (number - 1) / number * np.sum((without - without.mean()) ** 2)
    return float(gain / np.log(2.0)), float(np.sqrt(variance) / np.log(2.0))


def _scores(samples: FloatArray, prior: Any) -> FloatArray:
    """Normal scores of the prior's quantiles, from whichever tail is the shorter."""
    below, above = (np.clip(tail, 1e-300, 1.0) for tail in (prior.cdf(samples), prior.sf(samples)))
    return np.where(below < 0.5, ndtri(np.minimum(below, 0.5)), -ndtri(np.minimum(above, 0.5)))


def _edges(v: FloatArray, share: FloatArray, bins: int) -> FloatArray:
    """Edges of bins of equal probability between the outermost samples, shape (at most bins + 1,)."""
    order = np.argsort(v)
    middle = np.cumsum(share[order]) - 0.5 * share[order]
    inner = np.interp(np.arange(1, bins) / bins, middle, v[order])
    return np.unique(np.concatenate([[v[order[0]]], inner, [v[order[-1]]]]))


def _divergence(share: FloatArray, width: FloatArray) -> float:
    filled = share > 0.0
    return float(np.sum(share[filled] * np.log(share[filled] / width[filled])))


def stored_priors(provenance: Mapping[str, Any], names: Sequence[str]) -> list[Any | None]:
    """Return the priors that a stored fit says it had, in the order of names; None where it does not say.

    Parameters
    ----------
    provenance : mapping
        Of a fit: ``parameters`` lists name, prior (a distribution of scipy.stats) and args, of which those that are
        pairs were given by name.
    names : sequence of str
        Parameters that are asked for.

    Examples
    --------
    >>> told = {"parameters": [{"name": "a", "prior": "uniform", "args": [1.0, ["scale", 2.0]]}]}
    >>> known, unknown = stored_priors(told, ["a", "b"])
    >>> tuple(map(float, known.support())), unknown
    ((1.0, 3.0), None)
    """
    told = {entry.get("name"): entry for entry in provenance.get("parameters", ()) if isinstance(entry, Mapping)}
    return [_prior(told.get(name, {})) for name in names]


def _prior(entry: Mapping[str, Any]) -> Any | None:
    law = getattr(stats, str(entry.get("prior")), None)
    if not isinstance(law, stats.rv_continuous):
        return None
    given = entry.get("args", ())
    pairs = [value for value in given if isinstance(value, list | tuple)]
    try:
        plain = [float(value) for value in given if not isinstance(value, list | tuple)]
        prior = law(*plain, **{str(name): float(value) for name, value in pairs})
        return prior if np.isfinite(prior.median()) else None
    except (TypeError, ValueError):
        return None


def add_information(
    table: Table,
    provenance: Mapping[str, Any],
    samples: FloatArray,
    *,
    weight: FloatArray | None = None,
    block: NDArray[np.int64] | None = None,
    effective_size: FloatArray | None = None,
) -> None:
    """Add the columns bits and bits_error to the summary of a fit, and say in its meta what may not be claimed.

    Parameters
    ----------
    table : astropy.table.Table
        With the parameters in the column name.
    provenance : mapping
        Of the fit, see `stored_priors`. Where it holds no prior, both columns are nan.
    samples : ndarray, shape (n, n_par)
        Posterior samples.
    weight, block : ndarray, shape (n,), optional
        As `information_gain`.
    effective_size : ndarray, shape (n_par,), optional
        Independent samples of each parameter.
    """
    names = [str(name) for name in table["name"]]
    found = []
    for index, prior in enumerate(stored_priors(provenance, names)):
        size = None if effective_size is None else float(effective_size[index])
        if prior is None:
            found.append((np.nan, np.nan))
            continue
        found.append(
            information_gain(samples[:, index], prior, weight=weight, block=block, effective_size=size)
        )  # fmt: skip
    table["bits"], table["bits_error"] = (np.array(column) for column in zip(*found, strict=True))
    # A divergence is not negative: an estimate below zero is noise about it.
    table["bits"] = np.maximum(table["bits"], 0.0)
    table.meta["unclaimed"] = unclaimed(table)


def unclaimed(table: Table) -> str:
    """Return one sentence on the parameters of a summary of which nothing may be claimed; empty where there is none.

    Examples
    --------
    >>> unclaimed(Table({"name": ["a", "b"], "bits": [2.0, 0.1]}))
    'Nothing may be claimed of b: less than 0.5 bits were learnt.'
    """
    bits = np.asarray(table["bits"])
    poor = ", ".join(str(name) for name in table["name"][bits < CLAIM])
    unknown = ", ".join(str(name) for name in table["name"][np.isnan(bits)])
    said = [f"Nothing may be claimed of {poor}: less than {CLAIM} bits were learnt."] if poor else []
    return " ".join([*said, *([f"The information on {unknown} is not known: {UNKNOWN}."] if unknown else [])])
