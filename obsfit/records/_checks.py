"""Shape and finiteness checks that all records share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def column(values: ArrayLike, name: str, length: int | None = None, *, finite: bool = True) -> FloatArray:
    """Return a read-only float64 copy of shape (n,).

    Raises
    ------
    ValueError
        If the shape is not (length,), or a value is not finite although `finite` asks for it.
    """
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or (length is not None and array.size != length):
        expected = "(n,)" if length is None else f"({length},)"
        raise ValueError(f"{name}: shape {array.shape}, expected {expected}")
    if finite and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: value {array[~np.isfinite(array)][0]} is not finite")
    array.setflags(write=False)
    return array


def store(record: object, **values: Any) -> None:
    """Set attributes of a frozen dataclass inside its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(record, name, value)
