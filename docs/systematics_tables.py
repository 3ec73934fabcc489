"""Write the tables of docs/systematics.md from the results of the studies in this folder.

Run ``obsfit study analyses/systematics/NAME.toml`` for each of them first; a study without results leaves its tables as
they are. Tables stand between the lines ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

import sys
from pathlib import Path

import numpy as np
from astropy.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "systematics"
PAGE = ROOT / "docs" / "systematics.md"


class Study:
    """Results of one study."""

    def __init__(self, name):
        self.numbers, self.nulls, self.covariances, self.refusals = (
            Table.read(RESULTS / name / f"{part}.ecsv") for part in ("numbers", "nulls", "covariances", "refusals")
        )

    def values(self, scan):
        """Labels of a scan, in order."""
        rows = self.numbers[self.numbers["scan"] == scan]
        return list(dict.fromkeys(str(value) for value in rows["value"]))

    @property
    def methods(self):
        """Names of the methods, in order."""
        return list(dict.fromkeys(str(method) for method in self.numbers["method"]))

    def row(self, scan, value, method, number):
        """One row of the numbers, or None where the method refused."""
        n = self.numbers
        found = n[(n["scan"] == scan) & (n["value"] == value) & (n["method"] == method) & (n["number"] == number)]
        return found[0] if len(found) else None

    def vector(self, scan, value, method, column):
        """(delta_0h, delta_6h)."""
        rows = [self.row(scan, value, method, number) for number in ("delta_0h", "delta_6h")]
        return np.array([float(row[column]) for row in rows])

    def flagged(self, scan, value, method, null):
        """Share of mocks in which a null test fell below 1 %, as text."""
        n = self.nulls
        found = n[(n["scan"] == scan) & (n["value"] == value) & (n["method"] == method) & (n["null"] == null)]
        return f"{found[0]['flagged']:.2f}" if len(found) else "-"


def markdown(header, rows):
    """Return a table as text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def amplitudes(study, scan, what):
    """Noise-free and predicted amplitude over the true one, for each value and method."""
    rows = []
    for value in study.values(scan):
        cells = []
        for method in study.methods:
            row = study.row(scan, value, method, "A_1")
            cells.append(
                "refused" if row is None
                else f"{row['noise_free'] / row['truth']:.3f} ({row['predicted'] / row['truth']:.3f})"
            )  # fmt: skip
        rows.append([value, *cells])
    return markdown([what, *study.methods], rows)


def labels(study, scan):
    """Noise-free amplitude over the true one and turn of the phase."""
    rows = []
    for value in study.values(scan):
        cells = []
        for method in study.methods:
            amplitude, phase = (study.row(scan, value, method, number) for number in ("A_1", "alpha_1"))
            ratio = amplitude["noise_free"] / amplitude["truth"]
            turn = (phase["noise_free"] - phase["truth"] + 180.0) % 360.0 - 180.0
            cells.append(f"{ratio:.3f}, {turn:+.1f}" if ratio > 0.01 else f"{ratio:.3f}")
        rows.append([value, *cells])
    return markdown([scan, *study.methods], rows)


def biases(study, scan, nulls, still=None):
    """Effect on the dipole: predicted, on expected counts and in mocks, in 1e-5, and the share of flags."""
    rows = []
    for value in study.values(scan):
        for method in study.methods:
            if study.row(scan, value, method, "A_1") is None:
                rows.append([value, method, *["refused"] * (3 + len(nulls))])
                continue
            free = study.vector(scan, value, method, "noise_free") - study.vector(scan, value, method, "predicted")
            if still is not None:
                free -= study.vector(*still, method, "noise_free") - study.vector(*still, method, "predicted")
            mocks, error = (study.vector(scan, value, method, column) for column in ("bias", "bias_error"))
            effect = study.vector(scan, value, method, "breathing")
            rows.append(
                [value, method, f"{1e5 * np.hypot(*effect):.2f}", f"{1e5 * np.hypot(*free):.2f}",
                 f"{1e5 * np.hypot(*mocks):.1f} ({1e5 * np.hypot(*error):.1f})",
                 *(study.flagged(scan, value, method, null) for null in nulls)]
            )  # fmt: skip
    header = [scan, "method", "predicted", "noise-free", "mocks (error)", *(f"flagged, {null}" for null in nulls)]
    return markdown(header, rows)


def covariances(study):
    """Likelihood-ratio tests and coverage of the amplitude."""
    rows = []
    for row in study.covariances:
        amplitude = study.row(row["scan"], row["value"], row["method"], "Re a_11")
        rows.append(
            [str(row["value"]), str(row["method"]), str(row["mocks"]), f"{row['ratio']:.3f}",
             f"{row['statistic']:.1f} / {row['freedom']}", f"{row['probability']:.2f}",
             f"{amplitude['coverage_68']:.3f}", f"{amplitude['coverage_95']:.3f}"]
        )  # fmt: skip
    header = ["site", "method", "mocks", "scatter / error", "likelihood ratio / freedom", "probability",
              "Re a_11 in 68 %", "Re a_11 in 95 %"]  # fmt: skip
    return markdown(header, rows)


def coverage(study):
    """Coverage and pulls of the two components of the dipole, over all points, by method."""
    rows = []
    components = study.numbers[[str(name).startswith("delta") for name in study.numbers["number"]]]
    for method in study.methods:
        own = components[components["method"] == method]
        columns = ("coverage_68", "coverage_95", "pull_width", "truth_in_68", "truth_in_95")
        rows.append([method, str(own["mocks"].sum() // 2), *(f"{np.mean(own[name]):.3f}" for name in columns)])
    header = ["method", "mocks", "prediction in 68 %", "in 95 %", "width of pulls", "truth in 68 %", "in 95 %"]
    return markdown(header, rows)


def refused(study):
    """What was refused and why."""
    methods: dict[tuple[str, str, str], list[str]] = {}
    for row in study.refusals:
        methods.setdefault((str(row["scan"]), str(row["value"]), str(row["why"])), []).append(str(row["method"]))
    rows = [[scan, value, ", ".join(names), why] for (scan, value, why), names in methods.items()]
    return markdown(["scan", "value", "methods", "why"], rows)


def powers(study, scan):
    """Error of A_1 and of C_1 to C_3 over the truth, in mocks, with coverage of the truth."""
    rows = []
    for value in study.values(scan):
        for method in study.methods:
            cells = []
            for number in ("A_1", "C_1", "C_2", "C_3"):
                row = study.row(scan, value, method, number)
                cells.append(
                    "-" if row is None
                    else f"{row['mean'] / row['truth']:.2f} ± {row['scatter'] / row['truth']:.2f} "
                         f"({row['predicted'] / row['truth']:.2f})"
                )  # fmt: skip
            rows.append([value, method, *cells])
    return markdown([scan, "method", "A_1 / truth", "C_1 / truth", "C_2 / truth", "C_3 / truth"], rows)


TABLES = {
    "latitude": ("latitude_and_cut", lambda s: amplitudes(s, "latitude", "latitude")),
    "cut": ("latitude_and_cut", lambda s: amplitudes(s, "zenith cut", "zenith cut")),
    "coverage": ("latitude_and_cut", coverage),
    "cross-talk": ("cross_talk", lambda s: amplitudes(s, "at 20 deg", "sky, at 20 deg")),
    "cross-talk-pole": ("cross_talk", lambda s: amplitudes(s, "at the pole", "sky, at the pole")),
    "cross-talk-lmax": ("cross_talk", lambda s: amplitudes(s, "largest multipole fitted", "largest l fitted")),
    "asymmetry": ("east_west_asymmetry", lambda s: amplitudes(s, "asymmetry", "a")),
    "tilt": ("east_west_asymmetry", lambda s: amplitudes(s, "tilt to the East", "tilt")),
    "breathing": (
        "breathing",
        lambda s: biases(
            s, "strength, slope in zenith angle", ("anti-sidereal", "extended-sidereal"),
            ("strength, slope in zenith angle", "0.0"),
        ),
    ),
    "slopes": (
        "breathing",
        lambda s: biases(
            s, "direction of the slope", ("anti-sidereal", "extended-sidereal"),
            ("strength, slope in zenith angle", "0.0"),
        ),
    ),
    "clocks": (
        "breathing",
        lambda s: biases(
            s, "clock", ("anti-sidereal", "extended-sidereal"), ("strength, slope in zenith angle", "0.0")
        ),
    ),
    "epochs": ("epochs", lambda s: biases(s, "strength", ("epochs",), ("strength", "0.0"))),
    "gaps": ("gaps_and_seasons", lambda s: amplitudes(s, "gap in sidereal time", "gap")),
    "gaps-refused": ("gaps_and_seasons", refused),
    "exposure": ("gaps_and_seasons", lambda s: amplitudes(s, "exposure, sidereal day", "exposure")),
    "season": (
        "gaps_and_seasons",
        lambda s: biases(
            s, "exposure, season", ("anti-sidereal", "extended-sidereal"), ("exposure, season", "0.0")
        ),
    ),
    "half-bins": (
        "wrong_labels", lambda s: labels(s, "left edge of a time bin for its middle, number of bins")
    ),
    "axes": ("wrong_labels", lambda s: labels(s, "clock and axes")),
    "axes-pole": ("wrong_labels", lambda s: labels(s, "clock and axes at the pole")),
    "two": ("two_observatories", lambda s: powers(s, "observatories")),
    "two-lmax": ("two_observatories", lambda s: powers(s, "both, largest multipole fitted")),
    "covariance": ("covariance", covariances),
}  # fmt: skip


def main():
    """Replace the tables whose studies have results."""
    page = PAGE.read_text(encoding="utf-8")
    for name, (study, make) in TABLES.items():
        if not (RESULTS / study / "numbers.ecsv").exists():
            print(f"{name}: no results of {study}", file=sys.stderr)
            continue
        start = f"<!-- table {name} -->\n"
        before, found, rest = page.partition(start)
        if not found:
            sys.exit(f"{PAGE.name}: no place for table {name}, expected a line {start}")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{start}{make(Study(study))}\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
