"""The mean field about a place, against an average over random points."""

import numpy as np
import pytest
from obsfit_models.turbulence.field import GridField, MagneticField
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum


def test_mean_field_is_the_average_over_a_gaussian():
    rng = np.random.default_rng(1)
    spectrum = TurbulenceSpectrum(0.5, 20.0)
    field = MagneticField(uniform=np.array([0.0, 0.0, 1.0])) + isotropic_waves(spectrum, modes=20, rng=rng)
    place = np.array([[0.3], [-1.0], [2.0]])
    around = field.at(place + 0.7 * rng.normal(size=(3, 200_000)))
    # Bound of 5 standard errors of each of three means: false alarm 2e-6.
    bound = 5 * around.std(axis=1).max() / np.sqrt(around.shape[1])
    assert field.mean_about(place, 0.7)[:, 0] == pytest.approx(around.mean(axis=1), abs=bound)
    assert field.mean_about(place, 0.0) == pytest.approx(field.at(place), abs=1e-14)
    # Waves of 20 lengths and less are gone, what is left is the uniform field.
    assert field.mean_about(place, 30.0)[:, 0] == pytest.approx([0, 0, 1], abs=1e-6)


def test_grids_and_negative_radii_are_refused():
    grid = GridField(np.zeros((2, 2, 2, 3)), np.zeros(3), np.ones(3), periodic=True)
    for field, radius in ((MagneticField(grids=(grid,)), 1.0), (MagneticField(), -1.0)):
        with pytest.raises(ValueError, match="expected a radius"):
            field.mean_about(np.zeros((3, 1)), radius)
