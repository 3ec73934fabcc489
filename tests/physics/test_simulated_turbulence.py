"""Skies of a design of turbulences: directions, amplitudes, noise taken out, and what each field is."""

from dataclasses import replace

import healpy as hp
import numpy as np
import pytest
from obsfit_models.turbulence.design_library import DesignLibrary, cut_design, read_design, write_design
from obsfit_models.turbulence.simulated import SimulatedTurbulence
from obsfit_models.turbulence.sky_design import (
    DesignSettings,
    check_design,
    design_field,
    design_points,
    design_task,
    expected_path,
)

from obsfit.errors import ConfigurationError, DataFormatError, ModelDomainError

SMALL = DesignSettings(
    seed=3, fields=3, gyroradius=(0.1, 1.0), bands_per_decade=2, per_band=2, nside=2, lmax=3, modes_per_decade=15.0,
    mean_free_paths=(1.0, 2.0),
)  # fmt: skip


def dipole_library(lmax=3):
    """Two bands whose skies are dipoles: for a gradient along each axis, of 2 and 3 along that axis."""
    alm = np.zeros((1, 2, 3, hp.Alm.getsize(lmax)), dtype=complex)
    x, y, z = hp.pix2vec(8, np.arange(768))
    for b, size in enumerate((2.0, 3.0)):
        for i, component in enumerate((x, y, z)):
            alm[0, b, i] = hp.map2alm(size * component, lmax=lmax, iter=10)
    return DesignLibrary(
        np.array([[0.5, 1.6]]), np.array([0.01, 0.1]), alm, np.ones((1, 2, 2)), np.zeros((2, lmax + 1))
    )


def simulated(library, **options):
    model = SimulatedTurbulence(**options)
    model.__dict__["skies"] = library
    return model


def test_a_dipole_points_along_the_gradient_with_its_amplitude():
    model = simulated(dipole_library())
    theta = np.array([[-2.0, 0.5, 1.6, -3.0, 0.7, 0.4, 5.1], [-1.5, 0.5, 1.6, -2.5, 2.0, -1.2, 0.3]])
    rigidity, skies = model.field_skies(0, theta, 3, rng=np.random.default_rng(1))
    np.testing.assert_allclose(rigidity, 10 * np.array([0.01, 0.1]) / 10 ** theta[:, :1])
    for one, sky in zip(theta, skies, strict=True):
        across = np.sqrt(np.cos(one[4]) ** 2 + 0.5**4 * np.sin(one[4]) ** 2)
        gradient = 10 ** one[3] / (10 ** one[0] * expected_path(10 ** one[0], 0.5, 1.6) * across)
        direction = np.array([np.cos(one[5]) * np.cos(one[6]), np.cos(one[5]) * np.sin(one[6]), np.sin(one[5])])
        for size, alm in zip((2.0, 3.0), sky, strict=True):
            found = hp.alm2map(alm, 16)
            expected = size * gradient * direction @ np.array(hp.pix2vec(16, np.arange(3072)))
            np.testing.assert_allclose(found, expected, atol=1e-7 * size * gradient)


def test_the_angle_to_the_field_is_kept_and_power_does_not_depend_on_the_orientation():
    # Only a gradient along the mean field gives power here, and only at l = 2, m = 0 about the mean field.
    library = dipole_library()
    alm = np.zeros_like(library.alm)
    alm[0, :, 2, hp.Alm.getidx(3, 2, 0)] = 1.0
    model = simulated(DesignLibrary(library.point, library.gyroradius, alm, library.diffusivity, library.noise))
    theta = np.tile([-2.0, 0.5, 1.6, 0.0, 0.0, 0.0, 0.0], (20, 1))
    rng = np.random.default_rng(2)
    theta[:, 4:7] = rng.uniform([0, -1.5, 0], [np.pi, 1.5, 6.2], size=(20, 3))
    _, skies = model.field_skies(0, theta, 3, rng=rng)
    across = np.sqrt(np.cos(theta[:, 4]) ** 2 + 0.5**4 * np.sin(theta[:, 4]) ** 2)
    expected = (np.cos(theta[:, 4]) / (0.01 * expected_path(0.01, 0.5, 1.6) * across)) ** 2
    np.testing.assert_allclose([5 * hp.alm2cl(sky[0])[2] for sky in skies], expected, rtol=1e-7)
    # The axis of that sky is the mean field: it makes the angle of theta with the gradient.
    for one, sky in zip(theta, skies, strict=True):
        value = hp.alm2map(sky[0], 64)
        axis = np.array(hp.pix2vec(64, np.argmax(np.abs(value))))
        gradient = hp.ang2vec(np.pi / 2 - one[5], one[6])
        assert abs(abs(axis @ gradient) - abs(np.cos(one[4]))) < 0.04  # two pixels


def test_turning_the_gradient_in_right_ascension_turns_the_sky():
    rng = np.random.default_rng(5)
    library = dipole_library()
    _, m = hp.Alm.getlm(3)
    noise = rng.normal(size=library.alm.shape) + 1j * rng.normal(size=library.alm.shape) * (m > 0)
    library = replace(library, alm=noise)
    model = simulated(library)
    theta = np.array([[-2.0, 0.5, 1.6, -3.0, 0.7, 0.4, 0.0]])
    turned = theta + np.array([0, 0, 0, 0, 0, 0, 1.3])
    _, here = model.field_skies(0, theta, 3, rng=np.random.default_rng(7))
    _, there = model.field_skies(0, turned, 3, rng=np.random.default_rng(7))
    np.testing.assert_allclose(there[0], here[0] * np.exp(-1j * m * 1.3), atol=1e-12 * np.abs(here).max())


def test_skies_continue_below_the_library_as_those_of_its_lowest_band():
    model = simulated(dipole_library(), continued_decades=1.5)
    theta = np.array([[-2.0, 0.5, 1.6, -3.0, 0.7, 0.4, 5.1]])
    rigidity, skies = model.field_skies(0, theta, 3, rng=np.random.default_rng(1))
    # Bands are a decade apart here: two of them hold one and a half. Gyroradius times path goes as r^(2 - q).
    np.testing.assert_allclose(rigidity[0], [0.1, 1.0, 10.0, 100.0])
    for number, power in ((0, 2), (1, 1)):
        np.testing.assert_allclose(skies[0, number], skies[0, 2] * 10 ** (-0.4 * power), rtol=1e-12)
    _, alone = simulated(dipole_library()).field_skies(0, theta, 3, rng=np.random.default_rng(1))
    assert np.array_equal(alone[0], skies[0, 2:])


def test_priors_are_those_of_the_library():
    made = {"gyroradius": [1e-5, 0.1], "turbulent_share": [0.5, 1.0], "energy_index": [1.5, 1.8]}
    library = replace(dipole_library(), configuration=made)
    ends = [p.prior.support() for p in simulated(library, continued_decades=0.6).parameters[:3]]
    np.testing.assert_allclose(ends, [(-4.5, -2.6), (0.5, 1.0), (1.5, 1.8)], atol=1e-9)
    theta = simulated(library, log10_gyroradius=(-3.0, -2.9)).field_theta(0, 50, rng=np.random.default_rng(3))
    assert theta[:, 0].min() >= -3.0
    assert theta[:, 0].max() <= -2.9
    narrow = replace(library, configuration=made | {"gyroradius": [1e-5, 1e-3]})
    with pytest.raises(ConfigurationError, match="2 decades of rigidity"):
        _ = simulated(narrow).parameters
    for wrong in ({"continued_decades": -1.0}, {"log10_gyroradius": (-2.0, -3.0)}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            SimulatedTurbulence(**wrong)


def test_the_noise_of_directions_is_taken_out_of_averages_over_bands():
    """Skies of known covariance between bands, with independent noise in two sets: chi-square scatter of 600 skies."""
    settings = replace(SMALL, fields=600, gyroradius=(0.01, 1.0), lmax=4)
    rng = np.random.default_rng(11)
    n_band, size = 4, hp.Alm.getsize(4)
    ell, m = hp.Alm.getlm(4)
    coherence = 0.7 ** np.abs(np.subtract.outer(np.arange(n_band), np.arange(n_band)))
    root = np.linalg.cholesky(coherence)
    signal_sd, noise_sd = 0.3 ** (ell - 1.0), 0.05

    def complex_normal(*shape):
        value = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        value[..., m == 0] = np.sqrt(2) * value[..., m == 0].real
        return value / np.sqrt(2)

    points = design_points(settings)
    centre = np.sqrt(settings.edges[:-1] * settings.edges[1:])
    truth, results = [], []
    for point in points:
        unit = np.array([radius * expected_path(radius, *point) for radius in centre])
        sky = np.einsum("bc,cim->bim", root, complex_normal(n_band, 3, size)) * signal_sd
        alm = np.zeros((n_band, 2, 2, 6, size), dtype=complex)
        alm[:, :, 1, :3] = (sky[:, None] + noise_sd * complex_normal(n_band, 2, 3, size)) * unit[
            :, None, None, None
        ]
        truth.append(sky)
        # No growth of <r^2>: no diffusion, and the momentum maps do not enter.
        product, time = np.ones((n_band, 2, 2, 2)), np.ones((n_band, 2, 2)) * np.array([1.0, 2.0])
        results.append({"alm": alm, "product": product, "time": time})
    library = cut_design(settings, results)
    unit = np.array([[radius * expected_path(radius, *point) for radius in centre] for point in points])
    found = library.alm / unit[:, :, None, None]
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    for order in (1, 2, 3, 4):
        own = (ell == order) & (m > 0)
        power = np.mean(np.abs(np.einsum("b,fbim->fim", weights, found)[..., own]) ** 2)
        expected = (weights @ coherence @ weights) * 0.3 ** (2 * (order - 1))
        # 600 x 3 x order complex numbers; noise adds its share: five standard deviations, false alarm 6e-7.
        noise = 0.5 * noise_sd**2 * (weights**2).sum()
        assert abs(power / expected - 1) < 5 * (1 + noise / expected) / np.sqrt(1800 * order)
    # At l = 4 noise is 1.7 times the signal in each band: untreated, or with a factor for each band, it fails.
    assert library.noise[0, 4] > 0.5


def test_a_field_has_unit_strength_and_its_share_of_turbulence():
    for geometry in ("isotropic", "composite", "slab"):
        settings = replace(SMALL, geometry=geometry, modes_per_decade=200.0)
        field = design_field(settings, 0.7, 1.6, 0)
        rng = np.random.default_rng(4)
        value = field.at(rng.uniform(-300, 300, size=(3, 4000)))
        mean = value.mean(axis=1)
        # 400 waves of random phase and the mean over 4000 places: about 4 %; 15 % allowed.
        assert np.mean(np.sum(value**2, axis=0)) == pytest.approx(1.0, rel=0.15)
        assert mean[2] == pytest.approx(np.sqrt(0.3), rel=0.15)


def test_more_fields_continue_a_design_and_results_do_not_depend_on_their_number():
    assert np.array_equal(design_points(replace(SMALL, fields=40))[:3], design_points(SMALL))
    first = design_task(SMALL, 0.6, 1.7, 1)
    again = design_task(replace(SMALL, fields=50), 0.6, 1.7, 1)
    assert np.array_equal(first["alm"], again["alm"])
    assert first["alm"].shape == (2, 2, 2, 6, 10)
    assert np.all(np.diff(first["product"][..., 0], axis=-1) > 0)


def test_a_library_survives_its_file_and_the_command(tmp_path):
    summary = SimulatedTurbulence().run_ensemble(
        SMALL, base=tmp_path, workers=1, scheduler=None, progress=False, overwrite=False
    )
    library = read_design(summary.path)
    assert library.alm.shape == (3, 2, 3, 10)
    write_design(tmp_path / "again.h5", library)
    assert np.array_equal(read_design(tmp_path / "again.h5").alm, library.alm)
    model = SimulatedTurbulence(summary.path, log10_gyroradius=(-1.0, -0.5))
    theta = model.field_theta(2, 5, rng=np.random.default_rng(1))
    assert np.array_equal(theta[:, 1:3], np.tile(design_points(SMALL)[2], (5, 1)))
    with pytest.raises(ModelDomainError, match="lmax 4"):
        model.field_skies(0, theta, 4, rng=np.random.default_rng(1))
    with pytest.raises(ConfigurationError, match="already"):
        model.run_ensemble(SMALL, base=tmp_path, workers=1, scheduler=None, progress=False, overwrite=False)
    (tmp_path / "bad.h5").write_bytes(summary.path.read_bytes()[:2000])
    with pytest.raises(DataFormatError):
        read_design(tmp_path / "bad.h5")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fields", 0), ("turbulent_share", (0.0, 1.0)), ("energy_index", (1.9, 1.5)), ("gyroradius", (0.1, 0.5)),
        ("gyroradius", (-0.1, 1.0)), ("mean_free_paths", (6.0, 3.0)), ("nside", 3), ("lmax", 5),
        ("modes_per_decade", 0.0), ("resolved_to", 0.5), ("sets", 0),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(key, value):
    with pytest.raises(ConfigurationError, match=key):
        check_design(replace(SMALL, **{key: value}))


def test_the_mean_free_path_is_that_of_the_orbits_within_a_factor_of_two():
    # 20 fields of 96 particles; the path of one field scatters by a factor of two, that of 20 by 20 %.
    settings = replace(SMALL, mean_free_paths=(3.0, 6.0), per_band=1, fields=20)
    ratio = []
    for field in range(20):
        result = design_task(settings, 0.5, 1.67, field)
        slope = (result["product"][0, 0, 1, 0] - result["product"][0, 0, 0, 0]) / np.diff(result["time"][0, 0])[0]
        ratio.append(1.5 * slope / expected_path(settings.followed[0, 0], 0.5, 1.67))
    assert 0.5 < np.mean(ratio) < 2.0
