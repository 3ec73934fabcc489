"""Mock observations: expected or random counts in time bins and local pixels, from sky and detector.

The sky and the zenith cut are taken at the middles of fine cells, several along each axis of a cell of the map. Fine
cells of time and of hour angle are of one width, so that the right ascension, their difference, falls on as many
points, and the sky is evaluated once for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError
from obsfit.mock._kernels import fold_ring
from obsfit.mock.clocks import (
    TURN,
    TURNS_OF_THE_YEAR,
    clocks_at,
    clocks_of_year,
    frame_turns,
    mjd_of_turns,
)
from obsfit.mock.detector import MockDetector, equatorial_direction, local_direction
from obsfit.mock.skies import MockSky, SkyPart
from obsfit.records.event_map import FRAMES, EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

_SAMPLES = 2**20
_PIXELS = 128


def observe(
    sky: MockSky,
    detector: MockDetector,
    *,
    n_events: float,
    grid: HourAngleGrid | HealpixLocalGrid | None = None,
    rng: np.random.Generator | None = None,
    asimov: bool = False,
    frame: str = "sidereal",
    start_mjd: float | None = None,
    stop_mjd: float | None = None,
    n_time: int = 360,
    sub_cells: int = 4,
    energy: str = "",
) -> EventMap:
    """Return the event map of a mock observation.

    Parameters
    ----------
    sky, detector, n_events, grid, frame, start_mjd, stop_mjd, n_time, sub_cells
        As `expected_counts`.
    rng : numpy.random.Generator, optional
        Source of the Poisson counts; needed unless `asimov`.
    asimov : bool
        Return the expected counts themselves.
    energy : str
        Label of the energy bin.

    Raises
    ------
    ConfigurationError
        If there is neither a generator nor `asimov`; and as `expected_counts`.

    Examples
    --------
    >>> import astropy.units as u
    >>> from obsfit import Observatory
    >>> from obsfit.mock import dipole_sky
    >>> hawc = MockDetector(Observatory("HAWC", 19 * u.deg, -97.3 * u.deg, 57 * u.deg))
    >>> events = observe(dipole_sky([1e-3, 0.0, 0.0]), hawc, n_events=1e8, grid=HourAngleGrid(16, 24), asimov=True)
    >>> first = np.fft.fft(events.counts.sum(axis=1))[1]
    >>> print(f"{events.total:.0f} events, a wave of {2 * abs(first) / events.total:.2e}")
    100000000 events, a wave of 7.49e-04
    """
    _check_generator(rng, asimov)
    expected = expected_counts(
        sky, detector, n_events=n_events, grid=grid, frame=frame, start_mjd=start_mjd, stop_mjd=stop_mjd,
        n_time=n_time, sub_cells=sub_cells,
    )  # fmt: skip
    return _event_map(expected, detector, grid or HourAngleGrid(), None if asimov else rng, frame, energy)


def observe_energies(
    skies: Sequence[MockSky],
    detectors: MockDetector | Sequence[MockDetector],
    migration: ArrayLike,
    *,
    n_events: ArrayLike,
    grid: HourAngleGrid | HealpixLocalGrid | None = None,
    rng: np.random.Generator | None = None,
    asimov: bool = False,
    frame: str = "sidereal",
    start_mjd: float | None = None,
    stop_mjd: float | None = None,
    n_time: int = 360,
    sub_cells: int = 4,
    energies: Sequence[str] = (),
) -> tuple[EventMap, ...]:
    r"""Return the event maps of several bins of reconstructed energy, fed by skies at several true energies.

    The expected counts of bin i are :math:`\sum_j M_{ij}\mu_j` with the counts :math:`\mu_j` of true energy j. Counts
    of different bins are independent.

    Parameters
    ----------
    skies : sequence of MockSky, length n_true
        Sky at each true energy.
    detectors : MockDetector, or sequence of them, length n_true
        The detector as it sees each true energy.
    migration : array_like, shape (n_reco, n_true)
        M: share of the events of each true energy that end in each bin; no column sums to more than one.
    n_events : array_like, shape (n_true,)
        Expected number of events of each true energy.
    energies : sequence of str, length n_reco
        Labels of the bins; may be empty.
    grid, rng, asimov, frame, start_mjd, stop_mjd, n_time, sub_cells
        As `observe`.

    Raises
    ------
    ValueError
        If the lengths do not fit, or the migration is no table of shares.
    ConfigurationError
        As `observe`.
    """
    _check_generator(rng, asimov)
    numbers = np.atleast_1d(np.asarray(n_events, dtype=np.float64))
    several = [detectors] * len(skies) if isinstance(detectors, MockDetector) else list(detectors)
    matrix = np.atleast_2d(np.asarray(migration, dtype=np.float64))
    if not len(skies) == len(several) == numbers.size == matrix.shape[1]:
        raise ValueError(
            f"{len(skies)} skies, {len(several)} detectors, {numbers.size} numbers of events and a migration of shape "
            f"{matrix.shape}: expected one of each for every true energy, and (n_reco, n_true)"
        )
    if not (np.all(matrix >= 0.0) and np.all(matrix.sum(axis=0) <= 1.0 + 1e-9)):
        raise ValueError(f"migration {matrix.tolist()}: expected shares, of which no column sums to more than one")
    if energies and len(energies) != len(matrix):
        raise ValueError(f"{len(energies)} energies: expected one label for each of {len(matrix)} bins")
    mixed: list[FloatArray] = []
    for j, (sky, detector) in enumerate(zip(skies, several, strict=True)):
        counts = expected_counts(
            sky, detector, n_events=float(numbers[j]), grid=grid, frame=frame, start_mjd=start_mjd,
            stop_mjd=stop_mjd, n_time=n_time, sub_cells=sub_cells,
        )  # fmt: skip
        mixed = mixed or [np.zeros_like(counts) for _ in matrix]
        for i, total in enumerate(mixed):
            total += matrix[i, j] * counts
    labels = list(energies) or [""] * len(matrix)
    return tuple(
        _event_map(total, several[0], grid or HourAngleGrid(), None if asimov else rng, frame, label)
        for total, label in zip(mixed, labels, strict=True)
    )


def expected_counts(
    sky: MockSky,
    detector: MockDetector,
    *,
    n_events: float,
    grid: HourAngleGrid | HealpixLocalGrid | None = None,
    frame: str = "sidereal",
    start_mjd: float | None = None,
    stop_mjd: float | None = None,
    n_time: int = 360,
    sub_cells: int = 4,
) -> FloatArray:
    r"""Return the expected counts of an observation, shape (n_time, n_pixel), of sum `n_events`.

    .. math:: \mu_{ti} \propto \int_t dt \int_i d\Omega\, E(t)\, A(\theta, \phi, t)\, I(R^T(t)\, n')

    which is Eq. (8) of AM17, accumulated over all turns of the clock of `frame`.

    Parameters
    ----------
    sky : MockSky
        The sky. Parts at rest in another frame than that of the map turn as the year goes on.
    detector : MockDetector
        The detector.
    n_events : float
        Expected number of events, above 0.
    grid : HourAngleGrid or HealpixLocalGrid, optional
        Local pixels; default ``HourAngleGrid()``. A `HealpixLocalGrid` must have the latitude of the detector.
    frame : str
        Clock of the time bins: "sidereal", "solar", "anti-sidereal" or "extended-sidereal".
    start_mjd, stop_mjd : float, optional
        First and last moment of the observation. Default: an idealised year, in which every hour of the day is as
        often observed at every season, before modulations and gaps. The edges of gaps fall between fine cells.
    n_time : int
        Number of time bins on a `HealpixLocalGrid`; an `HourAngleGrid` has its own.
    sub_cells : int
        Fine cells along each axis of a cell, in time, hour angle and declination; a power of two on a
        `HealpixLocalGrid`, where a pixel is divided into its square.

    Raises
    ------
    ConfigurationError
        If only one of the two days is given, the exposure is never live, needs dates or is negative, or nothing
        passes the zenith cut.
    ValueError
        If a number is out of range, or the rate is negative somewhere.
    """
    cells = HourAngleGrid() if grid is None else grid
    n_time = cells.n_time if isinstance(cells, HourAngleGrid) else n_time
    if not 0.0 < n_events < np.inf:
        raise ValueError(f"n_events {n_events}: expected a number above 0")
    if sub_cells < 1 or n_time < 1:
        raise ValueError(f"sub_cells {sub_cells}, n_time {n_time}: expected at least 1")
    if frame not in FRAMES:
        raise ValueError(f"frame {frame!r}: expected one of {', '.join(FRAMES)}")
    n_fine = n_time * sub_cells
    weights = _time_weights(detector, frame, n_fine, start_mjd, stop_mjd)
    folding = _Folding(sky, frame, weights, sub_cells)
    if isinstance(cells, HourAngleGrid):
        counts = _on_rings(folding, detector, cells, sub_cells)
    else:
        counts = _on_healpix(folding, detector, cells, n_time, sub_cells)
    total = counts.sum()
    if not total > 0.0:
        raise ConfigurationError(
            f"{detector.observatory.name}: nothing is observed", expected="a detector that sees some of the sky"
        )
    if not counts.min() >= 0.0:
        raise ValueError(
            f"{detector.observatory.name}: the rate is negative somewhere; expected modulations of the acceptance and "
            "anisotropies of the sky that leave it positive"
        )
    counts *= n_events / total
    return counts


def fluctuate(expected: EventMap, *, rng: np.random.Generator) -> EventMap:
    """Return an event map with Poisson counts of the means of another.

    For many mocks of one sky: compute the expected map once.

    Parameters
    ----------
    expected : EventMap
        Expected counts of unweighted events.
    rng : numpy.random.Generator
        Source of the counts.

    Raises
    ------
    ValueError
        If the map has weights, whose sums are not Poisson numbers.
    """
    if expected.squared_weights is not None:
        raise ValueError(f"{expected.detector}: a map of weighted events; expected one of plain counts")
    counts = np.zeros_like(expected.counts)
    seen = expected.counts > 0.0
    counts[seen] = rng.poisson(expected.counts[seen])
    return replace(expected, counts=counts)


class _Folding:
    """Turns what local pixels accept of the sky into counts: multiplies by the live time and sums over fine times.

    Parameters
    ----------
    sky : MockSky
        The sky.
    frame : str
        Frame of the map.
    weights : ndarray, shape (n_term, n_fine, n_fine)
        Live time of each term of the acceptance, by fine time and orbital angle.
    sub_cells : int
        Fine times of a time bin.
    """

    def __init__(self, sky: MockSky, frame: str, weights: FloatArray, sub_cells: int) -> None:
        self.n_fine, self.sub_cells = weights.shape[1], sub_cells
        self.resting = [part for part in sky.parts if part.frame == frame]
        self.turning = [part for part in sky.parts if part.frame != frame]
        self.live = weights.sum(axis=2)
        self.waves = [self._waves(part, frame, weights) for part in self.turning]

    def skies(self, dec_rad: FloatArray, start_rad: FloatArray) -> list[FloatArray]:
        """Rows (n_row, n_fine) of the resting sky, and of delta I of each turning part as it is in September."""
        resting = np.ones((dec_rad.size, self.n_fine))
        for part in self.resting:
            resting += part.rows(dec_rad, start_rad, self.n_fine)
        return [resting, *(part.rows(dec_rad, start_rad, self.n_fine) for part in self.turning)]

    def counts(self, accepted: Sequence[FloatArray]) -> FloatArray:
        """Counts (n_pixel, n_time) of what pixels accept of each of `skies`, each (n_term, n_pixel, n_fine)."""
        fine = np.einsum("kpt,kt->pt", accepted[0], self.live)
        for waves, rows in zip(self.waves, accepted[1:], strict=True):
            spectrum = np.fft.rfft(rows, axis=2)[:, :, : waves.shape[2]]
            for k in range(len(waves)):
                fine += (spectrum[k] @ waves[k].T).real
        return fine.reshape(len(fine), -1, self.sub_cells).sum(axis=2)

    def _waves(self, part: SkyPart, frame: str, weights: FloatArray) -> ComplexArray:
        r"""Factors g, shape (n_term, n_fine, n_m), with counts(t) = Re sum_m g(t, m) p(m) for a row of transform p.

        At the orbital angle a the row is seen at the longitude of the map plus c a: a sum of rolls by whole fine
        cells, weighted by the live time at t, which the transform makes a product.
        """
        n = self.n_fine
        turns = TURNS_OF_THE_YEAR[part.frame] - TURNS_OF_THE_YEAR[frame]
        highest = n // 2 if part.harmonics is None else min(part.harmonics, n // 2)
        m = np.arange(highest + 1)
        rolled = np.fft.fft(weights, axis=2)[:, :, (-turns * m) % n]
        # A real row has each harmonic twice, but for the mean and the one of alternating sign.
        share = np.where((m == 0) | (2 * m == n), 1.0, 2.0) / n
        return rolled * share * np.exp(1j * TURN * np.outer(np.arange(n), m) / n)


def _time_weights(
    detector: MockDetector, frame: str, n_fine: int, start_mjd: float | None, stop_mjd: float | None
) -> FloatArray:
    """Live time of each term of the acceptance, shape (n_term, n_fine, n_fine), by fine time and orbital angle."""
    if (start_mjd is None) != (stop_mjd is None):
        raise ConfigurationError(
            f"start_mjd is {start_mjd} and stop_mjd {stop_mjd}", expected="both of them or neither"
        )
    if start_mjd is None or stop_mjd is None:
        weights = _year(detector, frame, n_fine)
    else:
        weights = _campaign(detector, frame, n_fine, start_mjd, stop_mjd)
    if not weights[0].any():
        raise ConfigurationError(
            f"{detector.observatory.name}: never live", expected="an exposure above 0 at some time"
        )
    return weights


def _year(detector: MockDetector, frame: str, n_fine: int) -> FloatArray:
    angle = TURN * (np.arange(n_fine) + 0.5) / n_fine
    orbital = TURN * np.arange(n_fine) / n_fine
    block = max(1, _SAMPLES // n_fine)
    blocks = [
        detector.strengths(clocks_of_year(frame, angle[first : first + block, None], orbital))
        for first in range(0, n_fine, block)
    ]
    return np.concatenate(blocks, axis=1)


def _campaign(detector: MockDetector, frame: str, n_fine: int, start_mjd: float, stop_mjd: float) -> FloatArray:
    if not -np.inf < start_mjd < stop_mjd < np.inf:
        raise ValueError(f"days {start_mjd} to {stop_mjd}: expected a start before the stop")
    longitude = detector.longitude_rad
    # Sampled at the middles of the fine cells of the clock, so that no cell has more samples than its turns.
    first, last = (
        int(np.ceil(n_fine * frame_turns(frame, mjd, longitude) - 0.5)) for mjd in (start_mjd, stop_mjd)
    )
    total = np.zeros((1 + len(detector.acceptance.breathing), n_fine * n_fine))
    for begin in range(first, last, _SAMPLES):
        sample = np.arange(begin, min(begin + _SAMPLES, last))
        mjd = mjd_of_turns(frame, (sample + 0.5) / n_fine, 0.5 * (start_mjd + stop_mjd), longitude)
        clocks = clocks_at(mjd, longitude)
        season = np.rint(clocks.orbital_rad * (n_fine / TURN)).astype(np.int64) % n_fine
        index = (sample % n_fine) * n_fine + season
        for term, strength in zip(total, detector.strengths(clocks), strict=True):
            term += np.bincount(index, strength, minlength=term.size)
    return total.reshape(-1, n_fine, n_fine)


def _on_rings(folding: _Folding, detector: MockDetector, grid: HourAngleGrid, sub_cells: int) -> FloatArray:
    n_time, n_fine = grid.n_time, folding.n_fine
    edges = np.linspace(-0.5 * np.pi, 0.5 * np.pi, grid.n_dec * sub_cells + 1)
    hour_angle = TURN * (np.arange(n_fine) + 0.5) / n_fine
    counts = np.zeros((n_time, grid.n_dec, n_time))
    for band in range(grid.n_dec):
        limits = edges[band * sub_cells : (band + 1) * sub_cells + 1]
        dec = 0.5 * (limits[1:] + limits[:-1])
        azimuth, zenith = local_direction(hour_angle, dec[:, None], detector.latitude_rad)
        cells = detector.shapes(azimuth, zenith) * np.diff(np.sin(limits))[:, None]
        if not cells[0].any():
            continue
        rows = folding.skies(dec, np.zeros(sub_cells))
        accepted = [np.stack([fold_ring(sky, cell, sub_cells) for cell in cells]) for sky in rows]
        counts[:, band, :] = folding.counts(accepted).T
    return counts.reshape(n_time, grid.n_pixel)


def _on_healpix(
    folding: _Folding, detector: MockDetector, grid: HealpixLocalGrid, n_time: int, sub_cells: int
) -> FloatArray:
    if abs(grid.latitude_rad - detector.latitude_rad) > 1e-9:
        raise ValueError(
            f"{detector.observatory.name}: grid at latitude {np.degrees(grid.latitude_rad)} deg, expected that of the "
            f"detector, {np.degrees(detector.latitude_rad)} deg"
        )
    if sub_cells & (sub_cells - 1):
        raise ValueError(f"sub_cells {sub_cells}: expected a power of two on HEALPix")
    # Numbers in nested order: the parts of a pixel follow each other.
    parts = hp.ring2nest(grid.nside, np.arange(grid.n_pixel))[:, None] * sub_cells**2 + np.arange(sub_cells**2)
    first_rad = 0.5 * TURN / folding.n_fine
    counts = np.zeros((n_time, grid.n_pixel))
    zenith, west_of_north = hp.pix2ang(grid.nside * sub_cells, parts, nest=True)
    shapes = detector.shapes(-west_of_north, zenith)
    hour_angle, dec = equatorial_direction(-west_of_north, zenith, detector.latitude_rad)
    seen = np.flatnonzero(shapes[0].any(axis=1))
    for begin in range(0, seen.size, _PIXELS):
        pixels = seen[begin : begin + _PIXELS]
        rows = folding.skies(dec[pixels].ravel(), first_rad - hour_angle[pixels].ravel())
        accepted = [
            np.einsum("kps,pst->kpt", shapes[:, pixels], sky.reshape(pixels.size, sub_cells**2, -1))
            for sky in rows
        ]
        counts[:, pixels] = folding.counts(accepted).T
    return counts


def _check_generator(rng: np.random.Generator | None, asimov: bool) -> None:
    if rng is None and not asimov:
        raise ConfigurationError(
            "Poisson counts need a generator",
            expected="rng or asimov=True",
            remedy="Give rng=np.random.default_rng(seed), or ask for the expected counts: asimov=True.",
        )


def _event_map(
    expected: FloatArray,
    detector: MockDetector,
    grid: HourAngleGrid | HealpixLocalGrid,
    rng: np.random.Generator | None,
    frame: str,
    energy: str,
) -> EventMap:
    name = detector.observatory.name
    events = EventMap(expected, grid, name, Provenance(f"mock of {name}"), frame=frame, energy=energy)
    return events if rng is None else fluctuate(events, rng=rng)
