"""The joint likelihood of data sets: no measurement twice, and one sky for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from obsfit.errors import ConfigurationError
from obsfit.infer.dipole_term import DipoleTerm
from obsfit.infer.power_term import PowerTerm
from obsfit.ingest.overlaps import overlapping
from obsfit.parameters import FloatArray, Parameter
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky


class Likelihood:
    """Joint likelihood of data sets.

    Parameters
    ----------
    *data : DipoleMeasurements, PowerSpectrum, DipoleTerm or PowerTerm
        Records take the default nuisances; give a term to choose them.
    assume_independent_skies : bool
        There is one sky: data sets share its random part, and their likelihoods do not simply multiply. More than
        one data set is refused unless this is True; the choice is recorded in the result.

    Raises
    ------
    ConfigurationError
        If the same measurement stands in two data sets, or several data sets are given without saying that they are
        to be treated as independent.
    """

    def __init__(
        self,
        *data: DipoleMeasurements | PowerSpectrum | DipoleTerm | PowerTerm,
        assume_independent_skies: bool = False,
    ) -> None:
        if not data:
            raise ConfigurationError("a likelihood needs data", expected="at least one record")
        self.terms: tuple[DipoleTerm | PowerTerm, ...] = tuple(_term(entry) for entry in data)
        self.assume_independent_skies = assume_independent_skies
        shared = overlapping([term.record for term in self.terms])
        if shared:
            first, second, what = shared[0]
            raise ConfigurationError(
                f"{first} and {second} share measurements: {what}",
                expected="each measurement once",
                remedy="Select rows of one of them, or use only one of the two.",
            )
        if len(self.terms) > 1 and not assume_independent_skies:
            raise ConfigurationError(
                "several data sets see the same sky, whose random part they share",
                expected="one data set, or a joint operator",
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
                names.append(
                    Parameter(name, parameter.prior, parameter.unit, parameter.description, parameter.latex)
                )
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
        return {term.provenance.name: term.provenance.sha256 for term in self.terms}


def _term(entry: object) -> DipoleTerm | PowerTerm:
    if isinstance(entry, DipoleTerm | PowerTerm):
        return entry
    if isinstance(entry, DipoleMeasurements):
        return DipoleTerm(entry)
    if isinstance(entry, PowerSpectrum):
        return PowerTerm(entry)
    raise ConfigurationError(
        f"a likelihood cannot use {type(entry).__name__}", expected="DipoleMeasurements or PowerSpectrum"
    )
