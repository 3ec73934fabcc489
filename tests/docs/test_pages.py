"""The pages tell the truth: examples run, commands exist, links lead somewhere, errata are pinned."""

import contextlib
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(program):
    """Command lines of a program in the shell blocks, without comments."""
    lines = [line.split("#")[0].split() for block in blocks("sh") for line in block.splitlines()]
    return [" ".join(words[1:]) for words in lines if words and words[0] == program]


def printed(example, folder):
    """What an example prints when it is run as it stands."""
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 10, "an example is to be taken in at a glance"
    process = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", example],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_fit_of_the_readme_runs_as_printed(tmp_path):
    fit, _, _ = blocks("python")
    table = {line.split()[0]: line.split()[1:] for line in printed(fit, tmp_path).splitlines()[2:]}
    # The slope of the published spectra lies near l^-3, which is p = 1/2 (AM15).
    assert 0.2 < float(table["exponent"][0]) < 0.8
    assert all(float(row[-1]) < 1.05 for row in table.values())


def test_the_reconstruction_of_the_readme_finds_its_dipole(tmp_path):
    """Within 5 standard errors of the dipole that the mock was given: one in 2 million, for each component."""
    _, events, _ = blocks("python")
    ask = "\nprint(dipole.alm[0].real, dipole.alm[0].imag, *dipole.covariance.diagonal(), sky.converged)"
    real, imaginary, *variance, converged = printed(events + ask, tmp_path).split()
    assert converged == "True"
    # delta_0h and delta_6h, Eq. (18) of AM17
    factor = (3 / (2 * math.pi)) ** 0.5
    errors = [factor * math.sqrt(float(value)) for value in variance]
    assert -factor * float(real) == pytest.approx(8e-4, abs=5 * errors[0])
    assert factor * float(imaginary) == pytest.approx(4e-4, abs=5 * errors[1])


def test_the_back_tracking_of_the_readme_makes_a_sky(tmp_path):
    """A gradient of g per gyroradius cannot displace further than T: C_1 < (4 pi/9) (g T)^2."""
    _, _, turbulence = blocks("python")
    power = [float(value) for value in printed(turbulence + "\nprint(*power)", tmp_path).split()]
    assert len(power) == 13
    assert 1e-3 < power[1] / (4 * math.pi / 9 * (1e-3 * 50) ** 2) < 1
    assert all(0 < value < power[1] for value in power[2:6])


def test_the_skies_of_the_page_on_turbulence_are_as_printed(read_steps, run_steps, tmp_path):
    """A whole sky and a patch of it, in one session."""
    steps = read_steps((ROOT / "docs/turbulence.md").read_text(encoding="utf-8"))
    run = [step for step in steps if step["kind"] == "python"]
    assert any("displacement_patch" in step["text"] and step["told"] for step in run)
    run_steps(run, tmp_path)


@pytest.mark.parametrize("command", commands("obsfit"))
def test_the_commands_of_the_readme_work(command):
    process = subprocess.run(
        [sys.executable, "-c", f"import obsfit.cli; obsfit.cli.main({command.split()!r})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_the_targets_of_the_readme_exist_and_make_lists_them():
    targets = {word for command in commands("make") for word in command.split()[:1]}
    assert {"reproduce", "test"} <= targets
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets <= set(re.findall(r"make (\w+)", listed))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith("https://")]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_dipole_of_the_readme_can_be_read(tmp_path):
    import obsfit

    (table,) = blocks("text")
    path = tmp_path / "my_dipoles.csv"
    path.write_text(table, encoding="utf-8")
    with contextlib.chdir(tmp_path):
        dipoles = obsfit.load_dipoles("my_dipoles.csv")
    assert dipoles.amplitude.tolist() == [8.1e-4]
    assert dipoles.energy_tev.tolist() == [20.0]


def test_every_erratum_is_pinned_and_every_pinned_erratum_is_told():
    told = set(re.findall(r"^## E(\d+):", (ROOT / "docs/errata.md").read_text(encoding="utf-8"), re.MULTILINE))
    pinned = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        pinned |= set(re.findall(r"^\s*def test_e0*(\d+)_", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert (sorted(told - pinned, key=int), sorted(pinned - told, key=int)) == ([], [])
