"""From sky maps to angular power spectra of what was seen, with noise and covariance."""

from obsfit.spectra.correlation import PairCorrelation, pair_correlation, pseudo_correlation
from obsfit.spectra.covariance import pseudo_moments, spectrum_operator
from obsfit.spectra.cross import CrossSpectra, cross_spectra
from obsfit.spectra.decoupling import DecoupledSpectrum, condition_number, decouple, equal_bins
from obsfit.spectra.noise import NoiseBand, exposure_noise, noise_band, noise_band_by_toys, noise_power
from obsfit.spectra.pseudo import pseudo_spectrum
from obsfit.spectra.windows import map_coupling

__all__ = [
    "CrossSpectra",
    "DecoupledSpectrum",
    "NoiseBand",
    "PairCorrelation",
    "condition_number",
    "cross_spectra",
    "decouple",
    "equal_bins",
    "exposure_noise",
    "map_coupling",
    "noise_band",
    "noise_band_by_toys",
    "noise_power",
    "pair_correlation",
    "pseudo_correlation",
    "pseudo_moments",
    "pseudo_spectrum",
    "spectrum_operator",
]
