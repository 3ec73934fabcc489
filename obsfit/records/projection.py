"""Right-ascension projections: relative intensity averaged over declination, in bins of right ascension."""

from __future__ import annotations

from dataclasses import dataclass

from obsfit.records._checks import FloatArray, column, store
from obsfit.records.provenance import Provenance


@dataclass(frozen=True)
class RightAscensionProjection:
    """Relative intensity against right ascension.

    Attributes
    ----------
    measurement : str
        Unique key of the measurement.
    right_ascension_rad : ndarray, shape (n,)
        Bin centres.
    relative_intensity : ndarray, shape (n,)
        delta I, plain number (mean removed by the reader's file or not, as published).
    error : ndarray, shape (n,)
        Statistical errors; NaN where not published.
    provenance : Provenance
        Origin of the numbers.
    """

    measurement: str
    right_ascension_rad: FloatArray
    relative_intensity: FloatArray
    error: FloatArray
    provenance: Provenance

    def __post_init__(self) -> None:
        ra = column(self.right_ascension_rad, "right_ascension_rad")
        store(
            self,
            right_ascension_rad=ra,
            relative_intensity=column(self.relative_intensity, "relative_intensity", ra.size),
            error=column(self.error, "error", ra.size, finite=False),
        )

    def __len__(self) -> int:
        return int(self.right_ascension_rad.size)
