"""Observation operators: what an observatory, analysed in one way, can see of the true sky."""

from obsfit.operators.catalogue import operator_for
from obsfit.operators.energy import (
    Composition,
    EnergyResponse,
    common_rigidities,
    energy_response_for,
    polygonato_composition,
)
from obsfit.operators.operator import Components, GaussianMoments, ObservationOperator, Pixels, Power

__all__ = [
    "Components",
    "Composition",
    "EnergyResponse",
    "GaussianMoments",
    "ObservationOperator",
    "Pixels",
    "Power",
    "common_rigidities",
    "energy_response_for",
    "operator_for",
    "polygonato_composition",
]
