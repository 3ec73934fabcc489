"""The energy response against quadrature and direct sampling of the distribution it stands for."""

from dataclasses import replace
from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import obsfit
from obsfit.operators import (
    Composition,
    EnergyResponse,
    common_rigidities,
    energy_response_for,
    operator_for,
    polygonato_composition,
)
from obsfit.protocols import dipole_alm

MEDIAN = np.array([13.0, 130.0, 5306.0])
SPREAD = np.array([[0.62, 0.50], [0.74, 0.72], [0.46, 0.58]])


def density(x, median, low, high):
    """Two-sided normal density in log10 E, half of it on each side."""
    return norm.pdf(x, np.log10(median), np.where(x < np.log10(median), low, high))


def hat_by_quadrature(x, j, median, low, high):
    """Integral of the density with the hat of node j, split at the nodes and at the median."""

    def integrand(t):
        return np.interp(t, x, np.arange(x.size) == j) * density(t, median, low, high)

    first, last = x[max(j - 1, 0)], x[min(j + 1, x.size - 1)]
    breaks = [p for p in (x[j], np.log10(median)) if first < p < last]
    edges = np.unique([first, *breaks, last])
    return sum(quad(integrand, a, b, epsabs=1e-14)[0] for a, b in pairwise(edges))


def test_weights_are_integrals_of_hats_and_density():
    """Against adaptive quadrature; second differences of numbers of order one leave 1e-15 / 0.25."""
    response = EnergyResponse.log_normal(MEDIAN, SPREAD)
    x = np.log10(response.rigidity_tv)
    for row, (median, (low, high)) in enumerate(zip(MEDIAN, SPREAD, strict=True)):
        expected = np.array([hat_by_quadrature(x, j, median, low, high) for j in range(x.size)])
        np.testing.assert_allclose(response.weights[row], expected / expected.sum(), atol=1e-13)


def test_rows_sum_to_one_at_any_width():
    response = EnergyResponse.log_normal(MEDIAN, SPREAD, composition=Composition([1, 26], [0.7, 0.3]))
    weights = response.widened(np.linspace(0.3, 2.0, 7))
    assert weights.shape == (7, 3, response.rigidity_tv.size)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-13)
    assert weights.min() >= 0.0


def test_means_of_power_laws_against_sampled_energies():
    """Mean of E^g of 4e6 sampled events: 4 standard errors, plus the linear interpolation h^2 (g ln 10)^2 / 12."""
    rng = np.random.default_rng(1)
    response = EnergyResponse.log_normal(MEDIAN, SPREAD)
    for row, (median, (low, high)) in enumerate(zip(MEDIAN, SPREAD, strict=True)):
        half = np.abs(rng.normal(size=4_000_000))
        x = np.log10(median) + np.where(rng.random(half.size) < 0.5, -low * half, high * half)
        for slope in (1 / 3, -1 / 3):
            value = 10.0 ** (slope * x)
            mean = response.weights[row] @ response.rigidity_tv**slope
            allowed = 4 * value.std() / np.sqrt(value.size) / value.mean() + (0.25 * slope * np.log(10)) ** 2 / 12
            # Tails beyond 3.5 spreads hold 2.3e-4 on either side and weigh up to 10^(3.5 * 0.83 / 3) times as much.
            assert mean == pytest.approx(value.mean(), rel=allowed + 2.5e-3)


def test_two_point_average_of_a_pattern_that_loses_coherence():
    """The observed power of C(R, R') = exp(-|ln R/R'| / c) between two bins, against sampled pairs of events."""
    rng = np.random.default_rng(2)
    response = EnergyResponse.log_normal(MEDIAN[:2], SPREAD[:2])
    x = np.log10(response.rigidity_tv) * np.log(10)
    got = response.weights @ np.exp(-np.abs(x[:, None] - x) / 3.0) @ response.weights.T

    def events(row):
        half, side = np.abs(rng.normal(size=1_000_000)), rng.random(1_000_000) < 0.5
        return np.log(MEDIAN[row]) + np.log(10) * np.where(side, -SPREAD[row, 0], SPREAD[row, 1]) * half

    for a, b in ((0, 0), (0, 1), (1, 1)):
        value = np.exp(-np.abs(events(a) - events(b)) / 3.0)
        # The cusp at equal rigidities costs about a third of a node's width in units of c: 0.25 ln 10 / 3 / 3 at most.
        assert got[a, b] == pytest.approx(value.mean(), rel=0.03)


def test_width_one_changes_nothing_and_the_limit_zero_is_the_median():
    response = EnergyResponse.log_normal(MEDIAN, SPREAD)
    np.testing.assert_array_equal(response.widened([1.0])[0], response.weights)
    narrow = response.widened([1e-9])[0] @ np.log10(response.rigidity_tv)
    np.testing.assert_allclose(narrow, np.log10(MEDIAN), atol=2e-9)


def test_the_mean_of_log_energy_is_exact():
    """x is linear between nodes: its mean is that of the density, (high - low) / sqrt(2 pi) above the median.

    Both tails are cut at 3.5 spreads or a little beyond, which moves it by less than 1e-3.
    """
    response = EnergyResponse.log_normal(MEDIAN, SPREAD)
    mean = response.weights @ np.log10(response.rigidity_tv) - np.log10(MEDIAN)
    np.testing.assert_allclose(mean, (SPREAD[:, 1] - SPREAD[:, 0]) / np.sqrt(2 * np.pi), atol=1e-3)


def test_composition_shifts_rigidities_by_the_charge():
    """Nuclei of charge Z alone see exactly the grid of protons divided by Z; a mixture is the sum of shares."""
    protons = EnergyResponse.log_normal(MEDIAN, SPREAD)
    grid = protons.rigidity_tv
    iron = EnergyResponse.log_normal(MEDIAN, SPREAD, composition=Composition(26, 1.0), rigidity_tv=grid / 26)
    np.testing.assert_allclose(iron.weights, protons.weights, atol=1e-13)
    wide = 10.0 ** np.arange(-4, 6, 0.25)
    parts = [
        EnergyResponse.log_normal(MEDIAN, SPREAD, composition=Composition(z, 1.0), rigidity_tv=wide)
        for z in (1, 26)
    ]
    mixed = EnergyResponse.log_normal(
        MEDIAN, SPREAD, composition=Composition([1, 26], [0.8, 0.2]), rigidity_tv=wide
    )
    np.testing.assert_allclose(mixed.weights, 0.8 * parts[0].weights + 0.2 * parts[1].weights, atol=1e-15)
    assert not mixed.is_delta


def test_a_delta_says_so_and_sees_charges_where_they_are():
    response = EnergyResponse.delta(MEDIAN)
    assert response.is_delta
    np.testing.assert_array_equal(response.weights, np.eye(3))
    wide = response.widened([0.5, 1.0, 2.0])
    np.testing.assert_array_equal(wide, np.broadcast_to(np.eye(3), (3, 3, 3)))
    assert wide.base is not None
    nuclei = EnergyResponse.log_normal([26.0], [[0.0, 0.0]], composition=Composition([1, 26], [0.75, 0.25]))
    assert not nuclei.is_delta
    np.testing.assert_allclose(nuclei.rigidity_tv, [1.0, 26.0], rtol=1e-15)
    np.testing.assert_allclose(nuclei.weights, [[0.25, 0.75]], rtol=1e-15)


def test_sharp_and_wide_observations_share_a_grid():
    spread = SPREAD.copy()
    spread[1] = 0.0
    response = EnergyResponse.log_normal(MEDIAN, spread)
    (node,) = np.flatnonzero(np.isclose(response.rigidity_tv, 130.0, rtol=1e-12))
    assert response.weights[1, node] == 1.0
    assert response.weights[1].sum() == 1.0
    np.testing.assert_array_equal(response.widened([2.0])[0, 1], response.weights[1])


def test_common_rigidities():
    wide, sharp = EnergyResponse.log_normal(MEDIAN[:2], SPREAD[:2]), EnergyResponse.delta([10.0, 24.0])
    far = EnergyResponse.log_normal(MEDIAN[2:], SPREAD[2:])
    bare = replace(sharp, median_tev=None, spread_dex=None)
    shared = common_rigidities([wide, sharp, far, bare])
    grid = shared[0].rigidity_tv
    assert all(np.array_equal(response.rigidity_tv, grid) for response in shared)
    assert {10.0, 24.0} <= set(grid.tolist())
    # 10 TV is a node of the regular grid already: only 24 TV is new.
    assert grid.size == np.union1d(wide.rigidity_tv.round(9), far.rigidity_tv.round(9)).size + 1
    np.testing.assert_allclose(shared[1].weights @ grid, [10.0, 24.0], rtol=1e-15)
    np.testing.assert_array_equal(shared[3].weights, shared[1].weights)
    for before, after in ((wide, shared[0]), (far, shared[2])):
        np.testing.assert_allclose(after.weights.sum(1), 1.0, rtol=1e-13)
        # A wider grid cuts the tails later.
        np.testing.assert_allclose(
            after.weights @ np.log10(grid), before.weights @ np.log10(before.rigidity_tv), atol=1e-3
        )
    assert common_rigidities([]) == []


def test_spreads_of_published_records():
    spectrum = obsfit.load_spectrum("icecube-2025", energy=24 * u.TeV)
    # The neighbours in the table are 4.38 (0.65, 0.54) and 4.12 (0.62, 0.50); log10 of 24 TeV in GeV is 4.3802.
    t = (np.log10(24e3) - 4.38) / 0.2
    response = energy_response_for(spectrum)
    np.testing.assert_allclose(response.spread_dex, [[0.65 + 0.03 * t, 0.54 + 0.01 * t]], rtol=1e-12)
    joint = energy_response_for(obsfit.load_spectrum("hawc-icecube-2019"))
    np.testing.assert_array_equal(joint.spread_dex, [[0.62, 0.50]])
    assert joint.median_tev.tolist() == [10.0]
    assert energy_response_for(obsfit.load_spectrum("hawc-icecube-2019-by-field", field="hawc")).is_delta
    assert not energy_response_for(obsfit.load_spectrum("hawc-icecube-2019-by-field", field="icecube")).is_delta
    dipoles = obsfit.load_dipoles("ahlers-mertsch-2017")
    both = energy_response_for(dipoles)
    known = np.array([name == "IceCube" for name in dipoles.observatory])
    assert np.all((both.spread_dex > 0).all(1) == known)
    assert not both.is_delta
    others = energy_response_for(dipoles.select(~known))
    assert others.is_delta
    np.testing.assert_array_equal(others.weights, EnergyResponse.delta(dipoles.energy_tev[~known]).weights)


def test_shares_of_the_polygonato_model():
    """At 1 TeV the shares are those of the fluxes typed here; far above the knee protons fall behind by 26^2.1."""
    at_1_tev = polygonato_composition(1.0)
    listed = {1: 8.73e-2, 2: 5.71e-2, 6: 1.06e-2, 8: 1.57e-2, 12: 8.01e-3, 14: 7.96e-3, 26: 2.04e-2}
    ratio = {z: at_1_tev.fraction[z - 1] / at_1_tev.fraction[0] for z in listed}
    for z, flux in listed.items():
        # The knee of protons at 4.49 PeV takes some 1e-7 off at 1 TeV.
        assert ratio[z] == pytest.approx(flux / 8.73e-2, rel=1e-6)
    assert at_1_tev.charge.tolist() == list(range(1, 27))
    far = polygonato_composition(1e8).fraction
    near = polygonato_composition(1e1).fraction
    power_laws = near[25] / near[0] * 1e7 ** (2.71 - 2.59)
    assert far[25] / far[0] == pytest.approx(power_laws * 26**2.1, rel=0.01)


def test_operators_average_over_energies_only_if_asked():
    """A dipole that grows with rigidity: seen at the median, or averaged as sampled energies say (4 errors, 0.3 %)."""
    record = obsfit.load_dipoles("ahlers-mertsch-2017")
    record = record.select([record.measurement.index("icecube-2016-130TeV")])
    plain, wide = operator_for(record), operator_for(record, energy_spread=True)
    assert plain.energy.is_delta
    assert not wide.energy.is_delta

    def seen(operator):
        rigidity = operator.energy.rigidity_tv
        return operator.observe(dipole_alm(np.array([1e-3, 0.0, 0.0])) * (rigidity[:, None] / 130.0) ** (1 / 3))[0]

    half = np.abs(np.random.default_rng(3).normal(size=1_000_000))
    # log10 of 130 TeV in GeV is 5.114, between 4.85 (0.73, 0.64) and 5.12 (0.74, 0.72).
    t = (np.log10(130e3) - 4.85) / 0.27
    low, high = 0.73 + 0.01 * t, 0.64 + 0.08 * t
    mean = 0.5 * np.mean(10 ** (-low * half / 3)) + 0.5 * np.mean(10 ** (high * half / 3))
    assert seen(wide) / seen(plain) == pytest.approx(mean, rel=5e-3)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: EnergyResponse.log_normal([13.0], [[0.5]]), r"expected \(1, 2\)"),
        (lambda: EnergyResponse.log_normal([13.0], [[0.5, 0.0]]), "two positive spreads or two zeros"),
        (lambda: EnergyResponse.log_normal([-1.0], [[0.5, 0.5]]), "median_tev .* expected positive"),
        (lambda: EnergyResponse.log_normal([13.0], [[0.5, 0.5]], rigidity_tv=[100.0, 200.0]), "less than half"),
        (lambda: EnergyResponse.log_normal([13.0], [[0.5, 0.5]], rigidity_tv=[2.0, 1.0]), "increasing"),
        (lambda: EnergyResponse.delta([13.0]).on([10.0, 20.0]), "lacks 13 TV"),
        (lambda: EnergyResponse.delta([13.0]).widened([0.0]), "width .* expected positive"),
        (lambda: Composition([1, 2], [0.5, 0.4]), "sum to one"),
        (lambda: Composition([0], [1.0]), "at least one"),
        (lambda: Composition([1, 2], [1.0]), "equal shapes"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_weights_alone_have_no_width():
    response = EnergyResponse(np.array([1.0, 2.0]), np.full((1, 2), 0.5), False)
    with pytest.raises(ValueError, match="spreads are not known"):
        response.widened([1.0])
    np.testing.assert_array_equal(response.on([0.5, 1.0, 2.0]).weights, [[0.0, 0.5, 0.5]])
