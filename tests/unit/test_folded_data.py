"""Folded data: their order, coordinates and refusals, and training sets of a small model. Their law: tests/physics."""

from dataclasses import replace

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy import integrate, stats

import obsfit
from obsfit.emulate.folding import FoldedData, FoldingErrors, band_shares, training_set
from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.parameters import Parameter, draw_prior

LMAX = 10
NODES = 10.0 ** np.arange(-0.5, 3.1, 0.5)


class IsotropicFields:
    """Gaussian skies with C_l = A^2 l^-slope; each field has a slope of its own. Bands shift with log10_scale."""

    name = "isotropic-fields"
    parameters = (
        Parameter("log10_scale", stats.uniform(-0.1, 0.2)),
        Parameter("slope", stats.uniform(2.0, 1.0)),
        Parameter("log10_amplitude", stats.uniform(-3.0, 1.0)),
        Parameter("gradient_right_ascension", stats.uniform(0.0, 2 * np.pi)),
    )
    fields = 6

    def field_theta(self, field, size, *, rng):
        theta = draw_prior(self.parameters, size, rng=rng)
        theta[:, 1] = 2.0 + (field + 0.5) / self.fields
        theta[:, 3] = 0.0
        return theta

    def field_skies(self, field, theta, lmax, *, rng):
        ell, m = hp.Alm.getlm(lmax)
        white = rng.normal(size=(2, len(theta), 1, ell.size))
        unit = np.where(m == 0, white[0], (white[0] + 1j * white[1]) / np.sqrt(2.0))
        root = 10.0 ** theta[:, 2:3] * np.where(ell > 0, np.maximum(ell, 1) ** (-0.5 * theta[:, 1:2]), 0.0)
        alm = np.repeat(unit * root[:, None], NODES.size, axis=1)
        return NODES * 10.0 ** theta[:, :1], alm


NAMES = tuple(parameter.name for parameter in IsotropicFields.parameters)


@pytest.fixture(scope="module")
def records():
    table = obsfit.load_dipoles("ahlers-mertsch-2017")
    rows = [table.measurement.index(key) for key in ("icecube-2016-24TeV", "tibet-2015-15TeV")]
    cap = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 6)
    return obsfit.load_spectrum("hawc-icecube-2019").select(2, 4), table.select(rows), cap


@pytest.fixture(scope="module")
def folded(records):
    return FoldedData(records, NAMES)


def test_the_data_are_those_published(folded, records):
    whole, _, cap = records
    assert folded.labels[:4] == (
        "hawc-icecube-2019-10TeV l=2", "hawc-icecube-2019-10TeV l=3", "hawc-icecube-2019-10TeV l=4",
        "icecube-2025-24TeV l=1",
    )  # fmt: skip
    assert folded.labels[-4:] == (
        "icecube-2016-24TeV 0h", "icecube-2016-24TeV 6h", "tibet-2015-15TeV 0h", "tibet-2015-15TeV 6h",
    )  # fmt: skip
    np.testing.assert_array_equal(folded.data[:8], [*whole.c_ell, *cap.c_ell])
    # Tibet at 15 TeV: 8.5e-4 at 22 degrees
    np.testing.assert_allclose(
        folded.data[-2:], 8.5e-4 * np.array([np.cos(np.radians(22.0)), np.sin(np.radians(22.0))]), rtol=1e-6
    )
    assert folded.energy_tev.tolist() == [10.0] * 3 + [24.0] * 7 + [15.0] * 2
    assert folded.learnt == ("log10_scale", "slope", "log10_amplitude")


def test_coordinates_go_there_and_back(folded):
    rng = np.random.default_rng(1)
    theta = draw_prior(IsotropicFields.parameters, 5, rng=rng)
    values = folded.coordinates(folded.data, theta)
    np.testing.assert_allclose(
        folded.from_coordinates(values, theta), np.tile(folded.data, (5, 1)), rtol=1e-12, atol=1e-18
    )
    # by hand for one vector: complex numbers, turned backwards
    _, _, log10_amplitude, angle = theta[0]
    assert values[0, 3] == pytest.approx(np.log(folded.data[3] / 10 ** (2 * log10_amplitude)))
    turned = complex(*folded.data[-2:]) * np.exp(-1j * angle) / 10**log10_amplitude
    assert np.exp(values[0, -2]) == pytest.approx(abs(turned))
    assert stats.norm.cdf(values[0, -1]) == pytest.approx(0.5 + np.angle(turned) / (2 * np.pi))
    assert folded.value_labels(folded.labels[-2:]) == ("tibet-2015-15TeV size", "tibet-2015-15TeV phase")


def test_a_dipole_opposite_to_the_gradient_has_finite_coordinates(folded):
    """The cut of the phase is no place where a density may be infinite; a dipole that is zero has no phase."""
    data = folded.data.copy()
    data[-2:] = [-1e-3, 0.0]
    theta = np.array([[0.0, 1.0, -3.0, 0.0], [0.0, 1.0, -3.0, 1e-9], [0.0, 1.0, -3.0, -1e-9]])
    values = folded.coordinates(data, theta)
    assert np.all(np.abs(values[:, -1]) < 9.0)
    assert np.sign(values[1:, -1]).tolist() == [1.0, -1.0]
    assert np.all(np.isfinite(folded.log_jacobian(theta, data)))
    data[-2:] = 0.0
    with pytest.raises(ValueError, match="a dipole is zero: it has no phase"):
        folded.coordinates(data, theta)


def test_the_jacobian_is_that_of_differences(folded):
    theta = draw_prior(IsotropicFields.parameters, 2, rng=np.random.default_rng(2))
    step = 1e-6 * np.abs(folded.data)
    for vector in theta:
        columns = []
        for j, h in enumerate(step):
            shift = np.zeros(step.size)
            shift[j] = h
            ends = folded.coordinates(
                np.stack([folded.data + shift, folded.data - shift]), np.tile(vector, (2, 1))
            )
            columns.append((ends[0] - ends[1]) / (2 * h))
        expected = np.linalg.slogdet(np.array(columns))[1]
        assert folded.log_jacobian(vector[None])[0] == pytest.approx(expected, abs=1e-6)
    labels = folded.labels[1:4] + folded.labels[-2:]
    part = folded.log_jacobian(theta, labels=labels)
    dipole = complex(*folded.data[-2:]) * np.exp(-1j * theta[:, 3])
    score = stats.norm.ppf(0.5 + np.angle(dipole) / (2 * np.pi))
    expected = -np.log(folded.data[1:4]).sum() - np.log(2 * np.pi * np.abs(dipole) ** 2) - stats.norm.logpdf(score)
    np.testing.assert_allclose(part, expected)


def test_shares_of_bands_are_integrals():
    """Against quadrature of the two-sided normal density, for shifted nodes and widths."""
    nodes = np.stack([NODES, 1.7 * NODES])
    median, spread, width = np.array([10.0, 130.0]), np.array([[0.6, 0.5], [0.7, 0.8]]), np.array([1.0, 0.8])
    found = band_shares(median, spread, nodes, width)

    def density(x, centre, low, high):
        return stats.norm.pdf(x, centre, low if x < centre else high)

    for s in range(2):
        edges = np.log10(nodes[s, 0]) - 0.25 + 0.5 * np.arange(NODES.size + 1)
        for o in range(2):
            law = (np.log10(median[o]), *(width[s] * spread[o]))
            for b in range(NODES.size):
                ends = (edges[b], edges[b + 1])
                centre = float(np.clip(law[0], *ends))
                parts = ((ends[0], centre), (centre, ends[1]))
                area = sum(integrate.quad(density, *part, args=law)[0] for part in parts)
                assert found[s, o, b] == pytest.approx(area, abs=1e-9)
    sharp = band_shares(np.array([11.0]), np.zeros((1, 2)), NODES[None], np.ones(1))
    assert sharp[0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_events_outside_the_bands_are_refused(folded, records):
    alm = np.ones((2, NODES.size, 66), dtype=complex)
    nodes = np.stack([NODES, NODES / 30.0])
    with pytest.raises(
        ModelDomainError,
        match=r"(?s)icecube-20\d\d-24TeV: 23\.4% of its events, of median 24 TeV.*0\.00593 to 59\.3 TV",
    ):
        folded.observe(nodes, alm, rng=np.random.default_rng(1))
    loose = replace(folded, outside=0.5)
    assert np.all(np.isfinite(loose.observe(nodes, alm, rng=np.random.default_rng(1))))


def test_what_folded_data_refuse(records):
    whole, dipoles, _ = records
    icecube = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)
    with pytest.raises(ConfigurationError, match=r"l=20: 0\.94 of this power come from beyond l = 10"):
        FoldedData((icecube,))
    with pytest.raises(ConfigurationError, match="share measurements"):
        FoldedData((whole, whole))
    with pytest.raises(ConfigurationError, match="at least one record"):
        FoldedData(())
    unusable = replace(dipoles, errors_usable=np.array([True, False]))
    with pytest.raises(ConfigurationError, match="tibet-2015-15TeV: no amplitude and phase with usable errors"):
        FoldedData((unusable,))


def test_multipoles_that_skies_to_l_10_allow():
    """The map to l = 10 and caps to l = 6 lose less than 1 % for l^-2, of any energy used; l = 11 of a cap, half."""
    whole = FoldedData((obsfit.load_spectrum("hawc-icecube-2019").select(1, 10),)).leakage(2.0)
    assert 0.008 < whole[-1] < 0.01
    assert np.all(np.diff(whole) > 0)
    caps = [s.select(1, 6) for s in obsfit.load_spectra("icecube-2025") if s.energy_tev < 200]
    lost = FoldedData(tuple(caps)).leakage(2.0)
    assert 0.008 < lost.max() < 0.01
    beyond = FoldedData((obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 11),), leak=0.6)
    assert beyond.leakage(2.0)[-1] == pytest.approx(0.55, abs=0.01)


def test_shapes_and_labels_are_checked(folded):
    rng = np.random.default_rng(1)
    alm = np.ones((1, NODES.size, 66), dtype=complex)
    with pytest.raises(ValueError, match=r"expected \(size, n_band\) and \(size, n_band, n_alm\)"):
        folded.observe(NODES[None, 1:], alm, rng=rng)
    with pytest.raises(ValueError, match="skies end at l = 5, expected at least 10"):
        folded.observe(NODES[None], alm[..., :21], rng=rng)
    with pytest.raises(ValueError, match="increasing, two bands or more"):
        folded.observe(NODES[None, ::-1], alm, rng=rng)
    with pytest.raises(ValueError, match="'tibet-2015-15TeV 6h' stands without its other component"):
        folded.columns(["tibet-2015-15TeV 6h"])
    with pytest.raises(ValueError, match="label 'l=2'"):
        folded.columns(["l=2"])
    with pytest.raises(ValueError, match=r"theta \(1, 3\): expected \(n_vec, 4\)"):
        folded.coordinates(folded.data, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="expected 12 numbers"):
        folded.coordinates(folded.data[1:], np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"floor": -0.1}, "floor -0.1"), ({"width": 0.5}, "width 0.5"), ({"log10_noise": (1.0, 0.0)}, "log10_noise")],
)
def test_errors_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FoldingErrors(**change)


def test_one_sky_and_longer_skies_are_taken(folded):
    """One sky without a leading axis; what lies beyond lmax is not looked at."""
    rng = np.random.default_rng(3)
    ell, m = hp.Alm.getlm(14)
    alm = np.tile(np.where(m > 0, 1.0 + 1.0j, 1.0) * (ell > 0), (NODES.size, 1))
    cut = alm[:, hp.Alm.getidx(14, *hp.Alm.getlm(LMAX))]
    long = folded.observe(NODES, alm, rng=np.random.default_rng(3))
    short = folded.observe(np.tile(NODES, (1, 1)), cut[None], rng=np.random.default_rng(3))
    assert long.shape == (12,)
    np.testing.assert_allclose(long, short[0], rtol=1e-10)
    assert np.all(folded.observe(NODES, 0.0 * cut, rng=rng)[:8] > 0.0)


def test_more_fields_continue_a_training_set(folded):
    model = IsotropicFields()
    first = training_set(model, folded, [0, 3], 4, seed=5)
    more = training_set(model, folded, [5, 3, 0], 4, seed=5)
    assert first.names == ("log10_scale", "slope", "log10_amplitude")
    assert first.group.tolist() == [0] * 4 + [3] * 4
    np.testing.assert_array_equal(more.of_groups(np.array([0])).values, first.values[:4])
    np.testing.assert_array_equal(more.of_groups(np.array([3])).theta, first.theta[4:])
    assert not np.any(training_set(model, folded, [0], 4, seed=6).values == first.values[:4])
    # each field has random numbers of its own
    assert not np.any(first.theta[:4, 0] == first.theta[4:, 0])
    with pytest.raises(ValueError, match=r"fields \[6\]: expected some of 0 to 5"):
        training_set(model, folded, [6], 1, seed=1)
    with pytest.raises(ValueError, match="each once"):
        training_set(model, folded, [1, 1], 1, seed=1)
    with pytest.raises(ValueError, match="isotropic-fields"):
        training_set(model, replace(folded, names=("slope",)), [1], 1, seed=1)


def test_amplitudes_drop_out_of_strong_skies(folded):
    """Values of skies far above the noise do not depend on the amplitude: correlation of 1500 within 5 errors."""
    training = training_set(IsotropicFields(), folded, range(6), 250, seed=7)
    whole = training.values[:, :3]
    raw = whole + 2 * np.log(10) * training.theta[:, 2:]
    amplitude = training.theta[:, 2]
    for column in range(3):
        assert abs(np.corrcoef(whole[:, column], amplitude)[0, 1]) < 5 / np.sqrt(len(whole))
        assert np.corrcoef(raw[:, column], amplitude)[0, 1] > 0.5
