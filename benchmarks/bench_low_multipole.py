"""Multipoles of event maps: the profiled Fisher matrix beside sums over all cells, and whole fits."""

import numpy as np
from case import Case
from scipy.special import sph_harm_y

from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood, profiled_fisher
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.records import HourAngleGrid, Provenance, RingCounts


def rings_at(latitude, cut, n_dec, n_time):
    """Ring sums of a dipole of 1e-3 at a latitude with a zenith cut, both in degrees."""
    dec = -np.pi / 2 + np.pi * (np.arange(n_dec)[:, None] + 0.5) / n_dec
    hour = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    lat = np.radians(latitude)
    cos_theta = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(hour)
    cells = np.where(cos_theta > np.cos(np.radians(cut)), cos_theta**2, 0.0) * np.cos(dec)
    cells *= 1e9 / cells.sum()
    times = 1e9 / n_time * (1 + 0.2 * np.cos(hour + 1))
    intensity = 1 + 1e-3 * np.cos(dec) * np.cos(hour - np.pi / n_time)
    wave = [np.fft.rfft(part, axis=-1) for part in (times, cells, intensity)]
    expected = np.fft.irfft(wave[0] * wave[1].conj(), n_time, axis=1) * intensity / 1e9
    seen = np.where(expected < 1e-12 * expected.max(), 0.0, expected)
    per_time = times * np.fft.irfft(wave[1] * wave[2], n_time, axis=1).sum(axis=0) / 1e9
    per_cell = cells * np.fft.irfft(wave[0] * wave[2].conj(), n_time, axis=1) / 1e9
    grid = HourAngleGrid(n_dec, n_time)
    return RingCounts(per_time, per_cell, seen, per_cell.sum(axis=1), grid, "bench", Provenance("bench"))


def fisher_case(lmax, n_dec, n_time, target):
    """Fisher matrix with exposure and acceptance fitted, of one detector."""
    rings = rings_at(19.0, 50.0, n_dec, n_time)

    def dense():
        """Sums over sky cells, local cells and time bins of the real functions, one after the other."""
        alpha = 2 * np.pi * np.arange(n_time) / n_time
        dec = rings.grid.dec_rad
        times, cells, n = rings.per_time, rings.per_cell, rings.total
        spectrum = np.fft.rfft(times)
        exposure = np.fft.irfft(spectrum * np.fft.rfft(cells, axis=1).conj(), n_time, axis=1) / n
        sky, local, time = [], [], []
        for part in (np.real, lambda f: -np.imag(f)):
            for m in range(1, lmax + 1):
                for ell in range(m, lmax + 1):
                    f = 2 * part(sph_harm_y(ell, m, np.pi / 2 - dec[:, None], alpha)) * np.sinc(m / n_time) ** 2
                    wave = np.fft.rfft(f, axis=1)
                    sky.append(f)
                    local.append(np.fft.irfft(spectrum * wave.conj(), n_time, axis=1) / n)
                    per_time = np.fft.irfft((np.fft.rfft(cells, axis=1) * wave).sum(axis=0), n_time) / n
                    time.append(per_time - (times @ per_time) / n)
        sky, local = (np.array(rows).reshape(len(rows), -1) for rows in (sky, local))
        time = np.array(time)
        return (
            (sky * exposure.ravel()) @ sky.T
            - (local * cells.ravel()) @ local.T
            - (time * times) @ time.T
        )  # fmt: skip

    def agree(a, b):
        return np.allclose(a, b, rtol=0.0, atol=2e-3 * np.abs(b).max())  # harmonics at the middles of bands

    return Case(
        f"profiled Fisher matrix, l <= {lmax}, {n_dec} x {n_time}", lambda: profiled_fisher(rings, lmax), dense,
        "sums over all cells", target=target, agree=agree,
    )  # fmt: skip


def likelihood_case(n_dec, n_time):
    """All multipoles with l <= 3 and their covariance, to convergence."""
    rings = rings_at(19.0, 50.0, n_dec, n_time)
    return Case(
        f"low-multipole likelihood, l <= 3, {n_dec} x {n_time}",
        lambda: LowMultipoleLikelihood().reconstruct(rings).alm,
        lambda: fit_multipoles(IterativeLikelihood().reconstruct(rings)).alm,
        "iterative map and least squares",
        target=20e-3,
        agree=lambda a, b: np.allclose(a, b, rtol=0.0, atol=3e-6),
    )  # fmt: skip


CASES = [fisher_case(3, 128, 360, 20e-3), fisher_case(8, 128, 360, None), likelihood_case(128, 360)]
