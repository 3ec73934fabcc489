"""Sky maps on paper: places, units, circles and what is unobserved are where an atlas has them."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from obsfit.plot.sky_maps import Circle, disc_average, sky_map_figure
from obsfit.plot.style import save

NSIDE = 16
COLATITUDE, RA = hp.pix2ang(NSIDE, np.arange(12 * NSIDE**2))
DEC = 0.5 * np.pi - COLATITUDE


def spot(ra_deg, dec_deg, radius_deg=8.0):
    """A map that is one within a disc, found by vectors that the figure does not use."""
    centre = hp.ang2vec(ra_deg, dec_deg, lonlat=True)
    vectors = np.array(hp.pix2vec(NSIDE, np.arange(12 * NSIDE**2))).T
    return (vectors @ centre > np.cos(np.radians(radius_deg))).astype(float)


def colour_at(figure, x, y):
    """Colour of the picture where the first axes have the point (x, y) of the plane that they show."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    column, row = figure.axes[0].transData.transform((x, y))
    return picture[picture.shape[0] - 1 - round(row), round(column)].astype(int)


@pytest.mark.parametrize(("ra", "dec"), [(75.0, -40.0), (200.0, 45.0), (330.0, 12.0)])
def test_right_ascension_grows_to_the_left_about_180_degrees(ra, dec):
    figure = sky_map_figure(spot(ra, dec), title="a spot", unit=1.0)
    red, _, blue, _ = colour_at(figure, np.radians(180.0 - ra), np.radians(dec))
    assert red > blue + 40
    # mirrored, there is nothing but white
    assert np.ptp(colour_at(figure, np.radians(ra - 180.0), np.radians(dec))[:3]) < 15


def test_an_orthographic_map_is_seen_from_outside_its_centre_with_east_to_the_left():
    figure = sky_map_figure(
        spot(80.0, -10.0), title="a spot", unit=1.0, projection="orthographic", centre=(60 * u.deg, 0 * u.deg)
    )
    x, y = -np.cos(np.radians(10.0)) * np.sin(np.radians(20.0)), np.sin(np.radians(-10.0))
    red, _, blue, _ = colour_at(figure, x, y)
    assert red > blue + 40
    assert np.ptp(colour_at(figure, -x, y)[:3]) < 15


def test_the_south_pole_from_below():
    """About the pole, right ascension 90 degrees lies left where 0 is up."""
    figure = sky_map_figure(
        spot(90.0, -45.0), title="south", unit=1.0, projection="orthographic", centre=(0 * u.deg, -90 * u.deg)
    )
    red, _, blue, _ = colour_at(figure, -np.sqrt(0.5), 0.0)
    assert red > blue + 40


def test_what_is_unobserved_is_grey_and_said_so():
    sky = np.where(np.degrees(DEC) > -35.0, 1e-3 * np.cos(RA), np.nan)
    figure = sky_map_figure(sky, title="a dipole above 35 degrees south")
    red, green, blue, _ = colour_at(figure, 0.3, np.radians(-60.0))
    assert red == green == blue == round(0.75 * 255)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not observed"]


def test_units_and_limits_are_on_the_colour_bar():
    sky = 4e-4 * np.cos(RA)
    figure = sky_map_figure(sky, title="a dipole", unit=1e-4)
    bar = figure.axes[1]
    assert bar.get_xlabel() == "relative intensity [$10^{-4}$]"
    assert bar.get_xlim() == pytest.approx((-np.cos(RA.min()) * 4, np.cos(RA.min()) * 4))
    named = sky_map_figure(sky, title="a dipole", unit="σ", quantity="significance", limits=(-5.0, 5.0))
    assert named.axes[1].get_xlabel() == "significance [σ]"
    assert named.axes[1].get_xlim() == (-5.0, 5.0)
    assert sky_map_figure(sky, title="", unit=2.5e-4).axes[1].get_xlabel().endswith(r"[$2.5 \times 10^{-4}$]")


def test_a_circle_about_the_zenith_is_a_line_at_its_angle():
    figure = sky_map_figure(
        np.zeros(12), title="", circles=[Circle(30 * u.deg, 19 * u.deg, 60 * u.deg, "60 degrees")]
    )
    (line,) = [one for one in figure.axes[0].lines if one.get_linewidth() == 1.4]
    x, dec = line.get_xdata(), line.get_ydata()
    good = np.isfinite(x)
    points = np.array(hp.ang2vec(np.degrees(np.pi - x[good]), np.degrees(dec[good]), lonlat=True))
    angle = np.degrees(np.arccos(points @ hp.ang2vec(30.0, 19.0, lonlat=True)))
    np.testing.assert_allclose(angle, 60.0, atol=1e-9)
    assert 1 <= np.count_nonzero(~good) <= 3


def test_disc_averages_leave_out_what_is_unobserved():
    sky = np.where(DEC > 0.0, 1.0 + 1e-3 * np.sin(DEC), np.nan)
    mean = disc_average(sky, 12 * u.deg)
    assert np.array_equal(np.isnan(mean), np.isnan(sky))
    vectors = np.array(hp.pix2vec(NSIDE, np.arange(sky.size))).T
    for pixel in (5, 400, int(np.flatnonzero(np.isfinite(sky))[-1])):
        inside = (vectors @ vectors[pixel] >= np.cos(np.radians(12.0))) & np.isfinite(sky)
        assert mean[pixel] == pytest.approx(sky[inside].mean(), abs=1e-12)


def test_the_same_figure_is_the_same_file(tmp_path):
    sky = 1e-3 * np.cos(RA)
    first = [path.read_bytes() for path in save(sky_map_figure(sky, title="a"), tmp_path / "a")]
    assert first == [path.read_bytes() for path in save(sky_map_figure(sky, title="a"), tmp_path / "b")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delta_i": np.zeros(13)}, "expected \\(12 nside"),
        ({"delta_i": np.full(12, np.nan)}, "no finite value"),
        ({"projection": "peters"}, "expected one of mollweide, orthographic"),
        ({"centre": (0 * u.deg, 20 * u.deg)}, "declination of 0 deg"),
        ({"limits": (1.0, -1.0)}, "lower before the upper"),
        ({"unit": -1e-3}, "positive number"),
    ],
)
def test_nonsense_is_refused_by_name(changes, words):
    arguments = {"delta_i": np.zeros(12), "title": ""} | changes
    with pytest.raises(ValueError, match=words):
        sky_map_figure(arguments.pop("delta_i"), **arguments)


def test_a_circle_has_a_radius():
    with pytest.raises(ValueError, match="radius in"):
        Circle(0 * u.deg, 0 * u.deg, 0 * u.deg)
