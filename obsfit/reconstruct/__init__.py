"""From counted events to maps, multipoles and dipoles: one module for each method of the field."""
