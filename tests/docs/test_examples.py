"""The example configurations of the documentation run as they stand and give what their comments promise."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "docs/examples").glob("*.toml"))

# Wide enough for another seed and shorter chains; a wrong unit, window or axis leaves them by far.
EXPECTED = {
    "spectrum": {"exponent": (0.1, 0.5), "log10_noise": (0.15, 0.4)},
    "dipoles": {
        "log10_background": (-3.7, -2.6),
        "perpendicular_ratio": (0.0, 0.08),
        "spectral_index": (2.65, 2.75),
    },
}


def test_there_is_an_expectation_for_each_example():
    assert [path.stem for path in EXAMPLES] == sorted(EXPECTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_and_its_medians_are_where_they_belong(path, tmp_path):
    copy = Path(shutil.copy(path, tmp_path))
    process = subprocess.run(
        [sys.executable, "-c", f"import obsfit.cli; obsfit.cli.main(['fit', {str(copy)!r}, '--json'])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert (Path(result["folder"]) / "predictive.png").read_bytes().startswith(b"\x89PNG")
    medians = {row["name"]: row["median"] for row in result["parameters"]}
    for name, (low, high) in EXPECTED[path.stem].items():
        assert low < medians[name] < high
