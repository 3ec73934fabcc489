"""A mock observation described by a TOML file: event maps, event lists and the sky behind them, as files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import healpy as hp
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.execute.random import child_generator
from obsfit.ingest.maps import save_map
from obsfit.ingest.record_files import write_record
from obsfit.mock.event_lists import draw_events
from obsfit.mock.observe import observe_energies
from obsfit.mock.settings import MockDetectorSettings, MockSkySettings
from obsfit.mock.skies import MockSky
from obsfit.products import check_folder, write_folder
from obsfit.provenance import stamp
from obsfit.records.event_map import FRAMES, EventMap, HealpixLocalGrid, HourAngleGrid
from obsfit.records.provenance import Provenance
from obsfit.records.sky_map import SkyMap

FloatArray = NDArray[np.float64]

MANIFEST = "mock.json"
SKY_NSIDE = 64
"""Resolution of the map of the true sky."""


@dataclass(frozen=True)
class GridSettings:
    """Cells of the event maps.

    Attributes
    ----------
    n_time : int
        Time bins, and cells of a ring.
    n_dec : int
        Bands of declination.
    nside : int
        HEALPix pixels about the zenith instead of rings; 0 for rings.
    sub_cells : int
        Fine cells along each axis of a cell that the mock integrates over.
    """

    __pydantic_config__ = FORBID

    n_time: int = 360
    n_dec: int = 128
    nside: int = 0
    sub_cells: int = 4


@dataclass(frozen=True)
class EnergySettings:
    """Bins of reconstructed energy.

    Attributes
    ----------
    labels : tuple of str
        Names of the bins, such as "8-13 TeV".
    share : tuple of float
        Share of a detector's events at each true energy; it sums to one.
    migration : tuple of tuple of float
        Row for each bin: the part of the events of each true energy that is taken for it. Empty: none is taken for
        another, and there are as many bins as true energies.
    scale : tuple of float
        Factor of the anisotropy at each true energy. Empty: one.
    rigidity : tuple of str
        Rigidity of each true energy, for the sky of a model. Empty: that of the model, for all.
    """

    __pydantic_config__ = FORBID

    labels: tuple[str, ...]
    share: tuple[float, ...]
    migration: tuple[tuple[float, ...], ...] = ()
    scale: tuple[float, ...] = ()
    rigidity: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n_true, n_bin = len(self.share), len(self.labels)
        lengths = {"scale": len(self.scale), "rigidity": len(self.rigidity)}
        for name, length in lengths.items():
            if length not in (0, n_true):
                raise ConfigurationError(
                    f"energies.{name} has {length} entries", expected=f"{n_true}, as share has"
                )
        if len(set(self.labels)) < n_bin or not n_bin:
            raise ConfigurationError(f"energies.labels are {list(self.labels)}", expected="each bin once")
        rows = {len(row) for row in self.migration}
        if (self.migration and (len(self.migration) != n_bin or rows != {n_true})) or (
            not self.migration and n_bin != n_true
        ):
            raise ConfigurationError(
                f"energies: {n_bin} labels, {n_true} shares, migration of {len(self.migration)} rows",
                expected="a row of migration for each label, with an entry for each share",
            )
        if min(self.share, default=-1.0) < 0.0 or abs(sum(self.share) - 1.0) > 1e-6:
            raise ConfigurationError(f"energies.share is {list(self.share)}", expected="shares that sum to one")


@dataclass(frozen=True)
class EventListSettings:
    """Lists of single events beside the maps.

    Attributes
    ----------
    events : float
        Expected number of events of each detector.
    start_mjd, stop_mjd : float
        First and last moment, modified Julian days.
    format : str
        "parquet" or "csv".
    energy_min, energy_max : str
        Limits of the energies.
    spectral_index : float
        Gamma of the observed events.
    """

    __pydantic_config__ = FORBID

    events: float
    start_mjd: float = 58000.0
    stop_mjd: float = 58365.25
    format: Literal["parquet", "csv"] = "parquet"
    energy_min: str = "1 TeV"
    energy_max: str = "100 TeV"
    spectral_index: float = 2.7


@dataclass(frozen=True)
class MockConfiguration:
    """A whole mock observation.

    Attributes
    ----------
    seed : int
        Seed of sky and events.
    detectors : tuple of MockDetectorSettings
        Detectors in the same sky.
    sky : MockSkySettings
        The sky; isotropic by default.
    asimov : bool
        Expected counts in place of random ones.
    frame : str
        Clock of the time bins: "sidereal", "solar", "anti-sidereal" or "extended-sidereal".
    start_mjd, stop_mjd : float or None
        First and last moment, modified Julian days. Default: an idealised year.
    grid : GridSettings
        Cells of the maps.
    energies : EnergySettings or None
        Bins of energy; None for one.
    event_list : EventListSettings or None
        Lists of events beside the maps; None for none.
    output : str
        Folder of the files, relative to the configuration.
    """

    __pydantic_config__ = FORBID

    seed: int
    detectors: tuple[MockDetectorSettings, ...]
    sky: MockSkySettings = field(default_factory=MockSkySettings)
    asimov: bool = False
    frame: str = "sidereal"
    start_mjd: float | None = None
    stop_mjd: float | None = None
    grid: GridSettings = field(default_factory=GridSettings)
    energies: EnergySettings | None = None
    event_list: EventListSettings | None = None
    output: str = "mock"

    def __post_init__(self) -> None:
        names = [one.name for one in self.detectors]
        if not names or len({_slug(name) for name in names}) < len(names):
            raise ConfigurationError(
                f"detectors are named {', '.join(names) or 'not at all'}",
                expected="at least one detector, each with a name of its own",
            )
        if self.seed < 0:
            raise ConfigurationError(f"seed {self.seed}", expected="0 or more")
        if self.frame not in FRAMES:
            raise ConfigurationError(f"frame {self.frame!r}", expected=f"one of {', '.join(FRAMES)}")


@dataclass(frozen=True)
class MockProduct:
    """A mock observation in memory.

    Attributes
    ----------
    maps : mapping of str to EventMap
        Event maps by name of their file.
    lists : mapping of str to DataFrame
        Event lists by name of their file.
    skies : mapping of str to SkyMap
        True sky of each energy by name of its file: delta I in the frame of the maps.
    """

    maps: dict[str, EventMap]
    lists: dict[str, pd.DataFrame]
    skies: dict[str, SkyMap]


def configured_mock(configuration: MockConfiguration, *, base: Path) -> MockProduct:
    """Return the event maps and lists that a configuration describes; paths are relative to `base`.

    Detectors and energies have random streams of their own: another detector does not change the events of the first.

    Raises
    ------
    ConfigurationError
        If a setting makes no sense.
    DataFormatError, PluginError
        If a map or a model cannot be used.
    """
    seed, energies = configuration.seed, configuration.energies
    share = np.array(energies.share if energies else (1.0,))
    scale = np.array(energies.scale if energies and energies.scale else np.ones(share.size))
    labels = energies.labels if energies else ("",)
    migration = np.array(energies.migration) if energies and energies.migration else np.eye(share.size)
    rigidities = None
    if energies and energies.rigidity:
        rigidities = u.Quantity(
            [read_quantity(text, "rigidity", "energies.rigidity") for text in energies.rigidity]
        )
    skies = configuration.sky.skies(
        base=base, rng=child_generator(seed, "sky"), rigidities=rigidities, scale=scale
    )
    try:
        maps: dict[str, EventMap] = {}
        lists: dict[str, pd.DataFrame] = {}
        for one in configuration.detectors:
            for event_map in _observed(configuration, one, skies, share, migration, labels):
                maps[f"{_file_stem(one.name, event_map.energy)}.h5"] = event_map
            if configuration.event_list is not None:
                lists |= _listed(configuration.event_list, one, skies, seed)
        true = {_file_stem("sky", label if energies else "") + ".fits": sky
                for label, sky in zip(_true_labels(share.size, labels), skies, strict=True)}  # fmt: skip
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return MockProduct(maps, lists, {name: _true_map(sky, configuration.frame) for name, sky in true.items()})


def run_configured_mock(configuration: MockConfiguration, *, base: Path, overwrite: bool) -> MockProduct:
    """Make the files of a mock observation in its output folder, all or none, and return what is in them.

    The folder gets NAME.h5 for each detector (NAME-ENERGY.h5 with several energies; `obsfit.ingest.record_files`),
    its event list, sky.fits with the true sky, and mock.json with configuration, versions and checksums.

    Raises
    ------
    ConfigurationError
        As `configured_mock`, and if the output folder has files and `overwrite` is false.
    """
    folder = base / configuration.output
    check_folder(folder, overwrite=overwrite)
    product = configured_mock(configuration, base=base)
    settings = asdict(configuration)
    writers: dict[str, Callable[[Path], object]] = {
        name: partial(write_record, record=one, seed=configuration.seed, configuration=settings)
        for name, one in product.maps.items()
    }
    writers |= {name: partial(_write_list, table=table) for name, table in product.lists.items()}
    writers |= {name: partial(save_map, sky_map=sky) for name, sky in product.skies.items()}
    head = stamp("mock-observation", seed=configuration.seed, configuration=settings)
    write_folder(folder, writers, head, manifest=MANIFEST, overwrite=overwrite)
    return product


def _observed(
    configuration: MockConfiguration,
    settings: MockDetectorSettings,
    skies: tuple[MockSky, ...],
    share: FloatArray,
    migration: FloatArray,
    labels: tuple[str, ...],
) -> tuple[EventMap, ...]:
    detector, cells = settings.detector(), configuration.grid
    grid: HourAngleGrid | HealpixLocalGrid = HourAngleGrid(cells.n_dec, cells.n_time)
    if cells.nside:
        grid = HealpixLocalGrid(cells.nside, detector.latitude_rad)
    return observe_energies(
        skies, detector, migration, n_events=settings.events * share, grid=grid,
        rng=child_generator(configuration.seed, "events", settings.name), asimov=configuration.asimov,
        frame=configuration.frame, start_mjd=configuration.start_mjd, stop_mjd=configuration.stop_mjd,
        n_time=cells.n_time, sub_cells=cells.sub_cells, energies=labels,
    )  # fmt: skip


def _listed(
    settings: EventListSettings, detector: MockDetectorSettings, skies: tuple[MockSky, ...], seed: int
) -> dict[str, pd.DataFrame]:
    if len(skies) > 1:
        raise ConfigurationError(
            "event lists of several true energies", expected="energies or event_list, not both",
            remedy="Make lists of one sky, or maps of several.",
        )  # fmt: skip
    if settings.format == "parquet":
        _require_pyarrow()
    low, high = (
        float(read_quantity(text, "energy", f"event_list.{key}").to_value(u.TeV))
        for key, text in (("energy_min", settings.energy_min), ("energy_max", settings.energy_max))
    )
    table = draw_events(
        skies[0], detector.detector(), n_events=settings.events, start_mjd=settings.start_mjd,
        stop_mjd=settings.stop_mjd, rng=child_generator(seed, "list", detector.name), energy_range_tev=(low, high),
        spectral_index=settings.spectral_index,
    )  # fmt: skip
    return {f"{_slug(detector.name)}-events.{settings.format}": table}


def _write_list(path: Path, table: pd.DataFrame) -> None:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "Parquet files need pyarrow, which is not installed", expected='event_list.format = "csv", or pyarrow',
            remedy="pip install 'obsfit[events]'",
        ) from error  # fmt: skip


def _true_map(sky: MockSky, frame: str) -> SkyMap:
    colatitude, longitude = hp.pix2ang(SKY_NSIDE, np.arange(hp.nside2npix(SKY_NSIDE)))
    delta_i = sky.relative_intensity(longitude, 0.5 * np.pi - colatitude, frame=frame) - 1.0
    meta: dict[str, Any] = {"MAPTYPE": "true sky of a mock observation"}
    return SkyMap(delta_i, Provenance("true sky", meta=meta))


def _true_labels(n_true: int, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the true energies: those of the bins where there are as many."""
    return labels if len(labels) == n_true else tuple(f"true-{i + 1}" for i in range(n_true))


def _file_stem(name: str, energy: str) -> str:
    return "-".join(filter(None, (_slug(name), _slug(energy))))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
