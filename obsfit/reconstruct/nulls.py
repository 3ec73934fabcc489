"""Null tests: what must vanish, or agree, if a reconstruction is sound.

Nothing in the sky has the anti- or the extended-sidereal frequency: what a reconstruction finds there is noise, or an
effect of day and season that also sits, unseen, in the sidereal and in the solar frame. Epochs of one detector, and
detectors in one sky, must agree; detectors with different fields of view do so only up to the multipoles l > n that
leak into their harmonics, as their responses say. Probabilities are those of chi-square with the statistical
covariance of the reconstruction, systematic errors left out: a test for them must not be blinded by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from obsfit.errors import ConfigurationError
from obsfit.reconstruct.right_ascension import RightAscensionProjection
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction, MapReconstruction, MultipoleReconstruction

__all__ = ["NullTest", "Reconstruction", "agreement", "cell_agreement", "null_tests", "vanishing"]

FloatArray = NDArray[np.float64]
Reconstruction = DipoleReconstruction | MapReconstruction | MultipoleReconstruction
Events = EventMap | RingCounts | Sequence[EventMap | RingCounts]

# Cells with fewer expected events are not nearly Gaussian.
FEWEST_EVENTS = 10.0


class Method(Protocol):
    """Any reconstruction."""

    def reconstruct(self, events: Events, *, rng: np.random.Generator | None = None) -> Reconstruction:
        """Return the result."""


@dataclass(frozen=True)
class NullTest:
    """Outcome of a null test.

    Attributes
    ----------
    name : str
        What was tested.
    chi_square : float
        Distance from the null in units of the covariance.
    degrees_of_freedom : float
        Its expectation.
    probability : float
        Chance of as large a distance if the null is true.
    """

    name: str
    chi_square: float
    degrees_of_freedom: float
    probability: float

    def passed(self, level: float) -> bool:
        """Return whether the probability is at least `level`."""
        return self.probability >= level


def vanishing(result: Reconstruction, *, name: str | None = None) -> NullTest:
    """Return the test that a result is zero, as it must be in the anti- and extended-sidereal frames.

    Parameters
    ----------
    result : DipoleReconstruction, MultipoleReconstruction or MapReconstruction
        The result; a map is tested by three harmonics of its right-ascension projection.
    name : str, optional
        Default: frame and method.

    Examples
    --------
    >>> from obsfit.records.reconstruction import ObservationSpec
    >>> spec = ObservationSpec("east-west", {}, ("A",), -1.0, 1.0, "anti-sidereal", True, "")
    >>> test = vanishing(DipoleReconstruction(np.array([[2e-4, 0.0]]), 1e-8 * np.eye(2), spec, ()))
    >>> test.name, round(test.chi_square, 6), round(test.probability, 4)
    ('anti-sidereal east-west', 4.0, 0.1353)
    """
    vector, covariance = _numbers(result)
    return _test(name or f"{result.spec.frame} {result.spec.method}", vector, covariance)


def agreement(results: Sequence[Reconstruction], *, name: str = "agreement") -> NullTest:
    r"""Return the test that independent results agree: epochs of a detector, or detectors.

    .. math:: \chi^2 = \sum_i (x_i - \bar x)^T C_i^{-1} (x_i - \bar x), \qquad
              \bar x = \left(\sum_i C_i^{-1}\right)^{-1} \sum_i C_i^{-1} x_i

    Parameters
    ----------
    results : sequence
        At least two of one kind and of as many numbers, from different events.
    name : str
        What is tested.

    Raises
    ------
    ConfigurationError
        If there are fewer than two, or they do not go together.
    """
    if len(results) < 2:
        raise ConfigurationError(f"{name}: {len(results)} results", expected="at least two")
    frames = sorted({result.spec.frame for result in results})
    found = [_numbers(result) for result in results]
    sizes = sorted({vector.size for vector, _ in found})
    if len(frames) > 1 or len(sizes) > 1:
        raise ConfigurationError(
            f"{name}: results of the frames {', '.join(frames)} with {sizes} numbers",
            expected="results of one frame with the same numbers",
        )
    inverses = [np.linalg.inv(covariance) for _, covariance in found]
    mean = np.linalg.solve(
        np.sum(inverses, axis=0), np.sum([w @ x for w, (x, _) in zip(inverses, found, strict=True)], axis=0)
    )
    square = sum(float((x - mean) @ w @ (x - mean)) for w, (x, _) in zip(inverses, found, strict=True))
    return _outcome(name, square, float((len(found) - 1) * mean.size))


def cell_agreement(
    first: MapReconstruction, second: MapReconstruction | None = None, *, name: str | None = None
) -> NullTest:
    r"""Return the test that two maps agree cell by cell, or that one map is isotropic.

    .. math:: \chi^2 = \sum_{rk} \frac{(I^a_{rk} - I^b_{rk})^2}{1/E^a_{rk} + 1/E^b_{rk}}

    over cells in which each expects at least ten events. Its expectation is the number of cells less one for each ring,
    changed by the fitted exposure, for m > 0 by :math:`\rho_m/(1-\rho_m)` for a converged likelihood and by
    :math:`-\rho_m` for one pass. It is sensitive to structure of all sizes, and so for large scales less than
    `agreement`, which compares their projections.

    Parameters
    ----------
    first, second : MapReconstruction
        Maps of unweighted, different events on one grid; None compares with an isotropic sky.
    name : str, optional
        What is tested.

    Raises
    ------
    ConfigurationError
        If the grids differ or no cell has events enough.
    """
    maps = [first] if second is None else [first, second]
    if any(m.grid != first.grid or m.spec.frame != first.spec.frame for m in maps):
        raise ConfigurationError(
            f"maps on {[m.grid for m in maps]} in {[m.spec.frame for m in maps]}",
            expected="one grid and one frame",
        )
    seen = np.all([(m.expected >= FEWEST_EVENTS) & np.isfinite(m.relative_intensity) for m in maps], axis=0)
    if not seen.any():
        raise ConfigurationError(
            f"no cell expects {FEWEST_EVENTS:g} events in each map", expected="more events, or a coarser grid"
        )
    inverse = [np.where(seen, 1.0 / np.where(seen, m.expected, 1.0), 0.0) for m in maps]
    variance = np.where(seen, np.sum(inverse, axis=0), 1.0)
    values = [np.where(seen, m.relative_intensity - 1.0, 0.0) for m in maps]
    difference = values[0] - (values[1] if second is not None else 0.0)
    number = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    difference = np.where(seen, difference - difference.sum(axis=1, keepdims=True) / number, 0.0)
    square = float(np.sum(difference**2 / variance))
    freedom = float(seen.sum() - seen.any(axis=1).sum())
    for m, part in zip(maps, inverse, strict=True):
        share = float(part[seen].sum() / variance[seen].sum())
        freedom += share * _extra_freedom(m)
    return _outcome(name or ("isotropic cells" if second is None else "equal cells"), square, freedom)


def null_tests(
    method: Method,
    *,
    frames: Sequence[Events] = (),
    epochs: Sequence[Events] = (),
    detectors: Sequence[Events] = (),
    rng: np.random.Generator | None = None,
) -> tuple[NullTest, ...]:
    """Return all null tests of a method that the given events allow.

    Parameters
    ----------
    method : reconstruction
        Anything with ``reconstruct(events, rng=...)``.
    frames : sequence of events
        The same events in the anti- and extended-sidereal frames: each must vanish.
    epochs : sequence of events
        Epochs of one detector: must agree.
    detectors : sequence of events
        Detectors, or parts of one, in the same frame: must agree.
    rng : Generator, optional
        For methods that draw.

    Raises
    ------
    ConfigurationError
        If a frame is one in which the sky does not vanish, or there is nothing to test.
    """
    tests = []
    for events in frames:
        result = method.reconstruct(events, rng=rng)
        if result.spec.frame not in ("anti-sidereal", "extended-sidereal"):
            raise ConfigurationError(
                f"events in the frame {result.spec.frame!r}",
                expected="anti-sidereal or extended-sidereal",
                remedy="The sky itself does not vanish in other frames.",
            )
        tests.append(vanishing(result))
    for name, several in (("epochs", epochs), ("detectors", detectors)):
        if several:
            results = [method.reconstruct(events, rng=rng) for events in several]
            tests.append(agreement(results, name=f"{name} {results[0].spec.method}"))
    if not tests:
        raise ConfigurationError("no events to test", expected="frames, epochs or detectors")
    return tuple(tests)


def _numbers(result: Reconstruction) -> tuple[FloatArray, FloatArray]:
    """The numbers of a result and their covariance."""
    if isinstance(result, MapReconstruction):
        result = RightAscensionProjection().project(result)
    if isinstance(result, MultipoleReconstruction):
        return np.concatenate([result.alm.real, result.alm.imag]), result.covariance
    return result.components.ravel(), result.covariance


def _test(name: str, vector: FloatArray, covariance: FloatArray) -> NullTest:
    return _outcome(name, float(vector @ np.linalg.solve(covariance, vector)), float(vector.size))


def _outcome(name: str, square: float, freedom: float) -> NullTest:
    return NullTest(name, square, freedom, float(chi2.sf(square, freedom)))


def _extra_freedom(reconstruction: MapReconstruction) -> float:
    """What fitted exposure adds to the expectation of the chi-square of all cells, for even exposure."""
    weights = [float(n.sum()) for n in reconstruction.exposure]
    counts = np.array([w * a / a.sum() for w, a in zip(weights, reconstruction.acceptance, strict=True)])
    spectrum = np.fft.fft(counts, axis=2)[:, :, 1:]
    per_ring = counts.sum(axis=(0, 2))
    seen = per_ring > 0.0
    absorbed = np.einsum("arm,brm,r->mab", spectrum[:, seen].conj(), spectrum[:, seen], 1.0 / per_ring[seen])
    total = np.diag(np.array(weights))
    method = reconstruction.spec.method
    if method == "iterative-likelihood":
        return float(np.trace(np.linalg.solve(total - absorbed, absorbed), axis1=1, axis2=2).real.sum())
    if method in ("direct-integration", "time-scrambling"):
        return -float(np.trace(np.linalg.solve(total[np.newaxis], absorbed), axis1=1, axis2=2).real.sum())
    return 0.0
