"""Mock observations: noiseless limits in closed form, and the scatter that the noise is to have."""

from dataclasses import replace

import numpy as np
import pytest

import obsfit
from obsfit.mock import gaussian_alm, mock_dipoles, mock_spectrum

PROFILE = {"noise_dec_rad": [-1.6, 0.0, 1.6], "noise_profile": [0.2, 1.0, 1.0]}


@pytest.fixture(scope="module")
def table1():
    record = obsfit.load_dipoles("ahlers-mertsch-2017")
    return record.select([i for i, o in enumerate(record.observatory) if o in ("IceCube", "ARGO-YBJ", "Baksan")])


def flat_errors(record, error):
    return replace(record, amplitude_error=np.full(len(record), error))


def test_noiseless_dipoles_are_projected_by_eq_25(table1):
    """Pixels of nside 64 against the closed form; rows by East-West give the dipole itself. Pixel edges: 1 %."""
    n = len(table1)
    vector = np.array([6e-4, 5e-4, 9e-4])
    mock = mock_dipoles(
        np.tile(vector, (n, 1)), flat_errors(table1, 1e-12), scale=np.zeros(n), across=np.zeros(n),
        extra_error=0.0, rng=np.random.default_rng(1), nside=64,
    )  # fmt: skip
    true = np.hypot(*vector[:2])
    for row in range(n):
        d1, d2 = table1.dec_min_rad[row], table1.dec_max_rad[row]
        factor = 1.0
        if np.isfinite(d1):
            s1, s2, c1, c2 = np.sin(d1), np.sin(d2), np.cos(d1), np.cos(d2)
            factor = (d1 - d2 + c1 * s1 - c2 * s2) / (2 * (s1 - s2))
        assert mock.amplitude[row] == pytest.approx(true * factor, rel=0.01)
        assert mock.phase_rad[row] == pytest.approx(np.arctan2(5, 6), abs=5e-3)


def test_offsets_of_an_experiment_lie_along_and_across(table1):
    n = len(table1)
    mock = mock_dipoles(
        np.tile([1e-3, 0.0, 0.0], (n, 1)), flat_errors(table1, 1e-12), scale=np.full(n, 0.2), across=np.full(n, 0.1),
        extra_error=0.0, rng=np.random.default_rng(1),
    )  # fmt: skip
    np.testing.assert_allclose(np.tan(mock.phase_rad), 0.1 / 1.2, rtol=0.02)


def test_dipoles_scatter_by_their_errors(table1):
    """400 mocks of one row: each component scatters by the published error, within 4 standard errors (14 %)."""
    one, rng = flat_errors(table1.select([8]), 3e-4), np.random.default_rng(2)
    drawn = []
    for _ in range(400):
        mock = mock_dipoles(
            np.zeros((1, 3)), one, scale=np.zeros(1), across=np.zeros(1), extra_error=0.0, rng=rng, nside=16
        )
        drawn.append(mock.amplitude[0] * np.array([np.cos(mock.phase_rad[0]), np.sin(mock.phase_rad[0])]))
    np.testing.assert_allclose(np.std(drawn, axis=0), 3e-4, rtol=0.15)


def test_power_of_drawn_skies():
    """4000 skies: the mean power of each l within 5 standard errors, and a real sky at m = 0."""
    rng = np.random.default_rng(3)
    c_ell = np.array([0.0, 2.0, 1.0, 0.5])
    drawn = np.array([gaussian_alm(c_ell, rng=rng) for _ in range(4000)])
    assert np.abs(drawn[:, :4].imag).max() == 0.0
    weight = np.where(np.arange(10) < 4, 1.0, 2.0)
    for ell, members in ((1, [1, 4]), (2, [2, 5, 7]), (3, [3, 6, 8, 9])):
        power = (np.abs(drawn[:, members]) ** 2 * weight[members]).sum(1) / (2 * ell + 1)
        assert power.mean() == pytest.approx(c_ell[ell], rel=5 * np.sqrt(2 / (2 * ell + 1) / 4000))


def test_a_noise_only_spectrum_has_the_level_asked_for():
    """Mean of 60 mocks over l = 5 to 20, the filter's 2 l / (2 l + 1) and the window taken out: 4 % (5 sigma)."""
    like = obsfit.load_spectrum("hawc-icecube-2019").select(1, 30)
    rng = np.random.default_rng(4)
    mocks = [mock_spectrum(np.zeros(31), like, noise=3e-10, rng=rng, nside=32, **PROFILE) for _ in range(60)]
    level = np.mean([mock.c_ell for mock in mocks], axis=0) / like.window_power
    level *= (2 * like.ell + 1) / (2 * like.ell)
    assert level[4:20].mean() == pytest.approx(3e-10, rel=0.04)
    assert mocks[0].measurement == like.measurement
