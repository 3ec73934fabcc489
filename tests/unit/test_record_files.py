"""Our own files of event maps, ring counts and reconstructed maps."""

import json
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from obsfit.errors import DataFormatError
from obsfit.ingest import record_files
from obsfit.ingest.record_files import read_record, write_record
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid, RingCounts
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import MapReconstruction, ObservationSpec

ORIGIN = Provenance("year-1", "year-1.fits", "ab" * 32, ("year-0",), {"title": "Übung", "runs": [1, 2], "x": 1.5})


def event_map():
    counts = np.random.default_rng(1).poisson(3.0, (6, 48)) * 1.0
    return EventMap(counts, HealpixLocalGrid(2, -0.3), "Hilltop", ORIGIN, 1.7 * counts, "solar", "8-13 TeV")


def ring_counts():
    rng, grid = np.random.default_rng(2), HourAngleGrid(3, 8)
    counts = rng.poisson(4.0, (8, 3, 8)) * 1.0
    sky = np.stack(
        [[counts[range(8), r, [(t - k) % 8 for t in range(8)]].sum() for k in range(8)] for r in range(3)]
    )
    sums = (counts.sum((1, 2)), counts.sum(0), sky, np.repeat(counts.sum((0, 2)) / 2, 2))
    return RingCounts(*sums, grid, "Valley", ORIGIN, tuple(2.0 * plane for plane in sums))


def reconstruction():
    rng, grid = np.random.default_rng(3), HourAngleGrid(3, 8)
    ring = (3, 8)
    intensity = rng.normal(1.0, 1e-3, ring)
    intensity[0] = np.nan
    settings = {"tolerance": 1e-4, "window": np.int64(24), "accelerated": True, "note": "x"}
    spec = ObservationSpec(
        "iterative-likelihood", settings, ("Hilltop", "Valley"), -0.4, 1.1, "sidereal", True, "all of m = 0"
    )
    return MapReconstruction(
        intensity, rng.poisson(9.0, ring) * 1.0, rng.random(ring), (rng.random(8), rng.random(8)),
        (rng.random(ring), rng.random(ring)), rng.random(12), grid, spec, (ORIGIN, Provenance("other")), 17, False,
    )  # fmt: skip


def equal(one, other):
    """Deep equality of records, arrays and NaN included; shares nothing with the writer."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if hasattr(one, "__dataclass_fields__"):
        names = [field.name for field in fields(one)]
        return type(one) is type(other) and all(equal(getattr(one, name), getattr(other, name)) for name in names)
    return one == other


RECORDS = {
    "event-map": event_map,
    "event-map without weights": lambda: replace(event_map(), squared_weights=None),
    "event-map on rings": lambda: EventMap(np.ones((8, 24)), HourAngleGrid(3, 8), "Hilltop", ORIGIN),
    "ring-counts": ring_counts,
    "ring-counts without weights": lambda: replace(ring_counts(), squared=None),
    "map-reconstruction": reconstruction,
}


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_written_comes_back_bit_by_bit(tmp_path, kind):
    record = RECORDS[kind]()
    write_record(tmp_path / "x.h5", record)
    assert equal(read_record(tmp_path / "x.h5"), record)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("kind", RECORDS)
def test_equal_records_make_equal_files(tmp_path, kind):
    for name in ("a.h5", "b.h5"):
        write_record(tmp_path / name, RECORDS[kind]())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_the_file_says_what_it_is(tmp_path):
    write_record(tmp_path / "x.h5", event_map(), seed=7, configuration={"cut": "60 deg"})
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file.attrs["obsfit_format"], file.attrs["format_version"]) == ("event-map", 1)
        head = json.loads(file["head"].asstr()[()])
    assert (head["LOCAXES"], head["TIMEREF"], head["BINREF"]) == ("NWU", "LST", "LEFT")
    assert (head["seed"], head["configuration"]) == (7, {"cut": "60 deg"})
    assert head["data_sha256"] == {"year-1.fits": "ab" * 32}
    assert "numpy" in head["versions"]


def test_nothing_is_replaced_unasked_and_nothing_half_written(tmp_path):
    path = tmp_path / "x.h5"
    write_record(path, event_map())
    with pytest.raises(FileExistsError):
        write_record(path, ring_counts())
    write_record(path, ring_counts(), overwrite=True)
    bad = replace(event_map(), provenance=Provenance("x", meta={"clock": object()}))
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        write_record(tmp_path / "y.h5", bad)
    for nowhere in (event_map, reconstruction):
        with pytest.raises(
            TypeError, match=r'provenance is None; expected .* such as .*Provenance\("my-events"\)'
        ):
            write_record(tmp_path / "y.h5", replace(nowhere(), provenance=None))
    with pytest.raises(TypeError, match="a dict cannot be written"):
        write_record(tmp_path / "y.h5", {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.h5"]
    assert isinstance(read_record(path), RingCounts)


@pytest.mark.parametrize("kind", ["event-map", "map-reconstruction"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    path = tmp_path / "x.h5"
    write_record(path, RECORDS[kind]())
    whole = path.read_bytes()
    for cut in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataFormatError, match=r"x\.h5: cannot be read as HDF5[\s\S]*cut off"):
            read_record(path)


def head_of(file, **changes):
    head = json.loads(file["head"].asstr()[()]) | changes
    del file["head"]
    file["head"] = json.dumps(head)


def put(file, name, values):
    del file[name]
    file[name] = values


def with_nan(counts):
    counts[2, 3] = np.nan
    return counts


@pytest.mark.parametrize(
    ("kind", "spoil", "text"),
    [
        (
            "event-map",
            lambda f: f.attrs.__delitem__("obsfit_format"),
            r"obsfit_format is ''\s*Expected one of",
        ),
        ("event-map", lambda f: f.attrs.__setitem__("obsfit_format", "fit"), "obsfit_format is 'fit'"),
        ("event-map", lambda f: f.attrs.__setitem__("format_version", 9), r"format_version is 9\s*Expected 1"),
        ("event-map", lambda f: f.__delitem__("head"), "no dataset head"),
        ("event-map", lambda f: put(f, "head", "{"), "holds no valid record"),
        ("event-map", lambda f: f.__delitem__("counts"), "holds no valid record: 'counts'"),
        ("event-map", lambda f: put(f, "counts", np.ones((6, 50))), r"counts have shape \(6, 50\), expected"),
        ("event-map", lambda f: put(f, "counts", with_nan(f["counts"][()])), "counts: value nan"),
        ("event-map", lambda f: put(f, "counts", -f["counts"][()]), r"counts: value -\d"),
        ("event-map", lambda f: put(f, "counts", np.array([b"x"])), "counts has type"),
        ("event-map", lambda f: put(f, "squared_weights", np.ones((6, 12))), "squared_weights have shape"),
        ("event-map", lambda f: head_of(f, frame="lunar"), "frame 'lunar'"),
        ("event-map", lambda f: head_of(f, grid={"kind": "healpix", "nside": 3, "latitude_rad": 0.0}), "nside 3"),
        ("event-map", lambda f: head_of(f, grid={"kind": "cube"}), "grid 'cube'"),
        ("event-map", lambda f: head_of(f, TIMEREF="GMST"), r"TIMEREF is 'GMST'\s*Expected LST"),
        ("ring-counts", lambda f: put(f, "per_time", 2 * f["per_time"][()]), "totals"),
        ("ring-counts", lambda f: f.__delitem__("squared_per_sky"), "squared_per_sky"),
        ("map-reconstruction", lambda f: put(f, "expected", np.ones((3, 9))), r"expected has shape \(3, 9\)"),
        ("map-reconstruction", lambda f: f.__delitem__("exposure_1"), "exposure_1"),
        ("map-reconstruction", lambda f: put(f, "acceptance_0", np.ones(3)), "acceptance_0 has shape"),
    ],
)
def test_damaged_files_are_refused(tmp_path, kind, spoil, text):
    path = tmp_path / "x.h5"
    write_record(path, RECORDS[kind]())
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(DataFormatError, match=rf"x\.h5: [\s\S]*{text}"):
        read_record(path)


def test_links_to_other_files_are_not_followed(tmp_path):
    write_record(tmp_path / "secret.h5", event_map())
    path = tmp_path / "x.h5"
    write_record(path, event_map())
    with h5py.File(path, "r+") as file:
        del file["counts"]
        file["counts"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/counts")
    with pytest.raises(
        DataFormatError, match=r"counts is no dataset of this file\s*Expected .*no links elsewhere"
    ):
        read_record(path)
    with h5py.File(path, "r+") as file:
        del file["counts"]
        raw = tmp_path / "raw"
        raw.write_bytes(bytes(6 * 48 * 8))
        file.create_dataset("counts", (6, 48), "f8", external=[(str(raw), 0, 6 * 48 * 8)])
    with pytest.raises(DataFormatError, match="counts is no dataset of this file"):
        read_record(path)


def test_headers_cannot_ask_for_all_the_memory(tmp_path, monkeypatch):
    write_record(tmp_path / "x.h5", event_map())
    monkeypatch.setattr(record_files, "MAX_BYTES", 100)
    with pytest.raises(DataFormatError, match=r"counts has type float64 and shape \(6, 48\)\s*Expected numbers"):
        read_record(tmp_path / "x.h5")


def test_a_file_that_is_not_there_or_not_hdf5(tmp_path):
    with pytest.raises(DataFormatError, match="there is no such file"):
        read_record(tmp_path / "none.h5")
    (tmp_path / "x.h5").write_text("no HDF5")
    with pytest.raises(DataFormatError, match="cannot be read as HDF5"):
        read_record(tmp_path / "x.h5")
