"""Pages that can be typed: their blocks, what stands below them as printed, and the run that compares the two.

A block of python or sh is a step, and a block of text right below it is what it prints. Any block below a line that
ends with a name in code and a colon, such as "`fit.toml`:", is a file of that name.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"(?:^([^\n]*)\n\n?)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w./-]+)`:$")
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")
CLOCK = re.compile(r"cpu_s [\d.]+")
# Small problems gain nothing from threads, and lose much where other tests run beside them.
THREADS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM", "NUMBA_NUM", "DUCC0_NUM")


def close(one, other):
    """Within 5 %, but at most 1 (logarithms of evidence), or within 0.05: what samplers scatter by."""
    told, printed = float(one), float(other)
    smallest = 0.0 if "e" in one else 0.05
    return abs(told - printed) <= max(min(0.05 * abs(told), 1.0), smallest)


def agree(told, printed):
    """Whether two texts have the same words, and numbers that are close; how long it took is nobody's promise."""
    told, printed = (CLOCK.sub("cpu_s", text) for text in (told, printed))
    if NUMBER.sub("#", told).split() != NUMBER.sub("#", printed).split():
        return False
    return all(map(close, NUMBER.findall(told), NUMBER.findall(printed)))


def read_steps(text):
    """Return the steps of a page: kind, text, name of a file, and what is told that it prints."""
    steps = []
    for before, language, block in BLOCK.findall(text):
        name = FILE.search(before)
        if name:
            steps.append({"kind": "file", "name": name[1], "text": block, "told": ""})
        elif language in ("python", "sh"):
            steps.append({"kind": language, "name": "", "text": block, "told": ""})
        else:
            assert language == "text", f"neither a step, nor a file, nor what is printed:\n{block}"
            below = steps and steps[-1]["kind"] != "file" and not before
            assert below, f"it does not stand right below what prints it:\n{block}"
            steps[-1]["told"] = block
    return steps


def run_steps(steps, folder):
    """Run the steps in a folder and compare what they print with what is told."""
    process = subprocess.run(
        [sys.executable, Path(__file__).parent / "run_page.py"],
        input=json.dumps(steps),
        env={**os.environ, **{f"{name}_THREADS": "1" for name in THREADS}},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    for step, printed in zip(steps, json.loads(process.stdout), strict=True):
        # What a command prints may be left out, but not that it failed.
        left_out = step["kind"] == "sh" and not step["told"] and not printed.startswith("obsfit: ")
        assert left_out or agree(step["told"], printed), (
            f"{step['text']}\nthe page tells\n{step['told']}\nprinted was\n{printed}"
        )


@pytest.fixture(name="agree")
def fixture_agree():
    return agree


@pytest.fixture(name="read_steps")
def fixture_read_steps():
    return read_steps


@pytest.fixture(name="run_steps")
def fixture_run_steps():
    return run_steps
