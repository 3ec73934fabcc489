"""Likelihood, posterior, sampler and fit results."""

from obsfit.infer.assessment import discrepancy, predictive_p_value
from obsfit.infer.dipole_term import DipoleScatter, DipoleTerm
from obsfit.infer.emcee_runner import SamplerSettings, run_emcee
from obsfit.infer.importance import ImportanceSettings, run_importance
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.one_sky_term import Nuisances, OneSkyTerm
from obsfit.infer.optimum import maximum_likelihood, maximum_posterior
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.infer.result import FitResult
from obsfit.infer.weighted_samples import WeightedSamples

__all__ = [
    "DipoleScatter", "DipoleTerm", "FitResult", "ImportanceSettings", "Likelihood", "Nuisances", "OneSkyTerm",
    "Posterior", "PowerTerm", "SamplerSettings", "WeightedSamples", "discrepancy", "maximum_likelihood",
    "maximum_posterior", "predictive_p_value", "run_emcee", "run_importance",
]  # fmt: skip
