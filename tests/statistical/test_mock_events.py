"""Mock event lists against mock maps, and Poisson maps against their means. Seeds are fixed."""

import astropy.units as u
import numpy as np
import pytest
from astropy.time import Time
from scipy.stats import chi2, kstest

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
    draw_events,
    expected_counts,
    fluctuate,
    isotropic_sky,
    observe,
    observe_energies,
)
from obsfit.records import HourAngleGrid
from obsfit.sky.frames import hour_angle_to_local, local_sidereal_angle

SITE = Observatory("site", 19 * u.deg, -97.3 * u.deg, 57 * u.deg)
GRID = HourAngleGrid(12, 16)
DAYS = {"start_mjd": 58000.0, "stop_mjd": 58150.0}
SKY = (
    dipole_sky([0.2, 0.1, 0.1])
    + dipole_sky([0.0, 0.3, 0.0], frame="solar")
    + disc_sky(60 * u.deg, -7.1 * u.deg, radius=20 * u.deg, excess=0.3)
)
DETECTOR = MockDetector(
    SITE,
    Acceptance(
        2.0, attenuation=0.2, east_west=0.2, tilt=5 * u.deg, tilt_azimuth=40 * u.deg,
        breathing=(Breathing((Modulation("solar", 0.4), Modulation("sidereal", 0.3, 1 * u.rad))),),
    ),
    Exposure(
        (Modulation("solar", 0.3, 2 * u.rad), Modulation("season", 0.2)), (Gap("solar", 315 * u.deg, 22.5 * u.deg),),
        trend_per_year=1.0, epoch_mjd=58000.0, dead_mjd=((58030.0, 58055.5),),
    ),
)  # fmt: skip
COLUMNS = {
    "sidereal": "sidereal_rad", "solar": "solar_rad", "anti-sidereal": "anti_sidereal_rad",
    "extended-sidereal": "extended_sidereal_rad",
}  # fmt: skip


@pytest.fixture(scope="module")
def events():
    return draw_events(SKY, DETECTOR, n_events=4e5, rng=np.random.default_rng(1), **DAYS)


def p_value(observed, expected):
    """Of Pearson's chi-square over cells with at least 10 expected events; all others together are one more."""
    enough = expected >= 10
    observed = np.append(observed[enough], observed[~enough].sum())
    expected = np.append(expected[enough], expected[~enough].sum())
    return chi2.sf(np.sum((observed - expected) ** 2 / np.maximum(expected, 1)), expected.size)


@pytest.mark.parametrize("frame", COLUMNS)
def test_lists_and_maps_agree(events, frame):
    """The same rate drawn without a grid and integrated on one: all effects at once, strong ones. p > 1e-3 four times.

    A wrong sign, half a bin or a wrong frame of any of them gives p below 1e-30.
    """
    time = events[COLUMNS[frame]].to_numpy()
    hour_angle = (events["sidereal_rad"] - events["right_ascension_rad"]).to_numpy() % (2 * np.pi)
    dec = events["declination_rad"].to_numpy()
    edges = np.linspace(0, 2 * np.pi, GRID.n_time + 1)
    observed, _ = np.histogramdd([time, dec, hour_angle], bins=[edges, GRID.dec_edges_rad, edges])
    expected = expected_counts(SKY, DETECTOR, n_events=4e5, grid=GRID, frame=frame, sub_cells=32, **DAYS)
    observed = observed.reshape(expected.shape)
    assert p_value(observed, expected) > 1e-3
    assert p_value(np.roll(observed, 1, axis=0), expected) < 1e-30


def test_lists_are_consistent_with_astropy_and_the_frames_module(events):
    """Sidereal time to 1 arcsec; local and equatorial directions are each other's rotation."""
    some = events.iloc[::400]
    ut1 = Time(some["mjd"].to_numpy(), format="mjd", scale="ut1")
    ut1.delta_ut1_utc = 0.0
    sidereal = local_sidereal_angle(ut1, SITE.longitude).to_value(u.rad)
    assert np.abs(np.angle(np.exp(1j * (sidereal - some["sidereal_rad"].to_numpy())))).max() < 5e-6
    hour_angle = (some["sidereal_rad"] - some["right_ascension_rad"]).to_numpy() * u.rad
    azimuth, zenith = hour_angle_to_local(hour_angle, some["declination_rad"].to_numpy() * u.rad, SITE.latitude)
    np.testing.assert_allclose(zenith.to_value(u.rad), some["zenith_rad"], atol=1e-12)
    difference = azimuth.to_value(u.rad) - some["azimuth_rad"].to_numpy()
    np.testing.assert_allclose(np.angle(np.exp(1j * difference)), 0.0, atol=1e-9)


def test_a_list_is_ordered_live_and_within_the_cut(events):
    assert np.all(np.diff(events["mjd"]) >= 0)
    assert events["mjd"].between(58000.0, 58150.0).all()
    assert not events["mjd"].between(58030.0, 58055.5).any()
    assert events["zenith_rad"].max() <= np.radians(57)
    hours = np.degrees(events["solar_rad"])
    assert not ((hours > 315) | (hours < 22.5)).any()
    angles = [name for name in events if name.endswith("_rad") and name != "declination_rad"]
    assert ((events[angles] >= 0) & (events[angles] < 2 * np.pi)).all().all()
    assert np.all(events["weight"] == 1)
    assert abs(len(events) - 4e5) < 4 * np.sqrt(4e5)


def test_times_follow_a_trend():
    """Kolmogorov-Smirnov against the integral of 1 + 2 t per year over half a year, p > 1e-3."""
    detector = MockDetector(SITE, exposure=Exposure(trend_per_year=2.0, epoch_mjd=58000.0))
    table = draw_events(
        isotropic_sky(), detector, n_events=2e4, start_mjd=58000.0, stop_mjd=58180.0, rng=np.random.default_rng(2)
    )
    days = (table["mjd"] - 58000.0).to_numpy()

    def grown(t):
        return (t + t**2 / 365.25) / (180 + 180**2 / 365.25)

    assert kstest(days, grown).pvalue > 1e-3


@pytest.mark.parametrize("index", [1.0, 2.7])
def test_energies_are_a_power_law(index):
    table = draw_events(
        isotropic_sky(), MockDetector(SITE), n_events=1e4, start_mjd=58000.0, stop_mjd=58001.0,
        rng=np.random.default_rng(3), energy_range_tev=(2.0, 50.0), spectral_index=index,
    )  # fmt: skip

    def below(energy):
        power = 1 - index
        return (
            np.log(energy / 2) / np.log(25) if power == 0 else (energy**power - 2**power) / (50**power - 2**power)
        )

    assert kstest(table["energy_tev"], below).pvalue > 1e-3


def test_poisson_counts_scatter_about_their_means():
    """300 maps: mean and variance of each cell; chi-square of the sums and of the totals, p > 1e-3 (two-sided)."""
    rng, number = np.random.default_rng(4), 300
    expected = observe(SKY, DETECTOR, n_events=2e5, grid=GRID, asimov=True, **DAYS)
    drawn = np.array([fluctuate(expected, rng=rng).counts for _ in range(number)])
    seen = expected.counts > 1
    mean = expected.counts[seen]
    statistic = np.sum((drawn.sum(0)[seen] - number * mean) ** 2 / (number * mean))
    assert 1e-3 < chi2.sf(statistic, mean.size) < 1 - 1e-3
    assert np.mean(drawn.var(axis=0)[seen] / mean) == pytest.approx(
        1.0, abs=5 * np.sqrt(2 / number / mean.size) + 1 / number
    )
    totals = drawn.sum((1, 2))
    assert 1e-3 < chi2.sf(np.sum((totals - 2e5) ** 2) / 2e5, number) < 1 - 1e-3
    assert not drawn[:, expected.counts == 0].any()
    once = observe(SKY, DETECTOR, n_events=2e5, grid=GRID, rng=np.random.default_rng(5), **DAYS)
    np.testing.assert_array_equal(once.counts, fluctuate(expected, rng=np.random.default_rng(5)).counts)


def test_bins_of_energy_are_independent():
    """Totals of two bins fed by one true energy over 400 draws: no correlation (5 standard errors)."""
    rng = np.random.default_rng(6)
    options = {"n_events": [1e4], "grid": HourAngleGrid(4, 8), "sub_cells": 1, **DAYS}
    drawn = [
        [one.total for one in observe_energies([isotropic_sky()], DETECTOR, [[0.5], [0.5]], rng=rng, **options)]
        for _ in range(400)
    ]
    assert abs(np.corrcoef(np.transpose(drawn))[0, 1]) < 5 / np.sqrt(400)


def test_refusals():
    rng = np.random.default_rng(7)
    mock = MockDetector(SITE)
    with pytest.raises(ValueError, match="n_events -1"):
        draw_events(isotropic_sky(), mock, n_events=-1, rng=rng, **DAYS)
    with pytest.raises(ValueError, match="start before the stop"):
        draw_events(isotropic_sky(), mock, n_events=1, start_mjd=1.0, stop_mjd=1.0, rng=rng)
    with pytest.raises(ValueError, match="energy_range_tev"):
        draw_events(isotropic_sky(), mock, n_events=1, rng=rng, energy_range_tev=(2.0, 1.0), **DAYS)
    with pytest.raises(ValueError, match="rate is negative"):
        draw_events(dipole_sky([1.5, 0, 0]), mock, n_events=1, rng=rng, **DAYS)
    asleep = MockDetector(SITE, exposure=Exposure(dead_mjd=((57000.0, 59000.0),)))
    with pytest.raises(ConfigurationError, match="none of"):
        draw_events(isotropic_sky(), asleep, n_events=1, rng=rng, **DAYS)
    assert len(draw_events(isotropic_sky(), mock, n_events=0, rng=rng, **DAYS)) == 0
