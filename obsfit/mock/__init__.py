"""Mock observations, made on maps by code that shares nothing with operators and likelihoods."""

from obsfit.mock.dipoles import mock_dipoles
from obsfit.mock.spectra import gaussian_alm, mock_spectrum

__all__ = ["gaussian_alm", "mock_dipoles", "mock_spectrum"]
