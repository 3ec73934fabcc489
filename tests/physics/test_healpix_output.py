"""From rings to HEALPix: known skies averaged over ring cells by quadrature, and counts over interpolated exposure."""

import healpy as hp
import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from scipy.special import sph_harm_y

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct.healpix_output import (
    calibrated_on_rings,
    counted_map,
    interpolated_exposure,
    interpolated_map,
    pixel_variance,
)
from obsfit.records.count_map import CountMap
from obsfit.records.event_map import HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import MapReconstruction, ObservationSpec

LMAX = 20
LOW, HIGH = np.radians([-31.0, 69.0])
"""Field of view at latitude 19 deg with a zenith cut of 50 deg; both limits lie inside bands of 180 / 128 deg."""
SPEC = ObservationSpec("test", {"order": 1}, ("A", "B"), LOW, HIGH, "sidereal", True, "nothing")


def random_alm(seed=0, slope=-1.5, lowest_m=1):
    """a_lm with C_l proportional to l^(2 slope); without a_l0, as reconstructions leave it."""
    rng = np.random.default_rng(seed)
    ell, m = hp.Alm.getlm(LMAX, np.arange(hp.Alm.getsize(LMAX)))
    alm = rng.normal(size=ell.size) + 1j * rng.normal(size=ell.size)
    return 1e-3 * np.where((m >= lowest_m) & (ell > 0), alm * np.maximum(ell, 1.0) ** slope, 0.0)


def profile(dec, low, high):
    """Exposure of a mid-latitude field: cos of the zenith distance of the meridian, zero outside."""
    return np.where((dec > low) & (dec < high), 0.2 + np.cos(dec - 0.33) ** 2, 0.0)


def reconstruct_exactly(alm, grid, low=-np.pi / 2, high=np.pi / 2, n_sub=8, modulation=0.0):
    """What a perfect reconstruction gives: the mean of the sky over the events of each cell.

    A sky cell gathers all time bins, so that its events follow a triangle of two bins in right ascension.
    """
    edges, alpha = grid.dec_edges_rad, grid.right_ascension_rad
    nodes, weights = leggauss(6)
    fine = np.linspace(-np.pi / 2, np.pi / 2, grid.n_dec * n_sub + 1)
    dec = (0.5 * np.diff(fine)[:, None] * nodes + 0.5 * (fine[1:] + fine[:-1])[:, None]).ravel()
    events = (0.5 * np.diff(fine)[:, None] * weights).ravel() * np.cos(dec) * profile(dec, low, high)
    per_band = events.reshape(grid.n_dec, -1).sum(axis=1)
    intensity = np.zeros((grid.n_dec, grid.n_time))
    seen = per_band > 0
    for ell in range(1, LMAX + 1):
        for m in range(ell + 1):
            value = alm[hp.Alm.getidx(LMAX, ell, m)]
            if value:
                rows = (events * sph_harm_y(ell, m, np.pi / 2 - dec, 0.0).real).reshape(grid.n_dec, -1).sum(axis=1)
                rows = np.divide(rows, per_band, out=np.zeros(grid.n_dec), where=seen)
                wave = (1 if m == 0 else 2) * np.sinc(m / grid.n_time) ** 2 * (value * np.exp(1j * m * alpha)).real
                intensity += np.outer(rows, wave)
    shape = 1 + modulation * np.cos(alpha - 1.0)
    expected = 1e10 * np.outer(per_band, shape) / shape.sum()
    intensity = np.where(seen[:, None], 1 + intensity, np.nan)
    counts = expected * np.nan_to_num(intensity)
    per_declination = 1e10 * events.reshape(grid.n_dec * n_sub, -1).sum(axis=1)
    origins = (Provenance("A"), Provenance("B"))
    assert edges.size == grid.n_dec + 1
    return MapReconstruction(intensity, counts, expected, (), (), per_declination, grid, SPEC, origins)


def relative_errors(found, truth):
    seen = np.isfinite(found)
    return np.std((found - truth)[seen]) / np.std(truth[seen])


@pytest.mark.parametrize(("shape", "bound"), [((128, 360), 7e-4), ((180, 360), 3.6e-4)])
@pytest.mark.parametrize("slope", [-1.5, 0.0], ids=["l^-3", "flat"])
def test_interpolation_of_a_whole_sky(shape, bound, slope):
    """Bounds as of Fourier series and splines that do not know of the width of bands; measured 1e-5 to 3e-5."""
    alm = random_alm(slope=slope)
    truth = hp.alm2map(alm, 64, lmax=LMAX)
    found = interpolated_map(reconstruct_exactly(alm, HourAngleGrid(*shape)), 64).delta_i
    assert np.all(np.isfinite(found))
    assert relative_errors(found, truth) < min(bound, 1e-4)
    # The poles are continued across, not extrapolated to.
    assert np.max(np.abs(found - truth)) < 3e-3 * np.std(truth)


@pytest.mark.parametrize("slope", [-1.5, 0.0], ids=["l^-3", "flat"])
def test_interpolation_of_a_band(slope):
    """Inside the field of view, up to its last, partly covered bands; and what it costs to leave the windows in."""
    alm = random_alm(slope=slope)
    truth = hp.alm2map(alm, 64, lmax=LMAX)
    result = reconstruct_exactly(alm, HourAngleGrid(), LOW, HIGH)
    found = interpolated_map(result, 64).delta_i
    smeared = interpolated_map(result, 64, remove_window=False).delta_i
    dec = np.pi / 2 - hp.pix2ang(64, np.arange(found.size))[0]
    inside = (dec > LOW) & (dec < HIGH)
    assert np.all(np.isfinite(found[inside]))
    assert relative_errors(np.where(inside, found, np.nan), truth) < 7e-4
    middle = (dec > LOW + 0.03) & (dec < HIGH - 0.03)
    assert relative_errors(np.where(middle, found, np.nan), truth) < 2e-4
    assert relative_errors(np.where(middle, smeared, np.nan), truth) > 3 * 2e-4
    # Nothing beyond the bands that were seen.
    assert not np.any(np.isfinite(found[(dec < LOW - 0.03) | (dec > HIGH + 0.03)]))


def test_a_reconstruction_of_a_dipole_keeps_amplitude_and_phase():
    """A dipole of amplitude 1e-3 towards 50 degrees, in 24 bins: no half bin, no mirrored axis.

    The bands next to the poles are 2.8 degrees wide, and their skewness is left: 1.4e-4 of the amplitude there.
    """
    alm = np.zeros(hp.Alm.getsize(LMAX), dtype=complex)
    alm[hp.Alm.getidx(LMAX, 1, 1)] = np.sqrt(2 * np.pi / 3) * 1e-3 * (-np.exp(-1j * np.radians(50)))
    found = interpolated_map(reconstruct_exactly(alm, HourAngleGrid(64, 24)), 32).delta_i
    theta, alpha = hp.pix2ang(32, np.arange(found.size))
    np.testing.assert_allclose(found, 1e-3 * np.sin(theta) * np.cos(alpha - np.radians(50)), atol=2e-7)
    middle = np.abs(np.cos(theta)) < 0.8
    np.testing.assert_allclose(
        found[middle], (1e-3 * np.sin(theta) * np.cos(alpha - np.radians(50)))[middle], atol=2e-8
    )


def test_even_and_odd_numbers_of_bins_up_to_the_last_order():
    """A wave of order n_time / 2 - 1, or (n_time - 1) / 2, at pixels of rings with fewer pixels than bins."""
    for n_time, order in ((24, 11), (25, 12), (24, 12)):
        grid = HourAngleGrid(32, n_time)
        result = reconstruct_exactly(random_alm() * 0, grid)
        wave = 1 + 1e-3 * np.cos(order * grid.right_ascension_rad)
        result = MapReconstruction(
            np.broadcast_to(wave, (32, n_time)), result.counts, result.expected, (), (), result.per_declination,
            grid, SPEC, result.provenance,
        )  # fmt: skip
        found = interpolated_map(result, 16, remove_window=False).delta_i
        theta, alpha = hp.pix2ang(16, np.arange(found.size))
        # Odd orders change sign across a pole, which a wave of one height does not, and the splines feel it nearby.
        middle = np.abs(np.cos(theta)) < 0.5
        np.testing.assert_allclose(found[middle], 1e-3 * np.cos(order * alpha[middle]), atol=1e-9)


def test_bands_seen_in_part_are_refused_by_name():
    result = reconstruct_exactly(random_alm(), HourAngleGrid(64, 90), LOW, HIGH)
    broken = result.relative_intensity.copy()
    broken[40, 3:9] = np.nan
    torn = MapReconstruction(
        broken,
        result.counts,
        result.expected,
        (),
        (),
        result.per_declination,
        result.grid,
        SPEC,
        result.provenance,
    )
    with pytest.raises(ObsfitError, match=r"1 bands between declinations 23\.9 and 23\.9 deg"):
        interpolated_map(torn, 16)


def exposure_on_parts(nside, parts=8):
    """Exact exposure of parts x parts parts of each pixel, shape (npix * parts^2,) in RING order."""
    fine = nside * parts
    theta, alpha = hp.pix2ang(fine, np.arange(hp.nside2npix(fine)))
    shape = (1 + 0.3 * np.cos(alpha - 1.0)) / (2 * np.pi)
    return 1e10 * profile(np.pi / 2 - theta, LOW, HIGH) * shape * 4 * np.pi / theta.size


def on_pixels(values, parts=8):
    """Sum over the parts of each pixel."""
    return hp.reorder(hp.reorder(values, r2n=True).reshape(-1, parts**2).sum(axis=1), n2r=True)


def test_exposure_with_modulation():
    """Linear interpolation of a smooth exposure, against sums over 64 parts of each pixel; not at partly covered bands.

    The value at the centre will not do: between equator and polar caps the centre of a pixel is not its middle.
    """
    result = reconstruct_exactly(random_alm() * 0, HourAngleGrid(), LOW, HIGH, modulation=0.3)
    found = interpolated_exposure(result, 32)
    exact = on_pixels(exposure_on_parts(32))
    dec = np.pi / 2 - hp.pix2ang(32, np.arange(found.size))[0]
    inside = (dec > LOW + 0.06) & (dec < HIGH - 0.06)
    np.testing.assert_allclose(found[inside], exact[inside], rtol=2e-4)
    assert not np.any(found[(dec < LOW - 0.06) | (dec > HIGH + 0.06)])


@pytest.mark.parametrize("minimum", [0.3, 0.02])
def test_counted_maps_are_right_but_for_ring_means(minimum):
    """Expected counts of pixels by their own quadrature: the error of dI after ring means are removed.

    Bound 3e-5 above 30 % of the peak exposure. At the edge the exposure ends inside pixels, and only whole rings of
    pixels are right. The truth is the mean over 64 parts of each pixel.
    """
    alm = random_alm(3)
    nside = 32
    exposure = exposure_on_parts(nside)
    counts = on_pixels(exposure * (1 + hp.alm2map(alm, 8 * nside, lmax=LMAX)))
    result = reconstruct_exactly(alm, HourAngleGrid(), LOW, HIGH, modulation=0.3)
    # The quadratures of rings and pixels agree to 1e-4 in total: the limits lie inside pixels.
    counts *= result.counts.sum() / counts.sum()
    found = counted_map(counts, result, minimum_exposure=minimum)
    delta_i, seen = found.sky_map().delta_i, np.isfinite(found.background)
    truth = np.divide(counts, on_pixels(exposure), out=np.ones(counts.size), where=on_pixels(exposure) > 0)
    dec = np.pi / 2 - hp.pix2ang(nside, np.arange(counts.size))[0]
    edge = np.radians(2.0)
    check = seen & (dec > LOW + edge) & (dec < HIGH - edge)
    ring = np.round(dec * 1e9)
    for value in np.unique(ring[seen]):
        row = seen & (ring == value)
        assert delta_i[row].mean() == pytest.approx(0.0, abs=1e-14)
        truth[row] /= truth[row].mean()
    assert np.std((delta_i - truth + 1)[check]) < 3e-5
    assert check.sum() > 0.65 * counts.size
    peak = np.nanmax(found.background)
    assert found.background[seen].min() > 0.9 * minimum * peak


def test_counted_map_refuses_other_events():
    result = reconstruct_exactly(random_alm() * 0, HourAngleGrid(64, 90), LOW, HIGH)
    with pytest.raises(ObsfitError, match="the same events"):
        counted_map(np.ones(768), result)
    with pytest.raises(ValueError, match="not negative"):
        counted_map(np.full(768, -1.0), result)
    with pytest.raises(ValueError, match="12 nside"):
        counted_map(np.ones(700), result)
    with pytest.raises(ConfigurationError, match="power of two"):
        interpolated_map(result, 12)
    with pytest.raises(ConfigurationError, match="minimum_exposure between 0 and 1"):
        interpolated_map(result, 16, minimum_exposure=2.0)


def test_provenance_names_the_detectors_and_the_method():
    result = reconstruct_exactly(random_alm() * 0, HourAngleGrid(64, 90), LOW, HIGH)
    origin = interpolated_map(result, 8).provenance
    assert origin.name == "A+B"
    assert origin.overlaps == ("A", "B")
    assert origin.meta["method"] == "test"


def test_rings_without_events_leave_the_map_and_weights_give_the_variance():
    counts, expected = np.full(48, 6.0), np.full(48, 2.0)
    counts[:4] = 0.0
    found = calibrated_on_rings(counts, expected)
    assert not found[:4].any()
    np.testing.assert_allclose(found[4:], 6.0)
    outside = np.where(found > 0, 0.0, np.nan)
    plain = CountMap(counts + outside, found + outside, Provenance("toy"))
    weighted = CountMap(
        counts + outside, found + outside, Provenance("toy"), squared_weights=np.full(48, 12.0) + outside
    )
    np.testing.assert_allclose(pixel_variance(plain), np.r_[np.zeros(4), np.full(44, 1 / 6.0)])
    np.testing.assert_allclose(pixel_variance(weighted), np.r_[np.zeros(4), np.full(44, 12.0 / 36.0)])
    with pytest.raises(ValueError, match="not NaN in the same pixels"):
        CountMap(counts + outside, found + outside, Provenance("toy"), squared_weights=np.full(48, 12.0))
    with pytest.raises(ValueError, match="squared_weights: value -12"):
        CountMap(counts, expected, Provenance("toy"), squared_weights=np.full(48, -12.0))


def test_squared_weights_are_carried_along():
    result = reconstruct_exactly(random_alm() * 0, HourAngleGrid(64, 90), LOW, HIGH)
    counts = interpolated_exposure(result, 16)
    counts *= result.counts.sum() / counts.sum()
    found = counted_map(counts, result, squared_weights=3 * counts)
    seen = np.isfinite(found.counts)
    np.testing.assert_allclose(found.squared_weights[seen], 3 * counts[seen])
    np.testing.assert_allclose(pixel_variance(found)[seen], 3 / counts[seen], rtol=1e-9)
