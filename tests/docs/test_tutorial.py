"""The tutorial runs as printed, in one process and in order, and prints what stands below each block."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from obsfit import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
# A block of Python, and what it prints, if anything.
STEP = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")
# Run by test_examples.py, which also looks at what comes out.
ELSEWHERE = {"obsfit ensemble docs/examples/ensemble.toml"}


def close(one, other):
    """Within 5 %, but at most 1 (logarithms of evidence), or within 0.05: what samplers scatter by."""
    told, printed = float(one), float(other)
    smallest = 0.0 if "e" in one else 0.05
    return abs(told - printed) <= max(min(0.05 * abs(told), 1.0), smallest)


def agree(told, printed):
    """Whether two texts have the same words, and numbers that are close."""
    if NUMBER.sub("#", told).split() != NUMBER.sub("#", printed).split():
        return False
    return all(map(close, NUMBER.findall(told), NUMBER.findall(printed)))


# Small problems gain nothing from threads, and lose much where other tests run beside them.
THREADS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM", "NUMBA_NUM", "DUCC0_NUM")
RUN = """
import contextlib, io, json, sys
names, printed = {}, []
for code in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, "docs/tutorial.md", "exec"), names)
    printed.append(output.getvalue())
json.dump(printed, sys.stdout)
"""


def test_each_step_runs_and_prints_what_is_told(tmp_path):
    """Sampled quantiles of 150 and more effective samples are repeated digit by digit with the same libraries."""
    steps = STEP.findall(PAGE)
    assert len(steps) == PAGE.count("```python") >= 10
    for code, _ in steps:
        assert len([line for line in code.splitlines() if line.strip()]) <= 12, (
            "a step is to be taken in at a glance"
        )
    process = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([code for code, _ in steps]),
        env={**os.environ, **{f"{name}_THREADS": "1" for name in THREADS}},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    for (code, told), printed in zip(steps, json.loads(process.stdout), strict=True):
        assert agree(told, printed), f"{code}\nthe page tells\n{told}\nprinted was\n{printed}"


def test_numbers_and_words_that_differ_are_found():
    assert agree("p = 0.52\n", "p = 0.50\n")
    assert agree("C 1.00e-07 2\n", "C 1.04e-07 2\n")
    assert agree("log evidence: 600.4\n", "log evidence: 600.0\n")
    assert not agree("log evidence: 600.4\n", "log evidence: 594.0\n")
    assert not agree("p = 0.52\n", "p = 0.60\n")
    assert not agree("C 1.00e-07\n", "C 1.10e-07\n")
    assert not agree("converged: True\n", "converged: False\n")
    assert not agree("", "0.5\n")


def commands():
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_commands_that_run_elsewhere_are_on_the_page_and_name_files_that_exist():
    assert set(commands()) >= ELSEWHERE
    assert all((ROOT / line.split()[-1]).is_file() for line in ELSEWHERE)


@pytest.mark.parametrize("line", sorted(set(commands()) - ELSEWHERE))
def test_the_commands_work(line, capsys):
    program, *words = shlex.split(line)
    assert program == "obsfit"
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 0
    assert capsys.readouterr().out
