r"""Joint posterior of the true a_lm, their power and the nuisances of several observatories that see one sky.

Each observatory gives :math:`y_m = g R_m a_m + n_m` (`ObservedHarmonics`), the sky is Gaussian and isotropic,
:math:`\langle|a_{\ell m}|^2\rangle = C_\ell`, and blocks of different m are independent given C_l. One sweep is

1. in one sweep of three, the relative amplitudes g of all observatories but the first, the sky integrated out
   (slices);
2. the sky given all else, an exact Gaussian draw for each m;
3. the noise scales given the misfits, exact inverse gamma;
4. each C_l given the sky, exact truncated inverse gamma;
5. each C_l again with :math:`x = a/\sqrt{C_\ell}` held fixed, so that the sky is scaled with it (slices).

Steps 1 and 2 together are one draw from the joint conditional of amplitudes and sky: drawn in turn they would creep,
because a sky known to a part in a thousand holds an amplitude as tightly. Step 4 alone creeps where noise exceeds
signal, step 5 alone where signal exceeds noise; interwoven (Yu and Meng 2011, J. Comput. Graph. Stat. 20, 531) they
mix everywhere. The scheme without step 1, 3 and 5 is that of Wandelt, Larson and Lakshminarayanan (2004, Phys. Rev. D
70, 083511) for the microwave background.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv
from tqdm import tqdm

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.infer import _sky_kernels as kernels
from obsfit.infer.diagnostics import sample_sizes
from obsfit.infer.observed_harmonics import ObservedHarmonics
from obsfit.infer.run_store import Rewriting, looks, opened_store, stored_run, to_resume, write_head
from obsfit.provenance import atomic_write, stamp
from obsfit.sky.harmonics import alm_map

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

FORMAT = "obsfit-sky"
FORMAT_VERSION = 1
# Arrays of stored samples, and of the state of a chain.
_KEPT = ("alm", "c_ell", "amplitude", "noise_scale")
_STATE = ("root", "unit", "amplitude", "noise_scale")
REACH = 8.0
"""The prior of a relative amplitude is cut at this many standard deviations, and at zero."""
AMPLITUDE_SHARE = 1.0 / 3.0
"""Share of sweeps that draw amplitudes, chosen at random: the step costs twice all others, and mixes best."""


@dataclass(frozen=True)
class SkyPrior:
    r"""Priors of power and nuisances.

    Attributes
    ----------
    low, high : float
        Range of every C_l.
    index : float
        :math:`p(C_\ell) \propto C_\ell^{-\mathrm{index}}` within the range: 1 is flat in the logarithm, 0 flat. It is
        proper only because the range ends. Multipoles whose noise exceeds their signal feel its lower end: put it
        near the noise, or the many that could be nothing at all push power into the noise scales.
    amplitude_scatter : float
        Standard deviation of the normal prior, around 1, of the amplitude of each observatory relative to the
        first; 0 holds them at 1.
    noise_scatter : float
        Standard deviation of the inverse-gamma prior, of mean 1, of each noise variance relative to the one stated;
        0 holds them at 1.
    """

    __pydantic_config__ = FORBID

    low: float = 1e-12
    high: float = 1e-4
    index: float = 1.0
    amplitude_scatter: float = 0.1
    noise_scatter: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.high < math.inf:
            raise ConfigurationError(f"prior of C_l: low {self.low}, high {self.high}", expected="0 < low < high")
        for name in ("index", "amplitude_scatter", "noise_scatter"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"prior.{name} = {getattr(self, name)}", expected="a number of 0 or more")


@dataclass(frozen=True)
class SkySamplerSettings:
    """How long to sample.

    Attributes
    ----------
    chains : int
        Independent chains, each from its own draw of the prior.
    burn_in : int
        First sweeps of each chain, left out.
    thin : int
        Sweeps from one stored sample to the next.
    target : float
        Effective samples of every C_l and every nuisance at which to stop.
    max_r_hat : float
        Largest rank-normalised R-hat over the chains at which to stop.
    max_sweeps : int
        Sweeps of each chain at which to give up.
    block : int
        Sweeps between two looks at most; a run can be resumed at the end of a block.
    report : int
        Largest multipole that is stored and judged; 0 means all.
    """

    __pydantic_config__ = FORBID

    chains: int = 4
    burn_in: int = 500
    thin: int = 5
    target: float = 1000.0
    max_r_hat: float = 1.01
    max_sweeps: int = 100_000
    block: int = 500
    report: int = 20

    def __post_init__(self) -> None:
        for name in ("chains", "thin", "target", "max_sweeps", "block"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"sampler.{name} = {getattr(self, name)}", expected="a number above 0")
        if self.burn_in < 0 or self.report < 0:
            raise ConfigurationError(
                f"sampler: burn_in {self.burn_in}, report {self.report}", expected="0 or more"
            )
        if not self.max_r_hat > 1.0:
            raise ConfigurationError(f"sampler.max_r_hat = {self.max_r_hat}", expected="a number above 1")


@dataclass(frozen=True)
class SkySystem:
    """Data of all observatories, reduced to what the sky can feel of them.

    Attributes
    ----------
    names : tuple of str
        Observatories; amplitudes are relative to the first.
    prior : SkyPrior
        Priors.
    information : ndarray, shape (n_obs, lmax + 1, lmax + 1, lmax + 1)
        R_m^T N_m^-1 R_m by (observatory, m, l, l').
    projected : ndarray, complex, shape (n_obs, lmax + 1, lmax + 1)
        R_m^T N_m^-1 y_m by (observatory, m, l).
    square : ndarray, shape (n_obs,)
        Chi-square of the data against no sky, at noise scale 1.
    freedom : ndarray, shape (n_obs,)
        Real numbers measured.
    """

    names: tuple[str, ...]
    prior: SkyPrior
    information: FloatArray
    projected: ComplexArray
    square: FloatArray
    freedom: FloatArray

    @property
    def lmax(self) -> int:
        """Largest multipole of the true sky."""
        return self.information.shape[1] - 1

    @classmethod
    def of(cls, data: Sequence[ObservedHarmonics], prior: SkyPrior | None = None) -> SkySystem:
        """Return the system of several observatories of one sky.

        Raises
        ------
        ConfigurationError
            If there is no observatory, two share a name, or their skies end at different multipoles.
        """
        names = tuple(one.name for one in data)
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(
                f"observatories {', '.join(names) or '(none)'}", expected="at least one, each with its own name"
            )
        if len({one.lmax for one in data}) > 1:
            raise ConfigurationError(
                "true skies end at l = " + ", ".join(f"{one.lmax} ({one.name})" for one in data),
                expected="one lmax for all observatories",
            )
        size = data[0].lmax + 1
        information = np.zeros((len(data), size, size, size))
        projected = np.zeros((len(data), size, size), dtype=np.complex128)
        square = np.zeros(len(data))
        for k, one in enumerate(data):
            for m, response in one.response.items():
                try:
                    lower = np.linalg.cholesky(one.noise[m])
                except np.linalg.LinAlgError:
                    raise ConfigurationError(
                        f"{one.name}: the noise covariance of m = {m} is not positive definite",
                        remedy="Raise the support below which directions are left out.",
                    ) from None
                start = max(m, 1)
                white = np.linalg.solve(lower, response[:, start:])
                values = np.linalg.solve(lower, one.alm[m])
                information[k, m, start:, start:] = white.T @ white
                projected[k, m, start:] = white.T @ values
                square[k] += (1.0 if m == 0 else 2.0) * float(np.sum(np.abs(values) ** 2))
        freedom = np.array([float(one.degrees_of_freedom) for one in data])
        return cls(names, prior or SkyPrior(), information, projected, square, freedom)


@dataclass(frozen=True)
class SkyState:
    """One point of the joint posterior.

    Attributes
    ----------
    root : ndarray, shape (lmax + 1,)
        Square roots of C_l; that of l = 0 is zero.
    unit : ndarray, complex, shape (lmax + 1, lmax + 1)
        a_lm / sqrt(C_l) by (m, l).
    amplitude, noise_scale : ndarray, shape (n_obs,)
        g and s of each observatory.
    """

    root: FloatArray
    unit: ComplexArray
    amplitude: FloatArray
    noise_scale: FloatArray

    @property
    def c_ell(self) -> FloatArray:
        """Power, shape (lmax + 1,)."""
        return self.root**2

    def alm(self, lmax: int | None = None) -> ComplexArray:
        """a_lm in healpy order up to `lmax`, by default all."""
        stop = len(self.root) if lmax is None else lmax + 1
        scaled = self.root * self.unit
        return np.concatenate([scaled[m, m:stop] for m in range(stop)])


def draw_prior(system: SkySystem, *, rng: np.random.Generator) -> SkyState:
    """Return a draw of power, sky and nuisances from their prior: the start of a chain."""
    prior, size = system.prior, system.lmax + 1
    uniform = rng.random(size)
    if prior.index == 1.0:
        c_ell = prior.low * (prior.high / prior.low) ** uniform
    else:
        power = 1.0 - prior.index
        # Relative to an end, so that a steep index does not overflow.
        ratio = (prior.low / prior.high) ** power
        c_ell = prior.high * (ratio + uniform * (1.0 - ratio)) ** (1.0 / power)
    root = np.sqrt(np.clip(c_ell, prior.low, prior.high))
    root[0] = 0.0
    white = rng.standard_normal((2, size, size))
    unit = np.triu((white[0] + 1j * white[1]) * np.sqrt(0.5))
    unit[0] = white[0, 0]
    unit[0, 0] = 0.0
    amplitude, noise_scale = np.ones(len(system.names)), np.ones(len(system.names))
    for k in range(1, len(system.names)):
        if prior.amplitude_scatter > 0.0:
            amplitude[k] = 0.0
            while not 0.0 < amplitude[k] <= 1.0 + REACH * prior.amplitude_scatter:
                amplitude[k] = 1.0 + prior.amplitude_scatter * rng.standard_normal()
    if prior.noise_scatter > 0.0:
        shape = 2.0 + prior.noise_scatter**-2
        noise_scale = (shape - 1.0) / rng.standard_gamma(shape, len(system.names))
    return SkyState(root, unit, amplitude, noise_scale)


def sweep(system: SkySystem, state: SkyState, *, rng: np.random.Generator) -> SkyState:
    """Return the next state of a chain: one turn of the five steps that the module describes.

    The sweep leaves the joint posterior of sky, power and nuisances as it is.
    """
    prior, information, projected = system.prior, system.information, system.projected
    root, amplitude = state.root.copy(), state.amplitude.copy()
    noise_scale = state.noise_scale
    if prior.amplitude_scatter > 0.0 and len(amplitude) > 1 and rng.random() < AMPLITUDE_SHARE:
        kernels.draw_amplitudes(
            information, projected, amplitude, noise_scale, root, prior.amplitude_scatter, REACH, rng
        )
    total, data = kernels.combine(information, projected, amplitude, noise_scale)
    unit = kernels.draw_sky(total, data, root, rng)
    if prior.noise_scatter > 0.0:
        shape = 2.0 + prior.noise_scatter**-2
        chi2 = kernels.misfit(information, projected, system.square, amplitude, unit, root)
        noise_scale = (shape - 1.0 + 0.5 * chi2) / rng.standard_gamma(shape + 0.5 * system.freedom)
        total, data = kernels.combine(information, projected, amplitude, noise_scale)
    power = kernels.powers(unit, root)
    fresh = np.zeros_like(root)
    fresh[1:] = np.sqrt(draw_power(power[1:], np.arange(1, len(root)), prior, rng=rng))
    unit[:, 1:] *= root[1:] / fresh[1:]
    kernels.rescale(total, data, unit, fresh, prior.index, prior.low, prior.high, rng)
    return SkyState(fresh, unit, amplitude, noise_scale)


def draw_power(
    power: FloatArray, ell: NDArray[np.int64], prior: SkyPrior, *, rng: np.random.Generator
) -> FloatArray:
    r"""Return C_l, shape (n,), drawn given the sky.

    With :math:`S = \sum_m |a_{\ell m}|^2` over both signs of m, S / 2 C_l has a gamma distribution of shape
    l - 1/2 + index, cut to the range of the prior; drawn by its inverse distribution function.

    Parameters
    ----------
    power : ndarray, shape (n,)
        S of each multipole.
    ell : ndarray of int, shape (n,)
        Multipoles, at least 1.
    prior : SkyPrior
        Range and index.
    rng : numpy.random.Generator
        Source of one number for each multipole.
    """
    shape = ell - 0.5 + prior.index
    half = 0.5 * power
    low, high = half / prior.high, half / prior.low
    uniform = rng.random(len(power))
    below, above = gammainc(shape, [low, high]), gammaincc(shape, [low, high])
    # The smaller of the two tails keeps its digits.
    left = gammaincinv(shape, below[0] + uniform * (below[1] - below[0]))
    right = gammainccinv(shape, above[0] + uniform * (above[1] - above[0]))
    drawn = np.where(below[0] < 0.5, left, right)
    # Where the range leaves a tail too thin for any number, the nearest end has all of it.
    end = np.where(low > shape, prior.high, prior.low)
    numbers = np.isfinite(drawn) & (drawn > 0.0)
    c_ell = np.divide(half, drawn, out=end, where=numbers)
    return np.clip(c_ell, prior.low, prior.high)


@dataclass(frozen=True)
class SkyPosterior:
    """Samples of the one sky behind several observatories.

    Attributes
    ----------
    observatories : tuple of str
        Their names; amplitudes are relative to the first.
    alm : ndarray, complex64, shape (n_chains, n, n_alm)
        True a_lm in healpy order.
    c_ell : ndarray, shape (n_chains, n, lmax + 1)
        Power of the ensemble that the sky was drawn from; zero at l = 0.
    amplitude, noise_scale : ndarray, shape (n_chains, n, n_obs)
        Relative amplitude g and noise scale s of each observatory.
    names : tuple of str
        Numbers that were judged: log_c_1, ..., amplitude and noise scale of observatories where they are free.
    effective, r_hat : ndarray, shape (n_names,)
        Bulk effective sample size and rank-normalised R-hat over chains.
    sweeps : int
        Sweeps of each chain, burn-in included.
    provenance : mapping
        Versions, seed, configuration, priors, checksums of the data.
    """

    observatories: tuple[str, ...]
    alm: NDArray[np.complex64]
    c_ell: FloatArray
    amplitude: FloatArray
    noise_scale: FloatArray
    names: tuple[str, ...]
    effective: FloatArray
    r_hat: FloatArray
    sweeps: int
    provenance: Mapping[str, Any]

    @property
    def lmax(self) -> int:
        """Largest multipole stored."""
        return self.c_ell.shape[-1] - 1

    def skies(self, size: int | None = None) -> ComplexArray:
        """a_lm of all chains in one array (n, n_alm), thinned evenly to at most `size`."""
        flat = self.alm.reshape(-1, self.alm.shape[-1])
        if size is not None and size < len(flat):
            flat = flat[np.linspace(0, len(flat) - 1, size).round().astype(int)]
        return flat.astype(np.complex128)

    def spectrum(self) -> Table:
        """Table of C_l: ell, median, the 16, 84, 2.5 and 97.5 percentiles, effective samples and R-hat."""
        c_ell = self.c_ell[..., 1:].reshape(-1, self.lmax)
        table = Table({"ell": np.arange(1, self.lmax + 1)})
        for name, level in (("median", 50), ("p16", 16), ("p84", 84), ("p2.5", 2.5), ("p97.5", 97.5)):
            table[name] = np.percentile(c_ell, level, axis=0)
        table["effective"], table["r_hat"] = self.effective[: self.lmax], self.r_hat[: self.lmax]
        return table

    def nuisances(self) -> Table:
        """Table of amplitudes and noise scales, one row for each observatory and nuisance; held ones have sd 0."""
        rows = []
        for kind, values in (("amplitude", self.amplitude), ("noise_scale", self.noise_scale)):
            for k, name in enumerate(self.observatories):
                flat = values[..., k].ravel()
                low2, low, median, high, high2 = np.percentile(flat, [2.5, 16, 50, 84, 97.5])
                rows.append(
                    {
                        "nuisance": kind, "observatory": name, "median": median, "sd": flat.std(), "p16": low,
                        "p84": high, "p2.5": low2, "p97.5": high2,
                    }
                )  # fmt: skip
        return Table(rows=rows)

    def map_moments(
        self, nside: int, *, size: int = 500, without_ring_means: bool = True
    ) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the sky at each pixel, each of shape (12 nside^2,), RING order.

        Parameters
        ----------
        nside : int
            Resolution.
        size : int
            Samples to use at most.
        without_ring_means : bool
            Leave out the a_l0, of which data that are calibrated on themselves know nothing.
        """
        skies = self.skies(size)
        if without_ring_means:
            skies[:, : self.lmax + 1] = 0.0
        maps = alm_map(skies, nside)
        return maps.mean(axis=0), maps.std(axis=0, ddof=1)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the samples to an HDF5 file, complete or not at all."""
        with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
            _write_head(file, self.observatories, self.sweeps, self.provenance)
            file.attrs["names"] = json.dumps(self.names)
            for name in (*_KEPT, "effective", "r_hat"):
                file[name] = getattr(self, name)

    @classmethod
    def load(cls, path: str | Path) -> SkyPosterior:
        """Return the samples stored in `path`.

        Raises
        ------
        DataFormatError
            If the file holds no finished samples of this format.
        """
        with opened_store(
            path, FORMAT, what="finished posterior of a sky", needs="names",
            remedy="An interrupted run is continued by sample_sky(..., resume=True).",
        ) as file:  # fmt: skip
            return cls(
                observatories=tuple(json.loads(file.attrs["observatories"])),
                names=tuple(json.loads(file.attrs["names"])), sweeps=int(file.attrs["sweeps"]),
                provenance=json.loads(file.attrs["provenance"]),
                **{name: file[name][:] for name in (*_KEPT, "effective", "r_hat")},
            )  # fmt: skip


@dataclass
class _Run:
    """State of a run between two blocks: all that resuming needs."""

    states: list[SkyState]
    generators: list[np.random.Generator]
    sweeps: int
    alm: list[NDArray[np.complex64]]
    c_ell: list[FloatArray]
    amplitude: list[FloatArray]
    noise_scale: list[FloatArray]


def sample_sky(
    data: Sequence[ObservedHarmonics],
    *,
    rng: np.random.Generator,
    prior: SkyPrior | None = None,
    settings: SkySamplerSettings | None = None,
    store: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> SkyPosterior:
    """Return converged samples of the one sky that several observatories see.

    Sampling goes on until every log C_l up to `settings.report` and every free nuisance has the wanted number of
    effective samples, and R-hat over the chains is small. The a_l0 of data without m = 0 are drawn from their C_l:
    nothing is known of them but that the sky is isotropic on average.

    Parameters
    ----------
    data : sequence of ObservedHarmonics
        Each observatory sees the same sky; their noise must be independent.
    rng : numpy.random.Generator
        Source of the generators of all chains; unused when resuming.
    prior : SkyPrior, optional
        Priors of power and nuisances.
    settings : SkySamplerSettings, optional
        Chains, target, limits.
    store : path, optional
        HDF5 file that is rewritten atomically while the run goes on. A run that was killed continues from it with
        ``resume=True`` to the very same samples that it would have given.
    resume : bool
        Continue from `store` if it exists; data, prior, chains, thin, burn_in, block and report must be the same.
    overwrite : bool
        Replace an existing `store` instead of refusing.
    progress : bool
        Show a progress bar on stderr.
    seed : int, optional
        Seed from which `rng` was made, for the record only.
    configuration : mapping, optional
        Resolved configuration, stored in the result.

    Raises
    ------
    ConvergenceError
        After `settings.max_sweeps`; the message carries effective samples and R-hat. The store keeps the chains.
    ConfigurationError
        If the store exists and neither resume nor overwrite is given, or belongs to other data or priors.
    """
    prior, settings = prior or SkyPrior(), settings or SkySamplerSettings()
    system = SkySystem.of(data, prior)
    report = min(settings.report or system.lmax, system.lmax)
    path = None if store is None else Path(store)
    identity = _identity(data, system, settings, report)
    provenance = {
        **stamp(FORMAT, format_version=FORMAT_VERSION, seed=seed, configuration=configuration),
        **identity,
        "left_out": {one.name: one.left_out for one in data},
        "degrees_of_freedom": {one.name: one.degrees_of_freedom for one in data},
    }
    stored = to_resume(path, resume=resume, overwrite=overwrite)
    run = _start(system, settings.chains, rng) if stored is None else _load(stored, identity)
    if isinstance(run, SkyPosterior):
        return run
    names = _names(system, report)
    effective, r_hat = np.full(len(names), np.nan), np.full(len(names), np.nan)
    judged = looks(settings.max_sweeps, settings.block, growth=1.3, least=settings.burn_in + 8 * settings.thin)
    converged = False
    save = partial(_save, path, system, run, provenance)
    rewriting = Rewriting(save)
    bar = tqdm(total=max(judged), initial=run.sweeps, unit="sweep", disable=not progress, leave=False)
    try:
        while not converged and run.sweeps < max(judged):
            _advance(system, run, settings, report)
            bar.update(settings.block)
            if run.sweeps in judged:
                effective, r_hat = _judge(system, run, report)
                converged = bool(effective.min() >= settings.target and r_hat.max() <= settings.max_r_hat)
                worst = int(effective.argmin())
                logger.info("%d sweeps, %s has %.0f effective samples", run.sweeps, names[worst], effective.min())
            rewriting.if_due()
    finally:
        bar.close()
        save()
    if not converged:
        if run.alm and np.isnan(effective).all():
            effective, r_hat = _judge(system, run, report)
        worst, furthest = int(np.nanargmin(effective)), int(np.nanargmax(r_hat))
        raise ConvergenceError(
            f"not converged after {run.sweeps} sweeps of {settings.chains} chains: {names[worst]} has "
            f"{effective[worst]:.0f} effective samples, {names[furthest]} has R-hat {r_hat[furthest]:.3f}",
            expected=f"{settings.target:.0f} effective samples and R-hat up to {settings.max_r_hat}",
            remedy=f"Resume with max_sweeps of about {int(1.5 * run.sweeps * settings.target / effective[worst])}, "
            "or ask for fewer effective samples.",
        )
    stacked = {name: np.concatenate(getattr(run, name), axis=1) for name in _KEPT}
    result = SkyPosterior(
        system.names, names=names, effective=effective, r_hat=r_hat, sweeps=run.sweeps, provenance=provenance,
        **stacked,
    )  # fmt: skip
    if path is not None:
        result.save(path, overwrite=True)
    return result


def _start(system: SkySystem, chains: int, rng: np.random.Generator) -> _Run:
    """A run that has not made a sweep."""
    entropy = rng.integers(2**32, size=4).tolist()
    generators = [
        np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(chain,))) for chain in range(chains)
    ]
    return _Run([draw_prior(system, rng=own) for own in generators], generators, 0, [], [], [], [])


def _advance(system: SkySystem, run: _Run, settings: SkySamplerSettings, report: int) -> None:
    """Sample one block of every chain from where the run stands."""
    kept: dict[str, list[list[Any]]] = {name: [] for name in _KEPT}
    for chain, rng in enumerate(run.generators):
        state = run.states[chain]
        for values in kept.values():
            values.append([])
        for number in range(run.sweeps + 1, run.sweeps + settings.block + 1):
            state = sweep(system, state, rng=rng)
            if number > settings.burn_in and (number - settings.burn_in) % settings.thin == 0:
                kept["alm"][chain].append(state.alm(report).astype(np.complex64))
                kept["c_ell"][chain].append(state.c_ell[: report + 1])
                kept["amplitude"][chain].append(state.amplitude)
                kept["noise_scale"][chain].append(state.noise_scale)
        run.states[chain] = state
    run.sweeps += settings.block
    if kept["alm"][0]:
        for name in _KEPT:
            getattr(run, name).append(np.array(kept[name]))


def _names(system: SkySystem, report: int) -> tuple[str, ...]:
    names = [f"log_c_{ell}" for ell in range(1, report + 1)]
    if system.prior.amplitude_scatter > 0.0:
        names += [f"amplitude of {name}" for name in system.names[1:]]
    if system.prior.noise_scatter > 0.0:
        names += [f"noise_scale of {name}" for name in system.names]
    return tuple(names)


def _judge(system: SkySystem, run: _Run, report: int) -> tuple[FloatArray, FloatArray]:
    """Effective samples and R-hat of what `_names` lists."""
    columns = [np.log(np.concatenate(run.c_ell, axis=1)[..., 1 : report + 1])]
    if system.prior.amplitude_scatter > 0.0:
        columns.append(np.concatenate(run.amplitude, axis=1)[..., 1:])
    if system.prior.noise_scatter > 0.0:
        columns.append(np.concatenate(run.noise_scale, axis=1))
    return sample_sizes(np.concatenate(columns, axis=2).transpose(1, 0, 2))


def _identity(
    data: Sequence[ObservedHarmonics], system: SkySystem, settings: SkySamplerSettings, report: int
) -> dict[str, Any]:
    """What must be the same for a run to be continued."""
    return {
        "data_sha256": {one.name: one.sha256 for one in data},
        "prior": asdict(system.prior),
        "lmax": system.lmax,
        "report": report,
        **{name: getattr(settings, name) for name in ("chains", "burn_in", "thin", "block")},
    }


def _write_head(
    file: h5py.File, observatories: tuple[str, ...], sweeps: int, provenance: Mapping[str, Any]
) -> None:
    write_head(file, FORMAT, FORMAT_VERSION, provenance)
    file.attrs["observatories"], file.attrs["sweeps"] = json.dumps(observatories), sweeps


def _save(path: Path | None, system: SkySystem, run: _Run, provenance: Mapping[str, Any]) -> None:
    if path is None or not run.alm:
        return
    with atomic_write(path, overwrite=True) as partial, h5py.File(partial, "w") as file:
        _write_head(file, system.names, run.sweeps, provenance)
        file.attrs["generators"] = json.dumps([rng.bit_generator.state for rng in run.generators])
        for name in _STATE:
            file[f"state/{name}"] = np.array([getattr(state, name) for state in run.states])
        for name in _KEPT:
            file[name] = np.concatenate(getattr(run, name), axis=1)


def _load(path: Path, identity: Mapping[str, Any]) -> _Run | SkyPosterior:
    """The interrupted run in `path`, or its result if it had finished."""
    with stored_run(path, FORMAT, identity, what="posterior of a sky") as file:
        if "generators" not in file.attrs:
            return SkyPosterior.load(path)
        generators = []
        for saved in json.loads(file.attrs["generators"]):
            generators.append(np.random.default_rng(0))
            generators[-1].bit_generator.state = saved
        parts = [file[f"state/{name}"][:] for name in _STATE]
        states = [SkyState(*values) for values in zip(*parts, strict=True)]
        return _Run(states, generators, int(file.attrs["sweeps"]), *([file[name][:]] for name in _KEPT))
