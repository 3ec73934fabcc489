"""The shipped emulators of turbulence: what they know of themselves, what they refuse, what is done below a library."""

from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.table import Table
from obsfit_models.turbulence.design_library import DesignLibrary, write_design
from obsfit_models.turbulence.sky_design import expected_path
from scipy import stats

from obsfit.emulate import load_emulator
from obsfit.infer.emulated import EmulatedPosterior
from obsfit.plot.runner import load_program

FITS = Path(__file__).parents[2] / "analyses" / "fits"
# Gyroradius at 10 TV over the bend-over length, and the share of turbulence.
RANGES = {
    "turbulence": [(-2.4, -1.6), (0.3, 1.0)],
    "interstellar-turbulence": [(-4.5, -2.6), (0.5, 1.0)],
}
NUMBERS = {"turbulence": 12, "interstellar-turbulence": 11}


@pytest.fixture(scope="module")
def interstellar():
    return load_program(FITS / "interstellar.py")


@pytest.mark.parametrize("name", RANGES)
def test_errors_of_an_emulator_are_below_a_fifth_of_what_it_predicts(name):
    emulator = load_emulator(name)
    assert len(emulator.checks) == NUMBERS[name]
    assert np.max(emulator.checks["ratio"]) < 0.2
    # Transforms of fields held out: false alarm 0.01 in all.
    assert np.min(emulator.checks["p_value"]) > 0.01 / NUMBERS[name]


@pytest.mark.parametrize("name", RANGES)
def test_gyroradii_that_were_not_simulated_are_refused(name):
    posterior = EmulatedPosterior(load_emulator(name))
    np.testing.assert_allclose([p.prior.support() for p in posterior.parameters[:2]], RANGES[name], atol=1e-9)
    inside = np.array([[np.mean(RANGES[name][0]), 0.7, 1.65, -3.0, 1.5, 0.1, 1.0]])
    outside = inside.copy()
    outside[0, 0] = RANGES[name][0][0] - 0.5
    assert np.isfinite(posterior.log_prob(inside)).all()
    assert posterior.log_prob(outside) == -np.inf


def library(path, alm, radii):
    """Three fields whose skies, for a gradient along z alone, are those given for each band, in units of r Lambda."""
    point = np.array([[0.6, 1.6], [0.7, 1.7], [0.9, 1.55]])
    unit = np.array([[r * expected_path(r, *one) for r in radii] for one in point])
    maps = np.zeros((3, len(radii), 3, hp.Alm.getsize(10)), dtype=complex)
    maps[:, :, 2] = alm * unit[..., None]
    made = {
        "gyroradius": [radii[0] / 10**0.125, radii[-1] * 10**0.125], "bands_per_decade": 4,
        "turbulent_share": [0.5, 1.0], "energy_index": [1.5, 1.8],
    }  # fmt: skip
    write_design(
        path, DesignLibrary(point, radii, maps, np.ones((3, len(radii), 2)), np.zeros((len(radii), 11)), made)
    )
    return path


def test_a_continuation_changes_nothing_where_skies_do_not_change_and_is_seen_where_they_do(
    interstellar, tmp_path
):
    emulator = load_emulator("interstellar-turbulence")
    radii = 10.0 ** (-4.875 + 0.25 * np.arange(16))
    ell, m = hp.Alm.getlm(10)
    rng = np.random.default_rng(5)
    sky = np.where(ell > 0, rng.normal(size=ell.size) + 1j * rng.normal(size=ell.size) * (m > 0), 0.0)
    same = interstellar.continuation(library(tmp_path / "same.h5", np.tile(sky, (16, 1)), radii), emulator, seed=1)
    # Single precision of the file.
    assert np.max(same["rms_change"]) < 1e-4
    # Twice the sky in the three lowest bands: at 10 TeV some ten per cent of the events see them.
    twice = np.tile(sky, (16, 1)) * np.where(np.arange(16) < 3, 2.0, 1.0)[:, None]
    found = interstellar.continuation(library(tmp_path / "twice.h5", twice, radii), emulator, seed=1)
    assert np.all(found["mean_change"][:8] < -0.01)
    assert np.all(found["mean_change"][:8] > -2.0 * np.log(2.0))


def test_the_published_continuation_is_that_of_the_whole_library():
    table = Table.read(FITS / "interstellar_continuation.ecsv", format="ascii.ecsv")
    assert table.meta["fields"] == 300
    assert list(table["label"]) == list(load_emulator("interstellar-turbulence").folded.value_labels())
    # As far below the edge as the emulator goes, no number moves by more than a hundredth of its width on average.
    assert np.max(np.abs(table["mean_change"]) / table["width"]) < 0.01


def test_a_linear_rule_has_the_power_of_normal_laws_a_known_distance_apart(interstellar):
    """Two normal laws of three numbers, correlated, 400 fields of 5 each: power is Phi(d - 1.645) within 5 errors."""
    rng = np.random.default_rng(8)
    root = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.5, 0.2, 0.7]])
    shift = root @ np.array([0.0, 1.2, 0.9])  # 1.5 standard deviations along its own direction
    own, other = (rng.normal(size=(400, 5, 3)) @ root.T for _ in range(2))
    power = interstellar.fitted.told_apart(own, other + shift, rng=rng)
    expected = stats.norm.cdf(1.5 - stats.norm.ppf(0.95))
    assert abs(power - expected) < 5 * np.sqrt(expected * (1 - expected) / 2000)
    # Nothing to tell: the rule has no more power than false alarms.
    assert interstellar.fitted.told_apart(own, other, rng=rng) < 0.05 + 5 * np.sqrt(0.05 * 0.95 / 2000)
