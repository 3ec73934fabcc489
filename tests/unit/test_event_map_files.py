"""Files of event maps: what other programs write is understood, what we write comes back, bad files are refused."""

import gzip
import re
from dataclasses import replace

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest import fits_maps
from obsfit.ingest.bin_files import read_bin_files, write_bin_files
from obsfit.ingest.event_maps import event_map
from obsfit.ingest.multimap import read_multimap, write_multimap
from obsfit.observatory import Observatory
from obsfit.records.event_map import EventMap, HourAngleGrid
from obsfit.records.provenance import Provenance

N_TIME, NSIDE = 12, 4
N_PIXEL = 12 * NSIDE**2
SITE = Observatory("Hilltop", 19 * u.deg, -90 * u.deg, 60 * u.deg)
OURS = {"axes": "NWU", "time_reference": "LST", "bin_reference": "LEFT"}
PEER = {"axes": "SEZ", "time_reference": "GMST", "bin_reference": "LEFT"}


@pytest.fixture
def counts():
    zenith, _ = hp.pix2ang(NSIDE, np.arange(N_PIXEL))
    return np.random.default_rng(1).poisson(np.where(zenith < np.radians(60), 5.0, 0.0), (N_TIME, N_PIXEL)) * 1.0


@pytest.fixture
def events(counts):
    meta = {"CUTS": "theta < 60 deg", "STARTMJD": 57000.0, "STOPMJD": 57365.0, "TOTDUR": 8000.5}
    return EventMap(
        counts, event_map(counts, SITE, **OURS).grid, "Hilltop", Provenance("made", meta=meta), energy="8-13 TeV"
    )


def peer_bins(folder, counts, *, nest=False, **header):
    """Files of single bins as a program on HEALPix C++ leaves them: nothing about axes or clock."""
    for t, plane in enumerate(counts):
        values = hp.reorder(plane, r2n=True) if nest else plane
        path = folder / f"cr-{t:03d}_of_{len(counts)}.fits"
        hp.write_map(path, values, nest=nest, dtype=np.float64, column_names=["signal"], overwrite=True)
        with fits.open(path, mode="update") as units:
            units[0].header.update({"TIMEBIN": t, "NBINS": len(counts), "COORDS": "L"} | header)
    return folder / "cr-", f"_of_{len(counts)}.fits"


def multimap(path, **images):
    units = [fits.PrimaryHDU(), *(fits.ImageHDU(np.asarray(image), name=name) for name, image in images.items())]
    fits.HDUList(units).writeto(path, overwrite=True)
    return path


def same(found, expected):
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert (found.squared_weights is None) == (expected.squared_weights is None)
    if expected.squared_weights is not None:
        np.testing.assert_array_equal(found.squared_weights, expected.squared_weights)
    names = ("grid", "detector", "frame", "energy")
    assert [getattr(found, name) for name in names] == [getattr(expected, name) for name in names]


# What others write


def test_half_a_turn_and_a_quarter_of_a_day(tmp_path, counts):
    """A peer's x axis points South and its clock is that of Greenwich: 90 deg West are three of twelve bins."""
    events = read_multimap(multimap(tmp_path / "m.fits", LMAPS=counts), observatory=SITE, **PEER)
    assert events.counts[12 - 3, 0] == counts[0, 2]  # the first ring has four pixels
    assert events.counts[0, 4] == counts[3, 8]  # the second has eight, from 4 to 11
    assert (events.total, events.detector, events.grid.nside) == (counts.sum(), "Hilltop", NSIDE)


@pytest.mark.parametrize("nest", [False, True])
def test_files_of_single_bins_and_of_all_bins_agree(tmp_path, counts, nest):
    one = read_multimap(multimap(tmp_path / "m.fits", LMAPS=counts), observatory=SITE, **PEER)
    prefix, suffix = peer_bins(tmp_path, counts, nest=nest)
    same(read_bin_files(prefix, suffix, observatory=SITE, **PEER), one)


def test_a_nested_multimap_is_reordered(tmp_path, counts):
    nested = np.stack([hp.reorder(plane, r2n=True) for plane in counts])
    path = multimap(tmp_path / "m.fits", LMAPS=nested)
    with fits.open(path, mode="update") as units:
        units[1].header["ORDERING"] = "NESTED"
    np.testing.assert_array_equal(read_multimap(path, observatory=SITE, **OURS).counts, counts)


def test_numbers_of_other_types_are_read_exactly(tmp_path, counts):
    for kind in (np.float32, np.int32, np.int16):
        path = multimap(tmp_path / "m.fits", LMAPS=counts.astype(kind))
        np.testing.assert_array_equal(read_multimap(path, observatory=SITE, **OURS).counts, counts)


@pytest.mark.parametrize("packing", ["gzip", "tiles"])
def test_packed_files_are_unpacked(tmp_path, counts, packing):
    path = tmp_path / "m.fits"
    if packing == "gzip":
        path.write_bytes(gzip.compress(multimap(path, LMAPS=counts).read_bytes()))
    else:
        image = fits.CompImageHDU(counts, name="LMAPS", compression_type="GZIP_2", quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    np.testing.assert_array_equal(read_multimap(path, observatory=SITE, **OURS).counts, counts)


def test_weights_come_with_their_squares(tmp_path, counts):
    weights, squares = 1.5 * counts, 2.5 * counts
    path = multimap(tmp_path / "m.fits", LMAPS=counts, WMAPS=weights, W2MAPS=squares)
    events = read_multimap(path, observatory=SITE, **OURS)
    np.testing.assert_array_equal(events.counts, weights)
    np.testing.assert_array_equal(events.squared_weights, squares)
    plain = read_multimap(path, observatory=SITE, weighted=False, **OURS)
    np.testing.assert_array_equal(plain.counts, counts)
    assert plain.squared_weights is None


def test_three_columns_of_a_bin_are_weights_only_if_one_says_so(tmp_path, counts):
    for t, plane in enumerate(counts):
        hp.write_map(tmp_path / f"w{t:03d}.fits", [plane, 1.5 * plane, 2.5 * plane], dtype=np.float64)
    words = {"observatory": SITE, "n_time": N_TIME, **OURS}
    with pytest.raises(DataFormatError, match="weighted=True"):
        read_bin_files(tmp_path / "w", **words)
    np.testing.assert_array_equal(read_bin_files(tmp_path / "w", weighted=True, **words).counts, 1.5 * counts)
    np.testing.assert_array_equal(read_bin_files(tmp_path / "w", weighted=False, **words).counts, counts)


def test_the_story_of_a_series_is_added_up(tmp_path, counts):
    for t, plane in enumerate(counts):
        hp.write_map(
            tmp_path / f"c{t:03d}.fits", plane, dtype=np.float64,
            extra_header=[("STARTMJD", 57000.0 + t), ("STOPMJD", 57300.0 + t), ("TOTDUR", 2.0), ("CUTS", "none")],
        )  # fmt: skip
    meta = read_bin_files(tmp_path / "c", observatory=SITE, n_time=N_TIME, **OURS).provenance.meta
    assert (meta["STARTMJD"], meta["STOPMJD"], meta["TOTDUR"]) == (57000.0, 57311.0, 24.0)
    assert meta["CUTS"] == "none"


def test_events_beyond_the_cut_are_dropped_only_if_one_says_so(tmp_path, counts):
    path = multimap(tmp_path / "m.fits", LMAPS=counts)
    narrow = replace(SITE, zenith_max=30 * u.deg)
    with pytest.raises(DataFormatError, match=r"zenith angles up to 48\.\d deg \(declinations -28\.\d deg to 65"):
        read_multimap(path, observatory=narrow, **OURS)
    cut = read_multimap(path, observatory=narrow, drop_beyond_cut=True, **OURS)
    inside = hp.pix2ang(NSIDE, np.arange(N_PIXEL))[0] < np.radians(30)
    np.testing.assert_array_equal(cut.counts, np.where(inside, counts, 0.0))


# What we write


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("axes", "time_reference"), [("NWU", "LST"), ("SEZ", "GMST"), ("ENU", "LST"), ("NEU", "GMST")]
)
def test_what_is_written_comes_back(tmp_path, events, suffix, weighted, axes, time_reference):
    if weighted:
        events = replace(events, squared_weights=1.25 * events.counts, frame="anti-sidereal")
    words = {"axes": axes, "time_reference": time_reference, "longitude": -90 * u.deg}
    write_multimap(tmp_path / f"all{suffix}", events, **words)
    write_bin_files(tmp_path / "bin-", events, suffix, **words)
    for found in (
        read_multimap(tmp_path / f"all{suffix}", observatory=SITE),
        read_bin_files(tmp_path / "bin-", suffix, observatory=SITE),
    ):
        same(found, events)
        assert found.provenance.meta["CUTS"] == "theta < 60 deg"
    assert sorted(path.name for path in tmp_path.iterdir() if "partial" in path.name) == []


def test_headers_state_axes_clock_and_bins(tmp_path, events):
    words = {"axes": "SEZ", "time_reference": "GMST", "longitude": -90 * u.deg}
    write_multimap(tmp_path / "all.fits", events, **words)
    write_bin_files(tmp_path / "bin-", events, **words)
    for path, unit in (("all.fits", 0), ("all.fits", 1), ("bin-007.fits", 0), ("bin-007.fits", 1)):
        header = fits.getheader(tmp_path / path, unit)
        assert [header[key] for key in ("LOCAXES", "TIMEREF", "BINREF", "CLOCK")] == [
            "SEZ",
            "GMST",
            "LEFT",
            "sidereal",
        ]
        assert (header["NBINS"], header["LATITUDE"], header["LONGITUD"]) == (N_TIME, 19.0, -90.0)
    assert fits.getheader(tmp_path / "bin-007.fits")["TIMEBIN"] == 7
    head = fits.getheader(tmp_path / "all.fits")
    assert (head["OBSFIT_FORMAT"], head["FORMAT_VERSION"], head["TOTDUR"]) == ("event-map", 1, 8000.5)


def test_other_programs_read_what_we_write(tmp_path, events):
    """healpy reads the bins, and plain FITS the images, in the order that cra-ahlers-llh uses."""
    write_bin_files(tmp_path / "bin-", events, axes="SEZ", time_reference="GMST", longitude=-90 * u.deg)
    write_multimap(tmp_path / "all.fits", events, axes="SEZ", time_reference="GMST", longitude=-90 * u.deg)
    with fits.open(tmp_path / "all.fits") as units:
        assert [unit.name for unit in units] == ["PRIMARY", "LMAPS"]
        image = np.array(units["LMAPS"].data)
    first_ring = hp.read_map(tmp_path / "bin-000.fits", dtype=np.float64)
    np.testing.assert_array_equal(first_ring, image[0])
    np.testing.assert_array_equal(image[0, :4], events.counts[9, [2, 3, 0, 1]])


def test_numbers_of_weighted_events_are_written_if_they_are_known(tmp_path, events, counts):
    weighted = replace(events, counts=2.0 * counts, squared_weights=4.0 * counts)
    write_multimap(tmp_path / "m.fits", weighted, numbers=counts)
    with fits.open(tmp_path / "m.fits") as units:
        assert [unit.name for unit in units[1:]] == ["LMAPS", "WMAPS", "W2MAPS"]
        np.testing.assert_array_equal(units[1].data, counts)
    write_bin_files(tmp_path / "b", weighted, numbers=counts)
    plain = read_bin_files(tmp_path / "b", observatory=SITE, weighted=False)
    np.testing.assert_array_equal(plain.counts, counts)
    with pytest.raises(ConfigurationError, match="no weights"):
        write_multimap(tmp_path / "n.fits", events, numbers=counts)
    with pytest.raises(ConfigurationError, match=r"shape \(3, 192\)\s*Expected shape \(12, 192\)"):
        write_multimap(tmp_path / "n.fits", weighted, numbers=counts[:3])


def test_equal_maps_make_equal_files(tmp_path, events):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_multimap(tmp_path / name / "m.fits.gz", events)
    assert (tmp_path / "a/m.fits.gz").read_bytes() == (tmp_path / "b/m.fits.gz").read_bytes()


def test_nothing_is_replaced_unasked(tmp_path, events):
    write_multimap(tmp_path / "m.fits", events)
    (tmp_path / "b005.fits").write_text("mine")
    for write in (
        lambda **more: write_multimap(tmp_path / "m.fits", events, **more),
        lambda **more: write_bin_files(tmp_path / "b", events, **more),
    ):
        with pytest.raises(FileExistsError, match="exists"):
            write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b005.fits", "m.fits"]
    write_multimap(tmp_path / "m.fits", events, overwrite=True)
    write_bin_files(tmp_path / "b", events, overwrite=True)
    same(read_bin_files(tmp_path / "b", observatory=SITE), events)


def test_a_series_is_written_whole_or_not_at_all(tmp_path, events, monkeypatch):
    write = fits_maps.write_units

    def full_disk(partial, target, units):
        if "007" in target.name:
            raise OSError("no space left")
        write(partial, target, units)

    monkeypatch.setattr(fits_maps, "write_units", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_bin_files(tmp_path / "b", events)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_before_a_file_is_made(tmp_path, events):
    grid = HourAngleGrid(4, N_TIME)
    rings = EventMap(np.ones((N_TIME, grid.n_pixel)), grid, "Hilltop", Provenance("made"))
    cases = [
        (rings, {}, ConfigurationError, r"HourAngleGrid[\s\S]*write_record"),
        (events, {"time_reference": "GMST"}, ConfigurationError, "need a longitude"),
        (events, {"axes": "XYZ"}, ConfigurationError, "NWU, SEZ, ENU, NEU"),
        (events, {"bin_reference": "CENTER"}, DataFormatError, "whole number"),
    ]
    for record, words, kind, text in cases:
        for write in (write_multimap, write_bin_files):
            with pytest.raises(kind, match=text):
                write(tmp_path / "x", record, **words)
    assert list(tmp_path.iterdir()) == []


# What is refused


@pytest.mark.parametrize("missing", ["axes", "time_reference", "bin_reference"])
def test_what_the_file_does_not_say_must_be_said(tmp_path, counts, missing):
    choices = {"axes": "NWU, SEZ, ENU, NEU", "time_reference": "LST, GMST", "bin_reference": "LEFT, CENTER"}
    words = {name: word for name, word in OURS.items() if name != missing}
    path = multimap(tmp_path / "m.fits", LMAPS=counts)
    with pytest.raises(DataFormatError, match=rf"m\.fits[\s\S]*{missing} is not given[\s\S]*{choices[missing]}"):
        read_multimap(path, observatory=SITE, **words)


def test_a_header_and_a_caller_who_disagree(tmp_path, events):
    write_multimap(tmp_path / "m.fits", events, axes="ENU")
    read_multimap(tmp_path / "m.fits", observatory=SITE, axes="ENU")
    with pytest.raises(DataFormatError, match=r"LOCAXES = ENU, but axes='SEZ'[\s\S]*Leave axes out"):
        read_multimap(tmp_path / "m.fits", observatory=SITE, axes="SEZ")
    with pytest.raises(DataFormatError, match="CLOCK = sidereal, but frame='solar'"):
        read_multimap(tmp_path / "m.fits", observatory=SITE, frame="solar")
    other = Observatory("Valley", 48 * u.deg, 0 * u.deg, 60 * u.deg)
    with pytest.raises(DataFormatError, match=r"LATITUDE is 19\.0[\s\S]*48 deg as Valley"):
        read_multimap(tmp_path / "m.fits", observatory=other)
    with pytest.raises(ConfigurationError, match="frame is 'lunar'"):
        read_multimap(tmp_path / "m.fits", observatory=SITE, frame="lunar")


def spoilt(counts, value, t=3, pixel=5):
    spoiled = counts.copy()
    spoiled[t, pixel] = value
    return spoiled


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (hp.UNSEEN, "UNSEEN"), (np.inf, "infinite"), (-1.0, "negative")]
)
def test_values_that_are_no_counts(tmp_path, counts, value, word):
    path = multimap(tmp_path / "m.fits", LMAPS=spoilt(counts, value))
    text = rf"m\.fits: HDU LMAPS: 1 values are {word}, the first in time bin 3, pixel 5[\s\S]*Expected finite"
    with pytest.raises(DataFormatError, match=text):
        read_multimap(path, observatory=SITE, **OURS)
    prefix, suffix = peer_bins(tmp_path, spoilt(counts, value))
    with pytest.raises(DataFormatError, match=rf"cr-003_of_12\.fits: HDU 1.*signal: 1 values are {word}.*pixel 5"):
        read_bin_files(prefix, suffix, observatory=SITE, **OURS)
    with pytest.raises(DataFormatError, match=word):
        event_map(spoilt(counts, value), SITE, **OURS)


def test_missing_bins_are_all_named(tmp_path, counts):
    prefix, suffix = peer_bins(tmp_path, counts)
    for t in (4, 11):
        (tmp_path / f"cr-{t:03d}_of_12.fits").unlink()
    with pytest.raises(DataFormatError) as caught:
        read_bin_files(prefix, suffix, observatory=SITE, **OURS)
    text = str(caught.value)
    assert "2 of 12 time bins are missing" in text
    assert "cr-004_of_12.fits" in text
    assert "cr-011_of_12.fits" in text
    (tmp_path / "cr-000_of_12.fits").unlink()
    with pytest.raises(DataFormatError, match="the first time bin is missing"):
        read_bin_files(prefix, suffix, observatory=SITE, **OURS)


def test_a_series_of_unknown_length(tmp_path, counts):
    prefix, suffix = peer_bins(tmp_path, counts)
    for path in tmp_path.iterdir():
        with fits.open(path, mode="update") as units:
            del units[0].header["NBINS"]
    with pytest.raises(DataFormatError, match="no NBINS, and n_time is not given"):
        read_bin_files(prefix, suffix, observatory=SITE, **OURS)
    assert read_bin_files(prefix, suffix, observatory=SITE, n_time=N_TIME, **OURS).n_time == N_TIME
    with pytest.raises(DataFormatError, match=r"more than 11 time bins, such as cr-011_of_12\.fits"):
        read_bin_files(prefix, suffix, observatory=SITE, n_time=11, **OURS)


def rewrite(path, **header):
    with fits.open(path, mode="update") as units:
        for key, value in header.items():
            units[0].header[key] = value


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: hp.write_map(path, np.ones(48), overwrite=True), r"nside 2\s*Expected nside 4 as in the first"),
        (lambda path: rewrite(path, TIMEBIN=5), r"TIMEBIN is 5\s*Expected 4"),
        (lambda path: rewrite(path, TIMEBIN="four"), r"TIMEBIN is 'four'\s*Expected a whole number"),
        (lambda path: rewrite(path, COORDS="C"), r"COORDS is 'C'\s*Expected local coordinates"),
        (lambda path: rewrite(path, CUTS="other"), r"CUTS is 'other'\s*Expected None as in the first"),
        (lambda path: rewrite(path, NBINS=24), r"NBINS is 24\s*Expected 12 as in the first"),
        (lambda path: path.write_bytes(path.read_bytes()[:7000]), "is shorter than|cannot be read as FITS"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "cannot be read as FITS"),
        (lambda path: path.write_bytes(path.read_bytes()[:2880]), r"no binary table[\s\S]*cut off"),
        (lambda path: path.write_bytes(b""), "cannot be read as FITS"),
        (lambda path: path.write_text("SIMPLE = maybe"), "cannot be read as FITS"),
    ],
)  # fmt: skip
def test_a_bad_file_among_the_bins_is_named(tmp_path, counts, spoil, text):
    prefix, suffix = peer_bins(tmp_path, counts)
    spoil(tmp_path / "cr-004_of_12.fits")
    with pytest.raises(DataFormatError, match=rf"cr-004_of_12\.fits: [\s\S]*({text})"):
        read_bin_files(prefix, suffix, observatory=SITE, **OURS)


def table(path, **header):
    column = fits.Column("signal", "D", array=np.ones(header.pop("size", N_PIXEL)))
    unit = fits.BinTableHDU.from_columns([column])
    unit.header.update({"PIXTYPE": "HEALPIX", "ORDERING": "RING", "NBINS": 1} | header)
    unit.writeto(path, overwrite=True)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"ORDERING": "SPIRAL"}, r"ORDERING is 'SPIRAL'\s*Expected RING or NESTED"),
        ({"ORDERING": ""}, r"ORDERING is ''"),
        ({"PIXTYPE": "CAR"}, r"PIXTYPE is 'CAR'\s*Expected HEALPIX"),
        ({"INDXSCHM": "EXPLICIT"}, r"INDXSCHM is 'EXPLICIT'[\s\S]*whole sphere"),
        ({"OBJECT": "PARTIAL"}, "OBJECT is 'PARTIAL'"),
        ({"NSIDE": 8}, r"NSIDE is 8, but there are 192 pixels\s*Expected NSIDE 4"),
        ({"size": 100}, r"100 pixels\s*Expected 12 nside\^2"),
        ({"size": 108}, r"108 pixels\s*Expected 12 nside\^2 with nside a power of two"),
        ({"COORDSYS": "G"}, r"COORDSYS is 'G'\s*Expected local"),
    ],
)
def test_headers_that_tell_of_another_map(tmp_path, header, text):
    table(tmp_path / "x000.fits", **header)
    with pytest.raises(DataFormatError, match=rf"x000\.fits: HDU 1: {text}"):
        read_bin_files(tmp_path / "x", observatory=SITE, **OURS)


def test_columns_of_mixed_nside(tmp_path):
    columns = [
        fits.Column("a", "192D", array=np.ones((1, 192))), fits.Column("b", "48D", array=np.ones((1, 48)))
    ]  # fmt: skip
    unit = fits.BinTableHDU.from_columns(columns)
    unit.header.update({"PIXTYPE": "HEALPIX", "ORDERING": "RING"})
    unit.writeto(tmp_path / "x000.fits")
    with pytest.raises(DataFormatError, match=r"columns of 48, 192 pixels\s*Expected one nside"):
        read_bin_files(tmp_path / "x", observatory=SITE, n_time=1, **OURS)


def test_images_that_do_not_fit_together(tmp_path, counts):
    words = {"observatory": SITE, **OURS}
    path = tmp_path / "m.fits"
    cases = [
        ({"MAPS": counts}, r"no image HDU LMAPS or WMAPS or W2MAPS[\s\S]*Found PrimaryHDU PRIMARY, ImageHDU MAPS"),
        ({"LMAPS": counts, "WMAPS": counts}, "no image HDU W2MAPS"),
        ({"WMAPS": counts}, "no image HDU W2MAPS"),
        (
            {"LMAPS": counts, "WMAPS": counts[:5], "W2MAPS": counts},
            r"images differ in shape: HDU LMAPS \(12, 192\)",
        ),
        (
            {"LMAPS": counts[:, :48], "WMAPS": counts, "W2MAPS": counts},
            r"images differ in shape[\s\S]*one nside",
        ),
        ({"LMAPS": counts, "WMAPS": 3 * counts, "W2MAPS": counts}, r"HDU W2MAPS: .*\n?[\s\S]*another order"),
        ({"LMAPS": 10 * counts, "WMAPS": 25 * counts, "W2MAPS": 15 * counts}, r"HDU W2MAPS: [\s\S]*another order"),
        ({"LMAPS": counts[0]}, r"HDU LMAPS is no image of two dimensions"),
        ({"LMAPS": counts[:, :100]}, r"HDU LMAPS: 100 pixels\s*Expected 12 nside\^2"),
        ({"LMAPS": 0 * counts}, r"holds no events\s*Expected a field of view that is not empty"),
    ]
    for images, text in cases:
        with pytest.raises(DataFormatError, match=rf"m\.fits: ({text})"):
            read_multimap(multimap(path, **images), **words)
    multimap(path, LMAPS=counts)
    rewrite(path, NBINS=360)
    with pytest.raises(DataFormatError, match="NBINS is 360, but there are 12 maps"):
        read_multimap(path, **words)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.fits"]


@pytest.mark.parametrize("name", ["m.fits", "m.fits.gz", "tiles.fits"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, counts, name):
    path = tmp_path / name
    if name == "tiles.fits":
        image = fits.CompImageHDU(counts, name="LMAPS", compression_type="GZIP_2", quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    else:
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(counts, name="LMAPS")]).writeto(path)
    whole = path.read_bytes()
    assert read_multimap(path, observatory=SITE, **OURS).total == counts.sum()
    with fits.open(path, disable_image_compression=True) as units:
        # Blanks that fill the last block may be missing without harm.
        end = units[1].fileinfo()["datLoc"] + units[1].size if name != "m.fits.gz" else len(whole)
    for cut in sorted({*range(100, end, max(end // 25, 1)), end - 1}):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataFormatError, match=re.escape(name)):
            read_multimap(path, observatory=SITE, **OURS)


def test_our_weights_are_not_lost_with_the_end_of_a_file(tmp_path, events):
    path = tmp_path / "m.fits"
    weighted = replace(events, squared_weights=2.0 * events.counts)
    write_multimap(path, weighted, numbers=events.counts)
    whole = path.read_bytes()
    with fits.open(path) as units:
        starts = [unit.fileinfo()["hdrLoc"] for unit in units]
    cuts = [place + more for place in starts[2:] for more in (-1000, -1, 0, 80, 2000, 3000)]
    for cut in cuts[2:]:  # the first two touch blanks that fill the last block of the numbers of events
        path.write_bytes(whole[:cut])
        with pytest.raises(DataFormatError, match=r"m\.fits"):
            read_multimap(path, observatory=SITE)
        if cut > starts[2]:
            with pytest.raises(DataFormatError, match=r"m\.fits"):
                read_multimap(path, observatory=SITE, weighted=False)


def test_a_file_cut_off_before_it_was_packed_is_refused(tmp_path, counts):
    path = multimap(tmp_path / "m.fits", LMAPS=counts)
    whole = path.read_bytes()
    for cut in (2880, 4000, 6000, 2 * 2880 + counts.nbytes - 1):
        path.write_bytes(gzip.compress(whole[:cut]))
        with pytest.raises(DataFormatError, match=r"m\.fits"):
            read_multimap(path, observatory=SITE, **OURS)


def test_numbers_rounded_by_compression_are_named(tmp_path):
    noisy = np.abs(np.random.default_rng(3).normal(100.0, 10.0, (N_TIME, N_PIXEL)))
    image = fits.CompImageHDU(noisy, name="LMAPS", compression_type="GZIP_2", quantize_level=4)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "m.fits")
    wide = replace(SITE, zenith_max=90 * u.deg)
    words = {"observatory": wide, "drop_beyond_cut": True, **OURS}
    with pytest.raises(DataFormatError, match=r"HDU LMAPS: the numbers were rounded[\s\S]*quantised=True"):
        read_multimap(tmp_path / "m.fits", **words)
    found = read_multimap(tmp_path / "m.fits", quantised=True, **words)
    inside = hp.pix2ang(NSIDE, np.arange(N_PIXEL))[0] < np.radians(89)
    assert 0 < np.abs(found.counts - noisy)[:, inside].max() < 10.0


def test_a_map_whose_pole_is_not_the_zenith(tmp_path, counts):
    upside_down = counts[:, ::-1]
    with pytest.raises(
        DataFormatError, match=r"zenith angles up to 168[\s\S]*the pole of these maps is not the zenith"
    ):
        read_multimap(multimap(tmp_path / "m.fits", LMAPS=upside_down), observatory=SITE, **OURS)
    with pytest.raises(DataFormatError, match="All lie beyond the zenith cut"):
        event_map(upside_down, SITE, drop_beyond_cut=True, **OURS)


def test_headers_cannot_ask_for_all_the_memory(tmp_path, monkeypatch, counts):
    path = multimap(tmp_path / "m.fits", LMAPS=counts)
    monkeypatch.setattr(fits_maps, "MAX_BYTES", 1000)
    with pytest.raises(DataFormatError, match=r"LMAPS declares 18432 bytes"):
        read_multimap(path, observatory=SITE, **OURS)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataFormatError, match="the unpacked file declares 1001 bytes"):
        read_multimap(path, observatory=SITE, **OURS)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataFormatError, match=r"none\.fits: there is no such file"):
        read_multimap(tmp_path / "none.fits", observatory=SITE, **OURS)
    with pytest.raises(DataFormatError, match="cannot be read as FITS"):
        read_multimap(tmp_path, observatory=SITE, **OURS)
