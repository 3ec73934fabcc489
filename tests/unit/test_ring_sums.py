"""Ring sums against loops over events, and pixels against the frames of the sky."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ConfigurationError
from obsfit.reconstruct import _ring_kernels
from obsfit.reconstruct.ring_sums import as_ring_counts, ring_cells, ring_counts
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.sky.frames import local_to_hour_angle

LATITUDE = np.radians(19.0)


def on_rings(seed=0, n_dec=6, n_time=10, **more):
    counts = np.random.default_rng(seed).poisson(0.4, size=(n_time, n_dec * n_time)).astype(float)
    return EventMap(counts, HourAngleGrid(n_dec, n_time), "rings", Provenance("rings"), **more)


def on_healpix(seed=0, nside=8, n_time=12, **more):
    counts = np.random.default_rng(seed).poisson(0.4, size=(n_time, 12 * nside**2)).astype(float)
    return EventMap(counts, HealpixLocalGrid(nside, LATITUDE), "pixels", Provenance("pixels"), **more)


def by_events(events, n_dec, n_time):
    """Sums of (time bin, band, hour-angle cell, count), one after the other."""
    per_time, per_cell, per_sky = np.zeros(n_time), np.zeros((n_dec, n_time)), np.zeros((n_dec, n_time))
    for t, r, j, count in events:
        per_time[t] += count
        per_cell[r, j] += count
        per_sky[r, t - j if t >= j else t - j + n_time] += count
    return per_time, per_cell, per_sky


def same_sums(found, expected):
    for ours, theirs in zip((found.per_time, found.per_cell, found.per_sky), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("n_dec", "n_time"), [(2, 4), (6, 10), (5, 13)])
def test_rings_are_summed_exactly(n_dec, n_time):
    event_map = on_rings(1, n_dec, n_time)
    events = [(t, p // n_time, p % n_time, event_map.counts[t, p]) for t, p in np.argwhere(event_map.counts)]
    found = ring_counts(event_map)
    for ours, expected in zip(
        (found.per_time, found.per_cell, found.per_sky), by_events(events, n_dec, n_time), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(found.per_declination, found.per_cell.sum(axis=1))


def test_pixels_go_to_the_cell_that_holds_their_centre():
    """Direction of each pixel by the frames of the sky, from azimuth and zenith angle."""
    event_map = on_healpix()
    zenith, longitude = hp.pix2ang(8, np.arange(768))
    hour_angle, dec = local_to_hour_angle(-longitude * u.rad, zenith * u.rad, LATITUDE * u.rad)
    found = ring_counts(event_map)
    n_dec = found.grid.n_dec
    cell = (hour_angle.to_value(u.deg) / 30).astype(int)
    band = ((dec.to_value(u.deg) + 90) / 180 * n_dec).astype(int)
    events = [(t, band[p], cell[p], event_map.counts[t, p]) for t, p in np.argwhere(event_map.counts)]
    for ours, expected in zip(
        (found.per_time, found.per_cell, found.per_sky), by_events(events, n_dec, 12), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    fine = ((dec.to_value(u.deg) + 90) / 180 * n_dec * 8).astype(int)
    np.testing.assert_array_equal(
        found.per_declination, np.bincount(fine, event_map.counts.sum(axis=0), minlength=8 * n_dec)
    )


@pytest.mark.parametrize("nside", [4, 16, 64])
def test_bands_are_one_pixel_high_or_a_little_more(nside):
    event_map = EventMap(np.ones((4, 12 * nside**2)), HealpixLocalGrid(nside, 0.3), "a", Provenance("a"))
    height, pixel = np.pi / ring_counts(event_map).grid.n_dec, hp.nside2resol(nside)
    assert pixel <= height < 1.1 * pixel


def test_pixels_at_the_poles_of_the_sky_have_a_band():
    for latitude in (0.5 * np.pi, -0.5 * np.pi, 0.0):
        band, cell, fine = ring_cells(HealpixLocalGrid(4, latitude), HourAngleGrid(11, 12))
        assert band.min() >= 0
        assert band.max() <= 10
        assert (cell.min(), cell.max()) == (0, 11)
        assert fine.max() <= 87


@pytest.mark.parametrize("make", [on_rings, on_healpix])
def test_squared_weights_are_summed_beside(make):
    plain = make(seed=4)
    squares = np.random.default_rng(5).random(plain.counts.shape)
    weighted = EventMap(plain.counts, plain.grid, "w", Provenance("w"), squared_weights=squares)
    alone = EventMap(squares, plain.grid, "w", Provenance("w"))
    found, expected = ring_counts(weighted).squared, ring_counts(alone)
    assert found is not None
    for ours, name in zip(found, ("per_time", "per_cell", "per_sky", "per_declination"), strict=True):
        np.testing.assert_allclose(ours, getattr(expected, name), rtol=1e-13)


def test_labels_are_kept():
    found = ring_counts(on_healpix(frame="solar", energy="8-13 TeV"))
    assert (found.detector, found.frame, found.energy, found.provenance.name) == (
        "pixels",
        "solar",
        "8-13 TeV",
        "pixels",
    )


def test_rings_are_not_moved_to_other_rings():
    with pytest.raises(ConfigurationError, match="bin the events again"):
        ring_counts(on_rings(), HourAngleGrid(7, 10))


def test_as_many_cells_as_time_bins():
    with pytest.raises(ConfigurationError, match="12 time bins, but 24 cells"):
        ring_counts(on_healpix(), HourAngleGrid(24, 24))


def test_pixels_join_rings_on_their_grid():
    rings, pixels = on_rings(n_dec=9, n_time=12), on_healpix()
    assert [c.grid for c in as_ring_counts([pixels, rings])] == [rings.grid, rings.grid]
    fine = on_healpix(nside=16)
    assert as_ring_counts([fine, pixels])[0].grid == ring_counts(pixels).grid
    assert as_ring_counts(ring_counts(rings))[0].grid == rings.grid


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "no events"),
        ([on_rings(), on_rings(n_dec=7)], "grid"),
        ([on_rings(), on_rings(frame="solar")], "frame solar"),
        ([on_rings(), on_rings(energy="1 TeV")], "energy 1 TeV"),
        (EventMap(np.zeros((4, 8)), HourAngleGrid(2, 4), "blind", Provenance("b")), "blind: no events"),
    ],
)
def test_detectors_that_do_not_fit_are_refused(events, message):
    with pytest.raises(ConfigurationError, match=message):
        as_ring_counts(events)


def test_compiled_and_plain_python_agree():
    rng = np.random.default_rng(9)
    counts = rng.poisson(0.2, size=(7, 4 * 7)).astype(float)
    counts[:, 7:14] = 0.0
    results = [[np.zeros(7), np.zeros((4, 7)), np.zeros((4, 7))] for _ in range(2)]
    kernel = _ring_kernels.sum_on_rings
    for function, out in zip((kernel, kernel.py_func), results, strict=True):
        function(counts, 4, *out)
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, plain)
    counts = rng.poisson(0.2, size=(6, 700)).astype(float)
    counts[:, 256:512] = 0.0
    offset = rng.integers(0, 40, size=700).astype(np.uint32)
    results = [[np.zeros(6), np.zeros(700), np.zeros(48)] for _ in range(2)]
    kernel = _ring_kernels.sum_pixels
    for function, out in zip((kernel, kernel.py_func), results, strict=True):
        function(counts, offset, *out)
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, plain)
