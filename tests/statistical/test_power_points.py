"""Points of power spectra: coverage of their intervals, and the amplitude that brings a model to their height."""

from dataclasses import replace

import healpy as hp
import numpy as np
import pytest
from matplotlib.figure import Figure

from obsfit.plot.spectra import draw_points, drawn_power, power_interval, scale_to_data
from obsfit.records import PowerSpectrum, Provenance


def spectrum(c_ell, *, noise=0.0, window=1.0, filtered=True, kind="full-sky"):
    ell = np.arange(1, len(c_ell) + 1)
    unknown = np.full(ell.size, np.nan)
    return PowerSpectrum(
        "test", kind, 10.0, ell, np.asarray(c_ell), np.full(ell.size, noise), np.full(ell.size, window),
        unknown, unknown, unknown, unknown, filtered, -np.pi / 2, np.pi / 2, Provenance("test"),
    )  # fmt: skip


@pytest.mark.parametrize("filtered", [True, False])
def test_intervals_cover_the_truth_as_often_as_they_say(filtered):
    """Skies by healpy; 2000 skies: a deviation of 4.5 sigma, 0.047, has a probability of 7e-6 per multipole."""
    rng_seed, n, lmax = 20, 2000, 5
    truth = np.array([0.0, 1.0, 0.5, 0.25, 0.1, 0.05])
    np.random.seed(rng_seed)  # noqa: NPY002 - synalm draws from the global generator
    inside = np.zeros(lmax)
    for _ in range(n):
        alm = hp.synalm(truth, lmax=lmax)
        if filtered:
            alm[: lmax + 1] = 0.0
        measured = drawn_power(spectrum(hp.alm2cl(alm)[1:], filtered=filtered))
        ell = np.arange(1, lmax + 1)
        low, high = power_interval(measured, 2 * ell + (0 if filtered else 1))
        inside += (low < truth[1:]) & (truth[1:] < high)
    np.testing.assert_allclose(inside / n, 0.68, rtol=0, atol=0.047)


def test_exact_points_give_the_exact_amplitude():
    """At the expectation the likelihood peaks at the truth; tolerance of the bounded search, 1e-5 in log A."""
    shape = np.arange(0.0, 12.0) ** 2 * 1e-3
    ell = np.arange(1, 12)
    window = 0.8
    tabulated = (3e-7 * shape[1:] + 2e-10) * window * 2 * ell / (2 * ell + 1)
    found = scale_to_data(shape, spectrum(tabulated, noise=2e-10, window=window), 2, 9)
    assert found == pytest.approx(3e-7, rel=3e-5)


def test_noise_alone_is_refused():
    ell = np.arange(1, 8)
    tabulated = np.full(7, 2e-10) * 2 * ell / (2 * ell + 1)
    with pytest.raises(ValueError, match="no power above the noise between l = 1 and 7"):
        scale_to_data(np.ones(8), spectrum(tabulated, noise=2e-10), 1, 7)


def test_pseudo_power_is_neither_corrected_nor_scaled_to():
    cut = spectrum(np.ones(4), window=0.5, kind="pseudo")
    np.testing.assert_array_equal(drawn_power(cut), np.ones(4))
    with pytest.raises(ValueError, match="expected a full-sky spectrum, or fold the model"):
        scale_to_data(np.ones(5), cut, 1, 4)


def test_what_cannot_be_scaled_is_refused():
    with pytest.raises(ValueError, match="noise and window must be known"):
        scale_to_data(np.ones(5), replace(spectrum(np.ones(4)), noise=np.full(4, np.nan)), 1, 4)
    with pytest.raises(ValueError, match="no power somewhere between l = 1 and 4"):
        scale_to_data(np.zeros(5), spectrum(np.ones(4)), 1, 4)


@pytest.mark.parametrize(
    ("modes", "level", "message"), [(0.0, 0.68, "positive numbers of modes"), (2.0, 68, "0.68")]
)
def test_intervals_refuse_what_makes_no_sense(modes, level, message):
    with pytest.raises(ValueError, match=message):
        power_interval([1.0], [modes], level)


def test_two_modes_are_an_exponential():
    """With two degrees of freedom the measured power is exponential: P(C_hat < x C) = 1 - exp(-x)."""
    low, high = power_interval([1.0], [2.0], 0.5)
    np.testing.assert_allclose([low[0], high[0]], [-1 / np.log(0.25), -1 / np.log(0.75)], rtol=1e-12)


def test_bars_are_drawn_with_the_modes_of_the_map():
    """At l = 1 without m = 0 there are two modes: the bar ends at C / -ln(0.16) and C / -ln(0.84)."""
    axes = Figure().subplots()
    draw_points(axes, spectrum([2 / 3 * 1e-6, 1e-7]), label="points", shift=0.1)
    (container,) = axes.containers
    (bars,) = container.lines[2]
    np.testing.assert_allclose(
        bars.get_segments()[0], [[1.1, -1e-6 / np.log(0.16)], [1.1, -1e-6 / np.log(0.84)]], rtol=1e-9
    )
