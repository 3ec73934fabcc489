"""Time our routes beside the usual ones: every benchmarks/bench_*.py in one table.

Each file defines ``CASES`` (`case.Case`). Both routes run in turn in this process, so that both see the same load;
medians are printed with their ratio, and written to results/benchmarks.ecsv. Trust ratios, not seconds.

Names choose among the files: ``python benchmarks/run.py orbits fit`` runs bench_orbits.py and bench_fit.py alone, and
writes no table.
"""

import importlib.util
import os
import platform
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

from astropy.table import Table

import obsfit

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "results" / "benchmarks.ecsv"


def load(path):
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seconds(route):
    """Return the median time of the calls that 0.3 s take, one at least: first ones find cold caches."""
    times = []
    while sum(times) < 0.3:
        start = time.perf_counter()
        route()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def traced_mib(route):
    """Return the peak of what Python and numpy allocate during one call, in MiB."""
    tracemalloc.start()
    try:
        route()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def measure(case):
    """Return one row: median times of interleaved calls after one call of each to warm up."""
    first, second = case.ours(), case.usual()
    if case.agree is not None and not case.agree(first, second):
        sys.exit(f"the two routes of {case.what!r} disagree")
    longer = 1.0 if case.whole is None else case.whole(second)
    pairs = [(seconds(case.ours), longer * seconds(case.usual)) for _ in range(case.repeats)]
    ours, usual = (statistics.median(column) / case.count for column in zip(*pairs, strict=True))
    memory = case.memory or traced_mib
    return {
        "what": case.what, "usual_is": case.usual_is, "ours": ours, "usual": usual,
        "ratio": statistics.median(b / a for a, b in pairs),
        "target": float("nan") if case.target is None else case.target,
        "ours_memory": memory(case.ours), "usual_memory": memory(case.usual), "repeats": case.repeats,
    }  # fmt: skip


def readable(value):
    """Return a time with a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def line(row):
    """Return a row as text."""
    target = "" if row["target"] != row["target"] else readable(row["target"])
    return (
        f"{row['what']:64} {readable(row['ours']):>9} {readable(row['usual']):>9} {row['ratio']:8.1f} {target:>8} "
        f"{row['ours_memory']:8.2f} {row['usual_memory']:8.2f}  {row['usual_is']}"
    )


def main():
    """Print one line for each case and write them all; stop if two routes disagree."""
    names = sys.argv[1:]
    paths = [Path(__file__).parent / f"bench_{name}.py" for name in names] or sorted(
        Path(__file__).parent.glob("bench_*.py")
    )
    for path in paths:
        if not path.exists():
            sys.exit(f"no benchmark {path.name}: expected names of benchmarks/bench_*.py, without bench_ and .py")
    print(f"{'what':64} {'ours':>9} {'usual':>9} {'ratio':>8} {'target':>8} {'MiB':>8} {'MiB':>8}  usual route")
    rows = []
    for path in paths:
        for case in load(path).CASES:
            rows.append(measure(case))
            print(line(rows[-1]), flush=True)
    if names:
        return
    units = {"ours": "s", "usual": "s", "target": "s", "ours_memory": "MiB", "usual_memory": "MiB"}
    table = Table(rows=rows, units={name: unit for name, unit in units.items() if unit != "MiB"})
    for name in ("ours_memory", "usual_memory"):
        table[
            name
        ].description = "peak in MiB: traced allocations of one call, or of the whole process for imports"
    table["ratio"].description = "median over repetitions of usual over ours, timed in turn"
    table.meta = {
        "description": "Our routes beside the usual ones", "obsfit_version": obsfit.__version__,
        "python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }  # fmt: skip
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    partial = OUTPUT.with_name(OUTPUT.name + ".partial")
    table.write(partial, format="ascii.ecsv", overwrite=True)
    partial.replace(OUTPUT)
    print(OUTPUT.relative_to(ROOT))


if __name__ == "__main__":
    main()
