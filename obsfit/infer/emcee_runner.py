"""Running emcee: vectorised, stored, resumable bit for bit, stopped by the autocorrelation time."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import emcee
import h5py
import numpy as np
from numpy.random import MT19937, RandomState, SeedSequence
from tqdm import tqdm

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ConvergenceError, ObsfitError
from obsfit.infer.circles import Circle, Plane, circles_of
from obsfit.infer.diagnostics import autocorrelation_time
from obsfit.infer.optimum import ball, maximum_posterior
from obsfit.infer.result import FORMAT, FORMAT_VERSION, FitResult
from obsfit.infer.run_store import Rewriting, looks, stored_run, to_resume, write_head
from obsfit.infer.target import Target, checksums_of, description_of
from obsfit.parameters import FloatArray
from obsfit.provenance import atomic_write, stamp

logger = logging.getLogger(__name__)

MOVES = "differential evolution"
"""What is stored of the moves of walkers: a chain of others is not continued."""


@dataclass(frozen=True)
class SamplerSettings:
    """How long to sample.

    Attributes
    ----------
    walkers : int
        Number of walkers; 0 means 32, or four for each parameter if that is more.
    target : float
        Steps after burn-in, in units of the longest autocorrelation time, at which to stop.
    max_steps : int
        Steps at which to give up.
    block : int
        Steps between two looks at convergence; a run can be resumed at the end of a block.
    """

    __pydantic_config__ = FORBID

    walkers: int = 0
    target: float = 50.0
    max_steps: int = 100_000
    block: int = 250

    def __post_init__(self) -> None:
        for name in ("target", "max_steps", "block"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"sampler.{name} = {getattr(self, name)}", expected="a number above 0")
        if self.walkers < 0:
            raise ConfigurationError(f"sampler.walkers = {self.walkers}", expected="0 (automatic) or more")


@dataclass
class _Run:
    """State of a run between two blocks: all that resuming needs. Positions are those of `Plane`."""

    position: FloatArray
    position_log_prob: FloatArray
    chain: list[FloatArray]
    log_prob: list[FloatArray]
    accepted: int
    random_state: Any
    maximum: FloatArray

    @property
    def steps(self) -> int:
        return sum(len(block) for block in self.chain)


def run_emcee(
    posterior: Target,
    *,
    rng: np.random.Generator,
    settings: SamplerSettings | None = None,
    store: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    seed: int | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> FitResult:
    """Return converged samples of a posterior.

    Walkers start in a ball around the maximum of the posterior. Sampling goes on until the steps after burn-in
    (five autocorrelation times) exceed `settings.target` autocorrelation times, and the estimate of that time has
    settled within 10 per cent. Walkers move by differences of others (ter Braak 2006, Stat. Comput. 16, 239), one step
    in ten by a whole difference, which leads from one maximum to another. The snooker move of emcee is not used: up to
    version 3.1.6 its acceptance is wrong, and a share of 0.2 of it makes variances 5 per cent too small in 3 dimensions
    and 15 per cent in 14.

    Walkers see a circular parameter as a plane (`obsfit.infer.circles`), which is cut nowhere. The result holds the
    parameter; its autocorrelation time is the longer of those of its cosine and sine.

    Parameters
    ----------
    posterior : Target
        For example `obsfit.Posterior`; evaluated on all walkers at once.
    rng : numpy.random.Generator
        Source of all draws; unused when resuming.
    settings : SamplerSettings, optional
        Walkers, target, limits.
    store : path, optional
        HDF5 file that is rewritten atomically while the run goes on. A run that was killed continues from it with
        ``resume=True`` to the very same chain that it would have given.
    resume : bool
        Continue from `store` if it exists; its posterior and configuration must be the same.
    overwrite : bool
        Replace an existing `store` instead of refusing.
    progress : bool
        Show a progress bar on stderr.
    seed : int, optional
        Seed from which `rng` was made, for the record only.
    configuration : mapping, optional
        Resolved configuration, stored in the result.

    Raises
    ------
    ConvergenceError
        After `settings.max_steps`; the message carries steps and autocorrelation times. The store keeps the chain.
    ConfigurationError
        If the store exists and neither resume nor overwrite is given, or belongs to another posterior.
    """
    settings = settings or SamplerSettings()
    n_par, names = len(posterior.parameters), tuple(p.name for p in posterior.parameters)
    circles = circles_of(posterior.parameters)
    plane = Plane(circles)
    walkers = settings.walkers or max(32, 4 * plane.size)
    walkers += walkers % 2
    path = None if store is None else Path(store)
    identity = _identity(posterior, settings, walkers, configuration)
    provenance = {
        **stamp(FORMAT, format_version=FORMAT_VERSION, seed=seed, data=checksums_of(posterior)),
        **identity,
    }
    stored = to_resume(path, resume=resume, overwrite=overwrite)
    run = _start(posterior, plane, walkers, rng) if stored is None else _load(stored, identity)
    if isinstance(run, FitResult):
        return run
    sampler = emcee.EnsembleSampler(
        walkers, plane.size, plane.log_prob(posterior.log_prob), vectorize=True,
        moves=[(emcee.moves.DEMove(), 0.9), (emcee.moves.DEMove(gamma0=1.0), 0.1)],
    )  # fmt: skip
    judged = looks(settings.max_steps, settings.block, growth=1.2)
    burn_in, tau, converged = 0, np.full(n_par, np.nan), False
    save = partial(_save, path, run, provenance)
    rewriting = Rewriting(save)
    bar = tqdm(total=max(judged), initial=run.steps, unit="step", disable=not progress, leave=False)
    try:
        while not converged and run.steps < max(judged):
            _advance(sampler, run, settings.block)
            bar.update(settings.block)
            if run.steps in judged:
                burn_in, tau, converged = _judge(run, settings, circles)
                logger.info("%d steps, longest autocorrelation time %.0f", run.steps, tau.max())
            rewriting.if_due()
    finally:
        bar.close()
        save()
    if not converged:
        if run.chain and np.isnan(tau).all():
            burn_in, tau, _ = _judge(run, settings, circles)
        raise ConvergenceError(
            f"not converged after {run.steps} steps of {walkers} walkers: longest autocorrelation time "
            f"{tau.max():.0f} steps ({names[int(tau.argmax())]}), {(run.steps - burn_in) / tau.max():.1f} "
            f"of them sampled",
            expected=f"{settings.target:.0f} autocorrelation times with an estimate settled within 10 per cent",
            remedy=f"Raise max_steps to about {int(1.5 * (settings.target + 5) * tau.max())}, or look for a "
            "degenerate or multimodal posterior.",
        )
    walked = np.concatenate(run.chain)
    chain, log_prob = plane.to_theta(walked), np.concatenate(run.log_prob) - plane.log_radius(walked)
    result = FitResult(
        names, tuple(p.label for p in posterior.parameters), tuple(p.unit for p in posterior.parameters),
        chain, log_prob, burn_in, tau, run.accepted / (len(chain) * walkers), run.maximum, provenance,
    )  # fmt: skip
    if path is not None:
        result.save(path, overwrite=True)
    return result


def _start(posterior: Target, plane: Plane, walkers: int, rng: np.random.Generator) -> _Run:
    """A run that has not taken a step."""
    maximum, _ = maximum_posterior(posterior, rng=rng)
    start = plane.from_theta(ball(posterior, maximum, walkers, rng=rng), rng=rng)
    bits = RandomState(MT19937(SeedSequence(rng.integers(2**32, size=4).tolist())))
    return _Run(start, plane.log_prob(posterior.log_prob)(start), [], [], 0, bits.get_state(legacy=True), maximum)


def _advance(sampler: emcee.EnsembleSampler, run: _Run, steps: int) -> None:
    """Sample one block from where the run stands."""
    state = emcee.State(run.position, log_prob=run.position_log_prob, random_state=run.random_state)
    sampler.reset()
    # emcee ignores a random state that it cannot use; make sure that this one is in force.
    sampler.random_state = run.random_state
    if not np.array_equal(sampler.random_state[1], run.random_state[1]):
        raise ObsfitError("emcee did not take the stored random state; the run cannot be continued exactly")
    sampler.run_mcmc(state, steps)
    run.chain.append(sampler.get_chain())
    run.log_prob.append(sampler.get_log_prob())
    run.position, run.position_log_prob = run.chain[-1][-1], run.log_prob[-1][-1]
    run.accepted += int(sampler.backend.accepted.sum())
    run.random_state = sampler.random_state


def _judge(
    run: _Run, settings: SamplerSettings, circles: tuple[Circle | None, ...]
) -> tuple[int, FloatArray, bool]:
    """Burn-in, autocorrelation time, and whether both suffice."""
    chain = Plane(circles).to_theta(np.concatenate(run.chain))
    shorter = chain[: int(len(chain) / 1.2)]
    now, then = (autocorrelation_time(part[len(part) // 4 :], circles) for part in (chain, shorter))
    burn_in = min(math.ceil(5.0 * now.max()), len(chain) // 2)
    settled = bool(np.all(np.abs(now - then) < 0.1 * now))
    return burn_in, now, settled and len(chain) - burn_in >= settings.target * now.max()


def _identity(
    posterior: Target, settings: SamplerSettings, walkers: int, configuration: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What must be the same for a run to be continued."""
    return {
        **description_of(posterior),
        "moves": MOVES,
        "walkers": walkers,
        "block": settings.block,
        "configuration": dict(configuration or {}),
    }


def _save(path: Path | None, run: _Run, provenance: Mapping[str, Any]) -> None:
    if path is None or not run.chain:
        return
    name, keys, position, has_gauss, cached = run.random_state
    with atomic_write(path, overwrite=True) as partial, h5py.File(partial, "w") as file:
        write_head(file, FORMAT, FORMAT_VERSION, provenance)
        file.attrs["accepted"] = run.accepted
        file.attrs["random_generator"], file.attrs["random_cached"] = name, cached
        file.attrs["random_position"], file.attrs["random_has_gauss"] = position, has_gauss
        file["random_keys"], file["maximum"] = keys, run.maximum
        file["chain"], file["log_prob"] = np.concatenate(run.chain), np.concatenate(run.log_prob)


def _load(path: Path, identity: Mapping[str, Any]) -> _Run | FitResult:
    """The interrupted run in `path`, or its result if it had finished."""
    with stored_run(path, FORMAT, identity, what="fit") as file:
        if "random_keys" not in file:
            return FitResult.load(path)
        state = (
            str(file.attrs["random_generator"]), file["random_keys"][:],
            int(file.attrs["random_position"]), int(file.attrs["random_has_gauss"]),
            float(file.attrs["random_cached"]),
        )  # fmt: skip
        accepted = int(file.attrs["accepted"])
        chain, log_prob = file["chain"][:], file["log_prob"][:]
        return _Run(chain[-1], log_prob[-1], [chain], [log_prob], accepted, state, file["maximum"][:])
