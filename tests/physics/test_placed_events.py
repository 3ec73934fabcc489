"""Events of rings placed on HEALPix: nothing lost, isotropy stays Poisson, and a dipole stays where it is."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy.stats import chi2

from obsfit import Observatory
from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.mock import Acceptance, MockDetector, dipole_sky, isotropic_sky, observe
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.placed_events import placed_map
from obsfit.records.event_map import HourAngleGrid

GRID = HourAngleGrid(64, 180)
# The edge of the field of view is that of a band: a band in part would move the declinations of its events.
POLE = MockDetector(Observatory("pole", -90 * u.deg, 0 * u.deg, 23 * 180 / 64 * u.deg), Acceptance(power=2.0))


def reconstruction(sky, n_events, **options):
    return IterativeLikelihood().reconstruct(observe(sky, POLE, n_events=n_events, grid=GRID, **options))


@pytest.fixture(scope="module")
def isotropic():
    return reconstruction(isotropic_sky(), 1e8, rng=np.random.default_rng(3))


def test_every_event_is_placed_and_none_twice(isotropic):
    found = placed_map(isotropic, 32, rng=np.random.default_rng(5))
    seen = np.isfinite(found.counts)
    assert np.all(found.counts[seen] == np.rint(found.counts[seen]))
    # Rings at the edge, of a few events, are not observed.
    lost = isotropic.counts.sum() - found.counts[seen].sum()
    assert 0 <= lost < 2e-3 * isotropic.counts.sum()


def test_rings_of_pixels_have_mean_one(isotropic):
    found = placed_map(isotropic, 32, rng=np.random.default_rng(5))
    start, count, _, _, _ = hp.ringinfo(32, np.arange(1, 128))
    for first, size in zip(start, count, strict=True):
        ring = found.sky_map().delta_i[first : first + size]
        if np.isfinite(ring).any():
            assert abs(np.nanmean(ring)) < 1e-12


def test_pixels_of_an_isotropic_sky_scatter_as_poisson_counts(isotropic):
    """Chi-square over pixels less one for each ring, the degrees that ring means take; false alarm 1e-4 each side."""
    found = placed_map(isotropic, 32, rng=np.random.default_rng(7))
    seen = np.isfinite(found.counts)
    square = float(np.sum((found.counts[seen] - found.background[seen]) ** 2 / found.background[seen]))
    _, count, _, _, _ = hp.ringinfo(32, np.arange(1, 128))
    rings = np.unique(np.searchsorted(np.cumsum(count), np.flatnonzero(seen), side="right")).size
    freedom = int(seen.sum()) - rings
    assert chi2.ppf(1e-4, freedom) < square < chi2.isf(1e-4, freedom)


def test_a_dipole_keeps_direction_and_amplitude():
    """Fitted with plain cosines on pixel centres.

    Two bins and bands of 2 and 3 degrees and pixels of 2 degrees leave 1 - 6e-4 of it; pixels at the edge of the
    field of view, whose events are on one side, as much again.
    """
    truth = np.array([0.06, -0.08])
    rings = reconstruction(dipole_sky([*truth, 0.0]), 1e12, rng=np.random.default_rng(11))
    found = placed_map(rings, 32, rng=np.random.default_rng(13))
    seen = np.isfinite(found.counts)
    theta, phi = (angle[seen] for angle in hp.pix2ang(32, np.arange(seen.size)))
    design = np.sin(theta) * np.array([np.cos(phi), np.sin(phi)])
    weight = found.background[seen]
    fit = np.linalg.solve((design * weight) @ design.T, (design * weight) @ found.sky_map().delta_i[seen])
    assert np.allclose(fit, truth, rtol=2e-3)
    assert np.arctan2(fit[1], fit[0]) == pytest.approx(np.arctan2(truth[1], truth[0]), abs=1e-4)


def test_sums_of_weights_are_refused():
    asimov = reconstruction(isotropic_sky(), 12345.6, asimov=True)
    with pytest.raises(ObsfitError, match="whole numbers of events"):
        placed_map(asimov, 16, rng=np.random.default_rng(1))


def test_a_wrong_resolution_is_named(isotropic):
    with pytest.raises(ConfigurationError, match="nside 12"):
        placed_map(isotropic, 12, rng=np.random.default_rng(1))
