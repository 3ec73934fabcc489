"""A magnetic field for orbits: a uniform part, plane waves and grids, in any sum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit_models.turbulence import _kernels_cpu as kernels

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PlaneWaves:
    r"""A sum of transverse plane waves, :math:`\sum_n A_n \cos(k_n \cdot r + \beta_n)`, hence free of divergence.

    Attributes
    ----------
    wavevector : ndarray, shape (3, n)
        k_n, radians per unit of length.
    amplitude : ndarray, shape (3, n)
        A_n, perpendicular to k_n, in the unit of the field.
    phase : ndarray, shape (n,)
        beta_n in radians.
    """

    wavevector: FloatArray
    amplitude: FloatArray
    phase: FloatArray

    def __post_init__(self) -> None:
        n = np.shape(self.phase)
        if len(n) != 1 or np.shape(self.wavevector) != (3, *n) or np.shape(self.amplitude) != (3, *n):
            raise ValueError(
                f"plane waves: wavevector {np.shape(self.wavevector)}, amplitude {np.shape(self.amplitude)}, phase "
                f"{n}: expected (3, n), (3, n) and (n,)"
            )
        for name in ("wavevector", "amplitude", "phase"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise ValueError(f"plane waves: {name} holds a value that is not finite")
        along = np.abs(np.sum(self.wavevector * self.amplitude, axis=0))
        size = np.linalg.norm(self.wavevector, axis=0) * np.linalg.norm(self.amplitude, axis=0)
        if np.any(along > 1e-9 * size):
            raise ValueError(
                "plane waves: an amplitude is not perpendicular to its wave vector; div B would not be 0"
            )

    @property
    def mean_square(self) -> float:
        """<B^2> over space, half the sum of the squared amplitudes."""
        return float(0.5 * np.sum(self.amplitude**2))

    @property
    def k_max(self) -> float:
        """Largest wavenumber."""
        return float(np.max(np.linalg.norm(self.wavevector, axis=0), initial=0.0))


@dataclass(frozen=True)
class GridField:
    """A field given on a regular grid of points, interpolated between them.

    Attributes
    ----------
    values : ndarray, shape (nx, ny, nz, 3)
        Field at origin + index * spacing, in the unit of the field.
    origin, spacing : ndarray, shape (3,)
        In the unit of length.
    periodic : bool
        Whether the grid repeats. If not, it adds nothing outside.
    interpolation : {"linear", "cubic"}
        Trilinear, or tricubic (Catmull-Rom; smoother, a few times slower).
    """

    values: FloatArray
    origin: FloatArray
    spacing: FloatArray
    periodic: bool
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        shape = np.shape(self.values)
        if len(shape) != 4 or shape[3] != 3 or min(shape[:3]) < 2:
            raise ValueError(f"grid: shape {shape}, expected (nx, ny, nz, 3) with at least two points a side")
        if (
            np.shape(self.origin) != (3,)
            or np.shape(self.spacing) != (3,)
            or not np.all(np.asarray(self.spacing) > 0)
        ):
            raise ValueError("grid: expected an origin and positive spacings of shape (3,)")
        if self.interpolation not in ("linear", "cubic"):
            raise ValueError(f"grid: interpolation {self.interpolation!r}, expected linear or cubic")
        bad = ~np.isfinite(self.values)
        if np.any(bad):
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"grid: {int(bad.sum())} values are not finite, the first at index {place}")

    @property
    def mean_square(self) -> float:
        """<B^2> over the points."""
        return float(np.mean(np.sum(self.values**2, axis=3)))

    @property
    def k_max(self) -> float:
        """Wavenumber of two points a wavelength, the finest structure that the grid can hold."""
        return float(np.pi / np.min(self.spacing))


@dataclass(frozen=True)
class MagneticField:
    """The sum of a uniform field, plane waves and grids. Fields add.

    Lengths are in a unit of the user's choice (that of the wave vectors and grids; 1 = lambda_c in the papers' set-up),
    strengths in the unit in which a gyroradius is quoted (B_0, or the rms field where there is no mean field).

    Attributes
    ----------
    uniform : ndarray, shape (3,)
    waves : PlaneWaves or None
    grids : tuple of GridField

    Examples
    --------
    >>> field = MagneticField(uniform=[0.0, 0.0, 1.0])
    >>> field.at([[0.0], [0.0], [0.0]])
    array([[0.],
           [0.],
           [1.]])
    """

    uniform: FloatArray = field(default_factory=lambda: np.zeros(3))
    waves: PlaneWaves | None = None
    grids: tuple[GridField, ...] = ()

    def __post_init__(self) -> None:
        uniform = np.array(self.uniform, dtype=np.float64)
        if uniform.shape != (3,) or not np.all(np.isfinite(uniform)):
            raise ValueError(f"uniform field {self.uniform}: expected three finite numbers")
        object.__setattr__(self, "uniform", uniform)

    def __add__(self, other: MagneticField) -> MagneticField:
        """Return the sum of two fields."""
        both = [waves for waves in (self.waves, other.waves) if waves is not None]
        waves = None
        if both:
            waves = PlaneWaves(
                np.concatenate([part.wavevector for part in both], axis=1),
                np.concatenate([part.amplitude for part in both], axis=1),
                np.concatenate([part.phase for part in both]),
            )
        return MagneticField(self.uniform + other.uniform, waves, self.grids + other.grids)

    @property
    def k_max(self) -> float:
        """Largest wavenumber of any part; 0 for a uniform field."""
        parts = [grid.k_max for grid in self.grids] + ([] if self.waves is None else [self.waves.k_max])
        return max(parts, default=0.0)

    def up_to(self, wavenumber: float) -> MagneticField:
        """Return the field without its plane waves above a wavenumber; the uniform part and grids stay as they are.

        Parameters
        ----------
        wavenumber : float
            In radians per unit of length.

        Examples
        --------
        >>> waves = PlaneWaves(np.diag([1.0, 2.0, 4.0]), np.roll(np.eye(3), 1, axis=0), np.zeros(3))
        >>> MagneticField(waves=waves).up_to(2.0).k_max
        2.0
        """
        if self.waves is None:
            return self
        # A wave at the limit stays, whatever rounding made of either number.
        kept = np.linalg.norm(self.waves.wavevector, axis=0) <= wavenumber * (1 + 1e-9)
        waves = PlaneWaves(self.waves.wavevector[:, kept], self.waves.amplitude[:, kept], self.waves.phase[kept])
        return MagneticField(self.uniform, waves, self.grids)

    def at(self, position: ArrayLike) -> FloatArray:
        """Return the field at positions (3, n), same shape."""
        place = np.ascontiguousarray(position, dtype=np.float64)
        result = np.empty_like(place)
        kernels.field_at(place, *self.arrays(1.0), result)
        return result

    def arrays(self, gyroradius: float) -> tuple[FloatArray, kernels.Waves, kernels.Grids]:
        """Return the arrays that kernels take, with lengths in units of the gyroradius."""
        if self.waves is None:
            waves = (np.zeros((3, 0)), np.zeros((3, 0)), np.zeros(0))
        else:
            # Ordered by wavenumber, so that schemes can treat slow and fast waves apart.
            order = np.argsort(np.linalg.norm(self.waves.wavevector, axis=0), kind="stable")
            turns = gyroradius / (2 * np.pi)
            waves = (
                np.ascontiguousarray(self.waves.wavevector[:, order] * turns),
                np.ascontiguousarray(self.waves.amplitude[:, order]),
                np.ascontiguousarray(self.waves.phase[order] / (2 * np.pi)),
            )
        sizes = [grid.values.size for grid in self.grids]
        grids = (
            np.concatenate([np.zeros(0), *(np.ravel(grid.values).astype(np.float64) for grid in self.grids)]),
            np.array([grid.values.shape[:3] for grid in self.grids], dtype=np.int64).reshape(-1, 3),
            np.cumsum([0, *sizes], dtype=np.int64)[:-1],
            np.array([grid.origin for grid in self.grids], dtype=np.float64).reshape(-1, 3) / gyroradius,
            np.array([grid.spacing for grid in self.grids], dtype=np.float64).reshape(-1, 3) / gyroradius,
            np.array([grid.periodic for grid in self.grids], dtype=np.bool_),
            np.array([grid.interpolation == "cubic" for grid in self.grids], dtype=np.bool_),
        )
        return self.uniform, waves, grids
