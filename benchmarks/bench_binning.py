"""Event lists into sums on rings: kernels beside numpy, Parquet files beside pandas, memory at 1e8 rows.

On its own, ``python benchmarks/bench_binning.py`` prints events per second, in wall-clock and in processor time;
``--full`` goes to 1e9 generated rows, here and in run.py.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
from case import Case

from obsfit.ingest import _binning_kernels as kernels
from obsfit.ingest.event_columns import EventColumns, LocalColumns, TimeColumn
from obsfit.ingest.event_files import EventList
from obsfit.ingest.event_transforms import clock_angle
from obsfit.ingest.events import count_events, read_events
from obsfit.observatory import Observatory

N, N_FILE = 4_000_000, 1_000_000
ROWS = 10**9 if "--full" in sys.argv else 10**8
N_DEC, N_TIME, N_SUB = 128, 360, 8
SHAPES = ((1, N_TIME), (1, N_DEC, N_TIME), (1, N_DEC, N_TIME), (1, N_DEC * N_SUB))
SITE = Observatory("mid latitude", 19 * u.deg, -97 * u.deg, 57 * u.deg)
LATITUDE = SITE.latitude.to_value(u.rad)
COLUMNS = EventColumns(
    time=TimeColumn("mjd", "mjd"), local=LocalColumns("azimuth", "zenith", "deg", azimuth_convention="north-east")
)
TURN = 2 * np.pi
PEAKS = {}


def piece(first, n):
    """Rows of a made-up list, the same for the same place: times in order, zenith angles up to 55 degrees."""
    rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(first,)))
    cosine = 1.0 - (1.0 - np.cos(np.radians(55.0))) * rng.random(n)
    return {
        "mjd": 57000.0 + 1e-6 * (first + np.arange(n)) % 3000.0,
        "azimuth": 360.0 * rng.random(n),
        "zenith": np.degrees(np.arccos(cosine)),
    }


def generated(total):
    """A list of any length of which only a piece exists at a time."""

    def pieces(names, rows):
        for first in range(0, total, rows):
            made = piece(first, min(rows, total - first))
            yield {name: made[name] for name in names}

    return EventList("generated", ("mjd", "azimuth", "zenith"), pieces)


def zeros():
    return tuple(np.zeros(shape) for shape in SHAPES)


def rings():
    sums = zeros()
    kernels.add_to_rings(SIDEREAL, HOUR_ANGLE, DEC, None, None, (N_DEC, N_TIME, N_SUB), sums, None)
    return sums


def weighted_rings():
    sums, squared = zeros(), zeros()
    kernels.add_to_rings(SIDEREAL, HOUR_ANGLE, DEC, None, WEIGHT, (N_DEC, N_TIME, N_SUB), sums, squared)
    return sums + squared


def horizon_rings():
    sums = zeros()
    shape = (N_DEC, N_TIME, N_SUB)
    kernels.add_to_rings_from_horizon(SIDEREAL, AZIMUTH, ZENITH, LATITUDE, None, None, shape, sums, None)
    return sums


def numpy_rings(hour_angle, dec, weights=None):
    """The same sums by bincount, the fastest histogram of numpy."""
    t = (SIDEREAL / TURN % 1.0 * N_TIME).astype(np.int64)
    j = (hour_angle / TURN % 1.0 * N_TIME).astype(np.int64)
    fine = ((dec / np.pi + 0.5) * (N_DEC * N_SUB)).astype(np.int64)
    band = fine // N_SUB * N_TIME
    cells = (t, band + j, band + (t - j) % N_TIME, fine)
    return tuple(
        np.bincount(cell, weights, np.prod(shape)).reshape(shape)
        for cell, shape in zip(cells, SHAPES, strict=True)
    )


def numpy_from_equatorial():
    return numpy_rings(HOUR_ANGLE, DEC)


def numpy_weighted():
    return numpy_rings(HOUR_ANGLE, DEC, WEIGHT) + numpy_rings(HOUR_ANGLE, DEC, WEIGHT**2)


def numpy_from_horizon():
    sin_z, cos_z, cos_a = np.sin(ZENITH), np.cos(ZENITH), np.cos(AZIMUTH)
    dec = np.arcsin(np.sin(LATITUDE) * cos_z + np.cos(LATITUDE) * sin_z * cos_a)
    meridian = np.cos(LATITUDE) * cos_z - np.sin(LATITUDE) * sin_z * cos_a
    return numpy_rings(np.arctan2(-sin_z * np.sin(AZIMUTH), meridian), dec)


def agree(mine, theirs):
    """Whether the sums agree but for one event in 1e5 at the edge of a cell."""
    return all(np.abs(a - b).sum() <= 1e-5 * b.sum() for a, b in zip(mine, theirs, strict=True))


def read_file(compression):
    (found,) = read_events(FOLDER / f"{compression}.parquet", COLUMNS, observatory=SITE)
    return found.per_time, found.per_cell, found.per_sky, found.per_declination


def pandas_file(compression):
    """The whole file in memory, clocks by our own transform, the rest by numpy."""
    table = pd.read_parquet(FOLDER / f"{compression}.parquet")
    table = table[table["zenith"] <= 57.0]
    azimuth, zenith = np.radians(table["azimuth"].to_numpy()), np.radians(table["zenith"].to_numpy())
    sidereal = clock_angle(table["mjd"].to_numpy(), SITE.longitude.to_value(u.rad))
    sums = zeros()
    kernels.add_to_rings_from_horizon(
        sidereal, azimuth, zenith, LATITUDE, None, None, (N_DEC, N_TIME, N_SUB), sums, None
    )
    return tuple(table[0] for table in sums)


def process(rows):
    """Events counted in a fresh process that reads so many generated rows; its peak memory is kept for `peak`."""
    command = [sys.executable, __file__, "--rows", str(rows)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    PEAKS[rows] = float(answer[1])
    return float(answer[0])


def many_rows():
    return process(ROWS)


def few_rows():
    return process(ROWS // 100)


def peak(route):
    """Peak memory in MiB of the last process of a route."""
    return PEAKS[ROWS if route is many_rows else ROWS // 100]


def peak_mib():
    """Peak memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def prepared():
    made = piece(0, N)
    sidereal = clock_angle(made["mjd"], SITE.longitude.to_value(u.rad))
    azimuth, zenith = np.radians(made["azimuth"]), np.radians(made["zenith"])
    equatorial = np.empty((2, N))
    kernels.rotate_about_east(azimuth, zenith, LATITUDE, equatorial)
    return sidereal, azimuth, zenith, *equatorial, np.random.default_rng(2).random(N)


def written():
    folder = Path(KEPT.name)
    table = pd.DataFrame(piece(0, N_FILE))
    for compression in ("none", "snappy", "zstd"):
        options = {"compression": None if compression == "none" else compression}
        table.to_parquet(folder / f"{compression}.parquet", index=False, **options)
    return folder


def main():
    """Print rates; with ``--rows n``, only what a fresh process finds and needs."""
    if "--rows" in sys.argv:
        (found,) = count_events(generated(int(sys.argv[-1])), COLUMNS, observatory=SITE)
        print(found.total, peak_mib())
        return
    routes = {
        "sidereal angle, hour angle, declination": rings, "the same, weighted": weighted_rings,
        "sidereal angle, azimuth, zenith": horizon_rings, "numpy, from hour angle": numpy_from_equatorial,
        "numpy, from horizon": numpy_from_horizon,
    }  # fmt: skip
    routes |= {f"Parquet, {name}": lambda name=name: read_file(name) for name in ("none", "snappy", "zstd")}
    for name, route in routes.items():
        count = N_FILE if name.startswith("Parquet") else N
        route()
        times = []
        for _ in range(7):
            wall, busy = time.perf_counter(), time.process_time()
            route()
            times.append((time.perf_counter() - wall, time.process_time() - busy))
        wall, busy = np.min(times, axis=0)
        print(f"{name:45} {count / wall / 1e6:8.1f} M events/s; of processor time {count / busy / 1e6:8.1f}")
    for rows in (ROWS // 100, ROWS):
        start = time.perf_counter()
        total = process(rows)
        seconds = time.perf_counter() - start
        print(f"{rows:.0e} generated rows: {total:.0f} kept, {PEAKS[rows]:.0f} MiB at most, {seconds:.0f} s")


if "--rows" not in sys.argv:
    KEPT = tempfile.TemporaryDirectory(prefix="bench-binning-")
    SIDEREAL, AZIMUTH, ZENITH, HOUR_ANGLE, DEC, WEIGHT = prepared()
    FOLDER = written()
    CASES = [
        Case("binning from sidereal angle, hour angle, declination", rings, numpy_from_equatorial, "numpy.bincount",
             target=1 / 200e6, count=N, agree=agree),
        Case("the same with weights and their squares", weighted_rings, numpy_weighted, "numpy.bincount", count=N,
             agree=agree),
        Case("binning from sidereal angle, azimuth, zenith", horizon_rings, numpy_from_horizon, "numpy, bincount",
             target=1 / 20e6, count=N, agree=agree),
        *(
            Case(f"Parquet file, compression {name}, into sums", lambda name=name: read_file(name),
                 lambda name=name: pandas_file(name), "pandas, whole file", count=N_FILE, agree=agree, repeats=5)
            for name in ("none", "snappy", "zstd")
        ),
        Case(f"{ROWS:.0e} generated rows, checked and binned", many_rows, few_rows, f"(none: {ROWS // 100:.0e} rows)",
             repeats=1, memory=peak),
    ]  # fmt: skip

if __name__ == "__main__":
    main()
