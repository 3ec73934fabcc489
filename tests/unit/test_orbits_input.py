"""Orbits refuse what they cannot follow, and say what they expected."""

import numpy as np
import pytest
from obsfit_models.turbulence.field import GridField, MagneticField
from obsfit_models.turbulence.orbits import back_track, cross_spheres, track

FIELD = MagneticField(uniform=[0.0, 0.0, 1.0])
UP = np.array([[0.0], [0.0], [1.0]])


@pytest.mark.parametrize("gyroradius", [-1.0, 0.0, np.nan, np.inf])
def test_gyroradius(gyroradius):
    for follow in (back_track, track):
        with pytest.raises(ValueError, match=r"gyroradius .*expected a positive length"):
            follow(FIELD, UP, [1.0], gyroradius=gyroradius)
    with pytest.raises(ValueError, match=r"gyroradius .*expected a positive length"):
        cross_spheres(FIELD, UP, [1.0], gyroradius=gyroradius, longest_time=1.0)


@pytest.mark.parametrize("times", [[-1.0], [np.nan], [2.0, 1.0], [np.inf], [[1.0, 2.0]]])
def test_times(times):
    with pytest.raises(ValueError, match=r"times .*expected times in 1/Omega that increase from 0 on"):
        back_track(FIELD, UP, times, gyroradius=1.0)


@pytest.mark.parametrize("step", [0.0, -0.1, np.nan, np.inf])
def test_step(step):
    for options in ({}, {"scheme": "yoshida"}, {"tolerance": 1e-3}):
        with pytest.raises(ValueError, match=r"step .*expected a positive time in 1/Omega"):
            back_track(FIELD, UP, [1.0], gyroradius=1.0, step=step, **options)
    with pytest.raises(ValueError, match=r"step .*expected a positive time in 1/Omega"):
        cross_spheres(FIELD, UP, [1.0], gyroradius=1.0, longest_time=1.0, step=step)


@pytest.mark.parametrize("tolerance", [0.0, -1e-3, 1e-12, 0.5, np.nan])
def test_tolerance(tolerance):
    with pytest.raises(ValueError, match=r"tolerance .*expected 1e-09 to 0.1"):
        back_track(FIELD, UP, [1.0], gyroradius=1.0, tolerance=tolerance)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "boris"}, r"scheme 'boris': expected leapfrog, yoshida or multirate"),
        ({"scheme": "yoshida"}, r"scheme 'yoshida': expected a step"),
        ({"scheme": "multirate"}, r"scheme 'multirate' with tolerance None"),
        ({"single": True, "tolerance": 1e-3}, r"sums in single precision are for the leapfrog alone"),
        ({"scheme": "leapfrog", "tolerance": 1e-3}, r"scheme 'leapfrog' with tolerance 0.001"),
    ],
)
def test_schemes_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        back_track(FIELD, UP, [1.0], gyroradius=1.0, **options)


@pytest.mark.parametrize("direction", [2 * UP, np.zeros((3, 1)), np.full((3, 1), np.nan), UP[:, 0], UP.T])
def test_directions(direction):
    with pytest.raises(ValueError, match=r"directions: (expected unit vectors|shape .* expected \(3, n\))"):
        back_track(FIELD, direction, [1.0], gyroradius=1.0)


@pytest.mark.parametrize(
    "position", [np.full((3, 1), np.nan), np.full((3, 1), np.inf), np.zeros((2, 1)), np.zeros(3)]
)
def test_positions(position):
    with pytest.raises(ValueError, match=r"position: .*expected finite numbers, shape \(3, n\) or \(3, 1\)"):
        back_track(FIELD, np.tile(UP, 4), [1.0], gyroradius=1.0, position=position)


@pytest.mark.parametrize("radii", [[0.0], [-1.0], [2.0, 1.0], [1.0, 1.0], [np.nan], [np.inf]])
def test_radii(radii):
    with pytest.raises(ValueError, match=r"radii .*expected positive, increasing radii"):
        cross_spheres(FIELD, UP, radii, gyroradius=1.0, longest_time=1.0)


@pytest.mark.parametrize("longest_time", [0.0, -1.0, np.nan, np.inf])
def test_longest_time(longest_time):
    with pytest.raises(ValueError, match=r"longest_time .*expected a positive time"):
        cross_spheres(FIELD, UP, [1.0], gyroradius=1.0, longest_time=longest_time)


def test_no_tolerance_is_promised_on_grids():
    grid = GridField(np.zeros((2, 2, 2, 3)), np.zeros(3), np.ones(3), periodic=True)
    with pytest.raises(ValueError, match=r"an interpolated grid has kinks"):
        back_track(MagneticField(grids=(grid,)), UP, [1.0], gyroradius=1.0, tolerance=1e-3)


def test_no_times_and_no_particles_give_empty_orbits():
    for options in ({}, {"scheme": "yoshida", "step": 0.1}, {"tolerance": 1e-3}):
        assert back_track(FIELD, UP, [], gyroradius=1.0, **options).position.shape == (0, 3, 1)
        none = back_track(FIELD, np.zeros((3, 0)), [1.0], gyroradius=1.0, **options)
        assert none.position.shape == (1, 3, 0)
        assert none.drift.shape == (0,)


def test_time_zero_is_the_start():
    for options in ({}, {"scheme": "yoshida", "step": 0.1}, {"tolerance": 1e-6}):
        orbit = back_track(FIELD, UP, [0.0, 0.0, 1.0], gyroradius=1.0, **options)
        np.testing.assert_allclose(orbit.position[:2], 0.0, rtol=0, atol=1e-15)
        np.testing.assert_allclose(orbit.momentum[:2], [-UP, -UP], rtol=0, atol=1e-15)
