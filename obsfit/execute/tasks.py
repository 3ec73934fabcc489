"""Tasks, one after another or in processes: the numbers are the same, and what is stored is not done again."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from tqdm import tqdm

from obsfit.errors import ObsfitError
from obsfit.execute.store import TaskStore

Key = tuple[int | str, ...]
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


def run_tasks(
    function: Callable[..., Mapping[str, Any]],
    keys: Sequence[Key],
    *,
    store: Path,
    configuration: Mapping[str, Any],
    workers: int = 1,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return the results of `function` for all keys, in their order; only what the store lacks is computed.

    Each result is stored, whole or not at all, as soon as it is there. A run that is interrupted, or killed, loses the
    tasks in flight and no others; calling again does what is missing. With one worker the tasks run in this
    process; with more, each runs in a process of its own with one thread. The numbers do not depend on it, to the
    last bit if this process keeps linear algebra to one thread too (``OMP_NUM_THREADS=1``).

    Parameters
    ----------
    function : callable
        Called as ``function(*key)``; its result, a mapping of names to arrays or values that JSON keeps, depends on
        the key and on `configuration` alone. With several workers it must be importable by name
        (``functools.partial`` of such a function will do).
    keys : sequence of tuple
        What each task is, for example ("mock", 17): words of letters, digits, ``_`` and ``.``, and numbers.
    store : Path
        Folder of the results; made if need be.
    configuration : mapping
        All that the results depend on besides the key, in terms of JSON.
    workers : int
        Number of processes.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of dict
        As they stand in the store: tuples have become lists.

    Raises
    ------
    ConfigurationError
        If the store holds results of another configuration, or another process is at work on it.
    DataFormatError
        If a stored result cannot be read.
    ObsfitError
        If a task fails with an error of that kind; the error names the task.
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
        with tqdm(
            total=len(named), initial=len(named) - len(missing), unit="task", disable=not progress, leave=False
        ) as bar:
            outcomes = _serial(function, missing) if workers == 1 else _pool(function, missing, workers)
            with closing(outcomes):
                for name, result in outcomes:
                    with _naming(name):
                        results.write(name, result)
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
    except BrokenProcessPool:
        raise
    except ObsfitError as error:
        raise type(error)(
            f"task {name}: {error.problem}", path=error.path, row=error.row, column=error.column, value=error.value,
            expected=error.expected, remedy=error.remedy,
        ) from error  # fmt: skip
    except Exception as error:
        raise RuntimeError(f"task {name}: {type(error).__name__}: {error}") from error


def _serial(
    function: Callable[..., Mapping[str, Any]], missing: Mapping[str, Key]
) -> Generator[tuple[str, Mapping[str, Any]]]:
    for name, key in missing.items():
        with _naming(name):
            result = function(*key)
        yield name, result


def _pool(
    function: Callable[..., Mapping[str, Any]], missing: Mapping[str, Key], workers: int
) -> Generator[tuple[str, Mapping[str, Any]]]:
    waiting = iter(missing.items())
    running: dict[Future[Mapping[str, Any]], str] = {}
    # spawn: a fork after a parallel kernel has run would hang
    context = get_context("spawn")
    with _one_thread(), ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare) as pool:
        try:
            while True:
                # Few at a time, so that an error or an interruption does not wait for a long queue.
                for name, key in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(function, *key)] = name
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    with _naming(running[future]):
                        result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool as error:
            raise ObsfitError(
                f"a worker process died during one of the tasks {', '.join(sorted(running.values()))}",
                expected="processes that are not killed, for example for want of memory",
                remedy="Finished tasks are stored: call again, perhaps with fewer workers.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes started inside have one thread each: the libraries read the environment when they are loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _prepare() -> None:
    """Make a worker leave at once, without a traceback, when it is interrupted or its parent has died."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
