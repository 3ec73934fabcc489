"""Runs the steps of a page of the documentation one after the other, as its reader would: `conftest.py` calls it.

Standard input is a JSON list of steps: {"kind": "python", "text": ...} goes into one session, {"kind": "file",
"name": ..., "text": ...} is written, {"kind": "sh", "text": ...} is run line by line. Standard output is the JSON list
of what each printed. All commands of obsfit run in this one process, which spares its start for each of them.
"""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

REFUSED = "obsfit: "
"""How the message of a command begins that fails."""


def run_python(text: str, names: dict[str, Any]) -> str:
    """Return what a block prints in the session of `names`."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(text, "page", "exec"), names)
    return output.getvalue()


def run_obsfit(words: list[str]) -> str:
    """Return what a command prints, or its message if it fails."""
    from obsfit import cli

    output, messages, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(messages):
        try:
            cli.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    told = messages.getvalue()
    if code:
        return told[told.index(REFUSED) :]
    # A warning is no failure; it is for who reads a failing test.
    sys.stderr.write(told)
    return output.getvalue()


def run_shell(text: str) -> str:
    """Return what a block of commands prints."""
    lines = [line.split("  #")[0].strip() for line in text.splitlines() if line.strip()]
    if not set("&|;<>$") & set(text) and all(line.startswith("obsfit ") for line in lines):
        return "".join(run_obsfit(shlex.split(line)[1:]) for line in lines)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", text], env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def main() -> None:
    """Run the steps of standard input in the working directory."""
    names: dict[str, Any] = {}
    printed = []
    for step in json.load(sys.stdin):
        if step["kind"] == "file":
            Path(step["name"]).parent.mkdir(parents=True, exist_ok=True)
            Path(step["name"]).write_text(step["text"], encoding="utf-8")
            printed.append("")
        else:
            printed.append(
                run_python(step["text"], names) if step["kind"] == "python" else run_shell(step["text"])
            )
    json.dump(printed, sys.stdout)


if __name__ == "__main__":
    main()
