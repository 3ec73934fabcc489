"""Simulated turbulence: skies of a density gradient in fields of many turbulences, for emulators to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.stats import anglit, uniform

from obsfit.errors import ConfigurationError, ModelDomainError
from obsfit.parameters import Parameter, draw_prior
from obsfit.protocols import EnsembleSummary
from obsfit.sky.harmonics import truncated_alm
from obsfit_models.turbulence.design_library import DesignLibrary, cut_design, read_design, write_design
from obsfit_models.turbulence.sky_design import DesignSettings, check_design, expected_path, run_design

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

REFERENCE_TV = 10.0
"""Rigidity of the parameters log10_gyroradius and log10_amplitude, in TV."""
PRODUCT = "design.h5"
SHIPPED = "design.h5"

BELOW, ABOVE = 1.1, 1.6
"""Decades of rigidity below and above 10 TV that hold all but 5 % of the events of data at 10 to 42 TeV."""


def _parameters(
    gyroradius: Sequence[float], share: Sequence[float], index: Sequence[float]
) -> tuple[Parameter, ...]:
    """The parameters, with priors over ranges of log10 of the gyroradius, of the turbulent share and of the index."""
    # scipy's anglit with scale 2 has density cos(x) / 2: directions all over the sphere are equally likely.
    return (
        Parameter(
            "log10_gyroradius", _between(*gyroradius), unit="",
            description="log10 of the gyroradius at 10 TV over the bend-over length, in the rms of the total field",
            latex=r"\log_{10} r_L / \lambda_c",
        ),
        Parameter(
            "turbulent_share", _between(*share), unit="",
            description="share of the turbulence in the energy of the field, sigma^2 / (1 + sigma^2)", latex=r"\eta",
        ),
        Parameter(
            "energy_index", _between(*index), unit="",
            description="index q of the energy spectrum, E(k) as k^-q; 5/3 is Kolmogorov's", latex="q",
        ),
        Parameter(
            "log10_amplitude", uniform(-3.6, 1.3), unit="",
            description="log10 of the dipole that the gradient of the density is expected to make at 10 TV",
            latex=r"\log_{10} A",
        ),
        Parameter(
            "gradient_angle", anglit(0.5 * np.pi, 2.0), unit="rad",
            description="angle between the gradient of the density and the mean field", latex=r"\theta_\nabla",
        ),
        Parameter(
            "gradient_declination", anglit(0.0, 2.0), unit="rad",
            description="declination towards which the density grows", latex=r"\delta_\nabla",
        ),
        Parameter(
            "gradient_right_ascension", uniform(0.0, 2.0 * np.pi), unit="rad",
            description="right ascension towards which the density grows", latex=r"\alpha_\nabla",
            period=2.0 * np.pi,
        ),
    )  # fmt: skip


def _between(low: float, high: float) -> Any:
    """The uniform law between two numbers, which decimals of a configuration leave as they are written."""
    return uniform(low, round(high - low, 9))


@dataclass(frozen=True)
class SimulatedTurbulence:
    r"""Skies of a density gradient seen through fields of many turbulences, one field of each.

    .. math:: \delta I(n) = \left[r_i(-T) - 3 K_{ij}\, \hat p_j(-T)\right] \partial_i \ln n_\mathrm{CR},

    Eq. (64) of AM17, with the maps of a design of fields (`sky_design`). Each field has a turbulent share and an index
    of its own; the gyroradius at 10 TV, the gradient and its direction are free. Nothing can be drawn at parameters of
    choice: from what it offers (`obsfit.protocols.OffersSimulations`) an emulator learns the distribution of data as a
    function of them.

    The amplitude stands for the gradient of the density, :math:`\nabla n / n`,

    .. math:: A = \frac{|\nabla n|}{n}\, r_L \Lambda \sqrt{\cos^2\theta_\nabla + \eta^4 \sin^2\theta_\nabla}

    with the expected mean free path :math:`\Lambda` (`sky_design.expected_path`) at 10 TV: about the dipole that comes
    of it, so that the prior of the dipole hardly depends on the other parameters. A gradient across the mean field
    makes a dipole smaller by about :math:`\eta^2`: the medians of the fields of the design are 0.11, 0.15, 0.19, 0.39,
    0.45, 0.74 and 0.84 at :math:`\eta` from 0.35 to 0.95.

    Parameters
    ----------
    library : Path or str, optional
        Product of ``obsfit ensemble`` with ``model = "simulated-turbulence"``. Default: the first 40 fields of
        ``analyses/turbulence/design.toml``, which are shipped: enough to learn how to go about it. Priors of share and
        index are the ranges of its design.
    continued_decades : float
        By how many decades skies go on below the smallest gyroradius of the library, under the hypothesis that they
        stay those of its lowest band, in units of gyroradius times expected path.
    log10_gyroradius : (float, float), optional
        Range of the gyroradius at 10 TV. Default: `BELOW` above the smallest gyroradius there is, to `ABOVE` below
        the largest, which keeps all but 5 % of the events of data at 10 to 42 TeV inside.

    Raises
    ------
    ConfigurationError
        If a number makes no sense.
    """

    library: Path | str | None = None
    continued_decades: float = 0.0
    log10_gyroradius: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.continued_decades <= 2.0:
            raise ConfigurationError(f"continued_decades = {self.continued_decades}", expected="0 to 2")
        if self.log10_gyroradius is not None and not self.log10_gyroradius[0] < self.log10_gyroradius[1]:
            raise ConfigurationError(
                f"log10_gyroradius = {self.log10_gyroradius}", expected="two numbers that increase"
            )

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return "simulated-turbulence"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Turbulence, gradient and its direction.

        Raises
        ------
        ConfigurationError
            If the library holds too few rigidities for data at 10 to 42 TeV, and no range of gyroradii is given.
        DataFormatError
            As `skies`.
        """
        made, radii = self.skies.configuration, self.log10_gyroradius
        if radii is None:
            ends = np.log10(made["gyroradius"])
            radii = (round(float(ends[0]) - self.continued_decades + BELOW, 6), round(float(ends[1]) - ABOVE, 6))
            if not radii[0] < radii[1]:
                raise ConfigurationError(
                    f"the library holds {ends[1] - ends[0]:.2g} decades of rigidity", path=self.library,
                    expected=f"more than {BELOW + ABOVE:.2g}, which the energies of data at 10 to 42 TeV span",
                    remedy="Make a wider design, or give log10_gyroradius, the range at 10 TV.",
                )  # fmt: skip
        return _parameters(radii, made["turbulent_share"], made["energy_index"])

    @property
    def ensemble_settings(self) -> type[Any]:
        """Settings of a design, see `sky_design.DesignSettings`."""
        return DesignSettings

    def run_ensemble(
        self,
        settings: DesignSettings,
        *,
        base: Path,
        workers: int,
        scheduler: str | None,
        progress: bool,
        overwrite: bool,
    ) -> EnsembleSummary:
        """Compute a design, resumable, and write its library to ``design.h5`` in its output folder.

        Raises
        ------
        ConfigurationError
            As `sky_design.check_design`, and if there is a library that may not be replaced.
        """
        check_design(settings)
        path = base / settings.output / PRODUCT
        if path.exists() and not overwrite:
            raise ConfigurationError(
                "there is a library already", path=path, expected="an output without one",
                remedy="Choose another output, or replace it with --overwrite: finished fields are not done again.",
            )  # fmt: skip
        results = run_design(settings, base=base, workers=workers, scheduler=scheduler, progress=progress)
        library = cut_design(settings, results)
        write_design(path, library, overwrite=overwrite)
        cpu = sum(float(result["cpu_s"]) for result in results)
        facts = {
            "fields": len(results),
            "bands": library.gyroradius.size,
            "lmax": library.lmax,
            "cpu_s": round(cpu, 1),
        }
        return EnsembleSummary(path, facts, tuple(_rows(library)))

    @cached_property
    def skies(self) -> DesignLibrary:
        """The library, read at its first use.

        Raises
        ------
        DataFormatError
            As `design_library.read_design`.
        """
        if self.library is None:
            with as_file(files("obsfit_models.turbulence") / SHIPPED) as path:
                return read_design(path)
        return read_design(self.library)

    @property
    def fields(self) -> int:
        """Number of fields in the library."""
        return len(self.skies.point)

    def field_theta(self, field: int, size: int, *, rng: np.random.Generator) -> FloatArray:
        """Return parameter vectors (size, 7): share and index of the field, right ascension 0, else the prior."""
        theta = draw_prior(self.parameters, size, rng=rng)
        theta[:, 1:3] = self.skies.point[field]
        theta[:, 6] = 0.0
        return theta

    def field_skies(
        self, field: int, theta: FloatArray, lmax: int, *, rng: np.random.Generator
    ) -> tuple[FloatArray, ComplexArray]:
        """Return rigidities in TV (size, n_band) and skies (size, n_band, n_alm) of one field, continued bands first.

        The gradient makes the angle of theta with the mean field, at a random angle about it; its direction in the sky
        is that of theta, and field and sky are turned by a random angle about it. Share and index of theta are not
        used: they are those of the field, see `field_theta`.

        Raises
        ------
        ModelDomainError
            If lmax is above that of the library.
        """
        library = self.skies
        if lmax > library.lmax:
            raise ModelDomainError(
                f"lmax {lmax}: the library ends at l = {library.lmax}", value=lmax,
                expected=f"at most {library.lmax}", remedy="Make a design with a larger lmax and nside.",
            )  # fmt: skip
        share, index = (float(value) for value in library.point[field])
        radii, maps = self._continued(truncated_alm(library.alm[field], lmax), share, index)
        vectors = np.atleast_2d(theta)
        about_field, about_gradient = rng.uniform(0.0, 2.0 * np.pi, size=(2, len(vectors)))
        skies = np.empty((len(vectors), maps.shape[0], maps.shape[-1]), dtype=np.complex128)
        for s, (log10_radius, _, _, log10_amplitude, angle, dec, ra) in enumerate(vectors):
            radius = 10.0**log10_radius
            across = np.hypot(np.cos(angle), share**2 * np.sin(angle))
            gradient = 10.0**log10_amplitude / (radius * expected_path(radius, share, index) * across)
            turn = about_field[s]
            direction = np.array([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)])
            alm = np.einsum("i,bik->bk", gradient * direction, maps)
            # From the frame of the field: the gradient to the z axis, about it, and to its place in the sky.
            whole = (
                Rotation.from_euler("ZYZ", [ra, 0.5 * np.pi - dec, about_gradient[s]])
                * Rotation.from_euler("YZ", [-angle, -turn])
            )  # fmt: skip
            phi, tilt, psi = whole.as_euler("ZYZ")
            for b, one in enumerate(alm):
                turned = np.ascontiguousarray(one)
                hp.rotate_alm(turned, psi, tilt, phi, lmax=lmax)
                skies[s, b] = turned
        return REFERENCE_TV * radii / 10.0 ** vectors[:, :1], skies

    def _continued(self, maps: ComplexArray, share: float, index: float) -> tuple[FloatArray, ComplexArray]:
        """Gyroradii (n_band,) and maps (n_band, 3, n_alm) of a field, with the lowest band repeated below it."""
        radii = self.skies.gyroradius
        step = float(np.log10(radii[1] / radii[0])) if radii.size > 1 else 1.0
        below = radii[0] * 10.0 ** (-step * np.arange(np.ceil(self.continued_decades / step - 1e-9), 0, -1))
        unit = np.array([radius * expected_path(float(radius), share, index) for radius in (*below, radii[0])])
        lowest = maps[0] * (unit[:-1] / unit[-1])[:, None, None]
        return np.concatenate([below, radii]), np.concatenate([lowest, maps])


def _rows(library: DesignLibrary) -> list[dict[str, float | int | str | None]]:
    """One row for each band: power of the dipole and of l = 2 over it, means over fields and components."""
    ell, m = hp.Alm.getlm(library.lmax)
    twice = np.where(m == 0, 1.0, 2.0)
    power = twice * np.abs(library.alm) ** 2
    rows: list[dict[str, float | int | str | None]] = []
    for b, radius in enumerate(library.gyroradius):
        c_ell = [float(power[:, b][..., ell == order].sum(-1).mean() / (2 * order + 1)) for order in (1, 2)]
        rows.append({"gyroradius": float(radius), "C_1": c_ell[0], "C_2 / C_1": c_ell[1] / c_ell[0]})
    return rows
