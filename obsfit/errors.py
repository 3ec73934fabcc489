"""Errors that name what is wrong, where, what was expected and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BadValue:
    """One offending place in a table: its row (1-based line of data), column, value and complaint."""

    row: int | None
    column: str | None
    value: object
    problem: str

    def __str__(self) -> str:
        place = [f"row {self.row}"] if self.row is not None else []
        place += [f"column {self.column}"] if self.column is not None else []
        head = ", ".join(place)
        return f"{head}: {self.problem}" if head else self.problem


class ObsfitError(Exception):
    """Base of all errors that a user can mend.

    Parameters
    ----------
    problem : str
        What is wrong, in one sentence.
    path : str or Path, optional
        The file concerned.
    row, column, value
        The place in the file and the offending value.
    expected : str
        What would have been right.
    remedy : str
        How to mend it.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
        expected: str = "",
        remedy: str = "",
    ) -> None:
        self.problem, self.path, self.row, self.column = problem, path, row, column
        self.value, self.expected, self.remedy = value, expected, remedy
        super().__init__(self._text())

    def _text(self) -> str:
        place = [str(self.path)] if self.path is not None else []
        place += [f"row {self.row}"] if self.row is not None else []
        place += [f"column {self.column}"] if self.column is not None else []
        lines = [f"{', '.join(place)}: {self.problem}" if place else self.problem]
        lines += [f"Expected {self.expected}."] if self.expected else []
        lines += [self.remedy] if self.remedy else []
        return "\n".join(lines)


class DataFormatError(ObsfitError):
    """A data file that cannot be understood; lists up to twenty bad rows at once.

    Parameters
    ----------
    problem, path, expected, remedy, row, column, value
        As `ObsfitError`.
    bad : sequence of BadValue
        Every bad place found; the text shows the first `SHOWN`.
    """

    exit_code = 3
    SHOWN = 20

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
        expected: str = "",
        remedy: str = "",
        bad: Sequence[BadValue] = (),
    ) -> None:
        self.bad = tuple(bad)
        if self.bad and row is None and column is None:
            row, column, value = self.bad[0].row, self.bad[0].column, self.bad[0].value
        super().__init__(problem, path=path, row=row, column=column, value=value, expected=expected, remedy=remedy)

    def _text(self) -> str:
        if len(self.bad) < 2:
            return super()._text()
        lines = [f"{self.path}: {self.problem} ({len(self.bad)} places)"]
        lines += [f"  {entry}" for entry in self.bad[: self.SHOWN]]
        if len(self.bad) > self.SHOWN:
            lines.append(f"  ... and {len(self.bad) - self.SHOWN} more")
        lines += [f"Expected {self.expected}."] if self.expected else []
        lines += [self.remedy] if self.remedy else []
        return "\n".join(lines)


class ModelDomainError(ObsfitError):
    """A model was asked for parameters or rigidities outside the domain where it is valid."""


class ConvergenceError(ObsfitError):
    """A sampler or an iteration stopped before it converged; the message carries its numbers."""


class PluginError(ObsfitError):
    """A model plug-in is missing, cannot be imported or does not honour the protocol."""

    exit_code = 2


class ConfigurationError(ObsfitError):
    """A configuration file or a command-line setting is wrong."""

    exit_code = 2
