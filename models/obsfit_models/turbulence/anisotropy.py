r"""Anisotropies from displacement skies: what a gradient, an early anisotropy or a sphere of sources looks like.

Maps of displacement are arrays of shape (..., 6, n): components :math:`r_x, r_y, r_z` (in gyroradii) and
:math:`\hat p_x, \hat p_y, \hat p_z` of the earlier ends of the orbits, as a_lm (n = n_alm) or as values in directions
of arrival. What is linear in them holds for both. The relative intensity :math:`\delta I(n)` is a function of the
direction of arrival n; p is the direction of motion, so that the particles of the earlier state with momentum p are
those that arrived there from -p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from obsfit_models.turbulence.directions import real_harmonics
from obsfit_models.turbulence.displacement import DisplacementEnsemble, DisplacementSky

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Maps = TypeVar("Maps", FloatArray, ComplexArray)
State = Callable[[FloatArray, FloatArray], FloatArray]
"""Relative intensity of an earlier state at positions (..., 3, n) for directions of motion (..., 3, n): (..., n)."""
_Record = TypeVar("_Record", DisplacementSky, DisplacementEnsemble)


def gradient_anisotropy(maps: Maps, gradient: ArrayLike, *, tensor: ArrayLike | None = None) -> Maps:
    r"""Return the anisotropy of a density gradient, shape (..., n): Eq. (64) of AM17.

    .. math:: \delta I(n) = \left[r_i(-T) - 3\, \hat p_j(-T) K_{ji}\right] \partial_i \ln n_{CR}

    The second term is the dipole of Fick's law at the time -T. Without it the earlier state is isotropic everywhere,
    and the anisotropy has to form first; with the true tensor the state is stationary on average from the start.

    Parameters
    ----------
    maps : ndarray, shape (..., 6, n)
        Displacement maps.
    gradient : array_like, shape (..., 3)
        Gradient of the logarithm of the density at fixed rigidity, per gyroradius.
    tensor : array_like, shape (..., 3, 3), optional
        Diffusion tensor over c, in gyroradii. Default: no second term.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    slope = _vectors(gradient, "gradient")
    coefficients = np.concatenate([slope, np.zeros_like(slope)], axis=-1)
    if tensor is not None:
        k = np.asarray(tensor, dtype=np.float64)
        if k.shape[-2:] != (3, 3):
            raise ValueError(f"tensor: shape {k.shape}, expected (..., 3, 3)")
        fick = -3.0 * np.einsum("...ij,...j->...i", k, slope)
        coefficients = np.concatenate([np.broadcast_to(slope, fick.shape), fick], axis=-1)
    return _combined(maps, coefficients)


def dipole_anisotropy(maps: Maps, dipole: ArrayLike) -> Maps:
    r"""Return what is left of a homogeneous dipole, :math:`-\delta\cdot\hat p(-T)`, shape (..., n).

    Parameters
    ----------
    maps : ndarray, shape (..., 6, n)
        Displacement maps.
    dipole : array_like, shape (..., 3)
        Dipole vector of the earlier state in directions of arrival: its relative intensity is 1 + dipole . n.
    """
    vector = _vectors(dipole, "dipole")
    return _combined(maps, np.concatenate([np.zeros_like(vector), -vector], axis=-1))


def sphere_anisotropy(maps: Maps, direction: ArrayLike, *, radius: ArrayLike, contrast: float) -> Maps:
    r"""Return the anisotropy of a density :math:`1 + \Delta\, n_R\cdot e` on a sphere, shape (..., n): Eq. (7) of GS.

    Parameters
    ----------
    maps : ndarray, shape (..., 6, n)
        Displacement maps at the first crossing of that sphere.
    direction : array_like, shape (3,)
        Unit vector e.
    radius : array_like, shape (...)
        Of the sphere, in gyroradii.
    contrast : float
        Delta: the gradient of the logarithm of the density is Delta / radius.
    """
    unit = _vectors(direction, "direction")
    if not np.allclose(np.sum(unit**2, axis=-1), 1.0, rtol=0, atol=1e-9):
        raise ValueError(f"direction {unit}: expected a unit vector")
    return gradient_anisotropy(maps, contrast * unit / np.asarray(radius, dtype=np.float64)[..., None])


def state_anisotropy(position: FloatArray, momentum: FloatArray, state: State) -> FloatArray:
    r"""Return the anisotropy of any earlier state, shape (..., n), by Liouville's theorem.

    .. math:: \delta I(n; T) = \delta I_0\left(r(-T), \hat p(-T)\right)

    This needs the orbits themselves: a state that is not linear in r and p does not follow from their a_lm.

    Parameters
    ----------
    position, momentum : ndarray, shape (..., 3, n)
        Earlier ends of the orbits, as in `orbits.Orbits` and `orbits.Crossings`.
    state : callable
        Relative intensity of the earlier state, less one: (position, momentum) -> (..., n).

    Raises
    ------
    ValueError
        If the state gives another shape, or a number that is not finite for a finite place.
    """
    result = np.asarray(state(position, momentum), dtype=np.float64)
    wanted = (*position.shape[:-2], position.shape[-1])
    if result.shape != wanted:
        raise ValueError(f"state: gives shape {result.shape}, expected {wanted}")
    known = np.all(np.isfinite(position), axis=-2)
    if not np.all(np.isfinite(result[known])):
        raise ValueError("state: gives a number that is not finite")
    return result


def homogeneous_state(alm: ComplexArray) -> State:
    r"""Return the state that is the same everywhere and has given a_lm in directions of arrival.

    Parameters
    ----------
    alm : ndarray of complex, shape (n_alm,)
        Healpy order.
    """
    lmax = int(hp.Alm.getlmax(alm.shape[-1]))
    _, m = hp.Alm.getlm(lmax)
    norm = np.where(m == 0, 1.0, np.sqrt(2.0))
    coefficients = np.concatenate([norm * alm.real, norm[m > 0] * alm.imag[m > 0]])

    def state(_: FloatArray, momentum: FloatArray) -> FloatArray:
        flat = np.moveaxis(-momentum, -2, 0).reshape(3, -1)
        values = real_harmonics(flat, lmax) @ coefficients
        return np.asarray(values.reshape(*momentum.shape[:-2], momentum.shape[-1]))

    return state


def sky_anisotropy(
    sky: DisplacementSky | DisplacementEnsemble,
    gradient: ArrayLike,
    *,
    tensor: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> ComplexArray:
    """Return the a_lm of the anisotropy of a density gradient, as `gradient_anisotropy`, in the unit of the field.

    Parameters
    ----------
    sky : DisplacementSky or DisplacementEnsemble
        With axes (..., n_set, n_gyroradius, n_stop) of its a_lm.
    gradient : array_like, shape (3,)
        Gradient of the logarithm of the density, per unit of length of the field.
    tensor : array_like, shape (3, 3), (n_gyroradius, 3, 3) or (n_gyroradius, n_stop, 3, 3), optional
        Diffusion tensor over c of each rigidity, in the unit of length of the field.
    weights : array_like, shape (n_gyroradius,), optional
        Shares of the rigidities in the observed particles (`mixture_weights`). Default: rigidities stay apart.

    Returns
    -------
    ndarray of complex
        Shape (..., n_set, n_gyroradius, n_stop, n_alm), or without the axis of gyroradii for a mixture. The mixture
        of n_stop different times mixes equal numbers of gyrations, not equal times.

    Raises
    ------
    ValueError
        If a shape does not fit, or weights do not add up to 1.
    """
    slope = _vectors(gradient, "gradient")
    if slope.shape != (3,):
        raise ValueError(f"gradient: shape {slope.shape}, expected (3,)")
    length = sky.gyroradius[:, None, None]
    k = None
    if tensor is not None:
        k = np.asarray(tensor, dtype=np.float64)
        k = (k[:, None] if k.ndim == 3 else k) / length[..., None]
    result = gradient_anisotropy(sky.alm, slope * length, tensor=k)
    if weights is None:
        return result
    share = np.asarray(weights, dtype=np.float64)
    if share.shape != sky.gyroradius.shape or not np.isclose(share.sum(), 1.0, rtol=0, atol=1e-9):
        raise ValueError(f"weights {share}: expected {sky.gyroradius.size} shares that add up to 1")
    return np.asarray(np.tensordot(result, share, axes=([-3], [0])))


def mixture_weights(
    gyroradius: ArrayLike,
    proton_gyroradius: float,
    *,
    spread_dex: float = 0.0,
    charge: ArrayLike = (1,),
    fraction: ArrayLike = (1.0,),
) -> FloatArray:
    """Return the shares of the given gyroradii among particles observed in one bin of energy, shape (n_gyroradius,).

    At one energy a nucleus of charge Z has 1/Z of the rigidity, and of the gyroradius, of a proton. Energies are
    log-normal; each gyroradius stands for the interval of the logarithm that is nearest to it. Nothing is
    interpolated between gyroradii, for their patterns are not alike: take them closer than the spread.

    Parameters
    ----------
    gyroradius : array_like, shape (n_gyroradius,)
        Increasing, at least two.
    proton_gyroradius : float
        Of a proton with the median energy, in the same unit.
    spread_dex : float
        Standard deviation of the decimal logarithm of the energy.
    charge, fraction : array_like, shape (n_species,)
        Charges, and shares of the species in the observed particles. Default: protons.

    Raises
    ------
    ValueError
        If more than 5 % of the particles lie further beyond the ends than half a spacing, fractions do not add up to
        1, or a number is out of range.

    Examples
    --------
    >>> mixture_weights([0.5, 1.0, 2.0], 1.0, charge=[1, 2], fraction=[0.75, 0.25]).tolist()
    [0.25, 0.75, 0.0]
    """
    radii = np.asarray(gyroradius, dtype=np.float64)
    charges, shares = np.asarray(charge, dtype=np.float64), np.asarray(fraction, dtype=np.float64)
    if radii.ndim != 1 or radii.size < 2 or not (radii[0] > 0 and np.all(np.diff(radii) > 0)):
        raise ValueError(f"gyroradius {gyroradius!r}: expected at least two positive lengths that increase")
    if not (proton_gyroradius > 0 and spread_dex >= 0):
        raise ValueError(f"proton_gyroradius {proton_gyroradius}, spread_dex {spread_dex}: expected > 0 and >= 0")
    if (
        charges.shape != shares.shape
        or np.any(charges <= 0)
        or np.any(shares < 0)
        or not np.isclose(shares.sum(), 1)
    ):
        raise ValueError(
            f"charge {charge!r}, fraction {fraction!r}: expected positive charges with shares that add to 1"
        )
    place = np.log10(radii)
    middle = 0.5 * (place[1:] + place[:-1])
    edges = np.concatenate([[2 * place[0] - middle[0]], middle, [2 * place[-1] - middle[-1]]])
    offset = edges - np.log10(proton_gyroradius / charges)[:, None]
    below = ndtr(offset / spread_dex) if spread_dex > 0 else (offset >= 0).astype(np.float64)
    result = shares @ np.diff(below, axis=1)
    if result.sum() < 0.95:
        raise ValueError(
            f"a share {1 - result.sum():.3g} of the particles has gyroradii outside {radii[0]:g} to {radii[-1]:g}: "
            "expected at most 0.05; give more gyroradii"
        )
    return np.asarray(result / result.sum())


def orientation(axis: ArrayLike, *, turn: float = 0.0) -> FloatArray:
    """Return the rotation that takes z to an axis, after a turn about z, shape (3, 3): columns are the new x, y, z.

    With the axis of the local field in (0h, 6h, N) it brings a sky with its field along z into the equatorial frame.
    What lies across the field is not fixed by its direction: `turn` is a free parameter.

    Parameters
    ----------
    axis : array_like, shape (3,)
        Its length does not matter.
    turn : float
        In radians.

    Raises
    ------
    ValueError
        If the axis is no direction.

    Examples
    --------
    >>> orientation([1.0, 0.0, 0.0]).round(12) @ [0.0, 0.0, 1.0]
    array([1., 0., 0.])
    """
    vector = _vectors(axis, "axis")
    size = np.linalg.norm(vector)
    if vector.shape != (3,) or not (np.isfinite(size) and size > 0):
        raise ValueError(f"axis {axis!r}: expected three numbers that are not all zero")
    phi, theta = np.arctan2(vector[1], vector[0]), np.arctan2(np.hypot(vector[0], vector[1]), vector[2])
    return np.asarray(_about_z(phi) @ _about_y(theta) @ _about_z(turn))


def rotated_alm(alm: ComplexArray, rotation: ArrayLike) -> ComplexArray:
    """Return the a_lm of skies after a rotation, same shape: what was seen from n is then seen from rotation @ n.

    Parameters
    ----------
    alm : ndarray of complex, shape (..., n_alm)
        Healpy order.
    rotation : array_like, shape (3, 3)
        Proper rotation.

    Raises
    ------
    ValueError
        If the matrix is no proper rotation.
    """
    matrix = np.asarray(rotation, dtype=np.float64)
    if (
        matrix.shape != (3, 3)
        or not np.allclose(matrix @ matrix.T, np.eye(3), rtol=0, atol=1e-9)
        or np.linalg.det(matrix) < 0
    ):
        raise ValueError(f"rotation {rotation!r}: expected an orthogonal matrix of determinant 1")
    # Euler angles: rotation = Rz(phi) Ry(theta) Rz(psi); at the poles of theta any share of phi and psi will do.
    phi = np.arctan2(matrix[1, 2], matrix[0, 2])
    theta = np.arctan2(np.hypot(matrix[0, 2], matrix[1, 2]), matrix[2, 2])
    rest = _about_y(-theta) @ _about_z(-phi) @ matrix
    psi = np.arctan2(rest[1, 0], rest[0, 0])
    turned = np.array(alm, dtype=np.complex128).reshape(-1, alm.shape[-1])
    for row in turned:
        hp.rotate_alm(row, float(psi), float(theta), float(phi))
    return turned.reshape(alm.shape)


def rotated_sky(sky: _Record, rotation: ArrayLike) -> _Record:
    """Return the displacement sky of the rotated field: maps turn, and so do the vectors that they hold.

    Raises
    ------
    ValueError
        If the matrix is no proper rotation.
    """
    matrix = np.asarray(rotation, dtype=np.float64)
    alm = rotated_alm(sky.alm, matrix)
    both = np.kron(np.eye(2), matrix)
    return replace(
        sky,
        alm=both @ alm,
        product=both @ sky.product @ both.T,
        local_field=None if sky.local_field is None else sky.local_field @ matrix.T,
    )


def _combined(maps: Maps, coefficients: FloatArray) -> Maps:
    """Return sums over the components of maps (..., 6, n) times coefficients (..., 6)."""
    if maps.ndim < 2 or maps.shape[-2] != 6:
        raise ValueError(f"maps: shape {maps.shape}, expected (..., 6, n): three positions and three momenta")
    return np.einsum("...c,...cn->...n", coefficients, maps)


def _vectors(values: ArrayLike, name: str) -> FloatArray:
    vectors = np.asarray(values, dtype=np.float64)
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise ValueError(f"{name}: shape {vectors.shape}, expected three components on the last axis")
    return vectors


def _about_z(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _about_y(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
