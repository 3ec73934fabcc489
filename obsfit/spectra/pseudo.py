"""The pseudo-spectrum of a map: weighted, cut, neither divided nor decoupled, with its noise."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.records.sky_map import SkyMap
from obsfit.records.spectrum import PowerSpectrum
from obsfit.sky.harmonics import alm_power
from obsfit.spectra.noise import noise_band, noise_power, pseudo_alm
from obsfit.spectra.windows import Weight, declination_limits, pixel_weight

FloatArray = NDArray[np.float64]


def pseudo_spectrum(
    sky_map: SkyMap,
    *,
    energy: u.Quantity,
    weight: Weight | None = None,
    filter_m0: bool = True,
    lmax: int = 30,
    counts: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    extra_noise: ArrayLike | None = None,
    isotropic_band: bool = True,
    measurement: str = "",
) -> PowerSpectrum:
    r"""Return the pseudo-spectrum of a map of relative intensity, with its noise, for l from 1 to lmax.

    .. math:: \tilde C_\ell = \frac{1}{2\ell+1} \sum_m |\tilde a_{\ell m}|^2, \qquad
              \langle\tilde C_\ell\rangle = \sum_{\ell'} M_{\ell\ell'} C_{\ell'} + N_\ell

    Eqs. (29) to (31) of AM17, with M of `obsfit.sky.coupling.power_coupling`. It is not divided by the sky fraction,
    its noise is not subtracted, and it still carries the window of any smoothing of the map.

    The record knows its band, filter and noise, but not its weight: `obsfit.operator_for` folds models into it as into
    a map of unit weight in that band. For any other weight use `obsfit.spectra.covariance.spectrum_operator` with
    `obsfit.spectra.windows.map_coupling`. `obsfit.spectra.decoupling` inverts M where that is possible.

    Parameters
    ----------
    sky_map : SkyMap
        Relative intensity minus one in equatorial coordinates, NaN where unobserved.
    energy : Quantity
        Median primary energy.
    weight : callable, array_like or None
        As for `pixel_weight`: a window in sin(declination), such as `DeclinationWindow.weight` cut to its band, or one
        number for each pixel, such as the expected counts over their mean. Default: one wherever the map is observed.
    filter_m0 : bool
        True subtracts the mean of each ring in the field of view first, which every map that calibrates itself on its
        own data needs: its a_l0 is not measured. False only for maps with an absolute calibration.
    lmax : int
        Largest multipole.
    counts : array_like, shape (12 nside^2,), optional
        Events of each pixel, expected or measured; the variance of a pixel is one over them.
    variance : array_like, shape (12 nside^2,), optional
        Variance of each pixel instead of counts, as of weighted events.
    extra_noise : array_like, shape (m, l, l'), optional
        Covariances of noise beside that of the pixels: `exposure_noise` for a map of the iterative likelihood.
    isotropic_band : bool
        Whether to compute the band of isotropic skies, which takes longer than all the rest.
    measurement : str
        Key of the record. Default: the name of the map.

    Returns
    -------
    PowerSpectrum
        Of kind "pseudo". Its noise and isotropic band are NaN without `counts` or `variance`. The band is for isotropic
        skies with the same filter as the data.

    Raises
    ------
    ValueError
        If both counts and variance are given, a shape is not that of the map, a count is not positive where there is
        weight, or lmax is below 1 or above 3 nside - 1.

    Notes
    -----
    The fit of the exposure adds noise at low l that counts know nothing of: at mid latitudes it multiplies the power at
    l = 1, 2, 3 by about 5, 2 and 1.2. Give it as `extra_noise`.
    """
    if not 1 <= lmax <= 3 * sky_map.nside - 1:
        raise ValueError(f"lmax {lmax}: expected 1 to 3 nside - 1 = {3 * sky_map.nside - 1}")
    w = pixel_weight(weight, sky_map)
    c_ell = alm_power(pseudo_alm(sky_map.delta_i, w, lmax, filtered=filter_m0))[1:]
    pixel_variance = _variance(w, counts, variance)
    noise, low, high = np.full((3, lmax), np.nan)
    if pixel_variance is not None:
        noise = noise_power(w, pixel_variance, lmax, filtered=filter_m0)[1:]
        if extra_noise is not None:
            blocks = np.asarray(extra_noise, dtype=np.float64)
            both_signs = np.where(np.arange(blocks.shape[0]) == 0, 1.0, 2.0)
            added = np.einsum("m,mll->l", both_signs, blocks)[1 : lmax + 1]
            noise = noise + added / (2.0 * np.arange(1, lmax + 1) + 1.0)
        if isotropic_band:
            band = noise_band(w, pixel_variance, lmax, filtered=filter_m0, extra=extra_noise)
            low, high = band.low, band.high
    unknown = np.full(lmax, np.nan)
    dec_min, dec_max = declination_limits(w)
    return PowerSpectrum(
        measurement=measurement or sky_map.provenance.name, kind="pseudo", energy_tev=float(energy.to_value(u.TeV)),
        ell=np.arange(1, lmax + 1), c_ell=c_ell, noise=noise, window_power=np.ones(lmax), error_low=unknown,
        error_high=unknown, isotropic_low=low, isotropic_high=high, filtered=filter_m0, dec_min_rad=dec_min,
        dec_max_rad=dec_max, provenance=sky_map.provenance,
    )  # fmt: skip


def _variance(weight: FloatArray, counts: ArrayLike | None, variance: ArrayLike | None) -> FloatArray | None:
    if counts is not None and variance is not None:
        raise ValueError("counts and variance: expected at most one of them")
    if counts is None:
        return None if variance is None else np.asarray(variance, dtype=np.float64)
    n = np.asarray(counts, dtype=np.float64)
    if n.shape != weight.shape:
        raise ValueError(f"counts of shape {n.shape}: expected {weight.shape}, as the map has")
    inside = n[weight > 0.0]
    if not np.all(np.isfinite(inside) & (inside > 0.0)):
        raise ValueError(
            f"counts between {np.nanmin(inside)} and {np.nanmax(inside)} where there is weight: expected positive "
            "numbers; give the expected counts, or no weight to empty pixels"
        )
    return np.divide(1.0, n, out=np.zeros_like(n), where=weight > 0.0)
