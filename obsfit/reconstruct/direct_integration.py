"""Direct integration: the background expected from the events' own times and local directions, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from obsfit.reconstruct._ring_inputs import (
    HOURS,
    fine_declinations,
    in_windows,
    window_bins,
)
from obsfit.reconstruct._specification import specification
from obsfit.reconstruct.ring_sums import Events, as_list, check_together
from obsfit.records.event_map import RingCounts
from obsfit.records.reconstruction import MapReconstruction, ObservationSpec

__all__ = ["DirectIntegration", "direct_integration_map", "first_pass_rings"]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Cells with an expectation below this share of the largest one are unseen: sums by Fourier transforms are no better.
SEEN = 1e-12


@dataclass(frozen=True)
class DirectIntegration:
    r"""Relative intensity from the background that the events themselves suggest, without iteration.

    The local acceptance is taken from all events of a window of time, as if the sky were isotropic,

    .. math:: E_{rk} = \sum_{windows} \frac{1}{n} \sum_j n_{k+j}\, n_{rj}, \qquad
              I_{rk} = s_{rk} / E_{rk} \text{ less its mean in each ring},

    with the counts :math:`n_t` of time bins and :math:`n_{rj}` of local cells in the window and :math:`s_{rk}` of sky
    cells. This is the first pass of the iterative likelihood. The exposure of each bin absorbs what the field of view
    sees of a large-scale anisotropy at that time: of the first harmonic a mid-latitude observatory keeps
    1 - rho_1 = 0.16 to 0.22, one at a pole all of it. Windows shorter than a day lose more. The loss is linear and
    known exactly, see `direct_integration_map` and `obsfit.reconstruct.responses`.

    Attributes
    ----------
    window_hours : float
        Length of the windows on the clock of the time bins, which have 24 hours: 24 for the whole turn. Shorter ones
        need an `EventMap` and must divide its bins evenly.
    """

    window_hours: float = HOURS

    def reconstruct(self, events: Events, *, rng: np.random.Generator | None = None) -> MapReconstruction:
        """Return the map of one or several detectors.

        Parameters
        ----------
        events : EventMap, RingCounts, or a sequence of them
            One or several detectors.
        rng : numpy.random.Generator, optional
            Not used.

        Raises
        ------
        ConfigurationError
            If detectors do not go together, or windows do not fit.
        """
        windows = [in_windows(item, self.window_hours) for item in as_list(events)]
        rings = whole_turns(windows)
        expected = np.sum([expected_counts(w.per_time, w.per_cell) for parts in windows for w in parts], axis=0)
        loss = (
            f"a_l0 is lost. Exposure absorbs a part of all multipoles up to about the width of the field of view: the "
            f"response is that of one pass with windows of {self.window_hours:g} hours."
        )
        spec = specification(
            "direct-integration",
            {"window_hours": self.window_hours, "weighted": any(item.squared is not None for item in rings)},
            rings,
            loss,
        )
        return background_map(rings, expected, spec)


def expected_counts(per_time: FloatArray, per_cell: FloatArray) -> FloatArray:
    r"""Return :math:`\frac{1}{n} \sum_j n_{k+j} n_{rj}`, shape (n_dec, n_time).

    Parameters
    ----------
    per_time : ndarray, shape (n_time,)
        Counts :math:`n_t`, of sum n.
    per_cell : ndarray, shape (n_dec, n_time)
        Counts :math:`n_{rj}`, of sum n.

    Examples
    --------
    >>> expected_counts(np.array([4.0, 0.0, 0.0, 0.0]), np.array([[3.0, 1.0, 0.0, 0.0]]))
    array([[3., 0., 0., 1.]])
    """
    return np.maximum(correlate(per_time, per_cell) / per_time.sum(), 0.0)


def whole_turns(windows: Sequence[Sequence[RingCounts]]) -> list[RingCounts]:
    """Return the ring sums of each detector, given those of its windows.

    Raises
    ------
    ConfigurationError
        If the detectors cannot be taken together.
    """
    rings = [_add(parts) for parts in windows]
    check_together(rings, rings[0].grid)
    return rings


def background_map(
    rings: Sequence[RingCounts], expected: FloatArray, spec: ObservationSpec, *, iterations: int = 1
) -> MapReconstruction:
    """Return the map of counts over an expected background, with the mean of each ring given to the acceptance.

    Parameters
    ----------
    rings : sequence of RingCounts
        One or several detectors.
    expected : ndarray, shape (n_dec, n_time)
        Background of the sky cells, all detectors together.
    spec : ObservationSpec
        How it was made.
    iterations : int
        Passes.
    """
    counts = np.sum([item.per_sky for item in rings], axis=0)
    seen = expected > SEEN * expected.max()
    intensity = np.divide(counts, expected, out=np.full_like(expected, np.nan), where=seen)
    any_seen = seen.any(axis=1)
    mean = np.ones(len(expected))
    mean[any_seen] = np.nanmean(intensity[any_seen], axis=1)
    acceptance, exposure = [], []
    for item in rings:
        share = item.per_cell / item.total * mean[:, None]
        acceptance.append(share / share.sum())
        exposure.append(item.per_time * share.sum())
    return MapReconstruction(
        relative_intensity=intensity / mean[:, None],
        counts=counts,
        expected=np.where(seen, expected * mean[:, None], 0.0),
        exposure=tuple(exposure),
        acceptance=tuple(acceptance),
        per_declination=fine_declinations(rings),
        grid=rings[0].grid,
        spec=spec,
        provenance=tuple(item.provenance for item in rings),
        iterations=iterations,
    )


def direct_integration_map(
    anisotropy: FloatArray,
    exposure: Sequence[FloatArray],
    acceptance: Sequence[FloatArray],
    *,
    window_hours: float = HOURS,
) -> FloatArray:
    r"""Return what direct integration shows of a small anisotropy, shape (n_dec, n_time), before ring means go.

    To first order in :math:`\delta = I - 1`, for any exposure :math:`N_t` and acceptance :math:`A_{rj}`,

    .. math:: \tilde\delta_{rk} = \delta_{rk} - \frac{1}{E_{rk}} \sum_j N_{k+j} A_{rj}
              (x_{k+j} + y_{rj} - c), \qquad E_{rk} = \sum_j N_{k+j} A_{rj},

    with the means of the anisotropy that a time bin, a local cell and a window of time see:
    :math:`x_t = \sum_{rj} A_{rj} \delta_{r,t-j}`, :math:`y_{rj} = \sum_t N_t \delta_{r,t-j} / \sum_t N_t`,
    :math:`c = \sum_t N_t x_t / \sum_t N_t`, sums over t within the window. Detectors add their sums before the
    division by the summed E.

    Parameters
    ----------
    anisotropy : ndarray, shape (n_dec, n_time)
        Relative intensity less one.
    exposure : sequence of ndarray, shape (n_time,)
        Expected events of each time bin, for each detector.
    acceptance : sequence of ndarray, shape (n_dec, n_time)
        Share of the local cells, of sum one, for each detector.
    window_hours : float
        Length of the windows; 24 for the whole turn.

    Returns
    -------
    ndarray, shape (n_dec, n_time)
        Zero where unseen.

    Raises
    ------
    ConfigurationError
        If windows do not fit the number of time bins.
    """
    n_time = anisotropy.shape[1]
    length = window_bins(window_hours, n_time)
    total, absorbed = np.zeros_like(anisotropy), np.zeros_like(anisotropy)
    for per_time, share in zip(exposure, acceptance, strict=True):
        total += correlate(per_time, share)
        seen_at = convolve(anisotropy, share).sum(axis=0) / share.sum()
        for start in range(0, n_time, length):
            inside = np.zeros(n_time)
            inside[start : start + length] = per_time[start : start + length]
            if not inside.any():
                continue
            seen_in = correlate(inside, anisotropy) / inside.sum()
            mean = (inside @ seen_at) / inside.sum()
            absorbed += correlate(inside * (seen_at - mean), share) + correlate(inside, share * seen_in)
    seen = total > SEEN * total.max()
    return np.where(seen, anisotropy - np.divide(absorbed, total, out=np.zeros_like(total), where=seen), 0.0)


def first_pass_rings(acceptance: FloatArray, m: int) -> ComplexArray:
    r"""Return the response of direct integration to one harmonic, ring by ring, shape (n_dec, n_dec).

    For constant exposure and windows of the whole turn, the amplitudes :math:`\frac{1}{T} \sum_k \delta_{rk}
    e^{-i m k D}` that it shows are this matrix times the true ones:

    .. math:: R_{rr'} = \delta_{rr'} - \bar v_r\, v_{r'} a_{r'}, \qquad v_r = \hat A_r(m) / a_r, \qquad
              \hat A_r(m) = \sum_j A_{rj} e^{-i m j D}, \qquad a_r = \sum_j A_{rj}, \qquad \sum_r a_r = 1.

    It takes away a part of the one shape :math:`\bar v`, of which 1 - rho_m is left; the converged likelihood has the
    identity. Rings without acceptance are neither seen nor answer.

    Parameters
    ----------
    acceptance : ndarray, shape (n_dec, n_time)
        Relative acceptance of the local cells.
    m : int
        Order of the harmonic, not zero.
    """
    if m == 0:
        raise ValueError("m = 0: the mean of each ring is lost altogether; expected m of at least 1")
    n_time = acceptance.shape[1]
    share = acceptance / acceptance.sum()
    amplitude = share @ np.exp(-2j * np.pi * m / n_time * np.arange(n_time))
    per_ring = share.sum(axis=1)
    seen = per_ring > 0.0
    mean = np.divide(amplitude, per_ring, out=np.zeros_like(amplitude), where=seen)
    return np.diag(seen.astype(np.complex128)) - np.outer(mean.conj(), amplitude)


def correlate(over_time: FloatArray, over_cells: FloatArray) -> FloatArray:
    """Sum over the second index x of over_time[k + x] times over_cells[r, x], shape (n_dec, n_time)."""
    spectrum = scipy.fft.rfft(over_time) * scipy.fft.rfft(over_cells, axis=1).conj()
    return np.asarray(scipy.fft.irfft(spectrum, over_cells.shape[1], axis=1))


def convolve(over_sky: FloatArray, over_cells: FloatArray) -> FloatArray:
    """Sum over j of over_sky[r, t - j] times over_cells[r, j], shape (n_dec, n_time)."""
    spectrum = scipy.fft.rfft(over_sky, axis=1) * scipy.fft.rfft(over_cells, axis=1)
    return np.asarray(scipy.fft.irfft(spectrum, over_cells.shape[1], axis=1))


def _add(parts: Sequence[RingCounts]) -> RingCounts:
    """Sum of the windows of one detector."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    def total(name: str) -> FloatArray:
        return np.asarray(np.sum([getattr(part, name) for part in parts], axis=0))

    squared = None
    if first.squared is not None:
        planes = [part.squared for part in parts if part.squared is not None]
        time, cell, sky, declination = (np.sum([plane[i] for plane in planes], axis=0) for i in range(4))
        squared = (time, cell, sky, declination)
    return RingCounts(
        total("per_time"),
        total("per_cell"),
        total("per_sky"),
        total("per_declination"),
        grid=first.grid,
        detector=first.detector,
        provenance=first.provenance,
        squared=squared,
        frame=first.frame,
        energy=first.energy,
    )
