"""Grids: interpolation against other programs, Fourier turbulence, and what is refused."""

import logging

import numpy as np
import pytest
from obsfit_models.turbulence.field import GridField, MagneticField, PlaneWaves
from obsfit_models.turbulence.grids import (
    check_extent,
    energy_spectrum,
    grid_turbulence,
    held_range,
    nested_grids,
    relative_divergence,
    sampled,
)
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from scipy.interpolate import RegularGridInterpolator

from obsfit.errors import ModelDomainError

ORIGIN, SPACING = np.array([-1.0, 2.0, 0.5]), np.array([0.5, 0.25, 1.0])
SHAPE = (6, 7, 5)


def box(function=None, *, periodic=False, interpolation="linear", rng=None):
    axes = [ORIGIN[i] + SPACING[i] * np.arange(SHAPE[i]) for i in range(3)]
    values = rng.normal(size=(*SHAPE, 3)) if function is None else function(*np.meshgrid(*axes, indexing="ij"))
    return MagneticField(grids=(GridField(values, ORIGIN, SPACING, periodic, interpolation),))


def inside(rng, n=400, margin=0.0):
    length = SPACING * (np.array(SHAPE) - 1)
    return (ORIGIN + length * (margin + (1 - 2 * margin) * rng.uniform(size=(n, 3)))).T


def test_trilinear_agrees_with_scipy():
    rng = np.random.default_rng(1)
    field = box(rng=rng)
    axes = [ORIGIN[i] + SPACING[i] * np.arange(SHAPE[i]) for i in range(3)]
    place = inside(rng)
    expected = RegularGridInterpolator(axes, field.grids[0].values)(place.T).T
    np.testing.assert_allclose(field.at(place), expected, atol=1e-13)


def test_trilinear_repeats_as_scipy_on_a_tiled_grid():
    rng = np.random.default_rng(2)
    field = box(periodic=True, rng=rng)
    values = field.grids[0].values
    tiled = np.tile(values, (5, 5, 5, 1))
    axes = [ORIGIN[i] + SPACING[i] * (np.arange(5 * SHAPE[i]) - 2 * SHAPE[i]) for i in range(3)]
    place = ORIGIN[:, None] + (SPACING * np.array(SHAPE))[:, None] * rng.uniform(-2, 2.7, (3, 500))
    expected = RegularGridInterpolator(axes, tiled)(place.T).T
    np.testing.assert_allclose(field.at(place), expected, atol=1e-12)


def hermite(values, f):
    """Cubic through the middle two of four points, with central differences for slopes; axis 0."""
    p0, p1, p2, p3 = values
    m1, m2 = (p2 - p0) / 2, (p3 - p1) / 2
    return (
        (2 * f**3 - 3 * f**2 + 1) * p1
        + (f**3 - 2 * f**2 + f) * m1
        + (-2 * f**3 + 3 * f**2) * p2
        + (f**3 - f**2) * m2
    )


def test_tricubic_agrees_with_hermite_splines_in_turn():
    rng = np.random.default_rng(3)
    field = box(periodic=True, interpolation="cubic", rng=rng)
    values = field.grids[0].values
    place = ORIGIN[:, None] + (SPACING * np.array(SHAPE))[:, None] * rng.uniform(-1, 2, (3, 100))
    cell = (place - ORIGIN[:, None]) / SPACING[:, None]
    expected = np.empty((3, 100))
    for n in range(100):
        whole, f = np.floor(cell[:, n]).astype(int), cell[:, n] % 1
        near = values[np.ix_(*[(whole[i] + np.arange(-1, 3)) % SHAPE[i] for i in range(3)])]
        for i in range(3):
            near = hermite(near, f[i])
        expected[:, n] = near
    np.testing.assert_allclose(field.at(place), expected, atol=1e-12)


def multilinear(x, y, z):
    return np.stack([1 + x - 2 * y + 3 * z + x * y * z, x * z - y, y * z + 0.5 * x * y], axis=-1)


def quadratic(x, y, z):
    return np.stack([x**2 - x * y + z, y**2 * z + x, z**2 - x**2 * y**2 * z**2], axis=-1)


@pytest.mark.parametrize(
    ("interpolation", "function", "margin"), [("linear", multilinear, 0.0), ("cubic", quadratic, 0.26)]
)
def test_interpolation_is_exact_for_its_polynomials(interpolation, function, margin):
    """Trilinear up to x y z, tricubic up to x^2 y^2 z^2 wherever four points surround the place."""
    rng = np.random.default_rng(4)
    place = inside(rng, margin=margin)
    field = box(function, interpolation=interpolation)
    np.testing.assert_allclose(field.at(place).T, function(*place), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_outside_a_grid_that_ends_there_is_nothing(interpolation):
    field = MagneticField(uniform=[0, 0, 2.0]) + box(
        lambda *xyz: np.ones((*SHAPE, 3)), interpolation=interpolation
    )
    ends = ORIGIN + SPACING * (np.array(SHAPE) - 1)
    place = np.array([ORIGIN, ends, ends + 1e-9 * np.eye(3)[0], ORIGIN - 1e-9 * np.eye(3)[1], [1e6, 0, 0]]).T
    np.testing.assert_allclose(field.at(place)[0], [1, 1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(field.at(place)[2], [3, 3, 2, 2, 2], atol=1e-12)


@pytest.mark.parametrize(
    ("interpolation", "points", "error", "loss"),
    [
        ("linear", 8, 0.053, 0.098),
        ("linear", 16, 0.0135, 0.025),
        ("cubic", 6, 0.0136, 0.0166),
        ("cubic", 8, 0.0050, 0.0055),
    ],
)
def test_errors_of_interpolation_are_those_of_the_table(interpolation, points, error, loss):
    """Waves in random directions, each on a grid of its own that need not repeat."""
    rng = np.random.default_rng(5)
    shell = TurbulenceSpectrum(points - 1e-3, points + 1e-3, bend_over=None)
    squares = np.zeros(3)
    for _ in range(60):
        exact = isotropic_waves(shell, modes=1, rng=rng)
        grid = sampled(exact, points=10, spacing=1.0, interpolation=interpolation)
        place = rng.uniform(2, 7, (3, 600))
        truth, found = exact.at(place), grid.at(place)
        squares += [np.mean((found - truth) ** 2), np.mean(truth**2), np.mean(found**2)]
    # 60 directions leave 3 % of the error and of the loss.
    assert np.sqrt(squares[0] / squares[1]) == pytest.approx(error, rel=0.1)
    assert 1 - squares[2] / squares[1] == pytest.approx(loss, rel=0.2)


def test_fourier_turbulence_is_real_transverse_and_has_its_energy():
    rng = np.random.default_rng(6)
    spectrum = TurbulenceSpectrum(0.5, 10.0)
    grid = grid_turbulence(spectrum, points=24, box=9.0, rms=1.5, points_per_wavelength=4.0, rng=rng).grids[0]
    low, high = held_range(spectrum, points=24, box=9.0, points_per_wavelength=4.0)
    assert (2 * np.pi / low, 2 * np.pi / high) == pytest.approx((9.0, 1.5))
    assert grid.mean_square == pytest.approx(1.5**2 * spectrum.share(low, high), rel=1e-12)
    b = np.fft.fftn(grid.values, axes=(0, 1, 2))
    k = np.stack(np.meshgrid(*[2 * np.pi * np.fft.fftfreq(24, 9.0 / 24)] * 3, indexing="ij"), axis=-1)
    size = np.linalg.norm(k, axis=-1)
    assert np.max(np.abs(np.sum(k * b, axis=-1))) < 1e-12 * np.max(size) * np.max(np.abs(b))
    outside = (size < low * 0.999) | (size > high * 1.001)
    assert np.max(np.abs(b[outside])) < 1e-11 * np.max(np.abs(b))
    assert np.min(np.abs(b[~outside]).sum(axis=-1)) > 0


@pytest.mark.parametrize("points", [18, 27])
def test_more_points_sample_the_same_field(points):
    coarse, fine = (
        grid_turbulence(
            TurbulenceSpectrum(1.0, 8.0),
            points=n,
            box=9.0,
            points_per_wavelength=n / 8,
            rng=np.random.default_rng(7),
        ).grids[0]
        for n in (points, 2 * points)
    )
    np.testing.assert_allclose(fine.values[::2, ::2, ::2], coarse.values, atol=1e-12)
    np.testing.assert_array_equal(fine.origin, coarse.origin)


def test_nested_grids_share_the_spectrum():
    rng = np.random.default_rng(8)
    spectrum = TurbulenceSpectrum(0.1, 30.0)
    field = nested_grids(spectrum, ratio=5.0, points=32, rms=2.0, points_per_wavelength=5.0, rng=rng)
    edges = np.geomspace(spectrum.k_min, spectrum.k_max, 5)
    assert len(field.grids) == 4
    for grid, low, high in zip(field.grids, edges[:-1], edges[1:], strict=True):
        assert grid.mean_square == pytest.approx(4 * spectrum.share(low, high), rel=1e-9)
        assert grid.spacing == pytest.approx(2 * np.pi / high / 5.0)
        assert np.all((grid.origin <= 0) & (grid.origin > -32 * grid.spacing))


def test_the_spectrum_of_one_wave_is_in_its_shell():
    k = 2 * np.pi / 8.0 * np.array([2.0, 1.0, 2.0])
    wave = MagneticField(waves=PlaneWaves(k[:, None], np.array([[3.0], [0.0], [-3.0]]), np.zeros(1)))
    field = sampled(MagneticField(uniform=[5.0, 0, 0]) + wave, points=16, spacing=0.5, periodic=True)
    found, energy = energy_spectrum(field.grids[0])
    unit = 2 * np.pi / 8.0
    assert energy * unit == pytest.approx(np.where(np.arange(1, energy.size + 1) == 3, 9.0, 0.0), abs=1e-12)
    assert found[2] == pytest.approx(3 * unit, rel=0.05)


def test_divergence_tells_swapped_components():
    rng = np.random.default_rng(9)
    spectrum = TurbulenceSpectrum(2.0, 10.0)
    good = grid_turbulence(spectrum, points=24, box=12.0, points_per_wavelength=4.0, rng=rng).grids[0]
    swapped = GridField(good.values[..., [1, 0, 2]], good.origin, good.spacing, True)
    assert relative_divergence(good) < 0.1
    assert 0.4 < relative_divergence(swapped) < 0.8
    cut = GridField(good.values, good.origin, good.spacing, False)
    assert relative_divergence(cut) < 0.15
    assert relative_divergence(GridField(np.ones((4, 4, 4, 3)), np.zeros(3), np.ones(3), True)) == 0.0


def test_orbits_are_not_to_leave_a_grid_that_ends(caplog):
    """The box goes from (-1, 2, 0.5) to (1.5, 3.5, 4.5)."""
    rng = np.random.default_rng(11)
    centre = [0.25, 2.75, 2.5]
    check_extent(box(rng=rng), 0.74, position=centre)
    with pytest.raises(
        ModelDomainError, match=r"ends at a distance of 0\.75 from the observer, orbits go as far as 0\.8"
    ):
        check_extent(box(rng=rng), 0.8, position=centre)
    with pytest.raises(ModelDomainError, match="ends at a distance of -2"):
        check_extent(box(rng=rng), 0.1)
    with caplog.at_level(logging.WARNING):
        check_extent(MagneticField() + box(periodic=True, rng=rng), 1.7)
        assert caplog.text == ""
        check_extent(box(periodic=True, rng=rng), 1.8)
    assert "repeats after 1.75" in caplog.text


NARROW = TurbulenceSpectrum(1.0, 2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: grid_turbulence(NARROW, points=64, box=0.5, rng=rng), "expected some of the spectrum's, 1 to 2"),
        (lambda rng: grid_turbulence(NARROW, points=2, box=4.0, rng=rng), "expected 4 points or more"),
        (lambda rng: grid_turbulence(NARROW, points=16, box=4.0, rms=-1, rng=rng), "rms -1: expected"),
        (lambda rng: grid_turbulence(NARROW, points=16, box=4.0, points_per_wavelength=2, rng=rng), "more than 2"),
        (
            lambda rng: grid_turbulence(TurbulenceSpectrum(1.0, 1.01), points=16, box=1.6, rng=rng,
                                        points_per_wavelength=3),
            "no wave that fits a box of 1.6",
        ),
        (lambda rng: nested_grids(NARROW, ratio=1.0, rng=rng), "ratio 1.0: expected more than 1"),
        (
            lambda rng: nested_grids(TurbulenceSpectrum(1.0, 100.0), points=32, rng=rng),
            "hold a ratio of wavelengths of 5.33",
        ),
        (lambda rng: check_extent(box(rng=rng), 0.0), "reach 0.0: expected a positive distance"),
        (lambda rng: energy_spectrum(box(rng=rng).grids[0]), "the grid is not periodic"),
        (lambda rng: GridField(np.ones((1, 4, 4, 3)), np.zeros(3), np.ones(3), True), "at least two points a side"),
        (lambda rng: GridField(np.ones((4, 4, 4)), np.zeros(3), np.ones(3), True), r"expected \(nx, ny, nz, 3\)"),
        (lambda rng: GridField(np.ones((4, 4, 4, 3)), np.zeros(3), np.zeros(3), True), "positive spacings"),
        (
            lambda rng: GridField(np.where(np.arange(192) == 100, np.nan, 1.0).reshape(4, 4, 4, 3), np.zeros(3),
                                  np.ones(3), True),
            r"1 values are not finite, the first at index \(2, 0, 1, 1\)",
        ),
    ],
)  # fmt: skip
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(10))
