"""Emulators of a small model whose exact law is known: densities, draws, files and refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import h5py
import healpy as hp
import numpy as np
import obsfit_data
import pytest
from scipy import stats

import obsfit
from obsfit.emulate.emulator import Emulator, held_out_pit, read_emulator, train_emulator, write_emulator
from obsfit.emulate.folding import FoldedData, FoldingErrors, training_set
from obsfit.emulate.surrogate import fit_surrogate
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.operators.catalogue import dipole_rows
from obsfit.parameters import Parameter, draw_prior
from obsfit.protocols import dipole_alm

NODES = 10.0 ** np.arange(-0.5, 3.1, 0.5)
SHARE = 0.3


class Tilted:
    """A dipole of size A towards a direction, and Gaussian skies of C_l = (0.3 A)^2 l^-slope, equal in all bands."""

    name = "tilted"
    parameters = (
        Parameter("slope", stats.uniform(1.5, 1.0), "", "steepness", r"\gamma"),
        Parameter("log10_amplitude", stats.uniform(-3.5, 1.0)),
        Parameter("gradient_declination", stats.anglit(0.0, 2.0), "rad"),
        Parameter("gradient_right_ascension", stats.uniform(0.0, 2 * np.pi), "rad"),
    )
    fields = 80

    def field_theta(self, field, size, *, rng):
        theta = draw_prior(self.parameters, size, rng=rng)
        theta[:, 0] = 1.5 + (field + 0.5) / self.fields
        theta[:, 3] = 0.0
        return theta

    def field_skies(self, field, theta, lmax, *, rng):
        ell, m = hp.Alm.getlm(lmax)
        white = rng.normal(size=(2, len(theta), ell.size))
        unit = np.where(m == 0, white[0], (white[0] + 1j * white[1]) / np.sqrt(2.0))
        root = np.where(ell > 0, np.maximum(ell, 1) ** (-0.5 * theta[:, :1]), 0.0)
        dec = theta[:, 2]
        whole = dipole_alm(np.stack([np.cos(dec), 0.0 * dec, np.sin(dec)], -1), lmax) + SHARE * root * unit
        alm = 10.0 ** theta[:, 1:2] * whole
        return np.tile(NODES, (len(theta), 1)), np.repeat(alm[:, None], NODES.size, axis=1)


NAMES = tuple(parameter.name for parameter in Tilted.parameters)
TABLE = obsfit.load_dipoles("ahlers-mertsch-2017")
ROWS = TABLE.select([TABLE.measurement.index(key) for key in ("icecube-2016-24TeV", "tibet-2015-15TeV")])
RESPONSE = dipole_rows(ROWS)
CAP = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV).select(1, 3)


@pytest.fixture(scope="module")
def circular():
    """An emulator of two dipoles with equal errors along and across: its exact law is normal."""
    record = replace(ROWS, amplitude_error=[5e-5, 8e-5], phase_error_rad=[5e-5, 8e-5] / ROWS.amplitude)
    folded = FoldedData((record,), NAMES, errors=FoldingErrors.none())
    training = training_set(Tilted(), folded, range(80), 70, seed=1)
    # The scatter, of skies and of errors, is no exponential of the amplitude: its logarithm bends.
    surrogate = fit_surrogate(training, degree=3, scale_degree=3, replicates=3, rng=np.random.default_rng(1))
    return Emulator("tilted", Tilted.parameters, folded, surrogate)


@pytest.fixture(scope="module")
def mixed():
    """An emulator of three powers and two dipoles as published."""
    folded = FoldedData((CAP, ROWS), NAMES)
    return train_emulator(
        Tilted(), folded, range(80), 25, seed=2, replicates=3, features={"gradient_declination": ("cos",)},
        configuration={"seed": 2, "note": "a test"},
    )  # fmt: skip


def exact_dipoles(theta):
    """Mean (4,) and covariance (4, 4) of the two dipoles: Eq. (25) of AM17, and what leaks from l >= 2."""
    slope, log10_amplitude, dec, angle = theta
    rows = RESPONSE
    ell = np.arange(rows.shape[1])
    power = np.where(ell > 0, np.maximum(ell, 1.0) ** -slope, 0.0)
    size = 10.0**log10_amplitude
    mean = size * np.cos(dec) * np.outer(rows[:, 1], [np.cos(angle), np.sin(angle)])
    shared = (SHARE * size) ** 2 * 3.0 / (4.0 * np.pi) * (rows * power) @ rows.T
    covariance = np.kron(shared + np.diag([5e-5**2, 8e-5**2]), np.eye(2))
    return mean.ravel(), covariance


def normal_log_density(mean, covariance, data):
    residual = np.linalg.solve(np.linalg.cholesky(covariance), data - mean)
    return -0.5 * (residual @ residual + np.linalg.slogdet(2 * np.pi * covariance)[1])


def test_the_density_of_dipoles_is_the_exact_one(circular):
    """400 draws of prior and exact law: what is learnt falls behind by less than a quarter of a unit on average.

    A normal law of components has no simple law of sizes and phases: near its mean it does, where the mean is small
    it has a uniform phase. The density has to follow from one to the other.
    """
    rng = np.random.default_rng(3)
    theta = draw_prior(Tilted.parameters, 400, rng=rng)
    laws = [exact_dipoles(one) for one in theta]
    data = np.array([mean + np.linalg.cholesky(covariance) @ rng.normal(size=4) for mean, covariance in laws])
    for n, labels in ((4, None), (2, circular.labels[:2])):
        exact = [normal_log_density(law[0][:n], law[1][:n, :n], d[:n]) for law, d in zip(laws, data, strict=True)]
        behind = np.array(exact) - circular.log_likelihood(theta, data, labels=labels)
        # Gibbs: never ahead but by chance, here 5 standard errors (3e-7)
        assert -5 * behind.std() / 20 < behind.mean() < 0.25


def test_draws_have_the_exact_moments(circular):
    """4000 draws at one vector, turned by 2 rad: mean within a tenth of the scatter, covariance within a fifth."""
    theta = np.array([2.0, -3.0, 0.5, 2.0])
    drawn = circular.draw(np.tile(theta, (4000, 1)), rng=np.random.default_rng(4))
    mean, covariance = exact_dipoles(theta)
    scatter = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 0.1 * scatter)
    assert np.abs((np.cov(drawn.T) - covariance) / np.outer(scatter, scatter)).max() < 0.2
    assert np.arctan2(drawn[:, 1].mean(), drawn[:, 0].mean()) == pytest.approx(2.0, abs=0.05)


def test_densities_are_those_of_data_not_of_coordinates(mixed):
    """Integrals over one power, and over both components of a turned dipole, are one."""
    theta = np.array([[1.9, -3.1, 0.3, 2.5]])
    label = CAP.measurement + " l=2"
    at = mixed.labels.index(label)
    power = np.exp(np.linspace(-34.0, -8.0, 1501))
    data = np.tile(mixed.data, (power.size, 1))
    data[:, at] = power
    density = np.exp(mixed.log_likelihood(np.repeat(theta, power.size, axis=0), data, labels=[label]))
    assert np.trapezoid(density, power) == pytest.approx(1.0, abs=1e-3)
    edge = np.linspace(-4e-3, 4e-3, 160)  # an even number: a dipole of zero has no phase
    x, y = np.meshgrid(edge, edge, indexing="ij")
    data = np.tile(mixed.data, (x.size, 1))
    data[:, -2:] = np.stack([x.ravel(), y.ravel()], -1)
    density = np.exp(mixed.log_likelihood(np.repeat(theta, x.size, axis=0), data, labels=mixed.labels[-2:]))
    density = density * (edge[1] - edge[0]) ** 2
    assert density.sum() == pytest.approx(1.0, abs=5e-3)
    # and its mean points where the density of particles grows
    assert np.arctan2(density @ y.ravel(), density @ x.ravel()) == pytest.approx(2.5, abs=0.1)


def test_the_right_ascension_is_found_where_the_sky_was_turned(mixed):
    """Skies turned by 4 rad: the mean log likelihood of 200 of them is largest within 0.15 rad of that."""
    rng = np.random.default_rng(5)
    model, folded = Tilted(), mixed.folded
    theta = model.field_theta(30, 200, rng=rng)
    rigidity, alm = model.field_skies(30, theta, 10, rng=rng)
    _, m = hp.Alm.getlm(10)
    theta[:, 3] = 4.0
    data = folded.observe(rigidity, alm * np.exp(-4j * m), rng=rng)
    angles = np.arange(0.0, 2 * np.pi, 0.1)
    mean = []
    for angle in angles:
        theta[:, 3] = angle
        mean.append(mixed.log_likelihood(theta, data).mean())
    assert abs(angles[np.argmax(mean)] - 4.0) < 0.15


def test_held_out_fields_are_predicted(mixed):
    """Uniform probability integral transforms, at 1e-5 for each datum; and not of data that are 1.5 times too wide."""
    assert np.all(mixed.checks["p_value"] > 1e-5)
    assert mixed.checks.colnames == ["label", "predictive_sd", "monte_carlo", "interpolation", "ratio", "p_value"]
    assert list(mixed.checks["label"]) == list(mixed.folded.value_labels())
    training = training_set(Tilted(), mixed.folded, range(80), 8, seed=3)
    pit = held_out_pit(training, degree=1, replicates=2, rng=np.random.default_rng(6))
    assert pit.shape == (80, 7)
    again = held_out_pit(training, degree=1, replicates=2, rng=np.random.default_rng(6))
    np.testing.assert_array_equal(pit, again)
    # What is judged is not what was learnt from: a field far off is found far off.
    values = training.values.copy()
    values[training.group == 7] += 50.0
    off = held_out_pit(replace(training, values=values), degree=1, replicates=2, rng=np.random.default_rng(6))
    assert np.all(off[7] > 0.999)


def test_an_emulator_comes_back_from_its_file(mixed, tmp_path):
    write_emulator(tmp_path / "e.h5", mixed)
    again = read_emulator(tmp_path / "e.h5")
    theta = draw_prior(Tilted.parameters, 20, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(again.log_likelihood(theta), mixed.log_likelihood(theta))
    np.testing.assert_array_equal(again.data, mixed.data)
    rngs = [np.random.default_rng(8) for _ in range(2)]
    np.testing.assert_array_equal(again.draw(theta, rng=rngs[0]), mixed.draw(theta, rng=rngs[1]))
    assert (again.model, again.names, again.configuration) == ("tilted", NAMES, {"seed": 2, "note": "a test"})
    assert again.folded.errors == mixed.folded.errors
    assert list(again.checks["p_value"]) == list(mixed.checks["p_value"])
    for old, new in zip(Tilted.parameters, again.parameters, strict=True):
        assert (new.unit, new.description, new.latex) == (old.unit, old.description, old.latex)
        np.testing.assert_allclose(new.prior.ppf([0.1, 0.7]), old.prior.ppf([0.1, 0.7]), rtol=1e-12)
    with h5py.File(tmp_path / "e.h5") as file:
        head = json.loads(file["head"].asstr()[()])
    assert (head["obsfit_format"], head["seed"]) == ("emulator", 2)
    assert head["records"][0] == {"table": "icecube-2025", "measurement": "icecube-2025-24TeV", "ell": [1, 2, 3]}
    with pytest.raises(FileExistsError):
        write_emulator(tmp_path / "e.h5", mixed)


def test_a_table_of_ones_own_belongs_beside_the_emulator(mixed, tmp_path):
    own = Path(shutil.copy(Path(obsfit_data.__path__[0]) / "icecube-2025.ecsv", tmp_path / "own.ecsv"))
    record = obsfit.load_spectrum(own, energy=24 * u.TeV).select(1, 3)
    emulator = replace(mixed, folded=FoldedData((record, ROWS), NAMES))
    write_emulator(tmp_path / "e.h5", emulator)
    assert read_emulator(tmp_path / "e.h5").labels == mixed.labels
    text = own.read_text(encoding="utf-8")
    own.write_text(text.replace("8.528e-08", "8.529e-08"), encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"own\.ecsv is no longer the table that it was trained for"):
        read_emulator(tmp_path / "e.h5")
    own.unlink()
    with pytest.raises(DataFormatError, match=r"(?s)cannot be read.*belongs beside the emulator"):
        read_emulator(tmp_path / "e.h5")


def test_files_that_are_no_emulators_are_refused(mixed, tmp_path):
    with pytest.raises(DataFormatError, match="no such file"):
        read_emulator(tmp_path / "none.h5")
    path = tmp_path / "e.h5"
    write_emulator(path, mixed)
    whole = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataFormatError, match="cannot be read as HDF5"):
        read_emulator(tmp_path / "cut.h5")

    def changed(change):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    def head(change):
        def edit(file):
            words = json.loads(file["head"].asstr()[()])
            change(words)
            del file["head"]
            file["head"] = json.dumps(words)

        return edit

    def linked(file):
        del file["surrogate"]
        file["surrogate"] = h5py.ExternalLink("other.h5", "/surrogate")

    for change, message in (
        (lambda file: file.attrs.modify("obsfit_format", "fit"), "obsfit_format is 'fit'"),
        (linked, "surrogate is no group of this file"),
        (head(lambda words: words.pop("model")), "holds no valid emulator: 'model'"),
        (head(lambda words: words["parameters"][0].update(prior="kstest")), "kstest is no distribution"),
        (head(lambda words: words["records"][0].update(ell=[1, 3])), "lacks what it was trained for"),
        (head(lambda words: words["records"][1].update(rows=["nothing"])), "lacks what it was trained for"),
        (head(lambda words: words["records"][0].update(table="/etc/passwd")), "cannot be read"),
        (head(lambda words: words["parameters"].pop(0)), "holds no valid emulator"),
    ):
        with pytest.raises(DataFormatError, match=message):
            read_emulator(changed(change))


def test_parts_that_do_not_belong_together_are_refused(mixed, circular, tmp_path):
    with pytest.raises(ValueError, match="expected those of the data"):
        replace(mixed, parameters=mixed.parameters[:3])
    with pytest.raises(ValueError, match="expected one of"):
        Emulator("tilted", Tilted.parameters, mixed.folded, circular.surrogate)
    memory = replace(ROWS, provenance=obsfit.records.Provenance("memory"))
    with pytest.raises(ConfigurationError, match="memory: this record is in no table"):
        write_emulator(tmp_path / "e.h5", replace(mixed, folded=FoldedData((CAP, memory), NAMES)))
    with pytest.raises(ValueError, match="a power is not positive"):
        mixed.log_likelihood(np.array([[2.0, -3.0, 0.0, 0.0]]), 0.0 * mixed.data)
