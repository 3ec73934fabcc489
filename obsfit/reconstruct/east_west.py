r"""The East-West method: right-ascension harmonics from what the eastern and the western half-sky count alike.

A local direction of declination delta and hour angle h looks at right ascension :math:`\tau - h` at the sidereal angle
tau, and its mirror image in the meridian at :math:`\tau + h`. In the asymmetry of the two half-skies all that depends
on time alone cancels, exposure and weather, and so does the part of the acceptance that both share: Eqs. (20)-(23) of
AM17. To first order in a profile :math:`\cos^n\delta\,(a_n \cos n\alpha + b_n \sin n\alpha)`

.. math:: \frac{N_E - N_W}{N_E + N_W}(\tau) = \epsilon + (1 - \epsilon^2) \sum_n s_n (b_n \cos n\tau - a_n \sin n\tau),
          \qquad s_n = \langle \cos^n\delta\, \sin(n|h|) \rangle,

where epsilon is the asymmetry of the acceptance, which stays at zero frequency, and the step s_n is averaged over the
events of each half; s_1 is :math:`\Delta\alpha`. Neglected are products of anisotropies, relative to the result as
large as the anisotropy itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct._harmonic_inputs import (
    check_harmonics,
    combine,
    combine_rows,
    design,
    event_maps,
    time_centres,
)
from obsfit.reconstruct._mirror_pairs import cosine_power, legendre, mirror_pairs
from obsfit.reconstruct._specification import specification
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction
from obsfit.statistics.circular import (
    LimitMethod,
    amplitude_upper_limit,
    gaussian_chance_probability,
    isotropic_amplitude,
)

__all__ = [
    "EastWest",
    "EastWestAsymmetry",
    "EastWestEvents",
    "FrequencyScan",
    "east_west_asymmetry",
    "east_west_events",
    "east_west_scan",
]

FloatArray = NDArray[np.float64]

METHOD = "east-west"
LOSS = (
    "Loses m = 0. A dipole is seen as it is; multipoles l > n of order n leak into harmonic n as the rows of "
    "EastWest.response say. The relative error of second order is <cos zenith> sin(latitude) delta_N."
)
# A step below this share of its largest possible value says nothing.
SMALLEST_STEP = 1e-3
LARGEST_CONDITION = 1e8


@dataclass(frozen=True)
class EastWestAsymmetry:
    """Asymmetry of the half-skies in each time bin.

    Attributes
    ----------
    angle_rad : ndarray, shape (n_time,)
        Middles of the time bins.
    east, west : ndarray, shape (n_time,)
        Events, or sums of weights, of each half-sky.
    east_squared, west_squared : ndarray, shape (n_time,)
        Sums of squared weights.
    step : ndarray, shape (n_harmonic,)
        s_n, with the width of the time bins in it.
    """

    angle_rad: FloatArray
    east: FloatArray
    west: FloatArray
    east_squared: FloatArray
    west_squared: FloatArray
    step: FloatArray

    @property
    def asymmetry(self) -> FloatArray:
        """(E - W)/(E + W), shape (n_time,); NaN in a bin without events."""
        total = self.east + self.west
        return np.divide(self.east - self.west, total, out=np.full(total.shape, np.nan), where=total > 0.0)

    @property
    def error(self) -> FloatArray:
        """Its statistical error, shape (n_time,); NaN in a bin without events."""
        total, d = self.east + self.west, np.nan_to_num(self.asymmetry)
        spread = np.sqrt(self.east_squared * (1.0 - d) ** 2 + self.west_squared * (1.0 + d) ** 2)
        return np.divide(spread, total, out=np.full(total.shape, np.nan), where=total > 0.0)


def east_west_asymmetry(event_map: EventMap, *, harmonics: int = 1) -> EastWestAsymmetry:
    """Return the counts of both half-skies in each time bin, and the measured steps.

    Parameters
    ----------
    event_map : EventMap
        Counts on either grid. Pixels cut by the meridian are left out.
    harmonics : int
        Number of steps wanted.

    Raises
    ------
    ConfigurationError
        If a half-sky has no events.
    """
    pairs = mirror_pairs(event_map)
    halves = np.zeros((event_map.grid.n_pixel, 2))
    halves[pairs.east, 0] = halves[pairs.west, 1] = 1.0
    counts = event_map.counts @ halves
    squared = counts if event_map.squared_weights is None else event_map.squared_weights @ halves
    per_pixel = event_map.counts.sum(axis=0)
    east, west = per_pixel[pairs.east], per_pixel[pairs.west]
    if not (east.any() and west.any()):
        raise ConfigurationError(
            f"{event_map.detector}: {east.sum():g} events in the East, {west.sum():g} in the West",
            expected="events in both half-skies",
        )
    step = np.zeros(harmonics)
    for n in range(1, harmonics + 1):
        sine = pairs.mean_sine(cosine_power(n), n)
        step[n - 1] = _mean_of_halves(sine, east, west) * np.sinc(n / event_map.n_time)
    return EastWestAsymmetry(
        time_centres(event_map.n_time), counts[:, 0], counts[:, 1], squared[:, 0], squared[:, 1], step
    )


@dataclass(frozen=True)
class EastWest:
    """Harmonics in right ascension from the East-West asymmetry of event maps.

    The asymmetry is fitted by a constant and `fitted_harmonics` harmonics, by least squares with the events of each
    bin as weights, so that bins without events need no care and modulated exposure does not mix what is fitted. The
    result of each harmonic is divided by the step measured on the same events. Errors are those of the weighted
    events. Several detectors are averaged, each harmonic with its inverse variances.

    Attributes
    ----------
    harmonics : int
        Number of harmonics in the result.
    fitted_harmonics : int
        Number of harmonics fitted, at least as many.
    """

    harmonics: int = 1
    fitted_harmonics: int = 3

    def __post_init__(self) -> None:
        check_harmonics(self.harmonics, self.fitted_harmonics)

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> DipoleReconstruction:
        """Return (delta_0h, delta_6h), and the higher harmonics on the celestial equator.

        Parameters
        ----------
        events : EventMap or sequence of EventMap
            One for each detector, all of one frame.
        rng : Generator, optional
            Not used.

        Raises
        ------
        ConfigurationError
            If sums over events are given, a half-sky is empty, or East and West see a harmonic alike.
        ObsfitError
            If the time bins with events cannot tell the fitted harmonics apart.
        """
        maps = event_maps(events, METHOD, "sums over time and pixels do not keep the half-skies apart in time")
        single = [self._one(event_map) for event_map in maps]
        components, covariance, _ = combine([c for c, _ in single], [v for _, v in single])
        spec = specification(
            METHOD, {"harmonics": self.harmonics, "fitted_harmonics": self.fitted_harmonics}, maps, LOSS
        )
        return DipoleReconstruction(components, covariance, spec, tuple(m.provenance for m in maps))

    def response(
        self, events: EventMap | RingCounts | Sequence[EventMap | RingCounts], lmax: int = 10
    ) -> dict[int, FloatArray]:
        r"""Return what each harmonic n measures of a_ln, as n -> row of shape (lmax + 1,), l counted from 0.

        The rows are those of `obsfit.operators.projections.east_west_row`, with the acceptance as the events show it
        instead of a function:
        :math:`r_\ell = \langle \lambda_{\ell n} \sin(n|h|) \rangle / (\lambda_{nn}(0)\, s_n)`. An acceptance that
        differs between East and West adds what is even in h, of the order of that difference, which the rows leave out.
        """
        maps = event_maps(events, METHOD, "sums over time and pixels do not keep the half-skies apart in time")
        rows = []
        for event_map in maps:
            pairs, per_pixel = mirror_pairs(event_map), event_map.counts.sum(axis=0)
            east, west = per_pixel[pairs.east], per_pixel[pairs.west]
            row = {}
            for n in range(1, self.harmonics + 1):
                seen = np.zeros(lmax + 1)
                for ell in range(n, lmax + 1):
                    sine = pairs.mean_sine(legendre(ell, n), n)
                    seen[ell] = _mean_of_halves(sine, east, west)
                row[n] = seen / seen[n]
            rows.append(row)
        single = [self._one(event_map) for event_map in maps]
        weights = combine([c for c, _ in single], [v for _, v in single])[2]
        return combine_rows(rows, weights)

    def _one(self, event_map: EventMap) -> tuple[FloatArray, FloatArray]:
        """Components (n_harmonic, 2) and covariance of one detector."""
        seen = east_west_asymmetry(event_map, harmonics=self.harmonics)
        _check_steps(seen.step, event_map.detector)
        coefficients, covariance = fit_asymmetry(
            design(seen.angle_rad, self.fitted_harmonics, constant=True),
            seen.east,
            seen.west,
            seen.east_squared,
            seen.west_squared,
            event_map.detector,
        )
        return _components(coefficients, covariance, seen.step)


@dataclass(frozen=True)
class EastWestEvents:
    """Result of the East-West method on single events.

    Attributes
    ----------
    components : ndarray, shape (2,)
        (delta_0h, delta_6h): the equatorial dipole.
    covariance : ndarray, shape (2, 2)
        Its statistical covariance.
    step : float
        Measured step Delta alpha, <sin zenith |sin azimuth|>.
    asymmetry : float
        Constant asymmetry of East and West.
    n_events : int
        Number of events.
    """

    components: FloatArray
    covariance: FloatArray
    step: float
    asymmetry: float
    n_events: int

    @property
    def amplitude(self) -> float:
        """Equatorial amplitude; not corrected for what noise adds."""
        return float(np.hypot(*self.components))

    @property
    def phase_rad(self) -> float:
        """Right ascension of the maximum, in [0, 2 pi)."""
        return float(np.mod(np.arctan2(self.components[1], self.components[0]), 2.0 * np.pi))

    @property
    def sigma(self) -> float:
        """Root of the mean variance of the two components; sqrt(2/N) / step for unit weights and even exposure."""
        return float(np.sqrt(0.5 * np.trace(self.covariance)))

    @property
    def chance_probability(self) -> float:
        """Probability that an isotropic sky gives as much."""
        return gaussian_chance_probability(self.components, self.covariance)

    def upper_limit(self, confidence: float, *, method: LimitMethod = "uniform-amplitude") -> float:
        """Return the upper limit on the equatorial amplitude; see `amplitude_upper_limit`."""
        return amplitude_upper_limit(self.amplitude, self.sigma, confidence, method=method)

    def isotropic_amplitude(self, confidence: float) -> float:
        """Return the amplitude that an isotropic sky exceeds with probability 1 - confidence."""
        return isotropic_amplitude(self.sigma, confidence)


def east_west_events(
    sidereal_angle_rad: ArrayLike,
    azimuth_rad: ArrayLike,
    zenith_rad: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    fitted_harmonics: int = 3,
) -> EastWestEvents:
    r"""Return the equatorial dipole of single events by the East-West method, without bins.

    With :math:`\zeta_i` = +1 in the East and -1 in the West, the least-squares fit of :math:`\zeta_i` by a constant and
    harmonics of the sidereal angle; for even exposure its first harmonic is the sum of Bonino et al. (2011),
    :math:`\frac{2}{N}\sum_i \zeta_i (\cos\tau_i, \sin\tau_i)`, and the fit stays right where exposure is modulated and
    the acceptance asymmetric. Divided by the measured step
    :math:`\Delta\alpha = \langle \sin\theta |\sin\varphi| \rangle`, which is
    :math:`2\langle\sin\theta\rangle/\pi` if the azimuth is uniform, and turned by 90 degrees. It is the limit of
    `EastWest` for bins of no width.

    Parameters
    ----------
    sidereal_angle_rad, azimuth_rad, zenith_rad : array_like, shape (n,)
        Local sidereal time as an angle, azimuth from North through East, zenith angle.
    weights : array_like, shape (n,), optional
        Weight of each event, not negative.
    fitted_harmonics : int
        Number of harmonics fitted beside the constant.

    Raises
    ------
    ValueError
        If shapes differ or a value is not finite or out of range.
    ObsfitError
        If the sidereal angles cannot tell the fitted harmonics apart.

    Examples
    --------
    >>> tau = np.repeat(np.arange(8) * np.pi / 4, 2)
    >>> east_west_events(tau, np.tile([1.5, -1.5], 8), np.full(16, 0.5), fitted_harmonics=1).amplitude < 1e-15
    True
    """
    check_harmonics(1, fitted_harmonics)
    tau, sign, lever, weight = _checked_events(sidereal_angle_rad, azimuth_rad, zenith_rad, weights)
    east, west = np.where(sign > 0.0, weight, 0.0), np.where(sign < 0.0, weight, 0.0)
    columns = design(tau, fitted_harmonics, constant=True)
    coefficients, covariance = fit_asymmetry(columns, east, west, east**2, west**2, "events")
    step = np.array([_step(sign, lever, weight)])
    _check_steps(step, "events")
    components, spread = _components(coefficients, covariance, step)
    return EastWestEvents(components[0], spread, float(step[0]), float(coefficients[0]), tau.size)


@dataclass(frozen=True)
class FrequencyScan:
    """First harmonic of the East-West asymmetry at many frequencies.

    Attributes
    ----------
    frequency_per_year : ndarray, shape (n,)
        Cycles per Julian year of 365.25 days: solar 365.25, sidereal 366.2500, anti-sidereal 364.25.
    components : ndarray, shape (n, 2)
        As (delta_0h, delta_6h) of an equatorial dipole that turns with the frequency; angle zero is at the epoch.
    covariance : ndarray, shape (n, 2, 2)
        Statistical covariance.
    """

    frequency_per_year: FloatArray
    components: FloatArray
    covariance: FloatArray

    @property
    def amplitude(self) -> FloatArray:
        """Equatorial amplitude, shape (n,)."""
        return np.hypot(self.components[:, 0], self.components[:, 1])

    @property
    def chance_probability(self) -> FloatArray:
        """Probability that noise gives as much, at each frequency by itself, shape (n,)."""
        pairs = zip(self.components, self.covariance, strict=True)
        return np.array([gaussian_chance_probability(c, v) for c, v in pairs])

    def isotropic_amplitude(self, confidence: float) -> FloatArray:
        """Amplitude that noise exceeds with probability 1 - confidence, at each frequency by itself, shape (n,)."""
        sigma = np.sqrt(0.5 * np.trace(self.covariance, axis1=1, axis2=2))
        return np.array([isotropic_amplitude(s, confidence) for s in sigma])


def east_west_scan(
    time_mjd: ArrayLike,
    azimuth_rad: ArrayLike,
    zenith_rad: ArrayLike,
    frequency: u.Quantity,
    *,
    epoch_mjd: float = 0.0,
    weights: ArrayLike | None = None,
) -> FrequencyScan:
    """Return the amplitude of the East-West method at each of many frequencies, for single events.

    A spurious amplitude at the solar or anti-sidereal frequency betrays effects of day and season. Frequencies closer
    than the inverse of the duration are not independent.

    Parameters
    ----------
    time_mjd : array_like, shape (n,)
        Modified Julian dates.
    azimuth_rad, zenith_rad : array_like, shape (n,)
        As `east_west_events`.
    frequency : Quantity, shape (n_frequency,)
        For example ``np.arange(363.25, 367.5, 0.25) / u.yr``.
    epoch_mjd : float
        Date at which the angles of all frequencies are zero.
    weights : array_like, shape (n,), optional
        Weight of each event.

    Raises
    ------
    ValueError, ObsfitError
        As `east_west_events`.
    """
    per_year = np.atleast_1d(np.asarray(frequency.to_value(1 / u.yr), dtype=np.float64))
    time, sign, lever, weight = _checked_events(time_mjd, azimuth_rad, zenith_rad, weights)
    turns = (time - epoch_mjd) / 365.25
    east, west = np.where(sign > 0.0, weight, 0.0), np.where(sign < 0.0, weight, 0.0)
    step = np.array([_step(sign, lever, weight)])
    _check_steps(step, "events")
    components, covariance = np.zeros((per_year.size, 2)), np.zeros((per_year.size, 2, 2))
    for i, cycles in enumerate(per_year):
        # Whole turns go first: a phase of 1e5 rad would lose digits.
        columns = design(2.0 * np.pi * np.mod(turns * cycles, 1.0), 1, constant=True)
        found, spread = _components(
            *fit_asymmetry(columns, east, west, east**2, west**2, f"{cycles} cycles per year"), step
        )
        components[i], covariance[i] = found[0], spread
    return FrequencyScan(per_year, components, covariance)


def fit_asymmetry(
    columns: FloatArray,
    east: FloatArray,
    west: FloatArray,
    east_squared: FloatArray,
    west_squared: FloatArray,
    name: str,
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients of the columns (n, k) in (E - W)/(E + W) and their covariance, by least squares.

    The weights are E + W, and the covariance is that of the weighted events about the fit.
    """
    total = east + west
    normal = columns.T @ (columns * total[:, np.newaxis])
    condition = np.linalg.cond(normal / np.trace(normal))
    if not condition < LARGEST_CONDITION:
        raise ObsfitError(
            f"{name}: the {int(np.count_nonzero(total))} times with events cannot tell "
            f"{(columns.shape[1] - 1) // 2} harmonics apart (condition {condition:.1e})",
            expected=f"a condition below {LARGEST_CONDITION:.0e}",
            remedy="Fit fewer harmonics, or cover more of the day.",
        )
    coefficients: FloatArray = np.linalg.solve(normal, columns.T @ (east - west)).astype(np.float64)
    fitted = columns @ coefficients
    scores = columns.T @ (
        columns * (east_squared * (1.0 - fitted) ** 2 + west_squared * (1.0 + fitted) ** 2)[:, np.newaxis]
    )
    inverse = np.linalg.inv(normal)
    covariance: FloatArray = inverse @ scores @ inverse
    return coefficients, covariance


def _components(
    coefficients: FloatArray, covariance: FloatArray, step: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """From harmonics of the asymmetry to those of the sky: turned by 90 degrees and divided by the step."""
    turn = np.zeros((2 * step.size, coefficients.size))
    scale = 1.0 / ((1.0 - float(coefficients[0]) ** 2) * step)
    for i, value in enumerate(scale):
        turn[2 * i, 2 * i + 2] = -value
        turn[2 * i + 1, 2 * i + 1] = value
    components: FloatArray = (turn @ coefficients).reshape(-1, 2).astype(np.float64)
    spread: FloatArray = turn @ covariance @ turn.T
    return components, spread


def _mean_of_halves(values: FloatArray, east: FloatArray, west: FloatArray) -> float:
    """Mean over the events of each half, averaged: an asymmetry then changes only epsilon."""
    return float(0.5 * (values @ east / east.sum() + values @ west / west.sum()))


def _step(sign: FloatArray, lever: FloatArray, weight: FloatArray) -> float:
    east, west = np.where(sign > 0.0, weight, 0.0), np.where(sign < 0.0, weight, 0.0)
    if not (east.any() and west.any()):
        raise ConfigurationError("all events are in one half-sky", expected="events in the East and in the West")
    return _mean_of_halves(lever, east, west)


def _check_steps(step: FloatArray, name: str) -> None:
    for n, value in enumerate(step, start=1):
        if abs(value) < SMALLEST_STEP:
            raise ConfigurationError(
                f"{name}: East and West see harmonic {n} alike (step {value:.1e})",
                expected=f"a step above {SMALLEST_STEP}",
                remedy=f"Ask for harmonics={n - 1}." if n > 1 else "Take another method.",
            )


def _checked_events(
    angle: ArrayLike, azimuth_rad: ArrayLike, zenith_rad: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Angle or time, side (+1 East, -1 West, 0 on the meridian), sin(zenith) |sin(azimuth)|, weight."""
    tau, azimuth, zenith = (np.asarray(x, dtype=np.float64) for x in (angle, azimuth_rad, zenith_rad))
    weight = np.ones_like(tau) if weights is None else np.asarray(weights, dtype=np.float64)
    if tau.ndim != 1 or not tau.shape == azimuth.shape == zenith.shape == weight.shape or tau.size == 0:
        raise ValueError(
            f"shapes {tau.shape}, {azimuth.shape}, {zenith.shape}, {weight.shape} of angle, azimuth, zenith and "
            "weights: expected one shape (n,)"
        )
    for name, values in (("angle", tau), ("azimuth_rad", azimuth), ("zenith_rad", zenith), ("weights", weight)):
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{name}: value {values[~np.isfinite(values)][0]}, expected finite numbers")
    if np.any((zenith < 0.0) | (zenith > np.pi)):
        raise ValueError(f"zenith_rad between {zenith.min()} and {zenith.max()}: expected radians from 0 to pi")
    if np.any(weight < 0.0):
        raise ValueError(f"weights: value {weight.min()}, expected none negative")
    eastward = np.sin(azimuth)
    return tau, np.sign(eastward), np.sin(zenith) * np.abs(eastward), weight
