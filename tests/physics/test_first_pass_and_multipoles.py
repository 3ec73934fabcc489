"""Direct integration, time scrambling and the low-multipole likelihood on noise-free skies that a plain sum made."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import astropy.units as u
import numpy as np
import pytest
from scipy.special import sph_harm_y

from obsfit.errors import ObsfitError
from obsfit.mock.detector import MockDetector
from obsfit.mock.observe import observe as observe_sky
from obsfit.mock.skies import harmonic_sky
from obsfit.observatory import Observatory
from obsfit.operators import Components, EnergyResponse, Pixels
from obsfit.reconstruct import time_scrambling
from obsfit.reconstruct.direct_integration import (
    DirectIntegration,
    direct_integration_map,
    expected_counts,
    first_pass_rings,
)
from obsfit.reconstruct.iterative_likelihood import convergence_factors
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood, profiled_fisher
from obsfit.reconstruct.multipoles import fit_multipoles
from obsfit.reconstruct.responses import low_multipole_response, map_response, response_operator
from obsfit.reconstruct.time_scrambling import TimeScrambling, scrambled_counts, scrambled_events
from obsfit.records import EventMap, HealpixLocalGrid, HourAngleGrid, Provenance, RingCounts

R, T, N_SUB = 36, 96, 8
KEYS = [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 3)]
GENTLE = dict(zip(KEYS, 1e-5 * np.array([10 + 4j, -3 + 5j, 2 - 6j, 4 + 1j, -2 - 3j, 5 + 2j]), strict=True))


@cache
def acceptance(latitude, cut, tilt=0.0):
    """Share of the local cells of a cos^2(theta) detector with a sharp zenith cut, and of fine declination bands."""
    n_fine, n_hour = R * N_SUB, T * 6
    dec = -np.pi / 2 + np.pi * (np.arange(n_fine)[:, None] + 0.5) / n_fine
    hour = 2 * np.pi * (np.arange(n_hour) + 0.5) / n_hour
    lat = np.radians(latitude)
    cos_theta = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(hour)
    density = np.where(cos_theta > np.cos(np.radians(cut)), cos_theta**2, 0.0) * np.cos(dec)
    density *= 1 + tilt * np.sin(hour) * np.cos(dec)
    density /= density.sum()
    return density.reshape(R, N_SUB, T, 6).sum(axis=(1, 3)), density.sum(axis=1)


def seen_sky(alm, fine):
    """Relative intensity of the sky cells: the mean over the declinations of events and over two bins of time."""
    inner = (np.arange(40) + 0.5) / 40 - 0.5
    dec = -np.pi / 2 + np.pi * (np.arange(fine.size)[:, None] + 0.5 + inner) / fine.size
    weight = fine.reshape(R, N_SUB)
    total = weight.sum(axis=1)
    alpha = 2 * np.pi * np.arange(T) / T
    offset = 2 * np.pi / T * (np.arange(300) + 0.5) / 300
    sky = np.ones((R, T))
    for (ell, m), a in alm.items():
        values = sph_harm_y(ell, m, np.pi / 2 - dec, 0).real
        values = (values * np.cos(dec)).sum(axis=1) / np.cos(dec).sum(axis=1)
        ring = (values.reshape(R, N_SUB) * weight).sum(axis=1) / np.where(total > 0, total, 1.0)
        smeared = a * np.exp(1j * m * alpha) * np.abs(np.exp(1j * m * offset).mean()) ** 2
        sky += (2.0 if m else 1.0) * (ring[:, None] * smeared).real
    return sky


def expected_cube(exposure, share, sky):
    """Expected counts of time bin, ring and hour-angle cell, (T, R, T)."""
    cell = np.arange(T)
    return np.stack([exposure[t] * share * sky[:, (t - cell) % T] for t in range(T)])


def ring_sums(cube, fine=None, name="D"):
    sky = np.zeros((R, T))
    for t in range(T):
        for j in range(T):
            sky[:, (t - j) % T] += cube[t, :, j]
    per_declination = cube.sum(axis=(0, 2)) if fine is None else fine * cube.sum()
    return RingCounts(
        cube.sum(axis=(1, 2)), cube.sum(axis=0), sky, per_declination, HourAngleGrid(R, T), name, Provenance(name)
    )


def observe(alm, latitude, cut, *, modulation=0.0, tilt=0.0, total=1e9, name="D"):
    share, fine = acceptance(latitude, cut, tilt)
    phase = 2 * np.pi * (np.arange(T) + 0.5) / T
    exposure = total / T * (1 + modulation * np.cos(phase + 1) + 0.3 * modulation * np.sin(3 * phase))
    return ring_sums(expected_cube(exposure, share, seen_sky(alm, fine)), fine, name)


def values(alm):
    return np.array([alm[key] for key in KEYS])


def parts(a):
    return np.concatenate([a.real, a.imag])


SITES = [(19.0, 50.0), (45.0, 50.0), (-90.0, 65.0)]


@pytest.mark.parametrize(("latitude", "cut"), SITES)
def test_isotropic_in_nothing_out(latitude, cut):
    rings = observe({}, latitude, cut, modulation=0.3, tilt=0.2)
    alm = LowMultipoleLikelihood().reconstruct(rings).alm
    np.testing.assert_allclose(alm, 0.0, atol=1e-9)  # condition number 1e4 at the pole, times rounding
    result = DirectIntegration().reconstruct(rings)
    np.testing.assert_allclose(result.relative_intensity[np.isfinite(result.relative_intensity)], 1.0, atol=1e-11)
    np.testing.assert_allclose(fit_multipoles(result).alm, 0.0, atol=1e-9)


@pytest.mark.parametrize(("latitude", "cut"), SITES)
@pytest.mark.parametrize("modulation", [0.0, 0.6])
def test_injected_multipoles_come_back(latitude, cut, modulation):
    """Converged, to the error of the simulation's own averages; after one step, to second order."""
    true = {key: 10 * a for key, a in GENTLE.items()}
    rings = observe(true, latitude, cut, modulation=modulation, tilt=0.1)
    found = LowMultipoleLikelihood().reconstruct(rings).alm
    worst = 2e-7 if latitude > -90 else 5e-6  # of the dipole; the pole magnifies errors by its condition
    assert np.abs(found - values(true)).max() < worst * np.abs(true[1, 1])
    one_step = LowMultipoleLikelihood(tolerance=1e9).reconstruct(rings).alm
    error = np.abs(one_step - values(true))
    assert error[0] < 5e-3 * np.abs(true[1, 1])
    if latitude == -90.0:
        return  # where the error of the averages, magnified, is larger than the second order
    half = LowMultipoleLikelihood(tolerance=1e9).reconstruct(
        observe({key: 0.5 * a for key, a in true.items()}, latitude, cut, modulation=modulation, tilt=0.1)
    )
    second_order = np.abs(half.alm - 0.5 * values(true)).max() / error.max()
    assert second_order == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("gap", "refused"), [(20, False), (40, True)])
def test_a_gap_wider_than_the_field_of_view_is_refused_by_name(gap, refused):
    """The field of view is 28 of 96 cells wide."""
    share, fine = acceptance(19.0, 50.0)
    exposure = np.where(np.arange(T) < gap, 0.0, 1e7)
    true = {key: 10 * a for key, a in GENTLE.items()}
    rings = ring_sums(expected_cube(exposure, share, seen_sky(true, fine)), fine)
    if refused:
        with pytest.raises(ObsfitError, match=r"D: a gap of 40 time bins \(10.00 h"):
            LowMultipoleLikelihood().reconstruct(rings)
    else:
        found = LowMultipoleLikelihood().reconstruct(rings).alm
        assert np.abs(found - values(true)).max() < 1e-6 * np.abs(true[1, 1])


def test_two_detectors_see_one_sky_where_one_alone_cannot():
    true = {key: 10 * a for key, a in GENTLE.items()}
    pair = [observe(true, 19.0, 50.0, modulation=0.4, name="A"), observe(true, -90.0, 65.0, tilt=0.3, name="B")]
    result = LowMultipoleLikelihood().reconstruct(pair)
    assert np.abs(result.alm - values(true)).max() < 2e-6 * np.abs(true[1, 1])
    alone = np.diag(LowMultipoleLikelihood().reconstruct(pair[1]).covariance)
    assert np.all(np.diag(result.covariance) < 0.01 * alone.max())
    turned = LowMultipoleLikelihood().reconstruct(pair[::-1])
    np.testing.assert_allclose(turned.alm, result.alm, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", [LowMultipoleLikelihood(), DirectIntegration()])
def test_relabelled_times_turn_the_sky_and_relabelled_hour_angles_do_nothing(method):
    rings = observe(GENTLE, 19.0, 50.0, modulation=0.4, tilt=0.2)
    shift = 17

    def multipoles_of(counts):
        result = method.reconstruct(counts)
        return (result if isinstance(method, LowMultipoleLikelihood) else fit_multipoles(result)).alm

    plain = multipoles_of(rings)
    later = replace(rings, per_time=np.roll(rings.per_time, shift), per_sky=np.roll(rings.per_sky, shift, axis=1))
    m = np.array([m for _, m in KEYS])
    np.testing.assert_allclose(multipoles_of(later), plain * np.exp(-2j * np.pi * m * shift / T), atol=1e-15)
    # Time bins and hour-angle cells counted from elsewhere, both by the same: right ascensions stay.
    both = replace(rings, per_time=np.roll(rings.per_time, shift), per_cell=np.roll(rings.per_cell, shift, axis=1))
    np.testing.assert_allclose(multipoles_of(both), plain, atol=1e-15)


@pytest.mark.parametrize(
    ("latitude", "kept"), [(0.0, 0.160), (19.0, 0.180), (30.0, 0.218), (45.0, 0.346), (70.0, 0.739)]
)
def test_direct_integration_keeps_a_known_share_of_the_first_harmonic(latitude, kept):
    share, _ = acceptance(latitude, 50.0)
    amplitude = share @ np.exp(-2j * np.pi * np.arange(T) / T)
    per_ring = share.sum(axis=1)
    shape = np.divide(amplitude, per_ring, out=np.zeros_like(amplitude), where=per_ring > 0).conj()
    seen = first_pass_rings(share, 1) @ shape
    np.testing.assert_allclose(seen, kept * shape, atol=0.002)


def test_inflation_of_the_noise_of_the_common_waves():
    """1 / (1 - rho_m) at latitude 19 degrees with a cut of 50 degrees: 5.5, 1.8 and 1.2."""
    share, _ = acceptance(19.0, 50.0)
    for m, inflation in ((1, 5.5), (2, 1.8), (3, 1.2)):
        kept = np.abs(np.linalg.eigvals(first_pass_rings(share, m)))
        smallest = kept[kept > 1e-9].min()
        assert 1 / smallest == pytest.approx(inflation, abs=0.05)
        assert convergence_factors([share])[m, 0, 0] == pytest.approx(1 - smallest, abs=1e-12)


def test_profiled_error_is_the_naive_one_times_the_root_of_the_inflation():
    """sigma(Re a_11) sqrt(n) for l = 1 alone, 5.16 instead of 2.29."""
    rings = observe({}, 19.0, 50.0)
    profiled = np.sqrt(rings.total / profiled_fisher(rings, 1)[0, 0])
    assert profiled == pytest.approx(5.16, rel=0.01)
    _, fine = acceptance(19.0, 50.0)
    dec = -np.pi / 2 + np.pi * (np.arange(fine.size) + 0.5) / fine.size
    naive = 1 / np.sqrt(2 * 3 / (8 * np.pi) * (fine * np.cos(dec) ** 2).sum())
    assert naive == pytest.approx(2.29, rel=0.005)


@pytest.mark.parametrize("window_hours", [24.0, 8.0, 2.0])
@pytest.mark.parametrize(("latitude", "cut"), SITES)
def test_direct_integration_answers_as_its_response_says(latitude, cut, window_hours):
    """Map by map and multipole by multipole, exposure modulated and acceptance tilted; errors of second order."""
    share, _ = acceptance(latitude, cut, 0.2)
    exposure = 1e9 / T * (1 + 0.3 * np.cos(2 * np.pi * np.arange(T) / T + 1))
    true = GENTLE | {(4, 1): 6e-5 - 2e-5j, (4, 4): -3e-5 + 4e-5j}
    band = share.sum(axis=1)  # an event map knows bands, not finer declinations
    sky = seen_sky(true, np.repeat(band / N_SUB, N_SUB))
    cube = expected_cube(exposure, share, sky)
    events = EventMap(cube.reshape(T, R * T), HourAngleGrid(R, T), "D", Provenance("D"))
    result = DirectIntegration(window_hours).reconstruct(events)
    predicted = direct_integration_map(sky - 1, [exposure], [share], window_hours=window_hours)
    seen = np.isfinite(result.relative_intensity)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    predicted -= np.where(seen, predicted, 0.0).sum(axis=1, keepdims=True) / count
    np.testing.assert_allclose((result.relative_intensity - 1)[seen], predicted[seen], atol=5e-8)  # delta^2
    found = fit_multipoles(result).alm
    keys = sorted([*KEYS, (4, 1), (4, 2), (4, 3), (4, 4)], key=lambda key: (key[1], key[0]))
    sky_alm = np.array([true.get(key, 0.0) for key in keys])
    expected = map_response(result, lmax_sky=4) @ parts(sky_alm)
    worst = 1e-2 if latitude > -90 else 0.3
    assert np.abs(parts(found) - expected).max() < worst * np.abs(true[1, 1])


def test_a_dipole_alone_is_kept_at_the_pole_and_nearly_lost_at_mid_latitude():
    dipole = {(1, 1): 1e-4 + 2e-4j}
    kept = {}
    for latitude, cut in ((0.0, 50.0), (19.0, 50.0), (30.0, 50.0), (-90.0, 65.0)):
        result = DirectIntegration().reconstruct(observe(dipole, latitude, cut))
        kept[latitude] = np.abs(fit_multipoles(result, 1).alm[0] / dipole[1, 1])
        response = map_response(result, lmax=1, lmax_sky=1)
        assert kept[latitude] == pytest.approx(response[0, 0], rel=1e-3)
    assert 0.155 < kept[0.0] < kept[19.0] < kept[30.0] < 0.25
    assert kept[-90.0] == pytest.approx(1.0, abs=1e-3)


def test_shorter_windows_keep_less():
    share, fine = acceptance(19.0, 50.0)
    cube = expected_cube(np.full(T, 1e7), share, seen_sky({(1, 1): 1e-4}, fine)).reshape(T, R * T)
    events = EventMap(cube, HourAngleGrid(R, T), "D", Provenance("D"))
    kept = [
        np.abs(fit_multipoles(DirectIntegration(hours).reconstruct(events), 1).alm[0])
        for hours in (24, 12, 8, 4, 2)
    ]
    assert np.all(np.array(kept[1:]) < 0.35 * kept[0])


def test_a_healpix_map_of_another_simulation_has_the_multipoles_of_its_sky():
    """Pixels of 1.8 degrees are deposited whole on the rings: 1e-3 of a dipole, as a look-up on pixels has."""
    alm = np.zeros(10, dtype=complex)
    alm[4:] = 10 * values(GENTLE)
    hawc = Observatory("HAWC", 19 * u.deg, -97.3 * u.deg, 50 * u.deg)
    grid = HealpixLocalGrid(32, np.radians(19.0))
    events = observe_sky(harmonic_sky(alm), MockDetector(hawc), n_events=1e9, grid=grid, asimov=True, n_time=180)
    found = LowMultipoleLikelihood().reconstruct(events).alm
    assert np.abs(found - alm[4:]).max() < 4e-3 * np.abs(alm[4])
    result = DirectIntegration(8.0).reconstruct(events)
    response = map_response(result, lmax_sky=3) @ parts(alm[4:])
    assert np.abs(parts(fit_multipoles(result).alm) - response).max() < 4e-3 * np.abs(alm[4])


def test_higher_multipoles_leak_into_a_truncated_likelihood_as_its_response_says():
    rings = observe({(4, 1): 1e-4 - 5e-5j, (5, 2): 3e-5}, 19.0, 50.0, modulation=0.3, tilt=0.1)
    found = LowMultipoleLikelihood().reconstruct(rings).alm
    keys = [(ell, m) for m in range(1, 6) for ell in range(m, 6)]
    sky = np.array([{(4, 1): 1e-4 - 5e-5j, (5, 2): 3e-5}.get(key, 0.0) for key in keys])
    expected = low_multipole_response(rings, lmax_sky=5) @ parts(sky)
    assert np.abs(expected).max() > 5e-5
    np.testing.assert_allclose(parts(found), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_operator_of_direct_integration_folds_a_sky_forward():
    rings = observe(GENTLE, 19.0, 50.0)
    result = DirectIntegration().reconstruct(rings)
    fitted = fit_multipoles(result)
    summary = Components(np.zeros((1, 2, 2)))
    operator = response_operator(
        map_response(result, lmax_sky=6), fitted.covariance, energy=EnergyResponse.delta([10.0]), summary=summary
    )
    assert 0 not in operator.response
    sky = np.zeros(28, dtype=complex)
    for ell, m in KEYS:
        sky[m * (2 * 6 + 1 - m) // 2 + ell] = GENTLE[ell, m]
    dipole = np.sqrt(1.5 / np.pi) * np.array([-fitted.alm[0].real, fitted.alm[0].imag])
    np.testing.assert_allclose(operator.observe(sky[None]), dipole, atol=2e-8)
    assert operator.noise[1][0, 1, 1] == pytest.approx(fitted.covariance[0, 0] + fitted.covariance[6, 6])
    converged = replace(result, spec=replace(result.spec, method="iterative-likelihood"))
    same = map_response(converged, lmax_sky=6)
    np.testing.assert_allclose(same[:3, :3], np.eye(3), atol=1e-9)


def test_a_modulated_exposure_has_no_operator_that_treats_each_m_by_itself():
    rings = observe({}, 19.0, 50.0, modulation=0.4)
    result = DirectIntegration().reconstruct(rings)
    with pytest.raises(ObsfitError, match="mixes"):
        response_operator(
            map_response(result, lmax_sky=4),
            fit_multipoles(result).covariance,
            energy=EnergyResponse.delta([10.0]),
            summary=Pixels.healpix(1),
        )


@cache
def few_events():
    share, _ = acceptance(19.0, 50.0)
    exposure = 4e5 / T * (1 + 0.3 * np.cos(2 * np.pi * np.arange(T) / T))
    return np.random.default_rng(2).poisson(expected_cube(exposure, share, np.ones((R, T))))


@pytest.mark.parametrize("route", ["list", "table", "replace"])
def test_the_mean_of_scramblings_is_direct_integration(route, monkeypatch):
    """rms of (mean - E) / sqrt(E / K) is one: 1 % to 2 % of chance with 1800 cells, 4 sigma allowed."""
    if route == "table":
        monkeypatch.setattr(time_scrambling, "LARGEST_LIST", 0)
    rings = ring_sums(few_events().astype(float))
    expected = expected_counts(rings.per_time, rings.per_cell)
    enough = expected > 5.0
    rng = np.random.default_rng(3)
    draws = [
        scrambled_counts(rings.per_time, rings.per_cell, rng=rng, replace=route == "replace") for _ in range(100)
    ]
    for count in (1, 10, 20, 100):
        mean = np.mean(draws[:count], axis=0)
        rms = np.sqrt(np.mean((mean - expected)[enough] ** 2 / (expected[enough] / count)))
        assert rms == pytest.approx(1.0, abs=4 / np.sqrt(2 * enough.sum()))
        np.testing.assert_allclose(mean.sum(axis=1), rings.per_cell.sum(axis=1), rtol=1e-12)


def test_windows_of_scrambling_have_the_background_of_windows_of_direct_integration():
    cube = few_events()
    events = EventMap(cube.reshape(T, R * T), HourAngleGrid(R, T), "D", Provenance("D"))
    expected = DirectIntegration(6.0).reconstruct(events)
    scrambled = TimeScrambling(60, 6.0).reconstruct(events, rng=np.random.default_rng(4))
    whole = DirectIntegration().reconstruct(events)
    enough = expected.expected > 5.0

    def rms(background):
        return np.sqrt(np.mean((scrambled.expected - background)[enough] ** 2 / background[enough] * 60))

    assert rms(expected.expected) == pytest.approx(1.0, abs=0.1)
    assert rms(whole.expected) > 1.5


def test_scrambled_lists_have_the_background_of_scrambled_counts():
    cube = few_events()
    time_bin, cell = (np.repeat(index.ravel(), cube.ravel()) for index in np.indices((T, R * T)))
    grid = HourAngleGrid(R, T)
    events = EventMap(cube.reshape(T, R * T), grid, "D", Provenance("D"))
    rng = np.random.default_rng(5)
    shuffled = rng.permutation(time_bin.size)
    for hours, window in ((24.0, None), (6.0, time_bin // (T // 4))):
        expected = DirectIntegration(hours).reconstruct(events).expected
        enough = expected > 5.0
        mean = np.zeros((R, T))
        for _ in range(8):
            labels = None if window is None else window[shuffled]
            mean += scrambled_events(time_bin[shuffled], cell[shuffled], grid, rng=rng, window=labels) / 8
        rms = np.sqrt(np.mean((mean - expected)[enough] ** 2 / expected[enough] * 8))
        assert rms == pytest.approx(1.0, abs=0.1)
    heavy = scrambled_events(time_bin, cell, grid, rng=rng, weights=np.full(time_bin.size, 2.5))
    assert heavy.sum() == pytest.approx(2.5 * time_bin.size)
