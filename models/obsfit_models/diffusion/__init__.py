"""Diffusive dipoles: the tensor, the sources of the gradient, and their projection on the local field."""
