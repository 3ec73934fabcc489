"""From mock events to HEALPix maps, significances and spectra by the whole chain."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit import Observatory
from obsfit.mock.detector import Acceptance, Exposure, MockDetector, Modulation
from obsfit.mock.event_lists import draw_events
from obsfit.mock.observe import observe
from obsfit.mock.skies import dipole_sky, disc_sky, harmonic_sky
from obsfit.reconstruct.healpix_output import counted_map, interpolated_exposure, interpolated_map
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.significance import TopHat, significance_map
from obsfit.records.event_map import HourAngleGrid, RingCounts
from obsfit.records.provenance import Provenance
from obsfit.sky.ring_means import subtract_ring_means
from obsfit.spectra.covariance import pseudo_moments
from obsfit.spectra.pseudo import pseudo_spectrum
from obsfit.spectra.windows import map_coupling

SITES = {
    "mid-latitude": Observatory("HAWC", 19 * u.deg, -97.3 * u.deg, 50 * u.deg),
    "pole": Observatory("IceCube", -90 * u.deg, 0 * u.deg, 65 * u.deg),
}


def detector(site):
    return MockDetector(
        SITES[site],
        Acceptance(power=2.0, east_west=0.05),
        Exposure(modulations=(Modulation("sidereal", 0.2, 60 * u.deg),)),
    )


def random_alm(lmax, seed):
    rng = np.random.default_rng(seed)
    ell, m = hp.Alm.getlm(lmax, np.arange(hp.Alm.getsize(lmax)))
    alm = (
        1e-3 * (rng.normal(size=ell.size) + 1j * (m > 0) * rng.normal(size=ell.size)) / np.maximum(ell, 1.0) ** 1.5
    )
    alm[0] = 0.0
    return alm


@pytest.mark.parametrize("site", SITES)
def test_expected_counts_come_back_as_the_sky_without_ring_means(site):
    """Noise-free, l <= 10 with a_l0: 1e-3 of the root mean square, all of it the cells of 1.4 by 1 degrees.

    And the pseudo-spectrum of the map is that of the true a_lm through window and filter.
    """
    alm = random_alm(10, 1)
    events = observe(harmonic_sky(alm), detector(site), n_events=1e10, grid=HourAngleGrid(), asimov=True)
    result = IterativeLikelihood().reconstruct(events)
    found = interpolated_map(result, 32).delta_i
    low, high = SITES[site].latitude.to_value(u.rad) + np.array([-1, 1]) * SITES[site].zenith_max.to_value(u.rad)
    dec = np.pi / 2 - hp.pix2ang(32, np.arange(found.size))[0]
    middle = np.isfinite(found) & (dec > low + 0.05) & (dec < high - 0.05)
    truth = subtract_ring_means(hp.alm2map(alm, 32, lmax=10), middle)
    assert middle.sum() > 0.25 * found.size
    assert np.std((found - truth)[middle]) < 1e-3 * np.std(truth[middle])
    weight = np.where(middle, 1.0, 0.0)
    sky = type(interpolated_map(result, 8))(found, Provenance("mock"))
    record = pseudo_spectrum(sky, energy=10 * u.TeV, weight=weight, lmax=10)
    folded = pseudo_moments(map_coupling(weight, 10, filtered=True), fixed_alm=alm).mean
    np.testing.assert_allclose(record.c_ell, folded, rtol=5e-3, atol=1e-4 * folded.max())


@pytest.mark.parametrize("site", SITES)
def test_counted_events_are_poisson_about_exposure_times_sky(site):
    """A million events counted on HEALPix and on rings: chi-square of the pixels, false alarm 1e-5 (4.3 sigma).

    A sky of 20 % tells a bin or an axis that is off: half a bin of 1 degree alone costs nothing, a mirrored axis all.
    The true dipole of 0.2 must be in, and the significance of a hot spot on top of it where it was put.
    """
    sky = dipole_sky([0.15, -0.1, 0.3]) + disc_sky(
        60 * u.deg, (-50 if site == "pole" else 15) * u.deg, radius=12 * u.deg, excess=0.08
    )
    table = draw_events(
        sky, detector(site), n_events=1e6, start_mjd=58000.0, stop_mjd=58100.0, rng=np.random.default_rng(21)
    )
    grid = HourAngleGrid(128, 360)
    time = np.floor(table["sidereal_rad"] / (2 * np.pi) * 360).astype(int) % 360
    hour_angle = np.mod(table["sidereal_rad"] - table["right_ascension_rad"], 2 * np.pi)
    cell = np.floor(hour_angle / (2 * np.pi) * 360).astype(int) % 360
    fine = np.floor((table["declination_rad"] / np.pi + 0.5) * 1024).astype(int)
    band = fine // 8
    sums = RingCounts(
        np.bincount(time, minlength=360).astype(float),
        np.bincount(band * 360 + cell, minlength=128 * 360).reshape(128, 360).astype(float),
        np.bincount(band * 360 + (time - cell) % 360, minlength=128 * 360).reshape(128, 360).astype(float),
        np.bincount(fine, minlength=1024).astype(float),
        grid,
        "mock",
        Provenance("mock"),
    )
    result = IterativeLikelihood().reconstruct(sums)
    nside = 16
    pixel = hp.ang2pix(nside, np.pi / 2 - table["declination_rad"], table["right_ascension_rad"])
    counts = np.bincount(pixel, minlength=12 * nside**2).astype(float)
    assert interpolated_exposure(result, nside).sum() == pytest.approx(len(table), rel=2e-2)
    found = counted_map(counts, result)
    seen = np.isfinite(found.background)
    theta, alpha = hp.pix2ang(nside, np.arange(counts.size))
    intensity = sky.relative_intensity(alpha, np.pi / 2 - theta)
    centre = hp.ang2vec(np.radians(140 if site == "pole" else 75), np.radians(60))
    distance = np.arccos(np.array(hp.pix2vec(nside, np.arange(counts.size))).T @ centre)
    # Pixels that the edge of the disc cuts have a mean that is not that of their centre.
    keep = seen & (np.abs(distance - np.radians(12)) > np.radians(4))
    ring = np.round(theta * 1e9)
    expected = np.zeros(counts.size)
    for value in np.unique(ring[seen]):
        row = seen & (ring == value)
        expected[row] = found.background[row] * intensity[row] / intensity[row].mean()
    chi_square = np.sum((counts[keep] - expected[keep]) ** 2 / expected[keep])
    # One constraint for each ring, and the exposure of 360 time bins smoothed over the field of view.
    freedom = keep.sum() - np.unique(ring[keep]).size
    assert chi_square == pytest.approx(freedom, abs=4.3 * np.sqrt(2 * freedom) + 40)
    mirrored = hp.ang2pix(nside, theta, 2 * np.pi - alpha)
    wrong = np.sum((counts[mirrored][keep] - expected[keep]) ** 2 / expected[keep])
    assert wrong > 3 * freedom
    beyond = significance_map(found, smoothing=TopHat(np.radians(12)), null_lmax=1)
    peak = int(np.nanargmax(beyond.significance))
    assert distance[peak] < np.radians(6)
    assert beyond.significance[peak] > 6
