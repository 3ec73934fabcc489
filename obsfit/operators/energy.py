"""What an observation averages over: the spread of true energies, and of rigidities at one energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from obsfit.ingest.catalogue import load_table
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum

__all__ = ["Composition", "EnergyResponse", "common_rigidities", "energy_response_for", "polygonato_composition"]

FloatArray = NDArray[np.float64]

# Grids are the powers 10^(k / NODES_PER_DECADE), so that those of different data sets share their nodes. Between nodes
# a model is taken as linear in log R: for an amplitude that grows as R^(1/3) the error is 0.3 %.
NODES_PER_DECADE = 4
# Tails beyond so many times the spread are left out: 5e-4 of the events at the published spreads.
REACH = 3.5
# Nodes nearer than this in log10 R are one node.
SAME_DEX = 1e-9


@dataclass(frozen=True)
class Composition:
    """Share of the observed events by charge, the same at all energies of an observation.

    Attributes
    ----------
    charge : ndarray, shape (k,)
        Charge numbers Z; a nucleus of energy E has the rigidity E / Z.
    fraction : ndarray, shape (k,)
        Share of the events, summing to one. It is that of the events at equal energy, after the observatory's
        efficiency, not that of the flux at equal rigidity.

    Examples
    --------
    >>> Composition([1, 2, 26], [0.5, 0.3, 0.2]).charge
    array([ 1.,  2., 26.])
    """

    charge: FloatArray
    fraction: FloatArray

    def __post_init__(self) -> None:
        charge = np.atleast_1d(np.asarray(self.charge, dtype=np.float64))
        fraction = np.atleast_1d(np.asarray(self.fraction, dtype=np.float64))
        if charge.ndim != 1 or charge.shape != fraction.shape:
            raise ValueError(f"charge {charge.shape} and fraction {fraction.shape}: expected equal shapes (k,)")
        if not np.all(np.isfinite(charge)) or np.any(charge < 1.0):
            raise ValueError(f"charge {charge.tolist()}: expected charge numbers of at least one")
        if not np.all(fraction >= 0.0) or not abs(fraction.sum() - 1.0) < 1e-6:
            raise ValueError(f"fraction {fraction.tolist()}: expected shares that sum to one, none negative")
        object.__setattr__(self, "charge", charge)
        object.__setattr__(self, "fraction", fraction / fraction.sum())


@dataclass(frozen=True)
class EnergyResponse:
    r"""What each observation averages over: weights over true rigidity.

    The distribution of the true energies of an observation is two-sided normal in :math:`x = \log_{10} E`: half of
    the events lie on each side of the median, each half is one half of a normal law with the spread of its side.
    A weight is the integral of this density with the piecewise linear function that is one at its node and zero at
    the others,

    .. math:: w_j = \int h_j(x)\, p(x)\, dx \Big/ \sum_k \int h_k(x)\, p(x)\, dx,

    so that sums over nodes are exact for models that are linear in log R between them; in closed form, because
    :math:`w_j` is a second difference of the integral of the normal distribution function. The density of the
    events jumps at the median where the two spreads differ, and a plain sum over nodes would see that.

    Attributes
    ----------
    rigidity_tv : ndarray, shape (n_rig,)
        Rigidities at which a model must be evaluated, increasing.
    weights : ndarray, shape (n_obs, n_rig)
        Each row sums to one.
    is_delta : bool
        True if each observation is taken to see protons of its median energy alone. That is an approximation: the
        true spreads are 0.5 to 0.8 decades in energy.
    median_tev : ndarray or None, shape (n_obs,)
        Median energies; None if only the weights are known.
    spread_dex : ndarray or None, shape (n_obs, 2)
        Spread below and above the median in log10 E, holding 68 % of each half; zero where there is none.
    composition : Composition or None
        Charges of the particles; None are protons.
    """

    rigidity_tv: FloatArray
    weights: FloatArray
    is_delta: bool
    median_tev: FloatArray | None = None
    spread_dex: FloatArray | None = None
    composition: Composition | None = None

    @classmethod
    def delta(cls, energy_tev: ArrayLike) -> EnergyResponse:
        """Return the response of observations that see protons of exactly `energy_tev`, shape (n_obs,).

        Examples
        --------
        >>> EnergyResponse.delta([24.0, 13.0]).rigidity_tv
        array([13., 24.])
        """
        energy = _positive(np.atleast_1d(np.asarray(energy_tev, dtype=np.float64)), "energy_tev")
        rigidity, which = np.unique(energy, return_inverse=True)
        weights = np.zeros((which.size, rigidity.size))
        weights[np.arange(which.size), which] = 1.0
        return cls(rigidity, weights, True, energy, np.zeros((which.size, 2)))

    @classmethod
    def log_normal(
        cls,
        median_tev: ArrayLike,
        spread_dex: ArrayLike,
        *,
        composition: Composition | None = None,
        rigidity_tv: ArrayLike | None = None,
    ) -> EnergyResponse:
        """Return the response of observations with a two-sided normal distribution in log10 E.

        Parameters
        ----------
        median_tev : array_like, shape (n_obs,)
            Median energies.
        spread_dex : array_like, shape (n_obs, 2)
            Spread below and above the median in log10 E: the length that holds 68.27 % of each half. Zero, on both
            sides, stands for an observation of its median energy alone.
        composition : Composition, optional
            Shares of the charges at each energy, such as `polygonato_composition`. Default: protons.
        rigidity_tv : array_like, shape (n_rig,), optional
            Grid. Default: 4 nodes per decade as far as 3.5 spreads reach, plus the points of spread zero.

        Raises
        ------
        ValueError
            If a number is out of range, or the grid misses an observation altogether.

        Examples
        --------
        >>> response = EnergyResponse.log_normal([13.0], [[0.62, 0.50]])
        >>> response.weights.sum(axis=1), response.is_delta
        (array([1.]), False)
        """
        median = _positive(np.atleast_1d(np.asarray(median_tev, dtype=np.float64)), "median_tev")
        spread = np.asarray(spread_dex, dtype=np.float64)
        if spread.shape != (median.size, 2):
            raise ValueError(f"spread_dex of shape {spread.shape}: expected ({median.size}, 2), low and high")
        sharp = np.all(spread == 0.0, axis=1)
        if not np.all(np.isfinite(spread)) or not np.all((spread > 0.0).all(axis=1) | sharp):
            raise ValueError(f"spread_dex {spread.tolist()}: expected two positive spreads or two zeros each")
        if rigidity_tv is None:
            grid = _default_grid(np.log10(median), spread, composition)
        else:
            grid = _checked_grid(rigidity_tv)
        weights = _weights(np.log10(median), spread, composition, np.log10(grid), np.ones(1))[0]
        return cls(grid, weights, bool(sharp.all() and composition is None), median, spread, composition)

    def widened(self, width: ArrayLike) -> FloatArray:
        """Return the weights with all spreads multiplied by `width`, shape (n_vec, n_obs, n_rig).

        The nuisance of a fit: a width of one gives `weights`. The grid stays, so that tails of large widths are cut
        sooner. Observations without a spread do not change; a view is returned if none has one.

        Parameters
        ----------
        width : array_like, shape (n_vec,)

        Raises
        ------
        ValueError
            If a width is not positive, or the response was built from weights alone.
        """
        factor = _positive(np.atleast_1d(np.asarray(width, dtype=np.float64)), "width")
        if self.is_delta or (self.spread_dex is not None and not self.spread_dex.any()):
            return np.broadcast_to(self.weights, (factor.size, *self.weights.shape))
        if self.median_tev is None or self.spread_dex is None:
            raise ValueError("this response was built from weights alone: its spreads are not known")
        grid = np.log10(self.rigidity_tv)
        return _weights(np.log10(self.median_tev), self.spread_dex, self.composition, grid, factor)

    def on(self, rigidity_tv: ArrayLike) -> EnergyResponse:
        """Return the same response on another grid, for models that serve several data sets at once.

        Parameters
        ----------
        rigidity_tv : array_like, shape (n_rig,)
            Increasing. It must hold the points of observations without a spread, and all nodes of a response that was
            built from weights alone.

        Raises
        ------
        ValueError
            If the grid does not.
        """
        grid = _checked_grid(rigidity_tv)
        if self.median_tev is None or self.spread_dex is None:
            weights = np.zeros((self.weights.shape[0], grid.size))
            weights[:, _find(np.log10(self.rigidity_tv), np.log10(grid))] = self.weights
            return replace(self, rigidity_tv=grid, weights=weights)
        weights = _weights(
            np.log10(self.median_tev), self.spread_dex, self.composition, np.log10(grid), np.ones(1)
        )[0]
        return replace(self, rigidity_tv=grid, weights=weights)


def common_rigidities(responses: Sequence[EnergyResponse]) -> list[EnergyResponse]:
    """Return the responses on one grid that serves them all: the nodes of all of them.

    Examples
    --------
    >>> a, b = common_rigidities([EnergyResponse.delta([13.0]), EnergyResponse.delta([24.0])])
    >>> a.weights, b.weights
    (array([[1., 0.]]), array([[0., 1.]]))
    """
    if not responses:
        return []
    grid = _merged(np.concatenate([np.log10(response.rigidity_tv) for response in responses]))
    own = np.concatenate([response.rigidity_tv for response in responses])
    # The published numbers themselves, not their logarithms and back.
    nodes = own[np.argmin(np.abs(np.log10(own) - grid[:, None]), axis=1)]
    return [response.on(nodes) for response in responses]


def energy_response_for(
    record: DipoleMeasurements | PowerSpectrum, *, composition: Composition | None = None
) -> EnergyResponse:
    """Return the energy response of a record, as far as it is published.

    IceCube, and IceCube with HAWC: two-sided normal in log10 E about the record's medians, with the spreads of the six
    years of IceCube (table ``icecube-2016-energy-bins``) interpolated linearly in log10 E and held constant beyond the
    table's ends. That the joint map of HAWC and IceCube has them too is an assumption: it was selected for the same
    median energy in both. All others, the HAWC field of that map included: the median energy alone. A spectrum is
    recognised by its key, which begins with "icecube" or "hawc-icecube".

    Parameters
    ----------
    record : DipoleMeasurements or PowerSpectrum
    composition : Composition, optional
        Default: protons.
    """
    if isinstance(record, DipoleMeasurements):
        median = np.asarray(record.energy_tev, dtype=np.float64)
        known = np.array([name.casefold() in ("icecube", "hawc+icecube") for name in record.observatory])
    else:
        median = np.array([record.energy_tev])
        key = record.measurement.casefold()
        known = np.array([key.startswith(("icecube", "hawc-icecube")) and not key.endswith("-hawc")])
    if not known.any() and composition is None:
        return EnergyResponse.delta(median)
    table = load_table("icecube-2016-energy-bins")
    x = np.asarray(table["log10_energy_median"], dtype=np.float64) - 3.0
    spread = np.stack(
        [np.interp(np.log10(median), x, table[column]) for column in ("spread_minus", "spread_plus")], axis=1
    )
    return EnergyResponse.log_normal(median, spread * known[:, None], composition=composition)


def polygonato_composition(energy_tev: float) -> Composition:
    r"""Return the shares of the elements from hydrogen to iron in the flux at one energy per nucleus.

    .. math:: \Phi_Z \propto \Phi^0_Z\, E^{-\gamma_Z}
              \left[1 + (E / Z E_p)^{\epsilon}\right]^{-\Delta\gamma / \epsilon}

    of Hoerandel 2003 (table ``hoerandel-2003``, knee included). These are shares of the flux: those of the events
    differ by the efficiency of the observatory, which for muons deep in the ice favours light nuclei, because it goes
    with the energy per nucleon. They change little over an energy spread, and are held constant there.

    Parameters
    ----------
    energy_tev : float
        Energy per nucleus.

    Examples
    --------
    >>> polygonato_composition(20.0).fraction[:2].round(2)
    array([0.33, 0.27])
    """
    _positive(np.array([energy_tev]), "energy_tev")
    table = load_table("hoerandel-2003")
    charge, index = np.asarray(table["charge"], dtype=np.float64), np.asarray(table["index"], dtype=np.float64)
    knee, change, sharpness = (float(table.meta[key]) for key in ("knee_pev", "knee_change", "knee_sharpness"))
    steepening = (1.0 + (energy_tev / (1e3 * knee * charge)) ** sharpness) ** (-change / sharpness)
    flux = np.asarray(table["flux"], dtype=np.float64) * energy_tev**-index * steepening
    return Composition(charge, flux / flux.sum())


def _positive(values: FloatArray, name: str) -> FloatArray:
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)) or np.any(values <= 0.0):
        raise ValueError(f"{name} {values.tolist()}: expected positive numbers in one dimension")
    return values


def _checked_grid(rigidity_tv: ArrayLike) -> FloatArray:
    grid = _positive(np.atleast_1d(np.asarray(rigidity_tv, dtype=np.float64)), "rigidity_tv")
    if np.any(np.diff(np.log10(grid)) < SAME_DEX):
        raise ValueError("rigidity_tv: expected an increasing grid without repeated nodes")
    return grid


def _merged(x: FloatArray) -> FloatArray:
    """Sorted values, those nearer than SAME_DEX to the one before left out."""
    x = np.sort(x)
    return x[np.concatenate([[True], np.diff(x) >= SAME_DEX])]


def _find(points: FloatArray, x: FloatArray) -> NDArray[np.intp]:
    """Position of each point among the nodes x; refuses a point that is no node."""
    nearest = np.argmin(np.abs(points[:, None] - x), axis=1)
    missing = np.abs(points - x[nearest]) > SAME_DEX
    if missing.any():
        raise ValueError(
            f"the grid of rigidities lacks {10.0 ** points[missing][0]:.6g} TV, which an observation without a known "
            "spread of energies needs; common_rigidities makes a grid that serves all"
        )
    return nearest


def _shifts(composition: Composition | None) -> tuple[FloatArray, FloatArray]:
    """Logarithms of the charges, and their shares."""
    if composition is None:
        return np.zeros(1), np.ones(1)
    return np.log10(composition.charge), composition.fraction


def _default_grid(median: FloatArray, spread: FloatArray, composition: Composition | None) -> FloatArray:
    shifts, _ = _shifts(composition)
    sharp = spread[:, 0] == 0.0
    points = (median[sharp, None] - shifts).ravel()
    nodes = np.zeros(0)
    if not sharp.all():
        low = (median - REACH * spread[:, 0])[~sharp].min() - shifts.max()
        high = (median + REACH * spread[:, 1])[~sharp].max() - shifts.min()
        first, last = np.floor(low * NODES_PER_DECADE), np.ceil(high * NODES_PER_DECADE)
        nodes = np.arange(first, last + 1.0) / NODES_PER_DECADE
    return 10.0 ** _merged(np.concatenate([nodes, points]))


def _weights(
    median: FloatArray, spread: FloatArray, composition: Composition | None, x: FloatArray, width: FloatArray
) -> FloatArray:
    """Weights (n_vec, n_obs, n_rig) of the nodes x = log10 R, increasing, for spreads times each width."""
    shifts, fractions = _shifts(composition)
    weights = np.zeros((width.size, median.size, x.size))
    sharp = spread[:, 0] == 0.0
    for shift, fraction in zip(shifts, fractions, strict=True):
        centre = median - shift
        if sharp.any():
            weights[:, np.flatnonzero(sharp), _find(centre[sharp], x)] += fraction
        if not sharp.all():
            part = _hat_integrals(centre[~sharp, None], spread[~sharp] * width[:, None, None], x)
            total = part.sum(axis=-1, keepdims=True)
            if not np.all(total > 0.5):
                raise ValueError(
                    f"rigidities from {10.0 ** x[0]:.4g} to {10.0 ** x[-1]:.4g} TV hold less than half of the events "
                    "of an observation; expected a grid that covers its spread of energies"
                )
            weights[:, ~sharp] += fraction * part / total
    return weights


def _hat_integrals(centre: FloatArray, spread: FloatArray, x: FloatArray) -> FloatArray:
    """Integrals of the two-sided normal density with the hat function of each node, shape (n_vec, n_obs, n_rig).

    By parts, the integral is the mean of the distribution function F over the interval above the node less that over
    the interval below; F itself stands in for the mean at the ends. The antiderivative of the normal distribution
    function Phi(z) is z Phi(z) + phi(z).
    """
    offset = x - centre
    sigma = np.where(offset < 0.0, spread[..., :1], spread[..., 1:])
    z = offset / sigma
    distribution = ndtr(z)
    density_at_zero = 1.0 / np.sqrt(2.0 * np.pi)
    integral = sigma * (z * distribution + density_at_zero * np.exp(-0.5 * z**2) - density_at_zero)
    mean = np.diff(integral, axis=-1) / np.diff(x)
    ends = distribution[..., :1], distribution[..., -1:]
    # Second differences of rounded numbers leave some 1e-14 on either side of zero.
    return np.clip(np.diff(np.concatenate([ends[0], mean, ends[1]], axis=-1), axis=-1), 0.0, None)
