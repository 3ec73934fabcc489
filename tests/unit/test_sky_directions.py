"""Unit vectors and named directions."""

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from obsfit.errors import ConfigurationError
from obsfit.sky.directions import (
    direction_entry,
    direction_names,
    galactic_to_equatorial,
    named_direction,
    right_ascension_declination,
    unit_vector,
)


def galactic_to_icrs_by_hand(longitude, latitude):
    """Unit vector in ICRS by the definition of Galactic coordinates in the Hipparcos catalogue (Vol. 1, Sect. 1.5.3).

    Pole at RA 192.85948, Dec 27.12825; ascending node of the Galactic plane on the equator at l = 32.93192 deg.
    """
    mp.dps = 30
    rad = mp.pi / 180
    ra_pole, dec_pole, node = mpf("192.85948") * rad, mpf("27.12825") * rad, mpf("32.93192") * rad
    lon, b = mpf(str(longitude)) * rad, mpf(str(latitude)) * rad
    along_node, ahead, north = mp.cos(b) * mp.cos(lon - node), mp.cos(b) * mp.sin(lon - node), mp.sin(b)
    # The node lies 90 deg from the pole in right ascension; tilt about it by 90 deg - dec_pole.
    x, y = along_node, ahead * mp.sin(dec_pole) - north * mp.cos(dec_pole)
    z = ahead * mp.cos(dec_pole) + north * mp.sin(dec_pole)
    turn = ra_pole + mp.pi / 2
    return np.array(
        [float(x * mp.cos(turn) - y * mp.sin(turn)), float(x * mp.sin(turn) + y * mp.cos(turn)), float(z)]
    )


@pytest.mark.parametrize(("lon", "lat"), [(0, 0), (90, 0), (47.9, 23.8), (210.5, -57.1), (123, 89.9), (300, -75)])
def test_galactic_coordinates_against_their_definition(lon, lat):
    """3e-7 rad = 0.06 arcsec: the FK5-based definition of astropy and the one of Hipparcos differ by 0.03 arcsec."""
    ours = unit_vector(*galactic_to_equatorial(lon * u.deg, lat * u.deg))
    np.testing.assert_allclose(ours, galactic_to_icrs_by_hand(lon, lat), atol=3e-7)


@pytest.mark.parametrize(
    ("name", "ra", "dec"),
    [
        ("ibex", 48.47, -21.24),
        ("starlight", 57.88, -22.17),
        ("galactic-centre", 266.40, -28.94),
        ("vela", 128.55, -45.76),
    ],
)
def test_named_directions(name, ra, dec):
    entry = direction_entry(name)
    by_hand = galactic_to_icrs_by_hand(entry.longitude.to_value(u.deg), entry.latitude.to_value(u.deg))
    np.testing.assert_allclose(named_direction(name), by_hand, atol=3e-7)
    assert np.degrees(np.arctan2(by_hand[1], by_hand[0])) % 360 == pytest.approx(ra, abs=0.006)
    assert np.degrees(np.arcsin(by_hand[2])) == pytest.approx(dec, abs=0.006)


def test_vela_has_a_distance_and_an_age_and_fields_have_an_uncertainty():
    vela = direction_entry("Vela SNR")
    assert (vela.distance, vela.age) == (0.3 * u.kpc, 11 * u.kyr)
    assert direction_entry("IBEX").uncertainty == 1.5 * u.deg
    assert direction_entry("galactic center").uncertainty is None


def test_an_unknown_direction_is_answered_by_the_nearest():
    with pytest.raises(ConfigurationError, match="no direction named 'velar'; did you mean 'vela'"):
        named_direction("velar")
    assert all(np.isclose(np.linalg.norm(named_direction(name)), 1.0, rtol=1e-14) for name in direction_names())


@given(st.floats(0, 359.999999), st.floats(-90, 90), st.floats(1e-3, 1e3))
def test_vectors_there_and_back(ra, dec, length):
    """1e-11 deg: both ways are arctangents, good to a few ulp also at the poles."""
    vector = unit_vector(ra * u.deg, dec * u.deg)
    again = unit_vector(*right_ascension_declination(length * vector))
    np.testing.assert_allclose(again, vector, atol=1e-15)
    assert right_ascension_declination(length * vector)[1].to_value(u.deg) == pytest.approx(dec, abs=1e-11)


def test_shapes_broadcast():
    vectors = unit_vector(np.zeros((4, 1)) * u.deg, np.linspace(-60, 60, 5) * u.deg)
    assert vectors.shape == (4, 5, 3)
    ra, dec = right_ascension_declination(vectors)
    assert ra.shape == dec.shape == (4, 5)


def test_right_ascension_never_reads_360():
    ra, _ = right_ascension_declination(np.array([1.0, -1e-300, 0.0]))
    assert ra.to_value(u.deg) == 0.0


def test_no_direction_without_a_vector():
    with pytest.raises(ValueError, match="zero vector"):
        right_ascension_declination(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"expected \(..., 3\)"):
        right_ascension_declination(np.ones(2))
