"""Relative diffusion fitted to twelve years of IceCube: each energy, all nine on one sky, and with the 10 TeV map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from obsfit_models.relative_diffusion import RelativeDiffusion, power_ratio
from scipy import stats

import obsfit
from obsfit.infer import (
    Likelihood,
    Nuisances,
    OneSkyTerm,
    Posterior,
    WeightedSamples,
    predictive_p_value,
    run_importance,
)
from obsfit.infer.one_sky_term import FLOOR, REACH
from obsfit.ingest.catalogue import load_spectra
from obsfit.parameters import FloatArray, Parameter
from obsfit.plot.products import write_table
from obsfit.plot.report import Comparison, DataSource, FigureEntry
from obsfit.plot.runner import Context, generator
from obsfit.plot.style import COLOURS, new_figure, save, series_style, styled
from obsfit.protocols import Model
from obsfit.records import PowerSpectrum

KEY = "one-sky-icecube"
TITLE = "Relative diffusion fitted to IceCube at nine energies of one sky"
PAPER = "Own fits"
FIGURE = ""

DATA = "icecube-2025"
MAP = "hawc-icecube-2019"
# Of the 10 TeV map: where the spectra of IceCube end. From the dipole on, as they hold it too, in all of l = 1 to 4.
MAP_ELL = (1, 20)
SPLIT_TEV = 100.0
SPLIT_ELL = 5
IDENTIFIED_BITS = 0.5
QUANTILES = {"p2.5": 0.025, "p16": 0.16, "median": 0.5, "p84": 0.84, "p97.5": 0.975}
# A sky that a spectrum like that of single energies and a decade of coherence would make.
PLAUSIBLE = {"log10_c1": -5.9, "exponent": 0.4, "slope": 0.35, "log10_coherence": 0.0, "response_width": 1.0}
ALL, MEDIANS, CHANGING = "all energies", "all, median energies", "all, shape changes, median energies"
CHANGING_SPREAD = "all, shape changes"
WITH_MAP, LOW, HIGH = "all and the 10 TeV map", "below 100 TeV", "above 100 TeV"
LOW_ELL, HIGH_ELL, WIDE_WINDOW = "all, l ≤ 4", "all, l ≥ 6", "all, twice the weights' errors"
NO_FLOOR = "all, no error floor"
SHOWN = (ALL, MEDIANS, WITH_MAP, LOW, HIGH, LOW_ELL, HIGH_ELL, NO_FLOOR, CHANGING)


@dataclass(frozen=True)
class ChangingDiffusion:
    r"""Relative diffusion whose exponent and growth change with rigidity: two parameters more, to ask what is missing.

    With :math:`x = \log_{10} R/100\,\mathrm{TV}`, held between -1.5 and 2.5, the exponent is :math:`p + r x`, held
    between 0.01 and 0.99, and power grows as :math:`10^{\gamma x + \kappa x^2}`. It is a question to the data, no
    physics: r and kappa have no derivation.
    """

    @property
    def name(self) -> str:
        return "changing-diffusion"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        running = Parameter(
            "running", stats.uniform(-1.0, 2.0), description="change of p with a decade of rigidity"
        )
        curvature = Parameter("curvature", stats.uniform(-2.0, 4.0), description="half the change of the slope")
        return (*RelativeDiffusion(rigidity_dependence=True).parameters, running, curvature)

    def c_ell(self, theta: FloatArray, rigidity_tv: FloatArray, lmax: int) -> FloatArray:
        log_c1, exponent, slope, log_coherence, running, curvature = theta.T[:, :, None]
        decades = np.log10(np.asarray(rigidity_tv) / 100.0)
        x = np.clip(decades, -1.5, 2.5)
        shape = power_ratio(np.clip(exponent + running * x, 0.01, 0.99), lmax)
        root = np.sqrt(shape * (10.0 ** (log_c1 + slope * x + curvature * x**2))[..., None])
        memory = np.exp(-np.abs(decades[:, None] - decades) / 10.0 ** log_coherence[..., None])
        return np.asarray(root[:, :, None] * root[:, None] * memory[..., None])


@dataclass(frozen=True)
class Case:
    """Data and assumptions of one fit."""

    name: str
    posterior: Posterior

    @property
    def term(self) -> OneSkyTerm:
        """The data."""
        (term,) = self.posterior.likelihood.terms
        if not isinstance(term, OneSkyTerm):
            raise TypeError(f"{self.name}: {type(term).__name__}, expected one OneSkyTerm")
        return term


@dataclass(frozen=True)
class Fit:
    """One fit, and how well it describes its data."""

    case: Case
    samples: WeightedSamples
    predictive_p: float
    below_reading: int
    information: FloatArray

    def quantiles(self, name: str) -> FloatArray:
        """Quantiles of one parameter, in the order of QUANTILES."""
        return self.samples.quantile(list(QUANTILES.values()))[:, self.samples.names.index(name)]

    @property
    def log_likelihood(self) -> float:
        """Log likelihood at the best vector that was met."""
        best = self.samples.maximum[None]
        return float((self.case.posterior.log_prob(best) - self.case.posterior.log_prior(best))[0])


def case(
    name: str,
    records: Iterable[PowerSpectrum],
    *,
    changing: bool = False,
    spread: bool = True,
    weight: float = 1.0,
    floor: float = FLOOR,
) -> Case:
    """Return a fit of all records on one sky that changes with energy."""
    model: Model = ChangingDiffusion() if changing else RelativeDiffusion(rigidity_dependence=True)
    nuisances = Nuisances(weight=stats.truncnorm(-REACH / weight, REACH / weight, scale=weight))
    term = OneSkyTerm(tuple(records), nuisances, energy_spread=spread, floor=floor)
    return Case(name, Posterior(model, Likelihood(term)))


def single(record: PowerSpectrum) -> Case:
    """Return a fit of one energy, in which the sky need not change and no response matters."""
    term = OneSkyTerm((record,), Nuisances(width=None))
    return Case(record.measurement, Posterior(RelativeDiffusion(), Likelihood(term)))


def cases(spectra: tuple[PowerSpectrum, ...], whole: PowerSpectrum, *, full: bool) -> tuple[Case, ...]:
    """Return all fits."""
    found = [single(record) for record in spectra]
    found += [
        case(ALL, spectra),
        case(MEDIANS, spectra, spread=False),
        case(WITH_MAP, (*spectra, whole.select(*MAP_ELL))),
        case(LOW, [record for record in spectra if record.energy_tev < SPLIT_TEV]),
        case(HIGH, [record for record in spectra if record.energy_tev > SPLIT_TEV]),
        case(LOW_ELL, [record.select(1, SPLIT_ELL) for record in spectra]),
        case(HIGH_ELL, [record.select(SPLIT_ELL, 20) for record in spectra]),
        case(NO_FLOOR, spectra, floor=0.0),
        case(CHANGING, spectra, changing=True, spread=False),
    ]
    if full:
        found += [
            case(CHANGING_SPREAD, spectra, changing=True),
            case(WIDE_WINDOW, spectra, weight=2.0),
            *(case(f"all but {r.measurement}", [s for s in spectra if s is not r]) for r in spectra),
        ]
    return tuple(found)


def fit(one: Case, *, seed: int, size: float, repeats: int) -> Fit:
    """Return the samples of a posterior and what they say of the data, each with its own random stream."""
    samples = run_importance(
        one.posterior, rng=generator(seed, f"{KEY}/{one.name}"), effective_size=size, max_evaluations=100_000
    )
    rng = generator(seed, f"{KEY}/{one.name}/prediction")
    equal = samples.resample(repeats, rng=rng)
    best = samples.maximum[None]
    below = one.term.directions_below_reading(one.posterior.skies(best)[0], one.posterior.nuisances(best)[0])
    gain = np.asarray(samples.summary()["bits"])
    return Fit(one, samples, predictive_p_value(one.posterior, equal, rng=rng), int(below[0]), gain)


def summary(found: tuple[Fit, ...]) -> Table:
    """Return one row for each parameter of each fit."""
    rows = []
    for one in found:
        for index, name in enumerate(one.samples.names):
            rows.append(
                {
                    "case": one.case.name, "parameter": name,
                    **dict(zip(QUANTILES, one.quantiles(name).tolist(), strict=True)),
                    "best": float(one.samples.maximum[index]), "information": float(one.information[index]),
                    "identified": bool(one.information[index] >= IDENTIFIED_BITS),
                    "log_evidence": one.samples.log_evidence, "log_evidence_error": one.samples.log_evidence_error,
                    "log_likelihood": one.log_likelihood, "predictive_p": one.predictive_p,
                    "n_data": one.case.term.data.size, "below_reading": one.below_reading,
                    "effective_size": one.samples.effective_size,
                }
            )  # fmt: skip
    table = Table(rows=rows, units={"information": "bit"})
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".5g"
    table["log_evidence"].info.format = table["log_likelihood"].info.format = ".2f"
    table["best"].description = "largest posterior density that was met, in the measure of the prior"
    table["information"].description = "Kullback-Leibler divergence of the marginal posterior from the prior"
    table["identified"].description = "at least half a bit of information"
    table["log_likelihood"].description = "at the best vector, normalised in the powers"
    table[
        "predictive_p"
    ].description = "share of repeated observations whose log powers are less likely than the data"
    table["below_reading"].description = "directions of the log powers that scatter less than their reading errors"
    return table


def value(table: Table, name: str, parameter: str, column: str) -> float:
    """Return one cell of the summary."""
    pick = (table["case"] == name) & (table["parameter"] == parameter)
    return float(table[column][pick][0])


def without(record: PowerSpectrum, ell: int) -> PowerSpectrum:
    """Return a spectrum without one multipole."""
    keep = record.ell != ell
    columns = [field.name for field in fields(record)]
    arrays = {
        name: getattr(record, name) for name in columns if np.shape(getattr(record, name)) == record.ell.shape
    }
    return replace(record, **{name: column[keep] for name, column in arrays.items()})


def surprises(one: Fit, *, size: int, seed: int) -> Table:
    """Return how surprising each energy, and each multipole, is given all others: predictive p-values.

    The discrepancy of a part is minus the log density of its log powers given those of the others, from the joint law
    at samples of the fit; repeated observations show its distribution.
    """
    rng = generator(seed, f"{KEY}/surprises")
    term, theta = one.case.term, one.samples.resample(size, rng=rng)
    posterior = one.case.posterior
    (sky,), (nuisance,) = posterior.skies(theta), posterior.nuisances(theta)
    (drawn,) = posterior.draw(theta, rng=rng)
    columns = [parameter.name for parameter in term.parameters]
    energy = np.repeat([record.energy_tev for record in term.spectra], [len(record) for record in term.spectra])
    ell = np.concatenate([record.ell for record in term.spectra])
    sets = (term.data, drawn)
    whole = [term.log_prob_of(data, sky, nuisance) for data in sets]
    rows = []
    for label, parts in (("energy", energy), ("ell", ell)):
        for part in np.unique(parts):
            keep = parts != part
            rest = [
                record if label == "energy" else without(record, int(part))
                for record in term.spectra
                if label == "ell" or record.energy_tev != part
            ]
            other = OneSkyTerm(tuple(rest), term.nuisances, energy_spread=term.energy_spread)
            left = nuisance[:, [columns.index(parameter.name) for parameter in other.parameters]]
            (seen,) = Posterior(posterior.model, Likelihood(other)).skies(theta)
            observed, repeated = (
                all_of_it - other.log_prob_of(data[..., keep], seen, left) + np.log(data[..., ~keep]).sum(-1)
                for all_of_it, data in zip(whole, sets, strict=True)
            )
            rows.append(
                {
                    "part": label, "value": float(part), "predictive_p": float(np.mean(repeated <= observed)),
                    "log_density": float(observed.mean()), "repeated": float(repeated.mean()),
                }
            )  # fmt: skip
    table = Table(rows=rows)
    table["value"].description = "median energy in TeV, or multipole"
    table["log_density"].description = "of the log powers of this part given all others, mean over the posterior"
    table["repeated"].description = "the same of repeated observations"
    for name in ("predictive_p", "log_density", "repeated"):
        table[name].info.format = ".3f"
    return table


def trends(one: Fit, *, seed: int, size: int = 1000) -> Table:
    """Return contrasts of the log powers that show what the model lacks, observed and in repeated observations."""
    rng = generator(seed, f"{KEY}/trends")
    term = one.case.term
    (drawn,) = one.case.posterior.draw(one.samples.resample(size, rng=rng), rng=rng)
    n_ell = len(term.spectra[0])
    observed, repeated = (np.log(data).reshape(-1, len(term.spectra), n_ell) for data in (term.data, drawn))
    energy = np.array([record.energy_tev for record in term.spectra])
    low, middle = energy < 50, (energy > 50) & (energy < 300)
    high, steep = energy > 300, (energy > SPLIT_TEV) & (energy < 5000)

    def dip(x: FloatArray, ell: slice) -> FloatArray:
        level = x[:, :, ell].mean(2)
        return level[:, middle].mean(1) - 0.5 * (level[:, low].mean(1) + level[:, high].mean(1))

    def tilt(x: FloatArray, which: FloatArray) -> FloatArray:
        return (x[:, which, 6] - x[:, which, 0]).mean(1)

    contrasts = {
        "mean ln power l ≤ 4, 67 to 239 TeV, less that below and above": lambda x: dip(x, slice(0, 4)),
        "the same for l ≥ 6": lambda x: dip(x, slice(4, 7)),
        "ln C_20/C_1, 130 TeV to 1.5 PeV, less that below 50 TeV": lambda x: tilt(x, steep) - tilt(x, low),
        "ln C_6/C_4, all energies": lambda x: (x[:, :, 4] - x[:, :, 3]).mean(1),
        "ln C_11/C_6, all energies": lambda x: (x[:, :, 5] - x[:, :, 4]).mean(1),
    }
    rows = []
    for name, contrast in contrasts.items():
        here, there = float(contrast(observed)[0]), contrast(repeated)
        rows.append(
            {
                "contrast": name, "observed": here, "repeated": float(there.mean()),
                "deviation": float(there.std()), "below": float(np.mean(there < here)),
            }
        )  # fmt: skip
    table = Table(rows=rows)
    table["below"].description = "share of repeated observations below the observed contrast"
    for name in table.colnames[1:]:
        table[name].info.format = ".3f"
    return table


def plausible_mocks(one: Fit, *, seed: int, size: int) -> FloatArray:
    """Return ln L(truth) - ln L(fit to the real data) for skies drawn at PLAUSIBLE, shape (size,).

    Positive values say that data of such a sky would not lead to where the real data lead.
    """
    # every weight as it was calibrated
    truth = np.array([[PLAUSIBLE.get(name, 0.0) for name in one.samples.names]])
    corner = np.array([[one.quantiles(name)[2] for name in one.samples.names]])
    posterior, term = one.case.posterior, one.case.term
    (drawn,) = posterior.draw(np.repeat(truth, size, axis=0), rng=generator(seed, f"{KEY}/plausible"))
    logs = []
    for vector in (truth, corner):
        theta = np.repeat(vector, size, axis=0)
        logs.append(term.log_prob_of(drawn, posterior.skies(theta)[0], posterior.nuisances(theta)[0]))
    return np.asarray(logs[0] - logs[1])


def powers(one: Fit, *, seed: int) -> Table:
    """Return the powers over their predicted medians, and where repeated observations would fall."""
    rng = generator(seed, f"{KEY}/powers")
    (drawn,) = one.case.posterior.draw(one.samples.resample(2000, rng=rng), rng=rng)
    low2, low, median, high, high2 = np.percentile(drawn, [2.5, 16, 50, 84, 97.5], axis=0)
    spectra, data = one.case.term.spectra, one.case.term.data
    table = Table(
        {
            "energy": np.repeat([s.energy_tev for s in spectra], [len(s) for s in spectra]),
            "ell": np.concatenate([s.ell for s in spectra]), "observed": data, "median": median,
            "p2.5": low2, "p16": low, "p84": high, "p97.5": high2, "below": (drawn < data).mean(0),
        },
        units={"energy": "TeV"},
    )  # fmt: skip
    table["below"].description = "share of repeated observations below the observed power"
    for name in table.colnames[2:]:
        table[name].info.format = ".4g"
    return table


def draw(table: Table, folded: Table, energies: FloatArray, singles: tuple[str, ...], stem: Path) -> None:
    """Draw exponents of single energies, observed over predicted powers, and the intervals of joint fits."""
    with styled():
        figure = new_figure(11.0, 7.2)
        left, right = figure.subfigures(1, 2, width_ratios=(1.0, 1.25))
        top, bottom = left.subplots(2, 1, sharex=True)
        draw_singles(top, table, energies, singles)
        draw_powers(bottom, folded)
        draw_cases(right.subplots(1, 3, sharey=True), table)
        save(figure, stem)


def draw_singles(axes: Axes, table: Table, energies: FloatArray, singles: tuple[str, ...]) -> None:
    """Draw the exponent at each energy alone beside that of the joint fit."""
    band = [value(table, ALL, "exponent", key) for key in ("p16", "p84")]
    axes.axhspan(*band, color=COLOURS["vermilion"], alpha=0.25, label="all on one sky, 68 %")
    for energy, name in zip(energies, singles, strict=True):
        whisker(axes, table, name, "exponent", energy, vertical=True, colour=COLOURS["blue"])
    axes.axhline(0.5, color="0.4", linestyle=":", linewidth=1.0, label="geometric 1/2")
    axes.set(xscale="log", ylim=(0, 1.25), ylabel="exponent $p$, each energy alone")
    axes.legend(loc="upper left")


def draw_powers(axes: Axes, folded: Table) -> None:
    """Draw observed over predicted median power against energy, one line for each multipole."""
    for index, ell in enumerate(np.unique(folded["ell"])):
        own = folded[folded["ell"] == ell]
        shift = 1.0 + 0.03 * (index - 3)
        axes.plot(
            own["energy"] * shift, own["observed"] / own["median"], label=rf"$\ell={ell}$", **series_style(index)
        )
    axes.axhline(1.0, color="0.4", linewidth=0.9)
    axes.set(xscale="log", yscale="log", ylabel="power over predicted median", xlabel="median energy [TeV]")
    axes.legend(ncols=4, fontsize=8, loc="upper center")
    low, high = axes.get_ylim()
    axes.set_ylim(low, 4.0 * high)


def draw_cases(panels: np.ndarray, table: Table) -> None:
    """Draw intervals of exponent, slope and coherence of the joint fits."""
    for axes, parameter, label, reference in zip(
        panels,
        ("exponent", "slope", "log10_coherence"),
        ("exponent $p$", r"slope $\gamma$", r"$\log_{10}\Lambda$"),
        (0.5, 0.0, 0.0),
        strict=True,
    ):
        for place, name in enumerate(SHOWN):
            changed = name == CHANGING
            whisker(
                axes, table, name, parameter, -place, vertical=False,
                colour=COLOURS["green" if changed else "vermilion"],
            )  # fmt: skip
        axes.axvline(reference, color="0.4", linestyle=":", linewidth=1.0)
        axes.set_xlabel(label)
    breaks = {", shape changes, ": ",\nshape changes,\n", "all and the ": "all and the\n"}
    short = list(SHOWN)
    for old, new in breaks.items():
        short = [name.replace(old, new) for name in short]
    labels = [
        f"{name}\nP = {value(table, key, 'exponent', 'predictive_p'):.3f}"
        for name, key in zip(short, SHOWN, strict=True)
    ]
    panels[0].set_yticks([-place for place in range(len(SHOWN))], labels=labels)
    panels[0].tick_params(axis="y", labelsize=8.5)
    panels[2].axvline(-1.0, color="0.2", linewidth=1.0)


def whisker(
    axes: Axes, table: Table, name: str, parameter: str, place: float, *, vertical: bool, colour: str
) -> None:
    """Draw median, 68 and 95 % interval of one parameter."""
    cell = {key: value(table, name, parameter, key) for key in QUANTILES}
    for low, high, width in (("p2.5", "p97.5", 1.0), ("p16", "p84", 3.2)):
        lines = axes.vlines if vertical else axes.hlines
        lines(place, cell[low], cell[high], color=colour, linewidth=width)
    point = (place, cell["median"]) if vertical else (cell["median"], place)
    axes.plot(*point, marker="o", color=colour, markerfacecolor="white", linestyle="none")


def interval(table: Table, name: str, parameter: str) -> str:
    """Return the 68 and 95 % intervals and the information in words."""
    cell = {key: value(table, name, parameter, key) for key in (*QUANTILES, "information")}
    words = (
        f"68 %: {cell['p16']:.2f} to {cell['p84']:.2f}; 95 %: {cell['p2.5']:.2f} to {cell['p97.5']:.2f}; "
        f"{cell['information']:.1f} bits"
    )
    return words if cell["information"] >= IDENTIFIED_BITS else f"{words}: less than half a bit, not identified"


def comparisons(table: Table, singles: tuple[str, ...]) -> tuple[Comparison, ...]:
    """Return medians with their intervals for all fits."""
    lines = []
    for name in singles:
        lines.append(
            Comparison(
                f"exponent p, {name} alone", 0.5, value(table, name, "exponent", "median"),
                note=f"{interval(table, name, 'exponent')}. Predictive p-value "
                f"{value(table, name, 'exponent', 'predictive_p'):.2f}",
                source="AM15 and AM17, section 4.4: geometric argument",
            )
        )  # fmt: skip
    for name in dict.fromkeys(table["case"]):
        if name in singles:
            continue
        for parameter in ("exponent", "slope", "log10_coherence", "running", "curvature"):
            if parameter not in table["parameter"][table["case"] == name]:
                continue
            note = interval(table, name, parameter)
            if parameter == "exponent":
                cell = {
                    key: value(table, name, parameter, key)
                    for key in ("predictive_p", "log_evidence", "log_evidence_error", "below_reading", "n_data")
                }
                note += (
                    f". Predictive p-value {cell['predictive_p']:.3f}; log evidence {cell['log_evidence']:.1f} ± "
                    f"{cell['log_evidence_error']:.1f}; {cell['below_reading']:.0f} of {cell['n_data']:.0f} "
                    "directions below their errors"
                )
            lines.append(
                Comparison(f"{parameter}, {name}", None, value(table, name, parameter, "median"), note=note)
            )
    return tuple(lines)


def notes(table: Table, parts: Table, contrasts: Table, mocks: FloatArray) -> tuple[str, ...]:
    """Return what a reader must know of these fits."""

    def p(name: str) -> str:
        return f"{value(table, name, 'exponent', 'predictive_p'):.3f}"

    def median(name: str, parameter: str) -> str:
        return f"{value(table, name, parameter, 'median'):.2f}"

    gain = value(table, CHANGING, "exponent", "log_evidence") - value(table, MEDIANS, "exponent", "log_evidence")
    better = value(table, CHANGING, "exponent", "log_likelihood") - value(
        table, MEDIANS, "exponent", "log_likelihood"
    )
    worst = parts[parts["predictive_p"] < 0.05]
    named = [
        f"{'l = ' if row['part'] == 'ell' else ''}{row['value']:.0f}{' TeV' if row['part'] == 'energy' else ''} "
        f"({row['predictive_p']:.2f})"
        for row in worst
    ]
    odd = [
        f"{row['contrast']} is {row['observed']:.1f}, where the fit expects {row['repeated']:.1f} ± "
        f"{row['deviation']:.1f}"
        for row in contrasts
    ]
    return (
        "One shape and one coherence length describe each energy alone. Of the nine together the joint density of all "
        f"log powers has a predictive p-value of {p(ALL)} with the published spreads of energy and {p(MEDIANS)} with "
        f"median energies alone; of l ≥ 6 alone {p(HIGH_ELL)}. Energies below 100 TeV want p = "
        f"{median(LOW, 'exponent')}, those above {median(HIGH, 'exponent')}; l ≤ 4 wants "
        f"{median(LOW_ELL, 'exponent')}, l ≥ 6 {median(HIGH_ELL, 'exponent')}. The joint exponent is a compromise of "
        "unlike energies and no measurement. Not every p-value is small, but the reasons below all point one way: one "
        "shape and one slope are not enough.",
        "What the model lacks, by contrasts chosen after seeing the data, in natural logarithms of observed powers: "
        + "; ".join(odd)
        + ". The power falls at "
        "all multipoles between 67 and 239 TeV and rises beyond, which one slope cannot follow, and it becomes "
        "flatter in l with energy, which one exponent cannot.",
        "Parts that are surprising given all others: " + (", ".join(named) or "none below 0.05") + " (predictive "
        "p-values of their density given the rest).",
        f"Let exponent and slope change with energy (two parameters without derivation), and the log evidence changes "
        f"by {gain:+.1f}, the log likelihood by {better:+.1f}, and the p-value becomes {p(CHANGING)}: the exponent "
        f"grows by {median(CHANGING, 'running')} in a decade ({interval(table, CHANGING, 'running')}).",
        "Averaging over the published spreads of 0.5 to 0.8 decades smooths what changes with energy. The spreads "
        f"therefore ask the sky to change faster (coherence {median(ALL, 'log10_coherence')} against "
        f"{median(MEDIANS, 'log10_coherence')} in log10 of decades with median energies), and the amplitude to be "
        "larger, as incoherent parts average out.",
        "Powers of one sky through nearly equal windows hold the differences of these windows. Taken for exact but for "
        f"their reading error (no error floor), they drive the fit to the corner: p-value {p(NO_FLOOR)}, coherence "
        f"{median(NO_FLOOR, 'log10_coherence')}, where the prior ends at -1. The floor of 3 percent is what the "
        "operators are known to leave out.",
        f"A sky with p = {PLAUSIBLE['exponent']}, slope {PLAUSIBLE['slope']} and a coherence of one decade does not "
        f"lead there: in {len(mocks)} mock data sets of such a sky the truth was more likely than the joint fit's "
        f"medians in {100 * np.mean(mocks > 0):.0f} percent, by {np.median(mocks):.1f} in the median.",
        f"The 10 TeV map enters with l = {MAP_ELL[0]} to {MAP_ELL[1]}: the dipole too, as it is in all IceCube powers "
        "of l = 1 to 4 and the map alone shows it by itself. Its noise is fitted.",
        "The sky is taken as one isotropic Gaussian draw; the mean field is ignored. Medians and intervals are of "
        "weighted samples, which lie beside the tables.",
    )


def make(context: Context) -> FigureEntry:
    spectra, whole = tuple(load_spectra(DATA)), obsfit.load_spectrum(MAP)
    sources = tuple(DataSource.of(record.provenance) for record in (spectra[0], whole))
    size = 1000.0 if context.full else 100.0
    repeats = 2000 if context.full else 200
    found = tuple(
        fit(one, seed=context.seed, size=size, repeats=repeats) for one in cases(spectra, whole, full=context.full)
    )
    joint = next(one for one in found if one.case.name == ALL)
    table = summary(found)
    parts = surprises(joint, size=500 if context.full else 30, seed=context.seed)
    contrasts = trends(joint, seed=context.seed)
    mocks = plausible_mocks(joint, seed=context.seed, size=1000 if context.full else 100)
    folded = powers(joint, seed=context.seed)
    singles = tuple(record.measurement for record in spectra)
    draw(
        table, folded, np.array([record.energy_tev for record in spectra]), singles, context.directory / "one-sky"
    )
    choices = {"seed": context.seed, "effective_size": size, "map_ell": list(MAP_ELL), "floor": FLOOR}
    for name, rows, text in (
        ("fits", table, "Posterior of each parameter of each fit."),
        ("powers", folded, "Powers and what the fit of all energies predicts of repeated observations."),
        ("surprises", parts, "How surprising each energy and each multipole is given all others."),
        ("trends", contrasts, "Contrasts of log powers, observed and in repeated observations of the joint fit."),
    ):
        write_table(rows, context.directory / f"{name}.ecsv", data=sources, settings=choices, description=text)
    for number, one in enumerate(found):
        samples = Table(one.samples.theta, names=one.samples.names)
        samples["weight"] = one.samples.weight
        write_table(samples, context.directory / f"samples-{number + 1:02d}.ecsv", data=sources,
                    settings={**choices, "case": one.case.name},
                    description=f"Weighted samples of the fit '{one.case.name}'.")  # fmt: skip
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Upper left: exponent p fitted to each energy alone, medians with 68 (thick) and 95 percent "
        "intervals; band: all nine on one sky. Lower left: observed powers over the medians that the joint fit "
        "predicts. Right: exponent, slope and coherence length of joint fits with the predictive p-value P of each; "
        "the last (green) lets exponent and slope change with energy, and is quoted at 100 TV. Solid line at -1: "
        "end of the prior.",
        alt="The exponent of single energies rises from about 0.15 at 13 TeV to about 0.8 at 469 TeV with intervals of "
        "0.3 to 0.5; the joint fit lies near 0.2. Observed powers of l up to 3 lie a factor ten or more below the "
        "predicted medians between 67 and 239 TeV and near them at the ends. The joint fits agree on a slope of "
        "about 0.4, but not on exponent and coherence.",
        image="one-sky.png", table="fits.ecsv",
        comparisons=comparisons(table, singles),
        deviations=notes(table, parts, contrasts, mocks),
        data=sources, seed=context.seed,
        size_note="" if context.full else f"{size:.0f} effective samples for each fit, surprises from 30",
    )  # fmt: skip
