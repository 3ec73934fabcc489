"""From sky maps to angular power spectra of what was seen, with noise and covariance."""
