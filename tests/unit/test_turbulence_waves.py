"""Plane waves: grids of wavenumbers, sizes of amplitudes, geometry, and what is refused."""

import logging

import numpy as np
import pytest
from obsfit_models.turbulence.field import MagneticField, PlaneWaves
from obsfit_models.turbulence.plane_waves import (
    ModeBand,
    check_resolution,
    composite_waves,
    isotropic_waves,
    modes_per_decade,
    resonant_bands,
    slab_waves,
    two_dimensional_waves,
    wavenumber_grid,
)
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

from obsfit.errors import ConfigurationError, ModelDomainError

PAPERS = TurbulenceSpectrum(0.01, 100.0)
AXIS = np.array([1.0, -2.0, 2.0]) / 3


def sizes(field):
    return np.linalg.norm(field.waves.wavevector, axis=0), np.linalg.norm(field.waves.amplitude, axis=0)


def test_e11_wavenumbers_are_centres_of_intervals_that_fill_the_range():
    k, interval = wavenumber_grid(PAPERS, 8)
    ratio = (PAPERS.k_max / PAPERS.k_min) ** (1 / 8)
    assert interval == pytest.approx(np.log(ratio))
    assert k == pytest.approx(PAPERS.k_min * ratio ** (np.arange(8) + 0.5))


def test_bands_have_their_densities_and_leave_no_gap():
    bands = [ModeBand(1000, 1e-3), ModeBand(7.5, 2.0), ModeBand(40, 20.0), ModeBand(13)]
    k, interval = wavenumber_grid(PAPERS, bands)
    # The first band lies below the spectrum. Counts are rounded up: 7.5 per decade over 1.503 decades are 12.
    assert [np.sum(k < 2), np.sum((k > 2) & (k < 20)), np.sum(k > 20)] == [12, 40, 20]
    edges = np.concatenate([np.log(k) - interval / 2, [np.log(k[-1]) + interval[-1] / 2]])
    assert np.exp(edges[[0, -1]]) == pytest.approx([PAPERS.k_min, PAPERS.k_max])
    assert edges[1:] == pytest.approx(np.log(k) + interval / 2, abs=1e-12)


def test_each_mode_has_the_energy_of_its_own_interval():
    """Energies in decades are those of the spectrum, however dense the modes."""
    rng = np.random.default_rng(1)
    field = isotropic_waves(PAPERS, modes=[ModeBand(20, 3.0), ModeBand(160, 30.0), ModeBand(25)], rms=2.0, rng=rng)
    k, a = sizes(field)
    for low, high in ((0.1, 3.0), (3.0, 30.0), (30.0, 700.0)):
        inside = (k > low) & (k < high)
        # The midpoint rule errs by 1e-3 at most.
        assert np.sum(a[inside] ** 2) / 2 == pytest.approx(4 * PAPERS.share(low, high), rel=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: isotropic_waves(PAPERS, modes=31, rms=1.7, rng=rng),
        lambda rng: slab_waves(PAPERS, modes=31, rms=1.7, axis=AXIS, rng=rng),
        lambda rng: two_dimensional_waves(PAPERS, modes=31, rms=1.7, axis=3 * AXIS, rng=rng),
        lambda rng: composite_waves(PAPERS, slab_fraction=0.2, modes=31, rms=1.7, rng=rng),
    ],
)
def test_the_sum_of_squares_is_exact(make):
    assert make(np.random.default_rng(2)).waves.mean_square == pytest.approx(1.7**2, rel=1e-12)


def test_e10_polarisations_are_unit_vectors_along_z_too():
    """|k x z| is no unit vector: without its norm, waves near the pole would fade."""
    rng = np.random.default_rng(3)
    field = isotropic_waves(TurbulenceSpectrum(1.0, 1.001), modes=4000, rng=rng)
    cosine = np.abs(field.waves.wavevector[2]) / sizes(field)[0]
    assert cosine.max() > 0.999
    assert sizes(field)[1] == pytest.approx(np.sqrt(2 / 4000), rel=2e-3)


def test_slab_and_two_dimensional_geometry():
    rng = np.random.default_rng(4)
    slab = slab_waves(PAPERS, modes=200, axis=5 * AXIS, rng=rng).waves
    assert np.abs(AXIS @ slab.wavevector) == pytest.approx(np.linalg.norm(slab.wavevector, axis=0))
    assert np.max(np.abs(AXIS @ slab.amplitude)) < 1e-14
    flat = two_dimensional_waves(PAPERS, modes=200, axis=AXIS, rng=rng).waves
    assert np.max(np.abs(AXIS @ flat.wavevector)) < 1e-11
    assert np.max(np.abs(AXIS @ flat.amplitude)) < 1e-14


def test_slab_fraction_is_a_share_of_energy():
    rng = np.random.default_rng(5)
    other = TurbulenceSpectrum(0.5, 50.0)
    waves = composite_waves(PAPERS, slab_fraction=0.2, modes=40, rng=rng, two_dimensional=other).waves
    across = np.linalg.norm(waves.wavevector[:2], axis=0)
    slab = across < 1e-9
    assert (slab.sum(), np.sum(waves.amplitude[:, slab] ** 2) / 2) == (40, pytest.approx(0.2))
    assert across[~slab].min() >= other.k_min
    alone = composite_waves(PAPERS, slab_fraction=1.0, modes=40, rng=rng).waves
    assert alone.phase.size == 40


def test_same_generator_same_field():
    one, two = (isotropic_waves(PAPERS, modes=20, rng=np.random.default_rng(6)) for _ in range(2))
    assert np.array_equal(one.waves.wavevector, two.waves.wavevector)


def test_a_longitudinal_wave_is_refused():
    with pytest.raises(ValueError, match="div B would not be 0"):
        PlaneWaves(np.array([[1.0], [0], [0]]), np.array([[1e-6], [0], [1.0]]), np.zeros(1))


def test_fields_add():
    rng = np.random.default_rng(7)
    place = rng.normal(size=(3, 50))
    parts = [MagneticField(uniform=[1.0, 2, 3]), *(isotropic_waves(PAPERS, modes=n, rng=rng) for n in (5, 9))]
    total = sum(parts, MagneticField())
    np.testing.assert_allclose(total.at(place), sum(part.at(place) for part in parts), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: isotropic_waves(PAPERS, modes=0, rng=rng), "modes 0: expected at least 1"),
        (lambda rng: isotropic_waves(PAPERS, modes=5, rms=-1.0, rng=rng), "rms -1.0: expected"),
        (lambda rng: isotropic_waves(PAPERS, modes=5, rms=np.nan, rng=rng), "rms nan: expected"),
        (lambda rng: isotropic_waves(PAPERS, modes=[], rng=rng), "expected at least one"),
        (lambda rng: isotropic_waves(PAPERS, modes=[ModeBand(10, 5.0)], rng=rng), "the last band ends at k = 5"),
        (lambda rng: wavenumber_grid(PAPERS, [ModeBand(10), ModeBand(10, 5.0)]), "ends that increase"),
        (lambda rng: ModeBand(0), "per_decade 0: expected a positive"),
        (lambda rng: slab_waves(PAPERS, modes=5, axis=[0, 0, 0], rng=rng), "not all zero"),
        (lambda rng: composite_waves(PAPERS, slab_fraction=1.2, modes=5, rng=rng), "0 to 1"),
        (lambda rng: resonant_bands(0.0), "gyroradius 0.0: expected a positive length"),
        (lambda rng: check_resolution(PAPERS, 100, -0.1), "gyroradius -0.1: expected a positive length"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(8))


def test_a_field_without_resonant_waves_is_refused_with_the_inner_scale_that_helps():
    with pytest.raises(ModelDomainError, match=r"k_max r_L is 0.628.*no wave in resonance") as caught:
        check_resolution(PAPERS, 400, 1e-3)
    assert caught.value.remedy == "Lower wavelength_min from 0.01 to 0.000628."
    check_resolution(TurbulenceSpectrum(0.000628, 100.0), 400, 1e-3)


def test_too_few_modes_are_refused_and_few_are_warned_of(caplog):
    with pytest.raises(ConfigurationError, match=r"9\.75 modes per decade") as caught:
        check_resolution(PAPERS, 39, 0.1)
    assert caught.value.remedy.startswith("Give 80 modes")
    with caplog.at_level(logging.WARNING):
        check_resolution(PAPERS, 79, 0.1)
    assert "19.7 modes per decade at k r_L above 0.1: 20 are wanted" in caplog.text
    caplog.clear()
    check_resolution(PAPERS, 80, 0.1)
    assert caplog.text == ""


def test_a_sparse_band_hides_in_no_average(caplog):
    with pytest.raises(ConfigurationError, match="5 modes per decade near k"):
        check_resolution(PAPERS, [ModeBand(5, 10.0), ModeBand(200)], 0.1)
    # Sparse below resonance is as it should be.
    check_resolution(PAPERS, resonant_bands(0.1, below=10, resonant=20), 0.1)
    assert caplog.text == ""


def test_lower_rigidities_want_denser_modes(caplog):
    fine = TurbulenceSpectrum(1e-5, 100.0)
    check_resolution(fine, resonant_bands(1e-4), 1e-4)
    assert caplog.text == ""
    check_resolution(fine, resonant_bands(1e-4, resonant=60), 1e-4)
    assert "80 are wanted" in caplog.text
    caplog.clear()
    check_resolution(PAPERS, 100, 0.01)
    assert "k_max r_L is 6.28: below 10" in caplog.text


def test_modes_per_decade_rounds_up():
    assert [modes_per_decade(PAPERS, n) for n in (20, 20.1, 0.01)] == [80, 81, 1]
