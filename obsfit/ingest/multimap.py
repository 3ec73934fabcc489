"""Local maps of counted events as images of one FITS file, all time bins together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import DataFormatError
from obsfit.ingest import fits_maps
from obsfit.ingest.event_maps import COUNTS, SQUARED, WEIGHTS, assemble, known_frame, planes_to_write, totals
from obsfit.ingest.fits_maps import check_coordinates, check_counts, own_keywords, story, told, whole_keyword
from obsfit.ingest.local_conventions import stated_convention
from obsfit.observatory import Observatory
from obsfit.provenance import atomic_write
from obsfit.records.event_map import EventMap
from obsfit.records.provenance import Provenance

FloatArray = NDArray[np.float64]

IMAGES = ("LMAPS", "WMAPS", "W2MAPS")
"""Names of the images: numbers of events, sums of weights and of squared weights."""


def read_multimap(
    path: str | Path,
    *,
    observatory: Observatory,
    axes: str | None = None,
    time_reference: str | None = None,
    bin_reference: str | None = None,
    weighted: bool = True,
    quantised: bool = False,
    frame: str | None = None,
    energy: str | None = None,
    drop_beyond_cut: bool = False,
) -> EventMap:
    """Return the event map in a FITS file of many maps.

    After an empty primary unit come images of shape (n_time, 12 nside^2): LMAPS with numbers of events and, where
    events are weighted, WMAPS and W2MAPS with sums of weights and of squared weights.

    Parameters
    ----------
    path : str or Path
        The file; it may be compressed.
    observatory : Observatory
        Where, see `event_map`.
    axes, time_reference, bin_reference, frame, energy, drop_beyond_cut
        As in `read_bin_files`.
    weighted : bool
        Take WMAPS and W2MAPS if they are there, as is the default, or the numbers of events.
    quantised : bool
        Accept numbers that were rounded by a compression with loss, as some programs use without saying so.

    Raises
    ------
    DataFormatError
        As `event_map`, and if the file is damaged, or its images are not as described or contradict each other.
    ConfigurationError
        If a word is none of the choices.
    """
    path = Path(path)
    found = fits_maps.read_map_images(path, IMAGES, quantised=quantised)
    shapes = {name: image.shape for name, image in found.images.items()}
    if len(set(shapes.values())) > 1:
        raise DataFormatError(
            f"images differ in shape: {', '.join(f'HDU {name} {shape}' for name, shape in shapes.items())}",
            path=path, value=shapes, expected="one number of time bins and one nside",
        )  # fmt: skip
    for name, image in found.images.items():
        check_counts(image, f"HDU {name}", path)
        check_coordinates(found.keywords[name], local=True, hdu=f"HDU {name}", path=path)
    planes = _weighted_planes(found.images, path) if weighted else {COUNTS: _image(found.images, "LMAPS", path)}
    keywords: dict[str, Any] = {}
    for name in found.images:
        keywords = dict(found.keywords[name]) | keywords
    lost = [name for name in str(keywords.get("IMAGES", "")).split() if name not in found.images]
    if lost:
        raise DataFormatError(
            f"no image HDU {' and '.join(lost)}, which the primary header announces (IMAGES)", path=path, value=lost,
            expected=str(keywords["IMAGES"]), remedy="The file is cut off; fetch it again.",
        )  # fmt: skip
    n_time = planes[COUNTS].shape[0]
    if whole_keyword(keywords, "NBINS", n_time, path) != n_time:
        raise DataFormatError(
            f"NBINS is {keywords['NBINS']}, but there are {n_time} maps", path=path, value=keywords["NBINS"],
            expected="as many maps as time bins", remedy="Is the file cut off?",
        )  # fmt: skip
    convention = stated_convention(
        keywords, axes=axes, time_reference=time_reference, bin_reference=bin_reference, path=path
    )
    provenance = Provenance(path.name.partition(".")[0], str(path), found.sha256, (), story(keywords))
    label = str(keywords.get("ENERGY", "")) if energy is None else energy
    clock = known_frame(frame, keywords, path)
    return assemble(planes, observatory, convention, clock, label, drop_beyond_cut, provenance, keywords)


def write_multimap(
    path: str | Path,
    events: EventMap,
    *,
    axes: str = "NWU",
    time_reference: str = "LST",
    bin_reference: str = "LEFT",
    longitude: u.Quantity | None = None,
    numbers: ArrayLike | None = None,
    overwrite: bool = False,
) -> None:
    """Write all time bins as images of one FITS file, complete or not at all; see `read_multimap`.

    Headers state LOCAXES, TIMEREF and BINREF. Events with weights get the images WMAPS and W2MAPS, and LMAPS if their
    numbers are given, as other programs want it.

    Parameters
    ----------
    path : str or Path
        The file to make; a name that ends in ``.gz`` packs it.
    events, axes, time_reference, bin_reference, longitude, numbers, overwrite
        As in `write_bin_files`.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    ConfigurationError, DataFormatError
        As `write_bin_files`.
    """
    path = Path(path)
    planes, keywords = planes_to_write(events, axes, time_reference, bin_reference, longitude, numbers)
    told_once = told(events.provenance.meta, without=("TIMEBIN", "NEVENTS", "SUMWGTS"))
    names = [name for plane, name in zip((COUNTS, WEIGHTS, SQUARED), IMAGES, strict=True) if plane in planes]
    # A file that ends after one of its images looks whole; this tells.
    header = told_once | keywords | totals(planes) | {"IMAGES": " ".join(names)}
    with atomic_write(path, overwrite=overwrite) as partial:
        units = [fits_maps.primary(header | own_keywords("event-map"))]
        for plane, name in zip(planes, names, strict=True):
            units.append(fits_maps.image(planes[plane], name, keywords | {"ORDERING": "RING"}))
        fits_maps.write_units(partial, path, units)


def _image(images: Mapping[str, FloatArray], name: str, path: Path) -> FloatArray:
    if name not in images:
        raise DataFormatError(
            f"no image HDU {name}", path=path, expected="numbers of events, or weights with their squares",
            remedy=f"Found {', '.join(images)}.",
        )  # fmt: skip
    return images[name]


def _weighted_planes(images: Mapping[str, FloatArray], path: Path) -> dict[str, FloatArray]:
    if "WMAPS" not in images and "W2MAPS" not in images:
        return {COUNTS: _image(images, "LMAPS", path)}
    weights, squared = _image(images, "WMAPS", path), _image(images, "W2MAPS", path)
    if "LMAPS" in images:
        # By the inequality of Cauchy and Schwarz; the slack is for files in single precision.
        bad = weights**2 > images["LMAPS"] * squared * (1.0 + 1e-5)
        if bad.any():
            t, pixel = np.unravel_index(int(np.argmax(bad)), bad.shape)
            raise DataFormatError(
                f"HDU W2MAPS: {squared[t, pixel]:g} in time bin {t}, pixel {pixel}, where LMAPS holds "
                f"{images['LMAPS'][t, pixel]:g} events of total weight {weights[t, pixel]:g} (WMAPS)",
                path=path, value=float(squared[t, pixel]),
                expected="sum of squared weights >= (sum of weights)^2 / number of events",
                remedy="Are the images in another order?",
            )  # fmt: skip
    return {COUNTS: weights, SQUARED: squared}
