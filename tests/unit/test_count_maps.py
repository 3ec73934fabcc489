"""Maps of the sky with counts: IceCube's three columns, HAWC's four, and what is wrong with some files."""

from dataclasses import replace

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.count_maps import read_count_map, write_count_map
from obsfit.ingest.maps import load_map, save_map
from obsfit.observatory import Observatory
from obsfit.records.count_map import CountMap
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap

NSIDE = 8
N_PIXEL = 12 * NSIDE**2
POLE = Observatory("Ice", -90 * u.deg, 0 * u.deg, 65 * u.deg)


def southern(fill=0.0):
    """Counts, background and local map south of -25 deg, `fill` elsewhere; a dipole of 1e-2 in right ascension."""
    theta, phi = hp.pix2ang(NSIDE, np.arange(N_PIXEL))
    inside = theta > np.radians(115)
    background = np.where(inside, 1000.0, fill)
    data = np.where(inside, np.round(1000.0 * (1 + 1e-2 * np.cos(phi))), fill)
    local = np.where(theta < np.radians(65), 1000.0 + np.arange(N_PIXEL), 0.0)
    return data, background, local, inside


def write(path, columns, names, *, nest=False, coord="C", dtype=np.float64):
    values = [hp.reorder(column, r2n=True) for column in columns] if nest else list(columns)
    hp.write_map(path, values, nest=nest, coord=coord, column_names=list(names), dtype=dtype, overwrite=True)
    return path


ICECUBE = ("data map", "background map", "local map")
HAWC = ("relative intensity", "relative intensity error", "data", "background")


@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize("fill", [0.0, hp.UNSEEN, np.nan])
def test_three_columns_of_icecube(tmp_path, nest, fill):
    data, background, local, inside = southern(fill)
    found = read_count_map(write(tmp_path / "sid.fits", [data, background, local], ICECUBE, nest=nest))
    np.testing.assert_array_equal(found.counts, np.where(inside, data, np.nan))
    np.testing.assert_array_equal(found.background, np.where(inside, background, np.nan))
    assert (found.delta_i, found.error, found.local) == (None, None, None)
    sky = found.sky_map().delta_i
    np.testing.assert_array_equal(np.isnan(sky), ~inside)
    phi = hp.pix2ang(NSIDE, np.arange(N_PIXEL))[1]
    np.testing.assert_allclose(sky[inside], 1e-2 * np.cos(phi[inside]), atol=5.1e-4)  # counts are whole numbers


def test_the_local_map_needs_its_axes(tmp_path):
    data, background, local, _ = southern()
    path = write(tmp_path / "sid.fits", [data, background, local], ICECUBE)
    with pytest.raises(DataFormatError, match=r"LOCAXES, and axes is not given[\s\S]*NWU, SEZ, ENU, NEU"):
        read_count_map(path, with_local=True)
    turned = read_count_map(path, with_local=True, axes="SEZ").local
    np.testing.assert_array_equal(turned[:4], local[[2, 3, 0, 1]])  # the first ring has four pixels
    np.testing.assert_array_equal(read_count_map(path, with_local=True, axes="NWU").local, local)
    path = write(tmp_path / "two.fits", [data, background], ICECUBE[:2])
    with pytest.raises(DataFormatError, match=r"no local map[\s\S]*Found data map, background map"):
        read_count_map(path, with_local=True, axes="NWU")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_four_columns_of_hawc_in_any_order(tmp_path, dtype):
    data, background, _, inside = southern()
    smooth = np.where(inside, 0.5 * (data / np.maximum(background, 1.0) - 1.0), hp.UNSEEN)
    error = np.where(inside, 3e-2, hp.UNSEEN)
    columns = {
        "background": background,
        "data": data,
        "relative intensity error": error,
        "Relative Intensity": smooth,
    }
    found = read_count_map(write(tmp_path / "h.fits", columns.values(), columns, dtype=dtype))
    np.testing.assert_array_equal(found.counts, np.where(inside, data, np.nan))
    np.testing.assert_allclose(found.sky_map().delta_i, np.where(inside, smooth, np.nan), rtol=1e-6)
    np.testing.assert_allclose(found.error[inside], 3e-2, rtol=1e-6)
    assert np.isnan(found.error[~inside]).all()


def test_columns_of_other_names_are_named_by_the_caller(tmp_path):
    data, background, _, _ = southern()
    path = write(tmp_path / "x.fits", [data, background], ["N_ON", "N_EXP"])
    with pytest.raises(DataFormatError, match=r"no column of counts among N_ON, N_EXP[\s\S]*columns="):
        read_count_map(path)
    found = read_count_map(path, columns={"counts": "N_ON", "background": "N_EXP"})
    assert np.nansum(found.counts) == data.sum()
    with pytest.raises(ConfigurationError, match=r"no column 'N_OFF'[\s\S]*N_ON, N_EXP"):
        read_count_map(path, columns={"background": "N_OFF"})
    with pytest.raises(ConfigurationError, match="columns names 'data'"):
        read_count_map(path, columns={"data": "N_ON"})
    path = write(tmp_path / "y.fits", [data, data, background], ["data", "data map", "background"])
    with pytest.raises(DataFormatError, match="data and data map may both be the counts"):
        read_count_map(path)


@pytest.mark.parametrize("layout", ["icecube", "hawc"])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("axes", ["NWU", "SEZ", "ENU"])
def test_what_is_written_comes_back(tmp_path, layout, suffix, axes):
    data, background, local, inside = southern(np.nan)
    meta = {"MAPTYPE": "day", "STARTMJD": 57000.0, "NEVENTS": 12345}
    made = CountMap(data, background, Provenance("made", meta=meta))
    if layout == "icecube":
        made = replace(made, local=local)
    else:
        made = replace(made, delta_i=np.where(inside, 1e-3, np.nan), error=np.where(inside, 1e-2, np.nan))
    path = tmp_path / f"map{suffix}"
    write_count_map(path, made, layout=layout, axes=axes)
    found = read_count_map(path, with_local=layout == "icecube", observatory=POLE)
    for name in ("counts", "background", "delta_i", "error", "local"):
        expected = getattr(made, name)
        assert (getattr(found, name) is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(getattr(found, name), expected)
    assert meta.items() <= found.provenance.meta.items()
    header = fits.getheader(path, 1)
    assert [header[key] for key in ("ORDERING", "COORDSYS", "NSIDE")] == ["RING", "C", NSIDE]
    assert fits.getheader(path)["OBSFIT_FORMAT"] == "count-map"
    with pytest.raises(FileExistsError):
        write_count_map(path, made, layout=layout)


def test_other_programs_find_unseen_outside(tmp_path):
    data, background, _, inside = southern(np.nan)
    write_count_map(tmp_path / "h.fits", CountMap(data, background, Provenance("made")), layout="hawc")
    delta_i, found = hp.read_map(tmp_path / "h.fits", field=(0, 1), dtype=np.float64)
    assert np.all((delta_i == hp.UNSEEN) == ~inside)
    np.testing.assert_array_equal(delta_i[inside], (data / background - 1.0)[inside])
    np.testing.assert_array_equal(found[inside], data[inside])


def test_what_would_be_lost_is_refused(tmp_path):
    data, background, local, _ = southern(np.nan)
    made = CountMap(data, background, Provenance("made"), local=local)
    with pytest.raises(ConfigurationError, match="hawc has no column for local"):
        write_count_map(tmp_path / "x.fits", made, layout="hawc")
    with pytest.raises(ConfigurationError, match=r"layout is 'fermi'[\s\S]*icecube, hawc"):
        write_count_map(tmp_path / "x.fits", made, layout="fermi")
    with pytest.raises(ConfigurationError, match="axes is 'XYZ'"):
        write_count_map(tmp_path / "x.fits", made, layout="icecube", axes="XYZ")
    assert list(tmp_path.iterdir()) == []


def put(column, value, pixel=700):
    return np.where(np.arange(N_PIXEL) == pixel, value, column)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda d, b: (put(d, -2.0), b), r"column data map: 1 values are negative, the first in pixel 700 \(-2\)"),
        (lambda d, b: (put(d, np.inf), b), "column data map: 1 values are infinite, the first in pixel 700"),
        (lambda d, b: (d, put(b, -1.0)), "column background map: 1 values are negative"),
        (lambda d, b: (d, put(b, 0.0)), r"1 pixels have events and no background, the first 700"),
        (lambda d, b: (d, put(b, hp.UNSEEN)), "1 pixels have events and no background"),
        (lambda d, b: (d, put(b, np.nan)), "1 pixels have events and no background"),
        (lambda d, b: (0 * d, 0 * b), r"no pixel has counts and background\s*Expected a field of view"),
        (lambda d, b: (0 * d + hp.UNSEEN, b), "no pixel has counts and background"),
        (
            lambda d, b: (put(d, 3.0, 5), put(b, 3.0, 5)),
            r"3 events at declinations 78\.3 to 78\.3 deg\s*Expected -90 to -25 deg",
        ),
    ],
)
def test_numbers_that_are_no_count_map(tmp_path, spoil, text):
    data, background, local, _ = southern()
    path = write(tmp_path / "bad.fits", [*spoil(data, background), local], ICECUBE)
    with pytest.raises(DataFormatError, match=rf"bad\.fits: HDU 1.*{text}"):
        read_count_map(path, observatory=POLE)


def test_relative_intensities_that_are_something_else(tmp_path):
    data, background, _, inside = southern()
    cases = [
        (np.where(inside, 1.001, 0.0), r"column relative intensity: the median is 1\.001\s*Expected relative"),
        (np.full(N_PIXEL, hp.UNSEEN), "column relative intensity: no pixel is observed"),
    ]  # fmt: skip
    for delta_i, text in cases:
        path = write(tmp_path / "h.fits", [delta_i, data, background], [HAWC[0], *HAWC[2:]])
        with pytest.raises(DataFormatError, match=text):
            read_count_map(path)
    path = write(tmp_path / "h.fits", [-1.0 * inside, data, background], HAWC[1:])
    with pytest.raises(DataFormatError, match="errors are negative"):
        read_count_map(path)


def test_local_and_galactic_maps_are_no_maps_of_the_equatorial_sky(tmp_path):
    data, background, local, _ = southern()
    path = write(tmp_path / "g.fits", [data, background, local], ICECUBE, coord="G")
    with pytest.raises(DataFormatError, match=r"COORDSYS is 'G'\s*Expected equatorial"):
        read_count_map(path)
    path = write(tmp_path / "l.fits", [data, background, local], ICECUBE, coord=None)
    with fits.open(path, mode="update") as units:
        units[0].header["COORDS"] = "L"
    for read in (read_count_map, load_map):
        with pytest.raises(DataFormatError, match=r"COORDS is 'L'\s*Expected equatorial"):
            read(path)


def test_a_relative_intensity_alone(tmp_path):
    delta_i = np.random.default_rng(1).normal(0, 1e-3, N_PIXEL)
    theta = hp.pix2ang(NSIDE, np.arange(N_PIXEL))[0]
    seen = theta < np.radians(100)
    delta_i[10] = 0.0
    path = write(tmp_path / "r.fits", [np.where(seen, delta_i, 0.0)], ["relint"])
    np.testing.assert_array_equal(load_map(path).delta_i, np.where(seen, delta_i, 0.0))
    np.testing.assert_array_equal(load_map(path, zeros_unobserved=True).delta_i, np.where(seen, delta_i, np.nan))
    for bad, text in (
        (np.full(N_PIXEL, hp.UNSEEN), "no observed pixel"),
        (put(delta_i, np.inf), "infinite values"),
    ):
        write(path, [bad], ["relint"])
        with pytest.raises(DataFormatError, match=text):
            load_map(path)


def test_a_sky_map_is_saved_and_loaded(tmp_path):
    delta_i = np.where(np.arange(N_PIXEL) < 300, np.random.default_rng(1).normal(0, 1e-3, N_PIXEL), np.nan)
    save_map(tmp_path / "s.fits", SkyMap(delta_i, Provenance("made", meta={"CUTS": "none"})))
    found = load_map(tmp_path / "s.fits")
    np.testing.assert_array_equal(found.delta_i, delta_i)
    assert found.provenance.meta["CUTS"] == "none"
    with pytest.raises(FileExistsError):
        save_map(tmp_path / "s.fits", found)


def test_the_record_refuses_what_makes_no_sense():
    data, background, local, inside = southern(np.nan)
    made = CountMap(data, background, Provenance("made"))
    assert made.nside == NSIDE
    cases = [
        ({"counts": data[:-1]}, "767 pixels"),
        ({"counts": put(data, -1.0)}, r"counts: value -1\.0 in pixel 700"),
        ({"background": put(background, 0.0)}, r"background: value 0\.0 in pixel 700"),
        ({"background": np.where(inside, np.nan, 1.0)}, "NaN in the same pixels"),
        ({"error": put(0.0 * local, -1.0)}, "error: value -1"),
        ({"local": put(local, np.nan)}, "local: value nan"),
        ({"delta_i": np.zeros(5)}, r"delta_i: shape \(5,\)"),
        ({"delta_i": put(0.0 * local, np.inf)}, "delta_i: value inf"),
    ]
    for change, text in cases:
        with pytest.raises(ValueError, match=text):
            replace(made, **change)
