"""Profiled Fisher matrices beside dense design matrices, and what the fits of multipoles refuse."""

from __future__ import annotations

from dataclasses import replace

import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ConfigurationError, ConvergenceError, ObsfitError
from obsfit.reconstruct.direct_integration import (
    DirectIntegration,
    direct_integration_map,
    expected_counts,
    first_pass_rings,
)
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood, profiled_covariance, profiled_fisher
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.reconstruct.responses import low_multipole_response, map_response
from obsfit.reconstruct.ring_harmonics import multipoles, ring_harmonics
from obsfit.reconstruct.time_scrambling import TimeScrambling, scrambled_counts, scrambled_events
from obsfit.records import EventMap, HourAngleGrid, Provenance, RingCounts

R, T, N_SUB = 5, 12, 64
GRID = HourAngleGrid(R, T)


def fine_edges():
    return np.linspace(-np.pi / 2, np.pi / 2, R * N_SUB + 1)


def mean_harmonics(fine):
    """lambda_11, lambda_21, lambda_22 over the events, from closed integrals over solid angle in each fine band."""
    d = fine_edges()
    s, c = np.sin(d), np.cos(d)
    area = np.diff(s)
    integrals = {
        (1, 1): -np.sqrt(3 / (8 * np.pi)) * np.diff(0.5 * (d + s * c)),
        (2, 1): -np.sqrt(15 / (8 * np.pi)) * np.diff(-(c**3) / 3),
        (2, 2): np.sqrt(15 / (32 * np.pi)) * np.diff(s - s**3 / 3),
    }
    counts = fine.reshape(R, N_SUB)
    mean = {}
    for key, values in integrals.items():
        ring = (values / area).reshape(R, N_SUB)
        total = counts.sum(axis=1)
        mean[key] = np.where(total > 0, (ring * counts).sum(axis=1) / np.where(total > 0, total, 1.0), 0.0)
    return mean


def random_rings(seed, *, gap=0, squared=False):
    """Any exposure and acceptance, one band unseen; counts of the sky do not matter."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(0.2, 1.0, (R, T)) * (rng.uniform(size=(R, T)) < 0.6)
    cells[seed % R] = 0.0
    times = rng.uniform(0.3, 1.0, T)
    times[:gap] = 0.0
    cells *= 1e6 / cells.sum()
    times *= 1e6 / times.sum()
    fine = (rng.uniform(0.1, 1.0, (R, N_SUB)) * cells.sum(axis=1, keepdims=True)).ravel()
    fine *= 1e6 / fine.sum()
    planes = None
    if squared:
        heavy = cells * rng.uniform(1.0, 3.0, (R, T))
        late = times * rng.uniform(0.5, 1.5, T)
        planes = (late * heavy.sum() / late.sum(), heavy, heavy, np.full(R, heavy.sum() / R))
    return RingCounts(times, cells, cells, fine, GRID, f"D{seed}", Provenance("D"), squared=planes)


def design(rings):
    """Real functions of (Re a, Im a) of l <= 2 in all (t, r, j), and dummies of time bins and seen cells."""
    t, r, j = np.meshgrid(np.arange(T), np.arange(R), np.arange(T), indexing="ij")
    alpha = 2 * np.pi * (t - j) / T
    harmonics = mean_harmonics(rings.per_declination)
    ell, m = [1, 2, 2], [1, 1, 2]
    columns = []
    for wave, sign in ((np.cos, 2.0), (np.sin, -2.0)):
        for a, b in zip(ell, m, strict=True):
            box = np.sin(np.pi * b / T) / (np.pi * b / T)
            columns.append(sign * box**2 * harmonics[a, b][r] * wave(b * alpha))
    functions = np.array(columns).reshape(6, -1)
    seen = np.flatnonzero(rings.per_cell)
    dummies = np.concatenate(
        [
            (t.ravel() == np.arange(T)[:, None]).astype(float),
            ((r * T + j).ravel() == seen[:, None]).astype(float),
        ]
    )
    return functions, dummies


def outer(times, cells):
    return (times[:, None, None] * cells / cells.sum()).ravel()


@pytest.mark.parametrize(("seed", "gap"), [(1, 0), (2, 0), (3, 4)])
def test_fisher_is_that_of_a_dense_design_matrix_with_explicit_exposure_and_acceptance(seed, gap):
    rings = random_rings(seed, gap=gap)
    functions, dummies = design(rings)
    mean = outer(rings.per_time, rings.per_cell)
    inner = (dummies * mean) @ dummies.T
    mixed = (functions * mean) @ dummies.T
    dense = (functions * mean) @ functions.T - mixed @ np.linalg.pinv(inner, rcond=1e-12) @ mixed.T
    np.testing.assert_allclose(profiled_fisher(rings, 2), dense, rtol=0, atol=1e-10 * np.abs(dense).max())


def test_sandwich_is_that_of_dense_scores():
    rings = random_rings(1, squared=True)
    functions, dummies = design(rings)
    mean = outer(rings.per_time, rings.per_cell)
    root = np.sqrt(mean)
    fitted, *_ = np.linalg.lstsq((dummies * root).T, (functions * root).T, rcond=None)
    scores = functions - fitted.T @ dummies
    inverse = np.linalg.inv((scores * mean) @ scores.T)
    squares = (scores * outer(rings.squared[0], rings.squared[1])) @ scores.T
    dense = inverse @ squares @ inverse
    np.testing.assert_allclose(profiled_covariance(rings, 2), dense, rtol=0, atol=1e-10 * np.abs(dense).max())
    plain = profiled_covariance(replace(rings, squared=None), 2)
    assert np.abs(plain - dense).max() > 0.2 * np.abs(dense).max()


def free_map_covariance(rings):
    """Covariance of ln I of all cells with exposure and acceptance free, mean zero in each ring: (R T, R T)."""
    t, r, j = (index.ravel() for index in np.meshgrid(np.arange(T), np.arange(R), np.arange(T), indexing="ij"))
    _, dummies = design(rings)
    sky = ((r * T + (t - j) % T) == np.arange(R * T)[:, None]).astype(float)
    everything = np.concatenate([sky, dummies])
    fisher = (everything * outer(rings.per_time, rings.per_cell)) @ everything.T
    covariance = np.linalg.pinv(fisher, rcond=1e-11)[: R * T, : R * T]
    expected = np.diag(fisher)[: R * T].reshape(R, T)
    keep = np.eye(R * T)
    for ring in range(R):
        inside = np.arange(R * T) // T == ring
        if expected[ring].any():
            keep[inside] -= np.outer(np.ones(T), np.where(inside, expected.ravel(), 0.0) / expected[ring].sum())
    return keep @ covariance @ keep.T, expected


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_covariance_of_a_fit_to_a_converged_map_is_that_of_a_dense_free_map(seed):
    """Any exposure, acceptance that differs between East and West, one ring unseen."""
    rings = replace(random_rings(seed), per_sky=isotropic(random_rings(seed)))
    one_pass = DirectIntegration().reconstruct(rings)
    converged = replace(one_pass, spec=replace(one_pass.spec, method="iterative-likelihood"))
    covariance, expected = free_map_covariance(rings)
    functions = sky_functions(rings)
    weighted = functions * expected.ravel()
    for r in range(R):
        ring = slice(r * T, (r + 1) * T)
        if expected[r].any():
            weighted[:, ring] -= weighted[:, ring].sum(axis=1)[:, None] * expected[r] / expected[r].sum()
    inverse = np.linalg.inv(weighted @ functions.T)
    dense = inverse @ weighted @ covariance @ weighted.T @ inverse
    found = fit_multipoles(converged, 2).covariance
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-7 * np.abs(dense).max())


@pytest.mark.parametrize("seed", [1, 6])
def test_sandwich_of_a_fit_to_a_map_is_that_of_the_dense_influence_of_each_cell(seed):
    rings = replace(random_rings(seed, squared=True), per_sky=isotropic(random_rings(seed)))
    one_pass = DirectIntegration().reconstruct(rings)
    converged = replace(one_pass, spec=replace(one_pass.spec, method="iterative-likelihood"))
    t, r, j = (index.ravel() for index in np.meshgrid(np.arange(T), np.arange(R), np.arange(T), indexing="ij"))
    functions, dummies = design(rings)
    sky = ((r * T + (t - j) % T) == np.arange(R * T)[:, None]).astype(float)
    everything = np.concatenate([sky, dummies])
    mean, squares = outer(rings.per_time, rings.per_cell), outer(rings.squared[0], rings.squared[1])
    fisher = (everything * mean) @ everything.T
    expected = np.diag(fisher)[: R * T].copy()
    weighted = sky_functions(rings) * expected
    for ring in range(R):
        inside = slice(ring * T, (ring + 1) * T)
        if expected[inside].any():
            share = expected[inside] / expected[inside].sum()
            weighted[:, inside] -= weighted[:, inside].sum(axis=1)[:, None] * share
    inverse = np.linalg.inv(weighted @ sky_functions(rings).T)
    log_i = (np.linalg.pinv(fisher, rcond=1e-11) @ everything)[: R * T]
    influence = inverse @ weighted @ log_i
    found = fit_multipoles(converged, 2, events=rings).covariance
    dense = (influence * squares) @ influence.T
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-7 * np.abs(dense).max())
    # One pass: the residuals of the functions after exposure and acceptance.
    inner = (dummies * mean) @ dummies.T
    scores = functions - ((functions * mean) @ dummies.T) @ np.linalg.pinv(inner, rcond=1e-12) @ dummies
    dense = inverse @ ((scores * squares) @ scores.T) @ inverse
    found = fit_multipoles(one_pass, 2, events=rings).covariance
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-9 * np.abs(dense).max())


def sky_functions(rings):
    """Functions of `design` on sky cells, (6, R T)."""
    functions, _ = design(rings)
    t, r, j = (index.ravel() for index in np.meshgrid(np.arange(T), np.arange(R), np.arange(T), indexing="ij"))
    sky = np.zeros((6, R * T))
    sky[:, r * T + (t - j) % T] = functions
    return sky


def test_waves_of_a_free_map_have_the_noise_of_events_and_of_the_fitted_exposure():
    """delta_rr'/s_r + conj(v_r) v_r' / (n (1 - rho)), from a dense matrix; v_r conj(v_r') is not it."""
    rings = replace(random_rings(1), per_time=np.full(T, 1e6 / T))
    covariance, _ = free_map_covariance(rings)
    seen = rings.per_cell.any(axis=1)
    events = rings.per_cell.sum(axis=1)
    for m in (1, 2, 3):
        wave = np.exp(-2j * np.pi * m * np.arange(T) / T)
        dense = np.einsum("rkql,k,l->rq", covariance.reshape(R, T, R, T), wave, wave.conj()) / T**2
        v = rings.per_cell[seen] @ wave / events[seen]
        rho = (events[seen] * np.abs(v) ** 2).sum() / events.sum()
        closed = np.diag(1 / events[seen]) + np.outer(v.conj(), v) / (events.sum() * (1 - rho))
        other = np.diag(1 / events[seen]) + np.outer(v, v.conj()) / (events.sum() * (1 - rho))
        np.testing.assert_allclose(dense[np.ix_(seen, seen)], closed, rtol=0, atol=1e-9 * np.abs(closed).max())
        assert np.abs(other - closed).max() > 0.05 * np.abs(closed - np.diag(np.diag(closed))).max()


def test_matrices_of_detectors_add():
    both = [random_rings(1), random_rings(2)]
    np.testing.assert_allclose(profiled_fisher(both, 2), sum(profiled_fisher(one, 2) for one in both), rtol=1e-14)
    information = np.linalg.inv(profiled_covariance(both, 2))
    np.testing.assert_allclose(information, profiled_fisher(both, 2), rtol=1e-9, atol=1e-9 * information.max())


def test_multipoles_are_those_of_healpy_without_m_0():
    ell, m = multipoles(5)
    np.testing.assert_array_equal(np.array(hp.Alm.getlm(5))[:, 6:], [ell, m])


def test_harmonics_of_rings_are_means_over_their_events():
    fine = random_rings(4).per_declination
    values = ring_harmonics(fine, R, 2)
    for p, key in enumerate([(1, 1), (2, 1), (2, 2)]):
        seen = fine.reshape(R, -1).any(axis=1)
        np.testing.assert_allclose(values[seen, p], mean_harmonics(fine)[key][seen], rtol=1e-12)


def test_direct_integration_is_a_plain_double_sum():
    rings = random_rings(3)
    plain = np.zeros((R, T))
    for k in range(T):
        for j in range(T):
            plain[:, k] += rings.per_time[(k + j) % T] * rings.per_cell[:, j] / rings.total
    np.testing.assert_allclose(expected_counts(rings.per_time, rings.per_cell), plain, atol=1e-9)


def test_response_of_rings_is_the_response_of_maps_at_constant_exposure():
    """Two routes: a wave on the rings through the sums over cells, and the matrix of one harmonic."""
    rng = np.random.default_rng(5)
    acceptance = rng.uniform(size=(R, T)) * (rng.uniform(size=(R, T)) < 0.5)
    acceptance /= acceptance.sum()
    true = rng.normal(size=R) + 1j * rng.normal(size=R)
    for m in (1, 3):
        phase = np.exp(2j * np.pi * m * np.arange(T) / T)
        seen = direct_integration_map(2 * (true[:, None] * phase).real, [np.ones(T)], [acceptance])
        amplitude = seen @ phase.conj() / T
        np.testing.assert_allclose(amplitude, first_pass_rings(acceptance, m) @ true, atol=1e-13)


def test_settings_and_losses_are_told():
    rings = [random_rings(1), random_rings(3)]
    result = LowMultipoleLikelihood(lmax=1).reconstruct([replace(r, per_sky=isotropic(r)) for r in rings])
    assert result.spec.method == "low-multipole-likelihood"
    assert result.spec.detectors == ("D1", "D3")
    assert result.spec.filtered
    assert "a_l0" in result.spec.loss
    assert "above l = 1" in result.spec.loss
    assert result.covariance.shape == (2, 2)


def isotropic(rings):
    return expected_counts(rings.per_time, rings.per_cell)


def test_too_many_multipoles_are_refused_with_the_largest_that_would_do():
    cells = np.zeros((8, 64))
    cells[3] = cells[4] = np.where(np.arange(64) < 8, 1e4, 0.0)  # a narrow strip along the equator
    rings = RingCounts(
        np.full(64, cells.sum() / 64),
        cells,
        cells,
        cells.sum(axis=1),
        HourAngleGrid(8, 64),
        "strip",
        Provenance("s"),
    )
    with pytest.raises(ObsfitError, match=r"strip: .*lmax = 4 .*condition number") as caught:
        LowMultipoleLikelihood(lmax=4).reconstruct(rings)
    assert "largest lmax that can be fitted is" in caught.value.remedy
    good = int(caught.value.remedy.rstrip(".").split()[-1])
    assert np.linalg.cond(profiled_fisher(rings, good)) < 1e8
    assert np.linalg.cond(profiled_fisher(rings, good + 1)) > 1e8


def test_too_few_time_bins_are_refused():
    with pytest.raises(ObsfitError, match="l = 3 on 12 time bins"):
        profiled_fisher(random_rings(1), 3)


def test_too_few_events_are_refused():
    rng = np.random.default_rng(1)
    few = rng.multinomial(4, np.full(4 * 24, 1 / 96)).reshape(4, 24).astype(float)
    rings = RingCounts(
        rng.multinomial(4, np.full(24, 1 / 24)), few, np.roll(few, 3, axis=1), few.sum(axis=1), HourAngleGrid(4, 24),
        "D", Provenance("D"),
    )  # fmt: skip
    with pytest.raises((ConvergenceError, ObsfitError)):
        LowMultipoleLikelihood(lmax=3).reconstruct(rings)


def test_detectors_that_do_not_go_together_are_refused():
    one = random_rings(1)
    with pytest.raises(ConfigurationError, match=r"D1: frame solar\nExpected sidereal"):
        DirectIntegration().reconstruct([one, replace(one, frame="solar")])
    with pytest.raises(ConfigurationError, match="no events"):
        LowMultipoleLikelihood().reconstruct([])
    empty = EventMap(np.zeros((T, R * T)), GRID, "dark", Provenance("d"))
    for method in (DirectIntegration(), DirectIntegration(window_hours=4.0), LowMultipoleLikelihood(lmax=1)):
        with pytest.raises(ConfigurationError, match="dark: no events"):
            method.reconstruct(empty)


def test_windows_need_the_cube_and_fit_its_bins():
    with pytest.raises(ConfigurationError, match="already summed over time"):
        DirectIntegration(window_hours=4.0).reconstruct(random_rings(1))
    cube = EventMap(np.ones((T, R * T)), GRID, "D", Provenance("D"))
    with pytest.raises(ConfigurationError, match="5 hours on 12 time bins"):
        DirectIntegration(window_hours=5.0).reconstruct(cube)


def test_scrambling_asks_for_a_generator_whole_counts_and_equal_totals():
    whole = EventMap(np.ones((T, R * T)), GRID, "D", Provenance("D"))
    with pytest.raises(ConfigurationError, match="no generator"):
        TimeScrambling().reconstruct(whole)
    rng = np.random.default_rng(1)
    with pytest.raises(ObsfitError, match="whole"):
        scrambled_counts(np.full(T, 0.5), np.full((1, T), 0.5), rng=rng)
    with pytest.raises(ObsfitError, match="24 events in time bins but 12"):
        scrambled_counts(np.full(T, 2), np.ones((1, T)), rng=rng)
    with pytest.raises(ObsfitError, match="too many to be shuffled"):
        scrambled_counts(np.full(T, 1e9), np.full((1, T), 1e9), rng=rng)
    with pytest.raises(ObsfitError, match="weighted"):
        TimeScrambling().reconstruct(replace(whole, squared_weights=whole.counts), rng=rng)
    with pytest.raises(ConfigurationError, match="resamples 0"):
        TimeScrambling(resamples=0)


def test_lists_out_of_range_are_refused():
    rng = np.random.default_rng(1)
    with pytest.raises(ObsfitError, match="event 1: time bin 12"):
        scrambled_events([0, 12], [0, 1], GRID, rng=rng)
    with pytest.raises(ObsfitError, match="time bins of shape"):
        scrambled_events([0, 1], [0], GRID, rng=rng)


def test_errors_of_weighted_maps_need_their_events():
    rings = random_rings(1, squared=True)
    with pytest.raises(ObsfitError, match="weighted events"):
        fit_multipoles(DirectIntegration().reconstruct(rings), 1)
    with pytest.raises(ObsfitError, match="not those of the map"):
        fit_multipoles(DirectIntegration().reconstruct(rings), 1, events=random_rings(2))


def test_responses_contain_what_is_fitted():
    rings = random_rings(2)
    response = low_multipole_response(rings, lmax=1, lmax_sky=2)
    np.testing.assert_allclose(response[:, [0, 3]], np.eye(2), atol=1e-12)
    with pytest.raises(ValueError, match="lmax_sky 1"):
        map_response(DirectIntegration().reconstruct(rings), lmax=2, lmax_sky=1)
