"""What one observatory says of the true a_lm: linear data with a response and a noise covariance for each m."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import astropy.units as u
import healpy as hp
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.errors import ConfigurationError
from obsfit.records.sky_map import SkyMap
from obsfit.sky.coupling import band_coupling
from obsfit.sky.harmonics import lmax_of

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Weight = Callable[[FloatArray], FloatArray]

SUPPORT = 0.1
"""Directions of the pseudo a_lm with less than this share of their energy inside the band are left out."""
ALIAS_MARGIN = 8
"""A ring of n pixels serves m up to (n - ALIAS_MARGIN) / 2: beyond, m and n - m look alike."""


@dataclass(frozen=True)
class NoiseProfile:
    """Power of white noise against declination.

    Attributes
    ----------
    dec_rad : ndarray, shape (n,)
        Declinations, ascending.
    power : ndarray, shape (n,)
        Variance of the mean over a patch of sky times its solid angle, in sr.
    """

    dec_rad: FloatArray
    power: FloatArray

    def __post_init__(self) -> None:
        dec, power = np.array(self.dec_rad, dtype=np.float64), np.array(self.power, dtype=np.float64)
        if dec.ndim != 1 or dec.size == 0 or dec.shape != power.shape or np.any(np.diff(dec) <= 0.0):
            raise ValueError(
                f"noise profile: declinations {dec.shape}, powers {power.shape}; expected the same shape (n,), "
                "declinations ascending"
            )
        if not (np.all(np.isfinite(dec)) and np.all(np.isfinite(power)) and np.all(power > 0.0)):
            raise ValueError("noise profile: expected finite declinations and finite powers above zero")
        object.__setattr__(self, "dec_rad", dec)
        object.__setattr__(self, "power", power)

    def __call__(self, sin_dec: FloatArray) -> FloatArray:
        """Power at sines of declination, linear in declination between the points and constant beyond them."""
        return np.interp(np.arcsin(np.clip(sin_dec, -1.0, 1.0)), self.dec_rad, self.power)

    @classmethod
    def white(cls, power: float) -> NoiseProfile:
        """Return the profile of the same power, in sr, at all declinations."""
        return cls(np.zeros(1), np.array([power]))

    @classmethod
    def from_table(cls, table: Table) -> NoiseProfile:
        """Return the profile of a table of errors against declination, such as hawc-icecube-2019-noise.

        Parameters
        ----------
        table : astropy.table.Table
            Columns dec_min, dec_max (angles) and sigma, the error of the mean over a disc; metadata
            disc_solid_angle, such as "0.02391 sr". Rows without sigma are left out.

        Raises
        ------
        ConfigurationError
            If a column or the solid angle is missing.
        """
        missing = [name for name in ("dec_min", "dec_max", "sigma") if name not in table.colnames]
        missing += [] if "disc_solid_angle" in table.meta else ["metadata disc_solid_angle"]
        if missing:
            raise ConfigurationError(
                f"table of noise without {', '.join(missing)}",
                expected="columns dec_min, dec_max, sigma and metadata disc_solid_angle",
            )
        sigma = np.ma.filled(np.ma.asarray(table["sigma"], dtype=np.float64), np.nan)
        known = np.isfinite(sigma)
        low, high = (u.Quantity(table[name]).to_value(u.rad)[known] for name in ("dec_min", "dec_max"))
        area = u.Quantity(table.meta["disc_solid_angle"]).to_value(u.sr)
        return cls(0.5 * (low + high), sigma[known] ** 2 * area)


@dataclass(frozen=True)
class ObservedHarmonics:
    r"""Data of one observatory, linear in the true sky for each m.

    .. math:: y_m = g\, R_m a_m + n_m, \qquad \langle n_m n_m^\dagger \rangle = s N_m

    with relative amplitude g and noise scale s. A missing m was not measured: data that are calibrated on themselves
    have no m = 0.

    Attributes
    ----------
    name : str
        Observatory.
    response : mapping of int to ndarray, shape (n_m, lmax + 1)
        R_m, real; columns are l from 0, those below m are not used.
    alm : mapping of int to ndarray, complex, shape (n_m,)
        y_m, real for m = 0.
    noise : mapping of int to ndarray, shape (n_m, n_m)
        N_m, real, symmetric, positive definite. For m > 0 real and imaginary part have half of it each.
    left_out : int
        Directions without support in the window that were projected out, all m together.
    """

    name: str
    response: Mapping[int, FloatArray]
    alm: Mapping[int, ComplexArray]
    noise: Mapping[int, FloatArray]
    left_out: int = 0

    def __post_init__(self) -> None:
        if not self.response or set(self.response) != set(self.alm) or set(self.response) != set(self.noise):
            raise ValueError(f"{self.name}: response, alm and noise are for different m, or for none")
        columns = {matrix.shape[1] for matrix in self.response.values()}
        if len(columns) > 1:
            raise ValueError(f"{self.name}: responses end at different multipoles {sorted(columns)}")
        for m, matrix in self.response.items():
            size = matrix.shape[0]
            if not 0 <= m < matrix.shape[1] or self.alm[m].shape != (size,) or self.noise[m].shape != (size, size):
                raise ValueError(
                    f"{self.name}, m = {m}: response {matrix.shape}, alm {self.alm[m].shape}, noise "
                    f"{self.noise[m].shape}; expected (n, lmax + 1), (n,), (n, n)"
                )
            if not all(np.all(np.isfinite(x[m])) for x in (self.response, self.alm, self.noise)):
                raise ValueError(f"{self.name}, m = {m}: a value is not finite")
            if m == 0 and np.any(np.imag(self.alm[0]) != 0.0):
                raise ValueError(f"{self.name}: the a_l0 of a real sky are real")
        for field in ("response", "alm", "noise"):
            kind = np.complex128 if field == "alm" else np.float64
            copies = {m: np.array(getattr(self, field)[m], dtype=kind) for m in sorted(self.response)}
            for copy in copies.values():
                copy.setflags(write=False)
            object.__setattr__(self, field, MappingProxyType(copies))

    @property
    def lmax(self) -> int:
        """Largest multipole of the true sky."""
        return next(iter(self.response.values())).shape[1] - 1

    @property
    def degrees_of_freedom(self) -> int:
        """Real numbers measured: two for each direction with m > 0, one with m = 0."""
        return sum((1 if m == 0 else 2) * len(values) for m, values in self.alm.items())

    @property
    def sha256(self) -> str:
        """Checksum of response, data and noise."""
        digest = hashlib.sha256()
        for field in (self.response, self.alm, self.noise):
            for m, values in field.items():
                digest.update(f"{m}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def draw(
        self, alm: ComplexArray, *, rng: np.random.Generator, amplitude: float = 1.0, noise_scale: float = 1.0
    ) -> ObservedHarmonics:
        """Return the same observatory with random data, given a true sky.

        Parameters
        ----------
        alm : ndarray, complex, shape (n_alm,)
            True a_lm in healpy order, up to `lmax`.
        rng : numpy.random.Generator
            Source of the noise.
        amplitude, noise_scale : float
            g and s.
        """
        lmax = lmax_of(alm.size)
        if lmax != self.lmax:
            raise ValueError(f"a_lm end at l = {lmax}, expected {self.lmax}")
        data: dict[int, ComplexArray] = {}
        for m, matrix in self.response.items():
            start = hp.Alm.getidx(lmax, m, m)
            signal = amplitude * matrix[:, m:] @ alm[start : start + lmax + 1 - m]
            white = rng.standard_normal((2, len(matrix)))
            unit = white[0] if m == 0 else (white[0] + 1j * white[1]) / np.sqrt(2.0)
            data[m] = signal + np.sqrt(noise_scale) * np.linalg.cholesky(self.noise[m]) @ unit
        return ObservedHarmonics(self.name, self.response, data, self.noise, self.left_out)


def map_harmonics(
    sky: SkyMap,
    *,
    name: str,
    dec_min: u.Quantity,
    dec_max: u.Quantity,
    noise: NoiseProfile,
    lmax: int,
    lmax_out: int | None = None,
    smoothing: FloatArray | None = None,
    noise_is_smoothed: bool = True,
    weight: Weight | None = None,
    support: float = SUPPORT,
) -> ObservedHarmonics:
    r"""Return the pseudo a_lm of a declination band of a map, its ring means removed, with response and noise.

    .. math:: y_{\ell m} = \sum_r \Omega_r w(s_r) \lambda_{\ell m}(s_r)\, \delta I_m(r), \qquad
              R_{m,\ell\ell'} = \sum_r \Omega_r w(s_r) \lambda_{\ell m}(s_r) \lambda_{\ell' m}(s_r) W_{\ell'}

    with the Fourier coefficients of each ring r of solid angle Omega_r: healpy's transform without iteration. The
    response is the same sum over the same rings, so that the edge of the band is where the pixels have it.

    Parameters
    ----------
    sky : SkyMap
        Map; every pixel of the band must be observed.
    name : str
        Observatory.
    dec_min, dec_max : Quantity, angle
        Rings with their centres in this band are used.
    noise : NoiseProfile
        White noise of the map; where it was smoothed, of the map before smoothing.
    lmax : int
        Largest multipole of the true sky. What leaks from beyond it is taken for noise and for power below.
    lmax_out : int, optional
        Largest multipole of the pseudo a_lm. Default: lmax; two thirds of it keep out what leaks from beyond lmax.
    smoothing : ndarray, shape (at least lmax + 1,), optional
        Factors W_l on the a_lm of the map (`obsfit.sky.smoothing`). If the noise is smoothed too, multipoles of the
        noise to the end of this array are counted: about three times lmax_out is enough.
    noise_is_smoothed : bool
        Whether the noise went through the smoothing as the sky did.
    weight : callable, optional
        Weight as a function of sin(declination). Default: one.
    support : float
        Directions of the pseudo a_lm with less than this share of their energy inside the band are left out: what
        the band has of them belongs, by as much, to multipoles above lmax_out.

    Raises
    ------
    ValueError
        If a pixel of the band is not observed, the band has no ring, or the smoothing is too short.
    """
    lmax_out = lmax if lmax_out is None else lmax_out
    if smoothing is not None and len(smoothing) <= lmax:
        raise ValueError(f"smoothing has {len(smoothing)} factors, expected at least lmax + 1 = {lmax + 1}")
    low, high = dec_min.to_value(u.rad), dec_max.to_value(u.rad)
    if not -np.pi / 2 <= low < high <= np.pi / 2:
        raise ValueError(
            f"declination band {dec_min} to {dec_max}: expected -90 deg <= dec_min < dec_max <= 90 deg"
        )
    nside = sky.nside
    first, count, sin_dec, _, _ = hp.ringinfo(nside, np.arange(1, 4 * nside))
    inside = (np.arcsin(sin_dec) >= low) & (np.arcsin(sin_dec) <= high)
    if not inside.any():
        raise ValueError(f"declination band {dec_min} to {dec_max}: no ring of nside {nside} is in it")
    first, count, sin_dec = first[inside], count[inside], sin_dec[inside]
    weights = np.ones_like(sin_dec) if weight is None else np.asarray(weight(sin_dec), dtype=np.float64)
    rings = [sky.delta_i[start : start + size] for start, size in zip(first, count, strict=True)]
    empty = sum(int(np.count_nonzero(~np.isfinite(ring))) for ring in rings)
    if empty:
        raise ValueError(
            f"{name}: {empty} pixels between {dec_min} and {dec_max} are not observed; narrow the band, "
            "or fill them: a weight that depends on right ascension couples different m"
        )
    pixel = hp.nside2pixarea(nside)
    window = np.ones(lmax + 1) if smoothing is None else np.asarray(smoothing, dtype=np.float64)
    coloured = smoothing is not None and noise_is_smoothed
    if coloured:
        far = len(window) - 1
        profile = band_coupling(-90 * u.deg, 90 * u.deg, far, filtered=True, weight=noise, order=max(200, 4 * far))
    response, data, covariance, left_out = {}, {}, {}, 0
    for m in range(1, min(lmax, lmax_out) + 1):
        fine = count >= 2 * m + ALIAS_MARGIN
        if not fine.any():
            continue
        area = pixel * count[fine]
        true = _functions(m, len(window) - 1 if coloured else lmax, sin_dec[fine])
        rows = area * weights[fine] * _functions(m, lmax_out, sin_dec[fine])
        used = [ring for ring, keep in zip(rings, fine, strict=True) if keep]
        phases = _ring_phases(nside, first[fine], count[fine], m)
        values = np.array([np.mean(ring * phase) for ring, phase in zip(used, phases, strict=True)])
        if coloured:
            smoothed = (rows @ true.T) * window[m:]
            matrix = smoothed @ profile[m, m:, m:] @ smoothed.T
        else:
            matrix = (rows * noise(sin_dec[fine]) / area) @ rows.T
        keep = _supported((rows / area) @ rows.T, support * np.max(weights**2))
        left_out += len(rows) - keep.shape[1]
        if keep.shape[1] == 0:
            continue
        response[m] = np.zeros((keep.shape[1], lmax + 1))
        response[m][:, m:] = keep.T @ (rows @ true[: lmax + 1 - m].T) * window[m : lmax + 1]
        data[m], covariance[m] = keep.T @ (rows @ values), _symmetric(keep.T @ matrix @ keep)
    return ObservedHarmonics(name, response, data, covariance, left_out)


def pseudo_harmonics(
    alm: ComplexArray,
    *,
    name: str,
    dec_min: u.Quantity,
    dec_max: u.Quantity,
    noise: NoiseProfile,
    lmax: int,
    filtered: bool = True,
    smoothing: FloatArray | None = None,
    noise_is_smoothed: bool = True,
    weight: Weight | None = None,
    support: float = SUPPORT,
) -> ObservedHarmonics:
    r"""Return pseudo a_lm of a declination band as data, with the response T^m W of `obsfit.sky.band_coupling`.

    The noise of data that were not smoothed, or smoothed after the noise, is
    :math:`N_{m,\ell\ell'} = 2\pi\int w^2 P(s) \lambda_{\ell m} \lambda_{\ell' m}\, ds`.

    Parameters
    ----------
    alm : ndarray, complex, shape (n_alm,)
        Pseudo a_lm in healpy order: of the map times the weight, zero outside the band, not divided by the
        fraction of the sky.
    filtered : bool
        Whether ring means were removed; the m = 0 are then not used.
    name, dec_min, dec_max, noise, lmax, smoothing, noise_is_smoothed, weight, support
        As for `map_harmonics`.
    """
    lmax_out = lmax_of(alm.size)
    if smoothing is not None and len(smoothing) <= lmax:
        raise ValueError(f"smoothing has {len(smoothing)} factors, expected at least lmax + 1 = {lmax + 1}")
    window = np.ones(lmax + 1) if smoothing is None else np.asarray(smoothing, dtype=np.float64)
    coloured = smoothing is not None and noise_is_smoothed
    far = len(window) - 1 if coloured else lmax
    coupling = band_coupling(dec_min, dec_max, far, filtered=filtered, weight=weight, lmax_out=lmax_out)
    squared = band_coupling(
        dec_min, dec_max, lmax_out, filtered=filtered,
        weight=None if weight is None else lambda s: weight(s) ** 2,
    )  # fmt: skip
    sines = np.sin(np.linspace(dec_min.to_value(u.rad), dec_max.to_value(u.rad), 1001))
    largest = 1.0 if weight is None else float(np.max(weight(sines) ** 2))
    order = max(200, 4 * far)
    if coloured:
        profile = band_coupling(-90 * u.deg, 90 * u.deg, far, filtered=filtered, weight=noise, order=order)
    else:
        white = band_coupling(
            dec_min, dec_max, lmax_out, filtered=filtered, order=order,
            weight=noise if weight is None else lambda s: weight(s) ** 2 * noise(s),
        )  # fmt: skip
    response, data, covariance, left_out = {}, {}, {}, 0
    for m in range(1 if filtered else 0, min(lmax, lmax_out) + 1):
        keep = _supported(squared[m, m:, m:], support * largest)
        left_out += lmax_out + 1 - m - keep.shape[1]
        if keep.shape[1] == 0:
            continue
        if coloured:
            smoothed = coupling[m, m:, m:] * window[m:]
            matrix = smoothed @ profile[m, m:, m:] @ smoothed.T
        else:
            matrix = white[m, m:, m:]
        start = hp.Alm.getidx(lmax_out, m, m)
        response[m] = np.zeros((keep.shape[1], lmax + 1))
        response[m][:, m:] = keep.T @ coupling[m, m:, m : lmax + 1] * window[m : lmax + 1]
        data[m], covariance[m] = keep.T @ alm[start : start + lmax_out + 1 - m], _symmetric(keep.T @ matrix @ keep)
    return ObservedHarmonics(name, response, data, covariance, left_out)


def _ring_phases(nside: int, first: NDArray[np.int64], count: NDArray[np.int64], m: int) -> list[ComplexArray]:
    """Phases exp(-i m alpha) at the pixels of each ring."""
    return [
        np.exp(-1j * m * hp.pix2ang(nside, np.arange(start, start + size))[1])
        for start, size in zip(first, count, strict=True)
    ]


def _functions(m: int, lmax: int, sin_dec: FloatArray) -> FloatArray:
    """Normalised associated Legendre functions of l = m to lmax, shape (lmax + 1 - m, n)."""
    ell = np.arange(m, lmax + 1)
    return np.asarray(sph_harm_y(ell[:, None], m, np.arccos(sin_dec), 0.0).real, dtype=np.float64)


def _supported(gram: FloatArray, least: float) -> FloatArray:
    """Orthonormal directions (n, k) of pseudo a_lm whose energy in the band is above `least`."""
    values, vectors = np.linalg.eigh(_symmetric(gram))
    return np.ascontiguousarray(vectors[:, values > least])


def _symmetric(matrix: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (matrix + matrix.T), dtype=np.float64)
