"""Mock universes: one sky at many rigidities, and what several analyses of it would have published.

The chain is the one of the experiments, on pixels: average over energy, noise, means of declination rings, cut, weight,
transform. It shares no matrix, table or quadrature with `obsfit.operators`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.mock.spectra import analysed, noise_map
from obsfit.records import DipoleMeasurements, PowerSpectrum, Provenance

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Profile = Callable[[FloatArray], FloatArray]

# The edge of a band cuts pixels: their share inside is that of this many times finer pixels.
FINER = 4


def rigidity_sky(c_ell: ArrayLike, *, rng: np.random.Generator) -> ComplexArray:
    """Return a_lm of one Gaussian isotropic sky at several rigidities, healpy order, shape (n_rig, n_alm).

    Parameters
    ----------
    c_ell : array_like, shape (n_rig, n_rig, lmax + 1)
        Power between all pairs of rigidities, from l = 0.
    rng : numpy.random.Generator
        Source of the draw.

    Raises
    ------
    ValueError
        If the powers at some l are not symmetric, or are no covariance (a negative eigenvalue beyond rounding).

    Examples
    --------
    >>> power = np.broadcast_to([0.0, 1.0, 0.1], (2, 2, 3))  # the same sky at both rigidities
    >>> alm = rigidity_sky(power, rng=np.random.default_rng(1))
    >>> alm.shape, bool(np.allclose(alm[0], alm[1]))
    ((2, 6), True)
    """
    power = np.moveaxis(np.asarray(c_ell, dtype=np.float64), -1, 0)
    if power.ndim != 3 or power.shape[1] != power.shape[2]:
        raise ValueError(f"c_ell: shape {np.shape(c_ell)}, expected (n_rig, n_rig, lmax + 1)")
    if not np.allclose(power, np.swapaxes(power, 1, 2), rtol=1e-9, atol=0.0):
        raise ValueError("c_ell: expected the same power between rigidities a and b as between b and a")
    values, vectors = np.linalg.eigh(power)
    largest = np.abs(values).max(axis=1)
    if np.any(values[:, 0] < -1e-9 * largest):
        bad = int(np.argmin(values[:, 0] / np.where(largest > 0, largest, 1.0)))
        raise ValueError(
            f"c_ell at l = {bad}: eigenvalue {values[bad, 0]:.3g}; expected a covariance of rigidities"
        )
    root = vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]
    ell, m = hp.Alm.getlm(len(power) - 1)
    real, imaginary = rng.normal(size=(2, power.shape[1], ell.size))
    # A real coefficient carries all the variance at m = 0, each part of a complex one half of it.
    unit = np.where(m == 0, real, (real + 1j * imaginary) / np.sqrt(2.0))
    return np.einsum("aij,ja->ia", root[ell], unit)


def energy_histogram(
    median_tev: float,
    spread_dex: tuple[float, float],
    rigidity_tv: ArrayLike,
    *,
    rng: np.random.Generator,
    size: int = 20_000,
) -> FloatArray:
    """Return the share of protons of each rigidity among the events of one observation, shape (n_rig,).

    True energies are drawn, as many below the median as above, from one half of a normal law in log10 E on each side;
    each event goes to the rigidity that is next in the logarithm.

    Parameters
    ----------
    median_tev : float
        Median energy.
    spread_dex : tuple of float
        Spread below and above the median, in log10 E, that holds 68 % of each half. Two zeros: the median alone.
    rigidity_tv : array_like, shape (n_rig,)
        Rigidities of the sky, increasing.
    rng : numpy.random.Generator
        Source of the energies.
    size : int
        Number of events drawn.

    Examples
    --------
    >>> energy_histogram(10.0, (0.0, 0.0), [1.0, 10.0, 100.0], rng=np.random.default_rng(1))
    array([0., 1., 0.])
    """
    nodes = np.log10(np.asarray(rigidity_tv, dtype=np.float64))
    if nodes.ndim != 1 or np.any(np.diff(nodes) <= 0):
        raise ValueError("rigidity_tv: expected increasing rigidities, shape (n_rig,)")
    normal = rng.normal(size=size)
    energy = np.log10(median_tev) + normal * np.where(normal < 0, *spread_dex)
    edges = 0.5 * (nodes[1:] + nodes[:-1])
    return np.bincount(np.searchsorted(edges, energy), minlength=nodes.size) / size


def observe_pseudo(
    alm: ComplexArray,
    energy: ArrayLike,
    like: PowerSpectrum,
    *,
    weight: Profile,
    noise: Profile,
    rng: np.random.Generator,
    reading_error: float = 0.0,
    nside: int = 64,
) -> PowerSpectrum:
    """Return the pseudo-spectrum that would have been published of one sky.

    The sky, averaged over energy, and white noise are put on pixels; the mean of each ring of declination is removed
    where the record is filtered, then the weighted mean of the field of view; the map is weighted, zero outside its
    band, and its power is that of ``healpy.anafast``, not divided by anything. Pixels across the edge of the band
    count by their share inside.

    Parameters
    ----------
    alm : ndarray of complex, shape (n_rig, n_alm)
        Sky at the rigidities, healpy order.
    energy : array_like, shape (n_rig,)
        Share of the events at each rigidity.
    like : PowerSpectrum
        Record to imitate: multipoles, band, filter.
    weight : callable
        Weight of the analysis at declinations in rad, shape (n,) -> (n,).
    noise : callable
        Noise power per steradian at declinations in rad, (n,) -> (n,): the variance of relative intensity in a pixel
        times its solid angle, the inverse of the events per steradian. Callers add what resampling adds.
    rng : numpy.random.Generator
        Source of noise and reading errors.
    reading_error : float
        Relative standard deviation with which each power was read off a figure.
    nside : int
        Resolution of the maps. On a polar cap, pixels of nside 64 change the power by less than 0.5 % up to l = 11
        and 1 % at l = 20; of nside 32, by 2 %.

    Returns
    -------
    PowerSpectrum
        `like` with the mock's power.
    """
    dec = _declination(nside)
    share = _share_inside(like.dec_min_rad, like.dec_max_rad, nside)
    seen = share > 0
    # A pixel across the edge may have its centre outside, where weight and noise need not be defined.
    where = np.clip(dec[seen], like.dec_min_rad, like.dec_max_rad)
    inside = share[seen]
    sky = hp.alm2map(np.asarray(energy) @ alm, nside)[seen]
    sky = sky + rng.normal(size=sky.size) * np.sqrt(noise(where) / (inside * hp.nside2pixarea(nside)))
    if like.filtered:
        ring = hp.pix2ring(nside, np.flatnonzero(seen)) - 1
        total, count = np.bincount(ring, inside * sky), np.bincount(ring, inside)
        sky = sky - (total[ring] / count[ring])
    weights = inside * weight(where)
    weighted = np.zeros(dec.size)
    weighted[seen] = weights * (sky - np.sum(weights * sky) / np.sum(weights))
    power = hp.anafast(weighted, lmax=int(like.ell[-1]), iter=3)[like.ell]
    power = np.abs(power * (1.0 + reading_error * rng.normal(size=power.size)))
    return replace(like, c_ell=power, provenance=Provenance("mock"))


def observe_full_sky(
    alm: ComplexArray,
    energy: ArrayLike,
    like: PowerSpectrum,
    *,
    noise: float,
    noise_dec_rad: ArrayLike,
    noise_profile: ArrayLike,
    rng: np.random.Generator,
    nside: int = 64,
) -> PowerSpectrum:
    """Return the spectrum of a nearly full, smoothed map of one sky: as `mock_spectrum`, for a sky that is given.

    Parameters
    ----------
    alm : ndarray of complex, shape (n_rig, n_alm)
        Sky at the rigidities, healpy order.
    energy : array_like, shape (n_rig,)
        Share of the events at each rigidity.
    like, noise, noise_dec_rad, noise_profile, nside
        As `mock_spectrum`.
    rng : numpy.random.Generator
        Source of noise.

    Returns
    -------
    PowerSpectrum
        `like` with the mock's power.
    """
    white = noise_map(
        like, noise=noise, noise_dec_rad=noise_dec_rad, noise_profile=noise_profile, rng=rng, nside=nside
    )
    # Power beyond the last multipole of the record leaks into it through the cut.
    lmax = min(hp.Alm.getlmax(alm.shape[-1]), 3 * nside - 1)
    return analysed(np.asarray(energy) @ alm, white, like, nside=nside, lmax=lmax)


def observe_dipoles(
    alm: ComplexArray,
    energy: ArrayLike,
    like: DipoleMeasurements,
    *,
    rng: np.random.Generator,
    scale: ArrayLike = 0.0,
    across: ArrayLike = 0.0,
    extra_error: float = 0.0,
    nside: int = 32,
) -> DipoleMeasurements:
    """Return the projected dipoles that would have been published of one sky, all its multipoles included.

    Each row is the first harmonic in right ascension of a map averaged over its declination band, Eq. (24) of AM17,
    not corrected by Eq. (25). Its errors along and across are those of `like`.

    Parameters
    ----------
    alm : ndarray of complex, shape (n_rig, n_alm)
        Sky at the rigidities, healpy order.
    energy : array_like, shape (n, n_rig)
        Share of the events of each row at each rigidity.
    like : DipoleMeasurements
        Rows to imitate, all measured by right-ascension projection in a known band.
    rng : numpy.random.Generator
        Source of noise.
    scale, across : array_like, shape (n,) or scalar
        Error of each row along and across its projected dipole, relative to it; equal for rows of one experiment.
    extra_error : float
        Standard deviation of an unknown error of each component.
    nside : int
        Resolution of the maps.

    Returns
    -------
    DipoleMeasurements
        `like` with the amplitudes and phases of the mock, and the phase errors that go with its amplitudes.

    Raises
    ------
    ValueError
        If a row was measured by another method or in an unknown band.
    """
    n = len(like)
    for row in range(n):
        band = (like.dec_min_rad[row], like.dec_max_rad[row])
        if like.method[row] != "right-ascension projection" or not np.isfinite(band).all():
            raise ValueError(
                f"{like.measurement[row]}: method {like.method[row]}, band {band} rad; "
                "expected right-ascension projection in a known declination band"
            )
    _, alpha = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    projected = np.empty((n, 2))
    for row, events in enumerate(np.asarray(energy, dtype=np.float64)):
        share = _share_inside(float(like.dec_min_rad[row]), float(like.dec_max_rad[row]), nside)
        weighted = share * hp.alm2map(events @ alm, nside)
        projected[row] = [2.0 * np.sum(weighted * wave) / np.sum(share) for wave in (np.cos(alpha), np.sin(alpha))]
    turned = np.stack([-projected[:, 1], projected[:, 0]], axis=-1)
    seen = projected + np.reshape(scale, (-1, 1)) * projected + np.reshape(across, (-1, 1)) * turned
    along = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    sigma_across = like.amplitude * like.phase_error_rad
    errors = np.stack([like.amplitude_error, sigma_across], axis=-1) * rng.normal(size=(n, 2))
    seen = seen + errors[:, :1] * along + errors[:, 1:] * np.stack([-along[:, 1], along[:, 0]], axis=-1)
    seen = seen + extra_error * rng.normal(size=(n, 2))
    amplitude = np.hypot(*seen.T)
    return replace(
        like, amplitude=amplitude, phase_rad=np.arctan2(seen[:, 1], seen[:, 0]) % (2 * np.pi),
        phase_error_rad=sigma_across / amplitude, provenance=Provenance("mock"),
    )  # fmt: skip


@lru_cache(maxsize=4)
def _declination(nside: int) -> FloatArray:
    theta, _ = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    dec = np.pi / 2 - theta
    dec.setflags(write=False)
    return dec


@lru_cache(maxsize=64)
def _share_inside(dec_min_rad: float, dec_max_rad: float, nside: int) -> FloatArray:
    """Share of the area of each pixel inside a declination band."""
    dec = _declination(FINER * nside)
    share = hp.ud_grade(((dec >= dec_min_rad) & (dec <= dec_max_rad)).astype(np.float64), nside)
    share.setflags(write=False)
    return np.asarray(share)
