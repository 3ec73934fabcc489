"""Mock dipole measurements: each row projects a noisy map of its own field of view on right ascension."""

from __future__ import annotations

from dataclasses import replace

import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.records import DipoleMeasurements, Provenance

FloatArray = NDArray[np.float64]


def mock_dipoles(
    dipole: FloatArray,
    like: DipoleMeasurements,
    *,
    scale: FloatArray,
    across: FloatArray,
    extra_error: float,
    rng: np.random.Generator,
    small_scale: FloatArray | None = None,
    nside: int = 32,
) -> DipoleMeasurements:
    """Return the measurements that would have been published of one sky.

    Each row is a pixelised map of relative intensity with white noise, cut to the row's declination band and
    projected: the first harmonic in right ascension of the mean over declination, as Eq. (24) of AM17. Rows by other
    methods, or of unknown band, see the whole sky and are corrected for its projection factor pi/4, so that they give
    the equatorial dipole itself.

    Parameters
    ----------
    dipole : ndarray, shape (n, 3)
        True dipole (0h, 6h, N) at the energy of each row.
    like : DipoleMeasurements
        Rows to imitate: bands, methods and amplitude errors; every row is a measurement, not a limit.
    scale, across : ndarray, shape (n,)
        Error of each row along and across its equatorial dipole, relative to it: the dipole m is seen as
        (1 + scale) m + across z x m. Equal for rows of one experiment.
    extra_error : float
        Standard deviation of an unknown error of each component.
    rng : numpy.random.Generator
        Source of noise.
    small_scale : ndarray, shape (n, 12 nside^2), optional
        Further relative intensity of the true sky, multipoles l >= 2, RING order.
    nside : int
        Resolution of the maps.

    Returns
    -------
    DipoleMeasurements
        `like` with new amplitudes and phases, and the phase error sigma_A / A_1.
    """
    theta, alpha = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    dec = np.pi / 2 - theta
    directions = np.stack([np.cos(alpha) * np.cos(dec), np.sin(alpha) * np.cos(dec), np.sin(dec)])
    components = np.empty((len(like), 2))
    for row in range(len(like)):
        low, high = like.dec_min_rad[row], like.dec_max_rad[row]
        projected = like.method[row] == "right-ascension projection" and np.isfinite([low, high]).all()
        band = (dec >= low) & (dec <= high) if projected else np.ones(dec.size, dtype=bool)
        x, y, z = dipole[row]
        seen = np.array([x, y, z]) + scale[row] * np.array([x, y, 0.0]) + across[row] * np.array([-y, x, 0.0])
        sky = seen @ directions[:, band]
        if small_scale is not None:
            sky = sky + small_scale[row, band]
        correction = 1.0 if projected else 4.0 / np.pi
        # The mean of 2 noise cos(alpha) over n pixels has variance 2 sigma_pixel^2 / n.
        pixel_error = like.amplitude_error[row] / correction * np.sqrt(band.sum() / 2.0)
        sky = sky + pixel_error * rng.normal(size=sky.size)
        waves = np.cos(alpha[band]), np.sin(alpha[band])
        components[row] = [2.0 * correction * np.mean(sky * wave) for wave in waves]
    components += extra_error * rng.normal(size=components.shape)
    amplitude = np.hypot(*components.T)
    return replace(
        like, amplitude=amplitude, phase_rad=np.arctan2(components[:, 1], components[:, 0]) % (2 * np.pi),
        phase_error_rad=like.amplitude_error / amplitude, provenance=Provenance("mock"),
    )  # fmt: skip
