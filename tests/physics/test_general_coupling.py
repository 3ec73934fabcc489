"""Coupling by a weight that depends on right ascension: limits, rotations, and the same steps done by healpy."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.sky.coupling import band_coupling, general_coupling

NSIDE, LMAX = 32, 6
ELL = np.repeat(np.arange(LMAX + 1), 2 * np.arange(LMAX + 1) + 1)
EM = np.arange((LMAX + 1) ** 2) - ELL * (ELL + 1)
Z = hp.pix2vec(NSIDE, np.arange(hp.nside2npix(NSIDE)))[2]


def weight_of(nside=NSIDE, rotation=0.0):
    """A smooth weight, at most one, that is zero on a disc of 60 deg about declination 10 deg."""
    theta, alpha = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    distance = np.sin(theta) * np.cos(alpha - rotation) * np.cos(0.17) + np.cos(theta) * np.sin(0.17)
    return np.maximum(0.0, 0.5 - distance) ** 3 / 3.375


def azimuthal(matrices):
    """K of a weight of declination alone."""
    full = np.zeros(((LMAX + 1) ** 2,) * 2)
    for m in range(-LMAX, LMAX + 1):
        place = np.equal(EM, m)
        full[np.ix_(place, place)] = matrices[abs(m), abs(m) :, abs(m) :]
    return full


def both_signs(alm):
    """All a_lm of a real sky from those with m >= 0 in the order of healpy."""
    known = alm[hp.Alm.getidx(LMAX, ELL, np.abs(EM))]
    return np.where(EM < 0, (-1.0) ** EM * known.conj(), known)


def random_sky(rng):
    real, imaginary = rng.normal(size=(2, hp.Alm.getsize(LMAX)))
    alm = real + 1j * imaginary
    alm[: LMAX + 1] = real[: LMAX + 1]
    return alm


def without_ring_means(sky, weight):
    """Take the mean of each ring inside the field of view from the pixels there."""
    ring = np.unique(np.round(Z, 12), return_inverse=True)[1]
    seen = weight > 0
    count = np.bincount(ring[seen], minlength=ring.max() + 1)
    mean = np.bincount(ring[seen], sky[seen], minlength=ring.max() + 1) / np.maximum(count, 1)
    return np.where(seen, sky - mean[ring], 0.0)


@pytest.mark.parametrize("filtered", [False, True])
def test_real_skies_are_cut_as_healpy_cuts_them(filtered):
    """Map, ring means, weight and harmonics by other code on the same pixels: equal to rounding."""
    rng = np.random.default_rng(11)
    weight = weight_of(rotation=0.4)
    coupling = general_coupling(weight, LMAX, filtered=filtered)
    for _ in range(5):
        alm = random_sky(rng)
        sky = hp.alm2map(alm, NSIDE)
        sky = without_ring_means(sky, weight) if filtered else sky
        pseudo = hp.map2alm(sky * weight, lmax=LMAX, iter=0)
        np.testing.assert_allclose(coupling @ both_signs(alm), both_signs(pseudo), rtol=0, atol=1e-12)


def test_the_whole_sphere_mixes_nothing():
    """To the error of sums over pixels of nside 32, 7e-4; the filter removes the rows and columns of m = 0."""
    whole = np.ones(hp.nside2npix(NSIDE))
    np.testing.assert_allclose(general_coupling(whole, LMAX, filtered=False), np.eye(EM.size), rtol=0, atol=1e-3)
    filtered = general_coupling(whole, LMAX, filtered=True)
    np.testing.assert_allclose(filtered, np.diag((EM != 0).astype(float)), rtol=0, atol=2e-4)


@pytest.mark.parametrize(("filtered", "tolerance"), [(False, 5e-4), (True, 1e-4)])
def test_a_smooth_weight_of_declination_alone_is_band_coupling(filtered, tolerance):
    """Sums over pixels of nside 32, whose errors are largest at m = 0: measured 4e-4 and 5e-5."""
    band = (-90 * u.deg, 90 * u.deg)
    exact = band_coupling(*band, LMAX, filtered=filtered, weight=lambda s: (1 - s) ** 2 / 4)
    found = general_coupling((1 - Z) ** 2 / 4, LMAX, filtered=filtered)
    np.testing.assert_allclose(found, azimuthal(exact), rtol=0, atol=tolerance)


def test_a_band_with_edges_is_band_coupling_to_half_a_ring():
    exact = band_coupling(-90 * u.deg, -25 * u.deg, LMAX, filtered=True)
    found = general_coupling(np.heaviside(-np.sin(np.radians(25)) - Z, 0.0), LMAX, filtered=True)
    np.testing.assert_allclose(found, azimuthal(exact), rtol=0, atol=1e-2)


@pytest.mark.parametrize("filtered", [False, True])
def test_a_quarter_turn_of_the_weight_is_a_phase(filtered):
    """Pixels keep their places under 90 deg: K_lm,l'm' is multiplied by exp[-i (m - m') alpha], to rounding."""
    before = general_coupling(weight_of(), LMAX, filtered=filtered)
    after = general_coupling(weight_of(rotation=np.pi / 2), LMAX, filtered=filtered)
    phase = np.exp(-1j * (EM[:, None] - EM) * np.pi / 2)
    np.testing.assert_allclose(after, phase * before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("filtered", [False, True])
def test_any_turn_of_the_weight_is_a_phase(filtered):
    """The weight is smooth, also for pixels. With the filter, the edge of the field of view moves through them."""
    alpha = 0.7
    before = general_coupling(weight_of(), LMAX, filtered=filtered)
    after = general_coupling(weight_of(rotation=alpha), LMAX, filtered=filtered)
    phase = np.exp(-1j * (EM[:, None] - EM) * alpha)
    np.testing.assert_allclose(after, phase * before, rtol=0, atol=5e-4 if filtered else 1e-7)


def test_sky_and_weight_turned_together_turn_the_result():
    """Rotation by alpha multiplies a_lm by exp(-i m alpha), also after the cut."""
    rng = np.random.default_rng(12)
    sky = both_signs(random_sky(rng))
    turn = np.exp(-1j * EM * np.pi / 2)
    before = general_coupling(weight_of(), LMAX, filtered=True) @ sky
    after = general_coupling(weight_of(rotation=np.pi / 2), LMAX, filtered=True) @ (turn * sky)
    np.testing.assert_allclose(after, turn * before, rtol=0, atol=1e-12)


def test_without_the_filter_it_is_hermitian():
    coupling = general_coupling(weight_of(), LMAX, filtered=False)
    np.testing.assert_allclose(coupling, coupling.conj().T, rtol=0, atol=1e-14)


def test_true_m_0_gives_zero_with_the_filter():
    coupling = general_coupling(weight_of(), LMAX, filtered=True)
    assert np.abs(coupling[:, EM == 0]).max() < 1e-14


def test_the_filter_is_not_the_loss_of_m_0():
    """Neither dropping the pseudo a_l0 nor setting the true a_l0 to zero does it: columns of m' > 0 change too."""
    weight = weight_of()
    plain, filtered = (general_coupling(weight, LMAX, filtered=which) for which in (False, True))
    assert np.abs(filtered[EM == 0][:, EM == 1]).max() > 0.02
    assert np.abs((filtered - plain)[EM == 1][:, EM == 1]).max() > 0.02


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"shape \(100,\): expected \(12 nside"):
        general_coupling(np.ones(100), 2, filtered=True)
    with pytest.raises(ValueError, match="lmax 21: expected at most 20"):
        general_coupling(np.ones(12 * 32**2), 21, filtered=True)
    with pytest.raises(ValueError, match="at most nside = 4"):
        general_coupling(np.ones(12 * 4**2), 6, filtered=True)
    with pytest.raises(ValueError, match="multipole -1"):
        general_coupling(np.ones(12 * 4**2), -1, filtered=True)
    with pytest.raises(ValueError, match="none negative, not all zero"):
        general_coupling(np.zeros(12 * 4**2), 2, filtered=True)
