"""Measurements, each table of each paper in one ECSV file with its provenance."""
