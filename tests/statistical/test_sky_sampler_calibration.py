"""The sampler against its own joint distribution (Geweke 2004), and against skies on pixels with known truth.

Every test has a fixed seed; false-alarm probabilities are stated for a random one.
"""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from scipy import stats

from obsfit.infer.observed_harmonics import NoiseProfile, ObservedHarmonics, map_harmonics
from obsfit.infer.sky_sampler import SkyPrior, SkySamplerSettings, SkySystem, draw_prior, sample_sky, sweep
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap

PRIOR = SkyPrior(0.1, 10.0, index=0.5, amplitude_scatter=0.2, noise_scatter=0.4)


def observatory(name, rng, lmax):
    response, noise = {}, {}
    for m in range(1 if name == "one" else 0, lmax + 1):
        size = lmax + 1 - max(m, 1)
        response[m] = rng.normal(size=(size, lmax + 1))
        factor = 0.4 * rng.normal(size=(size, size))
        noise[m] = factor @ factor.T + 0.4 * np.eye(size)
    return ObservedHarmonics(name, response, {m: np.zeros(len(r)) + 0j for m, r in response.items()}, noise)


def quantities(state):
    """Numbers whose distribution under the prior is known by drawing from it."""
    a = state.root * state.unit
    return np.array(
        [
            np.log(state.c_ell[1]), np.log(state.c_ell[2]), np.log(state.c_ell[1]) * np.log(state.c_ell[2]),
            state.amplitude[1], state.amplitude[1] ** 2, np.log(state.noise_scale[0]),
            np.log(state.noise_scale[1]), np.log(state.noise_scale[0]) ** 2,
            np.abs(state.unit[1, 1]) ** 2, np.abs(state.unit[1, 2]) ** 2, state.unit[0, 1].real ** 2,
            a[1, 1].real, a[2, 2].imag, np.log(np.abs(a[1, 1]) ** 2), (a[1, 1] * np.conj(a[1, 2])).real,
        ]
    )  # fmt: skip


def test_geweke():
    """Sweeps alternating with new data keep the prior.

    15 means, each within 4 standard errors: false alarm 1e-3.
    """
    rng = np.random.default_rng(1)
    lmax, rounds = 2, 8000
    telescopes = [observatory(name, rng, lmax) for name in ("one", "two")]
    empty = SkySystem.of(telescopes, PRIOR)
    straight = np.array([quantities(draw_prior(empty, rng=rng)) for _ in range(20_000)])
    state, found = draw_prior(empty, rng=rng), []
    for _ in range(rounds):
        data = [
            one.draw(state.alm(), rng=rng, amplitude=g, noise_scale=s)
            for one, g, s in zip(telescopes, state.amplitude, state.noise_scale, strict=True)
        ]
        state = sweep(SkySystem.of(data, PRIOR), state, rng=rng)
        found.append(quantities(state))
    found = np.array(found)
    blocks = found.reshape(40, -1, found.shape[1]).mean(axis=1)
    error = np.hypot(blocks.std(axis=0, ddof=1) / np.sqrt(40), straight.std(axis=0) / np.sqrt(len(straight)))
    z = (found.mean(axis=0) - straight.mean(axis=0)) / error
    assert np.max(np.abs(z)) < 4.0, z.round(1)


# --- skies on pixels: made by healpy, cut by the declination of pixels, ring means subtracted here ----------------

NSIDE, LMAX = 16, 4
BANDS = {"north": (-15.0, 65.0), "south": (-90.0, -25.0)}
NOISE = 0.3


def seen(alm, band, amplitude, noise_scale, rng):
    """A noisy map of a band without its ring means, NaN outside."""
    theta = hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))[0]
    sigma = np.sqrt(noise_scale * NOISE * (1.0 + np.cos(theta) ** 2) / (4.0 * np.pi / theta.size))
    values = amplitude * hp.alm2map(alm, NSIDE) + sigma * rng.standard_normal(theta.size)
    _, ring = np.unique(np.round(theta, 9), return_inverse=True)
    values -= (np.bincount(ring, weights=values) / np.bincount(ring))[ring]
    dec = 90.0 - np.degrees(theta)
    return SkyMap(np.where((dec >= band[0]) & (dec <= band[1]), values, np.nan), Provenance("mock"))


def universe(rng):
    """True power, a_lm and nuisances, drawn by other code than the sampler's."""
    quantile = rng.random(LMAX)
    c_ell = np.concatenate([[0.0], (0.1**0.5 + quantile * (10.0**0.5 - 0.1**0.5)) ** 2])
    ell, m = hp.Alm.getlm(LMAX)
    alm = np.sqrt(c_ell[ell] / 2.0) * (rng.normal(size=ell.size) + 1j * rng.normal(size=ell.size))
    alm[m == 0] = np.sqrt(2.0) * alm[m == 0].real
    amplitude = stats.truncnorm(-5.0, 8.0, loc=1.0, scale=0.2).rvs(random_state=rng)
    scale = stats.invgamma(2.0 + 0.4**-2, scale=1.0 + 0.4**-2).rvs(2, random_state=rng)
    maps = [seen(alm, band, g, s, rng) for band, g, s in zip(BANDS.values(), (1.0, amplitude), scale, strict=True)]
    return c_ell, alm, amplitude, scale, maps


def harmonics(maps):
    dec = np.radians(np.linspace(-90.0, 90.0, 721))
    profile = NoiseProfile(dec, NOISE * (1.0 + np.sin(dec) ** 2))
    return [
        map_harmonics(sky, name=name, dec_min=low * u.deg, dec_max=high * u.deg, noise=profile, lmax=LMAX)
        for sky, (name, (low, high)) in zip(maps, BANDS.items(), strict=True)
    ]


def truths(c_ell, alm, amplitude, scale):
    """Names and values that are ranked, for one vector or many (leading axes)."""
    ell, m = hp.Alm.getlm(LMAX)
    names, columns = [], []
    for one in range(1, LMAX + 1):
        names.append(f"C_{one}")
        columns.append(c_ell[..., one])
    for index in np.flatnonzero(ell > 0):
        names.append(f"Re a_{ell[index]}{m[index]}")
        columns.append(alm[..., index].real)
        if m[index]:
            names.append(f"Im a_{ell[index]}{m[index]}")
            columns.append(alm[..., index].imag)
    names += ["g", "s north", "s south"]
    columns += [amplitude, scale[..., 0], scale[..., 1]]
    return names, np.stack(columns, axis=-1)


@pytest.fixture(scope="module")
def ranks():
    """Ranks of the truth among 99 samples for 100 universes, shape (100, 31)."""
    found = []
    for number in range(100):
        rng = np.random.default_rng([2, number])
        c_ell, alm, amplitude, scale, maps = universe(rng)
        system = SkySystem.of(harmonics(maps), PRIOR)
        state = draw_prior(system, rng=rng)
        kept = []
        for turn in range(60 + 99 * 8):
            state = sweep(system, state, rng=rng)
            if turn >= 60 and (turn - 60) % 8 == 0:
                kept.append(state)
        names, true = truths(c_ell, alm, np.array(amplitude), scale)
        _, drawn = truths(
            np.array([s.c_ell for s in kept]), np.array([s.alm() for s in kept]),
            np.array([s.amplitude[1] for s in kept]), np.array([s.noise_scale for s in kept]),
        )  # fmt: skip
        found.append(np.sum(drawn < true, axis=0))
    return names, np.array(found)


def test_truths_rank_evenly_among_samples(ranks):
    """Kolmogorov-Smirnov for each of 31 numbers, p above 1e-4: false alarm 3e-3."""
    names, found = ranks
    assert len(names) == 31
    rng = np.random.default_rng(3)
    spread = (found + rng.random(found.shape)) / 100.0
    p = {name: stats.kstest(spread[:, j], "uniform").pvalue for j, name in enumerate(names)}
    assert min(p.values()) > 1e-4, sorted(p.items(), key=lambda item: item[1])[:5]


def test_intervals_cover(ranks):
    """68 and 95 % intervals of all C_l: 400 truths, within 3.9 binomial errors. False alarm 2e-4.

    Multipoles of one universe are taken as independent: given the prior, their ranks are nearly so.
    """
    names, found = ranks
    powers = found[:, [name.startswith("C_") for name in names]]
    for level in (0.68, 0.95):
        low, high = 50.0 * (1.0 - level), 50.0 * (1.0 + level)
        inside = np.mean((powers >= low) & (powers < high))
        assert abs(inside - level) < 3.9 * np.sqrt(level * (1.0 - level) / powers.size), (level, inside)


def test_nothing_is_learnt_of_the_a_l0():
    """a_l0 / sqrt(C_l) stays a unit normal number, independent of all else that was found.

    Four Kolmogorov-Smirnov tests and four correlations, p above 1e-4: false alarm 8e-4.
    """
    _, _, _, _, maps = universe(np.random.default_rng(4))
    found = sample_sky(
        harmonics(maps), rng=np.random.default_rng(5), prior=PRIOR,
        settings=SkySamplerSettings(report=0, target=800.0, thin=10, burn_in=100),
    )  # fmt: skip
    ring = found.alm[..., : LMAX + 1].reshape(-1, LMAX + 1)
    assert np.all(ring.imag == 0.0)
    c_ell = found.c_ell.reshape(-1, LMAX + 1)
    # a_11 is measured well: an a_l0 that knew of it would correlate.
    a11 = found.alm[..., LMAX + 1].reshape(-1).real
    for ell in range(1, LMAX + 1):
        unit = ring[:, ell].real / np.sqrt(c_ell[:, ell])
        assert stats.kstest(unit, "norm").pvalue > 1e-4
        assert stats.pearsonr(unit, a11).pvalue > 1e-4
