"""Diffusion coefficients of turbulence against theory, an independent simulation and a published fit.

Isotropic Kolmogorov turbulence without a mean field, E(k) falling as k^(-5/3) below an outer scale L_max; r_L in the
rms field; L_c the two-sided correlation length, L_max / 5. With x = r_L / L_c:

- small deflections, x >> 1: K = (4/3) x^2 c L_c, exact. The correlation of each component of the field across the line
  of flight has the one-sided integral L_c B^2 / 8 (half of that along it, for div B = 0), so that the mean square angle
  grows by L_c / 2 r_L^2 per length over both axes, nu = L_c / 4 r_L^2, K = 1 / 3 nu.
- Harari, Mollerach and Roulet (arXiv:1312.1366): K = (c L_c / 3) [4 x^2 + 0.9 x + 0.23 x^(1/3)]. Its first term is the
  limit above. The other two constants were not verified against the text of the paper, and its accuracy is not known
  here. Ours lies above it by a third at x = 0.03, where an independent simulation agrees with ours.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.orbits import track
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from obsfit_models.turbulence.transport import (
    join_fields,
    mean_and_error,
    pitch_angle_diffusion,
    running_diffusion,
    settled_tensor,
    split_tensor,
)

from obsfit.plot.runner import load_program

OUTER = 5.0


def directions(n, rng):
    v = rng.normal(size=(3, n))
    return v / np.linalg.norm(v, axis=0)


def published(x):
    """K / c L_c of Harari et al. for a Kolmogorov spectrum."""
    return (4 * x**2 + 0.9 * x + 0.23 * x ** (1 / 3)) / 3


def settled(gyroradius, spectrum, modes, times, fields, particles, seed):
    """K_iso / c r_L between two times, mean and error over fields."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(fields):
        field = isotropic_waves(spectrum, modes=modes, rms=1.0, rng=rng)
        start, place = directions(particles, rng), rng.uniform(0, 1000 / gyroradius, size=(3, particles))
        orbits = track(field, start, times, gyroradius=gyroradius, position=place)
        parts.append(running_diffusion(orbits, start, position=place))
    return mean_and_error(np.trace(settled_tensor(join_fields(parts), times[0]), axis1=1, axis2=2) / 3)


def slab(rms, modes, low, high, rng):
    """Waves along z, energy equal per interval of ln k, linear polarisation of random direction."""
    edges = np.linspace(np.log(low), np.log(high), modes + 1)
    k = np.exp(rng.uniform(edges[:-1], edges[1:]))
    turn = rng.uniform(0, 2 * np.pi, size=modes)
    amplitude = rms * np.sqrt(2 / modes) * np.array([np.cos(turn), np.sin(turn), np.zeros(modes)])
    waves = PlaneWaves(np.array([0 * k, 0 * k, k]), amplitude, rng.uniform(0, 2 * np.pi, size=modes))
    return MagneticField(uniform=[0, 0, 1.0], waves=waves)


def quasi_linear_rate(rms, low, high):
    r"""nu of weak slab turbulence with P(k) = P_0 / k between low and high, P_0 = rms^2 / ln(high / low).

    mu' = p_x b_y - p_y b_x along an unperturbed helix, <b_i b_j> = delta_ij (1/2) int P cos(k z) dk, so that
    D = int_0^inf <mu' mu'(t)> dt = (1 - mu^2)/2 int_0^inf cos t int P cos(k mu t) dk dt
    = (pi/4)(1 - mu^2) P(1/|mu|)/|mu|. With P = P_0 / k this is (pi/4) P_0 (1 - mu^2), scattering at a rate
    nu = 2 D_0 = pi P_0 / 2 at every angle, and K_par = (1/8) int (1 - mu^2)^2 / D = 1 / 3 nu.
    """
    return np.pi / 2 * rms**2 / np.log(high / low)


def test_slab_turbulence_diffuses_the_pitch_angle_as_in_quasi_linear_theory():
    r"""<(dmu)^2> to first order in the energy of the waves, with the width that resonances have after a finite time.

    <(dmu)^2> = (1/2)(1 - mu^2) int P(k) sum_pm 2 sin^2(a T/2) / a^2 dk, a = k mu +- 1, which becomes 2 D T. Waves of
    rms / B_0 = 0.02, nu T = 1 %. Four bins, each known to 3 % (60 fields): 13 % is 4 standard errors, 1 in 1500.
    """
    rng = np.random.default_rng(1)
    low, high, rms, t = 0.5, 8.0, 0.02, 60.0
    edges = np.array([0.3, 0.5, 0.65, 0.8, 0.95])
    found = []
    for _ in range(60):
        start = directions(256, rng)
        place = np.array([[0.0], [0.0], [1.0]]) * rng.uniform(0, 1e4, size=256)
        orbits = track(slab(rms, 200, low, high, rng), start, [t], gyroradius=1.0, position=place, step=0.25)
        sign = np.sign(start[2])
        found.append(pitch_angle_diffusion(sign * start[2], sign * orbits.momentum[0, 2], t, edges))
    mean, error = mean_and_error(np.array(found))
    log_k = np.linspace(np.log(low), np.log(high), 4001)
    # P dk is (rms^2 / ln(high / low)) d ln k.
    k, power = np.exp(log_k), rms**2 / np.log(high / low)
    expected = []
    for one, other in pairwise(edges):
        mu = np.linspace(one, other, 41)[:, None]
        lines = sum(np.sinc((k * mu + sign) * t / (2 * np.pi)) ** 2 * t**2 / 2 for sign in (1, -1))
        square = 0.5 * (1 - mu[:, 0] ** 2) * power * np.trapezoid(lines, log_k, axis=1)
        expected.append(np.trapezoid(square, mu[:, 0]) / (other - one) / (2 * t))
    np.testing.assert_allclose(mean, expected, rtol=0.13)
    assert np.all(error < 0.04 * mean)
    # The closed form of late times is within the same: (pi/4) P_0 (1 - mu^2) in the mean over the bin.
    closed = 0.5 * quasi_linear_rate(rms, low, high) * (
        1 - (edges[1:] ** 3 - edges[:-1] ** 3) / (3 * (edges[1:] - edges[:-1]))
    )  # fmt: skip
    np.testing.assert_allclose(expected, closed, rtol=0.15)


def test_slab_turbulence_diffuses_along_the_field_as_in_quasi_linear_theory():
    """<z^2> / 2T = (1/3nu) (1 - (1 - exp(-nu T)) / nu T) at T = 2/nu; rms / B_0 = 0.1, 20 fields, 2 %.

    Later K exceeds it, because no wave resonates with |mu| < 1/20 and only the width of resonances carries particles
    through 90 degrees: 1.12 +- 0.04 at T = 5/nu here; with waves up to k r_L = 10 alone 1.4.
    """
    rng = np.random.default_rng(2)
    low, high, rms = 0.5, 20.0, 0.1
    nu = quasi_linear_rate(rms, low, high)
    times = np.array([2.0, 5.0]) / nu
    parts = []
    for _ in range(20):
        start = directions(64, rng)
        place = np.array([[0.0], [0.0], [1.0]]) * rng.uniform(0, 1e4, size=64)
        orbits = track(slab(rms, 200, low, high, rng), start, times, gyroradius=1.0, position=place, step=0.125)
        parts.append(running_diffusion(orbits, start, position=place))
    along, error = mean_and_error(split_tensor(join_fields(parts).mean)[0])
    expected = (1 + np.expm1(-nu * times) / (nu * times)) / (3 * nu)
    assert np.all(error < 0.05 * expected)
    assert along[0] == pytest.approx(expected[0], rel=0.15)
    assert 1.0 < along[1] / expected[1] < 1.3


def test_small_deflections_are_those_of_the_correlation_length():
    """r_L = 6, L_c = 1.4: 16 fields fix the mean to 2 %, and the next order is below it: 10 % is 5 standard errors."""
    spectrum = TurbulenceSpectrum(1.0, OUTER, bend_over=None)
    x = 6.0
    limit = 4 / 3 * x / (2 * spectrum.correlation_length())
    value, _ = settled(x, spectrum, 400, [50.0, 150.0], 16, 128, 3)
    assert value == pytest.approx(limit, rel=0.1)


def test_an_independent_simulation_agrees_at_low_rigidity():
    """Own field, own orbits (Boris) in plain numpy, r_L / L_c = 0.03; 4 joint standard errors, 1 in 3000."""
    rng = np.random.default_rng(4)
    x, modes, step, times = 0.03, 50, 0.125, (30.0, 90.0)
    spectrum = TurbulenceSpectrum(2 * np.pi * x / 10, OUTER, bend_over=None)
    low, high = 2 * np.pi / OUTER * x, 10.0
    edge = np.exp(np.linspace(np.log(low), np.log(high), modes + 1))
    size = np.sqrt(edge[1:] * edge[:-1])
    energy = edge[:-1] ** (-2 / 3) - edge[1:] ** (-2 / 3)
    own = []
    for _ in range(12):
        frame = np.linalg.qr(rng.normal(size=(modes, 3, 3)))[0]
        # Two of the three orthonormal vectors: along k, and along the amplitude.
        k, a = size[:, None] * frame[:, :, 0], np.sqrt(2 * energy / energy.sum())[:, None] * frame[:, :, 1]
        phase = rng.uniform(0, 2 * np.pi, size=modes)
        p, r = directions(96, rng).T, rng.uniform(0, 3e4, size=(96, 3))
        home, squares = r.copy(), []
        for count in range(1, round(times[1] / step) + 1):
            r = r + 0.5 * step * p
            turn = 0.5 * step * (np.cos(r @ k.T + phase) @ a)
            half = p + np.cross(p, turn)
            p = p + np.cross(half, 2 * turn / (1 + np.sum(turn**2, axis=1, keepdims=True)))
            r = r + 0.5 * step * p
            if count in (round(times[0] / step), round(times[1] / step)):
                squares.append(np.sum((r - home) ** 2, axis=1).mean())
        own.append((squares[1] - squares[0]) / (6 * (times[1] - times[0])))
    mine, mine_error = mean_and_error(np.array(own))
    theirs, error = settled(x, spectrum, modes, times, 16, 256, 5)
    assert abs(mine - theirs) < 4 * np.hypot(mine_error, error)
    assert mine_error < 0.06 * mine
    # Both are above the fit.
    assert mine > published(x) / x + 3 * mine_error


# r_L / L_c: waves per decade, times, and K over the fit from 72 fields with k_max r_L = 30 (errors of 1 %).
RIGIDITIES = {
    0.01: (30, (160.0, 400.0), 1.73), 0.03: (30, (80.0, 200.0), 1.37), 0.1: (40, (40.0, 160.0), 1.13),
    0.3: (100, (40.0, 120.0), 0.94), 1.0: (300, (40.0, 120.0), 0.80),
}  # fmt: skip


def test_the_published_fit_and_the_change_of_slope():
    """Within 55 % of the fit from 0.03 to 1; 12 fields of 128 particles give 4 %, the cut at k_max r_L = 10 up to 5 %.

    d ln K / d ln r_L is near 1/3 below r_L = L_c / 2 pi and approaches 2 above.
    """
    rigidity, found = [], []
    for x, (per_decade, times, ratio) in RIGIDITIES.items():
        spectrum = TurbulenceSpectrum(min(2 * np.pi * x / 10, OUTER / 6), OUTER, bend_over=None)
        length = 2 * spectrum.correlation_length()
        value, _ = settled(x, spectrum, round(per_decade * spectrum.decades), list(times), 12, 128, 6)
        fit = published(x / length) * length / x
        assert value / fit == pytest.approx(ratio, rel=0.2)
        if x > 0.02:
            assert value == pytest.approx(fit, rel=0.55)
        rigidity.append(np.log(x / length))
        found.append(np.log(value * x / length))
    slopes = np.diff(found) / np.diff(rigidity)
    assert 0.1 < slopes[0] < 0.6
    assert 1.2 < slopes[-1] < 2.0
    assert np.all(np.diff(slopes) > 0)


def test_the_analysis_makes_its_tables_from_stored_tasks(tmp_path):
    """A small run: rows for all rigidities, units of the table, and the same numbers from the store."""
    program = load_program(Path(__file__).parents[2] / "analyses/turbulence/diffusion.py")
    size = program.Size(3.0, 1, 2, 64, 2, 4, 1, 2)
    parts = program.run(1, size, tmp_path, "isotropic", 3, 1)
    table = program.isotropic_table(parts, size.reach)
    assert table["rigidity"].tolist() == [0.01, 0.03, 0.1]
    assert np.all(table["k"] > 0.5 * table["k_fit"])
    np.testing.assert_allclose(table["k_limit"], 4 / 3 * table["x"] ** 2)
    again = program.isotropic_table(program.run(1, size, tmp_path, "isotropic", 3, 1), size.reach)
    assert again["k"].tolist() == table["k"].tolist()
    assert program.published(np.array([1.0]))[0] == pytest.approx(published(1.0))
