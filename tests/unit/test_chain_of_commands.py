"""From a mock to a fit by commands alone, and what each command does with bad input."""

import json
import re

import healpy as hp
import numpy as np
import pytest
from astropy.table import Table

import obsfit
from obsfit.cli import main
from obsfit.ingest.bin_files import write_bin_files
from obsfit.ingest.count_maps import read_count_map
from obsfit.ingest.multimap import write_multimap
from obsfit.ingest.record_files import read_record, write_record
from obsfit.reconstruct.ring_sums import ring_counts

DIPOLE = (8e-4, 6e-4)
MOCK = """schema = 1
seed = 1
output = "mock"
[sky]
dipole = [8e-4, 6e-4, 0.0]
multipoles = [{ ell = 2, m = 1, real = 2e-4 }]
[grid]
n_dec = 32
n_time = 72
sub_cells = 2
[[detectors]]
name = "HAWC"
zenith_max = "57 deg"
events = 1e11
exposure = [{ clock = "sidereal", amplitude = 0.2, phase = "70 deg" }]
[event_list]
events = 3000
format = "csv"
"""
RECONSTRUCT = """schema = 1
seed = 1
output = "out"
method = "low-multipole-likelihood"
energy = "10 TeV"
[maps]
nside = 16
[[detectors]]
name = "HAWC"
events = "mock/HAWC.h5"
zenith_max = "57 deg"
"""
LIST = """events = "mock/HAWC-events.csv"
[detectors.columns]
time = { name = "mjd", format = "mjd" }
[detectors.columns.local]
azimuth = "azimuth_rad"
zenith = "zenith_rad"
unit = "rad"
azimuth_convention = "north-east"
"""
SPECTRUM = """schema = 1
output = "out"
map = "iterative-likelihood/counts.fits"
energy = "10 TeV"
lmax = 12
measurement = "mock-10TeV"
"""
# Five standard deviations of two components: false alarm below 1e-5 for each method.
DISTANCE = 5.0


def call(folder, command, text):
    path = folder / "configuration.toml"
    path.write_text(text)
    with pytest.raises(SystemExit) as end:
        main([command, str(path), "--json"])
    return end.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a mock, and its reconstruction by the iterative likelihood."""
    folder = tmp_path_factory.mktemp("chain")
    assert call(folder, "mock", MOCK) == 0
    text = RECONSTRUCT.replace("low-multipole-likelihood", "iterative-likelihood")
    assert call(folder, "reconstruct", text.replace('"out"', '"iterative-likelihood"')) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """An empty folder that sees the files of the chain."""
    for path in made.iterdir():
        if path.is_dir():
            (tmp_path / path.name).symlink_to(path, target_is_directory=True)
    return tmp_path


def dipole_in(folder):
    told = json.loads((folder / "reconstruction.json").read_text())
    return np.array(told["harmonics"]["components"])[0], np.array(told["harmonics"]["covariance"])[:2, :2], told


@pytest.mark.parametrize(
    "method", ["iterative-likelihood", "low-multipole-likelihood", "east-west", "right-ascension-projection"]
)
def test_every_method_finds_the_dipole_that_its_response_says(method, folder):
    """The quadrupole of the sky leaks in as the stored response says; 3 % of it is for the coarse cells."""
    if method != "iterative-likelihood":
        settings = '[settings]\nmap_method = "iterative-likelihood"\n' if method.startswith("right") else ""
        text = RECONSTRUCT.replace("low-multipole-likelihood", method).replace("[maps]", settings + "[maps]")
        assert call(folder, "reconstruct", text.replace('"out"', f'"{method}"')) == 0
    found, covariance, told = dipole_in(folder / method)
    expected = dipole_by_response(told)
    allowed = DISTANCE * np.sqrt(np.diag(covariance)) + 0.03 * np.abs(expected).max()
    assert np.all(np.abs(found - expected) < allowed)
    assert np.all(np.sqrt(np.diag(covariance)) < 5e-5)
    assert told["spec"]["method"] == method
    assert "a_l0" in told["spec"]["loss"] or "m = 0" in told["spec"]["loss"]


def dipole_by_response(told):
    """Equatorial dipole that the stored response makes of the sky of the mock."""
    response = told["response"]
    sky = np.zeros(2 * len(response["ell"]))
    for ell, m, value in ((1, 1, -np.sqrt(2 * np.pi / 3) * (DIPOLE[0] - 1j * DIPOLE[1])), (2, 1, 2e-4)):
        place = next(
            i for i, pair in enumerate(zip(response["ell"], response["m"], strict=True)) if pair == (ell, m)
        )
        sky[[place, len(response["ell"]) + place]] = value.real, value.imag
    expected = np.array(response["matrix"]) @ sky
    if "multipoles" in told:
        n = len(told["multipoles"]["ell"])
        expected = np.sqrt(1.5 / np.pi) * np.array([-expected[0], expected[n]])
    return expected[:2]


@pytest.mark.parametrize("method", ["iterative-likelihood", "low-multipole-likelihood"])
def test_few_time_bins_are_enough_for_few_multipoles(method, folder, capsys):
    """Hours tell multipoles below l = 6 apart: so far leakage is told, and is that of bins of a third of their width.

    3 % of it is for the coarse cells, of 15 degrees at the rim of the field.
    """
    text = MOCK.split("[event_list]")[0].replace("n_time = 72", "n_time = 24").replace('"mock"', '"hours"')
    assert call(folder, "mock", text) == 0
    fine = RECONSTRUCT.replace("low-multipole-likelihood", method).replace("seed = 1", "seed = 1\nlmax = 1")
    if method.startswith("low"):
        fine = fine.replace("[maps]", "[settings]\nlmax = 1\n[maps]")
    coarse = fine.replace("mock/HAWC.h5", "hours/HAWC.h5")
    assert call(folder, "reconstruct", coarse) == 0
    found, covariance, told = dipole_in(folder / "out")
    expected = dipole_by_response(told)
    allowed = DISTANCE * np.sqrt(np.diag(covariance)) + 0.03 * np.abs(expected).max()
    assert np.all(np.abs(found - expected) < allowed)
    assert max(told["response"]["ell"]) == 5
    if method.startswith("low"):
        assert call(folder, "reconstruct", fine.replace('"out"', '"fine"')) == 0
        whole = dipole_in(folder / "fine")[2]["response"]
        assert max(whole["ell"]) == 10
        shared = np.array(whole["matrix"])[:, np.tile(np.array(whole["ell"]) <= 5, 2)]
        assert np.abs(shared[:, 1:6]).max() > 0.5
        assert np.allclose(told["response"]["matrix"], shared, rtol=0, atol=0.03)
    capsys.readouterr()
    assert call(folder, "reconstruct", coarse.replace("lmax = 1", "lmax = 6").replace('"out"', '"six"')) == 1
    assert "more than 24 time bins" in capsys.readouterr().err


def test_the_dipole_is_a_measurement_that_can_be_loaded(folder):
    record = obsfit.load_dipoles(folder / "iterative-likelihood/dipole.ecsv")
    components, covariance, _ = dipole_in(folder / "iterative-likelihood")
    assert (record.observatory, record.method) == (("HAWC",), ("deprojected",))
    np.testing.assert_allclose(record.components()[0][0], components, rtol=1e-9)
    np.testing.assert_allclose(np.diag(record.components()[1][0]), np.diag(covariance), rtol=0.1)


def test_the_map_and_its_noise_are_those_of_the_reconstruction(folder):
    result = read_record(folder / "iterative-likelihood/reconstruction.h5")
    shown = read_count_map(folder / "iterative-likelihood/map.fits")
    assert np.nansum(shown.background) == pytest.approx(result.expected.sum(), rel=0.02)
    seen = np.isfinite(shown.delta_i)
    np.testing.assert_allclose((shown.error**2 * shown.background)[seen], 1.0, atol=1e-6)
    vectors = np.array(hp.pix2vec(16, np.arange(shown.counts.size)))
    wave = np.array(
        [np.sum(shown.delta_i[seen] * vectors[i, seen]) / np.sum(vectors[i, seen] ** 2) for i in (0, 1)]
    )
    np.testing.assert_allclose(wave, DIPOLE, atol=2.5e-4)
    whole = read_count_map(folder / "iterative-likelihood/counts.fits")
    assert np.nansum(whole.counts) == np.rint(np.nansum(whole.counts))
    significance = hp.read_map(folder / "iterative-likelihood/significance.fits")
    assert np.nanmax(np.where(significance > -1e20, significance, np.nan)) > 5.0


def test_the_spectrum_is_fitted_as_it_stands(folder, capsys):
    text = SPECTRUM + 'covariance = true\nreconstruction = "iterative-likelihood/reconstruction.h5"\n'
    assert call(folder, "spectrum", text + "[decoupling]\nwidth = 3\n") == 0
    told = json.loads(capsys.readouterr().out)
    spectrum = obsfit.load_spectrum(folder / "out/spectrum.ecsv")
    assert [row["c_ell"] for row in told["spectrum"]] == spectrum.c_ell.tolist()
    assert spectrum.measurement == "mock-10TeV"
    # sum |a_1m|^2 / 3 of the equatorial dipole on the sky that is seen, more than a half of it
    full = 4.0 * np.pi / 9.0 * np.hypot(*DIPOLE) ** 2
    assert 0.3 * full < spectrum.c_ell[0] < 1.1 * full
    assert spectrum.noise[0] > 2.0 * spectrum.noise[-1]
    covariance = np.array([list(row) for row in Table.read(folder / "out/covariance.ecsv")])
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > 0.0
    fit = 'schema = 1\nseed = 1\noutput = "fit"\n[data]\nspectrum = "out/spectrum.ecsv"\nell_max = 4\n'
    fit += '[model]\nnames = ["relative-diffusion"]\n[sampler]\ntarget = 2\nblock = 50\n'
    assert call(folder, "fit", fit) == 0
    medians = {row["name"]: row["median"] for row in json.loads(capsys.readouterr().out)["parameters"]}
    assert -7.5 < medians["log10_c1"] < -4.0


def test_a_fit_refuses_a_weight_that_it_does_not_know(folder, capsys):
    assert call(folder, "spectrum", SPECTRUM + '[weight]\nkind = "counts"\n') == 0
    fit = 'schema = 1\nseed = 1\noutput = "fit"\n[data]\nspectrum = "out/spectrum.ecsv"\nell_max = 4\n'
    assert call(folder, "fit", fit + '[model]\nnames = ["relative-diffusion"]\n') == 1
    assert "weight 'counts', which no window tells" in capsys.readouterr().err


def test_a_power_of_the_sine_is_a_weight_that_a_fit_knows(folder):
    weight = '[weight]\nkind = "power"\nexponent = 0.5\ndec_min = "5 deg"\ndec_max = "60 deg"\n'
    assert call(folder, "spectrum", SPECTRUM + weight) == 0
    record = obsfit.load_spectrum(folder / "out/spectrum.ecsv")
    flat = call(folder, "spectrum", SPECTRUM.replace('"out"', '"flat"') + weight.replace("0.5", "0.0"))
    assert flat == 0
    with_power = obsfit.operator_for(record).response[1]
    without = obsfit.operator_for(obsfit.load_spectrum(folder / "flat/spectrum.ecsv")).response[1]
    assert np.abs(with_power - without).max() > 0.01


def test_lists_in_frames_where_nothing_may_be_found(folder, capsys):
    text = RECONSTRUCT.replace("low-multipole-likelihood", "rayleigh").replace('events = "mock/HAWC.h5"\n', "")
    text = text.replace('energy = "10 TeV"', 'null_frames = ["anti-sidereal", "extended-sidereal"]') + LIST
    assert call(folder, "reconstruct", text + "[rings]\nn_dec = 16\nn_time = 24\n") == 0
    told = json.loads(capsys.readouterr().out)
    assert [test["name"] for test in told["null_tests"]] == [
        "anti-sidereal rayleigh",
        "extended-sidereal rayleigh",
    ]
    # 3000 events and no modulation of the rate: isotropic to their statistics
    assert all(test["probability"] > 1e-4 for test in told["null_tests"])
    assert told["harmonics"][0]["amplitude_error"] == pytest.approx(np.sqrt(2 / 3000) / 0.87, rel=0.1)


BAD = [
    ("low-multipole", "low-multipol", 2, "did you mean 'low-multipole-likelihood'"),
    ("[maps]", "[settings]\nlmx = 2\n[maps]", 2, "did you mean 'lmax'"),
    ("[maps]", '[settings]\nlmax = "two"\n[maps]', 2, "lmax = 'two'"),
    ("nside", "nsdie", 2, "did you mean 'nside'"),
    ("nside = 16", "nside = 20", 2, "a power of two"),
    ("nside = 16", 'smoothing = "wide"', 2, "is no angle"),
    ("seed = 1", "seed = -1", 2, "0 or more"),
    ("seed = 1", "seed = 1\nlmax = 0", 2, "1 to 10"),
    ('"10 TeV"', '"10 TV"', 2, "is no energy"),
    ('output = "out"', 'output = "mock"', 2, "is not empty"),
    ("mock/HAWC.h5", "mock/absent.h5", 3, "there is no such file"),
    ("mock/HAWC.h5", "mock/sky.fits", 3, "cannot be read as HDF5"),
    ("mock/HAWC.h5", "cut.h5", 3, "cannot be read as HDF5"),
    ("mock/HAWC.h5", "iterative-likelihood/reconstruction.h5", 3, "expected an event map|Expected an event map"),
    ('events = "mock/HAWC.h5"\n', "", 2, "no events"),
    ('"mock/HAWC.h5"', '["mock/HAWC.h5", "mock/HAWC.h5"]', 2, "2 files"),
    ("", '[[detectors]]\nevents = "mock/HAWC.h5"\n', 2, "is given twice"),
    ("", 'null_frames = ["solar"]\n', 2, "unknown key"),
    ("seed = 1", 'seed = 1\nnull_frames = ["solar"]', 2, "one of anti-sidereal"),
    ("seed = 1", 'seed = 1\nnull_frames = ["anti-sidereal"]', 2, "counted already"),
    ("", 'format = "list"\n', 2, "columns for event lists"),
    ("", 'format = "multimap"\n', 3, "HAWC.h5"),
    ("", 'format = "tiff"\n', 2, "format"),
    ("mock/HAWC.h5", "sums.h5", 2, "do not know the time of each count"),
    ("mock/HAWC.h5", "empty.h5", 2, "no events"),
]


@pytest.mark.parametrize(("old", "new", "code", "words"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_of_a_reconstruction_is_one_error_and_no_file(old, new, code, words, folder, capsys):
    events = read_record(folder / "mock/HAWC.h5")
    if "cut" in new:
        whole = (folder / "mock/HAWC.h5").read_bytes()
        (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    if "sums" in new:
        write_record(folder / "sums.h5", ring_counts(events))
    if "empty" in new:
        write_record(folder / "empty.h5", type(events)(0.0 * events.counts, events.grid, "x", events.provenance))
    text = RECONSTRUCT.replace(old, new, 1) if old else RECONSTRUCT + new
    if "sums" in new:
        text = text.replace("low-multipole-likelihood", "east-west")
    assert text != RECONSTRUCT
    before = sorted(path.name for path in folder.iterdir())
    assert call(folder, "reconstruct", text) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("obsfit: ")
    assert re.search(words, err)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "configuration.toml"])


BAD_LISTS = [
    ("zenith_rad", "zenith_red", 3, "did you mean 'zenith_rad'"),
    ('unit = "rad"', 'unit = "deg"', 3, "rad"),
    ('unit = "rad"', 'unit = "m"', 2, "a unit of angle"),
    ("north-east", "north-up", 2, "azimuth_convention"),
    ('"mjd", format = "mjd"', '"mjd", format = "unix"', 3, "mjd"),
    ('"mjd", format = "mjd"', '"sidereal_rad", format = "mjd"', 3, "sidereal_rad"),
    ('zenith_max = "57 deg"', 'zenith_max = "0.001 deg"', 3, "no event is left"),
    ("HAWC-events.csv", "absent.csv", 3, "cannot be read"),
    ("azimuth_convention", "azimuth_konvention", 2, "did you mean 'azimuth_convention'"),
]


@pytest.mark.parametrize(("old", "new", "code", "words"), BAD_LISTS, ids=[str(i) for i in range(len(BAD_LISTS))])
def test_bad_lists_are_one_error_and_no_file(old, new, code, words, folder, capsys):
    text = RECONSTRUCT.replace('events = "mock/HAWC.h5"\n', "") + LIST
    changed = text.replace(old, new, 1)
    assert changed != text
    assert call(folder, "reconstruct", changed) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(words, err)
    assert not (folder / "out").exists()


def test_a_gap_wider_than_the_field_of_view_is_refused_by_name(folder, capsys):
    """170 degrees without data; the field sees 130 degrees of hour angle in these coarse cells."""
    gap = 'gaps = [{ clock = "sidereal", start = "0 deg", width = "170 deg" }]\n[event_list]'
    assert call(folder, "mock", MOCK.replace("[event_list]", gap).replace('"mock"', '"gap"')) == 0
    capsys.readouterr()
    assert call(folder, "reconstruct", RECONSTRUCT.replace("mock/HAWC.h5", "gap/HAWC.h5")) == 3
    err = capsys.readouterr().err
    assert "HAWC: a gap of 34 time bins" in err
    assert not (folder / "out").exists()


BAD_SPECTRA = [
    ("counts.fits", "map.fits", 2, "the map was interpolated"),
    ("iterative-likelihood/counts.fits", "absent.fits", 3, "absent.fits"),
    ("iterative-likelihood/counts.fits", "cut.fits", 3, "cut.fits"),
    ("iterative-likelihood/counts.fits", "galactic.fits", 3, "galactic.fits"),
    ("iterative-likelihood/counts.fits", "mock/sky.fits", 3, "no column of counts"),
    ("iterative-likelihood/counts.fits", "mock/HAWC.h5", 3, "HAWC.h5"),
    ("lmax = 12", "lmax = 0", 2, "lmax 0"),
    ("lmax = 12", "lmax = 100", 2, "3 nside - 1"),
    ("lmax", "lmxa", 2, "did you mean 'lmax'"),
    ("", 'column = "RELINT"\n', 2, "no column 'RELINT'"),
    ('"10 TeV"', '"ten"', 2, "is no energy"),
    ("", '[weight]\ndec_min = "80 deg"\n', 2, "no observed pixel"),
    ("", '[weight]\ndec_min = "30 deg"\ndec_max = "-30 deg"\n', 2, "dec_min < dec_max"),
    ("", '[weight]\nkind = "square"\n', 2, "weight.kind"),
    ("", 'noise = "none"\ncovariance = true\n', 2, 'noise = "map"'),
    ("", 'reconstruction = "mock/HAWC.h5"\n', 3, "a reconstruction on rings"),
    ("", "[decoupling]\nwidth = 30\n", 2, "at least one whole bin"),
    ("", '[weight]\ndec_min = "60 deg"\n[decoupling]\nwidth = 1\n', 1, "condition number"),
]


@pytest.mark.parametrize(
    ("old", "new", "code", "words"), BAD_SPECTRA, ids=[str(i) for i in range(len(BAD_SPECTRA))]
)
def test_bad_input_of_a_spectrum_is_one_error_and_no_file(old, new, code, words, folder, capsys):
    if "cut" in new:
        whole = (folder / "iterative-likelihood/counts.fits").read_bytes()
        (folder / "cut.fits").write_bytes(whole[: len(whole) // 2])
    if "galactic" in new:
        hp.write_map(folder / "galactic.fits", np.zeros(192), coord="G", dtype=np.float64)
    text = SPECTRUM.replace(old, new, 1) if old else SPECTRUM + new
    assert call(folder, "spectrum", text) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("obsfit: ")
    assert words in err
    assert not (folder / "out").exists()


SMALL = MOCK.split("[event_list]")[0].replace("events = 1e11", "events = 1e7").replace('"mock"', '"small"')


@pytest.mark.parametrize(
    ("method", "maps", "published"),
    [
        ("direct-integration", True, False),
        ("time-scrambling", True, False),
        ("forward-backward", False, True),
        ("rayleigh", False, True),
    ],
)
def test_the_other_methods_write_what_the_documentation_says(method, maps, published, folder, capsys):
    assert call(folder, "mock", SMALL) == 0
    text = RECONSTRUCT.replace("low-multipole-likelihood", method).replace("mock/HAWC.h5", "small/HAWC.h5")
    capsys.readouterr()
    assert call(folder, "reconstruct", text) == 0
    told = json.loads(capsys.readouterr().out)
    written = {path.name for path in (folder / "out").iterdir()}
    assert written == {*told["files"], "reconstruction.json"}
    assert (
        {"reconstruction.h5", "map.fits", "counts.fits", "significance.fits", "multipoles.ecsv"} <= written
    ) is maps
    assert ("dipole.ecsv" in written) is published
    assert ("dipole.ecsv" in told["left_out"]) is not published
    assert {"harmonics.ecsv", "dipole.png"} <= written


def test_expected_counts_have_a_map_but_no_significance(folder, capsys):
    assert call(folder, "mock", SMALL.replace("seed = 1", "seed = 1\nasimov = true")) == 0
    text = RECONSTRUCT.replace("low-multipole", "iterative").replace("mock/HAWC.h5", "small/HAWC.h5")
    capsys.readouterr()
    assert call(folder, "reconstruct", text) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["left_out"]) == {"counts.fits", "significance.fits"}
    assert not set(told["left_out"]) & set(told["files"])
    row = told["harmonics"][0]
    # Without noise, what remains is the width of the coarse cells.
    assert (row["cosine"], row["sine"]) == (pytest.approx(8e-4, rel=5e-3), pytest.approx(6e-4, rel=5e-3))


def test_files_of_other_programs_give_the_same_as_our_own(folder, capsys):
    assert call(folder, "mock", SMALL.replace("n_dec = 32", "nside = 8")) == 0
    events = read_record(folder / "small/HAWC.h5")
    write_multimap(folder / "maps.fits", events, axes="SEZ")
    write_bin_files(folder / "bin_", events, axes="ENU")
    found = []
    for source, kind in (("small/HAWC.h5", "obsfit"), ("maps.fits", "multimap"), ("bin_", "bin-files")):
        capsys.readouterr()
        text = RECONSTRUCT.replace("mock/HAWC.h5", source).replace('"out"', f'"out-{kind}"')
        assert call(folder, "reconstruct", text + f'format = "{kind}"\n') == 0
        found.append(json.loads(capsys.readouterr().out)["harmonics"])
    assert found[1] == found[0]
    assert found[2] == found[0]
