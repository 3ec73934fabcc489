"""Records of displacement skies: what they refuse, select, join, and keep in files."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from obsfit_models.turbulence.displacement import (
    DisplacementEnsemble,
    DisplacementSky,
    displacement_sky,
    ensemble_of,
    joined,
)
from obsfit_models.turbulence.displacement_files import read_ensemble, read_sky, write_displacements
from obsfit_models.turbulence.field import MagneticField

from obsfit.errors import DataFormatError

FIELDS = ("alm", "product", "gyroradius", "stop", "stopped_by", "directions", "missing", "local_field")


def some_sky(seed=1, *, n_set=2, lmax=3):
    """Numbers of the right shapes; they stand for nothing."""
    rng = np.random.default_rng(seed)
    shape = (n_set, 2, 3)
    alm = rng.normal(size=(*shape, 6, (lmax + 1) * (lmax + 2) // 2, 2)) @ [1.0, 1j]
    product = rng.normal(size=(*shape, 6, 6))
    return DisplacementSky(
        alm, product @ np.swapaxes(product, -1, -2), np.array([0.1, 1.0]), np.array([1.0, 2.0, 5.0]), "time", 48,
        local_field=rng.normal(size=(2, 3)),
    )  # fmt: skip


def some_ensemble(n=3, start=0):
    skies = [some_sky(seed) for seed in range(start, start + n)]
    return ensemble_of(skies, realisation=range(start, start + n), configuration={"seed": 7, "modes": [1, 2]})


def assert_same(one, other):
    for name in FIELDS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_selection_keeps_what_belongs_together():
    sky = replace(some_sky(), missing=np.arange(12).reshape(2, 2, 3))
    part = sky.at(2.0, gyroradius=1.0)
    assert part.missing.tolist() == [[[4]], [[10]]]
    assert part.stop.tolist() == [2.0]
    assert part.gyroradius.tolist() == [1.0]
    assert np.array_equal(part.alm, sky.alm[:, 1:2, 1:2])
    assert np.array_equal(part.product, sky.product[:, 1:2, 1:2])
    assert np.array_equal(part.local_field, sky.local_field[1:2])
    ensemble = some_ensemble()
    assert np.array_equal(ensemble.at(gyroradius=0.1).alm, ensemble.alm[:, :, :1])
    assert np.array_equal(ensemble.at(5.0).sky(1).alm, ensemble.alm[1][:, :, 2:])
    assert_same(ensemble.sky(2), some_sky(2))


def test_a_stop_that_is_not_there_is_refused_by_its_neighbours():
    with pytest.raises(ValueError, match=r"stop 3.0: expected one of 1, 2, 5"):
        some_sky().at(3.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alm": np.zeros((2, 2, 3, 5, 10), complex)}, "6 components"),
        ({"alm": np.zeros((2, 2, 3, 6, 11), complex)}, "set of a_lm"),
        ({"product": np.zeros((2, 2, 3, 6, 5))}, "product: shape"),
        ({"product": np.full((2, 2, 3, 6, 6), np.nan)}, "product: holds a number that is not finite"),
        ({"gyroradius": np.array([0.1, -1.0])}, "expected positive lengths"),
        ({"gyroradius": np.array([0.1])}, "gyroradius: shape"),
        ({"stop": np.array([1.0, 1.0, 2.0])}, "increase"),
        ({"stopped_by": "chance"}, "expected time or radius"),
        ({"directions": 0}, "at least 1"),
        ({"missing": np.full((2, 2, 3), 48)}, "missing 48"),
        ({"local_field": np.zeros(3)}, "local_field: shape"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(some_sky(), **changes)


def test_ensembles_join_and_a_field_counts_once():
    whole = joined([some_ensemble(2), some_ensemble(1, start=2)])
    assert_same(whole, some_ensemble(3))
    assert whole.realisation.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="realisation 1 is there twice"):
        joined([some_ensemble(2), some_ensemble(2, start=1)])
    with pytest.raises(ValueError, match="differ in configuration"):
        joined([some_ensemble(2), replace(some_ensemble(1, start=2), configuration={"seed": 8})])
    with pytest.raises(ValueError, match="differ in stop"):
        joined([some_ensemble(2), replace(some_ensemble(1, start=2), stop=np.array([1.0, 2.0, 6.0]))])
    with pytest.raises(ValueError, match="with and without local_field"):
        joined([some_ensemble(2), replace(some_ensemble(1, start=2), local_field=None)])


def test_files_give_back_every_bit(tmp_path):
    sky = replace(some_sky(), missing=np.arange(12).reshape(2, 2, 3))
    write_displacements(tmp_path / "sky.h5", sky, seed=3)
    assert_same(read_sky(tmp_path / "sky.h5"), sky)
    ensemble = some_ensemble()
    write_displacements(tmp_path / "many.h5", ensemble)
    back = read_ensemble(tmp_path / "many.h5")
    assert_same(back, ensemble)
    assert np.array_equal(back.realisation, ensemble.realisation)
    assert back.configuration == {"seed": 7, "modes": [1, 2]}
    with h5py.File(tmp_path / "many.h5") as file:
        head = json.loads(file["head"].asstr()[()])
    assert head["obsfit_format"] == "displacement-ensemble"
    assert "numpy" in head["versions"]
    with pytest.raises(FileExistsError):
        write_displacements(tmp_path / "many.h5", ensemble)


def test_single_precision_errs_by_less_than_1e_7_of_each_number(tmp_path):
    sky = some_sky()
    write_displacements(tmp_path / "sky.h5", sky, single_precision=True)
    back = read_sky(tmp_path / "sky.h5")
    for part in ("real", "imag"):
        exact = getattr(sky.alm, part)
        assert np.max(np.abs(getattr(back.alm, part) / exact - 1)) < 1e-7
    assert np.array_equal(back.product, sky.product)


def change(path, do):
    with h5py.File(path, "r+") as file:
        do(file)


def another_file(file):
    del file["product"]
    file["product"] = h5py.ExternalLink("elsewhere.h5", "product")


def a_version_from_the_future(file):
    file.attrs["format_version"] = 2


def a_missing_array(file):
    del file["stop"]


def an_array_of_another_shape(file):
    del file["product"]
    file["product"] = np.zeros((2, 2, 3, 5, 6))


def text_for_numbers(file):
    del file["stop"]
    file["stop"] = "soon"


def not_a_number(file):
    file["product"][0, 0, 0, 0, 0] = np.nan


def an_array_that_was_never_written(file):
    del file["alm"]
    file.create_dataset("alm", shape=(2, 20000, 3, 6, 10), dtype=complex, chunks=True)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (another_file, "no links elsewhere"),
        (a_version_from_the_future, "format_version is"),
        (a_missing_array, "stop"),
        (an_array_of_another_shape, "product: shape"),
        (text_for_numbers, "stop has type"),
        (not_a_number, "not finite"),
        (an_array_that_was_never_written, "stored in full"),
    ],
)
def test_changed_files_are_refused(tmp_path, do, message):
    path = tmp_path / "sky.h5"
    write_displacements(path, some_sky())
    change(path, do)
    with pytest.raises(DataFormatError, match=message):
        read_sky(path)


def test_files_cut_off_absent_or_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "sky.h5"
    write_displacements(path, some_sky())
    with pytest.raises(DataFormatError, match="obsfit_format is 'displacement-sky'"):
        read_ensemble(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataFormatError, match="cannot be read as HDF5"):
        read_sky(path)
    with pytest.raises(DataFormatError, match="no such file"):
        read_sky(tmp_path / "nothing.h5")


def test_more_sets_than_one_need_a_generator():
    with pytest.raises(ValueError, match="sets 2"):
        displacement_sky(MagneticField(), [1.0], gyroradius=1.0, nside=2, lmax=1, sets=2)


def test_an_ensemble_needs_a_number_for_each_field():
    ensemble = some_ensemble()
    with pytest.raises(ValueError, match="one for each field"):
        replace(ensemble, realisation=np.arange(2))
    assert isinstance(ensemble, DisplacementEnsemble)
