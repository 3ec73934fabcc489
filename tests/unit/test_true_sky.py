"""The true sky: parts add as maps do, and the order of a_lm is healpy's."""

import healpy as hp
import numpy as np
import pytest

from obsfit.errors import PluginError
from obsfit.protocols import dipole_alm, true_sky
from obsfit.records import TrueSky
from obsfit.records.true_sky import alm_index, alm_lmax, alm_size

RIGIDITY = np.array([1.0, 10.0])


def random_alm(lmax, rng, shape=(3, 2)):
    alm = rng.normal(size=(*shape, hp.Alm.getsize(lmax))) + 1j * rng.normal(size=(*shape, hp.Alm.getsize(lmax)))
    alm[..., : lmax + 1] = alm[..., : lmax + 1].real
    return alm


@pytest.mark.parametrize("lmax", [0, 1, 5, 40])
def test_the_order_is_that_of_healpy(lmax):
    ell, m = hp.Alm.getlm(lmax)
    assert [alm_index(lmax, a, b) for a, b in zip(ell, m, strict=True)] == list(range(alm_size(lmax)))
    assert alm_lmax(alm_size(lmax)) == lmax
    with pytest.raises(ValueError, match="not a complete set"):
        alm_lmax(alm_size(lmax) + 1 if lmax else 2)


def test_skies_of_different_lmax_add_as_maps():
    rng = np.random.default_rng(1)
    low, high = random_alm(2, rng), random_alm(6, rng)
    total = (TrueSky(RIGIDITY, low) + TrueSky(RIGIDITY, high)).alm
    for vector in range(3):
        for rigidity in range(2):
            expected = hp.alm2map(low[vector, rigidity], 8) + hp.alm2map(high[vector, rigidity], 8)
            np.testing.assert_allclose(hp.alm2map(total[vector, rigidity], 8), expected, atol=1e-12)


def test_power_adds_and_fixed_parts_stay():
    one = TrueSky(RIGIDITY, None, np.ones((1, 2, 2, 4)))
    two = TrueSky(RIGIDITY, np.zeros((1, 2, 3), complex), np.ones((1, 2, 2, 6)))
    total = one + two
    np.testing.assert_array_equal(total.c_ell[0, 0, 1], [2, 2, 2, 2, 1, 1])
    assert total.alm.shape == (1, 2, 3)
    assert total.n_vec == 1


def test_skies_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="different rigidities"):
        TrueSky(RIGIDITY) + TrueSky(RIGIDITY[:1])
    with pytest.raises(ValueError, match="does not fit 2 rigidities"):
        TrueSky(RIGIDITY, np.zeros((1, 3, 3), complex))
    with pytest.raises(ValueError, match="expected the same number to add"):
        TrueSky(RIGIDITY, draws=np.zeros((1, 4, 2, 3), complex)) + TrueSky(
            RIGIDITY, draws=np.zeros((1, 5, 2, 3), complex)
        )


def test_a_model_that_returns_a_wrong_shape_is_named():
    class Wrong:
        name, parameters = "wrong", ()

        def dipole(self, theta, rigidity_tv):
            return np.zeros((len(theta), 3))

    with pytest.raises(PluginError, match=r"'wrong': dipole returned shape \(1, 3\)"):
        true_sky(Wrong(), np.zeros((1, 0)), RIGIDITY, 1)


def test_a_dipole_vector_is_the_map_that_it_says():
    vector = np.array([0.3, -0.2, 0.5])
    directions = np.array(hp.pix2vec(8, np.arange(hp.nside2npix(8))))
    np.testing.assert_allclose(hp.alm2map(dipole_alm(vector, 3), 8), vector @ directions, atol=1e-14)
