"""Iterative maximum likelihood on rings: relative intensity, exposure and acceptance of all detectors together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.reconstruct._ring_inputs import fine_declinations
from obsfit.reconstruct._ring_solver import Acceleration, RingIteration, RingSystem, to_waves
from obsfit.reconstruct.gaps import refuse_hidden_gradients
from obsfit.reconstruct.ring_sums import as_ring_counts
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import MapReconstruction, ObservationSpec

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

LOSS = (
    "The mean of each ring, a_l0, is lost: it cannot be told from acceptance. Every other multipole is kept up to the "
    "bins, sinc^2(m / n_time), and the declinations that were seen; exposure and acceptance are free, which adds "
    "noise to low m, and acceptance is taken as constant in time. A fit to the cells, or a test that acceptance was "
    "constant, is lost with the sums."
)
# Below this a wave of exposure is a wave of the sky seen through cells that are all at one hour angle.
LEAST_INDEPENDENCE = 1e-9


@dataclass(frozen=True)
class IterativeLikelihood:
    r"""Maximum of the likelihood of counts :math:`\mu_{trj} = N_t A_{rj} I_{r,t-j}` with N, A and I all free.

    Eqs. (8) and (9) of AM17 on rings of declination. Where the derivatives of the Poisson likelihood vanish, each
    factor follows from the other two, and each sum is a circular correlation,

    .. math:: I_{rk} = \frac{s_{rk}}{\sum_{dj} N_{k+j} A_{rj}}, \quad N_t = \frac{n_t}{\sum_{rj} A_{rj} I_{r,t-j}},
       \quad A_{rj} = \frac{n_{rj}}{\sum_k N_{k+j} I_{rk}},

    with a sum over detectors d only in the first, where the sky is shared. The counts are log-linear in all three and
    the maximum is unique up to what no count depends on, Eqs. (10) to (12) of AM17: the mean of I over the seen cells
    of a ring is set to one.

    Errors of a wave m of ln N shrink by a factor that is known in closed form (`convergence_factors`), 0.8 at the
    latitude of HAWC for m = 1. Dividing a step by one minus this factor makes the remaining error that of the
    modulation of the exposure alone, and Anderson's acceleration on (ln N, ln A) takes care of that and of gaps: some
    ten passes where the equations alone need hundreds. The solver stops when both the preconditioned step and the
    accelerated one change no ln N by more than `tolerance`; a step of the equations as they stand would underestimate
    the error by that same factor.

    Counts may be sums of weights; their errors then follow from the squared weights that are kept beside.

    Attributes
    ----------
    tolerance : float
        Largest change of ln N at which the solver stops, about the absolute error of the relative intensity.
    depth : int
        Passes that the acceleration remembers; 0 for none.
    precondition : bool
        Whether steps are divided by one minus their convergence factor. Without this, and with depth 0, the update
        equations are iterated as they stand.
    max_iterations : int
        Passes after which the solver gives up.

    Examples
    --------
    A sky with one bright cell, seen through a field of view that is all of the ring:

    >>> from obsfit.records.event_map import HourAngleGrid
    >>> from obsfit.records.provenance import Provenance
    >>> per_sky = np.array([[10.0, 10.0, 14.0, 6.0], [0.0, 0.0, 0.0, 0.0]])
    >>> ring = np.array([[10.0, 10.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    >>> sums = RingCounts(ring[0], ring, per_sky, np.array([40.0, 0.0]), HourAngleGrid(2, 4), "a", Provenance("a"))
    >>> IterativeLikelihood().reconstruct(sums).relative_intensity[0]
    array([1. , 1. , 1.4, 0.6])
    """

    __pydantic_config__ = FORBID

    tolerance: float = 1e-10
    depth: int = 5
    precondition: bool = True
    max_iterations: int = 500

    def __post_init__(self) -> None:
        if not self.tolerance > 0.0:
            raise ConfigurationError(f"tolerance {self.tolerance}", expected="a positive number")
        if self.depth < 0:
            raise ConfigurationError(f"depth {self.depth}", expected="0 for no acceleration, or more")
        if self.max_iterations < 1:
            raise ConfigurationError(f"max_iterations {self.max_iterations}", expected="at least one pass")

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> MapReconstruction:
        """Relative intensity on rings, exposure and acceptance, at the maximum of the likelihood.

        Parameters
        ----------
        events : EventMap, RingCounts or sequence of them
            One for each detector. Their time bins are those of their own local sidereal time; epochs with different
            acceptance are detectors of their own.
        rng : numpy.random.Generator, optional
            Not used: nothing is drawn.

        Raises
        ------
        ConfigurationError
            If detectors do not fit together, or one has no events, or sees the sky at a single hour angle.
        HiddenGradientError
            If gaps in time leave a gradient of the sky unobservable.
        ConvergenceError
            If the solver does not meet its tolerance.
        """
        counts = as_ring_counts(events)
        refuse_hidden_gradients(counts)
        system = RingSystem.of(counts)
        solver = RingIteration(system, _inverse(counts) if self.precondition else None)
        state, iterations = self._solve(solver)
        exposure, acceptance = solver.arrays(state)
        expected = system.expected(to_waves(exposure), to_waves(acceptance))
        intensity = system.per_sky / expected
        # Acceptance takes the means of the rings, and exposure the sum of acceptance: no expected count changes.
        mean = intensity.sum(axis=1, keepdims=True) / system.seen.sum(axis=1, keepdims=True)
        acceptance *= mean[system.ring]
        scale = np.array([acceptance[part].sum() for part in system.rows])
        grid, bands = counts[0].grid, system.bands

        def on_grid(values: FloatArray, places: NDArray[np.intp], elsewhere: float = 0.0) -> FloatArray:
            full = np.full((grid.n_dec, grid.n_time), elsewhere)
            full[places] = values
            return full

        edges = grid.dec_edges_rad
        return MapReconstruction(
            relative_intensity=on_grid(np.where(system.seen, intensity / mean, np.nan), bands, np.nan),
            counts=on_grid(system.per_sky, bands),
            expected=on_grid(system.seen * expected * mean, bands),
            exposure=tuple(exposure * scale[:, None]),
            acceptance=tuple(
                on_grid(acceptance[part] / total, bands[system.ring[part]])
                for part, total in zip(system.rows, scale, strict=True)
            ),
            per_declination=fine_declinations(counts),
            grid=grid,
            spec=ObservationSpec(
                method="iterative-likelihood",
                settings={**asdict(self), "weighted": any(c.squared is not None for c in counts)},
                detectors=tuple(c.detector for c in counts),
                dec_min_rad=float(edges[bands[0]]),
                dec_max_rad=float(edges[bands[-1] + 1]),
                frame=counts[0].frame,
                filtered=True,
                loss=LOSS,
            ),
            provenance=tuple(c.provenance for c in counts),
            iterations=iterations,
        )

    def _solve(self, solver: RingIteration) -> tuple[FloatArray, int]:
        """State that meets the tolerance, and the number of passes to it."""
        state = solver.start()
        acceleration = Acceleration(self.depth, solver.counts / solver.counts.sum())
        change = np.inf
        for iteration in range(1, self.max_iterations + 1):
            image = solver.advance(state)
            following = acceleration.next(state, image)
            change = max(solver.change_of_exposure(state, image), solver.change_of_exposure(state, following))
            state = following
            if change < self.tolerance:
                return state, iteration
        raise ConvergenceError(
            f"after {self.max_iterations} passes ln N still changes by {change:.3g}",
            expected=f"a change below the tolerance {self.tolerance:g}",
            remedy="With few events for each time bin, or gaps nearly as wide as the field of view, the maximum is "
            "flat: use fewer time bins, more events or a larger tolerance.",
        )


def convergence_factors(acceptance: Sequence[FloatArray]) -> ComplexArray:
    r"""Factors by which the update equations shrink the waves of an error of exposure, shape (m, d, d).

    For uniform exposure and small anisotropy a wave m of the errors of ln N of the detectors becomes

    .. math:: \rho^{ab}_m = \frac{1}{n^a} \sum_r \frac{\hat n^a_r(m)\, \hat n^{b*}_r(m)}{S_r}, \qquad
       \hat n_r(m) = \sum_j n_{rj} e^{-2\pi i m j / n_{time}},

    times itself, with :math:`S_r` the counts of ring r of all detectors and :math:`n^a` those of detector a: what
    exposure does to the counts of a cell, the sky of its ring takes over in part. One minus this matrix is the share
    of the information on a wave of exposure that is left when the sky is free, and its inverse the factor by which
    the variance of the part that all rings have in common grows. At m = 0 it has the eigenvalue one: the
    normalisation of exposure is that of acceptance.

    Parameters
    ----------
    acceptance : sequence of ndarray, each of shape (n_dec, n_time)
        Counts of local cells of the detectors, or acceptances in proportion to what they would count.

    Returns
    -------
    ndarray of complex, shape (n_time // 2 + 1, d, d)
        For m = 0, 1, ..., n_time // 2.

    Examples
    --------
    One ring, of which two neighbouring cells out of four are seen:

    >>> convergence_factors([np.array([[1.0, 1.0, 0.0, 0.0]])])[:, 0, 0].real
    array([1. , 0.5, 0. ])
    """
    counts = [np.asarray(a, dtype=np.float64) for a in acceptance]
    rings = np.sum([c.sum(axis=1) for c in counts], axis=0)
    per_ring = np.divide(1.0, rings, out=np.zeros_like(rings), where=rings > 0.0)
    waves = [to_waves(c) for c in counts]
    factors = np.empty((waves[0].shape[1], len(counts), len(counts)), dtype=np.complex128)
    for a, wave in enumerate(waves):
        shared = wave * per_ring[:, None]
        for b in range(a + 1):
            product = np.sum(shared * waves[b].conj(), axis=0)
            factors[:, a, b] = product / counts[a].sum()
            factors[:, b, a] = product.conj() / counts[b].sum()
    return factors


def _inverse(counts: Sequence[RingCounts]) -> ComplexArray:
    """Inverse of one minus the convergence factors, and one for m = 0, which no count knows."""
    factors = convergence_factors([c.per_cell for c in counts])
    identity = np.eye(len(counts))
    independent = identity - factors
    independent[0] = identity
    least = np.abs(np.linalg.eigvals(independent)).min(axis=1)
    if least.min() < LEAST_INDEPENDENCE:
        raise ConfigurationError(
            f"wave {int(np.argmin(least))} of exposure in sidereal time is also one of the sky: every ring is seen at "
            "one hour angle only, or at some that are evenly spaced",
            expected="a ring with events at two neighbouring hour angles",
            remedy="Use fewer time bins, or another method.",
        )
    return np.asarray(np.linalg.inv(independent), dtype=np.complex128)
