"""Tasks, one after another, in processes or on a cluster: the numbers are the same, and none is done twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from obsfit.errors import ObsfitError
from obsfit.execute.cluster import cluster_outcomes
from obsfit.execute.processes import Outcome, Result, process_outcomes
from obsfit.execute.store import TaskStore

if TYPE_CHECKING:
    from distributed import Client

Key = tuple[int | str, ...]


def run_tasks(
    function: Callable[..., Result],
    keys: Sequence[Key],
    *,
    store: Path,
    configuration: Mapping[str, Any],
    workers: int = 1,
    scheduler: str | Client | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return the results of `function` for all keys, in their order; only what the store lacks is computed.

    Each result is stored by this process, whole or not at all, as soon as it is there. A run that is interrupted, or
    killed, loses the tasks in flight and no others; calling again does what is missing. With one worker the tasks run
    in this process; with more, each runs in a process of its own with one thread; with a scheduler, on the workers of
    a dask cluster, where a task whose worker dies is given to another, four times at most on a local one. The numbers
    do not depend on it, to the last bit on machines of one kind if this process keeps linear algebra to one thread
    too (``OMP_NUM_THREADS=1``).

    Parameters
    ----------
    function : callable
        Called as ``function(*key)``; its result, a mapping of names to arrays or values that JSON keeps, depends on
        the key and on `configuration` alone. With several workers or a scheduler it must be importable by name
        (``functools.partial`` of such a function will do).
    keys : sequence of tuple
        What each task is, for example ("mock", 17): words of letters, digits, ``_`` and ``.``, and numbers.
    store : Path
        Folder of the results; made if need be.
    configuration : mapping
        All that the results depend on besides the key, in terms of JSON.
    workers : int
        Number of processes on this machine; a scheduler at an address has its own.
    scheduler : str or distributed.Client, optional
        "local" for a dask cluster of `workers` processes on this machine; the address of a scheduler, such as
        ``tcp://host:8786``; or a client of one, which is left open. Its workers must have the same programs as this
        process, and one thread each. Needs the extra ``cluster``.
    progress : bool
        Show a progress bar on stderr, with an estimate of the time left.

    Returns
    -------
    list of dict
        As they stand in the store: tuples have become lists.

    Raises
    ------
    ConfigurationError
        If the store holds results of another configuration, or another process is at work on it; if dask is not
        installed, no scheduler answers, or its workers have other programs.
    DataFormatError
        If a stored result cannot be read.
    ObsfitError
        If a task fails with an error of that kind, or workers die; the error names the task, or those in flight.
    RuntimeError
        If a task fails in any other way; the error names the task, its cause is the error itself.
    ValueError
        If a key cannot be the name of a file, or two are equal.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run_tasks(lambda name, n: {"square": n * n}, [("n", 2), ("n", 3)],
    ...               store=Path(folder), configuration={"power": 2})
    [{'square': 4}, {'square': 9}]
    """
    if workers < 1:
        raise ValueError(f"workers {workers}: expected at least 1")
    named = {_name(key): tuple(key) for key in keys}
    if len(named) != len(keys):
        names = [_name(key) for key in keys]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two tasks are called {twice}: expected different keys")
    results = TaskStore(store, configuration)
    with results.lock():
        done = results.names()
        missing = {name: key for name, key in named.items() if name not in done}
        if not missing:
            outcomes: Generator[Outcome] = _serial(function, missing)
        elif scheduler is not None:
            outcomes = cluster_outcomes(function, missing, scheduler, workers)
        elif workers > 1:
            outcomes = process_outcomes(function, missing, workers)
        else:
            outcomes = _serial(function, missing)
        # Workers end their tasks in bursts: the mean rate tells the time left better than the last few.
        bar = tqdm(
            total=len(named), initial=len(named) - len(missing), unit="task", smoothing=0.0, disable=not progress,
            leave=False,
        )  # fmt: skip
        with bar, closing(outcomes):
            for name, result in outcomes:
                with _naming(name):
                    results.write(name, result())
                bar.update()
        return [results.read(name) for name in named]


def _name(key: Key) -> str:
    """Name of a task: the parts of its key, joined by hyphens."""
    parts = [str(part) for part in key]
    if not parts or not all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", part) for part in parts):
        raise ValueError(
            f"key {key!r}: expected words of letters, digits, _ and ., or numbers that are not negative"
        )
    return "-".join(parts)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Give an error the name of the task in which it happened."""
    try:
        yield
    except ObsfitError as error:
        raise type(error)(
            f"task {name}: {error.problem}", path=error.path, row=error.row, column=error.column, value=error.value,
            expected=error.expected, remedy=error.remedy,
        ) from error  # fmt: skip
    except Exception as error:
        raise RuntimeError(f"task {name}: {type(error).__name__}: {error}") from error


def _serial(function: Callable[..., Result], missing: Mapping[str, Key]) -> Generator[Outcome]:
    for name, key in missing.items():
        yield name, partial(function, *key)
