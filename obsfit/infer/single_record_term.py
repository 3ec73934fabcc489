"""What the likelihoods of a single record have in common."""

from __future__ import annotations

from functools import cached_property

from obsfit.operators import ObservationOperator, operator_for
from obsfit.parameters import FloatArray
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.provenance import Provenance
from obsfit.records.spectrum import PowerSpectrum


class SingleRecordTerm:
    """A likelihood of one record, seen through the operator that the catalogue has for it.

    Attributes
    ----------
    record : DipoleMeasurements or PowerSpectrum
        What was measured.
    """

    record: DipoleMeasurements | PowerSpectrum

    @property
    def provenances(self) -> tuple[Provenance, ...]:
        """Origin of the record, as a tuple of one."""
        return (self.record.provenance,)

    @cached_property
    def operator(self) -> ObservationOperator:
        """Operator of the record."""
        return operator_for(self.record)

    @property
    def rigidity_tv(self) -> FloatArray:
        """Rigidities at which the sky must be known, shape (n_rig,)."""
        return self.operator.energy.rigidity_tv

    @property
    def lmax(self) -> int:
        """Largest multipole that the operator asks for."""
        return self.operator.lmax
