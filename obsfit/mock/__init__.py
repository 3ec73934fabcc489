"""Mock skies and mock observations, made by code that shares nothing with operators, likelihoods, reconstructions."""

from obsfit.mock.detector import Acceptance, Breathing, Exposure, Gap, MockDetector, Modulation
from obsfit.mock.dipoles import mock_dipoles
from obsfit.mock.event_lists import draw_events
from obsfit.mock.observe import expected_counts, fluctuate, observe, observe_energies
from obsfit.mock.skies import (
    MockSky,
    compton_getting_sky,
    dipole_sky,
    disc_sky,
    gaussian_sky,
    harmonic_sky,
    isotropic_sky,
    map_sky,
    model_skies,
    model_sky,
    solar_dipole_sky,
)
from obsfit.mock.spectra import gaussian_alm, mock_spectrum
from obsfit.mock.universe import energy_histogram, observe_dipoles, observe_full_sky, observe_pseudo, rigidity_sky

__all__ = [
    "Acceptance",
    "Breathing",
    "Exposure",
    "Gap",
    "MockDetector",
    "MockSky",
    "Modulation",
    "compton_getting_sky",
    "dipole_sky",
    "disc_sky",
    "draw_events",
    "energy_histogram",
    "expected_counts",
    "fluctuate",
    "gaussian_alm",
    "gaussian_sky",
    "harmonic_sky",
    "isotropic_sky",
    "map_sky",
    "mock_dipoles",
    "mock_spectrum",
    "model_skies",
    "model_sky",
    "observe",
    "observe_dipoles",
    "observe_energies",
    "observe_full_sky",
    "observe_pseudo",
    "rigidity_sky",
    "solar_dipole_sky",
]
