"""Files and picture of a pseudo-spectrum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from obsfit.plot.style import COLOURS, new_figure, save, styled
from obsfit.products import write_folder
from obsfit.records.spectrum import PowerSpectrum
from obsfit.spectra.configured import MANIFEST, SpectrumProduct, manifest_head, product_files
from obsfit.spectra.decoupling import DecoupledSpectrum


def pseudo_spectrum_figure(spectrum: PowerSpectrum, decoupled: DecoupledSpectrum | None = None) -> Figure:
    """Return pseudo-powers with their noise and the band of isotropic skies, and the powers of the sky in bins.

    Parameters
    ----------
    spectrum : PowerSpectrum
        The pseudo-spectrum.
    decoupled : DecoupledSpectrum, optional
        Powers of the sky in bins; those that are not positive are left out.
    """
    with styled():
        figure = new_figure()
        axes = figure.subplots()
        ell = spectrum.ell
        if np.all(np.isfinite(spectrum.isotropic_low)):
            axes.fill_between(
                ell, spectrum.isotropic_low, spectrum.isotropic_high, color=COLOURS["sky"], alpha=0.3,
                label="isotropic sky, 95 %",
            )  # fmt: skip
        if np.all(np.isfinite(spectrum.noise)):
            axes.plot(ell, spectrum.noise, color=COLOURS["grey"], linestyle="--", label="noise")
        axes.plot(ell, spectrum.c_ell, "o", color=COLOURS["black"], label="pseudo-power of the map")
        if decoupled is not None:
            good = decoupled.c_ell > 0.0
            width = 0.5 * (decoupled.ell_high - decoupled.ell_low)[good]
            error = None if decoupled.covariance is None else np.sqrt(np.diag(decoupled.covariance))[good]
            axes.errorbar(
                decoupled.ell[good], decoupled.c_ell[good], error, width, fmt="s", color=COLOURS["vermilion"],
                label="power of the sky, noise subtracted",
            )  # fmt: skip
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_locator(FixedLocator([1, 2, 3, 5, 10, 20, 30, 50, 100]))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(r"multipole $\ell$")
        axes.set_ylabel(r"$C_\ell$ of relative intensity")
        axes.set_title(spectrum.measurement)
        axes.legend()
    return figure


def write_spectrum_product(product: SpectrumProduct, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write the files and the picture of a spectrum, all or none, and return the path of their manifest.

    Parameters
    ----------
    product : SpectrumProduct
        The spectrum.
    folder : str or Path
        The folder to fill.
    overwrite : bool
        Replace files of an earlier spectrum.

    Raises
    ------
    ConfigurationError
        If the folder has files and `overwrite` is false.
    """
    figure = pseudo_spectrum_figure(product.spectrum, product.decoupled)
    writers: dict[str, Callable[[Path], object]] = {**product_files(product), "spectrum": partial(save, figure)}
    return write_folder(folder, writers, manifest_head(product), manifest=MANIFEST, overwrite=overwrite)
