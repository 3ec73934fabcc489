r"""Right-ascension projection: relative intensity averaged over declination, and its harmonics.

.. math:: \tilde A_n e^{i n \tilde\alpha_n} = \frac{1}{\pi} \int d\alpha\, e^{i n \alpha} \langle I \rangle_\delta,

Eq. (24) of AM17 for n = 1. Two averages are in use, and differ where the background varies with declination:
the ratio of counts to background, each summed over declination, and the unweighted mean of the relative intensity of
pixels of equal area. They weigh multipoles l > n differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from obsfit.errors import ConfigurationError, ConvergenceError, ObsfitError
from obsfit.reconstruct._harmonic_inputs import check_harmonics, design, on_equator
from obsfit.reconstruct._specification import specification
from obsfit.reconstruct.direct_integration import background_map, direct_integration_map
from obsfit.reconstruct.ring_harmonics import bin_window, multipoles, ring_harmonics
from obsfit.reconstruct.ring_sums import as_ring_counts
from obsfit.records.event_map import EventMap, RingCounts
from obsfit.records.reconstruction import DipoleReconstruction, MapReconstruction, ObservationSpec

__all__ = [
    "MapMethod",
    "RightAscensionProfile",
    "RightAscensionProjection",
    "antisidereal_systematic",
]

FloatArray = NDArray[np.float64]
Estimator = Literal["summed-counts", "mean-of-pixels"]

RING_MEANS = "ring-means"
CONVERGED = "iterative-likelihood"
ONE_PASS = ("direct-integration", "time-scrambling")
TOLERANCE = 1e-10


class MapMethod(Protocol):
    """A reconstruction that makes a map of event maps."""

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> MapReconstruction:
        """Return the map."""


@dataclass(frozen=True)
class RightAscensionProfile:
    """Relative intensity against right ascension.

    Attributes
    ----------
    right_ascension_rad : ndarray, shape (n_bin,)
        Centres of the bins.
    intensity : ndarray, shape (n_bin,)
        Mean relative intensity; NaN where unseen.
    error : ndarray, shape (n_bin,)
        Poisson error of each bin, without what a fitted exposure adds to all of them together.
    """

    right_ascension_rad: FloatArray
    intensity: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class RightAscensionProjection:
    """Harmonics of the relative intensity averaged over declination.

    A constant and the harmonics are fitted to the cells of right ascension with equal weights, and are corrected for
    the width of the cells; over a full turn they are Fourier sums and do not mix.

    Attributes
    ----------
    estimator : str
        "summed-counts": counts over background, each summed over declination; or "mean-of-pixels": the unweighted
        mean of the relative intensity over solid angle.
    harmonics : int
        Number of harmonics.
    corrected : bool
        Whether harmonics are divided by the <cos^n(declination)> of the average, Eq. (25) of AM17, so that a pure
        dipole is seen as it is. Published projections mostly are not.
    dec_min_rad, dec_max_rad : float
        Rings with their middle in between are used.
    map_method : MapMethod or None
        Makes the map of events; None takes the mean of each ring for its background, which is right for a detector
        whose exposure is even in right ascension.
    """

    estimator: Estimator = "summed-counts"
    harmonics: int = 3
    corrected: bool = True
    dec_min_rad: float = -0.5 * np.pi
    dec_max_rad: float = 0.5 * np.pi
    map_method: MapMethod | None = None

    def __post_init__(self) -> None:
        check_harmonics(self.harmonics)
        if self.estimator not in ("summed-counts", "mean-of-pixels"):
            raise ConfigurationError(f"estimator {self.estimator!r}", expected="summed-counts or mean-of-pixels")
        if not -0.5 * np.pi <= self.dec_min_rad < self.dec_max_rad <= 0.5 * np.pi:
            raise ConfigurationError(
                f"declinations {self.dec_min_rad} to {self.dec_max_rad} rad",
                expected="-pi/2 <= dec_min_rad < dec_max_rad <= pi/2",
            )

    def reconstruct(
        self,
        events: EventMap | RingCounts | Sequence[EventMap | RingCounts],
        *,
        rng: np.random.Generator | None = None,
    ) -> DipoleReconstruction:
        """Return the harmonics of the map that `map_method` makes of the events.

        Parameters
        ----------
        events : EventMap, RingCounts, or a sequence of them
            One or several detectors.
        rng : Generator, optional
            Passed to `map_method`.

        Raises
        ------
        ConfigurationError
            If detectors do not go together, or no ring of the band has events.
        ObsfitError
            If the seen right ascensions cannot tell the harmonics apart.
        """
        if self.map_method is not None:
            return self.project(self.map_method.reconstruct(events, rng=rng))
        rings = as_ring_counts(events)
        made, variance = ring_mean_map(rings)
        functional, settings = self._functional(made)
        covariance = np.einsum("irk,rk,jrk->ij", functional, variance, functional)
        return self._result(made, functional, covariance, settings)

    def project(self, reconstruction: MapReconstruction) -> DipoleReconstruction:
        r"""Return the harmonics of a map.

        The covariance is that of the map: with :math:`E - P` as in `obsfit.reconstruct.multipoles.fit_multipoles`,
        its inverse for a converged likelihood, where fitted exposure inflates the errors of large scales, and
        :math:`E^{-1}(E - P)E^{-1}` for one pass.

        Parameters
        ----------
        reconstruction : MapReconstruction
            Map of unweighted events.

        Raises
        ------
        ObsfitError
            If the events carry weights, whose squares the map does not know, or right ascensions are too few.
        """
        if reconstruction.spec.settings.get("weighted", False):
            raise ObsfitError(
                f"{', '.join(reconstruction.spec.detectors)}: the map is of weighted events, whose squares it does not "
                "know",
                expected="a map of unweighted events",
                remedy="LowMultipoleLikelihood and Rayleigh give errors of weighted events.",
            )
        functional, settings = self._functional(reconstruction)
        return self._result(reconstruction, functional, _map_covariance(reconstruction, functional), settings)

    def profile(self, reconstruction: MapReconstruction, n_bins: int = 24) -> RightAscensionProfile:
        """Return the relative intensity in bins of right ascension, for example 24 of 15 degrees.

        Parameters
        ----------
        reconstruction : MapReconstruction
            The map.
        n_bins : int
            Number of bins, a divisor of the number of cells.

        Raises
        ------
        ConfigurationError
            If it is no divisor.
        """
        n_time = reconstruction.grid.n_time
        if n_bins < 1 or n_time % n_bins:
            raise ConfigurationError(f"{n_bins} bins of {n_time} cells", expected=f"a divisor of {n_time}")
        per_bin = n_time // n_bins
        weight, seen = self._weights(reconstruction)
        intensity = np.where(seen, np.nan_to_num(reconstruction.relative_intensity), 0.0)
        variance = np.divide(intensity, reconstruction.expected, out=np.zeros_like(intensity), where=seen)
        folded = [(x * w).reshape(len(x), n_bins, per_bin).sum(axis=(0, 2)) for x, w in
                  ((seen, weight), (intensity, weight), (variance, weight**2))]  # fmt: skip
        total = np.where(folded[0] > 0.0, folded[0], np.nan)
        # The first cell is centred on right ascension zero, so that a bin of several is centred between cells.
        centre = 2.0 * np.pi / n_time * (np.arange(n_bins) * per_bin + 0.5 * (per_bin - 1))
        error: FloatArray = np.asarray(np.sqrt(folded[2]) / total, dtype=np.float64)
        return RightAscensionProfile(np.asarray(centre, dtype=np.float64), folded[1] / total, error)

    def response(self, reconstruction: MapReconstruction, lmax: int = 10) -> dict[int, FloatArray]:
        """Return what each harmonic n measures of a_ln, as n -> row of shape (lmax + 1,), l counted from 0.

        For a full turn and even exposure it is `obsfit.operators.projections.right_ascension_row` of the weight in
        declination, divided by its entry l = n if `corrected`; for a map of direct integration or time scrambling,
        what those keep of each multipole is in it.
        """
        matrix = self.response_matrix(reconstruction, lmax)
        ell, m = multipoles(lmax)
        rows = {}
        for n in range(1, self.harmonics + 1):
            row, chosen = np.zeros(lmax + 1), np.flatnonzero(m == n)
            # cos(n alpha) comes from 2 Re a, and sin(n alpha) from -2 Im a.
            both = matrix[2 * n - 2, chosen] - matrix[2 * n - 1, ell.size + chosen]
            row[ell[chosen]] = 0.25 * both / on_equator(n)
            rows[n] = row
        return rows

    def response_matrix(self, reconstruction: MapReconstruction, lmax: int = 10) -> FloatArray:
        """Return what all components measure of the sky, to first order, shape (2 n_harmonic, 2 n).

        The columns are (Re a_lm, Im a_lm), all real parts first, in the order of
        `obsfit.reconstruct.ring_harmonics.multipoles`. Where the background varies with right ascension differently
        at different declinations, orders mix, which `response` leaves out.
        """
        functional, _ = self._functional(reconstruction)
        grid, seen = reconstruction.grid, np.isfinite(reconstruction.relative_intensity)
        ell, m = multipoles(lmax)
        values = ring_harmonics(reconstruction.per_declination, grid.n_dec, lmax) * bin_window(m, grid.n_time)
        number = np.maximum(seen.sum(axis=1, keepdims=True), 1)
        matrix = np.zeros((len(functional), 2 * ell.size))
        for p in range(ell.size):
            angle = m[p] * grid.right_ascension_rad
            for column, phase in ((p, 2.0 * np.cos(angle)), (ell.size + p, -2.0 * np.sin(angle))):
                shown = _shown(reconstruction, np.where(seen, values[:, p, np.newaxis] * phase, 0.0))
                shown = np.where(seen, shown - shown.sum(axis=1, keepdims=True) / number, 0.0)
                matrix[:, column] = np.einsum("irk,rk->i", functional, shown)
        return matrix

    def _weights(self, reconstruction: MapReconstruction) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Weight of each cell in the average over declination, and the cells that are seen."""
        grid, expected = reconstruction.grid, reconstruction.expected
        inside = (grid.dec_rad >= self.dec_min_rad) & (grid.dec_rad <= self.dec_max_rad)
        seen = (expected > 0.0) & np.isfinite(reconstruction.relative_intensity) & inside[:, np.newaxis]
        if not seen.any():
            raise ConfigurationError(
                f"{', '.join(reconstruction.spec.detectors)}: no events between declinations "
                f"{np.degrees(self.dec_min_rad):.1f} and {np.degrees(self.dec_max_rad):.1f} deg",
                expected="a band inside the field of view",
            )
        solid_angle = np.diff(np.sin(grid.dec_edges_rad))[:, np.newaxis] * np.ones_like(expected)
        weight = expected if self.estimator == "summed-counts" else solid_angle
        return np.where(seen, weight, 0.0), seen

    def _functional(self, reconstruction: MapReconstruction) -> tuple[FloatArray, tuple[float, float]]:
        """Components as linear functions of the cells, shape (2 n_harmonic, n_dec, n_time); the limits of the band."""
        grid = reconstruction.grid
        weight, seen = self._weights(reconstruction)
        total = weight.sum(axis=0)
        there = total > 0.0
        average = np.divide(weight, total, out=np.zeros_like(weight), where=there)
        columns = design(grid.right_ascension_rad[there], self.harmonics, constant=True)
        if columns.shape[0] < columns.shape[1] or np.linalg.cond(columns) > 1e4:
            raise ObsfitError(
                f"{', '.join(reconstruction.spec.detectors)}: {columns.shape[0]} cells of right ascension cannot tell "
                f"{self.harmonics} harmonics apart",
                expected="right ascensions that cover most of the turn",
                remedy="Fit fewer harmonics.",
            )
        fit = np.zeros((2 * self.harmonics, grid.n_time))
        fit[:, there] = np.linalg.pinv(columns)[1:]
        orders = np.repeat(np.arange(1, self.harmonics + 1), 2)
        fit /= bin_window(orders, grid.n_time)[:, np.newaxis]
        if self.corrected:
            values = ring_harmonics(reconstruction.per_declination, grid.n_dec, self.harmonics)
            ell, m = multipoles(self.harmonics)
            per_ring = average.mean(axis=1) / average.mean(axis=1).sum()
            for n in range(1, self.harmonics + 1):
                cosine = per_ring @ values[:, np.flatnonzero((ell == n) & (m == n))[0]] / on_equator(n)
                fit[2 * n - 2 : 2 * n] /= cosine
        rings = np.flatnonzero(seen.any(axis=1))
        band = (float(grid.dec_edges_rad[rings[0]]), float(grid.dec_edges_rad[rings[-1] + 1]))
        return fit[:, np.newaxis, :] * average, band

    def _result(
        self,
        reconstruction: MapReconstruction,
        functional: FloatArray,
        covariance: FloatArray,
        band: tuple[float, float],
    ) -> DipoleReconstruction:
        anisotropy = np.nan_to_num(reconstruction.relative_intensity - 1.0)
        components = np.einsum("irk,rk->i", functional, anisotropy).reshape(-1, 2)
        spec = reconstruction.spec
        dipole = "A dipole is projected and corrected for it" if self.corrected else "A dipole is projected"
        return DipoleReconstruction(
            components,
            covariance,
            ObservationSpec(
                method="right-ascension-projection",
                settings={
                    "estimator": self.estimator,
                    "harmonics": self.harmonics,
                    "corrected": self.corrected,
                    "map": spec.method,
                    **{f"map_{key}": value for key, value in spec.settings.items()},
                },
                detectors=spec.detectors,
                dec_min_rad=band[0],
                dec_max_rad=band[1],
                frame=spec.frame,
                filtered=True,
                loss=f"{dipole}; multipoles l > n leak into harmonic n. The map: {spec.loss}",
            ),
            reconstruction.provenance,
        )


def antisidereal_systematic(
    sidereal: DipoleReconstruction, antisidereal: DipoleReconstruction, *, subtract_noise: bool = False
) -> DipoleReconstruction:
    r"""Return the sidereal result with the systematic error that the anti-sidereal one suggests.

    A modulation of the solar day whose size changes with the seasons has side bands of equal amplitude at the sidereal
    and the anti-sidereal frequency (Farley and Storey 1954), and nothing in the sky has the latter. The phase of the
    sidereal one is not known without the solar wave. Each harmonic so gets the isotropic covariance
    :math:`\tfrac12 A_n^2` per component, with the anti-sidereal amplitude :math:`A_n`.

    Parameters
    ----------
    sidereal, antisidereal : DipoleReconstruction
        The same analysis of the same events in both frames. For solar results, give the extended-sidereal one second.
    subtract_noise : bool
        Whether to take the expectation of the noise from :math:`A_n^2`, not below zero.

    Raises
    ------
    ConfigurationError
        If frames or numbers of harmonics are not those of such a pair.
    """
    pairs = (("sidereal", "anti-sidereal"), ("solar", "extended-sidereal"))
    if (sidereal.spec.frame, antisidereal.spec.frame) not in pairs:
        raise ConfigurationError(
            f"frames {sidereal.spec.frame!r} and {antisidereal.spec.frame!r}",
            expected="sidereal and anti-sidereal, or solar and extended-sidereal",
        )
    if sidereal.components.shape != antisidereal.components.shape:
        raise ConfigurationError(
            f"{len(sidereal.components)} and {len(antisidereal.components)} harmonics", expected="the same number"
        )
    squares = antisidereal.amplitude**2
    if subtract_noise:
        noise = np.diag(antisidereal.covariance).reshape(-1, 2).sum(axis=1)
        squares = np.maximum(squares - noise, 0.0)
    return replace(sidereal, systematic=np.diag(np.repeat(0.5 * squares, 2)))


def ring_mean_map(rings: Sequence[RingCounts]) -> tuple[MapReconstruction, FloatArray]:
    """Return the map of counts over the mean of their ring, and the variance of its cells, (n_dec, n_time)."""
    counts = np.sum([r.per_sky for r in rings], axis=0)
    squares = np.sum([r.per_sky if r.squared is None else r.squared[2] for r in rings], axis=0)
    expected = np.broadcast_to(counts.mean(axis=1, keepdims=True), counts.shape)
    settings = {"weighted": any(r.squared is not None for r in rings)}
    spec = specification(
        RING_MEANS,
        settings,
        rings,
        "a_l0 is lost. Exposure that is not even in right ascension is taken for anisotropy.",
    )
    safe = np.where(expected > 0.0, expected, 1.0)
    return background_map(rings, np.ascontiguousarray(expected), spec), squares / safe**2


def _shown(reconstruction: MapReconstruction, anisotropy: FloatArray) -> FloatArray:
    """What the method of the map shows of a small anisotropy without ring means."""
    settings = reconstruction.spec.settings
    if reconstruction.spec.method not in ONE_PASS:
        return anisotropy
    return direct_integration_map(
        anisotropy,
        reconstruction.exposure,
        reconstruction.acceptance,
        window_hours=float(settings.get("window_hours", 24.0)),
    )


def _map_covariance(reconstruction: MapReconstruction, functional: FloatArray) -> FloatArray:
    """Covariance of linear functions of a map."""
    expected = reconstruction.expected
    seen = (expected > 0.0) & np.isfinite(reconstruction.relative_intensity)
    number = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    # The map has the mean of its rings removed, whatever they were: so has what acts on it.
    q = np.where(seen, functional - (functional * seen).sum(axis=2, keepdims=True) / number, 0.0)
    safe = np.where(seen, expected, 1.0)
    method, settings = reconstruction.spec.method, reconstruction.spec.settings
    if method in ONE_PASS:
        x = q / safe
        left = np.array([safe * _shown(reconstruction, row) for row in x])
        once = np.einsum("irk,jrk->ij", x, left)
        return once * (1.0 + 1.0 / float(settings["resamples"]) if "resamples" in settings else 1.0)
    if method != CONVERGED:
        return np.einsum("irk,rk,jrk->ij", q, reconstruction.counts / safe**2, q)
    root = np.sqrt(safe)

    def information(values: FloatArray) -> FloatArray:
        """Apply E^(-1/2) (E - P) E^(-1/2)."""
        sky = np.where(seen, values.reshape(expected.shape) / root, 0.0)
        left = direct_integration_map(sky, reconstruction.exposure, reconstruction.acceptance)
        return np.where(seen, root * left, 0.0).ravel()

    operator = LinearOperator((expected.size, expected.size), matvec=information, dtype=np.float64)
    columns = np.array([(row / root).ravel() for row in q])
    solved = np.zeros_like(columns)
    for i, column in enumerate(columns):
        solved[i], failed = cg(operator, column, rtol=TOLERANCE, maxiter=4 * expected.shape[1])
        if failed:
            raise ConvergenceError(
                f"{', '.join(reconstruction.spec.detectors)}: the covariance of the map has no solution",
                expected="exposure and field of view that leave no gradient in right ascension free",
                remedy="Look for gaps of the exposure that are wider than the field of view in hour angle.",
            )
    matrix = columns @ solved.T
    return 0.5 * (matrix + matrix.T)
