"""Time our routes beside the usual ones: every benchmarks/bench_*.py in one table.

Each file defines ``PAIRS``: (what, ours, usual), where both routes are functions
without arguments that return the same numbers. The median of the repetitions is printed, and the ratio.
"""

import importlib.util
import statistics
import sys
import time
from pathlib import Path

import numpy as np

REPETITIONS = 7
TOLERANCE = 1e-6


def seconds(route):
    """Return the median time of a route after one call to warm up."""
    route()
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        route()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def load(path):
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Print one line for each pair; fail if two routes disagree."""
    print(f"{'what':58} {'ours':>9} {'usual':>9} {'ratio':>8}")
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        for what, ours, usual in load(path).PAIRS:
            if not np.allclose(ours(), usual(), rtol=TOLERANCE):
                sys.exit(f"{path.name}: the two routes of {what!r} disagree")
            fast, slow = seconds(ours), seconds(usual)
            print(f"{what:58} {1e3 * fast:7.2f}ms {1e3 * slow:7.2f}ms {slow / fast:8.1f}")


if __name__ == "__main__":
    main()
