"""The joint likelihood's parts: nuisances, dipoles, refusals and configuration. Its law: tests/statistical."""

from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest

import obsfit
from obsfit.errors import ConfigurationError
from obsfit.infer import DipoleScatter, DipoleTerm, Likelihood, Nuisances, OneSkyTerm, Posterior, PowerTerm
from obsfit.infer.configured import DataSettings, FitConfiguration, ModelSettings, configured_posterior
from obsfit.infer.saddlepoint import Block, log_density
from obsfit.operators.energy import EnergyResponse
from obsfit.operators.pseudo import calibrated_window, pseudo_operator
from obsfit.records import DipoleMeasurements, Provenance, TrueSky

FIXED = Nuisances(None, None, None)
ICECUBE = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)
HAWC = obsfit.load_spectrum("hawc-icecube-2019-by-field", field="hawc").select(1, 6)


def dipoles(amplitude=(8e-4, 5e-4), phase=(0.7, 1.0), amplitude_error=2e-5, phase_error=0.15, names=("A", "A")):
    n = len(amplitude)
    return DipoleMeasurements(
        measurement=tuple("xyz"[:n]), observatory=names, energy_tev=np.full(n, 20.0), amplitude=np.array(amplitude),
        amplitude_error=np.full(n, amplitude_error), phase_rad=np.array(phase),
        phase_error_rad=np.full(n, phase_error), limit=np.full(n, np.nan), limit_level=np.full(n, np.nan),
        method=("right-ascension projection",) * n, dec_min_rad=np.radians(np.full(n, -10.0)),
        dec_max_rad=np.radians(np.full(n, 70.0)), zenith_max_rad=np.full(n, np.nan),
        errors_usable=np.ones(n, dtype=bool), provenance=Provenance("toy"),
    )  # fmt: skip


def sky_of(term, *, log10_c1=-6.0, exponent=0.4, n_vec=1):
    model = obsfit.load_model("relative-diffusion", rigidity_dependence=True)
    theta = np.tile([log10_c1, exponent, 0.3, 0.5], (n_vec, 1))
    return TrueSky(term.rigidity_tv, c_ell=model.c_ell(theta, term.rigidity_tv, term.lmax))


@pytest.mark.parametrize("deviation", [0.0, 1.3, -2.7, 5.9])
def test_the_weight_of_a_window_is_a_nuisance(deviation):
    """Moments at any exponent are those of the operator that is made with it."""
    term = OneSkyTerm((ICECUBE,), replace(FIXED, weight=Nuisances().weight))
    assert [parameter.name for parameter in term.parameters] == ["weight_24_tev"]
    sky = sky_of(term, n_vec=2)
    operator = pseudo_operator(ICECUBE, calibrated_window(ICECUBE).at(deviation), energy_spread=True)
    expected = replace(operator, energy=operator.energy.on(sky.rigidity_tv)).expect(sky)
    mean, covariance = term.moments(sky, np.array([[deviation], [0.0]]))
    errors = np.diag((np.hypot(ICECUBE.reading_error, term.floor) * mean[0]) ** 2)
    np.testing.assert_allclose(mean[0], expected.mean[0], rtol=2e-5)
    np.testing.assert_allclose(covariance[0] - errors, expected.covariance[0], rtol=1e-4, atol=1e-30)
    # each parameter vector has a weight of its own
    fixed = OneSkyTerm((ICECUBE,), FIXED)
    np.testing.assert_allclose(mean[1], fixed.moments(sky, np.zeros((2, 0)))[0][1], rtol=2e-5)


def test_a_weight_far_beyond_its_calibration_is_refused():
    term = OneSkyTerm((ICECUBE,), replace(FIXED, weight=Nuisances().weight))
    with pytest.raises(ConfigurationError, match=r"declination weight 7\.0 errors off its calibration"):
        term.moments(sky_of(term), np.array([[7.0]]))


def test_the_width_of_the_energy_response_is_a_nuisance():
    term = OneSkyTerm((ICECUBE,), replace(FIXED, width=Nuisances().width))
    assert [parameter.name for parameter in term.parameters] == ["response_width"]
    sky = sky_of(term)
    operator = pseudo_operator(ICECUBE, energy_spread=True)
    given = operator.energy
    wider = EnergyResponse.log_normal(given.median_tev, 1.2 * given.spread_dex, rigidity_tv=sky.rigidity_tv)
    expected = replace(operator, energy=wider).expect(sky)
    np.testing.assert_allclose(term.moments(sky, np.array([[1.2]]))[0], expected.mean, rtol=1e-9)
    # a sky that changes with rigidity loses power by averaging
    assert np.all(term.moments(sky, np.array([[1.2]]))[0] < term.moments(sky, np.array([[0.8]]))[0])


def test_scatter_of_an_experiment_is_common_to_its_rows():
    term = OneSkyTerm((dipoles(),), FIXED)
    nuisance = np.array([[0.2, 10.0, -4.0]])
    sky = TrueSky(term.rigidity_tv, c_ell=np.zeros((1, 1, 1, term.lmax + 1)))
    _, covariance = term.moments(sky, nuisance)
    published = term.data
    across = np.array([-published[1], published[0], -published[3], published[2]])
    expected = 0.04 * np.outer(published, published) + np.radians(10.0) ** 2 * np.outer(across, across)
    expected += 1e-8 * np.eye(4)
    for row in range(2):
        angle = dipoles().phase_rad[row]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        own = np.diag([2e-5**2, (dipoles().amplitude[row] * 0.15) ** 2])
        expected[2 * row : 2 * row + 2, 2 * row : 2 * row + 2] += turn @ own @ turn.T
    np.testing.assert_allclose(covariance[0], expected, rtol=1e-9)


def test_dipoles_alone_have_the_normal_law_of_the_dipole_term():
    """Without scatter about the dipoles the two terms are the same law."""
    record = dipoles()
    one_sky = OneSkyTerm((record,), FIXED, DipoleScatter.none(), energy_spread=False)
    alone = DipoleTerm(record, DipoleScatter.none())
    sky = sky_of(one_sky)
    short = TrueSky(sky.rigidity_tv, c_ell=sky.c_ell[..., : alone.lmax + 1])
    empty = np.zeros((1, 0))
    np.testing.assert_allclose(one_sky.log_prob(sky, empty), alone.log_prob(short, empty), rtol=1e-10)


def test_errors_of_amplitude_and_phase_may_differ():
    """The law given dipoles whose errors are far from circular, against one block of real and imaginary parts."""
    record = dipoles(amplitude=(8e-4,), phase=(0.7,), names=("A",))
    pseudo = HAWC.select(1, 3)
    term = OneSkyTerm((pseudo, record), FIXED, DipoleScatter.none(), energy_spread=False, floor=0.0)
    sky, empty = sky_of(term), np.zeros((1, 0))
    operator = replace(pseudo_operator(pseudo), energy=EnergyResponse.delta([pseudo.energy_tev]))
    row = obsfit.operator_for(record).response[1][0, 1]
    c = sky.c_ell[0]
    size = row.size
    blocks, linear = [], None
    for m in (1, 2, 3):
        response, ell = operator.response[m][0, max(m, 1) : 4], np.arange(max(m, 1), 4)
        stop = response.shape[1]
        covariance = (response * c[0, 0, :stop]) @ response.T + operator.noise[m][0][m:4, m:4]
        if m > 1:
            blocks.append(Block(ell - 1, 2 / (2 * ell + 1), covariance[None] / 2, 2))
            continue
        real = np.kron(np.eye(2), covariance / 2)
        shared = (response[:, :size] * c[0, 1, :size]) @ row
        scale = np.sqrt(1.5 / np.pi) * np.array([-1.0, 1.0])
        cross = np.zeros((2, 3, 2))
        cross[0, :, 0], cross[1, :, 1] = scale[0] * shared / 2, scale[1] * shared / 2
        cross = cross.reshape(6, 2)
        signal = 0.5 * 1.5 / np.pi * (row**2 @ c[1, 1, :size]) * np.eye(2)
        total = signal + term.moments(TrueSky(sky.rigidity_tv, c_ell=0 * sky.c_ell), empty)[1][0, 3:, 3:]
        inverse = np.linalg.inv(total)
        mean = cross @ inverse @ term.data[3:]
        index = np.tile(ell - 1, 2)
        blocks.append(
            Block(
                index, 2 / (2 * np.tile(ell, 2) + 1), (real - cross @ inverse @ cross.T)[None], 1, mean[None, None]
            )
        )
        linear = -0.5 * (term.data[3:] @ inverse @ term.data[3:] + np.linalg.slogdet(2 * np.pi * total)[1])
    expected = linear + log_density(pseudo.c_ell, blocks, reading=np.zeros(3))
    # errors of 2.5 and 15 per cent: the circular mean of what they leave costs little
    np.testing.assert_allclose(term.log_prob(sky, empty), expected, atol=0.1)


def test_what_a_likelihood_refuses_and_takes():
    whole = obsfit.load_spectrum("hawc-icecube-2019")
    with pytest.raises(ConfigurationError, match="share measurements"):
        Likelihood(whole, HAWC)
    with pytest.raises(ConfigurationError, match="share measurements"):
        Likelihood(obsfit.load_dipoles("ahlers-mertsch-2017"), obsfit.load_dipoles("li-2024"))
    # two analyses of partly the same events are two views of one sky
    (term,) = Likelihood(whole, ICECUBE).terms
    assert isinstance(term, OneSkyTerm)
    assert set(Likelihood(whole, ICECUBE).data_checksums) == {"hawc-icecube-2019", "icecube-2025"}
    assert isinstance(Likelihood(whole).terms[0], PowerTerm)
    assert isinstance(Likelihood(ICECUBE).terms[0], OneSkyTerm)


def test_draws_of_an_ensemble_are_refused():
    term = OneSkyTerm((ICECUBE,), FIXED)
    draws = np.zeros((1, 3, term.rigidity_tv.size, 3), dtype=complex)
    with pytest.raises(ValueError, match="this one has draws"):
        term.log_prob(TrueSky(term.rigidity_tv, draws=draws), np.zeros((1, 0)))


def test_nearly_equal_powers_are_counted():
    """Multipoles 1 to 3 of a cap are nearly one number: with a large reading error two directions are below it."""
    coarse = OneSkyTerm((replace(ICECUBE, reading_error=0.3),), FIXED, floor=0.0)
    fine = OneSkyTerm((replace(ICECUBE, reading_error=1e-6),), FIXED, floor=0.0)
    empty = np.zeros((1, 0))
    assert fine.directions_below_reading(sky_of(fine), empty)[0] == 0
    assert coarse.directions_below_reading(sky_of(coarse), empty)[0] >= 2


def test_a_configuration_takes_several_data_sets():
    configuration = FitConfiguration(
        seed=1,
        data=(
            DataSettings(spectrum="icecube-2025", energies=("13 TeV", "24 TeV")),
            DataSettings(spectrum="hawc-icecube-2019", ell_min=2, ell_max=6),
        ),
        model=ModelSettings(("relative-diffusion",), {"relative-diffusion": {"rigidity_dependence": True}}),
    )
    joint = configured_posterior(configuration, base=Path())
    assert joint.names == (
        "log10_c1", "exponent", "slope", "log10_coherence", "log10_noise", "response_width", "weight_13_tev",
        "weight_24_tev",
    )  # fmt: skip
    apart = configured_posterior(replace(configuration, assume_independent_skies=True), base=Path())
    assert len(apart.likelihood.terms) == 3
    sharp = configured_posterior(replace(configuration, energy_spread=False), base=Path())
    assert "response_width" not in sharp.names
    everything = DataSettings(spectrum="icecube-2025", energies=("all",))
    assert len(configured_posterior(replace(configuration, data=everything), base=Path()).likelihood.terms) == 1


def test_more_data_sets_know_more():
    """The joint log likelihood is no sum: nine views of one sky say less than nine skies would."""
    model = obsfit.load_model("relative-diffusion")
    records = [obsfit.load_spectrum("icecube-2025", energy=e * u.TeV) for e in (13, 24)]
    theta = np.array([[-5.5, 0.2], [-5.5, 0.6]])
    joint = Posterior(model, Likelihood(OneSkyTerm(tuple(records), FIXED)))
    apart = [Posterior(model, Likelihood(OneSkyTerm((record,), FIXED))) for record in records]
    change = np.diff(joint.log_prob(theta))[0]
    alone = [np.diff(posterior.log_prob(theta))[0] for posterior in apart]
    assert abs(change) < abs(sum(alone))
