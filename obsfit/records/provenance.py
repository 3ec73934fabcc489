"""Where a record's numbers come from: the story that a data file tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Origin of a record.

    Attributes
    ----------
    name : str
        Key of the data set (`obsfit.available_data`), or the stem of a user's file.
    path : str
        File the numbers were read from, relative to the data package for shipped tables.
    sha256 : str
        Checksum of that file; empty for a record made in memory.
    overlaps : tuple of str
        Names of data sets that contain some of the same measurements or the same events.
    meta : mapping
        All metadata of the file: title, bibcode, doi, arxiv, location, transcription, licence, errata,
        citation_status, ...
    """

    name: str
    path: str = ""
    sha256: str = ""
    overlaps: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
