"""Every reader against every kind of bad file: a valid record, or one DataFormatError that says what to do."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsfit.errors import DataFormatError
from obsfit.ingest import tables
from obsfit.ingest.dipoles import read_dipoles
from obsfit.ingest.projections import read_projection
from obsfit.ingest.spectra import read_spectra
from obsfit.ingest.tables import as_table, read_sheet


@dataclass(frozen=True)
class Good:
    """A valid file, and which of its columns the corruptions should hit."""

    read: Callable[[Path], object]
    meta: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    required: str
    error: str
    with_unit: str

    def index(self, name: str) -> int:
        return [title.split(" [")[0] for title in self.columns].index(name)

    def put(self, name: str, value: str, row: int = 1) -> "Good":
        rows = [list(entry) for entry in self.rows]
        rows[row][self.index(name)] = value
        return replace(self, rows=tuple(map(tuple, rows)))

    def title(self, name: str, title: str) -> "Good":
        columns = list(self.columns)
        columns[self.index(name)] = title
        return replace(self, columns=tuple(columns))

    def text(self) -> str:
        return "\n".join([*self.meta, ",".join(self.columns), *map(",".join, self.rows), ""])


DIPOLES = Good(
    read_dipoles,
    ("# title: my dipoles",),
    (
        "measurement",
        "observatory",
        "method",
        "energy [TeV]",
        "amplitude [1e-4]",
        "amplitude_error [1e-4]",
        "phase [deg]",
        "phase_error [deg]",
        "zenith_max [deg]",
        "latitude [deg]",
    ),
    (
        ("a", "IceCube", "right-ascension projection", "13", "7.9", "0.1", "51", "1", "65", "-90"),
        ("b", "Baksan", "east-west", "25", "6.0", "2.5", "-38", "22", "", "43"),
        ("c", "Milagro", "forward-backward", "6", "20.0", "10.0", "10", "5", "50", "36"),
    ),
    required="energy",
    error="amplitude_error",
    with_unit="energy",
)
SPECTRUM = Good(
    read_spectra,
    ("# kind: pseudo", "# filtered: true", "# dec_min: -90 deg", "# dec_max: -0.5 rad"),
    ("energy [TeV]", "ell", "c_ell", "error_low", "noise"),
    (("10", "1", "3.8e-8", "1e-9", "1e-11"), ("10", "2", "6.6e-8", "", "1e-11"), ("10", "3", "5e-8", "2e-9", "")),
    required="c_ell",
    error="error_low",
    with_unit="energy",
)
PROJECTION = Good(
    read_projection,
    (),
    ("right_ascension [hourangle]", "relative_intensity [%]", "error [%]"),
    (("2", "0.05", "0.01"), ("10", "-0.05", "0.01"), ("18", "0.00", "")),
    required="relative_intensity",
    error="error",
    with_unit="right_ascension",
)
# A short header that would expand to ten to the tenth entries.
LAUGHS = "# %ECSV 1.0\n# ---\n# a0: &a0 [x]\n" + "".join(
    f"# a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(10)
)
ALL = pytest.mark.parametrize("good", [DIPOLES, SPECTRUM, PROJECTION], ids=["dipoles", "spectrum", "projection"])


def refused(good: Good, path: Path, content: str | bytes) -> DataFormatError:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataFormatError) as caught:
        good.read(path)
    assert str(path) in str(caught.value)
    return caught.value


@ALL
def test_the_good_files_are_good(good, tmp_path):
    path = tmp_path / "good.csv"
    path.write_text(good.text())
    good.read(path)


@ALL
def test_a_missing_column_names_the_nearest(good, tmp_path):
    unit = good.columns[good.index(good.required)].partition(" [")[1:]
    error = refused(
        good, tmp_path / "x.csv", good.title(good.required, good.required + "x" + "".join(unit)).text()
    )
    assert f"column '{good.required}' is missing" in str(error)
    assert f"did you mean '{good.required}x'" in str(error)


@ALL
def test_a_unit_of_another_kind(good, tmp_path):
    error = refused(good, tmp_path / "x.csv", good.title(good.with_unit, f"{good.with_unit} [km]").text())
    assert "unit 'km' does not convert to" in str(error)
    assert error.column == good.with_unit


@ALL
def test_an_absent_unit(good, tmp_path):
    error = refused(good, tmp_path / "x.csv", good.title(good.with_unit, good.with_unit).text())
    assert "no unit is declared" in str(error)


@ALL
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "no value"),
        ("nan", "no value"),
        ("inf", "infinite"),
        ("-inf", "infinite"),
        ("1e999", "too large"),
        ("about 5", "is not a number"),
        ("5 TeV", "is not a number"),
        ("1_0", "is not a number"),
        ("٣", "is not a number"),
    ],
)
def test_no_finite_number_in_a_required_field(good, tmp_path, value, complaint):
    error = refused(good, tmp_path / "x.csv", good.put(good.required, value).text())
    assert complaint in str(error)
    assert (error.row, error.column) == (2, good.required)


@ALL
def test_a_negative_error(good, tmp_path):
    error = refused(good, tmp_path / "x.csv", good.put(good.error, "-0.001").text())
    assert (error.row, error.column) == (2, good.error)
    assert "negative" in str(error) or "positive" in str(error)


@ALL
def test_a_row_given_twice(good, tmp_path):
    error = refused(good, tmp_path / "x.csv", replace(good, rows=(*good.rows, good.rows[0])).text())
    assert "already given in row 1" in str(error)
    assert error.row == 4


@ALL
def test_thirty_bad_rows_are_told_at_once(good, tmp_path):
    rows = tuple(good.put(good.required, "x").rows[1] for _ in range(30))
    error = refused(good, tmp_path / "x.csv", replace(good, rows=rows).text())
    text = str(error)
    assert sum("'x' is not a number" in entry.problem for entry in error.bad) == 30
    assert text.count("\n  row") == 20
    assert f"... and {len(error.bad) - 20} more" in text


@ALL
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b" \n \n", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8"),
        (b"ell,c_ell\n1,\x00", "binary"),
        ("energy\n13°".encode("latin-1"), "not UTF-8"),
        (b"# only: a comment\n", "no rows"),
        (b"# %ECSV 1.0\n# ---\n", "datatype"),
        (b"# %ECSV 1.0\n# ---\n# datatype: [\n", "not YAML"),
        (b"# %ECSV 1.0\n# ---\n# datatype: &a [*a]\n", "not YAML"),
        (LAUGHS, "again and again"),
        (b"a;b;c\n1;2;3\n", "commas"),
        (b"a,a\n1,2\n", "there twice"),
        (b"a,\n1,2\n", "no name"),
        (b'a,b\n1,"2\n', "row 1"),
    ],
)
def test_files_that_are_no_tables(good, tmp_path, content, complaint):
    assert complaint in str(refused(good, tmp_path / "x.csv", content))


@ALL
def test_only_a_header(good, tmp_path):
    assert "no rows" in str(refused(good, tmp_path / "x.csv", replace(good, rows=()).text()))


@ALL
def test_a_file_cut_off_in_a_row(good, tmp_path):
    text = good.text().rstrip("\n")
    error = refused(good, tmp_path / "x.csv", text[: text.rindex(",")])
    assert "is the line cut off" in str(error)
    assert error.row == 3


@ALL
def test_a_file_cut_off_between_rows_is_noticed_by_its_declared_number_of_rows(good, tmp_path):
    error = refused(good, tmp_path / "x.csv", "# rows: 4\n" + good.text())
    assert "declares 4 rows, the file has 3" in str(error)


@ALL
def test_paths_without_a_file(good, tmp_path):
    with pytest.raises(DataFormatError, match="folder"):
        good.read(tmp_path)
    with pytest.raises(DataFormatError, match="no such file"):
        good.read(tmp_path / "absent.csv")
    with pytest.raises(DataFormatError):
        good.read(Path("zero\0byte.csv"))


@ALL
def test_too_long_a_file_is_refused_before_it_is_parsed(good, tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    with path.open("wb") as stream:
        stream.truncate(tables.MAX_BYTES + 1)
    with pytest.raises(DataFormatError, match="64 MiB"):
        good.read(path)
    monkeypatch.setattr(tables, "_cells", lambda *_: pytest.fail("the rows were parsed"))
    assert "too many lines" in str(refused(good, path, b"\n" * 1_500_000 + b"x"))
    assert "characters" in str(refused(good, path, b"," * 100_000))


@ALL
def test_too_many_rows(good, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    assert "too many rows" in str(refused(good, tmp_path / "x.csv", good.text()))


@ALL
@pytest.mark.parametrize("subtype", ["'float64[1000000,1000000]'", "json"])
def test_an_enormous_declared_shape(good, tmp_path, subtype):
    content = f"# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: a, datatype: string, subtype: {subtype}}}\na\n1\n"
    assert "datatype" in str(refused(good, tmp_path / "x.ecsv", content))


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("method", "ra-projection", "did you mean 'right-ascension projection'"),
        ("phase", "400", "400 deg is out of range"),
        ("energy", "0", "not a positive energy"),
        ("energy", "-3", "not a positive energy"),
        ("amplitude", "-1", "negative"),
        ("amplitude", "79000", "larger than one"),
        ("amplitude_error", "0", "no positive error"),
        ("phase_error", "", "errors_usable"),
        ("zenith_max", "120", "out of range"),
        ("measurement", "a", "already given in row 1"),
        ("observatory", "", "no value"),
    ],
)
def test_dipoles_that_make_no_sense(tmp_path, column, value, complaint):
    error = refused(DIPOLES, tmp_path / "x.csv", DIPOLES.put(column, value).text())
    assert complaint in str(error)
    assert (error.row, error.column) == (2, column)


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("ell", "1", "multipole 1 was already given in row 1"),
        ("ell", "2.5", "not a whole number"),
        ("ell", "-2", "negative"),
        ("ell", "nan", "not a whole number"),
        ("ell", "1e30", "not a whole number"),
        ("c_ell", "-1e-8", "negative"),
        ("energy", "0", "not a positive energy"),
    ],
)
def test_spectra_that_make_no_sense(tmp_path, column, value, complaint):
    error = refused(SPECTRUM, tmp_path / "x.csv", SPECTRUM.put(column, value).text())
    assert complaint in str(error)
    assert error.row == 2


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("# kind: quasi", "'quasi' is not known"),
        ("# filterd: true", "metadata 'filtered' is missing; did you mean 'filterd'"),
        ("# filtered: perhaps", "neither true nor false"),
        ("# dec_min: -90", "has no unit"),
        ("# dec_min: -90 TeV", "does not convert to rad"),
        ("# dec_max: -95 deg", "out of range"),
        ("# dec_max: south", "is not a number with a unit"),
        ("# dec_min: -10 deg", "expected dec_min < dec_max"),
    ],
)
def test_metadata_that_make_no_sense(tmp_path, line, complaint):
    key = line[2:].partition(":")[0].replace("filterd", "filtered")
    meta = tuple(line if entry.startswith(f"# {key}:") else entry for entry in SPECTRUM.meta)
    assert complaint in str(refused(SPECTRUM, tmp_path / "x.csv", replace(SPECTRUM, meta=meta).text()))


def test_a_slip_of_the_pen_in_an_optional_column_is_not_passed_over(tmp_path):
    error = refused(DIPOLES, tmp_path / "x.csv", DIPOLES.title("zenith_max", "zenith_mx [deg]").text())
    assert "did you mean 'zenith_max'" in str(error)


def test_a_unit_that_would_take_for_ever_is_not_evaluated(tmp_path):
    title = "energy [10**999999999]"
    assert "does not convert" in str(refused(DIPOLES, tmp_path / "x.csv", DIPOLES.title("energy", title).text()))


fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(good: Good, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read in (good.read, lambda name: as_table(read_sheet(name))):
        try:
            read(path)
        except DataFormatError as error:
            assert str(path) in str(error)  # noqa: PT017


@ALL
@fuzz
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_read_or_refused(good, tmp_path, content):
    read_or_refuse(good, tmp_path / "x.csv", content)


@ALL
@fuzz
@given(data=st.data())
def test_damaged_files_are_read_or_refused(good, tmp_path, data):
    """Valid files, CSV and ECSV, with a stretch of bytes replaced: far more of the code is reached."""
    whole = data.draw(st.sampled_from([good.text().encode(), as_ecsv(good)]))
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(start + 8, len(whole))))
    junk = data.draw(
        st.one_of(
            st.binary(max_size=6),
            st.text("#,:[]{}'\"&*!%|->\n\t 0123456789.eE+naif", max_size=8).map(str.encode),
            st.sampled_from(
                [b"!!python/object:os.system", b"1e309", b"1e-330", b"\r", b"\xef\xbb\xbf", b"2020-99-99"]
            ),
        )
    )
    read_or_refuse(good, tmp_path / "x.csv", whole[:start] + junk + whole[stop:])


def as_ecsv(good: Good) -> bytes:
    split = [title.rstrip("]").partition(" [") for title in good.columns]
    header = ["# %ECSV 1.0", "# ---", "# datatype:"]
    for i, (name, _, unit) in enumerate(split):
        number = all(
            row[i] == "" or row[i].strip("-").replace(".", "").replace("e-", "").isdigit() for row in good.rows
        )
        header.append(f"# - {{name: {name}, unit: '{unit}', datatype: {'float64' if number else 'string'}}}")
    meta = ["# meta:", *("#   " + line[2:] for line in good.meta or ("# title: none",))]
    names = " ".join(name for name, _, _ in split)
    rows = [" ".join(f'"{cell}"' for cell in row) for row in good.rows]
    return "\n".join([*header, *meta, "# schema: astropy-2.0", names, *rows, ""]).encode()


@ALL
def test_ecsv_and_csv_say_the_same(good, tmp_path):
    one, other = tmp_path / "same.csv", tmp_path / "same.ecsv"
    one.write_text(good.text())
    other.write_bytes(as_ecsv(good))
    first, second = as_table(read_sheet(one)), as_table(read_sheet(other))
    assert first.colnames == second.colnames
    for name in first.colnames:
        assert first[name].unit == second[name].unit or not second[name].unit
        np.testing.assert_array_equal(np.asarray(first[name]), np.asarray(second[name]))


finite = {"allow_nan": False, "allow_infinity": False}


@settings(fuzz, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.floats(1e-2, 1e8, **finite),
            st.floats(0, 0.9, **finite),
            st.floats(1e-12, 0.5, **finite),
            st.floats(0, 359.999, **finite),
            st.floats(1e-3, 180, **finite),
            st.sampled_from(["right-ascension projection", "east-west", "forward-backward", "deprojected"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_dipoles_survive_a_round_trip_through_the_writer_of_astropy(tmp_path, rows):
    """Written in other units by code that is not ours, read back as the same record."""
    energy, amplitude, error, phase, phase_error, method = map(list, zip(*rows, strict=True))
    table = QTable(
        {
            "measurement": [f"m{i}" for i in range(len(rows))],
            "observatory": ["HAWC"] * len(rows),
            "method": method,
            "energy": (energy * u.TeV).to(u.GeV),
            "amplitude": (amplitude * u.dimensionless_unscaled).to(u.percent),
            "amplitude_error": (error * u.dimensionless_unscaled).to(u.percent),
            "phase": (phase * u.deg).to(u.hourangle),
            "phase_error": (phase_error * u.deg).to(u.arcmin),
        },
        meta={"title": "round trip", "overlaps": ["li-2024"]},
    )
    path = tmp_path / "trip.ecsv"
    table.write(path, format="ascii.ecsv", overwrite=True)
    record = read_dipoles(path)
    # A few conversions of units, each good to one rounding.
    np.testing.assert_allclose(record.energy_tev, energy, rtol=1e-14)
    np.testing.assert_allclose(record.amplitude, amplitude, rtol=1e-14)
    np.testing.assert_allclose(record.amplitude_error, error, rtol=1e-14)
    np.testing.assert_allclose(record.phase_rad, np.radians(phase), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(record.phase_error_rad, np.radians(phase_error), rtol=1e-14)
    assert record.method == tuple(method)
    assert record.provenance.overlaps == ("li-2024",)


@fuzz
@given(
    powers=st.dictionaries(st.integers(0, 200), st.floats(0, 1e-3, **finite), min_size=1, max_size=8),
    energy=st.floats(0.1, 1e6, **finite),
    filtered=st.booleans(),
)
def test_spectra_survive_a_round_trip(tmp_path, powers, energy, filtered):
    path = tmp_path / "trip.csv"
    lines = ["# kind: full-sky", f"# filtered: {filtered}", f"# energy: {energy!r} TeV"]
    lines += ["# dec_min: -90 deg", "# dec_max: 90 deg", "ell,c_ell [1e-3]"]
    path.write_text("\n".join(lines + [f"{ell},{power!r}" for ell, power in powers.items()]))
    (entry,) = read_spectra(path)
    spectrum = entry.spectrum
    assert spectrum.ell.tolist() == sorted(powers)
    np.testing.assert_allclose(spectrum.c_ell, [powers[ell] * 1e-3 for ell in sorted(powers)], rtol=1e-15)
    assert (spectrum.energy_tev, spectrum.filtered) == (energy, filtered)
    assert spectrum.sky_fraction == pytest.approx(1.0)


@fuzz
@given(n=st.integers(1, 40), offset=st.sampled_from(["zero", "one"]), data=st.data())
def test_projections_survive_a_round_trip(tmp_path, n, offset, data):
    values = data.draw(st.lists(st.floats(-0.1, 0.1, **finite), min_size=n, max_size=n))
    ra = (np.arange(n) + 0.5) * 360 / n
    shift = 1.0 if offset == "one" else 0.0
    path = tmp_path / "trip.csv"
    rows = [f"{float(a)!r},{value + shift!r}" for a, value in zip(ra, values, strict=True)]
    path.write_text("\n".join([f"# relative_to: {offset}", "right_ascension [deg],relative_intensity", *rows]))
    record = read_projection(path)
    np.testing.assert_allclose(record.right_ascension_rad, np.radians(ra), rtol=1e-14)
    np.testing.assert_allclose(record.relative_intensity, values, atol=3e-16)  # one is subtracted from 1 + delta I
    assert np.isnan(record.error).all()


def test_rows_without_phase_limits_and_unusable_errors_are_kept(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "observatory,method,energy [PeV],amplitude,amplitude_error,phase [hourangle],phase_error [hourangle],"
        "limit,limit_level [%],errors_usable,latitude [deg],zenith_max [deg]\n"
        "IceCube,deprojected,5.3,,,,,3.34e-3,99,true,-90,65\n"
        "IceCube,deprojected,0.013,7.9e-4,,3.4,,,,no,-90,65\n"
        "IceCube,deprojected,0.024,6.9e-4,2e-5,,,,,yes,19,45\n"
        "IceCube,deprojected,0.038,4.7e-4,2e-5,-6,0.2,,,yes,80,30\n"
    )
    record = read_dipoles(path)
    assert record.measurement == ("mine-1", "mine-2", "mine-3", "mine-4")
    assert record.is_limit.tolist() == [True, False, False, False]
    assert record.limit_level[0] == pytest.approx(0.99)
    assert record.errors_usable.tolist() == [True, False, True, True]
    assert math.isnan(record.phase_rad[2])
    assert record.phase_rad[3] == pytest.approx(1.5 * np.pi)
    np.testing.assert_allclose(np.degrees(record.dec_min_rad), [-90, -90, -26, 50], atol=1e-12)
    np.testing.assert_allclose(np.degrees(record.dec_max_rad), [-25, -25, 64, 90], atol=1e-12)
