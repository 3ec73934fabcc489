"""The report page as a reader's program sees it: parsed HTML, not searched text."""

import importlib.resources
import json
import os
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from astropy.table import Table
from PIL import Image

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.plot import runner
from obsfit.plot.products import FORMAT as TABLE_FORMAT
from obsfit.plot.products import write_table
from obsfit.plot.report import (
    PAPERS,
    STATUSES,
    Comparison,
    DataSource,
    FigureEntry,
    compare,
    figures_named,
    format_number,
    image_size,
    load_entry,
    read_expected,
    small_picture,
    store_entry,
    typeset,
    write_report,
)
from obsfit.plot.style import COLOURS, LINE_STYLES, MARKERS, new_figure, save, series_style, styled

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """Elements with attributes, and text; refuses tags that are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.stack == [], f"not closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"attribute twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not (self.stack and self.stack[-1] == "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def entry(key="am17-figure6", **changes):
    values = {
        "key": key,
        "paper": "AM17",
        "figure": "Figure 6",
        "title": "Dipoles against energy",
        "status": "reproduced",
        "caption": "Amplitude and phase.",
        "alt": "Two panels: the phase jumps at 200 TeV.",
        "image": "figure.png",
        "table": "figure.ecsv",
        "comparisons": (
            Comparison("phase", 266.0, 266.4, "deg", tolerance=1.0, source="Section 3.3"),
            Comparison("noise", 1.8e-10, 1.912e-10, tolerance=5e-12, note="other event number"),
            Comparison("not made", 3.0, None),
        ),
        "deviations": ("EAS-TOP is shown twice.",),
        "data": (DataSource("ahlers-mertsch-2017", "ab" * 32, "ahlers-mertsch-2017.ecsv"),),
        "seed": 7,
        "runtime_s": 1.25,
    }
    return FigureEntry(**(values | changes))


def is_paper(link):
    """Links to the papers are the only ones that leave the results."""
    return link in {f"https://arxiv.org/abs/{paper.arxiv}" for paper in PAPERS.values()}


def page(tmp_path, entries, **settings):
    return Page(write_report(entries, tmp_path, title="Figures", **settings).read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path):
    made = page(tmp_path, [entry(), entry("second", status="sketch")])
    assert made.all("html") == [{"lang": "en"}]
    assert made.all("script") == []
    assert made.all("link") == []
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in made.all("meta")
    for attributes in made.all("a"):
        if not is_paper(attributes["href"]):
            assert not re.match(r"/|\w+:", attributes["href"])
    for attributes in made.all("img"):
        assert not re.match(r"/|\w+:", attributes["src"])
    ids = [attributes["id"] for _, attributes in made.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in made.all("a"):
        if attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids


def test_every_image_has_its_alt_text_and_leads_to_the_files(tmp_path):
    made = page(tmp_path, [entry()])
    assert [(image["src"], image["alt"]) for image in made.all("img")] == [
        ("am17-figure6/figure.png", "Small view: Two panels: the phase jumps at 200 TeV."),
        ("am17-figure6/figure.png", "Two panels: the phase jumps at 200 TeV."),
    ]
    links = {attributes["href"] for attributes in made.all("a")}
    assert links >= {"am17-figure6/figure.png", "am17-figure6/figure.svg", "am17-figure6/figure.ecsv"}


def test_text_is_escaped_everywhere(tmp_path):
    evil = '<script>alert("x")</script>&amp;'
    marked = entry(
        title=evil,
        caption=evil,
        alt=evil,
        paper=evil,
        figure=evil,
        size_note=evil,
        deviations=(evil,),
        comparisons=(Comparison(evil, 1.0, 2.0, evil, evil, 1.0, evil),),
        data=(DataSource(evil, evil),),
    )
    made = page(
        tmp_path, [marked, entry("bad", status="failed", image="", table="", error=evil)], missing={evil: evil}
    )
    assert made.all("script") == []
    # caption, deviation, ... arrive as they were written
    assert made.text.count('alert("x")</script>&amp;') >= 10
    assert [image["alt"] for image in made.all("img")] == [f"Small view: {evil}", evil]


def test_statuses_and_agreements_are_counted(tmp_path):
    made = page(tmp_path, [entry("a"), entry("b"), entry("c", status="needs file", comparisons=())])
    for words in ("2 reproduced", "0 mock equivalent", "1 needs file", "0 sketch", "0 own result"):
        assert words in made.text
    assert "failed" not in made.text
    assert "Of 4 numbers compared with the papers, 2 agree" in made.text
    assert made.text.count("1 outside tolerance") == 2


def test_a_failed_figure_is_shown_with_its_error_and_the_others_stay(tmp_path):
    failed = entry(
        "bad", status="failed", image="", table="", caption="", alt="", error="ValueError: no such <row>"
    )
    made = page(tmp_path, [entry(), failed])
    assert "1 failed" in made.text
    assert "ValueError: no such <row>" in made.text
    # In the overview and in its section.
    assert len(made.all("img")) == 2
    assert "no picture" in made.text


def test_comparison_table_has_every_row(tmp_path):
    made = page(tmp_path, [entry()])
    for words in ("phase [deg]", "266", "266.4", "Section 3.3", "not compared", "other event number", "seed 7"):
        assert words in made.text
    assert "ab" * 32 in made.text


def test_missing_figures_are_named(tmp_path):
    assert "Not made yet: gs-figure1." in page(tmp_path, [entry()], missing={"gs-figure1": "GS, Fig. 1"}).text


def test_an_empty_page_is_a_page(tmp_path):
    assert "0 figures" in page(tmp_path, []).text


def gallery():
    """Entries of several papers, out of order, one of which stands for three figures."""
    shared = "Fig. 1 (the same as ASTRA, Fig. 2, and AM17, Fig. 14)"
    return [
        entry("gs-figure2", paper="GS", figure="Fig. 2", title="Spheres", status="mock equivalent"),
        entry("mine", paper="Own fits", figure="", title="A fit", status="own result"),
        entry("am15-figure1", paper="AM15", figure=shared, title="Power against time", status="mock equivalent"),
        entry("am17-figure15-data", figure="Fig. 15, data", title="Spectra", status="needs file"),
        entry("a14-figure1", paper="A14", figure="Fig. 1", title="Cascade", status="failed", image="", error="no"),
    ]


def test_the_overview_goes_by_paper_and_leads_to_every_figure(tmp_path):
    made = page(tmp_path, gallery())
    headings = [attributes["id"] for attributes in made.all("h2") if "id" in attributes]
    assert headings == ["overview-title", "of-a14", "of-am15", "of-am17", "of-gs", "of-own-results"]
    articles = [attributes["id"] for attributes in made.all("article")]
    assert articles == ["a14-figure1", "am15-figure1", "am17-figure15-data", "gs-figure2", "mine"]
    links = [attributes["href"] for attributes in made.all("a")]
    for key in articles:
        assert links.count(f"#{key}") >= 1
    overview = made.text[: made.text.index("what has become of each")]
    for words in (
        "Fig. 2: Spheres mock equivalent",
        "A fit own result",
        "Cascade failed",
        "Own results",
        "no picture",
    ):
        assert words in overview
    assert "numbers that agree: 1 of 2" in overview
    assert "arXiv:1612.01873" in overview


def test_a_figure_that_stands_for_several_is_named_under_each(tmp_path):
    made = page(tmp_path, gallery())
    overview = made.text[: made.text.index("what has become of each")]
    for number in (2, 14):
        assert f"Fig. {number} is AM15, Fig. 1: Power against time mock equivalent" in overview
    # ASTRA has no entry of its own here, and is a heading all the same.
    assert "ASTRA Ahlers and Mertsch (2015), proceedings" in overview
    assert "of-astra" not in {attributes.get("id") for _, attributes in made.elements}


def test_every_figure_of_the_papers_is_accounted_for(tmp_path):
    made = page(tmp_path, gallery(), missing={"am17-figure7": "AM17, Fig. 7", "am17-figure7-mock": "AM17, Fig. 7"})
    cells = made.text.partition("what has become of each")[2].partition("AM17, Fig. 16")[0]
    for paper, described in PAPERS.items():
        for number in range(1, described.figures + 1):
            assert made.text.count(f" {paper}, Fig. {number} ") >= 1, (paper, number)
    assert made.text.count("absent: no program here draws it") == 24 - 6 - 1
    for words in (
        "A14, Fig. 1 failed Cascade", "ASTRA, Fig. 1 absent", "ASTRA, Fig. 2 mock equivalent Power against time",
        "AM17, Fig. 7 not made yet: obsfit reproduce --only am17-figure7 not made yet",
        "AM17, Fig. 15 needs file Spectra",
    ):  # fmt: skip
        assert words in cells
    assert "The 24 figures of the papers, and what has become of each (6 on this page)" in made.text


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("AM17, Fig. 6", (("AM17", 6),)),
        ("AM17, Fig. 15, data", (("AM17", 15),)),
        ("AM15, Fig. 2 (the same as AM17, Fig. 15)", (("AM15", 2), ("AM17", 15))),
        ("AM17, Figure 12", (("AM17", 12),)),
        ("Own fits, ", ()),
        ("Turbulence, Convergence", ()),
    ],
)
def test_figures_are_read_from_their_names(text, figures):
    assert figures_named(text) == figures


def test_the_analyses_of_the_checkout_draw_every_figure_of_the_papers():
    """All 24, and none that a paper does not have."""
    analyses = runner.discover(runner.find_analyses())
    named = {figure for analysis in analyses for figure in figures_named(f"{analysis.paper}, {analysis.figure}")}
    assert named == {(name, number) for name, paper in PAPERS.items() for number in range(1, paper.figures + 1)}
    assert len(named) == 24


def test_no_link_is_broken_and_pictures_have_their_size(tmp_path):
    """Every link leads to a file that exists or to a place on the page."""
    made_of = gallery()
    for one in made_of:
        if one.image:
            with styled():
                figure = new_figure(4.0, 3.0)
                figure.subplots()
                save(figure, tmp_path / one.key / "figure")
        if one.table:
            (tmp_path / one.key).mkdir(exist_ok=True)
            for name in (one.table, "fits.ecsv", "chain.h5", "notes.txt"):
                (tmp_path / one.key / name).touch()
    made = page(tmp_path, made_of)
    ids = {attributes["id"] for _, attributes in made.elements if "id" in attributes}
    links = [attributes["href"] for attributes in made.all("a")] + [image["src"] for image in made.all("img")]
    assert len(links) > 30
    assert "mine/fits.ecsv" in links
    assert "mine/chain.h5" in links
    assert "mine/notes.txt" not in links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in ids, link
        elif not is_paper(link):
            assert (tmp_path / link).is_file(), link
    # 4 by 3 inches at 150 dots per inch, and the light copy of the overview
    sizes = {(image["src"].rpartition("/")[2], image["width"], image["height"]) for image in made.all("img")}
    assert sizes == {("figure.png", "600", "450"), ("figure-small.png", "320", "240")}


def test_labels_refer_to_elements_that_exist(tmp_path):
    made = page(tmp_path, gallery())
    ids = {attributes["id"] for _, attributes in made.elements if "id" in attributes}
    labels = [attributes["aria-labelledby"] for _, attributes in made.elements if "aria-labelledby" in attributes]
    assert len(labels) == 11
    assert set(labels) <= ids


def test_the_overview_shows_light_copies_that_follow_the_picture(tmp_path):
    """Beside the picture, smaller in pixels and in bytes, of its proportions and colours; renewed with it."""
    rng = np.random.default_rng(1)
    picture = tmp_path / "figure.png"
    Image.fromarray(rng.integers(0, 255, (300, 1200, 3), dtype=np.uint8)).save(picture)
    small = small_picture(picture)
    assert small == tmp_path / "figure-small.png"
    assert image_size(small) == (320, 80)
    assert small.stat().st_size < picture.stat().st_size / 10
    Image.new("RGB", (400, 800), (200, 30, 40)).save(picture)
    os.utime(picture, ns=(small.stat().st_mtime_ns + 10**9,) * 2)
    assert image_size(small_picture(picture)) == (120, 240)
    with Image.open(small) as copy:
        # The palette of 128 colours holds a plain one to a rounding of each channel.
        assert np.abs(np.asarray(copy.convert("RGB"), dtype=int) - (200, 30, 40)).max() <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure-small.png", "figure.png"]


def test_a_damaged_picture_does_not_take_the_page_with_it(tmp_path):
    made = [entry("whole"), entry("cut"), entry("none")]
    draw(tmp_path / "whole" / "figure")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "figure.png").write_bytes((tmp_path / "whole" / "figure.png").read_bytes()[:200])
    sources = [image["src"] for image in page(tmp_path, made).all("img")]
    assert sources[:3] == ["whole/figure-small.png", "cut/figure.png", "none/figure.png"]


def test_what_is_outside_its_tolerance_stands_at_the_top_with_the_reason(tmp_path):
    made = page(tmp_path, [entry(), entry("other", comparisons=(Comparison("phase", 1.0, 1.0, tolerance=0.1),))])
    top = made.text[: made.text.index("Overview")]
    assert "Of 3 numbers compared with the papers, 2 agree within the stated tolerance. 1 more is shown" in top
    assert "AM17, Figure 6: noise , paper 1.8 × 10⁻¹⁰, ours 1.912 × 10⁻¹⁰: other event number" in top
    assert top.count("AM17, Figure 6") == 1
    assert "Outside the tolerance" not in page(tmp_path, [entry(comparisons=())]).text


def test_each_figure_says_how_to_make_it_alone_and_at_full_size(tmp_path):
    made = page(tmp_path, [entry("a", size_note="10 fields"), entry("b", seed=None)])
    assert "Quick run: 10 fields. Full statistics: obsfit reproduce --only a --full" in made.text
    assert "obsfit reproduce --only a --force --seed 7" in made.text
    assert made.text.count("Quick run") == 1
    assert re.search(r"obsfit reproduce --only b --force (?!--seed)", made.text)


def test_numbers_without_a_paper_have_no_columns_for_one(tmp_path):
    alone = entry(status="own result", comparisons=(Comparison("slope", None, 0.371),))
    made = page(tmp_path, [alone])
    assert [name for name in ("Paper", "Tolerance", "not compared") if name in made.text] == []
    assert made.text.count("0.371") == 1
    headings = [attributes for attributes in made.all("th") if attributes["role"] == "columnheader"]
    # Two of the account of all figures, two of this table.
    assert len(headings) == 4


def test_rows_have_as_many_cells_as_the_table_has_columns(tmp_path):
    mixed = (Comparison("s", None, 0.5), Comparison("a", 1.0, 1.0, tolerance=0.1), Comparison("b", None, 2.0))
    made = page(tmp_path, [entry(), entry("own", status="own result", comparisons=mixed)])
    assert made.text.index("Numbers of papers beside ours") < made.text.index("Other numbers")
    tables = []
    for tag, _ in made.elements:
        if tag == "table":
            tables.append([])
        elif tag == "tr":
            tables[-1].append(0)
        elif tag in ("td", "th"):
            tables[-1][-1] += 1
    # All figures of the papers; five columns beside a paper, two without. Each table has a row of headings.
    assert [set(rows) for rows in tables] == [{2}, {5}, {5}, {2}]
    assert [len(rows) for rows in tables[1:]] == [4, 2, 3]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("4.9e+10 events", "4.9 × 10¹⁰ events"),
        ("from -4.2e-4, l >= 2", "from −4.2 × 10⁻⁴, l ≥ 2"),
        ("units of 1e-3", "units of 10⁻³"),
        ("reach_1e-5.toml, 0a1e5f, IceCube-1e4", "reach_1e-5.toml, 0a1e5f, IceCube-1e4"),
        ("a piece of lambdas, Omega_0", "a piece of lambdas, Omega_0"),
        ("ends at 2e-3.", "ends at 2 × 10⁻³."),
    ],
)
def test_signs_of_the_field_replace_what_is_typed_for_them(typed, shown):
    assert typeset(typed) == shown


def test_the_foot_of_the_page_says_what_wrote_it(tmp_path):
    made = page(tmp_path, [entry()])
    assert re.search(
        r"on \d{4}-\d\d-\d\d \d\d:\d\d UTC\. Source of obsfit and its models: SHA-256 [0-9a-f]{64}", made.text
    )


def test_the_size_of_what_is_no_png_is_unknown(tmp_path):
    (tmp_path / "a.png").write_bytes(b"GIF89a" + bytes(30))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n")
    assert [image_size(tmp_path / name) for name in ("a.png", "b.png", "c.png")] == [None] * 3


@pytest.mark.parametrize(
    ("paper", "ours", "tolerance", "agrees"),
    [
        (1.0, 1.1, 0.1, True),
        (1.0, 1.1, 0.0999, False),
        (-2.59e-4, -2.5928e-4, 1e-6, True),
        (1.0, None, 0.1, None),
        (None, 1.0, 0.1, None),
        (1.0, 1.0, None, None),
    ],
)
def test_agreement_is_the_stated_tolerance(paper, ours, tolerance, agrees):
    assert Comparison("x", paper, ours, tolerance=tolerance).agrees is agrees


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="ours of 'x' is nan; expected a finite number or None"):
        Comparison("x", 1.0, float("nan"))


def test_an_unknown_status_and_a_picture_without_words_are_refused():
    with pytest.raises(ValueError, match="status 'done', expected one of reproduced"):
        entry(status="done")
    with pytest.raises(ValueError, match="an image without alt text"):
        entry(alt=" ")


def test_an_entry_survives_storing(tmp_path):
    original = entry()
    store_entry(original, tmp_path, {"seed": 7})
    assert load_entry(tmp_path) == (original, {"seed": 7})


def test_damaged_entries_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_entry(tmp_path)
    path = store_entry(entry(), tmp_path, {})
    good = json.loads(path.read_text())
    for damaged in (
        "{",
        "[]",
        json.dumps(good | {"format_version": 99}),
        json.dumps(good | {"entry": {"key": 1}}),
    ):
        path.write_text(damaged)
        with pytest.raises(DataFormatError, match=r"entry\.json"):
            load_entry(tmp_path)


def expected_table(path):
    table = Table(
        {
            "figure": ["figure6", "figure6", "figure8"],
            "quantity": ["phase", "rows", "phase"],
            "paper_value": [266.0, 35.0, 1.0],
            "unit": ["deg", "", ""],
            "tolerance": [1.0, 0.0, 0.0],
            "source": ["Section 3.3", "Table 1", "none"],
        }
    )
    table.write(path, format="ascii.ecsv")
    return path


def test_expected_numbers_are_set_beside_ours(tmp_path):
    expected = read_expected(expected_table(tmp_path / "expected.ecsv"))
    assert compare(expected, "figure6", {"phase": 266.4}, notes={"rows": "not counted"}) == (
        Comparison("phase", 266.0, 266.4, "deg", "", 1.0, "Section 3.3"),
        Comparison("rows", 35.0, None, "", "not counted", 0.0, "Table 1"),
    )
    with pytest.raises(ConfigurationError, match="'fase' is not among the expected numbers of figure6"):
        compare(expected, "figure6", {"fase": 1.0})


def test_an_expected_file_without_a_column_is_refused(tmp_path):
    path = tmp_path / "expected.ecsv"
    Table({"figure": ["a"]}).write(path, format="ascii.ecsv")
    with pytest.raises(DataFormatError, match="no column 'quantity'"):
        read_expected(path)
    path.write_text("no table")
    with pytest.raises(DataFormatError, match="cannot be read as ECSV"):
        read_expected(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.9e-10, "1.9 × 10⁻¹⁰"), (123456.0, "1.235 × 10⁵"), (-0.5, "−0.5"), (8.0e-4, "8 × 10⁻⁴")],
)
def test_numbers_read_as_in_a_paper(value, text):
    assert format_number(value) == text


def draw(stem):
    with styled():
        figure = new_figure()
        axes = figure.subplots()
        axes.plot([1, 2], [1, 4], label="a", **series_style(2))
        axes.fill_between([1, 2], [0, 1], [2, 3], alpha=0.3)
        axes.legend()
        return save(figure, stem)


def test_the_same_figure_is_the_same_file(tmp_path):
    first, second = draw(tmp_path / "a" / "x.1"), draw(tmp_path / "b" / "x.1")
    assert [path.name for path in first] == ["x.1.png", "x.1.svg"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    svg = first[1].read_text()
    assert "<dc:date>" not in svg
    assert list(tmp_path.rglob("*.partial")) == []


def test_no_global_setting_is_touched(tmp_path):
    before = dict(matplotlib.rcParams)
    draw(tmp_path / "x")
    assert dict(matplotlib.rcParams) == before


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one, two):
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_lines_stand_out_on_white_and_styles_differ():
    # 3:1 is what WCAG 2.1 asks of graphics (success criterion 1.4.11).
    assert min(contrast(colour, "#ffffff") for colour in COLOURS.values()) >= 3.0
    assert len(set(LINE_STYLES)) == len(LINE_STYLES) == len(COLOURS)
    assert len(set(MARKERS)) == len(MARKERS) >= 10


def test_text_of_the_page_has_contrast_aa():
    template = importlib.resources.files("obsfit.plot") / "templates" / "report.html.jinja"
    text = template.read_text(encoding="utf-8")
    pairs = re.findall(r"color: (#[0-9a-f]{6}); background: (#[0-9a-f]{6})", text)
    assert len(pairs) == len(STATUSES)
    pairs += [(two, one) for one, two in re.findall(r"background: (#[0-9a-f]{6}); color: (#[0-9a-f]{6})", text)]
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", text))
    pairs += [(named[name], named[ground]) for name in ("ink", "soft", "link") for ground in ("paper", "wash")]
    # Verdicts stand on the paper, the text of an error on its own ground.
    pairs += [(colour, named["paper"]) for colour in re.findall(r"td\.\w+ { color: (#[0-9a-f]{6})", text)]
    assert len(pairs) == len(STATUSES) + 2 + 6 + 2
    assert min(contrast(*pair) for pair in pairs) >= 4.5
    # Where the keyboard is: 3:1 (WCAG 2.1, 1.4.11).
    (focus,) = re.findall(r":focus-visible { outline: 3px solid (#[0-9a-f]{6})", text)
    assert contrast(focus, named["paper"]) >= 3.0


def test_tables_carry_their_origin(tmp_path):
    table = Table({"energy": [1.0, 2.0]}, units={"energy": "TeV"})
    path = write_table(
        table,
        tmp_path / "x" / "t.ecsv",
        description="Two energies.",
        data=[DataSource("a", "ff")],
        settings={"seed": 3, "full": False},
    )
    again = Table.read(path, format="ascii.ecsv")
    assert again.meta["obsfit_format"] == TABLE_FORMAT
    assert again.meta["data"] == [{"name": "a", "sha256": "ff"}]
    assert again.meta["settings"] == {"seed": 3, "full": False}
    assert str(again["energy"].unit) == "TeV"
    assert table.meta == {}
