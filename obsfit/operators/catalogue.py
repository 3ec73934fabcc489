"""The operator of each kind of published data."""

from __future__ import annotations

import astropy.units as u
import numpy as np

from obsfit.errors import ObsfitError
from obsfit.operators.energy import EnergyResponse
from obsfit.operators.operator import Components, ObservationOperator, Power
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum
from obsfit.sky.coupling import band_coupling, projection_factor

# How far beyond the last multipole of a cut spectrum its leakage is followed.
BEYOND = 10


def operator_for(record: DipoleMeasurements | PowerSpectrum) -> ObservationOperator:
    """Return the observation operator of a record, in its simplest form.

    Dipoles: components of a pure dipole, with the amplitude that the method leaves (see `dipole_response`), one
    observation for each row. Nearly full-sky spectra: power without mixing of multipoles, with the smoothing
    window and the noise of the record, and without m = 0 where the map carries none. Their power is taken as divided
    by the sky fraction already.

    Parameters
    ----------
    record : DipoleMeasurements or PowerSpectrum

    Raises
    ------
    ObsfitError
        For the pseudo-spectrum of a cut sky: its multipoles mix, and comparing it with the C_l of a true sky would
        be wrong by factors of several.
    ValueError
        If a dipole row has no usable components (see `DipoleMeasurements.components`).
    """
    if isinstance(record, DipoleMeasurements):
        return _dipole_operator(record)
    if record.kind == "pseudo":
        raise ObsfitError(
            f"{record.measurement}: this is the pseudo-power of a cut sky, whose multipoles mix",
            expected="a spectrum of kind 'full-sky'",
            remedy="There is no operator for it yet; its points must not be fitted as if they were C_l.",
        )
    return _full_sky_operator(record)


def dipole_response(record: DipoleMeasurements) -> np.ndarray:
    """Ratio of each published amplitude to the true equatorial amplitude of a pure dipole, shape (n,).

    Right-ascension projection: Eq. (25) of AM17 with uniform weight over the declination band, one where the band
    is not published. East-West: the amplitudes in use are those that the experiments divided by their own step
    Delta alpha, so one. "deprojected" and "forward-backward": one. Multipoles l >= 2 leak as well; that is not in
    this number.
    """
    factors = np.ones(len(record))
    for row, method in enumerate(record.method):
        band = record.dec_min_rad[row], record.dec_max_rad[row]
        if method == "right-ascension projection" and np.all(np.isfinite(band)):
            factors[row] = projection_factor(band[0] * u.rad, band[1] * u.rad)
    return factors


def limit_deviation(limit: np.ndarray, level: np.ndarray) -> np.ndarray:
    r"""Noise per component behind an upper limit on the amplitude.

    An isotropic sky gives a Rayleigh-distributed amplitude, which exceeds the limit with probability 1 - level:
    :math:`\sigma = A_{lim} / \sqrt{-2 \ln(1 - level)}`. The limit then enters as the observation of components
    (0, 0) with covariance sigma^2: a statement about the amplitude alone, whose likelihood ratio between the limit
    and zero is 1 - level.

    Examples
    --------
    >>> limit_deviation(np.array([1e-3]), np.array([0.9])).round(6)
    array([0.000466])
    """
    return np.asarray(limit) / np.sqrt(-2.0 * np.log1p(-np.asarray(level)))


def dipole_data(record: DipoleMeasurements) -> tuple[np.ndarray, np.ndarray]:
    """Components (n, 2) and their covariance (n, 2, 2), limits included as `limit_deviation` says."""
    components = np.zeros((len(record), 2))
    covariance = np.zeros((len(record), 2, 2))
    measured = ~record.is_limit
    if measured.any():
        components[measured], covariance[measured] = record.select(measured).components()
    deviation = limit_deviation(record.limit[~measured], record.limit_level[~measured])
    covariance[~measured] = deviation[:, None, None] ** 2 * np.eye(2)
    return components, covariance


def _dipole_operator(record: DipoleMeasurements) -> ObservationOperator:
    n = len(record)
    response = np.zeros((n, 2, 2))
    response[:, 1, 1] = dipole_response(record)
    return ObservationOperator(
        response={1: response},
        noise={1: np.zeros((n, 2, 2))},
        energy=EnergyResponse.delta(record.energy_tev),
        summary=Components(dipole_data(record)[1]),
    )


def _full_sky_operator(record: PowerSpectrum) -> ObservationOperator:
    """Smoothing, declination cut and division by the root of the sky fraction, m by m."""
    # Multipoles above the last one of the record leak into it, if the sky is cut.
    lmax = int(record.ell[-1]) + (BEYOND if record.sky_fraction < 1.0 else 0)
    ell = np.arange(lmax + 1)
    # Multipoles below the first one of the record leak into it. W^2 falls as 1 - a l (l + 1) from one at l = 0.
    size, known = ell * (ell + 1.0), np.concatenate([[0], record.ell]) * (np.concatenate([[0], record.ell]) + 1.0)
    window = np.interp(size, known, np.concatenate([[1.0], record.window_power]))
    level = np.interp(ell, record.ell, np.nan_to_num(record.noise))
    band = u.Quantity([record.dec_min_rad, record.dec_max_rad], u.rad)
    coupling = band_coupling(band[0], band[1], lmax, filtered=record.filtered)
    response, noise = {}, {}
    for m in range(1 if record.filtered else 0, lmax + 1):
        matrix = coupling[m] * np.sqrt(window / record.sky_fraction)
        response[m] = matrix[None]
        noise[m] = ((matrix * level) @ matrix.T)[None]
    return ObservationOperator(
        response, noise, EnergyResponse.delta(np.array([record.energy_tev])), Power(record.ell)
    )
