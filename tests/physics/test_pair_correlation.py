"""The correlation function of a cut sky by pairs of pixels and by pseudo-powers."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ConfigurationError
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap
from obsfit.sky.harmonics import correlation_function
from obsfit.spectra.correlation import pair_correlation, pseudo_correlation

NSIDE = 16
N_PIX = 12 * NSIDE**2
THETA, ALPHA = hp.pix2ang(NSIDE, np.arange(N_PIX))
SIN_DEC = np.cos(THETA)
BAND = np.where((SIN_DEC > -0.44) & (SIN_DEC < 0.9), 1.0 + 0.3 * SIN_DEC, 0.0)
CAP = np.where(SIN_DEC < -0.42, np.abs(SIN_DEC), 0.0)
EDGES = np.linspace(0.0, 180.0, 37) * u.deg


def sky(values, weight=None):
    return SkyMap(values if weight is None else np.where(weight > 0, values, np.nan), Provenance("mock"))


def random_sky(seed, lmax=6):
    rng = np.random.default_rng(seed)
    ell, m = hp.Alm.getlm(lmax, np.arange(hp.Alm.getsize(lmax)))
    alm = (rng.normal(size=ell.size) + 1j * (m > 0) * rng.normal(size=ell.size)) / np.maximum(ell, 1.0)
    alm[0] = 0.0
    return alm, hp.alm2map(alm, NSIDE, lmax=lmax)


def test_pairs_by_two_loops():
    """Every pair of a map of 192 pixels, one by one."""
    rng = np.random.default_rng(1)
    values, weight = rng.normal(size=192), rng.uniform(size=192) * (np.arange(192) < 150)
    vectors = np.array(hp.pix2vec(4, np.arange(192))).T
    edges = np.radians([0.0, 20.0, 47.0, 100.0, 171.0])
    top, bottom, count = np.zeros((3, 4))
    for i in range(192):
        for j in range(i):
            if weight[i] and weight[j]:
                angle = np.arctan2(np.linalg.norm(np.cross(vectors[i], vectors[j])), vectors[i] @ vectors[j])
                place = np.searchsorted(edges, angle, side="right") - 1
                if 0 <= place < 4:
                    top[place] += weight[i] * weight[j] * values[i] * values[j]
                    bottom[place] += weight[i] * weight[j]
                    count[place] += 1
    found = pair_correlation(sky(values), edges=edges * u.rad, weight=weight, filter_m0=False)
    np.testing.assert_allclose(found.correlation, top / bottom, rtol=1e-10)
    np.testing.assert_array_equal(found.pairs, count)


def test_a_full_sky_has_the_correlation_of_its_powers():
    """Eqs. (9) and (10) of A14: pairs in narrow bins of the whole sphere; to 2 %, by the grid of 3072 pixels."""
    alm, values = random_sky(2)
    found = pair_correlation(sky(values), edges=EDGES, filter_m0=False)
    from_powers = correlation_function(hp.alm2cl(alm), found.separation_rad * u.rad)
    scale = np.mean(values**2)
    np.testing.assert_allclose(found.correlation[1:], from_powers[1:], atol=0.02 * scale)
    assert found.pairs.sum() == N_PIX * (N_PIX - 1) / 2


@pytest.mark.parametrize("weight", [BAND, CAP], ids=["band", "cap"])
@pytest.mark.parametrize("filtered", [True, False])
def test_pairs_and_pseudo_powers_agree_on_a_cut_sky(weight, filtered):
    """The same function by two routes, beyond the pixels with themselves and up to the rare widest pairs."""
    _, values = random_sky(3)
    found = pair_correlation(sky(values, weight), edges=EDGES, weight=weight, filter_m0=filtered)
    plenty = (found.pairs > 0.01 * found.pairs.max()) & (np.arange(found.pairs.size) > 1)
    by_powers = pseudo_correlation(
        sky(values, weight), separation=found.separation_rad * u.rad, weight=weight, filter_m0=filtered
    )
    scale = np.mean(values[weight > 0] ** 2)
    np.testing.assert_allclose(found.correlation[plenty], by_powers[plenty], atol=0.03 * scale)
    if weight is CAP:
        # A cap of radius 65 degrees has no pairs wider than 130.
        assert np.all(np.isnan(found.correlation[EDGES[:-1].value > 131]))


def test_noise_adds_nothing_but_at_no_separation():
    """300 maps of noise alone, without the filter: zero in each of 18 bins; false alarm 1e-4 (3.9 + margin sigma).

    With the filter, pixels of one ring share their mean: summed over all pairs and pixels, a ring has none.
    """
    rng = np.random.default_rng(4)
    edges = np.linspace(0.0, 180.0, 19) * u.deg
    nside = 8
    seen = np.cos(hp.pix2ang(nside, np.arange(12 * nside**2))[0]) < 0.5
    found = []
    for _ in range(300):
        values = np.where(seen, rng.normal(size=seen.size), np.nan)
        found.append(pair_correlation(sky(values), edges=edges, filter_m0=False).correlation)
    found = np.array(found)
    filled = np.all(np.isfinite(found), axis=0)
    pulls = found.mean(axis=0)[filled] / found.std(axis=0)[filled] * np.sqrt(300)
    assert filled.sum() >= 17
    assert np.max(np.abs(pulls)) < 4.5
    values = np.where(seen, rng.normal(size=seen.size), np.nan)
    whole = pair_correlation(sky(values), edges=[0.0, 180.0] * u.deg)
    total = whole.correlation[0] * whole.pairs[0]
    from_rings = -0.5 * np.sum(
        [
            np.sum((values[ring] - values[ring].mean()) ** 2)
            for ring in np.split(
                np.arange(seen.size), np.cumsum(hp.ringinfo(nside, np.arange(1, 4 * nside))[1])[:-1]
            )
            if seen[ring].all()
        ]
    )
    assert total == pytest.approx(from_rings, rel=1e-9)


def test_refusals():
    _, values = random_sky(5)
    with pytest.raises(ValueError, match="increasing angles"):
        pair_correlation(sky(values), edges=[10.0, 5.0] * u.deg)
    with pytest.raises(ValueError, match="increasing angles"):
        pair_correlation(sky(values), edges=[0.0, 190.0] * u.deg)
    with pytest.raises(ConfigurationError, match="Degrade the map"):
        pair_correlation(sky(np.zeros(12 * 128**2)), edges=EDGES)
