"""Mock observations, made on maps by code that shares nothing with operators and likelihoods."""

from obsfit.mock.dipoles import mock_dipoles
from obsfit.mock.spectra import gaussian_alm, mock_spectrum
from obsfit.mock.universe import energy_histogram, observe_dipoles, observe_full_sky, observe_pseudo, rigidity_sky

__all__ = [
    "energy_histogram", "gaussian_alm", "mock_dipoles", "mock_spectrum", "observe_dipoles", "observe_full_sky",
    "observe_pseudo", "rigidity_sky",
]  # fmt: skip
