"""The tables behind the figures against the papers' numbers and against routes that share no code with them."""

from fractions import Fraction
from math import factorial

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from mpmath import mp, mpf

from obsfit.plot import runner

KEYS = ("a14-figure1", "am17-figure6", "am17-figure8", "astra-figure1")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    analyses = runner.discover(runner.find_analyses())
    entries = runner.run(analyses, folder, seed=1, only=KEYS, environment={})
    return {entry.key: (entry, folder / entry.key) for entry in entries}


def table(results, key):
    entry, folder = results[key]
    return Table.read(folder / entry.table, format="ascii.ecsv")


@pytest.mark.parametrize("key", KEYS)
def test_the_figure_is_made_with_its_files_and_every_expected_number_is_compared(results, key):
    entry, folder = results[key]
    assert entry.error == ""
    assert (folder / entry.image).read_bytes().startswith(b"\x89PNG")
    assert (folder / entry.svg).read_text().startswith("<?xml")
    assert entry.comparisons
    assert all(comparison.agrees is not None for comparison in entry.comparisons)
    assert all(source.sha256 for source in entry.data)


def test_all_numbers_agree_but_the_noise_that_e9_explains(results):
    outside = [
        (key, comparison.quantity)
        for key, (entry, _) in results.items()
        for comparison in entry.comparisons
        if not comparison.agrees
    ]
    assert outside == [("astra-figure1", "noise of HAWC")]


def test_e9_printed_noise_of_hawc_belongs_to_other_events(results):
    """4 pi f_sky / N: 4.6e10 events give 1.9e-10, not the printed 1.8e-10, which 4.9e10 give."""
    (noise,) = [c for c in results["astra-figure1"][0].comparisons if c.quantity == "noise of HAWC"]
    assert noise.ours == pytest.approx(4 * np.pi * 0.7 / 4.6e10, rel=1e-12)
    assert f"{noise.ours:.1e}" == "1.9e-10"
    assert f"{noise.ours * 4.6 / 4.9:.1e}" == f"{noise.paper:.1e}" == "1.8e-10"


def test_absent_measurements_are_said_to_be_absent(results):
    for key, names in (("a14-figure1", ["ICECUBE_2013"]), ("astra-figure1", ["ICECUBE_2013", "HAWC_2014"])):
        entry = results[key][0]
        assert entry.status == "needs file"
        for name in names:
            assert any(f"OBSFIT_{name}_SPECTRUM" in deviation for deviation in entry.deviations)


def cascade(ell, nu_t):
    """Eq. (20) of A14 with the exponential outside the product, for nu_l = nu l (l + 1), to 60 digits."""
    with mp.workdps(60):
        total = mpf(0)
        for n in range(1, ell + 1):
            weight = Fraction(
                (-1) ** (n - 1) * (2 * n + 1) * n * (n + 1) * factorial(ell - 1) * factorial(ell),
                factorial(ell - n) * factorial(ell + n + 1),
            )
            total += mpf(weight.numerator) / weight.denominator * mp.exp(-n * (n + 1) * mpf(nu_t))
        return 3 * total / (2 * ell + 1)


def test_curves_of_a14_figure_1(results):
    """Double precision; the alternating sum is evaluated with 60 digits."""
    rows = table(results, "a14-figure1")
    for column, nu_t in (("ratio_nu_t_1", "1"), ("ratio_nu_t_0_1", "0.1")):
        expected = [float(cascade(int(ell), nu_t) / cascade(1, nu_t)) for ell in rows["ell"]]
        np.testing.assert_allclose(rows[column], expected, rtol=1e-12)
    ell = np.array(rows["ell"], dtype=float)
    np.testing.assert_allclose(rows["ratio_asymptote"], 18 / ((2 * ell + 1) * (ell + 1) * (ell + 2)), rtol=1e-13)
    np.testing.assert_allclose(rows["c_ell_nu_t_1"] / rows["c_ell_nu_t_1"][0], rows["ratio_nu_t_1"], rtol=1e-13)


def test_nu_t_of_one_is_near_the_asymptote(results):
    """As the paper draws it: 2 percent at l = 2, 8 percent at l = 20."""
    rows = table(results, "a14-figure1")
    distance = 1 - rows["ratio_nu_t_1"] / rows["ratio_asymptote"]
    assert distance[1] == pytest.approx(0.018, abs=0.002)
    assert distance[19] == pytest.approx(0.075, abs=0.01)


def test_points_are_freed_from_window_and_filter(results):
    """Typed from the data file: C_l and window of l = 2 and l = 10; a map without m = 0 lacks 1/(2l + 1) of C_l."""
    rows = table(results, "a14-figure1")
    assert rows["hawc_icecube"][1] == pytest.approx(2.7828e-07 / 0.98863 * 5 / 4, rel=1e-9)
    assert rows["hawc_icecube"][9] == pytest.approx(9.7358e-10 / 0.80798 * 21 / 20, rel=1e-9)
    # Two modes at l = 1: an exponential distribution.
    assert rows["hawc_icecube_low"][0] == pytest.approx(-rows["hawc_icecube"][0] / np.log(0.16), rel=1e-9)
    assert rows["hawc_icecube_high"][0] == pytest.approx(-rows["hawc_icecube"][0] / np.log(0.84), rel=1e-9)


def test_figure_6_shows_table_1(results):
    rows = table(results, "am17-figure6")
    for observatory, energy, amplitude, error, phase, phase_error in (
        ("IceCube", 240, 1.1e-4, 0.5e-4, 286, 29),
        ("ARGO-YBJ", 0.98, 6.1e-4, 0.1e-4, 42, 1),
        ("K-Grande", 33000, 120e-4, 90e-4, 254, 42),
        ("Milagro", 6, 20e-4, 10e-4, 10, 5),
    ):
        (row,) = rows[(rows["observatory"] == observatory) & np.isclose(rows["energy"], energy)]
        found = [row[name] for name in ("energy", "amplitude", "amplitude_error", "phase", "phase_error")]
        np.testing.assert_allclose(found, [energy, amplitude, error, phase, phase_error], rtol=1e-9)
        assert row["predicted_amplitude"] == pytest.approx(6.1e-4 * (energy / 0.98) ** (1 / 3), rel=1e-9)


def eq_25(dec_min_deg, dec_max_deg):
    d1, d2 = np.radians([dec_min_deg, dec_max_deg])
    s1, s2, c1, c2 = np.sin(d1), np.sin(d2), np.cos(d1), np.cos(d2)
    return (d1 - d2 + c1 * s1 - c2 * s2) / (2 * (s1 - s2))


def east_west_step(zenith_deg):
    x = np.radians(zenith_deg)
    return (2 * x - np.sin(2 * x)) / (2 * np.pi * (1 - np.cos(x)))


@pytest.mark.parametrize(
    ("observatory", "energy", "amplitude", "phase_deg", "divisor"),
    [
        ("IceCube", 13, 7.9e-4, 51, eq_25(-90, -25)),
        ("IceTop", 1600, 15.5e-4, 284, eq_25(-90, -35)),
        ("Tibet-ASgamma", 300, 6.0e-4, 267, eq_25(-30, 90)),
        ("ARGO-YBJ", 7.8, 11.6e-4, 29, eq_25(-15, 75)),
        ("EAS-TOP", 370, 6.4e-4, 204, east_west_step(40)),
    ],
)
def test_figure_8_is_rescaled_and_freed_from_the_sun(results, observatory, energy, amplitude, phase_deg, divisor):
    """Closed forms of Eqs. (23) and (25); velocity by astropy's frames."""
    apex = SkyCoord(l=47.9 * u.deg, b=23.8 * u.deg, frame="galactic").icrs.cartesian.xyz.value
    sun = 4.7 * 18.0 / 299792.458 * apex[:2]
    rows = table(results, "am17-figure8")
    (row,) = rows[(rows["observatory"] == observatory) & np.isclose(rows["energy"], energy)]
    angle = np.radians(phase_deg)
    expected = amplitude / divisor * np.array([np.cos(angle), np.sin(angle)]) - sun
    np.testing.assert_allclose([row["delta_0h"], row["delta_6h"]], expected, rtol=0, atol=1e-9)


def test_user_files_complete_the_figures(tmp_path):
    """Made-up points: a file of the user's turns "needs file" into "reproduced" and is named among the data."""
    points = tmp_path / "mine.ecsv"
    points.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: measurement, datatype: string}\n"
        "# - {name: ell, datatype: int64}\n# - {name: c_ell, datatype: float64}\n"
        "# meta: {record: spectrum, kind: pseudo, filtered: true, energy: 20 TeV, dec_min: -90 deg, dec_max: -25 deg}\n"
        "# schema: astropy-2.0\nmeasurement ell c_ell\nmine-20TeV 1 1e-7\nmine-20TeV 2 5e-8\nmine-20TeV 5 1e-9\n"
    )
    environment = {"OBSFIT_ICECUBE_2013_SPECTRUM": str(points), "OBSFIT_HAWC_2014_SPECTRUM": str(points)}
    analyses = runner.discover(runner.find_analyses())
    entries = runner.run(
        analyses, tmp_path / "results", seed=1, only=["a14-figure1", "astra-figure1"], environment=environment
    )
    for entry in entries:
        assert (entry.status, entry.error) == ("reproduced", "")
        assert str(points) in {source.path for source in entry.data}
