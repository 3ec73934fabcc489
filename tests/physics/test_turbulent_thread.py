"""The thread through the back-tracker: field, orbits, displacement sky, power."""

import numpy as np
import pytest
from obsfit_models.turbulence.displacement import cross_power, displacement_sky
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

STRAIGHT = 4 * np.pi / 9


def test_without_turbulence_the_dipole_is_that_of_a_helix():
    """C_1 is (4 pi/9) T^2 along the field and (4 pi/9) 4 sin^2(T/2) across it."""
    times = np.array([0.1, 1.0, 4.0])
    sky = displacement_sky(MagneticField(uniform=[0, 0, 1.0]), times, gyroradius=1.0, nside=8, lmax=4, step=0.01)
    power = cross_power(sky.alm, sky.alm)[0, 0]
    # Leapfrog at this step errs by (h^2/24) in lengths, 4e-6; three iterations of the transform by 1e-8.
    assert power[:, 2, 1] / STRAIGHT == pytest.approx(times**2, rel=1e-6)
    assert power[:, 0, 1] / STRAIGHT == pytest.approx(4 * np.sin(times / 2) ** 2, rel=2e-4)
    assert np.max(power[:, :3, 2:]) < 1e-12


def test_early_skies_are_ballistic_in_any_field():
    rng = np.random.default_rng(1)
    field = MagneticField(uniform=[0, 0, 1.0]) + isotropic_waves(
        TurbulenceSpectrum(0.1, 100.0), modes=50, rms=1.0, rng=rng
    )
    sky = displacement_sky(field, [0.01], gyroradius=0.1, nside=8, lmax=4)
    power = cross_power(sky.alm, sky.alm)[0, 0, 0]
    # The next term is of the order of (Omega T)^2 times the square of the local field.
    assert power[:3, 1] / (STRAIGHT * 1e-4) == pytest.approx(1.0, rel=1e-3)
