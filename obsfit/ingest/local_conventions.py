r"""Axes and clocks of files of local maps, and the exact way from theirs to ours.

Ours are the axes (North, West, up), bins of *local* sidereal angle, and bin t holding [t, t+1) 2 pi / n_time.

=========  =====  ==========================================================================================
keyword    value  meaning
=========  =====  ==========================================================================================
LOCAXES    NWU    longitude of a pixel runs from North through West, the axes of Eq. (5) of AM17
LOCAXES    SEZ    from South through East
LOCAXES    ENU    from East through North
LOCAXES    NEU    from North through East: the longitude is the azimuth itself
TIMEREF    LST    time bins of local sidereal time
TIMEREF    GMST   time bins of Greenwich sidereal time
BINREF     LEFT   the angle t 2 pi / n_time is the left edge of bin t: events were sorted by rounding down
BINREF     CENTER that angle is the centre of bin t: events were sorted by rounding to the nearest
=========  =====  ==========================================================================================

In all of them the polar angle of a pixel is the zenith angle. The axes differ by quarter turns and a mirror, which
map HEALPix pixels onto pixels, so that changing them loses nothing. Clocks differ by the longitude of the observatory
and half a bin; that loses nothing if together it is a whole number of bins, and is refused if not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import healpy as hp
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError, DataFormatError

FloatArray = NDArray[np.float64]

AXES = ("NWU", "SEZ", "ENU", "NEU")
TIME_REFERENCES = ("LST", "GMST")
BIN_REFERENCES = ("LEFT", "CENTER")
WHOLE_BIN = 1e-6
"""Largest distance from a whole number of bins, in bins, that is taken for rounding."""

# Longitude of our x axis (North) in their frame, and the sense of their longitude relative to ours.
_NORTH_AND_SENSE = {"NWU": (0.0, 1.0), "SEZ": (np.pi, 1.0), "ENU": (0.5 * np.pi, 1.0), "NEU": (0.0, -1.0)}


@dataclass(frozen=True)
class LocalConvention:
    """What the pixels and the time bins of a file mean.

    Attributes
    ----------
    axes : str
        One of `AXES`.
    time_reference : str
        One of `TIME_REFERENCES`.
    bin_reference : str
        One of `BIN_REFERENCES`.

    Raises
    ------
    ConfigurationError
        If a word is none of these.
    """

    axes: str
    time_reference: str
    bin_reference: str

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}", value=getattr(self, name), expected=_one_of(choices)
                )

    def to_ours(self, maps: FloatArray, longitude: u.Quantity, *, path: str | Path | None = None) -> FloatArray:
        """Return local maps of this convention, shape (n_time, 12 nside^2), in our axes and bins.

        Parameters
        ----------
        maps : ndarray, shape (n_time, 12 nside^2)
            RING order.
        longitude : Quantity, angle
            Of the observatory, east positive.
        path : str or Path, optional
            File to name in an error.

        Raises
        ------
        DataFormatError
            If the bins are not ours shifted by a whole number.
        """
        shift = self.bin_shift(len(maps), longitude, path=path)
        order = pixel_order(hp.npix2nside(maps.shape[1]), self.axes)
        return np.roll(maps[:, order], shift, axis=0)

    def from_ours(self, maps: FloatArray, longitude: u.Quantity, *, path: str | Path | None = None) -> FloatArray:
        """Return local maps in our axes and bins, shape (n_time, 12 nside^2), in this convention; see `to_ours`."""
        shift = self.bin_shift(len(maps), longitude, path=path)
        order = pixel_order(hp.npix2nside(maps.shape[1]), self.axes)
        theirs = np.empty_like(maps)
        theirs[:, order] = np.roll(maps, -shift, axis=0)
        return theirs

    def bin_shift(self, n_time: int, longitude: u.Quantity, *, path: str | Path | None = None) -> int:
        """Return s such that bin t of this convention is our bin (t + s) mod n_time.

        Local sidereal time is that of Greenwich plus the longitude; the clocks of the other frames differ likewise.

        Parameters
        ----------
        n_time : int
            Number of bins of a day.
        longitude : Quantity, angle
            Of the observatory, east positive; it does not matter for LST.
        path : str or Path, optional
            File to name in an error.

        Raises
        ------
        DataFormatError
            If s is not a whole number.

        Examples
        --------
        >>> LocalConvention("SEZ", "GMST", "LEFT").bin_shift(360, -97 * u.deg)
        263
        """
        turn = longitude.to_value(u.deg) if self.time_reference == "GMST" else 0.0
        bins = turn * n_time / 360.0 - (0.5 if self.bin_reference == "CENTER" else 0.0)
        whole = round(bins)
        if abs(bins - whole) > WHOLE_BIN:
            words = f"TIMEREF {self.time_reference}, BINREF {self.bin_reference}, {n_time} bins"
            place = ""
            if self.time_reference == "GMST":
                words += f", longitude {turn:g} deg"
                place = f" at longitude {whole * 360.0 / n_time:g} deg"
            raise DataFormatError(
                f"the time bins begin {bins:.6g} bins after those of local sidereal time ({words})",
                path=path,
                value=bins,
                expected="a whole number; other bins would have to be cut, which no relabelling does",
                remedy=(
                    f"Sort the events anew; or read the file as BINREF LEFT{place}, and add "
                    f"{(bins - whole) * 360.0 / n_time:.6g} deg to all right ascensions that come out."
                ),
            )
        return whole % n_time


_CHOICES = {"axes": AXES, "time_reference": TIME_REFERENCES, "bin_reference": BIN_REFERENCES}
_KEYWORDS = {"axes": "LOCAXES", "time_reference": "TIMEREF", "bin_reference": "BINREF"}


def pixel_order(nside: int, axes: str) -> NDArray[np.int64]:
    """Return, for each of our local pixels, its number in a map of other axes, shape (12 nside^2,); RING order.

    Quarter turns and mirror images take centres of HEALPix pixels to centres, so this is a permutation.

    Parameters
    ----------
    nside : int
        HEALPix resolution parameter.
    axes : str
        One of `AXES`.

    Examples
    --------
    >>> pixel_order(1, "SEZ")
    array([ 2,  3,  0,  1,  6,  7,  4,  5, 10, 11,  8,  9])
    """
    north, sense = _NORTH_AND_SENSE[axes]
    theta, phi = hp.pix2ang(nside, np.arange(12 * nside**2))
    return np.asarray(hp.ang2pix(nside, theta, np.mod(north + sense * phi, 2.0 * np.pi)), dtype=np.int64)


def stated_convention(
    keywords: Mapping[str, Any],
    *,
    axes: str | None,
    time_reference: str | None,
    bin_reference: str | None,
    path: str | Path,
) -> LocalConvention:
    """Return the convention that a header states or, where it is silent, the caller.

    Parameters
    ----------
    keywords : mapping
        Header, of which LOCAXES, TIMEREF and BINREF count.
    axes, time_reference, bin_reference : str or None
        What the caller says.
    path : str or Path
        File to name in errors.

    Raises
    ------
    DataFormatError
        If neither says it, both do and disagree, or the header holds another word.
    ConfigurationError
        If the caller's word is none of the choices.
    """
    given = {"axes": axes, "time_reference": time_reference, "bin_reference": bin_reference}
    words = {name: stated(name, keywords, given[name], path=path) for name in _CHOICES}
    return LocalConvention(**words)


def stated(name: str, keywords: Mapping[str, Any], given: str | None, *, path: str | Path) -> str:
    """Return one word of the convention, see `stated_convention`; `name` is a field of `LocalConvention`."""
    keyword, choices = _KEYWORDS[name], _CHOICES[name]
    if given is not None and given not in choices:
        raise ConfigurationError(f"{name} is {given!r}", path=path, value=given, expected=_one_of(choices))
    found = keywords.get(keyword)
    if found is None:
        if given is None:
            raise DataFormatError(
                f"the header has no {keyword}, and {name} is not given",
                path=path,
                expected=_one_of(choices),
                remedy=f"Say what the program that made the file means, for example {name}={choices[0]!r}; "
                "it cannot be seen from the numbers.",
            )
        return given
    word = str(found).strip().upper()
    if word not in choices:
        raise DataFormatError(f"{keyword} is {found!r}", path=path, value=found, expected=_one_of(choices))
    if given is not None and given != word:
        raise DataFormatError(
            f"the header says {keyword} = {word}, but {name}={given!r} is given",
            path=path,
            value=word,
            expected="one of them",
            remedy=f"Leave {name} out, or correct the header if it is wrong.",
        )
    return word


def convention_keywords(convention: LocalConvention) -> dict[str, str]:
    """Return the header keywords of a convention."""
    return {keyword: getattr(convention, name) for name, keyword in _KEYWORDS.items()}


def _one_of(choices: Sequence[str]) -> str:
    return "one of " + ", ".join(choices)
