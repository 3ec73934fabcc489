"""The model turbulent-displacement: its draws, its library, and what mocks, operators and fits make of it."""

import tomllib
from pathlib import Path

import astropy.units as u
import h5py
import healpy as hp
import numpy as np
import pytest
from obsfit_models.turbulence import model as module
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.displacement_files import write_displacements
from obsfit_models.turbulence.library import SkyLibrary, cut_library, read_library, write_library
from obsfit_models.turbulence.model import TurbulentDisplacement
from scipy.special import sph_harm_y
from scipy.stats import chi2

import obsfit
from obsfit.cli import main
from obsfit.errors import ConfigurationError, DataFormatError, ModelDomainError
from obsfit.operators.energy import EnergyResponse
from obsfit.operators.operator import ObservationOperator, Pixels
from obsfit.provenance import verify_sums
from obsfit.records.true_sky import TrueSky

LMAX = 4
ELL, M = hp.Alm.getlm(LMAX)
THETA = np.array([[-2.0, 0.8, 1.3, 0.4, 0.6]])


def random_alm(*shape, rng):
    alm = rng.normal(size=(*shape, ELL.size)) + 1j * rng.normal(size=(*shape, ELL.size))
    alm[..., M == 0] = np.sqrt(2) * alm[..., M == 0].real
    return alm / np.sqrt(2)


@pytest.fixture(scope="module")
def library():
    """Five fields, two gyroradii: random maps that no orbit made."""
    alm = random_alm(5, 2, 3, rng=np.random.default_rng(1))
    alm[..., 0] = 0
    return SkyLibrary(alm, np.array([0.1, 0.01]), np.array([160.0, 670.0]), np.array([20.0, 84.0]), {"seed": 1})


@pytest.fixture(scope="module")
def path(library, tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "library.h5"
    write_library(path, library)
    return path


@pytest.fixture(scope="module")
def model(path):
    return obsfit.load_model("turbulent-displacement", library=path)


class Given:
    """A generator that answers with a field and an angle that are given."""

    def __init__(self, field, turn):
        self.field, self.turn = field, turn

    def integers(self, stop, *, size):
        assert 0 <= self.field < stop
        return np.full(size, self.field)

    def uniform(self, low, high, *, size):
        assert low <= self.turn < high
        return np.full(size, self.turn)


def about(axis, angle):
    """Rotation matrix about x (0), y (1) or z (2)."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return matrix


def values(alm, vectors):
    """A real function at unit vectors (3, n), by its definition."""
    theta, phi = np.arccos(np.clip(vectors[2], -1, 1)), np.arctan2(vectors[1], vectors[0])
    terms = [
        (1 if m == 0 else 2) * (a * sph_harm_y(ell, m, theta, phi)).real
        for ell, m, a in zip(ELL, M, alm, strict=True)
    ]
    return np.sum(terms, axis=0)


@pytest.mark.parametrize(("field", "turn", "rigidity"), [(0, 0.0, 0), (3, 0.9, 1), (4, 5.0, 0)])
def test_a_draw_is_the_gradient_times_the_displacement_in_a_turned_frame(library, model, field, turn, rigidity):
    """By vectors and rotation matrices: 1 pc is the gyroradius at 0.1 in 10 pc, where r is in gyroradii."""
    log10_gradient, angle, longitude, latitude, roll = THETA[0]
    drawn = model.draws(THETA, model.rigidity_tv[[rigidity]], LMAX, 1, rng=Given(field, turn))[0, 0, 0]
    n = np.array(hp.pix2vec(4, np.arange(192)))
    to_sky = about(2, longitude) @ about(1, np.pi / 2 - latitude) @ about(2, roll)
    gradient = to_sky @ (10.0**log10_gradient * np.array([np.sin(angle), 0, np.cos(angle)]))
    frame = to_sky @ about(2, turn)
    displaced = np.array([values(alm, frame.T @ n) for alm in library.alm[field, rigidity]])
    parsec = (1.0, 0.1)[rigidity]
    expected = gradient @ (frame @ displaced) * parsec
    np.testing.assert_allclose(values(drawn, n), expected, atol=1e-8 * np.abs(expected).max() + 1e-9)


def test_the_mean_field_points_where_the_parameters_say(library):
    """A library whose only map is r_z = cos: the sky is a dipole along the field, times the gradient along it."""
    alm = np.zeros_like(library.alm[:1])
    alm[:, :, 2, 1] = np.sqrt(4 * np.pi / 3)
    axial = TurbulentDisplacement()
    axial.__dict__["skies"] = SkyLibrary(alm, library.gyroradius, library.time, library.mean_free_path, {})
    drawn = axial.draws(THETA, axial.rigidity_tv[:1], LMAX, 1, rng=np.random.default_rng(2))[0, 0, 0]
    direction = np.array(hp.ang2vec(np.pi / 2 - 0.4, 1.3))
    expected = 1e-2 * np.cos(0.8) * (direction @ np.array(hp.pix2vec(2, np.arange(48))))
    np.testing.assert_allclose(values(drawn, np.array(hp.pix2vec(2, np.arange(48)))), expected, atol=1e-12)


def test_draws_have_no_monopole_are_linear_and_one_field_for_all_rigidities(library, model):
    rigidity = model.rigidity_tv[[1, 0]]
    draws = model.draws(np.vstack([THETA, THETA]), rigidity, LMAX, 20, rng=np.random.default_rng(3))
    assert draws.shape == (2, 20, 2, 15)
    assert np.all(draws[..., 0] == 0)
    again = model.draws(np.vstack([THETA, THETA]), rigidity, LMAX, 20, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(draws, again)
    small = model.draws(THETA - np.eye(5)[0], rigidity[:1], 2, 20, rng=np.random.default_rng(4))
    large = model.draws(THETA, rigidity[:1], 2, 20, rng=np.random.default_rng(4))
    np.testing.assert_allclose(10 * small, large, atol=1e-12)
    # A rotation keeps the norm of a map: that of the same field at both rigidities, 0.1 pc and 1 pc to the gyroradius.
    signs = np.where(M == 0, 1, 2)
    for field in range(5):
        one = model.draws(THETA * [1, 0, 1, 1, 1], rigidity, LMAX, 1, rng=Given(field, 0.0))[0, 0]
        expected = np.sum(signs * np.abs(library.alm[field, [1, 0], 2]) ** 2, axis=-1) * [1e-6, 1e-4]
        np.testing.assert_allclose(np.sum(signs * np.abs(one) ** 2, axis=-1), expected, rtol=1e-6)


def test_the_angle_about_the_mean_field_is_random(library, model):
    """4000 draws of one field: the mean of exp(i m phi) over angles is 0 but for m = 0, in the frame of the field."""
    north = np.array([[-2.0, 0.0, 0.0, np.pi / 2, 0.0]])  # the field at the pole, the gradient along it
    drawn = model.draws(north, model.rigidity_tv[:1], LMAX, 4000, rng=np.random.default_rng(5))[0, :, 0]
    mean, spread = drawn.mean(axis=0), drawn.std(axis=0) / np.sqrt(4000)
    others = M > 0
    # Two-sided 5 sigma on 10 complex numbers: chance below 1e-5.
    assert np.all(np.abs(mean[others]) < 5 * spread[others])
    assert np.abs(drawn[:, others]).min() > 0


def test_rigidities_are_those_of_the_library_within_two_per_cent(model):
    """27.8 PV have a tenth of 100 pc as gyroradius in 3 uG (AM17); here the length is 10 pc."""
    np.testing.assert_allclose(model.rigidity_tv, [2775, 277.5], rtol=2e-3)
    rng = np.random.default_rng(1)
    assert model.draws(THETA, model.rigidity_tv * 1.019, LMAX, 1, rng=rng).shape == (1, 1, 2, 15)
    with pytest.raises(ModelDomainError, match=r"2858 TV is none of the library\n.*277.5 TV, 2775 TV"):
        model.draws(THETA, model.rigidity_tv * 1.03, LMAX, 1, rng=rng)
    with pytest.raises(ModelDomainError, match="none of the library"):
        model.draws(THETA, np.array([-277.5]), LMAX, 1, rng=rng)
    with pytest.raises(ModelDomainError, match="the library ends at l = 4"):
        model.draws(THETA, model.rigidity_tv, LMAX + 1, 1, rng=rng)
    other = TurbulentDisplacement(model.library, field_strength="6 uG", length_unit="1 pc")
    np.testing.assert_allclose(other.rigidity_tv, model.rigidity_tv / 5)
    with pytest.raises(ConfigurationError, match="field_strength = '3 pc'"):
        _ = TurbulentDisplacement(model.library, field_strength="3 pc").rigidity_tv


def test_priors_are_isotropic():
    """cos of a polar angle and sin of a latitude are uniform: quantiles of the priors, by hand."""
    prior = {parameter.name: parameter.prior for parameter in TurbulentDisplacement().parameters}
    assert prior["gradient_angle"].cdf(np.arccos(0.5)) == pytest.approx(0.25)
    assert prior["gradient_angle"].support() == pytest.approx((0, np.pi))
    assert prior["field_declination"].cdf(np.arcsin(0.5)) == pytest.approx(0.75)
    assert prior["field_declination"].support() == pytest.approx((-np.pi / 2, np.pi / 2))


def test_without_a_library_the_error_says_how_to_make_one(monkeypatch, capsys):
    monkeypatch.setattr(module, "SHIPPED", "absent.h5")
    bare = obsfit.load_model("turbulent-displacement")
    with pytest.raises(ConfigurationError, match=r"no library is given(.|\n)*obsfit ensemble"):
        bare.draws(THETA, np.array([100.0]), LMAX, 1, rng=np.random.default_rng(1))
    with pytest.raises(SystemExit) as end:
        main(["models", "show", "turbulent-displacement"])
    assert end.value.code == 0
    assert "Offers: draws" in capsys.readouterr().out


def ensemble(*, n_real=400, noise=0.0, sets=2, stop=(10.0, 30.0, 90.0), path=10.0):
    """Maps of power 1 / (l (l + 1)) with white noise of each set, growing with time; K_par is path / 3."""
    rng = np.random.default_rng(6)
    shape = (n_real, 1, 1, len(stop), 6)
    signal = random_alm(*shape, rng=rng) / np.sqrt(np.maximum(ELL * (ELL + 1), 1))
    alm = signal * np.array(stop)[:, None, None] + noise * random_alm(n_real, sets, 1, len(stop), 6, rng=rng)
    product = np.tile(np.eye(6), (n_real, sets, 1, len(stop), 1, 1))
    product[..., 2, 2] = 2 * np.array(stop) * path / 3
    return DisplacementEnsemble(
        alm, product, np.array([0.1]), np.array(stop), "time", 192, np.arange(n_real),
        configuration={"seed": 6, "field_strength": "5 uG", "length_unit": "20 pc"},
    )  # fmt: skip


@pytest.mark.parametrize(("wanted", "time"), [(1.0, 10.0), (2.9, 30.0), (8.0, 90.0)])
def test_the_time_is_the_one_nearest_to_the_mean_free_paths(wanted, time):
    cut = cut_library(ensemble(n_real=2), mean_free_paths=wanted)
    np.testing.assert_allclose((cut.time, cut.mean_free_path), ([time], [10.0]))
    assert np.all(cut.alm[..., 0] == 0)
    assert cut.alm.shape == (2, 1, 3, 15)


def test_a_time_that_is_not_there_is_refused():
    with pytest.raises(
        ModelDomainError, match=r"50 mean free paths of 10 gyroradii take 500 / Omega\n.*10, 30, 90"
    ):
        cut_library(ensemble(n_real=2), mean_free_paths=50)
    with pytest.raises(ModelDomainError, match="mean_free_paths = 0"):
        cut_library(ensemble(n_real=2), mean_free_paths=0)


def test_noise_of_directions_leaves_the_mean_power():
    """Of 400 fields with noise as large as the signal at l = 4, the power is that without noise, not half more."""
    noisy, clean = (
        cut_library(ensemble(noise=noise, stop=(10.0,)), mean_free_paths=1).alm for noise in (10 / np.sqrt(20), 0)
    )
    for ell in (3, 4):
        one, other = (np.sum(np.abs(alm[:, 0, :, ell == ELL]) ** 2) for alm in (noisy, clean))
        # Cross power of 400 maps of r_z and 800 across, as noisy as strong, at 7 or 9 m: right to 2.5 %; 5 sigma.
        assert one == pytest.approx(other, rel=0.12)
    single = cut_library(ensemble(noise=10 / np.sqrt(20), sets=1, stop=(10.0,)), mean_free_paths=1).alm
    assert np.sum(np.abs(single[..., ELL == 4]) ** 2) > 1.6 * np.sum(np.abs(clean[..., ELL == 4]) ** 2)


def test_files_come_back_and_a_product_is_cut_as_it_is_read(tmp_path, library, path):
    back = read_library(path)
    np.testing.assert_allclose(back.alm, library.alm, atol=1e-6)
    for name in ("gyroradius", "time", "mean_free_path"):
        np.testing.assert_array_equal(getattr(back, name), getattr(library, name))
    assert back.configuration == {"seed": 1}
    write_displacements(tmp_path / "ensemble.h5", ensemble(n_real=3))
    model = TurbulentDisplacement(str(tmp_path / "ensemble.h5"), mean_free_paths=9)
    assert model.skies.time == [90.0]
    # 0.1 of 20 pc in 5 uG: 2 pc, and 1 PV in 1 uG is 1.081 pc.
    np.testing.assert_allclose(model.rigidity_tv, [2 / 1.081 * 5e3], rtol=1e-3)
    with pytest.raises(ModelDomainError, match="after 8, 8 mean free paths, not 2"):
        read_library(path, mean_free_paths=2)


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_damaged_files_are_refused(tmp_path, path, size):
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataFormatError, match=r"cut\.h5"):
        read_library(tmp_path / "cut.h5")
    with pytest.raises(DataFormatError, match="no such file"):
        read_library(tmp_path / "absent.h5")


def test_a_library_with_an_array_that_was_never_written_is_refused(tmp_path, library):
    """HDF5 gives zeros for what was declared and not written."""
    whole = tmp_path / "whole.h5"
    write_library(whole, library)
    with h5py.File(whole, "a") as file:
        shape = file["alm"].shape
        del file["alm"]
        file.create_dataset("alm", shape=shape, dtype=np.complex64)
    with pytest.raises(DataFormatError, match="stored in full"):
        read_library(whole)


def test_a_mock_sky_of_the_model_is_one_of_its_draws(model):
    rigidity = model.rigidity_tv * u.TV
    skies = obsfit.mock.model_skies(model, THETA[0], rigidity, lmax=LMAX, rng=np.random.default_rng(7))
    drawn = model.draws(THETA, model.rigidity_tv, LMAX, 1, rng=np.random.default_rng(7))[0, 0]
    n = np.array(hp.pix2vec(4, np.arange(192)))
    dec, ra = np.arcsin(n[2]), np.arctan2(n[1], n[0])
    for sky, alm in zip(skies, drawn, strict=True):
        np.testing.assert_allclose(sky.relative_intensity(ra, dec) - 1, values(alm, n), atol=1e-10)
    with pytest.raises(ConfigurationError, match="random"):
        obsfit.mock.model_sky(model, THETA[0], rigidity[:1], lmax=LMAX)


def operator(n_rig, *, lmax=LMAX, noise=0.0):
    """All multipoles as they are, and noise."""
    identity = np.repeat(np.eye(lmax + 1)[None], n_rig, axis=0)
    return ObservationOperator(
        {m: identity * (np.arange(lmax + 1) >= m) for m in range(lmax + 1)},
        {m: noise**2 * identity * (np.arange(lmax + 1) >= m) for m in range(lmax + 1)},
        EnergyResponse.delta(np.arange(1.0, n_rig + 1)), Pixels.healpix(2),
    )  # fmt: skip


def test_an_operator_draws_from_draws_and_refuses_their_moments(model):
    """Every draw once where there are enough, at all energies together; beyond the draws' lmax there is nothing."""
    draws = model.draws(THETA, model.rigidity_tv, LMAX, 8, rng=np.random.default_rng(8))
    sky = TrueSky(model.rigidity_tv, draws=draws)
    n = np.array(hp.pix2vec(2, np.arange(48)))
    expected = {tuple(np.round(np.concatenate([values(alm, n) for alm in one]), 9)) for one in draws[0]}
    for lmax in (LMAX, LMAX + 3):
        data = operator(2, lmax=lmax).draw(sky, rng=np.random.default_rng(9), size=8)
        assert data.shape == (1, 8, 96)
        assert {tuple(np.round(one, 9)) for one in data[0]} == expected
    assert operator(2).draw(sky, rng=np.random.default_rng(9), size=30).shape == (1, 30, 96)
    with pytest.raises(ValueError, match="ensemble of draws: use draw"):
        operator(2).expect(sky)


def test_draws_add_to_a_fixed_and_a_gaussian_part_and_to_noise(model):
    draws = model.draws(THETA, model.rigidity_tv, LMAX, 1, rng=np.random.default_rng(8))
    fixed = random_alm(1, 2, rng=np.random.default_rng(10))
    power = np.zeros((1, 2, 2, LMAX + 1))
    power[..., 2] = 1e-4
    both = TrueSky(model.rigidity_tv, fixed, power, draws)
    data = operator(2, noise=1e-3).draw(both, rng=np.random.default_rng(11), size=2000)[0]
    n = np.array(hp.pix2vec(2, np.arange(48)))
    mean = np.concatenate([values(alm, n) for alm in fixed[0] + draws[0, 0]])
    # Power of l = 2 plus white noise up to l = 4: the variance of a map is the sum of (2 l + 1) C_l / 4 pi.
    variance = (5e-4 + 25 * 1e-6) / (4 * np.pi)
    chi = np.sum((data.mean(axis=0)[:48] - mean[:48]) ** 2) / (variance / 2000)
    # At most 25 degrees of freedom, of which 5 carry nearly all: chance below 1e-6 with the threshold of 5 * 48 / 5.
    assert chi < 48 / 5 * chi2.isf(1e-6, 5)
    np.testing.assert_allclose(data.var(axis=0).mean(), variance, rtol=0.1)


def test_a_fit_of_draws_is_refused_by_name(model):
    spectrum = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)
    with pytest.raises(ConfigurationError, match="'turbulent-displacement' draws skies that are neither Gaussian"):
        obsfit.Posterior(model, obsfit.Likelihood(spectrum))


@pytest.fixture(scope="module")
def shipped():
    return obsfit.load_model("turbulent-displacement")


def test_the_shipped_library_is_the_one_that_was_made():
    folder = Path(module.__file__).parent
    assert verify_sums(folder) == {}
    configuration = tomllib.loads((Path(__file__).parents[2] / "analyses/turbulence/library.toml").read_text())
    told = TurbulentDisplacement().skies.configuration
    assert {key: told[key] for key in ("seed", "gyroradius", "times", "nside", "lmax", "resolved_to")} == {
        key: configuration[key] for key in ("seed", "gyroradius", "times", "nside", "lmax", "resolved_to")
    }
    for key, value in configuration["turbulence"].items():
        assert told["turbulence"][key] == value


def test_the_shipped_library_diffuses(shipped):
    """100 fields: mean free paths as measured elsewhere, and the mean dipole of a gradient is a mean free path long.

    About 20 gyroradii at r_L = 0.1 of the bend-over length, growing somewhat faster than r_L^(-2/3).
    """
    library = shipped.skies
    assert library.alm.shape == (100, 3, 3, 91)
    path = library.mean_free_path
    assert 15 < path[0] < 25
    for smaller, larger, ratio in ((1, 0, 0.3), (2, 1, 1 / 3)):
        assert 0.8 < path[smaller] / path[larger] * ratio ** (2 / 3) < 1.5
    np.testing.assert_allclose(library.time / path, 8, rtol=0.1)
    # delta = 3 K_par grad n / n, Eq. (6) of ASTRA. Four standard errors of the mean over the fields: 1 in 5000.
    dipole = library.alm[:, :, 2, 1].real / np.sqrt(4 * np.pi / 3)
    error = dipole.std(axis=0, ddof=1) / 10
    assert np.all(np.abs(dipole.mean(axis=0) - path) < 4 * error)
    assert np.all(error < 0.1 * path)


def test_power_of_the_shipped_library_falls_with_the_multipole_without_a_floor_of_noise(shipped):
    """About as l^-2 from l = 3 to 12. Noise of directions is flat, 0.2 % of C_1: it would treble the power at 12."""
    maps = shipped.skies.alm[:, :, 2]
    power = np.mean(
        [[np.abs(hp.alm2cl(np.ascontiguousarray(one))) for one in field] for field in maps], axis=0
    )  # fmt: skip
    slope = -np.log(power[:, 12] / power[:, 3]) / np.log(4)
    assert np.all((slope > 1.5) & (slope < 3.5))
    assert np.all(power[:, 12] < np.array([0.0035, 0.0025, 0.0015]) * power[:, 1])


def test_draws_of_the_shipped_library_have_the_dipole_of_its_mean_free_path(shipped):
    """One gradient along the field at the pole, 1e-3 per pc: the mean dipole is that of 3 K_par, at all rigidities."""
    north = np.array([[-3.0, 0.0, 0.0, np.pi / 2, 0.0]])
    draws = shipped.draws(north, shipped.rigidity_tv, 12, 400, rng=np.random.default_rng(12))[0]
    dipole = draws[:, :, 1].real / np.sqrt(4 * np.pi / 3)
    parsec = np.array([1.0, 0.3, 0.1])
    expected = 1e-3 * shipped.skies.mean_free_path * parsec
    # Errors as above, of 100 fields drawn 400 times: 1.1 of those of the fields.
    error = dipole.std(axis=0) / 10 * 1.1
    assert np.all(np.abs(dipole.mean(axis=0) - expected) < 4 * error)
    # One field for all rigidities: dipoles of one draw go together.
    assert np.corrcoef(dipole.T)[0, 1] > 0.5
