"""Which data sets contain the same measurements or the same events."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.projection import RightAscensionProjection
from obsfit.records.spectrum import PowerSpectrum

Record = DipoleMeasurements | PowerSpectrum | RightAscensionProjection


def overlapping(records: Sequence[Record]) -> tuple[tuple[str, str, str], ...]:
    """Return every pair of data sets that contain the same measurements or the same events.

    The same measurement key twice is the same measurement. Beyond that, two data sets whose files declare an overlap
    share events, unless no detector is common to what is left of them after `select`, or both are spectra of
    declination bands that do not meet.

    Parameters
    ----------
    records : sequence of records
        Dipoles, spectra and projections that are to be used together.

    Returns
    -------
    tuple of (str, str, str)
        Names of both data sets, and what they share: the measurement keys (the first five), or the declared overlap.

    Examples
    --------
    >>> from obsfit.ingest.catalogue import load_dipoles
    >>> first, second = load_dipoles("ahlers-mertsch-2017"), load_dipoles("li-2024")
    >>> hawc = [name == "HAWC" for name in second.observatory]
    >>> len(overlapping([first, second])), len(overlapping([first, second.select(hawc)]))
    (1, 0)
    """
    found = []
    for a, b in combinations(records, 2):
        keys = sorted(_keys(a) & _keys(b))
        if keys:
            found.append((a.provenance.name, b.provenance.name, _listed(keys)))
        elif _declared(a, b) and _may_share_events(a, b):
            common = _detectors(a) & _detectors(b)
            events = f"events of {', '.join(sorted(common))}" if common else "events"
            found.append((a.provenance.name, b.provenance.name, f"{events} (declared by the data files)"))
    return tuple(found)


def repeated(records: Sequence[Record]) -> tuple[tuple[str, str, str], ...]:
    """Return every pair of data sets that contain the same measurement, as `overlapping` does.

    The same events may be analysed twice: a dipole and a spectrum of one experiment are two views of one sky, and a
    joint likelihood knows what they share. The same analysis twice is another matter: equal keys, two tables of
    dipoles that declare an overlap, and spectra of one paper in bands that meet.
    """
    found: list[tuple[str, str, str]] = []
    for a, b in combinations(records, 2):
        shared = overlapping([a, b])
        if shared and (_keys(a) & _keys(b) or (type(a) is type(b) and _same_analysis(a, b))):
            found.extend(shared)
    return tuple(found)


def _same_analysis(a: Record, b: Record) -> bool:
    papers = [str(record.provenance.meta.get("arxiv", "")) for record in (a, b)]
    return isinstance(a, DipoleMeasurements) or not all(papers) or papers[0] == papers[1]


def _keys(record: Record) -> set[str]:
    return set(record.measurement) if isinstance(record, DipoleMeasurements) else {record.measurement}


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def _declared(a: Record, b: Record) -> bool:
    return b.provenance.name in a.provenance.overlaps or a.provenance.name in b.provenance.overlaps


def _may_share_events(a: Record, b: Record) -> bool:
    if isinstance(a, PowerSpectrum) and isinstance(b, PowerSpectrum):
        return max(a.dec_min_rad, b.dec_min_rad) < min(a.dec_max_rad, b.dec_max_rad)
    detectors = _detectors(a), _detectors(b)
    # A file that does not name its observatory is given no benefit of the doubt.
    return not all(detectors) or bool(detectors[0] & detectors[1])


def _detectors(record: Record) -> set[str]:
    if isinstance(record, DipoleMeasurements):
        names = set(record.observatory)
    else:
        names = {str(record.provenance.meta.get("observatory", ""))}
    return {part for name in names for part in name.split("+") if part}
