"""Errors of multipoles along the way of a user: mock observatory, file, public reader, likelihood."""

import itertools

import astropy.units as u
import numpy as np
import pytest
from scipy.stats import chi2

import obsfit
from obsfit.ingest.multimap import read_multimap, write_multimap
from obsfit.mock import Acceptance, Exposure, MockDetector, Modulation, dipole_sky, fluctuate, observe
from obsfit.reconstruct import LowMultipoleLikelihood
from obsfit.records import HealpixLocalGrid

DIPOLE = (6e-4, 5e-4, 0.0)
SITES = {"19 deg": (19.0, 50.0, 11), "pole": (-90.0, 65.0, 12)}


def multipoles_of_files(site, number, folder):
    """Parts of a_lm (number, 12) of Poisson mocks that went through files, and the predicted covariance."""
    latitude, cut, seed = SITES[site]
    place = obsfit.Observatory(site, latitude * u.deg, 0 * u.deg, cut * u.deg)
    detector = MockDetector(
        place, Acceptance(power=2.0, east_west=0.05), Exposure((Modulation("sidereal", 0.2, 1.0 * u.rad),))
    )
    rng = np.random.default_rng(seed)
    grids = {"h5": obsfit.HourAngleGrid(48, 120), "fits": HealpixLocalGrid(16, np.radians(latitude))}
    expected = {
        kind: observe(dipole_sky(DIPOLE), detector, n_events=1e9, grid=grid, asimov=True, n_time=120)
        for kind, grid in grids.items()
    }
    found, predicted = {kind: [] for kind in grids}, {}
    for kind, _ in itertools.product(grids, range(number)):
        path = folder / f"mock.{kind}"
        events = fluctuate(expected[kind], rng=rng)
        if kind == "h5":
            obsfit.write_record(path, events, overwrite=True)
            read = obsfit.read_record(path)
        else:
            write_multimap(path, events, overwrite=True)
            read = read_multimap(path, observatory=place)
        result = LowMultipoleLikelihood(lmax=3).reconstruct(read)
        found[kind].append(np.concatenate([result.alm.real, result.alm.imag]))
        predicted[kind] = result.covariance
    return {kind: (np.array(found[kind]), predicted[kind]) for kind in grids}


def likelihood_ratio(samples, covariance):
    """Probability of a larger -2 ln(likelihood ratio) of the sample covariance, with Bartlett's factor."""
    n, p = len(samples) - 1, samples.shape[1]
    ratio = np.linalg.solve(covariance, np.cov(samples.T))
    statistic = n * (np.trace(ratio) - np.linalg.slogdet(ratio)[1] - p)
    factor = 1 - (2 * p + 1 - 2 / (p + 1)) / (6 * n)
    return chi2.sf(factor * statistic, p * (p + 1) / 2)


@pytest.mark.parametrize("site", SITES)
def test_the_full_covariance_is_that_of_mocks_from_files(site, tmp_path):
    """100 mocks of each kind of file; a right covariance fails with probability 0.01 (fixed seed).

    500 mocks by the same function: p = 0.038 (HDF5, rings) and 0.73 (FITS, HEALPix) at 19 degrees, 0.28 and 0.77 at
    the pole.
    """
    for samples, covariance in multipoles_of_files(site, 100, tmp_path).values():
        assert likelihood_ratio(samples, covariance) > 0.01
        assert likelihood_ratio(samples, 1.5 * covariance) < 0.01
