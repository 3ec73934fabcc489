"""The report page: every figure with its status, its numbers beside the paper's, and what differs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from astropy.table import Table
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.provenance import source_checksum, versions
from obsfit.records import Provenance

STATUSES = ("reproduced", "mock equivalent", "needs file", "sketch", "own result", "failed")
STATUS_MEANING: Mapping[str, str] = MappingProxyType(
    {
        "reproduced": "made from the published numbers, or by the computation that the paper describes",
        "mock equivalent": "made from data or fields simulated here, because those of the paper are not public",
        "needs file": "some or all of its data are not public; a file of yours fills the gap",
        "sketch": "an illustration without measured numbers",
        "own result": "a result of this project, in no paper",
        "failed": "its program stopped with an error",
    }
)
OWN = "Own results"
ENTRY_FILE = "entry.json"
_SIGNS = (
    (r"\+-", "±"), ("<=", "≤"), (">=", "≥"), (r"\bOmega T\b", "ΩT"), (r"\bnu T\b", "νT"), (r"\bOmega\b", "Ω"),
    (r"\bnu(?=_|\b)", "ν"), (r"\blambda(?=_|\b)", "λ"), (r"\bpi\b", "π"),
)  # fmt: skip
SMALL = (320, 240)
"""Largest width and height of a picture in the overview, in pixels: twice what is shown, for fine screens."""
FORMAT = "obsfit-figure-entry"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Paper:
    """A paper whose figures the page accounts for.

    Attributes
    ----------
    reference : str
        Authors and year.
    arxiv : str
        Its number there; empty if it has none.
    figures : int
        How many figures it has.
    """

    reference: str
    arxiv: str
    figures: int


PAPERS: Mapping[str, Paper] = MappingProxyType(
    {
        "A14": Paper("Ahlers (2014)", "1310.5712", 1),
        "ASTRA": Paper("Ahlers and Mertsch (2015), proceedings", "", 2),
        "AM15": Paper("Ahlers and Mertsch (2015)", "1506.05488", 2),
        "AM17": Paper("Ahlers and Mertsch (2017)", "1612.01873", 16),
        "GS": Paper("Giacinti and Sigl (2012)", "1111.2536", 3),
    }
)
"""Papers in the order of the page; entries of any other are own results."""


@dataclass(frozen=True)
class Comparison:
    """A number stated in a paper beside ours.

    Attributes
    ----------
    quantity : str
        What is compared.
    paper, ours : float or None
        The two numbers in `unit`; None where one is missing.
    unit : str
        Unit of both, empty for a plain number.
    note : str
        Why they differ, or how the number was read.
    tolerance : float or None
        Largest absolute difference that counts as agreement, in `unit`; None where no agreement is claimed.
    source : str
        Where the paper states its number.
    """

    quantity: str
    paper: float | None
    ours: float | None
    unit: str = ""
    note: str = ""
    tolerance: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("paper", "ours", "tolerance"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} of {self.quantity!r} is {value}; expected a finite number or None")

    @property
    def agrees(self) -> bool | None:
        """Whether both numbers lie within the tolerance; None where one of the three is missing.

        Examples
        --------
        >>> Comparison("phase", 266.0, 266.4, "deg", tolerance=1.0).agrees
        True
        """
        if self.paper is None or self.ours is None or self.tolerance is None:
            return None
        # The last bits of a decimal fraction are not a disagreement.
        return abs(self.paper - self.ours) <= self.tolerance + 1e-12 * abs(self.paper)


@dataclass(frozen=True)
class DataSource:
    """A data set that went into a figure.

    Attributes
    ----------
    name : str
        Key of the data set, or the stem of a user's file.
    sha256 : str
        Checksum of its file; empty for data made in memory.
    path : str
        File: relative to the data package for shipped tables, else absolute.
    """

    name: str
    sha256: str = ""
    path: str = ""

    @classmethod
    def of(cls, provenance: Provenance) -> DataSource:
        """Return the source that a record names in its provenance."""
        return cls(provenance.name, provenance.sha256, provenance.path)


@dataclass(frozen=True)
class FigureEntry:
    """One figure of the report.

    Attributes
    ----------
    key : str
        Unique name; also the folder of its files inside the results.
    paper, figure, title : str
        Paper key, number of the figure in the paper, and a short title.
    status : str
        One of `STATUSES`.
    caption : str
        What is drawn, how, and how errors are made.
    alt : str
        What a reader who cannot see the figure should know of it.
    image, table : str
        PNG (an SVG of the same stem lies beside it) and ECSV file inside the folder of the figure; may be empty.
    comparisons : tuple of Comparison
        The paper's numbers beside ours.
    deviations : tuple of str
        What differs from the paper, and why.
    data : tuple of DataSource
        Data sets that went in.
    seed : int or None
        Seed of the run; None where nothing is drawn.
    runtime_s : float
        Seconds the figure took.
    size_note : str
        Visible label where statistics are smaller than in the paper.
    error : str
        Text of the error of a figure that failed.
    """

    key: str
    paper: str
    figure: str
    title: str
    status: str
    caption: str
    alt: str
    image: str = ""
    table: str = ""
    comparisons: tuple[Comparison, ...] = ()
    deviations: tuple[str, ...] = ()
    data: tuple[DataSource, ...] = ()
    seed: int | None = None
    runtime_s: float = 0.0
    size_note: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"{self.key}: status {self.status!r}, expected one of {', '.join(STATUSES)}")
        if self.image and not self.alt.strip():
            raise ValueError(f"{self.key}: an image without alt text; say in words what the figure shows")

    @property
    def svg(self) -> str:
        """SVG file beside the PNG; empty where there is no image."""
        return str(Path(self.image).with_suffix(".svg")) if self.image else ""

    @property
    def compared(self) -> int:
        """Number of comparisons with both numbers and a tolerance."""
        return sum(comparison.agrees is not None for comparison in self.comparisons)

    @property
    def disagreements(self) -> int:
        """Number of comparisons outside their tolerance."""
        return sum(comparison.agrees is False for comparison in self.comparisons)


def read_expected(path: str | Path) -> Table:
    """Return the numbers that a paper states, from its ``expected.ecsv``.

    Columns: figure, quantity, paper_value, unit, tolerance (absolute, in the same unit), source.

    Raises
    ------
    DataFormatError
        If the file cannot be read or lacks a column.
    """
    try:
        table = Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError) as error:
        raise DataFormatError(f"cannot be read as ECSV: {error}", path=path) from error
    columns = ("figure", "quantity", "paper_value", "unit", "tolerance", "source")
    missing = [name for name in columns if name not in table.colnames]
    if missing:
        raise DataFormatError(
            f"no column {missing[0]!r}", path=path, column=missing[0], expected=f"columns {', '.join(columns)}"
        )
    return table


def compare(
    expected: Table, figure: str, ours: Mapping[str, float], *, notes: Mapping[str, str] | None = None
) -> tuple[Comparison, ...]:
    """Return all rows of `expected` that belong to `figure`, each with our number beside the paper's.

    A row for which `ours` has nothing stays on the page with an empty cell: what is not checked is visible.

    Parameters
    ----------
    expected : Table
        As `read_expected` returns it.
    figure : str
        Value of the column figure.
    ours : mapping
        Quantity to our number, in the unit of the row.
    notes : mapping, optional
        Quantity to remark.

    Raises
    ------
    ConfigurationError
        If `ours` or `notes` names a quantity that the table does not have.
    """
    rows = [row for row in expected if str(row["figure"]) == figure]
    known = [str(row["quantity"]) for row in rows]
    notes = notes or {}
    for quantity in (*ours, *notes):
        if quantity not in known:
            raise ConfigurationError(
                f"{quantity!r} is not among the expected numbers of {figure}",
                value=quantity,
                expected=f"one of {', '.join(known) or '(none)'}",
                remedy="Add a row to expected.ecsv.",
            )
    return tuple(
        Comparison(
            quantity,
            float(row["paper_value"]),
            None if quantity not in ours else float(ours[quantity]),
            "" if str(row["unit"]) in ("", "--") else str(row["unit"]),
            notes.get(quantity, ""),
            float(row["tolerance"]),
            str(row["source"]),
        )
        for quantity, row in zip(known, rows, strict=True)
    )


def store_entry(entry: FigureEntry, directory: str | Path, fingerprint: Mapping[str, Any]) -> Path:
    """Write `entry` as JSON into the folder of its figure and return the path.

    Parameters
    ----------
    entry : FigureEntry
        What the page shows.
    directory : str or Path
        ``results/<key>``; made if absent.
    fingerprint : mapping
        Everything whose change makes the figure stale: configuration, checksums of program and data.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ENTRY_FILE
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(
        {
            "obsfit_format": FORMAT,
            "format_version": FORMAT_VERSION,
            "fingerprint": dict(fingerprint),
            "entry": asdict(entry),
        },
        indent=1,
        allow_nan=False,
    )
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def load_entry(directory: str | Path) -> tuple[FigureEntry, dict[str, Any]]:
    """Return the entry stored in the folder of a figure, and its fingerprint.

    Raises
    ------
    FileNotFoundError
        If none is stored.
    DataFormatError
        If the file is damaged or of another format version.
    """
    path = Path(directory) / ENTRY_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["obsfit_format"], document["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise DataFormatError(
                f"format {document['obsfit_format']} {document['format_version']}",
                path=path,
                expected=f"{FORMAT} {FORMAT_VERSION}",
                remedy="Run the figure again.",
            )
        entry = TypeAdapter(FigureEntry).validate_python(document["entry"])
        fingerprint = dict(document["fingerprint"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise DataFormatError(f"damaged entry: {error}", path=path, remedy="Run the figure again.") from error
    return entry, fingerprint


@dataclass(frozen=True)
class Group:
    """What the page shows of one paper, or of all own results.

    Attributes
    ----------
    name, reference, arxiv : str
        Key of the paper and what is known of it; empty for own results.
    entries : tuple of FigureEntry
        Its figures that are shown.
    elsewhere : tuple of (int, FigureEntry)
        Numbers of its figures that an entry of another paper stands for.
    """

    name: str
    reference: str
    arxiv: str
    entries: tuple[FigureEntry, ...]
    elsewhere: tuple[tuple[int, FigureEntry], ...]

    @property
    def anchor(self) -> str:
        """Identifier of its section."""
        return "of-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower())


def figures_named(text: str) -> tuple[tuple[str, int], ...]:
    """Return all figures of papers that a text names.

    Examples
    --------
    >>> figures_named("AM15, Fig. 1 (the same as ASTRA, Fig. 2, and AM17, Fig. 14)")
    (('AM15', 1), ('ASTRA', 2), ('AM17', 14))
    """
    found = re.findall(r"(\w+), Fig(?:ure|\.) ?(\d+)", text)
    return tuple((paper, int(number)) for paper, number in found)


def _groups(entries: Sequence[FigureEntry]) -> list[Group]:
    groups = []
    for name, paper in PAPERS.items():
        own = tuple(entry for entry in entries if entry.paper == name)
        elsewhere = tuple(
            (number, entry)
            for entry in entries
            for other, number in figures_named(f"{entry.paper}, {entry.figure}")
            if other == name != entry.paper
        )
        groups.append(Group(name, paper.reference, paper.arxiv, own, elsewhere))
    groups.append(Group(OWN, "", "", tuple(entry for entry in entries if entry.paper not in PAPERS), ()))
    return [group for group in groups if group.entries or group.elsewhere]


def _account(
    entries: Sequence[FigureEntry], missing: Mapping[str, str]
) -> list[tuple[str, int, list[FigureEntry], list[str]]]:
    """Return paper, number, entries that stand for it and keys of those not made yet, for each figure of a paper."""
    made = [(entry, figures_named(f"{entry.paper}, {entry.figure}")) for entry in entries]
    planned = [(key, figures_named(text)) for key, text in missing.items()]
    return [
        (
            name,
            number,
            [entry for entry, figures in made if (name, number) in figures],
            [key for key, figures in planned if (name, number) in figures],
        )
        for name, paper in PAPERS.items()
        for number in range(1, paper.figures + 1)
    ]


def image_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a PNG file in pixels; None if there is none."""
    try:
        with path.open("rb") as stream:
            head = stream.read(24)
    except OSError:
        return None
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def small_picture(path: Path) -> Path | None:
    """Return a light copy of a PNG file for the overview, beside it; None if there is no picture to copy.

    It is made again when the picture is newer.
    """
    small = path.with_name(f"{path.stem}-small.png")
    try:
        if not small.is_file() or small.stat().st_mtime_ns < path.stat().st_mtime_ns:
            with Image.open(path) as picture:
                copy = picture.convert("RGB")
            copy.thumbnail(SMALL, Image.Resampling.LANCZOS)
            partial = small.with_name(small.name + ".partial")
            copy.quantize(128).save(partial, format="PNG", optimize=True)
            partial.replace(small)
    except (OSError, SyntaxError, ValueError):
        # What Pillow says of a file that is absent or damaged. The page must be written all the same.
        return None
    return small


def first_sentence(text: str) -> str:
    """Return the first sentence of a text.

    Examples
    --------
    >>> first_sentence("Power as in Eq. (21) and Fig. 1. The points lie above.")
    'Power as in Eq. (21) and Fig. 1.'
    """
    found = re.match(r".+?(?<!\b[Ff]ig)(?<!\b[Ff]igs)(?<!\b[Ee]q)(?<!\b[Ee]qs)\.(?=\s|$)", text, re.DOTALL)
    return found.group() if found else text


def write_report(
    entries: Sequence[FigureEntry],
    directory: str | Path,
    *,
    title: str,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write the static page ``index.html`` into `directory` and return its path.

    Nothing is fetched from elsewhere, and all links but those to the papers are relative; all text is escaped.
    Each picture gets a light copy for the overview (`small_picture`).

    Parameters
    ----------
    entries : sequence of FigureEntry
        Figures in the order of the page; the files of each lie in ``directory/<key>``.
    directory : str or Path
        The results folder.
    title : str
        Heading of the page.
    missing : mapping of str to str
        Figures that have not been made yet: key to paper and figure, such as "AM17, Fig. 6".
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("obsfit.plot", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["seconds"] = format_seconds
    environment.filters["first_sentence"] = first_sentence
    environment.filters["typeset"] = typeset
    pictures = {entry.key: directory / entry.key / entry.image for entry in entries if entry.image}
    small = {key: small_picture(path) or path for key, path in pictures.items()}
    rows = [(entry, c) for entry in entries for c in entry.comparisons]
    text = environment.get_template("report.html.jinja").render(
        title=title,
        groups=_groups(entries),
        account=_account(entries, missing),
        sizes={key: image_size(path) for key, path in pictures.items()},
        small={key: (path.name, image_size(path)) for key, path in small.items()},
        products={entry.key: _products(directory / entry.key, entry) for entry in entries},
        counts={status: sum(entry.status == status for entry in entries) for status in STATUSES},
        meaning=STATUS_MEANING,
        total=len(entries),
        n_compared=sum(entry.compared for entry in entries),
        n_open=sum(c.paper is not None and c.agrees is None for _, c in rows),
        outside=[(entry, c) for entry, c in rows if c.agrees is False],
        runtime=sum(entry.runtime_s for entry in entries),
        versions={name: number for name, number in versions().items() if number},
        missing=list(missing),
        own=OWN,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        source=source_checksum(),
    )
    path = directory / "index.html"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _products(folder: Path, entry: FigureEntry) -> list[str]:
    """Return names of the other tables and chains in the folder of a figure."""
    if entry.error:
        return []
    return sorted(
        path.name for path in folder.glob("*") if path.suffix in (".ecsv", ".h5") and path.name != entry.table
    )


def format_number(value: float | None) -> str:
    """Return a number for the page with four digits, powers of ten as such.

    Examples
    --------
    >>> format_number(-0.0002591), format_number(266.4), format_number(35.0), format_number(None)
    ('−2.591 × 10⁻⁴', '266.4', '35', '–')
    """
    if value is None:
        return "–"
    text = f"{value:.4g}"
    if value != 0 and not 1e-2 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.3e}".split("e")
        text = _power_of_ten(mantissa.rstrip("0").rstrip("."), exponent)
    return text.replace("-", "−")


def _power_of_ten(mantissa: str, exponent: str) -> str:
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa} × {power}"


def typeset(text: str) -> str:
    """Return text of the page with the signs of the field in place of what is typed for them.

    Examples
    --------
    >>> typeset("nu_r at Omega T = 10, l <= 3: 1.8e-10 +- 2e-11, r_L = 0.1 lambda_c")
    'ν_r at ΩT = 10, l ≤ 3: 1.8 × 10⁻¹⁰ ± 2 × 10⁻¹¹, r_L = 0.1 λ_c'
    """
    for typed, sign in _SIGNS:
        text = re.sub(typed, sign, text)
    # A number, not a piece of a file's name.
    number = r"(?<![\w.-])(-?\d+(?:\.\d+)?)e([+-]?\d+)(?![\w-]|\.\w)"
    return re.sub(number, lambda found: _power_of_ten(found[1].replace("-", "−"), found[2]), text)


def format_seconds(value: float) -> str:
    """Return a run time for the page.

    Examples
    --------
    >>> format_seconds(0.42), format_seconds(75.0), format_seconds(7320.0)
    ('0.4 s', '1 min 15 s', '2 h 2 min')
    """
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"
