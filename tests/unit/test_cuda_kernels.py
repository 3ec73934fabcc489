"""The CUDA kernel gives the answers of the CPU, of a leapfrog written here, and says what it cannot do.

Kernels run in the simulator of numba, which must be chosen before numba is imported: hence processes of their own.
Where there is a device, the same cases run on it too.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from obsfit_models.turbulence import gpu
from obsfit_models.turbulence.field import GridField, MagneticField, PlaneWaves
from obsfit_models.turbulence.orbits import back_track

from obsfit.errors import ConfigurationError

cuda = pytest.importorskip("numba.cuda", reason="needs numba-cuda: this numba comes without CUDA")

ROOT = Path(__file__).parents[2]
TIMES = [0.0, 0.5, 1.5]
# particles, waves, step in 1/Omega; a block has 8 threads here, a strip 4 waves, a tile 32 strips
SIZES = {
    "less than a block and a strip": (3, 1, 0.1),
    "more than a block": (19, 6, 0.25),
    "a full tile": (8, 128, 0.5),
    "one wave more than a tile": (9, 129, 0.5),
    "two tiles and a part": (2, 263, 0.5),
    "no waves": (2, 0, 0.5),
    "more than half a turn": (4, 2, 10.0),
}
SETTINGS = {
    "several batches": {"BATCH": 7},
    "several launches": {"LAUNCH": 19 * 8 * 3},
    "blocks of the usual size": {"THREADS": gpu.THREADS},
}

TRACK = """
import sys
import numpy as np
from obsfit_models.turbulence import gpu
from obsfit_models.turbulence.field import MagneticField, PlaneWaves

given, results = np.load(sys.argv[1]), {}
for name in {key.split("/")[0] for key in given}:
    case = {key.split("/")[1]: given[key] for key in given if key.split("/")[0] == name}
    for setting in ("THREADS", "BATCH", "LAUNCH"):
        setattr(gpu, setting, int(case[setting]))
    waves = PlaneWaves(case["k"], case["a"], case["b"]) if case["b"].size else None
    orbits = gpu.back_track_gpu(
        MagneticField(case["uniform"], waves), case["arrival"], case["times"],
        gyroradius=1.3, position=case["position"], step=float(case["step"]),
    )
    for key in ("position", "momentum", "drift"):
        results[name + "/" + key] = getattr(orbits, key)
np.savez(sys.argv[2], **results)
"""

REFUSE = """
import sys
import numba
from obsfit.errors import ConfigurationError
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.gpu import back_track_gpu

def refusal():
    try:
        back_track_gpu(MagneticField([0, 0, 1]), [[0], [0], [1]], [1.0], gyroradius=1.0)
    except ConfigurationError as error:
        print(str(error).replace(chr(10), " "))

refusal()
sys.modules["numba.cuda"] = None
del numba.cuda
refusal()
"""

BENCHMARK = """
import sys
sys.path.insert(0, "benchmarks")
import bench_cuda
print(len(bench_cuda.CASES))
"""

COMPILE = """
from types import SimpleNamespace
from numba import cuda, float64, int64, void
from numba.cuda import compiler, dispatcher
from obsfit_models.turbulence import _kernels_cuda as kernels

# Functions of the device ask it for its version before they are compiled.
dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
states, waves = float64[:, ::1], float64[:, :, ::1]
arguments = (states, states, float64, float64, int64, float64[::1], waves)
print(compiler.compile_cuda(kernels.leapfrog.py_func, void, arguments, cc=(9, 0)).signature)
"""


def run(script, *arguments, **environment):
    """What a script prints in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def directions(n, rng):
    v = rng.normal(size=(3, n))
    return v / np.linalg.norm(v, axis=0)


def case(particles, modes, step, seed):
    """Waves of rms about 1 on a uniform field; arrivals anywhere within some gyroradii."""
    rng = np.random.default_rng(seed)
    k = 1.5 * directions(modes, rng) * rng.uniform(0.2, 2.0, modes)
    a = np.cross(k, rng.normal(size=(3, modes)), axis=0) / np.sqrt(max(1, modes))
    return {
        "k": k, "a": a, "b": rng.uniform(0, 2 * np.pi, modes), "uniform": np.array([0.3, -0.4, 0.8]),
        "arrival": directions(particles, rng), "position": 5 * rng.normal(size=(3, particles)),
        "step": step, "times": np.array(TIMES),
    }  # fmt: skip


CASES = {name: case(*size, seed) for seed, (name, size) in enumerate(SIZES.items())}
CASES |= {name: {**CASES["more than a block"], **setting} for name, setting in SETTINGS.items()}


@pytest.fixture(scope="module", params=["simulator", "device"])
def tracked(request, tmp_path_factory):
    """Orbits of all cases, by the kernel."""
    if request.param == "device" and not cuda.is_available():
        pytest.skip("no CUDA device")
    folder = tmp_path_factory.mktemp(request.param)
    usual = {"THREADS": 8, "BATCH": gpu.BATCH, "LAUNCH": gpu.LAUNCH}
    arrays = {f"{name}/{key}": value for name, one in CASES.items() for key, value in {**usual, **one}.items()}
    np.savez(folder / "given.npz", **arrays)
    simulated = str(int(request.param == "simulator"))
    run(TRACK, folder / "given.npz", folder / "results.npz", NUMBA_ENABLE_CUDASIM=simulated)
    results = np.load(folder / "results.npz")
    return {name: tuple(results[f"{name}/{key}"] for key in ("position", "momentum", "drift")) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_and_the_cpu_agree(tracked, name):
    given = CASES[name]
    waves = PlaneWaves(given["k"], given["a"], given["b"]) if given["b"].size else None
    expected = back_track(
        MagneticField(given["uniform"], waves), given["arrival"], TIMES,
        gyroradius=1.3, position=given["position"], step=given["step"],
    )  # fmt: skip
    position, momentum, _ = tracked[name]
    np.testing.assert_allclose(position, expected.position, rtol=0, atol=1e-12)
    np.testing.assert_allclose(momentum, expected.momentum, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["less than a block and a strip", "one wave more than a tile", "no waves"])
def test_a_leapfrog_written_here_agrees(tracked, name):
    """Independent route: numpy's cosines and Rodrigues' rotation; cosines of the kernel are good to 1.1e-8 each."""
    given = CASES[name]
    r, u = given["position"].copy(), given["arrival"].copy()
    for start, stop in itertools.pairwise(TIMES):
        n = int(np.ceil((stop - start) / given["step"] - 1e-9))
        h = (stop - start) / n
        for _ in range(n):
            r += 0.5 * h * u
            waves = np.cos(1.3 * given["k"].T @ r + given["b"][:, np.newaxis])
            b = given["uniform"][:, np.newaxis] + given["a"] @ waves
            strength = np.linalg.norm(b, axis=0)
            e, angle = b / strength, h * strength
            along = np.sum(e * u, axis=0)
            u = np.cos(angle) * u + np.sin(angle) * np.cross(e, u, axis=0) + (1 - np.cos(angle)) * along * e
            r += 0.5 * h * u
    position, momentum, _ = tracked[name]
    # |d B| <= 1.1e-8 sum |a|, times the time turns u, times the time once more moves r, with room for divergence
    bound = 1e-12 + 3 * 1.1e-8 * np.linalg.norm(given["a"], axis=0).sum() * TIMES[-1]
    assert np.abs(momentum[-1] + u).max() < bound
    assert np.abs(position[-1] - r).max() < bound * TIMES[-1]


def test_momenta_stay_unit_vectors_and_time_0_is_the_start(tracked):
    for name, (position, momentum, drift) in tracked.items():
        np.testing.assert_allclose(np.linalg.norm(momentum, axis=1), 1.0, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(drift, np.abs(np.linalg.norm(momentum, axis=1) - 1.0).max(axis=0))
        np.testing.assert_array_equal(position[0], CASES[name]["position"])
        np.testing.assert_array_equal(momentum[0], -CASES[name]["arrival"])


def test_the_compiler_takes_the_kernel():
    """The simulator runs plain Python, so that types and functions unknown to a device pass it."""
    if getattr(cuda, "implementation", "") != "Built-in":
        pytest.skip("numba-cuda is installed: its compiler is called otherwise, and tried where there is a device")
    assert "none" in run(COMPILE, NUMBA_ENABLE_CUDASIM="0")


def test_no_device_and_no_package_are_refused_with_the_remedy():
    without_device, without_package = run(REFUSE, NUMBA_ENABLE_CUDASIM="0", CUDA_VISIBLE_DEVICES="-1").splitlines()
    assert "no CUDA device can be used" in without_device
    assert "numba without CUDA" in without_package
    for message in (without_device, without_package):
        assert "pip install 'obsfit[cuda]'" in message
        assert "orbits.back_track, which needs no device" in message


def test_the_benchmark_says_that_there_is_no_device():
    line, cases = run(BENCHMARK, NUMBA_ENABLE_CUDASIM="0", CUDA_VISIBLE_DEVICES="-1").splitlines()
    assert "no CUDA device" in line
    assert int(cases) == 0


def test_grids_are_refused_before_a_device_is_sought():
    grid = GridField(np.zeros((2, 2, 2, 3)), np.zeros(3), np.ones(3), periodic=True)
    with pytest.raises(ConfigurationError, match="cannot interpolate") as caught:
        gpu.back_track_gpu(MagneticField(grids=(grid,)), [[0], [0], [1]], [1.0], gyroradius=1.0)
    assert "back_track, which takes grids" in caught.value.remedy


@pytest.mark.parametrize(
    ("arrival", "times", "gyroradius", "step", "what"),
    [
        ([[0], [0], [2]], [1.0], 1.0, 0.1, "unit vectors"),
        ([[0], [0], [1]], [2.0, 1.0], 1.0, 0.1, "times that increase|times in 1/Omega that increase"),
        ([[0], [0], [1]], [1.0], 0.0, 0.1, "gyroradius"),
        ([[0], [0], [1]], [1.0], 1.0, 0.0, "positive time"),
    ],
)
def test_wrong_arguments_are_refused_as_on_the_cpu(arrival, times, gyroradius, step, what):
    with pytest.raises(ValueError, match=what):
        gpu.back_track_gpu(MagneticField([0, 0, 1]), arrival, times, gyroradius=gyroradius, step=step)
