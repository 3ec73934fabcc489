"""The likelihood of data whose distribution is known by draws alone: a normal law in suitable coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from obsfit.configuration import FORBID
from obsfit.errors import ConfigurationError, ModelDomainError, ObsfitError, PluginError
from obsfit.infer.one_sky_term import FLOOR
from obsfit.operators import ObservationOperator, operator_for
from obsfit.operators.catalogue import dipole_data
from obsfit.operators.energy import EnergyResponse, common_rigidities
from obsfit.operators.operator import Power
from obsfit.parameters import FloatArray, Parameter
from obsfit.protocols import Model, OffersAlm, OffersDipole, OffersDraws, OffersPower, true_sky
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.provenance import Provenance
from obsfit.records.spectrum import PowerSpectrum
from obsfit.records.true_sky import TrueSky, alm_size

ComplexArray = NDArray[np.complex128]

# Independent draws that are asked for, for each number of the data. With fewer, the law is nearly Cauchy's.
DRAWS_PER_NUMBER = 4
# Powers to this exponent are nearest to normal for a chi-square law of few degrees of freedom.
EXPONENT = 0.25


@dataclass(frozen=True)
class Simulation:
    """How the distribution of the data is simulated.

    Attributes
    ----------
    draws : int
        Number of skies drawn at each parameter vector.
    seed : int
        Seed of the skies and of the noise, the same at each parameter vector.
    independent : int
        How many of the draws are independent, where a model has fewer realisations than draws: a library of n fields,
        drawn N times with replacement, is worth at least n N / (n + N). Zero stands for all.
    lmax : int
        Largest multipole that the model draws; those above are taken to vanish. Zero stands for all that the operators
        ask for.
    exponent : float
        Powers are taken as normal in their Box-Cox coordinate of this exponent; zero is the logarithm.
    """

    __pydantic_config__ = FORBID

    draws: int
    seed: int
    independent: int = 0
    lmax: int = 0
    exponent: float = EXPONENT

    def __post_init__(self) -> None:
        for name, least in (("draws", 2), ("seed", 0), ("independent", 0), ("lmax", 0)):
            if not getattr(self, name) >= least:
                raise ConfigurationError(
                    f"simulation.{name} = {getattr(self, name)}", expected=f"a whole number of at least {least}"
                )
        if self.independent > self.draws:
            raise ConfigurationError(
                f"simulation.independent = {self.independent}", expected=f"at most the {self.draws} draws"
            )
        if not 0.0 <= self.exponent <= 1.0:
            raise ConfigurationError(
                f"simulation.exponent = {self.exponent}", expected="a number from 0 (logarithm) to 1 (the power)"
            )

    @property
    def worth(self) -> int:
        """Number of independent draws."""
        return self.independent or self.draws


@dataclass(frozen=True)
class SimulatedTerm:
    r"""Likelihood of spectra and dipoles of one sky under a model that offers draws: a synthetic likelihood.

    At each parameter vector :math:`\theta`, N skies are drawn, seen through the operators of all records with noise of
    their own, and summarised as the data are. A power P beside the observed :math:`\hat P` has the coordinate

    .. math:: z = \big[(P / \hat P)^\lambda - 1\big] / \lambda, \qquad z \to \ln (P / \hat P)
              \text{ for } \lambda \to 0,

    a dipole component is its own. In these the data are taken as normal, with mean and covariance those of the draws
    (Wood 2010, Nature 466, 1102; Price et al. 2018, J. Comput. Graph. Stat. 27, 1). They are known to within the
    number n of independent draws alone. With the prior :math:`|\Sigma|^{-(p+1)/2}` of Jeffreys for the covariance and a
    flat one for the mean, what is left for the p numbers of the data is the multivariate t law

    .. math:: p(z | \theta) = t_{n-p}\Big(z;\, \bar z,\, \frac{(n+1)(n-1)}{n (n-p)} S \Big),

    which is Eq. (12) of Sellentin & Heavens 2016 (MNRAS 456, L132) with the error of the mean too. Its Jacobian
    :math:`\prod |dz / dP|` makes it a density of the data.

    The draws have the same random numbers at each parameter vector, so that the likelihood is a function, as smooth as
    the draws of the model are. What they happen to be is one error that all vectors share: fit again with another seed
    to see it.

    When this is right: the coordinates of the data must be about normal *given the parameters*. The power of a
    Gaussian sky follows a chi-square law, and its fourth root is nearly normal even with two degrees of freedom
    (Hawkins & Wixley 1986, Am. Stat. 40, 296), its logarithm is not; `docs/simulated-likelihood.md` has what each
    costs. Coordinates that are normal one by one may still not be so together, which nothing here would notice. A
    Gaussian sky has an exact likelihood, which is to be preferred.

    Published errors are taken at face value: no scatter between experiments, noise at the estimate of the record,
    declination weights at their calibration. Powers have the error of their reading, and `floor`, as in `OneSkyTerm`.

    Attributes
    ----------
    records : tuple of PowerSpectrum and DipoleMeasurements
        What was measured.
    simulation : Simulation
        Number of draws and their seed.
    energy_spread : bool
        Whether observations average over their published spread in energy, which asks for skies at many rigidities.
    floor : float
        Relative error of each power, independent, for what the operators leave out.

    Raises
    ------
    ConfigurationError
        If there are fewer than four independent draws for each number of the data, or a power is zero.
    """

    records: tuple[PowerSpectrum | DipoleMeasurements, ...]
    simulation: Simulation
    energy_spread: bool = False
    floor: float = FLOOR

    def __post_init__(self) -> None:
        n_data, worth = self.data.size, self.simulation.worth
        if worth < DRAWS_PER_NUMBER * n_data:
            raise ConfigurationError(
                f"{worth} independent draws do not tell the covariance of {n_data} numbers", value=worth,
                expected=f"at least {DRAWS_PER_NUMBER} for each number: {DRAWS_PER_NUMBER * n_data}",
                remedy="Raise draws in [simulation], or fit fewer multipoles and dipoles.",
            )  # fmt: skip
        if np.any(self._power <= 0.0):
            raise ConfigurationError(
                f"{self.labels[int(np.argmin(self._power))]}: the power is {self._power.min():g}",
                expected="powers above zero, before subtraction of noise",
            )

    @cached_property
    def spectra(self) -> tuple[PowerSpectrum, ...]:
        """The spectra, in their order."""
        return tuple(record for record in self.records if isinstance(record, PowerSpectrum))

    @cached_property
    def dipoles(self) -> tuple[DipoleMeasurements, ...]:
        """The tables of dipoles, in their order."""
        return tuple(record for record in self.records if isinstance(record, DipoleMeasurements))

    @cached_property
    def _power(self) -> FloatArray:
        return np.concatenate([record.c_ell for record in self.spectra] or [np.zeros(0)])

    @cached_property
    def data(self) -> FloatArray:
        """Powers of all spectra, then components (0h, 6h) of all dipoles, shape (n_data,)."""
        return np.concatenate([self._power, *(dipole_data(record)[0].ravel() for record in self.dipoles)])

    @property
    def labels(self) -> tuple[str, ...]:
        """One label for each entry of the data."""
        powers = [f"{s.measurement} l={ell}" for s in self.spectra for ell in s.ell]
        return (*powers, *(f"{k} {axis}" for d in self.dipoles for k in d.measurement for axis in ("0h", "6h")))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """There are no nuisances."""
        return ()

    @property
    def provenances(self) -> tuple[Provenance, ...]:
        """Origin of each file, once."""
        return tuple({record.provenance.name: record.provenance for record in self.records}.values())

    @cached_property
    def _operators(self) -> tuple[ObservationOperator, ...]:
        """Operator of each record, spectra first, with what is observed beyond its multipoles left out."""
        ordered: tuple[PowerSpectrum | DipoleMeasurements, ...] = (*self.spectra, *self.dipoles)
        found = [operator_for(record, energy_spread=self.energy_spread) for record in ordered]
        energies = common_rigidities([operator.energy for operator in found])
        return tuple(_cut(operator, energy) for operator, energy in zip(found, energies, strict=True))

    @property
    def rigidity_tv(self) -> FloatArray:
        """Rigidities at which skies are drawn, shape (n_rig,)."""
        return self._operators[0].energy.rigidity_tv

    @property
    def lmax(self) -> int:
        """Largest multipole that is drawn."""
        wanted = max(operator.lmax for operator in self._operators)
        return min(wanted, self.simulation.lmax) if self.simulation.lmax else wanted

    @cached_property
    def _reading(self) -> FloatArray:
        """Standard deviation of the logarithm of each power by reading and by what operators leave out."""
        parts = [np.full(len(record), np.hypot(record.reading_error, self.floor)) for record in self.spectra]
        return np.concatenate(parts or [np.zeros(0)])

    def coordinates(self, data: FloatArray) -> FloatArray:
        """Return the data, shape (..., n_data), in the coordinates in which they are taken as normal."""
        ratio = data[..., : self._power.size] / self._power
        exponent = self.simulation.exponent
        power = np.log(ratio) if exponent == 0.0 else (ratio**exponent - 1.0) / exponent
        return np.concatenate([power, data[..., self._power.size :]], axis=-1)

    def log_jacobian(self, data: FloatArray) -> FloatArray:
        """Return the logarithm of the volume of `coordinates` over that of the data, shape (...)."""
        power = data[..., : self._power.size]
        return np.asarray(
            np.sum((self.simulation.exponent - 1.0) * np.log(power / self._power) - np.log(self._power), axis=-1)
        )

    def simulate(self, sky: TrueSky) -> FloatArray:
        """Return simulated data, shape (n_vec, n_draws, n_data): all draws of a sky as they are observed.

        Draws and the fixed part of the sky add. The noise is the same for each parameter vector.
        """
        return np.stack(
            [
                self._observed(alm, sky.rigidity_tv, rng=np.random.default_rng([self.simulation.seed, 1]))
                for alm in _all_draws(sky)
            ]
        )

    def _observed(self, alm: ComplexArray, rigidity_tv: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """Data of skies (n, n_rig, n_alm), shape (n, n_data), each with noise of its own."""
        seen = TrueSky(rigidity_tv, alm=alm)
        data = np.concatenate([operator.draw(seen, rng=rng)[:, 0] for operator in self._operators], axis=1)
        data[:, : self._power.size] *= np.exp(self._reading * rng.normal(size=(len(alm), self._power.size)))
        return data

    def log_prob(self, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,)."""
        return self.log_prob_of(self.data, sky, nuisance)

    def log_prob_of(self, data: FloatArray, sky: TrueSky, nuisance: FloatArray) -> FloatArray:
        """Log likelihood, shape (n_vec,), of other data (n_data,) or (n_vec, n_data) of the same observations.

        Raises
        ------
        ObsfitError
            If the simulated data do not vary, or are not finite.
        """
        del nuisance
        simulated = self.coordinates(self.simulate(sky))
        found = student_log_density(self.coordinates(data), simulated, worth=self.simulation.worth)
        return found + self.log_jacobian(data)

    def draw(self, sky: TrueSky, nuisance: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """One random data set of one of the draws of each parameter vector, shape (n_vec, n_data)."""
        del nuisance
        drawn = _all_draws(sky)
        taken = drawn[np.arange(len(drawn)), rng.integers(drawn.shape[1], size=len(drawn))]
        return self._observed(taken, sky.rigidity_tv, rng=rng)


def student_log_density(values: FloatArray, draws: FloatArray, *, worth: int | None = None) -> FloatArray:
    r"""Log density of values under the normal law that some draws are of, shape (n_vec,): a multivariate t law.

    .. math:: t_{n-p}\Big(z;\, \bar z,\, \frac{(n+1)(n-1)}{n (n-p)} S \Big)

    with mean and covariance S of the draws, both uncertain (S has the divisor N - 1). Hotelling's T squared says that
    a further draw of the normal law lies within a region of this law as often as it promises, for each n > p.

    Parameters
    ----------
    values : ndarray, shape (n_data,) or (n_vec, n_data)
    draws : ndarray, shape (n_vec, n_draws, n_data)
    worth : int, optional
        n, the number of independent draws. Default: all of them.

    Raises
    ------
    ObsfitError
        If the draws are not finite, or lie in a plane.

    Examples
    --------
    Three draws of a number, 0, 1 and 2, leave Student's t of two degrees of freedom, wider by the root of 4/3:

    >>> draws = np.array([[[0.0], [1.0], [2.0]]])
    >>> student_log_density(np.array([1.0]), draws).round(4)
    array([-1.1836])
    """
    n, p = worth or draws.shape[1], draws.shape[2]
    if not np.all(np.isfinite(draws)):
        raise ObsfitError("simulated data are not finite", expected="draws of the model that are finite, not zero")
    mean = draws.mean(axis=1)
    offset = draws - mean[:, None]
    covariance = np.swapaxes(offset, 1, 2) @ offset / (draws.shape[1] - 1)
    try:
        root = np.linalg.cholesky(covariance * ((n + 1) * (n - 1) / (n * (n - p))))
    except np.linalg.LinAlgError:
        raise ObsfitError(
            "simulated data do not vary, or vary in a plane", expected="data none of which the others determine"
        ) from None
    white = np.linalg.solve(root, (values - mean)[..., None])[..., 0]
    nu = n - p
    constant = gammaln(0.5 * (nu + p)) - gammaln(0.5 * nu) - 0.5 * p * np.log(nu * np.pi)
    half = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(constant - half - 0.5 * (nu + p) * np.log1p((white**2).sum(axis=1) / nu))


def simulated_sky(
    model: Model, theta: FloatArray, term: SimulatedTerm, *, rng: np.random.Generator | None = None
) -> TrueSky:
    """Return the sky of a model that offers draws, as a `SimulatedTerm` asks for it.

    Parameters
    ----------
    model : Model
        Offers `draws`; a dipole or a fixed sky that it offers too is added.
    theta : ndarray, shape (n_vec, n_par)
        Parameter vectors.
    term : SimulatedTerm
        What observes the sky.
    rng : numpy.random.Generator, optional
        Source of one draw for each vector. Default: as many draws as the term says, of its seed, with the same random
        numbers for each vector.

    Raises
    ------
    ConfigurationError
        If the model offers no draws, or a Gaussian sky besides.
    """
    if not isinstance(model, OffersDraws):
        raise ConfigurationError(
            f"model {model.name!r} offers no draws", expected="a model that draws its skies from an ensemble",
            remedy="Its likelihood is known: leave out [simulation], or use Likelihood(record).",
        )  # fmt: skip
    if isinstance(model, OffersPower):
        raise ConfigurationError(
            f"model {model.name!r} offers draws and a Gaussian sky", expected="one random part"
        )
    where, lmax = term.rigidity_tv, term.lmax
    fixed = isinstance(model, OffersDipole | OffersAlm)
    alm = true_sky(model, theta, where, lmax).alm if fixed else None
    if rng is not None:
        return TrueSky(where, alm, draws=_checked(model, model.draws(theta, where, lmax, 1, rng=rng), term))
    size, seed = term.simulation.draws, term.simulation.seed
    drawn = [model.draws(one[None], where, lmax, size, rng=np.random.default_rng([seed, 0])) for one in theta]
    return TrueSky(where, alm, draws=_checked(model, np.concatenate(drawn), term))


def check_domain(model: Model, term: SimulatedTerm) -> None:
    """Refuse a model that cannot draw what a term asks for, at the medians of its priors.

    Raises
    ------
    ConfigurationError
        If it says so; the message repeats what it says.
    """
    middle = np.array([[parameter.prior.ppf(0.5) for parameter in model.parameters]])
    try:
        simulated_sky(model, middle, term, rng=np.random.default_rng(term.simulation.seed))
    except ModelDomainError as error:
        spread = "energy_spread = false takes each observation at its median energy."
        depth = f"simulation.lmax limits the multipoles drawn, here to {term.lmax}."
        raise ConfigurationError(
            f"model {model.name!r} cannot draw the skies of these data: {error.problem}", value=error.value,
            expected=error.expected, remedy=f"{error.remedy}\n{spread if term.energy_spread else depth}".strip(),
        ) from error  # fmt: skip


def _all_draws(sky: TrueSky) -> ComplexArray:
    """Draws and the fixed part of a sky together, shape (n_vec, n_draws, n_rig, n_alm)."""
    if sky.draws is None or sky.c_ell is not None:
        raise ValueError("expected a sky of draws, with or without a fixed part, and no Gaussian part")
    return sky.draws if sky.alm is None else sky.draws + sky.alm[:, None]


def _checked(model: Model, draws: ComplexArray, term: SimulatedTerm) -> ComplexArray:
    expected = (term.rigidity_tv.size, alm_size(term.lmax))
    if draws.ndim != 4 or draws.shape[2:] != expected:
        raise PluginError(
            f"model {model.name!r}: draws returned shape {draws.shape}",
            expected=f"shape (n_vec, size, {expected[0]}, {expected[1]})",
        )
    return draws


def _cut(operator: ObservationOperator, energy: EnergyResponse) -> ObservationOperator:
    """The operator on another grid of rigidities, without observed multipoles beyond those that are published."""
    last = int(operator.summary.ell[-1]) if isinstance(operator.summary, Power) else 1
    rows = slice(last + 1)
    return replace(
        operator,
        response={m: matrix[:, rows] for m, matrix in operator.response.items() if m <= last},
        noise={m: matrix[:, rows, rows] for m, matrix in operator.noise.items() if m <= last},
        energy=energy,
    )
