"""A posterior of one sky without some of the measurements, which knows them all the same."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from obsfit.errors import ConfigurationError
from obsfit.infer.likelihood import Likelihood
from obsfit.infer.one_sky_term import OneSkyTerm
from obsfit.infer.posterior import Posterior
from obsfit.parameters import FloatArray
from obsfit.records.dipoles import DipoleMeasurements
from obsfit.records.spectrum import PowerSpectrum

__all__ = ["PartialPosterior"]


class PartialPosterior(Posterior):
    """Log posterior density of the parameters of one sky, given some of what was measured of it.

    Parameters
    ----------
    whole : Posterior
        Of several records of one sky (`OneSkyTerm`), with its priors.
    leave_out : sequence of str
        Measurements that are not fitted, such as "icecube-2025-24TeV" or a row of a table of dipoles.

    Raises
    ------
    ConfigurationError
        If the posterior is of anything else, a measurement is not in it, or nothing is left.

    Attributes
    ----------
    whole : Posterior
        As given.
    left_out : tuple of str
        Labels of the data that are not fitted.
    """

    def __init__(self, whole: Posterior, leave_out: Sequence[str]) -> None:
        term = one_sky_term(whole)
        kept = _without(term, leave_out)
        self.whole, self._whole_term = whole, term
        likelihood = Likelihood(kept)
        parameters = (*whole.model.parameters, *likelihood.parameters)
        # A nuisance may be numbered otherwise when a record is gone; what it is said to be stays the same.
        known = {(p.description or p.name): column for column, p in enumerate(whole.parameters)}
        columns = [known[p.description or p.name] for p in parameters]
        priors = {p.name: whole.parameters[c].prior for p, c in zip(parameters, columns, strict=True)}
        super().__init__(whole.model, likelihood, priors=priors)
        self._columns = columns
        measured = set(kept.labels)
        self.left_out = tuple(label for label in term.labels if label not in measured)

    @property
    def description(self) -> dict[str, Any]:
        """What a stored fit is a fit of, in terms of JSON."""
        return {**super().description, "left_out": list(self.left_out)}

    @property
    def term(self) -> OneSkyTerm:
        """All data, those left out included."""
        return self._whole_term

    @property
    def places(self) -> list[int]:
        """Where the data that are left out stand among all."""
        return [self._whole_term.labels.index(label) for label in self.left_out]

    @property
    def energy_tev(self) -> FloatArray:
        """Median energy of each datum that is left out, shape (n,)."""
        term = self._whole_term
        energies = [np.full(len(record), record.energy_tev) for record in term.spectra]
        energies += [np.repeat(record.energy_tev, 2) for record in term.dipoles]
        return np.concatenate(energies)[self.places]

    def completed(self, theta: FloatArray, *, rng: np.random.Generator) -> FloatArray:
        """Vectors of all parameters (n_vec, n_whole), from those of this posterior (n_vec, n_par).

        Nuisances of what was left out are drawn from their priors: what is fitted knows nothing of them.
        """
        drawn = [p.prior.rvs(size=len(theta), random_state=rng) for p in self.whole.parameters]
        found = np.column_stack(drawn)
        found[:, self._columns] = theta
        return found


def one_sky_term(posterior: Posterior) -> OneSkyTerm:
    """Return the one term of a posterior of several records of one sky.

    Raises
    ------
    ConfigurationError
        If it is of anything else.
    """
    term, *others = posterior.likelihood.terms
    if others or not isinstance(term, OneSkyTerm) or sum(len(_names(record)) for record in term.records) < 2:
        raise ConfigurationError(
            "nothing can be left out of this fit: it is not of several measurements of one sky",
            expected="several spectra or dipoles, taken together",
            remedy="Without assume_independent_skies and [simulation]; one measurement cannot predict itself.",
        )
    return term


def _names(record: PowerSpectrum | DipoleMeasurements) -> tuple[str, ...]:
    return (record.measurement,) if isinstance(record, PowerSpectrum) else tuple(record.measurement)


def _without(term: OneSkyTerm, leave_out: Sequence[str]) -> OneSkyTerm:
    """The term of all measurements but some."""
    known = [name for record in term.records for name in _names(record)]
    for name in leave_out:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigurationError(
                f"leave_out: there is no measurement {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=f"one of {', '.join(known)}",
            )
    kept: list[PowerSpectrum | DipoleMeasurements] = []
    for record in term.records:
        stays = np.array([name not in leave_out for name in _names(record)])
        if stays.all():
            kept.append(record)
        elif stays.any() and isinstance(record, DipoleMeasurements):
            kept.append(record.select(stays))
    if not kept:
        raise ConfigurationError("leave_out names all data", expected="some that are fitted")
    if not leave_out:
        raise ConfigurationError("leave_out is empty", expected="measurements that are not fitted")
    return OneSkyTerm(tuple(kept), term.nuisances, term.scatter, term.energy_spread, term.floor)
