"""The provenance that a text table tells of itself."""

from __future__ import annotations

from obsfit.ingest.tables import Sheet
from obsfit.records.provenance import Provenance


def provenance_of(sheet: Sheet) -> Provenance:
    """Return the provenance of a sheet: its name, path, checksum, declared overlaps and all metadata."""
    overlaps = sheet.meta.get("overlaps", ())
    names = (overlaps,) if isinstance(overlaps, str) else tuple(str(name) for name in overlaps)
    # A plain dict, because a mapping proxy can be neither copied nor sent to another process.
    return Provenance(
        sheet.stem, sheet.path, sheet.sha256, tuple(name for name in names if name), dict(sheet.meta)
    )
