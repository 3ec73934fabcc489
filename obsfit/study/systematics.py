"""Systematics of reconstructions: skies, observatories, methods and realisations, and what becomes of the dipole."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_settings
from obsfit.errors import ConfigurationError, ObsfitError
from obsfit.execute import child_generator, run_tasks
from obsfit.mock import fluctuate, isotropic_sky, observe
from obsfit.records.event_map import EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.study.methods import METHODS, Observed, StudyMethod, methods_named, null_tests, numbers
from obsfit.study.observations import DetectorSettings, SkySettings
from obsfit.study.relabelling import RelabelSettings, half_bins, relabelled
from obsfit.study.summaries import MethodOutcome, PointOutcome, Summary, summarise

FloatArray = NDArray[np.float64]

NULL_FRAMES = ("anti-sidereal", "extended-sidereal")
BLOCK = 25
"""Realisations of one task."""
SMALL = 0.1
"""Strength of breathing, of its own, at which its linear effect is computed."""


@dataclass(frozen=True)
class VarySettings:
    """One thing that takes several values, all else being as the study says.

    Attributes
    ----------
    name : str
        What the scan is called.
    key : str
        The setting: keys joined by dots, such as "detectors.HAWC.latitude"; an element of a list by its name or number.
        Empty: several settings change together, and each value is a table of such keys.
    values : tuple
        Its values.
    labels : tuple of str
        What the values are called; empty: themselves.
    """

    __pydantic_config__ = FORBID

    name: str
    key: str
    values: tuple[Any, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or (self.labels and len(self.labels) != len(self.values)):
            raise ConfigurationError(
                f"vary {self.name!r}: {len(self.values)} values and {len(self.labels)} labels",
                expected="at least one value, and a label for each or none",
            )

    def label(self, index: int) -> str:
        """Return what a value is called."""
        return self.labels[index] if self.labels else str(self.values[index])


@dataclass(frozen=True)
class SystematicsConfiguration:
    """A study of systematics.

    Attributes
    ----------
    seed : int
        Seed; each realisation of each point has its own stream.
    detectors : tuple of DetectorSettings
        All detectors.
    methods : tuple of str
        Names of `obsfit.study.methods.METHODS`.
    sky : SkySettings
        The sky.
    vary : tuple of VarySettings
        Scans; without any, the study is one point.
    use : tuple of str
        Names of the detectors that are analysed together; empty: all.
    realisations : int
        Poisson mocks of each sky; none: noise-free counts alone.
    skies : int
        Draws of the Gaussian part of the sky.
    lmax : int
        Largest multipole that is fitted.
    n_dec, n_time : int
        Rings and time bins.
    nside : int or None
        Local HEALPix maps of this resolution instead of rings.
    sub_cells : int
        Fine cells in which mocks are integrated, along each axis of a cell.
    nulls : bool
        Whether the anti- and extended-sidereal frames are analysed too.
    start_mjd, stop_mjd : float or None
        Days of the observation; without, an idealised year.
    epochs : int
        Parts of the time, each of equal length, that are also analysed by themselves.
    relabel : RelabelSettings
        Errors of labels made on purpose. Operators are those that the program in error would believe in.
    kind : str
        "systematics": tells this study from others.
    output : str
        Folder of the results, relative to the file.
    """

    __pydantic_config__ = FORBID

    seed: int
    detectors: tuple[DetectorSettings, ...]
    methods: tuple[str, ...]
    sky: SkySettings = field(default_factory=SkySettings)
    vary: tuple[VarySettings, ...] = ()
    use: tuple[str, ...] = ()
    realisations: int = 0
    skies: int = 1
    lmax: int = 1
    n_dec: int = 36
    n_time: int = 72
    nside: int | None = None
    sub_cells: int = 4
    nulls: bool = False
    start_mjd: float | None = None
    stop_mjd: float | None = None
    epochs: int = 1
    relabel: RelabelSettings = field(default_factory=RelabelSettings)
    kind: str = "systematics"
    output: str = "systematics"

    def __post_init__(self) -> None:
        methods_named(self.methods)
        names = [one.name for one in self.detectors]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"detectors {', '.join(names)}", expected="different names")
        missing = [name for name in self.use if name not in names]
        if missing or not names:
            raise ConfigurationError(
                f"use: no detector {', '.join(missing)}", expected=f"some of {', '.join(names)}"
            )
        if min(self.skies, self.lmax, self.epochs) < 1 or self.realisations < 0:
            raise ConfigurationError(
                f"skies {self.skies}, lmax {self.lmax}, epochs {self.epochs}, realisations {self.realisations}",
                expected="at least one, and realisations not negative",
            )
        if self.epochs > 1 and (self.start_mjd is None or self.stop_mjd is None):
            raise ConfigurationError(f"{self.epochs} epochs", expected="start_mjd and stop_mjd")

    @property
    def lmax_sky(self) -> int:
        """Largest multipole of sky and fit."""
        return max(self.lmax, self.sky.lmax)

    def points(self) -> list[tuple[int, int]]:
        """Return all points: scan and value."""
        scans = [(i, j) for i, vary in enumerate(self.vary) for j in range(len(vary.values))]
        return scans or [(0, 0)]

    def point(self, scan: int, value: int) -> SystematicsConfiguration:
        """Return the study of one point of a scan, without scans.

        Raises
        ------
        ConfigurationError
            If the key of the scan leads nowhere, or the value does not fit.
        """
        alone = json.loads(json.dumps(asdict(replace(self, vary=()))))
        if self.vary:
            vary = self.vary[scan]
            chosen = json.loads(json.dumps(vary.values[value]))
            for key, setting in {vary.key: chosen}.items() if vary.key else _table_of(chosen):
                _set(alone, key, setting)
        return read_settings(alone, SystematicsConfiguration)


def run_systematics(
    configuration: SystematicsConfiguration,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Summary:
    """Return bias, scatter, coverage and pulls of each method at each point, and its null tests; resumable.

    At each point, expected counts are computed for each sky, by `obsfit.mock`. Each method is applied to them as they
    are, and to Poisson realisations of them. What its operator makes of the true multipoles, on the same exposure and
    acceptance, is the prediction. Where acceptance breathes, the linear effect of that is predicted too: what the
    method finds in an isotropic sky with a tenth of the breathing, times ten.

    Parameters
    ----------
    configuration : SystematicsConfiguration
        The study.
    base : Path
        Folder to which its paths are relative.
    workers, scheduler, progress
        As `obsfit.execute.run_tasks`; the numbers do not depend on them.

    Raises
    ------
    ConfigurationError
        If a setting does not fit, or stored results belong to another study.
    """
    for scan, value in configuration.points():
        configuration.point(scan, value)
    keys: list[tuple[str | int, ...]] = []
    for scan, value in configuration.points():
        for sky in range(configuration.skies):
            keys.append(("expected", scan, value, sky, 0, 0))
            for start in range(0, configuration.realisations, BLOCK):
                keys.append(("mocks", scan, value, sky, start, min(start + BLOCK, configuration.realisations)))
    # More realisations of the same study are a continuation, and it may be moved.
    settings = {k: v for k, v in asdict(configuration).items() if k not in ("realisations", "output")}
    outcomes = run_tasks(
        partial(_task, configuration), keys, store=base / configuration.output, configuration=settings,
        workers=workers, scheduler=scheduler, progress=progress,
    )  # fmt: skip
    found = dict(zip(keys, outcomes, strict=True))
    points = []
    for scan, value in configuration.points():
        label = configuration.vary[scan].label(value) if configuration.vary else "all"
        name = configuration.vary[scan].name if configuration.vary else "study"
        chosen = {key: outcome for key, outcome in found.items() if key[1:3] == (scan, value)}
        points.append(_gathered(name, label, chosen, configuration))
    return summarise(points)


def _task(
    configuration: SystematicsConfiguration, what: str, scan: int, value: int, sky: int, start: int, stop: int
) -> dict[str, Any]:
    """Predictions of one sky at one point, or some of its realisations."""
    point = configuration.point(scan, value)
    text = json.dumps(asdict(point))
    rng = child_generator(configuration.seed, "sky", sky)
    alm = point.sky.alm(rng=rng)
    lmax_sky = point.lmax_sky
    truth = np.zeros((lmax_sky + 1) * (lmax_sky + 2) // 2, dtype=np.complex128)
    truth[_places(point.sky.lmax, lmax_sky)] = alm
    sky_vector = np.concatenate([truth[lmax_sky + 1 :].real, truth[lmax_sky + 1 :].imag])
    maps = _expected_maps(text, alm.tobytes())
    if what == "expected":
        return _predictions(point, maps, sky_vector)
    return _realisations(point, maps, partial(child_generator, configuration.seed, scan, value, sky), start, stop)


def _predictions(
    point: SystematicsConfiguration, maps: Mapping[str, Sequence[tuple[EventMap, ...]]], sky_vector: FloatArray
) -> dict[str, Any]:
    """Truth, prediction, noise-free result and effect of breathing of each method."""
    observed = _observed(point, maps["sidereal"])
    out: dict[str, Any] = {"truth": sky_vector}
    for name, method in methods_named(point.methods).items():
        itself = METHODS[method.noise_free] if method.noise_free else method
        try:
            out[f"{name}.noise_free"] = itself.estimate(observed, point.lmax, None)[0]
            out[f"{name}.predicted"] = method.response(observed, point.lmax, point.lmax_sky) @ sky_vector
            out[f"{name}.breathing"] = _effect_of_breathing(point, itself, len(out[f"{name}.predicted"]))
        except ObsfitError as error:
            out[f"{name}.refused"] = error.problem
    return out


def _effect_of_breathing(point: SystematicsConfiguration, method: StudyMethod, size: int) -> FloatArray:
    """What a method finds in an isotropic sky, to first order in the breathing of the acceptance, (size,)."""
    if not any(one.breathing for one in _used(point)):
        return np.zeros(size)
    small, none = (
        method.estimate(_observed(point, _isotropic(json.dumps(asdict(point)), strength)), point.lmax, None)[0]
        for strength in (SMALL, 0.0)
    )
    return (small - none) / SMALL


def _realisations(
    point: SystematicsConfiguration,
    maps: Mapping[str, Sequence[tuple[EventMap, ...]]],
    generator: partial[np.random.Generator],
    start: int,
    stop: int,
) -> dict[str, Any]:
    """Results, covariances and null tests of each method in some realisations."""
    lists: dict[str, list[Any]] = {}
    refused: dict[str, str] = {}
    for number in range(start, stop):
        rng = generator(number)
        drawn = {
            frame: [tuple(fluctuate(one, rng=rng) for one in epoch) for epoch in epochs]
            for frame, epochs in maps.items()
        }
        frames = {frame: _observed(point, epochs) for frame, epochs in drawn.items()}
        parts = [_observed(point, [epoch]) for epoch in drawn["sidereal"]] if point.epochs > 1 else []
        for name, method in methods_named(point.methods).items():
            if name in refused:
                continue
            try:
                results = {frame: method.result(seen, point.lmax, rng) for frame, seen in frames.items()}
                tests = null_tests(results, [method.result(part, point.lmax, rng) for part in parts])
            except ObsfitError as error:
                refused[name] = error.problem
                continue
            vector, covariance = numbers(results["sidereal"])
            lists.setdefault(f"{name}.found", []).append(vector)
            lists.setdefault(f"{name}.covariance", []).append(covariance)
            for test in tests:
                lists.setdefault(f"{name}.null.{test.name}", []).append(test.probability)
    kept = {key: np.array(values) for key, values in lists.items() if key.split(".")[0] not in refused}
    return {**kept, **{f"{name}.refused": why for name, why in refused.items()}}


def _gathered(
    scan: str, label: str, outcomes: Mapping[Any, dict[str, Any]], configuration: SystematicsConfiguration
) -> PointOutcome:
    """All that tasks found at one point, by method; realisations of all skies one after the other."""
    found = {}
    for name in configuration.methods:
        refusals = [out[f"{name}.refused"] for out in outcomes.values() if f"{name}.refused" in out]
        if refusals:
            found[name] = MethodOutcome(refused=str(refusals[0]))
            continue
        expected = {key[3]: out for key, out in outcomes.items() if key[0] == "expected"}
        mocks = [(key[3], out) for key, out in outcomes.items() if key[0] == "mocks"]
        skies = np.array([sky for sky, out in mocks for _ in out[f"{name}.found"]], dtype=np.int64)
        first = expected[0][f"{name}.predicted"]
        empty = (np.zeros((0, first.size)), np.zeros((0, first.size, first.size)))
        nulls = {
            key.split(".")[2]: np.concatenate([out[key] for _, out in mocks])
            for key in (mocks[0][1] if mocks else {})
            if key.startswith(f"{name}.null.")
        }
        found[name] = MethodOutcome(
            truth=np.array([expected[sky]["truth"] for sky in sorted(expected)]),
            predicted=np.array([expected[sky][f"{name}.predicted"] for sky in sorted(expected)]),
            noise_free=np.array([expected[sky][f"{name}.noise_free"] for sky in sorted(expected)]),
            breathing=np.array([expected[sky][f"{name}.breathing"] for sky in sorted(expected)]),
            sky=skies,
            found=np.concatenate([out[f"{name}.found"] for _, out in mocks]) if mocks else empty[0],
            covariance=np.concatenate([out[f"{name}.covariance"] for _, out in mocks]) if mocks else empty[1],
            nulls=nulls,
            multipoles=METHODS[name].multipoles,
        )
    return PointOutcome(scan, label, found)


@lru_cache(maxsize=2)
def _expected_maps(text: str, alm: bytes) -> dict[str, list[tuple[EventMap, ...]]]:
    """Expected maps of a point and a sky, by the bytes of its a_lm: for each frame, epochs of all detectors."""
    point = _configuration(text)
    sky = point.sky.sky(np.frombuffer(alm, dtype=np.complex128))
    frames = ("sidereal", *NULL_FRAMES) if point.nulls else ("sidereal",)
    return {frame: _epochs(point, sky, frame, 1.0) for frame in frames}


@lru_cache(maxsize=2)
def _isotropic(text: str, strength: float) -> list[tuple[EventMap, ...]]:
    """Expected maps of an isotropic sky, with the strength of breathing times a factor."""
    return _epochs(_configuration(text), isotropic_sky(), "sidereal", strength)


def _epochs(point: SystematicsConfiguration, sky: Any, frame: str, breathing: float) -> list[tuple[EventMap, ...]]:
    days: list[tuple[float | None, float | None]] = [(point.start_mjd, point.stop_mjd)]
    if point.start_mjd is not None and point.stop_mjd is not None:
        edges = np.linspace(point.start_mjd, point.stop_mjd, point.epochs + 1)
        days = [(float(a), float(b)) for a, b in pairwise(edges)]
    # A shift by half a bin needs bins of half the width to begin with.
    times = 1 if point.nside is None else 2
    return [
        tuple(
            observe(
                sky, one.detector(breathing=breathing), n_events=one.events / len(days), grid=_grid(point, one),
                asimov=True, frame=frame, start_mjd=start, stop_mjd=stop, n_time=times * point.n_time,
                sub_cells=point.sub_cells,
            )
            for one in _used(point)
        )
        for start, stop in days
    ]  # fmt: skip


def _observed(point: SystematicsConfiguration, epochs: Sequence[tuple[EventMap, ...]]) -> Observed:
    """The events of all epochs together, labelled as the point says."""
    maps = []
    for parts in zip(*epochs, strict=True):
        together = replace(parts[0], counts=np.sum([part.counts for part in parts], axis=0))
        maps.append(relabelled(together, point.relabel, point.n_time))
    return Observed.of(maps)


def _grid(point: SystematicsConfiguration, one: DetectorSettings) -> HourAngleGrid | HealpixLocalGrid:
    if point.nside is None:
        if half_bins(point.relabel, point.n_time) % 2:
            raise ConfigurationError(
                f"relabel.time_shift = {point.relabel.time_shift!r} on rings", expected="a whole number of time bins",
                remedy="Use local HEALPix maps: nside = 16.",
            )  # fmt: skip
        return HourAngleGrid(point.n_dec, point.n_time)
    return HealpixLocalGrid(point.nside, one.detector().latitude_rad)


def _used(point: SystematicsConfiguration) -> list[DetectorSettings]:
    return [one for one in point.detectors if not point.use or one.name in point.use]


def _configuration(text: str) -> SystematicsConfiguration:
    return read_settings(json.loads(text), SystematicsConfiguration)


def _places(lmax: int, lmax_all: int) -> NDArray[np.int64]:
    """Where multipoles up to lmax stand among those up to lmax_all, healpy order."""
    m, ell = np.triu_indices(lmax + 1)
    return np.asarray(m * (2 * lmax_all + 1 - m) // 2 + ell, dtype=np.int64)


def _table_of(value: Any) -> ItemsView[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"vary: value {value!r} without a key", expected="a table of settings")
    return value.items()


def _set(settings: Any, key: str, value: Any) -> None:
    """Put a value where a dotted key leads."""
    place = settings
    *parents, last = key.split(".")
    try:
        for part in parents:
            place = place[_step(place, part)]
        if last not in place and not isinstance(place, list):
            raise KeyError(last)
        place[_step(place, last)] = value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        known = ", ".join(place) if isinstance(place, dict) else "a name or number of an element"
        raise ConfigurationError(f"vary: key {key!r} leads nowhere", expected=known) from error


def _step(place: Any, part: str) -> Any:
    if not isinstance(place, list):
        return part
    names = [one.get("name") if isinstance(one, dict) else None for one in place]
    return names.index(part) if part in names else int(part)
