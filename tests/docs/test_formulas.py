"""The page of formulas names what exists, and every equation that the source names is on it."""

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/formulas.md"
ERRATA = (ROOT / "docs/errata.md").read_text(encoding="utf-8")
# Numbered equations; those of AM15 are listed by what they say.
PAPERS = {"A14": 21, "ASTRA": 12, "AM17": 77, "GS": 8}
APPENDIX = {"AM17": ["A.1", "A.2"]}
LINK = re.compile(r"\[`([^`]+)`\]\(\.\./([^)]+)\)")
NUMBER = r"\((A\.\d|\d+)\)"
LIST = rf"{NUMBER}(?:(?:, | and |, and | to |-){NUMBER})*"
KEYS = "A14|ASTRA|AM15|AM17|GS"
# "Eq. (5) of A14", "Eqs. (8) and (9) of AM17", "AM17 Eq. (70)", "AM17, Eq. (53)" and "(Eq. 19 of A14)".
AFTER = re.compile(rf"Eqs?\. ({LIST}) of ({KEYS})")
BEFORE = re.compile(rf"({KEYS}),? Eqs?\. ({LIST})")
BARE = re.compile(rf"Eqs?\. (\d+(?:(?:, | and |-)\d+)*) of ({KEYS})")


def rows():
    """Paper, equations, meaning, function and test of each row of the page."""
    found, paper = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            paper = line[3:]
        elif line.startswith("| ") and not line.startswith("| equation"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 4, line
            found.append((paper, *cells))
    return found


ROWS = rows()


def numbers(text):
    """Equation numbers in "(8) and (9)", "(10) to (12)", "(2), (3)" or "72-77"."""
    text = re.sub(r"(?<![\w.(])(\d+)(?![\w.)])", r"(\1)", text)
    found = []
    for first, last in re.findall(rf"{NUMBER}(?:(?: to |-){NUMBER})?", text):
        found += [str(n) for n in range(int(first), int(last) + 1)] if last else [first]
    return found


def on_the_page():
    return {(paper, number) for paper, equations, *_ in ROWS for number in numbers(equations)}


def named_in(text):
    """Pairs of paper and equation in a text without line breaks."""
    pairs = [(found[0], found[-1]) for found in AFTER.findall(text)]
    pairs += [(found[1], found[0]) for found in BEFORE.findall(text)]
    pairs += [(found[0], found[-1]) for found in BARE.findall(text)]
    return [(paper, number) for equations, paper in pairs for number in numbers(equations)]


def in_the_source():
    """Pairs of paper and equation that docstrings and comments of the packages name, with where they do."""
    named = {}
    for path in [*ROOT.glob("obsfit/**/*.py"), *ROOT.glob("models/**/*.py")]:
        # A line that is broken within a reference is made whole.
        text = re.sub(r"\s*\n\s*(?:# )?", " ", path.read_text(encoding="utf-8"))
        for pair in named_in(text):
            named.setdefault(pair, []).append(path.relative_to(ROOT))
    return named


def test_references_are_read_in_every_form():
    assert numbers("(8) and (9)") == ["8", "9"]
    assert numbers("(10) to (12)") == ["10", "11", "12"]
    assert numbers("(2), (3)") == ["2", "3"]
    assert numbers("72-77") == ["72", "73", "74", "75", "76", "77"]
    assert numbers("(A.1)") == ["A.1"]
    assert AFTER.search("Eqs. (29) to (31) of AM17")[1] == "(29) to (31)"
    assert AFTER.search("Eq. (A.1) of AM17")[1] == "(A.1)"
    assert BEFORE.search("A14, Eqs. (11) to (13)").groups()[:2] == ("A14", "(11) to (13)")
    assert BEFORE.search("AM17 Eqs. (76), (77)")[2] == "(76), (77)"
    assert BARE.search("Eqs. 23, 25 of AM17")[1] == "23, 25"


@pytest.mark.parametrize("paper", PAPERS)
def test_every_equation_is_there_once(paper):
    listed = [number for one, equations, *_ in ROWS if one == paper for number in numbers(equations)]
    expected = [str(n + 1) for n in range(PAPERS[paper])] + APPENDIX.get(paper, [])
    assert sorted(listed) == sorted(expected)


def test_every_equation_that_the_source_names_is_there():
    named = in_the_source()
    assert len(named) > 40
    assert {pair: where for pair, where in named.items() if pair not in on_the_page()} == {}


def test_every_function_that_says_it_is_an_equation_stands_beside_it():
    """That is, whose summary names the equation: "Return the ... of a gradient: Eq. (64) of AM17."."""
    computed = {(paper, number): cell for paper, equations, _, cell, _ in ROWS for number in numbers(equations)}
    claims, missing = 0, []
    for path in [*ROOT.glob("obsfit/**/*.py"), *ROOT.glob("models/**/*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            summary = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            for paper, number in named_in(summary):
                claims += 1
                if f".{node.name}`]" not in computed[paper, number]:
                    missing.append((paper, number, node.name))
    assert claims > 25
    assert missing == []


def test_every_function_can_be_imported_from_where_it_is_linked():
    wrong = []
    for paper, equations, _, function, _ in ROWS:
        links = LINK.findall(function)
        if function.startswith("not implemented: "):
            assert not links
            continue
        assert function == ", ".join(f"[`{name}`](../{path})" for name, path in links) != "", (paper, equations)
        for name, path in links:
            module = path.removeprefix("models/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            assert name.startswith(module + "."), name
            try:
                found = reduce(
                    getattr, name.removeprefix(module + ".").split("."), importlib.import_module(module)
                )
            except (ImportError, AttributeError):
                wrong.append(name)
            else:
                # where it is written, not where it is handed on
                wrong += [] if getattr(found, "__module__", None) == module else [name]
    assert wrong == []


def test_every_test_exists_and_everything_that_is_computed_has_one():
    wrong = []
    for paper, equations, _, function, test in ROWS:
        links = LINK.findall(test)
        assert bool(links) == (not function.startswith("not implemented: ")), (paper, equations)
        for name, path in links:
            file, _, one = name.partition("::")
            assert path == f"tests/{file}"
            source = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
            if not re.search(rf"^def {one}\(", source, re.MULTILINE):
                wrong.append(name)
    assert wrong == []


def test_errata_are_linked_by_their_headings():
    anchors = {
        re.match(r"E\d+", heading)[0]: re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (E\d+: .*)$", ERRATA, re.MULTILINE)
    }
    linked = re.findall(r"\[(E\d+)\]\(errata\.md#([^)]*)\)", PAGE.read_text(encoding="utf-8"))
    assert linked
    assert [(key, anchor) for key, anchor in linked if anchors[key] != anchor] == []


@pytest.mark.parametrize("heading", re.findall(r"^## (E\d+: .*)$", ERRATA, re.MULTILINE))
def test_every_erratum_of_an_equation_is_told_at_that_equation(heading):
    """Headings that name equations, such as "E4: A14, Eq. (8), against AM17, Eq. (53)"."""
    key = heading.partition(":")[0]
    told = {
        (paper, number)
        for paper, equations, meaning, *_ in ROWS
        if f"[{key}](" in meaning
        for number in numbers(equations)
    }
    for paper, *found in re.findall(rf"({KEYS}), (?:at |below |beside )?Eqs?\. ({LIST})", heading):
        assert told & {(paper, number) for number in numbers(found[0])}, (heading, told)
