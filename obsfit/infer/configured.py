"""A fit described by a TOML file: data, model, priors, nuisances, sampler, output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
from scipy import stats

from obsfit.composition import add_models
from obsfit.configuration import FORBID, read_quantity
from obsfit.emulate.emulator import read_emulator
from obsfit.emulate.shipped import located_emulator
from obsfit.errors import ConfigurationError
from obsfit.infer.dipole_term import DipoleScatter, DipoleTerm
from obsfit.infer.emcee_runner import SamplerSettings, run_emcee
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.infer.evidence import NestedSettings, nested_evidence
from obsfit.infer.importance import ImportanceSettings, run_importance
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.one_sky_term import Nuisances, OneSkyTerm
from obsfit.infer.partial import PartialPosterior
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.infer.result import FitResult
from obsfit.infer.simulated_term import SimulatedTerm, Simulation
from obsfit.infer.weighted_samples import WeightedSamples
from obsfit.ingest.catalogue import load_dipoles, load_spectra, load_spectrum, located
from obsfit.plugins import load_model
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum

# Names of nuisances in a configuration, and where they belong.
SCATTER = {
    "amplitude_scatter": "amplitude", "direction_scatter": "direction", "log10_intrinsic_scatter": "intrinsic",
}  # fmt: skip
NUISANCES = {"log10_noise": "noise", "response_width": "width", "declination_weight": "weight"}
# One prior for a nuisance that each record has for itself.
SHARED = ("declination_weight",)


@dataclass(frozen=True)
class DataSettings:
    """Which measurements to fit: a spectrum or a table of dipoles, by shipped name or path.

    `energy` chooses one spectrum of a file that has several, `energies` several of them; `all` takes every one.
    """

    __pydantic_config__ = FORBID

    spectrum: str = ""
    dipoles: str = ""
    energy: str = ""
    energies: tuple[str, ...] = ()
    field: str = ""
    ell_min: int = 1
    ell_max: int = 0
    energy_min: str = ""
    energy_max: str = ""
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSettings:
    """One model, or several whose skies add; `settings` holds the fixed choices of each by name."""

    __pydantic_config__ = FORBID

    names: tuple[str, ...]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PriorSettings:
    """A prior: uniform (low, high), normal (mean, sd), half-normal (sd), or fixed nuisance (none)."""

    __pydantic_config__ = FORBID

    distribution: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    sd: float | None = None

    def frozen(self, name: str) -> Any | None:
        """Return the frozen scipy.stats distribution, or None for "none"."""
        needed = {"uniform": ("low", "high"), "normal": ("mean", "sd"), "half-normal": ("sd",), "none": ()}
        if self.distribution not in needed:
            raise ConfigurationError(
                f"prior of {name}: distribution {self.distribution!r} is not known",
                expected=f"one of {', '.join(needed)}",
            )
        given = tuple(key for key in ("low", "high", "mean", "sd") if getattr(self, key) is not None)
        if given != needed[self.distribution]:
            raise ConfigurationError(
                f"prior of {name}: {self.distribution} was given {', '.join(given) or 'nothing'}",
                expected=", ".join(needed[self.distribution]) or "no numbers",
            )
        if self.distribution == "none":
            return None
        if self.distribution == "uniform":
            if not float(self.low or 0.0) < float(self.high or 0.0):
                raise ConfigurationError(
                    f"prior of {name}: low {self.low}, high {self.high}", expected="low < high"
                )
            return stats.uniform(self.low, float(self.high or 0.0) - float(self.low or 0.0))
        if not float(self.sd or 0.0) > 0.0:
            raise ConfigurationError(f"prior of {name}: sd {self.sd}", expected="sd > 0")
        return stats.norm(self.mean, self.sd) if self.distribution == "normal" else stats.halfnorm(scale=self.sd)


@dataclass(frozen=True)
class FitConfiguration:
    """A whole fit.

    Attributes
    ----------
    seed : int
        Seed of all draws.
    data, model
        What is fitted by what. Several data sets are seen on one sky.
    emulator : str
        In place of data and model: a shipped emulator, or a file of ``obsfit emulate`` relative to this one.
    leave_out : tuple of str
        Data that are not fitted but predicted from the others: measurements such as "icecube-2025-24TeV", of an
        emulator labels too. Data that are no emulator's are several of one sky.
    method : str
        "emcee", or "importance": much quicker where the posterior has one maximum, and gives the evidence; or
        "nested": slower, for several maxima or an evidence by other means.
    sampler : SamplerSettings
        How long emcee samples; unused by importance sampling.
    importance : ImportanceSettings
        How many samples importance sampling takes; unused by emcee.
    nested : NestedSettings
        How finely nested sampling samples; unused by the others.
    priors : mapping
        Replaces priors by parameter or nuisance name; "none" removes a nuisance.
    output : str
        Folder of the results, relative to the file.
    assume_independent_skies : bool
        Multiply the likelihoods of several data sets as if each saw a sky of its own.
    energy_spread : bool
        Whether several data sets and pseudo-spectra average over their spread in energy.
    simulation : Simulation, optional
        Draws from which the likelihood is simulated, of a model that offers them; see `SimulatedTerm`.
    """

    __pydantic_config__ = FORBID

    seed: int
    data: DataSettings | tuple[DataSettings, ...] = ()
    model: ModelSettings | None = None
    emulator: str = ""
    leave_out: tuple[str, ...] = ()
    priors: dict[str, PriorSettings] = field(default_factory=dict)
    method: Literal["emcee", "importance", "nested"] = "emcee"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    importance: ImportanceSettings = field(default_factory=ImportanceSettings)
    nested: NestedSettings = field(default_factory=NestedSettings)
    output: str = "fit"
    assume_independent_skies: bool = False
    energy_spread: bool = True
    simulation: Simulation | None = None


def configured_posterior(configuration: FitConfiguration, *, base: Path) -> Posterior:
    """Return the posterior that a configuration describes; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If data, model or priors contradict each other.
    DataFormatError, PluginError
        If a file or a model cannot be used.
    """
    if configuration.model is None or configuration.emulator:
        raise ConfigurationError("the fit has no data and model", expected="[data] and [model], without emulator")
    priors = {k: p.frozen(k) for k, p in configuration.priors.items()}
    models = [load_model(name, **configuration.model.settings.get(name, {})) for name in configuration.model.names]
    unused = sorted(set(configuration.model.settings) - set(configuration.model.names))
    if unused or not models:
        raise ConfigurationError(
            f"settings for {unused[0]!r}, which is not among the models" if unused else "model.names is empty",
            expected="names of models, and settings only for those",
        )
    entries = configuration.data if isinstance(configuration.data, tuple) else (configuration.data,)
    records = [record for data in entries for record in configured_records(data, base=base)]
    model = models[0] if len(models) == 1 else add_models(*models)
    posterior = Posterior(
        model, _likelihood(configuration, records, priors),
        priors={name: prior for name, prior in priors.items() if prior is not None and name not in SHARED},
    )  # fmt: skip
    return PartialPosterior(posterior, configuration.leave_out) if configuration.leave_out else posterior


def configured_target(configuration: FitConfiguration, *, base: Path) -> Posterior | EmulatedPosterior:
    """Return the posterior of a configuration, of data and a model or of an emulator; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If it has neither or both, or what they say contradicts itself.
    DataFormatError, PluginError
        If a file or a model cannot be used.
    """
    if not configuration.emulator:
        if configuration.model is None or configuration.data == ():
            raise ConfigurationError(
                "the fit has nothing to fit", expected="[data] and [model], or the key emulator",
                remedy='Name a file of "obsfit emulate" or a shipped emulator, or data and a model.',
            )  # fmt: skip
        return configured_posterior(configuration, base=base)
    if configuration.model is not None or configuration.data != () or configuration.simulation is not None:
        raise ConfigurationError(
            f"the emulator {configuration.emulator!r} has data and a model of its own",
            expected="emulator without [data], [model] and [simulation]",
        )
    priors = {name: settings.frozen(name) for name, settings in configuration.priors.items()}
    removed = [name for name, prior in priors.items() if prior is None]
    if removed:
        raise ConfigurationError(f"{removed[0]} is a parameter of an emulator", expected="a prior other than none")
    emulator = read_emulator(located_emulator(configuration.emulator, base))
    return EmulatedPosterior(emulator, priors=priors, leave_out=configuration.leave_out)


def configured_records(data: DataSettings, *, base: Path) -> list[PowerSpectrum | DipoleMeasurements]:
    """Return the records that one entry of a configuration names; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If the entry names no record, or one that does not exist.
    """
    if bool(data.spectrum) == bool(data.dipoles):
        raise ConfigurationError("data needs a spectrum or dipoles", expected="exactly one of the two keys")
    return [*_spectra(data, base)] if data.spectrum else [_dipoles(data, base)]


def run_configured(
    configuration: FitConfiguration, *, base: Path, resume: bool, overwrite: bool, progress: bool
) -> tuple[Posterior | EmulatedPosterior, FitResult | WeightedSamples]:
    """Run the fit of a configuration, storing ``fit.h5`` in its output folder; return posterior and result.

    Raises
    ------
    ConfigurationError
        If the store exists, unless it is to be replaced or, by emcee, can be continued.
    """
    method = configuration.method
    if method != "emcee" and resume:
        raise ConfigurationError(
            f'a fit with method = "{method}" is stored only when it is finished: there is nothing to resume',
            remedy="It takes no chain: run it again without --resume, with --overwrite to replace an older fit.",
        )
    posterior = configured_target(configuration, base=base)
    rng, store = np.random.default_rng(configuration.seed), base / configuration.output / "fit.h5"
    told: dict[str, Any] = {
        "rng": rng, "store": store, "overwrite": overwrite, "progress": progress, "seed": configuration.seed,
        "configuration": asdict(configuration),
    }  # fmt: skip
    if method == "importance":
        return posterior, run_importance(posterior, **asdict(configuration.importance), **told)
    if method == "nested":
        return posterior, nested_evidence(posterior, **asdict(configuration.nested), **told).samples
    return posterior, run_emcee(posterior, settings=configuration.sampler, resume=resume, **told)


def _likelihood(
    configuration: FitConfiguration,
    records: list[PowerSpectrum | DipoleMeasurements],
    priors: Mapping[str, Any | None],
) -> Likelihood:
    independent = configuration.assume_independent_skies
    if configuration.simulation is not None:
        if any(priors.get(name) is not None for name in SHARED):
            raise ConfigurationError(f"a simulated likelihood has no nuisance {SHARED[0]}", remedy="Leave it out.")
        together = [(record,) for record in records] if independent else [tuple(records)]
        spread = configuration.energy_spread
        terms = (SimulatedTerm(each, configuration.simulation, spread) for each in together)
        return Likelihood(*terms, assume_independent_skies=independent)
    scatter = DipoleScatter(**_nuisances(priors, SCATTER))
    nuisances = Nuisances(**_nuisances(priors, NUISANCES))

    def one_sky(*together: PowerSpectrum | DipoleMeasurements) -> OneSkyTerm:
        return OneSkyTerm(together, nuisances, scatter, configuration.energy_spread)

    def alone(record: PowerSpectrum | DipoleMeasurements) -> PowerTerm | DipoleTerm | OneSkyTerm:
        if isinstance(record, DipoleMeasurements):
            return DipoleTerm(record, scatter)
        if record.kind == "full-sky":
            return PowerTerm(record, **_nuisances(priors, {"log10_noise": "noise_prior"}))
        return one_sky(record)

    if len(records) > 1 and not independent:
        return Likelihood(one_sky(*records))
    return Likelihood(*(alone(record) for record in records), assume_independent_skies=independent)


def _spectra(data: DataSettings, base: Path) -> list[PowerSpectrum]:
    where, part = located(data.spectrum, base), data.field or None
    if data.energies and data.energy:
        raise ConfigurationError("data has both energy and energies", expected="one of the two keys")
    if data.energies == ("all",):
        found = load_spectra(where, field=part)
    else:
        wanted = [_energy(text, "energies") for text in data.energies] or [_energy(data.energy, "energy")]
        found = [load_spectrum(where, energy=energy, field=part) for energy in wanted]
    return [spectrum.select(data.ell_min, data.ell_max or None) for spectrum in found]


def _dipoles(data: DataSettings, base: Path) -> DipoleMeasurements:
    record = load_dipoles(located(data.dipoles, base))
    low, high = _energy(data.energy_min, "energy_min"), _energy(data.energy_max, "energy_max")
    keep = np.ones(len(record), dtype=bool)
    if low is not None:
        keep &= record.energy_tev >= low.to_value(u.TeV) * (1.0 - 1e-9)
    if high is not None:
        keep &= record.energy_tev <= high.to_value(u.TeV) * (1.0 + 1e-9)
    for name in data.exclude:
        if name not in record.observatory:
            raise ConfigurationError(
                f"data.exclude: no measurement of {name!r}",
                expected=f"one of {', '.join(sorted(set(record.observatory)))}",
            )
        keep &= np.array([o != name for o in record.observatory])
    if not keep.any():
        raise ConfigurationError("data: no measurement is left", remedy="Widen energy_min and energy_max.")
    return record.select(keep)


def _nuisances(priors: Mapping[str, Any | None], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: prior for key, prior in priors.items() if key in names}


def _energy(text: str, key: str) -> u.Quantity | None:
    """The energy that a key of the data gives; None where it is empty."""
    return read_quantity(text, "energy", f"data.{key}") if text else None
