r"""Normal laws of scores whose correlation may change along a parameter.

With correlations :math:`R_k` at equidistant nodes of the parameter, and t the fraction of the way from node k to the
next, :math:`R = (1 - t) R_k + t R_{k+1}`. Both have one factor,

.. math:: R_k = F F^T, \qquad R_{k+1} = F \,\mathrm{diag}(1 + c)\, F^T, \qquad R = F \,\mathrm{diag}(1 + t c)\, F^T,

so that a law between two nodes costs as much as one at a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

__all__ = ["NormalScores", "Place", "products"]


@dataclass(frozen=True, eq=False)
class Place:
    """Where vectors lie among the nodes of a parameter.

    Attributes
    ----------
    node : ndarray of int, shape (n,)
        The node before.
    way : ndarray, shape (n,)
        Fraction of the way to the next, 0..1.
    """

    node: IntArray
    way: FloatArray

    @classmethod
    def of(cls, value: FloatArray, low: float, high: float, nodes: int) -> Place:
        """Return the places of values (n,) among nodes from `low` to `high`; beyond, those of the ends.

        Examples
        --------
        >>> Place.of(np.array([0.5, 1.5, 9.0]), 1.0, 3.0, nodes=3)
        Place(node=array([0, 0, 1]), way=array([0. , 0.5, 1. ]))
        """
        if nodes == 1:
            return cls(np.zeros(len(value), dtype=np.int64), np.zeros(len(value)))
        along = np.clip((value - low) / (high - low), 0.0, 1.0) * (nodes - 1)
        node = np.minimum(along.astype(np.int64), nodes - 2)
        return cls(node, along - node)

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> Place:
        return Place(self.node[rows], self.way[rows])

    def between(self, at_nodes: FloatArray) -> FloatArray:
        """Return what is linear between values at the nodes (n_node, ...), (n, ...)."""
        after = np.minimum(self.node + 1, len(at_nodes) - 1)
        way = self.way.reshape(-1, *[1] * (at_nodes.ndim - 1))
        return np.asarray((1.0 - way) * at_nodes[self.node] + way * at_nodes[after])


@dataclass(frozen=True, eq=False)
class NormalScores:
    """The law N(0, R) of normal scores.

    Attributes
    ----------
    correlation : ndarray, shape (n_node, n_data, n_data)
        R at the nodes of a parameter; of one node, everywhere.
    """

    correlation: FloatArray

    @cached_property
    def _factors(self) -> tuple[FloatArray, FloatArray]:
        """The matrices F (n, n_data, n_data) and the numbers c (n, n_data) from each node to the next."""
        if len(self.correlation) == 1:
            return np.asarray(np.linalg.cholesky(self.correlation)), np.zeros((1, self.correlation.shape[1]))
        factor = np.linalg.cholesky(self.correlation[:-1])
        inverse = np.linalg.inv(factor)
        difference = self.correlation[1:] - self.correlation[:-1]
        change, turn = np.linalg.eigh(inverse @ difference @ np.swapaxes(inverse, 1, 2))
        return np.asarray(factor @ turn), np.asarray(change)

    @cached_property
    def _whitening(self) -> tuple[FloatArray, FloatArray]:
        """Inverses of the matrices F, transposed, and half the ln|2 pi R| at their nodes (n,)."""
        factor, _ = self._factors
        half = np.linalg.slogdet(factor)[1] + 0.5 * factor.shape[1] * np.log(2 * np.pi)
        return np.swapaxes(np.linalg.inv(factor), 1, 2).copy(), np.asarray(half)

    def log_density(self, score: FloatArray, place: Place) -> FloatArray:
        """Return the logarithm of the density of scores (n, n_data) at places; (n,)."""
        whitening, half = self._whitening
        _, change = self._factors
        found = np.empty(len(score))
        for node in range(len(whitening)):
            here = place.node == node
            variance = 1.0 + place.way[here, None] * change[node]
            square = np.sum((score[here] @ whitening[node]) ** 2 / variance, axis=1)
            found[here] = -0.5 * (square + np.sum(np.log(products(variance)), axis=1)) - half[node]
        return found

    def coloured(self, normal: FloatArray, place: Place) -> FloatArray:
        """Return scores with this law at places, made of independent normal numbers (n, n_data)."""
        factor, change = self._factors
        found = np.empty_like(normal)
        for node in range(len(factor)):
            here = place.node == node
            width = np.sqrt(1.0 + place.way[here, None] * change[node])
            found[here] = (normal[here] * width) @ factor[node].T
        return found

    def width(self, direction: FloatArray, place: Place) -> FloatArray:
        """Return the standard deviation of the scores along directions (n_dir, n_data) at places, (n, n_dir)."""
        return np.sqrt(place.between(np.einsum("di,kij,dj->kd", direction, self.correlation, direction)))


def products(value: FloatArray) -> FloatArray:
    """Return products of up to eight neighbours along the last axis: a logarithm costs more than seven products.

    Of numbers of order one they stay far from the ends of the range of floating point.

    Examples
    --------
    >>> products(np.full((1, 9), 2.0))
    array([[256.,   2.]])
    """
    return np.multiply.reduceat(value, np.arange(0, value.shape[1], 8), axis=1)
