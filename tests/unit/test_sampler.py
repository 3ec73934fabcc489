"""The emcee runner: right posterior, exact resumption after a kill, honest failure to converge."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import stats

from obsfit.errors import ConfigurationError, ConvergenceError, DataFormatError, ObsfitError
from obsfit.infer import DipoleScatter, DipoleTerm, FitResult, Likelihood, Posterior, SamplerSettings, run_emcee
from obsfit.infer.diagnostics import autocorrelation_time
from obsfit.infer.optimum import ball, maximum_posterior
from obsfit.parameters import Parameter
from obsfit.records import DipoleMeasurements, Provenance


class FreeDipole:
    """The equatorial dipole itself, in units of 1e-4: with normal errors its posterior is a known normal."""

    name = "free-dipole"
    parameters = (
        Parameter("x", stats.norm(0, 50), "1e-4"),
        Parameter("y", stats.uniform(-100, 200), "1e-4"),
    )

    def dipole(self, theta, rigidity_tv):
        vector = np.stack([theta[:, 0], theta[:, 1], 0 * theta[:, 0]], -1) * 1e-4
        return np.repeat(vector[:, None], rigidity_tv.size, axis=1)


def record():
    one = np.ones(3)
    return DipoleMeasurements(
        ("a", "b", "c"), ("A", "B", "C"), ("deprojected",) * 3, np.array([1.0, 2.0, 3.0]),
        np.array([8.0, 9.0, 6.0]) * 1e-4, np.array([0.5, 1.0, 0.8]) * 1e-4, np.array([0.6, 0.8, 0.7]),
        np.array([0.1, 0.05, 0.2]), np.nan * one, np.nan * one, np.nan * one, np.nan * one, np.nan * one,
        np.ones(3, bool), Provenance("toy", sha256="0" * 64),
    )  # fmt: skip


def posterior():
    return Posterior(FreeDipole(), Likelihood(DipoleTerm(record(), DipoleScatter.none())))


def exact():
    """Mean and covariance of the posterior by weighted least squares with the normal prior on x."""
    components, covariance = record().components()
    precision = sum(np.linalg.inv(c) for c in covariance) + np.diag([1 / (50e-4) ** 2, 0.0])
    pull = sum(np.linalg.inv(c) @ d for c, d in zip(covariance, components, strict=True))
    return np.linalg.solve(precision, pull) * 1e4, np.linalg.inv(precision) * 1e8


def test_posterior_of_a_normal_problem():
    """About 1600 independent samples or more: mean within 5 standard errors, spread within 10 per cent."""
    fit = run_emcee(posterior(), rng=np.random.default_rng(1))
    mean, covariance = exact()
    samples = fit.samples()
    independent = fit.effective_steps * fit.chain.shape[1]
    assert fit.effective_steps >= 50
    assert np.all(np.abs(samples.mean(0) - mean) < 5 * np.sqrt(np.diag(covariance) / independent))
    np.testing.assert_allclose(np.cov(samples.T), covariance, rtol=0.12, atol=0.05)
    table = fit.summary()
    assert list(table["name"]) == ["x", "y"]
    assert np.all(table["r_hat"] < 1.02)
    assert np.all((table["p16"] < table["median"]) & (table["median"] < table["p84"]))


def test_maximum_is_that_of_the_normal():
    best, _ = maximum_posterior(posterior(), rng=np.random.default_rng(2))
    np.testing.assert_allclose(best, exact()[0], atol=1e-3)


def test_the_ball_has_the_size_of_the_posterior():
    start = ball(posterior(), exact()[0], 400, rng=np.random.default_rng(3))
    ratio = start.std(0) / np.sqrt(np.diag(exact()[1]))
    assert np.all((ratio > 0.05) & (ratio < 1.5))


def test_same_generator_same_chain():
    settings = SamplerSettings(max_steps=10_000)
    one, two = (run_emcee(posterior(), rng=np.random.default_rng(4), settings=settings) for _ in range(2))
    np.testing.assert_array_equal(one.chain, two.chain)


def test_blocks_are_one_stream():
    """The chain does not depend on where it is cut: no block draws the same numbers again."""
    long, short = (
        run_emcee(
            posterior(), rng=np.random.default_rng(11), settings=SamplerSettings(block=block, target=100.0)
        ).chain
        for block in (500, 100)
    )
    steps = min(len(long), len(short))
    assert steps >= 500
    np.testing.assert_array_equal(long[:steps], short[:steps])


def test_resumed_run_is_bit_identical(tmp_path):
    """Interrupt inside the likelihood after 900 evaluations, resume, and compare with an undisturbed run."""
    whole = run_emcee(posterior(), rng=np.random.default_rng(5), store=tmp_path / "whole.h5")
    fragile = posterior()
    counted, original = [0], fragile.log_prob

    def interrupt(theta):
        counted[0] += 1
        if counted[0] > 900:
            raise KeyboardInterrupt
        return original(theta)

    fragile.log_prob = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_emcee(fragile, rng=np.random.default_rng(5), store=tmp_path / "part.h5")
    with h5py.File(tmp_path / "part.h5") as file:
        assert 0 < len(file["chain"]) < len(whole.chain)
    resumed = run_emcee(posterior(), rng=np.random.default_rng(99), store=tmp_path / "part.h5", resume=True)
    np.testing.assert_array_equal(resumed.chain, whole.chain)
    np.testing.assert_array_equal(resumed.log_prob, whole.log_prob)
    assert resumed.acceptance == whole.acceptance
    again = run_emcee(posterior(), rng=np.random.default_rng(0), store=tmp_path / "part.h5", resume=True)
    np.testing.assert_array_equal(again.chain, whole.chain)


SLOW = """
import sys, time
import numpy as np
sys.path.insert(0, {folder!r})
import {module} as t
posterior = t.posterior()
fast = posterior.log_prob
def slow(theta):
    time.sleep(0.004)
    return fast(theta)
posterior.log_prob = slow
t.run_emcee(posterior, rng=np.random.default_rng(6), store={store!r}, settings=t.SamplerSettings(block=50))
"""


def test_killed_run_continues_to_the_same_chain(tmp_path):
    """kill -9 a process in mid-run; the store is whole, and resuming gives the undisturbed chain."""
    settings = SamplerSettings(block=50)
    whole = run_emcee(posterior(), rng=np.random.default_rng(6), settings=settings)
    store = tmp_path / "killed.h5"
    folder, module = str(Path(__file__).parent), Path(__file__).stem
    code = SLOW.format(folder=folder, module=module, store=str(store))
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not store.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with h5py.File(store) as file:
        assert 0 < len(file["chain"]) < len(whole.chain)
    resumed = run_emcee(posterior(), rng=np.random.default_rng(0), settings=settings, store=store, resume=True)
    np.testing.assert_array_equal(resumed.chain, whole.chain)


def test_not_converged_is_an_error_with_its_numbers(tmp_path):
    settings = SamplerSettings(max_steps=500, target=1000.0)
    with pytest.raises(ConvergenceError, match=r"after 500 steps .* autocorrelation time \d+ steps \([xy]\)"):
        run_emcee(posterior(), rng=np.random.default_rng(7), settings=settings, store=tmp_path / "short.h5")
    assert (tmp_path / "short.h5").exists()


def test_an_existing_store_is_refused_and_another_fit_not_continued(tmp_path):
    run_emcee(posterior(), rng=np.random.default_rng(8), store=tmp_path / "fit.h5")
    with pytest.raises(ConfigurationError, match="store exists"):
        run_emcee(posterior(), rng=np.random.default_rng(8), store=tmp_path / "fit.h5")
    other = Posterior(FreeDipole(), posterior().likelihood, priors={"x": stats.norm(0, 20)})
    with pytest.raises(ConfigurationError, match="differs in parameters"):
        run_emcee(other, rng=np.random.default_rng(8), store=tmp_path / "fit.h5", resume=True)


def test_result_survives_storage(tmp_path):
    fit = run_emcee(posterior(), rng=np.random.default_rng(9), store=tmp_path / "fit.h5", seed=9)
    stored = FitResult.load(tmp_path / "fit.h5")
    np.testing.assert_array_equal(stored.chain, fit.chain)
    assert stored.names == fit.names
    assert stored.provenance["seed"] == 9
    assert stored.provenance["data_sha256"] == {"toy": "0" * 64}
    assert stored.provenance["versions"]["emcee"]
    (tmp_path / "noise.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(DataFormatError, match="cannot be read"):
        FitResult.load(tmp_path / "noise.h5")


def test_a_model_that_returns_nan_stops_the_run():
    class Broken(FreeDipole):
        def dipole(self, theta, rigidity_tv):
            return np.full((len(theta), rigidity_tv.size, 3), np.nan)

    with pytest.raises(ObsfitError, match="not a number at x="):
        Posterior(Broken(), posterior().likelihood).log_prob(np.zeros((1, 2)))


def test_unknown_prior_is_named():
    with pytest.raises(ConfigurationError, match="unknown parameter 'xx'; did you mean 'x'"):
        Posterior(FreeDipole(), posterior().likelihood, priors={"xx": stats.norm()})


def test_a_walker_that_never_moved_is_no_convergence():
    """The estimate of emcee is not a number there; ours says that the chain is one time long."""
    chain = np.random.default_rng(10).normal(size=(300, 6, 2))
    assert autocorrelation_time(chain).max() < 5
    chain[:, 3] = 1.0
    np.testing.assert_array_equal(autocorrelation_time(chain), [300.0, 300.0])
