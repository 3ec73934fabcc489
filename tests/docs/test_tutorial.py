"""The tutorial runs as printed, in one session and in order, and prints what stands below each block."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
# Run by test_examples.py, which also looks at what comes out.
ELSEWHERE = {"obsfit ensemble docs/examples/ensemble.toml"}


def test_each_step_runs_and_prints_what_is_told(tmp_path, read_steps, run_steps):
    """Sampled quantiles of 150 and more effective samples are repeated digit by digit with the same libraries."""
    steps = [step for step in read_steps(PAGE) if step["text"].strip() not in ELSEWHERE]
    python = [step["text"] for step in steps if step["kind"] == "python"]
    assert len(python) == PAGE.count("```python") >= 10
    for code in python:
        assert len([line for line in code.splitlines() if line.strip()]) <= 12, (
            "a step is to be taken in at a glance"
        )
    run_steps(steps, tmp_path)


def test_commands_that_run_elsewhere_are_on_the_page_and_name_files_that_exist(read_steps):
    assert {step["text"].strip() for step in read_steps(PAGE)} >= ELSEWHERE
    assert all((ROOT / line.split()[-1]).is_file() for line in ELSEWHERE)


def test_numbers_and_words_that_differ_are_found(agree):
    assert agree("p = 0.52\n", "p = 0.50\n")
    assert agree("C 1.00e-07 2\n", "C 1.04e-07 2\n")
    assert agree("log evidence: 600.4\n", "log evidence: 600.0\n")
    assert agree("sets 2, cpu_s 0.5\n", "sets 2, cpu_s 1.7\n")
    assert not agree("log evidence: 600.4\n", "log evidence: 594.0\n")
    assert not agree("p = 0.52\n", "p = 0.60\n")
    assert not agree("C 1.00e-07\n", "C 1.10e-07\n")
    assert not agree("converged: True\n", "converged: False\n")
    assert not agree("", "0.5\n")
