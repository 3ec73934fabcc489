"""Trained emulators as arrays, with the configurations that made them."""
