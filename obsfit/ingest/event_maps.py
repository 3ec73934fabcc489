"""Event maps from arrays of local HEALPix maps in any axes and clock, and back: what all such files share.

What axes, clock and bins mean is read from keywords LOCAXES, TIMEREF and BINREF or said by the caller, see
`obsfit.ingest.local_conventions`; nothing is guessed. The files of cra-ahlers-llh, which state none of them, are SEZ,
GMST, LEFT; the arrays of CRAToPy are NWU, LST, LEFT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsfit.errors import ConfigurationError, DataFormatError
from obsfit.ingest.fits_maps import check_counts, nside_of
from obsfit.ingest.local_conventions import LocalConvention, convention_keywords
from obsfit.observatory import Observatory
from obsfit.records.event_map import FRAMES, EventMap, HealpixLocalGrid
from obsfit.records.provenance import Provenance
from obsfit.sky.frames import local_to_hour_angle

FloatArray = NDArray[np.float64]

COUNTS, WEIGHTS, SQUARED = "counts", "weights", "squared weights"
"""Planes of an event map, and the names of their columns in files per time bin as we write them."""
SAME_PLACE_DEG = 1e-6
"""Largest difference of two angles of one place, by rounding."""


def event_map(
    counts: ArrayLike,
    observatory: Observatory,
    *,
    axes: str,
    time_reference: str,
    bin_reference: str,
    squared_weights: ArrayLike | None = None,
    frame: str = "sidereal",
    energy: str = "",
    drop_beyond_cut: bool = False,
    provenance: Provenance | None = None,
) -> EventMap:
    """Return the event map of arrays of local HEALPix maps in any axes and clock.

    Parameters
    ----------
    counts : array_like, shape (n_time, 12 nside^2)
        Numbers of events or sums of weights, RING order, polar angle = zenith angle.
    observatory : Observatory
        Where: its latitude and zenith cut, its name as that of the detector, its longitude for time bins of Greenwich.
    axes, time_reference, bin_reference : str
        What pixels and bins mean, see `obsfit.ingest.local_conventions`.
    squared_weights : array_like, shape (n_time, 12 nside^2), optional
        Sums of squared weights, where events are weighted.
    frame : str
        Clock of the time bins, see `EventMap`.
    energy : str
        Label of the energy bin.
    drop_beyond_cut : bool
        Set pixels whose centre is beyond the zenith cut to zero. Default: events there are an error.
    provenance : Provenance, optional
        Origin of the numbers.

    Returns
    -------
    EventMap
        In our axes and in bins of local time. Pixels and bins are renumbered, no number is changed.

    Raises
    ------
    DataFormatError
        If counts are NaN, UNSEEN or negative, there are none, they lie where the observatory never looks, or the
        bins are not whole bins of local time.
    ConfigurationError
        If a word is none of the choices.

    Examples
    --------
    >>> hawc = Observatory.named("HAWC", zenith_max=60 * u.deg)
    >>> maps = np.zeros((24, 12))
    >>> maps[0, 0] = 5.0
    >>> seen = event_map(maps, hawc, axes="SEZ", time_reference="LST", bin_reference="LEFT")
    >>> [int(place[0]) for place in np.nonzero(seen.counts)]   # half a turn further in azimuth
    [0, 2]
    """
    planes = {COUNTS: np.asarray(counts, dtype=np.float64)}
    if squared_weights is not None:
        planes[SQUARED] = np.asarray(squared_weights, dtype=np.float64)
    convention = LocalConvention(axes, time_reference, bin_reference)
    made = provenance or Provenance(observatory.name)
    path = Path(made.path or made.name)
    shape = planes[COUNTS].shape
    if len(shape) != 2 or shape[0] == 0:
        raise DataFormatError(
            f"counts have shape {shape}", path=path, value=shape, expected="(n_time, 12 nside^2)"
        )
    nside_of(shape[1], "counts", path)
    for name, plane in planes.items():
        if plane.shape != shape:
            raise DataFormatError(f"{name} have shape {plane.shape}", path=path, expected=f"{shape} as the counts")
        check_counts(plane, name, path)
    return assemble(planes, observatory, convention, known_frame(frame, {}, path), energy, drop_beyond_cut, made)


def assemble(
    planes: Mapping[str, FloatArray],
    observatory: Observatory,
    convention: LocalConvention,
    frame: str,
    energy: str,
    drop_beyond_cut: bool,
    provenance: Provenance,
    keywords: Mapping[str, Any] | None = None,
) -> EventMap:
    """Return the event map of checked planes of a file, renumbered to our axes and bins; see `event_map`.

    Parameters
    ----------
    planes : mapping of str to ndarray, shape (n_time, 12 nside^2)
        `COUNTS` and, where events are weighted, `SQUARED`; finite and not negative.
    observatory, frame, energy, drop_beyond_cut, provenance
        As in `event_map`; errors name the path of the provenance.
    convention : LocalConvention
        What pixels and bins of the planes mean.
    keywords : mapping, optional
        Header, whose LATITUDE and LONGITUD must be those of the observatory.

    Raises
    ------
    DataFormatError
        As `event_map`.
    """
    path = Path(provenance.path or provenance.name)
    _check_place(keywords or {}, convention, observatory, path)
    ours = {name: convention.to_ours(plane, observatory.longitude, path=path) for name, plane in planes.items()}
    if drop_beyond_cut:
        ours = {name: _within_cut(plane, observatory) for name, plane in ours.items()}
    if not ours[COUNTS].any():
        raise DataFormatError(
            "holds no events", path=path, value=0.0, expected="a field of view that is not empty",
            remedy="All lie beyond the zenith cut: are these local maps, with the zenith at their pole?"
            if planes[COUNTS].any()
            else "",
        )  # fmt: skip
    _check_field(ours[COUNTS], observatory, path)
    grid = HealpixLocalGrid(hp.npix2nside(ours[COUNTS].shape[1]), observatory.latitude.to_value(u.rad))
    return EventMap(ours[COUNTS], grid, observatory.name, provenance, ours.get(SQUARED), frame, energy)


def planes_to_write(
    events: EventMap,
    axes: str,
    time_reference: str,
    bin_reference: str,
    longitude: u.Quantity | None,
    numbers: ArrayLike | None,
) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """Return planes, by the names of their columns, and keywords of a file in the axes and bins asked for.

    Parameters
    ----------
    events, axes, time_reference, bin_reference, longitude, numbers
        As in `obsfit.ingest.bin_files.write_bin_files`.

    Raises
    ------
    ConfigurationError
        If the grid is not HEALPix, a word is unknown, or longitude or numbers are missing, needless or of wrong shape.
    DataFormatError
        If the bins asked for are not whole bins of local time.
    """
    if not isinstance(events.grid, HealpixLocalGrid):
        raise ConfigurationError(
            f"{events.detector}: the grid is a {type(events.grid).__name__}", expected="a HealpixLocalGrid",
            remedy="Bin the events on HEALPix, or write the map in our own format (write_record).",
        )  # fmt: skip
    convention = LocalConvention(axes, time_reference, bin_reference)
    if time_reference == "GMST" and longitude is None:
        raise ConfigurationError(
            f"{events.detector}: bins of Greenwich sidereal time need a longitude", expected="longitude=..."
        )
    planes = {COUNTS: events.counts}
    if events.squared_weights is not None:
        planes = {WEIGHTS: events.counts, SQUARED: events.squared_weights}
        if numbers is not None:
            planes = {COUNTS: _checked_numbers(numbers, events), **planes}
    elif numbers is not None:
        raise ConfigurationError(f"{events.detector}: numbers of events are given, but it has no weights")
    east = 0.0 * u.deg if longitude is None else longitude
    theirs = {name: convention.from_ours(plane, east) for name, plane in planes.items()}
    keywords: dict[str, Any] = convention_keywords(convention) | {
        "COORDS": "L", "CLOCK": events.frame, "NBINS": events.n_time, "NSIDE": events.grid.nside,
        "DETECTOR": events.detector, "LATITUDE": float(np.degrees(events.grid.latitude_rad)),
    }  # fmt: skip
    if longitude is not None:
        keywords["LONGITUD"] = float(longitude.to_value(u.deg))
    if events.energy:
        keywords["ENERGY"] = events.energy
    return theirs, keywords


def totals(planes: Mapping[str, FloatArray]) -> dict[str, float]:
    """Return the keywords that hold the totals of planes: NEVENTS of numbers, SUMWGTS of weights."""
    keys = {COUNTS: "NEVENTS", WEIGHTS: "SUMWGTS"}
    return {key: float(planes[plane].sum()) for plane, key in keys.items() if plane in planes}


def known_frame(given: str | None, keywords: Mapping[str, Any], path: Path) -> str:
    """Return the clock of the time bins: as given, or keyword CLOCK, or "sidereal".

    Raises
    ------
    DataFormatError
        If CLOCK is unknown or contradicts what is given.
    ConfigurationError
        If what is given is unknown.
    """
    expected = f"one of {', '.join(FRAMES)}"
    if given is not None and given not in FRAMES:
        raise ConfigurationError(f"frame is {given!r}", value=given, expected=expected)
    found = keywords.get("CLOCK")
    if found is None:
        return given or "sidereal"
    word = str(found).strip().lower()
    if word not in FRAMES:
        raise DataFormatError(f"CLOCK is {found!r}", path=path, value=found, expected=expected)
    if given not in (None, word):
        raise DataFormatError(
            f"the header says CLOCK = {word}, but frame={given!r} is given", path=path, value=word,
            expected="one of them", remedy="Leave frame out, or correct the header if it is wrong.",
        )  # fmt: skip
    return word


def _check_place(
    keywords: Mapping[str, Any], convention: LocalConvention, observatory: Observatory, path: Path
) -> None:
    places = {"LATITUDE": observatory.latitude}
    if convention.time_reference == "GMST":
        places["LONGITUD"] = observatory.longitude
    for key, angle in places.items():
        found = keywords.get(key)
        if found is None:
            continue
        degrees = angle.to_value(u.deg)
        number = isinstance(found, int | float) and not isinstance(found, bool)
        if not number or abs((found - degrees + 180.0) % 360.0 - 180.0) > SAME_PLACE_DEG:
            raise DataFormatError(
                f"{key} is {found!r}", path=path, value=found,
                expected=f"{degrees:g} deg as {observatory.name} is given",
                remedy="Give the observatory of this file, or correct the header.",
            )  # fmt: skip


def _within_cut(plane: FloatArray, observatory: Observatory) -> FloatArray:
    zenith, _ = hp.pix2ang(hp.npix2nside(plane.shape[1]), np.arange(plane.shape[1]))
    return np.where(zenith <= observatory.zenith_max.to_value(u.rad), plane, 0.0)


def _check_field(counts: FloatArray, observatory: Observatory, path: Path) -> None:
    """Refuse events in pixels that lie wholly beyond the zenith cut."""
    nside = hp.npix2nside(counts.shape[1])
    zenith, phi = hp.pix2ang(nside, np.arange(counts.shape[1]))
    beyond = zenith > observatory.zenith_max.to_value(u.rad) + hp.max_pixrad(nside)
    strange = beyond & counts.any(axis=0)
    if not strange.any():
        return
    _, dec = local_to_hour_angle(-phi[strange] * u.rad, zenith[strange] * u.rad, observatory.latitude)
    farthest = np.degrees(zenith[strange].max())
    raise DataFormatError(
        f"{counts[:, strange].sum():g} events at zenith angles up to {farthest:.1f} deg (declinations "
        f"{dec.min():.1f} to {dec.max():.1f})",
        path=path,
        value=float(farthest),
        expected=f"none beyond {observatory.zenith_max:g}, the zenith cut of {observatory.name}",
        remedy="Give the zenith cut of this analysis, or drop_beyond_cut=True; if the angles exceed 90 deg, the pole "
        "of these maps is not the zenith.",
    )


def _checked_numbers(numbers: ArrayLike, events: EventMap) -> FloatArray:
    array = np.array(numbers, dtype=np.float64)
    if array.shape != events.counts.shape or not np.all(array >= 0.0):
        raise ConfigurationError(
            f"numbers of events have shape {array.shape}",
            expected=f"shape {events.counts.shape} and no value negative or NaN",
        )
    return array
