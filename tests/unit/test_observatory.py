"""Observatories by name, their declination bands, and the tables that name things."""

from dataclasses import replace
from importlib.resources import files

import astropy.units as u
import pytest
from astropy.table import Table

from obsfit.errors import ConfigurationError
from obsfit.observatory import Observatory, declination_band, observatory_names


@pytest.mark.parametrize("spelling", ["HAWC", "hawc", "  Hawc "])
def test_case_and_blanks_do_not_matter(spelling):
    assert Observatory.named(spelling) == Observatory.named("HAWC")


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("Super_Kamiokande", "Super-K"),
        ("tibet", "Tibet-ASgamma"),
        ("Tibet ASγ", "Tibet-ASgamma"),
        ("argo", "ARGO-YBJ"),
    ],
)
def test_aliases(alias, name):
    assert Observatory.named(alias, zenith_max=50 * u.deg).name == name


def test_an_unknown_name_is_answered_by_the_nearest():
    with pytest.raises(
        ConfigurationError, match="no observatory named 'IceCub'; did you mean 'IceCube'"
    ) as caught:
        Observatory.named("IceCub")
    assert caught.value.value == "IceCub"
    assert "HAWC" in caught.value.expected


def test_an_unpublished_zenith_cut_is_asked_for():
    with pytest.raises(ConfigurationError, match="no zenith cut is published"):
        Observatory.named("Baksan")
    assert Observatory.named("Baksan", zenith_max=50 * u.deg).declination_band[1] == 90 * u.deg


def test_another_cut_leaves_the_rest():
    hawc = Observatory.named("HAWC")
    wider = replace(hawc, zenith_max=60 * u.deg)
    assert (wider.name, wider.latitude, wider.longitude) == (hawc.name, hawc.latitude, hawc.longitude)
    assert [edge.to_value(u.deg) for edge in wider.declination_band] == [-41.0, 79.0]


def test_the_pole_counts_longitude_from_greenwich():
    assert Observatory.named("IceTop").longitude == 0 * u.deg


def test_units_are_converted_at_the_door():
    observatory = Observatory("here", 0.5 * u.rad, 6 * u.hourangle, 1800 * u.arcmin)
    low, high = observatory.declination_band
    assert low.to_value(u.deg) == pytest.approx(28.6478897565 - 30.0, abs=1e-9)
    assert high.to_value(u.deg) == pytest.approx(28.6478897565 + 30.0, abs=1e-9)


@pytest.mark.parametrize(
    ("latitude", "longitude", "zenith", "match"),
    [
        (91, 0, 45, "latitude 91.0 deg, expected -90"),
        (0, 400, 45, "longitude 400.0 deg, expected -360"),
        (0, 0, 0, "zenith_max 0.0 deg, expected an angle in"),
        (0, 0, 91, "zenith_max 91.0 deg, expected an angle in"),
        (float("nan"), 0, 45, "latitude nan"),
        (0, 0, float("nan"), "zenith_max nan"),
    ],
)
def test_impossible_angles_are_refused(latitude, longitude, zenith, match):
    with pytest.raises(ValueError, match=match):
        Observatory("nowhere", latitude * u.deg, longitude * u.deg, zenith * u.deg)


def test_the_band_is_clipped_at_both_poles():
    low, high = declination_band(0 * u.deg, 90 * u.deg)
    assert (low, high) == (-90 * u.deg, 90 * u.deg)
    assert declination_band(80 * u.deg, 20 * u.deg)[1] == 90 * u.deg


def test_all_observatories_of_table_1_and_hawc():
    assert observatory_names() == (
        "K-Grande", "Baksan", "EAS-TOP", "MACRO", "Super-K", "Milagro", "ARGO-YBJ", "Tibet-ASgamma", "IceTop",
        "IceCube", "HAWC",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["observatories", "motions", "directions"])
def test_tables_tell_where_their_numbers_come_from(name):
    table = Table.read(files("obsfit_data").joinpath(f"{name}.ecsv").read_text("utf-8"), format="ascii.ecsv")
    wanted = {
        "title",
        "bibcode",
        "doi",
        "arxiv",
        "location",
        "transcription",
        "citation_status",
        "errata",
        "licence",
    }
    assert wanted <= set(table.meta)
    assert table.meta["arxiv"] == "1612.01873"
    spellings = [
        word for row in table for word in (row["name"], *str(row["aliases"]).split("|")) if word and word != "--"
    ]
    assert len({word.casefold() for word in spellings}) == len(spellings), "two rows answer to the same name"
