"""The operator of each kind of published data."""

from __future__ import annotations

from dataclasses import replace

import astropy.units as u
import numpy as np

from obsfit.operators.energy import EnergyResponse, energy_response_for
from obsfit.operators.operator import Components, ObservationOperator, Power
from obsfit.operators.projections import east_west_row, right_ascension_row
from obsfit.operators.pseudo import map_noise, pseudo_operator
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum
from obsfit.sky.coupling import band_coupling

# How far beyond the last multipole of a cut spectrum its leakage is followed.
BEYOND = 10
# Largest multipole whose leakage into a dipole is followed: with C_l falling as l^-3, those above 10 add less
# than 0.1 % to the variance that l = 2 to 10 leak through the cap of IceCube.
DIPOLE_LMAX = 10


def operator_for(
    record: DipoleMeasurements | PowerSpectrum, *, energy_spread: bool = False
) -> ObservationOperator:
    """Return the observation operator of a record.

    Dipoles: components of the first harmonic in right ascension, one observation for each row, with what the method
    sees of all multipoles up to 10 (see `dipole_rows`). Nearly full-sky spectra: power with the mixing of multipoles
    by the declination cut, the smoothing window and the noise of the record, and without m = 0 where the map carries
    none. Their power is taken as divided by the sky fraction already. Pseudo-spectra of a cut sky: see
    `obsfit.operators.pseudo.pseudo_operator`.

    Parameters
    ----------
    record : DipoleMeasurements or PowerSpectrum
    energy_spread : bool
        True averages over the spread of true energies as far as it is published, see
        `obsfit.operators.energy.energy_response_for`; a model is then asked for many rigidities. False takes each
        observation at its median energy.

    Raises
    ------
    ObsfitError
        If a pseudo-spectrum lacks what its operator needs.
    ValueError
        If a dipole row has no usable components (see `DipoleMeasurements.components`).
    """
    if isinstance(record, DipoleMeasurements):
        operator = _dipole_operator(record)
    elif record.kind == "pseudo":
        operator = pseudo_operator(record)
    else:
        operator = _full_sky_operator(record)
    energy = energy_response_for(record) if energy_spread else EnergyResponse.delta(record.energy_tev)
    return replace(operator, energy=energy)


def dipole_rows(record: DipoleMeasurements) -> np.ndarray:
    r"""Response of each published first harmonic to the true a_l1, shape (n, 11), l counted from 0.

    Right-ascension projection: `right_ascension_row` with uniform weight over the declination band, whose entry at
    l = 1 is Eq. (25) of AM17. "deprojected" and "forward-backward": the same row divided by its entry at l = 1, so
    that a pure dipole is seen as it is: the former are corrected for the projection, and the latter (one experiment,
    fitted band by band) is taken as an equatorial amplitude, as AM17 plots it. East-West: `east_west_row` for a flat
    detector, with the latitude from band and zenith cut; the amplitudes in use are those that the experiments divided
    by their own step Delta alpha, so that the entry at l = 1 is one. Rows whose band or zenith cut is not published
    keep a one at l = 1 and nothing else.
    """
    rows = np.zeros((len(record), DIPOLE_LMAX + 1))
    found: dict[tuple[str, float, float, float], np.ndarray] = {}
    for i, method in enumerate(record.method):
        key = (
            method,
            float(record.dec_min_rad[i]),
            float(record.dec_max_rad[i]),
            float(record.zenith_max_rad[i]),
        )
        if key not in found:
            found[key] = _dipole_row(*key)
        rows[i] = found[key]
    return rows


def _dipole_row(method: str, dec_min: float, dec_max: float, zenith_max: float) -> np.ndarray:
    known = np.isfinite(dec_min) and np.isfinite(dec_max)
    if not known or (method == "east-west" and not np.isfinite(zenith_max)):
        return np.eye(DIPOLE_LMAX + 1)[1]
    if method == "east-west":
        # A band that ends at a pole may have been clipped there: its other end is the zenith cut from the latitude.
        at_south_pole = dec_min <= -0.5 * np.pi + 1e-9
        latitude = dec_max - zenith_max if at_south_pole else dec_min + zenith_max
        return east_west_row(latitude * u.rad, zenith_max * u.rad, DIPOLE_LMAX)
    row = right_ascension_row(dec_min * u.rad, dec_max * u.rad, DIPOLE_LMAX)
    return row if method == "right-ascension projection" else row / row[1]


def dipole_response(record: DipoleMeasurements) -> np.ndarray:
    """Ratio of each published amplitude to the true equatorial amplitude of a pure dipole, shape (n,).

    The entries of `dipole_rows` at l = 1: Eq. (25) of AM17 for right-ascension projections over a published band, one
    for all others.
    """
    return np.asarray(dipole_rows(record)[:, 1])


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
    response = np.zeros((n, 2, DIPOLE_LMAX + 1))
    response[:, 1] = dipole_rows(record)
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
    size, given = ell * (ell + 1.0), np.concatenate([[0], record.ell]) * (np.concatenate([[0], record.ell]) + 1.0)
    window = np.interp(size, given, np.concatenate([[1.0], record.window_power]))
    known = record.filtered and bool(np.isfinite(record.noise).all())
    before = map_noise(record, lmax) if known else np.zeros((lmax + 1, lmax + 1, lmax + 1))
    if not known:
        before[:, ell, ell] = np.interp(ell, record.ell, np.nan_to_num(record.noise))
    band = u.Quantity([record.dec_min_rad, record.dec_max_rad], u.rad)
    coupling = band_coupling(band[0], band[1], lmax, filtered=record.filtered)
    response, noise = {}, {}
    for m in range(1 if record.filtered else 0, lmax + 1):
        matrix = coupling[m] * np.sqrt(window / record.sky_fraction)
        response[m] = matrix[None]
        noise[m] = (matrix @ before[m] @ matrix.T)[None]
    return ObservationOperator(
        response, noise, EnergyResponse.delta(np.array([record.energy_tev])), Power(record.ell)
    )
