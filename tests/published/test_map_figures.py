"""Tables behind the figures of maps: against plain sums over pixels, closed forms and least squares done apart."""

import importlib.util
import os
import sys
from pathlib import Path

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy.special import sph_harm_y

import obsfit
from obsfit.mock import MockDetector, dipole_sky, observe
from obsfit.protocols import dipole_alm
from obsfit.records.event_map import HourAngleGrid

FOLDER = Path(__file__).parents[2] / "analyses"
MAP = Path(os.environ.get("OBSFIT_DATA_SOURCES", ".")) / "files/hawc_icecube_2019_relint_digitised_nside64.fits"
needs_map = pytest.mark.skipif(not MAP.is_file(), reason=f"no file {MAP.name}")


def analysis(folder, name):
    spec = importlib.util.spec_from_file_location(f"map_figure_{name}", FOLDER / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def waves(nside, lmax, inside):
    """Real and imaginary parts of Y_lm, 0 < m <= l <= lmax, less their ring means, by healpy's synthesis."""
    rows, names = [], []
    for ell in range(1, lmax + 1):
        for m in range(1, ell + 1):
            for phase in (1.0, 1.0j):
                alm = np.zeros(hp.Alm.getsize(lmax), dtype=complex)
                alm[hp.Alm.getidx(lmax, ell, m)] = phase
                rows.append(less_ring_means(hp.alm2map(alm, nside, lmax=lmax), inside)[inside])
                names.append((ell, m, phase))
    return np.array(rows), names


def less_ring_means(values, inside):
    """A map less the mean of its pixels of each ring inside a field, zero outside; a loop over rings."""
    nside = hp.get_nside(values)
    out = np.zeros(values.size)
    start, count, _, _, _ = hp.ringinfo(nside, np.arange(1, 4 * nside))
    for first, size in zip(start, count, strict=True):
        ring = np.arange(first, first + size)
        ring = ring[inside[ring]]
        if ring.size:
            out[ring] = values[ring] - values[ring].mean()
    return out


@pytest.fixture(scope="module")
def figure5():
    return analysis("ahlers_mertsch_2017", "figure5")


@pytest.fixture(scope="module")
def figure3():
    return analysis("ahlers_mertsch_2017", "figure3")


@pytest.fixture(scope="module")
def made():
    """The analysis of Fig. 7, true a_lm, and the spectra of events of the HAWC-like detector."""
    figure = analysis("ahlers_mertsch_2017", "figure7_mock")
    rng = np.random.default_rng(4)
    alm = figure.mock_alm(rng)
    return figure, alm, figure.spectra(alm, figure.FIELDS[1], HourAngleGrid(96, 180), rng)


@pytest.fixture(scope="module")
def sky_10tev():
    return analysis("maps", "sky_10tev")


@pytest.fixture(scope="module")
def sky(sky_10tev):
    return sky_10tev.remove_ring_means(sky_10tev.load_map(MAP, column="RELINT"))


def truth(figure, alm, field):
    """The true sky in the pixels of the band, without ring means, and the band."""
    true = hp.alm2map(alm, figure.NSIDE, lmax=figure.LMAX_SKY)
    sin_dec = np.cos(hp.pix2ang(figure.NSIDE, np.arange(true.size))[0])
    low, high = np.sin(np.radians([field.dec_min, field.dec_max]))
    inside = (sin_dec > low) & (sin_dec < high)
    return less_ring_means(true, inside), inside


def test_zenith_angles_by_the_rotation_of_eq_7(figure5):
    """Third row of R(t) of Eq. (7), written out."""
    ra, dec = np.radians([10.0, 135.0, 300.0]), np.radians([-30.0, 19.0, 60.0])
    lst, latitude = np.radians(135.0), np.radians(19.0)
    row = np.array([np.cos(lst) * np.cos(latitude), np.sin(lst) * np.cos(latitude), np.sin(latitude)])
    n = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    found = figure5.zenith_angle(ra * u.rad, dec * u.rad, 9 * u.hourangle, 19 * u.deg)
    assert np.allclose(np.cos(np.radians(found)), row @ n, atol=1e-12)
    assert found[1] == pytest.approx(0.0, abs=1e-5)


def test_the_observable_sky_has_no_a_l0_and_keeps_the_rest(figure5):
    """a_l0 by sums over pixels; a pure wave in right ascension is untouched, what follows declination is lost."""
    nside = 32
    theta, phi = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    wave = np.sin(theta) * np.cos(phi - 1.0)
    seen = figure5.observable(wave + np.cos(theta) ** 3, -41 * u.deg, 79 * u.deg)
    inside = np.isfinite(seen)
    assert np.allclose(seen[inside], less_ring_means(wave, inside)[inside], atol=1e-12)
    alm = hp.map2alm(np.where(inside, seen, 0.0), lmax=8, iter=0)
    assert np.abs(alm[:9]).max() < 1e-12
    dec = 90 - np.degrees(theta[inside])
    assert -41 < dec.min() < -39
    assert 77 < dec.max() < 79


def test_events_of_a_disc_as_the_paper_reckons():
    """Areas: 2 pi (1 - cos 10) of 2 pi (sin 64 + sin 26)."""
    figure = analysis("ahlers_mertsch_2017", "figure2")
    share = (1 - np.cos(np.radians(10))) / (np.sin(np.radians(64)) + np.sin(np.radians(26)))
    assert figure.disc_events() == pytest.approx(4.9e10 * share, rel=1e-12)


def test_ten_maps_and_all_events(figure3):
    dipoles = obsfit.load_dipoles("ahlers-mertsch-2017")
    rows = figure3.chosen(dipoles)
    energies = [float(dipoles.energy_tev[row]) for row in rows]
    assert energies == [13, 24, 38, 71, 130, 240, 580, 1400, 1600, 5400]
    events = figure3.events_of(dipoles, rows)
    assert sum(events) - events[8] == pytest.approx(3.2e11, rel=1e-12)
    # The printed error of IceTop is 1.5e-4.
    assert events[8] == pytest.approx(2 / 1.5e-4**2, rel=1e-12)
    icecube = np.delete(events, 8)
    assert np.all(np.diff(icecube) < 0)


def test_the_projection_of_a_dipole_is_eq_25(figure3):
    """Printed value of Eq. (25) for IceCube: 0.6507; pixels of half a degree at the edge leave 2e-3."""
    found = figure3.projected(
        dipole_alm(1e-3 * np.array([np.cos(2.0), np.sin(2.0), 0.0]), 30), -90 * u.deg, -25 * u.deg
    )
    assert np.allclose(found, 0.6507e-3 * np.array([np.cos(2.0), np.sin(2.0)]), rtol=2e-3)


def test_the_mock_sky_projects_to_the_dipole_of_the_table(figure3):
    """First harmonic of a plain mean over pixels of nside 64, whose edge is off by a third of a degree."""
    rng = np.random.default_rng(8)
    size = hp.Alm.getsize(30)
    ell = np.maximum(hp.Alm.getlm(30)[0], 1)
    small = (rng.normal(size=size) + 1j * rng.normal(size=size)) / ell**1.5
    small[:2] = small[31] = 0.0
    alm = figure3.sky_alm(small, 8e-4, 0.9, -90 * u.deg, -25 * u.deg)
    theta, phi = hp.pix2ang(64, np.arange(hp.nside2npix(64)))
    inside = theta > np.radians(115)
    sky = hp.alm2map(alm, 64, lmax=30)[inside]
    found = 2 * np.mean(sky * np.exp(1j * phi[inside]))
    assert abs(found - 8e-4 * np.exp(0.9j)) < 0.02 * 8e-4


def test_cells_are_joined_about_their_centres():
    """A sky that is bright in one cell of the rings: it lands in the large cell centred nearest to it."""
    figure = analysis("ahlers_mertsch_2017", "figure4")
    detector = MockDetector(figure.TIBET.observatory, figure.TIBET.acceptance)
    sky = dipole_sky([1e-3, 0.0, 0.0])
    events = observe(sky, detector, n_events=1e9, grid=figure.GRID, asimov=True)
    year = figure.IterativeLikelihood().reconstruct(events)
    counts, expected = figure.joined([year, year])
    assert counts.sum() == pytest.approx(2e9, rel=1e-9)
    intensity, error = figure.profile([year])
    # The wave has its maximum in the cell centred on 0 degrees and is even about it.
    assert np.argmax(intensity) == 0
    assert np.allclose(intensity[1:], intensity[1:][::-1], atol=1e-9)
    assert figure.right_ascension()[0] == 0.0
    assert np.allclose(error**-2, expected.sum(axis=0) / 2, rtol=1e-12)


def test_the_folded_truth_is_the_power_of_the_cut_sky(made):
    """Mean of the draws without their noise, against healpy's sums over the cut map: other pixels, 2 %."""
    figure, alm, found = made
    cut, _ = truth(figure, alm, figure.FIELDS[1])
    power = hp.alm2cl(hp.map2alm(cut, lmax=figure.LMAX, iter=0))[1:]
    folded = found.operator.observe(alm[None, :])
    assert np.allclose(folded, power, rtol=0.02)


def test_the_subtraction_is_least_squares_on_pixels(made):
    figure, alm, found = made
    cut, inside = truth(figure, alm, figure.FIELDS[1])
    basis, _ = waves(figure.NSIDE, 3, inside)
    rest = np.zeros(cut.size)
    rest[inside] = cut[inside] - np.linalg.lstsq(basis.T, cut[inside], rcond=None)[0] @ basis
    power = hp.alm2cl(hp.map2alm(rest, lmax=figure.LMAX, iter=0))[1:]
    folded = found.operator_subtracted.observe(alm[None, :])
    assert np.allclose(folded[3:], power[3:], rtol=0.03)
    assert np.all(folded[:3] < 1e-6 * found.operator.observe(alm[None, :])[:3])


def test_noise_after_the_subtraction_by_pixels(made):
    """White noise on the pixels of the IceCube-like cap, ring means and l <= 3 taken off by least squares.

    Both steps are projections P of the pixels, so that the mean power is the sum of |Y P|^2, without any draw. The
    matrices of the analysis take rings for continuous; 2 % is left to their pixels.
    """
    figure = made[0]
    nside, lmax = 32, 12
    theta, phi = hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))
    inside = np.cos(theta) < np.sin(np.radians(figure.FIELDS[0].dec_max))
    basis = np.linalg.qr(waves(nside, 3, inside)[0].T)[0]
    found = np.zeros(lmax + 1)
    for ell in range(1, lmax + 1):
        for m in range(1, ell + 1):
            for part in (np.real, np.imag):
                row = less_ring_means(part(sph_harm_y(ell, m, theta, phi)), inside)[inside]
                row -= basis @ (basis.T @ row)
                found[ell] += 2 * hp.nside2pixarea(nside) ** 2 * (row @ row) / (2 * ell + 1)
    weight = inside.astype(float)
    step = figure.fitted_out(figure.map_coupling(weight, lmax, filtered=True))
    left = step @ figure.noise_covariances(weight, weight, lmax, filtered=True) @ np.swapaxes(step, 1, 2)
    predicted = 2 * np.einsum("mll->l", left) / (2 * np.arange(lmax + 1) + 1)
    assert np.all(predicted[:4] < 1e-9 * predicted[12])
    assert np.allclose(predicted[4:], found[4:], rtol=0.02)


def test_the_powers_of_the_events_follow_the_folded_truth(made):
    """Chi-square with the moments of a fixed sky in noise at l = 6 to 30; a false alarm in 1e4."""
    figure, alm, found = made
    moments = found.operator.expect(figure.TrueSky(np.ones(1), alm[None, None, :], None))
    mean, covariance = moments.mean[0][5:], moments.covariance[0][5:, 5:]
    square = (found.power[5:] - mean) @ np.linalg.solve(covariance, found.power[5:] - mean)
    # chi2.isf(1e-4, 25), widened by a third for powers that are no Gaussian.
    assert square < 60.1 * 4 / 3


def test_a_pure_dipole_is_found_in_every_window():
    figure = analysis("maps", "combined_window")
    alm = dipole_alm(figure.DIPOLE, figure.LMAX_SKY)
    found = figure.reconstructed(alm, HourAngleGrid(48, 90), np.random.default_rng(2))
    table = figure.dipoles(found)
    assert sorted(set(table["window"])) == ["HAWC", "HAWC + IceCube", "IceCube"]
    for row in table:
        if row["lmax"] > 2:
            continue
        error = max(row["error_0h"], row["error_6h"])
        # chi for two components, a false alarm in 1e5 each; cells of 4 degrees leave 3e-3 of the dipole.
        assert row["distance"] < 4.8 * error + 3e-3 * 1.2e-3


def test_the_error_of_discs_is_that_of_the_table(sky_10tev):
    """Band from -57 to -54 degrees: 2.914e-5."""
    error = sky_10tev.error_of_discs(64)
    pixel = hp.ang2pix(64, 10.0, -55.5, lonlat=True)
    assert error[pixel] == pytest.approx(2.914e-5, rel=0.02)


@needs_map
def test_dipoles_by_least_squares_on_other_functions(sky_10tev, sky):
    inside = np.isfinite(sky.delta_i)
    weight = np.where(inside, 1 / sky_10tev.error_of_discs(64) ** 2, 0.0)
    table = sky_10tev.dipole_table(sky, weight)
    for kind, w in (("one", np.ones(inside.sum())), ("inverse variance", weight[inside])):
        for lmax in (1, 3):
            basis, names = waves(64, lmax, inside)
            root = np.sqrt(w / w.max())
            fit = np.linalg.lstsq((basis * root).T, sky.delta_i[inside] * root, rcond=None)[0]
            a11 = sum(
                value * phase for value, (ell, m, phase) in zip(fit, names, strict=True) if (ell, m) == (1, 1)
            )
            row = table[(table["weight"] == kind) & (table["lmax"] == lmax)][0]
            expected = np.sqrt(1.5 / np.pi) * np.array([-a11.real, a11.imag])
            assert np.allclose([row["delta_0h"], row["delta_6h"]], expected, atol=1e-9)


@needs_map
def test_powers_by_healpy(sky_10tev, sky):
    rest = sky_10tev.subtract_multipoles(sky, 3).residual
    table = sky_10tev.spectra(sky, rest, sky_10tev.error_of_discs(64))
    inside = np.isfinite(sky.delta_i)
    power = hp.alm2cl(hp.map2alm(less_ring_means(np.where(inside, sky.delta_i, 0.0), inside), lmax=30, iter=0))
    assert np.allclose(table["power"], power[1:], rtol=1e-9)
    assert np.all(table["power_subtracted"][:3] < 1e-3 * power[1:4])
    assert np.all(table["noise"] < power[1:])
