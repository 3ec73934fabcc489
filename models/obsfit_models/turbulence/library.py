r"""Libraries of skies: what an ensemble of displacement skies leaves once a time is chosen for each rigidity.

For a gradient of the density, :math:`\delta I(n) = r_i(n; T)\, \partial_i n / n` grows towards a stationary sky as T
does; the small scales go on growing, ever smaller. A library holds the maps r_i(n) after a number of mean free paths.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import DataFormatError, ModelDomainError
from obsfit.hdf5_files import own_dataset, stored_array
from obsfit.provenance import atomic_write, stamp
from obsfit_models.turbulence.displacement import DisplacementEnsemble, cross_power
from obsfit_models.turbulence.displacement_files import read_ensemble
from obsfit_models.turbulence.sky_spectra import pair_power

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

FORMAT = "displacement-library"
FORMAT_VERSION = 1
NEAREST = 1.5
"""Largest factor between the time that is wanted and the one that is there."""
_ARRAYS = {"alm": "c", "gyroradius": "f", "time": "f", "mean_free_path": "f"}


@dataclass(frozen=True, eq=False)
class SkyLibrary:
    """Displacement maps of many fields at one time for each rigidity; the mean field is along z.

    Attributes
    ----------
    alm : ndarray of complex, shape (n_real, n_gyroradius, 3, n_alm)
        r_x, r_y, r_z as functions of the direction of arrival, in gyroradii, healpy order; the monopole is zero.
    gyroradius : ndarray, shape (n_gyroradius,)
        In a field of unit strength, in the unit of length of the field.
    time : ndarray, shape (n_gyroradius,)
        Time of back-tracking in 1/Omega.
    mean_free_path : ndarray, shape (n_gyroradius,)
        3 K_par / c in gyroradii, as the ensemble had it at its longest times.
    configuration : mapping
        What made the ensemble, in terms of JSON.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a number is not finite or out of its range.
    """

    alm: ComplexArray
    gyroradius: FloatArray
    time: FloatArray
    mean_free_path: FloatArray
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.shape(self.alm)
        if len(shape) != 4 or 0 in shape or shape[2] != 3 or hp.Alm.getlmax(shape[3]) < 1:
            raise ValueError(f"alm: shape {shape}, expected (n_real, n_gyroradius, 3, n_alm)")
        for name in ("gyroradius", "time", "mean_free_path"):
            value = getattr(self, name)
            if np.shape(value) != shape[1:2] or not np.all(np.isfinite(value)) or not np.all(value > 0):
                raise ValueError(f"{name} {value}: expected {shape[1]} positive numbers")
        if not np.all(np.isfinite(self.alm)):
            raise ValueError("alm: holds a number that is not finite")

    @property
    def lmax(self) -> int:
        """Largest multipole."""
        return int(hp.Alm.getlmax(self.alm.shape[-1]))


def cut_library(ensemble: DisplacementEnsemble, *, mean_free_paths: float = 8.0) -> SkyLibrary:
    r"""Return the library of an ensemble: its maps after a number of mean free paths, without noise on average.

    The mean free path of each rigidity is :math:`3 K_\parallel`, with
    :math:`K_\parallel = \Delta\langle r_z^2 \rangle / 2 \Delta T` over all fields and directions between the two
    longest times; :math:`\langle r_z^2 \rangle / 2T`, which is all that one time tells, reaches it much later. The time
    nearest to the number wanted, by ratio, is taken.

    Maps of several sets of directions are averaged. What is left of the noise of directions has no power between two
    sets: so the a_lm of each multipole are multiplied by the root of the power between sets over the power of the
    mean, which makes the power of many fields right, but not the noise of one sky less. With one set nothing is known
    of the noise, and it stays.

    Parameters
    ----------
    ensemble : DisplacementEnsemble
        With times as stops.
    mean_free_paths : float
        Time of back-tracking in mean free times.

    Raises
    ------
    ModelDomainError
        If the ensemble has spheres as stops, or no time within a factor 1.5 of the one that is wanted.
    """
    if ensemble.stopped_by != "time":
        raise ModelDomainError(
            "the ensemble was stopped at spheres", value=ensemble.stopped_by, expected="one stopped at times"
        )
    if not 0 < mean_free_paths < math.inf:
        raise ModelDomainError(
            f"mean_free_paths = {mean_free_paths}", value=mean_free_paths, expected="a positive number"
        )
    path = 3 * _slope(ensemble.product[..., 2, 2].mean(axis=(0, 1)), ensemble.stop) / 2
    if not np.all(path > 0):
        raise ModelDomainError(
            f"<r_z^2> does not grow at the longest times: 3 K_par is {path.min():.3g} gyroradii", value=path.min(),
            expected="particles that diffuse along the mean field", remedy="Take longer times, or more fields.",
        )  # fmt: skip
    wanted = mean_free_paths * path
    taken = np.argmin(np.abs(np.log(ensemble.stop / wanted[:, None])), axis=1)
    time = ensemble.stop[taken]
    far = np.flatnonzero(np.abs(np.log(time / wanted)) > np.log(NEAREST))
    if far.size:
        one = far[0]
        raise ModelDomainError(
            f"at gyroradius {ensemble.gyroradius[one]:g}, {mean_free_paths:g} mean free paths of {path[one]:.3g} "
            f"gyroradii take {wanted[one]:.3g} / Omega",
            value=mean_free_paths,
            expected=f"a time within a factor {NEAREST:g} of one of {', '.join(f'{t:g}' for t in ensemble.stop)}",
            remedy="Choose another number of mean free paths, or an ensemble with such a time.",
        )
    parts = [_averaged(ensemble.alm[:, :, i, j, :3, :]) for i, j in enumerate(taken)]
    alm = np.stack(parts, axis=1)
    alm[..., 0] = 0.0
    return SkyLibrary(alm, ensemble.gyroradius, time, path, dict(ensemble.configuration))


def write_library(path: str | Path, library: SkyLibrary, *, overwrite: bool = False) -> None:
    """Write a library to an HDF5 file, complete or not at all; a_lm in single precision.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    """
    head = stamp(
        FORMAT, format_version=FORMAT_VERSION, seed=library.configuration.get("seed"),
        configuration=library.configuration,
    )  # fmt: skip
    text = json.dumps(head, sort_keys=True)
    with atomic_write(path, overwrite=overwrite) as partial, h5py.File(partial, "w") as file:
        file.attrs["obsfit_format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file["head"] = text
        file["alm"] = library.alm.astype(np.complex64)
        for name in ("gyroradius", "time", "mean_free_path"):
            file[name] = getattr(library, name)


def read_library(path: str | Path, *, mean_free_paths: float = 8.0) -> SkyLibrary:
    """Return the library in a file of `write_library`, or the one that `cut_library` makes of an ensemble in a file.

    Parameters
    ----------
    path : str or Path
        Product of ``obsfit ensemble``, or a library.
    mean_free_paths : float
        As in `cut_library`. A library has been cut already: it must agree within a factor 1.5.

    Raises
    ------
    DataFormatError
        If the file is missing, cut off, of another kind or version, refers to other files, or its numbers are none.
    ModelDomainError
        As `cut_library`.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            kind, version = file.attrs.get("obsfit_format"), file.attrs.get("format_version")
            if kind == FORMAT and version == FORMAT_VERSION:
                library = _read(file, path)
                return _checked(library, mean_free_paths, path)
    except FileNotFoundError as error:
        raise DataFormatError(
            "there is no such file", path=path, expected="a product of 'obsfit ensemble', or a library"
        ) from error
    except OSError as error:
        raise DataFormatError(
            f"cannot be read as HDF5: {error}", path=path, expected="a product of 'obsfit ensemble', or a library"
        ) from error
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataFormatError(
            f"holds no valid {FORMAT}: {error}", path=path, expected="a file as write_library makes it"
        ) from error
    return cut_library(read_ensemble(path), mean_free_paths=mean_free_paths)


def _slope(square: FloatArray, stop: FloatArray) -> FloatArray:
    """Growth of <r^2> (n_gyroradius, n_stop) between the two longest times, or from 0 to the only one."""
    if stop.size == 1:
        return square[:, 0] / stop[0]
    return (square[:, -1] - square[:, -2]) / (stop[-1] - stop[-2])


def _averaged(alm: ComplexArray) -> ComplexArray:
    """Mean over sets of a_lm (n_real, n_set, 3, n_alm), with the power between sets on average, (n_real, 3, n_alm)."""
    mean = alm.mean(axis=1)
    if alm.shape[1] == 1:
        return mean
    between = pair_power(alm, axis=1).mean(axis=0)
    power = cross_power(mean, mean).mean(axis=0)
    # The two components across the field are alike: one factor for both.
    between[:2], power[:2] = between[:2].mean(axis=0), power[:2].mean(axis=0)
    factor = np.sqrt(np.clip(between, 0.0, None) / np.where(power > 0, power, 1.0))
    ell, _ = hp.Alm.getlm(hp.Alm.getlmax(alm.shape[-1]))
    return mean * factor[:, ell]


def _read(file: Any, path: Path) -> SkyLibrary:
    """The library in an open file; no link is followed, no size is trusted."""
    arrays = {name: stored_array(file, name, kind, path) for name, kind in _ARRAYS.items()}
    arrays["alm"] = arrays["alm"].astype(np.complex128)
    head = json.loads(own_dataset(file, "head", path).asstr()[()])
    return SkyLibrary(**arrays, configuration=head["configuration"])


def _checked(library: SkyLibrary, mean_free_paths: float, path: Path) -> SkyLibrary:
    held = library.time / library.mean_free_path
    if not mean_free_paths > 0 or np.any(np.abs(np.log(held / mean_free_paths)) > np.log(NEAREST)):
        raise ModelDomainError(
            f"the library holds skies after {', '.join(f'{value:.2g}' for value in held)} mean free paths, not "
            f"{mean_free_paths:g}",
            path=path, value=mean_free_paths, expected=f"a number within a factor {NEAREST:g}",
            remedy="Give the product of 'obsfit ensemble' itself, which holds other times.",
        )  # fmt: skip
    return library
