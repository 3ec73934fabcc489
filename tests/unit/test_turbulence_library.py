"""The analysis of the library: its numbers by another route, the comparison of designs, and what the page says."""

import re
from dataclasses import replace
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.table import Table
from obsfit_models.turbulence.design_library import DesignLibrary, StationarySkies
from obsfit_models.turbulence.sky_design import DesignSettings, design_points, design_task, expected_path

from obsfit.plot.runner import load_program

deep = load_program(Path(__file__).parents[2] / "analyses" / "turbulence" / "deep.py")
SIZE = hp.Alm.getsize(deep.LMAX)
ELL, M = hp.Alm.getlm(deep.LMAX)


def random_alm(rng, *shape):
    """Random a_lm of real functions with power of (l + 1)^-3."""
    value = rng.normal(size=(*shape, SIZE)) + 1j * rng.normal(size=(*shape, SIZE)) * (M > 0)
    return value * np.where(M > 0, 1.0, np.sqrt(2.0)) * (ELL + 1.0) ** -1.5 / np.sqrt(2)


def test_power_is_between_sets_and_over_gradients():
    rng = np.random.default_rng(1)
    alm = random_alm(rng, 3, 2, 2, 3)
    skies = StationarySkies(np.full((3, 2), 0.5), np.array([0.1, 1.0]), np.ones((3, 2)), alm, np.ones((3, 2, 2)))
    found = deep.sky_power(skies)
    expected = sum(hp.alm2cl(alm[1, 0, 0, i], alm[1, 0, 1, i]) for i in range(3))
    np.testing.assert_allclose(found[1, 0], expected, rtol=1e-12)
    library = DesignLibrary(
        skies.point, skies.gyroradius, alm[:, :, 0], np.ones((3, 2, 2)), np.zeros((2, deep.LMAX + 1))
    )
    unit = np.full((3, 2), 2.0)
    expected = sum(hp.alm2cl(alm[2, 1, 0, i]) for i in range(3)) / 4
    np.testing.assert_allclose(deep.library_power(library, unit)[2, 1], expected, rtol=1e-12)


def test_rows_are_ratios_of_means_and_paths_are_slopes():
    rng = np.random.default_rng(2)
    power, early = rng.uniform(1, 2, size=(2, 5, 2, deep.LMAX + 1))
    settings = DesignSettings(seed=1, fields=5, mean_free_paths=(2.0, 4.0))
    results = [
        {"time": np.full((2, 1, 2), 100.0) * [2, 4], "product": rng.uniform(1, 2, size=(2, 1, 2, 2)) * 1e4}
        for _ in range(5)
    ]
    path = deep.transport(settings, results)
    table = deep.numbers("design", np.array([0.1, 1.0]), power, early, path)
    assert table["ratio_4"][1] == pytest.approx(power[:, 1, 4].mean() / power[:, 1, 1].mean(), rel=1e-12)
    assert table["early_4"][0] == pytest.approx(early[:, 0, 4].mean() / early[:, 0, 1].mean(), rel=1e-12)
    both = deep.decade_ratios("design", np.array([0.2, 0.5]), power)
    assert list(both) == ["design 1e-1"]
    total = power.sum(axis=(0, 1))
    assert both["design 1e-1"]["ratio"][3] == pytest.approx(total[5] / total[1], rel=5e-3)  # three digits
    # <r^2> = z^2 + 2 (x^2 + y^2) / 2 grows by 2 tr K dt; an expected path is 100 here, and 3 K / c is in units of it.
    squares = results[3]["product"][0, 0] @ [1.0, 2.0]
    assert path[3, 0] == pytest.approx(3 * (squares[1] - squares[0]) / 2 / 200.0 / 100.0, rel=1e-12)


def test_the_overlap_of_equal_designs_is_none_and_of_unequal_ones_is_seen():
    rng = np.random.default_rng(3)

    def fields(number, factor=1.0):
        """Powers that scatter by 0.5 in the logarithm, common to all multipoles and own."""
        own = np.exp(0.5 * rng.normal(size=(number, deep.LMAX + 1)) + 0.5 * rng.normal(size=(number, 1)))
        own[:, 3] *= factor
        return own * (np.arange(deep.LMAX + 1) + 1.0) ** -3

    # Averages over bands hold half the power from l = 4 on, in the wide design and where the deep one was averaged.
    lost = np.where(np.arange(deep.LMAX + 1) < 4, 1.0, 0.5)
    middle = fields(40)
    found = deep.overlap(fields(400) * lost, fields(30), middle, middle * lost)
    assert found["what"] == ["C_1", "C_2 / C_1", "C_3 / C_1", "C_4 / C_1", "C_5 / C_1"]
    np.testing.assert_allclose(found["band"], [0, 0, 0, np.log(0.5), np.log(0.5)], atol=1e-4)
    assert np.max(found["band_error"]) < 1e-4
    # Five standard deviations of ten numbers: false alarm 6e-6. Errors are about
    # sqrt(2 (e^0.25 - 1) / 30) = 0.14; as jackknives of 30 fields they are known to a factor of two or three.
    for name, expected in (("difference", 0.0), ("stored", -np.array(found["band"]))):
        difference, error = np.array(found[name]), np.array(found[f"{name}_error"])
        assert np.all(np.abs(difference - expected) < 5 * error)
        assert np.all((error > 0.05) & (error < 0.4))
    assert found["chance"] > 1e-4  # false alarm 1e-4, somewhat more with a covariance of 40 fields
    tripled = fields(40, factor=3.0)
    found = deep.overlap(fields(400), fields(30), tripled, tripled)
    assert found["difference"][2] == pytest.approx(np.log(3), abs=5 * found["difference_error"][2])
    assert found["chance"] < 1e-6
    assert found["fields"] == [400, 30, 40]


def test_displacements_alone_are_compared_at_the_time_asked_for():
    rng = np.random.default_rng(4)
    results = [{"alm": random_alm(rng, 2, 2, 2, 6)} for _ in range(3)]
    found = deep.displacement_power(results, np.full((3, 2), 4.0), 0)
    expected = sum(hp.alm2cl(results[2]["alm"][1, 0, 0, i], results[2]["alm"][1, 1, 0, i]) for i in range(3)) / 16
    np.testing.assert_allclose(found[2, 1], expected, rtol=1e-12)


def test_a_field_followed_at_one_gyroradius_only_has_the_power_of_its_result():
    """A band of the same gyroradius twice: its average is its middle, and both are what the design made of it."""
    settings = DesignSettings(
        seed=7, fields=2, gyroradius=(0.1, 1.0), bands_per_decade=1, per_band=1, nside=4, lmax=deep.LMAX, sets=2,
        turbulent_share=(0.5, 1.0), mean_free_paths=(0.5, 1.0),
    )  # fmt: skip
    share, index = design_points(settings)[1]
    result = design_task(settings, share, index, 1)
    radius = float(settings.followed[0, 0])
    found = deep.band_task(settings, np.full((1, 2), radius), "bands", 1)
    np.testing.assert_allclose(found["mean"], found["middle"], rtol=1e-12)
    unit = np.array([[radius * expected_path(radius, share, index)]])
    np.testing.assert_allclose(deep.displacement_power([result], unit, 0)[0], found["middle"], rtol=1e-3)


def test_designs_are_compared_in_the_turbulence_that_they_share():
    chosen = [deep.design_settings(name) for name in deep.DESIGNS]
    ranges = deep.common_ranges(*chosen)
    np.testing.assert_allclose(ranges, [[0.5, 1.5], [1.0, 1.8]])
    points = np.array([[0.49, 1.6], [0.5, 1.5], [0.8, 1.81], [1.0, 1.8], [0.7, 1.6]])
    assert deep.inside(points, ranges).tolist() == [False, True, False, True, True]
    # The last time of one is the first of the other, in expected mean free paths.
    assert chosen[0].mean_free_paths[-1] == chosen[1].mean_free_paths[0]
    other = replace(chosen[0], turbulent_share=(0.2, 0.6))
    np.testing.assert_allclose(deep.common_ranges(other, chosen[1])[:, 0], [0.5, 0.6])


def test_page_and_table_say_the_same():
    """Each number with its error on the page of the library, to the digits printed."""
    page = (deep.HERE.parents[1] / "docs" / "turbulence-library.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"<!-- (\w) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))
    table = Table.read(deep.PUBLISHED, format="ascii.ecsv")
    for block, name in zip("AB", deep.DESIGNS, strict=True):
        rows = table[table["design"] == name]
        lines = [line for line in blocks[block].splitlines() if line[2:3].isdigit()]
        assert len(lines) == len(rows)
        for line, row in zip(lines, rows, strict=True):
            radius, *cells = (cell for cell in line.strip("| ").split("|"))
            assert float(radius) == pytest.approx(row["gyroradius"], rel=0.006)
            for column, cell in zip(("path", *(f"ratio_{ell}" for ell in (2, 3, 4, 5, 6, 8))), cells, strict=True):
                value, error = (float(part) for part in cell.split("±"))
                last = 10.0 ** -len(cell.split("±")[0].strip().partition(".")[2])
                assert value == pytest.approx(row[column], abs=0.501 * last + 1e-3 * abs(value))
                assert error == pytest.approx(row[f"{column}_error"], abs=0.501 * last + 1e-3 * abs(error))
    both = table.meta["overlap"]
    assert f"χ² = {both['chi_square']:.1f} for {len(both['what'])} numbers" in page
    fields = deep.design_settings(deep.DESIGNS[1]).fields
    assert set(table["fields"][table["design"] == deep.DESIGNS[1]]) == {fields}
