"""The flow and the numbers behind the sketches of AM17, Figs. 10 and 11, by closed forms and another integrator."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy.integrate import solve_ivp

from obsfit.plot import runner
from obsfit.plot.report import read_expected

FOLDER = Path(__file__).parents[2] / "analyses" / "ahlers_mertsch_2017"
AU_M, YEAR_S = 1.495978707e11, 365.25 * 86400.0
KM_S_IN_AU_PER_YEAR = 1e3 * YEAR_S / AU_M


@pytest.fixture(scope="module")
def heliosphere():
    return runner.load_program(FOLDER / "_heliosphere.py")


@pytest.fixture(scope="module")
def figure10():
    return runner.load_program(FOLDER / "figure10.py")


@pytest.fixture(scope="module")
def figure11():
    return runner.load_program(FOLDER / "figure11.py")


def potential(x, y, a):
    """Uniform stream and point source; its gradient is the velocity over U."""
    return x - a**2 / np.hypot(x, y)


@pytest.mark.parametrize(("rigidity", "field"), [(1.0, 1.0), (10.0, 1.0), (1.0, 3.0), (10.0, 10.0)])
def test_gyroradius_is_rigidity_over_field_in_si(heliosphere, rigidity, field):
    metres = rigidity * 1e12 / (field * 1e-10 * 299792458.0)
    assert heliosphere.gyroradius_au(rigidity, field) == pytest.approx(metres / AU_M, rel=1e-9)


def test_a_tv_particle_in_a_microgauss_turns_within_223_au(heliosphere):
    assert f"{heliosphere.gyroradius_au(1.0, 1.0):.0f}" == "223"


def test_the_flow_is_the_gradient_of_its_potential(heliosphere):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(90, 500, 50) * rng.choice([-1, 1], 50), rng.uniform(20, 300, 50)
    h, a = 1e-3, heliosphere.NOSE
    slope_x = (potential(x + h, y, a) - potential(x - h, y, a)) / (2 * h)
    slope_y = (potential(x, y + h, a) - potential(x, y - h, a)) / (2 * h)
    # Rounding of values of 500 over the step, 500 * 1e-16 / 1e-3.
    np.testing.assert_allclose(heliosphere.velocity(x, y), [slope_x, slope_y], atol=1e-9)


def test_it_has_no_sources_but_the_sun(heliosphere):
    """Divergence in three dimensions about the axis: d v_x / dx + d (y v_y) / dy / y."""
    x, y, h = np.array([-200.0, -100.0, 50.0, 400.0]), np.array([30.0, 90.0, 150.0, 10.0]), 1e-2
    along = (heliosphere.velocity(x + h, y)[0] - heliosphere.velocity(x - h, y)[0]) / (2 * h)
    across = ((y + h) * heliosphere.velocity(x, y + h)[1] - (y - h) * heliosphere.velocity(x, y - h)[1]) / (
        2 * h * y
    )
    # Second derivatives leave h^2 / r^3 of the largest slope, 1e-10.
    np.testing.assert_allclose(along + across, 0.0, atol=1e-8)


def test_the_flow_rests_at_the_nose_and_runs_along_the_heliopause(heliosphere):
    nose = heliosphere.velocity(np.array([-heliosphere.NOSE]), np.array([0.0]))
    np.testing.assert_allclose(nose, 0.0, atol=1e-15)
    x, y = heliosphere.heliopause(900.0)
    assert x[0] == pytest.approx(-heliosphere.NOSE, rel=1e-6)
    v = np.array(heliosphere.velocity(x, y))[:, 1:-1]
    tangent = np.array([x[2:] - x[:-2], y[2:] - y[:-2]])
    sine = (v[0] * tangent[1] - v[1] * tangent[0]) / np.hypot(*v) / np.hypot(*tangent)
    # Chords of 2000 points; near the nose, where the flow rests, its direction is lost in rounding.
    assert np.max(np.abs(sine[5:])) < 1e-3


def test_all_that_the_sun_emits_leaves_through_the_tail(heliosphere):
    """Source of strength 4 pi a^2 U: far down, pi w^2 U with w = 2 a."""
    _, y = heliosphere.flow_line(1.0, np.array([1e-4]))
    assert np.pi * y[0] ** 2 == pytest.approx(4 * np.pi * heliosphere.NOSE**2, rel=1e-7)


def test_flow_lines_keep_their_stream_function(heliosphere):
    for value in (-0.5, 0.3, 1.0, 4.0):
        first = np.arccos(np.clip(-value, -1, 1)) - 0.01
        x, y = heliosphere.flow_line(value, np.linspace(first, 0.1, 40))
        np.testing.assert_allclose(heliosphere.stream_function(x, y), value, atol=1e-12)


def test_on_the_axis_the_wind_keeps_its_closed_timetable(heliosphere):
    """dx/dt = U (1 + a^2 / x^2) has the solution x - a arctan(x / a) = U t + const."""
    wind, tail, a = 400.0, 76.0, heliosphere.NOSE
    times = np.linspace(0.0, 40.0, 801)
    x, y = heliosphere.carried(np.zeros(1), times, wind=wind, tail=tail)
    assert np.all(y == 0.0)
    crossing = heliosphere.SHOCK / (wind * KM_S_IN_AU_PER_YEAR)
    inside = times <= crossing
    np.testing.assert_allclose(x[0, inside], wind * KM_S_IN_AU_PER_YEAR * times[inside], rtol=1e-9)

    def clock(place):
        return (place - a * np.arctan(place / a)) / (tail * KM_S_IN_AU_PER_YEAR)

    np.testing.assert_allclose(
        clock(x[0, ~inside]) - clock(heliosphere.SHOCK), times[~inside] - crossing, atol=1e-6
    )


@pytest.mark.parametrize("degrees", [30.0, 90.0, 150.0, 175.0])
def test_elsewhere_it_goes_where_another_integrator_takes_it(heliosphere, degrees):
    wind, tail, start = 400.0, 76.0, np.radians(degrees)
    times = np.linspace(0.0, 30.0, 601)
    x, y = heliosphere.carried(np.array([start]), times, wind=wind, tail=tail)
    speed, a = tail * KM_S_IN_AU_PER_YEAR, heliosphere.NOSE
    crossing = heliosphere.SHOCK / (wind * KM_S_IN_AU_PER_YEAR)

    def flow(_, place):
        r = np.sqrt(place @ place)
        return speed * (np.array([1.0, 0.0]) + a**2 * place / r**3)

    begin = heliosphere.SHOCK * np.array([np.cos(start), np.sin(start)])
    end = solve_ivp(flow, (crossing, 30.0), begin, method="DOP853", rtol=1e-11, atol=1e-9).y[:, -1]
    # Runge and Kutta's error over 600 steps of 0.05 years.
    np.testing.assert_allclose([x[0, -1], y[0, -1]], end, atol=1e-4)


def test_the_parker_spiral_opens_by_a_rotation_of_wind(figure10):
    assert figure10.turn_au(800.0) == pytest.approx(800e3 * 25 * 86400 / AU_M, rel=1e-9)


def test_polarity_flips_every_eleven_years_and_is_opposite_in_the_south(figure11):
    rng = np.random.default_rng(2)
    latitude, year = rng.uniform(-90, 90, 500), rng.uniform(0, 60, 500)
    sense = figure11.polarity(latitude, year)
    assert set(sense) == {-1, 0, 1}
    np.testing.assert_array_equal(figure11.polarity(-latitude, year), -sense)
    np.testing.assert_array_equal(figure11.polarity(latitude, year + 11.0), -sense)
    np.testing.assert_array_equal(figure11.polarity(latitude, year + 22.0), sense)


def test_the_current_sheet_leaves_least_to_the_mixed_field_between_flips(figure11):
    assert figure11.tilt(np.array([0.0, 5.5, 11.0, 16.5])) == pytest.approx([90, 10, 90, 10])
    assert figure11.polarity(np.array([9.0, 11.0, -11.0, 89.9]), np.array([5.5, 5.5, 5.5, 0.0])).tolist() == [
        0, 1, -1, 0,
    ]  # fmt: skip


def test_electric_field_is_speed_times_field_in_si(figure11):
    assert figure11.electric_field() == pytest.approx(1e4 * 1e-9 * AU_M / 1e6, rel=1e-9)


@pytest.mark.parametrize("name", ["figure10", "figure11"])
def test_the_sketch_is_made_with_its_files_and_the_numbers_of_the_text(name, request, tmp_path):
    module = request.getfixturevalue(name)
    context = runner.Context(tmp_path, False, np.random.default_rng(1), 1, read_expected(FOLDER / "expected.ecsv"))
    entry = module.make(context)
    assert (entry.status, entry.seed) == ("sketch", None)
    assert (tmp_path / entry.image).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / entry.svg).is_file()
    assert {comparison.agrees for comparison in entry.comparisons} <= {True, None}
    # Numbers that are put in are shown, but are no agreement.
    tested = [comparison for comparison in entry.comparisons if comparison.agrees]
    assert len(tested) == len(entry.comparisons) - 1 == {"figure10": 1, "figure11": 2}[name]
    assert all(comparison.source for comparison in entry.comparisons)
    table = Table.read(tmp_path / entry.table, format="ascii.ecsv")
    if name == "figure10":
        np.testing.assert_allclose(table["gyroradius"] * table["field"] / table["rigidity"], 222.967, rtol=5e-4)
    else:
        # The first region is the largest, as stated; the wind slows down, and regions with it.
        assert table["length"][0] == pytest.approx(250.0, abs=0.1)
        assert np.all(np.diff(table["length"]) < 0)
        np.testing.assert_allclose(table["start"][1:], table["end"][:-1])
