"""Maximum likelihood on rings: one pass, and event maps in memory to a converged dipole, beside the gather.

Maps are of 360 time bins. The usual route is the gather on a table of directions (`GatherLikelihood`), whose
convergence nothing speeds up; tolerances leave 1e-4 of a dipole of 1e-3 in both."""

import healpy as hp
import numpy as np
from case import Case

from obsfit.reconstruct._ring_solver import RingIteration, RingSystem
from obsfit.reconstruct.gather import GatherLikelihood, sky_pixels
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance

N_TIME = 360
GRID = HourAngleGrid(128, N_TIME)
OURS = IterativeLikelihood(tolerance=1e-7)
USUAL = GatherLikelihood(tolerance=1e-8)


def exposure(seed):
    """Time bins with a modulation of 20 % and noise of 5 %."""
    tau = 2.0 * np.pi * (np.arange(N_TIME) + 0.5) / N_TIME
    return (1.0 + 0.2 * np.cos(tau - 0.7)) * np.exp(0.05 * np.random.default_rng(seed).normal(size=N_TIME))


def on_rings(latitude_deg, zenith_deg, name, seed):
    """Event map of an observatory on 128 x 360 cells, 1e10 events."""
    lat, dec, h = np.radians(latitude_deg), GRID.dec_rad[:, None], GRID.hour_angle_rad
    up = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(h)
    acceptance = np.where(up > np.cos(np.radians(zenith_deg)), up * np.cos(dec), 0.0)
    sky = 1.0 + 1e-3 * np.cos(dec) * np.cos(GRID.right_ascension_rad - 0.9)
    cells = np.arange(N_TIME)
    counts = np.stack([n * acceptance * sky[:, (t - cells) % N_TIME] for t, n in enumerate(exposure(seed))])
    return drawn(counts.reshape(N_TIME, -1), GRID, name, seed)


def on_pixels(nside):
    """Event map of HAWC on HEALPix, 1e10 events."""
    grid = HealpixLocalGrid(nside, np.radians(19.0))
    zenith = hp.pix2ang(nside, np.arange(grid.n_pixel))[0]
    acceptance = np.where(zenith < np.radians(57.0), np.cos(zenith), 0.0)
    seen = np.flatnonzero(acceptance)
    x, y, _ = hp.pix2vec(nside, np.arange(grid.n_pixel))
    shape = EventMap(np.ones((N_TIME, grid.n_pixel)), grid, "HAWC", Provenance("mock"))
    counts = np.zeros((N_TIME, grid.n_pixel))
    counts[:, seen] = acceptance[seen] * (1.0 + 1e-3 * (0.6 * x + 0.8 * y))[sky_pixels(shape, seen)]
    return drawn(counts * exposure(1)[:, None], grid, "HAWC", 1)


def drawn(counts, grid, name, seed):
    counts = np.random.default_rng(seed).poisson(counts * (1e10 / counts.sum()))
    return EventMap(counts, grid, name, Provenance("mock"))


def first_harmonic(rings, alpha, weight):
    """Weighted first harmonic of a map with unseen places."""
    return np.nansum(weight * rings * np.exp(1j * alpha)) / np.sum(weight * np.isfinite(rings))


def same_dipole(a, b):
    """Whether two harmonics are the same to 1e-3 of them: the error of nearest pixels, which differ."""
    return abs(a - b) < 1e-3 * abs(b)


def rings_route(maps):
    def route():
        result = OURS.reconstruct(maps)
        alpha, weight = result.grid.right_ascension_rad, result.expected
        return first_harmonic(result.relative_intensity, alpha, weight)

    return route


def one_pass():
    """One pass of the update equations, preconditioned, and one of the plain gather."""
    events = on_rings(19.0, 57.0, "HAWC", 1)
    system = RingSystem.of([ring_counts(events)])
    solver = RingIteration(system, np.ones((N_TIME // 2 + 1, 1, 1), dtype=np.complex128))
    state = solver.start()
    pixels = np.flatnonzero(events.counts.any(axis=0))
    table = sky_pixels(events, pixels)
    shares = events.counts.sum(axis=0)[pixels] / events.total
    times = events.counts.sum(axis=1)

    def gathered():
        expected = np.bincount(table.ravel(), weights=np.outer(times, shares).ravel(), minlength=GRID.n_pixel)
        sky = np.divide(events_of_sky, expected, out=np.zeros_like(expected), where=expected > 0.0)[table]
        return times / (sky @ shares), times @ sky

    events_of_sky = np.bincount(table.ravel(), weights=events.counts[:, pixels].ravel(), minlength=GRID.n_pixel)
    return Case(
        "rings: one pass, 128 x 360", lambda: solver.advance(state), gathered, "gather by index, numpy",
        target=0.5e-3, repeats=15,
    )  # fmt: skip


def from_rings():
    """One detector, map in memory to converged."""
    events = on_rings(19.0, 57.0, "HAWC", 1)

    def usual():
        result = USUAL.reconstruct(events)
        intensity = result.relative_intensity.reshape(128, N_TIME)
        expected = ring_counts(events).per_sky / intensity
        return first_harmonic(intensity, GRID.right_ascension_rad, np.nan_to_num(expected))

    return Case(
        "rings: 1e10 events on 128 x 360 x 360, converged 1e-4", rings_route(events), usual, "plain gather",
        target=20e-3, repeats=5, agree=same_dipole,
    )  # fmt: skip


def from_two():
    """Two detectors, maps in memory to converged."""
    maps = [on_rings(19.0, 57.0, "HAWC", 1), on_rings(-90.0, 65.0, "IceCube", 2)]
    sky_events = sum(ring_counts(m).per_sky for m in maps)

    def usual():
        intensity = USUAL.reconstruct(maps).relative_intensity.reshape(128, N_TIME)
        return first_harmonic(intensity, GRID.right_ascension_rad, np.nan_to_num(sky_events / intensity))

    return Case(
        "rings: two detectors, converged 1e-4", rings_route(maps), usual, "plain gather",
        target=30e-3, repeats=3, agree=same_dipole,
    )  # fmt: skip


def from_pixels():
    """A HEALPix map of nside 64, converged."""
    events = on_pixels(64)

    def dipole(dec, alpha, values, weight):
        waves = np.cos(dec) * np.array([np.cos(alpha), np.sin(alpha)]) * weight
        x, y = np.linalg.lstsq(waves.T, weight * (values - 1.0), rcond=None)[0]
        return x + 1j * y

    def ours():
        result = OURS.reconstruct(events)
        seen = np.isfinite(result.relative_intensity)
        dec, alpha = np.broadcast_arrays(result.grid.dec_rad[:, None], result.grid.right_ascension_rad)
        return dipole(dec[seen], alpha[seen], result.relative_intensity[seen], 1.0)

    def usual():
        result = USUAL.reconstruct(events)
        seen = np.flatnonzero(np.isfinite(result.relative_intensity))
        theta, alpha = hp.pix2ang(64, seen)
        return dipole(0.5 * np.pi - theta, alpha, result.relative_intensity[seen], 1.0)

    return Case(
        "rings: 1e10 events on HEALPix of nside 64, converged 1e-4", ours, usual, "plain gather", target=20e-3,
        repeats=3, agree=lambda a, b: abs(a - b) < 5e-2 * abs(b),
    )  # fmt: skip


CASES = [one_pass(), from_rings(), from_two(), from_pixels()]
