"""A reconstruction described by a TOML file: detectors, method, and what is made of its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.execute.random import child_generator
from obsfit.ingest.count_maps import write_count_map
from obsfit.ingest.dipoles import write_dipoles
from obsfit.ingest.maps import save_map
from obsfit.ingest.record_files import write_record
from obsfit.provenance import stamp, versions
from obsfit.reconstruct._harmonic_inputs import on_equator
from obsfit.reconstruct.east_west import EastWest
from obsfit.reconstruct.forward_backward import ForwardBackward
from obsfit.reconstruct.healpix_output import MINIMUM_EXPOSURE, interpolated_exposure, interpolated_map
from obsfit.reconstruct.low_multipole import LowMultipoleLikelihood
from obsfit.reconstruct.multipoles import ONE_PASS, fit_multipoles
from obsfit.reconstruct.named_methods import Method, Result, named_method, needs_maps
from obsfit.reconstruct.nulls import NullTest, vanishing
from obsfit.reconstruct.placed_events import placed_map
from obsfit.reconstruct.rayleigh import Rayleigh
from obsfit.reconstruct.responses import low_multipole_response, map_response
from obsfit.reconstruct.right_ascension import RightAscensionProjection, ring_mean_map
from obsfit.reconstruct.ring_harmonics import multipoles
from obsfit.reconstruct.ring_sums import as_ring_counts
from obsfit.reconstruct.significance import SignificanceMap, TopHat, significance_map
from obsfit.reconstruct.sources import Events, EventSource, RingSettings, checksums, read_source
from obsfit.records.count_map import CountMap
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.event_map import RingCounts
from obsfit.records.provenance import Provenance
from obsfit.records.reconstruction import (
    DipoleReconstruction,
    MapReconstruction,
    MultipoleReconstruction,
    ObservationSpec,
)
from obsfit.records.sky_map import SkyMap
from obsfit.sky.ring_means import pixel_sin_dec

FloatArray = NDArray[np.float64]

MANIFEST = "reconstruction.json"
LMAX_SKY = 10
"""Largest multipole of the sky whose leakage is told; less where time bins are too wide for it."""
NULL_FRAMES = ("anti-sidereal", "extended-sidereal")
TO_DIPOLE = np.sqrt(1.5 / np.pi)
"""(delta_0h, delta_6h) = TO_DIPOLE (-Re a_11, Im a_11): Eq. (18) of AM17."""


@dataclass(frozen=True)
class MapSettings:
    """Maps that are drawn of a reconstruction on rings.

    Attributes
    ----------
    nside : int
        Resolution.
    minimum_exposure : float
        Part of the peak exposure below which nothing is drawn.
    smoothing : str
        Radius of the discs of the significance map.
    null_lmax : int
        0: significance against no anisotropy. L: against the multipoles up to L, fitted to the same map.
    """

    __pydantic_config__ = FORBID

    nside: int = 64
    minimum_exposure: float = MINIMUM_EXPOSURE
    smoothing: str = "10 deg"
    null_lmax: int = 0

    def __post_init__(self) -> None:
        if self.nside < 1 or self.nside & (self.nside - 1):
            raise ConfigurationError(f"maps.nside {self.nside}", expected="a power of two")
        if not 0.0 <= self.minimum_exposure < 1.0:
            raise ConfigurationError(f"maps.minimum_exposure {self.minimum_exposure}", expected="a part in [0, 1)")

    @property
    def disc(self) -> TopHat:
        """The discs of the significance map."""
        return TopHat.of(read_quantity(self.smoothing, "angle", "maps.smoothing"))


@dataclass(frozen=True)
class ReconstructionConfiguration:
    """A whole reconstruction.

    Attributes
    ----------
    seed : int
        Seed of all draws: of a method that draws, and of the places of events inside their cells.
    detectors : tuple of EventSource
        Detectors, or epochs of one, that see the same sky.
    method : str
        Name of the method, see `obsfit.reconstruct.named_methods`.
    settings : mapping
        Its settings.
    rings : RingSettings
        Cells for event lists.
    lmax : int
        Largest multipole fitted to a map.
    maps : MapSettings
        Maps that are drawn.
    null_frames : tuple of str
        Frames in which nothing may be found, "anti-sidereal" and "extended-sidereal": event lists are counted in these
        too, and the result is tested.
    energy : str
        Median energy of the events, such as "10 TeV". If it is given, the dipole is written in the format that
        `obsfit fit` reads.
    measurement : str
        Key of the dipole. Default: detectors and method.
    output : str
        Folder of the results, relative to the configuration.
    """

    __pydantic_config__ = FORBID

    seed: int
    detectors: tuple[EventSource, ...]
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    rings: RingSettings = field(default_factory=RingSettings)
    lmax: int = 3
    maps: MapSettings = field(default_factory=MapSettings)
    null_frames: tuple[str, ...] = ()
    energy: str = ""
    measurement: str = ""
    output: str = "reconstruction"

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ConfigurationError("no detectors", expected="at least one table [[detectors]]")
        if self.seed < 0:
            raise ConfigurationError(f"seed {self.seed}", expected="0 or more")
        if not 1 <= self.lmax <= LMAX_SKY:
            raise ConfigurationError(f"lmax {self.lmax}", expected=f"1 to {LMAX_SKY}")
        for frame in self.null_frames:
            if frame not in NULL_FRAMES:
                raise ConfigurationError(f"null frame {frame!r}", expected=f"one of {', '.join(NULL_FRAMES)}")


@dataclass(frozen=True)
class ReconstructionProduct:
    """A reconstruction and what was made of it, in memory.

    Attributes
    ----------
    configuration : ReconstructionConfiguration
        What was asked for.
    result : MapReconstruction, MultipoleReconstruction or DipoleReconstruction
        What the method returned.
    multipoles : MultipoleReconstruction or None
        The multipoles found, or fitted to the map; None of a method that finds harmonics alone.
    harmonics : DipoleReconstruction
        Harmonics in right ascension; of multipoles, the equatorial dipole that a_11 is.
    response : ndarray, shape (n, 2 n_sky)
        What the multipoles, or else the harmonics, measure of (Re a_lm, Im a_lm) of the sky up to l = 10, in the order
        of `obsfit.reconstruct.ring_harmonics.multipoles`. Multipoles are told apart only as far as 4 l is below the
        number of time bins: for 40 bins or fewer, their response ends there.
    sky_map : CountMap or None
        Relative intensity by interpolation, its error and the expected events, of a method that makes maps.
    placed : CountMap or None
        Whole events and expectation on HEALPix; None where counts are no whole events.
    significance : SignificanceMap or None
        Of `placed`.
    nulls : tuple of NullTest
        Tests in frames where nothing may be found.
    left_out : mapping of str to str
        What was not made, and why.
    checksums : mapping of str to str
        SHA-256 of the files that were read.
    """

    configuration: ReconstructionConfiguration
    result: Result
    multipoles: MultipoleReconstruction | None
    harmonics: DipoleReconstruction
    response: FloatArray
    sky_map: CountMap | None
    placed: CountMap | None
    significance: SignificanceMap | None
    nulls: tuple[NullTest, ...]
    left_out: dict[str, str]
    checksums: dict[str, str]


def run_configured_reconstruction(
    configuration: ReconstructionConfiguration, *, base: Path
) -> ReconstructionProduct:
    """Return the reconstruction that a configuration describes; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If settings are wrong, contradict each other or the events.
    DataFormatError
        If a file cannot be used.
    ObsfitError, ConvergenceError
        If the method refuses the events.
    """
    method = named_method(configuration.method, configuration.settings)
    disc = configuration.maps.disc
    if configuration.energy:
        read_quantity(configuration.energy, "energy", "energy")
    as_map = needs_maps(configuration.method, configuration.settings)
    events = _events(configuration, base, as_map)
    sums = {
        name: value
        for source, one in zip(configuration.detectors, events, strict=True)
        for name, value in checksums(source, one, base=base).items()
    }
    try:
        result = method.reconstruct(events, rng=_generator(configuration))
        nulls = tuple(
            vanishing(_in_frame(configuration, base, method, as_map, frame)) for frame in configuration.null_frames
        )
        product = _made(configuration, method, result, events, nulls, sums)
        if isinstance(result, MapReconstruction):
            product = _with_maps(product, result, events, disc)
        if configuration.energy and not _published_method(product.harmonics.spec):
            product.left_out["dipole.ecsv"] = (
                f"{result.spec.method} keeps only a part of a dipole, see the response"
            )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return product


def product_files(product: ReconstructionProduct) -> dict[str, Callable[[Path], object]]:
    """Return what writes each file of a product, by name.

    reconstruction.h5, map.fits, counts.fits and significance.fits of methods that make maps, multipoles.ecsv,
    harmonics.ecsv, and dipole.ecsv if the energy was given.
    """
    configuration, result = product.configuration, product.result
    files: dict[str, Callable[[Path], object]] = {}
    if isinstance(result, MapReconstruction):
        files["reconstruction.h5"] = partial(
            write_record, record=result, seed=configuration.seed, configuration=asdict(configuration)
        )
    if product.sky_map is not None:
        files["map.fits"] = partial(write_count_map, count_map=product.sky_map, layout="hawc")
    if product.placed is not None:
        files["counts.fits"] = partial(write_count_map, count_map=product.placed, layout="icecube")
    if product.significance is not None and product.placed is not None:
        sky = SkyMap(product.significance.significance, product.placed.provenance)
        files["significance.fits"] = partial(save_map, sky_map=sky, column="significance")
    tables = {"harmonics.ecsv": harmonic_table(product.harmonics)}
    if product.multipoles is not None:
        tables["multipoles.ecsv"] = multipole_table(product.multipoles)
    for name, table in tables.items():
        table.meta.update(_story(product))
        files[name] = partial(table.write, format="ascii.ecsv")
    if configuration.energy and "dipole.ecsv" not in product.left_out:
        record = _measurement(product, read_quantity(configuration.energy, "energy", "energy"))
        files["dipole.ecsv"] = partial(write_dipoles, record=record, meta=_story(product))
    return files


def manifest_head(product: ReconstructionProduct) -> dict[str, Any]:
    """Return what the manifest says: how it was made and what is lost, covariance, response, null tests, versions."""
    configuration, result, harmonics = product.configuration, product.result, product.harmonics
    head = stamp(
        "reconstruction", seed=configuration.seed, configuration=asdict(configuration), data=product.checksums
    )
    head["spec"] = _spec(harmonics.spec)
    if isinstance(result, MapReconstruction):
        head |= {"iterations": result.iterations, "converged": result.converged}
    head["harmonics"] = {
        "components": _lists(harmonics.components), "covariance": _lists(harmonics.covariance),
        "systematic": _lists(harmonics.systematic),
    }  # fmt: skip
    if product.multipoles is not None:
        found = product.multipoles
        head["multipoles"] = {
            "ell": found.ell.tolist(), "m": found.m.tolist(), "real": found.alm.real.tolist(),
            "imag": found.alm.imag.tolist(), "covariance": _lists(found.covariance),
        }  # fmt: skip
    ell, m = multipoles(_sky_lmax(product))
    rows = (
        "components of the harmonics" if product.multipoles is None else "real, then imaginary parts of multipoles"
    )
    head["response"] = {
        "rows": rows, "columns": "real, then imaginary parts of a_lm of the sky", "ell": ell.tolist(), "m": m.tolist(),
        "matrix": _lists(product.response),
    }  # fmt: skip
    head["null_tests"] = [asdict(test) for test in product.nulls]
    head["left_out"] = product.left_out
    return head


def multipole_table(found: MultipoleReconstruction) -> Table:
    """Return the multipoles with their standard errors, one row for each l and m > 0."""
    error = np.sqrt(np.diag(found.covariance))
    n = found.ell.size
    table = Table(
        {
            "ell": found.ell, "m": found.m, "real": found.alm.real, "real_error": error[:n], "imag": found.alm.imag,
            "imag_error": error[n:],
        }
    )  # fmt: skip
    return table


def harmonic_table(found: DipoleReconstruction) -> Table:
    """Return the harmonics with their standard errors: components, and amplitude and phase, one row for each."""
    n = len(found.components)
    error = np.sqrt(np.diag(found.covariance)).reshape(n, 2)
    amplitude_error, phase_error = _polar_errors(found)
    order = np.arange(1, n + 1)
    table = Table(
        {
            "harmonic": order, "cosine": found.components[:, 0], "cosine_error": error[:, 0],
            "sine": found.components[:, 1], "sine_error": error[:, 1], "amplitude": found.amplitude,
            "amplitude_error": amplitude_error, "phase": np.degrees(found.phase_rad) * u.deg,
            "phase_error": np.degrees(phase_error / order) * u.deg,
        }
    )  # fmt: skip
    if found.systematic is not None:
        table["systematic_error"] = np.sqrt(np.diag(found.systematic)[::2])
    return table


def _events(configuration: ReconstructionConfiguration, base: Path, as_map: bool, frame: str = "") -> list[Events]:
    found = [
        read_source(source, base=base, rings=configuration.rings, as_map=as_map, frame=frame)
        for source in configuration.detectors
    ]
    files = [str((base / name).resolve()) for source in configuration.detectors for name in source.files]
    for name in files:
        if files.count(name) > 1:
            raise ConfigurationError(
                f"{name} is given twice",
                expected="each file once",
                remedy="The same events twice are counted twice.",
            )
    return found


def _in_frame(
    configuration: ReconstructionConfiguration, base: Path, method: Method, as_map: bool, frame: str
) -> Result:
    events = _events(configuration, base, as_map, frame)
    return method.reconstruct(events, rng=_generator(configuration, frame))


def _generator(configuration: ReconstructionConfiguration, *key: str) -> np.random.Generator:
    """Random numbers of the method; the same stream at each call."""
    return child_generator(configuration.seed, configuration.method, *key)


def _sky_lmax(product: ReconstructionProduct) -> int:
    """Largest multipole of the columns of the response: 2 n_sky = lmax (lmax + 1)."""
    return round((np.sqrt(1.0 + 4.0 * product.response.shape[1]) - 1.0) / 2.0)


def _told_lmax(lmax: int, n_time: int) -> int:
    """Largest multipole of the sky in the response of multipoles up to lmax: `RingHarmonics` needs 4 l < n_time."""
    return max(lmax, min(LMAX_SKY, (n_time - 1) // 4))


def _made(
    configuration: ReconstructionConfiguration,
    method: Method,
    result: Result,
    events: Sequence[Events],
    nulls: tuple[NullTest, ...],
    sums: dict[str, str],
) -> ReconstructionProduct:
    """The product without maps."""
    found: MultipoleReconstruction | None = None
    if isinstance(result, DipoleReconstruction):
        harmonics, response = result, _harmonic_response(configuration, method, events)
    elif isinstance(result, MapReconstruction):
        found = fit_multipoles(result, configuration.lmax, events=events)
        lmax = configuration.lmax
        response = map_response(result, lmax=lmax, lmax_sky=_told_lmax(lmax, result.grid.n_time))
        harmonics = _dipole_of(found)
    else:
        found = result
        lmax = method.lmax if isinstance(method, LowMultipoleLikelihood) else int(result.ell.max())
        bins = as_ring_counts(events)[0].grid.n_time
        response = low_multipole_response(events, lmax=lmax, lmax_sky=_told_lmax(lmax, bins))
        harmonics = _dipole_of(found)
    return ReconstructionProduct(
        configuration, result, found, harmonics, response, None, None, None, nulls, {}, sums
    )


def _with_maps(
    product: ReconstructionProduct, result: MapReconstruction, events: Sequence[Events], disc: TopHat
) -> ReconstructionProduct:
    """The product with maps on HEALPix."""
    maps = product.configuration.maps
    sky_map = _interpolated(result, events, maps)
    if not _whole(result):
        why = "counts are sums of weights or expected counts, not whole events that could be placed on pixels"
        return replace(product, sky_map=sky_map, left_out={"counts.fits": why, "significance.fits": why})
    placed = placed_map(
        result, maps.nside, rng=child_generator(product.configuration.seed, "places"),
        minimum_exposure=maps.minimum_exposure,
    )  # fmt: skip
    significance = significance_map(placed, smoothing=disc, null_lmax=maps.null_lmax)
    return replace(product, sky_map=sky_map, placed=placed, significance=significance)


def _interpolated(result: MapReconstruction, events: Sequence[Events], maps: MapSettings) -> CountMap:
    """Interpolated intensity, expected events of an isotropic sky, and the error of their number."""
    sky = interpolated_map(result, maps.nside, minimum_exposure=maps.minimum_exposure)
    expected = np.where(np.isnan(sky.delta_i), np.nan, interpolated_exposure(result, maps.nside))
    # Sums of squared weights go with the counts of a ring; one for each where there are no weights.
    rings = as_ring_counts(events)
    counts = np.sum([one.per_sky.sum(axis=1) for one in rings], axis=0)
    squares = np.sum([_squares(one).sum(axis=1) for one in rings], axis=0)
    per_count = np.divide(squares, counts, out=np.ones_like(counts), where=counts > 0.0)
    dec = np.arcsin(pixel_sin_dec(maps.nside))
    error = np.sqrt(np.interp(dec, result.grid.dec_rad, per_count) / expected)
    events_seen = np.maximum(expected * (1.0 + sky.delta_i), 0.0)
    told = replace(sky.provenance, meta={**sky.provenance.meta, "MAPTYPE": "interpolated"})
    return CountMap(events_seen, expected, told, sky.delta_i, error)


def _squares(rings: RingCounts) -> FloatArray:
    return rings.per_sky if rings.squared is None else rings.squared[2]


def _whole(result: MapReconstruction) -> bool:
    return not result.spec.settings.get("weighted", False) and bool(
        np.all(np.abs(result.counts - np.rint(result.counts)) <= 1e-6)
    )


def _harmonic_response(
    configuration: ReconstructionConfiguration, method: Method, events: Sequence[Events]
) -> FloatArray:
    """Response of harmonics, shape (2 n_harmonic, 2 n_sky)."""
    if isinstance(method, RightAscensionProjection):
        made = ring_mean_map(as_ring_counts(events))[0]
        if method.map_method is not None:
            made = method.map_method.reconstruct(events, rng=_generator(configuration))
        return method.response_matrix(made, LMAX_SKY)
    if not isinstance(method, EastWest | ForwardBackward | Rayleigh):
        raise TypeError(f"a {type(method).__name__} returns harmonics, but tells no response")
    rows = method.response(events, LMAX_SKY)
    ell, m = multipoles(LMAX_SKY)
    matrix = np.zeros((2 * len(rows), 2 * ell.size))
    for n, row in rows.items():
        chosen = np.flatnonzero(m == n)
        # cos(n alpha) comes from 2 Re a, and sin(n alpha) from -2 Im a.
        seen = 2.0 * on_equator(n) * row[ell[chosen]]
        matrix[2 * n - 2, chosen] = seen
        matrix[2 * n - 1, ell.size + chosen] = -seen
    return matrix


def _dipole_of(found: MultipoleReconstruction) -> DipoleReconstruction:
    """The equatorial dipole that a_11 is."""
    n = found.ell.size
    place = int(np.flatnonzero((found.ell == 1) & (found.m == 1))[0])
    turn = np.zeros((2, 2 * n))
    turn[0, place], turn[1, n + place] = -TO_DIPOLE, TO_DIPOLE
    vector = np.concatenate([found.alm.real, found.alm.imag])
    return DipoleReconstruction(
        (turn @ vector)[None], turn @ found.covariance @ turn.T, found.spec, found.provenance
    )


def _polar_errors(found: DipoleReconstruction) -> tuple[FloatArray, FloatArray]:
    """Standard errors of amplitude, and of the angle n times the phase, to first order; shape (n_harmonic,) each."""
    along, across = np.zeros(len(found.components)), np.zeros(len(found.components))
    for i, vector in enumerate(found.components):
        covariance = found.covariance[2 * i : 2 * i + 2, 2 * i : 2 * i + 2]
        direction = vector / np.hypot(*vector)
        normal = np.array([-direction[1], direction[0]])
        along[i] = np.sqrt(direction @ covariance @ direction)
        across[i] = np.sqrt(normal @ covariance @ normal)
    return along, across / found.amplitude


def _measurement(product: ReconstructionProduct, energy: u.Quantity) -> DipoleMeasurements:
    """The dipole as a published one."""
    found, configuration = product.harmonics, product.configuration
    spec = found.spec
    name = "+".join(spec.detectors)
    amplitude_error, phase_error = _polar_errors(found)
    cut = _zenith_cut(configuration) if spec.method == "east-west" else np.nan
    return DipoleMeasurements(
        measurement=(configuration.measurement or f"{name}-{spec.method}",), observatory=(name,),
        method=(_published_method(spec),), energy_tev=np.array([energy.to_value(u.TeV)]),
        amplitude=found.amplitude[:1], amplitude_error=amplitude_error[:1], phase_rad=found.phase_rad[:1],
        phase_error_rad=np.minimum(phase_error[:1], np.pi), limit=np.array([np.nan]), limit_level=np.array([np.nan]),
        dec_min_rad=np.array([spec.dec_min_rad]), dec_max_rad=np.array([spec.dec_max_rad]),
        zenith_max_rad=np.array([cut]), errors_usable=np.array([True]), provenance=Provenance(name),
    )  # fmt: skip


def _published_method(spec: ObservationSpec) -> str:
    """How tables of dipoles call what a method makes of one; empty for one that loses a part of it."""
    if spec.method in ONE_PASS:
        return ""
    if spec.method == "east-west":
        return "east-west"
    if not spec.settings.get("corrected", True):
        return "right-ascension projection"
    return "forward-backward" if spec.method == "forward-backward" else "deprojected"


def _zenith_cut(configuration: ReconstructionConfiguration) -> float:
    """Zenith cut of the only detector in radians, NaN where it is not known or there are several."""
    source = configuration.detectors[0]
    if len(configuration.detectors) > 1 or not source.name:
        return float("nan")
    try:
        return float(source.observatory.zenith_max.to_value(u.rad))
    except ConfigurationError:
        # Our own files need no site: the name may be any.
        return float("nan")


def _story(product: ReconstructionProduct) -> dict[str, Any]:
    """What a table says of its making, in words."""
    spec = product.harmonics.spec
    return {
        "title": f"{spec.method} of {', '.join(spec.detectors)}", "frame": spec.frame, "loss": spec.loss,
        "obsfit_version": versions()["obsfit"], "data_sha256": sorted(product.checksums.values()),
    }  # fmt: skip


def _spec(spec: ObservationSpec) -> dict[str, Any]:
    return {
        **asdict(replace(spec, settings={})),
        "settings": dict(spec.settings),
        "detectors": list(spec.detectors),
    }


def _lists(values: FloatArray | None) -> list[Any] | None:
    return None if values is None else values.tolist()
