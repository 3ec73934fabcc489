r"""Skies of a design: fields of different turbulences, one each, averaged over bands of rigidity.

An observation averages over a decade of rigidities, and the small scales of neighbouring rigidities differ: skies of
single rigidities show more of them than any observatory can. Here each band of rigidity is followed at several
rigidities and averaged. Each field has turbulence of its own, at a point of a space-filling design: what is fitted to
them afterwards is a distribution as a function of the turbulence, and no field serves a single point of it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import healpy as hp
import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError
from obsfit.execute import child_generator, run_tasks
from obsfit_models.turbulence.directions import fitted_alm, gram_matrix, jittered_directions
from obsfit_models.turbulence.displacement import map_sums
from obsfit_models.turbulence.field import MagneticField
from obsfit_models.turbulence.orbits import back_track
from obsfit_models.turbulence.plane_waves import (
    FEWEST_PER_DECADE,
    composite_waves,
    isotropic_waves,
    modes_per_decade,
)
from obsfit_models.turbulence.spectrum import TurbulenceSpectrum

FloatArray = NDArray[np.float64]

OUTER = 30.0
"""Largest wavelength, in units of the bend-over length."""
SLAB_FRACTION = {"composite": 0.2, "slab": 1.0}
"""Share of the energy that is slab, in each geometry with slab; the rest is two-dimensional."""
MEASURED = (1e-5, 1.0)
"""Gyroradii, in units of the bend-over length, at which `expected_path` was compared with orbits."""

# Mean free path over that of `_path` without the factor, at shares of the turbulence of 0.3, 0.6 and 1: six fields of
# 48 particles each, at three gyroradii and three indices, gave 0.8 to 1.5, 0.6 to 0.9, and 0.13 to 0.3.
_SHARES, _FACTORS = np.array([0.3, 0.6, 1.0]), np.array([1.1, 0.75, 0.2])


@dataclass(frozen=True, kw_only=True)
class DesignSettings:
    r"""A design of displacement skies.

    The field has the strength 1 in all, root mean square: the uniform field, along z, holds the share
    :math:`1 - \eta` of its energy and the turbulence :math:`\eta = \sigma^2 / (1 + \sigma^2)`, with
    :math:`\sigma^2 = \langle \delta B^2 \rangle / B_0^2`. Gyroradii are those in a field of strength 1, in units of
    the bend-over length.

    Attributes
    ----------
    seed : int
        Seed of the design, the fields and the directions; each field has its own stream, keyed by its number.
    fields : int
        Number of fields. More of them are a continuation.
    turbulent_share : (float, float)
        Range of :math:`\eta`.
    energy_index : (float, float)
        Range of the index q of the spectrum, :math:`E(k) \propto k^{-q}`.
    gyroradius : (float, float)
        Range of the gyroradii, a whole number of bands.
    bands_per_decade : int
        Number of bands of rigidity in a decade.
    per_band : int
        Number of gyroradii at which a band is followed, evenly spaced in the logarithm.
    mean_free_paths : (float, float)
        Times of back-tracking in mean free times, of `expected_path`.
    nside : int
        Resolution of the directions, one at random in each pixel, anew for each field and set.
    lmax : int
        Largest multipole kept.
    sets : int
        Independent sets of directions.
    modes_per_decade : float
        Density of waves in the logarithm of the wavenumber.
    resolved_to : float
        Each rigidity sees the waves with k r_L up to this.
    geometry : str
        "isotropic", "slab", or "composite" of slab and two-dimensional waves.
    output : str
        Folder of the results, relative to the file.
    """

    __pydantic_config__ = FORBID

    seed: int
    fields: int
    turbulent_share: tuple[float, float] = (0.3, 1.0)
    energy_index: tuple[float, float] = (1.5, 1.9)
    gyroradius: tuple[float, float] = (10.0**-3.5, 1.0)
    bands_per_decade: int = 4
    per_band: int = 4
    mean_free_paths: tuple[float, float] = (3.0, 6.0)
    nside: int = 8
    lmax: int = 10
    sets: int = 2
    modes_per_decade: float = 25.0
    resolved_to: float = 10.0
    geometry: Literal["isotropic", "composite", "slab"] = "isotropic"
    output: str = "design"

    @property
    def edges(self) -> FloatArray:
        """Edges of the bands in gyroradius, increasing, shape (n_band + 1,)."""
        low, high = np.log10(self.gyroradius)
        return 10.0 ** np.linspace(low, high, round((high - low) * self.bands_per_decade) + 1)

    @property
    def followed(self) -> FloatArray:
        """Gyroradii that are followed, shape (n_band, per_band)."""
        edges = np.log10(self.edges)
        inside = (np.arange(self.per_band) + 0.5) / self.per_band
        return 10.0 ** (edges[:-1, None] + np.diff(edges)[:, None] * inside)


def check_design(settings: DesignSettings) -> None:
    """Refuse settings that make no sense, before anything is computed; the first that is found.

    Raises
    ------
    ConfigurationError
        Naming the key and its value.
    """
    for key, low in (
        ("seed", 0),
        ("fields", 1),
        ("bands_per_decade", 1),
        ("per_band", 1),
        ("lmax", 1),
        ("sets", 1),
    ):
        if getattr(settings, key) < low:
            raise _refuse(settings, key, f"a whole number, at least {low}")
    for key, ends in (
        ("turbulent_share", (0.0, 1.0)),
        ("energy_index", (1.0, 3.0)),
        ("gyroradius", (0.0, np.inf)),
    ):
        low, high = getattr(settings, key)
        if not ends[0] < low < high <= ends[1]:
            raise _refuse(settings, key, f"two numbers that increase, above {ends[0]:g}, at most {ends[1]:g}")
    low, high = np.log10(settings.gyroradius) * settings.bands_per_decade
    if abs(high - low - round(high - low)) > 1e-6:
        raise _refuse(settings, "gyroradius", f"a whole number of bands, {settings.bands_per_decade} per decade")
    if not 0 < settings.mean_free_paths[0] < settings.mean_free_paths[1]:
        raise _refuse(settings, "mean_free_paths", "two positive numbers that increase")
    if not hp.isnsideok(settings.nside, nest=True) or settings.nside > 512:
        raise _refuse(settings, "nside", "a power of two, at most 512")
    if 2 * (settings.lmax + 1) ** 2 > hp.nside2npix(settings.nside):
        raise _refuse(
            settings, "lmax", f"(lmax + 1)^2 at most half of the {hp.nside2npix(settings.nside)} directions"
        )
    if not settings.modes_per_decade >= FEWEST_PER_DECADE:
        raise _refuse(settings, "modes_per_decade", f"at least {FEWEST_PER_DECADE:g}, better 20 or more")
    if not settings.resolved_to >= 1:
        raise _refuse(settings, "resolved_to", "10 or more, at least 1: below it there is no wave in resonance")
    if settings.gyroradius[0] < MEASURED[0] * (1 - 1e-9) or settings.gyroradius[1] > MEASURED[1] * (1 + 1e-9):
        raise _refuse(
            settings, "gyroradius",
            f"{MEASURED[0]:g} to {MEASURED[1]:g} bend-over lengths: elsewhere no mean free path is known, and times "
            "of back-tracking are counted in those",
        )  # fmt: skip


def _refuse(settings: DesignSettings, key: str, expected: str) -> ConfigurationError:
    value = getattr(settings, key)
    return ConfigurationError(f"{key} = {value!r}", value=value, expected=expected)


def design_points(settings: DesignSettings) -> FloatArray:
    """Return turbulent share and index of each field, shape (fields, 2): a scrambled Sobol sequence (Owen 1995).

    Examples
    --------
    >>> design_points(DesignSettings(seed=1, fields=3)).shape
    (3, 2)
    """
    sequence = qmc.Sobol(2, rng=child_generator(settings.seed, "design"))
    unit = sequence.random_base2(int(np.ceil(np.log2(max(settings.fields, 2)))))[: settings.fields]
    low, high = np.transpose([settings.turbulent_share, settings.energy_index])
    return np.asarray(low + (high - low) * unit)


def expected_path(gyroradius: float, turbulent_share: float, energy_index: float) -> float:
    r"""Return about the mean free path in gyroradii: the unit in which times of back-tracking are chosen.

    .. math:: \frac{11.3}{\eta} \left(\frac{r_L}{0.1\,\lambda_c}\right)^{1 - q} F(\eta)

    The power law is that of resonant scattering, the factor F was measured. It is right to a factor of 1.5 along the
    mean field, from gyroradii of 1 down to 1e-4. In strong turbulence the lines of the field point across the mean
    field as well, and particles of small gyroradii follow them: the trace of 3 K is 2 to 3 times this at 1e-4 and
    below. Times are multiples of it, and what the mean free path is in a field is measured from its own orbits.
    """
    factor = np.exp(np.interp(turbulent_share, _SHARES, np.log(_FACTORS)))
    return float(11.3 / turbulent_share * (gyroradius / 0.1) ** (1.0 - energy_index) * factor)


def design_field(settings: DesignSettings, share: float, index: float, field: int) -> MagneticField:
    """Return the field of strength 1 with a number: uniform along z, plus plane waves."""
    rng = child_generator(settings.seed, "field", field)
    spectrum = TurbulenceSpectrum(
        2 * np.pi * settings.followed.min() / settings.resolved_to, OUTER, index, 1.0, 2.0
    )
    modes, rms = modes_per_decade(spectrum, settings.modes_per_decade), np.sqrt(share)
    uniform = MagneticField(uniform=np.array([0.0, 0.0, np.sqrt(1.0 - share)]))
    if settings.geometry == "isotropic":
        return uniform + isotropic_waves(spectrum, modes=modes, rms=rms, rng=rng)
    slab = SLAB_FRACTION[settings.geometry]
    return uniform + composite_waves(spectrum, slab_fraction=slab, modes=modes, rms=rms, rng=rng)


def design_task(settings: DesignSettings, share: float, index: float, field: int) -> dict[str, Any]:
    r"""Return the sky of one field in all bands.

    Returns
    -------
    dict
        ``alm``, complex, shape (n_band, n_set, n_time, 6, n_alm): means over the gyroradii of a band of the
        displacements :math:`r_L x_i(n)` in units of the bend-over length, and of :math:`r_L \Lambda p_i(n)` with the
        expected path :math:`\Lambda`, from which the dipole of diffusion follows. ``product``, shape
        (n_band, per_band, n_time, 2): means over directions of :math:`z^2` and :math:`(x^2 + y^2) / 2` in squared
        gyroradii. ``time``, shape (n_band, per_band, n_time), in 1/Omega. ``cpu_s``.
    """
    begun = time.process_time()
    whole = design_field(settings, share, index, field)
    followed, n_time = settings.followed, len(settings.mean_free_paths)
    size = hp.Alm.getsize(settings.lmax)
    alm = np.zeros((followed.shape[0], settings.sets, n_time, 6, size), dtype=np.complex128)
    product, times = np.zeros((*followed.shape, n_time, 2)), np.zeros((*followed.shape, n_time))
    for one in range(settings.sets):
        directions = jittered_directions(
            settings.nside, rng=child_generator(settings.seed, "directions", field, one)
        )
        gram = gram_matrix(directions, settings.lmax)
        for (b, i), radius in np.ndenumerate(followed):
            path = expected_path(radius, share, index)
            times[b, i] = np.array(settings.mean_free_paths) * path
            orbits = back_track(
                whole.up_to(settings.resolved_to / radius), directions, times[b, i], gyroradius=radius, single=True
            )
            position, momentum = orbits.position * radius, orbits.momentum * (radius * path)
            sums, _ = map_sums(directions, position, momentum, settings.lmax)
            alm[b, one] += fitted_alm(sums, gram) / settings.per_band
            square = np.mean(orbits.position**2, axis=-1)
            product[b, i, :, 0] += square[:, 2] / settings.sets
            product[b, i, :, 1] += 0.5 * (square[:, 0] + square[:, 1]) / settings.sets
    return {
        "alm": alm.astype(np.complex64), "product": product, "time": times, "cpu_s": time.process_time() - begun
    }  # fmt: skip


def run_design(
    settings: DesignSettings,
    *,
    base: Path,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return the results of `design_task` for all fields in order; those in the store are not computed again."""
    return run_tasks(
        partial(_task, settings), [("field", field) for field in range(settings.fields)],
        store=base / settings.output, configuration=design_identity(settings), workers=workers,
        scheduler=scheduler, progress=progress,
    )  # fmt: skip


def design_identity(settings: DesignSettings) -> dict[str, Any]:
    """Return what the sky of a field depends on: all but the number of fields and the place of the results."""
    found = asdict(settings)
    del found["fields"], found["output"]
    return found


def _task(settings: DesignSettings, what: str, field: int) -> dict[str, Any]:
    share, index = design_points(settings)[field]
    return design_task(settings, float(share), float(index), field)
