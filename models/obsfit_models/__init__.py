"""The physics models of obsfit, found through the entry-point group obsfit.models."""
