"""Turbulent fields against closed forms: mean squares, divergence, isotropy, spectra, correlations.

Fields are only evaluated at points; how they are made is not looked at. Spectra and correlation functions that are
expected are integrals of the formula for E(k), done here.
"""

import numpy as np
import pytest
from obsfit_models.turbulence.grids import grid_turbulence, nested_grids
from obsfit_models.turbulence.plane_waves import (
    composite_waves,
    isotropic_waves,
    slab_waves,
    two_dimensional_waves,
)
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from scipy.special import j0, sici

PAPERS = TurbulenceSpectrum(0.05, 100.0)
AXIS = np.array([2.0, -1.0, 2.0]) / 3
FAR = 1e4


def mean(spectrum, function):
    """Of a function of k, weighted with E(k) = k^2 / (1 + k^(11/3)) or with a flat start."""
    edges = np.linspace(np.log(spectrum.k_min), np.log(spectrum.k_max), 100_001)
    k = np.exp(0.5 * (edges[1:] + edges[:-1]))
    q = spectrum.large_scale_index
    weight = k ** (q + 1) / (1 + k ** (q + spectrum.energy_index))
    return np.sum(weight * function(k)) / np.sum(weight)


def directions(rng, n):
    vector = rng.normal(size=(3, n))
    return vector / np.linalg.norm(vector, axis=0)


KINDS = {
    "isotropic": lambda rng: isotropic_waves(PAPERS, modes=150, rms=1.3, rng=rng),
    "slab": lambda rng: slab_waves(PAPERS, modes=150, rms=1.3, axis=AXIS, rng=rng),
    "two-dimensional": lambda rng: two_dimensional_waves(PAPERS, modes=150, rms=1.3, axis=AXIS, rng=rng),
    "composite": lambda rng: composite_waves(PAPERS, slab_fraction=0.2, modes=150, rms=1.3, axis=AXIS, rng=rng),
}


@pytest.mark.parametrize("kind", KINDS)
def test_mean_square_over_space_in_each_realisation(kind):
    """Independent places: the mean square of 40 000 has an error of at most sqrt(2 / 40 000) = 0.7 %; 5 are allowed.

    At most, because the three components share the variance. False alarm below 1e-6 for each realisation.
    """
    rng = np.random.default_rng(11)
    for _ in range(3):
        b = KINDS[kind](rng).at(rng.uniform(-FAR, FAR, (3, 40_000)))
        assert np.mean(np.sum(b**2, axis=0)) == pytest.approx(1.3**2, rel=0.035)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_by_finite_differences(kind):
    rng = np.random.default_rng(12)
    field = KINDS[kind](rng)
    place = rng.uniform(-10, 10, (3, 300))
    # The shortest wavelength is 0.05: central differences err by (k h)^2 / 6 = 3e-6 of a derivative, rounding by 1e-9.
    h = 3e-5
    slope = np.array(
        [(field.at(place + h * e[:, None]) - field.at(place - h * e[:, None])) / (2 * h) for e in np.eye(3)]
    )
    assert np.max(np.abs(np.einsum("iin->n", slope))) < 1e-5 * np.sqrt(np.mean(np.sum(slope**2, axis=(0, 1))))


def test_isotropic_waves_have_no_preferred_direction():
    """Tensor <B_i B_j> over 400 fields x 100 places, and that of the directions of 60 000 wave vectors.

    Errors: for B, 0.6 / sqrt(400 x 100) or, were all places of a field alike, 0.03; for k, 0.3 / sqrt(60 000) = 1.2e-3.
    Each of six elements within 5 errors: false alarm 1e-5.
    """
    rng = np.random.default_rng(13)
    tensor, wave = np.zeros((2, 3, 3))
    for _ in range(400):
        field = isotropic_waves(PAPERS, modes=150, rng=rng)
        b = field.at(rng.uniform(-FAR, FAR, (3, 100)))
        unit = field.waves.wavevector / np.linalg.norm(field.waves.wavevector, axis=0)
        tensor += b @ b.T / 100 / 400
        wave += unit @ unit.T / 150 / 400
    np.testing.assert_allclose(tensor, np.eye(3) / 3, atol=0.03)
    np.testing.assert_allclose(wave, np.eye(3) / 3, atol=6e-3)


def test_slab_and_two_dimensional_fields_are_isotropic_about_their_axis():
    rng = np.random.default_rng(14)
    for make in (slab_waves, two_dimensional_waves):
        tensor = np.zeros((3, 3))
        for _ in range(300):
            b = make(PAPERS, modes=100, axis=AXIS, rng=rng).at(rng.uniform(-FAR, FAR, (3, 100)))
            tensor += b @ b.T / 100 / 300
        # Errors as above, 3 % at most.
        np.testing.assert_allclose(tensor, (np.eye(3) - np.outer(AXIS, AXIS)) / 2, atol=0.04)


def test_what_slab_and_two_dimensional_fields_do_not_depend_on():
    rng = np.random.default_rng(15)
    place, step = rng.uniform(-30, 30, (3, 200)), rng.uniform(-30, 30, 200)
    across = np.cross(AXIS, rng.normal(size=(200, 3))).T
    slab, flat = (make(PAPERS, modes=100, axis=AXIS, rng=rng) for make in (slab_waves, two_dimensional_waves))
    np.testing.assert_allclose(slab.at(place + across), slab.at(place), atol=1e-9)
    np.testing.assert_allclose(flat.at(place + AXIS[:, None] * step), flat.at(place), atol=1e-9)
    assert np.max(np.abs(flat.at(place + across) - flat.at(place))) > 0.5


def two_points(make, distance, shifts, rng, *, fields=120, places=300):
    """<B(0) . B(r)> / <B^2> for each distance, at random places of many fields; shifts(n) gives unit vectors."""
    total, square = np.zeros(len(distance)), 0.0
    for _ in range(fields):
        field = make(rng)
        place = rng.uniform(-FAR, FAR, (3, places))
        unit, here = shifts(places), field.at(place)
        there = field.at((place[:, None] + np.multiply.outer(unit, distance).swapaxes(1, 2)).reshape(3, -1))
        total += np.sum(there.reshape(3, len(distance), places) * here[:, None], axis=(0, 2))
        square += np.sum(here**2)
    return total / square


def test_isotropic_correlation_is_the_mean_of_sin_kr_over_kr_and_its_length_0_86():
    """36 000 pairs: error of a value 1 / sqrt(36 000 x 2) = 0.4 %, twice that where places of a field go together.

    The integral to 15 by 24 Gauss nodes, of mean weight 0.6, has an error of 0.011; five of them are allowed.
    """
    rng = np.random.default_rng(16)
    node, weight = np.polynomial.legendre.leggauss(24)
    r, weight = 7.5 * (node + 1), 7.5 * weight
    make = lambda rng: isotropic_waves(PAPERS, modes=150, rng=rng)  # noqa: E731
    found = two_points(make, r, lambda n: directions(rng, n), rng)
    expected = np.array([mean(PAPERS, lambda k, x=x: np.sin(k * x) / (k * x)) for x in r])
    np.testing.assert_allclose(found, expected, atol=0.03)
    cut = mean(PAPERS, lambda k: sici(15 * k)[0] / k)
    assert cut == pytest.approx(PAPERS.correlation_length(), rel=0.02)
    assert found @ weight == pytest.approx(cut, abs=0.055)


def test_two_dimensional_correlation_is_the_mean_of_j0():
    rng = np.random.default_rng(17)
    node, weight = np.polynomial.legendre.leggauss(24)
    r, weight = 7.5 * (node + 1), 7.5 * weight

    def shifts(n):
        vector = np.cross(AXIS, rng.normal(size=(n, 3))).T
        return vector / np.linalg.norm(vector, axis=0)

    make = lambda rng: two_dimensional_waves(PAPERS, modes=150, axis=AXIS, rng=rng)  # noqa: E731
    found = two_points(make, r, shifts, rng)
    expected = np.array([mean(PAPERS, lambda k, x=x: j0(k * x)) for x in r])
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert found @ weight == pytest.approx(PAPERS.correlation_length(2), abs=0.055)


def test_slab_correlation_is_the_mean_of_cos_kz():
    """With a flat start, L = (pi/2) E(0) / int E is what a smooth taper of 10 leaves: sqrt(pi/2) 10 <exp(-50 k^2)>."""
    rng = np.random.default_rng(18)
    flat = TurbulenceSpectrum(0.05, 1e3, large_scale_index=0.0)
    # Dense, because all waves are in phase again where intervals of k times z come to 2 pi.
    z = np.linspace(0.5, 39.5, 40)
    make = lambda rng: slab_waves(flat, modes=600, axis=AXIS, rng=rng)  # noqa: E731
    found = two_points(make, z, lambda n: np.repeat(AXIS[:, None], n, axis=1), rng, fields=100)
    expected = np.array([mean(flat, lambda k, x=x: np.cos(k * x)) for x in z])
    np.testing.assert_allclose(found, expected, atol=0.04)
    # The midpoint rule of step 1 resolves all but waves shorter than 2; compare with the same rule on the mean.
    taper = np.exp(-(z**2) / 200)
    assert found @ taper == pytest.approx(expected @ taper, abs=0.06)
    smooth = np.sqrt(np.pi / 2) * 10 * mean(flat, lambda k: np.exp(-50 * k**2))
    assert smooth == pytest.approx(flat.correlation_length(1), rel=0.15)


def line_spectrum(field, length, points, starts, rng, unit):
    """One-sided spectrum of the trace along lines, from transforms with a Hann window."""
    along = np.arange(points) * length / points
    place = rng.uniform(-FAR, FAR, (3, starts))
    window = np.hanning(points)
    b = field.at((place[:, :, None] + unit(starts)[:, :, None] * along).reshape(3, -1)).reshape(3, starts, points)
    power = np.abs(np.fft.rfft(b * window, axis=2)) ** 2
    k = 2 * np.pi * np.fft.rfftfreq(points, length / points)
    return k, power.sum(axis=0).mean(axis=0) * 2 / np.sum(window**2) / points * length / (2 * np.pi)


@pytest.mark.parametrize("kind", ["isotropic", "slab"])
def test_spectrum_along_lines(kind):
    """Slab: E(k) itself. Isotropic: waves at all angles, F(k) = int_k E(k') / k' dk'.

    60 fields x 8 lines; bands of at least 20 k's that a field's waves fill: 4 %, and the slope of 5/3 to 0.03.
    """
    rng = np.random.default_rng(19)
    spectrum = TurbulenceSpectrum(0.3, 50.0)
    make = slab_waves if kind == "slab" else isotropic_waves
    pick = (lambda n: np.tile([[0.0], [0.0], [1.0]], n)) if kind == "slab" else (lambda n: directions(rng, n))
    runs = [line_spectrum(make(spectrum, modes=300, rng=rng), 60.0, 1024, 8, rng, pick) for _ in range(60)]
    k, power = runs[0][0], np.mean([run[1] for run in runs], axis=0)
    edges = np.geomspace(2.0, 16.0, 7)
    band = np.digitize(k, edges) - 1
    found = np.array([power[band == i].mean() for i in range(6)])
    fine = np.geomspace(spectrum.k_min, spectrum.k_max, 20_001)
    density = fine**2 / (1 + fine ** (11 / 3))
    density /= np.trapezoid(density, fine)
    if kind == "isotropic":
        above = np.concatenate(
            [np.cumsum((0.5 * (density / fine)[1:] + 0.5 * (density / fine)[:-1]) * np.diff(fine)), [0]]
        )
        expected = np.interp(k, fine, above[-2] - np.concatenate([[0], above[:-1]]))
    else:
        expected = np.interp(k, fine, density)
    wanted = np.array([expected[band == i].mean() for i in range(6)])
    np.testing.assert_allclose(found, wanted, rtol=0.15)
    centre = np.sqrt(edges[1:] * edges[:-1])
    slope, model = (np.polyfit(np.log(centre[:5]), np.log(v[:5]), 1)[0] for v in (found, wanted))
    assert slope == pytest.approx(model, abs=0.05)
    if kind == "slab":
        assert slope == pytest.approx(-5 / 3, abs=0.08)


def test_shells_of_a_grid_have_the_energy_of_their_intervals():
    """Integrals of k^(-5/3), without a bend, although shells have up to 22 % fewer lattice points than volume.

    Eight fields of n waves with two polarisations: errors of 1 / sqrt(8 n), 4.5 % for the 62 in the first shell, less
    above; 16 % are allowed. A wave then has an energy that falls with 11/3: 5/3 and two for the surface of a sphere.
    """
    rng = np.random.default_rng(20)
    pure = TurbulenceSpectrum(0.5, 4.0, bend_over=None)
    m = np.sqrt(sum(np.meshgrid(*[(36 * np.fft.fftfreq(36)) ** 2] * 3, indexing="ij")))
    edges = np.linspace(1.5, 12.0, 11)
    energy = np.zeros_like(m)
    for _ in range(8):
        values = grid_turbulence(pure, points=36, box=6.0, points_per_wavelength=3.0, rng=rng).grids[0].values
        energy += np.sum(np.abs(np.fft.fftn(values, axes=(0, 1, 2)) / 36**3) ** 2, axis=-1) / 8
    shells = np.histogram(m, edges, weights=energy)[0]
    wanted = (edges[:-1] ** (-2 / 3) - edges[1:] ** (-2 / 3)) / (1.5 ** (-2 / 3) - 12 ** (-2 / 3))
    np.testing.assert_allclose(shells, wanted, rtol=0.16)
    high = np.arange(5.0, 12.0)
    wave = np.histogram(m, high, weights=energy)[0] / np.histogram(m, high)[0]
    assert np.polyfit(np.log(high[:-1] + 0.5), np.log(wave), 1)[0] == pytest.approx(-11 / 3, abs=0.15)


def test_nested_grids_correlate_as_the_spectrum_demands():
    """Mean square and two-point function of the sum of cubes at random places, as for waves.

    Tricubic interpolation at six points in a wavelength loses 1.7 % of the shortest waves of each cube, 0.5 % in all.
    """
    rng = np.random.default_rng(21)
    spectrum = TurbulenceSpectrum(0.2, 20.0)
    node, weight = np.polynomial.legendre.leggauss(16)
    r, weight = 4 * (node + 1), 4 * weight
    square, found = [], []
    for _ in range(8):
        field = nested_grids(spectrum, ratio=4.7, points=48, rng=rng)
        b = field.at(rng.uniform(-FAR, FAR, (3, 4000)))
        square.append(np.mean(np.sum(b**2, axis=0)))
        found.append(
            two_points(lambda rng, field=field: field, r, lambda n: directions(rng, n), rng, fields=1, places=2500)
        )
    assert np.mean(square) == pytest.approx(0.995, abs=0.015)
    expected = np.array([mean(spectrum, lambda k, x=x: np.sin(k * x) / (k * x)) for x in r])
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.04)
    cut = mean(spectrum, lambda k: sici(8 * k)[0] / k)
    assert np.mean(found, axis=0) @ weight == pytest.approx(cut, rel=0.08)


def test_a_grid_repeats_after_its_box_and_waves_do_not():
    rng = np.random.default_rng(22)
    spectrum = TurbulenceSpectrum(1.0, 8.0)
    grid = grid_turbulence(spectrum, points=24, box=8.0, points_per_wavelength=3.0, rng=rng)
    place, boxes = rng.uniform(-50, 50, (3, 200)), np.array([[8.0], [-16.0], [0.0]])
    np.testing.assert_allclose(grid.at(place + boxes), grid.at(place), atol=1e-10)
    waves = isotropic_waves(spectrum, modes=60, rng=rng)
    assert np.mean((waves.at(place + boxes) - waves.at(place)) ** 2) > 0.3


def test_divergence_of_an_interpolated_field_is_of_the_size_of_its_error():
    """Why plane waves are the reference: at the points div B is 0 in the spectral sense, between them it is not."""
    rng = np.random.default_rng(23)
    spectrum = TurbulenceSpectrum(1.0, 4.0)
    ratio = {}
    for interpolation in ("linear", "cubic"):
        field = grid_turbulence(
            spectrum, points=32, box=4.0, points_per_wavelength=8.0, interpolation=interpolation,
            rng=np.random.default_rng(24),
        )  # fmt: skip
        place, h = rng.uniform(-4, 4, (3, 2000)), 1e-5
        slope = np.array(
            [(field.at(place + h * e[:, None]) - field.at(place - h * e[:, None])) / (2 * h) for e in np.eye(3)]
        )
        ratio[interpolation] = np.sqrt(
            np.mean(np.einsum("iin->n", slope) ** 2) / np.mean(np.sum(slope**2, axis=(0, 1)))
        )
    assert 0.03 < ratio["linear"] < 0.06
    assert 0.003 < ratio["cubic"] < 0.008
