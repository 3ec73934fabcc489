"""Rigidity, magnetic field and gyroradius."""

from __future__ import annotations

import astropy.units as u
from astropy.constants import c


def gyroradius(rigidity: u.Quantity, field: u.Quantity) -> u.Quantity:
    """Return the gyroradius R / (c B) in parsec: of a particle of rigidity R that moves across a field B.

    Parameters
    ----------
    rigidity : Quantity, voltage
        Momentum times c per charge, p c / (Z e).
    field : Quantity, magnetic flux density
        Strength of the field.

    Examples
    --------
    >>> gyroradius(1 * u.PV, 1 * u.uG).round(3)
    <Quantity 1.081 pc>
    >>> gyroradius(1 * u.TV, 1 * u.uG).to(u.au).round(0)
    <Quantity 223. AU>
    """
    return (rigidity / (c * field)).to(u.pc)


def rigidity(gyroradius: u.Quantity, field: u.Quantity) -> u.Quantity:
    """Return the rigidity r c B in teravolts of a particle of gyroradius r in a field B.

    Parameters
    ----------
    gyroradius : Quantity, length
        Radius of the circle across the field.
    field : Quantity, magnetic flux density
        Strength of the field.

    Examples
    --------
    >>> rigidity(10 * u.pc, 3 * u.uG).to(u.PV).round(1)
    <Quantity 27.8 PV>
    """
    return (gyroradius * c * field).to(u.TV)
