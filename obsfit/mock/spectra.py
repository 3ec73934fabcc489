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
    white = noise_map(
        like, noise=noise, noise_dec_rad=noise_dec_rad, noise_profile=noise_profile, rng=rng, nside=nside
    )
    lmax = int(like.ell[-1])
    sky = np.asarray(c_ell, dtype=np.float64)[: lmax + 1]
    alm = gaussian_alm(np.pad(sky, (0, lmax + 1 - sky.size)), rng=rng)
    return analysed(alm, white, like, nside=nside, lmax=lmax)


def noise_map(
    like: PowerSpectrum,
    *,
    noise: float,
    noise_dec_rad: ArrayLike,
    noise_profile: ArrayLike,
    rng: np.random.Generator,
    nside: int,
) -> FloatArray:
    """Return white noise on pixels, shape (12 nside^2,); parameters as `mock_spectrum`."""
    theta, _ = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    dec = np.pi / 2 - theta
    inside = (dec >= like.dec_min_rad) & (dec <= like.dec_max_rad)
    local = np.interp(dec, np.asarray(noise_dec_rad), np.asarray(noise_profile))
    local *= noise / local[inside].mean()
    return np.asarray(rng.normal(size=dec.size) * np.sqrt(local / hp.nside2pixarea(nside)))


def analysed(
    alm: NDArray[np.complex128], white: FloatArray, like: PowerSpectrum, *, nside: int, lmax: int
) -> PowerSpectrum:
    """Return the spectrum of a given sky (n_alm,) and noise map after smoothing, cut, filter and transform.

    Parameters
    ----------
    alm : ndarray of complex, shape (n_alm,)
        Sky in healpy order, up to `lmax`.
    white : ndarray, shape (12 nside^2,)
        Noise before smoothing.
    like : PowerSpectrum
        Record to imitate. Beyond its last multipole, up to `lmax`, its window is continued as a Gaussian.
    nside, lmax : int
        Resolution of the maps.
    """
    last = int(like.ell[-1])
    pixels = np.arange(hp.nside2npix(nside))
    theta, _ = hp.pix2ang(nside, pixels)
    dec = np.pi / 2 - theta
    inside = (dec >= like.dec_min_rad) & (dec <= like.dec_max_rad)
    ell = np.arange(lmax + 1.0)
    beam = np.zeros(lmax + 1)
    beam[like.ell] = np.sqrt(like.window_power)
    beyond = ell > last
    beam[beyond] = like.window_power[-1] ** (0.5 * ell[beyond] * (ell[beyond] + 1) / (last * (last + 1)))
    alm = hp.almxfl(alm + hp.map2alm(white, lmax=lmax, iter=3), beam)
    observed = np.where(inside, hp.alm2map(alm, nside), 0.0)
    if like.filtered:
        ring = hp.pix2ring(nside, pixels) - 1
        total, count = np.bincount(ring, observed), np.bincount(ring, inside)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        observed = np.where(inside, observed - mean[ring], 0.0)
    power = hp.anafast(observed, lmax=last, iter=3)[like.ell] / inside.mean()
    return replace(like, c_ell=power, provenance=Provenance("mock"))
