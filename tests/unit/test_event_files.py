"""Four formats of one list, and what is wrong with damaged ones."""

import gzip
import sys
from dataclasses import replace

import astropy.units as u
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from pyarrow import parquet

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.event_columns import EnergyColumn, EventColumns, LocalColumns, TimeColumn
from obsfit.ingest.event_files import open_list, table_list
from obsfit.ingest.events import read_events
from obsfit.observatory import Observatory
from obsfit.records.event_map import HourAngleGrid

SITE = Observatory("mid latitude", 19.0 * u.deg, -97.0 * u.deg, 60.0 * u.deg)
GRID = HourAngleGrid(24, 36)
COLUMNS = EventColumns(
    time=TimeColumn("mjd", "mjd"), local=LocalColumns("azimuth", "zenith", "deg", "north-east"),
    weight="weight", energy=EnergyColumn("energy", "TeV"),
)  # fmt: skip
N = 5000


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(21)
    return pd.DataFrame({
        "mjd": rng.uniform(57000.0, 57400.0, N), "azimuth": rng.uniform(0.0, 360.0, N),
        "zenith": rng.uniform(0.0, 60.0, N), "weight": rng.integers(1, 5, N), "energy": rng.uniform(1, 100, N),
        "number": np.arange(N),
    })  # fmt: skip


def write_hdf5(path, events, **options):
    with h5py.File(path, "w") as file:
        for name in events:
            file.create_dataset(f"run/{name}", data=events[name].to_numpy(), **options)


def write_compound(path, events):
    with h5py.File(path, "w") as file:
        file["run"] = events.to_records(index=False)


def write_fits(path, events):
    table = Table.from_pandas(events)
    table["zenith"].unit = "deg"
    table.meta["EXTNAME"] = "RUN"
    table.write(path, format="fits")


def write_text(path, events, *, comma, names):
    words = list(events)
    lines = ["# a list", ""] + ([("," if comma else "  ").join(words)] if names == "line" else [])
    lines += ["#  " + "  ".join(words)] if names == "comment" else []
    between = ", " if comma else "   "
    lines += [between.join(map(repr, row)) for row in zip(*(events[word].tolist() for word in words), strict=True)]
    path.write_text("\n".join(lines) + "\n")


WRITERS = {
    "parquet": lambda path, events: events.to_parquet(path, index=False),
    "parquet, small row groups": lambda path, events: events.to_parquet(
        path, index=False, row_group_size=300, compression="zstd"
    ),
    "hdf5": write_hdf5,
    "hdf5, compressed": lambda path, events: write_hdf5(path, events, compression="gzip", chunks=(512,)),
    "hdf5, compound": write_compound,
    "fits": write_fits,
    "comma": lambda path, events: write_text(path, events, comma=True, names="line"),
    "comma, named in a comment": lambda path, events: write_text(path, events, comma=True, names="comment"),
    "blank": lambda path, events: write_text(path, events, comma=False, names="comment"),
    "pandas": lambda path, events: events.to_csv(path, index=False),
    "gzip": lambda path, events: events.to_csv(path, index=False, compression="gzip"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_of_a_list_gives_the_same_sums(events, tmp_path, kind):
    """Identical: text is written and read with all digits, and weights are whole."""
    path = tmp_path / "list"
    WRITERS[kind](path, events)
    columns = replace(COLUMNS, table="run") if kind.startswith(("hdf5", "fits")) else COLUMNS
    (found,) = read_events(path, columns, observatory=SITE, grid=GRID, rows=1111)
    reference = tmp_path / "reference.parquet"
    events.to_parquet(reference)
    (expected,) = read_events(reference, COLUMNS, observatory=SITE, grid=GRID)
    for name in ("per_time", "per_cell", "per_sky", "per_declination"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for mine, theirs in zip(found.squared, expected.squared, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert found.total == events["weight"].sum()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_piece_has_no_more_rows_than_asked_for(events, tmp_path, kind):
    path = tmp_path / "list"
    WRITERS[kind](path, events)
    found = open_list(path, table="run" if kind.startswith(("hdf5", "fits")) else "")
    pieces = [piece["mjd"] for piece in found.pieces(("mjd",), 700)]
    assert max(map(len, pieces)) <= 700
    np.testing.assert_array_equal(np.concatenate(pieces), events["mjd"])


def test_nested_groups_are_columns(events, tmp_path):
    with h5py.File(tmp_path / "list.h5", "w") as file:
        file["reco/angles/zenith"] = events["zenith"]
    assert open_list(tmp_path / "list.h5").names == ("reco/angles/zenith",)
    assert open_list(tmp_path / "list.h5", table="reco").names == ("angles/zenith",)


def test_scaled_integers_of_fits_are_numbers(tmp_path):
    path, stored = tmp_path / "list.fits", np.arange(0, 30000, 7)
    fits.BinTableHDU.from_columns([fits.Column("zenith", "J", array=stored)]).writeto(path)
    fits.setval(path, "TSCAL1", value=0.001, ext=1)
    fits.setval(path, "TZERO1", value=10.0, ext=1)
    values = np.concatenate([piece["zenith"] for piece in open_list(path).pieces(("zenith",), 1000)])
    np.testing.assert_allclose(values, 0.001 * stored + 10.0, atol=1e-12)


def test_units_are_those_that_the_files_declare(events, tmp_path):
    write_fits(tmp_path / "list.fits", events)
    assert open_list(tmp_path / "list.fits").units == {"zenith": "deg"}
    schema = pa.schema([pa.field("zenith", pa.float64(), metadata={b"unit": b"rad"})])
    parquet.write_table(pa.table({"zenith": [1.0]}, schema=schema), tmp_path / "list.parquet")
    assert open_list(tmp_path / "list.parquet").units == {"zenith": "rad"}
    (tmp_path / "list.txt").write_text("#  zenith[deg]  E[TeV]\n 1 2\n")
    assert open_list(tmp_path / "list.txt").units == {"zenith[deg]": "deg", "E[TeV]": "TeV"}
    with h5py.File(tmp_path / "list.h5", "w") as file:
        file["zenith"] = [1.0]
        file["zenith"].attrs["unit"] = "deg"
    assert open_list(tmp_path / "list.h5").units == {"zenith": "deg"}


def test_names_can_be_given_for_text_without_any(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1 2 3\n4 5 6\n")
    with pytest.raises(DataFormatError, match="3 columns, and 0 names"):
        open_list(path)
    (piece,) = open_list(path, names=("a", "b", "c")).pieces(("c",), 10)
    np.testing.assert_array_equal(piece["c"], [3, 6])


@pytest.mark.parametrize(
    "kind", [kind for kind in WRITERS if "comma" not in kind and kind not in ("blank", "pandas")]
)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_binary_file_is_refused(events, tmp_path, kind, part):
    path = tmp_path / "list"
    WRITERS[kind](path, events)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    columns = replace(COLUMNS, table="run") if kind.startswith(("hdf5", "fits")) else COLUMNS
    with pytest.raises(DataFormatError, match="damaged or cut off"):
        read_events(path, columns, observatory=SITE, grid=GRID)


def test_text_that_ends_within_a_row_is_refused_by_its_row(events, tmp_path):
    path = tmp_path / "list.csv"
    events.to_csv(path, index=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:100], ",".join(lines[100].split(",")[:2])]))
    with pytest.raises(DataFormatError, match="row 100") as caught:
        read_events(path, COLUMNS, observatory=SITE, grid=GRID)
    assert caught.value.bad[0].row == 100


@pytest.mark.parametrize("rows", [99, 100, 1000])
def test_a_row_with_too_many_cells_is_refused(events, tmp_path, rows):
    path = tmp_path / "list.csv"
    events.to_csv(path, index=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:100], lines[100] + ",7", *lines[101:]]))
    with pytest.raises(DataFormatError, match="line 101"):
        read_events(path, COLUMNS, observatory=SITE, grid=GRID, rows=rows)


def test_links_out_of_an_hdf5_file_are_refused(events, tmp_path):
    write_hdf5(tmp_path / "other.h5", events)
    with h5py.File(tmp_path / "list.h5", "w") as file:
        for name in events:
            file[name] = h5py.ExternalLink("other.h5", f"/run/{name}")
    with pytest.raises(DataFormatError, match="ExternalLink"):
        read_events(tmp_path / "list.h5", COLUMNS, observatory=SITE, grid=GRID)


def test_hdf5_data_in_another_file_are_refused(tmp_path):
    (tmp_path / "raw").write_bytes(np.arange(10.0).tobytes())
    with h5py.File(tmp_path / "list.h5", "w") as file:
        file.create_dataset("mjd", shape=(10,), dtype="f8", external=[(str(tmp_path / "raw"), 0, 80)])
    with pytest.raises(DataFormatError, match="another file"):
        list(open_list(tmp_path / "list.h5").pieces(("mjd",), 5))


def test_hdf5_that_declares_more_than_it_holds_is_refused(tmp_path):
    with h5py.File(tmp_path / "list.h5", "w") as file:
        file.create_dataset("mjd", shape=(10**12,), dtype="f8", chunks=(1000,))
        file.create_dataset("wide", shape=(10**12,), dtype="f8", chunks=(10**8,))
    with pytest.raises(DataFormatError, match="declares 1000000000000 rows, but 0 bytes"):
        list(open_list(tmp_path / "list.h5").pieces(("mjd",), 5))
    with pytest.raises(DataFormatError, match="chunks of 100000000 rows"):
        list(open_list(tmp_path / "list.h5").pieces(("wide",), 5))


def test_columns_of_different_length_are_refused(tmp_path):
    with h5py.File(tmp_path / "list.h5", "w") as file:
        file["a"], file["b"] = np.arange(3.0), np.arange(4.0)
    with pytest.raises(DataFormatError, match="lengths"):
        list(open_list(tmp_path / "list.h5").pieces(("a", "b"), 5))
    with pytest.raises(DataFormatError, match="shapes"):
        table_list({"a": np.arange(3.0), "b": np.arange(4.0)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"), (b"\n\n", "no rows"), (b"# a b\n", "no rows"), (b"\x00\x01\x02\x03", "not text"),
        (b"\xff\xfe\xfa 1 2\n", "cannot be read"), (b"1" * 70000, "very long lines"), (b"a,b\n", "no rows"),
        (b"a,b\n1,2,3\n", "3 columns, and 2 names"), (b"# a b c\n1 2\n", "2 columns, and 3 names"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(tmp_path, content, message):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match=message):
        open_list(path)


def test_a_missing_file_and_a_missing_table_are_refused(events, tmp_path):
    with pytest.raises(DataFormatError, match="No such file"):
        open_list(tmp_path / "nowhere")
    write_fits(tmp_path / "list.fits", events)
    with pytest.raises(DataFormatError, match="did you mean 'RUN'"):
        open_list(tmp_path / "list.fits", table="RUM")
    write_hdf5(tmp_path / "list.h5", events)
    with pytest.raises(DataFormatError, match="did you mean 'run'"):
        open_list(tmp_path / "list.h5", table="rum")


def test_a_truncated_gzip_is_refused(events, tmp_path):
    path = tmp_path / "list.csv.gz"
    with gzip.open(path, "wt") as stream:
        events.to_csv(stream, index=False)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataFormatError, match="damaged or cut off"):
        read_events(path, COLUMNS, observatory=SITE, grid=GRID)


def test_parquet_columns_that_are_no_numbers_are_refused(tmp_path):
    parquet.write_table(pa.table({"a": [[1, 2], [3]]}), tmp_path / "list.parquet")
    with pytest.raises(DataFormatError, match="column 'a' holds list"):
        list(open_list(tmp_path / "list.parquet").pieces(("a",), 5))


def test_fits_columns_of_arrays_are_refused(tmp_path):
    Table({"a": np.ones((5, 2))}).write(tmp_path / "list.fits", format="fits")
    with pytest.raises(DataFormatError, match="column 'a' holds arrays"):
        list(open_list(tmp_path / "list.fits").pieces(("a",), 5))


def test_without_pyarrow_the_way_to_install_it_is_told(events, tmp_path, monkeypatch):
    events.to_parquet(tmp_path / "list.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        open_list(tmp_path / "list.parquet")
