"""Plane waves against nested grids: two codes, one turbulence, and the same skies.

Fields of both kinds share a spectrum and nothing else: no kernel of the field, no wavenumbers, no random numbers. What
is compared is the law of the logarithms of C_l, l = 1 ... 10, of the displacements along and across the mean field, by
the energy distance of two samples (Szekely and Rizzo 2013, J. Stat. Plan. Inference 143, 1249) and its permutations.

A larger run, from this folder: ``python -c "import test_two_fields; test_two_fields.compare(fields=200, ...)"``.
"""

import dataclasses
import functools

import numpy as np
import pytest
from obsfit_models.turbulence.displacement import cross_power, displacement_sky
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.grids import nested_grids
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

NARROW = TurbulenceSpectrum(0.3, 10.0)
GYRORADIUS = 0.3
STEP = 0.4
LMAX = 10
MEAN = MagneticField(uniform=[0.0, 0.0, 1.0])


def waves(spectrum, modes, rng):
    return isotropic_waves(spectrum, modes=modes, rng=rng)


def grids(spectrum, points, rng, *, interpolation="cubic"):
    """Four cubes, each for a ratio of 2.4 of k, the largest over three times as long as the outer scale."""
    return nested_grids(
        spectrum, ratio=points / 16, points=points, points_per_wavelength=5.0, interpolation=interpolation, rng=rng
    )


def log_powers(make, *, fields, times, seed, gyroradius=GYRORADIUS, step=STEP, tolerance=None):
    """Return log C_l, shape (n_time, fields, 20): ten along the mean field, ten across it."""
    powers = []
    for number in range(fields):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        sky = displacement_sky(
            MEAN + make(rng), times, gyroradius=gyroradius, nside=8, lmax=LMAX, step=step, tolerance=tolerance
        )
        power = cross_power(sky.alm, sky.alm)[0, 0, :, :3, 1:]
        powers.append(np.concatenate([power[:, 2], power[:, 0] + power[:, 1]], axis=1))
    return np.log(np.array(powers)).swapaxes(0, 1)


def energy_distance(distance, first):
    """Of two samples, from the matrix of all distances and which rows are of the first."""
    a, b = np.flatnonzero(first), np.flatnonzero(~first)
    between, within_a, within_b = (distance[np.ix_(*pair)].mean() for pair in ((a, b), (a, a), (b, b)))
    return 2 * between - within_a - within_b


def permutation_p(one, two, *, permutations, rng):
    """Return the p-value of equal laws: the share of relabellings with as large an energy distance."""
    both = np.concatenate([one, two])
    both = both / both.std(axis=0)
    distance = np.linalg.norm(both[:, None] - both[None], axis=-1)
    label = np.arange(len(both)) < len(one)
    found = energy_distance(distance, label)
    shuffled = [energy_distance(distance, rng.permutation(label)) for _ in range(permutations)]
    return (1 + np.sum(np.array(shuffled) >= found)) / (1 + permutations)


def papers_samples(*, fields, time, seed, modes=100):
    """Return log powers of the papers' field by the leapfrog and, in other fields, by the multi-rate scheme to 1e-3."""
    spectrum = TurbulenceSpectrum(0.01, 100.0)
    arguments = {"fields": fields, "times": (time,), "gyroradius": 0.1, "step": None}
    return [
        log_powers(lambda rng: waves(spectrum, modes, rng), seed=seed + i, tolerance=tolerance, **arguments)[0]
        for i, tolerance in enumerate((None, 1e-3))
    ]


def without_largest(spectrum, points, rng):
    return MagneticField(grids=grids(spectrum, points, rng).grids[1:])


def samples(*, fields, modes, points, times, seed):
    """Return log powers of the two codes and of two fields that differ: a steeper spectrum, a missing largest cube."""
    steep = dataclasses.replace(NARROW, energy_index=2.0)
    makers = {
        "waves": lambda rng: waves(NARROW, modes, rng),
        "grids": lambda rng: grids(NARROW, points, rng),
        "steep waves": lambda rng: waves(steep, modes, rng),
        "without largest": lambda rng: without_largest(NARROW, points, rng),
    }
    return {
        name: log_powers(make, fields=fields, times=times, seed=seed + number)
        for number, (name, make) in enumerate(makers.items())
    }


@functools.cache
def small():
    return samples(fields=60, modes=100, points=40, times=(5.0, 20.0), seed=1)


def p_value(name, time, permutations=999):
    rng = np.random.default_rng(7)
    return permutation_p(small()["waves"][time], small()[name][time], permutations=permutations, rng=rng)


@pytest.mark.parametrize("time", [0, 1], ids=["5", "20"])
def test_waves_and_grids_make_the_same_skies(time):
    """False alarm of a right code: 1 in 100 for each time, had the seed not been fixed."""
    assert p_value("grids", time) > 0.01


def test_a_steeper_spectrum_is_detected():
    """Energy index 2 in place of 5/3, at Omega T = 5, where small scales tell."""
    assert p_value("steep waves", 0) <= 0.01


def test_a_missing_cube_is_detected():
    """Without its largest cube a field has lost 31 % of its energy."""
    assert p_value("without largest", 1) <= 0.01


def test_both_integrators_make_the_same_skies():
    """Leapfrog and multi-rate scheme, in different fields. False alarm of right codes: 1 in 100."""
    leapfrog, multirate = papers_samples(fields=40, time=20.0, seed=11, modes=60)
    p = permutation_p(leapfrog, multirate, permutations=999, rng=np.random.default_rng(9))
    assert p > 0.01


def test_the_p_value_is_uniform_for_equal_laws():
    """Of 200 pairs of equal samples, below 0.1: 20 expected; 5 to 40 leave out 3e-5."""
    rng = np.random.default_rng(8)
    values = [
        permutation_p(rng.normal(size=(15, 3)), rng.normal(size=(12, 3)), permutations=99, rng=rng)
        for _ in range(200)
    ]
    assert 5 <= np.sum(np.array(values) <= 0.1) <= 40


def compare(*, fields, modes, points, times, seed, permutations=9999):
    """Print p-values and mean differences of a larger comparison, as in docs/turbulence-fields.md."""
    found = samples(fields=fields, modes=modes, points=points, times=times, seed=seed)
    rng = np.random.default_rng(seed)
    for at, time in enumerate(times):
        base = found["waves"][at]
        for name, sample in found.items():
            if name == "waves":
                continue
            p = permutation_p(base, sample[at], permutations=permutations, rng=rng)
            shift = sample[at].mean(axis=0) - base.mean(axis=0)
            error = np.sqrt((sample[at].var(axis=0) + base.var(axis=0)) / fields)
            along, across = (np.round(shift[[i, i + 1, i + 4, i + 9]], 2) for i in (0, 10))
            print(
                f"Omega T = {time:g}, {name}: p = {p:.4f}; ln C_l at l = 1, 2, 5, 10 differs by {along} along and "
                f"{across} across, errors {error.mean():.2f}; at most {np.max(np.abs(shift / error)):.1f} errors"
            )
