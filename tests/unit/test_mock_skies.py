"""Mock skies against other libraries' harmonics and pixels, and the clocks against astropy."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.time import Time
from astropy.utils import iers
from scipy.special import sph_harm_y

import obsfit
from obsfit.errors import ConfigurationError, PluginError
from obsfit.mock import (
    MockSky,
    compton_getting_sky,
    dipole_sky,
    disc_sky,
    gaussian_sky,
    harmonic_sky,
    isotropic_sky,
    map_sky,
    model_skies,
    model_sky,
    solar_dipole_sky,
)
from obsfit.mock._kernels import fold_ring, ring_harmonics
from obsfit.mock.clocks import TURN, clocks_at, clocks_of_year, frame_turns, mjd_of_turns
from obsfit.records import Provenance, SkyMap
from obsfit.sky.harmonics import dipole_vector
from obsfit.sky.motion import compton_getting_multipoles, solar_dipole_sidereal


@pytest.fixture
def directions():
    rng = np.random.default_rng(1)
    return rng.uniform(0, TURN, 300), np.arcsin(rng.uniform(-1, 1, 300))


def vectors(ra, dec):
    return np.stack([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)], axis=-1)


def random_sky(lmax, seed=2):
    return gaussian_sky(1e-8 * np.ones(lmax + 1), rng=np.random.default_rng(seed))


def test_harmonics_agree_with_scipy(directions):
    """One a_lm at a time, l <= 6, at random directions."""
    ra, dec = directions
    ell, m = hp.Alm.getlm(6)
    for k in range(ell.size):
        alm = np.zeros(ell.size, complex)
        alm[k] = 1e-3 * (1.0 if m[k] == 0 else 0.6 - 0.8j)
        expected = (alm[k] * sph_harm_y(ell[k], m[k], 0.5 * np.pi - dec, ra)).real * (1 if m[k] == 0 else 2)
        found = harmonic_sky(alm).relative_intensity(ra, dec) - 1.0
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-15)


def test_a_sky_of_many_multipoles_agrees_with_healpy():
    """l <= 100 at the centres of pixels, the poles' neighbours included; both sum 5000 terms in double precision."""
    sky = random_sky(100)
    theta, phi = hp.pix2ang(8, np.arange(768))
    expected = hp.alm2map(sky.parts[0].alm, 8)
    found = sky.relative_intensity(phi, 0.5 * np.pi - theta) - 1.0
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("n", [360, 17])
def test_rows_are_the_sky_on_circles(n):
    """Also with fewer points than twice the largest harmonic, where a plain transform would alias."""
    dec, start = np.radians([-89.0, -20.0, 0.3, 77.0]), np.array([0.0, 0.1, 4.0, -2.0])
    ra = start[:, None] + TURN * np.arange(n) / n
    spot = disc_sky(60 * u.deg, -7.1 * u.deg, radius=10 * u.deg, excess=1e-3)
    pixels = map_sky(np.random.default_rng(3).normal(size=768) * 1e-3)
    for sky in (random_sky(30), spot, pixels):
        rows = sky.parts[0].rows(dec, start, n)
        np.testing.assert_allclose(1 + rows, sky.relative_intensity(ra, dec[:, None]), rtol=0.0, atol=1e-15)


def test_compiled_and_plain_python_agree():
    rng = np.random.default_rng(4)
    lmax, dec = 5, np.array([-1.2, 0.1, 1.5])
    n_alm = hp.Alm.getsize(lmax)
    alm = rng.normal(size=n_alm) + 1j * rng.normal(size=n_alm)
    up, down = rng.uniform(size=(2, n_alm))
    arguments = (alm, lmax, up, down, np.sin(dec), np.cos(dec))
    np.testing.assert_allclose(ring_harmonics(*arguments), ring_harmonics.py_func(*arguments), rtol=1e-13)
    rows, cells = rng.uniform(size=(2, 3, 12))
    np.testing.assert_allclose(fold_ring(rows, cells, 4), fold_ring.py_func(rows, cells, 4), rtol=1e-13)


def test_what_a_ring_sees_is_a_sum_over_its_fine_cells():
    """Written out with the definition: right ascension is time minus hour angle."""
    rng = np.random.default_rng(5)
    rows, cells = rng.uniform(size=(2, 3, 12))
    found = fold_ring(rows, cells, 4)
    for j in range(3):
        for t in range(12):
            fine = range(4 * j, 4 * j + 4)
            expected = sum(cells[s, h] * rows[s, (t - h) % 12] for s in range(3) for h in fine)
            assert found[j, t] == pytest.approx(expected, rel=1e-14)


def test_a_dipole_is_a_scalar_product_and_skies_add(directions):
    ra, dec = directions
    vector = np.array([3e-4, -2e-4, 5e-4])
    sky = dipole_sky(vector) + isotropic_sky() + dipole_sky([1e-4, 0, 0])
    expected = 1.0 + vectors(ra, dec) @ np.array([4e-4, -2e-4, 5e-4])
    np.testing.assert_allclose(sky.relative_intensity(ra, dec), expected, rtol=0.0, atol=1e-15)
    steady = compton_getting_sky([0, 1e-4, 0], 2.7)
    assert steady.relative_intensity(0.5 * np.pi, 0.0) - 1 == pytest.approx(4.7e-4)
    assert compton_getting_multipoles(1e-4, 2.7, 1)[1] == pytest.approx(4.7e-4, rel=1e-6)


def test_a_disc_has_its_size_and_a_gaussian_its_width(directions):
    """Against angles from scalar products."""
    ra, dec = directions
    centre = vectors(np.radians(60.0), np.radians(-7.1))
    angle = np.arccos(vectors(ra, dec) @ centre)
    disc = isotropic_sky().with_disc(60 * u.deg, -7.1 * u.deg, radius=40 * u.deg, excess=1e-3)
    np.testing.assert_allclose(
        disc.relative_intensity(ra, dec), np.where(angle < np.radians(40), 1.001, 1.0), rtol=1e-15
    )
    spot = disc_sky(60 * u.deg, -7.1 * u.deg, radius=10 * u.deg, excess=-1e-3, gaussian=True)
    width = np.radians(10.0)
    expected = 1 - 1e-3 * np.exp(-2 * np.sin(0.5 * angle) ** 2 / width**2)
    np.testing.assert_allclose(spot.relative_intensity(ra, dec), expected, rtol=0.0, atol=1e-15)


def test_maps_from_arrays_records_and_files(tmp_path):
    values = 1e-3 * np.random.default_rng(6).normal(size=768)
    theta, phi = hp.pix2ang(8, np.arange(768))
    path = tmp_path / "sky.fits"
    hp.write_map(path, values, coord="C", dtype=np.float64)
    record = SkyMap(values, Provenance("test"))
    for source in (values, record, path, str(path)):
        found = map_sky(source).relative_intensity(phi, 0.5 * np.pi - theta)
        np.testing.assert_allclose(found, 1 + values, rtol=1e-15)
    smooth = hp.alm2map(random_sky(10).parts[0].alm, 8)
    found = map_sky(smooth, lmax=10).relative_intensity(phi, 0.5 * np.pi - theta)
    np.testing.assert_allclose(found, 1 + smooth, rtol=0.0, atol=1e-3 * np.abs(smooth).max())  # healpy's analysis


def test_unobserved_pixels_are_refused_unless_filled():
    values = np.zeros(48)
    values[[3, 7]] = np.nan, hp.UNSEEN
    with pytest.raises(ConfigurationError, match="2 unobserved pixels"):
        map_sky(values)
    theta, phi = hp.pix2ang(2, np.array([3, 7, 8]))
    filled = map_sky(values, unseen=1e-4).relative_intensity(phi, 0.5 * np.pi - theta)
    np.testing.assert_allclose(filled, [1.0001, 1.0001, 1.0], rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: map_sky(np.zeros(100)), "12 nside"),
        (lambda: dipole_sky([1.0, 2.0]), "components"),
        (lambda: dipole_sky([1e-3, 0, 0], frame="lunar"), "expected one of sidereal"),
        (lambda: harmonic_sky([0, np.nan, 0]), "finite"),
        (lambda: disc_sky(0 * u.deg, 0 * u.deg, radius=0 * u.deg, excess=1e-3), "radius"),
        (lambda: disc_sky(0 * u.deg, 91 * u.deg, radius=1 * u.deg, excess=1e-3), "-90 deg to 90 deg"),
        (lambda: clocks_at([6e4], 0.0).angle("lunar"), "expected one of"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_parts_of_other_frames_are_left_out_of_a_frame():
    sky = dipole_sky([1e-3, 0, 0]) + dipole_sky([0, 2e-3, 0], frame="solar")
    assert sky.relative_intensity(0.5 * np.pi, 0.0) == pytest.approx(1.0)
    assert sky.relative_intensity(0.5 * np.pi, 0.0, frame="solar") == pytest.approx(1.002)
    assert sky.in_frame("solar").relative_intensity(0.0, 0.0, frame="solar") == pytest.approx(1.001)


class Ensemble:
    """A model with a random sky that is not Gaussian."""

    name = "ensemble"
    parameters = ()

    def draws(self, theta, rigidity_tv, lmax, size, *, rng):
        shape = (len(theta), size, rigidity_tv.size, hp.Alm.getsize(lmax))
        return rng.uniform(size=shape) * 1e-3 + 0j


def test_skies_of_models():
    """A dipole of the registry, a random sky that needs a generator, an ensemble, and a model that offers nothing."""
    model = obsfit.load_model("compton-getting")
    theta = np.array([p.prior.median() for p in model.parameters])
    vector = dipole_vector(model.alm(theta[None], np.array([10.0]), 1))[0, 0]
    sky = model_sky(model, theta, 10 * u.TV, lmax=1)
    ra, dec = 1.0, 0.4
    assert sky.relative_intensity(ra, dec) == pytest.approx(1 + vectors(ra, dec) @ vector, abs=1e-15)
    cascade = obsfit.load_model("hierarchical-cascade")
    values = np.array([p.prior.median() for p in cascade.parameters])
    with pytest.raises(ConfigurationError, match="is random"):
        model_sky(cascade, values, 10 * u.TV, lmax=3)
    one, two = model_skies(cascade, values, [10, 10] * u.TV, lmax=3, rng=np.random.default_rng(1))
    np.testing.assert_allclose(one.parts[-1].alm, two.parts[-1].alm, rtol=1e-6, atol=1e-12)
    drawn = model_sky(Ensemble(), [], 1 * u.TV, lmax=2, rng=np.random.default_rng(3))
    assert drawn.parts[0].alm.shape == (6,)
    silent = type("Silent", (), {"name": "silent", "parameters": ()})()
    with pytest.raises(PluginError, match="offers no sky"):
        model_sky(silent, [], 1 * u.TV, lmax=2)
    with pytest.raises(ValueError, match="expected one"):
        model_sky(model, theta, [1, 2] * u.TV, lmax=3)


@pytest.mark.filterwarnings("ignore:Tried to get polar motions")
def test_sidereal_time_agrees_with_astropy():
    """Fifty years, to 1 arcsec: the expressions of 1982 and 2006 differ by less than that."""
    mjd = np.linspace(44000.0, 62000.0, 2001)
    for longitude in (0.0, -97.3, 140.0):
        ours = clocks_at(mjd, np.radians(longitude)).angle("sidereal")
        with iers.conf.set_temp("auto_download", False):
            time = Time(mjd, format="mjd", scale="ut1")
            time.delta_ut1_utc = 0.0
            theirs = time.sidereal_time("mean", longitude=longitude * u.deg).to_value(u.rad)
        difference = (ours - theirs + np.pi) % TURN - np.pi
        assert np.abs(difference).max() < np.radians(1 / 3600)


def test_clocks_of_a_year():
    """In a tropical year sidereal time gains a turn on solar time, anti-sidereal loses one, extended gains two."""
    start, year = 58000.0, 365.2422
    turns = {
        frame: frame_turns(frame, start + year, 1.0) - frame_turns(frame, start, 1.0)
        for frame in ("sidereal", "solar", "anti-sidereal", "extended-sidereal")
    }
    gained = {frame: value - year for frame, value in turns.items()}
    expected = {"sidereal": 1.0, "solar": 0.0, "anti-sidereal": -1.0, "extended-sidereal": 2.0}
    for frame, gain in gained.items():
        assert gain == pytest.approx(expected[frame], abs=1e-4)


def test_the_mean_sun_culminates_at_solar_noon():
    """Solar time 12 h in Greenwich at 0.5 of a day of UT; the September equinox has orbital angle 0 within 3 deg."""
    clocks = clocks_at([58000.5], 0.0)
    assert clocks.angle("solar")[0] % TURN == pytest.approx(np.pi)
    equinox = Time("2017-09-22T20:02", scale="utc").mjd
    season = clocks_at([equinox], 0.0).angle("season")[0]
    assert abs((season + np.pi) % TURN - np.pi) < np.radians(3)


@pytest.mark.parametrize("frame", ["sidereal", "solar", "anti-sidereal", "extended-sidereal"])
def test_days_of_turns_invert_turns_of_days(frame):
    mjd = np.linspace(55000.0, 58652.0, 1001)
    turns = np.array([frame_turns(frame, day, -1.7) for day in mjd])
    back = mjd_of_turns(frame, turns, 56826.0, -1.7)
    assert np.abs(back - mjd).max() < 0.1 / 86400
    difference = turns * TURN - clocks_at(mjd, -1.7).angle(frame)
    assert np.abs((difference + np.pi) % TURN - np.pi).max() < 1e-9


def test_clocks_of_the_idealised_year_are_consistent():
    angle, orbital = np.array([[0.3], [2.0]]), np.array([0.0, 1.0, 4.0])
    for frame in ("sidereal", "solar", "anti-sidereal", "extended-sidereal"):
        clocks = clocks_of_year(frame, angle, orbital)
        np.testing.assert_allclose(clocks.angle(frame), np.broadcast_to(angle, (2, 3)), atol=1e-14)
        np.testing.assert_allclose(
            clocks.angle("sidereal") - clocks.angle("solar"), clocks.orbital_rad, atol=1e-14
        )


def test_the_solar_dipole_is_eq_61_but_for_its_axis(directions):
    """Its parts at rest in two frames, taken at one orbital angle, are the dipole of Eq. (61) of AM17 without N."""
    ra, dec = directions
    sky = solar_dipole_sky(2.7)
    for orbital in (0.0, 1.0, 3.5):
        clocks = clocks_of_year("sidereal", np.zeros(1), np.array([orbital]))
        total = np.zeros(ra.size)
        for part in sky.parts:
            # A clock minus the hour angle, which is minus the right ascension at sidereal time 0.
            total += part.delta_i(clocks.angle(part.frame) + ra, dec)
        vector = solar_dipole_sidereal(orbital * u.rad, 2.7) * [1, 1, 0]
        np.testing.assert_allclose(total, vectors(ra, dec) @ vector, rtol=0.0, atol=1e-17)


def test_a_sky_is_a_sum_of_parts():
    assert MockSky().parts == ()
    assert len((random_sky(2) + random_sky(3)).parts) == 2
