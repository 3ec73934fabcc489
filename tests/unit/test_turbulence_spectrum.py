"""Spectra of turbulence: indices, shares, correlation lengths."""

from itertools import pairwise

import numpy as np
import pytest
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum
from scipy.integrate import quad

PAPERS = TurbulenceSpectrum(0.01, 100.0)


def integral(spectrum, function, low=None, high=None):
    """Of E(k) as the papers print it times a function of k, by adaptive quadrature."""

    def density(k):
        scaled = k * spectrum.bend_over
        return k**spectrum.large_scale_index / (1 + scaled ** (spectrum.large_scale_index + spectrum.energy_index))

    edges = np.geomspace(low or spectrum.k_min, high or spectrum.k_max, 40)
    return sum(quad(lambda k: density(k) * function(k), a, b, epsrel=1e-11)[0] for a, b in pairwise(edges))


def test_without_cut_offs_the_correlation_length_is_0_858():
    """A ratio of beta functions: int k^(a-1) / (1 + k^g) dk = pi / (g sin(pi a / g))."""
    g = 11 / 3
    closed = np.pi / 2 * np.sin(3 * np.pi / g) / np.sin(2 * np.pi / g)
    assert closed == pytest.approx(0.858, abs=5e-4)
    assert TurbulenceSpectrum(1e-7, 1e5).correlation_length() == pytest.approx(closed, rel=3e-5)


def test_e12_the_length_of_the_bend_is_neither_a_wavelength_nor_the_correlation_length():
    assert PAPERS.correlation_length() == pytest.approx(0.867, abs=5e-4)
    # k E(k) turns over near k = 1 / lambda_c, wavelength 2 pi lambda_c.
    k = np.geomspace(PAPERS.k_min, PAPERS.k_max, 100_001)
    assert 2 * np.pi / k[np.argmax(PAPERS.energy_per_log_k(k))] == pytest.approx(
        2 * np.pi * (2 / 9) ** (3 / 11), rel=2e-4
    )
    assert np.isclose(PAPERS.energy_per_log_k(1.0), 0.5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_correlation_lengths_by_quadrature(dimensions):
    spectrum = TurbulenceSpectrum(0.1, 30.0, 1.5, 2.0, 1.0)
    mean = integral(spectrum, lambda k: 1 / k) / integral(spectrum, lambda k: 1.0)
    expected = mean * (np.pi / 2 if dimensions == 3 else 1.0)
    assert spectrum.correlation_length(dimensions) == pytest.approx(expected, rel=1e-7)


def test_slab_correlation_length_of_a_flat_start():
    """E = 1 / (1 + k^s): L = (pi/2) E(0) / int E = (s/2) sin(pi/s)."""
    s = 5 / 3
    flat = TurbulenceSpectrum(1e-7, 1e6, s, 1.0, 0.0)
    assert flat.correlation_length(1) == pytest.approx(s / 2 * np.sin(np.pi / s), rel=1e-4)
    assert PAPERS.correlation_length(1) < 0.01


def test_pure_power_law_is_a_tenth_of_the_outer_scale():
    """One-sided length of a Kolmogorov spectrum without a bend: (pi/2) (2/5) / k_min = lambda_max / 10."""
    pure = TurbulenceSpectrum(1e-5, 150.0, bend_over=None)
    assert pure.correlation_length() == pytest.approx(15.0, rel=1e-4)


@pytest.mark.parametrize(("low", "high"), [(1.0, 10.0), (1e-3, 0.3), (100.0, 1e9)])
def test_shares_by_quadrature(low, high):
    inside = max(low, PAPERS.k_min), min(high, PAPERS.k_max)
    expected = integral(PAPERS, lambda k: 1.0, *inside) / integral(PAPERS, lambda k: 1.0)
    assert PAPERS.share(low, high) == pytest.approx(expected, rel=1e-6)


def test_shares_add_up_and_parts_keep_the_shape():
    edges = np.geomspace(PAPERS.k_min, PAPERS.k_max, 6)
    pairs = list(pairwise(edges))
    assert sum(PAPERS.share(*pair) for pair in pairs) == pytest.approx(1.0, rel=1e-8)
    part = PAPERS.between(*pairs[2])
    k = np.sqrt(edges[2] * edges[3])
    assert (part.k_min, part.k_max) == pytest.approx(pairs[2])
    assert part.energy_per_log_k(k) == PAPERS.energy_per_log_k(k)
    assert PAPERS.share(1e-9, 1e-8) == 0.0


def test_the_index_is_that_of_the_energy():
    k = np.array([100.0, 200.0])
    energy = PAPERS.energy_per_log_k(k) / k
    assert np.log2(energy[0] / energy[1]) == pytest.approx(5 / 3, abs=1e-6)
    large = PAPERS.energy_per_log_k(k / 1000) / k
    assert np.log2(large[1] / large[0]) == pytest.approx(2.0, abs=0.01)
    with pytest.raises(ValueError, match="11/3 is the index of the power per volume"):
        TurbulenceSpectrum(0.01, 100.0, energy_index=11 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TurbulenceSpectrum(1.0, 1.0), "expected 0 < wavelength_min < wavelength_max"),
        (lambda: TurbulenceSpectrum(0.1, 1.0, bend_over=0.0), "expected a positive length, or None"),
        (lambda: TurbulenceSpectrum(0.1, 1.0, large_scale_index=-1.0), "expected more than -1"),
        (lambda: PAPERS.correlation_length(4), "expected 3"),
        (lambda: TurbulenceSpectrum(0.1, 1.0, bend_over=None).correlation_length(1), "give bend_over"),
        (lambda: PAPERS.between(1e4, 1e5), "hold none of a spectrum"),
        (lambda: PAPERS.share(2.0, 1.0), "expected 0 < k_low <= k_high"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
