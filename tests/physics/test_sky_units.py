"""Gyroradii from constants typed by hand."""

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsfit.sky.units import gyroradius, rigidity

LIGHT_M_S, PARSEC_M, AU_M = 299792458.0, 3.0856775814913673e16, 149597870700.0


def test_gyroradius_from_si():
    expected = 1e15 / (LIGHT_M_S * 1e-10) / PARSEC_M
    assert gyroradius(1 * u.PV, 1 * u.uG).to_value(u.pc) == pytest.approx(expected, rel=1e-12)
    in_au = 1e12 / (LIGHT_M_S * 1e-10) / AU_M
    assert gyroradius(1 * u.TV, 1e-10 * u.T).to_value(u.au) == pytest.approx(in_au, rel=1e-12)


@given(st.floats(1e-3, 1e5), st.floats(1e-2, 1e2))
def test_there_and_back_and_scaling(rigidity_tv, field_ug):
    radius = gyroradius(rigidity_tv * u.TV, field_ug * u.uG)
    assert rigidity(radius, field_ug * u.uG).to_value(u.TV) == pytest.approx(rigidity_tv, rel=1e-13)
    double = gyroradius(2 * rigidity_tv * u.TV, field_ug * u.uG)
    assert double.to_value(u.pc) == pytest.approx(2 * radius.to_value(u.pc), rel=1e-13)


def test_arrays():
    assert gyroradius(np.ones(3) * u.TV, np.ones((2, 1)) * u.uG).shape == (2, 3)


def test_an_energy_is_not_a_rigidity():
    with pytest.raises(u.UnitConversionError):
        gyroradius(1 * u.TeV, 1 * u.uG)
