"""Physical units of orbits: against constants of another library, and there and back."""

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obsfit_models.turbulence.units import gyrofrequency, gyroradius, reduced_gyroradius, rigidity, rigidity_of
from scipy import constants

from obsfit.errors import ConfigurationError


def test_gyroradius_from_the_force_on_a_moving_charge():
    """p v / r = Z e v B, with the momentum of an iron nucleus of 1 PeV and constants of CODATA."""
    momentum = 1e15 * constants.e / constants.c
    metres = momentum / (26 * constants.e * 5e-10)
    ours = gyroradius(rigidity(1 * u.PeV, charge_number=26), 5 * u.uG)
    assert ours.to_value(u.m) == pytest.approx(metres, rel=1e-9)


def test_numbers_of_the_papers():
    assert gyroradius(1 * u.PV, 1 * u.uG).to_value(u.pc) == pytest.approx(1.081, abs=5e-4)
    assert gyroradius(1 * u.TV, 1 * u.uG).to_value(u.AU) == pytest.approx(223, abs=0.5)
    # Giacinti and Sigl: 2.70 and 13.5 pc for 10 and 50 PV in 4 uG.
    assert gyroradius(10 * u.PV, 4 * u.uG).to_value(u.pc) == pytest.approx(2.70, abs=5e-3)
    assert gyroradius(50 * u.PV, 0.4 * u.nT).to_value(u.pc) == pytest.approx(13.5, abs=0.05)
    assert rigidity_of(0.1, 3 * u.uG, 100 * u.pc).to_value(u.PV) == pytest.approx(27.8, abs=0.1)


def test_frequency_is_that_of_the_circle():
    seconds = 2 * np.pi / (gyrofrequency(10 * u.TV, 3 * u.uG).to_value(u.rad / u.s))
    circle = 2 * np.pi * gyroradius(10 * u.TV, 3 * u.uG).to_value(u.m)
    assert seconds == pytest.approx(circle / constants.c, rel=1e-12)


@given(st.floats(1e-3, 1e6), st.floats(1e-2, 1e3), st.floats(1e-3, 1e3))
def test_there_and_back(tv, microgauss, parsec):
    strength, length = microgauss * u.uG, parsec * u.pc
    reduced = reduced_gyroradius(tv * u.TV, strength, length)
    assert rigidity_of(reduced, strength, length).to_value(u.TV) == pytest.approx(tv, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gyroradius(-1 * u.TV, 3 * u.uG), "rigidity is -1.0 TV"),
        (lambda: gyroradius(1 * u.TV, 0 * u.uG), "field strength is 0.0 uG"),
        (lambda: gyroradius(1 * u.TeV, 3 * u.uG), "a rigidity such as 10"),
        (lambda: gyroradius(1.0, 3 * u.uG), "rigidity is 1.0"),
        (lambda: gyroradius(np.nan * u.TV, 3 * u.uG), "rigidity is nan"),
        (lambda: gyroradius([1, 2] * u.TV, 3 * u.uG), "Give it as one Quantity"),
        (lambda: rigidity(1 * u.PeV, charge_number=0), "charge_number is 0"),
        (lambda: rigidity(1 * u.PV), "an energy such as"),
        (lambda: reduced_gyroradius(1 * u.TV, 3 * u.uG, -1 * u.pc), "length is -1.0 pc"),
        (lambda: rigidity_of(-0.1, 3 * u.uG, 1 * u.pc), "reduced gyroradius is -0.1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
