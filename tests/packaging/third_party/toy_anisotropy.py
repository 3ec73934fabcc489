"""A model of another package: a dipole towards 6h whose amplitude is a power law of rigidity."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from obsfit import Parameter


@dataclass(frozen=True)
class ToyDipole:
    """Dipole towards right ascension 6h, growing as a power of rigidity."""

    reference_tv: float = 10.0
    name: str = "toy-dipole"

    @property
    def parameters(self):
        return (
            Parameter("amplitude", stats.uniform(0.0, 2e-3), description="dipole at the reference rigidity"),
            Parameter("slope", stats.norm(0.3, 0.1), description="exponent of rigidity"),
        )

    def dipole(self, theta, rigidity_tv):
        vector = np.zeros((theta.shape[0], rigidity_tv.size, 3))
        vector[..., 1] = theta[:, :1] * (rigidity_tv / self.reference_tv) ** theta[:, 1:]
        return vector


class Silent:
    """A model that has a name and parameters, but predicts nothing."""

    name = "toy-silent"
    parameters = ()
