"""Tasks in processes of this machine, each with one thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from obsfit.errors import ObsfitError

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
Result = Mapping[str, Any]
Outcome = tuple[str, Callable[[], Result]]


def process_outcomes(
    function: Callable[..., Result], missing: Mapping[str, tuple[int | str, ...]], workers: int
) -> Generator[Outcome]:
    """Yield the name of each task as it ends, and what returns its result or raises its error.

    Interrupted while it waits, it yields what has ended first.

    Parameters
    ----------
    function : callable
        Importable by name; called as ``function(*key)``.
    missing : mapping of str to tuple
        Keys by the names of the tasks.
    workers : int
        Number of processes.

    Raises
    ------
    ObsfitError
        If a process dies; the error names the tasks that were in flight.
    """
    waiting = iter(missing.items())
    running: dict[Future[Result], str] = {}
    # spawn: a fork after a parallel kernel has run would hang
    context = get_context("spawn")
    with one_thread(), ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare) as pool:
        try:
            while True:
                # Few at a time, so that an error or an interruption does not wait for a long queue.
                for name, key in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(function, *key)] = name
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise error
                    yield running[future], future.result
                    del running[future]
        except KeyboardInterrupt:
            for future, name in running.items():
                if future.done() and future.exception() is None:
                    yield name, future.result
            raise
        except BrokenProcessPool as error:
            raise ObsfitError(
                f"a worker process died during one of the tasks {', '.join(sorted(running.values()))}",
                expected="processes that are not killed, for example for want of memory",
                remedy="Finished tasks are stored: call again, perhaps with fewer workers.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
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
