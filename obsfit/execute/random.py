"""Random streams keyed by what they are for, never by the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np


def child_generator(seed: int, *key: int | str) -> np.random.Generator:
    """Return the random stream of one task: the same for the same seed and key, whatever else is run.

    Parameters
    ----------
    seed : int
        Seed of the whole study, not negative.
    *key : int or str
        What the stream is for, for example ("mock", 17). Numbers, not negative, enter the `spawn_key` of a
        `numpy.random.SeedSequence` as they are, words by the first 128 bits of their SHA-256 checksum.

    Examples
    --------
    >>> bool(child_generator(1, "mock", 17).random() == child_generator(1, "mock", 17).random())
    True
    >>> bool(child_generator(1, "mock", 17).random() == child_generator(1, "mock", 18).random())
    False
    """
    words: list[int] = []
    for part in key:
        if isinstance(part, str):
            digest = hashlib.sha256(part.encode()).digest()[:16]
            words += [int(word) for word in np.frombuffer(digest, dtype="<u4")]
        else:
            words.append(part)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(words)))
