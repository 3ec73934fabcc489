"""Noise powers printed in the papers, from maps of pixels with those numbers of events."""

import healpy as hp
import numpy as np
import pytest

from obsfit.spectra.noise import noise_power

NSIDE = 64
DEC = np.degrees(np.pi / 2 - hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))[0])
BANDS = {"IceCube": DEC <= -25, "HAWC": (DEC >= -26) & (DEC <= 64)}


def white_noise(band, events):
    """Noise of a map without weight and filter, of events spread evenly over a band, and its sky fraction."""
    seen = BANDS[band]
    variance = np.where(seen, seen.sum() / events, 0.0)
    noise = noise_power(seen.astype(float), variance, 4, filtered=False)
    np.testing.assert_allclose(noise, noise[0], rtol=1e-12)
    return noise[0], seen.mean()


@pytest.mark.parametrize(("band", "events", "printed"), [("IceCube", 3.2e11, 3.3e-12), ("HAWC", 4.9e10, 1.15e-10)])
def test_eq_32_of_am17(band, events, printed):
    noise, fraction = white_noise(band, events)
    assert noise == pytest.approx(4 * np.pi * fraction**2 / events, rel=1e-12)
    assert noise == pytest.approx(printed, rel=0.02)


@pytest.mark.parametrize(("band", "events", "printed"), [("IceCube", 1.5e11, 2.5e-11), ("HAWC", 4.9e10, 1.8e-10)])
def test_e8_noise_of_astra_is_that_of_powers_divided_by_the_sky_fraction(band, events, printed):
    """ASTRA prints 4 pi f_sky / N with f_sky = 0.3 and 0.7; AM17 has its square. Both are right, of their estimator."""
    noise, fraction = white_noise(band, events)
    rounded = {"IceCube": 0.3, "HAWC": 0.7}[band]
    assert noise / fraction == pytest.approx(4 * np.pi * fraction / events, rel=1e-12)
    assert noise / fraction * rounded / fraction == pytest.approx(printed, rel=0.02)
    assert noise != pytest.approx(printed, rel=0.2)


def test_e9_the_printed_noise_of_hawc_belongs_to_4_9e10_events():
    noise, fraction = white_noise("HAWC", 4.6e10)
    assert noise / fraction * 0.7 / fraction == pytest.approx(1.9e-10, rel=0.02)


def test_the_filter_halves_the_noise_of_a_polar_cap():
    """Eq. (31) alone overestimates a cap's noise at l = 1 to 3 by up to a factor of two, and is right at large l."""
    seen = BANDS["IceCube"]
    variance = np.where(seen, 1.0, 0.0)
    whole = noise_power(seen.astype(float), variance, 30, filtered=False)
    filtered = noise_power(seen.astype(float), variance, 30, filtered=True)
    ratio = whole[1:] / filtered[1:]
    assert 1.7 < ratio[0] < 2.3
    assert np.all(np.diff(ratio[:4]) < 0)
    assert ratio[-1] == pytest.approx(1.0, abs=0.06)
