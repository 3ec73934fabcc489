"""Mock event maps: limits, symmetries, and direct quadrature of the rate with the rotation matrix of AM17."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from scipy.integrate import tplquad

from obsfit import Observatory
from obsfit.errors import ConfigurationError
from obsfit.mock import (
    Acceptance,
    Breathing,
    Exposure,
    Gap,
    MockDetector,
    Modulation,
    dipole_sky,
    disc_sky,
    expected_counts,
    fluctuate,
    gaussian_sky,
    harmonic_sky,
    isotropic_sky,
    observe,
    observe_energies,
    solar_dipole_sky,
)
from obsfit.mock.clocks import clocks_at
from obsfit.mock.detector import equatorial_direction, local_direction
from obsfit.records import HealpixLocalGrid, HourAngleGrid
from obsfit.sky.frames import hour_angle_to_local

SMALL = HourAngleGrid(16, 24)
SITES = {"middle": (19, -97.3, 57), "pole": (-90, 0, 65), "horizon": (45, 10, 90)}
FRAMES = ("sidereal", "solar", "anti-sidereal", "extended-sidereal")


def detector(site="middle", *, acceptance=None, exposure=None):
    latitude, longitude, zenith_max = SITES[site]
    observatory = Observatory(site, latitude * u.deg, longitude * u.deg, zenith_max * u.deg)
    return MockDetector(observatory, acceptance or Acceptance(power=1.0), exposure or Exposure())


def counts(sky, mock, *, grid=SMALL, n_events=1.0, **options):
    """Expected counts, shape (n_time, n_dec, n_time)."""
    found = expected_counts(sky, mock, n_events=n_events, grid=grid, **options)
    return found.reshape(-1, grid.n_dec, grid.n_time)


def a_sky(seed=1, lmax=12):
    return gaussian_sky(np.r_[0.0, 1e-7 * np.ones(lmax)], rng=np.random.default_rng(seed))


def matrix(sidereal, latitude):
    """Eq. (7) of AM17, typed from the paper."""
    ct, st, cp, sp = np.cos(sidereal), np.sin(sidereal), np.cos(latitude), np.sin(latitude)
    return np.array([[-ct * sp, -st * sp, cp], [st, -ct, 0 * ct], [ct * cp, st * cp, sp]])


# Geometry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latitude", [-90.0, -30.0, 0.0, 19.0, 90.0])
def test_directions_agree_with_the_frames_module(latitude):
    rng = np.random.default_rng(2)
    hour_angle, dec = rng.uniform(0, 2 * np.pi, 200), np.arcsin(rng.uniform(-1, 1, 200))
    azimuth, zenith = local_direction(hour_angle, dec, np.radians(latitude))
    theirs = hour_angle_to_local(hour_angle * u.rad, dec * u.rad, latitude * u.deg)
    turned = (azimuth - theirs[0].to_value(u.rad) + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turned, 0.0, atol=1e-12)
    np.testing.assert_allclose(zenith, theirs[1].to_value(u.rad), atol=1e-12)
    back = equatorial_direction(azimuth, zenith, np.radians(latitude))
    np.testing.assert_allclose((back[0] - hour_angle + np.pi) % (2 * np.pi) - np.pi, 0.0, atol=1e-12)
    np.testing.assert_allclose(back[1], dec, atol=1e-12)


# Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
def test_an_isotropic_sky_factorises(site):
    """Counts are (per time) x (per cell) / total, and flat in time where the exposure is; the total is n_events."""
    flat = counts(isotropic_sky(), detector(site), n_events=1e10)
    assert flat.sum() == pytest.approx(1e10, rel=1e-14)
    assert np.all(flat >= 0)
    np.testing.assert_allclose(flat, np.broadcast_to(flat[:1], flat.shape), rtol=1e-13)
    waves = Exposure(
        (Modulation("sidereal", 0.3, 50 * u.deg), Modulation("solar", 0.2)), (Gap("solar", 1 * u.rad, 2 * u.rad),)
    )
    wavy = counts(isotropic_sky(), detector(site, exposure=waves), n_events=1e10)
    product = wavy.sum((1, 2))[:, None, None] * wavy.sum(0) / wavy.sum()
    np.testing.assert_allclose(wavy, product, rtol=1e-13)
    assert np.ptp(wavy.sum((1, 2))) > 0.5 * wavy.sum((1, 2)).mean()


def test_the_per_cell_counts_are_the_acceptance():
    """Flat detector at the equator's pole and 90 deg cut: rate per band is the integral of sin(dec) cos(dec)."""
    latitude_90 = MockDetector(Observatory("n", 90 * u.deg, 0 * u.deg, 90 * u.deg), Acceptance(power=1.0))
    per_band = counts(isotropic_sky(), latitude_90, sub_cells=8).sum((0, 2))
    edges = np.clip(SMALL.dec_edges_rad, 0, None)
    expected = np.sin(edges[1:]) ** 2 - np.sin(edges[:-1]) ** 2
    np.testing.assert_allclose(per_band, expected, rtol=0.0, atol=2e-4)  # bands of 1.4 deg: (0.025)^2 / 6


def test_cells_beyond_the_cut_are_empty_and_cells_across_it_are_partly_filled():
    mock = detector(acceptance=Acceptance(power=0.0))
    grid = HourAngleGrid(64, 90)
    per_cell = counts(isotropic_sky(), mock, grid=grid).sum(0)
    area = np.diff(np.sin(grid.dec_edges_rad))[:, None]
    share = per_cell / area / (per_cell / area).max()
    hour_angle, dec = np.meshgrid(grid.hour_angle_rad, grid.dec_rad)
    _, zenith = local_direction(hour_angle, dec, np.radians(19))
    corner = np.radians(4.0)
    np.testing.assert_allclose(share[zenith < np.radians(57) - corner], 1.0, rtol=1e-12)
    assert not share[zenith > np.radians(57) + corner].any()
    assert ((share > 0.1) & (share < 0.9)).any()


# Against quadrature --------------------------------------------------------------------------------------------------


def rate(dipole, latitude, power, tau, hour_angle, dec):
    """Rate per (tau, h, dec): the equatorial vector turned by Eq. (7), a flat acceptance, a scalar product."""
    ra = tau - hour_angle
    n = np.array([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])
    up = matrix(tau, latitude)[2] @ n
    return max(up, 0.0) ** power * (1 + dipole @ n) * np.cos(dec)


@pytest.mark.parametrize(("site", "power"), [("middle", 1.0), ("middle", 2.0), ("pole", 2.0)])
def test_a_dipole_against_direct_quadrature(site, power):
    """Ratios of cells inside the field of view to one of them, by scipy's adaptive quadrature in three dimensions.

    The middles of 4 x 4 x 4 fine cells leave an error of second order in their width; with 8 it is four times less.
    """
    vector = np.array([0.3, -0.2, 0.25])
    mock, grid = detector(site, acceptance=Acceptance(power=power)), HourAngleGrid(32, 48)
    latitude = mock.latitude_rad
    cells = (
        [(0, 20, 0), (5, 19, 3), (17, 21, 45), (40, 16, 5)]
        if site == "middle"
        else [(0, 2, 0), (9, 1, 30), (33, 4, 17), (20, 3, 3)]
    )
    w, edges = 2 * np.pi / grid.n_time, grid.dec_edges_rad
    exact = [
        tplquad(
            lambda dec, h, tau: rate(vector, latitude, power, tau, h, dec),
            t * w, (t + 1) * w, j * w, (j + 1) * w, edges[r], edges[r + 1], epsabs=0, epsrel=1e-10,
        )[0]
        for t, r, j in cells
    ]  # fmt: skip
    errors = []
    for sub_cells in (4, 8):
        found = counts(dipole_sky(vector), mock, grid=grid, sub_cells=sub_cells)
        ratio = np.array([found[cell] / found[cells[0]] for cell in cells])
        errors.append(np.abs(ratio / (np.array(exact) / exact[0]) - 1).max())
    assert errors[0] < 3e-4
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.05)


def test_the_total_of_a_dipole_is_known_in_closed_form():
    """Absolute numbers: a flat detector accepts pi sin^2(cut) per time of an isotropic sky, and delta_N adds."""
    mock, grid, north = detector(acceptance=Acceptance(power=1.0)), HourAngleGrid(64, 90), 0.2
    cut, latitude = np.radians(57), np.radians(19)
    total = np.pi * np.sin(cut) ** 2 + north * np.sin(latitude) * 2 * np.pi / 3 * (1 - np.cos(cut) ** 3)
    found = counts(dipole_sky([0, 0, north]), mock, grid=grid)
    t, r, j = 7, 37, 0
    w = 2 * np.pi / grid.n_time
    edges = grid.dec_edges_rad
    cell = tplquad(
        lambda dec, h, tau: rate(np.array([0, 0, north]), latitude, 1.0, tau, h, dec),
        t * w, (t + 1) * w, j * w, (j + 1) * w, edges[r], edges[r + 1],
    )[0]  # fmt: skip
    # Fine cells across the cut: 1e4 of them around a rim of half a percent of the field in width.
    assert found[t, r, j] == pytest.approx(cell / (2 * np.pi * total), rel=1e-3)


def test_healpix_pixels_against_quadrature():
    """Gauss-Legendre in time and 64 x 64 parts of a pixel, turned by the inverse of Eq. (7); ratios of three pixels."""
    vector, nside, n_time = np.array([0.3, -0.2, 0.25]), 8, 24
    mock = detector(acceptance=Acceptance(power=2.0, east_west=0.1))
    grid = HealpixLocalGrid(nside, mock.latitude_rad)
    pixels, bins = [2, 50, 90], [0, 7, 20]
    nodes, node_weights = leggauss(8)
    exact = []
    for pixel, t in zip(pixels, bins, strict=True):
        parts = hp.ring2nest(nside, pixel) * 64**2 + np.arange(64**2)
        local = np.array(hp.pix2vec(nside * 64, parts, nest=True))
        # North, West, up: East is minus West.
        accepted = local[2] ** 2 * (1 - 0.1 * local[1])
        tau = (t + 0.5 * (1 + nodes)) * 2 * np.pi / n_time
        intensity = [1 + vector @ matrix(angle, mock.latitude_rad).T @ local for angle in tau]
        exact.append(node_weights @ np.array(intensity) @ accepted)
    found = expected_counts(dipole_sky(vector), mock, n_events=1, grid=grid, n_time=n_time, sub_cells=8)
    ratio = found[bins, pixels] / found[bins[0], pixels[0]]
    np.testing.assert_allclose(ratio, np.array(exact) / exact[0], rtol=1e-4)  # (0.9 deg)^2
    assert found.shape == (n_time, grid.n_pixel)


def test_both_grids_see_the_same_rate():
    """Events per time bin of one sky, with all that varies, on rings and on HEALPix; edge cells differ: 1e-3."""
    mock = detector(
        acceptance=Acceptance(
            2.0, east_west=0.1, breathing=(Breathing((Modulation("sidereal", 0.3, 1 * u.rad),)),)
        ),
        exposure=Exposure((Modulation("season", 0.4, 2 * u.rad),)),
    )
    sky = dipole_sky([0.1, 0.0, 0.0]) + dipole_sky([0, 0.2, 0.0], frame="solar")
    rings = counts(sky, mock, grid=HourAngleGrid(64, 48)).sum((1, 2))
    local = expected_counts(sky, mock, n_events=1, grid=HealpixLocalGrid(16, mock.latitude_rad), n_time=48).sum(1)
    np.testing.assert_allclose(local, rings, rtol=1e-3)
    assert np.ptp(rings) > 0.1 * rings.mean()


# Symmetries ----------------------------------------------------------------------------------------------------------


def test_turning_the_sky_turns_the_time():
    """A sky turned east by 5 cells is seen 5 time bins later, exactly."""
    sky, steps = a_sky(), 5
    alm = sky.parts[0].alm
    _, m = hp.Alm.getlm(12)
    turned = harmonic_sky(alm * np.exp(-1j * m * steps * 2 * np.pi / SMALL.n_time))
    np.testing.assert_allclose(
        counts(turned, detector()), np.roll(counts(sky, detector()), steps, axis=0), rtol=1e-12
    )


def test_longitude_does_not_enter_the_idealised_year():
    mock = detector(exposure=Exposure((Modulation("solar", 0.2), Modulation("season", 0.1))))
    moved = MockDetector(Observatory("moved", 19 * u.deg, 60 * u.deg, 57 * u.deg), mock.acceptance, mock.exposure)
    np.testing.assert_array_equal(counts(a_sky(), mock), counts(a_sky(), moved))


def test_east_west_asymmetry_is_antisymmetric_and_of_the_right_sign():
    """(N(h) - N(-h)) / (N(h) + N(-h)) = a sin(zenith) sin(azimuth) = -a cos(dec) sin(h): East is at negative h."""
    plain = counts(isotropic_sky(), detector("horizon")).sum(0)
    tilted = counts(isotropic_sky(), detector("horizon", acceptance=Acceptance(east_west=0.1))).sum(0)
    np.testing.assert_allclose(plain, plain[:, ::-1], rtol=1e-12)
    seen = plain > 0
    asymmetry = (tilted - tilted[:, ::-1])[seen] / (tilted + tilted[:, ::-1])[seen]
    hour_angle, dec = np.meshgrid(SMALL.hour_angle_rad, SMALL.dec_rad)
    # Away from the horizon, and from the pole, where cos(dec) is far from linear in a band of 11 deg.
    inside = ((plain > 0.5 * plain.max(axis=1, keepdims=True)) & (dec < 1.2))[seen]
    expected = -0.1 * np.cos(dec) * np.sin(hour_angle)
    np.testing.assert_allclose(asymmetry[inside], expected[seen][inside], atol=1e-3)
    np.testing.assert_allclose((tilted + tilted[:, ::-1])[seen], 2 * plain[seen], rtol=1e-12)


def test_a_tilt_moves_the_axis():
    """The acceptance is largest at the axis and symmetric about it; behind it nothing is seen."""
    mock = detector("horizon", acceptance=Acceptance(3.0, tilt=20 * u.deg, tilt_azimuth=130 * u.deg))
    azimuth, zenith = np.radians([130.0, 130.0, 130.0, 310.0]), np.radians([20.0, 0.0, 40.0, 75.0])
    shape = mock.shapes(azimuth, zenith)[0]
    assert shape[0] == pytest.approx(1.0)
    assert shape[1] == pytest.approx(shape[2])
    assert shape[1] == pytest.approx(np.cos(np.radians(20)) ** 3)
    assert shape[3] == 0.0


def test_attenuation_and_a_factor():
    mock = detector(
        "horizon",
        acceptance=Acceptance(0.0, attenuation=2.0, factor=lambda azimuth, zenith: 1 + 0.1 * np.sin(2 * azimuth)),
    )
    azimuth, zenith = np.radians([0.0, 45.0, 45.0]), np.radians([60.0, 60.0, 91.0])
    np.testing.assert_allclose(mock.shapes(azimuth, zenith)[0], np.exp(-2) * np.array([1.0, 1.1, 0.0]), rtol=1e-12)


# Time ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sky", [a_sky(), a_sky() + dipole_sky([1e-3, 0, 0], frame="solar")])
def test_gaps_are_exactly_zero(sky):
    """Time bins 4 to 8, and 22 to 2 over midnight: nothing at all, also where Fourier transforms are used."""
    width = 15 * u.deg
    gaps = (Gap("sidereal", 4 * width, 9 * width), Gap("sidereal", 22 * width, 3 * width))
    per_time = counts(sky, detector(exposure=Exposure(gaps=gaps))).sum((1, 2))
    dead = np.isin(np.arange(24), [4, 5, 6, 7, 8, 22, 23, 0, 1, 2])
    assert not per_time[dead].any()
    assert np.all(per_time[~dead] > 0)


def test_a_gap_of_a_whole_turn_leaves_nothing():
    with pytest.raises(ConfigurationError, match="never live"):
        counts(isotropic_sky(), detector(exposure=Exposure(gaps=(Gap("solar", 0 * u.deg, 360 * u.deg),))))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("clock", FRAMES)
def test_a_modulation_shows_in_its_own_frame_only(clock, frame):
    """Over the idealised year; in its own frame as 1 + a sinc(1/24) cos(t - phase), the mean over a bin."""
    mock = detector(exposure=Exposure((Modulation(clock, 0.2, 40 * u.deg),)))
    per_time = counts(isotropic_sky(), mock, frame=frame).sum((1, 2)) * 24
    angle = 2 * np.pi * (np.arange(24) + 0.5) / 24
    # The mean of four middles instead of the bin.
    smear = np.sin(np.pi / 24) / (4 * np.sin(np.pi / 96))
    expected = 1 + 0.2 * smear * np.cos(angle - np.radians(40)) * (clock == frame)
    np.testing.assert_allclose(per_time, expected, rtol=1e-12)


TURNS = {"solar": -1, "sidereal": 0, "extended-sidereal": 1, "anti-sidereal": -2}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("rest", FRAMES)
def test_a_sky_turns_in_other_frames_unless_the_season_stops_it(rest, frame):
    """With a seasonal wave 1 + e cos(c (a - f)) of the difference c of the frames, half of e of the dipole remains.

    A dipole towards p in its own frame is at the longitude p - c a of the map's, c = the turns a year that its clock
    gains on the map's; averaged with the wave, that is half of e at p - c f.
    """
    gain = TURNS[rest] - TURNS[frame]
    strength, phase = 0.4, 0.7
    exposure = Exposure((Modulation("season", strength, phase * u.rad, abs(gain)),) if gain else ())
    towards = 1.1
    sky = dipole_sky(1e-2 * np.array([np.cos(towards), np.sin(towards), 0.0]), frame=rest)
    share, angle = (0.5 * strength, towards - gain * phase) if gain else (1.0, towards)
    same = dipole_sky(1e-2 * share * np.array([np.cos(angle), np.sin(angle), 0.0]), frame=frame)
    found = counts(sky, detector(exposure=exposure), frame=frame)
    np.testing.assert_allclose(found, counts(same, detector(), frame=frame), rtol=1e-12)


def test_the_solar_dipole_averages_out_of_sidereal_time_and_not_of_solar_time():
    """Eq. (62) of AM17: 4.480e-4 towards 6 h in the solar frame, nothing in the sidereal one."""
    sky = solar_dipole_sky(2.7)
    flat = counts(isotropic_sky(), detector())
    np.testing.assert_allclose(counts(sky, detector()), flat, rtol=1e-12)
    solar = counts(dipole_sky([0.0, 4.480e-4, 0.0]), detector())
    np.testing.assert_allclose(counts(sky, detector(), frame="solar"), solar, rtol=1e-7)  # 4.4799e-4


def test_a_sharp_disc_turns_by_whole_fine_cells():
    """A disc at rest in the solar frame, all exposure in one narrow season: a disc at one place, without ringing."""
    grid = HourAngleGrid(32, 24)
    fine = 360.0 / 96
    middle = 20 * fine
    gap = Gap("season", (middle + 0.5 * fine) * u.deg, (middle - 0.5 * fine) * u.deg)
    mock = detector(exposure=Exposure(gaps=(gap,)))
    solar = disc_sky(100 * u.deg, 10 * u.deg, radius=25 * u.deg, excess=0.5, frame="solar")
    placed = disc_sky((100 + middle) * u.deg, 10 * u.deg, radius=25 * u.deg, excess=0.5)
    np.testing.assert_allclose(counts(solar, mock, grid=grid), counts(placed, detector(), grid=grid), rtol=1e-10)


def test_a_breathing_slope_is_the_product_of_its_factors():
    """Counts of an isotropic sky over those without breathing are 1 + g(t) (cos(zenith) - 1), inside the field."""
    grid = HourAngleGrid(64, 48)
    plain = counts(isotropic_sky(), detector(), grid=grid)
    breathing = Breathing((Modulation("sidereal", 0.3, 2 * u.rad), Modulation("solar", 0.2)))
    breathes = counts(isotropic_sky(), detector(acceptance=Acceptance(1.0, breathing=(breathing,))), grid=grid)
    hour_angle, dec = np.meshgrid(grid.hour_angle_rad, grid.dec_rad)
    _, zenith = local_direction(hour_angle, dec, np.radians(19))
    inside = zenith < np.radians(50)
    time = 2 * np.pi * (np.arange(48) + 0.5) / 48
    expected = 1 + 0.3 * np.cos(time - 2)[:, None] * (np.cos(zenith[inside]) - 1)
    # The solar wave averages out. Cells of 7.5 deg: 2e-3 of the wave for the mean over time, more for the zenith.
    np.testing.assert_allclose(breathes[:, inside] / plain[:, inside], expected, atol=5e-4)


def test_daily_breathing_that_follows_the_season_shows_in_two_frames():
    """cos(solar) cos(season) is half a sidereal and half an anti-sidereal wave: why one measures the other."""
    waves = (Modulation("sidereal", 0.1), Modulation("anti-sidereal", 0.1))
    clocks = clocks_at(np.linspace(58000, 58365, 999), 0.3)
    product = 0.2 * np.cos(clocks.angle("solar")) * np.cos(clocks.angle("season"))
    np.testing.assert_allclose(sum(wave.value(clocks) for wave in waves), product, atol=1e-9)
    mock = detector(exposure=Exposure(waves))
    sidereal, anti, solar = (
        np.abs(np.fft.rfft(counts(isotropic_sky(), mock, frame=f).sum((1, 2)))[1])
        for f in ("sidereal", "anti-sidereal", "solar")
    )
    assert sidereal == pytest.approx(anti, rel=1e-12)
    assert solar < 1e-14


def test_a_campaign_of_one_tropical_year_is_nearly_the_idealised_one():
    """366.24 sidereal days: a quarter of the day has one turn more, 0.3 %. In solar time 365 whole days: exact."""
    sky = a_sky()
    year = {"start_mjd": 58000.0, "stop_mjd": 58365.2422}
    ideal = counts(sky, detector())
    np.testing.assert_allclose(counts(sky, detector(), **year), ideal, rtol=0.004)
    days = {"start_mjd": 58000.0 + 97.3 / 360, "stop_mjd": 58365.0 + 97.3 / 360}
    flat = counts(isotropic_sky(), detector(), frame="solar", **days)
    np.testing.assert_allclose(flat.sum((1, 2)), 1 / 24, rtol=1e-12)


def test_a_short_campaign_sees_the_solar_dipole_where_the_season_puts_it():
    """30 days: in sidereal time the dipole of the Earth's motion stands near its mean place, Eq. (61) of AM17."""
    start, stop = 58000.0, 58030.0
    found = counts(solar_dipole_sky(2.7), detector(), start_mjd=start, stop_mjd=stop)
    a = clocks_at(np.linspace(start, stop, 10001), 0.0).angle("season")
    size = 4.7 * 29.8 / 299792.458
    mean = [np.mean(-np.sin(a)) * size, np.cos(np.radians(23.4)) * np.mean(np.cos(a)) * size, 0.0]
    still = counts(dipole_sky(mean), detector(), start_mjd=start, stop_mjd=stop)
    flat = counts(isotropic_sky(), detector(), start_mjd=start, stop_mjd=stop)
    seen = flat > 0
    # A month of 29.7 sidereal turns is one turn longer for part of the day, when the season differs by half a day.
    np.testing.assert_allclose(found[seen] / flat[seen], still[seen] / flat[seen], rtol=0.0, atol=2e-5)
    assert np.ptp(found[seen] / flat[seen]) > 5e-4


def test_trend_and_dead_time():
    """A trend weights late seasons: the mean season of the events moves as the integral says; dead days are empty."""
    mock = detector(exposure=Exposure(trend_per_year=0.5, epoch_mjd=58000.0))
    dead = detector(exposure=Exposure(trend_per_year=0.5, epoch_mjd=58000.0, dead_mjd=((58010.0, 58020.0),)))
    days = {"start_mjd": 58000.0, "stop_mjd": 58030.0}
    sky = dipole_sky([1e-2, 0.0, 0.0], frame="solar")
    for one, pieces in ((mock, [(0, 30)]), (dead, [(0, 10), (20, 30)])):
        time = np.concatenate([np.linspace(a, b, 20001) for a, b in pieces])
        season = clocks_at(58000 + time, 0.0).angle("season")
        mean = 1e-2 * np.average(np.exp(1j * season), weights=1 + 0.5 * time / 365.25)
        turning, still = counts(sky, one, **days), counts(dipole_sky([mean.real, mean.imag, 0.0]), one, **days)
        flat = counts(isotropic_sky(), one, **days)
        seen = flat > 0
        np.testing.assert_allclose(turning[seen] / flat[seen], still[seen] / flat[seen], atol=1e-4)


# Energies ------------------------------------------------------------------------------------------------------------


def test_migration_mixes_expected_counts():
    skies, mock = [dipole_sky([1e-2, 0, 0]), dipole_sky([0, 2e-2, 0])], detector()
    migration, numbers = np.array([[0.7, 0.1], [0.2, 0.8]]), np.array([1e6, 1e5])
    low, high = observe_energies(
        skies, mock, migration, n_events=numbers, grid=SMALL, asimov=True, energies=["1 TeV", "10 TeV"]
    )
    pure = [expected_counts(s, mock, n_events=n, grid=SMALL) for s, n in zip(skies, numbers, strict=True)]
    np.testing.assert_allclose(low.counts, 0.7 * pure[0] + 0.1 * pure[1], rtol=1e-14)
    assert high.total == pytest.approx(0.2e6 + 0.8e5, rel=1e-13)
    assert (low.energy, high.energy) == ("1 TeV", "10 TeV")
    same = observe_energies(skies, [mock, mock], np.eye(2), n_events=numbers, grid=SMALL, asimov=True)
    np.testing.assert_allclose(same[1].counts, pure[1], rtol=1e-14)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_refusals():
    sky, mock = isotropic_sky(), detector()
    rng = np.random.default_rng(1)
    with pytest.raises(ConfigurationError, match="need a generator"):
        observe(sky, mock, n_events=10)
    with pytest.raises(ConfigurationError, match="need a generator"):
        observe_energies([sky], mock, [[1.0]], n_events=[10])
    with pytest.raises(ConfigurationError, match="both of them or neither"):
        counts(sky, mock, start_mjd=58000.0)
    with pytest.raises(ConfigurationError, match="has no dates"):
        counts(sky, detector(exposure=Exposure(trend_per_year=0.1)))
    with pytest.raises(ConfigurationError, match="never negative"):
        counts(sky, detector(exposure=Exposure((Modulation("solar", 1.5),))))
    with pytest.raises(ConfigurationError, match="acceptance is between -"):
        counts(sky, detector("horizon", acceptance=Acceptance(east_west=1.5)))
    with pytest.raises(ConfigurationError, match="nothing is observed"):
        counts(sky, detector(acceptance=Acceptance(factor=lambda azimuth, zenith: 0 * zenith)))
    with pytest.raises(ValueError, match="rate is negative"):
        counts(dipole_sky([1.5, 0, 0]), mock)
    with pytest.raises(ValueError, match="n_events 0"):
        counts(sky, mock, n_events=0)
    with pytest.raises(ValueError, match="start before the stop"):
        counts(sky, mock, start_mjd=2.0, stop_mjd=1.0)
    with pytest.raises(ValueError, match="frame 'lunar'"):
        counts(sky, mock, frame="lunar")
    with pytest.raises(ValueError, match="sub_cells 0"):
        counts(sky, mock, sub_cells=0)
    with pytest.raises(ValueError, match="clock 'lunar'"):
        Modulation("lunar", 0.1)
    with pytest.raises(ValueError, match="that of the detector"):
        observe(sky, mock, n_events=10, grid=HealpixLocalGrid(4, 0.0), rng=rng)
    with pytest.raises(ValueError, match="power of two"):
        observe(sky, mock, n_events=10, grid=HealpixLocalGrid(4, mock.latitude_rad), rng=rng, sub_cells=3)
    with pytest.raises(ValueError, match="no column sums to more than one"):
        observe_energies([sky], mock, [[0.6], [0.6]], n_events=[10], rng=rng)
    with pytest.raises(ValueError, match="2 skies"):
        observe_energies([sky, sky], mock, [[0.6]], n_events=[10], rng=rng)
    with pytest.raises(ValueError, match="one label"):
        observe_energies([sky], mock, [[1.0]], n_events=[10], rng=rng, energies=["a", "b"])


def test_an_event_map_carries_what_it_is():
    events = observe(
        isotropic_sky(),
        detector(),
        n_events=1e3,
        grid=SMALL,
        rng=np.random.default_rng(1),
        frame="solar",
        energy="1 TeV",
    )
    assert (events.detector, events.frame, events.energy, events.n_time) == ("middle", "solar", "1 TeV", 24)
    assert np.all(events.counts == np.round(events.counts))
    assert fluctuate(events, rng=np.random.default_rng(2)).frame == "solar"
