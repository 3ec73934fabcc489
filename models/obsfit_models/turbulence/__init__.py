"""Turbulent magnetic fields, orbits through them, and the skies that Liouville's theorem makes of them."""
