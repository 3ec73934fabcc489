"""Back-tracking on a CUDA device beside one core of the processor: time for each wave of each field sum.

The device's time includes the transfers. No case where there is no device."""

import numpy as np
from case import Case
from obsfit_models.turbulence.gpu import back_track_gpu
from obsfit_models.turbulence.orbits import back_track, ensemble_step
from obsfit_models.turbulence.plane_waves import isotropic_waves
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

from obsfit.errors import ConfigurationError

PARTICLES, DURATION, GYRORADIUS = 2**18, 10.0, 0.1


def fields():
    """Two numbers of waves: one that fits into shared memory at once, and one that does not."""
    rng = np.random.default_rng(1)
    spectrum = TurbulenceSpectrum(wavelength_min=0.063, wavelength_max=100.0)
    for modes in (100, 500):
        yield modes, isotropic_waves(spectrum, modes=modes, rng=rng)


def directions():
    rng = np.random.default_rng(2)
    v = rng.normal(size=(3, PARTICLES))
    return v / np.linalg.norm(v, axis=0)


def agree(ours, usual):
    """Whether states agree: rounding of 1e-16 grows by less than 1e4 in this time."""
    return bool(np.allclose(ours.position, usual.position, rtol=0, atol=1e-10))


def made(modes, field, arrival):
    sums = np.ceil(DURATION / ensemble_step(field, GYRORADIUS))
    settings = {"gyroradius": GYRORADIUS}
    return Case(
        f"back-tracking through {modes} waves on a GPU, one wave",
        lambda: back_track_gpu(field, arrival, [DURATION], **settings),
        lambda: back_track(field, arrival, [DURATION], **settings),
        "the same on one core", count=int(sums) * modes * PARTICLES, repeats=3, agree=agree,
    )  # fmt: skip


def cases():
    arrival = directions()
    try:
        back_track_gpu(next(fields())[1], arrival[:, :1], [0.1], gyroradius=GYRORADIUS)
    except ConfigurationError as error:
        print(f"bench_cuda: skipped: {error.problem}")
        return []
    return [made(modes, field, arrival) for modes, field in fields()]


CASES = cases()
