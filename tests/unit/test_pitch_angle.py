import mpmath as mp
import numpy as np
import pytest
from obsfit_models.pitch_angle import (
    IsotropicScattering,
    PeakedScattering,
    PitchAngleDiffusion,
    PowerLawScattering,
    cell_centres,
    evolve,
    parallel_diffusion,
    peaked_coefficients,
    power_law_coefficients,
    stationary_shape,
)

from obsfit.errors import ConfigurationError, ConvergenceError, ModelDomainError
from obsfit.parameters import draw_prior


@pytest.mark.parametrize("q", [1.0, 1.3, 5 / 3, 1.9])
def test_shape_and_coefficient_of_a_power_law(q):
    """g = sgn(mu) |mu|^(2 - q) / (2 - q) and K = [1/(2 - q) - 1/(4 - q)] / 4, by hand."""
    mu = np.array([[-1.0, -0.3, 0.0], [1e-6, 0.8, 1.0]])
    scattering = PowerLawScattering(q=q, d0=2.0)
    expected = np.sign(mu) * np.abs(mu) ** (2 - q) / (2 - q) / 2
    np.testing.assert_allclose(stationary_shape(scattering, mu), expected, rtol=1e-9)
    assert parallel_diffusion(scattering) == pytest.approx((1 / (2 - q) - 1 / (4 - q)) / 8, rel=1e-9)


def test_shape_of_a_peak_against_mpmath():
    scattering = PeakedScattering(height=30.0, width=0.1)
    with mp.workdps(30):

        def slope(m):
            return 1 / (1 + 30 * mp.exp(-(m**2) / mp.mpf("0.02")))

        shape = [mp.quad(slope, mp.linspace(0, m, 6)) for m in (0.05, 0.4, 1)]
        diffusion = mp.quad(lambda m: (1 - m**2) * slope(m), mp.linspace(0, 1, 9)) / 4
    np.testing.assert_allclose(
        stationary_shape(scattering, [0.05, 0.4, 1.0]), [float(v) for v in shape], rtol=1e-9
    )
    assert parallel_diffusion(scattering) == pytest.approx(float(diffusion), rel=1e-9)


@pytest.mark.parametrize("q", [1.0, 1.4, 1.95])
def test_power_law_coefficients_against_mpmath(q):
    coefficients = power_law_coefficients(q, 12)
    with mp.workdps(25):
        moment = {
            n: mp.quad(lambda m, n=n: m ** (2 - mp.mpf(q)) * mp.legendre(n, m), [0, 0.1, 1]) for n in (1, 3, 11)
        }
        for ell in (1, 3, 11):
            exact = mp.mpf(2 * ell + 1) / 3 * moment[ell] / moment[1]
            assert coefficients[ell] == pytest.approx(float(exact), rel=1e-9, abs=1e-12)
    assert np.all(coefficients[::2] == 0)


@pytest.mark.parametrize(("height", "width"), [(0.0, 0.1), (1e3, 0.01), (1e3, 1.0), (1e4, 0.1)])
def test_peaked_coefficients_against_mpmath(height, width):
    lmax = 9
    coefficients = peaked_coefficients(height, width, lmax)
    breaks = sorted({0.0, 1.0, *[min(1.0, k * width) for k in (1, 3, 5, 8)]})
    with mp.workdps(30):

        def moment(ell):
            def integrand(m):
                slope = 1 / (1 + height * mp.exp(-(m**2) / (2 * mp.mpf(width) ** 2)))
                return slope * (mp.legendre(ell - 1, m) - mp.legendre(ell + 1, m))

            return mp.quad(integrand, breaks)

        for ell in (3, 9):
            exact = float(moment(ell) / moment(1))
            assert coefficients[ell] == pytest.approx(exact, rel=1e-9, abs=1e-10)


def test_isotropic_forms_are_pure_dipoles():
    np.testing.assert_array_equal(power_law_coefficients(1.0, 9)[2:], 0.0)
    np.testing.assert_allclose(peaked_coefficients(0.0, 0.1, 9)[2:], 0.0, atol=1e-13)


@pytest.mark.parametrize("form", ["isotropic", "power-law", "peaked"])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_dipole_part_has_the_amplitude_and_the_direction(form, reverse):
    axis = np.array([1.0, -2.0, 0.5])
    model = PitchAngleDiffusion(axis=tuple(axis), form=form, reverse=reverse)
    theta = draw_prior(model.parameters, 20, rng=np.random.default_rng(3))
    lmax = 8
    alm = model.alm(theta, np.array([1.0, 5.0]), lmax)
    assert alm.shape == (20, 2, 45)
    a10, a11 = alm[:, 0, 1], alm[:, 0, lmax + 1]
    dipole = np.stack(
        [-np.sqrt(1.5 / np.pi) * a11.real, np.sqrt(1.5 / np.pi) * a11.imag, np.sqrt(0.75 / np.pi) * a10.real],
        axis=-1,
    )
    expected = 10.0 ** theta[:, :1] * axis / np.linalg.norm(axis) * (-1 if reverse else 1)
    np.testing.assert_allclose(dipole, expected, rtol=1e-10)
    np.testing.assert_array_equal(alm[:, 0], alm[:, 1])
    assert np.all(np.isfinite(alm))


def test_named_axis_and_refusals():
    assert PitchAngleDiffusion(axis="ibex").direction @ np.array([0.6182, 0.6977, -0.3622]) == pytest.approx(
        1, abs=1e-4
    )
    assert hash(PitchAngleDiffusion(axis=[0.0, 0.0, 1.0])) == hash(PitchAngleDiffusion(axis=(0.0, 0.0, 1.0)))
    with pytest.raises(ConfigurationError, match="form 'slab'"):
        PitchAngleDiffusion(form="slab")
    with pytest.raises(ConfigurationError, match="not all zero"):
        PitchAngleDiffusion(axis=(0.0, 0.0, 0.0))
    with pytest.raises(ConfigurationError, match="nowhere"):
        PitchAngleDiffusion(axis="nowhere")
    with pytest.raises(ConfigurationError, match=r"width 0\.0"):
        PitchAngleDiffusion(form="peaked", width=0.0)
    with pytest.raises(ModelDomainError, match=r"q = 2"):
        PowerLawScattering(q=2.0)
    with pytest.raises(ModelDomainError, match=r"q = 2"):
        PitchAngleDiffusion().alm(np.array([[-3.0, 2.0]]), np.array([1.0]), 3)
    with pytest.raises(ModelDomainError, match="d0 = -1"):
        IsotropicScattering(d0=-1.0)
    with pytest.raises(ConvergenceError, match="does not converge"):
        stationary_shape(lambda mu: (1 - mu**2) * np.abs(mu), [0.5])
    with pytest.raises(ModelDomainError, match="D_mumu = -"):
        stationary_shape(lambda mu: -1 + 0 * mu, [0.5])
    with pytest.raises(ValueError, match=r"mu = 1.5"):
        stationary_shape(IsotropicScattering(), [1.5])
    with pytest.raises(ValueError, match="time -1"):
        evolve(IsotropicScattering(), np.ones(4), -1.0)
    np.testing.assert_allclose(cell_centres(4), [-0.75, -0.25, 0.25, 0.75])
