"""Gaps in time: where a gradient of the sky hides, by a dense rank and by the exact symmetry, and what cures it."""

import numpy as np
import pytest

from obsfit.reconstruct._ring_solver import RingSystem
from obsfit.reconstruct.gaps import HiddenGradientError, weakest_gradient
from obsfit.reconstruct.gaps import refuse_hidden_gradients as refuse
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.records.event_map import HourAngleGrid, RingCounts
from obsfit.records.provenance import Provenance


def field(n_dec, n_time, bands, first, width):
    """Acceptance one in the same cells of some bands."""
    acceptance = np.zeros((n_dec, n_time))
    for r in bands:
        acceptance[r, (first + np.arange(width)) % n_time] = 1.0 + 0.1 * r
    return acceptance


def live(n_time, *gaps):
    exposure = np.ones(n_time)
    for first, length in gaps:
        exposure[(first + np.arange(length)) % n_time] = 0.0
    return exposure


def sums(exposure, acceptance, sky=None, name="mock"):
    n_dec, n_time = acceptance.shape
    sky = np.ones((n_dec, n_time)) if sky is None else sky
    cube = np.empty((n_time, n_dec, n_time))
    per_sky = np.zeros((n_dec, n_time))
    for t in range(n_time):
        for j in range(n_time):
            cube[t, :, j] = 1e4 * exposure[t] * acceptance[:, j] * sky[:, (t - j) % n_time]
            per_sky[:, (t - j) % n_time] += cube[t, :, j]
    cells = cube.sum(axis=0)
    grid = HourAngleGrid(n_dec, n_time)
    return RingCounts(cube.sum(axis=(1, 2)), cells, per_sky, cells.sum(axis=1), grid, name, Provenance(name))


def free_changes(cases):
    """Dimension of the changes of ln N that nothing can see, beyond normalisation, by the rank of a dense matrix."""
    n_dec, n_time = cases[0][1].shape
    rows = []
    n = len(cases)
    size_n, size_a, size_i = n * n_time, n * n_dec * n_time, n_dec * n_time
    for d, (exposure, acceptance) in enumerate(cases):
        for t in np.flatnonzero(exposure):
            for r, j in np.argwhere(acceptance > 0):
                row = np.zeros(size_n + size_a + size_i)
                row[d * n_time + t] = 1
                row[size_n + (d * n_dec + r) * n_time + j] = 1
                row[size_n + size_a + r * n_time + (t - j) % n_time] = 1
                rows.append(row)
    design = np.array(rows)
    used = design.any(axis=0)
    gram = design.T @ design
    eigenvalues, vectors = np.linalg.eigh(gram[np.ix_(used, used)])
    null = vectors[:, eigenvalues < 1e-8]
    of_exposure = null[: np.count_nonzero(used[:size_n])]
    singular = np.linalg.svd(of_exposure, compute_uv=False)
    return int(np.sum(singular > 1e-6)) - n


CASES = {
    "no gap": [((), range(3), 0, 6)],
    "short gap": [(((3, 3),), range(3), 0, 6)],
    "gap two cells less than the field": [(((3, 4),), range(3), 0, 6)],
    "gap one cell less than the field": [(((3, 5),), range(3), 0, 6)],
    "gap as wide as the field": [(((3, 6),), range(3), 2, 6)],
    "gap around midnight": [(((14, 7),), range(3), 2, 6)],
    "two gaps, one wide": [(((3, 7), (14, 2)), range(3), 2, 5)],
    "two wide gaps": [(((2, 5), (11, 5)), range(3), 2, 4)],
    "two gaps of a wide field": [(((2, 5), (11, 5)), range(3), 2, 9)],
    "cured by a whole ring": [(((3, 9),), range(3), 2, 6), (((1, 8),), (2, 3), 0, 18)],
    "a whole ring that is not shared": [(((3, 9),), range(2), 2, 6), (((1, 8),), (2, 3), 0, 18)],
    "cured by a detector without a gap": [(((3, 9),), range(3), 2, 6), ((), (2, 3), 5, 4)],
    "cured by the gap of another": [(((3, 9),), range(3), 2, 6), (((12, 8),), range(3), 2, 6)],
    "two with the same gap": [(((3, 9),), range(3), 2, 6), (((3, 9),), range(1, 4), 2, 6)],
}


@pytest.mark.parametrize("name", CASES)
def test_refused_exactly_where_the_dense_matrix_has_no_rank(name):
    n_dec, n_time = 4, 18
    cases = [
        (live(n_time, *gaps), field(n_dec, n_time, bands, first, width))
        for gaps, bands, first, width in CASES[name]
    ]
    counts = [sums(*case, name=f"detector {i}") for i, case in enumerate(cases)]
    if free_changes(cases) == 0:
        refuse(counts)
    else:
        with pytest.raises(HiddenGradientError, match="detector"):
            refuse(counts)


def test_what_is_refused_is_an_exact_symmetry():
    """I e^{-a alpha}, N e^{a tau}, A e^{-a h} with the breaks in the gap leave every expected count as it is."""
    n_time, a = 18, 0.3
    exposure, acceptance = live(n_time, (10, 8)), field(3, n_time, range(3), 0, 6)
    t, j = np.arange(n_time), np.arange(n_time)
    k = (t[:, None] - j + 6) % n_time - 6  # of t = 0..9 and j = 0..5: from -5 to 9
    before = exposure[:, None] * acceptance[0] * np.ones((n_time, n_time))
    after = (exposure * np.exp(a * t))[:, None] * acceptance[0] * np.exp(-a * j) * np.exp(-a * k)
    np.testing.assert_allclose(after, before, rtol=1e-12)
    with pytest.raises(HiddenGradientError):
        refuse([sums(exposure, acceptance)])


def test_information_that_is_left_against_a_dense_projection():
    """Share of the information on a slope across the gap, by projecting sky and acceptance out of a dense matrix."""
    n_dec, n_time = 3, 16
    exposure, acceptance = live(n_time, (11, 4)) * np.linspace(1, 2, n_time), field(n_dec, n_time, range(3), 1, 6)
    weights, slope, columns = [], [], []
    for t in np.flatnonzero(exposure):
        for r, j in np.argwhere(acceptance > 0):
            row = np.zeros((2, n_dec, n_time))
            row[0, r, j] = row[1, r, (t - j) % n_time] = 1
            columns.append(row.ravel())
            weights.append(exposure[t] * acceptance[r, j])
            slope.append((t - 15) % n_time)
    root, slope = np.sqrt(weights), np.array(slope, dtype=float)
    slope -= np.average(slope, weights=weights)
    design = root[:, None] * np.array(columns)
    target = root * slope
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    expected = np.sum(left**2) / np.sum(target**2)
    share, change = weakest_gradient(RingSystem.of([sums(exposure, acceptance)]))
    assert share == pytest.approx(expected, rel=1e-6)
    seen = change[0] != 0.0
    order = np.argsort((np.arange(n_time)[seen] - 15) % n_time)
    assert np.ptp(np.diff(change[0][seen][order])) < 1e-12 * np.ptp(change[0])


def zenith_field(n_dec, n_time, latitude_deg, zenith_deg):
    h = 2 * np.pi * (np.arange(n_time) + 0.5) / n_time
    dec = np.pi * ((np.arange(n_dec)[:, None] + 0.5) / n_dec - 0.5)
    lat = np.radians(latitude_deg)
    up = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(h)
    return np.where(up > np.cos(np.radians(zenith_deg)), up * np.cos(dec), 0.0)


def isotropic(exposure, acceptance, name):
    """Sums of an isotropic sky without a loop over cells."""
    n_dec, n_time = acceptance.shape
    shifted = (np.arange(n_time)[:, None] - np.arange(n_time)) % n_time  # j of t and k
    per_sky = np.einsum("t,rtk->rk", exposure, acceptance[:, shifted])
    cells = exposure.sum() * acceptance
    return RingCounts(
        exposure * acceptance.sum(), cells, per_sky, cells.sum(axis=1), HourAngleGrid(n_dec, n_time), name,
        Provenance(name),
    )  # fmt: skip


def test_a_gap_wider_than_the_field_of_hawc_is_refused_by_name():
    """Latitude 19, zenith cut 57: the field is 125 degrees wide in hour angle, and 130 bins are 8.67 h."""
    hawc = isotropic(1e6 * live(360, (250, 130)), zenith_field(128, 360, 19, 57), "HAWC")
    with pytest.raises(
        HiddenGradientError, match=r"HAWC: a gap of 130 time bins \(8\.67 h, bins 250 to 19\)"
    ) as caught:
        IterativeLikelihood().reconstruct(hawc)
    error = caught.value
    assert (error.detector, error.first_bin, error.gap_bins, error.n_time) == ("HAWC", 250, 130, 360)
    assert error.gap_hours == pytest.approx(130 / 15)
    assert 123 <= error.field_bins <= 126
    assert "gradient" in str(error)
    assert "Add a detector" in str(error)


@pytest.mark.parametrize("gap", [30, 60, 90])
def test_shorter_gaps_are_not_refused(gap):
    refuse([isotropic(1e6 * live(360, (250, gap)), zenith_field(128, 360, 19, 57), "HAWC")])


def test_some_stray_events_in_a_gap_do_not_close_it():
    exposure = live(360, (250, 130))
    exposure[exposure == 0.0] = 1e-9
    with pytest.raises(HiddenGradientError, match="gap of 130"):
        refuse([isotropic(1e12 * exposure, zenith_field(64, 360, 19, 57), "HAWC")])


def test_many_gaps_with_single_bins_between_them():
    """More gaps than are examined, and stretches that hold one live bin among empty ones."""
    exposure = np.zeros(48)
    exposure[[0, 1, 5, 12, 14, 20, 26, 27, 30, 33, 39, 45]] = 1.0
    refuse([isotropic(1e6 * exposure, zenith_field(16, 48, 19, 57), "sparse")])
    with pytest.raises(HiddenGradientError, match="sparse"):
        refuse([isotropic(1e6 * exposure, zenith_field(16, 48, 19, 12), "sparse")])


def test_the_detector_with_the_gap_is_the_one_that_is_named():
    whole = isotropic(1e6 * live(360), zenith_field(64, 360, 70, 20), "North")
    hawc = isotropic(1e6 * live(360, (10, 200)), zenith_field(64, 360, -19, 25), "South")
    with pytest.raises(HiddenGradientError, match=r"^South: a gap of 200"):
        refuse([whole, hawc])
