"""Finding data by name, choosing one spectrum of several, and refusing what overlaps."""

import pickle
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.catalogue import (
    available_data,
    load_dipoles,
    load_projection,
    load_spectrum,
    load_table,
    overlapping,
)


def test_names_are_those_of_the_files_and_their_records():
    assert available_data("dipoles") == ("ahlers-mertsch-2017", "li-2024")
    assert available_data("projection") == ("tibet-projection",)
    assert set(available_data("spectrum")) == {"hawc-icecube-2019", "hawc-icecube-2019-by-field", "icecube-2025"}
    assert set(available_data()) == {name for kind in ("dipoles", "projection", "spectrum", "table")
                                     for name in available_data(kind)}  # fmt: skip
    with pytest.raises(ConfigurationError, match="did you mean 'dipoles'"):
        available_data("dipole")


def test_an_unknown_name_names_the_nearest_and_says_how_to_give_a_path():
    with pytest.raises(ConfigurationError, match="did you mean 'ahlers-mertsch-2017'") as caught:
        load_dipoles("ahlers-mertsch-2071")
    assert "extension" in str(caught.value)


def test_a_table_of_another_kind_names_its_loader():
    with pytest.raises(ConfigurationError, match="load_spectrum"):
        load_dipoles("icecube-2025")
    with pytest.raises(ConfigurationError, match="load_table"):
        load_spectrum("icecube-2016-energy-bins")


@pytest.mark.parametrize("path", ["absent.csv", "folder/absent", Path("absent")])
def test_a_path_is_not_looked_up_as_a_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataFormatError, match="no such file"):
        load_dipoles(path)


@pytest.mark.parametrize("energy", [24 * u.TeV, 24.4 * u.TeV, 23600 * u.GeV])
def test_energy_is_matched_within_two_per_cent(energy):
    assert load_spectrum("icecube-2025", energy=energy).measurement == "icecube-2025-24TeV"


@pytest.mark.parametrize("settings", [{}, {"energy": 25 * u.TeV}, {"energy": 24 * u.TeV, "field": "hawc"}])
def test_choices_are_listed_where_none_or_several_fit(settings):
    with pytest.raises(ConfigurationError, match=r"energy 13 TeV; energy 24 TeV; .*energy 5305.6 TeV"):
        load_spectrum("icecube-2025", **settings)


def test_an_energy_must_be_an_energy():
    for wrong in (24.0, 24 * u.m):
        with pytest.raises(ConfigurationError, match="is not an energy"):
            load_spectrum("icecube-2025", energy=wrong)


def test_fields_are_chosen_by_name():
    with pytest.raises(ConfigurationError, match="field 'hawc'"):
        load_spectrum("hawc-icecube-2019-by-field")
    spectrum = load_spectrum("hawc-icecube-2019-by-field", field="icecube", energy=10 * u.TeV)
    assert np.degrees([spectrum.dec_min_rad, spectrum.dec_max_rad]).tolist() == pytest.approx([-90, -30])


def test_auxiliary_tables_have_units():
    noise = load_table("hawc-icecube-2019-noise")
    assert noise["dec_min"].unit == u.deg
    assert np.isnan(noise["sigma"][0])
    assert load_table("icecube-2016-energy-bins")["bin"].dtype.kind == "i"


def test_records_can_be_sent_to_another_process():
    for record in (
        load_dipoles("li-2024"),
        load_spectrum("hawc-icecube-2019"),
        load_projection("tibet-projection"),
    ):
        again = pickle.loads(pickle.dumps(record))
        assert again.provenance == record.provenance
        assert len(record.provenance.sha256) == 64


def names(found):
    return {frozenset(entry[:2]) for entry in found}


def test_a_measurement_in_two_tables_is_found():
    ((first, second, shared),) = overlapping([load_dipoles("ahlers-mertsch-2017"), load_dipoles("li-2024")])
    assert {first, second} == {"ahlers-mertsch-2017", "li-2024"}
    assert shared.startswith("eas-top-2009-110TeV, ")
    assert shared.endswith(
        " and 20 more"
    )  # 25 rows of Table 1 are in the figure: nine of IceCube, seven of Tibet, ...


def test_what_is_left_after_a_selection_decides():
    am17, li = load_dipoles("ahlers-mertsch-2017"), load_dipoles("li-2024")

    def only(record, *observatories):
        return record.select([name in observatories for name in record.observatory])

    assert not overlapping([am17, only(li, "HAWC")])
    # Other keys, but events of the same detector: ARGO-YBJ 2015 is part of ARGO-YBJ 2018.
    assert "ARGO-YBJ" in overlapping([only(am17, "ARGO-YBJ"), only(li, "ARGO-YBJ")])[0][2]
    # The joint map contains the events of IceCube.
    assert "IceCube" in overlapping([only(am17, "IceCube"), only(li, "HAWC+IceCube")])[0][2]
    spectrum = load_spectrum("icecube-2025", energy=24 * u.TeV)
    assert overlapping([am17, spectrum])
    assert not overlapping([only(am17, "ARGO-YBJ", "Super-K"), spectrum])


def test_the_map_its_parts_and_its_dipole():
    whole = load_spectrum("hawc-icecube-2019")
    parts = {
        field: load_spectrum("hawc-icecube-2019-by-field", field=field) for field in ("hawc", "icecube", "all")
    }
    assert overlapping([whole, parts["all"]])[0][2] == "hawc-icecube-2019-10TeV"
    assert overlapping([whole, parts["hawc"]])
    assert overlapping([parts["all"], parts["icecube"]])
    assert not overlapping([parts["hawc"], parts["icecube"]])  # bands that do not meet
    twelve_years = load_spectrum("icecube-2025", energy=13 * u.TeV)
    assert overlapping([twelve_years, parts["icecube"]])
    assert not overlapping([twelve_years, parts["hawc"]])


def test_two_energies_of_one_analysis_are_two_measurements():
    assert not overlapping([load_spectrum("icecube-2025", energy=energy * u.TeV) for energy in (13, 24)])
    assert overlapping([load_spectrum("icecube-2025", energy=13 * u.TeV)] * 2)


def test_overlaps_are_declared_on_both_sides():
    declared = {name: set(load_table(name).meta.get("overlaps", ())) for name in available_data()}
    for name, others in declared.items():
        for other in others:
            assert other in declared, f"{name} declares an overlap with {other}, which is not there"
            assert name in declared[other] or name == other, f"{other} does not declare its overlap with {name}"
