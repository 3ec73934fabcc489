"""Each how-to runs as printed, in a folder of its own, and prints what stands below its blocks."""

import os
import re
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/howto").glob("*.md"))
USES = {
    "own-events", "own-spectrum", "own-dipole", "own-field", "own-model", "own-turbulence", "cluster",
    "systematics-study",
}  # fmt: skip
PORT = "8786"


def text_of(page):
    return page.read_text(encoding="utf-8")


def test_there_is_a_page_for_each_use():
    assert {page.stem for page in PAGES} == USES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_answers_what_its_reader_asks(page, read_steps):
    steps = read_steps(text_of(page))
    python = [step["text"] for step in steps if step["kind"] == "python"]
    assert len(python) <= 3
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 12 for block in python)
    headings = re.findall(r"^## (.*)$", text_of(page), re.MULTILINE)
    assert headings[0] == "What you need"
    assert headings[-2:] == ["What can go wrong", "More"]
    # What comes out, and an error as it is told.
    assert len([step for step in steps if step["told"]]) >= 2
    wrong = text_of(page).index("## What can go wrong")
    assert "```text\n" in text_of(page)[wrong:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_as_printed(page, tmp_path, monkeypatch, read_steps, run_steps):
    """Packages are installed into a folder of this test, from what is here; a scheduler listens where nobody does."""
    plugins = tmp_path / "installed"
    plugins.mkdir()
    monkeypatch.setenv("PIP_TARGET", str(plugins))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PYTHONPATH", str(plugins), prepend=os.pathsep)
    folder = tmp_path / "folder"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    run_steps(read_steps(text_of(page).replace(PORT, port)), folder)


def test_a_page_that_tells_something_else_is_found(tmp_path, read_steps, run_steps):
    """Wrong numbers, a command that fails unsaid, one that is told to fail and does not, text that nothing prints."""
    step = "```python\nprint(3.0)\n```\n\n```text\n{}\n```\n"
    run_steps(read_steps(step.format("3.1")), tmp_path)
    with pytest.raises(AssertionError, match="the page tells"):
        run_steps(read_steps(step.format("3.3")), tmp_path)
    with pytest.raises(AssertionError, match="there is no such"):
        run_steps(read_steps("```sh\nobsfit data show nothing.csv\n```\n"), tmp_path)
    with pytest.raises(AssertionError, match="the page tells"):
        run_steps(read_steps("```sh\nobsfit --version\n```\n\n```text\nobsfit: it fails\n```\n"), tmp_path)
    with pytest.raises(AssertionError, match="right below"):
        read_steps(step.format("3.0").replace("```text", "Prints:\n\n```text"))


def test_a_file_of_a_page_is_written_before_it_is_read(tmp_path, read_steps, run_steps):
    page = "In `folder/it.toml`:\n\n```toml\nx = 1\n```\n\n```python\nprint(open('folder/it.toml').read())\n```\n"
    run_steps(read_steps(page + "\n```text\nx = 1\n```\n"), tmp_path)
