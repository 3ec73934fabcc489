"""Plots and the report page: the only room that imports matplotlib."""
