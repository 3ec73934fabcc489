"""The repository stays a house with known rooms, small files and no trace of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOP_LEVEL = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "Makefile",
    "README.md",
    "analyses",
    "benchmarks",
    "data",
    "docs",
    "models",
    "obsfit",
    "pyproject.toml",
    "tests",
}
LARGEST = 1024 * 1024

# Written so that the patterns do not match themselves.
FOREIGN = re.compile(
    r"(?<![\w./-])/(?:home|root|Users|tmp|work|mnt)/\w" + r"|--(?:extra-)?index-[u]rl" + r"|--find-[l]inks"
    r"|pypi\.org/[s]imple"
)


@pytest.fixture(scope="module")
def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def test_the_top_level_holds_the_agreed_names(tracked):
    names = {path.relative_to(ROOT).parts[0] for path in tracked}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


def test_no_file_is_larger_than_a_mebibyte(tracked):
    assert {path.name: path.stat().st_size for path in tracked if path.stat().st_size > LARGEST} == {}


def test_no_machine_path_and_no_index_address(tracked):
    found = []
    for path in tracked:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if FOREIGN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_pinned_versions_are_plain_and_cover_the_dependencies():
    lines = (ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(names) == len(set(names))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # make installs every extra but this one, which is of no use without a device.
    project = re.sub(r"^cuda = .*$", "", project, flags=re.MULTILINE)
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r'"([\w.-]+)>=[\d.]+"', project)}
    assert wanted - set(names) == set()


def test_the_fresh_clone_run_is_executable():
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert (ROOT / ".ci/find-python").stat().st_mode & 0o111
