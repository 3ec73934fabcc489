"""The joint likelihood against skies that go through maps, and against laws in closed form."""

import healpy as hp
import numpy as np
import pytest
from scipy import stats
from scipy.special import ive

from obsfit.infer.dipole_term import DipoleScatter
from obsfit.infer.one_sky_term import Nuisances, OneSkyTerm
from obsfit.records import DipoleMeasurements, PowerSpectrum, Provenance, TrueSky

NSIDE, LMAX = 16, 12
N_SKIES = 20_000
# Rings of the map lie at sines of declination k / 24: limits half-way between leave their solid angle exact.
SOUTH, LOW, HIGH = (float(np.degrees(np.arcsin(k / 48))) for k in (-21, -15, 31))


def spectrum(name, energy, ell, low, high, *, c_ell=None, noise=0.0, reading=0.0):
    n = len(ell)
    blank = np.full(n, np.nan)
    c_ell = np.ones(n) if c_ell is None else c_ell
    return PowerSpectrum(
        name, "pseudo", energy, np.array(ell), c_ell, np.full(n, noise), np.ones(n), blank, blank, blank, blank, True,
        np.radians(low), np.radians(high), Provenance(name), reading_error=reading,
    )  # fmt: skip


def dipole(energy, low, high, error, *, amplitude=1.0, phase=0.7):
    return DipoleMeasurements(
        measurement=("one",), observatory=("elsewhere",), energy_tev=np.array([energy]),
        amplitude=np.array([amplitude]), amplitude_error=np.array([error]), phase_rad=np.array([phase]),
        phase_error_rad=np.array([error / amplitude]), limit=np.array([np.nan]), limit_level=np.array([np.nan]),
        method=("right-ascension projection",), dec_min_rad=np.radians([low]), dec_max_rad=np.radians([high]),
        zenith_max_rad=np.array([np.nan]), errors_usable=np.array([True]), provenance=Provenance("dipole"),
    )  # fmt: skip


def power_law(rigidity, decades, *, lmax=LMAX, slope=-3.0):
    ell = np.arange(lmax + 1)
    c = np.where(ell > 0, np.maximum(ell, 1.0) ** slope, 0.0)
    x = np.log10(rigidity)
    memory = np.exp(-np.abs(x[:, None] - x) / decades)
    return (memory[..., None] * c)[None]


def map_route(low, high, ell_max):
    """Matrix from real true a_lm to real pseudo a_lm of a cut map without ring means; all by maps."""
    index = [(ell, m) for m in range(LMAX + 1) for ell in range(m, LMAX + 1) if ell > 0]
    theta, _ = hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))
    inside = (np.pi / 2 - theta >= np.radians(low)) & (np.pi / 2 - theta <= np.radians(high))
    ring = hp.pix2ring(NSIDE, np.arange(theta.size))
    columns = []
    for ell, m in index:
        for factor in (1.0, 1.0j) if m else (1.0,):
            alm = np.zeros(hp.Alm.getsize(LMAX), dtype=complex)
            # unit variance of the whole coefficient: half in each part, and Re, Im of m > 0 as they stand
            alm[hp.Alm.getidx(LMAX, ell, m)] = factor * (np.sqrt(0.5) if m else 1.0)
            sky = np.where(inside, hp.alm2map(alm, NSIDE), 0.0)
            mean = np.bincount(ring, sky) / np.maximum(np.bincount(ring, inside), 1)
            sky = np.where(inside, sky - mean[ring], 0.0)
            seen = hp.map2alm(sky, lmax=ell_max, iter=3)
            columns.append(np.concatenate([seen.real, seen.imag]))
    ell_of = np.array([ell for ell, m in index for _ in range(2 if m else 1)])
    return np.array(columns).T, ell_of


def to_power(seen, ell_max):
    ell, m = hp.Alm.getlm(ell_max)
    size = ell.size
    square = np.where(m == 0, 1.0, 2.0) * (seen[:, :size] ** 2 + seen[:, size:] ** 2)
    return np.array([square[:, ell == k].sum(1) / (2 * k + 1) for k in range(ell_max + 1)]).T


def projection_route(low, high):
    """Dipole components of the mean over declination of each true mode, from a map."""
    theta, alpha = hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))
    inside = (np.pi / 2 - theta >= np.radians(low)) & (np.pi / 2 - theta <= np.radians(high))
    rows = []
    for ell, m in [(k, order) for order in range(LMAX + 1) for k in range(order, LMAX + 1) if k > 0]:
        for factor in (1.0, 1.0j) if m else (1.0,):
            alm = np.zeros(hp.Alm.getsize(LMAX), dtype=complex)
            alm[hp.Alm.getidx(LMAX, ell, m)] = factor * (np.sqrt(0.5) if m else 1.0)
            sky = hp.alm2map(alm, NSIDE)[inside]
            rows.append([2 * np.mean(sky * np.cos(alpha[inside])), 2 * np.mean(sky * np.sin(alpha[inside]))])
    return np.array(rows).T


@pytest.fixture(scope="module")
def skies():
    """Powers of a cap at 10 TeV and of a band at 30 TeV, and a dipole at 20 TeV, of the same random skies."""
    rng = np.random.default_rng(20)
    rigidity = np.array([10.0, 20.0, 30.0])
    c_ell = power_law(rigidity, 0.5)
    cap, ell_of = map_route(-90, SOUTH, 4)
    band, _ = map_route(SOUTH, HIGH, 4)
    root = np.linalg.cholesky(np.moveaxis(c_ell[0], -1, 0)[1:])
    modes = np.einsum("lab,slb->sal", root[ell_of - 1], rng.normal(size=(N_SKIES, ell_of.size, 3)))
    powers = [to_power(modes[:, 0] @ cap.T, 4)[:, 1:], to_power(modes[:, 2] @ band.T, 4)[:, 1:]]
    components = modes[:, 1] @ projection_route(LOW, HIGH).T + 0.1 * rng.normal(size=(N_SKIES, 2))
    data = np.concatenate([*powers, components], axis=1)
    term = OneSkyTerm(
        (
            spectrum("cap", 10.0, [1, 2, 3, 4], -90, SOUTH, noise=1e-9),
            spectrum("band", 30.0, [1, 2, 3, 4], SOUTH, HIGH, noise=1e-9),
            dipole(20.0, LOW, HIGH, 0.1),
        ),
        Nuisances(None, None, None),
        DipoleScatter.none(),
        energy_spread=False,
        floor=0.0,
    )
    return term, TrueSky(rigidity, c_ell=c_ell), data


def test_moments_are_those_of_skies_that_went_through_maps(skies):
    """20 000 skies; pixels of 3.7 degrees allow 1 %. False alarm below 1e-4 for all means together."""
    term, sky, data = skies
    mean, covariance = term.moments(sky, np.zeros((1, 0)))
    deviation = np.sqrt(np.diagonal(covariance[0]))
    standard_error = deviation / np.sqrt(N_SKIES)
    pixels = 0.01 * np.abs(mean[0])
    assert np.all(np.abs(data.mean(0) - mean[0]) < 5 * standard_error + pixels)
    np.testing.assert_allclose(data.std(0), deviation, rtol=0.04)
    correlation = covariance[0] / deviation[:, None] / deviation
    np.testing.assert_allclose(np.corrcoef(data.T), correlation, atol=0.03)
    # the cap's dipole is most of its quadrupole, and the energies share a sky
    assert correlation[0, 1] > 0.97
    assert 0.05 < correlation[0, 4] < 0.6


def test_draws_are_the_skies_that_went_through_maps(skies):
    """Laws of log powers, of ratios of powers and of their products with the dipole; 12 tests at 1e-4 each."""
    term, sky, data = skies
    rng = np.random.default_rng(21)
    many = TrueSky(sky.rigidity_tv, c_ell=np.repeat(sky.c_ell, 4000, axis=0))
    drawn = term.draw(many, np.zeros((4000, 0)), rng=rng)

    def features(x):
        square = x[:, 8] ** 2 + x[:, 9] ** 2
        return [*np.log(x[:, :8]).T, np.log(square), x[:, 8], np.log(x[:, 0] / square), np.log(x[:, 4] / square)]

    for mine, theirs in zip(features(drawn), features(data[:4000]), strict=True):
        # a common scale of 2 % is the pixels' freedom
        best = max(stats.ks_2samp(mine + shift, theirs).pvalue for shift in (-0.02, -0.01, 0.0, 0.01, 0.02))
        assert best > 1e-4


def full_sky(name, energy, ell, **choices):
    return spectrum(name, energy, ell, -90, 90, **choices)


def test_one_full_sky_spectrum_has_the_law_of_chi_square():
    """On the full sky powers are independent with 2 l degrees of freedom: differences of log density are exact."""
    ell = np.arange(1, 7)
    data = 0.7 * ell**-2.5 / (2 * ell + 1)
    term = OneSkyTerm(
        (full_sky("full", 10.0, ell, c_ell=data, noise=1e-12),), Nuisances(None, None, None), floor=0.0
    )
    slopes = np.array([-3.5, -3.0, -2.5, -2.0])
    c = np.concatenate([power_law(np.array([10.0]), 1.0, slope=slope, lmax=20) for slope in slopes])
    found = term.log_prob(TrueSky(np.array([10.0]), c_ell=c), np.zeros((4, 0)))
    expected = []
    for slope in slopes:
        scale = ell**slope / (2 * ell + 1)
        expected.append(stats.chi2.logpdf(data / scale, 2 * ell).sum() - np.log(scale).sum())
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], atol=1e-6)


@pytest.mark.parametrize("decades", [0.3, 1.0, 5.0])
def test_two_energies_have_the_law_of_two_correlated_exponentials(decades):
    """The filtered dipole power at two energies: Downton's law with the squared correlation of the sky."""
    rigidity = np.array([10.0, 20.0])
    pairs = np.array([[0.4, 0.5], [1.0, 0.8], [0.2, 0.9], [1.5, 1.5]])
    sky = TrueSky(rigidity, c_ell=power_law(rigidity, decades, lmax=20))
    squared = np.exp(-2 * np.log10(2.0) / decades)
    found, expected = [], []
    for pair in pairs:
        records = [full_sky(f"s{i}", rigidity[i], [1], c_ell=pair[i : i + 1], noise=1e-12) for i in range(2)]
        found.append(
            OneSkyTerm(tuple(records), Nuisances(None, None, None), floor=0.0).log_prob(sky, np.zeros((1, 0)))[0]
        )
        x, y = pair / (2 / 3)
        z = 2 * np.sqrt(squared * x * y) / (1 - squared)
        expected.append(np.log(ive(0, z)) + z - (x + y) / (1 - squared) - np.log(1 - squared))
    # differences of log density; the saddlepoint is not exact for this law
    np.testing.assert_allclose(np.subtract(found, found[0]), np.subtract(expected, expected[0]), atol=0.25)


def test_energies_without_memory_multiply():
    rigidity = np.array([10.0, 20.0])
    records = [spectrum(f"s{i}", rigidity[i], [1, 2, 3], -90, -25, noise=1e-3) for i in range(2)]
    joint = OneSkyTerm(tuple(records), Nuisances(None, None, None), energy_spread=False)
    apart = [OneSkyTerm((record,), Nuisances(None, None, None), energy_spread=False) for record in records]
    sky = TrueSky(rigidity, c_ell=power_law(rigidity, 1e-3, lmax=30))
    alone = [
        term.log_prob(TrueSky(rigidity[i : i + 1], c_ell=sky.c_ell[:, i : i + 1, i : i + 1]), np.zeros((1, 0)))
        for i, term in enumerate(apart)
    ]
    np.testing.assert_allclose(joint.log_prob(sky, np.zeros((1, 0))), sum(alone), rtol=1e-9)


def test_a_dipole_of_the_same_sky_tells_the_power():
    """Given a nearly noiseless dipole on the full sky, C_1 is known: a narrow Gaussian about 2 |a_11|^2 / 3."""
    direction = dipole(10.0, -90, 90, 1e-3, amplitude=0.5)
    components = np.array([0.5 * np.cos(0.7), 0.5 * np.sin(0.7)])
    a_11 = np.sqrt(2 * np.pi / 3) * components / (np.pi / 4)
    known = 2 * (a_11**2).sum() / 3
    sky = TrueSky(np.array([10.0]), c_ell=power_law(np.array([10.0]), 1.0, lmax=20))
    # its row has l = 3, 5, ... as well: leave them out of the sky, so that the dipole is a_11
    only = np.array(sky.c_ell)
    only[..., 2:] = 0.0
    sky = TrueSky(np.array([10.0]), c_ell=only)
    found = []
    for factor in (0.99, 0.995, 1.0, 1.005, 1.01):
        record = full_sky("full", 10.0, [1], c_ell=np.array([known * factor]), noise=1e-9)
        term = OneSkyTerm(
            (record, direction), Nuisances(None, None, None), DipoleScatter.none(), energy_spread=False, floor=0.0
        )
        found.append(term.log_prob(sky, np.zeros((1, 0)))[0])
    width = known * 2 * (1e-3 / 0.5)
    offsets = known * (np.array([0.99, 0.995, 1.0, 1.005, 1.01]) - 1)
    expected = stats.norm.logpdf(offsets, 0, width)
    np.testing.assert_allclose(np.array(found) - found[2], expected - expected[2], atol=0.15)


def test_errors_are_factors_of_the_powers():
    """One power of two degrees of freedom times exp(e): against the integral over e, for ten values of the power."""
    sky = TrueSky(np.array([10.0]), c_ell=power_law(np.array([10.0]), 1.0, lmax=20))
    values = np.geomspace(0.05, 2.0, 10)
    found = []
    for value in values:
        record = full_sky("full", 10.0, [1], c_ell=np.array([value]), noise=1e-12)
        term = OneSkyTerm((record,), Nuisances(None, None, None), floor=0.2)
        found.append(term.log_prob(sky, np.zeros((1, 0)))[0])
    error = np.linspace(-1.4, 1.4, 4001)
    inside = stats.chi2.pdf(values[:, None] * np.exp(-error) * 3.0, 2) * 3.0 * np.exp(-error)
    expected = np.log(np.trapezoid(inside * stats.norm.pdf(error, 0, 0.2), error, axis=1))
    np.testing.assert_allclose(np.subtract(found, expected), np.mean(np.subtract(found, expected)), atol=0.05)
