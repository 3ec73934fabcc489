"""Observation operators: what an observatory, analysed in one way, can see of the true sky."""

from obsfit.operators.catalogue import operator_for
from obsfit.operators.operator import Components, EnergyResponse, GaussianMoments, ObservationOperator, Power

__all__ = ["Components", "EnergyResponse", "GaussianMoments", "ObservationOperator", "Power", "operator_for"]
