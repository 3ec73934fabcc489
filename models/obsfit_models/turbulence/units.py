r"""Gyroradii and times of the kernels in physical units, and back.

The kernels know one number: the gyroradius in a field of unit strength, in units of the length of the field, here the
*reduced gyroradius* :math:`\rho = r_L / \lambda`. Momenta are ultra-relativistic, so that a rigidity R = pc/Ze alone
decides: :math:`r_L = R / B` in Gaussian units, 1.081 pc for 1 PV in 1 uG (AM17 rounds to 1.1 pc and, for 1 TV, 200 AU).
"""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astropy import constants

from obsfit.errors import ConfigurationError


def rigidity(energy: u.Quantity, *, charge_number: float = 1.0) -> u.Quantity:
    """Return the rigidity of nuclei, their energy over their charge.

    Parameters
    ----------
    energy : Quantity, energy
        Of the nucleus, much above its rest mass.
    charge_number : float
        Z; 1 for protons.

    Examples
    --------
    >>> rigidity(52 * u.TeV, charge_number=26)
    <Quantity 2. TV>
    """
    if not (np.isfinite(charge_number) and charge_number > 0):
        raise ConfigurationError(
            f"charge_number is {charge_number}", value=charge_number, expected="a positive number of charges"
        )
    value = _positive(energy, u.eV, "energy", "an energy such as 10 * u.TeV")
    volts = value / charge_number * u.V
    return volts.to(u.TV)


def gyroradius(rigidity: u.Quantity, strength: u.Quantity) -> u.Quantity:
    r"""Return the gyroradius across a field, :math:`r_L = R / (c B)` in SI units, in pc.

    Parameters
    ----------
    rigidity : Quantity, electric potential
        pc/Ze, for example in TV.
    strength : Quantity, magnetic field
        For example in uG.

    Raises
    ------
    ConfigurationError
        If one is not positive and finite, or has another kind of unit.

    Examples
    --------
    >>> round(gyroradius(1 * u.PV, 1 * u.uG), 3)
    <Quantity 1.081 pc>
    >>> round(gyroradius(1 * u.TV, 1 * u.uG).to(u.AU), 0)
    <Quantity 223. AU>
    """
    volts = _positive(rigidity, u.V, "rigidity", "a rigidity such as 10 * u.TV")
    tesla = _positive(strength, u.T, "field strength", "a magnetic field such as 3 * u.uG")
    return (volts / (constants.c.si.value * tesla) * u.m).to(u.pc)


def gyrofrequency(rigidity: u.Quantity, strength: u.Quantity) -> u.Quantity:
    r"""Return :math:`\Omega = c / r_L` in rad per year; times of the kernels are in :math:`1/\Omega`.

    Raises
    ------
    ConfigurationError
        As `gyroradius`.

    Examples
    --------
    >>> round(gyrofrequency(10 * u.TV, 3 * u.uG), 1)   # a turn takes 74 days
    <Quantity 85.1 rad / yr>
    """
    return (constants.c * u.rad / gyroradius(rigidity, strength)).to(u.rad / u.yr)


def reduced_gyroradius(rigidity: u.Quantity, strength: u.Quantity, length: u.Quantity) -> float:
    r"""Return :math:`\rho = r_L / \lambda`, which `orbits` and `displacement` call the gyroradius.

    Parameters
    ----------
    rigidity : Quantity, electric potential
    strength : Quantity, magnetic field
        What 1 stands for in the values of the field: B_0, or the rms without a mean field.
    length : Quantity, length
        What 1 stands for in its lengths: lambda_c of the papers.

    Raises
    ------
    ConfigurationError
        As `gyroradius`.

    Examples
    --------
    >>> round(reduced_gyroradius(27.8 * u.PV, 3 * u.uG, 100 * u.pc), 3)
    0.1
    """
    unit = _positive(length, u.pc, "length", "a length such as 10 * u.pc")
    return float(gyroradius(rigidity, strength).to_value(u.pc) / unit)


def rigidity_of(reduced: float, strength: u.Quantity, length: u.Quantity) -> u.Quantity:
    """Return the rigidity, in TV, that has a reduced gyroradius; the inverse of `reduced_gyroradius`.

    Raises
    ------
    ConfigurationError
        As `gyroradius`.

    Examples
    --------
    >>> round(rigidity_of(1e-4, 3 * u.uG, 10 * u.pc), 2)
    <Quantity 2.78 TV>
    """
    value = _positive(reduced * u.one, u.one, "reduced gyroradius", "a plain number")
    metres = value * _positive(length, u.m, "length", "a length such as 10 * u.pc")
    tesla = _positive(strength, u.T, "field strength", "a magnetic field such as 3 * u.uG")
    volts = metres * constants.c.si.value * tesla * u.V
    return volts.to(u.TV)


def _positive(quantity: u.Quantity, unit: u.UnitBase, what: str, expected: str) -> float:
    """Value in a unit, or an error that says what was given."""
    try:
        value = float(quantity.to_value(unit))
    except (AttributeError, TypeError, u.UnitConversionError) as error:
        raise ConfigurationError(
            f"{what} is {quantity!r}", value=quantity, expected=expected, remedy="Give it as one Quantity."
        ) from error
    if not (np.isfinite(value) and value > 0):
        raise ConfigurationError(f"{what} is {quantity}", value=value, expected=f"{expected}, positive and finite")
    return value
