"""Multipoles of a reconstructed map by least squares, with the covariance that its method gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from obsfit.errors import ConvergenceError, ObsfitError
from obsfit.reconstruct._ring_inputs import HOURS, window_bins
from obsfit.reconstruct.direct_integration import SEEN, direct_integration_map
from obsfit.reconstruct.low_multipole import score_products
from obsfit.reconstruct.ring_harmonics import (
    RingHarmonics,
    complex_alm,
    largest_condition,
    real_matrix,
    real_vector,
)
from obsfit.records.reconstruction import MapReconstruction, MultipoleReconstruction

__all__ = ["fit_multipoles"]

FloatArray = NDArray[np.float64]

# Methods of one pass, whose maps are not those of the converged likelihood.
ONE_PASS = ("direct-integration", "time-scrambling")
# Of the linear solution behind the covariance, in the norm of its right-hand side.
TOLERANCE = 1e-8


def fit_multipoles(reconstruction: MapReconstruction, lmax: int = 3) -> MultipoleReconstruction:
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

    Parameters
    ----------
    reconstruction : MapReconstruction
        Map of unweighted events.
    lmax : int
        Largest multipole.

    Raises
    ------
    ObsfitError
        If the multipoles cannot be told apart, there are too few bins for lmax, or the events carry weights: the map
        does not know their squares.
    ConvergenceError
        If the covariance of the map is not defined, as for gaps of the exposure that are wider than the field of view.
    """
    settings = reconstruction.spec.settings
    names = ", ".join(reconstruction.spec.detectors)
    if settings.get("weighted", False):
        raise ObsfitError(
            f"{names}: the map is of weighted events, and does not know the sums of their squared weights",
            expected="a map of unweighted events",
            remedy="LowMultipoleLikelihood gives multipoles of weighted events with their errors.",
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
    if reconstruction.spec.method in ONE_PASS:
        inner = one_pass_products(reconstruction, harmonics)
        if "resamples" in settings:
            inner = inner + _scrambling_products(reconstruction, harmonics) / float(settings["resamples"])
    else:
        inner = _converged_products(reconstruction, harmonics)
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


def _converged_products(reconstruction: MapReconstruction, harmonics: RingHarmonics) -> FloatArray:
    """Return B^T E C E B of the converged likelihood for (Re a, Im a), shape (2 n, 2 n)."""
    weight = reconstruction.expected
    shape = weight.shape
    seen = weight > SEEN * weight.max()
    root = np.sqrt(np.where(seen, weight, 1.0))

    def information(values: FloatArray) -> FloatArray:
        """Apply E^(-1/2) (E - P) E^(-1/2)."""
        anisotropy = np.where(seen, values.reshape(shape) / root, 0.0)
        left = direct_integration_map(anisotropy, reconstruction.exposure, reconstruction.acceptance)
        return np.where(seen, root * left, 0.0).ravel()

    operator = LinearOperator((weight.size, weight.size), matvec=information, dtype=np.float64)
    phases = harmonics.phases()[harmonics.m - 1]
    columns = []
    for function in (2.0 * phases.real, -2.0 * phases.imag):
        for p in range(harmonics.ell.size):
            values = np.where(seen, harmonics.values[:, p, None] * function[p], 0.0)
            mean = (weight * values).sum(axis=1) / np.where(seen.any(axis=1), weight.sum(axis=1), 1.0)
            columns.append(np.where(seen, root * (values - mean[:, None]), 0.0).ravel())
    solved = []
    for column in columns:
        solution, failed = cg(operator, column, rtol=TOLERANCE, maxiter=4 * shape[1])
        if failed:
            raise ConvergenceError(
                f"{', '.join(reconstruction.spec.detectors)}: the covariance of the map has no solution",
                expected="exposure and field of view that leave no gradient in right ascension free",
                remedy="Look for gaps of the exposure that are wider than the field of view in hour angle.",
            )
        solved.append(solution)
    matrix = np.array(columns) @ np.array(solved).T
    return 0.5 * (matrix + matrix.T)
