"""Multipoles of a reconstructed map by least squares, with the covariance that its method gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from obsfit.errors import ConvergenceError, ObsfitError
from obsfit.reconstruct._ring_inputs import HOURS, in_windows, window_bins
from obsfit.reconstruct.direct_integration import SEEN, convolve, correlate, direct_integration_map
from obsfit.reconstruct.low_multipole import score_products
from obsfit.reconstruct.ring_harmonics import (
    RingHarmonics,
    complex_alm,
    largest_condition,
    real_matrix,
    real_vector,
)
from obsfit.reconstruct.ring_sums import Events, as_list
from obsfit.records.event_map import RingCounts
from obsfit.records.reconstruction import MapReconstruction, MultipoleReconstruction

__all__ = ["fit_multipoles"]

FloatArray = NDArray[np.float64]

# Methods of one pass, whose maps are not those of the converged likelihood.
ONE_PASS = ("direct-integration", "time-scrambling")
# Of the linear solution behind the covariance, in the norm of its right-hand side.
TOLERANCE = 1e-8


def fit_multipoles(
    reconstruction: MapReconstruction, lmax: int = 3, *, events: Events | None = None
) -> MultipoleReconstruction:
    r"""Return the a_lm with 0 < m <= l <= lmax of a map by least squares, and their covariance.

    The sum over seen cells of :math:`E_{rk} (I_{rk} - b_r - \sum a_{\ell m} Y_{\ell m})^2` is least, with the expected
    counts E, a free mean :math:`b_r` of each ring, and harmonics averaged over the events of the ring and over the
    bins as in `obsfit.reconstruct.LowMultipoleLikelihood`. These are the multipoles of the map as it is: what its
    method lost stays lost, and multipoles above lmax leak in (`obsfit.reconstruct.responses.map_response`).

    With the normal matrix M and the functions B less their means in each ring, the covariance is
    :math:`M^{-1} B^T E C E B M^{-1}`, where C is the covariance of the map:

    - converged likelihood: the inverse of :math:`E - P`, where P is what fitted exposure and acceptance absorb
      (`obsfit.reconstruct.direct_integration.direct_integration_map`). For constant exposure and amplitudes
      :math:`\frac{1}{T} \sum_k \delta I_{rk} e^{-imkD}` it is

      .. math:: C^m_{rr'} = \delta_{rr'} / s_r + \bar v_r v_{r'} / (n\,(1 - \rho_m)), \qquad v_r = \hat A_r(m) / a_r,

      with the counts s of the rings, whose sum is n: Poisson noise and the noise of the fitted exposure;
    - direct integration: :math:`E C E = E - P`, smaller than Poisson noise as its signal is, the sum over windows;
    - time scrambling: the same times 1 + 1/K, for K shufflings.

    For weighted events, the sum over events of their squared weights times the product of what each adds to two
    multipoles takes the place of :math:`B^T E C E B`, with squared weights as a product of functions of the time bin
    and of the local cell, see `obsfit.reconstruct.low_multipole.profiled_covariance`.

    Parameters
    ----------
    reconstruction : MapReconstruction
        The map.
    lmax : int
        Largest multipole.
    events : EventMap, RingCounts, or a sequence of them, optional
        The events of the map. Needed if they carry weights, whose squares the map does not know.

    Raises
    ------
    ObsfitError
        If the multipoles cannot be told apart, there are too few bins for lmax, the map is known to be of weighted
        events and those are not given, or they are not those of the map.
    ConvergenceError
        If the covariance of the map is not defined, as for gaps of the exposure that are wider than the field of view.
    """
    settings = reconstruction.spec.settings
    names = ", ".join(reconstruction.spec.detectors)
    if settings.get("weighted", False) and events is None:
        raise ObsfitError(
            f"{names}: the map is of weighted events, and does not know the sums of their squared weights",
            expected="the argument events, with the events of the map",
        )
    harmonics = map_harmonics(reconstruction, lmax)
    normal = normal_matrix(reconstruction, harmonics)
    largest_condition(normal, harmonics.ell, names)
    weight = reconstruction.expected
    difference = np.where(weight > 0.0, reconstruction.counts - weight, 0.0)
    ring_mean = difference.sum(axis=1) / np.where(weight.any(axis=1), weight.sum(axis=1), 1.0)
    difference = difference - weight * ring_mean[:, None]
    phases = harmonics.phases()
    inverse = np.linalg.inv(normal)
    alm = complex_alm(inverse @ real_vector(harmonics.project(difference @ phases.T)))
    one_pass = reconstruction.spec.method in ONE_PASS
    windows = None if events is None else _windows_of_events(reconstruction, events)
    if windows is not None and any(part.squared is not None for parts in windows for part in parts):
        squares = _one_pass_squares if one_pass else _converged_squares
        inner = squares(reconstruction, harmonics, windows)
    elif one_pass:
        inner = one_pass_products(reconstruction, harmonics)
        if "resamples" in settings:
            inner = inner + _scrambling_products(reconstruction, harmonics) / float(settings["resamples"])
    else:
        columns, solved = _converged_scores(reconstruction, harmonics)
        inner = np.einsum("prk,qrk->pq", columns, solved)
    spec = replace(
        reconstruction.spec,
        settings={**settings, "lmax": lmax},
        loss=reconstruction.spec.loss + f" Multipoles above l = {lmax} leak into those below.",
    )
    return MultipoleReconstruction(
        harmonics.ell, harmonics.m, alm, inverse @ inner @ inverse, spec, reconstruction.provenance
    )


def map_harmonics(reconstruction: MapReconstruction, lmax: int) -> RingHarmonics:
    """Return the multipoles on the rings of a map, averaged over its events."""
    grid = reconstruction.grid
    return RingHarmonics.of(reconstruction.per_declination, grid.n_dec, grid.n_time, lmax)


def normal_matrix(reconstruction: MapReconstruction, harmonics: RingHarmonics) -> FloatArray:
    """Return sums over cells of expected counts times products of the functions of (Re a, Im a), (2 n, 2 n).

    Of the functions less their weighted mean in each ring, which is fitted too.
    """
    weight = reconstruction.expected
    moments = harmonics.cell_moments(weight)
    first, sums = harmonics.ring_means(weight)
    seen = sums > SEEN * sums.max()
    first, sums = first[seen], sums[seen]
    # On the sky the phase runs as +i m k D: the complex conjugate of a sum over local cells.
    product = moments.product - np.einsum("rp,rq->pq", first / sums[:, None], first.conj())
    square = moments.square - np.einsum("rp,rq->pq", first / sums[:, None], first)
    return real_matrix(product.conj(), square.conj())


def one_pass_products(reconstruction: MapReconstruction, harmonics: RingHarmonics) -> FloatArray:
    """Return B^T (E - P) B of direct integration for (Re a, Im a), shape (2 n, 2 n): profiled Fisher matrices."""
    length = window_bins(
        float(reconstruction.spec.settings.get("window_hours", HOURS)), reconstruction.grid.n_time
    )
    total = np.zeros((2 * harmonics.ell.size, 2 * harmonics.ell.size))
    for exposure, acceptance in zip(reconstruction.exposure, reconstruction.acceptance, strict=True):
        cells = harmonics.cell_moments(acceptance)
        for inside in _windows(exposure, length):
            time = harmonics.time_moments(inside)
            total += score_products(time, cells, time.mean, cells.mean) * (time.total / cells.total)
    return total


def _scrambling_products(reconstruction: MapReconstruction, harmonics: RingHarmonics) -> FloatArray:
    """Covariance of B^T s for one shuffling: that of a permutation, or of times drawn with replacement."""
    if not reconstruction.spec.settings.get("replace", False):
        return one_pass_products(reconstruction, harmonics)
    length = window_bins(
        float(reconstruction.spec.settings.get("window_hours", HOURS)), reconstruction.grid.n_time
    )
    total = np.zeros((2 * harmonics.ell.size, 2 * harmonics.ell.size))
    for exposure, acceptance in zip(reconstruction.exposure, reconstruction.acceptance, strict=True):
        cells = harmonics.cell_moments(acceptance)
        for inside in _windows(exposure, length):
            time = harmonics.time_moments(inside)
            total += score_products(time, cells, time.mean, np.zeros_like(cells.mean)) * (time.total / cells.total)
    return total


def _windows(exposure: FloatArray, length: int) -> list[FloatArray]:
    """Exposure of each window that has any, zero outside of it, shape (n_time,) each."""
    parts = []
    for start in range(0, exposure.size, length):
        inside = np.zeros_like(exposure)
        inside[start : start + length] = exposure[start : start + length]
        if inside.any():
            parts.append(inside)
    return parts


def _converged_scores(
    reconstruction: MapReconstruction, harmonics: RingHarmonics
) -> tuple[FloatArray, FloatArray]:
    """Return E B and C E B of the converged likelihood for (Re a, Im a), each (2 n, n_dec, n_time).

    The functions B are those less their mean in each ring.
    """
    weight = reconstruction.expected
    seen = weight > SEEN * weight.max()
    root = np.sqrt(np.where(seen, weight, 1.0))

    def information(values: FloatArray) -> FloatArray:
        """Apply E^(-1/2) (E - P) E^(-1/2)."""
        anisotropy = np.where(seen, values.reshape(weight.shape) / root, 0.0)
        left = direct_integration_map(anisotropy, reconstruction.exposure, reconstruction.acceptance)
        return np.where(seen, root * left, 0.0).ravel()

    operator = LinearOperator((weight.size, weight.size), matvec=information, dtype=np.float64)
    phases = harmonics.phases()[harmonics.m - 1]
    waves = np.concatenate([2.0 * phases.real, -2.0 * phases.imag])
    columns, solved = [], []
    for p, wave in enumerate(waves):
        values = np.where(seen, harmonics.values[:, p % harmonics.m.size, None] * wave, 0.0)
        mean = (weight * values).sum(axis=1) / np.where(seen.any(axis=1), weight.sum(axis=1), 1.0)
        column = np.where(seen, values - mean[:, None], 0.0)
        solution, failed = cg(operator, (root * column).ravel(), rtol=TOLERANCE, maxiter=4 * weight.shape[1])
        if failed:
            raise ConvergenceError(
                f"{', '.join(reconstruction.spec.detectors)}: the covariance of the map has no solution",
                expected="exposure and field of view that leave no gradient in right ascension free",
                remedy="Look for gaps of the exposure that are wider than the field of view in hour angle.",
            )
        columns.append(np.where(seen, weight * column, 0.0))
        solved.append(np.where(seen, solution.reshape(weight.shape) / root, 0.0))
    return np.array(columns), np.array(solved)


def _windows_of_events(reconstruction: MapReconstruction, events: Events) -> list[list[RingCounts]]:
    """Return the ring sums of the windows of each detector, after a look at whether they are those of the map."""
    hours = float(reconstruction.spec.settings.get("window_hours", HOURS))
    windows = [in_windows(item, hours) for item in as_list(events)]
    counts = np.sum([part.per_sky for parts in windows for part in parts], axis=0)
    if len(windows) != len(reconstruction.exposure) or not np.allclose(
        counts, reconstruction.counts, rtol=1e-9, atol=1e-9 * counts.max()
    ):
        raise ObsfitError(
            f"{', '.join(reconstruction.spec.detectors)}: the events given are not those of the map",
            expected="the same detectors, with the same counts",
        )
    return windows


def _one_pass_squares(
    reconstruction: MapReconstruction, harmonics: RingHarmonics, windows: Sequence[Sequence[RingCounts]]
) -> FloatArray:
    """Sum of squared weights times products of scores of direct integration, (2 n, 2 n)."""
    total = np.zeros((2 * harmonics.ell.size, 2 * harmonics.ell.size))
    for parts in windows:
        for part in parts:
            time, cells = harmonics.time_moments(part.per_time), harmonics.cell_moments(part.per_cell)
            squared_time, squared_cell = _squared(part)
            total += score_products(
                harmonics.time_moments(squared_time), harmonics.cell_moments(squared_cell), time.mean, cells.mean
            )
    return total


def _converged_squares(
    reconstruction: MapReconstruction, harmonics: RingHarmonics, windows: Sequence[Sequence[RingCounts]]
) -> FloatArray:
    """Sum of squared weights times products of what an event adds to the multipoles, times M, (2 n, 2 n).

    An event adds z(r, t - j) - x_t - y_rj + c, with z = C E B and its means over exposure and acceptance.
    """
    _, scores = _converged_scores(reconstruction, harmonics)
    total = np.zeros((len(scores), len(scores)))
    for parts, exposure, acceptance in zip(
        windows, reconstruction.exposure, reconstruction.acceptance, strict=True
    ):
        squared_time, squared_cell = _squared(parts[0])
        weight = correlate(squared_time, squared_cell) / squared_time.sum()
        share, late = squared_cell / squared_cell.sum(), squared_time / squared_time.sum()
        x = np.array([convolve(z, acceptance).sum(axis=0) for z in scores]) / acceptance.sum()
        y = np.array([correlate(exposure, z) for z in scores]) / exposure.sum()
        x -= (x @ exposure / exposure.sum())[:, None]
        seen_at = np.array([convolve(z, share).sum(axis=0) for z in scores])
        seen_in = np.array([correlate(late, z) for z in scores])
        crossed = np.einsum("pt,qt->pq", seen_at, x * squared_time)
        crossed += np.einsum("prj,qrj->pq", seen_in, y * squared_cell)
        crossed -= np.outer(x @ squared_time, np.einsum("qrj,rj->q", y, share))
        total += np.einsum("prk,qrk->pq", scores * weight, scores) - crossed - crossed.T
        total += np.einsum("pt,qt->pq", x * squared_time, x) + np.einsum("prj,qrj->pq", y * squared_cell, y)
    return total


def _squared(rings: RingCounts) -> tuple[FloatArray, FloatArray]:
    """Sums of squared weights over time bins and local cells; the counts where every weight is one."""
    return (rings.per_time, rings.per_cell) if rings.squared is None else rings.squared[:2]
