"""obsfit: re-analysis of cosmic-ray anisotropy data, from published numbers to a posterior."""

__version__ = "0.1.0"
