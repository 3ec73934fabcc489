"""Orbits: to a tolerance beside trackers in numpy and in plain numba, and for statistics; times for each particle.

The field is that of the papers: 100 waves, wavelengths of 0.01 to 100 lambda_c, sigma^2 = 1, r_L = 0.1 lambda_c.
Both routes of a case err alike, which is measured against orbits with a tolerance of 1e-9. Runs are parts of what their
names say; times are for each particle, so that they scale. Operations of a mode are counted as 27: 12 multiplications
with additions, two of each alone in the reduction and the square, and one rounding.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

import healpy as hp
import numba
import numpy as np
from case import Case
from obsfit_models.turbulence import _kernels_cpu as kernels
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import back_track
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

UNIFORM = MagneticField(uniform=[0.0, 0.0, 1.0])
OPERATIONS = 27


def field(shortest, longest, modes):
    """Field of sigma^2 = 1 between two wavelengths in lambda_c."""
    spectrum = TurbulenceSpectrum(shortest, longest)
    return UNIFORM + isotropic_waves(spectrum, modes=modes, rms=1.0, rng=np.random.default_rng(4))


PAPERS, DENSE = field(0.01, 100.0, 100), field(0.01, 100.0, 1000)


def directions(n):
    vectors = np.random.default_rng(5).normal(size=(3, n))
    return vectors / np.linalg.norm(vectors, axis=0)


def numpy_runge_kutta(waves, uniform, arrival, time, steps):
    """Classical Runge-Kutta in numpy, the usual first tracker."""
    k, a, beta = waves

    def slope(r, u):
        return u, np.cross(uniform[:, None] + a @ np.cos(k.T @ r + beta[:, None]), u, axis=0)

    r, u, h = np.zeros_like(arrival), arrival.copy(), time / steps
    for _ in range(steps):
        r1, u1 = slope(r, u)
        r2, u2 = slope(r + 0.5 * h * r1, u + 0.5 * h * u1)
        r3, u3 = slope(r + 0.5 * h * r2, u + 0.5 * h * u2)
        r4, u4 = slope(r + h * r3, u + h * u3)
        r, u = r + h / 6 * (r1 + 2 * r2 + 2 * r3 + r4), u + h / 6 * (u1 + 2 * u2 + 2 * u3 + u4)
        u /= np.linalg.norm(u, axis=0)
    return r


@numba.njit(cache=True, fastmath=True)
def boris(k, a, beta, uniform, arrival, time, steps):
    """The Boris push with cosines of the library, one particle after another."""
    h, ends = time / steps, np.empty_like(arrival)
    for i in range(arrival.shape[1]):
        x, y, z = 0.0, 0.0, 0.0
        ux, uy, uz = arrival[0, i], arrival[1, i], arrival[2, i]
        for _ in range(steps):
            x, y, z = x + 0.5 * h * ux, y + 0.5 * h * uy, z + 0.5 * h * uz
            bx, by, bz = uniform[0], uniform[1], uniform[2]
            for m in range(beta.size):
                cosine = np.cos(k[0, m] * x + k[1, m] * y + k[2, m] * z + beta[m])
                bx, by, bz = bx + a[0, m] * cosine, by + a[1, m] * cosine, bz + a[2, m] * cosine
            tx, ty, tz = 0.5 * h * bx, 0.5 * h * by, 0.5 * h * bz
            s = 2.0 / (1.0 + tx * tx + ty * ty + tz * tz)
            vx, vy, vz = ux + ty * uz - tz * uy, uy + tz * ux - tx * uz, uz + tx * uy - ty * ux
            ux, uy, uz = ux + s * (ty * vz - tz * vy), uy + s * (tz * vx - tx * vz), uz + s * (tx * vy - ty * vx)
            x, y, z = x + 0.5 * h * ux, y + 0.5 * h * uy, z + 0.5 * h * uz
        ends[0, i], ends[1, i], ends[2, i] = x, y, z
    return ends


def arguments(which, gyroradius):
    """Arrays for the usual trackers, lengths in gyroradii."""
    waves = which.waves
    return np.ascontiguousarray(waves.wavevector * gyroradius), np.ascontiguousarray(waves.amplitude), waves.phase


def runge_kutta(which, steps):
    """`numpy_runge_kutta` of a field with so many steps in 1/Omega."""
    known = arguments(which, 0.1)
    return lambda arrival, time: numpy_runge_kutta(known, which.uniform, arrival, time, int(steps * time))


def beside(name, n, usual, target, tolerance=1e-3, which=PAPERS):
    """Tracking to a tolerance beside another tracker: 20 gyro-times, errors of both below twice the tolerance."""
    arrival, time, modes = directions(n), 20.0, which.waves.phase.size
    exact = back_track(which, arrival, [time], gyroradius=0.1, tolerance=1e-9).position[0]

    def good(ours, other):
        errors = [
            np.median(np.linalg.norm(r - exact, axis=0) / np.linalg.norm(exact, axis=0)) for r in (ours, other)
        ]
        return max(errors) < 2 * tolerance

    return Case(
        f"orbits: {modes} modes to {tolerance:g} at Omega T = 20, each and Omega T",
        lambda: back_track(which, arrival, [time], gyroradius=0.1, tolerance=tolerance).position[0],
        lambda: usual(arrival, time), name, target=target, count=int(n * time), repeats=3, agree=good,
    )  # fmt: skip


@numba.njit(cache=True, fastmath={"contract"})
def multiplied_and_added(values, factor, term, repeats):
    """16 multiplications and additions of each value a repeat: the limit of the processor, as compiled code has it."""
    kernels.prefer_wide_vectors()
    for _ in range(repeats):
        for i in range(64):
            p = values[i]
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            p = p * factor + term
            values[i] = p


@numba.njit(cache=True)
def sums(work, wave, amplitude, phase, repeats):
    for _ in range(repeats):
        kernels.add_waves(work[0], wave, amplitude, phase, 0, phase.size, False, work[1])


def field_sums(modes):
    """Modes summed beside the same number of operations at the limit: the ratio is the share of the limit."""
    rng = np.random.default_rng(6)
    wave, amplitude, phase = rng.normal(size=(3, modes)), rng.normal(size=(3, modes)), rng.normal(size=modes)
    work = kernels.blocks(2)
    work[:] = 0.1
    repeats = 3_000_000 // modes
    count = repeats * modes * kernels.LANES
    return Case(
        f"orbits: a mode of a sum of {modes}, ratio is the share of the limit",
        lambda: sums(work, wave, amplitude, phase, repeats),
        lambda: multiplied_and_added(np.ones(64), 0.5, 0.5, count * OPERATIONS // (2 * 64 * 16)),
        "27 operations at the FMA limit", count=count, repeats=5,
    )  # fmt: skip


def papers_run():
    """A part of 12288 directions in 10 fields to Omega T = 100; 15 s of all are 122 us of each."""
    arrival = np.array(hp.pix2vec(8, np.arange(768)))
    return Case(
        "orbits: papers' run of 122880 to Omega T = 100, each",
        lambda: back_track(PAPERS, arrival, [100.0], gyroradius=0.1, tolerance=1e-3),
        lambda: back_track(PAPERS, arrival, [100.0], gyroradius=0.1),
        "leapfrog for statistics", target=15.0 / 122880, count=arrival.shape[1], repeats=3,
    )  # fmt: skip


def ensemble(modes, target, single):
    """The leapfrog with a step of 0.25, beside the Boris push of the same step: one field sum in each."""
    which, arrival, time = field(0.0628, 100.0, modes), directions(640), 40.0
    other = arguments(which, 0.1)
    return Case(
        f"orbits: {modes} modes, h = 0.25, {'single' if single else 'double'}, each and Omega T",
        lambda: back_track(which, arrival, [time], gyroradius=0.1, step=0.25, single=single),
        lambda: boris(*other, which.uniform, arrival[:, :32], time, int(4 * time)),
        "Boris push, numba with np.cos", target=target, count=int(640 * time), repeats=3, whole=lambda _: 20.0,
    )  # fmt: skip


def low_rigidity():
    """A part of 100 fields of nside 32 at r_L = 0.01 lambda_c: 8 mean free paths of some 93 r_L, 20 modes a decade."""
    which = field(2 * np.pi * 0.01 / 10, 100.0, 84)
    arrival, time = directions(192), 8 * 93.0
    other = arguments(which, 0.01)
    return Case(
        "orbits: 1.2e6 of r_L = 0.01 lambda_c over 8 mfp, each",
        lambda: back_track(which, arrival, [time], gyroradius=0.01),
        lambda: boris(*other, which.uniform, arrival[:, :2], time, int(4 * time)),
        "Boris push, numba with np.cos", target=180.0 / 1.2288e6, count=192, repeats=3, whole=lambda _: 96.0,
    )  # fmt: skip


@cache
def two_processes():
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


def processes():
    """Two halves of a run at once and one after another: a ratio of 2 is the best there is."""
    part = partial(back_track, PAPERS, directions(1024), [100.0], gyroradius=0.1, tolerance=1e-3)
    return Case(
        "orbits: two runs of 1024 to Omega T = 100, in two processes",
        lambda: [half.result() for half in [two_processes().submit(part) for _ in range(2)]],
        lambda: [part() for _ in range(2)], "one after another", repeats=9,
    )  # fmt: skip


def compilation():
    """A process that follows one particle, with the cache of compiled kernels and without."""
    code = (
        "from obsfit_models.turbulence.orbits import back_track; from obsfit_models.turbulence.field import *; "
        "back_track(MagneticField(), [[0.0], [0.0], [1.0]], [1.0], gyroradius=1.0)"
    )

    def once():
        subprocess.run([sys.executable, "-c", code], check=True)

    def fresh():
        with tempfile.TemporaryDirectory() as empty:
            subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_CACHE_DIR": empty})

    return Case(
        "orbits: a process that follows one particle", once, fresh, "compiled again", repeats=1,
        memory=lambda route: float("nan"),
    )  # fmt: skip


CASES = [
    beside("Runge-Kutta, numpy", 1024, runge_kutta(PAPERS, 16), 0.9e-6),
    beside(
        "Boris push, numba with np.cos", 1024, lambda n, time: boris(
            *arguments(PAPERS, 0.1), PAPERS.uniform, n, time, int(70 * time)
        ), 0.9e-6,
    ),
    beside("Runge-Kutta, numpy", 512, runge_kutta(PAPERS, 100), 3e-6, 1e-6),
    beside("Runge-Kutta, numpy", 256, runge_kutta(DENSE, 16), 3.3e-6, which=DENSE),
    field_sums(36), field_sums(146), field_sums(500), papers_run(),
    ensemble(36, 0.08e-6, False), ensemble(146, 0.2e-6, False), ensemble(36, 0.08e-6, True),
    ensemble(146, 0.2e-6, True), low_rigidity(), processes(), compilation(),
]  # fmt: skip
