"""The one sky of two observatories: blocks of one m beside one dense solution, and a whole converged run."""

import astropy.units as u
import healpy as hp
import numpy as np
from case import Case

from obsfit.infer.observed_harmonics import NoiseProfile, map_harmonics
from obsfit.infer.sky_sampler import SkyPrior, SkySamplerSettings, SkySystem, draw_prior, sample_sky, sweep
from obsfit.records import SkyMap
from obsfit.records.provenance import Provenance

SEED = 1
TARGET_S = 60.0
SWEEPS = 20
NSIDE, LMAX, LMAX_DATA, REPORT = 64, 36, 24, 20
BANDS = {"south": (-90.0, -30.0, 1.5e-11), "north": (-20.0, 64.0, 3e-10)}


def observed():
    """Two bands of a mock sky of C_l = 4e-6 l^-3, with white noise."""
    rng = np.random.default_rng(SEED)
    ell, m = hp.Alm.getlm(LMAX)
    white = rng.normal(size=(2, ell.size)) * np.sqrt(2e-6 / np.maximum(ell, 1) ** 3.0) * (ell > 0)
    alm = np.where(m == 0, np.sqrt(2.0) * white[0], white[0] + 1j * white[1])
    values = hp.alm2map(alm, NSIDE)
    dec = 90.0 - np.degrees(hp.pix2ang(NSIDE, np.arange(values.size))[0])
    data = []
    for name, (low, high, noise) in BANDS.items():
        noisy = values + np.sqrt(noise / hp.nside2pixarea(NSIDE)) * rng.standard_normal(values.size)
        seen = SkyMap(np.where((dec >= low) & (dec <= high), noisy, np.nan), Provenance("mock"))
        data.append(
            map_harmonics(
                seen, name=name, dec_min=low * u.deg, dec_max=high * u.deg, noise=NoiseProfile.white(noise),
                lmax=LMAX, lmax_out=LMAX_DATA,
            )
        )  # fmt: skip
    return data


def converged():
    """Draws until 1000 effective samples of every C_l up to 20, of amplitude and of noise scales."""
    settings = SkySamplerSettings(target=1000.0, report=REPORT)
    return sample_sky(DATA, rng=np.random.default_rng(SEED), prior=PRIOR, settings=settings)


def sweeps():
    """Whole sweeps: amplitude, sky, noise scales, and power twice."""
    rng, state = np.random.default_rng(SEED), START
    for _ in range(SWEEPS):
        state = sweep(SYSTEM, state, rng=rng)
    return state


def dense():
    """Skies alone, drawn from one covariance of all real numbers; the power is held."""
    rng = np.random.default_rng(SEED)
    for _ in range(SWEEPS):
        lower = np.linalg.cholesky(DENSE + np.diag(1.0 / VARIANCE))
        mean = np.linalg.solve(lower, PROJECTED)
        alm = np.linalg.solve(lower.T, mean + rng.standard_normal(len(mean)))
    return alm


def dense_system():
    """Precision, projected data and prior variances of all real numbers of the sky at unit nuisances."""
    size = LMAX + 1
    parts = [(m, part) for m in range(size) for part in range(1 if m == 0 else 2)]
    n = sum(size - max(m, 1) for m, _ in parts)
    precision, projected, variance, start = np.zeros((n, n)), np.zeros(n), np.zeros(n), 0
    for m, part in parts:
        low, copies = max(m, 1), 1.0 if m == 0 else 2.0
        here = slice(start, start + size - low)
        precision[here, here] = copies * SYSTEM.information[:, m, low:, low:].sum(axis=0)
        data = copies * SYSTEM.projected[:, m, low:].sum(axis=0)
        projected[here] = data.imag if part else data.real
        variance[here] = START.c_ell[low:] / copies
        start += size - low
    return precision, projected, variance


DATA = observed()
PRIOR = SkyPrior(low=1e-11)
SYSTEM = SkySystem.of(DATA, PRIOR)
START = draw_prior(SYSTEM, rng=np.random.default_rng(SEED))
DENSE, PROJECTED, VARIANCE = dense_system()
CASES = [
    Case(
        f"sweep of one sky, l <= {LMAX}, two observatories", sweeps, dense,
        "one dense draw of the sky alone", count=SWEEPS,
    ),
    Case(
        f"converged one sky, l <= {REPORT}, two observatories", converged, sweeps,
        f"(none: {SWEEPS} sweeps)", target=TARGET_S, repeats=1,
    ),
]  # fmt: skip
