"""What the fitted exposure adds to the noise of iterative maps, by isotropic mocks through the whole chain."""

import astropy.units as u
import numpy as np
import pytest
from scipy.stats import norm

from obsfit import Observatory
from obsfit.errors import ObsfitError
from obsfit.mock.detector import Acceptance, Exposure, MockDetector, Modulation
from obsfit.mock.observe import fluctuate, observe
from obsfit.mock.skies import isotropic_sky
from obsfit.reconstruct.healpix_output import interpolated_exposure, interpolated_map
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.records.event_map import HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import MapReconstruction
from obsfit.records.sky_map import SkyMap
from obsfit.sky.harmonics import alm_power
from obsfit.spectra.noise import exposure_noise, noise_band, noise_power, pseudo_alm
from obsfit.spectra.pseudo import pseudo_spectrum

LMAX, NSIDE, MOCKS = 4, 16, 250
FIELDS = {"mid-latitude": ((19, 50),), "pole": ((-90, 65),), "both": ((19, 50), (-90, 65))}


def expected_events(latitude, zenith_max, modulation=0.0):
    site = Observatory(f"at {latitude}", latitude * u.deg, 0 * u.deg, zenith_max * u.deg)
    exposure = Exposure(modulations=(Modulation("sidereal", modulation, 60 * u.deg),))
    detector = MockDetector(site, Acceptance(power=2.0, east_west=0.05), exposure)
    return observe(isotropic_sky(), detector, n_events=1e8, grid=HourAngleGrid(32, 48), asimov=True)


def predicted(result, weight, added):
    counts = np.where(weight > 0, interpolated_exposure(result, NSIDE), 1.0)
    noise = noise_power(weight, 1 / counts, LMAX, filtered=True)[1:]
    blocks = exposure_noise(result, weight, LMAX)
    extra = 2 * np.einsum("mll->l", blocks)[1:] / (2 * np.arange(1, LMAX + 1) + 1)
    return noise + extra if added else noise


@pytest.mark.parametrize("field", FIELDS)
def test_noise_of_iterative_maps(field):
    """250 mocks: powers at l = 1 to 4 known to 2 to 6 %; false alarm 1e-4 for each field.

    The cells of 5.6 by 7.5 degrees add noise of small scales that pixels take for large ones, 2 % at l <= 3 and more
    beyond; it is taken as an error of 3 %.
    """
    expected = [expected_events(*site) for site in FIELDS[field]]
    solver = IterativeLikelihood(tolerance=1e-7)
    result = solver.reconstruct(expected)
    seen = np.isfinite(interpolated_map(result, NSIDE, minimum_exposure=0.05).delta_i)
    weight = np.where(seen, 1.0, 0.0)
    rng = np.random.default_rng(31)
    powers = np.zeros((MOCKS, LMAX))
    for i in range(MOCKS):
        mock = solver.reconstruct([fluctuate(one, rng=rng) for one in expected])
        delta_i = interpolated_map(mock, NSIDE, minimum_exposure=0.04).delta_i
        assert np.all(np.isfinite(delta_i[seen]))
        powers[i] = alm_power(pseudo_alm(delta_i, weight, LMAX, filtered=True))[1:]
    full, counts_alone = predicted(result, weight, True), predicted(result, weight, False)
    error = np.hypot(powers.std(axis=0) / np.sqrt(MOCKS), 0.03 * full)
    limit = norm.isf(0.5e-4 / LMAX)
    assert np.max(np.abs(powers.mean(axis=0) - full) / error) < limit
    inflation = full / counts_alone
    if field == "pole":
        np.testing.assert_allclose(inflation, 1.0, atol=2e-3)
    else:
        assert np.abs(powers.mean(axis=0)[0] - counts_alone[0]) / error[0] > 2 * limit or field == "both"
    if field == "mid-latitude":
        np.testing.assert_allclose(inflation[:3], [4.5, 1.5, 1.1], rtol=0.1)


def test_records_carry_the_added_noise():
    expected = expected_events(19, 50)
    result = IterativeLikelihood().reconstruct(expected)
    sky = interpolated_map(result, NSIDE, minimum_exposure=0.05)
    weight = np.where(np.isfinite(sky.delta_i), 1.0, 0.0)
    counts = np.where(weight > 0, interpolated_exposure(result, NSIDE), 0.0)
    blocks = exposure_noise(result, weight, LMAX)
    record = pseudo_spectrum(sky, energy=1 * u.TeV, weight=weight, lmax=LMAX, counts=counts, extra_noise=blocks)
    np.testing.assert_allclose(record.noise, predicted(result, weight, True), rtol=1e-10)
    variance = np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)
    band = noise_band(weight, variance, LMAX, filtered=True, extra=blocks)
    np.testing.assert_allclose(record.isotropic_high, band.high, rtol=1e-12)
    np.testing.assert_allclose(band.mean, record.noise, rtol=1e-9)
    assert record.isotropic_high[0] > 3 * noise_band(weight, variance, LMAX, filtered=True).high[0]


def test_a_field_of_one_hour_angle_does_not_determine_the_exposure():
    """Every event on the meridian: the sky of a time bin and its exposure are one number."""
    grid = HourAngleGrid(8, 12)
    acceptance = np.zeros((8, 12))
    acceptance[2:6, 0] = 0.25
    flat = np.where(acceptance.sum(axis=1, keepdims=True) > 0, np.ones((8, 12)), 0.0)
    spec = IterativeLikelihood().reconstruct(expected_events(-90, 65)).spec
    exposure, per_declination = (np.full(12, 400 / 12.0),), 1200 * acceptance.sum(axis=1)
    result = MapReconstruction(
        np.ones((8, 12)), 100 * flat, 100 * flat, exposure, (acceptance,), per_declination, grid, spec,
        (Provenance("toy"),),
    )  # fmt: skip
    assert isinstance(interpolated_map(result, 4), SkyMap)
    with pytest.raises(ObsfitError, match="m = 1 of the exposure is not determined"):
        exposure_noise(result, np.ones(192), 3)
    with pytest.raises(ValueError, match="below half of 12 time bins"):
        exposure_noise(result, np.ones(192), 6)
