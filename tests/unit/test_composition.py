"""Sums of models: what they offer, that skies add, and that names stay apart."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import uniform

from obsfit.composition import add_models
from obsfit.errors import PluginError
from obsfit.parameters import Parameter
from obsfit.protocols import Model, OffersAlm, OffersDipole, OffersDraws, OffersPower, true_sky
from obsfit.records.true_sky import TrueSky

RIGIDITY = np.array([1.0, 10.0])
THETA = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], [0.9, 1.0, 1.1, 1.2]])


@dataclass(frozen=True)
class Base:
    name: str = "base"
    names: tuple[str, ...] = ("amplitude",)

    @property
    def parameters(self):
        return tuple(Parameter(name, uniform()) for name in self.names)


class Vector(Base):
    def dipole(self, theta, rigidity_tv):
        return theta[:, None, :1] * rigidity_tv[None, :, None] * np.array([1.0, 2.0, 3.0])


class Map(Base):
    def alm(self, theta, rigidity_tv, lmax):
        size = (lmax + 1) * (lmax + 2) // 2
        return theta.sum(axis=1)[:, None, None] * (1j + np.arange(size)) * np.ones((1, rigidity_tv.size, 1))


class Noise(Base):
    def c_ell(self, theta, rigidity_tv, lmax):
        coherence = np.ones((rigidity_tv.size, rigidity_tv.size))
        return theta[:, :1, None, None] * coherence[None, :, :, None] * np.arange(lmax + 1.0)


class Everything(Vector, Map, Noise):
    pass


class DrawsOnly(Base):
    def draws(self, theta, rigidity_tv, lmax, size, *, rng):
        raise AssertionError("not called")


PARTS = (Vector("a", ("p",)), Map("b", ("q", "r")), Noise("c", ("s",)))


def test_the_sky_of_the_sum_is_the_sum_of_the_skies():
    """Against the addition of TrueSky, part by part with its own columns."""
    expected = TrueSky(RIGIDITY)
    for part, columns in zip(PARTS, (slice(0, 1), slice(1, 3), slice(3, 4)), strict=True):
        expected = expected + true_sky(part, THETA[:, columns], RIGIDITY, 3)
    found = true_sky(add_models(*PARTS), THETA, RIGIDITY, 3)
    np.testing.assert_allclose(found.alm, expected.alm, rtol=1e-15)
    np.testing.assert_array_equal(found.c_ell, expected.c_ell)


@pytest.mark.parametrize(
    ("parts", "alm", "power"),
    [
        ((Vector(),), True, False),
        ((Map(),), True, False),
        ((Noise(),), False, True),
        ((Noise("a", ("p",)), Vector("b", ("q",))), True, True),
        ((Everything(),), True, True),
    ],
)
def test_it_offers_what_its_parts_offer_and_never_a_dipole(parts, alm, power):
    total = add_models(*parts)
    assert isinstance(total, Model)
    assert isinstance(total, OffersAlm) is alm
    assert isinstance(total, OffersPower) is power
    assert not isinstance(total, OffersDipole)
    assert not isinstance(total, OffersDraws)


def test_a_part_that_offers_everything_is_counted_once():
    part = Everything()
    theta = THETA[:, :1]
    once, twice = true_sky(part, theta, RIGIDITY, 2), true_sky(add_models(part), theta, RIGIDITY, 2)
    np.testing.assert_array_equal(twice.alm, once.alm)
    np.testing.assert_array_equal(twice.c_ell, once.c_ell)


def test_sums_of_sums():
    nested = add_models(add_models(*PARTS[:2]), PARTS[2])
    np.testing.assert_array_equal(
        true_sky(nested, THETA, RIGIDITY, 2).alm, true_sky(add_models(*PARTS), THETA, RIGIDITY, 2).alm
    )
    assert [parameter.name for parameter in nested.parameters] == ["p", "q", "r", "s"]


def test_names_that_clash_are_prefixed_and_others_are_not():
    total = add_models(Vector("first-part", ("p", "q")), Noise("second-part", ("p",)))
    assert [parameter.name for parameter in total.parameters] == ["first_part_p", "q", "second_part_p"]
    assert total.name == "first-part + second-part"


def test_names_that_still_clash_are_refused():
    with pytest.raises(PluginError, match="same name: base_amplitude"):
        add_models(Vector(), Noise())
    with pytest.raises(PluginError, match="same name: a_p"):
        add_models(Vector("a", ("p",)), Vector("b", ("p", "a_p")))


def test_draws_alone_and_nothing_are_refused():
    with pytest.raises(PluginError, match="offers none of dipole, alm and c_ell"):
        add_models(DrawsOnly())
    with pytest.raises(ValueError, match="no models to add"):
        add_models()


def test_a_theta_of_the_wrong_width_is_refused():
    with pytest.raises(ValueError, match="expected 4 columns"):
        add_models(*PARTS).alm(THETA[:, :3], RIGIDITY, 2)


def test_a_part_of_the_wrong_shape_is_not_broadcast():
    class Short(Base):
        def alm(self, theta, rigidity_tv, lmax):
            return np.zeros((1, 1, (lmax + 1) * (lmax + 2) // 2), dtype=complex)

    with pytest.raises(ValueError, match="same shape"):
        true_sky(add_models(Map("b", ("q", "r")), Short("short", ("p",))), THETA[:, :3], RIGIDITY, 2)
