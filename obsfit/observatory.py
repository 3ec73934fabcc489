"""Observatories: where on the Earth, and how far from the zenith they look."""

from __future__ import annotations

from dataclasses import dataclass, replace

import astropy.units as u

from obsfit import _tables
from obsfit.configuration import FORBID, read_quantity
from obsfit.errors import ConfigurationError

_FILE = "observatories.ecsv"


@dataclass(frozen=True)
class Observatory:
    """An observatory and its zenith cut.

    Attributes
    ----------
    name : str
        Name for messages and files.
    latitude : Quantity, angle
        Geographic latitude, north positive.
    longitude : Quantity, angle
        Geographic longitude, east positive. At a pole every meridian is as good; the shipped table means 0 deg
        there, so that the local sidereal time is that of Greenwich.
    zenith_max : Quantity, angle
        Largest zenith angle of the events, in (0, 90] deg.

    Raises
    ------
    ValueError
        If an angle is out of range.

    Examples
    --------
    >>> from dataclasses import replace
    >>> hawc = Observatory.named("HAWC")
    >>> hawc.declination_band
    (<Quantity -26. deg>, <Quantity 64. deg>)
    >>> replace(hawc, zenith_max=57 * u.deg).declination_band
    (<Quantity -38. deg>, <Quantity 76. deg>)
    """

    name: str
    latitude: u.Quantity
    longitude: u.Quantity
    zenith_max: u.Quantity

    def __post_init__(self) -> None:
        if not -90 <= self.latitude.to_value(u.deg) <= 90:
            raise ValueError(f"{self.name}: latitude {self.latitude}, expected -90 deg to 90 deg")
        if not -360 <= self.longitude.to_value(u.deg) <= 360:
            raise ValueError(
                f"{self.name}: longitude {self.longitude}, expected -360 deg to 360 deg, east positive"
            )
        if not 0 < self.zenith_max.to_value(u.deg) <= 90:
            raise ValueError(f"{self.name}: zenith_max {self.zenith_max}, expected an angle in (0, 90] deg")

    @classmethod
    def named(cls, name: str, *, zenith_max: u.Quantity | None = None) -> Observatory:
        """Return an observatory of Table 1 of AM17, or HAWC.

        Parameters
        ----------
        name : str
            Name or alias; upper and lower case are the same. `observatory_names` lists them.
        zenith_max : Quantity, angle, optional
            Another zenith cut. Needed for the observatories whose cut is not published in the table.

        Raises
        ------
        ConfigurationError
            If the name is unknown, or no zenith cut is known and none is given.
        """
        cells = _tables.row(_FILE, name, "observatory")
        cut = zenith_max if zenith_max is not None else cells["zenith_max"]
        if cut is None:
            raise ConfigurationError(
                f"{cells['name']}: no zenith cut is published in Table 1 of AM17",
                value=name,
                expected="a zenith cut",
                remedy=f"Give one: Observatory.named({cells['name']!r}, zenith_max=60 * u.deg).",
            )
        longitude = cells["longitude"] if cells["longitude"] is not None else 0.0 * u.deg
        return cls(cells["name"], cells["latitude"], longitude, cut)

    @property
    def declination_band(self) -> tuple[u.Quantity, u.Quantity]:
        """Smallest and largest declination that pass within the zenith cut, clipped at the poles."""
        return declination_band(self.latitude, self.zenith_max)


@dataclass(frozen=True)
class SiteSettings:
    """Where a detector stands, as configurations say it.

    Attributes
    ----------
    name : str
        Name of the detector; that of a known observatory if no latitude is given.
    latitude, zenith_max, longitude : str
        Site and zenith cut, angles such as "19 deg". Empty: those of the observatory of this name. With a latitude, the
        zenith cut is needed, and the longitude is 0 deg if it is not given.
    """

    __pydantic_config__ = FORBID

    name: str
    latitude: str = ""
    zenith_max: str = ""
    longitude: str = ""

    @property
    def observatory(self) -> Observatory:
        """Site and zenith cut.

        Raises
        ------
        ConfigurationError
            If no observatory has this name, an angle is none or out of range, or the zenith cut is not known.
        """
        given = {
            key: read_quantity(getattr(self, key), "angle", f"{key} of {self.name}")
            for key in ("latitude", "longitude", "zenith_max")
            if getattr(self, key)
        }
        if "latitude" in given and "zenith_max" not in given:
            raise ConfigurationError(f"{self.name}: no zenith_max", expected="a zenith cut beside the latitude")
        try:
            if "latitude" in given:
                return Observatory(
                    self.name, given["latitude"], given.get("longitude", 0.0 * u.deg), given["zenith_max"]
                )
            return replace(Observatory.named(self.name, zenith_max=given.get("zenith_max")), **given)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error


def observatory_names() -> tuple[str, ...]:
    """Return the names that `Observatory.named` knows, in the order of the table.

    Examples
    --------
    >>> observatory_names()[-2:]
    ('IceCube', 'HAWC')
    """
    return tuple(_tables.rows(_FILE))


def declination_band(latitude: u.Quantity, zenith_max: u.Quantity) -> tuple[u.Quantity, u.Quantity]:
    """Return the declinations (dec_min, dec_max) in degrees that come within `zenith_max` of the zenith.

    A fixed local direction keeps its declination all day, so the time-integrated field of view is the band
    latitude -+ zenith_max, clipped at the poles (Section 2 of AM17).

    Parameters
    ----------
    latitude : Quantity, angle
        Geographic latitude, north positive.
    zenith_max : Quantity, angle
        Largest zenith angle.

    Examples
    --------
    >>> declination_band(-90 * u.deg, 65 * u.deg)
    (<Quantity -90. deg>, <Quantity -25. deg>)
    """
    centre, radius = latitude.to_value(u.deg), zenith_max.to_value(u.deg)
    return max(centre - radius, -90.0) * u.deg, min(centre + radius, 90.0) * u.deg
