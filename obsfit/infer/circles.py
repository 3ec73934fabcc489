r"""Parameters on a circle, sampled, judged and summarised without a cut.

A circular parameter :math:`\varphi` (`obsfit.parameters.Parameter.circular`) is sampled as two numbers with a standard
normal prior each,

.. math:: (u, v) \sim N(0, 1)^2, \qquad \varphi = \varphi_0 + \frac{P}{2\pi}\, \mathrm{atan2}(v, u) \bmod P,

so that :math:`\varphi` is uniform over its period P and independent of the radius :math:`\sqrt{u^2 + v^2}`. The
likelihood does not know the radius: given :math:`\varphi` it stays as the prior has it, and the posterior of
:math:`\varphi` is exactly what it was. No point of the plane is a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from obsfit.infer.information import stored_priors
from obsfit.parameters import FloatArray, Parameter

__all__ = ["Circle", "Plane", "as_vectors", "centres", "circles_of", "opened", "stored_circles", "turned"]


@dataclass(frozen=True)
class Circle:
    """Range of a circular parameter: where it starts, and its period."""

    low: float
    period: float

    def angle(self, values: FloatArray) -> FloatArray:
        """Values as angles in rad, zero where the range starts."""
        return 2.0 * np.pi * (values - self.low) / self.period

    def mean(self, samples: FloatArray, weight: FloatArray | None = None) -> float:
        """Circular mean: the direction of the sum of unit vectors, within the range."""
        angle = self.angle(samples)
        x, y = (float(np.average(side, weights=weight)) for side in (np.cos(angle), np.sin(angle)))
        return float(self.low + self.period * (np.arctan2(y, x) / (2.0 * np.pi) % 1.0))

    def near(self, values: FloatArray, centre: float) -> FloatArray:
        """The same values within half a period of a centre."""
        return centre + np.mod(values - centre + 0.5 * self.period, self.period) - 0.5 * self.period


def circles_of(parameters: Sequence[Parameter]) -> tuple[Circle | None, ...]:
    """Return the circle of each parameter that is on one, None for others."""
    return tuple(_circle(p.prior) if p.circular else None for p in parameters)


def stored_circles(provenance: Mapping[str, Any], names: Sequence[str]) -> tuple[Circle | None, ...]:
    """Return the circles that a stored fit says its parameters were on, in the order of names."""
    told = {one.get("name"): one for one in provenance.get("parameters", ()) if isinstance(one, Mapping)}
    return tuple(
        _circle(prior) if prior is not None and told[name].get("circular") else None
        for name, prior in zip(names, stored_priors(provenance, names), strict=True)
    )


def _circle(prior: Any) -> Circle:
    """The range of a uniform prior: periods that were typed with four digits are as wide as it is."""
    low, high = (float(end) for end in prior.support())
    return Circle(low, high - low)


def centres(
    samples: FloatArray, circles: Sequence[Circle | None], weight: FloatArray | None = None
) -> tuple[float | None, ...]:
    """Return the circular mean of each circular parameter over samples (..., n_par); None of others."""
    return tuple(
        None if circle is None else circle.mean(samples[..., column], weight)
        for column, circle in enumerate(circles)
    )


def opened(samples: FloatArray, circles: Sequence[Circle | None], centre: Sequence[float | None]) -> FloatArray:
    """Return samples (..., n_par) with circular parameters within half a period of a centre, such as their mean.

    Quantiles of what is returned are those about the centre, wherever it is: they may leave the range of the prior by
    up to half a period.

    Examples
    --------
    >>> around, circle = np.array([[359.0], [1.0], [3.0]]), [Circle(0.0, 360.0)]
    >>> opened(around, circle, centres(around, circle))[:, 0].round(9)
    array([-1.,  1.,  3.])
    """
    moved = np.array(samples)
    for column, (circle, middle) in enumerate(zip(circles, centre, strict=True)):
        if circle is not None and middle is not None:
            moved[..., column] = circle.near(samples[..., column], middle)
    return moved


def turned(samples: FloatArray, circles: Sequence[Circle | None], centre: Sequence[float | None]) -> FloatArray:
    """Return samples (..., n_par) with circular parameters turned by what takes a centre to the middle of their range.

    What does not depend on where a circle is cut, as a uniform prior, does not change.
    """
    moved = opened(samples, circles, centre)
    for column, (circle, middle) in enumerate(zip(circles, centre, strict=True)):
        if circle is not None and middle is not None:
            moved[..., column] += circle.low + 0.5 * circle.period - middle
    return moved


def as_vectors(chain: FloatArray, circles: Sequence[Circle | None]) -> list[FloatArray]:
    """Return the numbers of each parameter: itself, shape (..., 1), or the cosine and sine of its angle, (..., 2)."""
    found = []
    for column, circle in enumerate(circles):
        values = chain[..., column]
        if circle is None:
            found.append(values[..., None])
        else:
            found.append(np.stack([np.cos(circle.angle(values)), np.sin(circle.angle(values))], axis=-1))
    return found


@dataclass(frozen=True)
class Plane:
    """Coordinates in which a sampler walks: those of theta, with u in place of circular parameters; then each v.

    Attributes
    ----------
    circles : tuple of Circle or None, length n_par
        Of `circles_of`. Where there is none, coordinates are theta itself.
    """

    circles: tuple[Circle | None, ...]

    @property
    def _on_circles(self) -> list[tuple[int, Circle]]:
        """Columns that are u, and their circles."""
        return [(column, circle) for column, circle in enumerate(self.circles) if circle is not None]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.circles) + len(self._on_circles)

    def to_theta(self, place: FloatArray) -> FloatArray:
        """Parameters, shape (..., n_par), at coordinates (..., size)."""
        n_par = len(self.circles)
        theta = np.array(place[..., :n_par])
        for number, (column, circle) in enumerate(self._on_circles):
            turns = np.arctan2(place[..., n_par + number], place[..., column]) / (2.0 * np.pi)
            theta[..., column] = circle.low + circle.period * np.mod(turns, 1.0)
        return theta

    def from_theta(self, theta: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """Coordinates (n_vec, size) of parameters (n_vec, n_par), with radii drawn from their prior."""
        columns = [theta.copy()]
        for column, circle in self._on_circles:
            radius, angle = rng.rayleigh(size=len(theta)), circle.angle(theta[:, column])
            columns[0][:, column] = radius * np.cos(angle)
            columns.append((radius * np.sin(angle))[:, None])
        return np.concatenate(columns, axis=1)

    def log_radius(self, place: FloatArray) -> FloatArray:
        """Log of the prior density of all u and v, but for a constant, shape (...)."""
        both = [*(column for column, _ in self._on_circles), *range(len(self.circles), self.size)]
        return np.asarray(-0.5 * np.sum(place[..., both] ** 2, axis=-1))

    def log_prob(self, log_prob: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
        """Return a log posterior density of theta as one of coordinates, but for a constant."""
        if not self._on_circles:
            return log_prob
        return lambda place: log_prob(self.to_theta(place)) + self.log_radius(place)
