"""What the columns of an event list mean: names, units, time, axes, cuts. Stated by the user, never guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from obsfit.errors import ConfigurationError
from obsfit.ingest.tables import nearest, parse_quantity, parse_unit
from obsfit.records.event_map import FRAMES

FORBID = {"extra": "forbid"}
TIME_FORMATS = ("mjd", "jd", "utc", "unix", "sidereal")
EQUINOXES = ("J2000", "date")

_HALF_PI = 0.5 * np.pi
_EAST_NORTH = (_HALF_PI, -1.0)
AZIMUTH_CONVENTIONS = MappingProxyType({
    "north-east": (0.0, 1.0), "north-west": (0.0, -1.0),
    "east-south": (_HALF_PI, 1.0), "east-north": _EAST_NORTH,
    "south-west": (2.0 * _HALF_PI, 1.0), "south-east": (2.0 * _HALF_PI, -1.0),
    "west-north": (3.0 * _HALF_PI, 1.0), "west-south": (3.0 * _HALF_PI, -1.0),
    "icecube": _EAST_NORTH, "auger": _EAST_NORTH,
})  # fmt: skip
"""Azimuth from North through East is offset + sign x azimuth of the list; values are (offset in rad, sign).

"east-north" is measured from East towards North, and so on for all eight. Two presets, found from the public lists
themselves (`tests/published/test_event_lists.py`): "icecube", from grid East, longitude 90 deg E, towards grid North,
the meridian of Greenwich; "auger", from East towards North. Both give the direction from which the particle came.
"""


@dataclass(frozen=True)
class TimeColumn:
    """The column of times.

    Attributes
    ----------
    name : str
        Column.
    format : str
        "mjd" or "jd" (days, UTC), "utc" (ISO strings or time stamps, UTC where no zone is written), "unix" (seconds,
        UTC) or "sidereal" (local mean sidereal time as an angle; only the sidereal frame is then possible).
    unit : str
        Unit of a sidereal angle: "deg", "rad" or "hourangle"; empty otherwise.
    """

    __pydantic_config__ = FORBID

    name: str
    format: Literal["mjd", "jd", "utc", "unix", "sidereal"]
    unit: str = ""

    def __post_init__(self) -> None:
        _one_of(self.format, TIME_FORMATS, f"format of the time column {self.name!r}")
        if self.format == "sidereal":
            angle_unit(self.unit, self.name)
        elif self.unit:
            raise ConfigurationError(
                f"time column {self.name!r}: unit {self.unit!r} with format {self.format!r}", value=self.unit,
                expected="no unit: the format implies it",
            )  # fmt: skip


@dataclass(frozen=True)
class LocalColumns:
    """Local directions, from which the particles came.

    Attributes
    ----------
    azimuth, zenith : str
        Columns.
    unit : str
        "deg" or "rad", of both.
    azimuth_convention : str
        A name of `AZIMUTH_CONVENTIONS`: from where azimuth is measured, and towards where.
    from_horizon : bool
        Whether the column `zenith` holds the angle above the horizon instead.
    """

    __pydantic_config__ = FORBID

    azimuth: str
    zenith: str
    unit: str
    azimuth_convention: str
    from_horizon: bool = False

    def __post_init__(self) -> None:
        angle_unit(self.unit, self.azimuth)
        _one_of(self.azimuth_convention, tuple(AZIMUTH_CONVENTIONS), "azimuth_convention")


@dataclass(frozen=True)
class EquatorialColumns:
    """Equatorial directions.

    Attributes
    ----------
    right_ascension, declination : str
        Columns.
    unit : str
        "deg" or "rad", of both.
    equinox : str
        "J2000" (or ICRS), or "date", the mean equator of the event's time.
    right_ascension_unit : str
        Where it is another, as "hourangle".
    """

    __pydantic_config__ = FORBID

    right_ascension: str
    declination: str
    unit: str
    equinox: Literal["J2000", "date"]
    right_ascension_unit: str = ""

    def __post_init__(self) -> None:
        angle_unit(self.unit, self.declination)
        angle_unit(self.right_ascension_unit or self.unit, self.right_ascension)
        _one_of(self.equinox, EQUINOXES, "equinox")


@dataclass(frozen=True)
class EnergyColumn:
    """The column of energies, and the bins to sort them into.

    Attributes
    ----------
    name : str
        Column.
    unit : str
        Unit of energy.
    log10 : bool
        Whether the column holds log10(energy / unit).
    bins : tuple of (str, str)
        Lower (included) and upper limits as quantities: (("8 TeV", "13 TeV"), ...). Empty: all events in one bin,
        unless the reader is given edges.
    """

    __pydantic_config__ = FORBID

    name: str
    unit: str
    log10: bool = False
    bins: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unit = parse_unit(self.unit)
        if unit is None or not unit.is_equivalent(u.TeV):
            raise ConfigurationError(
                f"energy column {self.name!r}: unit {self.unit!r}", value=self.unit,
                expected="a unit of energy, as GeV or TeV",
            )  # fmt: skip
        self.bins_tev()

    def bins_tev(self) -> NDArray[np.float64]:
        """Return the bins in TeV, shape (n, 2), in ascending order; n may be 0."""
        limits = np.empty((len(self.bins), 2))
        for row, pair in enumerate(self.bins):
            for column, text in enumerate(pair):
                limits[row, column], problem = parse_quantity(text, "TeV")
                if problem is not None:
                    raise ConfigurationError(f"energy bin {row + 1}: {problem}", value=text)
        return checked_bins(limits)


@dataclass(frozen=True)
class Cut:
    """Keep rows with minimum <= column < maximum, numbers as in the file. A row without a number is an error."""

    __pydantic_config__ = FORBID

    column: str
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        low = -np.inf if self.minimum is None else self.minimum
        high = np.inf if self.maximum is None else self.maximum
        if not low < high or (self.minimum is None and self.maximum is None):
            raise ConfigurationError(
                f"cut on {self.column!r}: minimum {self.minimum}, maximum {self.maximum}",
                expected="a minimum below a maximum, or one of them",
            )


@dataclass(frozen=True)
class GoodRuns:
    """A list of intervals of time in which the detector ran well.

    Attributes
    ----------
    path : str
        The list, in any format of event lists.
    start, stop : str
        Columns of the first and last time of each interval, both included.
    format : str
        Of its times, as in `TimeColumn`: "mjd", "jd", "utc" or "unix".
    outside : str
        What to do with events outside: "refuse" (an error that lists them) or "drop".
    """

    __pydantic_config__ = FORBID

    path: str
    start: str
    stop: str
    format: Literal["mjd", "jd", "utc", "unix"]
    outside: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        _one_of(self.format, TIME_FORMATS[:-1], "format of the good-run list")
        _one_of(self.outside, ("refuse", "drop"), "outside of the good-run list")


@dataclass(frozen=True)
class EventColumns:
    """What an event list holds, and which of it to use.

    Attributes
    ----------
    time : TimeColumn
        When.
    local : LocalColumns, optional
        Where from, at the detector. Used where given.
    equatorial : EquatorialColumns, optional
        Where from, on the sky. Used where no local direction is given; where both are, each event must have the
        same direction by both within `agreement_deg`, which finds wrong axes, clocks and longitudes.
    weight : str
        Column of weights, not negative; empty: one each.
    energy : EnergyColumn, optional
        Energies and their bins.
    cuts : tuple of Cut
        Applied before anything else.
    good_runs : GoodRuns, optional
        When the detector ran well.
    frame : str
        Clock of the time bins: "sidereal", "solar", "anti-sidereal" or "extended-sidereal".
    table : str
        Name of the FITS extension, or of the HDF5 group or compound data set; empty: the first, or the root.
    names : tuple of str
        Names of the columns of a text file that does not name them.
    agreement_deg : float
        Largest angle between local and equatorial directions.

    Raises
    ------
    ConfigurationError
        If something needed is not stated, or contradicts something else.

    Examples
    --------
    >>> columns = EventColumns(
    ...     time=TimeColumn("mjd", "mjd"),
    ...     local=LocalColumns("azimuth", "zenith", unit="deg", azimuth_convention="icecube"),
    ...     energy=EnergyColumn("logE", "GeV", log10=True, bins=(("10 TeV", "30 TeV"),)),
    ... )
    >>> sorted(columns.used)
    ['azimuth', 'logE', 'mjd', 'zenith']
    """

    __pydantic_config__ = FORBID

    time: TimeColumn
    local: LocalColumns | None = None
    equatorial: EquatorialColumns | None = None
    weight: str = ""
    energy: EnergyColumn | None = None
    cuts: tuple[Cut, ...] = ()
    good_runs: GoodRuns | None = None
    frame: str = "sidereal"
    table: str = ""
    names: tuple[str, ...] = ()
    agreement_deg: float = 1.0

    def __post_init__(self) -> None:
        _one_of(self.frame, FRAMES, "frame")
        if self.local is None and self.equatorial is None:
            raise ConfigurationError(
                "no columns of directions", expected="local (azimuth, zenith), equatorial, or both"
            )
        if len(set(self.names)) < len(self.names):
            raise ConfigurationError(f"names of columns {self.names} repeat", expected="each name once")
        if not 0.0 < self.agreement_deg <= 180.0:
            raise ConfigurationError(f"agreement_deg {self.agreement_deg}", expected="an angle in (0, 180] deg")
        if self.time.format == "sidereal":
            needs = {
                f"frame {self.frame!r}": self.frame != "sidereal", "a good-run list": self.good_runs is not None,
                "equinox J2000": self.equatorial is not None and self.equatorial.equinox == "J2000",
            }  # fmt: skip
            for need, there in needs.items():
                if there:
                    raise ConfigurationError(
                        f"time column {self.time.name!r} holds sidereal angles, but {need} needs dates",
                        expected=f"a time column with format {', '.join(TIME_FORMATS[:-1])}",
                    )

    @property
    def used(self) -> tuple[str, ...]:
        """Names of all columns that are read, each once."""
        names = [self.time.name, self.weight]
        names += [self.local.azimuth, self.local.zenith] if self.local else []
        names += [self.equatorial.right_ascension, self.equatorial.declination] if self.equatorial else []
        names += [self.energy.name] if self.energy else []
        names += [cut.column for cut in self.cuts]
        return tuple(dict.fromkeys(name for name in names if name))

    def relative_to(self, folder: str | Path) -> EventColumns:
        """Return the same with the path of the good-run list relative to `folder`, as in a configuration file."""
        if self.good_runs is None:
            return self
        return replace(self, good_runs=replace(self.good_runs, path=str(Path(folder) / self.good_runs.path)))


def angle_unit(text: str, column: str) -> float:
    """Return a unit of angle in radians.

    Raises
    ------
    ConfigurationError
        If it is none.

    Examples
    --------
    >>> round(angle_unit("deg", "zenith"), 6)
    0.017453
    """
    unit = parse_unit(text) if text else None
    if unit is None or not unit.is_equivalent(u.rad):
        raise ConfigurationError(
            f"column {column!r}: unit {text!r}", value=text, column=column,
            expected="a unit of angle: deg, rad or hourangle", remedy="State it: it is never guessed.",
        )  # fmt: skip
    return float(unit.to(u.rad))


def checked_bins(limits_tev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return energy bins (n, 2) in ascending order.

    Raises
    ------
    ConfigurationError
        If a bin is empty or not positive, or two overlap.
    """
    for low, high in limits_tev:
        if not 0.0 <= low < high:
            raise ConfigurationError(
                f"energy bin {low:g} to {high:g} TeV", value=low, expected="0 <= lower limit < upper limit"
            )
    ordered = limits_tev[np.argsort(limits_tev[:, 0], kind="stable")]
    for before, after in pairwise(ordered):
        # Limits written in different units may differ by rounding.
        if after[0] < before[1] * (1.0 - 1e-12):
            raise ConfigurationError(
                f"energy bins {before[0]:g}-{before[1]:g} TeV and {after[0]:g}-{after[1]:g} TeV overlap",
                value=float(after[0]), expected="each energy in one bin at most",
                remedy="Read overlapping selections by calls of their own.",
            )  # fmt: skip
    return ordered


def _one_of(value: str, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise ConfigurationError(
            f"{what}: {value!r}{nearest(value, choices)}", value=value, expected=f"one of {', '.join(choices)}"
        )
