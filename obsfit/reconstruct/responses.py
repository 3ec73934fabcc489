r"""What each reconstruction shows of the multipoles of the true sky: exact linear responses, and their operators.

A response is a real matrix from (Re a, Im a) of the true multipoles 0 < m <= l <= lmax_sky to (Re a, Im a) of the
fitted ones, l <= lmax, in the order of `obsfit.reconstruct.ring_harmonics.multipoles`, to first order in the
anisotropy. It holds for any exposure and acceptance; a_l0 has no response. With F of `profiled_fisher` and the normal
matrix M of `fit_multipoles`, split into fitted (o) and true (i) multipoles, it is

- low-multipole likelihood: :math:`F_{oo}^{-1} F_{oi}`;
- direct integration or time scrambling, and a fit to the map: :math:`M_{oo}^{-1} F_{oi}`, F of its windows;
- converged likelihood, and a fit to the map: :math:`M_{oo}^{-1} M_{oi}`, the identity for all that is fitted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ObsfitError
from obsfit.operators import Components, EnergyResponse, ObservationOperator, Pixels, Power
from obsfit.reconstruct.low_multipole import profiled_fisher
from obsfit.reconstruct.multipoles import ONE_PASS, map_harmonics, normal_matrix, one_pass_products
from obsfit.reconstruct.ring_harmonics import complex_alm, multipoles
from obsfit.reconstruct.ring_sums import Events
from obsfit.records.reconstruction import MapReconstruction

__all__ = ["low_multipole_response", "map_response", "response_operator"]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def low_multipole_response(events: Events, *, lmax: int = 3, lmax_sky: int = 10) -> FloatArray:
    """Return what `LowMultipoleLikelihood` shows of the true a_lm, shape (2 n, 2 n_sky).

    The identity for l <= lmax; the columns of higher multipoles are their leakage.

    Parameters
    ----------
    events : EventMap, RingCounts, or a sequence of them
        One or several detectors; only their exposure and acceptance matter.
    lmax : int
        Largest multipole that is fitted.
    lmax_sky : int
        Largest multipole of the sky, at least lmax.

    Raises
    ------
    ValueError
        If lmax_sky is below lmax.
    """
    fisher = profiled_fisher(events, lmax_sky)
    fitted = _fitted(lmax, lmax_sky)
    return np.asarray(np.linalg.solve(fisher[np.ix_(fitted, fitted)], fisher[fitted]))


def map_response(reconstruction: MapReconstruction, *, lmax: int = 3, lmax_sky: int = 10) -> FloatArray:
    """Return what `fit_multipoles` of a map shows of the true a_lm, shape (2 n, 2 n_sky).

    Parameters
    ----------
    reconstruction : MapReconstruction
        Its method, exposure and acceptance matter, not its counts.
    lmax : int
        Largest multipole that is fitted.
    lmax_sky : int
        Largest multipole of the sky, at least lmax.

    Raises
    ------
    ValueError
        If lmax_sky is below lmax.
    """
    harmonics = map_harmonics(reconstruction, lmax_sky)
    fitted = _fitted(lmax, lmax_sky)
    normal = normal_matrix(reconstruction, harmonics)
    one_pass = reconstruction.spec.method in ONE_PASS
    seen = one_pass_products(reconstruction, harmonics) if one_pass else normal
    return np.asarray(np.linalg.solve(normal[np.ix_(fitted, fitted)], seen[fitted]))


def response_operator(
    response: FloatArray,
    covariance: FloatArray,
    *,
    energy: EnergyResponse,
    summary: Components | Power | Pixels,
    tolerance: float = 1e-3,
) -> ObservationOperator:
    """Return the observation operator of a response that is real and treats each m by itself.

    So are responses for constant exposure and for an acceptance that is the same to East and West. Others belong to
    no `ObservationOperator`: use the matrix itself.

    Parameters
    ----------
    response : ndarray, shape (2 n, 2 n_sky)
        From `low_multipole_response` or `map_response`.
    covariance : ndarray, shape (2 n, 2 n)
        Of the fitted (Re a, Im a), from the reconstruction.
    energy : EnergyResponse
        What the observation averages over.
    summary : Components, Power or Pixels
        The numbers that are published.
    tolerance : float
        Largest mixing of m or turning of phases, relative to the largest response; ten times as much is allowed of
        the correlation coefficients of noise.

    Raises
    ------
    ObsfitError
        If response or noise mix m or turn phases by more than that.
    """
    lmax, lmax_sky = (_lmax(size) for size in response.shape)
    _, m = multipoles(lmax)
    _check_noise(covariance, m, 10.0 * tolerance)

    def chain(alm: ComplexArray) -> ComplexArray:
        sky = alm[lmax_sky + 1 :]
        fitted = complex_alm(response @ np.concatenate([sky.real, sky.imag]))
        return np.concatenate([np.zeros(lmax + 1, dtype=np.complex128), fitted])

    n = m.size
    variance = covariance[:n, :n] + covariance[n:, n:]
    noise = {}
    for order in range(1, lmax + 1):
        block = np.zeros((energy.weights.shape[0], lmax + 1, lmax + 1))
        block[:, order:, order:] = variance[np.ix_(m == order, m == order)]
        noise[order] = block
    return ObservationOperator.probe(
        chain, lmax_sky, energy=energy, summary=summary, noise=noise, tolerance=tolerance
    )


def _fitted(lmax: int, lmax_sky: int) -> NDArray[np.bool_]:
    """Which of the parameters of the sky are fitted, shape (2 n_sky,)."""
    if lmax_sky < lmax:
        raise ValueError(f"lmax_sky {lmax_sky}: expected at least lmax, {lmax}")
    ell, _ = multipoles(lmax_sky)
    return np.tile(ell <= lmax, 2)


def _lmax(n_parameter: int) -> int:
    return round((np.sqrt(1.0 + 4.0 * n_parameter) - 1.0) / 2.0)


def _check_noise(covariance: FloatArray, m: NDArray[np.int64], tolerance: float) -> None:
    n = m.size
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviation, deviation)
    other = np.tile(m[:, None] != m, (2, 2))
    crossed = np.kron(np.array([[0, 1], [1, 0]]), np.ones((n, n))).astype(bool)
    for where, complaint in ((other, "mixes multipoles of different m"), (crossed, "turns phases")):
        worst = float(np.abs(correlation[where]).max(initial=0.0))
        if worst > tolerance:
            raise ObsfitError(
                f"the noise {complaint}: correlation coefficients up to {worst:.2g}",
                expected=f"at most {tolerance:g}",
                remedy="Use the matrices of response and covariance themselves, or a larger tolerance.",
            )
