"""Tasks on a dask cluster: the same numbers as in one process, stored by the client, whatever dies on the way."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster, as_completed

from obsfit.cli import main
from obsfit.errors import ConfigurationError, ModelDomainError, ObsfitError
from obsfit.execute import child_generator, processes, run_tasks

KEYS = [("mock", n) for n in range(5)]
CONFIGURATIONS = Path(__file__).parents[2] / "analyses" / "calibration"
# An interrupted program must be a process of its own.
MAIN = """
    import signal, sys, time
    from functools import partial
    from pathlib import Path
    from obsfit.execute import run_tasks

    def sleep(folder, name, number):
        if number > 1:
            Path(folder, f"begun-{number}").touch()
            time.sleep(60)
        return {"number": number}

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # however this is started
        run_tasks(partial(sleep, sys.argv[1]), [("mock", n) for n in range(6)], store=Path(sys.argv[1]) / "store",
                  configuration={}, workers=2, scheduler="local")
"""


@pytest.fixture(scope="module")
def cluster():
    """Two processes of one thread each."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    ) as started:
        yield started


@pytest.fixture
def address(cluster):
    return cluster.scheduler_address


def work(kind, number):
    draws = child_generator(7, kind, number).normal(size=(100, 100))
    eigen = np.linalg.eigvalsh(draws @ draws.T)
    return {"sum": float(eigen.sum()), "eigen": eigen, "draws": draws[:2], "pair": (number, 0.1 * number)}


def note(folder, kind, number):
    """A task that leaves a mark each time it is begun, with the number of its process."""
    marks = Path(folder)
    (marks / f"{number}-{len(list(marks.glob(f'{number}-*')))}").write_text(str(os.getpid()))
    return {"number": number}


def fail(kind, number):
    if number == 1:
        raise ModelDomainError("exponent 2 is too large", expected="0 to 1")
    if number == 3:
        raise ZeroDivisionError("nought")
    return {"number": number}


def die(folder, deaths, kind, number):
    note(folder, kind, number)
    if number == 2 and len(list(Path(folder).glob("2-*"))) <= deaths:
        os._exit(9)
    return {"number": number}


def stored(folder):
    return {path.name: path.read_bytes() for path in (folder / "tasks").iterdir()}


def contents(folder):
    """What is in the files, arrays as bytes: the zip format has a clock."""
    return {
        path.name: {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in np.load(path).items()}
        for path in (folder / "tasks").iterdir()
    }


def test_numbers_are_the_same_bits_as_in_one_process(tmp_path, cluster):
    run = partial(run_tasks, work, KEYS, configuration={"seed": 7})
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    (tmp_path / "serial.py").write_text(
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nfrom test_dask_tasks import KEYS, run_tasks, work\n"
        "run_tasks(work, KEYS, store=Path(sys.argv[1]), configuration={'seed': 7})\n"
    )
    here = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, str(tmp_path / "serial.py"), str(tmp_path / "serial"), here],
        check=True, env={**os.environ, **threads}, timeout=60,
    )  # fmt: skip
    by_address = run(store=tmp_path / "address", scheduler=cluster.scheduler_address)
    with Client(cluster, set_as_default=False) as client:
        by_client = run(store=tmp_path / "client", scheduler=client)
        assert client.status == "running"
    serial = run(store=tmp_path / "serial")
    np.testing.assert_equal(by_address, serial)
    np.testing.assert_equal(by_client, serial)
    assert contents(tmp_path / "serial") == contents(tmp_path / "address") == contents(tmp_path / "client")


def test_only_what_is_missing_is_done_and_this_process_writes(tmp_path, address):
    marks, store = tmp_path / "marks", tmp_path / "store"
    marks.mkdir()
    run = partial(run_tasks, partial(note, str(marks)), store=store, configuration={})
    run(KEYS[:2])
    assert run(KEYS, scheduler=address) == [{"number": n} for n in range(5)]
    assert sorted(path.name for path in marks.iterdir()) == [f"{n}-0" for n in range(5)]
    ran = {path.name: int(path.read_text()) for path in marks.iterdir()}
    assert ran["0-0"] == ran["1-0"] == os.getpid() not in {ran[f"{n}-0"] for n in (2, 3, 4)}
    # All is there: nothing is asked of a scheduler.
    assert run(KEYS, scheduler="tcp://127.0.0.1:1") == [{"number": n} for n in range(5)]


def test_a_task_that_fails_is_named_and_keeps_the_kind_of_its_error(tmp_path, address):
    with pytest.raises(ModelDomainError, match=r"task mock-1: exponent 2 is too large\nExpected 0 to 1"):
        run_tasks(fail, KEYS[:2], store=tmp_path / "a", configuration={}, scheduler=address)
    with pytest.raises(RuntimeError, match="task mock-3: ZeroDivisionError: nought"):
        run_tasks(fail, KEYS[2:4], store=tmp_path / "b", configuration={}, scheduler=address)


def test_a_killed_worker_is_survived_and_a_task_that_kills_many_is_named(tmp_path):
    """One death costs a repetition of what the worker had; after four, the task is given up by name."""
    marks = tmp_path / "marks"
    marks.mkdir()
    run = partial(run_tasks, keys=KEYS, configuration={}, workers=2, scheduler="local")
    assert run(partial(die, str(marks), 1), store=tmp_path / "one") == [{"number": n} for n in range(5)]
    assert len(list(marks.glob("2-*"))) == 2
    with pytest.raises(ObsfitError, match="task mock-2: 4 workers died while they had this task at hand"):
        run(partial(die, str(marks), 100), keys=KEYS[2:3], store=tmp_path / "many")
    assert len(list(marks.glob("2-*"))) == 2 + 4


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:1", "nowhere", "foo://host:1"])
def test_a_scheduler_that_does_not_answer_is_refused_within_seconds(tmp_path, where, monkeypatch):
    monkeypatch.setattr("obsfit.execute.cluster.TIMEOUT_S", 1.0)
    with pytest.raises(ConfigurationError, match=f"no dask scheduler answers at '{where}'") as caught:
        run_tasks(work, KEYS, store=tmp_path, configuration={}, scheduler=where)
    assert "dask worker --nthreads 1" in str(caught.value)


def test_something_else_that_answers_is_no_scheduler(tmp_path, cluster):
    worker = next(iter(cluster.scheduler.workers))
    with pytest.raises(ConfigurationError, match="no dask scheduler answers at"):
        run_tasks(work, KEYS, store=tmp_path, configuration={}, scheduler=worker)


def test_without_dask_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'obsfit\[cluster\]'"):
        run_tasks(work, KEYS, store=tmp_path, configuration={}, scheduler="local")


def test_workers_with_other_programs_are_refused(tmp_path, address, monkeypatch):
    monkeypatch.setattr("obsfit.execute.cluster._software", lambda: {"programs": "other"})
    with pytest.raises(ConfigurationError, match="has other programs"):
        run_tasks(work, KEYS[:1], store=tmp_path, configuration={}, scheduler=address)


def test_workers_of_several_threads_are_refused(tmp_path):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as two,
        Client(two, set_as_default=False) as client,
        pytest.raises(ConfigurationError, match="2 tasks at a time"),
    ):  # fmt: skip
        run_tasks(work, KEYS[:1], store=tmp_path, configuration={}, scheduler=client)


def test_an_interrupted_run_keeps_what_is_finished(tmp_path):
    (tmp_path / "main.py").write_text(textwrap.dedent(MAIN))
    process = subprocess.Popen(
        [sys.executable, "main.py", str(tmp_path)], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("begun-*"))) < 2 or len(stored(tmp_path / "store")) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: the whole group
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in err
    assert sorted(stored(tmp_path / "store")) == ["mock-0.json", "mock-1.json"]
    assert json.loads(stored(tmp_path / "store")["mock-1.json"]) == {"number": 1}


@pytest.mark.parametrize("back_end", ["processes", "cluster"])
def test_what_has_ended_when_the_wait_is_interrupted_is_stored(tmp_path, monkeypatch, cluster, back_end):
    """The interruption comes when results are there and not yet collected."""

    if back_end == "processes":
        home, name, how = processes, "wait", {"workers": 2}
    else:
        home, name, how = as_completed, "next_batch", {"scheduler": cluster.scheduler_address}
    real = getattr(home, name)

    def interrupted(*args, **options):
        real(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(home, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(work, KEYS[:1], store=tmp_path, configuration={}, **how)
    assert list(stored(tmp_path)) == ["mock-0.npz"]


def test_progress_tells_the_time_left(tmp_path, capfd):
    """Two of five tasks are stored; of the other three, of half a second each, the first leaves one second."""

    def wait(kind, number):
        time.sleep(0.5)
        return {"number": number}

    run = partial(run_tasks, wait, store=tmp_path, configuration={}, progress=True)
    run(KEYS[:2])
    capfd.readouterr()
    run(KEYS)
    assert "3/5 [00:00<00:01" in capfd.readouterr().err


@pytest.mark.parametrize("study", ["relative_diffusion", "universes"])
def test_studies_take_the_scheduler_of_the_command(tmp_path, monkeypatch, capsys, study):
    """One that does not answer is told at once, and nothing but the description of the study is stored."""
    monkeypatch.setattr("obsfit.execute.cluster.TIMEOUT_S", 0.3)
    text = (CONFIGURATIONS / f"{study}.toml").read_text(encoding="utf-8")
    (tmp_path / "study.toml").write_text(re.sub("(?m)^output = .*$", 'output = "out"', text))
    with pytest.raises(SystemExit) as stopped:
        main(["study", str(tmp_path / "study.toml"), "--scheduler", "tcp://127.0.0.1:1"])
    assert stopped.value.code == 2
    assert "no dask scheduler answers at 'tcp://127.0.0.1:1'" in capsys.readouterr().err
    assert stored(tmp_path / "out") == {}
