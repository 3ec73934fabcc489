"""Likelihood, posterior, sampler and fit results."""

from obsfit.infer.assessment import discrepancy, predictive_p_value
from obsfit.infer.dipole_term import DipoleScatter, DipoleTerm
from obsfit.infer.emcee_runner import SamplerSettings, run_emcee
from obsfit.infer.emulated import EmulatedPosterior, predictive_check
from obsfit.infer.evidence import nested_evidence
from obsfit.infer.importance import ImportanceSettings, run_importance
from obsfit.infer.left_out import leave_one_out
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.one_sky_term import Nuisances, OneSkyTerm
from obsfit.infer.optimum import maximum_likelihood, maximum_posterior
from obsfit.infer.posterior import Posterior
from obsfit.infer.power_term import PowerTerm
from obsfit.infer.result import FitResult
from obsfit.infer.simulated_term import SimulatedTerm, Simulation
from obsfit.infer.weighted_samples import WeightedSamples

__all__ = [
    "DipoleScatter", "DipoleTerm", "EmulatedPosterior", "FitResult", "ImportanceSettings", "Likelihood", "Nuisances",
    "OneSkyTerm", "Posterior", "PowerTerm", "SamplerSettings", "SimulatedTerm", "Simulation", "WeightedSamples",
    "discrepancy", "leave_one_out", "maximum_likelihood", "maximum_posterior", "nested_evidence", "predictive_check",
    "predictive_p_value", "run_emcee", "run_importance",
]  # fmt: skip
