"""The site builds without a warning, and its pages hold together: links, anchors, alt texts, public names, no network.

`make docs` sets OBSFIT_SITE to what it has built; elsewhere the site is built once for this file.
"""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import obsfit

pytest.importorskip("sphinx", reason="the extra docs is not installed: pip install 'obsfit[docs]'")

ROOT = Path(__file__).parents[2]
FORMATS = (ROOT / "docs/file-formats.md").read_text(encoding="utf-8")
# Loaded by a browser when it opens the page; where links lead is another matter.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, path):
        super().__init__()
        self.language, self.links, self.loaded, self.images, self.anchors = "", [], [], [], set()
        self.headings, self.broken, self.named, self.text = 0, [], [], ""
        self.link = self.code = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.headings += tag == "h1"
        if tag == "html":
            self.language = found.get("lang") or ""
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append((found.get("src"), found.get("alt")))
        # "next", "search" and the like are links; style sheets and icons are loaded.
        if found.get(LOADED.get(tag, "")) and (
            tag != "link" or found.get("rel") in ("stylesheet", "icon", "preload")
        ):
            self.loaded.append(found[LOADED[tag]])
        if "problematic" in (found.get("class") or ""):
            self.broken.append(found)
        self.link = self.link or tag == "a"
        self.code = self.code or tag in ("code", "pre", "math", "script", "title")

    def handle_endtag(self, tag):
        self.link = self.link and tag != "a"
        self.code = self.code and tag not in ("code", "pre", "math", "script", "title")

    def handle_data(self, data):
        if self.link:
            self.named.append(data)
        if not self.code:
            self.text += data


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory):
    """Folder of the built site."""
    if os.environ.get("OBSFIT_SITE"):
        return Path(os.environ["OBSFIT_SITE"])
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-E",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        folder / "trees",
    ]
    process = subprocess.run(
        [*command, ROOT / "docs", folder / "html"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return folder / "html"


@pytest.fixture(scope="module", name="pages")
def fixture_pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_of_the_docs_is_a_page_of_the_site(pages):
    written = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert len(written) > 20
    assert {path.with_suffix(".html").as_posix() for path in written} <= set(pages)
    assert {name for name, page in pages.items() if page.broken} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_no_average_in_angle_brackets_is_taken_for_a_tag(path):
    """<s> strikes out the rest of a page."""
    text = re.sub(r"^```.*?^```$|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"</?[a-zA-Z][^>\n]*>", text) == []


def test_every_link_and_every_anchor_leads_somewhere(site, pages):
    lost = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            assert not parts.scheme, (name, link)
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            key = target.resolve().relative_to(site.resolve()).as_posix()
            if key not in pages:
                found = target.is_file() and not parts.fragment
            else:
                # "#" alone is the top of a page.
                found = parts.fragment in ("", *pages[key].anchors)
            if not found:
                lost.append((name, link))
    assert lost == []


def test_links_of_the_formulas_lead_to_the_functions_themselves(pages):
    """Each function of the page of formulas is an anchor of a page of source."""
    text = (ROOT / "docs/formulas.md").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\[`obsfit\w*\.[\w.]*?(\w+)`\]\(", text))
    links = [link for link in pages["formulas.html"].links if link.startswith("source/")]
    reached = {link.rpartition("#")[2].rpartition(".")[2] for link in links}
    assert len(wanted) > 50
    assert wanted <= reached


def test_pages_are_set_as_prose(pages):
    """Indices and powers stand below and above; a link to a page has its title, not the name of its file."""
    own = {
        name: page for name, page in pages.items() if not name.startswith(("api/", "source/", "genindex", "py-"))
    }
    assert [(name, text) for name, page in own.items() for text in page.named if text.endswith(".md")] == []
    plain = re.compile(r"(?<![\w./-])(?!n_\w\w)[A-Za-zα-ω]_[A-Za-z0-9]|[\w)|]\^[-(\w]")
    assert [(name, found) for name, page in own.items() for found in plain.findall(page.text)] == []


def test_every_image_says_what_it_shows(pages):
    assert [(name, image) for name, page in pages.items() for image, alt in page.images if not alt] == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    loaded = {(name, source) for name, page in pages.items() for source in page.loaded}
    assert loaded
    assert [pair for pair in loaded if urlsplit(pair[1]).scheme or pair[1].startswith("//")] == []
    for name, source in loaded:
        assert ((site / name).parent / urlsplit(source).path).is_file(), (name, source)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


def test_every_page_has_a_language_and_one_title(pages):
    assert {page.language for page in pages.values()} == {"en"}
    written = [name for name in pages if name not in ("genindex.html", "search.html", "py-modindex.html")]
    assert [name for name in written if pages[name].headings != 1] == []


def test_formulas_need_no_script(site):
    text = (site / "api/sky.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 20
    assert "mathjax" not in text.lower()


def test_an_index_stands_beside_a_letter_with_an_accent_and_not_below_it(site):
    text = "".join(path.read_text(encoding="utf-8") for path in site.glob("api/*.html"))
    accented = r'<msub><mover accent="true"><mi>\w</mi><mo stretchy="false">[~ˆˉ]</mo></mover>'
    assert len(re.findall(accented, text)) > 10
    assert not re.search(r'<mo stretchy="false">[~ˆˉ]</mo></munderover>', text)


def test_every_public_name_is_in_the_api(pages):
    anchors = set().union(*(page.anchors for name, page in pages.items() if name.startswith("api/")))
    rooms = {name for name in obsfit.__all__ if f"module-obsfit.{name}" in anchors}
    names = {name for name in obsfit.__all__ if f"obsfit.{name}" in anchors}
    assert rooms == {"errors", "mock", "plot", "reconstruct", "sky", "spectra"}
    assert set(obsfit.__all__) - names - rooms == {"__version__"}


@pytest.mark.parametrize("room", ["mock", "reconstruct", "sky", "spectra"])
def test_every_name_of_a_public_room_is_in_the_api(pages, room):
    anchors = set().union(*(page.anchors for name, page in pages.items() if name.startswith("api/")))
    names = set(getattr(obsfit, room).__all__)
    assert {name for name in names if not anchors & {f"obsfit.{room}.{name}", f"obsfit.{name}"}} == set()


def kinds_in_the_source():
    """What `obsfit_format` may be: arguments of `stamp` and `own_keywords`, and the constants that name formats."""
    found = set()
    for path in [*ROOT.glob("obsfit/**/*.py"), *ROOT.glob("models/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("stamp", "own_keywords"):
                found |= words(node.args[:1])
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = {getattr(target, "id", "") for target in targets}
                if names & {"FORMAT", "KIND"}:
                    found |= words([node.value])
                elif names & {"KINDS", "_KINDS"} and isinstance(node.value, ast.Dict) and "stamp(kind" in text:
                    found |= words([*node.value.keys, *node.value.values])
    return found


def words(nodes):
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_format_is_described_and_every_description_is_of_a_format():
    table = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| ", FORMATS.partition("## Event maps")[0], re.MULTILINE)
    told = {name for row in table for name in re.findall(r"`([\w-]+)`", row)} - STAMP
    assert told == kinds_in_the_source()
    headings = " ".join(re.findall(r"^##+ (.*)$", FORMATS, re.MULTILINE))
    assert {name for name in told if not re.search(rf"(?<![\w-]){name}(?![\w-])", headings)} == set()


STAMP = {"obsfit_format", "format_version", "versions", "seed", "configuration", "data_sha256"}


def test_every_format_has_the_version_that_is_told():
    versions = re.compile(r"^FORMAT_VERSION = (\d+)$", re.MULTILINE)
    paths = [*ROOT.glob("obsfit/**/*.py"), *ROOT.glob("models/**/*.py")]
    found = {path.stem: versions.findall(path.read_text(encoding="utf-8")) for path in paths}
    assert (found.pop("emulator"), found.pop("surrogate_files")) == (["3"], ["2"])
    assert {number for numbers in found.values() for number in numbers} == {"1"}
    assert "All\nformats have version 1 but emulators, which have 3, and surrogates, which have 2." in FORMATS


def test_files_are_read_without_obsfit_as_the_page_says(read_steps, run_steps, tmp_path):
    run_steps(read_steps(FORMATS), tmp_path)


def test_the_extras_are_those_of_the_project():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    extras = project["optional-dependencies"]
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", page, re.MULTILINE))
    assert set(table) == set(extras)
    for name, packages in table.items():
        required = {re.split(r"[<>=~! ]", entry)[0] for entry in extras[name]}
        assert set(packages.replace(" and others", "").split(", ")) <= required


@pytest.mark.parametrize("line", ["obsfit --help", "obsfit doctor"])
def test_the_commands_of_the_installation_are_on_its_page_and_work(line, capsys):
    from obsfit import cli

    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert line in re.findall(r"^(obsfit .*)$", page, re.MULTILINE)
    with pytest.raises(SystemExit) as end:
        cli.main(line.split()[1:])
    assert end.value.code == 0
    assert capsys.readouterr().out


def test_the_targets_of_the_installation_exist():
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    targets = set(
        re.findall(r"make (?:\w+=\S+ )?(test|check|docs|clean|reproduce|bench)\b", page.replace("\n", " "))
    )
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"test", "check", "docs", "clean"} <= targets <= set(re.findall(r"make (\w+)", listed))
