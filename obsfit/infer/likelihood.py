"""The joint likelihood of data sets: no measurement twice, and one sky for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from obsfit.errors import ConfigurationError
from obsfit.infer.dipole_term import DipoleTerm
from obsfit.infer.one_sky_term import OneSkyTerm
from obsfit.infer.power_term import PowerTerm
from obsfit.infer.simulated_term import SimulatedTerm
from obsfit.ingest.overlaps import repeated
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky

Record = DipoleMeasurements | PowerSpectrum
Term = DipoleTerm | PowerTerm | OneSkyTerm | SimulatedTerm


class Likelihood:
    """Joint likelihood of data sets.

    There is one sky: data sets share its random part, and their likelihoods do not simply multiply. Several records
    are therefore taken together, as `OneSkyTerm` says, and so is a pseudo-spectrum alone, whose multipoles mix. A
    nearly full-sky spectrum alone has the quicker `PowerTerm`, a table of dipoles alone the `DipoleTerm`.

    Parameters
    ----------
    *data : DipoleMeasurements, PowerSpectrum, DipoleTerm, PowerTerm, OneSkyTerm or SimulatedTerm
        Records take the default nuisances; give one term to choose them. Models that draw their skies from an ensemble
        need a `SimulatedTerm`.
    assume_independent_skies : bool
        Take each entry of `data` as if it saw a sky of its own, and multiply. That is wrong wherever the random part
        of the sky matters; it serves to show what it costs, and is recorded in the result.

    Raises
    ------
    ConfigurationError
        If the same measurement stands in two data sets, or several terms are given without saying that they are to
        be treated as independent.
    """

    def __init__(self, *data: Record | Term, assume_independent_skies: bool = False) -> None:
        if not data:
            raise ConfigurationError("a likelihood needs data", expected="at least one record")
        self.assume_independent_skies = assume_independent_skies
        shared = repeated([record for entry in data for record in _records(entry)])
        if shared:
            first, second, what = shared[0]
            raise ConfigurationError(
                f"{first} and {second} share measurements: {what}",
                expected="each measurement once",
                remedy="Select rows of one of them, or use only one of the two.",
            )
        records = [entry for entry in data if isinstance(entry, DipoleMeasurements | PowerSpectrum)]
        if assume_independent_skies or len(data) == 1:
            self.terms: tuple[Term, ...] = tuple(_term(entry) for entry in data)
        elif len(records) == len(data):
            self.terms = (OneSkyTerm(tuple(records)),)
        else:
            raise ConfigurationError(
                "several data sets see the same sky, whose random part they share",
                expected="records, which are taken together, or one OneSkyTerm of them",
                remedy="assume_independent_skies=True multiplies their likelihoods all the same; it is recorded.",
            )
        self.parameters = self._name_nuisances()
        self._edges = np.cumsum([len(term.parameters) for term in self.terms])[:-1]

    def _name_nuisances(self) -> tuple[Parameter, ...]:
        names: list[Parameter] = []
        for number, term in enumerate(self.terms):
            for parameter in term.parameters:
                clash = sum(parameter.name in [p.name for p in other.parameters] for other in self.terms) > 1
                name = f"{parameter.name}_{number + 1}" if clash else parameter.name
                names.append(replace(parameter, name=name))
        return tuple(names)

    def split(self, nuisance: FloatArray) -> list[FloatArray]:
        """Nuisances of each term, from the columns of all, shape (n_vec, n_nuisance)."""
        return list(np.split(nuisance, self._edges, axis=1))

    def log_prob(self, skies: Sequence[TrueSky], nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,), of the sky at the rigidities of each term."""
        parts = zip(self.terms, skies, self.split(nuisance), strict=True)
        return np.sum([term.log_prob(sky, own) for term, sky, own in parts], axis=0)

    @property
    def data_checksums(self) -> Mapping[str, str]:
        """Checksum of the file behind each data set."""
        return {source.name: source.sha256 for term in self.terms for source in term.provenances}


def _records(entry: object) -> tuple[Record, ...]:
    if isinstance(entry, OneSkyTerm | SimulatedTerm):
        return entry.records
    if isinstance(entry, DipoleTerm | PowerTerm):
        return (entry.record,)
    if isinstance(entry, DipoleMeasurements | PowerSpectrum):
        return (entry,)
    raise ConfigurationError(
        f"a likelihood cannot use {type(entry).__name__}", expected="DipoleMeasurements or PowerSpectrum"
    )


def _term(entry: Record | Term) -> Term:
    if isinstance(entry, DipoleMeasurements):
        return DipoleTerm(entry)
    if isinstance(entry, PowerSpectrum):
        return PowerTerm(entry) if entry.kind == "full-sky" else OneSkyTerm((entry,))
    return entry
