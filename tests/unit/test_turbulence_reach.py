"""The analysis of the reach: its numbers from a small ensemble, by another route."""

import re
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from obsfit_models.turbulence.ensemble import gather, run_ensemble

from obsfit.plot.runner import load_program

reach = load_program(Path(__file__).parents[2] / "analyses" / "turbulence" / "reach.py")
SMALL = reach.Run(0.1, 1.0, 12.0, 12.0, "black")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    chosen = reach.settings(SMALL, full=False, seed=3, fields=4)
    return gather(chosen, run_ensemble(chosen, base=tmp_path_factory.mktemp("reach")))


def test_rows_are_ratios_of_means_between_the_two_sets(small):
    ensemble = small
    table = reach.numbers(ensemble)
    assert list(table["omega_t"]) == list(reach.PATHS)
    first, second = ensemble.alm[:, 0, 0, -1, 2], ensemble.alm[:, 1, 0, -1, 2]
    power = np.mean([hp.alm2cl(a, b) for a, b in zip(first, second, strict=True)], axis=0)
    assert table["c_1"][-1] == pytest.approx(power[1], rel=1e-10)
    assert table["ratio_5"][-1] == pytest.approx(power[5] / power[1], rel=1e-10)
    z2 = ensemble.product[:, :, 0, :, 2, 2].mean(axis=(0, 1))
    assert table["running_path"][-1] == pytest.approx(3 * z2[-1] / (2 * 8.0), rel=1e-12)
    path = 3 * (z2[-1] - z2[-2]) / (2 * 4.0)
    assert table["mean_free_path"][-1] == pytest.approx(path, rel=1e-12)
    # Fick's dipole of the earlier sky: the excess is where particles came from against the gradient's flow.
    first, second = (ensemble.alm[:, one, 0, 1, 2] - path * ensemble.alm[:, one, 0, 1, 5] for one in (0, 1))
    power = np.mean([hp.alm2cl(a, b) for a, b in zip(first, second, strict=True)], axis=0)
    assert table["fick_ratio_3"][1] == pytest.approx(power[3] / power[1], rel=1e-10)


def test_share_is_that_of_m_zero_about_the_local_field(small):
    """Rotate the skies of each field by healpy so that its local field lies along z, and take m = 0."""
    ensemble = small
    table = reach.numbers(ensemble)
    own, whole = np.zeros(reach.LMAX + 1), np.zeros(reach.LMAX + 1)
    for index, axis in enumerate(ensemble.local_field[:, 0]):
        theta, phi = np.arccos(axis[2] / np.linalg.norm(axis)), np.arctan2(axis[1], axis[0])
        turned = [alm.copy() for alm in ensemble.alm[index, :, 0, -1, 2]]
        for alm in turned:
            hp.rotate_alm(alm, -phi, -theta, 0.0)
        own += np.real(turned[0][: reach.LMAX + 1] * turned[1][: reach.LMAX + 1])
        whole += hp.alm2cl(*turned) * (2 * np.arange(reach.LMAX + 1) + 1)
    for ell in (1, 2, 7):
        assert table[f"share_{ell}"][-1] == pytest.approx(own[ell] / whole[ell], rel=1e-8)


def test_published_table_is_complete():
    """What the page draws as the full run: all gyroradii that it has, at all times, with errors."""
    from astropy.table import Table

    table = Table.read(reach.PUBLISHED, format="ascii.ecsv")
    rows = reach.last_times(table)
    assert set(rows["gyroradius"]) <= {run.gyroradius for run in reach.RUNS}
    assert len(table) == len(rows) * len(reach.PATHS)
    assert np.all(rows["ratio_2_error"] > 0)
    assert np.all(rows["directions"] == 3072)


def test_page_says_what_the_table_says():
    """Each number with its error on the page of the reach, to the digits printed."""
    from astropy.table import Table

    page = (reach.PUBLISHED.parents[2] / "docs" / "turbulence-reach.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"<!-- (\w) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))
    table = Table.read(reach.PUBLISHED, format="ascii.ecsv")
    rows = reach.last_times(table)
    columns = {
        "A": ["mean_free_path", None, *(f"ratio_{ell}" for ell in (2, 3, 5, 8, 12))],
        "B": [f"share_{ell}" for ell in (1, 2, 3, 4, 5, 6, 8, 12)],
    }
    for block, names in columns.items():
        lines = [line for line in blocks[block].splitlines() if line.startswith("| 0")]
        assert len(lines) == len(rows)
        for line, row in zip(lines, rows, strict=True):
            cells = [cell for cell in line.split("|") if "±" in cell]
            assert len(cells) == len(names)
            for name, cell in zip(names, cells, strict=True):
                if name is None:
                    continue
                value, error = (float(part) for part in cell.split("±"))
                last = 10.0 ** -len(cell.split("±")[0].strip().partition(".")[2])
                assert value == pytest.approx(row[name], abs=0.501 * last + 1e-3 * abs(value))
                assert error == pytest.approx(row[f"{name}_error"], abs=0.501 * last + 1e-3 * abs(error))


def test_configuration_for_a_cluster_is_sound():
    """At 1e-5 of the scale: waves up to k r_L = 10, and settings that pass the checks before computing."""
    import tomllib

    from obsfit_models.turbulence.ensemble import EnsembleSettings, check_ensemble, ensemble_field

    from obsfit.configuration import read_settings

    raw = tomllib.loads((reach.PUBLISHED.parent / "reach_1e-5.toml").read_text(encoding="utf-8"))
    assert raw.pop("schema") == 1
    assert raw.pop("model") == "turbulent-displacement"
    chosen = read_settings(raw, EnsembleSettings)
    check_ensemble(chosen)
    assert 9 < ensemble_field(chosen, 0).k_max * 1e-5 <= 10
