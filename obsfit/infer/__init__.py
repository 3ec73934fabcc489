"""Likelihood, posterior, sampler and fit results."""
