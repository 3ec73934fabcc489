"""Statistics that know no sky: significance of counts, trials, limits and circular data."""

from obsfit.statistics.circular import (
    amplitude_upper_limit,
    gaussian_chance_probability,
    isotropic_amplitude,
    rayleigh_probability,
)
from obsfit.statistics.li_ma import li_ma_significance, poisson_significance
from obsfit.statistics.trials import GlobalProbability, effective_trials, global_probability, sidak_probability

__all__ = [
    "GlobalProbability",
    "amplitude_upper_limit",
    "effective_trials",
    "gaussian_chance_probability",
    "global_probability",
    "isotropic_amplitude",
    "li_ma_significance",
    "poisson_significance",
    "rayleigh_probability",
    "sidak_probability",
]
