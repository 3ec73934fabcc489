"""A study of 1000 mock observations by every method, from the sky to the tables, in two processes and in one."""

import tempfile
from pathlib import Path

from case import Case

from obsfit.study.methods import METHODS
from obsfit.study.observations import DetectorSettings, SkySettings
from obsfit.study.systematics import SystematicsConfiguration, run_systematics

MOCKS = 1000
CONFIGURATION = SystematicsConfiguration(
    1, (DetectorSettings("A", "20 deg", "50 deg"),), tuple(METHODS), SkySettings((8e-4, 0.0, 0.0)),
    realisations=MOCKS, output="study",
)  # fmt: skip


def study(workers):
    """Return a route through the whole study, as text: expected and Poisson counts, all methods, statistics."""

    def route():
        with tempfile.TemporaryDirectory() as folder:
            numbers = run_systematics(CONFIGURATION, base=Path(folder), workers=workers).numbers
        return numbers.pformat(max_lines=-1, max_width=-1)

    return route


CASES = [
    Case(
        f"study of {MOCKS} mocks by {len(METHODS)} methods, 36 x 72", study(2), study(1), "one process", target=300.0,
        repeats=1, agree=lambda a, b: a == b,
    )
]  # fmt: skip
