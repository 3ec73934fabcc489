r"""The Forward-Backward method: harmonics of each declination band from the sky ahead of and behind the meridian.

Two mirror-image pixels at declination delta and hour angles -xi and +xi look at right ascensions tau + xi and
tau - xi. If a band has the profile :math:`1 + \sum_n (a_n \cos n\alpha + b_n \sin n\alpha)`, then to first order

.. math:: \frac{N_F - N_B}{N_F + N_B}(\tau, \xi) = \epsilon_\xi + (1 - \epsilon_\xi^2) \sum_n \sin(n\xi)
          (b_n \cos n\tau - a_n \sin n\tau),

with an asymmetry of the acceptance :math:`\epsilon_\xi` that does not depend on time. Exposure cancels bin by bin, the
acceptance of each pixel is eliminated, and all offsets of a band are fitted together. This is the method of Milagro
(Abdo et al. 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct._harmonic_inputs import (
    check_harmonics,
    combine,
    combine_rows,
    design,
    event_maps,
    on_equator,
    time_centres,
)
from obsfit.reconstruct._mirror_pairs import MirrorPairs, cosine_power, legendre, mirror_pairs
from obsfit.reconstruct._specification import specification
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction

__all__ = ["ForwardBackward", "ForwardBackwardBands"]

FloatArray = NDArray[np.float64]

METHOD = "forward-backward"
REASON = "sums over time and pixels do not keep pairs of pixels apart in time"
# A band is left out if a harmonic has less than the inverse of this share of its information.
LARGEST_CONDITION = 1e8


@dataclass(frozen=True)
class ForwardBackwardBands:
    """Harmonics of each declination band.

    Attributes
    ----------
    dec_rad : ndarray, shape (n_band,)
        Mean declination of the events of each band that was seen.
    counts : ndarray, shape (n_band,)
        Their number, or sum of weights.
    solid_angle : ndarray, shape (n_band,)
        Of the whole band, for a full turn.
    components : ndarray, shape (n_band, n_harmonic, 2)
        Coefficients of cos(n alpha) and sin(n alpha) of the relative intensity of the band.
    covariance : ndarray, shape (n_band, 2 n_harmonic, 2 n_harmonic)
        Statistical covariance, bands independent.
    """

    dec_rad: FloatArray
    counts: FloatArray
    solid_angle: FloatArray
    components: FloatArray
    covariance: FloatArray


@dataclass(frozen=True)
class ForwardBackward:
    """Harmonics in right ascension from the Forward-Backward asymmetry of each declination band.

    Attributes
    ----------
    harmonics : int
        Number of harmonics in the result.
    fitted_harmonics : int
        Number of harmonics fitted, at least as many.
    n_bands : int
        Number of bands of equal width from pole to pole.
    weight : str
        How bands are averaged: "counts", or "solid-angle" as in a projection of pixels.
    corrected : bool
        Whether the average is divided by that of cos^n(declination), so that a pure dipole is seen as it is; without,
        it is a right-ascension projection.
    """

    harmonics: int = 1
    fitted_harmonics: int = 3
    n_bands: int = 36
    weight: str = "counts"
    corrected: bool = True

    def __post_init__(self) -> None:
        check_harmonics(self.harmonics, self.fitted_harmonics)
        if self.weight not in ("counts", "solid-angle"):
            raise ConfigurationError(f"weight {self.weight!r}", expected="counts or solid-angle")
        if self.n_bands < 1:
            raise ConfigurationError(f"n_bands {self.n_bands}", expected="at least one band")

    def bands(self, event_map: EventMap) -> ForwardBackwardBands:
        """Return the harmonics of each declination band of one detector.

        Raises
        ------
        ObsfitError
            If the times with events cannot tell the fitted harmonics of a band apart.
        """
        return _fit_bands(event_map, self)[0]

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> DipoleReconstruction:
        """Return the average of all bands, and of several detectors with their inverse variances.

        Parameters
        ----------
        events : EventMap or sequence of EventMap
            One for each detector, all of one frame.
        rng : Generator, optional
            Not used.

        Raises
        ------
        ConfigurationError
            If sums over events are given or detectors do not go together.
        ObsfitError
            If the times with events cannot tell the fitted harmonics of a band apart.
        """
        maps = event_maps(events, METHOD, REASON)
        components, covariances, _ = zip(*(self._one(event_map, None) for event_map in maps), strict=True)
        mean, covariance, _ = combine(components, covariances)
        dipole = "A dipole is seen as it is" if self.corrected else "A dipole is reduced by <cos(declination)>"
        spec = specification(
            METHOD,
            {
                "harmonics": self.harmonics,
                "fitted_harmonics": self.fitted_harmonics,
                "n_bands": self.n_bands,
                "weight": self.weight,
                "corrected": self.corrected,
            },
            maps,
            f"Loses m = 0. {dipole}; multipoles l > n leak as into a right-ascension projection.",
        )
        return DipoleReconstruction(mean, covariance, spec, tuple(m.provenance for m in maps))

    def response(
        self, events: EventMap | RingCounts | Sequence[EventMap | RingCounts], lmax: int = 10
    ) -> dict[int, FloatArray]:
        """Return what each harmonic n measures of a_ln, as n -> row of shape (lmax + 1,), l counted from 0.

        For narrow bands it is `obsfit.operators.projections.forward_backward_row` of the weight by which bands are
        averaged, divided by its entry l = n if `corrected`.
        """
        maps = event_maps(events, METHOD, REASON)
        components, covariances, rows = zip(*(self._one(event_map, lmax) for event_map in maps), strict=True)
        return combine_rows(rows, combine(components, covariances)[2])

    def _one(self, event_map: EventMap, lmax: int | None) -> tuple[FloatArray, FloatArray, dict[int, FloatArray]]:
        """Components, covariance and (if asked for) response rows of one detector."""
        bands, template = _fit_bands(event_map, self)
        share = bands.counts if self.weight == "counts" else bands.solid_angle
        share = share / share.sum()
        scale, rows = np.ones(self.harmonics), {}
        for n in range(1, self.harmonics + 1):
            cosine = float(share @ template.seen(cosine_power(n), n))
            scale[n - 1] = 1.0 / cosine if self.corrected else 1.0
            if lmax is not None:
                row = np.zeros(lmax + 1)
                for ell in range(n, lmax + 1):
                    row[ell] = share @ template.seen(legendre(ell, n), n)
                rows[n] = row * scale[n - 1] / on_equator(n)
        components = np.einsum("b,bnc->nc", share, bands.components) * scale[:, np.newaxis]
        both = np.repeat(scale, 2)
        covariance = np.einsum("b,bij->ij", share**2, bands.covariance) * np.outer(both, both)
        return components, covariance, rows


@dataclass(frozen=True)
class _Template:
    """What the fit of a band makes of a profile that varies within the band."""

    pairs: MirrorPairs
    band: NDArray[np.int64]
    information: FloatArray
    gain: FloatArray

    def seen(self, profile: object, harmonic: int) -> FloatArray:
        """Fitted harmonic of each band for a sky profile(dec) cos(n alpha), shape (n_band,)."""
        sine = self.pairs.mean_sine(profile, harmonic)  # type: ignore[arg-type]
        gain = self.gain[harmonic - 1]
        n_band = int(self.band.max()) + 1
        top = np.bincount(self.band, self.information * gain * sine, n_band)
        return np.asarray(top / np.bincount(self.band, self.information * gain**2, n_band))


def _fit_bands(event_map: EventMap, settings: ForwardBackward) -> tuple[ForwardBackwardBands, _Template]:
    pairs = mirror_pairs(event_map)
    ahead, behind = event_map.counts[:, pairs.east], event_map.counts[:, pairs.west]
    total, difference = ahead + behind, ahead - behind
    squared = event_map.squared_weights
    noise = total if squared is None else squared[:, pairs.east] + squared[:, pairs.west]
    per_pair, per_pair_noise = total.sum(axis=0), noise.sum(axis=0)
    number = np.minimum(((pairs.dec_rad / np.pi + 0.5) * settings.n_bands).astype(np.int64), settings.n_bands - 1)
    seen_bands, band = np.unique(number, return_inverse=True)

    n_fit = settings.fitted_harmonics
    window = np.sinc(np.arange(1, n_fit + 1) / event_map.n_time)
    one = cosine_power(0)
    sine = np.array([pairs.mean_sine(one, n) for n in range(1, n_fit + 1)])
    gain = np.repeat(sine * window[:, np.newaxis], 2, axis=0)
    # Squared asymmetry of each pair, without what noise adds to it.
    offset = (difference.sum(axis=0) ** 2 - per_pair_noise) / np.maximum(per_pair**2 - per_pair_noise, per_pair)
    contrast = 1.0 - np.clip(offset, 0.0, 1.0)

    columns = design(time_centres(event_map.n_time), n_fit, constant=False)
    first, moved = columns.T @ total, columns.T @ difference
    first_noise = columns.T @ noise
    products = (columns[:, :, np.newaxis] * columns[:, np.newaxis, :]).reshape(event_map.n_time, -1).T
    size = 2 * n_fit
    second = (products @ total).reshape(size, size, -1)
    second_noise = second if noise is total else (products @ noise).reshape(size, size, -1)
    mean = first / per_pair
    score = gain * (moved - mean * difference.sum(axis=0))
    # About the mean of each pair: the constant of the pair is eliminated.
    normal = second - np.einsum("ip,jp->ijp", first, mean)
    spread = (
        second_noise
        - np.einsum("ip,jp->ijp", first_noise, mean)
        - np.einsum("ip,jp->ijp", mean, first_noise)
        + np.einsum("ip,jp,p->ijp", mean, mean, per_pair_noise)
    )
    scaled = np.einsum("ip,jp,p->pij", gain, gain, contrast)
    membership = np.zeros((seen_bands.size, band.size))
    membership[band, np.arange(band.size)] = 1.0
    normals = (membership @ (np.moveaxis(normal, 2, 0) * scaled).reshape(-1, size**2)).reshape(-1, size, size)
    spreads = (membership @ (np.moveaxis(spread, 2, 0) * scaled).reshape(-1, size**2)).reshape(-1, size, size)
    scores = membership @ score.T

    # Against the sums before the constants went: a single time leaves nothing but rounding.
    before = membership @ np.einsum("iip,iip->p", second, np.moveaxis(scaled, 0, 2))
    good = np.linalg.eigvalsh(normals)[:, 0] > before / LARGEST_CONDITION
    if not good.any():
        raise ObsfitError(
            f"{event_map.detector}: no declination band in which {n_fit} harmonics can be told apart",
            expected="times with events that cover the day",
            remedy="Fit fewer harmonics.",
        )
    keep = np.flatnonzero(good)
    kept_pairs = good[band]
    inverse = np.linalg.inv(normals[keep])
    coefficients = np.einsum("bij,bj->bi", inverse, scores[keep])
    covariance = inverse @ spreads[keep] @ inverse
    n_out = settings.harmonics
    turn = np.zeros((2 * n_out, size))
    for n in range(n_out):
        turn[2 * n, 2 * n + 1], turn[2 * n + 1, 2 * n] = -1.0, 1.0
    counts = membership @ per_pair
    edges = np.linspace(-0.5 * np.pi, 0.5 * np.pi, settings.n_bands + 1)
    bands = ForwardBackwardBands(
        dec_rad=((membership @ (per_pair * pairs.dec_rad)) / counts)[keep],
        counts=counts[keep],
        solid_angle=(2.0 * np.pi * np.diff(np.sin(edges)))[seen_bands[keep]],
        components=(coefficients @ turn.T).reshape(-1, n_out, 2),
        covariance=turn @ covariance @ turn.T,
    )
    chosen = MirrorPairs(pairs.east[kept_pairs], pairs.west[kept_pairs], pairs.dec_rad[kept_pairs], pairs.grid)
    new_number = np.cumsum(good) - 1
    template = _Template(
        chosen, new_number[band[kept_pairs]], (per_pair * contrast)[kept_pairs], sine[:, kept_pairs]
    )
    return bands, template
