"""Training sets: simulated data with the parameters that they were simulated at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

__all__ = ["TrainingSet"]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Simulated data, in the coordinates in which their distribution is learnt, and their parameters.

    Attributes
    ----------
    names : tuple of str, length n_par
        Parameters on which the distribution may depend; what is not among them has been averaged over.
    theta : ndarray, shape (n, n_par)
        Parameters of each simulation.
    labels : tuple of str, length n_data
        What each number of the data is.
    values : ndarray, shape (n, n_data)
        Simulated data: logarithms of powers, components of dipoles over their expected size.
    group : ndarray of int, shape (n,)
        Which field each simulation was made in. Simulations of one field are not independent: errors come from
        the scatter between groups, and what is held out is held out by groups.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a number is not finite.
    """

    names: tuple[str, ...]
    theta: FloatArray
    labels: tuple[str, ...]
    values: FloatArray
    group: IntArray

    def __post_init__(self) -> None:
        n = len(self.group)
        if np.shape(self.theta) != (n, len(self.names)) or np.shape(self.values) != (n, len(self.labels)):
            raise ValueError(
                f"theta {np.shape(self.theta)}, values {np.shape(self.values)}: expected ({n}, {len(self.names)}) "
                f"and ({n}, {len(self.labels)})"
            )
        if not (np.all(np.isfinite(self.theta)) and np.all(np.isfinite(self.values))):
            raise ValueError("theta or values hold a number that is not finite")

    def of_groups(self, groups: IntArray) -> TrainingSet:
        """Return the simulations of some of the groups."""
        kept = np.isin(self.group, groups)
        return TrainingSet(self.names, self.theta[kept], self.labels, self.values[kept], self.group[kept])
