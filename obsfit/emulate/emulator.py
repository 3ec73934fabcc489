"""Emulators: the density of published data given the parameters of a model, learnt from simulations of its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy import stats

from obsfit.emulate.folding import FoldedData, FoldingErrors, SimulatedModel, training_set
from obsfit.emulate.surrogate import fit_surrogate, surrogate_errors
from obsfit.emulate.surrogate_density import Surrogate
from obsfit.emulate.surrogate_files import get_surrogate, put_surrogate
from obsfit.emulate.training import TrainingSet
from obsfit.errors import ConfigurationError, DataFormatError, ObsfitError
from obsfit.execute import child_generator
from obsfit.hdf5_files import opened_product, own_dataset
from obsfit.ingest.catalogue import available_data, load_dipoles, load_spectra
from obsfit.parameters import Parameter
from obsfit.provenance import atomic_write, stamp
from obsfit.records import DipoleMeasurements, PowerSpectrum

__all__ = ["Emulator", "held_out_pit", "read_emulator", "train_emulator", "write_emulator"]

FloatArray = NDArray[np.float64]
Record = PowerSpectrum | DipoleMeasurements

FORMAT = "emulator"
FORMAT_VERSION = 3
FOLDS = 5
"""Into how many parts fields are divided, each of which is predicted from the others."""


@dataclass(frozen=True, eq=False)
class Emulator:
    r"""Density of published data given the parameters of a model, for likelihoods that cannot be written down.

    .. math:: \ln p(d \mid \theta) = \ln p(v(d, \theta) \mid \theta) + \ln |\partial v / \partial d|,

    with the coordinates v of `FoldedData.coordinates` and the density of a `Surrogate`, which holds its own error.
    Everything that a simulation drew is averaged over: field, noise, errors of reading and calibration.

    Attributes
    ----------
    model : str
        Name of the model that was simulated.
    parameters : tuple of Parameter
        Its parameters, with the priors that the simulations were drawn of.
    folded : FoldedData
        What was observed.
    surrogate : Surrogate
        Density of the values given all parameters but the right ascension.
    configuration : mapping
        What trained it, in terms of JSON.
    checks : Table or None
        One row for each number of the data, see `train_emulator`.

    Raises
    ------
    ValueError
        If parameters, data and surrogate do not belong together.
    """

    model: str
    parameters: tuple[Parameter, ...]
    folded: FoldedData
    surrogate: Surrogate
    configuration: Mapping[str, Any] = field(default_factory=dict)
    checks: Table | None = None

    def __post_init__(self) -> None:
        if self.names != self.folded.names:
            raise ValueError(f"parameters {self.names}: expected those of the data, {self.folded.names}")
        if self.surrogate.names != self.folded.learnt:
            raise ValueError(f"surrogate of {self.surrogate.names}: expected one of {self.folded.learnt}")
        if self.surrogate.labels != self.folded.value_labels():
            raise ValueError(f"surrogate of {self.surrogate.labels}: expected one of {self.folded.value_labels()}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the columns of theta."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def labels(self) -> tuple[str, ...]:
        """One label for each number of the data."""
        return self.folded.labels

    @property
    def data(self) -> FloatArray:
        """Data as published, shape (n_data,)."""
        return self.folded.data

    def log_likelihood(
        self, theta: FloatArray, data: FloatArray | None = None, *, labels: Sequence[str] | None = None
    ) -> FloatArray:
        """Return the log density of data at each parameter vector, shape (n_vec,).

        Parameters
        ----------
        theta : ndarray, shape (n_vec, n_par)
            Parameters.
        data : ndarray, shape (n_data,) or (n_vec, n_data), optional
            All data. Default: as published.
        labels : sequence of str, optional
            Some of the data, whose density alone is wanted; the others are integrated over. Both components of a
            dipole belong together.

        Raises
        ------
        ModelDomainError
            If a parameter is outside the range of the simulations.
        ValueError
            If shapes do not fit, a power is not positive, or a label is unknown.
        """
        given = self.data if data is None else data
        columns = self.folded.columns(labels)
        surrogate = self.surrogate if labels is None else self.surrogate.marginal(self.folded.value_labels(labels))
        values = self.folded.coordinates(given, theta)[:, columns]
        density = surrogate.log_density(self.folded.without_right_ascension(theta), values)
        return np.asarray(density + self.folded.log_jacobian(theta, given, labels=labels))

    def draw(self, theta: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """Return random data, shape (n_vec, n_data), at each parameter vector of theta (n_vec, n_par)."""
        values = self.surrogate.draw(self.folded.without_right_ascension(theta), rng=rng)
        return self.folded.from_coordinates(values, theta)


def train_emulator(
    model: SimulatedModel,
    folded: FoldedData,
    fields: Sequence[int],
    per_field: int,
    *,
    seed: int,
    degree: int | Sequence[int] = 2,
    scale_degree: int | None = None,
    replicates: int = 12,
    features: Mapping[str, Sequence[str]] | None = None,
    correlation_along: str = "",
    configuration: Mapping[str, Any] | None = None,
    check: bool = True,
) -> Emulator:
    """Return an emulator of a model's store of fields, with its checks.

    Parameters
    ----------
    model : SimulatedModel
        With the parameters that `folded` has the names of.
    folded : FoldedData
        What is observed.
    fields, per_field, seed
        As `training_set`.
    degree, scale_degree, replicates, features, correlation_along
        As `fit_surrogate`; at least two replicates, whose scatter is the error.
    configuration : mapping, optional
        What to keep of where this comes from.
    check : bool
        Whether to check what was learnt, which takes several times as long as to learn it.

    Returns
    -------
    Emulator
        Its table of checks has, for each number of the data, the columns of `surrogate_errors` and p_value: that of
        Kolmogorov and Smirnov's test that the probability integral transforms of fields that were held out, one
        simulation of each, are uniform.

    Raises
    ------
    ModelDomainError
        As `FoldedData.observe`.
    ValueError
        As `training_set` and `fit_surrogate`.
    """
    training = training_set(model, folded, fields, per_field, seed=seed)
    how: dict[str, Any] = {
        "scale_degree": scale_degree, "replicates": replicates, "features": features,
        "correlation_along": correlation_along,
    }  # fmt: skip
    surrogate = fit_surrogate(training, degree=degree, rng=child_generator(seed, "surrogate"), **how)
    if not check:
        return Emulator(model.name, model.parameters, folded, surrogate, dict(configuration or {}))
    checks = surrogate_errors(training, surrogate, rng=child_generator(seed, "errors"))
    chosen = int(surrogate.exponents.sum(axis=1).max())
    pit = held_out_pit(training, degree=chosen, rng=child_generator(seed, "held out"), **how)
    checks["p_value"] = [float(stats.kstest(column, "uniform").pvalue) for column in pit.T]
    return Emulator(model.name, model.parameters, folded, surrogate, dict(configuration or {}), checks)


def held_out_pit(
    training: TrainingSet,
    *,
    degree: int,
    scale_degree: int | None = None,
    replicates: int,
    features: Mapping[str, Sequence[str]] | None = None,
    correlation_along: str = "",
    rng: np.random.Generator,
) -> FloatArray:
    """Return the probability integral transform of one simulation of each group, predicted from other groups.

    Groups are divided into `FOLDS` parts at random; each is predicted by a surrogate of the others. Simulations of one
    group are not independent: one of each is taken, so that the numbers of one datum are independent up to what
    they share of the training.

    Returns
    -------
    ndarray, shape (n_group, n_data)
        Uniform in 0..1 if the density is right.
    """
    groups, first = np.unique(training.group, return_index=True)
    fold = rng.permutation(np.arange(len(groups)) % FOLDS)
    found = np.empty((len(groups), len(training.labels)))
    for part in range(FOLDS):
        inside = training.of_groups(groups[fold != part])
        surrogate = fit_surrogate(
            inside, degree=degree, scale_degree=scale_degree, replicates=replicates, features=features,
            correlation_along=correlation_along, rng=rng,
        )  # fmt: skip
        rows = first[fold == part]
        # Parameters at the edge of all fields may be a little outside those of the others: there, the edge is taken.
        theta = np.clip(training.theta[rows], *surrogate.domain)
        found[fold == part] = surrogate.pit(theta, training.values[rows])
    return found


def write_emulator(path: str | Path, emulator: Emulator, *, overwrite: bool = False) -> None:
    """Write an emulator to an HDF5 file, complete or not at all.

    Of the records, their names, multipoles and rows are kept, with the checksums of the tables: `read_emulator` takes
    them from the catalogue again. A table that is not shipped is looked for beside the emulator, under its own name.

    Parameters
    ----------
    path : str or Path
        The file to make.
    emulator : Emulator
        What to write.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    ConfigurationError
        If a record was made in memory and is in no table.
    TypeError
        If the configuration cannot be JSON, or a prior is no distribution of scipy.stats.
    """
    folded = emulator.folded
    for record in folded.records:
        if not record.provenance.sha256:
            raise ConfigurationError(
                f"{record.provenance.name}: this record is in no table, so that it could not be found again",
                expected="records that were read from a table", remedy="Write it to a file and read it from there.",
            )  # fmt: skip
    checksums = {record.provenance.name: record.provenance.sha256 for record in folded.records}
    head = stamp(
        FORMAT, format_version=FORMAT_VERSION, configuration=emulator.configuration, data=checksums,
        seed=emulator.configuration.get("seed"),
    )  # fmt: skip
    head |= {
        "model": emulator.model,
        "parameters": [_parameter_words(parameter) for parameter in emulator.parameters],
        "records": [_record_words(record) for record in folded.records],
        "folding": {
            "lmax": folded.lmax, "errors": asdict(folded.errors), "outside": folded.outside, "leak": folded.leak,
        },
        "surrogate": dict(emulator.surrogate.configuration),
        "checks": None
        if emulator.checks is None
        else {name: emulator.checks[name].tolist() for name in emulator.checks.colnames},
    }  # fmt: skip
    text = json.dumps(head, sort_keys=True)
    with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
        file.attrs["obsfit_format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file["head"] = text
        put_surrogate(file.create_group("surrogate"), emulator.surrogate)


def read_emulator(path: str | Path) -> Emulator:
    """Return the emulator in a file of `write_emulator`.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, of another kind or version or no emulator, or if a table of data is no longer
        the one that it was trained for.
    """
    path = Path(path)
    remedy = "It was changed or damaged; make it again with 'obsfit emulate'."
    with opened_product(path, FORMAT, FORMAT_VERSION, made_by="write_emulator", remedy=remedy) as file:
        head = json.loads(own_dataset(file, "head", path).asstr()[()])
        if not isinstance(file.get("surrogate", getlink=True), h5py.HardLink):
            raise DataFormatError("surrogate is no group of this file", path=path, expected="one")
        surrogate = get_surrogate(file["surrogate"], path, configuration=dict(head["surrogate"]))
        parameters = tuple(_parameter(words) for words in head["parameters"])
        folding = head["folding"]
        folded = FoldedData(
            tuple(_record(words, head["data_sha256"], path) for words in head["records"]),
            tuple(parameter.name for parameter in parameters),
            lmax=int(folding["lmax"]), errors=FoldingErrors(**folding["errors"]),
            outside=float(folding["outside"]), leak=float(folding["leak"]),
        )  # fmt: skip
        checks = None if head["checks"] is None else Table(head["checks"])
        return Emulator(str(head["model"]), parameters, folded, surrogate, dict(head["configuration"]), checks)


def _parameter_words(parameter: Parameter) -> dict[str, Any]:
    """A parameter in terms of JSON."""
    distribution = parameter.prior.dist.name
    if not isinstance(getattr(stats, distribution, None), stats.rv_continuous):
        raise TypeError(f"prior of {parameter.name}: {distribution} is no distribution of scipy.stats")
    shape, loc, scale = parameter.prior.dist._parse_args(*parameter.prior.args, **parameter.prior.kwds)
    return {
        "name": parameter.name, "unit": parameter.unit, "description": parameter.description,
        "latex": parameter.latex, "prior": distribution, "arguments": [float(x) for x in (*shape, loc, scale)],
        **({} if parameter.period is None else {"period": float(parameter.period)}),
    }  # fmt: skip


def _parameter(words: Mapping[str, Any]) -> Parameter:
    distribution = getattr(stats, words["prior"])
    if not isinstance(distribution, stats.rv_continuous):
        raise ValueError(f"{words['prior']} is no distribution of scipy.stats")
    prior = distribution(*(float(x) for x in words["arguments"]))
    period = words.get("period")
    return Parameter(
        str(words["name"]), prior, str(words["unit"]), str(words["description"]), str(words["latex"]),
        None if period is None else float(period),
    )  # fmt: skip


def _record_words(record: Record) -> dict[str, Any]:
    """What finds a record in the catalogue."""
    shipped = record.provenance.name in available_data()
    table = record.provenance.name if shipped else Path(record.provenance.path).name
    if isinstance(record, DipoleMeasurements):
        return {"table": table, "rows": list(record.measurement)}
    return {"table": table, "measurement": record.measurement, "ell": record.ell.tolist()}


def _record(words: Mapping[str, Any], checksums: Mapping[str, str], path: Path) -> Record:
    """The record of the catalogue, or of a table beside the emulator, that was trained for."""
    name = str(words["table"])
    place: str | Path = name if name in available_data() else path.parent / Path(name).name
    try:
        found = _rows(words, place) if "rows" in words else _multipoles(words, place)
    except ObsfitError as error:
        raise DataFormatError(
            f"the data that it was trained for cannot be read: {error.problem}", path=path, value=name,
            expected=f"the table {name}", remedy="A table of your own belongs beside the emulator.",
        ) from error  # fmt: skip
    if found is None:
        raise DataFormatError(f"{name} lacks what it was trained for: {dict(words)}", path=path, value=name)
    if found.provenance.sha256 != checksums[found.provenance.name]:
        raise DataFormatError(
            f"{name} is no longer the table that it was trained for", path=path, value=found.provenance.sha256,
            expected=f"the checksum {checksums[found.provenance.name]}", remedy="Train it again: 'obsfit emulate'.",
        )  # fmt: skip
    return found


def _rows(words: Mapping[str, Any], place: str | Path) -> Record | None:
    table = load_dipoles(place)
    if not set(words["rows"]) <= set(table.measurement):
        return None
    return table.select([table.measurement.index(key) for key in words["rows"]])


def _multipoles(words: Mapping[str, Any], place: str | Path) -> Record | None:
    for spectrum in load_spectra(place):
        if spectrum.measurement == words["measurement"]:
            cut = spectrum.select(int(words["ell"][0]), int(words["ell"][-1]))
            return cut if cut.ell.tolist() == words["ell"] else None
    return None
