"""From pseudo-powers to powers of the sky: inversion of the coupling, in bins, where the field of view allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ObsfitError
from obsfit.records.spectrum import PowerSpectrum

FloatArray = NDArray[np.float64]
Bins = Sequence[tuple[int, int]]

LARGEST_CONDITION = 100.0
"""Default limit of the condition number, which bounds how far relative errors may grow."""


@dataclass(frozen=True)
class DecoupledSpectrum:
    r"""Powers of the sky in bins of l, and what each of them really measures.

    Attributes
    ----------
    ell_low, ell_high : ndarray of int, shape (n_bin,)
        First and last multipole of each bin.
    c_ell : ndarray, shape (n_bin,)
        Estimated power after subtraction of the noise; may be negative.
    noise : ndarray, shape (n_bin,)
        The noise that was subtracted, inverted alike.
    window : ndarray, shape (n_bin, l_in)
        Bandpower windows, from l = 0: the mean of `c_ell` over isotropic skies is exactly ``window @ C``, also where
        the true spectrum is not flat in the bins. Fold a model with them.
    covariance : ndarray, shape (n_bin, n_bin), or None
        Covariance of `c_ell`, if that of the pseudo-powers was given.
    condition : float
        Condition number of the matrix that was inverted.
    """

    ell_low: NDArray[np.int64]
    ell_high: NDArray[np.int64]
    c_ell: FloatArray
    noise: FloatArray
    window: FloatArray
    covariance: FloatArray | None
    condition: float

    @property
    def ell(self) -> FloatArray:
        """Middles of the bins, shape (n_bin,)."""
        return np.asarray(0.5 * (self.ell_low + self.ell_high), dtype=np.float64)


def equal_bins(ell_min: int, ell_max: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return bins (first, last) of `width` multipoles from `ell_min`; a rest that fills none is left out.

    Examples
    --------
    >>> equal_bins(1, 10, 3)
    ((1, 3), (4, 6), (7, 9))
    """
    if not (1 <= ell_min <= ell_max and width >= 1 and ell_min + width - 1 <= ell_max):
        raise ValueError(
            f"bins of {width} between {ell_min} and {ell_max}: expected 1 <= ell_min, and at least one whole bin"
        )
    return tuple((low, low + width - 1) for low in range(ell_min, ell_max - width + 2, width))


def condition_number(power_matrix: ArrayLike, bins: Bins) -> float:
    """Return the condition number of M in bins, infinite if it is singular; see `decouple`.

    Parameters
    ----------
    power_matrix : array_like, shape (l_out, l_in)
        M of `obsfit.sky.coupling.power_coupling`.
    bins : sequence of (int, int)
        First and last multipole of each bin.
    """
    matrix = np.asarray(power_matrix, dtype=np.float64)
    average, spread = _bins(bins, matrix)
    value = float(np.linalg.cond(average @ matrix @ spread))
    return value if np.isfinite(value) else float("inf")


def decouple(
    spectrum: PowerSpectrum,
    power_matrix: ArrayLike,
    *,
    bins: Bins | None = None,
    covariance: ArrayLike | None = None,
    subtract_noise: bool = True,
    largest_condition: float = LARGEST_CONDITION,
) -> DecoupledSpectrum:
    r"""Return powers of the sky from the pseudo-spectrum of a cut one.

    .. math:: \hat C_b = \sum_{b'} K^{-1}_{bb'} \sum_\ell P_{b'\ell} (\tilde C_\ell - N_\ell), \qquad
              K = P M Q,

    with averages P over the multipoles of a bin and Q that gives all of them the power of the bin (Hivon et al. 2002).
    With bins of one multipole this is the inverse of Eq. (30) of AM17. It is right on average over isotropic skies
    whose power is flat within bins; for others the `window` of the result says what was measured.

    Parameters
    ----------
    spectrum : PowerSpectrum
        Of kind "pseudo", with l from 1 on without gaps.
    power_matrix : array_like, shape (l_out, l_in)
        M of `power_coupling` for the weight and the filter of the spectrum, from l = 0. Columns beyond the last bin
        are what leaks in from smaller scales; only the windows know of them.
    bins : sequence of (int, int), optional
        First and last multipole of each bin, in order, without overlap. Default: one bin for each multipole.
    covariance : array_like, shape (n, n), optional
        Of the pseudo-powers of the spectrum, see `obsfit.spectra.covariance`.
    subtract_noise : bool
        Whether to subtract the noise of the spectrum.
    largest_condition : float
        Refuse a matrix K of a larger condition number.

    Raises
    ------
    ObsfitError
        If the matrix is ill-conditioned: a polar cap holds no pairs of directions wider than its diameter, and single
        multipoles cannot be told apart. If the noise is to be subtracted and unknown, or the spectrum is not a
        pseudo-spectrum or has gaps.
    ValueError
        If the bins overlap or leave the matrix or the spectrum.

    Examples
    --------
    >>> import astropy.units as u
    >>> from obsfit.sky.coupling import band_coupling, power_coupling
    >>> cap = power_coupling(band_coupling(-90 * u.deg, -25 * u.deg, 30, filtered=True))
    >>> condition_number(cap, equal_bins(1, 30, 1)) > 1e12
    True
    >>> condition_number(cap, equal_bins(1, 30, 3)) < 4
    True
    """
    if spectrum.kind != "pseudo":
        raise ObsfitError(
            f"{spectrum.measurement}: kind {spectrum.kind!r}",
            expected="a pseudo-spectrum; a nearly full sky needs no decoupling",
        )
    if not np.array_equal(spectrum.ell, np.arange(1, len(spectrum) + 1)):
        raise ObsfitError(
            f"{spectrum.measurement}: multipoles {spectrum.ell.tolist()}",
            expected="l = 1, 2, 3, ... without gaps",
            remedy="Every multipole of the spectrum takes part in every result.",
        )
    if subtract_noise and not np.all(np.isfinite(spectrum.noise)):
        raise ObsfitError(
            f"{spectrum.measurement}: the noise is not in the record",
            expected="a column noise",
            remedy="Give counts to pseudo_spectrum, or pass subtract_noise=False.",
        )
    matrix = np.asarray(power_matrix, dtype=np.float64)
    chosen = [(int(ell), int(ell)) for ell in spectrum.ell] if bins is None else list(bins)
    average, spread = _bins(chosen, matrix)
    if chosen[-1][1] > spectrum.ell[-1]:
        raise ValueError(f"bins up to l = {chosen[-1][1]}: the spectrum ends at {spectrum.ell[-1]}")
    condition = condition_number(matrix, chosen)
    if not condition <= largest_condition:
        raise ObsfitError(
            f"{spectrum.measurement}: the coupling in {len(chosen)} bins has condition number {condition:.3g}",
            expected=f"at most {largest_condition:g}",
            remedy="The field of view does not tell these multipoles apart: take wider bins (three multipoles are "
            "enough for a polar cap of 65 degrees), or fold the model with the coupling instead of inverting it.",
        )
    inverse = np.linalg.solve(average @ matrix @ spread, average)
    # From the multipoles of the record, which start at l = 1.
    estimator = inverse[:, 1 : len(spectrum) + 1]
    noise = estimator @ spectrum.noise if subtract_noise else np.zeros(len(chosen))
    if covariance is not None:
        covariance = estimator @ np.asarray(covariance, dtype=np.float64) @ estimator.T
    edges = np.array(chosen, dtype=np.int64)
    return DecoupledSpectrum(
        edges[:, 0],
        edges[:, 1],
        estimator @ spectrum.c_ell - noise,
        noise,
        inverse @ matrix,
        covariance,
        condition,
    )


def _bins(bins: Bins, matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Average over bins, shape (n_bin, l_out), and its inverse on flat bins, shape (l_in, n_bin)."""
    if matrix.ndim != 2:
        raise ValueError(f"power_matrix of shape {matrix.shape}: expected (l_out, l_in)")
    average, spread = np.zeros((len(bins), matrix.shape[0])), np.zeros((matrix.shape[1], len(bins)))
    before = 0
    for place, (low, high) in enumerate(bins):
        if not before < low <= high < min(matrix.shape):
            raise ValueError(
                f"bin {low} to {high}: expected bins in order, without overlap, from 1 to {min(matrix.shape) - 1}, "
                "the reach of the matrix"
            )
        average[place, low : high + 1] = 1.0 / (high - low + 1)
        spread[low : high + 1, place] = 1.0
        before = high
    if not bins:
        raise ValueError("bins: expected at least one")
    return average, spread
