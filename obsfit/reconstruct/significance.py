"""Significance of structures in a map of counts, against no anisotropy or against low multipoles alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray
from scipy.special import sph_harm_y
from scipy.stats import norm

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct._disc_kernels import disc_share, disc_sums, prefix_sums
from obsfit.reconstruct.healpix_output import calibrated_on_rings
from obsfit.records.count_map import CountMap
from obsfit.sky.ring_means import subtract_ring_means
from obsfit.sky.smoothing import gaussian_window
from obsfit.statistics.li_ma import li_ma_significance, poisson_significance
from obsfit.statistics.trials import GlobalProbability, global_probability, sidak_probability

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

LARGEST_CONDITION = 1e8
_NOTHING_LEFT = 1e-3
"""A disc that fills its rings, or is explained by the null hypothesis, but for this part of its variance: S is zero."""


@dataclass(frozen=True)
class TopHat:
    """Sums over discs.

    Attributes
    ----------
    radius_rad : float
        Radius of the disc; 10 degrees in the maps of HAWC and IceCube.
    """

    radius_rad: float

    def __post_init__(self) -> None:
        _check_angle(self.radius_rad)

    @classmethod
    def of(cls, radius: u.Quantity) -> TopHat:
        """Return the disc of a radius given as a Quantity."""
        return cls(float(radius.to_value(u.rad)))

    @property
    def disc_radius_rad(self) -> float:
        """Radius of the disc of the same effective solid angle."""
        return self.radius_rad

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sums over the disc about each pixel, shape (12 nside^2,)."""
        rings = _rings(values.size)
        wanted = np.ones(values.size, dtype=np.bool_)
        return np.asarray(disc_sums(prefix_sums(values, *rings[:2]), wanted, *rings, np.cos(self.radius_rad)))

    def squares(self, values: FloatArray) -> FloatArray:
        """Return the sums weighted with the squared kernel: those of `sums`."""
        return self.sums(values)


@dataclass(frozen=True)
class Gaussian:
    r"""Sums weighted by a Gaussian of the distance, one at its centre.

    Attributes
    ----------
    sigma_rad : float
        Standard deviation for each of the two axes, at least the size of a pixel.
    """

    sigma_rad: float

    def __post_init__(self) -> None:
        _check_angle(self.sigma_rad)

    @classmethod
    def of(cls, sigma: u.Quantity) -> Gaussian:
        """Return the Gaussian of a standard deviation given as a Quantity."""
        return cls(float(sigma.to_value(u.rad)))

    @property
    def disc_radius_rad(self) -> float:
        """Radius of the disc of the same effective solid angle, :math:`4\\pi\\sigma^2`: twice sigma."""
        return min(2.0 * self.sigma_rad, np.pi)

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the weighted sums about each pixel, shape (12 nside^2,)."""
        return self._convolved(values, self.sigma_rad)

    def squares(self, values: FloatArray) -> FloatArray:
        """Return the sums weighted with the squared kernel, whose standard deviation is sigma / sqrt(2)."""
        return self._convolved(values, self.sigma_rad / np.sqrt(2.0))

    def _convolved(self, values: FloatArray, sigma: float) -> FloatArray:
        nside = hp.npix2nside(values.size)
        if self.sigma_rad < hp.nside2resol(nside):
            raise ConfigurationError(
                f"a Gaussian of {np.degrees(self.sigma_rad):.3g} deg on pixels of "
                f"{np.degrees(hp.nside2resol(nside)):.3g} deg",
                expected="a standard deviation of at least one pixel",
            )
        lmax = 3 * nside - 1
        window = gaussian_window(sigma * u.rad, lmax)
        # The kernel of that window is this high at its centre, and sums have kernels of height one.
        height = float(np.sum((2.0 * np.arange(lmax + 1) + 1.0) * window)) / (4.0 * np.pi)
        alm = hp.almxfl(hp.map2alm(values, lmax=lmax, iter=0), window)
        smooth = hp.alm2map(alm, nside, lmax=lmax)
        return np.asarray(smooth / (height * hp.nside2pixarea(nside)), dtype=np.float64)


Smoothing = TopHat | Gaussian


@dataclass(frozen=True)
class SignificanceMap:
    """Significance of the excess about each pixel.

    Attributes
    ----------
    significance : ndarray, shape (12 nside^2,)
        Gaussian standard deviations, one place looked at, negative for deficits; NaN outside the field of view.
    relative_excess : ndarray, shape (12 nside^2,)
        Smoothed relative intensity over that of the null hypothesis, minus one.
    on : ndarray, shape (12 nside^2,)
        Smoothed counts, as effective numbers of events.
    background : ndarray, shape (12 nside^2,)
        The same of the null hypothesis.
    null_alm : ndarray of complex, shape (n_alm,)
        Multipoles of the null hypothesis in healpy order, fitted to the same map; zero for null_lmax 0.
    null_lmax : int
        Largest multipole of the null hypothesis: 0 for no anisotropy.
    smoothing : TopHat or Gaussian
        What was summed.
    """

    significance: FloatArray
    relative_excess: FloatArray
    on: FloatArray
    background: FloatArray
    null_alm: ComplexArray
    null_lmax: int
    smoothing: Smoothing


@dataclass(frozen=True)
class Search:
    """The most significant place of a search, and how often chance does as well.

    Attributes
    ----------
    significance : float
        Largest local significance; in absolute value if deficits count.
    right_ascension_rad, dec_rad : float
        Where.
    smoothing : TopHat or Gaussian
        The smoothing that found it.
    p_local : float
        Chance at one place, of Gaussian tails.
    p_bound : float
        Upper bound of the chance anywhere, from the number of pixels and smoothings, `sidak_probability`.
    p_global : GlobalProbability
        Chance anywhere, by toys.
    toys : ndarray, shape (n_toys,)
        Largest significance of each toy.
    """

    significance: float
    right_ascension_rad: float
    dec_rad: float
    smoothing: Smoothing
    p_local: float
    p_bound: float
    p_global: GlobalProbability
    toys: FloatArray


def significance_map(
    count_map: CountMap, *, smoothing: Smoothing, null_lmax: int = 0, alpha: float | None = None
) -> SignificanceMap:
    r"""Return the significance of each place of a map of counts.

    Parameters
    ----------
    count_map : CountMap
        Counts, and as background what an isotropic sky would have given.
    smoothing : TopHat or Gaussian
        Counts are summed, not averaged: a sum of Poisson counts is one. Sums with unequal weights or kernels stand for
        an effective number of events, of the same relative variance.
    null_lmax : int
        0 tests against no anisotropy. 1 tests against a dipole, L against multipoles up to L, fitted to the same map
        without m = 0 and by least squares (`low_multipoles`): what is found is structure beyond them.
    alpha : float, optional
        Error of the background. Default: it is calibrated by the rings that a disc lies in, as in every map here, and
        knows them as well as their counts outside the disc say: with f the share of its rings that a disc takes,
        Li and Ma's significance for an off region of the rest and :math:`\alpha = f/(1-f)`. 0: the background is exact.
        A positive number: it is the sum of resampled events scaled by alpha.

    Returns
    -------
    SignificanceMap

    Raises
    ------
    ConfigurationError
        If alpha or null_lmax is negative, or the smoothing is finer than the pixels.
    ObsfitError
        If the map cannot tell the multipoles of the null hypothesis apart.

    Notes
    -----
    For a disc on several rings f is the mean of the shares weighted with the events of the disc, which gives
    :math:`n_{on} - b` its variance. For a Gaussian it is that of the disc of the same effective solid angle.

    A fitted null hypothesis takes up some of the noise, and some of any structure. With the normal matrix F of the fit,
    and t the sums of the expected counts times its templates, it is the part
    :math:`t^T F^{-1} t / [(1-f) \sum k^2 n]` of the variance, and the significance is divided by the root of what is
    left, so that isotropic skies have unit variance. Where almost nothing is left, a disc as wide as the multipoles
    themselves, there is nothing to be found.
    """
    counted = _Counted.of(count_map)
    return _evaluated(counted, _Geometry.of(counted, smoothing, null_lmax, alpha))


def low_multipoles(count_map: CountMap, lmax: int) -> ComplexArray:
    r"""Return a_lm with m > 0 up to lmax in healpy order, fitted to a map of counts; those with m = 0 are zero.

    Least squares of the relative intensity with the expected counts as weights. The mean of each ring inside the field
    of view is taken from map and multipoles alike. Multipoles above lmax leak into the result: it is the null
    hypothesis of `significance_map`, not a measurement.

    Parameters
    ----------
    count_map : CountMap
        The map.
    lmax : int
        Largest multipole; 0 returns a single zero.

    Raises
    ------
    ObsfitError
        If the normal matrix has a condition number above 1e8.
    """
    counted = _Counted.of(count_map)
    return _fitted(counted, *_templates(counted, lmax), lmax)


def search(
    count_map: CountMap,
    *,
    smoothings: Sequence[Smoothing],
    null_lmax: int = 0,
    alpha: float | None = None,
    deficits: bool = False,
    n_toys: int,
    rng: np.random.Generator,
) -> Search:
    """Return the most significant place of a map, with the look-elsewhere effect by toys.

    Parameters
    ----------
    count_map : CountMap
        The map.
    smoothings : sequence of TopHat or Gaussian
        All that were tried.
    null_lmax, alpha
        As for `significance_map`.
    deficits : bool
        Whether a deficit counts as much as an excess.
    n_toys : int
        Number of toys. The smallest probability that they can give is 1 / (n_toys + 1).
    rng : numpy.random.Generator
        Source of the draws.

    Raises
    ------
    ConfigurationError
        If there is no smoothing or no toy.
    """
    if not smoothings or n_toys < 1:
        raise ConfigurationError(
            f"{len(smoothings)} smoothings and {n_toys} toys", expected="at least one of each"
        )
    found = [
        _largest(significance_map(count_map, smoothing=s, null_lmax=null_lmax, alpha=alpha), deficits)
        for s in smoothings
    ]
    best = int(np.argmax([value for value, _ in found]))
    value, pixel = found[best]
    toys = maximum_toys(
        count_map,
        smoothings=smoothings,
        null_lmax=null_lmax,
        alpha=alpha,
        deficits=deficits,
        n_toys=n_toys,
        rng=rng,
    )
    p_local = float(norm.sf(value)) * (2.0 if deficits else 1.0)
    colatitude, right_ascension = hp.pix2ang(count_map.nside, pixel)
    n_places = len(smoothings) * int(np.count_nonzero(np.isfinite(count_map.background)))
    return Search(
        value,
        float(right_ascension),
        float(0.5 * np.pi - colatitude),
        smoothings[best],
        p_local,
        float(sidak_probability(min(p_local, 1.0), n_places)),
        global_probability(value, toys),
        toys,
    )


def maximum_toys(
    count_map: CountMap,
    *,
    smoothings: Sequence[Smoothing],
    null_lmax: int = 0,
    alpha: float | None = None,
    deficits: bool = False,
    n_toys: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the largest significance of each of n_toys maps of the null hypothesis, shape (n_toys,).

    A toy has Poisson counts of the null hypothesis as fitted to the data, and goes through all of the search: rings
    are calibrated on it, its own multipoles are fitted, and the largest value over all places and smoothings is kept.
    With a positive alpha its background fluctuates as a sum of resampled events does. Weighted events are drawn as
    their effective number, with the mean weight of each pixel, or of the map where a pixel has no event.

    Parameters
    ----------
    count_map, smoothings, null_lmax, alpha, deficits, n_toys, rng
        As for `search`.
    """
    counted = _Counted.of(count_map)
    seen = counted.seen
    weight = np.ones(seen.size)
    if counted.squares is not None:
        mean = counted.squares.sum() / counted.expected.sum()
        weight = np.divide(
            counted.squares, counted.expected, out=np.full(seen.size, mean), where=seen & (counted.squares > 0.0)
        )
    geometries = [_Geometry.of(counted, s, null_lmax, alpha) for s in smoothings]
    isotropic = counted.expected / weight
    null = isotropic
    if null_lmax:
        anisotropy = hp.alm2map(low_multipoles(count_map, null_lmax), counted.nside, lmax=null_lmax)
        null = isotropic * np.maximum(1.0 + anisotropy, 0.0)
    maxima = np.zeros(n_toys)
    for toy in range(n_toys):
        counts = weight * rng.poisson(null)
        expected = weight * (isotropic if not alpha else alpha * rng.poisson(isotropic / alpha))
        if alpha is None:
            expected = calibrated_on_rings(counts, expected)
        drawn = _Counted(counts, expected, None if counted.squares is None else weight * counts)
        maxima[toy] = max(_largest(_evaluated(drawn, geometry), deficits)[0] for geometry in geometries)
    return maxima


@dataclass(frozen=True)
class _Counted:
    """The planes of a `CountMap`, zero outside the field of view."""

    counts: FloatArray
    expected: FloatArray
    squares: FloatArray | None

    @classmethod
    def of(cls, count_map: CountMap) -> _Counted:
        squares = count_map.squared_weights
        found = cls(
            np.nan_to_num(count_map.counts),
            np.nan_to_num(count_map.background),
            None if squares is None else np.nan_to_num(squares),
        )
        if not np.any(found.seen):
            raise ObsfitError("the map has no exposure anywhere", expected="a field of view")
        return found

    @property
    def nside(self) -> int:
        return int(hp.npix2nside(self.counts.size))

    @property
    def seen(self) -> NDArray[np.bool_]:
        return np.asarray(self.expected > 0.0, dtype=np.bool_)


@dataclass(frozen=True)
class _Geometry:
    """What a significance needs beside the counts, the same for a map and its toys."""

    smoothing: Smoothing
    null_lmax: int
    alpha: float | None
    share: FloatArray
    """Part of its rings that a disc takes, zero where the background does not come from them."""
    kept: FloatArray
    """Part of the variance that the fitted null hypothesis leaves."""
    design: FloatArray
    """Templates of the null hypothesis, shape (n, npix)."""
    places: list[int]
    """Place of their a_lm in healpy order, one for each two templates."""

    @classmethod
    def of(cls, counted: _Counted, smoothing: Smoothing, null_lmax: int, alpha: float | None) -> _Geometry:
        if null_lmax < 0:
            raise ConfigurationError(f"null_lmax {null_lmax}", expected="0 or a positive multipole")
        if alpha is not None and not 0.0 <= alpha < np.inf:
            raise ConfigurationError(f"alpha {alpha}", expected="None, 0 or a positive number")
        seen = counted.seen
        share = _ring_share(counted, smoothing) if alpha is None else np.zeros(seen.size)
        kept = np.ones(seen.size)
        design, places = _templates(counted, null_lmax)
        if null_lmax:
            inverse = np.linalg.inv(_normal_matrix(counted, design, null_lmax))
            sums = np.array([smoothing.sums(counted.expected * template) for template in design])
            variance = (1.0 - share) * smoothing.squares(counted.expected)
            taken = np.sum(sums * (inverse @ sums), axis=0)
            kept -= np.divide(taken, variance, out=np.ones(seen.size), where=seen & (share < 1.0 - _NOTHING_LEFT))
        return cls(smoothing, null_lmax, alpha, share, kept, design, places)


def _evaluated(counted: _Counted, geometry: _Geometry) -> SignificanceMap:
    smoothing, null_lmax, alpha = geometry.smoothing, geometry.null_lmax, geometry.alpha
    seen = counted.seen
    null_alm = _fitted(counted, geometry.design, geometry.places, null_lmax)
    null = counted.expected
    if null_lmax:
        null = null * (1.0 + hp.alm2map(null_alm, counted.nside, lmax=null_lmax))
    squares = null if counted.squares is None else counted.squares
    background = np.where(seen, smoothing.sums(null), 1.0)
    # The difference is smoothed by itself: no accuracy of transforms is lost to its small size.
    excess = np.where(seen, smoothing.sums(np.where(seen, counted.counts, 0.0) - null), 0.0)
    effective = background / np.where(seen, smoothing.squares(squares), 1.0)
    on, expected = np.maximum(background + excess, 0.0) * effective, background * effective
    if alpha == 0.0:
        value = poisson_significance(on, expected)
    elif alpha is not None:
        value = li_ma_significance(on, expected / alpha, alpha)
    else:
        value = _ring_calibrated(on, expected, geometry.share)
    left = geometry.kept > _NOTHING_LEFT
    value = np.where(left, value / np.sqrt(np.where(left, geometry.kept, 1.0)), 0.0)
    outside = np.where(seen, 0.0, np.nan)
    return SignificanceMap(
        value + outside,
        excess / background + outside,
        on + outside,
        expected + outside,
        null_alm,
        null_lmax,
        smoothing,
    )


def _templates(counted: _Counted, lmax: int) -> tuple[FloatArray, list[int]]:
    """Maps of Re and -Im of each 2 Y_lm, m > 0, without ring means, shape (2 n, npix), and the place of each a_lm."""
    seen = counted.seen
    colatitude, right_ascension = hp.pix2ang(counted.nside, np.arange(seen.size))
    rows, places = [], []
    for m in range(1, lmax + 1):
        for ell in range(m, lmax + 1):
            harmonic = 2.0 * sph_harm_y(ell, m, colatitude, right_ascension)
            rows += [subtract_ring_means(harmonic.real, seen), subtract_ring_means(-harmonic.imag, seen)]
            places.append(int(hp.Alm.getidx(lmax, ell, m)))
    return np.array(rows).reshape(-1, seen.size), places


def _fitted(counted: _Counted, design: FloatArray, places: list[int], lmax: int) -> ComplexArray:
    alm = np.zeros(hp.Alm.getsize(lmax), dtype=np.complex128)
    if places:
        seen = counted.seen
        delta_i = np.divide(counted.counts, counted.expected, out=np.zeros(seen.size), where=seen)
        normal = _normal_matrix(counted, design, lmax)
        solution = np.linalg.solve(normal, design @ (counted.expected * subtract_ring_means(delta_i, seen)))
        alm[places] = solution[::2] + 1j * solution[1::2]
    return alm


def _normal_matrix(counted: _Counted, design: FloatArray, lmax: int) -> FloatArray:
    normal = (design * counted.expected) @ design.T
    condition = float(np.linalg.cond(normal))
    if not condition <= LARGEST_CONDITION:
        raise ObsfitError(
            f"the multipoles up to l = {lmax} have a normal matrix of condition number {condition:.3g}",
            expected=f"at most {LARGEST_CONDITION:g}",
            remedy="The field of view does not tell them apart: take a smaller null_lmax.",
        )
    return np.asarray(normal, dtype=np.float64)


def _largest(found: SignificanceMap, deficits: bool) -> tuple[float, int]:
    values = np.abs(found.significance) if deficits else found.significance
    pixel = int(np.nanargmax(values))
    return float(values[pixel]), pixel


def _ring_calibrated(on: FloatArray, expected: FloatArray, share: FloatArray) -> FloatArray:
    """Significance against the rest of the rings, which with the disc make up expected / share."""
    apart = share < 1.0 - _NOTHING_LEFT
    part = np.where(apart, np.maximum(share, np.finfo(np.float64).tiny), 0.5)
    rest = np.maximum(expected / part - on, 0.0)
    return np.where(apart, li_ma_significance(on, rest, part / (1.0 - part)), 0.0)


def _ring_share(counted: _Counted, smoothing: Smoothing) -> FloatArray:
    """Mean share that the disc about each pixel takes of its rings, weighted with its events."""
    rings = _rings(counted.expected.size)
    prefix = prefix_sums(counted.expected, *rings[:2])
    cosine = np.cos(smoothing.disc_radius_rad)
    seen = counted.seen
    events = disc_sums(prefix, seen, *rings, cosine)
    return np.divide(disc_share(prefix, seen, *rings, cosine), events, out=np.ones(seen.size), where=events > 0.0)


def _rings(
    n_pixel: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray, FloatArray, FloatArray]:
    """First pixel, number of pixels, sine and cosine of declination, and shift in pixels of each ring."""
    nside = hp.npix2nside(n_pixel)
    start, count, cosine, sine, shifted = hp.ringinfo(nside, np.arange(1, 4 * nside))
    return start.astype(np.int64), count.astype(np.int64), cosine, sine, np.where(shifted, 0.5, 0.0)


def _check_angle(angle_rad: float) -> None:
    if not 0.0 < angle_rad <= np.pi:
        raise ConfigurationError(f"smoothing of {angle_rad} rad", expected="an angle in (0, pi]")
