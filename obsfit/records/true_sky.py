"""The true sky that a model predicts: a distribution, not a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsfit.records._checks import FloatArray

ComplexArray = NDArray[np.complex128]


def alm_size(lmax: int) -> int:
    """Number of a_lm with m >= 0 up to `lmax`, as healpy stores them."""
    return (lmax + 1) * (lmax + 2) // 2


def alm_lmax(size: int) -> int:
    """Largest multipole of an array of `size` a_lm with m >= 0."""
    lmax = int((np.sqrt(8 * size + 1) - 3) // 2)
    if alm_size(lmax) != size:
        raise ValueError(f"{size} values are not a complete set of a_lm with m >= 0")
    return lmax


def alm_index(lmax: int, ell: int, m: int) -> int:
    """Position of a_lm in healpy order."""
    return m * (2 * lmax + 1 - m) // 2 + ell


@dataclass(frozen=True)
class TrueSky:
    r"""Distribution of the true relative intensity, for many parameter vectors at once.

    The sky is the sum of a fixed part, an isotropic Gaussian part, and a draw of an ensemble that need be neither
    Gaussian nor isotropic. Skies of several models add.

    Attributes
    ----------
    rigidity_tv : ndarray, shape (n_rig,)
        Rigidities.
    alm : ndarray of complex or None, shape (n_vec, n_rig, n_alm)
        Fixed part, healpy order (m >= 0), signs as in `docs/conventions.md`.
    c_ell : ndarray or None, shape (n_vec, n_rig, n_rig, lmax + 1)
        Power of the isotropic part, between all pairs of rigidities.
    draws : ndarray of complex or None, shape (n_vec, n_real, n_rig, n_alm)
        Realisations of any other ensemble.
    """

    rigidity_tv: FloatArray
    alm: ComplexArray | None = None
    c_ell: FloatArray | None = None
    draws: ComplexArray | None = None

    def __post_init__(self) -> None:
        n_rig = np.shape(self.rigidity_tv)[0]
        for name, ndim, axes in (("alm", 3, (1,)), ("c_ell", 4, (1, 2)), ("draws", 4, (2,))):
            array = getattr(self, name)
            if array is None:
                continue
            if array.ndim != ndim or any(array.shape[axis] != n_rig for axis in axes):
                raise ValueError(f"{name}: shape {array.shape} does not fit {n_rig} rigidities")

    @property
    def n_vec(self) -> int:
        """Number of parameter vectors."""
        for part in (self.alm, self.c_ell, self.draws):
            if part is not None:
                return int(part.shape[0])
        return 1

    def __add__(self, other: TrueSky) -> TrueSky:
        """Return the sky of both parts together; independent parts add their power, draws add one by one."""
        if not np.array_equal(self.rigidity_tv, other.rigidity_tv):
            raise ValueError("skies at different rigidities do not add; predict both at the same rigidities")
        if self.draws is not None and other.draws is not None and self.draws.shape[1] != other.draws.shape[1]:
            raise ValueError(
                f"{self.draws.shape[1]} and {other.draws.shape[1]} realisations: expected the same number to add"
            )
        return TrueSky(
            self.rigidity_tv,
            _add_alm(self.alm, other.alm),
            _add_power(self.c_ell, other.c_ell),
            _add_alm(self.draws, other.draws),
        )


def _add_alm(a: ComplexArray | None, b: ComplexArray | None) -> ComplexArray | None:
    if a is None or b is None:
        return b if a is None else a
    lmax = max(alm_lmax(a.shape[-1]), alm_lmax(b.shape[-1]))
    return _pad_alm(a, lmax) + _pad_alm(b, lmax)


def _pad_alm(alm: ComplexArray, lmax: int) -> ComplexArray:
    old = alm_lmax(alm.shape[-1])
    if old == lmax:
        return alm
    padded = np.zeros((*alm.shape[:-1], alm_size(lmax)), dtype=np.complex128)
    for m in range(old + 1):
        start = alm_index(lmax, m, m)
        padded[..., start : start + old - m + 1] = alm[..., alm_index(old, m, m) : alm_index(old, old, m) + 1]
    return padded


def _add_power(a: FloatArray | None, b: FloatArray | None) -> FloatArray | None:
    if a is None or b is None:
        return b if a is None else a
    lmax = max(a.shape[-1], b.shape[-1])

    def pad(c: FloatArray) -> FloatArray:
        return np.pad(c, [(0, 0)] * 3 + [(0, lmax - c.shape[-1])])

    return pad(a) + pad(b)
