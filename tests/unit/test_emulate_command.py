"""The command ``obsfit emulate``: what it writes and prints, and what it refuses before it computes."""

import json

import healpy as hp
import numpy as np
import pytest
from scipy import stats

import obsfit.emulate.configured
from obsfit.cli import main
from obsfit.emulate.configured import EmulatedData, emulated_records
from obsfit.emulate.emulator import read_emulator
from obsfit.errors import ConfigurationError
from obsfit.parameters import Parameter, draw_prior

TEXT = """
schema = 1
seed = 3
model = "steep"
per_field = 12
degree = 1
replicates = 2
output = "made/emulator.h5"
[options]
library = "store.txt"
[[data]]
spectrum = "icecube-2025"
energies = ["13 TeV", "24 TeV"]
ell_max = 3
[[data]]
dipoles = "ahlers-mertsch-2017"
rows = ["tibet-2015-15TeV"]
"""


class Steep:
    """Gaussian skies of C_l = 1e-7 l^-slope, a slope for each field, as many as a file says."""

    name = "steep"
    parameters = (Parameter("slope", stats.uniform(2.0, 1.0)),)

    def __init__(self, library):
        self.library = library

    @property
    def fields(self):
        return int(self.library.read_text())

    def field_theta(self, field, size, *, rng):
        return np.full((size, 1), draw_prior(self.parameters, 1, rng=np.random.default_rng(field))[0, 0])

    def field_skies(self, field, theta, lmax, *, rng):
        ell, m = hp.Alm.getlm(lmax)
        white = rng.normal(size=(2, len(theta), ell.size))
        unit = np.where(m == 0, white[0], (white[0] + 1j * white[1]) / np.sqrt(2.0))
        alm = 1e-3 * 0.3 * np.where(ell > 0, np.maximum(ell, 1) ** (-0.5 * theta), 0.0) * unit
        nodes = 10.0 ** np.arange(-0.5, 3.1, 0.5)
        return np.tile(nodes, (len(theta), 1)), np.repeat(alm[:, None], nodes.size, axis=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a configuration and the store of a model that is installed for this test."""
    installed = obsfit.emulate.configured.load_model

    def load(name, **settings):
        return Steep(**settings) if name == "steep" else installed(name, **settings)

    monkeypatch.setattr(obsfit.emulate.configured, "load_model", load)
    (tmp_path / "store.txt").write_text("24")
    (tmp_path / "c.toml").write_text(TEXT)
    return tmp_path


def run(*words, code=0):
    with pytest.raises(SystemExit) as end:
        main(["emulate", *map(str, words)])
    assert end.value.code == code


def test_it_writes_an_emulator_and_its_errors(folder, capsys):
    run(folder / "c.toml", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["fields"], told["surrogate"]["degree"]) == (1, 24, 1)
    emulator = read_emulator(told["product"])
    assert emulator.labels[:6] == tuple(f"icecube-2025-{e}TeV l={ell}" for e in (13, 24) for ell in (1, 2, 3))
    assert emulator.labels[6:] == ("tibet-2015-15TeV 0h", "tibet-2015-15TeV 6h")
    assert [row["label"] for row in told["data"]] == list(emulator.folded.value_labels())
    for row in told["data"]:
        assert set(row) == {"label", "predictive_sd", "monte_carlo", "interpolation", "ratio", "p_value"}
        errors = np.hypot(row["monte_carlo"], row["interpolation"])
        assert row["ratio"] == pytest.approx(errors / row["predictive_sd"])
        assert 0.0 < row["p_value"] <= 1.0
    # Where it comes from: no folder, the store by its name and checksum.
    configuration = dict(emulator.configuration)
    assert configuration["options"]["library"]["file"] == "store.txt"
    assert len(configuration["options"]["library"]["sha256"]) == 64
    assert configuration["fields"] == 24
    assert str(folder) not in json.dumps(configuration)
    # The same file again, as a table
    first = (folder / "made/emulator.h5").read_bytes()
    run(folder / "c.toml", "--overwrite")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["label", "predictive_sd", "monte_carlo", "interpolation", "ratio", "p_value"]
    assert lines[-1].endswith("24 fields, 288 simulations, degree 1")
    again = read_emulator(folder / "made/emulator.h5")
    theta = np.array([[2.2], [2.8]])
    np.testing.assert_array_equal(again.log_likelihood(theta), emulator.log_likelihood(theta))
    assert len(first) == (folder / "made/emulator.h5").stat().st_size


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", "seed = -1", "seed = -1"),
        ("per_field = 12", "per_field = 0", "per_field = 0"),
        ("per_field = 12", "per_fields = 12", "unknown key 'per_fields'; did you mean 'per_field'?"),
        ("replicates = 2", "replicates = 1", "replicates = 1"),
        ("degree = 1", "degree = []", "degree = ()"),
        ("degree = 1", "degree = 1\nscale_degree = 2", "scale_degree = 2"),
        (
            "degree = 1",
            "degree = 1\ncorrelation_along = 'tilt'",
            "correlation_along = 'tilt' is nothing to learn from",
        ),
        ("degree = 1", "degree = 1\nfields = 30", "fields = 30"),
        ("degree = 1", "degree = 1\nfields = 19", "fields = 19"),
        ("degree = 1", "degree = 1\noutside = 1.0", "outside = 1.0"),
        ("degree = 1", "degree = 1\nlmax = 5", "of this power come from beyond l = 5"),
        ("[options]", "[features]\nslopes = ['cos']\n[options]", "features: 'slopes' is nothing to learn from"),
        ("[options]", "[features]\nslope = ['tan']\n[options]", "features.slope = ['tan']"),
        ("[options]", "[errors]\nfloor = -1.0\n[options]", "floor -1.0: expected an error"),
        ("ell_max = 3", "ell_max = 20", "l=20"),
        ("ell_max = 3", "ell_min = 7\nell_max = 9", "no multipole between 7 and 9"),
        ('"24 TeV"', '"25 TeV"', "25"),
        ('"24 TeV"', '"24 m"', "data.energies = '24 m' is no energy"),
        ('"tibet-2015-15TeV"', '"tibet"', "ahlers-mertsch-2017 has no measurement 'tibet'"),
        ('"tibet-2015-15TeV"', '"eas-top-2009-110TeV", "eas-top-2009-110TeV"', "Expected each row once"),
        ("ell_max = 3", "rows = ['a']", "rows do not go with a spectrum"),
        ("rows =", "ell_max = 3\nrows =", "does not go with dipoles"),
        ('"steep"', '"relative-diffusion"', "offers no simulations"),
        ('"steep"', '"stee"', "no model named 'stee'"),
    ],
)
def test_nonsense_is_refused_before_anything_is_simulated(folder, capsys, monkeypatch, old, new, message):
    monkeypatch.setattr(Steep, "field_skies", lambda *_, **__: pytest.fail("it was simulated"))
    text = TEXT.replace('library = "store.txt"', "") if "relative" in new else TEXT
    assert old in text
    (folder / "c.toml").write_text(text.replace(old, new))
    run(folder / "c.toml", code=2)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (folder / "made").exists()


def test_an_emulator_that_exists_is_kept(folder, capsys):
    (folder / "made").mkdir()
    (folder / "made/emulator.h5").write_text("mine")
    run(folder / "c.toml", code=2)
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert (folder / "made/emulator.h5").read_text() == "mine"


def test_data_are_found_as_fits_find_them(tmp_path):
    """All energies of a table, one field of the sky, all rows of a table."""
    every = emulated_records(EmulatedData(spectrum="icecube-2025", energies=("all",), ell_max=6), base=tmp_path)
    assert len(every) == 9
    assert every[0].ell.tolist() == [1, 2, 3, 4, 6]
    (field,) = emulated_records(EmulatedData(spectrum="hawc-icecube-2019-by-field", field="hawc"), base=tmp_path)
    assert field.measurement.endswith("-hawc")
    (table,) = emulated_records(EmulatedData(dipoles="ahlers-mertsch-2017"), base=tmp_path)
    assert len(table) == 35
    with pytest.raises(ConfigurationError, match="exactly one of the two keys"):
        emulated_records(EmulatedData(), base=tmp_path)


def test_a_store_that_is_not_there_is_named(folder, capsys):
    text = TEXT.replace('"steep"', '"simulated-turbulence"').replace("store.txt", "none.h5")
    (folder / "c.toml").write_text(text)
    run(folder / "c.toml", code=3)
    assert "none.h5" in capsys.readouterr().err
    assert not (folder / "made").exists()
