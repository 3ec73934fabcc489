"""Observation operators: what an observatory, analysed in one way, can see of the true sky."""
