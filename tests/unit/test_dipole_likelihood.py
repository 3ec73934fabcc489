"""The dipole likelihood against a dense normal density and against Monte Carlo integration of its nuisances."""

import numpy as np
import pytest
from scipy import stats

from obsfit.errors import ConfigurationError
from obsfit.infer import DipoleScatter, DipoleTerm, Likelihood, OneSkyTerm
from obsfit.protocols import dipole_alm
from obsfit.records import DipoleMeasurements, Provenance, TrueSky

NAN = np.full(5, np.nan)


def record(name="toy", keys="abcde"):
    return DipoleMeasurements(
        measurement=tuple(keys), observatory=("A", "B", "A", "B", "B"), method=("deprojected",) * 5,
        energy_tev=np.array([1.0, 10.0, 20.0, 30.0, 30.0]), amplitude=np.array([8.0, 9.0, 7.0, 5.0, np.nan]) * 1e-4,
        amplitude_error=np.array([0.5, 1.0, 0.3, 2.0, np.nan]) * 1e-4,
        phase_rad=np.array([0.4, 0.9, 0.7, 3.0, np.nan]), phase_error_rad=np.array([0.05, 0.1, 0.02, 0.5, np.nan]),
        limit=np.array([np.nan] * 4 + [6e-4]), limit_level=np.array([np.nan] * 4 + [0.99]), dec_min_rad=NAN,
        dec_max_rad=NAN, zenith_max_rad=NAN, errors_usable=np.ones(5, bool), provenance=Provenance(name),
    )  # fmt: skip


def sky_of(term, vectors):
    """One dipole for each parameter vector, the same at all rigidities."""
    rigidity = term.operator.energy.rigidity_tv
    alm = np.repeat(dipole_alm(np.asarray(vectors))[:, None], rigidity.size, axis=1)
    return TrueSky(rigidity, alm)


NUISANCE = np.array([[0.2, 8.0, -4.0], [1e-9, 1e-9, -9.0], [0.7, 40.0, -3.2]])
VECTORS = np.array([[5e-4, 4e-4, 1e-4], [7e-4, 1e-4, 0.0], [-3e-4, 2e-4, 5e-4]])


def test_components_have_the_covariance_of_amplitude_and_phase():
    """Monte Carlo: draw amplitude and phase, form components. 4e5 draws: 1 % of the variances is beyond 4 sigma."""
    rng = np.random.default_rng(1)
    rec = record().select([0, 2])
    components, covariance = rec.components()
    amplitude = rec.amplitude + rec.amplitude_error * rng.normal(size=(400_000, 2))
    phase = rec.phase_rad + rec.phase_error_rad * rng.normal(size=(400_000, 2))
    drawn = np.stack([amplitude * np.cos(phase), amplitude * np.sin(phase)], -1)
    for row in range(2):
        scale = np.sqrt(np.outer(np.diag(covariance[row]), np.diag(covariance[row])))
        np.testing.assert_allclose(np.cov(drawn[:, row].T) / scale, covariance[row] / scale, atol=0.012)
    np.testing.assert_allclose(components, drawn.mean(0), atol=2e-6)


def test_against_the_dense_normal_density():
    """The 2 x 2 block algebra against scipy's density with an explicitly built covariance."""
    term = DipoleTerm(record())
    got = term.log_prob(sky_of(term, VECTORS), NUISANCE)
    rec = record()
    for vector, nuisance, value in zip(VECTORS, NUISANCE, got, strict=True):
        mean = np.tile(vector[:2], 5)
        covariance = np.zeros((10, 10))
        for i in range(4):
            a, s, t = rec.phase_rad[i], rec.amplitude_error[i], rec.amplitude[i] * rec.phase_error_rad[i]
            along, across = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
            covariance[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = s**2 * np.outer(along, along)
            covariance[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] += t**2 * np.outer(across, across)
        # An isotropic sky exceeds 6e-4 with probability 1 %: exp(-A^2 / 2 sigma^2) = 0.01.
        covariance[8:, 8:] = np.eye(2) * 3.6e-7 / (2 * np.log(100.0))
        covariance += np.eye(10) * 10.0 ** (2 * nuisance[2])
        turned = np.tile([-vector[1], vector[0]], 5)
        for experiment in "AB":
            own = np.repeat([o == experiment for o in rec.observatory], 2)
            for width, shape in ((nuisance[0], mean), (np.radians(nuisance[1]), turned)):
                covariance += width**2 * np.outer(own * shape, own * shape)
        data = np.zeros(10)
        data[0:8:2] = rec.amplitude[:4] * np.cos(rec.phase_rad[:4])
        data[1:8:2] = rec.amplitude[:4] * np.sin(rec.phase_rad[:4])
        assert value == pytest.approx(stats.multivariate_normal(mean, covariance).logpdf(data), abs=1e-6)


def test_scatter_between_experiments_is_integrated_exactly():
    """Average the plain likelihood over drawn offsets: 4e5 draws give the integral to about 1 % (seeded)."""
    rng = np.random.default_rng(2)
    rec = record().select([0, 2])
    vector = np.array([6.2e-4, 4.4e-4, 0.0])
    term = DipoleTerm(rec, DipoleScatter(stats.halfnorm(), stats.halfnorm(), None))
    got = term.log_prob(sky_of(term, vector[None]), np.array([[0.2, 6.0]]))[0]
    plain = DipoleTerm(rec, DipoleScatter.none())
    scale, turn = 1.0 + 0.2 * rng.normal(size=400_000), np.radians(6.0) * rng.normal(size=400_000)
    drawn = np.stack([scale * vector[0] - turn * vector[1], scale * vector[1] + turn * vector[0], 0 * scale], -1)
    values = plain.log_prob(sky_of(plain, drawn), np.zeros((400_000, 0)))
    integral = np.log(np.mean(np.exp(values - values.max()))) + values.max()
    assert got == pytest.approx(integral, abs=0.03)


def test_a_limit_speaks_of_the_amplitude_alone():
    """The likelihood of a limit does not see the phase, and falls by 1 - level from zero to the limit."""
    term = DipoleTerm(record().select([4]), DipoleScatter.none())
    angles = np.linspace(0, 2 * np.pi, 7)
    ring = 6e-4 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
    at_limit = term.log_prob(sky_of(term, ring), np.zeros((7, 0)))
    at_zero = term.log_prob(sky_of(term, np.zeros((1, 3))), np.zeros((1, 0)))
    np.testing.assert_allclose(at_limit - at_zero, np.log(0.01), rtol=1e-12)


def test_isotropic_sky_enters_the_covariance_coherently():
    """A random isotropic part shifts all rows together: against 40 000 drawn skies, 5 sigma = 3.5 %."""
    rng = np.random.default_rng(3)
    term = DipoleTerm(record().select([0, 1, 2, 3]), DipoleScatter.none())
    rigidity = term.operator.energy.rigidity_tv
    c_1 = 4e-7
    sky = TrueSky(rigidity, None, np.broadcast_to([0.0, c_1], (1, 4, 4, 2)))
    # A random a_1m of power C_1 is a random vector with independent components of variance 3 C_1 / 4 pi.
    vectors = rng.normal(size=(40_000, 3)) * np.sqrt(3 * c_1 / (4 * np.pi))
    noise = np.array(
        [rng.multivariate_normal(np.zeros(2), v, 40_000) for v in record().select([0, 1, 2, 3]).components()[1]]
    )
    data = (vectors[None, :, :2] + noise).transpose(1, 0, 2).reshape(40_000, 8)
    expected = term.covariance(sky, np.zeros((1, 0)))[0]
    np.testing.assert_allclose(np.cov(data.T), expected, atol=0.035 * expected.max())
    by_hand = stats.multivariate_normal(np.zeros(8), expected).logpdf(term.data)
    assert term.log_prob(sky, np.zeros((1, 0)))[0] == pytest.approx(by_hand, abs=1e-8)


def test_offsets_of_experiments_agree_with_a_joint_normal():
    """Conditional mean of the offsets against ordinary least squares with a prior."""
    term = DipoleTerm(record(), DipoleScatter())
    vector, nuisance = VECTORS[:1], NUISANCE[:1]
    mean, deviation = term.experiment_offsets(sky_of(term, vector), nuisance)
    widths = np.array([nuisance[0, 0], np.radians(nuisance[0, 1])])
    noise = term.covariance(sky_of(term, 0 * vector), nuisance)[0]
    rows = np.repeat([o == "A" for o in record().observatory], 2)
    design = np.stack([np.tile(vector[0, :2], 5), np.tile([-vector[0, 1], vector[0, 0]], 5)], -1)[rows]
    precision = design.T @ np.linalg.inv(noise[np.ix_(rows, rows)]) @ design + np.diag(1 / widths**2)
    pull = design.T @ np.linalg.inv(noise[np.ix_(rows, rows)]) @ (term.data - np.tile(vector[0, :2], 5))[rows]
    to_user = np.array([1.0, np.degrees(1.0)])
    np.testing.assert_allclose(mean[0, 0], np.linalg.solve(precision, pull) * to_user, rtol=1e-9)
    np.testing.assert_allclose(deviation[0, 0], np.sqrt(np.diag(np.linalg.inv(precision))) * to_user, rtol=1e-9)


def test_the_same_measurement_twice_is_refused():
    with pytest.raises(ConfigurationError, match="share measurements: a, b"):
        Likelihood(record("one"), record("two"), assume_independent_skies=True)


def test_records_share_one_sky_unless_asked_for():
    pair = record("one"), record("two", keys="vwxyz")
    (joint,) = Likelihood(*pair).terms
    assert isinstance(joint, OneSkyTerm)
    assert joint.records == pair
    apart = Likelihood(*pair, assume_independent_skies=True)
    assert apart.assume_independent_skies
    assert len(apart.terms) == 2


def test_terms_of_one_sky_are_refused_unless_asked_for():
    pair = DipoleTerm(record("one")), DipoleTerm(record("two", keys="vwxyz"))
    with pytest.raises(ConfigurationError, match="assume_independent_skies"):
        Likelihood(*pair)
    assert len(Likelihood(*pair, assume_independent_skies=True).terms) == 2
