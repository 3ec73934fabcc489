"""Files of magnetic fields: there and back, files of other hands, and what is refused."""

import io
import logging
import zipfile

import astropy.units as u
import h5py
import numpy as np
import pytest
from astropy.io import fits
from obsfit_models.turbulence import field_files
from obsfit_models.turbulence.field import GridField, MagneticField
from obsfit_models.turbulence.field_files import read_field, write_field
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

from obsfit.errors import ConfigurationError, DataFormatError

SUFFIXES = ["h5", "npz", "fits"]
UNITS = {"length": 10 * u.pc, "strength": 3 * u.uG}
SHAPE = (4, 5, 6, 3)


def some_field(rng, *, periodic=True):
    grid = GridField(rng.normal(size=SHAPE), np.array([-1.0, 0.5, 2.0]), np.array([0.5, 0.25, 1.0]), periodic)
    return MagneticField(uniform=[0.0, 0.3, 1.0], grids=(grid,))


def head(**changes):
    made = {
        "field_unit": "uG",
        "length_unit": "pc",
        "origin": np.zeros(3),
        "spacing": np.ones(3),
        "periodic": True,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def write(path, values=None, **changes):
    """A file as a user would write it, with none of our code."""
    values = np.ones(SHAPE) if values is None else values
    said = head(**changes)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["field"] = values
            file["field"].attrs.update(said)
    elif path.suffix == ".npz":
        np.savez(path, field=values, **said)
    else:
        unit = fits.ImageHDU(values, name="FIELD")
        for name, value in said.items():
            if np.shape(value) == (3,):
                unit.header.update({f"{name.upper()}{i + 1}": float(value[i]) for i in range(3)})
            else:
                unit.header[{"field_unit": "BUNIT", "length_unit": "LENUNIT"}.get(name, name.upper())] = value
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("periodic", [True, False])
def test_there_and_back(tmp_path, suffix, periodic):
    field = some_field(np.random.default_rng(1), periodic=periodic)
    path = tmp_path / f"field.{suffix}"
    write_field(path, field, **UNITS)
    back = read_field(path, **UNITS)
    np.testing.assert_allclose(back.grids[0].values, field.grids[0].values, rtol=1e-14)
    np.testing.assert_allclose(back.grids[0].origin, field.grids[0].origin, rtol=1e-14)
    np.testing.assert_allclose(back.grids[0].spacing, field.grids[0].spacing, rtol=1e-14)
    np.testing.assert_allclose(back.uniform, field.uniform, rtol=1e-14)
    assert back.grids[0].periodic is periodic


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_fields_make_equal_files(tmp_path, suffix):
    field = some_field(np.random.default_rng(2))
    for name in ("one", "two"):
        write_field(tmp_path / f"{name}.{suffix}", field, **UNITS)
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    with pytest.raises(FileExistsError):
        write_field(tmp_path / f"one.{suffix}", field, **UNITS)
    write_field(tmp_path / f"one.{suffix}", field, overwrite=True, **UNITS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one.{suffix}", f"two.{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_units_of_the_file_become_those_of_the_caller(tmp_path, suffix):
    """600 pT are 6 uG, twice the unit; points 4000 AU apart; the x axis is the first of the array."""
    values = np.zeros(SHAPE)
    values[2, 1, 0] = [600.0, 0.0, -300.0]
    path = write(
        tmp_path / f"mhd.{suffix}", values, field_unit="pT", length_unit="AU", origin=np.array([0.0, 4000, 0]),
        spacing=np.full(3, 4000.0), uniform=np.array([0.0, 0, 150]),
    )  # fmt: skip
    field = read_field(path, length=4000 * u.AU, strength=3 * u.uG)
    np.testing.assert_allclose(field.at([[2.0], [2.0], [0.0]])[:, 0], [2.0, 0.0, -0.5], atol=1e-12)
    np.testing.assert_allclose(field.at([[1.0], [2.0], [2.0]])[:, 0], [0.0, 0.0, 0.5], atol=1e-12)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["field_unit", "length_unit", "origin", "spacing", "periodic"])
def test_what_is_missing_is_named_and_can_be_said(tmp_path, suffix, name):
    path = write(tmp_path / f"mhd.{suffix}", **{name: None})
    missing = "whether it is periodic" if name == "periodic" else f"its {name}"
    with pytest.raises(DataFormatError, match=f"does not say {missing}") as caught:
        read_field(path, **UNITS)
    assert f"give {name}=" in caught.value.remedy
    said = {"field_unit": "uG", "length_unit": "pc", "origin": (0, 0, 0), "spacing": 2.0, "periodic": False}[name]
    field = read_field(path, **UNITS, **{name: said})
    if name == "spacing":
        np.testing.assert_allclose(field.grids[0].spacing, 0.2)


def test_a_contradiction_is_refused(tmp_path):
    path = write(tmp_path / "mhd.h5")
    read_field(path, **UNITS, field_unit="uG", spacing=1.0, origin=[0, 0, 0], periodic=True)
    for name, wrong in (("field_unit", "nT"), ("spacing", 2.0), ("periodic", False), ("origin", [0, 0, 1])):
        with pytest.raises(DataFormatError, match=f"says {name} = .*is given"):
            read_field(path, **UNITS, **{name: wrong})


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_by_index(tmp_path, suffix, bad):
    values = np.ones(SHAPE)
    values[3, 0, 2, 1] = bad
    path = write(tmp_path / f"mhd.{suffix}", values)
    with pytest.raises(
        DataFormatError, match=r"1 values that are not finite, the first .* at index \(3, 0, 2, 1\)"
    ):
        read_field(path, **UNITS)
    values[:] = bad
    with pytest.raises(DataFormatError, match=r"(?s)360 values.*field\[0, 0, 6, 1\]|360 values"):
        read_field(write(tmp_path / f"all.{suffix}", values), **UNITS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 5, 6), (4, 5, 1, 3), (4, 5, 6, 2)])
def test_wrong_shapes_are_refused(tmp_path, suffix, shape):
    with pytest.raises(DataFormatError, match=r"has shape .*\n?.*components last"):
        read_field(write(tmp_path / f"mhd.{suffix}", np.ones(shape)), **UNITS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix):
    path = write(tmp_path / f"mhd.{suffix}", np.ones((20, 20, 20, 3)))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(DataFormatError, match="cut off"):
        read_field(path, **UNITS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_noise_is_no_field(tmp_path, suffix):
    path = tmp_path / f"mhd.{suffix}"
    path.write_bytes(np.random.default_rng(3).bytes(5000))
    with pytest.raises(DataFormatError, match=r"mhd\.") as caught:
        read_field(path, **UNITS)
    assert "whole" in caught.value.expected or "FITS" in str(caught.value)
    with pytest.raises(DataFormatError, match="no such file"):
        read_field(tmp_path / f"none.{suffix}", **UNITS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_field_beyond_the_limit_is_refused_before_it_is_read(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(field_files, "MAX_BYTES", 1000)
    with pytest.raises(DataFormatError, match="takes 2880 bytes"):
        read_field(write(tmp_path / f"mhd.{suffix}"), **UNITS)


def test_shapes_declared_without_data_are_refused(tmp_path):
    """A few bytes that declare gigabytes, in each format."""
    huge = (500, 500, 500, 3)
    with h5py.File(tmp_path / "mhd.h5", "w") as file:
        file.create_dataset("field", shape=huge, dtype="f8", chunks=(10, 10, 10, 3), compression="gzip")
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": huge, "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(tmp_path / "mhd.npz", "w") as archive:
        archive.writestr("field.npy", stream.getvalue() + bytes(100))
    write(tmp_path / "mhd.fits")
    data = (
        (tmp_path / "mhd.fits")
        .read_bytes()
        .replace(b"NAXIS4  =                    4", b"NAXIS4  =              4000000")
    )
    (tmp_path / "mhd.fits").write_bytes(data)
    for suffix in SUFFIXES:
        with pytest.raises(DataFormatError, match="declares"):
            read_field(tmp_path / f"mhd.{suffix}", **UNITS)


def test_python_objects_are_never_unpickled(tmp_path):
    opened = []

    class Trap:
        def __reduce__(self):
            return (opened.append, (1,))

    values = np.empty(SHAPE, dtype=object)
    values[0, 0, 0, 0] = Trap()
    np.savez(tmp_path / "mhd.npz", field=values, **head())
    with pytest.raises(DataFormatError, match="Python objects"):
        read_field(tmp_path / "mhd.npz", **UNITS)
    np.savez(tmp_path / "unit.npz", field=np.ones(SHAPE), **head(field_unit=np.array([Trap()], dtype=object)))
    with pytest.raises(DataFormatError, match="'field_unit' holds Python objects"):
        read_field(tmp_path / "unit.npz", **UNITS)
    assert opened == []


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual", "group"])
def test_hdf5_that_reaches_elsewhere_is_refused(tmp_path, kind):
    other = write(tmp_path / "other.h5")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(np.ones(SHAPE).tobytes())
    with h5py.File(tmp_path / "mhd.h5", "w") as file:
        if kind == "external link":
            file["field"] = h5py.ExternalLink(str(other), "field")
        elif kind == "soft link":
            file["there"] = np.ones(SHAPE)
            file["field"] = h5py.SoftLink("/there")
        elif kind == "external storage":
            file.create_dataset("field", shape=SHAPE, dtype="f8", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape=SHAPE, dtype="f8")
            layout[:] = h5py.VirtualSource(str(other), "field", shape=SHAPE)
            file.create_virtual_dataset("field", layout)
        else:
            file.create_group("field")
    with pytest.raises(DataFormatError, match=r"ExternalLink|SoftLink|another file|group"):
        read_field(tmp_path / "mhd.h5", **UNITS)


@pytest.mark.parametrize("suffix", ["h5", "npz"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"field_unit": "pc"}, "field_unit 'pc' is no unit of a magnetic field"),
        ({"field_unit": "gauß"}, "is no unit of a magnetic field"),
        ({"length_unit": "uG"}, "length_unit 'uG' is no unit of length"),
        ({"spacing": np.array([1.0, 0.0, 1.0])}, "Expected positive lengths"),
        ({"origin": np.array([0.0, np.nan, 0.0])}, "origin is"),
        ({"periodic": 7}, "periodic is 7"),
    ],
)
def test_wrong_words_are_refused(tmp_path, suffix, changes, message):
    with pytest.raises(DataFormatError, match=message):
        read_field(write(tmp_path / f"mhd.{suffix}", **changes), **UNITS)


def test_files_of_another_kind_or_version_are_refused(tmp_path):
    with pytest.raises(DataFormatError, match="obsfit_format is 'fit'"):
        read_field(write(tmp_path / "kind.npz", obsfit_format="fit"), **UNITS)
    with pytest.raises(DataFormatError, match="format_version is 2"):
        read_field(write(tmp_path / "version.h5", format_version=2), **UNITS)


def test_callers_are_told_what_to_give(tmp_path):
    path = write(tmp_path / "mhd.h5")
    for units, message in (
        ({"length": 10.0, "strength": 3 * u.uG}, "length is 10.0"),
        ({"length": 10 * u.pc, "strength": 3 * u.pc}, "strength is"),
        ({"length": -10 * u.pc, "strength": 3 * u.uG}, "length is -10.0 pc"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            read_field(path, **units)
    with pytest.raises(ConfigurationError, match=r"suffix '\.csv'"):
        read_field(tmp_path / "mhd.csv", **UNITS)
    with pytest.raises(ConfigurationError, match="interpolation is 'nearest'"):
        read_field(path, **UNITS, interpolation="nearest")


def test_waves_are_to_be_sampled_first(tmp_path):
    field = isotropic_waves(TurbulenceSpectrum(1.0, 10.0), modes=5, rng=np.random.default_rng(4))
    with pytest.raises(ConfigurationError, match="0 grids and some waves") as caught:
        write_field(tmp_path / "waves.h5", field, **UNITS)
    assert "grids.sampled" in caught.value.remedy
    with pytest.raises(ConfigurationError, match="field_unit 'pc' is no unit"):
        write_field(tmp_path / "waves.h5", some_field(np.random.default_rng(5)), field_unit="pc", **UNITS)
    assert list(tmp_path.iterdir()) == []


def test_wrongly_ordered_components_are_warned_of(tmp_path, caplog):
    """A wave along x with its field along z, and the same with its field along x."""
    wave = np.sin(2 * np.pi * np.arange(16) / 16)[:, None, None, None] * np.ones((16, 4, 4, 1))
    with caplog.at_level(logging.WARNING):
        read_field(write(tmp_path / "good.npz", wave * [0, 0, 1.0]), **UNITS)
        assert caplog.text == ""
        read_field(write(tmp_path / "bad.npz", wave * [1.0, 0, 0]), **UNITS)
    assert "the rms of div B is 1.00" in caplog.text
