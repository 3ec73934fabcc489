"""Pictures and files of a reconstruction: sky maps, significance, and the equatorial dipole with its errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from obsfit.plot.sky_maps import sky_map_figure
from obsfit.plot.style import COLOURS, LINE_STYLES, MARKERS, new_figure, save, styled
from obsfit.products import write_folder
from obsfit.reconstruct.configured import MANIFEST, ReconstructionProduct, manifest_head, product_files
from obsfit.records.reconstruction import DipoleReconstruction

FloatArray = NDArray[np.float64]

# Radius of the ellipse that holds a share of a normal distribution of two components: sqrt(-2 ln(1 - share)).
SHARES = (0.68, 0.95)


def harmonics_figure(found: DipoleReconstruction, *, title: str) -> Figure:
    """Return harmonics of right ascension as points of a plane, with the ellipses that hold 68 and 95 %.

    Right ascension grows anticlockwise from the right, as the components (0h, 6h) do.

    Parameters
    ----------
    found : DipoleReconstruction
        The harmonics.
    title : str
        Title.

    Examples
    --------
    >>> from obsfit.records.reconstruction import ObservationSpec
    >>> spec = ObservationSpec("east-west", {}, ("A",), -1.0, 1.0, "sidereal", True, "")
    >>> figure = harmonics_figure(
    ...     DipoleReconstruction(np.array([[5e-4, 2e-4]]), 1e-8 * np.eye(2), spec, ()), title="a dipole"
    ... )
    >>> figure.axes[0].get_xlabel()
    'towards right ascension 0h [$10^{-4}$]'
    """
    with styled():
        figure = new_figure(6.0, 5.6)
        axes = figure.subplots()
        axes.axhline(0.0, color="0.6", linewidth=0.8)
        axes.axvline(0.0, color="0.6", linewidth=0.8)
        colours = list(COLOURS.values())[1:]
        reach = 0.0
        for i, point in enumerate(1e4 * found.components):
            covariance = 1e8 * found.covariance[2 * i : 2 * i + 2, 2 * i : 2 * i + 2]
            name = "dipole" if i == 0 else f"harmonic {i + 1}"
            colour = colours[i % len(colours)]
            axes.plot(*point, MARKERS[i % len(MARKERS)], color=colour, label=name)
            for share, line in zip(SHARES, LINE_STYLES, strict=False):
                ellipse = point[:, None] + _ellipse(covariance, share)
                reach = max(reach, float(np.abs(ellipse).max()))
                axes.plot(*ellipse, color=colour, linestyle=line, linewidth=1.2)
        axes.plot([], [], color="0.3", linestyle=LINE_STYLES[0], label="68 %")
        axes.plot([], [], color="0.3", linestyle=LINE_STYLES[1], label="95 %")
        axes.set_xlim(-1.08 * reach, 1.08 * reach)
        axes.set_ylim(-1.08 * reach, 1.08 * reach)
        axes.set_aspect("equal")
        axes.set_xlabel("towards right ascension 0h [$10^{-4}$]")
        axes.set_ylabel("towards right ascension 6h [$10^{-4}$]")
        axes.set_title(title)
        axes.legend()
    return figure


def write_reconstruction(product: ReconstructionProduct, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write the files and pictures of a reconstruction, all or none, and return the path of their manifest.

    Beside the files of `obsfit.reconstruct.configured.product_files` come map, significance and dipole as PNG and SVG.

    Parameters
    ----------
    product : ReconstructionProduct
        The reconstruction.
    folder : str or Path
        The folder to fill.
    overwrite : bool
        Replace files of an earlier reconstruction.

    Raises
    ------
    ConfigurationError
        If the folder has files and `overwrite` is false.
    """
    spec = product.harmonics.spec
    said = f"{', '.join(spec.detectors)}: {spec.method}"
    writers: dict[str, Callable[[Path], object]] = dict(product_files(product))
    figures = {"dipole": harmonics_figure(product.harmonics, title=said)}
    smoothing = product.configuration.maps.disc
    radius = f"discs of {np.degrees(smoothing.radius_rad):g}°"
    if product.sky_map is not None and product.sky_map.delta_i is not None:
        figures["map"] = sky_map_figure(
            product.sky_map.delta_i, title=f"{said}, {radius}", unit=1e-3, smoothing=smoothing.radius_rad * u.rad
        )
    if product.significance is not None:
        figures["significance"] = sky_map_figure(
            product.significance.significance, title=f"{said}, {radius}", unit="standard deviations",
            quantity="significance before trials",
        )  # fmt: skip
    for name, figure in figures.items():
        writers[name] = partial(save, figure)
    return write_folder(folder, writers, manifest_head(product), manifest=MANIFEST, overwrite=overwrite)


def _ellipse(covariance: FloatArray, share: float) -> FloatArray:
    """Points (2, n) of the ellipse about the origin that holds a share of a normal distribution."""
    angle = np.linspace(0.0, 2.0 * np.pi, 181)
    values, axes = np.linalg.eigh(covariance)
    radius = np.sqrt(-2.0 * np.log1p(-share) * np.maximum(values, 0.0))
    return np.asarray(axes @ (radius[:, None] * np.stack([np.cos(angle), np.sin(angle)])))
