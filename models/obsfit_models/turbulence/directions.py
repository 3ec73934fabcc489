"""Sets of directions of arrival, and the a_lm of functions that are known on them."""

from __future__ import annotations

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.special import sph_legendre_p_all

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Directions of which the harmonics are held at once: 13 MB up to l = 19.
CHUNK = 4096


def healpix_directions(nside: int) -> FloatArray:
    """Return the centres of the pixels of a HEALPix grid, RING order, shape (3, 12 nside^2).

    Raises
    ------
    ValueError
        If `nside` is not a power of two.
    """
    _check_nside(nside)
    return np.array(hp.pix2vec(nside, np.arange(hp.nside2npix(nside))))


def jittered_directions(nside: int, *, rng: np.random.Generator) -> FloatArray:
    """Return one direction at random in each pixel of a HEALPix grid, uniform over it, shape (3, 12 nside^2).

    Two sets of different generators share no direction, so that products between them are free of shot noise, while
    each covers the sky as evenly as the pixels do. A pixel of RING order is the union of its children in a grid 2^20
    times finer in number along a side; one of them is drawn, and its centre stands for it (to 1e-7 of a pixel).

    Raises
    ------
    ValueError
        If `nside` is not a power of two, or above 512.
    """
    _check_nside(nside)
    fine = 2**20
    if nside * fine > 2**29:
        raise ValueError(f"nside {nside}: expected at most 512")
    parent = hp.ring2nest(nside, np.arange(hp.nside2npix(nside)))
    child = parent.astype(np.int64) * fine**2 + rng.integers(fine**2, size=parent.size)
    return np.array(hp.pix2vec(nside * fine, child, nest=True))


def patch_directions(
    longitude: ArrayLike, latitude: ArrayLike, *, centre: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    r"""Return the directions of a regular patch of sky, shape (3, n_latitude, n_longitude).

    Parameters
    ----------
    longitude, latitude : array_like, shapes (n_longitude,) and (n_latitude,)
        In radians, of a sphere whose point (0, 0) has been brought to the centre, its north up.
    centre : tuple of float
        Longitude and latitude in radians. Default: (0, 0), so that the patch is one of the sky's own coordinates.

    Raises
    ------
    ValueError
        If a latitude is beyond a pole.

    Examples
    --------
    >>> patch_directions([0.0], [0.0], centre=(np.pi / 2, 0.0)).round(12).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    lon, lat = (np.array(values, dtype=np.float64, ndmin=1) for values in (longitude, latitude))
    if np.any(np.abs([*lat, centre[1]]) > np.pi / 2 + 1e-12):
        raise ValueError(f"latitudes {lat.min()} to {lat.max()} about {centre[1]}: expected within +-pi/2")
    x, y = np.outer(np.cos(lat), np.cos(lon)), np.outer(np.cos(lat), np.sin(lon))
    z = np.broadcast_to(np.sin(lat)[:, None], x.shape)
    (c0, s0), (c1, s1) = ((np.cos(angle), np.sin(angle)) for angle in centre)
    ahead = c1 * x - s1 * z
    return np.array([c0 * ahead - s0 * y, s0 * ahead + c0 * y, s1 * x + c1 * z])


def real_harmonics(vectors: FloatArray, lmax: int) -> FloatArray:
    r"""Return real orthonormal spherical harmonics at unit vectors (3, n), shape (n, (lmax + 1)^2).

    Order: a_lm of healpy order, first the coefficients of :math:`Y_{l0}` and :math:`\sqrt 2\, \mathrm{Re}\, Y_{lm}`,
    then, for m > 0 alone, those of :math:`-\sqrt 2\, \mathrm{Im}\, Y_{lm}`: the coefficients are :math:`\sqrt 2` times
    real and imaginary part of a_lm.
    """
    ell, m = hp.Alm.getlm(lmax)
    # Not the arc cosine of z, which knows colatitudes near a pole to 1e-8 only.
    theta, phi = np.arctan2(np.hypot(vectors[0], vectors[1]), vectors[2]), np.arctan2(vectors[1], vectors[0])
    legendre = sph_legendre_p_all(lmax, lmax, theta)[0][ell, m].T
    angle = np.outer(phi, m)
    norm = np.where(m == 0, 1.0, np.sqrt(2.0))
    real = norm * legendre * np.cos(angle)
    imaginary = -norm * legendre * np.sin(angle)
    return np.concatenate([real, imaginary[:, m > 0]], axis=1)


def harmonic_sums(vectors: FloatArray, values: FloatArray, lmax: int) -> FloatArray:
    """Return sums over directions (3, n) of values (..., n) times `real_harmonics`, shape (..., (lmax + 1)^2).

    Sums of parts of a set add up to those of the whole.
    """
    total = np.zeros((*values.shape[:-1], (lmax + 1) ** 2))
    for start in range(0, vectors.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        total += values[..., part] @ real_harmonics(vectors[:, part], lmax)
    return total


def gram_matrix(vectors: FloatArray, lmax: int) -> FloatArray:
    """Return sums over directions (3, n) of products of two `real_harmonics`, shape ((lmax + 1)^2, (lmax + 1)^2)."""
    total = np.zeros(((lmax + 1) ** 2, (lmax + 1) ** 2))
    for start in range(0, vectors.shape[1], CHUNK):
        basis = real_harmonics(vectors[:, start : start + CHUNK], lmax)
        total += basis.T @ basis
    return total


def fitted_alm(sums: FloatArray, gram: FloatArray) -> ComplexArray:
    """Return the a_lm that fit a function best on its directions, in healpy order, shape (..., n_alm).

    The least-squares solution, from `harmonic_sums` (..., (lmax + 1)^2) and `gram_matrix` of the same directions:
    exact for functions without power above lmax, whatever the directions.

    Raises
    ------
    ValueError
        If the directions are too few, or cover too little of the sphere, to tell the a_lm apart.
    """
    lmax = int(np.sqrt(gram.shape[0])) - 1
    values = linalg.eigvalsh(gram, subset_by_index=[0, 0])
    if not values[0] > 1e-3 * np.trace(gram) / gram.shape[0]:
        raise ValueError(
            f"lmax {lmax}: these directions do not determine all a_lm; expected more directions, or a smaller lmax"
        )
    flat = sums.reshape(-1, sums.shape[-1])
    solution = linalg.cho_solve(linalg.cho_factor(gram), flat.T).T.reshape(sums.shape)
    _, m = hp.Alm.getlm(lmax)
    alm = solution[..., : m.size].astype(np.complex128)
    alm[..., m > 0] += 1j * solution[..., m.size :]
    alm[..., m > 0] /= np.sqrt(2.0)
    return alm


def degree_sums(values: FloatArray) -> FloatArray:
    """Return sums over m of values (..., n_alm) in healpy order, shape (..., lmax + 1)."""
    ell, _ = hp.Alm.getlm(int(hp.Alm.getlmax(values.shape[-1])))
    order = np.argsort(ell, kind="stable")
    starts = np.searchsorted(ell[order], np.arange(ell.max() + 1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))


def _check_nside(nside: int) -> None:
    if not hp.isnsideok(nside, nest=True):
        raise ValueError(f"nside {nside}: expected a power of two")
