"""Conventions of the sky: frames, motion, harmonics, declination bands and smoothing."""
