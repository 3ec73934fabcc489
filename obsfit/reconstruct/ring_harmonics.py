r"""Spherical harmonics on rings, and sums of their products over counts: what fits of multipoles share.

On the cells of an `HourAngleGrid`, a multipole with m > 0 is the product of a function of the time bin and a function
of the local cell,

.. math:: f_{\ell m}(t, r, j) = \bar\lambda_{\ell m}(r)\, w_m\, e^{i m (t - j) D}, \qquad D = 2\pi / n_{time},

with the harmonic averaged over the declinations of the events of the ring, :math:`\bar\lambda`, and the window of the
bins, w. The relative intensity is :math:`I = 1 + 2\,\mathrm{Re} \sum_{m > 0} a_{\ell m} f_{\ell m}`. Every sum over
products of two multipoles is a Fourier component along the rings of order m - m' or m + m'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.errors import ObsfitError

__all__ = ["RingHarmonics", "bin_window", "largest_condition", "multipoles", "ring_harmonics"]

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Beyond this condition number of a normal matrix the multipoles are no longer separate numbers.
LARGEST_CONDITION = 1e8
# Gauss-Legendre nodes in each declination band: with 64 bands, their error is 1e-9 at l = 3 and 1e-4 at l = 20.
NODES = 3


def multipoles(lmax: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return degrees and orders (l, m) of all multipoles with 0 < m <= l <= lmax, in the order of healpy.

    Raises
    ------
    ValueError
        If lmax is below one.

    Examples
    --------
    >>> multipoles(2)
    (array([1, 2, 2]), array([1, 1, 2]))
    """
    if lmax < 1:
        raise ValueError(f"lmax {lmax}: expected at least 1")
    m, ell = (part.astype(np.int64) for part in np.triu_indices(lmax + 1))
    return ell[m > 0], m[m > 0]


def bin_window(m: NDArray[np.int64], n_time: int) -> FloatArray:
    r"""Return what bins of time and hour angle leave of a_lm, :math:`[\sin(\pi m / T) / (\pi m / T)]^2`, shape of m.

    An event is known to a bin of time and a bin of hour angle, each of width 2 pi / T. Its right ascension is their
    difference, so that a sky cell sees the sky through a triangle of twice that width.

    Examples
    --------
    >>> bin_window(np.array([1, 3]), 360).round(6)
    array([0.999975, 0.999772])
    """
    return np.asarray(np.sinc(m / n_time) ** 2)


def ring_harmonics(per_declination: FloatArray, n_dec: int, lmax: int) -> FloatArray:
    r"""Return :math:`\bar\lambda_{\ell m}` of each ring, shape (n_dec, n), for the (l, m) of `multipoles`.

    :math:`\lambda_{\ell m}(\delta) = Y_{\ell m}(\pi/2 - \delta, 0)` is averaged over solid angle in each fine band, and
    over the fine bands of a ring with the events in them as weights. This matters where the field of view ends inside
    a ring. A ring without events has the average over its solid angle.

    Parameters
    ----------
    per_declination : ndarray, shape (n_dec * n_sub,)
        Events in fine bands, as in `RingCounts`.
    n_dec : int
        Number of rings.
    lmax : int
        Largest multipole.

    Examples
    --------
    >>> ring_harmonics(np.ones(2), 2, 1).round(3)      # -sqrt(3 / 8 pi) pi / 4, the mean of cos(dec)
    array([[-0.271], [-0.271]])
    """
    ell, m = multipoles(lmax)
    nodes, weights = leggauss(NODES)
    n_fine = per_declination.size
    half = 0.5 * np.pi / n_fine
    centre = -0.5 * np.pi + np.pi * (np.arange(n_fine) + 0.5) / n_fine
    dec = (centre[:, None] + half * nodes).ravel()
    measure = weights * np.cos(dec).reshape(n_fine, NODES)
    values = sph_harm_y(ell, m, 0.5 * np.pi - dec[:, None], 0.0).real
    fine = np.einsum("bg,bgp->bp", measure, values.reshape(n_fine, NODES, -1)) / measure.sum(axis=1)[:, None]
    counts = per_declination.reshape(n_dec, -1)
    solid_angle = measure.sum(axis=1).reshape(n_dec, -1)
    share = np.where(counts.sum(axis=1, keepdims=True) > 0.0, counts, solid_angle)
    share = share / share.sum(axis=1, keepdims=True)
    return np.einsum("rs,rsp->rp", share, fine.reshape(n_dec, share.shape[1], -1))


@dataclass(frozen=True)
class RingHarmonics:
    r"""Multipoles 0 < m <= l <= lmax on the rings of one detector.

    Attributes
    ----------
    ell, m : ndarray of int, shape (n,)
        Degree and order.
    values : ndarray, shape (n_dec, n)
        :math:`\bar\lambda_{\ell m}(r)\, w_m`: the window of the bins is part of the function, so that fitted a_lm are
        free of it.
    n_time : int
        Number of cells of a ring.
    """

    ell: NDArray[np.int64]
    m: NDArray[np.int64]
    values: FloatArray
    n_time: int

    @classmethod
    def of(cls, per_declination: FloatArray, n_dec: int, n_time: int, lmax: int) -> RingHarmonics:
        """Return the multipoles up to lmax, averaged over the events in fine bands `per_declination`.

        Raises
        ------
        ObsfitError
            If the bins are too wide for lmax: sums of two orders must stay below half the number of bins.
        """
        if 4 * lmax >= n_time:
            raise ObsfitError(
                f"multipoles up to l = {lmax} on {n_time} time bins",
                expected=f"more than {4 * lmax} time bins",
                remedy="Bin finer in time, or fit fewer multipoles.",
            )
        ell, m = multipoles(lmax)
        values = ring_harmonics(per_declination, n_dec, lmax) * bin_window(m, n_time)
        return cls(ell, m, values, n_time)

    @property
    def orders(self) -> NDArray[np.int64]:
        """Orders 1, ..., lmax."""
        return np.arange(1, int(self.m[-1]) + 1)

    def phases(self) -> ComplexArray:
        """exp(i m x D) of the cells x, shape (lmax, n_time)."""
        angle = 2.0 * np.pi / self.n_time * (self.orders[:, None] * np.arange(self.n_time) % self.n_time)
        return np.exp(1j * angle)

    def ring_amplitudes(self, alm: ComplexArray) -> ComplexArray:
        """Sum over l of a_lm times the function of each ring, shape (n_dec, lmax)."""
        return np.stack([self.values[:, self.m == m] @ alm[self.m == m] for m in self.orders], axis=1)

    def project(self, ring_sums: ComplexArray) -> ComplexArray:
        """Sum over rings of the function times ring sums of each order (n_dec, lmax), shape (n,)."""
        return np.asarray(np.einsum("rp,rp->p", self.values, ring_sums[:, self.m - 1]))

    def time_moments(self, per_time: FloatArray) -> Moments:
        """Moments of exp(i m t D) over time bins weighted by `per_time`, shape (n_time,)."""
        spectrum = scipy.fft.rfft(per_time)
        return Moments(
            float(per_time.sum()),
            spectrum[self.m].conj(),
            _order(spectrum, self.m[:, None] - self.m).conj(),
            _order(spectrum, self.m[:, None] + self.m).conj(),
        )

    def cell_moments(self, per_cell: FloatArray) -> Moments:
        """Moments of the values times exp(-i m j D) over cells weighted by `per_cell`, shape (n_dec, n_time)."""
        spectrum = scipy.fft.rfft(per_cell, axis=1)
        first = np.einsum("rp,rp->p", self.values, spectrum[:, self.m])
        n = self.m.size
        product, square = np.empty((n, n), dtype=np.complex128), np.empty((n, n), dtype=np.complex128)
        for a in self.orders:
            for b in self.orders:
                block = np.ix_(self.m == a, self.m == b)
                left, right = self.values[:, self.m == a].T, self.values[:, self.m == b]
                product[block] = (left * _order(spectrum, a - b)) @ right
                square[block] = (left * _order(spectrum, a + b)) @ right
        return Moments(float(per_cell.sum()), first, product, square)

    def ring_means(self, per_cell: FloatArray) -> tuple[ComplexArray, FloatArray]:
        """First moments of `cell_moments` ring by ring, shape (n_dec, n), and the sum of each ring, (n_dec,)."""
        spectrum = scipy.fft.rfft(per_cell, axis=1)
        return self.values * spectrum[:, self.m], spectrum[:, 0].real


@dataclass(frozen=True)
class Moments:
    r"""Sums over a measure of complex functions :math:`f_p` and of their products.

    Attributes
    ----------
    total : float
        Sum of the measure.
    first : ndarray of complex, shape (n,)
        :math:`\sum f_p`.
    product, square : ndarray of complex, shape (n, n)
        :math:`\sum f_p f_q^*` and :math:`\sum f_p f_q`.
    """

    total: float
    first: ComplexArray
    product: ComplexArray
    square: ComplexArray

    @property
    def mean(self) -> ComplexArray:
        """Mean of each function, shape (n,)."""
        return self.first / self.total

    def about(self, centre: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """`product` and `square` of the functions less `centre`, shape (n,)."""
        product = self.product - np.outer(self.first, centre.conj()) - np.outer(centre, self.first.conj())
        square = self.square - np.outer(self.first, centre) - np.outer(centre, self.first)
        return (
            product + self.total * np.outer(centre, centre.conj()),
            square + self.total * np.outer(centre, centre),
        )


def real_matrix(product: ComplexArray, square: ComplexArray) -> FloatArray:
    r"""Return sums of products of the real functions of (Re a, Im a), shape (2 n, 2 n).

    The functions are :math:`2\,\mathrm{Re} f_p` and :math:`-2\,\mathrm{Im} f_p`, because
    :math:`a f + a^* f^* = \mathrm{Re} a \cdot 2\,\mathrm{Re} f - \mathrm{Im} a \cdot 2\,\mathrm{Im} f`.

    Parameters
    ----------
    product, square : ndarray of complex, shape (n, n)
        :math:`\sum f_p f_q^*` and :math:`\sum f_p f_q`.
    """
    return 2.0 * np.block(
        [
            [product.real + square.real, product.imag - square.imag],
            [-product.imag - square.imag, product.real - square.real],
        ]
    )


def real_vector(values: ComplexArray) -> FloatArray:
    """Return sums of the real functions of (Re a, Im a), shape (2 n,), of sums of f_p, shape (n,)."""
    return 2.0 * np.concatenate([values.real, -values.imag])


def complex_alm(parameters: FloatArray) -> ComplexArray:
    """Return a, shape (n,), of (Re a, Im a), shape (2 n,)."""
    n = parameters.size // 2
    return parameters[:n] + 1j * parameters[n:]


def largest_condition(matrix: FloatArray, ell: NDArray[np.int64], what: str) -> float:
    """Return the condition number of a normal matrix of (Re a, Im a), or refuse to fit its multipoles.

    Parameters
    ----------
    matrix : ndarray, shape (2 n, 2 n)
        Normal or Fisher matrix.
    ell : ndarray of int, shape (n,)
        Degree of each multipole.
    what : str
        Detectors, for the message.

    Raises
    ------
    ObsfitError
        If it exceeds 1e8; the message names the largest l that would do.
    """
    both = np.concatenate([ell, ell])
    condition = _condition(matrix)
    if condition <= LARGEST_CONDITION:
        return condition
    lmax = int(ell.max())
    for smaller in range(lmax - 1, 0, -1):
        below = both <= smaller
        if _condition(matrix[np.ix_(below, below)]) <= LARGEST_CONDITION:
            remedy = f"The largest lmax that can be fitted is {smaller}."
            break
    else:
        remedy = "Not even lmax = 1 can be fitted: look for gaps of the exposure or an empty field of view."
    raise ObsfitError(
        f"{what}: the multipoles up to lmax = {lmax} cannot be told apart, condition number {condition:.1e}",
        expected=f"at most {LARGEST_CONDITION:.0e}",
        remedy=remedy,
    )


def _condition(matrix: FloatArray) -> float:
    eigenvalues = np.linalg.eigvalsh(matrix)
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0.0 else float("inf")


def _order(spectrum: ComplexArray, order: NDArray[np.int64] | int) -> ComplexArray:
    """Fourier components of any sign of order, of a real array whose non-negative ones are given."""
    values = spectrum[..., np.abs(order)]
    return np.where(np.asarray(order) < 0, values.conj(), values)
