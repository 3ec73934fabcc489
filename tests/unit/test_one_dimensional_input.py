"""What the one-dimensional methods refuse, and how detectors and frames go together."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest

from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.reconstruct.east_west import EastWest, east_west_asymmetry, east_west_events, east_west_scan
from obsfit.reconstruct.forward_backward import ForwardBackward
from obsfit.reconstruct.iterative_likelihood import IterativeLikelihood
from obsfit.reconstruct.nulls import agreement, cell_agreement, null_tests
from obsfit.reconstruct.rayleigh import Rayleigh, rayleigh
from obsfit.reconstruct.right_ascension import RightAscensionProjection, antisidereal_systematic
from obsfit.reconstruct.ring_sums import ring_counts
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import DipoleReconstruction, ObservationSpec

GRID = HourAngleGrid(12, 24)


def event_map(*, latitude=0.5, frame="sidereal", name="A", scale=1e4, dipole=0.0, keep=None):
    tau = 2 * np.pi * (np.arange(24) + 0.5) / 24
    dec = -np.pi / 2 + np.pi * (np.arange(12) + 0.5) / 12
    d, h = np.meshgrid(dec, tau, indexing="ij")
    up = np.sin(latitude) * np.sin(d) + np.cos(latitude) * np.cos(d) * np.cos(h)
    counts = scale * np.where(up > 0.5, up, 0.0) * (1 + dipole * np.cos(d) * np.cos(tau[:, None, None] - h))
    if keep is not None:
        counts = counts * keep(h)
    return EventMap(counts.reshape(24, -1), GRID, name, Provenance(name), frame=frame)


def result(frame="sidereal", components=((1e-3, 0.0),), sigma=1e-4):
    spec = ObservationSpec("east-west", {}, ("A",), -1.0, 1.0, frame, True, "")
    array = np.array(components)
    return DipoleReconstruction(array, sigma**2 * np.eye(array.size), spec, ())


@pytest.mark.parametrize("method", [EastWest(), ForwardBackward()])
def test_sums_over_time_do_not_keep_the_half_skies(method):
    with pytest.raises(ConfigurationError, match="sums over time") as caught:
        method.reconstruct(ring_counts(event_map()))
    assert "EventMap" in str(caught.value)


@pytest.mark.parametrize("method", [EastWest(), ForwardBackward(), Rayleigh()])
def test_frames_do_not_mix(method):
    with pytest.raises(ConfigurationError, match="anti-sidereal, sidereal"):
        method.reconstruct([event_map(), event_map(frame="anti-sidereal")])
    assert method.reconstruct(event_map(frame="solar")).spec.frame == "solar"


@pytest.mark.parametrize("method", [EastWest(), ForwardBackward(), Rayleigh()])
def test_nothing_seen_is_refused(method):
    with pytest.raises(ConfigurationError, match="no detector"):
        method.reconstruct([])
    with pytest.raises(ConfigurationError, match="B has no events"):
        method.reconstruct([event_map(), event_map(name="B", scale=0.0)])


def test_one_half_sky_is_not_enough():
    with pytest.raises(ConfigurationError, match="0 events in the East"):
        east_west_asymmetry(event_map(keep=lambda h: h < np.pi))


def test_harmonics_that_east_and_west_see_alike_are_refused():
    """About the pole sin(2 h) averages to zero over each half; the dipole is still seen."""
    at_pole = event_map(latitude=np.pi / 2)
    with pytest.raises(ConfigurationError, match="harmonic 2 alike") as caught:
        EastWest(harmonics=2).reconstruct(at_pole)
    assert "harmonics=1" in str(caught.value)
    assert np.all(np.isfinite(EastWest().reconstruct(at_pole).components))


def test_too_few_times_are_refused():
    """Four bins cannot hold three harmonics; Forward-Backward, which sees them at many offsets, needs two."""
    for method, n_bins in ((EastWest(), 4), (ForwardBackward(), 1)):
        counts = event_map().counts.copy()
        counts[n_bins:] = 0.0
        with pytest.raises(ObsfitError, match="night"):
            method.reconstruct(EventMap(counts, GRID, "night", Provenance("night")))
    with pytest.raises(ObsfitError, match="cannot tell"):
        east_west_events(np.zeros(8), np.tile([1.0, -1.0], 4), np.full(8, 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EastWest(harmonics=0), "harmonics 0"),
        (lambda: EastWest(harmonics=4), "fitted 3"),
        (lambda: ForwardBackward(weight="area"), "counts or solid-angle"),
        (lambda: ForwardBackward(n_bands=0), "n_bands 0"),
        (lambda: Rayleigh(harmonics=-1), "harmonics -1"),
        (lambda: RightAscensionProjection(estimator="sum"), "mean-of-pixels"),
        (lambda: RightAscensionProjection(dec_min_rad=1.0, dec_max_rad=0.5), "declinations 1.0 to 0.5"),
        (lambda: Rayleigh(exposure=((1.0,) * 24,) * 2).reconstruct(event_map()), "2 detectors for 1"),
        (lambda: Rayleigh(exposure=((1.0,) * 12,)).reconstruct(event_map()), "24 finite values"),
        (lambda: Rayleigh(exposure=((0.0,) * 24,)).reconstruct(event_map()), "positive where"),
        (
            lambda: Rayleigh(exposure=((1.0,) * 24,)).reconstruct(ring_counts(event_map())),
            "exposure of each event",
        ),
        (lambda: agreement([result()]), "at least two"),
        (lambda: agreement([result(), result("solar")]), "one frame"),
        (lambda: agreement([result(), result(components=((0, 0), (0, 0)))]), "same numbers"),
        (lambda: null_tests(EastWest()), "frames, epochs or detectors"),
        (lambda: null_tests(EastWest(), frames=[event_map()]), "does not vanish"),
        (lambda: antisidereal_systematic(result(), result("solar")), "anti-sidereal"),
        (
            lambda: antisidereal_systematic(result(), result("anti-sidereal", ((0, 0), (0, 0)))),
            "same number",
        ),
        (lambda: cell_agreement(IterativeLikelihood().reconstruct(event_map(scale=1e-3))), "more events"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_band_outside_the_field_is_refused():
    made = IterativeLikelihood().reconstruct(event_map(latitude=1.2))
    with pytest.raises(ConfigurationError, match="no events between"):
        RightAscensionProjection(dec_min_rad=-1.4, dec_max_rad=-1.0).project(made)
    with pytest.raises(ConfigurationError, match="a divisor of 24"):
        RightAscensionProjection().profile(made, 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: east_west_events([0.1, 0.2], [1.0], [0.3, 0.3]), "expected one shape"),
        (lambda: east_west_events([0.1, np.nan], [1.0, 2.0], [0.3, 0.3]), "angle: value nan"),
        (lambda: east_west_events([0.1, 0.2], [1.0, 2.0], [0.3, 45.0]), "radians from 0 to pi"),
        (lambda: east_west_events([0.1, 0.2], [1.0, 2.0], [0.3, 0.3], weights=[1.0, -1.0]), "none negative"),
        (lambda: rayleigh([]), "at least one event"),
        (lambda: rayleigh([0.1], dec_rad=[45.0]), "radians from -pi/2"),
        (lambda: rayleigh([0.1], weights=[0.0]), "all are zero"),
        (lambda: rayleigh([0.1, 0.2], exposure=[1.0, 0.0]), "positive"),
        (lambda: rayleigh([np.inf]), "finite"),
        (lambda: rayleigh([0.1, 0.2]).upper_limit(0.9), "give dec_rad"),
    ],
)
def test_bad_lists_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_list_in_one_half_sky_is_refused():
    with pytest.raises(ConfigurationError, match="one half-sky"):
        east_west_events(np.linspace(0, 6, 50), np.full(50, 1.0), np.full(50, 0.5))


def test_pixels_on_the_meridian_belong_to_neither_half():
    """On the equator of HEALPix half the rings have a pixel there: East and West keep as many pixels each."""
    counts = np.ones((24, 12 * 8**2))
    seen = east_west_asymmetry(EventMap(counts, HealpixLocalGrid(8, 0.3), "whole", Provenance("whole")))
    np.testing.assert_allclose(seen.asymmetry, 0.0, atol=1e-15)
    on_meridian = 768 - (seen.east[0] + seen.west[0])
    # Every second ring of the equatorial belt has pixels at longitudes 0 and 180 degrees.
    assert on_meridian == 2 * 8


@pytest.mark.parametrize("method", [EastWest(), ForwardBackward(), Rayleigh(harmonics=2)])
def test_detectors_are_averaged_with_their_variances(method):
    """Two detectors of one sky: the mean with inverse variances, a smaller error, and the mean of the responses."""
    one, two = event_map(dipole=0.01), event_map(latitude=-0.3, name="B", scale=4e4, dipole=0.02)
    single = [method.reconstruct(e) for e in (one, two)]
    both = method.reconstruct([one, two])
    rows = [method.response(e, 4) for e in (one, two)]
    joint = method.response([one, two], 4)
    for n in range(len(both.components)):
        variances = [np.trace(s.covariance[2 * n : 2 * n + 2, 2 * n : 2 * n + 2]) for s in single]
        weights = (1 / np.array(variances)) / np.sum(1 / np.array(variances))
        expected = weights @ [s.components[n] for s in single]
        np.testing.assert_allclose(both.components[n], expected, rtol=1e-9)
        np.testing.assert_allclose(joint[n + 1], weights @ [r[n + 1] for r in rows], rtol=1e-9)
    assert both.spec.detectors == ("A", "B")
    assert both.covariance[0, 0] < min(s.covariance[0, 0] for s in single)


def test_unseen_right_ascensions_are_left_out_of_the_fit():
    """A map with a hole of three cells: NaN in the profile, and the dipole as without the hole."""
    made = IterativeLikelihood().reconstruct(event_map(dipole=0.01, latitude=np.pi / 2))
    hole = np.zeros((12, 24), dtype=bool)
    hole[:, 5:8] = True
    cut = replace(
        made,
        relative_intensity=np.where(hole, np.nan, made.relative_intensity),
        expected=np.where(hole, 0.0, made.expected),
    )
    method = RightAscensionProjection(harmonics=1)
    np.testing.assert_allclose(method.project(cut).components, method.project(made).components, atol=2e-5)
    assert method.project(cut).covariance[0, 0] > method.project(made).covariance[0, 0]
    profile = method.profile(cut, 24)
    assert np.array_equal(np.isnan(profile.intensity), hole[0])
    assert np.array_equal(np.isnan(profile.error), hole[0])
    whole = method.profile(made, 12)
    np.testing.assert_allclose(whole.right_ascension_rad, np.radians(7.5 + 30.0 * np.arange(12)))
    every = method.profile(made, 24).intensity
    np.testing.assert_allclose(whole.intensity, 0.5 * (every[::2] + every[1::2]), atol=1e-4)


def test_covariance_of_rayleigh_is_the_sum_over_events():
    """Any exposure and squared weights, against the explicit sum of products over time bins and cells."""
    rng = np.random.default_rng(6)
    counts, squares = rng.uniform(0, 5, (2, 24, 12 * 24)) * np.linspace(0.0, 1.0, 24)[:, None] ** 2
    events = EventMap(counts, GRID, "A", Provenance("A"), squares)
    live = 1.0 + np.arange(24.0)
    found = Rayleigh(harmonics=2, corrected=False, exposure=(tuple(live),)).reconstruct(events)
    t, p = np.meshgrid(np.arange(24), np.arange(12 * 24), indexing="ij")
    alpha = 2 * np.pi * (t - p % 24) / 24
    window = np.repeat(np.sinc(np.array([1, 2]) / 24) ** 2, 2)
    functions = np.array([np.cos(alpha), np.sin(alpha), np.cos(2 * alpha), np.sin(2 * alpha)])
    weight = 1.0 / live[t]
    total = np.sum(counts * weight)
    expected = 2.0 / total * np.einsum("itp,tp->i", functions, counts * weight) / window
    np.testing.assert_allclose(found.components.ravel(), expected, rtol=1e-10)
    spread = 4.0 / total**2 * np.einsum("itp,tp,jtp->ij", functions, squares * weight**2, functions)
    np.testing.assert_allclose(found.covariance, spread / np.outer(window, window), rtol=1e-10)


def test_antisidereal_amplitude_becomes_a_systematic_covariance():
    found = antisidereal_systematic(result(), result("anti-sidereal", ((3e-4, 4e-4),)))
    np.testing.assert_allclose(found.systematic, 0.5 * 2.5e-7 * np.eye(2))
    less = antisidereal_systematic(result(), result("anti-sidereal", ((3e-4, 4e-4),)), subtract_noise=True)
    np.testing.assert_allclose(less.systematic, 0.5 * (2.5e-7 - 2e-8) * np.eye(2))
    none = antisidereal_systematic(
        result("solar"), result("extended-sidereal", ((1e-5, 0.0),)), subtract_noise=True
    )
    np.testing.assert_array_equal(none.systematic, np.zeros((2, 2)))


def test_scan_refuses_what_is_no_frequency():
    with pytest.raises(u.UnitConversionError):
        east_west_scan([0.0, 1.0], [1.0, -1.0], [0.5, 0.5], [366.25] * u.m)
