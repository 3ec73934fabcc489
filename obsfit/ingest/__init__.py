"""Readers and writers, one module for each format, and the catalogue of shipped measurements."""
