"""The fits to published data: their pure pieces against other routes, and a short run of the spectrum's fit."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import least_squares

import obsfit
from obsfit.infer import (
    DipoleScatter,
    DipoleTerm,
    Likelihood,
    Posterior,
    PowerTerm,
    SamplerSettings,
    discrepancy,
    maximum_likelihood,
    predictive_p_value,
)
from obsfit.records import PowerSpectrum, TrueSky


def whole_sky(spectrum):
    """The measurement as if its map had covered the sphere evenly: then its law is a plain chi-square."""
    return replace(spectrum, dec_max_rad=np.pi / 2, noise_contrast=1.0)


FOLDER = Path(__file__).parents[2] / "analyses/fits"


def analysis(name):
    spec = importlib.util.spec_from_file_location(f"fits_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dipole_fit():
    return analysis("dipoles_table1")


@pytest.fixture(scope="module")
def spectrum_fit():
    return analysis("spectrum_10tev")


@pytest.fixture(scope="module")
def table1():
    return obsfit.load_dipoles("ahlers-mertsch-2017")


def projected(dec_min, dec_max):
    """Eq. (25) of AM17 by the mean of cos(dec) over pixels of equal area."""
    dec = np.degrees(np.pi / 2 - hp.pix2ang(128, np.arange(hp.nside2npix(128)))[0])
    return np.cos(np.radians(dec[(dec > dec_min) & (dec < dec_max)])).mean()


def test_four_neighbours_contradict_each_other(dipole_fit, table1):
    """Least squares in amplitude and phase residuals along and across each printed dipole, numbers typed from Table 1.

    Pixels of nside 128 leave an error of some 1e-3 in the field-of-view factors, and twice that in chi-square.
    """
    rows = [
        (7.9, 0.1, 51, 1, projected(-90, -25)),  # IceCube 13 TeV
        (8.7, 0.5, 37, 4, projected(-15, 75)),  # ARGO-YBJ 13.6 TeV
        (8.5, 0.2, 22, 2, projected(-30, 90)),  # Tibet 15 TeV
        (6.6, 1.0, 33, 8, 1.0),  # Super-K 12 TeV
    ]

    def residuals(vector):
        out = []
        for amplitude, amplitude_error, phase, phase_error, factor in rows:
            turn = np.exp(-1j * np.radians(phase))
            off = (vector[0] + 1j * vector[1]) * turn * factor - amplitude
            out += [off.real / amplitude_error, off.imag / (amplitude * np.radians(phase_error))]
        return np.array(out)

    best = least_squares(residuals, [8.0, 8.0], xtol=1e-14, ftol=1e-14)
    vector, chi2 = dipole_fit.common_vector(table1)
    assert chi2 == pytest.approx(2 * best.cost, rel=1e-2)
    np.testing.assert_allclose(1e4 * vector, best.x, rtol=3e-3)
    assert round(chi2) == 256
    assert stats.chi2.sf(chi2, 6) < 1e-50


def test_rows_of_the_fit(dipole_fit, table1):
    """35 rows less one of IceCube and two of KASCADE-Grande above 5 PeV."""
    chosen = dipole_fit.selection(table1)
    assert len(chosen) == 32
    assert chosen.energy_tev.min() == 0.98
    assert sorted(set(table1.measurement) - set(chosen.measurement)) == [
        "icecube-2016-5.4PeV", "kascade-grande-33PeV", "kascade-grande-6.1PeV",
    ]  # fmt: skip


def test_omissions_are_each_experiment_once_and_the_pair(dipole_fit, table1):
    chosen = dipole_fit.selection(table1)
    left_out = dipole_fit.omissions(chosen)
    assert len(left_out) == 11
    sizes = {name: 32 - len(dipole_fit.selection(table1, names)) for name, names in left_out.items()}
    assert sum(size for name, size in sizes.items() if "+" not in name) == 32
    assert sizes["IceCube + IceTop"] == sizes["IceCube"] + sizes["IceTop"] == 10


def test_e8_power_of_a_cut_sky_has_been_divided_by_its_fraction():
    """White noise cut at declination 67 deg, divided by the sky fraction as the table was: its power is the noise.

    The mean over 400 maps and l = 5 to 40 has a relative error of 2 per mille, 4 of which are allowed; one more factor
    of the sky fraction would make 40.
    """
    rng = np.random.default_rng(5)
    nside, lmax = 32, 40
    dec = np.degrees(np.pi / 2 - hp.pix2ang(nside, np.arange(hp.nside2npix(nside)))[0])
    inside = dec < 67
    noise = 4 * np.pi / dec.size
    spectra = [
        hp.alm2cl(hp.map2alm(np.where(inside, rng.normal(size=dec.size), 0.0), lmax=lmax, iter=3)) / inside.mean()
        for _ in range(400)
    ]
    mean = np.mean(spectra, axis=0)[5:]
    template = obsfit.load_spectrum("hawc-icecube-2019").select(5, 40)
    ones = np.ones(len(template))
    record = PowerSpectrum(
        "toy", "full-sky", 10.0, template.ell, mean, noise * ones, ones, *[np.nan * ones] * 4, False,
        template.dec_min_rad, template.dec_max_rad, template.provenance,
    )  # fmt: skip
    term = PowerTerm(record, None)
    expected, _ = term.moments(TrueSky(np.array([10.0]), None, np.zeros((1, 1, 1, 41))), np.zeros((1, 0)))
    assert (mean / expected[0]).mean() == pytest.approx(1.0, abs=8e-3)


def test_plateau_scatters_less_than_noise(spectrum_fit):
    """Where the fit stops: rms of l = 31 to 34 without the window, from the printed columns c_ell_deconvolved."""
    level = np.array([4.159, 4.053, 3.968, 3.905])
    scatter, noise = spectrum_fit.plateau_scatter(obsfit.load_spectrum("hawc-icecube-2019"), 31, 34)
    assert scatter == pytest.approx(level.std(ddof=1) / level.mean(), rel=1e-3)
    assert noise == pytest.approx(np.sqrt(np.mean([1 / ell for ell in (31, 32, 33, 34)])), rel=1e-12)


@pytest.fixture(scope="module")
def short(spectrum_fit, tmp_path_factory):
    """Relative diffusion from l = 2 in chains of 12 autocorrelation times, and what the page is made of."""
    module = spectrum_fit
    folder = tmp_path_factory.mktemp("fits")
    keep = module.ELL_MIN
    module.ELL_MIN = (2,)
    found = module.fits(
        whole_sky(obsfit.load_spectrum("hawc-icecube-2019")), folder, seed=3, settings=SamplerSettings(target=12)
    )
    yield module, found, folder
    module.ELL_MIN = keep


def test_exponent_by_integration_over_a_grid(short):
    """Posterior mean and deviation of p on a grid, with the chi-square density written out anew.

    A chain of 12 autocorrelation times with 32 walkers has some 380 independent samples: 0.05 deviations, here 4 of
    them are allowed (false alarm 1e-4).
    """
    _, found, _ = short
    (fit,) = [f for f in found if f.model == "relative-diffusion"]
    data = obsfit.load_spectrum("hawc-icecube-2019").select(2, 30)
    ell, k = data.ell, 2.0 * data.ell
    p = np.linspace(0.005, 0.995, 100)
    from scipy.integrate import quad_vec
    from scipy.special import eval_legendre

    # Eq. (77) of AM17 by quadrature in y = (1 - x)^(1 - p), which takes the singularity away.
    def ratio(exponent):
        def integrand(y):
            x = 1 - y ** (1 / (1 - exponent))
            return x * eval_legendre(np.concatenate([[1], ell]), x)

        value = quad_vec(integrand, 0, 2 ** (1 - exponent), epsrel=1e-8)[0]
        return 2 / (ell * (ell + 1)) * value[1:] / value[0]

    shapes = np.array([ratio(e) for e in p])
    c1 = 10 ** np.linspace(-8, -4, 121)[:, None, None]
    noise = data.noise * 10 ** np.linspace(-0.5, 0.6, 56)[:, None]
    weight = []
    for shape in shapes:
        s = data.window_power * (c1 * shape + noise)
        x = (2 * ell + 1) * data.c_ell / s
        weight.append(np.exp(stats.chi2.logpdf(x, k).sum(-1) + np.log((2 * ell + 1) / s).sum(-1) - 600).sum())
    weight = np.array(weight) / np.sum(weight)
    mean = np.sum(weight * p)
    deviation = np.sqrt(np.sum(weight * (p - mean) ** 2))
    sampled = fit.column("exponent")
    assert sampled.mean() == pytest.approx(mean, abs=0.2 * deviation)
    assert sampled.std() == pytest.approx(deviation, rel=0.2)


def test_tables_say_what_is_identified(short):
    module, found, _ = short
    table = module.summary(found, seed=3)
    assert len(table) == 6
    assert set(table["identified"][table["parameter"] == "log10_noise"]) == {True}
    assert np.all((table["predictive_p"] > 0.05) & (table["predictive_p"] < 0.95))
    bands = module.predictions(found, whole_sky(obsfit.load_spectrum("hawc-icecube-2019")), seed=3)
    assert bands["ell"][bands["fitted"]].tolist() == list(range(2, 31))
    for model in module.MODELS:
        inside = (bands["observed"] > bands[f"{model}_p16"]) & (bands["observed"] < bands[f"{model}_p84"])
        # 29 multipoles, 68 %: 13 or fewer inside has a probability of 0.7 per cent.
        assert inside[bands["fitted"]].sum() > 13


def test_a_stored_fit_is_taken_and_one_of_other_settings_is_not(short):
    module, found, folder = short
    path = folder / "relative-diffusion-from-2.h5"
    before = path.stat().st_mtime_ns
    spectrum = whole_sky(obsfit.load_spectrum("hawc-icecube-2019"))
    again = module.fits(spectrum, folder, seed=3, settings=SamplerSettings(target=12))
    assert path.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again[0].samples, found[0].samples)
    other = module.fits(spectrum, folder, seed=4, settings=SamplerSettings(target=12))
    assert path.stat().st_mtime_ns > before
    assert other[0].samples.shape != found[0].samples.shape or not np.array_equal(
        other[0].samples, found[0].samples
    )


def test_discrepancy_of_dipoles_is_the_weighted_square(table1):
    record = table1.select([14, 15, 16])
    term = DipoleTerm(record, DipoleScatter.none())
    posterior = Posterior(obsfit.load_model("compton-getting"), Likelihood(term))
    theta = np.array([[2.7]])
    sun = 4.7 * np.array([-0.87, -16.52]) / 299792.458  # Eq. (60) with the velocity in the LSR
    expected = 0.0
    for row in range(3):
        factor = projected(-15, 75)
        turn = np.exp(-1j * record.phase_rad[row])
        off = factor * (sun[0] + 1j * sun[1]) * turn - record.amplitude[row]
        expected += (off.real / record.amplitude_error[row]) ** 2
        expected += (off.imag / (record.amplitude[row] * record.phase_error_rad[row])) ** 2
    (sky,) = posterior.skies(theta)
    assert discrepancy(term, sky, np.zeros((1, 0)), term.data)[0] == pytest.approx(expected, rel=2e-3)
    assert predictive_p_value(posterior, np.full((500, 1), 2.7), rng=np.random.default_rng(1)) == 0.0


@pytest.mark.parametrize("fixed", [False, True])
def test_discrepancy_counts_the_multipoles_and_ranks_evenly(fixed):
    """Skies of normal a_lm, drawn here: at the truth the discrepancy has mean n_ell, and its rank is uniform.

    3000 skies: the mean to 5 of its standard errors; Kolmogorov-Smirnov at 1e-3.
    """
    spectrum = whole_sky(obsfit.load_spectrum("hawc-icecube-2019").select(1, 12))
    model = obsfit.load_model("relative-diffusion")
    truth = [-8.0, 0.4, 0.2]
    if fixed:  # 20 times the power of the random dipole
        model = obsfit.add_models(model, obsfit.load_model("compton-getting"))
        truth = [-8.0, 0.4, 2.7, 0.2]
    posterior = Posterior(model, Likelihood(PowerTerm(spectrum)))
    theta = np.repeat([truth], 3000, axis=0)
    rng = np.random.default_rng(8)
    term = posterior.likelihood.terms[0]
    (sky,), (nuisance,) = posterior.skies(theta), posterior.nuisances(theta)
    sun = 4.7 * np.hypot(0.87, 16.52) / 299792.458
    power = []
    for degree, noise, window, signal in zip(
        spectrum.ell, spectrum.noise, spectrum.window_power, sky.c_ell[0, 0, 0, 1:], strict=True
    ):
        modes = rng.normal(size=(3000, 2 * degree)) * np.sqrt(signal + noise * 10**0.2)
        if fixed and degree == 1:
            modes[:, 0] += np.sqrt(2) * np.sqrt(2 * np.pi / 3) * sun
        power.append(window * np.sum(modes**2, axis=1) / (2 * degree + 1))
    here = discrepancy(term, sky, nuisance, np.array(power).T)
    assert here.mean() == pytest.approx(12.0, abs=5 * here.std() / np.sqrt(3000))
    drawn = discrepancy(term, sky, nuisance, posterior.draw(theta, rng=rng)[0])
    assert stats.ks_2samp(here, drawn).pvalue > 1e-3


def test_maximum_likelihood_of_a_normal_problem(table1):
    """One parameter that is linear in the data: the maximum is the weighted mean, whatever the prior says."""
    record = table1.select([table1.measurement.index("tibet-2015-100TeV")])
    posterior = Posterior(
        obsfit.load_model("compton-getting"), Likelihood(DipoleTerm(record, DipoleScatter.none())),
        priors={"spectral_index": stats.norm(3.0, 2.0)},
    )  # fmt: skip
    factor = projected(-30, 90)
    beta = factor * np.array([-0.87, -16.52]) / 299792.458
    phase, error = np.radians(327), np.radians(12)
    turn = np.array([[np.cos(phase), np.sin(phase)], [-np.sin(phase), np.cos(phase)]])
    slope = (turn @ beta) / np.array([0.6e-4, 2.7e-4 * error])
    value = np.array([2.7e-4, 0.0]) / np.array([0.6e-4, 2.7e-4 * error])
    best = slope @ value / (slope @ slope) - 2.0
    theta, log_likelihood = maximum_likelihood(posterior, np.array([[2.5], [3.5]]))
    assert theta[0] == pytest.approx(best, abs=0.02)
    off = value - slope * (best + 2.0)
    expected = -0.5 * off @ off - np.log(2 * np.pi * 0.6e-4 * 2.7e-4 * error)
    assert log_likelihood == pytest.approx(expected, abs=0.02)
