"""One-dimensional methods on noise-free skies of l <= 3: each returns what its response predicts.

The simulation is written out here: skies as polynomials of textbook harmonics, counts as products of integrals over
time bins and over cells, both finer than any bin. It shares nothing with the methods.
"""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.operators.projections import east_west_row, forward_backward_row, right_ascension_row
from obsfit.reconstruct.direct_integration import DirectIntegration
from obsfit.reconstruct.east_west import EastWest, east_west_asymmetry, east_west_events
from obsfit.reconstruct.forward_backward import ForwardBackward
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.rayleigh import Rayleigh, rayleigh
from obsfit.reconstruct.right_ascension import RightAscensionProjection
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance

# Y_lm = norm * profile(dec) * exp(i m alpha), from any textbook.
HARMONICS = {
    (1, 1): (-np.sqrt(3 / (8 * np.pi)), lambda s, c: c),
    (2, 1): (-np.sqrt(15 / (8 * np.pi)), lambda s, c: s * c),
    (3, 1): (-np.sqrt(21 / (64 * np.pi)), lambda s, c: c * (5 * s**2 - 1)),
    (2, 2): (np.sqrt(15 / (32 * np.pi)), lambda s, c: c**2),
    (3, 2): (np.sqrt(105 / (32 * np.pi)), lambda s, c: s * c**2),
    (3, 3): (-np.sqrt(35 / (64 * np.pi)), lambda s, c: c**3),
}
SCALE = 1e-6
SKY = {
    (1, 1): 3.0 - 2.0j,
    (2, 1): -1.0 + 2.5j,
    (3, 1): 2.0 + 1.0j,
    (2, 2): 1.5 - 1.0j,
    (3, 2): -2.0 + 0.5j,
    (3, 3): 1.0 + 2.0j,
}
DIPOLE = {(1, 1): 3.0 - 2.0j}
ZONAL = {1: 2.0, 2: -1.5, 3: 1.0}


def components_of(sky, rows, harmonic):
    """cos and sin of harmonic n on the equator for the seen a_nn: 2 Re(a Y_nn)."""
    seen = sum(rows[ell] * a for (ell, m), a in sky.items() if m == harmonic)
    norm = 2.0 * HARMONICS[harmonic, harmonic][0]
    return SCALE * norm * np.array([seen.real, -seen.imag])


def local_direction(hour_angle, dec, latitude):
    """Zenith angle and azimuth from North through East."""
    up = np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(hour_angle)
    north = np.cos(latitude) * np.sin(dec) - np.sin(latitude) * np.cos(dec) * np.cos(hour_angle)
    east = -np.sin(hour_angle) * np.cos(dec)
    return np.arccos(np.clip(up, -1, 1)), np.arctan2(east, north)


def profiles(sky, dec, scale=SCALE):
    """cos and sin coefficients of each order at a declination; order 0 from ZONAL if asked for."""
    s, c = np.sin(dec), np.cos(dec)
    found = {}
    for (ell, m), a in sky.items():
        norm, profile = HARMONICS[ell, m]
        cosine, sine = found.get(m, (0.0, 0.0))
        value = 2.0 * scale * norm * profile(s, c)
        found[m] = (cosine + value * a.real, sine - value * a.imag)
    return found


def time_integrals(exposure, n_time, order, n_sub=24):
    """Mean of exposure times cos and sin of the order in each bin."""
    tau = 2 * np.pi * (np.arange(n_time * n_sub) + 0.5) / (n_time * n_sub)
    values = exposure(tau)
    return [(values * f(order * tau)).reshape(n_time, n_sub).mean(axis=1) for f in (np.cos, np.sin)]


def assemble(sky, measure, dec, hour_angle, fold, exposure, n_time, monopole=0.0, scale=SCALE):
    """Counts (time, pixel) of 1 + monopole(dec) + sky; `fold` sums fine cells into pixels."""
    flat = time_integrals(exposure, n_time, 0)[0]
    counts = np.outer(flat, fold(measure * (1.0 + monopole)))
    for m, (cosine, sine) in profiles(sky, dec, scale).items():
        time_cos, time_sin = time_integrals(exposure, n_time, m)
        for local, trig in ((np.cos(m * hour_angle), 0), (np.sin(m * hour_angle), 1)):
            # cos m(tau - h) = cos cos + sin sin; sin m(tau - h) = sin cos - cos sin
            in_time = (time_cos, time_sin)[trig]
            counts += np.outer(in_time, fold(measure * cosine * local))
            in_time = (time_sin, -time_cos)[trig]
            counts += np.outer(in_time, fold(measure * sine * local))
    return counts


def flat_detector(zenith, azimuth):
    return np.cos(zenith)


def even(tau):
    return np.ones_like(tau)


def modulated(tau):
    return 1.0 + 0.6 * np.cos(tau - 1.0)


def on_rings(
    sky, *, latitude=30.0, cut=50.0, n_dec=96, n_time=180, acceptance=flat_detector, exposure=even, **more
):
    n_sub = 6
    dec = -np.pi / 2 + np.pi * (np.arange(n_dec * n_sub) + 0.5) / (n_dec * n_sub)
    hour = 2 * np.pi * (np.arange(n_time * n_sub) + 0.5) / (n_time * n_sub)
    dec, hour = np.meshgrid(dec, hour, indexing="ij")
    zenith, azimuth = local_direction(hour, dec, np.radians(latitude))
    measure = np.where(zenith < np.radians(cut), acceptance(zenith, azimuth) * np.cos(dec), 0.0)

    def fold(values):
        return values.reshape(n_dec, n_sub, n_time, n_sub).mean(axis=(1, 3)).ravel()

    counts = 1e6 * assemble(sky, measure, dec, hour, fold, exposure, n_time, **more)
    return EventMap(counts, HourAngleGrid(n_dec, n_time), "mock", Provenance("mock"))


def on_healpix(sky, *, latitude=30.0, cut=50.0, nside=32, n_time=180, acceptance=flat_detector, exposure=even):
    fine = 8 * nside
    zenith, longitude = hp.pix2ang(fine, np.arange(12 * fine**2), nest=True)
    azimuth = -longitude
    sin_dec = np.sin(np.radians(latitude)) * np.cos(zenith) + np.cos(np.radians(latitude)) * np.sin(
        zenith
    ) * np.cos(azimuth)
    dec = np.arcsin(np.clip(sin_dec, -1, 1))
    hour = np.arctan2(
        -np.sin(azimuth) * np.sin(zenith),
        np.cos(np.radians(latitude)) * np.cos(zenith)
        - np.sin(np.radians(latitude)) * np.sin(zenith) * np.cos(azimuth),
    )
    measure = np.where(zenith < np.radians(cut), acceptance(zenith, azimuth), 0.0)
    order = hp.nest2ring(nside, np.arange(12 * nside**2))

    def fold(values):
        out = np.empty(12 * nside**2)
        out[order] = values.reshape(12 * nside**2, 64).mean(axis=1)
        return out

    counts = 1e6 * assemble(sky, measure, dec, hour, fold, exposure, n_time)
    return EventMap(counts, HealpixLocalGrid(nside, np.radians(latitude)), "mock", Provenance("mock"))


def check(result, rows, sky=SKY, rel=2e-3):
    """All components within rel of their harmonic.

    What is left is of the cells that the edge of the field cuts, and falls with them: for the worst harmonic of
    East-West 1.0e-3 on 96 x 180, 6e-4 on 128 x 360 cells, 1.9e-3 at nside 32, 5e-4 at nside 64.
    """
    for n, row in rows.items():
        expected = components_of(sky, row, n)
        np.testing.assert_allclose(result.components[n - 1], expected, atol=rel * np.hypot(*expected))


# A detector that tilts, and is not symmetric between North and South: only East and West must agree.
def tilted(zenith, azimuth):
    return np.cos(zenith) ** 2 * (1.0 + 0.3 * np.sin(zenith) * np.cos(azimuth))


@pytest.mark.parametrize(("latitude", "cut"), [(30.0, 50.0), (-70.0, 60.0)])
@pytest.mark.parametrize("build", [on_rings, on_healpix])
def test_east_west_returns_what_its_response_predicts(build, latitude, cut):
    events = build(SKY, latitude=latitude, cut=cut, acceptance=tilted)
    method = EastWest(harmonics=3)
    check(method.reconstruct(events), method.response(events, 3))


@pytest.mark.parametrize("weight", ["counts", "solid-angle"])
@pytest.mark.parametrize("corrected", [True, False])
def test_forward_backward_returns_what_its_response_predicts(weight, corrected):
    """With an acceptance that is nowhere symmetric, which is eliminated pair by pair."""

    def lopsided(zenith, azimuth):
        return np.cos(zenith) * (1.0 + 0.4 * np.sin(zenith) * np.sin(azimuth))

    # Equal solid angle gives full weight to bands of which the field sees but a corner, less than a pixel at nside 32.
    tolerance = {on_rings: 4e-3, on_healpix: 4e-3 if weight == "counts" else 1.5e-2}
    for build, rel in tolerance.items():
        events = build(SKY, acceptance=lopsided, exposure=modulated)
        method = ForwardBackward(harmonics=3, weight=weight, corrected=corrected)
        check(method.reconstruct(events), method.response(events, 3), rel=rel)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("build", [on_rings, on_healpix])
def test_rayleigh_returns_what_its_response_predicts(build, corrected):
    events = build(SKY, acceptance=tilted)
    method = Rayleigh(harmonics=3, corrected=corrected)
    check(method.reconstruct(events), method.response(events, 3))
    if build is on_rings:
        sums = ring_counts(events)
        # A mean of cosines is rounded like one, not like the 1e-6 that is left: processors differ by 4e-16.
        np.testing.assert_allclose(
            method.reconstruct(sums).components, method.reconstruct(events).components, rtol=1e-9, atol=4e-15
        )


def test_rayleigh_with_the_exposure_of_each_time_bin():
    """Exposure modulated by 60 %: corrected within 2e-3 (bins of 2 degrees); uncorrected it would be 0.6."""
    events = on_rings(SKY, exposure=modulated, n_time=180)
    live = tuple(time_integrals(modulated, 180, 0)[0])
    method = Rayleigh(harmonics=3, exposure=(live,))
    check(method.reconstruct(events), method.response(events, 3), rel=2e-3)
    assert Rayleigh().reconstruct(events).amplitude[0] > 0.5


@pytest.mark.parametrize("estimator", ["summed-counts", "mean-of-pixels"])
@pytest.mark.parametrize("map_method", [None, IterativeLikelihood(), DirectIntegration()])
def test_projection_returns_what_its_response_predicts(estimator, map_method):
    """Even exposure. Direct integration loses most of the dipole, and its response knows how much."""
    events = on_rings(SKY)
    method = RightAscensionProjection(estimator=estimator, map_method=map_method)
    made = (map_method or IterativeLikelihood()).reconstruct(events)
    check(method.reconstruct(events), method.response(made, 3), rel=2e-3)


@pytest.mark.parametrize("map_method", [IterativeLikelihood(), DirectIntegration()])
def test_projection_with_modulated_exposure_mixes_as_its_matrix_says(map_method):
    """Orders mix where the background is summed: up to 40 % of harmonic 3 without the matrix, 2e-3 with it."""
    events = on_rings(SKY, exposure=modulated)
    method = RightAscensionProjection(map_method=map_method)
    made = map_method.reconstruct(events)
    order = [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 3)]
    alm = SCALE * np.array([SKY[key] for key in order])
    expected = (method.response_matrix(made, 3) @ np.concatenate([alm.real, alm.imag])).reshape(-1, 2)
    found = method.project(made).components
    np.testing.assert_allclose(found, expected, atol=3e-3 * np.abs(expected).max())


def test_on_the_default_grid_all_agree_to_a_thousandth():
    events = on_rings(SKY, n_dec=128, n_time=360, acceptance=tilted, exposure=modulated)
    live = tuple(time_integrals(modulated, 360, 0)[0])
    for method in (EastWest(harmonics=3), ForwardBackward(harmonics=3), Rayleigh(harmonics=3, exposure=(live,))):
        check(method.reconstruct(events), method.response(events, 3), rel=1e-3)


def test_every_method_returns_a_pure_dipole_as_it_is():
    """(delta_0h, delta_6h) = sqrt(3/2 pi) (-Re a_11, Im a_11), whatever the latitude and the acceptance."""
    truth = SCALE * np.sqrt(3 / (2 * np.pi)) * np.array([-3.0, -2.0])
    for latitude, cut in ((19.0, 50.0), (-60.0, 55.0)):
        events = on_rings(DIPOLE, latitude=latitude, cut=cut, acceptance=tilted)
        for method in (
            EastWest(),
            ForwardBackward(),
            Rayleigh(),
            RightAscensionProjection(map_method=IterativeLikelihood()),
        ):
            found = method.reconstruct(events).components[0]
            np.testing.assert_allclose(found, truth, atol=1e-3 * np.hypot(*truth), err_msg=type(method).__name__)


def test_exposure_modulated_by_sixty_percent_leaves_east_west_unchanged():
    """Bins of one degree: 3e-4, the bins' own; the asymmetry itself never sees the exposure."""
    quiet, loud = (on_rings(SKY, exposure=e, n_time=360, n_dec=32) for e in (even, modulated))
    a, b = (EastWest().reconstruct(events).components for events in (quiet, loud))
    np.testing.assert_allclose(a, b, atol=5e-4 * np.hypot(*a[0]))


def test_asymmetric_acceptance_stays_at_zero_frequency():
    """Prediction by quadrature over the local sky; the sidereal harmonics do not move, exposure modulated or not."""

    def lopsided(zenith, azimuth):
        return np.cos(zenith) * (1.0 + 0.2 * np.sign(np.sin(azimuth)))

    for exposure in (even, modulated):
        fair = on_rings(SKY, exposure=exposure, n_dec=32)
        unfair = on_rings(SKY, exposure=exposure, n_dec=32, acceptance=lopsided)
        seen = east_west_asymmetry(unfair)
        assert np.mean(seen.asymmetry) == pytest.approx(0.2, rel=1e-5)
        a, b = (EastWest(harmonics=3).reconstruct(events).components for events in (fair, unfair))
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(a).max())

    def leaning(zenith, azimuth):
        return np.cos(zenith) * (1.0 + 0.3 * np.sin(zenith) * np.sin(azimuth))

    z, az = np.meshgrid(np.linspace(0, np.radians(50), 2001), np.linspace(0, np.pi, 2001), indexing="ij")
    measure = np.cos(z) * np.sin(z)
    predicted = np.sum(measure * 0.3 * np.sin(z) * np.sin(az)) / np.sum(measure)
    seen = east_west_asymmetry(on_rings(SKY, acceptance=leaning))
    assert np.mean(seen.asymmetry) == pytest.approx(predicted, rel=2e-3)


def test_second_order_of_east_west_is_the_stated_one():
    """Relative error -<cos zenith> sin(latitude) delta_N for a dipole of 3 % towards the pole."""
    latitude, delta_n = 40.0, 0.03
    n_sub = np.sin(-np.pi / 2 + np.pi * (np.arange(64 * 6) + 0.5) / (64 * 6))[:, None]
    plain = on_rings(DIPOLE, latitude=latitude, n_dec=64)
    polar = on_rings(DIPOLE, latitude=latitude, n_dec=64, monopole=delta_n * n_sub)
    a, b = (np.hypot(*EastWest().reconstruct(e).components[0]) for e in (plain, polar))
    z = np.linspace(0, np.radians(50), 4001)
    mean_cosine = np.sum(np.cos(z) ** 2 * np.sin(z)) / np.sum(np.cos(z) * np.sin(z))
    predicted = -mean_cosine * np.sin(np.radians(latitude)) * delta_n
    # The measured step shifts by a term of the same order, which is small for a field symmetric about the zenith.
    assert b / a - 1.0 == pytest.approx(predicted, abs=0.1 * abs(predicted))


def test_half_bin_error_of_public_codes_is_absent():
    """12, 36 and 360 time bins: phases agree within 0.02 deg; left edges would give 15, 5 and 0.5 deg."""
    truth = np.degrees(np.arctan2(-2.0, -3.0)) % 360.0
    for n_time in (12, 36, 360):
        events = on_healpix(DIPOLE, n_time=n_time, nside=16)
        for method in (EastWest(), ForwardBackward(), Rayleigh()):
            result = method.reconstruct(events)
            assert np.degrees(result.phase_rad[0]) == pytest.approx(truth, abs=0.02), (n_time, method)
            assert result.amplitude[0] == pytest.approx(SCALE * np.sqrt(3 / (2 * np.pi)) * np.sqrt(13.0), rel=3e-3)


def test_ring_grids_of_few_bins_have_no_half_bin_error_either():
    """Cells of 30 and 10 degrees of hour angle: amplitudes are off by the cells, phases by less than a hundredth."""
    truth = np.degrees(np.arctan2(-2.0, -3.0)) % 360.0
    for n_time in (12, 36, 360):
        events = on_rings(DIPOLE, n_time=n_time, n_dec=48)
        made = IterativeLikelihood().reconstruct(events)
        results = [m.reconstruct(events) for m in (EastWest(), ForwardBackward(), Rayleigh())]
        results.append(RightAscensionProjection(harmonics=1).project(made))
        for result in results:
            assert np.degrees(result.phase_rad[0]) == pytest.approx(truth, abs=0.02), n_time


def test_the_width_of_bins_is_corrected():
    """Twelve bins at the pole, where cells see all hour angles alike: amplitudes of three harmonics within 2e-3.

    Uncorrected, harmonics 1 to 3 would be 1.1, 4.5 and 10 % low for each of time bin and hour-angle cell.
    """
    events = on_rings(SKY, latitude=90.0, n_time=12, n_dec=96)
    made = IterativeLikelihood().reconstruct(events)
    methods = (ForwardBackward(harmonics=3), Rayleigh(harmonics=3))
    found = [(m.reconstruct(events), m.response(events, 3)) for m in methods]
    projection = RightAscensionProjection()
    found.append((projection.project(made), projection.response(made, 3)))
    for result, rows in found:
        check(result, rows, rel=2e-3)
    check(EastWest().reconstruct(events), EastWest().response(events, 3), rel=1e-3)
    pixels = on_healpix(SKY, latitude=90.0, n_time=12, nside=32)
    for method in (EastWest(), Rayleigh(harmonics=3)):
        check(method.reconstruct(pixels), method.response(pixels, 3), rel=2e-3)


def test_a_clock_that_starts_later_turns_the_sky():
    """Time bins relabelled by s: every phase moves by exactly s bins, nothing else changes."""
    events = on_rings(SKY, n_time=60, n_dec=32)
    later = EventMap(np.roll(events.counts, 7, axis=0), events.grid, "mock", Provenance("mock"))
    for method in (EastWest(harmonics=2), ForwardBackward(harmonics=2), Rayleigh(harmonics=2)):
        before, after = method.reconstruct(events), method.reconstruct(later)
        for n in (1, 2):
            a = before.components[n - 1] @ [1.0, 1.0j] * np.exp(1j * n * 7 * 2 * np.pi / 60)
            b = after.components[n - 1] @ [1.0, 1.0j]
            assert abs(a - b) < 1e-9 * abs(a)


def test_exchanging_east_and_west_reverses_the_derivative():
    """A sky mirrored in right ascension, seen by a detector mirrored in azimuth, gives the mirrored dipole."""
    events = on_rings(SKY, n_time=60, n_dec=32, acceptance=tilted)
    grid = events.grid
    cube = events.counts.reshape(60, 32, 60)[::-1, :, ::-1].reshape(60, -1)
    mirrored = EventMap(cube, grid, "mock", Provenance("mock"))
    for method in (EastWest(harmonics=3), ForwardBackward(harmonics=3), Rayleigh(harmonics=3)):
        a, b = method.reconstruct(events).components, method.reconstruct(mirrored).components
        np.testing.assert_allclose(b, a * [1.0, -1.0], rtol=1e-9, atol=1e-15)


def test_responses_of_measured_events_are_the_rows_of_the_operators():
    """Rows by quadrature over the local sky and over declination, which know no cells."""
    events = on_rings({}, n_time=180, n_dec=90)
    rows = EastWest(harmonics=3).response(events, 6)
    for n in (1, 2, 3):
        expected = east_west_row(30 * u.deg, 50 * u.deg, 6, harmonic=n, order=200)
        np.testing.assert_allclose(rows[n], expected, atol=2e-3 * np.abs(expected).max())
    made = IterativeLikelihood().reconstruct(events)
    projection = RightAscensionProjection(estimator="mean-of-pixels", corrected=False).response(made, 6)
    back = ForwardBackward(harmonics=3, weight="solid-angle", corrected=False, n_bands=90).response(events, 6)
    for n in (1, 2, 3):
        expected = right_ascension_row(-20 * u.deg, 80 * u.deg, 6, harmonic=n)
        np.testing.assert_allclose(projection[n], expected, atol=2e-3 * np.abs(expected).max())
        expected = forward_backward_row(-20 * u.deg, 80 * u.deg, 6, offset=20 * u.deg, harmonic=n)
        np.testing.assert_allclose(back[n], expected, atol=2e-3 * np.abs(expected).max())
    weighted = Rayleigh(harmonics=3, corrected=False).response(events, 6)
    dec, weight = _declinations_of(30.0, 50.0)
    histogram, edges = np.histogram(np.sin(dec), np.sin(np.radians(np.linspace(-20, 80, 401))), weights=weight)
    middle = 0.5 * (edges[1:] + edges[:-1])
    values = histogram / np.diff(edges)
    for n in (1, 2, 3):
        expected = right_ascension_row(
            -20 * u.deg, 80 * u.deg, 6, harmonic=n, weight=lambda s: np.interp(s, middle, values)
        )
        np.testing.assert_allclose(weighted[n], expected, atol=2e-3 * np.abs(expected).max())


def _declinations_of(latitude, cut):
    """Declinations of a fine grid of local directions and their share of the events."""
    zenith, azimuth = np.meshgrid(
        np.radians(cut) * (np.arange(1500) + 0.5) / 1500, np.pi * (np.arange(1500) + 0.5) / 1500, indexing="ij"
    )
    phi = np.radians(latitude)
    dec = np.arcsin(np.sin(phi) * np.cos(zenith) + np.cos(phi) * np.sin(zenith) * np.cos(azimuth))
    return dec.ravel(), (np.sin(zenith) * np.cos(zenith)).ravel()


def test_single_events_are_the_limit_of_fine_bins():
    """Every count of a map as an event in the middle of its bins, weighted: the binned result without its windows."""
    events = on_rings(SKY, n_time=60, n_dec=32, exposure=modulated)
    grid = events.grid
    time, pixel = np.nonzero(events.counts)
    ring, cell = np.divmod(pixel, grid.n_time)
    tau = 2 * np.pi * (time + 0.5) / 60
    hour, dec = 2 * np.pi * (cell + 0.5) / 60, -np.pi / 2 + np.pi * (ring + 0.5) / 32
    zenith, azimuth = local_direction(hour, dec, np.radians(30.0))
    weights = events.counts[time, pixel]
    single = east_west_events(tau, azimuth, zenith, weights=weights, fitted_harmonics=3)
    window = np.sinc(1.0 / 60.0)
    binned = EastWest().reconstruct(events).components[0]
    np.testing.assert_allclose(single.components / window**2, binned, rtol=5e-4)
    alone = rayleigh(tau - hour, dec_rad=dec, weights=weights)
    np.testing.assert_allclose(
        alone.equatorial_components[0] / window**2, Rayleigh().reconstruct(events).components[0], rtol=5e-4
    )


def test_bonino_for_even_exposure():
    """a = (2/N) sum cos(LST - zeta), zeta = 0 in the East and pi in the West; d = pi r / (2 <sin zenith>)."""
    rng = np.random.default_rng(3)
    n = 40_000
    tau = 2 * np.pi * (np.arange(n) + 0.5) / n
    azimuth = rng.permutation(2 * np.pi * (np.arange(n) + 0.5) / n)
    zenith = np.arcsin(np.sqrt(rng.uniform(0, 0.75, n)))
    zeta = np.where(np.sin(azimuth) > 0, 0.0, np.pi)
    a, b = 2 / n * np.cos(tau - zeta).sum(), 2 / n * np.sin(tau - zeta).sum()
    found = east_west_events(tau, azimuth, zenith, fitted_harmonics=1)
    mean_sine = np.sin(zenith).mean()
    assert found.amplitude == pytest.approx(np.pi * np.hypot(a, b) / (2 * mean_sine), rel=5e-3)
    assert found.phase_rad == pytest.approx((np.arctan2(b, a) + np.pi / 2) % (2 * np.pi), abs=5e-3)
    assert found.sigma == pytest.approx(np.sqrt(2 / n) * np.pi / (2 * mean_sine), rel=5e-3)
    probability = np.exp(-n * np.hypot(a, b) ** 2 / 4)
    assert found.chance_probability == pytest.approx(probability, rel=0.02)
    assert found.isotropic_amplitude(0.99) == pytest.approx(
        np.sqrt(4 * np.log(100) / n) * np.pi / (2 * mean_sine), rel=5e-3
    )
