"""The package as a user gets it: sdist, wheel from the sdist, installed away from the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import obsfit

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Sdist, and the wheel that `build` makes from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], check=True
    )
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def away(built, tmp_path_factory):
    """Environment that holds the wheel and sees our dependencies, but not the checkout."""
    home = tmp_path_factory.mktemp("away") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # Folders named in a .pth file are searched, but .pth files inside them (our editable install) are not read.
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--python", str(home), "install", "-q", "--disable-pip-version-check",
            "--no-deps", "--no-index", "--ignore-installed", str(built[1]),
        ],
        check=True,
    )  # fmt: skip
    return home


def run(home, *command):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OBSFIT"))}
    return subprocess.run(
        [home / "bin" / command[0], *command[1:]],
        cwd=home.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def tracked(*folders):
    listing = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listing.stdout.splitlines() if (ROOT / name).exists()}


def test_the_wheel_holds_every_tracked_file_of_the_packages_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name.removeprefix("models/").removeprefix("data/") for name in tracked("obsfit", "models", "data")}
    assert expected - names == set()
    assert {name.split("/")[0] for name in names} == {"obsfit", "obsfit_models", "obsfit_data"}
    assert {"obsfit/py.typed", "obsfit_models/py.typed", "obsfit/__init__.pyi"} <= names


def test_the_wheel_carries_licence_and_entry_points(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        text = archive.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "obsfit = obsfit.cli:main" in text
    assert "[obsfit.models]" in text


def test_the_sdist_can_be_tested_and_reproduced(built):
    with tarfile.open(built[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = tracked(
        "obsfit", "models", "data", "tests", "analyses", "docs", "benchmarks", "Makefile", "README.md"
    )
    assert wanted - names == set()


def test_the_installed_package_is_the_wheel(away):
    process = run(
        away, "python", "-c", "import obsfit, obsfit_models; print(obsfit.__file__, obsfit_models.__file__)"
    )
    assert process.returncode == 0, process.stderr
    assert all(path.startswith(str(away)) for path in process.stdout.split())


def test_data_load_away_from_the_checkout(away):
    code = "import obsfit; d = obsfit.load_dipoles('ahlers-mertsch-2017'); print(len(d), len(obsfit.available_data()))"
    process = run(away, "python", "-c", code)
    assert process.returncode == 0, process.stderr
    rows, tables = map(int, process.stdout.split())
    assert rows == 35
    assert tables == len(obsfit.available_data())


def test_commands_work_away_from_the_checkout(away):
    models = run(away, "obsfit", "models", "list")
    assert models.returncode == 0
    assert models.stderr == ""
    assert [line.split()[0] for line in models.stdout.splitlines()] == list(obsfit.available_models())
    for command in (("doctor",), ("data", "list"), ("models", "show", "hierarchical-cascade")):
        process = run(away, "obsfit", *command)
        assert process.returncode == 0, (command, process.stdout, process.stderr)


def test_figures_need_a_checkout_and_say_so(away):
    process = run(away, "obsfit", "reproduce")
    assert process.returncode == 2
    assert "checkout" in process.stderr
    assert process.stdout == ""
