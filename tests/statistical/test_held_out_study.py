"""Universes in fields that an emulator did not learn from: parts, errors, observation, and a study in small."""

from dataclasses import replace

import numpy as np
import pytest
from obsfit_models.turbulence.design_library import write_design
from obsfit_models.turbulence.simulated import SimulatedTurbulence

from obsfit.configuration import load_configuration
from obsfit.emulate.configured import EmulatorConfiguration, configured_training
from obsfit.errors import ConfigurationError
from obsfit.study import held_out
from obsfit.study.held_out import HeldOutConfiguration, drawn_errors, field_parts, run_held_out
from obsfit.study.universes import observe_records

EMULATOR = """
schema = 1
model = "simulated-turbulence"
seed = 1
per_field = 12
degree = 1
replicates = 2
outside = 0.07
[[data]]
spectrum = "hawc-icecube-2019"
ell_max = 3
[[data]]
spectrum = "icecube-2025"
energies = ["24 TeV"]
ell_max = 2
[[data]]
dipoles = "ahlers-mertsch-2017"
rows = ["icecube-2016-24TeV"]
"""
STUDY = HeldOutConfiguration(
    seed=3, mocks=3, emulator="emulator.toml", folds=4, output="study", effective_size=100.0
)


@pytest.fixture
def base(tmp_path):
    (tmp_path / "emulator.toml").write_text(EMULATOR)
    return tmp_path


def test_each_field_is_in_one_part_and_parts_are_even():
    parts = field_parts(replace(STUDY, folds=6), 40)
    assert sorted(np.bincount(parts)) == [6, 6, 7, 7, 7, 7]
    assert np.array_equal(parts, field_parts(replace(STUDY, folds=6, mocks=1), 40))


def test_maps_of_a_field_are_observed_as_the_emulator_folds_them(base):
    """One sky, 30 times with its errors: the mean log power on maps is that of the fast operators within 5 errors.

    The two share neither operators nor pixels; pixels cost up to 3 %.
    """
    settings = load_configuration(base / "emulator.toml", EmulatorConfiguration)
    model, folded = configured_training(settings, base=base)
    rng = np.random.default_rng(4)
    theta = model.field_theta(7, 1, rng=rng)
    theta[:, 3] = -2.8
    rigidity, alm = model.field_skies(7, theta, 10, rng=rng)
    fast = folded.observe(np.repeat(rigidity, 400, axis=0), np.repeat(alm, 400, axis=0), rng=rng)
    slow = np.array(
        [
            replace(
                folded,
                records=observe_records(
                    STUDY.noise_table, folded.records, alm[0], rigidity[0], drawn_errors(folded, rng=rng), rng=rng
                ),
            ).data
            for _ in range(30)
        ]
    )
    n = folded.n_power
    difference = np.log(slow[:, :n]).mean(0) - np.log(fast[:, :n]).mean(0)
    error = np.log(slow[:, :n]).std(0) / np.sqrt(30)
    assert np.all(np.abs(difference) < 0.03 + 5 * error)
    # Dipoles err by 10 % along and across in both.
    length = np.linalg.norm(fast[:, n:].mean(0))
    assert np.linalg.norm(slow[:, n:].mean(0) - fast[:, n:].mean(0)) < 0.03 * length + 5 * 0.1 * length / np.sqrt(
        60
    )
    assert slow[:, n:].std() > 0.05 * length


def test_a_small_study_resumes_and_does_not_use_the_field_of_a_universe(base, monkeypatch):
    seen = []
    train = held_out.train_emulator
    monkeypatch.setattr(
        held_out, "train_emulator", lambda *given, **how: (seen.append(set(given[2])), train(*given, **how))[1]
    )
    table = run_held_out(STUDY, base=base)
    parts = field_parts(STUDY, 40)
    assert [one & set(np.flatnonzero(parts == number)) for number, one in enumerate(seen)] == [set()] * 4
    assert [len(one) for one in seen] == [30] * 4
    assert table.meta["not_converged"] == 0
    for check in held_out.CHECKS:
        assert list(table.meta[check]) == ["universe"]
        assert len(table.meta[check]["universe"]) == 3
        assert all(0 <= p <= 1 for p in table.meta[check]["universe"])
    assert list(table["name"]) == [p.name for p in SimulatedTurbulence().parameters]
    again = run_held_out(replace(STUDY, mocks=2), base=base)
    assert len(seen) == 4
    assert again.meta["predictive_p"]["universe"] == table.meta["predictive_p"]["universe"][:2]


def test_a_truth_that_the_fit_is_not_told_is_found(base):
    """The right ascension of the gradient is that of the sky, not zero as in training: ranks of 3 universes differ."""
    run_held_out(replace(STUDY, mocks=1), base=base)
    outcome = held_out._one_universe(STUDY, base, "universe", 0)
    assert outcome["truth"][6] != 0.0
    assert outcome == held_out._one_universe(STUDY, base, "universe", 0)


def test_more_mocks_than_fields_are_refused(base):
    with pytest.raises(ConfigurationError, match="mocks = 41"):
        run_held_out(replace(STUDY, mocks=41), base=base)
    with pytest.raises(ConfigurationError, match="folds = 1"):
        replace(STUDY, folds=1)


def test_small_scales_that_are_much_too_bright_are_found_by_what_the_dipole_predicts(base):
    """A million times the power at l >= 2 is found in each of two universes; a simulator goes by its folder."""
    design = SimulatedTurbulence().skies
    (base / "the-same").mkdir()
    write_design(base / "the-same" / "design.h5", design.of_fields(np.arange(2)))
    study = replace(STUDY, mocks=2, small_scales=1e6, other=("the-same/design.h5",))
    table = run_held_out(study, base=base)
    found = table.meta["small_scale_p"]
    assert list(found) == ["universe", "the_same", "altered"]
    assert max(found["altered"]) < 0.002
    assert [len(values) for values in found.values()] == [2, 2, 2]
    with pytest.raises(ConfigurationError, match="different names"):
        replace(study, other=("the-same/design.h5", "here/the-same/design.h5"))
