"""Operators of pseudo-spectra: the power of a map that was weighted, cut and neither divided nor decoupled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.errors import ObsfitError
from obsfit.operators.operator import EnergyResponse, ObservationOperator, Power
from obsfit.records.spectrum import PowerSpectrum

FloatArray = NDArray[np.float64]
Profile = Callable[[FloatArray], FloatArray]

# How far beyond the last multipole of a cut spectrum its leakage is followed.
BEYOND = 10
NORMALISATIONS = ("mean", "max")


@dataclass(frozen=True)
class DeclinationWindow:
    r"""Declination cut of a map and the weight with which its directions enter the power.

    .. math:: w(\delta) \propto |\sin\delta|^{e} \quad\text{inside the band, zero outside.}

    An observatory at a pole counts :math:`n \propto |\sin\delta|^c` events per solid angle, and analyses weight
    their maps of relative intensity by these counts: then e = c, and the weighted noise variance
    :math:`w^2\sigma^2 \propto w^2 / n` falls as the weight itself.

    Attributes
    ----------
    dec_min_rad, dec_max_rad : float
        Declination band.
    exponent : float
        e of the weight; 0 is a top-hat.
    count_exponent : float or None
        c of the counts; None if the weight is the counts.
    normalisation : str
        "mean": the mean of w over the solid angle of the band is one. "max": its largest value is one.

    Examples
    --------
    >>> window = DeclinationWindow(-np.pi / 2, np.radians(-30), exponent=1.0)
    >>> window.weight(np.array([-1.0, -0.5])).round(4)
    array([1.3333, 0.6667])
    """

    dec_min_rad: float
    dec_max_rad: float
    exponent: float = 0.0
    count_exponent: float | None = None
    normalisation: str = "mean"

    def __post_init__(self) -> None:
        if not -np.pi / 2 <= self.dec_min_rad < self.dec_max_rad <= np.pi / 2:
            raise ValueError(
                f"declination band {self.dec_min_rad} to {self.dec_max_rad} rad: "
                "expected -pi/2 <= dec_min_rad < dec_max_rad <= pi/2"
            )
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation {self.normalisation!r}: expected one of {', '.join(NORMALISATIONS)}")
        exponents = (self.exponent, self.exponent if self.count_exponent is None else self.count_exponent)
        if not np.all(np.isfinite(exponents)):
            raise ValueError(f"exponents {exponents}: expected finite numbers")
        if any(exponents) and self.dec_min_rad < 0.0 < self.dec_max_rad:
            raise ValueError(
                "a power of |sin(dec)| in a band across the equator: expected exponent 0, or a band in one hemisphere"
            )

    @property
    def sin_range(self) -> tuple[float, float]:
        """Sines of the limits of the band."""
        return float(np.sin(self.dec_min_rad)), float(np.sin(self.dec_max_rad))

    @property
    def sky_fraction(self) -> float:
        """Fraction of the sphere inside the band."""
        low, high = self.sin_range
        return 0.5 * (high - low)

    def weight(self, sin_dec: FloatArray) -> FloatArray:
        """Return w at sines of declination inside the band, shape (n,) -> (n,)."""
        power = np.abs(sin_dec) ** self.exponent
        return power / (self._mean(self.exponent) if self.normalisation == "mean" else self._largest())

    def counts(self, sin_dec: FloatArray) -> FloatArray:
        """Return the events per solid angle over their mean in the band, shape (n,) -> (n,)."""
        c = self.exponent if self.count_exponent is None else self.count_exponent
        return np.abs(sin_dec) ** c / self._mean(c)

    def with_exponent(self, exponent: float) -> DeclinationWindow:
        """Return the same band with another exponent."""
        return replace(self, exponent=exponent)

    def _mean(self, exponent: float) -> float:
        """Mean of |s|^e over the band."""
        low, high = self.sin_range
        if exponent == 0.0:
            return 1.0
        nodes, weights = leggauss(64)
        s = 0.5 * (high - low) * nodes + 0.5 * (high + low)
        return float(0.5 * weights @ np.abs(s) ** exponent)

    def _largest(self) -> float:
        low, high = (abs(limit) ** self.exponent for limit in self.sin_range)
        return max(low, high)


def band_noise(window: DeclinationWindow, events: float, lmax: int) -> dict[int, FloatArray]:
    r"""Return the noise of a published band of isotropic skies, m -> covariance (lmax + 1, lmax + 1), m = 0 included.

    .. math:: N^m_{\ell\ell'} = 2\pi \int w^2(s)\, \sigma^2(s)\, \lambda_{\ell m}(s) \lambda_{\ell' m}(s)\, ds,
              \qquad \sigma^2 = 1 / n(s)

    of maps whose counts fluctuate about the expectation n(s) per steradian. The mean of the weighted map over the
    whole sphere is subtracted, which touches l = 0 alone. It is not the noise of the data: see `data_noise`.

    Parameters
    ----------
    window : DeclinationWindow
        Band, weight and profile of the counts.
    events : float
        Number of events inside the band. For counts as weight of mean one, the power is
        :math:`4\pi f_{sky}^2 /` events at every l, Eq. (32) of AM17.
    lmax : int
        Largest multipole.

    Raises
    ------
    ValueError
        If the number of events is not positive.
    """
    noise = _noise(window, events, lmax, first=0)
    noise[0][0, :] = noise[0][:, 0] = 0.0
    return noise


def data_noise(
    window: DeclinationWindow, events: float, lmax: int, *, resamples: float = np.inf
) -> dict[int, FloatArray]:
    r"""Return the noise of a map that calibrates itself, m -> covariance (lmax + 1, lmax + 1), without m = 0.

    The background estimated from the data has the mean of each declination ring in common with them, so that nothing
    is left at m = 0; at other m it adds the shot noise of its own finite resampling:

    .. math:: N^m_{\ell\ell'} = \Big(1 + \frac{1}{n_{resample}}\Big)
              2\pi \int w^2 \sigma^2 \lambda_{\ell m} \lambda_{\ell' m}\, ds, \qquad m \neq 0.

    Parameters
    ----------
    window : DeclinationWindow
        Band, weight and profile of the counts.
    events : float
        Number of events inside the band.
    lmax : int
        Largest multipole.
    resamples : float
        Number of scrambled copies of each event in the background.

    Raises
    ------
    ValueError
        If the number of events or of resamples is not positive.
    """
    if not resamples > 0:
        raise ValueError(f"resamples {resamples}: expected a positive number, inf for an exact background")
    noise = _noise(window, events, lmax, first=1)
    return {m: (1.0 + 1.0 / resamples) * matrix for m, matrix in noise.items()}


def pseudo_operator(
    record: PowerSpectrum,
    window: DeclinationWindow | None = None,
    *,
    events: float | None = None,
    resamples: float = np.inf,
    lmax: int | None = None,
) -> ObservationOperator:
    r"""Return the operator of a pseudo-spectrum: ring-mean filter, declination cut and weight, coupling, noise.

    .. math:: \tilde a_{\ell m} = \sum_{\ell'} T^m_{\ell\ell'} a_{\ell' m} + n_{\ell m} \quad (m \neq 0), \qquad
              \tilde C_\ell = \frac{1}{2\ell+1} \sum_m |\tilde a_{\ell m}|^2

    Parameters
    ----------
    record : PowerSpectrum
        Of kind "pseudo".
    window : DeclinationWindow, optional
        Cut and weight; default the band of the record and a top-hat.
    events : float, optional
        Events inside the band; default from the white noise of the record.
    resamples : float
        See `data_noise`.
    lmax : int, optional
        Largest true multipole that is followed; default at least 30.

    Raises
    ------
    ObsfitError
        If the record is no pseudo-spectrum, or its noise is unknown and no events are given.
    """
    if record.kind != "pseudo":
        raise ObsfitError(
            f"{record.measurement}: the power of a nearly full sky",
            expected="a spectrum of kind 'pseudo'",
            remedy="Use obsfit.operator_for(record).",
        )
    if window is None:
        window = DeclinationWindow(record.dec_min_rad, record.dec_max_rad)
    last = int(record.ell[-1])
    lmax = max(30, last + BEYOND) if lmax is None else lmax
    if events is None:
        if not np.all(np.isfinite(record.noise)):
            raise ObsfitError(
                f"{record.measurement}: the noise is not in the record",
                expected="the number of events inside the window",
                remedy="Pass events=...",
            )
        events = 4.0 * np.pi * window.sky_fraction**2 / float(np.mean(record.noise))
    coupling = _integrals(window.weight, window, last, lmax, first=1)
    noise = data_noise(window, events, last, resamples=resamples)
    return ObservationOperator(
        {m: matrix[None] for m, matrix in coupling.items()},
        {m: matrix[None] for m, matrix in noise.items()},
        EnergyResponse.delta(np.array([record.energy_tev])),
        Power(record.ell),
    )


def _noise(window: DeclinationWindow, events: float, lmax: int, *, first: int) -> dict[int, FloatArray]:
    if not events > 0:
        raise ValueError(f"events {events}: expected a positive number")
    steradian_per_event = 4.0 * np.pi * window.sky_fraction / events

    def variance(s: FloatArray) -> FloatArray:
        return steradian_per_event * window.weight(s) ** 2 / window.counts(s)

    return _integrals(variance, window, lmax, lmax, first=first)


def _integrals(
    profile: Profile, window: DeclinationWindow, l_out: int, l_in: int, *, first: int
) -> dict[int, FloatArray]:
    """2 pi times the integrals of profile * lambda_lm * lambda_l'm, m -> (l_out + 1, l_in + 1), from m = first."""
    low, high = window.sin_range
    nodes, weights = leggauss(l_in + 40)
    s = 0.5 * (high - low) * nodes + 0.5 * (high + low)
    measure = np.pi * (high - low) * weights * profile(s)
    colatitude = np.arccos(s)
    integrals = {}
    for m in range(first, l_out + 1):
        functions = sph_harm_y(np.arange(m, l_in + 1)[:, None], m, colatitude, 0.0).real
        matrix = np.zeros((l_out + 1, l_in + 1))
        matrix[m:, m:] = (functions[: l_out - m + 1] * measure) @ functions.T
        integrals[m] = matrix
    return integrals
