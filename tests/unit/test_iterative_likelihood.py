"""What the iterative likelihood returns and refuses."""

import dataclasses

import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ConfigurationError, ConvergenceError
from obsfit.reconstruct import _gather_kernels
from obsfit.reconstruct.gaps import HiddenGradientError
from obsfit.reconstruct.gather import GatherLikelihood, sky_pixels
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance


def events(seed=1, name="one", n_dec=6, n_time=12, mean=50.0, **more):
    """Poisson counts in bands 1 to 3 and five hour angles."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_time, n_dec, n_time))
    counts[:, 1:4, 2:7] = rng.poisson(mean, size=(n_time, 3, 5))
    return EventMap(counts.reshape(n_time, -1), HourAngleGrid(n_dec, n_time), name, Provenance(name), **more)


def test_result_holds_together():
    maps = [events(1), events(2, "two")]
    result = IterativeLikelihood().reconstruct(maps)
    seen = np.isfinite(result.relative_intensity)
    assert seen[1:4].all()
    assert not seen[[0, 4, 5]].any()
    np.testing.assert_allclose(np.nanmean(result.relative_intensity[1:4], axis=1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(result.counts, sum(ring_counts(m).per_sky for m in maps))
    np.testing.assert_allclose(
        result.relative_intensity[seen] * result.expected[seen], result.counts[seen], rtol=1e-13
    )
    assert np.all(result.expected[~seen] == 0.0)
    for acceptance, exposure, one in zip(result.acceptance, result.exposure, maps, strict=True):
        assert acceptance.sum() == pytest.approx(1.0, rel=1e-14)
        assert np.all((acceptance > 0) == (ring_counts(one).per_cell > 0))
        assert exposure.sum() == pytest.approx(one.total, rel=0.05)
    isotropic = np.zeros((6, 12))
    for acceptance, exposure in zip(result.acceptance, result.exposure, strict=True):
        for t, r, j in np.ndindex(12, 6, 12):
            isotropic[r, (t - j) % 12] += exposure[t] * acceptance[r, j]
    np.testing.assert_allclose(result.expected, isotropic, rtol=1e-12, atol=1e-10)
    np.testing.assert_array_equal(result.per_declination, result.counts.sum(axis=1))
    assert result.converged
    assert 1 < result.iterations < 20


def test_spec_says_what_was_done():
    result = IterativeLikelihood(tolerance=1e-8).reconstruct(
        [events(1, energy="5 TeV"), events(2, "two", energy="5 TeV")]
    )
    spec = result.spec
    assert spec.method == "iterative-likelihood"
    assert spec.settings == {
        "tolerance": 1e-8, "depth": 5, "precondition": True, "max_iterations": 500, "weighted": False,
    }  # fmt: skip
    assert spec.detectors == ("one", "two")
    assert (spec.frame, spec.filtered) == ("sidereal", True)
    assert spec.dec_min_rad == pytest.approx(np.radians(-60))
    assert spec.dec_max_rad == pytest.approx(np.radians(30))
    assert "a_l0" in spec.loss
    assert [p.name for p in result.provenance] == ["one", "two"]


def test_maps_and_their_sums_give_the_same():
    by_map, by_sums = (IterativeLikelihood().reconstruct(e) for e in (events(), [ring_counts(events())]))
    np.testing.assert_array_equal(by_map.relative_intensity, by_sums.relative_intensity)


def test_nothing_is_drawn():
    rng = np.random.default_rng(1)
    state = rng.bit_generator.state
    IterativeLikelihood().reconstruct(events(), rng=rng)
    assert rng.bit_generator.state == state


def test_finer_bands_of_all_detectors_are_kept():
    one = ring_counts(events(1))
    fine = dataclasses.replace(one, per_declination=np.repeat(one.per_declination / 4, 4))
    both = IterativeLikelihood().reconstruct([fine, dataclasses.replace(fine, detector="two")])
    np.testing.assert_allclose(both.per_declination, 2 * fine.per_declination)
    mixed = IterativeLikelihood().reconstruct([fine, one])
    np.testing.assert_allclose(mixed.per_declination, 2 * one.per_declination)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0.0}, "tolerance 0"),
        ({"tolerance": np.nan}, "nan"),
        ({"depth": -1}, "depth -1"),
        ({"max_iterations": 0}, "0"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        IterativeLikelihood(**settings)
    if "depth" not in settings:
        with pytest.raises(ConfigurationError, match=message):
            GatherLikelihood(**settings)


def test_too_few_passes_are_an_error_with_its_number():
    with pytest.raises(ConvergenceError, match=r"after 2 passes ln N still changes by \d"):
        IterativeLikelihood(max_iterations=2).reconstruct(events())
    with pytest.raises(ConvergenceError, match="after 2 passes"):
        GatherLikelihood(max_iterations=2).reconstruct(events())


def test_one_hour_angle_is_no_field_of_view():
    counts = np.zeros((12, 6, 12))
    counts[:, 2, 5] = 10.0
    transit = EventMap(counts.reshape(12, -1), HourAngleGrid(6, 12), "transit", Provenance("t"))
    with pytest.raises(ConfigurationError, match="two neighbouring hour angles"):
        IterativeLikelihood().reconstruct(transit)


def test_hardly_any_events_end_in_a_result_or_a_clear_error():
    """With a handful of events the maximum may lie at infinity: that must never pass for a result."""
    outcomes = set()
    for seed in range(30):
        sparse = events(seed, mean=0.15)
        try:
            result = IterativeLikelihood(tolerance=1e-8).reconstruct(sparse)
        except (ConvergenceError, ConfigurationError, HiddenGradientError) as error:
            outcomes.add(type(error))
            continue
        outcomes.add("found")
        seen = np.isfinite(result.relative_intensity)
        np.testing.assert_allclose(
            result.relative_intensity[seen] * result.expected[seen], result.counts[seen], rtol=1e-9
        )
    assert "found" in outcomes
    assert len(outcomes) > 1


def test_round_off_of_marginals_is_not_data():
    """Noise-free sums made with Fourier transforms carry 1e-16 of their peak where nothing was seen."""
    clean = ring_counts(events())
    rng = np.random.default_rng(2)

    def dusty(values):
        return values + 1e-15 * values.max() * rng.random(values.shape)

    noisy = dataclasses.replace(
        clean, per_time=dusty(clean.per_time), per_cell=dusty(clean.per_cell), per_sky=dusty(clean.per_sky)
    )
    ours, theirs = (IterativeLikelihood().reconstruct(c).relative_intensity for c in (clean, noisy))
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(theirs[np.isfinite(ours)], ours[np.isfinite(ours)], atol=1e-12)


def test_gather_sees_where_pixels_point():
    """Directions of local pixels by rotation about the axis of the Earth, in the middle of each bin."""
    grid, n_time = HealpixLocalGrid(8, np.radians(19.0)), 6
    event_map = EventMap(np.ones((n_time, 768)), grid, "a", Provenance("a"))
    pixels = np.array([0, 17, 100, 300, 500, 767])
    zenith, longitude = hp.pix2ang(8, pixels)
    found = sky_pixels(event_map, pixels)
    for t in range(n_time):
        sidereal = 2 * np.pi * (t + 0.5) / n_time
        north = np.array([-np.sin(grid.latitude_rad), 0.0, np.cos(grid.latitude_rad)])
        up = np.array([np.cos(grid.latitude_rad), 0.0, np.sin(grid.latitude_rad)])
        west = np.array([0.0, -1.0, 0.0])
        local = (
            np.outer(np.sin(zenith) * np.cos(longitude), north)
            + np.outer(np.sin(zenith) * np.sin(longitude), west)
            + np.outer(np.cos(zenith), up)
        )
        alpha = np.arctan2(local[:, 1], local[:, 0]) + sidereal
        np.testing.assert_array_equal(found[t], hp.ang2pix(8, np.arccos(local[:, 2]), alpha))


def test_gather_and_rings_find_the_same_dipole_from_pixels():
    """Each within its own pixels' error, at nside 16 and 72 bins: some 1e-3 of the dipole."""
    grid, n_time = HealpixLocalGrid(16, np.radians(19.0)), 72
    zenith, longitude = hp.pix2ang(16, np.arange(grid.n_pixel))
    delta = 1e-3
    counts = np.zeros((n_time, grid.n_pixel))
    sin_dec = np.sin(grid.latitude_rad) * np.cos(zenith) + np.cos(grid.latitude_rad) * np.sin(zenith) * np.cos(
        longitude
    )
    meridian = np.cos(grid.latitude_rad) * np.cos(zenith) - np.sin(grid.latitude_rad) * np.sin(zenith) * np.cos(
        longitude
    )
    hour_angle = np.arctan2(np.sin(zenith) * np.sin(longitude), meridian)
    for t in range(n_time):
        alpha = 2 * np.pi * (t + 0.5) / n_time - hour_angle
        counts[t] = 1e6 * (1 + delta * np.sqrt(1 - sin_dec**2) * np.cos(alpha - 1.0)) * np.cos(zenith)
    counts[:, zenith > np.radians(57)] = 0.0
    event_map = EventMap(counts, grid, "a", Provenance("a"))
    rings = IterativeLikelihood().reconstruct(event_map)
    dec, alpha = np.meshgrid(rings.grid.dec_rad, rings.grid.right_ascension_rad, indexing="ij")
    seen = np.isfinite(rings.relative_intensity)
    gather = GatherLikelihood(tolerance=1e-9).reconstruct(event_map)
    seen_pixels = np.isfinite(gather.relative_intensity)
    theta, phi = hp.pix2ang(16, np.flatnonzero(seen_pixels))
    places = (
        (dec[seen], alpha[seen], rings.relative_intensity[seen]),
        (np.pi / 2 - theta, phi, gather.relative_intensity[seen_pixels]),
    )
    for declination, right_ascension, values in places:
        waves = np.cos(declination) * np.array([np.cos(right_ascension), np.sin(right_ascension)])
        x, y = np.linalg.lstsq(waves.T, values - 1, rcond=None)[0]
        # A cell of 5 degrees in time and pixels of 3.7 degrees: sinc^2 and nearest pixels.
        np.testing.assert_allclose([x, y], [delta * np.cos(1.0), delta * np.sin(1.0)], atol=6e-3 * delta)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "no events"),
        ([events(), events(n_dec=7)], "resolution"),
        ([events(), events(frame="solar")], "frame"),
        ([events(mean=0.0)], "one: no events"),
    ],
)
def test_gather_refuses_what_does_not_fit(maps, message):
    with pytest.raises(ConfigurationError, match=message):
        GatherLikelihood().reconstruct(maps)


def test_gather_kernels_compiled_and_plain_agree():
    rng = np.random.default_rng(4)
    table = rng.integers(0, 20, size=(5, 7)).astype(np.int32)
    counts, exposure, acceptance, sky = rng.random((5, 7)), rng.random(5), rng.random(7), rng.random(20)
    for kernel, inputs in (
        (_gather_kernels.add_to_sky, (counts,)),
        (_gather_kernels.add_expected, (exposure, acceptance)),
    ):
        ours, plain = np.zeros(20), np.zeros(20)
        kernel(table, *inputs, ours)
        kernel.py_func(table, *inputs, plain)
        np.testing.assert_allclose(ours, plain, rtol=1e-14)
    for kernel, weights in ((_gather_kernels.sky_by_time, acceptance), (_gather_kernels.sky_by_pixel, exposure)):
        np.testing.assert_allclose(kernel(table, weights, sky), kernel.py_func(table, weights, sky), rtol=1e-14)
