"""What a declination band does to a sky: projection and inversion of a dipole, and mixing of multipoles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ObsfitError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Weight = Callable[[FloatArray], FloatArray]

LMAX_GENERAL = 20
"""Largest multipole of `general_coupling`: its matrix grows as the fourth power, 3 MB here."""


def projection_factor(
    dec_min: u.Quantity, dec_max: u.Quantity, *, weight: Weight | None = None, order: int = 64
) -> float:
    r"""Return the ratio of the projected to the true equatorial dipole amplitude.

    .. math:: \tilde A_1 / A_1 = \int w(s) \sqrt{1 - s^2}\, ds \Big/ \int w(s)\, ds, \qquad s = \sin\delta,

    which for uniform weight is Eq. (25) of AM17. The phase is not changed by the projection. Multipoles
    :math:`\ell \ge 2` leak into a projected dipole; this factor knows nothing of them (see `obsfit.operators`).

    Parameters
    ----------
    dec_min, dec_max : Quantity, angle
        Declination band of the time-integrated field of view.
    weight : callable, optional
        Weight per unit solid angle as a function of sin(declination), shape (n,) -> (n,). Default: uniform.
        The integral is split at the equator, so that a cusp there, as of \|s\|, costs no accuracy; a weight with a
        cusp or a step elsewhere needs a larger `order`.
    order : int
        Number of Gauss-Legendre nodes on either side of the equator.

    Returns
    -------
    float
        Dimensionless, in (0, 1].

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere, or if the weight is negative, not finite or zero everywhere.

    Examples
    --------
    >>> round(projection_factor(-26 * u.deg, 64 * u.deg), 4)
    0.882
    """
    low, high = _band(dec_min, dec_max)
    nodes, node_weights = leggauss(order)
    edges = [low, 0.0, high] if low < 0.0 < high else [low, high]
    halves = [(0.5 * (b - a), 0.5 * (b + a)) for a, b in pairwise(edges)]
    # Integrate over declination, not its sine: sqrt(1 - s^2) is not smooth at the poles.
    dec = np.concatenate([half * nodes + middle for half, middle in halves])
    measure = np.concatenate([half * node_weights for half, _ in halves]) * np.cos(dec)
    if weight is not None:
        measure = measure * _checked_weight(weight(np.sin(dec)))
    return float(np.sum(measure * np.cos(dec)) / np.sum(measure))


def dipole_inversion_factor(sin_dec_min: float, sin_dec_max: float) -> float:
    r"""Return K'_1111: pseudo a_11 of a dipole seen through a declination band, over its true a_11.

    .. math:: K'_{1111} = \tfrac14 [3 (s_2 - s_1) + s_1^3 - s_2^3]

    Eqs. (27) and (28) of AM17, for a top-hat band; divide the pseudo a_11 by it. It is 1 on the full sky. A pure
    dipole is assumed: multipoles l = 2 to 4 leak into the result.

    Parameters
    ----------
    sin_dec_min, sin_dec_max : float
        Sines s_1 and s_2 of the limits of the band.

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere.

    Examples
    --------
    >>> dipole_inversion_factor(-1.0, 1.0)
    1.0
    """
    s1, s2 = float(sin_dec_min), float(sin_dec_max)
    if not -1.0 <= s1 < s2 <= 1.0:
        raise ValueError(f"band of sin(dec) {s1} to {s2}: expected -1 <= s1 < s2 <= 1")
    return 0.25 * (s2 - s1) * (3.0 - s1**2 - s1 * s2 - s2**2)


def band_coupling(
    dec_min: u.Quantity,
    dec_max: u.Quantity,
    lmax: int,
    *,
    filtered: bool,
    weight: Weight | None = None,
    lmax_out: int | None = None,
    order: int | None = None,
) -> FloatArray:
    r"""Return how a weighted declination band mixes multipoles: T^m as an array (m, l, l').

    .. math:: \tilde a_{\ell m} = \sum_{\ell'} T^m_{\ell\ell'} a_{\ell' m}, \qquad
              T^m_{\ell\ell'} = 2\pi \int_{s_1}^{s_2} w(s) \lambda_{\ell m}(s) \lambda_{\ell' m}(s)\, ds,

    Eq. (A.1) of AM17, with :math:`\lambda_{\ell m}` the normalised associated Legendre functions and s the sine of
    declination. The same matrix stands for -m. Entries with l or l' below m vanish.

    Parameters
    ----------
    dec_min, dec_max : Quantity, angle
        Declination band.
    lmax : int
        Largest multipole l' of the sky.
    filtered : bool
        True sets T^0 = 0: a map whose ring means are removed has no a_l0. For a weight that depends on declination
        alone it is the same to remove the mean of each ring inside the band, to set the true a_l0 to zero, or to drop
        the pseudo a_l0.
    weight : callable, optional
        Weight w as a function of sin(declination), shape (n,) -> (n,). Default: one, a top-hat band.
    lmax_out : int, optional
        Largest multipole l of the pseudo a_lm. Default: lmax.
    order : int, optional
        Number of Gauss-Legendre nodes: of the whole band for a top-hat, else on either side of the equator.

    Returns
    -------
    array of float, shape (min(lmax, lmax_out) + 1, lmax_out + 1, lmax + 1)
        Dimensionless, for the multipoles from 0 on.

    Raises
    ------
    ValueError
        If the band is empty or leaves the sphere, if a multipole is negative, if the order is too small for the
        multipoles, or if the weight is negative, not finite or zero everywhere.

    Notes
    -----
    The integrand of a top-hat is a polynomial in s, and its quadrature is exact. With a weight, the band is split at
    the equator and the variable is the cube root of declination, so that neither :math:`|\sin\delta|^q` at the equator
    nor :math:`\cos\delta` at the poles costs accuracy: at the default order the absolute error is below 1e-12 up to
    l = 40 for the former, any q from 0.1 to 6, integer or not. A cusp or a step elsewhere needs a larger `order`.

    The windows of `obsfit.sky.smoothing` multiply the columns if they act before the cut, and the rows if after:
    for a sky that is smoothed by :math:`W_{\ell'}` and then cut, a_lm goes through :math:`T^m_{\ell\ell'} W_{\ell'}`,
    in code ``coupling * window``; the window of several steps is the product of theirs.

    Examples
    --------
    >>> band_coupling(-90 * u.deg, -25 * u.deg, 2, filtered=True)[1].round(3)
    array([[ 0.   ,  0.   ,  0.   ],
           [ 0.   ,  0.202, -0.283],
           [ 0.   , -0.283,  0.416]])
    """
    low, high = _band(dec_min, dec_max)
    lmax_out = lmax if lmax_out is None else lmax_out
    exact = (_multipole(lmax) + _multipole(lmax_out)) // 2 + 1
    order = (exact if weight is None else 3 * exact + 64) if order is None else order
    if order < exact:
        raise ValueError(f"order {order}: expected at least {exact} nodes for multipoles {lmax_out} and {lmax}")
    nodes, node_weights = leggauss(order)
    if weight is None:
        s1, s2 = np.sin(low), np.sin(high)
        sin_dec = 0.5 * (s2 - s1) * nodes + 0.5 * (s2 + s1)
        return _ring_sum(np.arccos(sin_dec), 0.5 * (s2 - s1) * node_weights, lmax_out, lmax, filtered)
    edges = np.cbrt([low, 0.0, high] if low < 0.0 < high else [low, high])
    halves = [(0.5 * (b - a), 0.5 * (b + a)) for a, b in pairwise(edges)]
    root = np.concatenate([half * nodes + middle for half, middle in halves])
    dec = root**3
    measure = np.concatenate([half * node_weights for half, _ in halves]) * 3.0 * root**2 * np.cos(dec)
    measure = measure * _checked_weight(weight(np.sin(dec)))
    return _ring_sum(0.5 * np.pi - dec, measure, lmax_out, lmax, filtered)


def ring_coupling(
    sin_dec: ArrayLike,
    width: ArrayLike,
    weight: ArrayLike,
    lmax: int,
    *,
    filtered: bool,
    lmax_out: int | None = None,
) -> FloatArray:
    r"""Return T^m as `band_coupling` does, for a weight that is known on rings of constant declination.

    .. math:: T^m_{\ell\ell'} = 2\pi \sum_r \Delta s_r\, w_r\, \lambda_{\ell m}(s_r) \lambda_{\ell' m}(s_r)

    This is what a map does whose harmonics are sums over pixels. It approaches the integral as the rings get narrower.

    Parameters
    ----------
    sin_dec, width, weight : array of float, shape (n,)
        Of each ring: sine of declination, its extent in that sine (the number of pixels times the solid angle of one,
        over 2 pi), and the weight.
    lmax, filtered, lmax_out
        As for `band_coupling`.

    Returns
    -------
    array of float, shape (min(lmax, lmax_out) + 1, lmax_out + 1, lmax + 1)

    Raises
    ------
    ValueError
        If the shapes differ, sin(declination) leaves [-1, 1], a width is negative or not finite, a multipole is
        negative, or the weight is negative, not finite or zero everywhere.

    Examples
    --------
    >>> s = np.linspace(-0.9995, 0.9995, 2000)
    >>> ring_coupling(s, np.full(2000, 0.001), np.ones(2000), 1, filtered=True)[1].round(3)
    array([[0., 0.],
           [0., 1.]])
    """
    sines, widths = np.asarray(sin_dec, dtype=np.float64), np.asarray(width, dtype=np.float64)
    values = _checked_weight(weight)
    if not sines.shape == widths.shape == values.shape == (sines.size,):
        raise ValueError(
            f"sin_dec, width and weight of shapes {sines.shape}, {widths.shape} and {values.shape}: "
            "expected one shape (n,)"
        )
    if not np.all(np.abs(sines) <= 1.0):
        raise ValueError(
            f"sin_dec between {sines.min()} and {sines.max()}: expected sines of declination in [-1, 1]"
        )
    if not np.all((widths >= 0.0) & np.isfinite(widths)):
        raise ValueError(f"width between {widths.min()} and {widths.max()}: expected finite values, none negative")
    lmax_out = _multipole(lmax) if lmax_out is None else _multipole(lmax_out)
    return _ring_sum(np.arccos(sines), widths * values, lmax_out, lmax, filtered)


def power_coupling(coupling: FloatArray) -> FloatArray:
    r"""Return the matrix M between the true and the mean pseudo-power of a cut sky, shape (l, l').

    .. math:: \langle\tilde C_\ell\rangle = \sum_{\ell'} M_{\ell\ell'} C_{\ell'}, \qquad
              M_{\ell\ell'} = \frac{1}{2\ell+1} \sum_{m=-\ell}^{\ell} \left(T^m_{\ell\ell'}\right)^2,

    Eqs. (30) and (A.2) of AM17, where m = 0 is left out by a coupling with T^0 = 0 (``filtered=True``). The sum over
    Wigner 3j symbols in (A.2) is this sum over m. Pseudo-powers are divided by 2l + 1, also where m = 0 is missing.

    Valid only as a mean over skies that are Gaussian and statistically isotropic (isotropy is enough for the mean).
    One sky deviates from it, for a narrow field of view by as much as the power itself, and a sky with a preferred
    direction, as of turbulence about a mean magnetic field, on average too: fold its a_lm with the coupling instead.

    Windows enter squared: ``power_coupling(coupling * window)`` for smoothing before the cut.

    Parameters
    ----------
    coupling : array of float, shape (m, l_out, l_in)
        T^m of `band_coupling` or `ring_coupling`.

    Returns
    -------
    array of float, shape (l_out, l_in)
        Row 0 and column 0 vanish if m = 0 is left out: invert M for l >= 1, and look at its condition number first.
        A polar cap within one hemisphere has no pairs of directions wider than its diameter, and M is singular.

    Raises
    ------
    ValueError
        If the coupling has not three axes.

    Examples
    --------
    >>> whole = band_coupling(-90 * u.deg, 90 * u.deg, 2, filtered=True)
    >>> np.diag(power_coupling(whole)).round(3)
    array([0.   , 0.667, 0.8  ])
    """
    _check_coupling(coupling)
    signs = np.where(np.arange(coupling.shape[0]) == 0, 1.0, 2.0)
    ell = np.arange(coupling.shape[1])[:, None]
    return np.asarray(np.einsum("m,mab,mab->ab", signs, coupling, coupling) / (2 * ell + 1), dtype=np.float64)


def general_coupling(weight_map: ArrayLike, lmax: int, *, filtered: bool) -> ComplexArray:
    r"""Return the full coupling K_lm,l'm' of a weight map that depends on right ascension, both signs of m.

    .. math:: \tilde a_{\ell m} = \sum_{\ell' m'} K_{\ell m, \ell' m'} a_{\ell' m'}, \qquad
              K_{\ell m, \ell' m'} = \int Y^*_{\ell m}\, w\, Y_{\ell' m'}\, d\Omega

    the coupling of Eq. (26) of AM17, by sums over the pixels of the map.

    Parameters
    ----------
    weight_map : array of float, shape (12 nside^2,)
        Weight w in equatorial coordinates, HEALPix RING ordering. The field of view is where it is above zero.
    lmax : int
        Largest multipole of both indices, at most 20 and at most nside.
    filtered : bool
        True for a map of *relative intensity* from which the unweighted mean of each ring inside the field of view is
        subtracted first, and which is weighted then. With a weight that depends on right ascension this is neither
        the same as dropping the pseudo a_l0 nor as a sky without a_l0: the result has a_l0, and where the field of view
        does not hold whole rings also true multipoles with m' > 0 change. A true a_l0 gives zero in all three.

    Returns
    -------
    array of complex, shape ((lmax + 1)^2, (lmax + 1)^2)
        Dimensionless. Row and column l^2 + l + m for (l, m), -l <= m <= l. A real sky has
        :math:`a_{\ell,-m} = (-1)^m a^*_{\ell m}`.

    Raises
    ------
    ValueError
        If the length of the map is not 12 nside^2, if the weight is negative, not finite or zero everywhere, or if lmax
        is negative, above nside or above 20.

    Notes
    -----
    For a weight of declination alone :math:`K = \delta_{mm'} T^m_{\ell\ell'}` of `band_coupling`, to the accuracy of
    the sums over pixels: for lmax = 6 and a weight of at most one, 7e-4 if it is smooth at nside 32 (1e-4 with the
    filter) and a quarter of it at each doubling; up to 2e-2, 5e-3 and 1e-3 at nside 16, 32 and 64 with a sharp edge,
    which the rings place to half their distance.

    Examples
    --------
    >>> whole = general_coupling(np.ones(12 * 16**2), 1, filtered=False)
    >>> bool(np.allclose(whole, np.eye(4), atol=2e-3))
    True
    """
    weights = _checked_weight(weight_map)
    if weights.ndim != 1 or not hp.isnpixok(weights.size):
        raise ValueError(f"weight map of shape {weights.shape}: expected (12 nside^2,)")
    nside = hp.npix2nside(weights.size)
    if _multipole(lmax) > min(nside, LMAX_GENERAL):
        raise ValueError(
            f"lmax {lmax}: expected at most {LMAX_GENERAL} and at most nside = {nside}; the matrix has (lmax + 1)^4 "
            "entries. Use band_coupling for higher multipoles, if the weight depends on declination alone"
        )
    orders = np.arange(-lmax, lmax + 1)
    start, count, cosine, _, shifted = hp.ringinfo(nside, np.arange(1, 4 * nside))
    # Fourier sums over each ring, at the differences m - m' for the weight and at m' for the field of view.
    weight_sums = np.zeros((count.size, 4 * lmax + 1), dtype=np.complex128)
    seen_means = np.zeros((count.size, 2 * lmax + 1), dtype=np.complex128)
    for ring, (first, n) in enumerate(zip(start, count, strict=True)):
        values = weights[first : first + n]
        phase = np.pi / n if shifted[ring] else 0.0
        weight_sums[ring] = _fourier(values, phase, np.arange(-2 * lmax, 2 * lmax + 1))
        if filtered and np.any(values > 0.0):
            seen_means[ring] = _fourier((values > 0.0) / np.count_nonzero(values), phase, -orders)
    weight_sums *= 4.0 * np.pi / weights.size
    legendre = _legendre(lmax, np.arccos(cosine))
    # lambda_l,-m = (-1)^m lambda_lm
    functions = [legendre[abs(m), abs(m) :] * (-1.0 if m < 0 and m % 2 else 1.0) for m in orders]
    ells = [np.arange(abs(m), lmax + 1) for m in orders]
    coupling = np.zeros(((lmax + 1) ** 2, (lmax + 1) ** 2), dtype=np.complex128)
    for i, m in enumerate(orders):
        of_weight = weight_sums[:, 2 * lmax + m - orders] - weight_sums[:, 2 * lmax + m, None] * seen_means
        for j, m_in in enumerate(orders):
            rows, columns = ells[i] * (ells[i] + 1) + m, ells[j] * (ells[j] + 1) + m_in
            coupling[np.ix_(rows, columns)] = (functions[i] * of_weight[:, j]) @ functions[j].T
    return coupling


@dataclass(frozen=True)
class TruncatedInversion:
    """Estimator of true a_lm from those of a cut sky that takes multipoles above a limit for absent.

    Attributes
    ----------
    lmax_inverted : int
        The truncation L: multipoles l <= L are solved for. It belongs beside every result.
    inverse : array of float, shape (L + 1, L + 1, L + 1)
        Indices (m, l, l_pseudo). The estimate is ``inverse[m] @ pseudo[: L + 1]`` for each m from 1 to L. Zero for
        m = 0, which is not inverted.
    cross_talk : array of float, shape (L + 1, L + 1, l_in)
        Indices (m, l, l'): response of the estimate to each true a_l'm. The identity for l' <= L; beyond it, the bias
        that each true a_l'm causes. Zero for m = 0.
    condition : array of float, shape (L + 1,)
        Condition number of T^m on m <= l <= L; infinite for m = 0.
    """

    lmax_inverted: int
    inverse: FloatArray
    cross_talk: FloatArray
    condition: FloatArray


def truncated_inversion(
    coupling: FloatArray, lmax_inverted: int, *, largest_condition: float = 1e3
) -> TruncatedInversion:
    r"""Return the inversion of T^m for m != 0 on multipoles up to a limit L, and its cross-talk from beyond.

    .. math:: \hat a_{\ell m} = \sum_{\ell_1 \le L} \left[(T^m_{\le L})^{-1}\right]_{\ell\ell_1} \tilde a_{\ell_1 m}
              = a_{\ell m} + \sum_{\ell' > L} X^m_{\ell\ell'} a_{\ell' m}

    Eqs. (26) to (28) of AM17 for L = 1, where the inverse is one over `dipole_inversion_factor`; any L here. The
    estimate is unbiased only if the true sky has no multipoles above L. A polar cap sees a dipole and a quadrupole
    as nearly the same thing, and the cross-talk is of order one: it must be judged with the result. For declinations
    below -25 deg and the powers of the 10 TeV map of HAWC and IceCube, l = 2 to 4 shift a_11 by half the root mean
    square of its own size at L = 1, and a larger L makes it worse; for -26 to 64 deg it is a ninth.

    Parameters
    ----------
    coupling : array of float, shape (m, l_out, l_in)
        T^m of `band_coupling` or `ring_coupling`; cross-talk is given for all its l_in.
    lmax_inverted : int
        L, at least 1 and at most the last l_out and l_in.
    largest_condition : float
        Refuse matrices with a larger condition number, which bounds how far errors of the pseudo a_lm grow relative to
        the result.

    Raises
    ------
    ValueError
        If the coupling has not three axes or does not reach lmax_inverted, or lmax_inverted is below 1.
    ObsfitError
        If a condition number is above `largest_condition`; the message gives it.

    Examples
    --------
    >>> cap = band_coupling(-90 * u.deg, -25 * u.deg, 4, filtered=True)
    >>> truncated_inversion(cap, 1).cross_talk[1, 1].round(2)
    array([ 0.  ,  1.  , -1.4 ,  0.99, -0.14])
    """
    _check_coupling(coupling)
    reach = min(coupling.shape) - 1
    if not 1 <= lmax_inverted <= reach:
        raise ValueError(f"lmax_inverted {lmax_inverted}: expected 1 to {reach}, the reach of the coupling")
    size = lmax_inverted + 1
    inverse = np.zeros((size, size, size))
    cross_talk = np.zeros((size, size, coupling.shape[2]))
    condition = np.full(size, np.inf)
    for m in range(1, size):
        block = coupling[m, m:size, m:size]
        condition[m] = np.linalg.cond(block)
        if not condition[m] <= largest_condition:
            raise ObsfitError(
                f"T^m on l <= {lmax_inverted} for m = {m} has condition number {condition[m]:.3g}",
                expected=f"at most {largest_condition:g}",
                remedy="The field of view does not tell these multipoles apart: truncate at a lower multipole, "
                "or fold a model with the coupling instead of inverting it.",
            )
        inverse[m, m:, m:] = np.linalg.inv(block)
        cross_talk[m] = inverse[m] @ coupling[m, :size]
    return TruncatedInversion(lmax_inverted, inverse, cross_talk, condition)


def _ring_sum(colatitude: FloatArray, measure: FloatArray, lmax_out: int, lmax: int, filtered: bool) -> FloatArray:
    """T^m by quadrature: `measure` is the weight times the extent in sin(dec) of each node."""
    last = min(lmax_out, lmax)
    functions = _legendre(max(lmax_out, lmax), colatitude)
    matrices = np.zeros((last + 1, lmax_out + 1, lmax + 1))
    for m in range(1 if filtered else 0, last + 1):
        left, right = functions[m, m : lmax_out + 1], functions[m, m : lmax + 1]
        matrices[m, m:, m:] = 2.0 * np.pi * (left * measure) @ right.T
    return matrices


def _legendre(lmax: int, colatitude: FloatArray) -> FloatArray:
    """Return the normalised Legendre functions lambda_lm, shape (m, l, n), zero for l < m, by recurrence in l."""
    cosine, sine = np.cos(colatitude), np.sin(colatitude)
    functions = np.zeros((lmax + 1, lmax + 1, colatitude.size))
    functions[0, 0] = np.sqrt(0.25 / np.pi)
    for ell in range(1, lmax + 1):
        functions[ell, ell] = -np.sqrt(1.0 + 0.5 / ell) * sine * functions[ell - 1, ell - 1]
        square = np.arange(ell)[:, None] ** 2
        ahead = np.sqrt((4.0 * ell**2 - 1.0) / (ell**2 - square))
        functions[:ell, ell] = ahead * cosine * functions[:ell, ell - 1]
        if ell > 1:
            behind = np.sqrt(((ell - 1) ** 2 - square) / (4.0 * (ell - 1) ** 2 - 1.0))
            functions[:ell, ell] -= ahead * behind * functions[:ell, ell - 2]
    return functions


def _fourier(values: FloatArray, phase: float, orders: NDArray[np.int64]) -> ComplexArray:
    """Sum of values times exp(-i order alpha) over the pixels of a ring, whose first is at alpha = phase."""
    transform = np.fft.fft(values)
    return np.asarray(transform[orders % values.size] * np.exp(-1j * orders * phase), dtype=np.complex128)


def _checked_weight(weight: ArrayLike) -> FloatArray:
    values = np.asarray(weight, dtype=np.float64)
    if not np.all(np.isfinite(values)) or np.any(values < 0.0) or not np.any(values > 0.0):
        raise ValueError(
            f"weight between {values.min()} and {values.max()} in the band: "
            "expected finite values, none negative, not all zero"
        )
    return values


def _check_coupling(coupling: FloatArray) -> None:
    if coupling.ndim != 3:
        raise ValueError(f"coupling of shape {coupling.shape}: expected the axes (m, l_out, l_in)")


def _multipole(ell: int) -> int:
    if ell < 0:
        raise ValueError(f"multipole {ell}: expected 0 or more")
    return ell


def _band(dec_min: u.Quantity, dec_max: u.Quantity) -> tuple[float, float]:
    low, high = float(dec_min.to_value(u.rad)), float(dec_max.to_value(u.rad))
    if not -np.pi / 2 <= low < high <= np.pi / 2:
        raise ValueError(
            f"declination band {dec_min} to {dec_max}: expected -90 deg <= dec_min < dec_max <= 90 deg"
        )
    return low, high
