"""The task store: what is done stays done, the rest is done once, and the numbers do not depend on how."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial

import numpy as np
import pytest

from obsfit.errors import ConfigurationError, DataFormatError, ModelDomainError
from obsfit.execute import child_generator, run_tasks

KEYS = [("mock", n) for n in range(5)]
# Workers import the function by name: it stands in a module of its own.
MODULE = """
    import fcntl, os, time
    from pathlib import Path
    import numpy as np
    from obsfit.execute import child_generator

    def work(folder, wait, kind, number):
        with (Path(folder) / f"begun-{number}").open("w") as begun:
            fcntl.flock(begun, fcntl.LOCK_EX)  # given back when the process dies
            begun.write(str(os.getpid()))
            begun.flush()
            time.sleep(wait)
        draws = child_generator(7, kind, number).normal(size=(200, 200))
        return {"sum": float(np.linalg.svd(draws @ draws.T, compute_uv=False).sum()), "draws": draws[:2],
                "threads": os.environ.get("OMP_NUM_THREADS"), "process": os.getpid()}

    def stop(kind, number):
        raise {0: ZeroDivisionError("nought"), 1: KeyError(number)}[number]

    def die(kind, number):
        os._exit(9)
"""
MAIN = """
    import sys
    from functools import partial
    from pathlib import Path
    from obsfit.execute import run_tasks
    import work

    if __name__ == "__main__":
        name, folder, count, workers, wait = sys.argv[1:]
        function = getattr(work, name)
        if name == "work":
            function = partial(function, folder, float(wait))
        results = run_tasks(function, [("mock", n) for n in range(int(count))], store=Path(folder) / "store",
                            configuration={"seed": 7}, workers=int(workers))
        print(sorted({r["threads"] for r in results}), len({r["process"] for r in results}))
"""


def count_to(calls, name, number):
    calls.append(number)
    return {"kind": name, "square": number**2, "list": (1, 2), "array": np.arange(number) * 0.1}


@pytest.fixture
def program(tmp_path):
    (tmp_path / "work.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "main.py").write_text(textwrap.dedent(MAIN))

    def start(name="work", count=4, workers=1, wait=0.0, folder="out"):
        (tmp_path / folder).mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "main.py", name, str(tmp_path / folder), str(count), str(workers), str(wait)],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return start


def stored(folder):
    return sorted(path.name for path in (folder / "tasks").iterdir())


def test_results_come_in_the_order_of_the_keys(tmp_path):
    results = run_tasks(partial(count_to, []), KEYS[::-1], store=tmp_path, configuration={"a": 1})
    assert [r["square"] for r in results] == [16, 9, 4, 1, 0]
    assert results[0]["list"] == [1, 2]
    np.testing.assert_array_equal(results[0]["array"], np.arange(4) * 0.1)


def test_what_is_stored_is_not_done_again(tmp_path):
    """Fewer, more and deleted tasks: only what is missing is called, and old results are the same bits."""
    calls: list[int] = []
    function = partial(count_to, calls)
    first = run_tasks(function, KEYS[:3], store=tmp_path, configuration={"a": 1})
    (tmp_path / "tasks" / "mock-1.npz").unlink()
    again = run_tasks(function, KEYS, store=tmp_path, configuration={"a": 1})
    assert calls == [0, 1, 2, 1, 3, 4]
    np.testing.assert_equal(again[:3], first)


def test_another_configuration_is_refused_with_the_keys_that_differ(tmp_path):
    settings = {"seed": 1, "fit": {"ell_max": 30, "model": ("cascade",)}}
    run_tasks(partial(count_to, []), KEYS[:1], store=tmp_path, configuration=settings)
    run_tasks(partial(count_to, []), KEYS[:1], store=tmp_path, configuration=json.loads(json.dumps(settings)))
    other = {"fit": {"ell_max": 20, "model": ("cascade",)}, "mocks": 3}
    with pytest.raises(ConfigurationError) as caught:
        run_tasks(partial(count_to, []), KEYS, store=tmp_path, configuration=other)
    for text in ("fit.ell_max was 30, is now 20", "mocks was not there, is now 3", "seed was 1, is not there now"):
        assert text in str(caught.value)
    assert "model" not in caught.value.problem
    assert stored(tmp_path) == ["mock-0.npz"]


def test_a_store_of_another_kind_and_a_broken_result_are_refused_by_name(tmp_path):
    run_tasks(partial(count_to, []), KEYS[:2], store=tmp_path, configuration={})
    path = tmp_path / "tasks" / "mock-1.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataFormatError, match=r"mock-1\.npz"):
        run_tasks(partial(count_to, []), KEYS[:2], store=tmp_path, configuration={})
    (tmp_path / "configuration.json").write_text('{"a": 1}')
    with pytest.raises(DataFormatError, match="not the configuration of a study"):
        run_tasks(partial(count_to, []), KEYS[:2], store=tmp_path, configuration={})


def test_the_store_says_what_made_it(tmp_path):
    run_tasks(partial(count_to, []), KEYS[:1], store=tmp_path, configuration={"seed": 3})
    made = json.loads((tmp_path / "configuration.json").read_text())
    assert made["configuration"] == {"seed": 3}
    assert made["versions"]["numpy"] == np.__version__
    assert len(made["configuration_sha256"]) == len(made["programs"]) == 64


def test_a_store_that_another_process_works_on_is_refused(tmp_path):
    def inner(*key):
        return run_tasks(partial(count_to, []), KEYS, store=tmp_path, configuration={})[0]

    with pytest.raises(ConfigurationError, match="task mock-0: another process is at work"):
        run_tasks(inner, KEYS[:1], store=tmp_path, configuration={})


def test_an_error_names_its_task_and_keeps_its_kind(tmp_path):
    def fail(name, number):
        if number == 1:
            raise ModelDomainError("exponent 2 is too large", expected="0 to 1")
        if number == 2:
            raise ZeroDivisionError("nought")
        return {"number": np.float64("nan") if number == 3 else number}

    with pytest.raises(ModelDomainError, match=r"task mock-1: exponent 2 is too large\nExpected 0 to 1"):
        run_tasks(fail, KEYS, store=tmp_path, configuration={})
    assert stored(tmp_path) == ["mock-0.json"]
    with pytest.raises(RuntimeError, match="task mock-2: ZeroDivisionError: nought") as caught:
        run_tasks(fail, KEYS[2:], store=tmp_path, configuration={})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(RuntimeError, match="task mock-3: ValueError"):
        run_tasks(fail, KEYS[3:], store=tmp_path, configuration={})
    with pytest.raises(RuntimeError, match="an array of objects"):
        run_tasks(lambda *k: {"a": np.array([object()])}, KEYS[4:], store=tmp_path, configuration={})


@pytest.mark.parametrize("key", [(), ("a/b",), ("..",), ("a", -1), ("a b", 1), ("",)])
def test_a_key_that_is_no_file_name_is_refused(tmp_path, key):
    with pytest.raises(ValueError, match="expected words of letters"):
        run_tasks(lambda *k: {}, [key], store=tmp_path, configuration={})


def test_two_tasks_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two tasks are called a-1"):
        run_tasks(lambda *k: {}, [("a", 1), ("b", 1), ("a", "1")], store=tmp_path, configuration={})


def test_an_interrupted_run_keeps_what_it_finished(tmp_path):
    calls: list[int] = []

    def interrupted(name, number):
        calls.append(number)
        if number == 2 and len(calls) < 4:
            raise KeyboardInterrupt
        return {"number": number}

    with pytest.raises(KeyboardInterrupt):
        run_tasks(interrupted, KEYS, store=tmp_path, configuration={})
    assert stored(tmp_path) == ["mock-0.json", "mock-1.json"]
    run_tasks(interrupted, KEYS, store=tmp_path, configuration={})
    assert calls == [0, 1, 2, 2, 3, 4]


def test_numbers_do_not_depend_on_the_number_of_processes(tmp_path, program):
    """Singular values of 200 x 200 products, bit for bit; the workers have one thread and are not this process."""
    for workers in (1, 2):
        process = program(workers=workers, folder=str(workers))
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.startswith("['1'] ")
    one, two = (
        {p.name: dict(np.load(p)) for p in (tmp_path / n / "store" / "tasks").iterdir()} for n in ("1", "2")
    )
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name]["array.draws"], two[name]["array.draws"])
        first, second = (json.loads(str(entry[name]["json"])) for entry in (one, two))
        assert first["sum"] == second["sum"]
        assert first["process"] != second["process"]


@pytest.mark.parametrize(("workers", "how"), [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGINT)])
def test_a_killed_run_loses_the_tasks_in_flight_alone(tmp_path, program, workers, how):
    """Killed while later tasks sleep for half a minute: what is stored is whole, and no worker outlives its parent."""
    done = program(count=2)
    done.communicate(timeout=60)
    process = program(count=6, workers=workers, wait=30.0)
    try:
        begun = [tmp_path / "out" / f"begun-{2 + n}" for n in range(workers)]
        wait_until(lambda: all(path.exists() and path.read_text() for path in begun))
        if how == signal.SIGINT:
            for path in begun:  # as a terminal does it: the whole group
                os.kill(int(path.read_text()), how)
        process.send_signal(how)
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode != 0
    assert stored(tmp_path / "out" / "store") == ["mock-0.npz", "mock-1.npz"]
    wait_until(lambda: not any(map(held, begun)))
    resumed = program(count=4)
    _, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert len(stored(tmp_path / "out" / "store")) == 4


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def held(path):
    """Whether a living process still works on the task that this file stands for."""
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    ("name", "message"), [("stop", "task mock-0: ZeroDivisionError: nought"), ("die", "a worker process died")]
)
def test_an_error_in_a_worker_names_its_task(program, name, message):
    process = program(name, count=1, workers=2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in err


def test_streams_are_keyed_by_what_they_are_for():
    """A number enters the spawn key as it is; words, order and seed all matter."""
    plain = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3, 1))).random(3)
    np.testing.assert_array_equal(child_generator(5, 3, 1).random(3), plain)
    draws = [
        child_generator(s, *k).random() for s, k in [(5, ("a", 1)), (5, (1, "a")), (5, ("b", 1)), (6, ("a", 1))]
    ]
    assert len(set(draws)) == 4
