"""Studies by mock skies: coverage and calibration of the fits."""
