"""Operators of pseudo-spectra: the power of a map that was weighted, cut and neither divided nor decoupled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.optimize import brentq

from obsfit.errors import ObsfitError
from obsfit.ingest.catalogue import load_table
from obsfit.operators.energy import EnergyResponse, energy_response_for
from obsfit.operators.operator import ObservationOperator, Power
from obsfit.records.spectrum import PowerSpectrum
from obsfit.sky.coupling import band_coupling
from obsfit.sky.smoothing import top_hat_window

FloatArray = NDArray[np.float64]
Profile = Callable[[FloatArray], FloatArray]

# How far beyond the last multipole of a cut spectrum its leakage is followed.
BEYOND = 10
# How far the noise of a smoothed map is followed: beyond, an average over 5 degrees leaves less than 0.5 % of it.
NOISE_LMAX = 80
NORMALISATIONS = ("mean", "max")
CALIBRATION_TABLE = "icecube-2025-window"
# Profile of the noise and nside of maps, by the beginning of the keys of the spectra made from them.
MAPS = {"hawc-icecube-2019-10TeV": ("hawc-icecube-2019-noise", 64)}


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


@dataclass(frozen=True)
class CalibratedWindow:
    """The window of a published spectrum, as far as its own data tell it.

    Attributes
    ----------
    window : DeclinationWindow
        At the centre of the calibration.
    exponent_error : float
        Standard deviation of its exponent: what remains free in a fit.
    events : float
        Events inside the band, from the level of the isotropic band.
    events_error : float
        Standard deviation of `events`.
    resamples : float
        Number of scrambled copies of each event in the background of the analysis.
    """

    window: DeclinationWindow
    exponent_error: float
    events: float
    events_error: float
    resamples: float

    def at(self, deviation: float) -> DeclinationWindow:
        """Return the window whose exponent is `deviation` standard deviations above the centre."""
        return self.window.with_exponent(self.window.exponent + deviation * self.exponent_error)


def calibrated_window(record: PowerSpectrum) -> CalibratedWindow | None:
    """Return the calibrated window of a record, from the shipped table ``icecube-2025-window``, or None.

    Parameters
    ----------
    record : PowerSpectrum
        Recognised by its key.

    Examples
    --------
    >>> from obsfit.ingest.catalogue import load_spectrum
    >>> found = calibrated_window(load_spectrum("icecube-2025", energy=24 * u.TeV))
    >>> round(float(np.degrees(found.window.dec_max_rad)), 6)
    -25.0
    """
    return _calibrations().get(record.measurement)


@lru_cache(maxsize=1)
def _calibrations() -> dict[str, CalibratedWindow]:
    table = load_table(CALIBRATION_TABLE)
    found = {}
    for row in table:
        window = DeclinationWindow(
            float(np.radians(row["dec_min"])), float(np.radians(row["dec_max"])), float(row["exponent"])
        )
        found[str(row["measurement"])] = CalibratedWindow(
            window,
            float(row["exponent_error"]),
            float(row["events"]),
            float(row["events_error"]),
            float(row["resamples"]),
        )
    return found


def pixel_band(dec_min_rad: float, dec_max_rad: float, nside: int) -> tuple[float, float]:
    r"""Return the declinations between which lies the area of the HEALPix pixels that a cut by centres keeps.

    A sharp edge leaks large scales into small ones, so that an edge off by a third of a degree changes the
    pseudo-power of a cap by tens of per cent where the spectrum is steep.

    Parameters
    ----------
    dec_min_rad, dec_max_rad : float
        The cut: pixels are kept whose centre lies between them, ends included.
    nside : int
        Resolution of the map.

    Examples
    --------
    >>> np.degrees(pixel_band(-np.pi / 2, np.radians(-30), 64)).round(3)
    array([-90.   , -29.656])
    """
    # Rings that lie on the cut, as that at -30 degrees, must not hang on the last bit of a sine.
    tolerance = 1e-9
    z = np.cos(hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))[0])
    below = np.mean(z < np.sin(dec_min_rad) - tolerance), np.mean(z <= np.sin(dec_max_rad) + tolerance)
    return float(np.arcsin(2.0 * below[0] - 1.0)), float(np.arcsin(2.0 * below[1] - 1.0))


def band_noise(window: DeclinationWindow, events: float, lmax: int) -> FloatArray:
    r"""Return the noise of a published band of isotropic skies: covariances (m, l, l'), m = 0 included.

    .. math:: N^m_{\ell\ell'} = 2\pi \int w^2(s)\, \sigma^2(s)\, \lambda_{\ell m}(s) \lambda_{\ell' m}(s)\, ds,
              \qquad \sigma^2 = 1 / n(s)

    of maps whose counts fluctuate about the expectation n(s) per steradian. The mean of the weighted map over the
    whole sphere is subtracted, which touches l = 0 alone. It is not the noise of the data: see `data_noise`.

    Parameters
    ----------
    window : DeclinationWindow
        Band, weight and profile of the counts.
    events : float
        Number of events inside the band. With the counts as weight, of mean one, the power is
        :math:`4\pi f_{sky}^2 /` events at every l, Eq. (32) of AM17, whatever their profile.
    lmax : int
        Largest multipole.

    Returns
    -------
    ndarray, shape (lmax + 1, lmax + 1, lmax + 1)

    Raises
    ------
    ValueError
        If the number of events is not positive.
    """
    noise = _noise(window, events, lmax, filtered=False)
    noise[0, 0, :] = noise[0, :, 0] = 0.0
    return noise


def data_noise(window: DeclinationWindow, events: float, lmax: int, *, resamples: float = np.inf) -> FloatArray:
    r"""Return the noise of a map that calibrates itself: covariances (m, l, l'), zero at m = 0.

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

    Returns
    -------
    ndarray, shape (lmax + 1, lmax + 1, lmax + 1)

    Raises
    ------
    ValueError
        If the number of events or of resamples is not positive.
    """
    if not resamples > 0:
        raise ValueError(f"resamples {resamples}: expected a positive number, inf for an exact background")
    return (1.0 + 1.0 / resamples) * _noise(window, events, lmax, filtered=True)


def pseudo_operator(
    record: PowerSpectrum,
    window: DeclinationWindow | None = None,
    *,
    events: float | None = None,
    resamples: float | None = None,
    lmax: int | None = None,
    energy_spread: bool = False,
) -> ObservationOperator:
    r"""Return the operator of a pseudo-spectrum: energy response, ring-mean filter, cut and weight, coupling, noise.

    .. math:: \tilde a_{\ell m} = \sum_{\ell'} T^m_{\ell\ell'} W_{\ell'} a_{\ell' m} + n_{\ell m} \quad (m \neq 0),
              \qquad \tilde C_\ell = \frac{1}{2\ell+1} \sum_m |\tilde a_{\ell m}|^2,

    with the window W of a smoothing before the cut, if any. The mean of the weighted map that analyses subtract
    belongs to m = 0, which the filter has removed already. Neither the width of the pixels nor the angular resolution
    is in the response; at l = 20 pixels of 0.9 degrees take 1 % of the power.

    Parameters
    ----------
    record : PowerSpectrum
        Of kind "pseudo".
    window : DeclinationWindow, optional
        Cut and weight. Default: the calibrated window of the record, if there is one, else the band of the record
        with unit weight, as the pixels of its map cut it where their size is known (`pixel_band`).
    events : float, optional
        Events inside the band. Default: as calibrated, else from the white noise power of the record.
    resamples : float, optional
        See `data_noise`. Default: as calibrated, else infinite.
    lmax : int, optional
        Largest true multipole that is followed. Default: 10 beyond the last one of the record, at least 30; for
        C_l falling as l^-2 or faster, IceCube's power at l = 20 is then right to 0.6 %, and below to 0.1 %.
    energy_spread : bool
        True averages over the spread of true energies as far as it is published, False takes the median energy, see
        `obsfit.operators.energy.energy_response_for`.

    Returns
    -------
    ObservationOperator
        Of one observation, with l counted from 0 to the last multipole of the record.

    Raises
    ------
    ObsfitError
        If the record is no filtered pseudo-spectrum, if its smoothing is no average over discs, or if its noise is
        not known.
    """
    if record.kind != "pseudo" or not record.filtered:
        raise ObsfitError(
            f"{record.measurement}: kind {record.kind!r}, filtered {record.filtered}",
            expected="a spectrum of kind 'pseudo' without m = 0",
            remedy="For a nearly full sky use obsfit.operator_for(record).",
        )
    calibration = calibrated_window(record)
    if window is None:
        window = _band_of(record) if calibration is None else calibration.window
    last = int(record.ell[-1])
    lmax = max(30, last + BEYOND) if lmax is None else lmax
    smoothing = _smoothing(record, max(lmax, NOISE_LMAX))
    if smoothing is None:
        if events is None:
            events = _events(record, window) if calibration is None else calibration.events
        if resamples is None:
            resamples = np.inf if calibration is None else calibration.resamples
        coupling = _coupling(window, last, lmax)
        noise = data_noise(window, events, last, resamples=resamples)
    else:
        coupling = _coupling(window, last, smoothing.size - 1) * smoothing
        noise = coupling @ map_noise(record, smoothing.size - 1)[: last + 1] @ np.swapaxes(coupling, 1, 2)
        coupling = coupling[:, :, : lmax + 1]
    return ObservationOperator(
        {m: coupling[m][None] for m in range(1, last + 1)},
        {m: noise[m][None] for m in range(1, last + 1)},
        energy_response_for(record) if energy_spread else EnergyResponse.delta(np.array([record.energy_tev])),
        Power(record.ell),
    )


def _map_of(record: PowerSpectrum) -> tuple[str, int] | None:
    """Table of the noise and nside of the map that a record was made from, where both are known."""
    return next((known for key, known in MAPS.items() if record.measurement.startswith(key)), None)


def _band_of(record: PowerSpectrum) -> DeclinationWindow:
    """Unit weight in the band of a record, as its pixels cut it, or the weight that its file states."""
    band = record.dec_min_rad, record.dec_max_rad
    stated = str(record.provenance.meta.get("weight", "uniform"))
    if stated == "power":
        return DeclinationWindow(*band, exponent=float(record.provenance.meta["weight_exponent"]))
    if stated != "uniform":
        raise ObsfitError(
            f"{record.measurement}: weight {stated!r}, which no window tells",
            expected="weight 'uniform' or 'power'",
            remedy="Measure the spectrum with one of these weights, or give the window yourself.",
        )
    made_from = _map_of(record)
    return DeclinationWindow(*(band if made_from is None else pixel_band(*band, made_from[1])))


def _coupling(window: DeclinationWindow, last: int, lmax: int) -> FloatArray:
    low, high = u.Quantity([window.dec_min_rad, window.dec_max_rad], u.rad)
    weight = None if window.exponent == 0.0 else window.weight
    return band_coupling(low, high, lmax, filtered=True, weight=weight, lmax_out=last)


def _noise(window: DeclinationWindow, events: float, lmax: int, *, filtered: bool) -> FloatArray:
    if not events > 0:
        raise ValueError(f"events {events}: expected a positive number")
    steradian_per_event = 4.0 * np.pi * window.sky_fraction / events

    def variance(sin_dec: FloatArray) -> FloatArray:
        return steradian_per_event * window.weight(sin_dec) ** 2 / window.counts(sin_dec)

    low, high = u.Quantity([window.dec_min_rad, window.dec_max_rad], u.rad)
    return band_coupling(low, high, lmax, filtered=filtered, weight=variance)


def _events(record: PowerSpectrum, window: DeclinationWindow) -> float:
    """Events that give the white pseudo-noise of a record, Eq. (32) of AM17."""
    if not np.all(np.isfinite(record.noise)):
        raise ObsfitError(
            f"{record.measurement}: the noise is not in the record",
            expected="a column noise",
            remedy="Give the power of an isotropic sky in it, or in Python the number of events inside the window.",
        )
    return 4.0 * np.pi * window.sky_fraction**2 / float(np.mean(record.noise))


def _smoothing(record: PowerSpectrum, lmax: int) -> FloatArray | None:
    """Factors on a_lm of the average over discs that the record's W_l^2 is; None where it is not smoothed."""
    if np.all(record.window_power == 1.0):
        return None
    place = int(np.argmin(np.abs(record.window_power - 0.5)))
    ell, power = int(record.ell[place]), float(record.window_power[place])
    # The first zero of the window is near l * radius = 3.8.
    radius = brentq(lambda r: top_hat_window(r * u.rad, ell)[ell] - np.sqrt(power), 1e-3, min(3.5 / ell, np.pi))
    window = top_hat_window(radius * u.rad, max(lmax, int(record.ell[-1])))
    if not np.allclose(window[record.ell] ** 2, record.window_power, atol=1e-4):
        raise ObsfitError(
            f"{record.measurement}: window_power is not that of an average over discs",
            expected="the square of obsfit.sky.top_hat_window",
        )
    return window


def map_noise(record: PowerSpectrum, lmax: int) -> FloatArray:
    r"""Return the noise, before smoothing, of the map that a record was made from: covariances (m, l, l'), m > 0.

    .. math:: N^m_{\ell\ell'} = 2\pi \int \sigma^2(s)\, \lambda_{\ell m}(s) \lambda_{\ell' m}(s)\, ds

    over the declinations of the map, with its published error against declination where that is known, else
    uniform over the sphere; scaled to the white noise power of the record.

    Parameters
    ----------
    record : PowerSpectrum
        With a column noise: of kind "pseudo" for its band as it is, of kind "full-sky" divided by the sky fraction.
    lmax : int
        Largest multipole.

    Raises
    ------
    ObsfitError
        If the record has no noise.
    """
    if not np.all(np.isfinite(record.noise)):
        raise ObsfitError(f"{record.measurement}: the noise is not in the record", expected="a column noise")
    level = float(np.mean(record.noise))
    made_from = _map_of(record)
    band = u.Quantity([record.dec_min_rad, record.dec_max_rad], u.rad)
    fraction = 0.5 * float(np.diff(np.sin(band.value))[0])
    if record.kind == "full-sky":
        level *= fraction
    if made_from is None:
        return level / fraction * band_coupling(-90 * u.deg, 90 * u.deg, lmax, filtered=True)
    profile, top = _noise_profile(made_from[0])
    nodes, weights = leggauss(400)
    low, high = np.sin(band.value)
    s = 0.5 * (high - low) * nodes + 0.5 * (high + low)
    mean = 0.25 * (high - low) * float(weights @ profile(s))
    noise = band_coupling(-90 * u.deg, top, lmax, filtered=True, weight=profile)
    return level / mean * noise


def _noise_profile(name: str) -> tuple[Profile, u.Quantity]:
    """Noise variance of a shipped table against sin(dec), in its own unit, and its last declination."""
    table = load_table(name)
    good = np.isfinite(table["sigma"])
    centre = 0.5 * (np.asarray(table["dec_min"]) + np.asarray(table["dec_max"]))[good]
    variance = np.asarray(table["sigma"])[good] ** 2

    def profile(sin_dec: FloatArray) -> FloatArray:
        return np.interp(np.degrees(np.arcsin(sin_dec)), centre, variance)

    return profile, float(table["dec_max"][-1]) * u.deg
