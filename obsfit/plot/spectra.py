"""Power spectra on a plot: points with intervals, and model curves brought to their height."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from obsfit.operators.isotropic_bands import power_quantile
from obsfit.operators.operator import ObservationOperator, Power
from obsfit.records import PowerSpectrum, TrueSky

FloatArray = NDArray[np.float64]


def power_interval(
    c_ell: ArrayLike, degrees_of_freedom: ArrayLike, level: float = 0.68
) -> tuple[FloatArray, FloatArray]:
    r"""Return lower and upper ends, shape (n,) each, of the central interval of the true total power.

    For an isotropic Gaussian sky :math:`k \hat C_l / C_l` follows a chi-square distribution with k degrees of
    freedom, k = 2 l where the map has no m = 0 power and 2 l + 1 where it has. The interval holds those C_l for which
    the measured power is neither among the lowest nor the highest (1 - level) / 2; it is wide and lopsided at low l.

    Parameters
    ----------
    c_ell : array_like, shape (n,)
        Measured power, noise included.
    degrees_of_freedom : array_like, shape (n,)
        Number k of real modes.
    level : float
        Probability content.

    Raises
    ------
    ValueError
        If a number of modes is not positive or the level is not between 0 and 1.

    Examples
    --------
    >>> low, high = power_interval([1.0], [2.0])
    >>> print(low.round(3), high.round(3))
    [0.546] [5.735]
    """
    power, modes = np.asarray(c_ell, dtype=np.float64), np.asarray(degrees_of_freedom, dtype=np.float64)
    if not np.all(modes > 0):
        raise ValueError(f"degrees_of_freedom {modes.min()}: expected positive numbers of modes (l >= 1)")
    if not 0 < level < 1:
        raise ValueError(f"level {level}: expected a probability between 0 and 1, such as 0.68")
    tail = 0.5 * (1 - level)
    return modes * power / stats.chi2.isf(tail, modes), modes * power / stats.chi2.ppf(tail, modes)


def drawn_power(spectrum: PowerSpectrum) -> FloatArray:
    r"""Return the power of a measurement as it belongs beside a model of the true sky, noise included, shape (n,).

    For a (nearly) full sky, :math:`C_l / W_l^2`, times (2 l + 1)/(2 l) where the map has no m = 0 power: what is
    tabulated is a sum over 2 l modes divided by 2 l + 1. Its expectation is :math:`C_l + N_l`. The pseudo-power of a
    cut sky has no such correction and is returned as it stands: no true-sky curve belongs over it.
    """
    if spectrum.kind != "full-sky":
        return np.array(spectrum.c_ell)
    modes = 2.0 * spectrum.ell + 1.0
    return np.asarray(spectrum.c_ell / spectrum.window_power * modes / spectrum.degrees_of_freedom)


def scale_to_data(shape: ArrayLike, spectrum: PowerSpectrum, ell_min: int, ell_max: int) -> float:
    r"""Return the factor A that brings a model spectrum to the height of measured multipoles.

    A is the most probable one if `drawn_power` is chi-square distributed about :math:`A\, C_l + N_l` with the degrees
    of freedom of `PowerSpectrum.degrees_of_freedom`, multipoles independent. That holds for a nearly complete sky;
    for a cut sky a fit must fold the model (`obsfit.operators`).

    Parameters
    ----------
    shape : array_like, shape (lmax + 1,)
        Model C_l at any amplitude, from l = 0.
    spectrum : PowerSpectrum
        The measurement, with its noise and window.
    ell_min, ell_max : int
        Range of multipoles that count, both included.

    Raises
    ------
    ValueError
        If the spectrum is a pseudo-spectrum, the noise is unknown, the window vanishes, the model has no power in
        the range, or the measurement none above its noise.
    """
    if spectrum.kind != "full-sky":
        raise ValueError(f"{spectrum.measurement}: pseudo-power; expected a full-sky spectrum, or fold the model")
    part = spectrum.select(ell_min, ell_max)
    model = np.asarray(shape, dtype=np.float64)[part.ell]
    if not np.all(np.isfinite(part.noise)) or not np.all(part.window_power > 0):
        raise ValueError(f"{spectrum.measurement}: noise and window must be known for l = {ell_min} to {ell_max}")
    if not np.all(model > 0):
        raise ValueError(f"model: no power somewhere between l = {ell_min} and {ell_max}")
    power, modes = drawn_power(part), part.degrees_of_freedom

    def minus_log_likelihood(log_amplitude: float) -> float:
        mean = np.exp(log_amplitude) * model + part.noise
        return float(np.sum(0.5 * modes * (np.log(mean) + power / mean)))

    guess = np.log(power / model)
    lowest = float(guess.min()) - 15.0
    found = optimize.minimize_scalar(minus_log_likelihood, bounds=(lowest, guess.max() + 1.0), method="bounded")
    if found.x < lowest + 1.0:
        raise ValueError(f"{spectrum.measurement}: no power above the noise between l = {ell_min} and {ell_max}")
    return float(np.exp(found.x))


def isotropic_sky(operator: ObservationOperator, c_ell: ArrayLike | None = None) -> TrueSky:
    """Return an isotropic Gaussian sky that is the same at all rigidities an operator averages over.

    Parameters
    ----------
    operator : ObservationOperator
        Gives the rigidities.
    c_ell : array_like, shape (lmax + 1,), optional
        Power from l = 0. Default: none, so that noise alone is observed.
    """
    rigidity = operator.energy.rigidity_tv
    power = np.zeros(1) if c_ell is None else np.asarray(c_ell, dtype=np.float64)
    shape = (1, rigidity.size, rigidity.size, power.size)
    return TrueSky(rigidity, c_ell=np.array(np.broadcast_to(power, shape)))


def folded_interval(
    operator: ObservationOperator, c_ell: ArrayLike | None = None, level: float = 0.68
) -> tuple[FloatArray, FloatArray]:
    r"""Return the ends, shape (n,) each, of the central interval of each power that an operator observes.

    Sky and noise are isotropic and Gaussian in the sense of the operator: the power at l is a sum over m of squared
    normal variables with variances :math:`(R_m C R_m^T + N_m)_{\ell\ell} / (2\ell+1)`, two for each m > 0, and its
    quantiles are exact. The interval of one multipole knows nothing of the others, which a cut sky correlates.

    Parameters
    ----------
    operator : ObservationOperator
        Of one observation, summarised by its power.
    c_ell : array_like, shape (lmax + 1,), optional
        Power of the true sky, the same at all rigidities. Default: none, noise alone.
    level : float
        Probability content.

    Raises
    ------
    ValueError
        If the operator is no power of one observation, or the level is not between 0 and 1.
    """
    if not isinstance(operator.summary, Power) or operator.n_obs != 1:
        raise ValueError(f"{operator.n_obs} observations, {type(operator.summary).__name__}: expected one, Power")
    if not 0 < level < 1:
        raise ValueError(f"level {level}: expected a probability between 0 and 1, such as 0.68")
    power = np.zeros(operator.lmax + 1)
    if c_ell is not None:
        known = np.asarray(c_ell, dtype=np.float64)[: operator.lmax + 1]
        power[: known.size] = known
    power *= float(operator.energy.weights.sum()) ** 2
    ell = operator.summary.ell
    variance = {
        m: np.einsum("lk,k,lk->l", response[0], power, response[0]) + np.diagonal(operator.noise[m][0])
        for m, response in operator.response.items()
    }
    tail = 0.5 * (1 - level)
    ends = np.zeros((2, ell.size))
    for place, value in enumerate(ell):
        modes = np.array([v[value] for m, v in variance.items() if m <= value for _ in range(1 if m == 0 else 2)])
        modes = modes[modes > 1e-12 * modes.max()] / (2.0 * value + 1.0)
        ends[:, place] = [power_quantile(probability, modes) for probability in (tail, 1 - tail)]
    return ends[0], ends[1]


def scale_folded(
    shape: ArrayLike, spectrum: PowerSpectrum, operator: ObservationOperator, ell_min: int, ell_max: int
) -> float:
    r"""Return the factor A that brings a model, folded through an operator, to the height of measured multipoles.

    A is the most probable one if each power follows a gamma distribution with the exact mean and variance of
    :math:`A\, C_\ell` and noise behind the operator, multipoles independent: a way to lay curves over points, not a
    fit.

    Parameters
    ----------
    shape : array_like, shape (lmax + 1,)
        Model C_l at any amplitude, from l = 0.
    spectrum : PowerSpectrum
        The measurement.
    operator : ObservationOperator
        Its operator: of one observation, at the multipoles of the spectrum.
    ell_min, ell_max : int
        Range of multipoles that count, both included.

    Raises
    ------
    ValueError
        If the multipoles of operator and spectrum differ, none is in the range, or there is no power above the noise.
    """
    if not isinstance(operator.summary, Power) or not np.array_equal(operator.summary.ell, spectrum.ell):
        raise ValueError(f"{spectrum.measurement}: expected an operator of power at l = {spectrum.ell.tolist()}")
    keep = (spectrum.ell >= ell_min) & (spectrum.ell <= ell_max)
    if not keep.any():
        raise ValueError(f"{spectrum.measurement}: no multipole between {ell_min} and {ell_max}")
    model = np.asarray(shape, dtype=np.float64)
    observed = spectrum.c_ell[keep]
    noise = operator.expect(isotropic_sky(operator)).mean[0, keep]
    signal = operator.expect(isotropic_sky(operator, model)).mean[0, keep] - noise

    def minus_log_likelihood(log_amplitude: float) -> float:
        moments = operator.expect(isotropic_sky(operator, np.exp(log_amplitude) * model))
        mean, variance = moments.mean[0, keep], np.diagonal(moments.covariance[0])[keep]
        return -float(np.sum(stats.gamma.logpdf(observed, mean**2 / variance, scale=variance / mean)))

    guess = np.log(observed / signal)
    lowest = float(guess.min()) - 15.0
    found = optimize.minimize_scalar(minus_log_likelihood, bounds=(lowest, guess.max() + 1.0), method="bounded")
    if found.x < lowest + 1.0:
        raise ValueError(f"{spectrum.measurement}: no power above the noise between l = {ell_min} and {ell_max}")
    return float(np.exp(found.x))


def draw_points(
    axes: Axes, spectrum: PowerSpectrum, *, label: str, level: float = 0.68, shift: float = 0.0, **style: Any
) -> None:
    """Draw the total power of `drawn_power` with the intervals of `power_interval`.

    Parameters
    ----------
    axes : matplotlib Axes
        Where to draw.
    spectrum : PowerSpectrum
        Multipoles with l >= 1.
    label : str
        For the legend.
    level : float
        Probability content of the intervals.
    shift : float
        Added to l, so that two sets do not hide each other.
    **style
        For ``Axes.errorbar``: colour, marker.
    """
    power = drawn_power(spectrum)
    low, high = power_interval(power, spectrum.degrees_of_freedom, level)
    settings: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": "#000000", **style}
    axes.errorbar(spectrum.ell + shift, power, yerr=np.stack([power - low, high - power]), label=label, **settings)
