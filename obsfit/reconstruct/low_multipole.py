"""Multipoles of the lowest degrees by maximum likelihood with exposure and acceptance fitted, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from obsfit.errors import ConvergenceError
from obsfit.reconstruct._specification import specification
from obsfit.reconstruct.gaps import refuse_hidden_gradients
from obsfit.reconstruct.ring_harmonics import (
    Moments,
    RingHarmonics,
    complex_alm,
    largest_condition,
    real_matrix,
    real_vector,
)
from obsfit.reconstruct.ring_sums import Events, as_ring_counts
from obsfit.records.event_map import RingCounts
from obsfit.records.reconstruction import MultipoleReconstruction

__all__ = ["LowMultipoleLikelihood", "profiled_covariance", "profiled_fisher"]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Steps are small when they are below this share of the standard error, or of an error of 1e-6 where it is smaller:
# noise-free counts may have any size, but sums of them no more than double precision.
SMALLEST_ERROR = 1e-6


def profiled_fisher(events: Events, lmax: int = 3) -> FloatArray:
    r"""Return the Fisher matrix of (Re a_lm, Im a_lm) with exposure and acceptance fitted, shape (2 n, 2 n).

    The likelihood is that of Poisson counts of mean :math:`\mu_{trj} = N_t A_{rj} I_{r,t-j}`, Eqs. (8) and (9) of AM17,
    with every :math:`N_t` and :math:`A_{rj}` free. At I = 1 the mean is a product measure, in which the best fit of a
    function f(t, r, j) by :math:`x_t + y_{rj}` is the sum of its two partial means less its mean. A multipole is a
    product of a function g of t and a function h of (r, j), so that what cannot be absorbed is a product too,

    .. math:: f_p - x_p - y_p + c_p = (g_p - \bar g_p)(h_p - \bar h_p), \qquad
              g_p = e^{i m t D},\quad h_p = \bar\lambda_{\ell m}(r)\, w_m\, e^{-i m j D},

    and the matrix of the complex functions is the element by element product of two covariance matrices:

    .. math:: F_{pq} = \frac{1}{n} \Big[\sum_t n_t (g_p - \bar g_p)(g_q - \bar g_q)^*\Big]
              \Big[\sum_{rj} n_{rj} (h_p - \bar h_p)(h_q - \bar h_q)^*\Big],

    with the means weighted by :math:`n_t` and :math:`n_{rj}`. For constant exposure and l = m = 1 it is smaller than
    that of a known exposure by 1 - rho_1, the factor by which one iteration reduces the error of the first harmonic.
    Fisher matrices of detectors add. Any exposure is allowed.

    Parameters
    ----------
    events : EventMap, RingCounts, or a sequence of them
        One or several detectors.
    lmax : int
        Largest multipole that is fitted; those above are taken as zero.

    Returns
    -------
    ndarray, shape (2 n, 2 n)
        For the n multipoles of `obsfit.reconstruct.ring_harmonics.multipoles`, real parts first. Its inverse is the
        covariance of unweighted counts; see `profiled_covariance`.

    Raises
    ------
    ObsfitError
        If there are too few time bins for lmax.
    """
    return np.sum([_fisher(item, _harmonics(item, lmax)) for item in as_ring_counts(events)], axis=0)


def profiled_covariance(events: Events, lmax: int = 3) -> FloatArray:
    r"""Return the covariance of (Re a_lm, Im a_lm) with exposure and acceptance fitted, shape (2 n, 2 n).

    The inverse F^-1 of `profiled_fisher` if every weight is one, otherwise F^-1 J F^-1 with the sum over events of
    squared weights times the profiled scores,

    .. math:: J_{pq} = \frac{1}{n'} \Big[\sum_t n'_t (g_p - \bar g_p)(g_q - \bar g_q)^*\Big]
              \Big[\sum_{rj} n'_{rj} (h_p - \bar h_p)(h_q - \bar h_q)^*\Big],

    where n' are sums of squared weights but the means are still those of the weights. This takes the squared weights
    as a product of functions of the time bin and of the local cell, as weights that depend on the local direction
    alone have.

    Raises
    ------
    ObsfitError
        If the condition number exceeds 1e8; the message names the largest l that would do.
    """
    rings = as_ring_counts(events)
    harmonics = [_harmonics(item, lmax) for item in rings]
    return _fisher_and_covariance(rings, harmonics)[1]


@dataclass(frozen=True)
class LowMultipoleLikelihood:
    r"""Maximum likelihood of all a_lm with 0 < m <= l <= lmax, with exposure and acceptance fitted.

    The relative intensity is :math:`I = 1 + \sum_{\ell \le \ell_{max}, m \ne 0} a_{\ell m} Y_{\ell m}`, averaged over
    the events of each ring and over the bins: harmonics are means over the declinations at which each detector has
    its events (`RingCounts.per_declination`), and the window :math:`\mathrm{sinc}^2(m / n_{time})` of the bins is part
    of the functions that are fitted, so that it is divided out of the a_lm. Beginning with I = 1, each step updates
    :math:`N_t = n_t / \sum_{rj} A_{rj} I_{r,t-j}` and :math:`A_{rj} = n_{rj} / \sum_t N_t I_{r,t-j}` and then

    .. math:: a \leftarrow a + F^{-1} U, \qquad U_p = \sum_{rk} (s_{rk} / I_{rk} - E_{rk})\, B_p, \qquad
              E_{rk} = \sum_j N_{k+j} A_{rj},

    with F of `profiled_fisher` and the real functions B of the parameters. The first step is of second order in the
    anisotropy, each further one gains another order.

    Attributes
    ----------
    lmax : int
        Largest multipole.
    tolerance : float
        Steps stop when the last one is below this share of the standard errors (of 1e-6, where they are smaller).
    max_iterations : int
        Number of steps after which it gives up.

    Examples
    --------
    >>> from obsfit.records import HourAngleGrid, Provenance, RingCounts
    >>> grid = HourAngleGrid(8, 24)
    >>> even = np.zeros((8, 24))
    >>> even[2:6, 8:16] = 1e4                                      # a field of view of 120 degrees of hour angle
    >>> sky = even.sum(axis=1, keepdims=True) / 24 * np.ones(24)
    >>> rings = RingCounts(np.full(24, even.sum() / 24), even, sky, even.sum(axis=1), grid, "D", Provenance("d"))
    >>> abs(LowMultipoleLikelihood(lmax=1).reconstruct(rings).alm[0]) < 1e-12
    np.True_
    """

    lmax: int = 3
    tolerance: float = 1e-5
    max_iterations: int = 30

    def reconstruct(self, events: Events, *, rng: np.random.Generator | None = None) -> MultipoleReconstruction:
        """Return the multipoles and their covariance (see `profiled_covariance`).

        Parameters
        ----------
        events : EventMap, RingCounts, or a sequence of them
            One or several detectors.
        rng : numpy.random.Generator, optional
            Not used.

        Raises
        ------
        HiddenGradientError
            If gaps in time hide a gradient in right ascension, so that only the truncation at lmax would decide it.
        ObsfitError
            If the multipoles cannot be told apart, or there are too few time bins for lmax.
        ConvergenceError
            If the steps do not end, or the relative intensity turns negative: too few events for so many multipoles.
        """
        rings = as_ring_counts(events)
        refuse_hidden_gradients(rings)
        harmonics = [_harmonics(item, self.lmax) for item in rings]
        fisher, covariance = _fisher_and_covariance(rings, harmonics)
        alm = self._maximum(rings, harmonics, fisher)
        spec = specification(
            "low-multipole-likelihood",
            {"lmax": self.lmax},
            rings,
            f"a_l0 is lost. Multipoles above l = {self.lmax} are taken as zero and leak into those below.",
        )
        provenance = tuple(item.provenance for item in rings)
        return MultipoleReconstruction(harmonics[0].ell, harmonics[0].m, alm, covariance, spec, provenance)

    def _maximum(
        self, rings: Sequence[RingCounts], harmonics: Sequence[RingHarmonics], fisher: FloatArray
    ) -> ComplexArray:
        inverse = np.linalg.inv(fisher)
        allowed = self.tolerance * np.maximum(np.sqrt(np.diag(inverse)), SMALLEST_ERROR)
        fits = [_Nuisances(*pair) for pair in zip(rings, harmonics, strict=True)]
        alm = np.zeros(harmonics[0].ell.size, dtype=np.complex128)
        for _ in range(self.max_iterations):
            score = np.sum([fit.score(alm) for fit in fits], axis=0)
            step = inverse @ real_vector(score)
            alm = alm + complex_alm(step)
            if np.all(np.abs(step) <= allowed):
                return alm
        raise ConvergenceError(
            f"{rings[0].detector}: after {self.max_iterations} steps a_lm still change by {np.abs(step).max():.1e}",
            expected=f"at most {self.tolerance:g} of the standard errors",
            remedy="Fit fewer multipoles, or look for gaps in the exposure.",
        )


class _Nuisances:
    """Exposure and acceptance of one detector, fitted to the current multipoles, on the rings that it sees."""

    def __init__(self, rings: RingCounts, harmonics: RingHarmonics) -> None:
        seen = rings.per_cell.any(axis=1)
        self.detector = rings.detector
        self.harmonics = RingHarmonics(harmonics.ell, harmonics.m, harmonics.values[seen], harmonics.n_time)
        self.phases = harmonics.phases()
        self.per_time, self.per_cell, self.per_sky = rings.per_time, rings.per_cell[seen], rings.per_sky[seen]
        self.exposure, self.acceptance = self.per_time, self.per_cell / rings.total

    def score(self, alm: ComplexArray) -> ComplexArray:
        """Derivative of the log likelihood, as sums of the complex functions, shape (n,); fits N and A before."""
        amplitudes = self.harmonics.ring_amplitudes(alm)
        self._fit(amplitudes)
        intensity = 1.0 + 2.0 * (amplitudes @ self.phases).real
        if intensity.min() <= 0.0:
            raise ConvergenceError(
                f"{self.detector}: the relative intensity falls to {intensity.min():.2g} on the way to the maximum",
                expected="a positive intensity everywhere",
                remedy="There are too few events for so many multipoles: fit fewer.",
            )
        orders = self.harmonics.orders
        time, cells = scipy.fft.rfft(self.exposure), scipy.fft.rfft(self.acceptance, axis=1)
        seen = (self.per_sky / intensity) @ self.phases.T
        expected = time[orders].conj() * cells[:, orders]
        return self.harmonics.project(seen - expected)

    def _fit(self, amplitudes: ComplexArray) -> None:
        orders = self.harmonics.orders
        cells = scipy.fft.rfft(self.acceptance, axis=1)[:, orders]
        coefficients = np.einsum("rm,rm->m", amplitudes, cells)
        per_exposure = self.acceptance.sum() + 2.0 * (coefficients @ self.phases).real
        self.exposure = self.per_time / per_exposure
        time = scipy.fft.rfft(self.exposure)[orders].conj()
        per_acceptance = self.exposure.sum() + 2.0 * ((amplitudes * time) @ self.phases.conj()).real
        self.acceptance = self.per_cell / per_acceptance


def _harmonics(rings: RingCounts, lmax: int) -> RingHarmonics:
    return RingHarmonics.of(rings.per_declination, rings.grid.n_dec, rings.grid.n_time, lmax)


def _fisher(rings: RingCounts, harmonics: RingHarmonics) -> FloatArray:
    time, cells = harmonics.time_moments(rings.per_time), harmonics.cell_moments(rings.per_cell)
    return score_products(time, cells, time.mean, cells.mean)


def _fisher_and_covariance(
    rings: Sequence[RingCounts], harmonics: Sequence[RingHarmonics]
) -> tuple[FloatArray, FloatArray]:
    size = 2 * harmonics[0].ell.size
    fisher, squares = np.zeros((size, size)), np.zeros((size, size))
    for item, functions in zip(rings, harmonics, strict=True):
        time, cells = functions.time_moments(item.per_time), functions.cell_moments(item.per_cell)
        own = score_products(time, cells, time.mean, cells.mean)
        fisher += own
        if item.squared is None:
            squares += own
        else:
            squared_time = functions.time_moments(item.squared[0])
            squared_cells = functions.cell_moments(item.squared[1])
            squares += score_products(squared_time, squared_cells, time.mean, cells.mean)
    largest_condition(fisher, harmonics[0].ell, ", ".join(item.detector for item in rings))
    inverse = np.linalg.inv(fisher)
    return fisher, inverse @ squares @ inverse


def score_products(
    time: Moments, cells: Moments, time_centre: ComplexArray, cell_centre: ComplexArray
) -> FloatArray:
    """Return sums over events of products of (g - time_centre)(h - cell_centre), for (Re a, Im a), (2 n, 2 n)."""
    time_product, time_square = time.about(time_centre)
    cell_product, cell_square = cells.about(cell_centre)
    return real_matrix(time_product * cell_product, time_square * cell_square) / time.total
