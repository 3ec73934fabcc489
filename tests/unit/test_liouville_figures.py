"""Figures of back-tracked skies: their numbers against closed forms, plain sums over fields, and themselves."""

from dataclasses import replace
from itertools import permutations

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.table import Table
from obsfit_models.turbulence.displacement import DisplacementEnsemble
from obsfit_models.turbulence.ensemble import TurbulenceSettings, arrival_directions, gather, run_ensemble

import obsfit
from obsfit.plot import runner
from obsfit.plot.report import read_expected

FOLDER = runner.find_analyses()
figure1 = runner.load_program(FOLDER / "ahlers_mertsch_2015/figure1.py")
figure2 = runner.load_program(FOLDER / "ahlers_mertsch_2015/figure2.py")
convergence = runner.load_program(FOLDER / "turbulence/convergence.py")
common = figure2.common
LMAX = 20


def random_alm(rng, power, shape):
    """Gaussian a_lm with given power, (*shape, n_alm)."""
    ell, m = hp.Alm.getlm(power.size - 1)
    white = rng.normal(size=(2, *shape, ell.size))
    size = np.sqrt(power[ell])
    return size * np.where(m == 0, white[0], (white[0] + 1j * white[1]) / np.sqrt(2))


def synthetic(rng, n_field=7, time=(100.0,), noise=0.3):
    """An ensemble whose sky is Gaussian, different for each gradient, with noise of its own in each set."""
    power = 1.0 / np.arange(1, LMAX + 2) ** 2.0
    shape = (n_field, 1, 1, len(time), 6)
    signal = random_alm(rng, power, shape) * np.array([1, 2, 3, 1, 1, 1])[:, None]
    alm = signal + random_alm(rng, np.full(LMAX + 1, noise), (n_field, 2, 1, len(time), 6))
    product = np.einsum("...i,...j->...ij", *2 * [rng.normal(size=(n_field, 2, 1, len(time), 6))])
    return DisplacementEnsemble(alm, product, np.array([0.1]), np.array(time), "time", 3072, np.arange(n_field))


def cl(first, second=None):
    return hp.alm2cl(np.ascontiguousarray(first), None if second is None else np.ascontiguousarray(second))


def test_without_turbulence_both_dipoles_are_gyrations(tmp_path):
    """delta B = 0: C_1 = (4 pi/9) T^2 along and (4 pi/9) 4 sin^2(T/2) across, nothing else, no noise."""
    settings = replace(
        common.FULL, realisations=3, nside=4, lmax=4, turbulence=TurbulenceSettings(0.1, 100.0, rms=0.0),
        times=(0.1, 1.0, 2.5, 6.0), step=0.01,
    )  # fmt: skip
    found = figure1.evolution(gather(settings, run_ensemble(settings, base=tmp_path)))
    closed = {"parallel": found.time**2, "perpendicular": 4 * np.sin(0.5 * found.time) ** 2}
    along = np.mean([arrival_directions(settings, part)[2] ** 2 for part in range(2)])
    share = {"parallel": along, "perpendicular": 0.5 * (1 - along)}
    for way, square in closed.items():
        columns = found.of[way]
        # the leapfrog turns by the exact angle, but flies straight for a step: h^2 / 6 of its square is lost
        np.testing.assert_allclose(columns["C_1"], 4 * np.pi / 9 * square, rtol=2e-5)
        np.testing.assert_allclose(columns["standard"], columns["C_1"], rtol=1e-9)
        np.testing.assert_allclose(columns["mean_square"], share[way] * square, rtol=2e-5)
        # Eq. (71): the solid angle of a direction times 2 T K, with K of the last time
        expected = 4 * np.pi / 12288 * columns["mean_square"][-1] * found.time / found.time[-1]
        np.testing.assert_allclose(columns["noise_71"], expected, rtol=1e-9)
        for ell in (0, 2, 3, 4):
            assert np.all(np.abs(columns[f"C_{ell}"]) < 1e-12 * columns["C_1"])
        assert np.all(np.abs(columns["noise_measured"]) < 1e-12 * columns["C_1"])
    assert figure1.slope(found, "parallel", "C_1", 0.1, 6.0) == pytest.approx(2.0, abs=1e-9)


def test_curves_are_plain_sums_over_fields_and_sets():
    """Means of products of the two sets; the mean sky from all pairs of different fields; noise from the rest."""
    ensemble = synthetic(np.random.default_rng(1), time=(50.0, 100.0))
    found = figure1.evolution(ensemble)
    n = len(ensemble.realisation)
    for i in range(2):
        position = ensemble.alm[:, :, 0, i, :3]
        cross = np.array([[cl(field[0, axis], field[1, axis]) for axis in range(3)] for field in position])
        own = np.array(
            [[0.5 * (cl(field[0, axis]) + cl(field[1, axis])) for axis in range(3)] for field in position]
        )
        mean = position.mean(axis=1)
        pairs = np.array(
            [
                np.mean([cl(mean[a, axis], mean[b, axis])[1] for a, b in permutations(range(n), 2)])
                for axis in range(3)
            ]
        )
        weight = 2 * np.arange(1, LMAX + 1) + 1
        noise = (own - cross)[..., 1:] @ weight / weight.sum()
        for way, pick in (("parallel", [2]), ("perpendicular", [0, 1])):
            columns = found.of[way]
            of_fields = cross[:, pick].mean(axis=1)
            for ell in range(LMAX + 1):
                assert columns[f"C_{ell}"][i] == pytest.approx(of_fields[:, ell].mean(), rel=1e-9, abs=1e-12)
                error = of_fields[:, ell].std(ddof=1) / np.sqrt(n)
                assert columns[f"C_{ell}_error"][i] == pytest.approx(error, rel=1e-9)
            assert columns["standard"][i] == pytest.approx(pairs[pick].mean(), rel=1e-9)
            assert columns["noise_measured"][i] == pytest.approx(noise[:, pick].mean() / 4, rel=1e-9)


def test_ratios_and_errors_of_the_second_figure():
    ensemble = synthetic(np.random.default_rng(2))
    found = figure2.simulated(ensemble)
    fields = np.array([cl(field[0, 0, 0, 2], field[1, 0, 0, 2]) for field in ensemble.alm])
    ratio = fields.mean(axis=0) / fields[:, 1].mean()
    left = np.array([np.delete(fields, i, axis=0).mean(axis=0) for i in range(len(fields))])
    left /= left[:, 1:2]
    error = np.sqrt((len(left) - 1) * left.var(axis=0))
    np.testing.assert_allclose(found["parallel"].ratio, ratio, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["parallel"].error[2:], error[2:], rtol=1e-9)
    level = 4 * np.pi / 12288 * ensemble.product[:, :, 0, 0, 2, 2].mean() / fields[:, 1].mean()
    np.testing.assert_allclose(found["parallel"].paper_error, level * np.sqrt(2 / (2 * np.arange(LMAX + 1) + 1)))
    # 3072 directions here: a quarter of their noise is left in the paper's power before it subtracts
    own = np.array([0.5 * (cl(f[0, 0, 0, 2]) + cl(f[1, 0, 0, 2])) for f in ensemble.alm])
    weight = 2 * np.arange(1, LMAX + 1) + 1
    noise = ((own - fields)[:, 1:] @ weight).mean() / weight.sum() / fields[:, 1].mean()
    np.testing.assert_allclose(found["parallel"].paper_estimate, ratio + noise / 4 - level, rtol=1e-9, atol=1e-12)


def test_a_power_law_goes_on_as_itself():
    ratio = np.r_[0.0, np.arange(1, LMAX + 1) ** -2.5]
    np.testing.assert_allclose(figure2.extended(ratio, 30)[1:], np.arange(1, 31) ** -2.5, rtol=1e-9)


def test_folding_is_the_mean_of_the_operator():
    record = obsfit.load_spectrum("hawc-icecube-2019-by-field", field="icecube").select(1, 30)
    operator = obsfit.operator_for(record)
    matrix, noise = figure2.folding(operator)
    power = 1e-7 * np.random.default_rng(3).uniform(size=operator.lmax + 1)
    mean = operator.expect(figure2.isotropic_sky(operator, power)).mean[0]
    np.testing.assert_allclose(matrix @ power + noise, mean, rtol=1e-9)


def test_the_axis_of_a_sky_points_to_the_local_field_and_turns_about_it():
    vector = np.array(hp.pix2vec(32, np.arange(hp.nside2npix(32))))
    spot = hp.map2alm(np.exp(40 * (vector[2] - 1)), lmax=LMAX)
    ibex = hp.ang2vec(48.5, -21.2, lonlat=True)
    for turn in (0.0, 1.0):
        found = vector[:, np.argmax(hp.alm2map(figure2.oriented(spot, turn), 32))]
        assert found @ ibex > np.cos(np.radians(2.0))
    # what lies along x turns by the angle: two turned skies a right angle apart are orthogonal
    x, y = (hp.map2alm(vector[axis], lmax=2) for axis in (0, 1))
    np.testing.assert_allclose(figure2.oriented(x, 0.5 * np.pi), figure2.oriented(y, 0.0), atol=1e-6)


def test_what_is_seen_of_isotropic_skies_is_what_folding_says():
    """200 Gaussian skies without noise: within five standard errors of one, which are found from the skies."""
    rng = np.random.default_rng(4)
    operator = obsfit.operator_for(obsfit.load_spectrum("hawc-icecube-2019-by-field", field="hawc").select(1, 30))
    parts = [
        figure2.field_of_view(synthetic(rng, n_field=20, noise=0.0), operator)["parallel"][:6] for _ in range(10)
    ]
    mean, error = np.mean(parts, axis=0), np.std(parts, axis=0, ddof=1) / np.sqrt(10)
    # Student's t with 9 degrees of freedom beyond 5, six multipoles: 1 in 200 for one seed, and the seed is fixed.
    assert np.all(np.abs(mean - 1) < 5 * error)
    assert np.all(error < 0.1)


def test_a_ratio_is_that_of_means_and_the_same_fields_know_it_better():
    rng = np.random.default_rng(5)
    reference = rng.lognormal(size=(30, len(convergence.QUANTITIES)))
    ours = reference * 1.2 * rng.lognormal(sigma=0.01, size=reference.shape)
    rows = convergence.compared("step", 2.0, ours, reference, same_fields=True)
    np.testing.assert_allclose(rows["log_ratio"], np.log(ours.mean(axis=0) / reference.mean(axis=0)), atol=1e-12)
    assert np.all(np.abs(rows["log_ratio"] - np.log(1.2)) < 0.02)
    apart = convergence.compared("modes per decade", 6, ours, reference, same_fields=False)
    np.testing.assert_allclose(apart["log_ratio"], rows["log_ratio"], atol=1e-12)
    assert np.all(apart["error"] > 10 * rows["error"])
    np.testing.assert_allclose(rows["scatter"], np.log(ours).std(axis=0, ddof=1), rtol=1e-12)
    own = convergence.compared("step", 1.0, reference, reference, same_fields=True)
    assert np.all(own["log_ratio"] == 0)
    assert np.all(own["error"] == 0)


def test_a_power_that_is_not_positive_has_no_logarithm_but_a_mark():
    values = np.full((4, len(convergence.QUANTITIES)), 1.0)
    values[:, 0] = [-3.0, 1.0, 1.0, 0.5]
    rows = convergence.compared("nside", 4.0, values, np.ones_like(values), same_fields=True)
    assert rows["log_ratio"].mask.tolist() == [True] + [False] * (len(convergence.QUANTITIES) - 1)
    assert rows["positive"][0] == 0.75


def test_groups_of_fields_scatter_as_their_means():
    values = np.arange(1.0, 13.0)[:, None] * np.ones(len(convergence.QUANTITIES))
    rows = convergence.of_groups(4, values)
    means = np.log(np.array([2.5, 6.5, 10.5]) / 6.5)
    np.testing.assert_allclose(rows["scatter"], means.std(ddof=1))
    np.testing.assert_allclose(rows["log_ratio"], means.mean())


@pytest.fixture
def tiny(monkeypatch):
    size = replace(
        convergence.QUICK, reach=12.0, cut=6.0, fields=2, fine=2, many=4, cuts=(3.0, 6.0, 12.0), densities=(12, 25),
        resolutions=(8, 16), groups=(2,),
    )  # fmt: skip
    monkeypatch.setattr(convergence, "QUICK", size)
    monkeypatch.setattr(convergence, "TIME", 10.0)
    return size


def context(tmp_path, key, folder, user_files=None):
    directory = tmp_path / key
    directory.mkdir(parents=True, exist_ok=True)
    expected = FOLDER / folder / "expected.ecsv"
    return runner.Context(
        directory, False, np.random.default_rng(1), 1, read_expected(expected) if expected.exists() else Table(),
        user_files or {},
    )  # fmt: skip


def test_the_study_says_what_it_compared_and_does_nothing_twice(tiny, tmp_path):
    entry = convergence.make(context(tmp_path, convergence.KEY, "turbulence"))
    table = Table.read(tmp_path / convergence.KEY / entry.table)
    assert entry.status == "own result"
    knobs = {knob: set(table["value"][table["knob"] == knob]) for knob in table["knob"]}
    assert knobs == {
        "step": {0.5, 1.0, 2.0}, "k_max r_L": {3.0, 6.0, 12.0}, "nside": {8.0, 16.0},
        "modes per decade": {12.0, 25.0}, "fields": {2.0},
    }  # fmt: skip
    reference = table[(table["knob"] == "k_max r_L") & (table["value"] == 6.0)]
    assert np.all(reference["log_ratio"] == 0)
    shorter = table[(table["knob"] == "step") & (table["value"] == 0.5)]
    dipole = shorter[shorter["quantity"] == "C_1 parallel"]
    # at Omega T = 10 orbits are still alike
    assert 0 < abs(dipole["log_ratio"][0]) < 0.05
    tasks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("ensembles/*/*/tasks/*")}
    # steps and cuts share the reference; other fields are more of the same; two more resolutions and densities
    assert len({path.parent.parent for path in tasks}) == 1 + 2 + 2 + 1 + 1
    convergence.make(context(tmp_path, convergence.KEY, "turbulence"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("ensembles/*/*/tasks/*")} == tasks


def test_both_figures_come_from_one_stored_ensemble(monkeypatch, tmp_path):
    """Three fields: the free flight at short times is exact, whatever the fields; the rest is drawn and said."""
    file = tmp_path / "mine.ecsv"
    file.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ell, datatype: int64}\n# - {name: c_ell, datatype: float64}\n"
        "# meta: {kind: pseudo, filtered: true, energy: 2 TeV, dec_min: -26 deg, dec_max: 64 deg}\n"
        "# schema: astropy-2.0\nell c_ell\n"
        + "".join(f"{ell} {1e-6 * ell**-3.0 + 1e-10}\n" for ell in range(1, 21))
    )
    for module in (figure1, figure2):
        monkeypatch.setattr(module.common, "QUICK", {"realisations": 3, "nside": 8, "lmax": 16})
    first = figure1.make(context(tmp_path, figure1.KEY, "ahlers_mertsch_2015"))
    tasks = sorted(tmp_path.glob("ensembles/*/tasks/*"))
    assert len(tasks) == 6
    second = figure2.make(context(tmp_path, figure2.KEY, "ahlers_mertsch_2015", {"hawc-2014": file}))
    assert sorted(tmp_path.glob("ensembles/*/tasks/*")) == tasks
    early = [c for c in first.comparisons if "Omega T = 0.1" in c.quantity]
    assert len(early) == 4
    assert all(c.agrees for c in early)
    assert all(c.ours is not None for c in (*first.comparisons, *second.comparisons))
    assert second.status == "needs file"
    assert any("OBSFIT_ICECUBE_2013_SPECTRUM" in text for text in second.deviations)
    assert not any("OBSFIT_HAWC_2014_SPECTRUM" in text for text in second.deviations)
    for entry in (first, second):
        folder = tmp_path / entry.key
        assert (folder / entry.image).read_bytes().startswith(b"\x89PNG")
        assert (folder / entry.svg).is_file()
        assert "3 fields, 2 x 768 directions" in entry.size_note
    table = Table.read(tmp_path / first.key / first.table)
    assert len(table) == 2 * len(common.TIMES)
    along = table[table["gradient"] == "parallel"]
    # the sum of all power is the mean square: what l <= 16 hold is at most that, and nearly all of it early on
    held = sum((2 * ell + 1) * along[f"C_{ell}"] for ell in range(17)) / (4 * np.pi)
    share = held / along["mean_square"]
    # 768 directions at random in their pixels do not average z^2 to one third: the first time takes that out
    np.testing.assert_allclose(share[1:8] / share[0], 1.0, rtol=2e-3)
    assert 0.3 < share[-1] < 1.0
    folded = Table.read(tmp_path / second.key / second.table)
    mine = folded[folded["measurement"] == "mine"]
    # the power of one l over the dipole, seen through the window, is between the curves for p = 1/3 and 2/3 or near
    assert np.all(mine["folded_parallel"][:4] > 0)
    assert mine["power"][0] / mine["power"][1] == pytest.approx((1e-6 + 1e-10) / (1e-6 / 8 + 1e-10), rel=1e-9)


def test_the_local_field_of_ibex_is_where_am17_says():
    """l = 210.5, b = -57.1 degrees of AM17, section 3.3, through astropy."""
    from astropy.coordinates import SkyCoord

    place = SkyCoord(210.5 * u.deg, -57.1 * u.deg, frame="galactic").icrs
    assert np.degrees(figure2.FIELD_RA) == pytest.approx(place.ra.deg, abs=0.1)
    assert np.degrees(figure2.FIELD_DEC) == pytest.approx(place.dec.deg, abs=0.1)
