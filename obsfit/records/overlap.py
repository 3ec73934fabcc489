"""Which records contain the same measurements: no number may be counted twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.projection import RightAscensionProjection
from obsfit.records.spectrum import PowerSpectrum

Record = DipoleMeasurements | PowerSpectrum | RightAscensionProjection


def overlapping(records: Sequence[Record]) -> tuple[tuple[str, str, str], ...]:
    """Return the pairs of records that share measurements.

    Two records overlap if they contain the same `measurement` key.

    Parameters
    ----------
    records : sequence of records

    Returns
    -------
    tuple of (name, name, shared)
        Names of both data sets and the shared keys, joined by commas.
    """
    found = []
    for first, second in combinations(records, 2):
        shared = sorted(set(_keys(first)) & set(_keys(second)))
        if shared:
            found.append((first.provenance.name, second.provenance.name, ", ".join(shared)))
    return tuple(found)


def _keys(record: Record) -> tuple[str, ...]:
    return record.measurement if isinstance(record, DipoleMeasurements) else (record.measurement,)
