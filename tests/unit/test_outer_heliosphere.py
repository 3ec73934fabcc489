"""The outer-heliosphere ansatz: signs, the displacement term, and what it refuses."""

import healpy as hp
import numpy as np
import pytest
from obsfit_models.diffusion.tensor import direction_of
from obsfit_models.outer_heliosphere import OuterHeliosphere

from obsfit.errors import ConfigurationError
from obsfit.plugins import load_model
from obsfit.protocols import OffersAlm, OffersDipole, dipole_alm, true_sky

RIGIDITY = np.array([5.0, 10.0, 20.0])
PIXELS = np.stack(hp.pix2vec(16, np.arange(hp.nside2npix(16))))


def test_without_a_displacement_there_is_no_gradient():
    model = OuterHeliosphere()
    assert [parameter.name for parameter in model.parameters] == ["log10_dipole", "quadrupole"]
    assert [parameter.name for parameter in OuterHeliosphere(displacement_au=PIXELS).parameters][2:] == [
        "gradient_east",
        "gradient_north",
    ]


def test_dipole_alone_is_a_dipole_along_the_field_with_its_sense():
    b = direction_of([0.3, -0.5, 0.8])
    for sense in (1, -1):
        found = OuterHeliosphere(field=(0.3, -0.5, 0.8), sense=sense).alm(np.array([[-3.0, 0.0]]), RIGIDITY, 4)
        expected = np.tile(dipole_alm(sense * 1e-3 * b, 4), (1, 3, 1))
        np.testing.assert_allclose(found, expected, atol=1e-17)


def test_radial_displacement_makes_a_dipole_along_the_gradient():
    """r - r_E = L n gives L n.g: the gradient itself, L = 500 AU. ten iterations of the analysis keep 1e-12."""
    model = OuterHeliosphere(displacement_au=500.0 * PIXELS)
    found = model.alm(np.array([[-5.0, 0.0, 2e-6, -3e-6]]), RIGIDITY, 3)[0, 0]
    gradient = np.array([2e-6, -3e-6]) @ model.transverse
    expected = dipole_alm(500.0 * gradient + 1e-5 * model.axis, 3)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_a_displacement_of_higher_degree_keeps_its_shape_and_loses_its_monopole():
    """Towards the first transverse vector by 100 (n.axis)^2 AU: a quadrupole, its mean of a third dropped."""
    bare = OuterHeliosphere()
    mu = bare.axis @ PIXELS
    model = OuterHeliosphere(displacement_au=100.0 * mu**2 * bare.transverse[0][:, None])
    alm = model.alm(np.array([[-20.0, 0.0, 1e-5, 0.0]]), RIGIDITY, 4)[0, 0]
    assert alm[0] == 0
    np.testing.assert_allclose(hp.alm2map(alm, 16), 1e-3 * (mu**2 - 1 / 3), atol=1e-14)


@pytest.mark.parametrize("field", [(0.3, -0.5, 0.8), (0.0, 0.0, 1.0), (0.0, 0.0, -2.0), (1e-7, 0.0, 1.0), "ibex"])
def test_transverse_vectors_are_orthonormal(field):
    model = OuterHeliosphere(field=field)
    frame = np.stack([*model.transverse, model.axis])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(frame) == pytest.approx(1.0, rel=1e-13)


def test_east_and_north_are_what_they_say():
    east, north = OuterHeliosphere(field=(1.0, 0.0, 0.0)).transverse
    np.testing.assert_allclose([east, north], [[0, 1, 0], [0, 0, 1]], atol=1e-16)


def test_it_offers_a_fixed_sky_alone():
    model = load_model("outer-heliosphere", sense=-1)
    assert isinstance(model, OffersAlm)
    assert not isinstance(model, OffersDipole)
    assert true_sky(model, np.array([[-3.0, 1e-4]] * 2), RIGIDITY, 1).alm.shape == (2, 3, 3)


def test_refusals():
    with pytest.raises(ConfigurationError):
        OuterHeliosphere(field="nowhere")
    with pytest.raises(ValueError, match="expected \\+1"):
        OuterHeliosphere(sense=0)
    with pytest.raises(ValueError, match="12 nside"):
        OuterHeliosphere(displacement_au=np.zeros((3, 100)))
    with pytest.raises(ValueError, match="3072 values that are not finite"):
        OuterHeliosphere(displacement_au=np.where(np.arange(3)[:, None] == 1, np.nan, PIXELS))
    with pytest.raises(ValueError, match="lmax 0"):
        OuterHeliosphere().alm(np.zeros((1, 2)), RIGIDITY, 0)
