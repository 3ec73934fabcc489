"""What a benchmark is: our route beside the usual one, with the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """Two routes to the same numbers.

    Attributes
    ----------
    what : str
        What both do.
    ours, usual : callable
        Without arguments. Their results are compared by `agree`.
    usual_is : str
        What the usual route is.
    target : float or None
        Seconds for each of `count` that ours should not exceed; None where only the ratio counts.
    count : int
        How many things (vectors) one call does: times are given for each.
    repeats : int
        Interleaved repetitions, of which the median is taken.
    agree : callable or None
        Whether two results are the same; None where they cannot be.
    whole : callable or None
        How many times longer the usual route would take if it were run in full, given its result, where it is too slow
        for that; None where it is run in full.
    memory : callable or None
        Peak memory in MiB of a route, given the route; None for the allocations that Python traces during one call.
    """

    what: str
    ours: Callable[[], Any]
    usual: Callable[[], Any]
    usual_is: str
    target: float | None = None
    count: int = 1
    repeats: int = 7
    agree: Callable[[Any, Any], bool] | None = None
    whole: Callable[[Any], float] | None = None
    memory: Callable[[Callable[[], Any]], float] | None = None
