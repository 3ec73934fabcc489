"""Mock skies: relative intensity as a continuous function of direction; skies add.

A sky is a sum of parts, each at rest in the frame of one clock. Right ascension belongs to the sidereal frame; in the
solar frame mean solar time takes its place, and the mean Sun stands at 12 h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError, PluginError
from obsfit.ingest.maps import load_map
from obsfit.mock._kernels import ring_harmonics
from obsfit.mock.spectra import gaussian_alm
from obsfit.mock.universe import rigidity_sky
from obsfit.protocols import Model, OffersAlm, OffersDipole, OffersDraws, OffersPower, dipole_alm, true_sky
from obsfit.records.event_map import FRAMES
from obsfit.records.sky_map import SkyMap
from obsfit.records.true_sky import alm_lmax
from obsfit.sky.motion import OBLIQUITY, compton_getting, solar_dipole_yearly_mean

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

_CHUNK = 16384


@dataclass(frozen=True)
class SkyPart:
    """A part of delta I, at rest in one frame. Subclasses say what it is.

    Attributes
    ----------
    frame : str
        The clock whose angle minus the hour angle is the longitude: "sidereal", "solar", "anti-sidereal" or
        "extended-sidereal".
    """

    frame: str

    def __post_init__(self) -> None:
        if self.frame not in FRAMES:
            raise ValueError(f"frame {self.frame!r}: expected one of {', '.join(FRAMES)}")

    @property
    def harmonics(self) -> int | None:
        """Largest harmonic in longitude; None where there is no largest."""
        return None

    def delta_i(self, longitude_rad: FloatArray, dec_rad: FloatArray) -> FloatArray:
        """Return delta I at directions, two arrays of one shape."""
        raise NotImplementedError

    def rows(self, dec_rad: FloatArray, start_rad: FloatArray, n: int) -> FloatArray:
        """Return delta I on circles of constant declination, shape (n_row, n), at longitudes start + 2 pi k / n."""
        longitude = start_rad[:, None] + 2.0 * np.pi * np.arange(n) / n
        return self.delta_i(longitude, np.broadcast_to(dec_rad[:, None], longitude.shape))


@dataclass(frozen=True)
class HarmonicPart(SkyPart):
    """Spherical harmonics, evaluated exactly; no pixels.

    Attributes
    ----------
    alm : ndarray of complex, shape (n_alm,)
        healpy order, orthonormal with the Condon-Shortley phase, longitude as azimuth.
    """

    alm: ComplexArray

    @property
    def harmonics(self) -> int:
        """Largest multipole."""
        return alm_lmax(self.alm.size)

    def delta_i(self, longitude_rad: FloatArray, dec_rad: FloatArray) -> FloatArray:
        """Return delta I at directions, two arrays of one shape."""
        longitude, dec = np.ravel(longitude_rad), np.ravel(dec_rad)
        out = np.empty(longitude.size)
        m = np.arange(self.harmonics + 1)
        for start in range(0, out.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            waves = self._coefficients(dec[part]) * np.exp(1j * m * longitude[part, None])
            out[part] = 2.0 * waves.real.sum(axis=1) - waves[:, 0].real
        return out.reshape(np.shape(longitude_rad))

    def rows(self, dec_rad: FloatArray, start_rad: FloatArray, n: int) -> FloatArray:
        """Return delta I on circles of constant declination by one Fourier transform each."""
        m = np.arange(self.harmonics + 1)
        waves = self._coefficients(dec_rad) * np.exp(1j * m * start_rad[:, None])
        # More points than asked for where the harmonics would alias.
        times = 2 * self.harmonics // n + 1
        return np.fft.irfft(waves, n * times, axis=1)[:, ::times] * (n * times)

    def _coefficients(self, dec_rad: FloatArray) -> ComplexArray:
        lmax = self.harmonics
        ell, m = (index.astype(np.float64) for index in hp.Alm.getlm(lmax))
        first = ell == m
        up = np.sqrt(np.abs(4.0 * ell**2 - 1.0) / np.where(first, 1.0, ell**2 - m**2))
        down = np.sqrt(np.where(first, 0.0, (ell - 1.0) ** 2 - m**2) / np.abs(4.0 * (ell - 1.0) ** 2 - 1.0))
        return ring_harmonics(self.alm, lmax, up, down, np.sin(dec_rad), np.cos(dec_rad))


@dataclass(frozen=True)
class PixelPart(SkyPart):
    """HEALPix pixels of constant delta I, in RING order.

    Attributes
    ----------
    values : ndarray, shape (12 nside^2,)
        delta I.
    """

    values: FloatArray

    def delta_i(self, longitude_rad: FloatArray, dec_rad: FloatArray) -> FloatArray:
        """Return delta I of the pixels that hold the directions."""
        nside = hp.npix2nside(self.values.size)
        return self.values[hp.ang2pix(nside, 0.5 * np.pi - dec_rad, longitude_rad)]


@dataclass(frozen=True)
class SpotPart(SkyPart):
    """An excess about one direction.

    Attributes
    ----------
    longitude_rad, dec_rad : float
        Its centre.
    radius_rad : float
        Radius of the disc, or standard deviation of the Gaussian on the sphere.
    excess : float
        delta I at the centre.
    gaussian : bool
        Whether it falls off as exp((cos eta - 1)/radius^2) with the angle eta, instead of a sharp edge.
    """

    longitude_rad: float
    dec_rad: float
    radius_rad: float
    excess: float
    gaussian: bool

    def delta_i(self, longitude_rad: FloatArray, dec_rad: FloatArray) -> FloatArray:
        """Return delta I at directions, two arrays of one shape."""
        along = np.cos(longitude_rad - self.longitude_rad)
        cosine = np.sin(dec_rad) * np.sin(self.dec_rad) + np.cos(dec_rad) * np.cos(self.dec_rad) * along
        if self.gaussian:
            return self.excess * np.exp((cosine - 1.0) / self.radius_rad**2)
        return np.where(cosine >= np.cos(self.radius_rad), self.excess, 0.0)


@dataclass(frozen=True)
class MockSky:
    """Relative intensity of a mock sky, 1 plus its parts. The functions of this module make them.

    Attributes
    ----------
    parts : tuple of SkyPart
        Parts of delta I; none is the isotropic sky.

    Examples
    --------
    >>> sky = dipole_sky([1e-3, 0.0, 0.0]) + disc_sky(60 * u.deg, -7.1 * u.deg, radius=10 * u.deg, excess=8e-4)
    >>> print(sky.relative_intensity(np.radians(60.0), np.radians(-7.1)).round(6))
    1.001296
    """

    parts: tuple[SkyPart, ...] = ()

    def relative_intensity(self, ra_rad: ArrayLike, dec_rad: ArrayLike, *, frame: str = "sidereal") -> FloatArray:
        """Return I = 1 + delta I at directions; the shapes broadcast.

        Parameters
        ----------
        ra_rad, dec_rad : array_like
            Right ascension, or the longitude of another frame, and declination.
        frame : str
            The frame. Parts at rest in another frame are left out: they turn in this one.
        """
        longitude, dec = np.broadcast_arrays(
            np.asarray(ra_rad, dtype=np.float64), np.asarray(dec_rad, dtype=np.float64)
        )
        total = np.ones(longitude.shape)
        for part in self.parts:
            if part.frame == frame:
                total = total + part.delta_i(longitude, dec)
        return total

    def __add__(self, other: MockSky) -> MockSky:
        """Return the sky whose delta I is the sum of both."""
        return MockSky(self.parts + other.parts)

    def with_disc(self, ra: u.Quantity, dec: u.Quantity, *, radius: u.Quantity, excess: float) -> MockSky:
        """Return this sky with the excess of `disc_sky` added."""
        return self + disc_sky(ra, dec, radius=radius, excess=excess)

    def in_frame(self, frame: str) -> MockSky:
        """Return the sky with all its parts at rest in `frame` instead.

        Raises
        ------
        ValueError
            If there is no such frame.
        """
        return MockSky(tuple(replace(part, frame=frame) for part in self.parts))


def isotropic_sky() -> MockSky:
    """Return the sky with I = 1."""
    return MockSky()


def harmonic_sky(alm: ArrayLike, *, frame: str = "sidereal") -> MockSky:
    """Return the sky with given a_lm of delta I.

    Parameters
    ----------
    alm : array_like of complex, shape (n_alm,)
        healpy order, m >= 0. An a_00 changes nothing, since the number of events is given.
    frame : str
        Frame in which it is at rest.

    Raises
    ------
    ValueError
        If the number of coefficients fits no lmax or one is not finite.
    """
    values = np.array(alm, dtype=np.complex128)
    alm_lmax(values.size)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"alm: value {values[~np.isfinite(values)][0]}, expected finite numbers")
    values.setflags(write=False)
    return MockSky((HarmonicPart(frame, values),))


def dipole_sky(dipole: ArrayLike, *, frame: str = "sidereal") -> MockSky:
    """Return the sky with delta I = dipole . n.

    Parameters
    ----------
    dipole : array_like, shape (3,)
        Components (0h, 6h, N).
    frame : str
        Frame in which it is at rest.

    Examples
    --------
    >>> sky = dipole_sky([0.0, 1e-3, 0.0])
    >>> print(sky.relative_intensity(0.5 * np.pi, 0.0).round(12))
    1.001
    """
    vector = np.asarray(dipole, dtype=np.float64)
    if vector.shape != (3,):
        raise ValueError(f"dipole of shape {vector.shape}: expected (3,), components (0h, 6h, N)")
    return harmonic_sky(dipole_alm(vector), frame=frame)


def gaussian_sky(c_ell: ArrayLike, *, rng: np.random.Generator, frame: str = "sidereal") -> MockSky:
    """Return one Gaussian isotropic random sky.

    Parameters
    ----------
    c_ell : array_like, shape (lmax + 1,)
        Power of delta I from l = 0.
    rng : numpy.random.Generator
        Source of the draw.
    frame : str
        Frame in which it is at rest.
    """
    return harmonic_sky(gaussian_alm(c_ell, rng=rng), frame=frame)


def map_sky(
    source: ArrayLike | SkyMap | str | Path,
    *,
    unseen: float | None = None,
    lmax: int | None = None,
    column: str = "",
    frame: str = "sidereal",
) -> MockSky:
    """Return the sky of a HEALPix map of delta I.

    Parameters
    ----------
    source : array_like of shape (12 nside^2,) in RING order, SkyMap, or path of a HEALPix FITS file
        Relative intensity minus one.
    unseen : float, optional
        delta I of pixels that are NaN or UNSEEN. Without it a map that has such pixels is refused.
    lmax : int, optional
        Take the map's a_lm up to here as the sky. Default: pixels of constant intensity.
    column : str
        Column of a file; see `obsfit.ingest.maps.load_map`.
    frame : str
        Frame in which it is at rest.

    Raises
    ------
    ConfigurationError
        If there are unobserved pixels and no value for them.
    DataFormatError
        If a file cannot be understood.
    """
    if isinstance(source, str | Path):
        values = load_map(source, column=column).delta_i
    elif isinstance(source, SkyMap):
        values = source.delta_i
    else:
        values = np.asarray(source, dtype=np.float64)
    if values.ndim != 1 or not hp.isnpixok(values.size):
        raise ValueError(f"map of shape {values.shape}: expected (12 nside^2,)")
    empty = ~np.isfinite(values) | (values < -1e20)
    if empty.any():
        if unseen is None:
            raise ConfigurationError(
                f"the map has {int(empty.sum())} unobserved pixels",
                expected="a relative intensity everywhere",
                remedy="Give a value for them: map_sky(..., unseen=0.0).",
            )
        values = np.where(empty, unseen, values)
    if lmax is not None:
        return harmonic_sky(hp.map2alm(values, lmax=lmax, iter=3), frame=frame)
    return MockSky((PixelPart(frame, np.array(values)),))


def disc_sky(
    ra: u.Quantity, dec: u.Quantity, *, radius: u.Quantity, excess: float, gaussian: bool = False,
    frame: str = "sidereal",
) -> MockSky:  # fmt: skip
    """Return the sky with one hot spot, or a cold one.

    Region A of HAWC, for example, is centred on right ascension 60.0 deg and declination -7.1 deg, with a radius of
    10 deg.

    Parameters
    ----------
    ra, dec : Quantity, angle
        Centre; `ra` is the longitude of `frame`.
    radius : Quantity, angle
        Radius of the disc, or standard deviation of the Gaussian.
    excess : float
        delta I at the centre.
    gaussian : bool
        A Gaussian instead of a disc with a sharp edge.
    frame : str
        Frame in which it is at rest.

    Raises
    ------
    ValueError
        If the radius is outside (0, 180] deg, or the declination beyond a pole.
    """
    size, declination = radius.to_value(u.rad), dec.to_value(u.rad)
    if not 0.0 < size <= np.pi:
        raise ValueError(f"radius {radius}: expected an angle in (0, 180] deg")
    if not abs(declination) <= 0.5 * np.pi:
        raise ValueError(f"dec {dec}: expected -90 deg to 90 deg")
    return MockSky((SpotPart(frame, ra.to_value(u.rad), declination, size, excess, gaussian),))


def solar_dipole_sky(
    spectral_index: float, *, speed: u.Quantity | None = None, obliquity: u.Quantity = OBLIQUITY
) -> MockSky:
    r"""Return the Compton-Getting dipole of the Earth's motion about the Sun; Eqs. (61) and (62) of AM17.

    With the amplitude :math:`\delta_S = (2 + \Gamma) v / c` it is at rest in the solar frame but for a small part,

    .. math::
        \delta_{0h} + i\delta_{6h} = i\delta_S
        \left(\cos^2\tfrac{\epsilon}{2}\, e^{ia} - \sin^2\tfrac{\epsilon}{2}\, e^{-ia}\right)

    of Eq. (61), whose second term is at rest in the extended-sidereal frame. The component along the axis,
    sin(eps) cos(a), is left out: it is the same all day, and methods that take the acceptance from the data lose it.

    Parameters
    ----------
    spectral_index : float
        Gamma of the differential spectrum.
    speed : Quantity, speed, optional
        Orbital speed; default 29.8 km/s.
    obliquity : Quantity, angle
        Tilt of the Earth's axis.

    Examples
    --------
    >>> sky = solar_dipole_sky(2.7)
    >>> print(f"{sky.relative_intensity(0.5 * np.pi, 0.0, frame='solar') - 1:.3e}")
    4.480e-04
    """
    mean = solar_dipole_yearly_mean(spectral_index, speed=speed, obliquity=obliquity)
    small = -(np.tan(0.5 * obliquity.to_value(u.rad)) ** 2) * mean
    return dipole_sky(mean, frame="solar") + dipole_sky(small, frame="extended-sidereal")


def compton_getting_sky(beta: ArrayLike, spectral_index: float) -> MockSky:
    """Return the Compton-Getting dipole of a steady motion, to first order; Eq. (60) of AM17.

    Parameters
    ----------
    beta : array_like, shape (3,)
        Velocity (0h, 6h, N) in units of c; see `obsfit.sky.motion.motion_beta`.
    spectral_index : float
        Gamma of the differential spectrum.
    """
    return dipole_sky(compton_getting(beta, spectral_index))


def model_skies(
    model: Model, theta: ArrayLike, rigidity: u.Quantity, *, lmax: int, rng: np.random.Generator | None = None
) -> tuple[MockSky, ...]:
    """Return one realisation of the sky of a model at several rigidities.

    Parameters
    ----------
    model : Model
        Any model of `obsfit.load_model`. All that it offers adds: dipole, a_lm, power, and one of its draws.
    theta : array_like, shape (n_par,)
        Parameters.
    rigidity : Quantity, voltage, shape (n_rig,)
        Rigidities; skies at different rigidities are coherent as the model says.
    lmax : int
        Largest multipole.
    rng : numpy.random.Generator, optional
        Source of the realisation; needed by a model with a random part.

    Raises
    ------
    ConfigurationError
        If the sky is random and there is no generator.
    PluginError
        If the model offers nothing.
    """
    vector = np.atleast_2d(np.asarray(theta, dtype=np.float64))
    rigidity_tv = np.atleast_1d(rigidity.to_value(u.TV)).astype(np.float64)
    random = isinstance(model, OffersPower | OffersDraws)
    if random and rng is None:
        raise ConfigurationError(
            f"the sky of model {model.name!r} is random",
            expected="a generator",
            remedy="Give one: model_sky(..., rng=np.random.default_rng(seed)).",
        )
    skies = [isotropic_sky()] * rigidity_tv.size
    if isinstance(model, OffersDipole | OffersAlm | OffersPower):
        sky = true_sky(model, vector, rigidity_tv, lmax)
        if sky.alm is not None:
            skies = [old + harmonic_sky(alm) for old, alm in zip(skies, sky.alm[0], strict=True)]
        if sky.c_ell is not None and rng is not None:
            drawn = rigidity_sky(sky.c_ell[0], rng=rng)
            skies = [old + harmonic_sky(alm) for old, alm in zip(skies, drawn, strict=True)]
    if isinstance(model, OffersDraws) and rng is not None:
        drawn = model.draws(vector, rigidity_tv, lmax, 1, rng=rng)[0, 0]
        skies = [old + harmonic_sky(alm) for old, alm in zip(skies, drawn, strict=True)]
    if not skies[0].parts:
        raise PluginError(
            f"model {model.name!r} offers no sky", expected="at least one of dipole, alm, c_ell and draws"
        )
    return tuple(skies)


def model_sky(
    model: Model, theta: ArrayLike, rigidity: u.Quantity, *, lmax: int, rng: np.random.Generator | None = None
) -> MockSky:
    """Return one realisation of the sky of a model at one rigidity; parameters as `model_skies`."""
    if rigidity.size != 1:
        raise ValueError(f"{rigidity.size} rigidities: expected one; model_skies takes several")
    return model_skies(model, theta, rigidity, lmax=lmax, rng=rng)[0]
