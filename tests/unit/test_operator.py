"""Composition of operators, operators found by trying a chain, and maps as the summary."""

from dataclasses import replace

import astropy.units as u
import healpy as hp
import numpy as np
import pytest

from obsfit.errors import ObsfitError
from obsfit.operators import Components, EnergyResponse, ObservationOperator, Pixels, Power
from obsfit.records import TrueSky
from obsfit.sky.coupling import band_coupling

PIXELS = Pixels.healpix(1)


def random_operator(rng, n_obs, l_out, l_in, summary=PIXELS, *, first=0, energy=None):
    """Any response and any noise; entries with l below m vanish, as those of a_lm do."""
    response, noise = {}, {}
    for m in range(first, min(l_out, l_in) + 1):
        response[m] = np.zeros((n_obs, l_out + 1, l_in + 1))
        response[m][:, m:, m:] = rng.normal(size=(n_obs, l_out + 1 - m, l_in + 1 - m))
        root = np.zeros((n_obs, l_out + 1, l_out + 1))
        root[:, m:, m:] = rng.normal(size=(n_obs, l_out + 1 - m, l_out + 1 - m))
        noise[m] = root @ np.swapaxes(root, 1, 2)
    energy = EnergyResponse.delta(np.arange(1.0, n_obs + 1)) if energy is None else energy
    return ObservationOperator(response, noise, energy, summary)


def random_alm(rng, n, lmax):
    alm = rng.normal(size=(n, (lmax + 1) * (lmax + 2) // 2)) + 0j
    alm[:, lmax + 1 :] += 1j * rng.normal(size=alm[:, lmax + 1 :].shape)
    return alm


def as_alm(operator, alm):
    """What an operator without energies makes of a_lm (n_obs, n_alm): its own matrices, applied one by one."""
    l_out = next(iter(operator.response.values())).shape[1] - 1
    l_in = operator.lmax
    out = np.zeros((len(alm), (l_out + 1) * (l_out + 2) // 2), complex)
    for m, response in operator.response.items():
        for ell in range(m, l_out + 1):
            for k in range(m, l_in + 1):
                size = response.shape[0]
                for o in range(len(alm)):
                    value = response[o % size, ell, k] * alm[o, hp.Alm.getidx(l_in, k, m)]
                    out[o, hp.Alm.getidx(l_out, ell, m)] += value
    return out


def test_composition_is_one_operator_after_the_other():
    """Maps of the composed operator are the maps of both steps done by hand."""
    rng = np.random.default_rng(1)
    inner, outer = random_operator(rng, 2, 4, 5), random_operator(rng, 2, 3, 4)
    both = outer.compose(inner)
    alm = random_alm(rng, 2, 5)
    twice = as_alm(outer, as_alm(inner, alm))
    expected = np.concatenate([hp.alm2map(a, 1, lmax=3, pixwin=False) for a in twice])
    np.testing.assert_allclose(both.observe(alm), expected, atol=1e-11)


def test_noise_of_the_composition():
    """Covariance of the maps against that of the steps: inner noise pushed through the outer operator by hand."""
    rng = np.random.default_rng(2)
    inner, outer = random_operator(rng, 2, 3, 3), random_operator(rng, 1, 3, 3)
    both = outer.compose(inner)
    dark = TrueSky(np.array([1.0, 2.0]), np.zeros((1, 2, 10), complex))
    got = both.expect(dark).covariance[0]
    expected = np.zeros((24, 24))
    for o in range(2):
        # Each independent real direction of the inner noise becomes a map; their outer products add up.
        for m in range(4):
            values, vectors = np.linalg.eigh(inner.noise[m][o])
            for value, vector in zip(values, vectors.T, strict=True):
                for phase in (1.0, 1j) if m else (1.0,):
                    alm = np.zeros((1, 10), complex)
                    for ell in range(m, 4):
                        alm[0, hp.Alm.getidx(3, ell, m)] = phase * vector[ell]
                    pushed = hp.alm2map(as_alm(outer, alm)[0], 1, lmax=3)
                    block = max(value, 0.0) * np.outer(pushed, pushed) * (0.5 if m else 1.0)
                    expected[12 * o : 12 * o + 12, 12 * o : 12 * o + 12] += block
        own = replace(outer, energy=EnergyResponse.delta([1.0])).expect(
            TrueSky(np.array([1.0]), np.zeros((1, 1, 10), complex))
        )
        expected[12 * o : 12 * o + 12, 12 * o : 12 * o + 12] += own.covariance[0]
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_composition_is_associative():
    rng = np.random.default_rng(3)
    ell = np.array([1, 2])
    first, second = random_operator(rng, 3, 5, 6), random_operator(rng, 3, 4, 5)
    third = random_operator(rng, 3, 2, 4, Power(ell))
    left, right = third.compose(second).compose(first), third.compose(second.compose(first))
    sky = TrueSky(np.arange(1.0, 4.0), random_alm(rng, 3, 6)[None])
    a, b = left.expect(sky), right.expect(sky)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-11)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-10)


def test_the_inner_filter_stays_and_outer_noise_of_m_zero_with_it():
    rng = np.random.default_rng(4)
    inner, outer = random_operator(rng, 1, 3, 3, first=1), random_operator(rng, 1, 3, 3)
    both = outer.compose(inner)
    assert not both.response[0].any()
    np.testing.assert_array_equal(both.noise[0], outer.noise[0])
    quiet = replace(outer, noise={m: 0.0 * n for m, n in outer.noise.items()})
    assert 0 not in quiet.compose(inner).response


def test_components_of_a_composition_carry_the_noise_of_both():
    """A dipole read off a noisy map: 3 / 4 pi of the variance of a_11 in each component, and the outer noise."""
    rng = np.random.default_rng(5)
    inner = random_operator(rng, 1, 2, 2)
    reading = np.array([[[2.0, 0.5], [0.5, 1.0]]])
    outer = ObservationOperator(
        {1: np.array([[[0, 0, 0], [0, 0.7, -0.3]]])}, {1: np.zeros((1, 2, 2))}, EnergyResponse.delta([1.0]),
        Components(reading),
    )  # fmt: skip
    got = outer.compose(inner).expect(TrueSky(np.array([1.0]), np.zeros((1, 1, 6), complex))).covariance[0]
    row = np.array([0, 0.7, -0.3])
    np.testing.assert_allclose(got, reading[0] + 3 / (4 * np.pi) * (row @ inner.noise[1][0] @ row) * np.eye(2))


def test_what_cannot_be_composed_is_refused():
    rng = np.random.default_rng(6)
    two = random_operator(rng, 2, 3, 3)
    with pytest.raises(ObsfitError, match="summarised by Power"):
        two.compose(replace(two, summary=Power(np.array([1]))))
    with pytest.raises(ObsfitError, match="summarised by Components"):
        two.compose(replace(two, summary=Components(np.zeros((2, 2, 2)))))
    with pytest.raises(ObsfitError, match="gives 2 observations up to l = 3, the outer takes 2 up to l = 4"):
        random_operator(rng, 2, 3, 4).compose(two)
    with pytest.raises(ObsfitError, match="takes 3 up to"):
        random_operator(rng, 3, 3, 3).compose(two)
    spread = EnergyResponse.log_normal([1.0, 2.0], [[0.5, 0.5]] * 2)
    with pytest.raises(ObsfitError, match="averages over energies"):
        replace(two, energy=spread).compose(two)
    with pytest.raises(ObsfitError, match="noise is that of 1 observations"):
        replace(random_operator(rng, 1, 3, 3), summary=Components(np.eye(2)[None])).compose(two)


NSIDE = 64


def ring_chain(lmax, lmax_out, *, dec=(-26.0, 64.0), ra_mask=None, ring_means=True):
    """Map of the sky, ring means removed, band cut out, a_lm of the result: healpy and nothing else."""
    theta, ra = hp.pix2ang(NSIDE, np.arange(hp.nside2npix(NSIDE)))
    sin_dec = np.cos(theta)
    inside = (sin_dec > np.sin(np.radians(dec[0]))) & (sin_dec < np.sin(np.radians(dec[1])))
    ring = hp.pix2ring(NSIDE, np.arange(theta.size)) - 1
    weight = inside * 1.0 if ra_mask is None else inside * ra_mask(ra)

    def chain(alm):
        sky = hp.alm2map(alm, NSIDE, lmax=lmax)
        if ring_means:
            sky = sky - (np.bincount(ring, sky) / np.bincount(ring))[ring]
        return hp.map2alm(weight * sky, lmax=lmax_out, iter=0)

    return chain


@pytest.mark.parametrize("ring_means", [True, False])
def test_a_probed_chain_of_maps_is_the_coupling_of_its_band(ring_means):
    """T^m of AM17 (A.1) to the accuracy of rings of nside 64 at the edges of the band, some 0.005."""
    lmax, lmax_out = 5, 4
    energy = EnergyResponse.delta([10.0, 20.0])
    probed = ObservationOperator.probe(
        ring_chain(lmax, lmax_out, ring_means=ring_means), lmax, energy=energy, summary=Power(np.arange(1, 5)),
    )  # fmt: skip
    assert (0 in probed.response) is not ring_means
    expected = band_coupling(-26 * u.deg, 64 * u.deg, lmax, filtered=ring_means)
    for m, response in probed.response.items():
        assert response.shape == (2, lmax_out + 1, lmax + 1)
        np.testing.assert_array_equal(response[0], response[1])
        np.testing.assert_allclose(response[0], expected[m][: lmax_out + 1], atol=6e-3)
        assert not probed.noise[m].any()


def test_a_probed_chain_is_the_chain():
    """The chain and its operator on a sky that neither has seen: a map of the observed a_lm."""
    rng = np.random.default_rng(7)
    chain = ring_chain(4, 4)
    probed = ObservationOperator.probe(chain, 4, energy=EnergyResponse.delta([1.0]), summary=PIXELS)
    alm = random_alm(rng, 1, 4)
    expected = hp.alm2map(chain(alm[0]), 1, lmax=4)
    np.testing.assert_allclose(probed.observe(alm), expected, atol=2e-2 * np.abs(expected).max())


def rotated(alm):
    """Turned in right ascension by 0.3 rad: diagonal in m, but not real."""
    m = np.repeat(np.arange(4), np.arange(4, 0, -1))
    return alm * np.exp(-0.3j * m)


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        (ring_chain(3, 3, ra_mask=lambda ra: ra < 4.0), "mixes a_lm of different m"),
        (lambda alm: alm + 1e-4, "for an empty sky"),
        (lambda alm: alm + 3.0 * alm * np.abs(alm).sum(), "is not linear"),
        (lambda alm: alm.real + 0j, "treats real and imaginary"),
        (rotated, "turns the phases"),
        (lambda alm: 0.0 * alm, "answers every sky with at most 0"),
    ],
)
def test_chains_that_are_no_operator_are_refused(chain, complaint):
    with pytest.raises(ObsfitError, match=complaint):
        ObservationOperator.probe(chain, 3, energy=EnergyResponse.delta([1.0]), summary=PIXELS)


def test_pixels_are_the_map_of_the_observed_alm():
    """Against healpy's own synthesis, all m at once."""
    rng = np.random.default_rng(8)
    identity = ObservationOperator(
        {m: np.eye(6)[None] * (np.arange(6) >= m) for m in range(6)}, {m: np.zeros((1, 6, 6)) for m in range(6)},
        EnergyResponse.delta([1.0]), Pixels.healpix(4),
    )  # fmt: skip
    alm = random_alm(rng, 1, 5)
    np.testing.assert_allclose(identity.observe(alm), hp.alm2map(alm[0], 4, lmax=5), atol=1e-10)


def test_covariance_of_pixels_is_the_correlation_function():
    """An isotropic sky seen without filter: sum_l (2l + 1) C_l P_l(cos angle) / 4 pi between any two directions."""
    rng = np.random.default_rng(9)
    c_ell = np.array([0.0, 3.0, 2.0, 1.0])
    ra, dec = rng.uniform(0, 2 * np.pi, 20), np.arcsin(rng.uniform(-1, 1, 20))
    identity = ObservationOperator(
        {m: np.eye(4)[None] for m in range(4)}, {m: np.zeros((1, 4, 4)) for m in range(4)},
        EnergyResponse.delta([1.0]), Pixels(ra, dec),
    )  # fmt: skip
    got = identity.expect(TrueSky(np.array([1.0]), None, c_ell[None, None, None])).covariance[0]
    n = np.stack([np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec)])
    series = (2 * np.arange(4) + 1) * c_ell / (4 * np.pi)
    np.testing.assert_allclose(got, np.polynomial.legendre.legval(n.T @ n, series), atol=1e-12)


def test_too_many_pixels_are_refused_and_drawn_instead():
    c_ell = np.ones((1, 1, 1, 3))
    operator = replace(random_operator(np.random.default_rng(10), 1, 2, 2), summary=Pixels.healpix(32))
    sky = TrueSky(np.array([1.0]), None, c_ell)
    with pytest.raises(ObsfitError, match="covariance of 12288 pixels for 1 parameter vectors"):
        operator.expect(sky)
    assert operator.draw(sky, rng=np.random.default_rng(11), size=2).shape == (1, 2, 12288)


def test_directions_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="expected equal shapes"):
        Pixels(np.zeros(3), np.zeros(4))
