"""Tasks on a dask cluster, of this machine or of many, by a client that alone writes results."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numba

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.execute.processes import Outcome, Result, one_thread
from obsfit.provenance import source_checksum, versions

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)
LOCAL = "local"
TIMEOUT_S = 5.0
"""How long a scheduler may take to answer."""
ATTEMPTS = 4
"""A task is given up when so many workers of a local cluster have died while they had it."""


def cluster_outcomes(
    function: Callable[..., Result],
    missing: Mapping[str, tuple[int | str, ...]],
    scheduler: str | Client,
    workers: int,
) -> Generator[Outcome]:
    """Yield the name of each task as it ends, and what returns its result or raises its error.

    A task whose worker dies is given to another, as often as the scheduler allows. Interrupted while it waits, it
    yields what has ended first.

    Parameters
    ----------
    function : callable
        Called as ``function(*key)`` on a worker.
    missing : mapping of str to tuple
        Keys by the names of the tasks.
    scheduler : str or distributed.Client
        "local" for a cluster of processes on this machine, the address of a scheduler, or a client of one.
    workers : int
        Number of processes of a local cluster.

    Raises
    ------
    ConfigurationError
        If dask is not installed, or no scheduler answers at the address.
    ObsfitError
        If the connection to the scheduler is lost.
    """
    distributed = _distributed()
    with _client(distributed, scheduler, workers) as client:
        # Workers of a local cluster are started with what is here.
        run, software = uuid4().hex, {} if scheduler == LOCAL else _software()
        where = client.scheduler.address
        waiting = iter(missing.items())
        running: dict[Any, str] = {}
        ended = distributed.as_completed(loop=client.loop)
        try:
            while True:
                # Workers may come and go. Few at a time, so that an error does not wait for a long queue.
                room = 2 * max(1, len(client.nthreads())) - len(running)
                for name, key in islice(waiting, max(0, room)):
                    # Another study may have tasks of the same names on the same scheduler.
                    future = client.submit(_on_worker, function, key, software, key=f"{name}-{run}", pure=False)
                    running[future] = name
                    ended.add(future)
                if not running:
                    return
                for future in ended.next_batch():
                    yield running[future], partial(_result, future, where)
                    del running[future]
        except KeyboardInterrupt:
            for future, name in running.items():
                if future.status == "finished":
                    yield name, partial(_result, future, where)
            raise
        except OSError as error:
            raise ObsfitError(
                f"the connection to the scheduler at {where} is lost: {error}",
                remedy="Finished tasks are stored: call again when it is back.",
            ) from error
        finally:
            # What runs cannot be stopped on a cluster that is not ours; what waits need not begin.
            with suppress(OSError, CancelledError):
                client.cancel(list(running))


def _on_worker(function: Callable[..., Result], key: tuple[int | str, ...], software: Mapping[str, str]) -> Result:
    """One task, on a worker that gives the numbers that any other would give."""
    worker = _distributed().get_worker()
    if worker.state.nthreads != 1:
        raise ConfigurationError(
            f"worker {worker.address} runs {worker.state.nthreads} tasks at a time",
            expected="workers of one thread: the libraries are not made for more",
            remedy="Start it with: dask worker --nthreads 1 ADDRESS",
        )
    here = _software()
    different = sorted(name for name in software if here.get(name) != software[name])
    if different:
        name = different[0]
        raise ConfigurationError(
            f"worker {worker.address} has other {', '.join(different)}: {here.get(name)!r} instead of "
            f"{software[name]!r}",
            expected="the same programs everywhere: the numbers rest on them",
            remedy="Install the same versions on all machines, and start the workers anew.",
        )
    # dask starts workers with one thread for linear algebra, but numba reads a variable of its own.
    numba.set_num_threads(1)
    return function(*key)


@lru_cache(maxsize=1)
def _software() -> dict[str, str]:
    """What the numbers rest on, as it was when a task was first run in this process."""
    return {**versions(), "programs": source_checksum(without=("plot", "cli"))}


def _result(future: Any, where: str) -> Result:
    """The result of a task that has ended."""
    try:
        return future.result()
    except _distributed().KilledWorker as error:
        raise ObsfitError(
            f"{error.allowed_failures + 1} workers died while they had this task at hand",
            expected="processes that are not killed, for example for want of memory",
            remedy="Finished tasks are stored: call again, perhaps with fewer workers on each machine.",
        ) from error
    except CancelledError as error:
        raise ObsfitError(
            f"the scheduler at {where} is gone, or has dropped the task",
            remedy="Finished tasks are stored: call again when it is back.",
        ) from error


@contextmanager
def _client(distributed: Any, scheduler: str | Client, workers: int) -> Iterator[Any]:
    if not isinstance(scheduler, str):
        yield scheduler
        return
    if scheduler != LOCAL:
        _require_scheduler(distributed, scheduler)
        with distributed.Client(scheduler, timeout=TIMEOUT_S, set_as_default=False) as client:
            if not client.nthreads():
                logger.warning("the scheduler at %s has no workers yet; waiting for one", scheduler)
            yield client
        return
    dask = importlib.import_module("dask")
    with (
        one_thread(),
        _silence(),
        dask.config.set({"distributed.scheduler.allowed-failures": ATTEMPTS - 1}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, memory_limit=None, dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        # A terminal sends an interruption to all processes; it is for this one to end the others.
        client.run(_ignore_interruptions)
        yield client


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what dask says of its own workings from the log of this program: errors of tasks come as such."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _ignore_interruptions() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _require_scheduler(distributed: Any, address: str) -> None:
    """Refuse an address at which no scheduler answers, before a client is made that would wait for it."""

    async def ask() -> Any:
        remote = distributed.rpc(
            address, timeout=TIMEOUT_S, connection_args=distributed.Security().get_connection_args("client")
        )
        try:
            return (await asyncio.wait_for(remote.identity(), TIMEOUT_S)).get("type")
        finally:
            await remote.close_rpc()

    answer, cause = None, None
    # In a thread: in a notebook, this one has an event loop already.
    with ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(asyncio.run, ask()).result()
        except Exception as error:  # what listens there may be anything, and so may its answer
            cause = error
    if answer != "Scheduler":
        raise ConfigurationError(
            f"no dask scheduler answers at {address!r} within {TIMEOUT_S:.0f} s",
            expected=f"{LOCAL!r}, or the address of a scheduler such as tcp://host:8786",
            remedy="Start one with: dask scheduler; and its workers with: dask worker --nthreads 1 ADDRESS",
        ) from cause


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise ConfigurationError(
            "a scheduler needs the package distributed, of dask",
            expected="the extra 'cluster'",
            remedy="Install it: pip install 'obsfit[cluster]'",
        ) from error
