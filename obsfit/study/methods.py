"""The reconstructions that a study compares: what each finds, with its covariance, and what its operator predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.ingest.tables import nearest
from obsfit.reconstruct.direct_integration import DirectIntegration
from obsfit.reconstruct.east_west import EastWest
from obsfit.reconstruct.forward_backward import ForwardBackward
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.reconstruct.nulls import NullTest, agreement, vanishing
from obsfit.reconstruct.rayleigh import Rayleigh
from obsfit.reconstruct.responses import low_multipole_response, map_response
from obsfit.reconstruct.right_ascension import RightAscensionProjection
from obsfit.reconstruct.ring_harmonics import multipoles
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.reconstruct.time_scrambling import TimeScrambling
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction, MapReconstruction, MultipoleReconstruction

FloatArray = NDArray[np.float64]
Result = DipoleReconstruction | MultipoleReconstruction

TO_DIPOLE = np.sqrt(1.5 / np.pi)
"""(delta_0h, delta_6h) = TO_DIPOLE (-Re a_11, Im a_11): Eq. (18) of AM17."""


@dataclass(frozen=True)
class Observed:
    """The events of one mock: maps for methods that look at time bins, sums of them for the others.

    Attributes
    ----------
    maps : tuple of EventMap
        One for each detector.
    rings : tuple of RingCounts
        Their sums.
    """

    maps: tuple[EventMap, ...]
    rings: tuple[RingCounts, ...]

    @classmethod
    def of(cls, maps: Sequence[EventMap]) -> Observed:
        """Return the events of some maps."""
        return cls(tuple(maps), tuple(ring_counts(one) for one in maps))


@dataclass(frozen=True)
class StudyMethod:
    """A reconstruction as studies use it.

    Attributes
    ----------
    multipoles : bool
        Whether it finds a_lm, rather than the dipole alone.
    result : callable
        Called with the events, the largest multipole that is fitted and a generator; returns the result.
    response : callable
        Called with the events, the largest multipole that is fitted and that of the sky; returns what the method shows
        of (Re a_lm, Im a_lm) of the sky, shape (n, 2 n_sky): of (delta_0h, delta_6h), or of the fitted multipoles in
        the same order.
    noise_free : str
        Method that stands for it where counts are not whole numbers; empty: itself.
    """

    multipoles: bool
    result: Callable[[Observed, int, np.random.Generator | None], Result]
    response: Callable[[Observed, int, int], FloatArray]
    noise_free: str = ""

    def estimate(
        self, observed: Observed, lmax: int, rng: np.random.Generator | None
    ) -> tuple[FloatArray, FloatArray]:
        """Return what it finds and the covariance: (delta_0h, delta_6h), or (Re a_lm, Im a_lm)."""
        return numbers(self.result(observed, lmax, rng))


def numbers(result: Result) -> tuple[FloatArray, FloatArray]:
    """Return the numbers of a result and their covariance; of harmonics, the first."""
    if isinstance(result, MultipoleReconstruction):
        return np.concatenate([result.alm.real, result.alm.imag]), result.covariance
    return result.components[0], result.covariance[:2, :2]


def dipole_functional(n: int) -> FloatArray:
    """Return the matrix from n numbers (Re a_lm, Im a_lm) to (delta_0h, delta_6h), shape (2, n)."""
    matrix = np.zeros((2, n))
    # The first of the multipoles is l = m = 1.
    matrix[0, 0], matrix[1, n // 2] = -TO_DIPOLE, TO_DIPOLE
    return matrix


def null_tests(results: Mapping[str, Result], epochs: Sequence[Result]) -> tuple[NullTest, ...]:
    """Return the tests of what must vanish and of what must agree.

    Parameters
    ----------
    results : mapping of str to result
        By frame; anti- and extended-sidereal ones are tested.
    epochs : sequence of results
        Of parts of the time, in the sidereal frame; fewer than two are not tested.
    """
    tests = [vanishing(result, name=frame) for frame, result in results.items() if frame != "sidereal"]
    return (*tests, agreement(epochs, name="epochs")) if len(epochs) > 1 else tuple(tests)


def methods_named(names: Sequence[str]) -> dict[str, StudyMethod]:
    """Return methods by name, in the order asked for.

    Raises
    ------
    ConfigurationError
        If a name is unknown; the nearest one is named.
    """
    for name in names:
        if name not in METHODS:
            raise ConfigurationError(
                f"method {name!r}{nearest(name, METHODS)}", value=name, expected=f"one of {', '.join(METHODS)}"
            )
    return {name: METHODS[name] for name in names}


def _rows(of: Callable[[Observed, int], Mapping[int, FloatArray]]) -> Callable[[Observed, int, int], FloatArray]:
    """Response of a method that is known by the row of its first harmonic."""

    def response(observed: Observed, lmax: int, lmax_sky: int) -> FloatArray:
        row = of(observed, lmax_sky)[1]
        ell, m = multipoles(lmax_sky)
        weight = np.where(m == 1, row[ell], 0.0) * TO_DIPOLE
        nothing = np.zeros_like(weight)
        return np.stack([np.concatenate([-weight, nothing]), np.concatenate([nothing, weight])])

    return response


def _of_map(
    reconstruct: Callable[[Observed, np.random.Generator | None], MapReconstruction], noise_free: str = ""
) -> StudyMethod:
    """Multipoles fitted to a map."""
    return StudyMethod(
        True,
        lambda observed, lmax, rng: fit_multipoles(reconstruct(observed, rng), lmax),
        lambda observed, lmax, sky: map_response(reconstruct(observed, None), lmax=lmax, lmax_sky=sky),
        noise_free,
    )


def _of_projection(projection: RightAscensionProjection) -> StudyMethod:
    """First harmonic of a projection; the map that its operator speaks of is that of the same events."""
    whole = RightAscensionProjection(projection.estimator, projection.harmonics, projection.corrected)

    def response(observed: Observed, lmax: int, lmax_sky: int) -> FloatArray:
        maker = projection.map_method
        if maker is not None:
            return whole.response_matrix(maker.reconstruct(observed.rings), lmax_sky)[:2]
        row = Rayleigh(projection.harmonics, projection.corrected).response(observed.rings, lmax_sky)
        return _rows(lambda *_: row)(observed, lmax, lmax_sky)

    return StudyMethod(
        False, lambda observed, lmax, rng: projection.reconstruct(observed.rings, rng=rng), response
    )


LIKELIHOOD = IterativeLikelihood()
SCRAMBLING = TimeScrambling(replace=True)
METHODS: Mapping[str, StudyMethod] = MappingProxyType(
    {
        "east-west": StudyMethod(
            False,
            lambda observed, lmax, rng: EastWest().reconstruct(observed.maps),
            _rows(lambda observed, sky: EastWest().response(observed.maps, sky)),
        ),
        "forward-backward": StudyMethod(
            False,
            lambda observed, lmax, rng: ForwardBackward().reconstruct(observed.maps),
            _rows(lambda observed, sky: ForwardBackward().response(observed.maps, sky)),
        ),
        "rayleigh": StudyMethod(
            False,
            lambda observed, lmax, rng: Rayleigh().reconstruct(observed.rings),
            _rows(lambda observed, sky: Rayleigh().response(observed.rings, sky)),
        ),
        "ring-means-projection": _of_projection(RightAscensionProjection(harmonics=1)),
        "likelihood-projection": _of_projection(RightAscensionProjection(harmonics=1, map_method=LIKELIHOOD)),
        "likelihood-pixel-mean": _of_projection(
            RightAscensionProjection("mean-of-pixels", harmonics=1, map_method=LIKELIHOOD)
        ),
        "direct-integration": _of_map(lambda observed, rng: DirectIntegration().reconstruct(observed.rings)),
        "direct-integration-4h": _of_map(lambda observed, rng: DirectIntegration(4.0).reconstruct(observed.maps)),
        "time-scrambling": StudyMethod(
            True,
            lambda observed, lmax, rng: fit_multipoles(SCRAMBLING.reconstruct(observed.rings, rng=rng), lmax),
            lambda observed, lmax, sky: map_response(
                DirectIntegration().reconstruct(observed.rings), lmax=lmax, lmax_sky=sky
            ),
            "direct-integration",
        ),
        "iterative-likelihood": _of_map(lambda observed, rng: LIKELIHOOD.reconstruct(observed.rings)),
        "low-multipole-likelihood": StudyMethod(
            True,
            lambda observed, lmax, rng: LowMultipoleLikelihood(lmax).reconstruct(observed.rings),
            lambda observed, lmax, sky: low_multipole_response(observed.rings, lmax=lmax, lmax_sky=sky),
        ),
    }
)
"""All methods by name."""
