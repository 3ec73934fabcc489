"""The observation operator: linear in a_lm up to its summary, with its noise and its energy response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import healpy as hp
import numpy as np
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from obsfit.errors import ObsfitError
from obsfit.operators.energy import EnergyResponse
from obsfit.records.true_sky import TrueSky, alm_index, alm_lmax, alm_size

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Largest covariance of pixels that is formed, in numbers: 400 MB.
LARGEST_COVARIANCE = 50_000_000


@dataclass(frozen=True)
class Components:
    """Summary by the dipole components (delta_0h, delta_6h) of each observation.

    Attributes
    ----------
    covariance : ndarray, shape (n_obs, 2, 2)
        Noise of the two components.
    """

    covariance: FloatArray


@dataclass(frozen=True)
class Power:
    """Summary by the power sum_m |a_lm|^2 / (2 l + 1) of each observation, at the multipoles `ell` (n_ell,)."""

    ell: NDArray[np.int64]


@dataclass(frozen=True)
class Pixels:
    """Summary by the map of the observed a_lm in given directions, one map for each observation.

    Attributes
    ----------
    right_ascension_rad, dec_rad : ndarray, shape (n_pix,)
        Directions.
    """

    right_ascension_rad: FloatArray
    dec_rad: FloatArray

    def __post_init__(self) -> None:
        if np.ndim(self.dec_rad) != 1 or np.shape(self.dec_rad) != np.shape(self.right_ascension_rad):
            raise ValueError(
                f"right_ascension_rad {np.shape(self.right_ascension_rad)} and dec_rad {np.shape(self.dec_rad)}: "
                "expected equal shapes (n_pix,)"
            )

    @classmethod
    def healpix(cls, nside: int) -> Pixels:
        """Return the centres of all pixels of a healpix map in ring order."""
        colatitude, right_ascension = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
        return cls(right_ascension, 0.5 * np.pi - colatitude)

    def functions(self, m: int, lmax: int) -> ComplexArray:
        """Y_lm of each direction times the number of signs of m, shape (n_pix, lmax + 1); zero for l < m.

        A map is the real part of the sum over m >= 0 and l of these times a_lm.
        """
        values = np.zeros((np.size(self.dec_rad), lmax + 1), dtype=np.complex128)
        ell = np.arange(m, lmax + 1)
        colatitude = 0.5 * np.pi - np.asarray(self.dec_rad)
        values[:, m:] = sph_harm_y(ell, m, colatitude[:, None], np.asarray(self.right_ascension_rad)[:, None])
        return values if m == 0 else 2.0 * values


@dataclass(frozen=True)
class GaussianMoments:
    """Mean (n_vec, n_data) and covariance (n_vec, n_data, n_data) of the data; exact, not always Gaussian."""

    mean: FloatArray
    covariance: FloatArray


@dataclass(frozen=True)
class ObservationOperator:
    """What one analysis of one observatory's data can see of the true sky.

    Attributes
    ----------
    response : mapping m -> ndarray, shape (n_obs, l_out, l_in)
        Real response R_m of the observed a_lm to the true a_lm, l counted from 0. A missing m = 0 means that the
        analysis calibrates itself on its own data and cannot see a_l0.
    noise : mapping m -> ndarray, shape (n_obs, l_out, l_out)
        Covariance of the noise of the observed a_lm, independent between observations. For `Components` there is
        more of it in the summary, because errors of amplitude and phase differ and are not those of a circular a_11.
    energy : EnergyResponse
        True rigidities that each observation averages over.
    summary : Components, Power or Pixels
        The numbers that are published.
    """

    response: Mapping[int, FloatArray]
    noise: Mapping[int, FloatArray]
    energy: EnergyResponse
    summary: Components | Power | Pixels

    @property
    def lmax(self) -> int:
        """Largest true multipole that the operator asks for."""
        return next(iter(self.response.values())).shape[2] - 1

    @property
    def n_obs(self) -> int:
        """Number of observations (energies) in the data set."""
        return int(self.energy.weights.shape[0])

    def expect(self, sky: TrueSky) -> GaussianMoments:
        r"""Mean and covariance of the data, for each parameter vector of the sky.

        With :math:`S_m = R_m C R_m^T + N_m` and the fixed part :math:`b_m = R_m a_m`, the power has mean
        :math:`\sum_m (|b_m|^2 + \mathrm{diag}\, S_m) / (2\ell+1)` and covariance
        :math:`\sum_m (2 |S_m|^2 + 4\,\mathrm{Re}\, b_m^* S_m b_m) / (2\ell+1)(2\ell'+1)`, sums over all m of both
        signs. The dipole components are linear: their mean is that of b_1, their covariance that of S_1 plus noise.
        So are pixels: the covariance between the directions i and j is
        :math:`\sum_m \lambda_m(i)^T S_m \lambda_m(j) \cos m(\alpha_i - \alpha_j)`.

        Raises
        ------
        ValueError
            If the sky is an ensemble given by draws: this operator assumes a fixed plus an isotropic Gaussian sky.
        ObsfitError
            If the covariance of pixels would be too large: take fewer, or `draw`.
        """
        self._refuse_draws(sky)
        fixed = None if sky.alm is None else self._respond(sky.alm)
        n_vec = sky.n_vec
        if isinstance(self.summary, Pixels):
            return self._expect_pixels(sky, fixed, self.summary)
        if isinstance(self.summary, Components):
            n = self.n_obs
            mean = np.zeros((n_vec, n, 2)) if fixed is None else _components(fixed[1][..., 1])
            covariance = np.zeros((n_vec, n, 2, n, 2))
            covariance[:, range(n), :, range(n), :] = self._component_noise()[:, None]
            power = self._observed_power(sky)
            if power is not None:
                # Real and imaginary part of a_11 carry half of its variance each.
                shared = 3.0 / (4.0 * np.pi) * self._signal(power, 1, np.array([1]))[:, :, 0, :, 0]
                for axis in range(2):
                    covariance[:, :, axis, :, axis] += shared
            return GaussianMoments(mean.reshape(n_vec, 2 * n), covariance.reshape(n_vec, 2 * n, 2 * n))
        ell = self.summary.ell
        mean = np.zeros((n_vec, self.n_obs, ell.size))
        covariance = np.zeros((n_vec, self.n_obs, ell.size, self.n_obs, ell.size))
        power = self._observed_power(sky)
        for m in self.response:
            first = int(np.searchsorted(ell, m))
            if first == ell.size:
                continue
            both_signs = 1.0 if m == 0 else 2.0
            s = self._total(power, m, ell[first:])
            mean[:, :, first:] += both_signs * np.einsum("volol->vol", s)
            block = 2.0 * s**2
            if fixed is not None:
                b = fixed[m][..., ell[first:]]
                mean[:, :, first:] += both_signs * np.abs(b) ** 2
                block = block + 4.0 * (b.conj()[..., None, None] * s * b[:, None, None]).real
            covariance[:, :, first:, :, first:] += both_signs * block
        scale = 1.0 / (2.0 * ell + 1.0)
        covariance *= scale[:, None, None] * scale
        n_data = self.n_obs * ell.size
        return GaussianMoments((mean * scale).reshape(n_vec, n_data), covariance.reshape(n_vec, n_data, n_data))

    def observe(self, alm: ComplexArray) -> FloatArray:
        """Return the data of one given sky without noise, shape (..., n_data), for alm (..., n_rig, n_alm)."""
        return self._summarise(self._respond(alm))

    def draw(self, sky: TrueSky, *, rng: np.random.Generator, size: int = 1) -> FloatArray:
        """Return random data sets: a random sky and random noise each, shape (n_vec, size, n_data).

        Of an ensemble given by draws, as many are taken at random, each at most once where there are enough. They need
        be neither Gaussian nor isotropic. A part of the sky that ends below `lmax` has no power above.
        """
        n_vec, n_rig = sky.n_vec, sky.rigidity_tv.size
        alm = np.zeros((n_vec, size, n_rig, alm_size(self.lmax)), dtype=np.complex128)
        if sky.alm is not None:
            alm += _resized(sky.alm, self.lmax)[:, None]
        if sky.draws is not None:
            n_real = sky.draws.shape[1]
            alm += _resized(sky.draws[:, rng.choice(n_real, size, replace=size > n_real)], self.lmax)
        if sky.c_ell is not None:
            values, vectors = np.linalg.eigh(np.moveaxis(sky.c_ell, -1, 1))
            root = vectors * np.sqrt(np.clip(values, 0.0, None))[..., None, :]
            for ell in range(min(self.lmax + 1, sky.c_ell.shape[-1])):
                for m in range(ell + 1):
                    alm[..., alm_index(self.lmax, ell, m)] += np.einsum(
                        "vab,vsb->vsa", root[:, ell], _normal((n_vec, size, n_rig), m, rng)
                    )
        observed = self._respond(alm)
        if isinstance(self.summary, Components):
            noise = np.linalg.cholesky(self._component_noise())
            clean = self._summarise(observed).reshape(n_vec, size, self.n_obs, 2)
            noisy = clean + np.einsum("oij,vsoj->vsoi", noise, rng.normal(size=clean.shape))
            return noisy.reshape(n_vec, size, -1)
        for m, covariance in self.noise.items():
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]
            observed[m] = observed[m] + np.einsum("olk,vsok->vsol", root, _normal(observed[m].shape, m, rng))
        return self._summarise(observed)

    def compose(self, other: ObservationOperator) -> ObservationOperator:
        r"""Return the operator that observes what `other` has observed: this one after the other.

        .. math:: R_m = R^{self}_m R^{other}_m, \qquad
                  N_m = R^{self}_m N^{other}_m R^{self\,T}_m + N^{self}_m.

        The energy response is that of `other`, the summary that of this operator, which acts on each observation by
        itself. An m that `other` cannot see keeps no response, but the noise that this operator adds to it.

        Parameters
        ----------
        other : ObservationOperator
            Its summary must be `Pixels`, which keeps all observed a_lm: those are passed on, band-limited, not the map
            in its directions.

        Raises
        ------
        ObsfitError
            If the summary of `other` does not keep the a_lm; if this operator averages over energies, which the other
            has done; or if the shapes do not fit.
        """
        if not isinstance(other.summary, Pixels):
            raise ObsfitError(
                f"the inner operator is summarised by {type(other.summary).__name__}, which keeps no a_lm to observe",
                expected="the summary Pixels",
                remedy="Build the inner operator with dataclasses.replace(other, summary=Pixels.healpix(nside)).",
            )
        if not self.energy.is_delta:
            raise ObsfitError(
                "the outer operator averages over energies, but acts on observations that have done so",
                expected="an outer operator with EnergyResponse.delta",
            )
        inner = next(iter(other.response.values()))
        outer = next(iter(self.response.values()))
        if outer.shape[2] != inner.shape[1] or self.n_obs not in (1, other.n_obs):
            raise ObsfitError(
                f"the inner operator gives {other.n_obs} observations up to l = {inner.shape[1] - 1}, the outer takes "
                f"{self.n_obs} up to l = {self.lmax}",
                expected="equal multipoles, and as many observations or an outer operator of one",
            )
        if isinstance(self.summary, Components) and self.summary.covariance.shape[0] != other.n_obs:
            raise ObsfitError(
                f"the outer noise is that of {self.summary.covariance.shape[0]} observations, the inner operator has "
                f"{other.n_obs}",
                expected="one covariance of the components for each observation",
            )
        response, noise = {}, {}
        for m, step in self.response.items():
            own = np.broadcast_to(self.noise[m], (other.n_obs, *self.noise[m].shape[1:]))
            if m in other.response:
                response[m] = step @ other.response[m]
                noise[m] = step @ other.noise[m] @ np.swapaxes(step, 1, 2) + own
            elif own.any():
                response[m] = np.zeros((other.n_obs, outer.shape[1], inner.shape[2]))
                noise[m] = np.array(own)
        return ObservationOperator(response, noise, other.energy, self.summary)

    @classmethod
    def probe(
        cls,
        chain: Callable[[ComplexArray], ComplexArray],
        lmax: int,
        *,
        energy: EnergyResponse,
        summary: Components | Power | Pixels,
        noise: Mapping[int, FloatArray] | None = None,
        amplitude: float = 1e-3,
        tolerance: float = 1e-3,
    ) -> ObservationOperator:
        r"""Return the operator of any linear chain from a true to an observed sky, by trying it.

        Skies with a single a_lm are pushed through the chain, real ones and for m > 0 imaginary ones:
        :math:`(R_m)_{\ell' \ell}` is the observed :math:`\tilde a_{\ell' m}` of :math:`a_{\ell m} = 1`, that is
        (lmax + 1)^2 + 2 runs of the chain. m = 0 is left out if nothing of it arrives.

        Parameters
        ----------
        chain : callable
            Observed a_lm of true a_lm without noise, both in healpy order (m >= 0): such as a mock observation that is
            expected, not drawn, and its reconstruction. Shape (n_in,) -> (n_out,).
        lmax : int
            Largest true multipole.
        energy : EnergyResponse
            What the observations average over; the response is the same for all of them.
        summary : Components, Power or Pixels
            As in the class.
        noise : mapping m -> ndarray, shape (n_obs, l_out, l_out), optional
            As in the class. Default: none.
        amplitude : float
            The a_lm that are tried: a chain that is linear only for small anisotropies needs small ones.
        tolerance : float
            Largest error, relative to the largest response, of being linear, real and diagonal in m.

        Raises
        ------
        ObsfitError
            If the chain mixes m, which an exposure that depends on right ascension does; if it turns phases; if it
            returns something for an empty sky; or if it is not linear. Each message says by how much.
        """
        size = (lmax + 1) * (lmax + 2) // 2
        empty = np.asarray(chain(np.zeros(size, dtype=np.complex128)), dtype=np.complex128)
        lmax_out = alm_lmax(empty.size)
        of_m = np.repeat(np.arange(lmax_out + 1), np.arange(lmax_out + 1, 0, -1))
        columns = np.zeros((size, empty.size), dtype=np.complex128)
        turned = np.zeros_like(columns)
        for index in range(size):
            sky = np.zeros(size, dtype=np.complex128)
            sky[index] = amplitude
            columns[index] = np.asarray(chain(sky)) / amplitude
            if index > lmax:
                turned[index] = np.asarray(chain(1j * sky)) / (1j * amplitude)
        turned[: lmax + 1] = columns[: lmax + 1]
        scale = np.abs(columns).max()
        if not np.isfinite(scale) or scale == 0.0:
            raise ObsfitError(f"the chain answers every sky with at most {scale}; expected a response")

        m_in = np.repeat(np.arange(lmax + 1), np.arange(lmax + 1, 0, -1))
        allowed = tolerance * scale
        mixed = np.where(m_in[:, None] == of_m, 0.0, np.maximum(np.abs(columns), np.abs(turned)))
        # All multipoles with falling size and mixed signs at once: small enough together for what one was alone.
        together = (
            amplitude * np.cos(np.arange(size)) / (1.0 + np.arange(size)) * np.where(m_in > 0, 1.0 + 1j, 1.0)
        )
        predicted = together.real @ columns + 1j * (together.imag @ turned)
        checks = (
            (np.abs(empty).max() / amplitude, "returns a_lm for an empty sky"),
            (mixed.max(), "mixes a_lm of different m, as a field of view that depends on right ascension does"),
            (np.abs(columns - turned).max(), "treats real and imaginary a_lm differently"),
            (np.abs(columns.imag).max(), "turns the phases of a_lm"),
            (np.abs(chain(together) - predicted).max() / amplitude, "is not linear"),
        )
        for size_of_error, complaint in checks:
            if not size_of_error <= allowed:
                raise ObsfitError(
                    f"the chain {complaint}: by {size_of_error / scale:.2g} of its largest response",
                    expected=f"at most the tolerance of {tolerance:g}",
                    remedy="Simulate through such a chain instead, or try smaller amplitudes if it is not linear.",
                )
        n_obs = energy.weights.shape[0]
        response = {}
        for m in range(min(lmax, lmax_out) + 1):
            matrix = np.zeros((lmax_out + 1, lmax + 1))
            matrix[m:, m:] = columns[np.ix_(m_in == m, of_m == m)].real.T
            if m > 0 or np.abs(matrix).max() > allowed:
                response[m] = np.repeat(matrix[None], n_obs, axis=0)
        if noise is None:
            noise = {m: np.zeros((n_obs, lmax_out + 1, lmax_out + 1)) for m in response}
        return cls(response, noise, energy, summary)

    def _refuse_draws(self, sky: TrueSky) -> None:
        if sky.draws is not None:
            raise ValueError(
                "moments are known of a fixed and an isotropic Gaussian sky; the sky given is an ensemble of draws: "
                "use draw"
            )

    def _respond(self, alm: ComplexArray) -> dict[int, ComplexArray]:
        """Observed a_lm for each m, shape (..., n_obs, l_out), of true a_lm (..., n_rig, n_alm)."""
        lmax = alm_lmax(alm.shape[-1])
        observed = {}
        for m, response in self.response.items():
            stop = min(lmax, self.lmax)
            start = alm_index(lmax, m, m)
            column = self._averaged(alm[..., start : start + stop - m + 1])
            observed[m] = np.einsum("olk,...ok->...ol", response[:, :, m : stop + 1], column, optimize=True)
        return observed

    def _averaged(self, values: ComplexArray) -> ComplexArray:
        """Values of each observation, shape (..., n_obs, k), of values at the rigidities (..., n_rig, k)."""
        if self.energy.is_delta:
            return values[..., np.argmax(self.energy.weights, axis=1), :]
        return self.energy.weights @ values

    def _observed_power(self, sky: TrueSky) -> FloatArray | None:
        """Power of the isotropic part between observations, averaged over energies, (n_vec, n_obs, n_obs, l_in)."""
        if sky.c_ell is None:
            return None
        w = self.energy.weights
        return np.einsum("oa,vabk,pb->vopk", w, sky.c_ell[..., : self.lmax + 1], w, optimize=True)

    def _total(self, power: FloatArray | None, m: int, rows: NDArray[np.int64]) -> FloatArray:
        """S_m, signal and noise, at the observed multipoles `rows`, shape (n_vec, n_obs, l_out, n_obs, l_out)."""
        n_vec = 1 if power is None else power.shape[0]
        total = np.zeros((n_vec, self.n_obs, rows.size, self.n_obs, rows.size))
        if power is not None:
            total += self._signal(power, m, rows)
        for obs in range(self.n_obs):
            total[:, obs, :, obs, :] += self.noise[m][obs][np.ix_(rows, rows)]
        return total

    def _component_noise(self) -> FloatArray:
        """Covariance of the noise of the components, shape (n_obs, 2, 2): of the summary and of a_11."""
        assert isinstance(self.summary, Components)
        circular = 3.0 / (4.0 * np.pi) * self.noise[1][:, 1, 1]
        return self.summary.covariance + circular[:, None, None] * np.eye(2)

    def _expect_pixels(
        self, sky: TrueSky, fixed: Mapping[int, ComplexArray] | None, pixels: Pixels
    ) -> GaussianMoments:
        n_vec, n_pix = sky.n_vec, np.size(pixels.dec_rad)
        n_data = self.n_obs * n_pix
        if n_vec * n_data**2 > LARGEST_COVARIANCE:
            raise ObsfitError(
                f"the covariance of {n_data} pixels for {n_vec} parameter vectors has {n_vec * n_data**2:.3g} numbers",
                expected=f"at most {LARGEST_COVARIANCE:.3g}",
                remedy="Take fewer directions or parameter vectors, or draw maps.",
            )
        covariance = np.zeros((n_vec, self.n_obs, n_pix, self.n_obs, n_pix))
        power = self._observed_power(sky)
        for m, response in self.response.items():
            rows = np.arange(m, response.shape[1])
            # Real and imaginary part of a_lm carry half of its variance each.
            y = pixels.functions(m, response.shape[1] - 1)[:, rows] * (1.0 if m == 0 else np.sqrt(0.5))
            total = self._total(power, m, rows)
            for part in (y.real, y.imag):
                covariance += np.einsum("il,volpk,jk->voipj", part, total, part, optimize=True)
        mean = np.zeros((n_vec, n_data)) if fixed is None else self._summarise(fixed)
        return GaussianMoments(mean, covariance.reshape(n_vec, n_data, n_data))

    def _signal(self, power: FloatArray, m: int, rows: NDArray[np.int64]) -> FloatArray:
        """R_m C R_m^T between all observations, shape (n_vec, n_obs, l_out, n_obs, l_out)."""
        part = self.response[m][:, rows, m : power.shape[-1]]
        left = part[:, None] * power[:, :, :, None, m:]
        return np.swapaxes(left @ np.swapaxes(part, 1, 2), 2, 3)

    def _summarise(self, observed: Mapping[int, ComplexArray]) -> FloatArray:
        if isinstance(self.summary, Components):
            components = _components(observed[1][..., 1])
            return components.reshape(*components.shape[:-2], -1)
        if isinstance(self.summary, Pixels):
            maps = np.asarray(
                sum((a @ self.summary.functions(m, a.shape[-1] - 1).T).real for m, a in observed.items())
            )
            return maps.reshape(*maps.shape[:-2], -1)
        ell = self.summary.ell
        power = sum((1.0 if m == 0 else 2.0) * np.abs(a[..., ell]) ** 2 for m, a in observed.items())
        power = np.asarray(power) / (2.0 * ell + 1.0)
        return power.reshape(*power.shape[:-2], -1)


def _resized(alm: ComplexArray, lmax: int) -> ComplexArray:
    """The a_lm up to another lmax, last axis in healpy order; zero where there are none."""
    old = alm_lmax(alm.shape[-1])
    resized = np.zeros((*alm.shape[:-1], alm_size(lmax)), dtype=np.complex128)
    last = min(old, lmax)
    for m in range(last + 1):
        start, source = alm_index(lmax, m, m), alm_index(old, m, m)
        resized[..., start : start + last - m + 1] = alm[..., source : source + last - m + 1]
    return resized


def _components(a_11: ComplexArray) -> FloatArray:
    r"""(delta_0h, delta_6h) = sqrt(3/2pi) (-Re a_11, Im a_11), Eq. (18) of AM17; last axis added."""
    return np.sqrt(3.0 / (2.0 * np.pi)) * np.stack([-a_11.real, a_11.imag], -1)


def _normal(shape: tuple[int, ...], m: int, rng: np.random.Generator) -> ComplexArray:
    """Standard normal a_lm: real at m = 0, else complex with unit total variance."""
    real = rng.normal(size=shape)
    if m == 0:
        return real.astype(np.complex128)
    return (real + 1j * rng.normal(size=shape)) / np.sqrt(2.0)
