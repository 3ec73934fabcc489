"""The diffusive dipole: limits, steady transport, and a second derivation from densities in mpmath."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obsfit_models.diffusion.dipole import DiffusiveDipole
from obsfit_models.diffusion.sources import BurstSource
from obsfit_models.diffusion.tensor import bgk_tensor, fick_dipole
from scipy.integrate import solve_ivp

from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.parameters import draw_prior
from obsfit.plugins import load_model
from obsfit.protocols import Model, OffersDipole, true_sky

RIGIDITY = np.geomspace(0.3, 5e3, 12)
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def theta(background=-3.0, index=1 / 3, fraction=-2.0, diffusivity=29.5, perpendicular=0.0):
    return np.array([[background, index, fraction, diffusivity, perpendicular]])


def test_ficks_law_is_the_steady_state_of_the_moment_equations():
    """Eqs. (50) and (51) of AM17 in a uniform gradient, integrated over 40 scattering times: exp(-40) = 4e-18."""
    nu, omega, gradient = 0.4, np.array([0.3, -0.5, 0.6]), np.array([2e-3, -1e-3, 3e-3])

    def change(_, flux):
        return -gradient / 3 - np.cross(omega, flux) - nu * flux

    flux = solve_ivp(change, (0, 40 / nu), np.zeros(3), rtol=1e-11, atol=1e-16, method="DOP853").y[:, -1]
    np.testing.assert_allclose(fick_dipole(bgk_tensor(nu, omega), gradient), -3 * flux, rtol=1e-9)


def test_background_alone_points_to_its_direction_and_grows_with_rigidity():
    model = DiffusiveDipole(field=None, source=None, background=X)
    dipole = model.dipole(np.array([[-3.0, 0.5]]), np.array([10.0, 1000.0]))
    np.testing.assert_allclose(dipole, [[[1e-3, 0, 0], [1e-2, 0, 0]]], rtol=1e-13)
    assert [parameter.name for parameter in model.parameters] == ["log10_background", "diffusion_index"]


def test_burst_alone_has_its_own_dipole_whatever_the_diffusivity():
    """At a share of one nothing is left of the background: |delta| = 3r/2ct at all rigidities."""
    model = DiffusiveDipole(field=None, source=BurstSource("s", Z, 200.0, 2e4))
    for diffusivity in (28.0, 31.0):
        dipole = model.dipole(theta(fraction=0.0, diffusivity=diffusivity)[:, :4], RIGIDITY)
        expected = 1.5 * 200.0 * 3.0856775814913673e18 / (2.99792458e10 * 2e4 * 365.25 * 86400)
        np.testing.assert_allclose(dipole[0], np.tile([0, 0, expected], (RIGIDITY.size, 1)), rtol=1e-12)


def test_share_at_the_pivot_is_the_parameter():
    share = DiffusiveDipole().source_fraction(theta(fraction=-1.3), np.array([10.0]))
    assert share[0, 0, 0] == pytest.approx(10**-1.3, rel=1e-13)


def test_share_falls_as_the_square_root_of_the_diffusivity_where_the_source_is_engulfed():
    """f/(1-f) ~ R^beta K^(-3/2) = R^(-beta/2) once the Gaussian factor is one (a source at 1 pc)."""
    model = DiffusiveDipole(source=BurstSource("near", Z, 1.0, 1e5))
    share = model.source_fraction(theta(index=0.6, diffusivity=31.0), np.array([10.0, 1e4]))[0, :, 0]
    odds = share / (1 - share)
    assert odds[1] / odds[0] == pytest.approx(1e3**-0.3, rel=1e-6)  # the exponent itself is 2e-7


def test_isotropic_local_tensor_is_no_field():
    free = DiffusiveDipole(field=None).dipole(theta()[:, :4], RIGIDITY)
    np.testing.assert_allclose(DiffusiveDipole().dipole(theta(perpendicular=1.0), RIGIDITY), free, atol=1e-17)


def test_without_perpendicular_diffusion_the_dipole_lies_along_the_field():
    dipole = DiffusiveDipole(field=(1.0, 2.0, -1.0)).dipole(theta(), RIGIDITY)
    np.testing.assert_allclose(np.cross(dipole, [1.0, 2.0, -1.0]), 0, atol=1e-18)


def test_sign_and_length_of_the_field_do_not_matter():
    one = DiffusiveDipole(field=(1.0, 2.0, -1.0)).dipole(theta(perpendicular=0.3), RIGIDITY)
    two = DiffusiveDipole(field=(-3.0, -6.0, 3.0)).dipole(theta(perpendicular=0.3), RIGIDITY)
    np.testing.assert_allclose(two, one, atol=1e-18)


def test_hall_term_is_the_cross_product_with_the_field():
    """epsilon_ijk B_k a_j = (a x B)_i."""
    plain = DiffusiveDipole(field=Z).dipole(theta(perpendicular=0.3), RIGIDITY)
    hall = DiffusiveDipole(field=Z, hall_ratio=0.2).dipole(theta(perpendicular=0.3), RIGIDITY)
    free = DiffusiveDipole(field=None).dipole(theta()[:, :4], RIGIDITY)
    np.testing.assert_allclose(hall - plain, 0.2 * np.cross(free, [0.0, 0.0, 1.0]), atol=1e-17)


def test_phase_flips_where_the_gradient_crosses_the_magnetic_horizon():
    """The source is ahead on the field, the background behind: the sign follows B.grad ln n of isotropic diffusion."""
    settings_ = {"source": BurstSource("s", (0.6, 0.8, 0.0), 300.0, 3e4), "background": (-0.9, 0.0, 0.4)}
    free = DiffusiveDipole(field=None, **settings_).dipole(theta(background=-4.0)[:, :4], RIGIDITY)[0]
    found = DiffusiveDipole(field=X, **settings_).dipole(theta(background=-4.0), RIGIDITY)[0]
    np.testing.assert_array_equal(np.sign(found[:, 0]), np.sign(free[:, 0]))
    assert set(np.sign(found[:, 0])) == {1.0, -1.0}
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-20)


def densities_in_mpmath(model, bursts, values, rigidity, field, background):
    """3 K_loc grad ln(n_bg + sum n_src) with mpmath.diff of the densities, cgs units and constants typed here."""
    log_bg, beta, log_fraction, log_k, ratio = (mp.mpf(float(v)) for v in values)
    c, pc, year = mp.mpf("2.99792458e10"), mp.mpf("3.0856775814913673e18"), mp.mpf("365.25") * 86400

    def diffusivity(r):
        return mp.power(10, log_k) * mp.power(mp.mpf(float(r)) / 10, beta)

    def green(place, burst, r):
        x, t = (
            [p - burst.distance_pc * pc * mp.mpf(u) for p, u in zip(place, burst.direction, strict=True)],
            burst.age_yr * year,
        )
        spread = 4 * diffusivity(r) * t
        return burst.weight * mp.exp(-mp.fsum(v * v for v in x) / spread) / mp.power(mp.pi * spread, mp.mpf(3) / 2)

    fraction = mp.power(10, log_fraction)
    here = (mp.mpf(0),) * 3
    norm = fraction / (1 - fraction) / mp.fsum(green(here, b, 10) for b in bursts)
    slope = [mp.power(10, log_bg) * c / (3 * diffusivity(10)) * mp.mpf(u) for u in background]

    # Divided by R^-alpha: the background has lost R^-beta by escape, the sources have not.
    def density(*place):
        smooth = mp.power(mp.mpf(float(rigidity)) / 10, -beta) * mp.exp(
            mp.fsum(s * p for s, p in zip(slope, place, strict=True))
        )
        return smooth + norm * mp.fsum(green(place, b, rigidity) for b in bursts)

    gradient = [mp.diff(lambda *p: mp.log(density(*p)), here, n) for n in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    along = mp.fsum(g * mp.mpf(b) for g, b in zip(gradient, field, strict=True))
    local = [ratio * g + (1 - ratio) * along * mp.mpf(b) for g, b in zip(gradient, field, strict=True)]
    return [float(3 * diffusivity(rigidity) / c * v) for v in local]


def test_against_the_slope_of_densities_in_mpmath():
    """Second derivation, 1e-9: a background that rises exponentially and two bursts, differentiated numerically."""
    field, background = (0.6, 0.0, 0.8), (0.0, -0.8, 0.6)
    bursts = (
        BurstSource("a", (0.0, 0.6, -0.8), 300.0, 11e3),
        BurstSource("b", (0.28, 0.96, 0.0), 700.0, 9e4, weight=3.0),
    )
    model = DiffusiveDipole(field=field, source=bursts, background=background)
    vectors = draw_prior(model.parameters, 6, rng=np.random.default_rng(7))
    rigidity = np.array([2.0, 30.0, 2000.0])
    found = model.dipole(vectors, rigidity)
    with mp.workdps(60):
        for row, values in zip(found, vectors, strict=True):
            for vector, r in zip(row, rigidity, strict=True):
                expected = densities_in_mpmath(model, bursts, values, r, field, background)
                np.testing.assert_allclose(vector, expected, rtol=1e-9, atol=1e-9 * np.linalg.norm(expected))


unit = st.floats(0.0, 1.0)


@given(st.tuples(unit, unit, unit, unit, unit), st.lists(st.floats(-3.0, 7.0), min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_finite_and_bounded_over_the_whole_prior(quantiles, log_rigidity):
    """Ends of the prior included, 1 GV to 10 EV, sources in the far tail: no NaN, and never above the parts' sum."""
    bursts = ("vela", BurstSource("far", X, 3000.0, 1e4), BurstSource("old", Y, 100.0, 1e7, weight=1e3))
    model = DiffusiveDipole(source=bursts)
    vector = np.array([[p.prior.ppf(q) for p, q in zip(model.parameters, quantiles, strict=True)]])
    rigidity = 10.0 ** np.array(log_rigidity)
    dipole, share = model.dipole(vector, rigidity), model.source_fraction(vector, rigidity)
    largest = max(burst.isotropic_dipole for burst in model.sources)
    smooth = 10 ** vector[0, 0] * (rigidity / 10) ** vector[0, 1]
    assert np.all(np.isfinite(dipole))
    assert np.all((share >= 0) & (share.sum(axis=-1, keepdims=True) <= 1 + 1e-12))
    assert np.all(np.linalg.norm(dipole[0], axis=-1) <= np.maximum(largest, smooth) * (1 + 1e-9))


def test_two_halves_of_a_source_are_the_source():
    half = BurstSource("half", Z, 300.0, 11e3, weight=0.5)
    whole = BurstSource("whole", Z, 300.0, 11e3)
    one = DiffusiveDipole(source=whole).dipole(theta(perpendicular=0.2), RIGIDITY)
    two = DiffusiveDipole(source=(half, half)).dipole(theta(perpendicular=0.2), RIGIDITY)
    np.testing.assert_allclose(two, one, rtol=1e-12)


def test_vectors_and_rigidities_do_not_mix():
    model = DiffusiveDipole()
    vectors = draw_prior(model.parameters, 5, rng=np.random.default_rng(3))
    together = model.dipole(vectors, RIGIDITY)
    assert together.shape == (5, RIGIDITY.size, 3)
    for i, vector in enumerate(vectors):
        for j, rigidity in enumerate(RIGIDITY):
            alone = model.dipole(vector[None], np.array([rigidity]))[0, 0]
            np.testing.assert_allclose(together[i, j], alone, rtol=1e-12)


def test_acausal_sources_are_left_out_and_a_model_of_them_alone_is_refused():
    """5000 pc in 10 kyr is one and a half times the speed of light."""
    fast = BurstSource("fast", X, 5000.0, 1e4)
    both = DiffusiveDipole(source=("vela", fast))
    assert [burst.name for burst in both.sources] == ["vela"]
    np.testing.assert_array_equal(both.dipole(theta(), RIGIDITY), DiffusiveDipole().dipole(theta(), RIGIDITY))
    with pytest.raises(ModelDomainError, match="light cone: fast"):
        DiffusiveDipole(source=fast)


def test_mean_free_path():
    """3K/c = 3e30 cm2/s / c = 1.0007e20 cm = 32.43 pc."""
    path = DiffusiveDipole().mean_free_path_pc(theta(diffusivity=30.0), np.array([10.0, 270.0 * 1000 / 27]))
    assert path[0, 0] == pytest.approx(32.43, abs=0.005)
    assert path[0, 1] == pytest.approx(10 * path[0, 0], rel=1e-12)
    with pytest.raises(ModelDomainError, match="fixes no diffusivity"):
        DiffusiveDipole(source=None).mean_free_path_pc(theta(), RIGIDITY)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigurationError):
        DiffusiveDipole(field="nowhere")
    with pytest.raises(ConfigurationError, match="is no source"):
        DiffusiveDipole(source="galactic-centre")
    with pytest.raises(ValueError, match="without a field"):
        DiffusiveDipole(field=None, hall_ratio=0.1)
    with pytest.raises(ValueError, match="expected a finite number"):
        DiffusiveDipole(hall_ratio=np.nan)
    with pytest.raises(ValueError, match="gives a direction"):
        DiffusiveDipole(background=(0.0, 0.0, 0.0))
    with pytest.raises(ModelDomainError, match="above zero"):
        DiffusiveDipole().dipole(theta(), np.array([0.0]))
    with pytest.raises(ModelDomainError, match="share of the sources exceeds one"):
        DiffusiveDipole().dipole(theta(fraction=0.1), RIGIDITY)
    with pytest.raises(ModelDomainError, match="perpendicular diffusivity is negative"):
        DiffusiveDipole().dipole(theta(perpendicular=-0.1), RIGIDITY)


def test_settings_of_a_file_are_those_of_the_library():
    """TOML has lists, tables and no null."""
    table = {"name": "s", "direction": [0.0, 0.6, 0.8], "distance_pc": 300.0, "age_yr": 3e4}
    from_file = load_model("diffusive-dipole", field=[1.0, 2.0, -1.0], source=["vela", table])
    here = DiffusiveDipole(field=(1.0, 2.0, -1.0), source=("vela", BurstSource("s", (0.0, 0.6, 0.8), 300.0, 3e4)))
    np.testing.assert_array_equal(from_file.dipole(theta(), RIGIDITY), here.dipole(theta(), RIGIDITY))
    assert DiffusiveDipole(field="none", source="none").parameters == DiffusiveDipole(None, None).parameters
    assert len(DiffusiveDipole(field=np.array([1.0, 2.0, -1.0])).parameters) == 5
    assert DiffusiveDipole(source=[]).parameters == DiffusiveDipole(source=None).parameters
    with pytest.raises(ConfigurationError, match="describes no source"):
        DiffusiveDipole(source={"name": "s", "distance": 3.0})


def test_it_honours_the_protocol():
    model = load_model("diffusive-dipole", field="starlight")
    assert isinstance(model, Model)
    assert isinstance(model, OffersDipole)
    vectors = draw_prior(model.parameters, 3, rng=np.random.default_rng(1))
    assert true_sky(model, vectors, RIGIDITY, 4).alm.shape == (3, RIGIDITY.size, 15)
