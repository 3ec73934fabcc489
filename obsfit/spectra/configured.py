"""An angular power spectrum described by a TOML file: map, field of view, weight, noise, decoupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.count_maps import read_count_map
from obsfit.ingest.maps import load_map
from obsfit.ingest.record_files import read_record
from obsfit.ingest.spectra import write_spectrum
from obsfit.provenance import sha256, stamp, versions
from obsfit.records.count_map import CountMap
from obsfit.records.reconstruction import MapReconstruction
from obsfit.records.sky_map import SkyMap
from obsfit.records.spectrum import PowerSpectrum
from obsfit.sky.coupling import power_coupling
from obsfit.sky.ring_means import pixel_sin_dec
from obsfit.spectra.covariance import pseudo_moments
from obsfit.spectra.decoupling import LARGEST_CONDITION, DecoupledSpectrum, decouple, equal_bins
from obsfit.spectra.noise import exposure_noise, noise_covariances
from obsfit.spectra.pseudo import pseudo_spectrum
from obsfit.spectra.windows import is_zonal, map_coupling, pixel_weight

FloatArray = NDArray[np.float64]

MANIFEST = "spectrum.json"
INTERPOLATED = "interpolated"
"""Keyword MAPTYPE of a map whose pixels share events."""
BEYOND = 10
"""Multipoles beyond the last one of a spectrum from which leakage is followed."""


@dataclass(frozen=True)
class WeightSettings:
    """Field of view and weight.

    Attributes
    ----------
    kind : str
        "uniform"; "power", a power of |sin(declination)|, of mean one in the field of view; or "counts", the expected
        events of the map over their mean. A fit knows the first two.
    exponent : float
        Of "power".
    dec_min, dec_max : str
        Declinations between which pixels are used; empty for all that is observed.
    """

    __pydantic_config__ = FORBID

    kind: Literal["uniform", "power", "counts"] = "uniform"
    exponent: float = 0.0
    dec_min: str = ""
    dec_max: str = ""

    def band(self) -> tuple[float, float]:
        """Return sines of the limits in declination."""
        texts = ((self.dec_min or "-90 deg", "dec_min"), (self.dec_max or "90 deg", "dec_max"))
        low, high = (float(read_quantity(text, "angle", f"weight.{key}").to_value("rad")) for text, key in texts)
        if not -0.5 * np.pi <= low < high <= 0.5 * np.pi:
            raise ConfigurationError(
                f"weight between {texts[0][0]} and {texts[1][0]}",
                expected="-90 deg <= dec_min < dec_max <= 90 deg",
            )
        return float(np.sin(low)), float(np.sin(high))


@dataclass(frozen=True)
class DecouplingSettings:
    """Bins of the powers of the sky that the pseudo-spectrum is decoupled into; see `obsfit.spectra.decouple`.

    Attributes
    ----------
    width : int
        Multipoles in each bin.
    ell_min, ell_max : int
        First and last multipole; 0 for the last one of the spectrum.
    largest_condition : float
        Refuse a matrix of a larger condition number.
    """

    __pydantic_config__ = FORBID

    width: int = 3
    ell_min: int = 1
    ell_max: int = 0
    largest_condition: float = LARGEST_CONDITION


@dataclass(frozen=True)
class SpectrumConfiguration:
    """A whole spectrum.

    Attributes
    ----------
    map : str
        HEALPix FITS file, relative to the configuration: counts and background, or relative intensity minus one. Of a
        reconstruction, counts.fits; the pixels of its map.fits share events, and their noise is not known.
    energy : str
        Median primary energy, such as "10 TeV".
    column : str
        Column of the map. Empty: counts over background, or the relative intensity beside them; without noise, the
        first column.
    zeros_unobserved : bool
        Take rings of zeros for unobserved.
    measurement : str
        Key of the spectrum. Default: the name of the map's file.
    lmax : int
        Largest multipole.
    filtered : bool
        Whether ring means are subtracted, as for every map that calibrates itself on its own data.
    weight : WeightSettings
        Field of view and weight.
    noise : str
        "map": from the expected events of the map, its columns data and background. "none": unknown.
    reconstruction : str
        Our file of the reconstruction by the iterative likelihood that the map is of: adds the noise of the fitted
        exposure. Empty: none is added.
    decoupling : DecouplingSettings or None
        Bins of powers of the sky; None for none.
    covariance : bool
        Whether to write the covariance of the pseudo-powers: of noise, and of isotropic skies with the decoupled power.
    output : str
        Folder of the results, relative to the configuration.
    """

    __pydantic_config__ = FORBID

    map: str
    energy: str
    column: str = ""
    zeros_unobserved: bool = False
    measurement: str = ""
    lmax: int = 30
    filtered: bool = True
    weight: WeightSettings = field(default_factory=WeightSettings)
    noise: Literal["map", "none"] = "map"
    reconstruction: str = ""
    decoupling: DecouplingSettings | None = None
    covariance: bool = False
    output: str = "spectrum"

    def __post_init__(self) -> None:
        if self.noise == "none" and (self.weight.kind == "counts" or self.reconstruction or self.covariance):
            raise ConfigurationError(
                'noise = "none", but weight "counts", reconstruction or covariance need the events of the map',
                expected='noise = "map"',
            )


@dataclass(frozen=True)
class SpectrumProduct:
    """A spectrum and what was made of it, in memory.

    Attributes
    ----------
    configuration : SpectrumConfiguration
        What was asked for.
    spectrum : PowerSpectrum
        The pseudo-spectrum.
    decoupled : DecoupledSpectrum or None
        Powers of the sky in bins.
    covariance : ndarray, shape (n, n), or None
        Of the pseudo-powers.
    checksums : mapping of str to str
        SHA-256 of the files that were read.
    """

    configuration: SpectrumConfiguration
    spectrum: PowerSpectrum
    decoupled: DecoupledSpectrum | None
    covariance: FloatArray | None
    checksums: dict[str, str]


def run_configured_spectrum(configuration: SpectrumConfiguration, *, base: Path) -> SpectrumProduct:
    """Return the spectrum that a configuration describes; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If settings are wrong or contradict the map.
    DataFormatError
        If a file cannot be used.
    ObsfitError
        If the coupling is too ill-conditioned to be inverted.
    """
    energy = read_quantity(configuration.energy, "energy", "energy")
    sky, counted = _map(configuration, base / configuration.map)
    sums = {configuration.map: sky.provenance.sha256}
    try:
        weight = _weight(configuration, sky, counted)
        variance = None if counted is None else _variance(counted, weight)
        extra = None
        if configuration.reconstruction:
            sums[configuration.reconstruction] = sha256(base / configuration.reconstruction)
            extra = exposure_noise(
                _reconstruction(base / configuration.reconstruction), weight, configuration.lmax
            )
        spectrum = pseudo_spectrum(
            sky, energy=energy, weight=weight, filter_m0=configuration.filtered, lmax=configuration.lmax,
            variance=variance, extra_noise=extra, measurement=configuration.measurement,
        )  # fmt: skip
        decoupled, covariance = _decoupled(configuration, spectrum, weight, variance, extra)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return SpectrumProduct(configuration, spectrum, decoupled, covariance, sums)


def product_files(product: SpectrumProduct) -> dict[str, Callable[[Path], object]]:
    """Return what writes each file of a product, by name: spectrum.ecsv, and decoupled.ecsv and covariance.ecsv."""
    configuration = product.configuration
    weight = configuration.weight
    meta: dict[str, Any] = {
        "title": f"Pseudo-spectrum of {Path(configuration.map).name}", "weight": weight.kind,
        "obsfit_version": versions()["obsfit"], "data_sha256": sorted(product.checksums.values()),
    }  # fmt: skip
    if weight.kind == "power":
        meta["weight_exponent"] = repr(weight.exponent)
    files: dict[str, Callable[[Path], object]] = {
        "spectrum.ecsv": partial(write_spectrum, spectrum=product.spectrum, meta=meta)
    }
    if product.decoupled is not None:
        table = decoupled_table(product.decoupled)
        table.meta.update(meta | {"record": "table", "condition": product.decoupled.condition})
        files["decoupled.ecsv"] = partial(table.write, format="ascii.ecsv")
    if product.covariance is not None:
        rows = Table(product.covariance, names=[f"ell_{ell}" for ell in product.spectrum.ell])
        rows.meta.update(meta | {"record": "table", "of": "pseudo-powers, rows as columns"})
        files["covariance.ecsv"] = partial(rows.write, format="ascii.ecsv")
    return files


def manifest_head(product: SpectrumProduct) -> dict[str, Any]:
    """Return what the manifest says of the making of a spectrum."""
    head = stamp("power-spectrum", configuration=asdict(product.configuration), data=product.checksums)
    decoupled = product.decoupled
    if decoupled is not None:
        head["decoupled"] = {
            "ell_low": decoupled.ell_low.tolist(), "ell_high": decoupled.ell_high.tolist(),
            "window": decoupled.window.tolist(), "condition": decoupled.condition,
        }  # fmt: skip
    return head


def spectrum_table(spectrum: PowerSpectrum) -> Table:
    """Return the pseudo-powers, their noise and the band of isotropic skies, one row for each l; masked if unknown."""
    table = Table({"ell": spectrum.ell, "c_ell": spectrum.c_ell}, masked=True)
    for name in ("noise", "isotropic_low", "isotropic_high"):
        table[name] = MaskedColumn(np.ma.masked_invalid(getattr(spectrum, name)))
    return table


def decoupled_table(found: DecoupledSpectrum) -> Table:
    """Return the powers of the sky with their standard errors, one row for each bin."""
    table = Table(
        {"ell_low": found.ell_low, "ell_high": found.ell_high, "c_ell": found.c_ell, "noise": found.noise}
    )
    if found.covariance is not None:
        table["error"] = np.sqrt(np.diag(found.covariance))
    return table


def _map(configuration: SpectrumConfiguration, path: Path) -> tuple[SkyMap, CountMap | None]:
    """The relative intensity, and the events that it was made of where its noise is wanted."""
    counted = read_count_map(path) if configuration.noise == "map" else None
    if counted is not None and counted.provenance.meta.get("MAPTYPE") == INTERPOLATED:
        raise ConfigurationError(
            "the map was interpolated: its noise is not that of the events of its pixels", path=path,
            expected="a map of counts, or no noise",
            remedy='Take counts.fits, which is beside it, or noise = "none".',
        )  # fmt: skip
    if counted is not None and not configuration.column:
        return counted.sky_map(), counted
    return load_map(path, column=configuration.column, zeros_unobserved=configuration.zeros_unobserved), counted


def _weight(configuration: SpectrumConfiguration, sky: SkyMap, counted: CountMap | None) -> FloatArray:
    settings = configuration.weight
    low, high = settings.band()
    sine = pixel_sin_dec(sky.nside)
    seen = np.isfinite(sky.delta_i) & (sine >= low) & (sine <= high)
    if not seen.any():
        raise ConfigurationError(
            f"no observed pixel between {settings.dec_min or '-90 deg'} and {settings.dec_max or '90 deg'}",
            expected="a part of the field of view",
        )
    values = np.abs(sine) ** settings.exponent if settings.kind == "power" else np.ones(sine.size)
    if settings.kind == "counts" and counted is not None:
        values = counted.background
    if settings.kind != "uniform":
        values = values / np.nanmean(np.where(seen, values, np.nan))
    return pixel_weight(np.where(seen, values, 0.0), sky)


def _variance(counted: CountMap, weight: FloatArray) -> FloatArray:
    """Variance of the relative intensity of each pixel: from its error where it is known, else from the events."""
    error = counted.error
    variance = 1.0 / counted.background if error is None else error**2
    return np.where(weight > 0.0, variance, 0.0)


def _reconstruction(path: Path) -> MapReconstruction:
    record = read_record(path)
    if not isinstance(record, MapReconstruction):
        raise DataFormatError(f"holds a {type(record).__name__}", path=path, expected="a reconstruction on rings")
    if record.spec.method != "iterative-likelihood" or record.spec.settings.get("weighted", False):
        raise ConfigurationError(
            f"the reconstruction is by {record.spec.method}", path=path,
            expected="iterative-likelihood of unweighted events",
            remedy="The noise of a fitted exposure is known of that method alone: leave reconstruction out.",
        )  # fmt: skip
    return record


def _decoupled(
    configuration: SpectrumConfiguration,
    spectrum: PowerSpectrum,
    weight: FloatArray,
    variance: FloatArray | None,
    extra: FloatArray | None,
) -> tuple[DecoupledSpectrum | None, FloatArray | None]:
    settings, lmax = configuration.decoupling, configuration.lmax
    if settings is None and not configuration.covariance:
        return None, None
    if configuration.weight.kind == "counts" and not is_zonal(weight):
        raise ConfigurationError(
            'weight "counts" depends on right ascension, and mixes multipoles of different m',
            expected='weight "uniform" or "power" where the spectrum is decoupled or its covariance computed',
        )
    coupling = map_coupling(weight, lmax + BEYOND, filtered=configuration.filtered, lmax_out=lmax)
    noise = None
    if variance is not None:
        noise = noise_covariances(weight, variance, lmax, filtered=configuration.filtered)
        noise = noise if extra is None else noise + extra
    decoupled = covariance = None
    if settings is not None:
        bins = equal_bins(settings.ell_min, settings.ell_max or lmax, settings.width)
        matrix = power_coupling(coupling)
        subtract = noise is not None
        decoupled = decouple(
            spectrum, matrix, bins=bins, subtract_noise=subtract, largest_condition=settings.largest_condition
        )
    if configuration.covariance:
        power = np.zeros(lmax + BEYOND + 1)
        if decoupled is not None:
            for low, high, value in zip(decoupled.ell_low, decoupled.ell_high, decoupled.c_ell, strict=True):
                power[low : high + 1] = max(float(value), 0.0)
        covariance = pseudo_moments(coupling, power, noise=noise, lmax=lmax).covariance
    if decoupled is not None and covariance is not None and settings is not None:
        decoupled = decouple(
            spectrum, matrix, bins=bins, covariance=covariance, subtract_noise=subtract,
            largest_condition=settings.largest_condition,
        )  # fmt: skip
    return decoupled, covariance
