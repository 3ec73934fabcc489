"""A posterior of the one sky described by a TOML file: maps, bands, noise, priors, sampler, output."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import astropy.units as u
import numpy as np

from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError
from obsfit.infer.observed_harmonics import NoiseProfile, ObservedHarmonics, map_harmonics
from obsfit.infer.sky_sampler import SkyPosterior, SkyPrior, SkySamplerSettings, sample_sky
from obsfit.ingest.catalogue import load_table, located
from obsfit.ingest.maps import load_map
from obsfit.sky.smoothing import top_hat_window

NOISE_REACH = 4
"""Smoothed noise is followed to this many times the largest multipole."""


@dataclass(frozen=True)
class ObservatorySettings:
    """One declination band of a map.

    Attributes
    ----------
    name : str
        Observatory.
    map : str
        HEALPix FITS file, relative to the configuration.
    column : str
        Its column of relative intensity; default the first.
    dec_min, dec_max : str
        Band, such as "-20 deg".
    noise : str
        Table of errors against declination: a shipped name or a path.
    smoothing : str
        Radius of the discs over which map and noise were averaged, such as "5 deg"; empty for none.
    """

    __pydantic_config__ = FORBID

    name: str
    map: str
    dec_min: str
    dec_max: str
    noise: str
    column: str = ""
    smoothing: str = ""


@dataclass(frozen=True)
class SkyConfiguration:
    """A whole run.

    Attributes
    ----------
    seed : int
        Seed of all draws.
    observatories : tuple of ObservatorySettings
        Bands that see one sky, with independent noise; amplitudes are relative to the first.
    lmax : int
        Largest multipole of the true sky.
    lmax_data : int
        Largest multipole of the pseudo a_lm that are used. What lies between it and `lmax` is sampled so that it is
        taken for nothing else; well above `lmax` little leaks in. Let it be a little above `sampler.report`.
    prior, sampler
        Priors of power and nuisances, and how long to sample.
    output : str
        Folder of the results, relative to the file.
    """

    __pydantic_config__ = FORBID

    seed: int
    observatories: tuple[ObservatorySettings, ...]
    lmax: int = 36
    lmax_data: int = 24
    prior: SkyPrior = field(default_factory=SkyPrior)
    sampler: SkySamplerSettings = field(default_factory=SkySamplerSettings)
    output: str = "one-sky"


def configured_harmonics(configuration: SkyConfiguration, *, base: Path) -> tuple[ObservedHarmonics, ...]:
    """Return the data that a configuration describes; paths are relative to `base`.

    Raises
    ------
    ConfigurationError
        If a quantity is wrong, a band is not observed everywhere, or two bands of one map overlap.
    DataFormatError
        If a map or a table cannot be used.
    """
    if not 1 <= configuration.lmax_data <= configuration.lmax:
        raise ConfigurationError(
            f"lmax_data = {configuration.lmax_data}, lmax = {configuration.lmax}",
            expected="1 <= lmax_data <= lmax",
        )
    _refuse_shared_pixels(configuration)
    found = []
    for one in configuration.observatories:
        sky = load_map(base / one.map, column=one.column)
        low, high = _band(one)
        radius = read_quantity(one.smoothing, "angle", f"smoothing of {one.name}") if one.smoothing else None
        try:
            found.append(
                map_harmonics(
                    sky, name=one.name, dec_min=low, dec_max=high,
                    noise=NoiseProfile.from_table(load_table(located(one.noise, base))),
                    lmax=configuration.lmax, lmax_out=configuration.lmax_data,
                    smoothing=None if radius is None else top_hat_window(radius, NOISE_REACH * configuration.lmax),
                )
            )  # fmt: skip
        except ValueError as error:
            raise ConfigurationError(f"observatory {one.name}: {error}") from error
    return tuple(found)


def run_configured_sky(
    configuration: SkyConfiguration, *, base: Path, resume: bool, overwrite: bool, progress: bool
) -> SkyPosterior:
    """Run a configuration, storing ``sky.h5`` in its output folder, and return the posterior."""
    return sample_sky(
        configured_harmonics(configuration, base=base), rng=np.random.default_rng(configuration.seed),
        prior=configuration.prior, settings=configuration.sampler, store=base / configuration.output / "sky.h5",
        resume=resume, overwrite=overwrite, progress=progress, seed=configuration.seed,
        configuration=asdict(configuration),
    )  # fmt: skip


def _refuse_shared_pixels(configuration: SkyConfiguration) -> None:
    """The same pixels twice are the same measurement twice."""
    for k, one in enumerate(configuration.observatories):
        for other in configuration.observatories[:k]:
            (low, high), (other_low, other_high) = _band(one), _band(other)
            low, high = max(low, other_low), min(high, other_high)
            if (one.map, one.column) == (other.map, other.column) and low < high:
                raise ConfigurationError(
                    f"{other.name} and {one.name} are bands of one map that share {low} to {high}",
                    expected="bands without common pixels: their noise must be independent",
                )


def _band(one: ObservatorySettings) -> tuple[u.Quantity, u.Quantity]:
    return (
        read_quantity(one.dec_min, "angle", f"dec_min of {one.name}"),
        read_quantity(one.dec_max, "angle", f"dec_max of {one.name}"),
    )
