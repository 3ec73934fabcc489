"""Plain frozen descriptions of what was measured, what is predicted and how it was observed."""

from obsfit.records.count_map import CountMap
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid, RingCounts
from obsfit.records.projection import RightAscensionProjection
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import (
    DipoleReconstruction,
    MapReconstruction,
    MultipoleReconstruction,
    ObservationSpec,
)
from obsfit.records.sky_map import SkyMap
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky

__all__ = [
    "CountMap",
    "DipoleMeasurements",
    "DipoleReconstruction",
    "EventMap",
    "HealpixLocalGrid",
    "HourAngleGrid",
    "MapReconstruction",
    "MultipoleReconstruction",
    "ObservationSpec",
    "PowerSpectrum",
    "Provenance",
    "RightAscensionProjection",
    "RingCounts",
    "SkyMap",
    "TrueSky",
]
