"""Mock power spectra: a random sky and its noise go through smoothing, declination cut and ring-mean filter."""

from __future__ import annotations

from dataclasses import replace

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.records import PowerSpectrum, Provenance

FloatArray = NDArray[np.float64]


def gaussian_alm(c_ell: ArrayLike, *, rng: np.random.Generator) -> NDArray[np.complex128]:
    """Return a_lm of a Gaussian isotropic sky in healpy order, shape (n_alm,).

    Parameters
    ----------
    c_ell : array_like, shape (lmax + 1,)
        Power from l = 0.
    rng : numpy.random.Generator
        Source of the draw.
    """
    power = np.asarray(c_ell, dtype=np.float64)
    ell, m = hp.Alm.getlm(power.size - 1)
    real, imaginary = rng.normal(size=(2, ell.size))
    # A real coefficient carries all the variance at m = 0, each part of a complex one half of it.
    return np.sqrt(power[ell]) * np.where(m == 0, real, (real + 1j * imaginary) / np.sqrt(2.0))


def mock_spectrum(
    c_ell: ArrayLike,
    like: PowerSpectrum,
    *,
    noise: float,
    noise_dec_rad: ArrayLike,
    noise_profile: ArrayLike,
    rng: np.random.Generator,
    nside: int = 64,
) -> PowerSpectrum:
    """Return the spectrum that would have been measured on one random sky.

    The sky and white noise, whose power depends on declination, are smoothed by the window of the record, cut to
    its declination band, freed of the mean of each ring where the record is filtered, analysed by ``healpy.anafast``
    and divided by the sky fraction of the band.

    Parameters
    ----------
    c_ell : array_like, shape (lmax + 1,)
        True power from l = 0.
    like : PowerSpectrum
        Record to imitate: multipoles, window, band, filter. Its window must reach l = 1 .. ell[-1].
    noise : float
        Noise power before smoothing, C_l of white noise, averaged over the band.
    noise_dec_rad, noise_profile : array_like, shape (n,)
        How the noise power depends on declination, in any unit, at increasing declinations; interpolated linearly.
    rng : numpy.random.Generator
        Source of sky and noise.
    nside : int
        Resolution of the maps.

    Returns
    -------
    PowerSpectrum
        `like` with the mock's power.
    """
    lmax = int(like.ell[-1])
    pixels = np.arange(hp.nside2npix(nside))
    theta, _ = hp.pix2ang(nside, pixels)
    dec = np.pi / 2 - theta
    inside = (dec >= like.dec_min_rad) & (dec <= like.dec_max_rad)
    local = np.interp(dec, np.asarray(noise_dec_rad), np.asarray(noise_profile))
    local *= noise / local[inside].mean()
    white = rng.normal(size=dec.size) * np.sqrt(local / hp.nside2pixarea(nside))
    beam = np.zeros(lmax + 1)
    beam[like.ell] = np.sqrt(like.window_power)
    sky = np.asarray(c_ell, dtype=np.float64)[: lmax + 1]
    alm = gaussian_alm(np.pad(sky, (0, lmax + 1 - sky.size)), rng=rng)
    alm = hp.almxfl(alm + hp.map2alm(white, lmax=lmax, iter=3), beam)
    observed = np.where(inside, hp.alm2map(alm, nside), 0.0)
    if like.filtered:
        ring = hp.pix2ring(nside, pixels) - 1
        total, count = np.bincount(ring, observed), np.bincount(ring, inside)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        observed = np.where(inside, observed - mean[ring], 0.0)
    power = hp.anafast(observed, lmax=lmax, iter=3)[like.ell] / inside.mean()
    return replace(like, c_ell=power, provenance=Provenance("mock"))
