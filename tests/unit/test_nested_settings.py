"""Unknown keys are named with the nearest known one, wherever they stand in nested settings."""

from dataclasses import dataclass, field

import pytest

from obsfit.configuration import FORBID, load_configuration, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.observatory import SiteSettings


@dataclass(frozen=True)
class Leaf:
    __pydantic_config__ = FORBID

    amplitude: float = 0.0
    phase: float = 0.0


@dataclass(frozen=True)
class Tree:
    __pydantic_config__ = FORBID

    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] = field(default_factory=dict)
    either: Leaf | tuple[Leaf, ...] = ()


@pytest.mark.parametrize(
    "text",
    [
        "[leaf]\nampltude = 1",
        "[[leaves]]\nphase = 1\n[[leaves]]\nampltude = 1",
        "[named.north]\nampltude = 1",
        "[either]\nampltude = 1",
    ],
)
def test_the_nearest_key_is_named_at_any_depth(text, tmp_path):
    path = tmp_path / "tree.toml"
    path.write_text("schema = 1\n" + text)
    with pytest.raises(ConfigurationError, match=r"did you mean 'amplitude'\?\nExpected one of amplitude, phase"):
        load_configuration(path, Tree)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("amplitude = 1", r"unknown key 'amplitude'; it belongs under a line \[leaf\]"),
        ("[leaf]\nleaves = []", r"unknown key 'leaf\.leaves'; it belongs above the line \[leaf\]"),
        ("leaves = 3", r"leaves = 3 is no list\nExpected one in brackets, such as leaves = \[3\]"),
    ],
)
def test_a_key_under_a_wrong_heading_or_a_list_without_brackets_is_told_its_place(text, told, tmp_path):
    path = tmp_path / "tree.toml"
    path.write_text("schema = 1\n" + text)
    with pytest.raises(ConfigurationError, match=told):
        load_configuration(path, Tree)


def test_a_key_of_the_root_is_not_taken_for_one_of_a_branch(tmp_path):
    path = tmp_path / "tree.toml"
    path.write_text("schema = 1\nleaf_ = 1")
    with pytest.raises(ConfigurationError, match=r"did you mean 'leaf'\?\nExpected one of leaf, leaves, named"):
        load_configuration(path, Tree)


def test_a_needed_key_that_is_misspelt_is_unknown_before_it_is_missing(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('schema = 1\nnmae = "HAWC"')
    with pytest.raises(ConfigurationError, match="unknown key 'nmae'; did you mean 'name'"):
        load_configuration(path, SiteSettings)


def test_rigidities_are_voltages():
    assert read_quantity("10 TV", "rigidity", "rigidity").to_value("GV") == pytest.approx(1e4)
    with pytest.raises(ConfigurationError, match="is no rigidity"):
        read_quantity("10 TeV", "rigidity", "rigidity")


def test_a_site_is_known_by_name_and_may_have_another_cut():
    hawc = SiteSettings("hawc", zenith_max="57 deg").observatory
    assert (hawc.name, hawc.latitude.to_value("deg"), hawc.zenith_max.to_value("deg")) == ("HAWC", 19.0, 57.0)
    here = SiteSettings("here", latitude="-45 deg", zenith_max="1 rad").observatory
    assert (here.longitude.to_value("deg"), here.zenith_max.to_value("rad")) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (SiteSettings("HAVC"), "did you mean 'HAWC'"),
        (SiteSettings("here", latitude="20 deg"), "no zenith_max"),
        (SiteSettings("here", latitude="20 m", zenith_max="60 deg"), "latitude of here = '20 m' is no angle"),
        (SiteSettings("here", latitude="95 deg", zenith_max="60 deg"), "expected -90 deg to 90 deg"),
        (SiteSettings("HAWC", zenith_max="100 deg"), "expected an angle in"),
    ],
)
def test_a_bad_site_is_an_error_of_the_configuration(site, words):
    with pytest.raises(ConfigurationError, match=words):
        _ = site.observatory
