r"""Rayleigh analysis: harmonics of right ascension from sums over events, weighted, with exact chance probabilities.

.. math:: (a_n, b_n) = \frac{2}{\mathcal N} \sum_i w_i\, (\cos n\alpha_i, \sin n\alpha_i),
          \qquad \mathcal N = \sum_i w_i

(Linsley 1975). A method for data whose exposure is even in right ascension, or known: with weights one over the
relative exposure at the time, or at the right ascension, of each event it is the generalised Rayleigh analysis of
Mollerach and Roulet (2005). Exposure that is neither is taken for anisotropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError
from obsfit.reconstruct._harmonic_inputs import (
    check_harmonics,
    combine,
    combine_rows,
    design,
    detectors,
    projection_row,
    ring_mean_cosines,
    time_centres,
)
from obsfit.reconstruct._mirror_pairs import sub_pixels
from obsfit.reconstruct._specification import specification
from obsfit.records.event_map import EventMap, HourAngleGrid, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction
from obsfit.statistics.circular import (
    LimitMethod,
    amplitude_upper_limit,
    gaussian_chance_probability,
    isotropic_amplitude,
    rayleigh_probability,
)

__all__ = ["Rayleigh", "RayleighResult", "rayleigh"]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

METHOD = "rayleigh"
# Bands of declination in which the response of a map is averaged.
N_BANDS = 512


@dataclass(frozen=True)
class RayleighResult:
    """Harmonics of right ascension of single events.

    Attributes
    ----------
    components : ndarray, shape (n_harmonic, 2)
        (a_n, b_n), as they are summed: not divided by <cos^n(declination)>.
    covariance : ndarray, shape (2 n_harmonic, 2 n_harmonic)
        Statistical covariance of ``components.ravel()``.
    chance_probability : ndarray, shape (n_harmonic,)
        Probability that an isotropic sky gives an amplitude as large: exact where exposure is even, and
        exp(-chi^2/2) where it is corrected for.
    mean_cosine : ndarray, shape (n_harmonic,)
        <cos^n(declination)> over the weighted events; NaN if declinations are not given.
    n_events : int
        Number of events.
    n_effective : float
        (sum w)^2 / sum w^2.
    """

    components: FloatArray
    covariance: FloatArray
    chance_probability: FloatArray
    mean_cosine: FloatArray
    n_events: int
    n_effective: float

    @property
    def amplitude(self) -> FloatArray:
        """Amplitude of each harmonic, shape (n_harmonic,); not corrected for what noise adds."""
        return np.hypot(self.components[:, 0], self.components[:, 1])

    @property
    def phase_rad(self) -> FloatArray:
        """Right ascension of the first maximum of each harmonic, in [0, 2 pi / n), shape (n_harmonic,)."""
        angle = np.arctan2(self.components[:, 1], self.components[:, 0])
        return np.asarray(np.mod(angle, 2.0 * np.pi) / np.arange(1, len(angle) + 1))

    @property
    def sigma(self) -> FloatArray:
        """Root of the mean variance of the two components, shape (n_harmonic,); sqrt(2/N) for unit weights."""
        return np.sqrt(np.diag(self.covariance).reshape(-1, 2).mean(axis=1))

    @property
    def equatorial_components(self) -> FloatArray:
        """Components divided by <cos^n(declination)>, shape (n_harmonic, 2): the equatorial dipole for n = 1."""
        return np.asarray(self.components / self._cosines()[:, np.newaxis])

    def upper_limit(
        self, confidence: float, *, equatorial: bool = True, method: LimitMethod = "uniform-amplitude"
    ) -> FloatArray:
        """Return upper limits on the amplitudes, shape (n_harmonic,).

        Parameters
        ----------
        confidence : float
            In (0, 1).
        equatorial : bool
            Whether to divide by <cos^n(declination)>, which needs declinations.
        method : str
            As `obsfit.statistics.circular.amplitude_upper_limit`.
        """
        scale = self._cosines() if equatorial else np.ones(len(self.components))
        limits = [
            amplitude_upper_limit(a, s, confidence, method=method)
            for a, s in zip(self.amplitude, self.sigma, strict=True)
        ]
        return np.asarray(np.array(limits) / scale)

    def isotropic_amplitude(self, confidence: float) -> FloatArray:
        """Amplitudes (a_n, b_n) that an isotropic sky exceeds with probability 1 - confidence, shape (n_harmonic,)."""
        return np.array([isotropic_amplitude(s, confidence) for s in self.sigma])

    def _cosines(self) -> FloatArray:
        if np.any(np.isnan(self.mean_cosine)):
            raise ValueError("the equatorial amplitude needs declinations: give dec_rad")
        return self.mean_cosine


def rayleigh(
    right_ascension_rad: ArrayLike,
    *,
    dec_rad: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    exposure: ArrayLike | None = None,
    harmonics: int = 1,
) -> RayleighResult:
    r"""Return harmonics of the right ascensions of single events, with exact chance probabilities.

    Under isotropy and even exposure the weighted sum is a random walk in the plane with steps w_i, whose exact law
    `rayleigh_probability` knows. With an exposure, each event counts w_i over it, its direction is no longer
    uniform, and probability and errors are those of the Gaussian limit with the measured covariance.

    Parameters
    ----------
    right_ascension_rad : array_like, shape (n,)
        Right ascensions.
    dec_rad : array_like, shape (n,), optional
        Declinations, for the equatorial amplitude.
    weights : array_like, shape (n,), optional
        Statistical weights, independent of right ascension.
    exposure : array_like, shape (n,), optional
        Relative exposure at the time or right ascension of each event, positive, in any unit.
    harmonics : int
        Number of harmonics.

    Raises
    ------
    ValueError
        If shapes differ or a value is not finite or out of range.

    Examples
    --------
    >>> result = rayleigh([0.1, 0.1, 0.1])
    >>> round(float(result.amplitude[0]), 12), round(float(result.phase_rad[0]), 12)
    (2.0, 0.1)
    """
    check_harmonics(harmonics)
    alpha = np.asarray(right_ascension_rad, dtype=np.float64)
    if alpha.ndim != 1 or alpha.size == 0:
        raise ValueError(f"right_ascension_rad of shape {alpha.shape}: expected (n,) with at least one event")
    weight = _like(weights, alpha, "weights", positive=False)
    live = _like(exposure, alpha, "exposure", positive=True)
    if not np.all(np.isfinite(alpha)):
        raise ValueError("right_ascension_rad: expected finite numbers")
    if not np.any(weight > 0.0):
        raise ValueError("weights: all are zero")
    steps = weight / live * np.mean(live)
    total = float(steps.sum())
    columns = design(alpha, harmonics, constant=False)
    vector = 2.0 * (steps @ columns) / total
    components = vector.reshape(harmonics, 2)
    residuals = steps[:, np.newaxis] * (columns - 0.5 * vector)
    covariance = 4.0 / total**2 * residuals.T @ residuals
    cosines = np.full(harmonics, np.nan)
    if dec_rad is not None:
        dec = np.asarray(dec_rad, dtype=np.float64)
        if dec.shape != alpha.shape or not np.all(np.abs(dec) <= 0.5 * np.pi + 1e-9):
            raise ValueError(f"dec_rad of shape {dec.shape}: expected {alpha.shape}, radians from -pi/2 to pi/2")
        cosines = np.array([steps @ np.cos(dec) ** n for n in range(1, harmonics + 1)]) / total
    probability = np.zeros(harmonics)
    for n in range(harmonics):
        pair = slice(2 * n, 2 * n + 2)
        length = 0.5 * total * float(np.hypot(*components[n]))
        probability[n] = (
            rayleigh_probability(length, weights=steps)
            if exposure is None
            else gaussian_chance_probability(vector[pair], covariance[pair, pair])
        )
    return RayleighResult(
        components, covariance, probability, cosines, alpha.size, total**2 / float(steps @ steps)
    )


@dataclass(frozen=True)
class Rayleigh:
    r"""Harmonics of right ascension of event maps by sums over their counts.

    Several detectors are averaged, each harmonic with its inverse variances.

    Attributes
    ----------
    harmonics : int
        Number of harmonics.
    corrected : bool
        Whether harmonics are divided by <cos^n(declination)>, so that a pure dipole is seen as it is.
    exposure : tuple of tuple of float, or None
        Relative exposure of each time bin, from live time and not from the events, one tuple for each detector. Each
        event counts one over it. None: exposure is even.
    """

    harmonics: int = 1
    corrected: bool = True
    exposure: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        check_harmonics(self.harmonics)

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> DipoleReconstruction:
        """Return (delta_0h, delta_6h) and the higher harmonics.

        Parameters
        ----------
        events : EventMap, RingCounts, or a sequence of them
            One for each detector, all of one frame.
        rng : Generator, optional
            Not used.

        Raises
        ------
        ConfigurationError
            If detectors do not go together, or an exposure does not fit them.
        """
        found = detectors(events, METHOD)
        single = [self._one(record, i, len(found)) for i, record in enumerate(found)]
        components, covariance, _ = combine([c for c, _ in single], [v for _, v in single])
        dipole = "A dipole is seen as it is" if self.corrected else "A dipole is reduced by <cos(declination)>"
        even = "Exposure that is not even in sidereal time" if self.exposure is None else "Errors of the exposure"
        spec = specification(
            METHOD,
            {
                "harmonics": self.harmonics,
                "corrected": self.corrected,
                "exposure": "even" if self.exposure is None else "given",
            },
            found,
            f"Loses m = 0. {dipole}; multipoles l > n leak in. {even} is taken for anisotropy.",
        )
        return DipoleReconstruction(components, covariance, spec, tuple(r.provenance for r in found))

    def response(
        self, events: EventMap | RingCounts | Sequence[EventMap | RingCounts], lmax: int = 10
    ) -> dict[int, FloatArray]:
        """Return what each harmonic n measures of a_ln, as n -> row of shape (lmax + 1,), l counted from 0.

        `obsfit.operators.projections.right_ascension_row` for the distribution of the events in declination, divided
        by its entry l = n if `corrected`.
        """
        found = detectors(events, METHOD)
        single = [self._one(record, i, len(found)) for i, record in enumerate(found)]
        weights = combine([c for c, _ in single], [v for _, v in single])[2]
        rows = []
        for record in found:
            edges, counts = declination_counts(record)
            row = {n: projection_row(edges, counts, lmax, n) for n in range(1, self.harmonics + 1)}
            rows.append({n: values / values[n] if self.corrected else values for n, values in row.items()})
        return combine_rows(rows, weights)

    def _one(self, record: EventMap | RingCounts, index: int, n_detectors: int) -> tuple[FloatArray, FloatArray]:
        live = None
        if self.exposure is not None:
            if len(self.exposure) != n_detectors:
                raise ConfigurationError(
                    f"{METHOD}: exposure of {len(self.exposure)} detectors for {n_detectors}",
                    expected="one tuple for each detector",
                )
            live = np.array(self.exposure[index], dtype=np.float64)
        total, moments, squares, gain, cosines = (
            _of_rings(record, self.harmonics, live)
            if isinstance(record, RingCounts)
            else _of_map(record, self.harmonics, live)
        )
        if not self.corrected:
            gain = gain / cosines
        sums = moments / (total * gain)
        components = 2.0 * np.stack([sums.real, sums.imag], axis=-1)
        size = 2 * self.harmonics
        covariance = np.zeros((size, size))
        for a in range(self.harmonics):
            for b in range(self.harmonics):
                minus = squares[abs(a - b)] if a >= b else squares[b - a].conj()
                plus = squares[a + b + 2]
                block = 0.5 * np.array(
                    [
                        [plus.real + minus.real, plus.imag - minus.imag],
                        [plus.imag + minus.imag, minus.real - plus.real],
                    ]
                )
                covariance[2 * a : 2 * a + 2, 2 * b : 2 * b + 2] = 4.0 * block / (total**2 * gain[a] * gain[b])
        return components, covariance


def declination_counts(record: EventMap | RingCounts) -> tuple[FloatArray, FloatArray]:
    """Edges of declination bands, shape (n + 1,), and the counts in them, shape (n,)."""
    if isinstance(record, RingCounts):
        return np.linspace(-0.5 * np.pi, 0.5 * np.pi, record.per_declination.size + 1), record.per_declination
    per_pixel = record.counts.sum(axis=0)
    if isinstance(record.grid, HourAngleGrid):
        return record.grid.dec_edges_rad, per_pixel.reshape(record.grid.n_dec, -1).sum(axis=1)
    dec, _ = sub_pixels(record.grid, np.arange(record.grid.n_pixel))
    edges = np.linspace(-0.5 * np.pi, 0.5 * np.pi, N_BANDS + 1)
    counts, _ = np.histogram(
        dec, edges, weights=np.broadcast_to(per_pixel[:, np.newaxis] / dec.shape[1], dec.shape)
    )
    return edges, counts


Sums = tuple[float, ComplexArray, ComplexArray, FloatArray, FloatArray]


def _of_rings(record: RingCounts, harmonics: int, live: FloatArray | None) -> Sums:
    """Sums of weights, of e^{in alpha} and of squared weights times e^{ik alpha}; gains, and means of cos^n(dec)."""
    if live is not None:
        raise ConfigurationError(
            f"{record.detector}: sums over time do not know the exposure of each event",
            expected="an EventMap where an exposure is given",
        )
    squared = record.per_sky if record.squared is None else record.squared[2]
    alpha = record.grid.right_ascension_rad
    moments = record.per_sky.sum(axis=0) @ np.exp(1j * alpha[:, np.newaxis] * np.arange(1, harmonics + 1))
    squares = squared.sum(axis=0) @ np.exp(1j * alpha[:, np.newaxis] * np.arange(2 * harmonics + 1))
    return record.total, moments, squares, *_ring_gain(record.grid, record.per_cell.sum(axis=1), harmonics)


def _of_map(record: EventMap, harmonics: int, live: FloatArray | None) -> Sums:
    """As `_of_rings`."""
    weight = np.ones(record.n_time) if live is None else _time_weights(live, record)
    tau = time_centres(record.n_time)
    per_pixel = weight @ record.counts
    grid = record.grid
    if isinstance(grid, HourAngleGrid):
        hour_angle = np.tile(grid.hour_angle_rad, grid.n_dec)
        gain, cosines = _ring_gain(grid, per_pixel.reshape(grid.n_dec, -1).sum(axis=1), harmonics)
    else:
        dec, hours = sub_pixels(grid, np.arange(grid.n_pixel))
        middle = np.exp(1j * hours).mean(axis=1)
        hour_angle = np.angle(middle)
        gain, cosines = np.zeros((2, harmonics))
        for n in range(1, harmonics + 1):
            # What a profile cos^n(dec) cos(n alpha) of the sky gives in the pixels, which average over it.
            seen = (np.cos(dec) ** n * np.exp(-1j * n * hours)).mean(axis=1) * np.exp(1j * n * hour_angle)
            gain[n - 1] = per_pixel @ seen.real / per_pixel.sum() * np.sinc(n / record.n_time)
            cosines[n - 1] = per_pixel @ (np.cos(dec) ** n).mean(axis=1) / per_pixel.sum()
    squared = record.counts if record.squared_weights is None else record.squared_weights
    order = np.arange(2 * harmonics + 1)
    local, time = np.exp(-1j * hour_angle[:, np.newaxis] * order), np.exp(1j * tau[:, np.newaxis] * order)
    moments = np.einsum("tn,tn->n", _over_pixels(record.counts, local) * weight[:, np.newaxis], time)[
        1 : harmonics + 1
    ]
    squares = np.einsum("tn,tn->n", _over_pixels(squared, local) * weight[:, np.newaxis] ** 2, time)
    return float(per_pixel.sum()), moments, squares, gain, cosines


def _over_pixels(counts: FloatArray, phases: ComplexArray) -> ComplexArray:
    """Product of real counts (time, pixel) and phases (pixel, order), without a complex copy of the counts."""
    both = counts @ np.concatenate([phases.real, phases.imag], axis=1)
    return np.asarray(both[:, : phases.shape[1]] + 1j * both[:, phases.shape[1] :])


def _ring_gain(grid: HourAngleGrid, per_ring: FloatArray, harmonics: int) -> tuple[FloatArray, FloatArray]:
    orders = range(1, harmonics + 1)
    cosines = np.array([np.sum(per_ring * ring_mean_cosines(grid, n)) for n in orders]) / per_ring.sum()
    return np.asarray(cosines * np.sinc(np.array(orders) / grid.n_time) ** 2), np.asarray(cosines)


def _time_weights(live: FloatArray, record: EventMap) -> FloatArray:
    """One over the exposure where there are events, of mean one over them."""
    per_time = record.counts.sum(axis=1)
    if live.shape != per_time.shape or not np.all(np.isfinite(live)) or np.any(live[per_time > 0.0] <= 0.0):
        raise ConfigurationError(
            f"{record.detector}: exposure of shape {live.shape}",
            expected=f"{record.n_time} finite values, positive where there are events",
        )
    used = live > 0.0
    weight = np.divide(1.0, live, out=np.zeros_like(live), where=used)
    return np.asarray(weight * per_time.sum() / (weight @ per_time))


def _like(values: ArrayLike | None, alpha: FloatArray, name: str, *, positive: bool) -> FloatArray:
    if values is None:
        return np.ones_like(alpha)
    array = np.asarray(values, dtype=np.float64)
    good = array > 0.0 if positive else array >= 0.0
    if array.shape != alpha.shape or not np.all(np.isfinite(array)) or not np.all(good):
        raise ValueError(
            f"{name} of shape {array.shape}: expected {alpha.shape}, finite, "
            f"{'positive' if positive else 'none negative'}"
        )
    return array
