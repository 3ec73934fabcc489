r"""The diffusion tensor about a magnetic field, and the dipole that Fick's law makes of a gradient with it.

Units are those of c = 1: a scattering rate is an inverse length (rate over c), a diffusivity is a length
(diffusivity over c), and a dipole is a plain number. All functions broadcast over leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def direction_of(vector: ArrayLike) -> FloatArray:
    """Return vectors of shape (..., 3) divided by their length.

    Raises
    ------
    ValueError
        If the last axis has not three components, or a vector is zero or not finite.

    Examples
    --------
    >>> direction_of([0.0, 3.0, 4.0])
    array([0. , 0.6, 0.8])
    """
    array = np.asarray(vector, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != 3:
        raise ValueError(f"vector of shape {array.shape}: expected three components on the last axis")
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    if not np.all((length > 0) & np.isfinite(length)):
        raise ValueError(f"vector {array}: expected a finite length above zero, for it gives a direction")
    return np.asarray(array / length)


def field_tensor(
    axis: ArrayLike, parallel: ArrayLike, perpendicular: ArrayLike, hall: ArrayLike = 0.0
) -> FloatArray:
    r"""Return the axisymmetric tensor of three diffusivities about a field, shape (..., 3, 3).

    .. math:: K_{ij} = K_\parallel \hat B_i \hat B_j + K_\perp (\delta_{ij} - \hat B_i \hat B_j)
                       + K_A\, \epsilon_{ijk} \hat B_k,

    which is Eq. (53) of AM17 with :math:`K_\parallel = 1/3\nu_\parallel` and so forth. Its symmetric part has the
    eigenvalues :math:`K_\parallel, K_\perp, K_\perp`; the whole has :math:`K_\parallel, K_\perp \pm i K_A`.

    Parameters
    ----------
    axis : array_like, shape (..., 3)
        Direction of the field; its length does not matter.
    parallel, perpendicular, hall : array_like, shape (...)
        Diffusivities over c (or relative to one of them). `hall` is negative where the gyration is reversed.

    Raises
    ------
    ValueError
        If the axis is no direction, or the parallel or perpendicular diffusivity is negative or not a number.

    Examples
    --------
    >>> field_tensor([0, 0, 1], parallel=3.0, perpendicular=1.0, hall=0.5)
    array([[ 1. ,  0.5,  0. ],
           [-0.5,  1. ,  0. ],
           [ 0. ,  0. ,  3. ]])
    """
    b = direction_of(axis)
    along, across, skew = (np.asarray(k, dtype=np.float64) for k in (parallel, perpendicular, hall))
    for name, value in (("parallel", along), ("perpendicular", across)):
        if not np.all(value >= 0):
            raise ValueError(f"{name} diffusivity {value}: expected a number that is not negative")
    dyad = b[..., :, None] * b[..., None, :]
    expand = (..., None, None)
    return np.asarray(along[expand] * dyad + across[expand] * (np.eye(3) - dyad) + skew[expand] * _skew(b))


def diffusion_tensor(
    axis: ArrayLike, nu_parallel: ArrayLike, nu_perpendicular: ArrayLike, nu_axial: ArrayLike = np.inf
) -> FloatArray:
    r"""Return the diffusion tensor of three scattering rates about a field, shape (..., 3, 3): Eq. (53) of AM17.

    .. math:: K_{ij} = \frac{\hat B_i \hat B_j}{3\nu_\parallel}
                       + \frac{\delta_{ij} - \hat B_i \hat B_j}{3\nu_\perp}
                       + \frac{\epsilon_{ijk} \hat B_k}{3\nu_A}

    The labels name the *direction of diffusion*. Eqs. (7) and (8) of A14 use the same two symbols for *axes of
    rotation*, which swaps their meaning: the motion along the field is destroyed by rotations about the two axes
    across it.

    Parameters
    ----------
    axis : array_like, shape (..., 3)
        Direction of the field; its length does not matter.
    nu_parallel, nu_perpendicular, nu_axial : array_like, shape (...)
        Scattering rates over c; infinity switches a term off. `nu_axial` may be negative (gyration reversed).

    Raises
    ------
    ValueError
        If a rate is zero or not a number, or the parallel or perpendicular rate is negative.

    Examples
    --------
    >>> diffusion_tensor([0, 0, 1], 1.0, np.inf).diagonal().round(3)
    array([0.   , 0.   , 0.333])
    """
    return field_tensor(axis, *_diffusivities(nu_parallel, nu_perpendicular, nu_axial))


def inverse_diffusion_tensor(
    axis: ArrayLike, nu_parallel: ArrayLike, nu_perpendicular: ArrayLike, nu_axial: ArrayLike = np.inf
) -> FloatArray:
    r"""Return the inverse of `diffusion_tensor`, shape (..., 3, 3), from its closed form.

    .. math:: K^{-1}_{ij} = \frac{\hat B_i \hat B_j}{K_\parallel}
              + \frac{K_\perp (\delta_{ij} - \hat B_i \hat B_j) - K_A \epsilon_{ijk} \hat B_k}{K_\perp^2 + K_A^2}

    For one rate of isotropic scattering this is :math:`3(\nu + [\Omega \times])`.

    Raises
    ------
    ValueError
        As `diffusion_tensor`, and where the tensor is singular: an infinite parallel rate, or infinite
        perpendicular and axial rates together.
    """
    along, across, skew = _diffusivities(nu_parallel, nu_perpendicular, nu_axial)
    b = direction_of(axis)
    square = across**2 + skew**2
    if np.any(along == 0) or np.any(square == 0):
        raise ValueError(
            "the diffusion tensor has no inverse: expected a finite parallel rate and a finite perpendicular or "
            "axial rate; for diffusion along the field alone use field_projection"
        )
    dyad = b[..., :, None] * b[..., None, :]
    expand = (..., None, None)
    return np.asarray(
        dyad / along[expand] + (across / square)[expand] * (np.eye(3) - dyad) - (skew / square)[expand] * _skew(b)
    )


def diffusion_determinant(
    nu_parallel: ArrayLike, nu_perpendicular: ArrayLike, nu_axial: ArrayLike = np.inf
) -> FloatArray:
    r"""Return the determinant of `diffusion_tensor`, :math:`K_\parallel (K_\perp^2 + K_A^2)`, shape (...).

    Its symmetric part alone (an infinite axial rate) has :math:`1/27\nu_\parallel\nu_\perp^2`; isotropic
    scattering at rate :math:`\nu` in a field of gyrofrequency :math:`\Omega` has
    :math:`1/27\nu(\nu^2 + \Omega^2)`.

    Examples
    --------
    >>> float(27 * diffusion_determinant(1.0, 2.0))
    0.25
    """
    along, across, skew = _diffusivities(nu_parallel, nu_perpendicular, nu_axial)
    return np.asarray(along * (across**2 + skew**2))


def bgk_rates(nu: ArrayLike, gyrofrequency: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""Return the parallel, perpendicular and axial rates of isotropic (BGK) scattering in a field.

    :math:`\nu_\parallel = \nu`, :math:`\nu_\perp = \nu + \Omega^2/\nu`, :math:`\nu_A = \Omega + \nu^2/\Omega`:
    text below Eq. (53) of AM17. Without a field the axial rate is infinite: there is no Hall term.

    Parameters
    ----------
    nu : array_like, shape (...)
        Rate of isotropic scattering over c, above zero.
    gyrofrequency : array_like, shape (...)
        :math:`\Omega`, the inverse gyroradius in the regular field; negative for negative charges.

    Examples
    --------
    >>> [float(rate) for rate in bgk_rates(1.0, 2.0)]
    [1.0, 5.0, 2.5]
    """
    rate, omega = np.broadcast_arrays(
        np.asarray(nu, dtype=np.float64), np.asarray(gyrofrequency, dtype=np.float64)
    )
    if not np.all(rate > 0):
        raise ValueError(f"scattering rate {rate}: expected above zero; without scattering there is no diffusion")
    axial = np.full(rate.shape, np.inf)
    turning = omega != 0
    axial[turning] = omega[turning] + rate[turning] ** 2 / omega[turning]
    return np.array(rate), np.asarray(rate + omega**2 / rate), axial


def bgk_tensor(nu: ArrayLike, omega: ArrayLike) -> FloatArray:
    r"""Return the diffusion tensor of isotropic (BGK) scattering in a field, shape (..., 3, 3): Eq. (5) of A14.

    .. math:: K = \tfrac13 (\nu + [\Omega\times])^{-1}, \qquad
              K_{ij} = \frac{1}{3\nu}
                       \frac{\nu^2\delta_{ij} + \nu\,\epsilon_{ijk}\Omega_k + \Omega_i\Omega_j}{\nu^2 + \Omega^2}

    Parameters
    ----------
    nu : array_like, shape (...)
        Rate of isotropic scattering over c, above zero.
    omega : array_like, shape (..., 3)
        Vector of the gyrofrequency, along the field for positive charges; zero means no field.

    Examples
    --------
    >>> (3 * bgk_tensor(1.0, [0.0, 0.0, 0.0])).diagonal()
    array([1., 1., 1.])
    """
    rate = np.asarray(nu, dtype=np.float64)
    if not np.all(rate > 0):
        raise ValueError(f"scattering rate {rate}: expected above zero; without scattering there is no diffusion")
    vector = np.asarray(omega, dtype=np.float64)
    rate = rate[..., None, None]
    square = np.sum(vector**2, axis=-1)[..., None, None]
    dyad = vector[..., :, None] * vector[..., None, :]
    return np.asarray((rate**2 * np.eye(3) + rate * _skew(vector) + dyad) / (3 * rate * (rate**2 + square)))


def symmetric_part(tensor: FloatArray) -> FloatArray:
    """Return the symmetric part of tensors of shape (..., 3, 3).

    The diffusion equation sees nothing else of a uniform tensor: the antisymmetric part makes a flux that has no
    divergence. The dipole sees all of it.
    """
    return np.asarray(0.5 * (tensor + np.swapaxes(tensor, -1, -2)))


def fick_dipole(tensor: FloatArray, gradient: FloatArray) -> FloatArray:
    r"""Return the dipole of a density gradient, shape (..., 3): Eq. (56) of AM17.

    .. math:: \delta = 3 K\cdot\nabla\ln n

    The dipole is that of arrival directions: it points to where particles come from, up the gradient. The flux
    :math:`\Phi = -K\cdot\nabla\phi` points the other way, :math:`\delta = -3\Phi/\phi`; in Eq. (48) of AM17 the
    unit vector on the right is the arrival direction.

    Valid where the dipole changes slowly over a scattering time and the gradient is small over a scattering
    length, so that the result is well below one. The function does not check that.

    Parameters
    ----------
    tensor : ndarray, shape (..., 3, 3)
        Diffusion tensor over c, a length.
    gradient : ndarray, shape (..., 3)
        Gradient of the logarithm of the density at fixed rigidity, an inverse length.

    Examples
    --------
    >>> fick_dipole(np.eye(3), np.array([0.0, 0.0, 1e-3]))
    array([0.   , 0.   , 0.003])
    """
    return np.asarray(3.0 * np.einsum("...ij,...j->...i", tensor, gradient))


def field_projection(axis: ArrayLike, parallel: ArrayLike, gradient: FloatArray) -> FloatArray:
    r"""Return the dipole in a strong field, shape (..., 3): :math:`3 K_\parallel \hat B (\hat B\cdot\nabla\ln n)`.

    The limit of Eq. (56) of AM17 for :math:`\nu_\parallel \ll \nu_\perp, \nu_A`: the dipole lies along the field
    whatever the gradient, and its phase turns by half a circle where :math:`\hat B\cdot\nabla n` changes sign.

    Parameters
    ----------
    axis : array_like, shape (..., 3)
        Direction of the field; neither its length nor its sign matters.
    parallel : array_like, shape (...)
        Diffusivity along the field over c, a length.
    gradient : ndarray, shape (..., 3)
        Gradient of the logarithm of the density.

    Examples
    --------
    >>> field_projection([0, 0, -1], 1.0, np.array([5e-4, 0.0, 1e-3]))
    array([0.   , 0.   , 0.003])
    """
    b = direction_of(axis)
    slope = np.sum(b * gradient, axis=-1, keepdims=True)
    # Adding zero turns the -0.0 of a reversed axis into 0.0.
    return np.asarray(3.0 * np.asarray(parallel, dtype=np.float64)[..., None] * b * slope + 0.0)


def _skew(vector: FloatArray) -> FloatArray:
    """Return epsilon_ijk v_k, shape (..., 3, 3): the matrix that takes a to a x v."""
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    rows = ((zero, z, -y), (-z, zero, x), (y, -x, zero))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _diffusivities(
    nu_parallel: ArrayLike, nu_perpendicular: ArrayLike, nu_axial: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    rates = [np.asarray(nu, dtype=np.float64) for nu in (nu_parallel, nu_perpendicular, nu_axial)]
    for name, rate, allowed in (
        ("parallel", rates[0], rates[0] > 0),
        ("perpendicular", rates[1], rates[1] > 0),
        ("axial", rates[2], (rates[2] > 0) | (rates[2] < 0)),
    ):
        if not np.all(allowed):
            raise ValueError(f"{name} scattering rate {rate}: expected above zero; infinity switches its term off")
    return rates[0] ** -1 / 3, rates[1] ** -1 / 3, rates[2] ** -1 / 3
