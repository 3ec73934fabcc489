"""From counted events to maps, multipoles and dipoles: one module for each method of the field."""

from obsfit.reconstruct.direct_integration import DirectIntegration, direct_integration_map
from obsfit.reconstruct.east_west import EastWest, EastWestEvents, east_west_events, east_west_scan
from obsfit.reconstruct.forward_backward import ForwardBackward
from obsfit.reconstruct.gather import GatherLikelihood
from obsfit.reconstruct.healpix_output import counted_map, interpolated_exposure, interpolated_map
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood, convergence_factors
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood, profiled_covariance, profiled_fisher
from obsfit.reconstruct.multipole_subtraction import subtract_multipoles
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.reconstruct.nulls import NullTest, agreement, cell_agreement, null_tests, vanishing
from obsfit.reconstruct.placed_events import placed_map
from obsfit.reconstruct.rayleigh import Rayleigh, rayleigh
from obsfit.reconstruct.responses import low_multipole_response, map_response, response_operator
from obsfit.reconstruct.right_ascension import RightAscensionProjection, antisidereal_systematic
from obsfit.reconstruct.ring_means import remove_ring_means
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.reconstruct.significance import Gaussian, SignificanceMap, TopHat, search, significance_map
from obsfit.reconstruct.time_scrambling import TimeScrambling, scrambled_counts, scrambled_events

__all__ = [
    "DirectIntegration",
    "EastWest",
    "EastWestEvents",
    "ForwardBackward",
    "GatherLikelihood",
    "Gaussian",
    "IterativeLikelihood",
    "LowMultipoleLikelihood",
    "NullTest",
    "Rayleigh",
    "RightAscensionProjection",
    "SignificanceMap",
    "TimeScrambling",
    "TopHat",
    "agreement",
    "antisidereal_systematic",
    "cell_agreement",
    "convergence_factors",
    "counted_map",
    "direct_integration_map",
    "east_west_events",
    "east_west_scan",
    "fit_multipoles",
    "interpolated_exposure",
    "interpolated_map",
    "low_multipole_response",
    "map_response",
    "null_tests",
    "placed_map",
    "profiled_covariance",
    "profiled_fisher",
    "rayleigh",
    "remove_ring_means",
    "response_operator",
    "ring_counts",
    "scrambled_counts",
    "scrambled_events",
    "search",
    "significance_map",
    "subtract_multipoles",
    "vanishing",
]
