"""What all one-dimensional methods do with their input: lists of detectors, frames, declinations, harmonics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import astropy.units as u
import numpy as np
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.errors import ConfigurationError
from obsfit.operators.projections import right_ascension_row
from obsfit.records.event_map import EventMap, HourAngleGrid, RingCounts

FloatArray = NDArray[np.float64]
Record = TypeVar("Record", EventMap, RingCounts, EventMap | RingCounts)


def detectors(events: Record | Sequence[Record], method: str) -> list[Record]:
    """Return the detectors as a list, all of one frame and none of them empty."""
    found = list(events) if isinstance(events, Sequence) else [events]
    if not found:
        raise ConfigurationError(f"{method}: no detector", expected="at least one event map")
    frames = sorted({record.frame for record in found})
    if len(frames) > 1:
        raise ConfigurationError(
            f"{method}: detectors in the frames {', '.join(frames)}",
            expected="one frame",
            remedy="Reconstruct each frame by itself and compare them with obsfit.reconstruct.nulls.",
        )
    for record in found:
        if record.total <= 0.0:
            raise ConfigurationError(
                f"{method}: {record.detector} has no events", expected="a positive sum of counts"
            )
    return found


def event_maps(events: object, method: str, reason: str) -> list[EventMap]:
    """Return the detectors as event maps, or refuse sums over them."""
    given = list(events) if isinstance(events, Sequence) else [events]
    maps = [record for record in given if isinstance(record, EventMap)]
    if len(maps) != len(given):
        raise ConfigurationError(
            f"{method}: {reason}", expected="EventMap, not sums over it", remedy="Give the EventMap itself."
        )
    return detectors(maps, method)


def check_harmonics(harmonics: int, fitted: int | None = None) -> None:
    """Refuse harmonics out of range."""
    if harmonics < 1 or (fitted is not None and fitted < harmonics):
        raise ConfigurationError(
            f"harmonics {harmonics}, fitted {fitted}", expected="harmonics >= 1 and fitted_harmonics >= harmonics"
        )


def time_centres(n_time: int) -> FloatArray:
    """Middles of the time bins as angles, shape (n_time,)."""
    return 2.0 * np.pi * (np.arange(n_time) + 0.5) / n_time


def design(angle: FloatArray, harmonics: int, *, constant: bool) -> FloatArray:
    """Columns (1,) cos, sin, cos 2, sin 2, ... of angles, shape (n, 2 harmonics (+ 1))."""
    columns = [np.ones_like(angle)] if constant else []
    for n in range(1, harmonics + 1):
        columns += [np.cos(n * angle), np.sin(n * angle)]
    return np.stack(columns, axis=-1)


def on_equator(harmonic: int) -> float:
    """lambda_nn at declination zero."""
    return float(sph_harm_y(harmonic, harmonic, 0.5 * np.pi, 0.0).real)


def ring_mean_cosines(grid: HourAngleGrid, harmonic: int) -> FloatArray:
    """Mean of cos^n(declination) over the solid angle of each ring, shape (n_dec,)."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    half = 0.5 * np.pi / grid.n_dec
    dec = grid.dec_rad[:, np.newaxis] + half * nodes
    measure = weights * np.cos(dec)
    return np.asarray((measure * np.cos(dec) ** harmonic).sum(axis=1) / measure.sum(axis=1))


def projection_row(edges_rad: FloatArray, weight: FloatArray, lmax: int, harmonic: int) -> FloatArray:
    """Row of `right_ascension_row` for bands of declination with given weights, shape (lmax + 1,)."""
    rows = np.zeros(lmax + 1)
    for low, high, share in zip(edges_rad[:-1], edges_rad[1:], weight, strict=True):
        if share > 0.0:
            rows += share * right_ascension_row(low * u.rad, high * u.rad, lmax, harmonic=harmonic, order=8)
    return rows / weight.sum()


def combine_rows(rows: Sequence[Mapping[int, FloatArray]], weights: FloatArray) -> dict[int, FloatArray]:
    """Return the mean of rows of several detectors, weights of shape (n_detector, n_harmonic)."""
    return {
        n: np.average([row[n] for row in rows], axis=0, weights=weights[:, i])
        for i, n in enumerate(sorted(rows[0]))
    }


def combine(
    components: Sequence[FloatArray], covariances: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the weighted mean of independent harmonics, its covariance and the weights (n_detector, n_harmonic).

    Each harmonic of each detector counts with the inverse of its mean variance, so that a response row of the mean is
    the same mean of rows.
    """
    variances = np.array([np.diag(c).reshape(-1, 2).mean(axis=1) for c in covariances])
    weights = (1.0 / variances) / (1.0 / variances).sum(axis=0)
    mean = np.einsum("dn,dnc->nc", weights, np.array(components))
    spread = np.repeat(weights, 2, axis=1)
    covariance = np.einsum("di,dij,dj->ij", spread, np.array(covariances), spread)
    return mean, covariance, weights
