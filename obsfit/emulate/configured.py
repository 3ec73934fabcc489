"""An emulator described by a TOML file: model and its store of fields, records, how the density is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from obsfit.configuration import FORBID, read_quantity
from obsfit.emulate.emulator import Emulator, train_emulator, write_emulator
from obsfit.emulate.folding import FoldedData, FoldingErrors, SimulatedModel
from obsfit.emulate.surrogate import LEAST_GROUPS
from obsfit.emulate.surrogate_density import FUNCTIONS
from obsfit.errors import ConfigurationError, PluginError
from obsfit.ingest.catalogue import load_dipoles, load_spectra, load_spectrum, located
from obsfit.plugins import load_model
from obsfit.provenance import sha256
from obsfit.records import DipoleMeasurements, PowerSpectrum

__all__ = ["EmulatedData", "EmulatorConfiguration", "configured_training", "emulated_records", "train_configured"]


@dataclass(frozen=True)
class EmulatedData:
    """Measurements of one table: energies and multipoles of spectra, or rows of dipoles by their keys.

    `energies` takes several spectra of a table that has more than one, ("all",) every one; `field` is a part of the
    sky. Without `rows`, all dipoles of a table are taken.
    """

    __pydantic_config__ = FORBID

    spectrum: str = ""
    dipoles: str = ""
    energies: tuple[str, ...] = ()
    field: str = ""
    ell_min: int = 1
    ell_max: int = 0
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmulatorConfiguration:
    """A whole emulator.

    Attributes
    ----------
    seed : int
        Seed of all draws.
    model : str
        Model that offers simulations.
    data : tuple of EmulatedData
        What is seen, all of it on one sky.
    options : mapping
        Settings of the model. A text that names a file beside the configuration is that file.
    output : str
        File of the emulator, relative to the configuration.
    fields : int
        How many fields of the store are used, from the first; 0 stands for all.
    per_field : int
        Simulations of each field.
    lmax : int
        Where simulated skies end.
    degree : int or tuple of int
        Total degree of the polynomials of the mean; of several, the one that predicts held-out fields best.
    scale_degree : int, optional
        Total degree of the polynomials of the logarithm of the scale. Default: that of the mean, but at most 1.
    replicates : int
        How many times fields are drawn with replacement, for the error of what is learnt.
    features : mapping
        Functions of parameters that stand for them in the polynomials, such as gradient_angle = ["cos"].
    correlation_along : str
        Parameter along which the correlation of the data changes, such as an amplitude where they have noise. Default:
        it is the same everywhere.
    errors : FoldingErrors
        Errors of observations that are drawn.
    outside : float
        Largest share of the events of an observation beyond the rigidities of a sky.
    """

    __pydantic_config__ = FORBID

    seed: int
    model: str
    data: EmulatedData | tuple[EmulatedData, ...]
    options: dict[str, Any] = field(default_factory=dict)
    output: str = "emulator.h5"
    fields: int = 0
    per_field: int = 40
    lmax: int = 10
    degree: int | tuple[int, ...] = 2
    scale_degree: int | None = None
    replicates: int = 12
    features: dict[str, tuple[str, ...]] = field(default_factory=dict)
    correlation_along: str = ""
    errors: FoldingErrors = field(default_factory=FoldingErrors)
    outside: float = 0.05

    def learning(self) -> dict[str, Any]:
        """How the surrogate is learnt, in the words of `train_emulator`."""
        return {
            "degree": self.degree, "scale_degree": self.scale_degree, "replicates": self.replicates,
            "features": self.features, "correlation_along": self.correlation_along,
        }  # fmt: skip


def train_configured(
    configuration: EmulatorConfiguration, *, base: Path, overwrite: bool = False
) -> tuple[Emulator, Path]:
    """Train the emulator of a configuration, write it, and return it with its file; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If the output exists and may not be replaced, or settings, data and model contradict each other; before
        anything is simulated.
    DataFormatError, PluginError
        If a file or the model cannot be used.
    ModelDomainError
        As `FoldedData.observe`.
    """
    _check_numbers(configuration)
    output = base / configuration.output
    if output.exists() and not overwrite:
        raise ConfigurationError(
            "the emulator exists", path=output, expected="an output without one",
            remedy="Choose another output, or replace it with --overwrite.",
        )  # fmt: skip
    model, folded = configured_training(configuration, base=base)
    options = {name: _beside(value, base) for name, value in configuration.options.items()}
    _check_features(configuration.features, folded.learnt)
    if configuration.correlation_along not in ("", *folded.learnt):
        raise ConfigurationError(
            f"correlation_along = {configuration.correlation_along!r} is nothing to learn from",
            value=configuration.correlation_along, expected=f"one of {', '.join(folded.learnt)}, or none",
        )  # fmt: skip
    fields = _fields(configuration, model)
    told = asdict(configuration)
    # The file and the folder of the run are no part of what was trained.
    told.pop("output")
    told["options"] = {name: _named(value) for name, value in options.items()}
    emulator = train_emulator(
        model, folded, range(fields), configuration.per_field, seed=configuration.seed,
        configuration=told | {"fields": fields}, **configuration.learning(),
    )  # fmt: skip
    write_emulator(output, emulator, overwrite=overwrite)
    return emulator, output


def configured_training(configuration: EmulatorConfiguration, *, base: Path) -> tuple[SimulatedModel, FoldedData]:
    """Return the model and the data of a configuration: what an emulator of them learns from.

    Raises
    ------
    ConfigurationError
        If data and model contradict each other.
    DataFormatError, PluginError
        If a file or the model cannot be used.
    """
    entries = configuration.data if isinstance(configuration.data, tuple) else (configuration.data,)
    records = [record for entry in entries for record in emulated_records(entry, base=base)]
    options = {name: _beside(value, base) for name, value in configuration.options.items()}
    loaded = load_model(configuration.model, **options)
    # Only the type is asked: the number of fields may need a file, whose errors are its own.
    if not hasattr(type(loaded), "field_skies"):
        raise PluginError(
            f"model {configuration.model!r} offers no simulations", value=configuration.model,
            expected="one with a store of fields, such as simulated-turbulence",
            remedy="A model that predicts a sky needs no emulator: fit it with 'obsfit fit'.",
        )  # fmt: skip
    model = cast(SimulatedModel, loaded)
    names = tuple(parameter.name for parameter in model.parameters)
    folded = FoldedData(
        tuple(records), names, lmax=configuration.lmax, errors=configuration.errors, outside=configuration.outside
    )
    return model, folded


def emulated_records(data: EmulatedData, *, base: Path) -> list[PowerSpectrum | DipoleMeasurements]:
    """Return the records that one entry of a configuration names; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If the entry names no record, or one that does not exist.
    """
    if bool(data.spectrum) == bool(data.dipoles):
        raise ConfigurationError("data needs a spectrum or dipoles", expected="exactly one of the two keys")
    if data.dipoles:
        foreign = [key for key in ("energies", "field") if getattr(data, key)]
        if foreign or (data.ell_min, data.ell_max) != (1, 0):
            raise ConfigurationError(
                f"data: {(*foreign, 'ell_min or ell_max')[0]} does not go with dipoles", expected="rows"
            )
        table = load_dipoles(located(data.dipoles, base))
        unknown = [key for key in data.rows if key not in table.measurement]
        if unknown:
            raise ConfigurationError(
                f"data.rows: {data.dipoles} has no measurement {unknown[0]!r}", value=unknown[0],
                expected=f"some of {', '.join(table.measurement)}",
            )  # fmt: skip
        if len(set(data.rows)) < len(data.rows):
            raise ConfigurationError(f"data.rows = {list(data.rows)}", expected="each row once")
        return [table.select([table.measurement.index(key) for key in data.rows]) if data.rows else table]
    if data.rows:
        raise ConfigurationError("data: rows do not go with a spectrum", expected="energies, ell_min and ell_max")
    where, part = located(data.spectrum, base), data.field or None
    if data.energies == ("all",):
        found = load_spectra(where, field=part)
    elif data.energies:
        wanted = [read_quantity(text, "energy", "data.energies") for text in data.energies]
        found = [load_spectrum(where, energy=energy, field=part) for energy in wanted]
    else:
        found = [load_spectrum(where, field=part)]
    try:
        return [spectrum.select(data.ell_min, data.ell_max or None) for spectrum in found]
    except ValueError as error:
        raise ConfigurationError(f"data: {error}", expected="ell_min and ell_max around some multipole") from None


def _check_numbers(configuration: EmulatorConfiguration) -> None:
    degrees = configuration.degree if isinstance(configuration.degree, tuple) else (configuration.degree,)
    scale = configuration.scale_degree
    wrong = [
        ("seed", configuration.seed, configuration.seed >= 0, "a whole number of at least 0"),
        ("fields", configuration.fields, configuration.fields >= 0, "a whole number of at least 0, 0 for all"),
        ("per_field", configuration.per_field, configuration.per_field >= 1, "a whole number of at least 1"),
        ("lmax", configuration.lmax, configuration.lmax >= 1, "a multipole of at least 1"),
        ("degree", configuration.degree, degrees and all(0 <= d <= 12 for d in degrees), "degrees from 0 to 12"),
        (
            "scale_degree",
            scale,
            scale is None or 0 <= scale <= min(degrees, default=0),
            "0 to the degree of the mean",
        ),
        ("replicates", configuration.replicates, configuration.replicates >= 2, "at least 2, for their scatter"),
        ("outside", configuration.outside, 0.0 <= configuration.outside < 1.0, "a share of at least 0, below 1"),
    ]
    for name, value, right, expected in wrong:
        if not right:
            raise ConfigurationError(f"{name} = {value}", value=value, expected=expected)


def _check_features(features: Mapping[str, tuple[str, ...]], names: tuple[str, ...]) -> None:
    for name, kinds in features.items():
        if name not in names:
            raise ConfigurationError(
                f"features: {name!r} is nothing to learn from", value=name, expected=f"one of {', '.join(names)}"
            )
        if not kinds or not set(kinds) <= set(FUNCTIONS):
            raise ConfigurationError(
                f"features.{name} = {list(kinds)}", value=kinds, expected=f"some of {', '.join(FUNCTIONS)}"
            )


def _fields(configuration: EmulatorConfiguration, model: SimulatedModel) -> int:
    """Number of fields to use; opens the store of the model."""
    there = model.fields
    fields = configuration.fields or there
    if not 2 * LEAST_GROUPS <= fields <= there:
        raise ConfigurationError(
            f"fields = {fields}", value=fields,
            expected=f"{2 * LEAST_GROUPS} to the {there} of the store, or 0 for all of them",
            remedy="" if there >= 2 * LEAST_GROUPS else "Compute more fields: 'obsfit ensemble'.",
        )  # fmt: skip
    return fields


def _beside(value: Any, base: Path) -> Any:
    """A text that names a file beside the configuration, as its path; anything else as it is."""
    return base / value if isinstance(value, str) and value and (base / value).is_file() else value


def _named(value: Any) -> Any:
    """A file by its name and checksum, as a product does not know folders; anything else as it is."""
    return {"file": value.name, "sha256": sha256(value)} if isinstance(value, Path) else value
