"""Fig. 7 and the data of Fig. 15 of AM17: their tables against correlation functions, maps and closed forms."""

import os
from dataclasses import replace
from pathlib import Path

import healpy as hp
import numpy as np
import obsfit_data
import pytest
from astropy.table import Table
from scipy.integrate import quad
from scipy.special import eval_legendre, sph_harm_y
from scipy.stats import binomtest

import obsfit
from obsfit.plot import runner
from obsfit.plot.spectra import folded_interval, isotropic_sky, scale_folded

KEYS = ("am17-figure7", "am17-figure15-data")
MAP = "files/hawc_icecube_2019_relint_digitised_nside64.fits"
SOURCES = os.environ.get("OBSFIT_DATA_SOURCES")
BANDS = {"hawc": (-20.0, 64.0), "icecube": (-90.0, -30.0)}
NSIDE = 64
LMAX_TRUE = 40
N_SKIES = 250


def made(folder, environment, keys=KEYS):
    analyses = runner.discover(runner.find_analyses())
    entries = runner.run(analyses, folder, seed=1, only=keys, environment=environment)
    return {
        entry.key: (entry, Table.read(folder / entry.key / entry.table, format="ascii.ecsv")) for entry in entries
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made(tmp_path_factory.mktemp("results"), {})


def rows(results, key, measurement):
    table = results[key][1]
    return table[table["measurement"] == measurement]


@pytest.mark.parametrize("key", KEYS)
def test_the_figure_is_made_and_every_expected_number_agrees(results, key):
    entry, _ = results[key]
    assert entry.error == ""
    assert entry.comparisons
    assert [c.quantity for c in entry.comparisons if not c.agrees] == []
    assert all(source.sha256 for source in entry.data)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (
            "am17-figure7",
            ("OBSFIT_ICECUBE_2016_SPECTRUM", "OBSFIT_HAWC_2014_SPECTRUM", f"OBSFIT_DATA_SOURCES/{MAP}"),
        ),
        ("am17-figure15-data", ("OBSFIT_ICECUBE_2013_SPECTRUM", "OBSFIT_HAWC_2014_SPECTRUM")),
    ],
)
def test_what_is_not_public_is_said_to_be_absent(results, key, names):
    entry, _ = results[key]
    assert entry.status == "needs file"
    for name in names:
        assert any(name in deviation for deviation in entry.deviations)


def relative_diffusion(exponent, lmax):
    """C_l / C_1 of Eq. (77) by adaptive quadrature with the algebraic weight of its end point."""
    power = np.zeros(lmax + 1)
    for ell in range(1, lmax + 1):
        integral = quad(
            lambda x, degree=ell: x * eval_legendre(degree, x),
            -1,
            1,
            weight="alg",
            wvar=(0, -exponent),
            epsabs=1e-13,
            limit=200,
        )[0]
        power[ell] = integral / (ell * (ell + 1))
    return power / power[1]


def disc_window(lmax):
    """Average over a disc of 5 degrees."""
    c, ell = np.cos(np.radians(5.0)), np.arange(1, lmax + 1)
    window = np.ones(lmax + 1)
    window[1:] = (eval_legendre(ell - 1, c) - eval_legendre(ell + 1, c)) / ((2 * ell + 1) * (1 - c))
    return window


def filtered_power(power, low, high, weight, ell):
    """Mean pseudo-power without m = 0, from the correlation function: no spherical harmonic but Legendre's.

    The addition theorem sums over all m what m = 0 alone is then taken from; low and high are sines of declination.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(50)
    s = 0.5 * (high - low) * nodes + 0.5 * (high + low)
    w = 0.5 * (high - low) * node_weights * weight(s)
    angle = np.arange(100) * 2 * np.pi / 100
    c = np.sqrt(1 - s**2)
    x = np.clip(s[:, None, None] * s[:, None] + (c[:, None, None] * c[:, None]) * np.cos(angle), -1, 1)
    multipoles = np.arange(power.size)
    correlation = np.polynomial.legendre.legval(x, (2 * multipoles + 1) * power)
    all_m = 2 * np.pi * w @ np.mean(2 * np.pi * correlation * eval_legendre(ell, x), axis=2) @ w / (16 * np.pi**2)
    zero = 0.25 * (2 * multipoles + 1) * (eval_legendre(multipoles[:, None], s) * eval_legendre(ell, s) @ w) ** 2
    return all_m - power @ zero


def pixels_within(dec_min, dec_max):
    """Which pixels of the map a band keeps, and the sines of declination between which their area lies."""
    dec = 90 - np.degrees(hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))[0])
    # The centres of a ring lie on -30 degrees.
    inside = (dec > dec_min - 1e-6) & (dec < dec_max + 1e-6)
    low = -1 + 2 * np.mean(dec < dec_min - 1e-6)
    return inside, low, low + 2 * np.mean(inside)


@pytest.mark.parametrize("exponent", ["1/3", "1/2", "2/3"])
def test_folded_curves_of_the_map_against_the_correlation_function(results, exponent):
    """Window powers are tabulated with five digits, which fixes the smoothing to about 1e-5."""
    numerator, denominator = exponent.split("/")
    power = relative_diffusion(int(numerator) / int(denominator), LMAX_TRUE) * disc_window(LMAX_TRUE) ** 2
    for field, limits in BANDS.items():
        _, low, high = pixels_within(*limits)
        table = rows(results, "am17-figure15-data", f"hawc-icecube-2019-10TeV-{field}")
        for ell in (1, 3, 8, 20):
            expected = filtered_power(power, low, high, np.ones_like, ell)
            found = table[f"folded_{exponent}"][ell - 1] - table["noise"][ell - 1]
            assert found == pytest.approx(expected, rel=1e-4, abs=0)


def calibration(key):
    """Exponent of the counts and number of events, as shipped; cut at -25 degrees, of mean one."""
    table = Table.read(Path(obsfit_data.__path__[0]) / "icecube-2025-window.ecsv", format="ascii.ecsv")
    (row,) = table[table["measurement"] == key]
    assert row["dec_max"] == -25
    exponent, edge = float(row["exponent"]), -np.sin(np.radians(25))
    mean = quad(lambda s: (-s) ** exponent, -1, edge)[0] / (1 + edge)
    return edge, lambda s: (-s) ** exponent / mean, float(row["events"]), float(row["resamples"])


@pytest.mark.parametrize("key", ["icecube-2025-13TeV", "icecube-2025-24TeV", "icecube-2025-5.31PeV"])
def test_folded_curves_of_twelve_years_against_the_correlation_function(results, key):
    """Followed to l = 30 as the operator does; the weight is smooth, so that quadrature is exact to all digits."""
    edge, weight, _, _ = calibration(key)
    power = relative_diffusion(0.5, 30)
    for row in rows(results, "am17-figure15-data", key):
        expected = filtered_power(power, -1, edge, weight, int(row["ell"]))
        assert row["folded_1/2"] - row["noise"] == pytest.approx(expected, rel=1e-7, abs=0)


@pytest.mark.parametrize("key", ["icecube-2025-13TeV", "icecube-2025-24TeV", "icecube-2025-5.31PeV"])
def test_noise_of_twelve_years_is_that_of_its_events(results, key):
    """Addition theorem: the sum over m but 0 of the squared harmonics is (2l + 1)(1 - P_l^2) / 4 pi."""
    edge, weight, events, resamples = calibration(key)
    dipole_power = results["am17-figure15-data"][1].meta["settings"]["dipole_power"][key]
    for row in rows(results, "am17-figure15-data", key):
        without_zero = quad(
            lambda s, degree=int(row["ell"]): weight(s) * (1 - eval_legendre(degree, s) ** 2), -1, edge, limit=200
        )[0]
        # The weight is the counts: w^2 sigma^2 = w (solid angle of the band) / events.
        expected = (1 + 1 / resamples) * 0.5 * without_zero * 2 * np.pi * (1 + edge) / events
        assert row["noise"] * dipole_power == pytest.approx(expected, rel=1e-8, abs=0)


class Band:
    """A declination band of pixels: what is done to a map there, by sums over pixels."""

    def __init__(self, dec_min, dec_max):
        colatitude, ra = hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))
        self.inside, _, _ = pixels_within(dec_min, dec_max)
        self.colatitude, self.ra = colatitude[self.inside], ra[self.inside]
        self.ring = np.unique(self.colatitude.round(9), return_inverse=True)[1]
        self.low = np.stack(
            [
                part(sph_harm_y(ell, m, self.colatitude, self.ra))
                for ell in (1, 2, 3)
                for m in range(1, ell + 1)
                for part in (np.real, np.imag)
            ],
            axis=1,
        )
        self.inverse = np.linalg.pinv(self.low)

    def filtered(self, sky):
        values = sky[self.inside]
        return values - (np.bincount(self.ring, values) / np.bincount(self.ring))[self.ring]

    def less_low(self, values):
        return values - self.low @ (self.inverse @ values)

    def power(self, values):
        full = np.zeros(self.inside.size)
        full[self.inside] = values
        return hp.alm2cl(hp.map2alm(full, lmax=30, iter=1))


def gaussian_alm(power, rng):
    ell, m = hp.Alm.getlm(power.size - 1)
    real, imaginary = rng.normal(size=(2, ell.size))
    return np.sqrt(power[ell]) * np.where(m == 0, real, (real + 1j * imaginary) / np.sqrt(2))


def ring_variance(dec):
    """Noise variance up to a factor, as tabulated against declination, none where the map ends."""
    table = Table.read(Path(obsfit_data.__path__[0]) / "hawc-icecube-2019-noise.ecsv", format="ascii.ecsv")
    good = ~np.ma.getmaskarray(table["sigma"]) & np.isfinite(np.ma.filled(table["sigma"], np.nan))
    centre = 0.5 * (table["dec_min"] + table["dec_max"])[good]
    variance = np.interp(dec, np.asarray(centre), np.asarray(table["sigma"])[good] ** 2)
    return np.where(dec < 67, variance, 0.0)


def pixel_variance(dec, field, level):
    """Noise variance of pixels such that the band, by the declinations stated for it, has this white pseudo-noise."""
    low, high = np.radians(BANDS[field])
    total = quad(lambda x: ring_variance(np.degrees(x)) * np.cos(x), low, high, limit=400, epsrel=1e-6)[0]
    return ring_variance(dec) * level / (0.5 * total * hp.nside2pixarea(NSIDE))


def ring_powers(field, power, level):
    """Mean powers (31,) of sky and noise in a band, before and after the subtraction, summed over rings of pixels.

    All is linear and rings mix no m, so that each m is small algebra: harmonics on the rings, a least-squares fit
    there, and a sum over pixels. No coupling matrix is formed. Noise has the pseudo-power `level` before smoothing.
    """
    colatitude, count = np.unique(
        hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))[0].round(9), return_counts=True
    )
    area = hp.nside2pixarea(NSIDE)
    dec = 90 - np.degrees(colatitude)
    low, high = BANDS[field]
    inside = (dec > low - 1e-6) & (dec < high + 1e-6)
    variance = pixel_variance(dec, field, level)
    window, root = disc_window(100), np.sqrt(count[inside])
    totals = np.zeros((4, 31))
    for m in range(1, 31):
        ell = np.arange(m, 101)
        y = sph_harm_y(ell, m, colatitude[:, None], 0.0).real
        # Amplitudes on the rings of the band, of unit a_lm and of the noise of the map's own a_lm.
        smooth = y[inside] * window[m:]
        sky = smooth[:, : power.size - m] * np.sqrt(power[m:])
        noise = smooth @ (y.T * np.sqrt(count * variance) * area)
        fitted = y[inside][:, : max(4 - m, 0)] * root[:, None]
        out = np.arange(m, 31)
        project = area * (y[inside][:, : out.size] * count[inside, None]).T
        for place, part in enumerate((sky, noise)):
            rest = part
            if m <= 3:
                found = np.linalg.lstsq(fitted, part * root[:, None], rcond=None)[0]
                rest = part - y[inside][:, : max(4 - m, 0)] @ found
            for step, values in enumerate((part, rest)):
                totals[2 * place + step, m:] += 2 * np.sum((project @ values) ** 2, axis=1) / (2 * out + 1)
    return totals


@pytest.mark.parametrize("field", BANDS)
def test_means_before_and_after_the_subtraction_against_rings(results, field):
    """Sums over pixels of 0.9 degrees are good to 0.02 percent at l = 1 and to one percent at l = 30."""
    table = rows(results, "am17-figure7", f"hawc-icecube-2019-10TeV-{field}")
    dipole_power = results["am17-figure7"][1].meta["settings"]["dipole_power"][field]
    level = obsfit.load_spectrum("hawc-icecube-2019-by-field", field=field).noise[0]
    sky, sky_rest, noise, noise_rest = ring_powers(field, dipole_power * relative_diffusion(0.5, LMAX_TRUE), level)
    ell = np.arange(1, 31)
    for name, expected in (("folded", sky + noise), ("noise", noise)):
        np.testing.assert_allclose(table[name], expected[ell], rtol=1e-2, err_msg=name)
    for name, expected in (("folded_subtracted", sky_rest + noise_rest), ("noise_subtracted", noise_rest)):
        np.testing.assert_allclose(table[name][3:].filled(np.nan), expected[ell[3:]], rtol=1e-2, err_msg=name)


@pytest.fixture(scope="module")
def skies(results):
    """Powers (N_SKIES, 31) of each band: noise alone, sky of p = 1/2 with it, and that less its l = 1 to 3.

    In units of C_1.
    """
    rng = np.random.default_rng(20170107)
    settings = results["am17-figure15-data"][1].meta["settings"]
    all_dec = 90 - np.degrees(hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))[0])
    power, window, deviation = (
        relative_diffusion(0.5, LMAX_TRUE),
        disc_window(100),
        np.sqrt(ring_variance(all_dec)),
    )
    bands = {field: Band(*limits) for field, limits in BANDS.items()}
    scale = {}
    for field in bands:
        record = obsfit.load_spectrum("hawc-icecube-2019-by-field", field=field)
        level = record.noise[0] / settings["dipole_power"][record.measurement]
        scale[field] = np.sqrt(pixel_variance(0.0, field, level)) / np.sqrt(ring_variance(0.0))
    found = {field: {kind: np.zeros((N_SKIES, 31)) for kind in ("noise", "all", "rest")} for field in BANDS}
    for i in range(N_SKIES):
        sky = hp.alm2map(hp.almxfl(gaussian_alm(power, rng), window), NSIDE)
        rough = deviation * rng.normal(size=deviation.size)
        smooth = hp.alm2map(hp.almxfl(hp.map2alm(rough, iter=0, lmax=100), window), NSIDE)
        for field, band in bands.items():
            noise = scale[field] * band.filtered(smooth)
            everything = band.filtered(sky) + noise
            for kind, values in (("noise", noise), ("all", everything), ("rest", band.less_low(everything))):
                found[field][kind][i] = band.power(values)
    return found


SIGMAS = 4.0
"""Of about 50 comparisons of means one in 300 runs of other seeds would fail."""
PIXELS = 0.01
"""Edge of the band along the corners of the pixels, and healpy's quadrature."""


def agree(draws, expected):
    error = draws.std(axis=0) / np.sqrt(N_SKIES)
    return np.abs(draws.mean(axis=0) - expected) < SIGMAS * error + PIXELS * expected


@pytest.mark.parametrize("field", BANDS)
def test_means_against_maps(results, skies, field):
    table = rows(results, "am17-figure15-data", f"hawc-icecube-2019-10TeV-{field}")
    ell = np.array([1, 2, 3, 4, 7, 12, 20])
    assert agree(skies[field]["noise"][:, ell], table["noise"][ell - 1]).all()
    assert agree(skies[field]["all"][:, ell], table["folded_1/2"][ell - 1]).all()


@pytest.mark.parametrize("field", BANDS)
def test_subtraction_against_maps(results, skies, field):
    """The normal equations leave nothing at l = 1 to 3; the table of Fig. 7 has no power there."""
    table = rows(results, "am17-figure7", f"hawc-icecube-2019-10TeV-{field}")
    c_1 = results["am17-figure7"][1].meta["settings"]["dipole_power"][field]
    ell = np.array([4, 5, 6, 8, 12, 20])
    rest = skies[field]["rest"]
    assert agree(rest[:, ell], np.asarray(table["folded_subtracted"][ell - 1]) / c_1).all()
    assert table["folded_subtracted"].mask[:3].all()
    assert (rest[:, 1:4].mean(axis=0) < 1e-4 * skies[field]["all"][:, 1:4].mean(axis=0)).all()


@pytest.mark.parametrize("field", BANDS)
def test_intervals_hold_what_they_say(results, skies, field):
    """Binomial probability of each count above 1e-4; about 40 counts, so that one in 250 seeds would fail."""
    folded = rows(results, "am17-figure15-data", f"hawc-icecube-2019-10TeV-{field}")
    figure7 = rows(results, "am17-figure7", f"hawc-icecube-2019-10TeV-{field}")
    c_1 = results["am17-figure7"][1].meta["settings"]["dipole_power"][field]
    for ell in (1, 2, 4, 10, 20):
        for kind, low, high, level in (
            ("all", folded["folded_low_68"], folded["folded_high_68"], 0.68),
            ("noise", figure7["noise_low_68"] / c_1, figure7["noise_high_68"] / c_1, 0.68),
            ("noise", figure7["noise_low_95"] / c_1, figure7["noise_high_95"] / c_1, 0.95),
        ):
            draws = skies[field][kind][:, ell]
            inside = int(np.sum((draws > low[ell - 1]) & (draws < high[ell - 1])))
            assert binomtest(inside, N_SKIES, level).pvalue > 1e-4, (field, ell, kind, level, inside)
    if field == "icecube":
        degrees = 2 * np.mean(skies[field]["all"], axis=0) ** 2 / np.var(skies[field]["all"], axis=0)
        # A variance of 250 skewed powers is known to about 20 percent.
        np.testing.assert_allclose(folded["degrees_of_freedom"][[0, 3, 9]], degrees[[1, 4, 10]], rtol=0.4)
        correlation = np.corrcoef(skies[field]["all"][:, 1:4].T)
        assert folded["correlation_next"][0] == pytest.approx(correlation[0, 1], abs=0.02)
        assert folded["correlation_next"][1] == pytest.approx(correlation[1, 2], abs=0.05)


def test_points_are_the_published_ones_over_one_number(results):
    """Typed from the data files."""
    settings = results["am17-figure15-data"][1].meta["settings"]
    for key, ell, power in (
        ("hawc-icecube-2019-10TeV-hawc", 2, 2.3796e-07),
        ("hawc-icecube-2019-10TeV-hawc", 18, 4.1120e-10),
        ("icecube-2025-13TeV", 20, 1.528e-11),
        ("icecube-2025-24TeV", 4, 9.395e-9),
    ):
        (row,) = (row for row in rows(results, "am17-figure15-data", key) if row["ell"] == ell)
        assert row["power"] * settings["dipole_power"][key] == pytest.approx(power, rel=1e-9, abs=0)
    assert rows(results, "am17-figure7", "icecube-2025-24TeV")["published_isotropic_high_95"][0] == 1.91e-11


def test_without_the_map_nothing_is_subtracted_from_it(results):
    assert results["am17-figure7"][1]["power_subtracted"].mask.all()


@pytest.mark.skipif(SOURCES is None or not (Path(SOURCES or ".") / MAP).is_file(), reason="needs the 10 TeV map")
def test_subtracted_powers_of_the_map(tmp_path):
    """Sums over pixels of the harmonics themselves; healpy's iterated transform differs by the quadrature.

    Before the subtraction they are the shipped spectrum, which was made from the same pixels.
    """
    found = made(tmp_path, {"OBSFIT_DATA_SOURCES": SOURCES}, keys=["am17-figure7"])
    entry, _ = found["am17-figure7"]
    assert not any("needs file" in deviation for deviation in entry.deviations)
    sky = hp.read_map(Path(SOURCES) / MAP, field=0, dtype=float)
    for field, limits in BANDS.items():
        band = Band(*limits)
        before = band.filtered(sky)
        table = rows(found, "am17-figure7", f"hawc-icecube-2019-10TeV-{field}")
        for column, values in (("power", before), ("power_subtracted", band.less_low(before))):
            for ell in (5, 8, 13):
                squares = [
                    (1 if m == 0 else 2) * abs(values @ sph_harm_y(ell, m, band.colatitude, band.ra).conj()) ** 2
                    for m in range(ell + 1)
                ]
                expected = hp.nside2pixarea(NSIDE) ** 2 * sum(squares) / (2 * ell + 1)
                assert table[column][ell - 1] == pytest.approx(expected, rel=3e-3, abs=0)


def test_files_of_the_user_are_drawn_and_reported(tmp_path):
    file = tmp_path / "mine.ecsv"
    numbers = [f"{ell} {1e-6 * ell**-3.0 + 1e-10}" for ell in range(1, 21)]
    file.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ell, datatype: int64}\n# - {name: c_ell, datatype: float64}\n"
        "# meta: {kind: pseudo, filtered: true, energy: 2 TeV, dec_min: -26 deg, dec_max: 64 deg}\n"
        "# schema: astropy-2.0\nell c_ell\n" + "\n".join(numbers) + "\n"
    )
    variables = ("OBSFIT_HAWC_2014_SPECTRUM", "OBSFIT_HAWC_2014_SUBTRACTED_SPECTRUM")
    found = made(tmp_path / "results", dict.fromkeys(variables, str(file)))
    for key, (entry, _) in found.items():
        assert entry.error == ""
        assert entry.status == "needs file", key
        assert any(source.path == str(file.resolve()) for source in entry.data)
        assert not any("HAWC_2014" in deviation for deviation in entry.deviations)
    table = rows(found, "am17-figure15-data", "mine")
    c_1 = found["am17-figure15-data"][1].meta["settings"]["dipole_power"]["mine"]
    np.testing.assert_allclose(table["power"] * c_1, 1e-6 * table["ell"] ** -3.0 + 1e-10, rtol=1e-12)
    # No noise in the file: Eq. (32), less what the filter takes away, which is little at l = 20.
    white = 4 * np.pi * (0.5 * (np.sin(np.radians(64)) + np.sin(np.radians(26)))) ** 2 / 4.9e10
    assert table["noise"][-1] * c_1 == pytest.approx(white, rel=0.05, abs=0)


def test_a_model_is_scaled_to_points_that_are_its_own_mean():
    """With little noise the gamma distributions keep their shape, and the most probable factor is the true one."""
    record = obsfit.load_spectrum("hawc-icecube-2019").select(1, 20)
    record = replace(record, noise=np.full(20, 1e-20))
    operator = obsfit.operator_for(record)
    shape = relative_diffusion(0.5, operator.lmax)
    own = replace(record, c_ell=operator.expect(isotropic_sky(operator, 3e-7 * shape)).mean[0])
    assert scale_folded(shape, own, operator, 4, 20) == pytest.approx(3e-7, rel=1e-4, abs=0)
    # Ten times the power at l = 1 to 3 does not count.
    loud = replace(own, c_ell=own.c_ell * np.where(own.ell < 4, 10, 1))
    assert scale_folded(shape, loud, operator, 4, 20) == pytest.approx(3e-7, rel=1e-4, abs=0)


def test_what_cannot_be_scaled_or_folded_is_refused():
    record = obsfit.load_spectrum("hawc-icecube-2019").select(1, 20)
    operator = obsfit.operator_for(record)
    shape = np.ones(operator.lmax + 1)
    with pytest.raises(ValueError, match="no multipole between 25 and 30"):
        scale_folded(shape, record, operator, 25, 30)
    with pytest.raises(ValueError, match="expected an operator of power at l = "):
        scale_folded(shape, record.select(2, 20), operator, 4, 20)
    with pytest.raises(ValueError, match="no power above the noise between l = 4 and 20"):
        scale_folded(shape, replace(record, c_ell=0.01 * record.noise), operator, 4, 20)
    with pytest.raises(ValueError, match="level 68: expected a probability"):
        folded_interval(operator, level=68)
    with pytest.raises(ValueError, match="expected one, Power"):
        folded_interval(obsfit.operator_for(obsfit.load_dipoles("ahlers-mertsch-2017").select([0])))
